"""Models that are kept: what happens where they cannot be."""

import errno
import os
import shutil
import threading
import time

import platformdirs
import pytest
import torch

from vae_teach import train
from vae_teach.data import Images


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path)
    return tmp_path / "models"


@pytest.fixture
def images():
    pixels = torch.rand(200, 16, generator=torch.Generator().manual_seed(0))
    return Images(pixels, torch.zeros(200, dtype=torch.int64), "noise", dynamic=True)


def get(images):
    settings = {"hidden_dim": 8, "epochs": 2, "batch_size": 50, "device": "cpu"}
    return train.trained(images, progress=False, **settings)


def weights(model):
    return torch.nn.utils.parameters_to_vector(model.parameters())


def refuse(error):
    def refused(*args, **options):
        raise error

    return refused


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("target", "error", "why"),
    [
        ("fcntl.flock", OSError(errno.ENOLCK, "No locks available"), "No locks"),
        ("os.open", PermissionError(errno.EACCES, "Permission denied"), "Permission"),
        ("pathlib.Path.mkdir", OSError(errno.EROFS, "Read-only file system"), "Read-"),
        ("tempfile.TemporaryFile", FULL, "No space left"),
        ("os.fsync", FULL, "No space left"),  # when the first epoch is written
        ("filelock.FileLock.acquire", NotImplementedError("no flock"), "no flock"),
        ("platformdirs.user_cache_path", RuntimeError("no home"), "no home"),
    ],
)
def test_where_nothing_can_be_kept_a_model_is_trained(
    images, cache, monkeypatch, capsys, target, error, why
):
    expected, _ = get(images)
    shutil.rmtree(cache)
    monkeypatch.setattr(target, refuse(error))
    stream = torch.get_rng_state()
    model, history = get(images)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1
    assert said[0].startswith("The model will not be kept (")
    assert why in said[0]
    assert torch.equal(weights(model), weights(expected))
    assert history.column("epoch") == [1, 2]
    assert not model.training
    assert torch.equal(torch.get_rng_state(), stream)
    assert list(cache.glob("*")) in ([], [*cache.glob("*.lock")])


@pytest.mark.parametrize("inside", ["", "models"])
def test_a_file_where_the_cache_should_be_keeps_nothing(
    images, tmp_path, monkeypatch, capsys, inside
):
    place = tmp_path / "cache"
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: place)
    (place / inside).parent.mkdir(exist_ok=True)
    (place / inside).write_text("theirs")
    get(images)
    assert str(place / inside) in capsys.readouterr().out
    assert (place / inside).read_text() == "theirs"


def test_a_folder_where_a_model_should_be_is_left_alone(images, cache, capsys):
    model, _ = get(images)
    (path,) = cache.glob("*.safetensors")
    path.unlink()
    path.mkdir()
    again, _ = get(images)
    assert torch.equal(weights(model), weights(again))
    assert "Is a directory" in capsys.readouterr().out


def test_waiting_for_another_process_is_said(images, cache, capsys):
    get(images)
    fcntl = pytest.importorskip("fcntl")
    (path,) = cache.glob("*.safetensors")
    held = os.open(f"{path}.lock", os.O_RDWR)
    fcntl.flock(held, fcntl.LOCK_EX)
    said = []

    def let_go():  # once it has been said
        for _ in range(300):
            said.extend(capsys.readouterr().out.splitlines())
            if said:
                break
            time.sleep(0.1)
        os.close(held)

    helper = threading.Thread(target=let_go, daemon=True)
    helper.start()
    get(images)
    helper.join()
    assert said == [
        "Another process is training this model; waiting until it is done and lets go "
        f"of {path}.lock."
    ]
