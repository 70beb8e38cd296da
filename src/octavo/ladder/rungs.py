"""The rungs: FP32, INT8 by calibration alone, INT8 by training under distillation, and the control beside it.

Everything here is decided on training and development rows; no test row is looked at.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from octavo.distill.objectives import distillation, divergence
from octavo.distill.trainer import Plan, train
from octavo.encoder.running import ROWS_PER_CALL, run_all, tensors_from_layout
from octavo.ladder.material import Material
from octavo.progress import Progress
from octavo.quantize.placement import amax_by_layer, calibrate, quantize
from octavo.quantize.smoothing import smoothing_factors
from octavo.text.layout import layout_from_batch
from octavo.types import FloatArray


class Kind(StrEnum):
    """What a rung is for."""

    REFERENCE = "reference"
    PTQ = "ptq"
    QAT = "qat"
    CONTROL = "control"


@dataclass(frozen=True, slots=True)
class DevScores:
    """A candidate against the development rows: accuracy, share of the teacher's answers kept, mean KL from it."""

    accuracy: float
    agreement: float
    divergence: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """One rung: a model ready to be exported, and how it came about.

    Attributes:
        rung: its name in certificates.
        kind: what it is for.
        model: float or fake-quantized, in evaluation mode.
        precision: `fp32` or `int8`.
        dev: its scores on the development rows.
        details: what was chosen on the way, for the certificate.
    """

    rung: str
    kind: Kind
    model: nn.Module
    precision: str
    dev: DevScores
    details: dict[str, Any] = field(default_factory=dict)


def reference(material: Material) -> Candidate:
    """Return the teacher itself as the first rung."""
    return Candidate("fp32", Kind.REFERENCE, material.teacher, "fp32", dev_scores(material, material.teacher))


def calibrated(material: Material, progress: Progress) -> list[Candidate]:
    """Observe the teacher on training rows and return one INT8 candidate per observer."""
    settings = material.recipe.quantize
    generator = np.random.default_rng(material.recipe.seed)
    rows = generator.permutation(len(material.train))[: settings.calibration_rows]
    batches = list(material.train.select(rows).split(ROWS_PER_CALL))
    passes = 2 if settings.smoothing else 1
    with progress.step("calibrate", passes * len(batches)) as bar:

        def inputs() -> Any:
            for batch in batches:
                yield tensors_from_layout(layout_from_batch(batch, material.position_offset))
                bar.advance()

        factors = smoothing_factors(material.teacher, inputs(), settings.smoothing) if settings.smoothing else {}
        histograms = calibrate(material.teacher, inputs(), factors)
    candidates = []
    with progress.step("choose the observer on dev rows", len(settings.observers)) as bar:
        for observer in settings.observers:
            model = copy.deepcopy(material.teacher)
            quantize(model, amax_by_layer(histograms, observer), factors)
            scores = dev_scores(material, model)
            details = {"observer": observer, "calibration_rows": len(rows), "smoothing": settings.smoothing}
            candidates.append(Candidate(f"int8-ptq-{observer}", Kind.PTQ, model, "int8", scores, details))
            bar.advance(1, f"{observer}: {scores.agreement:.1%} of the teacher's answers")
    return candidates


def closest(candidates: list[Candidate]) -> Candidate:
    """Return the candidate whose answers diverge least from the teacher's on dev rows.

    The divergence decides, not the accuracy: it uses every row's whole answer, where a few hundred rows tell
    accuracies apart by chance.
    """
    return min(candidates, key=lambda candidate: candidate.dev.divergence)


def trained(material: Material, start: Candidate, work: Path, progress: Progress) -> Candidate:
    """Return the KD-QAT candidate, warm-started from the scales of `start`."""
    model, details = _distilled(material, start.model, work / "int8-qat.safetensors", "KD-QAT int8", progress)
    details = {"warm_start": start.rung, **details}
    return Candidate("int8-qat", Kind.QAT, model, "int8", dev_scores(material, model), details)


def control(material: Material, work: Path, progress: Progress) -> Candidate:
    """Return the teacher after the same distillation without quantization."""
    model, details = _distilled(material, material.teacher, work / "fp32-kd.safetensors", "control fp32", progress)
    return Candidate("fp32-kd", Kind.CONTROL, model, "fp32", dev_scores(material, model), details)


def dev_scores(material: Material, model: nn.Module) -> DevScores:
    """Score a model on the development rows."""
    logits = _dev_logits(material, model)
    return DevScores(
        accuracy=float(material.task.score(logits, material.dev.truth).mean()),
        agreement=float((logits.argmax(1) == material.dev.teacher.argmax(1)).mean()),
        divergence=_mean_divergence(logits, material.dev.teacher),
    )


def _distilled(
    material: Material, start: nn.Module, checkpoint: Path, label: str, progress: Progress
) -> tuple[nn.Module, dict[str, Any]]:
    settings = material.recipe.distill
    plan = Plan(
        epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        scale_learning_rate=settings.scale_learning_rate,
        batch_size=settings.batch_size,
        seed=material.recipe.seed,
        patience=settings.patience,
    )
    model = copy.deepcopy(start)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # the targets are the teacher's answers without dropout
    training = train(
        model,
        material.train,
        material.position_offset,
        distillation(material.train_teacher, material.train_truth, settings.temperature, settings.label_weight),
        _closeness(material),
        plan,
        label=label,
        progress=progress,
        describe=lambda score: f"KL from the teacher on dev {-score:.4f}",
        checkpoint=checkpoint,
        fingerprint=_fingerprint(material, plan, start),
    )
    details = {
        **asdict(plan),
        "temperature": settings.temperature,
        "label_weight": settings.label_weight,
        "best_epoch": training.best_epoch,
        "dev_divergence_by_epoch": [-score for score in training.dev_scores],
    }
    return model, details


def _closeness(material: Material) -> Callable[[nn.Module], float]:
    return lambda model: -_mean_divergence(_dev_logits(material, model), material.dev.teacher)


def _dev_logits(material: Material, model: nn.Module) -> FloatArray:
    return run_all(model, material.dev.batch, material.position_offset)


def _mean_divergence(logits: FloatArray, teacher: FloatArray) -> float:
    return float(divergence(torch.from_numpy(logits), torch.from_numpy(teacher)).mean())


def _fingerprint(material: Material, plan: Plan, start: nn.Module) -> str:
    """Name a training job, so that a checkpoint of another one is not resumed."""
    digest = hashlib.sha256(f"{plan} {material.train_sha256} {material.dev.rows.sha256}".encode())
    digest.update(material.train_teacher.tobytes())
    for name, tensor in start.state_dict().items():
        digest.update(name.encode() + tensor.detach().numpy().tobytes())
    return digest.hexdigest()
