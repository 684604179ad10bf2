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


def environment(peers=()):
    """Machine, versions and date; None for a peer that cannot be imported."""
    import jax

    device = jax.devices()[0]
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "device": None if device.platform == "cpu" else device.device_kind,
        "versions": {"Python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in ("jax", "optax", "numpy")},
        "peers": {name: peer_version(name) for name in peers},
        "date": datetime.date.today().isoformat(),
    }


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
    versions = {name: importlib.metadata.version(name) for name in ("jax", "optax", "numpy")}
    made = hashlib.sha256(json.dumps([settings, versions], sort_keys=True).encode())
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
