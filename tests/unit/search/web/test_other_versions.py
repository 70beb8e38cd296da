import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from octavo.search.direct import DirectService
from octavo.search.web.other_versions import OtherVersions
from octavo.serve.refusals import BadRequest, Overloaded, UnknownModel
from octavo.serve.service import Request
from octavo.store.model import Model


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(coroutine)


def test_a_version_is_loaded_once_answers_and_stays_for_the_next(service: DirectService, store: Path) -> None:
    async def compare() -> None:
        others = OtherVersions(service, store)
        async with others.held({"classify": "1"}) as first, others.held({"classify": "1"}) as second:
            reply = await first.ask(Request("classify", ["play some music"], "1"))
            assert reply.version == "1"
            assert second.model("classify", "1").precision == "fp32"
            assert list(second.versions("classify")) == ["2", "1"]
            assert (await first.ask(Request("classify", ["play some music"]))).version == "2"
        assert others.loaded() == [("classify", "1")]

    run(compare())


def test_what_serves_is_not_loaded_again(service: DirectService, store: Path) -> None:
    async def compare() -> None:
        others = OtherVersions(service, store)
        async with others.held({"classify": "2"}) as held:
            assert held is service
        assert others.loaded() == []

    run(compare())


def test_for_fair_times_what_serves_is_loaded_here_as_well(service: DirectService, store: Path) -> None:
    async def compare() -> None:
        others = OtherVersions(service, store)
        for version in ("1", "2"):
            async with others.held({"classify": version}, beside=True) as held:
                assert held is not service
                assert list(held.versions("classify")) == (["2", "1"] if version == "1" else ["2"])
                assert (await held.ask(Request("classify", ["play some music"], version))).version == version
        assert others.loaded() == [("classify", "1"), ("classify", "2")]

    run(compare())


def test_the_one_that_was_used_longest_ago_makes_room(service: DirectService, store: Path) -> None:
    async def compare() -> None:
        clock = Clock()
        others = OtherVersions(service, store, clock=clock)
        for model in ("classify", "tag", "rank"):
            clock.now += 1
            async with others.held({model: "1"}):
                pass
        assert others.loaded() == [("rank", "1"), ("tag", "1")]

    run(compare())


def test_versions_in_use_are_not_taken_away(service: DirectService, store: Path) -> None:
    async def compare() -> None:
        others = OtherVersions(service, store)
        async with others.held({"classify": "1", "tag": "1"}):
            with pytest.raises(Overloaded, match="classify 1, tag 1"):
                async with others.held({"rank": "1"}):
                    pass
        async with others.held({"rank": "1"}):
            pass

    run(compare())


def test_an_idle_version_is_unloaded(service: DirectService, store: Path) -> None:
    async def compare() -> None:
        others = OtherVersions(service, store, idle_s=0.0)
        async with others.held({"classify": "1"}):
            pass
        async with asyncio.timeout(10):
            while others.loaded():
                await asyncio.sleep(0.001)

    run(compare())


def test_a_comparison_that_is_cancelled_leaves_what_it_loaded_to_others(service: DirectService, store: Path) -> None:
    async def compare() -> None:
        others = OtherVersions(service, store)

        async def hold() -> None:
            async with others.held({"classify": "1"}):
                await asyncio.sleep(60)

        task = asyncio.create_task(hold())
        await asyncio.sleep(0)
        task.cancel()
        async with others.held({"classify": "1"}) as held:
            assert held.model("classify", "1").version == "1"

    run(compare())


def test_what_cannot_be_loaded_is_refused_and_can_be_tried_again(service: DirectService, store: Path) -> None:
    async def compare() -> None:
        others = OtherVersions(service, store)
        file = store / "classify" / "1" / "model.onnx"
        content = file.read_bytes()
        file.write_bytes(content[:-1])
        with pytest.raises(BadRequest, match="cannot be compared"):
            async with others.held({"classify": "1"}):
                pass
        file.write_bytes(content)
        async with others.held({"classify": "1"}):
            assert others.loaded() == [("classify", "1")]

    run(compare())


def test_what_is_not_there_is_unknown(service: DirectService, store: Path) -> None:
    async def compare() -> None:
        others = OtherVersions(service, store)
        for wanted in ({"classify": "9"}, {"nobody": "1"}, {"classify": "current"}):
            with pytest.raises(UnknownModel):
                async with others.held(wanted):
                    pass

    run(compare())


def test_at_the_end_all_are_closed_one_that_is_still_being_loaded_too(
    service: DirectService, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []
    close = Model.close
    monkeypatch.setattr(Model, "close", lambda model: (closed.append(model.release.model), close(model)))

    async def compare() -> None:
        others = OtherVersions(service, store)
        async with others.held({"classify": "1"}):
            pass

        async def hold() -> None:
            async with others.held({"tag": "1"}):
                pass

        task = asyncio.create_task(hold())
        await asyncio.sleep(0)
        task.cancel()
        assert closed == []
        await others.close()
        assert (others.loaded(), sorted(closed)) == ([], ["classify", "tag"])

    run(compare())
