"""Entities in tagged words, and their F1: strict IOB2, as seqeval counts with `mode="strict", scheme=IOB2`.

`B-x` begins an entity of type x; each `I-x` right after a word of that same entity continues it. An `I-x` anywhere
else is no part of any entity. This one reading serves everywhere: a repaired reading for people (taking an orphan
`I-x` for `B-x`) would show answers that differ from those that were certified.

Works on tag ids of many sentences at once, laid end to end: sentence `i` is `tags[offsets[i]:offsets[i + 1]]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from octavo.text.words import text_of
from octavo.types import IntArray, Measure

_NONE = -1


@dataclass(frozen=True, slots=True)
class Entity:
    """An entity that stands in `words[start:end]`, and those words as text."""

    type: str
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Spans:
    """Entities by their places in the words of all sentences, ascending.

    Attributes:
        starts: first words, (entities,).
        ends: the words after the last ones, (entities,).
        types: numbers of the entity types, (entities,).
    """

    starts: IntArray
    ends: IntArray
    types: IntArray


@dataclass(frozen=True, slots=True)
class Iob2:
    """What IOB2 tags mean.

    Attributes:
        types: names of the entity types.
        type_of: number of each tag's type, -1 for `O`, (tags,).
        begins: whether a tag is a `B-`, (tags,).
    """

    types: tuple[str, ...]
    type_of: IntArray
    begins: npt.NDArray[np.bool_]

    @classmethod
    def from_tags(cls, tags: Sequence[str]) -> Iob2:
        """Read tags that are `O`, `B-x` or `I-x`; the type is all that follows the first dash."""
        types = tuple(dict.fromkeys(tag[2:] for tag in tags if tag[2:]))
        numbers = {name: i for i, name in enumerate(types)}
        type_of = np.array([numbers.get(tag[2:], _NONE) for tag in tags], np.int64)
        return cls(types, type_of, np.array([tag.startswith("B-") for tag in tags], np.bool_))

    def spans(self, tags: IntArray, offsets: IntArray) -> Spans:
        """Return the entities in tag ids, (words,), of sentences at `offsets`, (sentences + 1,)."""
        types, begins = self.type_of[tags], self.begins[tags]  # (words,) each
        continues = np.zeros(len(tags), np.bool_)
        continues[1:] = ~begins[1:] & (types[1:] == types[:-1])
        continues[offsets[:-1][np.diff(offsets) > 0]] = False  # a sentence's first word
        # A run is a word and all that continue it. Those that begin with B- are entities, no others.
        firsts = np.flatnonzero(~continues)
        ends = np.append(firsts[1:], len(tags))
        entities = begins[firsts]
        return Spans(firsts[entities], ends[entities], types[firsts[entities]])


def f1(predicted: Spans, truth: Spans, offsets: IntArray) -> Measure:
    """Return the F1 of predicted entities, in sentences; one counts as right with its bounds and its type."""
    _, ours, theirs = np.intersect1d(predicted.starts, truth.starts, assume_unique=True, return_indices=True)
    equal = (predicted.ends[ours] == truth.ends[theirs]) & (predicted.types[ours] == truth.types[theirs])
    hits = per_sentence(predicted.starts[ours[equal]], offsets)
    weights = per_sentence(predicted.starts, offsets) + per_sentence(truth.starts, offsets)
    return Measure("f1", (2 * hits).astype(np.float32), weights.astype(np.float32))


def per_sentence(words: IntArray, offsets: IntArray) -> IntArray:
    """Return how many of some words, given by their places, are in each sentence, (sentences,)."""
    return np.bincount(np.searchsorted(offsets, words, side="right") - 1, minlength=len(offsets) - 1)


def entities_from_spans(
    spans: Spans, types: Sequence[str], sentences: Sequence[Sequence[str]], offsets: IntArray
) -> list[tuple[Entity, ...]]:
    """Return each sentence's entities; `start` and `end` count the sentence's own words."""
    starts, ends, numbers = spans.starts.tolist(), spans.ends.tolist(), spans.types.tolist()
    bounds = np.searchsorted(spans.starts, offsets).tolist()  # where each sentence's entities begin
    found = []
    for words, base, (first, last) in zip(sentences, offsets.tolist(), pairwise(bounds), strict=False):
        places = [(starts[i] - base, ends[i] - base, types[numbers[i]]) for i in range(first, last)]
        found.append(tuple(Entity(name, start, end, text_of(words[start:end])) for start, end, name in places))
    return found
