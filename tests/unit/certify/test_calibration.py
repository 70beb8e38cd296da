import numpy as np
import pytest

from octavo.certify.calibration import expected_calibration_error, score_shift
from octavo.errors import InputError


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
    teacher = np.array([[0.8, 0.1, 0.1], [0.5, 0.25, 0.25]], np.float32)
    engine = np.array([[0.6, 0.3, 0.1], [0.5, 0.25, 0.25]], np.float32)
    shift = score_shift(teacher, engine)
    assert shift.max == pytest.approx(0.2, abs=1e-6)
    assert shift.mean == pytest.approx(0.4 / 6, abs=1e-6)
    assert shift.total_variation == pytest.approx(0.1, abs=1e-6)


@pytest.mark.parametrize(
    "engine",
    [np.array([[0.6, 0.3]]), np.array([[1.2, -0.2]]), np.array([[0.5, 0.4], [0.5, 0.5]])],
    ids=["other sum", "negative", "one row of two"],
)
def test_only_probabilities_have_a_mass_that_moves(engine):
    teacher = np.full(engine.shape, 0.5)
    assert score_shift(teacher, engine).total_variation is None
    assert score_shift(teacher, engine).max == pytest.approx(np.abs(engine - teacher).max())


def test_one_score_a_row_is_no_distribution():
    assert score_shift(np.ones((3, 1)), np.ones((3, 1))).total_variation is None


@pytest.mark.parametrize(
    ("teacher", "engine"),
    [
        (np.zeros((2, 3)), np.zeros((2, 4))),
        (np.zeros(3), np.zeros(3)),
        (np.zeros((0, 3)), np.zeros((0, 3))),
        (np.zeros((1, 2)), np.array([[0.0, np.nan]])),
    ],
    ids=["shapes", "vectors", "empty", "nan"],
)
def test_score_shift_refuses(teacher, engine):
    with pytest.raises(InputError):
        score_shift(teacher, engine)
