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
# # O que o modelo aprendeu?
#
# O treinamento acabou, e o ELBO de teste está na tabela da lição 00. É um número só, e ele não diz o que *significam* os dois números que representam cada imagem, nem se o plano está cheio ou tem buracos, nem o que borra as imagens. Nesta lição, abrimos o modelo e olhamos lá dentro.
#
# **Ao final, você saberá** dizer o que borra uma reconstrução e o que não borra; distinguir a média do decodificador de uma amostra; desenhar o plano latente numa grade em que todos os ladrilhos têm a mesma probabilidade; medir a que distância da priori fica o conjunto dos códigos; caminhar de um dígito a outro; e explorar um espaço latente que não cabe na página.
#
# **Você precisa da** lição 00.
#
# **Tempo:** 50 minutos de leitura; cerca de um minuto de processamento. Na primeira vez, são até quatro minutos a mais, para treinar quatro modelos.

# %% key="setup"
import math
from functools import partial

import torch
import torch.nn.functional as F
from matplotlib.colors import LinearSegmentedColormap
from torch.distributions import Normal

from vae_teach import data, densities, figures, nets, sliders, train
from vae_teach.bounds import reconstruction
from vae_teach.checks import latents as checks
from vae_teach.explorer import LatentExplorer
from vae_teach.words import say, use_language

use_language("pt")

# %% [markdown] key="model-text"
# ## 1. O paciente
#
# O modelo é o da lição 00, com duas latentes e 15 épocas de treinamento. Se ainda não estiver no *cache*, ele será treinado agora. Os números citados no texto são os do MNIST. Em tudo o que as células imprimem, o número depois de ± é um erro padrão.

# %% key="model"
device = torch.device("cpu")
if torch.accelerator.is_available():
    device = torch.accelerator.current_accelerator()

train_images = data.load("auto", "train", device=device)
on_mnist = train_images.name == "mnist"  # the text tells its numbers
test_images = data.load(train_images.name, "test", device=device)
model, history = train.trained(train_images, device=device)

torch.manual_seed(0)
bound = train.evaluate(model, test_images)  # three times (10000,) nats
mean, error = bound.elbo.mean().item(), train.standard_error(bound.elbo)
assert mean > {"mnist": -158.0, "strokes": -135.0}[train_images.name]
print(say("latents-patient", name=train_images.name, mean=mean, error=error))

# %% [markdown] key="blur-toy-text"
# ## 2. Quem borra a imagem?
#
# "As imagens dos VAEs são borradas por causa da KL": é o que se lê em muitos lugares. Vamos, então, levar a KL a julgamento.
#
# Comecemos por um caso sem KL nenhuma e sem codificador. Uma barra aparece à esquerda ou à direita, metade das vezes de cada lado. A latente não diz de que lado está a barra, pois as duas imagens recebem o mesmo código. O decodificador se reduz a um único vetor de logits, que ajustamos por gradiente descendente para tornar as duas imagens o mais prováveis possível. A próxima figura mostra as duas imagens e a escolha do decodificador.

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

# %% key="blur-toy-picture" jupyter={"source_hidden": true} tags=["hide-input"]
figure, axes = figures.picture(say("latents-alt-toy"), columns=3, width=6, height=2.3)
titles = [say("latents-toy-image", number=k) for k in (1, 2)] + [say("latents-chosen")]
shown = torch.cat((bars, chosen[None])).float()  # (3, 784)
for ax, image, title in zip(axes, shown, titles, strict=True):
    figures.show_digits(ax, image[None], columns=1, title=title)
figure

# %% [markdown] key="blur-cause"
# O decodificador escolhe a média. Dada a latente, os pixels são independentes; por isso, a probabilidade de cada um se ajusta, sozinha, à frequência com que ele acende: um meio, nos pixels em que as imagens diferem. **Se os pixels são independentes, o que a latente não determina vira média.** Eis o borrão, sem KL nenhuma em cena. Cada um dos pixels em que as imagens diferem custa, em média, $\log 2$, e nenhum logit consegue menos: a soma é o custo inevitável que a célula imprimiu.
#
# Precisamos de um número que meça o borrão. Dada uma média $m$ do decodificador, definimos
#
# $$G(m) = \sum_d m_d\,(1 - m_d),$$
#
# o *cinza* da imagem. Ele vale 0 se cada pixel é certamente preto ou certamente branco, e cada pixel decidido no cara ou coroa soma $\frac{1}{4}$. O cinza é a variância que o próprio decodificador atribui aos pixels. No exemplo das barras, ele vale $120 / 4 = 30$.

# %% key="grey" tags=["nbval-check-output"]
def grey(means):
    return (means * (1 - means)).sum(-1)  # (B,)


assert abs(grey(chosen) - differing / 4) < 0.4
print(say("latents-grey-toy", average=grey(chosen).item(), bar=grey(bars[0]).item()))

# %% [markdown] key="trial-text"
# Passemos ao modelo. Há dois suspeitos: a KL, que põe um preço na informação que o código carrega, e o número de latentes. Vamos mudar um de cada vez, com uma ressalva: ao tirar a KL, tiramos também o ruído do código; portanto, o que chamamos de efeito da KL é o efeito dos dois juntos. Treinamos um VAE e um *autocodificador* com 2 latentes, e outro par com 30. O autocodificador não tem KL nem ruído, e nele cada imagem vira um ponto. Os quatro modelos veem as mesmas imagens por 15 épocas, e cada um foi treinado com uma só semente: na tabela, o ± se refere às imagens de teste, e não a outras sementes.

# %% key="trial"
wide, _ = train.trained(train_images, latent_dim=30)
point_2, _ = train.trained(
    train_images, make=partial(nets.AE, latent_dim=2), objective=reconstruction
)
point_30, _ = train.trained(
    train_images, make=partial(nets.AE, latent_dim=30), objective=reconstruction
)

# %% [markdown] key="verdict-text"
# Para as 10.000 imagens de teste, a tabela traz o cinza da reconstrução e o erro quadrático, $\lVert x - m \rVert^2$, ambos em pixels. A última linha da tabela mede o ruído do próprio sorteio: os bits de teste foram sorteados a partir dos níveis de cinza, e nem quem conhecesse esses níveis adivinharia o resultado. Depois da tabela vêm três diferenças, calculadas imagem por imagem.

# %% key="verdict"
@torch.no_grad()
def rebuilt(images):
    return {
        "latents-vae-2": model.decode(model.encode(images)[0]),
        "latents-ae-2": point_2.decode(point_2.encode(images)),
        "latents-vae-30": wide.decode(wide.encode(images)[0]),
        "latents-ae-30": point_30.decode(point_30.encode(images)),
    }


x = test_images.pixels  # (10000, 784), binary
levels = data.load(train_images.name, "test", binarize=False, device=device).pixels
greys, errors = {}, {}  # (10000,) each
for key, m in (rebuilt(x) | {"latents-grey-levels": levels}).items():
    greys[key], errors[key] = grey(m), (x - m).square().sum(-1)
    told = {"grey": greys[key].mean().item(), "error": errors[key].mean().item()}
    told["grey_error"] = train.standard_error(greys[key])
    told["error_error"] = train.standard_error(errors[key])
    print(say("latents-trial-row", model=say(key), **told))

vae_2, ae_2, vae_30, ae_30, _ = greys.values()
changes = {"kl-2": vae_2 - ae_2, "kl-30": vae_30 - ae_30, "latents": vae_2 - vae_30}
shares = {}
for name, change in changes.items():
    before = vae_30 if name == "kl-30" else vae_2
    shares[name] = (change.mean() / before.mean()).item()
    told = {"change": change.mean().item(), "error": train.standard_error(change)}
    print(say(f"latents-change-{name}", share=shares[name], **told))
    paired = train.standard_error(change)  # image by image
    assert change.mean() > 4 * paired or not on_mnist
assert shares["latents"] > 0.5 or not on_mnist
assert shares["kl-2"] < 0.05 or not on_mnist
for key in ("latents-vae-2", "latents-ae-2"):
    assert abs(greys[key].mean() / errors[key].mean() - 1) < 0.05 or not on_mnist

# %% key="trial-picture" jupyter={"source_hidden": true} tags=["hide-input"]
ten = figures.one_of_each(test_images)
rows = {say("latents-originals"): x[ten]}
rows |= {say(key): m for key, m in rebuilt(x[ten]).items()}
figure = figures.gallery(rows, columns=10, alt=say("latents-alt-trial"))
figure.stored_dpi = figures.SHOWN_DPI  # 50 digits
figure

# %% [markdown] key="trial-noticed"
# **O borrão vem do que o código não diz.** Com duas latentes, tirar a KL reduz o cinza em 4%; portanto, não é ela que borra estas imagens. O problema é que dois números são poucos. Com mais 28, e com a KL em pleno vigor, mais da metade do cinza desaparece.
#
# Com 30 números, o código tem espaço para dizer mais, e aí a KL pesa: sem ela, o cinza que restou cai 29% (em parte por causa do ruído, que sai junto com a KL). O que sobra, então, fica perto da última linha da tabela. Mas não é a KL que faz o decodificador devolver a média das imagens. Ela é um preço cobrado pela informação, e às vezes um detalhe não vale o que custa.
#
# Com duas latentes, o cinza e o erro quadrático quase coincidem, e isso em imagens que o modelo nunca viu. Nesse caso, em média, o decodificador conhece o tamanho da própria incerteza. A seção 4 explica por que os dois deveriam ser iguais.

# %% [markdown] key="classes-text"
# ## 3. Quais dígitos são difíceis?
#
# Por trás do ELBO médio há dez histórias diferentes. A próxima figura separa o *custo* de cada dígito, que é o ELBO com o sinal trocado, em dois termos: embaixo, a reconstrução; em cima, a KL. A barra de erro se estende por quatro erros padrão para cada lado. O losango marca o custo num modelo sem variável latente, em que cada pixel acende com a frequência observada no conjunto de treinamento. A distância entre o topo da barra e o losango é o que se ganha com a latente.

# %% key="classes"
labels = test_images.labels.cpu()


def by_class(values):
    parts = [values.cpu()[labels == digit] for digit in range(10)]
    means = torch.tensor([part.mean() for part in parts])
    return means, torch.tensor([train.standard_error(part) for part in parts])


costs, cost_errors = by_class(-bound.elbo)  # (10,), (10,) nats
kls, kl_errors = by_class(bound.kl)
parts = [data.grey(part).mean(0) for part in train_images.pixels.split(6000)]
frequency = torch.stack(parts).mean(0).clamp(1e-4, 1 - 1e-4)  # (784,)
without, _ = by_class(-densities.log_bernoulli(x, frequency.logit()))

# %% key="classes-picture" jupyter={"source_hidden": true} tags=["hide-input"]
figure, (ax,) = figures.picture(say("latents-alt-classes"), height=3.4)
digits = torch.arange(10)
blue, orange = figures.COLORS["reconstruction"], figures.COLORS["kl"]
ax.bar(digits, costs - kls, color=blue, label=say("latents-cost-reconstruction"))
ax.bar(digits, kls, bottom=costs - kls, color=orange, hatch="//", label="KL")
ax.errorbar(digits, costs, 4 * cost_errors, fmt="none", ecolor="black", capsize=4)
ax.plot(digits, without, "D", color="black", ms=5, label=say("latents-no-latent"))
ax.set(xlabel=say("latents-digit"), ylabel=say("latents-cost"), xticks=digits)
figure.legend(loc="outside upper right", fontsize=8, ncols=3, frameon=False)
figure

# %% key="classes-named" jupyter={"source_hidden": true} tags=["hide-input"]
ink, _ = by_class(x.sum(-1))  # (10,) lit pixels
easy, hard = costs.argmin().item(), costs.argmax().item()
for digit in (easy, hard):
    told = {"cost": costs[digit].item(), "error": cost_errors[digit].item()}
    told |= {"kl": kls[digit].item(), "ink": ink[digit].item()}
    print(say("latents-class-cost", digit=digit, **told))
least, most = kls.argmin().item(), kls.argmax().item()
told = {"low": kls[least].item(), "high": kls[most].item()}
print(say("latents-class-kl", least=least, most=most, **told))

gap = costs[hard] - costs[easy]
assert gap > 4 * torch.hypot(cost_errors[hard], cost_errors[easy])
assert ink.argmin() == easy or not on_mnist
assert kls[most] - kls[least] < (costs - kls).max() - (costs - kls).min()
assert kls[most] - kls[least] > 4 * torch.hypot(kl_errors[most], kl_errors[least])
assert (without - costs > 4 * cost_errors).all()  # the latent lowers every digit's cost

# %% [markdown] key="classes-noticed"
# No MNIST, o dígito mais barato é o 1, que é também o que tem menos tinta. A KL varia menos que a reconstrução, e o 1, cuja reconstrução é a mais barata, tem a KL mais alta. Quanto mais estreita a nuvem, ou mais longe do centro, maior é a KL.
#
# E quais imagens, uma a uma, custam mais? A próxima figura mostra as dez mais caras do conjunto de teste e a reconstrução de cada uma. Em algumas, o dígito está mal escrito. Em outras, está bem escrito, mas o código da imagem fica numa região dominada por outro dígito. A linha abaixo da figura compara, quanto a isso, as 500 imagens mais caras com todas as de teste. O dígito que domina um lugar é o mais comum entre os 25 códigos de teste mais próximos; quando o lugar é o código de uma imagem, esse código também conta.

# %% key="worst" jupyter={"source_hidden": true} tags=["hide-input"]
worst = bound.elbo.argsort()  # (10000,) the most expensive first
with torch.no_grad():
    returned = model.decode(model.encode(x[worst[:10]])[0])  # (10, 784)
rows = {say("latents-worst"): x[worst[:10]], say("latents-returned"): returned}
figures.gallery(rows, columns=10, alt=say("latents-alt-worst"))

# %% key="worst-where" jupyter={"source_hidden": true} tags=["hide-input"]
with torch.no_grad():
    codes = model.encode(x)[0].cpu()  # (10000, 2)


def digit_at(z, count=25):  # what most of the nearest test codes are: (B, 2) to (B,)
    near = [
        torch.cdist(some, codes).topk(count, largest=False) for some in z.split(500)
    ]
    return labels[torch.cat([found.indices for found in near])].mode(1).values


stray = (digit_at(codes) != labels).double()  # (10000,)
costly = stray[worst[:500].cpu()].mean().item()
print(say("latents-stray", costly=costly, every=stray.mean().item()))
assert costly - stray.mean().item() > 4 * train.standard_error(stray[worst[:500].cpu()])

# %% [markdown] key="samples-text"
# ## 4. Médias e amostras
#
# Sorteie $z$ da priori. O decodificador devolve $m$, uma probabilidade para cada pixel. Vista como imagem, $m$ é a **média** de $p(x \mid z)$. Para ter uma **amostra**, falta sortear cada pixel, que dá 1 com probabilidade $m_d$. Segundo o modelo, é com as *amostras* que os dados se parecem. A próxima figura mostra as médias e, embaixo delas, as amostras, para os mesmos dez $z$. Repare nos pontinhos soltos das amostras, que as imagens de teste quase não têm: nisso o modelo se engana.

# %% key="samples"
torch.manual_seed(0)
z = torch.randn(4000, 2, device=device)  # from the prior
with torch.no_grad():
    m = model.decode(z)  # (4000, 784)
bits = (torch.rand_like(m) < m).float()  # (4000, 784)

rows = {say("sample-means"): m[:10], say("sample-pixels"): bits[:10]}
figures.gallery(rows, columns=10, alt=say("latents-alt-samples"))

# %% [markdown] key="samples-by-hand"
# A que distância da média deveria ficar a amostra? Com probabilidade $m_d$, o pixel vale 1 e difere da média em $1 - m_d$; com probabilidade $1 - m_d$, vale 0 e difere dela em $m_d$. O quadrado dessa diferença vale, em média, $m_d (1 - m_d)^2 + (1 - m_d)\, m_d^2 = m_d (1 - m_d)$. Somando sobre os pixels,
#
# $$\mathbb{E}\,\lVert x - m \rVert^2 = \sum_d m_d\,(1 - m_d) = G(m).$$
#
# É o cinza da seção 2. A próxima célula exige que, nas 4.000 amostras, o quadrado da distância difira do cinza, em média, em menos de quatro erros padrão. O que diz, então, a quase coincidência entre o cinza e o erro na tabela, no caso de duas latentes? Que, nessa medida (o erro quadrático), as *imagens de teste* se comportam quase como amostras das reconstruções do próprio modelo. A tabela usa só a média do código, sem o ruído. Com 30 latentes, isso faz diferença. O decodificador foi treinado com códigos ruidosos, e seu cinza inclui a incerteza que vem desse ruído; sem o ruído, o erro fica menor que o cinza. Com o ruído de volta, os dois quase coincidem, como mostra a última linha que a célula imprime.

# %% key="samples-measured"
distances = (bits - m).square().sum(-1)  # (4000,)
difference = distances - grey(m)  # (4000,)
mean, error = difference.mean().item(), train.standard_error(difference)
assert abs(mean) < 4 * error
lit = (bits - m).sum(-1)  # (4000,) pixels lit beyond what the mean says
assert abs(lit.mean()) < 4 * train.standard_error(lit)
told = {"apart": distances.mean().item(), "grey": grey(m).mean().item()}
print(say("latents-apart", error=error, **told))

with torch.no_grad():
    noisy = wide.decode(wide.reparameterize(*wide.encode(x)))  # (10000, 784)
told = {"grey": grey(noisy).mean().item()}
told["error"] = (x - noisy).square().sum(-1).mean().item()
print(say("latents-noisy", **told))
assert abs(told["error"] / told["grey"] - 1) < 0.02 or not on_mnist

# %% [markdown] key="temperature-text"
# ## 5. Temperatura
#
# Muitas galerias mostram, sem nenhum aviso, imagens decodificadas a partir de $z \sim \mathcal{N}(0, T^2 I)$, com uma *temperatura* $T$ menor que 1, na esperança de que saiam mais nítidas. O que isso muda? Na próxima figura, cada coluna usa um único sorteio $\varepsilon \sim \mathcal{N}(0, I)$, e $z = T \varepsilon$ se afasta do centro em linha reta à medida que $T$ cresce. Leia as colunas de cima para baixo.

# %% key="temperature-picture" jupyter={"source_hidden": true} tags=["hide-input"]
torch.manual_seed(4)
eps = torch.randn(10, 2, device=device)
with torch.no_grad():
    rows = {
        say("latents-temperature", value=value): model.decode(value * eps)
        for value in (0.3, 1.0, 1.6, 2.5)
    }
figures.gallery(rows, columns=10, alt=say("latents-alt-temperature"))

# %% [markdown] key="diversity-text"
# Em temperatura baixa, todos os sorteios caem perto do centro do plano.
#
# Dois números resumem o que muda. A **diversidade** é a variância *entre* as médias, $\sum_d \mathrm{Var}[m_d]$. O **cinza** médio é a variância das amostras *em torno* de cada média. Pela lei da variância total, as duas variâncias se somam. Como os pixels são binários, o total só depende da imagem média $\bar m$:
#
# $$\underbrace{\sum_d \mathrm{Var}[m_d]}_{\text{diversidade}} + \underbrace{\mathbb{E}\,[G(m)]}_{\text{cinza}} = G(\bar m).$$
#
# A próxima figura empilha as duas para cada $T$. A linha tracejada é o total das imagens de teste; a pontilhada marca $T = 1$. A última linha de texto que a próxima célula imprime se refere a outros pontos, sorteados das nuvens de 4.000 imagens de treinamento.

# %% key="diversity"
def diversity_of(z):
    with torch.no_grad():
        m = model.decode(z).cpu().double()  # (B, 784)
    between = (m - m.mean(0)).square().sum(-1)  # (B,)
    within = grey(m).mean().item()
    assert abs(between.mean() + within - grey(m.mean(0))) < 1e-6
    return between.mean().item(), train.standard_error(between), within


temperatures = torch.linspace(0, 3, 13)  # (13,)
torch.manual_seed(0)
eps = torch.randn(4000, 2, device=device)  # the same draws for every temperature
diversity, errors, within = torch.tensor(
    [diversity_of(value * eps) for value in temperatures.tolist()]
).T  # (13,) each
some, _ = next(iter(train_images.batches(4000)))
with torch.no_grad():
    own = diversity_of(model.reparameterize(*model.encode(some)))
one = temperatures.tolist().index(1.0)
for k in (2, one, 8):
    told = {"diversity": diversity[k].item(), "error": errors[k].item()}
    told |= {"grey": within[k].item(), "temperature": temperatures[k].item()}
    print(say("latents-diversity", **told))
print(say("latents-diversity-codes", diversity=own[0], error=own[1], grey=own[2]))

assert (diversity.diff() > 0).all()
assert within[2] > within[one] or not on_mnist
assert own[0] - diversity[one] > 4 * math.hypot(own[1], errors[one]) or not on_mnist

# %% key="diversity-picture" jupyter={"source_hidden": true} tags=["hide-input"]
figure, (ax,) = figures.picture(say("latents-alt-diversity"), width=6.2, height=3.2)
ax.stackplot(
    temperatures,
    diversity,
    within,
    colors=[figures.COLORS["prior"], "#BBBBBB"],
    labels=[say("latents-between"), say("latents-within")],
)
ax.errorbar(temperatures, diversity, 4 * errors, fmt="k.", ms=3)
total = grey(x.mean(0)).item()  # of the test images
ax.axhline(total, color="black", linestyle="--", label=say("latents-data-total"))
ax.axvline(1, color="black", linestyle=":", linewidth=1)
ax.set(xlabel=say("latents-temperature-axis"), ylabel=say("latents-variance"))
ax.set(xlim=(0, 3), ylim=(0, 1.45 * total))
ax.legend(loc="upper right", fontsize=8, ncols=2, frameon=False)
figure

# %% [markdown] key="temperature-moral"
# Com $T = 0{,}5$, perde-se diversidade. E, neste modelo, nem por isso a galeria fica mais nítida, pois o cinza sobe. Acima de $T = 1$, a diversidade continua a crescer. No começo, esse crescimento só repõe o que faltava, já que os códigos das próprias imagens são mais diversos que os sorteios da priori. Depois, os sorteios saem da região dos códigos; a seção 7 mede quantos. O modelo treinado é o de $T = 1$. Com qualquer outra temperatura, o que se vê é outro modelo, e quem a usa deve avisar.

# %% [markdown] key="grids-text"
# ## 6. Duas grades e o que cada uma deixa de fora
#
# Para ver o plano todo de uma vez, decodificamos uma grade de pontos. Na lição 00, usamos a inversa da função de distribuição normal. Mais comum é a grade de passos iguais. Que diferença isso faz?
#
# Uma grade divide o plano em ladrilhos. Em cada eixo, precisamos de $n + 1$ bordas e, em cada intervalo entre elas, de um ponto para decodificar. Como as duas coordenadas da priori são independentes, a massa de um ladrilho é o produto das massas de seus dois intervalos, um em cada eixo.

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
oracle = Normal(0.0, 1.0).cdf(equal_mass(n)[0]).diff()  # by erf, not by ndtr
assert torch.allclose(masses, torch.full((n, n), 1 / n**2).double(), atol=1e-12)
assert torch.allclose(masses, oracle[:, None] * oracle, atol=1e-7)
points = equal_mass(20)[1].float()
assert torch.allclose(points, figures.normal_quantiles(20), atol=1e-5)
print(say("latents-tile-mass", n=n, mass=masses[0, 0].item()))

# %% [markdown] key="coverage-text"
# Vejamos agora a grade de passos iguais, de $-a$ a $a$ em cada eixo. Ela cobre uma massa de $(2\Phi(a) - 1)^2$, em que $\Phi$ é a função de distribuição normal. Além disso, quanto maior é $a$, mais desiguais são os pesos dos ladrilhos: o fim de cada linha impressa compara a massa do mais pesado com a do mais leve.

# %% key="coverage" tags=["nbval-check-output"]
for extent, known in ((1.0, 0.466), (1.5, 0.751), (3.0, 0.995)):
    masses = tile_masses(equal_steps(n, extent)[0])  # (8, 8)
    covered = (2 * Normal(0.0, 1.0).cdf(torch.tensor(extent).double()) - 1) ** 2
    assert abs(masses.sum() - covered) < 1e-6
    assert abs(covered - known) < 5e-4
    told = {"covered": covered.item(), "ratio": (masses.max() / masses.min()).item()}
    print(say("latents-coverage", extent=extent, **told))

# %% [markdown] key="tiles-text"
# Na próxima figura, a grade da esquerda tem passos iguais, de $-3$ a $3$, e a da direita tem ladrilhos de mesma massa. Em cima estão 600 sorteios da priori e as bordas dos ladrilhos. Embaixo está a imagem que o decodificador produz no ponto de cada ladrilho. À esquerda, conte os ladrilhos em que quase não há sorteios: os 32 ladrilhos mais leves, metade da grade de passos iguais, contêm juntos menos de 6% da massa da priori. À direita, cada ladrilho recebe, em média, 1 de cada 64 sorteios. Mas essa grade também deixa algo de fora: os pontos decodificados só vão até $\pm 1{,}53$, e o que fica mais longe não aparece.

# %% key="tiles" jupyter={"source_hidden": true} tags=["hide-input"]
@torch.no_grad()
def decode_grid(points):
    z2, z1 = torch.meshgrid(points.flip(0), points, indexing="ij")  # row 0: highest z2
    z = torch.stack((z1, z2), -1).float().to(device)  # (n, n, 2)
    return model.decode(z.reshape(-1, 2)).cpu().reshape(len(points), len(points), -1)


torch.manual_seed(0)
draws = torch.randn(600, 2)
grids = {
    "latents-equal-steps": equal_steps(n, 3.0),
    "latents-equal-mass": equal_mass(n),
}
edges, _ = grids["latents-equal-steps"]
sides = torch.special.ndtr(edges.double()).diff()  # (n,) masses
assert torch.outer(sides, sides).flatten().sort().values[: n * n // 2].sum() < 0.06
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
# Uma figura pode estar de cabeça para baixo sem que ninguém note. Por isso, a célula recolhida abaixo compara *cada* ladrilho com a saída do decodificador e confere se o ladrilho do canto superior esquerdo tem o menor $z_1$ e o maior $z_2$.

# %% key="up-checked" jupyter={"source_hidden": true} tags=["hide-input"]
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
# ## 7. O mapa e seus buracos
#
# As grades mostram o que o decodificador desenharia *em qualquer lugar*. O mapa mostra onde as imagens *estão*. Cada ponto é o centro da nuvem de uma imagem de teste, e a cor indica o dígito; os anéis contêm 50% e 95% da massa da priori. Um disco numerado marca o meio do grupo de cada dígito.

# %% key="map"
figures.latent_map(model, test_images, count=1500)

# %% [markdown] key="aggregate-text"
# O ELBO pede que cada nuvem, por si só, se pareça com a priori. E todas elas juntas? A média das nuvens se chama **posteriori agregada**:
#
# $$q(z) = \frac{1}{N} \sum_{n=1}^{N} q(z \mid x_n).$$
#
# As $N = 60.000$ imagens são as de treinamento. Se $q(z)$ fosse igual a $p(z)$, os sorteios da priori cairiam onde o decodificador foi treinado.
#
# Aqui não é preciso estimar nada, pois $q(z)$ é uma mistura de 60.000 gaussianas de médias e variâncias conhecidas. Como as covariâncias são diagonais, cada gaussiana é o produto de um fator em $z_1$ por um fator em $z_2$. Por isso, numa grade de pontos, a mistura inteira é *um produto de matrizes*. Uma célula recolhida compara o resultado com a mistura de `torch.distributions`.

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

# %% key="clouds-oracle" jupyter={"source_hidden": true} tags=["hide-input"]
few = aggregate(mu[:300], logvar[:300])  # (G, G)
mixture = torch.distributions.MixtureSameFamily(
    torch.distributions.Categorical(torch.ones(300).double()),
    torch.distributions.Independent(Normal(mu[:300], (0.5 * logvar[:300]).exp()), 1),
)
for i, j in ((200, 200), (150, 250), (260, 180)):
    at = torch.stack((axis[i], axis[j]))  # (2,)
    assert torch.allclose(mixture.log_prob(at).exp(), few[i, j], atol=1e-9)

# %% [markdown] key="difference-text"
# O painel esquerdo da próxima figura mostra $q(z)$ (na verdade, sua raiz quadrada, para que as partes fracas apareçam). O direito mostra a diferença $q(z) - p(z)$: em laranja, onde há mais códigos do que a priori prevê; em azul, onde há menos. As linhas passam por onde a diferença, um pouco suavizada, chega a 0,01 para mais (cheias, em torno das sobras) ou para menos (tracejadas, em torno das faltas).

# %% key="difference" jupyter={"source_hidden": true} tags=["hide-input"]
figure, axes = figures.picture(say("latents-alt-difference"), columns=2, height=3.7)
left, right = axes
figure.stored_dpi = figures.SHOWN_DPI
inner = slice(84, 317)  # the middle of the plane, as in the map
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
lines = {"levels": [-0.01, 0.01], "linestyles": ["--", "-"], "linewidths": 0.8}
right.contour(z1, z1, smooth, colors="black", **lines)
right.set_title(say("latents-signed"), loc="left", fontsize=10)
bar = figure.colorbar(shown, ax=right, shrink=0.85, extend="max")
bar.ax.yaxis.set_major_formatter(lambda value, _: say("tick", value=value))
for ax in (left, right):
    ax.set(xlabel="$z_1$", ylabel="$z_2$", aspect="equal")
figure

# %% [markdown] key="distance-text"
# **A que distância fica $q(z)$ da priori, em nats?** Há duas divergências, e cada uma enxerga uma coisa. Ambas podem ser escritas como integrais (na grade, somas) de termos que nunca são negativos, porque $\log t \le t - 1$ (com $t = p / q$ na primeira e $t = q / p$ na segunda):
#
# $$\mathrm{KL}(q \,\|\, p) = \int \Big(q \log \frac{q}{p} - q + p\Big)\,dz, \qquad \mathrm{KL}(p \,\|\, q) = \int \Big(p \log \frac{p}{q} - p + q\Big)\,dz.$$
#
# A parte acrescentada, $-q + p$ ou o oposto, tem integral zero. Graças a ela, cada lugar do plano contribui com uma parcela própria, que nunca é negativa, e podemos perguntar de onde vem a distância. Chamamos de *buraco* todo lugar em que $q$ é menor que a metade de $p$.

# %% key="distance"
log_ratio = q.clamp_min(1e-300).log() - p.log()  # (G, G)
parts = {  # (G, G) each, nowhere negative
    "q-p": cell * (q * log_ratio - q + p),
    "p-q": cell * (q - p - p * log_ratio),
}
radius = math.sqrt(-2 * math.log(0.05))  # holds 95% of the prior's mass
outside = (axis[:, None].square() + axis.square()).sqrt() > radius  # (G, G)
holes = q < p / 2
for name, part in parts.items():
    assert part.min() > -1e-12
    told = {"outside": part[outside].sum().item(), "holes": part[holes].sum().item()}
    print(say(f"latents-distance-{name}", distance=part.sum().item(), **told))
overspill = q[outside].sum().item() * cell
empty = p[holes].sum().item() * cell
print(say("latents-overspill", q=overspill, p=p[outside].sum().item() * cell))
print(say("latents-empty", empty=empty))

distance, reverse = (part.sum().item() for part in parts.values())
assert distance < 0.5 or not on_mnist
assert parts["q-p"][outside].sum() > distance / 2 or not on_mnist
assert parts["q-p"][holes].sum() < distance / 3 or not on_mnist
assert parts["p-q"][holes].sum() > reverse / 2 or not on_mnist
assert parts["p-q"][holes].sum() > parts["q-p"][holes].sum()
assert overspill > 0.1 or not on_mnist

# %% [markdown] key="distance-noticed"
# **São dois defeitos, e as duas divergências lhes dão pesos diferentes.** O primeiro é que os códigos transbordam: 19% da massa de $q$ está fora do anel que contém 95% da priori, e neste modelo vem dali mais da metade da $\mathrm{KL}(q \,\|\, p)$. O segundo é que eles deixam buracos, que contêm 31% da massa da priori. Da $\mathrm{KL}(q \,\|\, p)$, que é a que entra no ELBO, como se verá abaixo, menos de um terço vem dos buracos; da $\mathrm{KL}(p \,\|\, q)$, mais da metade. A razão está nos integrandos das duas divergências. Onde $q$ é um quarto de $p$, o da primeira vale $0{,}40$ vez $p$, e o da segunda, $0{,}64$ vez; se $q$ diminui mais, aquele nunca passa de $p$, ao passo que este cresce sem limite. (O lado de fora do anel e os buracos se sobrepõem um pouco, e nenhum dos dois inclui o que mais se vê na figura: a sobra no centro cheio.)
#
# E quanto isso custa? Trocar a priori por $q(z)$, sem mudar mais nada, pouparia exatamente $\mathrm{KL}(q \,\|\, p)$ nats por imagem (a decomposição abaixo mostra por quê). É menos de meio nat, num custo de mais de 150, e só uma parte disso vem dos buracos. Ou seja, o ELBO mal os enxerga.
#
# Agora podemos terminar a seção 5. Tome os pontos do maior para o menor valor de $q$, até que a região formada por eles contenha 99% da massa de $q$. À temperatura $T$, que fração dos sorteios cai fora dela? Com $T = 1$, pouco mais de um em cada cem (nos sorteios de $q$, por construção, seria exatamente um); com $T = 2$, um quinto. (Os buracos, portanto, são mais ralos que vazios: a maior parte deles fica dentro dessa região.)

# %% key="outside" jupyter={"source_hidden": true} tags=["hide-input"]
order = q.flatten().sort(descending=True)  # the densest points first
rare = torch.empty(q.numel(), dtype=torch.bool)
rare[order.indices] = order.values.cumsum(0) * cell > 0.99
rare = rare.reshape(q.shape)  # (G, G) where the last 1% of q lies
beyond = []
for value in (0.5, 1.0, 1.5, 2.0):
    scaled = Normal(0.0, value).log_prob(axis).exp()  # (G,)
    known = (scaled[:, None] * scaled)[~rare].sum().item() * cell
    beyond.append(1 - known)
    print(say("latents-beyond", temperature=value, share=beyond[-1]))
assert beyond == sorted(beyond)
assert beyond[1] < 0.03 or not on_mnist
assert beyond[3] > 0.1 or not on_mnist

# %% [markdown] key="split-text"
# **Onde essa distância aparece no ELBO.** Na KL de cada imagem, multiplique e divida por $q(z)$ dentro do logaritmo:
#
# $$\log \frac{q(z \mid x_n)}{p(z)} = \log \frac{q(z \mid x_n)}{q(z)} + \log \frac{q(z)}{p(z)}.$$
#
# Agora tire a média sobre $z \sim q(z \mid x_n)$ e sobre as imagens. O termo KL se divide em dois (Hoffman e Johnson, 2016):
#
# $$\underbrace{\tfrac{1}{N} \textstyle\sum_n \mathrm{KL}(q(z \mid x_n) \,\|\, p(z))}_{\text{o termo KL}} = \underbrace{\tfrac{1}{N} \textstyle\sum_n \mathrm{KL}(q(z \mid x_n) \,\|\, q(z))}_{\text{informação mútua}} + \mathrm{KL}(q(z) \,\|\, p(z)).$$
#
# A primeira parte é a informação mútua entre o código e a imagem: o que um informa sobre o outro. Só a segunda é discrepância. A identidade é pura álgebra, e a entropia de $q(z)$, que está nas duas partes, se cancela na soma. Na próxima célula, a soma das partes coincide com o lado esquerdo, que vem da fórmula fechada da KL. Por isso, essa coincidência só mostra que a grade é fina o bastante para calcular bem a média de $\log p(z)$. O teste é chegar à informação mútua por outro caminho. Na grade, ela é a entropia de $q(z)$ menos a entropia média das nuvens; com 500 sorteios, nos quais a mistura é calculada exatamente, o resultado precisa ser o mesmo, a menos do erro do sorteio.

# %% key="decomposition"
kl = densities.kl_to_standard_normal(mu, logvar).mean().item()  # from its formula
entropy = -(q * q.clamp_min(1e-300).log()).sum().item() * cell  # of the mixture
clouds = 0.5 * (math.log(2 * math.pi) + 1 + logvar).sum(1)  # (60000,) of each cloud
information = entropy - clouds.mean().item()
assert abs(kl - (information + distance)) < 2e-3

torch.manual_seed(0)
taken = torch.randperm(len(mu))[:500]
z = mu[taken] + (0.5 * logvar[taken]).exp() * torch.randn(500, 2).double()  # (500, 2)
own = densities.log_normal(z, mu[taken], logvar[taken])  # (500,)
every = (densities.log_normal(some[:, None], mu, logvar) for some in z.split(5))
log_q = torch.cat([one.logsumexp(1) for one in every]) - math.log(len(mu))  # (500,)
drawn = own - log_q  # (500,) nats
assert abs(drawn.mean() - information) < 4 * train.standard_error(drawn)
told = {"draws": drawn.mean().item(), "error": train.standard_error(drawn)}
print(say("latents-split", kl=kl, information=information, distance=distance))
print(say("latents-split-draws", **told))
assert information > 0.9 * kl or not on_mnist

# %% [markdown] key="bias-text"
# Quase toda a KL é informação: são uns poucos nats que ajudam a dizer qual era a imagem. A distância é a *destas* 60.000 imagens. Como estimativa para imagens novas, ela é um pouco alta: aqui, cada imagem encontra na mistura a própria nuvem, que aumenta $q(z)$ justamente onde caem os sorteios dela. Mas, se deixamos essa nuvem de fora, a distância muda pouco.

# %% key="bias" jupyter={"source_hidden": true} tags=["hide-input"]
share = torch.exp(own - log_q - math.log(len(mu)))  # (500,) of one's own cloud in q
optimism = math.log1p(-1 / len(mu)) - torch.log1p(-share.clamp(max=1 - 1e-12))  # nats
told = {"gap": optimism.mean().item(), "error": train.standard_error(optimism)}
print(say("latents-sandwich", count=len(mu), **told))
assert 0 < optimism.mean() < distance

# %% [markdown] key="holes-text"
# E o que o decodificador desenha nos buracos? Há quem diga que de qualquer ponto sai uma imagem válida; outros dizem que dos buracos só saem borrões. Vamos medir. Entre os sorteios da priori que caem dentro do anel externo, comparamos os 10% em que $q / p$ é menor, ou seja, o fundo dos buracos, com os 10% em que é maior. São duas medidas: o cinza e a concordância, quanto ao dígito, entre as 15 imagens reais mais próximas da imagem decodificada (de 10.000 do treinamento, pela distância euclidiana). Na segunda medida, quem julga são imagens reais, e não as probabilidades do decodificador.

# %% key="holes" jupyter={"source_hidden": true} tags=["hide-input"]
torch.manual_seed(0)
z = torch.randn(8000, 2)
z = z[z.norm(dim=1) < radius]  # (B, 2) inside the outer ring
place = ((z.double() - axis[0]) / (axis[1] - axis[0])).round().long()  # (B, 2)
order = log_ratio[place[:, 0], place[:, 1]].argsort()  # holes first, crowds last
with torch.no_grad():
    m = model.decode(z.to(device)).cpu()  # (B, 784)
real = data.draw_bits(train_images.pixels[:10_000].cpu())  # (10000, 784)
near = [
    torch.cdist(some, real).topk(15, largest=False).indices for some in m.split(500)
]
votes = train_images.labels[:10_000].cpu()[torch.cat(near)]  # (B, 15)
named = votes.mode(1).values  # (B,)
agreed = (votes == named[:, None]).double().mean(1)  # (B,)

tenth = len(z) // 10
places = {"hole": order[:tenth], "crowd": order[-tenth:]}
for name, some in places.items():
    told = {"grey": grey(m[some]).mean().item(), "agreed": agreed[some].mean().item()}
    told["grey_error"] = train.standard_error(grey(m[some]))
    told["agreed_error"] = train.standard_error(agreed[some])
    print(say(f"latents-{name}", **told))
common = named[places["hole"]].mode().values.item()
told = {"hole": (named[places["hole"]] == common).double().mean().item()}
told["drawn"] = (named == common).double().mean().item()
told["images"] = (train_images.labels == common).double().mean().item()
print(say("latents-hole-digit", digit=common, **told))

hole, crowd = (grey(m[some]) for some in places.values())
error = math.hypot(train.standard_error(hole), train.standard_error(crowd))
assert crowd.mean() - hole.mean() > 4 * error or not on_mnist  # the greyer
hole, crowd = (agreed[some] for some in places.values())
error = math.hypot(train.standard_error(hole), train.standard_error(crowd))
assert hole.mean() - crowd.mean() > 4 * error or not on_mnist
assert told["drawn"] > 1.2 * told["images"] or not on_mnist

# %% key="holes-picture" jupyter={"source_hidden": true} tags=["hide-input"]
def spaced(order, count=10, distance=0.4):
    found = []
    for k in order.tolist():
        if len(found) < count and all((z[k] - z[j]).norm() > distance for j in found):
            found.append(k)
    return found


rows = {say("latents-crowded"): m[spaced(order.flip(0))]}
rows[say("latents-holes")] = m[spaced(order)]
figures.gallery(rows, columns=10, alt=say("latents-alt-holes"))

# %% [markdown] key="holes-noticed"
# **O cinza não denuncia os buracos.** Neste modelo, as imagens dos buracos são, em média, mais nítidas que as dos lugares cheios, e os vizinhos delas concordam mais entre si. (As imagens da figura vêm de pontos escolhidos longe uns dos outros; por isso, a diferença se lê nos números impressos acima, e não nas imagens da figura.) Os códigos se acumulam onde vários tipos de dígito se encontram, e ali o decodificador aprendeu a tirar a média. Num buraco, menos imagens corrigiram o decodificador. Além disso, no MNIST, três quartos das imagens dos 10% mais vazios estão mais perto do 1 que de qualquer outro dígito, e esse dígito tem pouca tinta. Qual das duas coisas torna mais nítidas as imagens dos buracos, não medimos. Olhe a linha de baixo: algumas dessas imagens não são dígito nenhum e, mesmo assim, não estão borradas. Os vizinhos dizem qual é o dígito mais próximo, mas não avisam quando nenhum está perto.
#
# Isso vale sempre? Um único modelo não basta para responder: meça no seu. Os buracos também se notam no conjunto dos sorteios. Dentro do anel, pelo dígito mais comum entre os 15 vizinhos, os sorteios da priori deste modelo dão o dígito 1 com mais frequência do que ele aparece nos dados.

# %% [markdown] key="walks-text"
# ## 8. De um dígito a outro
#
# Entre dois códigos, há muitos caminhos. O caminho **reto** é $(1 - t)\,a + t\,b$. O **esférico** (White, 2016) gira de $a$ até $b$ em torno da origem. Se $\theta$ é o ângulo entre os dois códigos, a fórmula do caminho esférico é
#
# $$\frac{\sin((1 - t)\,\theta)}{\sin \theta}\, a + \frac{\sin(t\,\theta)}{\sin \theta}\, b.$$
#
# Implementamos os dois e conferimos o esférico: entre dois pontos à mesma distância da origem, ele conserva essa distância e gira com velocidade angular constante.

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
# Em qualquer número de dimensões, a norma do ponto médio entre dois sorteios é menor que a média das duas normas. No plano, a essa distância da origem também há muitos sorteios; em muitas dimensões, não há quase nenhum. A norma de um sorteio da priori tem uma distribuição conhecida, a *qui* ($\chi$) com $L$ graus de liberdade. A média dela cresce como $\sqrt{L}$, enquanto o desvio padrão quase não muda. Por isso, os sorteios ficam numa casca que é fina *em comparação com o raio*. Com $L = 20$, por exemplo, as normas ficam em torno de 4,4, e praticamente nenhum sorteio cai perto da origem, embora ali a densidade da priori (não a da norma) seja máxima.
#
# O ponto médio entre dois sorteios tem distribuição $\mathcal{N}(0, I/2)$; logo, a norma dele é uma qui dividida por $\sqrt{2}$. A próxima figura compara as duas distribuições: os degraus vêm de 20.000 normas medidas; as curvas, da fórmula.

# %% key="shell" jupyter={"source_hidden": true} tags=["hide-input"]
def chi_density(r, latents):
    log_constant = (latents / 2 - 1) * math.log(2) + math.lgamma(latents / 2)
    return torch.exp((latents - 1) * r.log() - r.square() / 2 - log_constant)


def chi_below(r, latents):  # the mass of the norms below r
    half = torch.tensor(latents / 2).double()
    return torch.special.gammainc(half, r.square() / 2)


torch.manual_seed(0)
measured = {}
for latents in (2, 20):
    a, b = torch.randn(2, 20_000, latents, dtype=torch.float64)
    norms, halfway = a.norm(dim=1), straight(a, b, 0.5).norm(dim=1)  # (20000,) each
    measured[latents] = norms, halfway
    mean = math.exp(math.lgamma((latents + 1) / 2) - math.lgamma(latents / 2)) * 2**0.5
    spread = math.sqrt(latents - mean**2)
    assert abs(norms.mean() - mean) < 4 * train.standard_error(norms)
    assert abs(halfway.mean() - mean / 2**0.5) < 4 * train.standard_error(halfway)
    for r in torch.linspace(mean - spread, mean + spread, 5).double():
        share = chi_below(r, latents)
        assert abs((norms < r).double().mean() - share) < 4 * (share / 20_000).sqrt()
    below = chi_below(torch.tensor(mean / 2**0.5).double(), latents).item()
    told = {"mean": mean, "spread": spread, "relative": spread / mean}
    print(say("latents-shell-norm", latents=latents, **told))
    print(say("latents-shell-share", share=below))

# %% key="shell-picture" jupyter={"source_hidden": true} tags=["hide-input"]
figure, axes = figures.picture(say("latents-alt-shell"), columns=2)
r = torch.linspace(0.01, 7, 300).double()
for ax, (latents, (norms, halfway)) in zip(axes, measured.items(), strict=True):
    told = {"bins": 50, "range": (0, 7), "density": True, "histtype": "step"}
    ax.hist(norms.numpy(), color=blue, label=say("latents-draws"), **told)
    told |= {"color": "black", "linestyle": "--"}
    ax.hist(halfway.numpy(), label=say("latents-halfway"), **told)
    ax.plot(r, chi_density(r, latents), color=blue, linewidth=1)
    ax.plot(r, 2**0.5 * chi_density(2**0.5 * r, latents), "k--", linewidth=1)
    ax.set(xlim=(0, 7), ylim=(0, 1), xlabel=say("latents-norm"))
    ax.set_ylabel(say("latents-density"))
    ax.set_title(say("latents-latents", count=latents), loc="left", fontsize=10)
axes[0].legend(fontsize=8, frameon=False)
figure

# %% [markdown] key="shell-measured-text"
# O decodificador percebe isso? O modelo de 30 latentes pode responder. No meio do caminho reto entre dois sorteios da priori, as imagens têm mais cinza do que nos próprios sorteios; no meio do esférico, quase não há diferença. O caminho reto, no meio, sai da casca pelo lado de dentro. Mas o ponto médio é também um sorteio à temperatura $1/\sqrt{2}$, e na seção 5 o cinza subiu em temperaturas baixas no plano, onde não há casca: a casca talvez não seja a única razão.

# %% key="shell-measured"
torch.manual_seed(0)
a, b = torch.randn(2, 4000, 30, device=device)
paths = {"latents-draws": a, "latents-straight": straight(a, b, 0.5)}
paths["latents-spherical"] = spherical(a, b, 0.5)
with torch.no_grad():
    greyness = {key: grey(wide.decode(z)).cpu() for key, z in paths.items()}
for key, values in greyness.items():
    told = {"mean": values.mean().item(), "error": train.standard_error(values)}
    print(say("latents-halfway-grey", where=say(key), **told))
rise = greyness["latents-straight"] - greyness["latents-draws"]  # (4000,), paired
assert rise.mean() > 10 * train.standard_error(rise)
turned = greyness["latents-spherical"] - greyness["latents-draws"]
assert abs(turned.mean()) < 0.2 * rise.mean()

# %% [markdown] key="panel-text"
# **Agora, a escolha é sua.** Escolha dois dígitos e o tipo de caminho. O caminho sai da mediana dos códigos do primeiro dígito e chega à do segundo; ao fundo está a posteriori agregada da seção 7 (de novo, a raiz quadrada). Ao lado, doze pontos do caminho aparecem decodificados, na ordem de leitura. Abaixo da figura está escrito qual dígito domina em cada um deles.
#
# Experimente um par com outro dígito no meio. Depois, experimente um par em lados opostos da origem, com o caminho reto e com o esférico. Nesse caso, $\sin \theta$ é pequeno e, se as duas normas são diferentes, o caminho esférico se afasta muito da origem. Por fim, procure um caminho que atravesse uma parte clara do mapa e veja o que o decodificador faz ali.

# %% key="panel" jupyter={"source_hidden": true} tags=["hide-input"]
centres = torch.stack([codes[labels == k].median(0).values for k in range(10)])
steps = torch.linspace(0, 1, 12)[:, None]  # (12, 1)
paths = {"latents-straight": straight, "latents-spherical": spherical}
backdrop = q[inner, inner].T.sqrt().float()


def walk(first, last, way):
    z = paths[way](centres[first], centres[last], steps)  # (12, 2)
    with torch.no_grad():
        tiles = model.decode(z.to(device)).cpu()  # (12, 784)
    passed = " ".join(str(k) for k in digit_at(z).tolist())
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


numbers = list(range(10))
panel = sliders.panel(
    walk,
    first=sliders.choice(say("latents-from"), numbers, value=3),
    last=sliders.choice(say("latents-to"), numbers, value=7),
    way=sliders.choice(say("latents-path"), [(say(way), way) for way in paths]),
)
panel

# %% key="panel-moved" jupyter={"source_hidden": true} tags=["hide-input"]
assert sliders.sweep(panel) == 6  # the start, and each control at its other ends
for way in paths:  # from 1 to 7, whatever the path, and back to 3
    panel.controls["first"].value, panel.controls["way"].value = 1, way
    drawn = torch.from_numpy(panel.picture.axes[0].lines[0].get_xydata()).float()
    assert torch.allclose(drawn[[0, -1]], centres[[1, 7]], atol=1e-4)
panel.controls["first"].value, panel.controls["way"].value = 3, "latents-straight"

# %% [markdown] key="wide-text"
# ## 9. Mais de duas latentes
#
# Com 30 latentes, já não há um plano para desenhar, e uma grade de 401 pontos por eixo teria $401^{30}$ pontos. Ainda é possível calcular $q(z)$ num ponto dado, mas a distância e a informação mútua da seção 7 só podem ser estimadas por sorteios. A primeira pergunta é **quais dimensões estão em uso**. Uma latente que o decodificador ignora gasta KL sem trazer nada em troca, e o treinamento a puxa de volta para a priori: a KL dela vai a zero, e a média deixa de variar de imagem para imagem. Dizemos que ela está *morta*, ou que colapsou. O costume é contar como **ativas** as latentes cuja média tem variância acima de 0,01 (Burda et al., 2015).
#
# A próxima célula mede três coisas em cada dimensão: a KL, a variância da média e quanto a imagem muda (erro quadrático, na média de 1.000 imagens) quando só essa coordenada é sorteada de novo, agora da priori.

# %% key="wide-bars"
with torch.no_grad():
    wide_mu, wide_logvar = wide.encode(x)  # (10000, 30) each
kl_each = 0.5 * (wide_mu.square() + wide_logvar.exp() - 1 - wide_logvar)  # (B, L)
kl_means, spread = kl_each.mean(0).cpu(), wide_mu.var(0).cpu()  # (30,), (30,)
by_kl = kl_means.argsort(descending=True)  # (30,)

torch.manual_seed(0)
touched = []  # what the picture changes by when one coordinate is drawn anew
with torch.no_grad():
    before = wide.decode(wide_mu[:1000])
    for k in range(30):
        z = wide_mu[:1000].clone()
        z[:, k] = torch.randn(1000, device=device)
        touched.append((wide.decode(z) - before).square().sum(-1).mean().item())
touched = torch.tensor(touched)  # (30,) pixels
dead = kl_means < 0.1  # (30,)
active = int((spread > 0.01).sum())
told = {"active": active, "dead": int(dead.sum()), "kl": kl_means.sum().item()}
print(say("latents-active", **told))
for name, some in (("alive", ~dead), ("dead", dead)):
    told = {"kl": kl_means[some], "spread": spread[some], "touched": touched[some]}
    ends = {f"{key}_min": values.min().item() for key, values in told.items()}
    ends |= {f"{key}_max": values.max().item() for key, values in told.items()}
    print(say(f"latents-range-{name}", **ends))

assert dead.any()
assert dead.sum() == 3 or not on_mnist
assert kl_means[~dead].min() > 5 * kl_means[dead].max() or not on_mnist
assert touched[~dead].min() > 5 * touched[dead].max() or not on_mnist
assert active > (~dead).sum() or not on_mnist  # the threshold alone counts dead ones

# %% key="wide-picture" jupyter={"source_hidden": true} tags=["hide-input"]
figure, axes = figures.picture(say("latents-alt-bars"), columns=2, height=2.8)
for ax, values, color, title in (
    (axes[0], kl_means, figures.COLORS["kl"], "latents-kl-each"),
    (axes[1], spread, figures.COLORS["q"], "latents-spread-each"),
):
    bars = ax.bar(range(30), values[by_kl], color=color)
    for bar, asleep in zip(bars, dead[by_kl], strict=True):
        bar.set_hatch("xx" if asleep else "")
    ax.set(yscale="log", ylim=(0.002, 4), title=say(title), xlabel=say("latents-place"))
    ax.set_xticks([0, 9, 19, 29], ["1", "10", "20", "30"])
axes[0].set_ylabel("nats")
axes[1].axhline(0.01, color="black", linestyle=":")
figure

# %% [markdown] key="wide-noticed"
# As três mortas se destacam na KL e no efeito sobre a imagem: o decodificador não as escuta. Só pelo limiar de 0,01, duas delas passariam por ativas, pois, depois de 15 épocas, suas médias ainda variam um pouco. Todo limiar é uma convenção: olhe as barras antes de contar.

# %% [markdown] key="traversal-text"
# A segunda pergunta é **o que cada dimensão faz**. Tome o código de uma imagem e mova uma coordenada de cada vez, de $-3$ a $3$, com as outras paradas. Isso se chama *percurso* (em inglês, *traversal*). A próxima figura mostra as quatro dimensões de maior KL e as duas de menor. Nada no objetivo pede um significado para cada coordenada, e isso se vê: nas linhas das dimensões vivas, várias coisas mudam ao mesmo tempo. Nas das mortas, nada muda.

# %% key="traversal" jupyter={"source_hidden": true} tags=["hide-input"]
stops = torch.linspace(-3, 3, 7)
moved = by_kl[[0, 1, 2, 3, -2, -1]].tolist()  # four of most KL, two of least
base = wide_mu[figures.one_of_each(test_images)[2]]  # (30,) the first 2
z = base.repeat(6, 7, 1)  # (6, 7, 30): row, column, coordinate
for row, k in enumerate(moved):
    z[row, :, k] = stops
with torch.no_grad():
    tiles = wide.decode(z.reshape(-1, 30)).cpu()  # (42, 784)

figure, (ax,) = figures.picture(say("latents-alt-traversal"), width=4.6, height=3.7)
figure.stored_dpi = figures.SHOWN_DPI
canvas = figures.mosaic(tiles, columns=7)
ax.imshow(canvas, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
middles = [29 * k + 14 for k in range(7)]
names = [say("latents-row", index=k + 1, kl=kl_means[k].item()) for k in moved]
ax.set_yticks(middles[:6], names)
ax.set_xticks(middles, [say("tick", value=value) for value in stops.tolist()])
ax.set(xlabel=say("latents-coordinate"))
figure

# %% [markdown] key="attribute-text"
# **Aritmética com atributos.** Um significado pode estar numa direção que não é a de um eixo. Tome o código médio das imagens com muita tinta e subtraia o das imagens com pouca tinta: o resultado é uma direção associada à tinta. Mas um 0 tem mais tinta que um 1; por isso, a direção calculada com *todas* as imagens também aponta "do 1 para o 0". Calculamos então uma segunda direção: primeiro uma dentro de cada dígito, depois a média das dez. Partimos de 2.000 códigos de teste, andamos no sentido oposto ao de cada direção, rumo a menos tinta, e verificamos quanta tinta a imagem perdeu e se o dígito ainda é o mesmo. Para decidir qual é o dígito, codificamos uma amostra da imagem, e os 15 códigos mais próximos votam. Como controle, sorteamos, para cada imagem, um vetor de mesmo comprimento que o da segunda direção.

# %% key="attribute"
count = 20_000
bits = data.draw_bits(train_images.pixels[:count])  # (20000, 784)
digits = train_images.labels[:count]  # (20000,)
inks = bits.sum(-1)  # (20000,)
with torch.no_grad():
    known = wide.encode(bits)[0]  # (20000, 30)


def direction(some):  # from the codes of the fifth with least ink to those with most
    low, high = inks[some].quantile(torch.tensor([0.2, 0.8], device=device))
    thick, thin = known[some & (inks > high)], known[some & (inks < low)]
    return thick.mean(0) - thin.mean(0)  # (30,)


every = direction(torch.ones_like(digits, dtype=torch.bool))
same = torch.stack([direction(digits == k) for k in range(10)]).mean(0)  # (30,)

# %% key="attribute-measured" jupyter={"source_hidden": true} tags=["hide-input"]
torch.manual_seed(0)
chance = torch.randn(2000, 30, device=device)  # a direction for each image
chance = chance * (same.norm() / chance.norm(dim=1, keepdim=True))


@torch.no_grad()
def read(m):  # the digit of a picture: encode a sample of it, ask 15 neighbours
    torch.manual_seed(0)
    asked = wide.encode(data.draw_bits(m))[0]
    near = [
        torch.cdist(some, known).topk(15, largest=False) for some in asked.split(500)
    ]
    return digits[torch.cat([found.indices for found in near])].mode(1).values


with torch.no_grad():
    start = wide.decode(wide_mu[:2000])  # (2000, 784)
first = read(start)
kept = {}
for name, way in (("every", every), ("same", same), ("chance", chance)):
    with torch.no_grad():
        end = wide.decode(wide_mu[:2000] - way)  # towards less ink
    change = end.sum(-1) - start.sum(-1)  # (2000,)
    kept[name] = (read(end) == first).double()
    low, median, high = change.quantile(torch.tensor([0.05, 0.5, 0.95], device=device))
    told = {"low": low.item(), "median": median.item(), "high": high.item()}
    told |= {"kept": kept[name].mean().item(), "way": say(f"latents-way-{name}")}
    print(say("latents-attribute", error=train.standard_error(kept[name]), **told))
    assert name == "chance" or median < -30 or not on_mnist
assert kept["every"].mean() < 0.5 < 0.7 < kept["same"].mean() or not on_mnist
gain = kept["same"] - kept["every"]  # (2000,) paired
assert gain.mean() > 4 * train.standard_error(gain) or not on_mnist

# %% [markdown] key="attribute-noticed"
# Andar contra qualquer das duas direções tira tinta. A que foi calculada com todas as imagens troca o dígito em mais da metade dos casos; a que foi calculada dentro de cada dígito, em cerca de um quarto. Se dois atributos andam juntos nos dados, andam juntos também nos códigos, e mexer num deles arrasta o outro. Às vezes, um passo do mesmo comprimento numa direção ao acaso também troca o dígito: qualquer passo longo pode sair da região onde estão os códigos.

# %% [markdown] key="pca-text"
# Por fim, **uma projeção no plano**: usamos um par de dimensões ou os dois primeiros componentes principais dos códigos (PCA), que são as direções em que eles mais se espalham. A próxima figura põe as duas projeções lado a lado. Não conte com a separação do mapa da seção 7: duas direções em 30 conservam só uma pequena parte da dispersão.
#
# Com os mesmos códigos, um mapa feito por t-SNE ou UMAP costuma mostrar ilhas bem separadas. Leia esses mapas com cuidado. Eles procuram manter os *vizinhos* juntos; por isso, pontos da mesma ilha costumam ser vizinhos de fato, embora uma ilha também possa ser só efeito dos hiperparâmetros. Já o tamanho das ilhas, a distância entre elas e os espaços vazios não medem nada no espaço latente e mudam com a semente e com os hiperparâmetros. Buracos e distâncias se medem no próprio espaço latente, como na seção 7.

# %% key="pca" jupyter={"source_hidden": true} tags=["hide-input"]
points = wide_mu.cpu()  # (10000, 30)
centred = points - points.mean(0)
_, scales, axes = torch.linalg.svd(centred, full_matrices=False)
shares = scales.square() / scales.square().sum()  # (30,)
oracle = torch.linalg.eigvalsh(torch.cov(points.double().T)).flip(0)  # (30,)
assert torch.allclose(shares.double(), oracle / oracle.sum(), atol=1e-4)
print(say("latents-pca", share=shares[:2].sum().item(), even=2 / 30))
assert 2 / 30 < shares[:2].sum() < 0.4

views = {"latents-pair": points[:, by_kl[:2]]}  # (10000, 2)
views["latents-pca-title"] = centred @ axes[:2].T  # (10000, 2)
figure, plots = figures.picture(say("latents-alt-pca"), columns=2, height=3.9)
figure.stored_dpi = figures.SHOWN_DPI
for ax, (key, flat) in zip(plots, views.items(), strict=True):
    for digit, color in enumerate(figures.DIGIT_COLORS):
        some = flat[:400][labels[:400] == digit]  # (n, 2)
        ax.plot(*some.T, marker=f"${digit}$", color=color, ms=5, ls="", mew=0.3)
    ax.set(xlim=(-4, 4), ylim=(-4, 4), aspect="equal")
    ax.set_title(say(key), loc="left", fontsize=10)
figure

# %% [markdown] key="sliders-text"
# **Trinta controles deslizantes.** `latent_sliders` aceita um modelo com qualquer número de latentes. Cada controle move uma coordenada: as setas mudam o valor em passos de 0,1, e as teclas *Home* e *End* levam às pontas. Comece no zero, o centro da priori. Ali a imagem é uma névoa cinza e, como vimos na seção 8, quase nenhum sorteio cai por perto. Mova uma coordenada de KL alta e, depois, uma morta; a figura dos percursos, acima, indica algumas de cada tipo. Por fim, tente transformar um dígito em outro com um único controle.

# %% key="sliders"
handles = sliders.latent_sliders(wide)
handles

# %% key="sliders-moved" jupyter={"source_hidden": true} tags=["hide-input"]
assert len(handles.sliders) == 30
assert sliders.sweep(handles) > 2 * int(
    (~dead).sum()
)  # zero, and the ends of the alive

# %% [markdown] key="explorer-text"
# ## 10. Sua vez: o explorador
#
# O quadro abaixo mostra o plano do modelo de duas latentes, com 1.000 códigos de treinamento. O decodificador roda no navegador; por isso, o quadro funciona sem *kernel*. Arraste o ponto ou use as setas. Experimente três coisas:
#
# - Encontre uma fronteira entre dois dígitos e atravesse-a o mais devagar que puder. Há um momento em que a imagem não é nem um nem outro?
# - Vá até um buraco, onde há poucos códigos por perto. Dá para perceber isso pela imagem? Depois, troque *média* por *amostra de pixels*. Com qual das duas os dados se parecem?
# - Grave um caminho que passe, em ordem, pelos algarismos do seu ano preferido. Depois, percorra-o.

# %% key="explorer"
explorer = LatentExplorer(model, train_images, neighbours=False)
explorer

# %% key="explorer-checked" jupyter={"source_hidden": true} tags=["hide-input"]
explorer.z = [1.0, -1.0]
assert explorer.z == [1.0, -1.0]
explorer.z = [0.0, 0.0]

# %% [markdown] key="answer-text"
# ## 11. O que o modelo aprendeu?
#
# Ninguém disse ao modelo o que é um dígito. Fica, então, a última pergunta: conhecendo *só* o código de uma imagem de teste, dá para dizer que dígito era? Quem responde, por votação, são os 15 códigos mais próximos, entre 20.000 de treinamento. Um palpite ao acaso acertaria cerca de uma vez em cada dez.

# %% key="answer"
@torch.no_grad()
def vote(model, count=20_000):
    torch.manual_seed(0)
    some = data.draw_bits(train_images.pixels[:count])  # (20000, 784)
    known = model.encode(some)[0].cpu()  # (20000, L)
    asked = model.encode(x[::5])[0].cpu()  # (2000, L)
    near = [
        torch.cdist(part, known).topk(15, largest=False) for part in asked.split(250)
    ]
    named = train_images.labels[:count].cpu()[torch.cat([f.indices for f in near])]
    return (named.mode(1).values == labels[::5]).double()  # (2000,)


votes = {count: vote(asked) for count, asked in ((2, model), (30, wide))}
for count, right in votes.items():
    told = {"share": right.mean().item(), "error": train.standard_error(right)}
    print(say("latents-votes", latents=count, **told))
assert votes[2].mean() > 0.5
assert (votes[30] - votes[2]).mean() > 4 * train.standard_error(votes[30] - votes[2])

# %% key="answer-facts" jupyter={"source_hidden": true} tags=["hide-input"]
two, free, many = (part.mean().item() for part in (vae_2, ae_2, vae_30))
print(say("latents-fact-blur", two=two, free=free, many=many))
print(say("latents-fact-map", information=information, distance=distance, kl=kl))
print(say("latents-fact-hole", empty=empty, overspill=overspill))

# %% [markdown] key="answer-moral"
# **Em resumo:** o modelo aprendeu a gastar uns poucos nats por imagem para dizer *de que tipo* ela é. Faz isso tão bem que o dígito pode ser lido no código com muito mais acertos do que ao acaso, embora nenhum rótulo tenha sido mostrado. Aprendeu a cobrir a massa da priori, mas não com exatidão: os códigos transbordam do anel e deixam buracos, em que caem sorteios demais. Medimos as duas coisas. E o que a latente não consegue dizer vira média.
#
# **Para ler.** Kingma e Welling (2013) desenharam a variedade (em inglês, *manifold*) dos dígitos numa grade feita com a inversa da função de distribuição normal. Hoffman e Johnson (2016) dividiram a KL em informação e discrepância; Alemi et al. (2018) e Chen et al. (2018) partem daí. A lição 06 mede o que o próprio $q(z \mid x)$ deixa escapar; a lição 08 pergunta quando uma latente morre e se é possível fazer com que uma coordenada signifique uma coisa só.

# %% [markdown] key="exercises"
# ## Exercícios
#
# Escreva sua resposta no lugar das reticências e execute a célula. A verificação responde na hora: “Certo” ou uma pista. As soluções estão recolhidas logo abaixo de cada questão.
#
# ### 1. O anel
#
# Os anéis do mapa contêm 50% e 95% da massa da priori no plano. Escreva uma função que receba a massa, um número entre 0 e 1, e devolva o raio do círculo que contém essa massa. Para 95%, o raio é 1,96?

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
# ### 2. Encontre o erro
#
# A função `published_tiles` roda sem nenhum erro e desenha uma bela figura. A função `decode` leva `(B, 2)` a `(B, D)`; `points` está em ordem crescente e serve para os dois eixos. Os ladrilhos são devolvidos com a forma `(n, n, D)`, para o `imshow`. O texto ao lado da figura diz que $z_1$ cresce para a direita e $z_2$, para cima. Encontre o erro e escreva `my_tiles` sem ele.

# %% key="exercise-tiles" tags=["nbval-check-output"]
def published_tiles(decode, points):
    rows = []
    for z2 in points:
        z = torch.stack((points, z2.expand(len(points))), -1)  # (n, 2)
        rows.append(decode(z))
    return torch.stack(rows)


def my_tiles(decode, points): ...


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
# ### 3. Amostras boas demais para ser verdade
#
# O autor de `proud_bits` se orgulha das amostras que essa função tira das médias do decodificador: são nítidas, em preto e branco, sem chuvisco nenhum. Encontre o erro e escreva `my_bits` sem ele. A função recebe e devolve `(B, D)`.

# %% key="exercise-bits" tags=["nbval-check-output"]
def proud_bits(means):
    return (means > 0.5).float()


def my_bits(means): ...


checks.pixel_draw(my_bits)

# %% key="solution-bits" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output", "solution"]
def solution_bits(means):
    return (torch.rand_like(means) < means).float()


verdict = checks.pixel_draw(solution_bits)
assert verdict
verdict

# %% [markdown] key="exercise-walk-text"
# ### 4. Um caminho que não sai da casca
#
# `start` e `end` são sorteados da priori, um independentemente do outro, ambos com a forma `(S, L)`, e `t` é um número de 0 a 1. Escreva uma combinação dos dois que valha `start` em $t = 0$ e `end` em $t = 1$, varie sem saltos e tenha *exatamente* a distribuição $\mathcal{N}(0, I)$ para todo $t$. Os pesos só podem depender de $t$. Há mais de uma resposta, e a verificação aceita todas.
#
# Para pensar: o caminho esférico não é uma dessas respostas. Por que não? E por que ele chega tão perto de ser uma quando $L$ é grande?

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
# <details><summary>Resposta à pergunta</summary>
#
# Os pesos do caminho esférico dependem do ângulo entre os dois pontos. Esse ângulo é aleatório, e uma combinação com pesos aleatórios não tem por que ser normal. Em muitas dimensões, porém, dois sorteios independentes formam quase um ângulo reto. Com $\theta = \pi / 2$, os pesos são $\cos(t\,\pi / 2)$ e $\sin(t\,\pi / 2)$, cujos quadrados somam 1.
#
# </details>

# %% [markdown] key="exercise-active-text"
# ### 5. Quem está acordado?
#
# Conte as latentes ativas. A função recebe `mu`, com as médias de $N$ imagens, de forma `(N, L)`. Uma latente é ativa se a variância da média dela, de imagem para imagem, passa de 0,01. Devolva a contagem. Cuidado com dimensões cuja média é a mesma em todas as imagens, mas não é zero.

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
