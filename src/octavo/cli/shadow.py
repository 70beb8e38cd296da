"""`octavo shadow`."""

from __future__ import annotations

from typing import Annotated

import typer

from octavo.cli import options, services, trials


def shadow(
    model: services.ModelName,
    version: services.Version,
    percent: Annotated[
        float, typer.Option(min=0, max=100, help="Of the model's requests that the new version gets copies of.")
    ] = 10.0,
    store: services.Store = None,
    min_requests: trials.MinRequests = None,
    max_error_rate: trials.MaxErrorRate = None,
    min_agreement: trials.MinAgreement = None,
    max_drift: trials.MaxDrift = None,
    max_p99_ratio: trials.MaxP99Ratio = None,
    only_watch: trials.OnlyWatch = False,
    as_json: options.AsJson = False,
) -> None:
    """Put copies of some requests to a new version, and promote or drop it by what it would have answered.

    Nobody sees its answers, and copies are computed only where nothing else waits. Answers, latencies and errors are
    compared with the old version's, as in a canary.

    [bold]Examples[/bold]

      octavo shadow intent 4
      octavo shadow intent 4 --percent 100 --only-watch

    [bold]Exit codes[/bold]

      0 it has begun · 2 it was refused, and why; nothing has changed
    """
    thresholds = trials.thresholds_from_options(min_requests, max_error_rate, min_agreement, max_drift, max_p99_ratio)
    trials.begin("shadow", trials.Wish(model, version, percent, not only_watch, thresholds), store, as_json)
