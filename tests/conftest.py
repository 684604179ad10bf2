"""A strict session: ranks must match, and eight devices are simulated on the CPU."""

import gc
import os
import pathlib

import jax
import pytest
import xla_flags
from hypothesis import settings

jax.config.update("jax_platforms", os.environ.setdefault("JAX_PLATFORMS", "cpu"))
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_traceback_in_locations_limit", 0)  # nobody reads them in a program
gc.set_threshold(200_000, 20, 50)  # tracing makes many objects, and few of them are in cycles
settings.register_profile("strict", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("strict")

QUICK = "jax_disable_most_optimizations"
MAPS = pathlib.Path("/proc/self/maps")
MANY_MAPS = 6_000  # some 1,500 programs


def pytest_addoption(parser):
    """The two passes of tests/run.py; without either, all tests run and are compiled quickly."""
    parser.addoption("--as-users", action="store_true", help="what is marked so, compiled so")
    parser.addoption("--not-as-users", action="store_true", help="what is not marked as_users")


def pytest_configure(config):
    """Sets XLA's flags, which are read once, when the first program is compiled."""
    others = [] if config.getoption("--as-users") else xla_flags.QUICK
    os.environ["XLA_FLAGS"] = xla_flags.of_environment(8, *others)


def pytest_ignore_collect(collection_path, config):
    """Leaves out files without a test of the second pass, before they are imported."""
    if config.getoption("--as-users") and collection_path.name.startswith("test_"):
        return "mark.as_users" not in collection_path.read_text(encoding="utf-8") or None
    return None


def pytest_collection_modifyitems(config, items):
    """Leaves out the tests of the other pass."""
    for option, kept in (("--as-users", True), ("--not-as-users", False)):
        if config.getoption(option):
            out = [item for item in items if bool(item.get_closest_marker("as_users")) != kept]
            config.hook.pytest_deselected(items=out)
            items[:] = [item for item in items if bool(item.get_closest_marker("as_users")) == kept]


@pytest.fixture(autouse=True)
def compilation(request):
    """Most programs are compiled for their answer, not for speed: that takes a third of the time.

    The mark `as_users` is for what has to hold in programs as users compile them, and for large
    arrays. Code generation is that of users with the option `--as-users` only.
    """
    jax.config.update(QUICK, request.node.get_closest_marker("as_users") is None)


@pytest.fixture(autouse=True, scope="module")
def caches():
    """Drops compiled programs when there are many, by the pieces of memory that they map.

    jax keeps a megabyte of MLIR for each, and with 2,500 of them, in use or not, tests that compile
    take a quarter longer. Linux grants a process 65,530 pieces, too.
    """
    yield
    if MAPS.exists() and MAPS.read_bytes().count(b"\n") > MANY_MAPS:
        jax.clear_caches()
