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
# **By the end you will be able to** say how much arithmetic a training step is, measure how fast your machine could do it, and climb from the usual loop towards that limit, one change at a time. Beside every speed stands the test ELBO: **a rung that changes the answer is no rung.** You will also stop a run and resume it bit for bit, and share one batch among several processes.
#
# **You need** lesson 00 and a little PyTorch. A GPU is welcome and not necessary: the notebook is the same with and without one, and where one is there it shows more rungs.
#
# **Time:** 30 minutes of reading; about half a minute of computing on one core.

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

os.environ["KINETO_LOG_LEVEL"] = "99"  # before torch: its profiler writes a diary

import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.optim import Adam
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms

from vae_teach import data, densities, figures, nets, sliders, train
from vae_teach.checks import training as checks
from vae_teach.words import say, use_language

use_language("en")

# %% [markdown] key="work"
# ## 1. How much work is it?
#
# Before asking whether a program is slow, ask what it has to do. In our network nearly all of the arithmetic is in the products of matrices. A layer with $a$ inputs and $b$ outputs takes $a b$ multiplications and as many additions for each image: $2ab$ operations. The backward pass takes two products more: one for the gradient of the weights and one for that of the input. Only the first layer does without the second, because nobody asks for the gradient of the pixels.
#
# The next cell counts by hand, and then lets PyTorch's own counter watch a real step. The two must agree.

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
# Three million operations for an image. A processor does billions in a second; how many, we are about to measure. First the data.
#
# We take a small part, 6,400 images, and go through it once: 50 steps of 128. That is enough to time a loop, and leaves time to repeat it. The bits of each image are drawn here, once and for all. Each image will be seen only once, so this is the same as drawing them within the loop.

# %% key="device-and-data"
device = torch.device("cpu")
if torch.accelerator.is_available():
    device = torch.accelerator.current_accelerator()

train_images = data.load("auto", "train")
test_images = data.load(train_images.name, "test", device=device)
bits = data.draw_bits(train_images.pixels[:6400], torch.Generator().manual_seed(0))
few = data.Images(bits, train_images.labels[:6400].clone()).to(device)
judges = data.Images(test_images.pixels[:2000], test_images.labels[:2000])
grey = data.Images(  # drawn anew in each batch, for later
    train_images.pixels[:2560].clone(), train_images.labels[:2560].clone(), dynamic=True
).to(device)
assert train_images.pixels.nbytes == 60_000 * 784 * 4  # 188 MB
del train_images, test_images

BATCH = 128
print(say("training-machine", device=device.type, threads=torch.get_num_threads()))

# %% [markdown] key="limit"
# ## 2. The limit
#
# No loop can finish an image sooner than its matrix products. So let us time the products alone: the same shapes as in a training step, nothing in between, results written to places that already exist. Their speed is **the limit**. The last number is for a large square product, the kind of work a processor likes best.
#
# One detail separates a measurement from a guess. A GPU takes orders and returns at once, long before the work is done. Whoever stops the clock without waiting for the device has measured how fast one can give orders. Hence `synchronize`.

# %% key="limit-measured"
def synchronize():
    if device.type != "cpu":
        torch.accelerator.synchronize()


def seconds_of(work, repeats, rounds=5):
    work()  # the first time loads code and makes room
    seconds = []
    for _ in range(rounds):
        synchronize()
        start = time.perf_counter()
        for _ in range(repeats):
            work()
        synchronize()
        seconds.append((time.perf_counter() - start) / repeats)
    return min(seconds)  # whatever disturbs can only slow down


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


def limit_of(batch_size, multiply):
    pairs = products(batch_size)
    return batch_size / seconds_of(lambda: multiply(pairs), 20)  # images per second


def square_speed(side):
    a, b, out = torch.randn(3, side, side, device=device)
    return 2 * side**3 / seconds_of(lambda: torch.mm(a, b, out=out), 2)


ways = {"mm": multiply}
limits = {name: limit_of(BATCH, way) for name, way in ways.items()}
limit = max(limits.values())
for name, seen in limits.items():
    print(say(f"training-products-{name}", speed=seen, giga=seen * operations / 1e9))
print(say("training-square", side=1024, giga=square_speed(1024) / 1e9))

# %% [markdown] key="usual"
# ## 3. The usual loop
#
# Here is the loop that many tutorials show. A `DataLoader` fetches images one at a time, and each becomes a picture, then a tensor, then part of a batch. The loss goes through a sigmoid. And `loss.item()` goes into a list, to draw a curve later.
#
# Two things are our own. The order of the images is drawn by us, and the loader gets a generator of its own. So every rung below will see **the same images in the same order, and draw the same noise**. Remember that; it will matter.

# %% key="usual-loop"
to_tensor = transforms.ToTensor()


class OneByOne(Dataset):
    def __init__(self, images):
        self.levels = (255 * images.pixels).byte().reshape(-1, 28, 28).cpu().numpy()
        self.labels = images.labels.tolist()

    def __len__(self):
        return len(self.levels)

    def __getitem__(self, index):
        picture = Image.fromarray(self.levels[index])
        return to_tensor(picture).flatten(), self.labels[index]


@functools.cache
def stored(images):
    return OneByOne(images)


def from_probabilities(x, logits, mu, logvar):
    misfit = F.binary_cross_entropy(torch.sigmoid(logits), x, reduction="sum")
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return (misfit + kl) / len(x)


def usual(model, images):
    order = torch.randperm(len(images), device=device).tolist()
    own = torch.Generator()
    loader = DataLoader(stored(images), BATCH, sampler=order, generator=own)
    optimizer = Adam(model.parameters(), lr=1e-3)
    curve = []
    for x, _ in loader:
        x = x.to(device)
        loss = from_probabilities(x, *model(x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curve.append(loss.item())


# %% [markdown] key="ladder"
# ## 4. The ladder
#
# Each rung changes one thing of the one before. We write them first and measure them together, later.
#
# ### The data live on the device
#
# The whole set fits in memory: 60,000 images take 188 MB. Then a batch is one operation, `index_select`, and it happens where the images are. No picture is opened twice, nothing travels.

# %% key="rung-resident"
def resident(model, images):
    order = torch.randperm(len(images), device=device)
    optimizer = Adam(model.parameters(), lr=1e-3)
    curve = []
    for chosen in order.split(BATCH):
        x = images.pixels.index_select(0, chosen)  # (B, 784), this is new
        loss = from_probabilities(x, *model(x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curve.append(loss.item())


# %% [markdown] key="unwatched"
# ### Nobody asks anything in the middle of a step
#
# `loss.item()` looks innocent. But to hand you a number the device has to finish everything it was asked for, and meanwhile it receives no new orders. On a GPU, the queue runs dry fifty times in fifty steps. On a CPU, host and device are the same, and this rung is worth little.
#
# The cure is to add up where the numbers are, and to ask once, at the end.

# %% key="rung-unwatched"
def unwatched(model, images):
    order = torch.randperm(len(images), device=device)
    optimizer = Adam(model.parameters(), lr=1e-3)
    total = torch.zeros((), device=device)
    for chosen in order.split(BATCH):
        x = images.pixels.index_select(0, chosen)  # (B, 784)
        loss = from_probabilities(x, *model(x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.detach()  # this is new: it stays on the device
    return total


# %% [markdown] key="logits"
# ### Logits
#
# A sigmoid followed by a cross-entropy computes an exponential only to take its logarithm. The direct formula has fewer operations, and it is also the *right* one. Look at a pixel that is off, while the decoder is sure that it is on, with a logit of 20. The exact price is $\log(1 + e^{20})$ nats. Through the sigmoid, the probability rounds to 1 and PyTorch cuts the infinite price off at 100.

# %% key="logits-matter" tags=["nbval-check-output"]
sure, off = torch.tensor([20.0]), torch.tensor([0.0])
exact = torch.log1p(sure.double().exp())
direct = F.binary_cross_entropy_with_logits(sure, off)
through = F.binary_cross_entropy(torch.sigmoid(sure), off)

assert torch.isclose(direct.double(), exact, atol=1e-6)
assert through > 99
values = {"exact": exact.item(), "direct": direct.item(), "through": through.item()}
print(say("training-sigmoid", **values))


# %% key="rung-logits"
def from_logits(x, logits, mu, logvar):
    misfit = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return (misfit + kl) / len(x)


def logits_rung(model, images):
    order = torch.randperm(len(images), device=device)
    optimizer = Adam(model.parameters(), lr=1e-3)
    total = torch.zeros((), device=device)
    for chosen in order.split(BATCH):
        x = images.pixels.index_select(0, chosen)  # (B, 784)
        loss = from_logits(x, *model(x))  # this is new
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.detach()
    return total


# %% [markdown] key="fused"
# ### Fused Adam
#
# Adam updates ten tensors, and for each it does a whole series of small operations. `fused=True` does everything in one go: the weights, the gradients and the two moments are read once instead of many times. On a GPU it also saves many orders in each step. The next cell counts the operations of one step of Adam, with and without.

# %% key="rung-fused"
PARAMETERS = [torch.zeros(3) for _ in nets.VAE().parameters()]


def operations_of(optimizer):
    for parameter in optimizer.param_groups[0]["params"]:
        parameter.grad = torch.ones(3)
    optimizer.step()  # the first step makes Adam's moments
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        optimizer.step()
    return sum(event.name.startswith("aten::") for event in seen.events())


plain, in_one = (operations_of(Adam(PARAMETERS, fused=how)) for how in (False, True))
assert len(PARAMETERS) == 10
assert plain > in_one
print(say("training-adam-operations", plain=plain, fused=in_one))


def fused(model, images):
    order = torch.randperm(len(images), device=device)
    optimizer = Adam(model.parameters(), lr=1e-3, fused=True)  # this is new
    total = torch.zeros((), device=device)
    for chosen in order.split(BATCH):
        x = images.pixels.index_select(0, chosen)  # (B, 784)
        loss = from_logits(x, *model(x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.detach()
    return total


# %% [markdown] key="package"
# ### The package, and what it adds
#
# `train.fit` is the loop above, and one thing more. For $\ell$ the logits, the gradient of the log-likelihood is $x - \mathrm{sigmoid}(\ell)$: one line. Left alone, autograd walks back through every operation of the value. `densities.log_bernoulli` tells it the line instead. The next cell checks that the gradient is the same.

# %% key="rung-package"
torch.manual_seed(0)
x = (torch.rand(8, 784) < 0.3).double()
logits = torch.randn(8, 784, dtype=torch.float64, requires_grad=True)
value = densities.log_bernoulli(x, logits).sum()
(ours,) = torch.autograd.grad(value, logits)
usual_value = -F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
(theirs,) = torch.autograd.grad(usual_value, logits)
assert torch.allclose(value, usual_value, rtol=1e-9)
assert torch.allclose(ours, theirs, atol=1e-9)
assert torch.allclose(ours, x - torch.sigmoid(logits), atol=1e-9)


def packaged(**options):
    how = {"epochs": 1, "device": device, "progress": False}
    return lambda model, images: train.fit(model, images, **how | options)


# %% [markdown] key="precision"
# ### Fewer digits
#
# A float32 has 24 bits of precision, a bfloat16 has 8. Half the bytes travel, and processors with units for it can multiply a good deal faster. There are two ways to ask for that:
#
# - `torch.set_float32_matmul_precision("medium")` keeps everything in float32 and lets the inside of the products use bfloat16. In the package: `fit(..., precision="medium")`.
# - `torch.autocast` runs the layers in bfloat16 altogether. The weights, Adam and the loss stay in float32: sums of 784 terms are no place to save digits.
#
# On a GPU, `"high"` uses TF32, with 11 bits, in between. A processor without such units may well become slower. That is why one measures.
#
# And `"medium"` is a permission, not an order: where a processor gains nothing by it, all digits stay. The next cell looks whether they stay here, by the distance of a product from the same one in float64. If they do, whatever is gained is the library's doing: on an x86 processor PyTorch brings two that can multiply, MKL and oneDNN, and with `"medium"` it may ask the second.

# %% key="rung-bfloat16"
assert torch.finfo(torch.float32).eps == 2.0**-23  # 24 bits, the leading one included
assert torch.finfo(torch.bfloat16).eps == 2.0**-7  # 8 bits

torch.manual_seed(0)
a, b = torch.randn(128, 784), torch.randn(784, 400)
exact = a.double() @ b.double()


def distance_at(precision):
    torch.set_float32_matmul_precision(precision)
    product = (a.to(device) @ b.to(device)).cpu().double()
    torch.set_float32_matmul_precision("highest")
    return ((product - exact).abs().max() / exact.abs().max()).item()


full, allowed = distance_at("highest"), distance_at("medium")
assert full < 1e-5
verdict = say("training-digits-kept" if allowed < 1e-5 else "training-digits-given")
print(say("training-digits", full=full, allowed=allowed, verdict=verdict))


def bfloat16(model, images):
    order = torch.randperm(len(images), device=device)
    optimizer = Adam(model.parameters(), lr=1e-3, fused=True)
    total = torch.zeros((), device=device)
    for chosen in order.split(BATCH):
        x = images.pixels.index_select(0, chosen)  # (B, 784)
        with torch.autocast(device.type, torch.bfloat16):  # this is new
            short = model(x)  # logits (B, 784), mu and logvar (B, 2), in 16 bits
        loss = from_logits(x, *(part.float() for part in short))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.detach()
    return total


# %% [markdown] key="compile-and-graphs"
# ### `torch.compile` and CUDA graphs
#
# On a GPU a network this small has a new problem. Each operation takes a few microseconds, which is less than the host needs to ask for the next one. The device waits for orders. Two remedies exist.
#
# **`torch.compile`** reads the step and writes it anew, with neighbouring operations melted into one. It takes one line:
#
# ```python
# compiled = torch.compile(model)  # then call compiled(x) in the loop
# ```
#
# We do not run it here: compiling takes far longer than the epoch that we want to time. For a large network that trains for hours it is nothing. (`benchmarks/training.py --compile` measures it.) Note that the fused code draws its noise in another way, so that the same seed gives another run.
#
# **A CUDA graph** records the orders of one step, and then replays all of them with a single order. Nothing may change from step to step except the contents of tensors that stay in place. `speed.cuda_graph.CapturedStep` does it in about thirty lines: it copies the indices of the batch to a fixed place and replays. Two things are easily forgotten. The recording needs some steps to warm up, and these must leave no trace in the weights, in Adam or in the random stream. And whoever calls `.item()` within the step cannot record it: the recording raises an error. `fit` uses the graph by itself wherever CUDA is there.

# %% key="rungs"
rungs = {
    "usual": usual,
    "resident": resident,
    "unwatched": unwatched,
    "logits": logits_rung,
    "fused": fused,
}
rungs["fit"] = packaged(capture=False)
if device.type == "cuda":
    rungs |= {"graph": packaged(), "high": packaged(precision="high")}
rungs["medium"] = packaged(precision="medium")
if device.type in ("cpu", "cuda"):
    rungs["bfloat16"] = bfloat16
larger = {
    "batch": packaged(batch_size=4 * BATCH),
    "batch-rate": packaged(batch_size=4 * BATCH, learning_rate=4e-3),
}
names = {name: say(f"training-rung-{name}") for name in rungs | larger}

# %% [markdown] key="climb"
# ## 5. The climb
#
# Now all of them, in turns. A laptop slows down when it gets warm, and a server when a neighbour works on it. So we never time one contestant alone: each turn runs all of them once, in another order, and times the products alone once more, so that the limit has as many chances. What we report is each rung's fastest turn: whatever disturbs a turn can only slow it down. (`fit` brings a clock of its own, which leaves the preparations out.)
#
# Each turn has a seed of its own, from which every rung starts: the same weights, the same order of images, the same noise. After its epoch each model is judged on 2,000 test images, with the same noise for all.

# %% key="climb-measured"
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
        seconds = history.rows[0]["seconds"]
    return len(few) / seconds, judged(model)


turns = 3 if device.type == "cpu" else 8
speeds = {name: [] for name in names}
scores = {name: [] for name in names}
contestants = [*(rungs | larger).items()]
shuffle = random.Random(0).shuffle
for turn in range(turns):
    limit = max(limit, *(limit_of(BATCH, way) for way in ways.values()))
    shuffle(contestants)
    for name, rung in contestants:
        speed, elbo = run_once(rung, seed=turn)
        speeds[name].append(speed)
        scores[name].append(elbo)
speed = {name: max(seen) for name, seen in speeds.items()}
elbo = {name: torch.stack(seen) for name, seen in scores.items()}  # (turns, 2000)

# %% [markdown] key="ruler"
# ### The ruler
#
# Before the table: when are two ELBOs *different*? Train the usual loop with another seed and it moves by some nats. A difference smaller than that says nothing, unless one is careful.
#
# **The wide ruler.** Suppose that a rung draws noise of its own. Then its mean over $n$ seeds and that of the usual loop differ by chance, with standard error $s \sqrt{2/n}$, where $s$ is the standard deviation from seed to seed. The test images are a sample, too: the difference, image by image, has a standard error of its own. The two add up in squares. A rung passes if it stays within two of these errors.
#
# **The narrow ruler.** The wide one would let a rung pass that costs a whole nat. But ours draw *the same* noise. Up to rounding, two correct rungs must give the same model, and the difference must be near zero: not in the mean, but in each seed. On a CPU the next cell demands less than 0.05 nats of all the rungs whose products are in float32.

# %% key="ruler-applied"
first = elbo["usual"].mean(1)  # (turns,) nats
spread = first.std().item()


def difference(name):
    each = (elbo[name] - elbo["usual"]).mean(0)  # (2000,) nats
    by_seed, by_image = spread * (2 / turns) ** 0.5, train.standard_error(each)
    return each.mean().item(), (by_seed**2 + by_image**2) ** 0.5


for name in rungs:
    far, error = difference(name)
    assert abs(far) <= 2 * error, name
if device.type == "cpu":
    for name in (name for name in rungs if name not in ("medium", "bfloat16")):
        far = elbo[name].mean(1) - first  # (turns,)
        assert far.abs().max() < 0.05, name
hand = torch.stack([elbo[name].mean(1) - first for name in rungs if name != "bfloat16"])
values = {"error": 2 * difference("fused")[1], "narrow": hand.abs().max().item()}
print(say("training-ruler", spread=spread, turns=turns, **values))

# %% [markdown] key="table"
# ### The table
#
# Images per second, how many times the usual loop that is, and which share of the limit. Then the test ELBO, its difference from the usual loop and, after the ±, twice the standard error of that. The last two rows have larger batches, which we come to below. The limit is that of float32 products; with fewer digits one may get beyond it.
#
# Your numbers will differ from those stored here. What to look for: where the largest jump is, and whether the last column of the first rows deserves its two decimals.

# %% key="table-printed"
def print_row(name, speed, times, share, elbo=None, far=None, error=None):
    line = say("training-row", name=name, speed=speed, times=times, share=share)
    if elbo is not None:
        line += say("training-row-elbo", elbo=elbo)
    if far is not None:
        line += say("training-row-far", far=far, error=error)
    print(line)


print(say("training-head"))
for name, shown in names.items():
    far, error = difference(name)
    values = {"times": speed[name] / speed["usual"], "share": speed[name] / limit}
    values |= {"speed": speed[name], "elbo": elbo[name].mean().item()}
    if name != "usual":
        values |= {"far": far, "error": 2 * error}
    print_row(shown, **values)

# %% key="table-drawn"
def draw_ladder(rows):
    best = max(rungs, key=speed.get)
    values = {"times": speed[best] / speed["usual"], "share": speed[best] / limit}
    alt = say("training-alt-ladder", best=names[best], rungs=len(rows), **values)
    figure, (left, right) = figures.picture(alt, columns=2, width=9, height=4.2)
    places = range(len(rows))
    bars = left.barh(places, [speed[name] for name in rows], color="#bdbdbd")
    labels = [say("training-bar", value=speed[name]) for name in rows]
    left.bar_label(bars, labels, label_type="center", fontsize=9)
    left.axvline(limit, color="black", linestyle="--", label=say("training-limit-line"))
    left.set_yticks(places, [names[name] for name in rows])
    left.set_xlim(0, 1.1 * max(limit, *speed.values()))
    left.locator_params(axis="x", nbins=4)
    left.xaxis.set_major_formatter(lambda value, _: say("training-bar", value=value))
    left.set(xlabel=say("training-speed"))
    left.legend(fontsize=9, loc="lower right", bbox_to_anchor=(1, 1), frameon=False)
    for place, name in zip(places, rows, strict=True):
        far, error = difference(name)
        right.errorbar(far, place, xerr=2 * error, fmt="o", color="black", capsize=3)
    right.axvline(0, color="black", linewidth=1)
    right.set_yticks(places, [])
    right.set(xlabel=say("training-far"))
    for ax in (left, right):
        ax.set_ylim(len(rows) - 0.5, -0.5)
    return figure


draw_ladder([*names])

# %% [markdown] key="larger"
# ## 6. Larger batches, and what they cost
#
# With 512 images per step the products get larger and the processor likes them better: more images per second. It seems the easiest rung of all. Now look at its ELBO in the table. It lies far outside the ruler, and the next cell demands that it does. One epoch has a quarter of the steps, and each step has the same length: the model has simply learnt less.
#
# **By our own rule this is not a rung.** It is a trade: so many images per second for so many nats. Part of it can be bought back with longer steps. The average of four times as many images has half the noise, so the step may be longer; the row below it multiplies the learning rate by four, as the batch. The cell demands that this recovers more than half of the loss. There is no guarantee for other models: with Adam, some people take the square root instead. One measures.

# %% key="larger-checked"
(lost, error), (left_over, _) = difference("batch"), difference("batch-rate")
assert lost < -2 * error
assert left_over > 0.5 * lost
print(say("training-larger", lost=-lost, left=-left_over))

# %% [markdown] key="where"
# ## 7. Where the time goes
#
# A profiler writes down when each operation begins and ends. Its lists are long; we want four numbers. So we climb from each operation to those that contain it, and put it into one of four boxes: **data**, **matrix products**, **optimizer**, and **the rest**, which is activations, loss, sums and noise. What is left of the clock is Python itself and, on a GPU, a device without orders.
#
# Watching costs time, above all where operations are many and small. Read the bars as shares.

# %% key="where-measured"
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


def watched(rung, images):
    torch.manual_seed(0)
    model = nets.VAE().to(device)
    rung(model, images)  # the first time makes room
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    synchronize()
    with profile(activities=activities) as seen:
        start = time.perf_counter()
        rung(model, images)
        synchronize()
        clock = 1e6 * (time.perf_counter() - start)  # microseconds
    own = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    boxes = dict.fromkeys(("data", "products", "optimiser", "rest"), 0.0)
    for event in seen.events():
        if event.device_type == torch.autograd.DeviceType.CPU:
            boxes[box_of(event)] += getattr(event, own)
    boxes["host"] = max(0.0, clock - sum(boxes.values()))
    steps = -(-len(images) // BATCH)
    return {name: spent / 1e3 / steps for name, spent in boxes.items()}  # ms a step


some = data.Images(few.pixels[: 6 * BATCH], few.labels[: 6 * BATCH])
spent = {
    name: watched(rungs[name], some) for name in ("usual", "unwatched", "fused", "fit")
}

# %% key="where-drawn"
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
# The hatched bar is the useful work. All four loops multiply the same matrices, and the same library does it. So the bar should be equally long in all panels; where it is not, something else used the processor, and you see how far such a picture can be trusted. Every rung makes the *other* bars shorter. That is also why the ladder ends: when only the products are left, the next step is another processor, or other arithmetic.
#
# ## 8. The device is never waited for
#
# "No synchronization" is easily said. One forgotten `if loss > best:` and each step waits again, because Python needs the number to choose its way. How does one prove that a step asks for nothing?
#
# On CUDA, PyTorch has a switch: `torch.cuda.set_sync_debug_mode("error")` turns every wait into an exception. On a CPU there is no queue, but the same question can be asked. Every operation passes through PyTorch's *dispatcher*, and a dispatch mode sees them pass. A number reaches Python, nearly always, by one operation: `_local_scalar_dense`, which is what `.item()`, `float(...)` and `if ...:` become. And numbers leave an accelerator only by a copy. The guard below forbids both.

# %% key="guard"
class NeverWaits(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError(func.name())
        if func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default):
            places = {a.device.type for a in args if isinstance(a, torch.Tensor)}
            if result.device.type == "cpu" and places != {"cpu"}:
                raise RuntimeError(func.name())
        return result


def waits(rung):
    torch.manual_seed(0)
    model = nets.VAE().to(device)
    rung(model, some)  # the first time makes room
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        with NeverWaits():
            rung(model, some)
    except RuntimeError:
        return True
    finally:
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")
    return False


def package_step(model, images):
    run = train.Run(model, images)  # what fit calls
    for chosen in torch.arange(len(images), device=device).split(BATCH):
        run.step(chosen)


found = {"resident": waits(resident), "fused": waits(fused), "fit": waits(package_step)}
assert found == {"resident": True, "fused": False, "fit": False}
for name, answer in found.items():
    verdict = say("training-waits" if answer else "training-never-waits")
    print(say("training-guard", name=say(f"training-short-{name}"), verdict=verdict))

# %% [markdown] key="guard-package"
# The guard goes red for the loop with `.item()` and stays green for the other two: our hand-written one and the step of the package.
#
# What does it not see? On a CPU, `.tolist()` and `.numpy()` read the memory directly and pass by the dispatcher; on a GPU they are copies, and it sees them. `checks.HostReads` closes the gap with a second guard, above, which watches the methods that Python calls on a tensor. Neither sees operations such as `nonzero` and `torch.equal`, which wait on a GPU, too; there PyTorch's switch catches them. The guard also shows something that surprises: Adam, if it is *not* fused, asks too. It keeps a counter of its steps and reads it with `.item()`. On a GPU that counter lives with the host, and nobody waits.

# %% key="guard-checked"
def asked_by(work):
    with checks.HostReads() as seen:
        work()
    return seen.asked


number = torch.tensor(1.5, device=device)
assert asked_by(lambda: number + 1) == []
for ask in (number.item, number.tolist, number.cpu, lambda: bool(number > 0)):
    assert asked_by(ask), ask

weights = [torch.zeros(3, device=device, requires_grad=True)]
weights[0].grad = torch.ones(3, device=device)
optimizers = {is_fused: Adam(weights, fused=is_fused) for is_fused in (False, True)}
counts = {f: len(asked_by(optimizer.step)) for f, optimizer in optimizers.items()}
assert counts[True] == 0
print(say("training-adam-asks", plain=counts[False], fused=counts[True]))

# %% [markdown] key="stored"
# ## 9. The same table, measured at leisure
#
# A small part and a few turns are enough to see the ladder, not to quote it. The benchmark of the course climbs nearly the same rungs with all 60,000 images, for several epochs and several seeds. The next cell reads what it wrote, and says on which machine it was written. The speeds are medians; the times and the shares are medians of the ratios within each turn, so they are not exactly the quotient of the speeds. There the bits are drawn anew in every batch, and the usual loop draws them in its own way, so its noise is not that of the others, which share theirs: it is the wide ruler that applies.

# %% key="stored-table"
RESULTS = Path("../../benchmarks/results")


def read(name):
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def print_stored(kind):
    measured = read(f"training_{kind}")
    if measured is None:
        print(
            say(f"training-none-{kind}" if RESULTS.is_dir() else "training-no-folder")
        )
        return
    results, machine = measured["results"], measured["machine"]
    where = machine["accelerator"] or machine["processor"]
    fields = ("date", "commit", "torch", "threads")
    print(say("training-measured-on", where=where, **{k: machine[k] for k in fields}))
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
# ## 10. The thing to pull: batch and precision
#
# Each point is a way to train: to the right, faster; upwards, a better test ELBO after the same number of epochs. Pull the sliders. The filled point is your choice; hollow ones are the others that were measured. The third slider says who measured them: the course's benchmark, or this notebook, on your machine, a moment ago (one turn, one short epoch).
#
# Look for three things. How far to the right does a larger batch carry you, and how far down? Is there a batch size after which nothing is gained? On your machine, do fewer digits cost nats? And do they pay? Where a combination was not measured, the panel says so and guesses nothing.

# %% key="panel-measured"
BATCHES, PRECISIONS = (32, 128, 512, 2048), train.PRECISIONS


def just_now(tried):
    points = {}
    for size in BATCHES:
        for precision in tried:
            rung = packaged(batch_size=size, precision=precision)
            seen, score = run_once(rung, seed=0)
            points[size, precision] = (seen, score.mean().item())
    return {"points": points, "images": len(few), "epochs": 1}


def from_grid(kind):
    measured = read(f"batches_{kind}")
    if measured is None:
        return None
    results, points = measured["results"], {}
    for row in results["rows"]:
        point = (row["images_per_second"], row["test_elbo"])
        points[row["batch_size"], row["precision"]] = point
    return {"points": points, "images": results["images"], "epochs": results["epochs"]}


def from_ladder(kind):
    measured = read(f"training_{kind}")
    if measured is None:
        return None
    results, points = measured["results"], {}
    for row in results["rows"]:
        _, _, change = row["name"].partition("-")
        if row["name"].split("-")[0] == "fit":
            size = int(change) if change.isdigit() else results["batch_size"]
            precision = change if change in PRECISIONS else "highest"
            pace = results["images"] / row["seconds"]
            points[size, precision] = (pace, row["test_elbo"])
    epochs = results["rows"][0]["epochs"]
    return {"points": points, "images": results["images"], "epochs": epochs}


sources = {}
for kind in ("cuda", "cpu"):
    sources[kind] = from_grid(kind) or from_ladder(kind)
tried = PRECISIONS if device.type == "cuda" else ("highest", "medium")
sources["now"] = just_now(tried)
sources = {name: source for name, source in sources.items() if source}
for source in sources.values():
    assert all(size in BATCHES and p in PRECISIONS for size, p in source["points"])
assert len(sources["now"]["points"]) == len(BATCHES) * len(tried)

# %% key="panel-shown"
MARKERS = dict(zip(PRECISIONS, "os^", strict=True))
LINES = dict(zip(PRECISIONS, ("-", "--", ":"), strict=True))


def draw_choice(batch, precision, source):
    measured = sources[source]
    points, chosen = measured["points"], (batch, precision)
    products_in = say(f"training-precision-{precision}")
    setting = say("training-setting", batch=batch, precision=products_in)
    about = {"images": measured["images"], "epochs": measured["epochs"]}
    where = say(f"training-source-{source}")
    if chosen in points:
        values = {"speed": points[chosen][0], "elbo": points[chosen][1]}
        alt = say(
            "training-alt-chosen", setting=setting, where=where, **values, **about
        )
    else:
        alt = say("training-alt-missing", setting=setting, where=where, **about)
    figure, (ax,) = figures.picture(alt, width=6.6, height=3.6)
    for kind in PRECISIONS:
        own = sorted((size, point) for (size, p), point in points.items() if p == kind)
        if own:
            x, y = zip(*(point for _, point in own), strict=True)
            label = say(f"training-precision-{kind}")
            how = {"marker": MARKERS[kind], "linestyle": LINES[kind], "linewidth": 1}
            ax.plot(x, y, **how, markerfacecolor="none", color="#666666", label=label)
            for size, point in own:
                if kind == "highest":
                    ax.text(*point, f"   {size}", va="bottom", fontsize=8)
    if chosen in points:
        ax.plot(*points[chosen], MARKERS[precision], color="black", markersize=11)
    missing = "" if chosen in points else " " + say("training-missing")
    ax.set_title(setting + missing, loc="left", fontsize=10)
    ax.set(xlabel=say("training-speed"), ylabel=say("training-elbo-axis"))
    ax.margins(0.12)
    ax.xaxis.set_major_formatter(lambda value, _: say("training-bar", value=value))
    ax.legend(fontsize=8, loc="lower left")
    return figure


panel = sliders.panel(
    draw_choice,
    batch=sliders.choice(say("training-choose-batch"), BATCHES, value=128),
    precision=sliders.choice(
        say("training-choose-precision"),
        [(say(f"training-precision-{p}"), p) for p in PRECISIONS],
    ),
    source=sliders.choice(
        say("training-choose-source"),
        [(say(f"training-source-{s}"), s) for s in sources]
    ),
)
panel

# %% key="panel-moved"
# both ends of each slider and back: each setting has a picture of its own
seen = sliders.sweep(panel)
assert seen == 4 + (len(sources) > 1)

# %% [markdown] key="checkpoint"
# ## 11. Stopped, and resumed
#
# A run that takes hours will be stopped: by the cat, by the power company, by whoever else booked the GPU. It can go on afterwards only if *everything* that decides the future was saved. The weights are not enough. Adam has two moments per weight and a counter, and the noise has a state. Forget one of them and the run goes on, but as another run.
#
# `fit(..., checkpoint=path)` saves all of it after each epoch, in one file that is moved into place only once it is whole. In the next cell somebody pulls the plug in the middle of the third epoch. A new model, born from another seed, finds the file and goes on. At the end we compare it with a run that nobody disturbed. Not nearly equal: **equal**.

# %% key="checkpoint-resumed"
class Unplugged(nets.VAE):
    calls = 0

    def encode(self, x):
        self.calls += 1
        if self.calls == 50:  # in the third epoch of 20 steps
            raise KeyboardInterrupt
        return super().encode(x)


def trained(model, seed, **options):
    torch.manual_seed(seed)
    how = {"epochs": 3, "device": device, "progress": False, "capture": False}
    history = train.fit(model, grey, **how | options)
    return history, torch.cat([p.detach().flatten() for p in model.parameters()])


def born(kind, seed):
    torch.manual_seed(seed)
    return kind()


_, undisturbed = trained(born(nets.VAE, 7), seed=8)
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "run.safetensors"
    stopped, halfway = trained(born(Unplugged, 7), seed=8, checkpoint=path)
    resumed, weights = trained(born(nets.VAE, 99), seed=100, checkpoint=path)

assert stopped.interrupted
assert len(stopped) == 2
assert len(resumed) == 3
assert not torch.equal(halfway, undisturbed)
assert torch.equal(weights, undisturbed)

# %% [markdown] key="seeds"
# ### What a seed promises
#
# The cell above already used the promise: on one device, with one version of PyTorch and as many threads, the same seed gives the same run, bit for bit. The next cell demands it, and that another seed gives another run.
#
# What a seed does *not* promise: the same run on another device, with another number of threads or another version. There the noise may come from another generator, and sums are split in other places. Floating-point addition is not associative, so that each split rounds in its own way. Three numbers are enough to see it.

# %% key="seeds-kept" tags=["nbval-check-output"]
_, again = trained(born(nets.VAE, 7), seed=8)
_, other = trained(born(nets.VAE, 7), seed=9)
assert torch.equal(again, undisturbed)
assert not torch.equal(other, undisturbed)

a, b, c = torch.tensor([1e8, -1e8, 1.0])  # float32
print(say("training-sums", left=((a + b) + c).item(), right=(a + (b + c)).item()))

# %% [markdown] key="processes"
# ## 12. Several processes
#
# One processor is full. How do several share the work? Each process holds a copy of the model and takes *its share of the batch*. It computes the gradient of its share. Then all of them average their gradients and take the same step. The average of the shares' gradients is the gradient of the whole batch, because the loss is a mean. If the shares are not equal, each must count in proportion to its images. First the arithmetic, in this process, with shares of 43, 43 and 42 images.

# %% key="processes-arithmetic"
class Given(nets.VAE):
    def forward(self, x, eps):  # the noise comes from outside, equal for all
        mu, logvar = self.encode(x)
        z = mu + torch.exp(0.5 * logvar) * eps
        return self.decode_logits(z), mu, logvar


def gradient_of(model, x, eps):
    loss = from_logits(x, *model(x, eps))
    parts = torch.autograd.grad(loss, [*model.parameters()])
    return torch.cat([part.flatten() for part in parts])


torch.manual_seed(0)
model, x, eps = Given(), few.pixels[:128].cpu(), torch.randn(128, 2)
whole = gradient_of(model, x, eps)

shared = torch.zeros_like(whole)
for rank in range(3):
    share = slice(rank, None, 3)
    weight = len(x[share]) / len(x)
    shared += weight * gradient_of(model, x[share], eps[share])

far = ((shared - whole).abs().max() / whole.abs().max()).item()
assert far < 1e-6
assert len(whole) == 631_188  # as many as weights
print(say("training-shares-far", far=far))

# %% [markdown] key="torchrun"
# Now really. `torchrun` starts the processes and tells each of them, through environment variables, its number (`RANK`) and how many they are (`WORLD_SIZE`). `DistributedDataParallel` wraps the model: during `backward`, as soon as a group of gradients is ready, it is averaged with those of the others while the layers below are still computing. The function in the next cell is what each process runs. We write it to a file and start two.

# %% key="torchrun-run"
def worker(folder):
    import torch
    import torch.distributed as dist
    import torch.nn.functional as F
    from safetensors.torch import load_file, save_file
    from torch.nn.parallel import DistributedDataParallel

    from vae_teach import nets

    class Given(nets.VAE):
        def forward(self, x, eps):
            mu, logvar = self.encode(x)
            return self.decode_logits(mu + torch.exp(0.5 * logvar) * eps), mu, logvar

    dist.init_process_group("gloo")  # "nccl" between GPUs
    rank, size = dist.get_rank(), dist.get_world_size()
    model, batch = Given(), load_file(f"{folder}/batch.safetensors")
    model.load_state_dict(load_file(f"{folder}/model.safetensors"))
    several = DistributedDataParallel(model)
    x, eps = batch["x"][rank::size], batch["eps"][rank::size]  # my share
    logits, mu, logvar = several(x, eps)
    misfit = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    ((misfit + kl) / len(x)).backward()  # here the processes talk
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    save_file({"gradient": gradient}, f"{folder}/{rank}.safetensors")
    dist.destroy_process_group()


def launch(folder, processes):
    save_file({"x": x, "eps": eps}, folder / "batch.safetensors")
    save_file(model.state_dict(), folder / "model.safetensors")
    program = folder / "worker.py"
    call = f"\n\nworker({str(folder)!r})\n"
    program.write_text(inspect.getsource(worker) + call, encoding="utf-8")
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
    far = ((gradients[0] - whole).abs().max() / whole.abs().max()).item()
    assert torch.equal(*gradients)
    assert far < 1e-6
    print(say("training-two-processes", far=far))
else:
    print(say("training-no-processes"))

# %% [markdown] key="torchrun-commands"
# The package's command trains this way without a change. On one machine, one process per GPU:
#
# ```
# torchrun --standalone --nproc-per-node 4 -m vae_teach.train --batch-size 512
# ```
#
# On two machines, the same command on each, with a common meeting point:
#
# ```
# torchrun --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d --rdzv-endpoint first-machine:29500 -m vae_teach.train --batch-size 512
# ```
#
# `--batch-size` is the size over all processes. That is what makes the answer the same: 512 shared by four is 128 for each, and a batch of 512 is what section 6 says it is. Those who keep 128 *per process* and add processes climb the same false rung, without noticing.
#
# And the speed? Processes have to talk in every step, here 631,188 numbers, one for each weight. For a network this small the talk may well cost more than the sharing gains. The computing grows with the batch of each process, and the talking does not. Sharing pays with larger batches per process, or in layers that use each weight many times, such as convolutions. The next cell reads what was measured; there, ± is a single standard error.

# %% key="processes-measured"
measured = read("growth_cpu")
if measured is None:
    print(say("training-no-growth"))
else:
    machine, results = measured["machine"], measured["results"]
    where = {"where": machine["processor"], "date": machine["date"]}
    print(say("training-growth-on", **where, commit=machine["commit"]))
    seconds = {row["name"]: row["seconds"] for row in results["rows"]}
    for row in results["processes"]:
        values = {"elbo": row["test_elbo"], "error": row["standard_error"]}
        pace = results["base"]["images"] / seconds[f"processes {row['processes']}"]
        print(say("training-growth-row", count=row["processes"], speed=pace, **values))

# %% [markdown] key="answer"
# ## 13. The answer
#
# What does it take to keep the processor busy? Data that are already there. Orders that do not wait for answers. Few large operations instead of many small ones. A library that suits the processor. Only as many digits as the answer needs. And a ruler beside the clock. On the machine where this notebook was run last, that came to:

# %% key="answer-measured"
best = max(rungs, key=speed.get)
values = {"times": speed[best] / speed["usual"], "share": speed[best] / limit}
values |= {"before": speed["usual"] / limit, "after": speed["fit"] / limit}
far, error = difference(best)
assert abs(far) <= 2 * error
print(say("training-answer", best=names[best], far=far, error=2 * error, **values))

# %% [markdown] key="next"
# **To read.** Burda, Grosse and Salakhutdinov (2015) trained a somewhat larger network with batches of 20 for 3,280 epochs. Work out how long your machine would take for that with ours. In PyTorch's documentation, the pages on CUDA semantics, on the profiler and on `torchrun`.
#
# **In the course.** Lesson 05 asks what the trained model has learnt. Lesson 06 has the processor do one large product where others take ten thousand small ones.

# %% [markdown] key="exercises"
# ## Exercises
#
# Write your answer in place of the ellipsis and run the cell. The check answers at once: right, or a hint. The solutions are folded right below each question; open them only after you have tried.
#
# ### 1. A step that never waits
#
# Write one training step. It gets the `model`, which maps `x` to `logits, mu, logvar`, the `optimizer`, a batch `x` of shape `(B, D)` and `total`, a tensor without axes. It should descend the *mean* loss of the batch, add the *summed* loss of the batch to `total` in place, and return nothing. The check runs it under the guard: it must not ask for a single number.

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
# This function is to return the mean ELBO of all images. `score(x)` gives one number per image, `(B,)`. It has made the rounds in published code: it runs, and the number looks plausible. There are two bugs, one behind the other. The second shows only when the first is gone, and only if the last batch is smaller than the others.

# %% key="exercise-mean" tags=["nbval-check-output"]
def my_mean_elbo(score, batches):
    total = 0.0
    for x in batches:
        total += score(x).mean()
        return total / len(batches)
    return total  # there was no batch


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
# The batch you want does not fit into the memory of your GPU. Take it in pieces: compute the gradient of the *mean* of `loss(w, x)` over all images of `x`, `(B, D)`, while you never call `loss` with more than `size` images. `loss` gives one number per image, `w` has shape `(D,)` and requires a gradient. Return the gradient, `(D,)`. It must equal that of the whole batch, whether `size` divides `B` or not.

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
# A part of your program takes the fraction `share` of the time. You make that part `factor` times as fast. How many times as fast is the whole? Then look at the bars of section 7: how much would an infinitely fast optimizer gain?

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
# With an infinite factor, $1 / (1 - s)$ remains, where $s$ is the optimizer's share. A part that takes a fifth of the time gains a quarter at most, however clever you are. That is Amdahl's law, and the reason to look at the profile before writing a line of code.
#
# </details>
