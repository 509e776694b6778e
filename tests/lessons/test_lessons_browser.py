"""The later lessons in a real JupyterLab: each runs, and answers to the hand.

In Portuguese and without MNIST: their code is the same in both languages, cell by cell,
and CI runs the English ones by nbval, with MNIST.
"""

import shutil
from pathlib import Path

import pytest
from lab_page import (
    EXPOSED,
    NOT_RUN_WELL,
    PATIENCE,
    RUN_ALL,
    SCROLL,
    SECOND,
    WIDGETS,
    new_page,
)
from lab_server import copy_course, running_lab

pytestmark = pytest.mark.browser

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
LESSONS = sorted(path.stem for path in NOTEBOOKS.glob("en/*.ipynb"))[1:]
IS_OPEN = """path => {
  const shown = window.jupyterapp?.shell.currentWidget;
  return shown?.context?.path === path && shown.context.isReady;
}"""
# Comms have a thread of their own in the kernel: that it answers something else does
# not tell that it has answered a widget. So each message is followed to its answer.
FOLLOW = """() => {
  const { kernel } = jupyterapp.shell.currentWidget.sessionContext.session;
  window.unanswered = new Set();
  kernel.anyMessage.connect((_, { msg, direction }) => {
    if (direction === 'send' && msg.header.msg_type === 'comm_msg')
      unanswered.add(msg.header.msg_id);
    if (msg.header.msg_type === 'status' && msg.content.execution_state === 'idle')
      unanswered.delete(msg.parent_header.msg_id);
  });
}"""
ANSWERED = "unanswered.size === 0"


@pytest.fixture(scope="module")
def nowhere(tmp_path_factory):
    """Let no lesson find MNIST, and all of them share what the first one trains."""
    folder = tmp_path_factory.mktemp("without-mnist")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAE_TEACH_DATA", str(folder / "nowhere"))
        patch.setenv("VAE_TEACH_DOWNLOAD", "0")
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield


@pytest.fixture(params=LESSONS)
def lesson(browser, request, tmp_path, nowhere):
    """Yield a lesson, opened by ``lab``; at the end, nothing may have gone wrong."""
    path = f"my-notebooks/pt/{request.param}.ipynb"
    course = copy_course(tmp_path)
    measured = Path("benchmarks", "results")  # what lesson 04 shows beside its own
    shutil.copytree(NOTEBOOKS.parent / measured, course / measured)
    with (
        running_lab(course, tmp_path / "home", "pt", EXPOSED) as lab,
        new_page(browser, lab, request.param) as lesson,
    ):
        lesson.page.goto(f"{lab.url}/lab/tree/{path}?token={lab.token}&reset")
        lesson.page.wait_for_function(IS_OPEN, arg=path, timeout=PATIENCE["open"])
        yield lesson


def test_the_lesson_runs_and_its_controls_answer(lesson):
    lesson.page.evaluate(RUN_ALL)
    lesson.page.wait_for_function("finished", timeout=PATIENCE["run"])
    assert lesson.page.evaluate(NOT_RUN_WELL) == []
    lesson.page.evaluate(FOLLOW)
    moved = [move_everything(lesson, index) for index in lesson.page.evaluate(WIDGETS)]
    assert sum(moved) >= 2  # handles: no lesson without something to pull
    assert lesson.page.locator(".jupyter-widgets-error-widget").count() == 0


def move_everything(lesson, index):
    """Move each handle of a cell's panels to both ends; return how many there were."""
    lesson.page.evaluate(SCROLL, index)
    lesson.page.wait_for_timeout(SECOND)
    cell = lesson.page.locator(
        f'.jp-Notebook [data-windowed-list-index="{index}"]'
    ).first
    handles = 0
    for panel in cell.locator(".vae-sliders").all():
        lesson.show(panel)
        image = panel.locator("img").first
        # The last first: what is chosen before it may leave it nothing to choose, as
        # two equal digits have no paths between them.
        for handle in reversed(panel.locator(".noUi-handle").all()):
            handles += 1
            at_ends = [
                settle(lesson, image, lambda h=handle, k=key: lesson.press(h, k))
                for key in ("Home", "End")
            ]
            said = handle.get_attribute("aria-valuetext")
            assert at_ends[0] != at_ends[1], f"the same picture at both ends: {said}"
            drag_to_the_left(lesson, panel, handle)
            dragged = settle(lesson, image, lambda: None)
            assert dragged != at_ends[1], "the mouse moved nothing"
        lesson.shoot(f"panel-{index}")
    return handles


def settle(lesson, image, act):
    """Act, let the kernel answer, and return the picture that then stands still."""
    act()
    before, same = None, 0
    for _ in range(PATIENCE["react"] // 100):
        lesson.page.wait_for_timeout(100)
        lesson.page.wait_for_function(ANSWERED, timeout=PATIENCE["react"])
        same = same + 1 if before == (before := picture(image)) else 0
        if same == 2:
            return before
    raise AssertionError("the picture does not come to rest")


def picture(image):
    """Return the picture's bytes, as a hash that the browser computes."""
    return image.evaluate(
        """async shown => {
          const bytes = await (await fetch(shown.src)).arrayBuffer();
          const digest = await crypto.subtle.digest("SHA-1", bytes);
          return String(new Uint8Array(digest));
        }"""
    )


def drag_to_the_left(lesson, panel, handle):
    """Drag a handle by mouse from where it is to the other end of its track."""
    lesson.show(handle)
    box = handle.bounding_box()
    track = handle.locator("xpath=ancestor::*[contains(@class, 'noUi-base')]")
    left = track.bounding_box()["x"]
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    lesson.page.mouse.move(x, y)
    lesson.page.mouse.down()
    lesson.page.mouse.move(left, y, steps=6)
    lesson.page.mouse.up()
