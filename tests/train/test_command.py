"""Training from a terminal: it leaves a checkpoint and a picture, and goes on."""

import io
import json
import os
from pathlib import Path

import pytest
import torch
from PIL import Image
from runs import launch

from vae_teach import strokes
from vae_teach.data import Images
from vae_teach.nets import VAE
from vae_teach.train import History
from vae_teach.train import __main__ as command
from vae_teach.words import current_language

SMALL = (
    "--language",
    "en",
    "--data",
    "strokes",
    "--hidden-dim",
    "8",
    "--device",
    "cpu",
)


def load_few(name, split):
    """Draw 300 digits instead of 60,000."""
    pixels, factors = strokes.digits(300, seed=int(split == "test"))
    return Images(pixels, factors.label, "strokes", dynamic=split == "train")


@pytest.fixture(autouse=True)
def few_digits(monkeypatch):
    monkeypatch.setattr(command.data, "load", load_few)


def train(folder, *arguments):
    command.main([*SMALL, "--checkpoint", str(folder / "run.safetensors"), *arguments])


def test_it_leaves_a_table_a_checkpoint_and_a_picture(tmp_path, capsys):
    train(tmp_path, "--epochs", "2")
    told = capsys.readouterr()
    assert "test ELBO" in told.out
    assert len(told.out.splitlines()) == 4  # head, two epochs, what was written
    assert "Training" in told.err
    assert sorted(os.listdir(tmp_path)) == ["run.png", "run.safetensors"]
    with Image.open(tmp_path / "run.png") as picture:
        assert min(picture.size) > 400


def test_the_same_command_goes_on(tmp_path, capsys):
    train(tmp_path, "--epochs", "1")
    first = capsys.readouterr().out.splitlines()[1]
    train(tmp_path, "--epochs", "2")
    assert capsys.readouterr().out.splitlines()[1] == first


@pytest.mark.parametrize("first", ["run.png", "model.v1", "run"])
def test_the_picture_has_a_name_of_its_own(tmp_path, first):
    """A checkpoint stays one, and its run goes on."""
    names = (first, "model.v2", "other.safetensors")
    for epochs in "12":
        for name in names:
            command.main(
                [*SMALL, "--epochs", epochs, "--checkpoint", str(tmp_path / name)]
            )
    pictures = [f"{first}.png", "model.v2.png", "other.png"]
    assert sorted(os.listdir(tmp_path)) == sorted([*names, *pictures])
    for picture in pictures:
        Image.open(tmp_path / picture).verify()


def test_a_picture_does_not_replace_what_is_none(tmp_path, monkeypatch):
    """Such as the weights of a run whose file is called run.png."""
    (tmp_path / "run.png").write_bytes(b"kept")
    monkeypatch.setattr(command, "fit", lambda *_, **__: pytest.fail("it trained"))
    with pytest.raises(SystemExit, match=r"run\.png, where something else is"):
        train(tmp_path)
    assert (tmp_path / "run.png").read_bytes() == b"kept"


def test_a_console_without_accents_prints_all_the_same(tmp_path, monkeypatch):
    console = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", console)
    train(tmp_path, "--epochs", "1", "--language", "pt")
    console.flush()
    assert b"?poca" in console.buffer.getvalue()


def test_a_model_without_a_plane_shows_samples(tmp_path, capsys):
    train(tmp_path, "--epochs", "1", "--latent-dim", "3", "--language", "pt")
    told = capsys.readouterr().out
    assert "ELBO de teste" in told
    assert "Gravados:" in told
    assert (tmp_path / "run.png").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--batch-size", "0"), "batch_size: got 0"),
        (("--batch-size", "301"), "images in the dataset, 300;"),
        (("--device", "abacus"), "device: got 'abacus'; this machine has: cpu"),
        (("--precision", "low"), "precision: got 'low'"),
        (("--learning-rate", "nan"), "learning_rate: got nan"),
        (("--checkpoint", "."), "it takes the path of a file"),
        (("--checkpoint", "nowhere/run"), "in a folder that exists"),
    ],
)
def test_bad_settings_end_with_one_sentence(tmp_path, arguments, sentence):
    with pytest.raises(SystemExit, match=sentence) as end:
        train(tmp_path, *arguments)
    assert "\n" not in str(end.value)
    assert list(tmp_path.iterdir()) == []


def test_every_option_reaches_the_run(tmp_path, monkeypatch):
    """The run itself is left out; it finds all that the command line said."""
    asked, load = [], command.data.load

    def told_load(name, split):
        asked.append((name, split))
        return load(name, split)

    def told_fit(model, images, **options):
        asked.append((model, images, options))
        return History()  # as after an interruption in the first epoch

    monkeypatch.setattr(command.data, "load", told_load)
    monkeypatch.setattr(command, "fit", told_fit)
    options = "--seed 5 --hidden-dim 7 --latent-dim 3 --epochs 4 --batch-size 30 "
    options += "--learning-rate 0.25 --precision medium --data mnist"
    train(tmp_path, *options.split())
    *loads, (model, images, options) = asked
    assert loads == [("mnist", "train"), ("strokes", "test")]  # what was found
    torch.manual_seed(5)
    oracle = VAE(784, 7, 3).state_dict()
    assert all(torch.equal(v, oracle[k]) for k, v in model.state_dict().items())
    assert torch.equal(images.pixels, load("strokes", "train").pixels)
    assert torch.equal(options.pop("test").pixels, load("strokes", "test").pixels)
    assert options == {
        "epochs": 4,
        "batch_size": 30,
        "learning_rate": 0.25,
        "device": torch.device("cpu"),
        "checkpoint": tmp_path / "run.safetensors",
        "precision": "medium",
    }
    assert list(tmp_path.iterdir()) == []  # no epoch, no picture


def test_without_options_it_is_the_run_of_the_lessons():
    options = vars(command._read([]))
    assert options.pop("checkpoint").name == "vae.safetensors"
    assert options.pop("language") is None  # and then English is spoken
    assert options == {
        "data": "auto",
        "hidden_dim": 400,
        "latent_dim": 2,
        "epochs": 15,
        "batch_size": 128,
        "learning_rate": 1e-3,
        "precision": "highest",
        "seed": 0,
        "device": None,
    }


@pytest.mark.parametrize(
    "error", [OSError, FloatingPointError, torch.OutOfMemoryError, ValueError]
)
def test_what_fails_on_the_way_ends_with_its_sentence(tmp_path, monkeypatch, error):
    def fail(*args, **options):
        raise error("the sentence")

    monkeypatch.setattr(command, "fit", fail)
    report = tmp_path / "error.json"  # torchrun's, which closes its own report with it
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(report))
    with pytest.raises(SystemExit, match=r"^the sentence$"):
        train(tmp_path)
    told = json.loads(report.read_text(encoding="utf-8"))["message"]
    assert told["message"] == "the sentence"


def test_a_gpu_that_is_not_there_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    with pytest.raises(SystemExit, match="device: got 'cuda'; this machine has: cpu"):
        train(tmp_path, "--device", "cuda")


@pytest.mark.parametrize("language", ["pt", "en"])
def test_help_speaks_the_language_and_shows_torchrun(language, capsys):
    with pytest.raises(SystemExit):
        command.main(["--help", "--language", language])
    told = capsys.readouterr().out
    assert current_language() == language
    assert told.startswith(command.say("usage"))
    for name in ("command-several", "options", "option-help", "option-seed"):
        assert command.say(name).split()[-1] in told
    assert "torchrun --standalone --nproc-per-node 2 -m vae_teach.train" in told
    assert "--nnodes" in told


def test_without_an_option_it_speaks_portuguese_as_the_whole_course(capsys):
    with pytest.raises(SystemExit):
        command.main(["--help"])
    assert current_language() == "pt"
    assert capsys.readouterr().out.startswith("uso: ")


FEW = """
import sys
sys.path[:0] = [sys.argv.pop(1), sys.argv.pop(1)]
import test_command
test_command.command.data.load = test_command.load_few
test_command.command.main()
"""


def test_torchrun_trains_and_the_first_process_alone_speaks(tmp_path):
    script, folder = tmp_path / "few.py", tmp_path / "run"
    script.write_text(FEW, encoding="utf-8")
    folder.mkdir()
    folders = (Path(__file__).parent, Path(__file__).parents[1])
    arguments = (script, *folders, *SMALL, "--epochs", "1")
    done = launch(*arguments, cwd=folder)
    assert len(done.stdout.splitlines()) == 3
    assert sorted(os.listdir(folder)) == ["vae.png", "vae.safetensors"]
    assert done.stderr.count("Training: 100%") <= 2  # one bar, drawn again at its end


def test_torchrun_tells_a_bad_setting_and_closes_with_it(tmp_path):
    """Also where torchrun ends the first process before it could speak."""
    arguments = ("-m", "vae_teach.train", "--language", "en", "--device", "abacus")
    done = launch(*arguments, cwd=tmp_path, status=1)
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []
    sentence = "device: got 'abacus'; this machine has"
    lines = done.stderr.splitlines()
    assert sum(line.startswith(sentence) for line in lines) <= 1
    root = done.stderr.rpartition("Root Cause")[2]
    assert f"traceback : {sentence}" in root


def test_of_several_processes_the_first_alone_explains_the_options(monkeypatch, capsys):
    for rank, times in (("0", 1), ("1", 0)):
        monkeypatch.setenv("RANK", rank)
        for arguments in (["--epochs", "many"], ["--help"]):
            with pytest.raises(SystemExit):
                command.main([*arguments, "--language", "en"])
            told = capsys.readouterr()
            assert (told.out + told.err).count("usage: ") == times


def test_a_process_that_does_not_lead_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command.Team, "leads", property(lambda team: False))
    train(tmp_path, "--epochs", "1")
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr() == ("", "")


def test_of_several_processes_that_fail_alike_the_first_says_why(tmp_path, monkeypatch):
    for rank, told in (("0", "batch_size: got 0"), ("1", "1")):
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(SystemExit, match=told) as end:
            train(tmp_path, "--batch-size", "0")
    assert end.value.code == 1
