"""Which units are answered differently, and was that for the worse? Knows answers, not the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from octavo.certify.statistics import unit_scores
from octavo.tasks.base import Answers

Outcome = Literal["lost", "gained", "changed"]
_OUTCOMES: tuple[Outcome, ...] = ("lost", "gained", "changed")


class Flip(msgspec.Struct, frozen=True):
    """One unit that teacher and engine answer differently; `changed` where both answers are worth the same.

    The confidences are None where the scores are no probabilities.
    """

    text: str
    label: str
    teacher: str
    engine: str
    teacher_confidence: float | None
    engine_confidence: float | None
    outcome: Outcome


def flips_between(texts: Sequence[str], labels: Sequence[str], teacher: Answers, engine: Answers) -> list[Flip]:
    """Return the units with another answer: lost ones first, and those that the teacher was surest of.

    Where there are no confidences, the largest changes of the first measure come first.

    Args:
        texts: the units, (units,).
        labels: the right answers, (units,).
        teacher: its answers.
        engine: its answers to the same units.
    """
    before, after = unit_scores(teacher.measures[0]), unit_scores(engine.measures[0])
    flips = []
    for unit, (text, label) in enumerate(zip(texts, labels, strict=True)):
        if teacher.names[unit] == engine.names[unit]:
            continue
        change = float(after[unit] - before[unit])
        flip = Flip(
            text=text,
            label=label,
            teacher=teacher.names[unit],
            engine=engine.names[unit],
            teacher_confidence=_confidence(teacher, unit),
            engine_confidence=_confidence(engine, unit),
            outcome=_outcome(change),
        )
        weight = abs(change) if flip.teacher_confidence is None else flip.teacher_confidence
        flips.append((_OUTCOMES.index(flip.outcome), -weight, unit, flip))
    return [flip for *_, flip in sorted(flips, key=lambda ranked: ranked[:3])]


def _confidence(answers: Answers, unit: int) -> float | None:
    return None if answers.confidence is None else float(answers.confidence[unit])


def _outcome(change: float) -> Outcome:
    if change == 0.0:
        return "changed"
    return "lost" if change < 0.0 else "gained"
