import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from octavo.tasks.probabilities import divergence, log_softmax, softmax

logits = arrays(np.float32, (4, 3), elements=st.floats(-(2.0**99), 2.0**99, width=32))
small = arrays(np.float32, (4, 3), elements=st.floats(-10, 10, width=32))


@settings(deadline=None)
@given(logits)
def test_probabilities_sum_to_one_and_do_not_overflow(values):
    probabilities = softmax(values)
    assert np.isfinite(probabilities).all()
    assert np.isfinite(log_softmax(values)).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.exp(log_softmax(values)), probabilities, rtol=1e-4, atol=1e-7)


@settings(deadline=None)
@given(small, small)
def test_divergence_is_the_textbook_sum(values, teacher):
    p, q = softmax(teacher), softmax(values)
    expected = (p * np.log(p / q)).sum(axis=1)
    np.testing.assert_allclose(divergence(values, teacher), expected, atol=1e-4, rtol=1e-3)
    assert (divergence(teacher, teacher) == 0).all()


@settings(deadline=None)
@given(logits)
def test_divergence_of_large_logits_is_finite(values):
    assert np.isfinite(divergence(values, values[::-1])).all()


def test_no_rows_have_no_probabilities():
    none = np.empty((0, 3), np.float32)
    assert softmax(none).shape == log_softmax(none).shape == (0, 3)
    assert divergence(none, none).shape == (0,)
