"""The command ``lab [pt|en]``: JupyterLab, opened on the tour of the course.

JupyterLab's own menus speak the language of the lesson. So the course has JupyterLab
settings of its own, one folder a language: the reader's settings for other projects are
neither read nor written, and what they change here is kept. What opens are the reader's
own copies of the lessons: see :mod:`vae_teach.copies`. They stand in ``my-notebooks/``
of the clone; where the course came as a wheel, in that of the folder in which the
command is called; or wherever ``--to`` says.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from vae_teach.copies import FOLDER, course_around, make_copies
from vae_teach.words import LANGUAGES, say, use_language

HERE = Path(__file__).resolve().parent
LOCALES = {"pt": "pt_BR", "en": "en"}
NEWS = {"fetchNews": "false", "checkForUpdates": False}  # so no network requests
# What JupyterLab's language pack lacks: it leaves the menu bar in English.
MENU_BAR = {
    "file": "Arquivo",
    "edit": "Editar",
    "view": "Ver",
    "run": "Executar",
    "tabs": "Abas",
    "settings": "Configurações",
    "help": "Ajuda",
}
HELP = """\
uv run lab [pt|en] [...]

Abre o curso no JupyterLab: em português (pt, o padrão) ou em inglês (en).
Os argumentos seguintes vão para o JupyterLab: uv run lab pt --no-browser --port=9000
Os argumentos que ele aceita: uv run lab --help-all
Você trabalha em cópias suas, em my-notebooks, que atualização nenhuma altera.
Para pô-las em outra pasta: uv run lab pt --to PASTA
Para outro programa, como o VS Code, só fazer as cópias: uv run lab pt copy
Se o curso foi instalado com o pip, o comando é só lab: lab pt --to PASTA

Opens the course in JupyterLab: in Portuguese (pt, the default) or in English (en).
Further arguments go to JupyterLab: uv run lab en --no-browser --port=9000
The arguments that it takes: uv run lab --help-all
You work in copies of your own, in my-notebooks, which no update changes.
To have them in another folder: uv run lab en --to FOLDER
For another program, such as VS Code, only make the copies: uv run lab en copy
Where pip installed the course the command is lab alone: lab en --to FOLDER
"""
UNKNOWN = "lab: {!r}? As línguas são pt e en. / The languages are pt and en."
NO_COURSE = (
    "lab: o curso não está aqui, falta {0}: rode o comando no repositório clonado ou "
    "instale o curso de novo. / the course is not here, {0} is missing: run the "
    "command in the cloned repository, or install the course again."
)
NO_FOLDER = (
    "lab: --to precisa de uma pasta: lab pt --to PASTA / "
    "--to takes a folder: lab en --to FOLDER"
)
TEMPORARY = (
    "lab: não consigo usar {0} ({1}): por esta vez, uma pasta temporária, {2}. / "
    "{0} cannot be used ({1}): a temporary folder this time, {2}."
)


def split_arguments(arguments: list[str]) -> tuple[str, list[str]]:
    """Return the language, and the remaining arguments, for JupyterLab.

    Portuguese is the default, also where the first argument is an option. Raises
    ValueError, in one sentence that names the two, for any other language.
    """
    if not arguments or arguments[0].startswith("-"):
        return LANGUAGES[0], arguments
    if arguments[0] not in LOCALES:
        raise ValueError(UNKNOWN.format(arguments[0]))
    return arguments[0], arguments[1:]


def split_folder(arguments: list[str]) -> tuple[Path | None, list[str]]:
    """Return the folder that ``--to`` names, if any, and the remaining arguments.

    Raises ValueError, in one sentence, where it names none.
    """
    rest, to = list[str](), None
    given = iter(arguments)
    for argument in given:
        name, equals, value = argument.partition("=")
        if name != "--to":
            rest.append(argument)
            continue
        value = value if equals else next(given, "")
        if not value or value.startswith("-"):
            raise ValueError(NO_FOLDER)
        to = Path(value).expanduser().resolve()
    return to, rest


@dataclass(frozen=True)
class Place:
    """Where lessons come from, and where the reader's copies of them are.

    Args:
        course: the folder that holds ``notebooks/``.
        root: what JupyterLab's file browser shows.
        folder: that of the copies, as a path from the root.
        may_stay: whether lessons open where they are if nothing can be written.
    """

    course: Path
    root: Path
    folder: str = FOLDER
    may_stay: bool = True

    @property
    def copies(self) -> Path:
        """The folder of the reader's copies."""
        return self.root / self.folder

    @property
    def is_new(self) -> bool:
        """Whether the reader has never been here; ``--to`` may name a folder in use."""
        used = any(self.copies.glob("*/*.ipynb"))
        return not (self.copies.exists() if self.folder else used)


def find_place(to: Path | None = None) -> Place:
    """Return where to work: in ``to``, else in the clone, else in this very folder.

    What pip installed is no place to write in, so that lessons never open there.
    """
    course, is_clone = course_around(HERE)
    if to is not None:
        return Place(course, to, "", may_stay=False)
    return Place(course, course if is_clone else Path.cwd(), may_stay=is_clone)


def readers_folder(language: str, place: Place | None = None) -> str:
    """Return the folder in which the reader works, with a copy of every lesson.

    Says in a sentence what they must know of the copies. Where none can be written, as
    in a clone that several people share, the lessons open where they are. Raises
    FileNotFoundError where there is no course, OSError, in one sentence, where nothing
    can be written and the lessons must not open where they are.
    """
    place = place or find_place()
    tour = f"notebooks/{language}/00_tour.ipynb"
    if not os.path.isfile(place.course / tour):  # False also where it is not for us
        raise FileNotFoundError(NO_COURSE.format(tour))
    use_language(language)
    named = place.folder or str(place.copies)
    first = say("copies-first", folder=named) if place.is_new else ""
    try:
        beside, unread = make_copies(place.course, place.copies)
    except OSError as error:
        there = (place.copies / language / "00_tour.ipynb").exists()
        why = error.strerror or error
        if not there and not place.may_stay:
            raise OSError(say("copies-nowhere", folder=named, why=why)) from None
        key = "copies-old" if there else "copies-failed"
        print(say(key, folder=named, why=why), file=sys.stderr)
        return place.folder if there else "notebooks"
    news = [say("copy-beside", new=new.relative_to(place.root)) for new in beside]
    for sentence in filter(None, (first, *news, *unread)):
        print(sentence, file=sys.stderr)
    return place.folder


def jupyterlab_arguments(
    language: str, rest: list[str], folder: str, root: Path | None = None
) -> list[str]:
    """Return JupyterLab's arguments: ours, except those that ``rest`` sets itself.

    The file browser has ``root`` as its root, the repository's if None, and starts in
    ``folder``. The server listens on this computer only and keeps its token. The layout
    of the tabs is the course's own, like the settings.
    """
    root = root or find_place().root
    tour = f"{folder}/{language}/00_tour.ipynb".lstrip("/")
    if not os.path.exists(root / tour):  # moved: the reader sees their folder
        tour = str(Path(tour).parent)
    ours = {
        ("--ServerApp.root_dir", "--notebook-dir"): str(root),
        ("--ServerApp.ip", "--ip"): "localhost",
        ("--LabApp.default_url",): f"/lab/workspaces/vae-teach-{language}/tree/{tour}",
    }
    given = {argument.partition("=")[0] for argument in rest}
    kept = [f"{names[0]}={ours[names]}" for names in ours if given.isdisjoint(names)]
    return kept + rest


def find_folders(language: str) -> None:
    """Set the variables that name folders, for JupyterLab and its kernels.

    A home where the system knows of none; our settings; Jupyter's data; and the images
    if their path starts at this folder, since a kernel starts in another.
    """
    try:
        Path.home(), platformdirs.user_config_path("vae_teach")
    except RuntimeError as problem:
        os.environ["HOME"] = tempfile.mkdtemp(prefix="lab-")
        said = TEMPORARY.format("HOME", problem, os.environ["HOME"])
        print(said, file=sys.stderr)
    if "JUPYTERLAB_SETTINGS_DIR" not in os.environ:
        os.environ["JUPYTERLAB_SETTINGS_DIR"] = str(settings_folder(language))
    from jupyter_core.paths import jupyter_data_dir

    data = usable(Path(jupyter_data_dir()), check_jupyter)
    os.environ["JUPYTER_DATA_DIR"] = str(data)
    if os.path.exists(images := os.environ.get("VAE_TEACH_DATA", "")):
        os.environ["VAE_TEACH_DATA"] = os.path.abspath(images)


def usable(folder: Path, prepare: Callable[[Path], None]) -> Path:
    """Return ``folder`` prepared, or a temporary one where that fails, saying so."""
    try:
        prepare(folder)
    except OSError as problem:
        place, reason = problem.filename or folder, problem.strerror
        folder = Path(tempfile.mkdtemp(prefix="lab-"))
        print(TEMPORARY.format(place, reason, folder), file=sys.stderr)
        prepare(folder)
    return folder


def settings_folder(language: str) -> Path:
    """Return the folder of the course's JupyterLab settings, created where missing.

    It starts with the language of the menus, and without the news pop-up; existing
    files are left unchanged. Where it cannot be written it is a temporary one.
    """
    first: dict[str, object] = {
        "translation-extension/plugin": {"locale": LOCALES[language]},
        "apputils-extension/notification": NEWS,
    }
    if language == "pt":
        menus = [{"id": f"jp-mainmenu-{k}", "label": v} for k, v in MENU_BAR.items()]
        first["mainmenu-extension/plugin"] = {"menus": menus}

    def write(folder: Path) -> None:
        for name, settings in first.items():
            file = folder / "@jupyterlab" / f"{name}.jupyterlab-settings"
            if not file.exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(json.dumps(settings), encoding="utf-8")

    home = platformdirs.user_config_path("vae_teach")
    return usable(home / "jupyterlab" / language, write)


def check_jupyter(folder: Path) -> None:
    """Raise OSError unless Jupyter can keep its data in a folder: keys, signatures."""
    for place in (folder, folder / "runtime"):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=place).close()
    for file in (folder / "notebook_secret", folder / "nbsignatures.db"):
        if file.exists():
            file.open("r+b").close()


def trust_notebooks(place: Place) -> None:
    """Sign the course's notebooks and the reader's, as ``jupyter trust`` does.

    JupyterLab shows saved widgets only in notebooks that it trusts, and a reader who
    runs this command is about to execute them anyway. What is no notebook is skipped.
    """
    import nbformat
    from nbformat.sign import NotebookNotary

    notary = NotebookNotary()
    homes = (place.course / "notebooks", place.copies)
    folders = [home / language for home in homes for language in LANGUAGES]
    for path in sorted(path for folder in folders for path in folder.glob("*.ipynb")):
        with suppress(Exception):  # nbformat fails in many ways on what is no notebook
            notary.sign(nbformat.read(path, as_version=4))


def main() -> None:
    """Open JupyterLab on the tour; ``--help`` explains the arguments.

    Raises SystemExit with code 2 for an unknown language and 1 where there is no
    course to open, each with one sentence. A home that cannot be written, and a
    notebook that cannot be read, get a sentence each, and the course opens.
    """
    if sys.argv[1:] in (["-h"], ["--help"]):
        print(HELP, end="")
        return
    try:
        to, given = split_folder(sys.argv[1:])
        language, rest = split_arguments(given)
        place = find_place(to)
        folder = readers_folder(language, place)
        if rest == ["copy"]:
            return
        arguments = jupyterlab_arguments(language, rest, folder, place.root)
        find_folders(language)
    except (ValueError, OSError) as problem:
        print(problem, file=sys.stderr)
        raise SystemExit(2 if isinstance(problem, ValueError) else 1) from None
    trust_notebooks(place)
    from jupyterlab.labapp import main as jupyterlab  # type: ignore[import-untyped]

    jupyterlab(arguments)
