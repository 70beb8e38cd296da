import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics import f1_score
from seqeval.scheme import IOB2, Entities

from octavo.tasks.entities import Entity, Iob2, entities_from_spans, f1

TAGS = ("O", "I-a", "B-a", "B-a-b", "I-a-b", "B-时间", "I-时间", "B-B", "I-B", "B-I-O", "I-I-O")
sentences = st.lists(st.lists(st.sampled_from(TAGS), min_size=1, max_size=9), min_size=1, max_size=6)


def _flat(sequences):
    offsets = np.concatenate([[0], np.cumsum([len(s) for s in sequences])]).astype(np.int64)
    return np.array([TAGS.index(tag) for s in sequences for tag in s], np.int64), offsets


def _entities(sequences):
    iob2 = Iob2.from_tags(TAGS)
    tags, offsets = _flat(sequences)
    words = [[f"w{i}" for i in range(len(s))] for s in sequences]
    return entities_from_spans(iob2.spans(tags, offsets), iob2.types, words, offsets)


def _measure(predicted, truth):
    iob2 = Iob2.from_tags(TAGS)
    tags, offsets = _flat(predicted)
    return f1(iob2.spans(tags, offsets), iob2.spans(_flat(truth)[0], offsets), offsets)


def _check_against_seqeval(truth, predicted):
    for sequences in (truth, predicted):
        theirs = [{(e.tag, e.start, e.end) for e in found} for found in Entities(sequences, IOB2).entities]
        ours = [{(e.type, e.start, e.end) for e in found} for found in _entities(sequences)]
        assert ours == theirs
    measure = _measure(predicted, truth)
    if measure.weights.any():
        expected = f1_score(truth, predicted, mode="strict", scheme=IOB2, zero_division=0)
        assert measure.value == pytest.approx(expected, abs=1e-6)
    else:
        assert measure.value == 1.0


@given(sentences, st.data())
def test_entities_and_f1_are_those_of_seqeval(truth, data):
    predicted = [data.draw(st.lists(st.sampled_from(TAGS), min_size=len(s), max_size=len(s))) for s in truth]
    _check_against_seqeval(truth, predicted)


def test_entities_and_f1_are_those_of_seqeval_in_bulk():
    rng = np.random.default_rng(0)
    for tags, change in ((TAGS, 0.5), (TAGS[:3], 0.5), (TAGS[1:], 0.1), (TAGS, 0.02)):
        truth = [list(rng.choice(tags, size)) for size in rng.integers(1, 25, 1000)]
        predicted = [[rng.choice(tags) if rng.random() < change else str(tag) for tag in s] for s in truth]
        _check_against_seqeval([list(map(str, s)) for s in truth], [list(map(str, s)) for s in predicted])


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("O B-a I-a O", [("a", 1, 3)]),
        ("B-a B-a I-a", [("a", 0, 1), ("a", 1, 3)]),
        ("I-a I-a B-a", [("a", 2, 3)]),
        ("B-a I-a-b I-a", [("a", 0, 1)]),
        ("B-a O I-a", [("a", 0, 1)]),
        ("B-I-O I-I-O", [("I-O", 0, 2)]),
        ("O", []),
    ],
)
def test_an_orphan_is_no_entity(tags, spans):
    (found,) = _entities([tags.split()])
    assert [(e.type, e.start, e.end) for e in found] == spans


def test_no_entity_crosses_sentences():
    first, second = _entities([["O", "B-a"], ["I-a", "B-a"]])
    assert first == (Entity("a", 1, 2, "w1"),)
    assert second == (Entity("a", 1, 2, "w1"),)


def test_f1_is_counted_in_sentences():
    truth = [["B-a", "I-a"], ["B-a", "O"], ["O", "O"], ["B-a", "B-a"]]
    predicted = [["B-a", "I-a"], ["B-a", "I-a"], ["O", "O"], ["B-a-b", "B-a"]]
    measure = _measure(predicted, truth)
    assert measure.name == "f1"
    assert measure.gains.tolist() == [2, 0, 0, 2]
    assert measure.weights.tolist() == [2, 2, 0, 4]


def test_sentences_without_words_have_no_entities():
    iob2 = Iob2.from_tags(TAGS)
    offsets = np.array([0, 0, 2, 2, 3, 3])
    spans = iob2.spans(np.array([2, 1, 1]), offsets)
    assert entities_from_spans(spans, iob2.types, [(), ("x", "y"), (), ("z",), ()], offsets) == [
        (),
        (Entity("a", 0, 2, "x y"),),
        (),
        (),
        (),
    ]
    none = iob2.spans(np.array([], np.int64), np.array([0, 0]))
    assert f1(none, none, np.array([0, 0])).weights.tolist() == [0]
