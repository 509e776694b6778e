"""The small lesson, executed once, and a copy of it that a test may spoil."""

import shutil
from pathlib import Path

import pytest
from small_lesson import command, write_pair


@pytest.fixture(scope="session")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("course") / "notebooks"
    write_pair(root)
    assert command(root, "build") == 0
    assert command(root, "accept", "--all") == 0
    return root


@pytest.fixture
def course(executed: Path, tmp_path: Path) -> Path:
    return shutil.copytree(executed, tmp_path / "notebooks")
