"""What figures were measured on, and of which code."""

import datetime
import hashlib
import importlib
import importlib.metadata
import json
import os
import pathlib
import platform
import time

ROOT = pathlib.Path(__file__).parents[1]


PACKAGES = ("jax", "jaxlib", "optax", "numpy", "flax", "scikit-learn")


def environment(peers=()):
    """Machine, versions and date; None for a peer that cannot be imported."""
    import jax

    device = jax.devices()[0]
    return machine() | {
        "threads": threads(peers),
        "device": None if device.platform == "cpu" else device.device_kind,
        "versions": versions(),
        "peers": {name: peer_version(name) for name in peers},
        "date": datetime.date.today().isoformat(),
    }


def machine():
    """What times depend on, beside programs."""
    return {"processor": _processor(), "cores": len(os.sched_getaffinity(0))}


def versions():
    """Name -> version, of Python and the packages that figures depend on."""
    return {"Python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in PACKAGES
    }


def take_cores(peers):
    """Gives PyTorch, if it is among the peers, a thread for each core; XLA takes them itself."""
    if "torch" in peers and peer_version("torch"):
        import torch

        torch.set_num_threads(len(os.sched_getaffinity(0)))


def threads(peers):
    """Name -> threads for computations, where they can be counted: of XLA once it has run."""
    tasks = pathlib.Path("/proc/self/task").glob("*/comm")
    found = {"XLA": sum(task.read_text().startswith("tf_XLAEigen") for task in tasks)}
    if "torch" in peers and peer_version("torch"):
        import torch

        found["torch"] = torch.get_num_threads()
    return {name: count for name, count in found.items() if count}


class Others:
    """How much of the machine other programs use, from now on."""

    def __init__(self):
        self.start = _used()

    def cores(self):
        """The mean number of cores since the start; None where the system does not tell."""
        (clock, own, every), (clock0, own0, every0) = _used(), self.start
        if every is None:
            return None
        return max(0.0, ((every - every0) - (own - own0)) / (clock - clock0))


def _used():
    """Seconds of the clock, of this process on cores, and of all programs on cores."""
    own = sum(os.times()[:4])
    stat = pathlib.Path("/proc/stat")
    if not stat.exists():
        return time.monotonic(), own, None
    ticks = stat.read_text().splitlines()[0].split()[1:]
    idle = {3, 4, 8, 9}  # idle, waiting for a disk, and what is in user and nice already
    busy = sum(int(n) for i, n in enumerate(ticks) if i not in idle)
    return time.monotonic(), own, busy / os.sysconf("SC_CLK_TCK")


def sentence(found):
    """The same as a line of a page."""
    parts = [f"{found['cores']} CPU cores ({found['processor']})"]
    parts += [found["device"]] if found["device"] else []
    parts += [f"{count} threads of {name}" for name, count in found.get("threads", {}).items()]
    peers = found["peers"]
    known = found["versions"] | {name: version for name, version in peers.items() if version}
    parts += [f"{name} {version}" for name, version in known.items()]
    parts.append(found["date"])
    if found.get("others") is not None:
        parts.append(f"other programs used {found['others']:.1f} cores meanwhile")
    missing = [name for name, version in peers.items() if not version]
    absent = f" Not importable here, so without figures: {', '.join(missing)}." if missing else ""
    return ", ".join(parts) + "." + absent


def peer_version(name):
    """The version of a package that can be imported, or None."""
    try:
        module = importlib.import_module(name)
    except Exception:  # a package of another time may fail at import in any way
        return None
    return getattr(module, "__version__", "of unknown version")


def fingerprint(sources, settings):
    """A hash that changes with what figures depend on: settings, versions and source code.

    Args:
      sources: files relative to the repository; all of the package is taken with them.
      settings: anything that JSON can hold.
    """
    made = hashlib.sha256(json.dumps([settings, versions()], sort_keys=True).encode())
    package = sorted((ROOT / "jaxprune").rglob("*.py"))
    for path in [*package, *(ROOT / name for name in sources)]:
        made.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return made.hexdigest()[:16]


def _processor():
    """The processor's name where Linux tells it, else its architecture."""
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
