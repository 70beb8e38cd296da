"""The state of a service for the terminal. From a status to Rich tables; decides nothing."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from octavo.certify.wording import milliseconds
from octavo.cli.tables import WIDE, verdict_text
from octavo.serve.running import Running
from octavo.serve.status import ModelStatus, Status, TrialStatus
from octavo.serve.traffic import Traffic
from octavo.serve.trial_record import Outcome

_NOTHING = Traffic(0, 0.0, None, None)


def status_view(status: Status, running: Running, width: int) -> RenderableType:
    """Return what `octavo status` shows."""
    ready = Text("ready", "bold green") if status.ready else Text("not ready", "bold red")
    where = f"http://{running.host}:{running.port}  {status.store}  (process {status.pid}, since {status.started})"
    parts: list[RenderableType] = [Text.assemble(ready, "  ", where)]
    if status.models:
        parts.append(_models(status.models, width))
    parts += [_trial(one.model, one.trial) for one in status.models if one.trial]
    for model, why in status.failures.items():
        parts.append(Text(f"{model}: {why}", "red"))
    if status.refused:
        parts.append(
            Text(f"refused in the last minute, for no model that serves: {_reasons(status.refused)}", "yellow")
        )
    return Group(*parts)


def _models(models: list[ModelStatus], width: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, width=None if width >= WIDE else width, pad_edge=False)
    for header, right in (
        ("model", False),
        ("version", True),
        ("engine", False),
        ("certificate", False),
        ("requests/s", True),
        ("p50 ms", True),
        ("p99 ms", True),
        ("in flight", True),
        ("refused/min", False),
    ):
        table.add_column(header, justify="right" if right else "left", overflow="fold")
    for one in models:
        # Others than the one that serves had traffic in the last minute: before a swap, or in a trial.
        others = sorted((version for version in one.traffic if version != one.version), key=_number, reverse=True)
        for version in (one.version, *others):
            serves = version == one.version
            table.add_row(
                one.model if serves else "",
                Text(version, "bold" if serves else "dim"),
                one.engine_id if serves else "",
                verdict_text(one.verdict) if serves else "",
                *_traffic(one.traffic.get(version, _NOTHING)),
                str(one.in_flight) if serves else "",
                _reasons(one.refused) if serves else "",
            )
    return table


def _traffic(traffic: Traffic) -> tuple[str, str, str]:
    p50, p99 = ("" if ms is None else milliseconds(ms) for ms in (traffic.p50_ms, traffic.p99_ms))
    return f"{traffic.requests_per_s:,.1f}", p50, p99


def _trial(model: str, trial: TrialStatus) -> Text:
    """Say how a trial goes, or how it went, in a few lines."""
    style = {Outcome.RUNNING: "cyan", Outcome.PROMOTED: "green"}.get(trial.outcome, "yellow")
    seen = [f"{trial.requests:,} requests", f"{trial.errors:,} errors"]
    if trial.agreement is not None and trial.drift is not None:
        seen += [f"{trial.agreement:.2%} agree", f"drift {trial.drift:.2%}"]
    if trial.old_p99_ms is not None and trial.new_p99_ms is not None:
        seen.append(f"p99 {milliseconds(trial.new_p99_ms)} ms to {milliseconds(trial.old_p99_ms)} ms")
    name = f"{trial.mode} of {model} {trial.version} against {trial.against} ({trial.percent:g}%)"
    text = Text.assemble((f"{name}: {trial.outcome}", f"bold {style}"), f"\n  {' · '.join(seen)}")
    if trial.action is not None:
        would = f" (would {trial.action})" if trial.outcome is Outcome.RUNNING and not trial.act else ""
        text.append("".join(f"\n  {trial.action}{would}: {reason}" for reason in trial.reasons))
    if trial.note:
        text.append(f"\n  {trial.note}")
    return text


def _reasons(refused: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(refused.items()))


def _number(version: str) -> int:
    return int(version) if version.isdecimal() else 0
