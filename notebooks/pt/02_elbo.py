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
# # De onde vem o limite inferior, e quão apertado ele é?
#
# **Ao final, você saberá** deduzir o ELBO por dois caminhos; explicar e calcular o que falta a ele para chegar a $\log p(x)$; prever de quantas amostras o Monte Carlo ingênuo precisa; e reconhecer uma posteriori que nenhuma gaussiana consegue imitar.
#
# **Você precisa da** lição 00, de integrais e de logaritmos.
#
# **Tempo:** 35 minutos de leitura; cerca de dois minutos de processamento em dois núcleos. Na primeira vez, acrescente de um a três minutos, porque a seção 9 treina o VAE da lição 00 e o salva. Os gráficos e algumas verificações estão em células recolhidas, que você pode pular.
#
# Na lição 00, você queria maximizar $\log p(x)$, mas maximizou o ELBO, que fica abaixo dele. Se a distância entre os dois é desprezível, ou é a mesma para todos os modelos, nada se perde. Caso contrário, o modelo de maior ELBO pode não ser o melhor. **Qual é essa distância?** No fim, você terá a resposta para um VAE treinado, imagem por imagem, em nats (a unidade do logaritmo natural). Nos resultados impressos, o número depois do sinal ± é um erro padrão.

# %% key="setup"
import copy
import math

import torch
from numpy.polynomial.hermite_e import hermegauss

from vae_teach import bounds, data, densities, exact, figures, sliders, train
from vae_teach.checks import elbo as checks
from vae_teach.words import say, use_language

use_language("pt")
COLORS = figures.COLORS


def float64(value):
    return torch.tensor(value, dtype=torch.float64)


# %% [markdown] key="toy"
# ## 1. Um mundo onde nada se esconde
#
# Para saber a que distância de $\log p(x)$ fica um limite, precisamos conhecer a resposta exata. Por isso, construímos um mundo pequeno o bastante para que possamos calculá-la: **uma** variável latente e **dois** números observados. O decodificador transforma a reta real numa curva do plano, e observamos um ponto da curva mais ruído:
#
# $$z \sim \mathcal{N}(0, 1), \qquad f(z) = \left(z - 2 \sin z,\; \tfrac{3}{2} \cos z\right), \qquad x \mid z \sim \mathcal{N}(f(z), 0{,}4^2 I).$$
#
# A próxima figura mostra a curva, com alguns valores de $z$ marcados ao longo dela, e 400 amostras do modelo. A curva cruza a si mesma de propósito. Três observações vão nos acompanhar: **A**, dentro do laço; **B**, perto do cruzamento; e **C**, sobre a curva, mas num trecho em que raramente caem amostras da priori.

# %% key="toy-model"
noise = 0.4  # desvio padrão em cada coordenada de x


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
# ### Como calcular a integral
#
# A integral $p(x) = \int p(x \mid z)\, p(z)\, dz$ é sobre uma única reta. Dividimos a reta em intervalos estreitos e somamos as áreas: é a *quadratura*. Se a função integrada é suave e se anula nas duas pontas, a soma converge muito depressa: com dez intervalos na largura do pico da função, o erro já é menor que o de arredondamento. E nada no nosso mundo é mais estreito que dez intervalos de 0,01. Guardamos os termos como logaritmos e os somamos com `logsumexp`, para que nenhum seja arredondado para zero. Para conferir, a célula soma $p(x)$ sobre o plano inteiro e exige que o resultado seja 1, com erro menor que $10^{-4}$.

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
parts = [log_evidence(part, z[::10]) for part in plane.split(1000)]  # (1000,) cada
density = torch.cat(parts).exp().reshape(181, 71)
total = density.sum().item() * (across[1] - across[0]).item() * (up[1] - up[0]).item()

assert abs(total - 1) < 1e-4
print(say("elbo-total", total=total))
for name, x in observed.items():
    print(say("elbo-exact", name=name, value=log_evidence(x).item()))

# %% [markdown] key="posteriors"
# Com $p(x)$ em mãos, temos também a *posteriori*, $p(z \mid x) = p(x, z) / p(x)$, que diz quais $z$ podem ter produzido o que vimos. Para **A**, ela é uma corcova assimétrica. Para **B**, tem duas corcovas, porque, perto do cruzamento, dois trechos da curva explicam o mesmo ponto. Para **C**, é uma agulha longe do centro da priori.

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
# ## 2. De quantas amostras o método ingênuo precisa?
#
# Sem quadratura, podemos tirar a média de $p(x \mid z)$ sobre amostras da priori:
#
# $$p(x) \approx \hat p(x) = \frac{1}{n} \sum_{i=1}^{n} p(x \mid z_i), \qquad z_i \sim p(z).$$
#
# Em média, $\hat p(x)$ acerta, mas cada estimativa isolada se afasta da resposta. Pela regra de Bayes, cada termo dividido por $p(x)$ é $p(z_i \mid x) / p(z_i)$. A média desse quociente é 1. A variância, que é a média do quadrado menos 1, é mais uma integral que sabemos calcular com exatidão:
#
# $$\frac{\mathrm{Var}[\hat p(x)]}{p(x)^2} = \frac{\rho}{n}, \qquad \rho = \int \frac{p(z \mid x)^2}{p(z)}\, dz - 1.$$
#
# Esse $\rho$ é a *divergência qui-quadrado* da posteriori em relação à densidade da qual amostramos. Ele é grande quando a posteriori é estreita ou fica longe da priori. Para que a raiz do erro quadrático médio seja de 10% em $p(x)$, o que dá cerca de 0,1 nat em $\log p(x)$, são necessárias $n = \rho / 0{,}1^2$ amostras.

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
# Para C, são necessárias mais de dezoito mil amostras, porque as da priori quase nunca caem na agulha. Na *amostragem por importância*, as amostras vêm de outra densidade $q$, concentrada ali, e cada uma recebe o peso $p(x, z) / q(z)$, que compensa a troca:
#
# $$p(x) = \mathbb{E}_{q(z)}\!\left[\frac{p(x, z)}{q(z)}\right].$$
#
# Seja $g$ uma gaussiana centrada na agulha. Com $\sigma = 0{,}3$, ela tem o dobro da largura da agulha e, mesmo assim, seu $\rho$ é enorme, **porque, longe dali, suas caudas são mais leves que as da posteriori**. Nas caudas, a primeira coordenada de $f(z)$ é $z$ mais um termo limitado, e a segunda é limitada; por isso, a posteriori cai como uma gaussiana de largura $1 / \sqrt{1 + 1 / 0{,}4^2} = 0{,}37$. As duas densidades são minúsculas, mas $g$ fica tantas ordens de grandeza abaixo da posteriori que o quociente entre as duas explode. (Uma execução mal notaria isso: as amostras nunca visitam esses lugares. Mas também não notaria uma corcova esquecida, e nenhuma barra de erro calculada com as amostras distingue os dois casos.) Já uma gaussiana larga ($\sigma = 0{,}8$) funciona bem. Na dúvida, o mais seguro é **tirar da priori metade das amostras**, com $q = \frac{1}{2} g + \frac{1}{2} p$. Assim, $q \ge \frac{1}{2} p$, e nenhum peso passa de $2\, p(x \mid z)$. Para cada $q$, a célula imprime $\rho$, agora com esse $q$ no denominador.

# %% key="importance-price" tags=["nbval-check-output"]
x = observed["C"]
narrow, wide = (log_normal(z, 2.7, 2 * float64(s).log()) for s in (0.3, 0.8))
half = torch.logaddexp(narrow, log_prior(z)) - math.log(2)  # (Z,)
proposals = {"prior": log_prior(z), "narrow": narrow, "wide": wide, "half": half}
rhos = {kind: relative_variance(x, log_q) for kind, log_q in proposals.items()}
for kind, rho in rhos.items():
    print(say(f"elbo-rho-{kind}", rho=rho))

worst = (2 * log_posterior(x) - narrow).argmax()  # onde o integrando é máximo
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
# A célula recolhida mediu o erro de 500 estimativas, cada uma com 1.024 amostras. Os erros medidos batem com os previstos, até onde 500 estimativas permitem ver. Um bom $q$ não altera o $1/\sqrt n$, e sim o fator que o multiplica: aqui, a priori sozinha precisaria de umas oitenta vezes mais amostras. O valor de $\rho$ diz quão bom é um $q$, mas calculá-lo exige a posteriori exata, e uma estimativa dele depende das amostras mais raras. Precisamos de um número que possa ser bem estimado só com amostras de $q$ e que possamos aumentar seguindo um gradiente.

# %% [markdown] key="jensen"
# ## 3. O primeiro caminho: Jensen
#
# Os pesos $w = p(x, z) / q(z)$ têm média $p(x)$. E se tirarmos a média dos *logaritmos* desses pesos? O logaritmo é côncavo: cai mais com um peso pequeno do que sobe com um grande. Por isso, a média dos logaritmos fica abaixo do logaritmo da média. É a desigualdade de Jensen, e o lado esquerdo é o ELBO:
#
# $$\mathrm{ELBO} = \mathbb{E}_{q}\!\left[\log \frac{p(x, z)}{q(z)}\right] \;\le\; \log \mathbb{E}_{q}\!\left[\frac{p(x, z)}{q(z)}\right] = \log p(x).$$
#
# Na próxima figura, $x$ é A, e $q$ é uma gaussiana escolhida às pressas ($\mu = 0$, $\sigma = 0{,}8$). Dividimos $q$ em doze pedaços de mesma massa, e cada ponto mostra o peso no meio de um deles. O losango preto marca a média dos pesos em relação ao $q$ inteiro, e não só a dos doze; essa média é $p(x)$. A linha tracejada é o logaritmo da média, e a cheia é a média dos logaritmos. A faixa entre as duas é o que se perde na desigualdade de Jensen. Ela só desapareceria se todos os pesos fossem iguais.

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
# ## 4. O segundo caminho: Bayes
#
# A desigualdade de Jensen diz que algo se perde, mas não diz o quê. Para descobrir, precisamos da *divergência de Kullback-Leibler* de $q$ em relação a outra densidade $r$. Ela mede em quantos nats, em média, as amostras de $q$ são mais prováveis segundo $q$ do que segundo $r$. De novo por Jensen, essa divergência nunca é negativa:
#
# $$\mathrm{KL}(q \,\|\, r) = \mathbb{E}_q\!\left[\log \frac{q(z)}{r(z)}\right] = -\,\mathbb{E}_q\!\left[\log \frac{r(z)}{q(z)}\right] \;\ge\; -\log \mathbb{E}_q\!\left[\frac{r(z)}{q(z)}\right] \ge -\log 1 = 0.$$
#
# (A última média é menor que 1 se $r$ tem massa onde $q$ não tem.) A divergência só é zero se o quociente é constante, isto é, se $q = r$. Agora usamos a regra de Bayes, que vale para *todo* $z$:
#
# $$\log p(x) = \log p(x, z) - \log p(z \mid x) = \log \frac{p(x, z)}{q(z)} + \log \frac{q(z)}{p(z \mid x)}.$$
#
# Tiramos a média dos dois lados em relação a $q$. O lado esquerdo não depende de $z$ e, por isso, fica como está:
#
# $$\log p(x) = \underbrace{\mathbb{E}_q\!\left[\log \frac{p(x, z)}{q(z)}\right]}_{\mathrm{ELBO}} + \underbrace{\mathbb{E}_q\!\left[\log \frac{q(z)}{p(z \mid x)}\right]}_{\mathrm{KL}(q \,\|\, p(z \mid x))}.$$
#
# Aqui não há desigualdade nenhuma. **O que se perde na desigualdade de Jensen é a divergência de $q$ em relação à posteriori verdadeira.** Como ela nunca é negativa, o ELBO é um limite inferior. Como ela se anula quando $q$ é a posteriori, esse limite pode ser atingido. E, como $\log p(x)$ não depende de $q$, quando uma mudança de $q$ faz o ELBO subir, a divergência desce o mesmo tanto. (Na seção 8, o modelo também muda, e isso deixa de valer.)
#
# A próxima célula imprime o balanço de A e o de B, com o mesmo $q$ de antes. Na mesma grade, os dois lados são a mesma soma: o balanço fecha por pura álgebra, e conferi-lo só testa o nosso código. Por isso, seguimos também **outro caminho, sem grade**: estimamos $\log p(x)$ com 200.000 amostras da priori e o ELBO com 200.000 amostras de $q$. A menos do erro de amostragem, a diferença entre os dois tem de coincidir com a KL calculada na grade.

# %% key="kl-route-numbers" tags=["nbval-check-output"]
def kl_to_posterior(x, mu, logvar):
    log_q = log_normal(z, mu, logvar)  # (..., Z)
    return (log_q.exp() * (log_q - log_posterior(x))).sum(-1) * dz  # (...,)


def gap_by_draws(x, n=200_000):  # e o erro padrão
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
# ### A forma usada no treinamento
#
# O modelo vai num sentido, e $q$ vai no outro. Escrevemos $q(z \mid x)$ para lembrar que cada $x$ tem o seu próprio $q$:
#
# $$z \;\; \underset{\textstyle q(z \mid x)}{\overset{\textstyle p(x \mid z)}{\rightleftarrows}} \;\; x, \qquad z \sim p(z).$$
#
# Quando fatoramos a distribuição conjunta, aparecem os dois termos da lição 00:
#
# $$\mathrm{ELBO} = \mathbb{E}_q[\log p(x \mid z) + \log p(z) - \log q(z)] = \mathbb{E}_q[\log p(x \mid z)] - \mathrm{KL}(q \,\|\, p(z)).$$
#
# Cuidado: **há duas divergências de Kullback-Leibler.** A de $q$ em relação à priori está *dentro* do ELBO e tem fórmula. A de $q$ em relação à posteriori é o que *falta* ao ELBO e não tem fórmula. A célula recolhida confere se o pacote dá os mesmos valores que a nossa grade.

# %% key="two-terms-checked" jupyter={"source_hidden": true} tags=["hide-input"]
class Toy:  # o que o pacote exige de um modelo
    def encode(self, x):
        return mu.expand(len(x), 1), logvar.expand(len(x), 1)  # (B, 1) cada

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
# ## 5. Mão na massa
#
# Escolha uma observação e ajuste a média $\mu$ e a largura $\sigma$ de $q$. À direita, duas barras descem do zero: a de $\log p(x)$, que não se mexe, pois nenhum $q$ altera esse valor, e a do ELBO, que desce mais. A terceira, a da lacuna, vai do fim de uma ao fim da outra. As barras longas demais são cortadas embaixo, mas os números continuam certos.
#
# Experimente três coisas. Com A, reduza a lacuna o máximo que puder: você chegará a menos de 0,08 nat, mas nunca a zero, porque a posteriori é assimétrica e a gaussiana não é. Com B, quão perto de 0,7 nat fica a menor lacuna? A seção 7 explica por que a lacuna não fica menor que isso. Com C, ponha $\mu$ em 0 e veja quanto custa procurar no lugar errado.

# %% key="pull-picture" jupyter={"source_hidden": true} tags=["hide-input"]
FLOOR = -9.0  # nats, onde a figura acaba


def draw_balance(point, mu, sigma):
    x, logvar = observed[point], 2 * float64(sigma).log()
    top, bound = log_evidence(x).item(), elbo(x, mu, logvar).item()
    gap = kl_to_posterior(x, mu, logvar).item()
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


# %% key="pull-panel"
panel = sliders.panel(
    draw_balance,
    point=sliders.choice("x", list(observed)),
    mu=sliders.slider(r"$\mu$", -3, 3, step=0.1, value=0.5),
    sigma=sliders.slider(r"$\sigma$", 0.1, 1.5, step=0.05, value=0.5),
)
panel

# %% key="pull-swept" jupyter={"source_hidden": true} tags=["hide-input"]
# leva cada controle às duas pontas e de volta: a figura muda a cada vez
assert sliders.sweep(panel) == 6
panel.controls["point"].value, panel.controls["mu"].value = "B", 1.8
panel.controls["sigma"].value = 0.2
assert "B" in panel.picture.alt
panel.controls["point"].value, panel.controls["mu"].value = "A", -0.7
panel.controls["sigma"].value = 0.4
every = float64([k / 10 for k in range(-30, 31)])[:, None, None]  # cada posição
stops = 2 * float64([k / 20 for k in range(2, 31)]).log()[:, None]
closest = {k: kl_to_posterior(x, every, stops).min() for k, x in observed.items()}
assert 0.05 < closest["A"] < 0.08
assert closest["B"] > 0.7

# %% [markdown] key="ascent"
# ## 6. Deixe o gradiente trabalhar
#
# Ajustar $q$ para aumentar o ELBO é o que se chama *inferência variacional*, e você acaba de fazê-la à mão. O gradiente ascendente, em $\mu$ e $\log \sigma^2$, faz isso melhor. Como a conta é feita na grade, o gradiente não tem ruído.
#
# A próxima figura mostra o ELBO de B visto de cima. As curvas de nível ficam 1, 2, 4, 8, 16 e 32 nats abaixo de $\log p(x)$, e as regiões mais claras são as mais altas. A curva tracejada, 5,36 nats abaixo, tem três ramos, um em volta de cada pico (os laterais se fecham fora da figura, embaixo). De quatro pontos de partida (os círculos) saem quatro caminhos, que sobem até as estrelas. Veja onde cada um termina.

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
high = torch.linspace(-4.5, 1.0, 111, dtype=torch.float64)  # log sigma²
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
assert len(around) == 3 > len(beyond)  # a borda fica entre os dois níveis
figure

# %% [markdown] key="ascent-ends"
# Os dois picos laterais são imagens especulares um do outro e têm a mesma lacuna, de 0,70 nat. No pico do meio, a lacuna é de 5,34: ali, o $q$ é largo e se estende sobre as duas corcovas e o vale entre elas. Para sair desse pico, bastaria descer alguns centésimos de nat, mas o gradiente ascendente nunca desce, e a subida termina ali. O resultado depende, portanto, do ponto de partida.

# %% key="ascent-checked" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output"]
for path, gradient in zip(paths, gradients, strict=True):
    assert gradient.norm() < 1e-6  # está parado
    values = elbo(x, path[::50, :1], path[::50, 1:])  # (51,)
    assert (values.diff() > -1e-9).all()  # nunca desceu
    mu, logvar = path[-1]
    nearby = float64([[-0.02, 0], [0.02, 0], [0, -0.02], [0, 0.02]])  # (4, 2)
    around = elbo(x, mu + nearby[:, :1], logvar + nearby[:, 1:])  # (4,)
    assert (around < values[-1]).all()  # um pico, e não uma sela
    numbers = {"mu": round(mu.item(), 4) + 0.0, "sigma": math.exp(logvar / 2)}
    print(say("elbo-end", **numbers, gap=kl_to_posterior(x, mu, logvar).item()))

ends = log_evidence(x) - elbo(x, paths[:, -1, :1], paths[:, -1, 1:])  # (4,)
wanted = float64([0.70, 5.34, 0.70, 0.70])
assert torch.allclose(ends, wanted, rtol=0, atol=0.005)

# %% [markdown] key="two-modes"
# ## 7. Uma posteriori que nenhuma gaussiana imita
#
# Em cada pico lateral, o $q$ fica sobre *uma* das corcovas de B e ignora a outra. Por que não compensa cobrir as duas? Aqui, $p$ abrevia a posteriori, $p(z \mid x)$. A divergência $\mathrm{KL}(q \,\|\, p) = \mathbb{E}_q[\log q - \log p]$ é uma média em relação a $q$. Se $q$ põe massa onde a posteriori quase não tem nenhuma, o preço é enorme. Se a posteriori tem massa onde $q$ não tem, isso nem entra na média. Com um vale fundo como o de B, o melhor $q$ se concentra numa corcova só: ele *busca uma moda*. Isso vale para o melhor $q$, mas nem todo pico é assim: no pico do meio, $q$ cobre as duas corcovas.
#
# Dá para prever o preço de ignorar metade da massa. Na corcova em que está, $q$ é mais ou menos o dobro da posteriori, o que custa $\log 2 = 0{,}693$ nat. O resto dos 0,70 se deve à forma da corcova, que não é exatamente gaussiana.
#
# Se invertemos a divergência, a exigência também se inverte. Agora, $\mathrm{KL}(p \,\|\, q) = \mathbb{E}_p[\log p - \log q]$ é uma média em relação à posteriori: onde *ela* tem massa, $q$ precisa ter alguma. Segundo esse critério, o melhor $q$ *cobre a massa*: anulando as derivadas de $\mathbb{E}_p[\log q]$, vemos que ele tem a média e a variância da posteriori. A próxima célula chega a ele por gradiente ascendente e compara as duas soluções. Na figura, a curva pontilhada é a solução espelhada, que busca a outra moda.

# %% key="two-modes-checked" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output"]
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

# os dois picos são imagens especulares
assert torch.allclose(other * float64([-1.0, 1.0]), seeking, atol=1e-5)
assert kl_to_posterior(x, *seeking) < kl_to_posterior(x, *covering)
assert minus_kl_from_posterior(*seeking) < minus_kl_from_posterior(*covering)
assert 0 < kl_to_posterior(x, *seeking) - math.log(2) < 0.02
assert posterior[1200] < 0.001 * posterior.max()  # o vale, em z = 0

# %% [markdown] key="two-modes-before"
# Cada solução é a melhor segundo o próprio critério e é ruim segundo o da outra. O $q$ que cobre a massa tem o pico justamente onde a posteriori tem um vale, e muitos dos valores que ele propõe dificilmente teriam produzido $x$. Já o outro, que busca uma moda, só propõe boas explicações, mas deixa as demais de fora.

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
# ## 8. E quando o modelo também aprende?
#
# No treinamento, os parâmetros $\theta$ do modelo são ajustados para aumentar o mesmo ELBO. O nosso modelo terá um só parâmetro, $a$, que controla quanto a curva se dobra: $f_a(z) = (z - a \sin z, \frac{3}{2} \cos z)$. Os dados são 40 amostras do modelo verdadeiro, em que $a = 2$. Partimos de $a = 1$ e subimos em rodadas: em cada uma, ajustamos primeiro o $q$ de cada observação e depois $a$, com todos os $q$ fixos. Só o termo $\mathbb{E}_q[\log p(x \mid z)]$ depende de $a$. Como ele é uma parábola em $a$, o vértice sai por mínimos quadrados.
#
# Com $q$ fixo, o ELBO em função de $\theta$ é uma curva que fica abaixo de $\log p_\theta(x)$. Se $q$ é a posteriori exata para o $\theta$ atual, as duas curvas se tocam nesse ponto. Se, a partir dali, mudamos $\theta$ e o ELBO sobe, $\log p$ sobe pelo menos o mesmo tanto. É o algoritmo *EM* (esperança-maximização). Se $q$ é uma gaussiana, porém, sobra uma lacuna, **e ela depende de $\theta$**: a subida também é atraída para onde a lacuna é pequena.
#
# Fazemos a subida duas vezes: uma com posterioris exatas, outra com gaussianas. As duas ficam na região do pico que $\log p$ tem perto de $a = 0{,}8$, e é ali que as comparamos. (Perto de $a = 2$, fora da figura, há outro pico, mais alto; a célula imprime $\log p$ ali.) Na figura, cada curva laranja é o ELBO com os $q$ de uma rodada mantidos fixos, e o ponto sobre ela marca o $a$ em que a rodada começou; só as quatro primeiras aparecem. A estrela marca o fim da subida com gaussianas, e o triângulo de ponta para baixo marca $\log p$ nesse mesmo $a$. O triângulo de ponta para cima marca o fim da subida com posterioris exatas.

# %% key="theta-model" jupyter={"source_hidden": true} tags=["hide-input"]
torch.manual_seed(0)
truth = torch.randn(40, dtype=torch.float64)
seen = decode(truth) + noise * torch.randn(40, 2, dtype=torch.float64)  # (40, 2)
few, step = z[::5], 5 * dz  # (Y,)


def joint_of(bend):  # (40, Y) log p(x, z) com outro a
    curve = torch.stack((few - bend * torch.sin(few), 1.5 * torch.cos(few)), -1)
    squared = (seen[:, None] - curve).square().sum(-1)
    return -0.5 * squared / noise**2 - math.log(2 * math.pi * noise**2) + log_prior(few)


def evidence_of(bend):  # a média de log p(x)
    return (joint_of(bend).logsumexp(-1) + math.log(step)).mean().item()


def bound_of(bend, q):  # o ELBO médio; q (40, Y), uma densidade para cada x
    return ((q * (joint_of(bend) - q.clamp_min(1e-300).log())).sum(-1) * step).mean()


def best_bend(q):  # mínimos quadrados
    pull = torch.sin(few)
    return ((q * (few - seen[:, :1]) * pull).sum() / (q * pull**2).sum()).item()


def best_gaussians(bend, places):  # (40, 2), um pouco mais acima
    def value(mu, logvar):
        log_q = log_normal(few, mu, logvar)  # (40, Y)
        return (log_q.exp() * (joint_of(bend) - log_q)).sum(-1) * step

    return climb(value, places, steps=200)[0][:, -1]

# %% key="theta-turns" tags=["nbval-check-output"]
exact_q, touching = 1.0, []
for _ in range(30):
    q = joint_of(exact_q).softmax(-1) / step  # as posterioris exatas
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
assert (climbed.diff() > 0).all()  # o limite sobe em todas as rodadas
assert (reached.diff()[3:] < 0).all()  # e log p desce
assert ((reached - climbed).diff() < 0)[3:].all()  # a lacuna se estreita
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
# O ELBO sobe em todas as rodadas. Já $\log p$ sobe no começo e depois **desce**: nas últimas rodadas, o ELBO aumenta apenas porque a lacuna diminui. Depois de doze rodadas, a subida com gaussianas chegou a outro $a$, no qual $\log p$ fica 0,005 nat por observação abaixo do valor alcançado com posterioris exatas. Aqui a diferença é pequena, mas o que importa é o sentido da mudança: no fim, $\log p$ desce enquanto o ELBO sobe.
#
# ### O conjunto de dados inteiro
#
# Agora tiramos a média sobre os dados. Os dados e $q$ formam uma distribuição conjunta, $p_{\mathrm{data}}(x)\, q(z \mid x)$, e o modelo forma outra, $p(z)\, p(x \mid z)$. A menos de uma constante (a entropia dos dados, que ninguém pode mudar, com o sinal trocado), **o ELBO médio é o oposto da divergência da primeira em relação à segunda**:
#
# $$\mathbb{E}_{p_{\mathrm{data}}}\, \mathbb{E}_q\!\left[\log \frac{p(x, z)}{q(z \mid x)}\right] = \mathbb{E}_{p_{\mathrm{data}}}[\log p_{\mathrm{data}}(x)] - \mathrm{KL}(p_{\mathrm{data}}(x)\, q(z \mid x) \,\|\, p(z)\, p(x \mid z)).$$
#
# A média de todos os $q(z \mid x)$ é a *posteriori agregada* $\bar q(z)$. Como $\log \frac{q(z \mid x)}{p(z)} = \log \frac{q(z \mid x)}{\bar q(z)} + \log \frac{\bar q(z)}{p(z)}$, a KL que está dentro do ELBO se divide em duas partes:
#
# $$\mathbb{E}_{p_{\mathrm{data}}}\, \mathrm{KL}(q(z \mid x) \,\|\, p(z)) = \underbrace{\mathbb{E}_{p_{\mathrm{data}}}\, \mathrm{KL}(q(z \mid x) \,\|\, \bar q(z))}_{\text{informação de } z \text{ sobre } x} + \underbrace{\mathrm{KL}(\bar q(z) \,\|\, p(z))}_{\text{desajuste da priori}}.$$
#
# Para as 40 gaussianas da última rodada, quase tudo é informação:

# %% key="aggregate-split" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output"]
q = turns[-1][3]  # (40, Y)
aggregate = q.mean(0)  # (Y,)


def kl(p, q):  # entre densidades na grade mais grossa
    return (p * (p.clamp_min(1e-300) / q.clamp_min(1e-300)).log()).sum(-1) * step


by_formula = densities.kl_to_standard_normal(places[:, :1], places[:, 1:]).mean()
information, misfit = kl(q, aggregate).mean(), kl(aggregate, log_prior(few).exp())
names = {"information": information.item(), "misfit": misfit.item()}
print(say("elbo-aggregate", **names, kl=by_formula.item()))
assert abs(information + misfit - by_formula) < 1e-6
assert 0 < misfit < information < math.log(40)  # no máximo, z identifica qual é o x

# %% [markdown] key="digit"
# ## 9. O mesmo balanço, agora com dígitos
#
# Vamos sair do mundo pequeno. O VAE da lição 00 tem duas latentes, e num plano ainda dá para somar. Quatro coisas mudam: os dois números reais dão lugar a 784 pixels pretos ou brancos; o ruído gaussiano, a um ruído de Bernoulli; a curva, a uma rede; e a inferência passa a ser *amortizada*. Em vez de ajustarmos um $q$ para cada imagem, uma única rede, o codificador, aprende a adivinhar $q(z \mid x)$ para todas.
#
# Se o modelo ainda não estiver salvo, a próxima célula o treina.

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
# Começamos pelo conjunto de teste inteiro. A função `exact.log_likelihood` calcula $\log p(x)$ numa grade de 600 × 600 pontos. Se, numa grade três vezes mais grossa, o $\log p(x)$ de alguma imagem muda um nat ou mais, o cálculo dessa imagem é refeito numa grade mais fina. Para o ELBO, somamos a reconstrução em 8 × 8 pontos de $q$ (quadratura de Gauss-Hermite, própria para médias em relação a uma gaussiana). Assim, o ruído do sorteio não esconde a lacuna; com 64 pontos, o erro pode ser de alguns centésimos de nat. A função `bounds.elbo`, que usa sorteio, precisa dar a mesma média nas primeiras 500 imagens, a menos do erro de amostragem. A figura mostra o histograma da lacuna nas imagens de teste, com o eixo horizontal em escala logarítmica.

# %% key="digit-gaps"
nodes, weights = map(torch.from_numpy, hermegauss(8))
weights = weights / weights.sum()


@torch.no_grad()
def elbo_without_noise(x):  # (B, 784) em (B,)
    mu, logvar = model.encode(x)  # (B, 2) cada
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
difference = by_draws - elbos[:500]  # pareada: imagem por imagem
assert abs(difference.mean()) < 4 * train.standard_error(difference) < 0.1
assert gaps.min() > -0.05  # o que pode faltar com 64 pontos

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
# ### Quantas amostras um dígito exige?
#
# A fórmula da seção 2 continua valendo, com o plano no lugar da reta. Para as primeiras 500 imagens, a próxima célula calcula quantas amostras bastam para estimar $\log p(x)$ com erro de cerca de 0,1 nat, primeiro quando elas vêm da priori e depois quando vêm de uma mistura (metade da priori, metade do $q$ do codificador). Por que metade da priori, de novo? Por causa das caudas. A rede é linear por partes; por isso, longe do centro, os logits não crescem mais depressa que $|z|$, e a posteriori não cai mais depressa que $e^{-|z|^2/2 - b|z|}$, para alguma constante $b$. Se usássemos só $q$, a variância conteria a integral de $p(z \mid x)^2 / q(z)$, um quociente cujo expoente é $-|z|^2 + |z|^2 / (2 \sigma^2)$ mais termos menores. Essa integral é infinita se $\sigma^2 < \frac{1}{2}$ em alguma coordenada, o que acontece em quase todos os $q$ deste codificador.

# %% key="digit-needs" jupyter={"source_hidden": true} tags=["hide-input"]
def draws_needed(x):  # (B, 784) em (3, B): priori, mistura, o que falta a q
    density = exact.posterior(model, x, grid=300, extent=7.5).flatten(1)  # (B, G)
    points = exact.axis(300, 7.5, x)  # (300,)
    cell = (points[1] - points[0]).item() ** 2
    plane = torch.cartesian_prod(points, points)  # (G, 2)
    with torch.no_grad():
        mu, logvar = (part[:, None] for part in model.encode(x))  # (B, 1, 2) cada
    prior = densities.log_standard_normal(plane).exp()  # (G,)
    q = densities.log_normal(plane, mu, logvar).exp()  # (B, G)
    outside = ((plane - mu).square() * torch.exp(-logvar)).sum(-1) > 5.99  # fora
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
assert (many[1] < 2.1 * many[0] + 100).all()  # o dobro do peso, o dobro da variância
assert many[0].median() > 3 * many[1].median() > 300
assert missed > 0.1  # 5% se q fosse exato

# %% [markdown] key="digit-balance"
# Para a maioria das imagens, a mistura precisa de muito menos amostras que a priori, mas ainda precisa de muitas. Por quê, se a lacuna mediana é de cerca de um nat e meio? A terceira linha impressa diz quanto da posteriori fica fora da elipse que contém 95% de $q$. Fora dela, quase todas as amostras da mistura vêm da metade que cabe à priori, e poucas delas caem onde a posteriori tem massa. E, em cerca de uma de cada cinco imagens, $q$ cobre tão mal a posteriori que metade das amostras se perde. Nesses casos, a mistura chega a exigir o dobro das amostras da priori.
#
# Agora, vejamos um único dígito, escolhido por uma regra, e não a olho. Entre os 500, ele é o que fica mais perto da mediana, ao mesmo tempo, na lacuna, no número de amostras necessárias e em $\log p(x)$. De novo, o balanço fecha por pura álgebra, já que a grade é a mesma; por isso, a célula recolhida confere $\log p(x)$ por outro caminho, com 200.000 amostras da mistura.

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
def reconstruction_at(z):  # (Z, 2) em (Z,) log p(x|z)
    parts = [densities.log_bernoulli(x, double.decode_logits(p)) for p in z.split(1500)]
    return torch.cat(parts)


with torch.no_grad():
    mu, logvar = double.encode(x)  # (1, 2) cada
reconstructions = reconstruction_at(plane)  # (90000,)
log_p = densities.log_standard_normal(plane)  # (90000,)
log_q = densities.log_normal(plane, mu, logvar)  # (90000,)
by_hand = (reconstructions + log_p).logsumexp(0).item() + math.log(cell)
packaged = exact.log_likelihood(double, x, grid=300).item()
log_post = reconstructions + log_p - by_hand  # (90000,)
q = log_q.exp() * cell  # (90000,) massa de cada célula
bound = (q @ reconstructions - densities.kl_to_standard_normal(mu, logvar)).item()
gap = (q @ (log_q - log_post)).item()

print(say("elbo-digit-exact", value=packaged))
print(say("elbo-digit-elbo", value=bound))
print(say("elbo-digit-gap", value=gap))
print(say("elbo-digit-miss", value=packaged - bound - gap))
assert abs(by_hand - packaged) < 1e-6
assert abs(packaged - bound - gap) < 1e-3
assert abs(gap - gaps[chosen]) < 0.05
assert ((ranks[:, chosen] - 249.5).abs() < 83).all()  # no terço do meio

# %% key="digit-by-draws" jupyter={"source_hidden": true} tags=["hide-input"]
torch.manual_seed(0)
draws = torch.randn(200_000, 2, dtype=torch.float64)
draws[::2] = mu + torch.exp(0.5 * logvar) * draws[::2]  # metade vem de q
both = [densities.log_standard_normal(draws), densities.log_normal(draws, mu, logvar)]
mixture = torch.logaddexp(*both) - math.log(2)  # (200000,)
log_weights = reconstruction_at(draws) + both[0] - mixture
shares = (log_weights - by_hand).exp()  # (200000,), 1 em média
error = train.standard_error(shares) / shares.mean().item()
sampled = by_hand + shares.mean().log().item()
print(say("elbo-digit-sampled", value=sampled, error=error))
assert abs(sampled - packaged) < 4 * error < gap / 2

# %% [markdown] key="digit-before"
# Como essa lacuna aparece no plano? A próxima figura mostra, à esquerda, o dígito. No meio, está o plano latente: os círculos pontilhados contêm 50% e 95% da priori, e a posteriori é a região pequena em verde. À direita, esse trecho do plano aparece ampliado, com as regiões que contêm 50% e 95% de cada distribuição: as da posteriori, em verde; as do $q$ do codificador, em laranja, tracejadas; e as da gaussiana de coordenadas independentes com o maior ELBO, em preto, pontilhadas. A parte da lacuna que sobra mesmo com essa gaussiana se deve à forma da posteriori. O resto se deve ao codificador, que adivinhou outra gaussiana.

# %% key="digit-best"
best = exact.best_gaussian(double, x, grid=300)
shape = packaged - best.elbo.item()
print(say("elbo-digit-parts", shape=shape, encoder=gap - shape))
assert 0 < shape < gap

# %% key="digit-picture" jupyter={"source_hidden": true} tags=["hide-input"]
def levels_of(density, cell):  # as alturas cujas regiões contêm 95% e 50%
    ordered = density.flatten().sort(descending=True).values
    held = ordered.cumsum(0) * cell
    return [ordered[(held < mass).sum()].item() for mass in (0.95, 0.5)]


def shown_at(z, side):  # posteriori, q e a melhor gaussiana: (side, side) cada
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
# ## 10. Então, quão apertado ele é?
#
# O ELBO fica exatamente $\mathrm{KL}(q \,\|\, p(z \mid x))$ nats abaixo de $\log p(x)$, nem mais nem menos. Para uma imagem de teste típica, isso dá cerca de um nat e meio. Para uma imagem em cada nove, a lacuna passa de dez nats, e são essas imagens que puxam a média para bem acima da mediana.

# %% key="answer-measured"
error = train.standard_error(gaps)
low, middle, top = gaps.quantile(three).tolist()
shares = {"below": (gaps < 1).float().mean(), "above": (gaps > 10).float().mean()}
print(say("elbo-answer-exact", value=exacts.mean().item()))
print(say("elbo-answer-elbo", value=elbos.mean().item()))
print(say("elbo-answer-gap", mean=gaps.mean().item(), error=error))
print(say("elbo-answer-spread", low=low, middle=middle, top=top))
print(say("elbo-answer-shares", **{k: v.item() for k, v in shares.items()}))

assert gaps.mean() > 4 * error  # há lacuna, de fato
assert gaps.mean() > 1.5 * middle
if test_images.name == "mnist":
    assert 1.2 < middle < 1.8
    assert 1 / 10 < shares["above"] < 1 / 8

# %% [markdown] key="next"
# A culpa é da gaussiana, que não consegue tomar a forma da posteriori, ou do codificador, que não encontrou a melhor gaussiana? Um dígito só não prova nada; a lição 06 separa as duas causas em centenas de dígitos. Já a lição 03 mostra como um gradiente atravessa as amostras de $q$, que aqui evitamos com grades.
#
# **Para ler.** Kingma e Welling (2013), *Auto-Encoding Variational Bayes*, equações 1 a 3, seguem o segundo caminho. Rezende, Mohamed e Wierstra (2014) seguem o primeiro. Burda, Grosse e Salakhutdinov (2015) propõem o limite do exercício 3. Cremer, Li e Duvenaud (2018) tratam das duas causas da lacuna.

# %% [markdown] key="exercises"
# ## Exercícios
#
# Escreva a sua resposta no lugar das reticências e execute a célula. As soluções estão recolhidas logo abaixo.
#
# ### 1. O ELBO numa grade
#
# Você recebe o logaritmo de uma densidade conjunta, `log_joint`, de forma `(Z,)`, em pontos igualmente espaçados, `z`, de forma `(Z,)`. Recebe também os parâmetros de uma gaussiana $q$, `mu` e `logvar`, que são dois tensores escalares. Devolva o ELBO, um número só. A densidade conjunta usada na verificação não é a do mundo pequeno, e o espaçamento não é 0,01.

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
# A KL em relação à priori só tem fórmula porque tudo nela é gaussiano. Com outra priori, seria preciso amostrar. O tensor `z`, de forma `(S, B, L)`, contém $S$ amostras de $q = \mathcal{N}(\mu, \sigma^2)$ para cada uma das $B$ imagens; `mu` e `logvar` têm forma `(B, L)`. Devolva a estimativa de Monte Carlo de $\mathrm{KL}(q \,\|\, \mathcal{N}(0, I))$, um número por imagem, calculada com exatamente essas amostras. As funções de `densities` podem ajudar: ao contrário da nossa `log_normal`, elas somam ao longo do último eixo.

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
# Com $k$ amostras de $q$, o limite de Burda, Grosse e Salakhutdinov (2015) é $\log \frac{1}{k} \sum_i w_i$. Em média, ele ainda é um limite inferior e sobe em direção a $\log p(x)$ à medida que $k$ cresce. Alguém escreveu a função `their_bound` e se surpreendeu: com 1.000 amostras, o limite no conjunto de teste era o mesmo que com uma só, a menos do ruído. Encontre o erro e reescreva a função. O tensor `log_weights` tem forma `(k, B)`, e um peso pode ser tão pequeno quanto $e^{-900}$.

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
# ### 4. Encontre o erro: uma priori errada nos cantos
#
# Agora a priori é outra: uma mistura de duas gaussianas de mesmo peso, com centros em $(3, 3)$ e $(-3, -3)$ e covariância identidade. A função `their_log_prior` deveria devolver a log-densidade dessa mistura em cada linha do tensor `z`, que tem forma `(B, 2)`. No ponto $(3, -3)$, longe dos dois centros, ela devolve $-3{,}22$, mas o valor certo é $-19{,}84$. O que a função pôs ali? E quantas modas tem, ao todo, a densidade que ela devolve? Reescreva a função.

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
# <details><summary>Resposta às perguntas</summary>
#
# A função pôs ali uma moda. A densidade que ela devolve é o produto de duas misturas unidimensionais: cada coordenada escolhe um centro sem levar em conta a outra. Essa densidade tem quatro modas de mesma altura, em $(\pm 3, \pm 3)$, duas das quais ninguém pediu. O certo é primeiro somar as log-densidades das coordenadas, em cada componente, e só depois misturar. O treinamento não acusa o erro, porque a integral dessa densidade também é 1.
#
# </details>
