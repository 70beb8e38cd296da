"""A trial on disk: `<store>/<model>/.trials/<started>-<version>.json`, written whole, kept when the trial is over.

It is the evidence that a promotion or a rollback rested on, and what a service goes on from after a restart.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import msgspec

from octavo.engines.cache import write_atomically
from octavo.errors import ReleaseError
from octavo.serve.trial import Decision, Evidence, Mode, Thresholds, check_percent
from octavo.store.names import model_folder

FOLDER = ".trials"
_FORMAT = 1


class Outcome(StrEnum):
    """How a trial ended, if it has."""

    RUNNING = "running"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled back"
    ABORTED = "aborted"
    FAILED = "failed"  # it was to be promoted, and could not be


class TrialPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an operator asks for.

    Attributes:
        version: to try.
        percent: of the model's requests that the new release answers (canary) or gets a copy of (shadow).
        act: whether it is promoted or dropped once the thresholds say so; else it goes on, and says so.
        thresholds: that decide.
    """

    version: str
    percent: float = 5.0
    act: bool = True
    thresholds: Thresholds = Thresholds()

    def __post_init__(self) -> None:
        """Raises InputError for a percent that is none."""
        check_percent(self.percent)


class TrialRecord(msgspec.Struct, kw_only=True):
    """A trial: the content of its file.

    Attributes:
        model: whose release is tried.
        against: the version that serves meanwhile.
        mode: canary or shadow.
        plan: what was asked for.
        started: ISO 8601, UTC.
        evidence: so far.
        outcome: so far.
        ended: ISO 8601, UTC; None while it runs.
        decision: the last one; None before the first.
        note: what else there is to say, such as who ended it.
    """

    format: int = _FORMAT
    model: str
    against: str
    mode: Mode
    plan: TrialPlan
    started: str
    evidence: Evidence = msgspec.field(default_factory=Evidence)
    outcome: Outcome = Outcome.RUNNING
    ended: str | None = None
    decision: Decision | None = None
    note: str = ""


def record_file(store: Path, record: TrialRecord) -> Path:
    """Return where a trial is kept."""
    started = record.started.translate({ord(one): None for one in "-:.+"})
    return model_folder(store, record.model) / FOLDER / f"{started}-{record.plan.version}.json"


def write_record(store: Path, record: TrialRecord) -> Path:
    """Write a trial whole, or not at all, and return the file.

    Raises:
        ReleaseError: the store cannot be written.
    """
    file = record_file(store, record)
    if not file.parent.parent.is_dir():  # a model that was removed is not brought back as a folder of trials
        raise ReleaseError(f"{file.parent.parent}: this model is gone from the store; its trial is not kept.")
    try:
        write_atomically(file, msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")
    except OSError as error:
        raise ReleaseError(f"{file}: the trial's evidence cannot be kept ({error.strerror}).") from error
    return file


def running_record(store: Path, model: str) -> TrialRecord | None:
    """Return the newest trial of a model if it is still to go on; one that cannot be read is over."""
    files = sorted((model_folder(store, model) / FOLDER).glob("*.json"))
    if not files:
        return None
    try:
        record = msgspec.json.decode(files[-1].read_bytes(), type=TrialRecord)
    except (OSError, msgspec.MsgspecError, ValueError):
        return None
    return record if (record.format, record.model, record.outcome) == (_FORMAT, model, Outcome.RUNNING) else None
