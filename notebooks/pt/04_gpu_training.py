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
# Você treinou uma rede pequena e deu tempo de passar um café. O cálculo é que era demorado, ou o processador estava esperando por você?
#
# **Ao final, você saberá** dizer quantas operações há num passo de treinamento, medir o limite de velocidade da sua máquina nessas operações e fazer o laço usual chegar mais perto dele. Ao lado de cada velocidade estará o ELBO de teste, o limite inferior da log-verossimilhança de imagens novas, em nats: quanto maior, melhor. **Cada mudança é um *degrau* da nossa escada, e um degrau que altera a resposta não vale.** Você também vai retomar um treinamento interrompido, com resultado idêntico bit a bit, e repartir um mesmo lote entre processos.
#
# **Você precisa da** lição 00 e de um pouco de PyTorch. Esta lição foi escrita para dois leitores: um tem um laptop; o outro, uma GPU. **Nunca medimos nada numa GPU**: o que dizemos sobre GPUs é explicação, sem nenhum número medido.
#
# **Tempo:** 45 minutos de leitura; de um a três minutos de processamento em dois núcleos.

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

os.environ["KINETO_LOG_LEVEL"] = "99"  # antes do torch: o perfilador escreve um log

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn.utils import parameters_to_vector
from torch.optim import Adam
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import BatchSampler, DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms

from vae_teach import data, figures, nets, sliders, train
from vae_teach.checks import training as checks
from vae_teach.words import say, use_language

use_language("pt")

# %% [markdown] key="work"
# ## 1. Quanto há para calcular?
#
# Na nossa rede, quase todo o cálculo está nos produtos de matrizes. Uma camada de $a$ entradas e $b$ saídas faz, para cada imagem, $a b$ multiplicações e outras tantas somas, ou seja, $2ab$ operações. Em cada camada, a passagem de volta (*backward*) faz mais dois produtos: um dá o gradiente dos pesos; o outro, o da entrada. Só a primeira camada dispensa o segundo, porque ninguém pede o gradiente dos pixels.
#
# A próxima célula faz a conta à mão e depois deixa o contador do próprio PyTorch observar uma ida e uma volta de verdade. Como ele também só conta produtos de matrizes, os dois resultados têm de coincidir.

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
# São três milhões de operações por imagem. Um processador faz bilhões por segundo; já vamos medir quantos. Antes, precisamos dos dados: 6.400 imagens, vistas uma única vez, em 50 passos de 128. Cada pixel vira 0 ou 1 por sorteio (lição 00), feito aqui uma vez só.
#
# `torch.accelerator` encontra o dispositivo: CUDA, ou MPS num Mac com chip da Apple. Com MPS, este caderno faz nesse dispositivo o mesmo que faria numa CPU, mas pula o degrau em bfloat16 e a célula do float16. Ainda não o executamos num Mac desses.

# %% key="device-and-data"
device = torch.device("cpu")
if torch.accelerator.is_available():
    device = torch.accelerator.current_accelerator()

train_images = data.load("auto", "train")
test_images = data.load(train_images.name, "test", device=device)
bits = data.draw_bits(train_images.pixels[:6400], torch.Generator().manual_seed(0))
few = data.Images(bits, train_images.labels[:6400].clone()).to(device)
judges = data.Images(test_images.pixels[:2000], test_images.labels[:2000])
assert train_images.pixels.nbytes == 60_000 * 784  # 47 MB
del train_images, test_images

BATCH = 128
print(say("training-machine", device=device.type, threads=torch.get_num_threads()))

# %% [markdown] key="limit"
# ## 2. O limite
#
# Nenhum laço termina de processar uma imagem sem calcular os produtos de matrizes que ela exige. Por isso, cronometramos só os produtos, com matrizes das mesmas dimensões que as de um passo de treinamento e sem nada entre um produto e outro. A velocidade deles é **o limite** para lotes de 128. Produtos maiores fazem mais operações por segundo; logo, lotes maiores podem render mais imagens por segundo. A célula recolhida mede o limite duas vezes: primeiro, com toda a precisão do float32 (`"highest"`); depois, com permissão de usar, dentro dos produtos, o bfloat16, um formato de 16 bits (`"medium"`).
#
# Um detalhe distingue uma medição de um palpite. A CPU, que executa o Python, dá ordens à GPU, e cada chamada retorna na hora, muito antes de o trabalho ficar pronto. Quem trava o cronômetro sem esperar só mede a rapidez com que se dão ordens. Daí o `synchronize`.

# %% key="limit-measured"
def synchronize():
    if device.type != "cpu":
        torch.accelerator.synchronize()


def seconds_of(work, repeats, rounds=5):
    work()  # a primeira vez carrega código e aloca memória
    seconds = []
    for _ in range(rounds):
        synchronize()
        start = time.perf_counter()
        for _ in range(repeats):
            work()
        synchronize()
        seconds.append((time.perf_counter() - start) / repeats)
    return min(seconds)  # uma interferência só pode atrasar, nunca adiantar

# %% key="limit-products" jupyter={"source_hidden": true} tags=["hide-input"]
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


def limit_at(precision):
    pairs = products(BATCH)
    with train.products_at(precision):  # como torch.set_float32_matmul_precision
        return BATCH / seconds_of(lambda: multiply(pairs), 20)  # imagens por segundo


limits = {precision: limit_at(precision) for precision in ("highest", "medium")}
for precision, pace in limits.items():
    values = {"speed": pace, "giga": pace * operations / 1e9}
    print(say("training-products", precision=precision, **values))

# %% [markdown] key="digits"
# `"medium"` é uma permissão, não uma ordem. Será que se perdeu precisão aqui? A próxima célula compara um produto com o mesmo produto em float64. Se a precisão se mantém, qualquer diferença de velocidade se deve à biblioteca. Num processador AMD, a MKL, a primeira que o PyTorch procura, segue um caminho genérico; com `"medium"`, o PyTorch recorre à oneDNN. Com essa troca, o produto pode ficar mais rápido ou mais lento: os dois números acima dizem o que ocorreu aqui.

# %% key="digits-compared" jupyter={"source_hidden": true} tags=["hide-input"]
torch.manual_seed(0)
a, b = torch.randn(128, 784), torch.randn(784, 400)
exact = a.double() @ b.double()


def distance_at(precision):
    with train.products_at(precision):
        product = (a.to(device) @ b.to(device)).cpu().double()
    return ((product - exact).abs().max() / exact.abs().max()).item()


full, allowed = distance_at("highest"), distance_at("medium")
assert full < 1e-5
verdict = say("training-digits-kept" if allowed < 1e-5 else "training-digits-given")
print(say("training-digits", full=full, allowed=allowed, verdict=verdict))

# %% [markdown] key="usual"
# ## 3. O laço usual
#
# Este é o laço que muitos tutoriais mostram. Um `DataLoader` busca as imagens uma a uma; cada uma vira um objeto de imagem (PIL) e, depois, um tensor. A perda é calculada com a saída de uma sigmoide. E o valor de `loss.item()` vai para uma lista, com a qual mais tarde se desenha uma curva.
#
# Duas coisas são acréscimos nossos: nós mesmos sorteamos a ordem das imagens, e o carregador ganha um gerador só dele. (Sem isso, ele sortearia uma semente com o gerador do PyTorch e deslocaria todo o ruído seguinte.) Assim, todos os degraus verão **as mesmas imagens na mesma ordem e sortearão o mesmo ruído**. Isso vai fazer diferença.

# %% key="usual-loop"
to_tensor = transforms.ToTensor()


class OneByOne(Dataset):
    def __init__(self, images):
        self.levels = (255 * images.pixels).byte().reshape(-1, 28, 28).cpu().numpy()

    def __len__(self):
        return len(self.levels)

    def __getitem__(self, index):
        return to_tensor(Image.fromarray(self.levels[index])).flatten()


stored = functools.cache(OneByOne)


def from_probabilities(x, logits, mu, logvar):
    misfit = F.binary_cross_entropy(torch.sigmoid(logits), x, reduction="sum")
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return (misfit + kl) / len(x)


def usual(model, images):
    order = torch.randperm(len(images), device=device).tolist()
    own = torch.Generator()
    optimizer = Adam(model.parameters(), lr=1e-3)
    curve = []
    for x in DataLoader(stored(images), BATCH, sampler=order, generator=own):
        x = x.to(device)
        loss = from_probabilities(x, *model(x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curve.append(loss.item())

# %% [markdown] key="loader"
# ### Um carregador melhor
#
# É fácil superar esse laço. O próprio carregador do PyTorch é capaz de mais, e **ele é indispensável quando os dados não cabem na memória**. No código abaixo, as imagens estão num arquivo, com um byte por pixel. O arquivo é *mapeado em memória*, ou seja, o sistema só lê as páginas que forem usadas. Cada lote é lido inteiro, de uma vez. Enquanto o modelo treina com um lote, um processo auxiliar (*worker*) já busca os próximos. (No macOS e no Windows, o processo auxiliar não enxerga uma classe definida no caderno; para usá-lo, ponha a classe num arquivo. Aqui, nesses sistemas, ficamos sem ele.)
#
# *Numa GPU*, há mais duas opções. `pin_memory=True` fixa cada lote na memória, para que a GPU possa buscá-lo sozinha. Com `non_blocking=True`, a cópia acontece enquanto a CPU segue trabalhando; mas, se a memória não estiver fixada, a CPU espera do mesmo jeito.

# %% key="loader-from-disk"
class OnDisk(Dataset):
    def __init__(self, path, count):
        self.bytes = np.memmap(path, np.uint8, "r", shape=(count, 784))

    def __getitem__(self, chosen):  # todos os índices de um lote
        return torch.from_numpy(self.bytes[chosen])


shelf = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
path = Path(shelf.name) / "images.bin"
few.pixels.byte().cpu().numpy().tofile(path)
workers = 1 if sys.platform == "linux" else 0
order = []
loader = DataLoader(
    OnDisk(path, len(few)),
    batch_size=None,  # quem faz os lotes é o sampler
    sampler=BatchSampler(order, BATCH, drop_last=False),
    num_workers=workers,
    persistent_workers=workers > 0,  # o mesmo processo em todas as épocas
    multiprocessing_context="fork" if workers else None,
    pin_memory=device.type == "cuda",
    generator=torch.Generator(),
)


def from_disk(images):
    order[:] = torch.randperm(len(images), device=device).tolist()
    for x in loader:
        yield x.to(device, non_blocking=True).float()  # copia-se um byte por pixel

# %% [markdown] key="ladder"
# ## 4. A escada
#
# Quatro mudanças levam do laço usual a um laço rápido, e cada uma é um degrau:
#
# 1. **Os dados ficam no dispositivo.** Com um byte por pixel, 60.000 imagens ocupam 47 MB. Para montar um lote, bastam uma ou duas operações, a começar por `index_select`. Se os seus dados não couberem, fique com o carregador acima.
# 2. **Ninguém pergunta nada no meio do passo.** Para entregar o valor de `loss.item()`, o dispositivo precisa terminar tudo o que já lhe foi pedido. *Numa GPU*, isso esvazia a fila de ordens a cada passo. Acumule, então, a soma das perdas no próprio dispositivo e peça o valor só no fim. Numa CPU, este degrau rende pouco.
# 3. **Logits.** Calculada com o logit $\ell = \log \frac{p}{1 - p}$, a perda de um pixel é $\log(1 + e^\ell) - x \ell$, sem sigmoide. Essa fórmula é mais curta e, além disso, é a *certa*. Tome um pixel apagado, mas que o decodificador dá como certamente aceso, com logit 20. A perda exata é $\log(1 + e^{20})$ nats. Pela sigmoide, a probabilidade é arredondada para 1, e o PyTorch limita a 100 uma perda que seria infinita.
# 4. **Adam fundido.** O Adam atualiza dez tensores, cada um com uma série de operações pequenas. Com `fused=True`, cada número é lido uma vez só. A última das três células a seguir conta as operações.
#
# O pacote traz mais um degrau, já pronto: o `fit`. Nele, o gradiente da log-verossimilhança em relação aos logits, $x - \mathrm{sigmoid}(\ell)$, está escrito à mão em `densities.log_bernoulli`, e o autograd não precisa deduzi-lo. Isso é só uma parte do degrau. O restante vem do que o `fit` faz de modo diferente dos laços escritos à mão.

# %% key="rung-climbed"
def from_logits(x, logits, mu, logvar):
    misfit = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")  # 3
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return (misfit + kl) / len(x)


def climbed(model, images):
    order = torch.randperm(len(images), device=device)
    optimizer = Adam(model.parameters(), lr=1e-3, fused=True)  # 4
    total = torch.zeros((), device=device)
    for chosen in order.split(BATCH):
        x = images.pixels.index_select(0, chosen)  # (B, 784)  1
        loss = from_logits(x, *model(x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.detach()  # 2
    return total

# %% key="logits-matter" tags=["nbval-check-output"]
sure, off = torch.tensor([20.0]), torch.tensor([0.0])
exact = torch.log1p(sure.double().exp())
direct = F.binary_cross_entropy_with_logits(sure, off)
through = F.binary_cross_entropy(torch.sigmoid(sure), off)

assert torch.isclose(direct.double(), exact, atol=1e-6)
assert through == 100
values = {"exact": exact.item(), "direct": direct.item(), "through": through.item()}
print(say("training-sigmoid", **values))

# %% key="rung-fused"
def operations_in(work):
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        work()
    return [event.name for event in seen.events() if event.name.startswith("aten::")]


def adam(fused):
    parameters = [torch.ones(3) for _ in nets.VAE().parameters()]
    for parameter in parameters:
        parameter.grad = torch.ones(3)
    optimizer = Adam(parameters, fused=fused)
    optimizer.step()  # o primeiro passo cria os momentos do Adam
    return operations_in(optimizer.step)


plain, in_one = adam(fused=False), adam(fused=True)
assert len([*nets.VAE().parameters()]) == 10
assert len(plain) > 2 * len(in_one)
print(say("training-adam-operations", plain=len(plain), fused=len(in_one)))

# %% [markdown] key="precision"
# ### Menos dígitos
#
# Um float32 tem 24 bits de precisão; um float16, 11; um bfloat16, 8. Com 16 bits, o tráfego de bytes cai à metade, e um processador que tenha unidades para esses formatos multiplica mais depressa. Num que não as tenha, o cálculo pode até ficar mais lento. Há três maneiras de pedir menos dígitos:
#
# - `torch.set_float32_matmul_precision("medium")` permite usar bfloat16 dentro dos produtos. No pacote, escreva `fit(..., precision="medium")`. *Numa GPU*, `"high"` usa o TF32, com 11 bits de precisão.
# - `torch.autocast(device.type, torch.bfloat16)` em volta de `model(x)` executa as camadas em bfloat16. Os pesos, o Adam e a perda continuam em float32, pois não convém economizar dígitos numa soma de 784 termos.
# - Com `torch.float16`, gradientes pequenos são arredondados para zero, porque a faixa de valores do formato é estreita. **Um escalador de gradientes** multiplica a perda por um número grande, a *escala*, e divide os gradientes por esse mesmo número antes de entregá-los ao Adam. Se algum gradiente estoura, o escalador pula o passo e reduz a escala à metade.

# %% key="half-scaled"
bits_of = {kind: 1 - round(np.log2(torch.finfo(kind).eps)) for kind in
           (torch.float32, torch.bfloat16, torch.float16)}
assert [*bits_of.values()] == [24, 8, 11]

tiny = torch.tensor(1e-8)
assert tiny.bfloat16() > 0
assert tiny.half() == 0
assert torch.isclose((65_536 * tiny).half().float() / 65_536, tiny, rtol=1e-3)


def scaled(model, images):
    optimizer = Adam(model.parameters(), lr=1e-3, fused=True)
    scaler = torch.amp.GradScaler(device.type)  # começa em 65.536
    for x in images.pixels.split(BATCH):
        with torch.autocast(device.type, torch.float16):
            parts = model(x)  # logits (B, 784), mu e logvar (B, 2), em 16 bits
        loss = from_logits(x, *(part.float() for part in parts))
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)  # divide; não dá o passo depois de um estouro
        scaler.update()
    return scaler.get_scale()


some = data.Images(few.pixels[: 6 * BATCH], few.labels[: 6 * BATCH])
if device.type in ("cpu", "cuda"):
    torch.manual_seed(0)
    scale = scaled(nets.VAE().to(device), some)
    assert 1 <= scale < 65_536
    print(say("training-scaler", scale=scale, skipped=round(np.log2(65_536 / scale))))

# %% [markdown] key="compile-and-graphs"
# Os primeiros passos de um treinamento em float16 só servem para achar a escala. Quando puder escolher, prefira bfloat16 a float16. (Num processador sem unidades para eles, os dois podem ser mais lentos que float32; no caso do bfloat16, a tabela da seção 5 mostra o que acontece no seu.)
#
# ### `torch.compile` e grafos CUDA
#
# *Numa GPU*, cada operação de uma rede pequena pode terminar antes que a CPU peça a seguinte. A GPU fica, então, à espera de ordens. Há dois remédios.
#
# **`torch.compile`** reescreve o modelo e funde numa só as operações vizinhas:
#
# ```python
# compiled = torch.compile(model)                          # menos operações, e maiores
# compiled = torch.compile(model, mode="reduce-overhead")  # e grafos CUDA
# compiled = torch.compile(model, mode="max-autotune")     # e o kernel mais rápido entre vários
# ```
#
# Compilar demora muito mais que uma das nossas épocas. Se você tiver um compilador de C++ e alguns minutos, escreva `COMPILE = True` mais abaixo. Com a mesma semente, o código compilado sorteia outro ruído. Não medimos esses modos.
#
# **Um grafo CUDA** grava as ordens de um passo e depois repete todas com uma única ordem. De um passo para outro, só pode mudar o conteúdo de tensores que ficam sempre no mesmo lugar da memória:
#
# ```python
# chosen = torch.zeros(BATCH, dtype=torch.int64, device="cuda")  # um lugar fixo
# graph = torch.cuda.CUDAGraph()
# with torch.cuda.graph(graph):  # grava, não calcula nada
#     step(chosen)               # de index_select a Adam(..., capturable=True)
# for part in order.split(BATCH):
#     chosen.copy_(part)
#     graph.replay()             # uma ordem para o passo inteiro
# ```
#
# Antes da gravação, o passo precisa ser executado algumas vezes, sem deixar rastro nos pesos, no Adam nem no ruído; por isso, `vae_teach.speed.cuda_graph` restaura o estado anterior dos três. Um passo que chame `.item()` não pode ser gravado. Onde há CUDA, o `fit` usa o grafo, a menos que se peça `capture=False`. Por falta de GPU, nunca executamos esse código.

# %% key="rungs-between" jupyter={"source_hidden": true} tags=["hide-input"]
def in_memory(images):
    for chosen in torch.randperm(len(images), device=device).split(BATCH):
        yield images.pixels.index_select(0, chosen)


def between(loss_of, *, batches=in_memory, asks=False, fused=False, kind=None):
    def loop(model, images):
        optimizer = Adam(model.parameters(), lr=1e-3, fused=fused)
        total, curve = torch.zeros((), device=device), []
        for x in batches(images):
            with torch.autocast(device.type, kind, enabled=kind is not None):
                parts = model(x)
            loss = loss_of(x, *(part.float() for part in parts))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if asks:
                curve.append(loss.item())
            else:
                total += loss.detach()
        return total

    return loop


def packaged(**options):
    how = {"epochs": 1, "device": device, "progress": False}
    return lambda model, images: train.fit(model, images, **how | options)

# %% key="rungs"
COMPILE = False  # True: alguns minutos a mais

rungs = {
    "usual": usual,
    "loader": between(from_probabilities, batches=from_disk, asks=True),
    "resident": between(from_probabilities, asks=True),
    "unwatched": between(from_probabilities),
    "logits": between(from_logits),
    "fused": climbed,
    "fit": packaged(capture=False),
}
same_digits = [*rungs]  # a menos de arredondamentos, são um cálculo só
if COMPILE:
    rungs["compiled"] = lambda model, images: climbed(torch.compile(model), images)
if device.type == "cuda":
    rungs |= {"graph": packaged(), "high": packaged(precision="high")}
rungs["medium"] = packaged(precision="medium")
if device.type in ("cpu", "cuda"):
    rungs["bfloat16"] = between(from_logits, fused=True, kind=torch.bfloat16)
rungs["batch"] = packaged(batch_size=4 * BATCH)
names = {name: say(f"training-rung-{name}") for name in rungs}

# %% [markdown] key="climb"
# ## 5. A subida
#
# Um laptop fica mais lento quando esquenta; um servidor, quando mais alguém o usa. Por isso, cada rodada executa todos os degraus uma vez, em outra ordem, e volta a medir o limite. Para cada degrau, vale a rodada mais rápida, pois uma interferência só pode atrasar, nunca adiantar. (O `fit` tem um relógio próprio, que não conta os preparativos.)
#
# Cada rodada tem uma semente, e todos os degraus partem dela, com os mesmos pesos, a mesma ordem das imagens e o mesmo ruído. Depois de uma época de treinamento, cada modelo é avaliado em 2.000 imagens de teste.

# %% key="climb-measured" jupyter={"source_hidden": true} tags=["hide-input"]
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
    if isinstance(history, train.History):  # o relógio de fit não conta os preparativos
        seconds = sum(history.column("seconds"))
    return len(few) / seconds, judged(model)


turns = 4 if device.type == "cpu" else 8
speeds = {name: [] for name in rungs}
scores = {name: [] for name in rungs}
contestants = [*rungs.items()]
shuffle = random.Random(0).shuffle
for turn in range(turns):
    limits = {name: max(pace, limit_at(name)) for name, pace in limits.items()}
    shuffle(contestants)
    for name, rung in contestants:
        pace, nats = run_once(rung, seed=turn)
        speeds[name].append(pace)
        scores[name].append(nats)
speed = {name: max(seen) for name, seen in speeds.items()}
elbo = {name: torch.stack(seen) for name, seen in scores.items()}  # (rodadas, 2000)

# %% [markdown] key="ruler"
# ### A régua
#
# Quando se pode dizer que dois ELBOs são *diferentes*? De uma semente a outra, o ELBO do laço usual varia alguns nats, como mostra a próxima célula. Mas os nossos degraus têm em comum as sementes e o ruído. Por isso, calculamos primeiro a diferença **dentro de cada semente** e só depois o erro padrão *dessas diferenças*: é uma comparação pareada. O que os treinamentos de uma mesma semente têm em comum se cancela. As diferenças também variam de imagem para imagem, o que dá um segundo erro. O erro total é a raiz da soma dos quadrados dos dois.
#
# **A regra.** Um degrau passa se a diferença, com o dobro do erro para cada lado, fica entre −0,5 e 0,5 nat, faixa fixada de antemão. Portanto, um degrau medido com erro grande demais não passa. E, numa CPU, os degraus que, a menos de arredondamentos, calculam o mesmo que o laço usual não podem diferir dele em mais de 0,05 nat em *nenhuma* semente.

# %% key="ruler-applied"
first = elbo["usual"].mean(1)  # (rodadas,) nats


def difference(ours, theirs):
    each = ours - theirs  # (rodadas, 2000) nats
    by_seed = train.standard_error(each.mean(1))
    by_image = train.standard_error(each.mean(0))
    return each.mean().item(), 2 * (by_seed**2 + by_image**2) ** 0.5


gained = {name: difference(elbo[name], elbo["usual"]) for name in rungs}
passed = {name: abs(far) + error < 0.5 for name, (far, error) in gained.items()}
for name in passed:
    assert passed[name] == (name != "batch") or name == "compiled", name
if device.type == "cpu":
    for name in same_digits:
        assert (elbo[name].mean(1) - first).abs().max() < 0.05, name
print(say("training-ruler", spread=first.std().item(), turns=turns))

# %% [markdown] key="table"
# ### A tabela
#
# As três primeiras colunas de números trazem o número de imagens processadas por segundo, a razão entre essa velocidade e a do laço usual e a fração do limite em float32 (a última linha) que ela alcança. Depois vêm o ELBO de teste e a diferença dele para o do laço usual; o ± indica o dobro do erro padrão das diferenças pareadas. As suas velocidades serão diferentes das guardadas aqui. Numa máquina ocupada, o `fit` ganha também por acompanhar os núcleos livres (seção 13). Os grandes saltos devem aparecer onde as imagens deixam de ser tratadas uma a uma e no Adam fundido. O `fit` pode ficar um pouco abaixo do Adam fundido: a seção 7 conta as operações que ele tem a mais. Um carregador com processo auxiliar pode empatar com os dados no dispositivo, porque trabalha em paralelo com o treinamento. Qual degrau não passa? No painel direito da figura, a faixa cinza é a da regra, de −0,5 a 0,5 nat; fora dela, o eixo é logarítmico.

# %% key="table-printed" jupyter={"source_hidden": true} tags=["hide-input"]
def print_row(name, speed, times, share, elbo=None, far=None, error=None):
    line = say("training-row", name=name, speed=speed, times=times, share=share)
    if elbo is not None:
        line += say("training-row-elbo", elbo=elbo)
    if far is not None:
        line += say("training-row-far", far=far, error=error)
    print(line)


def relative(pace):
    return {"times": pace / speed["usual"], "share": pace / limits["highest"]}


print(say("training-head"))
for name, (far, error) in gained.items():
    values = relative(speed[name]) | {"elbo": elbo[name].mean().item()}
    if name != "usual":
        values |= {"far": far, "error": error}
    print_row(names[name], speed[name], **values)
for precision in ("medium", "highest"):
    pace = limits[precision]
    print_row(say(f"training-limit-{precision}"), pace, **relative(pace))

# %% key="table-drawn" jupyter={"source_hidden": true} tags=["hide-input"]
def draw_ladder(rows):
    best = max((name for name in rungs if passed[name]), key=speed.get)
    values = relative(speed[best]) | {"lost": -gained["batch"][0]}
    alt = say("training-alt-ladder", best=names[best], rungs=len(rows), **values)
    figure, (left, right) = figures.picture(alt, columns=2, width=9, height=4.2)
    places = range(len(rows))
    bars = left.barh(places, [speed[name] for name in rows], color="#bdbdbd")
    labels = [say("training-bar", value=speed[name]) for name in rows]
    left.bar_label(bars, labels, padding=3, fontsize=9)
    line = say("training-limit-line")
    left.axvline(limits["highest"], color="black", linestyle="--", label=line)
    left.set_yticks(places, [names[name] for name in rows])
    left.set_xlim(0, 1.1 * max(*limits.values(), *speed.values()))
    left.locator_params(axis="x", nbins=4)
    left.xaxis.set_major_formatter(lambda value, _: say("training-bar", value=value))
    left.set(xlabel=say("training-speed"))
    left.legend(fontsize=9, loc="lower right", bbox_to_anchor=(1, 1), frameon=False)
    for place, name in zip(places, rows, strict=True):
        far, error = gained[name]
        right.errorbar(far, place, xerr=error, fmt="o", color="black", capsize=3)
    right.axvline(0, color="black", linewidth=1)
    right.axvspan(-0.5, 0.5, color="#e5e5e5", label=say("training-band"))
    right.set_xscale("symlog", linthresh=0.5)  # even within the band
    right.set_xticks([-50, -5, -0.5, 0, 0.5])
    right.xaxis.set_major_formatter(lambda value, _: say("training-nats", value=value))
    right.minorticks_off()
    right.legend(fontsize=9, loc="lower left", bbox_to_anchor=(0, 1), frameon=False)
    right.set_yticks(places, [])
    right.set(xlabel=say("training-far"))
    for ax in (left, right):
        ax.set_ylim(len(rows) - 0.5, -0.5)
    return figure


draw_ladder([*names])

# %% [markdown] key="larger"
# ## 6. Lotes maiores e o que eles custam
#
# Com 512 imagens por passo, os produtos ficam maiores, e esse parece o degrau mais fácil de todos. **Pela nossa regra, porém, não é degrau nenhum**: perdem-se dezenas de nats. Uma época tem um quarto dos passos, e o modelo aprende menos.
#
# A comparação é justa? Nada garante que a taxa de aprendizado usada até aqui, $10^{-3}$, sirva para os dois tamanhos de lote. Com o quádruplo de imagens, o ruído do gradiente médio cai à metade, o que sugere dobrar a taxa; há quem a multiplique por quatro. Por isso, experimentamos várias taxas com lotes de 32, 128 e 512 imagens e as mesmas três sementes, e avaliamos cada tamanho **com a sua melhor taxa**. (Escolher e avaliar a taxa com as mesmas imagens favorece um pouco cada tamanho, mas as diferenças aqui são bem maiores que isso.) Como os tempos não foram medidos em rodadas alternadas, só os ELBOs podem ser comparados. Com lotes de 512, treinamos também por *duas* épocas.

# %% key="larger-checked"
BATCHES, RATES = (32, 128, 512), (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2)


def trained_at(batch, rate, epochs=1):
    rung = packaged(batch_size=batch, learning_rate=rate, epochs=epochs)
    paces, nats = zip(*(run_once(rung, seed) for seed in range(3)), strict=True)
    return max(paces) * epochs, torch.stack(nats)  # imagens por segundo, (3, 2000) nats


tried = {(b, r): trained_at(b, r) for b in BATCHES for r in RATES}
best = {b: max(RATES, key=lambda r: tried[b, r][1].mean()) for b in BATCHES}
assert not {*best.values()} & {RATES[0], RATES[-1]}  # nenhuma melhor taxa na ponta
twice = trained_at(512, best[512], epochs=2)
base = tried[128, best[128]][1]
rows = {(b, 1): tried[b, best[b]] for b in BATCHES} | {(512, 2): twice}
for (batch, epochs), (pace, nats) in rows.items():
    far, error = difference(nats, base)
    values = {"batch": batch, "epochs": epochs, "rate": best[batch], "far": far}
    values |= {"seconds": len(few) / pace, "elbo": nats.mean().item(), "error": error}
    print(say("training-tuned", **values))
    assert batch != 512 or far < -error
far, error = difference(base, tried[128, 1e-3][1])
assert far - error > 10
print(say("training-rate-gain", rate=best[128], base=1e-3, far=far, error=error))

# %% [markdown] key="time-to-elbo"
# A última linha compara o lote de 128 com ele mesmo: só a mudança de taxa já vale mais de dez nats. E, mesmo quando cada tamanho de lote usa a sua melhor taxa, o modelo treinado com lotes de 512, mesmo por duas épocas, aprende menos que o treinado com lotes de 128 por uma só. A célula acima não diz quem venceria em tempo igual.
#
# Mas um treinamento de 50 passos é curto. O que interessa é o **tempo até um ELBO**: em quantos segundos se chega a um dado ELBO de teste? O programa de medição do curso faz essa pergunta com todas as 60.000 imagens. Ele ajusta a taxa de cada tamanho de lote e depois treina com todos os tamanhos, em rodadas. O alvo de cada semente é o ELBO que os lotes de 128 alcançam na metade das épocas. Na saída desse programa, o ± indica um erro padrão, e não o dobro.

# %% key="results-read" jupyter={"source_hidden": true} tags=["hide-input"]
RESULTS = Path("../../benchmarks/results")


def read(name):
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def print_source(measured, key="training-measured-on"):
    machine = measured["machine"]
    where = machine["accelerator"] or machine["processor"]
    fields = ("date", "commit", "torch", "threads")
    print(say(key, where=where, **{k: machine[k] for k in fields}))


def print_times(kind):
    measured = read(f"batches_{kind}")
    if measured is None or "tuning" not in measured["results"]:
        print(say("training-none-batches", kind=kind))
        return
    results = measured["results"]
    print_source(measured)
    about = {k: results[k] for k in ("seeds", "target", "target_epoch", "epochs")}
    print(say("training-times-head", **about))
    for row in results["rows"]:
        if row["precision"] == "highest":
            key = "reached" if row["seconds_to_target"] is not None else "missed"
            print(say(f"training-times-{key}", **row | {"seeds": results["seeds"]}))

# %% key="times-printed" jupyter={"source_hidden": true} tags=["hide-input"]
for kind in ("cpu", "cuda"):
    print_times(kind)
    print()

# %% [markdown] key="where"
# ## 7. Para onde vai o tempo
#
# Um perfilador (*profiler*) anota quando cada operação começa e quando termina. Há três maneiras de ler essas anotações:
#
# - `key_averages()` soma os tempos das operações de mesmo nome. A célula mostra as seis mais demoradas; `print(seen.key_averages().table())` mostra todas as colunas.
# - `export_chrome_trace` grava um **registro** (*trace*), que se abre num visualizador como o [Perfetto](https://ui.perfetto.dev). Nele, o tempo corre para a direita, e as chamadas aparecem umas sob as outras. *Numa GPU*, os vãos na linha do dispositivo são os momentos em que ele espera por ordens. A célula grava o registro numa pasta temporária; para guardá-lo, indique outro caminho.
# - Também se pode contar: quantas operações há num passo?

# %% key="where-measured"
def profiled(rung):
    torch.manual_seed(0)
    model = nets.VAE().to(device)
    rung(model, some)  # a primeira vez aloca memória
    kinds = [ProfilerActivity.CPU]
    kinds += [ProfilerActivity.CUDA] if device.type == "cuda" else []
    with profile(activities=kinds) as seen:
        start = time.perf_counter()
        rung(model, some)
        synchronize()
        clock = time.perf_counter() - start
    return seen, clock


steps = len(some) // BATCH
seen, _ = profiled(climbed)
for row in sorted(seen.key_averages(), key=lambda row: -row.self_cpu_time_total)[:6]:
    values = {"calls": row.count / steps, "spent": row.self_cpu_time_total / steps}
    print(say("training-operation", name=row.key, **values))

trace = Path(shelf.name) / "trace.json"
seen.export_chrome_trace(str(trace))
assert json.loads(trace.read_text("utf-8"))["traceEvents"]

counts = {
    name: len(operations_in(lambda name=name: rungs[name](nets.VAE(), some))) // steps
    for name in ("usual", "unwatched", "fused", "fit")
    if device.type == "cpu"
}
by_hand = [*counts.values()][:3]
assert by_hand == sorted(by_hand, reverse=True)
for name, count in counts.items():
    print(say("training-count", name=names[name], count=count))

# %% key="where-boxes" jupyter={"source_hidden": true} tags=["hide-input"]
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


def watched(rung):
    seen, clock = profiled(rung)
    own = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    boxes = dict.fromkeys(("data", "products", "optimiser", "rest"), 0.0)
    for event in seen.events():
        if event.device_type == torch.autograd.DeviceType.CPU:
            boxes[box_of(event)] += getattr(event, own) / 1e3 / steps  # ms por passo
    boxes["host"] = max(0.0, 1e3 * clock / steps - sum(boxes.values()))
    return boxes


def fastest(rung):
    return min((watched(rung) for _ in range(3)), key=lambda boxes: sum(boxes.values()))


spent = {name: fastest(rungs[name]) for name in ("usual", "unwatched", "fused", "fit")}

# %% key="where-drawn" jupyter={"source_hidden": true} tags=["hide-input"]
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
# A barra hachurada é o trabalho útil. Em *resto* estão as operações que não entram nas outras barras, e *Python ou espera* é o tempo do relógio menos o de todas as operações. Os quatro laços multiplicam as mesmas matrizes com a mesma biblioteca. Se as barras hachuradas diferem, isso mostra até onde se pode confiar numa figura como esta. Dentro dessa margem, uma barra pequena pode até crescer de um laço para o seguinte. E a soma das barras não reproduz as velocidades da tabela: os tempos foram medidos com o perfilador ligado, que acrescenta um pouco a cada operação, e incluem os preparativos do `fit`. A lista vem de uma única execução; a figura, da melhor de três. Já as contagens são confiáveis: de um degrau para o seguinte, os laços escritos à mão precisam de cada vez menos operações, como a célula exige. O `fit` precisa de algumas a mais que o laço com o Adam fundido, pois mantém três totais e, antes de começar, calcula a função objetivo uma vez, como teste.
#
# ## 8. O passo espera por alguém?
#
# Basta um `if loss > best:` esquecido para que cada passo volte a esperar, porque o Python precisa do número para escolher o caminho. *Numa GPU*, `torch.cuda.set_sync_debug_mode("error")` transforma essas esperas em erros. Numa CPU, não há fila, mas podemos fazer a mesma pergunta. Toda operação passa pelo despachador (*dispatcher*) do PyTorch, e `checks.HostReads` fica de vigia: quem pede um número (`.item()`, `float(...)`, `if ...:`) ou uma forma que depende dos números (`nonzero`)?

# %% key="guard"
def asks(work):
    with checks.HostReads() as reads:
        work()
    return bool(reads.asked)


def steps_of_fit(model, images):
    run = train.Run(model, images)  # o que fit chama
    for chosen in torch.arange(len(images), device=device).split(BATCH):
        run.step(chosen)


watched_ones = {name: rungs[name] for name in ("resident", "unwatched", "fused")}
watched_ones["fit"] = steps_of_fit
found = {
    name: asks(lambda rung=rung: rung(nets.VAE().to(device), some))
    for name, rung in watched_ones.items()
}
assert found == {"resident": True, "unwatched": True, "fused": False, "fit": False}
for name, answer in found.items():
    verdict = say("training-waits" if answer else "training-never-waits")
    print(say("training-guard", name=say(f"training-short-{name}"), verdict=verdict))

# %% [markdown] key="guard-limits"
# Há uma surpresa: o laço sem `.item()` também pergunta. A culpa é do Adam. Quando *não* é fundido, ele lê em Python os seus contadores de passos, um por tensor; *numa GPU*, esses contadores ficam na memória da CPU, e ninguém espera. Além disso, **nenhum vigia vê tudo.** Numa CPU, o Adam fundido também lê os contadores, mas em C++, aonde `HostReads` não chega. Já o perfilador enxerga essas leituras:

# %% key="guard-checked" jupyter={"source_hidden": true} tags=["hide-input"]
reads = {kind: seen.count("aten::item") for kind, seen in
         (("plain", plain), ("fused", in_one))}
assert reads == {"plain": 10, "fused": 10}  # uma vez por tensor
print(say("training-adam-asks", **reads))

# %% [markdown] key="stored"
# ## 9. A mesma tabela, medida com calma
#
# Poucas rodadas bastam para ver a escada, mas não para citar os números dela. O programa de medição do curso sobe quase os mesmos degraus com as 60.000 imagens, por várias épocas e com várias sementes. As velocidades são medianas; as colunas *vezes* e *do limite* trazem medianas das razões calculadas em cada rodada. O limite, ali, é o da biblioteca mais rápida. A tabela é da época em que o próprio `fit` escolhia a biblioteca (a linha da oneDNN mostra essa mudança em separado) e será medida de novo. Nesse programa, o laço usual sorteia um ruído só dele e, portanto, só tem em comum com os outros degraus os pesos iniciais. Por isso, os erros da última coluna são grandes demais para que se aplique a regra do meio nat. Desta tabela, cite só as velocidades. Quem decide é a seção 5, com comparações pareadas e sob o mesmo ruído.

# %% key="stored-table" jupyter={"source_hidden": true} tags=["hide-input"]
def print_stored(kind):
    measured = read(f"training_{kind}")
    if measured is None:
        folder_is_there = RESULTS.is_dir()
        print(say(f"training-none-{kind}" if folder_is_there else "training-no-folder"))
        return
    results = measured["results"]
    print_source(measured)
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
# ## 10. Para mexer: lote e taxa
#
# Cada tamanho de lote tem a sua curva: o ELBO de teste em função da taxa de aprendizado. O ponto cheio é a sua escolha. Os números são os que este caderno mediu há pouco. Se o programa de medição do curso já foi executado, um terceiro controle leva aos números dele.
#
# Onde fica o topo de cada curva? Quando o lote cresce, o topo vai para a direita? Na mesma proporção? O que você concluiria se só conhecesse os pontos em $10^{-3}$?

# %% key="panel-measured" jupyter={"source_hidden": true} tags=["hide-input"]
def just_now():
    points = {key: nats.mean().item() for key, (_, nats) in tried.items()}
    return {"points": points, "images": len(few), "epochs": 1}


def from_tuning(kind):
    measured = read(f"batches_{kind}")
    if measured is None or "tuning" not in measured["results"]:
        return None
    results = measured["results"]
    points = {
        (row["batch_size"], row["learning_rate"]): row["test_elbo"]
        for row in results["tuning"]
    }
    epochs = results["target_epoch"]
    return {"points": points, "images": results["images"], "epochs": epochs}


sources = {"now": just_now(), "cpu": from_tuning("cpu"), "cuda": from_tuning("cuda")}
sources = {name: source for name, source in sources.items() if source}
sizes, rates = (
    sorted({key[i] for source in sources.values() for key in source["points"]})
    for i in (0, 1)
)
assert len(sources["now"]["points"]) == len(BATCHES) * len(RATES)

# %% key="panel-shown" jupyter={"source_hidden": true} tags=["hide-input"]
STYLES = [("o", "-"), ("s", "--"), ("^", ":"), ("D", "-.")]


def draw_choice(batch, rate, source="now"):
    points = sources[source]["points"]
    setting = say("training-setting", batch=batch, rate=rate)
    about = {"images": sources[source]["images"], "epochs": sources[source]["epochs"]}
    about |= {"setting": setting, "where": say(f"training-source-{source}")}
    there = (batch, rate) in points
    key = "training-alt-chosen" if there else "training-alt-missing"
    alt = say(key, elbo=points.get((batch, rate), 0.0), **about)
    figure, (ax,) = figures.picture(alt, width=6.6, height=3.6)
    for number, size in enumerate(sorted({b for b, _ in points})):
        marker, line = STYLES[number % len(STYLES)]
        own = sorted((r, e) for (b, r), e in points.items() if b == size)
        x, y = zip(*own, strict=True)
        how = {"marker": marker, "linestyle": line, "markerfacecolor": "none"}
        label = say("training-batch", batch=size)
        ax.plot(x, y, **how, color="#666666", linewidth=1, label=label)
        if size == batch and there:
            ax.plot(rate, points[batch, rate], marker, color="black", markersize=11)
    ax.set_title(setting + ("" if there else " " + say("training-missing")), loc="left")
    ax.set_xscale("log", base=2)
    ticks = sorted({r for _, r in points})
    ax.set_xticks(ticks, [say("training-rate", rate=r) for r in ticks])
    ax.set(xlabel=say("training-rate-axis"), ylabel=say("training-elbo-axis"))
    ax.legend(fontsize=8, loc="lower center")
    return figure

# %% key="panel-moved" jupyter={"source_hidden": true} tags=["hide-input"]
controls = {
    "batch": sliders.choice(say("training-choose-batch"), sizes, value=128),
    "rate": sliders.choice(
        say("training-choose-rate"),
        [(say("training-rate", rate=rate), rate) for rate in rates],
        value=1e-3,
    ),
}
if len(sources) > 1:
    options = [(say(f"training-source-{name}"), name) for name in sources]
    controls["source"] = sliders.choice(say("training-choose-source"), options)
panel = sliders.panel(draw_choice, **controls)
assert sliders.sweep(panel) >= 4  # às duas pontas de cada controle, e de volta
panel

# %% [markdown] key="checkpoint"
# ## 11. Interrompido e retomado
#
# Um treinamento de horas acaba sendo interrompido: pelo gato, pela companhia de luz ou por quem reservou a mesma GPU. Ele só poderá continuar se *tudo* o que decide o futuro tiver sido salvo: os pesos, os momentos e os contadores do Adam, o estado do ruído (que também define a ordem das imagens na época seguinte) e a posição em que o treinamento parou. Isso forma um *ponto de verificação* (*checkpoint*). A próxima célula grava um no fim da primeira época, de modo que não é preciso anotar a posição, e retoma o treinamento num modelo nascido de outra semente: primeiro com tudo, depois sem uma das partes de cada vez.

# %% key="checkpoint-resumed"
noise = torch if device.type == "cpu" else getattr(torch, device.type)  # torch.cuda


def born(seed):
    torch.manual_seed(seed)
    model = nets.VAE().to(device)
    return model, Adam(model.parameters(), lr=1e-3, fused=True)


def epoch(model, optimizer):
    for x in in_memory(some):  # ordem e ruído vêm do gerador do PyTorch
        loss = from_logits(x, *model(x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return parameters_to_vector(model.parameters()).detach().clone()


def save(path, model, optimizer):
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    state["noise"] = noise.get_rng_state()
    torch.save(state, path.with_suffix(".part"))
    os.replace(path.with_suffix(".part"), path)  # tudo ou nada


def resume(path, without=None):
    model, optimizer = born(seed=99)  # o que não for restaurado vai aparecer
    state = torch.load(path, weights_only=True)  # só tensores, nenhum código
    if without != "model":
        model.load_state_dict(state["model"])
    if without != "optimizer":
        optimizer.load_state_dict(state["optimizer"])
    if without != "noise":
        noise.set_rng_state(state["noise"])
    return epoch(model, optimizer)


path = Path(shelf.name) / "run.pt"
run = born(seed=7)
epoch(*run)
save(path, *run)
undisturbed = epoch(*run)
for without in (None, "model", "optimizer", "noise"):
    equal = torch.equal(resume(path, without), undisturbed)
    assert equal == (without is None) or device.type != "cpu"
    print(say(f"training-resumed-{without}", equal=say(f"training-equal-{equal}")))

# %% [markdown] key="seeds"
# No pacote, basta um argumento: `fit(..., checkpoint=path)`.
#
# ### O que uma semente promete
#
# No mesmo dispositivo, com a mesma versão do PyTorch e **o mesmo número de threads**, a mesma semente dá o mesmo treinamento, bit a bit. A próxima célula exige isso do `fit`, com e sem interrupção. Antes, ela fixa o número de threads, porque o `fit` acompanha os núcleos livres (seção 13).
#
# Fora dessas condições, a semente *não promete nada*. O ruído pode vir de outro gerador, e as somas podem ser divididas em outros pontos. Ora, a soma em ponto flutuante não é associativa, como a célula mostra com três números. *Numa GPU*, a ordem das somas pode variar até no mesmo dispositivo. Para exigir uma ordem fixa, use `torch.use_deterministic_algorithms(True)`, com `CUBLAS_WORKSPACE_CONFIG=:4096:8` no ambiente. A promessa do início desta seção só foi testada em CPUs.

# %% key="seeds-kept" tags=["nbval-check-output"]
def fitted(seed, **options):
    model, _ = born(seed)
    packaged(capture=False, **options)(model, some)
    return parameters_to_vector(model.parameters()).detach()


threads = torch.get_num_threads()
torch.set_num_threads(1)
path = Path(shelf.name) / "run.safetensors"
whole = fitted(7, epochs=2)
fitted(7, epochs=1, checkpoint=path)
resumed = fitted(99, epochs=2, checkpoint=path)
again, other = fitted(7, epochs=2), fitted(8, epochs=2)
torch.set_num_threads(threads)
assert not torch.equal(other, whole)
if device.type == "cpu":
    assert torch.equal(again, whole)
    assert torch.equal(resumed, whole)

a, b, c = torch.tensor([1e8, -1e8, 1.0])  # float32
print(say("training-sums", left=((a + b) + c).item(), right=(a + (b + c)).item()))

# %% [markdown] key="processes"
# ## 12. Vários processos
#
# Como repartir o trabalho entre vários processadores? Cada processo tem uma cópia do modelo e calcula o gradiente da *sua parte do lote*. Depois, todos tiram a média dos gradientes e dão o mesmo passo; sem isso, as cópias se afastariam umas das outras. Como a perda é uma média, a média dos gradientes das partes, ponderada pelo número de imagens de cada uma, é o gradiente do lote inteiro: é pura álgebra. Primeiro, fazemos a conta num só processo, com partes de 43, 43 e 42 imagens.

# %% key="processes-arithmetic"
def given():
    import torch

    from vae_teach import nets

    class Given(nets.VAE):
        def forward(self, x, eps):  # o ruído vem de fora, igual para todos
            mu, logvar = self.encode(x)
            return self.decode_logits(mu + torch.exp(0.5 * logvar) * eps), mu, logvar

    return Given()


def gradient_of(model, x, eps):
    loss = from_logits(x, *model(x, eps))
    return parameters_to_vector(torch.autograd.grad(loss, [*model.parameters()]))


def distance(gradient):
    return ((gradient - whole).abs().max() / whole.abs().max()).item()


torch.manual_seed(0)
model, x, eps = given(), few.pixels[:128].cpu(), torch.randn(128, 2)
whole = gradient_of(model, x, eps)
shares = [slice(rank, None, 3) for rank in range(3)]
weights = [len(x[share]) / len(x) for share in shares]
gradients = [gradient_of(model, x[share], eps[share]) for share in shares]
shared = sum(w * g for w, g in zip(weights, gradients, strict=True))
assert distance(shared) < 1e-6
assert distance(sum(gradients) / 3) > 1e-4  # a média simples é outro gradiente
assert len(whole) == 631_188  # tantos quantos os parâmetros
print(say("training-shares-far", far=distance(shared)))

# %% [markdown] key="torchrun"
# Agora, façamos isso de verdade. O `torchrun` inicia os processos e informa a cada um o número dele (`RANK`) e o total (`WORLD_SIZE`). Cada um executa a função da próxima célula. Três peças do PyTorch fazem o trabalho:
#
# - O `DistributedSampler` diz quais imagens cabem a cada processo. Ele repete algumas para igualar as partes, porque o `DistributedDataParallel`, a seguir, tira a média *simples*. No treinamento, essa repetição causa um desvio pequeno; numa média sobre o conjunto de teste, ela é um erro. Se as imagens são embaralhadas, chame `set_epoch` no início de cada época; do contrário, a ordem será a mesma em todas as épocas.
# - O `DistributedDataParallel` tira a média dos gradientes durante o `backward`, um grupo de cada vez, enquanto os das camadas anteriores ainda estão sendo calculados.
# - O `no_sync` adia essa média. Um processo que divide a sua parte em pedaços (exercício 3) só deve se comunicar uma vez, no último.

# %% key="torchrun-run"
def worker(folder):
    import torch
    import torch.distributed as dist
    import torch.nn.functional as F
    from safetensors.torch import load_file, save_file
    from torch.nn.parallel import DistributedDataParallel
    from torch.utils.data.distributed import DistributedSampler

    dist.init_process_group("gloo")  # "nccl" entre GPUs
    batch, model = load_file(f"{folder}/batch.safetensors"), given()
    model.load_state_dict(load_file(f"{folder}/model.safetensors"))
    several = DistributedDataParallel(model)
    mine = [*DistributedSampler(range(len(batch["x"])), shuffle=False)]

    def backward(chosen):
        x, eps = batch["x"][chosen], batch["eps"][chosen]
        logits, mu, logvar = several(x, eps)
        misfit = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
        ((misfit + kl) / len(mine)).backward()

    half = len(mine) // 2
    with several.no_sync():  # soma aqui e não envia nada
        backward(mine[:half])
    backward(mine[half:])  # aqui os processos se comunicam
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    save_file({"gradient": gradient}, f"{folder}/{dist.get_rank()}.safetensors")
    dist.destroy_process_group()

# %% key="torchrun-launched" jupyter={"source_hidden": true} tags=["hide-input"]
def launch(folder, processes):
    save_file({"x": x, "eps": eps}, folder / "batch.safetensors")
    save_file(model.state_dict(), folder / "model.safetensors")
    program = folder / "worker.py"
    source = [inspect.getsource(given), inspect.getsource(worker)]
    source.append(f"worker({str(folder)!r})\n")
    program.write_text("\n\n".join(source), encoding="utf-8")
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
    assert torch.equal(*gradients)
    assert distance(gradients[0]) < 1e-6
    print(say("training-two-processes", far=distance(gradients[0])))
else:
    print(say("training-no-processes"))

# %% [markdown] key="torchrun-commands"
# O comando do pacote já treina desse modo, sem mudança nenhuma, numa máquina ou em duas:
#
# ```
# torchrun --standalone --nproc-per-node 4 -m vae_teach.train --batch-size 512
# torchrun --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d --rdzv-endpoint HOST:29500 -m vae_teach.train --batch-size 512
# ```
#
# Em `--batch-size`, indica-se o lote de todos os processos juntos: 512 imagens repartidas entre quatro processos dão 128 para cada um; entre oito, no segundo comando, dão 64. Quem mantém 128 *por processo* e acrescenta processos sobe, sem perceber, o falso degrau da seção 6.
#
# E a velocidade? A cada passo, os processos trocam números entre si: aqui são 631.188, um por parâmetro. O cálculo cresce com o lote de cada processo; a comunicação, não. Por isso, a divisão compensa com lotes maiores por processo ou com camadas que usam cada peso muitas vezes, como as convolucionais. Numa rede tão pequena, ela pode custar mais do que rende. A próxima célula lê o que foi medido numa CPU (o ± indica um erro padrão).

# %% key="processes-measured" jupyter={"source_hidden": true} tags=["hide-input"]
measured = read("growth_cpu")
if measured is None:
    print(say("training-no-growth"))
else:
    results = measured["results"]
    print_source(measured, "training-growth-on")
    seconds = {row["name"]: row["seconds"] for row in results["rows"]}
    for row in results["processes"]:
        own = seconds[f"processes {row['processes']}"]
        values = {"elbo": row["test_elbo"], "error": row["standard_error"]}
        values |= {"speed": results["base"]["images"] / own}
        values |= {"times": seconds["processes 1"] / own}
        print(say("training-growth-row", count=row["processes"], **values))

# %% [markdown] key="crowd"
# ## 13. Muita gente nos mesmos núcleos
#
# O PyTorch usa uma thread para cada núcleo, sem levar em conta quem mais esteja usando a máquina. No fim de cada operação, as threads esperam umas pelas outras, e essa espera é *ativa* (*spinning*): cada uma verifica sem parar se as outras já terminaram. Se quatro leitores deste curso dividem dois núcleos, uma thread em espera ativa pode ocupar justamente o núcleo de que precisa a thread pela qual ela espera.
#
# O curso põe logo para dormir as threads que esperam (`GOMP_SPINCOUNT`, no OpenMP da GNU). Além disso, quatro vezes por segundo, os laços longos do pacote verificam quantos núcleos estão livres e usam esse número de threads; definir `OMP_NUM_THREADS` desliga esse ajuste. Na saída abaixo, *trabalho* é o que todos os leitores fazem por segundo, como fração do que faz um leitor sozinho; *espera* é o tempo de uma tarefa dividido pelo que ela levaria se cada leitor recebesse a sua parte justa da máquina. Espera igual a 1 é a divisão justa da máquina, e trabalho igual a 1 diz que nada se perde ao dividi-la. Trabalho acima de 1 e espera abaixo de 1 são possíveis, porque um leitor sozinho não ocupa os núcleos o tempo todo.

# %% key="crowd-measured" jupyter={"source_hidden": true} tags=["hide-input"]
measured = read("crowd")
if measured is None:
    print(say("training-no-crowd"))
else:
    print_source(measured)
    for row in measured["results"]["rows"]:
        if row["readers"] == 4:
            kind, policy = (say(f"training-crowd-{row[k]}") for k in ("kind", "policy"))
            values = {"work": row["work"], "wait": row["wait"]}
            print(say("training-crowd-row", kind=kind, policy=policy, **values))

# %% [markdown] key="answer"
# ## 14. A resposta
#
# O que é preciso para manter o processador ocupado? É preciso que os dados já estejam no dispositivo, que as ordens não esperem por respostas e que as operações sejam poucas e grandes. Convém usar só a precisão que a resposta exige, quando o processador ganha com isso. E, ao lado do relógio, é preciso ter uma régua. Na máquina em que este caderno foi executado pela última vez, o resultado foi este:

# %% key="answer-measured"
top = max((name for name in rungs if passed[name]), key=speed.get)
far, error = gained[top]
values = relative(speed[top]) | {"before": relative(speed["usual"])["share"]}
values |= {"after": relative(speed["fit"])["share"]}
print(say("training-answer", best=names[top], far=far, error=error, **values))

# %% [markdown] key="next"
# **Para ler.** Burda, Grosse e Salakhutdinov (2015) treinaram redes com lotes de 20, por 3.280 épocas. Quanto tempo a sua máquina levaria para treinar a nossa rede desse modo? Na documentação do PyTorch, leia sobre a semântica de CUDA, a precisão mista automática, o perfilador e o `torchrun`.
#
# **No curso.** A lição 05 investiga o que o modelo treinado aprendeu. Na lição 06, o processador fará um único produto grande onde outros programas fazem dez mil pequenos.

# %% [markdown] key="exercises"
# ## Exercícios
#
# Escreva a sua resposta no lugar das reticências e execute a célula. A verificação responde na hora: “Certo” ou uma pista. As soluções estão recolhidas logo abaixo de cada questão.
#
# ### 1. Um passo que nunca espera
#
# Escreva uma função que dê um passo de treinamento. Ela recebe `model`, que leva `x` a `logits, mu, logvar`; `optimizer`; um lote `x`, de forma `(B, D)`; e `total`, um tensor escalar, de forma `()`. A perda é a `from_logits` da seção 4, e o otimizador já vem fundido. O passo deve reduzir a perda *média* do lote, somar a `total`, *in-place*, a *soma* das perdas e não devolver nada. A verificação vigia o passo como na seção 8: ele não pode pedir um número sequer.

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
# Esta função deveria devolver o ELBO médio de todas as imagens; `score(x)` dá um número por imagem, `(B,)`. Ela roda e devolve um número sem reclamar.
#
# ```python
# def mean_elbo(score, batches):
#     total = 0.0
#     for x in batches:
#         total += score(x).mean()
#         return total / len(batches)
# ```
#
# Há dois erros, um escondido atrás do outro. O segundo só aparece depois que o primeiro é corrigido e, mesmo assim, nem sempre. Escreva a função como ela deveria ser.

# %% key="exercise-mean" tags=["nbval-check-output"]
def my_mean_elbo(score, batches):
    ...


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
# O lote que você quer não cabe na memória da sua GPU. Processe-o em pedaços: calcule o gradiente da *média* de `loss(w, x)` sobre todas as imagens de `x`, de forma `(B, D)`. Nunca chame `loss` com mais de `size` imagens nem guarde o grafo de um pedaço para o seguinte. A função `loss` dá um número por imagem; `w` tem a forma `(D,)` e requer gradiente. Devolva o gradiente, de forma `(D,)`. Ele deve ser igual ao do lote inteiro, quer `size` divida `B`, quer não.

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
# Uma parte do seu programa consome a fração `share` do tempo, e você a torna `factor` vezes mais rápida. Quantas vezes mais rápido fica o programa inteiro? Depois, olhe as barras da seção 7, no painel do `fit` (*pacote*): quanto se ganharia com um otimizador infinitamente rápido?

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
# Com um fator infinito, o programa inteiro fica $1 / (1 - s)$ vezes mais rápido, em que $s$ é a fração do tempo que o otimizador consome. Se uma parte consome um quinto do tempo, a velocidade aumenta em no máximo um quarto, por mais engenhoso que você seja. É a lei de Amdahl, e por causa dela convém olhar o perfil antes de escrever uma linha de código.
#
# </details>
