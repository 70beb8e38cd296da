"""Progress of long jobs, drawn with Rich on stderr: bars on a terminal, a line per finished step anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from octavo.cli import output
from octavo.progress import Progress, Silent


class Bars:
    """Reports to a console. Use it inside `shown_progress`."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self.live = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            TextColumn("[dim]eta"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    @contextmanager
    def step(self, label: str, total: int | None = None) -> Iterator[_Bar]:
        """Show a bar for the length of a `with` block; a step that ends well leaves a line."""
        started = self._clock()
        bar = _Bar(self.live, self.live.add_task(label, total=total, count="", note=""), total)
        try:
            yield bar
        finally:
            self.live.remove_task(bar.task)
        took = duration(self._clock() - started)
        facts = [part for part in (bar.count, took, bar.note) if part]
        self._console.print(Text.assemble(("✓ ", "green"), label, ("  " + " · ".join(facts), "dim")), soft_wrap=True)

    def say(self, message: str) -> None:
        """Print a line above the bars."""
        self._console.print(Text(f"  {message}"), soft_wrap=True)


class _Bar:
    """One running step."""

    def __init__(self, live: RichProgress, task: TaskID, total: int | None) -> None:
        self._live = live
        self.task = task
        self._total = total
        self._done = 0
        self.note = ""
        self._update(0)

    @property
    def count(self) -> str:
        """How many steps are done, of how many."""
        if self._total is None:
            return f"{self._done:,}" if self._done else ""
        return f"{self._done:,}/{self._total:,}"

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Say that `steps` more are done."""
        self._done += steps
        self.note = note or self.note
        self._update(steps)

    def _update(self, steps: int) -> None:
        self._live.update(self.task, advance=steps, count=self.count, note=self.note)


@contextmanager
def shown_progress(as_json: bool = False) -> Iterator[Progress]:
    """Yield where a job reports to. With `--json`, nothing is reported unless somebody watches stderr."""
    if as_json and not sys.stderr.isatty():
        yield Silent()
        return
    bars = Bars(output.console(stderr=True))
    with bars.live:
        yield bars


@contextmanager
def shown_wait(what: str) -> Iterator[None]:
    """Show that something takes its time, for the length of a `with` block; nothing where nobody watches stderr."""
    console = output.console(stderr=True)
    columns = SpinnerColumn(), TextColumn("{task.description}", style="dim", markup=False), TimeElapsedColumn()
    with RichProgress(*columns, console=console, transient=True, disable=not console.is_terminal) as live:
        live.add_task(what, total=None)
        yield


def duration(seconds: float) -> str:
    """Write a duration: '0.4 s', '2 min 05 s'."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"
