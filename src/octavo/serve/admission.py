"""Whether there is room for a request: the wait that it would have, out of what is queued and how fast that goes.

Pure: no clock, no threads. Tokens are estimated from bytes until they are counted, and both speeds are measured as the
service runs, each release for itself.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace

from octavo.serve.queue import LOWEST, level_of
from octavo.serve.refusals import Overloaded

# Nothing is known of a release's speed until it ran: this many requests may wait for that.
UNMEASURED_REQUESTS = 64
# Background work comes after every priority.
BACKGROUND = LOWEST + 1

_BYTES_PER_TOKEN = 4.0  # of English, until it is measured
# How many tokens ago a measurement counts half: some batches, so that a burst is soon measured as what it is.
_HALF_LIFE_TOKENS = 2048
# Requests are refused from this share of the longest wait on: estimates err, and refusals at once are kinder.
_ADMITTED_SHARE = 0.85
# What a request itself takes counts too, up to this share: a large one must find its way into a service that is idle.
_OWN_SHARE = 1 / 4
# A batch takes at most this share of the longest wait, so that waiting and computing together stay near the bound.
_BATCH_SHARE = 1 / 16
_LEAST_BUDGET_TOKENS = 64
# Those who are told to come back are told one after the other, in so many times what their own work takes: others come
# meanwhile who were told nothing.
_RETURN_SPACING = 2.0
# Nobody is told to come back later than so many longest waits from now: by then, everything may be different.
_LATEST_RETURN = 40.0
# Copies for a shadow are taken only while what is queued takes less than this share of the longest wait.
_BACKGROUND_SHARE = 1 / 2


@dataclass(slots=True)
class Pace:
    """How fast a release is read and run: sums that fade with every token."""

    read_bytes: float = 0.0
    read_tokens: float = 0.0
    ran_tokens: float = 0.0
    ran_s: float = 0.0

    def read(self, size_bytes: int, tokens: int) -> None:
        """Note that texts of so many bytes came to so many tokens."""
        kept = 0.5 ** (tokens / _HALF_LIFE_TOKENS)
        self.read_bytes = self.read_bytes * kept + size_bytes
        self.read_tokens = self.read_tokens * kept + tokens

    def ran(self, tokens: int, seconds: float) -> None:
        """Note that one worker took so long for so many tokens, everything included."""
        kept = 0.5 ** (tokens / _HALF_LIFE_TOKENS)
        self.ran_tokens = self.ran_tokens * kept + tokens
        self.ran_s = self.ran_s * kept + seconds

    def tokens_from_bytes(self, size_bytes: int) -> int:
        """Estimate the tokens of texts."""
        ratio = self.read_tokens / self.read_bytes if self.read_bytes else 1 / _BYTES_PER_TOKEN
        return max(1, round(size_bytes * ratio))

    @property
    def seconds_per_token(self) -> float | None:
        """Of one worker; None before anything ran."""
        return self.ran_s / self.ran_tokens if self.ran_tokens else None


@dataclass(slots=True)
class _Backlog:
    """What is queued for one release on one level."""

    requests: int = 0
    tokens: int = 0


@dataclass(slots=True)
class Admission:
    """What is queued, and who may join. Releases are told apart by their sha256. Not thread-safe.

    Attributes:
        max_queue_s: the longest wait.
        workers: that share the work.
        paces: of the releases.
    """

    max_queue_s: float
    workers: int
    paces: defaultdict[str, Pace] = field(default_factory=lambda: defaultdict(Pace))
    _met: dict[str, Pace] = field(default_factory=dict)  # by model, the last one
    _backlogs: dict[tuple[str, int], _Backlog] = field(default_factory=dict)
    _promised_s: float = 0.0  # that the room to come is given away to those who were told to come back

    def meet(self, release: str, model: str) -> Pace:
        """Return the pace of a release; a new one is taken to be like the one of its model that was met last."""
        pace = self.paces.get(release)
        if pace is None:
            like = self._met.get(model)
            pace = self.paces[release] = Pace() if like is None else replace(like)
        self._met[model] = pace
        return pace

    def check(self, release: str, level: int, tokens: int = 0) -> None:
        """Let a request of a level and so many tokens in, or refuse it.

        Raises:
            Overloaded: it would wait for longer than it may; says when there should be room.
        """
        wait_s = self.wait_s(level)
        share = _BACKGROUND_SHARE if level == BACKGROUND else _ADMITTED_SHARE
        own_s = tokens * (self.paces[release].seconds_per_token or 0.0) / self.workers
        if wait_s + min(own_s, _OWN_SHARE * self.max_queue_s) > share * self.max_queue_s:
            refusal = Overloaded(
                f"{1000 * wait_s:.0f} ms of work is queued, and nobody may wait for more than "
                f"{1000 * self.max_queue_s:.0f} ms.",
                self.retry_after_s(level),
            )
            if level != BACKGROUND:  # copies do not come back
                own_s = min(own_s, self.max_queue_s)
                latest_s = _LATEST_RETURN * self.max_queue_s
                self._promised_s = min(self._promised_s + _RETURN_SPACING * own_s, latest_s)
            raise refusal
        if self.paces[release].seconds_per_token is None and self.requests(release) >= UNMEASURED_REQUESTS:
            raise Overloaded("Requests wait for a model that has answered none yet.", self.max_queue_s)

    def wait_s(self, level: int = BACKGROUND) -> float:
        """Return how long a request of a level would wait: what goes before it, over how fast all workers go."""
        queued_s = sum(
            backlog.tokens * (self.paces[release].seconds_per_token or 0.0)
            for (release, other), backlog in self._backlogs.items()
            if other <= level
        )
        return queued_s / self.workers

    def retry_after_s(self, level: int = 0) -> float:
        """Return when a refused request should find room: when half of the longest wait is left, and its turn came.

        All that are refused in a burst would else come back at once, and nearly all of them in vain.
        """
        return max(self.wait_s(level) - self.max_queue_s / 2, self.max_queue_s / 8) + self._promised_s

    def requests(self, release: str) -> int:
        """Return how many requests of a release are queued."""
        return sum(backlog.requests for (other, _), backlog in self._backlogs.items() if other == release)

    def add(self, release: str, level: int, tokens: int, requests: int = 0) -> None:
        """Count what was queued, and with negative numbers what no longer is."""
        key = release, level
        backlog = self._backlogs.get(key)
        if backlog is None:
            backlog = self._backlogs[key] = _Backlog()
        backlog.tokens += tokens
        backlog.requests += requests
        if not backlog.requests:
            del self._backlogs[key]
        if tokens < 0:  # work is handed out as fast as time passes
            worked_s = -tokens * (self.paces[release].seconds_per_token or 0.0) / self.workers
            self._promised_s = max(0.0, self._promised_s - worked_s) if self._backlogs else 0.0

    def budget(self, release: str) -> int:
        """Return the tokens that a worker computes in the share of the longest wait that a batch may take."""
        seconds = self.paces[release].seconds_per_token
        if not seconds:
            return 1 << 30
        return max(_LEAST_BUDGET_TOKENS, int(_BATCH_SHARE * self.max_queue_s / seconds))


def level_in_backlog(priority: int, background: bool) -> int:
    """Return the level on which a request is queued."""
    return BACKGROUND if background else level_of(priority)
