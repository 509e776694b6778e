"""Several processes compute what one computes; only the first speaks and writes."""

import os
import subprocess
import sys
from pathlib import Path

import parallel_worker
import pytest
import torch
from parallel_worker import fit
from safetensors.torch import load_file

from vae_teach.speed.processes import Team, processes

CPU = torch.device("cpu")
WORKER = Path(__file__).with_name("parallel_worker.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Everything that two processes do, and what three do."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork: Linux or macOS")
    folder = tmp_path_factory.mktemp("parallel")
    fit(CPU, folder, epochs=1, checkpoint=folder / "one.safetensors")
    done = subprocess.run(
        [sys.executable, WORKER, folder],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return folder


def of(folder, job, several=2):
    return load_file(folder / f"{job}-{several}.safetensors")


@pytest.mark.parametrize("several", [2, 3])
def test_gradients_of_several_processes_are_those_of_one(folder, several):
    """They share 64, 7 and 1 images: evenly or not, and of one image some have none."""
    many = of(folder, "gradient", several)
    for name, gradient in parallel_worker.gradient(CPU, folder).items():
        limit = 1e-6 if "32" in name else 1e-12
        far = (many[name] - gradient).abs().max() / gradient.abs().max()
        assert far < limit, name


def test_a_run_of_several_processes_is_that_of_one(folder):
    one, two = fit(CPU, folder), of(folder, "fit")
    assert torch.allclose(one["weights"], two["weights"], atol=1e-9)
    assert torch.allclose(one["rows"], two["rows"], atol=1e-4)  # sums are float32


def test_the_learning_curve_is_the_same_with_other_noise(folder):
    one, two = parallel_worker.learn(CPU, folder)["elbos"], of(folder, "learn")["elbos"]
    assert not torch.equal(one, two)
    climbed = one[-10:].mean() - one[0]
    assert climbed > 2  # nats
    assert abs(one[-10:].mean() - two[-10:].mean()) < 0.1 * climbed
    assert (one - two).abs().max() < 0.3 * climbed  # all along the way


def test_several_processes_resume_bit_for_bit(folder):
    found = of(folder, "resume")
    assert torch.equal(found["weights"], found["resumed-weights"])
    assert torch.equal(found["elbos"], found["resumed-elbos"])


def test_all_processes_hold_the_same_weights_history_and_order(folder):
    first, second = (load_file(folder / f"rank{n}.safetensors") for n in (0, 1))
    for name in ("weights", "elbos", "order"):
        assert torch.equal(first[name], second[name]), name


def test_each_process_draws_noise_of_its_own(folder):
    first, second = (load_file(folder / f"rank{n}.safetensors") for n in (0, 1))
    assert not torch.isclose(first["noise"], second["noise"]).any()


def test_no_two_processes_or_epochs_draw_the_same_noise():
    """A team of three, played by one: orders differ by epoch, noise by both."""
    orders, noise = {}, []
    for epoch in range(1, 8):
        for rank in range(3):
            team = Team(CPU)
            team.rank, team.size, team.seed = rank, 3, 5
            order = tuple(team.shuffle(50, epoch).tolist())
            noise.append(torch.rand(()).item())
            assert orders.setdefault(epoch, order) == order
    assert len(set(orders.values())) == 7
    assert len(set(noise)) == 21


@pytest.mark.parametrize(
    ("job", "sentence"),
    [
        ("unshared", "is 1 for one process and 0 for another; all of them must see"),
        ("small_batch", "batch_size: got 1, fewer than the 2 processes"),
    ],
)
def test_what_several_processes_cannot_do_is_told(folder, job, sentence):
    assert sentence in bytes(of(folder, job)["said"].tolist()).decode()


def test_alone_a_team_of_one_changes_nothing():
    with processes("cpu") as place:
        team = Team(place)
    model, chosen = torch.nn.Linear(2, 2), torch.arange(5)
    assert team.leads
    assert team.wrap(model) is model
    assert team.share(chosen) is chosen
    assert team.add(chosen) is chosen
    torch.manual_seed(3)
    order = team.shuffle(10, epoch=1)
    torch.manual_seed(3)
    assert torch.equal(order, torch.randperm(10))


def test_more_processes_than_gpus_are_told(monkeypatch):
    monkeypatch.setattr(
        "vae_teach.speed.processes.find_device", lambda device: torch.device("cuda")
    )
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_RANK", "2")
    sentence = "at least 3, and this machine has 2"
    with pytest.raises(ValueError, match=sentence), processes("cuda"):
        pass
