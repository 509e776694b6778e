"""Training: ``fit`` raises the ELBO, ``History`` remembers how, ``evaluate`` tests it.

``loop`` holds the loop from top to bottom, ``measure`` what is measured afterwards,
``cache`` keeps finished models (``trained``), ``checkpoints`` the runs under way, and
``python -m vae_teach.train`` trains from a terminal. Lesson 04
is about its speed.
"""

from vae_teach.train.cache import trained
from vae_teach.train.checkpoints import DamagedError
from vae_teach.train.loop import PRECISIONS, History, Row, Run, fit, products_at
from vae_teach.train.measure import evaluate, standard_error

__all__ = [
    "PRECISIONS",
    "DamagedError",
    "History",
    "Row",
    "Run",
    "evaluate",
    "fit",
    "products_at",
    "standard_error",
    "trained",
]
