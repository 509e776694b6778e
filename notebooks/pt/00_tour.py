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
# # Um autocodificador variacional, de ponta a ponta
#
# **Ao final, você saberá** dizer o que um VAE acrescenta a um autocodificador, de onde vem o ELBO, o que cada um de seus dois termos favorece e por que o truque da reparametrização é necessário. Saberá também treinar um modelo que inventa dígitos. Onde houver uma resposta exata à mão, vamos usá-la para conferir o que se afirma.
#
# **Você precisa de** álgebra linear, probabilidade e um pouco de PyTorch.
#
# **Tempo:** 45 minutos de leitura; de um a três minutos de processamento em dois núcleos, sem os exercícios.
#
# O modelo, a perda e o laço de treinamento estão escritos neste caderno e são comparados com os do pacote `vae_teach`. O pacote carrega os dados, desenha as figuras e guarda as frases que as células imprimem: `say("tour-latents", count=2)` devolve a frase que tem esse nome, na língua do caderno e com os números da célula. Um `assert` interrompe a execução quando uma afirmação não se confirma. O código que serve só para desenhar está recolhido.

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

use_language("pt")

# %% [markdown] key="why"
# ## 1. Por que não basta um autocodificador?
#
# Um autocodificador espreme cada imagem em poucos números, que são o *código* dela, e um *decodificador* reconstrói a imagem a partir deles. Cada imagem vira **um ponto**. Sobre o que existe entre dois pontos, nada se sabe: se você escolher um código ao acaso, talvez o decodificador nunca tenha visto nada parecido.
#
# Um autocodificador variacional (VAE, do inglês *variational autoencoder*) troca o ponto por **uma pequena nuvem**. O decodificador precisa reconstruir a imagem a partir de qualquer lugar da nuvem. Além disso, cada nuvem é puxada para perto de uma distribuição conhecida, a distribuição *a priori* (daqui em diante, só *priori*), para que as nuvens, juntas, cubram essa distribuição. Quanto melhor for a cobertura, mais vezes um sorteio da priori cairá numa região que o decodificador conhece. A seção 10 mede o resultado.
#
# Considere cinco imagens. A figura mostra, à esquerda, os cinco pontos de um autocodificador e, à direita, as cinco nuvens de um VAE, cada uma com um quinto da massa. Neste exemplo, a soma das nuvens (linha grossa) não tem buracos. A diferença entre essa soma e a priori (linha tracejada) é sempre menor que um décimo do pico da priori.

# %% key="clouds"
codes = torch.tensor([-1.1, -0.5, 0.0, 0.5, 1.1])  # um por imagem
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
# ## 2. A integral que não tem fórmula fechada
#
# O modelo gera uma imagem em dois passos. Primeiro, sorteia-se uma *variável latente* $z$ da priori $p(z) = \mathcal{N}(0, I)$. Depois, o decodificador lê $z$ e atribui uma probabilidade a cada imagem que pode sair dali: essa é a *verossimilhança* $p(x \mid z)$. Para obter a probabilidade da imagem $x$ (ou a densidade, se os pixels forem contínuos), somamos sobre todas as maneiras de gerá-la:
#
# $$p(x) = \int p(x \mid z)\, p(z)\, dz.$$
#
# Treinar é tornar prováveis as imagens que temos; por isso, precisamos de $\log p(x)$. Mas, se o decodificador é uma rede neural, a integral não tem fórmula fechada. Assim, também não há fórmula para a distribuição *a posteriori* (daqui em diante, só *posteriori*) $p(z \mid x) = p(x \mid z)\, p(z) / p(x)$, que nos diria quais $z$ podem ter gerado $x$.
#
# **Vamos tentar mesmo assim.** A integral é uma média: basta amostrar $z$ da priori muitas vezes e tirar a média de $p(x \mid z)$. Para saber se a tentativa dá certo, usamos um modelo cuja resposta conhecemos: um decodificador linear com ruído gaussiano, $x = Wz + s\,\eta$, com $\eta \sim \mathcal{N}(0, I)$. Nesse modelo, $p(x)$ é uma densidade normal com fórmula exata, $\mathcal{N}(0,\, WW^\top + s^2 I)$.
#
# A célula abaixo faz quatro tentativas com uma variável latente e quatro com vinte. Na figura, cada curva acompanha uma tentativa à medida que as amostras se acumulam. O zero é a resposta exata, e a unidade é o *nat*, que corresponde ao logaritmo natural. Atenção: as duas escalas verticais são diferentes e, à esquerda, algumas curvas começam abaixo da moldura. Com uma latente, as tentativas terminam a menos de meio nat da resposta. Com vinte, elas terminam centenas de nats abaixo dela e dão um salto a cada sorteio favorável.

# %% key="naive-monte-carlo"
torch.manual_seed(0)
noise = 1.0  # desvio padrão do ruído em cada pixel


def linear_model(latents):
    weights = 0.5 * torch.randn(784, latents, dtype=torch.float64)  # (D, L)
    variances = torch.full((784,), noise**2, dtype=torch.float64)
    p_x = LowRankMultivariateNormal(torch.zeros_like(variances), weights, variances)
    x = p_x.sample()  # (D,)
    return weights, x, p_x.log_prob(x)  # o último é exato


def naive_monte_carlo(weights, x, draws=10_000):
    z = torch.randn(draws, weights.shape[1], dtype=torch.float64)  # (S, L)
    means = (part @ weights.T for part in z.split(200))  # poucos sorteios na memória
    each = [Normal(mean, noise).log_prob(x).sum(-1) for mean in means]
    log_likelihood = torch.cat(each)  # (S,)
    count = torch.arange(1, draws + 1)
    # o logaritmo da média das 1, 2, 3, ... primeiras verossimilhanças
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
# Não é azar. Em cada direção, a posteriori é cerca de catorze vezes mais estreita que a priori (a próxima célula imprime a largura). Com uma latente, uns poucos sorteios em cada cem caem dentro dela. Com vinte, ela ocupa cerca de $10^{-23}$ do volume da priori, e nenhum dos dez mil sorteios chega perto. **Falta alguém que nos diga onde procurar.**
#
# Suponha que esse alguém exista e nos entregue uma distribuição $q(z)$. Podemos, então, amostrar de $q$, e não da priori, desde que cada sorteio receba o peso que compensa a troca:
#
# $$p(x) = \int \frac{p(x, z)}{q(z)}\, q(z)\, dz = \mathbb{E}_{q(z)}\!\left[\frac{p(x, z)}{q(z)}\right], \qquad p(x, z) = p(x \mid z)\, p(z).$$
#
# Essa é a **amostragem por importância**. A igualdade vale para qualquer $q$ que seja positivo onde $p(x, z)$ também é; o número de sorteios necessários depende de $q$. E a ajuda não precisa ser perfeita. A célula abaixo continua com o modelo de vinte latentes, cuja posteriori também é normal, com precisão $I + W^\top W / s^2$. Escolhemos um $q$ que tem o centro da posteriori e largura (desvio padrão) 20% maior, mas que ignora a dependência entre as latentes. Com mil sorteios de $q$, as quatro estimativas ficam a menos de meio nat da resposta exata. Com dez mil sorteios da priori, o erro era de centenas de nats.

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
# Um decodificador neural não nos dá a posteriori nem indica onde procurar. Mas podemos *aprender* uma aproximação, $q(z \mid x)$: uma rede lê $x$ e diz onde procurar $z$. Essa rede é o **codificador**. Uma única rede serve para todas as imagens, inclusive as novas, sem precisar de uma busca para cada uma. O custo do treinamento se divide entre todas elas; por isso se fala em inferência *amortizada*.
#
# E por que não treinar, então, com a própria amostragem por importância? A média dela estima $p(x)$ sem viés. Mas o que maximizamos é $\log p(x)$, e o logaritmo de uma média de poucos sorteios fica, em média, abaixo do valor certo. A próxima seção trata do caso mais barato, um único sorteio por imagem, e diz quanto se perde.

# %% [markdown] key="elbo"
# ## 3. O ELBO: um limite inferior que podemos calcular
#
# Quanto uma distribuição se afasta de outra? Vamos medir isso com a **divergência de Kullback-Leibler**, ou KL:
#
# $$\mathrm{KL}(q \,\|\, p) = \mathbb{E}_{q(z)}\!\left[\log \frac{q(z)}{p(z)}\right].$$
#
# A KL nunca é negativa. Como o logaritmo é côncavo, a média do logaritmo é, no máximo, o logaritmo da média: essa é a **desigualdade de Jensen**. Vamos aplicá-la a $-\mathrm{KL}$:
#
# $$-\mathrm{KL}(q \,\|\, p) = \mathbb{E}_{q(z)}\!\left[\log \frac{p(z)}{q(z)}\right] \;\le\; \log \mathbb{E}_{q(z)}\!\left[\frac{p(z)}{q(z)}\right] = \log \int p(z)\, dz = 0.$$
#
# A KL só é zero quando as duas distribuições são iguais, pois o gráfico do logaritmo não tem nenhum trecho reto. E ela não é simétrica: em geral, $\mathrm{KL}(q \,\|\, p)$ é diferente de $\mathrm{KL}(p \,\|\, q)$.
#
# Agora vamos aplicar a mesma desigualdade à amostragem por importância, com o $q$ do codificador:
#
# $$\log p(x) = \log \mathbb{E}_{q(z \mid x)}\!\left[\frac{p(x, z)}{q(z \mid x)}\right] \;\ge\; \mathbb{E}_{q(z \mid x)}\!\left[\log \frac{p(x, z)}{q(z \mid x)}\right] = \mathrm{ELBO}(x).$$
#
# O lado direito é o *limite inferior da evidência*, ou ELBO (do inglês *evidence lower bound*); a evidência é $\log p(x)$. Como $p(x, z) = p(x \mid z)\, p(z)$, o ELBO se separa em dois termos:
#
# $$\begin{aligned} \mathrm{ELBO}(x) &= \mathbb{E}_{q(z \mid x)}\!\left[\log p(x \mid z) + \log \frac{p(z)}{q(z \mid x)}\right] \\ &= \mathbb{E}_{q(z \mid x)}[\log p(x \mid z)] - \mathrm{KL}(q(z \mid x) \,\|\, p(z)). \end{aligned}$$
#
# - O **termo de reconstrução** é grande quando os pontos da nuvem de $x$, uma vez decodificados, tornam $x$ provável. Ele favorece nuvens estreitas e afastadas umas das outras, pois um ponto que duas imagens compartilham não serve bem para nenhuma delas.
# - O **termo KL** mede o quanto a nuvem se afasta da priori. Como entra no ELBO com sinal negativo, favorece nuvens iguais à priori.
#
# O que se perde na desigualdade é a *lacuna*, e ela também tem fórmula. Desta vez, escrevemos $p(x, z) = p(z \mid x)\, p(x)$:
#
# $$\log p(x) - \mathrm{ELBO}(x) = \mathbb{E}_{q(z \mid x)}\!\left[\log \frac{q(z \mid x)}{p(z \mid x)}\right] = \mathrm{KL}(q(z \mid x) \,\|\, p(z \mid x)).$$
#
# Não acredite sem conferir. No modelo linear com uma latente, chegamos a cada um desses três números por um caminho diferente: $\log p(x)$ é o logaritmo da densidade de uma normal, o ELBO é estimado com 1.000 sorteios de $q$, e a KL entre duas normais tem fórmula. A célula abaixo põe $q$ no centro certo, varia a largura e imprime os resultados de três casos, um por linha. Os dois últimos números de cada linha devem ser iguais, a menos do erro da estimativa. Na figura, o ELBO chega ao máximo e toca a linha tracejada quando a largura é a da posteriori. Se a nuvem for estreita ou larga demais, o ELBO cai.
#
# Maximizamos, portanto, o ELBO em relação aos pesos das duas redes ao mesmo tempo. Um codificador melhor diminui a lacuna. Um decodificador melhor eleva o limite, e $\log p(x)$ nunca fica abaixo desse limite.

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
# ## 4. Dispositivo e dados
#
# Se houver um acelerador (uma GPU), vamos usá-lo. O conjunto de treinamento vai inteiro, de uma vez, para a memória do dispositivo: são 60.000 imagens de 784 pixels que, com um byte por pixel, ocupam 47 MB. Assim, o treinamento não precisa abrir arquivo nenhum.
#
# Os dados são os dígitos manuscritos do MNIST, baixados pelo `torchvision`. Se não houver conexão com a internet nem cópia local, o curso desenha seus próprios dígitos e avisa.

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
# **Por que preto e branco?** O decodificador dirá qual é a probabilidade de cada pixel acender. Isso define, em cada pixel, uma distribuição de Bernoulli, que só gera zeros e uns. Um cinza de 0,5 não é um valor possível; nós o lemos como a probabilidade de sair 1. Por isso, sorteamos cada pixel com essa probabilidade. No treinamento, o sorteio se repete a cada lote; no conjunto de teste, é feito uma única vez. Assim, `train_images.pixels` guarda níveis de cinza, e `test_images.pixels`, bits. Dado $z$, os pixels são independentes: $p(x \mid z) = \prod_d p_d^{x_d} (1 - p_d)^{1 - x_d}$, em que $p_d$ é a probabilidade de o pixel $d$ acender. (Na seção 2, só usamos ruído gaussiano porque ele permite uma resposta exata.)
#
# A figura traz dez imagens em tons de cinza e dois sorteios de cada uma. Repare que os dígitos são os mesmos e que só as bordas mudam.

# %% key="binarize"
torch.manual_seed(0)
grey = data.grey(train_images.pixels[:10])  # (10, 784), bytes divididos por 255
uniform = torch.rand(2, *grey.shape, device=device)  # (2, 10, 784)
first, second = (uniform < grey).float()  # 1 com probabilidade igual ao cinza

rows = {say("tour-grey"): grey, say("tour-draw-1"): first, say("tour-draw-2"): second}
figures.gallery(rows, columns=10, alt=say("tour-alt-bits"))

# %% [markdown] key="grey-floor"
# Há quem use os níveis de cinza diretamente na Bernoulli. A fórmula $x \log p + (1 - x) \log(1 - p)$ os aceita, e isso não prejudica o decodificador: como a fórmula é linear em $x$, seu valor no nível de cinza é a média dos valores que assume nos sorteios dos bits.
#
# O problema está no *número* que sai da fórmula. Uma Bernoulli não atribui probabilidade nenhuma a um pixel cinza. E $p^x (1 - p)^{1 - x}$ também não é uma densidade dos níveis de cinza: a área sob a curva, de 0 a 1, teria de ser 1, mas a célula abaixo encontra metade disso ou menos. Portanto, o valor da fórmula não é o logaritmo de uma densidade dos níveis de cinza. Ele só diz algo sobre a média de $\log p$ dos bits nos sorteios deles, que é outra grandeza.
#
# A célula imprime também a entropia média dos bits quando se conhecem os níveis de cinza: a incerteza que resta mesmo para quem os conhece. Para quem não os conhece, a incerteza é a entropia marginal dos bits, que nunca é menor que a primeira. Além disso, em qualquer modelo, a média de $\log p(x)$ nunca passa da entropia marginal com o sinal trocado. Portanto, essa entropia média, que a célula imprime, é um *piso* para a perda de qualquer modelo dos bits.

# %% key="grey-floor-measured"
greys = data.load(test_images.name, "test", binarize=False).pixels  # (10000, 784)
parts = [Bernoulli(part).entropy().sum(-1) for part in greys.split(1000)]
floor = torch.cat(parts)  # (10000,)
print(say("tour-floor", mean=floor.mean().item(), error=train.standard_error(floor)))
assert test_images.name != "mnist" or abs(floor.mean() - 45.53) < 0.2

level = torch.linspace(0, 1, 1001)  # um pixel em tom de cinza
for p in (0.5, 0.9):
    area = torch.trapezoid(p**level * (1 - p) ** (1 - level), level).item()
    print(say("tour-no-density", p=p, area=area))
    assert area < 0.501

# %% [markdown] key="architecture"
# ## 5. A arquitetura
#
# São duas redes pequenas, cada uma com uma camada oculta. O codificador parte de 784 pixels, passa por 400 unidades e chega a duas médias e duas log-variâncias. O decodificador parte de duas latentes, também passa por 400 unidades e chega a 784 pixels.
#
# - `encode` lê uma imagem e devolve sua nuvem: a média $\mu$ e a log-variância $\log \sigma^2$ de $q(z \mid x) = \mathcal{N}(\mu, \sigma^2)$, um par por dimensão latente. Dado $x$, as dimensões são independentes.
# - `reparameterize` amostra $z$ da nuvem.
# - `decode` recebe $z$ e devolve a probabilidade de cada pixel acender.
#
# **Por que a log-variância?** Uma rede pode produzir qualquer número real, mas uma variância precisa ser positiva. A exponencial resolve isso. O `clamp` mantém o desvio padrão entre 0,0067 e 148, para que uma única imagem estranha não estrague o treinamento. Os desvios padrão das nuvens do modelo treinado ficam dentro dessa faixa; a seção 10 imprime o menor e o maior.
#
# Internamente, o decodificador produz *logits*, os números que a sigmoide transforma em probabilidades. A perda é calculada a partir dos logits. Assim, nenhuma probabilidade é arredondada para 0 ou 1; esse arredondamento poderia tornar infinito algum logaritmo. A sigmoide só entra quando queremos ver a imagem.

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
# ### O truque da reparametrização
#
# Entre o codificador e o decodificador há um sorteio, e **um sorteio não tem derivada**. O truque consiste em buscar o acaso numa distribuição fixa, que não depende dos parâmetros. Em vez de amostrar $z$ de $\mathcal{N}(\mu, \sigma^2)$, sorteamos $\varepsilon$ de $\mathcal{N}(0, 1)$ e calculamos
#
# $$z = \mu + \sigma\, \varepsilon, \qquad \sigma = e^{\frac{1}{2} \log \sigma^2}.$$
#
# A distribuição de $z$ é a mesma, mas agora $z$ é uma função derivável de $\mu$ e de $\log \sigma^2$. Assim, o gradiente da perda passa por $z$, chega aos dois e, dali, segue para todos os pesos do codificador. Na célula abaixo, a amostra simples não deixa o gradiente passar, mas a reparametrizada deixa. E o gradiente está certo: no caso de $\mathbb{E}[z^2] = \mu^2 + \sigma^2$, as derivadas exatas em relação à média e à log-variância são $2\mu$ e $\sigma^2$, e as estimativas ficam a menos de quatro erros padrão desses valores.

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

# a derivada de z² em cada sorteio, para o erro padrão
each_mu, each_logvar = (2 * z).detach(), (z * torch.exp(0.5 * logvar) * eps).detach()
exact_mu, exact_logvar = 2 * mu.item(), logvar.exp().item()
assert not plain.requires_grad
assert abs(mu.grad - exact_mu) < 4 * train.standard_error(each_mu)
assert abs(logvar.grad - exact_logvar) < 4 * train.standard_error(each_logvar)

# %% [markdown] key="class-equals-package"
# O pacote traz a mesma classe, `nets.VAE`, com *docstrings* e mensagens de erro. Com os mesmos pesos e a mesma semente, as duas produzem a mesma saída.

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
# ## 6. A perda
#
# A perda é a média, no lote, do ELBO com o sinal trocado. Para estimar o ELBO, basta uma amostra da nuvem de cada imagem: em média sobre $\varepsilon$, a estimativa acerta, e seu ruído se dilui ao longo do lote e de muitos passos. Somamos sobre os pixels e sobre as dimensões latentes; tiramos a média sobre as imagens. Trocar a soma pela média num só dos termos mudaria o objetivo sem nenhum aviso: com a média sobre os pixels, a KL pesaria 784 vezes mais.
#
# - **Reconstrução.** É o logaritmo da probabilidade de Bernoulli, somado sobre os pixels: $\sum_d [x_d \ell_d - \log(1 + e^{\ell_d})]$, em que $\ell$ são os logits. Trata-se da fórmula da seção 4 com $p = 1 / (1 + e^{-\ell})$; a função `softplus` é $\log(1 + e^\ell)$.
# - **KL.** Como a nuvem e a priori são normais, há uma fórmula fechada: $\frac{1}{2} \sum_j (\mu_j^2 + \sigma_j^2 - 1 - \log \sigma_j^2)$. Para chegar a ela, escreva $\log q - \log p$ em uma dimensão, $\frac{1}{2}[z^2 - (z - \mu)^2 / \sigma^2 - \log \sigma^2]$, e tire a média sobre $q$, usando $\mathbb{E}[z^2] = \mu^2 + \sigma^2$ e $\mathbb{E}[(z - \mu)^2] = \sigma^2$.
#
# A célula abaixo implementa os dois termos e os confere com `torch.distributions`, escrito por outras pessoas, e com o nosso pacote. Ela também imprime dois valores da KL; o segundo deve ser $\frac{1}{2}(1^2 + 2^2)$.

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
# ## 7. Treinamento
#
# O laço cabe em seis linhas. Para cada lote, é preciso executar o modelo (codificar, amostrar, decodificar), calcular a perda, zerar os gradientes antigos, calcular os novos e dar um passo. A célula abaixo traz esse laço e passa uma vez por 12.800 imagens, em lotes de 128. Quem sorteia os bits de cada lote é `batches`, porque pedimos `dynamic=True`. Depois, a célula faz o mesmo com `train.fit`, a partir da mesma semente, e confere se os dois modelos têm o mesmo ELBO nas imagens de teste, a menos de arredondamentos.

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
# Agora vem o treinamento de verdade: todas as 60.000 imagens, 15 épocas e o otimizador Adam, com taxa de aprendizado $10^{-3}$. A função `fit` mostra uma barra de progresso; em dois núcleos, leva de um a três minutos.
#
# A tabela traz, para cada época, o ELBO de treinamento, seus dois termos e o ELBO de teste, tudo em nats por imagem, e a duração da época, em segundos. O ELBO sobe depressa no início e devagar depois. Nas primeiras épocas, o ELBO de teste fica *acima* do de treinamento. Não é engano: o valor de treinamento é uma média ao longo da época, que inclui os lotes em que o modelo ainda era pior, enquanto o de teste é medido no fim dela. Mais adiante, os dois valores se cruzam (veja a figura depois da tabela), pois o modelo passa a conhecer um pouco melhor as imagens de treinamento.
#
# Repare na curva da KL, que tem escala própria: a partir da segunda época, ela cresce. (O valor da primeira inclui os lotes em que o treinamento mal havia começado.) Mas o termo de reconstrução aumenta mais do que a KL, e a diferença entre os dois, que é o ELBO, melhora.

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
# **Esse ELBO de teste é bom?** Sozinho, um ELBO não diz muito. Vamos compará-lo com o resultado do melhor modelo de pixels independentes e *sem* variável latente, em que cada pixel acende com a frequência que tem no conjunto de treinamento, não importa o que façam os outros. A log-verossimilhança desse modelo é calculada de forma exata, sem passar por um limite inferior. No outro extremo está o piso da seção 4 com o sinal trocado, agora um teto: em média, nenhum modelo dos bits pode superá-lo. A célula abaixo imprime os três valores e exige que o VAE, mesmo avaliado por um limite inferior, supere com folga o modelo sem variável latente e chegue ao valor esperado para estes dados. (O ELBO de teste difere um pouco do que está na tabela, porque os sorteios de $z$ são outros.)

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
# ## 8. Reconstrução
#
# Na linha de cima da figura estão dez imagens de teste, que o modelo nunca viu no treinamento. A de baixo mostra o que ele reconstrói, isto é, a média do decodificador no centro de cada nuvem. Os contornos ficam suaves. Também há trocas: como são apenas dois números por imagem, alguns dígitos voltam transformados em outros, às vezes parecidos.

# %% key="reconstructions"
figures.reconstructions(model, test_images)

# %% [markdown] key="why-soft"
# **Por que tão suaves?** Dois números não bastam para dizer onde está cada traço. Dado $z$, os pixels são independentes, e podemos tratar cada um separadamente. Mantenha o codificador como está. Qual seria, então, o melhor decodificador no ponto $z$? Todas as imagens $x_n$ cujas nuvens alcançam $z$ contribuem, cada uma com o peso $w_n = q(z \mid x_n)$. Em cada pixel, o melhor $p$ é o valor que anula a derivada de $\sum_n w_n [x_n \log p + (1 - x_n) \log(1 - p)]$. A solução é a **média ponderada** das imagens:
#
# $$\bar{x}(z) = \frac{\sum_n q(z \mid x_n)\, x_n}{\sum_n q(z \mid x_n)}.$$
#
# Uma média de dígitos parecidos é um dígito borrado. Será que o nosso decodificador encontrou essa média? A célula abaixo a calcula com 20.000 imagens de treinamento, nos centros das nuvens de 200 imagens de teste. Medimos a distância entre a imagem decodificada e essa média pela diferença absoluta média por pixel. Para comparar, a célula imprime também a distância até a média de 50 imagens sorteadas do mesmo dígito e até a própria imagem de teste. Na mediana, a média ponderada é, de longe, a mais próxima: o borrão é justamente o que a perda favorece. Na figura, a saída do decodificador está na linha de cima, e a média ponderada, na de baixo. As duas nem sempre coincidem: onde se encontram nuvens de vários dígitos, o decodificador, que tem uma só camada oculta, suaviza o que a média deixa emaranhado.
#
# A culpa não é só da KL. Ela influi na largura das nuvens e, com isso, no número de imagens que dividem um mesmo ponto. Mas um autocodificador de dois números, sem KL nenhuma, também produz imagens borradas, como mostra a [lição 05](05_latent_space.ipynb).

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
weights = torch.cat(log_q).softmax(-1)  # (200, 20000), cada linha soma um
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
# ## 9. Geração
#
# Para inventar imagens, deixamos o codificador de lado: basta amostrar $z$ da priori e decodificar. A figura mostra duas coisas diferentes, que muitos textos confundem.
#
# - A linha de cima traz as **médias** do decodificador, isto é, a probabilidade de cada pixel acender. Elas são bonitas, mas o modelo nunca geraria uma imagem em tons de cinza.
# - A de baixo traz as **amostras** do modelo, em que cada pixel é sorteado com essa probabilidade. Repare no chuvisco: há pontos soltos em volta dos traços e furos dentro deles. Ele aparece porque, dado $z$, os pixels são sorteados de forma independente.

# %% key="samples"
with torch.no_grad():
    means = model.decode(torch.randn(1_000, 2, device=device))  # (1000, 784)
speckle = means * (1 - means)  # a variância de cada pixel
inside = speckle[means > 0.5].sum() / speckle.sum()
assert 0.2 < inside < 0.6
figures.samples(model, count=10, generator=torch.Generator().manual_seed(0))

# %% [markdown] key="manifold"
# ## 10. A variedade
#
# Quando $z$ percorre o plano, as imagens decodificadas formam uma superfície de duas dimensões no espaço de todas as imagens de 784 pixels. Ela se chama *variedade*. Como são dois números por imagem, dá para vê-la *de uma só vez*: basta decodificar uma grade de pontos $z$. Mas qual grade? A cada ponto corresponde um ladrilho do plano. Com passos iguais, os ladrilhos do centro teriam muito mais massa da priori do que os das bordas. Por isso, em cada eixo, cortamos a normal em vinte pedaços de mesma massa e ficamos com a mediana de cada um, que é o valor da inversa da função de distribuição normal em $(i + \frac{1}{2}) / 20$, com $i$ de 0 a 19.

# %% key="manifold-grid" tags=["nbval-check-output"]
n = 20
points = torch.special.ndtri((torch.arange(n) + 0.5) / n)  # (20,)
edges = torch.special.ndtri(torch.arange(n + 1) / n)  # (21,)
masses = Normal(0.0, 1.0).cdf(edges).diff()  # (20,)

assert torch.allclose(masses, torch.full((n,), 1 / n), atol=1e-6)
assert torch.equal(points, figures.normal_quantiles(n))
print(say("tour-points-shown", first=points[0].item(), tenth=points[9].item()))

# %% [markdown] key="manifold-before"
# Na figura, $z_1$ cresce para a direita, e $z_2$, para cima. Procure três coisas: as regiões em que um só dígito domina, as fronteiras em que um dígito vira outro aos poucos e a inclinação dos traços, que muda devagar dentro de uma mesma região. Ninguém contou ao modelo o que é um dígito.

# %% key="manifold-picture"
tiles = figures.manifold_tiles(model, n)  # (20, 20, 784)
with torch.no_grad():
    corner = torch.tensor([[points[0], points[-1]]], device=device)  # (1, 2)
    assert torch.allclose(tiles[0, 0], model.decode(corner)[0].cpu(), atol=1e-6)

figures.manifold(model, n)

# %% [markdown] key="map-before"
# E onde ficam as imagens de verdade? Na figura abaixo, cada ponto representa uma dentre 5.000 imagens de teste: ele fica no centro da nuvem da imagem e tem a cor do dígito. Cada disco numerado marca, aproximadamente, a mediana dos pontos de um dígito; quando esses pontos formam dois grupos, o disco pode ficar entre os dois. Os dois círculos contêm 50% e 95% da massa da priori. Repare que os grupos se tocam em volta do centro e que dígitos parecidos são vizinhos. Repare também nos grupos que ultrapassam o círculo externo.

# %% key="map-picture"
figures.latent_map(model, test_images)

# %% key="map-spread"
torch.manual_seed(0)
with torch.no_grad():
    mu, logvar = model.encode(test_images.pixels)  # (10000, 2)
sigma = torch.exp(0.5 * logvar)
z = mu + sigma * torch.randn_like(mu)  # (10000, 2), um sorteio por imagem

outside = (z.norm(dim=-1) > math.sqrt(-2 * math.log(0.05))).float()  # fora dos 95%
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
# Juntas, e todas com o mesmo peso, as nuvens formam a **posteriori agregada**. Se ela fosse igual à priori, 5% dos sorteios cairiam fora do círculo externo, e as duas variâncias seriam 1. Não é o que acontece: a célula encontra mais do triplo disso fora do círculo e, no caso de um dos dígitos, a maior parte dos sorteios. O termo KL puxa as nuvens para a priori, uma por uma, enquanto o termo de reconstrução puxa no sentido contrário. Sobre a posteriori agregada, o termo KL garante pouco: a KL dela em relação à priori não pode passar da KL média das nuvens, mas essa média é de vários nats e deixa muita folga. A [lição 05](05_latent_space.ipynb) mede a diferença.

# %% [markdown] key="sliders"
# ## 11. Passeando pelo espaço latente
#
# Mova $z_1$ e $z_2$ para ver o dígito mudar. Estes controles deslizantes chamam o Python a cada movimento e, por isso, precisam de um *kernel*: execute o caderno antes. No teclado, cada toque em uma seta muda o valor em 0,1; as teclas Home e End levam aos extremos.

# %% key="sliders-shown"
panel = latent_sliders(model)
panel

# %% key="sliders-moved"
# leva cada controle às duas pontas e de volta ao zero: a imagem acompanha
seen = {bytes(panel.image.value)}
for slider in panel.sliders:
    for value in (slider.min, slider.max, 0.0):
        slider.value = value
        seen.add(bytes(panel.image.value))
assert len(seen) == 5

# %% [markdown] key="explorer"
# O **explorador** faz o mesmo sem Python: os pesos do decodificador vêm junto com a página, e quem decodifica é o JavaScript. O explorador funciona num caderno que foi aberto e ainda não foi executado, e também numa página da web, onde não há *kernel* nenhum. Se, no lugar dele, aparecer só uma linha de texto, execute a célula ou marque o caderno como confiável (no JupyterLab: *Arquivo*, *Confiar no Notebook*). Arraste o ponto sobre o mapa ou use as setas do teclado. Todos os ladrilhos da grade ao fundo têm a mesma massa da priori.

# %% key="explorer-shown"
explorer = LatentExplorer(model, train_images)
explorer

# %% [markdown] key="next"
# ## 12. O que ficou sem resposta
#
# Cada pergunta abaixo é o tema de uma lição do curso. As lições que já saíram estão nesta mesma pasta.
#
# | lição | pergunta |
# | --- | --- |
# | 01 | O que um VAE acrescenta a um autocodificador, numa comparação justa? |
# | [02](02_elbo.ipynb) | De onde vem o ELBO, e quão apertado ele é? |
# | [03](03_reparameterization.ipynb) | Como um gradiente atravessa um sorteio? |
# | [04](04_gpu_training.ipynb) | O que é preciso para manter o processador ocupado? |
# | [05](05_latent_space.ipynb) | O que o modelo aprendeu? |
# | [06](06_exact_ledger.ipynb) | Quanto falta, exatamente, para o ELBO chegar a $\log p(x)$? |
# | 07 | Sua perda corresponde a que verossimilhança? |
# | 08 | Quando uma latente morre, e o que se ganha com o beta? |
# | 09 | Que rumos a ideia tomou? |
# | 10 | O ELBO é mesmo um número de bits? |
#
# **Para ler.** Kingma e Welling (2013), *Auto-Encoding Variational Bayes*, de onde vem quase tudo o que você viu. Rezende, Mohamed e Wierstra (2014) chegaram à mesma ideia de forma independente, quase ao mesmo tempo.

# %% [markdown] key="exercises"
# ## Exercícios
#
# Escreva sua resposta no lugar das reticências e execute a célula. A verificação responde na hora, com “Certo” ou com uma pista. As soluções estão recolhidas logo abaixo de cada questão; só as abra depois de tentar.
#
# ### 1. A KL em relação a outra priori
#
# Na lição, a priori é $\mathcal{N}(0, I)$. Escreva a KL de $\mathcal{N}(\mu, \sigma^2)$ em relação a uma priori mais larga ou mais estreita, $\mathcal{N}(0, \tau^2 I)$. A função recebe `mu` e `logvar`, de forma `(B, L)` ($B$ imagens, $L$ dimensões latentes), e o número `tau`, e devolve um número por imagem. Com $\tau = 1$, o resultado deve coincidir com o da fórmula da lição.

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
# ### 2. Encontre o erro
#
# A função `draw_with_a_bug` roda sem reclamar, deixa o gradiente passar e até permite treinar o modelo. Mas a amostra não vem da nuvem que o codificador descreveu. Encontre o erro e escreva em `my_draw` a função correta.

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
# ### 3. O beta-VAE
#
# Multiplique a KL por um peso $\beta$ (Higgins et al., 2017) e devolva a perda do lote, que é um único número, para o otimizador *minimizar*. Com $\beta = 1$, obtém-se a perda da lição.
#
# Para pensar: com $\beta = 4$, a perda com o sinal trocado ainda é um limite inferior de $\log p(x)$? E com $\beta = \frac{1}{2}$?

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
# <details><summary>Resposta à pergunta para pensar</summary>
#
# A KL nunca é negativa. Com $\beta > 1$, subtraímos mais do que antes; por isso, o resultado nunca passa do ELBO e continua sendo um limite inferior, só que mais frouxo. Com $\beta < 1$, subtraímos menos; o resultado pode passar de $\log p(x)$, e perdemos a garantia.
#
# </details>

# %% [markdown] key="exercise-mass-text"
# ### 4. O que uma grade de passos iguais deixa de fora
#
# Muitos textos mostram a variedade numa grade de passos iguais, que vai de $-a$ a $a$ em cada eixo. Que fração da massa da priori fica dentro dessa grade, com $L$ dimensões latentes? Na função, $a$ e $L$ se chamam `extent` e `latents`. Devolva um número entre 0 e 1. Depois, experimente $a = 2$ com 2 e com 20 dimensões.

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
# <details><summary>Resposta à pergunta</summary>
#
# Com $a = 2$, 91% da massa da priori fica dentro do quadrado de duas dimensões, mas só 39% dentro da caixa de vinte. Em vinte dimensões, a grade que parecia generosa deixa de fora a maior parte da priori.
#
# </details>

# %% [markdown] key="exercise-latents-text"
# ### 5. Mais dimensões latentes
#
# Treine, por três épocas, um `nets.VAE` com dez dimensões latentes. O ELBO de teste deve ficar bem acima do ELBO do modelo da lição, que foi treinado por 15 épocas. A verificação compara os dois modelos, imagem por imagem, e exige uma diferença de ao menos quatro erros padrão. O que você perde em troca?

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
# <details><summary>Resposta à pergunta</summary>
#
# Perdem-se as figuras da seção 10, já que dez dimensões não cabem num plano. Também não dá mais para calcular $\log p(x)$ com uma soma numa grade, como se faz na lição 02.
#
# </details>

# %% [markdown] key="exercise-dataset-text"
# ### 6. Outros dados
#
# O curso também desenha dígitos próprios, que você carrega com `data.load("strokes", "train")`. Treine com eles um `nets.VAE` de duas latentes, por três épocas ou mais, e observe a variedade com `figures.manifold`. O que mudou na forma das regiões?

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
# <details><summary>Resposta à pergunta</summary>
#
# As regiões acompanham o que varia nos desenhos, a começar por qual dígito foi desenhado. As fronteiras ficam em outros lugares, porque aqui os dígitos parecidos são outros. Uma coisa não muda: continua havendo regiões, com mudanças lentas dentro delas e fronteiras entre elas.
#
# </details>
