import threading
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from bench.engines.asking import STREAM_BATCHES, Traffic, asked, run_stream, sorted_batches
from bench.engines.peers import Contender
from bench.engines.plan import OFFLINE, Case, Effort
from bench.engines.traces import Words
from octavo.text.batch import TokenBatch

EFFORT = Effort(rounds=2, case_s=60, singles=4, stream=96)


class _Tokenizer:
    def encode(self, texts):
        return TokenBatch.from_sequences([[1, *(5 for _ in text.split()), 2] for text in texts])


@pytest.fixture
def subject():
    return SimpleNamespace(tokenizer=_Tokenizer(), words=Words(["list", "files"], np.array([1, 1])))


def _contender(seen, lanes=1, **more):
    def run(batch):
        seen.append(batch)

    return Contender("id", lambda batch: batch, [run] * lanes, **more)


@pytest.mark.parametrize(("batch", "calls", "size"), [(1, 4, 1), (8, 1, 8), (OFFLINE, 1, 96)])
def test_a_round_asks_as_many_texts_as_the_case_says(subject, batch, calls, size):
    work = Traffic(Case("short", batch), subject, EFFORT).work(0)
    assert [len(texts) for texts in work.texts] == [size] * calls
    assert [len(b) for b in work.batches] == [size] * calls


def test_all_contenders_get_the_same_work_and_each_round_another(subject):
    traffic = Traffic(Case("short", 8), subject, EFFORT)
    again = Traffic(Case("short", 8), subject, EFFORT)
    assert traffic.work(0).texts == again.work(0).texts != traffic.work(1).texts


@pytest.mark.parametrize("is_text", [False, True])
def test_every_text_of_a_round_is_answered(subject, is_text):
    seen = []
    traffic = Traffic(Case("short", 8, is_text), subject, EFFORT)
    turn = asked(_contender(seen), traffic).turn(1)
    seen.clear()
    for job in turn.jobs:
        job()
    assert [batch.ids.tolist() for batch in seen] == [batch.ids.tolist() for batch in traffic.work(1).batches]


def test_a_shape_that_recurs_is_run_before_the_clock_starts(subject):
    seen = []
    traffic = Traffic(Case("short", 8), subject, EFFORT)
    asked(_contender(seen, shape=lambda batch: batch.max_length), traffic)
    wanted = {batch.max_length for number in range(EFFORT.rounds) for batch in traffic.work(number).batches}
    assert wanted <= {batch.max_length for batch in seen}


def test_a_shape_that_does_not_recur_stays_new(subject):
    seen = []
    traffic = Traffic(Case("short", 8), subject, EFFORT)
    asked(_contender(seen), traffic)
    timed = {tuple(batch.ids) + tuple(batch.offsets) for batch in traffic.work(0).batches}
    assert not timed & {tuple(batch.ids) + tuple(batch.offsets) for batch in seen}


@pytest.mark.parametrize("lanes", [1, 3])
def test_a_stream_is_answered_once_each_the_longest_first(lanes):
    seen = []
    batch = TokenBatch.from_sequences([[n] * n for n in (3, 1, 4, 1, 5, 9, 2, 6)])
    run_stream(_contender(seen, lanes), batch, size=3)
    answered = Counter(int(ids[0]) for part in seen for ids in np.split(part.ids, part.offsets[1:-1]))
    assert answered == Counter([3, 1, 4, 1, 5, 9, 2, 6])
    assert [part.lengths.tolist() for part in sorted_batches(batch, 3)] == [[9, 6, 5], [4, 3, 2], [1, 1]]


def test_no_lane_runs_twice_at_a_time():
    busy, clashes = Counter(), []

    def lane(name):
        lock = threading.Lock()

        def run(_batch):
            if not lock.acquire(blocking=False):
                clashes.append(name)
                return
            busy[name] += 1
            lock.release()

        return run

    contender = Contender("id", lambda batch: batch, [lane("a"), lane("b")])
    run_stream(contender, TokenBatch.from_sequences([[1]] * 200), size=1)
    assert not clashes
    assert sum(busy.values()) == 200


def test_a_stream_takes_the_size_that_suits_the_contender(subject):
    sizes = []
    contender = Contender("id", lambda batch: batch, [lambda _batch: None], run_texts=lambda _texts, s: sizes.append(s))
    chosen = asked(contender, Traffic(Case("short", OFFLINE, is_text=True), subject, EFFORT))
    assert chosen.size in STREAM_BATCHES
    assert set(sizes) == set(STREAM_BATCHES)
