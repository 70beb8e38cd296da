import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.store.contents import input_from_json, input_json
from octavo.types import Pair, Words, texts_of_input

_texts = st.text(max_size=8)
_inputs = _texts | st.builds(Pair, _texts, _texts) | st.builds(Words, st.lists(_texts, max_size=4).map(tuple))


@given(_inputs)
def test_an_input_comes_back_from_json(item):
    assert input_from_json(json.loads(json.dumps(input_json(item)))) == item


@pytest.mark.parametrize(
    ("item", "texts"),
    [
        ("red shoes", ("red shoes",)),
        (Pair("red", "shoes"), ("red", "shoes")),
        (Words(("red", "shoes")), ("red shoes",)),
    ],
)
def test_the_texts_of_an_input(item, texts):
    assert texts_of_input(item) == texts
