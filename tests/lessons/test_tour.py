"""Checks accept right answers however written, and reject the usual wrong ones."""

import copy
import math

import checking
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vae_teach import data, words
from vae_teach.checks import tour as checks
from vae_teach.nets import VAE
from vae_teach.train import fit


def kl(mu, logvar, tau):
    variance = logvar.exp()
    return (math.log(tau) - logvar / 2 + (variance + mu**2) / (2 * tau**2) - 0.5).sum(1)


def draw(mu, logvar, eps):
    return mu + logvar.exp().sqrt() * eps


def beta_loss(x, logits, mu, logvar, beta):
    loss = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
    return (loss + beta * kl(mu, logvar, 1.0)).mean()


def grid_mass(extent, latents):
    return math.erf(extent / math.sqrt(2)) ** latents


RIGHT = {
    checks.kl: [kl, lambda m, v, t: kl(m, v, t) + 0.0],
    checks.draw: [draw, lambda m, v, e: torch.addcmul(m, torch.exp(v / 2), e)],
    checks.beta_loss: [beta_loss, lambda *a: beta_loss(*a).item()],
    checks.grid_mass: [
        grid_mass,
        lambda a, n: torch.tensor(grid_mass(a, n)),
        lambda a, n: torch.tensor([grid_mass(a, n)]),
        lambda a, n: np.float32(grid_mass(a, n)),
    ],
}


def kl_in(mu, logvar, tau, *, mean=2, variance=2, logs=2):
    terms = mu**2 / tau**mean + logvar.exp() / tau**variance - 1 - logvar
    return 0.5 * (terms + logs * math.log(tau)).sum(1)


def terms(x, logits, mu, logvar):
    loss = F.binary_cross_entropy_with_logits(logits, x, reduction="none")
    return loss, 0.5 * (mu**2 + logvar.exp() - 1 - logvar)  # (B, D), (B, L)


def ball(extent, latents):
    return torch.distributions.Chi2(torch.tensor(float(latents))).cdf(
        torch.tensor(extent**2)
    )


# What learners write, spelt as they write it, and the words of the hint it must get.
WRONG = [
    (checks.kl, lambda m, v, t: kl(m, v, 1.0), "does not depend on tau"),
    (checks.kl, lambda m, v, t: kl(m, v, t**0.5), "read as the prior's variance"),
    (checks.kl, lambda *a: kl_in(*a, mean=0), "term of the mean ignores tau"),
    (checks.kl, lambda *a: kl_in(*a, variance=0), "term of the variance ignores tau"),
    (checks.kl, lambda *a: kl_in(*a, mean=1, variance=1), "You divided by tau"),
    (checks.kl, lambda *a: kl_in(*a, logs=0), "missing from the logarithm"),
    (checks.kl, lambda *a: kl_in(*a, logs=1), "Only half of the logarithm"),
    (checks.kl, lambda *a: kl_in(*a, logs=-2), "logarithm of tau entered with"),
    (checks.kl, lambda *a: kl_in(*a, logs=0) + math.log(a[2]), "entered once only"),
    (checks.kl, lambda m, v, t: kl(m.T, v.T, t), "summed over the batch"),
    (checks.kl, lambda m, v, t: kl(m, v, t).sum(), "into one number"),
    (checks.kl, lambda m, v, t: kl(m, v, t).mean(), "averaged over the batch"),
    (checks.kl, lambda m, v, t: kl(m, v, t) / m.shape[1], "over the latent dimensions"),
    (checks.kl, lambda m, v, t: kl(m, v, t)[None], "shape"),
    (checks.kl, lambda m, v, t: -kl(m, v, t), "never negative"),
    (checks.kl, lambda m, v, t: 2 * kl(m, v, t), "twice"),
    (checks.kl, lambda m, v, t: kl(m, v, t) + m.shape[1] / 2, "the same"),
    (checks.kl, lambda m, v, t: kl(m, 2 * v, t), "standard deviation"),
    (checks.kl, lambda m, v, t: kl(m, v / 2, t), "where the variance should be"),
    (checks.kl, lambda m, v, t: kl(m, -v, t), "values differ"),
    (checks.kl, lambda m, v, t: kl(m, v, t) + 0.01, "values differ"),
    (checks.kl, lambda m, v, t: kl(m, v.log(), t), "infinities or NaN"),
    (checks.draw, lambda m, v, e: m + v.exp() * e, "multiplied by the variance"),
    (checks.draw, lambda m, v, e: m + v * e, "a logarithm"),
    (checks.draw, lambda m, v, e: m + v.sqrt() * e, "has no square root"),
    (checks.draw, lambda m, v, e: m + v**0.5 * e, "has no square root"),
    (checks.draw, lambda m, v, e: draw(m, v, e).detach().numpy(), "cut the graph"),
    (checks.draw, lambda m, v, e: m + e, "which was left out"),
    (checks.draw, lambda m, v, e: m + 0 * e, "noise was left out"),
    (checks.draw, lambda m, v, e: draw(m, v, torch.randn_like(e)), "the same eps"),
    (checks.draw, lambda m, v, e: draw(m, v, e).detach(), "cut the graph"),
    (checks.draw, lambda m, v, e: draw(m.detach(), v, e), "cut the graph"),
    (checks.draw, lambda m, v, e: draw(-m, v, e), "values differ"),
    (checks.draw, lambda m, v, e: draw(m, v, e)[0], "shape"),
    (checks.beta_loss, lambda *a: beta_loss(*a) * len(a[0]), "summed over the batch"),
    (checks.beta_loss, lambda *a: -beta_loss(*a), "sign is flipped"),
    (checks.beta_loss, lambda *a: beta_loss(*a[:4], 1), "on beta"),
    (checks.beta_loss, lambda *a: beta_loss(*a[:4], -a[4]), "KL entered"),
    (checks.beta_loss, lambda *a: beta_loss(*a[:4], 1 / a[4]) * a[4], "other term"),
    (checks.beta_loss, lambda *a: beta_loss(*a[:4], 1) * a[4], "both terms"),
    (checks.beta_loss,
     lambda x, logits, m, v, b: (F.binary_cross_entropy_with_logits(logits, x)
                                 + b * kl(m, v, 1.0).mean()), "hidden beta"),
    (checks.beta_loss,
     lambda *a: a[4] * terms(*a[:4])[1].mean() + terms(*a[:4])[0].sum(1).mean(),
     "In the KL you averaged over the latent dimensions"),
    (checks.beta_loss,
     lambda *a: a[4] * terms(*a[:4])[1].mean() + terms(*a[:4])[0].mean(),
     "Both call for sums"),
    (checks.beta_loss,
     lambda *a: a[4] * terms(*a[:4])[1].sum(1).mean() + terms(*a[:4])[0].sum(),
     "The reconstruction was summed over the batch"),
    (checks.beta_loss,
     lambda *a: a[4] * terms(*a[:4])[1].sum() + terms(*a[:4])[0].sum(1).mean(),
     "The KL was summed over the batch"),
    (checks.beta_loss,
     lambda *a: a[4] * terms(*a[:4])[1].sum(1).mean() - terms(*a[:4])[0].sum(1).mean(),
     "favour improbable images"),
    (checks.grid_mass, lambda a, n: grid_mass(a, 1), "a single axis"),
    (checks.grid_mass, lambda a, n: (0.5 + grid_mass(a, 1) / 2) ** n, "two sides"),
    (checks.grid_mass, lambda a, n: 1 - grid_mass(a, n), "outside"),
    (checks.grid_mass, lambda a, n: n * grid_mass(a, 1), "exceeds 1"),
    (checks.grid_mass, lambda a, n: (grid_mass(a, 1) / 2) ** n, "half"),
    (checks.grid_mass, lambda a, n: 1 - math.exp(-a * a / 2), "circle"),
    (checks.grid_mass, ball, "mass of a ball"),
    (checks.grid_mass, lambda a, n: math.erf(a) ** n, "erf is not"),
    (checks.grid_mass, lambda a, n: 100 * grid_mass(a, n), "a percentage"),
    (checks.grid_mass, lambda a, n: grid_mass(a, n) + 1e-3, "values differ"),
]  # fmt: skip
MISTAKES = {
    checks.kl: checks.KL_MISTAKES,
    checks.draw: checks.DRAW_MISTAKES,
    checks.beta_loss: checks.BETA_MISTAKES,
    checks.grid_mass: checks.MASS_MISTAKES,
}

test_right_answers_are_right = checking.accepts(RIGHT)
test_wrong_answers_get_their_hint = checking.rejects(WRONG)
test_other_makes_are_right_too = checking.accepts_other_makes(RIGHT)
test_wrong_answers_in_place_are_wrong = checking.is_not_spoilt(WRONG)
test_the_unusable_is_never_right = checking.refuses_the_unusable(RIGHT)
test_no_answer_ever_raises = checking.survives(RIGHT)
test_hints_come_in_portuguese_too = checking.speaks_portuguese(RIGHT, WRONG)
test_every_known_mistake_has_words = checking.has_words(MISTAKES)
test_no_mistake_passes_for_another = checking.tells_apart(MISTAKES)


@pytest.fixture(scope="module")
def stripes():
    """Two kinds of image: one latent tells them apart, none cannot."""
    kind = torch.arange(400) % 2
    pixels = ((torch.arange(784) // 28 % 2) == kind[:, None]).float()
    return data.Images(pixels, kind)


@pytest.fixture(scope="module")
def models(stripes):
    """A model of one latent, untrained, and one of three that learnt the stripes."""
    torch.manual_seed(0)
    reference, wide = VAE(latent_dim=1), VAE(latent_dim=3)
    fit(wide, stripes, epochs=5, batch_size=50, progress=False)
    return reference, wide


def diverged(model):
    model = copy.deepcopy(model)
    model.decoder_logits.bias.data[0] = math.nan
    return model


class Quits(VAE):
    def encode(self, x):
        raise SystemExit("bye")


def test_more_latents_compares_measured_elbos(models, stripes):
    reference, wide = models
    assert "No answer yet" in checks.more_latents(..., reference, stripes).message
    assert "Got str" in checks.more_latents("a model", reference, stripes).message
    same = checks.more_latents(VAE(latent_dim=1), reference, stripes)
    assert "latent_dim=1" in same.message
    worse = VAE(latent_dim=3)
    with torch.no_grad():
        worse.decoder_logits.weight.mul_(5)
    assert "no clear gain" in checks.more_latents(worse, reference, stripes).message
    assert checks.more_latents(wide, reference, stripes)


def test_more_latents_takes_models_of_any_precision(models, stripes):
    reference, wide = models
    for dtype in (torch.float64, torch.bfloat16):
        model = copy.deepcopy(wide).to(dtype)
        assert checks.more_latents(model, reference, stripes), dtype
        assert checks.more_latents(wide, copy.deepcopy(reference).to(dtype), stripes)


@pytest.mark.parametrize("language", words.LANGUAGES)
def test_a_model_that_cannot_be_judged_is_not_right(models, stripes, language):
    words.use_language(language)
    reference, wide = models
    one = data.Images(stripes.pixels[:1], stripes.labels[:1])  # its spread is NaN
    for model, other, images, hint in [
        (diverged(wide), reference, stripes, "tour-model-diverged"),
        (wide, diverged(reference), stripes, "tour-model-diverged"),
        (VAE(100, latent_dim=3), reference, stripes, "tour-model-pixels"),
        (wide, VAE(100, latent_dim=1), stripes, "tour-model-pixels"),
        (Quits(latent_dim=3), reference, stripes, "check-raised"),
        (wide, reference, one, "tour-latents-no-gain"),
    ]:
        verdict = checks.more_latents(model, other, images)
        beginning = words.CATALOGUE[hint][language].partition("{")[0]
        assert not verdict
        assert verdict.message.startswith(beginning), (hint, verdict)


def test_other_dataset_wants_a_model_of_it():
    assert "No answer yet" in checks.other_dataset(...).message
    assert "Got int" in checks.other_dataset(3).message
    torch.manual_seed(0)
    for model, hint in [
        (VAE(), "Train on the images of 'strokes'"),
        (diverged(VAE()), "not a finite number"),
        (VAE(100), "images of 100 pixels"),
        (VAE(latent_dim=10), "asks for two latents"),
        (VAE().double(), "Train on the images of 'strokes'"),
    ]:
        verdict = checks.other_dataset(model)
        assert not verdict
        assert hint in verdict.message
