"""Lesson 04: its checks, its stored tables, and how it copes where results are missing.

Checks accept right answers however spelt, and usual mistakes get hints. Functions of
cells are taken out of the notebook and called with results of our own.
"""

import ast
import json
import math
from pathlib import Path

import checking
import jupytext
import nbformat
import pytest
import torch
import torch.nn.functional as F
from runs import make_run
from torch.distributions import Bernoulli
from torch.utils._python_dispatch import TorchDispatchMode

from vae_teach import figures, nets, train
from vae_teach.checks import training as checks
from vae_teach.nets import VAE
from vae_teach.words import say, use_language


def loss_of(model, x):
    logits, mu, logvar = model(x)
    misfit = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    return misfit - 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()


def step(model, optimizer, x, total):
    loss = loss_of(model, x)
    optimizer.zero_grad()
    (loss / len(x)).backward()
    optimizer.step()
    total += loss.detach()


def other_step(model, optimizer, x, total):
    """The same with distributions, ``add_`` and gradients cleared at the end."""
    mu, logvar = model.encode(x)
    logits = model.decode_logits(model.reparameterize(mu, logvar))
    elbo = Bernoulli(logits=logits, validate_args=False).log_prob(x).sum(1)
    elbo = elbo - 0.5 * (mu.square() + logvar.exp() - 1 - logvar).sum(1)
    elbo.mean().neg().backward()
    optimizer.step()
    for parameter in model.parameters():
        parameter.grad = None
    total.add_(elbo.detach().sum(), alpha=-1)


def changed(**how):
    """Return the step with a part replaced."""

    def wrong(model, optimizer, x, total):
        loss = loss_of(model, x)
        if how.get("clears", True):
            optimizer.zero_grad()
        (how.get("scale", 1.0) * loss / len(x)).backward()
        if how.get("steps", True):
            optimizer.step()
        total += how.get("noted", lambda loss, x: loss.detach())(loss, x)

    return wrong


def out_of_place(model, optimizer, x, total):
    fresh = torch.zeros_like(total)
    step(model, optimizer, x, fresh)
    total = total + fresh


def summed(model, optimizer, x, total):
    loss = loss_of(model, x)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    total += loss.detach()


def without_kl(model, optimizer, x, total):
    logits, _, _ = model(x)
    loss = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    optimizer.zero_grad()
    (loss / len(x)).backward()
    optimizer.step()
    total += loss.detach()


def on_its_device(model, optimizer, x, total):
    """The same with a transfer that does nothing here, and clipped gradients."""
    x = x.to(total.device).to(total.device, non_blocking=True)
    loss = loss_of(model, x)
    optimizer.zero_grad()
    (loss / len(x)).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1e9)
    optimizer.step()
    total += loss.detach()


def asking(ask):
    """Return the right step, which asks for a number besides."""

    def waits(model, optimizer, x, total):
        step(model, optimizer, x, total)
        ask(total)

    return waits


def mean(score, batches):
    return sum(score(x).sum() for x in batches) / sum(len(x) for x in batches)


def returned(score, batches):
    total = 0.0
    for x in batches:
        total += score(x).mean()
        return total / len(batches)
    return total


def gradient(loss, w, x, size):
    return sum(
        torch.autograd.grad(loss(w, part).sum(), w)[0] for part in x.split(size)
    ) / len(x)


def backwards(loss, w, x, size):
    for start in range(0, len(x), size):
        part = x[start : start + size]
        (loss(w, part).mean() * len(part) / len(x)).backward()
    return w.grad


def pieces(loss, w, x, size, weigh):
    found = [torch.autograd.grad(loss(w, part).mean(), w)[0] for part in x.split(size)]
    return weigh(found)


def cleared(loss, w, x, size):
    for part in x.split(size):
        w.grad = None
        loss(w, part).mean().backward()
    return w.grad


def functional(loss, w, x, size):
    """With PyTorch's function transforms, which know no backward."""
    inner = torch.func.grad(lambda v, part: loss(v, part).sum())
    return sum(inner(w.detach(), part) for part in x.split(size)) / len(x)


def backward_at_the_end(loss, w, x, size):
    total = sum(loss(w, part).sum() for part in x.split(size))
    (total / len(x)).backward()
    return w.grad


def backward_later(loss, w, x, size):
    for one in [loss(w, part).sum() / len(x) for part in x.split(size)]:
        one.backward()
    return w.grad


def amdahl(share, factor):
    return 1 / (1 - share + share / factor)


RIGHT = {
    checks.step: [step, other_step, on_its_device],
    checks.mean_elbo: [
        mean,
        lambda s, b: torch.cat([s(x) for x in b]).mean(),
        lambda s, b: mean(s, b).item(),
        lambda s, b: mean(s, b)[None],
    ],
    checks.accumulate: [
        gradient,
        backwards,
        functional,
        lambda f, w, x, n: gradient(f, w, x, 1),
    ],
    checks.amdahl: [amdahl, lambda s, f: torch.tensor(f / (f - s * f + s))],
}

WRONG = [
    (checks.step, asking(lambda t: t.item()), "(item)"),
    (checks.step, asking(float), "asks the device"),
    (checks.step, asking(lambda t: t.tolist()), "(tolist)"),
    (checks.step, asking(lambda t: t.numpy()), "(numpy)"),
    (checks.step, asking(lambda t: t.cpu()), "(cpu)"),
    (checks.step, asking(lambda t: t.to("cpu")), "(to)"),
    (checks.step, asking(lambda t: t.isnan() and None), "asks the device"),
    (checks.step, asking(lambda t: f"{t:.2f}"), "asks the device"),
    (checks.step, asking(lambda t: t.nonzero()), "(nonzero)"),
    (checks.step, asking(lambda t: t[None][t[None] > 0]), "(index)"),
    (checks.step, asking(lambda t: torch.equal(t, t)), "(equal)"),
    (checks.step, asking(lambda t: t.to(device="cpu")), "(to)"),
    (checks.step, changed(noted=lambda loss, x: loss), "detach()"),
    (checks.step, summed, "descends the sum"),
    (checks.step, changed(scale=-1.0), "sign is flipped"),
    (checks.step, changed(clears=False), "gradient of the first"),
    (checks.step, changed(steps=False), "weights do not move"),
    (checks.step, out_of_place, "total is still zero"),
    (checks.step, changed(noted=lambda loss, x: loss.detach() / len(x)), "mean of the"),
    (checks.step, changed(noted=lambda loss, x: -loss.detach()), "total receives the"),
    (checks.step, without_kl, "The KL is missing"),
    (checks.step, changed(scale=1.01), "values differ"),
    (checks.mean_elbo, returned, "how far the return is indented"),
    (checks.mean_elbo, lambda s, b: s(b[0]).sum() / sum(map(len, b)), "all images"),
    (checks.mean_elbo, lambda s, b: s(b[0]).mean(), "mean of the first batch"),
    (checks.mean_elbo, lambda s, b: s(b[-1]).mean(), "the last batch"),
    (checks.mean_elbo, lambda s, b: sum(s(x).mean() for x in b) / len(b),
     "One bug less"),
    (checks.mean_elbo, lambda s, b: sum(s(x).mean() for x in b), "has to be divided"),
    (checks.mean_elbo, lambda s, b: sum(s(x).sum() for x in b), "how many they are"),
    (checks.mean_elbo, lambda s, b: sum(s(x).sum() for x in b) / len(b),
     "number of batches instead"),
    (checks.mean_elbo, lambda s, b: mean(s, b) * sum(map(len, b)) / len(b) / len(b[0]),
     "all batches for full"),
    (checks.mean_elbo, lambda s, b: mean(s, b[:-1]), "values differ"),
    (checks.mean_elbo, lambda s, b: math.nan, "infinities or NaN"),
    (checks.accumulate, lambda f, w, x, n: gradient(f, w, x, len(x)), "at a time"),
    (checks.accumulate, lambda f, w, x, n: gradient(f, w, x, n + 1), "at a time"),
    (checks.accumulate, lambda f, w, x, n: 2 * x.T @ (x @ w.detach()) / len(x),
     "never called"),
    (checks.accumulate, lambda *a: pieces(*a, weigh=sum), "number of pieces"),
    (checks.accumulate, lambda *a: pieces(*a, weigh=lambda g: sum(g) / len(g)),
     "equal pieces only"),
    (checks.accumulate, cleared, "Only the last piece"),
    (checks.accumulate, lambda *a: pieces(*a, weigh=lambda g: g[0]), "first piece"),
    (checks.accumulate, lambda f, w, x, n: gradient(f, w, x, n) * len(x),
     "gradient of the sum"),
    (checks.accumulate, lambda f, w, x, n: gradient(f, w, x, n) * len(x) / n,
     "divided by size"),
    (checks.accumulate,
     lambda f, w, x, n: gradient(f, w, x, n) * len(x) / math.ceil(len(x) / n),
     "number of pieces instead"),
    (checks.accumulate, lambda f, w, x, n: gradient(f, w, x, n)[None], "shape"),
    (checks.accumulate, backward_at_the_end, "graphs of earlier pieces"),
    (checks.accumulate, backward_later, "graphs of earlier pieces"),
    (checks.amdahl, lambda s, f: f, "gain of the part"),
    (checks.amdahl, lambda s, f: s * f, "fraction times a factor"),
    (checks.amdahl, lambda s, f: 1 - s + s * f, "average of the speeds"),
    (checks.amdahl, lambda s, f: 1 / (1 - s), "infinite factor"),
    (checks.amdahl, lambda s, f: 1 / amdahl(s, f), "the inverse"),
    (checks.amdahl, lambda s, f: amdahl(1 - s, f), "swapped"),
    (checks.amdahl, lambda s, f: f / s, "1 - share"),
    (checks.amdahl, lambda s, f: 1 / (1 - s / f), "share - share / factor"),
    (checks.amdahl, lambda s, f: amdahl(s, f) + 1e-3, "values differ"),
]  # fmt: skip
MISTAKES = {
    checks.step: checks.STEP_MISTAKES,
    checks.mean_elbo: checks.MEAN_MISTAKES,
    checks.accumulate: checks.ACCUMULATE_MISTAKES,
    checks.amdahl: checks.AMDAHL_MISTAKES,
}
WITH_RESULT = {check: RIGHT[check] for check in RIGHT if check is not checks.step}
# A step is judged by what it does: what it returns, text or not, goes unseen.
OF_A_STEP = [row for row in checking.NONSENSE if "returned" not in row[1]]

test_right_answers_are_right = checking.accepts(RIGHT)
test_wrong_answers_get_their_hint = checking.rejects(WRONG)
test_other_makes_are_right_too = checking.accepts_other_makes(WITH_RESULT)
test_wrong_answers_in_place_are_wrong = checking.is_not_spoilt(WRONG, but=[checks.step])
test_the_unusable_is_never_right = checking.refuses_the_unusable(WITH_RESULT)
test_no_answer_ever_raises = checking.survives(WITH_RESULT)
test_no_step_ever_raises = checking.survives([checks.step], OF_A_STEP)
test_hints_come_in_portuguese_too = checking.speaks_portuguese(RIGHT, WRONG)
test_every_known_mistake_has_words = checking.has_words(MISTAKES)


def test_known_mistakes_are_told_in_portuguese():
    use_language("pt")
    assert "não é um ganho" in checks.amdahl(lambda s, f: s * f).message
    assert "pede um número" in checks.step(asking(float)).message


def test_a_check_leaves_the_random_stream_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    checks.step(step)
    assert torch.equal(torch.get_rng_state(), before)


# --- who asks, and who does not -------------------------------------------------------


def asked_by(work):
    with checks.HostReads() as seen:
        work()
    return seen.asked


def test_the_step_of_the_package_asks_for_nothing():
    run = make_run()
    assert asked_by(lambda: [run.step(x) for x in torch.arange(70).split(16)]) == []


def test_the_epoch_of_the_package_asks_once():
    run = make_run()
    assert asked_by(lambda: run.epoch(1, 16, run.step)) == ["tolist"]


def test_a_loop_with_item_asks_in_each_step():
    model, x = VAE(16, 8), (torch.rand(40, 16) < 0.5).float()
    optimizer, curve = torch.optim.SGD(model.parameters(), lr=1e-3), []

    def loop():
        for part in x.split(16):
            loss = loss_of(model, part)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            curve.append(loss.item())

    assert len(asked_by(loop)) >= len(curve) == 3


@pytest.mark.parametrize(
    "work",
    [
        lambda t: t + 1,
        lambda t: t.sum().clone(),
        lambda t: t.to(torch.float64),
        lambda t: t.shape[0],
        lambda t: t.index_select(0, torch.tensor([0])),
        lambda t: t[torch.tensor([0])],
        lambda t: t.to(t.device),
        lambda t: torch.nn.utils.clip_grad_norm_([t], 1.0),
        lambda t: t.isfinite().all(),
        lambda t: torch.where(t > 0, t, 0),
    ],
)
def test_work_that_stays_on_the_device_is_not_blamed(work):
    t = torch.ones(3)
    assert asked_by(lambda: work(t)) == []


def test_a_guard_that_closed_sees_nothing():
    with checks.HostReads() as seen:
        pass
    torch.ones(()).item()
    assert seen.asked == []


@pytest.mark.cuda
def test_numbers_that_leave_a_gpu_are_seen():
    t = torch.ones(3, device="cuda")
    for work in (t.cpu, t.tolist, lambda: torch.empty(3).copy_(t), t.sum().item):
        assert asked_by(work), work
    assert asked_by(lambda: t.to("cuda", torch.float64)) == []


# --- the lesson's cells -------------------------------------------------------------

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
NAME = "04_gpu_training"
REBUILD = f"results have changed: uv run python tools/notebooks.py build {NAME} --force"
MACHINE = {
    "processor": "a processor",
    "accelerator": None,
    "threads": 3,
    "torch": "9.9",
    "date": "2031-02-03",
    "commit": "abcdef0",
}


def cells(language="en"):
    notebook = jupytext.read(ROOT / "notebooks" / language / f"{NAME}.py")
    return {cell.metadata["key"]: cell.source for cell in notebook.cells}


def defined(*keys, **names):
    """Return the functions, classes and constants of cells, with these names beside."""
    space = {"say": say, "torch": torch, "figures": figures, "nets": nets} | names
    for key in keys:
        tree = ast.parse(cells()[key])
        tree.body = [node for node in tree.body if is_definition(node)]
        exec(compile(tree, key, "exec"), space)
    return space


def is_definition(node):
    if isinstance(node, ast.Assign):
        return ast.unparse(node.targets[0]).strip("()").partition(",")[0].isupper()
    return isinstance(node, ast.FunctionDef | ast.ClassDef)


def output(language, key):
    path = ROOT / "notebooks" / language / f"{NAME}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    (cell,) = (cell for cell in notebook.cells if cell.id == key)
    return "".join(output.get("text", "") for output in cell.outputs)


@pytest.fixture(params=["pt", "en"])
def language(request):
    use_language(request.param)
    return request.param


# --- what is stored -----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_the_stored_table_is_that_of_the_results(language, kind, capsys):
    path = RESULTS / f"training_{kind}.json"
    shown = output(language, "stored-table")
    if not path.exists():
        assert say(f"training-none-{kind}") in shown
        return
    read = lambda name: json.loads((RESULTS / f"{name}.json").read_text("utf-8"))  # noqa: E731
    space = defined("table-printed", "stored-table", read=read, Path=Path, json=json)
    space["read"] = read
    space["print_stored"](kind)
    assert capsys.readouterr().out in shown, REBUILD


def test_several_processes_are_those_of_the_results(language):
    measured = json.loads((RESULTS / "growth_cpu.json").read_text("utf-8"))
    shown = output(language, "processes-measured")
    assert measured["machine"]["date"] in shown, REBUILD
    assert measured["machine"]["commit"] in shown, REBUILD
    for row in measured["results"]["processes"]:
        number = f"{row['test_elbo']:.2f}"
        number = number.replace(".", ",") if language == "pt" else number
        assert number in shown, REBUILD


def test_two_processes_really_ran(language):
    beginning = say("training-two-processes", far=0.0).split("0e")[0]
    assert output(language, "torchrun-run").startswith(beginning)
    assert say("training-no-processes") not in output(language, "torchrun-run")


# --- what may be missing ------------------------------------------------------------


def results(**rows):
    rows = [
        {"name": name, "seconds": 2.0, "times_faster": 1.5, "share_of_limit": 0.5}
        | {"test_elbo": -150.0, "elbo_difference": 0.1, "standard_error": 0.2}
        | {"epochs": 3}
        for name in rows["names"]
    ]
    return {
        "machine": MACHINE,
        "results": {"images": 100, "batch_size": 128, "rows": rows},
    }


def test_a_notebook_without_its_folder_says_so(tmp_path, capsys, language):
    space = defined(
        "table-printed", "stored-table", Path=lambda name: tmp_path / "none", json=json
    )
    space["print_stored"]("cpu")
    assert capsys.readouterr().out == say("training-no-folder") + "\n"
    assert space["read"]("training_cpu") is None


def test_a_folder_without_a_measurement_names_the_command(tmp_path, capsys, language):
    space = defined(
        "table-printed", "stored-table", Path=lambda name: tmp_path, json=json
    )
    for kind in ("cpu", "cuda"):
        space["print_stored"](kind)
        assert f"benchmarks/training.py --device {kind}" in capsys.readouterr().out


def test_every_rung_of_the_benchmark_has_a_name(tmp_path, capsys, language):
    names = ["usual", "resident", "no-waiting", "logits", "fused", "compiled", "limit"]
    names += ["plain-fit", "fit", "fit-high", "fit-medium", "fit-512", "fit-2048"]
    written = json.dumps(results(names=names))
    (tmp_path / "training_cuda.json").write_text(written, "utf-8")
    space = defined(
        "table-printed", "stored-table", Path=lambda name: tmp_path, json=json
    )
    space["print_stored"]("cuda")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(names)
    for part in ("2031-02-03", "abcdef0", "a processor", "9.9"):
        assert part in lines[0]


def sources_of(files):
    return defined(
        "panel-measured", read=files.get, train=train, PRECISIONS=train.PRECISIONS
    )


def test_the_panel_takes_the_grid_where_it_was_measured():
    row = {"batch_size": 512, "precision": "medium", "images_per_second": 9.0}
    grid = {"images": 100, "epochs": 3, "rows": [row | {"test_elbo": -150.0}]}
    space = sources_of({"batches_cpu": {"machine": MACHINE, "results": grid}})
    assert space["from_grid"]("cpu")["points"] == {(512, "medium"): (9.0, -150.0)}
    assert space["from_grid"]("cuda") is None


def test_without_the_grid_the_panel_takes_the_ladder():
    names = ["usual", "fused", "plain-fit", "fit", "fit-high", "fit-medium", "fit-512"]
    space = sources_of({"training_cpu": results(names=[*names, "limit"])})
    found = space["from_ladder"]("cpu")
    settings = {(128, p) for p in train.PRECISIONS} | {(512, "highest")}
    assert set(found["points"]) == settings
    assert found["points"][512, "highest"] == (50.0, -150.0)
    assert found["epochs"] == 3
    assert space["from_ladder"]("cuda") is None


def test_the_panel_says_what_was_not_measured(language):
    points = {(128, "highest"): (1000.0, -150.0), (512, "highest"): (2000.0, -160.0)}
    measured = {"points": points, "images": 100, "epochs": 3}
    space = defined(
        "panel-shown", sources={"cpu": measured}, PRECISIONS=train.PRECISIONS
    )
    there = space["draw_choice"](512, "highest", "cpu")
    missing = space["draw_choice"](2048, "medium", "cpu")
    assert ("2,000" if language == "en" else "2.000") in there.alt
    assert say("training-missing") not in there.axes[0].get_title(loc="left")
    assert say("training-missing") in missing.axes[0].get_title(loc="left")
    filled = [
        [line for line in figure.axes[0].lines if line.get_markersize() == 11]
        for figure in (there, missing)
    ]
    assert [len(lines) for lines in filled] == [1, 0]
    assert filled[0][0].get_xydata().tolist() == [[2000.0, -160.0]]


# --- the guard ----------------------------------------------------------------------


def test_the_guard_of_the_lesson_bites_and_lets_pass():
    guard = defined("guard", TorchDispatchMode=TorchDispatchMode)["NeverWaits"]
    run = make_run()
    with guard():
        for chosen in torch.arange(70).split(16):
            run.step(chosen)
    for ask in (lambda t: t.item(), float, lambda t: bool(t > 0)):
        with pytest.raises(RuntimeError, match="_local_scalar_dense"), guard():
            ask(run.totals.sum())
    with pytest.raises(RuntimeError, match="_local_scalar_dense"), guard():
        run.epoch(1, 16, lambda chosen: run.totals.sum().item())
