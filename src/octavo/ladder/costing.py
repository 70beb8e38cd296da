"""`traffic_cost()`: replay a trace through a release and its FP32 baselines, side by side. Needs no torch.

Every engine gets one core, because cores are what is paid for. PyTorch takes part where it is installed and the folder
of the fine-tuned model is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from octavo.certify.certificate import Certificate
from octavo.certify.traffic import (
    ALONE,
    BATCHED,
    Call,
    Queries,
    Runner,
    Simulated,
    core_hours,
    cores_needed,
    fitted,
    poisson,
    rescaled,
    seconds_per_query,
    share_saved,
    timed_calls,
)
from octavo.data.traces import Trace, read_trace
from octavo.engines.guard import Layout
from octavo.engines.hardware import Hardware, this_hardware
from octavo.engines.select import candidates
from octavo.errors import InputError, MissingExtraError, OctavoError, ReleaseError
from octavo.ladder.recertify import reference_folder
from octavo.progress import Progress, Silent
from octavo.store.contents import Golden, content_from_bytes, input_from_json
from octavo.store.model import Model, load
from octavo.tasks.base import Task
from octavo.text.tokenizer import Tokenizer
from octavo.text.words import words_of
from octavo.types import Input, IntArray, Interval, Json, Pair, Words, texts_of_input

ENGINE, TORCH = "engine", "torch_fp32"
MOST_QUERIES = 20_000
_WORDS_TRIED = 400


class Saved(msgspec.Struct, frozen=True):
    """The share of a baseline's core time that the release saves, with the interval over the rounds.

    Attributes:
        baseline: what it is compared with.
        alone: one query a call.
        batched: 32 queries a call, as certificates quote it.
        at_bound: of the cores' time at the bound on p99, simulated; None where one of the two cannot keep it.
        is_certified: it was not measured on this trace, but stands in the certificate.
    """

    baseline: str
    alone: Interval
    batched: Interval
    at_bound: float | None
    is_certified: bool = False


class EngineCost(msgspec.Struct, frozen=True, kw_only=True):
    """What one engine costs. Measured: milliseconds. Simulated: cores, p99_ms and utilisation.

    Attributes:
        engine_id: in full.
        ms_alone: of a core for a query, one a call; the median over rounds.
        ms_batched: the same, 32 a call.
        fit_error: median relative error of the service time that the simulation uses.
        cores: the fewest that keep p99 within the bound; None where none do.
        p99_ms: with so many.
        utilisation: share of the time that they work.
        core_hours_per_100m: hours that a core works for 100 million queries: `alone`, `batched`, `at_bound`.
        money_per_100m: the same, in money; and `provisioned`, for those cores around the clock.
    """

    engine_id: str
    ms_alone: float
    ms_batched: float
    fit_error: float
    cores: int | None
    p99_ms: float | None
    utilisation: float | None
    core_hours_per_100m: dict[str, float | None]
    money_per_100m: dict[str, float | None]


class TrafficCost(msgspec.Struct, frozen=True, kw_only=True):
    """What a trace costs, on this machine.

    Attributes:
        model: of the release.
        version: of it.
        trace: the file.
        queries: of it that were replayed.
        mean_tokens: of a query.
        repeats: share of the queries that had come before: what a cache of results could save besides.
        qps: that was simulated.
        p99_bound_ms: that was to be kept.
        core_hour: price of an hour of a core.
        rounds: that were timed.
        engines: by name, `engine` first.
        saved: against PyTorch, where it took part or the certificate knows, and against the quickest other FP32 engine.
        notes: what was left out, and why.
        hardware: that this was measured on.
    """

    model: str
    version: str
    trace: str
    queries: int
    mean_tokens: float
    repeats: float
    qps: float
    p99_bound_ms: float
    core_hour: float
    rounds: int
    engines: dict[str, EngineCost]
    saved: dict[str, Saved]
    notes: list[str]
    hardware: Hardware


def traffic_cost(
    release: Path,
    trace: Path,
    *,
    teacher: Path | None = None,
    qps: float | None = None,
    p99_ms: float = 20.0,
    core_hour: float = 0.04,
    max_batch_tokens: int = 1024,
    budget_s: float = 60.0,
    progress: Progress | None = None,
) -> TrafficCost:
    """Replay a trace through a release and its FP32 baselines, in turns, and say what it costs.

    Args:
        release: the release.
        trace: see `octavo.data.traces`.
        teacher: folder of the fine-tuned model, for PyTorch; None to take its figure from the certificate.
        qps: queries per second; None for the trace's own.
        p99_ms: bound on the 99th percentile.
        core_hour: price of an hour of a core.
        max_batch_tokens: that a core takes at once.
        budget_s: bound on the time that measuring takes.
        progress: where to report.

    Raises:
        InputError: a trace that cannot be used, or without times where no rate is given.
        ReleaseError: the release cannot be trusted.
    """
    progress = progress or Silent()
    read = read_trace(trace, MOST_QUERIES)
    notes: list[str] = []
    with ExitStack() as stack:
        model = stack.enter_context(load(release, threads=1))
        queries = _queries(model, read, _rate(read, qps, trace))
        ids = {ENGINE: model.engine.engine_id}
        runners: dict[str, Runner] = {ENGINE: model.outputs}
        with progress.step("build FP32 engines") as step:
            for name, (engine_id, run) in _baselines(model, stack, notes).items():
                ids[name], runners[name] = engine_id, run
                step.advance(1, name)
            if (torch := _torch(model, teacher, notes, stack)) is not None:
                ids[TORCH], runners[TORCH] = "pytorch/fp32", torch
        calls = timed_calls(runners, queries, budget_s=budget_s, progress=progress)
        told, certificate = model.release, model.certificate
    simulated = {
        name: cores_needed(queries, fitted(some), p99_ms / 1e3, max_batch_tokens) for name, some in calls.items()
    }
    certified = {} if TORCH in calls else _certified(certificate, notes)
    return TrafficCost(
        model=told.model,
        version=told.version,
        trace=str(trace),
        queries=len(queries.inputs),
        mean_tokens=float(queries.tokens.mean()),
        repeats=read.repeats,
        qps=queries.qps,
        p99_bound_ms=p99_ms,
        core_hour=core_hour,
        rounds=len(seconds_per_query(calls[ENGINE], BATCHED)),
        engines={name: _cost(ids[name], calls[name], simulated[name], queries.qps, core_hour) for name in runners},
        saved={**certified, **_saved(calls, simulated)},
        notes=notes,
        hardware=this_hardware(),
    )


def inputs_of_lengths(
    tokenizer: Tokenizer, examples: Sequence[Input], lengths: Sequence[int] | IntArray
) -> list[Input]:
    """Return made-up inputs of so many tokens, of the words and the kind of some examples.

    A length is cut at what the model reads, and raised to what special tokens and a word take.

    Raises:
        InputError: no word of the examples is one token.
    """
    make = _maker(examples[0])
    words = _one_token_words(tokenizer, examples, make)
    overhead = int(tokenizer.encode([make([words[0]] * 2)]).lengths[0]) - 2
    rng = np.random.default_rng(0)
    counts = [max(2, min(int(length), tokenizer.max_length) - overhead) for length in lengths]
    return [make([words[place] for place in rng.integers(0, len(words), count)]) for count in counts]


def _maker(example: Input) -> Callable[[list[str]], Input]:
    if isinstance(example, Pair):
        return lambda words: Pair(words[0], " ".join(words[1:]))
    if isinstance(example, Words):
        return lambda words: Words(tuple(words))
    return lambda words: " ".join(words)


def _one_token_words(tokenizer: Tokenizer, examples: Sequence[Input], make: Callable[[list[str]], Input]) -> list[str]:
    found = dict.fromkeys(word for one in examples for text in texts_of_input(one) for word in words_of(text))
    words = [word for word in found if word.isalnum()][:_WORDS_TRIED]
    single: list[str] = []
    if words:
        short = tokenizer.encode([make([word] * 2) for word in words]).lengths.tolist()
        long = tokenizer.encode([make([word] * 6) for word in words]).lengths.tolist()
        single = [word for word, few, many in zip(words, short, long, strict=True) if many - few == 4]
    if not single:
        raise InputError("No word of the release's golden inputs is one token. Give a trace with texts.")
    return single


def _queries(model: Model, trace: Trace, times_s: Any) -> Queries:
    """Return what the model reads of each query."""
    if trace.tokens is not None:
        source = f"{model.release.folder}/golden.json"
        golden = content_from_bytes(model.release.read("golden.json"), Golden, source)
        examples = [input_from_json(written) for written in golden.inputs]
        groups = [[one] for one in inputs_of_lengths(model.tokenizer, examples, trace.tokens)]
        kept = times_s
    else:
        found = [_inputs(model.task, record, where) for record, where in trace.records]
        groups, kept = [one for one in found if one], times_s[[bool(one) for one in found]]
    if len(groups) < 2:
        raise InputError("The trace has fewer than two queries that this model reads.")
    lengths = model.tokenizer.encode([one for group in groups for one in group]).lengths
    bounds = np.cumsum([0, *(len(group) for group in groups)])
    tokens = np.add.reduceat(lengths, bounds[:-1])
    return Queries(kept - kept[0], groups, np.asarray(tokens, np.int64))


def _inputs(task: Task, record: Json | str, where: str) -> list[Input]:
    if isinstance(record, str):
        return task.inputs_from_log(record, where)
    return task.inputs_from_log({key: value for key, value in record.items() if key not in ("time", "key")}, where)


def _rate(trace: Trace, qps: float | None, path: Path) -> Any:
    """Return when queries come, at the rate that was asked for."""
    if trace.times_s is not None and trace.qps is not None:
        return trace.times_s if qps is None else rescaled(trace.times_s, qps)
    if qps is None:
        raise InputError(f"{path}: it does not say when queries came. Give a rate with --qps.")
    return poisson(len(trace), qps)


def _baselines(model: Model, stack: ExitStack, notes: list[str]) -> dict[str, tuple[str, Runner]]:
    """Open the FP32 reference in every engine that runs it."""
    try:
        folder = reference_folder(model.release)
    except ReleaseError as error:
        notes.append(str(error))
        return {}
    found: dict[str, tuple[str, Runner]] = {}
    for candidate in candidates("fp32", {}):  # of the CPU
        layout = candidate.layout or Layout.BUCKETED
        name = f"{candidate.backend}_{layout}_fp32"
        try:
            reference = load(
                folder, backend=candidate.backend, layout=layout, threads=1, allow_uncertified=True, check_answers=False
            )
        except OctavoError as error:
            notes.append(f"{name}: {error}")
            continue
        stack.enter_context(reference)
        found[name] = reference.engine.engine_id, reference.outputs
    return found


def _torch(model: Model, teacher: Path | None, notes: list[str], stack: ExitStack) -> Runner | None:
    """Return the teacher in PyTorch on one thread, where there is both."""
    if teacher is None:
        return None
    try:
        import torch

        from octavo.ladder.baselines import torch_fp32
    except ModuleNotFoundError as error:
        notes.append(f"PyTorch took no part: {MissingExtraError(str(error.name), 'compress')}")
        return None
    stack.callback(torch.set_num_threads, torch.get_num_threads())
    torch.set_num_threads(1)
    try:
        return torch_fp32(teacher, model.task.head, model.config.max_length)
    except (OSError, ValueError) as error:
        raise InputError(f"{teacher}: transformers cannot read this model ({error}).") from error


def _certified(certificate: Certificate, notes: list[str]) -> dict[str, Saved]:
    """Return what the certificate says is saved against PyTorch, and say where that comes from."""
    measure_it = "Give the folder of the fine-tuned model (--teacher) to measure it on this trace."
    of = f"the certificate's, of {certificate.created[:10]} on {certificate.hardware.cpu}"
    if certificate.traffic is not None and TORCH in certificate.traffic.saved:
        saved = certificate.traffic.saved[TORCH]
        notes.append(f"PyTorch took no part: its share is {of}, of CPU time on the held-out inputs. {measure_it}")
        return {TORCH: Saved(TORCH, saved.alone, saved.batched, None, is_certified=True)}
    batched, alone = certificate.speedup_interval.torch_fp32, certificate.speedup_batch1.torch_fp32
    if batched is None or alone is None:
        notes.append(f"PyTorch took no part. {measure_it}")
        return {}
    notes.append(
        f"PyTorch took no part: its share is {of}, of time with all threads on the held-out inputs. {measure_it}"
    )
    shares = [1 - 1 / ratio for ratio in (batched.value, batched.low, batched.high)]
    single = 1 - 1 / alone  # such certificates give no interval
    return {TORCH: Saved(TORCH, Interval(single, single, single), Interval(*shares), None, is_certified=True)}


def _saved(calls: Mapping[str, Sequence[Call]], simulated: Mapping[str, Simulated | None]) -> dict[str, Saved]:
    others = [name for name in calls if name not in (ENGINE, TORCH)]
    quickest = min(others, key=lambda name: _typical_s(calls[name]), default=None)
    found = {}
    for kind, name in ((TORCH, TORCH if TORCH in calls else None), ("best_fp32", quickest)):
        if name is None:
            continue
        ours, theirs = simulated[ENGINE], simulated[name]
        found[kind] = Saved(
            name,
            share_saved(calls[name], calls[ENGINE], ALONE),
            share_saved(calls[name], calls[ENGINE], BATCHED),
            1 - ours.busy_s / theirs.busy_s if ours and theirs else None,
        )
    return found


def _typical_s(calls: Sequence[Call]) -> float:
    """Return the geometric mean of the seconds per query, alone and in batches."""
    alone, batched = (float(np.median(seconds_per_query(calls, size))) for size in (ALONE, BATCHED))
    return float(np.sqrt(alone * batched))


def _cost(
    engine_id: str, calls: Sequence[Call], simulated: Simulated | None, qps: float, core_hour: float
) -> EngineCost:
    alone, batched = (float(np.median(seconds_per_query(calls, size))) for size in (ALONE, BATCHED))
    hours: dict[str, float | None] = {
        "alone": core_hours(alone),
        "batched": core_hours(batched),
        "at_bound": core_hours(simulated.busy_s) if simulated else None,
    }
    paid = {**hours, "provisioned": core_hours(simulated.cores / qps) if simulated else None}
    return EngineCost(
        engine_id=engine_id,
        ms_alone=1e3 * alone,
        ms_batched=1e3 * batched,
        fit_error=fitted(calls).error,
        cores=simulated.cores if simulated else None,
        p99_ms=1e3 * simulated.p99_s if simulated else None,
        utilisation=simulated.utilisation if simulated else None,
        core_hours_per_100m=hours,
        money_per_100m={name: None if value is None else value * core_hour for name, value in paid.items()},
    )
