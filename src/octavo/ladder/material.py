"""What every rung is made from: the teacher, the rows, their tokens, and the teacher's outputs to them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from octavo.distill.trainer import TrainingData
from octavo.encoder.folder import ModelFolder, model_from_folder, read_folder
from octavo.encoder.model import EncoderWithHead
from octavo.encoder.running import run_all
from octavo.encoder.trim import trim_folder
from octavo.errors import InputError
from octavo.ladder.evidence import HeldOut, asked_inputs
from octavo.ladder.logs import Log, joined, on_disk, outputs_on_disk, read_log
from octavo.progress import Progress
from octavo.recipe import Recipe
from octavo.tasks.base import Groups, Purpose, Split, Task
from octavo.tasks.registry import task_from_facts
from octavo.text.batch import TokenBatch
from octavo.text.layout import Positions
from octavo.text.tokenizer import Tokenizer
from octavo.types import Outputs, texts_of_input


@dataclass(frozen=True, slots=True)
class Source:
    """A float model out of a folder, with the tokenizer that belongs to it."""

    folder: ModelFolder
    model: EncoderWithHead
    tokenizer: Tokenizer

    @property
    def positions(self) -> Positions:
        """How rows of the position table are counted."""
        return self.folder.config.positions

    @property
    def name(self) -> str:
        """What tells the model from others: a hash of its weights and its tokenizer."""
        digest = hashlib.sha256((self.folder.path / "tokenizer.json").read_bytes())
        for key, tensor in self.model.state_dict().items():
            digest.update(key.encode() + tensor.numpy().tobytes())
        return digest.hexdigest()

    def ask(self, batch: TokenBatch, name: str, progress: Progress) -> Outputs:
        """Return the model's outputs to every input."""
        with progress.step(f"teacher answers {name} rows", len(batch)) as bar:
            return run_all(self.model, batch, self.positions, bar.advance)


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """What calibration observes and training learns from: labelled rows first, then query logs.

    Attributes:
        split: the labelled rows; None where there are query logs only.
        data: tokens and groups of all of it.
        teacher: the teacher's outputs to every input.
        name: tells this set from others, in checkpoints.
    """

    split: Split | None
    data: TrainingData
    teacher: Outputs
    name: str


@dataclass(frozen=True, slots=True)
class Material:
    """The inputs of one compression, read, checked and tokenized.

    Attributes:
        teacher: the model that is to be replaced.
        base: what the rungs start from: the teacher itself, or the teacher with a trimmed vocabulary.
        warnings: what the data made us notice, one sentence each.
    """

    recipe: Recipe
    task: Task
    teacher: Source
    base: Source
    train: TrainingSet
    dev: HeldOut
    test: HeldOut
    warnings: list[str]

    @property
    def is_trimmed(self) -> bool:
        """Whether the rungs have another vocabulary than the teacher."""
        return self.base is not self.teacher


def gather(recipe: Recipe, work: Path, progress: Progress) -> Material:
    """Read teacher and rows, check that they belong together, and ask the teacher about every row.

    Args:
        recipe: what to compress, and with which rows.
        work: folder for what is kept between an interrupted run and the next.
        progress: where to report.

    Raises:
        ModelError: the teacher's folder cannot be used.
        InputError: rows that cannot be used, or labels that the teacher does not have.
    """
    folder = read_folder(recipe.teacher)
    task = task_from_facts(folder.facts, recipe.task)
    teacher = _source(folder, task, recipe.max_length)
    dev, test = task.read(recipe.data.dev, Purpose.DEV), task.read(recipe.data.test, Purpose.TEST)
    train = task.read(recipe.data.train, Purpose.TRAIN) if recipe.data.train else None
    if train is None and not recipe.data.unlabelled:
        raise InputError("There is nothing to learn from: give training rows (--train) or query logs (--unlabelled).")
    asked = [*asked_inputs(dev), *asked_inputs(test)]
    log = read_log(recipe.data.unlabelled, task, asked) if recipe.data.unlabelled else None
    base = _trimmed(teacher, task, train, log, recipe, work, progress) if recipe.trim_vocabulary else teacher
    held_out = _held_out(teacher, base, test, "test", progress)
    return Material(
        recipe=recipe,
        task=task,
        teacher=teacher,
        base=base,
        train=_training_set(teacher, base, train, log, work, progress),
        dev=_held_out(teacher, base, dev, "dev", progress),
        test=held_out,
        warnings=[*task.warnings(train, dev, test), *_cuts(teacher, held_out.batch)],
    )


def _cuts(teacher: Source, batch: TokenBatch) -> list[str]:
    """Say how many held-out inputs were cut before the end of what the teacher could read."""
    length, most = teacher.tokenizer.max_length, teacher.folder.config.max_length
    filled = int((batch.lengths >= length).sum())
    if length >= most or not filled:
        return []
    return [
        f"{filled:,} of the {len(batch):,} held-out inputs fill max_length ({length} tokens): what is longer is "
        f"cut, for the teacher too, which could read {most}. --max-length {most} lets both read more."
    ]


def _source(folder: ModelFolder, task: Task, max_length: int) -> Source:
    length = min(max_length, folder.config.max_length)
    tokenizer = Tokenizer.from_folder(folder.path, length, reads_last=task.head.reads_last)
    return Source(folder, model_from_folder(folder, task.head), tokenizer)


def _trimmed(
    teacher: Source, task: Task, train: Split | None, log: Log | None, recipe: Recipe, work: Path, progress: Progress
) -> Source:
    """Return the teacher without the tokens that neither training rows nor logs use."""

    def texts() -> Iterator[str]:
        for given in train.inputs if train else ():
            yield from texts_of_input(given)
        for group in log.groups() if log else ():
            for given in group:
                yield from texts_of_input(given)

    made = trim_folder(teacher.folder.path, texts(), work / "trimmed")
    saved = (made.bytes_before - made.bytes_after) / 1e6
    progress.say(f"vocabulary trimmed: {made.tokens_before:,} → {made.tokens_after:,} tokens, {saved:,.0f} MB less")
    return _source(read_folder(made.folder), task, recipe.max_length)


def _training_set(
    teacher: Source, base: Source, split: Split | None, log: Log | None, work: Path, progress: Progress
) -> TrainingSet:
    if log is not None:
        return _from_disk(teacher, base, split, log, work, progress)
    assert split is not None
    batch = base.tokenizer.encode(split.inputs)
    own = batch if base is teacher else teacher.tokenizer.encode(split.inputs)
    return TrainingSet(
        split,
        TrainingData(batch, split.groups, base.positions),
        teacher.ask(own, "training", progress),
        split.sha256,
    )


def _from_disk(
    teacher: Source, base: Source, split: Split | None, log: Log, work: Path, progress: Progress
) -> TrainingSet:
    """Tokenize rows and logs, and ask the teacher, into files: logs may be larger than memory."""
    inputs = list(split.inputs) if split else []
    names = [teacher.name, "" if base is teacher else base.name]
    told = [split.sha256 if split else "", log.fingerprint, *names, str(base.tokenizer.max_length)]
    name = hashlib.sha256(" ".join(told).encode()).hexdigest()
    batch, groups = on_disk(work / "log", name, inputs, log, base.tokenizer, progress)
    asked = batch
    if base is not teacher:
        asked, _ = on_disk(work / "log-teacher", name, inputs, log, teacher.tokenizer, progress)
    answers = outputs_on_disk(work / f"teacher-{name[:16]}.f32", teacher.model, teacher.positions, asked, progress)
    own = split.groups if split else Groups.singles(0)
    return TrainingSet(split, TrainingData(batch, joined(own, groups), base.positions), answers, name)


def _held_out(teacher: Source, base: Source, split: Split, name: str, progress: Progress) -> HeldOut:
    batch = teacher.tokenizer.encode(split.inputs)
    outputs = teacher.ask(batch, name, progress)
    return HeldOut(split, batch if base is teacher else base.tokenizer.encode(split.inputs), outputs)
