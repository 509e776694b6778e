"""The two languages: the same code and marks, and texts accepted as saying the same.

translations.lock keeps a hash of each side of every text that was accepted.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from nbformat import NotebookNode

from tools.pages import (
    LANGUAGES,
    CourseError,
    Page,
    Problem,
    code_tree,
    comments,
    fingerprint,
    image_texts,
    output_lists,
    prose,
    read_page,
    read_text,
    sources,
    tags,
    texts,
    tokens,
    unsound,
    write_text,
)

NUMBER = r"\d+(?:[.,]\d+)*"  # 60,000 or 60.000, 0.5 or 0,5: marks change places
YEAR = r"(?<![\d.,])(?:19|20)\d\d(?!\d|[.,]\d)"  # a citation: Burda et al. (2015)


def pairs(root: Path, names: Sequence[str]) -> Iterator[tuple[Page, Page]]:
    """Every lesson that is there and sound in both languages."""
    for name in sorted({path.stem for path in sources(root, names)}):
        paths = [root / language / f"{name}.py" for language in LANGUAGES]
        with suppress(CourseError):  # one cannot be read, which the check of it says
            pt, en = map(read_page, paths)
            if not [*unsound(pt), *unsound(en)]:
                yield pt, en


def marks(text: str) -> dict[str, list[str]]:
    """Return what a translation must keep, by its name."""
    found: dict[str, list[str]] = {"formulas": [], "heading levels": []}
    found |= {"links": [], "images": [], "citations": re.findall(YEAR, prose(text))}
    for token in tokens(text):
        if token.type.startswith(("math", "amsmath")):
            formula = re.sub(r"\\text\w*\{[^{}]*\}|\s", "", token.content)
            found["formulas"].append(formula.replace("{,}", "."))  # 0{,}5 is 0.5
        elif token.type == "heading_open":
            found["heading levels"].append(token.tag)
        elif token.type == "myst_role" and token.meta["name"].startswith("cite"):
            found["citations"].append(token.content)
        html = token.content if token.type.startswith("html") else ""
        found["links"] += re.findall(r'href="([^"]*)"', html)
        found["images"] += re.findall(r'src="([^"]*)"', html)
        found["links"] += [str(v) for k, v in token.attrs.items() if k == "href"]
        found["images"] += [str(v) for k, v in token.attrs.items() if k == "src"]
    for kind in ("links", "images"):  # a page's own language and headings may differ
        bare = [t if ":" in t else re.sub("#.*", "#", t) for t in found[kind]]
        found[kind] = [re.sub(r"(^|/)(?:pt|en)/", r"\1xx/", t) for t in bare]
    numbers = re.findall(NUMBER, prose(text))
    found["numbers"] = [number.replace(",", ".") for number in numbers]
    for kind in ("links", "images", "citations", "numbers"):
        found[kind].sort()
    return found


# --- the same in both ---------------------------------------------------------------


def check_same(pt: Page, en: Page) -> Iterator[Problem]:
    """Both languages have the same cells in the same order; see also differences."""
    portuguese, english = ({c.id: c for c in page.source.cells} for page in (pt, en))
    for key in sorted(portuguese.keys() ^ english.keys()):
        missing = "Portuguese" if key in english else "English"
        yield key, f"this cell is missing in {missing}; add it there or remove it here"
    common = [key for key in portuguese if key in english]
    order = [key for key in english if key in portuguese]
    for key, other in zip(common, order, strict=True):
        if key != other:
            yield key, f"in English {other} stands here; use one order"
            break
    for key in common:
        yield from ((key, d) for d in differences(portuguese[key], english[key]))


def differences(pt: NotebookNode, en: NotebookNode) -> Iterator[str]:
    """What one cell has in one language only, less the words themselves."""
    if pt.cell_type != en.cell_type or tags(pt) != tags(en):
        yield "type or tags differ between the languages; use the same"
    elif pt.cell_type == "code":
        if code_tree(pt.source)[0] != code_tree(en.source)[0]:
            yield "the code differs between the languages; only comments may"
        there, here = len(comments(pt.source)), len(comments(en.source))
        if there != here:
            yield f"{there} comments in Portuguese, {here} in English: pair them"
    else:
        english = marks(en.source)
        for kind, found in marks(pt.source).items():
            if found != english[kind]:
                odd = ", ".join(sorted({*found} ^ {*english[kind]})) or "their order"
                yield f"{kind} differ between the languages ({odd}); make them equal"


def check_described(pt: Page, en: Page) -> Iterator[Problem]:
    """A figure's alternative text is in the page's language, so that the two differ."""
    described = [
        {(key, text) for key, outputs in lists for text in image_texts(outputs) if text}
        for lists in (output_lists(page.built) for page in (pt, en) if page.built)
    ]
    for key, text in sorted(set.intersection(*described)) if described[1:] else ():
        yield key, f"{text[:30]!r} describes an image in both languages; use words.toml"


# --- accepted -----------------------------------------------------------------------

Lock = dict[tuple[str, str], tuple[str, str]]  # (notebook, key): (Portuguese, English)


def read_lock(root: Path) -> Lock:
    """Read which texts were accepted as saying the same."""
    path = root / "translations.lock"
    text = read_text(path) if path.exists() else ""
    entries = re.findall(r"(?m)^(\S+) (\S+) ([0-9a-f]{12}) ([0-9a-f]{12})$", text)
    return {(name, key): (pt, en) for name, key, pt, en in entries}


def digests(pt: Page, en: Page) -> Lock:
    """Return a hash of each side of every text, whatever its line breaks."""
    said, name = [texts(page.source) for page in (pt, en)], pt.path.stem

    def digest(side: int, key: str) -> str:
        return fingerprint(" ".join(said[side].get(key, "").split()), 12)

    return {(name, key): (digest(0, key), digest(1, key)) for key in said[0] | said[1]}


def check_accepted(pt: Page, en: Page) -> Iterator[Problem]:
    """Every pair of texts was accepted as it now stands."""
    name, now = pt.path.stem, digests(pt, en)
    lock = {k: v for k, v in read_lock(pt.path.parents[1]).items() if k[0] == name}
    for (_, key), sides in now.items():
        advice = f"read both, then: tools/notebooks.py accept {key} --notebook {name}"
        before = lock.get((name, key))
        if before is None:
            yield key, f"the translation was never accepted; {advice}"
        elif before != sides:
            both = zip(LANGUAGES.values(), before, sides, strict=True)
            changed = " and the ".join(lang for lang, a, b in both if a != b)
            yield key, f"the {changed} text changed since it was accepted; {advice}"
    for _, key in sorted(lock.keys() - now.keys()):
        yield key, "accepted, but no longer there; run: tools/notebooks.py accept"


OF_A_PAIR = (check_same, check_described, check_accepted)


def check_pair(pt: Page, en: Page) -> Iterator[str]:
    """Every problem that one notebook's two languages have together."""
    for guard in OF_A_PAIR:
        for key, what in guard(pt, en):
            yield f"{pt.path.name}: [{key}] {what}"


def accept(root: Path, keys: Sequence[str], *, every: bool, notebook: str) -> list[str]:
    """Accept texts as they stand; forget those that are gone; return what changed."""
    before, now = read_lock(root), Lock()
    for pt, en in pairs(root, []):
        now |= digests(pt, en)
    wanted = {k for k in now if notebook in ("", k[0]) and (every or k[1] in keys)}
    for key in keys:
        found = sorted(name for name, k in wanted if k == key)
        if len(found) != 1:
            where = f"in {', '.join(found)}; add --notebook" if found else "nowhere"
            raise CourseError(f"[{key}] names a text {where}")
    unread = {path.stem for path in sources(root, [])} - {name for name, _ in now}
    kept = {k: v for k, v in before.items() if k in now or k[0] in unread}
    after = kept | {k: now[k] for k in wanted}
    head = "# notebook key Portuguese English: written by tools/notebooks.py accept"
    lines = [" ".join((*k, *after[k])) for k in sorted(after)]
    write_text(root / "translations.lock", "\n".join([head, *lines]))
    changed = sorted(k for k in before | after if before.get(k) != after.get(k))
    done = {k: "accepted" if k in after else "forgotten" for k in changed}
    return [f"{name}: [{key}] {what}" for (name, key), what in done.items()]
