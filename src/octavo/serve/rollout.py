"""Trials that run: which requests the new release gets, what both made of them, and the promotion or the rollback.

The event loop only counts and leaves notes (`route`, `compared`); a thread of its own compares answers, keeps the
evidence on disk, and acts. What is decided is decided in `trial.py`; what a swap is, the registry knows.
"""

from __future__ import annotations

import itertools
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Protocol

from octavo.errors import OctavoError, ReleaseError
from octavo.serve.loaded import LoadedRelease
from octavo.serve.registry import Change
from octavo.serve.routing import Route
from octavo.serve.service import Reply, Request
from octavo.serve.trial import Action, Decision, Mode, decide, takes_turn
from octavo.serve.trial_record import Outcome, TrialPlan, TrialRecord, running_record, write_record

_TICK_S = 0.25
_KEEP_S = 5.0  # between two writes of the evidence
_MOST_WAITING = 1000  # pairs of answers; more are not compared

_log = logging.getLogger(__name__)


class Trials(Protocol):
    """What a rollout asks of the registry. Blocking, thread-safe."""

    def serving(self, model: str) -> LoadedRelease:
        """Return the release that serves."""

    def trial(self, model: str) -> LoadedRelease | None:
        """Return the release that is loaded beside it."""

    def start_trial(self, model: str, version: str) -> LoadedRelease:
        """Load a version beside the one that serves."""

    def end_trial(self, model: str, *, promote: bool) -> Change | None:
        """Let it serve, or unload it."""


@dataclass(slots=True)
class _Live:
    """A trial that runs. The evidence is touched by the rollout's own thread only."""

    record: TrialRecord
    numbers: Iterator[int] = field(default_factory=itertools.count)
    rng: random.Random = field(default_factory=lambda: random.Random(0))
    kept_at: float = 0.0
    has_news: bool = True


@dataclass(frozen=True, slots=True)
class _Pair:
    """What both releases made of one request."""

    live: _Live
    old: Reply | Exception
    new: Reply | Exception
    old_ms: float
    new_ms: float


class Rollout:
    """Runs trials, one for each model. A `Router`; the other methods block, and belong off the event loop."""

    def __init__(self, registry: Trials, store: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Run none yet; `clock` says when evidence was last kept."""
        self._registry = registry
        self._store = store
        self._clock = clock
        self._live: dict[str, _Live] = {}
        self._last: dict[str, TrialRecord] = {}
        self._pairs: SimpleQueue[_Pair] = SimpleQueue()
        self._turn = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="octavo-rollout", daemon=True)
        self._thread.start()

    # Router: on the event loop.

    def route(self, model: str, serving: LoadedRelease, trial: LoadedRelease) -> Route:
        """Give the new release its share: of the requests themselves, or of copies.

        A canary's requests are copied to the old release, so that there is something to compare its answers with.
        """
        live = self._live.get(model)
        if live is None or live.record.plan.version != trial.info.version:
            return Route(serving)
        if not takes_turn(next(live.numbers), live.record.plan.percent):
            return Route(serving)
        return Route(trial, serving) if live.record.mode is Mode.CANARY else Route(serving, trial)

    def compared(
        self,
        model: str,
        request: Request,
        reply: Reply,
        trial: Reply | Exception,
        seconds_old: float,
        seconds_new: float,
    ) -> None:
        """Note what both made of a request; with too many notes waiting, this one is left out.

        Where the new release answered, the copy went to the old one: then `reply` is the new one's.
        """
        live = self._live.get(model)
        if live is None or self._pairs.qsize() >= _MOST_WAITING:
            return
        ms = 1000 * seconds_old, 1000 * seconds_new
        if reply.version == live.record.plan.version:
            self._pairs.put(_Pair(live, trial, reply, ms[1], ms[0]))
        else:
            self._pairs.put(_Pair(live, reply, trial, *ms))

    # Operators.

    def start(self, model: str, mode: Mode, plan: TrialPlan) -> TrialRecord:
        """Load a version beside the one that serves, and begin to compare them.

        Raises:
            UnknownModel: no such model serves.
            ReleaseError: the version cannot be trusted, does another task, or another one is on trial.
            EngineError: it cannot run here.
        """
        with self._turn:
            return self._start(TrialRecord(model=model, against="", mode=mode, plan=plan, started=_now()))

    def abort(self, model: str) -> TrialRecord:
        """End a trial without promoting; the serving release serves on.

        Raises:
            ReleaseError: nothing is on trial.
        """
        with self._turn:
            live = self._live.get(model)
            if live is None:
                raise ReleaseError(f"{model}: no version is on trial.")
            self._end(live, Outcome.ABORTED, "by hand")
            return live.record

    def resume(self, models: list[str]) -> None:
        """Go on with the trials that an earlier process left running, where the same version still serves."""
        for model in models:
            record = running_record(self._store, model)
            if record is None:
                continue
            with self._turn:
                try:
                    if self._registry.serving(model).info.version != record.against:
                        raise ReleaseError(f"{model} {record.against} serves no longer.")
                    self._start(record)
                except OctavoError as error:
                    self._close(record, Outcome.ABORTED, f"could not go on after a restart: {error}")

    def records(self) -> dict[str, TrialRecord]:
        """Return the trial of each model that runs, or that was the last to end since the start, by model."""
        return self._last | {model: live.record for model, live in self._live.items()}

    def close(self) -> None:
        """Stop comparing, and keep the evidence: trials go on after a restart."""
        self._stopped.set()
        self._thread.join()
        for live in self._live.values():
            self._keep(live.record)

    # The thread.

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._count_waiting(_TICK_S)
            with self._turn:
                for live in list(self._live.values()):
                    self._step(live)

    def _count_waiting(self, patience_s: float) -> None:
        """Wait for a pair, and count it with those that are there."""
        try:
            pair = self._pairs.get(timeout=patience_s)
            for _ in range(_MOST_WAITING):
                self._count(pair)
                pair = self._pairs.get_nowait()
            self._count(pair)
        except Empty:
            pass

    def _count(self, pair: _Pair) -> None:
        live, evidence = pair.live, pair.live.record.evidence
        live.has_news = True
        evidence.old.add(None if isinstance(pair.old, Exception) else pair.old_ms, live.rng)
        if isinstance(pair.new, Exception):
            evidence.new.add(None, live.rng)
            return
        if isinstance(pair.old, Exception):
            evidence.new.add(pair.new_ms, live.rng)
            return
        try:
            task = self._registry.serving(live.record.model).info.task
            agreement, drift = task.likeness(pair.old.outputs, pair.new.outputs)
            evidence.compare(float(agreement.mean()), float(drift.mean()))
            evidence.new.add(pair.new_ms, live.rng)
        except Exception as error:  # whatever is wrong with its outputs, it is the new release that is not as it should
            _log.warning("%s: answers cannot be compared: %s", live.record.model, error)
            evidence.new.add(None, live.rng)

    def _step(self, live: _Live) -> None:
        """Decide about a trial, and act."""
        record = live.record
        if not self._still_runs(live) or not live.has_news:
            return
        live.has_news = False
        record.decision = decide(record.evidence, record.plan.thresholds)
        if record.plan.act and record.decision.action is not Action.WAIT:
            self._act(live, record.decision)
        elif self._clock() - live.kept_at >= _KEEP_S:
            live.kept_at = self._clock()
            self._keep(record)
        else:
            live.has_news = True  # to be kept later

    def _still_runs(self, live: _Live) -> bool:
        """Return whether the trial is as it was; whoever swaps or removes the model ends it."""
        record = live.record
        try:
            serving = self._registry.serving(record.model).info.version
        except OctavoError:
            serving = ""
        trial = self._registry.trial(record.model)
        if serving == record.against and trial is not None and trial.info.version == record.plan.version:
            return True
        promoted = serving == record.plan.version
        note = "by hand" if promoted else f"{serving or 'nothing'} serves now"
        self._end(live, Outcome.PROMOTED if promoted else Outcome.ABORTED, note)
        return False

    def _act(self, live: _Live, decision: Decision) -> None:
        record = live.record
        if decision.action is Action.ROLLBACK:
            self._end(live, Outcome.ROLLED_BACK, "")
            return
        try:
            self._registry.end_trial(record.model, promote=True)
        except OctavoError as error:
            self._end(live, Outcome.FAILED, str(error))
        else:
            self._end(live, Outcome.PROMOTED, "")

    # What both share; with the turn in their hands.

    def _start(self, record: TrialRecord) -> TrialRecord:
        model = record.model
        trial = self._registry.start_trial(model, record.plan.version)
        try:
            serving = self._registry.serving(model).info
            if serving.task != trial.info.task:
                raise ReleaseError(
                    f"{model} {record.plan.version} does another task than {serving.version} (other labels or "
                    "settings), so that their answers cannot be compared. Promote it without a trial."
                )
            record.against = serving.version
            write_record(self._store, record)
        except BaseException:
            self._registry.end_trial(model, promote=False)
            raise
        self._live[model] = _Live(record)
        _log.info("%s %s: %s began", model, record.plan.version, record.mode)
        return record

    def _end(self, live: _Live, outcome: Outcome, note: str) -> None:
        """Stop sending it requests, unload it if it is still on trial, and keep what is to be said."""
        record = live.record
        self._last[record.model] = record
        self._live.pop(record.model, None)
        trial = self._registry.trial(record.model)
        if trial is not None and trial.info.version == record.plan.version:
            try:
                self._registry.end_trial(record.model, promote=False)
            except OctavoError as error:  # somebody was quicker
                _log.info("%s: %s", record.model, error)
        self._close(record, outcome, note)

    def _close(self, record: TrialRecord, outcome: Outcome, note: str) -> None:
        record.outcome, record.note, record.ended = outcome, note, _now()
        self._last[record.model] = record
        self._keep(record)
        why = "; ".join(part for part in (note, *(record.decision.reasons if record.decision else ())) if part)
        _log.info("%s %s: %s %s: %s", record.model, record.plan.version, record.mode, outcome, why)

    def _keep(self, record: TrialRecord) -> None:
        try:
            write_record(self._store, record)
        except OctavoError as error:
            _log.warning("%s", error)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
