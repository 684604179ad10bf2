"""The shape of the house: imports go down, files are short, what is public is documented."""

import ast
import importlib
import subprocess
import sys
import types
from pathlib import Path

import pytest

import jaxprune

ROOT = Path(jaxprune.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
FLOORS = {
    0: ["_types", "_tree", "_table", "_checks", "_sharding", "_version"],
    1: ["_figure", "_program", "select", "scores", "schedules", "rules", "axes"],
    2: ["patterns", "allocate"],
    3: ["masks"],
    4: ["transforms", "iterate", "oneshot", "compact", "export", "sparse", "recipes"],
    5: ["analysis", "integrations"],  # what measures the others is above them
    6: ["__init__"],
}
FLOOR = {name: floor for floor, names in FLOORS.items() for name in names}
CORE = {"jax", "optax", "numpy"}
EXTRAS = {"flax", "equinox", "matplotlib", "rich", "tqdm", "sklearn", "safetensors", "orbax"}


def relative(file):
    return file.relative_to(ROOT).as_posix()


def part(file):
    """The folder or file of the package that a file belongs to."""
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(tree):
    """Full names of what a module imports, here or in its functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


every_file = pytest.mark.parametrize("file", FILES, ids=relative)


@every_file
def test_an_import_only_goes_down(file):
    here = part(file)
    assert here in FLOOR, f"{here} has no floor: give it one"
    for name in imports(ast.parse(file.read_text())):
        top, *inner = name.split(".")
        if top == "jaxprune":
            there = inner[0]
            assert there in FLOOR, f"{name}: write which module of jaxprune it comes from"
            assert there == here or FLOOR[there] < FLOOR[here], f"{here} imports {name}"


@every_file
def test_files_are_short(file):
    assert len(file.read_text().splitlines()) <= 350


@every_file
def test_extras_are_imported_where_they_are_used(file):
    tree = ast.parse(file.read_text())
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for name in imports(ast.Module([node], [])):
                top = name.partition(".")[0]
                allowed = CORE | sys.stdlib_module_names | {"jaxprune"}
                assert top in allowed or part(file) == "integrations", name


def test_importing_jaxprune_imports_the_core_alone():
    code = "import sys, jaxprune; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(run.stdout.split())
    assert loaded >= CORE | {"jaxprune"}
    assert not loaded & EXTRAS


def documented(tree):
    """Names that a module defines with a docstring, or with a string after the assignment."""
    for node, after in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
            yield node.name
        if (
            isinstance(node, ast.Assign | ast.AnnAssign)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
            and isinstance(after.value.value, str)
        ):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (target.id for target in targets)


PACKAGES = [file for file in FILES if file.name == "__init__.py"]


@pytest.mark.parametrize("file", PACKAGES, ids=relative)
def test_what_is_public_is_documented(file):
    name = ".".join(["jaxprune", *file.parent.relative_to(ROOT).parts])
    module = importlib.import_module(name)
    assert module.__doc__
    with_docs = {doc for each in FILES for doc in documented(ast.parse(each.read_text()))}
    for public in module.__all__:
        value = getattr(module, public)
        if isinstance(value, types.ModuleType):
            assert value.__doc__, public
        elif public != "__version__":
            assert {public, getattr(value, "__name__", "")} & with_docs, public


def test_every_public_name_of_the_package_is_listed():
    names = {name for name in vars(jaxprune) if not name.startswith("_")}
    modules = {name for name in names if isinstance(vars(jaxprune)[name], types.ModuleType)}
    assert names - modules <= set(jaxprune.__all__)


def test_an_import_starts_no_backend():
    """Who starts processes or simulates devices does so after it has imported what it needs."""
    code = "import jaxprune, jax; jax.config.update('jax_num_cpu_devices', 2)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
