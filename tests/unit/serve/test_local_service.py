"""A service whole, over releases that are not real: answers, refusals, trials and the end.

The threads are real, and engines wait at gates, so that nothing here depends on how fast anything is.
"""

import asyncio
import gc
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from octavo.errors import EngineError
from octavo.serve.assembly import scheduler_from_settings
from octavo.serve.job import Job
from octavo.serve.local_service import LocalService
from octavo.serve.refusals import (
    BadRequest,
    DeadlineExceeded,
    Overloaded,
    TooLarge,
    Unavailable,
    UnknownModel,
)
from octavo.serve.routing import Route
from octavo.serve.scheduler import Scheduler
from octavo.serve.service import Request
from octavo.serve.settings import ServeSettings
from tests.unit.serve.fake_releases import FakeRegistry, Heard, engine_of, fake_release

SETTINGS = ServeSettings(Path("store"), max_queue_ms=60_000, max_batch_tokens=100, max_text_bytes=1000, grace_s=0)


@dataclass
class Serving:
    service: LocalService
    registry: FakeRegistry
    scheduler: Scheduler
    heard: Heard

    async def ask(self, *items, model="intents", **options):
        return await self.service.ask(Request(model, items, **options))

    def start(self, *items, **options):
        return asyncio.create_task(self.ask(*items, **options))


@asynccontextmanager
async def serving(*releases, settings=SETTINGS, workers=1, router=None, trials=()):
    heard = Heard()
    scheduler = scheduler_from_settings(replace(settings, workers=workers), heard)
    scheduler.start()
    registry = FakeRegistry({one.info.model: one for one in releases}, {one.info.model: one for one in trials})
    service = LocalService(registry, scheduler, settings, heard, router)
    try:
        yield Serving(service, registry, scheduler, heard)
    finally:
        for one in (*releases, *trials):
            engine_of(one).gate.set()
        await service.stop()
        assert [one.in_flight for one in (*releases, *trials)] == [0] * (len(releases) + len(trials))


async def at_work(release):
    """Wait until an engine has been given a batch."""
    assert await asyncio.to_thread(engine_of(release).waiting.acquire, timeout=10)


async def until(condition):
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came about")


def held(release):
    """Close the gate of a release's engine."""
    engine_of(release).gate.clear()
    return release


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 30))


def test_a_request_leaves_nothing_that_only_a_search_for_garbage_finds():
    async def go():
        gc.collect()
        gc.disable()
        try:
            async with serving(fake_release("7"), settings=replace(SETTINGS, max_queue_ms=50)) as s:
                for _ in range(20):
                    await s.ask("one", "three")
                await asyncio.sleep(0.06)  # the queue remembers what might have waited for too long
                await s.ask("one")
                assert sum(type(one) is Job for one in gc.get_objects()) <= 3
        finally:
            gc.enable()

    run(go())


def test_a_request_is_answered_item_by_item():
    async def go():
        async with serving(fake_release("7")) as s:
            reply = await s.ask("one", ["three", "seven"], "x")
            assert reply.answers == [3, [5, 5], 1]
            assert (reply.model, reply.version, reply.tokens, reply.cached) == ("intents", "7", 14, 0)
            assert len(reply.outputs) == 4
            assert s.heard.replies[0][0] is reply
            await until(lambda: s.heard.runs)
            assert [(r.sequences, r.tokens, r.padded_tokens) for r in s.heard.runs] == [(4, 14, 20)]

    run(go())


def test_raw_outputs_are_not_decoded():
    async def go():
        async with serving(fake_release()) as s:
            reply = await s.ask("four", "x", decode=False)
            assert reply.answers == []
            assert reply.outputs.values.tolist() == [[4], [1]]

    run(go())


@pytest.mark.parametrize("workers", [1, 3])
def test_many_at_once_get_their_own_answers(workers):
    async def go():
        async with serving(fake_release(), fake_release(model="ranks"), workers=workers) as s:
            await asyncio.gather(s.ask("x"), s.ask("x", model="ranks"))  # now both are measured
            asked = [["x" * (1 + (i * j) % 30) for j in range(1 + i % 7)] for i in range(200)]
            replies = await asyncio.gather(
                *(s.ask(*texts, model=("intents", "ranks")[i % 2], priority=i % 3) for i, texts in enumerate(asked))
            )
            assert [reply.answers for reply in replies] == [[len(text) for text in texts] for texts in asked]
            assert [reply.model for reply in replies] == ["intents", "ranks"] * 100
            assert max(r.tokens for r in s.heard.runs) <= SETTINGS.max_batch_tokens
            assert {m: (n, t) for m, n, t in s.heard.queue} == {"intents": (0, 0), "ranks": (0, 0)}
            assert max(n for _, n, _ in s.heard.queue) > 1

    run(go())


def test_a_large_request_is_split_over_batches_and_comes_back_whole():
    async def go():
        release = fake_release()
        async with serving(release, workers=2) as s:
            texts = ["x" * (1 + i % 40) for i in range(100)]
            reply = await s.ask(*texts)
            assert reply.answers == [len(text) for text in texts]
            assert len(s.heard.runs) > 10
            times = reply.timing
            assert times.compute_ms <= 1000 * s.heard.replies[0][1]
            assert min(times.queue_ms, times.tokenize_ms, times.compute_ms) >= 0

    run(go())


def test_what_arrives_while_an_engine_is_at_work_goes_together():
    async def go():
        release = held(fake_release())
        async with serving(release) as s:
            first = s.start("first")
            await at_work(release)
            others = [s.start(f"other {i}") for i in range(5)]
            await asyncio.sleep(0)
            engine_of(release).gate.set()
            await asyncio.gather(first, *others)
            assert [len(batch) for batch in engine_of(release).batches] == [1, 5]

    run(go())


def test_requests_for_two_models_in_turns_go_together_by_model():
    async def go():
        one, other = held(fake_release()), fake_release(model="ranks")
        async with serving(one, other) as s:
            first = s.start("first")
            await at_work(one)
            others = [s.start(f"{i}", model=("intents", "ranks")[i % 2]) for i in range(10)]
            await asyncio.sleep(0)
            engine_of(one).gate.set()
            await asyncio.gather(first, *others)
            assert [len(batch) for batch in engine_of(one).batches] == [1, 5]
            assert [len(batch) for batch in engine_of(other).batches] == [5]

    run(go())


def test_a_batch_waits_for_company_until_it_is_full():
    async def go():
        release = fake_release()
        async with serving(release, settings=replace(SETTINGS, batch_wait_ms=50_000)) as s:
            first = s.start("x" * 60)
            await until(lambda: s.heard.queue and s.heard.queue[-1] == ("intents", 1, 60))
            await asyncio.sleep(0.02)
            assert engine_of(release).batches == []
            second = s.start("y" * 40)
            await asyncio.gather(first, second)
            assert engine_of(release).batches == [["x" * 60, "y" * 40]]

    run(go())


def test_the_queue_rises_and_falls():
    async def go():
        release = held(fake_release())
        async with serving(release) as s:
            first = s.start("first")
            await at_work(release)
            others = [s.start("other") for _ in range(3)]
            await until(lambda: s.heard.queue[-1][1] == 3)
            assert s.heard.queue[-1][2] >= 3
            engine_of(release).gate.set()
            await asyncio.gather(first, *others)
            assert s.heard.queue[-1] == ("intents", 0, 0)

    run(go())


@pytest.mark.parametrize(
    ("items", "options", "refusal"),
    [
        (("x",), {"model": "nothing"}, UnknownModel),
        (("x",), {"version": "2"}, UnknownModel),
        (("unfit",), {}, BadRequest),
        ((), {}, BadRequest),
        (([],), {}, BadRequest),
        (("unreadable",), {}, BadRequest),
        (("panic",), {}, BadRequest),
        (("x" * 1001,), {}, TooLarge),
        (("é" * 501,), {}, TooLarge),
        (("x",) * 1025, {}, TooLarge),
        (("x" * 999,) * 70, {}, TooLarge),
        (("x",), {"deadline_s": 0.0}, DeadlineExceeded),
    ],
)
def test_what_cannot_be_answered_is_refused_and_the_rest_goes_on(items, options, refusal):
    async def go():
        async with serving(fake_release()) as s:
            refused, answered = await asyncio.gather(s.ask(*items, **options), s.ask("fine"), return_exceptions=True)
            assert type(refused) is refusal
            assert answered.answers == [4]
            named = "" if refusal is UnknownModel else "intents"
            assert s.heard.refusals == [(named, refusal.reason)]
            assert s.heard.queue[-1][1:] == (0, 0)

    run(go())


def test_an_unreadable_text_costs_its_neighbours_nothing():
    async def go():
        release = held(fake_release())
        async with serving(release) as s:
            first = s.start("first")
            await at_work(release)
            asked = [s.start(text) for text in ("a", "unreadable", "bc", "panic")]
            await asyncio.sleep(0)
            engine_of(release).gate.set()
            results = await asyncio.gather(first, *asked, return_exceptions=True)
            assert [type(r) if isinstance(r, Exception) else r.answers for r in results] == [
                *([5], [1], BadRequest, [2], BadRequest)
            ]

    run(go())


@pytest.mark.parametrize("error", [EngineError("The engine broke."), RuntimeError("no memory"), SystemExit(1)])
def test_an_engine_that_fails_is_told_and_the_worker_lives_on(error):
    async def go():
        release = fake_release(error=error)
        async with serving(release) as s:
            with pytest.raises(Unavailable, match=str(error)) as raised:
                await s.ask("x", "y" * 90, "z" * 90)
            assert raised.value.__cause__ is error
            engine_of(release).error = None
            assert (await s.ask("fine")).answers == [4]
            assert s.heard.queue[-1][1:] == (0, 0)

    run(go())


def test_a_decoder_that_fails_is_told(monkeypatch):
    async def go():
        release = fake_release()
        async with serving(release) as s:
            monkeypatch.setattr(release.info.task, "decode", lambda outputs, items: 1 / 0)
            for tasks in ([s.start("x")], [s.start("x"), s.start("y")]):
                for result in await asyncio.gather(*tasks, return_exceptions=True):
                    assert isinstance(result, Unavailable)

    run(go())


def test_a_client_that_left_is_not_computed_for():
    async def go():
        release = held(fake_release())
        async with serving(release) as s:
            first = s.start("first")
            await at_work(release)
            left, stayed = s.start("left"), s.start("stayed")
            await asyncio.sleep(0)
            left.cancel()
            await asyncio.wait([left])
            engine_of(release).gate.set()
            assert (await stayed).answers == [6]
            await first
            assert "left" not in engine_of(release).texts
            assert s.heard.queue[-1][1:] == (0, 0)

    run(go())


def test_the_rest_of_a_split_request_is_not_computed_once_its_client_left():
    async def go():
        release = held(fake_release())
        async with serving(release) as s:
            large = s.start(*["x" * 90] * 5)
            await at_work(release)
            large.cancel()
            await asyncio.wait([large])
            assert release.in_flight == 1, "the engine is still at work on it"
            engine_of(release).gate.set()
            await s.ask("next")
            assert [len(batch) for batch in engine_of(release).batches] == [1, 1]
            await until(lambda: release.in_flight == 0)

    run(go())


def test_a_deadline_is_kept_while_all_workers_are_at_work():
    async def go():
        release = held(fake_release())
        async with serving(release) as s:
            first = s.start("first")
            await at_work(release)
            with pytest.raises(DeadlineExceeded):
                await s.ask("hasty", deadline_s=time.monotonic() + 0.02)
            engine_of(release).gate.set()
            await first
            await s.ask("next")
            assert "hasty" not in engine_of(release).texts

    run(go())


def test_whoever_waits_too_long_is_refused_with_a_time_to_come_back():
    async def go():
        release = held(fake_release())
        async with serving(release, settings=replace(SETTINGS, max_queue_ms=30)) as s:
            first = s.start("first")
            await at_work(release)
            with pytest.raises(Overloaded) as raised:
                await s.ask("late")
            assert raised.value.retry_after_s > 0
            engine_of(release).gate.set()
            assert (await first).answers == [5], "what has begun is finished"

    run(go())


def test_before_anything_was_measured_a_number_of_requests_may_wait():
    async def go():
        release = held(fake_release())
        async with serving(release) as s:
            first = s.start("first")
            await at_work(release)
            asked = [s.start(f"{i}") for i in range(70)]
            await until(lambda: sum(task.done() for task in asked) == 6)
            assert all(isinstance(task.exception(), Overloaded) for task in asked if task.done())
            engine_of(release).gate.set()
            results = await asyncio.gather(first, *asked, return_exceptions=True)
            assert sum(not isinstance(result, Exception) for result in results) == 65

    run(go())


def test_known_outputs_are_not_computed_again():
    async def go():
        release = fake_release()
        async with serving(release, settings=replace(SETTINGS, cache_entries=10)) as s:
            first = await s.ask("a", "bb", "ccc")
            again = await s.ask("bb", "dddd", "a")
            whole = await s.ask("a", ["bb", "dddd"])
            assert [first.cached, again.cached, whole.cached] == [0, 2, 3]
            assert [first.answers, again.answers, whole.answers] == [[1, 2, 3], [2, 4, 1], [1, [2, 4]]]
            assert engine_of(release).texts == ["a", "bb", "ccc", "dddd"]
            assert whole.timing.compute_ms == 0
            assert again.tokens == 7

    run(go())


def test_answers_never_mix_versions_however_often_they_are_swapped():
    """Releases are replaced while requests of many parts are on their way; the answer tells which version made it."""

    async def go():
        releases = [fake_release(str(v), answer_of=lambda text, v=v: 1000 * v + len(text)) for v in range(1, 40)]
        async with serving(releases[0], workers=3) as s:

            async def ask_on():
                while not done:
                    reply = await s.ask(*["x" * 40] * 12)
                    assert reply.answers == [1000 * int(reply.version) + 40] * 12
                    seen.add(reply.version)

            done, seen = False, set()
            clients = [asyncio.create_task(ask_on()) for _ in range(8)]
            for new in releases[1:]:
                old = s.registry.serving("intents")
                before = len(s.heard.replies)
                await until(lambda before=before: len(s.heard.replies) > before + 4)
                s.registry.releases["intents"] = new
                assert await asyncio.to_thread(old.retire, 10.0)
            done = True
            await asyncio.gather(*clients)
            assert s.heard.refusals == []
            assert len(seen) > 10

    run(go())


# Trials.


@dataclass
class FakeRouter:
    """Sends everything one way, and remembers what it was told."""

    to_trial: bool = False
    shadows: bool = False
    told: list = field(default_factory=list)

    def route(self, model, serving, trial):
        return Route(trial if self.to_trial else serving, trial if self.shadows else None)

    def compared(self, model, request, reply, trial, seconds_old, seconds_new):
        self.told.append((reply, trial, seconds_old, seconds_new))


def test_a_canary_answers_where_the_router_says_and_a_version_may_be_asked_for():
    async def go():
        router = FakeRouter(to_trial=True)
        async with serving(fake_release("1"), trials=[fake_release("2")], router=router) as s:
            assert s.service.versions("intents") == ["1", "2"]
            assert s.service.model("intents", "2").version == "2"
            assert (await s.ask("x")).version == "2"
            assert (await s.ask("x", version="1")).version == "1"
            router.to_trial = False
            assert (await s.ask("x", version="2")).version == "2"
            with pytest.raises(UnknownModel, match="1, 2"):
                await s.ask("x", version="3")

    run(go())


def test_no_client_pays_for_a_canary_that_fails():
    async def go():
        router = FakeRouter(to_trial=True)
        trial = fake_release("2", error=EngineError("It broke."))
        async with serving(fake_release("1"), trials=[trial], router=router) as s:
            reply = await s.ask("x")
            assert reply.version == "1"
            [(told, error, *seconds)] = router.told
            assert told is reply
            assert isinstance(error, Unavailable)
            assert min(seconds) >= 0
            with pytest.raises(Unavailable):
                await s.ask("x", version="2")

    run(go())


def test_a_shadow_gets_copies_that_delay_nobody():
    async def go():
        router = FakeRouter(shadows=True)
        shadow = held(fake_release("2", answer_of=lambda text: -1))
        async with serving(fake_release("1"), trials=[shadow], router=router, workers=2) as s:
            assert (await s.ask("abc")).answers == [3]
            await at_work(shadow)
            assert (await s.ask("de")).answers == [2], "the shadow is still at work"
            engine_of(shadow).gate.set()
            await until(lambda: len(router.told) == 2)
            assert [(old.answers, new.answers) for old, new, *_ in router.told] == [([3], [-1]), ([2], [-1])]
            assert [reply.version for reply, _ in s.heard.replies] == ["1", "1"], "copies are no traffic"

    run(go())


def test_a_shadow_that_fails_is_told():
    async def go():
        router = FakeRouter(shadows=True)
        shadow = fake_release("2", error=EngineError("It broke."))
        async with serving(fake_release("1"), trials=[shadow], router=router) as s:
            reply = await s.ask("abc")
            await until(lambda: router.told)
            assert router.told[0][0] is reply
            assert isinstance(router.told[0][1], Unavailable)
            assert s.heard.refusals == []

    run(go())


def test_a_copy_that_there_was_no_time_for_is_not_told():
    async def go():
        def close_after_first(text):
            if text == "first":
                engine_of(one).gate.clear()
            return len(text)

        router = FakeRouter(shadows=True)
        one, shadow = fake_release("1", answer_of=close_after_first), fake_release("2")
        settings = replace(SETTINGS, max_queue_ms=30)
        async with serving(one, trials=[shadow], router=router, settings=settings) as s:
            held(one)
            first = s.start("first")
            await at_work(one)
            second = s.start("second")
            await asyncio.sleep(0)
            engine_of(one).gate.set()
            await first
            await until(lambda: "second" in engine_of(one).texts)
            await until(lambda: not s.service._copies)
            engine_of(one).gate.set()
            await second
            await until(lambda: router.told)
            assert [old.answers for old, *_ in router.told] == [[6]]
            assert engine_of(shadow).texts == ["second"]

    run(go())


# The end.


def test_a_service_that_stops_takes_requests_for_a_while_and_loses_none():
    async def go():
        release = held(fake_release())
        async with serving(release) as s:
            assert s.service.ready
            early = s.start("early")
            await at_work(release)
            stopping = asyncio.create_task(s.service.stop(grace_s=0.05))
            await asyncio.sleep(0)
            assert not s.service.ready
            late = s.start("late")
            await asyncio.sleep(0.1)
            with pytest.raises(Unavailable):
                await s.ask("too late")
            engine_of(release).gate.set()
            assert await stopping
            assert [(await early).answers, (await late).answers] == [[5], [4]]

    run(go())


def test_a_service_that_cannot_drain_refuses_what_is_left():
    async def go():
        release = held(fake_release())
        async with serving(release, settings=replace(SETTINGS, drain_s=0.05)) as s:
            stuck = s.start("stuck")
            await at_work(release)
            waiting = s.start("waiting")
            await asyncio.sleep(0)
            assert not await s.service.stop()
            with pytest.raises(Unavailable):
                await waiting
            engine_of(release).gate.set()
            await stuck

    run(go())


def test_a_service_is_ready_when_a_model_serves_and_the_store_was_tried():
    async def go():
        async with serving(fake_release()) as s:
            assert s.service.ready
            assert [info.model for info in s.service.models()] == ["intents"]
            s.registry.tried = False
            assert not s.service.ready
            s.registry.tried, s.registry.releases = True, {}
            assert not s.service.ready
            assert s.service.models() == []
            with pytest.raises(UnknownModel):
                s.service.versions("intents")

    run(go())


def test_a_text_that_is_to_stay_whole_is_refused_where_it_would_be_cut_and_others_are_not(monkeypatch):
    async def go():
        release = held(fake_release())
        monkeypatch.setattr(release.model.tokenizer, "max_length", 5)
        async with serving(release) as s:
            first = s.start("a")
            await at_work(release)
            # Read in one call: whoever is at fault is refused alone.
            others = [s.start("12345", whole=True), s.start("a", "123456", whole=True), s.start("123456")]
            await asyncio.sleep(0)
            engine_of(release).gate.set()
            with pytest.raises(TooLarge, match="Input 1 has 6 tokens, and the model reads 5"):
                await others[1]
            assert [(await one).answers for one in (first, others[0], others[2])] == [[1], [5], [5]]

    run(go())
