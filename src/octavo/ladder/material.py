"""What every rung is made from: the teacher, the rows, their tokens, and the teacher's answers to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from octavo.data.logs import read_texts
from octavo.data.rows import read_rows
from octavo.data.splits import check_splits
from octavo.distill.objectives import UNLABELLED
from octavo.encoder.folder import ModelFolder, classifier_from_folder, read_folder
from octavo.encoder.model import SequenceClassifier
from octavo.encoder.running import run_all
from octavo.errors import InputError
from octavo.ladder.evidence import HeldOut
from octavo.progress import Progress
from octavo.recipe import Recipe
from octavo.tasks.classify import NAME, Classify
from octavo.text.batch import TokenBatch
from octavo.text.tokenizer import Tokenizer
from octavo.types import FloatArray, IntArray, Rows


@dataclass(frozen=True, slots=True)
class Material:
    """The inputs of one compression, read, checked and tokenized.

    Attributes:
        train: tokens of the training rows and of the query logs, labelled ones first.
        train_truth: label id of each, or `UNLABELLED`, (rows,).
        train_teacher: the teacher's logits for each, (rows, labels).
        train_sha256: names the training rows in checkpoints.
        warnings: what the data made us notice, one sentence each.
    """

    recipe: Recipe
    folder: ModelFolder
    teacher: SequenceClassifier
    task: Classify
    tokenizer: Tokenizer
    train: TokenBatch
    train_truth: IntArray
    train_teacher: FloatArray
    train_sha256: str
    dev: HeldOut
    test: HeldOut
    warnings: list[str]

    @property
    def position_offset(self) -> int:
        """Row of the position table that the first token takes."""
        return self.folder.config.position_offset


def gather(recipe: Recipe, progress: Progress) -> Material:
    """Read teacher and rows, check that they belong together, and ask the teacher about every row.

    Raises:
        ModelError: the teacher's folder cannot be used.
        InputError: rows that cannot be used, or labels that the teacher does not have.
    """
    if recipe.task != NAME:
        raise InputError(f"Task '{recipe.task}' is not known. Known: {NAME}.")
    folder = read_folder(recipe.teacher)
    teacher = classifier_from_folder(folder)
    task = Classify(folder.labels)
    dev, test = read_rows(recipe.data.dev), read_rows(recipe.data.test)
    train = read_rows(recipe.data.train) if recipe.data.train else None
    warnings = check_splits(train, dev, test, task.labels).warnings() if train else []
    tokenizer = Tokenizer.from_folder(folder.path, max_length=min(recipe.max_length, folder.config.max_length))
    labelled = train.texts if train else []
    logs = list(read_texts(recipe.data.unlabelled))
    if not labelled and not logs:
        raise InputError("There is nothing to learn from: give training rows (--train) or query logs (--unlabelled).")
    truth = np.full(len(labelled) + len(logs), UNLABELLED, np.int64)
    if train:
        truth[: len(train)] = task.truth(train.rows)
    tokens = tokenizer.encode(labelled + logs)

    def ask(batch: TokenBatch, name: str) -> FloatArray:
        with progress.step(f"teacher answers {name} rows", len(batch)) as bar:
            return run_all(teacher, batch, folder.config.position_offset, bar.advance)

    def held_out(rows: Rows, name: str) -> HeldOut:
        batch = tokenizer.encode(rows.texts)
        return HeldOut(rows, batch, task.truth(rows.rows), ask(batch, name))

    return Material(
        recipe=recipe,
        folder=folder,
        teacher=teacher,
        task=task,
        tokenizer=tokenizer,
        train=tokens,
        train_truth=truth,
        train_teacher=ask(tokens, "training"),
        train_sha256=f"{train.sha256 if train else ''}+{len(logs)}",
        dev=held_out(dev, "dev"),
        test=held_out(test, "test"),
        warnings=warnings,
    )
