"""Lesson 04: its checks, its stored tables, and how it copes where results are missing.

Checks accept right answers however spelt, and usual mistakes get hints. Functions of
cells are taken out of the notebook and called with results of our own.
"""

import ast
import json
import math
import re
from pathlib import Path

import batches
import crowd
import jupytext
import nbformat
import pytest
import torch
import torch.nn.functional as F
from runs import make_run
from torch.distributions import Bernoulli

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


def backward_one_later(loss, w, x, size):
    waiting = 0 * w.sum()
    for part in x.split(size):
        now = loss(w, part).sum() / len(x)
        waiting.backward()
        waiting = now
    waiting.backward()
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
    (checks.step, changed(scale=-1.0), "The step climbs"),
    (checks.step, changed(clears=False), "gradient of the first"),
    (checks.step, changed(steps=False), "weights do not move"),
    (checks.step, out_of_place, "total is still zero"),
    (checks.step, changed(noted=lambda loss, x: loss.detach() / len(x)),
     "receives the mean of the"),
    (checks.step, changed(noted=lambda loss, x: -loss.detach()), "receives the ELBO"),
    (checks.step, without_kl, "The KL is missing"),
    (checks.step, changed(scale=1.01), "values differ"),
    (checks.mean_elbo, returned, "divided by the number of batches. Look"),
    (checks.mean_elbo, lambda s, b: s(b[0]).sum() / sum(map(len, b)),
     "number of all images"),
    (checks.mean_elbo, lambda s, b: s(b[0]).mean(), "mean of the first batch"),
    (checks.mean_elbo, lambda s, b: s(b[-1]).mean(), "mean of the last batch"),
    (checks.mean_elbo, lambda s, b: sum(s(x).mean() for x in b) / len(b),
     "One bug less"),
    (checks.mean_elbo, lambda s, b: sum(s(x).mean() for x in b), "has to be divided"),
    (checks.mean_elbo, lambda s, b: sum(s(x).sum() for x in b), "how many they are"),
    (checks.mean_elbo, lambda s, b: sum(s(x).sum() for x in b) / len(b),
     "number of batches instead"),
    (checks.mean_elbo, lambda s, b: mean(s, b) * sum(map(len, b)) / len(b) / len(b[0]),
     "all batches for full"),
    (checks.mean_elbo, lambda s, b: mean(s, b[:-1]), "values differ"),
    (checks.mean_elbo, lambda s, b: mean(s, b[:3]), "values differ"),
    (checks.mean_elbo, lambda s, b: mean(s, b) * sum(map(len, b)) / 12,
     "values differ"),
    (checks.mean_elbo, lambda s, b: mean(s, b) * sum(map(len, b)) / 22,
     "values differ"),
    (checks.mean_elbo, lambda s, b: math.nan, "infinities or NaN"),
    (checks.accumulate, lambda f, w, x, n: gradient(f, w, x, len(x)),
     "more than size images at a time: they"),
    (checks.accumulate, lambda f, w, x, n: gradient(f, w, x, n + 1),
     "more than size images at a time: they"),
    (checks.accumulate, lambda f, w, x, n: 2 * x.T @ (x @ w.detach()) / len(x),
     "never called"),
    (checks.accumulate, lambda *a: pieces(*a, weigh=sum),
     "with the number of pieces"),
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
    (checks.accumulate, lambda f, w, x, n: gradient(f, w, x, n)[None],
     "axis did you sum"),
    (checks.accumulate, lambda f, w, x, n: gradient(f, w, x, n) * len(x) / 10,
     "values differ"),
    (checks.accumulate, lambda f, w, x, n: gradient(f, w, x, n) * len(x) / 9,
     "values differ"),
    (checks.accumulate, backward_at_the_end, "graphs of earlier pieces"),
    (checks.accumulate, backward_later, "graphs of earlier pieces"),
    (checks.accumulate, backward_one_later, "graphs of earlier pieces"),
    (checks.amdahl, lambda s, f: f, "gain of the part"),
    (checks.amdahl, lambda s, f: s * f, "fraction times a factor"),
    (checks.amdahl, lambda s, f: 1 - s + s * f, "average of the speeds"),
    (checks.amdahl, lambda s, f: 1 / (1 - s), "infinite factor"),
    (checks.amdahl, lambda s, f: 1 / amdahl(s, f), "asked for: the inverse"),
    (checks.amdahl, lambda s, f: amdahl(1 - s, f), "two parts are swapped"),
    (checks.amdahl, lambda s, f: f / s, "missing here: 1 - share"),
    (checks.amdahl, lambda s, f: 1 / (1 - s / f), "share - share / factor"),
    (checks.amdahl, lambda s, f: amdahl(s, f) + 1e-3, "values differ"),
    (checks.amdahl, lambda s, f: amdahl(max(s, 0.5), f), "values differ"),
    (checks.amdahl, lambda s, f: amdahl(min(s, 0.5), f), "values differ"),
    (checks.amdahl, lambda s, f: amdahl(s, min(f, 50)), "values differ"),
]  # fmt: skip
MISTAKES = {
    checks.step: checks.STEP_MISTAKES,
    checks.mean_elbo: checks.MEAN_MISTAKES,
    checks.accumulate: {
        key: lambda loss, *given, mistake=mistake: mistake(*given)
        for key, mistake in checks.ACCUMULATE_MISTAKES.items()
    },
    checks.amdahl: checks.AMDAHL_MISTAKES,
}
PRAISE = {
    checks.step: ("a step done by hand", "um passo feito à mão"),
    checks.mean_elbo: ("Each image weighs the same", "Cada imagem tem o mesmo peso"),
    checks.accumulate: ("never more than size", "loss nunca recebeu mais de size"),
    checks.amdahl: ("costs what it did", "custando o que custava"),
}
IN_PORTUGUESE = {
    "asks the device": "pede um número ao dispositivo",
    "detach()": "detach()",
    "descends the sum": "reduz a soma",
    "The step climbs": "vai na direção errada",
    "gradient of the first": "gradiente do primeiro",
    "weights do not move": "os pesos não mudam",
    "total is still zero": "total continua em zero",
    "receives the mean of the": "total recebe a média",
    "receives the ELBO": "total recebe o ELBO",
    "The KL is missing": "Falta a KL",
    "divided by the number of batches. Look": "pelo número de lotes. Veja",
    "number of all images": "número total de imagens",
    "mean of the first batch": "média do primeiro lote",
    "mean of the last batch": "média do último lote",
    "One bug less": "Um erro a menos",
    "has to be divided": "soma das médias dos lotes",
    "how many they are": "dividir pelo número de imagens",
    "number of batches instead": "número de lotes, e não",
    "all batches for full": "todos os lotes cheios",
    "more than size images at a time: they": "mais de size imagens de uma vez: elas",
    "never called": "não foi chamada",
    "with the number of pieces": "com o número de pedaços",
    "equal pieces only": "pedaços iguais",
    "Only the last piece": "Só o último pedaço",
    "first piece": "primeiro pedaço",
    "gradient of the sum": "gradiente da soma",
    "divided by size": "dividida por size",
    "number of pieces instead": "número de pedaços, e não",
    "graphs of earlier pieces": "grafos dos pedaços anteriores",
    "gain of the part": "ganho da parte",
    "fraction times a factor": "Uma fração vezes um fator",
    "average of the speeds": "média das velocidades",
    "infinite factor": "fator infinito",
    "asked for: the inverse": "programa: o inverso",
    "two parts are swapped": "duas partes estão trocadas",
    "missing here: 1 - share": "Aqui falta o tempo",
    "share - share / factor": "share - share / factor",
}
BY_DEED = [checks.step]


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


def stored(folder=RESULTS, **names):
    """Return what the cells that read results define, reading from ``folder``."""
    names = {"Path": lambda name: folder, "json": json, **names}
    return defined("results-read", "table-printed", "stored-table", **names)


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
    space = stored(read=read)
    space["read"] = read
    space["print_stored"](kind)
    assert capsys.readouterr().out in shown, REBUILD


def test_several_processes_are_those_of_the_results(language):
    measured = json.loads((RESULTS / "growth_cpu.json").read_text("utf-8"))
    shown = output(language, "processes-measured")
    assert measured["machine"]["date"] in shown, REBUILD
    assert measured["machine"]["commit"] in shown, REBUILD
    for row in measured["results"]["processes"]:
        number = f"{row['test_elbo']:.2f}".replace("-", "−")
        number = number.replace(".", ",") if language == "pt" else number
        assert number in shown, REBUILD


def test_two_processes_really_ran(language):
    beginning = say("training-two-processes", far=2e-9).split("2 ×")[0]
    assert output(language, "torchrun-launched").startswith(beginning)


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
    space = stored(tmp_path / "none")
    space["print_stored"]("cpu")
    assert capsys.readouterr().out == say("training-no-folder") + "\n"
    assert space["read"]("training_cpu") is None


def test_a_folder_without_a_measurement_names_the_command(tmp_path, capsys, language):
    space = stored(tmp_path)
    for kind in ("cpu", "cuda"):
        space["print_stored"](kind)
        assert f"benchmarks/training.py --device {kind}" in capsys.readouterr().out


def test_every_rung_of_the_benchmark_has_a_name(tmp_path, capsys, language):
    names = ["usual", "resident", "no-waiting", "logits", "fused", "compiled", "limit"]
    names += ["limit-highest", "limit-medium", "medium", "fit-highest"]
    names += ["plain-fit", "fit", "fit-high", "fit-medium", "fit-512", "fit-2048"]
    written = json.dumps(results(names=names))
    (tmp_path / "training_cuda.json").write_text(written, "utf-8")
    space = stored(tmp_path)
    space["print_stored"]("cuda")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(names)
    for part in ("2031-02-03", "abcdef0", "a processor", "9.9"):
        assert part in lines[0]


TUNED = {
    "images": 100,
    "epochs": 6,
    "seeds": 3,
    "target_epoch": 3,
    "target": -150.0,
    "tuning": [
        {"batch_size": 512, "learning_rate": 4e-3, "test_elbo": -155.0},
        {"batch_size": 128, "learning_rate": 2e-3, "test_elbo": -150.0},
    ],
    "rows": [
        {"name": f"{size} {precision}", "batch_size": size, "precision": precision}
        | {"learning_rate": 4e-3, "images_per_second": 1234.0, "reached": reached}
        | {"seconds_to_target": seconds, "seconds_error": seconds and 0.25}
        | {"test_elbo": -149.0, "standard_error": 0.5}
        for size, precision, reached, seconds in (
            (128, "highest", 3, 2.5),
            (128, "medium", 3, 2.25),
            (512, "highest", 1, None),
        )
    ],
}


def write(folder, name, content):
    written = json.dumps({"machine": MACHINE, "results": content})
    (folder / f"{name}.json").write_text(written, "utf-8")


def test_seconds_to_the_target_are_told_where_all_seeds_reach_it(
    tmp_path, capsys, language
):
    write(tmp_path, "batches_cpu", TUNED)
    stored(tmp_path)["print_times"]("cpu")
    machine, head, reached, missed = capsys.readouterr().out.splitlines()
    assert "2031-02-03" in machine
    point = "." if language == "en" else ","
    assert f"150{point}0" in head
    assert f"2{point}50 ± 0{point}25" in reached
    assert re.search(r"\b1 (?:of|de) 3\b", missed)


@pytest.mark.parametrize("content", [None, {"rows": [], "images": 1}])
def test_rates_that_nobody_tuned_are_not_told(tmp_path, capsys, language, content):
    """The file may be missing, or come from before rates were tuned."""
    if content:
        write(tmp_path, "batches_cpu", content)
    stored(tmp_path)["print_times"]("cpu")
    assert capsys.readouterr().out == say("training-none-batches", kind="cpu") + "\n"


def test_the_panel_takes_the_tuning_where_it_was_measured():
    files = {"batches_cpu": {"machine": MACHINE, "results": TUNED}}
    files["batches_cuda"] = {"machine": MACHINE, "results": {"rows": []}}
    from_tuning = defined("panel-measured", read=files.get)["from_tuning"]
    points = {(512, 4e-3): -155.0, (128, 2e-3): -150.0}
    assert from_tuning("cpu") == {"points": points, "images": 100, "epochs": 3}
    assert from_tuning("cuda") is None
    assert from_tuning("other") is None


def test_the_panel_says_what_was_not_measured(language):
    points = {(128, 1e-3): -150.0, (128, 2e-3): -140.0, (512, 1e-3): -160.0}
    measured = {"points": points, "images": 100, "epochs": 3}
    draw = defined("panel-shown", sources={"cpu": measured})["draw_choice"]
    there, missing = draw(512, 1e-3, "cpu"), draw(512, 2e-3, "cpu")
    assert ("−160.00" if language == "en" else "−160,00") in there.alt
    assert say("training-missing") not in there.axes[0].get_title(loc="left")
    assert say("training-missing") in missing.axes[0].get_title(loc="left")
    filled = [
        [line for line in figure.axes[0].lines if line.get_markersize() == 11]
        for figure in (there, missing)
    ]
    assert [len(lines) for lines in filled] == [1, 0]
    assert filled[0][0].get_xydata().tolist() == [[1e-3, -160.0]]


def crowded(capsys, measured):
    """Run the cell about the crowd with this result; return what it prints."""
    source = stored()["print_source"]
    space = {"read": lambda name: measured, "say": say, "print_source": source}
    exec(compile(cells()["crowd-measured"], "crowd-measured", "exec"), space)
    return capsys.readouterr().out.splitlines()


def test_every_kind_of_reader_in_the_crowd_has_a_name(capsys, language):
    assert crowded(capsys, None) == [say("training-no-crowd")]
    kinds = {"kind": crowd.KINDS, "policy": [*crowd.READERS]}
    rows = [
        {"kind": kind, "policy": policy, "readers": readers, "work": 0.5, "wait": 1.25}
        for kind in kinds["kind"]
        for policy in kinds["policy"]
        for readers in (1, 4)
    ]
    lines = crowded(capsys, {"machine": MACHINE, "results": {"rows": rows}})
    assert len(lines) == 1 + len(rows) // 2, "four readers alone are shown"
    assert all(("1.25" if language == "en" else "1,25") in line for line in lines[1:])


# --- the benchmark of batch sizes -----------------------------------------------------


def test_epochs_to_a_target_are_interpolated():
    curve = [-200.0, -180.0, -170.0]
    assert batches.epochs_to(-190.0, curve) == 1.5
    assert batches.epochs_to(-200.0, curve) == 1.0, "a first epoch is a whole one"
    assert batches.epochs_to(-210.0, curve) == 1.0, "also where it is more than enough"
    assert batches.epochs_to(-170.0, curve) == 3.0
    assert batches.epochs_to(-169.0, curve) is None
    assert batches.epochs_to(-185.0, [-190.0, -180.0, -210.0]) == 1.5, "the first time"


def test_each_batch_size_gets_its_own_best_rate():
    tried = [
        {"batch_size": size, "learning_rate": rate, "test_elbo": -abs(rate - best)}
        for size, best in ((32, 1e-3), (512, 4e-3))
        for rate in batches.RATES
    ]
    assert batches.best_rates(tried) == {32: 1e-3, 512: 4e-3}


def test_settings_are_compared_seed_by_seed():
    """Seeds differ by 10 nats and a setting by one: the paired error is zero."""
    names = (batches.BASE, "512 highest")
    settings = {
        name: batches.Setting(size, "highest", rate)
        for name, size, rate in zip(
            names, (128, 512), (4e-3, batches.RATES[-1]), strict=True
        )
    }
    seconds = {names[0]: [2.0, 2.0], names[1]: [1.0, 1.0]}
    curves = {names[0]: [[-10.0, -8.0], [-20.0, -18.0]]}
    curves[names[1]] = [[-13.0, -9.0], [-23.0, -19.0]]
    first, second = batches.summary(
        settings, seconds, curves, count=100, target_epoch=1
    )
    assert (first["seconds_to_target"], first["reached"]) == (2.0, 2)
    assert (second["elbo_difference"], second["difference_error"]) == (-1.0, 0.0)
    assert second["seconds_to_target"] == 1.75
    assert second["curve"] == [-18.0, -14.0]
    assert (first["rate_at_edge"], second["rate_at_edge"]) == (False, True)
    curves[names[1]][0] = [-13.0, -12.0]
    row = batches.summary(settings, seconds, curves, count=100, target_epoch=1)[1]
    assert (row["reached"], row["seconds_to_target"]) == (1, None)


# --- the guard ----------------------------------------------------------------------


def test_the_watch_of_the_lesson_bites_and_lets_pass():
    asks = defined("guard", checks=checks)["asks"]
    run = make_run()
    assert not asks(lambda: [run.step(part) for part in torch.arange(70).split(16)])
    for ask in (lambda t: t.item(), float, lambda t: bool(t > 0), torch.nonzero):
        assert asks(lambda ask=ask: ask(run.totals.sum()))
    assert asks(lambda: run.epoch(1, 16, run.step))


# --- the ruler ----------------------------------------------------------------------


def test_the_ruler_is_paired():
    """What all runs of a seed share cancels; an effect of one nat is not missed."""
    difference = defined("ruler-applied", train=train)["difference"]
    source = torch.Generator().manual_seed(0)
    shared = 5 * torch.randn(4, 1, generator=source)  # nats, a seed
    theirs = shared + 30 * torch.randn(1, 2000, generator=source)
    ours = theirs - 1 + 0.1 * torch.randn(4, 2000, generator=source)
    far, error = difference(ours, theirs)
    assert far == pytest.approx(-1, abs=0.01)
    assert error < 0.05


def test_a_ruler_of_one_seed_knows_how_little_it_knows():
    difference = defined("ruler-applied", train=train)["difference"]
    each = torch.tensor([[2.0], [-2.0], [2.0], [-2.0]]).expand(4, 2000)
    far, error = difference(each, torch.zeros(4, 2000))
    assert far == 0
    assert error > 2


# --- how long it is -------------------------------------------------------------------


def test_figures_and_boxes_are_folded():
    notebook = jupytext.read(ROOT / "notebooks" / "en" / f"{NAME}.py")
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if cell.cell_type == "code" and "figures.picture" in cell.source:
            assert "hide-input" in tags, cell.metadata["key"]
