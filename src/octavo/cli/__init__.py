"""The command line. One file per verb: parse, call, print. Everything that is decided is decided in other rooms.

Importing this room stays cheap: numpy, engines and torch are imported inside the verbs, when one of them runs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command, as `octavo.cli.app.main`; who stops it while it is being loaded sees no traceback either."""
    try:
        from octavo.cli.app import main as run
    except KeyboardInterrupt:
        sys.stderr.write("Stopped.\n")
        return 130
    return run(argv)
