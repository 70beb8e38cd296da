"""`python -m bench.service.overload`: three times more requests than can be served, and what becomes of them.

The service promises that what it admits waits no longer than `--max-queue-ms`; the rest is told when to come back.
Whether that is true is measured with clients that do, at twice and three times the capacity: more is asked than can be
served at any time, so what counts is the share of them that is let in beside the share of those who come unasked.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from bench.service.load import Answered, Load, Sending, percentile_ms
from bench.service.releases import MODEL, sample_store
from bench.service.server import HOST, octavo_server

_TIMES = 3.0
_TEXTS = 32  # per request, so that sending three times too many costs little beside serving
_BOUND_MS = 250.0
_RETURNING_TIMES = (2.0, 3.0)
_RETURNING_S = 10.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, help="a store with tool-intent; one is made where none is named")
    parser.add_argument("--work", type=Path, default=Path("runs/bench-service"))
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--quick", action="store_true", help="30 seconds")
    asked = parser.parse_args()
    if asked.quick:
        asked.seconds = 30.0
    store = asked.store or sample_store(asked.work)
    golden = json.loads((store / MODEL / "current" / "golden.json").read_text())["inputs"]
    texts = (golden * (1 + 2 * _TEXTS // len(golden)))[: 2 * _TEXTS]
    bodies = [json.dumps({"input": texts[start : start + _TEXTS], "model": MODEL}) for start in range(_TEXTS)]
    with octavo_server(store, "--max-queue-ms", str(_BOUND_MS)) as server:

        def load(rate_rps: float, seconds: float, seed: int, *, comes_back: bool = False) -> Load:
            path = "/v1/classify"
            return Load(HOST, server.port, path, bodies, rate_rps, seconds, seed, workers=4, comes_back=comes_back)

        Sending(load(0, 2.0, 1)).result()  # warm
        capacity_rps = sum(one.status == 200 for one in Sending(load(0, 8.0, 2)).result()) / 8.0
        answered = Sending(load(_TIMES * capacity_rps, asked.seconds, 3)).result()
        returning = {
            f"{times:g}x": Sending(load(times * capacity_rps, _RETURNING_S, 4, comes_back=True)).result()
            for times in _RETURNING_TIMES
        }
    admitted = [one for one in answered if one.status == 200]
    statuses = Counter(one.status for one in answered)
    refused = [one for one in answered if one.status == 429]
    measured = {
        "name": "bench-overload",
        "offered_ratio": round(len(answered) / asked.seconds / capacity_rps, 2),
        "admitted_p99_ratio": round(percentile_ms(admitted, 0.99) / _BOUND_MS, 3),
        "admitted_p50_ms": round(percentile_ms(admitted, 0.5), 1),
        "served_ratio": round(len(admitted) / asked.seconds / capacity_rps, 3),
        "status_5xx": sum(count for status, count in statuses.items() if status >= 500),
        "broken": statuses[0],
        "rejected_429": statuses[429],
        "without_retry_after": sum(one.retry_after_s <= 0 for one in refused),
        "retry_after_s_median": round(median(one.retry_after_s for one in refused), 3) if refused else None,
        "returning_admitted_share": {times: _admitted_share(one, True) for times, one in returning.items()},
        "first_admitted_share": {times: _admitted_share(one, False) for times, one in returning.items()},
        "refused_p99_ms": round(percentile_ms(refused, 0.99), 1) if refused else None,
        "bound_ms": _BOUND_MS,
        "capacity_rps": round(capacity_rps, 1),
        "requests": len(answered),
    }
    print(json.dumps(measured))


def _admitted_share(answered: Sequence[Answered], is_return: bool) -> float | None:
    """Return the share that was let in of those who came back, or of those who came for the first time."""
    statuses = [one.status for one in answered if one.is_return is is_return]
    return round(statuses.count(200) / len(statuses), 3) if statuses else None


if __name__ == "__main__":
    main()
