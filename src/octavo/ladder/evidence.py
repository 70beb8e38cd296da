"""What an engine answered to held-out rows, in the form that a certificate is decided on. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from octavo.certify.certificate import Answers, Evidence
from octavo.engines.base import Engine
from octavo.progress import Progress
from octavo.tasks.classify import Classify, softmax
from octavo.text.batch import TokenBatch
from octavo.types import FloatArray, IntArray, Rows

BATCH_ROWS = 32  # rows per call, in the order given: as a service would meet them
_ALONE_ROWS = 200  # rows that are run once more, one by one


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Held-out rows, their tokens, their label ids, and the teacher's logits."""

    rows: Rows
    batch: TokenBatch
    truth: IntArray
    teacher: FloatArray


def answers_from_logits(task: Classify, logits: FloatArray, truth: IntArray) -> Answers:
    """Decode and score logits, (rows, labels)."""
    best = logits.argmax(axis=1)
    return Answers(
        scores=task.score(logits, truth),
        names=[task.labels[i] for i in best],
        confidence=softmax(logits)[np.arange(len(best)), best],
        logits=logits,
    )


def evidence_from_engine(task: Classify, held_out: HeldOut, engine: Engine, label: str, progress: Progress) -> Evidence:
    """Run the held-out rows through the engine, in batches and some of them alone."""
    alone_rows = min(_ALONE_ROWS, len(held_out.batch))
    with progress.step(f"certify {label}", len(held_out.batch) + alone_rows) as bar:
        parts = []
        for part in held_out.batch.split(BATCH_ROWS):
            parts.append(engine.run(part))
            bar.advance(len(part))
        alone = []
        for part in held_out.batch.select(range(alone_rows)).split(1):
            alone.append(engine.run(part))
            bar.advance(1)
    answers_alone = answers_from_logits(task, np.concatenate(alone), held_out.truth[:alone_rows])
    return Evidence(
        texts=held_out.rows.texts,
        labels=[task.labels[i] for i in held_out.truth],
        lengths=held_out.batch.lengths.tolist(),
        teacher=answers_from_logits(task, held_out.teacher, held_out.truth),
        engine=answers_from_logits(task, np.concatenate(parts), held_out.truth),
        engine_alone=answers_alone,
    )
