"""What an engine answered to held-out rows, in the form that a certificate is decided on. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from octavo.certify.certificate import Determinism
from octavo.certify.certifying import Evidence
from octavo.progress import Progress, Step
from octavo.tasks.base import Split
from octavo.text.batch import TokenBatch
from octavo.types import FloatArray, Input, Outputs

BATCH_INPUTS = 32  # inputs per call, in the order given: as a service would meet them
_ALONE_UNITS = 200  # units whose own input is run once more, alone


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Held-out rows, the tokens of their inputs, and the teacher's outputs to them."""

    split: Split
    batch: TokenBatch
    teacher: Outputs

    @property
    def traffic(self) -> list[Input]:
        """What users send and wait for: no document that is embedded beforehand."""
        return asked_inputs(self.split)


def asked_inputs(split: Split) -> list[Input]:
    """Return the inputs of a split that users send: queries and pairs, but no corpus."""
    units = split.units
    return [split.inputs[i] for i in (units.inputs if units.timed is None else units.timed)]


def evidence_from_engine(
    held_out: HeldOut, run: Callable[[TokenBatch], FloatArray], label: str, progress: Progress
) -> Evidence:
    """Run the held-out inputs through an engine, in batches and some of them alone, and judge its answers."""
    split, batch, units = held_out.split, held_out.batch, held_out.split.units
    alone = units.inputs[: min(_ALONE_UNITS, len(units.inputs))]
    with progress.step(f"certify {label}", len(batch) + len(alone)) as bar:
        outputs = outputs_in_batches(run, batch, BATCH_INPUTS, bar)
        outputs_alone = outputs_in_batches(run, batch.select(alone), 1, bar)
    engine = split.answers(outputs, held_out.teacher)
    return Evidence(
        texts=units.texts,
        labels=units.truth,
        lengths=batch.lengths[units.inputs].tolist(),
        teacher=split.answers(held_out.teacher, held_out.teacher),
        engine=engine,
        determinism=_determinism(held_out, outputs, outputs_alone, engine.names[: len(alone)]),
        slices=units.slices,
        unit=units.word,
        item=units.item,
        agreement_means=split.agreement_means,
        flip_means=split.flip_means,
    )


def outputs_in_batches(run: Callable[[TokenBatch], FloatArray], batch: TokenBatch, inputs: int, bar: Step) -> Outputs:
    """Run consecutive inputs, so many a call, and put the outputs together."""
    parts = []
    for part in batch.split(inputs):
        parts.append(run(part))
        bar.advance(len(part))
    return Outputs(np.concatenate(parts), batch.read_offsets)


def _determinism(held_out: HeldOut, batched: Outputs, alone: Outputs, names: Sequence[str]) -> Determinism:
    """Compare the first units' answers with what they would be if their own inputs had been run alone."""
    inputs = held_out.split.units.inputs[: len(alone)]
    values, differences = batched.values.copy(), []
    for place, number in enumerate(inputs):
        rows = slice(int(batched.offsets[number]), int(batched.offsets[number + 1]))
        differences.append(float(np.abs(values[rows] - alone[place]).max()))
        values[rows] = alone[place]
    answers = held_out.split.answers(Outputs(values, batched.offsets), held_out.teacher)
    same = sum(a == b for a, b in zip(answers.names[: len(alone)], names, strict=True))
    return Determinism(rows=len(alone), identical_answers=same, max_difference=max(differences, default=0.0))
