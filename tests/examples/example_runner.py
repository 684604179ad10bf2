"""Runs a script as its user does: from the repository root, in a process of its own."""

import os
import pathlib
import subprocess
import sys

import xla_flags

ROOT = pathlib.Path(__file__).parents[2]


def run_script(*args, num_devices=1):
    """What `python *args` prints, on so many devices (None: it says itself), compiled quickly."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    flags = xla_flags.of_environment(num_devices, "--xla_backend_optimization_level=0")
    done = subprocess.run(
        [sys.executable, *args],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
