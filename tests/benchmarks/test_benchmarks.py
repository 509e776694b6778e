"""The benchmarks' pages say what the results say, and the results hold together."""

import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
RESULTS = sorted((BENCHMARKS / "results").glob("*.json"))
sys.path.insert(0, str(BENCHMARKS))

import show  # noqa: E402
import training  # noqa: E402
import turns  # noqa: E402


def load(name):
    return json.loads((BENCHMARKS / "results" / f"{name}.json").read_text("utf-8"))


@pytest.mark.parametrize("language", show.LANGUAGES)
def test_pages_are_what_the_results_make(language):
    suffix = "" if language == "en" else f".{language}"
    written = (BENCHMARKS / f"README{suffix}.md").read_text("utf-8")
    command = "uv run python benchmarks/show.py"
    assert written == show.page(language), f"results have changed: {command}"
    for name in show.PLOTS:
        if show.load(name):
            plot = BENCHMARKS / "plots" / language / f"{name}.png"
            assert plot.exists(), command
            assert f"plots/{language}/{name}.png" in written


def test_both_pages_have_the_same_shape():
    english, portuguese = (show.page(language) for language in ("en", "pt"))
    for mark in ("## ", "| ", "![", "---:"):
        assert english.count(mark) == portuguese.count(mark), mark
    assert show.WORDS["en"].keys() == show.WORDS["pt"].keys()
    assert show.WORDS["en"]["rungs"].keys() == show.WORDS["pt"]["rungs"].keys()


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_each_result_says_where_it_was_measured(path):
    machine = json.loads(path.read_text("utf-8"))["machine"]
    assert machine["processor"]
    assert machine["cores"] >= 1
    assert machine["torch"]
    assert len(machine["date"]) == 10


def test_no_rung_changes_the_answer():
    """Larger batches do, and are shown for that."""
    rows = load("training_cpu")["results"]["rows"]
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
    one, two = load("growth_cpu")["results"]["processes"]
    apart = abs(one["test_elbo"] - two["test_elbo"])
    error = (one["standard_error"] ** 2 + two["standard_error"] ** 2) ** 0.5
    assert apart <= 2 * error


def test_exact_likelihoods_are_exact():
    results = load("exact")["results"]
    (default,) = (row for row in results["rows"] if row["name"] == "400")
    assert default["mean_error"] < 1e-3  # nats
    for row in results["rows"]:
        assert row["mean_error"] <= row["mean_estimate"]
    assert results["peak_mb"] < 2000


def test_turns_compare_within_rounds():
    """A machine that slows down tenfold half-way changes no ratio."""
    slow = [1, 1, 10, 10]
    seconds = {"a": [2.0 * s for s in slow], "b": [1.0 * s for s in slow]}
    first, second = turns.compare(seconds, against="a")
    assert (first["times_faster"], second["times_faster"]) == (1, 2)
    assert (second["lowest"], second["highest"]) == (2, 2)


def test_turns_run_each_once_a_round_and_forget_the_first():
    ran = []
    contestants = {name: lambda name=name: ran.append(name) or 1.0 for name in "abc"}
    seconds = turns.in_turns(contestants, rounds=4)
    assert {name: len(taken) for name, taken in seconds.items()} == dict.fromkeys(
        "abc", 4
    )
    rounds = [ran[i : i + 3] for i in range(0, 15, 3)]
    assert all(sorted(each) == list("abc") for each in rounds)
    assert len({tuple(each) for each in rounds}) > 1
