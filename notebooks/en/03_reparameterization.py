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
# **By the end you will be able to** write four estimators of the same gradient, say which are unbiased and how noisy each one is, choose between them for a law you have never met, and recognize three bugs that raise no error. Wherever the exact gradient exists, you will have compared with it.
#
# **You need** lesson 00.
#
# **Time:** 40 minutes of reading; half a minute of computing, and up to a minute more if the trained model is not in the cache yet.

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
# First see it fail. The next cell draws $z$ from a normal as anyone would, squares it, and asks PyTorch for the derivative with respect to $\mu$ and $\sigma$. Expect a refusal: the draw comes out as a bare number, which no longer knows where it came from.

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
# One draw has no derivative. But it is not one draw that we want to improve. We want the *average* $\mathbb{E}_{q(z)}[f(z)]$ to grow, where $q = \mathcal{N}(\mu, \sigma^2)$. The average moves smoothly when $\mu$ moves, because the whole bell slides over $f$.
#
# To have something to check against, take an $f$ whose average has a formula: $f(z) = z^2 + \sin 3z$. Under $q$,
#
# $$\mathbb{E}[f(z)] = \mu^2 + \sigma^2 + e^{-9\sigma^2/2} \sin 3\mu.$$
#
# The gradient of that formula, with respect to $\mu$ and to $\log \sigma^2$, is the **exact answer** for everything that follows. The next cell computes it, and checks it against a numerical integral that knows neither the formula nor its derivative.

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
# The picture shows both sides of the matter. On the left, $f$ and two bells. On the right, the average of $f$ as the bell slides: the ripples of $f$ are still there, but flatter, since the bell averages them. The dashed line touches the curve at our $\mu$; its slope is the derivative in $\mu$ that the cell above printed.

# %% key="average-picture"
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
# ## 3. First way: let the density carry the gradient
#
# Write the average as an integral, $\int f(z)\, q(z)\, dz$. The parameters are in $q(z)$, and $q$ has a derivative. Since $\nabla q = q\, \nabla \log q$, the derivative is again an average under $q$:
#
# $$\nabla\, \mathbb{E}[f(z)] = \mathbb{E}\big[f(z)\, \nabla \log q(z)\big].$$
#
# This is the **score-function estimator** (Williams, 1992, calls it REINFORCE). It never differentiates $f$, which may be a game, a program or a person's answer. For the normal, the score takes two lines. With $\varepsilon = (z - \mu)/\sigma$,
#
# $$\frac{\partial \log q}{\partial \mu} = \frac{\varepsilon}{\sigma}, \qquad \frac{\partial \log q}{\partial \log \sigma^2} = \frac{\varepsilon^2 - 1}{2}.$$
#
# The next cell draws 5,000 groups of four samples. Each group of four gives *one* estimate of the gradient. The cell demands that the mean of the 5,000 estimates lie within four standard errors of the exact gradient.

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
# Add 1,000 to $f$. The gradient of the average does not change, but each term $f(z)\,\nabla \log q(z)$ becomes enormous, now positive, now negative. The noise explodes for nothing. The cure is to subtract a number $b$ close to the usual value of $f$:
#
# $$\nabla\, \mathbb{E}[f(z)] = \mathbb{E}\big[(f(z) - b)\, \nabla \log q(z)\big].$$
#
# The mean stays right because the score averages to zero: $\mathbb{E}[b\,\nabla \log q] = b \int \nabla q = b\, \nabla 1 = 0$. Look at the first equals sign: $b$ left the average. **It may, only if $b$ does not depend on this very draw.** A constant serves, and so does a function of the image, or the mean of the *other* draws of the group (*leave-one-out*).
#
# What about the mean of the whole group, the draw itself included? It looks the same. The next cell shows that it multiplies the estimate above by $1 - 1/S$, *exactly*, draw by draw. With four samples, a quarter of the gradient is gone; with two, half.

# %% key="baseline"
values = f(z)  # (G, S)
others = (values.sum(-1, keepdim=True) - values) / (draws - 1)  # (G, S)
by_baseline = (values - others) * score  # (2, G, S)
assert is_unbiased(by_baseline, exact_gradient)

including_itself = (values - values.mean(-1, keepdim=True)) * score  # (2, G, S)
assert not is_unbiased(including_itself, exact_gradient)
assert is_unbiased(including_itself, (1 - 1 / draws) * exact_gradient)
assert torch.allclose(including_itself, (1 - 1 / draws) * by_baseline)

# %% [markdown] key="pathwise-text"
# ## 5. The noise outside, the parameters inside
#
# The second way changes the draw, and not the density. Sample $\varepsilon$ from $\mathcal{N}(0, 1)$, where no parameter lives, and *compute* $z = \mu + \sigma\,\varepsilon$. The parameters have moved from the law of $z$ to the arithmetic that makes $z$. Arithmetic has a derivative.
#
# The picture shows the two graphs. Black arrows compute forwards. Dashed arrows carry the gradient backwards. On the left, it meets the draw and stops. On the right, the draw stands aside, off the road from $f$ to $\mu$ and $\sigma$. Notice that no gradient reaches $\varepsilon$ either; nobody needs it there.

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
# Along that road the chain rule gives, for one draw,
#
# $$\frac{\partial f}{\partial \mu} = f'(z), \qquad \frac{\partial f}{\partial \log \sigma^2} = f'(z)\, \frac{\sigma\,\varepsilon}{2}.$$
#
# This is the **pathwise estimator**, or reparameterization trick (Kingma and Welling, 2013; Rezende, Mohamed and Wierstra, 2014). It asks for what the first way did not: the slope $f'$. The next cell writes it, compares it with autograd, and holds its mean against the exact gradient, as before.

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
# All three estimators are right on average, and the closed form is right without averaging. What tells them apart is **variance**: how far one estimate, from one group of four draws, falls from the truth. In training there is one group per step, so the variance is what the optimizer suffers.
#
# A variance that comes from samples is itself uncertain. The *bootstrap* says by how much: draw 5,000 groups from our 5,000, with repetition, compute the variance again, and do that a thousand times. The middle 95% of the results is the interval in brackets. For two of the estimators the exact variance is known too, by the quadrature of section 2, and the cell demands that ours lie within four standard errors of it, as measured by the bootstrap.

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

# %% key="race-picture"
colors = {"score": "black", "baseline": "#777777", "path": q_color}
figure, axes = figures.picture(
    say("gradients-alt-race"), columns=3, width=8.5, height=2.5
)
for ax, (name, each) in zip(axes, estimators.items(), strict=True):
    ax.hist(each.mean(-1)[0], np.linspace(-8, 16, 73), color=colors[name], log=True)
    ax.axvline(d_mu, color=figures.COLORS["posterior"], linewidth=2, linestyle="--")
    ax.set_title(say(f"gradients-way-{name}"), loc="left", fontsize=10)
    ax.set(xlabel=say("gradients-estimate"), ylim=(0.5, 2000))
figure

# %% [markdown] key="race-ratio-text"
# The three heaps of 5,000 estimates share their axes; the dashed line is the exact gradient, and all three have their mean on it. The vertical scale is logarithmic, to show the rare estimates. Notice how far those of the score function go: **variance lives in the tails**.
#
# By how much? The next cell divides the variances. A ratio of 3 means that the score function needs three times as many draws to be as good.

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
# ## 7. Hold the arrows
#
# Now move $\mu$, $\sigma$ and $\varepsilon$ yourself. On the left are the bell $q$, the point $z = \mu + \sigma\varepsilon$ and the slope of $f$ there. The arrow along the bottom is the step $\sigma\varepsilon$ from $\mu$ to $z$. On the right is the gradient that arrives: at $\mu$, since $\partial z/\partial \mu = 1$, the slope itself; at $\sigma$, since $\partial z / \partial \sigma = \varepsilon$, the slope times $\varepsilon$. The diamonds are the exact averages, which one draw never shows.
#
# Three things to try. With $\varepsilon = 0$, what reaches $\sigma$? Change the sign of $\varepsilon$: if $f$ were a straight line, which of the two arrows would change sides? And with $\sigma$ very small, whatever $\varepsilon$ is, how far is the upper arrow from its diamond?

# %% key="panel"
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

# %% key="panel-moved"
assert sweep(arrows) == 7
center, width = (torch.tensor(v, requires_grad=True) for v in (0.6, 0.5))
f(center + width * -1.2).backward()
arriving = slope(torch.tensor(0.0)).item()
assert math.isclose(center.grad, arriving, rel_tol=1e-5)
assert math.isclose(width.grad, arriving * -1.2, rel_tol=1e-5)

# %% [markdown] key="waves-text"
# ## 8. Does the path always win?
#
# Many texts say so. It is not so. Take $f(z) = \sin(a z + \varphi)$ and average each estimator's variance over all phases $\varphi$. The score-function term never exceeds $|\varepsilon|/\sigma$, however fast $f$ ripples. The pathwise term is the slope, and that grows with $a$. By hand, the mean squares are $\frac{1}{2\sigma^2}$ and $\frac{a^2}{2}$, and the two estimators have the same mean. **The lines cross exactly at $a\sigma = 1$**: where the phase of $f$ advances by one radian in one standard deviation of $q$.
#
# The next cell computes both by quadrature. And it tries the extreme case, a step: $f(z) = 1$ if $z > 0$, else $0$. Its slope is zero wherever there is one. The pathwise estimate is then zero at every draw: no noise at all, and wrong. The average does change with $\mu$, and its derivative is $q(0)$.

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

jump = (z > 0).double()  # (G, S)
exact_jump = Normal(mu.detach(), sigma).log_prob(torch.zeros(1)).exp().item()
assert is_unbiased(jump * score[0], exact_jump)
jump_path = torch.zeros_like(z)  # the slope of a step, at each draw
print(say("gradients-crossing", a=(1 / sigma).item(), variance=crossing[0].item()))
print(say("gradients-jump", exact=exact_jump, path=jump_path.mean().item()))

# %% key="waves-picture"
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
# So the path is not good by nature. It is good **where $f$ is smooth across the width of $q$**, and only right where $f$ is continuous. Is a VAE's $f$ like that? That can be measured.

# %% [markdown] key="vae-text"
# ## 9. A real VAE, against the exact gradient
#
# The model is that of lesson 00: two latents, trained for 15 epochs, kept in the cache. (If it is not there, it is trained now, in less than a minute.) Take one test image. Its encoder says $q = \mathcal{N}(\mu, \sigma^2)$, two means and two log-variances. The ELBO is $\mathbb{E}_q[\log p(x \mid z)]$ minus a KL that has a formula; so $f(z) = \log p(x \mid z)$, with 784 pixels inside.
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
    mu, logvar = (row[0] for row in decoder.encode(x[None]))  # (2,) each
    sigma = torch.exp(0.5 * logvar)


def log_likelihood(z):  # (N, 2) to (N,) nats
    return densities.log_bernoulli(x, decoder.decode_logits(z))


print(
    say(
        "gradients-data",
        name=train_images.name,
        s1=sigma[0].item(),
        s2=sigma[1].item(),
    )
)

# %% key="vae-exact"
def square(points, extent=6.0):  # a grid of noise, and its normal weights
    line = torch.linspace(-extent, extent, points, dtype=torch.float64)
    noise = torch.cartesian_prod(line, line)  # (N, 2)
    return noise, densities.log_standard_normal(noise).softmax(0)


# the grid stays, the density moves
noise, _ = square(120)
fixed = mu + sigma * noise  # (N, 2)
with torch.no_grad():
    on_grid = log_likelihood(fixed)  # (N,)
area = (12 / 119) ** 2 * sigma.prod()
m, v = mu.clone().requires_grad_(), logvar.clone().requires_grad_()
density = densities.log_normal(fixed, m, v).exp()  # (N,)
vae_elbo = area * density @ on_grid - densities.kl_to_standard_normal(m, v)
vae_exact = torch.cat(torch.autograd.grad(vae_elbo, (m, v)))  # (4,)

# an outside answer: the grid moves with q, and the ELBO's rise is measured
noise, noise_weights = square(80)


@torch.no_grad()
def elbo_at(mu, logvar):
    likelihood = noise_weights @ log_likelihood(mu + torch.exp(0.5 * logvar) * noise)
    return likelihood - densities.kl_to_standard_normal(mu, logvar)


vae_rises = []
for i, length in enumerate((*(0.03 * sigma), 0.03, 0.03)):
    move = torch.zeros(4, dtype=torch.float64)
    move[i] = length
    up = elbo_at(mu + move[:2], logvar + move[2:])
    down = elbo_at(mu - move[:2], logvar - move[2:])
    vae_rises.append((up - down) / (2 * length))
vae_rises = torch.stack(vae_rises)  # (4,)
unit = torch.cat((1 / sigma, torch.ones(2, dtype=torch.float64)))  # of a step in q
assert ((vae_exact - vae_rises).abs() < 0.005 * unit).all()
assert abs(vae_elbo.item() - elbo_at(mu, logvar).item()) < 0.01  # nats
for i, name in enumerate(("mu_1", "mu_2", "logvar_1", "logvar_2")):
    values = {"quadrature": vae_exact[i].item(), "rise": vae_rises[i].item()}
    print(say("gradients-vae-exact", name=name, **values))

# %% [markdown] key="vae-estimators-text"
# The two columns come from different sums, and agree as far as sums over a grid can: the decoder has ReLUs, and with them creases.
#
# Now the estimators, with 2,000 groups of four draws. The KL has a formula, so all of them take its gradient from there; only the reconstruction term is estimated. The cell demands the four standard errors again, on each of the four numbers. Before you run it, guess the ratio. On the toy, the average of $f$ was near 1. Here it is a log-probability of 784 pixels: tens or hundreds of nats below zero, while what matters is by how *few* nats it changes within $q$.

# %% key="vae-estimators"
torch.manual_seed(1)
groups = 2000
eps = torch.randn(groups * draws, 2, dtype=torch.float64)  # (G * S, 2)
z = (mu + sigma * eps).requires_grad_()
values = log_likelihood(z)  # (G * S,)
(rise,) = torch.autograd.grad(values.sum(), z)  # (G * S, 2): the slope at each draw
values, z = values.detach().reshape(groups, draws), z.detach()


def grouped(each):  # (G * S, 4) to (4, G, S)
    return each.T.reshape(4, groups, draws)


score = grouped(torch.cat((eps / sigma, 0.5 * (eps**2 - 1)), 1))
others = (values.sum(-1, keepdim=True) - values) / (draws - 1)  # (G, S)
kl_gradient = torch.cat((mu, 0.5 * torch.expm1(logvar)))[:, None, None]  # (4, 1, 1)
vae_estimators = {
    "score": values * score - kl_gradient,
    "baseline": (values - others) * score - kl_gradient,
    "path": grouped(torch.cat((rise, 0.5 * rise * sigma * eps), 1)) - kl_gradient,
}

resampled, needed = {}, {}
for name, each in vae_estimators.items():
    assert is_unbiased(each, vae_exact)
    spread = resampled_variances(each.mean(-1))  # (4, R)
    resampled[name] = torch.stack((spread[:2].sum(0), spread[2:].sum(0)))  # (2, R)
    noise_of_one = draws * each.mean(-1).var(-1)  # (4,)
    needed[name] = (noise_of_one[:2].sum() / vae_exact[:2].square().sum()).item()
    mean, error = mean_and_error(each)
    row = {"mean": mean[1].item(), "error": error[1].item()}
    row |= {"exact": vae_exact[1].item(), "needed": needed[name]}
    print(say("gradients-vae-row", name=say(f"gradients-way-{name}"), **row))

for name in ("score", "baseline"):
    ratios = resampled[name] / resampled["path"]  # (2, R)
    middle = {"mu": ratios[0].median().item(), "logvar": ratios[1].median().item()}
    ends = [say("gradients-interval", **interval(ratio)) for ratio in ratios]
    told = {"name": say(f"gradients-way-{name}"), "a": ends[0], "b": ends[1]}
    print(say("gradients-ratio", **told, **middle))
    assert (ratios.quantile(0.001, dim=-1) > (100 if name == "score" else 1)).all()
vae_ratio = resampled["score"][0] / resampled["path"][0]  # (R,)

# %% [markdown] key="vae-noticed"
# The last column of the first table says how many draws it takes for the noise in the gradient of $\mu$ to be only as large as the gradient itself. Without a baseline, the score function multiplies the whole log-likelihood by a random number of mean zero. The baseline removes nearly all of that. What remains between it and the path is the second table's last line: a moderate factor, not thousands. Most of the famous gap was the missing baseline.

# %% [markdown] key="training-text"
# ## 10. What it means for a training run
#
# Noise in a gradient is paid in steps. The next cell trains small VAEs (100 hidden units, 4,800 images, three epochs of batches of 64) that differ only in how the **encoder** gets its gradient. The decoder needs no trick: no draw depends on it. Three seeds each.
#
# - **blocked**: a plain sample, as in section 1. No error is raised, because the KL still has a gradient for the encoder. Expect the encoder to learn something, but not what you want.
# - **score**: the score function, one draw.
# - **baseline**: the score function with four draws per image and leave-one-out, four times the decoding.
# - **path**: one draw.
#
# The last two are trained a second time with 20 latents instead of 2. The score function moves all of them on the strength of one number, the value of $f$; the path gets a slope for each.

# %% key="training"
few = data.Images(
    train_images.pixels[:4800], train_images.labels[:4800], dynamic=True
)
held_out = data.Images(test_images.pixels[:1000], test_images.labels[:1000])


def loss(model, x, way):
    mu, logvar = model.encode(x)  # (B, L)
    copies = 4 if way == "baseline" else 1
    z = model.reparameterize(mu.expand(copies, -1, -1), logvar.expand(copies, -1, -1))
    if way != "path":
        z = z.detach()  # a plain sample
    value = densities.log_bernoulli(x, model.decode_logits(z))  # (S, B)
    total = value.mean(0) - densities.kl_to_standard_normal(mu, logvar)  # (B,)
    if way in ("score", "baseline"):
        reward = value.detach()
        if copies > 1:
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
    return curve, bound.kl.mean().item()


contests = {2: ("blocked", "score", "baseline", "path"), 20: ("baseline", "path")}
runs = {}
for latents, ways in contests.items():
    for way in ways:
        curves, kls = zip(*(run(way, latents, seed) for seed in range(3)), strict=True)
        runs[way, latents] = torch.tensor(curves)  # (3 seeds, 3 epochs)
        last = runs[way, latents][:, -1]
        told = {
            "name": say(f"gradients-way-{way}"), "latents": latents, "kl": sum(kls) / 3,
        }
        told |= {"low": last.min().item(), "high": last.max().item()}
        print(say("gradients-run", mean=last.mean().item(), **told))
        if way == "blocked":
            assert max(kls) < 0.1

ends = {name: curves[:, -1] for name, curves in runs.items()}
assert ends["path", 2].min() > ends["score", 2].max() + 3
assert ends["path", 2].min() > ends["blocked", 2].max() + 5
assert (ends["path", 2] - ends["baseline", 2]).abs().mean() < 6
assert (ends["path", 20] - ends["baseline", 20]).mean() > 2

# %% key="training-picture"
looks = {
    "blocked": {"color": "#777777", "ls": ":", "marker": "^"},
    "score": {"color": "black", "ls": "-.", "marker": "o"},
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
# Four things to notice.
#
# - **Blocked** learns, and that is the trap. The decoder improves; the encoder hears only the KL, obeys it, and makes all the clouds practically equal to the prior. See the KL in the table: almost nothing of the image gets through.
# - **Score** without a baseline ends near it, but not for the same reason: compare their KL. The encoder does get a gradient, with more noise in it than signal.
# - **Baseline** and **path** all but tie with 2 latents. The trick is not magic: with a good baseline and four times the decoding, the old way works.
# - With 20 latents the tie is over. The path leads with a quarter of the decoding.

# %% [markdown] key="logvar-text"
# ## 11. Why the log-variance
#
# A network's output $\theta$ is any real number. What should it be: $\sigma^2$ itself, $\log \sigma^2$, or something whose *softplus*, $\log(1 + e^\theta)$, is $\sigma^2$?
#
# It is often said that the exponential gives better gradients at small variances. Let us look. In terms of the variance $v$ that each one produces, $dv/d\theta$ is $v$ for the exponential and $1 - e^{-v}$ for softplus. When $v$ is small, those are **the same number**, up to $v^2/2$. They part company on the other side: for large $v$, the speed of softplus is 1, and that of the exponential is $v$.
#
# The exponential has three real advantages, which the next two cells measure:
#
# - the KL needs $\log v$, and there it is. In float32 the softplus of $-110$ is zero, and its logarithm minus infinity;
# - a step of $\theta$ means the same at every width: the squared score, averaged, is $\frac{1}{2}$ whatever $v$ is. For the variance itself, it is $\frac{1}{2v^2}$;
# - a large variance is near: $v$ is reached with $\theta = \log v$, while softplus needs $\theta \approx v$. And there is one danger: in float32, $e^{100}$ is infinite, hence the `clamp` of `nets.VAE`.

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
    speed = -math.expm1(-variance)
    print(say("gradients-speeds", v=variance, exp=variance, softplus=speed))

# %% [markdown] key="logvar-steps-text"
# And in steps? Start at $v = 1$ and let Adam, with a learning rate of 0.05, bring $\mathcal{N}(0, v)$ to a target of variance $t$ by the KL. Expect almost a tie at $t = 0.005$, a cloud as narrow as those of a VAE, and a rout at $t = 100$. The variance itself as a parameter does not finish the first race: some step takes it below zero, where the logarithm does not exist.

# %% key="logvar-steps"
forms = {
    "exp": (torch.exp, 0.0),
    "softplus": (F.softplus, math.log(math.expm1(1.0))),
    "raw": (torch.clone, 1.0),
}


most = 3000  # steps


def steps_to(target, form, start):
    theta = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([theta], lr=0.05)
    for step in range(most):
        v = form(theta)
        if v <= 0:
            return -step  # lost
        if abs(math.log(v.item() / target)) < 0.05:
            return step
        optimizer.zero_grad()
        (0.5 * (v / target - 1 - torch.log(v / target))).backward()
        optimizer.step()
    return most


steps = {}
for target in (0.005, 100.0):
    for name, (form, start) in forms.items():
        steps[name, target] = steps_to(target, form, start)
        key = "gradients-steps" if steps[name, target] > 0 else "gradients-lost"
        key = "gradients-late" if steps[name, target] == most else key
        told = {
            "name": say(f"gradients-form-{name}"), "steps": abs(steps[name, target]),
        }
        print(say(key, target=target, **told))

assert 0.5 < steps["softplus", 0.005] / steps["exp", 0.005] < 2
assert most == steps["softplus", 100.0] > 5 * steps["exp", 100.0] > 0
assert steps["raw", 0.005] < 0

# %% [markdown] key="no-path-text"
# ## 12. Laws without a path
#
# The path exists when $z$ can be written as a differentiable function of the parameters and of a noise that has none. The inverse of the distribution function always does it in one dimension, when it is smooth: a uniform noise goes in, $z$ comes out. For laws such as the gamma, the derivative comes from the distribution function itself, without inverting it. A *discrete* law, over categories or counts, has no path: its draw jumps, and between jumps its derivative is zero, like the step of section 8. PyTorch knows which is which.

# %% key="no-path" tags=["nbval-check-output"]
for law in (Normal, Laplace, Gamma, Bernoulli, Categorical, Poisson):
    answer = say("gradients-yes" if law.has_rsample else "gradients-no")
    print(say("gradients-has-path", name=law.__name__, answer=answer))

# %% [markdown] key="gumbel-text"
# What is done then? One may go back to the score function, with a baseline. Or one may **soften the draw**. Add to each logit a Gumbel noise, $-\log(-\log u)$ with $u$ uniform, and keep the largest: that is an exact draw from the categorical. Put a softmax of temperature $\tau$ in place of "the largest", and there is a path: the *Gumbel-softmax* (Jang, Gu and Poole, 2017; Maddison, Mnih and Teh, 2017). The price: the draw is no longer a category, but a mixture of them, and the gradient is that of another problem. It is **biased**. As $\tau$ falls, the bias goes away and the variance comes.
#
# With three categories the exact expectation is a sum of three terms, so both can be measured. The cell compares each temperature with it.

# %% key="gumbel"
logits = torch.tensor([0.5, 0.0, -1.0], dtype=torch.float64, requires_grad=True)
goal = torch.tensor([0.1, 0.6, 0.3], dtype=torch.float64)


def cost(y):  # (..., 3) to (...)
    return ((y - goal) ** 2).sum(-1)


per_category = cost(torch.eye(3, dtype=torch.float64))  # (3,)
expected = logits.softmax(0) @ per_category
(exact_three,) = torch.autograd.grad(expected, logits)  # (3,)
p = logits.detach().softmax(0)
assert torch.allclose(exact_three, p * (per_category - p @ per_category))

torch.manual_seed(0)
count = 50_000
gumbel = -torch.log(-torch.log(torch.rand(count, 3, dtype=torch.float64)))  # (N, 3)
largest = F.one_hot((logits.detach() + gumbel).argmax(-1), 3).double()  # (N, 3)
assert is_unbiased(largest.T[:, :, None], p)  # an exact draw

temperatures = (2.0, 1.0, 0.5, 0.25, 0.1)
biases, noises = [], []
for temperature in temperatures:
    each = logits.detach().expand(count, 3).clone().requires_grad_()
    soft = ((each + gumbel) / temperature).softmax(-1)  # (N, 3)
    (gradient,) = torch.autograd.grad(cost(soft).sum(), each)
    biases.append((gradient.mean(0) - exact_three).norm().item())
    noises.append(gradient.var(0).sum().item())
    if temperature == 2.0:
        assert not is_unbiased(gradient.T[:, :, None], exact_three)
    print(
        say("gradients-gumbel", tau=temperature, bias=biases[-1], variance=noises[-1])
    )

categorical = (cost(largest) - per_category.mean())[:, None] * (largest - p)  # (N, 3)
assert is_unbiased(categorical.T[:, :, None], exact_three)
values = {"length": exact_three.norm(), "variance": categorical.var(0).sum()}
print(say("gradients-gumbel-score", **{k: v.item() for k, v in values.items()}))
assert biases[-1] < biases[0] / 3
assert noises[-1] > 3 * noises[0]
assert noises[-1] > 3 * categorical.var(0).sum()
assert not is_unbiased(gradient.T[:, :, None], exact_three)

# %% [markdown] key="gumbel-noticed"
# Read the two last lines together. At the coldest temperature, the softened draw is still biased, and far noisier than the score function with a baseline, which has no bias at all. That is with three categories; with thousands, the tables may turn. **There is no best estimator, only one that was measured on your problem.**

# %% [markdown] key="landing-text"
# ## 13. One last noise that can be removed
#
# Suppose that training went perfectly, and $q$ *is* the posterior. The exact gradient is then zero. Is the pathwise estimate zero as well? With the KL in closed form, no: each draw still pulls its own way.
#
# Write the whole ELBO inside the average, $\log p(x, z) - \log q(z)$. If $q$ is the posterior, that is $\log p(x)$, the same number at every $z$: along the path, its slope is zero. What still moves is $\mu$ and $\sigma$ *inside* $\log q$, and that part is a score, which averages to zero. Drop it, by detaching the parameters in $\log q$, and the noise vanishes at the end of the road: *sticking the landing* (Roeder, Wu and Duvenaud, 2017).
#
# In a linear Gaussian model the posterior is known, and "zero" can be demanded to ten decimals. On the VAE the encoder is only near the posterior, so some noise is left. How much? The cell measures it.

# %% key="landing"
torch.manual_seed(0)
line = exact.LinearGaussian(
    torch.randn(5, 1, dtype=torch.float64), torch.zeros(5, dtype=torch.float64), 0.5
)
seen = torch.randn(1, 5, dtype=torch.float64)  # (1, D)
center, spread = (row.expand(1000, 1) for row in line.encode(seen))  # the posterior
center, spread = center.clone().requires_grad_(), spread.clone().requires_grad_()
drawn = center + torch.exp(0.5 * spread) * torch.randn(1000, 1, dtype=torch.float64)

likelihood = line.log_conditional(seen, drawn)  # (1000,)
usual = likelihood - densities.kl_to_standard_normal(center, spread)
inside = likelihood + densities.log_standard_normal(drawn)
landed = inside - densities.log_normal(drawn, center.detach(), spread.detach())
for objective, is_zero in ((usual, False), (landed, True)):
    found = torch.autograd.grad(objective.sum(), (center, spread), retain_graph=True)
    assert all((gradient.abs().max() < 1e-10) == is_zero for gradient in found)

rise_landed = rise - z + eps / sigma  # (G * S, 2): the slope of log p(x, z) - log q(z)
by_landing = grouped(torch.cat((rise_landed, 0.5 * rise_landed * sigma * eps), 1))
assert is_unbiased(by_landing, vae_exact)
spread = resampled_variances(by_landing.mean(-1))  # (4, R)
landing = torch.stack((spread[:2].sum(0), spread[2:].sum(0)))  # (2, R)
ratios = resampled["path"] / landing
middle = {"mu": ratios[0].median().item(), "logvar": ratios[1].median().item()}
ends = [say("gradients-interval", **interval(ratio)) for ratio in ratios]
print(say("gradients-landing", **middle, a=ends[0], b=ends[1]))

# %% [markdown] key="answer"
# ## 14. The answer
#
# How does a gradient pass through a random draw? **It does not. It goes round it.** The noise is drawn outside, the parameters work inside, and the average has a gradient that both the density and the path can carry. The next cell repeats what this notebook measured.

# %% key="answer-measured"
middle = vae_ratio.median().item()
print(say("gradients-answer-ratio", ratio=middle, **interval(vae_ratio)))
told = {way: runs[way, 2][:, -1].mean().item() for way in contests[2]}
print(say("gradients-answer-elbo", **told))

# %% [markdown] key="next"
# **To read.** Williams (1992) introduced the score function in learning. Kingma and Welling (2013) and Rezende, Mohamed and Wierstra (2014) brought the path to these models. Roeder, Wu and Duvenaud (2017) took away the last noise; Tucker et al. (2019) extended that to importance-weighted bounds. Jang, Gu and Poole (2017) and Maddison, Mnih and Teh (2017) softened the categorical.
#
# The gradient is now in hand. Lesson 04 asks how fast it can be computed.

# %% [markdown] key="exercises"
# ## Exercises
#
# Write your answer in place of the ellipsis and run the cell. The solutions are folded below each question.
#
# ### 1. The score function, by hand
#
# The function takes the values of $f$ at the draws, `values` of shape `(S,)`, the draws `z`, and the numbers `mu` and `logvar` as tensors. Return one estimate per draw, of shape `(2, S)`: first the derivative with respect to $\mu$, then with respect to $\log \sigma^2$. No baseline, no averaging.

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
# This function subtracts a baseline from the values and multiplies by the score. The variance falls a lot, and training works. But the gradient is not the one it claims to be. Find the bug and fix it without giving up the baseline. Both arguments have shape `(S,)`, and so has what is returned.

# %% key="exercise-baseline" tags=["nbval-check-output"]
def my_baseline(values, score):
    return (values - values.mean()) * score


checks.baseline(my_baseline)

# %% key="solution-baseline" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output", "solution"]
def solution_baseline(values, score):
    others = (values.sum() - values) / (len(values) - 1)  # (S,)
    return (values - others) * score


verdict = checks.baseline(solution_baseline)
assert verdict
verdict

# %% [markdown] key="exercise-path-text"
# ### 3. The path of another law
#
# An exponential of rate $r$ that begins at $a$ has distribution function $1 - e^{-r(z - a)}$ for $z > a$. Write its draw as a function of a uniform noise `u`, by inverting the distribution function: a larger `u` gives a larger `z`. The gradient must reach `start` and `rate`.

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
# ### 4. Find the bug: the loss that pretends
#
# In practice one does not write the score; one writes a number whose *derivative* is the estimate, and calls `backward`. Here `z` came from `rsample`, so `z` and `values` both hang on `mu` and `logvar`. The function below takes care of one of the two. What does the other let through? Fix it.

# %% key="exercise-surrogate" tags=["nbval-check-output"]
def my_surrogate(values, z, mu, logvar):
    log_q = Normal(mu, torch.exp(0.5 * logvar)).log_prob(z)  # (S,)
    return (values.detach() * log_q).mean()


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
# With `z` attached, $\log q(z)$ changes for two reasons: because the bell moves, and because the draw moves with it. For $\mu$, the two cancel exactly: a draw carried along by its bell keeps its density. The gradient at $\mu$ is zero, at every draw.
#
# </details>
