"""Task `classify`: one label per text (or pair of texts), such as a query's intent.

Knows labels, the decoding of logits and the metric. Knows no model, no engine and no loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from octavo.data.json_lines import object_from_text
from octavo.data.labels import unknown_label
from octavo.data.rows import ROW_FORM, read_rows, texts_of, texts_under
from octavo.data.splits import check_splits
from octavo.errors import InputError, ModelError
from octavo.tasks.base import Answers, FolderFacts, Groups, Head, Purpose, Reads, Split, Task, Units
from octavo.tasks.labels import claims_architecture, config_from_labels, labels_from_config
from octavo.tasks.probabilities import divergence, softmax
from octavo.types import FloatArray, Input, IntArray, Json, Measure, Outputs, Pair, Row, Rows

TOP_LABELS = 5  # how many of the likeliest labels an answer lists

_ITEM_FORM = '{"text": "..."}, or {"text": "...", "text_pair": "..."} for a pair'


@dataclass(frozen=True, slots=True)
class Classification:
    """The answer for one text or pair: its label, that label's probability, and the likeliest labels in order."""

    label: str
    confidence: float
    scores: dict[str, float]

    def line(self) -> str:
        """Say it in a line."""
        others = ", ".join(f"{label} {score:.1%}" for label, score in list(self.scores.items())[1:3])
        return f"{self.label}  {self.confidence:.1%}" + (f"  ({others})" if others else "")


@dataclass(frozen=True, slots=True)
class Classify(Task):
    """A classification over `labels`; output `i` of the head belongs to `labels[i]`."""

    labels: tuple[str, ...]

    name: ClassVar[str] = "classify"
    what: ClassVar[str] = "says what a query is about"
    row_format: ClassVar[str] = ROW_FORM

    def __post_init__(self) -> None:
        if len(self.labels) < 2:
            raise ModelError(f"Classification needs at least 2 labels, and there are {len(self.labels)}.")
        if len(set(self.labels)) < len(self.labels):
            twice = next(label for label in self.labels if self.labels.count(label) > 1)
            raise ModelError(f"The label '{twice}' occurs twice; the model's answers would be ambiguous.")

    @classmethod
    def claims(cls, facts: FolderFacts) -> bool:
        """Return whether the folder holds a sequence classifier of several labels."""
        several = len(labels_from_config(facts.config)) > 1
        return claims_architecture(facts.config, "ForSequenceClassification") and several

    @classmethod
    def from_folder(cls, facts: FolderFacts) -> Self:
        """Return the classification over the labels of `config.json`.

        Raises:
            ModelError: the labels are unusable, or the head gives several labels to a text.
        """
        problem = facts.config.get("problem_type")
        if problem not in (None, "single_label_classification"):
            raise ModelError(f"{facts.source}: problem_type is '{problem}'; {cls.name} needs one label per text.")
        return cls(labels_from_config(facts.config, f"{facts.source}/config.json"))

    @classmethod
    def from_rows(cls, path: Path) -> Self:
        """Return the classification over the labels of the rows, in alphabetical order."""
        labels = sorted({row.label for row in read_rows(path).rows if row.label is not None})
        if len(labels) < 2:
            raise InputError(f"{path}: the rows have {len(labels)} label; a classifier needs at least 2.")
        return cls(tuple(labels))

    @classmethod
    def from_settings(cls, settings: Json) -> Self:
        """Return the classification out of a release's settings."""
        return cls(tuple(settings["labels"]))

    def settings(self) -> Json:
        """Return the labels."""
        return {"labels": list(self.labels)}

    def folder_facts(self) -> FolderFacts:
        """Return the labels as `transformers` reads them."""
        return FolderFacts({**config_from_labels(self.labels), "problem_type": "single_label_classification"})

    @property
    def head(self) -> Head:
        """One output per label, out of the first token."""
        return Head(Reads.FIRST, len(self.labels), dense=True)

    def read(self, path: Path, purpose: Purpose) -> LabelledSplit:
        """Read rows of texts, or pairs of texts, and labels."""
        return LabelledSplit(self, read_rows(path))

    def warnings(self, train: Split | None, dev: Split, test: Split) -> list[str]:
        """Return what is wrong with the splits: leaks, labels that contradict or never occur."""
        if not (
            isinstance(train, LabelledSplit) and isinstance(dev, LabelledSplit) and isinstance(test, LabelledSplit)
        ):
            return super(Classify, self).warnings(train, dev, test)
        return check_splits(train.rows, dev.rows, test.rows, self.labels).warnings()

    def inputs_from_log(self, record: str | Json, source: str) -> list[Input]:
        """Return the text of a line, or the text or pair of an object; none where a text is empty."""
        if isinstance(record, str):
            record = {"text": record}
        text, second = texts_under(record, source, _ITEM_FORM, may_be_empty=True)
        stripped = [one.strip() for one in (text, second) if one is not None]
        return [_input_from(*stripped)] if all(stripped) else []

    def item_from_line(self, line: str, where: str = "the line") -> str | Pair:
        """Return the text or pair of a JSON object with `text`; any other line is a text."""
        try:
            content = object_from_text(line, where, _ITEM_FORM) if line.lstrip().startswith("{") else {}
        except InputError:  # a text may begin with a brace
            content = {}
        if "text" not in content:
            return line
        return _input_from(*texts_under(content, where, _ITEM_FORM, may_be_empty=True))

    def prepare(self, items: Sequence[Any]) -> list[Input]:
        """Return texts, and pairs of texts, as they are."""
        inputs: list[Input] = []
        for item in items:
            if isinstance(item, str | Pair):
                inputs.append(item)
            elif isinstance(item, tuple) and len(item) == 2 and all(isinstance(text, str) for text in item):
                inputs.append(Pair(*item))
            else:
                raise InputError(f"A text to classify is a string, or a pair of strings, and not {item!r:.80}.")
        return inputs

    def decode(self, outputs: Outputs, items: Sequence[Any]) -> list[Classification]:
        """Return each item's label with the likeliest labels. Of equal logits the first one wins, as in `answers`."""
        logits = self.checked(outputs)
        best = np.argsort(-logits, axis=1, kind="stable")[:, :TOP_LABELS]  # (items, top)
        probabilities = softmax(logits)[np.arange(len(best))[:, None], best]  # (items, top)
        name = self.labels.__getitem__
        return [
            Classification(name(ids[0]), values[0], dict(zip(map(name, ids), values, strict=True)))
            for ids, values in zip(best.tolist(), probabilities.tolist(), strict=True)
        ]

    def truth(self, rows: Sequence[Row]) -> IntArray:
        """Return the label ids of `rows`, (rows,).

        Raises:
            InputError: a row's label is missing or unknown; names `file:line` and suggests near labels.
        """
        ids = {label: i for i, label in enumerate(self.labels)}
        for row in rows:
            if row.label not in ids:
                raise unknown_label(row, self.labels)
        return np.array([ids[row.label] for row in rows if row.label is not None], np.int64)

    def checked(self, outputs: Outputs) -> FloatArray:
        """Return the logits, (inputs, labels), or refuse those of another head."""
        logits = outputs.values
        if logits.ndim != 2 or logits.shape[1] != len(self.labels):
            raise ModelError(f"The head's output has shape {logits.shape}, and there are {len(self.labels)} labels.")
        return logits


class LabelledSplit:
    """Texts with their labels: a unit is a row."""

    agreement_means: ClassVar[str] = "of the answers are the same"
    flip_means: ClassVar[str] = "are answered differently"

    def __init__(self, task: Classify, rows: Rows) -> None:
        """Check the rows' labels. Raises InputError for one that the task does not have."""
        self.task = task
        self.rows = rows
        self.truth = task.truth(rows.rows)  # (rows,)

    @property
    def name(self) -> str:
        """Of the split."""
        return self.rows.name

    @property
    def sha256(self) -> str:
        """Of the file."""
        return self.rows.sha256

    @cached_property
    def inputs(self) -> list[Input]:
        """The texts, or pairs of texts."""
        return [_input_from(row.text, row.second) for row in self.rows.rows]

    @cached_property
    def units(self) -> Units:
        """The rows, looked at by label."""
        labels = [self.task.labels[i] for i in self.truth]
        texts = [" | ".join(texts_of(row)) for row in self.rows.rows]
        return Units("row", texts, labels, np.arange(len(texts)), labels)

    @property
    def groups(self) -> Groups:
        """Each row alone."""
        return Groups.singles(len(self.rows))

    def answers(self, outputs: Outputs, teacher: Outputs) -> Answers:
        """Return labels, whether they are right, and whether they are the teacher's."""
        logits = self.task.checked(outputs)
        if len(logits) != len(self.truth):
            raise InputError(f"There are {len(logits)} rows of logits and {len(self.truth)} true labels.")
        best = logits.argmax(axis=1)
        probabilities = softmax(logits)
        return Answers(
            measures=(Measure("accuracy", np.asarray(best == self.truth, np.float32), np.ones(len(best), np.float32)),),
            names=[self.task.labels[i] for i in best],
            agreement=np.asarray(best == teacher.values.argmax(axis=1), np.float32),
            confidence=probabilities[np.arange(len(best)), best],
            shown=probabilities,
        )

    def distance(self, outputs: Outputs, teacher: Outputs) -> float:
        """Return the mean divergence KL(teacher ‖ outputs)."""
        return float(divergence(outputs.values, teacher.values).mean())


def _input_from(text: str, second: str | None = None) -> str | Pair:
    return text if second is None else Pair(text, second)
