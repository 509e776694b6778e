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
# # Where does the bound come from, and how tight is it?
#
# **By the end you will be able to** derive the ELBO by two routes, say what it misses of $\log p(x)$ and put a number on that, predict how many samples naive Monte Carlo would need, and recognize a posterior that no Gaussian covers.
#
# **You need** lesson 00, and to be on good terms with integrals and logarithms.
#
# **Time:** 40 minutes of reading; about half a minute of computing on two cores. The first time, add up to a minute: section 8 trains the VAE of lesson 00 and keeps it for the other lessons.
#
# In lesson 00 you climbed a number that was not the one you wanted. You wanted $\log p(x)$. You climbed the ELBO, which lies below it. If it lies a hair below, no harm is done. If it lies far below, and farther for some images than for others, then you trained a model other than the one you think. **How far below does it lie?** At the end of the lesson you will have the answer for a trained VAE, in nats, image by image.

# %% key="setup"
import copy
import itertools
import math

import torch

from vae_teach import (
    bounds,
    data,
    densities,
    exact,
    figures,
    sliders,
    train,
)
from vae_teach.checks import elbo as checks
from vae_teach.words import say, use_language

use_language("en")
COLORS = figures.COLORS

# %% [markdown] key="toy"
# ## 1. A world where nothing can hide
#
# To know how much a bound misses, you need the exact answer beside it. So we build a world small enough to have one: **one** latent variable, **two** observed numbers. The decoder bends a line into a curve of the plane, and the observation is a point of the curve plus noise:
#
# $$z \sim \mathcal{N}(0, 1), \qquad f(z) = \left(z - 2 \sin z,\; \tfrac{3}{2} \cos z\right), \qquad x \mid z \sim \mathcal{N}(f(z), 0.4^2 I).$$
#
# In the next picture, the line is the curve, with some values of $z$ written along it. The dots are 400 draws from the model. The curve crosses itself, and that is on purpose. Three observations will keep us company: **A**, inside the loop; **B**, near the crossing; **C**, out where the curve leaves and draws are scarce.

# %% key="toy-model"
noise = 0.4  # standard deviation in each coordinate of x


def decode(z):
    return torch.stack((z - 2 * torch.sin(z), 1.5 * torch.cos(z)), -1)  # (..., 2)


def log_prior(z):
    return -0.5 * (z**2 + math.log(2 * math.pi))  # (...,)


def log_likelihood(x, z):  # (..., 2), (..., Z)
    squared = (x[..., None, :] - decode(z)).square().sum(-1)  # (..., Z)
    return -0.5 * squared / noise**2 - math.log(2 * math.pi * noise**2)


observed = {"A": (0.4, 0.75), "B": (0.0, -0.45), "C": (1.9, -1.4)}
observed = {k: torch.tensor(x, dtype=torch.float64) for k, x in observed.items()}

# %% key="toy-picture"
torch.manual_seed(0)
z = torch.randn(400, dtype=torch.float64)
x = decode(z) + noise * torch.randn(400, 2, dtype=torch.float64)  # (400, 2)
line = torch.linspace(-3.4, 3.4, 300, dtype=torch.float64)
marks = torch.tensor([-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0], dtype=torch.float64)


def mark_observed(ax):
    for name, place in observed.items():
        ax.plot(*place, "s", color="black", markersize=7, markeredgecolor="white")
        right, above = {"A": (0.2, -0.12), "B": (0.32, -0.12), "C": (-0.08, 0.25)}[name]
        ax.text(place[0] + right, place[1] + above, name, weight="bold", size=12)


figure, (ax,) = figures.picture(say("elbo-alt-toy"), width=6.5, height=3.6)
ax.plot(*x.T, ".", color="#999999", markersize=3, label=say("elbo-draws"))
ax.plot(*decode(line).T, color=COLORS["prior"], linewidth=2, label="$f(z)$")
ax.plot(*decode(marks).T, "o", color=COLORS["prior"], markersize=4)
for mark in marks:
    across, up = decode(mark).tolist()
    side, shift = ("left", 0.13) if across >= 0 else ("right", -0.13)
    up += -0.35 if abs(mark) == 2 else 0.12
    text = say("elbo-mark", z=mark.item())
    ax.text(across + shift, up, text, ha=side, color=COLORS["prior"])
mark_observed(ax)
ax.set(xlabel="$x_1$", ylabel="$x_2$", xlim=(-4.2, 4.2), ylim=(-2.7, 2.7))
ax.legend(loc="upper left", fontsize=9)
figure

# %% [markdown] key="quadrature"
# ### The integral, done
#
# The integral $p(x) = \int p(x \mid z)\, p(z)\, dz$ runs along a line. We cut the line into narrow steps and add up: that is *quadrature*. With 2,401 points, 0.01 apart, the sum is exact, up to rounding, for all that follows, because nothing in our world is narrower than ten steps. We add logarithms with `logsumexp`, so that no term is rounded to zero.
#
# A density must integrate to 1. The next cell lays a grid over the plane of $x$, computes $p(x)$ at 12,851 points, and adds them up. It asks for 1 within $10^{-4}$.

# %% key="quadrature-by-hand" tags=["nbval-check-output"]
z = torch.linspace(-12, 12, 2401, dtype=torch.float64)  # (Z,)
dz = (z[1] - z[0]).item()


def log_joint(x, z=z):
    return log_likelihood(x, z) + log_prior(z)  # (..., Z) log p(x, z)


def log_evidence(x, z=z):
    return log_joint(x, z).logsumexp(-1) + (z[1] - z[0]).log()  # (...,) log p(x)


def log_posterior(x):
    return log_joint(x) - log_evidence(x)[..., None]  # (..., Z) log p(z|x)


across = torch.linspace(-9, 9, 181, dtype=torch.float64)
up = torch.linspace(-3.5, 3.5, 71, dtype=torch.float64)
plane = torch.cartesian_prod(across, up)  # (12851, 2)
# every tenth z is enough here
parts = [log_evidence(part, z[::10]) for part in plane.split(1000)]
density = torch.cat(parts).exp().reshape(181, 71)
total = density.sum().item() * (across[1] - across[0]).item() * (up[1] - up[0]).item()

assert abs(total - 1) < 1e-4
print(say("elbo-total", total=total))
for name, x in observed.items():
    print(say("elbo-exact", name=name, value=log_evidence(x).item()))

# %% [markdown] key="posteriors"
# With $p(x)$ in hand comes the *posterior*, $p(z \mid x) = p(x, z) / p(x)$: which $z$ may have produced what we saw. The next picture shows $p(x)$ in grey and, beside it, the three posteriors. Look at the shapes. **A**'s is a leaning hump. **B**'s has two: near the crossing, two stretches of the curve explain the same point. **C**'s is a needle far from the centre of the prior.

# %% key="posteriors-picture"
styles = {"A": "-", "B": "--", "C": "-."}
figure, (left, right) = figures.picture(
    say("elbo-alt-posteriors"), columns=2, width=8, height=3
)
left.pcolormesh(across, up, density.T, cmap="Greys", shading="nearest")
left.plot(*decode(line).T, color=COLORS["prior"], linewidth=1)
mark_observed(left)
left.set(xlim=(-4.2, 4.2), ylim=(-2.7, 2.7), xlabel="$x_1$", ylabel="$x_2$")
left.set_title("$p(x)$", loc="left", fontsize=10)
right.plot(z, log_prior(z).exp(), ":", color=COLORS["prior"], label="$p(z)$")
for name, x in observed.items():
    posterior = log_posterior(x).exp()  # (Z,)
    text = say("elbo-posterior-of", name=name)
    right.plot(z, posterior, styles[name], color=COLORS["posterior"], label=text)
    modes = (posterior[1:-1] > posterior[:-2]) & (posterior[1:-1] > posterior[2:])
    modes &= posterior[1:-1] > 0.1
    assert modes.sum() == (2 if name == "B" else 1)
right.set(xlim=(-3.6, 3.6), ylim=(0, 3.1), xlabel="$z$", ylabel=say("elbo-density"))
right.legend(fontsize=8, loc="upper left")
figure

# %% [markdown] key="naive"
# ## 2. How many draws does the naive way need?
#
# Suppose for a moment that we had no quadrature. An integral against the prior is an average over the prior:
#
# $$p(x) \approx \hat p(x) = \frac{1}{n} \sum_{i=1}^{n} p(x \mid z_i), \qquad z_i \sim p(z).$$
#
# On average $\hat p(x)$ is right. The question is how far one try strays. For an average of $n$ independent terms, the relative variance is that of one term divided by $n$, and that of one term is one more integral, which we can do exactly:
#
# $$\frac{\mathrm{Var}[\hat p(x)]}{p(x)^2} = \frac{\rho}{n}, \qquad \rho = \frac{\int p(x \mid z)^2\, p(z)\, dz}{p(x)^2} - 1 = \int \frac{p(z \mid x)^2}{p(z)}\, dz - 1.$$
#
# The last form says what costs: a posterior that is *narrow*, or *far from the prior*. To know $p(x)$ with an error of 10%, that is $\log p(x)$ with one of about 0.1 nats, you need $n = \rho / 0.1^2$ draws. The next cell prints that for our three observations.

# %% key="naive-cost" tags=["nbval-check-output"]
def log_normal(z, mu, logvar):
    squared = (z - mu) ** 2 * torch.exp(-logvar)
    return -0.5 * (squared + logvar + math.log(2 * math.pi))


def relative_variance(x, log_q):  # of p(x, z) / q(z), z ~ q
    return ((2 * log_posterior(x) - log_q).logsumexp(-1).exp() * dz - 1).item()


for name, x in observed.items():
    rho = relative_variance(x, log_prior(z))
    print(say("elbo-cost", name=name, rho=rho, draws=rho / 0.1**2))

# %% [markdown] key="importance"
# ### Look where it matters
#
# C asks for more than eighteen thousand draws, because the prior hardly ever visits the place where its needle stands. *Importance sampling* draws from another density $q$, one that looks there, and corrects each draw by its weight:
#
# $$p(x) = \mathbb{E}_{q(z)}\!\left[\frac{p(x, z)}{q(z)}\right].$$
#
# It is the same integral, multiplied and divided by $q$. Let $g$ be a Gaussian placed by eye on the needle, with its width doubled to be safe. Why not take $q = g$? Because a second stretch of the curve also explains C, however badly. It holds a few hundred-thousandths of the posterior, and $g$ hardly ever goes there. On the day a draw does, its weight is astronomical. The next cell prints how much that costs, and the cure: **keep half of the prior**, $q = \frac{1}{2} g + \frac{1}{2} p$. Then no weight can exceed $2\, p(x \mid z)$.

# %% key="importance-price" tags=["nbval-check-output"]
x = observed["C"]
log_g = log_normal(z, 2.7, torch.tensor(0.3**2, dtype=torch.float64).log())  # (Z,)
log_half = torch.logaddexp(log_g, log_prior(z)) - math.log(2)  # (Z,)
far = log_posterior(x)[z < 0].exp().sum().item() * dz
rhos = [relative_variance(x, q) for q in (log_prior(z), log_g, log_half)]
print(say("elbo-second-hump", mass=far))
print(say("elbo-prices", prior=rhos[0], alone=rhos[1], half=rhos[2]))

assert 1e-5 < far < 1e-4
assert rhos[1] > 1e9
assert 50 < rhos[0] / rhos[2] < 120

# %% [markdown] key="importance-measured"
# The next picture measures the error of 500 estimates for each $n$. The lines are the predictions $\sqrt{\rho / n}$, the markers the measurements. On these axes, "the error falls as $1/\sqrt n$" is a slope of $-\frac{1}{2}$. Notice two things: the slope is the same for both, and the height is not.

# %% key="importance-picture"
torch.manual_seed(0)
truth = log_evidence(x)
counts = torch.tensor([16, 64, 256, 1024, 4096])
log_counts = counts.double().log() - counts.double().log().mean()  # (5,) centred


def draw_weights(n, guided):  # (500, n): log p(x, z) - log q(z)
    draws = torch.randn(500, n, dtype=torch.float64)
    if not guided:
        return log_likelihood(x, draws)
    from_g = torch.rand(500, n) < 0.5
    draws = torch.where(from_g, 2.7 + 0.3 * draws, draws)
    log_g = log_normal(draws, 2.7, torch.tensor(0.3**2, dtype=torch.float64).log())
    log_q = torch.logaddexp(log_g, log_prior(draws)) - math.log(2)
    return log_joint(x, draws) - log_q


figure, (ax,) = figures.picture(say("elbo-alt-falls"), width=6, height=3.2)
looks = {"naive": ("o", "prior", rhos[0]), "importance": ("s", "q", rhos[2])}
for kind, (marker, color, rho) in looks.items():
    errors = []
    for n in counts.tolist():
        weights = draw_weights(n, kind == "importance")  # (500, n)
        squared = ((weights - truth).exp().mean(1) - 1) ** 2  # (500,)
        assert abs(squared.mean() - rho / n) < 4 * train.standard_error(squared)
        errors.append(squared.mean().sqrt().item())
    log_errors = torch.tensor(errors, dtype=torch.float64).log()  # (5,)
    slope = (log_counts @ log_errors / log_counts.square().sum()).item()
    assert abs(slope + 0.5) < 0.05
    print(say(f"elbo-slope-{kind}", slope=slope, rho=rho))
    ax.loglog(counts, (rho / counts).sqrt(), color=COLORS[color], linewidth=1)
    text = say(f"elbo-from-{kind}")
    ax.loglog(counts, errors, marker, color=COLORS[color], label=text)
ax.set(xlabel=say("elbo-n"), ylabel=say("elbo-relative-error"))
ax.legend(fontsize=9)
figure

# %% [markdown] key="importance-noticed"
# A good $q$ does not change the law. It changes the price, here by a factor of about eighty. **The better $q$ knows the posterior, the fewer draws.** If $q$ *is* the posterior, all weights are equal and one draw is enough: you saw it in lesson 00. So everything turns on finding a good $q$, and for that we need a number that says how good a $q$ is.

# %% [markdown] key="jensen"
# ## 3. The first route: Jensen
#
# The weights $w = p(x, z) / q(z)$ average to $p(x)$. What if we average their *logarithms*? The logarithm is concave: it loses more with a small weight than it gains with a large one. So the average of the logarithms stays below the logarithm of the average. That is Jensen's inequality, and the left-hand side is the ELBO:
#
# $$\mathrm{ELBO} = \mathbb{E}_{q}\!\left[\log \frac{p(x, z)}{q(z)}\right] \;\le\; \log \mathbb{E}_{q}\!\left[\frac{p(x, z)}{q(z)}\right] = \log p(x).$$
#
# In the next picture, $x$ is A and $q$ is a Gaussian that someone chose in a hurry. Each dot is a weight: its value across, its logarithm up. The twelve dots stand for twelve pieces of $q$ of equal mass. The dashed line is the logarithm of the average; the solid one, the average of the logarithms, both over the whole of $q$. The band between them is what Jensen loses. Only if all weights were equal would the band close.

# %% key="jensen-picture"
def elbo(x, mu, logvar):
    log_q = log_normal(z, mu, logvar)  # (..., Z)
    return (log_q.exp() * (log_joint(x) - log_q)).sum(-1) * dz  # (...,)


x = observed["A"]
mu, logvar = torch.tensor(0.0).double(), torch.tensor(0.8**2).double().log()
twelve = mu + torch.exp(0.5 * logvar) * figures.normal_quantiles(12).double()  # (12,)
weights = (log_joint(x, twelve) - log_normal(twelve, mu, logvar)).exp()  # (12,)
bound, top = elbo(x, mu, logvar).item(), log_evidence(x).item()

figure, (ax,) = figures.picture(
    say("elbo-alt-jensen", gap=top - bound), width=6, height=3.4
)
curve = torch.linspace(0.012, 0.8, 300)
ax.plot(curve, curve.log(), color="#777777", linewidth=1, label=r"$\log\,w$")
ax.plot(weights, weights.log(), "o", color=COLORS["q"], label=say("elbo-weights"))
ax.axhline(top, color="black", linestyle="--")
ax.axhline(bound, color=COLORS["q"])
ax.axhspan(bound, top, color=COLORS["gap"], alpha=0.35, linewidth=0)
ax.plot([math.exp(top)] * 2, [-4.5, top], ":", color="black")
ax.plot(math.exp(top), top, "D", color="black")
ax.annotate(say("elbo-log-of-mean"), (0.79, top + 0.08), ha="right")
ax.annotate(say("elbo-mean-of-logs"), (0.79, bound - 0.3), ha="right")
ax.set(xlim=(0, 0.8), ylim=(-4.5, 0), ylabel="nats")
ax.set_xlabel(say("elbo-weight-axis"))
ax.legend(fontsize=9, loc="lower right")
figure

# %% [markdown] key="kl-route"
# ## 4. The second route: Bayes
#
# Jensen says that something is lost, not what. For that, start elsewhere. By Bayes' rule, for *every* $z$,
#
# $$\log p(x) = \log p(x, z) - \log p(z \mid x).$$
#
# The left side does not know about $z$; on the right, two large changes cancel. Add and subtract $\log q(z)$, and average over $q$. The left side, being constant, stays as it is:
#
# $$\log p(x) = \underbrace{\mathbb{E}_q\!\left[\log \frac{p(x, z)}{q(z)}\right]}_{\mathrm{ELBO}} + \underbrace{\mathbb{E}_q\!\left[\log \frac{q(z)}{p(z \mid x)}\right]}_{\mathrm{KL}(q \,\|\, p(z \mid x))}.$$
#
# There is no inequality in it. **What Jensen loses is a Kullback-Leibler divergence, from $q$ to the true posterior.** It is never negative, so the ELBO is a bound. It is zero only where $q$ is the posterior, so the bound can be reached. And since $\log p(x)$ does not depend on $q$, whatever raises the ELBO lowers the divergence by as much.
#
# The next cell prints the first line for five values of $z$, and then the second for A and for B. The two terms on the right are computed apart: the ELBO from the joint, the KL from the normalized posterior. Then it closes the balance for 3,000 pairs of observation and $q$, to $10^{-6}$.

# %% key="kl-route-numbers" tags=["nbval-check-output"]
def kl_to_posterior(x, mu, logvar):
    log_q = log_normal(z, mu, logvar)  # (..., Z)
    return (log_q.exp() * (log_q - log_posterior(x))).sum(-1) * dz  # (...,)


for place in (900, 1100, 1150, 1300, 1400):
    parts = log_joint(x)[place].item(), log_posterior(x)[place].item()
    terms = {"joint": parts[0], "of": parts[1], "same": parts[0] - parts[1]}
    print(say("elbo-bayes", z=z[place].item(), **terms))

print()
for name in ("A", "B"):
    parts = [f(observed[name], mu, logvar).item() for f in (elbo, kl_to_posterior)]
    terms = {"elbo": parts[0], "kl": parts[1], "sum": sum(parts)}
    terms["exact"] = log_evidence(observed[name]).item()
    print(say("elbo-balance", name=name, **terms))

mus = torch.linspace(-3, 3, 40, dtype=torch.float64)[:, None, None]  # (40, 1, 1)
sigmas = torch.linspace(0.1, 1.5, 25, dtype=torch.float64)
logvars = 2 * sigmas.log()[:, None]  # (25, 1)
for x in observed.values():
    gap = log_evidence(x) - elbo(x, mus, logvars)  # (40, 25), Jensen's
    assert torch.allclose(gap, kl_to_posterior(x, mus, logvars), rtol=0, atol=1e-6)

# %% [markdown] key="two-terms"
# ### The form that gets trained
#
# Split the joint, $\log p(x, z) = \log p(x \mid z) + \log p(z)$, and the ELBO becomes the pair of terms of lesson 00: reconstruction minus the KL to the prior. Take care, then: **there are two Kullback-Leibler divergences.** One goes from $q$ to the prior; it is *inside* the ELBO and has a formula. The other goes from $q$ to the posterior; it is what the ELBO *misses*, and has none, unless there is a quadrature at hand.
#
# What we wrote by hand must equal the package. The next cell demands it: the KL to the prior is `densities.kl_to_standard_normal`, the split ELBO equals ours to $10^{-6}$, and `bounds.elbo`, which samples, agrees within four standard errors.

# %% key="two-terms-checked"
class Toy:  # what the package asks of a model
    def __init__(self, mu, logvar):
        self.q = mu, logvar

    def encode(self, x):
        return tuple(part.expand(len(x), 1) for part in self.q)  # (B, 1) each

    def reparameterize(self, mu, logvar):
        return mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)

    def decode_logits(self, z):
        return decode(z[..., 0])

    def log_conditional(self, x, z):
        return log_likelihood(x, z)[..., 0]


torch.manual_seed(0)
for x in observed.values():
    kl_prior = densities.kl_to_standard_normal(mu[None], logvar[None])
    log_q = log_normal(z, mu, logvar)
    by_grid = (log_q.exp() * (log_q - log_prior(z))).sum() * dz
    reconstruction = (log_q.exp() * log_likelihood(x, z)).sum() * dz
    assert torch.allclose(kl_prior, by_grid, atol=1e-6)
    assert torch.allclose(reconstruction - kl_prior, elbo(x, mu, logvar), atol=1e-6)
    sampled = bounds.elbo(Toy(mu, logvar), x.expand(20_000, 2)).elbo  # (20000,)
    error = train.standard_error(sampled)
    assert abs(sampled.mean() - elbo(x, mu, logvar)) < 4 * error

# %% [markdown] key="pull"
# ## 5. Pull it
#
# Choose an observation and move the mean $\mu$ and the width $\sigma$ of $q$. On the left, $q$ and the posterior. On the right, three bars that hang from zero. $\log p(x)$ never moves: no $q$ can change it. The ELBO hangs lower, and the gap fills exactly what is missing. The bars stop at the bottom of the picture; the numbers go on below it.
#
# Three things to try. With A, close the gap as far as you can: you will reach less than 0.08 nats, and never zero, because its posterior leans and a Gaussian does not. With B, try to get below 0.7. With C, put $\mu$ at 0 and see how dear it is to look in the wrong place.

# %% key="pull-panel"
FLOOR = -9.0  # nats, where the picture ends


def draw_balance(point, mu, sigma):
    x, logvar = observed[point], torch.tensor(sigma).double().log() * 2
    top, bound = log_evidence(x).item(), elbo(x, mu, logvar).item()
    gap = kl_to_posterior(x, mu, logvar).item()
    assert abs(top - bound - gap) < 1e-6
    numbers = {"top": top, "elbo": bound, "gap": gap}
    alt = say("elbo-alt-balance", name=point, mu=mu, sigma=sigma, **numbers)
    figure, (left, right) = figures.picture(alt, columns=2, width=8, height=3.2)
    inside = slice(800, 1601, 2)  # z from -4 to 4
    posterior, log_q = log_posterior(x).exp(), log_normal(z, mu, logvar)
    near, posterior, q = z[inside], posterior[inside], log_q.exp()[inside]
    green = COLORS["posterior"]
    left.fill_between(near, posterior, color=green, alpha=0.3)
    left.plot(near, posterior, color=green, label=r"$p(z \mid x)$")
    left.plot(near, q, "--", color=COLORS["q"], linewidth=2, label="$q(z)$")
    left.set(xlim=(-4, 4), ylim=(0, 3), xlabel="$z$", ylabel=say("elbo-density"))
    left.legend(fontsize=9, loc="upper left")
    shown = max(bound, FLOOR)
    right.bar(0, top, color="black", width=0.6)
    right.bar(1, shown, color=COLORS["q"], width=0.6, hatch="//", edgecolor="white")
    right.bar(
        2, max(top, FLOOR) - shown, bottom=shown, color=COLORS["gap"], width=0.6
    )
    right.axhline(top, color="black", linestyle="--", linewidth=1)
    right.axhline(0, color="black", linewidth=1)
    names = [r"$\log\,p(x)$", "ELBO", say("elbo-gap")]
    texts = [say("elbo-bar", value=value) for value in (top, bound, gap)]
    right.set_xticks(range(3), [f"{n}\n{t}" for n, t in zip(names, texts, strict=True)])
    if bound < FLOOR:
        right.plot([1, 2], [FLOOR + 0.4] * 2, "v", color="black", markersize=8)
    right.set(ylim=(FLOOR, 0.3), ylabel="nats")
    return figure


panel = sliders.panel(
    draw_balance,
    point=sliders.choice("x", list(observed)),
    mu=sliders.slider(r"$\mu$", -3, 3, step=0.1, value=0.5),
    sigma=sliders.slider(r"$\sigma$", 0.1, 1.5, step=0.05, value=0.5),
)
panel

# %% key="pull-swept"
# each control to both ends and back: every picture is another one
assert sliders.sweep(panel) == 6
panel.controls["point"].value, panel.controls["mu"].value = "B", 1.8
panel.controls["sigma"].value = 0.2
assert "B" in panel.picture.alt
panel.controls["point"].value, panel.controls["mu"].value = "A", -0.7
panel.controls["sigma"].value = 0.4
close = kl_to_posterior(observed["A"], -0.7, torch.tensor(0.4**2).double().log())
assert 0.05 < close < 0.08

# %% [markdown] key="ascent"
# ## 6. Let the gradient pull
#
# You have just done variational inference by hand. A gradient does it better: climb the ELBO over $\mu$ and $\log \sigma^2$. On the grid the ELBO is exact, so this is the plainest ascent there is, with no noise.
#
# The next picture shows the ELBO of B over the plane of $\mu$ and $\log \sigma^2$, as a landscape seen from above; the lines are drawn at 1, 2, 4, 8, 16 and 32 nats below $\log p(x)$. From each of four starting points a path climbs. Look at where each ends. There are three peaks, and not all of them are equal.

# %% key="ascent-landscape"
x = observed["B"]
side = torch.linspace(-3, 3, 121, dtype=torch.float64)  # mu
high = torch.linspace(-4.5, 1.0, 111, dtype=torch.float64)  # log sigma^2
rows = [(elbo(x, side[:, None], v), kl_to_posterior(x, side[:, None], v)) for v in high]
elbos, kls = (torch.stack(part) for part in zip(*rows, strict=True))  # (111, 121)

# the best q is the nearest one
assert abs(kls.flatten()[elbos.argmax()] - kls.min()) < 1e-9
assert torch.allclose(elbos + kls, log_evidence(x).expand_as(elbos), atol=1e-6)


def climb(value, starts, steps=2500, step_size=0.02):
    q = torch.tensor(starts, dtype=torch.float64, requires_grad=True)  # (S, 2)
    path = [q.detach().clone()]
    for _ in range(steps):
        heights = value(q[:, :1], q[:, 1:])  # (S,)
        (gradient,) = torch.autograd.grad(heights.sum(), q)  # (S, 2)
        with torch.no_grad():
            q += step_size * gradient
        path.append(q.detach().clone())
    return torch.stack(path, 1), gradient  # (S, steps + 1, 2), (S, 2)


starts = [(-2.6, -3.0), (-0.5, 0.7), (0.3, -0.5), (2.6, -1.0)]
paths, gradients = climb(lambda mu, logvar: elbo(x, mu, logvar), starts)

figure, (ax,) = figures.picture(say("elbo-alt-ascent"), width=6.5, height=3.8)
levels = [log_evidence(x).item() - 2.0**k for k in range(5, -1, -1)]
greys = [str(0.55 + 0.07 * step) for step in range(7)]
ax.contourf(side, high, elbos, levels=[-200, *levels, 0], colors=greys)
ax.contour(
    side, high, elbos, levels=levels, colors="#555555", linewidths=0.7, linestyles="-"
)
for path in paths:
    ax.plot(*path.T, color=COLORS["q"], linewidth=2)
    ax.plot(*path[0], "o", color=COLORS["q"], markeredgecolor="black")
    ax.plot(*path[-1], "*", color=COLORS["q"], markersize=16, markeredgecolor="black")
ax.set(xlabel=r"$\mu$", ylabel=r"$\log\,\sigma^2$", xlim=(-3, 3), ylim=(-4.5, 1.0))
figure

# %% [markdown] key="ascent-ends"
# The next cell prints the four ends. The balance holds along the whole way: each nat that the ELBO gains is a nat that the KL loses, because their sum cannot move. And each end is where the KL, computed on its own, is least in its neighbourhood.
#
# Only in its neighbourhood. Of the three peaks, two are mirror images, with a gap of 0.70 nats. The one in the middle is a trap: a wide $q$ laid across both humps and the valley between them, with a gap of 5.34. From there every small step costs, so a gradient does not leave. What you start from matters.

# %% key="ascent-checked" tags=["nbval-check-output"]
for path, gradient in zip(paths, gradients, strict=True):
    assert gradient.norm() < 1e-6  # it stands on a peak
    along = path[::50]  # (51, 2)
    values = elbo(x, along[:, :1], along[:, 1:])  # (51,)
    divergences = kl_to_posterior(x, along[:, :1], along[:, 1:])  # (51,)
    assert (values.diff() > -1e-9).all()
    assert (divergences.diff() < 1e-9).all()
    mu, logvar = path[-1]
    least = divergences[-1]
    for step in (-0.02, 0.02):
        assert kl_to_posterior(x, mu + step, logvar) > least
        assert kl_to_posterior(x, mu, logvar + step) > least
    numbers = {"mu": round(mu.item(), 4) + 0.0, "gap": least.item()}
    numbers["sigma"] = math.exp(logvar / 2)
    print(say("elbo-end", **numbers))

ends = kl_to_posterior(x, paths[:, -1, :1], paths[:, -1, 1:])  # (4,)
wanted = torch.tensor([0.70, 5.34, 0.70, 0.70], dtype=torch.float64)
assert torch.allclose(ends, wanted, rtol=0, atol=0.005)

# %% [markdown] key="two-modes"
# ## 7. A posterior that no Gaussian covers
#
# The two high peaks stand each on *one* of the humps of B and ignore the other. Why does stretching over both not pay? Read the divergence: $\mathrm{KL}(q \,\|\, p) = \mathbb{E}_q[\log q - \log p]$ averages over $q$. Where $q$ puts mass and the posterior has none, the price is enormous; where the posterior has mass and $q$ has none, nothing is paid at all. So $q$ retreats into a single hump: it is *mode-seeking*.
#
# The price of ignoring half can be guessed. Inside its hump, $q$ is about twice the posterior, and $\log 2 = 0.693$. The gap you saw is that, plus the little that the hump itself is not Gaussian.
#
# Turn the divergence around and the wish turns around too. $\mathrm{KL}(p \,\|\, q) = \mathbb{E}_p[\log p - \log q]$ averages over the posterior: no place where *it* has mass may lack $q$. That $q$ is *mass-covering*. Its optimum has a closed form, the mean and the variance of the posterior. We climb to it by gradient all the same, and ask that the ascent arrive at those moments.

# %% key="two-modes-checked" tags=["nbval-check-output"]
posterior = log_posterior(x).exp()  # (Z,)


def minus_kl_from_posterior(mu, logvar):
    log_q = log_normal(z, mu, logvar)  # (..., Z)
    return (posterior * (log_q - log_posterior(x))).sum(-1) * dz  # (...,)


mean = (posterior * z).sum() * dz
variance = (posterior * (z - mean) ** 2).sum() * dz
covering = climb(minus_kl_from_posterior, [(0.5, -0.5)])[0][0, -1]  # (2,)
other, seeking = paths[0, -1], paths[-1, -1]  # (2,) each

assert torch.allclose(covering, torch.stack((mean, variance.log())), atol=1e-5)
for name, q in (("seeking", seeking), ("covering", covering)):
    numbers = {"mu": round(q[0].item(), 4) + 0.0, "sigma": math.exp(q[1] / 2)}
    forward = -minus_kl_from_posterior(*q).item()
    numbers |= {"qp": kl_to_posterior(x, *q).item(), "pq": forward}
    print(say(f"elbo-mode-{name}", **numbers))

# the two peaks are mirror images
assert torch.allclose(other * torch.tensor([-1.0, 1.0]), seeking, atol=1e-5)
assert kl_to_posterior(x, *seeking) < kl_to_posterior(x, *covering)
assert minus_kl_from_posterior(*seeking) < minus_kl_from_posterior(*covering)
assert 0 < kl_to_posterior(x, *seeking) - math.log(2) < 0.02

# %% [markdown] key="two-modes-before"
# Each wins at its own game and loses badly at the other's. The next picture shows both. The mass-covering $q$ has its peak exactly where the posterior has a valley: draw from it, and most of what it proposes could hardly have produced $x$. The mode-seeking one proposes only good explanations, and does not know that there are others.

# %% key="two-modes-picture"
figure, axes = figures.picture(
    say("elbo-alt-two-modes"), columns=2, width=8, height=2.9
)
for ax, name in zip(axes, ("seeking", "covering"), strict=True):
    ax.fill_between(z, posterior, color=COLORS["posterior"], alpha=0.3)
    ax.plot(z, posterior, color=COLORS["posterior"], label=r"$p(z \mid x)$")
    q = seeking if name == "seeking" else covering
    ax.plot(z, log_normal(z, *q).exp(), "--", color=COLORS["q"], lw=2, label="$q(z)$")
    ax.set(xlim=(-4, 4), ylim=(0, 2.9), xlabel="$z$", ylabel=say("elbo-density"))
    ax.set_title(say(f"elbo-title-{name}"), loc="left", fontsize=10)
    ax.legend(fontsize=9, loc="upper left")
axes[0].plot(z, log_normal(z, *other).exp(), ":", color=COLORS["q"], lw=2)
figure

# %% [markdown] key="two-modes-moral"
# A VAE's encoder maximizes the ELBO; so, for a given decoder, it minimizes $\mathrm{KL}(q \,\|\, p)$: it seeks a mode. Do not conclude that it must be so: it is a choice, made because we can sample from $q$, and not from the posterior.

# %% [markdown] key="digit"
# ## 8. The same balance, for a digit
#
# Now leave the toy. The VAE of lesson 00 has two latents, so its integral runs over a plane, and a plane can still be summed. Nothing else changes: 784 pixels instead of two numbers, a network instead of a curve, and the encoder's $q(z \mid x)$ instead of one that we choose.
#
# If the model is not in the cache yet, the next cell trains it, in less than a minute.

# %% key="digit-model"
device = torch.device("cpu")
if torch.accelerator.is_available():
    device = torch.accelerator.current_accelerator()

train_images = data.load("auto", "train", device=device)
test_images = data.load(train_images.name, "test", device=device)
model, history = train.trained(train_images, device=device)
print(say("elbo-data", name=train_images.name, device=device.type))
del train_images

# %% [markdown] key="digit-many"
# First the whole picture: for 500 test images, the exact $\log p(x)$ by `exact.log_likelihood`, and the ELBO averaged over 64 draws. The histogram shows the gap of each image. With 64 draws the ELBO is itself an estimate, and where the gap is tiny the difference may even come out negative: whatever lies below a hundredth of a nat stands in the first bar. We do not pick by eye which digit to look at: we take the one whose gap is the *median*, the one in the middle of the 500.

# %% key="digit-gaps"
torch.manual_seed(0)
pixels = test_images.pixels[:500]  # (500, 784)
with torch.no_grad():
    many_exact = exact.log_likelihood(model, pixels, grid=600, extent=7.5)  # (500,)
    many_exact = many_exact.cpu()
    many_elbo = bounds.elbo(model, pixels, samples=64).elbo.cpu()  # (500,)
gaps = many_exact - many_elbo  # (500,)
chosen = gaps.argsort()[len(gaps) // 2].item()

figure, (ax,) = figures.picture(say("elbo-alt-gaps"), width=6, height=2.6)
edges = torch.logspace(-2, 2, 41)
ax.hist(gaps.clamp(0.01, 100), bins=edges, color=COLORS["gap"], edgecolor="white")
ax.axvline(gaps[chosen], color="black", linestyle="--", label=say("elbo-median"))
ax.set(xscale="log", xlabel=say("elbo-gap-axis"), ylabel=say("elbo-images"))
ax.legend(fontsize=9)
figure

# %% [markdown] key="digit-balance"
# Now that one digit, in float64 and with all three numbers computed on their own. By hand: a grid of 300 × 300 points over $[-5, 5]^2$, the joint at each, and the sum. From the package: `exact.log_likelihood` and `exact.posterior`, which must agree with ours. The ELBO: reconstruction averaged over the encoder's $q$ on the grid, minus the closed-form KL to the prior. The gap: the KL from $q$ to `exact.posterior`. Do they close?

# %% key="digit-ledger"
double = copy.deepcopy(model).cpu().double()
x = test_images.pixels[chosen : chosen + 1].cpu().double()  # (1, 784)
points = torch.linspace(-5, 5, 300, dtype=torch.float64)  # (300,)
cell = (points[1] - points[0]).item() ** 2
plane = torch.cartesian_prod(points, points)  # (90000, 2)

with torch.no_grad():
    reconstructions = torch.cat(
        [densities.log_bernoulli(x, double.decode_logits(p)) for p in plane.split(1500)]
    )  # (90000,) log p(x|z)
    mu, logvar = double.encode(x)  # (1, 2) each
joint = reconstructions + densities.log_standard_normal(plane)  # (90000,)
by_hand = joint.logsumexp(0).item() + math.log(cell)
packaged = exact.log_likelihood(double, x, grid=300).item()
density = exact.posterior(double, x, grid=300)[0]  # (300, 300)
assert abs(by_hand - packaged) < 1e-6
ours = (joint - by_hand).exp().reshape(300, 300)
assert torch.allclose(ours, density, rtol=1e-6, atol=1e-9)

log_q = densities.log_normal(plane, mu, logvar)  # (90000,)
q = log_q.exp() * cell  # (90000,) mass of each cell
assert abs(q.sum().item() - 1) < 1e-6
bound = (q @ reconstructions - densities.kl_to_standard_normal(mu, logvar)).item()
log_density = density.clamp_min(1e-300).log().flatten()  # (90000,)
gap = (q @ (log_q - log_density)).item()

assert abs(packaged - bound - gap) < 1e-3
print(say("elbo-digit-exact", value=packaged))
print(say("elbo-digit-elbo", value=bound))
print(say("elbo-digit-gap", value=gap))
print(say("elbo-digit-miss", value=packaged - bound - gap))

# %% [markdown] key="digit-before"
# It closes: the last line is what is left over. Now see what those nats look like. On the left, the digit. In the middle, the whole latent plane: the rings hold 50% and 95% of the prior, and the true posterior is that speck. On the right, the speck enlarged. In green, solid, the regions that hold 50% and 95% of the posterior; in orange, dashed, those of the encoder's $q$. The gap measures the difference between the two shapes.

# %% key="digit-picture"
def levels_of(density, cell):  # the heights whose regions hold 95 % and 50 %
    ordered = density.flatten().sort(descending=True).values
    held = ordered.cumsum(0) * cell
    return [ordered[(held < mass).sum()].item() for mass in (0.95, 0.5)]


at_q = q.reshape(300, 300) / cell  # (300, 300)
heights = {"posterior": levels_of(density, cell), "q": levels_of(at_q, cell)}
seen = (density >= heights["posterior"][0]) | (at_q >= heights["q"][0])  # (300, 300)
places = points[seen.nonzero()]  # (N, 2)
middle = (places.amax(0) + places.amin(0)) / 2  # (2,)
reach = (places.amax(0) - places.amin(0)).max().item() * 0.65

figure, (left, centre, right) = figures.picture(
    say("elbo-alt-digit", gap=gap), columns=3, width=9, height=3.2
)
figures.show_digits(left, x, columns=1, title=say("elbo-median"))
prior = densities.log_standard_normal(plane).exp().reshape(300, 300)
near = [torch.linspace(m - reach, m + reach, 120).double() for m in middle.tolist()]
fine = torch.cartesian_prod(*near)  # (14400, 2), the window
with torch.no_grad():
    fine_reconstructions = [
        densities.log_bernoulli(x, double.decode_logits(p)) for p in fine.split(1500)
    ]
log_fine = torch.cat(fine_reconstructions) - by_hand  # (14400,) log p(x|z) / p(x)
fine_posterior = (log_fine + densities.log_standard_normal(fine)).exp()
fine_q = densities.log_normal(fine, mu, logvar).exp()
views = [
    (centre, (points, points), density, at_q),
    (right, near, fine_posterior.reshape(120, 120), fine_q.reshape(120, 120)),
]
for ax, sides, p, q_here in views:
    ax.contour(*sides, p.T, heights["posterior"], colors=COLORS["posterior"])
    ax.contour(*sides, q_here.T, heights["q"], colors=COLORS["q"], linestyles="--")
    ax.set(xlabel="$z_1$", ylabel="$z_2$", aspect="equal")
circles = levels_of(prior, cell)
centre.contour(points, points, prior.T, circles, colors=COLORS["prior"], linestyles=":")
centre.set(xlim=(-3.2, 3.2), ylim=(-3.2, 3.2))
centre.set_title(say("elbo-plane"), loc="left", fontsize=10)
right.plot([], [], color=COLORS["posterior"], label=r"$p(z \mid x)$")
right.plot([], [], "--", color=COLORS["q"], label=r"$q(z \mid x)$")
right.legend(fontsize=8)
right.set_title(say("elbo-enlarged"), loc="left", fontsize=10)
figure

# %% [markdown] key="digit-cost"
# ### How many draws for this digit?
#
# The formula of section 2 holds unchanged, with the plane in place of the line. The next cell computes $\rho$ for this digit: first for the naive way, which samples from the prior. Then for a mixture, half prior and half encoder's $q$: importance sampling with the encoder as a guide. The number printed is how many draws bring $\log p(x)$ to within about 0.1 nats.
#
# Why half prior, once more? Because with $q$ alone **the variance is infinite**, and quadrature shows it. The variance is an integral of $p(z \mid x)^2 / q(z \mid x)$. Far out, the logits of this decoder grow no faster than $|z|$, so the posterior, however narrow at its peak, falls no faster than $e^{-z^2/2 - b|z|}$. The tails of $q$ fall as $e^{-z^2 / 2\sigma^2}$. With $\sigma^2 < \frac{1}{2}$ the ratio grows without end. The last lines print that integral over larger and larger squares, as a power of ten. It does not settle. With half prior in the mixture, no weight can exceed twice what the naive way would give it.

# %% key="digit-cost-checked"
log_post = joint - by_hand  # (90000,)
log_p = densities.log_standard_normal(plane)  # (90000,)
mixture = torch.logaddexp(log_p, log_q) - math.log(2)  # (90000,)
needed = {}
for kind, proposal in (("prior", log_p), ("mixture", mixture)):
    rho = (2 * log_post - proposal).logsumexp(0).exp().item() * cell - 1
    needed[kind] = rho / 0.1**2
    print(say(f"elbo-needs-{kind}", draws=needed[kind]))

powers = []
for extent in (2, 3, 4, 5):
    inside = ((plane - mu).abs() <= extent).all(1)  # (90000,)
    total = (2 * log_post - log_q)[inside].logsumexp(0).item() + math.log(cell)
    powers.append(total / math.log(10))
    print(say("elbo-infinite", extent=extent, power=powers[-1]))

assert (logvar.exp() < 0.5).all()
assert needed["prior"] > 2000
assert needed["mixture"] < needed["prior"] / 3
assert all(later > sooner + 10 for sooner, later in itertools.pairwise(powers))

# %% [markdown] key="answer"
# ## 9. So, how tight is it?
#
# The next cell gives the answer for the 500 test images. The mean of the gap comes with its standard error; beside it the median, and the share of images that lose less than one nat. The assertions at its end, with the balances that closed in sections 4 and 8, are the answer to the question of this lesson, as a measured fact: the ELBO lies below $\log p(x)$ by $\mathrm{KL}(q \,\|\, p(z \mid x))$, neither more nor less; for a typical image that is a nat or so; and for a few it is more than ten nats, so the mean is far above the median.

# %% key="answer-measured"
error = train.standard_error(gaps)
numbers = {"mean": gaps.mean().item(), "error": error, "median": gaps.median().item()}
print(say("elbo-answer-exact", value=many_exact.mean().item()))
print(say("elbo-answer-elbo", value=many_elbo.mean().item()))
print(say("elbo-answer-gap", **numbers, share=(gaps < 1).float().mean().item()))

assert numbers["mean"] > 4 * error  # it is a gap indeed
assert 0.3 < numbers["median"] < 4
assert numbers["mean"] > 1.5 * numbers["median"]
assert gaps.max() > 10

# %% [markdown] key="next"
# Why do a few images lose so much? Is the Gaussian to blame, which cannot take the posterior's shape, or the encoder, which did not find the best Gaussian? Lesson 06 tells the two apart, for all test images. How a gradient passes through the draws from $q$, which here we avoided with a grid, is lesson 03.
#
# **To read.** Kingma and Welling (2013), *Auto-Encoding Variational Bayes*, equations 1 to 3, which are the second route of this lesson. Rezende, Mohamed and Wierstra (2014), who took the first. Burda, Grosse and Salakhutdinov (2015), who average weights before taking the logarithm: exercise 3 is their bound. Cremer, Li and Duvenaud (2018), on the two causes of the gap.

# %% [markdown] key="exercises"
# ## Exercises
#
# Write your answer in place of the ellipsis and run the cell. The check answers at once: right, or a hint. The solutions are folded right below each question.
#
# ### 1. The ELBO on a grid
#
# You get the logarithm of a joint, `log_joint`, of shape `(Z,)`, at the points `z`, `(Z,)`, equally spaced; and the parameters of a Gaussian $q$, `mu` and `logvar`, two numbers. Return the ELBO: a tensor with a single number. The joint of the check is not the toy's, and the spacing is not 0.01.

# %% key="exercise-grid" tags=["nbval-check-output"]
def my_elbo(log_joint, z, mu, logvar):
    ...


checks.grid_elbo(my_elbo)

# %% key="solution-grid" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output", "solution"]
def solution_elbo(log_joint, z, mu, logvar):
    log_q = log_normal(z, mu, logvar)  # (Z,)
    return (log_q.exp() * (log_joint - log_q)).sum() * (z[1] - z[0])


verdict = checks.grid_elbo(solution_elbo)
assert verdict
verdict

# %% [markdown] key="exercise-kl-text"
# ### 2. A KL by Monte Carlo
#
# The KL to the prior has a formula only because everything in it is Gaussian. With another prior you would have to sample. Write the estimate: `z`, of shape `(S, B, L)`, are $S$ draws from $q = \mathcal{N}(\mu, \sigma^2)$ for each of $B$ images; `mu` and `logvar` are `(B, L)`. Return the Monte Carlo estimate of $\mathrm{KL}(q \,\|\, \mathcal{N}(0, I))$, one number per image, from exactly these draws. The functions of `densities` may help.

# %% key="exercise-kl" tags=["nbval-check-output"]
def my_kl_estimate(z, mu, logvar):
    ...


checks.sampled_kl(my_kl_estimate)

# %% key="solution-kl" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output", "solution"]
def solution_kl_estimate(z, mu, logvar):
    log_q = densities.log_normal(z, mu, logvar)  # (S, B)
    return (log_q - densities.log_standard_normal(z)).mean(0)  # (B,)


verdict = checks.sampled_kl(solution_kl_estimate)
assert verdict
verdict

# %% [markdown] key="exercise-bound-text"
# ### 3. Find the bug: a bound that does not climb
#
# With $k$ draws from $q$, Burda, Grosse and Salakhutdinov (2015) average the weights *before* taking the logarithm. The result is still a lower bound, and on average it climbs towards $\log p(x)$ as $k$ grows. Someone wrote the function below and was surprised: with 1,000 draws, the bound of the test set was the same as with one. No error, no warning. Find the bug and fix it, without looking at the hint. `log_weights` has shape `(k, B)`; a weight of an image may be $e^{-900}$, which no float holds.

# %% key="exercise-bound" tags=["nbval-check-output"]
def my_bound(log_weights):
    return log_weights.mean(0)


checks.weighted_bound(my_bound)

# %% key="solution-bound" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output", "solution"]
def solution_bound(log_weights):
    return log_weights.logsumexp(0) - math.log(len(log_weights))  # (B,)


verdict = checks.weighted_bound(solution_bound)
assert verdict
verdict

# %% [markdown] key="exercise-mixture-text"
# ### 4. Find the bug: a prior with phantom modes
#
# Another prior, then: a mixture of two Gaussians of equal weight, with centres at $(3, 3)$ and $(-3, -3)$ and identity covariance. The function below is meant to return the log-density of that mixture for each row of `z`, `(B, 2)`. It has made the rounds in published code. At the point $(3, -3)$, far from both centres, it says $-3.22$; the right value is $-19.84$. What did it put there, and how many modes does it have in all? Fix it.

# %% key="exercise-mixture" tags=["nbval-check-output"]
centres = torch.tensor([[3.0, 3.0], [-3.0, -3.0]], dtype=torch.float64)  # (K, 2)


def my_log_prior(z):
    log_parts = log_normal(z[:, None], centres, torch.zeros_like(centres))  # (B, K, 2)
    return (log_parts.logsumexp(1) - math.log(2)).sum(-1)  # (B,)


checks.mixture_prior(my_log_prior)

# %% key="solution-mixture" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output", "solution"]
def solution_log_prior(z):
    log_parts = log_normal(z[:, None], centres, torch.zeros_like(centres))  # (B, K, 2)
    return log_parts.sum(-1).logsumexp(1) - math.log(2)  # (B,)


verdict = checks.mixture_prior(solution_log_prior)
assert verdict
corner = torch.tensor([[3.0, -3.0]], dtype=torch.float64)
parts = log_normal(corner[:, None], centres, torch.zeros_like(centres))  # (1, K, 2)
wrong = (parts.logsumexp(1) - math.log(2)).sum().item()
right = solution_log_prior(corner).item()
print(say("elbo-corner", wrong=wrong, right=right))
assert (round(wrong, 2), round(right, 2)) == (-3.22, -19.84)
verdict

# %% [markdown] key="solution-mixture-text"
# <details><summary>Answer to the question</summary>
#
# It put a mode there. The density that it returns is a product of two one-dimensional mixtures: each coordinate picks its centre on its own. It has four modes of equal mass, at $(\pm 3, \pm 3)$, two of which nobody asked for. Summing over coordinates comes first, for each component; mixing comes after. And training does not complain, because this density, too, integrates to one.
#
# </details>
