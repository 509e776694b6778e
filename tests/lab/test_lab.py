"""The command ``lab``: what it passes on, what it refuses, what it leaves alone."""

import json
import os
import pkgutil
import shutil
import socket
import subprocess
import sys
import threading
import types
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
import platformdirs
import psutil
import pytest
from lab_server import REPOSITORY, running_lab, wait_for
from nbformat.sign import NotebookNotary

from vae_teach import lab

TRANSLATION = "/lab/api/settings/@jupyterlab/translation-extension:plugin"


@pytest.fixture
def course(tmp_path, monkeypatch):
    """Return a repository with two empty tours; ``lab`` believes it is its own."""
    folder = tmp_path / "course"
    for language in lab.LOCALES:
        tour = folder / "notebooks" / language / "00_tour.ipynb"
        tour.parent.mkdir(parents=True)
        tour.write_text('{"cells":[],"metadata":{},"nbformat":4,"nbformat_minor":5}')
    (folder / "vae_teach").mkdir()
    (folder / "my-notebooks").mkdir()  # as if it had been opened before
    monkeypatch.setattr(lab, "HERE", folder / "vae_teach")
    return folder


@pytest.fixture
def started(tmp_path, monkeypatch):
    """Return the list of the arguments that JupyterLab is started with."""
    calls = []
    monkeypatch.setattr("jupyterlab.labapp.main", calls.append)
    monkeypatch.setenv("JUPYTERLAB_SETTINGS_DIR", "")  # so that it is put back
    monkeypatch.delenv("JUPYTERLAB_SETTINGS_DIR")
    monkeypatch.setattr("platformdirs.user_config_path", tmp_path.joinpath)
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))  # signatures
    return calls


def run_main(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["lab", *arguments])
    lab.main()


@pytest.mark.parametrize(
    ("given", "language", "rest"),
    [
        ([], "pt", []),
        (["pt"], "pt", []),
        (["en"], "en", []),
        (["en", "--no-browser", "x"], "en", ["--no-browser", "x"]),
        (["--port=9000"], "pt", ["--port=9000"]),
    ],
)
def test_language_and_arguments(
    course, started, monkeypatch, tmp_path, given, language, rest
):
    run_main(monkeypatch, *given)
    assert started == [
        [
            f"--ServerApp.root_dir={course}",
            "--ServerApp.ip=localhost",
            f"--LabApp.default_url=/lab/workspaces/vae-teach-{language}"
            f"/tree/my-notebooks/{language}/00_tour.ipynb",
            *rest,
        ]
    ]
    folder = Path(os.environ["JUPYTERLAB_SETTINGS_DIR"])
    assert folder == tmp_path / "vae_teach" / "jupyterlab" / language


def read(folder):
    """Return what the settings folder says, setting by setting."""
    files = sorted(folder.rglob("*.jupyterlab-settings"))
    return {str(f.relative_to(folder).with_suffix("")): f.read_text() for f in files}


@pytest.mark.parametrize(("language", "locale"), [("pt", "pt_BR"), ("en", "en")])
def test_settings_of_the_course_start_with_its_language(started, language, locale):
    folder = lab.settings_folder(language)
    first = {name: json.loads(text) for name, text in read(folder).items()}
    menus = first.pop("@jupyterlab/mainmenu-extension/plugin", {"menus": []})["menus"]
    assert ({"id": "jp-mainmenu-file", "label": "Arquivo"} in menus) == (
        language == "pt"
    )
    assert first == {
        "@jupyterlab/translation-extension/plugin": {"locale": locale},
        "@jupyterlab/apputils-extension/notification": {
            "fetchNews": "false",
            "checkForUpdates": False,
        },
    }


def test_what_the_reader_changed_is_kept(started):
    file = "@jupyterlab/translation-extension/plugin.jupyterlab-settings"
    (lab.settings_folder("pt") / file).write_text("theirs")
    assert read(lab.settings_folder("pt"))[file.partition(".")[0]] == "theirs"
    assert "theirs" not in read(lab.settings_folder("en")).values()


def test_a_settings_folder_of_the_reader_is_used_as_it_is(
    course, started, monkeypatch, tmp_path
):
    monkeypatch.setenv("JUPYTERLAB_SETTINGS_DIR", "theirs")
    run_main(monkeypatch)
    assert os.environ["JUPYTERLAB_SETTINGS_DIR"] == "theirs"
    assert not (tmp_path / "vae_teach").exists()
    assert len(started) == 1


@pytest.mark.parametrize(
    ("folder", "variable"),
    [
        ("vae_teach", "JUPYTERLAB_SETTINGS_DIR"),
        ("vae_teach/jupyterlab/en", "JUPYTERLAB_SETTINGS_DIR"),
        ("jupyter", "JUPYTER_DATA_DIR"),
        ("jupyter/runtime", "JUPYTER_DATA_DIR"),
    ],
)
def test_a_folder_that_cannot_be_written_is_said_and_the_course_opens(
    course, started, monkeypatch, tmp_path, capsys, folder, variable
):
    (tmp_path / folder).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / folder).write_text("a file where a folder must be")
    run_main(monkeypatch, "en")
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{tmp_path / folder}" in said
    assert "Errno" not in said
    assert os.environ[variable] in said
    assert len(started) == 1
    notary = NotebookNotary()  # of the temporary folder, where that is in use
    tour = nbformat.read(course / "notebooks" / "en" / "00_tour.ipynb", as_version=4)
    assert notary.check_signature(tour)
    if variable == "JUPYTERLAB_SETTINGS_DIR":
        assert len(read(Path(os.environ[variable]))) == 2


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ("pathlib.Path.write_text", PermissionError(13, "Permission denied", "/x")),
        ("tempfile.TemporaryFile", OSError(30, "Read-only file system", "/x")),
    ],
)
def test_a_disk_that_refuses_once_is_said(
    course, started, monkeypatch, capsys, target, error
):
    refused, real = [], pkgutil.resolve_name(target)

    def refuse_once(*args, **options):
        if not refused:
            refused.append(1)
            raise error
        return real(*args, **options)

    monkeypatch.setattr(target, refuse_once)
    run_main(monkeypatch, "en")
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"/x cannot be used ({error.strerror})" in said
    assert len(started) == 1


def test_no_home_gets_a_temporary_one(course, started, monkeypatch, capsys):
    def unknown(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    real = platformdirs.PlatformDirs
    monkeypatch.setattr(
        "platformdirs.user_config_path", lambda name: real(name).user_config_path
    )
    monkeypatch.setattr("pwd.getpwuid", unknown)
    for name in ("HOME", "XDG_CONFIG_HOME", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    run_main(monkeypatch, "en")
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "HOME cannot be used" in said
    assert os.environ["JUPYTERLAB_SETTINGS_DIR"].startswith(os.environ["HOME"])
    assert len(started) == 1


def test_the_folder_of_the_images_is_the_one_seen_from_here(
    course, started, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    for given, kept in ("course", str(course)), ("nowhere", "nowhere"), ("", ""):
        monkeypatch.setenv("VAE_TEACH_DATA", given)
        run_main(monkeypatch)
        assert os.environ["VAE_TEACH_DATA"] == kept


@pytest.mark.parametrize("own", [["--ip=1.2.3.4"], ["--ServerApp.ip", "1.2.3.4"]])
def test_only_the_reader_opens_the_server_to_others(course, own):
    arguments = lab.jupyterlab_arguments("pt", own, "my-notebooks")
    assert "--ServerApp.ip=localhost" not in arguments
    assert arguments[-len(own) :] == own


def test_another_language_gets_a_sentence_that_names_both(started, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stop:
        run_main(monkeypatch, "fr")
    assert stop.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == (
        "lab: 'fr'? As línguas são pt e en. / The languages are pt and en.\n"
    )
    assert started == []


def test_without_the_course_it_says_so(course, started, monkeypatch, capsys):
    (course / "notebooks" / "en" / "00_tour.ipynb").unlink()
    with pytest.raises(SystemExit) as stop:
        run_main(monkeypatch, "en")
    assert stop.value.code == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert message.count("notebooks/en/00_tour.ipynb") == 2
    assert started == []


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_speaks_both_languages(started, monkeypatch, capsys, flag):
    run_main(monkeypatch, flag)
    printed = capsys.readouterr().out
    assert "uv run lab [pt|en]" in printed
    assert "vão para o JupyterLab" in printed
    assert "go to JupyterLab" in printed
    assert started == []


def test_the_notebooks_of_the_course_are_trusted(course, started, monkeypatch):
    path = course / "notebooks" / "en" / "01_other.ipynb"
    written = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")])
    nbformat.write(written, path)
    notary = NotebookNotary()
    assert not notary.check_signature(nbformat.read(path, as_version=4))
    run_main(monkeypatch, "en")
    assert len(started) == 1
    copy = course / "my-notebooks" / "en" / path.name
    for trusted in (path, copy):
        signed = nbformat.read(trusted, as_version=4)
        assert NotebookNotary().check_signature(signed)


@pytest.mark.parametrize("language", ["pt", "en"])
def test_copies_alone_for_another_program(course, started, monkeypatch, language):
    run_main(monkeypatch, language, "copy")
    assert (course / "my-notebooks" / language / "00_tour.ipynb").is_file()
    assert started == []


NO_NOTEBOOKS = {
    "dangling": lambda path: path.symlink_to("nowhere"),
    "circular": lambda path: path.symlink_to(path),
    "folder": lambda path: path.mkdir(),
    "latin-1": lambda path: path.write_bytes('{"cells": "é"}'.encode("latin-1")),
    "binary": lambda path: path.write_bytes(bytes(range(256))),
} | {
    text[:50]: lambda path, text=text: path.write_text(text, encoding="utf-8")
    for text in (
        *("", "half\na note", "[]", "{}", "null", "42", "[" * 100_000, "\ufeff{}"),
        '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [1]}',
        '{"nbformat": 99, "cells": []}',
        '{"nbformat": 3, "worksheets": 1}',
    )
}


@pytest.mark.parametrize("kind", NO_NOTEBOOKS)
def test_what_is_no_notebook_gets_a_sentence(
    course, started, monkeypatch, capsys, kind
):
    NO_NOTEBOOKS[kind](course / "notebooks" / "en" / "broken.ipynb")
    run_main(monkeypatch, "en")
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "notebooks/en/broken.ipynb cannot be read as a notebook" in said
    assert len(started) == 1
    for tour in course.glob("notebooks/*/00_tour.ipynb"):  # the others are trusted
        assert NotebookNotary().check_signature(nbformat.read(tour, as_version=4))


def test_jupyterlab_is_loaded_only_to_be_opened():
    code = "import sys, vae_teach.lab; sys.exit('jupyterlab' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)


def test_a_server_that_describes_itself_too_early_is_waited_for(tmp_path):
    (tmp_path / "RUNTIME").mkdir()
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))  # and answers nobody yet
        about = {"port": port.getsockname()[1], "token": "t", "pid": 1}
        (tmp_path / "RUNTIME" / "jpserver-1.json").write_text(json.dumps(about))
        opened = threading.Timer(0.5, port.listen)
        opened.start()
        process = types.SimpleNamespace(poll=lambda: None)
        assert wait_for(process, tmp_path).token == "t"
        assert opened.finished.is_set()


def ask(server, path, token, body=None):
    """Return what the server answers: parsed JSON."""
    request = urllib.request.Request(f"{server.url}{path}", data=body)
    request.method = "PUT" if body else "GET"
    request.add_header("Authorization", f"token {token}")
    with urllib.request.urlopen(request, timeout=30) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def test_a_real_server_is_closed_to_others_and_keeps_what_the_reader_chose(
    course, tmp_path
):
    shutil.rmtree(course / "vae_teach")
    shutil.copytree(REPOSITORY / "vae_teach", course / "vae_teach")
    home = tmp_path / "home"
    user_settings = home / "CONFIG" / "lab" / "user-settings"
    theirs = user_settings / "@jupyterlab/apputils-extension/themes.jupyterlab-settings"
    theirs.parent.mkdir(parents=True)
    theirs.write_text('{"theme": "JupyterLab Dark"}')

    with running_lab(course, home) as server:
        assert len(server.token) >= 32
        with pytest.raises(urllib.error.HTTPError, match="403"):
            ask(server, TRANSLATION, "wrong")
        about = ask(server, TRANSLATION, server.token)
        assert about["settings"] == {"locale": "pt_BR"}
        assert about["schema"]["title"] == "Idioma"  # the server too speaks Portuguese
        connections = psutil.Process(server.pid).net_connections()
        listening = {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN}
        assert listening <= {"127.0.0.1", "::1"}
        body = json.dumps({"raw": '{"locale": "es_ES"}'}).encode()
        ask(server, TRANSLATION, server.token, body)
    with running_lab(course, home) as server:
        about = ask(server, TRANSLATION, server.token)
        assert about["settings"] == {"locale": "es_ES"}
    saved = [file for file in user_settings.rglob("*") if file.is_file()]
    assert saved == [theirs]
    assert theirs.read_text() == '{"theme": "JupyterLab Dark"}'


# --- a folder of the reader's choice --------------------------------------------------


@pytest.mark.parametrize("given", [["--to", "x y"], ["--to=x y"], ["--to", "./x y/"]])
def test_the_reader_says_where(course, started, monkeypatch, tmp_path, given):
    monkeypatch.chdir(tmp_path)
    run_main(monkeypatch, "en", *given, "--no-browser")
    tree = "/lab/workspaces/vae-teach-en/tree/en/00_tour.ipynb"
    assert started == [
        [
            f"--ServerApp.root_dir={tmp_path / 'x y'}",
            "--ServerApp.ip=localhost",
            f"--LabApp.default_url={tree}",
            "--no-browser",
        ]
    ]
    assert not list((course / "my-notebooks").iterdir())
    copy = nbformat.read(tmp_path / "x y" / "en" / "00_tour.ipynb", as_version=4)
    assert NotebookNotary().check_signature(copy)


def test_a_home_folder_is_the_readers(course, started, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    run_main(monkeypatch, "pt", "--to=~/mine", "copy")
    assert (tmp_path / "mine" / "pt" / "00_tour.ipynb").is_file()


@pytest.mark.parametrize("given", [["--to"], ["--to="], ["--to", "--no-browser"]])
def test_a_folder_that_is_not_named_is_asked_for(
    course, started, monkeypatch, capsys, given
):
    with pytest.raises(SystemExit) as stop:
        run_main(monkeypatch, "en", *given)
    assert stop.value.code == 2
    assert capsys.readouterr().err == lab.NO_FOLDER + "\n"
    assert started == []


def test_only_the_courses_folders_are_trusted(course, started, monkeypatch, tmp_path):
    theirs = tmp_path / "x" / "theirs" / "a.ipynb"
    theirs.parent.mkdir(parents=True)
    cells = [nbformat.v4.new_code_cell("1")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), theirs)
    run_main(monkeypatch, "en", "--to", str(tmp_path / "x"))
    assert not NotebookNotary().check_signature(nbformat.read(theirs, as_version=4))


@pytest.mark.parametrize("language", ["pt", "en"])
def test_a_folder_in_use_is_told_of_once(
    course, started, monkeypatch, tmp_path, capsys, language
):
    for times in (1, 0):
        run_main(monkeypatch, language, "copy", "--to", str(tmp_path))
        assert capsys.readouterr().err.count(str(tmp_path)) == times
