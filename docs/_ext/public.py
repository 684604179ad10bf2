"""What is public: modules, names, the entry of each, and the strings that document constants."""

import ast
import functools
import importlib
import inspect
import itertools
import pathlib
import pkgutil
import types

import jaxprune


@functools.cache
def modules():
    """Names of the public modules, the top one first."""
    found = (module.name for module in pkgutil.walk_packages(jaxprune.__path__, "jaxprune."))
    return ("jaxprune", *sorted(name for name in found if "._" not in name))


def names(module):
    """The public names of a module."""
    return importlib.import_module(module).__all__


def value(full):
    """The object that a full name means; raises ImportError or AttributeError if there is none."""
    if full in modules():
        return importlib.import_module(full)
    module, _, name = full.rpartition(".")
    return getattr(importlib.import_module(module or "jaxprune"), name)


@functools.cache
def _entries():
    """From the id of each object to the name of its entry, which is in a subpackage."""
    entries = {}
    for module in modules()[1:]:
        for name in names(module):
            entries.setdefault(id(value(f"{module}.{name}")), f"{module}.{name}")
    return entries


def entry(full):
    """The name of the entry that documents what a full name means, or None."""
    try:
        found = value(full)
    except (AttributeError, ImportError):
        return None
    if isinstance(found, types.ModuleType):
        return full if full in modules() else None
    return _entries().get(id(found))


def home(full):
    """The public module that a full name is of."""
    return max((m for m in modules() if f"{full}.".startswith(f"{m}.")), key=len)


@functools.cache
def constants(module):
    """From the name of each constant to the string after its assignment."""
    file = pathlib.Path(importlib.import_module(module).__file__)
    docs = {}
    for each in file.parent.glob("*.py") if file.name == "__init__.py" else [file]:
        body = ast.parse(each.read_text(encoding="utf-8")).body
        for node, after in itertools.pairwise(body):
            text = getattr(getattr(after, "value", None), "value", None)
            if isinstance(node, ast.Assign) and isinstance(text, str):
                docs |= {target.id: inspect.cleandoc(text) for target in node.targets}
    return docs


def doc(full):
    """The docstring of what a full name means."""
    module, _, name = full.rpartition(".")
    if name == "__version__":
        return "The version of the package."
    if module in modules() and name in constants(module):
        return constants(module)[name]
    return inspect.getdoc(value(full))
