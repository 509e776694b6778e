"""Checkpoints: a killed run resumes bit for bit; a bad file is refused and kept."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from vae_teach import checkpoints, train
from vae_teach.data import Images
from vae_teach.nets import VAE


def make_images():
    stream = torch.Generator().manual_seed(0)
    grey = torch.rand(300, 16, generator=stream)
    return Images(grey, torch.zeros(300, dtype=torch.int64), "noise", dynamic=True)


def run(path, epochs=4, **options):
    torch.manual_seed(0)
    model = VAE(input_dim=16, hidden_dim=options.pop("hidden_dim", 8))
    history = train.fit(
        model,
        make_images(),
        **{"batch_size": 50, "device": "cpu", "progress": False, "epochs": epochs}
        | {"checkpoint": path}
        | options,
    )
    return torch.cat([p.detach().flatten() for p in model.parameters()]), history


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.safetensors"


def test_resuming_ends_where_an_uninterrupted_run_ends(path):
    whole, long = run(None)
    run(path, epochs=2)
    resumed, history = run(path)
    assert torch.equal(resumed, whole)
    assert history.column("elbo") == long.column("elbo")
    assert history.column("epoch") == [1, 2, 3, 4]


def test_a_finished_run_is_only_read(path):
    first, _ = run(path)
    before = path.read_bytes()
    again, history = run(path)
    assert torch.equal(first, again)
    assert len(history) == 4
    assert path.read_bytes() == before


SCRIPT = """
import sys
sys.path.insert(0, sys.argv[2])
from tests.test_checkpoints import run
run(sys.argv[1], epochs=4000)
"""


def test_sigkill_at_any_moment_leaves_a_whole_file(path, pytestconfig):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, "-c", SCRIPT, str(path), str(pytestconfig.rootpath)]
    for delay in (0.05, 0.11, 0.17, 0.23):
        process = subprocess.Popen(arguments, env=environment)
        while not path.exists():  # the first epoch takes as long as the imports
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        _, history = run(path, epochs=1)  # whole: it is read back
        assert len(history) >= 1
    epochs = len(history)
    uninterrupted, _ = run(None, epochs=epochs + 2)
    resumed, _ = run(path, epochs=epochs + 2)
    assert torch.equal(resumed, uninterrupted)


def truncate(content):
    return content[: len(content) // 2]


def flip_a_bit(content):
    return content[:-50] + bytes([content[-50] ^ 1]) + content[-49:]


def other_file(content):
    return b"not a checkpoint"


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, other_file, lambda c: b""])
def test_a_damaged_file_is_refused_and_left_as_it_is(path, damage):
    run(path)
    path.write_bytes(damage(path.read_bytes()))
    before = path.read_bytes()
    with pytest.raises(ValueError, match="is damaged or not a checkpoint"):
        run(path)
    assert path.read_bytes() == before


def test_another_model_is_refused_and_nothing_changes(path):
    run(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="a model of another shape"):
        run(path, hidden_dim=9)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("option", "value"), [("batch_size", 60), ("learning_rate", 1e-2)]
)
def test_other_settings_are_named(path, option, value):
    run(path)
    with pytest.raises(ValueError, match=f"{option} is {value} now but was"):
        run(path, **{option: value})


def test_a_full_disk_leaves_the_earlier_file(path, monkeypatch):
    run(path, epochs=1)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints.os, "fsync", full)
    with pytest.raises(OSError, match=r"could not write .*No space left on device"):
        run(path, epochs=2)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("place", [".", "missing/run.safetensors"])
def test_a_place_that_takes_no_file_is_named(tmp_path, place):
    with pytest.raises(ValueError, match="it takes the path of a file"):
        run(tmp_path / place)
