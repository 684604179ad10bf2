"""The suite in two passes: `python tests/run.py [arguments of pytest]`, as `make test` does.

First what is compiled quickly, then what is marked `as_users` and compiled as users do, which needs
a process of its own. Both run, whatever the first finds.
"""

import subprocess
import sys

import pytest

NONE = pytest.ExitCode.NO_TESTS_COLLECTED


def run(*options):
    """The exit code of a pass."""
    command = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "worksteal"]
    return subprocess.run([*command, *options, *sys.argv[1:]], check=False).returncode


def main():
    """The first code that is a failure; a choice that has tests in one pass only is none."""
    codes = run("--not-as-users"), run("--as-users")
    failed = [code for code in codes if code not in (pytest.ExitCode.OK, NONE)]
    return (failed or [NONE if set(codes) == {NONE} else 0])[0]


if __name__ == "__main__":
    sys.exit(main())
