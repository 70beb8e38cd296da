"""What there is to know of a running service: the document of `GET /admin/status`, which `octavo status` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from octavo.errors import OctavoError
from octavo.serve.loaded import LoadedRelease
from octavo.serve.traffic import LastMinute, Traffic
from octavo.serve.trial import Action, Mode, p99_ms
from octavo.serve.trial_record import Outcome, TrialRecord


class TrialStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A trial in figures: its record without the sample of latencies.

    Attributes:
        version: that is tried.
        against: the version that served meanwhile.
        mode: canary or shadow.
        percent: of the requests that it gets.
        act: whether it is promoted or dropped by itself.
        outcome: running, or how it ended.
        started: ISO 8601, UTC.
        ended: ISO 8601, UTC; None while it runs.
        requests: that both releases were asked.
        errors: of those, that failed in the new one.
        agreement: of the answers, in the mean; None before the first.
        drift: of the outputs, in the mean; None before the first.
        old_p99_ms: of the old release on those requests, without waiting; None before the first.
        new_p99_ms: of the new one.
        action: that the thresholds call for; None before the first request.
        reasons: for that, a sentence each.
        note: what else there is to say.
    """

    version: str
    against: str
    mode: Mode
    percent: float
    act: bool
    outcome: Outcome
    started: str
    ended: str | None
    requests: int
    errors: int
    agreement: float | None
    drift: float | None
    old_p99_ms: float | None
    new_p99_ms: float | None
    action: Action | None
    reasons: list[str]
    note: str


class ModelStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A model that serves.

    Attributes:
        model: its name.
        version: that serves.
        task: such as `classify`.
        engine_id: as certificates name it.
        precision: `int8` or `fp32`.
        verdict: of the certificate that covers the engine.
        sha256: of the release.
        since: when it began to serve, ISO 8601, UTC.
        in_flight: requests that are in it.
        traffic: of the last minute, by version.
        refused: requests in the last minute, by reason.
        trial: that runs, or was the last to end; None for none.
    """

    model: str
    version: str
    task: str
    engine_id: str
    precision: str
    verdict: str
    sha256: str
    since: str
    in_flight: int
    traffic: dict[str, Traffic]
    refused: dict[str, int]
    trial: TrialStatus | None = None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """A service.

    Attributes:
        octavo: its version.
        pid: of its process.
        store: that it serves.
        started: ISO 8601, UTC.
        ready: whether it answers.
        models: that serve, by name.
        failures: why the version that a model should serve does not, by model.
        refused: requests in the last minute that named no model that serves, by reason.
    """

    octavo: str
    pid: int
    store: str
    started: str
    ready: bool
    models: list[ModelStatus]
    failures: dict[str, str]
    refused: dict[str, int]


class Serving(Protocol):
    """What a status asks of the registry. None of it blocks."""

    def models(self) -> list[str]:
        """Return the models that serve."""

    def serving(self, model: str) -> LoadedRelease:
        """Return the release that serves a model."""

    def failures(self) -> Mapping[str, str]:
        """Return why models do not serve what they should."""


def models_status(registry: Serving, minute: LastMinute, trials: Mapping[str, TrialRecord]) -> list[ModelStatus]:
    """Return what serves, and how it does."""
    traffic, refused = minute.traffic(), minute.refusals()
    found = []
    for model in registry.models():
        try:
            release = registry.serving(model)
        except OctavoError:  # it was removed just now
            continue
        info = release.info
        trial = trials.get(model)
        found.append(
            ModelStatus(
                model=model,
                version=info.version,
                task=info.task.name,
                engine_id=info.engine_id,
                precision=info.precision,
                verdict=str(info.certificate.verdict),
                sha256=info.sha256,
                since=info.since,
                in_flight=release.in_flight,
                traffic={version: one for (name, version), one in traffic.items() if name == model},
                refused=refused.get(model, {}),
                trial=None if trial is None else trial_status(trial),
            )
        )
    return found


def trial_status(record: TrialRecord) -> TrialStatus:
    """Return a trial in figures."""
    evidence, decision = record.evidence, record.decision
    compared = evidence.compared
    return TrialStatus(
        version=record.plan.version,
        against=record.against,
        mode=record.mode,
        percent=record.plan.percent,
        act=record.plan.act,
        outcome=record.outcome,
        started=record.started,
        ended=record.ended,
        requests=evidence.new.requests,
        errors=evidence.new.errors,
        agreement=evidence.agreement / compared if compared else None,
        drift=evidence.drift / compared if compared else None,
        old_p99_ms=p99_ms(evidence.old.latencies_ms),
        new_p99_ms=p99_ms(evidence.new.latencies_ms),
        action=decision.action if decision else None,
        reasons=decision.reasons if decision else [],
        note=record.note,
    )
