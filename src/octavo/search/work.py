"""What is being written to an index, and how much of it counts: the part of a build that survives an interruption.

`.draft` becomes the next version; `.work` holds what only the build needs. A lock on `.work` keeps a second writer out,
and the kernel drops it however the first one ends.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np

from octavo.engines.cache import write_atomically
from octavo.errors import InputError
from octavo.store import locks
from octavo.types import FloatArray, IntArray

_WORK, _DRAFT, _STATE = ".work", ".draft", "state.json"
_VECTORS, _DEAD = "vectors.f32", "dead.i64"


class State(msgspec.Struct, frozen=True, kw_only=True):
    """How much of the work counts.

    Attributes:
        fingerprint: of all that the work depends on.
        documents: of the corpus that are in the draft, with their vectors.
        dead: numbers that were noted as deleted or replaced.
        deleted: those of them that were to be deleted.
        has_deleted: whether deleting is done.
    """

    fingerprint: str
    documents: int = 0
    dead: int = 0
    deleted: int = 0
    has_deleted: bool = False


class Work:
    """A build in progress. Not thread-safe.

    Attributes:
        index: folder of the index.
        folder: of what only the build needs.
        draft: what becomes the next version.
        state: how much of it counts.
        width: numbers per vector.
    """

    def __init__(self, index: Path, state: State, width: int) -> None:
        self.index, self.folder, self.draft = index, index / _WORK, index / _DRAFT
        self.state, self.width = state, width
        self._vectors = _opened(self.folder / _VECTORS, 4 * width * state.documents)
        self._dead = _opened(self.folder / _DEAD, 8 * state.dead)
        self._noted = state.dead

    def append(self, vectors: FloatArray) -> None:
        """Add the vectors of new documents, (documents, width); they count once recorded."""
        self._vectors.write(np.ascontiguousarray(vectors, "<f4").tobytes())

    def note_dead(self, numbers: IntArray) -> None:
        """Note documents as gone by their numbers; they count once recorded."""
        self._dead.write(np.asarray(numbers, "<i8").tobytes())
        self._noted += len(numbers)

    def record_deleted(self) -> None:
        """Let all that was noted so far count as deleted."""
        self.state = msgspec.structs.replace(self.state, deleted=self._noted, has_deleted=True)
        self.record(self.state.documents)

    def record(self, documents: int) -> None:
        """Let so many documents count, and all that was noted."""
        for file in (self._vectors, self._dead):
            file.flush()
            os.fsync(file.fileno())
        self.state = msgspec.structs.replace(self.state, documents=documents, dead=self._noted)
        write_atomically(self.folder / _STATE, msgspec.json.encode(self.state))

    def vectors(self) -> FloatArray:
        """Return the vectors of the new documents that count, mapped from the disk, (documents, width)."""
        shape = (self.state.documents, self.width)
        if not self.state.documents:
            return np.empty(shape, np.float32)
        return np.memmap(self.folder / _VECTORS, "<f4", "r", shape=shape)

    def dead(self) -> IntArray:
        """Return the numbers of documents that are gone, each once."""
        return np.unique(np.fromfile(self.folder / _DEAD, "<i8", self.state.dead))

    def discard(self) -> None:
        """Remove all of it."""
        shutil.rmtree(self.draft, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def close(self) -> None:
        """Close the files; what counts stays."""
        self._vectors.close()
        self._dead.close()


@contextmanager
def opened_work(index: Path, fingerprint: str, width: int) -> Iterator[Work]:
    """Lock an index to write, and go on with what was interrupted, if it had the same fingerprint.

    Raises:
        InputError: another process writes to the index, or it cannot be written.
    """
    made = [path for path in (index, *index.parents) if not path.exists()]
    try:
        index.mkdir(parents=True, exist_ok=True)
        descriptor = _lock(index)
    except OSError as error:
        raise InputError(f"{index}: an index cannot be written here ({error.strerror}).") from error
    try:
        work = Work(index, _state(index, fingerprint), width)
        try:
            yield work
        finally:
            work.close()
    finally:
        os.close(descriptor)
        for folder in made:  # where nothing came of it
            with suppress(OSError):
                folder.rmdir()


def _lock(index: Path) -> int:
    folder = index / _WORK
    with locks.turn(index):
        if folder.exists() and not locks.is_abandoned(folder):
            raise InputError(f"{index}: another process is writing to this index. Wait for it, or remove {folder}.")
        folder.mkdir(exist_ok=True)
        return locks.hold(folder)


def _state(index: Path, fingerprint: str) -> State:
    """Return how far a run with this fingerprint came; clear the place where there was none."""
    file = index / _WORK / _STATE
    with suppress(OSError, msgspec.MsgspecError):
        state = msgspec.json.decode(file.read_bytes(), type=State)
        # Without a draft it was published, and cut off before it could say so.
        if state.fingerprint == fingerprint and (index / _DRAFT).is_dir():
            return state
    if (index / _DRAFT).exists():
        shutil.rmtree(index / _DRAFT)
    for old in (index / _WORK).iterdir():
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    (index / _DRAFT).mkdir()
    write_atomically(file, msgspec.json.encode(State(fingerprint=fingerprint)))
    return State(fingerprint=fingerprint)


def _opened(file: Path, size_bytes: int) -> BinaryIO:
    """Open a file that grows, cut to what counts of it."""
    opened = file.open("ab")
    opened.truncate(size_bytes)
    return opened
