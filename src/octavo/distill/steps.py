"""What an objective is told about a training step, and what it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from octavo.types import IntArray


@dataclass(frozen=True, slots=True)
class Step:
    """The groups that a step trains on together, and where their inputs' targets stand.

    Attributes:
        groups: numbers of the groups, (groups,).
        inputs: numbers of the inputs, group by group, (inputs,); an input may occur in several groups.
        sizes: inputs per group, (groups,).
        rows: which rows of the outputs to all training inputs (`Outputs.values`) belong to these, (reads,): row `r`
            of the model's output in this step is to be compared with row `rows[r]` of the teacher's.
        reads: output rows per input, (inputs,).
    """

    groups: IntArray
    inputs: IntArray
    sizes: IntArray
    rows: IntArray
    reads: IntArray


# (the model's output rows in this step, (reads, width); the step) → loss, ()
Objective = Callable[[Tensor, Step], Tensor]
