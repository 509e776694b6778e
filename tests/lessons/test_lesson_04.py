"""Lesson 04: its tables are those of the results, and it copes where they are missing.

Cells' functions are taken out of the notebook and called with results of our own.
"""

import ast
import json
from pathlib import Path

import jupytext
import nbformat
import pytest
import torch
from runs import make_run

from vae_teach import figures, nets, train
from vae_teach.words import say, use_language

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
    from torch.utils._python_dispatch import TorchDispatchMode

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
