# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] key="title"
# # What does it take to keep the processor busy?
#
# You trained a small network and had time for a coffee. Was the arithmetic slow, or was the processor waiting for you?
#
# **By the end you will be able to** say how much arithmetic a training step is, measure how fast your machine could do it, and climb from the usual loop towards that limit. Beside every speed stands the test ELBO, the bound on the log-likelihood of unseen images in nats; higher is better. **A change, a *rung* of our ladder, does not count if it alters the answer.** You will also resume a run bit for bit, and share one batch among processes.
#
# **You need** lesson 00 and a little PyTorch. It has two readers: one with a laptop, one with a GPU. **We have timed nothing on a GPU**: what is said of GPUs explains and claims no number.
#
# **Time:** 45 minutes of reading; one to three minutes of computing on two cores.

# %% key="setup"
import functools
import inspect
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["KINETO_LOG_LEVEL"] = "99"  # before torch: its profiler writes a log

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn.utils import parameters_to_vector
from torch.optim import Adam
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import BatchSampler, DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms

from vae_teach import data, figures, nets, sliders, train
from vae_teach.checks import training as checks
from vae_teach.words import say, use_language

use_language("en")

# %% [markdown] key="work"
# ## 1. How much work is it?
#
# In our network nearly all of the arithmetic is in the products of matrices. A layer with $a$ inputs and $b$ outputs takes $a b$ multiplications and as many additions for each image: $2ab$ operations. The backward pass takes two products more, for the gradients of the weights and of the input. Only the first layer does without the second, because nobody asks for the gradient of the pixels.
#
# The next cell counts by hand, and then lets PyTorch's own counter watch a real forward and backward pass. It counts only products of matrices: the two must be equal.

# %% key="work-counted" tags=["nbval-check-output"]
LAYERS = [(784, 400), (400, 2), (400, 2), (2, 400), (400, 784)]
forward = sum(2 * a * b for a, b in LAYERS)
backward = 2 * forward - 2 * 784 * 400  # no gradient of the pixels
operations = forward + backward  # per image

counter = FlopCounterMode(display=False)
with counter:
    logits, mu, logvar = nets.VAE()(torch.zeros(128, 784))
    (logits.sum() + mu.sum() + logvar.sum()).backward()
assert counter.get_total_flops() == 128 * operations
print(say("training-operations", forward=forward, backward=backward, total=operations))

# %% [markdown] key="device"
# Three million operations for an image. A processor does billions in a second; how many, we are about to measure. First the data: 6,400 images, seen once, in 50 steps of 128. Each pixel becomes a 0 or a 1 by a draw (lesson 00), here, once and for all.
#
# `torch.accelerator` finds the device: CUDA, or MPS on a Mac with Apple's chip. On MPS this notebook does the same as on a CPU, on the device, without the rung in bfloat16 and the cell of float16. We have not run it there.

# %% key="device-and-data"
device = torch.device("cpu")
if torch.accelerator.is_available():
    device = torch.accelerator.current_accelerator()

train_images = data.load("auto", "train")
test_images = data.load(train_images.name, "test", device=device)
bits = data.draw_bits(train_images.pixels[:6400], torch.Generator().manual_seed(0))
few = data.Images(bits, train_images.labels[:6400].clone()).to(device)
judges = data.Images(test_images.pixels[:2000], test_images.labels[:2000])
assert train_images.pixels.nbytes == 60_000 * 784  # 47 MB
del train_images, test_images

BATCH = 128
print(say("training-machine", device=device.type, threads=torch.get_num_threads()))

# %% [markdown] key="limit"
# ## 2. The limit
#
# No loop can finish an image sooner than the matrix products that it takes. So we time the products alone: the same matrix shapes as in a training step, nothing in between. Their speed is **the limit** for batches of 128; larger products do more operations per second, so larger batches may do more images per second. The folded cell measures it with all digits of float32 (`"highest"`), and with bfloat16, a number of 16 bits, allowed inside the products (`"medium"`).
#
# One detail separates a measurement from a guess. A GPU takes orders from the *host*, the processor that runs Python, and returns at once, long before the work is done. Whoever stops the clock without waiting has measured how fast one can give orders. Hence `synchronize`.

# %% key="limit-measured"
def synchronize():
    if device.type != "cpu":
        torch.accelerator.synchronize()


def seconds_of(work, repeats, rounds=5):
    work()  # the first time loads code and allocates memory
    seconds = []
    for _ in range(rounds):
        synchronize()
        start = time.perf_counter()
        for _ in range(repeats):
            work()
        synchronize()
        seconds.append((time.perf_counter() - start) / repeats)
    return min(seconds)  # whatever disturbs can only slow down

# %% key="limit-products" jupyter={"source_hidden": true} tags=["hide-input"]
def products(batch_size):
    pairs = []
    for a, b in [(784, 400), (400, 4), (2, 400), (400, 784)]:  # mu beside logvar
        x, weight = torch.randn(batch_size, a), torch.randn(b, a)
        y = torch.randn(batch_size, b)
        pairs += [(x, weight.T), (y.T, x)] + ([(y, weight)] if pairs else [])
    return [(a.to(device), b.to(device), (a @ b).to(device)) for a, b in pairs]


def multiply(pairs):
    for a, b, out in pairs:
        torch.mm(a, b, out=out)


def limit_at(precision):
    pairs = products(BATCH)
    with train.products_at(precision):  # as torch.set_float32_matmul_precision
        return BATCH / seconds_of(lambda: multiply(pairs), 20)  # images per second


limits = {precision: limit_at(precision) for precision in ("highest", "medium")}
for precision, pace in limits.items():
    values = {"speed": pace, "giga": pace * operations / 1e9}
    print(say("training-products", precision=precision, **values))

# %% [markdown] key="digits"
# `"medium"` is a permission and not an order. Did it give digits away here? The next cell compares a product with the same one in float64. Where the digits stay, any difference in speed is the library's: on an AMD processor MKL, which PyTorch asks first, takes its generic path, and with `"medium"` PyTorch asks oneDNN instead. That can turn out faster or slower; the two numbers above say which it was here.

# %% key="digits-compared" jupyter={"source_hidden": true} tags=["hide-input"]
torch.manual_seed(0)
a, b = torch.randn(128, 784), torch.randn(784, 400)
exact = a.double() @ b.double()


def distance_at(precision):
    with train.products_at(precision):
        product = (a.to(device) @ b.to(device)).cpu().double()
    return ((product - exact).abs().max() / exact.abs().max()).item()


full, allowed = distance_at("highest"), distance_at("medium")
assert full < 1e-5
verdict = say("training-digits-kept" if allowed < 1e-5 else "training-digits-given")
print(say("training-digits", full=full, allowed=allowed, verdict=verdict))

# %% [markdown] key="usual"
# ## 3. The usual loop
#
# This is the loop that many tutorials show. A `DataLoader` fetches images one at a time; each becomes a picture, then a tensor. The loss goes through a sigmoid. And `loss.item()` goes into a list, to draw a curve later.
#
# Two things are our own: we draw the order of the images, and the loader gets a generator of its own (else it would draw a seed from PyTorch's, and shift all noise after it). So all rungs will see **the same images in the same order, and draw the same noise**. It will matter.

# %% key="usual-loop"
to_tensor = transforms.ToTensor()


class OneByOne(Dataset):
    def __init__(self, images):
        self.levels = (255 * images.pixels).byte().reshape(-1, 28, 28).cpu().numpy()

    def __len__(self):
        return len(self.levels)

    def __getitem__(self, index):
        return to_tensor(Image.fromarray(self.levels[index])).flatten()


stored = functools.cache(OneByOne)


def from_probabilities(x, logits, mu, logvar):
    misfit = F.binary_cross_entropy(torch.sigmoid(logits), x, reduction="sum")
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return (misfit + kl) / len(x)


def usual(model, images):
    order = torch.randperm(len(images), device=device).tolist()
    own = torch.Generator()
    optimizer = Adam(model.parameters(), lr=1e-3)
    curve = []
    for x in DataLoader(stored(images), BATCH, sampler=order, generator=own):
        x = x.to(device)
        loss = from_probabilities(x, *model(x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curve.append(loss.item())

# %% [markdown] key="loader"
# ### A better loader
#
# That loop is easily beaten. PyTorch's loader can do better, and **where the data do not fit into memory it has to**. Below, the images lie in a file, one byte per pixel. The file is *mapped*: the system reads only the pages that are touched. A batch is taken as a whole. A worker, a process of its own, fetches the next batches meanwhile. (On macOS and Windows a worker cannot see a class that a notebook defines: put it into a file. Here we go on without workers.)
#
# *On a GPU* two options more: `pin_memory=True` pins each batch in memory, so that the GPU can fetch it by itself. With `non_blocking=True` the copy then runs while the host goes on; without pinned memory, the host waits all the same.

# %% key="loader-from-disk"
class OnDisk(Dataset):
    def __init__(self, path, count):
        self.bytes = np.memmap(path, np.uint8, "r", shape=(count, 784))

    def __getitem__(self, chosen):  # all indices of a batch
        return torch.from_numpy(self.bytes[chosen])


shelf = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
path = Path(shelf.name) / "images.bin"
few.pixels.byte().cpu().numpy().tofile(path)
workers = 1 if sys.platform == "linux" else 0
order = []
loader = DataLoader(
    OnDisk(path, len(few)),
    batch_size=None,  # the sampler makes the batches
    sampler=BatchSampler(order, BATCH, drop_last=False),
    num_workers=workers,
    persistent_workers=workers > 0,  # the same process in each epoch
    multiprocessing_context="fork" if workers else None,
    pin_memory=device.type == "cuda",
    generator=torch.Generator(),
)


def from_disk(images):
    order[:] = torch.randperm(len(images), device=device).tolist()
    for x in loader:
        yield x.to(device, non_blocking=True).float()  # a byte per pixel is copied

# %% [markdown] key="ladder"
# ## 4. The ladder
#
# Four changes lead from the usual loop to a fast one, each a rung of its own:
#
# 1. **The data are on the device.** 60,000 images, a byte per pixel, take 47 MB. A batch takes an operation or two, `index_select` first. If your data do not fit, stay with the loader above.
# 2. **Nobody asks anything in the middle of a step.** To hand you `loss.item()`, the device has to finish everything it was asked for. *On a GPU*, the queue of orders runs empty in every step. On a CPU this rung is worth little. So add up where the numbers are, and ask at the end.
# 3. **Logits.** From the logit $\ell = \log \frac{p}{1 - p}$ the loss of a pixel is $\log(1 + e^\ell) - x \ell$, with no sigmoid. This formula is shorter, and it is also the *right* one. Take a pixel that is off, while the decoder is sure that it is on, with a logit of 20. The exact price is $\log(1 + e^{20})$ nats. Through the sigmoid, the probability rounds to 1, and PyTorch limits to 100 a price that would be infinite.
# 4. **Fused Adam.** Adam updates ten tensors, each by a series of small operations. `fused=True` reads each number once. The last cell of the three counts.
#
# The package's `fit` also brings the gradient of the log-likelihood with respect to the logits, $x - \mathrm{sigmoid}(\ell)$, written by hand in `densities.log_bernoulli`: autograd need not find it. That is only a part of this rung. The rest is what `fit` does otherwise than the loops written by hand.

# %% key="rung-climbed"
def from_logits(x, logits, mu, logvar):
    misfit = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")  # 3
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return (misfit + kl) / len(x)


def climbed(model, images):
    order = torch.randperm(len(images), device=device)
    optimizer = Adam(model.parameters(), lr=1e-3, fused=True)  # 4
    total = torch.zeros((), device=device)
    for chosen in order.split(BATCH):
        x = images.pixels.index_select(0, chosen)  # (B, 784)  1
        loss = from_logits(x, *model(x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.detach()  # 2
    return total

# %% key="logits-matter" tags=["nbval-check-output"]
sure, off = torch.tensor([20.0]), torch.tensor([0.0])
exact = torch.log1p(sure.double().exp())
direct = F.binary_cross_entropy_with_logits(sure, off)
through = F.binary_cross_entropy(torch.sigmoid(sure), off)

assert torch.isclose(direct.double(), exact, atol=1e-6)
assert through == 100
values = {"exact": exact.item(), "direct": direct.item(), "through": through.item()}
print(say("training-sigmoid", **values))

# %% key="rung-fused"
def operations_in(work):
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        work()
    return [event.name for event in seen.events() if event.name.startswith("aten::")]


def adam(fused):
    parameters = [torch.ones(3) for _ in nets.VAE().parameters()]
    for parameter in parameters:
        parameter.grad = torch.ones(3)
    optimizer = Adam(parameters, fused=fused)
    optimizer.step()  # the first step makes Adam's moments
    return operations_in(optimizer.step)


plain, in_one = adam(fused=False), adam(fused=True)
assert len([*nets.VAE().parameters()]) == 10
assert len(plain) > 2 * len(in_one)
print(say("training-adam-operations", plain=len(plain), fused=len(in_one)))

# %% [markdown] key="precision"
# ### Fewer digits
#
# A float32 has 24 bits of precision, a float16 has 11, a bfloat16 has 8. With 16 bits half the bytes move, and a processor with units for them multiplies faster. One without may become slower. Three ways to ask for fewer digits:
#
# - `torch.set_float32_matmul_precision("medium")` allows bfloat16 inside the products. In the package: `fit(..., precision="medium")`. *On a GPU*, `"high"` uses TF32, with 11 bits of precision.
# - `torch.autocast(device.type, torch.bfloat16)` around `model(x)` runs the layers in bfloat16. The weights, Adam and the loss stay in float32: sums of 784 terms are no place to save digits.
# - With `torch.float16` small gradients round to zero, because its range is narrow. **A gradient scaler** multiplies the loss by a large number, and divides the gradients before Adam sees them. If one overflows, it skips the step and halves its number.

# %% key="half-scaled"
bits_of = {kind: 1 - round(np.log2(torch.finfo(kind).eps)) for kind in
           (torch.float32, torch.bfloat16, torch.float16)}
assert [*bits_of.values()] == [24, 8, 11]

tiny = torch.tensor(1e-8)
assert tiny.bfloat16() > 0
assert tiny.half() == 0
assert torch.isclose((65_536 * tiny).half().float() / 65_536, tiny, rtol=1e-3)


def scaled(model, images):
    optimizer = Adam(model.parameters(), lr=1e-3, fused=True)
    scaler = torch.amp.GradScaler(device.type)  # begins at 65,536
    for x in images.pixels.split(BATCH):
        with torch.autocast(device.type, torch.float16):
            parts = model(x)  # logits (B, 784), mu and logvar (B, 2), in 16 bits
        loss = from_logits(x, *(part.float() for part in parts))
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)  # divides; takes no step after an overflow
        scaler.update()
    return scaler.get_scale()


some = data.Images(few.pixels[: 6 * BATCH], few.labels[: 6 * BATCH])
if device.type in ("cpu", "cuda"):
    torch.manual_seed(0)
    scale = scaled(nets.VAE().to(device), some)
    assert 1 <= scale < 65_536
    print(say("training-scaler", scale=scale, skipped=round(np.log2(65_536 / scale))))

# %% [markdown] key="compile-and-graphs"
# The first steps of a run in float16 only look for the scale. Prefer bfloat16 to float16 where there is a choice. (Both may be slower than float32 on a processor that has no units for them; for bfloat16 the table of section 5 shows what yours does.)
#
# ### `torch.compile` and CUDA graphs
#
# *On a GPU*, an operation of a small network may end before the host has asked for the next one. Then the device waits for orders. There are two remedies.
#
# **`torch.compile`** writes the model anew, with neighbouring operations fused into one:
#
# ```python
# compiled = torch.compile(model)                          # fewer, larger operations
# compiled = torch.compile(model, mode="reduce-overhead")  # and CUDA graphs
# compiled = torch.compile(model, mode="max-autotune")     # and the fastest of several kernels
# ```
#
# Compiling takes far longer than our epoch; with a C++ compiler and some minutes, set `COMPILE = True` below. The new code draws other noise from the same seed. We have not measured the modes.
#
# **A CUDA graph** records the orders of one step and replays them with a single order. Nothing may change from step to step except the contents of tensors that stay in place:
#
# ```python
# chosen = torch.zeros(BATCH, dtype=torch.int64, device="cuda")  # a fixed place
# graph = torch.cuda.CUDAGraph()
# with torch.cuda.graph(graph):  # records, computes nothing
#     step(chosen)               # index_select to Adam(..., capturable=True)
# for part in order.split(BATCH):
#     chosen.copy_(part)
#     graph.replay()             # one order for the whole step
# ```
#
# Before recording, the step has to run a few times, and leave no trace in the weights, in Adam or in the noise: `vae_teach.speed.cuda_graph` restores all three. A step that calls `.item()` cannot be recorded. Where there is CUDA, `fit` uses the graph unless told `capture=False`. For want of a GPU, we have never run it.

# %% key="rungs-between" jupyter={"source_hidden": true} tags=["hide-input"]
def in_memory(images):
    for chosen in torch.randperm(len(images), device=device).split(BATCH):
        yield images.pixels.index_select(0, chosen)


def between(loss_of, *, batches=in_memory, asks=False, fused=False, kind=None):
    def loop(model, images):
        optimizer = Adam(model.parameters(), lr=1e-3, fused=fused)
        total, curve = torch.zeros((), device=device), []
        for x in batches(images):
            with torch.autocast(device.type, kind, enabled=kind is not None):
                parts = model(x)
            loss = loss_of(x, *(part.float() for part in parts))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if asks:
                curve.append(loss.item())
            else:
                total += loss.detach()
        return total

    return loop


def packaged(**options):
    how = {"epochs": 1, "device": device, "progress": False}
    return lambda model, images: train.fit(model, images, **how | options)

# %% key="rungs"
COMPILE = False  # True: some minutes more

rungs = {
    "usual": usual,
    "loader": between(from_probabilities, batches=from_disk, asks=True),
    "resident": between(from_probabilities, asks=True),
    "unwatched": between(from_probabilities),
    "logits": between(from_logits),
    "fused": climbed,
    "fit": packaged(capture=False),
}
same_digits = [*rungs]  # up to rounding, these are one computation
if COMPILE:
    rungs["compiled"] = lambda model, images: climbed(torch.compile(model), images)
if device.type == "cuda":
    rungs |= {"graph": packaged(), "high": packaged(precision="high")}
rungs["medium"] = packaged(precision="medium")
if device.type in ("cpu", "cuda"):
    rungs["bfloat16"] = between(from_logits, fused=True, kind=torch.bfloat16)
rungs["batch"] = packaged(batch_size=4 * BATCH)
names = {name: say(f"training-rung-{name}") for name in rungs}

# %% [markdown] key="climb"
# ## 5. The climb
#
# A laptop slows down when it gets warm, and a server when a neighbour works on it. So each turn runs all rungs once, in another order, and takes the limit once more. We report each rung's fastest turn: whatever disturbs can only slow down. (`fit` brings a clock of its own, which leaves the preparations out.)
#
# Each turn has a seed, from which every rung starts: the same weights, the same order of images, the same noise. After its epoch each model is evaluated on 2,000 test images.

# %% key="climb-measured" jupyter={"source_hidden": true} tags=["hide-input"]
def judged(model):
    torch.manual_seed(0)
    return train.evaluate(model, judges).elbo.cpu()  # (2000,)


def run_once(rung, seed):
    torch.manual_seed(seed)
    model = nets.VAE().to(device)
    synchronize()
    start = time.perf_counter()
    history = rung(model, few)
    synchronize()
    seconds = time.perf_counter() - start
    if isinstance(history, train.History):  # fit's clock leaves preparations out
        seconds = sum(history.column("seconds"))
    return len(few) / seconds, judged(model)


turns = 4 if device.type == "cpu" else 8
speeds = {name: [] for name in rungs}
scores = {name: [] for name in rungs}
contestants = [*rungs.items()]
shuffle = random.Random(0).shuffle
for turn in range(turns):
    limits = {name: max(pace, limit_at(name)) for name, pace in limits.items()}
    shuffle(contestants)
    for name, rung in contestants:
        pace, nats = run_once(rung, seed=turn)
        speeds[name].append(pace)
        scores[name].append(nats)
speed = {name: max(seen) for name, seen in speeds.items()}
elbo = {name: torch.stack(seen) for name, seen in scores.items()}  # (turns, 2000)

# %% [markdown] key="ruler"
# ### The ruler
#
# When are two ELBOs *different*? From seed to seed, the ELBO of the usual loop moves by several nats, as the next cell prints. But our rungs share seeds and noise. So we take the difference **within each seed** first, and the standard error of *these differences* afterwards: a paired comparison. What all runs of a seed have in common cancels. The differences from image to image give a second error; the two are squared, added, and the root is taken.
#
# **The rule.** A rung passes if the difference, with twice its error on either side, stays between −0.5 and 0.5 nats, a band fixed beforehand. A rung that we know too little about does not pass. And rungs that compute the same thing up to rounding must agree to 0.05 nats in *each* seed, on a CPU.

# %% key="ruler-applied"
first = elbo["usual"].mean(1)  # (turns,) nats


def difference(ours, theirs):
    each = ours - theirs  # (turns, 2000) nats
    by_seed = train.standard_error(each.mean(1))
    by_image = train.standard_error(each.mean(0))
    return each.mean().item(), 2 * (by_seed**2 + by_image**2) ** 0.5


gained = {name: difference(elbo[name], elbo["usual"]) for name in rungs}
passed = {name: abs(far) + error < 0.5 for name, (far, error) in gained.items()}
for name in passed:
    assert passed[name] == (name != "batch") or name == "compiled", name
if device.type == "cpu":
    for name in same_digits:
        assert (elbo[name].mean(1) - first).abs().max() < 0.05, name
print(say("training-ruler", spread=first.std().item(), turns=turns))

# %% [markdown] key="table"
# ### The table
#
# Images per second; as a multiple of the usual loop; as a share of the limit in float32, the last row. Then the test ELBO and its difference from the usual loop; after the ± stands twice the standard error of the paired differences. Your speeds will differ from those stored here; on a busy machine `fit` also gains by following the free cores (section 13). Expect the large jumps where images stop being handled one by one, and at fused Adam. `fit` may stand a little below fused Adam: section 7 counts the operations that it has more. A loader with a worker may tie with data on the device, because it works beside the training. Which rung does not pass? In the right panel of the picture, the grey band is that of the rule, from −0.5 to 0.5 nats; beyond it the axis is logarithmic.

# %% key="table-printed" jupyter={"source_hidden": true} tags=["hide-input"]
def print_row(name, speed, times, share, elbo=None, far=None, error=None):
    line = say("training-row", name=name, speed=speed, times=times, share=share)
    if elbo is not None:
        line += say("training-row-elbo", elbo=elbo)
    if far is not None:
        line += say("training-row-far", far=far, error=error)
    print(line)


def relative(pace):
    return {"times": pace / speed["usual"], "share": pace / limits["highest"]}


print(say("training-head"))
for name, (far, error) in gained.items():
    values = relative(speed[name]) | {"elbo": elbo[name].mean().item()}
    if name != "usual":
        values |= {"far": far, "error": error}
    print_row(names[name], speed[name], **values)
for precision in ("medium", "highest"):
    pace = limits[precision]
    print_row(say(f"training-limit-{precision}"), pace, **relative(pace))

# %% key="table-drawn" jupyter={"source_hidden": true} tags=["hide-input"]
def draw_ladder(rows):
    best = max((name for name in rungs if passed[name]), key=speed.get)
    values = relative(speed[best]) | {"lost": -gained["batch"][0]}
    alt = say("training-alt-ladder", best=names[best], rungs=len(rows), **values)
    figure, (left, right) = figures.picture(alt, columns=2, width=9, height=4.2)
    places = range(len(rows))
    bars = left.barh(places, [speed[name] for name in rows], color="#bdbdbd")
    labels = [say("training-bar", value=speed[name]) for name in rows]
    left.bar_label(bars, labels, padding=3, fontsize=9)
    line = say("training-limit-line")
    left.axvline(limits["highest"], color="black", linestyle="--", label=line)
    left.set_yticks(places, [names[name] for name in rows])
    left.set_xlim(0, 1.1 * max(*limits.values(), *speed.values()))
    left.locator_params(axis="x", nbins=4)
    left.xaxis.set_major_formatter(lambda value, _: say("training-bar", value=value))
    left.set(xlabel=say("training-speed"))
    left.legend(fontsize=9, loc="lower right", bbox_to_anchor=(1, 1), frameon=False)
    for place, name in zip(places, rows, strict=True):
        far, error = gained[name]
        right.errorbar(far, place, xerr=error, fmt="o", color="black", capsize=3)
    right.axvline(0, color="black", linewidth=1)
    right.axvspan(-0.5, 0.5, color="#e5e5e5", label=say("training-band"))
    right.set_xscale("symlog", linthresh=0.5)  # even within the band
    right.set_xticks([-50, -5, -0.5, 0, 0.5])
    right.xaxis.set_major_formatter(lambda value, _: say("training-nats", value=value))
    right.minorticks_off()
    right.legend(fontsize=9, loc="lower left", bbox_to_anchor=(0, 1), frameon=False)
    right.set_yticks(places, [])
    right.set(xlabel=say("training-far"))
    for ax in (left, right):
        ax.set_ylim(len(rows) - 0.5, -0.5)
    return figure


draw_ladder([*names])

# %% [markdown] key="larger"
# ## 6. Larger batches, and what they cost
#
# With 512 images per step the products get larger. It seems the easiest rung of all. **By our rule it is none**: it loses tens of nats. An epoch has a quarter of the steps, and the model learns less.
#
# Is the comparison fair? A learning rate of $10^{-3}$, the one used so far, need not suit both batch sizes. The average of four times as many images has half the noise, which argues for twice the rate; others multiply by four. So we try several rates for batches of 32, 128 and 512, with the same three seeds, and judge each **at its own best rate**. (To choose and to judge on the same images favours each size a little; the differences here are far larger.) The seconds were not taken in turns; only the ELBOs may be compared. For 512 we also allow *two* epochs.

# %% key="larger-checked"
BATCHES, RATES = (32, 128, 512), (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2)


def trained_at(batch, rate, epochs=1):
    rung = packaged(batch_size=batch, learning_rate=rate, epochs=epochs)
    paces, nats = zip(*(run_once(rung, seed) for seed in range(3)), strict=True)
    return max(paces) * epochs, torch.stack(nats)  # images per second, (3, 2000) nats


tried = {(b, r): trained_at(b, r) for b in BATCHES for r in RATES}
best = {b: max(RATES, key=lambda r: tried[b, r][1].mean()) for b in BATCHES}
assert not {*best.values()} & {RATES[0], RATES[-1]}  # no best rate at an edge
twice = trained_at(512, best[512], epochs=2)
base = tried[128, best[128]][1]
rows = {(b, 1): tried[b, best[b]] for b in BATCHES} | {(512, 2): twice}
for (batch, epochs), (pace, nats) in rows.items():
    far, error = difference(nats, base)
    values = {"batch": batch, "epochs": epochs, "rate": best[batch], "far": far}
    values |= {"seconds": len(few) / pace, "elbo": nats.mean().item(), "error": error}
    print(say("training-tuned", **values))
    assert batch != 512 or far < -error
far, error = difference(base, tried[128, 1e-3][1])
assert far - error > 10
print(say("training-rate-gain", rate=best[128], base=1e-3, far=far, error=error))

# %% [markdown] key="time-to-elbo"
# The last line compares 128 with itself: the rate alone is worth more than ten nats. And each at its best rate, 512 still learns less than 128, even in two epochs. Who wins in equal time, this cell does not say.
#
# But 50 steps are a short run. What one wants to know is **time to ELBO**: how many seconds until a given test ELBO? The course's benchmark asks that with all 60,000 images. It tunes the rate of each batch size, then trains all in turns. The target is what batches of 128 reach after half of the epochs, seed by seed. There the ± is one standard error, not two.

# %% key="results-read" jupyter={"source_hidden": true} tags=["hide-input"]
RESULTS = Path("../../benchmarks/results")


def read(name):
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def print_source(measured, key="training-measured-on"):
    machine = measured["machine"]
    where = machine["accelerator"] or machine["processor"]
    fields = ("date", "commit", "torch", "threads")
    print(say(key, where=where, **{k: machine[k] for k in fields}))


def print_times(kind):
    measured = read(f"batches_{kind}")
    if measured is None or "tuning" not in measured["results"]:
        print(say("training-none-batches", kind=kind))
        return
    results = measured["results"]
    print_source(measured)
    about = {k: results[k] for k in ("seeds", "target", "target_epoch", "epochs")}
    print(say("training-times-head", **about))
    for row in results["rows"]:
        if row["precision"] == "highest":
            key = "reached" if row["seconds_to_target"] is not None else "missed"
            print(say(f"training-times-{key}", **row | {"seeds": results["seeds"]}))

# %% key="times-printed" jupyter={"source_hidden": true} tags=["hide-input"]
for kind in ("cpu", "cuda"):
    print_times(kind)
    print()

# %% [markdown] key="where"
# ## 7. Where the time goes
#
# A profiler writes down when each operation begins and ends. Three ways to look:
#
# - `key_averages()` adds up the operations of one name. The cell prints the six that take longest; `print(seen.key_averages().table())` shows all columns.
# - `export_chrome_trace` writes a **trace** for a viewer such as [Perfetto](https://ui.perfetto.dev): time to the right, calls below each other. *On a GPU*, the gaps in its row are the device waiting for orders. Give it a path of your own to keep the file.
# - Counting: how many operations is a step?

# %% key="where-measured"
def profiled(rung):
    torch.manual_seed(0)
    model = nets.VAE().to(device)
    rung(model, some)  # the first time allocates memory
    kinds = [ProfilerActivity.CPU]
    kinds += [ProfilerActivity.CUDA] if device.type == "cuda" else []
    with profile(activities=kinds) as seen:
        start = time.perf_counter()
        rung(model, some)
        synchronize()
        clock = time.perf_counter() - start
    return seen, clock


steps = len(some) // BATCH
seen, _ = profiled(climbed)
for row in sorted(seen.key_averages(), key=lambda row: -row.self_cpu_time_total)[:6]:
    values = {"calls": row.count / steps, "spent": row.self_cpu_time_total / steps}
    print(say("training-operation", name=row.key, **values))

trace = Path(shelf.name) / "trace.json"
seen.export_chrome_trace(str(trace))
assert json.loads(trace.read_text("utf-8"))["traceEvents"]

counts = {
    name: len(operations_in(lambda name=name: rungs[name](nets.VAE(), some))) // steps
    for name in ("usual", "unwatched", "fused", "fit")
    if device.type == "cpu"
}
by_hand = [*counts.values()][:3]
assert by_hand == sorted(by_hand, reverse=True)
for name, count in counts.items():
    print(say("training-count", name=names[name], count=count))

# %% key="where-boxes" jupyter={"source_hidden": true} tags=["hide-input"]
PRODUCTS = {"aten::mm", "aten::addmm", "aten::bmm", "mkldnn::_linear_pointwise"}


def box_of(event):
    if event.name in PRODUCTS:
        return "products"
    while event is not None:
        if event.name.startswith("Optimizer.step"):
            return "optimiser"
        if event.name == "aten::index_select" or "DataLoader" in event.name:
            return "data"
        event = event.cpu_parent
    return "rest"


def watched(rung):
    seen, clock = profiled(rung)
    own = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    boxes = dict.fromkeys(("data", "products", "optimiser", "rest"), 0.0)
    for event in seen.events():
        if event.device_type == torch.autograd.DeviceType.CPU:
            boxes[box_of(event)] += getattr(event, own) / 1e3 / steps  # ms a step
    boxes["host"] = max(0.0, 1e3 * clock / steps - sum(boxes.values()))
    return boxes


def fastest(rung):
    return min((watched(rung) for _ in range(3)), key=lambda boxes: sum(boxes.values()))


spent = {name: fastest(rungs[name]) for name in ("usual", "unwatched", "fused", "fit")}

# %% key="where-drawn" jupyter={"source_hidden": true} tags=["hide-input"]
def draw_boxes(spent):
    kinds = [*spent["fused"]]
    share = spent["fit"]["products"] / sum(spent["fit"].values())
    alt = say("training-alt-boxes", share=share, panels=len(spent))
    figure, axes = figures.picture(alt, columns=len(spent), width=9, height=2.6)
    most = max(max(boxes.values()) for boxes in spent.values())
    for ax, (name, boxes) in zip(axes, spent.items(), strict=True):
        bars = ax.barh(range(5), [boxes[kind] for kind in kinds], color="#8c8c8c")
        work = bars[kinds.index("products")]
        work.set(facecolor="white", edgecolor="black", hatch="///")
        labels = [say("training-ms", value=boxes[kind]) for kind in kinds]
        ax.bar_label(bars, labels, padding=2, fontsize=8)
        ticks = [say(f"training-box-{kind}") for kind in kinds]
        ax.set_yticks(range(5), ticks if ax is axes[0] else [])
        ax.set(xlim=(0, 1.4 * most), ylim=(4.5, -0.5), xlabel=say("training-ms-a-step"))
        ax.set_title(say(f"training-short-{name}"), loc="left", fontsize=10)
    return figure


draw_boxes(spent)

# %% [markdown] key="where-noticed"
# The hatched bar is the useful work; *rest* is all other operations, and *Python or idle* the clock minus all operations. All four loops multiply the same matrices with the same library; if their hatched bars differ, you see how far such a picture can be trusted. Within such errors a small bar may even grow from one loop to the next. Nor do the bars add up to the speeds of the table: they are taken under the profiler, which charges something for each operation, and they hold what `fit` prepares. The list is of a single run, the picture of the best of three. The counts can be relied on: from rung to rung, the loops written by hand need fewer operations, as the cell demands. `fit` needs some more than the fused loop: it keeps three totals, and tries its objective once before it begins.
#
# ## 8. Does a step wait?
#
# One forgotten `if loss > best:` and each step waits again, because Python needs the number to choose its way. *On a GPU*, `torch.cuda.set_sync_debug_mode("error")` turns such waits into errors. On a CPU there is no queue, but the same question can be asked. Every operation passes through PyTorch's *dispatcher*, and `checks.HostReads` watches it: who asks for a number (`.item()`, `float(...)`, `if ...:`), or for a shape that depends on numbers (`nonzero`)?

# %% key="guard"
def asks(work):
    with checks.HostReads() as reads:
        work()
    return bool(reads.asked)


def steps_of_fit(model, images):
    run = train.Run(model, images)  # what fit calls
    for chosen in torch.arange(len(images), device=device).split(BATCH):
        run.step(chosen)


watched_ones = {name: rungs[name] for name in ("resident", "unwatched", "fused")}
watched_ones["fit"] = steps_of_fit
found = {
    name: asks(lambda rung=rung: rung(nets.VAE().to(device), some))
    for name, rung in watched_ones.items()
}
assert found == {"resident": True, "unwatched": True, "fused": False, "fit": False}
for name, answer in found.items():
    verdict = say("training-waits" if answer else "training-never-waits")
    print(say("training-guard", name=say(f"training-short-{name}"), verdict=verdict))

# %% [markdown] key="guard-limits"
# A surprise: the loop without `.item()` asks as well. It is Adam. If it is *not* fused, it reads its counters of steps, one for each tensor, in Python; *on a GPU* they lie in the host's memory, and nobody waits. And **no guard sees everything.** On a CPU, fused Adam reads its counters too, in C++, where `HostReads` does not reach. The profiler does:

# %% key="guard-checked" jupyter={"source_hidden": true} tags=["hide-input"]
reads = {kind: seen.count("aten::item") for kind, seen in
         (("plain", plain), ("fused", in_one))}
assert reads == {"plain": 10, "fused": 10}  # once for each tensor
print(say("training-adam-asks", **reads))

# %% [markdown] key="stored"
# ## 9. The same table, measured at leisure
#
# A few turns are enough to see the ladder, not to quote it. The course's benchmark climbs nearly the same rungs with all 60,000 images, for several epochs and seeds. Speeds are medians; times and shares are medians of the ratios within each turn. The limit there is that of the faster library. The table dates from when `fit` still chose the library itself (the row of oneDNN shows that change on its own), and is to be measured again. The usual loop draws noise of its own: its pairs share only the first weights. With errors of that size the table does not decide the rule of half a nat: it is quoted for its speeds. Section 5 decides, by pairs that share their noise.

# %% key="stored-table" jupyter={"source_hidden": true} tags=["hide-input"]
def print_stored(kind):
    measured = read(f"training_{kind}")
    if measured is None:
        folder_is_there = RESULTS.is_dir()
        print(say(f"training-none-{kind}" if folder_is_there else "training-no-folder"))
        return
    results = measured["results"]
    print_source(measured)
    print(say("training-head"))
    for row in results["rows"]:
        name = say(f"training-stored-{row['name']}")
        values = {"speed": results["images"] / row["seconds"]}
        values |= {"times": row["times_faster"], "share": row["share_of_limit"]}
        values |= {"elbo": row.get("test_elbo")}
        if "test_elbo" in row and row["name"] != "usual":
            values |= {"far": row["elbo_difference"]}
            values |= {"error": 2 * row["standard_error"]}
        print_row(name, **values)


for kind in ("cpu", "cuda"):
    print_stored(kind)
    print()

# %% [markdown] key="panel"
# ## 10. The thing to pull: batch and rate
#
# One curve for each batch size: the test ELBO against the learning rate. The filled point is your choice. Measured by this notebook, a moment ago; if the course's benchmark was run, a third handle takes you to its numbers.
#
# Where is each curve's summit? Does it move to the right as the batch grows, and by as much? What would you conclude if you only knew the points at $10^{-3}$?

# %% key="panel-measured" jupyter={"source_hidden": true} tags=["hide-input"]
def just_now():
    points = {key: nats.mean().item() for key, (_, nats) in tried.items()}
    return {"points": points, "images": len(few), "epochs": 1}


def from_tuning(kind):
    measured = read(f"batches_{kind}")
    if measured is None or "tuning" not in measured["results"]:
        return None
    results = measured["results"]
    points = {
        (row["batch_size"], row["learning_rate"]): row["test_elbo"]
        for row in results["tuning"]
    }
    epochs = results["target_epoch"]
    return {"points": points, "images": results["images"], "epochs": epochs}


sources = {"now": just_now(), "cpu": from_tuning("cpu"), "cuda": from_tuning("cuda")}
sources = {name: source for name, source in sources.items() if source}
sizes, rates = (
    sorted({key[i] for source in sources.values() for key in source["points"]})
    for i in (0, 1)
)
assert len(sources["now"]["points"]) == len(BATCHES) * len(RATES)

# %% key="panel-shown" jupyter={"source_hidden": true} tags=["hide-input"]
STYLES = [("o", "-"), ("s", "--"), ("^", ":"), ("D", "-.")]


def draw_choice(batch, rate, source="now"):
    points = sources[source]["points"]
    setting = say("training-setting", batch=batch, rate=rate)
    about = {"images": sources[source]["images"], "epochs": sources[source]["epochs"]}
    about |= {"setting": setting, "where": say(f"training-source-{source}")}
    there = (batch, rate) in points
    key = "training-alt-chosen" if there else "training-alt-missing"
    alt = say(key, elbo=points.get((batch, rate), 0.0), **about)
    figure, (ax,) = figures.picture(alt, width=6.6, height=3.6)
    for number, size in enumerate(sorted({b for b, _ in points})):
        marker, line = STYLES[number % len(STYLES)]
        own = sorted((r, e) for (b, r), e in points.items() if b == size)
        x, y = zip(*own, strict=True)
        how = {"marker": marker, "linestyle": line, "markerfacecolor": "none"}
        label = say("training-batch", batch=size)
        ax.plot(x, y, **how, color="#666666", linewidth=1, label=label)
        if size == batch and there:
            ax.plot(rate, points[batch, rate], marker, color="black", markersize=11)
    ax.set_title(setting + ("" if there else " " + say("training-missing")), loc="left")
    ax.set_xscale("log", base=2)
    ticks = sorted({r for _, r in points})
    ax.set_xticks(ticks, [say("training-rate", rate=r) for r in ticks])
    ax.set(xlabel=say("training-rate-axis"), ylabel=say("training-elbo-axis"))
    ax.legend(fontsize=8, loc="lower center")
    return figure

# %% key="panel-moved" jupyter={"source_hidden": true} tags=["hide-input"]
controls = {
    "batch": sliders.choice(say("training-choose-batch"), sizes, value=128),
    "rate": sliders.choice(
        say("training-choose-rate"),
        [(say("training-rate", rate=rate), rate) for rate in rates],
        value=1e-3,
    ),
}
if len(sources) > 1:
    options = [(say(f"training-source-{name}"), name) for name in sources]
    controls["source"] = sliders.choice(say("training-choose-source"), options)
panel = sliders.panel(draw_choice, **controls)
assert sliders.sweep(panel) >= 4  # both ends of each handle, and back
panel

# %% [markdown] key="checkpoint"
# ## 11. Stopped, and resumed
#
# A run that takes hours will be stopped: by the cat, by the power company, by whoever else booked the GPU. It can go on only if *everything* that decides the future was saved: the weights, Adam's moments and counters, the state of the noise (which also orders the images of the next epoch), and how far it got. That is a *checkpoint*. The next cell saves one at the end of the first epoch, so that how far it got goes without saying, and resumes in a model born from another seed: first with everything, then without one part at a time.

# %% key="checkpoint-resumed"
noise = torch if device.type == "cpu" else getattr(torch, device.type)  # torch.cuda


def born(seed):
    torch.manual_seed(seed)
    model = nets.VAE().to(device)
    return model, Adam(model.parameters(), lr=1e-3, fused=True)


def epoch(model, optimizer):
    for x in in_memory(some):  # order and noise come from PyTorch's stream
        loss = from_logits(x, *model(x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return parameters_to_vector(model.parameters()).detach().clone()


def save(path, model, optimizer):
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    state["noise"] = noise.get_rng_state()
    torch.save(state, path.with_suffix(".part"))
    os.replace(path.with_suffix(".part"), path)  # whole, or not at all


def resume(path, without=None):
    model, optimizer = born(seed=99)  # what is not restored will show
    state = torch.load(path, weights_only=True)  # tensors only, no code
    if without != "model":
        model.load_state_dict(state["model"])
    if without != "optimizer":
        optimizer.load_state_dict(state["optimizer"])
    if without != "noise":
        noise.set_rng_state(state["noise"])
    return epoch(model, optimizer)


path = Path(shelf.name) / "run.pt"
run = born(seed=7)
epoch(*run)
save(path, *run)
undisturbed = epoch(*run)
for without in (None, "model", "optimizer", "noise"):
    equal = torch.equal(resume(path, without), undisturbed)
    assert equal == (without is None) or device.type != "cpu"
    print(say(f"training-resumed-{without}", equal=say(f"training-equal-{equal}")))

# %% [markdown] key="seeds"
# In the package it is one argument: `fit(..., checkpoint=path)`.
#
# ### What a seed promises
#
# On one device, with one version of PyTorch and **one number of threads**, the same seed gives the same run, bit for bit. The next cell demands that of `fit`, resumed and not. It fixes the number of threads first, because `fit` follows the free cores (section 13).
#
# Elsewhere it promises *nothing*. The noise may come from another generator, and sums are split in other places. Floating-point addition is not associative; three numbers show it. *On a GPU* even one device may add in a changing order. `torch.use_deterministic_algorithms(True)` demands a fixed one, with `CUBLAS_WORKSPACE_CONFIG=:4096:8` in the environment. We have tested the promise on CPUs only.

# %% key="seeds-kept" tags=["nbval-check-output"]
def fitted(seed, **options):
    model, _ = born(seed)
    packaged(capture=False, **options)(model, some)
    return parameters_to_vector(model.parameters()).detach()


threads = torch.get_num_threads()
torch.set_num_threads(1)
path = Path(shelf.name) / "run.safetensors"
whole = fitted(7, epochs=2)
fitted(7, epochs=1, checkpoint=path)
resumed = fitted(99, epochs=2, checkpoint=path)
again, other = fitted(7, epochs=2), fitted(8, epochs=2)
torch.set_num_threads(threads)
assert not torch.equal(other, whole)
if device.type == "cpu":
    assert torch.equal(again, whole)
    assert torch.equal(resumed, whole)

a, b, c = torch.tensor([1e8, -1e8, 1.0])  # float32
print(say("training-sums", left=((a + b) + c).item(), right=(a + (b + c)).item()))

# %% [markdown] key="processes"
# ## 12. Several processes
#
# How do several processors share the work? Each process holds a copy of the model and computes the gradient of *its share of the batch*. Then all average their gradients and take the same step; without that, the copies would drift apart. The loss is a mean, so the average of the shares' gradients, each weighted by its number of images, is the gradient of the whole batch: that is algebra. First in this process, with shares of 43, 43 and 42 images.

# %% key="processes-arithmetic"
def given():
    import torch

    from vae_teach import nets

    class Given(nets.VAE):
        def forward(self, x, eps):  # the noise comes from outside, equal for all
            mu, logvar = self.encode(x)
            return self.decode_logits(mu + torch.exp(0.5 * logvar) * eps), mu, logvar

    return Given()


def gradient_of(model, x, eps):
    loss = from_logits(x, *model(x, eps))
    return parameters_to_vector(torch.autograd.grad(loss, [*model.parameters()]))


def distance(gradient):
    return ((gradient - whole).abs().max() / whole.abs().max()).item()


torch.manual_seed(0)
model, x, eps = given(), few.pixels[:128].cpu(), torch.randn(128, 2)
whole = gradient_of(model, x, eps)
shares = [slice(rank, None, 3) for rank in range(3)]
weights = [len(x[share]) / len(x) for share in shares]
gradients = [gradient_of(model, x[share], eps[share]) for share in shares]
shared = sum(w * g for w, g in zip(weights, gradients, strict=True))
assert distance(shared) < 1e-6
assert distance(sum(gradients) / 3) > 1e-4  # the plain mean is another gradient
assert len(whole) == 631_188  # as many as parameters
print(say("training-shares-far", far=distance(shared)))

# %% [markdown] key="torchrun"
# Now really. `torchrun` starts the processes and tells each its number (`RANK`) and how many they are (`WORLD_SIZE`). Each runs the function in the next cell. Three parts of PyTorch do the work:
#
# - `DistributedSampler` says which images each process gets. It repeats some to make the shares equal, because `DistributedDataParallel`, below, takes the *plain* mean. In training that is off by little; in a mean over a test set it is an error. If it shuffles, call `set_epoch` at the start of each epoch, or every epoch has the same order.
# - `DistributedDataParallel` averages the gradients during `backward`, a group at a time, while the gradients of earlier layers are still being computed.
# - `no_sync` postpones that. Who takes a share in pieces (exercise 3) should talk once, at the last piece.

# %% key="torchrun-run"
def worker(folder):
    import torch
    import torch.distributed as dist
    import torch.nn.functional as F
    from safetensors.torch import load_file, save_file
    from torch.nn.parallel import DistributedDataParallel
    from torch.utils.data.distributed import DistributedSampler

    dist.init_process_group("gloo")  # "nccl" between GPUs
    batch, model = load_file(f"{folder}/batch.safetensors"), given()
    model.load_state_dict(load_file(f"{folder}/model.safetensors"))
    several = DistributedDataParallel(model)
    mine = [*DistributedSampler(range(len(batch["x"])), shuffle=False)]

    def backward(chosen):
        x, eps = batch["x"][chosen], batch["eps"][chosen]
        logits, mu, logvar = several(x, eps)
        misfit = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
        ((misfit + kl) / len(mine)).backward()

    half = len(mine) // 2
    with several.no_sync():  # adds up here and sends nothing
        backward(mine[:half])
    backward(mine[half:])  # here the processes talk
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    save_file({"gradient": gradient}, f"{folder}/{dist.get_rank()}.safetensors")
    dist.destroy_process_group()

# %% key="torchrun-launched" jupyter={"source_hidden": true} tags=["hide-input"]
def launch(folder, processes):
    save_file({"x": x, "eps": eps}, folder / "batch.safetensors")
    save_file(model.state_dict(), folder / "model.safetensors")
    program = folder / "worker.py"
    source = [inspect.getsource(given), inspect.getsource(worker)]
    source.append(f"worker({str(folder)!r})\n")
    program.write_text("\n\n".join(source), encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={processes}", str(program)]
    how = {"env": os.environ | {"OMP_NUM_THREADS": "1"}, "capture_output": True}
    try:
        subprocess.run(command, check=True, timeout=120, **how)
    except (OSError, subprocess.SubprocessError):
        return []
    found = [load_file(folder / f"{rank}.safetensors") for rank in range(processes)]
    return [one["gradient"] for one in found]


with tempfile.TemporaryDirectory() as folder:
    gradients = launch(Path(folder), processes=2)

if gradients:
    assert torch.equal(*gradients)
    assert distance(gradients[0]) < 1e-6
    print(say("training-two-processes", far=distance(gradients[0])))
else:
    print(say("training-no-processes"))

# %% [markdown] key="torchrun-commands"
# The package's command trains this way without a change, on one machine or on two:
#
# ```
# torchrun --standalone --nproc-per-node 4 -m vae_teach.train --batch-size 512
# torchrun --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d --rdzv-endpoint HOST:29500 -m vae_teach.train --batch-size 512
# ```
#
# `--batch-size` is the size over all processes: 512 shared by four is 128 for each; by eight, in the second command, 64. Those who keep 128 *per process* and add processes climb the false rung of section 6, without noticing.
#
# And the speed? Processes talk in every step, here 631,188 numbers, one for each parameter. Computing grows with the batch of each process, and talking does not. So sharing pays with larger batches per process, or in layers that use each weight many times, such as convolutions. For a network this small it can cost more than it gains; the next cell reads what was measured on a CPU (± is a single standard error).

# %% key="processes-measured" jupyter={"source_hidden": true} tags=["hide-input"]
measured = read("growth_cpu")
if measured is None:
    print(say("training-no-growth"))
else:
    results = measured["results"]
    print_source(measured, "training-growth-on")
    seconds = {row["name"]: row["seconds"] for row in results["rows"]}
    for row in results["processes"]:
        own = seconds[f"processes {row['processes']}"]
        values = {"elbo": row["test_elbo"], "error": row["standard_error"]}
        values |= {"speed": results["base"]["images"] / own}
        values |= {"times": seconds["processes 1"] / own}
        print(say("training-growth-row", count=row["processes"], **values))

# %% [markdown] key="crowd"
# ## 13. A crowd on the same cores
#
# PyTorch takes a thread for each core, whoever else is at work. At the end of each operation its threads wait for each other, and they wait by *spinning*: they look again and again whether the others are done. If four readers of this course share two cores, a spinning thread may hold the very core that the thread it waits for needs.
#
# The course tells waiting threads to sleep soon (`GOMP_SPINCOUNT`, for GNU's OpenMP). And the package's long loops look four times a second how many cores are free, and take as many threads; `OMP_NUM_THREADS` switches that off. *Work* is what all readers do per second, as a share of what one alone does; *wait* is the time of a piece of work, divided by what it would take if each reader got a fair share of the machine. A wait of 1 is a fair division of the machine, and work of 1 says that sharing loses nothing. Work above 1 and a wait below 1 are possible, because one reader alone does not keep the cores busy all the time.

# %% key="crowd-measured" jupyter={"source_hidden": true} tags=["hide-input"]
measured = read("crowd")
if measured is None:
    print(say("training-no-crowd"))
else:
    print_source(measured)
    for row in measured["results"]["rows"]:
        if row["readers"] == 4:
            kind, policy = (say(f"training-crowd-{row[k]}") for k in ("kind", "policy"))
            values = {"work": row["work"], "wait": row["wait"]}
            print(say("training-crowd-row", kind=kind, policy=policy, **values))

# %% [markdown] key="answer"
# ## 14. The answer
#
# What does it take to keep the processor busy? Data that are already there. Orders that do not wait for answers. Few large operations. Only as many digits as the answer needs, where the processor gains by it. And a ruler beside the clock. On the machine where this notebook ran last:

# %% key="answer-measured"
top = max((name for name in rungs if passed[name]), key=speed.get)
far, error = gained[top]
values = relative(speed[top]) | {"before": relative(speed["usual"])["share"]}
values |= {"after": relative(speed["fit"])["share"]}
print(say("training-answer", best=names[top], far=far, error=error, **values))

# %% [markdown] key="next"
# **To read.** Burda, Grosse and Salakhutdinov (2015) trained their networks with batches of 20 for 3,280 epochs. How long would your machine take to train ours like that? In PyTorch's documentation: CUDA semantics, automatic mixed precision, the profiler, `torchrun`.
#
# **In the course.** Lesson 05 asks what the trained model has learnt. Lesson 06 has the processor do one large product where others take ten thousand small ones.

# %% [markdown] key="exercises"
# ## Exercises
#
# Write your answer in place of the ellipsis and run the cell. The check answers at once: right, or a hint. The solutions are folded right below each question.
#
# ### 1. A step that never waits
#
# Write one training step. It gets the `model`, which maps `x` to `logits, mu, logvar`, the `optimizer`, a batch `x` of shape `(B, D)` and `total`, a scalar tensor of shape `()`. The loss is `from_logits` of section 4, and the optimizer comes fused. It should lower the *mean* loss of the batch, add the *summed* loss to `total` in place, and return nothing. The check watches it as in section 8: it must not ask for a single number.

# %% key="exercise-step" tags=["nbval-check-output"]
def my_step(model, optimizer, x, total):
    ...


checks.step(my_step)

# %% key="solution-step" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output", "solution"]
def solution_step(model, optimizer, x, total):
    loss = from_logits(x, *model(x))  # the mean
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    total += len(x) * loss.detach()


verdict = checks.step(solution_step)
assert verdict
verdict

# %% [markdown] key="exercise-mean-text"
# ### 2. Find the bugs
#
# This function is to return the mean ELBO of all images; `score(x)` gives one number per image, `(B,)`. It runs, and returns a number without complaint.
#
# ```python
# def mean_elbo(score, batches):
#     total = 0.0
#     for x in batches:
#         total += score(x).mean()
#         return total / len(batches)
# ```
#
# There are two bugs, one hidden behind the other. The second shows only when the first is gone, and not always. Write the function as it should be.

# %% key="exercise-mean" tags=["nbval-check-output"]
def my_mean_elbo(score, batches):
    ...


checks.mean_elbo(my_mean_elbo)

# %% key="solution-mean" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output", "solution"]
def solution_mean_elbo(score, batches):
    total, count = 0.0, 0
    for x in batches:
        total += score(x).sum()
        count += len(x)
    return total / count


verdict = checks.mean_elbo(solution_mean_elbo)
assert verdict
verdict

# %% [markdown] key="exercise-shares-text"
# ### 3. A batch that does not fit
#
# The batch you want does not fit into the memory of your GPU. Take it in pieces: compute the gradient of the *mean* of `loss(w, x)` over all images of `x`, `(B, D)`. Never call `loss` with more than `size` images, and keep no graph from one piece to the next. `loss` gives one number per image, `w` has shape `(D,)` and requires a gradient. Return the gradient, `(D,)`. It must equal that of the whole batch, whether `size` divides `B` or not.

# %% key="exercise-shares" tags=["nbval-check-output"]
def my_gradient(loss, w, x, size):
    ...


checks.accumulate(my_gradient)

# %% key="solution-shares" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output", "solution"]
def solution_gradient(loss, w, x, size):
    w.grad = None
    for part in x.split(size):
        (loss(w, part).sum() / len(x)).backward()  # gradients add up in w.grad
    return w.grad


verdict = checks.accumulate(solution_gradient)
assert verdict
verdict

# %% [markdown] key="exercise-amdahl-text"
# ### 4. What is still to be gained?
#
# A part of your program takes the fraction `share` of the time. You make that part `factor` times as fast. How many times as fast is the whole? Then look at the bars of section 7, in the panel of the package's `fit`: how much would an infinitely fast optimizer gain?

# %% key="exercise-amdahl" tags=["nbval-check-output"]
def my_amdahl(share, factor):
    ...


checks.amdahl(my_amdahl)

# %% key="solution-amdahl" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output", "solution"]
def solution_amdahl(share, factor):
    return 1 / (1 - share + share / factor)


verdict = checks.amdahl(solution_amdahl)
assert verdict
verdict

# %% [markdown] key="solution-amdahl-text"
# <details><summary>Answer to the question about the optimizer</summary>
#
# With an infinite factor the whole becomes $1 / (1 - s)$ times as fast, where $s$ is the optimizer's share. A part that takes a fifth of the time gains a quarter at most, however clever you are. That is Amdahl's law, and the reason to look at the profile before writing a line of code.
#
# </details>
