"""The physical limit, measured in the same rounds as the engines: loops of multiply-adds, compiled on the spot.

Without a C compiler nothing is measured, and the reason is kept. Knows no engine.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from octavo.errors import EngineError

_SOURCE = Path(__file__).with_name("peak.c")
_STEPS_OF_PROBE = 200_000
_TURN_S = 0.004  # long enough to be timed, short enough to be run in every round


@dataclass(frozen=True, slots=True)
class Loop:
    """One loop of `peak.c`.

    Attributes:
        name: as the field calls the instructions.
        macro: which loop of the source it is.
        flags: what `/proc/cpuinfo` must say, all of it.
        operations: multiplications and additions a step.
    """

    name: str
    macro: str
    flags: tuple[str, ...]
    operations: int


# The first of each kind that the processor has is its limit; AMX is a limit beside that of VNNI.
FLOAT_LOOPS = (
    Loop("fma f32 512", "LOOP_FMA512", ("avx512f",), 12 * 16 * 2),
    Loop("fma f32 256", "LOOP_FMA256", ("avx2",), 12 * 8 * 2),
    Loop("fma f32 neon", "LOOP_NEON_FMA", ("asimddp",), 12 * 4 * 2),
)
INT8_LOOPS = (
    Loop("vnni int8 512", "LOOP_VNNI512", ("avx512_vnni",), 12 * 64 * 2),
    Loop("vnni int8 256", "LOOP_VNNI256", ("avx_vnni",), 12 * 32 * 2),
    Loop("madd int16 256", "LOOP_MADD256", ("avx2",), 12 * 16 * 2),
    Loop("dot int8 neon", "LOOP_NEON_DOT", ("asimddp",), 12 * 16 * 2),
)
TILE_LOOPS = (Loop("amx int8", "LOOP_AMX", ("amx_int8",), 4 * 16 * 16 * 64 * 2),)


@dataclass(frozen=True, slots=True)
class Peak:
    """A loop that is ready to run on some threads, for a few milliseconds a turn."""

    loop: Loop
    library: ctypes.CDLL
    steps: int
    pool: ThreadPoolExecutor
    threads: int

    @property
    def gop(self) -> float:
        """Operations of one `run`, in billions."""
        return self.loop.operations * self.steps * self.threads / 1e9

    def run(self) -> None:
        """Run the loop once on every thread; ctypes releases the interpreter's lock."""
        list(self.pool.map(self.library.peak, [self.steps] * self.threads))


def loops_for(flags: Sequence[str]) -> list[Loop]:
    """Return the loops that are this processor's limits: float, INT8, tiles where it has them."""
    runnable = [[loop for loop in kind if set(loop.flags) <= set(flags)] for kind in (FLOAT_LOOPS, INT8_LOOPS)]
    tiles = [loop for loop in TILE_LOOPS if set(loop.flags) <= set(flags)]
    return [kind[0] for kind in runnable if kind] + tiles


def limit_of(kind: Sequence[Loop], names: Collection[str]) -> str | None:
    """Return which of the measured loops is the limit of a kind; None where none was measured."""
    return next((loop.name for loop in kind if loop.name in names), None)


def compiled(loop: Loop, folder: Path, threads: int) -> Peak:
    """Compile a loop and find how many steps make a turn.

    Raises:
        EngineError: there is no C compiler, it cannot build the loop, or the system refuses the instructions.
    """
    compiler = os.environ.get("CC") or next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if not compiler:
        raise EngineError("not measured: no C compiler (cc, gcc or clang) was found")
    target = folder / f"{loop.macro.lower()}.so"
    command = [compiler, "-O2", "-shared", "-fPIC", f"-D{loop.macro}", str(_SOURCE), "-o", str(target)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise EngineError(f"not measured: {compiler} cannot be run ({error.strerror})") from None
    if done.returncode:
        said = next((line for line in done.stderr.splitlines() if "error" in line), "no reason given")
        raise EngineError(f"not measured: {compiler} cannot build it: {said}")
    library = ctypes.CDLL(str(target))
    library.peak.argtypes, library.peak.restype = [ctypes.c_long], ctypes.c_long
    if library.peak(1) == -1:
        raise EngineError("not measured: the system refuses the instructions")
    return Peak(loop, library, _steps_of_a_turn(library), ThreadPoolExecutor(threads), threads)


def _steps_of_a_turn(library: ctypes.CDLL) -> int:
    taken_s = []
    for _ in range(5):
        started_s = time.perf_counter()
        library.peak(_STEPS_OF_PROBE)
        taken_s.append(time.perf_counter() - started_s)
    return max(1, int(_STEPS_OF_PROBE * _TURN_S / min(taken_s)))  # the fastest: others may have been running
