"""One command, one run: every model, peer and case, interleaved, with the goals beside what was reached.

    python -m bench.engines --quick                        MiniLM-L6 and the quoted numbers, below 10 minutes
    python -m bench.engines --part wide                    12 layers of 768, or `passages` of 94 and 256: minutes
    python -m bench.engines                                the whole grid, hours
    python -m bench.engines --models 12x768 --traces short --batches 1 32 --threads 1

Each cell (a model on some threads) is a process of its own, pinned to as many cores, so that a contender that crashes
takes nothing else down. Writes `results.json`, `report.md` and figures to --out; the last line printed is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench.engines.cell import CellOrder, CellResult, steps_of
from bench.engines.models import MODELS
from bench.engines.peers import PEERS
from bench.engines.plan import BATCHES, PARTS, THREADS, Cell, Effort, all_cells, part_cells, quick_cells
from bench.engines.plot import figure
from bench.engines.summary import goals_of, summary_of
from bench.engines.table import goal_table, missing_lines, report
from bench.engines.traces import TRACES
from octavo.cli.progress import shown_progress
from octavo.engines.hardware import Hardware, this_hardware
from octavo.errors import EngineError, InputError, OctavoError
from octavo.progress import Progress

_QUICK = Effort(rounds=30, case_s=35.0, singles=16, stream=256)
_PART = Effort(rounds=30, case_s=15.0, singles=8, stream=256)
_WHOLE = Effort(rounds=40, case_s=60.0, singles=32, stream=256)
_SLOW_TO_BUILD = ("torch-fp32-compiled",)  # minutes of compiling: left out of a quick run unless it is named


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the report, print the goals and the JSON line."""
    options = _options(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the cell and clears up, as Ctrl-C does
    try:
        with shown_progress(as_json=False) as progress:
            cells = measure(_cells(options), _effort(options), options.out, progress)
    except OctavoError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted: nothing but the log was written")
    hardware = this_hardware()
    goals, summary = goals_of(cells), summary_of(cells, hardware.cpu)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    summary = {"name": "bench-engines", "quick": options.quick, **summary, "flags": hardware.flags, "load_1min": load}
    (options.out / "report.md").write_text(report(cells, goals, _header(hardware, options)), "utf-8")
    (options.out / "results.json").write_bytes(
        msgspec.json.encode({"summary": summary, "hardware": hardware, "cells": cells})
    )
    for cell in cells:
        if cell.cases:
            (options.out / f"{_file_name(cell.cell)}.svg").write_text(figure(cell), "utf-8")
    for line in missing_lines(cells):
        print(f"does not run here: {line}")
    print(f"\n{goal_table(goals)}\n\nEverything is in {options.out}.")
    print(json.dumps(summary))


def measure(cells: Sequence[Cell], effort: Effort, out: Path, progress: Progress) -> list[CellResult]:
    """Make each model once, run its cells one after another, and return what they found.

    Raises:
        InputError: `out` cannot be written.
        EngineError: a model cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out} cannot be made: {error.strerror}.") from None
    results = []
    for model in dict.fromkeys(cell.model for cell in cells):
        with tempfile.TemporaryDirectory(prefix="bench-engines-") as folder, (out / "log.txt").open("ab") as log:
            _make_model(model, Path(folder), log, progress)
            own = [cell for cell in cells if cell.model == model and cell.peers]
            results += [_run(cell, effort, Path(folder), log, progress) for cell in own]
    return results


def _make_model(name: str, folder: Path, log: Any, progress: Progress) -> None:
    with progress.step(f"{name}: model and graphs"):
        command = [sys.executable, "-m", "bench.engines.models", name, str(folder)]
        if subprocess.run(command, stdout=log, stderr=log, check=False, env=_environment(1, folder)).returncode:
            raise EngineError(f"The model {name} cannot be made; the end of {log.name} says why.")


def _run(cell: Cell, effort: Effort, folder: Path, log: Any, progress: Progress) -> CellResult:
    """Run a cell in a process pinned to its cores. One that dies is a result without cases, and a reason."""
    cores = _usable_cores()
    if len(cores) < cell.threads:
        return _lost(cell, f"needs {cell.threads} cores, and this process may use {len(cores)}")
    answer, order = folder / "answer.json", folder / "order.json"
    answer.unlink(missing_ok=True)
    order.write_bytes(msgspec.json.encode(CellOrder(cell, effort, str(folder), str(answer))))
    command = [sys.executable, "-m", "bench.engines.cell", str(order)]
    note = "starting"
    with (
        progress.step(cell.title, steps_of(cell)) as bar,
        _started(command, cores[-cell.threads :], _environment(cell.threads, folder), log) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                said = json.loads(line)
                note = said["note"]
                bar.advance(said["done"], note)
        except BaseException:
            process.kill()
            raise
    if process.returncode or not answer.is_file():
        return _lost(cell, f"the process ended with {process.returncode} at '{note}'; see {log.name}")
    return msgspec.json.decode(answer.read_bytes(), type=CellResult)


def _lost(cell: Cell, reason: str) -> CellResult:
    return CellResult(cell, [], {}, {}, dict.fromkeys(cell.peers, reason))


def _started(
    command: Sequence[str], cores: Sequence[int], environment: dict[str, str], log: Any
) -> subprocess.Popen[str]:
    """Start a process that is pinned to some cores before it has a thread, where the system can pin."""
    can_pin = hasattr(os, "sched_setaffinity")
    before = os.sched_getaffinity(0) if can_pin else set()
    try:
        if can_pin:
            os.sched_setaffinity(0, cores)  # of this thread, which the new process inherits
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
    finally:
        if can_pin:
            os.sched_setaffinity(0, before)


def _usable_cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _environment(threads: int, folder: Path) -> dict[str, str]:
    """Return the variables by which libraries count threads, set before any of them is loaded."""
    counts = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
    return {
        **os.environ,
        **dict.fromkeys(counts, str(threads)),
        "TOKENIZERS_PARALLELISM": str(threads > 1).lower(),
        "KMP_BLOCKTIME": "1",  # milliseconds that idle threads spin on: others have their turn then
        "OCTAVO_CACHE": str(folder / "cache"),
        "HF_HUB_OFFLINE": "1",
    }


def _cells(options: argparse.Namespace) -> list[Cell]:
    if options.part:
        return part_cells(options.part, options.peers)
    slow = () if options.peers or not options.quick else _SLOW_TO_BUILD
    peers = [name for name in options.peers or PEERS if name not in slow]
    if options.quick:
        return quick_cells(peers)
    return all_cells(options.models, options.traces, options.batches, options.threads, peers)


def _effort(options: argparse.Namespace) -> Effort:
    effort = _PART if options.part else _QUICK if options.quick else _WHOLE
    given = {name: getattr(options, name) for name in ("rounds", "case_s") if getattr(options, name)}
    return msgspec.structs.replace(effort, **given)


def _header(hardware: Hardware, options: argparse.Namespace) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in hardware.packages.items())
    return (
        f"# Engines side by side\n\n{hardware.cpu}, {hardware.logical_cores} cores, {' '.join(hardware.flags)}; "
        f"{hardware.system}; {versions}. {'A quick run.' if options.quick else ''}\n\n"
        "Contenders take turns, round by round, on the same texts. The same tokenizer serves all; with tokens in, each "
        "one's own form of input is made before the clock runs. The share of the peak counts the INT8 linear layers on "
        "real tokens only, for everyone."
    )


def _file_name(cell: Cell) -> str:
    return f"{cell.model}-{cell.threads}-threads" + (f"-{cell.lanes}-lanes" if cell.lanes > 1 else "")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.engines", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="MiniLM-L6 and the quoted numbers alone")
    size.add_argument("--part", choices=PARTS, help="what some of the other goals rest on, with the nearest peers")
    parser.add_argument("--out", type=Path, default=Path("runs/bench-engines"))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--traces", nargs="+", choices=TRACES, default=list(TRACES))
    parser.add_argument("--batches", nargs="+", type=int, default=list(BATCHES), help="0 is the offline stream")
    parser.add_argument("--threads", nargs="+", type=int, default=list(THREADS))
    parser.add_argument("--peers", nargs="+", choices=PEERS, help="default: all")
    parser.add_argument("--rounds", type=int, help="of a case, at most")
    parser.add_argument("--case-s", type=float, help="seconds for the rounds of a case")
    options = parser.parse_args(arguments)
    if min(*options.batches, 0) < 0 or min(options.threads) < 1:
        parser.error("batches are 0 or more, threads 1 or more")
    return options
