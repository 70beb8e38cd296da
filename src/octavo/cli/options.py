"""Options that several verbs share. Imports no other room, so that help is quick."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

ROWS = "Rows (octavo finetune --help shows them for each task)"
RELEASE = "Release"
GATE = "Gate"
TRAINING = "Training"
RUNNING = "Running"


class EngineName(StrEnum):
    """`auto`, and the engines that can serve, as `octavo.engines.open.Backend` has them."""

    AUTO = "auto"
    OPENVINO = "openvino"
    ONNXRUNTIME = "onnxruntime"
    NATIVE = "native"
    TENSORRT = "tensorrt"
    ONNXRUNTIME_CUDA = "onnxruntime-cuda"
    ONNXRUNTIME_TENSORRT = "onnxruntime-tensorrt"

    @property
    def named(self) -> str | None:
        """The engine that is named; None for `auto`."""
        return None if self is EngineName.AUTO else str(self)


AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, errors included.")]

ReleasePath = Annotated[
    Path,
    typer.Argument(
        metavar="RELEASE", help="A version (store/model/3), or a model (store/model) for its current version."
    ),
]

Engine = Annotated[
    EngineName,
    typer.Option(
        "--engine",
        help="Engine to run on. auto: the one that octavo build chose here, if it is certified; else the one that the "
        "release was certified on.",
        rich_help_panel=RUNNING,
    ),
]

TaskName = Annotated[
    str,
    typer.Option("--task", help="What to train for: classify, tag, embed or rank.", rich_help_panel=TRAINING),
]

Threads = Annotated[
    int | None,
    typer.Option("--threads", min=1, help="CPU threads. Default: all cores.", rich_help_panel=RUNNING),
]

Margin = Annotated[
    float | None,
    typer.Option(
        "--margin",
        metavar="POINTS",
        min=0.001,
        max=99,
        help="The loss that still counts as none, in points: 0.5 is half a point of accuracy.",
        rich_help_panel=GATE,
    ),
]

TimingSeconds = Annotated[
    float | None,
    typer.Option(
        "--timing-s",
        metavar="SECONDS",
        min=0.1,
        help="Bound on the time that measuring the latency takes.",
        rich_help_panel=GATE,
    ),
]

Seed = Annotated[
    int | None,
    typer.Option("--seed", min=0, help="Of everything that is random. Default: 0.", rich_help_panel=TRAINING),
]


def fraction_from_points(points: float) -> float:
    """Return points as a fraction: 0.5 as 0.005."""
    return round(points / 100, 12)
