import io
import sys

import pytest
from rich.console import Console

from octavo.cli import output
from octavo.cli.progress import Bars, duration, shown_progress, shown_wait
from octavo.progress import Silent


def console(terminal=False):
    return Console(file=io.StringIO(), force_terminal=terminal, width=100, markup=False, highlight=False)


@pytest.fixture
def clock():
    ticks = iter(range(0, 1000, 2))
    return lambda: next(ticks)


def test_a_finished_step_is_one_plain_line_where_nobody_watches(clock):
    screen = console()
    bars = Bars(screen, clock)
    with bars.live:
        with bars.step("teacher [answers]", 1200) as step:
            step.advance(1000)
            step.advance(200, "all of them")
        bars.say("a [note]")
        with bars.step("think"):
            pass
    assert (
        screen.file.getvalue() == "✓ teacher [answers]  1,200/1,200 · 2.0 s · all of them\n  a [note]\n✓ think  2.0 s\n"
    )


def test_a_terminal_sees_bars_and_the_lines_above_them(clock):
    screen = console(terminal=True)
    bars = Bars(screen, clock)
    with bars.live, bars.step("KD-QAT int8", 10) as step:
        step.advance(3, "loss 0.5")
        bars.live.refresh()
        shown = screen.file.getvalue()
    assert "KD-QAT int8" in shown
    assert "3/10" in shown
    assert "loss 0.5" in shown
    assert "\x1b[" in shown


def test_a_step_that_fails_leaves_no_line(clock):
    screen = console()
    bars = Bars(screen, clock)
    with pytest.raises(KeyboardInterrupt), bars.live, bars.step("train", 10):
        raise KeyboardInterrupt
    assert "train" not in screen.file.getvalue()


def test_steps_may_run_side_by_side_and_resume_far_in(clock):
    bars = Bars(console(), clock)
    with bars.live, bars.step("outer", 2) as outer, bars.step("inner", 1000) as inner:
        inner.advance(900, "resumed")
        outer.advance()
        assert (outer.count, inner.count) == ("1/2", "900/1,000")


def test_nothing_is_reported_with_json_unless_somebody_watches(monkeypatch):
    with shown_progress(as_json=True) as progress:
        assert isinstance(progress, Silent)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with shown_progress(as_json=True) as progress:
        assert isinstance(progress, Bars)


def test_no_colour_is_respected(monkeypatch):
    from octavo.cli import output

    monkeypatch.setenv("NO_COLOR", "1")
    assert output.console(stderr=True).no_color


def test_durations_are_written_for_people():
    assert [duration(0.04), duration(59.94), duration(125.4)] == ["0.0 s", "59.9 s", "2 min 05 s"]


def test_a_wait_is_shown_to_those_who_watch_and_leaves_nothing(monkeypatch):
    for terminal in (False, True):
        screen = console(terminal)
        monkeypatch.setattr(output, "console", lambda stderr, screen=screen: screen)
        with shown_wait("4 is verified [and warmed up]"):
            pass
        assert ("4 is verified [and warmed up]" in screen.file.getvalue()) == terminal
        assert not screen.file.getvalue().endswith("\n")
