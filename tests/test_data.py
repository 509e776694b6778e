"""Datasets: MNIST by its checksums, the fallback, damage, and bad input."""

import contextlib
import gzip
import hashlib
import http.client
import http.server
import math
import os
import shutil
import ssl
import threading
import urllib.error
import zlib

import numpy as np
import platformdirs
import pytest
import torch

from vae_teach import data
from vae_teach.words import use_language

GIVEN = os.environ.get("VAE_TEACH_DATA", "")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, no other folder, and no way to download."""
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / name)
    monkeypatch.delenv("VAE_TEACH_DATA", raising=False)
    monkeypatch.setenv("VAE_TEACH_DOWNLOAD", "0")
    return tmp_path / "vae_teach"


def write_tiny(folder, count=5, seed=0):
    """Write four idx files of ``count`` images; return their sizes and checksums."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    sizes, digests = {}, {}
    for split in ("train", "t10k"):
        head = (0x803).to_bytes(4) + b"".join(n.to_bytes(4) for n in (count, 28, 28))
        images = head + rng.integers(0, 256, count * 784, dtype=np.uint8).tobytes()
        labels = (0x801).to_bytes(4) + count.to_bytes(4) + bytes(range(count))
        files = {"images-idx3-ubyte": images, "labels-idx1-ubyte": labels}
        for name, content in files.items():
            (folder / f"{split}-{name}").write_bytes(content)
            sizes[f"{split}-{name}"] = len(content)
            digests[f"{split}-{name}"] = hashlib.sha256(content).hexdigest()
    return sizes, digests


@pytest.fixture
def tiny(cache, monkeypatch):
    """A whole MNIST of five images in the cache; returns its folder.

    A Fashion-MNIST of five others is known by its checksums, and is nowhere.
    """
    raw, other = cache / "MNIST" / "raw", cache / "FashionMNIST" / "raw"
    sizes, digests = write_tiny(raw)
    write_fashion(other)
    md5 = {f.name: hashlib.md5(f.read_bytes()).hexdigest() for f in other.iterdir()}
    shutil.rmtree(other.parent)
    monkeypatch.setattr(data, "FILE_BYTES", sizes)
    monkeypatch.setattr(data, "MNIST_SHA256", digests)
    monkeypatch.setattr(data, "FASHION_MD5", md5)
    return raw


def write_fashion(folder):
    write_tiny(folder, seed=1)
    for file in folder.glob("*labels*"):  # other labels than MNIST's
        file.write_bytes(file.read_bytes()[:-1] + b"\x09")


class FakeDownload:
    """Stands for torchvision's class while it downloads."""

    def __init__(self, write, folder="MNIST"):
        self.write, self.folder, self.calls = write, folder, 0

    def __call__(self, root, download):
        self.calls += 1
        return self.write(os.path.join(root, self.folder, "raw"))


@pytest.fixture
def download(monkeypatch):
    def install(write, folder="MNIST"):
        fake = FakeDownload(write, folder)
        monkeypatch.setenv("VAE_TEACH_DOWNLOAD", "1")
        monkeypatch.setattr(f"torchvision.datasets.{folder}", fake)
        return fake

    return install


@pytest.mark.mnist
def test_mnist_is_mnist():
    train, test = data.load("mnist", "train"), data.load("mnist", "test")
    assert (len(train), len(test)) == (60_000, 10_000)
    assert train.pixels.shape == (60_000, 784)
    assert train.pixels.nbytes == 60_000 * 784  # a byte each
    assert test.pixels.dtype == torch.float32
    assert train.labels.dtype == torch.int64
    assert train.labels.bincount().tolist() == [
        *(5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)
    ]  # the published counts
    mean = train.pixels.double().mean().item() / 255
    assert mean == pytest.approx(0.1307, abs=1e-4)
    assert test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        pytest.param("mnist", "9a4df4594984b77d", marks=pytest.mark.mnist),
        ("strokes", "f6be7b195b9c618b"),
    ],
)
def test_the_test_images_are_those_of_the_published_numbers(name, digest):
    """Their bits are drawn once, from one seed: another draw is another test set."""
    bits = data.load(name, "test").pixels.byte().numpy()
    assert hashlib.sha256(np.packbits(bits)).hexdigest()[:16] == digest


def test_the_training_images_of_strokes_are_those_of_the_published_numbers(monkeypatch):
    """Drawing them takes seconds: their number and their seed determine them."""
    asked = []
    monkeypatch.setattr(data.strokes, "draw", lambda factors: factors.jitter[:, :1, 0])
    few = data.strokes.sample_factors(3, seed=0)
    monkeypatch.setattr(
        data.strokes, "sample_factors", lambda n, seed: asked.append((n, seed)) or few
    )
    data.load("strokes", "train")
    assert asked == [(60_000, 0)]


@pytest.mark.mnist
def test_grey_floor_of_mnist():
    grey = data.load("mnist", "test", binarize=None).pixels.double()
    entropy = -(torch.xlogy(grey, grey) + torch.xlogy(1 - grey, 1 - grey)).sum(1)
    assert entropy.mean().item() == pytest.approx(45.53, abs=0.01)


def test_test_split_is_binary_and_the_same_every_time(tiny):
    first, second = data.load("mnist", "test"), data.load("mnist", "test")
    assert set(first.pixels.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(first.pixels, second.pixels)
    assert not first.dynamic


def test_train_split_draws_new_bits_in_each_epoch(tiny):
    train = data.load("mnist", "train")
    epochs = [next(iter(train.batches(5, shuffle=False)))[0] for _ in range(2)]
    assert all(set(bits.unique().tolist()) == {0.0, 1.0} for bits in epochs)
    assert not torch.equal(*epochs)


@pytest.mark.parametrize(
    ("binarize", "values", "dynamic"),
    [
        (None, 200, False),
        (False, 200, False),  # as None
        ("fixed", 2, False),
        ("dynamic", 200, True),
        ("auto", 200, True),
        (True, 200, True),  # as "auto"
    ],
)
def test_binarization_by_name(tiny, binarize, values, dynamic):
    images = data.load("mnist", "train", binarize=binarize)
    distinct = len(images.pixels.unique())
    assert distinct == 2 if values == 2 else distinct > values
    assert images.dynamic == dynamic


def test_bits_have_the_grey_level_as_their_mean():
    grey = torch.linspace(0, 1, 9).repeat(1, 1)
    stream = torch.Generator().manual_seed(0)
    bits = data.draw_bits(grey.expand(20_000, 9), stream).mean(0)
    error = (grey * (1 - grey) / 20_000).sqrt()
    assert ((bits - grey).abs() <= 4 * error).all()
    assert bits[0] == 0
    assert bits[-1] == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_pixels_that_are_sure_stay_so(dtype):
    for level in (0, 1):
        grey = torch.full((1000, 784), level, dtype=dtype)
        assert torch.equal(data.draw_bits(grey), grey)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_bits_come_as_often_as_their_grey_level(dtype):
    levels = [1 / 256, 1 / 16, 0.25, 0.5, 0.75, 0.9375, 255 / 256]
    stream, count = torch.Generator().manual_seed(0), 2_000_003
    for level in levels:  # all of them exact in float16
        bits = data.draw_bits(torch.full((count,), level, dtype=dtype), stream)
        assert bits.dtype == dtype
        assert ((bits == 0) | (bits == 1)).all()
        error = math.sqrt(level * (1 - level) / count)
        assert abs(bits.double().mean().item() - level) < 4 * error


def test_neighbouring_pixels_are_independent():
    """Four of them share one draw of 64 bits."""
    count, stream = 200_000, torch.Generator().manual_seed(0)
    grey = torch.tensor([0.5, 0.2, 0.5, 0.7, 0.1, 0.5, 0.9, 0.5])
    bits = data.draw_bits(grey.expand(count, 8), stream)
    together = bits.T @ bits / count
    error = torch.outer(grey, grey)
    error = (error * (1 - error) / count).sqrt()
    off = (together - torch.outer(grey, grey)).abs() / error
    assert off[~torch.eye(8, dtype=torch.bool)].max() < 5
    correlation = torch.corrcoef(torch.cat((bits[:-1], bits[1:]), 1).T)
    assert (correlation - torch.eye(16)).abs().max() < 5 / math.sqrt(count)


@pytest.mark.parametrize("shape", [(), (1,), (3, 7), (2, 0), (0, 784), (2, 3, 5)])
def test_bits_have_the_shape_of_the_grey_levels(shape):
    bits = data.draw_bits(torch.full(shape, 0.5))
    assert bits.shape == shape
    assert ((bits == 0) | (bits == 1)).all()


def test_bits_keep_to_their_pixels_however_they_lie_in_memory():
    grey = (torch.rand(30, 50) < 0.5).float()
    assert torch.equal(data.draw_bits(grey.T), grey.T)
    assert torch.equal(data.draw_bits(grey[:, ::3]), grey[:, ::3])
    kept = grey.clone()
    data.draw_bits(grey)
    assert torch.equal(grey, kept)


def test_bits_follow_their_generator():
    grey = torch.full((5, 7), 0.5)

    def bits(seed):
        return data.draw_bits(grey, torch.Generator().manual_seed(seed))

    assert torch.equal(bits(1), bits(1))
    assert not torch.equal(bits(1), bits(2))


@pytest.mark.parametrize("dynamic", [False, True])
def test_take_gives_what_batches_give(dynamic):
    images = data.Images(torch.rand(9, 5), torch.arange(9), dynamic=dynamic)
    batches, taken = (torch.Generator().manual_seed(0) for _ in range(2))
    order = torch.randperm(9, generator=taken)
    chunks = order.split(4)
    pairs = list(images.batches(4, generator=batches))
    assert len(pairs) == len(chunks)
    for (x, labels), chosen in zip(pairs, chunks, strict=True):
        assert torch.equal(labels, chosen)
        assert torch.equal(x, images.take(chosen, taken))
        assert dynamic or torch.equal(x, images.pixels[chosen])


@pytest.mark.parametrize("dynamic", [False, True])
def test_bytes_give_what_their_grey_levels_give(dynamic):
    levels = torch.randint(0, 256, (9, 5), dtype=torch.uint8)
    floats, labels = levels.float() / 255, torch.arange(9)
    sources = (torch.Generator().manual_seed(0) for _ in range(2))
    batches = [
        list(data.Images(pixels, labels, dynamic=dynamic).batches(4, generator=source))
        for pixels, source in zip((levels, floats), sources, strict=True)
    ]
    for (of_bytes, _), (of_floats, _) in zip(*batches, strict=True):
        assert of_bytes.dtype == torch.float32
        assert torch.equal(of_bytes, of_floats)


def test_bytes_are_refused_where_there_are_none():
    with pytest.raises(ValueError, match="pixels"):
        data.Images(torch.empty(0, 4, dtype=torch.uint8), torch.arange(0))


def test_batches_cover_every_image_once():
    pixels, labels = torch.rand(10, 4), torch.arange(10)
    images = data.Images(pixels, labels)
    batches = list(images.batches(4))
    assert [len(x) for x, _ in batches] == [4, 4, 2]
    order = torch.cat([y for _, y in batches])
    assert sorted(order.tolist()) == list(range(10))
    for x, y in batches:
        assert torch.equal(x, pixels[y])


def test_batches_follow_their_generator():
    images = data.Images(torch.rand(50, 4), torch.arange(50), dynamic=True)

    def order(seed):
        stream = torch.Generator().manual_seed(seed)
        return [torch.cat(list(map(torch.flatten, pair))) for pair in
                images.batches(20, generator=stream)]  # fmt: skip

    assert all(map(torch.equal, order(1), order(1)))
    assert not all(map(torch.equal, order(1), order(2)))
    in_order = [y for _, y in images.batches(20, shuffle=False)]
    assert torch.cat(in_order).tolist() == list(range(50))


def test_auto_falls_back_in_one_line_that_says_why(cache, capsys):
    images = data.load("auto", "test")
    said = capsys.readouterr().out.splitlines()
    assert images.name == "strokes"
    assert len(said) == 1
    assert "MNIST is not available (downloads are off: VAE_TEACH_DOWNLOAD=0)" in said[0]


def test_auto_takes_mnist_where_it_is(tiny):
    assert data.load("auto", "test").name == "mnist"


def test_mnist_by_name_says_where_it_looked_and_the_ways_out(cache):
    with pytest.raises(FileNotFoundError) as caught:
        data.load("mnist")
    sentence = str(caught.value)
    for part in (str(cache), "downloads are off", "VAE_TEACH_DATA", "load('strokes')"):
        assert part in sentence


def test_given_folder_comes_first(tiny, cache, tmp_path, monkeypatch):
    tiny.parent.rename(tmp_path / "MNIST")
    monkeypatch.setenv("VAE_TEACH_DATA", str(tmp_path))
    assert len(data.load("mnist")) == 5


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def alter(path):
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)


def lengthen(path):
    path.write_bytes(path.read_bytes() + b"x")


@pytest.mark.parametrize("damage", [truncate, alter, lengthen])
@pytest.mark.parametrize("file", data.FILE_BYTES)
def test_damaged_files_are_reported_and_never_used(tiny, damage, file, capsys):
    damage(tiny / file)
    with pytest.raises(FileNotFoundError):
        data.load("mnist", "train")
    assert f"will not be used: {file}" in capsys.readouterr().out


def test_damaged_files_are_fetched_again(tiny, download, capsys):
    whole = (tiny / "train-images-idx3-ubyte").read_bytes()
    truncate(tiny / "train-images-idx3-ubyte")
    fake = download(lambda raw: write_tiny(data.Path(raw)))
    assert len(data.load("mnist")) == 5
    assert fake.calls == 1
    assert (tiny / "train-images-idx3-ubyte").read_bytes() == whole
    data.load("mnist")
    assert fake.calls == 1  # now it is there


def test_broken_download_leaves_no_half_file(cache, tiny, download):
    for file in tiny.iterdir():
        file.unlink()

    def break_off(raw):
        write_tiny(data.Path(raw))
        (data.Path(raw) / "t10k-images-idx3-ubyte").write_bytes(b"half")

    download(break_off)
    with pytest.raises(FileNotFoundError, match="arrived damaged: t10k-images-idx3"):
        data.load("mnist")
    assert list(tiny.iterdir()) == []
    assert [path.name for path in cache.iterdir()] == ["MNIST"]


@pytest.mark.parametrize(
    "failure",
    [
        OSError(28, "No space left on device"),
        RuntimeError("Error downloading train-images-idx3-ubyte.gz:\nno route"),
        http.client.IncompleteRead(b"half", 100),
        http.client.BadStatusLine("SSH-2.0"),
        http.client.InvalidURL("nonnumeric port: 'notaport'"),
        http.client.LineTooLong("header line"),
        http.client.RemoteDisconnected("closed without response"),
        urllib.error.HTTPError("http://x", 302, "redirect to nowhere", {}, None),
        RecursionError("Request exceeded 3 redirects"),
        ssl.SSLCertVerificationError("self-signed certificate"),
        ValueError("unknown url type: 'mirror'"),
        UnicodeError("label empty or too long"),
        EOFError("ended before the end-of-stream marker"),
        zlib.error("Error -3 while decompressing data"),
        gzip.BadGzipFile("Not a gzipped file (b'<h')"),
        ImportError("no torchvision"),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_failed_download_is_one_sentence(cache, download, failure):
    def fail(raw):
        raise failure

    download(fail)
    reason = str(failure).splitlines()[-1]
    with pytest.raises(FileNotFoundError) as caught:
        data.load("mnist")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert reason in str(caught.value.__cause__)  # what "auto" says
    assert list(cache.rglob("*ubyte*")) == []


class Answers(http.server.BaseHTTPRequestHandler):
    """A mirror that is out of order, as its path says."""

    ended = threading.Event()

    def do_GET(self):
        kind = self.path.split("/")[1]
        if kind == "drip-in-header":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        else:
            self.send_response(301 if kind == "loop" else 200)
            self.send_header("Location", self.path)
            self.send_header("Content-Length", "word" if kind == "length" else "99999")
            self.end_headers()
        while kind.startswith("drip") and not self.ended.wait(0.2):
            with contextlib.suppress(OSError):
                self.wfile.write(b"x")

    def log_message(self, *args):
        pass


@pytest.fixture
def mirror(cache, monkeypatch):
    """Make torchvision download from this machine, where all is out of order."""
    Answers.ended = threading.Event()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("VAE_TEACH_DOWNLOAD", "1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("urllib.request._opener", None)  # it keeps the proxies it saw

    def install(kind):
        url = f"http://127.0.0.1:{server.server_port}/{kind}/"
        monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", [url])

    yield install
    Answers.ended.set()
    for running in data._downloads.values():  # it fails, now that the server has ended
        running.exception()
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("kind", ["short", "loop", "length"])
def test_a_mirror_out_of_order_is_one_sentence(mirror, kind):
    mirror(kind)
    with pytest.raises(FileNotFoundError, match="the download failed"):
        data.load("mnist")


@pytest.mark.parametrize("kind", ["drip", "drip-in-header"])
def test_a_mirror_that_drips_is_given_up(mirror, kind, cache, monkeypatch, capsys):
    mirror(kind)
    monkeypatch.setattr(data, "PATIENCE", 0.1)
    assert data.load("auto", "test").name == "strokes"
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1
    assert "the download has not ended after 3.0 seconds" in said[0]
    monkeypatch.setattr(data, "DOWNLOAD_TIMEOUT", 1)
    with pytest.raises(FileNotFoundError, match="not ended after 1 seconds"):
        data.load("mnist")  # waits for the same download


def test_what_comes_late_is_there_the_next_time(tiny, download, monkeypatch):
    shutil.rmtree(tiny)
    goes_on = threading.Event()
    monkeypatch.setattr(data, "DOWNLOAD_TIMEOUT", 0.05)
    fake = download(lambda raw: goes_on.wait() and write_tiny(data.Path(raw)))
    with pytest.raises(FileNotFoundError, match="has not ended"):
        data.load("mnist")
    goes_on.set()
    data._downloads[tiny.parent].result()
    assert len(data.load("mnist")) == 5
    assert fake.calls == 1


def test_a_proxy_without_a_port_is_one_sentence(cache, monkeypatch):
    monkeypatch.setenv("VAE_TEACH_DOWNLOAD", "1")
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "127.0.0.1:notaport")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setattr("urllib.request._opener", None)
    with pytest.raises(FileNotFoundError, match="nonnumeric port: 'notaport'"):
        data.load("mnist")


def test_cache_that_cannot_be_written_is_one_sentence(cache, download):
    cache.parent.mkdir(parents=True, exist_ok=True)
    cache.write_text("a file where the folder should be")
    download(lambda raw: None)
    with pytest.raises(FileNotFoundError, match=r"failed \(.+vae_teach"):
        data.load("mnist")
    assert cache.read_text() == "a file where the folder should be"


# --- what is taken for a dataset, and where -------------------------------------------


def test_neither_dataset_is_taken_for_the_other(tiny, cache):
    fashion = cache / "FashionMNIST" / "raw"
    shutil.copytree(tiny, fashion)
    with pytest.raises(FileNotFoundError, match="of another dataset, 'mnist': train-"):
        data.load("fashion")
    shutil.rmtree(fashion)
    write_fashion(fashion)
    assert data.load("fashion").name == "fashion"
    shutil.rmtree(tiny)
    shutil.copytree(fashion, tiny)
    with pytest.raises(FileNotFoundError, match="of another dataset, 'fashion': t"):
        data.load("mnist")


def test_fashion_is_fetched_as_itself(tiny, cache, download):
    fake = download(lambda raw: write_fashion(data.Path(raw)), folder="FashionMNIST")
    images = {split: data.load("fashion", split) for split in ("train", "test")}
    assert fake.calls == 1
    raw = cache / "FashionMNIST" / "raw"
    assert {path.name for path in raw.iterdir()} == {*data.FILE_BYTES}
    for split in images.values():
        assert split.name == "fashion"
        assert split.labels.tolist() == [0, 1, 2, 3, 9]
    content = (raw / "t10k-images-idx3-ubyte").read_bytes()
    grey = data.load("fashion", "test", binarize=None).pixels.mul(255).round()
    assert grey.byte().numpy().tobytes() == content[16:]


def test_the_checksums_of_fashion_are_those_of_its_files():
    """Taken from the files that Zalando's archives unpack to."""
    assert data.FASHION_MD5 == {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    }


@pytest.mark.mnist
def test_mnist_is_not_fashion(cache, tmp_path, monkeypatch):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    monkeypatch.setenv("VAE_TEACH_DATA", GIVEN)
    for file, content in data._find("mnist").items():
        (raw / file).write_bytes(content)
    monkeypatch.setenv("VAE_TEACH_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="of another dataset, 'mnist': train-"):
        data.load("fashion")


def zero(path):
    path.write_bytes(bytes(path.stat().st_size))


def garble(path):
    path.write_bytes(os.urandom(path.stat().st_size))


@pytest.mark.parametrize("damage", [zero, garble, truncate])
@pytest.mark.parametrize("kind", ["images-idx3-ubyte", "labels-idx1-ubyte"])
def test_damaged_fashion_is_reported_and_never_used(tiny, cache, damage, kind, capsys):
    fashion = cache / "FashionMNIST" / "raw"
    write_fashion(fashion)
    damage(fashion / f"train-{kind}")
    with pytest.raises(FileNotFoundError):
        data.load("fashion")
    assert f"will not be used: train-{kind}." in capsys.readouterr().out


def test_other_forms_of_the_data_are_left_alone(tiny):
    """Torchvision would read these in place of the files that were checked."""
    for name in ("training.pt", "test.pt"):
        path = tiny.parent / "processed" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
    assert len(data.load("mnist")) == 5


@pytest.fixture
def given(tiny, tmp_path, monkeypatch):
    """A MNIST of five images, in home/data; returns what sets VAE_TEACH_DATA."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "data").mkdir(parents=True)
    tiny.parent.rename(tmp_path / "home" / "data" / "MNIST")
    return lambda value: monkeypatch.setenv("VAE_TEACH_DATA", value)


@pytest.mark.parametrize(
    "value",
    [
        *("{}", "{}/", "{}/MNIST", "{}/MNIST/raw", "{}/MNIST/raw/", "{}/.."),
        *("'{}'", '"{}"', "“{}”", " {}\n", "{}\r", "~/data", "'~/data/MNIST'"),
        *("~", "$HOME/data", "${{HOME}}/data", "{}/FashionMNIST", "{}/typo"),
    ],
)
def test_what_is_meant_is_taken(given, tmp_path, value):
    given(value.format(tmp_path / "home" / "data"))
    assert len(data.load("mnist")) == 5


def test_a_path_from_here_is_taken(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path / "home" / "data" / "MNIST")
    for value in (".", "raw", "..", "../../data"):
        given(value)
        assert len(data.load("mnist")) == 5


def test_packed_files_are_read(given, tmp_path):
    raw = tmp_path / "home" / "data" / "MNIST" / "raw"
    expected = torch.from_numpy(
        np.frombuffer((raw / "train-images-idx3-ubyte").read_bytes(), np.uint8, -1, 16)
    )
    for file in list(raw.iterdir()):
        (raw / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    given(str(raw))
    assert torch.equal(data.load("mnist").pixels.flatten(), expected)
    zero(raw / "train-labels-idx1-ubyte.gz")
    with pytest.raises(FileNotFoundError, match="damaged: train-labels-idx1-ubyte"):
        data.load("mnist")
    bomb = gzip.compress(bytes(10**7))
    for damage in (b"", bomb, bomb[:100], bomb[:20] + b"\xff" * 50):
        (raw / "train-labels-idx1-ubyte.gz").write_bytes(damage)
        with pytest.raises(FileNotFoundError, match="damaged: train-labels-idx1-ubyte"):
            data.load("mnist")


def test_a_damaged_file_beside_a_whole_packed_one_does_no_harm(tiny, capsys):
    file = tiny / "train-labels-idx1-ubyte"
    file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
    zero(file)
    assert data.load("mnist").labels.tolist() == list(range(5))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda path: None, "there is no folder {path}"),
        (lambda path: path.mkdir(), "the folder is empty"),
        (lambda path: path.write_text("x"), "not a folder"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
        (lambda path: (path / "digits").mkdir(parents=True), "it holds: digits"),
        (
            lambda path: write_tiny(path / "MNIST" / "raw", seed=7),
            "MNIST/raw: damaged: train-images-idx3-ubyte, t10k-images-idx3-ubyte",
        ),
        (
            lambda path: (
                write_tiny(path), (path / "train-labels-idx1-ubyte").unlink(),
            ),
            "missing: train-labels-idx1-ubyte",
        ),
    ],
)  # fmt: skip
def test_the_variable_is_named_with_what_is_there(
    tiny, tmp_path, monkeypatch, capsys, make, found
):
    shutil.rmtree(tiny)
    path = tmp_path / "far" / "from" / "here" / "datta"
    path.parent.mkdir(parents=True)
    make(path)
    monkeypatch.setenv("VAE_TEACH_DATA", str(path))
    expected = f"VAE_TEACH_DATA='{path}' (", found.format(path=path)
    with pytest.raises(FileNotFoundError) as caught:
        data.load("mnist")
    assert all(part in str(caught.value) for part in expected)
    assert data.load("auto", "test").name == "strokes"
    said = capsys.readouterr().out.splitlines()[-1]
    assert all(part in said for part in (*expected, "VAE_TEACH_DOWNLOAD=0"))


@pytest.mark.parametrize("name", ["is_file", "open", "iterdir"])
def test_a_folder_that_may_not_be_read_is_one_sentence(
    given, tmp_path, monkeypatch, name
):
    given(str(tmp_path / "home" / "data"))

    def refuse(self, *args, **options):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(data.Path, name, refuse)
    if name == "iterdir":
        shutil.rmtree(tmp_path / "home" / "data" / "MNIST")
    with pytest.raises(FileNotFoundError, match=r"VAE_TEACH_DATA=.*Permission denied"):
        data.load("mnist")


@pytest.fixture
def homeless(given, monkeypatch):
    """No HOME, a user whom the system does not know, and the real platformdirs."""

    def unknown(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    real = platformdirs.PlatformDirs
    monkeypatch.setattr(
        platformdirs, "user_cache_path", lambda n: real(n).user_cache_path
    )
    monkeypatch.setattr("pwd.getpwuid", unknown)
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)


def test_no_home_is_needed_where_the_data_are_given(given, homeless, tmp_path):
    given(str(tmp_path / "home" / "data"))
    assert len(data.load("mnist")) == 5


def test_no_home_is_one_sentence(homeless, capsys):
    with pytest.raises(FileNotFoundError, match="could not determine the home"):
        data.load("mnist")
    assert data.load("auto", "test").name == "strokes"
    assert len(capsys.readouterr().out.splitlines()) == 1


PIXELS, LABELS = torch.rand(6, 784), torch.zeros(6, dtype=torch.int64)


@pytest.mark.parametrize(
    ("pixels", "labels", "error", "named"),
    [
        (PIXELS + 1, LABELS, ValueError, r"pixels: got pixels from 1\S* to"),
        (PIXELS - 1, LABELS, ValueError, r"must lie in \[0, 1\]"),
        (PIXELS * math.nan, LABELS, ValueError, "pixels: got NaN"),
        ((PIXELS * 255).long(), LABELS, TypeError, r"as_tensor\(pixels\) / 255"),
        (PIXELS.numpy(), LABELS, TypeError, "pixels: got ndarray"),
        (PIXELS.reshape(6, 28, 28), LABELS, ValueError, r"reshape\(-1, 784\)"),
        (PIXELS[:0], LABELS[:0], ValueError, "pixels: got an empty set"),
        (PIXELS, LABELS[:5], ValueError, r"labels: got shape \(5,\) for 6 images"),
    ],
)
def test_bad_images_get_one_sentence(pixels, labels, error, named):
    with pytest.raises(error, match=named):
        data.Images(pixels, labels)


@pytest.mark.parametrize("size", [0, -3, 2.5])
def test_bad_batch_size_is_reported_at_once(size):
    with pytest.raises(ValueError, match="batch_size: got"):
        data.Images(PIXELS, LABELS).batches(size)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: data.load("cifar"), "name: got 'cifar'; it takes one of 'mnist'"),
        (lambda: data.load("strokes", "val"), "split: got 'val'"),
        (lambda: data.load("strokes", binarize="grey"), "binarize: got 'grey'"),
        (
            lambda: data.load("strokes", binarize=1),
            "binarize: got 1; it takes",
        ),
        (lambda: data.load("strokes", device="abacus"), "device: got 'abacus'"),
        (lambda: data.load("strokes", device="meta"), "device: got 'meta'"),
    ],
)
def test_unknown_choices_are_named(call, named):
    with pytest.raises(ValueError, match=named):
        call()


def test_a_device_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"device: got 'cuda'; this machine has: cpu"):
        data.load("strokes", device="cuda")


def test_sentences_come_in_the_language_in_use(cache):
    use_language("pt")
    with pytest.raises(FileNotFoundError, match="não encontrei uma cópia completa"):
        data.load("mnist")


@pytest.mark.parametrize("labels", [np.arange(3), [0, 1, 2], None, 7])
def test_labels_that_are_no_tensor_are_told(labels):
    with pytest.raises(TypeError, match=r"labels: got .*torch\.as_tensor\(labels\)"):
        data.Images(torch.rand(3, 4), labels)
