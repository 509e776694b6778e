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
# # What does a VAE add to an autoencoder, in a fair contest?
#
# An autoencoder squeezes an image into a few numbers, its *code*, and rebuilds the image from them. Lesson 00 went straight to its variational sibling. What for? Much of what one reads compares a trained VAE with an autoencoder from which nobody ever learnt how to draw. This lesson makes the contest fair, and then computes the result by quadrature, to a fraction of a nat in the mean.
#
# **By the end you will be able to** say what a linear autoencoder finds, and what it leaves open; make of any autoencoder a model with a density; compute the exact $\log p(x)$ of that model; spot the unfair comparison that circulates; and say what the KL and the noise bring, and what they cost.
#
# **You need** lesson 00.
#
# **Time:** 50 minutes of reading; about a minute of computing. The first time, some minutes more, while the models are trained. Two further seeds come from a file of results.

# %% key="setup"
import json
import math
from copy import deepcopy
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.distributions import (
    Categorical,
    Independent,
    LowRankMultivariateNormal,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
)

from vae_teach import data, densities, exact, figures, nets, sliders, train
from vae_teach.bounds import Bound, reconstruction
from vae_teach.checks import autoencoders as checks
from vae_teach.words import say, use_language

use_language("en")

# %% [markdown] key="linear-text"
# ## 1. What does the simplest autoencoder find?
#
# Take away everything that makes a network deep. The encoder is a matrix, the decoder is a matrix, the code has two numbers, and the cost is the squared error. The images come in grey levels, from 0 to 1, and the mean image is subtracted from each.
#
# For such a network the images hardly matter one by one. Let $E$ be the encoder, $D$ the decoder and $C$ the covariance matrix of the pixels. The mean squared error is
#
# $$\mathrm{tr}(C) - 2\,\mathrm{tr}(E\,C\,D) + \mathrm{tr}(E\,C\,E^\top D^\top D).$$
#
# That is algebra: write out $\lVert x - D E x \rVert^2$ and average. Of the data, only the mean and the covariance are in it. So the next cell collects these two, once, from all the training images. The numbers in the text are those of MNIST. In what is printed, the number after ± is always one standard error.

# %% key="moments"
device = torch.device("cpu")
if torch.accelerator.is_available():
    device = torch.accelerator.current_accelerator()
train_images = data.load("auto", "train", device=device)
on_mnist = train_images.name == "mnist"  # the text tells its numbers


def grey_parts():  # the grey levels of the training images, some at a time
    for part in train_images.pixels.cpu().split(6000):
        yield data.grey(part).double()  # (6000, 784), in [0, 1]


count = len(train_images)
mean = sum(part.sum(0) for part in grey_parts()) / count  # (784,)
second = sum(part.T @ part for part in grey_parts()) / count  # (784, 784)
covariance = second - torch.outer(mean, mean)  # (784, 784)
values, vectors = torch.linalg.eigh(covariance)  # ascending; eigenvectors in columns
total = values.sum().item()
told = {"first": values[-1].item(), "second": values[-2].item()}
print(say("autoencoders-moments", name=train_images.name, total=total, **told))
assert abs(total - 52.7250) < 5e-5 or not on_mnist

# %% [markdown] key="linear-train-text"
# Now we train twice, from two random starts, with L-BFGS, a gradient method for which no step size has to be chosen. At the end we compare the formula with the squared error of the images themselves.


# %% key="linear-trained"
def squared_error(decoder, encoder):  # (784, L), (L, 784) to one number
    through = encoder @ covariance  # (L, 784)
    kept = ((through @ encoder.T) * (decoder.T @ decoder)).sum()
    return covariance.trace() - 2 * (through * decoder.T).sum() + kept


def train_linear(seed, latents=2):
    torch.manual_seed(seed)
    decoder = (0.05 * torch.randn(784, latents).double()).requires_grad_()
    encoder = (0.05 * torch.randn(latents, 784).double()).requires_grad_()
    options = {"max_iter": 400, "tolerance_change": 0, "tolerance_grad": 1e-9}
    descent = torch.optim.LBFGS(
        [decoder, encoder], line_search_fn="strong_wolfe", **options
    )

    def cost():
        descent.zero_grad()
        value = squared_error(decoder, encoder)
        value.backward()
        return value

    descent.step(cost)
    return decoder.detach(), encoder.detach()


linear = [train_linear(seed) for seed in (0, 1)]  # two pairs of decoder and encoder
decoder, encoder = linear[0]
on_images = 0.0
for part in grey_parts():
    centred = part - mean  # (6000, 784)
    rebuilt = centred @ encoder.T @ decoder.T  # (6000, 784)
    on_images += (centred - rebuilt).square().sum().item() / count
told = {"formula": squared_error(decoder, encoder).item(), "images": on_images}
print(say("autoencoders-linear-cost", left=values[:-2].sum().item(), **told))
assert abs(told["formula"] - on_images) < 1e-8 * on_images
assert 0 <= on_images - values[:-2].sum() < 1e-4 * on_images

# %% [markdown] key="pca-text"
# The cost ends where it had to. The third number is the sum of all the eigenvalues of $C$ but the two largest: it is what is left when the centred images are projected onto the eigenvectors of the two largest. That projection is **principal component analysis (PCA)**, and no linear map through two numbers leaves less (Eckart and Young, 1936). That a linear autoencoder ends there was shown by Bourlard and Kamp (1988) and by Baldi and Hornik (1989), who also showed that its cost has no other minima to get stuck in.
#
# Did the network find the *same plane*? In a space of 784 dimensions two planes are compared by their **principal angles**: the largest is zero if and only if the planes are the same. And did it find the same *axes*? The picture shows, as images, the two columns of each decoder beside the two axes of PCA; middle grey is zero.

# %% key="pca-angle"
pca = vectors[:, -2:].flip(1)  # (784, 2), the largest first


def largest_angle(one, other):  # radians between the planes that the columns span
    one, other = torch.linalg.qr(one)[0], torch.linalg.qr(other)[0]  # (784, 2) each
    outside = one - other @ (other.T @ one)  # (784, 2) what the other plane lacks
    return torch.linalg.matrix_norm(outside, 2).clamp(max=1).asin().item()


def degrees_between(one, other):
    cosine = torch.cosine_similarity(one, other, dim=0)
    return torch.rad2deg(cosine.abs().acos()).item()


for run, (decoder, _) in enumerate(linear):
    told = {"angle": largest_angle(decoder, pca), "run": run + 1}
    told["between"] = degrees_between(*decoder.T)
    told["first"] = degrees_between(decoder[:, 0], pca[:, 0])
    print(say("autoencoders-angle", **told))
    assert told["angle"] < 1e-3
    assert told["between"] < 85  # degrees: PCA's axes are at right angles
    assert told["first"] > 5


# %% key="pca-picture" jupyter={"source_hidden": true} tags=["hide-input"]
def as_images(columns):  # zero in middle grey
    columns = columns / columns.abs().amax(0)
    return (0.5 + 0.5 * columns.T).float()


alt = say("autoencoders-alt-pca")
figure, axes = figures.picture(alt, columns=3, width=7.5, height=1.9)
titles = ["PCA"] + [say("autoencoders-run", run=k) for k in (1, 2)]
shown = [pca] + [decoder for decoder, _ in linear]
for ax, title, columns in zip(axes, titles, shown, strict=True):
    figures.show_digits(ax, as_images(columns), columns=2, title=title)
figure

# %% [markdown] key="axes-text"
# **The same plane, other axes.** Take any invertible matrix $A$ of two rows and two columns. The decoder $D A$ with the encoder $A^{-1} E$ rebuilds every image exactly as $D$ with $E$ does, since $D A A^{-1} E = D E$. So the cost cannot prefer one pair of axes, and where the training ends is decided by where it began. The next cell tries it with a random $A$. It also shows what *is* fixed: at the optimum $E D = I$, so the encoder undoes the decoder.

# %% key="axes" tags=["nbval-check-output"]
torch.manual_seed(0)
turn = torch.randn(2, 2, dtype=torch.float64)  # A
decoder, encoder = linear[0]
moved = squared_error(decoder @ turn, torch.linalg.inv(turn) @ encoder)
change = abs(moved - squared_error(decoder, encoder)).item()
away = (encoder @ decoder - torch.eye(2)).abs().max().item()
assert change < 1e-9
assert away < 1e-3
print(say("autoencoders-axes"))

# %% [markdown] key="ppca-text"
# ## 2. From a plane to a density
#
# The linear autoencoder rebuilds images. It cannot say how probable an image is, and it cannot draw a new one. Two additions repair that: the code is drawn from $\mathcal{N}(0, I)$, and around the point of the plane each pixel gets Gaussian noise of variance $\sigma^2$. The result is **probabilistic PCA** (Tipping and Bishop, 1999):
#
# $$z \sim \mathcal{N}(0, I), \qquad x \mid z \sim \mathcal{N}(W z + b, \sigma^2 I).$$
#
# Here the integral over $z$, which lesson 00 could not do, is a formula: $x \sim \mathcal{N}(b, W W^\top + \sigma^2 I)$. The columns of the best $W$ span PCA's subspace; the best $\sigma^2$ is the mean of the eigenvalues left out. With $q$ latents and the eigenvalues $\lambda_j$ in descending order, the mean log density at the best parameters is
#
# $$-\frac{1}{2}\Big(\sum_{j \le q} \log \lambda_j + (784 - q) \log \sigma^2 + 784 \log 2\pi + 784\Big).$$
#
# Again only the mean and the covariance count. So 1,568 made-up points with the mean and the covariance of MNIST give the same average as the 60,000 images: the mean image plus and minus $\sqrt{784\,\lambda_j}$ along each eigenvector. That is what the package is given below. For two latents, PyTorch's own low-rank Gaussian then goes through the images themselves.

# %% key="ppca"
arms = (784 * values.clamp_min(0)).sqrt() * vectors  # (784, 784), one to a column
stand_ins = torch.cat((mean + arms.T, mean - arms.T))  # (1568, 784)
assert (torch.cov(stand_ins.T, correction=0) - covariance).abs().max() < 1e-12
known = {2: 12.43, 5: 90.70, 10: 182.15, 20: 299.76, 32: 400.43, 50: 507.91}
known[100] = 680.95
for q, digits in known.items():
    ppca = exact.LinearGaussian.fit(stand_ins, q)
    log_density = ppca.log_likelihood(stand_ins).mean().item()
    logs = values[-q:].log().sum() + (784 - q) * math.log(ppca.variance)
    by_hand = -0.5 * (logs + 784 * (math.log(2 * math.pi) + 1)).item()
    assert abs(log_density - by_hand) < 1e-6
    assert abs(log_density - digits) < 0.0051 or not on_mnist
    told = {"value": log_density, "variance": ppca.variance}
    print(say("autoencoders-ppca", latents=q, **told))

# %% key="ppca-images"
ppca = exact.LinearGaussian.fit(stand_ins, 2)
noise = torch.full((784,), ppca.variance, dtype=torch.float64)
oracle = LowRankMultivariateNormal(mean, ppca.weight, noise)
each = torch.cat([oracle.log_prob(part) for part in grey_parts()])  # (60000,)
told = {"value": each.mean().item(), "error": train.standard_error(each)}
print(say("autoencoders-ppca-images", count=count, **told))
assert abs(each.mean() - ppca.log_likelihood(stand_ins).mean()) < 1e-6

# %% [markdown] key="ppca-noticed"
# There is the first exact $\log p(x)$ of this course, and it is *positive*. No mistake: it is the log of a density, not of a probability. The grey levels are 256 separate values, and over them a density may grow as high as it likes. No noise was added to spread these values (*dequantization*). The number serves to compare models **on these very pixels**, and for nothing else. Lesson 07 will take this up. From here on pixels are bits, $p(x)$ is a probability, and no number below may be compared with one above.

# %% [markdown] key="deep-text"
# ## 3. A deep autoencoder, and how not to sample it
#
# Now the network of lesson 00: 784-400-2-400-784, Bernoulli pixels, 15 epochs. The autoencoder is trained to rebuild, by the cost $-\log p(x \mid z)$ at its code $z$; there is no noise and no KL. The VAE is that of lesson 00. One of each comes from the cache, or is trained now: seed 0. The lesson's own cells were also run for the seeds 1 and 2, from other initial weights; what they found is read from a file.

# %% key="models"
SEED = 0  # of the models of this lesson; other seeds stand in a file of results
make = partial(nets.AE, latent_dim=2)
vae, _ = train.trained(train_images, seed=SEED)
ae, _ = train.trained(train_images, make=make, objective=reconstruction, seed=SEED)
test_images = data.load(train_images.name, "test", device=device)
x = test_images.pixels[::10]  # (1000, 784), every tenth test image


@torch.no_grad()
def codes_of(model, draw=True):  # of the training images; a VAE's from their clouds
    torch.manual_seed(0)
    parts = []
    for images, _ in train_images.batches(1000, shuffle=False):
        code = model.encode(images)
        if isinstance(code, tuple):  # a draw, or else the cloud's middle
            code = model.reparameterize(*code) if draw else code[0]
        parts.append(code)
    return torch.cat(parts).cpu().double()  # (60000, 2)


codes = {"vae": codes_of(vae), "ae": codes_of(ae)}
spread = {name: z.std(0) for name, z in codes.items()}  # (2,) each
told = {f"{name}_{k + 1}": spread[name][k].item() for name in codes for k in (0, 1)}
print(say("autoencoders-spread", seed=SEED, **told))
found = {"ratio": [(spread["ae"].min() / spread["vae"].max()).item()]}
assert found["ratio"][0] > 1.5 or not on_mnist

# %% key="results-read" jupyter={"source_hidden": true} tags=["hide-input"]
RESULTS = Path("../../benchmarks/results/autoencoders.json")
measured = None  # what this lesson's cells give for the seeds 0, 1 and 2
if on_mnist and RESULTS.exists():
    measured = json.loads(RESULTS.read_text("utf-8"))
    about = {key: measured["machine"][key] for key in ("date", "commit", "torch")}
    print(say("autoencoders-measured-on", **about))
else:
    print(say("autoencoders-none"))


def note(key, each):  # a number for each image: keep its mean and standard error
    found[key] = [each.double().mean().item(), train.standard_error(each.double())]
    return {"mean": found[key][0], "error": found[key][1]}


def in_seeds(key):  # [mean, standard error] of each seed; of this one if no more
    return measured["results"]["found"][key] if measured else [found[key]]


def tell_seeds(key, what):
    if measured:
        for seed, (mean, error) in enumerate(in_seeds(key)):
            print(
                say("autoencoders-seed", what=what, seed=seed, mean=mean, error=error)
            )


# %% [markdown] key="map-text"
# The next picture maps the codes of both models, one colour per digit. The blue rings are the same in both: they hold 50% and 95% of $\mathcal{N}(0, I)$. The orange ellipse holds 95% of the Gaussian that has the mean and the covariance of the codes. Mind the scale of the axes.
#
# The cell below the picture counts two things, over all the training codes and three seeds: how many lie inside the outer ring, and how much of the fitted Gaussian lies in *holes*, tiles with less than half of the codes that it expects there. The VAE's codes are draws from its clouds, which blurs its map a little; its clouds' centres stand in lines of their own.

# %% key="map-picture" jupyter={"source_hidden": true} tags=["hide-input"]
angle = torch.linspace(0, 2 * math.pi, 200).double()
circle = torch.stack((angle.cos(), angle.sin()))  # (2, 200)
blue, orange = figures.COLORS["prior"], figures.COLORS["q"]


def draw_rings(ax, z):  # of N(0, I), and of the Gaussian with the codes' moments
    for mass, style in ((0.5, "-"), (0.95, "--")):
        ring = math.sqrt(-2 * math.log(1 - mass)) * circle
        name = say("prior-ring", percent=round(100 * mass))
        ax.plot(*ring, style, color=blue, linewidth=1.5, label=name)
    ellipse = z.mean(0)[:, None] + torch.linalg.cholesky(torch.cov(z.T)) @ ring
    ax.plot(*ellipse, "-.", color=orange, label=say("autoencoders-ellipse"))
    return ellipse  # (2, 200)


labels = train_images.labels.cpu()
figure, axes = figures.picture(say("autoencoders-alt-map"), columns=2, height=4.1)
figure.stored_dpi = figures.SHOWN_DPI
for ax, name in zip(axes, ("ae", "vae"), strict=True):
    z = codes[name]
    for digit, color in enumerate(figures.DIGIT_COLORS):
        some = z[:3000][labels[:3000] == digit]  # (n, 2)
        ax.plot(*some.T, marker=f"${digit}$", color=color, ms=4, ls="", mew=0.2)
    ellipse = draw_rings(ax, z)
    low, high = z.quantile(torch.tensor([0.002, 0.998]).double(), 0)  # (2,) each
    low, high = low.minimum(ellipse.amin(1)), high.maximum(ellipse.amax(1))
    middle, reach = (low + high) / 2, (high - low).max().item() / 2
    ax.set(xlabel="$z_1$", ylabel="$z_2$", aspect="equal")
    ax.set_xlim(middle[0].item() - reach, middle[0].item() + reach)
    ax.set_ylim(middle[1].item() - reach, middle[1].item() + reach)
    ax.set_title(say(f"autoencoders-{name}"), loc="left", fontsize=10)
figure.legend(
    *axes[0].get_legend_handles_labels(),
    loc="outside lower center",
    ncols=3,
    fontsize=8,
    frameon=False,
)
figure

# %% key="holes" jupyter={"source_hidden": true} tags=["hide-input"]
edges = torch.linspace(-4, 4, 33, dtype=torch.float64)
masses = torch.special.ndtr(edges).diff()  # (32,) of N(0, 1) along one axis
masses = masses[:, None] * masses  # (32, 32) of N(0, I)


def holes(z):  # how much of the fitted Gaussian lies where few codes are
    root = torch.linalg.cholesky(torch.cov(z.T))
    u = torch.linalg.solve(root, (z - z.mean(0)).T).T  # of mean 0 and covariance I
    counts = torch.histogramdd(u, [edges, edges]).hist  # (32, 32)
    return masses[counts < len(z) * masses / 2].sum().item()


ring = math.sqrt(-2 * math.log(0.05))  # the radius that holds 95% of N(0, I)
torch.manual_seed(0)
control = holes(torch.randn(count, 2, dtype=torch.float64))
for name, z in (codes | {"middles": codes_of(vae, draw=False)}).items():
    found[f"inside-{name}"] = [(z.norm(dim=1) < ring).double().mean().item()]
    found[f"holes-{name}"] = [holes(z)]
    every = {key: in_seeds(f"{key}-{name}") for key in ("inside", "holes")}
    for seed, pair in enumerate(zip(*every.values(), strict=True)):
        told = dict(zip(every, (value for (value,) in pair), strict=True))
        told["who"] = say(f"autoencoders-{name}")
        print(say("autoencoders-holes", seed=seed if measured else SEED, **told))
print(say("autoencoders-holes-control", control=control))
assert control < 0.03
assert found["inside-ae"][0] < 0.5 or not on_mnist
assert 0.6 < found["inside-vae"][0] < 0.95 or not on_mnist
assert min(in_seeds("holes-ae")) > max(in_seeds("holes-vae")) or not on_mnist

# %% [markdown] key="map-noticed"
# Most of this autoencoder's codes lie outside the ring, and its map has more holes than the VAE's in each seed. Nobody asked its codes to stay near the origin, and they do not. They spread over several units, each seed in its own way; no term of the training controls their law. Most of the VAE's codes lie inside the outer ring, though fewer than the 95% of $\mathcal{N}(0, I)$: the KL charged them for the distance.
#
# Now the demonstration that half the web shows: draw $z$ from $\mathcal{N}(0, I)$, decode it with both networks, and announce that the autoencoder "cannot generate". Look at the two rows, then at the blue rings in the left map. What did the upper row do wrong?

# %% key="strawman-picture" jupyter={"source_hidden": true} tags=["hide-input"]
torch.manual_seed(1)
z = torch.randn(10, 2, device=device)  # the same for both decoders
with torch.no_grad():
    rows = {
        say("autoencoders-strawman-row"): ae.decode(z),
        say("autoencoders-vae-row"): vae.decode(z),
    }
figures.gallery(rows, columns=10, alt=say("autoencoders-alt-strawman"))

# %% [markdown] key="strawman-text"
# It asked the autoencoder at the wrong place. The VAE was *trained* to make its codes resemble $\mathcal{N}(0, I)$. Nobody told the autoencoder of that distribution, and the rings cover only a small piece of its map. This is a **strawman**: an opponent weakened on purpose, or in haste.
#
# How much does the haste cost? A decoder with any density over its codes is a latent-variable model, and has a $p(x) = \int p(x \mid z)\,p(z)\,dz$. With two latents we compute this integral by quadrature: a sum over a fine grid. The strawman's prior is $\mathcal{N}(0, I)$. The plane must reach far, because an image whose code lies far out takes its probability from there: here, to 16 in each direction. The next cell prints the mean over one in ten test images, 1,000 in all; below it, the difference in each seed.


# %% key="strawman"
def value(model, log_prior, grid, extent, images=x):  # nats, and how far off
    options = {"grid": grid, "extent": extent, "log_prior": log_prior}
    pair = exact.log_likelihood_with_error(model, images, **options)
    return [part.cpu().double() for part in pair]  # (B,) each


standard_normal = densities.log_standard_normal
contestants = {  # model, log p(z), points along each axis, where the plane ends
    "strawman": (ae, standard_normal, 500, 16.0),
    "vae": (vae, standard_normal, 300, 6.0),
}
valued = {name: value(*each) for name, each in contestants.items()}
lost = valued["vae"][0] - valued["strawman"][0]  # (1000,) paired
told = {name: exactly.mean().item() for name, (exactly, _) in valued.items()}
told |= {"lost": lost.mean().item(), "error": note("strawman-lost", lost)["error"]}
print(say("autoencoders-strawman-loss", seed=SEED, **told))
tell_seeds("strawman-lost", say("autoencoders-lost"))
for mean, error in in_seeds("strawman-lost"):
    assert mean > max(5, 4 * error) or not on_mnist

# %% [markdown] key="strawman-noticed"
# In each seed the strawman loses to the VAE by more than five nats per image, many times the standard error. If the story ended here, the conclusion would seem clear. But the same network has not yet had a chance to use its own codes.

# %% [markdown] key="fair-text"
# ## 4. The fair contest
#
# To be fair, we let the autoencoder *choose* its density, after its training, by looking at its own codes. This is known as *ex-post density estimation* (Ghosh et al., 2020). They did it to autoencoders and to VAEs, with the two densities that we take here, and judged by the look of the draws (FID); a fitted prior helped both. What we have not found published is the exact $\log p(x)$ of both. Two choices:
#
# - **One Gaussian** with a full covariance: the mean and the covariance of the 60,000 training codes.
# - **A mixture of ten Gaussians**, each with a full covariance, fitted to a quarter of the codes by the EM algorithm (*expectation-maximization*; Dempster, Laird and Rubin, 1977).
#
# EM alternates two steps. First each code is shared out among the ten Gaussians, in proportion to the weight times the density of each one there. Then each Gaussian takes the mean and the covariance of what it was given. No turn lowers the likelihood of the codes, and the cell asserts that.


# %% key="mixture"
def fit_mixture(z, count=10, turns=80):  # z (N, 2)
    torch.manual_seed(0)
    means = z[torch.randperm(len(z))[:count]]  # (K, 2)
    covariances = torch.cov(z.T).expand(count, 2, 2) / count  # (K, 2, 2)
    shares, before = torch.full((count,), 1 / count).to(z), -math.inf
    for _ in range(turns):
        parts = MultivariateNormal(means, covariances)
        joint = parts.log_prob(z[:, None]) + shares.log()  # (N, K)
        now = joint.logsumexp(1).mean().item()
        assert now > before - 1e-9
        before, given = now, joint.softmax(1)  # (N, K)
        weights = given.sum(0)  # (K,)
        shares, means = weights / len(z), given.T @ z / weights[:, None]
        apart = z[:, None] - means  # (N, K, 2)
        covariances = torch.einsum("nk,nki,nkj->kij", given, apart, apart)
        covariances = covariances / weights[:, None, None]
    parts = MultivariateNormal(means, covariances)  # of the last turn
    return MixtureSameFamily(Categorical(shares), parts)


# %% [markdown] key="standard-text"
# The codes of each autoencoder have a scale of their own. To use one grid for all seeds, we **standardize** them: with $m$ the mean of the codes and $L$ the Cholesky root of their covariance $S$, $L L^\top = S$, we write each code as $m + L u$. In the coordinate $u$ the fitted Gaussian is $\mathcal{N}(0, I)$, and the decoder becomes $u \mapsto \mathrm{dec}(m + L u)$. Nothing else changes: $p(x)$ is an integral, and an integral may change its variable. (The density of the codes does change, by a factor: that is exercise 4.)


# %% key="standardized"
class Standardized(nn.Module):  # the same model, its latent moved and scaled
    latent_dim = 2

    def __init__(self, model, codes):
        super().__init__()
        self.model, self.mean = model, codes.mean(0).float().to(device)
        self.root = torch.linalg.cholesky(torch.cov(codes.T)).float().to(device)

    def encode(self, x):  # (B, 784) to (B, 2)
        code = self.model.encode(x)
        code = code[0] if isinstance(code, tuple) else code  # a cloud's middle
        return self.standardize(code)

    def standardize(self, codes):
        return torch.linalg.solve(self.root, (codes - self.mean).T).T

    def decode_logits(self, u):  # (B, 2) to (B, 784)
        return self.model.decode_logits(self.mean + u @ self.root.T)


def density(law):  # as `exact` takes it: points in any precision, anywhere
    def log_prior(z):  # (G, 2) to (G,), some at a time
        return torch.cat([law.log_prob(p.cpu().double()) for p in z.split(2**16)])

    return lambda z: log_prior(z).to(z)


standard = {"ae": Standardized(ae, codes["ae"]), "vae": Standardized(vae, codes["vae"])}
u = standard["ae"].standardize(codes["ae"].float().to(device)).cpu().double()
gaussians, mixtures = {}, {}
for name, z in {"ae": u, "vae": codes["vae"]}.items():  # (60000, 2)
    fitted, fresh = z[::4], z[1::4]  # (15000, 2) each
    gaussians[name] = MultivariateNormal(z.mean(0), torch.cov(z.T))
    mixtures[name] = fit_mixture(fitted)
    mass = exact.prior_mass(density(mixtures[name]), grid=300, extent=6.0, like=x)
    gain = mixtures[name].log_prob(fresh) - gaussians[name].log_prob(fresh)  # (15000,)
    told = {"mass": mass, "gain": gain.mean().item()}
    print(say(f"autoencoders-mixture-{name}", **told))
    assert abs(mass - 1) < 1e-3
    assert gain.mean() > 4 * train.standard_error(gain) or not on_mnist

# %% [markdown] key="contest-text"
# Everything is set. The same 1,000 test images for each contestant, the exact $\log p(x)$ of each image:
#
# 1. the **VAE** as it was trained, with its prior $\mathcal{N}(0, I)$;
# 2. the VAE's decoder with a Gaussian, and with a mixture, fitted to its codes in place of the prior, so that the VAE, too, may have a second look;
# 3. the **autoencoder** with one Gaussian;
# 4. the autoencoder with the mixture.
#
# The strawman opens the table. The next cell compares image by image, for this seed and for those of the file; its last line is the same difference on training images, on which an autoencoder might have overfitted. Before you run the cell: which one do you expect to win, and by how much?

# %% key="contest"
contestants |= {
    "vae-gaussian": (vae, density(gaussians["vae"]), 300, 6.0),
    "vae-mixture": (vae, density(mixtures["vae"]), 300, 6.0),
    "ae-gaussian": (standard["ae"], standard_normal, 500, 6.0),
    "ae-mixture": (standard["ae"], density(mixtures["ae"]), 500, 6.0),
}
for name, each in contestants.items():
    valued[name] = valued[name] if name in valued else value(*each)
table = {name: exactly for name, (exactly, _) in valued.items()}  # (1000,) each
for name, each in table.items():
    told = note(name, each)
    over = each - table["vae"]  # (1000,) image by image
    told |= {"over": over.mean().item(), "over_error": train.standard_error(over)}
    note(f"better-{name}", over > 0)
    told["better"] = found[f"better-{name}"][0]
    print(say("autoencoders-contest", who=say(f"autoencoders-{name}"), **told))

# %% key="seeds" jupyter={"source_hidden": true} tags=["hide-input"]
PAIRS = (
    ("vae-gaussian", "vae"),
    ("vae-mixture", "vae"),
    ("ae-gaussian", "vae"),
    ("ae-mixture", "vae"),
    ("ae-gaussian", "vae-gaussian"),
    ("ae-mixture", "vae-mixture"),
    ("ae-mixture", "ae-gaussian"),
)
differences = {}  # from two names to the mean and standard error in each seed
for one, other in PAIRS:
    note(f"{one}-minus-{other}", table[one] - table[other])
    means, errors = zip(*in_seeds(f"{one}-minus-{other}"), strict=True)
    differences[one, other] = means, errors
    told = {"one": say(f"autoencoders-{one}"), "other": say(f"autoencoders-{other}")}
    pairs = zip(means, errors, strict=True)
    told["values"] = "; ".join(
        say("autoencoders-plus", mean=mean, error=error) for mean, error in pairs
    )
    print(say("autoencoders-minus", **told))
    if len(means) > 1:
        told = {"mean": sum(means) / 3, "spread": torch.tensor(means).std().item()}
        print(say("autoencoders-minus-seeds", **told))
for (one, other), (means, errors) in differences.items():
    if one.startswith("ae") and other.startswith("vae"):
        for mean, error in zip(means, errors, strict=True):
            assert mean > 3 * error or not on_mnist
        assert sum(means) / len(means) > 1.5 or not on_mnist
    elif one.startswith("vae"):
        assert all(-0.1 < mean < 0.5 for mean in means) or not on_mnist
assert min(differences["ae-mixture", "ae-gaussian"][0]) > 0 or not on_mnist
for name in ("ae-gaussian", "ae-mixture"):
    for share, error in in_seeds(f"better-{name}"):
        assert 0.5 < share < 0.7 or not on_mnist
        assert share - 0.5 > 2 * error or not on_mnist
if measured:
    for one, other in (("ae-gaussian", "vae"), ("ae-mixture", "vae")):
        assert sum(differences[one, other][0]) / 3 > 2
    mean, error = in_seeds("train-ae-gaussian-minus-vae-gaussian")[SEED]
    print(say("autoencoders-train", mean=mean, error=error))

# %% key="contest-picture" jupyter={"source_hidden": true} tags=["hide-input"]
figure, (ax,) = figures.picture(say("autoencoders-alt-contest"), height=2.9)
blue, orange = figures.COLORS["prior"], figures.COLORS["q"]
names = ("vae-gaussian", "vae-mixture", "ae-gaussian", "ae-mixture")
looks = zip(names, ("o", "s", "^", "D"), (blue, blue, orange, orange), strict=True)
for row, (name, marker, color) in enumerate(looks):
    means, errors = differences[name, "vae"]
    for seed, (mean, error) in enumerate(zip(means, errors, strict=True)):
        height = -row + 0.18 * (1 - seed)  # the first seed on top
        bar = {"xerr": 4 * error, "capsize": 3, "elinewidth": 1}
        ax.errorbar(mean, height, fmt=marker, color=color, ms=6, **bar)
ax.axvline(0, color="black", linestyle=":", linewidth=1)
ax.set_yticks([-float(k) for k in range(4)], [say(f"autoencoders-{n}") for n in names])
ax.set(xlabel=say("autoencoders-over-axis"), ylim=(-3.5, 0.5))
figure

# %% [markdown] key="contest-noticed"
# **The autoencoder wins.** With either density it is above the VAE in each of the seeds, by more than three standard errors, also where the VAE has a fitted density of the same kind. On average over three seeds it is more than two nats per image above the VAE as trained; the mixture adds something in each seed. The second look gains the VAE less than half a nat: its codes already resemble the prior. Longer training may change the order; neither model was trained to the end. This is the opposite of the strawman's order, with the *same networks*: all that changed is where one draws.
#
# Read the size with care. The autoencoder is better for little more than half of the images; its advantage is in the mean. The standard error of each row, about a nat and a half, comes from how much images differ from one another. The difference, taken image by image, feels that much less. A standard error is about other test images for these same models; what another training would do is told by the spread between seeds, printed below each difference. And the contest is this one: two latents, this network, 15 epochs. Others were not measured here.

# %% [markdown] key="trust-text"
# **May these numbers be trusted?** We know of nobody else's exact values, so let us try to break ours. The value of a decoder without an encoder has been estimated before, by annealed importance sampling (Wu et al., 2017). First the quadrature. The posterior $p(z \mid x)$ of these models can be narrow, and a grid that is too coarse misses its peak. The package makes an upper estimate of how far off each value may be, by comparing the sum with others of three times the step. That is a pessimistic estimate: it says what three times the step would do. For many of the autoencoder's images it may be above one nat, beside differences of two or three. So the cell repeats 100 images on a larger plane, at a *third* of the step. The mean difference and four of its standard errors must together stay below half a nat, in each seed that is known. Trust the means, then, and not the single image: single images may move by more.

# %% key="grids" jupyter={"source_hidden": true} tags=["hide-input"]
some = x[5::10]  # (100, 784)


def second_grid(name):  # (100,) nats: a third of the step, on a larger plane
    model, log_prior, grid, extent = contestants[name]
    finely, _ = value(model, log_prior, 3 * grid, 1.1 * extent, some)
    apart = finely - table[name][5::10]  # (100,)
    note(f"grid-{name}", apart)
    found[f"largest-{name}"] = [apart.abs().max().item()]
    return finely


finer = {"vae": second_grid("vae"), "ae": second_grid("ae-mixture")}
for name, (_, doubt) in valued.items():
    note(f"doubt-{name}", doubt)
    found[f"narrow-{name}"] = [(doubt > 1).double().mean().item()]
for name in valued if measured else ("vae", "ae-mixture"):
    each = [in_seeds(f"{key}-{name}") for key in ("grid", "narrow", "largest")]
    each = zip(*each, strict=True)
    for seed, ((mean, error), (narrow,), (largest,)) in enumerate(each):
        told = {"narrow": narrow, "mean": mean, "error": error, "apart": largest}
        told["who"] = say(f"autoencoders-{name}")
        print(say("autoencoders-grids", seed=seed if measured else SEED, **told))
        assert abs(mean) + 4 * error < 0.5 or not on_mnist

# %% [markdown] key="draws-text"
# Second, a route without a grid: importance sampling. A few draws around the image's own code find a centre. Then we draw anew. Half of the draws that count then come from around that centre, with four widths, since we do not know how narrow the posterior is. The other half come from the prior, so that no second peak goes unnoticed. With $g$ the density of that proposal, the average of $p(x \mid z)\,p(z) / g(z)$ estimates $p(x)$ (the details are in lesson 02). For 100 images, with 2,000 draws each, it must agree with the finer of the two grids, to which the last cell tied the table. This is one seed, the VAE and the autoencoder with the mixture.


# %% key="draws"
@torch.no_grad()
def by_draws(model, prior, images, centre, draws):
    widths = torch.tensor([0.02, 0.06, 0.2, 0.6], dtype=torch.float64)
    around = Normal(centre[:, None].expand(-1, 4, 2), widths[:, None])
    near = MixtureSameFamily(
        Categorical(torch.ones(len(centre), 4)), Independent(around, 1)
    )
    z = torch.cat((near.sample((draws,)), prior.sample((draws, len(centre)))))
    log_g = torch.logaddexp(near.log_prob(z), prior.log_prob(z)) - math.log(2)
    likelihood = torch.stack(  # log p(x|z), an image at a time
        [
            densities.log_bernoulli(image, model.decode_logits(at.float().to(device)))
            for image, at in zip(images, z.unbind(1), strict=True)
        ],
        1,
    )
    likelihood = likelihood.cpu().double()  # (2 * draws, B)
    return likelihood + prior.log_prob(z) - log_g, likelihood, z


torch.manual_seed(0)
normal = MultivariateNormal(torch.zeros(2).double(), torch.eye(2).double())
drawn = {}
for name, model, prior in (
    ("vae", vae, normal),
    ("ae", standard["ae"], mixtures["ae"]),
):
    with torch.no_grad():
        code = model.encode(some)
        code = (code[0] if isinstance(code, tuple) else code).cpu().double()
    _, likelihood, z = by_draws(model, prior, some, code, 300)  # only to find a centre
    best = (likelihood + prior.log_prob(z)).argmax(0)  # (100,)
    centre = z[best, range(len(best))]
    log_weights, likelihood, z = by_draws(model, prior, some, centre, 1000)
    weights = (log_weights - finer[name]).exp()  # (2000, 100), mean 1
    halves = weights.unflatten(0, (2, -1))  # (2, 1000, 100): near, and from the prior
    apart = weights.mean(0) - 1  # (100,) relative to p(x)
    errors = (halves.var(1) / halves.shape[1]).sum(0).sqrt() / 2  # (100,)
    told = {"mean": apart.mean().item(), "error": errors.norm().item() / len(errors)}
    told["near"] = int((apart.abs() < 4 * errors).sum())
    size = weights.sum(0).square() / weights.square().sum(0)  # (100,)
    told["size"] = size.min().item()
    print(say("autoencoders-draws", who=say(f"autoencoders-{name}"), **told))
    assert abs(told["mean"]) < 4 * told["error"]
    assert told["near"] >= 97
    assert told["size"] > 30 or not on_mnist
    drawn[name] = weights / weights.sum(0), likelihood, z

# %% [markdown] key="ledger-text"
# ## 5. Trained at points, judged on clouds
#
# The autoencoder's decoder was trained at *points*: one code for each image. In $p(x)$ it is judged on a cloud, since every $z$ near the code has its say. Should that not hurt? Here is the balance. For any model,
#
# $$\log p(x) = \mathbb{E}_{p(z \mid x)}[\log p(x \mid z)] - \mathrm{KL}(p(z \mid x) \,\|\, p(z)).$$
#
# This is the ELBO with the true posterior in the place of $q$, where the bound is tight. It is algebra, not a finding. The draws of the last cell, counted by their weights, are draws of the true posterior: they give the first term, and with the exact $\log p(x)$ the KL. Beside them we print $\log p(x \mid z)$ at two points: the encoder's code, and the best of all the points drawn. The width is the posterior's standard deviation (the median over 100 images), in the standardized coordinate of either model. All of this is one seed.

# %% key="ledger" jupyter={"source_hidden": true} tags=["hide-input"]
books, widths = {}, {}
for name, (shares, likelihood, z) in drawn.items():
    with torch.no_grad():
        logits = standard[name].decode_logits(standard[name].encode(some))
        at_code = densities.log_bernoulli(some, logits)
    cloud = (shares * likelihood).sum(0)  # (100,)
    u = standard["vae"].standardize(z.reshape(-1, 2).float().to(device))
    u = z if name == "ae" else u.cpu().double().reshape(z.shape)  # both of spread 1
    middle = (shares[..., None] * u).sum(0)  # (100, 2)
    variance = (shares[..., None] * (u - middle).square()).sum(0).mean(1)  # (100,)
    book = {"code": at_code.cpu().double(), "best": likelihood.max(0).values}
    book |= {"cloud": cloud, "kl": cloud - finer[name], "exact": finer[name]}
    assert (book["exact"] <= book["best"] + 1e-2).all()
    books[name], widths[name] = book, variance.sqrt().median().item()
    told = {key: each.mean().item() for key, each in book.items()}
    told |= {"width": widths[name], "who": say(f"autoencoders-{name}")}
    print(say("autoencoders-ledger", **told))
for name, book in books.items():
    price, missed = book["best"] - book["cloud"], book["best"] - book["code"]  # (100,)
    told = {"price": price.mean().item(), "price_error": train.standard_error(price)}
    told |= {"missed": missed.mean().item()}
    told["missed_error"] = train.standard_error(missed)
    print(say("autoencoders-price", who=say(f"autoencoders-{name}"), **told))
    assert abs(price.mean() - 1) < 0.5 or not on_mnist
    assert missed.mean() > max(1, 3 * told["missed_error"]) or not on_mnist
for key in ("best", "kl"):
    apart = books["ae"][key] - books["vae"][key]  # (100,) paired
    told = {"mean": apart.mean().item(), "error": train.standard_error(apart)}
    print(say(f"autoencoders-ledger-{key}", **told))
assert abs(apart.mean()) < 1 or not on_mnist
assert widths["ae"] < 0.8 * widths["vae"] or not on_mnist

# %% [markdown] key="ledger-noticed"
# **From the best point to its own cloud, either decoder loses about one nat.** That nat is geometry: half a nat for each latent, for any peak of Gaussian shape, in whatever way the decoder was trained. The two differ in *how wide* the cloud is: the autoencoder's is clearly narrower. A narrower cloud costs more under KL, and a density that fits the codes better costs less. The last line gives the KLs' difference, in which the two act together: less than a nat. We did not separate them.
#
# A larger loss is the encoder's: at its code, the image is less probable by more than a nat, on average, than at the best point, in both models. The quadrature does not ask the encoder, so this misplacement costs nothing directly in $p(x)$; it enters only through the density that was fitted to the codes. In the ELBO it does cost.
#
# And if one judges the decoder on a cloud that is *not* its own? In the next cell the standardized codes get noise of one size for all images.

# %% key="noise" jupyter={"source_hidden": true} tags=["hide-input"]
sizes = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
torch.manual_seed(0)
noises = torch.randn(4, len(x), 2, device=device)  # the same for every size and model
shaken = {}  # from name to (7, 1000) nats
for name, model in standard.items():
    with torch.no_grad():
        u = model.encode(x)  # (1000, 2), of spread 1
        fits = [
            sum(
                densities.log_bernoulli(x, model.decode_logits(u + size * eps))
                for eps in noises
            )
            for size in sizes
        ]
    shaken[name] = torch.stack(fits).cpu().double() / len(noises)
for k, size in enumerate(sizes):
    told = {name: each[k].mean().item() for name, each in shaken.items()}
    print(say("autoencoders-noise", size=size, **told))
    note(f"noise-{size:g}", shaken["ae"][k] - shaken["vae"][k])  # (1000,), paired
with torch.no_grad():
    mu, logvar = vae.encode(x)  # (1000, 2) each
home = ((0.5 * logvar).exp() / mu.std(0)).median().item()
print(say("autoencoders-noise-home", home=home))
for size in ("0", "0.1"):
    tell_seeds(f"noise-{size}", say("autoencoders-noise-apart", size=float(size)))
assert all(mean > 4 * error for mean, error in in_seeds("noise-0")) or not on_mnist
assert all(mean < -4 * error for mean, error in in_seeds("noise-0.1")) or not on_mnist
assert 0.03 < home < 0.1 or not on_mnist

# %% [markdown] key="stops-text"
# Without noise the autoencoder's pictures fit better. With noise of a tenth of the codes' spread they fit far worse than the VAE's. So, in units of the codes' spread, the VAE's decoder is *smoother*. Mind where it was at home: the cell prints the noise with which it was trained, on the same scale. We did not separate the noise in its training from the KL's price. A smooth decoder can afford an encoder that says only roughly where an image lies.
#
# ## 6. From one to the other, by a slider
#
# The KL's weight leads from one model to the other. At weight 1 stands the VAE. As the weight falls, information gets cheaper: the clouds shrink and move apart. At weight 0 nothing would pay for noise any more: in the limit of a long training it would shrink to nothing. So the autoencoder itself stands at that end. The stops in between are not trained from scratch: they are *continued*. The trained VAE goes on for two epochs at weight 0.5, that model for two more at 0.1, and so to 0.01 (one seed; the ends are those of section 4). Each is valued twice: under $\mathcal{N}(0, I)$, and under the Gaussian fitted to its codes.


# %% key="stops"
def onward(model):  # a copy, to be trained further
    return deepcopy(model).cpu()


stops, last = {0.0: ae, 1.0: vae}, vae
for weight in (0.5, 0.1, 0.01):
    options = {"kl_weight": weight, "epochs": 2 if on_mnist else 1}
    last, _ = train.trained(train_images, make=partial(onward, last), **options)
    stops[weight] = last
stops = dict(sorted(stops.items()))
ends = {0.0: ("strawman", "ae-gaussian"), 1.0: ("vae", "vae-gaussian")}  # known
along, noise, views = {}, {0.0: 0.0}, {}  # the autoencoder has no noise
for weight, model in stops.items():
    own = codes_of(model)
    views[weight] = Standardized(model, own), own
    spread = own.std(0).mean().item()
    if weight in ends:
        plain, fitted = (table[name] for name in ends[weight])
    else:
        plain, off = value(model, standard_normal, 500, max(6.0, 5 * spread))
        fitted, more = value(views[weight][0], standard_normal, 660, 8.0)
        assert max(off.mean(), more.mean()) < 0.5 or not on_mnist
    along[weight] = {"plain": plain, "fitted": fitted}  # (1000,) each
    if weight:
        with torch.no_grad():
            mu, logvar = model.encode(x)  # (1000, 2) each
        noise[weight] = ((0.5 * logvar).exp() / mu.std(0)).median().item()
    told = {key: each.mean().item() for key, each in along[weight].items()}
    told |= {"spread": spread, "noise": noise[weight]}
    print(say("autoencoders-stop", weight=weight, **told))

rows = list(along.values())
for key in ("plain", "fitted"):
    change = rows[-1][key] - rows[0][key]  # (1000,) from the first stop to the last
    told = {"change": change.mean().item(), "error": train.standard_error(change)}
    print(say("autoencoders-change", key=say(f"autoencoders-{key}"), **told))
    sign = 1 if key == "plain" else -1
    assert sign * change.mean() > 3 * told["error"] or not on_mnist
    assert key == "fitted" or change.mean() > 5 or not on_mnist
nearer = [(row["fitted"] - row["plain"]).mean().item() for row in rows]
assert nearer[0] > max(nearer[1:]) or not on_mnist
spreads = [own.std(0).mean().item() for _, own in views.values()]
assert spreads == sorted(spreads, reverse=True) or not on_mnist
assert [*noise.values()][1:] == sorted([*noise.values()][1:]) or not on_mnist

# %% key="panel" jupyter={"source_hidden": true} tags=["hide-input"]
torch.manual_seed(0)
eps = torch.randn(12, 2, device=device)  # the same draws at every stop
tiles = {}
for weight, (model, _) in views.items():
    with torch.no_grad():
        tiles[weight] = torch.sigmoid(model.decode_logits(eps)).cpu()  # (12, 784)


def stop(weight):
    _, own = views[weight]
    told = {key: each.mean().item() for key, each in along[weight].items()}
    told |= {"spread": own.std(0).mean().item(), "noise": noise[weight]}
    alt = say("autoencoders-alt-stop", weight=weight, **told)
    figure, axes = figures.picture(alt, columns=3, width=8.4, height=3.1)
    left, middle, right = axes
    left.plot(*own[:1500].T, ".", color="black", ms=1.5, alpha=0.5)
    draw_rings(left, own)
    reach = max(4.0, own.abs().quantile(0.995).item())
    left.set(xlabel="$z_1$", ylabel="$z_2$", aspect="equal")
    left.set(xlim=(-reach, reach), ylim=(-reach, reach))
    figures.show_digits(
        middle, tiles[weight], columns=4, title=say("autoencoders-draws-title")
    )
    for key, style, color in (("plain", "s--", blue), ("fitted", "^-", orange)):
        heights = [each[key].mean().item() for each in along.values()]
        name = say(f"autoencoders-{key}")
        right.plot(range(len(stops)), heights, style, color=color, ms=4, label=name)
    place = list(stops).index(weight)
    right.axvline(place, color="black", linestyle=":", linewidth=1)
    names = [say("tick", value=value) for value in stops]
    right.set_xticks(range(len(stops)), names)
    right.set(xlabel=say("autoencoders-weight"), ylabel=say("autoencoders-exact-axis"))
    right.legend(fontsize=7, frameon=False)
    figure.stored_dpi = figures.SHOWN_DPI  # sooner drawn
    return figure


options = [(say("tick", value=weight), weight) for weight in stops]
panel = sliders.panel(
    stop, weight=sliders.choice(say("autoencoders-weight"), options, value=0.0)
)
panel

# %% key="panel-moved" jupyter={"source_hidden": true} tags=["hide-input"]
assert sliders.sweep(panel) == 2  # the first stop, which is the start, and the last
for weight in stops:
    panel.controls["weight"].value = weight
    place = panel.picture.axes[2].lines[-1].get_xdata()[0]
    assert list(stops)[int(place)] == weight
panel.controls["weight"].value = 0.0

# %% [markdown] key="stops-noticed"
# Move the slider from left to right and watch the three panels. The codes draw together until they fill the rings. The two values of $\log p(x)$ stand far apart at the autoencoder and close together at the VAE, whose fitted Gaussian is nearly $\mathcal{N}(0, I)$. And look at which one moves from end to end: the value under $\mathcal{N}(0, I)$ rises by more than five nats; the value under the fitted Gaussian *falls*. **In this experiment the full weight of the KL goes with a prior known beforehand, and with a somewhat worse model of the images.** The ends have one seed here and three in section 4. The stops in between have one seed, and were also trained for longer than the VAE: of the curve between the ends we claim nothing.
#
# Why not keep the noise, and leave out the KL? That would be *half a VAE*: noise of a fixed size on the codes, and nothing that keeps them together. The next cell trains one on 6,000 images, with noise of size 1. What will the encoder do?


# %% key="half"
def noisy(model, images):  # half a VAE: noise of size 1 on the code, and no KL
    code = model.encode(images)
    logits = model.decode_logits(code + torch.randn_like(code))
    fit = densities.log_bernoulli(images, logits)  # (B,)
    return Bound(fit, fit, torch.zeros_like(fit))


few = data.Images(
    train_images.pixels[:6000], train_images.labels[:6000], dynamic=True, name="few"
)
torch.manual_seed(0)
half, spreads = make().to(device), []
for _ in range(4):
    with torch.no_grad():
        spreads.append(half.encode(x).std(0).mean().item())
    train.fit(half, few, epochs=4, objective=noisy, device=device)
with torch.no_grad():
    spreads.append(half.encode(x).std(0).mean().item())
for k, spread in enumerate(spreads):
    print(say("autoencoders-half", epochs=4 * k, spread=spread))
assert spreads == sorted(spreads)
assert spreads[-1] > max(5, 1.05 * spreads[-2]) or not on_mnist

# %% [markdown] key="pictures-text"
# It shouts. Noise of a fixed size is drowned by larger codes, and the spread kept growing through all 16 epochs. Nothing in the cost would stop it: codes that are larger by a factor make the noise smaller by that factor. Noise alone, without a price on distance, has no scale to be measured against.
#
# ## 7. By eye
#
# Draws from each contestant, ten in a row, all from seed 0. For each, on top, the decoder's means; below, samples, in which each pixel is drawn with that mean. What the model says about the data is the sample.

# %% key="pictures" jupyter={"source_hidden": true} tags=["hide-input"]
torch.manual_seed(0)
eps = torch.randn(10, 2)
sources = {
    "vae": (vae, eps),
    "ae-gaussian": (standard["ae"], eps),
    "ae-mixture": (standard["ae"], mixtures["ae"].sample((10,)).float()),
}
rows = {}
for name, (model, z) in sources.items():
    with torch.no_grad():
        means = torch.sigmoid(model.decode_logits(z.to(device))).cpu()  # (10, 784)
    who = say(f"autoencoders-{name}")
    rows[say("autoencoders-means-row", who=who)] = means
    rows[say("autoencoders-samples-row", who=who)] = torch.bernoulli(means)
figure = figures.gallery(rows, columns=10, alt=say("autoencoders-alt-draws"), width=7)
figure.stored_dpi = figures.SHOWN_DPI
figure

# %% key="rubbish" jupyter={"source_hidden": true} tags=["hide-input"]
torch.manual_seed(0)
real = data.draw_bits(train_images.pixels[:10_000])  # (10000, 784)


def nearest(pixels):  # squared distance to the nearest real image: (B, 784) to (B,)
    near = [torch.cdist(part, real).amin(1).square() for part in pixels.split(200)]
    return torch.cat(near).cpu().double()


limit = nearest(x).quantile(0.99)
eps = torch.randn(2000, 2)
for name, model, z in (
    ("vae", vae, eps),
    ("ae-gaussian", standard["ae"], eps),
    ("ae-mixture", standard["ae"], mixtures["ae"].sample((2000,)).float()),
):
    with torch.no_grad():
        means = torch.sigmoid(model.decode_logits(z.to(device)))  # (2000, 784)
    told = note(f"rubbish-{name}", nearest(means) > limit)
    who = say(f"autoencoders-{name}")
    print(say("autoencoders-rubbish", who=who, share=told["mean"], error=told["error"]))
if measured:
    each = [
        say("autoencoders-share", share=p) for p, _ in in_seeds("rubbish-ae-gaussian")
    ]
    print(say("autoencoders-rubbish-seeds", values="; ".join(each)))
assert found["rubbish-ae-gaussian"][0] > 0.05 or not on_mnist
assert (
    max(found[f"rubbish-{k}"][0] for k in ("vae", "ae-mixture")) < 0.02 or not on_mnist
)

# %% [markdown] key="walk-text"
# **With its Gaussian, the winner also draws rubbish.** The Gaussian reaches over a part of the map where no code lies (look at the upper part of its ellipse in section 3), and there the decoder was never trained. The folded cell counts such draws among 2,000, for this seed: more than one in twenty with the Gaussian, fewer than one in fifty with the VAE or with the mixture. How can it still win? Because $\log p(x)$ asks only how probable the *real* images are. To give a share $w$ of the mass to rubbish costs $-\log(1 - w)$ nats, beside giving it to the rest in proportion: about a third of a nat for $w = 0.3$. **A good likelihood is no promise of good draws**, and a few good draws are no proof of a good likelihood (Theis, van den Oord and Bethge, 2016).
#
# Interpolations, too, are judged by taste, and every text on autoencoders shows them: one walks straight from the code of one image to that of another, and decodes on the way. The author picks a pair that looks good. Let us set a rule *before* we look.
#
# **The rule.** Take 200 pairs of test images of different digits, drawn with a seed. Between the two codes, decode six points at equal steps. Each decoded mean is compared with 10,000 training images: what counts is the squared distance to the nearest. A path's number is the average over its six points. A path that leaves the region of real images, or blurs, gets a large number. Four of the six points lie near an end, where the number is largely that of a reconstruction; so the two middle points are also counted alone. For each model we then show the path of the smallest number. (Digits of little ink have an advantage, in both models alike.)

# %% key="walk" jupyter={"source_hidden": true} tags=["hide-input"]
torch.manual_seed(0)
digits = test_images.labels[::10].cpu()  # (1000,)
pairs = torch.randint(len(x), (1000, 2))
pairs = pairs[digits[pairs[:, 0]] != digits[pairs[:, 1]]][:200].T  # (2, 200)
steps = (torch.arange(1, 7) / 7)[:, None, None].to(device)  # (6, 1, 1)


@torch.no_grad()
def walk(model):  # decoded means (6, 200, 784), and the distance of each (6, 200)
    first, last = (model.encode(x[side.to(device)]) for side in pairs)
    if isinstance(first, tuple):
        first, last = first[0], last[0]  # the middles of the clouds
    path = (1 - steps) * first + steps * last  # (6, 200, 2)
    means = model.decode(path.reshape(-1, 2))  # (1200, 784)
    return means.reshape(6, 200, 784).cpu(), nearest(means).reshape(6, 200)


walks = {"vae": walk(vae), "ae": walk(ae)}
for name, (_, far) in walks.items():
    told = {"mean": far.mean().item(), "error": train.standard_error(far.mean(0))}
    print(say("autoencoders-walk", who=say(f"autoencoders-{name}"), **told))
apart = walks["ae"][1] - walks["vae"][1]  # (6, 200) paired
for key, each in (("walk", apart.mean(0)), ("walk-middle", apart[2:4].mean(0))):
    print(say(f"autoencoders-apart-{key}", **note(key, each)))
    tell_seeds(key, say(f"autoencoders-seed-{key}"))
assert found["walk"][0] < -4 * found["walk"][1] or not on_mnist
assert all(mean < 0 for mean, _ in in_seeds("walk")) or not on_mnist

# %% key="walk-picture" jupyter={"source_hidden": true} tags=["hide-input"]
rows = {}
for name, (means, far) in walks.items():
    far = far.mean(0)  # (200,)
    best = far.argmin().item()
    first, last = x[pairs[0, best]][None].cpu(), x[pairs[1, best]][None].cpu()
    title = {"who": say(f"autoencoders-{name}"), "number": far[best].item()}
    rows[say("autoencoders-walk-row", **title)] = torch.cat(
        (first, means[:, best], last)
    )
figures.gallery(rows, columns=8, alt=say("autoencoders-alt-walk"), width=6)

# %% [markdown] key="answer"
# By this rule the autoencoder's paths are, on average over the 200 pairs, *nearer* to real images than the VAE's: in this seed by several standard errors, and in the mean of each seed that the cell lists. (The pairs share images; the standard error does not know that.) The rule compares a grey mean with bits, and so punishes grey as such, and the autoencoder's decoder is the sharper one; whether that is the whole reason we did not test. It is certain that one beautiful path proves nothing, on either side.
#
# ## 8. So what does a VAE add?
#
# In this contest, not a better $p(x)$, nor, by the rule above, nearer paths. What it adds is this:
#
# - **A prior known beforehand.** One draws from $\mathcal{N}(0, I)$ at once. The autoencoder needs a second fit, after the training. The strawman is what happens without that fit, and the rubbish of section 7 is what happens when it fits badly.
# - **A $q(z \mid x)$, and with it a bound, at once.** With 50 latents there is no grid. For the autoencoder one would first have to build a $q$, as we did by hand in section 4, or to use annealed importance sampling, as in lesson 06. A VAE brings its $q$ along, and with it its ELBO.
# - **One objective.** Both come from one number, which bounds $\log p(x)$ from below. The autoencoder climbs $\log p(x \mid z)$ at its code. At the best $z$ that is an *upper* bound on $\log p(x)$, whatever the prior (section 5 asserts it): it can climb while $\log p(x)$ falls.
# - **A smooth decoder**, for which a rough code is enough. That counts when bits are paid for, as in lesson 10.
#
# **What this lesson does not show.** All of it is two latents, one network, 15 epochs, and MNIST. With more latents a fitted Gaussian may be a much worse guess of where codes lie, and there is no quadrature to tell. Longer training may change the order; we did not train to the end. The densities were fitted to codes, and not to $\log p(x)$ itself, which might raise the autoencoder's value further. We did not separate the two things that change with the KL's weight, the price on the code and the shape of $q$. Sections 5 to 7 rest mostly on one seed of each model. And a higher $\log p(x)$ is not a prettier picture.
#
# **To read.** Tipping and Bishop (1999) for probabilistic PCA; Kingma and Welling (2013) for the VAE; Ghosh et al. (2020) for densities fitted to codes. Lesson 02 derives the bound; lesson 05 looks at the VAE's map and its holes; lesson 06 measures what its $q$ misses; lesson 08 follows the KL's weight much further.

# %% [markdown] key="exercises"
# ## Exercises
#
# Write your answer in place of the ellipsis and run the cell. The check answers at once: right, or a hint. The solutions are folded right below each question.
#
# ### 1. PCA by hand
#
# The function takes images `x`, `(N, D)`, and a count `q`. Rebuild each image from its first `q` principal components, and return the images as `(N, D)`. The mean of the images is not zero.


# %% key="exercise-pca" tags=["nbval-check-output"]
def my_pca(x, q): ...


checks.pca(my_pca)


# %% key="solution-pca" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output", "solution"]
def solution_pca(x, q):
    mean = x.mean(0)
    axes = torch.linalg.eigh(torch.cov(x.T))[1][:, -q:]  # (D, q)
    return mean + (x - mean) @ axes @ axes.T


verdict = checks.pca(solution_pca)
assert verdict
verdict

# %% [markdown] key="exercise-density-text"
# ### 2. The density of fitted codes
#
# A Gaussian with the mean and the full covariance of `codes`, `(N, 2)`, is evaluated at the points `z`, `(M, 2)`. Return its log density, `(M,)`, without calling a ready-made distribution. Divide by $N$ or by $N - 1$, as you like: there are 40,000 codes.


# %% key="exercise-density" tags=["nbval-check-output"]
def my_density(codes, z): ...


checks.code_density(my_density)


# %% key="solution-density" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output", "solution"]
def solution_density(codes, z):
    root = torch.linalg.cholesky(torch.cov(codes.T))
    apart = (z - codes.mean(0)).T  # (2, M)
    white = torch.linalg.solve_triangular(root, apart, upper=False)  # (2, M)
    volume = root.diagonal().log().sum()  # half the log-determinant of the covariance
    return -0.5 * white.square().sum(0) - volume - math.log(2 * math.pi)


verdict = checks.code_density(solution_density)
assert verdict
verdict

# %% [markdown] key="exercise-strawman-text"
# ### 3. Find the strawman
#
# The text beside `published_draw` says: "we fitted a Gaussian to the codes of the autoencoder and drew from it; as you can see, the autoencoder cannot generate". `eps` holds draws from $\mathcal{N}(0, I)$, `(M, 2)`, and `decode` takes `(M, 2)` to images. Find what makes the comparison unfair, and write `my_draw` without it: draw from the Gaussian with the codes' mean and *full* covariance. All the randomness must come from `eps`.


# %% key="exercise-strawman" tags=["nbval-check-output"]
def published_draw(decode, codes, eps):
    return decode(eps * codes.std(0))


def my_draw(decode, codes, eps): ...


checks.fair_draw(my_draw)


# %% key="solution-strawman" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output", "solution"]
def solution_draw(decode, codes, eps):  # with the mean and the correlation
    root = torch.linalg.cholesky(torch.cov(codes.T))
    return decode(codes.mean(0) + eps @ root.T)


verdict = checks.fair_draw(solution_draw)
assert verdict
verdict

# %% [markdown] key="exercise-moved-text"
# ### 4. The density moves with the variable
#
# Section 4 wrote a code as $c = m + L u$. The function `log_density` gives the log density of $u$, `(M, 2)` to `(M,)`; `mean` is $m$, and `root` is $L$, lower triangular, with a positive diagonal. Return the log density of the codes `codes`, `(M, 2)`.


# %% key="exercise-moved" tags=["nbval-check-output"]
def my_moved(log_density, codes, mean, root): ...


checks.moved_density(my_moved)


# %% key="solution-moved" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output", "solution"]
def solution_moved(log_density, codes, mean, root):
    u = torch.linalg.solve(root, (codes - mean).T).T
    return log_density(u) - root.diagonal().log().sum()  # an area grows by det L


verdict = checks.moved_density(solution_moved)
assert verdict
verdict
