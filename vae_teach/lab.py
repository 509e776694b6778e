"""The command ``uv run lab [pt|en]``: JupyterLab, opened on the tour of the course.

JupyterLab's own menus speak the language of the lesson. So the course has JupyterLab
settings of its own, one folder a language: the reader's settings for other projects are
neither read nor written, and what they change here is kept.
"""

import json
import os
import sys
from contextlib import suppress
from pathlib import Path

import platformdirs

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

Opens the course in JupyterLab: in Portuguese (pt, the default) or in English (en).
Further arguments go to JupyterLab: uv run lab en --no-browser --port=9000
The arguments that it takes: uv run lab --help-all
"""
UNKNOWN = "lab: {!r}? As línguas são pt e en. / The languages are pt and en."
NO_COURSE = (
    "lab: o curso não está aqui, falta {0}: rode o comando no repositório clonado. / "
    "the course is not here, {0} is missing: run the command in the cloned repository."
)


def split_arguments(arguments: list[str]) -> tuple[str, list[str]]:
    """Return the language, and the remaining arguments, for JupyterLab.

    Portuguese is the default, also where the first argument is an option. Raises
    ValueError, in one sentence that names the two, for any other language.
    """
    if not arguments or arguments[0].startswith("-"):
        return "pt", arguments
    if arguments[0] not in LOCALES:
        raise ValueError(UNKNOWN.format(arguments[0]))
    return arguments[0], arguments[1:]


def jupyterlab_arguments(language: str, rest: list[str]) -> list[str]:
    """Return JupyterLab's arguments: ours, except those that ``rest`` sets itself.

    The file browser starts at the repository, so it shows both languages and the
    package. The server listens on this computer only and keeps its token. The layout of
    the tabs is the course's own, like the settings. Raises FileNotFoundError where the
    course is not around the package.
    """
    tour = f"notebooks/{language}/00_tour.ipynb"
    if not (HERE.parent / tour).is_file():
        raise FileNotFoundError(NO_COURSE.format(tour))
    ours = {
        ("--ServerApp.root_dir", "--notebook-dir"): str(HERE.parent),
        ("--ServerApp.ip", "--ip"): "localhost",
        ("--LabApp.default_url",): f"/lab/workspaces/vae-teach-{language}/tree/{tour}",
    }
    given = {argument.partition("=")[0] for argument in rest}
    kept = [f"{names[0]}={ours[names]}" for names in ours if given.isdisjoint(names)]
    return kept + rest


def settings_folder(language: str) -> Path:
    """Return the folder of the course's JupyterLab settings, created where missing.

    It starts with the language of the menus, and without the news pop-up; existing
    files are left unchanged. Raises OSError where nothing can be written.
    """
    folder = platformdirs.user_config_path("vae_teach") / "jupyterlab" / language
    first: dict[str, object] = {
        "translation-extension/plugin": {"locale": LOCALES[language]},
        "apputils-extension/notification": NEWS,
    }
    if language == "pt":
        menus = [{"id": f"jp-mainmenu-{k}", "label": v} for k, v in MENU_BAR.items()]
        first["mainmenu-extension/plugin"] = {"menus": menus}
    for name, settings in first.items():
        file = folder / "@jupyterlab" / f"{name}.jupyterlab-settings"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(settings), encoding="utf-8")
    return folder


def trust_notebooks(course: Path) -> None:
    """Sign the notebooks under ``course``, as ``jupyter trust`` does.

    JupyterLab shows saved widgets only in notebooks that it trusts, and a reader who
    runs this command is about to execute them anyway. A file that is not a notebook is
    skipped: JupyterLab reports what is wrong with it.
    """
    import nbformat
    from nbformat.sign import NotebookNotary

    notary = NotebookNotary()
    for path in sorted(course.glob("notebooks/*/*.ipynb")):
        with suppress(nbformat.reader.NotJSONError, nbformat.ValidationError):
            notary.sign(nbformat.read(path, as_version=4))


def main() -> None:
    """Open JupyterLab on the tour; ``--help`` explains the arguments.

    Raises SystemExit with code 2 for an unknown language and 1 where there is no
    course to open or no place for its settings, each with one sentence.
    """
    if sys.argv[1:] in (["-h"], ["--help"]):
        print(HELP, end="")
        return
    try:
        language, rest = split_arguments(sys.argv[1:])
        arguments = jupyterlab_arguments(language, rest)
        if "JUPYTERLAB_SETTINGS_DIR" not in os.environ:
            os.environ["JUPYTERLAB_SETTINGS_DIR"] = str(settings_folder(language))
    except (ValueError, OSError) as problem:
        print(problem, file=sys.stderr)
        raise SystemExit(2 if isinstance(problem, ValueError) else 1) from None
    trust_notebooks(HERE.parent)
    from jupyterlab.labapp import main as jupyterlab  # type: ignore[import-untyped]

    jupyterlab(arguments)
