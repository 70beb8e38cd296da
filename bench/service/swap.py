"""`python -m bench.service.swap`: swap releases under load, and count what was lost, mixed or slowed down.

One process sends Poisson traffic; this one promotes one release after the other through the admin API, and among them
corrupt ones, failed ones and ones with another's certificate. Every answer is compared with what the version that it
names answers alone. Swapping and the steady state take turns, so that whatever else the machine does falls on both.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from statistics import median

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
_START_S = 0.5  # until a load is on its way
_MEMORIES = 8  # turns after which the server's memory is told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, help="a store with tool-intent; one is made where none is named")
    parser.add_argument("--work", type=Path, default=Path("runs/bench-service"))
    parser.add_argument("--swaps", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=2000.0, help="stop swapping after this time")
    parser.add_argument("--steady-s", type=float, default=200.0)
    parser.add_argument("--rounds", type=int, default=40, help="turns of the steady state and of swapping")
    parser.add_argument("--pause-s", type=float, default=1.0, help="between two swaps")
    parser.add_argument(
        "--rate-rps", type=float, help="of requests; a fifth of what the server can do where none is named"
    )
    parser.add_argument("--quick", action="store_true", help="a minute of swaps")
    asked = parser.parse_args()
    if asked.quick:
        asked.seconds, asked.steady_s, asked.rounds = 60.0, 24.0, 2
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
    rate_rps = asked.rate_rps
    if rate_rps is None:
        rate_rps = _SHARE * sum(one.status == 200 for one in Sending(load(0, 5.0, 2)).result()) / 5.0
    steady, during, swapping = [], [], _Swapping(versions, asked.swaps, asked.pause_s)
    stolen = [0.0, 0.0]
    memory_mb = [_memory_mb(server)]
    for turn in range(asked.rounds):
        if swapping.swaps >= asked.swaps:
            break
        before = _stolen_s()
        steady += Sending(load(rate_rps, asked.steady_s / asked.rounds, 3 + turn)).result()
        between = _stolen_s()
        seconds = asked.seconds / asked.rounds
        sending = Sending(load(rate_rps, seconds, 1000 + turn))
        time.sleep(_START_S)
        swapping.swap(server, time.monotonic() + seconds - 2 * _START_S)
        during += sending.result()
        memory_mb.append(_memory_mb(server))
        stolen = [stolen[0] + between - before, stolen[1] + _stolen_s() - between]
    judged = [_judge(one, expected) for one in (*steady, *during)]
    return {
        "name": "bench-swap",
        "swaps": swapping.swaps,
        "seconds_to_load": round(median(swapping.seconds), 3),
        "refused": dict(swapping.refused),
        "wrongly_promoted": swapping.wrong,
        "requests": len(judged),
        "failed": judged.count("failed"),
        "mixed": judged.count("mixed"),
        "p99_ratio": round(percentile_ms(during, 0.99) / percentile_ms(steady, 0.99), 3),
        "p50_ms": [round(percentile_ms(some, 0.5), 3) for some in (steady, during)],
        "p99_ms": [round(percentile_ms(some, 0.99), 3) for some in (steady, during)],
        "rate_rps": round(rate_rps, 1),
        "memory_mb": [memory_mb[turn * (len(memory_mb) - 1) // _MEMORIES] for turn in range(_MEMORIES + 1)],
        "stolen_s": [round(some, 2) for some in stolen],
        "statuses": dict(Counter(one.status for one in during)),
        "versions": dict(Counter(json.loads(one.answer)["version"] for one in during if one.status == 200)),
    }


class _Swapping:
    """Promotes good versions in turn, and a bad one now and then; counts swaps, refusals, and bad ones that served."""

    def __init__(self, versions: Versions, most: int, pause_s: float) -> None:
        self._good, self._bad = cycle(versions.good[::-1]), cycle(versions.bad.items())
        self._most, self._pause_s = most, pause_s
        self.seconds: list[float] = []  # until each one served
        self.refused = Counter[str]()
        self.wrong = 0

    @property
    def swaps(self) -> int:
        return len(self.seconds)

    def swap(self, server: Server, until_s: float) -> None:
        """Go on until a time, or until all is done."""
        while self.swaps < self._most and time.monotonic() < until_s:
            status, answer = server.admin("POST", f"models/{MODEL}/promote", {"version": next(self._good)})
            if status != 200:
                raise RuntimeError(f"A good release was refused: {status} {answer}")
            self.seconds.append(answer["seconds"])
            time.sleep(self._pause_s)
            if self.swaps % _BAD_EVERY == 0:
                why, version = next(self._bad)
                status, _ = server.admin("POST", f"models/{MODEL}/promote", {"version": version})
                self.refused[why] += 400 <= status < 500
                self.wrong += status == 200


def _memory_mb(server: Server) -> int:
    return round(server.metric("process_resident_memory_bytes") / 2**20)


def _stolen_s() -> float:
    """Return the CPU seconds that the hypervisor has kept from this machine: with some in them, tails say little."""
    try:
        return int(Path("/proc/stat").read_text("ascii").split(maxsplit=9)[8]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):  # no Linux
        return 0.0


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
