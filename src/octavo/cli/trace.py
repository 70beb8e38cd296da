"""`octavo trace synth` and `octavo trace from-log`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from octavo.cli import options, output
from octavo.errors import InputError

if TYPE_CHECKING:
    from octavo.types import Json

Out = Annotated[Path, typer.Option(metavar="FILE", help="The trace, as JSON lines.")]


def synth(
    out: Out,
    queries: Annotated[int, typer.Option(min=2, metavar="N", help="How many.")] = 20_000,
    qps: Annotated[float, typer.Option(min=1e-6, metavar="N", help="Queries per second, in the mean.")] = 100.0,
    mean_tokens: Annotated[float, typer.Option(min=3, help="Of a query, special tokens included.")] = 11.0,
    sigma: Annotated[float, typer.Option(min=0, max=3, help="Spread of the logarithm of the length.")] = 0.5,
    zipf: Annotated[float, typer.Option(min=0, max=5, help="How much the frequent queries repeat; 0: not more.")] = 1.0,
    distinct: Annotated[int, typer.Option(min=1, metavar="N", help="Different queries.")] = 20_000,
    texts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A query log: its texts are asked, at their own lengths.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is random.")] = 0,
    as_json: options.AsJson = False,
) -> None:
    """Make up a trace: lognormal lengths, repetition as Zipf has it, arrivals independent of each other.

    [bold]Examples[/bold]

      octavo trace synth --out trace.jsonl --qps 200
      octavo trace synth --out trace.jsonl --texts queries.txt

    [bold]Exit codes[/bold]

      0 done · 2 bad input
    """
    from octavo.data.logs import distinct as once
    from octavo.data.logs import read_records
    from octavo.data.traces import Synthesis, synthetic_trace

    made_of = Synthesis(queries, qps, mean_tokens, sigma, zipf, distinct, seed=seed)
    known: list[str] = []
    if texts is not None:
        found = (_text_of(record, where) for record, where in read_records([texts]))
        known = list(once(found, str.encode))
        if not known:
            raise InputError(f"{texts}: there is no text in it.")
    _write(out, synthetic_trace(made_of, known), as_json)


def from_log(
    log: Annotated[Path, typer.Argument(metavar="LOG", help="Access log: common or combined format, or JSON lines.")],
    out: Out,
    parameter: Annotated[str, typer.Option(metavar="NAME", help="Of the address, which holds the query.")] = "q",
    seed: Annotated[int, typer.Option(min=0, help="Of the spreading of times within a second.")] = 0,
    as_json: options.AsJson = False,
) -> None:
    """Take a trace out of an access log: what was asked, and when. Requests that failed are left out.

    [bold]Example[/bold]

      octavo trace from-log access.log --parameter q --out trace.jsonl

    [bold]Exit codes[/bold]

      0 done · 2 bad input, or no query in the log
    """
    from octavo.data.json_lines import check_is_file
    from octavo.data.traces import trace_from_log

    check_is_file(log, "access.log")
    with log.open("rb") as file:
        lines, passed_over = trace_from_log(file, log, parameter, seed)
    _write(out, lines, as_json, passed_over)


def _text_of(record: str | Json, where: str) -> str:
    if isinstance(record, str):
        return record
    from octavo.data.json_lines import text_from

    return text_from(record.get("text", record.get("query")), '"text"', where)


def _write(out: Path, lines: Iterable[Json], as_json: bool, passed_over: int = 0) -> None:
    from octavo.certify.wording import count
    from octavo.data.json_lines import jsonl_from_objects

    written = list(lines)
    output.write_file(out, jsonl_from_objects(written))
    if as_json:
        output.emit({"trace": out, "queries": len(written), "seconds": written[-1]["time"], "passed_over": passed_over})
        return
    told = f", {count(passed_over, 'line')} without a query passed over" if passed_over else ""
    output.line(f"{count(len(written), 'query')} in {written[-1]['time']:,.1f} s{told}  {out}")
