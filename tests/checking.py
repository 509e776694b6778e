"""What every lesson's checks must do, as tests made from a table of answers.

A file has the answers of its lesson and gives each test that is made of them a name:

    test_right_answers_are_right = checking.accepts(RIGHT)

``right`` maps a check to the answers that it must accept. ``wrong`` has rows: a check,
an answer as learners spell it, words of the hint that it must get. ``mistakes`` maps a
check to the package's own table of mistakes.
"""

import pytest

from vae_teach.words import CATALOGUE, use_language

NONSENSE = [  # what is no answer to any exercise, and words of what is said of it
    (lambda *a: None, "No answer yet"),
    (lambda *a: ..., "No answer yet"),
    (lambda *a: "0", "Your function returned str"),
    (lambda: 0, "Your function stopped with TypeError"),
    (lambda *a: 1 / 0, "stopped with ZeroDivisionError: division by zero"),
    (3, "Your function stopped with TypeError"),
]


def accepts(right):
    """Right answers are right, however they are written."""
    pairs = [(check, answer) for check, answers in right.items() for answer in answers]

    @pytest.mark.parametrize(("check", "answer"), pairs)
    def test(check, answer):
        verdict = check(answer)
        assert verdict, verdict
        assert repr(verdict).startswith("✔ Right.")

    return test


def rejects(wrong):
    """Wrong answers get their hint."""

    @pytest.mark.parametrize(("check", "answer", "hint"), wrong)
    def test(check, answer, hint):
        verdict = check(answer)
        assert not verdict
        assert hint in verdict.message, verdict
        assert repr(verdict).startswith("✘")

    return test


def survives(checks, nonsense=NONSENSE):
    """What is no answer is told so: nothing raises."""

    @pytest.mark.parametrize("check", checks)
    @pytest.mark.parametrize(("answer", "hint"), nonsense)
    def test(check, answer, hint):
        assert hint in check(answer).message

    return test


def speaks_portuguese(right, wrong):
    """No answer, a right one and a wrong one are spoken of in Portuguese too."""
    first_wrong = {check: answer for check, answer, _ in reversed(wrong)}

    @pytest.mark.parametrize("check", right)
    def test(check):
        in_english = check(first_wrong[check]).message
        use_language("pt")
        assert "Ainda sem resposta" in check(lambda *a: None).message
        assert check(right[check][0]).message.startswith("Certo. ")
        assert check(first_wrong[check]).message != in_english

    return test


def has_words(mistakes):
    """Every mistake that the package knows has its hint in the catalogue."""

    @pytest.mark.parametrize("check", mistakes)
    def test(check):
        assert set(mistakes[check]) <= set(CATALOGUE)

    return test


def tells_apart(mistakes):
    """Every mistake of a table gets its own hint: none passes for another."""

    @pytest.mark.parametrize("check", mistakes)
    @pytest.mark.parametrize("language", ["pt", "en"])
    def test(check, language):
        use_language(language)
        hints = [check(mistake).message for mistake in mistakes[check].values()]
        assert hints == [CATALOGUE[key][language] for key in mistakes[check]]

    return test
