"""Files that are there whole or not at all."""

import contextlib
import os
import pathlib
import secrets


@contextlib.contextmanager
def replaced(path):
    """A stream of bytes that takes the place of the file at `path` when all is written.

    The bytes go to a file beside it, which is removed where anything raises; then the old file
    stays as it was.
    """
    target = pathlib.Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(target.parent)


_BINARY = getattr(os, "O_BINARY", 0)  # Windows would translate line ends


def _sync(directory):
    """Makes the new name last, where directories can be synced."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
