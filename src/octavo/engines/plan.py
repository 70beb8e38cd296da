"""The plan: which engine was measured to be the fastest for one release, on this machine and this traffic.

A plan lies in the cache beside compiled engines: losing it costs a measurement, never an answer. It says what is
fastest; whether that engine may serve is for certificates to say, which this file knows nothing of.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

import msgspec

import octavo
from octavo.engines import native
from octavo.engines.cache import cache_folder, write_atomically
from octavo.engines.guard import Layout
from octavo.engines.hardware import Hardware, hardware_key, this_hardware
from octavo.engines.open import Backend
from octavo.errors import EngineError

_PACKAGES = ("openvino", "onnxruntime", "onnxruntime-gpu", "tensorrt")


class Spread(msgspec.Struct, frozen=True):
    """The median over the rounds of a measurement, and the quartiles around it."""

    median: float
    low: float
    high: float


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of one engine.

    Attributes:
        backend: of the engine.
        layout: how it pads batches; None where it pads nothing.
        precision: of the linear layers: `int8`, or `fp32` for the reference that is measured beside it.
        engine_id: as the engine gives it; empty where it could not be built.
        ms_per_query: by batch size.
        times_fp32: how many times faster than the FP32 reference, by batch size; empty without one.
        reason: why it cannot run the release here; empty where it can.
    """

    backend: Backend
    layout: Layout | None
    precision: str
    engine_id: str = ""
    ms_per_query: dict[int, Spread] = {}
    times_fp32: dict[int, Spread] = {}
    reason: str = ""

    @property
    def name(self) -> str:
        """Say it in a few words: 'openvino bucketed', 'openvino bucketed fp32'."""
        parts = (self.backend, self.layout or "", "fp32" if self.precision == "fp32" else "")
        return " ".join(part for part in parts if part)


class Traffic(msgspec.Struct, frozen=True):
    """What was asked: a query log, or None for the release's golden inputs; its queries, and their tokens."""

    trace: str | None
    queries: int
    mean_tokens: float
    most_tokens: int


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured, and what follows from it: the content of a plan file.

    Attributes:
        release_sha256: of the release.
        model: its name, with its version: for people.
        backend: the engine that is fastest.
        layout: how it pads batches; None where it pads nothing.
        engine_id: of the engine that was chosen.
        threads: CPU threads that all were given; None for all.
        why: it was chosen, in a sentence.
        int8_pays: whether it is faster than the FP32 reference; None where that was not measured.
        traffic: what was asked.
        rounds: timed rounds.
        measured: every engine, those that cannot run the release included.
        versions: of every backend that could be installed here.
        hardware: that this was measured on.
        created: ISO 8601 time in UTC.
    """

    format: Literal[1] = 1
    release_sha256: str
    model: str
    version: str
    backend: Backend
    layout: Layout | None
    engine_id: str
    threads: int | None
    why: str
    int8_pays: bool | None
    traffic: Traffic
    rounds: int
    measured: list[Measured]
    versions: dict[str, str]
    hardware: Hardware
    created: str

    @property
    def chosen(self) -> Measured:
        """What was measured of the chosen engine."""
        choice = (self.backend, self.layout, self.engine_id)
        return next(one for one in self.measured if (one.backend, one.layout, one.engine_id) == choice)


def backend_versions() -> dict[str, str]:
    """Return the version of every backend that is installed; none is imported to ask."""
    installed = this_hardware().packages
    found: dict[str, str] = {name: installed[name] for name in _PACKAGES if name in installed}
    return found | ({"native": octavo.__version__} if native.available() else {})


def kept_file(release_sha256: str, what: str) -> Path:
    """Return where the plan of a release, or what goes with it, is kept.

    The name stands for the release, the versions of the backends, the processor and its cores.

    Raises:
        EngineError: there is no place, because the user has no home.
    """
    hardware = this_hardware()
    versions = [f"{name} {version}" for name, version in sorted(backend_versions().items())]
    parts = (release_sha256, *versions, hardware_key(hardware), str(hardware.logical_cores))
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    try:
        return cache_folder() / f"{key}.{what}.json"
    except RuntimeError as error:
        raise EngineError(f"There is no place for a cache: {error} Name a folder in OCTAVO_CACHE.") from None


def keep_plan(plan: Plan) -> Path:
    """Write a plan into the cache, in the place of an older one, and return its file.

    Raises:
        EngineError: the cache cannot be written.
    """
    content = msgspec.json.format(msgspec.json.encode(plan), indent=2) + b"\n"
    return keep(plan.release_sha256, "plan", content)


def keep(release_sha256: str, what: str, content: bytes) -> Path:
    """Write what goes with the plan of a release, and return its file.

    Raises:
        EngineError: the cache cannot be written.
    """
    file = kept_file(release_sha256, what)
    try:
        write_atomically(file, content)
    except OSError as error:
        raise EngineError(
            f"{file}: cannot be kept ({error.strerror or error}). Name another folder in OCTAVO_CACHE."
        ) from None
    return file


def read_plan(release_sha256: str) -> Plan | None:
    """Return the plan for a release on this machine and with these versions; None where there is none.

    Raises:
        EngineError: there is one, and it is damaged, or speaks of something else than its name does.
    """
    try:
        file = kept_file(release_sha256, "plan")
        content = file.read_bytes()
    except (OSError, EngineError):
        return None
    try:
        plan = msgspec.json.decode(content, type=Plan)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise EngineError(f"{file}: the plan is damaged ({error}).") from None
    here = this_hardware()
    found = (plan.release_sha256, plan.versions, hardware_key(plan.hardware), plan.hardware.logical_cores)
    if found != (release_sha256, backend_versions(), hardware_key(here), here.logical_cores):
        raise EngineError(f"{file}: the plan was made for another release, machine or version.")
    return plan
