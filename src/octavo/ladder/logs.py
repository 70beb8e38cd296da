"""Query logs as something to learn from: read once, kept on disk as tokens and as the teacher's outputs.

A log may be larger than memory. It is streamed; what occurs twice or is held out is dropped, and what is left lies in
files that training reads a batch at a time. An interrupted run goes on where it stopped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from torch import nn

from octavo.data.characters import text_key
from octavo.data.logs import distinct, log_bytes, read_records
from octavo.encoder.running import run_to_file
from octavo.errors import InputError
from octavo.progress import Progress
from octavo.tasks.base import Groups, Task
from octavo.text.batch import TokenBatch
from octavo.text.layout import Positions
from octavo.text.spool import spool
from octavo.text.tokenizer import Tokenizer
from octavo.types import Input, Outputs, texts_of_input


@dataclass(frozen=True, slots=True)
class Log:
    """Query logs, and what must not be learnt from them.

    Attributes:
        paths: the files.
        task: says what a record comes to.
        held_out: keys of the held-out inputs: a log may well contain them, and learning the teacher's answers to them
            would flatter the student.
        fingerprint: tells these logs, read for this task, from others.
    """

    paths: Sequence[Path]
    task: Task
    held_out: frozenset[str]
    fingerprint: str

    @property
    def size_bytes(self) -> int:
        """Of the files, for progress."""
        return log_bytes(self.paths)

    def groups(self, done: Callable[[int], None] = lambda _bytes: None) -> Iterator[list[Input]]:
        """Yield the inputs of each record that is new and not held out; `done` is told of bytes read."""
        records = (self.task.inputs_from_log(record, source) for record, source in read_records(self.paths, done))
        new = distinct((group for group in records if group), lambda group: "\0".join(map(key_of, group)).encode())
        return (group for group in new if not any(key_of(given) in self.held_out for given in group))


def read_log(paths: Sequence[Path], task: Task, held_out: Iterable[Input]) -> Log:
    """Check query logs, and read the first record.

    Raises:
        InputError: a file is missing or of another kind, its first record is unfit, or there is nothing to learn from.
    """
    log = Log(paths, task, frozenset(map(key_of, held_out)), _fingerprint(paths, task))
    if next(log.groups(), None) is None:
        raise InputError(f"{', '.join(map(str, paths))}: nothing to learn from; all is empty or held out.")
    return log


def on_disk(
    folder: Path, name: str, inputs: Sequence[Input], log: Log, tokenizer: Tokenizer, progress: Progress
) -> tuple[TokenBatch, Groups]:
    """Tokenize some inputs and then a log into `folder`; the log's groups are returned, not those of the inputs."""
    with progress.step("tokenize query logs (bytes)", log.size_bytes) as bar:
        made = spool(folder, name, chain(([one] for one in inputs), log.groups(bar.advance)), tokenizer)
    offsets = np.asarray(made.group_offsets[len(inputs) :], np.int64)
    first = int(offsets[0])
    return made.batch, Groups(np.arange(first, int(offsets[-1])), offsets - first)


def joined(first: Groups, second: Groups) -> Groups:
    """Return the groups of both, in order."""
    offsets = np.concatenate([first.offsets, second.offsets[1:] + first.offsets[-1]])
    return Groups(np.concatenate([first.inputs, second.inputs]), offsets)


def outputs_on_disk(
    file: Path, model: nn.Module, positions: Positions, batch: TokenBatch, progress: Progress
) -> Outputs:
    """Ask the teacher about every input; its outputs lie in `file`."""
    with progress.step("teacher answers training rows and logs", len(batch)) as bar:
        return run_to_file(model, batch, positions, file, bar.advance)


def key_of(given: Input) -> str:
    """Return what an input is told from others by: its text without case and outer spaces."""
    return text_key(*texts_of_input(given))


def _fingerprint(paths: Sequence[Path], task: Task) -> str:
    """Name the logs by size and time of change: to hash them would read them once more."""
    log_bytes(paths)
    stats = [path.stat() for path in paths]
    told = [(str(path.resolve()), one.st_size, one.st_mtime_ns) for path, one in zip(paths, stats, strict=True)]
    return hashlib.sha256(f"{told} {task}".encode()).hexdigest()
