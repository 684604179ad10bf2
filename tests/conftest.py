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
AS_USERS_COMPILE = ("tests", "examples")  # and what asks for `full_optimization`
MAPS = pathlib.Path("/proc/self/maps")
MANY_MAPS = 20_000


def pytest_addoption(parser):
    """`--as-users` leaves code generation as it is for users; it takes about twice the time."""
    parser.addoption("--as-users", action="store_true", help="generate code as users do")


def pytest_configure(config):
    """Sets XLA's flags, which are read once, when the first program is compiled."""
    others = [] if config.getoption("--as-users") else xla_flags.QUICK
    os.environ["XLA_FLAGS"] = xla_flags.of_environment(8, *others)


@pytest.fixture(autouse=True, scope="module")
def compilation(request):
    """Most programs are compiled for their answer, not for speed: that takes a third of the time.

    Compiled programs take pieces of mapped memory, of which Linux grants a process 65,530: before
    there are too many, all are dropped.
    """
    jax.config.update(QUICK, request.path.parent.name not in AS_USERS_COMPILE)
    yield
    if MAPS.exists() and MAPS.read_bytes().count(b"\n") > MANY_MAPS:
        jax.clear_caches()


@pytest.fixture
def full_optimization():
    """For what has to hold in programs as users compile them."""
    before = jax.config.read(QUICK)
    jax.config.update(QUICK, False)
    yield
    jax.config.update(QUICK, before)
