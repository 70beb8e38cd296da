"""The plan of cores: who computes on which of them, so that nothing oversubscribes.

One worker thread per core, and every engine opened for one thread: a request runs on one core, a large one is split
over several, and no thread pool stands beside another. Tokenizers would bring a pool of their own; it is switched off.
The event loop has no core to itself: it works while engines do, in the gaps that the scheduler of the system finds.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from dataclasses import dataclass

from octavo.engines.hardware import usable_cores

_POOL = "TOKENIZERS_PARALLELISM"
_TURN_S = 0.0005
# Objects between two searches for garbage in cycles; a request leaves none, and a search looks at what lives.
_GARBAGE_OBJECTS = 50_000


@dataclass(frozen=True, slots=True)
class CorePlan:
    """How cores are shared.

    Attributes:
        cores: that this process may use.
        workers: threads that tokenize and run engines.
        engine_threads: of each engine.
    """

    cores: int
    workers: int
    engine_threads: int = 1

    def line(self) -> str:
        """Say it in a line."""
        return f"{self.workers} of {self.cores} cores compute, {self.engine_threads} thread for each call of an engine"


def plan_cores(workers: int | None = None) -> CorePlan:
    """Return the plan for this process; None for a worker on each core.

    More workers than cores are as many as are asked for: they would only take turns, but tests may want them.
    """
    cores = usable_cores()
    return CorePlan(cores, workers or cores)


def prepare_process() -> None:
    """Make this process one that serves: no pools beside the workers, short turns at the interpreter, rare searches.

    Loading a release takes the interpreter for long stretches, and a request needs it some six times: with Python's
    own 5 ms for a turn, each of those would wait as long as an engine computes. What the environment says of pools
    goes before. Garbage that reference counts do not find is searched for seldom: at Python's own 700 objects the
    searches took a sixth of the process's time.
    """
    os.environ.setdefault(_POOL, "false")
    sys.setswitchinterval(_TURN_S)
    gc.set_threshold(_GARBAGE_OBJECTS, *gc.get_threshold()[1:])


def settle_process() -> None:
    """Set aside what is in memory now, modules above all, so that the garbage collector never looks through it again.

    A full collection holds the interpreter for as long as it takes to visit every object; those of a service that has
    loaded its models stay, and there are hundreds of thousands. To be called once, when that is done. At its end the
    process collects them all the same: extension modules complain of what is left.
    """
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)
