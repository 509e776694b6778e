"""The house style, as far as a machine can see it: format, types, layers, imports."""

import ast
import graphlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from listing import lists

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "vae_teach"
# A module imports only what is in the lines above its own; lab is apart from all.
LAYERS = """
    words
    guards copies records
    exercises
    collect
    lab strokes densities nets speed
    models
    data bounds
    exact annealing
    train
    figures
    sliders explorer checks
    playground
    train.__main__ checks.__main__
"""
RANK = {n: i for i, line in enumerate(LAYERS.split("\n")) for n in line.split()}


@pytest.mark.parametrize(
    "command",
    ["ruff check", "ruff format --check", "mypy"],
    ids=lambda command: command.replace(" ", "-"),
)
def test_tools_find_nothing(command):
    """In the package, ruff's D rules also ask for a docstring of every public thing."""
    done = subprocess.run(
        [sys.executable, "-m", *command.split()],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"uv run {command}\n{done.stdout}{done.stderr}"


def test_code_in_notebooks_fits_the_page():
    """Ruff leaves the length of lines there alone, because prose is not wrapped."""
    long = [
        f"{file.relative_to(ROOT)}:{number}"
        for file in (ROOT / "notebooks").glob("*/*.py")
        for number, line in enumerate(file.read_text("utf-8").splitlines(), start=1)
        if len(line) > 88 and not line.startswith("#")
    ]
    assert long == []


# --- who imports whom -----------------------------------------------------------------


def modules():
    """Return the modules of the package: their dotted names, with their files."""
    files = sorted(PACKAGE.rglob("*.py"))
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files]
    return {n.removesuffix(".__init__"): f for n, f in zip(names, files, strict=True)}


def layer(module):
    parts = module.split(".")[1:]
    return ".".join(parts) if parts[-1:] == ["__main__"] else "".join(parts[:1])


def imports(file, *, in_functions):
    """Return the modules of the package that a file imports."""
    names, nodes = set(), [ast.parse(file.read_text(encoding="utf-8"))]
    for node in nodes:  # which grows
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: write vae_teach, not a dot"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        if in_functions or not isinstance(node, ast.FunctionDef):
            nodes += ast.iter_child_nodes(node)
    names |= {name.rpartition(".")[0] for name in names}  # without what is no module
    known = modules()
    return {n for n in names if n in known and n != "vae_teach" and known[n] != file}


def out_of_layer(module, others):
    """Yield what is wrong with a module that imports others, directly or not."""
    if layer(module) not in RANK:
        yield f"{module}: a new module, which needs a place in LAYERS"
        return
    for other in others:
        is_below = RANK.get(layer(other), len(RANK)) < RANK[layer(module)]
        if layer(other) != layer(module) and not is_below:
            yield f"{module} imports {other}, which is not in a layer below"


@lists
def test_imports_follow_the_layers():
    """Those inside functions too."""
    edges = {n: imports(f, in_functions=True) for n, f in modules().items()}
    if "vae_teach.bounds" not in edges["vae_teach.checks.tour"]:
        yield "the search finds nothing"
    if edges["vae_teach.lab"] != {"vae_teach.copies", "vae_teach.words"}:
        yield "vae_teach.lab imports what needs PyTorch"
    for module, others in edges.items():
        if layer(module):
            yield from out_of_layer(module, others)


def test_no_import_at_module_level_goes_round():
    edges = {n: imports(f, in_functions=False) for n, f in modules().items()}
    graphlib.TopologicalSorter(edges).prepare()  # CycleError, with the circle


IMPORT_ALONE = """
import importlib, json, sys
loaded = {}
for name in sys.argv[1:]:
    for old in [n for n in sys.modules if n.partition(".")[0] == "vae_teach"]:
        del sys.modules[old]
    importlib.import_module(name)
    loaded[name] = [n for n in sys.modules if n.partition(".")[0] == "vae_teach"]
    loaded[name] += ["torchvision"] * ("torchvision" in sys.modules)
print(json.dumps(loaded))
"""


@pytest.fixture(scope="module")
def alone():
    """What each module brings in that is imported where no other of them is."""
    return json.loads(run_python(IMPORT_ALONE, *modules()))


def test_each_module_can_be_imported_alone_and_brings_what_is_below(alone):
    found = []
    for module, loaded in alone.items():
        others = {n for n in loaded if layer(n)} - {module}
        if layer(module) in RANK:
            found += out_of_layer(module, others)
        elif others:
            found.append(f"{module} imports {others}")
    assert found == [], "\n".join(found)


def test_no_module_imports_torchvision_before_it_must(alone):
    assert [module for module, loaded in alone.items() if "torchvision" in loaded] == []


def test_importing_the_package_alone_is_quick():
    heavy = "{'torch', 'matplotlib', 'ipywidgets', 'jupyterlab'}"
    assert run_python(f"import sys, vae_teach; print({heavy} & set(sys.modules))") == (
        "set()\n"
    )


def run_python(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
