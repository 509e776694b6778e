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
# The training is over and the test ELBO stands in the table. It is one number. It does not say what the two numbers per image *mean*, whether the plane is full or has holes, or whose fault the blur is. This lesson opens the model and looks.
#
# **By the end you will be able to** say what blurs a reconstruction, and what does not; tell a decoder's mean from a sample; draw a manifold whose tiles all count the same; measure how far the codes, together, are from the prior; walk from one digit to another; and look into a latent space that does not fit on a page.
#
# **You need** lesson 00.
#
# **Time:** 40 minutes of reading; half a minute of computing, plus up to a minute the first time, while the model is trained.

# %% key="setup"
import math

import torch
import torch.nn.functional as F
from matplotlib.colors import LinearSegmentedColormap
from scipy import stats
from torch.distributions import Normal

from vae_teach import data, densities, figures, nets, sliders, train
from vae_teach.checks import latents as checks
from vae_teach.explorer import LatentExplorer
from vae_teach.words import say, use_language

use_language("en")

# %% [markdown] key="model-text"
# ## 1. The patient
#
# The model is the one of lesson 00: two latents, 15 epochs. It comes from the cache. If it is not there yet, it is trained now, once, which takes less than a minute.

# %% key="model"
device = torch.device("cpu")
if torch.accelerator.is_available():
    device = torch.accelerator.current_accelerator()

train_images = data.load("auto", "train", device=device)
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
shown = torch.cat((bars, chosen[None])).float()
figures.gallery(
    {say("latents-toy-title"): shown}, columns=8, alt=say("latents-alt-toy")
)

# %% [markdown] key="blur-cause"
# It chooses the average. The pixels are independent given the latent, so each one answers for itself, with the frequency at which it lights up: a half. **What the latent does not determine, independent pixels average.** There is the blur, and no KL was in the room.
#
# To measure it we need a number. For a decoder's mean $m$, take
#
# $$G(m) = \sum_d m_d\,(1 - m_d),$$
#
# the *grey* of the picture: 0 if every pixel is surely black or surely white, $\frac{1}{4}$ for each pixel that is a coin toss. It is the variance of the pixels that the decoder itself admits to. In the toy it is $120 / 4 = 30$.

# %% key="grey" tags=["nbval-check-output"]
def grey(means):
    return (means * (1 - means)).sum(-1)  # (B,)


assert abs(grey(chosen) - differing / 4) < 0.4
print(say("latents-grey-toy", average=grey(chosen).item(), bar=grey(bars[0]).item()))

# %% [markdown] key="trial-text"
# Now the model. If the KL is guilty, taking it away should sharpen the pictures. If ignorance is guilty, telling the decoder more should sharpen them. We do both, apart from each other.
#
# - **Without the KL.** We take the trained encoder and decoder, throw away the KL and the noise, and go on training for two epochs. What is left is an *autoencoder*: a point for each image, and nothing to pay for it. It starts where the VAE arrived: it begins at no disadvantage.
# - **With the KL, and ten latents.** A new VAE, from scratch, for two epochs only.

# %% key="trial"
weights = {
    name.replace("encoder_mu", "encoder_code"): value.clone()
    for name, value in model.state_dict().items()
    if "logvar" not in name
}
autoencoder = nets.AE().to(device)
autoencoder.load_state_dict(weights)

torch.manual_seed(0)
optimizer = torch.optim.Adam(autoencoder.parameters(), lr=1e-3, fused=True)
for _ in range(2):
    for x, _ in train_images.batches(128):
        cost = -densities.log_bernoulli(x, autoencoder(x)).mean()  # and no KL
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()

torch.manual_seed(0)
wide = nets.VAE(latent_dim=10)
train.fit(wide, train_images, epochs=2, device=device, progress=False)
wide = wide.eval()

# %% [markdown] key="verdict-text"
# For the 10,000 test images, the table gives the grey of the reconstruction and its squared error, $\lVert x - m \rVert^2$, both in pixels. The last row is the noise of the draw itself: the test bits were drawn from grey levels, and not even the true grey levels would have guessed the outcome. Only a model that keeps that very noise in its code gets below it.
#
# Then the pictures. Compare the second row with the third, and both with the fourth.

# %% key="verdict"
@torch.no_grad()
def rebuilt(images):
    return {
        "latents-vae-2": model.decode(model.encode(images)[0]),
        "latents-ae-2": autoencoder.decode(autoencoder.encode(images)),
        "latents-vae-10": wide.decode(wide.encode(images)[0]),
    }


x = test_images.pixels  # (10000, 784), binary
levels = data.load(train_images.name, "test", binarize=False, device=device).pixels
greys, errors = {}, {}
for some, true in zip(x.split(1000), levels.split(1000), strict=True):
    for key, m in (rebuilt(some) | {"latents-grey-levels": true}).items():
        greys.setdefault(key, []).append(grey(m))
        errors.setdefault(key, []).append((some - m).square().sum(-1))
greys = {key: torch.cat(parts) for key, parts in greys.items()}  # (10000,) each
errors = {key: torch.cat(parts) for key, parts in errors.items()}
print(say("latents-trial-head"))
for key in greys:
    told = {"grey": greys[key].mean().item(), "error": errors[key].mean().item()}
    told["grey_error"] = train.standard_error(greys[key])
    told["error_error"] = train.standard_error(errors[key])
    print(say("latents-trial-row", model=say(key), **told))

two, free, ten = (greys[key].mean().item() for key in list(greys)[:3])
assert abs(free - two) < 0.08 * two  # without the KL: hardly anything
assert ten < 0.8 * two  # with the KL, and more latents: a fifth less, at least
for key in greys:
    assert abs(greys[key].mean() / errors[key].mean() - 1) < 0.25
gained = greys["latents-ae-2"] - greys["latents-vae-10"]
assert gained.mean() > 4 * train.standard_error(gained)

# %% key="trial-picture"
chosen = figures.one_of_each(test_images)
rows = {say("latents-originals"): x[chosen]}
rows |= {say(key): m for key, m in rebuilt(x[chosen]).items()}
figures.gallery(rows, columns=10, alt=say("latents-alt-trial"))

# %% [markdown] key="trial-noticed"
# **Acquitted.** Without the KL, and with two epochs to make use of its freedom, the autoencoder stays as grey as before, to within a few per cent. With the KL in full force, ten latents instead of two take away more than a fifth of the grey; on MNIST, a third. The KL does have a say, but an indirect one: it is a price on information, and a model may decide that a detail is not worth its price. Here two numbers are simply too few.
#
# One more thing in the table: in each row, grey and squared error agree to about a tenth. The decoder knows how ignorant it is. Section 4 says why the two should be equal.

# %% [markdown] key="classes-text"
# ## 3. Which digits are hard?
#
# The mean ELBO hides ten different stories. The next picture splits the *cost* of each digit, the negative ELBO, into its two terms: the reconstruction below, the KL on top. The whisker is four standard errors long on each side. The diamond is the cost under the model without a latent, in which each pixel lights up with its frequency over the training set. The distance from bar to diamond is what the latent bought.

# %% key="classes"
labels = test_images.labels.cpu()


def by_class(values):
    parts = [values.cpu()[labels == digit] for digit in range(10)]
    means = torch.tensor([part.mean() for part in parts])
    return means, torch.tensor([train.standard_error(part) for part in parts])


costs, whiskers = by_class(-bound.elbo)  # (10,), (10,) nats
kls, _ = by_class(bound.kl)
frequency = train_images.pixels.mean(0).clamp(1e-4, 1 - 1e-4)  # (784,)
without, _ = by_class(-densities.log_bernoulli(x, frequency.logit()))

figure, (ax,) = figures.picture(say("latents-alt-classes"), height=3.4)
digits = torch.arange(10)
blue, orange = figures.COLORS["reconstruction"], figures.COLORS["kl"]
ax.bar(digits, costs - kls, color=blue, label=say("latents-cost-reconstruction"))
ax.bar(digits, kls, bottom=costs - kls, color=orange, hatch="//", label="KL")
ax.errorbar(digits, costs, 4 * whiskers, fmt="none", ecolor="black", capsize=4)
ax.plot(digits, without, "D", color="black", ms=5, label=say("latents-no-latent"))
ax.set(xlabel=say("latents-digit"), ylabel=say("latents-cost"), xticks=digits)
figure.legend(loc="outside upper right", fontsize=8, ncols=3, frameon=False)
figure

# %% key="classes-named"
easy, hard = costs.argmin().item(), costs.argmax().item()
for digit in (easy, hard):
    told = {"cost": costs[digit].item(), "error": whiskers[digit].item()}
    print(say("latents-class-cost", digit=digit, kl=kls[digit].item(), **told))
gap = costs[hard] - costs[easy]
assert gap > 4 * torch.hypot(whiskers[hard], whiskers[easy])
assert ((without - costs) > 4 * whiskers).all()  # the latent pays for every digit

# %% [markdown] key="classes-noticed"
# The easy digit has little ink and few shapes; the hard ones come in many shapes, which two numbers cannot tell apart. Notice the orange parts too. They differ less, but they do: a digit that sits far from the centre of the plane, or whose cloud is narrow, costs more KL.
#
# Which single images cost most? The next picture shows the ten most expensive of the test set and what came back. Some are badly written. Others are well written and live where another digit rules.

# %% key="worst"
worst = bound.elbo.argsort()[:10]  # (10,)
with torch.no_grad():
    returned = model.decode(model.encode(x[worst])[0])  # (10, 784)
rows = {say("latents-worst"): x[worst], say("latents-returned"): returned}
figures.gallery(rows, columns=10, alt=say("latents-alt-worst"))

# %% [markdown] key="samples-text"
# ## 4. Means and samples
#
# Draw $z$ from the prior. The decoder returns $m$, a probability for each pixel. That picture is the **mean** of $p(x \mid z)$. A **sample** is what comes next: each pixel drawn, 1 with probability $m_d$. The model says that the data look like the *samples*. The next picture shows the two, one below the other, for the same ten $z$.

# %% key="samples"
torch.manual_seed(0)
z = torch.randn(4000, 2, device=device)  # from the prior
with torch.no_grad():
    m = model.decode(z)  # (4000, 784)
bits = (torch.rand_like(m) < m).float()  # (4000, 784)

rows = {say("sample-means"): m[:10], say("sample-pixels"): bits[:10]}
figures.gallery(rows, columns=10, alt=say("latents-alt-samples"))

# %% [markdown] key="samples-by-hand"
# How far apart should they be? A pixel drawn with probability $m$ misses its mean by $1 - m$ with probability $m$, and by $m$ with probability $1 - m$. On average, squared: $m\,(1 - m)$. Summed over the pixels,
#
# $$\mathbb{E}\,\lVert x - m \rVert^2 = \sum_d m_d\,(1 - m_d) = G(m).$$
#
# It is the grey of before. The next cell demands that the 4,000 samples agree with it, to within four standard errors. That is also why grey and error agreed in the table: the *test images* behave almost like samples from the model's own reconstructions.

# %% key="samples-measured"
apart = (bits - m).square().sum(-1)  # (4000,)
difference = apart - grey(m)  # (4000,)
mean, error = difference.mean().item(), train.standard_error(difference)
assert abs(mean) < 4 * error
lit = (bits - m).sum(-1)  # (4000,) pixels lit beyond what the mean says
assert abs(lit.mean()) < 4 * train.standard_error(lit)
told = {"apart": apart.mean().item(), "grey": grey(m).mean().item()}
print(say("latents-apart", error=error, **told))

# %% [markdown] key="temperature-text"
# ## 5. Temperature
#
# Many galleries are drawn from $z \sim \mathcal{N}(0, T^2 I)$ with a *temperature* $T$ below 1, and do not say so. What does that change? In the next picture each column keeps its $\varepsilon$, and $z = T \varepsilon$ walks outwards along a ray as $T$ grows. Read the columns downwards.

# %% key="temperature-picture"
torch.manual_seed(4)
eps = torch.randn(10, 2, device=device)
with torch.no_grad():
    rows = {
        say("latents-temperature", value=value): model.decode(value * eps)
        for value in (0.3, 1.0, 1.6, 2.5)
    }
figures.gallery(rows, columns=10, alt=say("latents-alt-temperature"))

# %% [markdown] key="diversity-text"
# At a low temperature all the pictures are relatives of the one in the middle. At a high one they leave the plane's inhabited part, and the decoder has to make things up.
#
# Two numbers tell the story. The **diversity** is the variance *between* the means, $\sum_d \mathrm{Var}[m_d]$. The **grey** is the variance *within* each. The law of total variance adds them up, and for binary pixels the total depends only on the average picture $\bar m$:
#
# $$\underbrace{\sum_d \mathrm{Var}[m_d]}_{\text{diversity}} + \underbrace{\mathbb{E}\,[G(m)]}_{\text{grey}} = G(\bar m).$$

# %% key="diversity"
temperatures = torch.linspace(0, 3, 13)  # (13,)
diversity, within = [], []
torch.manual_seed(0)
for value in temperatures.tolist():
    with torch.no_grad():
        m = model.decode(value * torch.randn(2000, 2, device=device)).cpu().double()
    between = (m - m.mean(0)).square().sum(-1)  # (2000,)
    diversity.append((between.mean().item(), train.standard_error(between)))
    within.append(grey(m).mean().item())
    assert abs(diversity[-1][0] + within[-1] - grey(m.mean(0)).item()) < 1e-6

diversity, within = torch.tensor(diversity), torch.tensor(within)  # (13, 2), (13,)
total = grey(x.mean(0)).item()  # of the test images
one = temperatures.tolist().index(1.0)
for k in (2, one, 8):
    told = {"diversity": diversity[k, 0].item(), "error": diversity[k, 1].item()}
    told |= {"grey": within[k].item(), "temperature": temperatures[k].item()}
    print(say("latents-diversity", **told))
half = diversity[one] - diversity[2]
assert half[0] > 4 * torch.hypot(diversity[one, 1], diversity[2, 1])

# %% key="diversity-picture"
figure, (ax,) = figures.picture(say("latents-alt-diversity"), width=6.2, height=3.2)
ax.stackplot(
    temperatures,
    diversity[:, 0],
    within,
    colors=[figures.COLORS["prior"], "#BBBBBB"],
    labels=[say("latents-between"), say("latents-within")],
)
ax.errorbar(temperatures, *(diversity * torch.tensor([1, 4])).T, fmt="k.", ms=3)
ax.axhline(total, color="black", linestyle="--", label=say("latents-data-total"))
ax.axvline(1, color="black", linestyle=":", linewidth=1)
ax.set(xlabel=say("latents-temperature-axis"), ylabel=say("latents-variance"))
ax.set(xlim=(0, 3), ylim=(0, 1.45 * total))
ax.legend(loc="upper right", fontsize=8, ncols=2, frameon=False)
figure

# %% [markdown] key="temperature-moral"
# Half the temperature loses diversity; that is what buys the tidy gallery. And more diversity is not more quality: beyond $T = 1$ it keeps growing, because the draws fall where no image ever was. Of the prior's mass, 5% lies outside the outer ring of the map below. At temperature $T$ it is $0.05^{1/T^2}$ of the draws. The model is $T = 1$. Any other temperature shows another model, and should say so.

# %% key="outside" tags=["nbval-check-output"]
radius = math.sqrt(-2 * math.log(0.05))  # holds 95% of a standard normal in the plane
torch.manual_seed(0)
for value in (0.5, 1.0, 2.0):
    share = 0.05 ** (1 / value**2)
    out = (value * torch.randn(20_000, 2)).norm(dim=1) > radius  # (20000,)
    error = math.sqrt(share * (1 - share) / len(out))
    assert abs(out.double().mean().item() - share) < 4 * error + 1e-4
    assert abs(share - stats.rayleigh(scale=value).sf(radius)) < 1e-9
    print(say("latents-outside", temperature=value, share=share))

# %% [markdown] key="grids-text"
# ## 6. Two grids, and what each one leaves out
#
# To see the whole plane at a glance we decode a grid. Lesson 00 used the inverse normal CDF. A grid of equal steps is more common. What is the difference worth?
#
# A grid cuts the plane into tiles. For each axis we need $n + 1$ edges and, in each piece, a point to decode. The prior's two coordinates are independent, so the mass of a tile is the product of the masses of its two sides.

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
oracle = torch.from_numpy(stats.norm.cdf(equal_mass(n)[0].numpy())).diff()
assert torch.allclose(masses, torch.full((n, n), 1 / n**2).double(), atol=1e-12)
assert torch.allclose(masses, oracle[:, None] * oracle, atol=1e-12)
points = equal_mass(20)[1].float()
assert torch.allclose(points, figures.normal_quantiles(20), atol=1e-5)
print(say("latents-tile-mass", n=n, mass=masses[0, 0].item()))

# %% [markdown] key="coverage-text"
# Now the grid of equal steps, from $-a$ to $a$ along each axis. Its coverage is $(2\Phi(a) - 1)^2$, where $\Phi$ is the normal CDF. And its tiles weigh very different amounts: the last column compares the heaviest with the lightest.

# %% key="coverage" tags=["nbval-check-output"]
for extent, known in ((1.0, 0.466), (1.5, 0.751), (3.0, 0.995)):
    masses = tile_masses(equal_steps(n, extent)[0])  # (8, 8)
    covered = (2 * Normal(0.0, 1.0).cdf(torch.tensor(extent).double()) - 1) ** 2
    assert abs(masses.sum() - covered) < 1e-6
    assert abs(covered - (2 * stats.norm.cdf(extent) - 1) ** 2) < 1e-6
    assert abs(covered - known) < 5e-4
    told = {"covered": covered.item(), "ratio": (masses.max() / masses.min()).item()}
    print(say("latents-coverage", extent=extent, **told))

# %% [markdown] key="tiles-text"
# In the next picture the left half has equal steps from $-3$ to $3$, and the right half has equal mass. On top, 600 draws from the prior over the edges of the tiles. Below, the decoder at the point of each tile. On the left, count the tiles with hardly a dot in them: the linear grid spends most of its page on what the model will almost never draw. On the right, each tile holds, on average, 1 draw in 64.

# %% key="tiles"
@torch.no_grad()
def decode_grid(points):
    z2, z1 = torch.meshgrid(points.flip(0), points, indexing="ij")  # row 0: highest z2
    z = torch.stack((z1, z2), -1).float().to(device)  # (n, n, 2)
    return model.decode(z.reshape(-1, 2)).cpu().reshape(len(points), len(points), -1)


torch.manual_seed(0)
draws = torch.randn(600, 2)
grids = {
    "latents-equal-steps": equal_steps(n, 3.0), "latents-equal-mass": equal_mass(n),
}
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
# A picture can be upside-down and nobody notices, for a 7 upside-down is in no text. So the next cell checks *every* tile: row $r$, column $c$ is the decoder at $z_1$ of the column and $z_2$ of the row counted from below. And in the mosaic, the block at the top left is the tile with the lowest $z_1$ and the highest $z_2$: up is up.

# %% key="up-checked"
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
# The grids show what the decoder would draw *anywhere*. The map shows where the images *are*. Each dot is the centre of a test image's cloud, one colour per digit; the rings hold 50% and 95% of the prior's mass.

# %% key="map"
figures.latent_map(model, test_images, count=1500)

# %% [markdown] key="aggregate-text"
# The ELBO asked for clouds that, each on its own, resemble the prior. What about all of them together? The average of the clouds has a name, the **aggregate posterior**:
#
# $$q(z) = \frac{1}{N} \sum_{n=1}^{N} q(z \mid x_n).$$
#
# If $q(z)$ were $p(z)$, a draw from the prior would land where the decoder was trained. Where $q(z)$ is far below $p(z)$, the prior draws and the decoder guesses.
#
# There is nothing to estimate here: $q(z)$ is a mixture of 60,000 Gaussians with known centres and widths. The widths are along the axes, so each Gaussian is a product of one factor in $z_1$ and one in $z_2$, and on a grid of points the whole mixture is *one matrix product*. The next cell takes it, and the one after checks it against the mixture of `torch.distributions`.

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

# %% key="clouds-oracle"
few = aggregate(mu[:300], logvar[:300])  # (G, G)
mixture = torch.distributions.MixtureSameFamily(
    torch.distributions.Categorical(torch.ones(300).double()),
    torch.distributions.Independent(Normal(mu[:300], (0.5 * logvar[:300]).exp()), 1),
)
for i, j in ((200, 200), (150, 250), (260, 180)):
    at = torch.stack((axis[i], axis[j]))  # (2,)
    assert torch.allclose(mixture.log_prob(at).exp(), few[i, j], atol=1e-9)

# %% [markdown] key="difference-text"
# On the left of the next picture, $q(z)$ (its square root, so that faint parts show). On the right, the difference $q(z) - p(z)$: orange inside solid lines, where there are more codes than the prior asks for; blue inside dashed lines, where there are fewer.

# %% key="difference"
figure, axes = figures.picture(say("latents-alt-difference"), columns=2, height=3.7)
left, right = axes
figure.stored_dpi = figures.SHOWN_DPI
inner = slice(84, 317)  # from -3.5 to 3.5
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
levels = {"levels": [-0.02, 0.02], "linestyles": ["--", "-"], "linewidths": 0.8}
right.contour(z1, z1, smooth, colors="black", **levels)
right.set_title(say("latents-signed"), loc="left", fontsize=10)
bar = figure.colorbar(shown, ax=right, shrink=0.85, extend="max")
bar.ax.yaxis.set_major_formatter(lambda value, _: say("tick", value=value))
for ax in (left, right):
    ax.set(xlabel="$z_1$", ylabel="$z_2$", aspect="equal")
figure

# %% [markdown] key="distance-text"
# **How far is it, in nats?** The distance is $\mathrm{KL}(q(z) \,\|\, p(z))$, and the grid gives it as a sum. It is also an average over the images,
#
# $$\mathrm{KL}(q(z) \,\|\, p(z)) = \frac{1}{N} \sum_n k_n, \qquad k_n = \mathbb{E}_{q(z \mid x_n)}\!\left[\log \frac{q(z)}{p(z)}\right],$$
#
# and so it has a standard error. (That $q(z)$ itself depends on the images adds nothing to it, to first order.)

# %% key="distance"
log_ratio = q.clamp_min(1e-300).log() - p.log()  # (G, G)
distance = (q * log_ratio).sum().item() * cell

each = torch.empty(len(mu), dtype=torch.float64)  # (60000,) nats
for some in torch.arange(len(mu)).split(1000):
    first, second = factors(mu[some], logvar[some])  # (B, G) each
    each[some] = (first @ log_ratio * second).sum(1) * cell
distance_error = train.standard_error(each)

assert abs(each.mean() - distance) < 1e-6
assert distance > 10 * distance_error  # q(z) is not the prior
empty = (p * (q < p / 2)).sum().item() * cell  # prior mass where q is below half of p
print(say("latents-distance", distance=distance, error=distance_error, empty=empty))

# %% [markdown] key="bias-text"
# The number is exact for *these* 60,000 images. For the digits that are not among them it is a little too large: each image finds its own cloud in the mixture. With few images that is no detail, as the next cell shows. The remedy is to leave each image's own cloud out of the mixture when its turn comes, which errs on the other side: the truth about all the digits lies, on average, between the two. With 60,000 images they are close.
#
# The same draws serve another purpose. Insert $q(z)$ into the KL term of the ELBO, and it splits in two:
#
# $$\underbrace{\tfrac{1}{N} \textstyle\sum_n \mathrm{KL}(q(z \mid x_n) \,\|\, p(z))}_{\text{the KL term}} = \underbrace{\tfrac{1}{N} \textstyle\sum_n \mathrm{KL}(q(z \mid x_n) \,\|\, q(z))}_{\text{mutual information}} + \mathrm{KL}(q(z) \,\|\, p(z)).$$
#
# The first part is what the code tells about the image. Only the second is a mismatch. The three numbers come by three roads: the left side from its formula, the mutual information from 500 draws at which the mixture is evaluated exactly, the distance from the grid.

# %% key="bias"
for count in (100, 1000, 10_000):
    some = aggregate(mu[:count], logvar[:count])
    excess = (some * (some.clamp_min(1e-300).log() - p.log())).sum().item() * cell
    print(say("latents-with-images", count=count, distance=excess))
    assert excess > distance

torch.manual_seed(0)
chosen = torch.randperm(len(mu))[:500]
z = mu[chosen] + (0.5 * logvar[chosen]).exp() * torch.randn(500, 2).double()  # (500, 2)
own = densities.log_normal(z, mu[chosen], logvar[chosen])  # (500,)
clouds = (densities.log_normal(some[:, None], mu, logvar) for some in z.split(5))
log_q = torch.cat([each.logsumexp(1) for each in clouds])  # (500,), over 60,000 clouds
others = log_q + torch.log1p(-torch.exp(own - log_q).clamp(max=1 - 1e-12))
log_q, others = log_q - math.log(len(mu)), others - math.log(len(mu) - 1)
optimism = log_q - others  # (500,) nats
told = {"gap": optimism.mean().item(), "error": train.standard_error(optimism)}
print(say("latents-sandwich", count=len(mu), **told))

# %% key="decomposition"
kl = densities.kl_to_standard_normal(mu, logvar).mean().item()  # from its formula
apart = own - log_q  # (500,) nats
information, information_error = apart.mean().item(), train.standard_error(apart)
by_draws = log_q - densities.log_standard_normal(z)  # (500,)

assert abs(kl - (information + distance)) < 4 * information_error
assert abs(by_draws.mean() - distance) < 4 * train.standard_error(by_draws)
assert 0 < information < math.log(len(mu))
told = {"information": information, "error": information_error}
print(say("latents-split", kl=kl, distance=distance, **told))

# %% [markdown] key="holes-text"
# Nearly all of the KL is information: a few nats that help to tell which image it was. The rest is the mismatch.
#
# And what does the decoder draw in the holes? The next picture takes 4,000 draws from the prior: above, ten places inside the outer ring where $q$ is largest beside $p$; below, ten where it is smallest. "Every point decodes to a valid image", one reads. See for yourself.

# %% key="holes"
torch.manual_seed(0)
z = torch.randn(4000, 2)
place = ((z.double() - axis[0]) / (axis[1] - axis[0])).round().long()  # (4000, 2)
ratio = log_ratio[place[:, 0], place[:, 1]]  # (4000,)
order = ratio.argsort()


def apart(order, count=10, distance=0.4):
    found = []
    for k in order.tolist():
        if len(found) < count and all((z[k] - z[j]).norm() > distance for j in found):
            found.append(k)
    return found


with torch.no_grad():
    drawn = model.decode(z.to(device)).cpu()  # (4000, 784)
inside = order[z[order].norm(dim=1) < radius]  # within the 95% ring
crowded, holes = drawn[apart(inside.flip(0))], drawn[apart(inside)]  # (10, 784) each
rows = {say("latents-crowded"): crowded, say("latents-holes"): holes}
figures.gallery(rows, columns=10, alt=say("latents-alt-holes"))

# %% [markdown] key="walks-text"
# ## 8. From one digit to another
#
# Between two codes there are many paths. The **straight** one is $(1 - t)\,a + t\,b$. The **spherical** one turns from $a$ to $b$ around the origin; with $\theta$ the angle between them,
#
# $$\frac{\sin((1 - t)\,\theta)}{\sin \theta}\, a + \frac{\sin(t\,\theta)}{\sin \theta}\, b.$$
#
# Written by hand, and checked: on the way between two points at the same distance from the origin, the spherical path keeps the distance, and turns at a constant pace.

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
# In the plane the choice is a matter of taste. In many dimensions it is not. The norm of a draw from the prior has a distribution with a name, the *chi* with $L$ degrees of freedom. With $L = 2$ it is broad. With $L = 20$ practically all draws lie in a thin shell around $\sqrt{20} \approx 4.5$, and practically none near the origin, where the density is highest.
#
# The point halfway between two draws has norm chi divided by $\sqrt{2}$. The next picture compares the two distributions: steps are 20,000 measured norms, curves are the formula.

# %% key="shell"
torch.manual_seed(0)
figure, axes = figures.picture(say("latents-alt-shell"), columns=2)
for ax, latents in zip(axes, (2, 20), strict=True):
    a, b = torch.randn(2, 20_000, latents, dtype=torch.float64)
    chi = stats.chi(latents)
    norms, halfway = a.norm(dim=1), straight(a, b, 0.5).norm(dim=1)
    for values, exact in ((norms, chi.mean()), (halfway, chi.mean() / math.sqrt(2))):
        assert abs(values.mean() - exact) < 4 * train.standard_error(values)
    assert stats.kstest(norms.numpy(), chi.cdf).pvalue > 1e-4
    below = chi.cdf(chi.mean() / math.sqrt(2))
    print(say("latents-shell-share", latents=latents, share=below))

    r = torch.linspace(0, 7, 300).numpy()
    told = {"bins": 50, "range": (0, 7), "density": True, "histtype": "step"}
    ax.hist(norms.numpy(), color=blue, label=say("latents-draws"), **told)
    told |= {"color": "black", "linestyle": "--"}
    ax.hist(halfway.numpy(), label=say("latents-halfway"), **told)
    ax.plot(r, chi.pdf(r), color=blue, linewidth=1)
    ax.plot(r, math.sqrt(2) * chi.pdf(math.sqrt(2) * r), "k--", linewidth=1)
    ax.set(xlim=(0, 7), yticks=[], xlabel=say("latents-norm"))
    ax.set_title(say("latents-latents", count=latents), loc="left", fontsize=10)
axes[0].legend(fontsize=8, frameon=False)
figure

# %% [markdown] key="shell-measured-text"
# Does the decoder notice? The ten-latent model of section 2 can tell. Its pictures halfway along straight paths between draws of the prior are greyer than those at the draws themselves; halfway along spherical paths they are not. The middle of the straight path leaves the shell on its inner side, towards the average of everything.

# %% key="shell-measured"
torch.manual_seed(0)
a, b = torch.randn(2, 4000, 10, device=device)
places = {"latents-draws": a, "latents-straight": straight(a, b, 0.5)}
places["latents-spherical"] = spherical(a, b, 0.5)
with torch.no_grad():
    greyness = {key: grey(wide.decode(z)).cpu() for key, z in places.items()}
for key, values in greyness.items():
    told = {"mean": values.mean().item(), "error": train.standard_error(values)}
    print(say("latents-halfway-grey", where=say(key), **told))
difference = greyness["latents-straight"] - greyness["latents-spherical"]
assert difference.mean() > 10 * train.standard_error(difference)

# %% [markdown] key="panel-text"
# **Now you choose.** Two digits, and the kind of path. The panel starts at the middle of the first digit's codes and ends at the middle of the second's, over the aggregate posterior of section 7 (again its square root). Twelve points of the path are decoded, in reading order. Below the picture stands which digit is nearest at each of them.
#
# Try a pair with another digit in between. Try a pair on opposite sides of the origin, straight and then spherical. There $\sin \theta$ is small, and the spherical path swings far out. Then look for a path that crosses a white part of the map, and see what the decoder does there.

# %% key="panel"
with torch.no_grad():
    codes = model.encode(test_images.pixels)[0].cpu()  # (10000, 2)
centres = torch.stack([codes[labels == k].median(0).values for k in range(10)])
steps = torch.linspace(0, 1, 12)[:, None]  # (12, 1)
paths = {"latents-straight": straight, "latents-spherical": spherical}
backdrop = q[inner, inner].T.sqrt().float()


def walk(first, last, way):
    z = paths[way](centres[first], centres[last], steps)  # (12, 2)
    with torch.no_grad():
        tiles = model.decode(z.to(device)).cpu()  # (12, 784)
    nearest = torch.cdist(z, codes).topk(25, largest=False).indices  # (12, 25)
    passed = " ".join(str(k) for k in labels[nearest].mode(1).values.tolist())
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


digits = list(range(10))
panel = sliders.panel(
    walk,
    first=sliders.choice(say("latents-from"), digits, value=3),
    last=sliders.choice(say("latents-to"), digits, value=7),
    way=sliders.choice(say("latents-path"), [(say(way), way) for way in paths]),
)
panel

# %% key="panel-moved"
assert sliders.sweep(panel) == 6  # the start, and each control at its other ends
for way in paths:  # from 1 to 7, whatever the path, and back to 3
    panel.controls["first"].value, panel.controls["way"].value = 1, way
    drawn = torch.from_numpy(panel.picture.axes[0].lines[0].get_xydata()).float()
    assert torch.allclose(drawn[[0, -1]], centres[[1, 7]], atol=1e-4)
panel.controls["first"].value, panel.controls["way"].value = 3, "latents-straight"

# %% [markdown] key="wide-text"
# ## 9. More than two latents
#
# With ten latents there is no plane to lay out. Ask first **which dimensions are in use**. A latent that the decoder ignores costs KL and buys nothing, so training pulls it back to the prior: its KL goes to zero, and its mean no longer varies from image to image. The next picture shows both for each dimension of the ten-latent model, from the largest KL to the smallest. The dotted line is a usual threshold for "active", a variance of 0.01.

# %% key="wide-bars"
with torch.no_grad():
    wide_mu, wide_logvar = (part.cpu() for part in wide.encode(x))  # (10000, 10) each
kl_each = 0.5 * (wide_mu.square() + wide_logvar.exp() - 1 - wide_logvar)  # (B, L)
total = densities.kl_to_standard_normal(wide_mu, wide_logvar)  # (B,)
assert torch.allclose(kl_each.sum(-1), total, atol=1e-4)

kl_means, spread = kl_each.mean(0), wide_mu.var(0)  # (10,), (10,)
by_kl = kl_means.argsort(descending=True)
names = [f"$z_{{{k + 1}}}$" for k in by_kl.tolist()]
active = int((spread > 0.01).sum())
assert 1 <= active <= 10
figure, (left, right) = figures.picture(say("latents-alt-bars"), columns=2, height=2.8)
left.bar(range(10), kl_means[by_kl], color=figures.COLORS["kl"], hatch="//")
left.set(ylabel="nats", title=say("latents-kl-each"))
right.bar(range(10), spread[by_kl], color=figures.COLORS["q"])
right.axhline(0.01, color="black", linestyle=":")
right.set(yscale="log", ylim=(0.003, 5))
right.set(title=say("latents-spread-each"))
for ax in (left, right):
    ax.set_xticks(range(10), names)
print(say("latents-active", active=active, kl=kl_means.sum().item()))
figure

# %% [markdown] key="traversal-text"
# Next, **what each dimension does**. Take one image's code and move one coordinate at a time, from $-3$ to $3$, with the others at rest. That is a *traversal*. In the next picture each row moves one coordinate. Some rows change the slant or the width; some turn the digit into another. Nothing in the objective asked for one meaning per coordinate, and it shows: most rows change several things at once.

# %% key="traversal"
stops = torch.linspace(-3, 3, 5)
base = wide_mu[figures.one_of_each(test_images)[2]]  # (10,) the first 2
z = base.repeat(10, 5, 1)  # (10, 5, 10): row, column, coordinate
for row, k in enumerate(by_kl.tolist()):
    z[row, :, k] = stops
with torch.no_grad():
    tiles = wide.decode(z.reshape(-1, 10).to(device)).cpu()  # (50, 784)

figure, (ax,) = figures.picture(say("latents-alt-traversal"), width=3.6, height=6.2)
figure.stored_dpi = figures.SHOWN_DPI
canvas = figures.mosaic(tiles, columns=5)
ax.imshow(canvas, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
middles = [29 * k + 14 for k in range(10)]
ax.set_yticks(middles, names)
ax.set_xticks(middles[:5], [say("tick", value=value) for value in stops.tolist()])
ax.set(xlabel=say("latents-coordinate"))
figure

# %% [markdown] key="pca-text"
# Last, **a flat view**. One can look at a pair of dimensions, or at the two principal components of the codes (PCA): the two directions along which they spread most. The next picture puts them side by side. Do not expect the separation of the map of section 7. The KL asked for a round cloud in ten dimensions, so two directions hold only a part of the spread. The share of two directions among ten equal ones would be 20%; the cell prints that of the best two.

# %% key="pca"
centred = wide_mu - wide_mu.mean(0)  # (10000, 10)
_, scales, directions = torch.linalg.svd(centred, full_matrices=False)
shares = scales.square() / scales.square().sum()  # (10,)
oracle = torch.linalg.eigvalsh(torch.cov(wide_mu.double().T)).flip(0)  # (10,)
assert torch.allclose(shares.double(), oracle / oracle.sum(), atol=1e-4)
assert 0.2 < shares[:2].sum() < 0.6
print(say("latents-pca", share=shares[:2].sum().item()))

views = {"latents-pair": wide_mu[:, by_kl[:2]]}  # (10000, 2)
views["latents-pca-title"] = centred @ directions[:2].T  # (10000, 2)
figure, axes = figures.picture(say("latents-alt-pca"), columns=2, height=3.9)
figure.stored_dpi = figures.SHOWN_DPI
for ax, (key, points) in zip(axes, views.items(), strict=True):
    for digit, color in enumerate(figures.DIGIT_COLORS):
        some = points[:1000][labels[:1000] == digit]  # (n, 2)
        ax.plot(*some.T, ".", ms=3, color=color)
        at = points[labels == digit].median(0).values.tolist()
        plate = {"boxstyle": "circle,pad=0.15", "fc": "white", "ec": color, "lw": 1.5}
        ax.text(*at, str(digit), ha="center", va="center", size=9, bbox=plate)
    ax.set(xlim=(-4, 4), ylim=(-4, 4), aspect="equal")
    ax.set_title(say(key), loc="left", fontsize=10)
figure

# %% [markdown] key="sliders-text"
# **Ten sliders.** `latent_sliders` takes a model of any latent size. Each slider is a coordinate; the arrows move it by 0.1, Home and End go to the ends. Start at zero, the average of everything. Move a coordinate with a large KL, then one with a small KL. Then try to turn one digit into another with a single slider.

# %% key="sliders"
handles = sliders.latent_sliders(wide)
handles

# %% key="sliders-moved"
assert len(handles.sliders) == 10
assert sliders.sweep(handles) == 1 + 2 * 10  # zero, and both ends of each slider

# %% [markdown] key="explorer-text"
# ## 10. Your turn: the explorer
#
# The pad below is the plane of the two-latent model, with 1,000 training codes. The decoder runs in your browser, so it works without a kernel. Drag the point, or use the arrow keys. Three things to try:
#
# - Find a border between two digits and cross it as slowly as you can. Is there a moment when the picture is neither?
# - Go to a hole, where no code is near. Switch from *mean* to *sample of pixels*. Which of the two is honest about what the decoder does not know?
# - Record a path that spells your favourite year, and play it.

# %% key="explorer"
explorer = LatentExplorer(model, train_images, neighbours=False)
explorer

# %% key="explorer-checked"
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
    some = data.Images(
        train_images.pixels[:count], train_images.labels[:count], dynamic=True
    )
    known = [model.encode(x)[0] for x, _ in some.batches(1000, shuffle=False)]
    known = torch.cat(known).cpu()  # (20000, L)
    codes = model.encode(test_images.pixels[::5])[0].cpu()  # (2000, L)
    far = (torch.cdist(some_codes, known) for some_codes in codes.split(250))
    near = torch.cat([d.topk(15, largest=False).indices for d in far])  # (2000, 15)
    votes = some.labels.cpu()[near].mode(1).values  # (2000,)
    return (votes == labels[::5]).double()


votes = {count: vote(asked) for count, asked in ((2, model), (10, wide))}
for count, right in votes.items():
    told = {"share": right.mean().item(), "error": train.standard_error(right)}
    print(say("latents-votes", latents=count, **told))
assert votes[2].mean() > 0.5
assert (votes[10] - votes[2]).mean() > 4 * train.standard_error(votes[10] - votes[2])

# %% key="answer-facts"
print(say("latents-fact-blur", two=two, free=free, ten=ten))
told = {"information": information, "information_error": information_error}
print(say("latents-fact-map", distance=distance, error=distance_error, **told))
print(say("latents-fact-hole", empty=empty))

# %% [markdown] key="answer-moral"
# **So:** it learnt to spend a few nats per image on saying *which kind* of image it is, well enough that the digit can be read off the code far more often than by chance, though no label was ever shown. It learnt to fill the prior, but not entirely: the plane has holes, and they have a measured size. And what its latent cannot say, it averages, and knows that it does.
#
# **To read.** Kingma and Welling (2013) drew their manifold of digits on a grid of the inverse CDF. The split of the KL into information and mismatch is behind Alemi et al. (2018), on rate and distortion, and Chen et al. (2018), who split it further. Lesson 06 measures what $q(z \mid x)$ itself misses; lesson 08 asks when a latent dies, and whether one coordinate can be made to mean one thing.

# %% [markdown] key="exercises"
# ## Exercises
#
# Write your answer in place of the ellipsis and run the cell. The check answers at once: right, or a hint. The solutions are folded right below each question.
#
# ### 1. The ring
#
# The rings of the map hold 50% and 95% of the prior's mass in the plane. Write the radius of the circle that holds a given mass, a number between 0 and 1. Is it 1.96 for 95%?

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
# This function has drawn many a published manifold. `decode` takes `(B, 2)` to `(B, D)`; `points` ascend, and serve both axes. The tiles come back as `(n, n, D)`, and `imshow` draws the first row on top. The text beside the picture says that $z_1$ runs right and $z_2$ runs up. Find the bug and fix it.

# %% key="exercise-tiles" tags=["nbval-check-output"]
def my_tiles(decode, points):
    rows = []
    for z2 in points:
        z = torch.stack((points, z2.expand(len(points))), -1)  # (n, 2)
        rows.append(decode(z))
    return torch.stack(rows)


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
# The author of this function is proud of the crisp samples it draws from the decoder's means, black and white, without a speck. Find the bug and fix it. The function takes and returns `(B, D)`.

# %% key="exercise-bits" tags=["nbval-check-output"]
def my_bits(means):
    return (means > 0.5).float()


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
# `start` and `end` are independent draws from the prior, `(S, L)` each, and `t` is a number from 0 to 1. Write a mix of the two that is at `start` for $t = 0$, at `end` for $t = 1$, and whose distribution is *exactly* $\mathcal{N}(0, I)$ for every $t$. The weights may depend on $t$ alone. There is more than one answer, and the check takes them all.
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
