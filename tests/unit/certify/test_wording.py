import pytest

from octavo.certify import wording
from octavo.types import Interval


@pytest.mark.parametrize(
    ("fraction", "written"), [(-0.0041, "−0.41"), (0.0028, "+0.28"), (0.0, "0.00"), (-0.00001, "0.00")]
)
def test_signed_points(fraction, written):
    assert wording.signed_points(fraction) == written


@pytest.mark.parametrize(("fraction", "written"), [(0.005, "0.50"), (0.00004, "0.004"), (0, "0.00")])
def test_points(fraction, written):
    assert wording.points(fraction) == written


def test_interval_points():
    assert wording.interval_points(Interval(0, -0.0041, 0.0028)) == "[−0.41, +0.28]"


@pytest.mark.parametrize(("ratio", "written"), [(13.2, "13×"), (9.96, "10×"), (2.61, "2.6×"), (0.47, "0.47×")])
def test_times(ratio, written):
    assert wording.times(ratio) == written


@pytest.mark.parametrize(
    ("ms", "written"), [(0.7421, "0.742"), (0.9996, "1.00"), (9.996, "10.0"), (12.34, "12.3"), (126.2, "126")]
)
def test_milliseconds_have_three_figures(ms, written):
    assert wording.milliseconds(ms) == written


@pytest.mark.parametrize(("size", "written"), [(23_400_000, "23.4"), (1_340_000_000, "1,340")])
def test_megabytes(size, written):
    assert wording.megabytes(size) == written


def test_count_and_percent():
    assert wording.count(1, "row") == "1 row"
    assert wording.count(4500, "row") == "4,500 rows"
    assert wording.count(1240, "query") == "1,240 queries"
    assert wording.percent(0.923) == "92%"
    assert wording.percent(-0.1) == "−10%"


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("accuracy", "accuracy"),
        ("f1", "F1"),
        ("ndcg@10", "nDCG@10"),
        ("mrr@10", "MRR@10"),
        ("map", "MAP"),
        ("auc", "AUC"),
        ("recall@10", "recall@10"),
        ("ndcg@10 with the teacher's documents", "nDCG@10 with the teacher's documents"),
        ("f1: person", "F1: person"),
        ("mapping", "mapping"),
        ("", ""),
    ],
)
def test_metrics_are_written_as_the_field_does(name, written):
    assert wording.metric_name(name) == written


def test_scores_are_hundredths_and_only_accuracies_are_percent():
    assert wording.score(0.896, "accuracy") == "89.60%"
    assert wording.score(0.6512, "ndcg@10", 1) == "65.1"
    assert wording.score_axis("accuracy") == "accuracy, %"
    assert wording.score_axis("f1") == "F1 × 100"
    assert wording.point_means("accuracy") == ""
    assert wording.point_means("ndcg@10") == "Points are hundredths of nDCG@10."


@pytest.mark.parametrize(
    ("phrase", "written"),
    [("accuracy", "Accuracy"), ("nDCG@10 with x", "nDCG@10 with x"), ("recall@10", "Recall@10"), ("", "")],
)
def test_headings_leave_the_names_of_metrics_alone(phrase, written):
    assert wording.heading(phrase) == written
