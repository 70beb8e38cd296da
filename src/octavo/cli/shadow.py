"""`octavo shadow`."""

from __future__ import annotations

from octavo.cli import trials

shadow = trials.verb(
    "shadow",
    """Put copies of some requests to a new version, and promote or drop it by what it would have answered.

    Nobody sees its answers, and copies are computed only where nothing else waits. Answers, latencies and errors are
    compared with the old version's, as in a canary.

    [bold]Examples[/bold]

      octavo shadow intent 4
      octavo shadow intent 4 --percent 100 --only-watch

    [bold]Exit codes[/bold]

      0 it has begun · 2 it was refused, and why; nothing has changed
    """,
    percent=10.0,
    percent_help="Of the model's requests that the new version gets copies of.",
)
