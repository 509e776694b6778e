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
# # How does a gradient pass through a random draw?
#
# Between the encoder and the decoder stands a draw. Training needs a derivative, and a draw has none. Lesson 00 got past it with one line, $z = \mu + \sigma\,\varepsilon$. Why does that line work, what would the alternatives cost, and when does it fail?
#
# **By the end you will be able to** write three estimators of the same gradient, say which are unbiased and how noisy each one is, choose between them for a distribution you have never met, and recognize bugs that raise no error: a blocked encoder, a baseline that sees its own draw, a surrogate objective with $z$ attached. Wherever the exact gradient can be computed, you will have compared with it.
#
# **You need** lesson 00.
#
# **Time:** 45 minutes of reading; about a minute of computing, and up to a minute more if the trained model is not in the cache yet. Cells that check, draw or only gather numbers are folded. `say` returns a sentence of the course.

# %% key="setup"
import copy
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch.distributions import Bernoulli, Categorical, Gamma, Laplace, Normal, Poisson

from vae_teach import data, densities, exact, figures, nets, train
from vae_teach.checks import gradients as checks
from vae_teach.sliders import panel, slider, sweep
from vae_teach.words import say, use_language

use_language("en")

# %% [markdown] key="blocked-text"
# ## 1. The wall
#
# First see what goes wrong. The cell below draws $z$ from a normal as anyone would, squares it, and asks PyTorch for the derivative with respect to $\mu$ and $\sigma$. PyTorch refuses: the draw comes out as a bare number, which no longer knows where it came from.

# %% key="blocked" tags=["nbval-check-output"]
mu = torch.tensor(0.6, requires_grad=True)
sigma = torch.tensor(0.5, requires_grad=True)
z = Normal(mu, sigma).sample()

refused = False
try:
    (z**2).backward()
except RuntimeError:
    refused = True
    print(say("gradients-refused"))

assert refused
assert z.grad_fn is None
assert mu.grad is None
assert sigma.grad is None

# %% [markdown] key="average-text"
# ## 2. What does have a derivative
#
# One draw has no derivative. But we do not care about one draw: we want the *average* $\mathbb{E}_{q(z)}[f(z)]$ to grow, where $q = \mathcal{N}(\mu, \sigma^2)$. The average moves smoothly when $\mu$ moves, because the whole bell curve slides over $f$.
#
# To have something to check against, take an $f$ whose average has a formula: $f(z) = z^2 + \sin 3z$. Under $q$, since $\mathbb{E}[e^{3iz}] = e^{3i\mu - 9\sigma^2/2}$,
#
# $$\mathbb{E}[f(z)] = \mu^2 + \sigma^2 + e^{-9\sigma^2/2} \sin 3\mu.$$
#
# The gradient of that formula, with respect to $\mu$ and to $\log \sigma^2$ (why the logarithm: section 11), is the **exact answer** for the estimators of sections 3 to 6. We take it at $\mu = 0.6$, $\sigma = 0.5$. The cell computes it, and checks it against a numerical integral that knows neither the formula nor its derivative.

# %% key="average" tags=["nbval-check-output"]
def f(z):
    return z**2 + torch.sin(3 * z)


def average(mu, logvar):
    variance = logvar.exp()
    return mu**2 + variance + torch.exp(-4.5 * variance) * torch.sin(3 * mu)


mu = torch.tensor(0.6, dtype=torch.float64, requires_grad=True)
logvar = torch.tensor(0.25, dtype=torch.float64).log().requires_grad_()
exact_gradient = torch.stack(torch.autograd.grad(average(mu, logvar), (mu, logvar)))

# Gauss-Hermite: a sum over 60 nodes that integrates against N(0, 1)
nodes, weights = map(torch.from_numpy, np.polynomial.hermite_e.hermegauss(60))
weights = weights / weights.sum()  # (60,)


def by_quadrature(mu, logvar):
    return weights @ f(mu + torch.exp(0.5 * logvar) * nodes)


step = 1e-5
rises = [
    by_quadrature(mu + step, logvar) - by_quadrature(mu - step, logvar),
    by_quadrature(mu, logvar + step) - by_quadrature(mu, logvar - step),
]
assert torch.allclose(average(mu, logvar), by_quadrature(mu, logvar), atol=1e-9)
assert torch.allclose(exact_gradient, torch.stack(rises) / (2 * step), atol=1e-6)
d_mu, d_logvar = exact_gradient.tolist()
print(
    say("gradients-exact", average=average(mu, logvar).item(), mu=d_mu, logvar=d_logvar)
)

# %% [markdown] key="average-seen"
# The picture shows both sides of the matter. On the left, $f$ and two bell curves. On the right, the average of $f$ as the curve slides. Averaging smooths the ripples: about a third of their height is left, and to the right of $\mu = 0$ only a slight wave. The dashed line touches the curve at our $\mu$; its slope is the derivative in $\mu$ printed by the cell above.

# %% key="average-picture" jupyter={"source_hidden": true} tags=["hide-input"]
q_color, f_color = figures.COLORS["q"], figures.COLORS["reconstruction"]
grid = torch.linspace(-2.2, 2.2, 301, dtype=torch.float64)
figure, (left, right) = figures.picture(say("gradients-alt-average"), columns=2)
left.plot(grid, f(grid), color=f_color, linewidth=2.5, label="$f(z)$")
for center, style in ((-1.0, ":"), (mu.item(), "-")):
    bell = Normal(center, 0.5).log_prob(grid).exp()
    name = say("gradients-bell", mu=center)
    left.plot(grid, bell, style, color=q_color, label=name)
    left.fill_between(grid, bell, color=q_color, alpha=0.12)
left.set(xlabel="$z$")
left.legend(fontsize=8, frameon=False)
with torch.no_grad():
    middle = average(mu, logvar)
    right.plot(grid, average(grid, logvar), color=q_color, linewidth=2.5)
    near = grid[(grid - mu).abs() < 0.7]
    right.plot(near, middle + d_mu * (near - mu), "k--")
    right.plot(mu.item(), middle, "ko")
right.set(xlabel=r"$\mu$", ylabel=r"$\mathrm{E}[f(z)]$")
figure

# %% [markdown] key="score-text"
# ## 3. First way: differentiate the density
#
# Write the average as an integral, $\int f(z)\, q(z)\, dz$. The parameters are in $q(z)$, and $q$ has a derivative. Move it inside the integral: $\nabla \int f q\, dz = \int f\, \nabla q\, dz = \int f\, q\, \nabla \log q\, dz$. It is again an average under $q$:
#
# $$\nabla\, \mathbb{E}[f(z)] = \mathbb{E}\big[f(z)\, \nabla \log q(z)\big].$$
#
# This is the **score-function estimator** (Williams, 1992, calls it REINFORCE). It never differentiates $f$, which may be a game, a program or a person's answer. $\nabla \log q(z)$ is called the *score*. For the normal it is short. With $\varepsilon = (z - \mu)/\sigma$,
#
# $$\frac{\partial \log q}{\partial \mu} = \frac{\varepsilon}{\sigma}, \qquad \frac{\partial \log q}{\partial \log \sigma^2} = \frac{\varepsilon^2 - 1}{2}.$$
#
# The cell draws 5,000 groups of four samples. Each group of four gives *one* estimate of the gradient. The mean of the 5,000 estimates must lie within four standard errors of the exact gradient.

# %% key="score"
groups, draws = 5000, 4
torch.manual_seed(0)
eps = torch.randn(groups, draws, dtype=torch.float64)  # (G, S)
sigma = torch.exp(0.5 * logvar).detach()
z = mu.detach() + sigma * eps  # (G, S)

score = torch.stack((eps / sigma, 0.5 * (eps**2 - 1)))  # (2, G, S)
by_score = f(z) * score  # (2, G, S)

# autograd, which does not know our two lines, differentiates log q at one draw
log_q = Normal(mu, torch.exp(0.5 * logvar)).log_prob(z[0, 0])
by_autograd = torch.stack(torch.autograd.grad(log_q, (mu, logvar)))
assert torch.allclose(score[:, 0, 0], by_autograd)


def mean_and_error(each):  # (..., G, S): G estimates, each a mean of S draws
    estimates = each.mean(-1)  # (..., G)
    return estimates.mean(-1), estimates.std(-1) / math.sqrt(estimates.shape[-1])


def is_unbiased(each, target):
    mean, error = mean_and_error(each)
    return bool(((mean - target).abs() < 4 * error).all())


assert is_unbiased(by_score, exact_gradient)

# %% [markdown] key="baseline-text"
# ## 4. The same, with a baseline
#
# Add 1,000 to $f$. The gradient of the average does not change, but each term $f(z)\,\nabla \log q(z)$ becomes enormous, now positive, now negative. The noise explodes for nothing. The remedy is to subtract a number $b$ close to the usual value of $f$:
#
# $$\nabla\, \mathbb{E}[f(z)] = \mathbb{E}\big[(f(z) - b)\, \nabla \log q(z)\big].$$
#
# The mean stays right because the score averages to zero: $\mathbb{E}[b\,\nabla \log q] = b \int \nabla q = b\, \nabla 1 = 0$. Look at the first equals sign: $b$ left the average. **That is allowed only if $b$ does not depend on this very draw.** $b$ may be a constant, a function of the input (in a VAE, the image), or the mean of $f$ at the *other* draws of the group (*leave-one-out*).
#
# What about the mean of the whole group, the draw itself included? It looks the same. Let $S$ be the number of draws in a group, $f_i$ the value at draw $i$ and $\bar f$ the mean of all. Then $f_i - \bar f = (1 - 1/S)(f_i - \bar f_{-i})$, where $\bar f_{-i}$ is the mean of the others: by algebra, the estimate is multiplied by $1 - 1/S$. With four samples, a quarter of the gradient is gone; with two, half. In a VAE that hits the reconstruction term and not the KL, so that training climbs another objective. The cell prints what it makes of the exact gradient.

# %% key="baseline"
values = f(z)  # (G, S)
others = (values.sum(-1, keepdim=True) - values) / (draws - 1)  # (G, S)
by_baseline = (values - others) * score  # (2, G, S)
assert is_unbiased(by_baseline, exact_gradient)

including_itself = (values - values.mean(-1, keepdim=True)) * score  # (2, G, S)
assert not is_unbiased(including_itself, exact_gradient)
assert is_unbiased(including_itself, (1 - 1 / draws) * exact_gradient)
assert torch.allclose(including_itself, (1 - 1 / draws) * by_baseline)

mean, error = (part[0].item() for part in mean_and_error(by_baseline))
own = mean_and_error(including_itself)[0][0].item()
told = {"exact": exact_gradient[0].item(), "others": mean, "error": error}
print(say("gradients-own-draw", **told, own=own))

# %% [markdown] key="pathwise-text"
# ## 5. The noise outside, the parameters inside
#
# The second way changes the draw, and not the density. Sample $\varepsilon$ from $\mathcal{N}(0, 1)$, which has no parameters, and *compute* $z = \mu + \sigma\,\varepsilon$. The parameters have moved from the distribution of $z$ to the calculation that makes $z$. And a calculation has a derivative: since the distribution of $\varepsilon$ has no parameters, $\nabla\, \mathbb{E}_q[f(z)] = \nabla\, \mathbb{E}_\varepsilon[f(\mu + \sigma\varepsilon)] = \mathbb{E}_\varepsilon[\nabla f(\mu + \sigma\varepsilon)]$.
#
# The picture shows the two graphs. Black arrows are the forward pass. Dashed arrows carry the gradient back. On the left, it meets the draw and stops. On the right, the draw stands aside, off the path from $f$ to $\mu$ and $\sigma$. No gradient is sent to $\varepsilon$: it has nothing to learn.

# %% key="pathwise-graphs" jupyter={"source_hidden": true} tags=["hide-input"]
def box(ax, at, text, color, style="-"):
    frame = {"boxstyle": "round,pad=0.4", "fc": "white", "ec": color, "lw": 2}
    ax.text(*at, text, ha="center", va="center", size=13, bbox=frame | {"ls": style})


def arrow(ax, start, end, *, back=False, bend=0.0):
    line = {"arrowstyle": "-|>", "lw": 2, "shrinkA": 1, "shrinkB": 1}
    line |= {"connectionstyle": f"arc3,rad={bend}", "mutation_scale": 16}
    line |= {"color": q_color, "ls": "--"} if back else {"color": "black"}
    ax.annotate("", end, start, arrowprops=line)


figure, axes = figures.picture(
    say("gradients-alt-graphs"), columns=2, width=9, height=3.4
)
for ax in axes:
    box(ax, (0, 2), r"$\mu$", q_color)
    box(ax, (0, 1), r"$\sigma$", q_color)
    box(ax, (3.4, 1.5), "$f(z)$", f_color)
    arrow(ax, (0.2, 1.93), (1.02, 1.6))
    arrow(ax, (0.2, 1.07), (1.02, 1.4))
    arrow(ax, (2.38, 1.5), (3.08, 1.5))
    arrow(ax, (3.3, 1.74), (2.2, 1.78), back=True, bend=0.35)
    ax.set(xlim=(-0.3, 3.8), ylim=(-0.4, 2.6))
    ax.set_axis_off()
left, right = axes
box(left, (1.7, 1.5), r"$z \sim \mathcal{N}(\mu, \sigma^2)$", "black", ":")
left.text(0.92, 1.95, "✗", color=q_color, size=22, ha="center", va="center")
left.text(1.05, 2.08, say("gradients-stops"), color=q_color, size=10, va="center")
left.text(1.7, 1.05, say("gradients-the-draw"), size=10, ha="center")
box(right, (1.7, 1.5), r"$z = \mu + \sigma\,\varepsilon$", "black")
box(right, (0.6, 0), r"$\varepsilon \sim \mathcal{N}(0, 1)$", "black", ":")
right.text(1.25, 0, say("gradients-the-draw"), size=10, va="center")
arrow(right, (0.75, 0.24), (1.5, 1.24))
arrow(right, (1.2, 1.78), (0.2, 2.1), back=True, bend=0.2)
arrow(right, (1.1, 1.26), (0.2, 0.9), back=True, bend=-0.2)
left.set_title(say("gradients-graph-plain"), loc="left", fontsize=10)
right.set_title(say("gradients-graph-path"), loc="left", fontsize=10)
figure

# %% [markdown] key="pathwise-derivatives"
# On that path the chain rule gives, for one draw and with $\partial \sigma / \partial \log \sigma^2 = \sigma / 2$,
#
# $$\frac{\partial f}{\partial \mu} = f'(z), \qquad \frac{\partial f}{\partial \log \sigma^2} = f'(z)\, \frac{\sigma\,\varepsilon}{2}.$$
#
# This is the **pathwise estimator**, or reparameterization trick (Kingma and Welling, 2013; Rezende, Mohamed and Wierstra, 2014). It asks for what the first way did not: the slope $f'$. The cell writes it, compares it with autograd, and compares its mean with the exact gradient, as before.

# %% key="pathwise"
def slope(z):
    return 2 * z + 3 * torch.cos(3 * z)


by_path = torch.stack((slope(z), 0.5 * slope(z) * sigma * eps))  # (2, G, S)
assert is_unbiased(by_path, exact_gradient)

through = f(mu + torch.exp(0.5 * logvar) * eps[0, 0])
by_autograd = torch.stack(torch.autograd.grad(through, (mu, logvar)))
assert torch.allclose(by_path[:, 0, 0], by_autograd)

# %% [markdown] key="rsample-text"
# PyTorch has both kinds of draw. `sample` is the wall of section 1. `rsample` is ours: with the same seed it returns the same numbers, and the same gradient arrives at $\mu$ and at $\sigma$.

# %% key="rsample" tags=["nbval-check-output"]
parameters = torch.tensor([0.6, 0.5], requires_grad=True)
torch.manual_seed(1)
theirs = Normal(parameters[0], parameters[1]).rsample((1000,))
torch.manual_seed(1)
ours = parameters[0] + parameters[1] * torch.randn(1000)

gradient_of_theirs, gradient_of_ours = (
    torch.autograd.grad(f(drawn).sum(), parameters)[0] for drawn in (theirs, ours)
)
assert torch.allclose(theirs, ours, atol=1e-6)
assert torch.allclose(gradient_of_theirs, gradient_of_ours, rtol=1e-4)
print(say("gradients-rsample", gap=(theirs - ours).abs().max().item()))

# %% [markdown] key="race-text"
# ## 6. Four answers, four noises
#
# All three estimators are right on average, and the closed form is right without averaging. What tells them apart is **variance**: the mean squared distance from one estimate, of one group of four draws, to the exact value. In training each image gets one such estimate per step, often from a single draw. This is the noise that the optimizer has to live with.
#
# A variance that comes from samples is itself uncertain. The *bootstrap* says by how much: draw 5,000 groups from our 5,000, with replacement, compute the variance again, and do that a thousand times. The middle 95% of the results is the interval in brackets. For two of them, score function and pathwise, the exact variance is known too, by the quadrature of section 2. A folded cell checks that ours lies within four standard errors of it.

# %% key="race"
def resampled_variances(estimates, repeats=1000):  # (..., G) to (..., R)
    count = estimates.shape[-1]
    chance = np.random.default_rng(0)
    times = chance.multinomial(count, np.full(count, 1 / count), repeats)  # (R, G)
    share = torch.from_numpy(times / count)
    centred = estimates - estimates.mean(-1, keepdim=True)
    return centred**2 @ share.T - (centred @ share.T) ** 2


def interval(values):
    low, high = values.quantile(torch.tensor([0.025, 0.975], dtype=values.dtype))
    return {"low": low.item(), "high": high.item()}


estimators = {"score": by_score, "baseline": by_baseline, "path": by_path}
resampled = {k: resampled_variances(each.mean(-1)) for k, each in estimators.items()}

print(say("gradients-head"))
closed = {"name": say("gradients-way-closed"), "mean": d_mu, "error": 0, "variance": 0}
print(say("gradients-row", **closed), "[0]")
for name, each in estimators.items():
    mean, error = mean_and_error(each)
    variance = each.mean(-1).var(-1)[0].item()
    row = {"mean": mean[0].item(), "error": error[0].item(), "variance": variance}
    row_interval = say("gradients-interval", **interval(resampled[name][0]))
    print(say("gradients-row", name=say(f"gradients-way-{name}"), **row), row_interval)

# %% key="race-exact" jupyter={"source_hidden": true} tags=["hide-input"]
# the variance of one draw by quadrature, for two of the three
with torch.no_grad():
    at_nodes = mu + sigma * nodes  # (60,)
    score_at_nodes = torch.stack((nodes / sigma, 0.5 * (nodes**2 - 1)))
    path_at_nodes = torch.stack((torch.ones_like(nodes), 0.5 * sigma * nodes))
    exact_terms = {"score": f(at_nodes) * score_at_nodes}
    exact_terms["path"] = slope(at_nodes) * path_at_nodes
for name, terms in exact_terms.items():
    of_one = terms**2 @ weights - (terms @ weights) ** 2  # (2,)
    found = estimators[name].mean(-1).var(-1)  # (2,)
    error = resampled[name].std(-1)  # (2,)
    assert ((found - of_one / draws).abs() < 4 * error).all()

# %% key="race-picture" jupyter={"source_hidden": true} tags=["hide-input"]
colors = {"score": "black", "baseline": "#777777", "path": q_color}
figure, axes = figures.picture(
    say("gradients-alt-race"), columns=3, width=8.5, height=2.5
)
for ax, (name, each) in zip(axes, estimators.items(), strict=True):
    ax.hist(each.mean(-1)[0], np.linspace(-8, 16, 73), color=colors[name], log=True)
    ax.axvline(d_mu, color=figures.COLORS["posterior"], linewidth=2, linestyle="--")
    ax.set_title(say(f"gradients-way-{name}"), loc="left", fontsize=10)
    ax.set(xlabel=say("gradients-estimate"), ylim=(0.5, 2000))
axes[0].set_ylabel(say("gradients-count"))
figure

# %% [markdown] key="race-ratio-text"
# The three histograms of 5,000 estimates of the derivative with respect to $q$'s mean share their axes. The dashed line is the exact value. It is the mean of all three, but not the peak of the first two, which are lopsided: many estimates a little too low, and a few far too high. The vertical scale is logarithmic, to show the rare estimates. Notice how far those of the score function go: **much of the variance comes from the tails**. The baseline shortens both a little.
#
# How large is the difference? The cell divides the variances. A ratio of 3 means that the score function needs three times as many draws to be as good.

# %% key="race-ratio"
for name in ("score", "baseline"):
    ratios = resampled[name] / resampled["path"]  # (2, R)
    found = estimators[name].mean(-1).var(-1) / by_path.mean(-1).var(-1)  # (2,)
    values = {"mu": found[0].item(), "logvar": found[1].item()}
    ends = [say("gradients-interval", **interval(ratio)) for ratio in ratios]
    told = {"name": say(f"gradients-way-{name}"), "a": ends[0], "b": ends[1]}
    print(say("gradients-ratio", **told, **values))
    assert (ratios.quantile(0.001, dim=-1) > 1).all()

# %% [markdown] key="panel-text"
# ## 7. Move the arrows
#
# Now move $\mu$, $\sigma$ and $\varepsilon$ yourself. On the left are the bell curve $q$, the point $z = \mu + \sigma\varepsilon$ and the slope of $f$ there. The arrow along the bottom is the step $\sigma\varepsilon$ from $\mu$ to $z$. On the right is the gradient that arrives: at $\mu$, since $\partial z/\partial \mu = 1$, the slope itself; at $\sigma$ (here $\sigma$ itself, not its logarithm), since $\partial z / \partial \sigma = \varepsilon$, the slope times $\varepsilon$. The diamonds are the exact averages, which no single draw can be trusted to show. (The bell is not to scale.)
#
# Three things to try. With $\varepsilon = 0$, what reaches $\sigma$? Change the sign of $\varepsilon$: if $f$ were a straight line (think, this one has no slider), which of the two arrows on the right would change sides? And with $\sigma$ at its smallest, try several $\varepsilon$: does the upper arrow stay closer to its diamond than with $\sigma$ at its largest?
#
# <details><summary>Answers</summary>
#
# Nothing, since the slope is multiplied by zero. Of the two, only that of $\sigma$: the slope of a straight line is the same everywhere. On the whole closer, because $f'$ changes less within a narrow $q$.
#
# </details>

# %% key="panel" jupyter={"source_hidden": true} tags=["hide-input"]
def push(ax, start, end, height, width):
    style = {"arrowstyle": "-|>", "color": q_color, "lw": width}
    if abs(end - start) > 1e-3:
        style |= {"shrinkA": 0, "shrinkB": 0, "mutation_scale": 14}
        ax.annotate("", (end, height), (start, height), arrowprops=style)


def draw_arrows(mu, sigma, eps):
    z = mu + sigma * eps
    value, rise = (function(torch.tensor(z)).item() for function in (f, slope))
    told = {"mu": mu, "sigma": sigma, "eps": eps, "z": z, "slope": rise}
    alt = say("gradients-alt-panel", **told, to_sigma=rise * eps)
    figure, (left, right) = figures.picture(alt, columns=2, width=8.5)

    line = torch.linspace(-3, 3, 241)
    bell = Normal(mu, sigma).log_prob(line).exp() * sigma * 2.5 - 2
    left.plot(line, f(line), color=f_color, linewidth=2, label="$f(z)$")
    left.fill_between(line, bell, -2, color=q_color, alpha=0.3, label="$q(z)$")
    left.plot((z - 0.6, z + 0.6), (value - 0.6 * rise, value + 0.6 * rise), "k-")
    left.plot([z, z], [-2, value], "k:", linewidth=1)
    left.plot(z, value, "ko")
    left.plot(mu, -2, "|", color=q_color, markersize=16, markeredgewidth=2.5)
    push(left, mu, z, -2, 2.5)
    left.set(xlim=(-3, 3), ylim=(-2.4, 9), xlabel="$z$")
    left.legend(loc="upper center", fontsize=9, frameon=False)

    push(right, 0, rise, 1, 4)
    push(right, 0, rise * eps, 0, 4)
    decay = math.exp(-4.5 * sigma**2)
    exact_mu = 2 * mu + 3 * decay * math.cos(3 * mu)
    exact_sigma = 2 * sigma - 9 * sigma * decay * math.sin(3 * mu)
    diamond = {
        "color": figures.COLORS["posterior"], "label": say("gradients-panel-exact"),
    }
    right.plot((exact_mu, exact_sigma), (1, 0), "D", **diamond)
    right.axvline(0, color="black", linewidth=1)
    right.set(xlim=(-15, 15), ylim=(-0.8, 1.6), yticks=(1, 0))
    right.set_yticklabels((r"$\mu$: $f\,'(z)$", r"$\sigma$: $f\,'(z)\,\varepsilon$"))
    right.set_title(say("gradients-arrives"), loc="left", fontsize=10)
    right.legend(loc="lower right", fontsize=9, frameon=False)
    return figure


arrows = panel(
    draw_arrows,
    mu=slider(r"$\mu$", -1.0, 1.0, value=0.6),
    sigma=slider(r"$\sigma$", 0.1, 0.8, step=0.05, value=0.5),
    eps=slider(r"$\varepsilon$", -2.0, 2.0, value=-1.2),
)
arrows

# %% key="panel-moved" jupyter={"source_hidden": true} tags=["hide-input"]
assert sweep(arrows) == 7
center, width = (torch.tensor(v, requires_grad=True) for v in (0.6, 0.5))
f(center + width * -1.2).backward()
arriving = slope(torch.tensor(0.0)).item()
assert math.isclose(center.grad, arriving, rel_tol=1e-5)
assert math.isclose(width.grad, arriving * -1.2, rel_tol=1e-5)

# %% [markdown] key="waves-text"
# ## 8. Does the path always win?
#
# It is often said. It is not so. Take $f(z) = \sin(a z + \varphi)$ and compute the mean variance of each estimator over all phases $\varphi$. The score-function term never exceeds $|\varepsilon|/\sigma$ in absolute value, however fast $f$ ripples. The pathwise term is the slope, and that grows with $a$. For the derivative in $\mu$: over all phases $\sin^2$ and $\cos^2$ average to $\frac{1}{2}$, and $\mathbb{E}[\varepsilon^2] = 1$, so the mean squares are $\frac{1}{2\sigma^2}$ and $\frac{a^2}{2}$. The two have the same mean, so their variances are equal where the mean squares are. **The curves of the picture that ends this section cross exactly at $a\sigma = 1$**: where the phase of $f$ advances by one radian in one standard deviation of $q$. The first cell finds the same by quadrature.
#
# The second cell tries the extreme case, a step: $f(z) = 1$ if $z > 0$, else $0$. Its slope is zero wherever there is one, so autograd sends zero along the path at every draw: no noise at all, and wrong. The average is $P(z > 0) = \Phi(\mu / \sigma)$, and its derivative in $\mu$ is $q(0)$. The score function finds it; so does moving $\mu$ and watching the average.

# %% key="waves" tags=["nbval-check-output"]
fine, fine_weights = map(torch.from_numpy, np.polynomial.hermite_e.hermegauss(100))
fine_weights = fine_weights / fine_weights.sum()  # (100,)
phases = torch.arange(64, dtype=torch.float64)[:, None] * (2 * math.pi / 64)  # (64, 1)


def wave_variances(a):
    angle = a * sigma * fine + phases  # (64, 100)
    terms = torch.stack((torch.sin(angle) * fine / sigma, a * torch.cos(angle)))
    mean = terms @ fine_weights  # (2, 64)
    return ((terms**2) @ fine_weights - mean**2).mean(-1)  # score, path


frequencies = torch.logspace(-0.6, 0.9, 31, dtype=torch.float64)
waves = torch.stack([wave_variances(a) for a in frequencies])  # (31, 2)
crossing = wave_variances(1 / sigma)
assert torch.allclose(crossing[0], crossing[1], rtol=1e-9)
assert (waves[:, 0] > waves[:, 1]).equal(frequencies < 1 / sigma)
print(say("gradients-crossing", a=(1 / sigma).item(), variance=crossing[0].item()))

# %% key="jump"
def jump(z):
    return 0.5 * (1 + torch.sign(z))  # 0 below zero, 1 above


(jump_path,) = torch.autograd.grad(jump(mu + sigma * eps).mean(), mu)
exact_jump = Normal(mu.detach(), sigma).log_prob(torch.zeros(1)).exp().item()
assert jump_path == 0
assert is_unbiased(jump(z) * score[0], exact_jump)

# what the average really does: the same draws, with mu a little to either side
shift = 0.05
moved = (jump(z + shift) - jump(z - shift)) / (2 * shift)  # (G, S)
assert is_unbiased(moved, exact_jump)
told = {"score": (jump(z) * score[0]).mean().item(), "moved": moved.mean().item()}
print(say("gradients-jump", exact=exact_jump, path=jump_path.item(), **told))

# %% key="waves-picture" jupyter={"source_hidden": true} tags=["hide-input"]
figure, (ax,) = figures.picture(say("gradients-alt-waves"), width=6)
for column, (name, line) in enumerate((("score", "-"), ("path", "--"))):
    look = {"color": colors[name], "label": say(f"gradients-way-{name}")}
    ax.loglog(frequencies * sigma, waves[:, column], line, **look)
ax.axvline(1, color="#777777", linestyle=":")
ticks = (0.25, 0.5, 1, 2)
ax.set_xticks(ticks, [say("tick", value=tick) for tick in ticks])
ax.minorticks_off()
ax.set(xlabel=r"$a\,\sigma$", ylabel=say("gradients-variance"))
ax.legend(fontsize=9, frameon=False)
figure

# %% [markdown] key="waves-moral"
# So the path is not good by nature. It is good **where $f$ hardly bends across the width of $q$**, and right only if $f$ has no jump anywhere. Is a VAE's $f$ like that? That can be measured.

# %% [markdown] key="vae-text"
# ## 9. A real VAE, compared with the exact gradient
#
# The model is that of lesson 00: two latents, trained for 15 epochs, kept in the cache. Take one test image. Its encoder gives $q = \mathcal{N}(\mu, \sigma^2)$: two means and two log-variances. The ELBO is $\mathbb{E}_q[\log p(x \mid z)]$ minus a KL that has a formula, with $\partial / \partial \mu = \mu$ and $\partial / \partial \log \sigma^2 = (\sigma^2 - 1) / 2$. So $f(z) = \log p(x \mid z)$, a sum over 784 pixels.
#
# There is no closed form here. But there are only two latents, so the integral over $q$ is a sum over a grid in the plane. The gradient we want, four numbers, comes from differentiating the density on the grid; $f$ is never differentiated.

# %% key="vae-model"
device = torch.device("cpu")
if torch.accelerator.is_available():
    device = torch.accelerator.current_accelerator()
train_images = data.load("auto", "train", device=device)
test_images = data.load(train_images.name, "test", device=device)
model, _ = train.trained(train_images, device=device)

decoder = copy.deepcopy(model).cpu().double()  # exactness asks for float64
x = test_images.pixels[0].cpu().double()  # (D,)
with torch.no_grad():
    vae_mu, vae_logvar = (row[0] for row in decoder.encode(x[None]))  # (2,) each
    vae_sigma = torch.exp(0.5 * vae_logvar)


def log_likelihood(z):  # (N, 2) to (N,) nats
    parts = z.split(1000)  # few points in memory
    values = [densities.log_bernoulli(x, decoder.decode_logits(p)) for p in parts]
    return torch.cat(values)


s1, s2 = vae_sigma.tolist()
print(say("gradients-data", name=train_images.name, s1=s1, s2=s2))

# %% key="vae-exact"
def square(points, extent=6.0):  # a grid of noise, and its normal weights
    line = torch.linspace(-extent, extent, points, dtype=torch.float64)
    noise = torch.cartesian_prod(line, line)  # (N, 2)
    return noise, densities.log_standard_normal(noise).softmax(0)


# the grid stays, the density moves
noise, _ = square(120)
fixed = vae_mu + vae_sigma * noise  # (N, 2)
with torch.no_grad():
    on_grid = log_likelihood(fixed)  # (N,)
area = (12 / 119) ** 2 * vae_sigma.prod()
m, v = vae_mu.clone().requires_grad_(), vae_logvar.clone().requires_grad_()
density = densities.log_normal(fixed, m, v).exp()  # (N,)
vae_elbo = area * density @ on_grid - densities.kl_to_standard_normal(m, v)
vae_exact = torch.cat(torch.autograd.grad(vae_elbo, (m, v)))  # (4,)

# %% key="vae-exact-checked" jupyter={"source_hidden": true} tags=["hide-input"]
# an independent check: the grid moves with q, and the rise of the ELBO is measured
noise, noise_weights = square(80)


@torch.no_grad()
def elbo_at(mu, logvar):
    likelihood = noise_weights @ log_likelihood(mu + torch.exp(0.5 * logvar) * noise)
    return likelihood - densities.kl_to_standard_normal(mu, logvar)


vae_rises = []
for i, length in enumerate((*(0.03 * vae_sigma), 0.03, 0.03)):
    move = torch.zeros(4, dtype=torch.float64)
    move[i] = length
    up = elbo_at(vae_mu + move[:2], vae_logvar + move[2:])
    down = elbo_at(vae_mu - move[:2], vae_logvar - move[2:])
    vae_rises.append((up - down) / (2 * length))
vae_rises = torch.stack(vae_rises)  # (4,)
unit = torch.cat((1 / vae_sigma, torch.ones(2, dtype=torch.float64)))  # a step in q
assert ((vae_exact - vae_rises).abs() < 0.005 * unit).all()
assert abs(vae_elbo.item() - elbo_at(vae_mu, vae_logvar).item()) < 0.01  # nats
for i, name in enumerate(("mu_1", "mu_2", "logvar_1", "logvar_2")):
    told = {"quadrature": vae_exact[i].item(), "rise": vae_rises[i].item()}
    print(say("gradients-vae-exact", name=name, **told))

# %% [markdown] key="vae-estimators-text"
# The two numbers on each line come from different sums, and agree as far as sums over a grid can: the decoder has ReLUs, and with them creases. (A crease is no jump: the path stays unbiased.)
#
# Now the estimators, with 2,000 groups of four draws. The KL has a formula, so all of them take its gradient from there; only the reconstruction term is estimated. The mean of each must again lie within four standard errors, in each of the four numbers. Before you run it, guess how many draws each one needs until its noise in $\mu$ is no larger than the gradient itself. In sections 2 to 7, the average of $f$ was near 1. Here $f$ is a log-probability of 784 pixels: tens or hundreds of nats below zero. For the gradient, however, all that matters is by how much it changes within $q$, and that is *few* nats.

# %% key="vae-estimators"
torch.manual_seed(1)
groups = 2000
vae_eps = torch.randn(groups * draws, 2, dtype=torch.float64)  # (G * S, 2)
vae_z = (vae_mu + vae_sigma * vae_eps).requires_grad_()
vae_values = log_likelihood(vae_z)  # (G * S,)
(vae_slope,) = torch.autograd.grad(vae_values.sum(), vae_z)  # (G * S, 2)
vae_values, vae_z = vae_values.detach().reshape(groups, draws), vae_z.detach()


def grouped(each):  # (G * S, 4) to (4, G, S)
    return each.T.reshape(4, groups, draws)


def along_path(slope, eps, sigma):  # (N, L) to (N, 2 L): means, then log-variances
    return torch.cat((slope, 0.5 * slope * sigma * eps), 1)


vae_score = grouped(torch.cat((vae_eps / vae_sigma, 0.5 * (vae_eps**2 - 1)), 1))
others = (vae_values.sum(-1, keepdim=True) - vae_values) / (draws - 1)  # (G, S)
kl_gradient = torch.cat((vae_mu, 0.5 * torch.expm1(vae_logvar)))[:, None, None]
vae_estimators = {
    "score": vae_values * vae_score - kl_gradient,
    "baseline": (vae_values - others) * vae_score - kl_gradient,
    "path": grouped(along_path(vae_slope, vae_eps, vae_sigma)) - kl_gradient,
}
for name, each in vae_estimators.items():
    assert is_unbiased(each, vae_exact)
    noise_of_one = draws * each.mean(-1).var(-1)  # (4,)
    needed = noise_of_one[:2].sum() / vae_exact[:2].square().sum()
    mean, error = mean_and_error(each)
    row = {"mean": mean[1].item(), "error": error[1].item()}
    row |= {"exact": vae_exact[1].item(), "needed": needed.item()}
    print(say("gradients-vae-row", name=say(f"gradients-way-{name}"), **row))

# %% [markdown] key="vae-many-text"
# The last number on each line says how many draws it takes, for this image, until the noise in the gradient of $\mu$, both means together, is only as large as the gradient itself.
#
# One image is one image. The two folded cells compute the variance of the three estimators for 400 test images, by a sum over 144 points of each $q$ in place of draws. (With the mean of the others as baseline, the estimate is $\frac{1}{S - 1} \sum_i (f_i - \bar f)\, s_i$, the sample covariance of $f$ and the score $s$, whose variance has a known formula.) The exact gradient stays that of the first image; for the 400 we compute the variances. The first image must agree with the draws above.

# %% key="vae-many" jupyter={"source_hidden": true} tags=["hide-input"]
nodes_12, weights_12 = map(torch.from_numpy, np.polynomial.hermite_e.hermegauss(12))
cloud = torch.cartesian_prod(nodes_12, nodes_12).float()  # (144, 2), noise
shares = torch.outer(weights_12, weights_12).flatten().float()
shares = shares / shares.sum()  # (144,)


def per_group(terms):  # (144, 4) to (2,): means, log-variances; groups of four draws
    return (shares @ terms**2 - (shares @ terms) ** 2).reshape(2, 2).sum(1) / draws


def per_group_baseline(value, score):  # the variance of a sample covariance
    value = value - shares @ value
    joint = value[:, None] * score  # (144, 4)
    apart = (shares @ value**2) * (shares @ score**2)  # (4,)
    pairs = apart - (draws - 2) * (shares @ joint) ** 2
    each = (shares @ joint**2 + pairs / (draws - 1)) / draws
    return each.reshape(2, 2).sum(1)


def image_variances(model, x):  # (D,) to (4, 2), and the ELBO
    with torch.no_grad():
        mu, logvar = (row[0] for row in model.encode(x[None]))  # (2,) each
    sigma = torch.exp(0.5 * logvar)
    z = (mu + sigma * cloud).requires_grad_()  # (144, 2)
    value = densities.log_bernoulli(x, model.decode_logits(z))  # (144,)
    (slope,) = torch.autograd.grad(value.sum(), z)  # (144, 2)
    value, z = value.detach(), z.detach()
    score = torch.cat((cloud / sigma, 0.5 * (cloud**2 - 1)), 1)  # (144, 4)
    landed = slope - z + cloud / sigma  # for section 13
    ways = (
        per_group(value[:, None] * score),
        per_group_baseline(value, score),
        per_group(along_path(slope, cloud, sigma)),
        per_group(along_path(landed, cloud, sigma)),
    )
    elbo = shares @ value - densities.kl_to_standard_normal(mu, logvar)
    return torch.stack(ways), elbo


images = test_images.pixels[:400].cpu()
on_cpu = copy.deepcopy(model).cpu()
many, elbos = map(
    torch.stack, zip(*(image_variances(on_cpu, x) for x in images), strict=True)
)  # (400, 4, 2) and (400,)

# %% key="vae-many-told" jupyter={"source_hidden": true} tags=["hide-input"]
# the first image, sampled above: two routes to the same variances
for row, each in enumerate(vae_estimators.values()):
    again = resampled_variances(each.mean(-1)).reshape(2, 2, -1).sum(1)  # (2, R)
    found = each.mean(-1).var(-1).reshape(2, 2).sum(1)  # (2,)
    assert ((found - many[0, row]).abs() < 4 * again.std(-1)).all()


def over_images(ratios):  # (N,) to the median, and where the middle 90% lie
    ends = torch.tensor([0.05, 0.5, 0.95], dtype=ratios.dtype)
    low, middle, high = ratios.quantile(ends).tolist()
    return {"middle": middle, "low": low, "high": high}


vae_ratios = many[:, :2] / many[:, 2:3]  # (400, 2 ways, 2)
for row, name in enumerate(("score", "baseline")):
    for column, what in enumerate(("mean", "logvar")):
        told = {"name": say(f"gradients-way-{name}"), "what": say(f"gradients-{what}")}
        told |= over_images(vae_ratios[:, row, column])
        print(say("gradients-over-images", **told))
digits = test_images.labels[:400].cpu()
by_digit = [vae_ratios[digits == d, 0, 0].median().item() for d in range(10)]
ends = {"least": min(by_digit), "most": max(by_digit)}
told = {f"{name}_digit": by_digit.index(value) for name, value in ends.items()}
print(say("gradients-by-digit", **ends, **told))
assert (vae_ratios[:, 0] > 100).all()
assert (vae_ratios[:, 1] > 1).all()
middles = vae_ratios.quantile(0.5, 0)  # (2 ways, 2)
assert middles[0].min() > 1000
assert middles[1].max() < 20

# %% [markdown] key="vae-noticed"
# Without a baseline, the score function multiplies the whole log-likelihood by a random number of mean zero. Its variance is thousands of times that of the path, and how many thousands depends on the image: compare the two digits of the last line. The baseline removes nearly all of it. What remains between it and the path is a moderate factor, below 20 at the median. Most of the difference was the missing baseline.

# %% [markdown] key="training-text"
# ## 10. What it means for a training run
#
# Noise in a gradient costs training steps. The cell below trains small VAEs (100 hidden units, 4,800 images, three epochs of batches of 64) that differ only in how the **encoder** gets its gradient, and in the number of draws per image. The decoder needs no trick: no draw depends on it. Three seeds each; a seed gives all of them the same initial weights.
#
# - **blocked**: `sample`, without a path, as in section 1. No error is raised: the loss still has a gradient for the decoder and, by the KL, for the encoder. Something is learnt, but not what you want.
# - **score function**: one draw.
# - **score, four draws**: the same with the mean of four draws per image, as a control.
# - **score, baseline**: four draws per image and leave-one-out.
# - **pathwise**: one draw.
#
# The last two are trained a second time with 20 latents instead of 2. The score function moves all of them on the evidence of a single number, the value of $f$; the path gets a slope for each.

# %% key="training"
few = data.Images(
    train_images.pixels[:4800], train_images.labels[:4800], dynamic=True
)
held_out = data.Images(test_images.pixels[:1000], test_images.labels[:1000])


def loss(model, x, way):
    mu, logvar = model.encode(x)  # (B, L)
    copies = 4 if way in ("four", "baseline") else 1
    z = model.reparameterize(mu.expand(copies, -1, -1), logvar.expand(copies, -1, -1))
    if way != "path":
        z = z.detach()  # a plain sample
    value = densities.log_bernoulli(x, model.decode_logits(z))  # (S, B)
    total = value.mean(0) - densities.kl_to_standard_normal(mu, logvar)  # (B,)
    if way in ("score", "four", "baseline"):
        reward = value.detach()
        if way == "baseline":
            reward = (reward - reward.mean(0)) * copies / (copies - 1)  # leave-one-out
        total = total + (reward * densities.log_normal(z, mu, logvar)).mean(0)
    return -total.mean()


def run(way, latents, seed):
    torch.manual_seed(seed)
    small = nets.VAE(hidden_dim=100, latent_dim=latents).to(device)
    optimizer = torch.optim.Adam(small.parameters(), lr=1e-3, fused=True)
    curve = []
    for _ in range(3):
        for x, _ in few.batches(64):
            optimizer.zero_grad()
            loss(small, x, way).backward()
            optimizer.step()
        bound = train.evaluate(small, held_out)
        curve.append(bound.elbo.mean().item())
    return curve, bound.kl.mean().item(), small


contests = {2: ("blocked", "score", "four", "baseline", "path")}
contests[20] = contests[2][-2:]
runs, kls, small_vaes = {}, {}, {}
for latents, ways in contests.items():
    for way in ways:
        made = [run(way, latents, seed) for seed in range(3)]
        curves, kls[way, latents], small_vaes[way, latents] = zip(*made, strict=True)
        runs[way, latents] = torch.tensor(curves)  # (3 seeds, 3 epochs)

# %% key="training-told" jupyter={"source_hidden": true} tags=["hide-input"]
ends = {name: curves[:, -1] for name, curves in runs.items()}
for (way, latents), last in ends.items():
    told = {"name": say(f"gradients-way-{way}"), "latents": latents}
    told |= {"low": last.min().item(), "high": last.max().item()}
    told |= {"mean": last.mean().item(), "kl": sum(kls[way, latents]) / 3}
    print(say("gradients-run", **told))
pairs = {count: ends["path", count] - ends["baseline", count] for count in contests}
for latents, gains in pairs.items():
    told = {"mean": gains.mean().item(), "error": gains.std().item() / math.sqrt(3)}
    print(say("gradients-paired", latents=latents, **told))

assert max(kls["blocked", 2]) < 0.1 < min(kls["score", 2])
for way in ("blocked", "score", "four"):
    assert ends["baseline", 2].min() > ends[way, 2].max() + 3
    assert ends["path", 2].min() > ends[way, 2].max() + 3
assert abs(ends["four", 2].mean() - ends["score", 2].mean()) < 6
assert pairs[2].abs().max() < 4
assert pairs[20].min() > 1

for seed, small in enumerate(small_vaes["path", 2]):
    pieces = [image_variances(small.cpu(), x)[0] for x in images[:100]]
    ratios = torch.stack([piece[0, 0] / piece[2, 0] for piece in pieces])  # (100,)
    print(say("gradients-by-seed", seed=seed, **over_images(ratios)))
    assert ratios.median() > 1000

# %% key="training-picture" jupyter={"source_hidden": true} tags=["hide-input"]
looks = {
    "blocked": {"color": "#777777", "ls": ":", "marker": "^"},
    "score": {"color": "black", "ls": "-.", "marker": "o"},
    "four": {"color": "#777777", "ls": "-.", "marker": "x"},
    "baseline": {"color": "black", "ls": "--", "marker": "s"},
    "path": {"color": q_color, "ls": "-", "marker": "D"},
}
figure, axes = figures.picture(say("gradients-alt-training"), columns=2, width=8)
for ax, (latents, ways) in zip(axes, contests.items(), strict=True):
    for way in ways:
        lines = ax.plot((1, 2, 3), runs[way, latents].T, ms=4, lw=1, **looks[way])
        lines[0].set_label(say(f"gradients-way-{way}"))
    ax.set(xlabel=say("epoch"), ylabel=say("gradients-test-elbo"), xticks=(1, 2, 3))
    ax.set_title(say("gradients-latents", count=latents), loc="left", fontsize=10)
    ax.legend(fontsize=8, frameon=False, loc="lower right")
figure

# %% [markdown] key="training-noticed"
# The three lines of a kind are its three seeds; the two panels have scales of their own. Five things to notice.
#
# - **Blocked** learns, and that is the trap. The decoder improves; the encoder hears only the KL, obeys it, and makes every $q(z \mid x)$ practically equal to the prior. Its KL says so: almost nothing of the image gets through.
# - **Score function** without a baseline ends near **blocked**, but not for the same reason: compare their KL. The encoder does get the gradient of the reconstruction, and spends nats on codes that help little.
# - **Four draws** change little. So it is the baseline that helps, not the extra decoding.
# - **Baseline** and **path** tie, within the errors, with 2 latents. The trick is not magic: with a good baseline and four times the decoding, the old way works.
# - With 20 latents the path leads with a quarter of the decoding, in every pair that shares its seed (the line printed last of the pairs). All curves still rise; a longer run might narrow the lead.
#
# The last three lines repeat the ratio of section 9 in the three small VAEs of 2 latents trained by the path, on the same 100 images. In these too its median is in the thousands or above.

# %% [markdown] key="logvar-text"
# ## 11. Why the log-variance
#
# A network's output $\theta$ is any real number. What should it be: $\sigma^2$ itself, $\log \sigma^2$, or something whose *softplus*, $\log(1 + e^\theta)$, is $\sigma^2$? The first is out at once: nothing keeps it above zero.
#
# It is often said that the exponential gives better gradients at small variances. Let us look. In terms of the variance $v$ that each one produces, $dv/d\theta$ is $v$ for the exponential and $1 - e^{-v}$ for softplus. When $v$ is small, those are **the same number**, up to $v^2/2$. They part company on the other side: for large $v$, the derivative of softplus is 1, and that of the exponential is $v$.
#
# The exponential has three real advantages:
#
# - the KL needs $\log v$, and there it is. In float32 the softplus of $-110$ is zero, and its logarithm minus infinity;
# - a step of $\theta$ means the same at every width. The average squared score says how much $q$ changes for a small step (its *Fisher information*). For the log-variance it is $\frac{1}{2}$ whatever $v$ is; for softplus $(1 - e^{-v})^2 / (2 v^2)$, which is $\frac{1}{2}$ for small $v$ and nearly zero for large;
# - a large variance is easy to reach: $v = 100$ is at $\theta = 4.6$, while for softplus it is at $\theta = 100$.
#
# And there is one danger: in float32, $e^{100}$ is infinite, hence the `clamp` of `nets.VAE`, which keeps the log-variance within bounds.

# %% key="logvar" tags=["nbval-check-output"]
theta = torch.linspace(-9, 5, 141, dtype=torch.float64, requires_grad=True)
by_exp, by_softplus = theta.exp(), F.softplus(theta)
(speed_of_exp,) = torch.autograd.grad(by_exp.sum(), theta)
(speed_of_softplus,) = torch.autograd.grad(by_softplus.sum(), theta)
assert torch.allclose(speed_of_exp, by_exp)
assert torch.allclose(speed_of_softplus, -torch.expm1(-by_softplus))

low = torch.tensor(-110.0)
assert F.softplus(low).log() == -math.inf
assert torch.exp(torch.tensor(100.0)) == math.inf
for variance in (1e-4, 1.0, 100.0):
    drawn = math.sqrt(variance) * nodes  # (60,)
    score_in_log = 0.5 * (drawn**2 / variance - 1)
    half = weights @ score_in_log**2
    of_variance = weights @ (score_in_log / variance) ** 2
    assert math.isclose(half, 0.5, rel_tol=1e-9)
    assert math.isclose(of_variance, 0.5 / variance**2, rel_tol=1e-9)
    away = math.log(variance), variance + math.log(-math.expm1(-variance))
    assert math.isclose(F.softplus(torch.tensor(away[1])), variance, rel_tol=1e-5)
    told = {"exp": variance, "softplus": -math.expm1(-variance)}
    print(say("gradients-speeds", v=variance, **told, near=away[0], far=away[1]))

# %% [markdown] key="no-path-text"
# ## 12. Distributions without a path
#
# The path exists when $z$ can be written as a differentiable function of the parameters and of a noise that has none. The inverse of the distribution function does it in one dimension whenever it is smooth: a uniform noise goes in, $z$ comes out. For distributions such as the gamma, whose inverse is hard to compute, the derivative comes from the distribution function $F$ itself. Hold $F(z) = u$ fixed: $dz/d\theta = -(\partial F / \partial \theta) / q(z)$. That is *implicit reparameterization*. A *discrete* distribution, over categories or counts, has no path: its draw jumps, and between jumps its derivative is zero, like the step of section 8. PyTorch knows which is which.

# %% key="no-path" tags=["nbval-check-output"]
for family in (Normal, Laplace, Gamma, Bernoulli, Categorical, Poisson):
    answer = say("gradients-yes" if family.has_rsample else "gradients-no")
    print(say("gradients-has-path", name=family.__name__, answer=answer))

# %% [markdown] key="poisson-text"
# What is done then? Four answers, from exact to biased.
#
# **Enumerate**, when there are few values: the average is then a sum, and a sum has a derivative. There is no noise at all, and a decoder call for each value. **Go back to the score function**, with a baseline. **Find a formula of the distribution's own**: for a Poisson of rate $\lambda$,
#
# $$\frac{d}{d\lambda}\, \mathbb{E}[f(k)] = \mathbb{E}\Big[f(k)\Big(\frac{k}{\lambda} - 1\Big)\Big] = \mathbb{E}\big[f(k + 1) - f(k)\big].$$
#
# The first is the score function, here without a baseline. The second (from $dp(k)/d\lambda = p(k - 1) - p(k)$) takes a difference where the path would take a slope. The cell compares both with the enumerated sum, for $f(k) = \sqrt{k}$.

# %% key="poisson"
rate = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
counts = torch.arange(60, dtype=torch.float64)  # beyond 60, less than 1e-40
in_full = Poisson(rate).log_prob(counts).exp() @ torch.sqrt(counts)
(exact_rate,) = torch.autograd.grad(in_full, rate)

torch.manual_seed(0)
k = Poisson(rate.detach()).sample((5000, 1))  # (G, 1)
poisson_ways = {
    "score": torch.sqrt(k) * (k / rate.detach() - 1),
    "next": torch.sqrt(k + 1) - torch.sqrt(k),
}
for name, each in poisson_ways.items():
    assert is_unbiased(each, exact_rate)
    mean, error = mean_and_error(each)
    told = {"mean": mean.item(), "error": error.item(), "exact": exact_rate.item()}
    told |= {"name": say(f"gradients-way-{name}"), "variance": each.var().item()}
    print(say("gradients-poisson", **told))
assert poisson_ways["next"].var() < poisson_ways["score"].var()

# %% [markdown] key="gumbel-text"
# The fourth answer is to **relax the draw**. Add to each logit a Gumbel noise, $-\log(-\log u)$ with $u$ uniform, each of its own, and keep the index of the largest: that is an exact draw from the categorical. Put a softmax of temperature $\tau$ in place of "the largest", $y = \mathrm{softmax}((\text{logits} + \text{noise}) / \tau)$, and there is a path: the *Gumbel-softmax* (Jang, Gu and Poole, 2017; Maddison, Mnih and Teh, 2017). The price: the draw is no longer a category, but a mixture of them, and the gradient is that of another problem. It is **biased**. As $\tau$ falls, the bias shrinks and the variance grows.
#
# Its sibling, the **straight-through** estimator, gives $f$ the hard category and pretends, on the way back, that it was the soft one. In code: `largest + soft - soft.detach()`. The decoder then sees real categories. But the gradient is that of neither the hard problem nor the soft one.
#
# With three categories, enumeration gives the exact gradient. The folded cell compares each temperature with it.

# %% key="gumbel"
logits = torch.tensor([0.5, 0.0, -1.0], dtype=torch.float64, requires_grad=True)
goal = torch.tensor([0.1, 0.6, 0.3], dtype=torch.float64)


def cost(y):  # (..., 3) to (...)
    return ((y - goal) ** 2).sum(-1)


per_category = cost(torch.eye(3, dtype=torch.float64))  # (3,)
expected = logits.softmax(0) @ per_category  # enumeration: a sum of three terms
(exact_three,) = torch.autograd.grad(expected, logits)  # (3,)

torch.manual_seed(0)
count = 200_000
gumbel = -torch.log(-torch.log(torch.rand(count, 3, dtype=torch.float64)))  # (N, 3)
largest = F.one_hot((logits.detach() + gumbel).argmax(-1), 3).double()  # (N, 3)


def relaxed(temperature, *, straight_through):
    each = logits.detach().expand(count, 3).clone().requires_grad_()
    soft = ((each + gumbel) / temperature).softmax(-1)  # (N, 3)
    y = largest + soft - soft.detach() if straight_through else soft
    return torch.autograd.grad(cost(y).sum(), each)[0]  # (N, 3)


p = logits.detach().softmax(0)
categorical = (cost(largest) - per_category.mean())[:, None] * (largest - p)  # (N, 3)

# %% key="gumbel-told" jupyter={"source_hidden": true} tags=["hide-input"]
assert torch.allclose(exact_three, p * (per_category - p @ per_category))
assert is_unbiased(largest.T[:, :, None], p)  # an exact draw
assert is_unbiased(categorical.T[:, :, None], exact_three)


def bias_and_variance(gradient):
    bias = (gradient.mean(0) - exact_three).norm()
    return bias.item(), gradient.var(0).sum().item()


relaxations = {"soft": [], "straight": []}
for temperature in (2.0, 1.0, 0.5, 0.25, 0.1):
    for name, found in relaxations.items():
        gradient = relaxed(temperature, straight_through=name == "straight")
        assert not is_unbiased(gradient.T[:, :, None], exact_three)
        found.append(bias_and_variance(gradient))
    (a, b), (c, d) = (found[-1] for found in relaxations.values())
    assert d > b
    told = {"bias": a, "variance": b, "straight_bias": c, "straight_variance": d}
    print(say("gradients-gumbel", tau=temperature, **told))
_, score_variance = bias_and_variance(categorical)
length = exact_three.norm().item()
print(say("gradients-gumbel-score", length=length, variance=score_variance))
for found in relaxations.values():
    assert found[-1][1] > 3 * max(found[0][1], score_variance)
assert relaxations["soft"][-1][0] < relaxations["soft"][0][0] / 3

# %% [markdown] key="gumbel-noticed"
# Read the last two lines together. At the lowest temperature, both relaxations are still biased, and far noisier than the score function with a baseline, which has no bias at all. Straight-through is the noisier of the two at every temperature. That is with three categories; with thousands, which we have not measured, the tables may turn. **There is no best estimator as such, only the one that came out best when measured on your problem.**

# %% [markdown] key="landing-text"
# ## 13. One last noise that can be removed
#
# Suppose that training went perfectly, and $q$ *is* the posterior. The exact gradient with respect to the parameters of $q$ is then zero. Is the pathwise estimate zero as well? With the KL in closed form, no: each draw still pulls its own way.
#
# Write the whole ELBO inside the average, $\log p(x, z) - \log q(z)$. If $q$ is the posterior, that is $\log p(x)$, the same number at every $z$: along the path, its slope is zero. What still moves is $\mu$ and $\sigma$ *inside* $\log q$, and that part is a score, which averages to zero. Drop it, by detaching the parameters in $\log q$, and the noise vanishes at the optimum: *sticking the landing* (Roeder, Wu and Duvenaud, 2017).
#
# In a linear Gaussian model, $x = Wz + b$ plus Gaussian noise, the posterior is a normal with a known formula, and "zero" can be demanded to ten decimals. On the VAE the encoder is only near the posterior, so some noise is left. By what factor does the variance fall, on the same 400 images?

# %% key="landing"
torch.manual_seed(0)
line = exact.LinearGaussian(
    torch.randn(5, 1, dtype=torch.float64), torch.zeros(5, dtype=torch.float64), 0.5
)
seen = torch.randn(1, 5, dtype=torch.float64)  # (1, D)
q_mu, q_logvar = (
    row.expand(1000, 1).clone().requires_grad_() for row in line.encode(seen)
)  # the posterior, 1000 times
drawn = q_mu + torch.exp(0.5 * q_logvar) * torch.randn(1000, 1, dtype=torch.float64)

likelihood = line.log_conditional(seen, drawn)  # (1000,)
usual = likelihood - densities.kl_to_standard_normal(q_mu, q_logvar)
inside = likelihood + densities.log_standard_normal(drawn)
landed = inside - densities.log_normal(drawn, q_mu.detach(), q_logvar.detach())
for objective, is_zero in ((usual, False), (landed, True)):
    found = torch.autograd.grad(objective.sum(), (q_mu, q_logvar), retain_graph=True)
    assert all((gradient.abs().max() < 1e-10) == is_zero for gradient in found)

# the VAE of section 9: the slope of log p(x, z) - log q(z), parameters detached
vae_landed = vae_slope - vae_z + vae_eps / vae_sigma  # (G * S, 2)
by_landing = grouped(along_path(vae_landed, vae_eps, vae_sigma))
assert is_unbiased(by_landing, vae_exact)

# %% key="landing-told" jupyter={"source_hidden": true} tags=["hide-input"]
# log p(x) - ELBO is KL(q || posterior)
gaps = exact.log_likelihood(on_cpu, images, extent=6) - elbos  # (400,)
gains = many[:, 2] / many[:, 3]  # (400, 2): variance before / after
for column, what in enumerate(("mean", "logvar")):
    gain = gains[:, column]
    told = over_images(gain) | {"least": gain.min().item()}
    told |= {"what": say(f"gradients-{what}")}
    told["share"] = (gain < 1).float().mean().item()
    print(say("gradients-landing", **told))
    assert gain.median() > (3.0, 1.8)[column]
    assert 0 < told["share"] < 0.15
    raised = gaps[gain < 1].median().item(), gaps[gain >= 1].median().item()
    assert raised[0] > 3 * raised[1]
    print(say("gradients-landing-gap", raised=raised[0], fell=raised[1]))

# %% [markdown] key="landing-noticed"
# At the median image, the variance falls to a third or less in $\mu$, to about a half in $\log \sigma^2$. **At a few images it rises.** Their $q$ lies far from the posterior: their $\mathrm{KL}(q \,\|\, p(z \mid x))$, which is $\log p(x)$ minus the ELBO, is several times larger. There the slopes of $\log p(x, z)$ and of $\log q(z)$ do not cancel, and each brings its own noise.

# %% [markdown] key="answer"
# ## 14. The answer
#
# How does a gradient pass through a random draw? **It does not. It goes round it.** The noise is drawn outside, the parameters work inside, and the gradient of the average can be had either from the density or along the path. The cell repeats what this notebook measured.

# %% key="answer-measured"
print(say("gradients-answer-ratio", **over_images(vae_ratios[:, 0, 0])))
told = {way: ends[way, 2].mean().item() for way in contests[2]}
print(say("gradients-answer-elbo", **told))

# %% [markdown] key="next"
# **To read.** Williams (1992) introduced the score function in reinforcement learning. Kingma and Welling (2013) and Rezende, Mohamed and Wierstra (2014) brought the path to these models. Roeder, Wu and Duvenaud (2017) took away the last noise; Tucker et al. (2019) extended that to importance-weighted bounds. Jang, Gu and Poole (2017) and Maddison, Mnih and Teh (2017) relaxed the categorical.
#
# The gradient is now in hand. Lesson 04 asks how fast it can be computed.

# %% [markdown] key="exercises"
# ## Exercises
#
# Write your answer in place of the ellipsis and run the cell. The solutions are folded below each question.
#
# ### 1. The score function, by hand
#
# The function takes the values of $f$ at the draws, `values` of shape `(S,)`, the draws `z`, also `(S,)`, and `mu` and `logvar` as scalar tensors. Return one estimate per draw, of shape `(2, S)`: first the derivative with respect to $\mu$, then with respect to $\log \sigma^2$. No baseline, no averaging.

# %% key="exercise-score" tags=["nbval-check-output"]
def my_score_function(values, z, mu, logvar):
    ...


checks.score_function(my_score_function)

# %% key="solution-score" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output", "solution"]
def solution_score_function(values, z, mu, logvar):
    squared = (z - mu) ** 2 * torch.exp(-logvar)  # (S,)
    return values * torch.stack(((z - mu) * torch.exp(-logvar), 0.5 * (squared - 1)))


verdict = checks.score_function(solution_score_function)
assert verdict
verdict

# %% [markdown] key="exercise-baseline-text"
# ### 2. Find the bug: the baseline
#
# `buggy_baseline` subtracts a baseline from the values and multiplies by the score. The variance falls, and no error is raised. But what it returns does not estimate the gradient that it promises. Write a version without the bug that still has a baseline: any baseline that leaves the mean right. Both arguments have shape `(S,)`, and so has what is returned.

# %% key="exercise-baseline" tags=["nbval-check-output"]
def buggy_baseline(values, score):
    return (values - values.mean()) * score


def my_baseline(values, score):
    ...


checks.baseline(my_baseline)

# %% key="solution-baseline" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output", "solution"]
def solution_baseline(values, score):
    others = (values.sum() - values) / (len(values) - 1)  # (S,)
    return (values - others) * score


verdict = checks.baseline(solution_baseline)
assert verdict
verdict

# %% [markdown] key="exercise-path-text"
# ### 3. The path of another distribution
#
# An exponential of rate $r$ (`rate`) that begins at $a$ (`start`) has distribution function $1 - e^{-r(z - a)}$ for $z > a$. Write its draw as a function of a uniform noise `u`, by inverting the distribution function: a larger `u` gives a larger `z`. The gradient must reach `start` and `rate`.

# %% key="exercise-path" tags=["nbval-check-output"]
def my_exponential(start, rate, u):
    ...


checks.exponential_path(my_exponential)

# %% key="solution-path" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output", "solution"]
def solution_exponential(start, rate, u):
    return start - torch.log1p(-u) / rate  # (S,)


verdict = checks.exponential_path(solution_exponential)
assert verdict
verdict

# %% [markdown] key="exercise-surrogate-text"
# ### 4. Find the bug: the surrogate objective
#
# In practice one does not write the score; one writes a number whose *derivative* is the estimate, and calls `backward`. Here `z` came from `rsample`, so `z` and `values` both depend on `mu` and `logvar`. The derivative of `buggy_surrogate` is not the score-function estimate. Find out what it is for $\mu$ and for $\log \sigma^2$. Then write a version whose derivative is the mean of the terms of exercise 1, without a baseline.

# %% key="exercise-surrogate" tags=["nbval-check-output"]
def buggy_surrogate(values, z, mu, logvar):
    log_q = Normal(mu, torch.exp(0.5 * logvar)).log_prob(z)  # (S,)
    return (values.detach() * log_q).mean()


def my_surrogate(values, z, mu, logvar):
    ...


checks.surrogate(my_surrogate)

# %% key="solution-surrogate" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output", "solution"]
def solution_surrogate(values, z, mu, logvar):
    log_q = Normal(mu, torch.exp(0.5 * logvar)).log_prob(z.detach())  # (S,)
    return (values.detach() * log_q).mean()


verdict = checks.surrogate(solution_surrogate)
assert verdict
verdict

# %% [markdown] key="solution-surrogate-text"
# <details><summary>What the bug lets through</summary>
#
# With `z` attached, $\log q(z)$ changes for two reasons: because the bell curve moves, and because the draw moves with it. For $\mu$, the two cancel exactly: when the draw moves with the curve, the density at the draw does not change. The gradient at $\mu$ is zero, at every draw. For $\log \sigma^2$ what is left is $-\frac{1}{2}$ times the mean of the values: the score was replaced by a constant, the same for every draw.
#
# </details>
