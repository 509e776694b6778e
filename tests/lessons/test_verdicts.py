"""The comparison that every check makes, on functions that write into what they get."""

import io

import pytest
import torch

from vae_teach.checks.verdicts import Verdict, compare


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


@pytest.mark.parametrize("encoding", ["cp1252", "cp437", "ascii", "utf-8"])
def test_a_verdict_can_be_printed_on_any_console(encoding, monkeypatch):
    console = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr("sys.stdout", console)
    print(Verdict(True, "σ² is é"), Verdict(False, "no"))
    console.flush()
    told = console.buffer.getvalue().decode(encoding)
    if encoding == "utf-8":
        assert told == "✔ σ² is é ✘ no\n"
    else:
        assert told.startswith("+ ")
        assert told.endswith("- no\n")
