from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from octavo.search.index import open_index
from octavo.search.web.examples import examples_from_index


def test_examples_are_plain_sentences_of_documents(build: Callable[..., Any]) -> None:
    texts = {
        "a": "Play music in the house. Turn the music off again. See also: volume.",
        "b": "说明。打开厨房的灯。",
        "c": "mpc -q --wait",
    }
    index = open_index(build(texts).folder)
    assert examples_from_index(index) == ["Turn the music off again", "打开厨房的灯"]


def test_a_large_index_gives_few_examples(build: Callable[..., Any]) -> None:
    names = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    texts = {f"{a}-{b}": f"Play the song {a} and {b}" for a in names for b in names}
    assert len(examples_from_index(open_index(build(texts).folder), most=5)) == 5


def test_an_empty_index_gives_none() -> None:
    index: Any = SimpleNamespace(manifest=SimpleNamespace(next_number=0), documents=lambda numbers: {})
    assert examples_from_index(index) == []
