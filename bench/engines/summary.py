"""The numbers that are quoted, and the goals beside what was reached. Pure: cells' results in, plain values out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.engines.cell import CaseResult, CellResult
from bench.engines.peak import INT8_LOOPS, TILE_LOOPS, Loop, limit_of
from bench.engines.plan import OFFLINE, Case
from bench.engines.timing import median_of, ratio_of
from octavo.types import Interval

NATIVE, VNNI, PER_TOKEN = "native", "native-vnni", "native-per-token"
OURS = (NATIVE, VNNI, PER_TOKEN)
# The INT8 engines in OpenVINO that a user would pick, and ours in OpenVINO.
OPENVINO_PADDED = ("openvino-int8", "openvino-int8-bf16", "openvino-int8-dynamic")
OPENVINO_PACKED = ("openvino-packed", "openvino-packed-exact", "openvino-packed-bf16")
REAL = "minilm-l6"
_RATIOS = {
    "native_vs_torch_fp32": ("torch-fp32",),
    "native_vs_best_openvino_int8_padded": OPENVINO_PADDED,
    "native_vs_openvino_packed": OPENVINO_PACKED,
    "native_vs_ctranslate2_int8": ("ctranslate2-int8",),
    "native_vs_best_peer": None,
}
_MISSING_CASE = "not measured in this run"


@dataclass(frozen=True, slots=True)
class Goal:
    """What was aimed at. `reached` is None where it was not measured.

    Attributes:
        name: what is measured, in words.
        target: at least this, or at most where `is_limit`.
    """

    name: str
    target: float
    reached: float | None
    is_limit: bool = False

    @property
    def is_met(self) -> bool | None:
        """Whether the goal was met; None where nothing was measured."""
        if self.reached is None:
            return None
        return self.reached <= self.target if self.is_limit else self.reached >= self.target

    @property
    def verdict(self) -> str:
        """`met`, `missed` or `not measured`."""
        return {True: "met", False: "missed", None: "not measured"}[self.is_met]


def summary_of(cells: Sequence[CellResult], cpu: str) -> dict[str, Any]:
    """Return the quoted numbers by name; null where there are none, with the reason under `notes`."""
    one, eight = Case("short", 1), Case("short", 32)
    found: dict[str, Any] = {}
    intervals: dict[str, Any] = {}
    notes: dict[str, str] = {}
    for key, peers in _RATIOS.items():
        found[key], intervals[key] = {}, {}
        for batch, case in (("b1", one), ("b32", eight)):
            ratio, note = times_faster(cells, REAL, case, peers)
            found[key][batch] = _rounded(_value(ratio))
            intervals[key][batch] = [_rounded(ratio.low), _rounded(ratio.high)] if ratio else None
            if note:
                notes[f"{key}.{batch}"] = note
    for key, case in (("peak_share_b1", one), ("peak_share_b32", eight)):
        share, note = peak_share(cells, REAL, case)
        found[key] = _rounded(_value(share), 3)
        notes |= {key: note} if note else {}
    if (tiles := case_of(cells, REAL, eight)) and NATIVE in tiles[1].timings and isa_of(cells) == "amx":
        found["amx_peak_share_b32"] = _rounded(_value(share_of_peak(tiles[1], NATIVE, TILE_LOOPS)), 3)
    ms = text_ms(cells, 2)
    found["ms_per_query_text_in_2_threads"] = _rounded(ms, 4)
    if ms is None:
        notes["ms_per_query_text_in_2_threads"] = _why_missing(cells, NATIVE) or _MISSING_CASE
    found["isa"] = isa_of(cells)
    if found["isa"] is None:
        notes["isa"] = _why_missing(cells, NATIVE) or _MISSING_CASE
    found["cpu"] = cpu
    goals = goals_of(cells)
    found["goals"] = [
        {"goal": g.name, "target": g.target, "reached": _rounded(g.reached, 3), "met": g.is_met} for g in goals
    ]
    return found | {"intervals": intervals, "notes": notes}


def goals_of(cells: Sequence[CellResult]) -> list[Goal]:
    """Return the goals beside what was reached."""
    summary_cases = {"batch 1": Case("short", 1), "batch 32": Case("short", 32)}

    def ratio(model: str, case: Case, peers: Sequence[str] | None) -> float | None:
        return _value(times_faster(cells, model, case, peers)[0])

    goals = []
    for what, peers, targets in (
        ("PyTorch FP32", ("torch-fp32",), (20.0, 12.0)),
        ("the best padded OpenVINO INT8", OPENVINO_PADDED, (3.0, 3.0)),
        ("packed OpenVINO", OPENVINO_PACKED, (1.5, 1.5)),
    ):
        for (size, case), target in zip(summary_cases.items(), targets, strict=True):
            goals.append(Goal(f"{REAL}, short, {size}: times faster than {what}", target, ratio(REAL, case, peers)))
    for (size, case), target in zip(summary_cases.items(), (0.7, 0.8), strict=True):
        share = peak_share(cells, REAL, case)[0]
        goals.append(Goal(f"{REAL}, short, {size}: share of the VNNI peak", target, _value(share)))
    for trace, batch in (("passages-94", 8), ("passages-256", 8)):
        reached = ratio(REAL, Case(trace, batch), None)
        goals.append(Goal(f"{REAL}, {trace}, batch {batch}: times faster than the best peer", 1.5, reached))
    for (size, case), target in zip(summary_cases.items(), (2.0, 1.3), strict=True):
        goals.append(
            Goal(f"12x768, short, {size}: times faster than the best peer", target, ratio("12x768", case, None))
        )
    goals.append(
        Goal(f"{REAL}, short, offline, text in, 2 threads: ms per query", 0.35, text_ms(cells, 2), is_limit=True)
    )
    goals.append(
        Goal(f"{REAL}, short, batch 32: everything but the engine, of its time", 0.25, text_share(cells), True)
    )
    goals.append(Goal(f"{REAL}, short, batch 32: cost of scales per token", 0.05, per_token_cost(cells), True))
    goals.append(Goal(f"{REAL}, short, batch 32: times faster on 2 threads", 1.8, scaling(cells)))
    return goals


def case_of(
    cells: Iterable[CellResult], model: str, case: Case, threads: int = 1, lanes: int = 1
) -> tuple[CellResult, CaseResult] | None:
    """Return where a case was measured, or None."""
    for cell in cells:
        if (cell.cell.model, cell.cell.threads, cell.cell.lanes) == (model, threads, lanes):
            for result in cell.cases:
                if result.case == case:
                    return cell, result
    return None


def times_faster(
    cells: Sequence[CellResult], model: str, case: Case, peers: Sequence[str] | None
) -> tuple[Interval | None, str]:
    """Return how many times faster the native engine is than the fastest of some peers, and why it is not known.

    Args:
        peers: names; None for all that are not ours.
    """
    found = case_of(cells, model, case)
    if found is None:
        return None, _MISSING_CASE
    timings = found[1].timings
    if NATIVE not in timings:
        return None, f"no native engine: {_why_missing(cells, NATIVE) or 'it was not asked for'}"
    ran = {name for name in timings if (name in peers if peers else name not in OURS)}
    if not ran:
        reasons = {name: _why_missing(cells, name) for name in peers or ()}
        return None, "no such peer ran: " + (
            "; ".join(f"{n}: {r}" for n, r in reasons.items() if r) or "none was asked for"
        )
    best = fastest(found[1], ran)
    return ratio_of(timings[best].rounds_ms, timings[NATIVE].rounds_ms), ""


def fastest(result: CaseResult, names: Iterable[str]) -> str:
    """Return the contender with the lowest median."""
    return min(names, key=lambda name: float(np.median(result.timings[name].rounds_ms)))


def share_of_peak(result: CaseResult, name: str, kind: Sequence[Loop] = INT8_LOOPS) -> Interval | None:
    """Return the share of a limit that a contender reaches in useful operations; None where there is no limit."""
    limit = limit_of(kind, result.peaks)
    if limit is None:
        return None
    seconds = np.array(result.timings[name].rounds_ms) * result.queries / 1e3  # (rounds,)
    return median_of(np.array(result.gop) / seconds / np.array(result.peaks[limit]))


def peak_share(cells: Sequence[CellResult], model: str, case: Case) -> tuple[Interval | None, str]:
    """Return the share of the VNNI peak that the native engine's VNNI kernels reach, and why it is not known."""
    found = case_of(cells, model, case)
    if found is None:
        return None, _MISSING_CASE
    cell, result = found
    name = VNNI if VNNI in result.timings else NATIVE
    if name not in result.timings:
        return None, f"no native engine: {_why_missing(cells, NATIVE) or 'it was not asked for'}"
    share = share_of_peak(result, name)
    if share is None:
        reasons = [reason for reason in cell.missing.values() if reason.startswith("not measured")]
        return None, "; ".join(reasons) or "no loop for this processor's peak"
    return share, f"of contender {name}" if name == VNNI else ""


def text_ms(cells: Sequence[CellResult], threads: int) -> float | None:
    """Return milliseconds per query of the native engine, text in, offline: in lanes or not, whichever is faster."""
    case = Case("short", OFFLINE, is_text=True)
    found = [case_of(cells, REAL, case, threads, lanes) for lanes in (1, threads)]
    medians = [float(np.median(f[1].timings[NATIVE].rounds_ms)) for f in found if f and NATIVE in f[1].timings]
    return min(medians, default=None)


def text_share(cells: Sequence[CellResult]) -> float | None:
    """Return how much longer text in takes than tokens in at batch 32, as a share of the latter."""
    return _against(
        cells, (Case("short", 32, is_text=True), NATIVE, 1), (Case("short", 32), NATIVE, 1), lambda r: r - 1
    )


def per_token_cost(cells: Sequence[CellResult]) -> float | None:
    """Return how much longer scales per token take at batch 32, as a share."""
    found = case_of(cells, REAL, Case("short", 32))
    if found is None or not {NATIVE, PER_TOKEN} <= set(found[1].timings):
        return None
    return ratio_of(found[1].timings[PER_TOKEN].rounds_ms, found[1].timings[NATIVE].rounds_ms).value - 1


def scaling(cells: Sequence[CellResult]) -> float | None:
    """Return how many times faster two threads are than one at batch 32; two processes, so no ratio within rounds."""
    return _against(cells, (Case("short", 32), NATIVE, 1), (Case("short", 32), NATIVE, 2), lambda r: r)


def isa_of(cells: Iterable[CellResult]) -> str | None:
    """Return the instruction set that the native engine says it uses, the last part of its id."""
    return next((cell.engines[NATIVE].rsplit("/", 1)[-1] for cell in cells if NATIVE in cell.engines), None)


def _against(cells: Sequence[CellResult], slow: Any, fast: Any, value: Any) -> float | None:
    """Return a value of the ratio of two medians from different cases or cells."""
    medians = []
    for case, name, threads in (slow, fast):
        found = case_of(cells, REAL, case, threads)
        if found is None or name not in found[1].timings:
            return None
        medians.append(float(np.median(found[1].timings[name].rounds_ms)))
    return float(value(medians[0] / medians[1]))


def _why_missing(cells: Iterable[CellResult], name: str) -> str:
    for cell in cells:
        if name in cell.missing:
            return cell.missing[name]
        for case in cell.cases:
            if name in case.failed:
                return case.failed[name]
    return ""


def _value(interval: Interval | None) -> float | None:
    return None if interval is None else interval.value


def _rounded(value: float | None, digits: int = 2) -> float | None:
    return None if value is None else round(value, digits)
