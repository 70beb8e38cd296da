"""`python -m bench.service.serving`: the engine's share of the server's work, and how many requests a p99 allows.

Share: CPU time inside the engine by CPU time of the whole server process, at saturation; the load generator is another
process and not counted. Rate: the most Poisson requests per second whose p99, from the time that they were due, stays
within the bound (`bench.service.rate`), for ours and for the same model behind servers that people use.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import importlib.util
import json
import sys
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from bench.service.load import Load, Sending
from bench.service.rate import most_rps
from bench.service.releases import MODEL, sample_store
from bench.service.server import HOST, Server, free_port, octavo_server, server

_BOUND_MS = 130.0  # what MLPerf Inference sets for BERT in its Server scenario
_SATURABLE = ("--max-queue-ms", "1000")  # saturated by clients that wait, it must not refuse them
# Each with the packages that it needs.
_PEERS = {
    "fastapi_torch": ("fastapi",),
    "litserve_torch": ("litserve",),
    "rayserve_torch": ("ray",),
    "fastapi_openvino": ("fastapi", "nncf"),
}
_OPTIMUM = "sentence-transformers, OpenVINO INT8"


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
    with octavo_server(store, *_SATURABLE) as ours:
        for texts in (1, 32):
            measured[f"share_of_engine_b{texts}"], measured[f"cpu_ms_per_text_b{texts}"] = _share(
                ours, _bodies(golden, texts, MODEL), texts, seconds
            )
    print(json.dumps(measured), file=sys.stderr)
    bodies = _bodies(golden, 1, MODEL)
    measured["octavo_rps"] = most_rps(
        partial(octavo_server, store, *_SATURABLE), "/v1/classify", bodies, seconds, _BOUND_MS
    )
    measured["peers_rps"], measured["does_not_run"] = {}, {_OPTIMUM: _why_no_optimum()}
    for script, packages in _PEERS.items():
        if missing := [package for package in packages if importlib.util.find_spec(package) is None]:
            measured["does_not_run"][script] = f"{', '.join(missing)} is not installed"
            continue
        try:
            rps = most_rps(
                partial(_peer, script, _model_beside(teacher, asked.work)),
                "/predict",
                _bodies(golden, 1, ""),
                seconds,
                _BOUND_MS,
            )
        except RuntimeError as error:
            measured["does_not_run"][script] = str(error)[-300:]
            continue
        measured["peers_rps"][script] = rps
        print(f"{script}: {rps} requests per second", file=sys.stderr)
    measured["vs_peers"] = {
        name: round(measured["octavo_rps"] / rps, 2) for name, rps in measured["peers_rps"].items() if rps
    }
    print(json.dumps(measured))


def _why_no_optimum() -> str:
    if importlib.util.find_spec("optimum") is not None:
        return "not measured; fastapi_openvino is its nearest stand-in: the same model by NNCF in OpenVINO INT8"
    return (
        "optimum-intel cannot be installed beside transformers "
        f"{importlib.metadata.version('transformers')}: it asks for an older one. fastapi_openvino is its nearest "
        "stand-in: the same model by NNCF in OpenVINO INT8, behind FastAPI"
    )


def _model_beside(teacher: Path, work: Path) -> Path:
    """Return the teacher's folder under another name, beside which peers may keep what they convert of it."""
    digest = hashlib.sha256((teacher / "model.safetensors").read_bytes()).hexdigest()
    model = work / "peers" / digest[:16] / "model"
    model.parent.mkdir(parents=True, exist_ok=True)
    if not model.exists():
        model.symlink_to(teacher.resolve())
    return model


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


if __name__ == "__main__":
    main()
