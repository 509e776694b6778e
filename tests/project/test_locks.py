"""The pins: pyproject.toml, requirements.lock and environment.yml say the same."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from listing import lists
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
# What only a benchmark compares the course with, and nobody needs to follow it.
APART = "peers"
EXPORT = (
    f"uv export --frozen --all-groups --no-group {APART} --no-emit-project --no-header"
)
FIX = f"to bring requirements.lock up to date: uv lock && {EXPORT} > requirements.lock"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
# A letter in brackets, so that this file does not match itself.
HOSTS = (
    "py[p]i[.]org|py[t]honhosted[.]org|np[m]js[.](org|com)|yarnpkg[.]com|deb[.]debian"
    "|anaconda[.]org|download[.]pytorch|crates[.]io|ghcr[.]io|docker[.]io"
)
MACHINE = (
    "/roo[t]/|/hom[e]/[a-z]|/User[s]/[A-Za-z]|/wor[k]/(main|shared)"
    "|/tm[p]/[a-z0-9]|/op[t]/pypi"
)


def direct_requirements():
    """Return what pyproject.toml asks for, in its dependencies and in its groups."""
    every = PROJECT["dependency-groups"].items()
    groups = [asked for name, asked in every if name != APART]
    asked = [*PROJECT["project"]["dependencies"], *(r for g in groups for r in g)]
    return [Requirement(line) for line in asked if isinstance(line, str)]


def pins(text=LOCK):
    """Return each entry of the lock: its name to its requirement and its hashes."""
    entries = {}
    for entry in re.split(r"\n(?=[a-z0-9])", text):
        requirement = Requirement(entry.partition("\\\n")[0].strip())
        hashes = re.findall(r"--hash=sha256:[0-9a-f]{64}\b", entry)
        entries.setdefault(canonicalize_name(requirement.name), []).append(
            (requirement, hashes)
        )
    return entries


@lists
def test_the_lock_pins_what_the_project_asks_for():
    pinned = pins()
    for wanted in direct_requirements():
        entries = pinned.get(canonicalize_name(wanted.name), [])
        if not entries:
            yield f"{wanted} is not in requirements.lock; {FIX}"
        for pin, _ in entries:
            (version,) = (spec.version for spec in pin.specifier)
            if not wanted.specifier.contains(version):
                yield f"{pin} is not {wanted}; {FIX}"


def versions(text):
    """Return the name and version of each pin of a lock."""
    return {
        (name, spec.version)
        for name, entries in pins(text).items()
        for pin, _ in entries
        for spec in pin.specifier
    }


def test_the_lock_is_what_uv_resolves():
    """The file uv.lock is not in git: uv makes it, before it runs anything."""
    if not (ROOT / "uv.lock").exists():
        pytest.skip("uv.lock is missing: uv lock makes it")
    uv = os.environ.get("UV") or shutil.which("uv")  # uv run tells where uv is
    if uv is None:
        pytest.skip("uv is missing: pip install uv brings it")
    command = [uv, *EXPORT.split()[1:]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert versions(LOCK) == versions(done.stdout), FIX


def test_what_only_a_benchmark_needs_is_installed_when_asked_for():
    assert APART in PROJECT["dependency-groups"]
    assert APART not in PROJECT["tool"]["uv"]["default-groups"]


def test_every_entry_of_the_lock_has_one_version_and_hashes():
    for name, entries in pins().items():
        for pin, hashes in entries:
            (spec,) = pin.specifier
            assert spec.operator == "==", f"{name} is not pinned; {FIX}"
            assert hashes, f"{name} has no hash; {FIX}"


def test_the_lock_says_nothing_else():
    beside = r"[a-z0-9].*==.*\\|    --hash=sha256:[0-9a-f]{64}( \\)?|    #( .*)?"
    odd = [line for line in LOCK.splitlines() if not re.fullmatch(beside, line)]
    assert odd == [], FIX
    assert "://" not in LOCK
    assert not re.search(r"^vae-teach\b", LOCK, re.MULTILINE), "--no-emit-project"


def test_conda_and_binder_install_the_lock():
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    environment = yaml.safe_load(text)
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    python, pip, by_pip = environment["dependencies"]
    supported = SpecifierSet(PROJECT["project"]["requires-python"])
    assert supported.contains(python.removeprefix("python=") + ".0")
    assert pip == "pip"
    assert by_pip == {"pip": ["-r requirements.lock"]}  # pip refuses -e beside hashes
    then = "pip install --no-deps -e ."
    assert f"# {then}\n" in text
    binder = ROOT / "postBuild"
    assert f"\npython -m {then}\n" in binder.read_text(encoding="utf-8")
    assert os.access(binder, os.X_OK)


def git(*arguments):
    """Return what git prints in the repository; 1 is its code for nothing found."""
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode == 128:
        pytest.skip("this is no git checkout: git clone the repository to test it")
    return done.stdout


@pytest.mark.parametrize("pattern", [HOSTS, MACHINE], ids=["registry", "machine"])
def test_no_file_names(pattern):
    options = ("--untracked", "-I", "--line-number", "--only-matching", "-E")
    assert git("grep", *options, pattern) == ""


def test_the_lock_that_names_hosts_stays_out_of_git():
    assert git("ls-files", "uv.lock") == ""
    assert git("check-ignore", "uv.lock") == "uv.lock\n"


def imported(file):
    """Return the packages that a file imports, those of a lesson's functions too."""
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.partition(".")[0]


@lists
def test_what_the_course_imports_it_declares():
    """Else a lesson ends in ModuleNotFoundError where nothing else is installed."""
    asked = [Requirement(line) for line in PROJECT["project"]["dependencies"]]
    declared = {canonicalize_name(r.name) for r in asked}
    owners = packages_distributions()
    files = [*ROOT.glob("vae_teach/**/*.py"), *ROOT.glob("notebooks/*/*.py")]
    assert len(files) > 30
    for file in files:
        for package in {*imported(file)} - sys.stdlib_module_names - {"vae_teach"}:
            names = {canonicalize_name(name) for name in owners.get(package, [])}
            if not names & declared:
                yield f"{file.relative_to(ROOT)} imports {package}"
