"""A strict session: ranks must match, and eight devices are simulated on the CPU."""

import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
flags = os.environ.get("XLA_FLAGS", "")
if "host_platform_device_count" not in flags:
    os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count=8".strip()

import jax  # noqa: E402
import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
settings.register_profile("strict", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("strict")

QUICK = "jax_disable_most_optimizations"
AS_USERS_COMPILE = ("tests", "examples")  # and what asks for `full_optimization`
MAPS = pathlib.Path("/proc/self/maps")
MANY_MAPS = 20_000


@pytest.fixture(autouse=True, scope="module")
def compilation(request):
    """Most programs are compiled for their answer, not for speed: that takes half the time.

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
