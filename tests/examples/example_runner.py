"""Runs a script as its user does: from the repository root, in a process of its own."""

import subprocess
import sys

import processes

ROOT = processes.ROOT


def run_script(*args, num_devices=1):
    """What `python *args` prints, on so many devices (None: it says itself), compiled quickly."""
    done = subprocess.run(
        [sys.executable, *args],
        cwd=ROOT,
        env=processes.environment(num_devices),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
