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
# # A variational autoencoder, end to end
#
# **By the end you will be able to** say what a VAE adds to an autoencoder, where the ELBO comes from and what each of its two terms favours, why the reparameterization trick is needed, and train a model that invents digits. Where an exact answer is at hand, you will have checked the claims against it.
#
# **You need** linear algebra, probability and a little PyTorch.
#
# **Time:** 45 minutes of reading; one to three minutes of computing on two cores, without the exercises.
#
# The model, the loss and the training loop are written out in this notebook and checked against the package `vae_teach`. The package loads the data, draws the pictures, and has the phrases that cells print: `say("tour-latents", count=2)` is a phrase by its name, in the language of the notebook, with the numbers that the cell computed. An `assert` stops the notebook where a claim does not hold. Drawing code is folded.

# %% key="setup"
import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import (
    Bernoulli,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
    kl_divergence,
)

from vae_teach import bounds, data, densities, figures, nets, train
from vae_teach.checks import tour as checks
from vae_teach.explorer import LatentExplorer
from vae_teach.sliders import latent_sliders
from vae_teach.words import say, use_language

use_language("en")

# %% [markdown] key="why"
# ## 1. Why not just an autoencoder?
#
# An autoencoder squeezes each image into a few numbers, its *code*, and a *decoder* rebuilds the image from them. Each image becomes **one point**. Nothing says what lies between two points: pick a code at random, and the decoder may never have seen anything like it.
#
# A variational autoencoder (VAE) stores **a small cloud** instead of the point. The decoder has to rebuild the image from anywhere in the cloud. And each cloud is pulled towards a known distribution, the *prior*, so that together they cover it. The better they do, the more often a draw from the prior lands on ground that the decoder knows. Section 10 measures how well they do.
#
# Take five images. On the left of the picture are the five points of an autoencoder, on the right the five clouds of a VAE, each with a fifth of the mass. In this example, the sum of the clouds, the thick line, has no holes, and differs from the prior, which is dashed, by less than a tenth of the prior's peak.

# %% key="clouds"
codes = torch.tensor([-1.1, -0.5, 0.0, 0.5, 1.1])  # one per image
z = torch.linspace(-4, 4, 401)
clouds = Normal(codes[:, None], 0.6).log_prob(z).exp() / len(codes)  # (5, 401)
prior = Normal(0.0, 1.0).log_prob(z).exp()  # (401,)
assert (clouds.sum(0) - prior).abs().max() < 0.1 * prior.max()

# %% key="points-and-clouds" jupyter={"source_hidden": true} tags=["hide-input"]
q_color, prior_color = figures.COLORS["q"], figures.COLORS["prior"]
figure, (left, right) = figures.picture(say("tour-alt-clouds"), columns=2, height=2.6)
left.plot(codes, torch.zeros(5), "o", color=q_color)
left.set(xlim=(-3.8, 3.8), yticks=[], xlabel="$z$", title=say("tour-points"))
right.plot(z, clouds.T, color=q_color, linewidth=1)
right.plot(z, clouds.sum(0), color=q_color, linewidth=3, label=say("tour-sum"))
right.plot(z, prior, "--", color=prior_color, label=say("tour-prior"))
right.set(xlim=(-3.8, 3.8), yticks=[], xlabel="$z$", title=say("tour-clouds"))
right.legend(fontsize=8, frameon=False)
figure

# %% [markdown] key="formulation"
# ## 2. The integral that has no formula
#
# The model generates an image in two steps. First, a *latent variable* $z$ is drawn from the prior $p(z) = \mathcal{N}(0, I)$. Then the decoder reads $z$ and says how probable each image is that may come out of it: that is the *likelihood* $p(x \mid z)$. The probability of seeing the image $x$ (a density, if its pixels are continuous) adds up all the ways in which it may arise:
#
# $$p(x) = \int p(x \mid z)\, p(z)\, dz.$$
#
# To train is to make the images that we have probable, so we need $\log p(x)$. But if the decoder is a neural network, the integral has no formula. Nor has the *posterior* $p(z \mid x) = p(x \mid z)\, p(z) / p(x)$, which would tell us which $z$ may have generated $x$.
#
# **Let us try anyway.** The integral is an average: sample $z$ from the prior many times and average $p(x \mid z)$. To know whether the attempt succeeds we use a model whose answer is known: a linear decoder with Gaussian noise, $x = Wz + s\,\eta$ with $\eta \sim \mathcal{N}(0, I)$. There $p(x)$ is a normal density with an exact formula, $\mathcal{N}(0,\, WW^\top + s^2 I)$.
#
# The cell makes four attempts with one latent variable and four with twenty. In the picture, each curve is one attempt, as its samples accumulate. Zero is the exact answer; the unit is the *nat*, the unit of the natural logarithm. Mind the two vertical scales; on the left, some curves begin below the frame. With one latent, the attempts end within half a nat of the answer. With twenty, they stay hundreds of nats below, and jump at each lucky draw.

# %% key="naive-monte-carlo"
torch.manual_seed(0)
noise = 1.0  # standard deviation of each pixel's noise


def linear_model(latents):
    weights = 0.5 * torch.randn(784, latents, dtype=torch.float64)  # (D, L)
    variances = torch.full((784,), noise**2, dtype=torch.float64)
    p_x = LowRankMultivariateNormal(torch.zeros_like(variances), weights, variances)
    x = p_x.sample()  # (D,)
    return weights, x, p_x.log_prob(x)  # the last one is exact


def naive_monte_carlo(weights, x, draws=10_000):
    z = torch.randn(draws, weights.shape[1], dtype=torch.float64)  # (S, L)
    means = (part @ weights.T for part in z.split(200))  # few draws in memory at once
    each = [Normal(mean, noise).log_prob(x).sum(-1) for mean in means]
    log_likelihood = torch.cat(each)  # (S,)
    count = torch.arange(1, draws + 1)
    # the logarithm of the mean of the first 1, 2, 3, ... likelihoods
    return log_likelihood.logcumsumexp(0) - count.log()  # (S,)


attempts = {}
for latents in (1, 20):
    weights, x, exact = linear_model(latents)
    runs = [naive_monte_carlo(weights, x) - exact for _ in range(4)]
    attempts[latents] = torch.stack(runs)  # (4, S) nats
    low, high = (bound.item() for bound in attempts[latents][:, -1].aminmax())
    print(say("tour-naive-ends", count=latents, low=low, high=high))

assert (attempts[1][:, -1].abs() < 0.5).all()
assert (attempts[20][:, -1] < -300).all()

# %% key="naive-picture" jupyter={"source_hidden": true} tags=["hide-input"]
figure, axes = figures.picture(say("tour-alt-naive"), columns=2)
for ax, (latents, runs) in zip(axes, attempts.items(), strict=True):
    ax.semilogx(range(1, 10_001), runs.T, linewidth=1)
    ax.axhline(0, color="black", linestyle="--")
    ax.set(xlabel=say("tour-draws"), ylabel=say("tour-minus-exact"))
    ax.set_title(say("tour-latents", count=latents))
axes[0].set_ylim(-3, 3)
figure

# %% [markdown] key="naive-noticed"
# This is not bad luck. The posterior is about fourteen times narrower than the prior in each direction (the next cell prints its width). With one latent, a few draws in a hundred fall on it. With twenty, it fills about $10^{-23}$ of the volume of the prior, and none of ten thousand draws comes near. **What is missing is someone to tell us where to look.**
#
# Suppose that such a someone exists and hands us a distribution $q(z)$. We may then sample from $q$ in place of the prior, if each draw gets the weight that makes up for it:
#
# $$p(x) = \int \frac{p(x, z)}{q(z)}\, q(z)\, dz = \mathbb{E}_{q(z)}\!\left[\frac{p(x, z)}{q(z)}\right], \qquad p(x, z) = p(x \mid z)\, p(z).$$
#
# This is **importance sampling**. The equation holds for any $q$ that is positive wherever $p(x, z)$ is; how many draws it takes depends on $q$. The help need not be perfect. The next cell stays with the model of twenty latents. Its posterior is normal too, with precision $I + W^\top W / s^2$. The $q$ has the centre of the posterior, a width (standard deviation) 20% too large, and ignores how the latents depend on each other. A thousand draws from $q$ end within half a nat of the exact answer, where ten thousand from the prior missed by hundreds.

# %% key="posterior-knows"
def true_posterior(weights, x):
    precision = torch.eye(weights.shape[1]) + weights.T @ weights / noise**2  # (L, L)
    mean = torch.linalg.solve(precision, weights.T @ x) / noise**2  # (L,)
    return MultivariateNormal(mean, precision_matrix=precision)


def log_p_x_and_z(z):  # (S, L)
    log_likelihood = Normal(z @ weights.T, noise).log_prob(x).sum(-1)  # (S,)
    return log_likelihood + densities.log_standard_normal(z)


def guided_monte_carlo(q, draws=1_000):
    z = q.sample((draws,))  # (S, L)
    log_weights = log_p_x_and_z(z) - q.log_prob(z).sum(-1)  # (S,)
    return log_weights.logsumexp(0) - math.log(draws)


posterior = true_posterior(weights, x)
volume = 0.5 * posterior.covariance_matrix.logdet().item() / math.log(10)
print(say("tour-volume", width=posterior.stddev.mean().item(), exponent=volume))

q = Normal(posterior.mean, 1.2 * posterior.stddev)
guided = torch.stack([guided_monte_carlo(q) - exact for _ in range(4)])  # (4,) nats
low, high = (bound.item() for bound in guided.aminmax())
print(say("tour-guided-ends", low=low, high=high))

assert (guided.abs() < 0.5).all()
assert 13 < 1 / posterior.stddev.mean() < 15
assert -23.5 < volume < -22.5

# %% [markdown] key="naive-moral"
# A neural decoder does not give us its posterior, nor a place to look. But we can *learn* an approximation, $q(z \mid x)$: a network reads $x$ and says where to look for $z$. That network is the **encoder**. One network serves all images, new ones too, in place of a search for each image. The cost of training it is shared by all, and so this is called *amortized* inference.
#
# Why not train with importance sampling itself, then? Its average estimates $p(x)$ without bias. But what we maximize is $\log p(x)$, and the logarithm of an average over few draws is too low on average. The next section takes the cheapest case, a single draw per image, and says by how much.

# %% [markdown] key="elbo"
# ## 3. The ELBO: a bound that can be computed
#
# How far is one distribution from another? The measure used here is the **Kullback-Leibler divergence**, KL for short:
#
# $$\mathrm{KL}(q \,\|\, p) = \mathbb{E}_{q(z)}\!\left[\log \frac{q(z)}{p(z)}\right].$$
#
# It is never negative. The logarithm is concave, so the average of a logarithm is at most the logarithm of the average: that is **Jensen's inequality**. Apply it to $-\mathrm{KL}$:
#
# $$-\mathrm{KL}(q \,\|\, p) = \mathbb{E}_{q(z)}\!\left[\log \frac{p(z)}{q(z)}\right] \;\le\; \log \mathbb{E}_{q(z)}\!\left[\frac{p(z)}{q(z)}\right] = \log \int p(z)\, dz = 0.$$
#
# It is zero only when the two are equal, since the logarithm is nowhere straight, and it is not symmetric: in general, $\mathrm{KL}(q \,\|\, p)$ is not $\mathrm{KL}(p \,\|\, q)$.
#
# Now apply the same inequality to importance sampling, with the encoder's $q$:
#
# $$\log p(x) = \log \mathbb{E}_{q(z \mid x)}\!\left[\frac{p(x, z)}{q(z \mid x)}\right] \;\ge\; \mathbb{E}_{q(z \mid x)}\!\left[\log \frac{p(x, z)}{q(z \mid x)}\right] = \mathrm{ELBO}(x).$$
#
# The right-hand side is the *evidence lower bound*, the ELBO; the evidence is $\log p(x)$. With $p(x, z) = p(x \mid z)\, p(z)$ it splits into two terms:
#
# $$\begin{aligned} \mathrm{ELBO}(x) &= \mathbb{E}_{q(z \mid x)}\!\left[\log p(x \mid z) + \log \frac{p(z)}{q(z \mid x)}\right] \\ &= \mathbb{E}_{q(z \mid x)}[\log p(x \mid z)] - \mathrm{KL}(q(z \mid x) \,\|\, p(z)). \end{aligned}$$
#
# - The **reconstruction term** asks that points of the cloud of $x$, once decoded, make $x$ probable. It favours clouds that are narrow and far from each other: a point that two images share can suit neither well.
# - The **KL term** measures how far the cloud strays from the prior. It favours clouds that are all equal to the prior.
#
# What the inequality loses, the *gap*, has a formula too. Write $p(x, z) = p(z \mid x)\, p(x)$ instead:
#
# $$\log p(x) - \mathrm{ELBO}(x) = \mathbb{E}_{q(z \mid x)}\!\left[\log \frac{q(z \mid x)}{p(z \mid x)}\right] = \mathrm{KL}(q(z \mid x) \,\|\, p(z \mid x)).$$
#
# Do not believe it: check it. In the linear model with one latent, three routes lead to these three numbers: $\log p(x)$ is the log-density of a normal, the ELBO is estimated from 1,000 draws of $q$, and the KL between two normals has a formula. The next cell puts $q$ at the right centre and varies its width. Three of its rows are printed: the last two numbers of each should be equal, up to the error of the estimate. In the picture, the ELBO is highest, and meets the dashed line, where the width is that of the posterior. If the cloud is too narrow or too wide, the ELBO drops.
#
# So we maximize the ELBO over the weights of both networks at once. A better encoder narrows the gap. A better decoder raises the bound, and $\log p(x)$ can never lie below it.

# %% key="elbo-gap"
weights, x, exact = linear_model(1)
posterior = true_posterior(weights, x)
mean, width = posterior.mean, posterior.stddev  # (1,), (1,)
eps = torch.randn(1_000, 1, dtype=torch.float64)  # (S, 1)
ratios = torch.linspace(0.2, 3, 29, dtype=torch.float64)

log_weights, gaps = [], []
for ratio in ratios:
    q = Normal(mean, ratio * width)
    z = mean + ratio * width * eps  # (S, 1)
    log_weights.append(log_p_x_and_z(z) - q.log_prob(z)[:, 0])
    gaps.append(kl_divergence(q, Normal(mean, width))[0])

log_weights, gaps = torch.stack(log_weights), torch.stack(gaps)  # (29, S), (29,)
elbos, errors = log_weights.mean(1), log_weights.std(1) / len(eps) ** 0.5
for i in (3, 8, 18):
    lost, gap = (exact - elbos[i]).item(), gaps[i].item()
    print(say("tour-gap-shown", ratio=ratios[i].item(), lost=lost, kl=gap))
assert ((exact - elbos - gaps).abs() < 4 * errors + 1e-9).all()
assert ratios[elbos.argmax()].isclose(torch.ones_like(exact))

# %% key="elbo-gap-picture" jupyter={"source_hidden": true} tags=["hide-input"]
figure, (ax,) = figures.picture(say("tour-alt-gap"), width=6)
ax.plot(ratios, elbos - exact, color=q_color, label="ELBO")
ax.plot(ratios, -gaps, ".", color="black", label=say("tour-minus-kl"))
ax.axhline(0, color="black", linestyle="--", label=r"$\log\,p(x)$")
ax.fill_between(ratios, elbos - exact, 0, color=figures.COLORS["gap"], alpha=0.3)
ax.annotate(say("tour-gap"), (2.5, -0.6), ha="center")
ax.set(xlabel=say("tour-width"), ylabel=say("tour-elbo-minus-exact"))
ax.legend(loc="lower center", fontsize=9)
figure

# %% [markdown] key="device-and-data"
# ## 4. Device and data
#
# If there is an accelerator (a GPU), we use it. The whole training set goes into the device's memory at once: 60,000 images of 784 pixels, a byte each, take 47 MB, and training need not open a single file.
#
# The data are the handwritten digits of MNIST, downloaded by `torchvision`. Where there is neither an internet connection nor a copy, the course draws its own digits and says so.

# %% key="load-data"
device = torch.device("cpu")
if torch.accelerator.is_available():
    device = torch.accelerator.current_accelerator()

train_images = data.load("auto", "train", device=device)
test_images = data.load(train_images.name, "test", device=device)

shape = tuple(train_images.pixels.shape)
assert shape == (60_000, 784)
assert train_images.pixels.nbytes == 60_000 * 784  # 47 MB
print(say("tour-data", name=train_images.name, train=shape, device=device.type))

# %% [markdown] key="why-binary"
# **Why black and white?** The decoder will say, for each pixel, how likely it is to light up. That is a Bernoulli distribution, and it only ever produces zeros and ones. A grey of 0.5 is not a possible value. We read it as the probability of drawing a 1. So we draw each pixel with that probability, anew in each batch of training, and once and for all for the test. So `train_images.pixels` are greys, and `test_images.pixels` are bits. Given $z$, the pixels are independent: $p(x \mid z) = \prod_d p_d^{x_d} (1 - p_d)^{1 - x_d}$, where $p_d$ is the probability that pixel $d$ lights up. (The Gaussian noise of section 2 was there for its exact answer.)
#
# Here are ten images in grey and two draws of each. The digits stay the same; notice that only their edges change.

# %% key="binarize"
torch.manual_seed(0)
grey = data.grey(train_images.pixels[:10])  # (10, 784), bytes divided by 255
uniform = torch.rand(2, *grey.shape, device=device)  # (2, 10, 784)
first, second = (uniform < grey).float()  # 1 with probability equal to the grey

rows = {say("tour-grey"): grey, say("tour-draw-1"): first, say("tour-draw-2"): second}
figures.gallery(rows, columns=10, alt=say("tour-alt-bits"))

# %% [markdown] key="grey-floor"
# Some people give the greys to the Bernoulli as they are. Its formula $x \log p + (1 - x) \log(1 - p)$ accepts them, and for the decoder that does no harm: the formula is a straight line in $x$, so its value at the grey level is its average over the draws of bits.
#
# The *number* is what suffers. A Bernoulli gives a grey pixel no probability at all. Nor is $p^x (1 - p)^{1 - x}$ a density of grey levels: the area under it, from 0 to 1, would have to be 1, and the next cell finds half of that or less. What comes out is not the logarithm of a density of greys. It only says something of the mean $\log p$ over the draws of bits, which is another quantity.
#
# The cell also prints the average entropy of the bits once the greys are known. Even someone who knew the greys would be left with that uncertainty; that of someone who does not know them, the marginal entropy of the bits, is at least as large. And the mean $\log p(x)$ of a model never exceeds minus the marginal entropy. So this number is a *floor* for any model's loss on the bits.

# %% key="grey-floor-measured"
greys = data.load(test_images.name, "test", binarize=False).pixels  # (10000, 784)
parts = [Bernoulli(part).entropy().sum(-1) for part in greys.split(1000)]
floor = torch.cat(parts)  # (10000,)
print(say("tour-floor", mean=floor.mean().item(), error=train.standard_error(floor)))
assert test_images.name != "mnist" or abs(floor.mean() - 45.53) < 0.2

level = torch.linspace(0, 1, 1001)  # a grey pixel
for p in (0.5, 0.9):
    area = torch.trapezoid(p**level * (1 - p) ** (1 - level), level).item()
    print(say("tour-no-density", p=p, area=area))
    assert area < 0.501

# %% [markdown] key="architecture"
# ## 5. The architecture
#
# Two small networks, one hidden layer in each. The encoder goes from 784 pixels through 400 units to two means and two log-variances; the decoder, from two latents through 400 units to 784 pixels.
#
# - `encode` reads an image and returns its cloud: the mean $\mu$ and the log-variance $\log \sigma^2$ of $q(z \mid x) = \mathcal{N}(\mu, \sigma^2)$, one pair per latent dimension. Given $x$, the dimensions are independent.
# - `reparameterize` samples $z$ from the cloud.
# - `decode` takes $z$ to the probability of each pixel.
#
# **Why the log-variance?** A network produces any real number, and a variance must be positive. The exponential takes care of that. The `clamp` keeps the standard deviation between 0.0067 and 148, so that one strange image cannot ruin the training. The clouds of the trained model stay inside; section 10 prints how wide they are.
#
# Inside, the decoder returns *logits*, the numbers that the sigmoid turns into probabilities. The loss is computed from the logits: that way, no probability is rounded to 0 or 1, which could make a logarithm infinite. The sigmoid enters only when we want to see the image.

# %% key="architecture-picture" jupyter={"source_hidden": true} tags=["hide-input"]
figure, (ax,) = figures.picture(say("tour-alt-model"), width=9, height=2.3)
style = {"boxstyle": "round,pad=0.45", "fc": "white", "lw": 2}
black, blue = "black", figures.COLORS["reconstruction"]
nodes = {
    (0, 0): ("$x$", black, "-"),
    (1.5, 0): (say("tour-encoder"), q_color, "-"),
    (3, 0): (r"$\mu,\ \log\,\sigma^2$", q_color, "-"),
    (4.8, 0): (r"$z = \mu + \sigma\,\varepsilon$", black, "-"),
    (6.5, 0): (say("tour-decoder"), blue, "-"),
    (8.1, 0): (r"$p(x\,|\,z)$", blue, "-"),
    (4.8, 1): (r"$\varepsilon \sim \mathcal{N}(0, I)$", black, ":"),
}
for at, (text, color, line) in nodes.items():
    frame = style | {"ec": color, "ls": line}
    ax.annotate(text, at, ha="center", va="center", size=11, bbox=frame)
arrow = {"arrowstyle": "-|>", "lw": 1.5, "color": "black"}
between = [(0.25, 0.9), (2.1, 2.5), (3.5, 4.25), (5.35, 5.8), (7.2, 7.7)]
for start, end in between:
    ax.annotate("", (end, 0), (start, 0), arrowprops=arrow)
ax.annotate("", (4.8, 0.22), (4.8, 0.78), arrowprops=arrow)
ax.text(3, -0.75, say("tour-kl-term"), ha="center", size=10, color=q_color)
ax.text(8.1, -0.75, say("tour-reconstruction-term"), ha="center", size=10, color=blue)
ax.set(xlim=(-0.4, 8.9), ylim=(-1, 1.4))
ax.set_axis_off()
figure

# %% key="architecture-class" tags=["nbval-check-output"]
class HandVAE(nn.Module):
    def __init__(self, input_dim=784, hidden_dim=400, latent_dim=2):
        super().__init__()
        self.encoder_hidden = nn.Linear(input_dim, hidden_dim)
        self.encoder_mu = nn.Linear(hidden_dim, latent_dim)
        self.encoder_logvar = nn.Linear(hidden_dim, latent_dim)
        self.decoder_hidden = nn.Linear(latent_dim, hidden_dim)
        self.decoder_logits = nn.Linear(hidden_dim, input_dim)

    def encode(self, x):
        h = F.relu(self.encoder_hidden(x))  # (B, 400)
        logvar = self.encoder_logvar(h).clamp(-10, 10)  # (B, 2)
        return self.encoder_mu(h), logvar

    def reparameterize(self, mu, logvar):
        eps = torch.randn_like(mu)  # (B, 2)
        return mu + torch.exp(0.5 * logvar) * eps  # (B, 2)

    def decode_logits(self, z):
        h = F.relu(self.decoder_hidden(z))  # (B, 400)
        return self.decoder_logits(h)  # (B, 784)

    def decode(self, z):
        return torch.sigmoid(self.decode_logits(z))  # (B, 784)

    def forward(self, x):
        mu, logvar = self.encode(x)
        z = self.reparameterize(mu, logvar)
        return self.decode_logits(z), mu, logvar


parameters = sum(p.numel() for p in HandVAE().parameters())
print(say("tour-parameters", count=parameters))

# %% [markdown] key="trick"
# ### The reparameterization trick
#
# Between the encoder and the decoder stands a random draw, and **a draw has no derivative**. The trick is to take the randomness from a distribution without parameters. Instead of sampling $z$ from $\mathcal{N}(\mu, \sigma^2)$, we draw $\varepsilon$ from $\mathcal{N}(0, 1)$ and compute
#
# $$z = \mu + \sigma\, \varepsilon, \qquad \sigma = e^{\frac{1}{2} \log \sigma^2}.$$
#
# The distribution of $z$ is the same, but now $z$ is a differentiable function of $\mu$ and of $\log \sigma^2$. So the gradient of the loss passes through $z$ to both, and from there to all the weights of the encoder. In the next cell, the plain sample lets no gradient through; the reparameterized one does. And the gradient is right: for $\mathbb{E}[z^2] = \mu^2 + \sigma^2$ the exact derivatives with respect to the mean and the log-variance are $2\mu$ and $\sigma^2$, and the estimated ones stay within four standard errors of them.

# %% key="trick-gradient" tags=["nbval-check-output"]
torch.manual_seed(0)
mu = torch.tensor(1.5, requires_grad=True)
logvar = torch.tensor(-1.0, requires_grad=True)

plain = Normal(mu, torch.exp(0.5 * logvar)).sample((100_000,))
print(say("tour-plain", answer=say("tour-yes" if plain.requires_grad else "tour-no")))

eps = torch.randn(100_000)
z = mu + torch.exp(0.5 * logvar) * eps
print(say("tour-trick", answer=say("tour-yes" if z.requires_grad else "tour-no")))
(z**2).mean().backward()

# the derivative of z² in each draw, for the standard error
each_mu, each_logvar = (2 * z).detach(), (z * torch.exp(0.5 * logvar) * eps).detach()
exact_mu, exact_logvar = 2 * mu.item(), logvar.exp().item()
assert not plain.requires_grad
assert abs(mu.grad - exact_mu) < 4 * train.standard_error(each_mu)
assert abs(logvar.grad - exact_logvar) < 4 * train.standard_error(each_logvar)

# %% [markdown] key="class-equals-package"
# The package has the same class, with docstrings and error messages: `nets.VAE`. Given the same weights and the same seed, the two return the same output.

# %% key="class-equals-package-checked"
by_hand, packaged = HandVAE().to(device), nets.VAE().to(device)
packaged.load_state_dict(by_hand.state_dict())
x = test_images.pixels[:100]  # (100, 784)

torch.manual_seed(1)
ours = by_hand(x)
torch.manual_seed(1)
theirs = packaged(x)
for a, b in zip(ours, theirs, strict=True):
    assert torch.allclose(a, b, atol=1e-6)

# %% [markdown] key="loss"
# ## 6. The loss
#
# The loss is the negative ELBO, averaged over the batch. To estimate it, one sample from the cloud of each image is enough: on average over $\varepsilon$ it is right, and its noise averages out over the batch and the many steps. Sums run over pixels and latent dimensions; means, over images. Swapping one for the other in just one of the terms would silently change the objective: with a mean over the pixels, the KL would weigh 784 times as much.
#
# - **Reconstruction.** The logarithm of the Bernoulli probability, summed over the pixels: $\sum_d [x_d \ell_d - \log(1 + e^{\ell_d})]$, where $\ell$ are the logits. It is the formula of section 4 with $p = 1 / (1 + e^{-\ell})$; `softplus` is $\log(1 + e^\ell)$.
# - **KL.** The cloud and the prior are both normal, so there is a formula: $\frac{1}{2} \sum_j (\mu_j^2 + \sigma_j^2 - 1 - \log \sigma_j^2)$. To find it, write $\log q - \log p$ for one dimension, $\frac{1}{2}[z^2 - (z - \mu)^2 / \sigma^2 - \log \sigma^2]$, and average over $q$, where $\mathbb{E}[z^2] = \mu^2 + \sigma^2$ and $\mathbb{E}[(z - \mu)^2] = \sigma^2$.
#
# The next cell writes both terms and checks them against `torch.distributions`, written by others, and against the package. It prints two values of the KL; the second should be $\frac{1}{2}(1^2 + 2^2)$.

# %% key="loss-by-hand" tags=["nbval-check-output"]
def reconstruction_term(x, logits):
    return (x * logits - F.softplus(logits)).sum(-1)  # (B,)


def kl_term(mu, logvar):
    return 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(-1)  # (B,)


def loss(x, logits, mu, logvar):
    return (kl_term(mu, logvar) - reconstruction_term(x, logits)).mean()


logits, mu, logvar = ours
q, prior = Normal(mu, torch.exp(0.5 * logvar)), Normal(0.0, 1.0)
oracle_kl = kl_divergence(q, prior).sum(-1)  # (100,)
oracle_reconstruction = Bernoulli(logits=logits).log_prob(x).sum(-1)  # (100,)
assert torch.allclose(kl_term(mu, logvar), oracle_kl, atol=1e-5)
assert torch.allclose(reconstruction_term(x, logits), oracle_reconstruction, rtol=1e-5)

torch.manual_seed(1)
bound = bounds.elbo(packaged, x)
assert torch.allclose(bound.elbo.mean(), -loss(x, *ours), rtol=1e-6)

shown = kl_term(torch.tensor([[0.0, 0.0], [1.0, -2.0]]), torch.zeros(2, 2))
print(say("tour-kl-shown", same=shown[0].item(), moved=shown[1].item()))

# %% [markdown] key="training"
# ## 7. Training
#
# The loop takes six lines: for each batch, run the model (encode, sample, decode), compute the loss, clear the old gradients, differentiate, take a step. The next cell writes it and goes once through 12,800 images, in batches of 128. The bits of each batch are drawn by `batches`, because `dynamic=True` asks for it. Then the cell does the same with `train.fit`, starting from the same seed, and checks that the two models give the test images the same ELBO, up to rounding.

# %% key="training-by-hand"
few = data.Images(
    train_images.pixels[:12_800], train_images.labels[:12_800], dynamic=True
)

torch.manual_seed(2)
by_hand = HandVAE().to(device)
optimizer = torch.optim.Adam(by_hand.parameters(), lr=1e-3, fused=True)
for x, _ in few.batches(128):
    logits, mu, logvar = by_hand(x)
    value = loss(x, logits, mu, logvar)
    optimizer.zero_grad()
    value.backward()
    optimizer.step()

torch.manual_seed(2)
packaged = nets.VAE()
train.fit(packaged, few, epochs=1, batch_size=128, device=device, progress=False)

elbos = []
for model in (by_hand, packaged):
    torch.manual_seed(3)
    elbos.append(train.evaluate(model, test_images).elbo.mean())
assert abs(elbos[0] - elbos[1]) < 0.05  # nats

# %% [markdown] key="training-run"
# Now the training proper: the 60,000 images, 15 epochs, Adam with a learning rate of $10^{-3}$. `fit` shows a progress bar; on two cores it takes one to three minutes.
#
# The table gives, for each epoch, the training ELBO, its two terms and the test ELBO, in nats per image, and the seconds it took. The climb is fast and then slow. In the first epochs the test ELBO stands *above* the training ELBO. That is no mistake: the training value is an average over the epoch, in which the model was still worse, and the test is measured at its end. Later the two cross: the model knows the training images a little better.
#
# Look at the curve of the KL, on a scale of its own: from the second epoch on, it grows. (The value of the first includes the batches in which training had hardly begun.) The reconstruction term gains more nats than the KL costs, and so their difference, the ELBO, improves.

# %% key="training-fit"
torch.manual_seed(0)
model = nets.VAE()
history = train.fit(
    model, train_images, epochs=15, batch_size=128, device=device, test=test_images
)
print(history)

# %% key="training-curves"
kl, reconstruction = history.column("kl"), history.column("reconstruction")
assert kl[-1] > kl[1]
assert reconstruction[-1] - reconstruction[1] > kl[-1] - kl[1]
assert history.column("test_elbo")[0] > history.column("elbo")[0]
figures.curves(history)

# %% [markdown] key="training-verdict"
# **Is that test ELBO good?** An ELBO alone says little. Let us compare with the best model that has independent pixels and *no* latent variable: each pixel lights up with its frequency in the training set, whatever the others do. Its log-likelihood is computed exactly, with no bound involved. On the other side stands the floor of section 4, with its sign changed, a ceiling: no model of the bits can do better on average. The next cell prints the three and demands that the VAE, though measured by a lower bound, beat the model without a latent clearly, and that it reach the value expected for these data. (The test ELBO differs a little from the table's: other draws of $z$.)

# %% key="training-checked"
torch.manual_seed(0)
test_elbo = train.evaluate(model, test_images).elbo  # (10000,)
mean, error = test_elbo.mean().item(), train.standard_error(test_elbo)

parts = [data.grey(part).mean(0) for part in train_images.pixels.split(6000)]
frequency = torch.stack(parts).mean(0).clamp(1e-4, 1 - 1e-4)  # (784,)
no_latent = densities.log_bernoulli(test_images.pixels, frequency.logit())  # (10000,)
values = {"without": no_latent.mean().item(), "ceiling": -floor.mean().item()}
print(say("tour-verdict", mean=mean, error=error, **values))

expected = {"mnist": -158.0, "strokes": -135.0}[train_images.name]
assert mean > expected
assert mean - no_latent.mean() > 20

# %% [markdown] key="reconstruction"
# ## 8. Reconstruction
#
# The upper row has ten test images, which the model never saw in training. The lower row shows what it rebuilds: the decoder's mean at the centre of each cloud. The outlines are soft. There are swaps too: with just two numbers per image, some digits come back as others, at times similar ones.

# %% key="reconstructions"
figures.reconstructions(model, test_images)

# %% [markdown] key="why-soft"
# **Why so soft?** Two numbers are not enough to tell where each stroke is. Given $z$, the pixels are independent, and each answers for itself. Keep the encoder as it is, and ask which decoder would be the best at the point $z$. The images $x_n$ whose clouds reach $z$ all want a say, each with the weight $w_n = q(z \mid x_n)$. A pixel's best $p$ is where the derivative of $\sum_n w_n [x_n \log p + (1 - x_n) \log(1 - p)]$ is zero. That is the weighted **average** of the images:
#
# $$\bar{x}(z) = \frac{\sum_n q(z \mid x_n)\, x_n}{\sum_n q(z \mid x_n)}.$$
#
# An average of similar digits is a blurred digit. Has our decoder found this average? The next cell computes it from 20,000 training images, at the codes of 200 test images. The distance from the decoded image to that average is the mean absolute difference per pixel. For comparison, the same distance is printed for the average of 50 random images of the same digit, and for the test image itself. At the median, the weighted average is the closest by far: the blur is what training asked for. The picture has the decoder's output above and the weighted average below. They are not equal everywhere: where clouds of many digits meet, the decoder, with its one hidden layer, smooths what the average leaves tangled.
#
# The KL alone is not to blame. It has a say in how wide the clouds are, and so in how many images share a point. But an autoencoder with two numbers and no KL blurs as well: [lesson 05](05_latent_space.ipynb) shows it.

# %% key="why-soft-shown"
torch.manual_seed(0)
parts = [data.draw_bits(part) for part in train_images.pixels[:20_000].split(2000)]
with torch.no_grad():
    clouds = [model.encode(part) for part in parts]
    mu, logvar = map(torch.cat, zip(*clouds, strict=True))  # (20000, 2) each
    points, _ = model.encode(test_images.pixels[:200])  # (200, 2)
    decoded = model.decode(points)  # (200, 784)
q_of_each = Normal(mu, torch.exp(0.5 * logvar))
log_q = [q_of_each.log_prob(z[:, None]).sum(-1) for z in points.split(10)]
seen = torch.cat(parts)  # (20000, 784)
weights = torch.cat(log_q).softmax(-1)  # (200, 20000), each row sums to one
best = weights @ seen  # (200, 784)

same_digit = []
for label in test_images.labels[:200]:
    others = (train_images.labels[:20_000] == label).nonzero()[:, 0]  # (n,)
    same_digit.append(seen[others[torch.randperm(len(others))[:50]]].mean(0))

rivals = {"best": best, "digit": torch.stack(same_digit)}
rivals["original"] = test_images.pixels[:200]
apart = {name: (decoded - rival).abs().mean(-1) for name, rival in rivals.items()}
levels = torch.tensor([0.05, 0.5, 0.95], device=device)
for name, distance in apart.items():
    low, median, high = distance.quantile(levels).tolist()
    print(say(f"tour-apart-{name}", low=low, median=median, high=high))

assert apart["best"].median() < 0.6 * apart["digit"].median()
assert (apart["best"] < apart["digit"]).float().mean() > 0.9
ten = figures.one_of_each(test_images)
rows = {say("tour-decoded"): decoded[ten], say("tour-average"): best[ten]}
figures.gallery(rows, columns=10, alt=say("tour-alt-soft"))

# %% [markdown] key="generation"
# ## 9. Generation
#
# To invent images we forget the encoder: sample $z$ from the prior and decode. The picture shows two different things, which many texts confuse.
#
# - The upper row has the decoder's **means**: the probability that each pixel lights up. They are pretty, but the model would never generate a picture in shades of grey.
# - The lower row has the model's **samples**: each pixel drawn with that probability. Notice the speckle: loose dots around the strokes, and holes within them. It is there because the pixels, given $z$, are drawn independently.

# %% key="samples"
with torch.no_grad():
    means = model.decode(torch.randn(1_000, 2, device=device))  # (1000, 784)
speckle = means * (1 - means)  # the variance of each pixel
inside = speckle[means > 0.5].sum() / speckle.sum()
assert 0.2 < inside < 0.6
figures.samples(model, count=10, generator=torch.Generator().manual_seed(0))

# %% [markdown] key="manifold"
# ## 10. The manifold
#
# As $z$ moves over the plane, the decoded images form a surface with two dimensions among all pictures of 784 pixels. It is called the *manifold*. With two numbers per image, we can see it *at a glance*: it is enough to decode a grid of points $z$. But which grid? With equal steps, the tiles in the middle would hold far more prior mass than those at the ends. So along each axis we cut the normal into twenty pieces of equal mass and keep the median of each: the inverse of the normal's cumulative distribution function at $(i + \frac{1}{2}) / 20$, for $i$ from 0 to 19.

# %% key="manifold-grid" tags=["nbval-check-output"]
n = 20
points = torch.special.ndtri((torch.arange(n) + 0.5) / n)  # (20,)
edges = torch.special.ndtri(torch.arange(n + 1) / n)  # (21,)
masses = Normal(0.0, 1.0).cdf(edges).diff()  # (20,)

assert torch.allclose(masses, torch.full((n,), 1 / n), atol=1e-6)
assert torch.equal(points, figures.normal_quantiles(n))
print(say("tour-points-shown", first=points[0].item(), tenth=points[9].item()))

# %% [markdown] key="manifold-before"
# In the picture, $z_1$ grows to the right and $z_2$ upwards. Look for three things: regions where one digit rules, borders where one slowly turns into another, and the slant of the strokes, which changes gently within a region. Nobody told the model what a digit is.

# %% key="manifold-picture"
tiles = figures.manifold_tiles(model, n)  # (20, 20, 784)
with torch.no_grad():
    corner = torch.tensor([[points[0], points[-1]]], device=device)  # (1, 2)
    assert torch.allclose(tiles[0, 0], model.decode(corner)[0].cpu(), atol=1e-6)

figures.manifold(model, n)

# %% [markdown] key="map-before"
# And where are the real images? Each of 5,000 test images is a dot, at the centre of its cloud, with one colour per digit. A numbered disc marks the middle of a digit's dots; where these form two groups, it may lie between them. The circles hold 50% and 95% of the prior mass. Notice that the groups touch around the centre, and that similar digits are neighbours. Notice also the groups that reach past the outer circle.

# %% key="map-picture"
figures.latent_map(model, test_images)

# %% key="map-spread"
torch.manual_seed(0)
with torch.no_grad():
    mu, logvar = model.encode(test_images.pixels)  # (10000, 2)
sigma = torch.exp(0.5 * logvar)
z = mu + sigma * torch.randn_like(mu)  # (10000, 2), one draw per image

outside = (z.norm(dim=-1) > math.sqrt(-2 * math.log(0.05))).float()  # of the 95% ring
by_digit = [outside[test_images.labels == digit].mean().item() for digit in range(10)]
share, most = outside.mean().item(), max(by_digit)
print(say("tour-outside", share=share, most=most, digit=by_digit.index(most)))
first, second = z.var(0).tolist()
print(say("tour-variances", first=first, second=second))
print(say("tour-sigmas", low=sigma.min().item(), high=sigma.max().item()))

assert share > 0.1
assert most > 0.3
assert train_images.name != "mnist" or (share > 0.15 and most > 0.5)
assert sigma.min() > math.exp(-5)
assert sigma.max() < 1

# %% [markdown] key="map-noticed"
# All the clouds together, each with the same weight, make the **aggregate posterior**. If it were equal to the prior, 5% of its draws would fall outside the outer circle, and both variances would be 1. It is not: the cell finds more than three times as many, and for one digit most of its draws. The KL term pulls each cloud towards the prior, one by one, against the reconstruction term. About the aggregate posterior it promises little: the KL from it to the prior cannot exceed the mean KL of the clouds, which is several nats, and that leaves much room. [Lesson 05](05_latent_space.ipynb) measures the difference.

# %% [markdown] key="sliders"
# ## 11. Hands on the latent space
#
# Move $z_1$ and $z_2$ and watch the digit change. These sliders call Python at each move, so they need a kernel: run the notebook first. On the keyboard, each press of an arrow moves by 0.1; Home and End go to the ends.

# %% key="sliders-shown"
panel = latent_sliders(model)
panel

# %% key="sliders-moved"
# to both ends of each slider and back to zero: the image follows
seen = {bytes(panel.image.value)}
for slider in panel.sliders:
    for value in (slider.min, slider.max, 0.0):
        slider.value = value
        seen.add(bytes(panel.image.value))
assert len(seen) == 5

# %% [markdown] key="explorer"
# The **explorer** does the same without Python: the decoder's weights come with the page, and JavaScript decodes. It works in a notebook that was opened and not yet run, and also on a web page, where there is no kernel at all. If you see only a line of text in its place, run the cell, or trust the notebook (in JupyterLab: *File*, *Trust Notebook*). Drag the point over the map, or use the arrow keys. Each box of the grid behind it holds the same prior mass.

# %% key="explorer-shown"
explorer = LatentExplorer(model, train_images)
explorer

# %% [markdown] key="next"
# ## 12. What remains to be answered
#
# Each question below is a lesson of the course. Those that are out are in this same folder.
#
# | lesson | question |
# | --- | --- |
# | 01 | What does a VAE add to an autoencoder, in a fair contest? |
# | [02](02_elbo.ipynb) | Where does the ELBO come from, and how tight is it? |
# | [03](03_reparameterization.ipynb) | How does a gradient pass through a random draw? |
# | [04](04_gpu_training.ipynb) | What does it take to keep the processor busy? |
# | [05](05_latent_space.ipynb) | What did the model learn? |
# | [06](06_exact_ledger.ipynb) | How much does the ELBO miss, exactly? |
# | 07 | Which likelihood is your loss? |
# | 08 | When does a latent die, and what does beta buy? |
# | 09 | Where did the idea go? |
# | 10 | Is the ELBO really a number of bits? |
#
# **To read.** Kingma and Welling (2013), *Auto-Encoding Variational Bayes*, the source of almost everything you have seen. Rezende, Mohamed and Wierstra (2014) arrived at the same idea independently, at almost the same time.

# %% [markdown] key="exercises"
# ## Exercises
#
# Write your answer in place of the ellipsis and run the cell. The check answers at once: right, or a hint. The solutions are folded right below each question; open them only after you have tried.
#
# ### 1. The KL to another prior
#
# In the lesson, the prior is $\mathcal{N}(0, I)$. Write the KL from $\mathcal{N}(\mu, \sigma^2)$ to a wider or narrower prior, $\mathcal{N}(0, \tau^2 I)$. The function takes `mu` and `logvar`, of shape `(B, L)` ($B$ images, $L$ latent dimensions), and the number `tau`; it returns one number per image. With $\tau = 1$ it should reduce to the formula of the lesson.

# %% key="exercise-kl" tags=["nbval-check-output"]
def my_kl(mu, logvar, tau):
    ...


checks.kl(my_kl)

# %% key="solution-kl" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output", "solution"]
def solution_kl(mu, logvar, tau):
    ratio = (mu**2 + logvar.exp()) / tau**2  # (B, L)
    log_ratio = logvar - 2 * math.log(tau)  # (B, L)
    return 0.5 * (ratio - 1 - log_ratio).sum(-1)  # (B,)


verdict = checks.kl(solution_kl)
assert verdict
verdict

# %% [markdown] key="exercise-draw-text"
# ### 2. Find the bug
#
# `draw_with_a_bug` raises no error, the gradient gets through, and the model trains. But the sample does not come from the cloud that the encoder described. Find the bug, and write the function as it should be in `my_draw`.

# %% key="exercise-draw" tags=["nbval-check-output"]
def draw_with_a_bug(mu, logvar, eps):
    return mu + torch.exp(logvar) * eps


def my_draw(mu, logvar, eps):
    ...


checks.draw(my_draw)

# %% key="solution-draw" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output", "solution"]
def solution_draw(mu, logvar, eps):
    return mu + torch.exp(0.5 * logvar) * eps  # (B, L)


verdict = checks.draw(solution_draw)
assert verdict
verdict

# %% [markdown] key="exercise-beta-text"
# ### 3. The beta-VAE
#
# Multiply the KL by a weight $\beta$ (Higgins et al., 2017) and return the loss of the batch, a single number, for the optimizer to *minimize*. With $\beta = 1$ it is the loss of the lesson.
#
# To think about: with $\beta = 4$, is the negative loss still a lower bound on $\log p(x)$? And with $\beta = \frac{1}{2}$?

# %% key="exercise-beta" tags=["nbval-check-output"]
def my_beta_loss(x, logits, mu, logvar, beta):
    ...


checks.beta_loss(my_beta_loss)

# %% key="solution-beta" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output", "solution"]
def solution_beta_loss(x, logits, mu, logvar, beta):
    return (beta * kl_term(mu, logvar) - reconstruction_term(x, logits)).mean()


verdict = checks.beta_loss(solution_beta_loss)
assert verdict
verdict

# %% [markdown] key="solution-beta-text"
# <details><summary>Answer to the question to think about</summary>
#
# The KL is never negative. With $\beta > 1$ more is subtracted than before: the result never exceeds the ELBO and is still a lower bound, only looser. With $\beta < 1$ less is subtracted: the result may exceed $\log p(x)$, and the guarantee is gone.
#
# </details>

# %% [markdown] key="exercise-mass-text"
# ### 4. What a linear grid leaves out
#
# Many texts show the manifold on a grid of equal steps, from $-a$ to $a$ along each axis. What fraction of the prior mass falls inside it, with $L$ latent dimensions? In the function, $a$ and $L$ are called `extent` and `latents`. Return a number between 0 and 1. Then try $a = 2$ with 2 and with 20 dimensions.

# %% key="exercise-mass" tags=["nbval-check-output"]
def my_grid_mass(extent, latents):
    ...


checks.grid_mass(my_grid_mass)

# %% key="solution-mass" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output", "solution"]
def solution_grid_mass(extent, latents):
    inside = 2 * Normal(0.0, 1.0).cdf(torch.tensor(extent)) - 1
    return inside**latents


verdict = checks.grid_mass(solution_grid_mass)
assert verdict
verdict

# %% [markdown] key="solution-mass-text"
# <details><summary>Answer to the question</summary>
#
# With $a = 2$, 91% of the prior's mass lies inside the square of two dimensions, and 39% inside the box of twenty. With twenty dimensions, the grid that looked generous leaves most of the prior out.
#
# </details>

# %% [markdown] key="exercise-latents-text"
# ### 5. More latent dimensions
#
# Train a `nets.VAE` with ten latent dimensions for three epochs. Its test ELBO should be well above that of the lesson's model, which trained for 15 epochs. The check compares the two, image by image, and demands a difference of at least four standard errors. What do you lose in exchange?

# %% key="exercise-latents" tags=["nbval-check-output"]
my_wide_model = ...

checks.more_latents(my_wide_model, model, test_images)

# %% key="solution-latents" jupyter={"source_hidden": true} tags=["hide-input", "solution"]
torch.manual_seed(0)
wide_model = nets.VAE(latent_dim=10)
train.fit(wide_model, train_images, epochs=3, device=device)

verdict = checks.more_latents(wide_model, model, test_images)
assert verdict
verdict

# %% [markdown] key="solution-latents-text"
# <details><summary>Answer to the question</summary>
#
# The picture of section 10 is gone: ten dimensions do not fit on a sheet. Nor can $\log p(x)$ be summed on a grid any more, as lesson 02 does.
#
# </details>

# %% [markdown] key="exercise-dataset-text"
# ### 6. Other data
#
# The course draws digits of its own: `data.load("strokes", "train")`. Train a `nets.VAE` with two latents on them, for three epochs or more, and look at the manifold with `figures.manifold`. What has changed in the shape of the regions?

# %% key="exercise-dataset" tags=["nbval-check-output"]
my_strokes_model = ...

checks.other_dataset(my_strokes_model)

# %% key="solution-dataset" jupyter={"source_hidden": true} tags=["hide-input", "solution"]
torch.manual_seed(0)
strokes_model = nets.VAE()
strokes_images = data.load("strokes", "train", device=device)
train.fit(strokes_model, strokes_images, epochs=3, device=device)

verdict = checks.other_dataset(strokes_model)
assert verdict
verdict

# %% [markdown] key="solution-dataset-text"
# <details><summary>Answer to the question</summary>
#
# The regions follow what varies in the drawn digits, the digit first; the borders lie elsewhere, since other digits resemble each other here. That regions appear, with slow changes inside and borders between, stays as it was.
#
# </details>
