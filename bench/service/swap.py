"""`python -m bench.service.swap`: swap releases under load, and count what was lost, mixed or slowed down.

One process sends Poisson traffic; this one promotes one release after the other through the admin API, and among them
corrupt ones, failed ones and ones with another's certificate. Every answer is compared with what the version that it
names answers alone.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import numpy as np

import octavo
from bench.service.load import Answered, Load, Sending, percentile_ms
from bench.service.releases import MODEL, Versions, sample_store, with_bad_versions
from bench.service.server import HOST, Server, octavo_server

_PATH = "/v1/classify"
_TEXTS = 3  # per request: an answer could be mixed
_SHARE = 0.2  # of what the server can do at most: loading a release takes a core of two, and so does sending
_TOLERANCE = 1e-3  # of a probability: batches differ in their last bits
_BAD_EVERY = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, help="a store with tool-intent; one is made where none is named")
    parser.add_argument("--work", type=Path, default=Path("runs/bench-service"))
    parser.add_argument("--swaps", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=1800.0, help="stop swapping after this time")
    parser.add_argument("--steady-s", type=float, default=60.0)
    parser.add_argument("--pause-s", type=float, default=1.0, help="between two swaps")
    parser.add_argument("--quick", action="store_true", help="90 seconds of swaps")
    asked = parser.parse_args()
    if asked.quick:
        asked.seconds, asked.steady_s = 90.0, 30.0
    store, versions = with_bad_versions(asked.store or sample_store(asked.work), asked.work)
    texts = _texts(store, versions)
    expected = _expected(store, versions, texts)
    bodies = [json.dumps({"input": group, "model": MODEL}) for group in texts]
    with octavo_server(store) as server:
        measured = _measure(server, versions, bodies, expected, asked)
    print(json.dumps(measured))


def _measure(
    server: Server,
    versions: Versions,
    bodies: Sequence[str],
    expected: dict[str, list[np.ndarray]],
    asked: argparse.Namespace,
) -> dict[str, object]:
    def load(rate_rps: float, seconds: float, seed: int) -> Load:
        return Load(HOST, server.port, _PATH, bodies, rate_rps, seconds, seed, keep_bodies=True, workers=16)

    Sending(load(0, 2.0, 1)).result()  # warm
    capacity_rps = sum(one.status == 200 for one in Sending(load(0, 5.0, 2)).result()) / 5.0
    rate_rps = _SHARE * capacity_rps
    steady = Sending(load(rate_rps, asked.steady_s, 3)).result()
    sending = Sending(load(rate_rps, asked.seconds, 4))
    time.sleep(1.0)
    swaps, refused, wrong = _swap(server, versions, asked, time.monotonic() + asked.seconds - 3.0)
    during = sending.result()
    judged = [_judge(one, expected) for one in (*steady, *during)]
    return {
        "name": "bench-swap",
        "swaps": swaps,
        "refused": dict(refused),
        "wrongly_promoted": wrong,
        "requests": len(judged),
        "failed": judged.count("failed"),
        "mixed": judged.count("mixed"),
        "p99_ratio": round(percentile_ms(during, 0.99) / percentile_ms(steady, 0.99), 3),
        "p50_ms": [round(percentile_ms(some, 0.5), 3) for some in (steady, during)],
        "p99_ms": [round(percentile_ms(some, 0.99), 3) for some in (steady, during)],
        "rate_rps": round(rate_rps, 1),
        "statuses": dict(Counter(one.status for one in during)),
        "versions": dict(Counter(json.loads(one.answer)["version"] for one in during if one.status == 200)),
    }


def _swap(
    server: Server, versions: Versions, asked: argparse.Namespace, until_s: float
) -> tuple[int, Counter[str], int]:
    """Promote good versions in turn, and a bad one now and then; return swaps, refusals, and bad ones that served."""
    swaps, refused, wrong = 0, Counter[str](), 0
    good, bad = cycle(versions.good[::-1]), cycle(versions.bad.items())
    while swaps < asked.swaps and time.monotonic() < until_s:
        status, answer = server.admin("POST", f"models/{MODEL}/promote", {"version": next(good)})
        if status != 200:
            raise RuntimeError(f"A good release was refused: {status} {answer}")
        swaps += 1
        time.sleep(asked.pause_s)
        if swaps % _BAD_EVERY == 0:
            why, version = next(bad)
            status, _ = server.admin("POST", f"models/{MODEL}/promote", {"version": version})
            refused[why] += 400 <= status < 500
            wrong += status == 200
    return swaps, refused, wrong


def _texts(store: Path, versions: Versions) -> list[list[str]]:
    """Return groups of texts: the golden inputs of a release, some to a request."""
    golden = json.loads((store / MODEL / versions.good[0] / "golden.json").read_text())["inputs"]
    return [[golden[(start + step) % len(golden)] for step in range(_TEXTS)] for start in range(len(golden))]


def _expected(store: Path, versions: Versions, texts: Sequence[Sequence[str]]) -> dict[str, list[np.ndarray]]:
    """Return what each version answers: the confidence of each text of each group."""
    found = {}
    for version in versions.good:
        with octavo.load(store / MODEL / version, threads=1) as model:
            found[version] = [np.array([answer.confidence for answer in model.predict(group)]) for group in texts]
    return found


def _judge(one: Answered, expected: dict[str, list[np.ndarray]]) -> str:
    if one.status != 200:
        return "failed"
    answer = json.loads(one.answer)
    given = np.array([each["confidence"] for each in answer["answers"]])
    version = answer["version"]
    if version in expected and np.abs(given - expected[version][one.body]).max() <= _TOLERANCE:
        return "right"
    return "mixed"


if __name__ == "__main__":
    main()
