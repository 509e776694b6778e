"""Checkpoints: a killed run resumes bit for bit; a bad file is refused and kept."""

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

try:
    import resource
except ImportError:  # Windows
    resource = None

from vae_teach import train
from vae_teach.data import Images
from vae_teach.nets import VAE
from vae_teach.train import checkpoints
from vae_teach.train.checkpoints import DamagedError


def make_images():
    stream = torch.Generator().manual_seed(0)
    grey = torch.rand(300, 16, generator=stream)
    return Images(grey, torch.zeros(300, dtype=torch.int64), "noise", dynamic=True)


def run(path, epochs=4, **options):
    torch.manual_seed(0)
    model = VAE(input_dim=16, hidden_dim=options.pop("hidden_dim", 8))
    model = options.pop("become", lambda same: same)(model)
    history = train.fit(
        model,
        options.pop("images", make_images()),
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


def test_the_file_is_json_and_numbers_and_nothing_else(path):
    """Read by hand: the length of a header, the header, then the tensors' bytes."""
    weights, history = run(path, epochs=2)
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    kept = header.pop("__metadata__")
    assert json.loads(kept["rows"]) == history.rows
    settings = {"images": "noise", "count": 300, "batch_size": 50}
    settings |= {"learning_rate": 1e-3, "precision": "highest"}
    assert json.loads(kept["settings"]) == settings
    pieces = sorted(tensor["data_offsets"] for tensor in header.values())
    assert pieces[0][0] == 0
    assert [start for start, _ in pieces[1:]] == [stop for _, stop in pieces[:-1]]
    assert end + pieces[-1][1] == len(content)  # no byte that is not a tensor's
    for name, value in VAE(input_dim=16, hidden_dim=8).named_parameters():
        start, stop = header[f"model.{name}"]["data_offsets"]
        found = np.frombuffer(content[end + start : end + stop], "<f4")
        assert np.array_equal(found, weights[: value.numel()]), name
        weights = weights[value.numel() :]


# --- what is done to processes of their own ------------------------------------------

MOMENTS = 20
FORKED = """
import json, os, pathlib, sys
sys.path.insert(0, sys.argv[1])
import torch
import test_checkpoints
from vae_teach.words import use_language
use_language("en")
torch.optim.Adam([torch.zeros(1)]).zero_grad()  # imports all that training needs, once
for name in ("kill", "fill_the_disk", "forbid"):
    if (child := os.fork()) == 0:
        (folder := pathlib.Path(sys.argv[2], name)).mkdir()
        print(json.dumps([name, getattr(test_checkpoints, name)(folder)]), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


def kill(folder):
    """Kill a run at twenty moments; return how many epochs each of them had."""
    path, moments, epochs = folder / "run.safetensors", random.Random(0), []
    for _ in range(MOMENTS):
        before = path.stat().st_mtime_ns if path.exists() else 0
        if (child := os.fork()) == 0:
            run(path, epochs=100_000)
        while not (path.exists() and path.stat().st_mtime_ns > before):
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.05))  # an epoch takes about 0.01
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        epochs.append(len(run(path, epochs=1)[1]))  # whole: it is read back
    return epochs


def fill_the_disk(folder):
    """Let writing fail in the second epoch; return what was told."""
    run(folder / "run.safetensors", epochs=1)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then it fails as a full disk does
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
    try:
        run(folder / "run.safetensors", epochs=2)
    except OSError as error:
        return str(error)


def forbid(_):
    """Train into a folder and a file that are read-only; return what was told."""
    train.Run.epoch = lambda *args: sys.exit("it trained")
    told = []
    with tempfile.TemporaryDirectory() as name:
        folder, file = Path(name, "folder"), Path(name, "file")
        folder.mkdir()
        file.write_bytes(b"kept")
        for place, rights in ((folder, 0o555), (file, 0o444), (Path(name), 0o777)):
            place.chmod(rights)
        if (child := os.fork()) == 0:
            if os.geteuid() == 0:  # root may write all: be nobody
                os.setresuid(65534, 65534, 65534)
            for place in (folder / "run", file):
                with pytest.raises(ValueError, match="which cannot be written"):
                    run(place)
            os._exit(7)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        told = [status, os.listdir(folder), file.read_text()]
        folder.chmod(0o755)
    return told


@pytest.fixture(scope="module")
def forked(tmp_path_factory, pytestconfig):
    """A folder, and what each of the three jobs above told of it."""
    if sys.platform != "linux":
        pytest.skip("needs fork, setresuid and a limit on file sizes: Linux")
    folder = tmp_path_factory.mktemp("forked")
    done = subprocess.run(
        [sys.executable, "-c", FORKED, str(Path(__file__).parent), str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    return folder, dict(map(json.loads, done.stdout.splitlines()))


def test_sigkill_at_random_moments_loses_nothing(forked):
    """Each kill leaves a whole file; the run that survived them all is the same."""
    epochs = forked[1]["kill"]
    assert len(epochs) == MOMENTS
    assert epochs == sorted(set(epochs))  # each went on where the last was killed
    uninterrupted, alone = run(None, epochs=epochs[-1] + 2)
    resumed, history = run(forked[0] / "kill/run.safetensors", epochs=epochs[-1] + 2)
    assert torch.equal(resumed, uninterrupted)
    assert history.column("elbo") == alone.column("elbo")


def test_a_disk_that_fills_up_while_writing_leaves_the_earlier_file(forked):
    told = forked[1]["fill_the_disk"]
    assert "the earlier file, if there was one, is still there" in told
    path = forked[0] / "fill_the_disk/run.safetensors"
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    resumed, history = run(path, epochs=2)
    assert len(history) == 2
    assert torch.equal(resumed, run(None, epochs=2)[0])


def test_a_folder_and_a_file_that_are_read_only(forked):
    """With rights as the system keeps them: each is told, and nothing is written."""
    assert forked[1]["forbid"] == [7, [], "kept"]


# --- files that are not whole --------------------------------------------------------


def test_a_file_cut_anywhere_is_never_used(path):
    run(path)
    whole = path.read_bytes()
    places = random.Random(0)
    for length in [
        0,
        1,
        7,
        8,
        9,
        len(whole) - 1,
        *places.sample(range(len(whole)), 60),
    ]:
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedError, match="is damaged or not a checkpoint"):
            run(path)
        assert path.read_bytes() == whole[:length]


def test_a_byte_changed_anywhere_in_the_tensors_is_never_used(path):
    run(path)
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    for place in random.Random(0).sample(range(header, len(whole)), 40):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(DamagedError):
            run(path)


def test_a_byte_changed_anywhere_in_the_header_is_never_used(path):
    """Its history, its settings, the names and kinds of the tensors, the digest."""
    run(path)
    whole = path.read_bytes()
    header, places = 8 + int.from_bytes(whole[:8], "little"), random.Random(0)
    rows = whole.index(b"elbo")  # in JSON in JSON: a digit of the history, surely
    digit = next(i for i in range(rows, header) if chr(whole[i]).isdigit())
    for place in [digit, *places.sample(range(header), 80)]:
        other = whole[place] ^ (1 if place == digit else places.randrange(1, 256))
        path.write_bytes(whole[:place] + bytes([other]) + whole[place + 1 :])
        with pytest.raises(DamagedError, match="is damaged") as told:
            run(path)
        assert "\n" not in str(told.value)


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


def test_another_format_is_refused_and_left_as_it_is(path):
    """As a later version may write it: whole, and not what this one understands."""
    run(path)
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = file.metadata()
    save_file(tensors, path, header)
    run(path)  # as it was
    save_file(tensors, path, header | {"format": "vae_teach 2"})
    before = path.read_bytes()
    with pytest.raises(DamagedError, match="is damaged or not a checkpoint"):
        run(path)
    assert path.read_bytes() == before


def test_another_model_is_refused_and_nothing_changes(path):
    run(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="a model of another shape"):
        run(path, hidden_dim=9)
    assert path.read_bytes() == before


def other_pixels(images):
    return dataclasses.replace(images, pixels=1 - images.pixels)


def in_another_order(images):
    return dataclasses.replace(images, pixels=images.pixels.flip(0))


def still(images):
    return dataclasses.replace(images, dynamic=False)


@pytest.mark.parametrize("change", [other_pixels, in_another_order, still])
@pytest.mark.parametrize("kind", ["images", "test"])
def test_other_images_of_the_same_name_are_told(path, change, kind):
    images = {"images": make_images(), "test": make_images()}
    first, _ = run(path, epochs=1, **images)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=f"the images of {kind} are not") as told:
        run(path, **images | {kind: change(images[kind])})
    assert "\n" not in str(told.value)
    assert path.read_bytes() == before
    labels = torch.ones(300, dtype=torch.int64)  # which training does not see
    images["images"] = dataclasses.replace(images["images"], labels=labels)
    assert torch.equal(run(path, epochs=1, **images)[0], first)


def test_a_history_has_test_images_throughout_or_not_at_all(path):
    run(path, epochs=1)
    with pytest.raises(ValueError, match="the images of test are not"):
        run(path, test=make_images())


def compiled(model):
    return torch.compile(model, backend="eager")


def partly(model):
    model.encoder_hidden = torch.compile(model.encoder_hidden, backend="eager")
    return model


@pytest.mark.parametrize("first", [compiled, partly, None])
@pytest.mark.parametrize("then", [compiled, partly, None])
def test_a_compiled_model_and_the_plain_one_go_on_with_each_other(path, first, then):
    whole, _ = run(None)
    run(path, epochs=2, **{"become": first} if first else {})
    resumed, history = run(path, **{"become": then} if then else {})
    assert torch.equal(resumed, whole)
    assert len(history) == 4


def transposed(model):
    """Weights in another order in memory, as of images channels last."""
    weight = model.encoder_hidden.weight.detach()
    model.encoder_hidden.weight = nn.Parameter(weight.T.contiguous().T)
    return model


@pytest.mark.parametrize("become", [VAE.bfloat16, VAE.double, transposed])
def test_a_model_of_another_kind_resumes_too(path, become):
    whole, _ = run(None, become=become)
    run(path, epochs=2, become=become)
    assert torch.equal(run(path, become=become)[0], whole)
    if become is not transposed:
        with pytest.raises(ValueError, match="of another shape or precision"):
            run(path)


def named(name):
    return dataclasses.replace(make_images(), name=name)


def fewer(count):
    every = make_images()
    return dataclasses.replace(
        every, pixels=every.pixels[:count], labels=every.labels[:count]
    )


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("batch_size", 60, "batch_size is 60 now but was 50"),
        ("learning_rate", 1e-2, "learning_rate is 0.01 now but was 0.001"),
        ("precision", "medium", "precision is 'medium' now but was 'highest'"),
        ("kl_weight", 0.5, "kl_weight is 0.5 now but was None"),
        ("images", named("hum"), "images is 'hum' now but was 'noise'"),
        ("images", fewer(299), "count is 299 now but was 300"),
    ],
)
def test_other_settings_are_named(path, option, value, told):
    run(path, epochs=1, precision="highest")
    with pytest.raises(ValueError, match=told):
        run(path, **{"precision": "highest"} | {option: value})


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


@pytest.mark.parametrize("read_only", ["folder", "file"])
def test_a_place_that_cannot_be_written_is_told_before_training(
    path, monkeypatch, read_only
):
    """Told by what the system answers: tests may run as root, who may write all."""
    run(path)
    closed = path if read_only == "file" else path.parent
    allowed = os.access
    monkeypatch.setattr(
        checkpoints.os,
        "access",
        lambda place, how: place != closed and allowed(place, how),
    )
    monkeypatch.setattr(train.Run, "epoch", lambda *args: pytest.fail("it trained"))
    with pytest.raises(ValueError, match="which cannot be written"):
        run(path, epochs=5)
