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
# O treinamento acabou, e o ELBO de teste está na tabela. É um número só. Ele não diz o que *significam* os dois números de cada imagem, se o plano está cheio ou tem buracos, nem de quem é a culpa do borrão. Esta lição abre o modelo e olha.
#
# **Ao final você saberá** dizer o que borra uma reconstrução e o que não borra; distinguir a média do decodificador de uma amostra; desenhar uma variedade em que todos os ladrilhos valem o mesmo; medir a que distância da priori estão os códigos, todos juntos; caminhar de um dígito a outro; e olhar para dentro de um espaço latente que não cabe na página.
#
# **Você precisa da** lição 00.
#
# **Tempo:** 40 minutos de leitura; meio minuto de máquina, mais até um minuto na primeira vez, enquanto o modelo é treinado.

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

use_language("pt")

# %% [markdown] key="model-text"
# ## 1. O paciente
#
# O modelo é o da lição 00: duas latentes, 15 épocas. Ele vem do cache. Se ainda não estiver lá, é treinado agora, uma vez só, o que leva menos de um minuto.

# %% key="model"
device = torch.device("cpu")
if torch.accelerator.is_available():
    device = torch.accelerator.current_accelerator()

train_images = data.load("auto", "train", device=device)
test_images = data.load(train_images.name, "test", device=device)
model, history = train.trained(train_images, device=device)

torch.manual_seed(0)
bound = train.evaluate(model, test_images)  # três vezes (10000,) nats
mean, error = bound.elbo.mean().item(), train.standard_error(bound.elbo)
assert mean > {"mnist": -158.0, "strokes": -135.0}[train_images.name]
print(say("latents-patient", name=train_images.name, mean=mean, error=error))

# %% [markdown] key="blur-toy-text"
# ## 2. Quem borra a imagem?
#
# "VAEs são borrados por causa da KL": lê-se isso em muitos lugares. Vamos levar a KL a julgamento.
#
# Primeiro, um caso sem KL nenhuma, e sem codificador. Uma barra aparece à esquerda ou à direita, metade das vezes em cada lado. A latente não diz qual: as duas imagens recebem o mesmo código. O decodificador tem um único vetor de logits, e a descida de gradiente o escolhe para tornar as duas imagens tão prováveis quanto possível. A próxima figura mostra as duas imagens e o que ele escolhe.

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
assert 0 < cost.item() - differing * math.log(2) < 0.3  # continua a cair, devagar
print(say("latents-toy", pixels=differing, cost=differing * math.log(2)))
shown = torch.cat((bars, chosen[None])).float()
figures.gallery(
    {say("latents-toy-title"): shown}, columns=8, alt=say("latents-alt-toy")
)

# %% [markdown] key="blur-cause"
# Ele escolhe a média. Dada a latente, os pixels são independentes; por isso cada um responde só por si, com a frequência com que acende: um meio. **O que a latente não determina, pixels independentes transformam em média.** O borrão está aí, e não havia KL na sala.
#
# Para medi-lo é preciso um número. Para uma média $m$ do decodificador, tome
#
# $$G(m) = \sum_d m_d\,(1 - m_d),$$
#
# o *cinza* da imagem: 0 se cada pixel é certamente preto ou certamente branco, $\frac{1}{4}$ por pixel decidido no cara ou coroa. É a variância que o próprio decodificador admite nos pixels. No exemplo das barras, ela vale $120 / 4 = 30$.

# %% key="grey" tags=["nbval-check-output"]
def grey(means):
    return (means * (1 - means)).sum(-1)  # (B,)


assert abs(grey(chosen) - differing / 4) < 0.4
print(say("latents-grey-toy", average=grey(chosen).item(), bar=grey(bars[0]).item()))

# %% [markdown] key="trial-text"
# Agora, o modelo. Se a culpa é da KL, tirá-la deve deixar as imagens mais nítidas. Se a culpa é da ignorância, o que deve ajudar é contar mais ao decodificador. Fazemos as duas coisas, uma separada da outra.
#
# - **Sem a KL.** Tomamos o codificador e o decodificador já treinados, jogamos fora a KL e o ruído e seguimos treinando por duas épocas. O que sobra é um *autocodificador*: um ponto por imagem, e nada a pagar por ele. Ele parte de onde o VAE chegou: não começa em desvantagem.
# - **Com a KL, e dez latentes.** Um VAE novo, do zero, por apenas duas épocas.

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
        cost = -densities.log_bernoulli(x, autoencoder(x)).mean()  # e nenhuma KL
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()

torch.manual_seed(0)
wide = nets.VAE(latent_dim=10)
train.fit(wide, train_images, epochs=2, device=device, progress=False)
wide = wide.eval()

# %% [markdown] key="verdict-text"
# Para as 10.000 imagens de teste, a tabela dá o cinza da reconstrução e o seu erro quadrático, $\lVert x - m \rVert^2$, os dois em pixels. A última linha é o ruído do próprio sorteio: os bits de teste foram sorteados dos níveis de cinza, e nem os níveis verdadeiros teriam adivinhado o resultado. Só fica abaixo dela um modelo que guarde no código o próprio ruído.
#
# Depois vêm as imagens. Compare a segunda linha com a terceira, e as duas com a quarta.

# %% key="verdict"
@torch.no_grad()
def rebuilt(images):
    return {
        "latents-vae-2": model.decode(model.encode(images)[0]),
        "latents-ae-2": autoencoder.decode(autoencoder.encode(images)),
        "latents-vae-10": wide.decode(wide.encode(images)[0]),
    }


x = test_images.pixels  # (10000, 784), binários
levels = data.load(train_images.name, "test", binarize=False, device=device).pixels
greys, errors = {}, {}
for some, true in zip(x.split(1000), levels.split(1000), strict=True):
    for key, m in (rebuilt(some) | {"latents-grey-levels": true}).items():
        greys.setdefault(key, []).append(grey(m))
        errors.setdefault(key, []).append((some - m).square().sum(-1))
greys = {key: torch.cat(parts) for key, parts in greys.items()}  # (10000,) cada um
errors = {key: torch.cat(parts) for key, parts in errors.items()}
print(say("latents-trial-head"))
for key in greys:
    told = {"grey": greys[key].mean().item(), "error": errors[key].mean().item()}
    told["grey_error"] = train.standard_error(greys[key])
    told["error_error"] = train.standard_error(errors[key])
    print(say("latents-trial-row", model=say(key), **told))

two, free, ten = (greys[key].mean().item() for key in list(greys)[:3])
assert abs(free - two) < 0.08 * two  # sem a KL: quase nada muda
assert ten < 0.8 * two  # com a KL e mais latentes: um quinto a menos, ou mais
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
# **Absolvida.** Sem a KL, e com duas épocas para aproveitar a liberdade, o autocodificador continua tão cinza quanto antes, a menos de uns poucos por cento. Com a KL em pleno vigor, dez latentes no lugar de duas levam embora mais de um quinto do cinza; no MNIST, um terço. A KL tem algo a dizer, mas de forma indireta: ela é um preço sobre a informação, e um modelo pode decidir que um detalhe não vale o que custa. Aqui, dois números são simplesmente poucos.
#
# Mais uma coisa na tabela: em cada linha, cinza e erro quadrático concordam a menos de um décimo, mais ou menos. O decodificador sabe o tamanho da própria ignorância. A seção 4 diz por que os dois deveriam ser iguais.

# %% [markdown] key="classes-text"
# ## 3. Que dígitos são difíceis?
#
# O ELBO médio esconde dez histórias diferentes. A próxima figura separa o *custo* de cada dígito, que é o ELBO com o sinal trocado, em seus dois termos: a reconstrução embaixo, a KL em cima. A barra de erro tem quatro erros padrão para cada lado. O losango é o custo no modelo sem variável latente, em que cada pixel acende com a sua frequência no conjunto de treinamento. A distância entre a barra e o losango é o que a latente comprou.

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
assert ((without - costs) > 4 * whiskers).all()  # compensa em todo dígito

# %% [markdown] key="classes-noticed"
# O dígito fácil tem pouca tinta e poucas formas; os difíceis têm muitas formas, que dois números não bastam para distinguir. Repare também nas partes laranja. Elas variam menos, mas variam: um dígito que mora longe do centro do plano, ou cuja nuvem é estreita, gasta mais KL.
#
# Que imagens, uma a uma, custam mais? A próxima figura mostra as dez mais caras do conjunto de teste e o que voltou. Algumas estão mal escritas. Outras estão bem escritas e moram onde outro dígito reina.

# %% key="worst"
worst = bound.elbo.argsort()[:10]  # (10,)
with torch.no_grad():
    returned = model.decode(model.encode(x[worst])[0])  # (10, 784)
rows = {say("latents-worst"): x[worst], say("latents-returned"): returned}
figures.gallery(rows, columns=10, alt=say("latents-alt-worst"))

# %% [markdown] key="samples-text"
# ## 4. Médias e amostras
#
# Sorteie $z$ da priori. O decodificador devolve $m$, uma probabilidade por pixel. Essa imagem é a **média** de $p(x \mid z)$. Uma **amostra** é o que vem depois: cada pixel sorteado, com probabilidade $m_d$ de dar 1. O que o modelo afirma é que os dados se parecem com as *amostras*. A próxima figura mostra as duas, uma embaixo da outra, para os mesmos dez $z$.

# %% key="samples"
torch.manual_seed(0)
z = torch.randn(4000, 2, device=device)  # da priori
with torch.no_grad():
    m = model.decode(z)  # (4000, 784)
bits = (torch.rand_like(m) < m).float()  # (4000, 784)

rows = {say("sample-means"): m[:10], say("sample-pixels"): bits[:10]}
figures.gallery(rows, columns=10, alt=say("latents-alt-samples"))

# %% [markdown] key="samples-by-hand"
# A que distância deveriam estar uma da outra? Um pixel sorteado com probabilidade $m$ erra a sua média por $1 - m$ com probabilidade $m$, e por $m$ com probabilidade $1 - m$. Na média, ao quadrado: $m\,(1 - m)$. Somando os pixels,
#
# $$\mathbb{E}\,\lVert x - m \rVert^2 = \sum_d m_d\,(1 - m_d) = G(m).$$
#
# É o cinza de antes. A próxima célula exige que as 4.000 amostras concordem com ele, a menos de quatro erros padrão. É também por isso que cinza e erro concordavam na tabela: as *imagens de teste* se comportam quase como amostras das reconstruções do próprio modelo.

# %% key="samples-measured"
apart = (bits - m).square().sum(-1)  # (4000,)
difference = apart - grey(m)  # (4000,)
mean, error = difference.mean().item(), train.standard_error(difference)
assert abs(mean) < 4 * error
lit = (bits - m).sum(-1)  # (4000,) pixels acesos além do que a média diz
assert abs(lit.mean()) < 4 * train.standard_error(lit)
told = {"apart": apart.mean().item(), "grey": grey(m).mean().item()}
print(say("latents-apart", error=error, **told))

# %% [markdown] key="temperature-text"
# ## 5. Temperatura
#
# Muitas galerias são sorteadas de $z \sim \mathcal{N}(0, T^2 I)$ com uma *temperatura* $T$ abaixo de 1, e não avisam. O que isso muda? Na próxima figura, cada coluna conserva o seu $\varepsilon$, e $z = T \varepsilon$ se afasta do centro ao longo de um raio à medida que $T$ cresce. Leia as colunas de cima para baixo.

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
# Em temperatura baixa, todas as imagens são parentes da que está no meio. Em temperatura alta, elas deixam a parte habitada do plano, e o decodificador tem de inventar.
#
# Dois números contam a história. A **diversidade** é a variância *entre* as médias, $\sum_d \mathrm{Var}[m_d]$. O **cinza** é a variância *dentro* de cada uma. A lei da variância total soma as duas, e para pixels binários o total só depende da imagem média $\bar m$:
#
# $$\underbrace{\sum_d \mathrm{Var}[m_d]}_{\text{diversidade}} + \underbrace{\mathbb{E}\,[G(m)]}_{\text{cinza}} = G(\bar m).$$

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
total = grey(x.mean(0)).item()  # das imagens de teste
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
# Meia temperatura perde diversidade; é esse o preço da galeria arrumada. E mais diversidade não é mais qualidade: depois de $T = 1$ ela continua a crescer porque os sorteios caem onde nunca houve imagem. Da massa da priori, 5% ficam fora do anel externo do mapa que vem adiante. À temperatura $T$, são $0{,}05^{1/T^2}$ dos sorteios. O modelo é $T = 1$. Qualquer outra temperatura mostra outro modelo, e quem a usa deve avisar.

# %% key="outside" tags=["nbval-check-output"]
radius = math.sqrt(-2 * math.log(0.05))  # contém 95% de uma normal padrão no plano
torch.manual_seed(0)
for value in (0.5, 1.0, 2.0):
    share = 0.05 ** (1 / value**2)
    out = (value * torch.randn(20_000, 2)).norm(dim=1) > radius  # (20000,)
    error = math.sqrt(share * (1 - share) / len(out))
    assert abs(out.double().mean().item() - share) < 4 * error + 1e-4
    assert abs(share - stats.rayleigh(scale=value).sf(radius)) < 1e-9
    print(say("latents-outside", temperature=value, share=share))

# %% [markdown] key="grids-text"
# ## 6. Duas grades, e o que cada uma deixa de fora
#
# Para ver o plano todo de uma vez, decodificamos uma grade. A lição 00 usou a inversa da função de distribuição normal. É mais comum uma grade de passos iguais. Quanto vale a diferença?
#
# Uma grade corta o plano em ladrilhos. Em cada eixo, precisamos de $n + 1$ bordas e, em cada pedaço, de um ponto para decodificar. As duas coordenadas da priori são independentes; logo, a massa de um ladrilho é o produto das massas de seus dois lados.

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
# Agora, a grade de passos iguais, de $-a$ a $a$ em cada eixo. Ela cobre a massa $(2\Phi(a) - 1)^2$, em que $\Phi$ é a função de distribuição normal. E os seus ladrilhos têm pesos muito desiguais: a última coluna compara o mais pesado com o mais leve.

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
# Na próxima figura, a metade esquerda tem passos iguais de $-3$ a $3$, e a direita tem massas iguais. Em cima, 600 sorteios da priori sobre as bordas dos ladrilhos. Embaixo, o decodificador no ponto de cada ladrilho. À esquerda, conte os ladrilhos em que quase não há pontos: a grade linear gasta a maior parte da página com o que o modelo quase nunca sorteia. À direita, cabe a cada ladrilho, em média, 1 sorteio em 64.

# %% key="tiles"
@torch.no_grad()
def decode_grid(points):
    z2, z1 = torch.meshgrid(points.flip(0), points, indexing="ij")  # linha 0: z2 maior
    z = torch.stack((z1, z2), -1).float().to(device)  # (n, n, 2)
    return model.decode(z.reshape(-1, 2)).cpu().reshape(len(points), len(points), -1)


torch.manual_seed(0)
draws = torch.randn(600, 2)
grids = {
    "latents-equal-steps": equal_steps(n, 3.0), "latents-equal-mass": equal_mass(n),
}
figure = figures.Picture(say("latents-alt-grids"), 7.5, 7.9)
figure.stored_dpi = figures.SHOWN_DPI  # 128 dígitos: uma figura pesada
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
    canvas = (15 * canvas).round() / 15  # 16 cinzas bastam aqui
    below.imshow(canvas, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    shown = [0, n // 2, n - 1]
    names = [say("coordinate", value=points[k].item()) for k in shown]
    below.set_xticks([28 * (k + 0.5) for k in shown], names)
    below.set_yticks([28 * (n - 1 - k + 0.5) for k in shown], names)
    below.set(xlabel="$z_1$", ylabel="$z_2$")
figure

# %% [markdown] key="up-text"
# Uma figura pode estar de cabeça para baixo sem que ninguém note, porque nenhum texto traz um 7 invertido para comparar. Por isso a próxima célula confere *cada* ladrilho: o da linha $r$, coluna $c$ é o decodificador no $z_1$ da coluna e no $z_2$ da linha contada de baixo. E, no mosaico, o bloco do alto à esquerda é o ladrilho de menor $z_1$ e maior $z_2$: para cima é para cima.

# %% key="up-checked"
points = equal_mass(n)[1].float()
tiles = decode_grid(points)  # (8, 8, 784)
with torch.no_grad():
    for row in range(n):
        for column in range(n):
            z = torch.tensor([[points[column], points[n - 1 - row]]], device=device)
            alone = model.decode(z)[0].cpu()  # (784,)
            assert torch.allclose(tiles[row, column], alone, atol=1e-5)
    highest = torch.stack((points[0], points[-1]))[None].to(device)  # z1 baixo, z2 alto
    corner = model.decode(highest)[0].cpu().reshape(28, 28)
canvas = torch.from_numpy(figures.mosaic(tiles.reshape(n * n, -1), columns=n, gap=0))
assert torch.allclose(canvas[:28, :28], corner, atol=1e-5)
assert torch.allclose(figures.manifold_tiles(model, n), tiles, atol=1e-5)

# %% [markdown] key="map-text"
# ## 7. O mapa e os seus buracos
#
# As grades mostram o que o decodificador desenharia *em qualquer lugar*. O mapa mostra onde as imagens *estão*. Cada ponto é o centro da nuvem de uma imagem de teste, uma cor por dígito; os anéis contêm 50% e 95% da massa da priori.

# %% key="map"
figures.latent_map(model, test_images, count=1500)

# %% [markdown] key="aggregate-text"
# O ELBO pediu nuvens que, cada uma por si, se parecessem com a priori. E todas juntas? A média das nuvens tem nome, a **posteriori agregada**:
#
# $$q(z) = \frac{1}{N} \sum_{n=1}^{N} q(z \mid x_n).$$
#
# Se $q(z)$ fosse $p(z)$, um sorteio da priori cairia onde o decodificador foi treinado. Onde $q(z)$ fica muito abaixo de $p(z)$, a priori sorteia e o decodificador chuta.
#
# Aqui não há nada a estimar: $q(z)$ é uma mistura de 60.000 gaussianas de centros e larguras conhecidos. As larguras seguem os eixos; logo, cada gaussiana é o produto de um fator em $z_1$ por um fator em $z_2$, e numa grade de pontos a mistura inteira é *um produto de matrizes*. A próxima célula faz a conta, e a seguinte a confere com a mistura de `torch.distributions`.

# %% key="clouds"
torch.manual_seed(0)
with torch.no_grad():
    parts = [model.encode(b) for b, _ in train_images.batches(1000, shuffle=False)]
mu, logvar = (torch.cat(part).cpu().double() for part in zip(*parts, strict=True))
axis = torch.linspace(-6, 6, 401, dtype=torch.float64)  # (G,)
cell = (axis[1] - axis[0]).item() ** 2  # a área que um ponto representa


def factors(mu, logvar):
    q = Normal(mu[..., None], (0.5 * logvar).exp()[..., None])
    return q.log_prob(axis).exp().unbind(1)  # (B, G) em z1, (B, G) em z2


def aggregate(mu, logvar):
    total = torch.zeros(len(axis), len(axis), dtype=torch.float64)
    for some_mu, some_logvar in zip(mu.split(1000), logvar.split(1000), strict=True):
        first, second = factors(some_mu, some_logvar)
        total += first.T @ second  # (G, G): [i, j] em z1 = axis[i], z2 = axis[j]
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
# À esquerda da próxima figura, $q(z)$ (a sua raiz quadrada, para que as partes fracas apareçam). À direita, a diferença $q(z) - p(z)$: laranja dentro das linhas cheias, onde há mais códigos do que a priori pede; azul dentro das tracejadas, onde há menos.

# %% key="difference"
figure, axes = figures.picture(say("latents-alt-difference"), columns=2, height=3.7)
left, right = axes
figure.stored_dpi = figures.SHOWN_DPI
inner = slice(84, 317)  # de -3,5 a 3,5
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
most = p.max().item()  # nenhuma falta é mais funda; a sobra mais alta é cortada aí
signed = LinearSegmentedColormap.from_list("signed", [blue, "white", q_color], N=25)
shown = right.pcolormesh(z1, z1, gap, cmap=signed, vmin=-most, vmax=most)
smooth = F.avg_pool2d(gap[None, None], 9, 1, 4)[0, 0]  # só para as linhas
levels = {"levels": [-0.02, 0.02], "linestyles": ["--", "-"], "linewidths": 0.8}
right.contour(z1, z1, smooth, colors="black", **levels)
right.set_title(say("latents-signed"), loc="left", fontsize=10)
bar = figure.colorbar(shown, ax=right, shrink=0.85, extend="max")
bar.ax.yaxis.set_major_formatter(lambda value, _: say("tick", value=value))
for ax in (left, right):
    ax.set(xlabel="$z_1$", ylabel="$z_2$", aspect="equal")
figure

# %% [markdown] key="distance-text"
# **Que distância é essa, em nats?** Ela é $\mathrm{KL}(q(z) \,\|\, p(z))$, e a grade a dá como uma soma. Ela é também uma média sobre as imagens,
#
# $$\mathrm{KL}(q(z) \,\|\, p(z)) = \frac{1}{N} \sum_n k_n, \qquad k_n = \mathbb{E}_{q(z \mid x_n)}\!\left[\log \frac{q(z)}{p(z)}\right],$$
#
# e por isso tem um erro padrão. (O fato de $q(z)$ também depender das imagens não lhe acrescenta nada, em primeira ordem.)

# %% key="distance"
log_ratio = q.clamp_min(1e-300).log() - p.log()  # (G, G)
distance = (q * log_ratio).sum().item() * cell

each = torch.empty(len(mu), dtype=torch.float64)  # (60000,) nats
for some in torch.arange(len(mu)).split(1000):
    first, second = factors(mu[some], logvar[some])  # (B, G) cada um
    each[some] = (first @ log_ratio * second).sum(1) * cell
distance_error = train.standard_error(each)

assert abs(each.mean() - distance) < 1e-6
assert distance > 10 * distance_error  # q(z) não é a priori
empty = (p * (q < p / 2)).sum().item() * cell  # massa da priori
print(say("latents-distance", distance=distance, error=distance_error, empty=empty))

# %% [markdown] key="bias-text"
# O número é exato para *estas* 60.000 imagens. Para os dígitos que não estão entre elas, ele é um pouco grande: cada imagem encontra a própria nuvem na mistura. Com poucas imagens isso não é detalhe, como mostra a próxima célula. O remédio é deixar a nuvem de cada imagem fora da mistura quando chega a sua vez, o que erra para o outro lado: a verdade sobre todos os dígitos fica, em média, entre os dois números. Com 60.000 imagens, eles estão perto um do outro.
#
# Os mesmos sorteios servem para mais uma coisa. Ponha $q(z)$ no termo KL do ELBO, e ele se divide em dois:
#
# $$\underbrace{\tfrac{1}{N} \textstyle\sum_n \mathrm{KL}(q(z \mid x_n) \,\|\, p(z))}_{\text{o termo KL}} = \underbrace{\tfrac{1}{N} \textstyle\sum_n \mathrm{KL}(q(z \mid x_n) \,\|\, q(z))}_{\text{informação mútua}} + \mathrm{KL}(q(z) \,\|\, p(z)).$$
#
# A primeira parte é o que o código conta sobre a imagem. Só a segunda é desacordo. Os três números chegam por três caminhos: o lado esquerdo, por sua fórmula; a informação mútua, por 500 sorteios em que a mistura é calculada exatamente; a distância, pela grade.

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
log_q = torch.cat([each.logsumexp(1) for each in clouds])  # (500,), sobre 60.000 nuvens
others = log_q + torch.log1p(-torch.exp(own - log_q).clamp(max=1 - 1e-12))
log_q, others = log_q - math.log(len(mu)), others - math.log(len(mu) - 1)
optimism = log_q - others  # (500,) nats
told = {"gap": optimism.mean().item(), "error": train.standard_error(optimism)}
print(say("latents-sandwich", count=len(mu), **told))

# %% key="decomposition"
kl = densities.kl_to_standard_normal(mu, logvar).mean().item()  # pela fórmula
apart = own - log_q  # (500,) nats
information, information_error = apart.mean().item(), train.standard_error(apart)
by_draws = log_q - densities.log_standard_normal(z)  # (500,)

assert abs(kl - (information + distance)) < 4 * information_error
assert abs(by_draws.mean() - distance) < 4 * train.standard_error(by_draws)
assert 0 < information < math.log(len(mu))
told = {"information": information, "error": information_error}
print(say("latents-split", kl=kl, distance=distance, **told))

# %% [markdown] key="holes-text"
# Quase toda a KL é informação: uns poucos nats que ajudam a dizer qual era a imagem. O resto é o desacordo.
#
# E o que o decodificador desenha nos buracos? A próxima figura toma 4.000 sorteios da priori: em cima, dez lugares dentro do anel externo em que $q$ é maior em comparação com $p$; embaixo, dez em que é menor. "Todo ponto se decodifica numa imagem válida", lê-se por aí. Veja você.

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
inside = order[z[order].norm(dim=1) < radius]  # dentro do anel de 95%
crowded, holes = drawn[apart(inside.flip(0))], drawn[apart(inside)]  # (10, 784)
rows = {say("latents-crowded"): crowded, say("latents-holes"): holes}
figures.gallery(rows, columns=10, alt=say("latents-alt-holes"))

# %% [markdown] key="walks-text"
# ## 8. De um dígito a outro
#
# Entre dois códigos há muitos caminhos. O **reto** é $(1 - t)\,a + t\,b$. O **esférico** gira de $a$ até $b$ em torno da origem; com $\theta$ o ângulo entre os dois,
#
# $$\frac{\sin((1 - t)\,\theta)}{\sin \theta}\, a + \frac{\sin(t\,\theta)}{\sin \theta}\, b.$$
#
# Escritos à mão, e conferidos: entre dois pontos à mesma distância da origem, o caminho esférico conserva a distância e gira em ritmo constante.

# %% key="walks" tags=["nbval-check-output"]
def straight(a, b, t):
    return (1 - t) * a + t * b


def spherical(a, b, t):
    cosine = torch.cosine_similarity(a, b, dim=-1)[..., None]
    angle = cosine.clamp(-1 + 1e-6, 1 - 1e-6).acos()
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / angle.sin()


a, b = torch.tensor([[2, 0], [1, 3**0.5]], dtype=torch.float64)  # 60 graus entre eles
t = torch.linspace(0, 1, 5, dtype=torch.float64)[:, None]  # (5, 1)
turn = math.pi / 3 * t
circle = 2 * torch.cat((turn.cos(), turn.sin()), 1)  # (5, 2)
assert torch.allclose(spherical(a, b, t), circle, atol=1e-6)
middle = straight(a, b, 0.5).norm().item(), spherical(a, b, 0.5).norm().item()
print(say("latents-middle", straight=middle[0], spherical=middle[1]))

# %% [markdown] key="shell-text"
# No plano, a escolha é questão de gosto. Em muitas dimensões, não é. A norma de um sorteio da priori tem uma distribuição com nome, a *chi* com $L$ graus de liberdade. Com $L = 2$, ela é larga. Com $L = 20$, praticamente todos os sorteios ficam numa casca fina em torno de $\sqrt{20} \approx 4{,}5$, e praticamente nenhum perto da origem, onde a densidade é máxima.
#
# O ponto a meio caminho entre dois sorteios tem norma chi dividida por $\sqrt{2}$. A próxima figura compara as duas distribuições: os degraus são 20.000 normas medidas; as curvas, a fórmula.

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
# O decodificador percebe? O modelo de dez latentes da seção 2 pode dizer. A meio caminho das retas entre sorteios da priori, as suas imagens são mais cinzentas do que nos próprios sorteios; a meio caminho dos arcos, não são. O meio da reta sai da casca pelo lado de dentro, em direção à média de tudo.

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
# **Agora a escolha é sua.** Dois dígitos e o tipo de caminho. O painel sai do meio dos códigos do primeiro dígito e chega ao meio dos códigos do segundo, sobre a posteriori agregada da seção 7 (de novo, a raiz quadrada). Doze pontos do caminho são decodificados, na ordem de leitura. Abaixo da figura está escrito qual é o dígito mais próximo em cada um deles.
#
# Experimente um par com outro dígito no meio. Experimente um par em lados opostos da origem, primeiro reto e depois esférico. Ali $\sin \theta$ é pequeno, e o caminho esférico se abre para longe. Por fim, procure um caminho que atravesse uma parte branca do mapa, e veja o que o decodificador faz ali.

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
    figure.stored_dpi = figures.SHOWN_DPI  # desenha-se mais depressa
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
assert sliders.sweep(panel) == 6  # o início e as outras pontas de cada controle
for way in paths:  # do 1 ao 7, pelos dois caminhos, e de volta ao 3
    panel.controls["first"].value, panel.controls["way"].value = 1, way
    drawn = torch.from_numpy(panel.picture.axes[0].lines[0].get_xydata()).float()
    assert torch.allclose(drawn[[0, -1]], centres[[1, 7]], atol=1e-4)
panel.controls["first"].value, panel.controls["way"].value = 3, "latents-straight"

# %% [markdown] key="wide-text"
# ## 9. Mais de duas latentes
#
# Com dez latentes, não há plano para estender sobre a mesa. Pergunte primeiro **que dimensões estão em uso**. Uma latente que o decodificador ignora gasta KL e não compra nada, e o treinamento a leva de volta à priori: a sua KL vai a zero, e a sua média deixa de variar de imagem para imagem. A próxima figura mostra as duas coisas para cada dimensão do modelo de dez latentes, da maior KL para a menor. A linha pontilhada é um limiar usual para chamar uma dimensão de "ativa", a variância 0,01.

# %% key="wide-bars"
with torch.no_grad():
    wide_mu, wide_logvar = (part.cpu() for part in wide.encode(x))  # (10000, 10)
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
# Depois, **o que cada dimensão faz**. Tome o código de uma imagem e mova uma coordenada de cada vez, de $-3$ a $3$, com as outras paradas. Em inglês isso se chama *traversal*. Na próxima figura, cada linha move uma coordenada. Algumas mudam a inclinação ou a largura; algumas transformam o dígito em outro. Nada no objetivo pediu um significado por coordenada, e isso se vê: a maioria das linhas muda várias coisas ao mesmo tempo.

# %% key="traversal"
stops = torch.linspace(-3, 3, 5)
base = wide_mu[figures.one_of_each(test_images)[2]]  # (10,) o primeiro 2
z = base.repeat(10, 5, 1)  # (10, 5, 10): linha, coluna, coordenada
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
# Por fim, **uma vista plana**. Pode-se olhar um par de dimensões, ou os dois componentes principais dos códigos (PCA): as duas direções em que eles mais se espalham. A próxima figura põe os dois lado a lado. Não espere a separação do mapa da seção 7. A KL pediu uma nuvem redonda em dez dimensões; por isso um par de direções guarda só uma parte do espalhamento. A cota de duas direções entre dez iguais seria de 20%; a célula imprime a das duas melhores.

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
# **Dez controles.** `latent_sliders` aceita um modelo com qualquer número de latentes. Cada controle deslizante é uma coordenada; as setas o movem 0,1, Home e End vão às pontas. Comece no zero, a média de tudo. Mova uma coordenada de KL grande, depois uma de KL pequena. Então tente transformar um dígito em outro com um único controle.

# %% key="sliders"
handles = sliders.latent_sliders(wide)
handles

# %% key="sliders-moved"
assert len(handles.sliders) == 10
assert sliders.sweep(handles) == 1 + 2 * 10  # o zero e as duas pontas de cada controle

# %% [markdown] key="explorer-text"
# ## 10. A sua vez: o explorador
#
# O quadro abaixo é o plano do modelo de duas latentes, com 1.000 códigos de treinamento. O decodificador roda no seu navegador, e por isso funciona sem kernel. Arraste o ponto, ou use as setas. Três coisas para experimentar:
#
# - Ache uma fronteira entre dois dígitos e atravesse-a o mais devagar que puder. Há um momento em que a imagem não é nenhum dos dois?
# - Vá a um buraco, onde não há código por perto. Troque *média* por *amostra de pixels*. Qual das duas é honesta sobre o que o decodificador não sabe?
# - Grave um caminho que escreva o ano de que você mais gosta, e percorra-o.

# %% key="explorer"
explorer = LatentExplorer(model, train_images, neighbours=False)
explorer

# %% key="explorer-checked"
explorer.z = [1.0, -1.0]
assert explorer.z == [1.0, -1.0]
explorer.z = [0.0, 0.0]

# %% [markdown] key="answer-text"
# ## 11. O que o modelo aprendeu?
#
# Ninguém lhe contou o que é um dígito. Esta é, então, a última pergunta para ele: conhecendo *só* o código de uma imagem de teste, dá para dizer que dígito era? Perguntamos aos 15 códigos mais próximos, entre 20.000 de treinamento, e eles votam. O acaso acertaria cerca de uma vez em cada dez.

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
# **Então:** ele aprendeu a gastar uns poucos nats por imagem para dizer *de que tipo* ela é, e tão bem que o dígito se lê no código muito mais vezes do que por acaso, embora nenhum rótulo tenha sido mostrado. Aprendeu a preencher a priori, mas não por inteiro: o plano tem buracos, e eles têm tamanho medido. E, o que a sua latente não consegue dizer, ele transforma em média, e sabe que faz isso.
#
# **Para ler.** Kingma e Welling (2013) desenharam a sua variedade de dígitos numa grade da inversa da função de distribuição. A divisão da KL em informação e desacordo está por trás de Alemi et al. (2018), sobre taxa e distorção, e de Chen et al. (2018), que a dividem mais. A lição 06 mede o que o próprio $q(z \mid x)$ deixa escapar; a lição 08 pergunta quando uma latente morre, e se é possível fazer uma coordenada significar uma só coisa.

# %% [markdown] key="exercises"
# ## Exercícios
#
# Escreva a sua resposta no lugar das reticências e execute a célula. A verificação responde na hora: certo, ou uma pista. As soluções estão recolhidas logo abaixo de cada questão.
#
# ### 1. O anel
#
# Os anéis do mapa contêm 50% e 95% da massa da priori no plano. Escreva o raio do círculo que contém uma massa dada, um número entre 0 e 1. Para 95%, ele é 1,96?

# %% key="exercise-radius" tags=["nbval-check-output"]
def my_radius(mass):
    ...


checks.ring_radius(my_radius)

# %% key="solution-radius" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output", "solution"]
def solution_radius(mass):
    return math.sqrt(-2 * math.log(1 - mass))  # a densidade cai como exp(-r² / 2)


verdict = checks.ring_radius(solution_radius)
assert verdict
verdict

# %% [markdown] key="exercise-tiles-text"
# ### 2. Encontre o erro
#
# Esta função já desenhou muita variedade publicada. `decode` leva `(B, 2)` a `(B, D)`; `points` está em ordem crescente e serve aos dois eixos. Os ladrilhos voltam como `(n, n, D)`, e `imshow` desenha a primeira linha em cima. O texto ao lado da figura diz que $z_1$ cresce para a direita e $z_2$ para cima. Encontre o erro e corrija-o.

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
    for z2 in points.flip(0):  # a primeira linha de uma figura é a de cima
        z = torch.stack((points, z2.expand(len(points))), -1)  # (n, 2)
        rows.append(decode(z))
    return torch.stack(rows)


verdict = checks.manifold_rows(solution_tiles)
assert verdict
verdict

# %% [markdown] key="exercise-bits-text"
# ### 3. Amostras boas demais para ser verdade
#
# O autor desta função se orgulha das amostras nítidas que ela tira das médias do decodificador, em preto e branco, sem um chuvisco sequer. Encontre o erro e corrija-o. A função recebe e devolve `(B, D)`.

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
# ### 4. Um caminho que não sai da casca
#
# `start` e `end` são sorteios independentes da priori, `(S, L)` cada um, e `t` é um número de 0 a 1. Escreva uma combinação dos dois que esteja em `start` com $t = 0$, em `end` com $t = 1$, e cuja distribuição seja *exatamente* $\mathcal{N}(0, I)$ para todo $t$. Os pesos só podem depender de $t$. Há mais de uma resposta, e a verificação aceita todas.
#
# Para pensar: o caminho esférico não é uma delas. Por quê, e por que ele chega tão perto quando $L$ é grande?

# %% key="exercise-walk" tags=["nbval-check-output"]
def my_walk(start, end, t):
    ...


checks.unit_walk(my_walk)

# %% key="solution-walk" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output", "solution"]
def solution_walk(start, end, t):
    return math.sqrt(1 - t) * start + math.sqrt(t) * end  # as variâncias somam 1


verdict = checks.unit_walk(solution_walk)
assert verdict
verdict

# %% [markdown] key="solution-walk-text"
# <details><summary>Resposta da pergunta para pensar</summary>
#
# Os pesos do caminho esférico dependem do ângulo entre os dois pontos, que é ele mesmo aleatório; uma combinação com pesos aleatórios não precisa ser normal. Em muitas dimensões, dois sorteios independentes formam quase um ângulo reto. Com $\theta = \pi / 2$, os pesos são $\cos(t\,\pi / 2)$ e $\sin(t\,\pi / 2)$, cujos quadrados somam 1.
#
# </details>

# %% [markdown] key="exercise-active-text"
# ### 5. Quem está acordado?
#
# Conte as latentes ativas. A função recebe `mu`, as médias de $N$ imagens, `(N, L)`. Uma latente é ativa se a sua média varia de imagem para imagem com variância acima de 0,01. Devolva a contagem. Cuidado com a dimensão cuja média é a mesma em toda imagem, mas não é zero.

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
