"""`Task.likeness`: what two versions' outputs to the same inputs have in common."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.tasks.base import Reads
from octavo.tasks.classify import Classify
from octavo.tasks.embed import Embed
from octavo.tasks.rank import Rank
from octavo.tasks.tag import Tag
from octavo.types import Outputs

CLASSIFY = Classify(("a", "b", "c"))
TAG = Tag(("O", "B-x", "I-x"))
TAG_AND_INTENT = Tag(("O", "B-x"), ("go", "stop"))
EMBED = Embed(Reads.MEAN, dimensions=4)
RANK = Rank()
WIDTHS = {CLASSIFY: 3, TAG: 3, TAG_AND_INTENT: 4, EMBED: 4, RANK: 1}


def _outputs(*inputs):
    rows = [np.atleast_2d(np.array(one, np.float32)) for one in inputs]
    return Outputs(np.concatenate(rows), np.cumsum([0, *map(len, rows)]))


@st.composite
def _of_a_task(draw):
    task = draw(st.sampled_from(list(WIDTHS)))
    several = task in (TAG, TAG_AND_INTENT)
    counts = draw(st.lists(st.integers(1, 4 if several else 1), min_size=1, max_size=5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows = [rng.normal(size=(count, WIDTHS[task])) * draw(st.sampled_from([0.1, 3, 100])) for count in counts]
    return task, _outputs(*rows), rng


@given(_of_a_task())
def test_outputs_are_wholly_like_themselves(drawn):
    task, outputs, _ = drawn
    agreement, drift = task.likeness(outputs, outputs)
    assert agreement.shape == drift.shape == (len(outputs),)
    np.testing.assert_allclose(agreement, 1, atol=1e-5)
    np.testing.assert_allclose(drift, 0, atol=1e-5)


@given(_of_a_task(), st.sampled_from([0.01, 1, 30, np.nan, np.inf]))
def test_likeness_lies_between_0_and_1_whatever_an_engine_puts_out(drawn, noise):
    task, outputs, rng = drawn
    with np.errstate(all="ignore"):
        noisy = Outputs((outputs.values + noise * rng.normal(size=outputs.values.shape)).astype("f4"), outputs.offsets)
        for value in task.likeness(outputs, noisy):
            assert ((value >= 0) & (value <= 1)).all()


def test_of_what_is_not_a_number_nothing_agrees():
    for task, width in WIDTHS.items():
        old, new = (_outputs(*np.full((3, 1, width), value)) for value in (0.5, np.nan))
        if task is TAG:  # one row each: no word was read, so that nothing differs
            continue
        with np.errstate(all="ignore"):
            agreement, drift = task.likeness(old, new)
        assert agreement.tolist() == [0, 0, 0], task
        assert drift.tolist() == [1, 1, 1], task


def test_labels_agree_by_the_largest_logit():
    agreement, drift = CLASSIFY.likeness(_outputs([2, 1, 0], [2, 1, 0]), _outputs([2.1, 1, 0], [1, 2, 0]))
    assert agreement.tolist() == [1, 0]
    assert 0 < drift[0] < 0.03 < drift[1]


def test_a_sentence_agrees_where_all_its_words_do():
    old = _outputs([[9, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 9, 0], [0, 1, 0]])
    new = _outputs([[0, 0, 9], [1, 0, 0], [1, 0, 0]], [[9, 0, 0], [0, 2, 0]])
    agreement, drift = TAG.likeness(old, new)
    assert agreement.tolist() == [0, 1]  # the first rows are about nothing, and do not count
    assert drift[0] > 0
    assert drift[1] > 0


def test_a_sentence_agrees_where_its_intent_does_too():
    words = [1, 0, 5, -5]  # the last two are an intent's, of which words know nothing
    old = _outputs([[0, 9, 1, 0], words], [[0, 9, 1, 0], words])
    new = _outputs([[9, 0, 2, 0], words], [[9, 0, 0, 1], [1, 0, -5, 5]])
    assert TAG_AND_INTENT.likeness(old, new)[0].tolist() == [1, 0]


def test_words_that_one_version_did_not_read_are_not_compared():
    old = _outputs([[0, 0, 0], [1, 0, 0]], [[0, 0, 0], [1, 0, 0]])
    new = _outputs([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 0, 0]])
    agreement, drift = TAG.likeness(old, new)
    assert agreement.tolist() == [1, 1]
    assert drift.tolist() == [0, 0]


def test_vectors_agree_by_their_cosine():
    old, new = _outputs([1, 0, 0, 0], [1, 0, 0, 0]), _outputs([2, 0, 0, 0], [0, 1, 0, 0])
    agreement, drift = EMBED.likeness(old, new)
    assert agreement.tolist() == [1, 0]
    assert drift.tolist() == [0, 1]
    # Where lengths count, one of another length has moved.
    assert Embed(similarity="dot", dimensions=4).likeness(old, new)[1][0] == 0.5


def test_rankings_agree_by_the_first_documents_that_stay():
    old = _outputs(*[[score] for score in (9, 8, 7, 1, 0)])
    new = _outputs(*[[score] for score in (7, 8, 1, 9, 0)])
    agreement, _ = RANK.likeness(old, new)
    assert agreement.tolist() == pytest.approx([2 / 3] * 5)


def test_a_document_alone_agrees_by_its_side():
    for after, agrees in ((0.1, 1), (-0.1, 0)):
        assert RANK.likeness(_outputs([2.0]), _outputs([after]))[0].tolist() == [agrees]
