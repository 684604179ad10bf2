"""Files that are there whole or not at all."""

import contextlib
import errno
import os
import pathlib
import secrets
import stat


@contextlib.contextmanager
def replaced(path):
    """A stream of bytes that takes the place of the file at `path` when all is written.

    The bytes go to a file beside it, which is removed where anything raises; then the old file
    stays as it was. The new file has the permissions of the old one.
    """
    target = pathlib.Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY
    # Made with them, so that it is never open to more; what the umask took is given back below.
    descriptor = os.open(temporary, flags, 0o666 if mode is None else mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            if mode is not None:
                os.chmod(temporary, mode)
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
