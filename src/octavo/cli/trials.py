"""What `octavo canary` and `octavo shadow` share: thresholds as options, and beginning a trial."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from octavo.cli import output, services

THRESHOLDS = "Thresholds"

MinRequests = Annotated[
    int | None,
    typer.Option(min=1, help="Not promoted before so many. Default: 500.", rich_help_panel=THRESHOLDS),
]
MaxErrorRate = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Share of requests that may fail. Default: 0.01.", rich_help_panel=THRESHOLDS),
]
MinAgreement = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Share of answers that are those of the old release. Default: 0.95.",
        rich_help_panel=THRESHOLDS,
    ),
]
MaxDrift = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="How far probabilities or vectors may move, in the mean. Default: 0.05.",
        rich_help_panel=THRESHOLDS,
    ),
]
MaxP99Ratio = Annotated[
    float | None,
    typer.Option(min=0, help="p99 latency to the old release's. Default: 1.2.", rich_help_panel=THRESHOLDS),
]
OnlyWatch = Annotated[
    bool, typer.Option("--only-watch", help="Neither promote nor drop it; octavo status says what would be done.")
]


def thresholds_from_options(
    min_requests: int | None,
    max_error_rate: float | None,
    min_agreement: float | None,
    max_drift: float | None,
    max_p99_ratio: float | None,
) -> dict[str, Any]:
    """Return the thresholds that were given, as the admin API names them; others have their defaults."""
    given = {
        "min_requests": min_requests,
        "max_error_rate": max_error_rate,
        "min_agreement": min_agreement,
        "max_drift": max_drift,
        "max_p99_ratio": max_p99_ratio,
    }
    return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Wish:
    """A trial that is wanted."""

    model: str
    version: str
    percent: float
    act: bool
    thresholds: dict[str, Any]


def begin(mode: str, wish: Wish, store: Path | None, as_json: bool) -> None:
    """Have the running service begin a trial, and say what it will do."""
    running = services.needed_service(store)
    plan = {"version": wish.version, "percent": wish.percent, "act": wish.act, "thresholds": wish.thresholds}
    trial = services.changed(running, wish.model, mode, f"{wish.version} is verified and warmed up", plan)
    if as_json:
        output.emit({"model": wish.model, **trial})
        return
    doing = "answers" if mode == "canary" else "gets a copy of"
    output.line(
        f"{wish.model}: {wish.version} {doing} {wish.percent:g}% of the requests; {trial['against']} serves on."
    )
    then = "It is promoted or dropped by itself." if wish.act else "It goes on until somebody ends it."
    output.line(f"{then} See: octavo status · End it: octavo abort {wish.model}", style="dim")
