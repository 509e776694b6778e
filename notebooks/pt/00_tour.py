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
# **Ao final você saberá** dizer o que um VAE acrescenta a um autocodificador, de onde vem o ELBO e o que cada um de seus dois termos quer, por que o truque da reparametrização é necessário, e treinar um modelo que inventa dígitos. Onde existe uma resposta exata, você terá conferido com ela o que se afirma.
#
# **Você precisa de** álgebra linear, probabilidade e um pouco de PyTorch.
#
# **Tempo:** 20 minutos de leitura; cerca de um minuto de máquina em dois núcleos.
#
# O modelo, a perda e o laço de treinamento estão escritos neste caderno, linha por linha, e são conferidos com o pacote `vae_teach`. O pacote também carrega os dados e desenha as figuras.

# %% key="setup"
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

from vae_teach import bounds, checks, data, densities, figures, nets, train
from vae_teach.explorer import LatentExplorer
from vae_teach.sliders import latent_sliders
from vae_teach.words import say, use_language

use_language("pt")

# %% [markdown] key="why"
# ## 1. Por que não basta um autocodificador?
#
# Um autocodificador espreme cada imagem em poucos números, o seu *código*, e a reconstrói a partir deles. Cada imagem vira **um ponto**. Nada diz o que existe entre dois pontos: escolha um código ao acaso, e o decodificador talvez nunca tenha visto nada parecido.
#
# Um autocodificador variacional (VAE) guarda **uma pequena nuvem** no lugar do ponto. O decodificador precisa reconstruir a imagem a partir de qualquer lugar da nuvem. E pede-se que as nuvens, juntas, preencham uma forma conhecida, a *priori*. Assim, um sorteio da priori cai em terreno que o decodificador conhece.
#
# A próxima figura mostra cinco imagens: à esquerda, como pontos de uma reta; à direita, como nuvens. Cada nuvem leva um quinto da massa. Repare na soma das nuvens, a linha grossa. Ela não tem buracos e já se parece com a priori, tracejada.

# %% key="points-and-clouds"
codes = torch.tensor([-1.5, -0.6, 0.1, 0.7, 1.6])  # um por imagem
z = torch.linspace(-4, 4, 401)
clouds = Normal(codes[:, None], 0.6).log_prob(z).exp() / len(codes)  # (5, 401)
prior = Normal(0.0, 1.0).log_prob(z).exp()  # (401,)

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
# ## 2. A integral que não tem fórmula
#
# O modelo conta uma história em dois atos. Primeiro, sorteia-se uma *variável latente* $z$ da priori $p(z) = \mathcal{N}(0, I)$. Depois, o decodificador lê $z$ e diz quão provável é cada imagem que pode sair dali: é a *verossimilhança* $p(x \mid z)$. A probabilidade de ver a imagem $x$ soma todas as histórias que levariam a ela:
#
# $$p(x) = \int p(x \mid z)\, p(z)\, dz.$$
#
# Treinar é tornar prováveis as imagens que temos, logo precisamos de $\log p(x)$. Mas, se o decodificador é uma rede neural, a integral não tem fórmula. Com ela se perde a *posteriori* $p(z \mid x) = p(x \mid z)\, p(z) / p(x)$, que diria quais $z$ podem ter gerado $x$.
#
# **Tentemos mesmo assim.** A integral é uma média: basta amostrar $z$ da priori muitas vezes e tirar a média de $p(x \mid z)$. Para saber se a tentativa acerta, usamos um modelo cuja resposta é conhecida: um decodificador linear com ruído gaussiano. Nele $p(x)$ é uma densidade normal, com fórmula exata.
#
# A próxima figura mostra quatro tentativas com uma variável latente e quatro com vinte. Cada curva é uma tentativa, à medida que as amostras se acumulam. O zero é a resposta exata; a unidade é o *nat*, a do logaritmo natural. Com uma latente, as tentativas acertam. Com vinte, ficam centenas de nats abaixo e dão um salto a cada sorteio feliz.

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
    log_likelihood = Normal(z @ weights.T, noise).log_prob(x).sum(-1)  # (S,)
    count = torch.arange(1, draws + 1)
    return log_likelihood.logcumsumexp(0) - count.log()  # (S,)


figure, axes = figures.picture(say("tour-alt-naive"), columns=2)
for ax, latents in zip(axes, (1, 20), strict=True):
    weights, x, exact = linear_model(latents)
    runs = [naive_monte_carlo(weights, x) - exact for _ in range(4)]
    for run in runs:
        ax.semilogx(range(1, 10_001), run, linewidth=1)
    ax.axhline(0, color="black", linestyle="--")
    ax.set(xlabel=say("tour-draws"), ylabel=say("tour-minus-exact"))
    ax.set_title(say("tour-latents", count=latents))
    ends = torch.stack([run[-1] for run in runs])  # (4,) nats
    assert (ends.abs() < 0.5).all() if latents == 1 else (ends < -300).all()
figure

# %% [markdown] key="naive-noticed"
# Não é azar. A posteriori ocupa um pedaço minúsculo do espaço, e em vinte dimensões um sorteio da priori praticamente nunca cai nele. **Falta alguém que diga onde procurar.**
#
# Suponha que esse alguém exista e nos entregue a posteriori verdadeira, que no modelo linear tem fórmula. Pela regra de Bayes, $p(x) = p(x, z) / p(z \mid x)$ para *qualquer* $z$. Uma única amostra dá a resposta exata, e as três da próxima célula dão o mesmo número.

# %% key="posterior-knows"
def true_posterior(weights, x):
    precision = torch.eye(weights.shape[1]) + weights.T @ weights / noise**2  # (L, L)
    mean = torch.linalg.solve(precision, weights.T @ x) / noise**2  # (L,)
    return MultivariateNormal(mean, precision_matrix=precision)


posterior = true_posterior(weights, x)
z = posterior.sample((3,))  # (3, 20)
log_joint = Normal(z @ weights.T, noise).log_prob(x).sum(-1)  # (3,)
log_joint += densities.log_standard_normal(z)
estimates = log_joint - posterior.log_prob(z)  # (3,)

assert torch.allclose(estimates, exact, atol=1e-6)
for estimate in estimates:
    print(say("tour-one-draw", estimate=estimate.item(), exact=exact.item()))

# %% [markdown] key="naive-moral"
# Um decodificador neural não nos dá a sua posteriori. Mas podemos *aprender* uma aproximação, $q(z \mid x)$: uma rede lê $x$ e diz onde procurar $z$. Essa rede é o **codificador**.

# %% [markdown] key="elbo"
# ## 3. O ELBO: um limite que se pode calcular
#
# Multiplique e divida por $q$ dentro da integral. O logaritmo é côncavo, e a desigualdade de Jensen o leva para dentro da média:
#
# $$\log p(x) = \log \mathbb{E}_{q(z \mid x)}\!\left[\frac{p(x, z)}{q(z \mid x)}\right] \;\ge\; \mathbb{E}_{q(z \mid x)}\!\left[\log \frac{p(x, z)}{q(z \mid x)}\right] = \mathrm{ELBO}(x).$$
#
# O lado direito é o *limite inferior da evidência*, o ELBO. Ele se separa em dois termos:
#
# $$\mathrm{ELBO}(x) = \mathbb{E}_{q(z \mid x)}[\log p(x \mid z)] - \mathrm{KL}(q(z \mid x) \,\|\, p(z)).$$
#
# - O **termo de reconstrução** pede que os pontos da nuvem de $x$, decodificados, tornem $x$ provável. Ele quer nuvens estreitas e afastadas umas das outras.
# - O **termo KL**, uma divergência de Kullback-Leibler, mede o quanto a nuvem se afasta da priori. Ele quer todas as nuvens iguais à priori.
#
# O que se perde na desigualdade também tem nome. É outra divergência de Kullback-Leibler, agora de $q$ até a posteriori verdadeira:
#
# $$\log p(x) - \mathrm{ELBO}(x) = \mathrm{KL}(q(z \mid x) \,\|\, p(z \mid x)).$$
#
# Não acredite: confira. No modelo linear com uma latente, os dois lados têm fórmula. A próxima célula põe $q$ no centro certo e varia a sua largura. O ELBO toca a linha tracejada num único ponto, onde a largura é a da posteriori; estreita demais ou larga demais, a nuvem paga.

# %% key="elbo-gap"
weights, x, exact = linear_model(1)
posterior = true_posterior(weights, x)
mean, width = posterior.mean, posterior.stddev  # (1,), (1,)


def log_p_x_and_z(z):  # (S, 1)
    log_likelihood = Normal(z @ weights.T, noise).log_prob(x).sum(-1)  # (S,)
    return log_likelihood + densities.log_standard_normal(z)


widths = width * torch.linspace(0.2, 3, 141, dtype=torch.float64)[:, None]  # (S, 1)
# log p(x, z) é quadrática em z: dois pontos dão a sua média exata
average = (log_p_x_and_z(mean + widths) + log_p_x_and_z(mean - widths)) / 2  # (S,)
elbos = average + Normal(mean, widths).entropy()[:, 0]  # (S,)
gaps = kl_divergence(Normal(mean, widths), Normal(mean, width))[:, 0]  # (S,)

assert torch.allclose(exact - elbos, gaps, atol=1e-6)
assert (elbos <= exact + 1e-9).all()
ratios = (widths / width)[:, 0]
figure, (ax,) = figures.picture(say("tour-alt-gap"), width=6)
ax.plot(ratios, elbos - exact, color=q_color, label="ELBO")
ax.axhline(0, color="black", linestyle="--", label=r"$\log\,p(x)$")
ax.fill_between(ratios, elbos - exact, 0, color=figures.COLORS["gap"], alpha=0.3)
ax.annotate(say("tour-gap"), (2.5, -0.45), ha="center")
ax.set(xlabel=say("tour-width"), ylabel=say("tour-minus-exact"))
ax.legend(loc="lower center", fontsize=9)
figure

# %% [markdown] key="device-and-data"
# ## 4. Dispositivo e dados
#
# Se houver um acelerador (uma GPU), vamos usá-lo. O conjunto inteiro vai de uma vez para a memória do dispositivo: 60.000 imagens de 784 números ocupam 188 MB, e o treinamento não precisa abrir arquivo nenhum.
#
# Os dados são os dígitos manuscritos do MNIST, baixados pelo `torchvision`. Onde não há rede nem cópia, o curso desenha os seus próprios dígitos e avisa.

# %% key="load-data"
device = torch.device("cpu")
if torch.accelerator.is_available():
    device = torch.accelerator.current_accelerator()

train_images = data.load("auto", "train", device=device)
test_images = data.load(train_images.name, "test", device=device)

shape = tuple(train_images.pixels.shape)
assert shape == (60_000, 784)
assert train_images.pixels.nbytes == 60_000 * 784 * 4  # 188 MB
print(say("tour-data", name=train_images.name, train=shape, device=device.type))

# %% [markdown] key="why-binary"
# **Por que preto e branco?** O decodificador dirá, para cada pixel, a probabilidade de ele acender. É uma distribuição de Bernoulli, e ela só gera zeros e uns. Um cinza de 0,5 não é um valor possível. Nós o lemos como a probabilidade de sair 1. Por isso sorteamos cada pixel com a probabilidade que o seu nível de cinza indica, de novo a cada lote do treinamento, e uma vez só no teste.
#
# A próxima figura mostra dez imagens em cinza e dois sorteios de cada uma. Os dígitos são os mesmos; repare que só as bordas mudam.

# %% key="binarize"
torch.manual_seed(0)
grey = train_images.pixels[:10]  # (10, 784)
uniform = torch.rand(2, *grey.shape, device=device)  # (2, 10, 784)
first, second = (uniform < grey).float()  # 1 com probabilidade igual ao cinza

rows = {say("tour-grey"): grey, say("tour-draw-1"): first, say("tour-draw-2"): second}
figures.gallery(rows, columns=10, alt=say("tour-alt-bits"))

# %% [markdown] key="grey-floor"
# Há quem alimente a Bernoulli com os cinzas. O preço tem nome e número. Nem mesmo uma reconstrução perfeita sairia de graça: sobraria a entropia dos próprios cinzas, que a próxima célula mede. Essa entropia é a mesma para um modelo bom e para um ruim, e não diz nada sobre eles.

# %% key="grey-floor-measured"
greys = data.load(test_images.name, "test", binarize=False).pixels  # (10000, 784)
floor = Bernoulli(greys).entropy().sum(-1)  # (10000,)
print(say("tour-floor", mean=floor.mean().item(), error=train.standard_error(floor)))
assert test_images.name != "mnist" or abs(floor.mean() - 45.53) < 0.2

# %% [markdown] key="architecture"
# ## 5. A arquitetura
#
# Duas redes pequenas, uma camada oculta em cada: 784 → 400 → 2 → 400 → 784.
#
# - `encode` lê uma imagem e devolve a sua nuvem: a média $\mu$ e a log-variância $\log \sigma^2$ de $q(z \mid x) = \mathcal{N}(\mu, \sigma^2)$, um par por dimensão latente.
# - `reparameterize` amostra $z$ da nuvem.
# - `decode` leva $z$ à probabilidade de cada pixel.
#
# **Por que a log-variância?** Uma rede produz qualquer número real, e uma variância precisa ser positiva. A exponencial resolve. O `clamp` mantém o desvio padrão entre 0,0067 e 148, uma faixa bem mais larga do que as nuvens chegam a usar, para que uma imagem estranha não estrague o treinamento.
#
# Por dentro, o decodificador devolve *logits*, os números que a sigmoide transforma em probabilidades. A perda é calculada com os logits: assim, nenhuma probabilidade se arredonda para 0 ou 1, o que faria o logaritmo explodir. A sigmoide só entra quando queremos ver a imagem.

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
# Entre o codificador e o decodificador há um sorteio, e **um sorteio não tem derivada**. O truque é sortear longe dos parâmetros. Em vez de amostrar $z$ de $\mathcal{N}(\mu, \sigma^2)$, sorteamos $\varepsilon$ de $\mathcal{N}(0, 1)$ e calculamos
#
# $$z = \mu + \sigma\, \varepsilon, \qquad \sigma = e^{\frac{1}{2} \log \sigma^2}.$$
#
# A distribuição de $z$ é a mesma, mas agora $z$ é uma função derivável de $\mu$ e de $\log \sigma^2$. Na próxima célula, a amostra simples não deixa o gradiente passar; a reparametrizada deixa. E o gradiente é o certo: para $\mathbb{E}[z^2] = \mu^2 + \sigma^2$, as derivadas exatas em relação à média e à log-variância são $2\mu$ e $\sigma^2$, e as estimadas ficam a menos de quatro erros padrão delas.

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
# O pacote traz a mesma classe, com docstrings e mensagens de erro: `nets.VAE`. Com os mesmos pesos e a mesma semente, as duas dão a mesma saída.

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
# A perda é o ELBO com o sinal trocado, na média do lote. Para estimá-lo, basta uma amostra da nuvem de cada imagem. Somas correm sobre pixels e dimensões latentes; médias, sobre imagens. Trocar uma pela outra num só dos termos mudaria o objetivo sem avisar.
#
# - **Reconstrução.** O logaritmo da probabilidade de Bernoulli, somado sobre os pixels: $\sum_d [x_d \ell_d - \log(1 + e^{\ell_d})]$, em que $\ell$ são os logits.
# - **KL.** Da nuvem até a priori, duas normais, ela tem fórmula: $\frac{1}{2} \sum_j (\mu_j^2 + \sigma_j^2 - 1 - \log \sigma_j^2)$.
#
# A próxima célula escreve os dois termos e os confere com `torch.distributions`, que não conhece as nossas fórmulas, e com o pacote.

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
# ## 7. O treinamento
#
# O laço cabe em seis linhas: codifique, amostre, decodifique, calcule a perda, derive, dê um passo. A próxima célula o escreve e percorre uma vez 12.800 imagens, em lotes de 128. Depois faz o mesmo com `train.fit`, partindo da mesma semente, e confere que os dois modelos dão às imagens de teste o mesmo ELBO, a menos de arredondamentos.

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
# Agora o treinamento de verdade: as 60.000 imagens, 15 épocas, Adam com taxa de aprendizado $10^{-3}$. `fit` mostra uma barra de progresso; em dois núcleos, leva menos de um minuto.
#
# A tabela traz, por época, o ELBO de treinamento, os seus dois termos e o ELBO de teste, em nats por imagem. Espere uma subida rápida e depois lenta. Repare na curva da KL: a partir da segunda época, ela cresce. O modelo *gasta* KL para reconstruir melhor, porque vale a pena.

# %% key="training-fit"
torch.manual_seed(0)
model = nets.VAE()
history = train.fit(
    model, train_images, epochs=15, batch_size=128, device=device, test=test_images
)
print(history)

# %% key="training-curves"
kl = history.column("kl")
assert kl[-1] > kl[1]
figures.curves(history)

# %% [markdown] key="training-verdict"
# **Esse número é bom?** Um ELBO sozinho não diz muito. Comparemos com o melhor modelo de pixels independentes e *sem* variável latente: cada pixel acende com a sua frequência no conjunto de treinamento, não importa o que façam os outros. A log-verossimilhança dele se calcula exatamente, sem limite inferior no caminho. A próxima célula exige que o VAE, mesmo medido por baixo, ganhe dele com folga, e que chegue ao valor esperado para estes dados.

# %% key="training-checked"
torch.manual_seed(0)
test_elbo = train.evaluate(model, test_images).elbo  # (10000,)
mean, error = test_elbo.mean().item(), train.standard_error(test_elbo)

frequency = train_images.pixels.mean(0).clamp(1e-4, 1 - 1e-4)  # (784,)
no_latent = densities.log_bernoulli(test_images.pixels, frequency.logit())  # (10000,)
print(say("tour-verdict", mean=mean, error=error, without=no_latent.mean().item()))

expected = {"mnist": -158.0, "strokes": -135.0}[train_images.name]
assert mean > expected
assert mean - no_latent.mean() > 20

# %% [markdown] key="reconstruction"
# ## 8. Reconstrução
#
# Em cima, dez imagens de teste, que o modelo nunca viu no treinamento. Embaixo, o que ele reconstrói: a média do decodificador no centro de cada nuvem. Espere contornos suaves. Espere também trocas: com apenas dois números por imagem, alguns dígitos voltam como um vizinho parecido.

# %% key="reconstructions"
figures.reconstructions(model, test_images)

# %% [markdown] key="why-soft"
# **Por que tão suaves?** Dois números não bastam para dizer onde está cada traço. Dado $z$, os pixels são sorteados de forma independente, e o melhor que o decodificador pode fazer é acertar a *média* das imagens que moram perto de $z$. Uma média de dígitos parecidos é um dígito borrado.
#
# Isso se confere. A próxima figura compara, para dez códigos, a saída do decodificador com a média das 50 imagens de teste cujos códigos estão mais próximos. As duas quase coincidem. O borrão não é culpa da KL: um autocodificador de dois números também borra, como verá quem continuar o curso.

# %% key="why-soft-shown"
ten = figures.one_of_each(test_images).to(device)
with torch.no_grad():
    codes, _ = model.encode(test_images.pixels)  # (10000, 2)
    decoded = model.decode(codes[ten])  # (10, 784)
nearest = torch.cdist(codes[ten], codes).topk(50, largest=False).indices  # (10, 50)
averages = test_images.pixels[nearest].mean(1)  # (10, 784)

to_average = (decoded - averages).abs().mean()
to_original = (decoded - test_images.pixels[ten]).abs().mean()
assert to_average < 0.5 * to_original
rows = {say("tour-decoded"): decoded, say("tour-average"): averages}
figures.gallery(rows, columns=10, alt=say("tour-alt-soft"))

# %% [markdown] key="generation"
# ## 9. Geração
#
# Para inventar imagens, esquecemos o codificador: amostramos $z$ da priori e decodificamos. A próxima figura mostra duas coisas diferentes, que muitos textos confundem.
#
# - Em cima, as **médias** do decodificador: a probabilidade de cada pixel acender. São bonitas, mas o modelo nunca geraria uma imagem cinzenta.
# - Embaixo, as **amostras** do modelo: cada pixel sorteado com essa probabilidade. Repare no chuvisco das bordas. Ele está lá porque os pixels são sorteados sem conversar entre si.

# %% key="samples"
figures.samples(model, count=10, generator=torch.Generator().manual_seed(0))

# %% [markdown] key="manifold"
# ## 10. A variedade
#
# Com dois números por imagem, dá para ver *de uma vez* o que o modelo sabe desenhar. Basta decodificar uma grade de pontos $z$. Mas que grade? Com passos iguais, os ladrilhos do centro teriam muito mais massa da priori que os das pontas. Em cada eixo, cortamos a normal em vinte pedaços de mesma massa e ficamos com a mediana de cada um: a *inversa da função de distribuição normal* em $(i + \frac{1}{2}) / 20$.

# %% key="manifold-grid" tags=["nbval-check-output"]
n = 20
points = torch.special.ndtri((torch.arange(n) + 0.5) / n)  # (20,)
edges = torch.special.ndtri(torch.arange(n + 1) / n)  # (21,)
masses = Normal(0.0, 1.0).cdf(edges).diff()  # (20,)

assert torch.allclose(masses, torch.full((n,), 1 / n), atol=1e-6)
assert torch.equal(points, figures.normal_quantiles(n))
print(say("tour-points-shown", first=points[0].item(), tenth=points[9].item()))

# %% [markdown] key="manifold-before"
# Na figura, $z_1$ cresce para a direita e $z_2$ para cima. Procure três coisas: regiões onde um dígito reina, fronteiras onde um vira outro aos poucos, e a inclinação dos traços, que muda devagar dentro de uma mesma região. Ninguém contou ao modelo o que é um dígito.

# %% key="manifold-picture"
tiles = figures.manifold_tiles(model, n)  # (20, 20, 784)
with torch.no_grad():
    corner = torch.tensor([[points[0], points[-1]]], device=device)  # (1, 2)
    assert torch.allclose(tiles[0, 0], model.decode(corner)[0].cpu(), atol=1e-6)

figures.manifold(model, n)

# %% [markdown] key="map-before"
# E onde moram as imagens de verdade? A próxima figura marca o centro da nuvem de 5.000 imagens de teste, uma cor por dígito. Os círculos contêm 50% e 95% da massa da priori. Repare que os grupos se tocam e ocupam o centro, como a KL pediu, e que dígitos parecidos são vizinhos.

# %% key="map-picture"
figures.latent_map(model, test_images)

# %% [markdown] key="sliders"
# ## 11. Com a mão no espaço latente
#
# Mova $z_1$ e $z_2$ e veja o dígito mudar. Estes controles deslizantes falam com o Python a cada movimento, por isso precisam de um kernel: execute o caderno antes. Com o teclado, as setas andam 0,1; Home e End vão às pontas.

# %% key="sliders-shown"
panel = latent_sliders(model)
panel

# %% key="sliders-moved"
# às duas pontas de cada controle e de volta ao zero: a imagem acompanha
seen = {bytes(panel.image.value)}
for slider in panel.sliders:
    for value in (slider.min, slider.max, 0.0):
        slider.value = value
        seen.add(bytes(panel.image.value))
assert len(seen) == 5

# %% [markdown] key="explorer"
# O **explorador** faz o mesmo sem Python: os pesos do decodificador viajam com a página, e o JavaScript decodifica. Ele funciona num caderno aberto e ainda não executado, e numa página da web, onde não há kernel nenhum. Se no lugar dele aparecer só uma linha de texto, execute a célula ou marque o caderno como confiável. Arraste o ponto sobre o mapa, ou use as setas. Cada casa da grade ao fundo tem a mesma massa da priori.

# %% key="explorer-shown"
explorer = LatentExplorer(model, train_images)
explorer

# %% [markdown] key="next"
# ## 12. O que ficou por responder
#
# Cada pergunta abaixo é uma lição do curso. As que já saíram estão nesta mesma pasta.
#
# | lição | pergunta |
# | --- | --- |
# | 01 | O que um VAE acrescenta a um autocodificador, numa disputa justa? |
# | [02](02_elbo.ipynb) | De onde vem o ELBO, e quão apertado ele é? |
# | [03](03_reparameterization.ipynb) | Como um gradiente atravessa um sorteio? |
# | [04](04_gpu_training.ipynb) | O que é preciso para manter o processador ocupado? |
# | [05](05_latent_space.ipynb) | O que o modelo aprendeu? |
# | 06 | Quanto, exatamente, falta ao ELBO para chegar a $\log p(x)$? |
# | 07 | Que verossimilhança é a sua perda? |
# | 08 | Quando uma latente morre, e o que o beta compra? |
# | 09 | Para onde foi a ideia? |
# | 10 | O ELBO é mesmo um número de bits? |
#
# **Para ler.** Kingma e Welling (2013), *Auto-Encoding Variational Bayes*, de onde vem quase tudo o que você viu. Rezende, Mohamed e Wierstra (2014) chegaram à mesma ideia por conta própria, quase ao mesmo tempo.

# %% [markdown] key="exercises"
# ## Exercícios
#
# Escreva a sua resposta no lugar das reticências e execute a célula. A verificação responde na hora: certo, ou uma pista. As soluções estão recolhidas logo abaixo de cada questão; abra-as só depois de tentar.
#
# ### 1. A KL até outra priori
#
# Na lição, a priori é $\mathcal{N}(0, I)$. Escreva a KL de $\mathcal{N}(\mu, \sigma^2)$ até uma priori mais larga ou mais estreita, $\mathcal{N}(0, \tau^2 I)$. A função recebe `mu` e `logvar`, de forma `(B, L)`, e o número `tau`; ela devolve um número por imagem. Com $\tau = 1$, ela deve recair na fórmula da lição.

# %% key="exercise-kl" tags=["nbval-check-output"]
def my_kl(mu, logvar, tau):
    ...


checks.kl(my_kl)

# %% key="solution-kl" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output", "solution"]
def solution_kl(mu, logvar, tau):
    ratio = (mu**2 + logvar.exp()) / tau**2  # (B, L)
    log_ratio = logvar - torch.log(torch.tensor(tau**2))  # (B, L)
    return 0.5 * (ratio - 1 - log_ratio).sum(-1)  # (B,)


verdict = checks.kl(solution_kl)
assert verdict
verdict

# %% [markdown] key="exercise-draw-text"
# ### 2. Encontre o erro
#
# Esta função já circulou em código publicado. Ela não dá erro nenhum, o gradiente passa, e o modelo treina. Mas a amostra não vem da nuvem que o codificador descreveu. Encontre o erro e corrija-o, sem olhar para a pista logo abaixo.

# %% key="exercise-draw" tags=["nbval-check-output"]
def my_draw(mu, logvar, eps):
    return mu + torch.exp(logvar) * eps


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
# Multiplique a KL por um peso $\beta$ (Higgins et al., 2017) e devolva a perda do lote, um número só, para o otimizador *minimizar*. Com $\beta = 1$, ela é a perda da lição.
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
# <details><summary>Resposta da pergunta para pensar</summary>
#
# A KL nunca é negativa. Com $\beta > 1$, subtrai-se mais do que antes: o resultado nunca passa do ELBO e continua sendo um limite inferior, só que mais frouxo. Com $\beta < 1$, subtrai-se menos: o resultado pode passar de $\log p(x)$, e a garantia se perde.
#
# </details>

# %% [markdown] key="exercise-mass-text"
# ### 4. O que uma grade linear deixa de fora
#
# Muitos textos mostram a variedade numa grade de passos iguais, de $-a$ a $a$ em cada eixo. Que fração da massa da priori cai dentro dela, com $L$ dimensões latentes? Na função, esses dois números se chamam `extent` e `latents`. Devolva um número entre 0 e 1. Depois experimente $a = 2$ com 2 e com 20 dimensões.

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

# %% [markdown] key="exercise-latents-text"
# ### 5. Mais dimensões latentes
#
# Treine um `nets.VAE` com dez dimensões latentes por três épocas. Espere um ELBO de teste bem maior que o do modelo da lição, que treinou por cinco vezes mais épocas. A verificação compara os dois, imagem por imagem, e exige uma diferença de ao menos quatro erros padrão. O que você perde em troca?

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

# %% [markdown] key="exercise-dataset-text"
# ### 6. Outros dados
#
# O curso desenha os seus próprios dígitos: `data.load("strokes", "train")`. Treine neles um `nets.VAE` com duas latentes, por três épocas ou mais, e olhe a variedade com `figures.manifold`. O que mudou na forma das regiões?

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
