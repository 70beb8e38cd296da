"""Worker threads between the inbox and the engines: a thin loop around the policies of queue and admission.

A request makes one hop to a worker and one back. A free worker tokenizes what is in the inbox, in one call for each
release; then it takes the next batch, runs it, decodes it, and tells the event loop once for the whole batch. The lock
is held for bookkeeping only, never while texts are read or an engine runs.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from math import inf

from octavo.serve.admission import Admission
from octavo.serve.answering import (
    Settled,
    batch_from_parts,
    chunks_from_outputs,
    completed_jobs,
    jobs_by_release,
    refusal_from_engine,
    refusal_from_reading,
    replies_from_batch,
    replies_from_cache,
    run_from_batch,
    tokens_from_jobs,
)
from octavo.serve.cache import OutputCache
from octavo.serve.cores import prepare_process
from octavo.serve.job import Job, job_of
from octavo.serve.loaded import LoadedRelease
from octavo.serve.queue import Batch, BatchQueue, Drop, Idle, Limits, Part, Wait
from octavo.serve.refusals import DeadlineExceeded, Overloaded, TooLarge, Unavailable
from octavo.serve.service import BatchRun, Listener, Reply
from octavo.types import Outputs

# What one worker tokenizes at a time: with more in the inbox, others help.
_BITE_BYTES = 32 << 10
_BITE_REQUESTS = 256


class Scheduler:
    """The workers, and the work of all releases. Thread-safe."""

    def __init__(
        self,
        limits: Limits,
        listener: Listener,
        *,
        cache: OutputCache | None = None,
        max_tokens: int = 65_536,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start nothing yet: `start` does.

        Args:
            limits: of batches and waiting, and how many workers there are.
            listener: hears of batches and of the queue.
            cache: of outputs; None for none.
            max_tokens: most tokens of one request.
            clock: in seconds; that of `Request.deadline_s`.
        """
        self._limits = limits
        self._listener = listener
        self._cache = cache
        self._max_tokens = max_tokens
        self._clock = clock
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._drained = threading.Condition(self._lock)
        # Guarded by the lock.
        self._inbox: deque[Job] = deque()
        self._queue = BatchQueue(limits)
        self._admission = Admission(limits.max_queue_s, limits.workers)
        self._queued: dict[str, list[int]] = {}  # requests and tokens by model
        self._idle = 0
        self._in_hand = 0  # jobs, or parts of jobs, that workers hold
        self._closed = False
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Prepare the process (see `cores`), and start the workers."""
        prepare_process()
        for number in range(self._limits.workers):
            thread = threading.Thread(target=self._work, name=f"octavo-worker-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    # Called by whoever asks.

    def submit(self, job: Job) -> None:
        """Take in a request, whose release is pinned for it; the job's future will be set, and the pin undone.

        Raises:
            Overloaded: there is no room.
            Unavailable: the service is stopping. In either case the pin is still the caller's.
        """
        info = job.release.info
        with self._lock:
            if self._closed:
                raise Unavailable("The service is stopping.")
            pace = self._admission.meet(info.sha256, info.model)
            tokens = min(len(job.inputs) * info.max_length, pace.tokens_from_bytes(job.size_bytes))
            self._admission.check(info.sha256, job.level, tokens)
            self._count(job, tokens, requests=1)
            self._tell(info.model)
            self._inbox.append(job)
            if self._idle:
                self._wake.notify()

    def withdraw(self, job: Job) -> None:
        """Forget a request whose client has left: what no worker has in hand is never run."""
        with self._lock:
            if not job.over:
                self._end(job)

    def expire(self) -> bool:
        """Refuse what has waited too long, and return whether anything still waits. For whoever has a timer."""
        with self._lock:
            now_s = self._clock()
            late = [job for job in self._inbox if self._expires_s(job) <= now_s]
            self._refuse_late([*late, *(job_of(work) for work in self._queue.expire(now_s))], now_s)
            return bool(self._inbox or len(self._queue))

    def stop(self, drain_s: float) -> bool:
        """Take nothing more, run what is queued, and end the workers. Blocks.

        Returns whether all was run within `drain_s`; what was not is refused.
        """
        with self._lock:
            self._closed = True
            self._wake.notify_all()
            drained = self._drained.wait_for(self._is_empty, drain_s)
            left = [*self._inbox, *(job_of(work) for work in self._queue.works())]
            self._settle([(job, Unavailable("The service has stopped.")) for job in left])
            self._wake.notify_all()
        for thread in self._threads if drained else ():  # a worker in a call that never ends is not waited for
            thread.join()
        return drained

    # The workers.

    def _work(self) -> None:
        to_run_first = False
        while (task := self._next(to_run_first)) is not None:
            if isinstance(task, Batch):
                self._run(task)
            else:
                for jobs in jobs_by_release(task):
                    self._tokenize(jobs)
            # In turns: a stream of small requests would keep a worker reading and never running.
            to_run_first = not isinstance(task, Batch)

    def _next(self, to_run_first: bool) -> list[Job] | Batch | None:
        """Wait for something to do: texts to tokenize, a batch to run, or None at the end."""
        with self._lock:
            while True:
                if self._inbox and not (to_run_first and len(self._queue)):
                    return self._bite()
                now_s = self._clock()
                match self._queue.next(now_s, self._idle + 1, self._budget_of):
                    case Batch() as batch:
                        self._hand_out(batch)
                        return batch
                    case Drop(works):
                        self._refuse_late([job_of(work) for work in works], now_s)
                        continue
                    case Wait(until_s):
                        timeout_s = None if until_s == inf else max(0.0, until_s - now_s)
                    case Idle():
                        timeout_s = None
                if self._inbox:
                    to_run_first = False
                    continue
                if self._closed and self._is_empty():
                    self._wake.notify_all()
                    return None
                self._idle += 1
                self._wake.wait(timeout_s)
                self._idle -= 1

    def _bite(self) -> list[Job]:
        """Take the oldest jobs out of the inbox. The lock is held."""
        jobs: list[Job] = []
        size_bytes = 0
        while self._inbox and len(jobs) < _BITE_REQUESTS:
            size_bytes += self._inbox[0].size_bytes
            if jobs and size_bytes > _BITE_BYTES:
                break
            job = self._inbox.popleft()
            job.in_hand = 1
            jobs.append(job)
        self._in_hand += len(jobs)
        if self._inbox and self._idle:
            self._wake.notify()
        return jobs

    def _hand_out(self, batch: Batch) -> None:
        """Note that a worker takes a batch. The lock is held."""
        for part in batch.parts:
            job = job_of(part.work)
            ends = part.work.ends
            tokens = ends[part.stop - 1] - (ends[part.start - 1] if part.start else 0)
            job.in_hand += 1
            self._count(job, -tokens, requests=-1 if part.stop == len(ends) else 0)
        self._tell(job_of(batch.parts[0].work).release.info.model)
        self._in_hand += len(batch.parts)
        if self._idle and len(self._queue):
            self._wake.notify()

    def _tokenize(self, jobs: Sequence[Job]) -> None:
        """Turn the texts of jobs of one release into tokens, and queue them; answer those that the cache knows."""
        started_s = self._clock()
        settled: list[Settled] = []
        try:
            batch = tokens_from_jobs(jobs)
            row = 0
            for job in jobs:
                job.read(batch, row, self._cache)
                row += len(job.inputs)
        except BaseException as error:  # a panic in the tokenizer's Rust code is no Exception
            if len(jobs) > 1:  # one of them is at fault: each alone
                for job in jobs:
                    self._tokenize([job])
                return
            settled.append((jobs[0], refusal_from_reading(error)))
        now_s = self._clock()
        read = [job for job in jobs if job.batch is not None]
        for job in read:
            job.tokenize_s, job.tokenize_share_s = now_s - started_s, (now_s - started_s) / len(read)
            if job.tokens > self._max_tokens:
                message = f"The request has {job.tokens} tokens, and {self._max_tokens} is the most."
                settled.append((job, TooLarge(message)))
        settled += replies_from_cache([job for job in read if not job.left], self._cache, now_s)
        with self._lock:
            self._offer(jobs, read, settled)

    def _offer(self, jobs: Sequence[Job], read: Sequence[Job], settled: Sequence[Settled]) -> None:
        """Queue what was read and is not settled. The lock is held."""
        self._in_hand -= len(jobs)
        for job in jobs:
            job.in_hand -= 1
            if job.over:  # withdrawn while it was read
                self._let_go(job)
        self._settle(settled)
        if read:
            pace = self._admission.paces[read[0].release.info.sha256]
            pace.read(sum(job.size_bytes for job in read), sum(job.tokens for job in read))
        for job in read:
            if not job.over:
                job.work = job.to_run()
                self._count(job, job.work.ends[-1] - job.queued_tokens)
                self._queue.offer(job.work)
        self._tell(jobs[0].release.info.model)

    def _run(self, batch: Batch) -> None:
        """Run a batch and answer the requests that it completes."""
        started_s = self._clock()
        ran: BatchRun | None = None
        try:
            settled, ran = self._computed(batch.parts)
        except BaseException as error:  # whatever an engine raises, the worker lives on
            refusal = refusal_from_engine(error)
            settled = [(job_of(part.work), refusal) for part in batch.parts]
        with self._lock:
            if ran is not None:
                pace = self._admission.paces[job_of(batch.parts[0].work).release.info.sha256]
                pace.ran(batch.tokens, self._clock() - started_s + ran.tokenize_s)
            self._put_down(batch.parts)
            self._settle(settled)
        if ran is not None:
            self._listener.ran(ran)

    def _computed(self, parts: Sequence[Part]) -> tuple[list[Settled], BatchRun]:
        """Return the replies of the requests that a batch completes. Raises what the engine does."""
        release = job_of(parts[0].work).release
        tokens = batch_from_parts(parts)
        started_s = self._clock()
        cpu_s = time.thread_time()
        values = release.model.engine.run(tokens)
        cpu_s = time.thread_time() - cpu_s
        ended_s = self._clock()
        chunks = chunks_from_outputs(parts, values, tokens.read_offsets)
        with self._lock:
            completed = completed_jobs(parts, chunks, (started_s, ended_s))
        settled = replies_from_batch(completed, parts, Outputs(values, tokens.read_offsets), self._cache, ended_s)
        return settled, run_from_batch(parts, tokens, ended_s - started_s, cpu_s)

    # The books. The lock is held.

    def _put_down(self, parts: Sequence[Part]) -> None:
        """Note that a worker is done with a batch."""
        self._in_hand -= len(parts)
        for part in parts:
            job = job_of(part.work)
            job.in_hand -= 1
            if job.over:
                self._let_go(job)

    def _refuse_late(self, jobs: Iterable[Job], now_s: float) -> None:
        refused: list[Settled] = []
        for job in jobs:
            deadline_s = job.request.deadline_s
            if deadline_s is not None and deadline_s <= now_s:
                refused.append((job, DeadlineExceeded("The deadline passed before the request was computed.")))
            else:
                message = f"The request waited for {1000 * self._limits.max_queue_s:.0f} ms, which is the most."
                refused.append((job, Overloaded(message, self._admission.retry_after_s(job.level))))
        self._settle(refused)

    def _settle(self, settled: Sequence[Settled]) -> None:
        """End jobs, and tell their event loop once for all of them."""
        by_loop: dict[asyncio.AbstractEventLoop, list[Settled]] = {}
        for job, result in settled:
            if not job.over:
                self._end(job)
                by_loop.setdefault(job.future.get_loop(), []).append((job, result))
        for loop, results in by_loop.items():
            try:
                loop.call_soon_threadsafe(_set, results)
            except RuntimeError:  # the loop is closed: nobody waits any more
                continue

    def _end(self, job: Job) -> None:
        """Take a job out of everything that waits."""
        job.over = True
        if job.work is not None:
            self._queue.withdraw(job.work)
            job.work = None  # its owner is the job: a circle, which only a search for garbage would find
        elif not job.in_hand and job in self._inbox:
            self._inbox.remove(job)
        if job.queued_tokens:
            self._count(job, -job.queued_tokens, requests=-1)
            self._tell(job.release.info.model)
        if not job.in_hand:
            self._let_go(job)

    def _let_go(self, job: Job) -> None:
        """Unpin the release of a job that is over, once no worker has it in hand."""
        if not job.in_hand:
            job.release.unpin()
        if self._closed and self._is_empty():
            self._drained.notify_all()
            self._wake.notify_all()

    def _count(self, job: Job, tokens: int, requests: int = 0) -> None:
        """Count what a job has in the queue."""
        info = job.release.info
        job.queued_tokens += tokens
        self._admission.add(info.sha256, job.level, tokens, requests)
        queued = self._queued.setdefault(info.model, [0, 0])
        queued[0] += requests
        queued[1] += tokens

    def _tell(self, model: str) -> None:
        """Tell what a model has in the queue. Whoever has counted calls this, once."""
        requests, tokens = self._queued[model]
        self._listener.queued(model, requests, tokens)

    def _budget_of(self, release: object) -> int:
        assert isinstance(release, LoadedRelease)
        return self._admission.budget(release.info.sha256)

    def _expires_s(self, job: Job) -> float:
        expires_s = job.arrival_s + self._limits.max_queue_s
        deadline_s = job.request.deadline_s
        return expires_s if deadline_s is None else min(expires_s, deadline_s)

    def _is_empty(self) -> bool:
        return not self._inbox and not len(self._queue) and not self._in_hand


def _set(settled: Sequence[Settled]) -> None:
    """Give futures their results, on their event loop."""
    for job, result in settled:
        if job.future.done():  # its client left
            continue
        if isinstance(result, Reply):
            job.future.set_result(result)
        else:
            job.future.set_exception(result)
