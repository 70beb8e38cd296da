"""The rungs: FP32, INT8 by calibration alone, INT8 by training under distillation, and the control beside it.

Everything here is decided on training and development rows; no test row is looked at.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from octavo.distill.objectives import distilled_objective
from octavo.distill.trainer import Plan, train
from octavo.encoder.running import INPUTS_PER_CALL, run_all, tensors_from_layout
from octavo.ladder.material import Material
from octavo.progress import Progress
from octavo.quantize.observers import Histogram
from octavo.quantize.placement import amax_by_layer, calibrate, quantize
from octavo.quantize.smoothing import searched_factors, smoothing_factors
from octavo.recipe import Quantization
from octavo.text.layout import layout_from_batch
from octavo.types import Observer, Scheme


class Kind(StrEnum):
    """What a rung is for."""

    REFERENCE = "reference"
    HALF = "half"
    PTQ = "ptq"
    QAT = "qat"
    CONTROL = "control"


@dataclass(frozen=True, slots=True)
class DevScores:
    """A candidate against the development rows.

    Attributes:
        metric: the deciding metric's name, and
        value: what it comes to.
        agreement: share of the teacher's answers kept.
        distance: how far the outputs are from the teacher's, as the task measures it; 0 for equal ones.
    """

    metric: str
    value: float
    agreement: float
    distance: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """One rung: a model ready to be exported, and how it came about.

    Attributes:
        rung: its name in certificates.
        kind: what it is for.
        model: float or fake-quantized, in evaluation mode.
        precision: `fp32`, `bf16` or `int8`.
        dev: its scores on the development rows.
        details: what was chosen on the way, for the certificate.
    """

    rung: str
    kind: Kind
    model: nn.Module
    precision: str
    dev: DevScores
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def scheme(self) -> Scheme | None:
        """How its activations get their scales; None for a float model."""
        return self.details.get("scheme")


def reference(material: Material) -> Candidate:
    """Return the float model that the others start from as the first rung: the teacher itself, unless it is trimmed."""
    name = "fp32-trimmed" if material.is_trimmed else "fp32"
    model = material.base.model
    return Candidate(name, Kind.REFERENCE, model, "fp32", dev_scores(material, model))


def half_precision(material: Material) -> Candidate:
    """Return the float model as it is to be run in bfloat16: the reference story's first step, on a CPU.

    The dev scores are torch's under autocast, which rounds about where OpenVINO does; the engine itself is certified.
    """
    model = material.base.model
    with torch.autocast("cpu", torch.bfloat16):
        scores = dev_scores(material, model)
    return Candidate("bf16", Kind.HALF, model, "bf16", scores)


def calibrated(material: Material, schemes: Sequence[Scheme], progress: Progress) -> list[Candidate]:
    """Observe the teacher on training rows and return INT8 candidates: one per observer, one with scales per token."""
    settings = material.recipe.quantize
    generator = np.random.default_rng(material.recipe.seed)
    tokens = material.train.data.batch
    rows = generator.permutation(len(tokens))[: settings.calibration_rows]
    batches = list(tokens.select(rows).split(INPUTS_PER_CALL))
    base = material.base.model
    factors: dict[Scheme, dict[str, Tensor]] = {}
    histograms: dict[str, Histogram] = {}
    passes = len(schemes) * bool(settings.smoothing) + (Scheme.PER_TENSOR in schemes)
    with progress.step("calibrate", passes * len(batches)) as bar:

        def inputs() -> Any:
            for batch in batches:
                yield tensors_from_layout(layout_from_batch(batch, material.base.positions))
                bar.advance()

        for scheme in schemes:
            if settings.smoothing == "search":
                factors[scheme] = searched_factors(base, inputs(), scheme)
            else:
                strength = settings.smoothing
                factors[scheme] = smoothing_factors(base, inputs(), strength) if strength else {}
        if Scheme.PER_TENSOR in schemes:
            histograms = calibrate(base, inputs(), factors[Scheme.PER_TENSOR])
    ways: list[tuple[Scheme, Observer | None]] = [
        (scheme, observer) for scheme in schemes for observer in _ways(scheme, settings)
    ]
    candidates = []
    with progress.step("choose the scales on dev rows", len(ways)) as bar:
        for scheme, observer in ways:
            model = copy.deepcopy(base)
            quantize(model, amax_by_layer(histograms, observer) if observer else None, factors[scheme])
            scores = dev_scores(material, model)
            name = observer or scheme
            details = {
                "scheme": scheme,
                "observer": observer,
                "calibration_rows": len(rows),
                "smoothing": settings.smoothing,
            }
            candidates.append(Candidate(f"int8-ptq-{name}", Kind.PTQ, model, "int8", scores, details))
            bar.advance(1, f"{name}: {scores.agreement:.1%} {material.dev.split.agreement_means}")
    return candidates


def _ways(scheme: Scheme, settings: Quantization) -> Sequence[Observer | None]:
    """Return the observers that a scheme has a use for: scales per token are what they are."""
    return settings.observers if scheme is Scheme.PER_TENSOR else (None,)


def closest(candidates: list[Candidate]) -> Candidate:
    """Return the candidate whose outputs are nearest to the teacher's on dev rows.

    The distance decides, not the metric: it uses every row's whole output, where a few hundred rows tell accuracies
    apart by chance.
    """
    return min(candidates, key=lambda candidate: candidate.dev.distance)


def trained(material: Material, start: Candidate, work: Path, progress: Progress) -> Candidate:
    """Return the KD-QAT candidate, warm-started from the scales of `start`."""
    suffix = "" if start.scheme is Scheme.PER_TENSOR else f"-{start.scheme}"
    name = f"int8-qat{suffix}"
    model, details = _distilled(material, start.model, work / f"{name}.safetensors", f"KD-QAT int8{suffix}", progress)
    details = {"scheme": start.scheme, "warm_start": start.rung, **details}
    return Candidate(name, Kind.QAT, model, "int8", dev_scores(material, model), details)


def control(material: Material, work: Path, progress: Progress) -> Candidate:
    """Return the teacher after the same distillation without quantization."""
    model, details = _distilled(material, material.base.model, work / "fp32-kd.safetensors", "control fp32", progress)
    return Candidate("fp32-kd", Kind.CONTROL, model, "fp32", dev_scores(material, model), details)


def dev_scores(material: Material, model: nn.Module) -> DevScores:
    """Score a model on the development rows."""
    dev = material.dev
    outputs = run_all(model, dev.batch, material.base.positions)
    answers = dev.split.answers(outputs, dev.teacher)
    first = answers.measures[0]
    return DevScores(
        metric=first.name,
        value=first.value,
        agreement=float(answers.agreement.mean()),
        distance=dev.split.distance(outputs, dev.teacher),
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
        if isinstance(module, nn.Embedding):
            # Not quantized, so there is nothing to mend: the words that no training row has keep their neighbours.
            module.weight.requires_grad_(False)
    dev, train_set = material.dev, material.train

    def closeness(candidate: nn.Module) -> float:
        return -dev.split.distance(run_all(candidate, dev.batch, material.base.positions), dev.teacher)

    training = train(
        model,
        train_set.data,
        distilled_objective(
            train_set.teacher, train_set.split, material.task, settings.temperature, settings.label_weight
        ),
        closeness,
        plan,
        label=label,
        progress=progress,
        describe=lambda score: f"distance from the teacher on dev {abs(score):.4f}",
        checkpoint=checkpoint,
        fingerprint=_fingerprint(material, plan, start),
    )
    details = {
        **asdict(plan),
        "temperature": settings.temperature,
        "label_weight": settings.label_weight,
        "groups": len(train_set.data.groups),
        "best_epoch": training.best_epoch,
        "dev_distance_by_epoch": [-score for score in training.dev_scores],
    }
    return model, details


def _fingerprint(material: Material, plan: Plan, start: nn.Module) -> str:
    """Name a training job, so that a checkpoint of another one is not resumed."""
    settings = material.recipe.distill
    digest = hashlib.sha256(
        f"{plan} {settings} {material.task} {material.train.name} {material.dev.split.sha256}".encode()
    )
    for one in (start, material.teacher.model):
        for name, tensor in one.state_dict().items():
            digest.update(name.encode() + tensor.detach().numpy().tobytes())
    return digest.hexdigest()
