"""Builders of evidence and certificates, realistic enough for the report and small enough to read."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from octavo.certify.certificate import (
    Answers,
    Certificate,
    Evidence,
    Hashes,
    Identity,
    Timing,
    certificate_from,
)
from octavo.certify.latency import LatencySummary, measure
from octavo.engines.hardware import Hardware

LABELS = ("weather", "music", "navigation", "shopping", "订票")
HARDWARE = Hardware(
    cpu="Intel(R) Xeon(R) Gold 6354 CPU @ 3.00GHz",
    logical_cores=8,
    flags=("avx2", "avx512f", "avx512_vnni"),
    memory_bytes=32 * 2**30,
    system="Linux 6.8.0 x86_64",
    python="3.12.4",
    packages={"numpy": "2.4.6", "openvino": "2026.4.1", "torch": "2.13.0+cpu"},
)


def _answers(classes: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Answers:
    """Answers that name `classes`, with logits that say so."""
    logits = rng.normal(0, 0.5, (len(classes), len(LABELS))).astype(np.float32)
    logits[np.arange(len(classes)), classes] += rng.uniform(3, 6, len(classes)).astype(np.float32)
    exponentials = np.exp(logits)
    return Answers(
        scores=(classes == labels).astype(np.float32),
        names=[LABELS[c] for c in classes],
        confidence=(exponentials / exponentials.sum(axis=1, keepdims=True)).max(axis=1),
        logits=logits,
    )


def evidence_of(rows: int = 1000, lost: int = 4, gained: int = 3, changed: int = 2, seed: int = 0) -> Evidence:
    """Rows of which the teacher answers 90%, and the engine all but so many of the same."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(LABELS), rows)
    teacher = labels.copy()
    wrong = rng.permutation(rows)[: rows // 10]
    teacher[wrong] = (labels[wrong] + 1) % len(LABELS)
    engine = teacher.copy()
    engine[wrong[:gained]] = labels[wrong[:gained]]
    engine[wrong[gained : gained + changed]] = (labels[wrong[gained : gained + changed]] + 2) % len(LABELS)
    right = np.setdiff1d(np.arange(rows), wrong)[:lost]
    engine[right] = (labels[right] + 1) % len(LABELS)
    engine_answers = _answers(engine, labels, rng)
    return Evidence(
        texts=[f"query number {row}" for row in range(rows)],
        labels=[LABELS[label] for label in labels],
        lengths=rng.integers(3, 30, rows).tolist(),
        teacher=_answers(teacher, labels, rng),
        engine=engine_answers,
        engine_alone=Answers(
            engine_answers.scores[:8],
            engine_answers.names[:8],
            engine_answers.confidence[:8],
            engine_answers.logits[:8] + np.float32(1e-4),
        ),
    )


def timing_of(engine_ms: float = 1.0, **baselines_ms: float) -> Timing:
    """A measurement in which each runner takes so many milliseconds a text, give or take a little."""
    now_ns = 0
    rng = np.random.default_rng(1)

    def runner(ms: float) -> Callable[[Any], None]:
        def run(texts: Any) -> None:
            nonlocal now_ns
            now_ns += round(1e6 * ms * len(texts) ** 0.6 * rng.lognormal(0, 0.12))

        return run

    runners = {"engine": runner(engine_ms), **{name: runner(ms) for name, ms in baselines_ms.items()}}
    summaries: dict[str, LatencySummary] = measure(
        runners, ["a", "b", "c"], rounds=9, budget_s=1e9, clock=lambda: now_ns
    )
    return Timing(summaries.pop("engine"), summaries)


def identity_of(**changes: Any) -> Identity:
    values: dict[str, Any] = {
        "model": "intents",
        "version": "1",
        "task": "classify",
        "rung": "int8-qat",
        "metric": "accuracy",
        "engine_id": "openvino-2026.4.1/int8/f32",
        "model_bytes": 23_400_000,
        "sha256": Hashes(weights="a" * 64, data="b" * 64, engine="c" * 64),
        "seeds": {"train": 0},
        "hardware": HARDWARE,
        "created": "2026-01-02T03:04:05Z",
        "selection": {"observer": "mse", "learning_rate": 5e-5},
    }
    return Identity(**{**values, **changes})


@pytest.fixture(name="evidence_of")
def _evidence_of() -> Callable[..., Evidence]:
    return evidence_of


@pytest.fixture(name="identity_of")
def _identity_of() -> Callable[..., Identity]:
    return identity_of


@pytest.fixture(name="timing_of")
def _timing_of() -> Callable[..., Timing]:
    return timing_of


@pytest.fixture
def make_certificate() -> Callable[..., Certificate]:
    """Build a certificate from counts of rows, a margin, latencies and fields of `Identity`."""

    def make(
        *,
        rows: int = 1000,
        lost: int = 4,
        gained: int = 3,
        changed: int = 2,
        margin: float = 0.01,
        engine_ms: float = 1.0,
        baselines_ms: dict[str, float] | None = None,
        **identity: Any,
    ) -> Certificate:
        baselines = {"torch_fp32": 9.0, "openvino_fp32": 3.0} if baselines_ms is None else baselines_ms
        evidence = evidence_of(rows, lost, gained, changed)
        return certificate_from(evidence, identity_of(**identity), timing_of(engine_ms, **baselines), margin)

    return make
