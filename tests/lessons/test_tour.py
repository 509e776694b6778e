"""Checks accept right answers however written, and reject the usual wrong ones."""

import math

import checking
import pytest
import torch
import torch.nn.functional as F

from vae_teach import checks, data
from vae_teach.nets import VAE


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
    checks.beta_loss: [beta_loss],
    checks.grid_mass: [
        grid_mass,
        lambda a, n: torch.tensor(grid_mass(a, n)),
        lambda a, n: torch.tensor([grid_mass(a, n)]),
    ],
}

# What learners write, spelt as they write it, and the words of the hint it must get.
WRONG = [
    (checks.kl, lambda m, v, t: kl(m, v, 1.0), "does not depend on tau"),
    (checks.kl, lambda m, v, t: kl(m, v, t**0.5), "read as the prior's variance"),
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
    (checks.grid_mass, lambda a, n: grid_mass(a, 1), "a single axis"),
    (checks.grid_mass, lambda a, n: (0.5 + grid_mass(a, 1) / 2) ** n, "two sides"),
    (checks.grid_mass, lambda a, n: 1 - grid_mass(a, n), "outside"),
    (checks.grid_mass, lambda a, n: n * grid_mass(a, 1), "exceeds 1"),
    (checks.grid_mass, lambda a, n: (grid_mass(a, 1) / 2) ** n, "half"),
    (checks.grid_mass, lambda a, n: 1 - math.exp(-a * a / 2), "circle"),
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
test_no_answer_ever_raises = checking.survives(RIGHT)
test_hints_come_in_portuguese_too = checking.speaks_portuguese(RIGHT, WRONG)
test_every_known_mistake_has_words = checking.has_words(MISTAKES)


@pytest.fixture(scope="module")
def stripes():
    """Two kinds of image: one latent tells them apart, none cannot."""
    kind = torch.arange(400) % 2
    pixels = ((torch.arange(784) // 28 % 2) == kind[:, None]).float()
    return data.Images(pixels, kind)


def test_more_latents_compares_measured_elbos(stripes):
    torch.manual_seed(0)
    reference, wide = VAE(latent_dim=1), VAE(latent_dim=3)
    assert "No answer yet" in checks.more_latents(..., reference, stripes).message
    assert "Got str" in checks.more_latents("a model", reference, stripes).message
    same = checks.more_latents(VAE(latent_dim=1), reference, stripes)
    assert "latent_dim=1" in same.message
    with torch.no_grad():
        wide.decoder_logits.weight.mul_(5)  # worse than untrained
    assert "no clear gain" in checks.more_latents(wide, reference, stripes).message
    from vae_teach.train import fit

    fit(wide, stripes, epochs=5, batch_size=50, progress=False)
    assert checks.more_latents(wide, reference, stripes)


def test_other_dataset_wants_a_model_of_it():
    assert "No answer yet" in checks.other_dataset(...).message
    assert "Got int" in checks.other_dataset(3).message
    torch.manual_seed(0)
    verdict = checks.other_dataset(VAE())
    assert not verdict
    assert "Train on the images of 'strokes'" in verdict.message
