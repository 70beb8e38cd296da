"""Which services run on this machine, for whom: how `octavo promote` finds the one to speak to.

Each service leaves a file that only its user can read, with its ports and the key of its admin API. It holds a lock on
the file while it lives, so that what a killed one left is known for what it is, whoever has its process id now.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from octavo.engines.cache import cache_folder

_SERVERS = "servers"


class Running(msgspec.Struct, frozen=True):
    """A service that runs.

    Attributes:
        pid: of its process.
        store: whose models it serves, in full.
        host: that it listens on.
        port: of the service.
        admin_host: that the admin API listens on.
        admin_port: of the admin API.
        admin_key: of the admin API.
        started: ISO 8601, UTC.
    """

    pid: int
    store: str
    host: str
    port: int
    admin_host: str
    admin_port: int
    admin_key: str
    started: str


@contextmanager
def announced(running: Running) -> Iterator[Path | None]:
    """Let others find this service while the block runs; yields the file, or None where none can be written."""
    name = f"{_store_key(running.store)}-{running.pid}.json"
    descriptor = None
    file = None
    with suppress(OSError, RuntimeError):  # no home, or no room: then nobody finds it, and it serves
        file = cache_folder() / _SERVERS / name
        descriptor = _write_locked(file, msgspec.json.encode(running))
    try:
        yield file if descriptor is not None else None
    finally:
        if file is not None and descriptor is not None:
            file.unlink(missing_ok=True)
            os.close(descriptor)


def running_services(store: str | Path | None = None) -> list[Running]:
    """Return the services that run for a store, or for any, by their start. Removes what dead ones left."""
    try:
        files = sorted((cache_folder() / _SERVERS).glob(f"{_store_key(store) if store else '*'}-*.json"))
    except (OSError, RuntimeError):
        return []
    found = [one for file in files if (one := _read_living(file)) is not None]
    return sorted(found, key=lambda one: one.started)


def _store_key(store: str | Path) -> str:
    return hashlib.sha256(str(Path(store).resolve()).encode()).hexdigest()[:16]


def _write_locked(file: Path, content: bytes) -> int:
    """Write a file that is locked before it has its name; return the descriptor that holds the lock."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = file.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(descriptor, content)
        draft.rename(file)
    except BaseException:
        os.close(descriptor)
        draft.unlink(missing_ok=True)
        raise
    return descriptor


def _read_living(file: Path) -> Running | None:
    """Return the service that wrote a file, if it lives; else remove the file."""
    try:
        with file.open("rb") as opened:
            running = msgspec.json.decode(opened.read(), type=Running)
            lives = _is_held(opened.fileno()) and _exists(running.pid)
    except (OSError, msgspec.MsgspecError, ValueError):
        return None
    if not lives:
        with suppress(OSError):
            file.unlink()
    return running if lives else None


def _is_held(descriptor: int) -> bool:
    """Return whether another process holds the lock; True where that cannot be known."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    return False


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
