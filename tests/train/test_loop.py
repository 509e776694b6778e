"""Training: it learns, repeats itself, survives interruption, and refuses bad input."""

import contextlib
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import platformdirs
import pytest
import torch
from sklearn.linear_model import LinearRegression

from vae_teach import train
from vae_teach.data import Images, draw_bits
from vae_teach.densities import log_bernoulli
from vae_teach.nets import VAE
from vae_teach.train import cache as cache_module
from vae_teach.words import use_language


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
    x = draw_bits(images.pixels[order])
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
    whole = train.Run.epoch

    def stop_in_the_third(self, number, *args):
        if number == 3:
            raise KeyboardInterrupt
        return whole(self, number, *args)

    monkeypatch.setattr(train.Run, "epoch", stop_in_the_third)
    history = fit(model, images, epochs=10)
    assert history.interrupted
    assert len(history) == 2
    assert not torch.equal(weights(model), first)
    assert "after 2 of 10 complete epochs" in capsys.readouterr().out


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bytes_train_as_their_grey_levels_do(images, dtype):
    levels = (255 * images.pixels).round().byte()
    trained = []
    for pixels in (levels, levels.float() / 255):
        model = new_model().to(dtype)
        torch.manual_seed(1)
        fit(model, Images(pixels, images.labels, dynamic=True))
        trained.append(weights(model))
    assert torch.equal(*trained)


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
    told = capsys.readouterr().err
    assert "Training" in told
    assert re.search(r"3/3 \[\d\d:\d\d<\d\d:\d\d, ELBO −[\d.]+ nats\]", told)  # no rate


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
        ({"batch_size": 601}, "batch_size: got 601, .* dataset, 600;"),
        ({"learning_rate": 0.0}, "learning_rate: got 0.0"),
        ({"learning_rate": math.nan}, "learning_rate: got nan"),
        ({"device": "abacus"}, "device: got 'abacus'"),
        ({"precision": "low"}, "precision: got 'low'; it takes one of 'highest'"),
    ],
)
def test_bad_settings_get_one_sentence(images, options, named):
    model = new_model()
    before = weights(model)
    with pytest.raises(ValueError, match=named):
        fit(model, images, **options)
    assert torch.equal(weights(model), before)


def test_precision_is_set_while_training_and_given_back(images, monkeypatch):
    seen = []

    def look(self, number, *args):
        seen.append(torch.get_float32_matmul_precision())
        raise KeyboardInterrupt

    monkeypatch.setattr(train.Run, "epoch", look)
    fit(new_model(), images, precision="medium")
    fit(new_model(), images)
    assert seen == ["medium", "highest"]
    assert torch.get_float32_matmul_precision() == "highest"


def test_full_memory_says_what_to_lower_and_keeps_the_last_epoch(
    images, monkeypatch, tmp_path
):
    whole, path = train.Run.epoch, tmp_path / "run.safetensors"

    def full_in_the_second(self, number, *args):
        if number == 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 7 TiB")
        return whole(self, number, *args)

    monkeypatch.setattr(train.Run, "epoch", full_in_the_second)
    with pytest.raises(
        torch.OutOfMemoryError, match=r"batch_size=50: lower batch_size"
    ):
        fit(new_model(), images, checkpoint=path)
    monkeypatch.undo()
    resumed = new_model()
    assert len(fit(resumed, images, checkpoint=path, epochs=1)) == 1
    alone = new_model()
    fit(alone, images, epochs=1)
    assert torch.equal(weights(resumed), weights(alone))


def test_no_step_waits_for_the_device(images, monkeypatch):
    """Numbers that leave the device make the host wait: none do inside an epoch."""
    asked = []
    for name in ("item", "tolist", "__bool__", "__float__", "__int__"):
        whole = getattr(torch.Tensor, name)

        def watched(self, *args, whole=whole, name=name):
            asked.append(name)
            return whole(self, *args)

        monkeypatch.setattr(torch.Tensor, name, watched)
    fit(new_model(), images, epochs=1)  # 12 steps
    few = len(asked)
    fit(new_model(), images, epochs=1, batch_size=6)  # 100 steps
    assert len(asked) == 2 * few


# --- models that are kept ----------------------------------------------------------


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path)
    return tmp_path / "models"


def get(images, **options):
    settings = {"hidden_dim": 8, "epochs": 2, "batch_size": 50, "device": "cpu"}
    return train.trained(images, **settings | {"progress": False} | options)


def count_epochs(monkeypatch):
    ran, whole = [], train.Run.epoch
    monkeypatch.setattr(train.Run, "epoch", lambda *args: ran.append(1) or whole(*args))
    return ran


def test_trained_is_what_fit_makes_and_is_trained_once(images, cache, monkeypatch):
    torch.manual_seed(4)
    by_hand = VAE(16, 8, 2)
    history = fit(by_hand, images, epochs=2)
    ran = count_epochs(monkeypatch)
    model, first = get(images, seed=4)
    again, second = get(images, seed=4)
    assert torch.equal(weights(model), weights(by_hand))
    assert torch.equal(weights(again), weights(by_hand))
    assert first.column("elbo") == second.column("elbo") == history.column("elbo")
    assert len(ran) == 2
    assert not model.training


def test_trained_leaves_the_random_stream_where_it_was(images, cache):
    torch.manual_seed(0)
    expected = torch.rand(3)
    for _ in range(2):
        torch.manual_seed(0)
        get(images)
        assert torch.equal(torch.rand(3), expected)


def file_of(images, monkeypatch, **options):
    """Return the name of the file that a model is kept in, training nothing."""
    files = []

    def told(model, images, checkpoint, **options):
        files.append(checkpoint.name)
        return train.History()

    with monkeypatch.context() as patch:
        patch.setattr(cache_module, "fit", told)
        patch.setattr(cache_module, "own_stream", lambda _: contextlib.nullcontext())
        get(images, **options)
    return files[0]


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"epochs": 3},
        {"hidden_dim": 9},
        {"latent_dim": 3},
        {"batch_size": 60},
        {"learning_rate": 2e-3},
        {"images": lambda i: Images(i.pixels, i.labels, i.name)},
        {"images": lambda i: Images(i.pixels.flip(0), i.labels, i.name, dynamic=True)},
        {"images": lambda i: Images(i.pixels, i.labels, "other", dynamic=True)},
        {"images": lambda i: Images(i.pixels.reshape(300, 32), i.labels[:300], i.name,
                                    dynamic=True)},
        {"test": None},
        {"test": lambda i: Images(i.pixels.flip(0), i.labels, i.name, dynamic=True)},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_what_determines_a_model_names_its_file(images, cache, change, monkeypatch):
    as_it_is = {"images": images, "test": images}
    options = {k: v(images) if callable(v) else v for k, v in change.items()}
    files = [
        file_of(some.pop("images"), monkeypatch, **some)
        for some in (dict(as_it_is), as_it_is | options)
    ]
    assert files[0] != files[1]


def test_the_kind_of_device_names_a_file(images, cache, monkeypatch):
    monkeypatch.setattr(cache_module, "find_device", torch.device)
    kinds = ("cpu", "cuda", "mps", "cuda:1")
    files = [file_of(images, monkeypatch, device=kind) for kind in kinds]
    assert len(set(files[:3])) == 3
    assert files[1] == files[3]  # the second of two GPUs is of the same kind


def test_another_pytorch_names_another_file(images, cache, monkeypatch):
    before = file_of(images, monkeypatch)
    monkeypatch.setattr(torch, "__version__", "0.1")
    assert file_of(images, monkeypatch) != before


@pytest.mark.parametrize(
    ("module", "counts"),
    [
        *((n, True) for n in ("bounds", "data", "densities", "models", "nets")),
        ("cuda_graph", True),
        ("loop", True),
        ("figures", False),
    ],
)
def test_code_that_trains_names_the_file(images, cache, monkeypatch, module, counts):
    before, read = file_of(images, monkeypatch), Path.read_bytes

    def edited(path):
        return read(path) + b"# edited" * (path.name == f"{module}.py")

    monkeypatch.setattr(Path, "read_bytes", edited)
    assert (file_of(images, monkeypatch) != before) == counts


def test_the_table_has_each_number_under_its_head():
    row = {"epoch": 3, "elbo": -1.25, "reconstruction": -1.0, "kl": 0.25}
    row |= {"test_elbo": -1.5, "seconds": 2.0, "images_per_second": 50.0}
    heads = {
        "en": ["epoch", "ELBO", "reconstr.", "KL", "test ELBO", "seconds"],
        "pt": ["época", "ELBO", "reconstrução", "KL", "ELBO de teste", "segundos"],
    }
    for language, expected in heads.items():
        use_language(language)
        head, numbers = str(train.History([row])).splitlines()
        assert re.split(r"\s{2,}", head.strip()) == expected
        numbers = numbers.replace(",", ".").replace("−", "-").split()
        assert list(map(float, numbers)) == [3, -1.25, -1, 0.25, -1.5, 2]
        short, _ = str(train.History([{"epoch": 1, "kl": 2.0}])).splitlines()
        assert short.split() == [expected[0], "KL"]


def test_trained_measures_on_test_images(images, cache):
    _, history = get(images, test=images)
    assert all(math.isfinite(elbo) for elbo in history.column("test_elbo"))
    assert "test_elbo" not in get(images)[1].rows[0]


def test_labels_have_no_part_in_a_model(images, cache):
    get(images)
    get(Images(images.pixels, images.labels.flip(0), images.name, dynamic=True))
    assert len(list(cache.glob("*.safetensors"))) == 1


def cut(content):
    return content[:-100]


def rewritten(content):
    """Another history: a digit of its header."""
    place = content.index(b"elbo") + len(b"elbo")
    while not chr(content[place]).isdigit():
        place += 1
    digit = str(9 - int(chr(content[place]))).encode()
    return content[:place] + digit + content[place + 1 :]


@pytest.mark.parametrize("damage", [cut, rewritten])
def test_a_damaged_model_is_told_and_made_again(images, cache, capsys, damage):
    model, history = get(images)
    (path,) = cache.glob("*.safetensors")
    path.write_bytes(damage(path.read_bytes()))
    again, retold = get(images)
    assert torch.equal(weights(model), weights(again))
    assert retold.column("elbo") == history.column("elbo")
    assert "is damaged; it will be trained again" in capsys.readouterr().out


def test_a_stopped_run_goes_on_where_it_was(images, cache, monkeypatch, capsys):
    whole = train.Run.epoch

    def stop(self, number, *args):
        if number == 2:
            raise KeyboardInterrupt
        return whole(self, number, *args)

    monkeypatch.setattr(train.Run, "epoch", stop)
    with pytest.raises(KeyboardInterrupt):
        get(images)
    monkeypatch.setattr(train.Run, "epoch", whole)
    ran = count_epochs(monkeypatch)
    model, history = get(images)
    assert len(ran) == 1
    assert history.column("epoch") == [1, 2]
    torch.manual_seed(0)
    alone = VAE(16, 8, 2)
    fit(alone, images, epochs=2)
    assert torch.equal(weights(model), weights(alone))


TWO = """
import os, pathlib, sys
sys.path.insert(0, sys.argv[1])
import platformdirs, torch
from vae_teach import train
from vae_teach.data import Images
platformdirs.user_cache_path = lambda name: pathlib.Path(sys.argv[2])
whole = train.Run.epoch
def told(self, number, *args):
    print("trained", number, flush=True)
    return whole(self, number, *args)
train.Run.epoch = told
pixels = torch.rand(2000, 64, generator=torch.Generator().manual_seed(0))
images = Images(pixels, torch.zeros(2000, dtype=torch.int64), "noise", dynamic=True)
torch.optim.Adam([torch.zeros(1)]).zero_grad()  # imports all that training needs
children = []
for _ in range(2):  # imported once; each child is a process of its own
    if (child := os.fork()) == 0:
        model, _ = train.trained(images, epochs=5, device="cpu", progress=False)
        print("sum", sum(p.double().sum().item() for p in model.parameters()))
        sys.stdout.flush()
        os._exit(0)
    children.append(child)
sys.exit(max(os.waitpid(child, 0)[1] for child in children))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork: Linux or macOS")
def test_two_processes_that_want_one_model_train_it_once(tmp_path, pytestconfig):
    done = subprocess.run(
        [sys.executable, "-c", TWO, str(pytestconfig.rootpath), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
    )
    lines = done.stdout.splitlines()
    assert sum(line.startswith("trained") for line in lines) == 5
    sums = [line for line in lines if line.startswith("sum")]
    assert len(sums) == 2
    assert sums[0] == sums[1]
