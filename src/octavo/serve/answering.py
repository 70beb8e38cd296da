"""What a worker makes of jobs: texts to tokens, parts to one batch, outputs to replies. Knows no queue and no lock."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, islice
from typing import Any

import numpy as np

from octavo.errors import InputError
from octavo.serve.cache import OutputCache
from octavo.serve.job import Job, job_of
from octavo.serve.loaded import LoadedRelease
from octavo.serve.packing import concatenated, rows_between
from octavo.serve.queue import Part
from octavo.serve.refusals import BadRequest, Refusal, Unavailable
from octavo.serve.service import BatchRun, Reply
from octavo.text.batch import TokenBatch
from octavo.types import FloatArray, IntArray, Outputs

_ONE = np.arange(2)  # the offsets of one input with one row
_ONE.flags.writeable = False

Settled = tuple[Job, Reply | Refusal]


def jobs_by_release(jobs: Sequence[Job]) -> Iterable[Sequence[Job]]:
    """Divide jobs by release, each in order."""
    if all(job.release is jobs[0].release for job in jobs):
        return [jobs]
    divided: dict[LoadedRelease, list[Job]] = {}
    for job in jobs:
        divided.setdefault(job.release, []).append(job)
    return divided.values()


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


def completed_jobs(parts: Sequence[Part], chunks: Sequence[Outputs], span: tuple[float, float]) -> list[Job]:
    """Give jobs the outputs to their parts; return those that now have all of them, and still want them.

    Parts of a job may come from several workers: the scheduler's lock is held.
    """
    completed = []
    for part, chunk in zip(parts, chunks, strict=True):
        job = job_of(part.work)
        job.chunks.append((part.start, chunk))
        job.spans.append(span)
        job.left -= len(chunk)
        if not job.left and not job.over:
            completed.append(job)
    return completed


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


def run_from_batch(parts: Sequence[Part], tokens: TokenBatch, compute_s: float, compute_cpu_s: float) -> BatchRun:
    """Return what is told of a batch that was run."""
    info = job_of(parts[0].work).release.info
    rows = len(tokens)
    padded = tokens.tokens if rows == 1 else rows * tokens.max_length
    tokenize_s = sum(map(_tokenize_share_s, parts))
    return BatchRun(info.model, info.version, rows, tokens.tokens, padded, tokenize_s, compute_s, compute_cpu_s)


def _tokenize_share_s(part: Part) -> float:
    return job_of(part.work).tokenize_share_s * (part.stop - part.start) / len(part.work.ends)


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
