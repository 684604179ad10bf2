"""What is public is what tests/public_api.txt lists: names, arguments and defaults.

A change of it is a decision. Write the list anew, read the difference, and put it into the
changelog:

    python tests/test_public_api.py
"""

import dataclasses
import importlib
import inspect
import pathlib
import pkgutil
import re

import jaxprune

LIST = pathlib.Path(__file__).parent / "public_api.txt"


def modules():
    """The package and its public modules, those inside them too."""
    yield jaxprune
    for found in pkgutil.walk_packages(jaxprune.__path__, "jaxprune."):
        if not any(part.startswith("_") for part in found.name.split(".")):
            yield importlib.import_module(found.name)


def named():
    """Public objects that may be defaults, such as `scores.magnitude`, and their names."""
    return {
        id(value): f"{module.__name__}.{name}"
        for module in modules()
        for name, value in sorted(vars(module).items())
        if not name.startswith("_") and dataclasses.is_dataclass(value)
    }


NAMED = named()


def default(value):
    """A default as it is written: public objects and functions by their names."""
    written = NAMED.get(id(value)) or getattr(value, "__name__", None) or repr(value)
    return re.sub(r"<function (\w+) at 0x\w+>", r"\1", written)


def arguments(value):
    """The arguments of a callable, without annotations, which are for the type checker."""
    parameters = [
        each.replace(annotation=each.empty)
        if each.default is each.empty
        else each.replace(annotation=each.empty, default=_Written(default(each.default)))
        for each in inspect.signature(value).parameters.values()
    ]
    return str(inspect.Signature(parameters))


class _Written(str):
    """Text that stands for itself."""

    __slots__ = ()
    __repr__ = str.__str__


def members(value):
    """Public methods and properties of a class that are not its fields."""
    fields = dataclasses.fields(value) if dataclasses.is_dataclass(value) else ()
    data = {field.name for field in fields} | set(getattr(value, "_fields", ()))
    for name, member in sorted(vars(value).items()):
        if name.startswith("_") or name in data:
            continue
        if isinstance(member, property):
            yield f".{name}"
        elif callable(member) or isinstance(member, classmethod | staticmethod):
            yield f".{name}{arguments(getattr(value, name))}"


def described(name, value):
    """Lines that say what a public name is."""
    if inspect.ismodule(value):
        return
    if inspect.isclass(value):
        yield f"{name}{arguments(value)}"
        yield from (name + member for member in members(value))
    elif callable(value) and hasattr(value, "__name__"):
        yield f"{name}{arguments(value)}"
    else:
        yield name


def api():
    """The list."""
    lines = []
    for module in modules():
        for name in sorted(module.__all__):
            lines += described(f"{module.__name__}.{name}", getattr(module, name))
    return "\n".join(lines) + "\n"


def test_what_is_public_is_what_is_listed():
    listed, found = LIST.read_text().splitlines(), api().splitlines()
    assert found == listed, f"run `python {pathlib.Path(__file__).name}` if this is meant"


if __name__ == "__main__":
    LIST.write_text(api())
