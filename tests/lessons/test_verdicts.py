"""The comparison that every check makes, on functions that write into what they get."""

import torch

from vae_teach.checks.verdicts import compare


def total(x):
    return x.cumsum(0)[-1]


def overwriting(x):
    return x.cumsum_(0)[-1]


def doubled(x):
    return x.mul_(2).sum()


def test_no_function_sees_what_another_has_written():
    cases = [(torch.tensor([1.0, 2.0]),), (torch.tensor([4.0]),)]
    mistakes = {"tour-kl-half": doubled, "tour-kl-sign": lambda x: -x.sum()}
    for answer in (total, overwriting):
        assert compare(answer, overwriting, mistakes, cases, right="tour-kl-right")
    for oracle in (total, overwriting):
        verdict = compare(lambda x: -total(x), oracle, mistakes, cases, "tour-kl-right")
        assert verdict.message.startswith("The sign is flipped"), verdict
    assert torch.equal(cases[0][0], torch.tensor([1.0, 2.0]))
