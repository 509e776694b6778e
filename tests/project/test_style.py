"""The house style, as far as a machine can see it: format, types, arrows, imports."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "vae_teach"
MODULES = sorted(file.stem for file in PACKAGE.glob("*.py") if file.stem != "__init__")
# What a module may import of the package, beside what it says and how it checks.
COMMON = {"words", "guards"}
ARROWS = {
    "words": set(),
    "guards": {"words"},
    "lab": set(),
    "strokes": COMMON,
    "densities": COMMON,
    "nets": COMMON,
    "checkpoints": COMMON,
    "data": COMMON | {"strokes"},
    "bounds": COMMON | {"densities"},
    "exact": COMMON | {"bounds", "densities", "products"},
    "annealing": COMMON | {"bounds", "densities", "nets"},
    "parallel": COMMON,
    "graphs": set(),
    "products": set(),
    "train": COMMON
    | {"bounds", "checkpoints", "data", "densities", "graphs", "nets", "parallel"}
    | {"products"},
    "command": COMMON | {"data", "figures", "nets", "parallel", "train"},
    "figures": COMMON | {"bounds", "data", "densities", "nets", "train"},
    "sliders": COMMON | {"figures", "nets"},
    "explorer": COMMON | {"data", "figures", "nets"},
    "checks": COMMON | {"bounds", "data", "densities", "nets"},
    # Lessons' checks: what they compare with comes from the modules below.
    "checks_elbo": COMMON | {"bounds", "checks", "densities", "exact"},
    "checks_gradients": COMMON | {"bounds", "checks", "densities", "nets"},
    "checks_training": COMMON | {"bounds", "checks", "data", "densities", "nets"},
    "checks_latents": COMMON | {"bounds", "checks", "data", "densities", "nets"},
}


@pytest.mark.parametrize(
    "command",
    ["ruff check", "ruff format --check", "mypy"],
    ids=lambda command: command.replace(" ", "-"),
)
def test_tools_find_nothing(command):
    """The D rules of ruff also ask for a docstring of every public thing."""
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


def imports(module):
    """Return the package's modules that a module imports, also inside functions.

    What train does where it is run as a program is the last row's, command's.
    """
    source = (PACKAGE / f"{module}.py").read_text(encoding="utf-8")
    tree = ast.parse(source.partition('\nif __name__ == "__main__":')[0])
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: write vae_teach, not a dot"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    parts = [name.split(".") for name in found]
    return {rest[0] for package, *rest in parts if package == "vae_teach" and rest}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_the_table_allows(module):
    assert module in ARROWS, "a new module: give it its row in ARROWS and the README"
    assert imports(module) <= ARROWS[module]


def test_arrows_run_one_way():
    graphlib.TopologicalSorter(ARROWS).prepare()  # CycleError if they do not
    assert {name for name in MODULES if imports(name)}  # the search itself works


def run_python(code):
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_importing_the_package_alone_is_quick():
    heavy = "{'torch', 'matplotlib', 'ipywidgets', 'jupyterlab'}"
    assert run_python(f"import sys, vae_teach; print({heavy} & set(sys.modules))") == (
        "set()\n"
    )


def test_no_module_imports_torchvision_before_it_must():
    code = f"""
import importlib, sys
for name in {MODULES}:
    importlib.import_module("vae_teach." + name)
    if "torchvision" in sys.modules:
        sys.exit(print(name))
"""
    assert run_python(code) == ""
