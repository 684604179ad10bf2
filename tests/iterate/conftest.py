"""Programs here are compiled for their answer, not for speed: that takes half the time."""

import jax
import pytest

OPTION = "jax_disable_most_optimizations"


@pytest.fixture(autouse=True, scope="module")
def quick_compilation():
    jax.config.update(OPTION, True)
    yield
    jax.config.update(OPTION, False)
