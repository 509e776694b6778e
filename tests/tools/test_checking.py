"""Check: every guard of one notebook, and of the files, bites."""

import copy
import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from small_lesson import (
    NAME,
    change_built,
    command,
    edit,
    output,
    problems,
)

from tools import building, checking, pages
from tools.checking import BAR

SOURCE_BREAKS = {  # name: (language, old, new, the line that check must print)
    "out of sync": ("pt", "Um título", "Outro", r"ipynb: \[title\] this cell differs"),
    "code changed": ("both", "6 * 7", "7 * 6", r"ipynb: \[-\] the outputs are older"),
    "language": ("pt", '("pt")', '("en")', r'pt.*\[setup\] write use_language\("pt"\)'),
    "no description": ("pt", "![Uma reta]", "![]", r"\[title\] an image has no altern"),
    "html image": (
        "pt",
        "![Uma",
        '<img src="a">![Uma',
        r"\[title\] an image has no al",
    ),
    "two words": ("both", '"abc"', '"two words"', r"\[setup\] .* words, 'two words'"),
    "an f-string": (
        "both",
        '"abc"',
        'f"loss {1} nats each"',
        r"\[setup\] .* words, 'lo",
    ),
    "a docstring": (
        "both",
        "print(1 /",
        '"""One over."""\n    print(1 /',
        r"\[slider\] ",
    ),
    "one word": ("both", "print(1)", 'print("Epoch")', r"\[bars\] .* words, 'Epoch'"),
    "a label": (
        "both",
        "[1, 2]",
        '[1, 2], label="prior"',
        r"\[figure\] .* words, 'prior'",
    ),
    "glossary": (
        "pt",
        "amostra;",
        "Encoders;",
        r"\[title\] 'Encoders' is not used here",
    ),
    "a calque": (
        "pt",
        "amostra;",
        "amostra em desvios-padrão;",
        r"\[title\] 'desvios-padrão' is not used here; write 'dois desvios padrão'",
    ),
    "in a comment": (
        "pt",
        "O que",
        "Loss: o que",
        r"\[setup\] 'Loss' is not used here",
    ),
    "syntax": ("pt", "print(3)", "print(3", r"\[bars\] cell 4 .* is not Python"),
    "check cells": ("both", "nbval-check-output", "x", r"\[-\] 2 cells tagged nbval"),
}


@pytest.mark.parametrize("case", SOURCE_BREAKS)
def test_a_broken_source_is_named(case: str, course: Path) -> None:
    language, old, new, line = SOURCE_BREAKS[case]
    edit(course, language, old, new)
    if case == "check cells":
        for one in ("pt", "en"):
            building.build(course / one / f"{NAME}.py")
    assert re.search(line, problems(course)), problems(course)


def error(nb: nbformat.NotebookNode) -> None:
    nb.cells[2].outputs.append(nbformat.v4.new_output("error", ename="E", evalue="e"))


def error_in_widget(nb: nbformat.NotebookNode) -> None:
    for model in nb.metadata.widgets[pages.WIDGETS]["state"].values():
        if "outputs" in model["state"]:
            model["state"]["outputs"].append({"output_type": "error", "ename": "E"})


def bar_as_widget(nb: nbformat.NotebookNode) -> None:
    data = {"text/plain": "  0%|          | 0/3 [00:00<?, ?it/s]"}
    nb.cells[3].outputs.append(nbformat.v4.new_output("display_data", data))


def bar_in_widget(nb: nbformat.NotebookNode) -> None:
    stream = {"output_type": "stream", "name": "stdout", "text": "9%|9 | 1/2"}
    for model in nb.metadata.widgets[pages.WIDGETS]["state"].values():
        if "outputs" in model["state"]:
            model["state"]["outputs"].append(stream)


def no_alt(nb: nbformat.NotebookNode) -> None:
    nb.cells[2].outputs[0].metadata = {}


SECRET = "tok" + "en=0123456789abcdef"
HOST = "https://files.py" + "thonhosted.org/x"
BUILT_BREAKS: dict[str, tuple[Callable, str]] = {
    "id": (lambda nb: nb.cells[2].update(id="other"), r"\[-\] the cells, their ids"),
    "cell order": (lambda nb: nb.cells.reverse(), r"\[-\] the cells, their ids"),
    "never run": (
        lambda nb: nb.cells[3].update(execution_count=None),
        r"\[bars\] its number is",
    ),
    "out of order": (
        lambda nb: nb.cells[3].update(execution_count=9),
        r"\[bars\] its number is",
    ),
    "no stamp": (
        lambda nb: nb.metadata.pop("vae_teach"),
        r"\[-\] the outputs are older",
    ),
    "edited": (output(1, "43\n"), r"\[-\] the outputs are not those that build stored"),
    "kernel": (lambda nb: nb.metadata.kernelspec.update(name="x"), r"\[-\] the kernel"),
    "error": (error, r"\[figure\] an error is stored"),
    "error in widget": (error_in_widget, r"\[slider\] an error is stored"),
    "stderr": (
        output(3, "careful", "stderr"),
        r"\[bars\] something was written to std",
    ),
    "bar": (output(3, "50%|##  | 1/2 [00:01<00:01]"), r"\[bars\] a progress bar is"),
    "bar without an end": (
        output(3, "12it [00:03, 4.2it/s]"),
        r"\[bars\] a progress b",
    ),
    "bar as a widget": (bar_as_widget, r"\[bars\] a progress bar is"),
    "bar in widget": (bar_in_widget, r"\[slider\] a progress bar is"),
    "pieces": (output(3, "1\n"), r"\[bars\] a stream in pieces"),
    "path": (output(3, "in /ho" + "me/ana/x"), r"\[bars\] a local path .*/home/"),
    "windows": (output(3, "in C:\\Users\\ana"), r"\[bars\] a local path .*Users"),
    "packages": (output(3, "lib/site-packages/x"), r"\[bars\] a local path .*packages"),
    "address": (output(3, "<object at 0x7f3a2b1c>"), r"\[bars\] a memory address"),
    "time": (
        lambda nb: nb.cells[3].metadata.update(execution={"x": "2026-11-01T10:00:00Z"}),
        r"\[bars\] a time would be published",
    ),
    "time of all": (
        lambda nb: nb.metadata.update(saved="2026-11-01T10:00:00Z"),
        r"\[-\] a time would be published",
    ),
    "secret": (output(3, f"http://x/?{SECRET}"), r"\[bars\] a secret would be"),
    "secret in text": (
        lambda nb: nb.cells[0].update(source=SECRET),
        r"\[title\] a secret",
    ),
    "host": (output(3, HOST), r"\[bars\] a registry would be published"),
    "no alt": (no_alt, r"\[figure\] an image has no alternative text"),
    "metadata": (
        lambda nb: nb.cells[2].metadata.update(mystnb={"image": {"alt": "x"}}),
        r"\[figure\] this cell differs from that of the .py",
    ),
    "path in alt": (
        lambda nb: (
            nb.cells[2].outputs[0].metadata["image/png"].update(alt="/ho" + "me/ana/x")
        ),
        r"\[figure\] a local path .*/home/",
    ),
    "size": (output(3, "0 " * 300_000), r"\[-\] 6\d\d,\d{3} bytes, more than 500,000"),
    "nothing to compare": (
        lambda nb: nb.cells[5].outputs.clear(),
        r"\[address\] tagged nbval-check-output, but shows no text",
    ),
    "raises": (
        lambda nb: nb.cells[3].metadata.update(tags=["raises-exception"]),
        r"\[bars\] tagged raises-exception, but raised nothing",
    ),
}


def test_a_table_is_no_progress_bar() -> None:
    assert not BAR.search("| 97% | 12 |\n|  3% |  1 |\n12 images/s, 3 s/image")


@pytest.mark.parametrize("case", BUILT_BREAKS)
def test_a_broken_notebook_is_named(case: str, course: Path) -> None:
    change, line = BUILT_BREAKS[case]
    change_built(course, change)
    assert re.search(rf"{NAME}\.(ipynb|py): {line}", problems(course)), problems(course)


def test_an_explorer_may_be_larger(course: Path) -> None:
    def enlarge(nb: nbformat.NotebookNode) -> None:
        output(3, "0 " * 300_000)(nb)
        saved = nb.metadata.widgets[pages.WIDGETS]["state"]
        next(iter(saved.values()))["model_module"] = "anywidget"

    change_built(course, enlarge)
    assert "bytes" not in problems(course)


# --- files --------------------------------------------------------------------------

FILE_BREAKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no notebooks": (
        lambda root: [p.unlink() for p in root.glob("*/*")],
        r"notebooks: \[-\] no notebooks",
    ),
    "one language": (
        lambda root: (root / "en" / f"{NAME}.py").unlink(),
        rf"{NAME}.py: \[-\] in one language only",
    ),
    "no source": (
        lambda root: [p.unlink() for p in root.glob("*/*.py")],
        rf"{NAME}.ipynb: \[-\] has no .py",
    ),
    "not built": (
        lambda root: (root / "pt" / f"{NAME}.ipynb").unlink(),
        rf"pt/{NAME}.ipynb: \[-\] missing or not readable",
    ),
    "not readable": (
        lambda root: (root / "pt" / f"{NAME}.ipynb").write_text("<<<<<<< HEAD"),
        rf"pt/{NAME}.ipynb: \[-\] missing or not readable",
    ),
    "lesson gone": (
        lambda root: [p.rename(p.with_stem("01_new")) for p in root.glob("*/*")],
        rf"translations.lock: \[-\] names {NAME}, which is gone",
    ),
}


HIDDEN = [".DS_Store", f"._{NAME}.py", ".hidden.ipynb", f".{NAME}.py.swp"]


@pytest.mark.parametrize("name", HIDDEN)
def test_what_systems_and_editors_leave_is_not_the_course(name, course: Path) -> None:
    (course / "pt" / name).write_bytes(b"\0\xff\xe7")
    folder = course / "en" / ".ipynb_checkpoints"
    folder.mkdir()
    (folder / f"{NAME}-checkpoint.py").write_bytes(b"\xff")
    (course / "pt" / "figures").mkdir()
    assert problems(course) == ""
    assert command(course, "build") == 0


def latin_1(path: Path) -> None:
    path.write_bytes(path.read_text(encoding="utf-8").encode("latin-1", "replace"))


def dangling(path: Path) -> None:
    path.unlink()
    path.mkdir()


SOURCE = rf"\Apt/{NAME}\.py: \[-\] {NAME}\.py"
UNREADABLE: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "source": (f"pt/{NAME}.py", latin_1, f"{SOURCE} is not UTF-8 text; save it as "),
    "header": (
        f"pt/{NAME}.py",
        lambda path: path.write_text('# %% key="a" tags=3\n1\n'),
        f"{SOURCE} cannot be read: ",
    ),
    "glossary": (
        "glossary.csv",
        latin_1,
        r"notebooks: \[-\] glossary.csv is not UTF-8",
    ),
    "no glossary": (
        "glossary.csv",
        Path.unlink,
        r"notebooks: \[-\] glossary.csv cannot be read: No such file",
    ),
    "no column": (
        "glossary.csv",
        lambda path: path.write_text("pt,en\n"),
        r"notebooks: \[-\] glossary.csv has no column 'not in Portuguese'",
    ),
    "short row": (
        "glossary.csv",
        lambda path: path.write_text("pt,en,not in Portuguese\na\n"),
        r"\A\Z",
    ),
    "lock": (
        "translations.lock",
        lambda path: path.write_bytes(b"\xe7"),
        r"notebooks: \[-\] translations.lock is not UTF-8 text",
    ),
    "lock a folder": (
        "translations.lock",
        dangling,
        r"notebooks: \[-\] translations.lock cannot be read: Is a directory",
    ),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_file_that_cannot_be_read_is_one_sentence(case, course: Path, capsys) -> None:
    name, spoil, line = UNREADABLE[case]
    spoil(course / name)
    said = problems(course)
    assert re.search(line, said), said
    assert len(said.splitlines()) <= 1
    wrong = int(said != "")
    assert command(course, "check") == wrong
    accepted = command(course, "accept", "--all")
    assert accepted == int("lock" in case)
    assert command(course, "build") == int(name.endswith(".py"))
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"\xff", b"", b"[]", b"{}", b'{"cells": 3}'])
def test_a_damaged_notebook_is_built_again(content: bytes, course: Path) -> None:
    path = course / "pt" / f"{NAME}.ipynb"
    before = path.read_bytes()
    path.write_bytes(content)
    assert "missing or not readable" in problems(course)
    assert command(course, "build", f"pt/{NAME}") == 0
    assert path.read_bytes() == before


@pytest.mark.parametrize("case", FILE_BREAKS)
def test_a_broken_course_is_named(case: str, course: Path) -> None:
    spoil, line = FILE_BREAKS[case]
    spoil(course)
    assert re.search(line, problems(course)), problems(course)
    assert command(course, "check") == 1


# --- one break for each alternative of a pattern --------------------------------------

FOLDERS = ["home", "root", "tmp", "Users", "work", "usr", "opt", "mnt", "var", "srv"]
SECRETS = ["token", "api_key", "apikey", "password", "secret", "API_KEY"]
PREFIXES = ["hf_", "ghp_", "github_pat_", "sk-"]
HOSTS = [
    "py" + "pi.org",
    "py" + "thonhosted.org",
    "registry.n" + "pmjs",
    "deb.d" + "ebian",
]
LEAKING = {
    "a local path": [
        *(f"in /{folder}/ana" for folder in FOLDERS),
        *(f"C:\\{folder}\\x" for folder in ("Users", "Windows", "Program", "Temp")),
        "lib/site-" + "packages/torch",
    ],
    "a secret": [
        *(f"{name}{by}abc-123" for name in SECRETS for by in ("=", "='", '="')),
        *(prefix + 16 * "x" for prefix in PREFIXES),
        *(f"BEGIN {kind}PRIVATE KEY" for kind in ("", "RSA ", "OPENSSH ")),
    ],
    "a registry": [f"https://{host}/x" for host in HOSTS],
    "a memory address": ["<object at 0x7f3a5c>", "0x7F3A5C0123456789"],
    "a time": ["2026-11-01T10:00", "2026-11-01T10:00:00Z"],
}
HARMLESS = [
    *(
        text.replace("#", "/")
        for text in ("and/or#home#x", "~#home#x", "https://a.b#tmp#x")
    ),
    *("../work/x", "a /homely/ b"),
    *("token=abc", "a token, six words", "sk-short", "hf_" + 15 * "x"),
    *("0x12", "2026-11-01", "at 10:00", "C:\\notes"),
]


@pytest.fixture(scope="module")
def page(executed: Path) -> pages.Page:
    return pages.read_page(executed / "pt" / f"{NAME}.py")


def first_output(page: pages.Page, text: str, kind: str = "text/plain") -> None:
    data = nbformat.v4.new_output("display_data", {kind: text})
    page.built.cells[2].outputs.insert(0, data)


def in_widget(page: pages.Page, text: str) -> None:
    shown = next(iter(pages.shown_models(page.built)))
    pages.models(page.built)[shown]["state"]["description"] = text


def in_output_widget(page: pages.Page, text: str) -> None:
    stream = {"output_type": "stream", "name": "stdout", "text": text}
    (outputs,) = [
        model["state"]["outputs"]
        for model in pages.models(page.built).values()
        if "outputs" in model["state"]
    ]
    outputs.append(stream)


PLACES: dict[str, Callable[[pages.Page, str], object]] = {
    "plain text": first_output,
    "HTML": lambda page, text: first_output(page, f"<p>{text}</p>", "text/html"),
    "SVG": lambda page, text: first_output(page, f"<svg>{text}", "image/svg+xml"),
    "markdown": lambda page, text: first_output(page, text, "text/markdown"),
    "LaTeX": lambda page, text: first_output(page, text, "text/latex"),
    "a stream": lambda page, text: output(2, text)(page.built),
    "a traceback": lambda page, text: page.built.cells[2].outputs.append(
        nbformat.v4.new_output("error", ename="E", evalue="e", traceback=["", text])
    ),
    "a widget": in_widget,
    "an Output widget": in_output_widget,
    "a cell's metadata": lambda page, text: page.built.cells[2].metadata.update(x=text),
    "the notebook's metadata": lambda page, text: page.built.metadata.update(x=[text]),
}


def leaks(page: pages.Page, place: str, text: str) -> list[pages.Problem]:
    spoilt = copy.deepcopy(page)
    PLACES[place](spoilt, text)
    return [*checking.check_leaks(spoilt)]


@pytest.mark.parametrize("kind", LEAKING)
def test_every_alternative_of_a_leak_is_seen(kind: str, page: pages.Page) -> None:
    unseen = [
        text
        for text in LEAKING[kind]
        if not any(
            what.startswith(f"{kind} would be published")
            for _, what in leaks(page, "plain text", text)
        )
    ]
    assert not unseen


def test_what_only_looks_like_a_leak_is_none(page: pages.Page) -> None:
    assert not [text for text in HARMLESS if leaks(page, "plain text", text)]


@pytest.mark.parametrize("kind", LEAKING)
def test_a_leak_is_seen_wherever_it_stands(kind: str, page: pages.Page) -> None:
    text = f"x {LEAKING[kind][0]}"
    assert not [place for place in PLACES if not leaks(page, place, text)]


def test_a_leak_in_a_source_is_seen_and_a_time_there_is_none(page: pages.Page) -> None:
    for kind, texts in LEAKING.items():
        spoilt = copy.deepcopy(page)
        spoilt.built.cells[1]["source"] = f"# {texts[0]}"
        found = [*checking.check_leaks(spoilt)]
        assert bool(found) == (kind not in ("a memory address", "a time")), kind


@pytest.mark.parametrize(
    "text",
    ["50%|##", "  0%|  | 0/3", "1.00it/s", "?it/s", "2.5s/it", "[00:01<?, ?s/it]"],
)
def test_every_form_of_a_progress_bar_is_seen(text: str, page: pages.Page) -> None:
    for place in ("plain text", "a stream", "an Output widget"):
        spoilt = copy.deepcopy(page)
        PLACES[place](spoilt, text)
        assert [w for _, w in checking.check_outputs(spoilt) if "progress bar" in w]


SHOWING = "print HTML Markdown text annotate title suptitle set_title xlabel set_xlabel"
SHOWING += " ylabel set_ylabel label alt description"


@pytest.mark.parametrize("name", SHOWING.split())
def test_a_word_is_seen_wherever_it_is_shown(name: str) -> None:
    for source in (f'{name}("Loss")', f'ax.{name}("Loss")', f'f({name}="Loss")'):
        assert [*checking.words_in_strings(source)] == ["Loss"], source
    assert not [*checking.words_in_strings(f'{name}("ELBO")')], "one of both languages"
    assert not [*checking.words_in_strings('f(loc="Loss"); {"Loss": 1}; g("Loss")')]


@pytest.mark.parametrize(
    ("module", "most"), [("none", 500_000), ("anywidget", 1_500_000)]
)
def test_the_size_is_limited_to_the_byte(module, most, page, tmp_path: Path) -> None:
    built = copy.deepcopy(page.built)
    for model in pages.models(built).values():
        model["model_module"] = module
    there = pages.Page(tmp_path / f"{NAME}.py", page.source, built)
    for size, problems_of_size in ((most, 0), (most + 1, 1)):
        (tmp_path / f"{NAME}.ipynb").write_bytes(size * b" ")
        found = [what for _, what in checking.check_size(there) if "bytes" in what]
        assert len(found) == problems_of_size, size


@pytest.mark.parametrize(
    ("image", "described"),
    [
        ('<img src="a" alt="A line">', True),
        ('<img alt="A line" src="a">', True),
        ('<img src="a" alt="">', False),
        ('<img src="a">', False),
        ("![A line](a)", True),
        ("![ ](a)", False),
    ],
)
def test_images_of_every_form_are_described(image, described, page) -> None:
    spoilt = copy.deepcopy(page)
    spoilt.source.cells[0]["source"] = f"{image}\n\nand {image}"
    assert (not [*checking.check_source(spoilt)]) == described


def test_the_glossary_rules_out_every_form_of_a_rendering(tmp_path: Path) -> None:
    file = tmp_path / "glossary.csv"
    row = "codificador,encoder,encoder; loss function; score (noun); x (for a y); *\n"
    file.write_text(f"pt,en,not in Portuguese\n{row}")

    def ruled_out(text: str) -> bool:
        return any(pattern.search(text) for pattern, _ in checking.forbidden(file))

    for text in (
        "encoder",
        "Encoders",
        "loss  function",
        "loss\nfunctions",
        "um score",
    ):
        assert ruled_out(text), text
    for text in ("decoder", "encoderx", "loss", "x", "function loss"):
        assert not ruled_out(text), text
