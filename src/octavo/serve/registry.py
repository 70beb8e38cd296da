"""Which release of each model serves, and the act of replacing it: load, verify, warm up, flip, drain, unload.

A swap is done by the thread that asks for it, one at a time for each model; the old release serves until the new one
has passed every check, and serves on where one fails. At most two releases of a model are loaded at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from octavo.errors import OctavoError, ReleaseError
from octavo.serve.loaded import LoadedRelease, load_release
from octavo.serve.refusals import UnknownModel
from octavo.serve.service import Listener
from octavo.store.names import model_folder, version_folders
from octavo.store.versions import current, models, point_current, set_current, versions
from octavo.types import Verdict

_REMEMBERED = 16  # versions that served before, for rollbacks


@dataclass(frozen=True, slots=True)
class Change:
    """What became of a swap.

    Attributes:
        model: whose release was to change.
        old: version that served before; None where none did.
        new: version that was to serve; None where the model was removed.
        seconds: until the new one served, or failed.
        error: why `old` serves on; None where `new` serves.
    """

    model: str
    old: str | None
    new: str | None
    seconds: float
    error: str | None = None


@dataclass(slots=True)
class _Slot:
    """A model: what is loaded of it. `turn` is held by whoever changes that; reading needs no lock."""

    model: str
    serving: LoadedRelease | None = None
    trial: LoadedRelease | None = None
    before: list[str] = field(default_factory=list)
    failure: str | None = None
    failed_as: object = None  # what the store looked like when a version failed
    turn: threading.RLock = field(default_factory=threading.RLock)


class Registry:
    """The releases that serve. Thread-safe; what changes them blocks, and is kept off the event loop."""

    def __init__(
        self,
        store: Path,
        *,
        threads: int,
        listener: Listener,
        allow_uncertified: bool = False,
        max_batch_tokens: int,
        drain_s: float = 30.0,
    ) -> None:
        """Load nothing yet: `refresh` does.

        Args:
            store: where models are.
            threads: of every engine.
            listener: hears of swaps.
            allow_uncertified: load releases without a `pass`.
            max_batch_tokens: the largest batch to be ready for.
            drain_s: how long requests may take to leave a release before it is unloaded.
        """
        self._store = Path(store)
        self._threads = threads
        self._listener = listener
        self._allow_uncertified = allow_uncertified
        self._max_batch_tokens = max_batch_tokens
        self._drain_s = drain_s
        self._slots: dict[str, _Slot] = {}
        self._slots_lock = threading.Lock()
        self._refreshing = threading.Lock()
        self._missing: set[str] = set()
        self._tried = False

    # What serves. Called on the event loop.

    @property
    def tried(self) -> bool:
        """Whether every model of the store has been tried once."""
        return self._tried

    def models(self) -> list[str]:
        """Return the models that serve, sorted."""
        return sorted(name for name, slot in list(self._slots.items()) if slot.serving is not None)

    def serving(self, model: str) -> LoadedRelease:
        """Return the release that serves a model. Raises UnknownModel."""
        slot = self._slots.get(model)
        if slot is None or (serving := slot.serving) is None:
            raise self._unknown(model)
        return serving

    def trial(self, model: str) -> LoadedRelease | None:
        """Return the release that is on trial beside it."""
        slot = self._slots.get(model)
        return None if slot is None else slot.trial

    def failures(self) -> Mapping[str, str]:
        """Return why the version that a model should serve does not, by model."""
        return {name: slot.failure for name, slot in sorted(self._slots.items()) if slot.failure is not None}

    # What changes it.

    def refresh(self, *, retry: bool = False) -> list[Change]:
        """Read the store again: load new models, follow every `current`, unload what was removed.

        A version that failed is not tried again before its files or `current` change, unless `retry`. A model is
        unloaded when two refreshes in a row miss its folder: a store that is being replaced, or is empty, changes
        nothing.

        Raises:
            ReleaseError: the store cannot be listed. What is loaded serves on.
        """
        with self._refreshing:
            names = models(self._store)
            changes = [self._follow(self._slot(name), retry) for name in names]
            changes += [self._unload(slot) for slot in self._removed(names)]
            self._tried = True
        return [change for change in changes if change is not None]

    def promote(self, model: str, version: str) -> Change:
        """Let a version serve, and make it current in the store. Returns when the old one is unloaded.

        A release on trial becomes the serving one where it is the version asked for, and is unloaded first where not.

        Raises:
            UnknownModel: the store has no such model.
            ReleaseError: the version is missing, altered or not certified, or `current` cannot be moved.
            EngineError: it cannot run here. In either case the old one serves on.
        """
        with self._turn(model) as slot:
            if slot.serving is not None and slot.serving.info.version == version:
                set_current(self._store, model, version)
                slot.failure = slot.failed_as = None
                return Change(model, version, version, 0.0)
            return self._swapped(slot, version, moves_current=True)

    def rollback(self, model: str) -> Change:
        """Let the version serve that did before; where none did, the newest older one that is certified.

        Raises:
            UnknownModel: the store has no such model.
            ReleaseError: there is no such version, or as `promote`.
            EngineError: as `promote`.
        """
        with self._turn(model) as slot:
            version = slot.before[-1] if slot.before else self._older(slot)
            before = slot.before[:-1]
            change = self._swapped(slot, version, moves_current=True)
            slot.before = before
            return change

    def start_trial(self, model: str, version: str) -> LoadedRelease:
        """Load a version beside the one that serves.

        Raises:
            UnknownModel: no such model serves.
            ReleaseError: it serves already, another one is on trial, or as `promote`.
            EngineError: as `promote`.
        """
        with self._turn(model) as slot:
            if self.serving(model).info.version == version:
                raise ReleaseError(f"{model} {version} serves already: there is nothing to try.")
            if slot.trial is not None:
                raise ReleaseError(f"{model} {slot.trial.info.version} is on trial. End that trial first.")
            slot.trial = self._load(model, version)
            return slot.trial

    def end_trial(self, model: str, *, promote: bool) -> Change | None:
        """End a trial: let its release serve, or unload it and return None.

        Raises:
            UnknownModel: the store has no such model.
            ReleaseError: nothing is on trial, or `current` cannot be moved; the trial then goes on.
        """
        with self._turn(model) as slot:
            if slot.trial is None:
                raise ReleaseError(f"{model}: no version is on trial.")
            if promote:
                return self._swapped(slot, slot.trial.info.version, moves_current=True)
            self._drop_trial(slot)
            return None

    def close(self) -> None:
        """Unload everything."""
        for slot in list(self._slots.values()):
            with slot.turn:
                self._drop_trial(slot)
                serving, slot.serving = slot.serving, None
                if serving is not None:
                    serving.retire(self._drain_s)

    # One model. Whoever calls these holds the slot's turn.

    def _swapped(self, slot: _Slot, version: str, *, moves_current: bool) -> Change:
        """Do it all, and tell the listener how it went."""
        started = time.monotonic()
        old = slot.serving
        old_version = None if old is None else old.info.version
        if slot.trial is not None and slot.trial.info.version != version:
            self._drop_trial(slot)
        try:
            new = slot.trial or self._load(slot.model, version)
            if moves_current:
                self._move_current(slot, new)
        except OctavoError as error:
            seconds = time.monotonic() - started
            self._listener.swapped(slot.model, old_version, version, seconds, str(error))
            raise
        new.serves_from_now()
        slot.serving, slot.trial = new, None
        seconds = time.monotonic() - started
        slot.failure = slot.failed_as = None
        self._listener.swapped(slot.model, old_version, version, seconds, None)
        if old is not None:
            slot.before = [*slot.before, old.info.version][-_REMEMBERED:]
            old.retire(self._drain_s)
        return Change(slot.model, old_version, version, seconds)

    def _load(self, model: str, version: str) -> LoadedRelease:
        return load_release(
            self._folder(model),
            version,
            threads=self._threads,
            allow_uncertified=self._allow_uncertified,
            max_batch_tokens=self._max_batch_tokens,
        )

    def _move_current(self, slot: _Slot, new: LoadedRelease) -> None:
        """Make a release current in the store; unload it where that fails, unless it is on trial."""
        try:
            point_current(self._folder(slot.model), new.info.version)
        except BaseException:
            if new is not slot.trial:
                new.retire(0)
            raise

    def _drop_trial(self, slot: _Slot) -> None:
        trial, slot.trial = slot.trial, None
        if trial is not None:
            trial.retire(self._drain_s)

    def _follow(self, slot: _Slot, retry: bool) -> Change | None:
        """Let the version serve that the store says, if it does not; a failure is kept and returned, not raised."""
        started = time.monotonic()
        with slot.turn:
            serving = None if slot.serving is None else slot.serving.info.version
            wanted: str | None = None
            try:
                wanted = current(self._store, slot.model)
                if wanted is None:
                    raise ReleaseError(f"{self._folder(slot.model)}: no version is current. Promote one.")
                if wanted == serving:
                    slot.failure = slot.failed_as = None
                    return None
                looks = wanted, _looks(self._folder(slot.model) / wanted)
                if slot.failed_as == looks and not retry:
                    return None
                slot.failed_as = looks
                return self._swapped(slot, wanted, moves_current=False)
            except (OctavoError, OSError) as error:
                slot.failure = str(error)
                if wanted is None:
                    return None
                return Change(slot.model, serving, wanted, time.monotonic() - started, slot.failure)

    def _removed(self, names: list[str]) -> list[_Slot]:
        """Return the models that this refresh and the last one missed in the store."""
        gone = {name for name, slot in self._slots.items() if name not in names and not self._folder(name).exists()}
        if not names:
            return []
        removed, self._missing = gone & self._missing, gone
        return [self._slots[name] for name in sorted(removed)]

    def _unload(self, slot: _Slot) -> Change | None:
        with slot.turn:
            self._drop_trial(slot)
            serving, slot.serving, slot.failure = slot.serving, None, None
            if serving is None:
                return None
            self._listener.swapped(slot.model, serving.info.version, None, 0.0, None)
            serving.retire(self._drain_s)
            return Change(slot.model, serving.info.version, None, 0.0)

    def _older(self, slot: _Slot) -> str:
        """Return the newest version before the serving one that is certified."""
        now = self.serving(slot.model).info.version
        certified = [
            info.version
            for info in versions(self._store, slot.model)
            if int(info.version) < int(now) and (info.verdict == Verdict.PASS or self._allow_uncertified)
        ]
        if not certified:
            raise ReleaseError(f"{slot.model} {now}: no version served before it, and no older one is certified.")
        return certified[-1]

    # Slots.

    @contextmanager
    def _turn(self, model: str) -> Iterator[_Slot]:
        """Wait for a turn at a model that is loaded or in the store."""
        if model not in self._slots and not _is_in(self._store, model):
            raise self._unknown(model)
        slot = self._slot(model)
        with slot.turn:
            yield slot

    def _slot(self, model: str) -> _Slot:
        with self._slots_lock:
            if model not in self._slots:
                # Replaced and not changed: the event loop may be going through it.
                self._slots = {**self._slots, model: _Slot(model)}
            return self._slots[model]

    def _folder(self, model: str) -> Path:
        return model_folder(self._store, model)

    def _unknown(self, model: str) -> UnknownModel:
        there = ", ".join(self.models()) or "none"
        return UnknownModel(f"There is no model {model!r:.80}. These serve: {there}.")


def _is_in(store: Path, model: str) -> bool:
    try:
        return bool(version_folders(model_folder(store, model)))
    except ReleaseError:
        return False


def _looks(folder: Path) -> object:
    """Return what tells a folder from itself after any of its files changed."""
    try:
        return sorted(
            (str(path), status.st_size, status.st_mtime_ns)
            for path in folder.rglob("*")
            for status in [path.stat(follow_symlinks=False)]
        )
    except OSError:
        return None
