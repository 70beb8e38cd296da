"""`octavo canary`."""

from __future__ import annotations

from octavo.cli import trials

canary = trials.verb(
    "canary",
    """Let a new version answer some of the requests, and promote or drop it by what it does.

    Requests that it answers are also put to the old version, and answers, latencies and errors are compared. Once it is
    sure that the thresholds hold, the new version serves; once it is sure that one does not, it is dropped. Where the
    new version fails to answer, the old one does: no client sees it.

    [bold]Examples[/bold]

      octavo canary intent 4 --percent 5
      octavo canary intent 4 --percent 20 --min-requests 5000 --only-watch

    [bold]Exit codes[/bold]

      0 it has begun · 2 it was refused, and why; nothing has changed
    """,
    percent=5.0,
    percent_help="Of the model's requests that the new version answers.",
)
