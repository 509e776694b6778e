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
# # O que é preciso para manter o processador ocupado?
#
# Você treinou uma rede pequena e deu tempo de passar um café. A conta era demorada, ou o processador estava esperando por você?
#
# **Ao final você saberá** dizer quanta conta há num passo de treinamento, medir em quanto tempo a sua máquina poderia fazê-la, e subir do laço usual até perto desse limite, uma mudança por vez. Ao lado de cada velocidade fica o ELBO de teste: **um degrau que muda a resposta não é degrau.** Você também vai interromper um treinamento e retomá-lo bit a bit, e repartir um mesmo lote entre vários processos.
#
# **Você precisa da** lição 00 e de um pouco de PyTorch. Uma GPU é bem-vinda, mas não é necessária: o caderno é o mesmo com ela e sem ela e, onde ela existe, mostra mais degraus.
#
# **Tempo:** 30 minutos de leitura; cerca de meio minuto de máquina em um núcleo.

# %% key="setup"
import functools
import inspect
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["KINETO_LOG_LEVEL"] = "99"  # antes do torch: o perfilador escreve um diário

import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.optim import Adam
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms

from vae_teach import data, densities, figures, nets, sliders, train
from vae_teach.checks import training as checks
from vae_teach.words import say, use_language

use_language("pt")

# %% [markdown] key="work"
# ## 1. Quanta conta é?
#
# Antes de perguntar se um programa é lento, pergunte o que ele tem de fazer. Na nossa rede, quase toda a conta está nos produtos de matrizes. Uma camada de $a$ entradas e $b$ saídas faz, para cada imagem, $a b$ multiplicações e outras tantas somas: $2ab$ operações. A passagem de volta faz mais dois produtos: um para o gradiente dos pesos, outro para o da entrada. Só a primeira camada dispensa o segundo, porque ninguém pede o gradiente dos pixels.
#
# A próxima célula conta à mão e depois deixa o contador do próprio PyTorch observar um passo de verdade. Os dois têm de concordar.

# %% key="work-counted" tags=["nbval-check-output"]
LAYERS = [(784, 400), (400, 2), (400, 2), (2, 400), (400, 784)]
forward = sum(2 * a * b for a, b in LAYERS)
backward = 2 * forward - 2 * 784 * 400  # sem gradiente dos pixels
operations = forward + backward  # por imagem

counter = FlopCounterMode(display=False)
with counter:
    logits, mu, logvar = nets.VAE()(torch.zeros(128, 784))
    (logits.sum() + mu.sum() + logvar.sum()).backward()
assert counter.get_total_flops() == 128 * operations
print(say("training-operations", forward=forward, backward=backward, total=operations))

# %% [markdown] key="device"
# Três milhões de operações por imagem. Um processador faz bilhões por segundo; quantos, já vamos medir. Primeiro, os dados.
#
# Tomamos uma parte pequena, 6.400 imagens, e passamos por ela uma vez: 50 passos de 128. Basta para cronometrar um laço, e sobra tempo para repetir. Os bits de cada imagem são sorteados aqui, uma vez só. Como cada imagem será vista uma única vez, é o mesmo que sorteá-los dentro do laço.

# %% key="device-and-data"
device = torch.device("cpu")
if torch.accelerator.is_available():
    device = torch.accelerator.current_accelerator()

train_images = data.load("auto", "train")
test_images = data.load(train_images.name, "test", device=device)
bits = data.draw_bits(train_images.pixels[:6400], torch.Generator().manual_seed(0))
few = data.Images(bits, train_images.labels[:6400].clone()).to(device)
judges = data.Images(test_images.pixels[:2000], test_images.labels[:2000])
grey = data.Images(  # sorteadas de novo a cada lote, para depois
    train_images.pixels[:2560].clone(), train_images.labels[:2560].clone(), dynamic=True
).to(device)
assert train_images.pixels.nbytes == 60_000 * 784 * 4  # 188 MB
del train_images, test_images

BATCH = 128
print(say("training-machine", device=device.type, threads=torch.get_num_threads()))

# %% [markdown] key="limit"
# ## 2. O limite
#
# Nenhum laço termina uma imagem antes dos seus produtos de matrizes. Então cronometremos só os produtos: as mesmas formas de um passo de treinamento, nada no meio, e o resultado escrito em lugares que já existem. A velocidade deles é **o limite**. O último número é de um produto quadrado e grande, o tipo de trabalho de que um processador mais gosta.
#
# Um detalhe separa a medida do palpite. Uma GPU recebe ordens e responde na hora, muito antes de o trabalho ficar pronto. Quem para o relógio sem esperar pelo dispositivo mediu a rapidez com que se dão ordens. Daí o `synchronize`.

# %% key="limit-measured"
def synchronize():
    if device.type != "cpu":
        torch.accelerator.synchronize()


def seconds_of(work, repeats, rounds=5):
    work()  # a primeira vez carrega código e abre espaço
    seconds = []
    for _ in range(rounds):
        synchronize()
        start = time.perf_counter()
        for _ in range(repeats):
            work()
        synchronize()
        seconds.append((time.perf_counter() - start) / repeats)
    return min(seconds)  # o que atrapalha só consegue atrasar


def products(batch_size):
    pairs = []
    for a, b in [(784, 400), (400, 4), (2, 400), (400, 784)]:  # mu ao lado de logvar
        x, weight = torch.randn(batch_size, a), torch.randn(b, a)
        y = torch.randn(batch_size, b)
        pairs += [(x, weight.T), (y.T, x)] + ([(y, weight)] if pairs else [])
    return [(a.to(device), b.to(device), (a @ b).to(device)) for a, b in pairs]


def multiply(pairs):
    for a, b, out in pairs:
        torch.mm(a, b, out=out)


def limit_of(batch_size, multiply):
    pairs = products(batch_size)
    return batch_size / seconds_of(lambda: multiply(pairs), 20)  # imagens por segundo


def square_speed(side):
    a, b, out = torch.randn(3, side, side, device=device)
    return 2 * side**3 / seconds_of(lambda: torch.mm(a, b, out=out), 2)


ways = {"mm": multiply}
limits = {name: limit_of(BATCH, way) for name, way in ways.items()}
limit = max(limits.values())
for name, seen in limits.items():
    print(say(f"training-products-{name}", speed=seen, giga=seen * operations / 1e9))
print(say("training-square", side=1024, giga=square_speed(1024) / 1e9))

# %% [markdown] key="usual"
# ## 3. O laço usual
#
# Este é o laço que muitos tutoriais mostram. Um `DataLoader` busca as imagens uma a uma, e cada uma vira figura, depois tensor, depois parte de um lote. A perda passa por uma sigmoide. E `loss.item()` vai para uma lista, para depois desenhar uma curva.
#
# Duas coisas são nossas. Somos nós que sorteamos a ordem das imagens, e o carregador ganha um gerador só dele. Assim, todos os degraus abaixo verão **as mesmas imagens na mesma ordem, e sortearão o mesmo ruído**. Guarde isso: vai fazer diferença.

# %% key="usual-loop"
to_tensor = transforms.ToTensor()


class OneByOne(Dataset):
    def __init__(self, images):
        self.levels = (255 * images.pixels).byte().reshape(-1, 28, 28).cpu().numpy()
        self.labels = images.labels.tolist()

    def __len__(self):
        return len(self.levels)

    def __getitem__(self, index):
        picture = Image.fromarray(self.levels[index])
        return to_tensor(picture).flatten(), self.labels[index]


@functools.cache
def stored(images):
    return OneByOne(images)


def from_probabilities(x, logits, mu, logvar):
    misfit = F.binary_cross_entropy(torch.sigmoid(logits), x, reduction="sum")
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return (misfit + kl) / len(x)


def usual(model, images):
    order = torch.randperm(len(images), device=device).tolist()
    own = torch.Generator()
    loader = DataLoader(stored(images), BATCH, sampler=order, generator=own)
    optimizer = Adam(model.parameters(), lr=1e-3)
    curve = []
    for x, _ in loader:
        x = x.to(device)
        loss = from_probabilities(x, *model(x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curve.append(loss.item())


# %% [markdown] key="ladder"
# ## 4. A escada
#
# Cada degrau muda uma coisa em relação ao anterior. Primeiro escrevemos todos; depois os medimos juntos.
#
# ### Os dados moram no dispositivo
#
# O conjunto inteiro cabe na memória: 60.000 imagens ocupam 188 MB. Um lote passa a ser uma única operação, `index_select`, que acontece onde as imagens estão. Nenhuma figura é aberta duas vezes, nada viaja.

# %% key="rung-resident"
def resident(model, images):
    order = torch.randperm(len(images), device=device)
    optimizer = Adam(model.parameters(), lr=1e-3)
    curve = []
    for chosen in order.split(BATCH):
        x = images.pixels.index_select(0, chosen)  # (B, 784), isto é novo
        loss = from_probabilities(x, *model(x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curve.append(loss.item())


# %% [markdown] key="unwatched"
# ### Ninguém pergunta nada no meio do passo
#
# `loss.item()` parece inocente. Mas, para lhe entregar um número, o dispositivo precisa terminar tudo o que lhe pediram, e enquanto isso não recebe ordens novas. Numa GPU, a fila seca cinquenta vezes em cinquenta passos. Numa CPU, quem manda e quem executa são o mesmo, e este degrau vale pouco.
#
# A cura é somar onde os números estão e perguntar uma vez só, no fim.

# %% key="rung-unwatched"
def unwatched(model, images):
    order = torch.randperm(len(images), device=device)
    optimizer = Adam(model.parameters(), lr=1e-3)
    total = torch.zeros((), device=device)
    for chosen in order.split(BATCH):
        x = images.pixels.index_select(0, chosen)  # (B, 784)
        loss = from_probabilities(x, *model(x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.detach()  # isto é novo: fica no dispositivo
    return total


# %% [markdown] key="logits"
# ### Logits
#
# Uma sigmoide seguida de uma entropia cruzada calcula uma exponencial só para tirar o logaritmo dela. A fórmula direta tem menos operações e, além disso, é a *certa*. Veja um pixel apagado quando o decodificador está seguro de que ele está aceso, com logit 20. O preço exato é $\log(1 + e^{20})$ nats. Pela sigmoide, a probabilidade se arredonda para 1, e o PyTorch corta em 100 um preço que seria infinito.

# %% key="logits-matter" tags=["nbval-check-output"]
sure, off = torch.tensor([20.0]), torch.tensor([0.0])
exact = torch.log1p(sure.double().exp())
direct = F.binary_cross_entropy_with_logits(sure, off)
through = F.binary_cross_entropy(torch.sigmoid(sure), off)

assert torch.isclose(direct.double(), exact, atol=1e-6)
assert through > 99
values = {"exact": exact.item(), "direct": direct.item(), "through": through.item()}
print(say("training-sigmoid", **values))


# %% key="rung-logits"
def from_logits(x, logits, mu, logvar):
    misfit = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return (misfit + kl) / len(x)


def logits_rung(model, images):
    order = torch.randperm(len(images), device=device)
    optimizer = Adam(model.parameters(), lr=1e-3)
    total = torch.zeros((), device=device)
    for chosen in order.split(BATCH):
        x = images.pixels.index_select(0, chosen)  # (B, 784)
        loss = from_logits(x, *model(x))  # isto é novo
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.detach()
    return total


# %% [markdown] key="fused"
# ### Adam fundido
#
# O Adam atualiza dez tensores e faz, em cada um, uma série inteira de operações pequenas. Com `fused=True`, faz tudo de uma vez: os pesos, os gradientes e os dois momentos são lidos uma vez, e não muitas. Numa GPU, isso ainda poupa muitas ordens por passo. A próxima célula conta as operações de um passo do Adam, com e sem.

# %% key="rung-fused"
PARAMETERS = [torch.zeros(3) for _ in nets.VAE().parameters()]


def operations_of(optimizer):
    for parameter in optimizer.param_groups[0]["params"]:
        parameter.grad = torch.ones(3)
    optimizer.step()  # o primeiro passo cria os momentos do Adam
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        optimizer.step()
    return sum(event.name.startswith("aten::") for event in seen.events())


plain, in_one = (operations_of(Adam(PARAMETERS, fused=how)) for how in (False, True))
assert len(PARAMETERS) == 10
assert plain > in_one
print(say("training-adam-operations", plain=plain, fused=in_one))


def fused(model, images):
    order = torch.randperm(len(images), device=device)
    optimizer = Adam(model.parameters(), lr=1e-3, fused=True)  # isto é novo
    total = torch.zeros((), device=device)
    for chosen in order.split(BATCH):
        x = images.pixels.index_select(0, chosen)  # (B, 784)
        loss = from_logits(x, *model(x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.detach()
    return total


# %% [markdown] key="package"
# ### O pacote, e o que ele acrescenta
#
# `train.fit` é o laço acima e mais uma coisa. Se $\ell$ são os logits, o gradiente da log-verossimilhança é $x - \mathrm{sigmoid}(\ell)$: uma linha. Deixado por conta própria, o autograd volta por cada operação do valor. `densities.log_bernoulli` lhe entrega a linha pronta. A próxima célula confere que o gradiente é o mesmo.

# %% key="rung-package"
torch.manual_seed(0)
x = (torch.rand(8, 784) < 0.3).double()
logits = torch.randn(8, 784, dtype=torch.float64, requires_grad=True)
value = densities.log_bernoulli(x, logits).sum()
(ours,) = torch.autograd.grad(value, logits)
usual_value = -F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
(theirs,) = torch.autograd.grad(usual_value, logits)
assert torch.allclose(value, usual_value, rtol=1e-9)
assert torch.allclose(ours, theirs, atol=1e-9)
assert torch.allclose(ours, x - torch.sigmoid(logits), atol=1e-9)


def packaged(**options):
    how = {"epochs": 1, "device": device, "progress": False}
    return lambda model, images: train.fit(model, images, **how | options)


# %% [markdown] key="precision"
# ### Menos dígitos
#
# Um float32 tem 24 bits de precisão; um bfloat16, 8. Viaja metade dos bytes, e os processadores que têm unidades para isso podem multiplicar bem mais depressa. Há duas maneiras de pedir:
#
# - `torch.set_float32_matmul_precision("medium")` mantém tudo em float32 e permite bfloat16 dentro dos produtos. No pacote: `fit(..., precision="medium")`.
# - `torch.autocast` executa as camadas inteiras em bfloat16. Os pesos, o Adam e a perda continuam em float32: somas de 784 termos não são lugar de economizar dígitos.
#
# Numa GPU, `"high"` usa TF32, de 11 bits, no meio do caminho. Um processador sem essas unidades pode até ficar mais lento. É para isso que se mede.
#
# E `"medium"` é uma permissão, não uma ordem: se o processador não ganha nada com isso, todos os dígitos ficam. A próxima célula verifica se ficam aqui, pela distância entre um produto e o mesmo produto em float64. Se ficam, o que se ganha é obra da biblioteca: num processador x86, o PyTorch traz duas que multiplicam, a MKL e a oneDNN, e com `"medium"` pode recorrer à segunda.

# %% key="rung-bfloat16"
assert torch.finfo(torch.float32).eps == 2.0**-23  # 24 bits, contado o primeiro
assert torch.finfo(torch.bfloat16).eps == 2.0**-7  # 8 bits

torch.manual_seed(0)
a, b = torch.randn(128, 784), torch.randn(784, 400)
exact = a.double() @ b.double()


def distance_at(precision):
    torch.set_float32_matmul_precision(precision)
    product = (a.to(device) @ b.to(device)).cpu().double()
    torch.set_float32_matmul_precision("highest")
    return ((product - exact).abs().max() / exact.abs().max()).item()


full, allowed = distance_at("highest"), distance_at("medium")
assert full < 1e-5
verdict = say("training-digits-kept" if allowed < 1e-5 else "training-digits-given")
print(say("training-digits", full=full, allowed=allowed, verdict=verdict))


def bfloat16(model, images):
    order = torch.randperm(len(images), device=device)
    optimizer = Adam(model.parameters(), lr=1e-3, fused=True)
    total = torch.zeros((), device=device)
    for chosen in order.split(BATCH):
        x = images.pixels.index_select(0, chosen)  # (B, 784)
        with torch.autocast(device.type, torch.bfloat16):  # isto é novo
            short = model(x)  # logits (B, 784), mu e logvar (B, 2), em 16 bits
        loss = from_logits(x, *(part.float() for part in short))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.detach()
    return total


# %% [markdown] key="compile-and-graphs"
# ### `torch.compile` e grafos CUDA
#
# Numa GPU, uma rede pequena assim tem um problema novo. Cada operação leva poucos microssegundos, menos do que o Python precisa para pedir a próxima. O dispositivo fica à espera de ordens. Há dois remédios.
#
# **`torch.compile`** lê o passo e o escreve de novo, com as operações vizinhas derretidas numa só. Custa uma linha:
#
# ```python
# compiled = torch.compile(model)  # depois, chame compiled(x) no laço
# ```
#
# Aqui não o executamos: compilar demora muito mais que a época que queremos cronometrar. Para uma rede grande, que treina por horas, não é nada. (`benchmarks/training.py --compile` mede.) Repare que o código fundido sorteia o ruído de outro jeito, de modo que a mesma semente dá outro treinamento.
#
# **Um grafo CUDA** grava as ordens de um passo e depois repete todas com uma única ordem. Nada pode mudar de um passo para outro, a não ser o conteúdo de tensores que ficam no lugar. `speed.cuda_graph.CapturedStep` faz isso em umas trinta linhas: copia os índices do lote para um lugar fixo e repete. Duas coisas se esquecem com facilidade. A gravação precisa de uns passos de aquecimento, que não podem deixar rastro nos pesos, no Adam nem na sequência aleatória. E quem chama `.item()` dentro do passo não consegue gravá-lo: a gravação dá erro. `fit` usa o grafo por conta própria onde houver CUDA.

# %% key="rungs"
rungs = {
    "usual": usual,
    "resident": resident,
    "unwatched": unwatched,
    "logits": logits_rung,
    "fused": fused,
}
rungs["fit"] = packaged(capture=False)
if device.type == "cuda":
    rungs |= {"graph": packaged(), "high": packaged(precision="high")}
rungs["medium"] = packaged(precision="medium")
if device.type in ("cpu", "cuda"):
    rungs["bfloat16"] = bfloat16
larger = {
    "batch": packaged(batch_size=4 * BATCH),
    "batch-rate": packaged(batch_size=4 * BATCH, learning_rate=4e-3),
}
names = {name: say(f"training-rung-{name}") for name in rungs | larger}

# %% [markdown] key="climb"
# ## 5. A subida
#
# Agora todos eles, em turnos. Um notebook desacelera quando esquenta; um servidor, quando um vizinho trabalha nele. Por isso, nunca se cronometra um concorrente sozinho: cada turno executa todos uma vez, em outra ordem, e cronometra de novo só os produtos, para que o limite tenha as mesmas chances. O que se relata é o turno mais rápido de cada degrau: o que atrapalha um turno só consegue atrasá-lo. (O `fit` traz o seu próprio relógio, que não conta os preparativos.)
#
# Cada turno tem a sua semente, da qual partem todos os degraus: os mesmos pesos, a mesma ordem das imagens, o mesmo ruído. Depois da sua época, cada modelo é julgado em 2.000 imagens de teste, com o mesmo ruído para todos.

# %% key="climb-measured"
def judged(model):
    torch.manual_seed(0)
    return train.evaluate(model, judges).elbo.cpu()  # (2000,)


def run_once(rung, seed):
    torch.manual_seed(seed)
    model = nets.VAE().to(device)
    synchronize()
    start = time.perf_counter()
    history = rung(model, few)
    synchronize()
    seconds = time.perf_counter() - start
    if isinstance(history, train.History):  # o relógio de fit não os conta
        seconds = history.rows[0]["seconds"]
    return len(few) / seconds, judged(model)


turns = 3 if device.type == "cpu" else 8
speeds = {name: [] for name in names}
scores = {name: [] for name in names}
contestants = [*(rungs | larger).items()]
shuffle = random.Random(0).shuffle
for turn in range(turns):
    limit = max(limit, *(limit_of(BATCH, way) for way in ways.values()))
    shuffle(contestants)
    for name, rung in contestants:
        speed, elbo = run_once(rung, seed=turn)
        speeds[name].append(speed)
        scores[name].append(elbo)
speed = {name: max(seen) for name, seen in speeds.items()}
elbo = {name: torch.stack(seen) for name, seen in scores.items()}  # (turnos, 2000)

# %% [markdown] key="ruler"
# ### A régua
#
# Antes da tabela: quando dois ELBOs são *diferentes*? Treine o laço usual com outra semente, e ele varia alguns nats. Uma diferença menor que essa não diz nada, a menos que se tome cuidado.
#
# **A régua larga.** Suponha que um degrau sorteie um ruído só dele. Então a sua média sobre $n$ sementes e a do laço usual diferem por acaso, com erro padrão $s \sqrt{2/n}$, em que $s$ é o desvio padrão de uma semente a outra. As imagens de teste também são uma amostra: a diferença, imagem a imagem, tem o seu próprio erro padrão. Os dois se somam pelos quadrados. Um degrau passa se fica a menos de dois desses erros.
#
# **A régua estreita.** A larga deixaria passar um degrau que custasse um nat inteiro. Mas os nossos sorteiam *o mesmo* ruído. A menos de arredondamentos, dois degraus corretos têm de dar o mesmo modelo, e a diferença tem de ser quase zero: não na média, mas em cada semente. Numa CPU, a próxima célula exige menos de 0,05 nat de todos os degraus cujos produtos são em float32.

# %% key="ruler-applied"
first = elbo["usual"].mean(1)  # (turnos,) nats
spread = first.std().item()


def difference(name):
    each = (elbo[name] - elbo["usual"]).mean(0)  # (2000,) nats
    by_seed, by_image = spread * (2 / turns) ** 0.5, train.standard_error(each)
    return each.mean().item(), (by_seed**2 + by_image**2) ** 0.5


for name in rungs:
    far, error = difference(name)
    assert abs(far) <= 2 * error, name
if device.type == "cpu":
    for name in (name for name in rungs if name not in ("medium", "bfloat16")):
        far = elbo[name].mean(1) - first  # (turnos,)
        assert far.abs().max() < 0.05, name
hand = torch.stack([elbo[name].mean(1) - first for name in rungs if name != "bfloat16"])
values = {"error": 2 * difference("fused")[1], "narrow": hand.abs().max().item()}
print(say("training-ruler", spread=spread, turns=turns, **values))

# %% [markdown] key="table"
# ### A tabela
#
# Imagens por segundo, quantas vezes o laço usual isso é, e que fração do limite. Depois o ELBO de teste, a diferença para o laço usual e, depois do ±, o dobro do seu erro padrão. As duas últimas linhas têm lotes maiores, dos quais falamos logo abaixo. O limite é o dos produtos em float32; com menos dígitos, dá para passar dele.
#
# Os seus números serão diferentes dos guardados aqui. O que procurar: onde está o maior salto, e se a última coluna das primeiras linhas merece as suas duas casas decimais.

# %% key="table-printed"
def print_row(name, speed, times, share, elbo=None, far=None, error=None):
    line = say("training-row", name=name, speed=speed, times=times, share=share)
    if elbo is not None:
        line += say("training-row-elbo", elbo=elbo)
    if far is not None:
        line += say("training-row-far", far=far, error=error)
    print(line)


print(say("training-head"))
for name, shown in names.items():
    far, error = difference(name)
    values = {"times": speed[name] / speed["usual"], "share": speed[name] / limit}
    values |= {"speed": speed[name], "elbo": elbo[name].mean().item()}
    if name != "usual":
        values |= {"far": far, "error": 2 * error}
    print_row(shown, **values)

# %% key="table-drawn"
def draw_ladder(rows):
    best = max(rungs, key=speed.get)
    values = {"times": speed[best] / speed["usual"], "share": speed[best] / limit}
    alt = say("training-alt-ladder", best=names[best], rungs=len(rows), **values)
    figure, (left, right) = figures.picture(alt, columns=2, width=9, height=4.2)
    places = range(len(rows))
    bars = left.barh(places, [speed[name] for name in rows], color="#bdbdbd")
    labels = [say("training-bar", value=speed[name]) for name in rows]
    left.bar_label(bars, labels, label_type="center", fontsize=9)
    left.axvline(limit, color="black", linestyle="--", label=say("training-limit-line"))
    left.set_yticks(places, [names[name] for name in rows])
    left.set_xlim(0, 1.1 * max(limit, *speed.values()))
    left.locator_params(axis="x", nbins=4)
    left.xaxis.set_major_formatter(lambda value, _: say("training-bar", value=value))
    left.set(xlabel=say("training-speed"))
    left.legend(fontsize=9, loc="lower right", bbox_to_anchor=(1, 1), frameon=False)
    for place, name in zip(places, rows, strict=True):
        far, error = difference(name)
        right.errorbar(far, place, xerr=2 * error, fmt="o", color="black", capsize=3)
    right.axvline(0, color="black", linewidth=1)
    right.set_yticks(places, [])
    right.set(xlabel=say("training-far"))
    for ax in (left, right):
        ax.set_ylim(len(rows) - 0.5, -0.5)
    return figure


draw_ladder([*names])

# %% [markdown] key="larger"
# ## 6. Lotes maiores, e quanto custam
#
# Com 512 imagens por passo, os produtos ficam maiores e o processador gosta mais deles: mais imagens por segundo. Parece o degrau mais fácil de todos. Agora olhe o ELBO dele na tabela. Está muito fora da régua, e a próxima célula exige que esteja. Uma época tem um quarto dos passos, e cada passo tem o mesmo comprimento: o modelo simplesmente aprendeu menos.
#
# **Pela nossa própria regra, isto não é um degrau.** É uma troca: tantas imagens por segundo por tantos nats. Parte dela se recompra com passos mais longos. A média do quádruplo de imagens tem metade do ruído, logo o passo pode ser maior; a linha seguinte da tabela multiplica a taxa de aprendizado por quatro, como o lote. A célula exige que isso recupere mais da metade da perda. Para outros modelos não há garantia: com Adam, há quem use a raiz quadrada. Mede-se.

# %% key="larger-checked"
(lost, error), (left_over, _) = difference("batch"), difference("batch-rate")
assert lost < -2 * error
assert left_over > 0.5 * lost
print(say("training-larger", lost=-lost, left=-left_over))

# %% [markdown] key="where"
# ## 7. Para onde vai o tempo
#
# Um perfilador anota quando cada operação começa e termina. As suas listas são longas; queremos quatro números. Então subimos de cada operação até as que a contêm e a pomos numa de quatro caixas: **dados**, **produtos** de matrizes, **otimizador** e **o resto**, que são ativações, perda, somas e ruído. O que sobra do relógio é o próprio Python e, numa GPU, um dispositivo sem ordens.
#
# Observar custa tempo, sobretudo onde as operações são muitas e pequenas. Leia as barras como frações.

# %% key="where-measured"
PRODUCTS = {"aten::mm", "aten::addmm", "aten::bmm", "mkldnn::_linear_pointwise"}


def box_of(event):
    if event.name in PRODUCTS:
        return "products"
    while event is not None:
        if event.name.startswith("Optimizer.step"):
            return "optimiser"
        if event.name == "aten::index_select" or "DataLoader" in event.name:
            return "data"
        event = event.cpu_parent
    return "rest"


def watched(rung, images):
    torch.manual_seed(0)
    model = nets.VAE().to(device)
    rung(model, images)  # a primeira vez abre espaço
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    synchronize()
    with profile(activities=activities) as seen:
        start = time.perf_counter()
        rung(model, images)
        synchronize()
        clock = 1e6 * (time.perf_counter() - start)  # microssegundos
    own = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    boxes = dict.fromkeys(("data", "products", "optimiser", "rest"), 0.0)
    for event in seen.events():
        if event.device_type == torch.autograd.DeviceType.CPU:
            boxes[box_of(event)] += getattr(event, own)
    boxes["host"] = max(0.0, clock - sum(boxes.values()))
    steps = -(-len(images) // BATCH)
    return {name: spent / 1e3 / steps for name, spent in boxes.items()}  # ms por passo


some = data.Images(few.pixels[: 6 * BATCH], few.labels[: 6 * BATCH])
spent = {
    name: watched(rungs[name], some) for name in ("usual", "unwatched", "fused", "fit")
}

# %% key="where-drawn"
def draw_boxes(spent):
    kinds = [*spent["fused"]]
    share = spent["fit"]["products"] / sum(spent["fit"].values())
    alt = say("training-alt-boxes", share=share, panels=len(spent))
    figure, axes = figures.picture(alt, columns=len(spent), width=9, height=2.6)
    most = max(max(boxes.values()) for boxes in spent.values())
    for ax, (name, boxes) in zip(axes, spent.items(), strict=True):
        bars = ax.barh(range(5), [boxes[kind] for kind in kinds], color="#8c8c8c")
        work = bars[kinds.index("products")]
        work.set(facecolor="white", edgecolor="black", hatch="///")
        labels = [say("training-ms", value=boxes[kind]) for kind in kinds]
        ax.bar_label(bars, labels, padding=2, fontsize=8)
        ticks = [say(f"training-box-{kind}") for kind in kinds]
        ax.set_yticks(range(5), ticks if ax is axes[0] else [])
        ax.set(xlim=(0, 1.4 * most), ylim=(4.5, -0.5), xlabel=say("training-ms-a-step"))
        ax.set_title(say(f"training-short-{name}"), loc="left", fontsize=10)
    return figure


draw_boxes(spent)

# %% [markdown] key="where-noticed"
# A barra hachurada é o trabalho útil. Os quatro laços multiplicam as mesmas matrizes, com a mesma biblioteca. A barra deveria ter, portanto, o mesmo comprimento em todos os painéis; onde não tem, outra coisa usou o processador, e você vê até onde uma figura destas merece confiança. Todos os degraus encurtam as *outras* barras. É também por isso que a escada acaba: quando só restam os produtos, o próximo degrau é outro processador, ou outra conta.
#
# ## 8. Nunca se espera pelo dispositivo
#
# "Sem sincronização" é fácil de dizer. Um `if loss > best:` esquecido, e cada passo volta a esperar, porque o Python precisa do número para escolher o caminho. Como provar que um passo não pede nada?
#
# Em CUDA, o PyTorch tem uma chave: `torch.cuda.set_sync_debug_mode("error")` transforma cada espera em exceção. Numa CPU não há fila, mas a mesma pergunta pode ser feita. Toda operação passa pelo despachante (*dispatcher*) do PyTorch, e um modo de despacho as vê passar. O número chega ao Python, quase sempre, por uma única operação: `_local_scalar_dense`, que é o que se tornam `.item()`, `float(...)` e `if ...:`. E números só saem de um acelerador por uma cópia. O guarda abaixo proíbe as duas coisas.

# %% key="guard"
class NeverWaits(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError(func.name())
        if func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default):
            places = {a.device.type for a in args if isinstance(a, torch.Tensor)}
            if result.device.type == "cpu" and places != {"cpu"}:
                raise RuntimeError(func.name())
        return result


def waits(rung):
    torch.manual_seed(0)
    model = nets.VAE().to(device)
    rung(model, some)  # a primeira vez abre espaço
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        with NeverWaits():
            rung(model, some)
    except RuntimeError:
        return True
    finally:
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")
    return False


def package_step(model, images):
    run = train.Run(model, images)  # o que fit chama
    for chosen in torch.arange(len(images), device=device).split(BATCH):
        run.step(chosen)


found = {"resident": waits(resident), "fused": waits(fused), "fit": waits(package_step)}
assert found == {"resident": True, "fused": False, "fit": False}
for name, answer in found.items():
    verdict = say("training-waits" if answer else "training-never-waits")
    print(say("training-guard", name=say(f"training-short-{name}"), verdict=verdict))

# %% [markdown] key="guard-package"
# O guarda fica vermelho com o laço que usa `.item()` e verde com os outros dois: o nosso, escrito à mão, e o passo do pacote.
#
# O que ele não vê? Numa CPU, `.tolist()` e `.numpy()` leem a memória diretamente e não passam pelo despacho; numa GPU são cópias, e ele as vê. `checks.HostReads` fecha a brecha com um segundo guarda, mais acima, que observa os métodos que o Python chama num tensor. Nenhum dos dois vê operações como `nonzero` e `torch.equal`, que numa GPU também esperam; lá, quem as pega é a chave do PyTorch. O guarda ainda revela uma surpresa: o Adam, quando *não* é fundido, também pergunta. Ele mantém um contador de passos e o lê com `.item()`. Numa GPU, esse contador mora na memória da CPU, e ninguém espera.

# %% key="guard-checked"
def asked_by(work):
    with checks.HostReads() as seen:
        work()
    return seen.asked


number = torch.tensor(1.5, device=device)
assert asked_by(lambda: number + 1) == []
for ask in (number.item, number.tolist, number.cpu, lambda: bool(number > 0)):
    assert asked_by(ask), ask

weights = [torch.zeros(3, device=device, requires_grad=True)]
weights[0].grad = torch.ones(3, device=device)
optimizers = {is_fused: Adam(weights, fused=is_fused) for is_fused in (False, True)}
counts = {f: len(asked_by(optimizer.step)) for f, optimizer in optimizers.items()}
assert counts[True] == 0
print(say("training-adam-asks", plain=counts[False], fused=counts[True]))

# %% [markdown] key="stored"
# ## 9. A mesma tabela, medida com calma
#
# Uma parte pequena e poucos turnos bastam para ver a escada, não para citá-la. O programa de medição do curso sobe quase os mesmos degraus com as 60.000 imagens, por várias épocas e com várias sementes. A próxima célula lê o que ele escreveu e diz em que máquina foi escrito. As velocidades são medianas; as vezes e as frações, medianas das razões de cada turno, e por isso não são exatamente o quociente das velocidades. Lá, os bits são sorteados de novo a cada lote, e o laço usual os sorteia do seu jeito, de modo que o ruído dele não é o dos outros, que é um só: a régua que vale é a larga.

# %% key="stored-table"
RESULTS = Path("../../benchmarks/results")


def read(name):
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def print_stored(kind):
    measured = read(f"training_{kind}")
    if measured is None:
        print(
            say(f"training-none-{kind}" if RESULTS.is_dir() else "training-no-folder")
        )
        return
    results, machine = measured["results"], measured["machine"]
    where = machine["accelerator"] or machine["processor"]
    fields = ("date", "commit", "torch", "threads")
    print(say("training-measured-on", where=where, **{k: machine[k] for k in fields}))
    print(say("training-head"))
    for row in results["rows"]:
        name = say(f"training-stored-{row['name']}")
        values = {"speed": results["images"] / row["seconds"]}
        values |= {"times": row["times_faster"], "share": row["share_of_limit"]}
        values |= {"elbo": row.get("test_elbo")}
        if "test_elbo" in row and row["name"] != "usual":
            values |= {"far": row["elbo_difference"]}
            values |= {"error": 2 * row["standard_error"]}
        print_row(name, **values)


for kind in ("cpu", "cuda"):
    print_stored(kind)
    print()

# %% [markdown] key="panel"
# ## 10. Para puxar: lote e precisão
#
# Cada ponto é um modo de treinar: para a direita, mais rápido; para cima, um ELBO de teste melhor depois do mesmo número de épocas. Mova os controles. O ponto cheio é a sua escolha; os vazados são os outros que foram medidos. O terceiro controle diz quem mediu: o programa do curso, ou este caderno, na sua máquina, há pouco (um turno, uma época curta).
#
# Procure três coisas. Até onde um lote maior leva você para a direita, e quanto para baixo? Há um tamanho de lote a partir do qual nada mais se ganha? Na sua máquina, menos dígitos custam nats? E compensam? Onde uma combinação não foi medida, o painel diz isso e não inventa nada.

# %% key="panel-measured"
BATCHES, PRECISIONS = (32, 128, 512, 2048), train.PRECISIONS


def just_now(tried):
    points = {}
    for size in BATCHES:
        for precision in tried:
            rung = packaged(batch_size=size, precision=precision)
            seen, score = run_once(rung, seed=0)
            points[size, precision] = (seen, score.mean().item())
    return {"points": points, "images": len(few), "epochs": 1}


def from_grid(kind):
    measured = read(f"batches_{kind}")
    if measured is None:
        return None
    results, points = measured["results"], {}
    for row in results["rows"]:
        point = (row["images_per_second"], row["test_elbo"])
        points[row["batch_size"], row["precision"]] = point
    return {"points": points, "images": results["images"], "epochs": results["epochs"]}


def from_ladder(kind):
    measured = read(f"training_{kind}")
    if measured is None:
        return None
    results, points = measured["results"], {}
    for row in results["rows"]:
        _, _, change = row["name"].partition("-")
        if row["name"].split("-")[0] == "fit":
            size = int(change) if change.isdigit() else results["batch_size"]
            precision = change if change in PRECISIONS else "highest"
            pace = results["images"] / row["seconds"]
            points[size, precision] = (pace, row["test_elbo"])
    epochs = results["rows"][0]["epochs"]
    return {"points": points, "images": results["images"], "epochs": epochs}


sources = {}
for kind in ("cuda", "cpu"):
    sources[kind] = from_grid(kind) or from_ladder(kind)
tried = PRECISIONS if device.type == "cuda" else ("highest", "medium")
sources["now"] = just_now(tried)
sources = {name: source for name, source in sources.items() if source}
for source in sources.values():
    assert all(size in BATCHES and p in PRECISIONS for size, p in source["points"])
assert len(sources["now"]["points"]) == len(BATCHES) * len(tried)

# %% key="panel-shown"
MARKERS = dict(zip(PRECISIONS, "os^", strict=True))
LINES = dict(zip(PRECISIONS, ("-", "--", ":"), strict=True))


def draw_choice(batch, precision, source):
    measured = sources[source]
    points, chosen = measured["points"], (batch, precision)
    products_in = say(f"training-precision-{precision}")
    setting = say("training-setting", batch=batch, precision=products_in)
    about = {"images": measured["images"], "epochs": measured["epochs"]}
    where = say(f"training-source-{source}")
    if chosen in points:
        values = {"speed": points[chosen][0], "elbo": points[chosen][1]}
        alt = say(
            "training-alt-chosen", setting=setting, where=where, **values, **about
        )
    else:
        alt = say("training-alt-missing", setting=setting, where=where, **about)
    figure, (ax,) = figures.picture(alt, width=6.6, height=3.6)
    for kind in PRECISIONS:
        own = sorted((size, point) for (size, p), point in points.items() if p == kind)
        if own:
            x, y = zip(*(point for _, point in own), strict=True)
            label = say(f"training-precision-{kind}")
            how = {"marker": MARKERS[kind], "linestyle": LINES[kind], "linewidth": 1}
            ax.plot(x, y, **how, markerfacecolor="none", color="#666666", label=label)
            for size, point in own:
                if kind == "highest":
                    ax.text(*point, f"   {size}", va="bottom", fontsize=8)
    if chosen in points:
        ax.plot(*points[chosen], MARKERS[precision], color="black", markersize=11)
    missing = "" if chosen in points else " " + say("training-missing")
    ax.set_title(setting + missing, loc="left", fontsize=10)
    ax.set(xlabel=say("training-speed"), ylabel=say("training-elbo-axis"))
    ax.margins(0.12)
    ax.xaxis.set_major_formatter(lambda value, _: say("training-bar", value=value))
    ax.legend(fontsize=8, loc="lower left")
    return figure


panel = sliders.panel(
    draw_choice,
    batch=sliders.choice(say("training-choose-batch"), BATCHES, value=128),
    precision=sliders.choice(
        say("training-choose-precision"),
        [(say(f"training-precision-{p}"), p) for p in PRECISIONS],
    ),
    source=sliders.choice(
        say("training-choose-source"),
        [(say(f"training-source-{s}"), s) for s in sources]
    ),
)
panel

# %% key="panel-moved"
# às duas pontas de cada controle e de volta: cada ajuste tem a sua figura
seen = sliders.sweep(panel)
assert seen == 4 + (len(sources) > 1)

# %% [markdown] key="checkpoint"
# ## 11. Interrompido, e retomado
#
# Um treinamento de horas vai ser interrompido: pelo gato, pela companhia de luz, por quem mais reservou a GPU. Ele só pode continuar se foi salvo *tudo* o que decide o futuro. Os pesos não bastam. O Adam tem dois momentos por peso e um contador, e o ruído tem um estado. Esqueça um deles, e o treinamento continua, mas é outro treinamento.
#
# `fit(..., checkpoint=path)` salva tudo isso depois de cada época, num arquivo que só vai para o seu lugar quando está inteiro: o *ponto de salvamento*. Na próxima célula, alguém puxa a tomada no meio da terceira época. Um modelo novo, nascido de outra semente, encontra o arquivo e continua. No fim, comparamos com um treinamento que ninguém perturbou. Não quase iguais: **iguais**.

# %% key="checkpoint-resumed"
class Unplugged(nets.VAE):
    calls = 0

    def encode(self, x):
        self.calls += 1
        if self.calls == 50:  # na terceira época, de 20 passos cada
            raise KeyboardInterrupt
        return super().encode(x)


def trained(model, seed, **options):
    torch.manual_seed(seed)
    how = {"epochs": 3, "device": device, "progress": False, "capture": False}
    history = train.fit(model, grey, **how | options)
    return history, torch.cat([p.detach().flatten() for p in model.parameters()])


def born(kind, seed):
    torch.manual_seed(seed)
    return kind()


_, undisturbed = trained(born(nets.VAE, 7), seed=8)
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "run.safetensors"
    stopped, halfway = trained(born(Unplugged, 7), seed=8, checkpoint=path)
    resumed, weights = trained(born(nets.VAE, 99), seed=100, checkpoint=path)

assert stopped.interrupted
assert len(stopped) == 2
assert len(resumed) == 3
assert not torch.equal(halfway, undisturbed)
assert torch.equal(weights, undisturbed)

# %% [markdown] key="seeds"
# ### O que uma semente promete
#
# A célula acima já usou a promessa: no mesmo dispositivo, com a mesma versão do PyTorch e o mesmo número de threads, a mesma semente dá o mesmo treinamento, bit a bit. A próxima célula exige isso, e também que outra semente dê outro.
#
# O que uma semente *não* promete: o mesmo treinamento em outro dispositivo, com outro número de threads ou em outra versão. Ali o ruído pode vir de outro gerador, e as somas são repartidas em outros lugares. A soma em ponto flutuante não é associativa, e cada repartição arredonda do seu jeito. Bastam três números para ver isso.

# %% key="seeds-kept" tags=["nbval-check-output"]
_, again = trained(born(nets.VAE, 7), seed=8)
_, other = trained(born(nets.VAE, 7), seed=9)
assert torch.equal(again, undisturbed)
assert not torch.equal(other, undisturbed)

a, b, c = torch.tensor([1e8, -1e8, 1.0])  # float32
print(say("training-sums", left=((a + b) + c).item(), right=(a + (b + c)).item()))

# %% [markdown] key="processes"
# ## 12. Vários processos
#
# Um processador está cheio. Como vários repartem o trabalho? Cada processo tem uma cópia do modelo e fica com *a sua parte do lote*. Calcula o gradiente da sua parte. Depois, todos tiram a média dos gradientes e dão o mesmo passo. A média dos gradientes das partes é o gradiente do lote inteiro, porque a perda é uma média. Se as partes não são iguais, cada uma deve pesar conforme o número das suas imagens. Primeiro a conta, neste processo mesmo, com partes de 43, 43 e 42 imagens.

# %% key="processes-arithmetic"
class Given(nets.VAE):
    def forward(self, x, eps):  # o ruído vem de fora, igual para todos
        mu, logvar = self.encode(x)
        z = mu + torch.exp(0.5 * logvar) * eps
        return self.decode_logits(z), mu, logvar


def gradient_of(model, x, eps):
    loss = from_logits(x, *model(x, eps))
    parts = torch.autograd.grad(loss, [*model.parameters()])
    return torch.cat([part.flatten() for part in parts])


torch.manual_seed(0)
model, x, eps = Given(), few.pixels[:128].cpu(), torch.randn(128, 2)
whole = gradient_of(model, x, eps)

shared = torch.zeros_like(whole)
for rank in range(3):
    share = slice(rank, None, 3)
    weight = len(x[share]) / len(x)
    shared += weight * gradient_of(model, x[share], eps[share])

far = ((shared - whole).abs().max() / whole.abs().max()).item()
assert far < 1e-6
assert len(whole) == 631_188  # tantos quantos os pesos
print(say("training-shares-far", far=far))

# %% [markdown] key="torchrun"
# Agora de verdade. O `torchrun` inicia os processos e diz a cada um, por variáveis de ambiente, o seu número (`RANK`) e quantos são (`WORLD_SIZE`). `DistributedDataParallel` envolve o modelo: durante o `backward`, assim que um grupo de gradientes fica pronto, tira-se a média com os dos outros, enquanto as camadas de baixo ainda calculam. A função da próxima célula é o que cada processo executa. Nós a escrevemos num arquivo e iniciamos dois.

# %% key="torchrun-run"
def worker(folder):
    import torch
    import torch.distributed as dist
    import torch.nn.functional as F
    from safetensors.torch import load_file, save_file
    from torch.nn.parallel import DistributedDataParallel

    from vae_teach import nets

    class Given(nets.VAE):
        def forward(self, x, eps):
            mu, logvar = self.encode(x)
            return self.decode_logits(mu + torch.exp(0.5 * logvar) * eps), mu, logvar

    dist.init_process_group("gloo")  # "nccl" entre GPUs
    rank, size = dist.get_rank(), dist.get_world_size()
    model, batch = Given(), load_file(f"{folder}/batch.safetensors")
    model.load_state_dict(load_file(f"{folder}/model.safetensors"))
    several = DistributedDataParallel(model)
    x, eps = batch["x"][rank::size], batch["eps"][rank::size]  # a minha parte
    logits, mu, logvar = several(x, eps)
    misfit = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    ((misfit + kl) / len(x)).backward()  # aqui os processos conversam
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    save_file({"gradient": gradient}, f"{folder}/{rank}.safetensors")
    dist.destroy_process_group()


def launch(folder, processes):
    save_file({"x": x, "eps": eps}, folder / "batch.safetensors")
    save_file(model.state_dict(), folder / "model.safetensors")
    program = folder / "worker.py"
    call = f"\n\nworker({str(folder)!r})\n"
    program.write_text(inspect.getsource(worker) + call, encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={processes}", str(program)]
    how = {"env": os.environ | {"OMP_NUM_THREADS": "1"}, "capture_output": True}
    try:
        subprocess.run(command, check=True, timeout=120, **how)
    except (OSError, subprocess.SubprocessError):
        return []
    found = [load_file(folder / f"{rank}.safetensors") for rank in range(processes)]
    return [one["gradient"] for one in found]


with tempfile.TemporaryDirectory() as folder:
    gradients = launch(Path(folder), processes=2)

if gradients:
    far = ((gradients[0] - whole).abs().max() / whole.abs().max()).item()
    assert torch.equal(*gradients)
    assert far < 1e-6
    print(say("training-two-processes", far=far))
else:
    print(say("training-no-processes"))

# %% [markdown] key="torchrun-commands"
# O comando do pacote treina assim sem mudança nenhuma. Numa máquina, um processo por GPU:
#
# ```
# torchrun --standalone --nproc-per-node 4 -m vae_teach.train --batch-size 512
# ```
#
# Em duas máquinas, o mesmo comando em cada uma, com um ponto de encontro comum:
#
# ```
# torchrun --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d --rdzv-endpoint primeira-maquina:29500 -m vae_teach.train --batch-size 512
# ```
#
# `--batch-size` é o tamanho somado sobre todos os processos. É isso que mantém a resposta: 512 repartidos por quatro são 128 para cada um, e um lote de 512 é o que a seção 6 diz que é. Quem mantém 128 *por processo* e acrescenta processos sobe o mesmo falso degrau, sem perceber.
#
# E a velocidade? Os processos precisam conversar a cada passo, aqui sobre 631.188 números, um por peso. Para uma rede tão pequena, a conversa pode custar mais do que a divisão rende. A conta cresce com o lote de cada processo, e a conversa não. A divisão compensa com lotes maiores por processo, ou em camadas que usam cada peso muitas vezes, como as convoluções. A próxima célula lê o que foi medido; nela, o ± é um erro padrão só.

# %% key="processes-measured"
measured = read("growth_cpu")
if measured is None:
    print(say("training-no-growth"))
else:
    machine, results = measured["machine"], measured["results"]
    where = {"where": machine["processor"], "date": machine["date"]}
    print(say("training-growth-on", **where, commit=machine["commit"]))
    seconds = {row["name"]: row["seconds"] for row in results["rows"]}
    for row in results["processes"]:
        values = {"elbo": row["test_elbo"], "error": row["standard_error"]}
        pace = results["base"]["images"] / seconds[f"processes {row['processes']}"]
        print(say("training-growth-row", count=row["processes"], speed=pace, **values))

# %% [markdown] key="answer"
# ## 13. A resposta
#
# O que é preciso para manter o processador ocupado? Dados que já estão lá. Ordens que não esperam por respostas. Poucas operações grandes em vez de muitas pequenas. Uma biblioteca que combine com o processador. Só os dígitos de que a resposta precisa. E uma régua ao lado do relógio. Na máquina em que este caderno foi executado por último, deu nisto:

# %% key="answer-measured"
best = max(rungs, key=speed.get)
values = {"times": speed[best] / speed["usual"], "share": speed[best] / limit}
values |= {"before": speed["usual"] / limit, "after": speed["fit"] / limit}
far, error = difference(best)
assert abs(far) <= 2 * error
print(say("training-answer", best=names[best], far=far, error=2 * error, **values))

# %% [markdown] key="next"
# **Para ler.** Burda, Grosse e Salakhutdinov (2015) treinaram uma rede um pouco maior, com lotes de 20, por 3.280 épocas. Calcule quanto tempo a sua máquina levaria para isso com a nossa. Na documentação do PyTorch, as páginas sobre a semântica de CUDA, sobre o perfilador e sobre o `torchrun`.
#
# **No curso.** A lição 05 pergunta o que o modelo treinado aprendeu. A lição 06 manda o processador fazer um produto grande onde outros fazem dez mil pequenos.

# %% [markdown] key="exercises"
# ## Exercícios
#
# Escreva a sua resposta no lugar das reticências e execute a célula. A verificação responde na hora: certo, ou uma pista. As soluções estão recolhidas logo abaixo de cada questão; abra-as só depois de tentar.
#
# ### 1. Um passo que nunca espera
#
# Escreva um passo de treinamento. Ele recebe `model`, que leva `x` a `logits, mu, logvar`; `optimizer`; um lote `x` de forma `(B, D)`; e `total`, um tensor sem eixos. Ele deve descer a perda *média* do lote, somar a `total`, no lugar, a *soma* das perdas do lote, e não devolver nada. A verificação o executa sob o guarda: ele não pode pedir um número sequer.

# %% key="exercise-step" tags=["nbval-check-output"]
def my_step(model, optimizer, x, total):
    ...


checks.step(my_step)

# %% key="solution-step" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output", "solution"]
def solution_step(model, optimizer, x, total):
    loss = from_logits(x, *model(x))  # a média
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    total += len(x) * loss.detach()


verdict = checks.step(solution_step)
assert verdict
verdict

# %% [markdown] key="exercise-mean-text"
# ### 2. Encontre os erros
#
# Esta função deveria devolver o ELBO médio de todas as imagens. `score(x)` dá um número por imagem, `(B,)`. Ela circulou em código publicado: roda, e o número parece plausível. São dois erros, um atrás do outro. O segundo só aparece quando o primeiro se vai, e só se o último lote é menor que os outros.

# %% key="exercise-mean" tags=["nbval-check-output"]
def my_mean_elbo(score, batches):
    total = 0.0
    for x in batches:
        total += score(x).mean()
        return total / len(batches)
    return total  # não havia lote nenhum


checks.mean_elbo(my_mean_elbo)

# %% key="solution-mean" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output", "solution"]
def solution_mean_elbo(score, batches):
    total, count = 0.0, 0
    for x in batches:
        total += score(x).sum()
        count += len(x)
    return total / count


verdict = checks.mean_elbo(solution_mean_elbo)
assert verdict
verdict

# %% [markdown] key="exercise-shares-text"
# ### 3. Um lote que não cabe
#
# O lote que você quer não cabe na memória da sua GPU. Tome-o aos pedaços: calcule o gradiente da *média* de `loss(w, x)` sobre todas as imagens de `x`, `(B, D)`, sem nunca chamar `loss` com mais de `size` imagens. `loss` dá um número por imagem; `w` tem a forma `(D,)` e requer gradiente. Devolva o gradiente, `(D,)`. Ele deve ser igual ao do lote inteiro, quer `size` divida `B`, quer não.

# %% key="exercise-shares" tags=["nbval-check-output"]
def my_gradient(loss, w, x, size):
    ...


checks.accumulate(my_gradient)

# %% key="solution-shares" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output", "solution"]
def solution_gradient(loss, w, x, size):
    w.grad = None
    for part in x.split(size):
        (loss(w, part).sum() / len(x)).backward()  # os gradientes se somam em w.grad
    return w.grad


verdict = checks.accumulate(solution_gradient)
assert verdict
verdict

# %% [markdown] key="exercise-amdahl-text"
# ### 4. Quanto ainda há para ganhar?
#
# Uma parte do seu programa leva a fração `share` do tempo. Você torna essa parte `factor` vezes mais rápida. Quantas vezes mais rápido fica o todo? Depois olhe as barras da seção 7: quanto ganharia um otimizador infinitamente rápido?

# %% key="exercise-amdahl" tags=["nbval-check-output"]
def my_amdahl(share, factor):
    ...


checks.amdahl(my_amdahl)

# %% key="solution-amdahl" jupyter={"source_hidden": true} tags=["hide-input", "nbval-check-output", "solution"]
def solution_amdahl(share, factor):
    return 1 / (1 - share + share / factor)


verdict = checks.amdahl(solution_amdahl)
assert verdict
verdict

# %% [markdown] key="solution-amdahl-text"
# <details><summary>Resposta à pergunta sobre o otimizador</summary>
#
# Com um fator infinito, resta $1 / (1 - s)$, em que $s$ é a fração do otimizador. Uma parte que leva um quinto do tempo rende no máximo um quarto a mais, por mais engenhoso que você seja. É a lei de Amdahl, e a razão para olhar o perfil antes de escrever uma linha de código.
#
# </details>
