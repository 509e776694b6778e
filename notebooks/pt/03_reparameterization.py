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
# # Como um gradiente atravessa um sorteio?
#
# Entre o codificador e o decodificador há um sorteio. O treinamento precisa de uma derivada, e um sorteio não tem derivada. A lição 00 saiu do aperto com uma única linha, $z = \mu + \sigma\,\varepsilon$. Por que essa linha funciona? Quanto custariam as alternativas? E quando ela falha?
#
# **Ao final, você saberá** escrever três estimadores do mesmo gradiente, dizer quais não têm viés, avaliar o ruído de cada um e escolher entre eles diante de uma distribuição que você nunca viu. Saberá também reconhecer erros que não geram mensagem nenhuma: um codificador bloqueado, uma linha de base que vê a própria amostra, um objetivo substituto com $z$ preso ao grafo. Sempre que for possível calcular o gradiente exato, você comparará os estimadores com ele.
#
# **Você precisa da** lição 00.
#
# **Tempo:** 45 minutos de leitura; cerca de um minuto de processamento, e até um minuto a mais se o modelo treinado ainda não estiver no cache. As células que apenas fazem verificações, desenham figuras ou reúnem números estão recolhidas. A função `say` devolve uma frase do curso.

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

use_language("pt")

# %% [markdown] key="blocked-text"
# ## 1. O muro
#
# Primeiro, veja o que dá errado. A célula abaixo amostra $z$ de uma normal, como qualquer um faria, eleva a amostra ao quadrado e pede ao PyTorch a derivada em relação a $\mu$ e a $\sigma$. O PyTorch se recusa: a amostra é um número solto, sem nenhum registro de onde veio.

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
# ## 2. O que tem derivada
#
# Uma amostra não tem derivada. Mas o que nos interessa não é uma amostra, e sim a *média* $\mathbb{E}_{q(z)}[f(z)]$, com $q = \mathcal{N}(\mu, \sigma^2)$: é ela que queremos aumentar. E a média varia suavemente com $\mu$, pois é a curva em sino inteira que desliza sobre $f$.
#
# Para ter com que comparar, tome uma função $f$ cuja média tenha fórmula: $f(z) = z^2 + \sin 3z$. Sob $q$, como $\mathbb{E}[e^{3iz}] = e^{3i\mu - 9\sigma^2/2}$, temos
#
# $$\mathbb{E}[f(z)] = \mu^2 + \sigma^2 + e^{-9\sigma^2/2} \sin 3\mu.$$
#
# O gradiente dessa fórmula em relação a $\mu$ e a $\log \sigma^2$ (a seção 11 explica por que o logaritmo) é a **resposta exata** com que compararemos os estimadores das seções 3 a 6. Vamos calculá-lo em $\mu = 0{,}6$ e $\sigma = 0{,}5$. A célula faz a conta e confere o resultado com uma integral numérica, que não usa nem a fórmula nem a derivada dela.

# %% key="average" tags=["nbval-check-output"]
def f(z):
    return z**2 + torch.sin(3 * z)


def average(mu, logvar):
    variance = logvar.exp()
    return mu**2 + variance + torch.exp(-4.5 * variance) * torch.sin(3 * mu)


mu = torch.tensor(0.6, dtype=torch.float64, requires_grad=True)
logvar = torch.tensor(0.25, dtype=torch.float64).log().requires_grad_()
exact_gradient = torch.stack(torch.autograd.grad(average(mu, logvar), (mu, logvar)))

# Gauss-Hermite: uma soma em 60 nós que dá a integral em relação a N(0, 1)
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
# À esquerda da figura estão $f$ e duas curvas em sino; à direita, a média de $f$ à medida que a curva desliza. A média aplaina as ondas: resta cerca de um terço da altura delas e, à direita de $\mu = 0$, vê-se apenas uma leve ondulação. A reta tracejada é tangente ao gráfico da média no valor de $\mu$ que escolhemos. Sua inclinação é a derivada em relação a $\mu$ que a célula acima imprimiu.

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
# ## 3. O primeiro caminho: derivar a densidade
#
# Escreva a média como uma integral, $\int f(z)\, q(z)\, dz$. Os parâmetros estão em $q(z)$, e $q$ é derivável em relação a eles. Passe o gradiente para dentro da integral: $\nabla \int f q\, dz = \int f\, \nabla q\, dz = \int f\, q\, \nabla \log q\, dz$. O resultado é, de novo, uma média sob $q$:
#
# $$\nabla\, \mathbb{E}[f(z)] = \mathbb{E}\big[f(z)\, \nabla \log q(z)\big].$$
#
# É o **estimador por função escore**, que Williams (1992) chama de REINFORCE. Ele nunca deriva $f$, que pode ser o placar de um jogo, a saída de um programa ou a resposta de uma pessoa. A derivada $\nabla \log q(z)$ chama-se *escore*. No caso da normal, a expressão do escore é curta. Com $\varepsilon = (z - \mu)/\sigma$,
#
# $$\frac{\partial \log q}{\partial \mu} = \frac{\varepsilon}{\sigma}, \qquad \frac{\partial \log q}{\partial \log \sigma^2} = \frac{\varepsilon^2 - 1}{2}.$$
#
# A célula sorteia 5.000 grupos de quatro amostras, e cada grupo dá *uma* estimativa do gradiente. A média das 5.000 estimativas tem de ficar a menos de quatro erros padrão do gradiente exato.

# %% key="score"
groups, draws = 5000, 4
torch.manual_seed(0)
eps = torch.randn(groups, draws, dtype=torch.float64)  # (G, S)
sigma = torch.exp(0.5 * logvar).detach()
z = mu.detach() + sigma * eps  # (G, S)

score = torch.stack((eps / sigma, 0.5 * (eps**2 - 1)))  # (2, G, S)
by_score = f(z) * score  # (2, G, S)

# o autograd, que não conhece as nossas duas linhas, deriva log q numa amostra
log_q = Normal(mu, torch.exp(0.5 * logvar)).log_prob(z[0, 0])
by_autograd = torch.stack(torch.autograd.grad(log_q, (mu, logvar)))
assert torch.allclose(score[:, 0, 0], by_autograd)


def mean_and_error(each):  # (..., G, S): G estimativas, cada uma a média de S amostras
    estimates = each.mean(-1)  # (..., G)
    return estimates.mean(-1), estimates.std(-1) / math.sqrt(estimates.shape[-1])


def is_unbiased(each, target):
    mean, error = mean_and_error(each)
    return bool(((mean - target).abs() < 4 * error).all())


assert is_unbiased(by_score, exact_gradient)

# %% [markdown] key="baseline-text"
# ## 4. O mesmo estimador, com uma linha de base
#
# Some 1.000 a $f$. O gradiente da média não muda, mas cada termo $f(z)\,\nabla \log q(z)$ fica enorme, ora positivo, ora negativo. O ruído explode à toa. O remédio é subtrair um número $b$ próximo do valor típico de $f$:
#
# $$\nabla\, \mathbb{E}[f(z)] = \mathbb{E}\big[(f(z) - b)\, \nabla \log q(z)\big].$$
#
# A média continua certa porque o escore tem média zero: $\mathbb{E}[b\,\nabla \log q] = b \int \nabla q = b\, \nabla 1 = 0$. Repare no primeiro sinal de igual: foi ali que $b$ saiu da média. **Isso só vale se $b$ não depender da própria amostra.** Esse $b$ pode ser uma constante, uma função da entrada (num VAE, da imagem) ou a média de $f$ nas *outras* amostras do grupo (*leave-one-out*).
#
# E a média do grupo inteiro, que inclui a própria amostra? Parece a mesma coisa, mas não é. Seja $S$ o número de amostras do grupo, $f_i$ o valor na amostra $i$ e $\bar f$ a média de todos os valores. Então $f_i - \bar f = (1 - 1/S)(f_i - \bar f_{-i})$, em que $\bar f_{-i}$ é a média dos outros. Logo, a estimativa inteira fica multiplicada por $1 - 1/S$: com quatro amostras, perde-se um quarto do gradiente; com duas, metade. Num VAE, isso atinge o termo de reconstrução, mas não a KL, e o treinamento passa a maximizar outro objetivo. A célula imprime o que resta do gradiente exato.

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
# ## 5. O ruído do lado de fora, os parâmetros do lado de dentro
#
# O segundo caminho mexe no sorteio, e não na densidade. Amostre $\varepsilon$ de $\mathcal{N}(0, 1)$, que não tem parâmetro nenhum, e *calcule* $z = \mu + \sigma\,\varepsilon$. Os parâmetros, que estavam na distribuição de $z$, passaram para o cálculo que produz $z$. E um cálculo tem derivada: como a distribuição de $\varepsilon$ não tem parâmetros, vale $\nabla\, \mathbb{E}_q[f(z)] = \nabla\, \mathbb{E}_\varepsilon[f(\mu + \sigma\varepsilon)] = \mathbb{E}_\varepsilon[\nabla f(\mu + \sigma\varepsilon)]$.
#
# A figura mostra os dois grafos de computação. As setas pretas representam o cálculo de ida; as tracejadas trazem o gradiente de volta. À esquerda, o gradiente chega ao sorteio e para. À direita, o sorteio fica de lado, fora do caminho que liga $f$ a $\mu$ e a $\sigma$. Nenhum gradiente vai até $\varepsilon$, pois ali não há o que aprender.

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
# Nesse caminho, para uma amostra e com $\partial \sigma / \partial \log \sigma^2 = \sigma / 2$, a regra da cadeia dá
#
# $$\frac{\partial f}{\partial \mu} = f'(z), \qquad \frac{\partial f}{\partial \log \sigma^2} = f'(z)\, \frac{\sigma\,\varepsilon}{2}.$$
#
# É o **estimador por trajetória**, ou truque da reparametrização (Kingma e Welling, 2013; Rezende, Mohamed e Wierstra, 2014). Ele exige o que o primeiro caminho dispensava: a inclinação $f'$. A célula implementa o estimador, confere-o com o autograd e, como antes, compara a média das estimativas com o gradiente exato.

# %% key="pathwise"
def slope(z):
    return 2 * z + 3 * torch.cos(3 * z)


by_path = torch.stack((slope(z), 0.5 * slope(z) * sigma * eps))  # (2, G, S)
assert is_unbiased(by_path, exact_gradient)

through = f(mu + torch.exp(0.5 * logvar) * eps[0, 0])
by_autograd = torch.stack(torch.autograd.grad(through, (mu, logvar)))
assert torch.allclose(by_path[:, 0, 0], by_autograd)

# %% [markdown] key="rsample-text"
# O PyTorch oferece os dois tipos de amostra. Com `sample`, esbarramos no muro da seção 1. Já `rsample` faz o mesmo que fizemos: com a mesma semente, devolve os mesmos números, e o mesmo gradiente chega a $\mu$ e a $\sigma$.

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
# ## 6. Quatro respostas, quatro níveis de ruído
#
# Os três estimadores acertam na média, e a forma fechada acerta sem precisar de média. O que os distingue é a **variância**: a média do quadrado da distância entre o valor exato e uma estimativa feita com um grupo de quatro amostras. No treinamento, cada imagem recebe uma única estimativa por passo, muitas vezes feita com uma amostra só. É com esse ruído que o otimizador tem de lidar.
#
# Uma variância calculada com amostras também é incerta, e o *bootstrap* diz quanto: sorteie, com reposição, 5.000 grupos entre os nossos 5.000, recalcule a variância e repita isso mil vezes. Os 95% centrais dos resultados formam o intervalo entre colchetes. Para a função escore e a trajetória, também conhecemos a variância exata, pela integral numérica (quadratura) da seção 2. Uma célula recolhida confere se a variância estimada fica a menos de quatro erros padrão da exata.

# %% key="race"
def resampled_variances(estimates, repeats=1000):  # (..., G) para (..., R)
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
# a variância de uma amostra, por quadratura, para dois dos três estimadores
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
# Cada histograma reúne 5.000 estimativas da derivada em relação à média de $q$, e os três têm os mesmos eixos. A linha tracejada marca o valor exato. As médias dos três ficam junto dela, mas não o pico dos dois primeiros, que são assimétricos: há muitas estimativas um pouco baixas e umas poucas altas demais. A escala vertical é logarítmica, para que as estimativas raras apareçam. Repare até onde vão as da função escore: **boa parte da variância vem das caudas**. A linha de base encurta um pouco as duas.
#
# Qual é o tamanho da diferença? A célula divide as variâncias. Uma razão de 3 significa que a função escore exige o triplo de amostras para ser tão precisa quanto a trajetória.

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
# ## 7. Mexendo nas setas
#
# Agora é você quem move $\mu$, $\sigma$ e $\varepsilon$. À esquerda estão a curva em sino $q$, o ponto $z = \mu + \sigma\varepsilon$ e a inclinação de $f$ nesse ponto. A seta na base é o passo $\sigma\varepsilon$, de $\mu$ até $z$. À direita está o gradiente que chega a cada parâmetro. O que chega a $\mu$ é a própria inclinação, pois $\partial z/\partial \mu = 1$. Para $\sigma$ (aqui é o próprio $\sigma$, e não o logaritmo), temos $\partial z / \partial \sigma = \varepsilon$, e por isso o que chega é a inclinação vezes $\varepsilon$. Os losangos marcam as médias exatas, que uma amostra sozinha não revela. (A altura da curva em sino está fora de escala.)
#
# Experimente três coisas. Com $\varepsilon = 0$, o que chega a $\sigma$? Troque o sinal de $\varepsilon$ e imagine que $f$ fosse uma reta (o painel não tem controle para isso): qual das duas setas da direita mudaria de lado? Por fim, com o menor $\sigma$, varie $\varepsilon$: a ponta da seta de cima, à direita, fica mais perto do losango do que com o maior $\sigma$?
#
# <details><summary>Respostas</summary>
#
# Não chega nada, porque a inclinação é multiplicada por zero. Das duas, só a de $\sigma$ mudaria de lado, pois a inclinação de uma reta é a mesma em toda parte. Em geral, sim: $f'$ varia menos dentro de um $q$ estreito.
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
# ## 8. A trajetória ganha sempre?
#
# Costuma-se dizer que sim, mas não é verdade. Tome $f(z) = \sin(a z + \varphi)$ e calcule a variância de cada estimador, em média sobre todas as fases $\varphi$. O termo da função escore nunca passa, em módulo, de $|\varepsilon|/\sigma$, por mais depressa que $f$ oscile. O da trajetória é a inclinação, que cresce com $a$. Vejamos a derivada em relação a $\mu$. Na média sobre todas as fases, $\sin^2$ e $\cos^2$ valem $\frac{1}{2}$, e $\mathbb{E}[\varepsilon^2] = 1$; logo, as médias dos quadrados são $\frac{1}{2\sigma^2}$ e $\frac{a^2}{2}$. Como os dois termos têm a mesma média, as variâncias são iguais onde as médias dos quadrados o são. **As curvas da figura no fim desta seção se cruzam exatamente em $a\sigma = 1$**, isto é, onde a fase de $f$ avança um radiano em um desvio padrão de $q$. A primeira célula chega ao mesmo ponto por quadratura.
#
# A segunda célula testa o caso extremo, um degrau: $f(z) = 1$ se $z > 0$, e $0$ caso contrário. A inclinação é zero em todo ponto onde existe. Por isso, o autograd manda zero pela trajetória em toda amostra: um resultado sem ruído algum, mas errado. A média é $P(z > 0) = \Phi(\mu / \sigma)$, e a derivada dela em relação a $\mu$ é $q(0)$. A função escore a encontra, assim como quem desloca $\mu$ e observa a média.

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
    return 0.5 * (1 + torch.sign(z))  # 0 abaixo de zero, 1 acima


(jump_path,) = torch.autograd.grad(jump(mu + sigma * eps).mean(), mu)
exact_jump = Normal(mu.detach(), sigma).log_prob(torch.zeros(1)).exp().item()
assert jump_path == 0
assert is_unbiased(jump(z) * score[0], exact_jump)

# o que a média faz de fato: as mesmas amostras, com mu deslocado para cada lado
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
# A trajetória, portanto, não é boa por si só. Ela é boa **onde $f$ quase não se curva ao longo da largura de $q$** e só é correta se $f$ não tiver salto algum. A $f$ de um VAE é assim? É o que vamos medir.

# %% [markdown] key="vae-text"
# ## 9. Os estimadores num VAE de verdade, comparados com o gradiente exato
#
# O modelo é o da lição 00: tem duas latentes, foi treinado por 15 épocas e está guardado no cache. Tome uma imagem de teste. Para ela, o codificador dá $q = \mathcal{N}(\mu, \sigma^2)$, isto é, duas médias e duas log-variâncias. O ELBO é $\mathbb{E}_q[\log p(x \mid z)]$ menos uma KL em forma fechada, cujas derivadas são $\partial / \partial \mu = \mu$ e $\partial / \partial \log \sigma^2 = (\sigma^2 - 1) / 2$. Logo, $f(z) = \log p(x \mid z)$, uma soma sobre 784 pixels.
#
# Desta vez, a média não tem forma fechada. Mas, como as latentes são só duas, a integral sobre $q$ vira uma soma numa grade do plano. O gradiente procurado, que tem quatro números, sai da derivada da densidade na grade; em momento algum se deriva $f$.

# %% key="vae-model"
device = torch.device("cpu")
if torch.accelerator.is_available():
    device = torch.accelerator.current_accelerator()
train_images = data.load("auto", "train", device=device)
test_images = data.load(train_images.name, "test", device=device)
model, _ = train.trained(train_images, device=device)

decoder = copy.deepcopy(model).cpu().double()  # a exatidão pede float64
x = test_images.pixels[0].cpu().double()  # (D,)
with torch.no_grad():
    vae_mu, vae_logvar = (row[0] for row in decoder.encode(x[None]))  # (2,) cada uma
    vae_sigma = torch.exp(0.5 * vae_logvar)


def log_likelihood(z):  # (N, 2) para (N,) nats
    parts = z.split(1000)  # poucos pontos na memória
    values = [densities.log_bernoulli(x, decoder.decode_logits(p)) for p in parts]
    return torch.cat(values)


s1, s2 = vae_sigma.tolist()
print(say("gradients-data", name=train_images.name, s1=s1, s2=s2))

# %% key="vae-exact"
def square(points, extent=6.0):  # uma grade de ruído, com pesos da normal padrão
    line = torch.linspace(-extent, extent, points, dtype=torch.float64)
    noise = torch.cartesian_prod(line, line)  # (N, 2)
    return noise, densities.log_standard_normal(noise).softmax(0)


# a grade fica parada, e a densidade se move
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
# uma verificação independente: a grade se move com q, e mede-se quanto o ELBO sobe
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
unit = torch.cat((1 / vae_sigma, torch.ones(2, dtype=torch.float64)))  # um passo em q
assert ((vae_exact - vae_rises).abs() < 0.005 * unit).all()
assert abs(vae_elbo.item() - elbo_at(vae_mu, vae_logvar).item()) < 0.01  # nats
for i, name in enumerate(("mu_1", "mu_2", "logvar_1", "logvar_2")):
    told = {"quadrature": vae_exact[i].item(), "rise": vae_rises[i].item()}
    print(say("gradients-vae-exact", name=name, **told))

# %% [markdown] key="vae-estimators-text"
# Os dois números de cada linha vêm de somas diferentes e concordam tanto quanto se pode esperar de somas em grades; a pequena diferença vem das ReLUs do decodificador, que produzem vincos. (Um vinco não é um salto: a trajetória continua sem viés.)
#
# Vamos aos estimadores, com 2.000 grupos de quatro amostras. A parte do gradiente que vem da KL tem fórmula e é comum a todos; só o termo de reconstrução é estimado. De novo, a média de cada estimador tem de ficar a menos de quatro erros padrão do gradiente exato, em cada um dos quatro números. Antes de executar a célula, arrisque um palpite: de quantas amostras cada estimador precisa para que o ruído em $\mu$ não seja maior que o próprio gradiente? Nas seções 2 a 7, a média de $f$ ficava perto de 1. Aqui, $f$ é a log-verossimilhança, uma soma sobre 784 pixels, e fica dezenas ou centenas de nats abaixo de zero. Para o gradiente, porém, só importa quanto ela varia dentro de $q$, e ela varia *poucos* nats.

# %% key="vae-estimators"
torch.manual_seed(1)
groups = 2000
vae_eps = torch.randn(groups * draws, 2, dtype=torch.float64)  # (G * S, 2)
vae_z = (vae_mu + vae_sigma * vae_eps).requires_grad_()
vae_values = log_likelihood(vae_z)  # (G * S,)
(vae_slope,) = torch.autograd.grad(vae_values.sum(), vae_z)  # (G * S, 2)
vae_values, vae_z = vae_values.detach().reshape(groups, draws), vae_z.detach()


def grouped(each):  # (G * S, 4) para (4, G, S)
    return each.T.reshape(4, groups, draws)


def along_path(slope, eps, sigma):  # (N, L) para (N, 2 L): médias, log-variâncias
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
# O último número de cada linha diz quantas amostras são necessárias, nesta imagem, para que o ruído no gradiente em relação a $\mu$ (as duas médias juntas) não passe do tamanho do próprio gradiente.
#
# Mas uma única imagem é pouco. As duas células recolhidas calculam a variância dos três estimadores em 400 imagens de teste. Em vez de sortear, elas fazem, para cada $q$, uma soma ponderada sobre 144 pontos. (Com a média das outras amostras como linha de base, a estimativa é $\frac{1}{S - 1} \sum_i (f_i - \bar f)\, s_i$, ou seja, a covariância amostral entre $f$ e o escore $s$; a variância dessa covariância tem fórmula conhecida.) Só temos o gradiente exato da primeira imagem; para as 400, calculamos apenas as variâncias. As da primeira têm de concordar com as que obtivemos acima, por sorteio.

# %% key="vae-many" jupyter={"source_hidden": true} tags=["hide-input"]
nodes_12, weights_12 = map(torch.from_numpy, np.polynomial.hermite_e.hermegauss(12))
cloud = torch.cartesian_prod(nodes_12, nodes_12).float()  # (144, 2), ruído
shares = torch.outer(weights_12, weights_12).flatten().float()
shares = shares / shares.sum()  # (144,)


def per_group(terms):  # (144, 4) para (2,): médias, log-variâncias; grupos de 4
    return (shares @ terms**2 - (shares @ terms) ** 2).reshape(2, 2).sum(1) / draws


def per_group_baseline(value, score):  # variância de uma covariância amostral
    value = value - shares @ value
    joint = value[:, None] * score  # (144, 4)
    apart = (shares @ value**2) * (shares @ score**2)  # (4,)
    pairs = apart - (draws - 2) * (shares @ joint) ** 2
    each = (shares @ joint**2 + pairs / (draws - 1)) / draws
    return each.reshape(2, 2).sum(1)


def image_variances(model, x):  # (D,) para (4, 2), e o ELBO
    with torch.no_grad():
        mu, logvar = (row[0] for row in model.encode(x[None]))  # (2,) cada uma
    sigma = torch.exp(0.5 * logvar)
    z = (mu + sigma * cloud).requires_grad_()  # (144, 2)
    value = densities.log_bernoulli(x, model.decode_logits(z))  # (144,)
    (slope,) = torch.autograd.grad(value.sum(), z)  # (144, 2)
    value, z = value.detach(), z.detach()
    score = torch.cat((cloud / sigma, 0.5 * (cloud**2 - 1)), 1)  # (144, 4)
    landed = slope - z + cloud / sigma  # para a seção 13
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
)  # (400, 4, 2) e (400,)

# %% key="vae-many-told" jupyter={"source_hidden": true} tags=["hide-input"]
# a primeira imagem, amostrada acima: dois caminhos para as mesmas variâncias
for row, each in enumerate(vae_estimators.values()):
    again = resampled_variances(each.mean(-1)).reshape(2, 2, -1).sum(1)  # (2, R)
    found = each.mean(-1).var(-1).reshape(2, 2).sum(1)  # (2,)
    assert ((found - many[0, row]).abs() < 4 * again.std(-1)).all()


def over_images(ratios):  # (N,) para a mediana e os 90% centrais
    ends = torch.tensor([0.05, 0.5, 0.95], dtype=ratios.dtype)
    low, middle, high = ratios.quantile(ends).tolist()
    return {"middle": middle, "low": low, "high": high}


vae_ratios = many[:, :2] / many[:, 2:3]  # (400, 2 modos, 2)
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
middles = vae_ratios.quantile(0.5, 0)  # (2 modos, 2)
assert middles[0].min() > 1000
assert middles[1].max() < 20

# %% [markdown] key="vae-noticed"
# Sem linha de base, a função escore multiplica a log-verossimilhança inteira por um número aleatório de média zero. Com isso, sua variância é milhares de vezes a da trajetória, e o fator depende da imagem: compare as medianas dos dois dígitos da última linha. A linha de base elimina quase todo esse excesso. Entre ela e a trajetória, resta um fator moderado, abaixo de 20 na mediana. Ou seja, a maior parte da diferença se devia à falta da linha de base.

# %% [markdown] key="training-text"
# ## 10. O que isso muda no treinamento
#
# Um gradiente ruidoso exige mais passos de treinamento. A célula abaixo treina VAEs pequenos (100 unidades ocultas, 4.800 imagens, três épocas em lotes de 64) que só diferem no modo como o **codificador** recebe o gradiente e no número de amostras por imagem. O decodificador não precisa de truque, pois nenhum sorteio depende dele. Treinamos cada modo com três sementes; com a mesma semente, todos partem dos mesmos pesos iniciais.
#
# - **bloqueado**: uma amostra de `sample`, sem trajetória, como na seção 1. Nenhuma mensagem de erro aparece: a perda ainda tem gradiente em relação ao decodificador e, pela KL, em relação ao codificador. Alguma coisa se aprende, mas não o que você quer.
# - **função escore**: uma amostra.
# - **escore, quatro amostras**: o mesmo estimador, com a média de quatro amostras por imagem, para servir de controle.
# - **escore, linha de base**: quatro amostras por imagem e *leave-one-out*.
# - **trajetória**: uma amostra.
#
# Com os dois últimos modos, treinamos também VAEs com 20 latentes em vez de 2. A função escore ajusta todas elas com base num único número, o valor de $f$; a trajetória recebe uma inclinação para cada uma.

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
        z = z.detach()  # uma amostra simples
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
        runs[way, latents] = torch.tensor(curves)  # (3 sementes, 3 épocas)

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
# As três linhas de um mesmo tipo correspondem às três sementes, e cada painel tem a própria escala. Repare em cinco coisas.
#
# - O modo **bloqueado** aprende, e aí está a armadilha. O decodificador melhora; o codificador, porém, só recebe o gradiente da KL e, com isso, torna todas as distribuições $q(z \mid x)$ praticamente iguais à distribuição a priori. A KL desse modo confirma isso: quase nada da imagem passa.
# - A **função escore** sem linha de base termina perto do **bloqueado**, mas não pela mesma razão: compare a KL dos dois. Agora o codificador recebe também o gradiente da reconstrução, mas gasta nats em códigos que ajudam pouco.
# - **Quatro amostras** fazem pouca diferença. O que ajuda, portanto, é a linha de base, e não as decodificações a mais.
# - Com 2 latentes, a **linha de base** e a **trajetória** empatam, dentro da margem de erro. O truque não é mágica: com uma boa linha de base e o quádruplo de decodificações, o jeito antigo funciona.
# - Com 20 latentes, a trajetória fica à frente com um quarto das decodificações, em todos os pares de mesma semente (veja, na saída, a última linha que compara pares). Todas as curvas ainda estão subindo, e um treinamento mais longo poderia reduzir a vantagem.
#
# As três últimas linhas da saída recalculam a razão da seção 9 nos três VAEs pequenos de 2 latentes treinados com a trajetória, nas mesmas 100 imagens. Também neles, a mediana fica na casa dos milhares ou acima.

# %% [markdown] key="logvar-text"
# ## 11. Por que usar a log-variância
#
# A saída $\theta$ de uma rede é um número real qualquer. O que ela deve representar: o próprio $\sigma^2$, o logaritmo $\log \sigma^2$ ou um número cuja *softplus*, $\log(1 + e^\theta)$, seja $\sigma^2$? A primeira opção se descarta logo, pois nada mantém a saída acima de zero.
#
# Costuma-se dizer que a exponencial dá gradientes melhores quando a variância é pequena. Será? Em termos da variância $v$ que cada função produz, $dv/d\theta$ é $v$ para a exponencial e $1 - e^{-v}$ para a softplus. Quando $v$ é pequeno, as duas derivadas são **o mesmo número**, a menos de $v^2/2$. Elas só se separam no outro extremo: para $v$ grande, a derivada da softplus é 1, e a da exponencial é $v$.
#
# A exponencial tem três vantagens reais:
#
# - a KL precisa de $\log v$, que já é a própria saída da rede (com a softplus, seria preciso calculá-lo: em float32, a softplus de $-110$ é zero, e o logaritmo de zero é menos infinito);
# - um passo em $\theta$ tem o mesmo efeito, seja qual for a largura da distribuição: a média do quadrado do escore, que é a *informação de Fisher*, diz quanto $q$ muda com um passo pequeno; para a log-variância, essa média é $\frac{1}{2}$, seja qual for $v$; para a softplus, é $(1 - e^{-v})^2 / (2 v^2)$, que vale $\frac{1}{2}$ para $v$ pequeno e quase zero para valores grandes;
# - uma variância grande é fácil de alcançar: a exponencial dá $v = 100$ em $\theta = 4{,}6$; a softplus, só em $\theta = 100$.
#
# Mas há também um perigo: em float32, $e^{100}$ é infinito. Daí o `clamp` de `nets.VAE`, que mantém a log-variância dentro de limites.

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
# ## 12. Distribuições sem trajetória
#
# A trajetória existe quando $z$ pode ser escrito como função derivável dos parâmetros e de um ruído sem parâmetros. Em uma dimensão, a inversa da função de distribuição serve, desde que seja suave: entra um ruído uniforme e sai $z$. Em distribuições como a gama, essa inversa é difícil de calcular, mas a derivada sai da própria função de distribuição $F$. Basta manter fixo $F(z) = u$, o que dá $dz/d\theta = -(\partial F / \partial \theta) / q(z)$. É a *reparametrização implícita*. Já uma distribuição *discreta*, de categorias ou de contagens, não tem trajetória: a amostra dá saltos e, entre um salto e outro, a derivada é zero, como no degrau da seção 8. O PyTorch sabe quais distribuições têm trajetória.

# %% key="no-path" tags=["nbval-check-output"]
for family in (Normal, Laplace, Gamma, Bernoulli, Categorical, Poisson):
    answer = say("gradients-yes" if family.has_rsample else "gradients-no")
    print(say("gradients-has-path", name=family.__name__, answer=answer))

# %% [markdown] key="poisson-text"
# O que fazer, então? Há quatro respostas, da exata à viesada.
#
# A primeira é **enumerar**, quando os valores são poucos: a média passa a ser uma soma, e uma soma tem derivada. Não há ruído nenhum, mas o decodificador é chamado uma vez por valor. A segunda é **voltar à função escore**, com linha de base. A terceira é **usar uma fórmula da própria distribuição**. Numa Poisson de taxa $\lambda$, por exemplo,
#
# $$\frac{d}{d\lambda}\, \mathbb{E}[f(k)] = \mathbb{E}\Big[f(k)\Big(\frac{k}{\lambda} - 1\Big)\Big] = \mathbb{E}\big[f(k + 1) - f(k)\big].$$
#
# A expressão do meio é a função escore, aqui sem linha de base. A da direita (que vem de $dp(k)/d\lambda = p(k - 1) - p(k)$) usa uma diferença onde a trajetória usaria uma inclinação. A célula compara as duas com a enumeração, para $f(k) = \sqrt{k}$.

# %% key="poisson"
rate = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
counts = torch.arange(60, dtype=torch.float64)  # de 60 em diante, menos de 1e-40
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
# A quarta resposta é **relaxar o sorteio**. Some a cada logit um ruído de Gumbel independente, $-\log(-\log u)$ com $u$ uniforme, e fique com o índice da maior soma: ele é uma amostra exata da distribuição categórica. Troque essa escolha da maior soma por uma *softmax* de temperatura $\tau$, $y = \mathrm{softmax}((\text{logits} + \text{ruído}) / \tau)$, e aparece uma trajetória: é a *Gumbel-softmax* (Jang, Gu e Poole, 2017; Maddison, Mnih e Teh, 2017). Isso tem um preço: a amostra já não é uma categoria, e sim uma mistura de categorias, e o gradiente é o de outro problema. Ele é **viesado**. À medida que $\tau$ diminui, o viés diminui também, mas a variância cresce.
#
# Um parente próximo, o **estimador direto** (*straight-through*), entrega a $f$ a categoria sorteada e, na volta, finge que entregou a versão suavizada. Em código: `largest + soft - soft.detach()`. Assim, o decodificador recebe categorias de verdade. Mas o gradiente não é o de nenhum dos dois problemas: nem o do categórico, nem o do suavizado.
#
# Com três categorias, a enumeração dá o gradiente exato. A célula recolhida compara os dois estimadores com ele, em cada temperatura.

# %% key="gumbel"
logits = torch.tensor([0.5, 0.0, -1.0], dtype=torch.float64, requires_grad=True)
goal = torch.tensor([0.1, 0.6, 0.3], dtype=torch.float64)


def cost(y):  # (..., 3) para (...)
    return ((y - goal) ** 2).sum(-1)


per_category = cost(torch.eye(3, dtype=torch.float64))  # (3,)
expected = logits.softmax(0) @ per_category  # enumeração: uma soma de três termos
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
assert is_unbiased(largest.T[:, :, None], p)  # uma amostra exata
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
# Compare as duas últimas linhas. Na temperatura mais baixa, os dois estimadores ainda têm viés e são muito mais ruidosos que a função escore com linha de base, que não tem viés nenhum. Dos dois, o direto (*straight-through*) é o mais ruidoso em todas as temperaturas. Toda essa comparação vale para três categorias; com milhares delas, caso que não medimos, o quadro pode se inverter. **Nenhum estimador é o melhor em geral: fique com o que se sair melhor quando medido no seu problema.**

# %% [markdown] key="landing-text"
# ## 13. Um último ruído, que dá para eliminar
#
# Suponha que o treinamento tenha sido perfeito e que $q$ *seja* a posteriori. Então, o gradiente exato em relação aos parâmetros de $q$ é zero. A estimativa por trajetória também é zero? Com a KL em forma fechada, não: cada amostra ainda puxa o gradiente para um lado.
#
# Escreva o ELBO inteiro como a média de $\log p(x, z) - \log q(z)$. Se $q$ é a posteriori, essa diferença vale $\log p(x)$, o mesmo número para todo $z$. Logo, ao longo da trajetória, a inclinação é zero. O gradiente que resta vem de $\mu$ e $\sigma$ *dentro* de $\log q$: é um escore, cuja média é zero. Descarte essa parte, desligando do grafo os parâmetros de $\log q$, e o ruído desaparece no ótimo. A ideia se chama *sticking the landing*, "cravar a aterrissagem" (Roeder, Wu e Duvenaud, 2017).
#
# Num modelo linear gaussiano, $x = Wz + b$ mais ruído gaussiano, a posteriori é uma normal de fórmula conhecida, e podemos exigir que a estimativa seja zero até a décima casa decimal. No VAE, o codificador apenas se aproxima da posteriori, e sobra ruído. Em que proporção a variância diminui, nas mesmas 400 imagens?

# %% key="landing"
torch.manual_seed(0)
line = exact.LinearGaussian(
    torch.randn(5, 1, dtype=torch.float64), torch.zeros(5, dtype=torch.float64), 0.5
)
seen = torch.randn(1, 5, dtype=torch.float64)  # (1, D)
q_mu, q_logvar = (
    row.expand(1000, 1).clone().requires_grad_() for row in line.encode(seen)
)  # a posteriori, mil vezes
drawn = q_mu + torch.exp(0.5 * q_logvar) * torch.randn(1000, 1, dtype=torch.float64)

likelihood = line.log_conditional(seen, drawn)  # (1000,)
usual = likelihood - densities.kl_to_standard_normal(q_mu, q_logvar)
inside = likelihood + densities.log_standard_normal(drawn)
landed = inside - densities.log_normal(drawn, q_mu.detach(), q_logvar.detach())
for objective, is_zero in ((usual, False), (landed, True)):
    found = torch.autograd.grad(objective.sum(), (q_mu, q_logvar), retain_graph=True)
    assert all((gradient.abs().max() < 1e-10) == is_zero for gradient in found)

# o VAE da seção 9: log p(x, z) - log q(z), com os parâmetros de log q fora do grafo
vae_landed = vae_slope - vae_z + vae_eps / vae_sigma  # (G * S, 2)
by_landing = grouped(along_path(vae_landed, vae_eps, vae_sigma))
assert is_unbiased(by_landing, vae_exact)

# %% key="landing-told" jupyter={"source_hidden": true} tags=["hide-input"]
# log p(x) - ELBO é KL(q || posteriori)
gaps = exact.log_likelihood(on_cpu, images, extent=6) - elbos  # (400,)
gains = many[:, 2] / many[:, 3]  # (400, 2): variância antes / depois
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
# Na mediana das imagens, a variância cai para um terço ou menos em $\mu$ e para cerca da metade em $\log \sigma^2$. **Em algumas imagens, porém, ela sobe.** Nelas, a distribuição $q$ fica longe da posteriori: a $\mathrm{KL}(q \,\|\, p(z \mid x))$, que é $\log p(x)$ menos o ELBO, é várias vezes maior que nas outras. Com isso, as inclinações de $\log p(x, z)$ e de $\log q(z)$ não se cancelam, e cada uma traz o próprio ruído.

# %% [markdown] key="answer"
# ## 14. A resposta
#
# Como um gradiente atravessa um sorteio? **Ele não atravessa o sorteio: contorna-o.** O ruído é sorteado do lado de fora, os parâmetros entram no cálculo, e o gradiente da média pode ser obtido tanto pela densidade quanto pela trajetória. A célula reúne duas das medidas deste caderno.

# %% key="answer-measured"
print(say("gradients-answer-ratio", **over_images(vae_ratios[:, 0, 0])))
told = {way: ends[way, 2].mean().item() for way in contests[2]}
print(say("gradients-answer-elbo", **told))

# %% [markdown] key="next"
# **Para ler.** Williams (1992) trouxe a função escore para o aprendizado por reforço. Kingma e Welling (2013) e Rezende, Mohamed e Wierstra (2014) trouxeram a trajetória para modelos como os deste curso. Roeder, Wu e Duvenaud (2017) eliminaram o último ruído, e Tucker et al. (2019) estenderam a ideia aos limites inferiores ponderados por importância. Jang, Gu e Poole (2017) e Maddison, Mnih e Teh (2017) relaxaram a distribuição categórica.
#
# Agora que já temos o gradiente, com que rapidez conseguimos calculá-lo? É a pergunta da lição 04.

# %% [markdown] key="exercises"
# ## Exercícios
#
# Escreva a sua resposta no lugar das reticências e execute a célula. As soluções estão recolhidas abaixo de cada exercício.
#
# ### 1. A função escore, à mão
#
# A função recebe `values` (os valores de $f$ nas amostras, com forma `(S,)`), `z` (as amostras, também `(S,)`) e os tensores escalares `mu` e `logvar`. Devolva uma estimativa por amostra, num tensor de forma `(2, S)`: primeiro a derivada em relação a $\mu$, depois a derivada em relação a $\log \sigma^2$. Não use linha de base nem tire a média.

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
# ### 2. Encontre o erro: a linha de base
#
# A função `buggy_baseline` subtrai dos valores uma linha de base e multiplica o resultado pelo escore. A variância cai, e nenhuma mensagem de erro aparece. Mas o que a função devolve não estima o gradiente que promete. Escreva uma versão correta que ainda tenha linha de base: serve qualquer uma que mantenha a média certa. Os dois argumentos têm forma `(S,)`, e o resultado também.

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
# ### 3. A trajetória de outra distribuição
#
# Uma exponencial de taxa $r$ (`rate`) que começa em $a$ (`start`) tem função de distribuição $1 - e^{-r(z - a)}$ para $z > a$. Inverta essa função e escreva a amostra como função de um ruído uniforme `u`, de modo que um `u` maior dê um `z` maior. O gradiente deve chegar a `start` e a `rate`.

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
# ### 4. Encontre o erro: o objetivo substituto
#
# Na prática, não se escreve o escore: escreve-se um número cuja *derivada* é a estimativa e executa-se `backward` sobre ele. Aqui, `z` veio de `rsample`; logo, tanto `z` quanto `values` dependem de `mu` e de `logvar`. A derivada de `buggy_surrogate` não é a estimativa por função escore. Descubra o que ela é em relação a $\mu$ e em relação a $\log \sigma^2$. Depois, escreva uma versão cuja derivada seja a média dos termos do exercício 1, sem linha de base.

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
# <details><summary>O que o código errado calcula</summary>
#
# Com `z` preso ao grafo, $\log q(z)$ muda por duas razões: porque a curva se move e porque a amostra se move com ela. Para $\mu$, os dois efeitos se cancelam exatamente: quando a amostra se desloca com a curva, a densidade na amostra não muda. Por isso, o gradiente em relação a $\mu$ é zero em toda amostra. Para $\log \sigma^2$, resta $-\frac{1}{2}$ vezes a média dos valores: o escore foi trocado por uma constante, a mesma para todas as amostras.
#
# </details>
