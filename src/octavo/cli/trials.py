"""What `octavo canary` and `octavo shadow` share: their options, thresholds among them, and beginning a trial."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from octavo.cli import options, output, services

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


def verb(mode: str, text: str, *, percent: float, percent_help: str) -> Callable[..., None]:
    """Return the command that begins a trial.

    Args:
        mode: `canary` or `shadow`, as the admin API names it.
        text: the command's help.
        percent: of the requests, where none is given.
        percent_help: what those requests are.
    """
    share: Any = typer.Option(percent, min=0, max=100, help=percent_help)

    def begin(
        model: services.ModelName,
        version: services.Version,
        percent: float = share,
        store: services.Store = None,
        min_requests: MinRequests = None,
        max_error_rate: MaxErrorRate = None,
        min_agreement: MinAgreement = None,
        max_drift: MaxDrift = None,
        max_p99_ratio: MaxP99Ratio = None,
        only_watch: OnlyWatch = False,
        as_json: options.AsJson = False,
    ) -> None:
        given = {
            "min_requests": min_requests,
            "max_error_rate": max_error_rate,
            "min_agreement": min_agreement,
            "max_drift": max_drift,
            "max_p99_ratio": max_p99_ratio,
        }
        # Those that were not given have the service's defaults.
        thresholds = {name: value for name, value in given.items() if value is not None}
        plan = {"version": version, "percent": percent, "act": not only_watch, "thresholds": thresholds}
        _begin(mode, model, plan, store, as_json)

    begin.__name__, begin.__doc__ = mode, text
    return begin


def _begin(mode: str, model: str, plan: dict[str, Any], store: Path | None, as_json: bool) -> None:
    """Have the running service begin a trial, and say what it will do."""
    verified = f"{plan['version']} is verified and warmed up"
    trial = services.changed(services.needed_service(store), model, mode, verified, plan)
    if as_json:
        output.emit({"model": model, **trial})
        return
    doing = "answers" if mode == "canary" else "gets a copy of"
    output.line(
        f"{model}: {plan['version']} {doing} {plan['percent']:g}% of the requests; {trial['against']} serves on."
    )
    then = "It is promoted or dropped by itself." if plan["act"] else "It goes on until somebody ends it."
    output.line(f"{then} See: octavo status · End it: octavo abort {model}", style="dim")
