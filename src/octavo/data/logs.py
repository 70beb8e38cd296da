"""Query logs of any size: their records one at a time, and which of them are new.

Knows files, lines and JSON objects; what a record means is the tasks' business. Nothing here grows with a log but
the digests by which `distinct` knows a record again.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

from octavo.data.json_lines import check_is_file, lines_of, object_from_text
from octavo.errors import InputError
from octavo.types import Json

_Item = TypeVar("_Item")

_SUFFIXES = (".txt", ".tsv", ".jsonl")
_OBJECT_FORM = 'one object a line, such as {"text": "..."}'
_LINE_BYTES = 1 << 24  # a longer line is no record, but a file of another kind; it would fill the memory
_LINES_A_REPORT = 1024
_FIRST_SLOTS = 1 << 10


def log_bytes(paths: Iterable[str | Path]) -> int:
    """Return the size of query logs on the disk, compressed ones as they are: the total for progress.

    Raises:
        InputError: a path is missing, or is not of a query log's kind.
    """
    return sum(log.stat().st_size for log in _checked(paths))


def read_records(
    paths: Iterable[str | Path], done: Callable[[int], None] = lambda _bytes: None
) -> Iterator[tuple[str | Json, str]]:
    """Yield the records of query logs, each with its `file:line`; blank lines are none.

    A record of `.txt` is a line without outer spaces, of `.tsv` a line with its tabs, of `.jsonl` an object. Each
    may be compressed with gzip (`.txt.gz`). `done` is told how many more bytes of the files were read, which add up
    to `log_bytes`.

    Raises:
        InputError: a path is missing or of another kind (at once), or a line cannot be read (when reached).
    """
    logs = _checked(paths)
    return (record for log in logs for record in _records(log, done))


def distinct(items: Iterable[_Item], key: Callable[[_Item], bytes]) -> Iterator[_Item]:
    """Yield the first item of each key, in order.

    Memory: 12 to 24 bytes per distinct key, for a moment half as much again where the table grows. A key is told by
    8 bytes of its BLAKE2b hash, so that among n distinct keys any is missed with a probability of n² / 2^65: for 10
    million, 3 in a million.
    """
    seen = _Digests()
    for item in items:
        digest = hashlib.blake2b(key(item), digest_size=8).digest()
        if seen.add(int.from_bytes(digest)):
            yield item


class _Digests:
    """A set of 64-bit numbers in a table of its own: a Python set takes about 70 bytes for each."""

    def __init__(self) -> None:
        self._slots = array("Q", bytes(8 * _FIRST_SLOTS))  # 0 is an empty slot
        self._count = 0

    def add(self, digest: int) -> bool:
        """Add a number; return whether it was new."""
        if 3 * self._count >= 2 * len(self._slots):
            self._grow()
        # 0 stands for empty, so it shares a slot with 1.
        if not _placed(self._slots, digest or 1):
            return False
        self._count += 1
        return True

    def _grow(self) -> None:
        slots = array("Q", bytes(16 * len(self._slots)))
        for digest in self._slots:
            if digest:
                _placed(slots, digest)
        self._slots = slots


def _placed(slots: array[int], digest: int) -> bool:
    """Put a digest into the first free slot from its own on; return False where it is found before that."""
    last = len(slots) - 1  # as many slots as a power of two
    place = digest & last
    while found := slots[place]:
        if found == digest:
            return False
        place = (place + 1) & last
    slots[place] = digest
    return True


def _checked(paths: Iterable[str | Path]) -> list[Path]:
    logs = [Path(path) for path in paths]
    for log in logs:
        check_is_file(log)
        if _kind(log) not in _SUFFIXES:
            raise InputError(
                f"{log}: a query log is .txt (a query a line), .tsv (a query and its documents) or .jsonl (an object a "
                "line), or one of them with .gz. Rename it if it is one; of a table, save the column of queries."
            )
    return logs


def _kind(path: Path) -> str:
    name = Path(path.name.lower().removesuffix(".gz"))
    return name.suffix


def _records(path: Path, done: Callable[[int], None]) -> Iterator[tuple[str | Json, str]]:
    kind = _kind(path)
    for where, line in lines_of(_lines(path, done), path):
        yield _record(line, where, kind), where


def _lines(path: Path, done: Callable[[int], None]) -> Iterator[bytes]:
    """Yield the lines of a file, unpacked, and report the bytes of the file itself."""
    told = number = 0
    try:
        with path.open("rb") as file:
            # Compressed content is read ahead in blocks, so the file's own position runs ahead of the lines a little.
            lines = cast(BinaryIO, gzip.GzipFile(fileobj=file)) if path.name.lower().endswith(".gz") else file
            while line := lines.readline(_LINE_BYTES):
                number += 1
                if len(line) >= _LINE_BYTES:
                    raise InputError(
                        f"{path}:{number}: the line has over {_LINE_BYTES >> 20} MiB; this is no query log."
                    )
                yield line
                if number % _LINES_A_REPORT == 0:
                    done(file.tell() - told)
                    told = file.tell()
            done(file.tell() - told)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            f"{path}: damaged after line {number} ({error}). Compress it again, or unpack what is left of it."
        ) from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error


def _record(line: str, where: str, kind: str) -> str | Json:
    if kind == ".jsonl":
        return object_from_text(line, where, _OBJECT_FORM)
    # An empty first or last column is one all the same.
    return line if kind == ".tsv" else line.strip()
