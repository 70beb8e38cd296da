"""How a long job tells its caller how far it is. Knows no terminal: the command line draws it with Rich."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Step(Protocol):
    """One running piece of work."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Say that `steps` more are done; `note` replaces the short remark beside the bar."""


class Progress(Protocol):
    """Where a long job reports to."""

    def step(self, label: str, total: int | None = None) -> AbstractContextManager[Step]:
        """Open a piece of work of `total` steps (None: unknown) for the length of a `with` block."""

    def say(self, message: str) -> None:
        """Tell the user one finished thing, in one line."""


class Silent:
    """Reports nothing: the default of the library functions."""

    @contextmanager
    def step(self, label: str, total: int | None = None) -> Iterator[Step]:
        """Open a piece of work that nobody watches."""
        yield self

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Do nothing."""

    def say(self, message: str) -> None:
        """Do nothing."""
