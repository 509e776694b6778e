"""The guards of one notebook: its words, its outputs, and what must not be published.

Each takes a page and yields problems; nothing is run.
"""

import ast
import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jupytext.compare import NotebookDifference, compare_cells

from tools.building import KERNEL, joined, stamp
from tools.pages import (
    COMPARED,
    RAISES,
    CourseError,
    Page,
    Problem,
    called,
    code_cells,
    code_tree,
    image_texts,
    models,
    output_lists,
    prose,
    python,
    read_text,
    shown_models,
    strings,
    tags,
    texts,
    tokens,
    unsound,
)

MOST_BYTES, MOST_BYTES_WITH_EXPLORER = 500_000, 1_500_000

# --- words --------------------------------------------------------------------------

SHOWN_BY = re.compile(  # the functions and options whose text a reader sees
    "print|HTML|Markdown|text|annotate|(?:sup|set_)?title|(?:set_)?[xy]label|label|alt"
    "|description"
)
NEUTRAL = {"adam", "beta", "cpu", "elbo", "eps", "exp", "gpu", "iwae", "log", "logvar"}
NEUTRAL |= {"mnist", "nats", "sigma", "vae"}  # the same in both languages


def words_in_strings(source: str) -> Iterator[str]:
    """Every string of a code cell that holds words of some language.

    Two words count anywhere; one counts where it is shown: printed, a title, a label.
    """
    tree, shown = ast.parse(python(source)), set[ast.AST]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            shown |= {k.value for k in node.keywords if SHOWN_BY.fullmatch(k.arg or "")}
            shown |= set(node.args) if SHOWN_BY.fullmatch(called(node)) else set()
            node.args = [] if called(node).startswith("run_") else node.args  # a magic
            node.keywords = [k for k in node.keywords if k.arg != "loc"]  # "upper left"
    for node in ast.walk(tree):
        parts = node.values if isinstance(node, ast.JoinedStr) else [node]
        values = [part.value for part in parts if isinstance(part, ast.Constant)]
        text = " ".join(value for value in values if isinstance(value, str))
        words = re.findall(r"[^\W\d_]{3,}", re.sub(r"\$[^$]*\$", "", text))
        words = [word for word in words if word.lower() not in NEUTRAL]
        if (len(words) > 1 and " " in text.strip()) or (words and node in shown):
            yield text.strip()


def forbidden(glossary: Path) -> Iterator[tuple[re.Pattern[str], str]]:
    """Every rendering the glossary rules out, with the course's own word.

    One marked "(for ...)" is wrong in that sense only ("anterior" for a prior, "provar"
    for to sample) and right elsewhere, so that no test can tell: it is left to readers.
    """
    rows = csv.DictReader(read_text(glossary).splitlines())
    if missing := {"pt", "not in Portuguese"} - {*(rows.fieldnames or ())}:
        raise CourseError(f"{glossary.name} has no column {min(missing)!r}; add it")
    for row in rows:
        for rendering in (row["not in Portuguese"] or "").split(";"):
            words = re.sub(r"\(.*", "", rendering).split()
            if words and "(for " not in rendering:
                pattern = r"\s+".join(map(re.escape, words))
                yield re.compile(rf"(?i)\b{pattern}(?:e?s)?\b"), row["pt"]


def calques(file: Path) -> Iterator[tuple[re.Pattern[str], str]]:
    """Every pattern of Portuguese that lessons are held to, with a better way."""
    for row in csv.DictReader(read_text(file).splitlines()):
        if row["lessons"] == "yes":
            yield re.compile(f"(?i){row['pattern']}"), row["better"]


def check_source(page: Page) -> Iterator[Problem]:
    """Code speaks no language but the page's own; images in markdown are described."""
    use = f'write use_language("{page.language}"), the page\'s language'
    for cell in code_cells(page.source):
        if code_tree(cell.source)[1] - {repr(page.language)}:
            yield cell.id, use
        for text in words_in_strings(cell.source):
            advice = "words go into vae_teach/words.toml, explanations into comments"
            yield cell.id, f"a string holds words, {text[:40]!r}; {advice}"
            break
    for key, text in texts(page.source).items():
        for token in tokens(text):
            html = token.content if token.type.startswith("html") else ""
            bare = re.search(r'<img\b(?![^>]*\balt="[^"])', html)
            if bare or (token.type == "image" and not token.content.strip()):
                yield key, "an image has no alternative text; write ![text](file)"


def check_glossary(page: Page) -> Iterator[Problem]:
    """Portuguese prose and comments use the glossary's words, and no known calque."""
    folder = page.path.parents[1]
    rules = [*forbidden(folder / "glossary.csv"), *calques(folder / "portuguese.csv")]
    for key, text in texts(page.source).items() if page.language == "pt" else ():
        for pattern, word in rules:
            if found := pattern.search(prose(text)):
                yield key, f"{found[0]!r} is not used here; write {word!r}"


# --- what was built -----------------------------------------------------------------


def check_in_sync(page: Page) -> Iterator[Problem]:
    """The two files of a pair say the same, and every cell's id is its key."""
    built = {cell.id: cell for cell in page.built.cells}
    if [*built] != [cell.id for cell in page.source.cells]:
        yield "-", "the cells, their ids or their order are not those of the .py"
    for cell in page.source.cells:
        if twin := built.get(cell.id):
            pair = [twin], [cell]
            try:
                compare_cells(*pair, compare_outputs=False, compare_ids=False)
            except NotebookDifference:
                yield cell.id, "this cell differs from that of the .py"


def check_executed(page: Page) -> Iterator[Problem]:
    """Every code cell was run, in order, and the outputs belong to the code."""
    for number, cell in enumerate(code_cells(page.built), 1):
        if cell.execution_count != number:
            yield cell.id, f"its number is {cell.execution_count}, not {number}"
    found = page.built.metadata.get("vae_teach", {})
    now = stamp(page.path, page.source, page.built)
    for name, problem in (
        ("code_hash", "the outputs are older than the code"),
        ("phrases_hash", "the outputs are older than the phrases that they show"),
        ("outputs_hash", "the outputs are not those that build stored"),
    ):
        if found.get(name) != now[name]:
            yield "-", problem
    if page.built.metadata.get("kernelspec") != KERNEL:
        yield "-", "the kernel is not python3"
    if models(page.built).keys() != shown_models(page.built).keys():
        yield "-", "widgets that no cell shows are stored"


BAR = re.compile(r"\d%\||[\d?](?:it/s|s/it)")  # 50%|##  | 1/2 [00:01<00:01, 1.00it/s]


def check_outputs(page: Page) -> Iterator[Problem]:
    """No errors, stderr or progress bars; every image described."""
    cells = {cell.id: cell for cell in code_cells(page.built)}
    for key, outputs in output_lists(page.built):
        kinds = {output.get("name", output["output_type"]) for output in outputs}
        if "error" in kinds and RAISES not in tags(cells[key]):
            yield key, "an error is stored; fix the cell"
        if "stderr" in kinds:
            yield key, "something was written to stderr; fix its cause"
        if any(BAR.search(text) for _, _, text in strings(outputs)):
            yield key, "a progress bar is stored; import tqdm from tqdm, not tqdm.auto"
        if joined(outputs) != list(outputs):
            yield key, "a stream in pieces is stored"
        if "" in image_texts(outputs):
            advice = 'display it with metadata={"image/png": {"alt": ...}}'
            yield key, f"an image has no alternative text; {advice}"
    for key, cell in cells.items():
        raised = any(output.output_type == "error" for output in cell.outputs)
        if RAISES in tags(cell) and not raised:
            yield key, f"tagged {RAISES}, but raised nothing; remove the tag"


LEAKS = {
    r"(?<![\w.~/-])/(?:home|root|tmp|Users|work|usr|opt|mnt|var|srv)/": "a local path",
    r"\b[A-Z]:\\(?:Users|Windows|Program|Temp)|site-packages": "a local path",
    r"(?i)\b(?:token|api_?key|password|secret)=['\"]?[\w-]{6,}": "a secret",
    r"\b(?:hf_|ghp_|github_pat_|sk-)\w{16,}|BEGIN [A-Z ]*PRIVATE KEY": "a secret",
    r"p[y]pi\.org|p[y]thonhosted\.org|registry\.n[p]mjs|deb\.d[e]bian": "a registry",
}
VOLATILE = {
    r"\b0x[0-9a-fA-F]{6,}\b": "a memory address",
    r"\b\d{4}-\d\d-\d\dT\d\d:\d\d": "a time",
}


def check_leaks(page: Page) -> Iterator[Problem]:
    """No paths, addresses, secrets, registries or times are committed."""
    other = {k: v for k, v in page.built.metadata.items() if k != "widgets"}
    contents: list[tuple[str, Any, dict[str, str]]] = [("-", other, LEAKS | VOLATILE)]
    for cell in page.built.cells:
        contents += [(cell.id, [cell.source], LEAKS)]
        contents += [(cell.id, [cell.metadata, cell.get("outputs")], LEAKS | VOLATILE)]
    for model, key in shown_models(page.built).items():
        contents += [(key, models(page.built)[model], LEAKS | VOLATILE)]
    for key, content, patterns in contents:
        text = "\n".join(found for _, _, found in strings(content))
        for pattern, kind in patterns.items():
            if match := re.search(pattern, text):
                yield key, f"{kind} would be published, {match[0]!r}; take it out"


def check_size(page: Page) -> Iterator[Problem]:
    """A notebook stays small, and nbval compares enough of its outputs."""
    modules = {model["model_module"] for model in models(page.built).values()}
    most = MOST_BYTES_WITH_EXPLORER if "anywidget" in modules else MOST_BYTES
    size = page.path.with_suffix(".ipynb").stat().st_size
    if size > most:
        yield "-", f"{size:,} bytes, more than {most:,}; show fewer or smaller figures"
    compared = [cell for cell in code_cells(page.built) if COMPARED in tags(cell)]
    if len(compared) < 3:
        yield "-", f"{len(compared)} cells tagged {COMPARED}; tag three that never vary"
    for cell in compared:  # nbval compares neither pictures nor widgets
        kinds = [" ".join(output.get("data", ())) for output in cell.outputs]
        if all("image/" in kind or "widget" in kind for kind in kinds):
            yield cell.id, f"tagged {COMPARED}, but shows no text to compare"


# --- all of them --------------------------------------------------------------------

OF_A_SOURCE = (check_source, check_glossary)
OF_A_BUILD = (check_in_sync, check_executed, check_outputs, check_leaks, check_size)


def check_page(page: Page) -> Iterator[str]:
    """Every problem of one notebook in one language."""
    file, found = f"{page.language}/{page.path.stem}", [*unsound(page)]
    found = found or [problem for guard in OF_A_SOURCE for problem in guard(page)]
    yield from (f"{file}.py: [{key}] {what}" for key, what in found)
    found = [("-", "missing or not readable")]
    if page.built:
        found = [problem for guard in OF_A_BUILD for problem in guard(page)]
    for key, what in found:
        yield f"{file}.ipynb: [{key}] {what}; run: tools/notebooks.py build"
