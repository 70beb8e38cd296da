"""Advisory locks on folders, so that publishers take turns and a dead one can be told from a slow one.

The kernel drops a lock when its process ends, however it ends. Where a file system has no locks (some network
mounts) everything still works; only drafts of dead processes are then left lying.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def turn(folder: Path) -> Iterator[bool]:
    """Wait for a turn at `folder` and hold it; yields False where the file system has no locks.

    Raises:
        FileNotFoundError: the folder is gone, or another one has taken its place while we waited.
    """
    with _opened(folder) as descriptor:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            yield False
        else:
            # The folder may have been removed and made again while we waited: the lock is on the old one.
            if not os.path.samestat(os.fstat(descriptor), folder.stat()):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
            yield True


def hold(folder: Path) -> int:
    """Mark `folder` as in use by this process; return the descriptor to close when it no longer is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def is_abandoned(folder: Path) -> bool:
    """Return whether no living process holds `folder`; False where that cannot be known."""
    try:
        with _opened(folder) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
