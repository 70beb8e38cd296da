"""Builders of evidence and certificates, realistic enough for the report and small enough to read.

All numbers are invented.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from octavo.certify.certificate import Certificate, Determinism, Hashes
from octavo.certify.certifying import Evidence, Identity, Timing, certificate_from
from octavo.certify.latency import LatencySummary, measure
from octavo.engines.hardware import Hardware
from octavo.tasks.base import Answers
from octavo.types import Measure

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
    """Answers that name `classes`, with probabilities that say so."""
    logits = rng.normal(0, 0.5, (len(classes), len(LABELS))).astype(np.float32)
    logits[np.arange(len(classes)), classes] += rng.uniform(3, 6, len(classes)).astype(np.float32)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Answers(
        measures=(measure_of("accuracy", classes == labels),),
        names=[LABELS[c] for c in classes],
        agreement=np.ones(len(classes), np.float32),
        confidence=probabilities.max(axis=1),
        shown=probabilities,
    )


def measure_of(name: str, gains: Any, weights: Any = None, *, gates: bool = False) -> Measure:
    gains = np.asarray(gains, np.float32)
    return Measure(name, gains, np.ones_like(gains) if weights is None else np.asarray(weights, np.float32), gates)


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
    names = [LABELS[label] for label in labels]
    return Evidence(
        texts=[f"query number {row}" for row in range(rows)],
        labels=names,
        lengths=rng.integers(3, 30, rows).tolist(),
        teacher=_answers(teacher, labels, rng),
        engine=replace(_answers(engine, labels, rng), agreement=(engine == teacher).astype(np.float32)),
        determinism=Determinism(rows=8, identical_answers=8, max_difference=1e-4),
        slices=names,
    )


_SENTENCES = (
    ("play some jazz by nina simone", "artist: nina simone"),
    ("明天早上从北京飞上海的机票", "date: 明天早上 · from: 北京 · to: 上海"),
    ("احجز طاولة في بيروت مساء الجمعة", "city: بيروت · date: مساء الجمعة"),
    ("set an alarm for half past six", "time: half past six"),
)
_QUERIES = (
    ("vitamin d and bone density", "Vitamin D supplementation and fracture risk in older adults"),
    ("量子计算 纠错", "表面码上的量子纠错实验"),
    ("علاج السكري من النوع الثاني", "الميتفورمين خط أول لعلاج السكري"),
    ("does zinc shorten a cold?", "Zinc lozenges and the common cold: a meta-analysis"),
)


def tag_evidence(rows: int = 700, lost: float = 0.01, seed: int = 0) -> Evidence:
    """Sentences with entities: the engine loses a share of those that the teacher finds."""
    rng = np.random.default_rng(seed)
    true = rng.poisson(1.6, rows)
    found = rng.binomial(true, 0.95)
    kept = found - rng.binomial(found, lost) + rng.binomial(true - found, 0.1)
    texts, labels = _cycled(_SENTENCES, rows)
    nothing = "nothing"

    def answers(count: np.ndarray, agreement: np.ndarray, shown: np.ndarray) -> Answers:
        return Answers(
            measures=(measure_of("f1", 2 * count, 2 * true), measure_of("accuracy", 1 - 0.1 * (true - count) / 10)),
            names=[label if all_found else nothing for label, all_found in zip(labels, count == true, strict=True)],
            agreement=agreement,
            confidence=None,
            shown=shown,
        )

    shown = rng.dirichlet((9, 1, 1), 3 * rows).astype(np.float32)  # of words, three a sentence
    moved = (shown + rng.dirichlet((30, 1, 1), 3 * rows).astype(np.float32) * 0.02) / 1.02
    same = np.minimum(found, kept) / np.maximum(np.maximum(found, kept), 1)
    return Evidence(
        texts=texts,
        labels=labels,
        lengths=rng.integers(4, 40, rows).tolist(),
        teacher=answers(found, np.ones(rows, np.float32), shown),
        engine=answers(kept, np.where(np.maximum(found, kept) > 0, same, 1.0).astype(np.float32), moved),
        determinism=Determinism(rows=200, identical_answers=200, max_difference=3e-6),
        unit="sentence",
        item="sentence",
        agreement_means="of the entities are the same",
    )


def embed_evidence(rows: int = 900, lost: float = 0.001, asymmetric_lost: float = 0.002, seed: int = 0) -> Evidence:
    """Queries over documents: nDCG@10, the same with the teacher's documents, and two that are only reported."""
    rng = np.random.default_rng(seed)
    quality = rng.beta(4, 1.6, rows)
    texts, labels = _cycled(_QUERIES, rows)
    blurred = [quality, *(np.clip(quality + rng.normal(-by, 0.02, rows), 0, 1) for by in (lost, asymmetric_lost))]
    first = rng.random(rows) < 0.02

    def answers(ndcg: np.ndarray, asymmetric: np.ndarray, changed: np.ndarray, agreement: np.ndarray) -> Answers:
        return Answers(
            measures=(
                measure_of("ndcg@10", ndcg),
                measure_of("ndcg@10 with the teacher's documents", asymmetric, gates=True),
                measure_of("mrr@10", ndcg**1.2),
                measure_of("recall@10", np.sqrt(ndcg)),
            ),
            names=["Another document" if other else name for name, other in zip(labels, changed, strict=True)],
            agreement=agreement,
            confidence=None,
            shown=vectors + np.float32(0.003) if changed is first else vectors,
        )

    vectors = rng.normal(0, 0.05, (2 * rows, 24)).astype(np.float32)  # of queries and documents
    return Evidence(
        texts=texts,
        labels=labels,
        lengths=rng.integers(4, 30, rows).tolist(),
        teacher=answers(quality, quality, np.zeros(rows, np.bool_), np.ones(rows, np.float32)),
        engine=answers(blurred[1], blurred[2], first, rng.binomial(10, 0.97, rows).astype(np.float32) / 10),
        determinism=Determinism(rows=200, identical_answers=200, max_difference=2e-7),
        unit="query",
        item="text",
        agreement_means="of the top 10 are the same",
        flip_means="have another first result",
    )


def rank_evidence(rows: int = 800, lost: float = 0.0, seed: int = 0) -> Evidence:
    """Queries with candidates that were ranked anew: nDCG@10 decides, MRR@10 and MAP are reported."""
    found = embed_evidence(rows, lost, seed=seed)

    def ranked(answers: Answers, shift: float) -> Answers:
        ndcg = answers.measures[0]
        others = (replace(answers.measures[2]), replace(answers.measures[3], name="map"))
        shown = np.linspace(0, 1, 4 * rows, dtype=np.float32)[:, np.newaxis] + np.float32(shift)
        return replace(answers, measures=(ndcg, *others), shown=shown)

    return replace(found, teacher=ranked(found.teacher, 0), engine=ranked(found.engine, 0.004), item="pair")


def _cycled(pairs: Sequence[tuple[str, str]], rows: int) -> tuple[list[str], list[str]]:
    chosen = [pairs[row % len(pairs)] for row in range(rows)]
    return [text for text, _ in chosen], [label for _, label in chosen]


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
        runners, ["a", "b", "c"], rounds=9, budget_s=1e9, clock=lambda: now_ns, core_clock=lambda: 2 * now_ns
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


_VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """Collects tags and text, and checks that every element is closed in turn."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        """Everything that is read, in one line."""
        return re.sub(r"\s+", " ", "".join(self.texts))


@pytest.fixture
def page() -> type[Page]:
    """Parse a page that was written."""
    return Page


@pytest.fixture(name="tag_evidence")
def _tag_evidence() -> Callable[..., Evidence]:
    return tag_evidence


@pytest.fixture(name="embed_evidence")
def _embed_evidence() -> Callable[..., Evidence]:
    return embed_evidence


@pytest.fixture(name="rank_evidence")
def _rank_evidence() -> Callable[..., Evidence]:
    return rank_evidence


@pytest.fixture(name="identity_of")
def _identity_of() -> Callable[..., Identity]:
    return identity_of


@pytest.fixture(name="timing_of")
def _timing_of() -> Callable[..., Timing]:
    return timing_of


@pytest.fixture
def certificate_of() -> Callable[..., Certificate]:
    """Build a certificate from evidence, a margin, latencies and fields of `Identity`."""

    def make(evidence: Evidence, margin: float = 0.01, engine_ms: float = 1.0, **identity: Any) -> Certificate:
        metric = evidence.teacher.measures[0].name
        timing = timing_of(engine_ms, torch_fp32=9.0, openvino_fp32=3.0)
        return certificate_from(evidence, identity_of(**{"metric": metric, **identity}), timing, margin)

    return make


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
