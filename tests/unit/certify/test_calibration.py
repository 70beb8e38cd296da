import numpy as np
import pytest

from octavo.certify.calibration import expected_calibration_error, score_shift, softmax
from octavo.errors import InputError


def logits_of(*probabilities):
    return np.log(np.array(probabilities, np.float32))


def test_softmax_inverts_the_logarithm_and_survives_large_logits():
    expected = [[0.7, 0.2, 0.1], [0.25, 0.5, 0.25]]
    np.testing.assert_allclose(softmax(logits_of(*expected) + 1000), expected, atol=1e-4)


@pytest.mark.parametrize(
    "logits",
    [np.zeros(3, np.float32), np.zeros((3, 1), np.float32), np.array([[0.0, np.nan]], np.float32)],
    ids=["vector", "one class", "nan"],
)
def test_softmax_refuses(logits):
    with pytest.raises(InputError):
        softmax(logits)


def test_calibration_error_is_zero_where_confidence_is_accuracy():
    confidence = np.repeat([0.75, 1.0], 4)
    correct = np.array([1, 1, 1, 0, 1, 1, 1, 1])
    assert expected_calibration_error(confidence, correct) == pytest.approx(0)


def test_calibration_error_weighs_bins_by_their_rows():
    confidence = np.array([0.9, 0.9, 0.9, 0.3])
    correct = np.array([0, 0, 0, 1])
    assert expected_calibration_error(confidence, correct) == pytest.approx((3 * 0.9 + 0.7) / 4)


def test_calibration_error_does_not_cancel_between_bins():
    assert expected_calibration_error(np.array([0.9, 0.1]), np.array([0, 1])) == pytest.approx(0.9)


def test_calibration_error_refuses_other_shapes():
    with pytest.raises(InputError):
        expected_calibration_error(np.zeros(3), np.zeros(2))


def test_score_shift():
    teacher = logits_of([0.8, 0.1, 0.1], [0.5, 0.25, 0.25])
    engine = logits_of([0.6, 0.3, 0.1], [0.5, 0.25, 0.25])
    shift = score_shift(teacher, engine)
    assert shift.max == pytest.approx(0.2, abs=1e-6)
    assert shift.mean == pytest.approx(0.4 / 6, abs=1e-6)
    assert shift.total_variation == pytest.approx(0.1, abs=1e-6)


def test_a_constant_added_to_the_logits_shifts_nothing():
    teacher = logits_of([0.8, 0.2], [0.4, 0.6])
    assert score_shift(teacher, teacher + 3).max == pytest.approx(0, abs=1e-6)


def test_score_shift_refuses_other_shapes():
    with pytest.raises(InputError):
        score_shift(np.zeros((2, 3), np.float32), np.zeros((2, 4), np.float32))
