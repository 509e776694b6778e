"""A page of a running JupyterLab for the tests, and the scripts they run in it."""

import contextlib
import os
from pathlib import Path

SECOND = 1_000  # Playwright counts in milliseconds
PATIENCE = {"open": 120 * SECOND, "run": 1500 * SECOND, "react": 20 * SECOND}
SHOTS = os.environ.get("VAE_TEACH_SHOTS")  # a folder for screenshots, if wanted

RUN_ALL = """async () => {
  const panel = jupyterapp.shell.currentWidget;
  await panel.context.ready;
  await panel.sessionContext.ready;
  await panel.sessionContext.session.kernel.info; // earlier, the command gets lost
  window.finished = false;
  jupyterapp.commands.execute('notebook:run-all-cells').then(() => finished = true);
}"""
NOT_RUN_WELL = """() => jupyterapp.shell.currentWidget.content.widgets
  .filter(cell => cell.model.type === 'code')
  .filter(({model}) => model.executionCount === null
    || model.outputs.toJSON().some(output => output.output_type === 'error'))
  .map(({model}) => [model.id, model.outputs.toJSON()])"""
WIDGETS = """() => jupyterapp.shell.currentWidget.content.widgets
  .map(({model}, i) => model.type === 'code' && model.outputs.toJSON()
    .some(output => output.data?.['application/vnd.jupyter.widget-view+json']) ? i : -1)
  .filter(i => i >= 0)"""
SCROLL = "i => jupyterapp.shell.currentWidget.content.scrollToItem(i, 'center')"
OPEN = """async ([path, factory]) => {
  const opened = await jupyterapp.commands.execute('docmanager:open', {path, factory});
  await opened.context.ready;
  await opened.revealed;
  return [opened.context.path, opened.content.widgets?.length ?? 0];
}"""
SHUT_DOWN = "jupyterapp.serviceManager.sessions.shutdownAll()"
EXPOSED = "--LabApp.expose_app_in_browser=True"  # gives the scripts ``jupyterapp``


class Page:
    """The page of a running JupyterLab, and what it did that it must not do."""

    def __init__(self, context, lab, name):
        self.page, self.lab, self.name = context.new_page(), lab, name
        self.outside, self.errors = [], []
        self.explorer = self.page.locator(".vae-explorer[data-z]").first
        context.on("request", lambda request: self.note(request.url))
        self.page.on("websocket", lambda socket: self.note(socket.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def note(self, url):
        allowed = (self.lab.url, self.lab.url.replace("http", "ws"), "data:", "blob:")
        if not url.startswith(allowed):
            self.outside.append(url)

    def shoot(self, moment):
        if SHOTS:
            self.page.screenshot(path=Path(SHOTS) / f"{self.name}-{moment}.png")

    def changes(self, read, act):
        """Act, and wait until every part of what ``read`` returns is another."""
        before = read()
        act()
        for _ in range(PATIENCE["react"] // 100):
            if all(now != old for now, old in zip(read(), before, strict=True)):
                return
            self.page.wait_for_timeout(100)
        raise AssertionError("nothing changed")

    def find(self, selector):
        """Scroll from widget to widget, as those out of sight are not in the page."""
        found = self.page.locator(selector).first
        for index in self.page.evaluate(WIDGETS):
            self.page.evaluate(SCROLL, index)
            self.page.wait_for_timeout(SECOND)
            if found.count():
                self.show(found)
                return found
        raise AssertionError(f"{selector} is in no output")

    def show(self, target):
        """Scroll there, wait until the page no longer moves, return where it is."""
        before = None
        for _ in range(PATIENCE["react"] // 200):
            target.evaluate("target => target.scrollIntoView({block: 'center'})")
            self.page.wait_for_timeout(200)
            if before == (before := target.bounding_box()):
                return before
        raise AssertionError("the page does not come to rest")

    def press(self, target, *keys):
        target.focus()
        for key in keys:
            self.page.keyboard.press(key)


@contextlib.contextmanager
def new_page(browser, lab, name):
    """Yield an empty Page; at the end, nothing may have gone wrong on it."""
    context = browser.new_context(viewport={"width": 1300, "height": 1000})
    page = Page(context, lab, name)
    try:
        yield page
    finally:
        page.shoot("end")
        context.close()
    assert page.outside == []
    assert page.errors == []
