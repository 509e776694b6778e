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
# # How much does the ELBO miss, exactly?
#
# What is reported of a VAE is a bound. What the bound misses usually stays unknown, because $\log p(x)$ cannot be computed. With two latents it can. So here we look at what otherwise has to be guessed: whose fault the gap is, what closes it, and when the usual estimates of $\log p(x)$ are wrong without saying so.
#
# **By the end you will be able to** compute $\log p(x)$ of every test image; split the gap into what the family of $q$ cannot do and what the encoder does badly; say what more draws, a richer $q$ or a longer search for $q$ each buy; tell when an estimate by importance sampling lies; and hold $\log p(x)$ between two estimates where no exact value exists.
#
# **You need** lessons 00 and 02.
#
# **Time:** 60 minutes of reading; about a minute and a half of computing. The first time, some minutes more, while models are trained.

# %% key="setup"
import copy
import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.polynomial.hermite_e import hermegauss
from torch import nn
from torch.distributions import MultivariateNormal

from vae_teach import (
    annealing,
    bounds,
    data,
    densities,
    exact,
    figures,
    nets,
    sliders,
    train,
)
from vae_teach.checks import ledger as checks
from vae_teach.explorer import DrawingExplorer
from vae_teach.words import say, use_language

use_language("en")
COLORS = figures.COLORS
se = train.standard_error

# %% [markdown] key="exact-text"
# ## 1. Can a decoder say how probable an image is?
#
# The model is that of lesson 00: two latents, 15 epochs. The numbers in the text are those of MNIST. In what is printed, the number after ± is always one standard error, over images. After training, everything is computed on the CPU, whichever model the training gave.
#
# Lesson 02 summed a single digit over the plane. For many images there is a trick that makes it cheap. With Bernoulli pixels and logits $\ell(z)$,
#
# $$\log p(x \mid z) = \sum_d x_d\, \ell_d(z) - \sum_d \log\left(1 + e^{\ell_d(z)}\right).$$
#
# The second sum does not depend on the image, and the first is an inner product. So the *decoder runs once* over the points of the plane, and for all images together there remains **one matrix product**. The result is a chart of $\log p(x \mid z)$ for each image. We make one for 500 images, every twentieth of the test set, on 300 × 300 points from $-6$ to $6$.

# %% key="model"
device = torch.device("cpu")
if torch.accelerator.is_available():
    device = torch.accelerator.current_accelerator()

train_images = data.load("auto", "train", device=device)
on_mnist = train_images.name == "mnist"  # the text tells its numbers
test_images = data.load(train_images.name, "test")


def ready(images=train_images, **options):  # from the cache, or trained now
    model, _ = train.trained(images, device=device, **options)
    return model.cpu()


model = ready()
x = test_images.pixels  # (10000, 784), binary
few = x[::20]  # (500, 784) every twentieth
print(say("ledger-data", name=train_images.name, few=len(few)))

# %% key="chart"
axis = torch.linspace(-6, 6, 300)
plane = torch.cartesian_prod(axis, axis)  # (G, 2)
cell = (axis[1] - axis[0]).item() ** 2
log_prior = densities.log_standard_normal(plane)  # (G,)


@torch.no_grad()
def chart(model, x):  # (B, 784) to (B, G)
    parts = []
    for z in plane.split(5000):
        logits = model.decode_logits(z)  # (g, 784)
        parts.append(x @ logits.T - F.softplus(logits).sum(-1))  # (B, g)
    return torch.cat(parts, 1)


table = chart(model, few)  # (500, G) log p(x|z)
by_hand = (table + log_prior).logsumexp(1) + math.log(cell)  # (500,)

# %% [markdown] key="every-text"
# To integrate, multiply by the prior and by the area of a cell, and add up. `exact.log_likelihood` does the same on a larger plane, adds points where a posterior is narrow, and skips those that do not matter. It is given *all* 10,000 test images. The next cell compares the two. The median difference is tiny; the largest belongs to an image whose posterior is hardly wider than the steps of our chart. From now on the exact values are those of the package.

# %% key="every"
every = exact.log_likelihood(model, x, grid=400, extent=7.5)  # (10000,)

apart = (by_hand - every[::20]).abs()  # (500,)
told = {"median": apart.median().item(), "most": apart.max().item()}
print(say("ledger-by-hand", **told))
print(say("ledger-mean", mean=every.mean().item(), error=se(every)))
assert told["median"] < 1e-3
assert told["most"] < 0.5 or not on_mnist

# %% [markdown] key="every-noticed-before"
# What do 10,000 exact values look like? On the left of the next picture is their histogram, with the mean dashed. On the right, for each digit, the box holds half of the images, and the whiskers reach from 5% to 95%.

# %% key="every-picture" jupyter={"source_hidden": true} tags=["hide-input"]
labels = test_images.labels
figure, (left, right) = figures.picture(say("ledger-alt-every"), columns=2, height=3.2)
left.hist(every, bins=60, color="black")
left.axvline(every.mean(), color=COLORS["gap"], linestyle="--")
left.set(xlabel=say("ledger-log-p-axis"), ylabel=say("ledger-images"))
parts = [every[labels == digit] for digit in range(10)]
boxes = {"whis": (5, 95), "showfliers": False, "medianprops": {"color": "black"}}
right.boxplot(parts, positions=range(10), **boxes)
right.set_xticks(range(10), range(10))
right.set(xlabel=say("ledger-digit"), ylabel=say("ledger-log-p-axis"))
figure

# %% [markdown] key="extremes-text"
# Between images, $\log p(x)$ varies by up to three hundred nats. The 1 is the most probable digit by far. The next picture has the ten most probable and the ten least probable images of the test set.

# %% key="extremes" jupyter={"source_hidden": true} tags=["hide-input"]
order = every.argsort()  # the least probable first
rows = {say("ledger-most"): x[order[-10:].flip(0)]}
rows |= {say("ledger-least"): x[order[:10]]}
figure = figures.gallery(rows, columns=10, alt=say("ledger-alt-extremes"))
means = torch.stack([part.mean() for part in parts])  # (10,)
errors = torch.tensor([se(part) for part in parts])
best, worst = means.argmax().item(), means.argmin().item()
for digit in (best, worst):
    told = {"mean": means[digit].item(), "error": errors[digit].item()}
    print(say("ledger-class", digit=digit, **told))
ends = {"high": every.max().item(), "low": every.min().item()}
ones = (labels[order[-1000:]] == best).sum().item()
print(say("ledger-ends", **ends, digit=best, count=ones))
assert best == 1 or not on_mnist
assert ones > 950 or not on_mnist
assert means[best] - means[worst] > 4 * (errors[best] ** 2 + errors[worst] ** 2) ** 0.5
figure

# %% [markdown] key="extremes-noticed"
# Of the thousand most probable images, nearly all are ones. They have few lit pixels, and those in the places where ones have them. The least probable are crowded or strange. So a large $\log p(x)$ is no seal of quality: it says that the model expected *exactly these bits*, and simple images are easy to expect.

# %% [markdown] key="ledger-text"
# ## 2. Does the ledger close?
#
# For each image and any $q$, by lesson 02,
#
# $$\log p(x) = \mathrm{ELBO} + \mathrm{KL}(q(z \mid x) \,\|\, p(z \mid x)).$$
#
# This is an identity. Whoever computes the last term as the difference of the other two verifies nothing: it closes by algebra. To test something we need routes that do not share their numbers. We take three.
#
# 1. **Left side**: $\log p(x)$ by the package, on a grid over the whole plane.
# 2. **ELBO**: no grid over the plane. The mean of $\log p(x \mid z)$ over $q$ by points that are placed by $q$ alone; the KL to the prior in closed form.
# 3. **KL to the posterior**: by its definition. In a window around posterior and $q$ we evaluate $p(x, z)$ anew, divide by *its own* sum, so that it becomes a density, and average $\log q(z \mid x) - \log p(z \mid x)$ over $q$.
#
# The left side does not enter into the right one at all. If the grid of the package were too coarse, if the window cut off part of the posterior, or if the points of $q$ missed part of it, the sum would not close. What it does *not* test is what all routes share: a wrong decoder, or a wrong $q$, would pass. And the second and third routes average over $q$ by rules that resemble each other, so that the test bears most of all on $\log p(x)$, the KL to the prior and the window.
#
# First the functions. For means over $q$ there are two rules: `hermite`, the Gauss-Hermite quadrature of lesson 02, needs few points and is good enough for means over many images; `even` takes many, in equal steps, and is far more exact here. The functions take any Gaussian $q$, written as a mean $\mu$ and a triangular *root* $R$ with $R R^\top$ the covariance, because we shall need leaning ones soon. Then $z = \mu + R\,\varepsilon$, and
#
# $$\mathrm{KL}(q \,\|\, p(z)) = \tfrac{1}{2} \left(\lVert \mu \rVert^2 + \sum_{ij} R_{ij}^2 - L\right) - \sum_j \log R_{jj}.$$


# %% key="two-kls"
def spread_kl(mu, root):  # KL(N(mu, root root') || N(0, I)): (B, 2), (B, 2, 2) to (B,)
    squares = mu.square().sum(-1) + root.square().sum((-2, -1))
    return 0.5 * (squares - 2) - root.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def encoded(model, x):  # the encoder's q: its mean and a root of its covariance
    with torch.no_grad():
        mu, logvar = model.encode(x)  # (B, 2) each
    return mu, torch.diag_embed(torch.exp(0.5 * logvar))  # (B, 2), (B, 2, 2)


def hermite(side):  # points and weights for a mean over N(0, 1)
    points, weights = map(torch.from_numpy, hermegauss(side))
    return points, weights / weights.sum()


def even(side):  # the same with equal steps from -6 to 6
    points = torch.linspace(-6, 6, side, dtype=torch.float64)
    return points, (-0.5 * points.square()).softmax(0)


TEN = hermite(10)


@torch.no_grad()
def elbo_of(model, x, mu, root, rule=TEN):  # no draws, but points of q
    points, weights = (part.to(x) for part in rule)
    eps = torch.cartesian_prod(points, points)  # (S, 2)
    shares = torch.outer(weights, weights).flatten()  # (S,)
    total = -spread_kl(mu, root)  # (B,)
    count = max(1, 4000 // len(x))  # points at once
    for some, share in zip(eps.split(count), shares.split(count), strict=True):
        z = mu + torch.einsum("bij,sj->sbi", root, some)  # (s, B, 2)
        total += share @ densities.log_bernoulli(x, model.decode_logits(z))
    return total


mu, root = encoded(model, few)
root = root + torch.tensor([[0.0, 0.0], [0.3, 0.0]])  # leaning ones as well
wanted = MultivariateNormal(mu, scale_tril=root)
prior = MultivariateNormal(torch.zeros(2), torch.eye(2))
assert torch.allclose(
    spread_kl(mu, root), torch.distributions.kl_divergence(wanted, prior), rtol=1e-4
)

# %% [markdown] key="ledger-routes"
# Now the three routes, in double precision, for three images: every 4,000th of the test set. The fourth line is the first image again, with a $q$ that leans.

# %% key="ledger"
double = copy.deepcopy(model).double()
places = [0, 4000, 8000, 0]
some = x[places].double()  # (4, 784)
left_side = exact.log_likelihood(double, some, grid=3000, extent=7.5)  # (4,)

mu, root = encoded(double, some)
root[3, 1, 0] = 0.5 * root[3, 1, 1]  # the last q leans
elbos = elbo_of(double, some, mu, root, rule=even(161))  # (4,)


# %% key="ledger-box"
def box(row, mu, root):  # where posterior or q is above e^-18 of its peak
    log_joint = row + log_prior  # (G,)
    seen = plane[log_joint > log_joint.max() - 18].double()  # (n, 2)
    width = root.diagonal()  # (2,) of q, whose mean is taken in steps of an 18th
    reach = 6 * root.norm(dim=1)  # (2,) a q that leans reaches farther
    low = torch.minimum(seen.amin(0) - 0.04, mu - reach)
    high = torch.maximum(seen.amax(0) + 0.04, mu + reach)
    sides = [
        torch.arange(a.item(), b.item(), step.item(), dtype=torch.float64)
        for a, b, step in zip(low, high, width / 18, strict=True)
    ]
    return torch.cartesian_prod(*sides), (width / 18).prod()  # (S, 2), area


@torch.no_grad()
def kl_to_posterior(image, row, mu, root):  # one image
    z, area = box(row, mu, root)  # (S, 2)
    parts = z.split(2000)
    seen = [densities.log_bernoulli(image, double.decode_logits(p)) for p in parts]
    log_joint = torch.cat(seen) + densities.log_standard_normal(z)  # (S,)
    log_posterior = log_joint - log_joint.logsumexp(0) - area.log()  # sums to 1
    log_q = MultivariateNormal(mu, scale_tril=root).log_prob(z)  # (S,)
    return (log_q.exp() * (log_q - log_posterior)).sum() * area


rows = chart(model, some.float())  # (4, G)
each = zip(some, rows, mu, root, strict=True)
kls = torch.stack([kl_to_posterior(*one) for one in each])  # (4,)
off = left_side - elbos - kls  # (4,)

# %% key="ledger-printed" jupyter={"source_hidden": true} tags=["hide-input"]
for k, place in enumerate(places):
    numbers = {"exact": left_side[k], "elbo": elbos[k], "kl": kls[k], "off": off[k]}
    numbers = {name: value.item() for name, value in numbers.items()}
    print(say("ledger-row", image=place, **numbers))
coarse = (left_side - every[places]).abs().max().item()
print(say("ledger-closed", off=off.abs().max().item(), coarse=coarse))
assert off.abs().max() < 1e-4
assert coarse < 0.01  # what float32 and the grid of section 1 leave
assert kls.max() > 1 or not on_mnist  # far more than what is left over

# %% [markdown] key="ledger-noticed"
# The sum closes within $10^{-4}$ nats, and the images were not chosen for it. The largest of the KLs is over ten thousand times what is left over. The last line also says how far the values of section 1, in single precision and on a coarser grid, are from these: less than 0.01 nats. (Why so many points for it? The decoder's units switch on along straight lines, so $\log p(x \mid z)$ has creases, and at creases quadrature converges slowly.)

# %% [markdown] key="split-text"
# ## 3. Whose fault is the gap?
#
# The gap is $\mathrm{KL}(q(z \mid x) \,\|\, p(z \mid x))$. Two things can be to blame for it (Cremer, Li and Duvenaud, 2018):
#
# - **the family**: the posterior is no Gaussian with independent coordinates. Even the best such $q^*$ leaves an *approximation gap*;
# - **the encoder**: one network has to guess $q$ for every image, and its guess is not $q^*$. What it loses beyond that is the *amortization gap*.
#
# $$\underbrace{\log p(x) - \mathrm{ELBO}(q)}_{\text{gap}} = \underbrace{\log p(x) - \mathrm{ELBO}(q^*)}_{\text{approximation}} + \underbrace{\mathrm{ELBO}(q^*) - \mathrm{ELBO}(q)}_{\text{amortization}}.$$
#
# To split the gap we need $q^*$ for each image. Climb the ELBO over $q$'s own parameters, with the decoder fixed. We do it for all 500 images at once. The climb has up to five parameters an image: two for the mean, two for the widths, one for the lean. Their unit is the width of the $q$ from which the climb starts.

# %% key="search"
LOWER = torch.tensor([[0.0, 0.0], [1.0, 0.0]])


def climb(value, mu, root, *, leans, steps=100, rate=0.05, falls=True, shown=()):
    width = root.diagonal(dim1=-2, dim2=-1)  # (B, 2), the unit of a step
    moves = torch.zeros(len(mu), 5, requires_grad=True)  # of mu, widths, lean
    free = torch.tensor([1.0, 1.0, 1.0, 1.0, float(leans)])
    optimizer, seen = torch.optim.Adam([moves], lr=rate), {}
    for step in range(steps + 1):
        shift, stretch, lean = (free * moves).split((2, 2, 1), 1)
        new_mu = mu + width * shift  # (B, 2)
        new_root = torch.diag_embed(width * stretch.exp()) + root.tril(-1)
        new_root = new_root + LOWER * (width[:, 1:] * lean)[..., None]  # (B, 2, 2)
        heights = value(new_mu, new_root)  # (B,) ELBOs
        if step in shown:
            seen[step] = new_mu.detach(), new_root.detach()
        if falls:
            optimizer.param_groups[0]["lr"] = rate * (1 - step / (steps + 1))
        optimizer.zero_grad()
        (-heights.sum()).backward()
        optimizer.step()
    return new_mu.detach(), new_root.detach(), heights.detach(), seen


# %% [markdown] key="search-text"
# The gradient steps need $\log p(x \mid z)$ at the points of a moving $q$. To run the decoder at every step for 500 images would take too long. We already have the charts: `on_chart` reads between their points. That is a little inexact, so the climb ends on a *patch*: 400 fresh values of the decoder around the $q$ that was found.
#
# The search may be as rough as we like, because **any** $q$ gives a valid bound: if the search misses the best one, the approximation gap comes out too large, and never too small. So what the split says of the encoder is a *lower* limit of its share. The ELBO of what was found is computed afresh, by Hermite points, with the decoder itself.

# %% key="search-values" jupyter={"source_hidden": true} tags=["hide-input"]
points, weights = (part.float() for part in hermite(8))
eps = torch.cartesian_prod(points, points)  # (64, 2)
shares = torch.outer(weights, weights).flatten()  # (64,)


def on_chart(table):  # the ELBO, log p(x|z) read off the chart between its points
    pictures = table.reshape(-1, 1, len(axis), len(axis))

    def value(mu, root):
        z = mu[:, None] + eps @ root.mT  # (B, 64, 2)
        place = (z.flip(-1) / axis[-1])[:, None]  # z2 runs along the rows
        read = F.grid_sample(pictures, place, padding_mode="border", align_corners=True)
        return read[:, 0, 0] @ shares - spread_kl(mu, root)

    return value


@torch.no_grad()
def on_patch(model, x, mu, root):  # the ELBO from fresh values on 400 points around q
    side = torch.linspace(-5, 5, 20)
    z = mu[:, None] + torch.cartesian_prod(side, side) @ root.mT  # (B, 400, 2)
    parts = zip(x[:, None].split(20), z.split(20), strict=True)
    likelihood = torch.cat(
        [densities.log_bernoulli(a, model.decode_logits(b)) for a, b in parts]
    )  # (B, 400)

    def value(mu, root):
        inside = torch.linalg.solve_triangular(root, (z - mu[:, None]).mT, upper=False)
        share = (-0.5 * inside.square().sum(1)).softmax(1)  # (B, 400) of q
        return (share * likelihood).sum(1) - spread_kl(mu, root)

    return value


# %% [markdown] key="search-starts"
# A climb may end on the wrong hill. So it starts from three places: the encoder's $q$, a Gaussian with the posterior's mean and variances, and a narrow one at its peak. We keep the highest end. The function returns two Gaussians an image: the best *upright* one, with independent coordinates, and the best that may *lean*.


# %% key="search-best" jupyter={"source_hidden": true} tags=["hide-input"]
def posterior_starts(table):  # Gaussians at the mean, and at the peak
    means, widths, peaks, narrow = [], [], [], []
    for some in table.split(100):
        share = (some + log_prior).softmax(1)  # (b, G)
        means.append(share @ plane)
        widths.append((share @ plane.square() - means[-1].square()).sqrt())
        top = share.max(1)
        peaks.append(plane[top.indices])
        narrow.append((cell / (2 * math.pi * top.values)).sqrt()[:, None].expand(-1, 2))
    pairs = (means, widths), (peaks, narrow)
    return [(torch.cat(a), torch.diag_embed(torch.cat(b))) for a, b in pairs]


def highest(climbs):  # for each image, the best climb, and its lead over the first
    heights = torch.stack([climb[2] for climb in climbs])  # (C, B)
    won = heights.argmax(0), torch.arange(heights.shape[1])
    mu, root = (torch.stack([climb[k] for climb in climbs])[won] for k in (0, 1))
    return (mu, root), heights.amax(0) - heights[0]


def best_gaussians(model, x, table):  # upright ones, and those that may lean
    value = on_chart(table)
    starts = [encoded(model, x), *posterior_starts(table)]
    upright, lead = highest([climb(value, *start, leans=False) for start in starts])
    starts = starts[1], upright
    leaning, _ = highest([climb(value, *start, leans=True) for start in starts])
    value = on_patch(model, x, *leaning)
    ends = []
    for q, leans in ((upright, False), (leaning, True)):
        ends.append(climb(value, *q, leans=leans, rate=0.02)[:2])
    return *ends, lead


# %% key="split"
own = encoded(model, few)
upright, leaning, lead = best_gaussians(model, few, table)
log_p = every[::20]  # (500,)
gaps = log_p - elbo_of(model, few, *own)
approximation = log_p - elbo_of(model, few, *upright)
amortization = gaps - approximation
unleaned = log_p - elbo_of(model, few, *leaning)

# %% key="split-printed" jupyter={"source_hidden": true} tags=["hide-input"]
parts = {"gap": gaps, "approximation": approximation, "amortization": amortization}
for name, part in parts.items():
    told = {"mean": part.mean().item(), "error": se(part)}
    told |= {"median": part.median().item(), "least": part.min().item()}
    print(say("ledger-part", part=say(f"ledger-{name}"), **told))


def share_of_means(part, whole):  # of the mean gap, with its standard error
    share = part.mean() / whole.mean()
    return share.item(), se(part - share * whole) / whole.mean().item()


share, error = share_of_means(approximation, gaps)
typical = (approximation / gaps).median().item()
print(say("ledger-shares", share=share, error=error, typical=typical))
half = (approximation > 0.5 * gaps).sum().item()
assert gaps[approximation > 0.5 * gaps].mean() < gaps.median() or not on_mnist
print(say("ledger-half", half=half, lost=(lead > 0.1).sum().item()))
every_50th = few[::50], upright[0][::50], upright[1][::50]  # 10 images
finer = elbo_of(model, *every_50th, rule=even(61))  # (10,)
rough = (finer - (log_p - approximation)[::50]).abs().max().item()
print(say("ledger-rough", rough=rough))
assert rough < 0.02
assert approximation.min() > -0.02  # what 10 x 10 points may miss
assert amortization.min() > -0.02
assert half < 50 or not on_mnist
assert share < 0.05 or not on_mnist
assert amortization.mean() > 4 * se(amortization) or not on_mnist
assert (4 < gaps.mean() < 7 and 0.05 < approximation.mean() < 0.2) or not on_mnist

# %% [markdown] key="split-noticed"
# **For this decoder, it is the encoder.** Of a mean gap of 5.6 nats, the family is to blame for 0.10. The rest, 98%, is amortization: Gaussians that fit were there, and the encoder did not point at them. In the median image the share of the family is a few per cent as well, but in 25 of the 500 images the family has the larger part: on average these have small gaps. That the parts add up is algebra. That neither is negative, beyond the 0.02 nats that our points may miss, is not: the first would be negative if our $\log p(x)$ or our ELBO were wrong. (The second can hardly be, since one of the climbs starts from the encoder's $q$.)
#
# Two things the split cannot see. The decoder was trained together with upright Gaussians, which bends its posteriors towards them (Cremer, Li and Duvenaud say so too): what the family has cost the *decoder* stands in no column. And these are test images: how much of the amortization gap is that the encoder has not seen them, we did not separate.
#
# The package has a slower search, `exact.best_gaussian`, which sums over the whole plane. A folded cell compares the two on three images. Another shows the split, made with the slower search, for this model and for two trained with other seeds.
#
# Is this the fate of all VAEs? It is what *this* one does, with two latents and a training set of 60,000. In other models the shares may be others; this lesson does not measure them.

# %% key="split-package" jupyter={"source_hidden": true} tags=["hide-input"]
places = gaps.argsort()[[50, 250, 475]]  # 10%, 50% and 95% of the gaps
packaged = exact.best_gaussian(model, few[places], grid=240, extent=5.0).elbo  # (3,)
apart = (packaged - (log_p - approximation)[places]).abs().max().item()
print(say("ledger-package", apart=apart))
assert apart < 0.05

# %% key="split-seeds" jupyter={"source_hidden": true} tags=["hide-input"]
RESULTS = Path("../../benchmarks/results/ledger.json")
measured_before = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else None
if measured_before is None:
    print(say("ledger-seeds-none"))
else:
    machine, results = measured_before["machine"], measured_before["results"]
    told = {name: machine[name] for name in ("processor", "date", "commit", "torch")}
    print(say("ledger-seeds-head", images=results["images"], **told))
    for row in results["rows"]:
        names = ("seed", "gap", "gap_error", "share", "share_error")
        print(say("ledger-seed", **{name: row[name] for name in names}))
        assert row["share"] < 0.1
        assert row["least"] > -0.02

# %% [markdown] key="shapes-text"
# What do the nats look like? The next picture has four images, chosen by a rule: those at 10%, 50%, 75% and 95% of the gaps. Below each is its own piece of the plane, to scale. The green region holds 95% of the true posterior. The dashed ellipse holds 95% of the encoder's $q$, the dotted one 95% of the best upright Gaussian.


# %% key="shapes" jupyter={"source_hidden": true} tags=["hide-input"]
def ring(mu, root, radius=2.45):  # the ellipse that holds 95% of q: (100, 2)
    angle = torch.linspace(0, 2 * math.pi, 100)
    circle = torch.stack((angle.cos(), angle.sin()), -1)
    return mu + radius * circle @ root.mT


def level_of(density):  # the height whose region holds 95%
    ordered = density.flatten().sort(descending=True).values
    held = ordered.cumsum(0) / ordered.sum()
    return ordered[(held < 0.95).sum()].item()


@torch.no_grad()
def close_up(k, side=90):  # a window that holds posterior and q of image k, to scale
    rings = torch.cat([ring(q[0][k], q[1][k]) for q in (own, upright)])
    log_joint = table[k] + log_prior
    rings = torch.cat((rings, plane[log_joint > log_joint.max() - 4]))
    middle = (rings.amax(0) + rings.amin(0)) / 2
    reach = 0.6 * (rings.amax(0) - rings.amin(0)).max()
    z1, z2 = (torch.linspace(m - reach, m + reach, side) for m in middle)
    logits = model.decode_logits(torch.cartesian_prod(z1, z2))
    log_joint = densities.log_bernoulli(few[k], logits)
    log_joint += densities.log_standard_normal(torch.cartesian_prod(z1, z2))
    return z1, z2, log_joint.softmax(0).reshape(side, side)


PALE = "#BFE6DA"  # of the posterior's green
chosen = [gaps.argsort()[int(q * 500)].item() for q in (0.1, 0.5, 0.75, 0.95)]
figure = figures.Picture(say("ledger-alt-shapes"), 9.5, 4.0)
axes = figure.subplots(2, 4, height_ratios=(1, 3))
for (top, below), k in zip(axes.T, chosen, strict=True):
    figures.show_digits(top, few[k : k + 1], columns=1)
    z1, z2, density = close_up(k)
    below.contourf(z1, z2, density.T, [level_of(density), 1], colors=[PALE])
    below.contour(z1, z2, density.T, [level_of(density)], colors=COLORS["posterior"])
    below.plot(*ring(own[0][k], own[1][k]).T, "--", color=COLORS["q"])
    below.plot(*ring(upright[0][k], upright[1][k]).T, ":", color="black")
    below.set(xlabel="$z_1$", ylabel="$z_2$", aspect="equal")
    for side in (below.xaxis, below.yaxis):
        side.set_major_formatter(lambda value, _: say("tick", value=value))
        side.set_major_locator(MaxNLocator(4))
    numbers = {"gap": gaps[k].item(), "missed": approximation[k].item()}
    below.set_title(say("ledger-shape", **numbers), loc="left", fontsize=8)
looks = ("posterior", "-"), ("q", "--"), ("data", ":")
handles = [Line2D([], [], color=COLORS[color], ls=dashes) for color, dashes in looks]
names = (r"$p(z \mid x)$", say("ledger-own"), say("ledger-best"))
figure.legend(handles, names, loc="outside lower center", ncols=3, fontsize=8)
figure

# %% [markdown] key="shapes-noticed"
# From left to right the encoder's ellipse leaves the posterior, while the dotted one always finds it. The posterior itself is nearly a Gaussian, and small: most of the plane is far away from it. **To miss a small target by its own width is expensive.**

# %% [markdown] key="pull-text"
# ### Pull it
#
# Now move $q$ yourself. Choose one of the four images. The first slider carries $q$ from the encoder's (0) to the best upright one (1); the second makes it wider or narrower; the third makes it lean, with correlation $\rho$. On the right, the ledger: the ELBO ends where $\log p(x)$ minus the gap lies. The bars are drawn from 40 nats below $\log p(x)$, and cut there; the numbers are not. The gap is the difference of the other two.
#
# Three things to try. With image 4, carry $q$ to the best: how many nats does the way cost at its beginning, and how many at its end? At the best $q$, find the width factor at which the gap has doubled, to either side: too wide is punished otherwise than too narrow. And find the $\rho$ that still lowers the gap at the best upright $q$: that is the next section.

# %% key="pull-picture" jupyter={"source_hidden": true} tags=["hide-input"]
FLOOR = 40.0  # nats below log p(x), where the bars are cut


def draw_ledger(point, way, factor, rho):
    k = chosen[point]
    (mu_a, root_a), (mu_b, root_b) = [(q[0][k], q[1][k]) for q in (own, upright)]
    mu = torch.lerp(mu_a, mu_b, way)  # (2,)
    width = torch.lerp(root_a.diagonal().log(), root_b.diagonal().log(), way).exp()
    root = torch.diag_embed(factor * width)
    root[1] *= math.sqrt(1 - rho**2)
    root[1, 0] = factor * width[1] * rho
    bound = elbo_of(model, few[k : k + 1], mu[None], root[None]).item()
    top = log_p[k].item()
    numbers = {"top": top, "elbo": bound, "gap": top - bound}
    told = {"number": point + 1, "way": way, "factor": factor, "rho": rho}
    alt = say("ledger-alt-pull", **told, **numbers)
    figure, (left, right) = figures.picture(alt, columns=2, width=8, height=3.6)
    z1, z2, density = windows[point]
    left.contourf(z1, z2, density.T, [level_of(density), 1], colors=[PALE])
    left.contour(z1, z2, density.T, [level_of(density)], colors=COLORS["posterior"])
    left.plot(*ring(mu, root).T, "--", color=COLORS["q"])
    left.plot(*mu, "o", color=COLORS["q"], ms=4)
    left.set(xlim=(z1[0], z1[-1]), ylim=(z2[0], z2[-1]), aspect="equal")
    left.set(xlabel="$z_1$", ylabel="$z_2$")
    gap = min(top - bound, FLOOR)
    right.barh(2, FLOOR, left=-FLOOR, color="black", height=0.6)
    bar = {"color": COLORS["q"], "hatch": "//", "edgecolor": "white"}
    right.barh(1, FLOOR - gap, left=-FLOOR, height=0.6, **bar)
    right.barh(0, gap, left=-gap, color=COLORS["gap"], height=0.6)
    names = [r"$\log\,p(x)$", "ELBO", say("ledger-gap-name")]
    values = [say("ledger-bar", value=value) for value in (top, bound, top - bound)]
    right.set_yticks(
        (2, 1, 0), [f"{n}\n{v}" for n, v in zip(names, values, strict=True)]
    )
    right.set(xlim=(-FLOOR, 1), xlabel=say("ledger-below-axis"))
    return figure


windows = [close_up(k) for k in chosen]

# %% key="pull-panel"
panel = sliders.panel(
    draw_ledger,
    point=sliders.choice(
        say("ledger-image"), [(str(k + 1), k) for k in range(4)], value=2
    ),
    way=sliders.slider(say("ledger-way"), 0, 1, step=0.05),
    factor=sliders.slider(say("ledger-factor"), 0.4, 2.5, step=0.1, value=1.0),
    rho=sliders.slider(r"$\rho$", -0.9, 0.9, step=0.1),
)
panel

# %% key="pull-swept" jupyter={"source_hidden": true} tags=["hide-input"]
assert sliders.sweep(panel) == 8  # each control to both ends: every picture is another
for way, part in ((1.0, approximation), (0.0, gaps)):  # the ends are those of the table
    panel.controls["way"].value = way
    assert say("ledger-bar", value=part[chosen[2]].item()) in panel.picture.alt

# %% [markdown] key="steps-text"
# ## 4. What closes the gap?
#
# **More steps for each image.** If the encoder's guess is the problem, let it be a *start*: from there, a few gradient steps on $\mu$ and $\sigma$ for this one image. That is inference refined at test time; *semi-amortized* VAEs (Kim et al., 2018) also train through such steps. Ours are better than those of practice: their gradients have no noise, because they are read off the chart. The next picture has the mean and the median gap of the 500 images after so many steps of Adam. The horizontal axis lists the numbers of steps, not to scale. The two black lines are the mean (solid) and the median (dotted) of the approximation gap: no upright Gaussian gets below.

# %% key="steps"
stops = (0, 5, 10, 20, 50, 100, 200)
plain = {"leans": False, "falls": False}  # every step at the same rate
*_, seen = climb(on_chart(table), *own, **plain, steps=200, shown=stops)
curve = torch.stack(
    [log_p - elbo_of(model, few, *seen[k], hermite(7)) for k in stops]
)  # (7, 500)

late = curve[-1].argsort(descending=True)[:50]  # the images that lag behind
starts = [part[late] for part in own]
*longer, _, _ = climb(on_chart(table[late]), *starts, **plain, steps=1000)
left = log_p[late] - elbo_of(model, few[late], *longer, hermite(7))  # (50,)

# %% key="steps-picture" jupyter={"source_hidden": true} tags=["hide-input"]
figure, (ax,) = figures.picture(say("ledger-alt-steps"), width=6.2, height=3.0)
ax.plot(
    range(7), curve.mean(1), "o-", color=COLORS["gap"], label=say("ledger-mean-gap")
)
middle = curve.median(1).values
ax.plot(range(7), middle, "s--", color=COLORS["gap"], label=say("ledger-median-gap"))
floor, low = approximation.mean().item(), approximation.median().item()
ax.axhline(floor, color="black", ls="-", lw=1, label=say("ledger-floor"))
ax.axhline(low, color="black", ls=":", label=say("ledger-median-floor"))
ax.set_xticks(range(7), stops)
ax.set(xlabel=say("ledger-steps-axis"), ylabel=say("ledger-gap-axis"), yscale="log")
ax.set_yticks(
    [0.03, 0.1, 0.3, 1, 3], [say("tick", value=v) for v in (0.03, 0.1, 0.3, 1, 3)]
)
ax.yaxis.set_minor_locator(NullLocator())
ax.set_ylim(0.02, 8)
ax.legend(fontsize=7, loc="lower left")
for k in (3, 4, 6):
    told = {"mean": curve[k].mean().item(), "median": middle[k].item()}
    print(say("ledger-steps", steps=stops[k], **told))
widths = own[1].diagonal(dim1=-2, dim2=-1)  # (500, 2)
away = ((upright[0] - own[0]) / widths).norm(dim=1)  # (500,) to the best upright q
told = {"before": curve[-1][late].mean().item(), "after": left.mean().item()}
told |= {"away": away[late].median().item(), "usual": away.median().item()}
print(say("ledger-late", far=(away[late] > 10).sum().item(), **told))
assert (curve.mean(1).diff() < 0).all() or not on_mnist
assert middle[4] < middle[0] / 4 or not on_mnist
assert curve[-1].mean() > 6 * floor or not on_mnist
assert curve[-1][late].sum() > 0.7 * curve[-1].sum() or not on_mnist
assert left.mean() > 0.7 * curve[-1][late].mean() or not on_mnist
assert lead.gt(0.1).sum() > 75 or not on_mnist
assert away[late].median() > 2 * away.median() or not on_mnist
figure

# %% [markdown] key="steps-noticed"
# The typical image is most of the way there after 50 steps. The mean is not: even after 200 it stands at 1.1 nats, eleven times the solid line. Nearly all of that belongs to the 50 images that lag most. Are they slow, or on the wrong hill? A step of Adam moves $q$ by about 0.05 of its own width, so 200 steps reach about ten widths, and half of these images have their best $q$ farther away. But a thousand steps, which reach five times as far, take less than one of their ten nats off. **Most of what is left are wrong hills**, from which no small step leads to the best $q$. The search of section 3 could also start from the posterior itself, which nobody has in practice; in over a quarter of the images that brought more than 0.1 nats.
#
# And each step costs one pass through the decoder for each point of $q$: closing the gap this way multiplies the price of inference.

# %% [markdown] key="lean-text"
# **A full covariance.** The best leaning Gaussian closes most of what the upright one leaves. How much there was to win can be told from its shape. For a Gaussian posterior with correlation $\rho$ between its two coordinates, the best upright $q$ misses exactly
#
# $$-\tfrac{1}{2} \log(1 - \rho^2)$$
#
# nats; exercise 4 asks for the formula in any dimension. Our posteriors are not quite Gaussian. The cell compares, image by image, what the lean gained with what the formula says of the $\rho$ that was found.

# %% key="lean"
gain = approximation - unleaned  # (500,) nats
first, second = leaning[1].mT.unbind(-1)  # columns of root', (B, 2) each
covariance = leaning[1] @ leaning[1].mT  # (B, 2, 2)
width = covariance.diagonal(dim1=-2, dim2=-1).sqrt()  # (B, 2)
rho = covariance[:, 0, 1] / width.prod(1)  # (500,)
price = -0.5 * torch.log1p(-rho.square())  # (500,) nats
told = {"gain": gain.mean().item(), "error": se(gain), "price": price.mean().item()}
fit = torch.corrcoef(torch.stack((gain, price)))[0, 1].item()
left_over, left_error = share_of_means(unleaned, approximation)
assert fit > 0.95 or not on_mnist
assert abs(gain.mean() - price.mean()) < 0.1 * gain.mean()
assert gain.min() > -0.02
assert left_over < 0.3 or not on_mnist
print(say("ledger-lean", fit=fit, left=left_over, left_error=left_error, **told))

# %% [markdown] key="lean-noticed"
# So about four fifths of the approximation gap are *lean*: posteriors whose axes are not the coordinate axes. A full covariance removes most of it, and it is cheap: with $L$ latents, $L(L-1)/2$ more numbers from the encoder. But do not expect much from it here. It acts on a part that was 2% of the gap.

# %% [markdown] key="trained-text"
# **Other training.** So far the model stood still. Now five copies of it train on, each for two more epochs of the same 10,000 images, each with its own objective:
#
# - the ELBO, as before: the control. Once more with another seed: the control, again;
# - the bound with $k = 5$ and with $k = 50$ draws, the mean weight inside the logarithm, as in an *importance-weighted autoencoder*, IWAE (Burda, Grosse and Salakhutdinov, 2015);
# - the ELBO with a $q$ that may lean, its lean at first zero. (Its KL is averaged over draws; the control's is in closed form.)
#
# Of each we take, for our 500 test images, the exact $\log p(x)$ and the ELBO of its own encoder. The comparison is paired: the same start, the same images, though in orders and with bits of their own. The ± counts the test images only. What another order alone changes is the line of the second control.

# %% key="trained"
some = replace(
    train_images,
    pixels=train_images.pixels[:10_000],
    labels=train_images.labels[:10_000],
)


def many_draws(model, x, k):
    value = bounds.importance_weighted(model, x, k)  # (B,)
    return bounds.Bound(value, value, torch.zeros_like(value))


class LeaningVAE(nets.VAE):
    def __init__(self, start):
        super().__init__()
        self.load_state_dict(start.state_dict())
        self.lean = nn.Linear(400, 1)
        nn.init.zeros_(self.lean.weight)
        nn.init.zeros_(self.lean.bias)

    def spread(self, x):
        mu, logvar = self.encode(x)  # (B, 2) each
        width = torch.exp(0.5 * logvar)
        lean = width[:, 1:] * self.lean(F.relu(self.encoder_hidden(x)))  # (B, 1)
        return mu, torch.diag_embed(width) + LOWER.to(x) * lean[..., None]

    def q(self, x):
        mu, root = self.spread(x)
        return MultivariateNormal(mu, scale_tril=root, validate_args=False)


alike = {"make": partial(copy.deepcopy, model), "epochs": 2 if on_mnist else 1}
more = {
    "elbo": {"objective": bounds.elbo},
    "again": {"objective": bounds.elbo, "seed": 1},
    "k5": {"objective": partial(many_draws, k=5)},
    "k50": {"objective": partial(many_draws, k=50)},
    "leaning": {"objective": bounds.elbo, "make": partial(LeaningVAE, model)},
}
continued = {name: ready(some, **alike | other) for name, other in more.items()}

# %% key="trained-measured" jupyter={"source_hidden": true} tags=["hide-input"]
measured, spreads = {}, {}
for name, other in continued.items():
    leans = isinstance(other, LeaningVAE)
    with torch.no_grad():
        q = other.spread(few) if leans else encoded(other, few)
    exact_there = exact.log_likelihood(other, few, grid=400, extent=7.5)
    spreads[name] = q[1].diagonal(dim1=-2, dim2=-1).median().item()
    measured[name] = torch.stack((exact_there, elbo_of(other, few, *q)))  # (2, 500)

# %% key="trained-table" jupyter={"source_hidden": true} tags=["hide-input"]
for name, both in measured.items():
    change = both - measured["elbo"]  # paired, image by image
    told = {"exact": change[0].mean().item(), "exact_error": se(change[0])}
    told |= {"elbo": change[1].mean().item(), "elbo_error": se(change[1])}
    told["width"] = spreads[name]
    if name == "elbo":
        told = {"exact": both[0].mean().item(), "elbo": both[1].mean().item()}
        print(say("ledger-trained-base", width=spreads[name], **told))
        continue
    print(say("ledger-trained-row", name=say(f"ledger-trained-{name}"), **told))
change = {name: both - measured["elbo"] for name, both in measured.items()}
for name in ("k5", "k50"):  # the model gets better, and its ELBO worse
    better, worse = change[name]
    assert better.mean() > 0 or not on_mnist
    assert -worse.mean() > 4 * se(worse) or not on_mnist
better, worse = change["k50"]
noise = change["again"][0].mean().abs()  # what another order of the images does
assert 2.5 * se(better) < better.mean() < 2 or not on_mnist
assert better.mean() > 3 * noise or not on_mnist
assert worse.mean() < -10 or not on_mnist
assert max(measured, key=lambda name: measured[name][0].mean()) == "k50" or not on_mnist
assert spreads["elbo"] < spreads["k5"] < spreads["k50"] or not on_mnist
assert spreads["k50"] > 2 * spreads["elbo"] or not on_mnist
assert change["leaning"].mean(1).abs().max() < 2 or not on_mnist
assert change["leaning"][0].mean().abs() < 1 or not on_mnist

# %% [markdown] key="trained-noticed"
# Compare the two columns in the rows of $k = 5$ and $k = 50$: **with many draws $\log p(x)$ rises and the ELBO falls, a lot.** With $k = 50$ the model gains less than two nats of $\log p(x)$, over three times what another order of the images does, and loses more than ten of its ELBO. Whoever judged it by its ELBO would throw away the best of the five. For $k = 5$ compare the gain with the second control yourself: one run of each is little. What happens is this. With many draws it suffices that *one* of them falls where the posterior is; a wide $q$ is no longer punished for the others. And $q$ does spread: the last column has its median width, which more than doubles. (That the signal in the encoder's gradient drowns in its noise as $k$ grows is the subject of Rainforth et al., 2018, and lesson 09.)
#
# The leaning $q$ changes $\log p(x)$ by less than a nat, and 500 images and one run cannot tell more. Section 3 has said why little was to be expected.

# %% [markdown] key="theta-text"
# ### The bound as a function of the model
#
# Why does training by a bound lead somewhere else than training by $\log p(x)$? Draw both over $\theta$. All weights are too many for a picture, so we vary one number: the *contrast* $a$, by which all logits are multiplied. With $a = 1$ it is our model; below, all pictures are paler, and above, harsher.
#
# For a fixed $q$ the ELBO is a function of $a$ that lies below $\log p$. If $q$ is the exact posterior at the present $a$, the two **touch** there. Climb that curve to its top, take the posterior there, and you touch again: this is expectation-maximization (Dempster, Laird and Rubin, 1977), here as a climb of one bound in $q$ and $\theta$ by turns (Neal and Hinton, 1998), and in each turn $\log p$ rises. That the curves touch, and that $\log p$ never falls, is algebra; what is measured is where the tops are. In the picture it starts from $a = 0.7$. Each green curve is the bound with the posterior of one turn; the dot marks where it touches. The dashed curve is the bound with the encoder's $q$, whatever $a$ is. Stars mark the tops. All are means over 250 images, every second of our 500.

# %% key="theta"
rows = few[::2]  # (250, 784)
mu, root = encoded(model, rows)
each = zip(mu, root, strict=True)
log_q = torch.stack(
    [MultivariateNormal(m, scale_tril=r).log_prob(plane) for m, r in each]
)  # (250, G)
log_joint = table[::2] + log_prior  # (250, G)
matters = [part > part.amax(1, keepdim=True) - 20 for part in (log_joint, log_q)]
near = (matters[0] | matters[1]).any(0)  # (G,) the points that some image needs
with torch.no_grad():
    logits = model.decode_logits(plane[near])  # (P, 784)
inked = rows @ logits.T  # (250, P)
contrasts = torch.linspace(0.7, 1.3, 13)
partition = torch.stack([densities.log_partition(a * logits) for a in contrasts])
del logits


def log_joint_at(k):  # log p(x, z) with the k-th contrast: (250, P)
    return contrasts[k] * inked - partition[k] + log_prior[near]


def bound_of(q):  # the mean ELBO at each contrast, with q (250, P) held fixed: (13,)
    together = q.mean(0)  # (P,)
    entropy = torch.special.entr(q).sum(1).mean() + math.log(cell)
    constant = entropy + together @ log_prior[near]
    return contrasts * (q * inked).sum(1).mean() - partition @ together + constant


tops = torch.stack([log_joint_at(k).logsumexp(1) for k in range(13)]) + math.log(cell)
exacts = tops.mean(1)  # (13,)
turns, k = [], 0
for _ in range(6):
    bound = bound_of(log_joint_at(k).softmax(1))  # the posteriors at this contrast
    turns.append((k, bound))
    k = bound.argmax().item()
encoder_q = log_q[:, near].softmax(1)  # (250, P)
fixed = bound_of(encoder_q)  # (13,)

# %% key="theta-picture" jupyter={"source_hidden": true} tags=["hide-input"]
figure, (ax,) = figures.picture(say("ledger-alt-theta"), width=6.5, height=3.6)
ax.plot(contrasts, exacts, color="black", label=say("ledger-theta-exact"))
for number, (k, bound) in enumerate(turns[:3]):
    label = say("ledger-theta-turn") if number == 0 else None
    ax.plot(contrasts, bound, "-.", color=COLORS["posterior"], lw=1, label=label)
    ax.plot(contrasts[k], bound[k], "o", color=COLORS["posterior"])
label = say("ledger-theta-encoder")
ax.plot(contrasts, fixed, "--", color=COLORS["q"], label=label)
for curve_of, color in ((exacts, "black"), (fixed, COLORS["q"])):
    top = curve_of.argmax()
    ax.plot(contrasts[top], curve_of[top], "*", color=color, ms=13)
ax.set(xlabel=say("ledger-contrast"), ylabel=say("ledger-mean-axis"), xlim=(0.7, 1.3))
ax.set_ylim(min(fixed.min(), exacts.min()) - 1, exacts.max() + 1)
ax.legend(fontsize=8, loc="lower right")
figure

# %% key="theta-printed" jupyter={"source_hidden": true} tags=["hide-input"]
touch = max(abs((exacts[k] - bound[k]).item()) for k, bound in turns)
visited = [contrasts[k].item() for k, _ in turns]
best, favourite = exacts.argmax().item(), fixed.argmax().item()
print(say("ledger-theta-turns", first=visited[0], last=visited[-1], touch=touch))
told = {"exact": contrasts[best].item(), "encoder": contrasts[favourite].item()}
told["cost"] = (exacts[best] - exacts[favourite]).item()
print(say("ledger-theta-tops", **told))
pale, harsh = 4, 8  # contrasts 0.9 and 1.1
kept = [(encoder_q * log_joint_at(k)).sum(1) for k in (pale, harsh)]  # (250,) each
wider = (tops[harsh] - kept[1]) - (tops[pale] - kept[0])  # the entropy cancels
print(say("ledger-theta-gap", wider=wider.mean().item(), error=se(wider)))
assert touch < 1e-2  # rounding
assert (exacts[[k for k, _ in turns]].diff() >= 0).all()  # a theorem
assert visited[-1] == contrasts[best] or not on_mnist
assert abs(exacts[6] - log_p[::2].mean()) < 0.02  # contrast 1 is the model itself
assert (favourite == 6 and favourite < best) or not on_mnist
assert told["cost"] < 0.2 or not on_mnist
assert wider.mean() > 2 * se(wider) or not on_mnist

# %% [markdown] key="theta-noticed"
# The green curves touch and climb; the printed difference there is rounding. The dashed one touches nowhere. Its top lies at $a = 1$ because training put it there: this is the ELBO that was maximized, scale of the logits included. $\log p$ would like a little more contrast, and the printed cost of staying is under 0.2 nats. So it is small here, but it shows what can happen: **a $q$ that does not fit does not only lower the bound; it can also move its maximum** (Turner and Sahani, 2011). The reason is in the last line: the gap grows with the contrast. Where $q$ is misplaced, a decoder that is surer of itself pays more for it.

# %% [markdown] key="weights-text"
# ## 5. When do importance samples lie?
#
# Usually there is no quadrature. One draws $z_1, \dots, z_k$ from $q$ and reports
#
# $$\log \frac{1}{k} \sum_{i=1}^{k} w_i, \qquad w_i = \frac{p(x, z_i)}{q(z_i \mid x)},$$
#
# with $k = 5000$ as a custom (the IWAE paper uses it). Its mean is a lower bound that climbs to $\log p(x)$ as $k$ grows. How far does it get?
#
# We draw 5,000 times for each of 100 images, every hundredth of the test set. For smaller $k$ the same draws are cut into blocks, and the bounds of the blocks averaged. That these numbers climb from line to line is then algebra: a block of 50 is ten blocks of 5, and Jensen does the rest. That they stay below the exact value, on average, and by how much, is measured. The cell also compares $k = 50$ with `bounds.importance_weighted`, on draws of its own.


# %% key="weights"
@torch.no_grad()
def draw_weights(model, x, k):  # log p(x, z) - log q(z|x), z ~ q: (k, B)
    mu, logvar = model.encode(x)
    rows = []
    for _ in range(k // 100):
        eps = torch.randn(100, *mu.shape)
        z = mu + torch.exp(0.5 * logvar) * eps  # (100, B, 2)
        log_q = densities.log_normal(z, mu.expand_as(z), logvar.expand_as(z))
        log_joint = densities.log_bernoulli(x, model.decode_logits(z))
        rows.append(log_joint + densities.log_standard_normal(z) - log_q)
    return torch.cat(rows).double()


def bound_with(log_weights, k):  # the mean over blocks of k draws: (B,)
    blocks = log_weights.reshape(-1, k, log_weights.shape[1])
    return (blocks.logsumexp(1) - math.log(k)).mean(0)


torch.manual_seed(0)
asked, truth = x[50::100], every[50::100]  # (100, 784), (100,)
log_weights = draw_weights(model, asked, 5000)  # (5000, 100)
draws = (1, 5, 50, 500, 5000)
missed = torch.stack([truth - bound_with(log_weights, k) for k in draws])  # (5, 100)
for k, row in zip(draws, missed, strict=True):
    told = {"mean": row.mean().item(), "error": se(row), "median": row.median().item()}
    print(say("ledger-draws", k=k, **told))
with torch.no_grad():
    packaged = bounds.importance_weighted(model, asked, 50).double()  # other draws
difference = packaged - bound_with(log_weights, 50)
assert abs(difference.mean()) < 4 * se(difference)

# %% [markdown] key="weights-noticed"
# The median is fine: with 500 draws it misses a few hundredths of a nat. **The mean is not.** With 50 draws it misses 3.4 nats, and a hundred times the work brings less than one of them back. With 5,000 it still misses 2.6, with a standard error of 0.9. Such a miss, in the plane, is as large as what separates the VAE from the IWAE with 50 draws in Table 1 of the IWAE paper (one layer, 50 latents: 86.76 and 84.78 nats). And the mean is what tables report. Whether larger models miss as much is a question for section 6.

# %% [markdown] key="size-text"
# The cause is a few images. Do the draws themselves show which? Two numbers are in use. One is the standard error of the mean weight, in units of that mean, which is about the error of its logarithm. The other is the *effective sample size* (Kong, 1992),
#
# $$\mathrm{ESS} = \frac{\left(\sum_i w_i\right)^2}{\sum_i w_i^2},$$
#
# which is $k$ if all weights are equal and 1 if one of them is all. The two say nearly the same: the squared error is $1 / \mathrm{ESS} - 1 / k$, up to a factor that is almost 1. The next picture has the true error, known from quadrature, against the one that the draws report. Below the dotted line the truth lies within two of the reported errors.


# %% key="size"
def draws_that_count(log_weights):  # (k, B) to (B,)
    share = log_weights.softmax(0)
    return 1 / share.square().sum(0)


def own_error(log_weights):  # the standard error that the draws themselves report
    relative = (log_weights - log_weights.logsumexp(0)).exp() * len(log_weights)
    return relative.std(0) / math.sqrt(len(log_weights))


size, error = draws_that_count(log_weights), own_error(log_weights)  # (100,) each

# %% key="size-picture" jupyter={"source_hidden": true} tags=["hide-input"]
figure, (ax,) = figures.picture(say("ledger-alt-size"), width=6.5, height=3.6)
off = missed[-1].abs().clamp(min=1e-3)  # (100,) nats
rare = size < 30
ax.plot(
    error[~rare], off[~rare], "o", color=COLORS["q"], ms=4, label=say("ledger-many")
)
ax.plot(error[rare], off[rare], "^", color="black", ms=5, label=say("ledger-rare"))
line = torch.tensor([0.003, 1.0])
ax.plot(line, 2 * line, ":", color="black", label=say("ledger-two-errors"))
ax.set(xscale="log", yscale="log", xlabel=say("ledger-own-error"))
ax.set_ylabel(say("ledger-true-error"))
ax.legend(fontsize=8)
figure

# %% key="size-printed" jupyter={"source_hidden": true} tags=["hide-input"]
inside = (missed[-1].abs() < 2 * error).float()
wrong = (missed[-1] > 1).float()
told = {"share": inside.mean().item(), "wrong": wrong.mean().item()}
told |= {"wrong_error": se(wrong), "share_error": se(inside)}
print(say("ledger-honest", **told))
for low, high in ((1, 30), (30, 300), (300, 5000)):
    some = (size >= low) & (size < high)
    told = {"low": low, "high": high, "count": int(some.sum())}
    told["off"] = missed[-1][some].mean().item()
    told |= {"own": error[some].median().item(), "wrong": int(wrong[some].sum())}
    print(say("ledger-by-size", **told))
calm = (missed[-1] * (size >= 30)).argmax()  # the worst that looks honest
told = {"short": missed[-1][calm].item(), "size": size[calm].item()}
print(say("ledger-calm", own=error[calm].item(), **told))
assert (told["short"] > 10 and error[calm] < 0.3) or not on_mnist
assert (missed.mean(1).diff() < 0).all()
assert missed[-1].min() > -1 or not on_mnist  # no estimate is far too high
assert inside.mean() + 3 * se(inside) < 0.954 or not on_mnist
assert (wrong.mean() > 3 * se(wrong) and wrong.sum() >= 5) or not on_mnist
solid = missed[-1][size >= 300]
assert solid.abs().mean() < 0.1 or not on_mnist
assert solid.max() < 1 or not on_mnist
assert wrong[size < 300].mean() < 0.5 or not on_mnist
assert missed[-1].mean() > 1.5 or not on_mnist
assert missed[3].median() < 0.1 or not on_mnist  # 500 draws

# %% [markdown] key="size-noticed"
# None of our images with 300 or more effective draws misses a nat. That is no guarantee: the effective sample size sees only what was drawn. With fewer, most images are fine too, and some miss by several nats; the table counts them. Even an image with dozens of effective draws may look honest and miss tens of nats: it is the last line printed, and the silent liar. Its error bar knows nothing of the weights that were *not* drawn, and it **cannot exceed 1**: the weights that were drawn cannot vary more than if one of them had it all.
#
# The large errors all point down, and must. The mean weight is right on average, so by Markov's inequality an estimate that is $t$ nats too *high* has a probability of at most $e^{-t}$. No such limit holds below.

# %% [markdown] key="liars-text"
# How bad can it get? We look for the largest gaps among all 10,000 test images, take the ten worst, and estimate each three times with 5,000 fresh draws. They were chosen for being bad; the fair statement about all images is the table above.

# %% key="liars" jupyter={"source_hidden": true} tags=["hide-input"]
crude = torch.cat(
    [
        elbo_of(model, some, *encoded(model, some), rule=hermite(3))
        for some in x.split(2000)
    ]
)  # (10000,) with 9 points each: enough to find the largest gaps
worst = (every - crude).argsort(descending=True)[:10]
runs = []
for seed in range(3):
    torch.manual_seed(seed)
    again = draw_weights(model, x[worst], 5000)  # (5000, 10)
    short = every[worst] - bound_with(again, 5000)
    runs.append(torch.stack((short, own_error(again))))
short, own_word = torch.stack(runs).unbind(1)  # (3, 10) each

# %% key="liars-printed" jupyter={"source_hidden": true} tags=["hide-input"]
told = {"least": short.min().item(), "most": short.max().item()}
told["mean"] = short.mean().item()
print(say("ledger-lie", **told))
told = {"again": short.std(0).mean().item(), "own": own_word.mean().item()}
print(say("ledger-lie-again", **told))
assert own_word.max() <= 1.01  # no error bar of these draws can be larger
assert (short.min() > 20 and short.max() > 90) or not on_mnist

# %% key="liars-picture" jupyter={"source_hidden": true} tags=["hide-input"]
k = worst[short.mean(0).argmax()]
image = x[k : k + 1]  # (1, 784)
log_joint = chart(model, image)[0] + log_prior  # (G,)
peak = plane[log_joint.argmax()]  # (2,)
mu, _ = encoded(model, image)
with torch.no_grad():
    pictures = torch.cat((image, model.decode(torch.stack((mu[0], peak)))))
titles = ("ledger-liar-image", "ledger-liar-encoder", "ledger-liar-peak")
figure, axes = figures.picture(say("ledger-alt-liar"), columns=3, width=6, height=2.3)
for ax, picture, title in zip(axes, pictures, titles, strict=True):
    figures.show_digits(ax, picture[None], columns=1, title=say(title))
width = encoded(model, image)[1][0].diagonal()
told = {"image": k.item(), "away": ((peak - mu[0]) / width).norm().item()}
print(say("ledger-liar-away", **told))
figure

# %% [markdown] key="liars-noticed"
# With 5,000 draws the estimate is 31 to 104 nats too low. Here there are alarms, for those who look: error bars near 1, and another number, several nats away, when it is repeated. How deep the abyss is, neither tells.
#
# The last picture shows why, for the worst image. The encoder put $q$ where the decoder draws another shape, many of $q$'s standard deviations away from the place where the posterior has its peak. No draw of $q$ gets there.
#
# **Remedies.** Let the prior propose half of the draws, as in lesson 02, a *defensive mixture* (Hesterberg, 1995): in the plane nothing is then out of reach. In twenty dimensions the prior finds nothing either. Or let something else *carry* the draws to the posterior: the subject of the next section. And show the distribution of the effective sample size along with the mean.

# %% [markdown] key="path-text"
# ## 6. And with twenty latents?
#
# A plane can be summed, twenty dimensions cannot. What can hold an estimate in check where there is no exact value? A second one that errs to the other side.
#
# Take a path of densities from the prior to the posterior,
#
# $$\pi_b(z) = \frac{p(z)\, p(x \mid z)^b}{Z_b}, \qquad 0 \le b \le 1.$$
#
# At $b = 0$ it is the prior, with $Z_0 = 1$. At $b = 1$ it is the posterior, with $Z_1 = p(x)$. In between, the likelihood counts with an exponent, an inverse temperature. The slope of $\log Z_b$ is the mean of $\log p(x \mid z)$ under $\pi_b$, so that
#
# $$\log p(x) = \int_0^1 \mathbb{E}_{\pi_b}[\log p(x \mid z)]\, db.$$
#
# For the second of our four images we can do it on the chart: 101 values of $b$, crowded near 0, where the curve is steep. The area must be $\log p(x)$: this is thermodynamic integration (Gelman and Meng, 1998). Both numbers come from one chart, so what is tested is the area, and nothing else.

# %% key="path"
b_stops = torch.linspace(0, 1, 101, dtype=torch.float64) ** 4  # crowded near 0
k = chosen[1]
row = table[k].double()  # (G,) log p(x|z)


def log_mass(b):  # log of the integral of p(z) p(x|z)^b
    return (log_prior + b * row).logsumexp(0).item() + math.log(cell)


def mean_at(b):  # the mean of log p(x|z) at temperature b
    return (log_prior + b * row).softmax(0) @ row


def held_at(b):  # the area of the region that holds 95%
    share = (log_prior + b * row).softmax(0).sort(descending=True).values
    return (share.cumsum(0) < 0.95).sum().item() * cell


heights = torch.stack([mean_at(b) for b in b_stops])  # (101,)
area = torch.trapezoid(heights, b_stops).item()
print(say("ledger-area", area=area, exact=log_mass(1.0)))
assert abs(area - log_mass(1.0)) < 0.05
shrunk = [held_at(b) / held_at(0.0) for b in (0.01, 0.1, 1.0)]
print(say("ledger-shrunk", first=shrunk[0], tenth=shrunk[1], last=shrunk[2]))
assert (heights.diff() > 0).all()  # a slope that is a variance
assert shrunk[1] < 0.1 or not on_mnist

# %% [markdown] key="path-pull-text"
# Pull $b$ from 0 to 1. On the left the density shrinks from the prior (its dashed circle holds 95% of it) to the posterior. On the right, the area up to $b$. Notice how early most of it happens. The line printed above says by how much the region that holds 95% has shrunk: with a tenth of the likelihood it is already a small fraction of the prior's.

# %% key="path-picture" jupyter={"source_hidden": true} tags=["hide-input"]
coarse = slice(0, None, 2)


def draw_path(b):
    share = (log_prior + b * row).softmax(0).reshape(300, 300)
    alt = say("ledger-alt-path", b=b, mass=log_mass(b), mean=mean_at(b).item())
    figure, (left, right) = figures.picture(alt, columns=2, width=8, height=3.6)
    shown = (share / share.max())[coarse, coarse].T
    left.contourf(
        axis[coarse],
        axis[coarse],
        shown,
        [0.05, 0.2, 0.4, 0.6, 0.8, 1.01],
        cmap="Greens",
    )
    angle = torch.linspace(0, 2 * math.pi, 100)
    left.plot(2.45 * angle.cos(), 2.45 * angle.sin(), "--", color=COLORS["prior"])
    left.set(xlim=(-4, 4), ylim=(-4, 4), aspect="equal", xlabel="$z_1$", ylabel="$z_2$")
    right.plot(b_stops, heights, color=COLORS["reconstruction"])
    seen = b_stops <= b
    right.fill_between(
        b_stops[seen], heights[seen], color=COLORS["reconstruction"], alpha=0.4
    )
    right.plot(b, mean_at(b), "o", color="black")
    right.set(xlabel="$b$", ylabel=say("ledger-path-axis"), xlim=(0, 1))
    return figure


# %% key="path-panel"
path = sliders.panel(draw_path, b=sliders.slider("$b$", 0, 1, step=0.01, value=0.05))
path

# %% key="path-swept" jupyter={"source_hidden": true} tags=["hide-input"]
assert sliders.sweep(path) == 3

# %% [markdown] key="sandwich-text"
# *Annealed importance sampling* (Neal, 2001) walks along this path. Chains start with draws from the prior; at each of many values of $b$ they make a Hamiltonian move (Neal, 2011), which leaves $\pi_b$ as it is; on the way each collects a weight $w$ whose mean is $p(x)$. So the logarithm of the mean weight of some chains is, on average, **below** $\log p(x)$.
#
# Now the other way round (Grosse, Ghahramani and Adams, 2015). For images that the model drew itself, as Wu et al. (2017) use them, start with an exact draw from the *posterior* and walk back to the prior: the mean of these weights is $1 / p(x)$. Average, invert, take the logarithm: on average that is **above** $\log p(x)$. The two are a sandwich, and its width is seen without any exact value.
#
# Before it may speak where nobody can check, it has to pass two tests. First probabilistic PCA, whose $\log p(x)$ is a formula: five latents, fitted to grey test images. Its posterior, too, is a formula, so exact draws come for free. Second our VAE with two latents, on images which it drew itself: the $z$ that made an image *is* an exact draw from its posterior. The exact value comes by quadrature. A folded cell asks that the exact value lie between the two up to three standard errors, and that a sandwich which forgot to divide by its 8 chains be refused.


# %% key="sandwich-linear"
def tell_sandwich(name, found, known):
    below, above = known - found.lower, found.upper - known  # (B,) each
    told = {"below": below.mean().item(), "below_error": se(below)}
    told |= {"above": above.mean().item(), "above_error": se(above)}
    print(say("ledger-sandwich-row", name=say(f"ledger-{name}"), **told))
    return below, above


grey = data.load(train_images.name, "test", binarize=False).pixels[:5000].double()
linear = exact.LinearGaussian.fit(grey, 5)
asked = grey[:12]
mean, covariance = linear.posterior(asked)  # (12, 5), (5, 5)
torch.manual_seed(0)
start = MultivariateNormal(mean, covariance).sample((8,))  # (8, 12, 5) exact draws
found = annealing.anneal(linear, asked, chains=8, temperatures=100, start=start)
below, above = tell_sandwich("linear", found, linear.log_likelihood(asked))


# %% key="sandwich-checked" jupyter={"source_hidden": true} tags=["hide-input"]
def holds(below, above):  # the exact value lies between, as far as the chains can tell
    return below.mean() > -3 * se(below) and above.mean() > -3 * se(above)


assert holds(below, above)
assert not holds(below - math.log(8), above)  # 8 chains, and not divided by 8
assert not holds(below, above - math.log(8))
assert found.accepted.min() > 0.3

# %% key="sandwich-planar"
torch.manual_seed(0)
made, z = annealing.simulate(model, 12)  # images, and an exact posterior draw of each
options = {"chains": 8, "temperatures": 100, "leapfrogs": 5}
found = annealing.anneal(model, made, start=z, **options)
known = exact.log_likelihood(model, made, grid=400, extent=7.5)
below, above = tell_sandwich("planar", found, known)
assert holds(below, above)
assert not holds(below - math.log(8), above)
assert not holds(below, above - math.log(8))

# %% [markdown] key="sandwich-noticed"
# The sandwich holds, both times. How wide it is with 100 temperatures, the lines say: the sum of their two parts.

# %% [markdown] key="wide-text"
# Now thirty latents, the model of lesson 05 with its 15 epochs, and fifty, trained for three epochs only. No exact value exists. For images that the model drew we have the sandwich; for real images only its lower half, since nobody can draw exactly from *their* posterior. So for test images we have three numbers, all below $\log p(x)$: the ELBO, 500 importance samples, and annealing. For the last we take the 12 images, out of 200, whose effective sample size is the *smallest*: if $q$ has lost an image, it should be among them.

# %% key="sandwich-wide" jupyter={"source_hidden": true} tags=["hide-input"]
fewer = {"epochs": 3 if on_mnist else 1}
wide = {30: ready(latent_dim=30), 50: ready(latent_dim=50, **fewer)}
options["chains"] = 4
for latents, other in wide.items():
    torch.manual_seed(0)
    made, z = annealing.simulate(other, 12)
    found = annealing.anneal(other, made, start=z, **options)
    width = found.upper - found.lower  # (12,)
    told = {"lower": found.lower.mean().item(), "upper": found.upper.mean().item()}
    told |= {"width": width.mean().item(), "error": se(width)}
    print(say("ledger-wide-row", latents=latents, **told))
    assert -3 * se(width) < width.mean() < 15

# %% key="sandwich-real" jupyter={"source_hidden": true} tags=["hide-input"]
asked = x[::50]  # (200, 784)
real = {}
for latents, other in wide.items():
    torch.manual_seed(0)
    with torch.no_grad():
        elbos = bounds.elbo(other, asked, samples=20).elbo  # (200,)
    drawn = draw_weights(other, asked, 500)  # (500, 200)
    weighted, count = bound_with(drawn, 500), draws_that_count(drawn)  # (200,) each
    hardest = count.argsort()[:12]  # where the fewest draws count
    annealed = annealing.anneal(other, asked[hardest], **options).lower  # (12,)
    real[latents] = elbos, weighted, count, annealed - weighted[hardest]

# %% key="sandwich-real-printed" jupyter={"source_hidden": true} tags=["hide-input"]
for latents, (elbos, weighted, count, gain) in real.items():
    told = {"elbo": elbos.mean().item(), "weighted": weighted.mean().item()}
    told |= {"error": se(weighted), "images": len(weighted)}
    print(say("ledger-wide-real", latents=latents, **told))
    told = {"gain": gain.mean().item(), "gain_error": se(gain)}
    told |= {"most": gain.abs().max().item(), "middle": count.median().item()}
    told |= {"least": count.min().item(), "rare": int((count < 30).sum())}
    print(say("ledger-wide-hardest", latents=latents, **told))
    assert gain.abs().max() < 20 or not on_mnist
    assert -140 < weighted.mean() < -86.76 or not on_mnist  # of the table in the text
    better = weighted - elbos
    assert better.mean() > 4 * se(better) or not on_mnist

# %% [markdown] key="wide-noticed"
# The width of the sandwich is how well we know $\log p(x)$ of simulated images: to about so many nats, and not better, with these settings. On test images 500 draws gain on the ELBO. On the 12 suspects annealing and draws differ by less than twenty nats, where in the plane the ten worst missed 31 to 104; but these are the worst of 200 images and not of 10,000. Both numbers are *lower* bounds, and two that agree may both be low: how it is with the rare image, 12 of 200 cannot tell.
#
# What may these numbers be compared with? Table 1 of the IWAE paper has, for a VAE with one stochastic layer and 50 latents on dynamically binarized MNIST, $\log p(x) \approx -86.76$ by 5,000 draws; two independent reproductions have $-86.35$ and $-87.78$. It is our model with 50 latents that compares. It lies lower, and should: one hidden layer of 400 units in place of two of 200, 3 epochs in place of 3,280, a larger batch, 500 draws in place of 5,000, and 200 test images. The figures belong to the same scale, and that is all they say together.

# %% [markdown] key="draw-text"
# ## 7. And of a digit that you draw?
#
# So far the images came from the test set. Now they come from you. The widget holds the weights of our model and does the sums of section 1 itself, on a grid of its own, without Python. Draw with mouse, finger or keys. As the pen moves, everything moves: $q$ and the exact posterior on the plane, the ELBO with its two terms, the gap and the exact $\log p(x)$. A sentence compares your drawing with the images of the test set. A pixel that is grey becomes 1 with a probability equal to its grey level.
#
# - Draw a 1, slowly. Which changes more with each stroke, $\log p(x)$ or the gap?
# - Take a test image with the button and add one stroke that belongs to no digit. Does $q$ follow the posterior?
# - Hunt for a gap of more than ten nats. Where is $q$ then, and where the posterior?

# %% key="draw"
pad = DrawingExplorer(model, test_images)
pad

# %% [markdown] key="draw-noticed"
# A folded cell holds what the page compares you with, percentiles of $\log p(x)$ over 1,000 test images, against the values of section 1. Should your drawing have no value, its posterior lies outside the plane, or is too narrow for the page, which then says so.

# %% key="draw-checked" jupyter={"source_hidden": true} tags=["hide-input"]
compared = every[torch.linspace(0, len(x) - 1, 1000).long()].double()  # (1000,)
shares_below = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
known = compared.quantile(shares_below)  # (99,)
told = torch.tensor(pad.spec["percentiles"]).double()
assert (told - known).abs().max() < 0.05

# %% [markdown] key="answer-text"
# ## 8. So, how much does it miss?

# %% key="answer" jupyter={"source_hidden": true} tags=["hide-input"]
told = {"gap": gaps.mean().item(), "share": 1 - share}
told["all"] = (every - crude).mean().item()
print(say("ledger-fact-gap", **told))
change = (measured["k50"] - measured["elbo"]).mean(1).tolist()
print(say("ledger-fact-weighted", exact=change[0], elbo=change[1]))
print(say("ledger-fact-draws", missed=missed[-1].mean().item()))

# %% [markdown] key="answer-moral"
# The ELBO of this model misses about five nats on average, and a nat and a half for the typical image. For this decoder **98% of the gap is the encoder's**, measured on test images, and a search for each image, starting from good places, closes it; what an upright Gaussian has cost the decoder itself, the split does not say. Training with many draws makes a better model with a much worse ELBO: the two are different things, and the ELBO could not tell. And the usual estimate with 5,000 draws is off by nats where $q$ has lost its image, with an error bar that does not know.

# %% [markdown] key="limits"
# **What this lesson does not show.** All of it concerns one architecture and one data set, and most of it one seed; the split of the gap was repeated with two other seeds, the rest was not. Two latents are a special case: posteriors are narrow, and the encoder's misses may cost more than elsewhere. How the gap splits with 30 latents cannot be said exactly, and we have not tried to estimate it. The models of section 4 trained on for only two epochs, on a sixth of the data, once each. That the exact value is exact concerns the model: a high $\log p(x)$ does not make pictures good.

# %% [markdown] key="next"
# **To read.** Cremer, Li and Duvenaud (2018), *Inference Suboptimality in Variational Autoencoders*: the split, estimated in larger models. Burda, Grosse and Salakhutdinov (2015): the bound with $k$ draws. Rainforth et al. (2018): tighter bounds are not necessarily better. Grosse, Ghahramani and Adams (2015): the sandwich. Neal (2001): annealed importance sampling. Wu, Burda, Salakhutdinov and Grosse (2017): both, for decoders.
#
# Lesson 07 asks which likelihood a loss implies, and lesson 09 what makes the bound better, by this lesson's ledger.

# %% [markdown] key="exercises"
# ## Exercises
#
# Write your answer in place of the ellipsis and run the cell. The check answers at once: right, or a hint. The solutions are folded right below each question.
#
# ### 1. An IWAE that circulates
#
# `published_bound` is meant to be the bound with $k$ draws. It trains, and is wrong in three places. `log_conditional`, `(k, B)`, has $\log p(x \mid z_i)$ of the draws `z`, `(k, B, L)`; `mu` and `logvar`, `(B, L)`, belong to $q$. Which draw does its softmax prefer? Which $z$ does its KL know? And is a weighted mean of logarithms the logarithm of a mean? Write `my_bound`, which returns `(B,)`. A likelihood may be as small as $e^{-900}$.


# %% key="exercise-draws" tags=["nbval-check-output"]
def published_bound(log_conditional, z, mu, logvar):
    kl = densities.kl_to_standard_normal(mu, logvar)  # (B,)
    losses = kl - log_conditional  # (k, B)
    weights = losses.softmax(0)
    return -(weights * losses).sum(0)  # (B,)


def my_bound(log_conditional, z, mu, logvar): ...


checks.bound_of_draws(my_bound)


# %% key="solution-draws" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output", "solution"]
def solution_bound(log_conditional, z, mu, logvar):
    log_q = densities.log_normal(z, mu.expand_as(z), logvar.expand_as(z))  # (k, B)
    log_weights = log_conditional + densities.log_standard_normal(z) - log_q
    return log_weights.logsumexp(0) - math.log(len(z))  # (B,)


verdict = checks.bound_of_draws(solution_bound)
assert verdict
verdict

# %% [markdown] key="exercise-size-text"
# ### 2. How many draws count?
#
# Write the effective sample size. `log_weights` is `(k, B)`; return `(B,)`. Here, too, a weight may be as small as $e^{-900}$, which is 0 to the machine.


# %% key="exercise-size" tags=["nbval-check-output"]
def my_size(log_weights): ...


checks.draws_that_count(my_size)


# %% key="solution-size" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output", "solution"]
def solution_size(log_weights):
    return (2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)).exp()


verdict = checks.draws_that_count(solution_size)
assert verdict
verdict

# %% [markdown] key="exercise-sandwich-text"
# ### 3. The sandwich, the wrong way round
#
# `forward` and `reverse` are log weights, `(S, B)`: those of the chains from the prior, whose mean weight is $p(x)$, and those of the chains back from the posterior, whose mean weight is $1 / p(x)$. `published_sandwich` returns the bound below and the bound above, `(2, B)`. Someone noticed that the upper one does not come down, however many chains there are. Write the function anew. To think about: is the published upper value still an upper bound?


# %% key="exercise-sandwich" tags=["nbval-check-output"]
def published_sandwich(forward, reverse):
    lower = forward.logsumexp(0) - math.log(len(forward))  # (B,)
    upper = (-reverse).logsumexp(0) - math.log(len(reverse))  # (B,)
    return torch.stack((lower, upper))


def my_sandwich(forward, reverse): ...


checks.sandwich(my_sandwich)


# %% key="solution-sandwich" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output", "solution"]
def solution_sandwich(forward, reverse):
    lower = forward.logsumexp(0) - math.log(len(forward))  # (B,)
    upper = math.log(len(reverse)) - reverse.logsumexp(0)  # (B,) average, then invert
    return torch.stack((lower, upper))


verdict = checks.sandwich(solution_sandwich)
assert verdict
verdict

# %% [markdown] key="solution-sandwich-text"
# <details><summary>Answer to the question to think about</summary>
#
# Yes, and in general a worse one. The mean of the inverted weights is at least the inverse of the mean weight, so it lies above the right value for any draws. With more chains it does not approach $p(x)$ but the mean of $1 / w$, which is larger, and may be infinite.
#
# </details>

# %% [markdown] key="exercise-lean-text"
# ### 4. What does a lean cost?
#
# A posterior is Gaussian with the covariance $C$, given as `(B, L, L)`. The best $q$ with independent coordinates, in $\mathrm{KL}(q \,\|\, p)$, has the same mean. Its variances are not those of the diagonal of $C$ (which ones are they?); in the opposite divergence they would be. Return what it misses, $\mathrm{KL}(q \,\|\, p)$, for each covariance: `(B,)`. With $L = 2$ and correlation $\rho$ it must be the formula of section 4.


# %% key="exercise-lean" tags=["nbval-check-output"]
def my_price(covariance): ...


checks.lean_price(my_price)


# %% key="solution-lean" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output", "solution"]
def solution_price(covariance):
    precisions = torch.linalg.inv(covariance).diagonal(dim1=-2, dim2=-1)  # (B, L)
    return 0.5 * (precisions.log().sum(-1) + torch.logdet(covariance))  # (B,)


verdict = checks.lean_price(solution_price)
assert verdict
verdict
