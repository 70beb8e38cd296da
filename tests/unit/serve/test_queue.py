"""The policy of batches: what holds for every order of offers, and the few cases worth a name."""

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.serve.queue import HIGHEST, LOWEST, Batch, BatchQueue, Drop, Idle, Limits, Wait, Work

RELEASES = ("intent-1", "intent-2", "rank-1")


def work(*lengths, release="intent-1", arrival=0.0, **options):
    ends = [sum(lengths[: i + 1]) for i in range(len(lengths))]
    return Work(release, ends, arrival, **options)


def queue(tokens=100, **options):
    return BatchQueue(Limits(tokens, **options))


def lengths_of(batch):
    """The lengths of a batch's sequences."""
    ends = [(part.work.ends, i) for part in batch.parts for i in range(part.start, part.stop)]
    return [end[i] - (end[i - 1] if i else 0) for end, i in ends]


@dataclass
class Run:
    """A queue that was worked off: what came out of it, in order."""

    batches: list[tuple[float, Batch]] = field(default_factory=list)
    dropped: list[tuple[float, Work]] = field(default_factory=list)

    def take(self, queue, now, **options):
        match queue.next(now, **options):
            case Batch() as batch:
                self.batches.append((now, batch))
                return True
            case Drop(works):
                self.dropped += [(now, one) for one in works]
                return True
        return False

    def sequences(self):
        """Every sequence that was handed out, as (work, place)."""
        return [(p.work, i) for _, batch in self.batches for p in batch.parts for i in range(p.start, p.stop)]

    def began(self, one):
        return next((now for now, batch in self.batches for part in batch.parts if part.work is one), None)


works = st.builds(
    lambda lengths, release, gap, priority, patience, background: (
        gap,
        lengths,
        {"release": release, "priority": priority, "background": background},
        patience,
    ),
    st.lists(st.integers(1, 60), min_size=1, max_size=6),
    st.sampled_from(RELEASES),
    st.floats(0, 0.2),
    st.integers(-6, 6),
    st.none() | st.floats(0, 1),
    st.booleans(),
)


@given(
    st.lists(works, max_size=25),
    st.integers(1, 80),
    st.sampled_from([0.0, 0.05]),
    st.floats(0.001, 0.3),
    st.integers(1, 3),
)
def test_whatever_is_offered(offers, max_tokens, batch_wait_s, service_s, idle):
    bounds = Limits(max_tokens, batch_wait_s, max_queue_s=1.0, workers=idle)
    line, run, offered, now = BatchQueue(bounds), Run(), [], 0.0
    free_at = 0.0
    for gap, lengths, options, patience in offers:
        now += gap
        while free_at <= now and run.take(line, free_at, idle=idle):
            free_at += service_s
        free_at = max(free_at, now)
        deadline = None if patience is None else now + patience
        offered.append(work(*lengths, arrival=now, deadline_s=deadline, **options))
        line.offer(offered[-1])
    while len(line):
        if not run.take(line, now, idle=idle):
            match line.next(now, idle=idle):
                case Wait(until_s):
                    assert until_s > now, "a wait for what is due already would spin"
                    now = until_s
        now += service_s
    assert isinstance(line.next(now), Idle)
    assert line.tokens == 0

    # Nothing is handed out twice, and what was not handed out was dropped.
    sequences = run.sequences()
    assert len(set(sequences)) == len(sequences)
    dropped = {one for _, one in run.dropped}
    assert len(dropped) == len(run.dropped)
    whole = {(one, i) for one in offered for i in range(len(one.ends))}
    assert whole - set(sequences) == {(one, i) for one, i in whole - set(sequences) if one in dropped}

    for at, batch in run.batches:
        # One release, within the budget, whose tokens are told.
        assert {part.work.release for part in batch.parts} == {batch.release}
        assert len({part.work.background for part in batch.parts}) == 1
        assert sum(lengths_of(batch)) == batch.tokens
        assert batch.tokens <= max_tokens or len(lengths_of(batch)) == 1
        for part in batch.parts:
            assert part.work.deadline_s is None or at < part.work.deadline_s
            assert at < part.work.arrival_s + 1.0 or run.began(part.work) < at
    for at, one in run.dropped:
        assert at >= min(one.arrival_s + 1.0, one.deadline_s if one.deadline_s is not None else 9e9)

    # Of one release and one priority, first come is first served, and a work's sequences keep their order.
    for release in RELEASES:
        for level in range(HIGHEST, LOWEST + 1):
            for background in (False, True):
                mine = [
                    (offered.index(one), i)
                    for one, i in sequences
                    if (one.release, min(max(one.priority, HIGHEST), LOWEST), one.background)
                    == (release, level, background)
                ]
                assert all(a < b for a, b in pairwise(mine))


@given(st.lists(st.tuples(st.integers(HIGHEST, LOWEST), st.integers(1, 9)), min_size=1, max_size=30))
def test_withdrawn_work_is_never_run(drawn):
    line, run = queue(16), Run()
    offered = [work(length, arrival=i / 100, priority=priority) for i, (priority, length) in enumerate(drawn)]
    for one in offered:
        line.offer(one)
    for one in offered[::2]:
        line.withdraw(one)
        line.withdraw(one)  # twice is once
    while run.take(line, 1.0):
        pass
    assert {one for one, _ in run.sequences()} == set(offered[1::2])
    assert line.tokens == len(line) == 0


@given(st.integers(HIGHEST, LOWEST), st.sampled_from(RELEASES))
def test_nothing_starves_however_much_comes_before_it(priority, release):
    """Full batches of the highest priority come all the time, of all models; each takes 10 ms."""
    line, run = queue(10, max_queue_s=1.0), Run()
    patient = work(5, release=release, priority=priority)
    line.offer(patient)
    for tick in range(1, 100):
        now = tick / 100
        line.offer(work(10, release=RELEASES[tick % 3], arrival=now, priority=HIGHEST))
        run.take(line, now)
    began = run.began(patient)
    assert began is not None
    assert began <= 0.5 * (priority - HIGHEST) / (LOWEST - HIGHEST) + 0.03


def test_a_large_request_is_split_and_leaves_no_room_unused():
    line, run = queue(100), Run()
    line.offer(work(*[30] * 7))
    while run.take(line, 0.0):
        pass
    assert [lengths_of(batch) for _, batch in run.batches] == [[30] * 3, [30] * 3, [30]]


def test_free_workers_share_a_large_request_evenly():
    line = queue(1000, workers=4)
    line.offer(work(*[20] * 40))
    shares = [line.next(0.0, idle=idle).tokens for idle in (4, 3, 2, 1)]
    assert shares == [200] * 4


def test_a_small_batch_is_not_shared():
    line = queue(1000, workers=4)
    line.offer(work(8, 8, 8))
    assert line.next(0.0, idle=4).tokens == 24


def test_a_sequence_beyond_the_budget_goes_alone():
    line, run = queue(100), Run()
    for length in (10, 400, 10):
        line.offer(work(length))
    while run.take(line, 0.0):
        pass
    assert [lengths_of(batch) for _, batch in run.batches] == [[10], [400], [10]]


def test_the_oldest_goes_first_among_models():
    line = queue(100)
    line.offer(work(5, release="rank-1", arrival=0.2))
    line.offer(work(5, release="intent-1", arrival=0.3))
    line.offer(work(5, release="rank-1", arrival=0.4))
    assert [line.next(0.5).release for _ in range(2)] == ["rank-1", "intent-1"]


def test_a_batch_waits_for_company_from_its_first_item_on():
    line = queue(100, batch_wait_s=0.010)
    line.offer(work(5, arrival=1.000))
    assert line.next(1.000) == Wait(1.010)
    line.offer(work(5, arrival=1.009))
    assert line.next(1.009) == Wait(1.010)
    assert line.next(1.010).tokens == 10


def test_a_full_batch_waits_for_nothing():
    line = queue(100, batch_wait_s=0.010)
    line.offer(work(60, arrival=1.0))
    line.offer(work(60, arrival=1.0))
    assert line.next(1.0).tokens == 60


def test_a_budget_may_be_smaller_for_a_slow_release():
    line = queue(100)
    line.offer(work(10, 10, 10))
    assert line.next(0.0, budget_of=lambda release: 20).tokens == 20


@pytest.mark.parametrize(("options", "dropped_at"), [({}, 1.0), ({"deadline_s": 0.3}, 0.3), ({"deadline_s": 5.0}, 1.0)])
def test_what_waits_too_long_is_dropped_on_time(options, dropped_at):
    line = queue(max_queue_s=1.0)
    late = work(5, **options)
    line.offer(late)
    assert line.next_expiry_s == dropped_at
    assert line.expire(dropped_at - 0.001) == []
    assert line.expire(dropped_at) == [late]
    assert isinstance(line.next(dropped_at), Idle)


def test_what_has_begun_is_finished_unless_its_client_left():
    line = queue(10, max_queue_s=1.0)
    hasty, patient = work(10, 10, 10, deadline_s=2.0), work(10, 10, release="rank-1", arrival=0.1)
    for one in (hasty, patient):
        line.offer(one)
    assert [line.next(0.5).parts[0].work for _ in range(3)] == [hasty] * 3
    line.offer(begun := work(10, 10, deadline_s=2.0, arrival=1.05))
    assert line.next(1.0).parts[0].work is patient
    assert line.next(1.5).parts[0].work is patient
    assert line.next(1.6).parts[0].work is begun
    assert line.next(2.0) == Drop([begun])


def test_the_background_yields_to_everything():
    line = queue(100, workers=2)
    copy, asked = work(5, background=True), work(5, arrival=0.1, priority=9)
    line.offer(copy)
    line.offer(asked)
    assert line.next(0.2, idle=2).parts[0].work is asked
    assert isinstance(line.next(0.2, idle=1), Wait), "the last free worker is kept for whoever comes"
    assert line.next(0.2, idle=2).parts[0].work is copy


def test_one_worker_runs_the_background_too():
    line = queue(100)
    line.offer(work(5, background=True))
    assert isinstance(line.next(0.2), Batch)
