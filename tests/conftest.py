"""What the tests share: data, threads, a browser, and no silent skips.

Environment variables:
    VAE_TEACH_DATA       a folder with MNIST/raw; ../shared/data where that exists.
    VAE_TEACH_NO_SKIPS   1 turns every skipped test into a failure, for CI.
"""

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

# Their asserts show values, as those of a test do.
NAMES = ("checking", "lab_page", "listing", "runs", "small_lesson")
pytest.register_assert_rewrite(*NAMES)

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
if SHARED.is_dir():
    os.environ.setdefault("VAE_TEACH_DATA", str(SHARED))
if "PYTEST_XDIST_WORKER" in os.environ:  # as many workers as cores, one thread each
    os.environ.setdefault("OMP_NUM_THREADS", "1")

NO_MNIST = (
    "MNIST is missing: let VAE_TEACH_DATA name a folder that holds MNIST/raw with its "
    "four files, or fetch them once: "
    "uv run python -c 'from vae_teach.data import load; load(\"mnist\")'"
)
NO_BROWSER = (
    "Chromium is missing: install it (Debian: apt-get install chromium), "
    "or fetch Playwright's own: uv run playwright install chromium"
)
NO_GPU = (
    "A GPU is missing: these tests need one that PyTorch can use (CUDA). "
    "Leave them out with: uv run pytest -m 'not cuda'"
)
NO_BOOK = (
    "What the book is made with is missing: install Node.js and npm (Debian: "
    "apt-get install nodejs npm), then run npm ci in the repository."
)
BUILD = Path(__file__).resolve().parents[1] / "book" / "build.py"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER_OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)


@functools.cache
def has_mnist():
    """Return whether a whole copy of MNIST is on this machine, downloading nothing."""
    from vae_teach.data import load

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAE_TEACH_DOWNLOAD", "0")
        try:
            load("mnist", "test")
        except FileNotFoundError:
            return False
    return True


def has_gpu():
    """Return whether PyTorch can use a CUDA device."""
    import torch

    return torch.cuda.is_available()


@pytest.fixture(autouse=True)
def english():
    """Let each test start in English, whatever the one before it chose."""
    from vae_teach.words import use_language

    use_language("en")


@pytest.fixture(scope="session")
def browser():
    """Return Chromium, one for the process: Playwright cannot be started twice."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        found = [path for path in map(shutil.which, (*BROWSERS, own)) if path]
        if not found:
            pytest.skip(NO_BROWSER)
        chromium = playwright.chromium.launch(
            executable_path=found[0], args=BROWSER_OPTIONS
        )
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def book(tmp_path_factory):
    """Return the folder of the built book; one worker builds it for all."""
    packages = BUILD.parents[1] / "node_modules"
    there = all((packages / name).is_dir() for name in ("katex", "axe-core"))
    if not there or shutil.which("node") is None:
        pytest.skip(NO_BOOK)
    base = tmp_path_factory.getbasetemp()
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    site = folder / "book"
    with FileLock(folder / "book.lock"):
        if not (folder / "book.built").exists():
            command = [sys.executable, str(BUILD), "--out", str(site)]
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            (folder / "book.built").touch()
    return site


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Start what takes longest first, so that both workers end together.

    A file stays with one worker: that of all lessons in a browser, then the notebooks,
    whose later lessons train most.
    """

    def is_notebook(item):
        return item.path.suffix == ".ipynb"

    def in_browser(item):
        return item.path.name == "test_lessons_browser.py"

    items.sort(key=lambda i: i.path.stem if is_notebook(i) else "", reverse=True)
    items.sort(key=lambda i: (not in_browser(i), not is_notebook(i)))


class Guard:
    """Registered as a plugin, so that it also sees the cells in notebooks/."""

    @pytest.hookimpl
    def pytest_runtest_setup(self, item):
        if item.get_closest_marker("mnist") and not has_mnist():
            pytest.skip(NO_MNIST)
        if item.get_closest_marker("cuda") and not has_gpu():
            pytest.skip(NO_GPU)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item, call):
        return forbid_skip((yield))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_make_collect_report(self, collector):
        return forbid_skip((yield))


def forbid_skip(report):
    """Make a skip a failure that keeps the skip's sentence; xfail stays as it is."""
    forbidden = os.environ.get("VAE_TEACH_NO_SKIPS") == "1"
    if forbidden and report.skipped and not hasattr(report, "wasxfail"):
        path, line, sentence = report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{path}:{line}: not run, which CI forbids. {sentence}"
    return report


def pytest_configure(config):
    config.pluginmanager.register(Guard())
