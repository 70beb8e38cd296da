"""Traces of traffic: when queries came, and what they were or how long. Read, made up, or taken from access logs.

A trace is JSON lines, one query each, in any order: `{"time": 12.3, "text": "..."}`, or `{"time": 12.3, "tokens": 11}`
where texts must stay where they are. `time` is in seconds or ISO 8601, and may be left out in all lines or none; an
equal `key` means an equal query. A query log (.txt, .tsv) is a trace without times. Knows no model: what a line's other
keys mean is the tasks' business.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import numpy.typing as npt

from octavo.data.characters import shown, text_key
from octavo.data.json_lines import lines_of, object_from_text
from octavo.data.logs import read_records
from octavo.errors import InputError
from octavo.types import IntArray, Json

TRACE_FORM = '{"time": 12.3, "text": "..."}, or {"time": 12.3, "tokens": 11}'
LONGEST = 8192  # tokens of a query; no model reads more

_Seconds = npt.NDArray[np.float64]
_LOG_LINE = re.compile(r'\[(?P<time>[^\]]+)\] "[A-Z]+ (?P<target>\S+)[^"]*" (?P<status>\d{3})\b')
_LOG_TIME = "%d/%b/%Y:%H:%M:%S %z"
_REQUEST_KEYS = ("text", "query", "tokens")


@dataclass(frozen=True, slots=True)
class Trace:
    """Queries in the order in which they came.

    Attributes:
        times_s: from the first one on, ascending, (queries,); None where nobody wrote them down.
        records: the lines, objects or texts, each with its `file:line`; empty where only lengths are known.
        tokens: of each query, as the model reads it, (queries,); None where there are texts.
        repeats: share of the queries that had come before.
    """

    times_s: _Seconds | None
    records: Sequence[tuple[Json | str, str]]
    tokens: IntArray | None
    repeats: float

    def __len__(self) -> int:
        return len(self.records) if self.tokens is None else len(self.tokens)

    @property
    def qps(self) -> float | None:
        """Queries per second over the whole of it; None without times, or where all came at once."""
        if self.times_s is None or self.times_s[-1] <= 0:
            return None
        return (len(self) - 1) / float(self.times_s[-1])


@dataclass(frozen=True, slots=True)
class Synthesis:
    """What made-up traffic is like.

    Attributes:
        queries: how many.
        qps: per second in the mean; they come independently of each other (Poisson).
        mean_tokens: of a query, special tokens included.
        sigma: of the logarithm of the length.
        zipf: exponent: query number n comes as often as 1 / n ** zipf says; 0 for all alike.
        distinct: different queries that there are.
        most_tokens: of the longest query.
        seed: of everything that is drawn.
    """

    queries: int = 20_000
    qps: float = 100.0
    mean_tokens: float = 11.0
    sigma: float = 0.5
    zipf: float = 1.0
    distinct: int = 20_000
    most_tokens: int = 128
    seed: int = 0


def read_trace(path: Path, most: int | None = None) -> Trace:
    """Read a trace, or its first `most` lines.

    Raises:
        InputError: the file is missing or empty, or a line has another form than the first one; names `file:line`.
    """
    lines = list(islice(read_records([path]), most))
    if not lines:
        raise InputError(f"{path}: there is no query in it. Write {TRACE_FORM}, one a line.")
    first = lines[0][0]
    has_time, has_tokens = (isinstance(first, dict) and key in first for key in ("time", "tokens"))
    if not isinstance(first, dict):  # all lines of a file are of one kind
        return Trace(None, lines, None, _repeats([record for record, _ in lines]))
    objects = [(record, where) for record, where in lines if isinstance(record, dict)]
    for record, where in objects:
        if ("time" in record) != has_time or ("tokens" in record) != has_tokens:
            raise InputError(f"{where}: the first line decides what all have: time or none, tokens or texts.")
    times_s = np.array([_seconds(record["time"], where) for record, where in objects]) if has_time else None
    order = np.arange(len(objects)) if times_s is None else np.argsort(times_s, kind="stable")
    ordered = [objects[place] for place in order.tolist()]
    return Trace(
        times_s=None if times_s is None else times_s[order] - times_s.min(),
        records=[] if has_tokens else ordered,
        tokens=np.array([_tokens(*line) for line in ordered], np.int64) if has_tokens else None,
        repeats=_repeats([record for record, _ in ordered]),
    )


def synthetic_trace(made_of: Synthesis, texts: Sequence[str] = ()) -> Iterator[Json]:
    """Yield the lines of a made-up trace: lognormal lengths, Zipf's repetition, Poisson's arrivals.

    Args:
        made_of: what it is like.
        texts: where there are some, they are what is asked, and their lengths are their own; the more frequent ones are
            drawn at random.

    Raises:
        InputError: numbers that make no trace.
    """
    _check(made_of)
    rng = np.random.default_rng(made_of.seed)
    distinct = len(texts) or made_of.distinct
    weights = 1.0 / np.arange(1, distinct + 1) ** made_of.zipf
    keys = rng.choice(distinct, size=made_of.queries, p=weights / weights.sum())
    times_s = np.cumsum(rng.exponential(1 / made_of.qps, made_of.queries))
    shuffled = rng.permutation(distinct)
    middle = np.log(made_of.mean_tokens) - made_of.sigma**2 / 2  # so that the mean is what was asked for
    lengths = rng.lognormal(middle, made_of.sigma, distinct).round().clip(3, made_of.most_tokens).astype(int)
    for time_s, key in zip((times_s - times_s[0]).tolist(), keys.tolist(), strict=True):
        what = {"text": texts[shuffled[key]]} if texts else {"tokens": int(lengths[key]), "key": key}
        yield {"time": round(time_s, 6), **what}


def trace_from_log(lines: Iterable[bytes], path: Path, parameter: str, seed: int = 0) -> tuple[list[Json], int]:
    """Return the lines of a trace out of an access log, and how many lines of the log told no query.

    A line is one of the common or combined format, whose query stands in a parameter of the address, or a JSON object
    with `time` and `text`, `query` or `tokens`. Requests that failed are left out. Times of whole seconds are spread
    within their second at random, as real arrivals would be.

    Args:
        lines: of the log.
        path: of the log, for messages.
        parameter: of the address that holds the query, such as `q` in `/search?q=red+shoes`.
        seed: of the spreading.

    Raises:
        InputError: a line is not UTF-8, or no line tells a query.
    """
    rng = np.random.default_rng(seed)
    found: list[tuple[float, Json]] = []
    passed_over = 0
    for where, line in lines_of(lines, path):
        told = _from_object(line, where) if line.startswith("{") else _from_line(line, parameter)
        if told is None:
            passed_over += 1
            continue
        time_s, record = told
        spread = float(rng.random()) if time_s == int(time_s) else 0.0
        found.append((time_s + spread, record))
    if not found:
        raise InputError(
            f"{path}: none of its {passed_over:,} lines tells a query under '{parameter}'. Name another one."
        )
    found.sort(key=lambda one: one[0])
    first_s = found[0][0]
    return [{"time": round(time_s - first_s, 6), **record} for time_s, record in found], passed_over


def _from_line(line: str, parameter: str) -> tuple[float, Json] | None:
    match = _LOG_LINE.search(line)
    if match is None or not match["status"].startswith(("2", "3")):
        return None
    try:
        time_s = datetime.strptime(match["time"], _LOG_TIME).timestamp()
        values = parse_qs(urlsplit(match["target"]).query).get(parameter)
    except ValueError:
        return None
    text = values[0].strip() if values else ""
    return (time_s, {"text": text}) if text else None


def _from_object(line: str, where: str) -> tuple[float, Json] | None:
    try:
        record = object_from_text(line, where, TRACE_FORM)
        time_s = _seconds(record.get("time"), where)
    except InputError:
        return None
    status = record.get("status", 200)
    if isinstance(status, int) and status >= 400:
        return None
    told = {key: record[key] for key in _REQUEST_KEYS if record.get(key)}
    return (time_s, told) if told else None


def _seconds(value: Any, where: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value):
        return float(value)
    try:
        return datetime.fromisoformat(value).timestamp()
    except (TypeError, ValueError):
        told = shown(repr(value))
        raise InputError(f'{where}: "time" is {told} and should be seconds, or a time in ISO 8601.') from None


def _tokens(record: Json, where: str) -> int:
    value = record["tokens"]
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= LONGEST:
        raise InputError(f'{where}: "tokens" is {shown(repr(value))} and should be a whole number from 1 to {LONGEST}.')
    return value


def _repeats(records: Sequence[Json | str]) -> float:
    """Return the share of queries that came before; where only lengths are known, without `key` nothing is."""
    keys = map(_key_of, records)
    known = [key for key in keys if key is not None]
    return 1 - len(set(known)) / len(known) if known else 0.0


def _key_of(record: Json | str) -> str | None:
    if isinstance(record, str):
        return text_key(record)
    if "key" in record:
        return str(record["key"])
    texts = [value for key, value in record.items() if key in ("text", "query") and isinstance(value, str)]
    return text_key(*texts) if texts else None


def _check(made_of: Synthesis) -> None:
    least = {"queries": 2, "qps": 1e-6, "mean_tokens": 3, "sigma": 0, "zipf": 0, "distinct": 1, "most_tokens": 3}
    for name, value in least.items():
        if not getattr(made_of, name) >= value:
            raise InputError(f"{name} is {getattr(made_of, name)} and must be at least {value}.")
    if not 3 <= made_of.most_tokens <= LONGEST:
        raise InputError(f"most_tokens is {made_of.most_tokens} and must be at most {LONGEST}.")
