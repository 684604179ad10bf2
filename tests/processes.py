"""Processes that tests start: of this repository, on CPUs, and compiled quickly."""

import os
import pathlib

import xla_flags

ROOT = pathlib.Path(__file__).parents[1]


def environment(num_devices=None):
    """Variables of a process; without a number of devices it says itself how many there are."""
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # takes less time to compile
        "JAX_PLATFORMS": "cpu",
        "JAX_TRACEBACK_IN_LOCATIONS_LIMIT": "0",
        "PYTHONPATH": os.pathsep.join(path),
        "XLA_FLAGS": xla_flags.of_environment(num_devices),
    }
