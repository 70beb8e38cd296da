"""What a worker does with jobs while it holds no lock: texts to tokens, parts to one batch, outputs to replies."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, islice
from typing import Any

import numpy as np

from octavo.errors import InputError
from octavo.serve.cache import OutputCache
from octavo.serve.job import Job, job_of
from octavo.serve.packing import concatenated, rows_between
from octavo.serve.queue import Part
from octavo.serve.refusals import BadRequest, Refusal, Unavailable
from octavo.serve.service import Reply
from octavo.text.batch import TokenBatch
from octavo.types import FloatArray, IntArray, Outputs

_ONE = np.arange(2)  # the offsets of one input with one row
_ONE.flags.writeable = False

Settled = tuple[Job, Reply | Refusal]


def tokens_from_jobs(jobs: Sequence[Job]) -> TokenBatch:
    """Tokenize the inputs of jobs of one release, in order. Raises whatever the tokenizer does."""
    inputs = jobs[0].inputs if len(jobs) == 1 else list(chain.from_iterable(job.inputs for job in jobs))
    return jobs[0].release.model.tokenizer.encode(inputs)


def batch_from_parts(parts: Sequence[Part]) -> TokenBatch:
    """Lay the sequences of some parts end to end; what lies so already is not moved."""
    runs: list[tuple[TokenBatch, int, int]] = []
    for part in parts:
        job = job_of(part.work)
        assert job.batch is not None
        start, stop = job.first_row + part.start, job.first_row + part.stop
        if runs and runs[-1][0] is job.batch and runs[-1][2] == start:
            runs[-1] = (job.batch, runs[-1][1], stop)
        else:
            runs.append((job.batch, start, stop))
    return concatenated([rows_between(*run) for run in runs])


def chunks_from_outputs(parts: Sequence[Part], values: FloatArray, read_offsets: IntArray) -> list[Outputs]:
    """Return the outputs to each part of a batch; the values are views."""
    chunks = []
    row = 0
    for part in parts:
        stop = row + part.stop - part.start
        if stop == row + 1:  # nearly always
            first, last = int(read_offsets[row]), int(read_offsets[stop])
            chunks.append(Outputs(values[first:last], _ONE if last - first == 1 else np.array([0, last - first])))
        else:
            offsets = read_offsets[row : stop + 1]
            chunks.append(Outputs(values[offsets[0] : offsets[-1]], offsets - offsets[0]))
        row = stop
    return chunks


def replies_from_batch(
    jobs: Sequence[Job], parts: Sequence[Part], outputs: Outputs, cache: OutputCache | None, now_s: float
) -> list[Settled]:
    """Return the replies of jobs that a batch completed: decoded in one call where the batch is made of them alone.

    Args:
        jobs: of one release, that have all their outputs.
        parts: of the batch.
        outputs: to the batch.
        cache: remembers what was computed; None for none.
        now_s: when they are made.
    """
    if not jobs:
        return []
    is_whole = len(jobs) == len(parts) and all(
        job.request.decode and len(job.chunks) == 1 and not job.known for job in jobs
    )
    if not is_whole or len(jobs) == 1:
        return [(job, _reply_or_refusal(job, cache, now_s)) for job in jobs]
    items = [item for job in jobs for item in job.request.items]
    try:
        answers = iter(jobs[0].release.info.task.decode(outputs, items))
    except Exception as error:
        return [(job, refusal_from_engine(error)) for job in jobs]
    return [(job, _reply(job, list(islice(answers, len(job.request.items))), cache, now_s)) for job in jobs]


def replies_from_cache(jobs: Sequence[Job], cache: OutputCache | None, now_s: float) -> list[Settled]:
    """Return the replies of jobs all of whose outputs were known."""
    return [(job, _reply_or_refusal(job, cache, now_s)) for job in jobs]


def _reply_or_refusal(job: Job, cache: OutputCache | None, now_s: float) -> Reply | Refusal:
    try:
        task = job.release.info.task
        answers = task.decode(job.outputs(), job.request.items) if job.request.decode else []
    except Exception as error:  # outputs that cannot be decoded are the release's fault
        return refusal_from_engine(error)
    return _reply(job, answers, cache, now_s)


def _reply(job: Job, answers: Sequence[Any], cache: OutputCache | None, now_s: float) -> Reply:
    outputs = job.outputs()
    if cache is not None:
        for i, key in enumerate(job.keys):
            if i not in job.known:
                cache.put(key, outputs[i])
    info = job.release.info
    return Reply(info.model, info.version, answers, outputs, job.tokens, job.timing(now_s), len(job.known))


def refusal_from_reading(error: BaseException) -> Refusal:
    """Return the refusal of a request whose texts cannot be tokenized."""
    if isinstance(error, Refusal):
        return error
    refusal = BadRequest(str(error) if isinstance(error, InputError) else f"The text cannot be tokenized ({error}).")
    refusal.__cause__ = error
    return refusal


def refusal_from_engine(error: BaseException) -> Unavailable:
    """Return the refusal of a request that the release could not answer; its cause is the error."""
    refusal = Unavailable(str(error) or type(error).__name__)
    refusal.__cause__ = error
    return refusal
