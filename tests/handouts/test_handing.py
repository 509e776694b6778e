"""What is handed out: for students nothing that answers an exercise, and all the rest.

What counts as an answer is decided here from the lessons' own solutions.
"""

import copy
import json
import re
import zipfile

import nbformat
import pytest
from handed_in import cell, notebook, text
from listing import lists

from tools import handing, notebooks
from tools.pages import ROOT, CourseError
from vae_teach.words import CATALOGUE

LANGUAGES = ("pt", "en")
LESSONS = sorted(path.name for path in (ROOT / "en").glob("[0-9][0-9]_*.ipynb"))
PAGES = ROOT.parent / "book" / "pages"
STATE = "application/vnd.jupyter.widget-state+json"


@pytest.fixture(scope="module")
def handed(tmp_path_factory):
    """Return the folder with the archives of the real lessons."""
    out = tmp_path_factory.mktemp("handout")
    assert notebooks.main(["handout", "--out", str(out)]) == 0
    return out


def files(handed, language, name):
    with zipfile.ZipFile(handed / language / name) as zipped:
        found = {info.filename: zipped.read(info) for info in zipped.infolist()}
    folder = f"vae-{language}/"
    assert all(name.startswith(folder) for name in found)
    return {name.removeprefix(folder): content for name, content in found.items()}


def original(language, lesson):
    return json.loads((ROOT / language / lesson).read_bytes())


def source(each):
    return "".join(each["source"])


def is_answer(each):
    return "solution" in each["metadata"].get("tags", [])


def paragraphs(each):
    """Return the paragraphs of a cell, less what is folded."""
    outside = re.sub(r"(?s)<details>.*?</details>", "", source(each))
    return [part for part in map(str.strip, outside.split("\n\n")) if part]


# --- the real lessons -----------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("lesson", LESSONS)
def test_no_solution_of_any_exercise_is_in_the_students_file(handed, language, lesson):
    """By its code, its name, its verdict, and the words of every folded answer."""
    given = files(handed, language, handing.STUDENTS)[lesson].decode()
    flat = " ".join("\n".join(handing.texts(json.loads(given))).split())
    answers = [c for c in original(language, lesson)["cells"] if is_answer(c)]
    assert len(answers) >= 4
    for answer in answers:
        name = re.search(r"def (solution_\w+)|(\w+) = ", source(answer))
        assert f"{name[1] or name[2]}(" not in flat
        body = " ".join(source(answer).partition("\n\n")[0].split("\n", 1)[1].split())
        assert body not in flat
        for output in answer["outputs"]:
            said = "".join(output.get("data", {}).get("text/plain", ["✔"]))
            assert said not in flat
    for each in original(language, lesson)["cells"]:
        for folded in re.findall(r"(?s)</summary>(.*?)</details>", source(each)):
            words = " ".join(folded.split())
            assert max(re.split(r"(?<=[.?]) ", words), key=len) not in flat
    for mark in ('"solution"', "solution-", "<details", "solution_"):
        assert mark not in given


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("lesson", LESSONS)
def test_nothing_else_is_lost(handed, language, lesson):
    given = json.loads(files(handed, language, handing.STUDENTS)[lesson])
    nbformat.validate(nbformat.from_dict(given))
    kept = {each["id"]: each for each in given["cells"]}
    whole = original(language, lesson)["cells"]
    asked = {f"exercise-{c['id'].partition('-')[2]}" for c in whole if is_answer(c)}
    assert [*kept] == [c["id"] for c in whole if not c["id"].startswith("solution-")]
    for each in whole:
        if each["id"] not in kept:
            continue
        twin = kept[each["id"]]
        assert twin["metadata"] == each["metadata"]
        if each["id"] in asked:
            assert (twin["outputs"], twin["execution_count"]) == ([], None)
            assert source(twin) == source(each)
        else:
            assert twin == each | {"source": twin["source"]}
            pairs = zip(paragraphs(each), paragraphs(twin), strict=True)
            shortened = [(a, b) for a, b in pairs if a != b]
            assert not shortened or each["id"] == "exercises"
            for a, b in shortened:  # by the sentence on solutions
                assert a.startswith(b)
                assert a[len(b) :].count(".") == 1
    assert sum("outputs" in c and not c["outputs"] for c in given["cells"]) >= 4


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("lesson", LESSONS)
def test_no_folded_solution_is_promised(handed, language, lesson):
    given = json.loads(files(handed, language, handing.STUDENTS)[lesson])
    (intro,) = [source(c) for c in given["cells"] if c["id"] == "exercises"]
    assert not re.search("solu(?:tion|ç)", intro)
    assert "\n## " in f"\n{intro}"
    assert "\n### 1" in intro


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_lecturer_gets_every_lesson_as_it_is_and_the_page(handed, language):
    found = files(handed, language, handing.LECTURERS)
    for lesson in LESSONS:
        assert found.pop(lesson) == (ROOT / language / lesson).read_bytes()
    page = found.pop("teaching.md").decode()
    assert found.keys() == {"README.md"}
    assert "(teaching" not in page
    assert "](00_tour.ipynb)" in page or "](00_tour.ipynb#" in page
    targets = {*re.findall(r"\]\(([^)#]*)", page)}
    assert all(t in LESSONS or t.startswith("https:") for t in targets)


def test_archives_are_small_and_the_same_each_time(handed, tmp_path):
    found = sorted(handed.rglob("*.zip"))
    assert len(found) == 4
    assert all(path.stat().st_size < 15e6 for path in found)
    for path, names in ((tmp_path / "a.zip", "xy"), (tmp_path / "b.zip", "yx")):
        handing.archive(path, "folder", dict.fromkeys(names, "é"))
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


@lists
def test_the_students_read_how_to_begin_in_their_language():
    for language in LANGUAGES:
        readme = CATALOGUE["handout-readme"][language]
        for needed in ("00_tour.ipynb", "pip install", "jupyter lab"):
            if needed not in readme:
                yield f"{language}: {needed}"


# --- made-up lessons ------------------------------------------------------------------

SETUP = "from vae_teach.checks import latents as checks"
ANSWER = "def solution_a(mass):\n    return (-2 * math.log(1 - mass)) ** 0.5"
STUB = "def my_a(mass):\n    ...\n\n\nchecks.ring_radius(my_a)"
UNANSWERED = {
    "output_type": "execute_result",
    "execution_count": 1,
    "metadata": {},
    "data": {"text/plain": "✘ " + CATALOGUE["check-empty"]["en"]},
}


def lesson(*more, question="# Exercises\n\nWrite it.", stub=STUB):
    solution = cell("solution-a", ANSWER, tags=["solution"])
    cells = [cell("setup", SETUP), text("exercises", question)]
    cells += [cell("exercise-a", stub, copy.deepcopy(UNANSWERED)), solution, *more]
    return nbformat.from_dict(notebook(*cells))


def keys(given):
    return [each.id for each in given.cells]


def test_what_is_folded_goes_with_its_cell_only_if_it_is_all_there_is():
    folded = "<details><summary>So</summary>\n\nBecause.\n\n</details>"
    given = handing.for_students(
        lesson(text("b", folded), text("c", f"Why?\n\n{folded}\n\nGo on.")), "en"
    )
    assert keys(given) == ["setup", "exercises", "exercise-a", "c"]
    assert given.cells[-1].source == "Why?\n\nGo on."


@pytest.mark.parametrize(
    ("language", "promise"),
    [
        ("en", "The solutions are folded below."),
        ("pt", "As soluções estão recolhidas abaixo de cada questão; só depois."),
    ],
)
def test_the_promise_of_solutions_is_taken_out(language, promise):
    whole = lesson(question=f"Write it. {promise}\n\n### 1")
    said = f"✘ {CATALOGUE['check-empty'][language]}"
    whole.cells[2].outputs[0].data["text/plain"] = said
    given = handing.for_students(whole, language)
    assert given.cells[1].source == "Write it.\n\n### 1"


LINE = "return (-2 * math.log(1 - mass)) ** 0.5"
LEAKS = {
    "another cell": (cell("late", f"def f(mass):\n    {LINE}"), None),
    "a text": (text("b", f"It is `{LINE}`."), None),
    "metadata": (cell("b", "1", note=LINE), LINE),
    "a name in metadata": (cell("b", "1", **{LINE: 1}), LINE),
    "an output": (
        cell("b", "1", {"output_type": "stream", "name": "stdout", "text": LINE}),
        LINE,
    ),
    "a table": (
        cell("b", "1")
        | {
            "outputs": [
                {
                    "output_type": "display_data",
                    "metadata": {},
                    "data": {"text/html": f"<details open>{ANSWER}</details>"},
                }
            ]
        },
        "solution_a",
    ),
    "an attachment": (
        text("b", "See.", attachments={"a.txt": {"text/plain": ANSWER}}),
        "solution_a",
    ),
    "a call": (cell("b", "print(solution_a(0.5))"), "solution_a"),
    "details in an output": (
        cell("b", "1")
        | {
            "outputs": [
                {
                    "output_type": "display_data",
                    "metadata": {},
                    "data": {"text/html": "<details>x</details>"},
                }
            ]
        },
        "<details",
    ),
}


@pytest.mark.parametrize("place", LEAKS)
def test_an_answer_that_stands_elsewhere_stops_the_command(place):
    extra, said = LEAKS[place]
    if place == "another cell":  # the lesson itself teaches that line
        assert "late" in keys(handing.for_students(lesson(extra), "en"))
        return
    with pytest.raises(CourseError, match="would be handed out") as stop:
        handing.for_students(lesson(extra), "en")
    assert (said or LINE) in str(stop.value)


def test_a_question_may_quote_a_line_of_its_answer_and_not_half_of_it():
    lines = [f"    step_number_{n} = {n}" for n in range(5)]
    answer = "\n".join(["def solution_a(mass):", *lines])
    for quoted, is_leak in ((1, False), (2, False), (3, True), (5, True)):
        whole = lesson(question="Find the bug:\n" + "\n".join(lines[:quoted]))
        whole.cells[3].source = answer
        if is_leak:
            with pytest.raises(CourseError, match="step_number"):
                handing.for_students(whole, "en")
        else:
            handing.for_students(whole, "en")


@pytest.mark.parametrize(
    "said", [[], ["✔ Right."], ["✘ The values differ."], ["✘ ", "x"]]
)
def test_an_exercise_that_somebody_answered_is_refused(said):
    whole = lesson()
    whole.cells[2].outputs = [
        nbformat.v4.new_output("execute_result", data={"text/plain": words})
        for words in said
    ]
    with pytest.raises(CourseError, match=r"\[exercise-a\] is no empty exercise"):
        handing.for_students(whole, "en")


def test_a_widget_that_only_a_solution_shows_goes_with_it():
    whole = lesson()
    view = "application/vnd.jupyter.widget-view+json"
    for number, each in enumerate((whole.cells[0], whole.cells[3])):
        shown = {view: {"model_id": f"{number}" * 32, "version_major": 2}}
        each.outputs = [nbformat.v4.new_output("display_data", data=shown)]
    state = {
        f"{n}" * 32: {"model_name": "X", "state": {"value": LINE if n else ""}}
        for n in range(2)
    }
    whole.metadata["widgets"] = {STATE: {"state": state}}
    given = handing.for_students(whole, "en")
    assert [*given.metadata["widgets"][STATE]["state"]] == ["0" * 32]


def test_a_lesson_is_left_as_it_was():
    whole = lesson(text("b", "<details>x</details>y"))
    before = json.dumps(whole, sort_keys=True)
    handing.for_students(whole, "en")
    assert json.dumps(whole, sort_keys=True) == before


def test_what_cannot_be_handed_out_is_told_by_name(tmp_path, capsys):
    for language in LANGUAGES:
        (tmp_path / language).mkdir()
    (tmp_path / "pt" / "07_bad.ipynb").write_text("{")
    out = tmp_path / "out"
    assert notebooks.main(["--root", str(tmp_path), "handout", "--out", str(out)]) == 1
    assert "pt/07_bad.ipynb: " in capsys.readouterr().err
    assert not out.exists()
