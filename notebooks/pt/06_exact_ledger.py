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
# # Quanto falta, exatamente, para o ELBO chegar a $\log p(x)$?
#
# O que se informa sobre um VAE é um limite inferior. Em geral, não se sabe quanto falta a esse limite, porque não há como calcular $\log p(x)$. Com duas latentes, há. Por isso, vamos ver aqui o que, nos outros casos, só resta adivinhar: de quem é a culpa pela lacuna, o que a fecha e quando as estimativas usuais de $\log p(x)$ estão erradas sem dar sinal disso.
#
# **Ao final, você saberá** calcular $\log p(x)$ de cada imagem de teste; separar, na lacuna, o que a família de $q$ não consegue fazer do que o codificador faz mal; dizer o que se ganha com mais amostras, com um $q$ mais rico ou com uma busca mais longa por $q$; reconhecer quando uma estimativa feita com amostragem por importância mente; e prender $\log p(x)$ entre duas estimativas quando não existe valor exato.
#
# **Você precisa das** lições 00 e 02.
#
# **Tempo:** 60 minutos de leitura; cerca de um minuto e meio de processamento. Na primeira vez, são alguns minutos a mais, para treinar os modelos.

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

use_language("pt")
COLORS = figures.COLORS
se = train.standard_error

# %% [markdown] key="exact-text"
# ## 1. Um decodificador sabe dizer quão provável é uma imagem?
#
# O modelo é o da lição 00: duas latentes, 15 épocas. Os números citados no texto são os do MNIST. Em tudo o que as células imprimem, o número depois de ± é um erro padrão, calculado sobre as imagens. Depois do treinamento, todas as contas são feitas na CPU, qualquer que tenha sido o modelo obtido.
#
# Na lição 02, fizemos a soma sobre o plano para um único dígito. Para muitas imagens, há um truque que barateia a conta. Com pixels de Bernoulli e logits $\ell(z)$,
#
# $$\log p(x \mid z) = \sum_d x_d\, \ell_d(z) - \sum_d \log\left(1 + e^{\ell_d(z)}\right).$$
#
# A segunda soma não depende da imagem, e a primeira é um produto interno. Portanto, o *decodificador roda uma vez só* sobre os pontos do plano e, para todas as imagens juntas, resta **um produto de matrizes**. O resultado é um mapa de $\log p(x \mid z)$ para cada imagem. Fazemos um mapa para cada uma de 500 imagens, uma a cada vinte do conjunto de teste, com 300 × 300 pontos de $-6$ a $6$.

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
# Para integrar, multiplicamos a verossimilhança pela priori e pela área de uma célula da grade e somamos. A função `exact.log_likelihood` faz o mesmo num plano maior, acrescenta pontos quando a posteriori é estreita e pula os pontos que não contam. Ela recebe *todas* as 10.000 imagens de teste. A próxima célula compara os dois resultados. A diferença mediana é minúscula; a maior é a de uma imagem cuja posteriori é pouco mais larga que um passo do nosso mapa. Daqui em diante, os valores exatos são os do pacote.

# %% key="every"
every = exact.log_likelihood(model, x, grid=400, extent=7.5)  # (10000,)

apart = (by_hand - every[::20]).abs()  # (500,)
told = {"median": apart.median().item(), "most": apart.max().item()}
print(say("ledger-by-hand", **told))
print(say("ledger-mean", mean=every.mean().item(), error=se(every)))
assert told["median"] < 1e-3
assert told["most"] < 0.5 or not on_mnist

# %% [markdown] key="every-noticed-before"
# Que cara têm 10.000 valores exatos? Na figura a seguir, à esquerda, está o histograma, com a média tracejada. À direita, para cada dígito, a caixa contém metade das imagens, e as hastes vão de 5% a 95%.

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
# De uma imagem para outra, $\log p(x)$ varia até trezentos nats. O 1 é, de longe, o dígito mais provável. A figura a seguir traz as dez imagens mais prováveis e as dez menos prováveis do conjunto de teste.

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
# Das mil imagens mais prováveis, quase todas são algarismos 1. Eles têm poucos pixels acesos, e justamente onde os algarismos 1 costumam tê-los. As menos prováveis são carregadas ou esquisitas. Portanto, um $\log p(x)$ alto não é selo de qualidade: ele diz que o modelo esperava *exatamente esses bits*, e imagens simples são fáceis de prever.

# %% [markdown] key="ledger-text"
# ## 2. O balanço fecha?
#
# Para cada imagem e para qualquer $q$, pela lição 02,
#
# $$\log p(x) = \mathrm{ELBO} + \mathrm{KL}(q(z \mid x) \,\|\, p(z \mid x)).$$
#
# É uma identidade. Quem calcula o último termo como a diferença entre os outros dois não verifica nada: a conta fecha por álgebra. Para testar alguma coisa, precisamos de caminhos que não compartilhem números. Usamos três.
#
# 1. **O lado esquerdo**: $\log p(x)$ pelo pacote, numa grade sobre o plano inteiro.
# 2. **O ELBO**: sem grade sobre o plano. A média de $\log p(x \mid z)$ sob $q$ sai de pontos posicionados só por $q$; a KL em relação à priori, pela forma fechada.
# 3. **A KL em relação à posteriori**: pela definição. Numa janela em torno da posteriori e de $q$, calculamos $p(x, z)$ de novo, dividimos pela soma *da própria janela*, para que vire uma densidade, e tiramos a média de $\log q(z \mid x) - \log p(z \mid x)$ sob $q$.
#
# O lado esquerdo não entra de jeito nenhum no lado direito. Se a grade do pacote fosse grossa demais, se a janela cortasse uma parte da posteriori ou se os pontos de $q$ deixassem de fora uma parte dele, a soma não fecharia. O que ela *não* testa é o que os caminhos têm em comum: um decodificador errado, ou um $q$ errado, passaria. E o segundo e o terceiro caminhos tiram a média sob $q$ por regras parecidas, de modo que o teste recai sobretudo em $\log p(x)$, na KL em relação à priori e na janela.
#
# Primeiro, as funções. Para as médias sob $q$ há duas regras: `hermite`, a quadratura de Gauss-Hermite da lição 02, precisa de poucos pontos e basta para médias sobre muitas imagens; `even` usa muitos, em passos iguais, e aqui é muito mais exata. Como logo vamos precisar de gaussianas inclinadas, as funções aceitam qualquer $q$ gaussiano, escrito como uma média $\mu$ e uma *raiz* triangular $R$, em que $R R^\top$ é a covariância. Então $z = \mu + R\,\varepsilon$, e
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
# Agora, os três caminhos, em precisão dupla, para três imagens: uma a cada 4.000 do conjunto de teste. A quarta linha é de novo a primeira imagem, com um $q$ inclinado.

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
# A soma fecha, com sobras menores que $10^{-4}$ nats, e as imagens não foram escolhidas para isso. A maior das KLs é mais de dez mil vezes o que sobra. A última linha diz também quanto os valores da seção 1, em precisão simples e numa grade mais grossa, diferem destes: menos de 0,01 nat. (Por que tantos pontos? Cada unidade oculta do decodificador só se ativa de um lado de uma reta, de modo que $\log p(x \mid z)$ tem vincos, e nos vincos a quadratura converge devagar.)

# %% [markdown] key="split-text"
# ## 3. De quem é a culpa pela lacuna?
#
# A lacuna é $\mathrm{KL}(q(z \mid x) \,\|\, p(z \mid x))$. Dois suspeitos podem responder por ela (Cremer, Li e Duvenaud, 2018):
#
# - **a família**: a posteriori não é uma gaussiana de coordenadas independentes. Mesmo a melhor delas, $q^*$, deixa uma *lacuna de aproximação*;
# - **o codificador**: uma única rede precisa adivinhar o $q$ de cada imagem, e o palpite dela não é $q^*$. O que ela perde além da primeira lacuna é a *lacuna de amortização*.
#
# $$\underbrace{\log p(x) - \mathrm{ELBO}(q)}_{\text{lacuna}} = \underbrace{\log p(x) - \mathrm{ELBO}(q^*)}_{\text{aproximação}} + \underbrace{\mathrm{ELBO}(q^*) - \mathrm{ELBO}(q)}_{\text{amortização}}.$$
#
# Para separar as duas partes, precisamos do $q^*$ de cada imagem. Para achá-lo, subimos o ELBO ajustando os parâmetros do próprio $q$, com o decodificador fixo, para as 500 imagens de uma vez. A subida tem até cinco parâmetros por imagem: dois da média, dois das larguras e um da inclinação. A unidade deles é a largura do $q$ de onde a subida parte.

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
# Cada passo de gradiente precisa de $\log p(x \mid z)$ nos pontos de um $q$ que se move. Rodar o decodificador em todo passo para 500 imagens levaria tempo demais. Mas os mapas já estão prontos: `on_chart` lê os valores entre os pontos do mapa. A leitura é um pouco imprecisa, e por isso a subida termina num *recorte*: 400 valores novos do decodificador em torno do $q$ encontrado.
#
# A busca pode ser tão grosseira quanto quisermos, porque **qualquer** $q$ dá um limite válido: se a busca não acha a melhor gaussiana, a lacuna de aproximação sai grande demais, e nunca pequena demais. Portanto, a parte do codificador que a separação mostra é um limite *inferior*. O ELBO do $q$ encontrado é calculado de novo, nos pontos de Hermite, com o próprio decodificador.

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
# Uma subida pode acabar no morro errado. Por isso, partimos de três lugares: do $q$ do codificador, de uma gaussiana com a média e as variâncias da posteriori e de outra, estreita, no pico da posteriori. Ficamos com o ponto de chegada mais alto. A função devolve duas gaussianas por imagem: a melhor *alinhada aos eixos*, de coordenadas independentes, e a melhor que pode se *inclinar*.


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
# **Com este decodificador, a culpa é do codificador.** De uma lacuna média de 5,6 nats, a família responde por 0,10. O resto, 98%, é amortização: havia gaussianas que serviam, e o codificador não apontou para elas. Na imagem mediana, a parte da família também é de poucos por cento, mas em 25 das 500 imagens a família tem a parte maior: em média, a lacuna delas é pequena. Que as partes somem a lacuna é álgebra. Que nenhuma seja negativa, além do 0,02 nat que os nossos pontos podem deixar escapar, não é: a primeira seria negativa se o nosso $\log p(x)$ ou o nosso ELBO estivesse errado. (A segunda dificilmente seria, porque uma das subidas parte do $q$ do codificador.)
#
# Duas coisas a separação não vê. O decodificador foi treinado junto com gaussianas alinhadas, e isso aproxima delas as posterioris (Cremer, Li e Duvenaud também dizem isso): o que a família custou ao *decodificador* não aparece em coluna nenhuma. E estas são imagens de teste: não separamos que parte da lacuna de amortização existe porque o codificador não as tinha visto.
#
# O pacote tem uma busca mais lenta, `exact.best_gaussian`, que soma sobre o plano inteiro. Uma célula recolhida compara as duas buscas em três imagens. Outra mostra a separação, feita com a busca mais lenta, para este modelo e para dois treinados a partir de outras sementes.
#
# Será esse o destino de todo VAE? É o que acontece *neste*, com duas latentes e 60.000 imagens de treinamento. Em outros modelos, a divisão pode ser outra; esta lição não a mede.

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
# Que aspecto têm esses nats? A figura a seguir mostra quatro imagens, escolhidas por uma regra: as que ficam nos quantis de 10%, 50%, 75% e 95% da lacuna. Embaixo de cada imagem está o pedaço do plano que corresponde a ela, em escala. A região verde contém 95% da posteriori verdadeira. A elipse tracejada contém 95% do $q$ do codificador; a pontilhada, 95% da melhor gaussiana alinhada.


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
# Da esquerda para a direita, a elipse do codificador se afasta da posteriori, enquanto a pontilhada sempre a encontra. A posteriori, por sua vez, é quase gaussiana, e pequena: a maior parte do plano está muito longe dela. **Errar um alvo pequeno por uma distância igual à largura dele sai caro.**

# %% [markdown] key="pull-text"
# ### Mexa
#
# Agora é você quem move $q$. Escolha uma das quatro imagens. O primeiro controle deslizante leva $q$ do palpite do codificador (0) à melhor gaussiana alinhada (1); o segundo o alarga ou estreita; o terceiro o inclina, com correlação $\rho$. À direita está o balanço: a barra do ELBO termina em $\log p(x)$ menos a lacuna. As barras começam 40 nats abaixo de $\log p(x)$, onde são cortadas; os números, não. A lacuna é a diferença entre os outros dois números.
#
# Experimente três coisas. Na imagem 4, leve $q$ até o melhor: quantos nats custa o começo do caminho, e quantos custa o fim? No melhor $q$, encontre o fator de largura em que a lacuna dobra, para cada lado: largura demais não é punida como largura de menos. E encontre o $\rho$ que ainda reduz a lacuna no melhor $q$ alinhado: é o assunto da próxima seção.

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
# ## 4. O que fecha a lacuna?
#
# **Mais passos por imagem.** Se o problema é o palpite do codificador, façamos dele um *ponto de partida*: dali, damos alguns passos de gradiente em $\mu$ e $\sigma$, só para aquela imagem. É uma inferência refinada na hora do teste; os VAEs *semiamortizados* (Kim et al., 2018) também treinam através desses passos. Os nossos são melhores que os da prática: o gradiente não tem ruído, porque é lido no mapa. A figura a seguir traz a média e a mediana da lacuna das 500 imagens depois de cada um desses números de passos do Adam. O eixo horizontal lista os números de passos, fora de escala. As duas linhas pretas são a média (contínua) e a mediana (pontilhada) da lacuna de aproximação: abaixo delas nenhuma gaussiana alinhada chega.

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
# A imagem típica já fez quase todo o caminho depois de 50 passos. A média, não: mesmo depois de 200, ela está em 1,1 nat, onze vezes o valor da linha contínua. Quase tudo isso vem das 50 imagens mais atrasadas. Elas são lentas ou estão no morro errado? Um passo do Adam move $q$ cerca de 0,05 da própria largura, de modo que 200 passos alcançam umas dez larguras, e metade dessas imagens tem o melhor $q$ mais longe que isso. Mas mil passos, que alcançam cinco vezes mais, tiram menos de um dos dez nats que faltam a elas. **A maior parte do que resta são morros errados**, de onde nenhum passo pequeno leva ao melhor $q$. A busca da seção 3 pôde partir também da própria posteriori, que ninguém tem na prática; em mais de um quarto das imagens, isso rendeu mais de 0,1 nat.
#
# E cada passo custa uma passagem pelo decodificador para cada ponto de $q$: fechar a lacuna assim multiplica o preço da inferência.

# %% [markdown] key="lean-text"
# **Uma covariância completa.** A melhor gaussiana inclinada fecha a maior parte do que a alinhada deixa. A forma dela diz quanto havia a ganhar. Para uma posteriori gaussiana com correlação $\rho$ entre as duas coordenadas, falta ao melhor $q$ alinhado exatamente
#
# $$-\tfrac{1}{2} \log(1 - \rho^2)$$
#
# nats; o exercício 4 pede a fórmula para qualquer dimensão. As nossas posterioris não são bem gaussianas. A célula compara, imagem por imagem, o que a inclinação ganhou com o que a fórmula prevê para o $\rho$ encontrado.

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
# Portanto, cerca de quatro quintos da lacuna de aproximação são *inclinação*: posterioris cujos eixos não são os das coordenadas. Uma covariância completa remove a maior parte dela, e é barata: com $L$ latentes, são $L(L-1)/2$ números a mais na saída do codificador. Mas não espere muito dela aqui. Ela age sobre uma parte que era só 2% da lacuna.

# %% [markdown] key="trained-text"
# **Outro treinamento.** Até aqui o modelo ficou parado. Agora, cinco cópias dele continuam a treinar, cada uma por mais duas épocas com as mesmas 10.000 imagens, e cada uma com um objetivo:
#
# - o ELBO, como antes: é o controle. Mais uma vez com outra semente: é o controle, de novo;
# - o limite com $k = 5$ e com $k = 50$ amostras, em que a média dos pesos fica dentro do logaritmo, como num autoencoder ponderado por importância, o IWAE (Burda, Grosse e Salakhutdinov, 2015);
# - o ELBO com um $q$ que pode se inclinar, com inclinação zero no início. (A KL dele é uma média sobre amostras; a do controle vem da forma fechada.)
#
# De cada uma medimos, nas nossas 500 imagens de teste, o $\log p(x)$ exato e o ELBO do próprio codificador. A comparação é pareada: o mesmo ponto de partida e as mesmas imagens, mas em ordens próprias e com bits próprios. O ± só conta as imagens de teste. O que uma outra ordem muda, sozinha, está na linha do segundo controle.

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
# Compare as duas colunas nas linhas de $k = 5$ e $k = 50$: **com muitas amostras, $\log p(x)$ sobe e o ELBO cai, e cai muito.** Com $k = 50$, o modelo ganha menos de dois nats de $\log p(x)$, mais de três vezes o que muda outra ordem das imagens, e perde mais de dez nats de ELBO. Quem julgasse pelo ELBO jogaria fora o melhor dos cinco. Para $k = 5$, compare você mesmo o ganho com o segundo controle: um treinamento de cada é pouco. O que acontece é o seguinte. Com muitas amostras, basta que *uma* caia onde está a posteriori; um $q$ largo já não é punido pelas outras. E $q$ de fato se alarga: a última coluna traz a largura mediana dele, que mais que dobra. (O sinal do gradiente do codificador, que some no ruído à medida que $k$ cresce, é o tema de Rainforth et al., 2018, e da lição 09.)
#
# O $q$ inclinado muda $\log p(x)$ em menos de um nat, e 500 imagens e um só treinamento não permitem dizer mais. A seção 3 já mostrou por que não havia muito a esperar.

# %% [markdown] key="theta-text"
# ### O limite como função do modelo
#
# Por que treinar com um limite não leva ao mesmo lugar que treinar com $\log p(x)$? Desenhemos os dois como funções de $\theta$. Os pesos são muitos para uma figura, e por isso variamos um número só: o *contraste* $a$, que multiplica todos os logits. Com $a = 1$, é o nosso modelo; abaixo disso, todas as imagens ficam mais pálidas; acima, mais contrastadas.
#
# Para um $q$ fixo, o ELBO é uma função de $a$ que fica abaixo de $\log p$. Se $q$ é a posteriori exata no $a$ atual, as duas curvas **se tocam** ali. Suba até o topo dessa curva, tome a posteriori no novo ponto, e elas se tocam outra vez: é o algoritmo EM (*expectation-maximization*; Dempster, Laird e Rubin, 1977), visto aqui como a subida de um só limite, ora em $q$, ora em $\theta$ (Neal e Hinton, 1998), e a cada rodada $\log p$ sobe. Que as curvas se toquem e que $\log p$ nunca desça é álgebra; o que se mede é onde ficam os topos. Na figura, ele parte de $a = 0{,}7$. Cada curva verde é o limite com a posteriori de uma rodada; o ponto marca onde ela toca a preta. A curva tracejada é o limite com o $q$ do codificador, qualquer que seja $a$. As estrelas marcam os topos. Todos os valores são médias sobre 250 imagens, uma a cada duas das nossas 500.

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
# As curvas verdes tocam a preta e sobem; a diferença impressa nesses pontos é de arredondamento. A tracejada não a toca em lugar nenhum. O topo dela fica em $a = 1$ porque o treinamento o pôs ali: foi esse o ELBO maximizado, inclusive na escala dos logits. $\log p$ preferiria um pouco mais de contraste, e ficar onde está custa menos de 0,2 nat, como se vê na linha impressa. Aqui o efeito é pequeno, mas mostra o que pode acontecer: **um $q$ que não se ajusta não só rebaixa o limite, como também pode deslocar o máximo dele** (Turner e Sahani, 2011). A razão está na última linha impressa: a lacuna cresce com o contraste. Quando $q$ está fora do lugar, um decodificador mais seguro de si perde mais com isso.

# %% [markdown] key="weights-text"
# ## 5. Quando a amostragem por importância mente?
#
# Em geral, não há quadratura. Amostram-se $z_1, \dots, z_k$ de $q$ e informa-se
#
# $$\log \frac{1}{k} \sum_{i=1}^{k} w_i, \qquad w_i = \frac{p(x, z_i)}{q(z_i \mid x)},$$
#
# habitualmente com $k = 5000$ (é o que usa o artigo do IWAE). A média dessa estimativa é um limite inferior que sobe em direção a $\log p(x)$ à medida que $k$ cresce. Até onde ele chega?
#
# Amostramos 5.000 vezes para cada uma de 100 imagens, uma a cada cem do conjunto de teste. Para um $k$ menor, as mesmas amostras são cortadas em blocos, e tiramos a média dos limites dos blocos. Que esses limites subam de uma linha para outra é, então, álgebra: um bloco de 50 são dez blocos de 5, e Jensen faz o resto. Que fiquem, em média, abaixo do valor exato, e quanto abaixo, é o que se mede. A célula também compara $k = 50$ com `bounds.importance_weighted`, que faz os próprios sorteios.


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
# A mediana vai bem: com 500 amostras, faltam a ela uns centésimos de nat. **A média, não.** Com 50 amostras, faltam a ela 3,4 nats, e cem vezes mais trabalho devolve menos de um. Com 5.000, ainda faltam 2,6, com um erro padrão de 0,9. Uma falta dessas, no plano, é tão grande quanto a diferença entre o VAE e o IWAE de 50 amostras na tabela 1 do artigo do IWAE (uma camada, 50 latentes: 86,76 e 84,78 nats). E o que vai para as tabelas é a média. Se modelos maiores erram tanto é uma pergunta para a seção 6.

# %% [markdown] key="size-text"
# A causa são umas poucas imagens. As próprias amostras denunciam quais são? Há dois números em uso. Um é o erro padrão do peso médio, dividido pelo próprio peso médio: é, aproximadamente, o erro do logaritmo desse peso. O outro é o *tamanho efetivo da amostra* (Kong, 1992),
#
# $$\mathrm{ESS} = \frac{\left(\sum_i w_i\right)^2}{\sum_i w_i^2},$$
#
# que vale $k$ se todos os pesos são iguais e 1 se um deles concentra tudo. Os dois dizem quase a mesma coisa: o quadrado do erro é $1 / \mathrm{ESS} - 1 / k$, a menos de um fator quase igual a 1. A figura a seguir mostra o erro verdadeiro, que conhecemos pela quadratura, em função do erro que as amostras informam. Abaixo da linha pontilhada, a estimativa fica a menos de dois erros informados do valor exato.


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
# Em nenhuma das nossas imagens com 300 ou mais amostras efetivas falta um nat. Isso não é garantia: o tamanho efetivo só vê o que foi sorteado. Com menos, a maioria das imagens também vai bem, e em algumas faltam vários nats; a tabela as conta. Mesmo com dezenas de amostras efetivas, uma estimativa pode parecer honesta e errar por dezenas de nats: é a última linha impressa, a de quem mente calado. A barra de erro nada sabe dos pesos que *não* foram sorteados, e **não pode passar de 1**: os pesos sorteados não podem variar mais do que se um deles concentrasse tudo.
#
# Os erros grandes são todos para baixo, e não podia ser diferente. O peso médio está certo em média e, pela desigualdade de Markov, uma estimativa que fica $t$ nats *acima* tem probabilidade de no máximo $e^{-t}$. Para baixo, não há um limite assim.

# %% [markdown] key="liars-text"
# Até onde isso pode piorar? Procuramos as maiores lacunas entre todas as 10.000 imagens de teste, ficamos com as dez piores imagens e fazemos três estimativas para cada uma, com 5.000 amostras novas. Essas imagens foram escolhidas por serem ruins; o que vale para as imagens em geral é a tabela anterior.

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
# Com 5.000 amostras, a estimativa fica de 31 a 104 nats abaixo do valor exato. Aqui há alarmes, para quem olha: barras de erro perto de 1 e outro número, a vários nats do primeiro, quando se repete a conta. Nenhum dos dois diz a profundidade do abismo.
#
# A última figura mostra a razão, para a pior imagem. O codificador pôs $q$ onde o decodificador desenha outra forma, e o pico da posteriori fica a muitos desvios padrão de $q$ dali. Nenhuma amostra de $q$ chega lá.
#
# **Remédios.** Dar à priori metade das propostas, como na lição 02, numa *mistura defensiva* (Hesterberg, 1995): no plano, nada fica então fora de alcance. Em vinte dimensões, a priori também não acha nada. Ou deixar que outra coisa *leve* as amostras até a posteriori: é o assunto da próxima seção. E mostrar, ao lado da média, a distribuição do tamanho efetivo da amostra.

# %% [markdown] key="path-text"
# ## 6. E com vinte latentes?
#
# Num plano, dá para somar; em vinte dimensões, não. O que pode controlar uma estimativa quando não há valor exato? Outra estimativa, que erre para o outro lado.
#
# Tome um caminho de densidades da priori até a posteriori,
#
# $$\pi_b(z) = \frac{p(z)\, p(x \mid z)^b}{Z_b}, \qquad 0 \le b \le 1.$$
#
# Em $b = 0$, é a priori, com $Z_0 = 1$. Em $b = 1$, é a posteriori, com $Z_1 = p(x)$. Entre as duas, a verossimilhança entra com um expoente, o inverso de uma temperatura. A derivada de $\log Z_b$ é a média de $\log p(x \mid z)$ sob $\pi_b$, de modo que
#
# $$\log p(x) = \int_0^1 \mathbb{E}_{\pi_b}[\log p(x \mid z)]\, db.$$
#
# Para a segunda das nossas quatro imagens, dá para fazer isso no mapa: são 101 valores de $b$, concentrados perto de 0, onde a curva é íngreme. A área tem de ser $\log p(x)$: é a integração termodinâmica (Gelman e Meng, 1998). Os dois números saem do mesmo mapa, de modo que o teste é da área, e de mais nada.

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
# Leve $b$ de 0 a 1. À esquerda, a densidade encolhe da priori (o círculo tracejado contém 95% dela) até a posteriori. À direita, a área até $b$. Repare como quase tudo acontece cedo. A linha impressa acima diz quanto encolheu a região que contém 95%: com o expoente em um décimo, ela já é uma pequena fração da região da priori.

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
# A *amostragem por importância com recozimento* (Neal, 2001) percorre esse caminho. As cadeias partem de sorteios da priori; em cada um de muitos valores de $b$, elas fazem um movimento hamiltoniano (Neal, 2011), que deixa $\pi_b$ como está; no trajeto, cada uma acumula um peso $w$ cuja média é $p(x)$. Portanto, o logaritmo do peso médio de algumas cadeias fica, em média, **abaixo** de $\log p(x)$.
#
# Agora, na direção contrária (Grosse, Ghahramani e Adams, 2015). Em imagens que o próprio modelo sorteou, como em Wu et al. (2017), parta de um sorteio exato da *posteriori* e volte até a priori: a média desses pesos é $1 / p(x)$. Tire a média, inverta e tome o logaritmo: em média, o resultado fica **acima** de $\log p(x)$. Os dois valores formam um sanduíche, cuja largura se conhece sem nenhum valor exato.
#
# Antes de falar onde ninguém pode conferir, ele precisa passar por duas provas. A primeira é a PCA probabilística, cujo $\log p(x)$ é uma fórmula: ela tem cinco latentes e foi ajustada a imagens de teste em níveis de cinza. A posteriori dela também é uma fórmula, de modo que sorteios exatos saem de graça. A segunda é o nosso VAE de duas latentes, em imagens que ele mesmo sorteou: o $z$ que gerou uma imagem *é* um sorteio exato da posteriori dela. O valor exato sai por quadratura. Uma célula recolhida exige que o valor exato fique entre os dois, com folga de três erros padrão, e que um sanduíche em que se esqueceu de dividir pelas 8 cadeias seja recusado.


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
# O sanduíche contém o valor exato nas duas provas. A largura, com 100 temperaturas, está nas linhas impressas: é a soma das duas partes.

# %% [markdown] key="wide-text"
# Agora, trinta latentes, o modelo da lição 05 com 15 épocas, e cinquenta, com só três épocas de treinamento. Não existe valor exato. Para imagens que o modelo sorteou, temos o sanduíche; para imagens reais, só a metade de baixo, porque ninguém sabe sortear exatamente da posteriori *delas*. Por isso, nas imagens de teste, temos três números, todos abaixo de $\log p(x)$: o ELBO, a estimativa com 500 amostras por importância e a do recozimento. Para a última, ficamos com as 12 imagens, entre 200, de *menor* tamanho efetivo: se $q$ perdeu alguma imagem de vista, ela deve estar entre essas.

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
# A largura do sanduíche diz com que precisão conhecemos $\log p(x)$ das imagens simuladas: com uma folga dessa ordem, e não menor, com essas configurações. Nas imagens de teste, 500 amostras ganham do ELBO. Nas 12 suspeitas, o recozimento e as amostras diferem em menos de vinte nats, enquanto no plano faltavam de 31 a 104 nas dez piores; mas estas são as piores de 200 imagens, e não de 10.000. Os dois números são limites *inferiores*, e dois que concordam podem estar ambos baixos: o que acontece com a imagem rara, 12 de 200 não permitem saber.
#
# Com o que se podem comparar esses números? A tabela 1 do artigo do IWAE traz, para um VAE de uma camada estocástica e 50 latentes, no MNIST com binarização dinâmica, $\log p(x) \approx -86{,}76$ com 5.000 amostras; duas reproduções independentes trazem $-86{,}35$ e $-87{,}78$. O que se compara com isso é o nosso modelo de 50 latentes. O valor dele é mais baixo, como era de esperar: são uma camada oculta de 400 unidades em vez de duas de 200, 3 épocas em vez de 3.280, um lote maior, 500 amostras em vez de 5.000, e 200 imagens de teste. Os números são da mesma ordem de grandeza, e a comparação não diz mais que isso.

# %% [markdown] key="draw-text"
# ## 7. E no caso de um dígito que você desenha?
#
# Até aqui as imagens vieram do conjunto de teste. Agora quem as faz é você. O explorador guarda os pesos do nosso modelo e faz ele mesmo as somas da seção 1, numa grade própria, sem Python. Desenhe com o mouse, o dedo ou o teclado. Enquanto a caneta anda, tudo se move: $q$ e a posteriori exata no plano, o ELBO com os seus dois termos, a lacuna e o $\log p(x)$ exato. Uma frase compara o seu desenho com as imagens do conjunto de teste. Um pixel cinza vira 1 com probabilidade igual ao seu nível de cinza.
#
# - Desenhe um 1, devagar. O que muda mais a cada traço, $\log p(x)$ ou a lacuna?
# - Pegue uma imagem de teste com o botão e acrescente um traço que não pertence a dígito nenhum. $q$ acompanha a posteriori?
# - Procure uma lacuna de mais de dez nats. Onde está $q$ nesse momento, e onde está a posteriori?

# %% key="draw"
pad = DrawingExplorer(model, test_images)
pad

# %% [markdown] key="draw-noticed"
# Uma célula recolhida confere com os valores da seção 1 os números com que a página compara você: percentis de $\log p(x)$ em 1.000 imagens de teste. Se o seu desenho ficar sem valor, a posteriori dele está fora do plano, ou é estreita demais para a página, que então avisa.

# %% key="draw-checked" jupyter={"source_hidden": true} tags=["hide-input"]
compared = every[torch.linspace(0, len(x) - 1, 1000).long()].double()  # (1000,)
shares_below = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
known = compared.quantile(shares_below)  # (99,)
told = torch.tensor(pad.spec["percentiles"]).double()
assert (told - known).abs().max() < 0.05

# %% [markdown] key="answer-text"
# ## 8. Quanto falta, então?

# %% key="answer" jupyter={"source_hidden": true} tags=["hide-input"]
told = {"gap": gaps.mean().item(), "share": 1 - share}
told["all"] = (every - crude).mean().item()
print(say("ledger-fact-gap", **told))
change = (measured["k50"] - measured["elbo"]).mean(1).tolist()
print(say("ledger-fact-weighted", exact=change[0], elbo=change[1]))
print(say("ledger-fact-draws", missed=missed[-1].mean().item()))

# %% [markdown] key="answer-moral"
# Ao ELBO deste modelo faltam cerca de cinco nats em média, e um nat e meio na imagem típica. Com este decodificador, **98% da lacuna é do codificador**, medida em imagens de teste, e uma busca feita para cada imagem, a partir de bons lugares, fecha essa parte; o que uma gaussiana alinhada custou ao próprio decodificador, a separação não diz. Treinar com muitas amostras dá um modelo melhor com um ELBO muito pior: são coisas diferentes, e o ELBO não podia mostrar isso. E a estimativa usual, com 5.000 amostras, erra por vários nats quando $q$ perdeu a imagem de vista, com uma barra de erro que não sabe disso.

# %% [markdown] key="limits"
# **O que esta lição não mostra.** Tudo isto diz respeito a uma arquitetura e a um conjunto de dados e, quase tudo, a uma semente só; a separação da lacuna foi repetida com outras duas sementes, e o resto, não. Duas latentes são um caso especial: as posterioris são estreitas, e os erros do codificador talvez custem mais do que em outros modelos. Não se pode dizer com exatidão como a lacuna se divide com 30 latentes, e não tentamos estimar essa divisão. Os modelos da seção 4 treinaram só mais duas épocas, com um sexto dos dados, uma vez cada um. A exatidão do valor diz respeito ao modelo: um $\log p(x)$ alto não torna boas as imagens.

# %% [markdown] key="next"
# **Para ler.** Cremer, Li e Duvenaud (2018), *Inference Suboptimality in Variational Autoencoders*: a separação, estimada em modelos maiores. Burda, Grosse e Salakhutdinov (2015): o limite com $k$ amostras. Rainforth et al. (2018): limites mais apertados não são necessariamente melhores. Grosse, Ghahramani e Adams (2015): o sanduíche. Neal (2001): a amostragem por importância com recozimento. Wu, Burda, Salakhutdinov e Grosse (2017): os dois, para decodificadores.
#
# A lição 07 pergunta que verossimilhança está implícita numa função de custo, e a lição 09, o que melhora o limite, segundo o balanço desta lição.

# %% [markdown] key="exercises"
# ## Exercícios
#
# Escreva a sua resposta no lugar das reticências e execute a célula. A verificação responde na hora: certo, ou uma pista. As soluções estão recolhidas logo abaixo de cada questão.
#
# ### 1. Um IWAE que circula por aí
#
# A função `published_bound` deveria ser o limite com $k$ amostras. O treinamento com ela funciona, mas ela erra em três lugares. `log_conditional`, `(k, B)`, traz $\log p(x \mid z_i)$ das amostras `z`, `(k, B, L)`; `mu` e `logvar`, `(B, L)`, são de $q$. Que amostra o softmax prefere? Que $z$ a KL conhece? E uma média ponderada de logaritmos é o logaritmo de uma média? Escreva `my_bound`, que devolve `(B,)`. Uma verossimilhança pode ser tão pequena quanto $e^{-900}$.


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
# ### 2. Quantas amostras contam?
#
# Escreva o tamanho efetivo da amostra. `log_weights` é `(k, B)`; devolva `(B,)`. Também aqui um peso pode ser tão pequeno quanto $e^{-900}$, que para a máquina é 0.


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
# ### 3. O sanduíche ao contrário
#
# `forward` e `reverse` são logaritmos de pesos, `(S, B)`: os das cadeias que partem da priori, cujo peso médio é $p(x)$, e os das cadeias que voltam da posteriori, cujo peso médio é $1 / p(x)$. A função `published_sandwich` devolve o limite inferior e o superior, `(2, B)`. Alguém notou que o superior não desce, por mais cadeias que haja. Reescreva a função. Para pensar: o valor de cima publicado ainda é um limite superior?


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
# <details><summary>Resposta à pergunta para pensar</summary>
#
# É, mas em geral um limite pior. A média dos pesos invertidos é pelo menos o inverso do peso médio, e por isso fica acima do valor certo para quaisquer sorteios. Com mais cadeias, ela não se aproxima de $p(x)$, e sim da média de $1 / w$, que é maior e pode ser infinita.
#
# </details>

# %% [markdown] key="exercise-lean-text"
# ### 4. Quanto custa uma inclinação?
#
# Uma posteriori é gaussiana, com covariância $C$, dada como `(B, L, L)`. O melhor $q$ de coordenadas independentes, em $\mathrm{KL}(q \,\|\, p)$, tem a mesma média. As variâncias dele não são as da diagonal de $C$ (quais são?); na divergência oposta, seriam. Devolva o que falta a ele, $\mathrm{KL}(q \,\|\, p)$, para cada covariância: `(B,)`. Com $L = 2$ e correlação $\rho$, tem de dar a fórmula da seção 4.


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
