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
# # What did the model learn?
#
# The training is over and the test ELBO stands in the table of lesson 00. It is one number. It does not say what the two numbers per image *mean*, whether the plane is full or has holes, or what blurs the pictures. This lesson opens the model and looks.
#
# **By the end you will be able to** say what blurs a reconstruction, and what does not; tell a decoder's mean from a sample; draw the latent plane on a grid whose cells are all equally probable; measure how far the codes, together, are from the prior; walk from one digit to another; and look into a latent space that does not fit on a page.
#
# **You need** lesson 00.
#
# **Time:** 50 minutes of reading; about a minute of computing. The first time, up to four minutes more, while four models are trained.

# %% key="setup"
import math
from functools import partial

import torch
import torch.nn.functional as F
from matplotlib.colors import LinearSegmentedColormap
from torch.distributions import Normal

from vae_teach import data, densities, figures, nets, sliders, train
from vae_teach.bounds import reconstruction
from vae_teach.checks import latents as checks
from vae_teach.explorer import LatentExplorer
from vae_teach.words import say, use_language

use_language("en")

# %% [markdown] key="model-text"
# ## 1. The patient
#
# The model is the one of lesson 00: two latents, 15 epochs. It comes from the cache, or is trained now. The numbers in the text are those of MNIST. In what is printed, the number after ± is always one standard error.

# %% key="model"
device = torch.device("cpu")
if torch.accelerator.is_available():
    device = torch.accelerator.current_accelerator()

train_images = data.load("auto", "train", device=device)
on_mnist = train_images.name == "mnist"  # the text tells its numbers
test_images = data.load(train_images.name, "test", device=device)
model, history = train.trained(train_images, device=device)

torch.manual_seed(0)
bound = train.evaluate(model, test_images)  # three times (10000,) nats
mean, error = bound.elbo.mean().item(), train.standard_error(bound.elbo)
assert mean > {"mnist": -158.0, "strokes": -135.0}[train_images.name]
print(say("latents-patient", name=train_images.name, mean=mean, error=error))

# %% [markdown] key="blur-toy-text"
# ## 2. Who blurs the picture?
#
# "VAEs are blurry because of the KL": you will read that in many places. Let us put it on trial.
#
# First, a case with no KL at all, and no encoder. A bar stands on the left or on the right, half the time each. The latent does not say which: both images get the same code. The decoder has one vector of logits, and gradient descent chooses it to make the two images as probable as it can. The next picture shows the two images and what it chooses.

# %% key="blur-toy" tags=["nbval-check-output"]
bars = torch.zeros(2, 28, 28, dtype=torch.float64)
bars[0, 4:24, 9:12] = bars[1, 4:24, 16:19] = 1
bars = bars.reshape(2, 784)

logits = torch.zeros(784, dtype=torch.float64, requires_grad=True)
optimizer = torch.optim.Adam([logits], lr=0.5)
for _ in range(300):
    cost = -densities.log_bernoulli(bars, logits.expand(2, -1)).mean()
    optimizer.zero_grad()
    cost.backward()
    optimizer.step()
chosen = torch.sigmoid(logits).detach()  # (784,)
differing = int((bars[0] != bars[1]).sum())

assert torch.allclose(chosen, bars.mean(0), atol=1e-3)
assert 0 < cost.item() - differing * math.log(2) < 0.3  # it goes on falling, slowly
print(say("latents-toy", pixels=differing, cost=differing * math.log(2)))

# %% key="blur-toy-picture" jupyter={"source_hidden": true} tags=["hide-input"]
figure, axes = figures.picture(say("latents-alt-toy"), columns=3, width=6, height=2.3)
titles = [say("latents-toy-image", number=k) for k in (1, 2)] + [say("latents-chosen")]
shown = torch.cat((bars, chosen[None])).float()  # (3, 784)
for ax, image, title in zip(axes, shown, titles, strict=True):
    figures.show_digits(ax, image[None], columns=1, title=title)
figure

# %% [markdown] key="blur-cause"
# It chooses the average. The pixels are independent given the latent, so each one answers for itself, with the frequency at which it lights up: a half, where the images differ. **What the latent does not determine, independent pixels average.** There is the blur, and there is no KL here at all. Each of these pixels costs $\log 2$, and no logit avoids it: their sum is the unavoidable cost which the cell prints.
#
# To measure it we need a number. For a decoder's mean $m$, take
#
# $$G(m) = \sum_d m_d\,(1 - m_d),$$
#
# the *grey* of the picture: 0 if every pixel is surely black or surely white, $\frac{1}{4}$ for each pixel that is a coin toss. It is the variance of the pixels that the decoder itself admits to. In the example of the bars it is $120 / 4 = 30$.

# %% key="grey" tags=["nbval-check-output"]
def grey(means):
    return (means * (1 - means)).sum(-1)  # (B,)


assert abs(grey(chosen) - differing / 4) < 0.4
print(say("latents-grey-toy", average=grey(chosen).item(), bar=grey(bars[0]).item()))

# %% [markdown] key="trial-text"
# Now the model. There are two suspects: the KL, which puts a price on what the code tells, and the number of latents. We change one at a time, with one reservation: without the KL the noise of the code goes too, and what we call the effect of the KL is that of both. A VAE and an *autoencoder* are trained with 2 latents, and again with 30. The autoencoder has no KL and no noise: each image becomes a point. All four see the same images for 15 epochs, one run each: the ± of the table is over test images, not over seeds.

# %% key="trial"
wide, _ = train.trained(train_images, latent_dim=30)
point_2, _ = train.trained(
    train_images, make=partial(nets.AE, latent_dim=2), objective=reconstruction
)
point_30, _ = train.trained(
    train_images, make=partial(nets.AE, latent_dim=30), objective=reconstruction
)

# %% [markdown] key="verdict-text"
# For the 10,000 test images, the table gives the grey of the reconstruction and its squared error, $\lVert x - m \rVert^2$, both in pixels. The last row is the noise of the draw itself: the test bits were drawn from grey levels, and not even the true grey levels would have guessed the outcome. Then come three differences, taken image by image.

# %% key="verdict"
@torch.no_grad()
def rebuilt(images):
    return {
        "latents-vae-2": model.decode(model.encode(images)[0]),
        "latents-ae-2": point_2.decode(point_2.encode(images)),
        "latents-vae-30": wide.decode(wide.encode(images)[0]),
        "latents-ae-30": point_30.decode(point_30.encode(images)),
    }


x = test_images.pixels  # (10000, 784), binary
levels = data.load(train_images.name, "test", binarize=False, device=device).pixels
greys, errors = {}, {}  # (10000,) each
for key, m in (rebuilt(x) | {"latents-grey-levels": levels}).items():
    greys[key], errors[key] = grey(m), (x - m).square().sum(-1)
    told = {"grey": greys[key].mean().item(), "error": errors[key].mean().item()}
    told["grey_error"] = train.standard_error(greys[key])
    told["error_error"] = train.standard_error(errors[key])
    print(say("latents-trial-row", model=say(key), **told))

vae_2, ae_2, vae_30, ae_30, _ = greys.values()
changes = {"kl-2": vae_2 - ae_2, "kl-30": vae_30 - ae_30, "latents": vae_2 - vae_30}
shares = {}
for name, change in changes.items():
    before = vae_30 if name == "kl-30" else vae_2
    shares[name] = (change.mean() / before.mean()).item()
    told = {"change": change.mean().item(), "error": train.standard_error(change)}
    print(say(f"latents-change-{name}", share=shares[name], **told))
    paired = train.standard_error(change)  # image by image
    assert change.mean() > 4 * paired or not on_mnist
assert shares["latents"] > 0.5 or not on_mnist
assert shares["kl-2"] < 0.05 or not on_mnist
for key in ("latents-vae-2", "latents-ae-2"):
    assert abs(greys[key].mean() / errors[key].mean() - 1) < 0.05 or not on_mnist

# %% key="trial-picture" jupyter={"source_hidden": true} tags=["hide-input"]
ten = figures.one_of_each(test_images)
rows = {say("latents-originals"): x[ten]}
rows |= {say(key): m for key, m in rebuilt(x[ten]).items()}
figure = figures.gallery(rows, columns=10, alt=say("latents-alt-trial"))
figure.stored_dpi = figures.SHOWN_DPI  # 50 digits
figure

# %% [markdown] key="trial-noticed"
# **What blurs is what the code does not tell.** With two latents, taking the KL away lowers the grey by 4%: the KL is not what blurs these pictures. Two numbers are simply too few, and 28 more remove over half of the grey, with the KL in full force.
#
# With 30 numbers there is room to tell more, and the KL does have a say: without it, the grey that is left falls by 29% (part of that is the noise, which goes with the KL). What is left then is close to the last row. It is not the KL that makes the decoder return an average of images. It is a price on information, and a model may decide that a detail is not worth its price.
#
# With two latents, grey and squared error nearly agree, on images that the model never saw. There, on average, the decoder knows how uncertain it is. Section 4 says why the two should be equal.

# %% [markdown] key="classes-text"
# ## 3. Which digits are hard?
#
# The mean ELBO hides ten different stories. The next picture splits the *cost* of each digit, the negative ELBO, into its two terms: the reconstruction below, the KL on top. The whisker is four standard errors long on each side. The diamond is the cost under a model without a latent, in which each pixel lights up with its frequency over the training set. The distance from the top of the bar to the diamond is what the latent gains.

# %% key="classes"
labels = test_images.labels.cpu()


def by_class(values):
    parts = [values.cpu()[labels == digit] for digit in range(10)]
    means = torch.tensor([part.mean() for part in parts])
    return means, torch.tensor([train.standard_error(part) for part in parts])


costs, cost_errors = by_class(-bound.elbo)  # (10,), (10,) nats
kls, kl_errors = by_class(bound.kl)
parts = [data.grey(part).mean(0) for part in train_images.pixels.split(6000)]
frequency = torch.stack(parts).mean(0).clamp(1e-4, 1 - 1e-4)  # (784,)
without, _ = by_class(-densities.log_bernoulli(x, frequency.logit()))

# %% key="classes-picture" jupyter={"source_hidden": true} tags=["hide-input"]
figure, (ax,) = figures.picture(say("latents-alt-classes"), height=3.4)
digits = torch.arange(10)
blue, orange = figures.COLORS["reconstruction"], figures.COLORS["kl"]
ax.bar(digits, costs - kls, color=blue, label=say("latents-cost-reconstruction"))
ax.bar(digits, kls, bottom=costs - kls, color=orange, hatch="//", label="KL")
ax.errorbar(digits, costs, 4 * cost_errors, fmt="none", ecolor="black", capsize=4)
ax.plot(digits, without, "D", color="black", ms=5, label=say("latents-no-latent"))
ax.set(xlabel=say("latents-digit"), ylabel=say("latents-cost"), xticks=digits)
figure.legend(loc="outside upper right", fontsize=8, ncols=3, frameon=False)
figure

# %% key="classes-named" jupyter={"source_hidden": true} tags=["hide-input"]
ink, _ = by_class(x.sum(-1))  # (10,) lit pixels
easy, hard = costs.argmin().item(), costs.argmax().item()
for digit in (easy, hard):
    told = {"cost": costs[digit].item(), "error": cost_errors[digit].item()}
    told |= {"kl": kls[digit].item(), "ink": ink[digit].item()}
    print(say("latents-class-cost", digit=digit, **told))
least, most = kls.argmin().item(), kls.argmax().item()
told = {"low": kls[least].item(), "high": kls[most].item()}
print(say("latents-class-kl", least=least, most=most, **told))

gap = costs[hard] - costs[easy]
assert gap > 4 * torch.hypot(cost_errors[hard], cost_errors[easy])
assert ink.argmin() == easy or not on_mnist
assert kls[most] - kls[least] < (costs - kls).max() - (costs - kls).min()
assert kls[most] - kls[least] > 4 * torch.hypot(kl_errors[most], kl_errors[least])
assert (without - costs > 4 * cost_errors).all()  # the latent lowers every digit's cost

# %% [markdown] key="classes-noticed"
# On MNIST the cheapest digit is the 1, which also has the least ink. The KL varies less than the reconstruction, and the 1, whose reconstruction is the cheapest, has the highest KL. A cloud that is narrow, or far from the centre, costs more KL.
#
# Which single images cost most? The next picture shows the ten most expensive of the test set and the reconstruction of each. Some are badly written. Others are well written, but their code lies in a region of another digit. The line below the picture compares the 500 most expensive images with the whole test set in this. Which digit is at a place is decided by the 25 nearest test codes, the image's own among them.

# %% key="worst" jupyter={"source_hidden": true} tags=["hide-input"]
worst = bound.elbo.argsort()  # (10000,) the most expensive first
with torch.no_grad():
    returned = model.decode(model.encode(x[worst[:10]])[0])  # (10, 784)
rows = {say("latents-worst"): x[worst[:10]], say("latents-returned"): returned}
figures.gallery(rows, columns=10, alt=say("latents-alt-worst"))

# %% key="worst-where" jupyter={"source_hidden": true} tags=["hide-input"]
with torch.no_grad():
    codes = model.encode(x)[0].cpu()  # (10000, 2)


def digit_at(z, count=25):  # what most of the nearest test codes are: (B, 2) to (B,)
    near = [
        torch.cdist(some, codes).topk(count, largest=False) for some in z.split(500)
    ]
    return labels[torch.cat([found.indices for found in near])].mode(1).values


stray = (digit_at(codes) != labels).double()  # (10000,)
costly = stray[worst[:500].cpu()].mean().item()
print(say("latents-stray", costly=costly, every=stray.mean().item()))
assert costly - stray.mean().item() > 4 * train.standard_error(stray[worst[:500].cpu()])

# %% [markdown] key="samples-text"
# ## 4. Means and samples
#
# Draw $z$ from the prior. The decoder returns $m$, a probability for each pixel. Seen as a picture, $m$ is the **mean** of $p(x \mid z)$. A **sample** is what comes next: each pixel drawn, 1 with probability $m_d$. The model says that the data look like the *samples*. The next picture shows the two, one below the other, for the same ten $z$. Notice the speckle of the samples, which the test images hardly have: in this the model is wrong.

# %% key="samples"
torch.manual_seed(0)
z = torch.randn(4000, 2, device=device)  # from the prior
with torch.no_grad():
    m = model.decode(z)  # (4000, 784)
bits = (torch.rand_like(m) < m).float()  # (4000, 784)

rows = {say("sample-means"): m[:10], say("sample-pixels"): bits[:10]}
figures.gallery(rows, columns=10, alt=say("latents-alt-samples"))

# %% [markdown] key="samples-by-hand"
# How far apart should they be? With probability $m_d$ the pixel is 1, and misses its mean by $1 - m_d$; with probability $1 - m_d$ it is 0, and misses it by $m_d$. The square of that is, on average, $m_d (1 - m_d)^2 + (1 - m_d)\, m_d^2 = m_d (1 - m_d)$. Summed over the pixels,
#
# $$\mathbb{E}\,\lVert x - m \rVert^2 = \sum_d m_d\,(1 - m_d) = G(m).$$
#
# It is the grey of section 2. The next cell demands that the 4,000 samples agree with it, to within four standard errors. So what does it say that grey and error agreed in the table for two latents? By this measure, the squared error, the *test images* behave almost like samples from the model's own reconstructions. The table uses the mean code alone, without its noise. With 30 latents that matters: the decoder was trained on noisy codes, and its grey holds the uncertainty that this noise brings; without that noise the error is smaller than the grey. With it the two agree, as the last line printed shows.

# %% key="samples-measured"
distances = (bits - m).square().sum(-1)  # (4000,)
difference = distances - grey(m)  # (4000,)
mean, error = difference.mean().item(), train.standard_error(difference)
assert abs(mean) < 4 * error
lit = (bits - m).sum(-1)  # (4000,) pixels lit beyond what the mean says
assert abs(lit.mean()) < 4 * train.standard_error(lit)
told = {"apart": distances.mean().item(), "grey": grey(m).mean().item()}
print(say("latents-apart", error=error, **told))

with torch.no_grad():
    noisy = wide.decode(wide.reparameterize(*wide.encode(x)))  # (10000, 784)
told = {"grey": grey(noisy).mean().item()}
told["error"] = (x - noisy).square().sum(-1).mean().item()
print(say("latents-noisy", **told))
assert abs(told["error"] / told["grey"] - 1) < 0.02 or not on_mnist

# %% [markdown] key="temperature-text"
# ## 5. Temperature
#
# Many galleries are drawn from $z \sim \mathcal{N}(0, T^2 I)$ with a *temperature* $T$ below 1, in the hope of tidier pictures, and do not say so. What does that change? In the next picture each column keeps its draw $\varepsilon \sim \mathcal{N}(0, I)$, and $z = T \varepsilon$ walks outwards along a ray as $T$ grows. Read the columns downwards.

# %% key="temperature-picture" jupyter={"source_hidden": true} tags=["hide-input"]
torch.manual_seed(4)
eps = torch.randn(10, 2, device=device)
with torch.no_grad():
    rows = {
        say("latents-temperature", value=value): model.decode(value * eps)
        for value in (0.3, 1.0, 1.6, 2.5)
    }
figures.gallery(rows, columns=10, alt=say("latents-alt-temperature"))

# %% [markdown] key="diversity-text"
# At a low temperature all draws fall near the centre of the plane.
#
# Two numbers sum up what changes. The **diversity** is the variance *between* the means, $\sum_d \mathrm{Var}[m_d]$. The mean **grey** is the variance of the samples *around* each mean. The law of total variance adds them up, and for binary pixels the total depends only on the average picture $\bar m$:
#
# $$\underbrace{\sum_d \mathrm{Var}[m_d]}_{\text{diversity}} + \underbrace{\mathbb{E}\,[G(m)]}_{\text{grey}} = G(\bar m).$$
#
# The next picture stacks the two for each $T$. Its dashed line is the total of the test images; its dotted line marks $T = 1$. The last line that the next cell prints is for other points: draws from the clouds of 4,000 training images.

# %% key="diversity"
def diversity_of(z):
    with torch.no_grad():
        m = model.decode(z).cpu().double()  # (B, 784)
    between = (m - m.mean(0)).square().sum(-1)  # (B,)
    within = grey(m).mean().item()
    assert abs(between.mean() + within - grey(m.mean(0))) < 1e-6
    return between.mean().item(), train.standard_error(between), within


temperatures = torch.linspace(0, 3, 13)  # (13,)
torch.manual_seed(0)
eps = torch.randn(4000, 2, device=device)  # the same draws for every temperature
diversity, errors, within = torch.tensor(
    [diversity_of(value * eps) for value in temperatures.tolist()]
).T  # (13,) each
some, _ = next(iter(train_images.batches(4000)))
with torch.no_grad():
    own = diversity_of(model.reparameterize(*model.encode(some)))
one = temperatures.tolist().index(1.0)
for k in (2, one, 8):
    told = {"diversity": diversity[k].item(), "error": errors[k].item()}
    told |= {"grey": within[k].item(), "temperature": temperatures[k].item()}
    print(say("latents-diversity", **told))
print(say("latents-diversity-codes", diversity=own[0], error=own[1], grey=own[2]))

assert (diversity.diff() > 0).all()
assert within[2] > within[one] or not on_mnist
assert own[0] - diversity[one] > 4 * math.hypot(own[1], errors[one]) or not on_mnist

# %% key="diversity-picture" jupyter={"source_hidden": true} tags=["hide-input"]
figure, (ax,) = figures.picture(say("latents-alt-diversity"), width=6.2, height=3.2)
ax.stackplot(
    temperatures,
    diversity,
    within,
    colors=[figures.COLORS["prior"], "#BBBBBB"],
    labels=[say("latents-between"), say("latents-within")],
)
ax.errorbar(temperatures, diversity, 4 * errors, fmt="k.", ms=3)
total = grey(x.mean(0)).item()  # of the test images
ax.axhline(total, color="black", linestyle="--", label=say("latents-data-total"))
ax.axvline(1, color="black", linestyle=":", linewidth=1)
ax.set(xlabel=say("latents-temperature-axis"), ylabel=say("latents-variance"))
ax.set(xlim=(0, 3), ylim=(0, 1.45 * total))
ax.legend(loc="upper right", fontsize=8, ncols=2, frameon=False)
figure

# %% [markdown] key="temperature-moral"
# With $T = 0.5$ diversity is lost. In this model the gallery is no sharper for that, since the grey rises. Above $T = 1$ the diversity goes on growing. At first it only catches up: the images' own codes are more diverse than the draws of the prior. Later the draws leave the region of the codes; section 7 measures how many. The model is $T = 1$. Any other temperature shows another model, and whoever uses one should say so.

# %% [markdown] key="grids-text"
# ## 6. Two grids, and what each one leaves out
#
# To see the whole plane at a glance we decode a grid. Lesson 00 used the inverse normal CDF. A grid of equal steps is more common. What difference does that make?
#
# A grid cuts the plane into tiles. For each axis we need $n + 1$ edges and, in each piece, a point to decode. The prior's two coordinates are independent, so the mass of a tile is the product of the masses of its two intervals, one on each axis.

# %% key="grids" tags=["nbval-check-output"]
def equal_mass(n):
    edges = torch.special.ndtri(torch.arange(n + 1).double() / n)  # (n + 1,)
    return edges, torch.special.ndtri((torch.arange(n).double() + 0.5) / n)  # (n,)


def equal_steps(n, extent):
    edges = torch.linspace(-extent, extent, n + 1, dtype=torch.float64)  # (n + 1,)
    return edges, (edges[1:] + edges[:-1]) / 2  # (n,)


def tile_masses(edges):
    side = torch.special.ndtr(edges).diff()  # (n,)
    return side[:, None] * side  # (n, n)


n = 8
masses = tile_masses(equal_mass(n)[0])
oracle = Normal(0.0, 1.0).cdf(equal_mass(n)[0]).diff()  # by erf, not by ndtr
assert torch.allclose(masses, torch.full((n, n), 1 / n**2).double(), atol=1e-12)
assert torch.allclose(masses, oracle[:, None] * oracle, atol=1e-7)
points = equal_mass(20)[1].float()
assert torch.allclose(points, figures.normal_quantiles(20), atol=1e-5)
print(say("latents-tile-mass", n=n, mass=masses[0, 0].item()))

# %% [markdown] key="coverage-text"
# Now the grid of equal steps, from $-a$ to $a$ along each axis. Its coverage is $(2\Phi(a) - 1)^2$, where $\Phi$ is the normal CDF. And the larger $a$ is, the more unequal are the weights of its tiles: the end of each line compares the heaviest with the lightest.

# %% key="coverage" tags=["nbval-check-output"]
for extent, known in ((1.0, 0.466), (1.5, 0.751), (3.0, 0.995)):
    masses = tile_masses(equal_steps(n, extent)[0])  # (8, 8)
    covered = (2 * Normal(0.0, 1.0).cdf(torch.tensor(extent).double()) - 1) ** 2
    assert abs(masses.sum() - covered) < 1e-6
    assert abs(covered - known) < 5e-4
    told = {"covered": covered.item(), "ratio": (masses.max() / masses.min()).item()}
    print(say("latents-coverage", extent=extent, **told))

# %% [markdown] key="tiles-text"
# In the next picture the left half has equal steps from $-3$ to $3$, and the right half has equal mass. On top, 600 draws from the prior, with the edges of the tiles. Below, the decoder at the point of each tile. On the left, count the tiles with hardly a dot in them: the 32 lightest tiles, half of the grid of equal steps, together hold less than 6% of the prior's mass. On the right, each tile holds, on average, 1 draw in 64. That grid leaves something out too: the decoded points go only to $\pm 1.53$, and what lies beyond does not appear.

# %% key="tiles" jupyter={"source_hidden": true} tags=["hide-input"]
@torch.no_grad()
def decode_grid(points):
    z2, z1 = torch.meshgrid(points.flip(0), points, indexing="ij")  # row 0: highest z2
    z = torch.stack((z1, z2), -1).float().to(device)  # (n, n, 2)
    return model.decode(z.reshape(-1, 2)).cpu().reshape(len(points), len(points), -1)


torch.manual_seed(0)
draws = torch.randn(600, 2)
grids = {
    "latents-equal-steps": equal_steps(n, 3.0),
    "latents-equal-mass": equal_mass(n),
}
edges, _ = grids["latents-equal-steps"]
sides = torch.special.ndtr(edges.double()).diff()  # (n,) masses
assert torch.outer(sides, sides).flatten().sort().values[: n * n // 2].sum() < 0.06
figure = figures.Picture(say("latents-alt-grids"), 7.5, 7.9)
figure.stored_dpi = figures.SHOWN_DPI  # 128 digits: a heavy picture
axes = figure.subplots(2, 2)
for (top, below), (key, (edges, points)) in zip(axes.T, grids.items(), strict=True):
    lines = edges.clamp(-4, 4)
    top.plot(*draws.T, ".", ms=2, color=figures.COLORS["prior"])
    top.vlines(lines, lines[0], lines[-1], color="black", linewidth=0.6)
    top.hlines(lines, lines[0], lines[-1], color="black", linewidth=0.6)
    top.set(xlim=(-3.5, 3.5), ylim=(-3.5, 3.5), aspect="equal")
    top.set(xlabel="$z_1$", ylabel="$z_2$")
    top.set_title(say(key), loc="left", fontsize=10)
    tiles = decode_grid(points)  # (n, n, 784)
    canvas = figures.mosaic(tiles.reshape(n * n, -1), columns=n, gap=0)
    canvas = (15 * canvas).round() / 15  # 16 greys are enough here
    below.imshow(canvas, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    shown = [0, n // 2, n - 1]
    names = [say("coordinate", value=points[k].item()) for k in shown]
    below.set_xticks([28 * (k + 0.5) for k in shown], names)
    below.set_yticks([28 * (n - 1 - k + 0.5) for k in shown], names)
    below.set(xlabel="$z_1$", ylabel="$z_2$")
figure

# %% [markdown] key="up-text"
# A picture can be upside-down without anyone noticing. So the folded cell below checks *every* tile against the decoder, and that the tile in the top left corner has the lowest $z_1$ and the highest $z_2$.

# %% key="up-checked" jupyter={"source_hidden": true} tags=["hide-input"]
points = equal_mass(n)[1].float()
tiles = decode_grid(points)  # (8, 8, 784)
with torch.no_grad():
    for row in range(n):
        for column in range(n):
            z = torch.tensor([[points[column], points[n - 1 - row]]], device=device)
            alone = model.decode(z)[0].cpu()  # (784,)
            assert torch.allclose(tiles[row, column], alone, atol=1e-5)
    highest = torch.stack((points[0], points[-1]))[None].to(device)  # z1 low, z2 high
    corner = model.decode(highest)[0].cpu().reshape(28, 28)
canvas = torch.from_numpy(figures.mosaic(tiles.reshape(n * n, -1), columns=n, gap=0))
assert torch.allclose(canvas[:28, :28], corner, atol=1e-5)
assert torch.allclose(figures.manifold_tiles(model, n), tiles, atol=1e-5)

# %% [markdown] key="map-text"
# ## 7. The map, and its holes
#
# The grids show what the decoder would draw *anywhere*. The map shows where the images *are*. Each dot is the centre of a test image's cloud, one colour per digit; the rings hold 50% and 95% of the prior's mass. A numbered disc marks the middle of a digit's dots.

# %% key="map"
figures.latent_map(model, test_images, count=1500)

# %% [markdown] key="aggregate-text"
# The ELBO asked for clouds that, each on its own, resemble the prior. What about all of them together? The average of the clouds has a name, the **aggregate posterior**:
#
# $$q(z) = \frac{1}{N} \sum_{n=1}^{N} q(z \mid x_n).$$
#
# The $N = 60{,}000$ images are those of training. If $q(z)$ were $p(z)$, a draw from the prior would land where the decoder was trained.
#
# There is nothing to estimate here: $q(z)$ is a mixture of 60,000 Gaussians with known means and variances. Their covariances are diagonal, so each Gaussian is a product of one factor in $z_1$ and one in $z_2$, and on a grid of points the whole mixture is *one matrix product*. A folded cell compares it with the mixture of `torch.distributions`.

# %% key="clouds"
torch.manual_seed(0)
with torch.no_grad():
    parts = [model.encode(b) for b, _ in train_images.batches(1000, shuffle=False)]
mu, logvar = (torch.cat(part).cpu().double() for part in zip(*parts, strict=True))
axis = torch.linspace(-6, 6, 401, dtype=torch.float64)  # (G,)
cell = (axis[1] - axis[0]).item() ** 2  # the area that a point stands for


def factors(mu, logvar):
    q = Normal(mu[..., None], (0.5 * logvar).exp()[..., None])
    return q.log_prob(axis).exp().unbind(1)  # (B, G) in z1, (B, G) in z2


def aggregate(mu, logvar):
    total = torch.zeros(len(axis), len(axis), dtype=torch.float64)
    for some_mu, some_logvar in zip(mu.split(1000), logvar.split(1000), strict=True):
        first, second = factors(some_mu, some_logvar)
        total += first.T @ second  # (G, G): [i, j] at z1 = axis[i], z2 = axis[j]
    return total / len(mu)


q = aggregate(mu, logvar)  # (G, G)
p = Normal(0.0, 1.0).log_prob(axis).exp()  # (G,)
p = p[:, None] * p  # (G, G)
assert abs(q.sum() * cell - 1) < 1e-3
assert abs(p.sum() * cell - 1) < 1e-6

# %% key="clouds-oracle" jupyter={"source_hidden": true} tags=["hide-input"]
few = aggregate(mu[:300], logvar[:300])  # (G, G)
mixture = torch.distributions.MixtureSameFamily(
    torch.distributions.Categorical(torch.ones(300).double()),
    torch.distributions.Independent(Normal(mu[:300], (0.5 * logvar[:300]).exp()), 1),
)
for i, j in ((200, 200), (150, 250), (260, 180)):
    at = torch.stack((axis[i], axis[j]))  # (2,)
    assert torch.allclose(mixture.log_prob(at).exp(), few[i, j], atol=1e-9)

# %% [markdown] key="difference-text"
# On the left of the next picture, $q(z)$ (its square root, so that faint parts show). On the right, the difference $q(z) - p(z)$: orange where there are more codes than the prior asks for, blue where there are fewer. The lines are drawn where the difference, smoothed a little, reaches 0.01, up (solid, around a surplus) or down (dashed, around a deficit).

# %% key="difference" jupyter={"source_hidden": true} tags=["hide-input"]
figure, axes = figures.picture(say("latents-alt-difference"), columns=2, height=3.7)
left, right = axes
figure.stored_dpi = figures.SHOWN_DPI
inner = slice(84, 317)  # the middle of the plane, as in the map
z1 = axis[inner]
blue, q_color = figures.COLORS["prior"], figures.COLORS["q"]
left.pcolormesh(z1, z1, q[inner, inner].T.sqrt(), cmap="Oranges", vmin=0)
left.set_title(say("latents-aggregate"), loc="left", fontsize=10)
angle = torch.linspace(0, 2 * math.pi, 200)
for mass, style in ((0.5, "-"), (0.95, "--")):
    r = math.sqrt(-2 * math.log(1 - mass))
    name = say("prior-ring", percent=round(100 * mass))
    left.plot(r * angle.cos(), r * angle.sin(), style, color=blue, label=name)
left.legend(fontsize=7, loc="upper right")

gap = (q - p)[inner, inner].T
most = p.max().item()  # no deficit can be deeper; the highest surplus is cut there
signed = LinearSegmentedColormap.from_list("signed", [blue, "white", q_color], N=25)
shown = right.pcolormesh(z1, z1, gap, cmap=signed, vmin=-most, vmax=most)
smooth = F.avg_pool2d(gap[None, None], 9, 1, 4)[0, 0]  # for the lines only
lines = {"levels": [-0.01, 0.01], "linestyles": ["--", "-"], "linewidths": 0.8}
right.contour(z1, z1, smooth, colors="black", **lines)
right.set_title(say("latents-signed"), loc="left", fontsize=10)
bar = figure.colorbar(shown, ax=right, shrink=0.85, extend="max")
bar.ax.yaxis.set_major_formatter(lambda value, _: say("tick", value=value))
for ax in (left, right):
    ax.set(xlabel="$z_1$", ylabel="$z_2$", aspect="equal")
figure

# %% [markdown] key="distance-text"
# **How far is $q(z)$ from the prior, in nats?** There are two divergences, and they see different things. Both can be written as a sum over the grid of terms that are never negative, because $\log t \le t - 1$ (with $t = p / q$ in the first and $t = q / p$ in the second):
#
# $$\mathrm{KL}(q \,\|\, p) = \int \Big(q \log \frac{q}{p} - q + p\Big)\,dz, \qquad \mathrm{KL}(p \,\|\, q) = \int \Big(p \log \frac{p}{q} - p + q\Big)\,dz.$$
#
# The added $-q + p$, or its opposite, integrates to zero. Now each place of the plane has its own share, and we can ask where the distance comes from. We call a place a *hole* if $q$ is below half of $p$ there.

# %% key="distance"
log_ratio = q.clamp_min(1e-300).log() - p.log()  # (G, G)
parts = {  # (G, G) each, nowhere negative
    "q-p": cell * (q * log_ratio - q + p),
    "p-q": cell * (q - p - p * log_ratio),
}
radius = math.sqrt(-2 * math.log(0.05))  # holds 95% of the prior's mass
outside = (axis[:, None].square() + axis.square()).sqrt() > radius  # (G, G)
holes = q < p / 2
for name, part in parts.items():
    assert part.min() > -1e-12
    told = {"outside": part[outside].sum().item(), "holes": part[holes].sum().item()}
    print(say(f"latents-distance-{name}", distance=part.sum().item(), **told))
overspill = q[outside].sum().item() * cell
empty = p[holes].sum().item() * cell
print(say("latents-overspill", q=overspill, p=p[outside].sum().item() * cell))
print(say("latents-empty", empty=empty))

distance, reverse = (part.sum().item() for part in parts.values())
assert distance < 0.5 or not on_mnist
assert parts["q-p"][outside].sum() > distance / 2 or not on_mnist
assert parts["q-p"][holes].sum() < distance / 3 or not on_mnist
assert parts["p-q"][holes].sum() > reverse / 2 or not on_mnist
assert parts["p-q"][holes].sum() > parts["q-p"][holes].sum()
assert overspill > 0.1 or not on_mnist

# %% [markdown] key="distance-noticed"
# **Two faults, and the two divergences weigh them differently.** The codes overflow: outside the ring that holds 95% of the prior lies 19% of the mass of $q$, and in this model over half of $\mathrm{KL}(q \,\|\, p)$ comes from there. And they leave holes, which hold 31% of the prior's mass. $\mathrm{KL}(q \,\|\, p)$, which is the one in the ELBO, as we shall see below, takes less than a third of its value from the holes, and $\mathrm{KL}(p \,\|\, q)$ over half. The reason is in the two integrands. Where $q$ is a quarter of $p$, that of the first is $0.40$ times $p$ and that of the second $0.64$ times; as $q$ falls further, the one never exceeds $p$ and the other grows without bound. (The outside of the ring and the holes overlap a little, and neither holds what is seen most in the picture: the surplus in the crowded centre.)
#
# And what does it cost? To put $q(z)$ in place of the prior, and change nothing else, would save exactly $\mathrm{KL}(q \,\|\, p)$ nats per image (the split below shows why): less than half a nat out of a cost of more than 150, and the holes only part of that. The ELBO hardly sees them.
#
# Now section 5 can be finished. We take points from the highest value of $q$ down, until the region holds 99% of $q$. How many draws at temperature $T$ fall outside it? At $T = 1$ it is a little over one in a hundred (for draws from $q$ it would be exactly one, by construction); at $T = 2$ it is a fifth. (So the holes are thin rather than empty: most of them lie inside that region.)

# %% key="outside" jupyter={"source_hidden": true} tags=["hide-input"]
order = q.flatten().sort(descending=True)  # the densest points first
rare = torch.empty(q.numel(), dtype=torch.bool)
rare[order.indices] = order.values.cumsum(0) * cell > 0.99
rare = rare.reshape(q.shape)  # (G, G) where the last 1% of q lies
beyond = []
for value in (0.5, 1.0, 1.5, 2.0):
    scaled = Normal(0.0, value).log_prob(axis).exp()  # (G,)
    known = (scaled[:, None] * scaled)[~rare].sum().item() * cell
    beyond.append(1 - known)
    print(say("latents-beyond", temperature=value, share=beyond[-1]))
assert beyond == sorted(beyond)
assert beyond[1] < 0.03 or not on_mnist
assert beyond[3] > 0.1 or not on_mnist

# %% [markdown] key="split-text"
# **Where that distance stands in the ELBO.** In each KL of the ELBO, multiply and divide by $q(z)$:
#
# $$\log \frac{q(z \mid x_n)}{p(z)} = \log \frac{q(z \mid x_n)}{q(z)} + \log \frac{q(z)}{p(z)}.$$
#
# Average over $z \sim q(z \mid x_n)$ and over the images, and the KL term splits in two (Hoffman and Johnson, 2016):
#
# $$\underbrace{\tfrac{1}{N} \textstyle\sum_n \mathrm{KL}(q(z \mid x_n) \,\|\, p(z))}_{\text{the KL term}} = \underbrace{\tfrac{1}{N} \textstyle\sum_n \mathrm{KL}(q(z \mid x_n) \,\|\, q(z))}_{\text{mutual information}} + \mathrm{KL}(q(z) \,\|\, p(z)).$$
#
# The first part is the mutual information of code and image: what the one tells about the other. Only the second is a mismatch. The identity is algebra, and the entropy of $q(z)$, which is in both parts, cancels in their sum. So when the cell adds the parts up and finds the left side, which comes from its formula, that only shows that the grid is fine enough for the mean of $\log p(z)$. The test is another route to the mutual information. By the grid, it is the entropy of $q(z)$ minus the mean entropy of the clouds; 500 draws, at which the mixture is evaluated exactly, must give it again, up to the error of the draws.

# %% key="decomposition"
kl = densities.kl_to_standard_normal(mu, logvar).mean().item()  # from its formula
entropy = -(q * q.clamp_min(1e-300).log()).sum().item() * cell  # of the mixture
clouds = 0.5 * (math.log(2 * math.pi) + 1 + logvar).sum(1)  # (60000,) of each cloud
information = entropy - clouds.mean().item()
assert abs(kl - (information + distance)) < 2e-3

torch.manual_seed(0)
taken = torch.randperm(len(mu))[:500]
z = mu[taken] + (0.5 * logvar[taken]).exp() * torch.randn(500, 2).double()  # (500, 2)
own = densities.log_normal(z, mu[taken], logvar[taken])  # (500,)
every = (densities.log_normal(some[:, None], mu, logvar) for some in z.split(5))
log_q = torch.cat([one.logsumexp(1) for one in every]) - math.log(len(mu))  # (500,)
drawn = own - log_q  # (500,) nats
assert abs(drawn.mean() - information) < 4 * train.standard_error(drawn)
told = {"draws": drawn.mean().item(), "error": train.standard_error(drawn)}
print(say("latents-split", kl=kl, information=information, distance=distance))
print(say("latents-split-draws", **told))
assert information > 0.9 * kl or not on_mnist

# %% [markdown] key="bias-text"
# Nearly all of the KL is information: a few nats that help to tell which image it was. The distance is that of *these* 60,000 images. As an estimate for new images it is a little too large: here each image finds its own cloud in the mixture, which raises $q(z)$ just where the draws of that cloud fall. Leaving that cloud out changes the distance by little.

# %% key="bias" jupyter={"source_hidden": true} tags=["hide-input"]
share = torch.exp(own - log_q - math.log(len(mu)))  # (500,) of one's own cloud in q
optimism = math.log1p(-1 / len(mu)) - torch.log1p(-share.clamp(max=1 - 1e-12))  # nats
told = {"gap": optimism.mean().item(), "error": train.standard_error(optimism)}
print(say("latents-sandwich", count=len(mu), **told))
assert 0 < optimism.mean() < distance

# %% [markdown] key="holes-text"
# And what does the decoder draw in the holes? One reads that every point decodes to a valid image; and also that the holes decode to blurs. Let us measure. Of the draws from the prior inside the outer ring, we compare the 10% where $q / p$ is lowest, the bottom of the holes, with the 10% where it is highest. Two measures: the grey, and whether the 15 nearest real images (of 10,000 in training, by Euclidean distance) agree on a digit. The second is judged by real images, not by the decoder's probabilities.

# %% key="holes" jupyter={"source_hidden": true} tags=["hide-input"]
torch.manual_seed(0)
z = torch.randn(8000, 2)
z = z[z.norm(dim=1) < radius]  # (B, 2) inside the outer ring
place = ((z.double() - axis[0]) / (axis[1] - axis[0])).round().long()  # (B, 2)
order = log_ratio[place[:, 0], place[:, 1]].argsort()  # holes first, crowds last
with torch.no_grad():
    m = model.decode(z.to(device)).cpu()  # (B, 784)
real = data.draw_bits(train_images.pixels[:10_000].cpu())  # (10000, 784)
near = [
    torch.cdist(some, real).topk(15, largest=False).indices for some in m.split(500)
]
votes = train_images.labels[:10_000].cpu()[torch.cat(near)]  # (B, 15)
named = votes.mode(1).values  # (B,)
agreed = (votes == named[:, None]).double().mean(1)  # (B,)

tenth = len(z) // 10
places = {"hole": order[:tenth], "crowd": order[-tenth:]}
for name, some in places.items():
    told = {"grey": grey(m[some]).mean().item(), "agreed": agreed[some].mean().item()}
    told["grey_error"] = train.standard_error(grey(m[some]))
    told["agreed_error"] = train.standard_error(agreed[some])
    print(say(f"latents-{name}", **told))
common = named[places["hole"]].mode().values.item()
told = {"hole": (named[places["hole"]] == common).double().mean().item()}
told["drawn"] = (named == common).double().mean().item()
told["images"] = (train_images.labels == common).double().mean().item()
print(say("latents-hole-digit", digit=common, **told))

hole, crowd = (grey(m[some]) for some in places.values())
error = math.hypot(train.standard_error(hole), train.standard_error(crowd))
assert crowd.mean() - hole.mean() > 4 * error or not on_mnist  # the greyer
hole, crowd = (agreed[some] for some in places.values())
error = math.hypot(train.standard_error(hole), train.standard_error(crowd))
assert hole.mean() - crowd.mean() > 4 * error or not on_mnist
assert told["drawn"] > 1.2 * told["images"] or not on_mnist

# %% key="holes-picture" jupyter={"source_hidden": true} tags=["hide-input"]
def spaced(order, count=10, distance=0.4):
    found = []
    for k in order.tolist():
        if len(found) < count and all((z[k] - z[j]).norm() > distance for j in found):
            found.append(k)
    return found


rows = {say("latents-crowded"): m[spaced(order.flip(0))]}
rows[say("latents-holes")] = m[spaced(order)]
figures.gallery(rows, columns=10, alt=say("latents-alt-holes"))

# %% [markdown] key="holes-noticed"
# **Grey does not warn of a hole.** In this model the holes are, on average, sharper than the crowded places, and the neighbours agree more. (The picture spreads its choices over the plane: the difference is in the means above, not in these ten images.) Codes crowd where several kinds of digit meet, and there the decoder learnt to average. In a hole fewer images have corrected it. And on MNIST three quarters of the emptiest 10% are nearest to a 1, which has little ink. Which of the two makes the holes sharper we have not measured. Look at the lower row: some of these pictures are no digit, and they are not blurred. Neighbours tell which digit is nearest; they do not tell that none is near.
#
# Is this a rule? One model cannot tell: measure it in yours. A hole also shows in the draws as a whole. Inside the ring, by the most common digit of the 15 neighbours, draws from this model's prior show the digit 1 more often than the training images do.

# %% [markdown] key="walks-text"
# ## 8. From one digit to another
#
# Between two codes there are many paths. The **straight** one is $(1 - t)\,a + t\,b$. The **spherical** one (White, 2016) turns from $a$ to $b$ around the origin; with $\theta$ the angle between them,
#
# $$\frac{\sin((1 - t)\,\theta)}{\sin \theta}\, a + \frac{\sin(t\,\theta)}{\sin \theta}\, b.$$
#
# Both are written by hand, and checked: on the way between two points at the same distance from the origin, the spherical path keeps the distance, and turns at a constant pace.

# %% key="walks" tags=["nbval-check-output"]
def straight(a, b, t):
    return (1 - t) * a + t * b


def spherical(a, b, t):
    cosine = torch.cosine_similarity(a, b, dim=-1)[..., None]
    angle = cosine.clamp(-1 + 1e-6, 1 - 1e-6).acos()
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / angle.sin()


a, b = torch.tensor([[2, 0], [1, 3**0.5]], dtype=torch.float64)  # 60 degrees apart
t = torch.linspace(0, 1, 5, dtype=torch.float64)[:, None]  # (5, 1)
turn = math.pi / 3 * t
circle = 2 * torch.cat((turn.cos(), turn.sin()), 1)  # (5, 2)
assert torch.allclose(spherical(a, b, t), circle, atol=1e-6)
middle = straight(a, b, 0.5).norm().item(), spherical(a, b, 0.5).norm().item()
print(say("latents-middle", straight=middle[0], spherical=middle[1]))

# %% [markdown] key="shell-text"
# In any number of dimensions, the norm of the middle of two draws is below the average of their norms. In the plane there are many draws at that distance as well; in many dimensions there are hardly any. The norm of a draw from the prior has a known distribution, the *chi* ($\chi$) with $L$ degrees of freedom. Its mean grows like $\sqrt{L}$; its standard deviation hardly changes. So the draws lie in a shell that is thin *beside its radius*: with $L = 20$, for example, around 4.4, and practically none near the origin, where the density of the prior (not of the norm) is highest.
#
# The point halfway between two draws has distribution $\mathcal{N}(0, I/2)$, so its norm is a chi divided by $\sqrt{2}$. The next picture compares the two distributions: steps are 20,000 measured norms, curves are the formula.

# %% key="shell" jupyter={"source_hidden": true} tags=["hide-input"]
def chi_density(r, latents):
    log_constant = (latents / 2 - 1) * math.log(2) + math.lgamma(latents / 2)
    return torch.exp((latents - 1) * r.log() - r.square() / 2 - log_constant)


def chi_below(r, latents):  # the mass of the norms below r
    half = torch.tensor(latents / 2).double()
    return torch.special.gammainc(half, r.square() / 2)


torch.manual_seed(0)
measured = {}
for latents in (2, 20):
    a, b = torch.randn(2, 20_000, latents, dtype=torch.float64)
    norms, halfway = a.norm(dim=1), straight(a, b, 0.5).norm(dim=1)  # (20000,) each
    measured[latents] = norms, halfway
    mean = math.exp(math.lgamma((latents + 1) / 2) - math.lgamma(latents / 2)) * 2**0.5
    spread = math.sqrt(latents - mean**2)
    assert abs(norms.mean() - mean) < 4 * train.standard_error(norms)
    assert abs(halfway.mean() - mean / 2**0.5) < 4 * train.standard_error(halfway)
    for r in torch.linspace(mean - spread, mean + spread, 5).double():
        share = chi_below(r, latents)
        assert abs((norms < r).double().mean() - share) < 4 * (share / 20_000).sqrt()
    below = chi_below(torch.tensor(mean / 2**0.5).double(), latents).item()
    told = {"mean": mean, "spread": spread, "relative": spread / mean}
    print(say("latents-shell-norm", latents=latents, **told))
    print(say("latents-shell-share", share=below))

# %% key="shell-picture" jupyter={"source_hidden": true} tags=["hide-input"]
figure, axes = figures.picture(say("latents-alt-shell"), columns=2)
r = torch.linspace(0.01, 7, 300).double()
for ax, (latents, (norms, halfway)) in zip(axes, measured.items(), strict=True):
    told = {"bins": 50, "range": (0, 7), "density": True, "histtype": "step"}
    ax.hist(norms.numpy(), color=blue, label=say("latents-draws"), **told)
    told |= {"color": "black", "linestyle": "--"}
    ax.hist(halfway.numpy(), label=say("latents-halfway"), **told)
    ax.plot(r, chi_density(r, latents), color=blue, linewidth=1)
    ax.plot(r, 2**0.5 * chi_density(2**0.5 * r, latents), "k--", linewidth=1)
    ax.set(xlim=(0, 7), ylim=(0, 1), xlabel=say("latents-norm"))
    ax.set_ylabel(say("latents-density"))
    ax.set_title(say("latents-latents", count=latents), loc="left", fontsize=10)
axes[0].legend(fontsize=8, frameon=False)
figure

# %% [markdown] key="shell-measured-text"
# Does the decoder notice? The model with 30 latents can tell us. Its pictures halfway along straight paths between draws of the prior are greyer than those at the draws themselves; halfway along spherical paths they are hardly different. The middle of the straight path leaves the shell on its inner side. It is also a draw at the temperature $1/\sqrt{2}$, and section 5 saw the grey rise at low temperatures in the plane, where there is no shell: so the shell need not be the whole reason.

# %% key="shell-measured"
torch.manual_seed(0)
a, b = torch.randn(2, 4000, 30, device=device)
paths = {"latents-draws": a, "latents-straight": straight(a, b, 0.5)}
paths["latents-spherical"] = spherical(a, b, 0.5)
with torch.no_grad():
    greyness = {key: grey(wide.decode(z)).cpu() for key, z in paths.items()}
for key, values in greyness.items():
    told = {"mean": values.mean().item(), "error": train.standard_error(values)}
    print(say("latents-halfway-grey", where=say(key), **told))
rise = greyness["latents-straight"] - greyness["latents-draws"]  # (4000,), paired
assert rise.mean() > 10 * train.standard_error(rise)
turned = greyness["latents-spherical"] - greyness["latents-draws"]
assert abs(turned.mean()) < 0.2 * rise.mean()

# %% [markdown] key="panel-text"
# **Now you choose.** Two digits, and the kind of path. The path starts at the median of the first digit's codes and ends at that of the second's; behind it is the aggregate posterior of section 7 (again its square root). Twelve points of the path are decoded, in reading order. Below the picture stands which digit rules at each of them.
#
# Try a pair with another digit in between. Try a pair on opposite sides of the origin, straight and then spherical. There $\sin \theta$ is small, and if the two norms differ the spherical path swings far out. Then look for a path that crosses a pale part of the map, and see what the decoder does there.

# %% key="panel" jupyter={"source_hidden": true} tags=["hide-input"]
centres = torch.stack([codes[labels == k].median(0).values for k in range(10)])
steps = torch.linspace(0, 1, 12)[:, None]  # (12, 1)
paths = {"latents-straight": straight, "latents-spherical": spherical}
backdrop = q[inner, inner].T.sqrt().float()


def walk(first, last, way):
    z = paths[way](centres[first], centres[last], steps)  # (12, 2)
    with torch.no_grad():
        tiles = model.decode(z.to(device)).cpu()  # (12, 784)
    passed = " ".join(str(k) for k in digit_at(z).tolist())
    length = z.diff(dim=0).norm(dim=1).sum().item()
    told = {"first": first, "last": last, "way": say(way)}
    alt = say("latents-alt-walk", passed=passed, length=length, **told)
    figure, (left, right) = figures.picture(alt, columns=2, height=3.5)
    left.imshow(backdrop, cmap="Oranges", origin="lower", extent=(-3.5, 3.5) * 2)
    left.plot(*z.T, "o-", color="black", ms=3, linewidth=1)
    for digit, at in ((first, z[0]), (last, z[-1])):
        plate = {"boxstyle": "circle,pad=0.2", "fc": "white", "ec": "black"}
        left.text(*at.tolist(), str(digit), ha="center", va="center", bbox=plate)
    left.set(xlabel="$z_1$", ylabel="$z_2$", xlim=(-3.5, 3.5), ylim=(-3.5, 3.5))
    figures.show_digits(right, tiles, columns=4)
    figure.stored_dpi = figures.SHOWN_DPI  # sooner drawn
    return figure


numbers = list(range(10))
panel = sliders.panel(
    walk,
    first=sliders.choice(say("latents-from"), numbers, value=3),
    last=sliders.choice(say("latents-to"), numbers, value=7),
    way=sliders.choice(say("latents-path"), [(say(way), way) for way in paths]),
)
panel

# %% key="panel-moved" jupyter={"source_hidden": true} tags=["hide-input"]
assert sliders.sweep(panel) == 6  # the start, and each control at its other ends
for way in paths:  # from 1 to 7, whatever the path, and back to 3
    panel.controls["first"].value, panel.controls["way"].value = 1, way
    drawn = torch.from_numpy(panel.picture.axes[0].lines[0].get_xydata()).float()
    assert torch.allclose(drawn[[0, -1]], centres[[1, 7]], atol=1e-4)
panel.controls["first"].value, panel.controls["way"].value = 3, "latents-straight"

# %% [markdown] key="wide-text"
# ## 9. More than two latents
#
# With 30 latents there is no plane to lay out, and a grid of 401 points an axis would have $401^{30}$ points. At a given point $q(z)$ can still be computed, but the distance and the mutual information of section 7 can only be estimated by draws. Ask first **which dimensions are in use**. A latent that the decoder ignores costs KL and gains nothing, so training pulls it back to the prior: its KL goes to zero, and its mean no longer varies from image to image. It is *dead*, or collapsed. The usual count of **active** latents is of those whose mean varies with a variance above 0.01 (Burda et al., 2015).
#
# The next cell asks three things of each dimension: its KL, the variance of its mean, and by how much the picture changes (in squared error, over 1,000 images) if this coordinate alone is drawn anew from the prior.

# %% key="wide-bars"
with torch.no_grad():
    wide_mu, wide_logvar = wide.encode(x)  # (10000, 30) each
kl_each = 0.5 * (wide_mu.square() + wide_logvar.exp() - 1 - wide_logvar)  # (B, L)
kl_means, spread = kl_each.mean(0).cpu(), wide_mu.var(0).cpu()  # (30,), (30,)
by_kl = kl_means.argsort(descending=True)  # (30,)

torch.manual_seed(0)
touched = []  # what the picture changes by when one coordinate is drawn anew
with torch.no_grad():
    before = wide.decode(wide_mu[:1000])
    for k in range(30):
        z = wide_mu[:1000].clone()
        z[:, k] = torch.randn(1000, device=device)
        touched.append((wide.decode(z) - before).square().sum(-1).mean().item())
touched = torch.tensor(touched)  # (30,) pixels
dead = kl_means < 0.1  # (30,)
active = int((spread > 0.01).sum())
told = {"active": active, "dead": int(dead.sum()), "kl": kl_means.sum().item()}
print(say("latents-active", **told))
for name, some in (("alive", ~dead), ("dead", dead)):
    told = {"kl": kl_means[some], "spread": spread[some], "touched": touched[some]}
    ends = {f"{key}_min": values.min().item() for key, values in told.items()}
    ends |= {f"{key}_max": values.max().item() for key, values in told.items()}
    print(say(f"latents-range-{name}", **ends))

assert dead.any()
assert dead.sum() == 3 or not on_mnist
assert kl_means[~dead].min() > 5 * kl_means[dead].max() or not on_mnist
assert touched[~dead].min() > 5 * touched[dead].max() or not on_mnist
assert active > (~dead).sum() or not on_mnist  # the threshold alone counts dead ones

# %% key="wide-picture" jupyter={"source_hidden": true} tags=["hide-input"]
figure, axes = figures.picture(say("latents-alt-bars"), columns=2, height=2.8)
for ax, values, color, title in (
    (axes[0], kl_means, figures.COLORS["kl"], "latents-kl-each"),
    (axes[1], spread, figures.COLORS["q"], "latents-spread-each"),
):
    bars = ax.bar(range(30), values[by_kl], color=color)
    for bar, asleep in zip(bars, dead[by_kl], strict=True):
        bar.set_hatch("xx" if asleep else "")
    ax.set(yscale="log", ylim=(0.002, 4), title=say(title), xlabel=say("latents-place"))
    ax.set_xticks([0, 9, 19, 29], ["1", "10", "20", "30"])
axes[0].set_ylabel("nats")
axes[1].axhline(0.01, color="black", linestyle=":")
figure

# %% [markdown] key="wide-noticed"
# The three dead ones stand apart in KL and in effect: the decoder does not listen to them. The threshold of 0.01 alone would have called two of them active. After 15 epochs their means still vary a little. A threshold is a convention; look at the bars before you count.

# %% [markdown] key="traversal-text"
# Next, **what each dimension does**. Take one image's code and move one coordinate at a time, from $-3$ to $3$, with the others at rest. That is a *traversal*. The next picture shows the four dimensions with most KL and the two with least. Nothing in the objective asked for one meaning per coordinate, and it shows: a live row changes several things at once. A dead row changes nothing.

# %% key="traversal" jupyter={"source_hidden": true} tags=["hide-input"]
stops = torch.linspace(-3, 3, 7)
moved = by_kl[[0, 1, 2, 3, -2, -1]].tolist()  # four of most KL, two of least
base = wide_mu[figures.one_of_each(test_images)[2]]  # (30,) the first 2
z = base.repeat(6, 7, 1)  # (6, 7, 30): row, column, coordinate
for row, k in enumerate(moved):
    z[row, :, k] = stops
with torch.no_grad():
    tiles = wide.decode(z.reshape(-1, 30)).cpu()  # (42, 784)

figure, (ax,) = figures.picture(say("latents-alt-traversal"), width=4.6, height=3.7)
figure.stored_dpi = figures.SHOWN_DPI
canvas = figures.mosaic(tiles, columns=7)
ax.imshow(canvas, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
middles = [29 * k + 14 for k in range(7)]
names = [say("latents-row", index=k + 1, kl=kl_means[k].item()) for k in moved]
ax.set_yticks(middles[:6], names)
ax.set_xticks(middles, [say("tick", value=value) for value in stops.tolist()])
ax.set(xlabel=say("latents-coordinate"))
figure

# %% [markdown] key="attribute-text"
# **Arithmetic with attributes.** A meaning may lie along a direction that is no axis. Take the mean code of images with much ink, subtract that of images with little ink, and you have a direction for ink. But a 0 has more ink than a 1, so the direction between *all* images also says "from 1 towards 0". So there is a second direction, taken within each digit, then averaged over the ten. We go from 2,000 test codes against each direction, towards less ink, and ask what the picture lost and whether it is still the same digit. To judge which digit it is, we encode a sample of the picture, and the 15 nearest codes vote. A random direction for each image, as long as the second, is the control.

# %% key="attribute"
count = 20_000
bits = data.draw_bits(train_images.pixels[:count])  # (20000, 784)
digits = train_images.labels[:count]  # (20000,)
inks = bits.sum(-1)  # (20000,)
with torch.no_grad():
    known = wide.encode(bits)[0]  # (20000, 30)


def direction(some):  # from the codes of the fifth with least ink to those with most
    low, high = inks[some].quantile(torch.tensor([0.2, 0.8], device=device))
    thick, thin = known[some & (inks > high)], known[some & (inks < low)]
    return thick.mean(0) - thin.mean(0)  # (30,)


every = direction(torch.ones_like(digits, dtype=torch.bool))
same = torch.stack([direction(digits == k) for k in range(10)]).mean(0)  # (30,)

# %% key="attribute-measured" jupyter={"source_hidden": true} tags=["hide-input"]
torch.manual_seed(0)
chance = torch.randn(2000, 30, device=device)  # a direction for each image
chance = chance * (same.norm() / chance.norm(dim=1, keepdim=True))


@torch.no_grad()
def read(m):  # the digit of a picture: encode a sample of it, ask 15 neighbours
    torch.manual_seed(0)
    asked = wide.encode(data.draw_bits(m))[0]
    near = [
        torch.cdist(some, known).topk(15, largest=False) for some in asked.split(500)
    ]
    return digits[torch.cat([found.indices for found in near])].mode(1).values


with torch.no_grad():
    start = wide.decode(wide_mu[:2000])  # (2000, 784)
first = read(start)
kept = {}
for name, way in (("every", every), ("same", same), ("chance", chance)):
    with torch.no_grad():
        end = wide.decode(wide_mu[:2000] - way)  # towards less ink
    change = end.sum(-1) - start.sum(-1)  # (2000,)
    kept[name] = (read(end) == first).double()
    low, median, high = change.quantile(torch.tensor([0.05, 0.5, 0.95], device=device))
    told = {"low": low.item(), "median": median.item(), "high": high.item()}
    told |= {"kept": kept[name].mean().item(), "way": say(f"latents-way-{name}")}
    print(say("latents-attribute", error=train.standard_error(kept[name]), **told))
    assert name == "chance" or median < -30 or not on_mnist
assert kept["every"].mean() < 0.5 < 0.7 < kept["same"].mean() or not on_mnist
gain = kept["same"] - kept["every"]  # (2000,) paired
assert gain.mean() > 4 * train.standard_error(gain) or not on_mnist

# %% [markdown] key="attribute-noticed"
# Both directions take ink away. The one between all images changes the digit in over half of the cases; the one within digits, in about a quarter. An attribute that goes with another brings it along, in codes as in data. A step of the same length in a random direction changes the digit sometimes, too: any long step may leave the place where the codes are.

# %% [markdown] key="pca-text"
# Last, **a flat view**: a pair of dimensions, or the first two principal components of the codes (PCA), the directions along which they spread most. The next picture puts them side by side. Do not expect the separation of the map of section 7: two directions out of 30 hold only a small part of the spread.
#
# Maps by t-SNE or UMAP usually show well-separated islands for the same codes. Read them with care. They are made to keep *neighbours* together, so points of one island are usually neighbours indeed, though an island may also be made by the settings. And the sizes of the islands, the distances between them and the empty space do not measure anything in the latent space, and they change with the seed and the settings. Holes and distances are measured in the space itself, as in section 7.

# %% key="pca" jupyter={"source_hidden": true} tags=["hide-input"]
points = wide_mu.cpu()  # (10000, 30)
centred = points - points.mean(0)
_, scales, axes = torch.linalg.svd(centred, full_matrices=False)
shares = scales.square() / scales.square().sum()  # (30,)
oracle = torch.linalg.eigvalsh(torch.cov(points.double().T)).flip(0)  # (30,)
assert torch.allclose(shares.double(), oracle / oracle.sum(), atol=1e-4)
print(say("latents-pca", share=shares[:2].sum().item(), even=2 / 30))
assert 2 / 30 < shares[:2].sum() < 0.4

views = {"latents-pair": points[:, by_kl[:2]]}  # (10000, 2)
views["latents-pca-title"] = centred @ axes[:2].T  # (10000, 2)
figure, plots = figures.picture(say("latents-alt-pca"), columns=2, height=3.9)
figure.stored_dpi = figures.SHOWN_DPI
for ax, (key, flat) in zip(plots, views.items(), strict=True):
    for digit, color in enumerate(figures.DIGIT_COLORS):
        some = flat[:400][labels[:400] == digit]  # (n, 2)
        ax.plot(*some.T, marker=f"${digit}$", color=color, ms=5, ls="", mew=0.3)
    ax.set(xlim=(-4, 4), ylim=(-4, 4), aspect="equal")
    ax.set_title(say(key), loc="left", fontsize=10)
figure

# %% [markdown] key="sliders-text"
# **Thirty sliders.** `latent_sliders` takes a model of any latent size. Each slider is a coordinate; the arrows move it by 0.1, Home and End go to the ends. Start at zero, the centre of the prior, where the picture is a grey haze, and hardly a draw falls, as section 8 found. Move one that has a large KL, then a dead one: the picture of the traversals names some of each. Then try to turn one digit into another with a single slider.

# %% key="sliders"
handles = sliders.latent_sliders(wide)
handles

# %% key="sliders-moved" jupyter={"source_hidden": true} tags=["hide-input"]
assert len(handles.sliders) == 30
assert sliders.sweep(handles) > 2 * int(
    (~dead).sum()
)  # zero, and the ends of the alive

# %% [markdown] key="explorer-text"
# ## 10. Your turn: the explorer
#
# The pad below is the plane of the two-latent model, with 1,000 training codes. The decoder runs in your browser, so it works without a kernel. Drag the point, or use the arrow keys. Three things to try:
#
# - Find a border between two digits and cross it as slowly as you can. Is there a moment when the picture is neither?
# - Go to a hole, where few codes are near. Could you tell from the picture? Then switch from *mean* to *sample of pixels*. Which of the two do the data look like?
# - Record a path that spells your favourite year, and play it.

# %% key="explorer"
explorer = LatentExplorer(model, train_images, neighbours=False)
explorer

# %% key="explorer-checked" jupyter={"source_hidden": true} tags=["hide-input"]
explorer.z = [1.0, -1.0]
assert explorer.z == [1.0, -1.0]
explorer.z = [0.0, 0.0]

# %% [markdown] key="answer-text"
# ## 11. What did the model learn?
#
# Nobody told it what a digit is. So here is the last question to it: given *only* the code of a test image, can one tell which digit it was? We ask the 15 nearest of 20,000 training codes and let them vote. Chance would be right in about one case out of ten.

# %% key="answer"
@torch.no_grad()
def vote(model, count=20_000):
    torch.manual_seed(0)
    some = data.draw_bits(train_images.pixels[:count])  # (20000, 784)
    known = model.encode(some)[0].cpu()  # (20000, L)
    asked = model.encode(x[::5])[0].cpu()  # (2000, L)
    near = [
        torch.cdist(part, known).topk(15, largest=False) for part in asked.split(250)
    ]
    named = train_images.labels[:count].cpu()[torch.cat([f.indices for f in near])]
    return (named.mode(1).values == labels[::5]).double()  # (2000,)


votes = {count: vote(asked) for count, asked in ((2, model), (30, wide))}
for count, right in votes.items():
    told = {"share": right.mean().item(), "error": train.standard_error(right)}
    print(say("latents-votes", latents=count, **told))
assert votes[2].mean() > 0.5
assert (votes[30] - votes[2]).mean() > 4 * train.standard_error(votes[30] - votes[2])

# %% key="answer-facts" jupyter={"source_hidden": true} tags=["hide-input"]
two, free, many = (part.mean().item() for part in (vae_2, ae_2, vae_30))
print(say("latents-fact-blur", two=two, free=free, many=many))
print(say("latents-fact-map", information=information, distance=distance, kl=kl))
print(say("latents-fact-hole", empty=empty, overspill=overspill))

# %% [markdown] key="answer-moral"
# **So:** it learnt to spend a few nats per image on saying *which kind* of image it is, well enough that the digit can be read off the code far more often than by chance, though no label was ever shown. It learnt to fill the prior, but not exactly: the codes overflow its ring, and leave holes from which the prior draws too often; both were measured. And what its latent cannot say, it averages.
#
# **To read.** Kingma and Welling (2013) drew their manifold of digits on a grid of the inverse CDF. Hoffman and Johnson (2016) split the KL into information and mismatch; Alemi et al. (2018) and Chen et al. (2018) go on from there. Lesson 06 measures what $q(z \mid x)$ itself misses; lesson 08 asks when a latent dies, and whether one coordinate can be made to mean one thing.

# %% [markdown] key="exercises"
# ## Exercises
#
# Write your answer in place of the ellipsis and run the cell. The check answers at once: right, or a hint. The solutions are folded right below each question.
#
# ### 1. The ring
#
# The rings of the map hold 50% and 95% of the prior's mass in the plane. Write a function that takes the mass, a number between 0 and 1, and returns the radius of the circle that holds it. Is it 1.96 for 95%?

# %% key="exercise-radius" tags=["nbval-check-output"]
def my_radius(mass):
    ...


checks.ring_radius(my_radius)

# %% key="solution-radius" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output", "solution"]
def solution_radius(mass):
    return math.sqrt(-2 * math.log(1 - mass))  # the density falls as exp(-r² / 2)


verdict = checks.ring_radius(solution_radius)
assert verdict
verdict

# %% [markdown] key="exercise-tiles-text"
# ### 2. Find the bug
#
# `published_tiles` runs without an error and draws a fine picture. `decode` takes `(B, 2)` to `(B, D)`; `points` ascend, and serve both axes. The function returns the tiles as `(n, n, D)`, for `imshow`. The text beside the picture says that $z_1$ runs right and $z_2$ runs up. Find the bug, and write `my_tiles` without it.

# %% key="exercise-tiles" tags=["nbval-check-output"]
def published_tiles(decode, points):
    rows = []
    for z2 in points:
        z = torch.stack((points, z2.expand(len(points))), -1)  # (n, 2)
        rows.append(decode(z))
    return torch.stack(rows)


def my_tiles(decode, points): ...


checks.manifold_rows(my_tiles)

# %% key="solution-tiles" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output", "solution"]
def solution_tiles(decode, points):
    rows = []
    for z2 in points.flip(0):  # the first row of a picture is the top one
        z = torch.stack((points, z2.expand(len(points))), -1)  # (n, 2)
        rows.append(decode(z))
    return torch.stack(rows)


verdict = checks.manifold_rows(solution_tiles)
assert verdict
verdict

# %% [markdown] key="exercise-bits-text"
# ### 3. Samples too good to be true
#
# The author of `proud_bits` is proud of the crisp samples it draws from the decoder's means, black and white, without a speck. Find the bug, and write `my_bits` without it. The function takes and returns `(B, D)`.

# %% key="exercise-bits" tags=["nbval-check-output"]
def proud_bits(means):
    return (means > 0.5).float()


def my_bits(means): ...


checks.pixel_draw(my_bits)

# %% key="solution-bits" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output", "solution"]
def solution_bits(means):
    return (torch.rand_like(means) < means).float()


verdict = checks.pixel_draw(solution_bits)
assert verdict
verdict

# %% [markdown] key="exercise-walk-text"
# ### 4. A walk that never leaves the shell
#
# `start` and `end` are independent draws from the prior, `(S, L)` each, and `t` is a number from 0 to 1. Write a mix of the two that is at `start` for $t = 0$, at `end` for $t = 1$, moves without jumps, and whose distribution is *exactly* $\mathcal{N}(0, I)$ for every $t$. The weights may depend on $t$ alone. There is more than one answer, and the check takes them all.
#
# To think about: the spherical path is not one of them. Why not, and why does it come so close when $L$ is large?

# %% key="exercise-walk" tags=["nbval-check-output"]
def my_walk(start, end, t):
    ...


checks.unit_walk(my_walk)

# %% key="solution-walk" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output", "solution"]
def solution_walk(start, end, t):
    return math.sqrt(1 - t) * start + math.sqrt(t) * end  # variances add up to 1


verdict = checks.unit_walk(solution_walk)
assert verdict
verdict

# %% [markdown] key="solution-walk-text"
# <details><summary>Answer to the question to think about</summary>
#
# The weights of the spherical path depend on the angle between the two points, which is itself random; a mix with random weights need not be normal. In many dimensions two independent draws are almost at right angles. With $\theta = \pi / 2$ the weights are $\cos(t\,\pi / 2)$ and $\sin(t\,\pi / 2)$, whose squares add up to 1.
#
# </details>

# %% [markdown] key="exercise-active-text"
# ### 5. Who is awake?
#
# Count the active latents. The function takes `mu`, the means of $N$ images, `(N, L)`. A latent is active if its mean varies from image to image with a variance above 0.01. Return the count. Beware of a dimension whose mean is the same for every image, but not zero.

# %% key="exercise-active" tags=["nbval-check-output"]
def my_active(mu):
    ...


checks.active_count(my_active)

# %% key="solution-active" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output", "solution"]
def solution_active(mu):
    return (mu.var(0) > 0.01).sum()


assert solution_active(wide_mu) == active
verdict = checks.active_count(solution_active)
assert verdict
verdict
