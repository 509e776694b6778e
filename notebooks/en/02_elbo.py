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
# **By the end you will be able to** derive the ELBO by two routes, say what it misses of $\log p(x)$ and put a number on that, predict how many draws naive Monte Carlo needs, and recognize a posterior that no Gaussian fits.
#
# **You need** lesson 00, integrals and logarithms.
#
# **Time:** 35 minutes of reading; about two minutes of computing on two cores. The first time, add one to three minutes: section 9 trains the VAE of lesson 00 and keeps it. Plots and some checks are in folded cells, which you may skip.
#
# In lesson 00 you wanted to maximize $\log p(x)$. You maximized the ELBO, which lies below it. If the distance is tiny, or the same for every model, no harm is done. If not, the best ELBO may belong to a model that is not the best. **How far below does it lie?** At the end you will have the answer for a trained VAE, in nats (the unit of the natural logarithm), image by image. After a ± stands one standard error.

# %% key="setup"
import copy
import math

import torch
from numpy.polynomial.hermite_e import hermegauss

from vae_teach import bounds, data, densities, exact, figures, sliders, train
from vae_teach.checks import elbo as checks
from vae_teach.words import say, use_language

use_language("en")
COLORS = figures.COLORS


def float64(value):
    return torch.tensor(value, dtype=torch.float64)


# %% [markdown] key="toy"
# ## 1. A world where nothing can hide
#
# To know how far from $\log p(x)$ a bound lies, you need the exact answer beside it. So we build a world small enough to have one: **one** latent variable, **two** observed numbers. The decoder bends a line into a curve of the plane; we observe a point of the curve plus noise:
#
# $$z \sim \mathcal{N}(0, 1), \qquad f(z) = \left(z - 2 \sin z,\; \tfrac{3}{2} \cos z\right), \qquad x \mid z \sim \mathcal{N}(f(z), 0.4^2 I).$$
#
# The next picture shows the curve, with some values of $z$ along it, and 400 draws from the model. The curve crosses itself on purpose. Three observations will keep us company: **A**, inside the loop; **B**, near the crossing; **C**, on the curve, but on a stretch that the prior hardly ever visits.

# %% key="toy-model"
noise = 0.4  # standard deviation in each coordinate of x


def decode(z):
    return torch.stack((z - 2 * torch.sin(z), 1.5 * torch.cos(z)), -1)  # (..., 2)


def log_prior(z):
    return -0.5 * (z**2 + math.log(2 * math.pi))  # (...,)


def log_likelihood(x, z):  # (..., 2), (..., Z)
    squared = (x[..., None, :] - decode(z)).square().sum(-1)  # (..., Z)
    return -0.5 * squared / noise**2 - math.log(2 * math.pi * noise**2)


observed = {"A": float64([0.4, 0.75]), "B": float64([0.0, -0.45])}
observed["C"] = float64([1.9, -1.4])

# %% key="toy-picture" jupyter={"source_hidden": true} tags=["hide-input"]
torch.manual_seed(0)
z = torch.randn(400, dtype=torch.float64)
x = decode(z) + noise * torch.randn(400, 2, dtype=torch.float64)  # (400, 2)
line = torch.linspace(-3.4, 3.4, 300, dtype=torch.float64)
marks = torch.linspace(-3, 3, 7, dtype=torch.float64)


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
# The integral $p(x) = \int p(x \mid z)\, p(z)\, dz$ is over a line. We cut the line into narrow steps and add up: that is *quadrature*. For a smooth curve that dies out at both ends such a sum converges extremely fast: with ten steps to its width the error is below rounding, and nothing in our world is narrower than ten steps of 0.01. We keep each term as a logarithm and add the terms with `logsumexp`, so that none is rounded to zero. As a check, the cell adds up $p(x)$ over the whole plane and asks for 1 within $10^{-4}$.

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
parts = [log_evidence(part, z[::10]) for part in plane.split(1000)]  # (1000,) each
density = torch.cat(parts).exp().reshape(181, 71)
total = density.sum().item() * (across[1] - across[0]).item() * (up[1] - up[0]).item()

assert abs(total - 1) < 1e-4
print(say("elbo-total", total=total))
for name, x in observed.items():
    print(say("elbo-exact", name=name, value=log_evidence(x).item()))

# %% [markdown] key="posteriors"
# With $p(x)$ comes the *posterior*, $p(z \mid x) = p(x, z) / p(x)$: which $z$ may have produced what we saw. **A**'s is a skewed hump. **B**'s has two humps: near the crossing, two stretches of the curve explain the same point. **C**'s is a needle far from the centre of the prior.

# %% key="posteriors-picture" jupyter={"source_hidden": true} tags=["hide-input"]
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
# Without quadrature, one can average $p(x \mid z)$ over draws of the prior:
#
# $$p(x) \approx \hat p(x) = \frac{1}{n} \sum_{i=1}^{n} p(x \mid z_i), \qquad z_i \sim p(z).$$
#
# On average $\hat p(x)$ is right; single estimates stray. Divided by $p(x)$, each term is $p(z_i \mid x) / p(z_i)$ by Bayes' rule. Its mean is 1, and its variance, the mean square minus 1, is one more integral that we can do exactly:
#
# $$\frac{\mathrm{Var}[\hat p(x)]}{p(x)^2} = \frac{\rho}{n}, \qquad \rho = \int \frac{p(z \mid x)^2}{p(z)}\, dz - 1.$$
#
# This $\rho$ is the *chi-square divergence* from the posterior to the density that we draw from. It is large for a posterior that is narrow, or far from the prior. A root-mean-square error of 10% in $p(x)$, about 0.1 nats in $\log p(x)$, takes $n = \rho / 0.1^2$ draws.

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
# C asks for more than eighteen thousand draws, because the prior hardly ever visits its needle. *Importance sampling* draws from another density $q$, which looks there, and corrects each draw by its weight $p(x, z) / q(z)$:
#
# $$p(x) = \mathbb{E}_{q(z)}\!\left[\frac{p(x, z)}{q(z)}\right].$$
#
# Let $g$ be a Gaussian with its centre on the needle. With $\sigma = 0.3$ it is twice as wide as the needle, and still its $\rho$ is beyond all measure, **because far out its tails are thinner than the posterior's**. There the first coordinate of $f(z)$ is $z$ plus a bounded term, and the second is bounded, so the posterior falls like a Gaussian of width $1 / \sqrt{1 + 1 / 0.4^2} = 0.37$: both are tiny, but $g$ is so much tinier that the ratio explodes. (A run would hardly notice: its draws never visit those places. But it would not notice a missed hump either, and no error bar computed from the draws tells the two cases apart.) A wide one ($\sigma = 0.8$) does well. When in doubt, **let the prior propose half of the draws**, $q = \frac{1}{2} g + \frac{1}{2} p$. Then $q \ge \frac{1}{2} p$, and no weight exceeds $2\, p(x \mid z)$. For each $q$ the cell prints $\rho$, now with $q$ in the denominator.

# %% key="importance-price" tags=["nbval-check-output"]
x = observed["C"]
narrow, wide = (log_normal(z, 2.7, 2 * float64(s).log()) for s in (0.3, 0.8))
half = torch.logaddexp(narrow, log_prior(z)) - math.log(2)  # (Z,)
proposals = {"prior": log_prior(z), "narrow": narrow, "wide": wide, "half": half}
rhos = {kind: relative_variance(x, log_q) for kind, log_q in proposals.items()}
for kind, rho in rhos.items():
    print(say(f"elbo-rho-{kind}", rho=rho))

worst = (2 * log_posterior(x) - narrow).argmax()  # where the integrand peaks
powers = [(f[worst] / math.log(10)).item() for f in (log_posterior(x), narrow)]
print(say("elbo-tail", z=z[worst].item(), posterior=powers[0], narrow=powers[1]))

assert z[worst] < -7
assert rhos["narrow"] > 1e70
assert rhos["wide"] < 5
assert 50 < rhos["prior"] / rhos["half"] < 120

# %% key="importance-measured" jupyter={"source_hidden": true} tags=["hide-input"]
def draw_weights(guided, n=1024):  # (500, n): log p(x, z) - log q(z)
    draws = torch.randn(500, n, dtype=torch.float64)
    if not guided:
        return log_likelihood(x, draws)
    draws = torch.where(torch.rand(500, n) < 0.5, 2.7 + 0.3 * draws, draws)
    log_g = log_normal(draws, 2.7, 2 * float64(0.3).log())
    log_q = torch.logaddexp(log_g, log_prior(draws)) - math.log(2)
    return log_joint(x, draws) - log_q


torch.manual_seed(0)
for kind in ("prior", "half"):
    estimates = (draw_weights(kind == "half") - log_evidence(x)).exp().mean(1)  # (500,)
    squared = (estimates - 1) ** 2
    predicted, error = rhos[kind] / 1024, squared.mean()
    rms = error.sqrt().item()
    print(say(f"elbo-measured-{kind}", rms=rms, predicted=predicted**0.5))
    assert abs(error - predicted) < 4 * train.standard_error(squared) < predicted

# %% [markdown] key="importance-noticed"
# The folded cell measured 500 estimates from 1,024 draws each: the errors are as predicted, up to what 500 estimates can tell. A good $q$ leaves the $1/\sqrt n$ as it is and lowers the factor in front of it: here the prior alone would need some eighty times more draws. $\rho$ says how good a $q$ is, but computing it takes the exact posterior, and an estimate of it hangs on the rarest draws. We need a number that draws of $q$ alone estimate well, and that a gradient can climb.

# %% [markdown] key="jensen"
# ## 3. The first route: Jensen
#
# The weights $w = p(x, z) / q(z)$ average to $p(x)$. What if we average their *logarithms*? The logarithm is concave: it loses more with a small weight than it gains with a large one. So the average of the logarithms stays below the logarithm of the average. That is Jensen's inequality, and the left-hand side is the ELBO:
#
# $$\mathrm{ELBO} = \mathbb{E}_{q}\!\left[\log \frac{p(x, z)}{q(z)}\right] \;\le\; \log \mathbb{E}_{q}\!\left[\frac{p(x, z)}{q(z)}\right] = \log p(x).$$
#
# In the next picture, $x$ is A and $q$ a Gaussian chosen in a hurry ($\mu = 0$, $\sigma = 0.8$). We cut $q$ into twelve pieces of equal mass; each dot is the weight in the middle of one. The black diamond is the average of the weights under all of $q$, not of these twelve: it is $p(x)$. The dashed line is its logarithm; the solid one, the average of the logarithms. The band between them is what Jensen loses. Only if all weights were equal would it close.

# %% key="jensen-bound"
def elbo(x, mu, logvar):
    log_q = log_normal(z, mu, logvar)  # (..., Z)
    return (log_q.exp() * (log_joint(x) - log_q)).sum(-1) * dz  # (...,)


mu, logvar = float64(0.0), 2 * float64(0.8).log()
for x in observed.values():
    assert elbo(x, mu, logvar) < log_evidence(x)

# %% key="jensen-picture" jupyter={"source_hidden": true} tags=["hide-input"]
x = observed["A"]
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
ax.plot(math.exp(top), top, "D", color="black", label=say("elbo-mean-weight"))
ax.annotate(say("elbo-log-of-mean"), (0.79, top + 0.08), ha="right")
ax.annotate(say("elbo-mean-of-logs"), (0.79, bound - 0.3), ha="right")
ax.set(xlim=(0, 0.8), ylim=(-4.5, 0), ylabel="nats")
ax.set_xlabel(say("elbo-weight-axis"))
ax.legend(fontsize=9, loc="lower right")
figure

# %% [markdown] key="kl-route"
# ## 4. The second route: Bayes
#
# Jensen says that something is lost, not what. That takes the *Kullback-Leibler divergence* from $q$ to another density $r$: by how many nats the draws of $q$ are more likely under $q$ than under $r$, on average. By Jensen once more, it is never negative:
#
# $$\mathrm{KL}(q \,\|\, r) = \mathbb{E}_q\!\left[\log \frac{q(z)}{r(z)}\right] = -\,\mathbb{E}_q\!\left[\log \frac{r(z)}{q(z)}\right] \;\ge\; -\log \mathbb{E}_q\!\left[\frac{r(z)}{q(z)}\right] \ge -\log 1 = 0.$$
#
# (The last average is less than 1 if $r$ has mass where $q$ has none.) It is zero only for a constant ratio: $q = r$. Now Bayes' rule, for *every* $z$:
#
# $$\log p(x) = \log p(x, z) - \log p(z \mid x) = \log \frac{p(x, z)}{q(z)} + \log \frac{q(z)}{p(z \mid x)}.$$
#
# Average over $q$. The left side does not depend on $z$ and stays as it is:
#
# $$\log p(x) = \underbrace{\mathbb{E}_q\!\left[\log \frac{p(x, z)}{q(z)}\right]}_{\mathrm{ELBO}} + \underbrace{\mathbb{E}_q\!\left[\log \frac{q(z)}{p(z \mid x)}\right]}_{\mathrm{KL}(q \,\|\, p(z \mid x))}.$$
#
# There is no inequality in it. **What Jensen loses is the divergence from $q$ to the true posterior.** It is never negative, so the ELBO is a bound; it is zero where $q$ is the posterior, so the bound can be reached. And since $\log p(x)$ does not depend on $q$, whatever change of $q$ raises the ELBO lowers the divergence by as much. (In section 8 the model moves too, and this no longer holds.)
#
# The next cell prints the balance for A and B, with the same $q$. On one grid both sides are the same sum: that it closes is algebra, and tests only our code. So we also go **another way, without a grid**: $\log p(x)$ from 200,000 draws of the prior, the ELBO from 200,000 draws of $q$. Their difference must be the KL of the grid.

# %% key="kl-route-numbers" tags=["nbval-check-output"]
def kl_to_posterior(x, mu, logvar):
    log_q = log_normal(z, mu, logvar)  # (..., Z)
    return (log_q.exp() * (log_q - log_posterior(x))).sum(-1) * dz  # (...,)


def gap_by_draws(x, n=200_000):  # and its standard error
    likelihood = log_likelihood(x, torch.randn(n, dtype=torch.float64)).exp()  # (n,)
    from_q = mu + torch.exp(0.5 * logvar) * torch.randn(n, dtype=torch.float64)
    log_weights = log_joint(x, from_q) - log_normal(from_q, mu, logvar)  # (n,)
    errors = train.standard_error(likelihood) / likelihood.mean().item()
    error = math.hypot(errors, train.standard_error(log_weights))
    return (likelihood.mean().log() - log_weights.mean()).item(), error


torch.manual_seed(0)
for name in ("A", "B"):
    x = observed[name]
    parts = [f(x, mu, logvar).item() for f in (elbo, kl_to_posterior)]
    balance = {"elbo": parts[0], "kl": parts[1], "sum": sum(parts)}
    print(say("elbo-balance", name=name, **balance, exact=log_evidence(x).item()))
    assert abs(sum(parts) - log_evidence(x).item()) < 1e-6
    gap, error = gap_by_draws(x)
    print(say("elbo-by-draws", name=name, gap=gap, error=error))
    assert abs(gap - parts[1]) < 4 * error < 0.1 * parts[1]

# %% [markdown] key="two-terms"
# ### The form that gets trained
#
# The model goes one way, $q$ the other. We write $q(z \mid x)$ to recall that each $x$ has a $q$ of its own:
#
# $$z \;\; \underset{\textstyle q(z \mid x)}{\overset{\textstyle p(x \mid z)}{\rightleftarrows}} \;\; x, \qquad z \sim p(z).$$
#
# Split the joint, and the two terms of lesson 00 come out:
#
# $$\mathrm{ELBO} = \mathbb{E}_q[\log p(x \mid z) + \log p(z) - \log q(z)] = \mathbb{E}_q[\log p(x \mid z)] - \mathrm{KL}(q \,\|\, p(z)).$$
#
# Take care: **there are two Kullback-Leibler divergences.** The one from $q$ to the prior is *inside* the ELBO and has a formula. The one from $q$ to the posterior is what the ELBO *misses*, and has none. The folded cell checks that the package agrees with us.

# %% key="two-terms-checked" jupyter={"source_hidden": true} tags=["hide-input"]
class Toy:  # what the package asks of a model
    def encode(self, x):
        return mu.expand(len(x), 1), logvar.expand(len(x), 1)  # (B, 1) each

    def log_conditional(self, x, z):
        return log_likelihood(x, z)[..., 0]  # (B,)


torch.manual_seed(0)
log_q = log_normal(z, mu, logvar)
kl_prior = densities.kl_to_standard_normal(mu[None], logvar[None])
by_grid = (log_q.exp() * (log_q - log_prior(z))).sum() * dz
assert torch.allclose(kl_prior, by_grid, atol=1e-6)
for x in observed.values():
    reconstruction = (log_q.exp() * log_likelihood(x, z)).sum() * dz
    assert torch.allclose(reconstruction - kl_prior, elbo(x, mu, logvar), atol=1e-6)
    sampled = bounds.elbo(Toy(), x.expand(20_000, 2)).elbo  # (20000,)
    error = train.standard_error(sampled)
    assert abs(sampled.mean() - elbo(x, mu, logvar)) < 4 * error

# %% [markdown] key="pull"
# ## 5. Pull it
#
# Choose an observation and move the mean $\mu$ and the width $\sigma$ of $q$. On the right, two bars hang from zero: $\log p(x)$, which never moves, since no $q$ can change it, and the ELBO, which hangs lower. The third, the gap, spans the distance between them. Bars are cut at the bottom; the numbers are not.
#
# Three things to try. With A, close the gap as far as you can: you will reach less than 0.08 nats, and never zero, because its posterior is skewed and a Gaussian is not. With B, how close to 0.7 nats does the smallest gap get? Section 7 says why not lower. With C, put $\mu$ at 0 and see what it costs to look in the wrong place.

# %% key="pull-picture" jupyter={"source_hidden": true} tags=["hide-input"]
FLOOR = -9.0  # nats, where the picture ends


def draw_balance(point, mu, sigma):
    x, logvar = observed[point], 2 * float64(sigma).log()
    top, bound = log_evidence(x).item(), elbo(x, mu, logvar).item()
    gap = kl_to_posterior(x, mu, logvar).item()
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


# %% key="pull-panel"
panel = sliders.panel(
    draw_balance,
    point=sliders.choice("x", list(observed)),
    mu=sliders.slider(r"$\mu$", -3, 3, step=0.1, value=0.5),
    sigma=sliders.slider(r"$\sigma$", 0.1, 1.5, step=0.05, value=0.5),
)
panel

# %% key="pull-swept" jupyter={"source_hidden": true} tags=["hide-input"]
# each control to both ends and back: every picture is another one
assert sliders.sweep(panel) == 6
panel.controls["point"].value, panel.controls["mu"].value = "B", 1.8
panel.controls["sigma"].value = 0.2
assert "B" in panel.picture.alt
panel.controls["point"].value, panel.controls["mu"].value = "A", -0.7
panel.controls["sigma"].value = 0.4
every = float64([k / 10 for k in range(-30, 31)])[:, None, None]  # every stop
stops = 2 * float64([k / 20 for k in range(2, 31)]).log()[:, None]
closest = {k: kl_to_posterior(x, every, stops).min() for k, x in observed.items()}
assert 0.05 < closest["A"] < 0.08
assert closest["B"] > 0.7

# %% [markdown] key="ascent"
# ## 6. Let the gradient pull
#
# Fitting $q$ by climbing the ELBO is called *variational inference*; you have just done it by hand. A gradient does it better, over $\mu$ and $\log \sigma^2$. On the grid the gradient has no noise.
#
# The next picture shows the ELBO of B from above. The lines lie 1, 2, 4, 8, 16 and 32 nats below $\log p(x)$; lighter is higher. The dashed one, 5.36 below, fences off each of three peaks (those of the outer two close below the frame). From each of four starting points, the circles, a path climbs to a star. Look at where each ends.

# %% key="ascent-climb"
def climb(value, starts, steps=2500, step_size=0.02):
    q = torch.as_tensor(starts, dtype=torch.float64).clone().requires_grad_()  # (S, 2)
    path = [q.detach().clone()]
    for _ in range(steps):
        heights = value(q[:, :1], q[:, 1:])  # (S,)
        (gradient,) = torch.autograd.grad(heights.sum(), q)  # (S, 2)
        with torch.no_grad():
            q += step_size * gradient
        path.append(q.detach().clone())
    return torch.stack(path, 1), gradient  # (S, steps + 1, 2), (S, 2)


x = observed["B"]
starts = [(-2.6, -3.0), (-0.5, 0.7), (0.3, -0.5), (2.6, -1.0)]
paths, gradients = climb(lambda mu, logvar: elbo(x, mu, logvar), starts)

# %% key="ascent-landscape" jupyter={"source_hidden": true} tags=["hide-input"]
side = torch.linspace(-3, 3, 121, dtype=torch.float64)  # mu
high = torch.linspace(-4.5, 1.0, 111, dtype=torch.float64)  # log sigma^2
elbos = torch.stack([elbo(x, side[:, None], v) for v in high])  # (111, 121)

figure, (ax,) = figures.picture(say("elbo-alt-ascent"), width=6.5, height=3.8)
top = log_evidence(x).item()
levels = [top - 2.0**k for k in range(5, -1, -1)]
greys = [str(0.55 + 0.07 * step) for step in range(7)]
ax.contourf(side, high, elbos, levels=[-200, *levels, 0], colors=greys)
lines = {"colors": "#555555", "linewidths": 0.7, "linestyles": "-"}
ax.contour(side, high, elbos, levels=levels, **lines)
lines |= {"colors": "black", "linewidths": 1.2, "linestyles": "--"}
around = ax.contour(side, high, elbos, levels=[top - 5.36], **lines).allsegs[0]
for path in paths:
    ax.plot(*path.T, color=COLORS["q"], linewidth=2)
    ax.plot(*path[0], "o", color=COLORS["q"], markeredgecolor="black")
    ax.plot(*path[-1], "*", color=COLORS["q"], markersize=16, markeredgecolor="black")
ax.set(xlabel=r"$\mu$", ylabel=r"$\log\,\sigma^2$", xlim=(-3, 3), ylim=(-4.5, 1.0))

lines["linewidths"] = 0
beyond = ax.contour(side, high, elbos, levels=[top - 5.4], **lines).allsegs[0]
assert len(around) == 3 > len(beyond)  # the rim lies between the two levels
figure

# %% [markdown] key="ascent-ends"
# Two peaks are mirror images, with a gap of 0.70 nats. The one in the middle has a gap of 5.34: a wide $q$ stretched over both humps and the valley between them. To leave this peak, a descent of a few hundredths of a nat would do, but the gradient never descends: the ascent stops there. The result depends on where you start.

# %% key="ascent-checked" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output"]
for path, gradient in zip(paths, gradients, strict=True):
    assert gradient.norm() < 1e-6  # it stands still
    values = elbo(x, path[::50, :1], path[::50, 1:])  # (51,)
    assert (values.diff() > -1e-9).all()  # it never went down
    mu, logvar = path[-1]
    nearby = float64([[-0.02, 0], [0.02, 0], [0, -0.02], [0, 0.02]])  # (4, 2)
    around = elbo(x, mu + nearby[:, :1], logvar + nearby[:, 1:])  # (4,)
    assert (around < values[-1]).all()  # a peak, and no saddle
    numbers = {"mu": round(mu.item(), 4) + 0.0, "sigma": math.exp(logvar / 2)}
    print(say("elbo-end", **numbers, gap=kl_to_posterior(x, mu, logvar).item()))

ends = log_evidence(x) - elbo(x, paths[:, -1, :1], paths[:, -1, 1:])  # (4,)
wanted = float64([0.70, 5.34, 0.70, 0.70])
assert torch.allclose(ends, wanted, rtol=0, atol=0.005)

# %% [markdown] key="two-modes"
# ## 7. A posterior that no Gaussian fits
#
# The $q$ of each high peak stands on *one* hump of B and ignores the other. Why does stretching over both not pay? Write $p$ for the posterior $p(z \mid x)$ here. $\mathrm{KL}(q \,\|\, p) = \mathbb{E}_q[\log q - \log p]$ averages over $q$. Where $q$ puts mass and the posterior has next to none, the price is enormous; where the posterior has mass and $q$ has none, the average does not notice. With a valley as deep as B's, the best $q$ retreats into a single hump: it is *mode-seeking*. That holds for the best $q$, but not every peak is like that: at the middle one, $q$ covers both humps.
#
# The price of ignoring half can be guessed. Inside its hump, $q$ is about twice the posterior, which costs $\log 2 = 0.693$ nats. The rest of the 0.70 is that the hump is not quite Gaussian.
#
# Turn the divergence around, and what it asks for turns around too. $\mathrm{KL}(p \,\|\, q) = \mathbb{E}_p[\log p - \log q]$ averages over the posterior: wherever *it* has mass, $q$ must have some. Its best $q$ is *mass-covering*: set the derivatives of $\mathbb{E}_p[\log q]$ to zero, and it has the mean and the variance of the posterior. The next cell climbs to it and compares. In the picture, the dotted curve is the mirrored solution, which seeks the other mode.

# %% key="two-modes-checked" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output"]
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
assert torch.allclose(other * float64([-1.0, 1.0]), seeking, atol=1e-5)
assert kl_to_posterior(x, *seeking) < kl_to_posterior(x, *covering)
assert minus_kl_from_posterior(*seeking) < minus_kl_from_posterior(*covering)
assert 0 < kl_to_posterior(x, *seeking) - math.log(2) < 0.02
assert posterior[1200] < 0.001 * posterior.max()  # the valley, at z = 0

# %% [markdown] key="two-modes-before"
# Each is the best by its own measure and bad by the other's. The mass-covering $q$ has its peak exactly where the posterior has a valley: much of what it proposes could hardly have produced $x$. The mode-seeking one proposes only good explanations, and does not know that there are others.

# %% key="two-modes-picture" jupyter={"source_hidden": true} tags=["hide-input"]
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

# %% [markdown] key="theta"
# ## 8. And when the model learns too?
#
# In training, the model's parameters $\theta$ climb the same ELBO. Let ours have one, the bend $a$ of the curve, $f_a(z) = (z - a \sin z, \frac{3}{2} \cos z)$. The data are 40 draws of the true curve, $a = 2$. From $a = 1$ we climb in turns: first the $q$ of each observation, then $a$ with all $q$ held fixed. Only $\mathbb{E}_q[\log p(x \mid z)]$ depends on $a$, and it is a parabola in $a$: that is least squares.
#
# With $q$ fixed, the ELBO as a function of $\theta$ is a curve below $\log p_\theta(x)$. If $q$ is the exact posterior at the present $\theta$, the two touch there; when $\theta$ climbs the curve from that point, $\log p$ must rise by at least as much. This is *expectation-maximization*. If $q$ is a Gaussian, a gap remains, **and it depends on $\theta$**: the climb also goes where the gap is small.
#
# We climb twice, with exact posteriors and with Gaussians. Both stay near the peak that $\log p$ has near $a = 0.8$, and we compare them there. (Near $a = 2$, beyond the frame, is another, higher one; the cell prints $\log p$ there.) In the picture, each orange curve is the ELBO with the $q$ of one turn held fixed, and the dot on it is the $a$ where that turn began; only the first four are drawn. The star is where the climb with Gaussians ended; the triangle that points down is $\log p$ at the same $a$; the one that points up is where the climb with exact posteriors ended.

# %% key="theta-model" jupyter={"source_hidden": true} tags=["hide-input"]
torch.manual_seed(0)
truth = torch.randn(40, dtype=torch.float64)
seen = decode(truth) + noise * torch.randn(40, 2, dtype=torch.float64)  # (40, 2)
few, step = z[::5], 5 * dz  # (Y,)


def joint_of(bend):  # (40, Y) log p(x, z) with another a
    curve = torch.stack((few - bend * torch.sin(few), 1.5 * torch.cos(few)), -1)
    squared = (seen[:, None] - curve).square().sum(-1)
    return -0.5 * squared / noise**2 - math.log(2 * math.pi * noise**2) + log_prior(few)


def evidence_of(bend):  # the mean of log p(x)
    return (joint_of(bend).logsumexp(-1) + math.log(step)).mean().item()


def bound_of(bend, q):  # the mean ELBO, q (40, Y) a density for each x
    return ((q * (joint_of(bend) - q.clamp_min(1e-300).log())).sum(-1) * step).mean()


def best_bend(q):  # least squares
    pull = torch.sin(few)
    return ((q * (few - seen[:, :1]) * pull).sum() / (q * pull**2).sum()).item()


def best_gaussians(bend, places):  # (40, 2), a little further up
    def value(mu, logvar):
        log_q = log_normal(few, mu, logvar)  # (40, Y)
        return (log_q.exp() * (joint_of(bend) - log_q)).sum(-1) * step

    return climb(value, places, steps=200)[0][:, -1]

# %% key="theta-turns" tags=["nbval-check-output"]
exact_q, touching = 1.0, []
for _ in range(30):
    q = joint_of(exact_q).softmax(-1) / step  # the exact posteriors
    touching.append(evidence_of(exact_q) - bound_of(exact_q, q).item())
    exact_q = best_bend(q)

bend, turns = 1.0, []
places = torch.stack((joint_of(1.0).softmax(-1) @ few, torch.full((40,), -2.0)), 1)
for turn in range(12):
    places = best_gaussians(bend, places)
    q = log_normal(few, places[:, :1], places[:, 1:]).exp()  # (40, Y)
    turns.append((bend, bound_of(bend, q).item(), evidence_of(bend), q))
    if turn in (0, 1, 2, 3, 11):
        numbers = {"elbo": turns[-1][1], "exact": turns[-1][2]}
        print(say("elbo-turn", turn=turn, bend=bend, **numbers))
    bend = best_bend(q)
print(say("elbo-turn-exact", bend=exact_q, exact=evidence_of(exact_q)))
print(say("elbo-far-peak", bend=2.0, exact=evidence_of(2.0)))

climbed = float64([turn[1] for turn in turns])
reached = float64([turn[2] for turn in turns])
assert max(map(abs, touching)) < 1e-9
assert (climbed.diff() > 0).all()  # the bound rises in every turn
assert (reached.diff()[3:] < 0).all()  # and log p falls
assert ((reached - climbed).diff() < 0)[3:].all()  # the gap narrows
assert 0.004 < evidence_of(exact_q) - reached[-1] < 0.007
assert evidence_of(2.0) > evidence_of(exact_q)

# %% key="theta-picture" jupyter={"source_hidden": true} tags=["hide-input"]
figure, (ax,) = figures.picture(say("elbo-alt-theta"), width=6.5, height=3.4)
bends = torch.linspace(0.55, 1.1, 56).tolist()
truths = [evidence_of(a) for a in bends]
ax.plot(bends, truths, color="black", label=say("elbo-mean-evidence"))
for number, (start, height, _, q) in enumerate(turns[:4]):
    text = say("elbo-fixed-q") if number == 0 else None
    bound = [bound_of(a, q).item() for a in bends]
    ax.plot(bends, bound, color=COLORS["q"], linewidth=1, label=text)
    ax.plot(start, height, "o", color=COLORS["q"], markersize=5)
place = turns[-1]
ax.plot(place[0], place[1], "*", color=COLORS["q"], markersize=14)
ax.plot(place[0], place[2], "v", color="black", label=say("elbo-gaussian-ends"))
peak = (exact_q, evidence_of(exact_q))
ax.plot(*peak, "^", color=COLORS["posterior"], label=say("elbo-exact-ends"))
ax.set(xlabel="$a$", ylabel="nats", xlim=(0.55, 1.1), ylim=(-2.47, -2.28))
ax.legend(fontsize=8, loc=(0.66, 0.42))
assert place[0] < peak[0] - 0.05
figure

# %% [markdown] key="theta-noticed"
# The ELBO rises in every turn. $\log p$ rises at first and then **falls**: the last turns gain by narrowing the gap. After twelve turns the climb with Gaussians stands at another $a$, where $\log p$ is 0.005 nats per observation below the value that exact posteriors reach. Little here; what matters is the direction: at the end, $\log p$ falls while the ELBO rises.
#
# ### The whole data set at once
#
# Average over the data. Data and $q$ make one joint distribution, $p_{\mathrm{data}}(x)\, q(z \mid x)$; the model is another, $p(z)\, p(x \mid z)$. Up to a constant, minus the entropy of the data, which nobody can change, **the mean ELBO is minus the divergence from the first to the second**:
#
# $$\mathbb{E}_{p_{\mathrm{data}}}\, \mathbb{E}_q\!\left[\log \frac{p(x, z)}{q(z \mid x)}\right] = \mathbb{E}_{p_{\mathrm{data}}}[\log p_{\mathrm{data}}(x)] - \mathrm{KL}(p_{\mathrm{data}}(x)\, q(z \mid x) \,\|\, p(z)\, p(x \mid z)).$$
#
# The average of all $q(z \mid x)$ is the *aggregate posterior* $\bar q(z)$. Write $\log \frac{q(z \mid x)}{p(z)} = \log \frac{q(z \mid x)}{\bar q(z)} + \log \frac{\bar q(z)}{p(z)}$, and the KL inside the ELBO splits:
#
# $$\mathbb{E}_{p_{\mathrm{data}}}\, \mathrm{KL}(q(z \mid x) \,\|\, p(z)) = \underbrace{\mathbb{E}_{p_{\mathrm{data}}}\, \mathrm{KL}(q(z \mid x) \,\|\, \bar q(z))}_{\text{information of } z \text{ about } x} + \underbrace{\mathrm{KL}(\bar q(z) \,\|\, p(z))}_{\text{misfit of the prior}}.$$
#
# For the 40 Gaussians of the last turn nearly all of it is information:

# %% key="aggregate-split" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output"]
q = turns[-1][3]  # (40, Y)
aggregate = q.mean(0)  # (Y,)


def kl(p, q):  # of densities on the few points
    return (p * (p.clamp_min(1e-300) / q.clamp_min(1e-300)).log()).sum(-1) * step


by_formula = densities.kl_to_standard_normal(places[:, :1], places[:, 1:]).mean()
information, misfit = kl(q, aggregate).mean(), kl(aggregate, log_prior(few).exp())
names = {"information": information.item(), "misfit": misfit.item()}
print(say("elbo-aggregate", **names, kl=by_formula.item()))
assert abs(information + misfit - by_formula) < 1e-6
assert 0 < misfit < information < math.log(40)  # z cannot tell more than which x

# %% [markdown] key="digit"
# ## 9. The same balance, for digits
#
# Now leave the small world. The VAE of lesson 00 has two latents, and a plane can still be summed. Four things change: 784 black or white pixels instead of two real numbers, Bernoulli noise instead of Gaussian, a network instead of a curve, and *amortized* inference: we do not climb to a $q$ for each image; one network, the encoder, learns to guess $q(z \mid x)$ for all.
#
# If the model is not in the cache yet, the next cell trains it.

# %% key="digit-model" jupyter={"source_hidden": true} tags=["hide-input"]
device = torch.device("cpu")
if torch.accelerator.is_available():
    device = torch.accelerator.current_accelerator()

train_images = data.load("auto", "train", device=device)
test_images = data.load(train_images.name, "test", device=device)
model, history = train.trained(train_images, device=device)
print(say("elbo-data", name=train_images.name, device=device.type))
del train_images

# %% [markdown] key="digit-many"
# First the whole test set. `exact.log_likelihood` gives $\log p(x)$ on a grid of 600 × 600 points; if the $\log p(x)$ of an image moves by a nat or more on a grid three times as coarse, it is computed again on a finer one. For the ELBO we sum the reconstruction over 8 × 8 points of $q$ (Gauss-Hermite quadrature, made for averages over a Gaussian), so that no random draws blur the gap; 64 points may miss a few hundredths of a nat. `bounds.elbo`, which draws, must give the same mean on the first 500 images, up to the error of its draws. The picture counts the test images by their gap, on a logarithmic horizontal axis.

# %% key="digit-gaps"
nodes, weights = map(torch.from_numpy, hermegauss(8))
weights = weights / weights.sum()


@torch.no_grad()
def elbo_without_noise(x):  # (B, 784) to (B,)
    mu, logvar = model.encode(x)  # (B, 2) each
    total = 0
    for i in range(8):
        for j in range(8):
            eps = torch.stack((nodes[i], nodes[j])).to(mu)
            logits = model.decode_logits(mu + torch.exp(0.5 * logvar) * eps)
            share = (weights[i] * weights[j]).item()
            total = total + share * densities.log_bernoulli(x, logits)  # (B,)
    return total - densities.kl_to_standard_normal(mu, logvar)


pixels = test_images.pixels  # (N, 784)
exacts = exact.log_likelihood(model, pixels, grid=600, extent=7.5).cpu()  # (N,)
elbos = torch.cat([elbo_without_noise(part) for part in pixels.split(2000)]).cpu()
gaps = exacts - elbos  # (N,)

torch.manual_seed(0)
with torch.no_grad():
    parts = [bounds.elbo(model, p, samples=64).elbo for p in pixels[:500].split(50)]
by_draws = torch.cat(parts).cpu()  # (500,)
difference = by_draws - elbos[:500]  # paired: image by image
assert abs(difference.mean()) < 4 * train.standard_error(difference) < 0.1
assert gaps.min() > -0.05  # what 64 points may miss

# %% key="digit-histogram" jupyter={"source_hidden": true} tags=["hide-input"]
figure, (ax,) = figures.picture(say("elbo-alt-gaps"), width=6, height=2.6)
edges = torch.logspace(-2, 2.5, 46)
ax.hist(gaps.clamp(0.01, 300), bins=edges, color=COLORS["gap"], edgecolor="white")
middle = gaps.median().item()
ax.axvline(middle, color="black", linestyle="--", label=say("elbo-median"))
ax.set(xscale="log", xlabel=say("elbo-gap-axis"), ylabel=say("elbo-images"))
ax.legend(fontsize=9)
figure

# %% [markdown] key="digit-cost"
# ### How many draws for a digit?
#
# The formula of section 2 holds, with the plane in place of the line. For the first 500 images, the next cell computes how many draws bring $\log p(x)$ to within about 0.1 nats: from the prior, and from a mixture, half prior and half encoder's $q$. Why half prior, once more? Because of the tails. The network is linear in pieces, so far out its logits grow no faster than $|z|$, and the posterior falls no faster than $e^{-|z|^2/2 - b|z|}$ for some $b$. With $q$ alone, the variance integrates $p(z \mid x)^2 / q(z)$, whose exponent is $-|z|^2 + |z|^2 / (2 \sigma^2)$ and slower terms: infinite for $\sigma^2 < \frac{1}{2}$ in some coordinate, as nearly all the $q$ of this encoder have.

# %% key="digit-needs" jupyter={"source_hidden": true} tags=["hide-input"]
def draws_needed(x):  # (B, 784) to (3, B): prior, mixture, what q misses
    density = exact.posterior(model, x, grid=300, extent=7.5).flatten(1)  # (B, G)
    points = exact.axis(300, 7.5, x)  # (300,)
    cell = (points[1] - points[0]).item() ** 2
    plane = torch.cartesian_prod(points, points)  # (G, 2)
    with torch.no_grad():
        mu, logvar = (part[:, None] for part in model.encode(x))  # (B, 1, 2) each
    prior = densities.log_standard_normal(plane).exp()  # (G,)
    q = densities.log_normal(plane, mu, logvar).exp()  # (B, G)
    outside = ((plane - mu).square() * torch.exp(-logvar)).sum(-1) > 5.99  # outside
    rhos = [(density**2 / p).sum(1) * cell - 1 for p in (prior, (prior + q) / 2)]
    missed = (density * outside).sum(1) * cell
    return torch.stack((*(rho / 0.1**2 for rho in rhos), missed)).cpu()  # (3, B)


# %% key="digit-cost-checked"
parts = [draws_needed(part) for part in pixels[:500].split(25)]
many = torch.cat(parts, 1)  # (3, 500)
three = torch.tensor([0.1, 0.5, 0.9])
for kind, row in zip(("prior", "mixture"), many, strict=False):
    low, middle, top = row.quantile(three).tolist()
    print(say(f"elbo-needs-{kind}", low=low, middle=middle, top=top))
missed = many[2].median().item()
worse = (many[1] > many[0]).float().mean().item()
print(say("elbo-missed", share=missed))
print(say("elbo-worse", share=worse))

_, logvar = model.encode(pixels[:500])
assert (logvar.exp() < 0.5).float().mean() > 0.95
assert 0.02 < worse < 0.4
assert (many[1] < 2.1 * many[0] + 100).all()  # twice the weight, twice the variance
assert many[0].median() > 3 * many[1].median() > 300
assert missed > 0.1  # 5% if q were right

# %% [markdown] key="digit-balance"
# For most images the mixture is far cheaper, and still asks for many draws. Why, when the median gap is only about a nat and a half? The third line says how much of the posterior lies outside the ellipse that holds 95% of $q$. Out there, nearly all draws of the mixture come from its prior half, and few of them fall where the posterior has mass. And for about one image in five $q$ misses the posterior by so much that half of the draws are wasted, and the mixture costs up to twice as much as the prior.
#
# Now a single digit, chosen by a rule and not by eye: among the 500, the one nearest to the middle in its gap, in the draws it needs and in $\log p(x)$. That the balance closes is again algebra on one grid; so the folded cell checks $\log p(x)$ another way, by 200,000 draws from the mixture.

# %% key="digit-ledger"
sorts = torch.stack((gaps[:500], many[0], exacts[:500]))  # (3, 500)
ranks = sorts.argsort(1).argsort(1)  # (3, 500)
chosen = (ranks - 249.5).abs().amax(0).argmin().item()
double = copy.deepcopy(model).cpu().double()
x = pixels[chosen : chosen + 1].cpu().double()  # (1, 784)
points = exact.axis(300, 5.0, x)  # (300,)
cell = (points[1] - points[0]).item() ** 2
plane = torch.cartesian_prod(points, points)  # (90000, 2)


@torch.no_grad()
def reconstruction_at(z):  # (Z, 2) to (Z,) log p(x|z)
    parts = [densities.log_bernoulli(x, double.decode_logits(p)) for p in z.split(1500)]
    return torch.cat(parts)


with torch.no_grad():
    mu, logvar = double.encode(x)  # (1, 2) each
reconstructions = reconstruction_at(plane)  # (90000,)
log_p = densities.log_standard_normal(plane)  # (90000,)
log_q = densities.log_normal(plane, mu, logvar)  # (90000,)
by_hand = (reconstructions + log_p).logsumexp(0).item() + math.log(cell)
packaged = exact.log_likelihood(double, x, grid=300).item()
log_post = reconstructions + log_p - by_hand  # (90000,)
q = log_q.exp() * cell  # (90000,) mass of each cell
bound = (q @ reconstructions - densities.kl_to_standard_normal(mu, logvar)).item()
gap = (q @ (log_q - log_post)).item()

print(say("elbo-digit-exact", value=packaged))
print(say("elbo-digit-elbo", value=bound))
print(say("elbo-digit-gap", value=gap))
print(say("elbo-digit-miss", value=packaged - bound - gap))
assert abs(by_hand - packaged) < 1e-6
assert abs(packaged - bound - gap) < 1e-3
assert abs(gap - gaps[chosen]) < 0.05
assert ((ranks[:, chosen] - 249.5).abs() < 83).all()  # within the middle third

# %% key="digit-by-draws" jupyter={"source_hidden": true} tags=["hide-input"]
torch.manual_seed(0)
draws = torch.randn(200_000, 2, dtype=torch.float64)
draws[::2] = mu + torch.exp(0.5 * logvar) * draws[::2]  # half of them from q
both = [densities.log_standard_normal(draws), densities.log_normal(draws, mu, logvar)]
mixture = torch.logaddexp(*both) - math.log(2)  # (200000,)
log_weights = reconstruction_at(draws) + both[0] - mixture
shares = (log_weights - by_hand).exp()  # (200000,), 1 on average
error = train.standard_error(shares) / shares.mean().item()
sampled = by_hand + shares.mean().log().item()
print(say("elbo-digit-sampled", value=sampled, error=error))
assert abs(sampled - packaged) < 4 * error < gap / 2

# %% [markdown] key="digit-before"
# What do those nats look like? The next picture has the digit on the left. In the middle is the latent plane: the dotted rings hold 50% and 95% of the prior, and the posterior is the speck. On the right, the speck enlarged, with the regions that hold 50% and 95%: of the posterior in green, of the encoder's $q$ in orange, dashed, and of the Gaussian with independent coordinates and the highest ELBO in black, dotted. What even that one misses is due to the shape. The rest is due to the encoder, which guessed another Gaussian.

# %% key="digit-best"
best = exact.best_gaussian(double, x, grid=300)
shape = packaged - best.elbo.item()
print(say("elbo-digit-parts", shape=shape, encoder=gap - shape))
assert 0 < shape < gap

# %% key="digit-picture" jupyter={"source_hidden": true} tags=["hide-input"]
def levels_of(density, cell):  # the heights whose regions hold 95 % and 50 %
    ordered = density.flatten().sort(descending=True).values
    held = ordered.cumsum(0) * cell
    return [ordered[(held < mass).sum()].item() for mass in (0.95, 0.5)]


def shown_at(z, side):  # posterior, q and the best Gaussian: (side, side) each
    log_joint = reconstruction_at(z) + densities.log_standard_normal(z)
    parts = [log_joint - by_hand, densities.log_normal(z, mu, logvar)]
    parts.append(densities.log_normal(z, best.mu, best.logvar))
    return [part.exp().reshape(side, side) for part in parts]


wide = shown_at(plane, 300)
heights = [levels_of(density, cell) for density in wide]
seen = (wide[0] >= heights[0][0]) | (wide[1] >= heights[1][0])  # (300, 300)
places = points[seen.nonzero()]  # (N, 2)
middle = (places.amax(0) + places.amin(0)) / 2  # (2,)
reach = (places.amax(0) - places.amin(0)).max().item() * 0.8
near = [torch.linspace(m - reach, m + reach, 120).double() for m in middle.tolist()]
close = shown_at(torch.cartesian_prod(*near), 120)

figure, (left, centre, right) = figures.picture(
    say("elbo-alt-digit", gap=gap), columns=3, width=9, height=3.2
)
figures.show_digits(left, x, columns=1, title=say("elbo-chosen"))
looks = [("posterior", "-"), ("q", "--"), ("data", ":")]
for ax, sides, parts in ((centre, (points, points), wide), (right, near, close)):
    for (color, dashes), part, levels in zip(looks, parts, heights, strict=True):
        if ax is right or color != "data":
            ax.contour(*sides, part.T, levels, colors=COLORS[color], linestyles=dashes)
    ax.set(xlabel="$z_1$", ylabel="$z_2$", aspect="equal")
prior = log_p.exp().reshape(300, 300)
rings = levels_of(prior, cell)
centre.contour(points, points, prior.T, rings, colors=COLORS["prior"], linestyles=":")
centre.set(xlim=(-3.2, 3.2), ylim=(-3.2, 3.2))
centre.set_title(say("elbo-plane"), loc="left", fontsize=10)
texts = (r"$p(z \mid x)$", r"$q(z \mid x)$", say("elbo-best"))
for (color, dashes), text in zip(looks, texts, strict=True):
    right.plot([], [], dashes, color=COLORS[color], label=text)
right.legend(fontsize=7, loc="upper left")
right.set_title(say("elbo-enlarged"), loc="left", fontsize=10)
figure

# %% [markdown] key="answer"
# ## 10. So, how tight is it?
#
# The ELBO lies exactly $\mathrm{KL}(q \,\|\, p(z \mid x))$ nats below $\log p(x)$, neither more nor less. For a typical test image that is about a nat and a half. For one in nine it is above ten nats, and these pull the mean far above the median.

# %% key="answer-measured"
error = train.standard_error(gaps)
low, middle, top = gaps.quantile(three).tolist()
shares = {"below": (gaps < 1).float().mean(), "above": (gaps > 10).float().mean()}
print(say("elbo-answer-exact", value=exacts.mean().item()))
print(say("elbo-answer-elbo", value=elbos.mean().item()))
print(say("elbo-answer-gap", mean=gaps.mean().item(), error=error))
print(say("elbo-answer-spread", low=low, middle=middle, top=top))
print(say("elbo-answer-shares", **{k: v.item() for k, v in shares.items()}))

assert gaps.mean() > 4 * error  # it is a gap indeed
assert gaps.mean() > 1.5 * middle
if test_images.name == "mnist":
    assert 1.2 < middle < 1.8
    assert 1 / 10 < shares["above"] < 1 / 8

# %% [markdown] key="next"
# Is the Gaussian to blame, which cannot take the posterior's shape, or the encoder, which did not find the best one? One digit proves nothing; lesson 06 tells the two apart for hundreds. How a gradient passes through draws from $q$, which here we avoided with grids, is the subject of lesson 03.
#
# **To read.** Kingma and Welling (2013), *Auto-Encoding Variational Bayes*, equations 1 to 3: the second route. Rezende, Mohamed and Wierstra (2014), who took the first. Burda, Grosse and Salakhutdinov (2015): exercise 3 is their bound. Cremer, Li and Duvenaud (2018), on the two causes of the gap.

# %% [markdown] key="exercises"
# ## Exercises
#
# Write your answer in place of the ellipsis and run the cell. The solutions are folded below.
#
# ### 1. The ELBO on a grid
#
# You get the logarithm of a joint, `log_joint`, of shape `(Z,)`, at equally spaced points `z`, `(Z,)`; and the parameters of a Gaussian $q$, `mu` and `logvar`, two scalar tensors. Return the ELBO, one number. The joint of the check is not that of the small world, and the spacing is not 0.01.

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
# The KL to the prior has a formula only because everything in it is Gaussian. With another prior you would have to sample. `z`, of shape `(S, B, L)`, are $S$ draws from $q = \mathcal{N}(\mu, \sigma^2)$ for each of $B$ images; `mu` and `logvar` are `(B, L)`. Return the Monte Carlo estimate of $\mathrm{KL}(q \,\|\, \mathcal{N}(0, I))$, one number per image, from exactly these draws. The functions of `densities` may help: unlike our `log_normal`, they sum over the last axis.

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
# With $k$ draws from $q$, the bound of Burda, Grosse and Salakhutdinov (2015) is $\log \frac{1}{k} \sum_i w_i$. On average it is still a lower bound, and climbs towards $\log p(x)$ as $k$ grows. Someone wrote `their_bound` and was surprised: with 1,000 draws, the bound of the test set was the same as with one, up to noise. Find the bug and write the function anew. `log_weights` has shape `(k, B)`; a weight may be as small as $e^{-900}$.

# %% key="exercise-bound" tags=["nbval-check-output"]
def their_bound(log_weights):
    return log_weights.mean(0)


def my_bound(log_weights):
    ...


checks.weighted_bound(my_bound)

# %% key="solution-bound" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output", "solution"]
def solution_bound(log_weights):
    return log_weights.logsumexp(0) - math.log(len(log_weights))  # (B,)


verdict = checks.weighted_bound(solution_bound)
assert verdict
verdict

# %% [markdown] key="exercise-mixture-text"
# ### 4. Find the bug: a prior that is wrong in the corners
#
# Another prior: a mixture of two Gaussians of equal weight, with centres at $(3, 3)$ and $(-3, -3)$ and identity covariance. `their_log_prior` is meant to return its log-density for each row of `z`, `(B, 2)`. At the point $(3, -3)$, far from both centres, it says $-3.22$; the right value is $-19.84$. What did it put there, and how many modes does the density have that it returns? Write the function anew.

# %% key="exercise-mixture" tags=["nbval-check-output"]
centres = float64([[3.0, 3.0], [-3.0, -3.0]])  # (K, 2)


def their_log_prior(z):
    log_parts = log_normal(z[:, None], centres, torch.zeros_like(centres))  # (B, K, 2)
    return (log_parts.logsumexp(1) - math.log(2)).sum(-1)  # (B,)


def my_log_prior(z):
    ...


checks.mixture_prior(my_log_prior)

# %% key="solution-mixture" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output", "solution"]
def solution_log_prior(z):
    log_parts = log_normal(z[:, None], centres, torch.zeros_like(centres))  # (B, K, 2)
    return log_parts.sum(-1).logsumexp(1) - math.log(2)  # (B,)


verdict = checks.mixture_prior(solution_log_prior)
assert verdict
corner = float64([[3.0, -3.0]])
wrong, right = their_log_prior(corner).item(), solution_log_prior(corner).item()
print(say("elbo-corner", wrong=wrong, right=right))
assert (round(wrong, 2), round(right, 2)) == (-3.22, -19.84)
verdict

# %% [markdown] key="solution-mixture-text"
# <details><summary>Answer to the question</summary>
#
# It put a mode there. The density that it returns is a product of two one-dimensional mixtures: each coordinate picks its centre by itself. It has four modes of equal mass, at $(\pm 3, \pm 3)$, two of which nobody asked for. Sum over coordinates first, for each component; mix after. Training does not complain, because this density, too, integrates to 1.
#
# </details>
