"""Fails where a public name has no entry in the inventory of a built site."""

import pathlib
import sys
import zlib

sys.path.insert(0, str(pathlib.Path(__file__).parent / "_ext"))

import public


def missing(inventory):
    """The public names that an inventory lacks: four lines, then compressed rows."""
    packed = pathlib.Path(inventory).read_bytes().split(b"\n", 4)[4]
    rows = (line.split(" ", 2) for line in zlib.decompress(packed).decode().splitlines())
    entries = {name for name, role, _ in rows if role.startswith("py:")}
    return {f"{m}.{name}" for m in public.modules() for name in public.names(m)} - entries


if __name__ == "__main__":
    lacking = sorted(missing(sys.argv[1]))
    for name in lacking:
        print(f"{name} has no entry on the site; has its module a page in docs/api/?")
    sys.exit(bool(lacking))
