"""What the pages themselves say, in both languages, and where each page stands."""

LANGUAGES = {"pt": "pt_BR", "en": "en"}
NAMES = {"pt": "Português", "en": "English"}
OTHER = {"pt": "en", "en": "pt"}
# The pages beside the lessons, in reading order: before them, and after them.
BEFORE = ("syllabus", "install")
AFTER = ("glossary", "references", "teaching", "api", "changes")

PHRASES = {
    "project": ("Autocodificadores variacionais", "Variational autoencoders"),
    "lessons": ("Lições", "Lessons"),
    "course": ("O curso", "The course"),
    "reference": ("Consulta", "Reference"),
    "skip": ("Ir para o conteúdo", "Skip to content"),
    "menu": ("Páginas do curso", "Pages of the course"),
    "contents": ("Nesta página", "On this page"),
    "theme": (
        "Mudar entre claro, escuro e automático",
        "Change between light, dark and automatic",
    ),
    "top": ("Voltar ao topo", "Back to top"),
    "next": ("Próxima", "Next"),
    "previous": ("Anterior", "Previous"),
    "here": ("Caminho", "Where you are"),
    "switch": ("Ler esta página em inglês", "Leia esta página em português"),
    "start": ("Início", "Start"),
    "search": ("Busca", "Search"),
    "search-label": ("Buscar no curso", "Search the course"),
    "search-go": ("Buscar", "Search"),
    "search-script": (
        "A busca precisa de JavaScript, que está desligado.",
        "Searching needs JavaScript, which is off.",
    ),
    "search-none": ("Nada encontrado para “{query}”.", "Nothing found for “{query}”."),
    "search-one": ("Um lugar fala de “{query}”.", "One place mentions “{query}”."),
    "search-many": (
        "{count} lugares falam de “{query}”.",
        "{count} places mention “{query}”.",
    ),
    "copy": ("Copiar", "Copy"),
    "copied": ("Copiado", "Copied"),
    "copy-failed": ("Use Ctrl+C", "Use Ctrl+C"),
    "scroll": ("Role para os lados", "Scroll sideways"),
    "code-show": ("Mostrar o código", "Show the code"),
    "code-hide": ("Ocultar o código", "Hide the code"),
    "solution": ("Solução", "Solution"),
    "notebook": ("Baixar este notebook", "Download this notebook"),
    "licence": (
        "Texto e figuras: CC BY 4.0. Código: MIT.",
        "Text and figures: CC BY 4.0. Code: MIT.",
    ),
    "made": (
        "Feito com {sphinx}, {theme} e {nb}. Nada aqui vem de fora.",
        "Made with {sphinx}, {theme} and {nb}. Nothing here comes from elsewhere.",
    ),
    "column-number": ("Nº", "No."),
    "column-lesson": ("Lição", "Lesson"),
    "column-time": ("Tempo", "Time"),
    "column-questions": ("Exercícios", "Exercises"),
    "glossary-en": ("Em inglês", "In English"),
    "glossary-pt": ("Em português", "In Portuguese"),
    "glossary-not": ("Não se usa aqui", "Not used here"),
    "glossary-text": ("(em texto corrido)", "(in running text)"),
    "glossary-for": ("(para ", "(for "),
    "api-title": ("Referência do pacote", "Package reference"),
    "api-intro": (
        "O que os notebooks importam de `vae_teach`, módulo por módulo. As descrições "
        "vêm do código-fonte, que está em inglês.",
        "What the notebooks import from `vae_teach`, module by module, from the source "
        "code.",
    ),
    # --- what stands where a kernel would be
    "sliders-still": (
        "Estes controles pedem uma conta ao Python a cada movimento, e esta página não "
        "tem Python: aqui fica a última imagem{at}. Eles se movem no JupyterLab, com "
        "`uv run lab pt`.",
        "These controls ask Python to compute at each move, and this page has no "
        "Python: what stays here is the last picture{at}. They move in JupyterLab, "
        "with `uv run lab en`.",
    ),
    "sliders-at": (", em {values}", ", at {values}"),
    "sliders-explorer": (
        "Já o <a href='#{anchor}'>explorador</a> desta página se move aqui mesmo.",
        "The <a href='#{anchor}'>explorer</a> on this page moves right here.",
    ),
    "sliders-alt": (
        "O dígito que o decodificador desenha em {values}",
        "The digit that the decoder draws at {values}",
    ),
    "explorer-still": (
        "Aqui aparece um explorador do espaço latente, se o JavaScript estiver ligado. "
        "Sem ele, fica a imagem do que o decodificador desenha em {count} pontos do "
        "plano.",
        "An explorer of the latent space appears here if JavaScript is on. Without it, "
        "what stays is a picture of what the decoder draws at {count} points of the "
        "plane.",
    ),
    "explorer-alt": (
        "Grade de {side} por {side} dígitos decodificados: {across} cresce para a "
        "direita e {up} para cima, de {low} a {high}.",
        "A grid of {side} by {side} decoded digits: {across} grows to the right and "
        "{up} upwards, from {low} to {high}.",
    ),
}


def phrase(name: str, language: str, **values: object) -> str:
    """Return what a page says, its gaps filled in."""
    text = PHRASES[name][list(LANGUAGES).index(language)]
    return text.format(**values) if values else text


def number(value: float, language: str, decimals: int = 1) -> str:
    """Return a number as the language writes it."""
    text = f"{value:.{decimals}f}".replace("-", "−")
    return text.replace(".", ",") if language == "pt" else text
