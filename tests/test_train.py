"""Training: it learns, repeats itself, survives interruption, and refuses bad input."""

import math

import pytest
import torch
from sklearn.linear_model import LinearRegression

from vae_teach import train
from vae_teach.data import Images
from vae_teach.densities import log_bernoulli
from vae_teach.nets import VAE


@pytest.fixture(scope="module")
def images():
    """Images of 16 pixels with one hidden cause: a bar that slides."""
    stream = torch.Generator().manual_seed(0)
    place = torch.rand(600, generator=stream) * 12
    columns = torch.arange(16)
    grey = ((columns >= place[:, None]) & (columns < place[:, None] + 4)).float()
    labels = (place / 3).long()
    return Images(0.05 + 0.9 * grey, labels, "bars", dynamic=True)


def new_model(seed=0):
    torch.manual_seed(seed)
    return VAE(input_dim=16, hidden_dim=32, latent_dim=2)


def fit(model, images, **options):
    settings = {"epochs": 3, "batch_size": 50, "device": "cpu", "progress": False}
    return train.fit(model, images, **settings | options)


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_fit_beats_the_best_model_without_a_latent(images):
    model = new_model()
    fit(model, images, epochs=40)
    bits = Images((images.pixels > 0.5).float(), images.labels)
    frequency = bits.pixels.mean(0).clamp(1e-3, 1 - 1e-3)
    without = log_bernoulli(bits.pixels, frequency.logit()).mean()
    torch.manual_seed(0)
    assert train.evaluate(model, bits).elbo.mean() > without + 2
    mu, _ = model.encode(bits.pixels)  # and the latents know where the bar is
    latents = mu.detach().numpy()
    score = LinearRegression().fit(latents, images.labels).score(latents, images.labels)
    assert score > 0.5


def test_history_holds_what_was_measured(images):
    model = new_model()
    history = fit(model, images, test=images)
    assert [row["epoch"] for row in history.rows] == [1, 2, 3]
    for row in history.rows:
        assert row["elbo"] == pytest.approx(row["reconstruction"] - row["kl"])
        assert row["images_per_second"] == pytest.approx(600 / row["seconds"])
        assert math.isfinite(row["test_elbo"])
    assert history.column("elbo") == sorted(history.column("elbo"))
    assert not history.interrupted
    assert len(str(history).splitlines()) == 4
    assert "test ELBO" in str(history)


def test_first_epoch_is_measured_while_the_weights_move(images):
    """With a learning rate of nearly zero, the row is the ELBO of the first weights."""
    model = new_model()
    row = fit(model, images, epochs=1, learning_rate=1e-12).rows[0]
    torch.manual_seed(1)
    draws = torch.stack([train.evaluate(model, images).elbo for _ in range(20)])
    error = draws.mean(1).std() + train.standard_error(draws.mean(0)) / math.sqrt(600)
    assert abs(row["elbo"] - draws.mean().item()) < 5 * error


def test_same_seed_same_run(images):
    runs = []
    for seed in (0, 0, 1):
        model = new_model(seed)
        fit(model, images)
        runs.append(weights(model))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_measuring_on_test_images_does_not_move_the_run(images):
    watched, alone = new_model(), new_model()
    torch.manual_seed(5)
    fit(watched, images, test=images)
    torch.manual_seed(5)
    fit(alone, images)
    assert torch.equal(weights(watched), weights(alone))


def test_step_is_adam_on_the_negative_elbo(images):
    """One batch, one step: against a loop written out with plain PyTorch."""
    ours, oracle = new_model(), new_model()
    torch.manual_seed(7)
    fit(ours, images, epochs=1, batch_size=600)
    torch.manual_seed(7)
    order = torch.randperm(600)
    grey = images.pixels[order]
    x = (torch.rand(grey.shape) < grey).float()
    mu, logvar = oracle.encode(x)
    q = torch.distributions.Normal(mu, torch.exp(logvar / 2))
    prior = torch.distributions.Normal(0.0, 1.0)
    logits = oracle.decode_logits(mu + q.stddev * torch.randn_like(mu))
    pixels = torch.distributions.Bernoulli(logits=logits).log_prob(x).sum(1)
    kl = torch.distributions.kl_divergence(q, prior).sum(1)
    (kl - pixels).mean().backward()
    torch.optim.Adam(oracle.parameters(), lr=1e-3).step()
    assert torch.allclose(weights(ours), weights(oracle), atol=1e-6)


def test_interrupting_keeps_what_was_learnt(images, monkeypatch, capsys):
    model, first = new_model(), weights(new_model())
    whole, calls = train._one_epoch, []

    def stop_in_the_third(*args):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(*args)

    monkeypatch.setattr(train, "_one_epoch", stop_in_the_third)
    history = fit(model, images, epochs=10)
    assert history.interrupted
    assert len(history) == 2
    assert not torch.equal(weights(model), first)
    assert "after 2 of 10 whole epochs" in capsys.readouterr().out


def test_training_mode_is_given_back(images):
    model = new_model().eval()
    fit(model, images, epochs=1)
    assert not model.training
    model.train()
    train.evaluate(model, images)
    assert model.training


def test_progress_bar_is_shown_and_can_be_hidden(images, capsys):
    fit(new_model(), images, progress=False)
    assert capsys.readouterr().err == ""
    fit(new_model(), images, progress=True)
    assert "Training" in capsys.readouterr().err


def test_evaluate_keeps_the_order_of_the_images(images):
    model = new_model()
    bits = Images((images.pixels > 0.5).float(), images.labels)
    kl = train.evaluate(model, bits, batch_size=7).kl
    mu, logvar = model.encode(bits.pixels)
    q = torch.distributions.Normal(mu, torch.exp(logvar / 2))
    oracle = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0))
    assert torch.allclose(kl, oracle.sum(1), atol=1e-5)
    assert not kl.requires_grad


def test_standard_error():
    torch.manual_seed(0)
    means = torch.randn(500, 400).mean(1)  # their spread is what it estimates
    one = train.standard_error(torch.randn(400))
    assert one == pytest.approx(means.std().item(), rel=0.15)


def test_diverging_is_told(images):
    model = new_model()
    with torch.no_grad():
        model.decoder_logits.bias.fill_(math.nan)
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        fit(model, images)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"epochs": 0}, "epochs: got 0"),
        ({"batch_size": 0}, "batch_size: got 0"),
        ({"batch_size": 601}, "batch_size: got 601, more than the 600 images"),
        ({"learning_rate": 0.0}, "learning_rate: got 0.0"),
        ({"learning_rate": math.nan}, "learning_rate: got nan"),
        ({"device": "abacus"}, "device: got 'abacus'"),
    ],
)
def test_bad_settings_get_one_sentence(images, options, named):
    model = new_model()
    before = weights(model)
    with pytest.raises(ValueError, match=named):
        fit(model, images, **options)
    assert torch.equal(weights(model), before)
