"""`octavo canary`."""

from __future__ import annotations

from typing import Annotated

import typer

from octavo.cli import options, services, trials


def canary(
    model: services.ModelName,
    version: services.Version,
    percent: Annotated[
        float, typer.Option(min=0, max=100, help="Of the model's requests that the new version answers.")
    ] = 5.0,
    store: services.Store = None,
    min_requests: trials.MinRequests = None,
    max_error_rate: trials.MaxErrorRate = None,
    min_agreement: trials.MinAgreement = None,
    max_drift: trials.MaxDrift = None,
    max_p99_ratio: trials.MaxP99Ratio = None,
    only_watch: trials.OnlyWatch = False,
    as_json: options.AsJson = False,
) -> None:
    """Let a new version answer some of the requests, and promote or drop it by what it does.

    Requests that it answers are also put to the old version, and answers, latencies and errors are compared. Once it is
    sure that the thresholds hold, the new version serves; once it is sure that one does not, it is dropped. Where the
    new version fails to answer, the old one does: no client sees it.

    [bold]Examples[/bold]

      octavo canary intent 4 --percent 5
      octavo canary intent 4 --percent 20 --min-requests 5000 --only-watch

    [bold]Exit codes[/bold]

      0 it has begun · 2 it was refused, and why; nothing has changed
    """
    thresholds = trials.thresholds_from_options(min_requests, max_error_rate, min_agreement, max_drift, max_p99_ratio)
    trials.begin("canary", trials.Wish(model, version, percent, not only_watch, thresholds), store, as_json)
