"""What every task has to say for itself, and the values that pass between tasks and the rest. No torch.

A task is one frozen dataclass in a file of its own. The rest of Octavo knows this protocol only: it builds the head
that the task asks for, runs inputs through engines, and lets the task say what the outputs mean and are worth.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np

from octavo.data.characters import text_key
from octavo.tasks.likeness import by_input, choices_alike, rows_in_common
from octavo.types import FloatArray, Input, IntArray, Json, Measure, Outputs


class Reads(StrEnum):
    """Which hidden states a head reads of each sequence."""

    FIRST = "first"
    LAST = "last"
    MEAN = "mean"
    WORDS = "words"  # of each word's first token, after the sequence's first token


@dataclass(frozen=True, slots=True)
class Head:
    """The shape of what follows the encoder.

    Attributes:
        reads: which hidden states.
        outputs: width of the output layer; None for no output layer: the hidden state itself.
        dense: whether a dense layer and an activation come before the output layer.
        normalize: divide each output row by its length.
    """

    reads: Reads
    outputs: int | None = None
    dense: bool = False
    normalize: bool = False

    @property
    def reads_last(self) -> bool:
        """Whether batches have to say so: a batch that says nothing is read at each sequence's first token."""
        return self.reads is Reads.LAST


class Purpose(StrEnum):
    """What a split is read for."""

    TRAIN = "train"
    DEV = "dev"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Answers:
    """What one model answered to a split, in units: texts, sentences or queries.

    Attributes:
        measures: the first one decides; others decide too where they gate, and are told where they do not.
        names: the answers as users read them, (units,).
        agreement: how much of the teacher's answer was kept, 0 to 1, (units,).
        confidence: the model's probability of its answer, (units,); None where the scores are no probabilities.
        shown: the scores as users see them: probabilities, relevance scores or vectors, (rows, columns).
    """

    measures: tuple[Measure, ...]
    names: Sequence[str]
    agreement: FloatArray
    confidence: FloatArray | None
    shown: FloatArray


@dataclass(frozen=True, slots=True)
class Groups:
    """Which inputs are trained on together: group `i` is `inputs[offsets[i]:offsets[i + 1]]`.

    Attributes:
        inputs: numbers of inputs, (members,).
        offsets: (groups + 1,).
    """

    inputs: IntArray
    offsets: IntArray

    @classmethod
    def singles(cls, inputs: int) -> Groups:
        """Return one group per input."""
        return cls(np.arange(inputs), np.arange(inputs + 1))

    def __len__(self) -> int:
        return len(self.offsets) - 1


class Split(Protocol):
    """Rows of a task, checked: the inputs they come to, and what outputs to them are worth.

    Attributes:
        agreement_means: what `Answers.agreement` is a share of, such as `of the answers are the same`.
        flip_means: what differs in a unit whose answer has another name, such as `are answered differently`.
    """

    agreement_means: ClassVar[str]
    flip_means: ClassVar[str]

    @property
    def name(self) -> str:
        """Of the split, for people."""

    @property
    def sha256(self) -> str:
        """Of the file(s) that the rows were read from."""

    @property
    def inputs(self) -> Sequence[Input]:
        """What the model reads, each once."""

    @property
    def units(self) -> Units:
        """What is counted and compared."""

    @property
    def groups(self) -> Groups:
        """What is trained on together."""

    def answers(self, outputs: Outputs, teacher: Outputs) -> Answers:
        """Decode and score the outputs to `inputs`; `teacher` holds the teacher's outputs to the same ones."""

    def distance(self, outputs: Outputs, teacher: Outputs) -> float:
        """Return how far the outputs are from the teacher's; 0 for equal ones. Dev rows choose by it."""


@dataclass(frozen=True, slots=True)
class Units:
    """What a certificate counts: rows, sentences or queries.

    Attributes:
        word: one of them in a word, such as `row`, `sentence` or `query`.
        texts: as people read them, (units,).
        truth: the right answer as people read it, (units,).
        inputs: number of the input that stands for each, and whose tokens are the unit's length, (units,).
        slices: names of the parts to look at one by one, such as labels, (units,); empty for none.
        item: what one input that is timed is called.
        timed: numbers of the inputs that users send and wait for; None for `inputs`.
    """

    word: str
    texts: Sequence[str]
    truth: Sequence[str]
    inputs: IntArray
    slices: Sequence[str] = ()
    item: str = "query"
    timed: IntArray | None = None


class Answer(Protocol):
    """One answer to one item, for programs (its fields) and for people."""

    def line(self) -> str:
        """Say it in a line."""


@dataclass(frozen=True, slots=True)
class FolderFacts:
    """What a model folder says about its task.

    Attributes:
        config: its `config.json`.
        files: other JSON files by path in the folder, such as `modules.json` and `1_Pooling/config.json`.
        source: the folder, for messages.
    """

    config: Json
    files: Mapping[str, Any] = field(default_factory=dict)
    source: str = "the folder"


class Task(ABC):
    """What a model does. Subclasses are frozen dataclasses whose fields are what serving must know.

    Attributes:
        name: `classify`, `tag`, `embed` or `rank`.
        what: the model does, in a few words for people.
        row_format: one row of data, for help and messages.
        example: an item, as `prepare` takes it, in Python source.
    """

    name: ClassVar[str]
    what: ClassVar[str]
    row_format: ClassVar[str]
    example: ClassVar[str] = '"a query"'

    # How a task is come by.

    @classmethod
    @abstractmethod
    def claims(cls, facts: FolderFacts) -> bool:
        """Return whether a model folder says that it does this task."""

    @classmethod
    @abstractmethod
    def from_folder(cls, facts: FolderFacts) -> Self:
        """Return the task that a folder does. Raises ModelError where the folder lacks what that takes."""

    @classmethod
    @abstractmethod
    def from_rows(cls, path: Path) -> Self:
        """Return the task that training rows call for, such as their labels. Raises InputError for unfit rows."""

    @classmethod
    def for_training(cls, facts: FolderFacts, path: Path) -> Self:
        """Return the task to fine-tune an encoder for; a task overrides it where the encoder's folder has a say."""
        return cls.from_rows(path)

    @classmethod
    @abstractmethod
    def from_settings(cls, settings: Json) -> Self:
        """Return the task out of a release's `config.json`. Raises ModelError for unfit settings."""

    # How it is written down.

    @abstractmethod
    def settings(self) -> Json:
        """Return what a release keeps; `from_settings` reads it back."""

    @abstractmethod
    def folder_facts(self) -> FolderFacts:
        """Return what a model folder has to say to be read back by `from_folder`: keys and files to add."""

    # What it asks of a model, and what it makes of the outputs.

    @property
    @abstractmethod
    def head(self) -> Head:
        """The head that the task needs."""

    @abstractmethod
    def read(self, path: Path, purpose: Purpose) -> Split:
        """Read and check a file (or folder) of rows. Raises InputError for unfit rows, naming `file:line`."""

    def warnings(self, train: Split | None, dev: Split, test: Split) -> list[str]:
        """Return what makes the splits unfit to train or certify on, one plain sentence each."""
        return _overlaps(train, dev, test)

    @abstractmethod
    def inputs_from_log(self, record: str | Json, source: str) -> list[Input]:
        """Return the inputs to train on together that one record of a query log comes to; none for an empty one.

        Args:
            record: a line of text, or the object of a JSON line.
            source: `file:line`, for messages.

        Raises:
            InputError: a record of another form.
        """

    @abstractmethod
    def item_from_line(self, line: str, where: str = "the line") -> Any:
        """Return the item, as `prepare` takes it, that a line typed by a user means.

        Raises:
            InputError: the line has another form; the message says `where` it stands.
        """

    def items_from_arguments(self, texts: Sequence[str]) -> list[tuple[str, Any]]:
        """Return the items that some arguments of a command mean, each with the text to show for it."""
        return [(text, self.item_from_line(text)) for text in texts]

    @abstractmethod
    def prepare(self, items: Sequence[Any]) -> list[Input]:
        """Return the inputs that some items come to, in order. Raises InputError for an item of another form."""

    @abstractmethod
    def decode(self, outputs: Outputs, items: Sequence[Any]) -> list[Any]:
        """Return the `Answer` to each item, out of the outputs to `prepare(items)`."""

    def likeness(self, old: Outputs, new: Outputs) -> tuple[FloatArray, FloatArray]:
        """Return how alike two versions' outputs to the same inputs are: a canary is judged by it, without any truth.

        Here outputs are logits: an input's answers agree where each row has its largest at the same place, and drift is
        the total variation between the probabilities.

        Returns:
            agreement and drift, 0 to 1, both (inputs,).
        """
        rows, new_rows, offsets = rows_in_common(old, new)
        return by_input(*choices_alike(old.values[rows], new.values[new_rows]), offsets)


def _overlaps(train: Split | None, dev: Split, test: Split) -> list[str]:
    """Say which units occur in two splits; texts are compared without case and outer spaces."""
    splits = {"train": train, "dev": dev, "test": test}
    keys = {name: [text_key(text) for text in split.units.texts] for name, split in splits.items() if split}
    found = []
    for first, second in combinations(keys, 2):
        known = set(keys[first])
        if shared := sum(key in known for key in keys[second]):
            found.append(f"{second} shares {_counted(shared, test.units.word)} with {first}, which flatters the model.")
    return found


def _counted(count: int, word: str) -> str:
    if count == 1:
        return f"1 {word}"
    return f"{count} {word[:-1]}ies" if word.endswith("y") else f"{count} {word}s"
