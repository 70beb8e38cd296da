"""The command line. One file per verb: parse, call, print. Everything that is decided is decided in other rooms.

Importing this room stays cheap: numpy, engines and torch are imported inside the verbs, when one of them runs.
"""

from __future__ import annotations

from octavo.cli.app import main

__all__ = ["main"]
