"""`python -m bench.service.serving`: the engine's share of the server's work, and how many requests a p99 allows.

Share: CPU time inside the engine by CPU time of the whole server process, at saturation; the load generator is another
process and not counted. Rate: the most Poisson requests per second whose p99, from the time that they were due, stays
within the bound; this is the Server scenario of MLPerf LoadGen, sent by `bench.service.load`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import sys
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from bench.service.load import Load, Sending, percentile_ms
from bench.service.releases import MODEL, sample_store
from bench.service.server import HOST, Server, free_port, octavo_server, server

_BOUND_MS = 50.0
_FIRST_RPS = 20.0
_STEP = 1.2
_PEERS = {"fastapi": "fastapi_torch", "litserve": "litserve_torch", "ray": "rayserve_torch"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, help="a store with tool-intent; one is made where none is named")
    parser.add_argument("--teacher", type=Path, help="the folder of its teacher; needed with --store")
    parser.add_argument("--work", type=Path, default=Path("runs/bench-service"))
    parser.add_argument("--quick", action="store_true", help="shorter runs")
    asked = parser.parse_args()
    store = asked.store or sample_store(asked.work)
    teacher = asked.teacher or asked.work / "teacher"
    seconds = 4.0 if asked.quick else 15.0
    golden = json.loads((store / MODEL / "current" / "golden.json").read_text())["inputs"]
    measured: dict[str, Any] = {"name": "bench-serving", "bound_ms": _BOUND_MS}
    with octavo_server(store, "--max-queue-ms", "1000") as ours:
        for texts in (1, 32):
            measured[f"share_of_engine_b{texts}"], measured[f"cpu_ms_per_text_b{texts}"] = _share(
                ours, _bodies(golden, texts, MODEL), texts, seconds
            )
        print(json.dumps(measured), file=sys.stderr)
        measured["octavo_rps"] = _most_rps(ours.port, "/v1/classify", _bodies(golden, 1, MODEL), seconds)
    measured["peers_rps"], measured["does_not_run"] = {}, {}
    for package, script in _PEERS.items():
        if importlib.util.find_spec(package) is None:
            measured["does_not_run"][script] = f"{package} is not installed"
            continue
        try:
            print(f"{script} ...", file=sys.stderr)
            with _peer(script, teacher) as peer:
                measured["peers_rps"][script] = _most_rps(peer.port, "/predict", _bodies(golden, 1, ""), seconds)
            print(measured["peers_rps"], file=sys.stderr)
        except RuntimeError as error:
            measured["does_not_run"][script] = str(error)[-300:]
    measured["does_not_run"]["sentence-transformers, OpenVINO INT8"] = (
        "its optimum-intel asks for transformers below 5.6"
    )
    measured["vs_peers"] = {
        name: round(measured["octavo_rps"] / rps, 2) for name, rps in measured["peers_rps"].items() if rps
    }
    print(json.dumps(measured))


def _bodies(golden: Sequence[str], texts: int, model: str) -> list[str]:
    named = {"model": model} if model else {}
    groups = [[golden[(start + step) % len(golden)] for step in range(texts)] for start in range(len(golden))]
    return [json.dumps({"input": group, **named}) for group in groups]


def _share(ours: Server, bodies: Sequence[str], texts: int, seconds: float) -> tuple[float, float]:
    """Return the engine's share of the server's CPU time, and milliseconds of CPU per text."""
    load = Load(HOST, ours.port, "/v1/classify", bodies, 0, seconds, workers=32 if texts == 1 else 6)
    Sending(load).result()  # warm
    sending = Sending(load)
    counted: list[tuple[float, float]] = []

    def count() -> None:
        counted.append((ours.cpu_s, ours.metric("octavo_engine_cpu_seconds_total")))

    for at_s in (0.25 * seconds + 1.0, 0.75 * seconds + 1.0):  # the sender takes a moment to start
        timer = threading.Timer(at_s, count)
        timer.start()
    answered = [one for one in sending.result() if one.status == 200]
    while len(counted) < 2:
        timer.join()
    cpu_s, engine_s = (after - before for before, after in zip(*counted, strict=True))
    between = len(answered) * texts / 2  # half of the time
    return round(engine_s / cpu_s, 3), round(1e3 * cpu_s / between, 3)


def _peer(script: str, teacher: Path) -> AbstractContextManager[Server]:
    port = free_port()
    command = [sys.executable, "-m", f"bench.service.peers.{script}", str(teacher), str(port)]
    return server(command, port, "/health" if script.startswith("litserve") else "/ready")


def _most_rps(port: int, path: str, bodies: Sequence[str], seconds: float) -> float:
    """Return the highest rate whose p99 stays within the bound, to within a fifth."""

    def keeps(rate_rps: float) -> bool:
        answered = Sending(Load(HOST, port, path, bodies, rate_rps, seconds, seed=int(rate_rps))).result()
        return all(one.status == 200 for one in answered) and percentile_ms(answered, 0.99) <= _BOUND_MS

    Sending(Load(HOST, port, path, bodies, 10.0, 2.0)).result()  # warm
    low, high = 0.0, _FIRST_RPS
    while keeps(high):
        low, high = high, 3 * high
    while high > _STEP * max(low, 1.0):
        middle = math.sqrt(max(low, 1.0) * high)
        low, high = (middle, high) if keeps(middle) else (low, middle)
    return round(low, 1)


if __name__ == "__main__":
    main()
