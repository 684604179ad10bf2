"""Flags of XLA for tests: simulated devices, and code that takes less time to generate."""

import os

import jax

_DEVICES = "--xla_force_host_platform_device_count"
QUICK = ["--xla_cpu_parallel_codegen_split_count=1"]
"""Flags that make XLA generate simpler code, which takes about half the time."""
if jax.__version_info__ < (0, 11):  # later ones have no such choice
    QUICK.append("--xla_cpu_use_fusion_emitters=false")


def of_environment(num_devices=None, *others):
    """The flags of this environment, other ones, and simulated devices if a number is given."""
    flags = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if _DEVICES not in flag]
    devices = [] if num_devices is None else [f"{_DEVICES}={num_devices}"]
    return " ".join([*flags, *devices, *others])
