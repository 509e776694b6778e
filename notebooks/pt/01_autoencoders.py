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
# # O que um VAE acrescenta a um autocodificador, numa comparação justa?
#
# Um autocodificador espreme cada imagem em poucos números, o seu *código*, e refaz a imagem a partir deles. A lição 00 foi direto ao irmão variacional. Para quê? Muito do que se lê compara um VAE treinado com um autocodificador cujos códigos ninguém aprendeu a sortear. Esta lição torna a disputa justa e depois calcula o resultado por quadratura, com erro de uma fração de nat na média.
#
# **Ao terminar, você saberá** dizer o que um autocodificador linear encontra e o que ele deixa em aberto; fazer de qualquer autocodificador um modelo com densidade; calcular o $\log p(x)$ exato desse modelo; reconhecer a comparação injusta que circula por aí; e dizer o que a KL e o ruído trazem, e quanto custam.
#
# **Você precisa** da lição 00.
#
# **Tempo:** 50 minutos de leitura; cerca de um minuto de cálculo. Na primeira vez, alguns minutos a mais, enquanto os modelos são treinados. Duas outras sementes vêm de um arquivo de resultados.

# %% key="setup"
import json
import math
from copy import deepcopy
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.distributions import (
    Categorical,
    Independent,
    LowRankMultivariateNormal,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
)

from vae_teach import data, densities, exact, figures, nets, sliders, train
from vae_teach.bounds import Bound, reconstruction
from vae_teach.checks import autoencoders as checks
from vae_teach.words import say, use_language

use_language("pt")

# %% [markdown] key="linear-text"
# ## 1. O que encontra o autocodificador mais simples?
#
# Tire tudo o que torna uma rede profunda. O codificador é uma matriz, o decodificador é uma matriz, o código tem dois números e o custo é o erro quadrático. As imagens vêm em níveis de cinza, de 0 a 1, e de cada uma se subtrai a imagem média.
#
# Para uma rede assim, as imagens quase não importam uma a uma. Sejam $E$ o codificador, $D$ o decodificador e $C$ a matriz de covariância dos pixels. O erro quadrático médio é
#
# $$\mathrm{tr}(C) - 2\,\mathrm{tr}(E\,C\,D) + \mathrm{tr}(E\,C\,E^\top D^\top D).$$
#
# Isso é álgebra: desenvolva $\lVert x - D E x \rVert^2$ e calcule a média. Dos dados, só entram a média e a covariância. Por isso a próxima célula calcula as duas, uma única vez, com todas as imagens de treinamento. Os números do texto são os do MNIST. Nas saídas das células, o número depois de ± é sempre um erro padrão.

# %% key="moments"
device = torch.device("cpu")
if torch.accelerator.is_available():
    device = torch.accelerator.current_accelerator()
train_images = data.load("auto", "train", device=device)
on_mnist = train_images.name == "mnist"  # os números do texto são do MNIST


def grey_parts():  # os níveis de cinza das imagens de treinamento, por partes
    for part in train_images.pixels.cpu().split(6000):
        yield data.grey(part).double()  # (6000, 784), em [0, 1]


count = len(train_images)
mean = sum(part.sum(0) for part in grey_parts()) / count  # (784,)
second = sum(part.T @ part for part in grey_parts()) / count  # (784, 784)
covariance = second - torch.outer(mean, mean)  # (784, 784)
values, vectors = torch.linalg.eigh(
    covariance
)  # em ordem crescente; autovetores nas colunas
total = values.sum().item()
told = {"first": values[-1].item(), "second": values[-2].item()}
print(say("autoencoders-moments", name=train_images.name, total=total, **told))
assert abs(total - 52.7250) < 5e-5 or not on_mnist

# %% [markdown] key="linear-train-text"
# Agora treinamos duas vezes, de dois pontos de partida sorteados, com o L-BFGS, um método de gradiente que dispensa a escolha do passo. No fim, comparamos a fórmula com o erro quadrático das próprias imagens.


# %% key="linear-trained"
def squared_error(decoder, encoder):  # de (784, L) e (L, 784) a um número
    through = encoder @ covariance  # (L, 784)
    kept = ((through @ encoder.T) * (decoder.T @ decoder)).sum()
    return covariance.trace() - 2 * (through * decoder.T).sum() + kept


def train_linear(seed, latents=2):
    torch.manual_seed(seed)
    decoder = (0.05 * torch.randn(784, latents).double()).requires_grad_()
    encoder = (0.05 * torch.randn(latents, 784).double()).requires_grad_()
    options = {"max_iter": 400, "tolerance_change": 0, "tolerance_grad": 1e-9}
    descent = torch.optim.LBFGS(
        [decoder, encoder], line_search_fn="strong_wolfe", **options
    )

    def cost():
        descent.zero_grad()
        value = squared_error(decoder, encoder)
        value.backward()
        return value

    descent.step(cost)
    return decoder.detach(), encoder.detach()


linear = [
    train_linear(seed) for seed in (0, 1)
]  # dois pares de decodificador e codificador
decoder, encoder = linear[0]
on_images = 0.0
for part in grey_parts():
    centred = part - mean  # (6000, 784)
    rebuilt = centred @ encoder.T @ decoder.T  # (6000, 784)
    on_images += (centred - rebuilt).square().sum().item() / count
told = {"formula": squared_error(decoder, encoder).item(), "images": on_images}
print(say("autoencoders-linear-cost", left=values[:-2].sum().item(), **told))
assert abs(told["formula"] - on_images) < 1e-8 * on_images
assert 0 <= on_images - values[:-2].sum() < 1e-4 * on_images

# %% [markdown] key="pca-text"
# O custo termina onde tinha de terminar. O terceiro número é a soma de todos os autovalores de $C$, menos os dois maiores: é o que sobra quando as imagens centradas são projetadas sobre os autovetores dos dois maiores. Essa projeção é a **análise de componentes principais (PCA)**, e nenhuma aplicação linear que passe por dois números deixa sobra menor (Eckart e Young, 1936). Que um autocodificador linear termina ali, mostraram Bourlard e Kamp (1988) e Baldi e Hornik (1989); estes mostraram também que o custo não tem outros mínimos em que se possa ficar preso.
#
# A rede encontrou o *mesmo plano*? Num espaço de 784 dimensões, dois planos se comparam por seus **ângulos principais**: o maior deles é zero se, e somente se, os planos coincidem. E ela encontrou os mesmos *eixos*? A figura mostra, como imagens, as duas colunas de cada decodificador ao lado dos dois eixos da PCA; o cinza médio vale zero.

# %% key="pca-angle"
pca = vectors[:, -2:].flip(1)  # (784, 2), o maior primeiro


def largest_angle(one, other):  # radianos entre os planos que as colunas geram
    one, other = torch.linalg.qr(one)[0], torch.linalg.qr(other)[0]  # (784, 2) each
    outside = one - other @ (other.T @ one)  # (784, 2) o que falta ao outro plano
    return torch.linalg.matrix_norm(outside, 2).clamp(max=1).asin().item()


def degrees_between(one, other):
    cosine = torch.cosine_similarity(one, other, dim=0)
    return torch.rad2deg(cosine.abs().acos()).item()


for run, (decoder, _) in enumerate(linear):
    told = {"angle": largest_angle(decoder, pca), "run": run + 1}
    told["between"] = degrees_between(*decoder.T)
    told["first"] = degrees_between(decoder[:, 0], pca[:, 0])
    print(say("autoencoders-angle", **told))
    assert told["angle"] < 1e-3
    assert told["between"] < 85  # graus: os eixos da PCA são perpendiculares
    assert told["first"] > 5


# %% key="pca-picture" jupyter={"source_hidden": true} tags=["hide-input"]
def as_images(columns):  # o zero em cinza médio
    columns = columns / columns.abs().amax(0)
    return (0.5 + 0.5 * columns.T).float()


alt = say("autoencoders-alt-pca")
figure, axes = figures.picture(alt, columns=3, width=7.5, height=1.9)
titles = ["PCA"] + [say("autoencoders-run", run=k) for k in (1, 2)]
shown = [pca] + [decoder for decoder, _ in linear]
for ax, title, columns in zip(axes, titles, shown, strict=True):
    figures.show_digits(ax, as_images(columns), columns=2, title=title)
figure

# %% [markdown] key="axes-text"
# **O mesmo plano, outros eixos.** Tome uma matriz invertível qualquer $A$, de duas linhas e duas colunas. O decodificador $D A$ com o codificador $A^{-1} E$ refaz cada imagem exatamente como $D$ com $E$, pois $D A A^{-1} E = D E$. O custo, portanto, não tem como preferir um par de eixos, e é o ponto de partida que decide onde o treinamento termina. A próxima célula faz o teste com uma $A$ sorteada. Ela também mostra o que *fica* determinado: no ótimo $E D = I$, ou seja, o codificador desfaz o decodificador.

# %% key="axes" tags=["nbval-check-output"]
torch.manual_seed(0)
turn = torch.randn(2, 2, dtype=torch.float64)  # A
decoder, encoder = linear[0]
moved = squared_error(decoder @ turn, torch.linalg.inv(turn) @ encoder)
change = abs(moved - squared_error(decoder, encoder)).item()
away = (encoder @ decoder - torch.eye(2)).abs().max().item()
assert change < 1e-9
assert away < 1e-3
print(say("autoencoders-axes"))

# %% [markdown] key="ppca-text"
# ## 2. De um plano a uma densidade
#
# O autocodificador linear refaz imagens. Ele não diz quão provável é uma imagem, nem sabe sortear uma nova. Dois acréscimos resolvem isso: o código passa a ser sorteado de $\mathcal{N}(0, I)$ e, em volta do ponto do plano, cada pixel recebe um ruído gaussiano de variância $\sigma^2$. O resultado é a **PCA probabilística** (Tipping e Bishop, 1999):
#
# $$z \sim \mathcal{N}(0, I), \qquad x \mid z \sim \mathcal{N}(W z + b, \sigma^2 I).$$
#
# Aqui a integral em $z$, que a lição 00 não conseguia calcular, tem uma fórmula: $x \sim \mathcal{N}(b, W W^\top + \sigma^2 I)$. As colunas da melhor $W$ geram o subespaço da PCA; a melhor $\sigma^2$ é a média dos autovalores que ficam de fora. Com $q$ latentes e os autovalores $\lambda_j$ em ordem decrescente, a log-densidade média, com os melhores parâmetros, é
#
# $$-\frac{1}{2}\Big(\sum_{j \le q} \log \lambda_j + (784 - q) \log \sigma^2 + 784 \log 2\pi + 784\Big).$$
#
# De novo, só contam a média e a covariância. Então bastam 1.568 pontos inventados, com a média e a covariância do MNIST, para obter o mesmo valor médio que as 60.000 imagens dão. Cada ponto é a imagem média mais ou menos $\sqrt{784\,\lambda_j}$ vezes um autovetor. São esses pontos que o pacote recebe a seguir. Depois, para duas latentes, a gaussiana de posto baixo do PyTorch percorre as próprias imagens.

# %% key="ppca"
arms = (784 * values.clamp_min(0)).sqrt() * vectors  # (784, 784), um por coluna
stand_ins = torch.cat((mean + arms.T, mean - arms.T))  # (1568, 784)
assert (torch.cov(stand_ins.T, correction=0) - covariance).abs().max() < 1e-12
known = {2: 12.43, 5: 90.70, 10: 182.15, 20: 299.76, 32: 400.43, 50: 507.91}
known[100] = 680.95
for q, digits in known.items():
    ppca = exact.LinearGaussian.fit(stand_ins, q)
    log_density = ppca.log_likelihood(stand_ins).mean().item()
    logs = values[-q:].log().sum() + (784 - q) * math.log(ppca.variance)
    by_hand = -0.5 * (logs + 784 * (math.log(2 * math.pi) + 1)).item()
    assert abs(log_density - by_hand) < 1e-6
    assert abs(log_density - digits) < 0.0051 or not on_mnist
    told = {"value": log_density, "variance": ppca.variance}
    print(say("autoencoders-ppca", latents=q, **told))

# %% key="ppca-images"
ppca = exact.LinearGaussian.fit(stand_ins, 2)
noise = torch.full((784,), ppca.variance, dtype=torch.float64)
oracle = LowRankMultivariateNormal(mean, ppca.weight, noise)
each = torch.cat([oracle.log_prob(part) for part in grey_parts()])  # (60000,)
told = {"value": each.mean().item(), "error": train.standard_error(each)}
print(say("autoencoders-ppca-images", count=count, **told))
assert abs(each.mean() - ppca.log_likelihood(stand_ins).mean()) < 1e-6

# %% [markdown] key="ppca-noticed"
# Aí está o primeiro $\log p(x)$ exato deste curso, e ele é *positivo*. Não há erro: é o logaritmo de uma densidade, e não de uma probabilidade. Os níveis de cinza são 256 valores separados, e sobre eles uma densidade pode crescer quanto quiser. Não somamos o ruído que espalharia esses valores (a *desquantização*). O número serve para comparar modelos **nestes mesmos pixels**, e para mais nada. A lição 07 vai tratar disso. Daqui em diante os pixels são bits, $p(x)$ é uma probabilidade, e nenhum número daqui para baixo pode ser comparado com os anteriores.

# %% [markdown] key="deep-text"
# ## 3. Um autocodificador profundo, e como não sortear dele
#
# Agora, a rede da lição 00: 784-400-2-400-784, pixels de Bernoulli, 15 épocas. O autocodificador é treinado para refazer a imagem, com o custo $-\log p(x \mid z)$ em seu código $z$; não há ruído nem KL. O VAE é o da lição 00. Um modelo de cada tipo vem do cache ou é treinado agora: a semente 0. As mesmas células desta lição também foram rodadas com as sementes 1 e 2, isto é, com pesos iniciais diferentes; o que elas deram é lido de um arquivo.

# %% key="models"
SEED = 0  # dos modelos desta lição; outras sementes estão num arquivo de resultados
make = partial(nets.AE, latent_dim=2)
vae, _ = train.trained(train_images, seed=SEED)
ae, _ = train.trained(train_images, make=make, objective=reconstruction, seed=SEED)
test_images = data.load(train_images.name, "test", device=device)
x = test_images.pixels[::10]  # (1000, 784), uma em cada dez imagens de teste


@torch.no_grad()
def codes_of(model, draw=True):  # das imagens de treinamento; os do VAE, das nuvens
    torch.manual_seed(0)
    parts = []
    for images, _ in train_images.batches(1000, shuffle=False):
        code = model.encode(images)
        if isinstance(code, tuple):  # um sorteio ou, se não, o centro da nuvem
            code = model.reparameterize(*code) if draw else code[0]
        parts.append(code)
    return torch.cat(parts).cpu().double()  # (60000, 2)


codes = {"vae": codes_of(vae), "ae": codes_of(ae)}
spread = {name: z.std(0) for name, z in codes.items()}  # (2,) cada
told = {f"{name}_{k + 1}": spread[name][k].item() for name in codes for k in (0, 1)}
print(say("autoencoders-spread", seed=SEED, **told))
found = {"ratio": [(spread["ae"].min() / spread["vae"].max()).item()]}
assert found["ratio"][0] > 1.5 or not on_mnist

# %% key="results-read" jupyter={"source_hidden": true} tags=["hide-input"]
RESULTS = Path("../../benchmarks/results/autoencoders.json")
measured = None  # o que as células desta lição dão com as sementes 0, 1 e 2
if on_mnist and RESULTS.exists():
    measured = json.loads(RESULTS.read_text("utf-8"))
    about = {key: measured["machine"][key] for key in ("date", "commit", "torch")}
    print(say("autoencoders-measured-on", **about))
else:
    print(say("autoencoders-none"))


def note(key, each):  # um número por imagem: guarda a média e o erro padrão
    found[key] = [each.double().mean().item(), train.standard_error(each.double())]
    return {"mean": found[key][0], "error": found[key][1]}


def in_seeds(key):  # [média, erro padrão] de cada semente; só desta, se não há outras
    return measured["results"]["found"][key] if measured else [found[key]]


def tell_seeds(key, what):
    if measured:
        for seed, (mean, error) in enumerate(in_seeds(key)):
            print(
                say("autoencoders-seed", what=what, seed=seed, mean=mean, error=error)
            )


# %% [markdown] key="map-text"
# A próxima figura traz o mapa dos códigos dos dois modelos, com uma cor por dígito. Os anéis azuis são os mesmos nos dois mapas: contêm 50% e 95% de $\mathcal{N}(0, I)$. A elipse laranja contém 95% da gaussiana que tem a média e a covariância dos códigos. Repare na escala dos eixos.
#
# A célula abaixo da figura mede duas coisas, com todos os códigos de treinamento e três sementes: quantos códigos caem dentro do anel maior e quanto da gaussiana ajustada está em *buracos*, ladrilhos com menos da metade dos códigos que ela prevê ali. Os códigos do VAE são sorteios de suas nuvens, o que borra um pouco o mapa dele; os centros das nuvens aparecem em linhas próprias.

# %% key="map-picture" jupyter={"source_hidden": true} tags=["hide-input"]
angle = torch.linspace(0, 2 * math.pi, 200).double()
circle = torch.stack((angle.cos(), angle.sin()))  # (2, 200)
blue, orange = figures.COLORS["prior"], figures.COLORS["q"]


def draw_rings(ax, z):  # de N(0, I) e da gaussiana com os momentos dos códigos
    for mass, style in ((0.5, "-"), (0.95, "--")):
        ring = math.sqrt(-2 * math.log(1 - mass)) * circle
        name = say("prior-ring", percent=round(100 * mass))
        ax.plot(*ring, style, color=blue, linewidth=1.5, label=name)
    ellipse = z.mean(0)[:, None] + torch.linalg.cholesky(torch.cov(z.T)) @ ring
    ax.plot(*ellipse, "-.", color=orange, label=say("autoencoders-ellipse"))
    return ellipse  # (2, 200)


labels = train_images.labels.cpu()
figure, axes = figures.picture(say("autoencoders-alt-map"), columns=2, height=4.1)
figure.stored_dpi = figures.SHOWN_DPI
for ax, name in zip(axes, ("ae", "vae"), strict=True):
    z = codes[name]
    for digit, color in enumerate(figures.DIGIT_COLORS):
        some = z[:3000][labels[:3000] == digit]  # (n, 2)
        ax.plot(*some.T, marker=f"${digit}$", color=color, ms=4, ls="", mew=0.2)
    ellipse = draw_rings(ax, z)
    low, high = z.quantile(torch.tensor([0.002, 0.998]).double(), 0)  # (2,) each
    low, high = low.minimum(ellipse.amin(1)), high.maximum(ellipse.amax(1))
    middle, reach = (low + high) / 2, (high - low).max().item() / 2
    ax.set(xlabel="$z_1$", ylabel="$z_2$", aspect="equal")
    ax.set_xlim(middle[0].item() - reach, middle[0].item() + reach)
    ax.set_ylim(middle[1].item() - reach, middle[1].item() + reach)
    ax.set_title(say(f"autoencoders-{name}"), loc="left", fontsize=10)
figure.legend(
    *axes[0].get_legend_handles_labels(),
    loc="outside lower center",
    ncols=3,
    fontsize=8,
    frameon=False,
)
figure

# %% key="holes" jupyter={"source_hidden": true} tags=["hide-input"]
edges = torch.linspace(-4, 4, 33, dtype=torch.float64)
masses = torch.special.ndtr(edges).diff()  # (32,) de N(0, 1) ao longo de um eixo
masses = masses[:, None] * masses  # (32, 32) de N(0, I)


def holes(z):  # quanto da gaussiana ajustada está onde há poucos códigos
    root = torch.linalg.cholesky(torch.cov(z.T))
    u = torch.linalg.solve(root, (z - z.mean(0)).T).T  # de média 0 e covariância I
    counts = torch.histogramdd(u, [edges, edges]).hist  # (32, 32)
    return masses[counts < len(z) * masses / 2].sum().item()


ring = math.sqrt(-2 * math.log(0.05))  # o raio que contém 95% de N(0, I)
torch.manual_seed(0)
control = holes(torch.randn(count, 2, dtype=torch.float64))
for name, z in (codes | {"middles": codes_of(vae, draw=False)}).items():
    found[f"inside-{name}"] = [(z.norm(dim=1) < ring).double().mean().item()]
    found[f"holes-{name}"] = [holes(z)]
    every = {key: in_seeds(f"{key}-{name}") for key in ("inside", "holes")}
    for seed, pair in enumerate(zip(*every.values(), strict=True)):
        told = dict(zip(every, (value for (value,) in pair), strict=True))
        told["who"] = say(f"autoencoders-{name}")
        print(say("autoencoders-holes", seed=seed if measured else SEED, **told))
print(say("autoencoders-holes-control", control=control))
assert control < 0.03
assert found["inside-ae"][0] < 0.5 or not on_mnist
assert 0.6 < found["inside-vae"][0] < 0.95 or not on_mnist
assert min(in_seeds("holes-ae")) > max(in_seeds("holes-vae")) or not on_mnist

# %% [markdown] key="map-noticed"
# A maioria dos códigos deste autocodificador está fora do anel, e em cada semente seu mapa tem mais buracos que o do VAE. Ninguém pediu que os códigos ficassem perto da origem, e eles não ficam. Espalham-se por várias unidades, em cada semente de um jeito; nenhum termo do treinamento controla a lei deles. A maioria dos códigos do VAE está dentro do anel maior, embora menos que os 95% de $\mathcal{N}(0, I)$: a KL cobrava um preço pela distância.
#
# Vem agora a demonstração que metade da web mostra: sorteie $z$ de $\mathcal{N}(0, I)$, decodifique com as duas redes e anuncie que o autocodificador "não sabe gerar". Olhe as duas linhas e depois os anéis azuis no mapa da esquerda. O que a linha de cima fez de errado?

# %% key="strawman-picture" jupyter={"source_hidden": true} tags=["hide-input"]
torch.manual_seed(1)
z = torch.randn(10, 2, device=device)  # os mesmos para os dois decodificadores
with torch.no_grad():
    rows = {
        say("autoencoders-strawman-row"): ae.decode(z),
        say("autoencoders-vae-row"): vae.decode(z),
    }
figures.gallery(rows, columns=10, alt=say("autoencoders-alt-strawman"))

# %% [markdown] key="strawman-text"
# A linha de cima consultou o autocodificador no lugar errado. O VAE foi *treinado* para que seus códigos lembrassem $\mathcal{N}(0, I)$. Ao autocodificador ninguém falou dessa distribuição, e os anéis cobrem só um pedaço pequeno do mapa dele. Isso é um **espantalho**: um adversário enfraquecido de propósito, ou por pressa.
#
# Quanto custa a pressa? Um decodificador com uma densidade qualquer sobre os códigos é um modelo de variável latente, e tem um $p(x) = \int p(x \mid z)\,p(z)\,dz$. Com duas latentes, calculamos essa integral por quadratura: uma soma sobre uma grade fina. A priori do espantalho é $\mathcal{N}(0, I)$. A grade precisa ir longe, aqui até 16 em cada direção: se o código de uma imagem fica distante, é em torno dele que a integral junta a probabilidade da imagem. A próxima célula imprime a média sobre uma em cada dez imagens de teste, 1.000 ao todo; abaixo dela, a diferença em cada semente.


# %% key="strawman"
def value(
    model, log_prior, grid, extent, images=x
):  # nats, e quanto podem estar errados
    options = {"grid": grid, "extent": extent, "log_prior": log_prior}
    pair = exact.log_likelihood_with_error(model, images, **options)
    return [part.cpu().double() for part in pair]  # (B,) cada


standard_normal = densities.log_standard_normal
contestants = {  # modelo, log p(z), pontos em cada eixo, onde o plano acaba
    "strawman": (ae, standard_normal, 500, 16.0),
    "vae": (vae, standard_normal, 300, 6.0),
}
valued = {name: value(*each) for name, each in contestants.items()}
lost = valued["vae"][0] - valued["strawman"][0]  # (1000,) aos pares
told = {name: exactly.mean().item() for name, (exactly, _) in valued.items()}
told |= {"lost": lost.mean().item(), "error": note("strawman-lost", lost)["error"]}
print(say("autoencoders-strawman-loss", seed=SEED, **told))
tell_seeds("strawman-lost", say("autoencoders-lost"))
for mean, error in in_seeds("strawman-lost"):
    assert mean > max(5, 4 * error) or not on_mnist

# %% [markdown] key="strawman-noticed"
# Em cada semente, o espantalho perde do VAE por mais de cinco nats por imagem, muitas vezes o erro padrão. Se a história parasse aqui, a conclusão pareceria clara. Mas a mesma rede ainda não teve a chance de usar os próprios códigos.

# %% [markdown] key="fair-text"
# ## 4. A disputa justa
#
# Para sermos justos, deixamos que o autocodificador *escolha* sua densidade, depois do treinamento, olhando para os próprios códigos. Isso é conhecido como *estimação de densidade ex-post* (Ghosh et al., 2020). Os autores fizeram isso com autocodificadores e com VAEs, com as duas densidades que usamos aqui, e julgaram pelo aspecto dos sorteios (FID); uma priori ajustada ajudou os dois. O que não encontramos publicado é o $\log p(x)$ exato de ambos. São duas escolhas:
#
# - **Uma gaussiana** de covariância cheia: a média e a covariância dos 60.000 códigos de treinamento.
# - **Uma mistura de dez gaussianas**, cada uma de covariância cheia, ajustada a um quarto dos códigos pelo algoritmo EM (de *expectation-maximization*; Dempster, Laird e Rubin, 1977).
#
# O EM alterna dois passos. Primeiro, cada código é repartido entre as dez gaussianas, na proporção do peso vezes a densidade de cada uma naquele ponto. Depois, cada gaussiana toma a média e a covariância do que recebeu. Nenhuma rodada diminui a verossimilhança dos códigos, e a célula verifica isso.


# %% key="mixture"
def fit_mixture(z, count=10, turns=80):  # z (N, 2)
    torch.manual_seed(0)
    means = z[torch.randperm(len(z))[:count]]  # (K, 2)
    covariances = torch.cov(z.T).expand(count, 2, 2) / count  # (K, 2, 2)
    shares, before = torch.full((count,), 1 / count).to(z), -math.inf
    for _ in range(turns):
        parts = MultivariateNormal(means, covariances)
        joint = parts.log_prob(z[:, None]) + shares.log()  # (N, K)
        now = joint.logsumexp(1).mean().item()
        assert now > before - 1e-9
        before, given = now, joint.softmax(1)  # (N, K)
        weights = given.sum(0)  # (K,)
        shares, means = weights / len(z), given.T @ z / weights[:, None]
        apart = z[:, None] - means  # (N, K, 2)
        covariances = torch.einsum("nk,nki,nkj->kij", given, apart, apart)
        covariances = covariances / weights[:, None, None]
    parts = MultivariateNormal(means, covariances)  # da última rodada
    return MixtureSameFamily(Categorical(shares), parts)


# %% [markdown] key="standard-text"
# Os códigos de cada autocodificador têm uma escala própria. Para usar uma só grade com todas as sementes, nós os **padronizamos**: sendo $m$ a média dos códigos e $L$ a raiz de Cholesky da covariância $S$ deles, $L L^\top = S$, escrevemos cada código como $m + L u$. Na coordenada $u$, a gaussiana ajustada é $\mathcal{N}(0, I)$, e o decodificador passa a ser $u \mapsto \mathrm{dec}(m + L u)$. Nada mais muda: $p(x)$ é uma integral, e numa integral se pode mudar de variável. (A densidade dos códigos, essa sim, muda por um fator: é o exercício 4.)


# %% key="standardized"
class Standardized(
    nn.Module
):  # o mesmo modelo, com a latente deslocada e em outra escala
    latent_dim = 2

    def __init__(self, model, codes):
        super().__init__()
        self.model, self.mean = model, codes.mean(0).float().to(device)
        self.root = torch.linalg.cholesky(torch.cov(codes.T)).float().to(device)

    def encode(self, x):  # de (B, 784) a (B, 2)
        code = self.model.encode(x)
        code = code[0] if isinstance(code, tuple) else code  # o centro da nuvem
        return self.standardize(code)

    def standardize(self, codes):
        return torch.linalg.solve(self.root, (codes - self.mean).T).T

    def decode_logits(self, u):  # de (B, 2) a (B, 784)
        return self.model.decode_logits(self.mean + u @ self.root.T)


def density(law):  # como `exact` a espera: pontos em qualquer precisão e dispositivo
    def log_prior(z):  # de (G, 2) a (G,), alguns por vez
        return torch.cat([law.log_prob(p.cpu().double()) for p in z.split(2**16)])

    return lambda z: log_prior(z).to(z)


standard = {"ae": Standardized(ae, codes["ae"]), "vae": Standardized(vae, codes["vae"])}
u = standard["ae"].standardize(codes["ae"].float().to(device)).cpu().double()
gaussians, mixtures = {}, {}
for name, z in {"ae": u, "vae": codes["vae"]}.items():  # (60000, 2)
    fitted, fresh = z[::4], z[1::4]  # (15000, 2) cada
    gaussians[name] = MultivariateNormal(z.mean(0), torch.cov(z.T))
    mixtures[name] = fit_mixture(fitted)
    mass = exact.prior_mass(density(mixtures[name]), grid=300, extent=6.0, like=x)
    gain = mixtures[name].log_prob(fresh) - gaussians[name].log_prob(fresh)  # (15000,)
    told = {"mass": mass, "gain": gain.mean().item()}
    print(say(f"autoencoders-mixture-{name}", **told))
    assert abs(mass - 1) < 1e-3
    assert gain.mean() > 4 * train.standard_error(gain) or not on_mnist

# %% [markdown] key="contest-text"
# Está tudo pronto. As 1.000 imagens de teste são as mesmas para todos os concorrentes; de cada imagem se calcula o $\log p(x)$ exato:
#
# 1. o **VAE** como foi treinado, com sua priori $\mathcal{N}(0, I)$;
# 2. o decodificador do VAE com uma gaussiana e com uma mistura ajustadas aos códigos no lugar da priori, para que o VAE também possa olhar uma segunda vez;
# 3. o **autocodificador** com uma gaussiana;
# 4. o autocodificador com a mistura.
#
# O espantalho abre a tabela. A célula seguinte compara imagem por imagem, com esta semente e com as do arquivo; a última linha dela traz a mesma diferença em imagens de treinamento, nas quais um autocodificador poderia ter sofrido *overfitting*. Antes de rodar a célula: quem você acha que ganha, e por quanto?

# %% key="contest"
contestants |= {
    "vae-gaussian": (vae, density(gaussians["vae"]), 300, 6.0),
    "vae-mixture": (vae, density(mixtures["vae"]), 300, 6.0),
    "ae-gaussian": (standard["ae"], standard_normal, 500, 6.0),
    "ae-mixture": (standard["ae"], density(mixtures["ae"]), 500, 6.0),
}
for name, each in contestants.items():
    valued[name] = valued[name] if name in valued else value(*each)
table = {name: exactly for name, (exactly, _) in valued.items()}  # (1000,) cada
for name, each in table.items():
    told = note(name, each)
    over = each - table["vae"]  # (1000,) imagem por imagem
    told |= {"over": over.mean().item(), "over_error": train.standard_error(over)}
    note(f"better-{name}", over > 0)
    told["better"] = found[f"better-{name}"][0]
    print(say("autoencoders-contest", who=say(f"autoencoders-{name}"), **told))

# %% key="seeds" jupyter={"source_hidden": true} tags=["hide-input"]
PAIRS = (
    ("vae-gaussian", "vae"),
    ("vae-mixture", "vae"),
    ("ae-gaussian", "vae"),
    ("ae-mixture", "vae"),
    ("ae-gaussian", "vae-gaussian"),
    ("ae-mixture", "vae-mixture"),
    ("ae-mixture", "ae-gaussian"),
)
differences = {}  # de dois nomes à média e ao erro padrão em cada semente
for one, other in PAIRS:
    note(f"{one}-minus-{other}", table[one] - table[other])
    means, errors = zip(*in_seeds(f"{one}-minus-{other}"), strict=True)
    differences[one, other] = means, errors
    told = {"one": say(f"autoencoders-{one}"), "other": say(f"autoencoders-{other}")}
    pairs = zip(means, errors, strict=True)
    told["values"] = "; ".join(
        say("autoencoders-plus", mean=mean, error=error) for mean, error in pairs
    )
    print(say("autoencoders-minus", **told))
    if len(means) > 1:
        told = {"mean": sum(means) / 3, "spread": torch.tensor(means).std().item()}
        print(say("autoencoders-minus-seeds", **told))
for (one, other), (means, errors) in differences.items():
    if one.startswith("ae") and other.startswith("vae"):
        for mean, error in zip(means, errors, strict=True):
            assert mean > 3 * error or not on_mnist
        assert sum(means) / len(means) > 1.5 or not on_mnist
    elif one.startswith("vae"):
        assert all(-0.1 < mean < 0.5 for mean in means) or not on_mnist
assert min(differences["ae-mixture", "ae-gaussian"][0]) > 0 or not on_mnist
for name in ("ae-gaussian", "ae-mixture"):
    for share, error in in_seeds(f"better-{name}"):
        assert 0.5 < share < 0.7 or not on_mnist
        assert share - 0.5 > 2 * error or not on_mnist
if measured:
    for one, other in (("ae-gaussian", "vae"), ("ae-mixture", "vae")):
        assert sum(differences[one, other][0]) / 3 > 2
    mean, error = in_seeds("train-ae-gaussian-minus-vae-gaussian")[SEED]
    print(say("autoencoders-train", mean=mean, error=error))

# %% key="contest-picture" jupyter={"source_hidden": true} tags=["hide-input"]
figure, (ax,) = figures.picture(say("autoencoders-alt-contest"), height=2.9)
blue, orange = figures.COLORS["prior"], figures.COLORS["q"]
names = ("vae-gaussian", "vae-mixture", "ae-gaussian", "ae-mixture")
looks = zip(names, ("o", "s", "^", "D"), (blue, blue, orange, orange), strict=True)
for row, (name, marker, color) in enumerate(looks):
    means, errors = differences[name, "vae"]
    for seed, (mean, error) in enumerate(zip(means, errors, strict=True)):
        height = -row + 0.18 * (1 - seed)  # a primeira semente em cima
        bar = {"xerr": 4 * error, "capsize": 3, "elinewidth": 1}
        ax.errorbar(mean, height, fmt=marker, color=color, ms=6, **bar)
ax.axvline(0, color="black", linestyle=":", linewidth=1)
ax.set_yticks([-float(k) for k in range(4)], [say(f"autoencoders-{n}") for n in names])
ax.set(xlabel=say("autoencoders-over-axis"), ylim=(-3.5, 0.5))
figure

# %% [markdown] key="contest-noticed"
# **O autocodificador ganha.** Com qualquer das duas densidades, ele supera o VAE em cada uma das sementes, por mais de três erros padrão, mesmo quando o VAE recebe uma densidade ajustada do mesmo tipo. Na média de três sementes, fica mais de dois nats por imagem acima do VAE como foi treinado; a mistura acrescenta algo em cada semente. Ao VAE, a segunda olhada rende menos de meio nat: seus códigos já se parecem com a priori. Um treinamento mais longo pode mudar a ordem; nenhum dos dois foi treinado até a convergência. É a ordem contrária à do espantalho, com as *mesmas redes*: só mudou o lugar em que se sorteia.
#
# Leia o tamanho com cuidado. O autocodificador é melhor em pouco mais da metade das imagens; a vantagem está na média. O erro padrão de cada linha, de cerca de um nat e meio, vem de quanto as imagens diferem umas das outras. A diferença entre dois modelos, tomada imagem por imagem, sofre muito menos com essa variação. O erro padrão diz respeito a outras imagens de teste, com estes mesmos modelos; o que outro treinamento faria, diz o desvio padrão entre sementes, impresso abaixo de cada diferença. E a disputa é esta: duas latentes, esta rede, 15 épocas. Outras não foram medidas aqui.

# %% [markdown] key="trust-text"
# **Dá para confiar nesses números?** Não conhecemos valores exatos de mais ninguém; então vamos tentar mostrar que os nossos estão errados. O valor de um decodificador sem codificador já foi estimado, por amostragem por importância com recozimento (Wu et al., 2017). Primeiro, a quadratura. A posteriori $p(z \mid x)$ destes modelos pode ser estreita, e uma grade grossa demais perde o pico. O pacote estima por cima quanto cada valor pode estar errado, comparando a soma com outras de passo três vezes maior. É uma estimativa pessimista: diz o que um passo três vezes maior faria. Em muitas imagens do autocodificador ela pode passar de um nat, ao lado de diferenças de dois ou três. Por isso a célula repete o cálculo de 100 imagens num plano maior, com um *terço* do passo. A diferença média, somada a quatro de seus erros padrão, deve ficar abaixo de meio nat, em cada semente conhecida. Confie, portanto, nas médias, e não na imagem isolada: uma imagem sozinha pode mudar mais.

# %% key="grids" jupyter={"source_hidden": true} tags=["hide-input"]
some = x[5::10]  # (100, 784)


def second_grid(name):  # (100,) nats: um terço do passo, num plano maior
    model, log_prior, grid, extent = contestants[name]
    finely, _ = value(model, log_prior, 3 * grid, 1.1 * extent, some)
    apart = finely - table[name][5::10]  # (100,)
    note(f"grid-{name}", apart)
    found[f"largest-{name}"] = [apart.abs().max().item()]
    return finely


finer = {"vae": second_grid("vae"), "ae": second_grid("ae-mixture")}
for name, (_, doubt) in valued.items():
    note(f"doubt-{name}", doubt)
    found[f"narrow-{name}"] = [(doubt > 1).double().mean().item()]
for name in valued if measured else ("vae", "ae-mixture"):
    each = [in_seeds(f"{key}-{name}") for key in ("grid", "narrow", "largest")]
    each = zip(*each, strict=True)
    for seed, ((mean, error), (narrow,), (largest,)) in enumerate(each):
        told = {"narrow": narrow, "mean": mean, "error": error, "apart": largest}
        told["who"] = say(f"autoencoders-{name}")
        print(say("autoencoders-grids", seed=seed if measured else SEED, **told))
        assert abs(mean) + 4 * error < 0.5 or not on_mnist

# %% [markdown] key="draws-text"
# Segundo, um caminho sem grade: a amostragem por importância. Alguns sorteios em volta do próprio código da imagem acham um centro. Depois sorteamos de novo. Dos sorteios que contam, metade vem dos arredores desse centro, com quatro larguras, já que não sabemos quão estreita é a posteriori. A outra metade vem da priori, para que um segundo pico não passe despercebido. Sendo $g$ a densidade dessa proposta, a média de $p(x \mid z)\,p(z) / g(z)$ estima $p(x)$ (os detalhes estão na lição 02). Em 100 imagens, com 2.000 sorteios cada uma, o resultado precisa concordar com a mais fina das duas grades, à qual a última célula ligou a tabela. Isto é uma só semente, com o VAE e o autocodificador com mistura.


# %% key="draws"
@torch.no_grad()
def by_draws(model, prior, images, centre, draws):
    widths = torch.tensor([0.02, 0.06, 0.2, 0.6], dtype=torch.float64)
    around = Normal(centre[:, None].expand(-1, 4, 2), widths[:, None])
    near = MixtureSameFamily(
        Categorical(torch.ones(len(centre), 4)), Independent(around, 1)
    )
    z = torch.cat((near.sample((draws,)), prior.sample((draws, len(centre)))))
    log_g = torch.logaddexp(near.log_prob(z), prior.log_prob(z)) - math.log(2)
    likelihood = torch.stack(  # log p(x|z), uma imagem por vez
        [
            densities.log_bernoulli(image, model.decode_logits(at.float().to(device)))
            for image, at in zip(images, z.unbind(1), strict=True)
        ],
        1,
    )
    likelihood = likelihood.cpu().double()  # (2 * draws, B)
    return likelihood + prior.log_prob(z) - log_g, likelihood, z


torch.manual_seed(0)
normal = MultivariateNormal(torch.zeros(2).double(), torch.eye(2).double())
drawn = {}
for name, model, prior in (
    ("vae", vae, normal),
    ("ae", standard["ae"], mixtures["ae"]),
):
    with torch.no_grad():
        code = model.encode(some)
        code = (code[0] if isinstance(code, tuple) else code).cpu().double()
    _, likelihood, z = by_draws(
        model, prior, some, code, 300
    )  # só para achar um centro
    best = (likelihood + prior.log_prob(z)).argmax(0)  # (100,)
    centre = z[best, range(len(best))]
    log_weights, likelihood, z = by_draws(model, prior, some, centre, 1000)
    weights = (log_weights - finer[name]).exp()  # (2000, 100), média 1
    halves = weights.unflatten(0, (2, -1))  # (2, 1000, 100): de perto e da priori
    apart = weights.mean(0) - 1  # (100,) em relação a p(x)
    errors = (halves.var(1) / halves.shape[1]).sum(0).sqrt() / 2  # (100,)
    told = {"mean": apart.mean().item(), "error": errors.norm().item() / len(errors)}
    told["near"] = int((apart.abs() < 4 * errors).sum())
    size = weights.sum(0).square() / weights.square().sum(0)  # (100,)
    told["size"] = size.min().item()
    print(say("autoencoders-draws", who=say(f"autoencoders-{name}"), **told))
    assert abs(told["mean"]) < 4 * told["error"]
    assert told["near"] >= 97
    assert told["size"] > 30 or not on_mnist
    drawn[name] = weights / weights.sum(0), likelihood, z

# %% [markdown] key="ledger-text"
# ## 5. Treinado em pontos, julgado em nuvens
#
# O decodificador do autocodificador foi treinado em *pontos*: um código por imagem. Em $p(x)$ ele é julgado numa nuvem, pois cada $z$ perto do código também conta. Isso não deveria prejudicá-lo? Eis o balanço. Para qualquer modelo,
#
# $$\log p(x) = \mathbb{E}_{p(z \mid x)}[\log p(x \mid z)] - \mathrm{KL}(p(z \mid x) \,\|\, p(z)).$$
#
# É o ELBO com a verdadeira posteriori no lugar de $q$, caso em que o limite é uma igualdade. É álgebra, e não uma descoberta. Os sorteios da última célula, ponderados por seus pesos, são sorteios da verdadeira posteriori: deles sai o primeiro termo e, com o $\log p(x)$ exato, a KL. Ao lado, imprimimos $\log p(x \mid z)$ em dois pontos: o código do codificador e o melhor de todos os pontos sorteados. A largura é o desvio padrão da posteriori (a mediana de 100 imagens), na coordenada padronizada de cada modelo. Tudo isto é uma só semente.

# %% key="ledger" jupyter={"source_hidden": true} tags=["hide-input"]
books, widths = {}, {}
for name, (shares, likelihood, z) in drawn.items():
    with torch.no_grad():
        logits = standard[name].decode_logits(standard[name].encode(some))
        at_code = densities.log_bernoulli(some, logits)
    cloud = (shares * likelihood).sum(0)  # (100,)
    u = standard["vae"].standardize(z.reshape(-1, 2).float().to(device))
    u = (
        z if name == "ae" else u.cpu().double().reshape(z.shape)
    )  # ambos de desvio padrão 1
    middle = (shares[..., None] * u).sum(0)  # (100, 2)
    variance = (shares[..., None] * (u - middle).square()).sum(0).mean(1)  # (100,)
    book = {"code": at_code.cpu().double(), "best": likelihood.max(0).values}
    book |= {"cloud": cloud, "kl": cloud - finer[name], "exact": finer[name]}
    assert (book["exact"] <= book["best"] + 1e-2).all()
    books[name], widths[name] = book, variance.sqrt().median().item()
    told = {key: each.mean().item() for key, each in book.items()}
    told |= {"width": widths[name], "who": say(f"autoencoders-{name}")}
    print(say("autoencoders-ledger", **told))
for name, book in books.items():
    price, missed = book["best"] - book["cloud"], book["best"] - book["code"]  # (100,)
    told = {"price": price.mean().item(), "price_error": train.standard_error(price)}
    told |= {"missed": missed.mean().item()}
    told["missed_error"] = train.standard_error(missed)
    print(say("autoencoders-price", who=say(f"autoencoders-{name}"), **told))
    assert abs(price.mean() - 1) < 0.5 or not on_mnist
    assert missed.mean() > max(1, 3 * told["missed_error"]) or not on_mnist
for key in ("best", "kl"):
    apart = books["ae"][key] - books["vae"][key]  # (100,) aos pares
    told = {"mean": apart.mean().item(), "error": train.standard_error(apart)}
    print(say(f"autoencoders-ledger-{key}", **told))
assert abs(apart.mean()) < 1 or not on_mnist
assert widths["ae"] < 0.8 * widths["vae"] or not on_mnist

# %% [markdown] key="ledger-noticed"
# **Do melhor ponto à própria nuvem, cada decodificador perde cerca de um nat.** Esse nat é geometria: meio nat por latente, em qualquer pico de forma gaussiana, não importa como o decodificador foi treinado. O que difere é a *largura* da nuvem: a do autocodificador é claramente mais estreita. Uma nuvem mais estreita custa mais na KL, e uma densidade que se ajusta melhor aos códigos custa menos. A última linha dá a diferença entre as KLs, em que os dois efeitos agem juntos: menos de um nat. Não os separamos.
#
# Há uma perda maior, do codificador: no código dele, a imagem é menos provável que no melhor ponto por mais de um nat, em média, nos dois modelos. A quadratura não consulta o codificador, e por isso esse erro de posição não custa nada diretamente em $p(x)$; ele só entra pela densidade que foi ajustada aos códigos. No ELBO, custa.
#
# E se o decodificador for julgado numa nuvem que *não* é a dele? Na próxima célula, os códigos padronizados recebem um ruído do mesmo tamanho em todas as imagens.

# %% key="noise" jupyter={"source_hidden": true} tags=["hide-input"]
sizes = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
torch.manual_seed(0)
noises = torch.randn(
    4, len(x), 2, device=device
)  # os mesmos para cada tamanho e modelo
shaken = {}  # de cada nome a (7, 1000) nats
for name, model in standard.items():
    with torch.no_grad():
        u = model.encode(x)  # (1000, 2), de desvio padrão 1
        fits = [
            sum(
                densities.log_bernoulli(x, model.decode_logits(u + size * eps))
                for eps in noises
            )
            for size in sizes
        ]
    shaken[name] = torch.stack(fits).cpu().double() / len(noises)
for k, size in enumerate(sizes):
    told = {name: each[k].mean().item() for name, each in shaken.items()}
    print(say("autoencoders-noise", size=size, **told))
    note(f"noise-{size:g}", shaken["ae"][k] - shaken["vae"][k])  # (1000,), aos pares
with torch.no_grad():
    mu, logvar = vae.encode(x)  # (1000, 2) cada
home = ((0.5 * logvar).exp() / mu.std(0)).median().item()
print(say("autoencoders-noise-home", home=home))
for size in ("0", "0.1"):
    tell_seeds(f"noise-{size}", say("autoencoders-noise-apart", size=float(size)))
assert all(mean > 4 * error for mean, error in in_seeds("noise-0")) or not on_mnist
assert all(mean < -4 * error for mean, error in in_seeds("noise-0.1")) or not on_mnist
assert 0.03 < home < 0.1 or not on_mnist

# %% [markdown] key="stops-text"
# Sem ruído, as imagens refeitas pelo autocodificador se ajustam melhor às originais. Com um ruído de um décimo do desvio padrão dos códigos, ajustam-se muito pior que as do VAE. Na unidade do desvio padrão dos códigos, portanto, o decodificador do VAE é mais *suave*. Repare em que terreno ele estava em casa: a célula imprime o ruído com que ele foi treinado, na mesma escala. Não separamos o ruído no treinamento do preço da KL. A um decodificador suave basta um codificador que diga só mais ou menos onde está a imagem.
#
# ## 6. De um ao outro, com um controle deslizante
#
# O peso da KL leva de um modelo ao outro. No peso 1 está o VAE. Quando o peso cai, a informação fica mais barata: as nuvens encolhem e se afastam. No peso 0, nada mais recompensaria o ruído: no limite de um treinamento longo, ele encolheria até sumir. Por isso, nessa ponta está o próprio autocodificador. As paradas intermediárias não são treinadas do começo: são *continuadas*. O VAE treinado segue por duas épocas com peso 0,5, esse modelo por mais duas com 0,1, e assim até 0,01 (uma só semente; as pontas são as da seção 4). Cada modelo é avaliado duas vezes: sob $\mathcal{N}(0, I)$ e sob a gaussiana ajustada aos seus códigos.


# %% key="stops"
def onward(model):  # uma cópia, para treinar mais
    return deepcopy(model).cpu()


stops, last = {0.0: ae, 1.0: vae}, vae
for weight in (0.5, 0.1, 0.01):
    options = {"kl_weight": weight, "epochs": 2 if on_mnist else 1}
    last, _ = train.trained(train_images, make=partial(onward, last), **options)
    stops[weight] = last
stops = dict(sorted(stops.items()))
ends = {0.0: ("strawman", "ae-gaussian"), 1.0: ("vae", "vae-gaussian")}  # já conhecidas
along, noise, views = {}, {0.0: 0.0}, {}  # o autocodificador não tem ruído
for weight, model in stops.items():
    own = codes_of(model)
    views[weight] = Standardized(model, own), own
    spread = own.std(0).mean().item()
    if weight in ends:
        plain, fitted = (table[name] for name in ends[weight])
    else:
        plain, off = value(model, standard_normal, 500, max(6.0, 5 * spread))
        fitted, more = value(views[weight][0], standard_normal, 660, 8.0)
        assert max(off.mean(), more.mean()) < 0.5 or not on_mnist
    along[weight] = {"plain": plain, "fitted": fitted}  # (1000,) cada
    if weight:
        with torch.no_grad():
            mu, logvar = model.encode(x)  # (1000, 2) cada
        noise[weight] = ((0.5 * logvar).exp() / mu.std(0)).median().item()
    told = {key: each.mean().item() for key, each in along[weight].items()}
    told |= {"spread": spread, "noise": noise[weight]}
    print(say("autoencoders-stop", weight=weight, **told))

rows = list(along.values())
for key in ("plain", "fitted"):
    change = rows[-1][key] - rows[0][key]  # (1000,) da primeira parada à última
    told = {"change": change.mean().item(), "error": train.standard_error(change)}
    print(say("autoencoders-change", key=say(f"autoencoders-{key}"), **told))
    sign = 1 if key == "plain" else -1
    assert sign * change.mean() > 3 * told["error"] or not on_mnist
    assert key == "fitted" or change.mean() > 5 or not on_mnist
nearer = [(row["fitted"] - row["plain"]).mean().item() for row in rows]
assert nearer[0] > max(nearer[1:]) or not on_mnist
spreads = [own.std(0).mean().item() for _, own in views.values()]
assert spreads == sorted(spreads, reverse=True) or not on_mnist
assert [*noise.values()][1:] == sorted([*noise.values()][1:]) or not on_mnist

# %% key="panel" jupyter={"source_hidden": true} tags=["hide-input"]
torch.manual_seed(0)
eps = torch.randn(12, 2, device=device)  # os mesmos sorteios em cada parada
tiles = {}
for weight, (model, _) in views.items():
    with torch.no_grad():
        tiles[weight] = torch.sigmoid(model.decode_logits(eps)).cpu()  # (12, 784)


def stop(weight):
    _, own = views[weight]
    told = {key: each.mean().item() for key, each in along[weight].items()}
    told |= {"spread": own.std(0).mean().item(), "noise": noise[weight]}
    alt = say("autoencoders-alt-stop", weight=weight, **told)
    figure, axes = figures.picture(alt, columns=3, width=8.4, height=3.1)
    left, middle, right = axes
    left.plot(*own[:1500].T, ".", color="black", ms=1.5, alpha=0.5)
    draw_rings(left, own)
    reach = max(4.0, own.abs().quantile(0.995).item())
    left.set(xlabel="$z_1$", ylabel="$z_2$", aspect="equal")
    left.set(xlim=(-reach, reach), ylim=(-reach, reach))
    figures.show_digits(
        middle, tiles[weight], columns=4, title=say("autoencoders-draws-title")
    )
    for key, style, color in (("plain", "s--", blue), ("fitted", "^-", orange)):
        heights = [each[key].mean().item() for each in along.values()]
        name = say(f"autoencoders-{key}")
        right.plot(range(len(stops)), heights, style, color=color, ms=4, label=name)
    place = list(stops).index(weight)
    right.axvline(place, color="black", linestyle=":", linewidth=1)
    names = [say("tick", value=value) for value in stops]
    right.set_xticks(range(len(stops)), names)
    right.set(xlabel=say("autoencoders-weight"), ylabel=say("autoencoders-exact-axis"))
    right.legend(fontsize=7, frameon=False)
    figure.stored_dpi = figures.SHOWN_DPI  # desenha mais rápido
    return figure


options = [(say("tick", value=weight), weight) for weight in stops]
panel = sliders.panel(
    stop, weight=sliders.choice(say("autoencoders-weight"), options, value=0.0)
)
panel

# %% key="panel-moved" jupyter={"source_hidden": true} tags=["hide-input"]
assert sliders.sweep(panel) == 2  # a primeira parada, que é a inicial, e a última
for weight in stops:
    panel.controls["weight"].value = weight
    place = panel.picture.axes[2].lines[-1].get_xdata()[0]
    assert list(stops)[int(place)] == weight
panel.controls["weight"].value = 0.0

# %% [markdown] key="stops-noticed"
# Mova o controle da esquerda para a direita e acompanhe os três quadros. Os códigos se juntam até encher os anéis. Os dois valores de $\log p(x)$ estão longe um do outro no autocodificador e perto no VAE, cuja gaussiana ajustada é quase $\mathcal{N}(0, I)$. E repare em que sentido cada um se move, de ponta a ponta: o valor sob $\mathcal{N}(0, I)$ sobe mais de cinco nats; o valor sob a gaussiana ajustada *cai*. **Neste experimento, o peso inteiro da KL vem com uma priori conhecida de antemão e com um modelo um pouco pior das imagens.** As pontas têm uma semente aqui e três na seção 4. As paradas intermediárias têm uma só semente e foram treinadas por mais tempo que o VAE: sobre a curva entre as pontas não afirmamos nada.
#
# Por que não manter o ruído e dispensar a KL? Seria *meio VAE*: um ruído de tamanho fixo nos códigos, e nada que os mantenha juntos. A próxima célula treina um modelo assim, com 6.000 imagens e ruído de tamanho 1. O que fará o codificador?


# %% key="half"
def noisy(model, images):  # meio VAE: ruído de tamanho 1 no código, e nenhuma KL
    code = model.encode(images)
    logits = model.decode_logits(code + torch.randn_like(code))
    fit = densities.log_bernoulli(images, logits)  # (B,)
    return Bound(fit, fit, torch.zeros_like(fit))


few = data.Images(
    train_images.pixels[:6000], train_images.labels[:6000], dynamic=True, name="few"
)
torch.manual_seed(0)
half, spreads = make().to(device), []
for _ in range(4):
    with torch.no_grad():
        spreads.append(half.encode(x).std(0).mean().item())
    train.fit(half, few, epochs=4, objective=noisy, device=device)
with torch.no_grad():
    spreads.append(half.encode(x).std(0).mean().item())
for k, spread in enumerate(spreads):
    print(say("autoencoders-half", epochs=4 * k, spread=spread))
assert spreads == sorted(spreads)
assert spreads[-1] > max(5, 1.05 * spreads[-2]) or not on_mnist

# %% [markdown] key="pictures-text"
# O codificador grita. Um ruído de tamanho fixo some diante de códigos maiores, e o desvio padrão cresceu ao longo de todas as 16 épocas. Nada no custo o deteria: códigos maiores por um fator tornam o ruído menor pelo mesmo fator. Sozinho, sem um preço para a distância, o ruído fica sem uma escala que lhe sirva de medida.
#
# ## 7. A olho
#
# Sorteios de cada concorrente, dez por linha, todos da semente 0. De cada um, em cima, as médias do decodificador; embaixo, amostras, em que cada pixel é sorteado com essa média. É a amostra que mostra o que o modelo diz sobre os dados.

# %% key="pictures" jupyter={"source_hidden": true} tags=["hide-input"]
torch.manual_seed(0)
eps = torch.randn(10, 2)
sources = {
    "vae": (vae, eps),
    "ae-gaussian": (standard["ae"], eps),
    "ae-mixture": (standard["ae"], mixtures["ae"].sample((10,)).float()),
}
rows = {}
for name, (model, z) in sources.items():
    with torch.no_grad():
        means = torch.sigmoid(model.decode_logits(z.to(device))).cpu()  # (10, 784)
    who = say(f"autoencoders-{name}")
    rows[say("autoencoders-means-row", who=who)] = means
    rows[say("autoencoders-samples-row", who=who)] = torch.bernoulli(means)
figure = figures.gallery(rows, columns=10, alt=say("autoencoders-alt-draws"), width=7)
figure.stored_dpi = figures.SHOWN_DPI
figure

# %% key="rubbish" jupyter={"source_hidden": true} tags=["hide-input"]
torch.manual_seed(0)
real = data.draw_bits(train_images.pixels[:10_000])  # (10000, 784)


def nearest(
    pixels,
):  # distância ao quadrado até a imagem real mais próxima: de (B, 784) a (B,)
    near = [torch.cdist(part, real).amin(1).square() for part in pixels.split(200)]
    return torch.cat(near).cpu().double()


limit = nearest(x).quantile(0.99)
eps = torch.randn(2000, 2)
for name, model, z in (
    ("vae", vae, eps),
    ("ae-gaussian", standard["ae"], eps),
    ("ae-mixture", standard["ae"], mixtures["ae"].sample((2000,)).float()),
):
    with torch.no_grad():
        means = torch.sigmoid(model.decode_logits(z.to(device)))  # (2000, 784)
    told = note(f"rubbish-{name}", nearest(means) > limit)
    who = say(f"autoencoders-{name}")
    print(say("autoencoders-rubbish", who=who, share=told["mean"], error=told["error"]))
if measured:
    each = [
        say("autoencoders-share", share=p) for p, _ in in_seeds("rubbish-ae-gaussian")
    ]
    print(say("autoencoders-rubbish-seeds", values="; ".join(each)))
assert found["rubbish-ae-gaussian"][0] > 0.05 or not on_mnist
assert (
    max(found[f"rubbish-{k}"][0] for k in ("vae", "ae-mixture")) < 0.02 or not on_mnist
)

# %% [markdown] key="walk-text"
# **Com a gaussiana, quem ganhou também gera refugo.** A gaussiana avança sobre uma parte do mapa em que não há código algum (veja a parte de cima da elipse, na seção 3), e ali o decodificador nunca foi treinado. A célula recolhida conta esses sorteios entre 2.000, nesta semente: mais de um em vinte com a gaussiana, menos de um em cinquenta com o VAE ou com a mistura. Como ele ainda ganha? É que $\log p(x)$ só pergunta quão prováveis são as imagens *reais*. Dar ao refugo uma parte $w$ da massa custa $-\log(1 - w)$ nats, em comparação com distribuí-la entre o resto: cerca de um terço de nat para $w = 0{,}3$. **Uma boa verossimilhança não promete bons sorteios**, e uns poucos sorteios bons não provam uma boa verossimilhança (Theis, van den Oord e Bethge, 2016).
#
# Também as interpolações são julgadas pelo gosto, e todo texto sobre autocodificadores as mostra: caminha-se em linha reta do código de uma imagem ao de outra, decodificando pelo caminho. O autor escolhe um par que fica bonito. Vamos fixar uma regra *antes* de olhar.
#
# **A regra.** Tome 200 pares de imagens de teste de dígitos diferentes, sorteados com uma semente. Entre os dois códigos, decodifique seis pontos em passos iguais. Cada média decodificada é comparada com 10.000 imagens de treinamento: vale a distância ao quadrado até a mais próxima. O número de um caminho é a média de seus seis pontos. Um caminho que sai da região das imagens reais, ou que borra, ganha um número grande. Quatro dos seis pontos ficam perto de uma ponta, onde o número é em boa parte o de uma reconstrução; por isso contamos também os dois pontos do meio sozinhos. De cada modelo mostramos então o caminho de menor número. (Dígitos com pouca tinta levam vantagem, nos dois modelos por igual.)

# %% key="walk" jupyter={"source_hidden": true} tags=["hide-input"]
torch.manual_seed(0)
digits = test_images.labels[::10].cpu()  # (1000,)
pairs = torch.randint(len(x), (1000, 2))
pairs = pairs[digits[pairs[:, 0]] != digits[pairs[:, 1]]][:200].T  # (2, 200)
steps = (torch.arange(1, 7) / 7)[:, None, None].to(device)  # (6, 1, 1)


@torch.no_grad()
def walk(
    model,
):  # médias decodificadas (6, 200, 784) e a distância de cada uma (6, 200)
    first, last = (model.encode(x[side.to(device)]) for side in pairs)
    if isinstance(first, tuple):
        first, last = first[0], last[0]  # os centros das nuvens
    path = (1 - steps) * first + steps * last  # (6, 200, 2)
    means = model.decode(path.reshape(-1, 2))  # (1200, 784)
    return means.reshape(6, 200, 784).cpu(), nearest(means).reshape(6, 200)


walks = {"vae": walk(vae), "ae": walk(ae)}
for name, (_, far) in walks.items():
    told = {"mean": far.mean().item(), "error": train.standard_error(far.mean(0))}
    print(say("autoencoders-walk", who=say(f"autoencoders-{name}"), **told))
apart = walks["ae"][1] - walks["vae"][1]  # (6, 200) aos pares
for key, each in (("walk", apart.mean(0)), ("walk-middle", apart[2:4].mean(0))):
    print(say(f"autoencoders-apart-{key}", **note(key, each)))
    tell_seeds(key, say(f"autoencoders-seed-{key}"))
assert found["walk"][0] < -4 * found["walk"][1] or not on_mnist
assert all(mean < 0 for mean, _ in in_seeds("walk")) or not on_mnist

# %% key="walk-picture" jupyter={"source_hidden": true} tags=["hide-input"]
rows = {}
for name, (means, far) in walks.items():
    far = far.mean(0)  # (200,)
    best = far.argmin().item()
    first, last = x[pairs[0, best]][None].cpu(), x[pairs[1, best]][None].cpu()
    title = {"who": say(f"autoencoders-{name}"), "number": far[best].item()}
    rows[say("autoencoders-walk-row", **title)] = torch.cat(
        (first, means[:, best], last)
    )
figures.gallery(rows, columns=8, alt=say("autoencoders-alt-walk"), width=6)

# %% [markdown] key="answer"
# Por essa regra, os caminhos do autocodificador ficam, na média dos 200 pares, *mais perto* de imagens reais que os do VAE: nesta semente, por vários erros padrão, e também na média de cada semente que a célula lista. (Os pares têm imagens em comum, e o erro padrão não sabe disso.) A regra compara uma média cinza com bits, e por isso castiga o próprio cinza, e o decodificador do autocodificador é o mais nítido; se a razão é só essa, não testamos. É certo que um único caminho bonito não prova nada, para nenhum dos lados.
#
# ## 8. Então, o que um VAE acrescenta?
#
# Nesta disputa, não um $p(x)$ melhor nem, pela regra acima, caminhos mais próximos. O que ele acrescenta é isto:
#
# - **Uma priori conhecida de antemão.** Sorteia-se de $\mathcal{N}(0, I)$ na hora. O autocodificador precisa de um segundo ajuste, depois do treinamento. O espantalho é o que acontece sem esse ajuste, e o refugo da seção 7 é o que acontece quando o ajuste é ruim.
# - **Um $q(z \mid x)$ e, com ele, um limite, na hora.** Com 50 latentes não há grade. Para o autocodificador, seria preciso primeiro construir um $q$, como fizemos à mão na seção 4, ou usar a amostragem por importância com recozimento, como na lição 06. O VAE já traz o seu $q$ e, com ele, o ELBO.
# - **Um só objetivo.** As duas coisas vêm de um único número, que limita $\log p(x)$ por baixo. O autocodificador sobe $\log p(x \mid z)$ em seu código. No melhor $z$, esse é um limite *superior* de $\log p(x)$, qualquer que seja a priori (a seção 5 verifica isso): ele pode subir enquanto $\log p(x)$ cai.
# - **Um decodificador suave**, ao qual basta um código impreciso. Isso conta quando se paga por cada bit, como na lição 10.
#
# **O que esta lição não mostra.** Tudo aqui é com duas latentes, uma rede, 15 épocas e o MNIST. Com mais latentes, uma gaussiana ajustada pode errar muito mais o lugar dos códigos, e não há quadratura que o diga. Um treinamento mais longo pode mudar a ordem; não treinamos até a convergência. As densidades foram ajustadas aos códigos; ajustá-las ao próprio $\log p(x)$ talvez aumentasse ainda mais o valor do autocodificador. Não separamos as duas coisas que mudam com o peso da KL: o preço do código e a forma de $q$. As seções 5 a 7 se apoiam sobretudo numa só semente de cada modelo. E um $\log p(x)$ mais alto não é uma imagem mais bonita.
#
# **Para ler.** Tipping e Bishop (1999), sobre a PCA probabilística; Kingma e Welling (2013), sobre o VAE; Ghosh et al. (2020), sobre densidades ajustadas a códigos. A lição 02 deduz o limite; a lição 05 olha o mapa do VAE e seus buracos; a lição 06 mede o que falta a esse $q$; a lição 08 leva muito mais longe o estudo do peso da KL.

# %% [markdown] key="exercises"
# ## Exercícios
#
# Escreva sua resposta no lugar das reticências e rode a célula. A verificação responde na hora: certo, ou uma pista. As soluções estão recolhidas logo abaixo de cada questão.
#
# ### 1. A PCA à mão
#
# A função recebe imagens `x`, `(N, D)`, e um número `q`. Refaça cada imagem a partir de seus primeiros `q` componentes principais e devolva as imagens, `(N, D)`. A média das imagens não é zero.


# %% key="exercise-pca" tags=["nbval-check-output"]
def my_pca(x, q): ...


checks.pca(my_pca)


# %% key="solution-pca" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output", "solution"]
def solution_pca(x, q):
    mean = x.mean(0)
    axes = torch.linalg.eigh(torch.cov(x.T))[1][:, -q:]  # (D, q)
    return mean + (x - mean) @ axes @ axes.T


verdict = checks.pca(solution_pca)
assert verdict
verdict

# %% [markdown] key="exercise-density-text"
# ### 2. A densidade dos códigos ajustados
#
# Uma gaussiana com a média e a covariância cheia de `codes`, `(N, 2)`, é avaliada nos pontos `z`, `(M, 2)`. Devolva a log-densidade, `(M,)`, sem chamar uma distribuição pronta. Divida por $N$ ou por $N - 1$, como preferir: são 40.000 códigos.


# %% key="exercise-density" tags=["nbval-check-output"]
def my_density(codes, z): ...


checks.code_density(my_density)


# %% key="solution-density" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output", "solution"]
def solution_density(codes, z):
    root = torch.linalg.cholesky(torch.cov(codes.T))
    apart = (z - codes.mean(0)).T  # (2, M)
    white = torch.linalg.solve_triangular(root, apart, upper=False)  # (2, M)
    volume = root.diagonal().log().sum()  # metade do log-determinante da covariância
    return -0.5 * white.square().sum(0) - volume - math.log(2 * math.pi)


verdict = checks.code_density(solution_density)
assert verdict
verdict

# %% [markdown] key="exercise-strawman-text"
# ### 3. Ache o espantalho
#
# O texto ao lado de `published_draw` diz: "ajustamos uma gaussiana aos códigos do autocodificador e sorteamos dela; como se vê, o autocodificador não sabe gerar". `eps` traz sorteios de $\mathcal{N}(0, I)$, `(M, 2)`, e `decode` leva `(M, 2)` a imagens. Ache o que torna injusta a comparação e escreva `my_draw` sem isso: sorteie da gaussiana com a média e a covariância *cheia* dos códigos. Todo o acaso deve vir de `eps`.


# %% key="exercise-strawman" tags=["nbval-check-output"]
def published_draw(decode, codes, eps):
    return decode(eps * codes.std(0))


def my_draw(decode, codes, eps): ...


checks.fair_draw(my_draw)


# %% key="solution-strawman" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output", "solution"]
def solution_draw(decode, codes, eps):  # com a média e a correlação
    root = torch.linalg.cholesky(torch.cov(codes.T))
    return decode(codes.mean(0) + eps @ root.T)


verdict = checks.fair_draw(solution_draw)
assert verdict
verdict

# %% [markdown] key="exercise-moved-text"
# ### 4. A densidade muda com a variável
#
# A seção 4 escreveu um código como $c = m + L u$. A função `log_density` dá a log-densidade de $u$, de `(M, 2)` a `(M,)`; `mean` é $m$, e `root` é $L$, triangular inferior, de diagonal positiva. Devolva a log-densidade dos códigos `codes`, `(M, 2)`.


# %% key="exercise-moved" tags=["nbval-check-output"]
def my_moved(log_density, codes, mean, root): ...


checks.moved_density(my_moved)


# %% key="solution-moved" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output", "solution"]
def solution_moved(log_density, codes, mean, root):
    u = torch.linalg.solve(root, (codes - mean).T).T
    return (
        log_density(u) - root.diagonal().log().sum()
    )  # áreas são multiplicadas por det L


verdict = checks.moved_density(solution_moved)
assert verdict
verdict
