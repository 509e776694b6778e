"""The tour in a real JupyterLab and a real Chromium, as a reader meets it."""

import functools
import hashlib
import json
from contextlib import suppress

import pytest
from lab_page import (
    EXPOSED,
    NOT_RUN_WELL,
    OPEN,
    PATIENCE,
    RUN_ALL,
    SECOND,
    SHUT_DOWN,
    new_page,
)
from lab_server import REPOSITORY, copy_course, running_lab

from vae_teach.explorer import LatentExplorer

pytestmark = pytest.mark.browser

STATE = "application/vnd.jupyter.widget-state+json"
MENU = {"pt": "Arquivo", "en": "File"}
# JupyterLab asks for a saved widget every 100 ms, and gives up for good where it comes
# in the last of these pauses: about one opening in ten. One long pause makes it each.
LONG_PAUSE = """{
  const pause = window.setTimeout, { toString } = Function.prototype;
  window.setTimeout = (act, ms, ...rest) => {
    const bare = toString.call(act).includes("[native");
    return pause(act, bare && ms === 100 ? 2200 : ms, ...rest);
  };
}"""
ASK = """async code => {
  const { kernel } = jupyterapp.shell.currentWidget.sessionContext.session;
  const request = { code: "", user_expressions: { code }, store_history: false };
  const reply = await kernel.requestExecute(request).done;
  return reply.content.user_expressions.code.data["text/plain"];
}"""
SHOWN = """() => jupyterapp.shell.currentWidget.content.widgets
  .map(({ outputArea }) => outputArea?.node.innerText.slice(0, 80) ?? "")
  .filter(said => said.trim())"""
KERNEL = """async () => {
  const { sessionContext } = jupyterapp.shell.currentWidget;
  await sessionContext.ready;
  await sessionContext.session.kernel.info;
}"""
DIRTY = "jupyterapp.shell.currentWidget.context.model.dirty"
ANSWER = """async answer => {
  const { content, context } = jupyterapp.shell.currentWidget;
  const cells = content.widgets.filter(({ model }) => model.type === "code");
  cells.at(-1).model.sharedModel.setSource(answer);
  await context.save();
}"""
PIXELS = "c => String(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)"


@pytest.fixture
def tour(browser, tmp_path):
    """Yield the tour, opened by ``lab``; at the end, nothing may have gone wrong.

    In Portuguese, the default: the code of both is the same, nbval runs both, and the
    tests below open the English one.
    """
    course = copy_course(tmp_path)
    with (
        running_lab(course, tmp_path / "home", "pt", EXPOSED) as lab,
        new_page(browser, lab, "pt") as tour,
    ):
        tour.page.goto(f"{lab.url}/?token={lab.token}")  # as the browser is sent
        yield tour


def test_the_tour_runs_and_its_widgets_answer(tour):
    check_opening(tour)
    check_listing(tour)
    tour.page.evaluate(RUN_ALL)
    tour.page.wait_for_function("finished", timeout=PATIENCE["run"])
    assert tour.page.evaluate(NOT_RUN_WELL) == []
    check_sliders(tour)
    check_explorer(tour)
    check_talk(tour)
    assert tour.page.locator(".jupyter-widgets-error-widget").count() == 0
    check_other_files(tour)


def test_a_lesson_that_was_opened_is_unchanged_and_an_answer_stays(browser, tmp_path):
    """Also where the course has another version when it is opened again."""
    course = copy_course(tmp_path)
    mine = course / "my-notebooks" / "en" / "00_tour.ipynb"
    original = course / "notebooks" / "en" / "00_tour.ipynb"
    theirs = {f: f.read_bytes() for f in (original, original.with_suffix(".py"))}
    with (
        running_lab(course, tmp_path / "home", "en", EXPOSED) as lab,
        new_page(browser, lab, "en") as tour,
    ):
        tour.page.goto(f"{lab.url}/?token={lab.token}")
        check_opening(tour)
        opened = mine.read_bytes()
        tour.page.evaluate(KERNEL)
        tour.page.wait_for_timeout(3 * SECOND)  # widgets are drawn, or were given up
        assert not tour.page.evaluate(DIRTY)
        assert mine.read_bytes() == opened
        tour.page.evaluate(ANSWER, "an_answer = 7")
        assert not tour.page.evaluate(DIRTY)
    answered = mine.read_bytes()
    assert b"an_answer = 7" in answered
    assert theirs == {file: file.read_bytes() for file in theirs}

    changed = theirs[original].replace(b"VAE", b"VAE, renewed")
    original.write_bytes(changed)
    with running_lab(course, tmp_path / "home", "en"):
        assert mine.read_bytes() == answered
        beside = json.loads(mine.with_name("00_tour-2.ipynb").read_bytes())
        assert beside["cells"] == json.loads(changed)["cells"]


@pytest.mark.parametrize("language", ["pt", "en"])
def test_the_explorer_is_alive_before_anything_is_run(browser, language, tmp_path):
    """Opened again and again, also where JupyterLab gives up too early."""
    course = copy_course(tmp_path)
    renew_explorers(course)
    with running_lab(course, tmp_path / "home", language, EXPOSED) as lab:
        for pause in ("", LONG_PAUSE, LONG_PAUSE, ""):
            with new_page(browser, lab, language) as tour:
                tour.page.add_init_script(pause)
                tour.page.goto(f"{lab.url}/?token={lab.token}")
                check_opening(tour)
                check_alive(tour)
                tour.page.evaluate(SHUT_DOWN)  # the next one gets a new kernel too


def renew_explorers(course):
    """Let the saved explorers have the JavaScript that the package has now."""
    for path in course.glob("notebooks/*/00_tour.ipynb"):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for saved in notebook["metadata"]["widgets"][STATE]["state"].values():
            if saved["model_module"] == "anywidget":
                for name in ("_esm", "_css"):
                    saved["state"][name] = str(getattr(LatentExplorer, name))
        path.write_text(json.dumps(notebook), encoding="utf-8")


def check_alive(tour):
    """The explorer answers, without an error beside it, and no cell was run."""
    tour.page.evaluate("jupyterapp.shell.currentWidget.context.ready.then(() => 0)")
    for _ in range(30):
        with suppress(AssertionError):
            tour.find(".vae-explorer[data-z]")
            break
    else:
        tour.shoot("dead")
        raise AssertionError(tour.page.evaluate(SHOWN))
    check_explorer(tour)
    assert tour.explorer.get_attribute("data-z") not in ("[0,0]", None)
    tour.page.wait_for_timeout(3 * SECOND)  # by now JupyterLab gave up, if it does
    assert tour.page.locator(".vae-explorer").count() == 1
    assert not [said for said in tour.page.evaluate(SHOWN) if "Error" in said]
    assert tour.page.evaluate(ASK, "get_ipython().execution_count") == "1"


def check_opening(tour):
    page = tour.page
    cell = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell").first
    cell.wait_for(timeout=PATIENCE["open"])
    assert page.evaluate("jupyterapp.shell.currentWidget.context.path") == (
        f"my-notebooks/{tour.name}/00_tour.ipynb"
    )
    menus = page.locator(".lm-MenuBar-itemLabel")
    assert menus.first.inner_text() == MENU[tour.name]
    assert page.locator(".jp-Dialog, .Toastify__toast").count() == 0  # no news pop-up
    tour.shoot("open")


def check_listing(tour):
    """The file browser shows the reader's folder: each lesson once, nothing else."""
    listed = tour.page.locator(".jp-DirListing-itemText").all_inner_texts()
    lessons = (REPOSITORY / "notebooks" / tour.name).glob("*.ipynb")
    assert sorted(listed) == sorted(lesson.name for lesson in lessons)


def check_sliders(tour):
    panel = tour.find(".vae-sliders")
    image = panel.locator(".vae-sliders-image img")
    handles = panel.locator(".widget-slider .noUi-handle")
    assert handles.count() == 2

    def shown():
        return image.get_attribute("src"), hashlib.sha1(image.screenshot()).digest()

    for handle in handles.all():
        tour.changes(shown, functools.partial(tour.press, handle, *["ArrowRight"] * 10))
        for key, end in (("Home", "aria-valuemin"), ("End", "aria-valuemax")):
            tour.changes(shown, functools.partial(tour.press, handle, key))
            assert handle.get_attribute("aria-valuenow") == handle.get_attribute(end)
    tour.shoot("sliders")


def check_explorer(tour):
    pad = tour.find(".vae-explorer .vae-explorer-pad")
    canvas = tour.page.locator(".vae-explorer canvas.vae-explorer-image").first
    assert pad.get_attribute("role")

    def drag():
        box = tour.show(pad)
        mouse, left, top = tour.page.mouse, box["x"], box["y"]
        mouse.move(left + 0.2 * box["width"], top + 0.2 * box["height"])
        mouse.down()
        mouse.move(left + 0.8 * box["width"], top + 0.7 * box["height"], steps=8)
        mouse.up()

    def pixels():
        return (canvas.evaluate(PIXELS),)

    tour.changes(pixels, lambda: tour.press(pad, *["ArrowUp", "ArrowRight"] * 5))
    tour.changes(pixels, drag)
    tour.shoot("explorer")


def check_talk(tour):
    """What the reader chose is ``explorer.z``, and what Python sets is seen."""
    for _ in range(PATIENCE["react"] // 100):
        seen = json.loads(tour.explorer.get_attribute("data-z"))
        if json.loads(tour.page.evaluate(ASK, "explorer.z")) == seen:
            break
        tour.page.wait_for_timeout(100)
    assert json.loads(tour.page.evaluate(ASK, "explorer.z")) == seen != [0, 0]
    tour.page.evaluate(ASK, "explorer.set_trait('z', [1.5, -0.25])")
    tour.page.locator('.vae-explorer[data-z="[1.5,-0.25]"]').wait_for()
    tour.page.evaluate(ASK, "explorer.set_trait('path', [[0, 0], [1, 1]])")
    tour.page.locator(".vae-explorer .ve-play").wait_for()


def check_other_files(tour):
    """The other language opens from its percent file, the package in the editor."""
    other = {"pt": "en", "en": "pt"}[tour.name]
    percent = f"notebooks/{other}/00_tour.py"
    path, cells = tour.page.evaluate(OPEN, [percent, "Notebook"])
    assert path == percent
    assert cells > 5
    assert tour.page.evaluate(OPEN, ["vae_teach/nets.py", "Editor"])[0].endswith(".py")
    text = tour.page.locator(".jp-FileEditor:visible .cm-content")
    assert "import torch" in text.inner_text()
