"""Task `tag`: a tag per word, such as a query's slots or term weights, and perhaps one intent for the whole of it.

Knows tags and intents, rows, and what outputs are worth: entity F1 for IOB2 tags, the share of right words for plain
ones. Knows no model, no engine and no loss. How outputs are read stands in `tagging.py`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from octavo.data.characters import shown, well_formed
from octavo.data.labels import listed, unknown_name
from octavo.data.tagged import OUTSIDE, ROW_FORMAT, Scheme, TaggedRow, fault_of_tag, fits, read_tagged, scheme_of
from octavo.errors import InputError, ModelError
from octavo.tasks.base import Answers, FolderFacts, Groups, Head, Purpose, Reads, Task, Units
from octavo.tasks.entities import Iob2, f1, per_sentence
from octavo.tasks.labels import claims_architecture, config_from_labels, labels_from_config
from octavo.tasks.likeness import by_input, choices_alike, rows_in_common
from octavo.tasks.tagging import Chosen, Tagging, decoded, distance, taggings
from octavo.text.words import text_of, words_of
from octavo.types import FloatArray, Input, IntArray, Json, Measure, Outputs, Words

INTENT = "intent:"  # what a model folder's names of intents begin with


@dataclass(frozen=True, slots=True)
class Tag(Task):
    """Tagging of words. Output `i` of the head belongs to `tags[i]`; those after the tags belong to the intents.

    Of a sentence's output rows, the first one (of the sequence's first token) gives the intent, the others the tags.
    """

    name: ClassVar[str] = "tag"
    what: ClassVar[str] = "finds the slots in a query"
    row_format: ClassVar[str] = ROW_FORMAT

    tags: tuple[str, ...]
    intents: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.tags) < 2:
            raise ModelError(f"Tagging needs at least 2 tags, and there are {len(self.tags)}.")
        if not all(intent.strip() for intent in self.intents):
            raise ModelError("An intent has a blank name. Give it one.")
        for kind, names in (("tag", self.tags), ("intent", self.intents)):
            if len(set(names)) < len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise ModelError(f"The {kind} '{twice}' occurs twice; the model's answers would be ambiguous.")
        _check_tags(self.tags)

    @classmethod
    def claims(cls, facts: FolderFacts) -> bool:
        """Return whether the folder holds a `*ForTokenClassification`."""
        return claims_architecture(facts.config, "ForTokenClassification")

    @classmethod
    def from_folder(cls, facts: FolderFacts) -> Self:
        """Return the task of a folder's `id2label`; names that begin with `intent:` are intents and stand last.

        Raises:
            ModelError: there is no usable `id2label`, an intent stands before a tag, or tags that do not go together.
        """
        source = f"{facts.source}: config.json"
        names = labels_from_config(facts.config, source)
        intents = tuple(name.removeprefix(INTENT) for name in names if name.startswith(INTENT))
        tags = names[: len(names) - len(intents)]
        if early := next((name for name in tags if name.startswith(INTENT)), None):
            raise ModelError(f"{source}: {shown(early)} stands before a tag in id2label. Intents must come last.")
        try:
            return cls(tags, intents)
        except ModelError as error:
            raise ModelError(f"{source}: {error}") from error

    @classmethod
    def from_rows(cls, path: Path) -> Self:
        """Return the task of training rows: `O`, then tags by entity type; intents in alphabetical order."""
        rows = read_tagged(path).rows
        found = {tag for row in rows for tag in row.tags}
        if scheme_of(found) is Scheme.IOB2:
            found.add(OUTSIDE)
            tags = sorted(found, key=lambda tag: (tag != OUTSIDE, tag[2:], tag))
        else:
            tags = sorted(found, key=lambda tag: (tag != OUTSIDE, tag))
        try:
            return cls(tuple(tags), tuple(sorted({row.intent for row in rows if row.intent is not None})))
        except ModelError as error:
            raise InputError(f"{path}: {error}") from error

    @classmethod
    def from_settings(cls, settings: Json) -> Self:
        """Return the task out of what `settings` wrote."""
        tags, intents = settings.get("tags"), settings.get("intents", [])
        for names in (tags, intents):
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise ModelError(f"Settings of task tag need lists of names for tags and intents, not {settings!r}.")
        return cls(tuple(tags or ()), tuple(intents))

    def settings(self) -> Json:
        """Return the tags and intents, in order."""
        return {"tags": list(self.tags), "intents": list(self.intents)}

    def folder_facts(self) -> FolderFacts:
        """Return the names of all outputs, so that `transformers` loads the folder as a token classifier."""
        return FolderFacts(config_from_labels(self.tags + tuple(INTENT + name for name in self.intents)))

    @property
    def head(self) -> Head:
        """One layer over each word's first token, and over the sequence's first token for the intent."""
        return Head(Reads.WORDS, len(self.tags) + len(self.intents))

    def read(self, path: Path, purpose: Purpose) -> TagSplit:
        """Read tagged rows, whatever for. A model without intents ignores those of the rows.

        Raises:
            InputError: unfit rows, a tag or an intent that the model does not have, or an intent that is missing.
        """
        rows = read_tagged(path)
        truth = self._truth(rows.rows)
        inputs = [Words(row.tokens) for row in rows.rows]
        offsets = _offsets(inputs)
        units = Units(
            word="sentence",
            texts=[text_of(row.tokens) for row in rows.rows],
            truth=[answer.summary() for answer in taggings(inputs, offsets, truth, self.tags, self.intents)],
            inputs=np.arange(len(rows)),
            slices=() if truth.intents is None else [self.intents[i] for i in truth.intents.tolist()],
        )
        return TagSplit(rows.name, rows.sha256, inputs, units, Groups.singles(len(rows)), self, offsets, truth)

    def inputs_from_log(self, record: str | Json, source: str) -> list[Input]:
        """Return the one sentence of a line, or of an object with `tokens` or `text`; none for a blank one."""
        words = words_of(record) if isinstance(record, str) else _words_of_object(record, source)
        return [Words(words)] if words else []

    def item_from_line(self, line: str, where: str = "the line") -> str | list[str]:
        """Return the words of a JSON list of strings; any other line is a text."""
        try:
            words = json.loads(line)
        except (ValueError, RecursionError):
            return line
        return words if isinstance(words, list) and words and all(isinstance(word, str) for word in words) else line

    def prepare(self, items: Sequence[Any]) -> list[Input]:
        """Return the words of each item: a text, or a sequence of words, which stay as they are."""
        return [*_sentences(items)]

    def decode(self, outputs: Outputs, items: Sequence[Any]) -> list[Tagging]:
        """Return each item's words with their tags, the entities that these come to, and the intent."""
        sentences = _sentences(items)
        offsets = _offsets(sentences)
        chosen, _ = decoded(outputs, offsets, self.tags, self.intents)
        return taggings(sentences, offsets, chosen, self.tags, self.intents)

    def likeness(self, old: Outputs, new: Outputs) -> tuple[FloatArray, FloatArray]:
        """Return whether all words that both read, and the intent, are the same; and how far probabilities moved."""
        rows, new_rows, offsets = rows_in_common(old, new)
        before, after = old.values[rows], new.values[new_rows]
        tags = len(self.tags)
        same, apart = choices_alike(before[:, :tags], after[:, :tags])  # (rows,)
        firsts = offsets[:-1]
        # A sentence's first row is about the whole of it: its intent, or nothing.
        same[firsts], apart[firsts] = True, 0
        if self.intents:
            same[firsts], apart[firsts] = choices_alike(before[firsts, tags:], after[firsts, tags:])
        return by_input(same, apart, offsets)

    def _truth(self, rows: Sequence[TaggedRow]) -> Chosen:
        tags = {tag: i for i, tag in enumerate(self.tags)}
        intents = {intent: i for i, intent in enumerate(self.intents)}
        for row in rows:
            for tag in row.tags:
                if tag not in tags:
                    raise unknown_name(row.source, "tag", tag, self.tags)
            if intents and row.intent is None:
                raise InputError(f'{row.source}: this row has no "intent". Add one of: {listed(self.intents)}.')
            if intents and row.intent not in intents:
                raise unknown_name(row.source, "intent", row.intent or "", self.intents)
        return Chosen(
            np.array([tags[tag] for row in rows for tag in row.tags], np.int64),
            np.array([intents[row.intent or ""] for row in rows], np.int64) if intents else None,
            np.ones(len(rows), np.float32),
        )


@dataclass(frozen=True, slots=True)
class TagSplit:
    """Tagged sentences, checked.

    Attributes:
        name: of the split.
        sha256: of its file.
        inputs: the sentences.
        units: the same.
        groups: one per sentence.
        task: whose tags and intents the ids below count.
        offsets: where each sentence's words start, and the end, (sentences + 1,).
        truth: the right tags and intents.
    """

    name: str
    sha256: str
    inputs: Sequence[Words]
    units: Units
    groups: Groups
    task: Tag
    offsets: IntArray
    truth: Chosen

    agreement_means: ClassVar[str] = "of the sentences are tagged the same"
    flip_means: ClassVar[str] = "are tagged differently"

    def answers(self, outputs: Outputs, teacher: Outputs) -> Answers:
        """Decode the outputs, and score them by entities (by words for plain tags) and by intents."""
        task, truth = self.task, self.truth
        ours, probabilities = decoded(outputs, self.offsets, task.tags, task.intents)
        theirs, _ = decoded(teacher, self.offsets, task.tags, task.intents)
        measures = [self._measure(ours.tags)]
        agree = self._different(ours.tags, theirs.tags) == 0
        if ours.intents is not None and theirs.intents is not None and truth.intents is not None:
            right = np.asarray(ours.intents == truth.intents, np.float32)
            measures.append(Measure("intent accuracy", right, np.ones(len(right), np.float32), gates=True))
            agree &= ours.intents == theirs.intents
        return Answers(
            measures=tuple(measures),
            names=[one.summary() for one in taggings(self.inputs, self.offsets, ours, task.tags, task.intents)],
            agreement=agree.astype(np.float32),
            confidence=ours.confidence,
            shown=probabilities,
        )

    def distance(self, outputs: Outputs, teacher: Outputs) -> float:
        """Return the mean KL(teacher ‖ outputs) over words, plus that over intents."""
        return distance(outputs, teacher, self.offsets, len(self.task.tags), len(self.task.intents))

    def _measure(self, tags: IntArray) -> Measure:
        if scheme_of(self.task.tags) is Scheme.IOB2:
            iob2 = Iob2.from_tags(self.task.tags)
            return f1(iob2.spans(tags, self.offsets), iob2.spans(self.truth.tags, self.offsets), self.offsets)
        words = np.diff(self.offsets).astype(np.float32)
        wrong: FloatArray = self._different(tags, self.truth.tags).astype(np.float32)
        return Measure("accuracy", words - wrong, words)

    def _different(self, tags: IntArray, others: IntArray) -> IntArray:
        return per_sentence(np.flatnonzero(tags != others), self.offsets)


def _check_tags(tags: Sequence[str]) -> None:
    """Refuse tags that make no sense together, or that strict counting could never find."""
    scheme = scheme_of(tags)
    for tag in tags:
        if fault := fault_of_tag(tag):
            raise ModelError(f"The tag {shown(tag)} {fault}.")
        if tag.startswith(INTENT):
            raise ModelError(f"The tag {shown(tag)} begins as the name of an intent does. Rename it.")
        if not fits(tag, scheme):
            raise ModelError(f"The tag {shown(tag)} is not IOB2, as others are. Use O, B-x and I-x alone, or none.")
        if tag.startswith("I-") and f"B-{tag[2:]}" not in tags:
            raise ModelError(
                f"There is a tag {shown(tag)} but no {shown(f'B-{tag[2:]}')}, so that strict counting would find no "
                "such entity. Train with IOB2 tags, where the first word of each entity has a B-."
            )
    if scheme is Scheme.IOB2 and OUTSIDE not in tags:
        raise ModelError(f"The tags lack {shown(OUTSIDE)}, which words outside all entities have in IOB2.")


def _offsets(sentences: Sequence[Words]) -> IntArray:
    return np.concatenate([[0], np.cumsum([len(sentence.words) for sentence in sentences])]).astype(np.int64)


def _sentences(items: Sequence[Any]) -> list[Words]:
    return [Words(_words_of_item(item, number)) for number, item in enumerate(items)]


def _words_of_item(item: Any, number: int) -> tuple[str, ...]:
    if isinstance(item, str):
        return words_of(item)
    if not isinstance(item, Sequence) or not all(isinstance(word, str) for word in item):
        raise InputError(f"Item {number} is {shown(repr(item))}. Give a text, or a list of words.")
    for place, word in enumerate(item):
        if not word.strip():
            raise InputError(f"Word {place} of item {number} is blank ({shown(word)}). Remove it.")
    return tuple(map(well_formed, item))


def _words_of_object(record: Json, source: str) -> tuple[str, ...]:
    """Return the words of a query log's object; blank ones are dropped, as no tag depends on them."""
    words = record.get("tokens")
    if isinstance(words, list) and all(isinstance(word, str) for word in words):
        return tuple(well_formed(word) for word in words if word.strip())
    text = record.get("text")
    if words is None and isinstance(text, str):
        return words_of(text)
    raise InputError(
        f'{source}: there is neither a list of words under "tokens" nor a "text". Write {{"text": "..."}}.'
    )
