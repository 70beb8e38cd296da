"""The service in Prometheus' words: a `Listener` that counts, and the text that a scrape is given.

Everything lives in a registry of its own, so that two services in one process do not mix. What a version counts is
bound to its labels once, when it is first heard of: a request costs a few increments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from threading import Lock

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from octavo.serve.service import BatchRun, ModelInfo, Reply

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
STAGES = ("queue", "tokenize", "compute", "total")

_SECONDS = tuple(base * 10.0**power for power in range(-4, 1) for base in (1, 2, 3, 5, 7))
_SWAP_SECONDS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120)
_POWERS_OF_2 = tuple(2**power for power in range(13))
_SHARES = tuple(tenth / 10 for tenth in range(10))
_VERSIONS = 16  # whose counts are kept, of each model: a store may see thousands in the life of a process
_INFO_LABELS = ("model", "version", "task", "engine", "precision", "verdict")


@dataclass(frozen=True, slots=True)
class _Bound:
    """What a version counts for every request and batch, with its labels bound."""

    requests: Counter
    stages: tuple[Histogram, ...]
    inputs: Counter
    tokens: Counter
    lookups: Counter
    hits: Counter
    batch_sequences: Histogram
    batch_tokens: Histogram
    padding: Histogram


class Metrics:
    """Counts what happens. A `Listener`, thread-safe, a few microseconds a request."""

    def __init__(self, models: Callable[[], Sequence[ModelInfo]] = tuple, *, caches: bool = False) -> None:
        """Count from 0.

        Args:
            models: returns what serves; asked at each scrape.
            caches: whether results are cached, so that each input is looked up.
        """
        self._caches = caches
        self._registry = registry = CollectorRegistry()
        self._lock = Lock()
        self._bound: dict[tuple[str, str], _Bound] = {}
        self._queues: dict[str, tuple[Gauge, Gauge]] = {}

        def counter(name: str, help_: str, *labels: str) -> Counter:
            return Counter(f"octavo_{name}", help_, labels, registry=registry)

        def gauge(name: str, help_: str, *labels: str) -> Gauge:
            return Gauge(f"octavo_{name}", help_, labels, registry=registry)

        def histogram(name: str, help_: str, buckets: Sequence[float], *labels: str) -> Histogram:
            return Histogram(f"octavo_{name}", help_, labels, buckets=buckets, registry=registry)

        version = ("model", "version")
        self._stages = histogram("request_seconds", "Where requests' time went.", _SECONDS, *version, "stage")
        self._requests = counter("requests_total", "Requests answered.", *version)
        self._inputs = counter("inputs_total", "Inputs answered.", *version)
        self._tokens = counter("tokens_total", "Tokens read.", *version)
        self._lookups = counter("cache_lookups_total", "Inputs that were looked up in the cache.", *version)
        self._hits = counter("cache_hits_total", "Inputs whose outputs were known already.", *version)
        self._batch_sequences = histogram("batch_sequences", "Inputs a batch.", _POWERS_OF_2, *version)
        self._batch_tokens = histogram("batch_tokens", "Tokens a batch.", _POWERS_OF_2, *version)
        self._padding = histogram(
            "padding_ratio", "Share of a batch that would be padding, were it padded to its longest.", _SHARES, *version
        )
        self._refused = counter("refused_total", "Requests refused.", "model", "reason")
        self._queue_requests = gauge("queue_requests", "Requests that wait.", "model")
        self._queue_tokens = gauge("queue_tokens", "Tokens that wait; estimated until they are counted.", "model")
        self._swaps = counter("swaps_total", "Swaps of a model's release.", "model", "outcome")
        self._swap_seconds = histogram("swap_seconds", "From load to unload.", _SWAP_SECONDS, "model")
        registry.register(_Serving(models))
        ProcessCollector(registry=registry)

    def answered(self, reply: Reply, seconds: float) -> None:
        """Count an answer, and its time by stages."""
        bound = self._bound.get((reply.model, reply.version)) or self._bind(reply.model, reply.version)
        timing = reply.timing
        queue, tokenize, compute, total = bound.stages
        queue.observe(timing.queue_ms / 1000)
        tokenize.observe(timing.tokenize_ms / 1000)
        compute.observe(timing.compute_ms / 1000)
        total.observe(seconds)
        bound.requests.inc()
        bound.inputs.inc(len(reply.outputs))
        bound.tokens.inc(reply.tokens)
        if self._caches:
            bound.lookups.inc(len(reply.outputs))
            bound.hits.inc(reply.cached)

    def refused(self, model: str, reason: str) -> None:
        """Count a refusal."""
        self._refused.labels(model, reason).inc()

    def ran(self, batch: BatchRun) -> None:
        """Count a batch."""
        bound = self._bound.get((batch.model, batch.version)) or self._bind(batch.model, batch.version)
        bound.batch_sequences.observe(batch.sequences)
        bound.batch_tokens.observe(batch.tokens)
        bound.padding.observe(1 - batch.tokens / max(batch.padded_tokens, batch.tokens, 1))

    def queued(self, model: str, requests: int, tokens: int) -> None:
        """Note what waits."""
        if (gauges := self._queues.get(model)) is None:
            gauges = self._queues[model] = (self._queue_requests.labels(model), self._queue_tokens.labels(model))
        gauges[0].set(requests)
        gauges[1].set(tokens)

    def swapped(self, model: str, old: str | None, new: str | None, seconds: float, error: str | None) -> None:
        """Count a swap, by how it ended."""
        self._swaps.labels(model, _outcome(old, new, error)).inc()
        self._swap_seconds.labels(model).observe(seconds)

    def exposition(self) -> bytes:
        """Return everything as Prometheus reads it (`CONTENT_TYPE`)."""
        return generate_latest(self._registry)

    def _bind(self, model: str, version: str) -> _Bound:
        with self._lock:
            if (model, version) in self._bound:
                return self._bound[model, version]
            self._forget_oldest(model)
            bound = _Bound(
                requests=self._requests.labels(model, version),
                stages=tuple(self._stages.labels(model, version, stage) for stage in STAGES),
                inputs=self._inputs.labels(model, version),
                tokens=self._tokens.labels(model, version),
                lookups=self._lookups.labels(model, version),
                hits=self._hits.labels(model, version),
                batch_sequences=self._batch_sequences.labels(model, version),
                batch_tokens=self._batch_tokens.labels(model, version),
                padding=self._padding.labels(model, version),
            )
            self._bound[model, version] = bound
            return bound

    def _forget_oldest(self, model: str) -> None:
        known = [version for name, version in self._bound if name == model]
        if len(known) < _VERSIONS:
            return
        del self._bound[model, known[0]]
        for stage in STAGES:
            self._stages.remove(model, known[0], stage)
        for metric in (
            *(self._requests, self._inputs, self._tokens, self._lookups, self._hits),
            *(self._batch_sequences, self._batch_tokens, self._padding),
        ):
            metric.remove(model, known[0])


class _Serving(Collector):
    """What serves at the moment of the scrape, as labels of a 1."""

    def __init__(self, models: Callable[[], Sequence[ModelInfo]]) -> None:
        self._models = models

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily("octavo_serving_info", "The release that serves a model.", labels=_INFO_LABELS)
        for one in self._models():
            verdict = str(one.certificate.verdict)
            family.add_metric([one.model, one.version, one.task.name, one.engine_id, one.precision, verdict], 1)
        yield family


def _outcome(old: str | None, new: str | None, error: str | None) -> str:
    if error is not None:
        return "failed"
    if new is None:
        return "removed"
    return "loaded" if old is None else "swapped"
