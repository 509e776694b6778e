import json
import re
import string
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import MagicMock

import contest
import precision
import pytest
import results
import show
import torch
import training
from measured import results as load

from vae_teach import data, train

BENCHMARKS = Path(show.__file__).parent
RESULTS = sorted(results.RESULTS.glob("*.json"))


# --- the pages ------------------------------------------------------------------------


@pytest.mark.parametrize("language", show.LANGUAGES)
def test_pages_are_what_the_results_make(language):
    suffix = "" if language == "en" else f".{language}"
    written = (BENCHMARKS / f"README{suffix}.md").read_text("utf-8")
    command = "uv run python benchmarks/show.py"
    assert written == show.page(language), f"results have changed: {command}"
    for name in show.PLOTS:
        if results.read(name):
            plot = BENCHMARKS / "plots" / language / f"{name}.png"
            assert plot.exists(), command
            assert f"plots/{language}/{name}.png" in written


def is_well_formed(page):
    """Rows as long as their heads, one blank line between blocks, all filled in."""
    tables = re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE)
    shapes = [[line.count("|") for line in table.splitlines()] for table in tables]
    assert [shape for shape in shapes if len({*shape}) > 1 or len(shape) < 3] == []
    assert "\n\n\n" not in page
    assert re.search(r"[{}]|None|Undefined|[^\n]\n(?:##|!\[)", page) is None
    return len(tables)


@pytest.mark.parametrize("language", show.LANGUAGES)
def test_tables_are_whole(language):
    assert is_well_formed(show.page(language)) >= 8


def test_both_pages_have_the_same_shape():
    english, portuguese = (show.page(language) for language in ("en", "pt"))
    for mark in ("## ", "| ", "![", "---:"):
        assert english.count(mark) == portuguese.count(mark), mark


def placeholders(text):
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("key", show.CATALOGUE)
def test_a_phrase_says_the_same_in_both_languages_and_is_used(key):
    pt, en = (show.CATALOGUE[key][language] for language in ("pt", "en"))
    assert show.CATALOGUE[key].keys() == {"pt", "en"}
    assert placeholders(pt) == placeholders(en)
    assert pt.count(" | ") == en.count(" | ")
    sources = [Path(show.__file__), BENCHMARKS / "templates" / "README.md.j2"]
    code = "".join(path.read_text("utf-8") for path in sources)
    family = key.partition("-")[0]  # the rest may be filled in: rung-{name}
    assert f'"{key}"' in code or re.search(f'"{family}-(" ~|{{)', code)


def test_a_number_follows_the_language():
    assert show.number(-1234.5, 1, "en") == "−1,234.5"
    assert show.number(-1234.5, 1, "pt") == "−1.234,5"


# --- what will be measured anew -------------------------------------------------------


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Return how to write a result where the pages look for it."""
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    return lambda name, content: results.write(name, content, tmp_path)


def rungs_of(kind, monkeypatch):
    """Return the names of all rungs that the ladder may have on a device."""
    for name in ("Loop", "Fit", "one_by_one"):
        monkeypatch.setattr(training, name, MagicMock())
    images = MagicMock()
    images.pixels.device = torch.device(kind)
    return list(training.ladder(0, images, compiled=True))


def ladder_results(names, faster):
    """Return what training.py writes when it has seen these rungs."""
    seconds = {name: [2.0, 2.0] for name in names} | {f"limit-{faster}": [1.0, 1.0]}
    elbos = {n: [-150.0, -151.0] for n in names if not n.startswith("limit")}
    seconds, at = training.name_limit(seconds)
    settings = {"rounds": 2, "seeds": 2, "limit_precision": at}
    return settings | {"rows": training.summary(seconds, elbos, 3)}


@pytest.mark.parametrize("language", show.LANGUAGES)
@pytest.mark.parametrize("faster", training.LIMITS)
@pytest.mark.parametrize("default", train.PRECISIONS)
def test_every_rung_has_a_name(written, monkeypatch, default, faster, language):
    monkeypatch.setattr(training, "DEFAULT", default)
    for kind in show.DEVICES:
        names = rungs_of(kind, monkeypatch)
        assert {"usual", "medium", "fit", "fit-512"} <= {*names}
        assert f"fit-{default}" not in names
        written(f"training_{kind}", ladder_results(names, faster))
    page = show.page(language)
    assert is_well_formed(page) == 2
    reached = show.phrase(f"rung-limit-{faster}", language)
    assert page.count(f"| {reached} | {show.number(1, 2, language)} |") == 2
    figure = show.draw_ladder(results.read("training_cpu"), language)
    assert figure.axes[0].get_legend_handles_labels()[1] == [reached]
    show.plt.close(figure)


@pytest.mark.parametrize("faster", training.LIMITS)
def test_the_faster_products_are_the_limit(faster):
    (slower,) = {*training.LIMITS} - {faster}
    seconds = {f"limit-{slower}": [2.0, 1, 2], f"limit-{faster}": [1.0, 1, 9]}
    renamed, at = training.name_limit(seconds)
    assert at == faster
    assert renamed == {f"limit-{slower}": [2, 1, 2], "limit": [1, 1, 9]}


def precision_results():
    """Two seeds far apart; each precision is as far from the first in both."""
    seconds = {"highest": [4.0, 4], "high": [4.0, 4], "medium": [2.0, 2]}
    elbos = {
        "highest": [-150.0, -170],
        "high": [-150.0, -170],
        "medium": [-149.0, -167],
    }
    errors = {"highest": 2e-7, "high": 2e-7, "medium": 3e-3}
    rows = precision.summary(seconds, elbos, errors)
    return {"epochs": 3, "seeds": 2, "rows": rows}


def test_precisions_are_compared_seed_by_seed():
    first, same, medium = precision_results()["rows"]
    assert medium["elbos"] == [-149, -167]
    assert medium["elbo_differences"] == [1, 3]
    assert (medium["elbo_difference"], medium["standard_error"]) == (2, 1)
    assert (medium["seconds"], medium["times_faster"]) == (2, 2)
    for row in (first, same):
        assert (row["elbo_difference"], row["standard_error"]) == (0, 0)


@pytest.mark.parametrize("language", show.LANGUAGES)
@pytest.mark.parametrize("flags", [None, [], ["amx_bf16", "avx512_bf16"]])
def test_the_page_shows_the_precisions(written, monkeypatch, flags, language):
    machine = results.machine() | {"bfloat16": flags, "accelerator": "a GPU"}
    monkeypatch.setattr(results, "machine", lambda: machine)
    for kind in show.DEVICES:
        written(f"precision_{kind}", precision_results())
    page = show.page(language)
    assert is_well_formed(page) == 2
    row = "| `medium` | 2.00 | 2.00 (2.00 – 2.00) | −158.00 | 2.000 ± 1.000 | 3e-03 |"
    if language == "pt":
        row = row.replace(".", ",")
    assert page.count(row) == 2
    units = show.phrase("precision-units", language, flags="amx_bf16, avx512_bf16")
    assert page.count(units) == bool(flags)  # of the CPU alone
    assert page.count(show.phrase("precision-no-units", language)) == (flags == [])
    assert show.phrase("precision-same", language) not in page


@pytest.mark.parametrize("language", show.LANGUAGES)
def test_the_page_says_where_the_permission_changes_nothing(written, language):
    content = precision_results()
    for row in content["rows"]:
        row["product_error"] = 2e-7
    written("precision_cpu", content)
    page = show.page(language)
    assert is_well_formed(page) == 1
    assert page.count(show.phrase("precision-same", language)) == 1


@pytest.mark.parametrize("language", show.LANGUAGES)
def test_what_was_not_measured_is_called_so(written, language):
    page = show.page(language)
    assert is_well_formed(page) == 0
    start = show.phrase("missing", language, why="").strip()
    assert page.count(start) == page.count("\n## ") == 5
    for script, times in {"training": 2, "precision": 2, "batches": 1}.items():
        assert page.count(f"`uv run python benchmarks/{script}.py`") == times


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ({"flags": "fpu avx512_bf16 sse"}, ["avx512_bf16"]),
        ({"Features": "fp bf16"}, ["bf16"]),
        ({"flags": "fpu avx512f"}, []),
        ({}, None),
    ],
)
def test_the_machine_tells_its_units_for_bfloat16(monkeypatch, told, found):
    monkeypatch.setattr(results, "_processor_lines", lambda: told)
    assert results.machine()["bfloat16"] == found


@pytest.fixture
def asked(monkeypatch):
    """Return the precisions that are asked for, as they come."""
    seen = []
    note = lambda precision: seen.append(precision) or nullcontext()  # noqa: E731
    monkeypatch.setattr(train, "products_at", note, raising=False)
    return seen


def test_products_are_taken_at_the_precision_that_is_named(asked):
    device = torch.device("cpu")
    assert 0 < precision.product_error("highest", device) < 1e-6
    assert training.limit(device, 1, "medium") > 0
    assert asked == ["highest", "medium"]


def test_rungs_start_alike_and_learn_alike():
    """Whoever had the turn before: weights and noise depend on seed and epoch alone."""
    device, source = torch.device("cpu"), torch.Generator().manual_seed(0)
    pixels = torch.rand(300, 784, generator=source)
    images = data.Images(pixels, torch.zeros(300, dtype=torch.int64), dynamic=True)
    loop = {"batches": training.resident(images), "loss": training.from_logits}
    rungs = [
        training.Loop(0, device, **loop),
        training.Loop(0, device, fused=True, **loop),
        training.Fit(0, device, images, precision="highest"),
    ]
    before = rungs[0].model.decoder_logits.weight.clone()
    for _ in range(2):
        assert all(rung() > 0 for rung in rungs)
    learnt = [rung.model.state_dict() for rung in rungs]
    assert not torch.equal(learnt[0]["decoder_logits.weight"], before)
    for other in learnt[1:]:
        for name, value in other.items():
            torch.testing.assert_close(value, learnt[0][name], rtol=0, atol=1e-5)


# --- the results ----------------------------------------------------------------------


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_each_result_says_where_it_was_measured(path):
    machine = json.loads(path.read_text("utf-8"))["machine"]
    assert machine["processor"]
    assert machine["cores"] >= 1
    assert machine["torch"]
    assert len(machine["date"]) == 10


def test_no_rung_changes_the_answer():
    """Larger batches do, and are shown for that."""
    rows = load("training_cpu")["rows"]
    rungs = [
        row for row in rows if "test_elbo" in row and training.is_rung(row["name"])
    ]
    assert len(rungs) >= 7
    for row in rungs:
        assert abs(row["elbo_difference"]) <= 2 * row["standard_error"], row["name"]
    same_noise = [row["test_elbo"] for row in rungs]  # all but the usual loop's
    assert max(same_noise) - min(same_noise) < 0.1  # nats
    larger = [row for row in rows if row["name"].removeprefix("fit-").isdigit()]
    assert len(larger) == 2
    for row in larger:
        assert row["elbo_difference"] < -3 * row["standard_error"], row["name"]


def test_errors_are_shared_among_rungs_alone():
    elbos = {"usual": [0.0, 0, 0], "a": [1.0, 2, 3], "b": [5.0, 2, 5]}
    elbos |= {"fit-512": [0.0, 0, 9]}
    seconds = {name: [1.0, 1, 1] for name in (*elbos, "limit")}
    rows = {row["name"]: row for row in training.summary(seconds, elbos, 3)}
    assert {rows[name]["standard_error"] for name in "ab"} == {0.816}  # sqrt(2 / 3)
    assert rows["fit-512"]["standard_error"] == 3
    assert rows["a"]["elbo_difference"] == 2
    assert rows["a"]["test_elbo"] == 2
    assert "test_elbo" not in rows["limit"]


def test_several_processes_learn_the_same():
    one, two = load("growth_cpu")["processes"]
    apart = abs(one["test_elbo"] - two["test_elbo"])
    error = (one["standard_error"] ** 2 + two["standard_error"] ** 2) ** 0.5
    assert apart <= 2 * error


def test_exact_likelihoods_are_exact():
    exact = load("exact")
    (default,) = (row for row in exact["rows"] if row["name"] == "400")
    assert default["mean_error"] < 1e-3  # nats
    for row in exact["rows"]:
        assert row["mean_error"] <= row["mean_estimate"]
    assert exact["peak_mb"] < 2000


def test_turns_compare_within_rounds():
    """A machine that slows down tenfold half-way changes no ratio."""
    slow = [1, 1, 10, 10]
    seconds = {"a": [2.0 * s for s in slow], "b": [1.0 * s for s in slow]}
    first, second = contest.compare(seconds, against="a")
    assert (first["times_faster"], second["times_faster"]) == (1, 2)
    assert (second["lowest"], second["highest"]) == (2, 2)


def test_turns_run_each_once_a_round_and_forget_the_first():
    ran = []
    contestants = {name: lambda name=name: ran.append(name) or 1.0 for name in "abc"}
    seconds = contest.in_turns(contestants, rounds=4)
    assert {name: len(taken) for name, taken in seconds.items()} == dict.fromkeys(
        "abc", 4
    )
    rounds = [ran[i : i + 3] for i in range(0, 15, 3)]
    assert all(sorted(each) == list("abc") for each in rounds)
    assert len({tuple(each) for each in rounds}) > 1
