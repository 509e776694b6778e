"""A page in headless Chromium, for the benchmarks that measure the explorer."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Page, sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")


@contextmanager
def open_page() -> Iterator[tuple[Page, str]]:
    """Yield an empty page and the version of its browser: the system's, else ours."""
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        path = next(filter(None, map(shutil.which, (*BROWSERS, own))))
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        page = browser.new_page(viewport={"width": 1000, "height": 800})
        yield page, browser.version
        browser.close()
