"""Checks of the exercises: a verdict, with a hint where the answer is wrong.

One module a lesson, named after the lesson's word: ``tour`` for lesson 00, ``elbo`` for
02, ``gradients`` for 03, ``training`` for 04, ``latents`` for 05. The checks of lesson
00 are also here by their own names.
"""

from vae_teach.checks.tour import (
    beta_loss,
    draw,
    grid_mass,
    kl,
    more_latents,
    other_dataset,
)
from vae_teach.checks.verdicts import Verdict, compare, correct, wrong

__all__ = [
    "Verdict",
    "beta_loss",
    "compare",
    "correct",
    "draw",
    "grid_mass",
    "kl",
    "more_latents",
    "other_dataset",
    "wrong",
]
