"""Every check of every lesson: right and wrong answers, whatever they do, and words."""

from functools import partial
from importlib import import_module
from pathlib import Path

import checking
import pytest
from listing import lists

from vae_teach import checks

MODULES = Path(checks.__file__).parent.glob("*.py")
WORDS = sorted({path.stem for path in MODULES} - {"__init__", "__main__", "verdicts"})


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("faults", checking.FAULTS, ids=lambda faults: faults.__name__)
def test_in_every_lesson(faults, word):
    lists(partial(faults, import_module(f"test_{word}")))()
