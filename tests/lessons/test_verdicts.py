"""The comparison that every check makes, on functions that write into what they get."""

import io
import json
import math
from datetime import UTC, datetime, timedelta

import pytest
import torch
from IPython.core.formatters import DisplayFormatter

from vae_teach import records
from vae_teach.checks import latents as checks
from vae_teach.checks.verdicts import Verdict, compare
from vae_teach.words import use_language


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


@pytest.mark.parametrize("wanted", [0.0, 2.0, -30.0])
def test_values_agree_within_rounding_and_no_further(wanted):
    """A ten-thousandth, of one for small values and of the value for large ones."""
    for off, right in ((0.7e-4, True), (1.4e-4, False)):
        for sign in (1, -1):
            found = wanted + sign * off * (1 + abs(wanted))
            verdict = compare(
                lambda v=found: v, lambda: wanted, {}, [()], "tour-kl-right"
            )
            assert bool(verdict) is right, verdict


def test_every_case_and_every_value_counts():
    cases = [(torch.arange(3.0) + 10 * case,) for case in range(3)]
    for case, place in ((0, 0), (1, 2), (2, 1)):

        def answer(x, case=case, place=place):
            off = (x[0] == 10 * case) * (torch.arange(3) == place)
            return x + 0.01 * off

        verdict = compare(answer, lambda x: x, {}, cases, "tour-kl-right")
        assert "differ by up to 0.01." in verdict.message


def test_a_draw_in_one_case_alone_is_noticed():
    cases = [(torch.tensor(0.0),), (torch.tensor(1.0),)]
    verdict = compare(
        lambda x: x + x * torch.rand(()),
        lambda x: x,
        {},
        cases,
        right="tour-kl-right",
        changes="tour-draw-fresh-noise",
    )
    assert "gave different" in verdict.message


SAID = {  # an answer to x -> x + 1 for three numbers, and all that is said of it
    "right": (
        lambda x: x + 1,
        "Right. That is the prior mass inside the grid.",
        "Certo. É essa a massa da priori dentro da grade.",
    ),
    "shape": (
        lambda x: x[:2],
        "The shape returned was (2,); (3,) is expected. Along which axis did you sum?",
        "A forma devolvida foi (2,); espera-se (3,). Ao longo de que eixo você somou?",
    ),
    "value": (
        lambda x: x + torch.tensor([1.0, 1.25, 0.5]),
        "The values differ by up to 0.5. "
        "Try a case whose answer you can work out in your head.",
        "Os valores diferem em até 0,5. "
        "Teste um caso cuja resposta você saiba de cabeça.",
    ),
    "not finite": (
        lambda x: x.log(),
        "There are infinities or NaN in the result. "
        "A division by zero, or the logarithm of a negative number?",
        "Há infinitos ou NaN no resultado. "
        "Alguma divisão por zero, ou o logaritmo de um número negativo?",
    ),
    "text": (
        lambda x: "1",
        "Your function returned str; a PyTorch tensor of real numbers is expected.",
        "Sua função devolveu str; espera-se um tensor do PyTorch com números reais.",
    ),
    "complex": (
        lambda x: x * 1j,
        "Your function returned torch.complex64; "
        "a PyTorch tensor of real numbers is expected.",
        "Sua função devolveu torch.complex64; "
        "espera-se um tensor do PyTorch com números reais.",
    ),
    "raised": (
        lambda x: x.missing,
        "Your function stopped with AttributeError: "
        "'Tensor' object has no attribute 'missing'",
        "Sua função parou com AttributeError: "
        "'Tensor' object has no attribute 'missing'",
    ),
    "nothing": (
        lambda x: None,
        "No answer yet: fill in the cell and run it again.",
        "Ainda sem resposta: complete a célula e execute-a de novo.",
    ),
}


@pytest.mark.parametrize(("answer", "english", "portuguese"), SAID.values(), ids=SAID)
def test_the_whole_message_in_both_languages(answer, english, portuguese):
    cases = [(torch.tensor([0.0, 1.0, -2.0]),)]
    for language, message in (("en", english), ("pt", portuguese)):
        use_language(language)
        verdict = compare(answer, lambda x: x + 1, {}, cases, right="tour-mass-right")
        assert verdict.message == message


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


# --- the record beside the sentence ---------------------------------------------------


def test_a_notebook_gets_the_sentence_as_ever_and_a_record_beside_it():
    formatter = DisplayFormatter()
    use_language("en")
    verdict = checks.ring_radius(lambda mass: -2 * math.log(1 - mass))
    shown, _ = formatter.format(verdict)
    assert shown["text/plain"] == repr(verdict) == f"✘ {verdict.message}"
    assert shown.keys() == {"text/plain", records.KIND}
    stored = json.loads(json.dumps(shown[records.KIND]))
    when = datetime.fromisoformat(stored.pop("when"))
    assert abs(datetime.now(UTC) - when) < timedelta(minutes=1)
    assert stored == {
        "version": 1,
        "check": "latents.ring_radius",
        "right": False,
        "hint": "latents-radius-squared",
    }
    assert records.parsed(shown[records.KIND]) == verdict.record()


def test_a_record_says_right_and_which_check_was_asked_by_whatever_way():
    def asking(mass):
        checks.active_count(lambda mu: None)  # as a learner's function may
        return math.sqrt(-2 * math.log(1 - mass))

    verdict = checks.ring_radius(asking)
    assert (verdict.right, verdict.hint) == (True, "latents-radius-right")
    assert verdict.check == "latents.ring_radius"
    assert checks.ring_radius(lambda mass: None).check == "latents.ring_radius"
    straight = checks.unit_walk(lambda start, end, t: (1 - t) * start + t * end)
    assert straight.check == "latents.unit_walk"  # though a helper of it found that
    assert compare(total, total, {}, [(torch.ones(2),)], "tour-kl-right").check == ""


def test_verdicts_are_alike_whatever_their_records():
    assert Verdict(True, "yes", "a", "b") == Verdict(True, "yes")
