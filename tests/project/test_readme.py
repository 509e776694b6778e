"""The two READMEs: the same commands and links, and numbers that somebody measured."""

import re
from pathlib import Path

import pytest
from measured import number, results

ROOT = Path(__file__).resolve().parents[2]
PAGES = {"en": ROOT / "README.md", "pt": ROOT / "README.pt.md"}
UNIT = {"en": "nats", "pt": "nat"}  # of less than two


def read(language):
    return PAGES[language].read_text(encoding="utf-8")


@pytest.mark.parametrize("language", PAGES)
def test_links_lead_somewhere(language):
    targets = re.findall(r"\]\(([^)]+)\)", read(language))
    local = [target for target in targets if not target.startswith("http")]
    assert len(local) > 5
    missing = [target for target in local if not (ROOT / target).exists()]
    assert missing == []


def test_both_pages_link_to_the_same_places():
    def places(language):
        targets = re.findall(r"\]\(([^)]+)\)", read(language))
        swapped = [t.replace("notebooks/pt/", "notebooks/en/") for t in targets]
        swapped = [
            re.sub(r"(README|CONTRIBUTING)\.pt\.md", r"\1.md", t) for t in swapped
        ]
        return sorted(t for t in swapped if not t.startswith("README"))

    assert places("pt") == places("en")


def test_the_commands_are_those_of_ci_and_of_the_project():
    for language in PAGES:
        assert "uv run lab" in read(language)
        assert "uv run pytest" in read(language)
    assert "uv run pytest" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert 'lab = "vae_teach.lab:main"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize("language", PAGES)
def test_the_elbo_of_each_seed_is_the_measured_one(language):
    for row in results("tour_elbo_mnist"):
        elbo = number(row["test_elbo"], 2, language)
        error = number(row["standard_error"], 2, language)
        assert f"{elbo} ± {error}" in read(language)


@pytest.mark.parametrize("language", PAGES)
def test_time_and_memory_of_the_tour_are_the_measured_ones(language):
    (row,) = [r for r in results("notebooks") if r["notebook"] == "en/00_tour"]
    peak = max(row["peak_memory_mb"] for row in results("notebooks"))
    assert f"{number(peak / 1000, 1, language)} GB" in read(language)
    assert f"{round(row['seconds'])} s" in read(language)


@pytest.mark.parametrize("language", PAGES)
def test_every_lesson_is_listed(language):
    lessons = {p.stem for p in (ROOT / "notebooks" / language).glob("*.ipynb")}
    for lesson in lessons:
        assert f"notebooks/{language}/{lesson}.ipynb" in read(language)


@pytest.mark.parametrize("language", PAGES)
def test_speeds_are_the_measured_ones(language):
    (fit,) = [r for r in results("training_cpu")["rows"] if r["name"] == "fit"]
    peers = {r["name"]: r["fit_times_as_fast"] for r in results("peers")["rows"]}
    exact, share = results("exact"), fit["share_of_limit"]
    (grid,) = [r for r in exact["rows"] if r["name"] == "400"]
    quoted = [
        number(fit["times_faster"], 1, language),
        *(number(peers[name], 1, language) for name in ("Pyro", "Lightning", "pythae")),
        number(peers["JAX"], 2, language),
        f"{share:.0%}" if language == "pt" else f"{share:.2f}",
        f"{number(grid['seconds'], 1, language)} s",
        f"{number(grid['mean_error'], 4, language)} {UNIT[language]}",
        f"{number(exact['peak_mb'] / 1000, 1, language)} GB",
    ]
    heading = {"en": "**Measured.**", "pt": "**Medido.**"}[language]
    (paragraph,) = [p for p in read(language).split("\n\n") if p.startswith(heading)]
    for value in quoted:
        assert value in paragraph
        paragraph = paragraph.partition(value)[2]  # in this order, each its own


@pytest.mark.parametrize("language", PAGES)
def test_what_a_crowd_loses_is_the_measured_loss(language):
    rows, text = results("crowd")["rows"], read(language)
    eight = [r for r in rows if (r["policy"], r["readers"]) == ("shared", 8)]
    four = [r["work"] for r in rows if (r["policy"], r["readers"]) == ("fixed", 4)]
    quoted = [min(r["work"] for r in eight), max(r["wait"] for r in eight)]
    for value in (*quoted, min(four), max(four)):
        said = number(value, 2, language)
        assert said in text
        text = text.partition(said)[2]  # in this order


@pytest.mark.parametrize("language", PAGES)
def test_the_commands_of_the_terminal_are_there(language):
    command = "torchrun --standalone --nproc-per-node 2 -m vae_teach.train"
    assert command in read(language)
    assert "--nnodes 2" in read(language)


def test_both_pages_for_authors_show_the_same_commands():
    def commands(name):
        text = (ROOT / name).read_text(encoding="utf-8")
        fences = re.findall(r"(?ms)^ *```.*?^ *```", text)
        return [re.sub(r" *# (?!%%).*", "", fence) for fence in fences]

    assert len(commands("CONTRIBUTING.md")) > 3
    assert commands("CONTRIBUTING.pt.md") == commands("CONTRIBUTING.md")
