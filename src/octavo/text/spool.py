"""A tokenized corpus on the disk, so that training never holds a query log in memory.

A spool is a folder of plain arrays and one `spool.json`, which says how much of them counts. They grow by chunks;
what an interruption leaves beyond the last recorded chunk is cut off when the work is taken up again. Knows no log
format: the caller makes the inputs, and a fingerprint of all that they and their tokens depend on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np

from octavo.errors import InputError
from octavo.text.batch import TokenBatch
from octavo.text.tokenizer import Tokenizer
from octavo.types import Input, IntArray, Pair

_FORMAT = 1
_DTYPES = {"ids": np.int32, "offsets": np.int64, "segments": np.int8, "reads": np.int64, "groups": np.int64}
# What is tokenized at once: enough to keep the cores busy, and some 15 MB while it lasts.
_CHUNK_INPUTS = 4096
_CHUNK_CHARACTERS = 1 << 18
_CHUNKS_A_COMMIT = 32


@dataclass(frozen=True, slots=True)
class Spooled:
    """A corpus on the disk.

    Attributes:
        batch: all inputs, memory-mapped, (inputs,).
        group_offsets: group `i` is the inputs `group_offsets[i]` to `group_offsets[i + 1]`, memory-mapped,
            (groups + 1,). Groups are never empty.
    """

    batch: TokenBatch
    group_offsets: IntArray


class _State(msgspec.Struct, frozen=True, kw_only=True):
    """How much of the files counts; `records` were taken from the caller for it."""

    fingerprint: str
    format: int = _FORMAT
    finished: bool = False
    records: int = 0
    groups: int = 0
    inputs: int = 0
    tokens: int = 0
    reads: int = 0
    has_segments: bool = False
    has_reads: bool = False

    def size(self, name: str) -> int:
        """Return the number of elements of a file."""
        sizes = {"offsets": self.inputs + 1, "groups": self.groups + 1, "reads": self.reads}
        return sizes.get(name, self.tokens)


def spool(
    folder: Path,
    fingerprint: str,
    groups: Iterable[Sequence[Input]],
    tokenizer: Tokenizer,
    *,
    done: Callable[[int], None] = lambda _records: None,
) -> Spooled:
    """Tokenize groups of inputs into `folder`, and open the result without reading it.

    A finished spool of the same fingerprint is opened as it is, and `groups` is not looked at. An interrupted one is
    gone on with: as many groups as it holds are passed over. Anything else in its place is written anew. One process
    at a time may write to a folder.

    Args:
        folder: made where it is missing.
        fingerprint: of the logs, of how they become groups, and of the tokenizer.
        groups: inputs that are trained on together; an empty group is passed over.
        tokenizer: as it is for the model.
        done: told how many more groups are done, those of an earlier attempt included.

    Raises:
        InputError: the folder cannot be written, the disk is full, or an input cannot be tokenized; what was done is
            kept, as it is on Ctrl-C.
    """
    try:
        state = _found(folder, fingerprint) or _begun(folder, fingerprint)
        if state.finished:
            done(state.records)
        else:
            state = _written(folder, state, groups, tokenizer, done)
        return _opened(folder, state)
    except OSError as error:
        raise InputError(
            f"{folder}: the tokenized texts cannot be kept there ({error.strerror}). Free some space or name another "
            "folder; what was written before is gone on with."
        ) from error


def _found(folder: Path, fingerprint: str) -> _State | None:
    """Return the state of a spool that can be opened or gone on with."""
    try:
        state = msgspec.json.decode((folder / "spool.json").read_bytes(), type=_State)
        sizes = {name: _file(folder, name).stat().st_size for name in _DTYPES}
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return None
    whole = all(sizes[name] >= _bytes(state, name) for name in _DTYPES)
    return state if whole and (state.format, state.fingerprint) == (_FORMAT, fingerprint) else None


def _begun(folder: Path, fingerprint: str) -> _State:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spool.json").unlink(missing_ok=True)
    for name in _DTYPES:
        # Not emptied but replaced: somebody may have the old file mapped.
        _file(folder, name).unlink(missing_ok=True)
        _file(folder, name).write_bytes(bytes(8) if name in ("offsets", "groups") else b"")
    return _State(fingerprint=fingerprint)


def _written(
    folder: Path,
    state: _State,
    groups: Iterable[Sequence[Input]],
    tokenizer: Tokenizer,
    done: Callable[[int], None],
) -> _State:
    records = iter(groups)
    with ExitStack() as stack:
        files = {name: stack.enter_context(_file(folder, name).open("r+b", buffering=0)) for name in _DTYPES}
        for name, file in files.items():
            file.truncate(_bytes(state, name))
            file.seek(0, os.SEEK_END)
        passed = sum(1 for _ in islice(records, state.records))
        if passed < state.records:
            raise InputError(
                f"{folder}: {state.records:,} records were tokenized before the interruption, and now there are only "
                f"{passed:,}. Remove the folder to begin anew."
            )
        done(passed)
        try:
            for number, chunk in enumerate(_chunks(records), 1):
                state = _appended(files, state, chunk, tokenizer)
                done(len(chunk))
                if number % _CHUNKS_A_COMMIT == 0:
                    _commit(folder, files, state)
        except BaseException:
            _commit(folder, files, state)
            raise
        state = msgspec.structs.replace(state, finished=True)
        _commit(folder, files, state)
    return state


def _chunks(groups: Iterator[Sequence[Input]]) -> Iterator[list[Sequence[Input]]]:
    chunk: list[Sequence[Input]] = []
    inputs = characters = 0
    for group in groups:
        chunk.append(group)
        inputs += max(len(group), 1)
        characters += sum(map(_characters, group))
        if inputs >= _CHUNK_INPUTS or characters >= _CHUNK_CHARACTERS:
            yield chunk
            chunk, inputs, characters = [], 0, 0
    if chunk:
        yield chunk


def _characters(item: Input) -> int:
    if isinstance(item, str):
        return len(item)
    return len(item.first) + len(item.second) if isinstance(item, Pair) else sum(map(len, item.words))


def _appended(
    files: Mapping[str, BinaryIO], state: _State, chunk: Sequence[Sequence[Input]], tokenizer: Tokenizer
) -> _State:
    """Write the tokens of a chunk behind what the files hold, and return the state that counts them."""
    try:
        batch = tokenizer.encode([item for group in chunk for item in group])
    except InputError as error:
        raise InputError(f"Records {state.records + 1} to {state.records + len(chunk)}: {error}") from error
    ends = list(accumulate(len(group) for group in chunk if group))
    after = msgspec.structs.replace(
        state,
        records=state.records + len(chunk),
        groups=state.groups + len(ends),
        inputs=state.inputs + len(batch),
        tokens=state.tokens + batch.tokens,
        reads=state.reads + len(batch.read_places),
        has_segments=state.has_segments or batch.segments is not None,
        has_reads=state.has_reads or batch.reads is not None,
    )
    _write(files, "ids", batch.ids)
    _write(files, "offsets", batch.offsets[1:] + state.tokens)
    _write(files, "reads", batch.read_places + state.tokens)
    _write(files, "groups", np.array(ends, np.int64) + state.inputs)
    if batch.segments is not None:
        _write(files, "segments", batch.segments)
    else:  # zeros, which take no room on most disks
        files["segments"].truncate(after.tokens)
        files["segments"].seek(0, os.SEEK_END)
    return after


def _write(files: Mapping[str, BinaryIO], name: str, values: IntArray) -> None:
    left = memoryview(values.astype(_DTYPES[name]).tobytes())
    while left:
        left = left[files[name].write(left) :]


def _commit(folder: Path, files: Mapping[str, BinaryIO], state: _State) -> None:
    """Record how much counts, once it is on the disk."""
    for file in files.values():
        os.fsync(file.fileno())
    draft = folder / "spool.json.partial"
    draft.write_bytes(msgspec.json.encode(state) + b"\n")
    draft.replace(folder / "spool.json")


def _opened(folder: Path, state: _State) -> Spooled:
    arrays = {name: _mapped(_file(folder, name), name, state.size(name)) for name in _DTYPES}
    segments = arrays["segments"] if state.has_segments else None
    reads = arrays["reads"] if state.has_reads else None
    return Spooled(TokenBatch(arrays["ids"], arrays["offsets"], segments, reads), arrays["groups"])


def _mapped(file: Path, name: str, size: int) -> IntArray:
    if size == 0:  # nothing to map
        return np.zeros(0, np.int64)
    return np.asarray(np.memmap(file, _DTYPES[name], "r", shape=(size,)))


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.bin"


def _bytes(state: _State, name: str) -> int:
    return state.size(name) * np.dtype(_DTYPES[name]).itemsize
