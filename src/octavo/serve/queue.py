"""Which work an engine runs next: a pure policy, without clock and threads, that knows no text and no engine.

One rank orders all work: when it arrived, plus a step for each level of priority. So the oldest goes first, among
models too; a higher priority is a head start of some milliseconds, and whoever has waited that long has made up for it.
Work in the background (`Work.background`) has no rank: it runs where nothing else waits and a worker would stay free.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from math import inf
from operator import itemgetter

# Priorities beyond these count as these.
LOWEST, HIGHEST = 4, -4
# A batch that other workers could share is divided no further than this: each call of an engine has a cost of its own.
_LEAST_SHARE_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Limits:
    """What batches and waiting are bounded by.

    Attributes:
        max_batch_tokens: in one batch; one longer sequence goes alone.
        batch_wait_s: how long a batch may wait for company, from its first item on.
        max_queue_s: how long work may wait before it begins; it is dropped then.
        workers: that take batches.
    """

    max_batch_tokens: int
    batch_wait_s: float = 0.0
    max_queue_s: float = inf
    workers: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """Consecutive sequences of one request, for one release. Two works are equal only if they are the same.

    Attributes:
        release: what runs it. A batch is of one release.
        ends: tokens up to the end of each sequence, counted from the first one of the work, (sequences,).
        arrival_s: when the request came.
        priority: lower goes first.
        deadline_s: when the client stops waiting; None for never.
        background: run it only where nothing waits.
        owner: whatever the caller wants to find again.
    """

    release: Hashable
    ends: Sequence[int]
    arrival_s: float
    priority: int = 0
    deadline_s: float | None = None
    background: bool = False
    owner: object = None


@dataclass(frozen=True, slots=True)
class Part:
    """Sequences `start` to `stop` of a work."""

    work: Work
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Run these together, now."""

    release: Hashable
    parts: Sequence[Part]
    tokens: int


@dataclass(frozen=True, slots=True)
class Drop:
    """Refuse these: they waited too long, or their client did. None of them is handed out any more."""

    works: Sequence[Work]


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing is due before `until_s`, unless something is offered."""

    until_s: float


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing is queued that this worker should run."""


Decision = Batch | Drop | Wait | Idle


@dataclass(slots=True, eq=False)
class _Entry:
    """A work in the queue, and how much of it was handed out."""

    work: Work
    taken: int = 0
    gone: bool = False

    def tokens_between(self, start: int, stop: int) -> int:
        ends = self.work.ends
        return ends[stop - 1] - (ends[start - 1] if start else 0)

    @property
    def tokens_left(self) -> int:
        return self.tokens_between(self.taken, len(self.work.ends))

    def fitting(self, room: int) -> int:
        """Return up to which sequence the next ones take at most `room` tokens."""
        ends = self.work.ends
        if len(ends) == 1:  # nearly always
            return int(ends[0] <= room)
        return bisect_right(ends, room + (ends[self.taken - 1] if self.taken else 0), self.taken)


@dataclass(slots=True)
class _Lane:
    """The work of one release; `since_s` is when the first of it came."""

    release: Hashable
    background: bool
    since_s: float
    tokens: int = 0
    heap: list[tuple[float, int, _Entry]] = field(default_factory=list)  # by rank

    def first(self) -> tuple[float, _Entry] | None:
        """Return the work that goes next, with its rank; forgets what is gone."""
        while self.heap and self.heap[0][2].gone:
            heappop(self.heap)
        return (self.heap[0][0], self.heap[0][2]) if self.heap else None


class BatchQueue:
    """The queue of all releases. Not thread-safe: whoever shares it holds a lock."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        # What a level of priority is worth: from one end of them to the other, half of the longest wait there can be.
        longest_s = limits.max_queue_s if limits.max_queue_s < inf else 1.0
        self._step_s = longest_s / (LOWEST - HIGHEST) / 2
        self._lanes: dict[tuple[Hashable, bool], _Lane] = {}
        self._entries: dict[Work, _Entry] = {}
        self._expiring: list[tuple[float, int, _Entry]] = []
        self._count = count()

    def __len__(self) -> int:
        """Works that are queued, wholly or in part."""
        return len(self._entries)

    @property
    def tokens(self) -> int:
        """Tokens that are queued."""
        return sum(lane.tokens for lane in self._lanes.values())

    def works(self) -> list[Work]:
        """Return what is queued."""
        return list(self._entries)

    def offer(self, work: Work) -> None:
        """Take in a work of at least one sequence."""
        key = work.release, work.background
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane(*key, work.arrival_s)
        entry = self._entries[work] = _Entry(work)
        rank = work.arrival_s + level_of(work.priority) * self._step_s
        heappush(lane.heap, (rank, next(self._count), entry))
        lane.tokens += work.ends[-1]
        expires_s = work.arrival_s + self._limits.max_queue_s
        self._expire_at(expires_s if work.deadline_s is None else min(expires_s, work.deadline_s), entry)

    def withdraw(self, work: Work) -> None:
        """Forget what was not handed out of a work; nothing happens where all of it was."""
        entry = self._entries.pop(work, None)
        if entry is None:
            return
        lane = self._lanes[work.release, work.background]
        entry.gone = True
        self._took(lane, entry.tokens_left)

    def expire(self, now_s: float) -> list[Work]:
        """Drop what nobody waits for any more, and return it.

        Work that has waited `max_queue_s` and has not begun, and work past its deadline. What has begun goes on.
        """
        dropped = []
        while self._expiring and self._expiring[0][0] <= now_s:
            entry = heappop(self._expiring)[2]
            deadline_s = entry.work.deadline_s
            if entry.gone:
                continue
            if entry.taken and (deadline_s is None or deadline_s > now_s):
                if deadline_s is not None:
                    self._expire_at(deadline_s, entry)
                continue
            dropped.append(entry.work)
            self.withdraw(entry.work)
        return dropped

    @property
    def next_expiry_s(self) -> float:
        """When `expire` may have something to drop; infinity for never."""
        while self._expiring and self._expiring[0][2].gone:
            heappop(self._expiring)
        return self._expiring[0][0] if self._expiring else inf

    def next(self, now_s: float, idle: int = 1, budget_of: Callable[[Hashable], int] | None = None) -> Decision:
        """Return what a free worker should do.

        Args:
            now_s: by the clock of `arrival_s`.
            idle: workers that are free, this one among them: they share what is queued, evenly.
            budget_of: tokens of a batch for a release, where fewer than `max_batch_tokens` are wanted.
        """
        if late := self.expire(now_s):
            return Drop(late)
        due: list[tuple[float, _Lane, int]] = []
        soonest_s = inf
        for lane in self._lanes.values():
            if lane.background or (first := lane.first()) is None:
                continue
            budget = self._budget(lane, budget_of)
            due_s = now_s if lane.tokens >= budget else lane.since_s + self._limits.batch_wait_s
            soonest_s = min(soonest_s, due_s)
            if due_s <= now_s:
                due.append((first[0], lane, budget))
        if due:
            _, lane, budget = min(due, key=itemgetter(0))
            return self._packed(lane, budget, idle)
        if soonest_s < inf:
            return Wait(min(soonest_s, self.next_expiry_s))
        return self._next_in_background(idle, budget_of)

    def _next_in_background(self, idle: int, budget_of: Callable[[Hashable], int] | None) -> Decision:
        """Return a batch that delays nobody: another worker stays free, where there is another."""
        if not self._lanes:
            return Idle()
        if idle == 1 < self._limits.workers:
            return Wait(self.next_expiry_s)
        lane = min(self._lanes.values(), key=lambda lane: lane.since_s)
        return self._packed(lane, self._budget(lane, budget_of), idle=1)

    def _budget(self, lane: _Lane, budget_of: Callable[[Hashable], int] | None) -> int:
        most = self._limits.max_batch_tokens
        return most if budget_of is None else min(most, budget_of(lane.release))

    def _packed(self, lane: _Lane, budget: int, idle: int) -> Batch:
        """Hand out the next sequences of a lane: an even share for each free worker, and at least one sequence."""
        if idle > 1:
            budget = min(budget, max(-(-lane.tokens // idle), _LEAST_SHARE_TOKENS))
        parts: list[Part] = []
        tokens = 0
        while (first := lane.first()) is not None:
            entry = first[1]
            stop = entry.fitting(budget - tokens)
            if stop <= entry.taken:
                if parts:
                    break
                stop = entry.taken + 1
            parts.append(Part(entry.work, entry.taken, stop))
            tokens += entry.tokens_between(entry.taken, stop)
            entry.taken = stop
            if stop < len(entry.work.ends):
                break
            entry.gone = True
            del self._entries[entry.work]
        self._took(lane, tokens)
        return Batch(lane.release, parts, tokens)

    def _took(self, lane: _Lane, tokens: int) -> None:
        lane.tokens -= tokens
        if lane.first() is None:
            del self._lanes[lane.release, lane.background]

    def _expire_at(self, expires_s: float, entry: _Entry) -> None:
        if expires_s < inf:
            heappush(self._expiring, (expires_s, next(self._count), entry))


def level_of(priority: int) -> int:
    """Return the level that a priority counts as."""
    return min(max(priority, HIGHEST), LOWEST)
