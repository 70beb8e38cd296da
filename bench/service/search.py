"""`python -m bench.service.search`: whole searches over HTTP, the INT8 stack against the FP32 stack, stage by stage.

Two real servers run over the same index and hard links of the same store: in one the FP32 references are current, on
OpenVINO in the layout that is measured to be its fastest; in the other the releases that the store serves. They are
asked in turns, by another process, for the test queries of the demo with Zipf's repetition. First some users at a time,
each of whom asks as soon as the answer is there; then Poisson traffic, at the highest rate whose p99 stays within the
bound. An answer that is degraded counts as none. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.service.load import Answered, Load, Sending, percentile_ms
from bench.service.server import HOST, Server, octavo_server
from octavo.data.traces import Synthesis, synthetic_trace
from octavo.engines.open import Backend
from octavo.ladder.planning import plan_engine
from octavo.search import settings
from octavo.search.judged import read_judged
from octavo.store.release import read_manifest
from octavo.store.versions import current, models, point_current

FP32, INT8 = "fp32", "int8"
USERS = (1, 8, 64)
_BODIES = 2000
_STEP = 1.1  # the rate is known to within
_LEAST_RPS = 0.5
_FEWEST, _LONGEST_S = 150, 8.0  # searches that a p99 is taken of, and no longer than this
_TRIES = 2  # on a machine that others use too, one bad second says nothing of the server
_START_S = 600.0
_QUEUE_MS = 30_000  # nobody is refused: what is late is seen in the p99


@dataclass(slots=True)
class Stack:
    """A server, and what is known of the rate that it can do."""

    name: str
    port: int
    low_rps: float = 0.0
    high_rps: float = math.inf
    within: list[Answered] = field(default_factory=list)  # at the highest rate that kept the bound

    def forget(self, most_rps: float) -> None:
        """Know no more than a rate that cannot be kept."""
        self.low_rps, self.high_rps, self.within = 0.0, most_rps, []

    @property
    def is_known(self) -> bool:
        return self.high_rps <= _STEP * max(self.low_rps, _LEAST_RPS)

    @property
    def next_rps(self) -> float:
        """Half of what it cannot do, until something is known that it can."""
        return math.sqrt(self.low_rps * self.high_rps) if self.low_rps else self.high_rps / 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, default=Path("demo"), help="what `make demo` made")
    parser.add_argument("--work", type=Path, default=Path("runs/bench-search"))
    parser.add_argument("--rerank", type=int, nargs="+", default=[0, 20], help="documents that are ranked")
    parser.add_argument("--p99-ms", type=float, help="bound on the p99; default: twice FP32's with one user")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each phase")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each number of users")
    parser.add_argument("--ports", type=int, nargs=2, metavar=("FP32", "INT8"), help="ask servers that run already")
    parser.add_argument("--quick", action="store_true", help="below five minutes")
    asked = parser.parse_args()
    if asked.quick:
        asked.seconds, asked.rounds = 2.5, 1
    if not (asked.demo / "index" / "current").exists():
        parser.error(f"{asked.demo}: there is no index. Run `make demo` first, or name its folder: --demo")
    with ExitStack() as opened:
        ports = asked.ports or [server.port for server in _servers(asked, opened)]
        stacks = [Stack(name, port) for name, port in zip((FP32, INT8), ports, strict=True)]
        measured = {f"rerank_{rerank}": _measured(stacks, asked, rerank) for rerank in asked.rerank}
    print(json.dumps({"name": "bench-search", **measured}))


def _servers(asked: argparse.Namespace, opened: ExitStack) -> list[Server]:
    """Start the FP32 stack and the INT8 stack, each over a store of its own."""
    os.environ["OCTAVO_CACHE"] = str((asked.work / "cache").resolve())  # for plans that are this bench's alone
    stores = [_linked(asked.demo / "store", asked.work / name) for name in (FP32, INT8)]
    _serve_references(stores[0])
    index = _linked(asked.demo / "index", asked.work / "index")
    (index / settings.FILE_NAME).unlink(missing_ok=True)  # a ranker that was tuned away would not be measured
    options = ("--index", str(index), "--max-queue-ms", str(_QUEUE_MS))
    return [opened.enter_context(octavo_server(store, *options, start_s=_START_S)) for store in stores]


def _linked(original: Path, folder: Path) -> Path:
    """Return a folder of hard links, in which `current` can be moved."""
    shutil.rmtree(folder, ignore_errors=True)
    return Path(shutil.copytree(original, folder, symlinks=True, copy_function=_link_or_copy))


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


def _serve_references(store: Path) -> None:
    """Let the FP32 reference of each model be current, in the layout of OpenVINO that is its fastest on one core."""
    for model in models(store):
        reference = read_manifest(store / model / str(current(store, model))).teacher
        if reference is None:
            raise SystemExit(f"{store / model}: what serves names no FP32 reference.")
        point_current(store / model, reference)
        plan = plan_engine(store / model / reference, threads=1, backend=Backend.OPENVINO, budget_s=5.0).plan
        _say(f"{model} in FP32", f"{plan.backend} {plan.layout}")


def _measured(stacks: Sequence[Stack], asked: argparse.Namespace, rerank: int) -> dict[str, Any]:
    bodies = _bodies(asked.demo / "data" / "tool-match", rerank)
    by_users: dict[str, Any] = {}
    for stack in stacks:
        _asked(stack, bodies, 2.0, workers=8)  # warm
    for users in USERS:
        phases: dict[str, list[list[Answered]]] = {stack.name: [] for stack in stacks}
        for turn in range(asked.rounds):
            for stack in stacks if turn % 2 else reversed(stacks):
                phases[stack.name].append(_asked(stack, bodies, asked.seconds, workers=users, seed=turn))
        told = by_users[str(users)] = {name: _told_of_phases(some) for name, some in phases.items()}
        for stack in stacks:
            # What many users at a time get done is more than can be done when they come at random.
            stack.forget(_STEP * told[stack.name]["searches_per_second"])
        _say(f"rerank {rerank}, {users} users", json.dumps(told))
    bound_ms = asked.p99_ms or 2 * by_users["1"][FP32]["p99_ms"]
    while unknown := [stack for stack in stacks if not stack.is_known]:
        for stack in unknown:
            _try_rate(stack, bodies, asked.seconds, bound_ms)
    rates = {stack.name: round(stack.low_rps, 1) for stack in stacks}
    made = {
        "p99_bound_ms": round(bound_ms, 1),
        "searches_per_second": rates,
        "ratio": round(rates[INT8] / rates[FP32], 2) if rates[FP32] else None,
        "at_these_rates": {stack.name: _told(stack.within) for stack in stacks if stack.within},
        "users": by_users,
    }
    _say(f"rerank {rerank}, p99 within {bound_ms:.1f} ms", json.dumps(rates))
    return made


def _try_rate(stack: Stack, bodies: Sequence[str], seconds: float, bound_ms: float) -> None:
    """See whether a server keeps the bound at its next rate."""
    rate_rps = stack.next_rps
    seconds = min(max(seconds, _FEWEST / rate_rps), _LONGEST_S)
    for attempt in range(_TRIES):
        seed = int(rate_rps) + attempt
        answered = _asked(stack, bodies, seconds, rate_rps=rate_rps, seed=seed, p99_ms=bound_ms)
        if all(map(_is_whole, answered)) and percentile_ms(answered, 0.99) <= bound_ms:
            stack.low_rps, stack.within = rate_rps, answered
            return
    stack.high_rps = rate_rps


def _asked(
    stack: Stack,
    bodies: Sequence[str],
    seconds: float,
    *,
    rate_rps: float = 0.0,
    workers: int = 0,
    seed: int = 0,
    p99_ms: float = 0.0,
) -> list[Answered]:
    load = Load(
        HOST, stack.port, "/v1/search", bodies, rate_rps, seconds, seed, workers, keep_bodies=True, p99_ms=p99_ms
    )
    return Sending(load).result()


def _bodies(data: Path, rerank: int) -> list[str]:
    """Return requests with the demo's test queries, some of them far more often than others."""
    judged = read_judged(data / "queries.jsonl", data / "qrels" / "test.tsv")
    made_of = Synthesis(queries=_BODIES, zipf=1.0)
    return [json.dumps({"query": line["text"], "rerank": rerank}) for line in synthetic_trace(made_of, judged.queries)]


def _is_whole(one: Answered) -> bool:
    return one.status == 200 and not json.loads(one.answer)["degraded"]


def _told_of_phases(phases: Sequence[Sequence[Answered]]) -> dict[str, Any]:
    """Return the times of searches and how many were answered in a second, of phases in which users took turns."""
    told = _told([one for phase in phases for one in phase])
    took_s = sum(max(one.due_s + one.latency_s for one in phase) for phase in phases)  # the last answers come late
    return {"searches_per_second": round(told["searches"] / took_s, 1), **told}


def _told(answered: Sequence[Answered]) -> dict[str, Any]:
    """Return the times of searches and of their stages, in milliseconds."""
    whole = [one for one in answered if _is_whole(one)]
    stages: dict[str, list[float]] = {}
    for one in whole:
        for stage in json.loads(one.answer)["stages"]:
            stages.setdefault(stage["name"], []).append(stage["ms"])
    return {
        "searches": len(whole),
        "failed": len(answered) - len(whole),
        "p50_ms": round(percentile_ms(whole, 0.5), 2),
        "p99_ms": round(percentile_ms(whole, 0.99), 2),
        "stages_ms": {name: _percentiles(times) for name, times in stages.items()},
    }


def _percentiles(times_ms: Sequence[float]) -> Mapping[str, float]:
    p50, p99 = np.percentile(times_ms, [50, 99], method="inverted_cdf")
    return {"p50": round(float(p50), 2), "p99": round(float(p99), 2)}


def _say(what: str, told: str) -> None:
    print(f"{what}: {told}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
