"""Which shapes are prepared before a release serves."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from octavo.engines.open import Backend
from octavo.serve.warm_up import even_batches, warm_up
from octavo.text.batch import TokenBatch
from octavo.text.buckets import Shape, shape_of


@dataclass
class Warmed:
    """A model whose engine notes what it is warmed up with."""

    backend: Backend
    config: Any = field(default_factory=lambda: SimpleNamespace(max_length=16))
    batches: list[TokenBatch] = field(default_factory=list)

    @property
    def engine(self) -> Any:
        return SimpleNamespace(warm_up=self.batches.extend)


def shapes(max_length: int, max_batch_tokens: int) -> list[Shape]:
    return [shape_of(batch) for batch in even_batches(max_length, max_batch_tokens)]


@pytest.mark.parametrize("length", [4, 8, 12, 16])
def test_every_batch_of_equally_long_sequences_finds_the_parts_of_its_shape_prepared(length):
    prepared = shapes(16, 256)
    for sequences in range(2, 256 // length + 1):
        tokens, *others = shape_of(TokenBatch.from_sequences([range(length)] * sequences))
        assert tokens in {shape[0] for shape in prepared}
        assert others in [list(shape[1:]) for shape in prepared]


def test_batches_stay_within_the_budget_are_few_and_none_comes_twice():
    batches = even_batches(256, 1024)
    assert max(batch.tokens for batch in batches) <= 1024
    assert len(set(map(shape_of, batches))) == len(batches) < 200
    assert shapes(16, 10) == [(8, 2, 4)]


def test_only_engines_that_are_bound_to_shapes_are_warmed_up():
    openvino, native = Warmed(Backend.OPENVINO), Warmed(Backend.NATIVE)
    warm_up(openvino, 64)
    warm_up(native, 64)
    assert [shape_of(batch) for batch in openvino.batches] == shapes(16, 64)
    assert native.batches == []
