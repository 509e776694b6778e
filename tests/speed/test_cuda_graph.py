"""The captured step: on a GPU for real, and its book-keeping anywhere.

Without a GPU, stand-ins for streams and graphs show what happens around the recording:
the warm-up leaves no trace, batches of another size take the plain path.
"""

import contextlib

import pytest
import torch
from runs import make_run

from vae_teach import train
from vae_teach.bounds import Bound
from vae_teach.data import Images
from vae_teach.densities import kl_to_standard_normal, log_bernoulli
from vae_teach.nets import VAE
from vae_teach.speed.cuda_graph import WARM_UP, CapturedStep


def state(run):
    moments = [
        value for kept in run.optimizer.state.values() for value in kept.values()
    ]
    parts = [*run.model.parameters(), *moments, run.totals]
    return torch.cat([part.detach().double().flatten() for part in parts])


class Graph:
    """What is recorded runs when it is replayed, not before."""

    def __init__(self):
        self.replays = 0

    def replay(self):
        self.replays += 1


@pytest.fixture
def stand_ins(monkeypatch):
    class Stream:
        def wait_stream(self, other):
            pass

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda s: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda d: torch.get_rng_state())
    monkeypatch.setattr(
        torch.cuda, "set_rng_state", lambda s, d: torch.set_rng_state(s)
    )
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda g: contextlib.nullcontext())


def capture(run, step, size=50):
    return CapturedStep(
        step, size, model=run.model, optimizer=run.optimizer, totals=run.totals
    )


@pytest.mark.parametrize("steps_before", [0, 3])
def test_warming_up_leaves_no_trace(stand_ins, steps_before):
    """Neither in a fresh run, whose moments start at zero, nor in a resumed one."""
    run, calls = make_run(), []
    for _ in range(steps_before):
        run.step(torch.arange(50))

    def recorded(chosen):
        calls.append(len(chosen))
        if len(calls) <= WARM_UP:  # the last call is recorded, and does nothing yet
            run.step(chosen)

    before, random_state = state(run), torch.get_rng_state()
    capture(run, recorded)
    assert calls == [50] * (WARM_UP + 1)
    after = state(run)
    if not steps_before:  # Adam made its moments while warming up
        assert len(after) > len(before)
        before = torch.cat(
            (before[:-2], torch.zeros(len(after) - len(before)), before[-2:])
        )
    assert torch.equal(after, before)
    assert torch.equal(torch.get_rng_state(), random_state)


def test_a_step_that_cannot_be_recorded_leaves_no_trace(stand_ins, monkeypatch):
    run, calls = make_run(), []
    run.step(torch.arange(50))
    before = state(run)

    def refused(chosen):
        calls.append(1)
        run.step(chosen)
        if len(calls) == 2:
            raise RuntimeError("operation not permitted when stream is capturing")

    with pytest.raises(RuntimeError, match="not permitted"):
        capture(run, refused)
    assert torch.equal(state(run), before)


def test_full_batches_are_replayed_and_others_take_the_plain_path(stand_ins):
    run, plain = make_run(), []
    step = capture(run, lambda chosen: plain.append(len(chosen)))
    plain.clear()
    for chosen in torch.arange(120).split(50):
        step(chosen)
        if len(chosen) == 50:
            assert torch.equal(step.chosen, chosen)
    assert step.graph.replays == 2
    assert plain == [20]


def test_on_a_cpu_nothing_is_captured():
    run = make_run()
    assert run.captured(50) == run.step


# --- on a GPU ------------------------------------------------------------------------


@pytest.mark.cuda
def test_a_captured_run_learns_what_a_plain_one_learns():
    elbos = []
    for captured in (True, False):
        run = make_run("cuda", count=2000)
        step = run.captured(100) if captured else run.step
        assert isinstance(step, CapturedStep) == captured
        rows = [run.epoch(number, 100, step) for number in range(1, 41)]
        elbos.append(torch.tensor([row["elbo"] for row in rows[-10:]]))
    error = sum(elbo.var() / 10 for elbo in elbos).sqrt()
    assert abs(elbos[0].mean() - elbos[1].mean()) < 4 * error + 0.02


@pytest.mark.cuda
def test_a_captured_step_is_the_plain_step():
    """Same weights, images and bits; without noise in the latents both are equal."""

    def at_the_mean(model, x):
        mu, logvar = model.encode(x)
        reconstruction = log_bernoulli(x, model.decode_logits(mu))
        kl = kl_to_standard_normal(mu, logvar)
        return Bound(reconstruction - kl, reconstruction, kl)

    after = []
    for captured in (True, False):
        torch.manual_seed(0)
        pixels = (torch.rand(100, 16) < 0.5).float()
        images = Images(pixels, torch.zeros(100, dtype=torch.int64)).to("cuda")
        place = torch.device("cuda")
        model = VAE(16, 8).to(place)
        run = train.Run(model, images, learning_rate=1e-2, objective=at_the_mean)
        step = run.captured(50) if captured else run.step
        for chosen in torch.arange(100, device=place).split(50):
            step(chosen)
        after.append(state(run))
    assert torch.allclose(after[0], after[1], atol=1e-5)


@pytest.mark.cuda
@pytest.mark.parametrize("captured", [True, False])
def test_no_step_waits_for_the_gpu(captured):
    run = make_run("cuda", count=500)
    step = run.captured(50) if captured else run.step
    batches = torch.arange(500, device="cuda").split(50)
    step(batches[0])
    torch.cuda.set_sync_debug_mode("error")
    try:
        for chosen in batches:
            step(chosen)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.cuda
def test_the_same_seed_gives_the_same_run_on_a_gpu():
    runs = []
    for _ in range(2):
        run = make_run("cuda", count=500)
        step = run.captured(50)
        torch.manual_seed(7)
        runs.append([run.epoch(n, 50, step)["elbo"] for n in (1, 2)])
    assert runs[0] == runs[1]


@pytest.mark.cuda
def test_a_model_that_asks_the_gpu_for_numbers_takes_the_plain_path():
    class Asks(VAE):
        def encode(self, x):
            return super().encode(x * float(x.max() > 0))

    place = torch.device("cuda")
    run = make_run("cuda")
    run = train.Run(Asks(16, 8).to(place), run.images, learning_rate=1e-2)
    assert run.captured(50) == run.step
    run.epoch(1, 50, run.step)
