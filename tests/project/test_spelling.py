"""The English is spelt one way: British with -ize, as the field's optimizer asks for.

Read are pages, comments, docstrings and catalogues; code and titles of papers are not.
"""

import ast
import io
import re
import tokenize
from pathlib import Path

from listing import lists

ROOT = Path(__file__).resolve().parents[2]
OTHER_SPELLING = re.compile(
    r"""(?ix) \b (?:
    (?:un|re|multi)? (?:behavi|col|flav|harb|hon|neighb) or (?:s|ed|ing|ful|less|hood)?
    | favor (?:s|ed|ing|able|ite|ites)            # favor alone is Portuguese too
    | (?:re|un)? cent (?:er|ers|ered|ering) | fibers?
    | gray (?:s|er|ed|ness|ish|scale)?
    | (?:un|re)? learned | misspelled | spelled | spoiled
    | (?:un|re|mis)? (?:cance|labe|leve|mode|signa|trave) l (?:ed|er|ers|ing|ings)
    | (?:analy|cataly) z (?:e|ed|es|er|ers|ing)
    | toward | counterclockwise | catalogs? | defense | offense | skeptic\w*
    | (?:de|re|un|non)?
      (?:amort|binar|categor|character|discret|emphas|factor|final|general|initial
        |local|marginal|maxim|memor|minim|normal|optim|organ|parameter|parametr|penal
        |quant|random|real|recogn|regular|special|standard|summar|synchron|token|util
        |vector|visual)
      is (?:e|ed|es|er|ers|ing|able|ation|ations)
    ) \b"""
)
# What stands in prose and is none: fences, cells' headers, code, titles, addresses.
NO_PROSE = re.compile(
    r"(?ms)^[# ]*```.*?^[# ]*```|^ *# %%[^\n]*|`+[^`\n]+`+|\{[^{}\n]*\}"
    r"|\[\*[^\n]*?\*(?=\])|\]\([^)\n]*\)|https?://\S+"
)
# What stands in a catalogue and is not English: its keys, and the Portuguese.
NO_ENGLISH = re.compile(r"(?ms)^pt = .*?(?=^en = |^\[|^#|\Z)|^\[[^\n]*")
COMMENTS = {
    **dict.fromkeys(("css", "js", "mjs"), re.compile(r"(?s)/\*.*?\*/|(?<!:)//[^\n]*")),
    **dict.fromkeys(("cfg", "toml", "yml", "run", "postBuild"), re.compile("#[^\n]*")),
}
NAMED = ("WORDS", "PHRASES")  # what benchmarks/show.py and book/phrases.py say
FOLDERS = (
    ".",
    ".ci",
    "book",
    "book/pages/en",
    "book/static",
    "notebooks",
    "notebooks/en",
)
TREES = ("benchmarks", "tests", "tools", "vae_teach")
FILES = [
    *(file for folder in FOLDERS for file in (ROOT / folder).glob("*")),
    *(file for tree in TREES for file in (ROOT / tree).rglob("*")),
]
ENGLISH = [
    file
    for file in FILES
    if file.name.rpartition(".")[2] in {*COMMENTS, "cff", "md", "py"}
    and not file.name.endswith(".pt.md")
]


def words_in_python(text):
    """Yield line and source of comments, docstrings, catalogues and --help."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(ast.parse(text)):
        said = []
        if isinstance(node, documented) and ast.get_docstring(node):
            said = [node.body[0].value]
        elif isinstance(node, ast.keyword) and node.arg in ("help", "description"):
            said = [node.value]
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in NAMED:
            said = [
                value
                for part in ast.walk(node.value)
                for value in (*getattr(part, "values", ()), *getattr(part, "elts", ()))
                if isinstance(value, ast.Constant)
            ]
        for value in said:
            yield value.lineno, ast.get_source_segment(text, value)


def prose(file, text):
    """Return the English prose of a file, each word in the line where it stands."""
    kind = re.split("[./]", file)[-1]
    if kind == "py":
        found = words_in_python(text)
    elif kind == "toml" and "\nen = " in text:
        found = [(1, NO_ENGLISH.sub(lines_alone, text))]
    elif kind in COMMENTS:
        matches = COMMENTS[kind].finditer(text)
        found = [(1 + text.count("\n", 0, m.start()), m[0]) for m in matches]
    else:
        found = [(1, text)]
    lines = [""] * (text.count("\n") + 1)
    for first, words in found:
        for number, line in enumerate(words.split("\n"), start=first - 1):
            lines[number] += f" {line}"
    return NO_PROSE.sub(lines_alone, "\n".join(lines))


def lines_alone(match):
    return "\n" * match[0].count("\n")


def other_spellings(file, text):
    return [
        f"{file}:{number}: {word}"
        for number, line in enumerate(prose(file, text).split("\n"), start=1)
        for word in OTHER_SPELLING.findall(line)
    ]


@lists
def test_english_has_one_spelling():
    """British with -ize: colour, grey, centre, learnt, modelling; normalize."""
    names = {file.relative_to(ROOT).as_posix() for file in ENGLISH}
    assert {"README.md", "vae_teach/words.toml", "notebooks/en/00_tour.py"} <= names
    assert {"vae_teach/checks/tour.py", "vae_teach/explorer/explorer.js"} <= names
    for name in sorted(names):
        yield from other_spellings(name, (ROOT / name).read_text("utf-8"))


EXAMPLES = [
    ("a.md", "Grey.\n\nIt learned `color`, [*Gray*](center)", ["3: learned"]),
    ("a.md", "```python\ncolor = 1\n```\nthe Behavior", ["4: Behavior"]),
    ("a.py", '"""One.\n\nModeled.\n"""\ngray(color="gray")', ["3: Modeled"]),
    ("a.py", "color = 1  # optimise the optimizer", ["1: optimise"]),
    ("a.py", '# %% key="color"\n# the center_of a center', ["2: center"]),
    ("a.py", 'WORDS = {"color": ("a", "x"\n "labeled")}', ["2: labeled"]),
    ("a.py", 'add(help="a catalog", loc="upper center")', ["1: catalog"]),
    ("a.toml", '# ok\n[gray]\npt = "color"\nen = "{color} gray"', ["4: gray"]),
    ("a.css", "p { color: gray } /* toward */", ["1: toward"]),
    ("a.js", 'x.color = "gray"; // neighbors', ["1: neighbors"]),
    ("run", "color=gray # normalised", ["1: normalised"]),
]


@lists
def test_the_other_spelling_is_found_in_prose_and_not_in_code():
    for file, text, expected in EXAMPLES:
        lines = other_spellings(file, text)
        if lines != [f"{file}:{line}" for line in expected]:
            yield f"{text!r}: {lines}"
