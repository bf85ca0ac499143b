"""Files and folders that are written whole or not at all."""

import contextlib
import os
import pathlib
import shutil
import tempfile


@contextlib.contextmanager
def written_whole(path):
    """Yields a path beside `path`, which takes the name `path` when everything has been written to it.

    A file or a folder, in a folder that exists. Where writing fails or the process dies, what was at `path` stays as it
    was.
    """
    path = pathlib.Path(path)
    # In a folder of its own the new one has its right name, whose ending some writers look at.
    try:
        beside = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    except OSError as error:  # about the name that was asked for
        raise OSError(error.errno, error.strerror, str(path)) from error
    try:
        new = beside / path.name
        yield new
        # On the disk before it has its name: a power failure leaves the old file or the new one.
        for written in [new, *(new.rglob("*") if new.is_dir() else ())]:
            _to_disk(written)
        if path.is_dir() and new.is_dir():
            os.replace(path, beside / "old")  # a folder can take the name of an empty one only
        os.replace(new, path)
        _to_disk(path.parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _to_disk(path):
    """Waits until a file, or the list of names in a folder, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
