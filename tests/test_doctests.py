"""Every example in a docstring runs and prints what it says."""

import ast
import doctest
import importlib
import itertools
import pkgutil
from pathlib import Path

import pytest

import jaxprune

MODULES = ["jaxprune"]
MODULES += sorted(m.name for m in pkgutil.walk_packages(jaxprune.__path__, "jaxprune."))
PARSER = doctest.DocTestParser()


def after_assignments(module):
    """Examples in the strings that document constants, which doctest does not look at."""
    body = ast.parse(Path(module.__file__).read_text()).body
    for node, after in itertools.pairwise(body):
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(after, ast.Expr):
            text = getattr(after.value, "value", None)
            if isinstance(text, str):
                name = ast.unparse(node).partition(" =")[0]
                yield PARSER.get_doctest(
                    text, vars(module).copy(), name, module.__file__, after.lineno
                )


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for test in [*doctest.DocTestFinder().find(module), *after_assignments(module)]:
        said = []
        runner.run(test, out=said.append)
        assert not said, "".join(said)


def test_what_is_public_has_an_example():
    """Functions and classes of the top level show how they are called."""
    for name in jaxprune.__all__:
        value = getattr(jaxprune, name)
        if callable(value):
            assert ">>> " in value.__doc__, name
