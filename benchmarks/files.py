"""Files that a kill at any moment leaves whole."""

import json
import os
import pathlib


def write(path, text):
    """Replaces a file, or makes it: readers see the old text or the new one."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with open(aside, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(aside, path)


def append(path, record):
    """Adds a line of JSON; after return it is on the disk."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = not path.exists() or path.read_bytes()[-1:] in (b"", b"\n")
    with open(path, "a", encoding="utf-8") as stream:
        stream.write(("" if whole else "\n") + json.dumps(record) + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def records(path):
    """The lines of JSON in a file; what a kill cut off is left out, and no file has none."""
    path = pathlib.Path(path)
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found
