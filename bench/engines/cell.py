"""One cell: a model on some threads, every contender, case by case, in a process of its own.

    python -m bench.engines.cell ORDER

ORDER is a JSON file with a `CellOrder`; a `CellResult` is written where it says. Progress goes to standard output, one
JSON object a line, and what libraries print to standard error.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from bench.engines import peak
from bench.engines.asking import Traffic, asked
from bench.engines.models import Subject, int8_gop, read_subject
from bench.engines.peers import PEERS, Contender, Threads
from bench.engines.plan import Case, Cell, Effort
from bench.engines.timing import Turn, interleaved
from octavo.engines.hardware import this_hardware
from octavo.errors import EngineError
from octavo.types import FloatArray

_LEAST_COSINE = 0.9  # to the float model's logits; below, a contender computes something else
_SETTLE_S = 0.003


class CellOrder(msgspec.Struct, frozen=True):
    """What the process is to do.

    Attributes:
        cell: what to measure.
        effort: how long.
        folder: of the subject.
        answer: file for the result.
    """

    cell: Cell
    effort: Effort
    folder: str
    answer: str


class Timing(msgspec.Struct, frozen=True):
    """One contender in one case.

    Attributes:
        rounds_ms: per query, one of each round.
        p99_ms: of calls.
    """

    rounds_ms: list[float]
    p99_ms: float


class CaseResult(msgspec.Struct, frozen=True):
    """One case.

    Attributes:
        case: what it is.
        queries: texts a round.
        mean_tokens: their mean length.
        gop: useful INT8 operations of each round, in billions.
        timings: by contender; all have the same rounds.
        failed: contenders that have no part in this case, and why.
        peaks: by loop, billions of operations per second in each round.
    """

    case: Case
    queries: int
    mean_tokens: float
    gop: list[float]
    timings: dict[str, Timing]
    failed: dict[str, str]
    peaks: dict[str, list[float]]


class CellResult(msgspec.Struct, frozen=True):
    """What a cell found.

    Attributes:
        cell: what it was.
        cases: in order.
        engines: contender → what it is, versions included.
        cosines: contender → the lowest of its logits to the float model's; absent where it has another head.
        missing: contender or loop → why it does not run here.
    """

    cell: Cell
    cases: list[CaseResult]
    engines: dict[str, str]
    cosines: dict[str, float]
    missing: dict[str, str]


Say = Callable[[str, int], None]  # a note, and how many steps are done with it


def steps_of(cell: Cell) -> int:
    """Return how many steps a cell tells of."""
    return len(cell.peers) + len(cell.cases)


def run_cell(order: CellOrder, say: Say) -> CellResult:
    """Build the contenders one by one, and measure every case with those that run."""
    cell = order.cell
    subject = read_subject(cell.model, Path(order.folder))
    threads = Threads(cell.threads // cell.lanes, cell.lanes)
    contenders, cosines, missing = _built(subject, cell.peers, threads, say)
    loops = {}
    for loop in peak.loops_for(this_hardware().flags):
        try:
            loops[loop.name] = peak.compiled(loop, Path(order.folder), cell.threads)
        except EngineError as error:
            missing[loop.name] = str(error)
    cases = []
    for case in cell.cases:
        say(case.title, 0)
        cases.append(_measured(Traffic(case, subject, order.effort), contenders, loops))
        say(case.title, 1)
    engines = {name: contender.engine_id for name, contender in contenders.items()}
    return CellResult(cell, cases, engines, cosines, missing)


def _built(
    subject: Subject, names: Sequence[str], threads: Threads, say: Say
) -> tuple[dict[str, Contender], dict[str, float], dict[str, str]]:
    """Return the contenders that compute the model, how near to the float one they are, and why others are missing."""
    contenders, cosines, missing = {}, {}, {}
    batch, reference = subject.checked, subject.reference
    for name in names:
        say(f"building {name}", 0)
        try:
            contender = PEERS[name](subject, threads)
            if contender.lanes:
                cosines[name] = least_cosine(contender.lanes[0](contender.prepare(batch)), reference)
                if not cosines[name] >= _LEAST_COSINE:
                    raise EngineError(f"computes something else: cosine {cosines[name]:.2f} to the float model")
            contenders[name] = contender
        except Exception as error:  # whatever stops a peer is a row in the table, not the end of the others
            missing[name] = _reason(error)
        say(f"built {name}", 1)
    return contenders, cosines, missing


def least_cosine(outputs: FloatArray, reference: FloatArray) -> float:
    """Return the lowest cosine of a row with the same row of the float model; rows of padding are dropped."""
    rows = outputs[: len(reference)]
    norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(reference, axis=1)
    return float(((rows * reference).sum(axis=1) / np.maximum(norms, 1e-12)).min())


def _measured(traffic: Traffic, contenders: dict[str, Contender], loops: dict[str, peak.Peak]) -> CaseResult:
    turns: dict[str, Callable[[int], Turn]] = {}
    failed: dict[str, str] = {}
    for name, contender in contenders.items():
        try:
            if contender.run_texts and not traffic.case.is_text:
                raise EngineError("takes text only")
            turns[name] = asked(contender, traffic).turn
        except Exception as error:
            failed[name] = _reason(error)
    rounds, budget_s = traffic.effort.rounds, traffic.effort.case_s
    loop_turns = {name: partial(_loop_turn, loop) for name, loop in loops.items()}
    taken = interleaved(turns | loop_turns, rounds=rounds, budget_s=budget_s, settle_s=_SETTLE_S)
    failed |= {name: _reason(error) for name, error in taken.failed.items()}
    works = [traffic.work(number) for number in range(max(map(len, taken.calls_ms.values()), default=0))]
    first = traffic.work(0)
    return CaseResult(
        case=traffic.case,
        queries=first.queries,
        mean_tokens=sum(batch.tokens for work in works for batch in work.batches) / (len(works) * first.queries or 1),
        gop=[sum(int8_gop(traffic.subject.config, batch.lengths) for batch in work.batches) for work in works],
        timings={name: _timing(calls, first.queries) for name, calls in taken.calls_ms.items() if name in turns},
        failed=failed,
        peaks={
            name: [loops[name].gop / (ms[0] / 1e3) for ms in calls]
            for name, calls in taken.calls_ms.items()
            if name in loops
        },
    )


def _loop_turn(loop: peak.Peak, _number: int) -> Turn:
    return Turn(loop.run, [loop.run])


def _timing(calls_ms: Sequence[Sequence[float]], queries: int) -> Timing:
    per_query = [sum(calls) / queries for calls in calls_ms]
    return Timing(per_query, float(np.quantile(np.concatenate(calls_ms), 0.99)))


def _reason(error: Exception) -> str:
    """Return an exception in a line that fits a table."""
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return said if isinstance(error, EngineError) else f"{type(error).__name__}: {said}"[:200]


def main() -> None:
    """Run the order that the command line names."""
    order = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=CellOrder)
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries print what they like; standard output is for progress

    def say(note: str, done: int) -> None:
        print(json.dumps({"note": note, "done": done}), file=out, flush=True)

    result = run_cell(order, say)
    Path(order.answer).write_bytes(msgspec.json.encode(result))


if __name__ == "__main__":
    main()
