"""The pages of the book: the same in both languages, and true to what they speak of."""

import csv
import re
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from measured import number, results

from tools import checking, handing, pages, translating
from vae_teach import lab
from vae_teach.data import FILE_BYTES
from vae_teach.words import CATALOGUE

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "book" / "pages"
NAMES = sorted(path.name for path in (PAGES / "en").glob("*.md"))
LANGUAGES = ("pt", "en")
LABEL = re.compile(r"(?m)^\(([a-z0-9-]+)\)=\n(#+) (.+)$")
FENCE = re.compile(r"(?ms)^```(\S*)\n(.*?)^```$")
KEYED = re.compile(r"\]\(((\d\d_\w+)\.ipynb(?:#([\w-]+))?)\)")
BOTH = pytest.mark.parametrize("language", LANGUAGES)
EACH = pytest.mark.parametrize("name", NAMES)
NO_NUMBERS = re.compile(  # versions and names
    r"\d+\.\d+\.\d+|3\.1[13]\b|CC BY[-A-Z]* \d\.\d|\b4\.0 \w+"
)
# What others print and the pages quote.
FOREIGN = {"operator torchvision::nms does not exist"}


def read(language, name):
    return (PAGES / language / name).read_text(encoding="utf-8")


def pair(name):
    return [read(language, name) for language in LANGUAGES]


def whole(language):
    return "\n".join(read(language, name) for name in NAMES)


def text_of(language, name):
    """Return the running text of a page, less the labels of its sections."""
    return pages.prose(re.sub(r"(?m)^\([a-z0-9-]+\)=$", "", read(language, name)))


def lessons(language):
    """Return the lessons that exist, by name: their cells by key."""
    found = {}
    for path in sorted((ROOT / "notebooks" / language).glob("[0-9][0-9]_*.py")):
        cells = pages.read_page(path).source.cells
        found[path.stem] = {cell.id: cell for cell in cells}
    return found


# --- the two languages --------------------------------------------------------------


def test_both_languages_have_the_pages_that_the_book_needs():
    assert sorted(path.name for path in (PAGES / "pt").glob("*")) == NAMES
    needed = {"changes", "glossary", "index", "install", "references", "syllabus"}
    assert {f"{name}.md" for name in needed | {"teaching"}} <= set(NAMES)


@EACH
def test_a_page_says_the_same_in_both_languages(name):
    pt, en = map(translating.marks, pair(name))
    for kind, found in pt.items():
        assert found == en[kind], kind
    assert pages.prose(pair(name)[0]) != pages.prose(pair(name)[1])


@BOTH
def test_the_time_of_a_lesson_is_its_length(language):
    """200 words and 40 lines of code that are not folded take three minutes."""
    for name, cells in lessons(language).items():
        words = lines = 0
        for cell in cells.values():
            if cell.cell_type == "markdown":
                prose = re.sub(r"(?s)\$\$.*?\$\$", "", cell.source)
                words += len(re.sub(r"\$[^$]*\$", "x", prose).split())
            elif "hide-input" not in cell.metadata.get("tags", []):
                lines += len([x for x in cell.source.splitlines() if x.strip()])
        minutes = 1.5 * (words / 200 + lines / 40)
        said = "minutes of reading" if language == "en" else "minutos de leitura"
        stated = re.search(rf"(\d+) {said}", cells["title"].source)
        assert abs(int(stated[1]) - minutes) <= 5, f"{name}: {minutes:.0f} minutes"


@EACH
def test_links_are_the_same_also_in_their_anchors(name):
    pt, en = (re.findall(r"\]\(([^)]+)\)", text) for text in pair(name))
    assert pt == en


@EACH
def test_every_heading_has_a_label_and_both_languages_the_same(name):
    pt, en = (LABEL.findall(text) for text in pair(name))
    assert [(label, level) for label, level, _ in pt] == [found[:2] for found in en]
    assert pt[0][0] == name.removesuffix(".md")
    for text, found in zip(pair(name), (pt, en), strict=True):
        bare = FENCE.sub("", text)
        assert len(re.findall(r"(?m)^#+ ", bare)) == len(found)
        assert all(label.startswith(pt[0][0]) for label, _, _ in found)


def test_a_label_stands_once_in_the_whole_book():
    labels = [label for label, _, _ in LABEL.findall(whole("en"))]
    assert sorted(set(labels)) == sorted(labels)
    keys = {key for cells in lessons("en").values() for key in cells}
    assert keys.isdisjoint(labels)


def neutral(language, code):
    """Return commands without comments and without the language that they ask for."""
    code = re.sub(r"(?m) *# .*$", "", code)
    code = re.sub(rf"(notebooks/){language}\b", r"\1xx", code)
    return re.sub(rf" (?:--language )?{language}\b", "", code)


@EACH
def test_commands_are_the_same_in_both_languages(name):
    pt, en = (
        [(kind, neutral(language, code)) for kind, code in FENCE.findall(text)]
        for language, text in zip(LANGUAGES, pair(name), strict=True)
    )
    assert [kind for kind, _ in pt] == [kind for kind, _ in en]
    words = ("text", "output")  # what is said in the page's language
    same = [
        (a, b) for (kind, a), (_, b) in zip(pt, en, strict=True) if kind not in words
    ]
    assert [a for a, _ in same] == [b for _, b in same]


@EACH
def test_tables_are_whole_and_have_the_same_cells(name):
    def shapes(text):
        rows = [line for line in text.splitlines() if line.startswith("|")]
        return [len(re.findall(r"(?<!\\)\|", row)) for row in rows]

    pt, en = map(shapes, pair(name))
    assert pt == en
    for text, counts in zip(pair(name), (pt, en), strict=True):
        lines = iter(counts)
        for block in re.findall(r"(?m)(?:^\|.*\n)+", text):
            widths = {next(lines) for _ in block.splitlines()}
            assert len(widths) == 1, block


# --- words --------------------------------------------------------------------------


@EACH
def test_portuguese_keeps_to_the_glossary(name):
    text = text_of("pt", name)
    for pattern, word in checking.forbidden(ROOT / "notebooks" / "glossary.csv"):
        found = pattern.search(text)
        assert not found, f"{found[0]!r}: the glossary says {word!r}"


def test_the_glossary_is_sound():
    with (ROOT / "notebooks" / "glossary.csv").open(encoding="utf-8") as lines:
        rows = [*csv.DictReader(lines)]
    for row in rows:
        assert set(row) == {"en", "pt", "not in Portuguese"}, row
        assert row["en"].strip(), row
        assert row["pt"].strip(), row
    for language in LANGUAGES:
        terms = [row[language] for row in rows]
        assert sorted(set(terms)) == sorted(terms)
    rules = [*checking.forbidden(ROOT / "notebooks" / "glossary.csv")]
    for row in rows:  # a rendering that is used may not be ruled out by another row
        for pattern, word in rules:
            used = re.sub(r"\(.*?\)", "", row["pt"])
            assert not pattern.search(used), f"{row['pt']} is ruled out by {word}"


# --- what the pages point at --------------------------------------------------------


@BOTH
def test_links_between_pages_lead_somewhere(language):
    labels = {label for label, _, _ in LABEL.findall(whole(language))}
    targets = re.findall(r"\]\(([^)]+)\)", whole(language))
    assert len(targets) > 50  # the search itself works
    for target in targets:
        if target.startswith("#"):
            assert target[1:] in labels, target
        elif not target.startswith("https://") and ".ipynb" not in target:
            assert target in (*NAMES, handing.STUDENTS, handing.LECTURERS), target


@BOTH
def test_links_to_a_cell_name_one_that_has_an_address(language):
    """A cell of code has its key as its address, and text only with a heading."""
    known = lessons(language)
    for target, lesson, key in KEYED.findall(whole(language)):
        assert lesson in known, target
        if key:
            assert key in known[lesson], target
            cell = known[lesson][key]
            heads = re.search(r"(?m)^#{1,6} ", cell.source)
            assert cell.cell_type == "code" or heads, f"{target}: no heading there"


@BOTH
def test_messages_that_are_quoted_are_those_of_the_course(language):
    phrases = [entry[language] for entry in CATALOGUE.values()]
    phrases += [lab.NO_COURSE, *FOREIGN, *(f"MNIST/raw/{file}" for file in FILE_BYTES)]
    quoted = [
        line
        for kind, code in FENCE.findall(whole(language))
        if kind == "text"
        for line in code.splitlines()
    ]
    assert len(quoted) > 8
    for line in quoted:
        assert any(line in phrase for phrase in phrases), line


@BOTH
def test_menus_that_are_named_are_those_of_the_explorer(language):
    sample = CATALOGUE["explorer-sample"][language]
    assert f"*{sample}*" in read(language, "teaching.md")


# --- lessons ------------------------------------------------------------------------


def tour_cell(language, key):
    return lessons(language)["00_tour"][key].source


def sections(language):
    """Return the syllabus by lesson: number to (question, text)."""
    text = read(language, "syllabus.md")
    parts = re.split(r"(?m)^### (\d\d) · (.+)$", text)
    thirds = zip(parts[1::3], parts[2::3], parts[3::3], strict=True)
    return {number: (question, body) for number, question, body in thirds}


@BOTH
def test_the_syllabus_holds_all_lessons_and_opens_those_that_exist(language):
    found, known = sections(language), lessons(language)
    assert sorted(found) == [f"{number:02}" for number in range(11)]
    planned = read(language, "syllabus.md").partition("(syllabus-planned)=")[2]
    for lesson, (_, body) in found.items():
        names = [name for name in known if name.startswith(lesson)]
        there = [name for _, name, _ in KEYED.findall(body)]
        assert there == names, f"lesson {lesson}"
        assert (f"\n### {lesson} ·" in planned) == (not names), f"lesson {lesson}"


@BOTH
def test_the_questions_are_those_that_the_tour_leaves_open(language):
    row = r"(?m)^\| \[?(\d\d)(?:\]\(\d\d_\w+\.ipynb\))? \| (.+) \|$"  # linked where out
    asked = re.findall(row, tour_cell(language, "next"))
    assert len(asked) == 10
    assert dict(asked) == {n: q for n, (q, _) in sections(language).items() if n > "00"}


@BOTH
def test_the_time_of_a_lesson_is_what_the_lesson_says(language):
    for name, cells in lessons(language).items():
        head = next(iter(cells.values())).source
        (minutes,) = re.findall(r"\*\*(?:Time|Tempo):\*\* (\d+) minut", head)
        _, body = sections(language)[name[:2]]
        assert re.findall(r"· (\d+) minut", body) == [minutes], name


@BOTH
def test_the_references_hold_what_the_lessons_cite(language):
    """Whoever is cited has an entry, and the entry names the lesson."""
    text = read(language, "references.md")
    entries = re.findall(r"(?m)^\*\*([^,]+), .*?\((\d{4})\)\.\*\*(.+)$", text)
    assert len(entries) > 15
    for name, cells in lessons(language).items():
        for cell in cells.values():
            said = cell.source if cell.cell_type == "markdown" else ""
            for match in re.finditer(r"(?:\(|, )((?:19|20)\d\d)(?=[);,])", said):
                before = said[max(0, match.start() - 80) : match.start()]
                cited = [e for e in entries if e[0] in before and e[1] == match[1]]
                assert cited, f"{name}: {before[-40:]!r} {match[1]}"
                numbers = re.findall(r"\b\d\d\b", cited[-1][2])
                assert name[:2] in numbers, f"{name}: {cited[-1][0]} {match[1]}"


@BOTH
def test_the_changes_name_the_version_and_its_lessons(language):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    text = read(language, "changes.md")
    first = re.findall(r"(?m)^## (\S+)", text)[0]
    assert first == project["version"]
    assert re.findall(r"(?m)^- \*\*(\d\d)\*\*", text) == [
        name[:2] for name in lessons(language)
    ]


def test_the_citation_is_that_of_the_repository():
    about = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    fences = FENCE.findall(read("en", "index.md"))
    (code,) = [code for kind, code in fences if kind == "bibtex"]
    fields = dict(re.findall(r"(\w+) += \{(.*?)\}(?:,|\n)", code))
    assert fields["title"] == about["title"]
    assert fields["version"] == about["version"]
    assert fields["date"] == str(about["date-released"])
    assert fields["author"].strip("{}") == about["authors"][0]["name"].replace(
        "_", r"\_"
    )


# --- the lecturer's page ------------------------------------------------------------


@BOTH
def test_every_exercise_can_be_set_as_homework(language):
    text = read(language, "teaching.md")
    for name, cells in lessons(language).items():
        titles = [
            title
            for cell in cells.values()
            if cell.cell_type == "markdown"
            for title in re.findall(r"(?m)^### (\d+\. .+)$", cell.source)
        ]
        _, _, part = text.partition(f"(teaching-homework-{name[:2]})=")
        part = part.partition("\n(teaching-")[0]
        rows = re.findall(r"(?m)^\| (\d+\. .+?) \|", part)
        assert len(rows) == len(titles), name
        for row, title in zip(rows, titles, strict=True):
            assert row.startswith(title), name  # a row may say which bug it is


@BOTH
def test_the_plans_leave_no_minute_out(language):
    spans = re.findall(r"(?m)^\| (\d+)–(\d+) \|", read(language, "teaching.md"))
    plans = []
    for start, end in (tuple(map(int, span)) for span in spans):
        if start == 0:
            plans.append([])
        plans[-1].append((start, end))
    assert [plan[-1][1] for plan in plans] == [60, 180, 120, 120, 120, 120]
    for plan in plans:
        assert all(a[1] == b[0] for a, b in pairwise(plan)), plan
        assert all(start < end for start, end in plan)


# --- numbers ------------------------------------------------------------------------


def highest_memory(language):
    """Return the highest peak of all lessons, in GB."""
    peak = max(row["peak_memory_mb"] for row in results("notebooks"))
    return number(peak / 1000, 1, language)


@BOTH
def test_numbers_that_were_measured_are_the_measured_ones(language):
    (tour,) = [r for r in results("notebooks") if r["notebook"] == "en/00_tour"]
    memory = f"{highest_memory(language)} GB"
    for name in ("install.md", "teaching.md"):
        assert re.findall(r"\d+[.,]\d+ GB", text_of(language, name)) == [memory]
    training = max(row["seconds"] for row in results("tour_elbo_mnist"))
    assert training < 50  # "less than a minute"
    assert tour["seconds"] < 90  # "a minute and a half at most"


@BOTH
def test_no_other_number_has_decimals(language):
    """What no test holds to its source does not stand in the prose: see above.

    Thousands have three digits after their mark, decimals here one or two.
    """
    held = {highest_memory(language)}
    held |= {number(1.5, 1, language)}  # where the lecturer puts a slider
    for name in NAMES:
        text = NO_NUMBERS.sub("", text_of(language, name))
        if name == "references.md":
            text = re.sub(r"\d\d[.,]\d\d(?: /|\n)", "", text)  # the table: see below
        found = set(re.findall(r"\d+[.,]\d{1,2}(?!\d)", text))
        assert found <= held, name


@BOTH
def test_what_is_said_of_the_table_follows_from_it(language):
    rows = {}
    for line in read(language, "references.md").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] in ("1", "2") and len(cells) == 5:
            numbers = [cell.replace(",", ".").split(" / ") for cell in cells[2:]]
            rows[cells[0], cells[1]] = [[float(n) for n in three] for three in numbers]
    assert len(rows) == 4
    assert all(len(three) == 3 for row in rows.values() for three in row)
    paper = [three[0] for three in rows["1", "IWAE"]]
    gained = paper[0] - paper[-1]
    assert round(gained) == 2
    for three in rows["2", "VAE"]:
        assert abs(three[1] - three[2]) > gained
    assert rows["1", "IWAE"][0][0] == rows["1", "VAE"][0][0]  # k = 1: the same model


def test_the_table_is_the_same_in_both_languages():
    rows = r"(?m)^\| [12] \| .+$"
    pt, en = (re.findall(rows, text) for text in pair("references.md"))
    assert [row.replace(",", ".") for row in pt] == en
    assert [len(re.findall(r"\d\d,\d\d", row)) for row in pt] == [9, 9, 9, 9]
