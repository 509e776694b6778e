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
# # De onde vem o limite, e quão apertado ele é?
#
# **Ao final você saberá** deduzir o ELBO por dois caminhos, dizer o que falta a ele para chegar a $\log p(x)$ e pôr um número nisso, prever de quantas amostras o Monte Carlo ingênuo precisaria, e reconhecer uma posteriori que nenhuma gaussiana cobre.
#
# **Você precisa** da lição 00 e de boas relações com integrais e logaritmos.
#
# **Tempo:** 40 minutos de leitura; cerca de meio minuto de máquina em dois núcleos. Na primeira vez, some até um minuto: a seção 8 treina o VAE da lição 00 e o guarda para as outras lições.
#
# Na lição 00 você subiu um número que não era o que queria. Queria $\log p(x)$. Subiu o ELBO, que fica abaixo dele. Se fica um fio de cabelo abaixo, nada se perde. Se fica muito abaixo, e mais para umas imagens que para outras, então você treinou outro modelo sem saber. **A que distância ele fica?** No fim da lição você terá a resposta para um VAE treinado, em nats, imagem por imagem.

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

use_language("pt")
COLORS = figures.COLORS

# %% [markdown] key="toy"
# ## 1. Um mundo onde nada se esconde
#
# Para saber quanto falta a um limite, é preciso ter a resposta exata ao lado. Construímos então um mundo pequeno o bastante para ter uma: **uma** variável latente, **dois** números observados. O decodificador dobra uma reta numa curva do plano, e a observação é um ponto da curva mais ruído:
#
# $$z \sim \mathcal{N}(0, 1), \qquad f(z) = \left(z - 2 \sin z,\; \tfrac{3}{2} \cos z\right), \qquad x \mid z \sim \mathcal{N}(f(z), 0{,}4^2 I).$$
#
# Na próxima figura, a linha é a curva, com alguns valores de $z$ escritos ao longo dela. Os pontos são 400 amostras do modelo. A curva cruza a si mesma, e isso é de propósito. Três observações vão nos acompanhar: **A**, dentro do laço; **B**, perto do cruzamento; **C**, lá onde a curva vai embora e as amostras rareiam.

# %% key="toy-model"
noise = 0.4  # desvio padrão em cada coordenada de x


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
# ### A integral, feita
#
# A integral $p(x) = \int p(x \mid z)\, p(z)\, dz$ corre ao longo de uma reta. Cortamos a reta em passos estreitos e somamos: isso é *quadratura*. Com 2.401 pontos, a 0,01 um do outro, a soma é exata, a menos do arredondamento, para tudo o que segue, porque nada no nosso mundo é mais estreito que dez passos. Somamos logaritmos com `logsumexp`, para que nenhum termo se arredonde para zero.
#
# Uma densidade precisa integrar 1. A próxima célula estende uma grade sobre o plano de $x$, calcula $p(x)$ em 12.851 pontos e soma tudo. Ela exige 1 com erro de até $10^{-4}$.

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
# aqui basta um z em cada dez
parts = [log_evidence(part, z[::10]) for part in plane.split(1000)]
density = torch.cat(parts).exp().reshape(181, 71)
total = density.sum().item() * (across[1] - across[0]).item() * (up[1] - up[0]).item()

assert abs(total - 1) < 1e-4
print(say("elbo-total", total=total))
for name, x in observed.items():
    print(say("elbo-exact", name=name, value=log_evidence(x).item()))

# %% [markdown] key="posteriors"
# Com $p(x)$ na mão vem a *posteriori*, $p(z \mid x) = p(x, z) / p(x)$: quais $z$ podem ter produzido o que vimos. A próxima figura mostra $p(x)$ em cinza e, ao lado, as três posterioris. Repare nas formas. A de **A** é uma corcova torta. A de **B** tem duas: perto do cruzamento, dois trechos da curva explicam o mesmo ponto. A de **C** é uma agulha longe do centro da priori.

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
# ## 2. De quantas amostras o modo ingênuo precisa?
#
# Suponha por um instante que não tivéssemos a quadratura. Uma integral contra a priori é uma média sobre a priori:
#
# $$p(x) \approx \hat p(x) = \frac{1}{n} \sum_{i=1}^{n} p(x \mid z_i), \qquad z_i \sim p(z).$$
#
# Em média, $\hat p(x)$ acerta. A questão é quanto uma tentativa se desvia. Numa média de $n$ termos independentes, a variância relativa é a de um termo dividida por $n$, e a de um termo é mais uma integral, que sabemos fazer com exatidão:
#
# $$\frac{\mathrm{Var}[\hat p(x)]}{p(x)^2} = \frac{\rho}{n}, \qquad \rho = \frac{\int p(x \mid z)^2\, p(z)\, dz}{p(x)^2} - 1 = \int \frac{p(z \mid x)^2}{p(z)}\, dz - 1.$$
#
# A última forma diz o que custa caro: uma posteriori *estreita*, ou *longe da priori*. Para conhecer $p(x)$ com erro de 10%, isto é, $\log p(x)$ com erro de cerca de 0,1 nat, são precisas $n = \rho / 0{,}1^2$ amostras. A próxima célula imprime esse número para as nossas três observações.

# %% key="naive-cost" tags=["nbval-check-output"]
def log_normal(z, mu, logvar):
    squared = (z - mu) ** 2 * torch.exp(-logvar)
    return -0.5 * (squared + logvar + math.log(2 * math.pi))


def relative_variance(x, log_q):  # de p(x, z) / q(z), com z ~ q
    return ((2 * log_posterior(x) - log_q).logsumexp(-1).exp() * dz - 1).item()


for name, x in observed.items():
    rho = relative_variance(x, log_prior(z))
    print(say("elbo-cost", name=name, rho=rho, draws=rho / 0.1**2))

# %% [markdown] key="importance"
# ### Procurar onde importa
#
# C pede mais de dezoito mil amostras, porque a priori quase nunca visita o lugar onde está a sua agulha. A *amostragem por importância* amostra de outra densidade $q$, que procura ali, e corrige cada amostra pelo seu peso:
#
# $$p(x) = \mathbb{E}_{q(z)}\!\left[\frac{p(x, z)}{q(z)}\right].$$
#
# É a mesma integral, multiplicada e dividida por $q$. Seja $g$ uma gaussiana posta a olho sobre a agulha, com a largura dobrada por segurança. Por que não tomar $q = g$? Porque um segundo trecho da curva também explica C, ainda que mal. Ele guarda uns poucos centésimos de milésimo da posteriori, e $g$ praticamente nunca vai lá. No dia em que uma amostra vai, o peso dela é astronômico. A próxima célula imprime quanto isso custa, e o remédio: **guardar metade da priori**, $q = \frac{1}{2} g + \frac{1}{2} p$. Assim nenhum peso passa de $2\, p(x \mid z)$.

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
# A próxima figura mede o erro de 500 estimativas para cada $n$. As linhas são as previsões $\sqrt{\rho / n}$; os marcadores, as medidas. Nestes eixos, "o erro cai como $1/\sqrt n$" é uma inclinação de $-\frac{1}{2}$. Repare em duas coisas: a inclinação é a mesma nos dois casos, e a altura não é.

# %% key="importance-picture"
torch.manual_seed(0)
truth = log_evidence(x)
counts = torch.tensor([16, 64, 256, 1024, 4096])
log_counts = counts.double().log() - counts.double().log().mean()  # (5,) centrados


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
# Um bom $q$ não muda a lei. Muda o preço, aqui por um fator de cerca de oitenta. **Quanto melhor $q$ conhece a posteriori, menos amostras.** Se $q$ *é* a posteriori, todos os pesos são iguais e uma amostra basta: você viu isso na lição 00. Tudo depende, portanto, de achar um bom $q$, e para isso precisamos de um número que diga quão bom um $q$ é.

# %% [markdown] key="jensen"
# ## 3. O primeiro caminho: Jensen
#
# Os pesos $w = p(x, z) / q(z)$ têm média $p(x)$. E se tirarmos a média dos seus *logaritmos*? O logaritmo é côncavo: perde mais com um peso pequeno do que ganha com um grande. A média dos logaritmos fica então abaixo do logaritmo da média. É a desigualdade de Jensen, e o lado esquerdo é o ELBO:
#
# $$\mathrm{ELBO} = \mathbb{E}_{q}\!\left[\log \frac{p(x, z)}{q(z)}\right] \;\le\; \log \mathbb{E}_{q}\!\left[\frac{p(x, z)}{q(z)}\right] = \log p(x).$$
#
# Na próxima figura, $x$ é A e $q$ é uma gaussiana que alguém escolheu com pressa. Cada ponto é um peso: na horizontal, o seu valor; na vertical, o seu logaritmo. Os doze pontos representam doze pedaços de $q$ de mesma massa. A linha tracejada é o logaritmo da média; a cheia, a média dos logaritmos, as duas sobre $q$ inteira. A faixa entre elas é o que Jensen perde. Só se todos os pesos fossem iguais a faixa se fecharia.

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
# ## 4. O segundo caminho: Bayes
#
# Jensen diz que algo se perde, mas não o quê. Para saber, comece de outro lugar. Pela regra de Bayes, para *todo* $z$,
#
# $$\log p(x) = \log p(x, z) - \log p(z \mid x).$$
#
# O lado esquerdo não sabe de $z$; no direito, duas grandes variações se cancelam. Some e subtraia $\log q(z)$ e tire a média sobre $q$. O lado esquerdo, constante, fica como está:
#
# $$\log p(x) = \underbrace{\mathbb{E}_q\!\left[\log \frac{p(x, z)}{q(z)}\right]}_{\mathrm{ELBO}} + \underbrace{\mathbb{E}_q\!\left[\log \frac{q(z)}{p(z \mid x)}\right]}_{\mathrm{KL}(q \,\|\, p(z \mid x))}.$$
#
# Não há desigualdade nenhuma aí. **O que Jensen perde é uma divergência de Kullback-Leibler, de $q$ até a posteriori verdadeira.** Ela nunca é negativa, logo o ELBO é um limite inferior. Ela só é zero onde $q$ é a posteriori, logo o limite pode ser atingido. E, como $\log p(x)$ não depende de $q$, tudo o que o ELBO sobe, a divergência desce.
#
# A próxima célula imprime a primeira linha para cinco valores de $z$ e depois a segunda, para A e para B. Os dois termos da direita são calculados à parte: o ELBO com a conjunta, a KL com a posteriori normalizada. Depois ela fecha o balanço para 3.000 pares de observação e $q$, com erro de até $10^{-6}$.

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
    gap = log_evidence(x) - elbo(x, mus, logvars)  # (40, 25), a de Jensen
    assert torch.allclose(gap, kl_to_posterior(x, mus, logvars), rtol=0, atol=1e-6)

# %% [markdown] key="two-terms"
# ### A forma que se treina
#
# Separe a conjunta, $\log p(x, z) = \log p(x \mid z) + \log p(z)$, e o ELBO vira o par de termos da lição 00: reconstrução menos a KL até a priori. Cuidado, portanto: **há duas divergências de Kullback-Leibler.** Uma vai de $q$ até a priori; ela está *dentro* do ELBO e tem fórmula. A outra vai de $q$ até a posteriori; ela é o que *falta* ao ELBO, e não tem fórmula, a menos que haja uma quadratura à mão.
#
# O que escrevemos à mão precisa ser igual ao pacote. A próxima célula cobra: a KL até a priori é `densities.kl_to_standard_normal`, o ELBO separado é igual ao nosso até $10^{-6}$, e `bounds.elbo`, que amostra, concorda com ele a menos de quatro erros padrão.

# %% key="two-terms-checked"
class Toy:  # o que o pacote pede a um modelo
    def __init__(self, mu, logvar):
        self.q = mu, logvar

    def encode(self, x):
        return tuple(part.expand(len(x), 1) for part in self.q)  # (B, 1) cada

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
# ## 5. Com a mão na massa
#
# Escolha uma observação e mova a média $\mu$ e a largura $\sigma$ de $q$. À esquerda, $q$ e a posteriori. À direita, três barras penduradas no zero. $\log p(x)$ não se mexe: nenhum $q$ pode mudá-lo. O ELBO pende mais baixo, e a lacuna preenche exatamente o que falta. As barras param no fim da figura; os números continuam abaixo dela.
#
# Três coisas para tentar. Com A, feche a lacuna o mais que puder: você chegará a menos de 0,08 nat, e nunca a zero, porque a posteriori é torta e a gaussiana não. Com B, tente ficar abaixo de 0,7. Com C, ponha $\mu$ em 0 e veja como sai caro procurar no lugar errado.

# %% key="pull-panel"
FLOOR = -9.0  # nats, onde a figura acaba


def draw_balance(point, mu, sigma):
    x, logvar = observed[point], torch.tensor(sigma).double().log() * 2
    top, bound = log_evidence(x).item(), elbo(x, mu, logvar).item()
    gap = kl_to_posterior(x, mu, logvar).item()
    assert abs(top - bound - gap) < 1e-6
    numbers = {"top": top, "elbo": bound, "gap": gap}
    alt = say("elbo-alt-balance", name=point, mu=mu, sigma=sigma, **numbers)
    figure, (left, right) = figures.picture(alt, columns=2, width=8, height=3.2)
    inside = slice(800, 1601, 2)  # z de -4 a 4
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
# cada controle às duas pontas e de volta: cada figura é outra
assert sliders.sweep(panel) == 6
panel.controls["point"].value, panel.controls["mu"].value = "B", 1.8
panel.controls["sigma"].value = 0.2
assert "B" in panel.picture.alt
panel.controls["point"].value, panel.controls["mu"].value = "A", -0.7
panel.controls["sigma"].value = 0.4
close = kl_to_posterior(observed["A"], -0.7, torch.tensor(0.4**2).double().log())
assert 0.05 < close < 0.08

# %% [markdown] key="ascent"
# ## 6. Deixe o gradiente puxar
#
# Você acaba de fazer inferência variacional à mão. Um gradiente faz melhor: suba o ELBO em $\mu$ e $\log \sigma^2$. Na grade o ELBO é exato, por isso esta é a subida mais simples que existe, sem ruído.
#
# A próxima figura mostra o ELBO de B sobre o plano de $\mu$ e $\log \sigma^2$, como um relevo visto de cima; as linhas passam 1, 2, 4, 8, 16 e 32 nats abaixo de $\log p(x)$. De cada um de quatro pontos de partida sai um caminho que sobe. Veja onde cada um acaba. Há três picos, e nem todos são iguais.

# %% key="ascent-landscape"
x = observed["B"]
side = torch.linspace(-3, 3, 121, dtype=torch.float64)  # mu
high = torch.linspace(-4.5, 1.0, 111, dtype=torch.float64)  # log sigma²
rows = [(elbo(x, side[:, None], v), kl_to_posterior(x, side[:, None], v)) for v in high]
elbos, kls = (torch.stack(part) for part in zip(*rows, strict=True))  # (111, 121)

# o melhor q é o mais próximo
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
# A próxima célula imprime os quatro finais. O balanço vale no caminho inteiro: cada nat que o ELBO ganha é um nat que a KL perde, porque a soma não pode se mexer. E cada final está onde a KL, calculada por conta própria, é a menor da vizinhança.
#
# Só da vizinhança. Dos três picos, dois são imagens no espelho um do outro, com lacuna de 0,70 nat. O do meio é uma armadilha: uma $q$ larga, deitada sobre as duas corcovas e o vale entre elas, com lacuna de 5,34. Dali, todo passo pequeno custa, e o gradiente não sai. O ponto de partida importa.

# %% key="ascent-checked" tags=["nbval-check-output"]
for path, gradient in zip(paths, gradients, strict=True):
    assert gradient.norm() < 1e-6  # está num pico
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
# ## 7. Uma posteriori que nenhuma gaussiana cobre
#
# Os dois picos altos ficam cada um sobre *uma* das corcovas de B e ignoram a outra. Por que não compensa esticar-se sobre as duas? Leia a divergência: $\mathrm{KL}(q \,\|\, p) = \mathbb{E}_q[\log q - \log p]$ é uma média sobre $q$. Onde $q$ põe massa e a posteriori não tem nenhuma, o preço é enorme; onde a posteriori tem massa e $q$ não, não se paga nada. Por isso $q$ se recolhe numa corcova só: ela *busca uma moda*.
#
# O preço de ignorar a metade dá para adivinhar. Dentro da sua corcova, $q$ é mais ou menos o dobro da posteriori, e $\log 2 = 0{,}693$. A lacuna que você viu é isso, mais o pouco que falta à própria corcova para ser gaussiana.
#
# Vire a divergência ao contrário e o desejo também se vira. $\mathrm{KL}(p \,\|\, q) = \mathbb{E}_p[\log p - \log q]$ é uma média sobre a posteriori: em nenhum lugar onde *ela* tem massa pode faltar $q$. Essa $q$ *cobre a massa*. O ótimo tem forma fechada: a média e a variância da posteriori. Chegamos a ele por gradiente mesmo assim, e exigimos que a subida chegue a esses momentos.

# %% key="two-modes-checked" tags=["nbval-check-output"]
posterior = log_posterior(x).exp()  # (Z,)


def minus_kl_from_posterior(mu, logvar):
    log_q = log_normal(z, mu, logvar)  # (..., Z)
    return (posterior * (log_q - log_posterior(x))).sum(-1) * dz  # (...,)


mean = (posterior * z).sum() * dz
variance = (posterior * (z - mean) ** 2).sum() * dz
covering = climb(minus_kl_from_posterior, [(0.5, -0.5)])[0][0, -1]  # (2,)
other, seeking = paths[0, -1], paths[-1, -1]  # (2,) cada

assert torch.allclose(covering, torch.stack((mean, variance.log())), atol=1e-5)
for name, q in (("seeking", seeking), ("covering", covering)):
    numbers = {"mu": round(q[0].item(), 4) + 0.0, "sigma": math.exp(q[1] / 2)}
    forward = -minus_kl_from_posterior(*q).item()
    numbers |= {"qp": kl_to_posterior(x, *q).item(), "pq": forward}
    print(say(f"elbo-mode-{name}", **numbers))

# os dois picos são imagens no espelho
assert torch.allclose(other * torch.tensor([-1.0, 1.0]), seeking, atol=1e-5)
assert kl_to_posterior(x, *seeking) < kl_to_posterior(x, *covering)
assert minus_kl_from_posterior(*seeking) < minus_kl_from_posterior(*covering)
assert 0 < kl_to_posterior(x, *seeking) - math.log(2) < 0.02

# %% [markdown] key="two-modes-before"
# Cada uma ganha no seu jogo e perde feio no da outra. A próxima figura mostra as duas. A $q$ que cobre a massa tem o pico justamente onde a posteriori tem um vale: amostre dela, e a maior parte do que ela propõe dificilmente teria produzido $x$. A que busca uma moda só propõe boas explicações, e não sabe que há outras.

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
# O codificador de um VAE maximiza o ELBO; logo, para um decodificador dado, minimiza $\mathrm{KL}(q \,\|\, p)$: busca uma moda. Não conclua que tem de ser assim: é uma escolha, feita porque de $q$ sabemos amostrar, e da posteriori, não.

# %% [markdown] key="digit"
# ## 8. O mesmo balanço, para um dígito
#
# Agora deixe o brinquedo de lado. O VAE da lição 00 tem duas latentes, portanto a sua integral corre sobre um plano, e um plano ainda se pode somar. Nada mais muda: 784 pixels no lugar de dois números, uma rede no lugar da curva, e o $q(z \mid x)$ do codificador no lugar de um escolhido por nós.
#
# Se o modelo ainda não está guardado, a próxima célula o treina, em menos de um minuto.

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
# Primeiro o quadro geral: para 500 imagens de teste, o $\log p(x)$ exato por `exact.log_likelihood` e o ELBO na média de 64 amostras. O histograma mostra a lacuna de cada imagem. Com 64 amostras, o próprio ELBO é uma estimativa, e onde a lacuna é minúscula a diferença pode até sair negativa: tudo o que fica abaixo de um centésimo de nat está na primeira barra. Não escolhemos no olho qual dígito examinar: tomamos o da lacuna *mediana*, o que fica no meio dos 500.

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
# Agora esse único dígito, em float64 e com os três números calculados cada um por si. À mão: uma grade de 300 × 300 pontos sobre $[-5, 5]^2$, a conjunta em cada um, e a soma. Do pacote: `exact.log_likelihood` e `exact.posterior`, que precisam concordar com os nossos. O ELBO: a reconstrução, na média sobre o $q$ do codificador na grade, menos a KL até a priori em forma fechada. A lacuna: a KL de $q$ até `exact.posterior`. A conta fecha?

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
    mu, logvar = double.encode(x)  # (1, 2) cada
joint = reconstructions + densities.log_standard_normal(plane)  # (90000,)
by_hand = joint.logsumexp(0).item() + math.log(cell)
packaged = exact.log_likelihood(double, x, grid=300).item()
density = exact.posterior(double, x, grid=300)[0]  # (300, 300)
assert abs(by_hand - packaged) < 1e-6
ours = (joint - by_hand).exp().reshape(300, 300)
assert torch.allclose(ours, density, rtol=1e-6, atol=1e-9)

log_q = densities.log_normal(plane, mu, logvar)  # (90000,)
q = log_q.exp() * cell  # (90000,) massa de cada casa
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
# Fecha: a última linha é a sobra. Agora veja que cara têm esses nats. À esquerda, o dígito. No meio, o plano latente inteiro: os anéis contêm 50% e 95% da priori, e a posteriori verdadeira é aquela manchinha. À direita, a manchinha ampliada. Em verde, linha cheia, as regiões que contêm 50% e 95% da posteriori; em laranja, tracejadas, as do $q$ do codificador. A lacuna mede a diferença entre as duas formas.

# %% key="digit-picture"
def levels_of(density, cell):  # as alturas cujas regiões contêm 95% e 50%
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
fine = torch.cartesian_prod(*near)  # (14400, 2), a janela
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
# ### Quantas amostras para este dígito?
#
# A fórmula da seção 2 vale sem mudança, com o plano no lugar da reta. A próxima célula calcula $\rho$ para este dígito: primeiro no modo ingênuo, que amostra da priori. Depois numa mistura, metade priori e metade $q$ do codificador: amostragem por importância com o codificador de guia. O número impresso é de quantas amostras se precisa para um erro de cerca de 0,1 nat em $\log p(x)$.
#
# Por que metade priori, outra vez? Porque só com $q$ **a variância é infinita**, e a quadratura mostra isso. A variância é uma integral de $p(z \mid x)^2 / q(z \mid x)$. Longe do centro, os logits deste decodificador não crescem mais depressa que $|z|$; por isso a posteriori, por estreita que seja no pico, não cai mais depressa que $e^{-z^2/2 - b|z|}$. As caudas de $q$ caem como $e^{-z^2 / 2\sigma^2}$. Com $\sigma^2 < \frac{1}{2}$, a razão cresce sem fim. As últimas linhas imprimem essa integral em quadrados cada vez maiores, como potência de dez. Ela não sossega. Com metade de priori na mistura, nenhum peso passa do dobro do que o modo ingênuo lhe daria.

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
# ## 9. Então, quão apertado ele é?
#
# A próxima célula dá a resposta para as 500 imagens de teste. A média da lacuna vem com o seu erro padrão; ao lado, a mediana e a fração das imagens que perdem menos de um nat. As asserções do fim, com os balanços que fecharam nas seções 4 e 8, são a resposta à pergunta desta lição, como fato medido: o ELBO fica abaixo de $\log p(x)$ por $\mathrm{KL}(q \,\|\, p(z \mid x))$, nem mais, nem menos; para uma imagem típica, isso é coisa de um nat; e para umas poucas passa de dez nats, de modo que a média fica bem acima da mediana.

# %% key="answer-measured"
error = train.standard_error(gaps)
numbers = {"mean": gaps.mean().item(), "error": error, "median": gaps.median().item()}
print(say("elbo-answer-exact", value=many_exact.mean().item()))
print(say("elbo-answer-elbo", value=many_elbo.mean().item()))
print(say("elbo-answer-gap", **numbers, share=(gaps < 1).float().mean().item()))

assert numbers["mean"] > 4 * error  # há lacuna, de fato
assert 0.3 < numbers["median"] < 4
assert numbers["mean"] > 1.5 * numbers["median"]
assert gaps.max() > 10

# %% [markdown] key="next"
# Por que umas poucas imagens perdem tanto? A culpa é da gaussiana, que não consegue tomar a forma da posteriori, ou do codificador, que não achou a melhor gaussiana? A lição 06 separa as duas, em todas as imagens de teste. Como um gradiente atravessa as amostras de $q$, que aqui evitamos com uma grade, é a lição 03.
#
# **Para ler.** Kingma e Welling (2013), *Auto-Encoding Variational Bayes*, equações 1 a 3, que são o segundo caminho desta lição. Rezende, Mohamed e Wierstra (2014), que tomaram o primeiro. Burda, Grosse e Salakhutdinov (2015), que tiram a média dos pesos antes do logaritmo: o exercício 3 é o limite deles. Cremer, Li e Duvenaud (2018), sobre as duas causas da lacuna.

# %% [markdown] key="exercises"
# ## Exercícios
#
# Escreva a sua resposta no lugar das reticências e execute a célula. A verificação responde na hora: certo, ou uma pista. As soluções estão recolhidas logo abaixo de cada questão.
#
# ### 1. O ELBO numa grade
#
# Você recebe o logaritmo de uma conjunta, `log_joint`, de forma `(Z,)`, nos pontos `z`, `(Z,)`, igualmente espaçados; e os parâmetros de uma gaussiana $q$, `mu` e `logvar`, dois números. Devolva o ELBO: um tensor com um número só. A conjunta da verificação não é a do brinquedo, e o espaçamento não é 0,01.

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
# ### 2. Uma KL por Monte Carlo
#
# A KL até a priori só tem fórmula porque tudo nela é gaussiano. Com outra priori seria preciso amostrar. Escreva a estimativa: `z`, de forma `(S, B, L)`, são $S$ amostras de $q = \mathcal{N}(\mu, \sigma^2)$ para cada uma de $B$ imagens; `mu` e `logvar` são `(B, L)`. Devolva a estimativa de Monte Carlo de $\mathrm{KL}(q \,\|\, \mathcal{N}(0, I))$, um número por imagem, com exatamente essas amostras. As funções de `densities` podem ajudar.

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
# ### 3. Encontre o erro: um limite que não sobe
#
# Com $k$ amostras de $q$, Burda, Grosse e Salakhutdinov (2015) tiram a média dos pesos *antes* do logaritmo. O resultado ainda é um limite inferior e, em média, sobe até $\log p(x)$ à medida que $k$ cresce. Alguém escreveu a função abaixo e se surpreendeu: com 1.000 amostras, o limite do conjunto de teste era o mesmo que com uma. Nenhum erro, nenhum aviso. Encontre o erro e corrija-o, sem olhar a pista. `log_weights` tem forma `(k, B)`; o peso de uma imagem pode ser $e^{-900}$, que nenhum float representa.

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
# ### 4. Encontre o erro: uma priori com modas fantasmas
#
# Outra priori, então: uma mistura de duas gaussianas de mesmo peso, com centros em $(3, 3)$ e $(-3, -3)$ e covariância identidade. A função abaixo deveria devolver a log-densidade dessa mistura em cada linha de `z`, `(B, 2)`. Ela já circulou em código publicado. No ponto $(3, -3)$, longe dos dois centros, ela diz $-3{,}22$; o valor certo é $-19{,}84$. O que foi que ela pôs ali, e quantas modas ela tem ao todo? Corrija-a.

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
# <details><summary>Resposta da pergunta</summary>
#
# Ela pôs ali uma moda. A densidade que devolve é o produto de duas misturas de uma dimensão: cada coordenada escolhe o seu centro por conta própria. Ela tem quatro modas de mesma massa, em $(\pm 3, \pm 3)$, duas das quais ninguém pediu. Primeiro se soma sobre as coordenadas, em cada componente; só depois se mistura. E o treinamento não reclama, porque esta densidade também integra 1.
#
# </details>
