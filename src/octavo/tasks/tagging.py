"""A tagger's outputs to tags, entities and intents, for many sentences at once.

Of a sentence's output rows the first belongs to the sequence as a whole and gives its intent; the others belong to
its words, in order, and give their tags. A sentence that was cut has fewer rows: the words that nobody read are
outside any entity (`O`, or the first tag where a plain scheme has no `O`).

Sentences are laid end to end, words and rows alike: sentence `i` has the words `offsets[i]` to `offsets[i + 1]`.
Knows no files, and no metric.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from octavo.data.tagged import OUTSIDE, Scheme, fits, scheme_of
from octavo.errors import ModelError
from octavo.tasks.entities import Entity, Iob2, entities_from_spans
from octavo.tasks.probabilities import divergence, softmax
from octavo.types import FloatArray, IntArray, Outputs, Words


@dataclass(frozen=True, slots=True)
class Tagging:
    """The answer for one sentence.

    Attributes:
        words: as they were read.
        tags: one per word, as the model chose them.
        entities: what the tags come to in strict IOB2, where an `I-x` that continues nothing is no entity; none for
            plain tags.
        intent: None where the model knows none.
        confidence: the lowest probability of a chosen tag, and of the intent. Words that were cut off do not count;
            it is 0 where no word was read.
    """

    words: tuple[str, ...]
    tags: tuple[str, ...]
    entities: tuple[Entity, ...]
    intent: str | None
    confidence: float

    def summary(self) -> str:
        """Say what was found, such as `room=kitchen · intent: turn_on`, or `red/2 shoes/3` for plain tags."""
        found = _found(self, " · ")
        return found if self.intent is None else f"{found} · intent: {self.intent}"

    def line(self) -> str:
        """Say it in a line, such as `room=kitchen device=lamp  (intent: turn_on)  98.2%`."""
        intent = "" if self.intent is None else f"  (intent: {self.intent})"
        return f"{_found(self, ' ')}{intent}  {self.confidence:.1%}"


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which tags and intents sentences have.

    Attributes:
        tags: number of each word's tag, (words,).
        intents: number of each sentence's intent, (sentences,); None where the model knows none.
        confidence: as in `Tagging`, (sentences,); 1 for the truth.
    """

    tags: IntArray
    intents: IntArray | None
    confidence: FloatArray


def word_rows(reads: IntArray, starts: IntArray) -> tuple[IntArray, IntArray]:
    """Return which output rows belong to words, and to which words, both (words that were read,).

    Args:
        reads: rows of each sentence, at least 1, (sentences,).
        starts: number of each sentence's first word, (sentences,).
    """
    place = np.arange(reads.sum()) - np.repeat(np.cumsum(reads) - reads, reads)  # (rows,), within the sentence
    rows = np.flatnonzero(place > 0)
    return rows, np.repeat(starts, reads)[rows] + place[rows] - 1


def decoded(
    outputs: Outputs, offsets: IntArray, tags: Sequence[str], intents: Sequence[str]
) -> tuple[Chosen, FloatArray]:
    """Return the likeliest tags and intents, of equals the first, and the probabilities of all tags, (words, tags).

    Words that were cut off have the tag that they are given with certainty. `offsets` are the sentences', in words,
    (sentences + 1,).

    Raises:
        ModelError: the outputs are not of this width, or are not those of these sentences.
    """
    check_shape(outputs, offsets, len(tags) + len(intents))
    reads = np.diff(outputs.offsets)
    rows, words = word_rows(reads, offsets[:-1])
    outside = tags.index(OUTSIDE) if OUTSIDE in tags else 0
    probabilities = np.zeros((int(offsets[-1]), len(tags)), np.float32)
    probabilities[:, outside] = 1.0
    probabilities[words] = softmax(outputs.values[rows, : len(tags)])  # (words, tags)
    confidence = np.asarray((reads > 1) | (np.diff(offsets) == 0), np.float32)
    sentence = np.repeat(np.arange(len(reads)), reads)[rows]  # of each word that was read
    np.minimum.at(confidence, sentence, probabilities[words].max(axis=1))
    chosen = probabilities.argmax(axis=1)
    # The logits decide and not their probabilities, of which several may round to the same.
    chosen[words] = outputs.values[rows, : len(tags)].argmax(axis=1)
    if not intents:
        return Chosen(chosen, None, confidence), probabilities
    logits = outputs.values[outputs.offsets[:-1], len(tags) :]  # (sentences, intents)
    confidence = np.minimum(confidence, softmax(logits).max(axis=1))
    return Chosen(chosen, logits.argmax(axis=1), confidence), probabilities


def distance(outputs: Outputs, teacher: Outputs, offsets: IntArray, tags: int, intents: int) -> float:
    """Return the mean KL(teacher ‖ outputs) over the words that both read, plus that over the intents.

    Raises:
        ModelError: outputs of another width, or of other sentences.
    """
    for one in (outputs, teacher):
        check_shape(one, offsets, tags + intents)
    rows, words = word_rows(np.diff(outputs.offsets), offsets[:-1])
    their_rows, their_words = word_rows(np.diff(teacher.offsets), offsets[:-1])
    _, ours, theirs = np.intersect1d(words, their_words, assume_unique=True, return_indices=True)
    total = _mean(divergence(outputs.values[rows[ours], :tags], teacher.values[their_rows[theirs], :tags]))
    if intents:
        first, their_first = outputs.offsets[:-1], teacher.offsets[:-1]
        total += _mean(divergence(outputs.values[first, tags:], teacher.values[their_first, tags:]))
    return total


def taggings(
    sentences: Sequence[Words],
    offsets: IntArray,
    chosen: Chosen,
    tags: Sequence[str],
    intents: Sequence[str],
) -> list[Tagging]:
    """Return in names what was chosen for sentences."""
    words = [sentence.words for sentence in sentences]
    found: list[tuple[Entity, ...]] = [()] * len(sentences)
    if scheme_of(tags) is Scheme.IOB2:
        iob2 = Iob2.from_tags(tags)
        found = entities_from_spans(iob2.spans(chosen.tags, offsets), iob2.types, words, offsets)
    of_words = [tags[i] for i in chosen.tags.tolist()]
    named = [None] * len(sentences) if chosen.intents is None else [intents[i] for i in chosen.intents.tolist()]
    return [
        Tagging(said, tuple(of_words[first : first + len(said)]), entities, intent, confidence)
        for said, first, entities, intent, confidence in zip(
            words, offsets[:-1].tolist(), found, named, chosen.confidence.tolist(), strict=True
        )
    ]


def check_shape(outputs: Outputs, offsets: IntArray, width: int) -> None:
    """Raise ModelError where outputs have another width, or belong to other sentences."""
    values = outputs.values
    if values.ndim != 2 or values.shape[1] != width:
        raise ModelError(f"The head's output has shape {values.shape}, and there are {width} tags and intents.")
    words = np.diff(offsets)
    reads = np.diff(outputs.offsets)
    if len(reads) != len(words) or (reads < 1).any() or (reads > words + 1).any():
        raise ModelError(
            f"There are {len(values)} output rows of {len(reads)} sequences for {len(words)} sentences of "
            f"{int(words.sum())} words; each sentence should have one row, and at most one more per word."
        )


def _found(answer: Tagging, between: str) -> str:
    if any(not fits(tag, Scheme.IOB2) for tag in answer.tags):
        return " ".join(f"{word}/{tag}" for word, tag in zip(answer.words, answer.tags, strict=True))
    return between.join(f"{entity.type}={entity.text}" for entity in answer.entities) or "–"


def _mean(values: FloatArray) -> float:
    return float(values.mean(dtype=np.float64)) if len(values) else 0.0
