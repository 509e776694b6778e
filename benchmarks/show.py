"""Tables and plots of what the benchmarks measured, in both languages.

Run: uv run python benchmarks/show.py
Reads results/*.json; writes README.md, README.pt.md and plots/{pt,en}/*.png. A test
holds the pages equal to what this makes of the results.
"""

import json
from pathlib import Path
from typing import Any

import report
from matplotlib import pyplot as plt
from matplotlib.ticker import MaxNLocator

HERE = Path(__file__).resolve().parent
LANGUAGES = ("en", "pt")
INK, OURS, OTHERS, LIMIT = "#444444", "#0072B2", "#999999", "#D55E00"

Results = dict[str, Any]
Table = list[list[str]]

WORDS = {
    "en": {
        "title": "Benchmarks",
        "intro": "What the course says about speed is measured by the scripts in this "
        "folder; this page is written by `benchmarks/show.py` from their results in "
        "`results/`. Contestants run in turns, so that a machine's moods fall on all "
        "of them alike, and every ratio is the median of ratios within rounds; the "
        "range in brackets holds the lowest and the highest.",
        "machine": "Measured on {date}, on {processor} with {cores} cores "
        "({threads} threads{gpu}), Python {python}, PyTorch {torch}, commit {commit}.",
        "missing": "Not measured yet: {why}",
        "gpu-why": "it needs a GPU. `uv run python benchmarks/training.py` measures it "
        "on a machine that has one.",
        "training": "The ladder: one epoch of MNIST",
        "training-text": "784-400-2, Adam 1e-3, float32. Each rung changes one thing; "
        "the test ELBO after {epochs} epochs, over {seeds} seeds, shows that it does "
        "not change the answer (larger batches do). The limit is the time of the "
        "step's matrix products alone, by the faster of PyTorch's two libraries.",
        "training-head": [
            "rung",
            "seconds",
            "times as fast as the usual loop",
            "share of the limit",
            "test ELBO",
            "difference to the usual loop",
        ],
        "peers": "The same network in other libraries",
        "peers-text": "One epoch at batch 128, the same binary images in memory for "
        "all, on the CPU.",
        "peers-fused-text": "The same with fused Adam for all:",
        "peers-head": ["", "seconds", "`fit` is as many times as fast", "test ELBO"],
        "exact": "Exact log p(x) of the 10,000 MNIST test images",
        "exact-text": "Mean log p(x): {log_likelihood:.3f} ± {standard_error:.2f} nats "
        "(on a plane of ±8 instead of ±5: {log_likelihood_on_a_wider_plane:.3f}). "
        "A process that does nothing else holds {peak_mb:.0f} MB at most, of which "
        "{of_which_before_mb:.0f} MB before it starts. Errors are against a grid of "
        "1600 in float64, on 1,000 images.",
        "exact-head": ["grid", "seconds", "mean error (nats)", "largest error (nats)"],
        "growth": "How an epoch grows",
        "growth-text": "One epoch of `train.fit`; where nothing else is said, 60,000 "
        "images, 2 latents, batch 128. Rounds: {rounds}. How much a single turn may "
        "stray, the ranges in the first table show.",
        "growth-head": ["", "seconds", "images per second"],
        "processes-text": "Test ELBO after {epochs} epochs, mean of three seeds:",
        "processes-head": ["processes", "test ELBO"],
        "batches": "Batch size and precision",
        "batches-text": "One epoch of `train.fit`, in turns, and the test ELBO after "
        "{epochs} epochs with its standard error over {seeds} seeds, all at the "
        "learning rate 1e-3. bfloat16 is allowed inside the matrix products; lesson 04 "
        "shows how to tell whether a processor makes use of that.",
        "batches-head": ["batch size, products", "images per second", "test ELBO"],
        "highest": "float32",
        "high": "TF32",
        "medium": "bfloat16 allowed",
        "lessons": "The lessons",
        "lessons-text": "One after the other, each in a fresh kernel, exercises and "
        "solutions included. The first that needs the shared model trains it; the "
        "others find it.",
        "lessons-head": ["lesson", "seconds", "memory at most (MB)", "size (kB)"],
        "explorer": "The explorer",
        "explorer-text": "784-400-2 in {browser}. While a point is dragged, the page "
        "draws {frames} frames a second; {late} of them are late. With the processor "
        "slowed down, as a phone would be:",
        "explorer-head": [
            "processor slowed down",
            "one decode (ms)",
            "all of a frame's work (ms)",
        ],
        "book": "The book",
        "book-text": "Both languages build in {build} s. What all pages share weighs "
        "{shared} MB. On the built page, opened from the disk, one decode takes "
        "{decode} ms. A page with what it alone needs:",
        "book-head": ["page", "kB"],
        "images": "images",
        "latents": "latents",
        "batch": "batch size",
        "threads": "threads",
        "processes": "processes, one thread each",
        "base": "as said above",
        "seconds": "seconds per epoch",
        "seconds-all": "seconds for 10,000 images",
        "error": "mean error (nats)",
        "rungs": {
            "usual": "usual loop: DataLoader image by image, `.item()`",
            "resident": "dataset resident on the device",
            "no-waiting": "no waiting within an epoch",
            "logits": "logits, gradient of the likelihood in one step",
            "fused": "fused Adam",
            "onednn": "linear layers by oneDNN",
            "compiled": "torch.compile",
            "plain-fit": "`train.fit`, plain steps",
            "fit": "`train.fit`",
            "fit-high": "`train.fit`, TF32",
            "fit-medium": "`train.fit`, bfloat16 allowed",
            "fit-512": "`train.fit`, batch 512",
            "fit-2048": "`train.fit`, batch 2048",
            "limit-mkl": "matrix products alone, by MKL",
            "limit": "matrix products alone",
        },
    },
    "pt": {
        "title": "Medições de desempenho",
        "intro": "O que o curso diz sobre velocidade é medido pelos programas desta "
        "pasta; esta página é escrita por `benchmarks/show.py` a partir dos resultados "
        "em `results/`. Os concorrentes se revezam, para que os humores da máquina "
        "caiam igualmente sobre todos, e cada razão é a mediana das razões dentro das "
        "rodadas; entre parênteses, a menor e a maior.",
        "machine": "Medido em {date}, em {processor} com {cores} núcleos "
        "({threads} threads{gpu}), Python {python}, PyTorch {torch}, commit {commit}.",
        "missing": "Ainda não medido: {why}",
        "gpu-why": "é preciso uma GPU. `uv run python benchmarks/training.py` mede em "
        "uma máquina que a tenha.",
        "training": "A escada: uma época do MNIST",
        "training-text": "784-400-2, Adam 1e-3, float32. Cada degrau muda uma coisa; o "
        "ELBO de teste depois de {epochs} épocas, com {seeds} sementes, mostra que a "
        "resposta não muda (com lotes maiores ela muda). O limite é o tempo dos "
        "produtos de matrizes do passo, sozinhos, pela mais rápida das duas "
        "bibliotecas do PyTorch.",
        "training-head": [
            "degrau",
            "segundos",
            "quantas vezes mais rápido que o laço usual",
            "fração do limite",
            "ELBO de teste",
            "diferença para o laço usual",
        ],
        "peers": "A mesma rede em outras bibliotecas",
        "peers-text": "Uma época com lotes de 128, as mesmas imagens binárias na "
        "memória para todos, na CPU.",
        "peers-fused-text": "O mesmo, com Adam fundido para todos:",
        "peers-head": [
            "",
            "segundos",
            "quantas vezes mais rápido é o `fit`",
            "ELBO de teste",
        ],
        "exact": "log p(x) exato das 10.000 imagens de teste do MNIST",
        "exact-text": "log p(x) médio: {log_likelihood:.3f} ± {standard_error:.2f} "
        "nats (num plano de ±8 em vez de ±5: {log_likelihood_on_a_wider_plane:.3f}). "
        "Um processo que não faz mais nada ocupa no máximo {peak_mb:.0f} MB, dos quais "
        "{of_which_before_mb:.0f} MB antes de começar. Erros em relação a uma grade de "
        "1600 em float64, em 1.000 imagens.",
        "exact-head": [
            "grade",
            "segundos",
            "erro médio (nats)",
            "maior erro (nats)",
        ],
        "growth": "Como cresce uma época",
        "growth-text": "Uma época de `train.fit`; onde nada mais é dito, 60.000 "
        "imagens, 2 dimensões latentes, lotes de 128. Rodadas: {rounds}. O quanto uma "
        "vez isolada pode variar, mostram os intervalos da primeira tabela.",
        "growth-head": ["", "segundos", "imagens por segundo"],
        "processes-text": "ELBO de teste depois de {epochs} épocas, média de três "
        "sementes:",
        "processes-head": ["processos", "ELBO de teste"],
        "batches": "Tamanho do lote e precisão",
        "batches-text": "Uma época de `train.fit`, em revezamento, e o ELBO de teste "
        "depois de {epochs} épocas com seu erro padrão sobre {seeds} sementes, sempre "
        "com taxa de aprendizado 1e-3. O bfloat16 é permitido dentro dos produtos de "
        "matrizes; a lição 04 mostra como saber se um processador o aproveita.",
        "batches-head": ["lote, produtos", "imagens por segundo", "ELBO de teste"],
        "highest": "float32",
        "high": "TF32",
        "medium": "bfloat16 permitido",
        "lessons": "As lições",
        "lessons-text": "Uma depois da outra, cada uma num kernel novo, com exercícios "
        "e soluções. A primeira que precisa do modelo comum o treina; as outras o "
        "encontram pronto.",
        "lessons-head": ["lição", "segundos", "memória máxima (MB)", "tamanho (kB)"],
        "explorer": "O explorador",
        "explorer-text": "784-400-2 no {browser}. Enquanto se arrasta um ponto, a "
        "página desenha {frames} quadros por segundo; {late} deles atrasam. Com o "
        "processador desacelerado, como seria num celular:",
        "explorer-head": [
            "processador desacelerado",
            "uma decodificação (ms)",
            "todo o trabalho de um quadro (ms)",
        ],
        "book": "O livro",
        "book-text": "As duas línguas são montadas em {build} s. O que todas as "
        "páginas partilham pesa {shared} MB. Na página pronta, aberta do disco, uma "
        "decodificação leva {decode} ms. Uma página, com o que só ela usa:",
        "book-head": ["página", "kB"],
        "images": "imagens",
        "latents": "dimensões latentes",
        "batch": "tamanho do lote",
        "threads": "threads",
        "processes": "processos de uma thread",
        "base": "como dito acima",
        "seconds": "segundos por época",
        "seconds-all": "segundos para 10.000 imagens",
        "error": "erro médio (nats)",
        "rungs": {
            "usual": "laço usual: DataLoader imagem a imagem, `.item()`",
            "resident": "dados residentes no dispositivo",
            "no-waiting": "sem esperas dentro da época",
            "logits": "logits, gradiente da verossimilhança num só passo",
            "fused": "Adam fundido",
            "onednn": "camadas lineares por oneDNN",
            "compiled": "torch.compile",
            "plain-fit": "`train.fit`, passos comuns",
            "fit": "`train.fit`",
            "fit-high": "`train.fit`, TF32",
            "fit-medium": "`train.fit`, bfloat16 permitido",
            "fit-512": "`train.fit`, lotes de 512",
            "fit-2048": "`train.fit`, lotes de 2048",
            "limit-mkl": "só os produtos de matrizes, por MKL",
            "limit": "só os produtos de matrizes",
        },
    },
}


def number(value: float, digits: int, language: str) -> str:
    """Write a number with the language's decimal mark and a true minus sign."""
    text = f"{value:,.{digits}f}".replace("-", "−")
    return text.translate(str.maketrans(".,", ",.")) if language == "pt" else text


def load(name: str) -> Results | None:
    """Return what a benchmark wrote, or None where nobody has run it."""
    path = report.RESULTS / f"{name}.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def markdown(head: list[str], rows: Table) -> str:
    """Return a table."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine(found: Results, language: str) -> str:
    """Say on what it was measured."""
    told = found["machine"]
    gpu = f", {told['accelerator']}" if told["accelerator"] else ""
    return WORDS[language]["machine"].format(**told, gpu=gpu)


def spread(row: Results, key: str, language: str) -> str:
    """Write a ratio with its range."""
    low, high = (number(row[name], 2, language) for name in ("lowest", "highest"))
    return f"{number(row[key], 2, language)} ({low} – {high})"


def training_rows(found: Results, language: str) -> Table:
    """Return a line a rung."""
    words, rows = WORDS[language], []
    for row in found["results"]["rows"]:
        line = [words["rungs"][row["name"]], number(row["seconds"], 2, language)]
        line.append(spread(row, "times_faster", language))
        line.append(number(row["share_of_limit"], 2, language))
        if "test_elbo" in row:
            apart = number(row["elbo_difference"], 2, language)
            error = number(row["standard_error"], 2, language)
            line += [number(row["test_elbo"], 2, language), f"{apart} ± {error}"]
        rows.append(line + [""] * (6 - len(line)))
    return rows


def peers_rows(found: Results, language: str) -> Table:
    """Return a line a library."""
    rows = []
    for row in found["results"]["rows"]:
        elbo = number(row["test_elbo"], 2, language)
        error = number(row["standard_error"], 2, language)
        version = found["results"]["versions"].get(row["name"], "")
        name = "`train.fit`" if row["name"] == "fit" else f"{row['name']} {version}"
        fast = (
            "" if row["name"] == "fit" else spread(row, "fit_times_as_fast", language)
        )
        rows.append(
            [name, number(row["seconds"], 2, language), fast, f"{elbo} ± {error}"]
        )
    return rows


def exact_rows(found: Results, language: str) -> Table:
    """Return a line a grid."""
    return [
        [
            row["name"],
            number(row["seconds"], 2, language),
            number(row["mean_error"], 5, language),
            number(row["largest_error"], 5, language),
        ]
        for row in found["results"]["rows"]
    ]


def growth_rows(found: Results, language: str) -> Table:
    """Return a line a kind and value."""
    rows = []
    for row in found["results"]["rows"]:
        kind, _, value = row["name"].partition(" ")
        images = int(value) if kind == "images" else found["results"]["base"]["images"]
        name = WORDS[language][kind] + (f" {value}" if value else "")
        speed = number(images / row["seconds"], 0, language)
        rows.append([name, number(row["seconds"], 2, language), speed])
    return rows


def section(title: str, *parts: str) -> str:
    """Return a heading and what stands under it."""
    return "\n\n".join((f"## {title}", *parts))


def plot(name: str, alt: str, language: str) -> str:
    """Return the picture of a section."""
    return f"![{alt}](plots/{language}/{name}.png)"


def training_section(device: str, language: str) -> str:
    """Return the ladder on a device, or say that nobody has climbed it there."""
    words, found = WORDS[language], load(f"training_{device}")
    title = f"{words['training']} ({device.upper().replace('CUDA', 'GPU')})"
    if found is None:
        return section(title, words["missing"].format(why=words["gpu-why"]))
    epochs, seeds = found["results"]["rounds"] + 1, found["results"]["seeds"]
    return section(
        title,
        words["training-text"].format(epochs=epochs, seeds=seeds),
        markdown(words["training-head"], training_rows(found, language)),
        plot(f"training_{device}", words["training"], language),
        machine(found, language),
    )


def page(language: str) -> str:
    """Return the whole page."""
    words = WORDS[language]
    parts = [f"# {words['title']}", words["intro"]]
    parts += [training_section(device, language) for device in ("cpu", "cuda")]
    if peers := load("peers"):
        body = [words["peers-text"]]
        body.append(markdown(words["peers-head"], peers_rows(peers, language)))
        if fused := load("peers_fused"):
            body.append(words["peers-fused-text"])
            body.append(markdown(words["peers-head"], peers_rows(fused, language)))
        parts.append(section(words["peers"], *body, machine(peers, language)))
    if exact := load("exact"):
        told = {
            name: _Decimal(value, language)
            for name, value in exact["results"].items()
            if isinstance(value, float | int)
        }
        parts.append(
            section(
                words["exact"],
                words["exact-text"].format(**told),
                markdown(words["exact-head"], exact_rows(exact, language)),
                plot("exact", words["exact"], language),
                machine(exact, language),
            )
        )
    if growth := load("growth_cpu"):
        parts.append(growth_section(growth, language))
    for name, body in BODIES.items():
        if found := load(name):
            title = words[name.removesuffix("_cpu").replace("notebooks", "lessons")]
            parts.append(
                section(
                    title, *body(found["results"], language), machine(found, language)
                )
            )
    return "\n\n".join(parts) + "\n"


def growth_section(found: Results, language: str) -> str:
    """Return how an epoch grows, and what several processes learn."""
    words = WORDS[language]
    body = [words["growth-text"].format(rounds=found["results"]["rounds"])]
    body.append(markdown(words["growth-head"], growth_rows(found, language)))
    body.append(plot("growth_cpu", words["growth"], language))
    learnt = [
        [
            str(row["processes"]),
            f"{number(row['test_elbo'], 2, language)} ± "
            f"{number(row['standard_error'], 2, language)}",
        ]
        for row in found["results"]["processes"]
    ]
    body.append(words["processes-text"].format(epochs=found["results"]["epochs"]))
    body.append(markdown(words["processes-head"], learnt))
    return section(words["growth"], *body, machine(found, language))


def batches_body(results: Results, language: str) -> list[str]:
    """Return speed and ELBO of each batch size and precision."""
    words, rows = WORDS[language], []
    for row in results["rows"]:
        name = f"{row['batch_size']}, {words[row['precision']]}"
        elbo = number(row["test_elbo"], 2, language)
        error = number(row["standard_error"], 2, language)
        speed = number(row["images_per_second"], 0, language)
        rows.append([name, speed, f"{elbo} ± {error}"])
    text = words["batches-text"].format(**results)
    return [text, markdown(words["batches-head"], rows)]


def lessons_body(results: list[Results], language: str) -> list[str]:
    """Return what each lesson costs to run."""
    words = WORDS[language]
    rows = [
        [
            row["notebook"],
            number(row["seconds"], 0, language),
            number(row["peak_memory_mb"], 0, language),
            number(row["size_kb"], 0, language),
        ]
        for row in results
    ]
    return [words["lessons-text"], markdown(words["lessons-head"], rows)]


def explorer_body(results: Results, language: str) -> list[str]:
    """Return how long a decode and a frame take in the browser."""
    words, first = WORDS[language], results["rows"][0]
    rows = [
        [
            f"{row['slowdown']} ×",
            number(row["decode_ms"], 2, language),
            number(row["work_ms"], 1, language),
        ]
        for row in results["rows"]
    ]
    frames = number(first["frames_per_second"], 1, language)
    late = number(100 * first["late_frames"], 0, language) + "%"
    text = words["explorer-text"]
    text = text.format(browser=results["browser"], frames=frames, late=late)
    return [text, markdown(words["explorer-head"], rows)]


def book_body(results: Results, language: str) -> list[str]:
    """Return what the book weighs, and how long it takes."""
    words = WORDS[language]
    rows = [
        [name, number(size / 1000, 0, language)]
        for name, size in results["lessons"].items()
    ]
    text = words["book-text"].format(
        build=number(results["build_median"], 0, language),
        shared=number(results["shared"] / 1e6, 1, language),
        decode=number(results["decode"]["median_ms"], 2, language),
    )
    return [text, markdown(words["book-head"], rows)]


BODIES = {
    "batches_cpu": batches_body,
    "notebooks": lessons_body,
    "explorer": explorer_body,
    "book": book_body,
}


class _Decimal:
    """A number that str.format writes with the language's decimal mark."""

    def __init__(self, value: float, language: str) -> None:
        self.value, self.language = value, language

    def __format__(self, how: str) -> str:
        return number(self.value, int(how[1:-1]), self.language)


# --- plots ---------------------------------------------------------------------------


def draw_ladder(found: Results, language: str) -> plt.Figure:
    """Draw a bar a rung: seconds an epoch, and a line where the limit is."""
    words, rows = WORDS[language], found["results"]["rows"]
    rungs = [row for row in rows if not row["name"].startswith("limit")][::-1]
    (limit,) = (row["seconds"] for row in rows if row["name"] == "limit")
    figure, ax = plt.subplots(figsize=(8, 0.42 * len(rungs) + 1.2))
    names = [words["rungs"][row["name"]].replace("`", "") for row in rungs]
    colors = [OURS if "fit" in row["name"] else OTHERS for row in rungs]
    bars = ax.barh(names, [row["seconds"] for row in rungs], color=colors)
    ax.bar_label(
        bars,
        [number(row["seconds"], 2, language) for row in rungs],
        padding=3,
        color=INK,
    )
    ax.axvline(limit, color=LIMIT, linestyle="--", label=words["rungs"]["limit"])
    ax.legend(loc="lower right")
    ax.set_xlim(0, 1.12 * max(row["seconds"] for row in rungs))
    ax.set_xlabel(words["seconds"])
    return figure


def draw_exact(found: Results, language: str) -> plt.Figure:
    """Draw error against seconds, a point a grid."""
    words, rows = WORDS[language], found["results"]["rows"]
    figure, ax = plt.subplots(figsize=(6, 4))
    seconds = [row["seconds"] for row in rows]
    ax.semilogy(seconds, [row["mean_error"] for row in rows], "o", color=OURS)
    for row in rows:
        name = f"  {row['name']} × {row['name']}"
        ax.text(row["seconds"], row["mean_error"], name, color=INK, fontsize=8)
    ax.axhline(1e-3, color=LIMIT, linestyle="--")
    ax.set_xlim(0, 1.25 * max(seconds))
    ax.set_xlabel(words["seconds-all"])
    ax.set_ylabel(words["error"])
    return figure


def draw_growth(found: Results, language: str) -> plt.Figure:
    """Draw seconds an epoch against images, latents and batch size."""
    words, results = WORDS[language], found["results"]
    rows = {row["name"]: row["seconds"] for row in results["rows"]}
    kinds = ("images", "latents", "batch")
    figure, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
    for ax, kind in zip(axes, kinds, strict=True):
        points = {results["base"][kind]: rows["base"]}
        for name, seconds in rows.items():
            if name.startswith(kind):
                points[int(name.split()[1])] = seconds
        values = sorted(points)
        ax.semilogx(values, [points[value] for value in values], "o-", color=OURS)
        ax.set_xticks(values, [str(value) for value in values], rotation=60)
        ax.minorticks_off()
        ax.set_ylim(0, None)
        ax.set_xlabel(words[kind])
        ax.yaxis.set_major_formatter(lambda value, _: number(value, 1, language))
        ax.yaxis.set_major_locator(MaxNLocator(5))
    axes[0].set_ylabel(words["seconds"])
    return figure


PLOTS = {
    "training_cpu": draw_ladder,
    "training_cuda": draw_ladder,
    "exact": draw_exact,
    "growth_cpu": draw_growth,
}


def main() -> None:
    """Write both pages and all plots."""
    for language in LANGUAGES:
        suffix = "" if language == "en" else f".{language}"
        (HERE / f"README{suffix}.md").write_text(page(language), encoding="utf-8")
        folder = HERE / "plots" / language
        folder.mkdir(parents=True, exist_ok=True)
        for name, draw in PLOTS.items():
            if found := load(name):
                figure = draw(found, language)
                figure.savefig(folder / f"{name}.png", dpi=110, bbox_inches="tight")
                plt.close(figure)


if __name__ == "__main__":
    main()
