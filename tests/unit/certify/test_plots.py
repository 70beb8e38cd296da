import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.certify.plots.drawing import NARROW, WIDE, round_ticks, text_width
from octavo.certify.plots.intervals import Span, forest, interval_bar
from octavo.certify.plots.latencies import Latencies, latency_histogram
from octavo.certify.plots.scatter import Point, scatter
from octavo.types import Interval


def svgs(figure):
    return {int(svg.get("viewBox").split()[2]): svg for svg in ET.fromstring(f"<div>{figure}</div>").iter("svg")}


def numbers_of(svg):
    """Every coordinate of lines, rectangles and circles."""
    for element in svg.iter():
        for name in ("x", "y", "x1", "x2", "y1", "y2", "cx", "cy"):
            if (value := element.get(name)) is not None:
                yield name, float(value)


def assert_inside(svg):
    width, height = (float(v) for v in svg.get("viewBox").split()[2:])
    for name, value in numbers_of(svg):
        assert -0.1 <= value <= (width if "x" in name else height) + 0.1, (name, value)


def label_boxes(svg):
    for text in svg.iter("text"):
        if not text.get("class").startswith(("label", "caption")):
            continue
        x, y, length = float(text.get("x")), float(text.get("y")), text_width(text.text)
        left = {"start": x, "middle": x - length / 2, "end": x - length}[text.get("text-anchor")]
        yield text.text, left, left + length, y - 11, y + 2


def crowd(count):
    marks = ["pass", "inconclusive", "fail"]
    return [Point(f"int8-rung-{i}", 1.0 + 0.004 * i, 0.9 - 0.0004 * i, marks[i % 3], i == 0) for i in range(count)]


@pytest.mark.parametrize("count", [1, 4, 9])
def test_labels_of_crowded_points_do_not_overlap(count):
    baselines = [Point("OpenVINO FP32", 3.4, 0.9, "baseline"), Point("PyTorch FP32", 9.6, 0.9, "baseline")]
    for width, svg in svgs(scatter([*crowd(count), *baselines], 0.9, 0.005, metric="accuracy")).items():
        boxes = [b for b in label_boxes(svg) if "ms per query" not in b[0] and not b[0].endswith("%")]
        assert len(boxes) == count + 4
        for i, (name, left, right, top, bottom) in enumerate(boxes):
            assert left >= 0, (width, name)
            assert right <= width, (width, name)
            for other, left2, right2, top2, bottom2 in boxes[:i]:
                apart = left >= right2 or left2 >= right or top >= bottom2 or top2 >= bottom
                assert apart, (width, name, other)


def test_faster_is_left_and_better_is_up():
    points = [Point("slow", 10.0, 0.8, "pass"), Point("fast", 1.0, 0.9, "pass")]
    for svg in svgs(scatter(points, 0.9, 0.01, metric="accuracy")).values():
        slow, fast = [(float(c.get("cx")), float(c.get("cy"))) for c in svg.iter("circle")]
        assert fast[0] < slow[0]
        assert fast[1] < slow[1]


def test_every_figure_is_drawn_for_page_and_phone_and_can_be_announced():
    span = Span("int8-qat", Interval(-0.001, -0.004, 0.002), "pass", True)
    edges = [1, 2, 4, 8]
    figures = [
        scatter(crowd(3), 0.9, 0.005, metric="accuracy"),
        forest([span], 0.005),
        latency_histogram([Latencies("int8-qat", [1, 5, 2], 2.5, 7.0)], edges),
    ]
    identifiers = []
    for figure in figures:
        drawn = svgs(figure)
        assert set(drawn) == {WIDE, NARROW}
        for svg in drawn.values():
            assert svg.get("role") == "img"
            labels = svg.get("aria-labelledby").split()
            assert {svg.find("title").get("id"), svg.find("desc").get("id")} == set(labels)
            assert svg.find("desc").text
            identifiers += labels
            assert_inside(svg)
    assert len(identifiers) == len(set(identifiers))


@given(
    st.lists(
        st.tuples(st.floats(-1, 1), st.floats(0, 0.3), st.floats(0, 0.3)).map(
            lambda t: Interval(t[0], max(-1, t[0] - t[1]), min(1, t[0] + t[2]))
        ),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from([0.001, 0.005, 0.05, 0.5]),
)
def test_forest_stays_within_its_frame_whatever_the_intervals(differences, margin):
    for svg in svgs(forest([Span("r", d, "fail") for d in differences], margin)).values():
        assert_inside(svg)


def test_an_interval_beyond_the_axis_ends_in_an_arrow():
    near = Span("near", Interval(0, -0.004, 0.004), "pass")
    far = Span("far", Interval(-0.4, -0.42, -0.38), "fail")
    assert 'class="arrow' not in forest([near], 0.005)
    assert "arrow fail" in forest([near, far], 0.005)


def test_margin_is_left_of_zero():
    for svg in svgs(forest([Span("r", Interval(0, -0.004, 0.004), "pass")], 0.005)).values():
        at = {line.get("class"): float(line.get("x1")) for line in svg.iter("line")}
        assert at["margin"] < at["zero"]


def test_histogram_height_follows_the_counts():
    figure = latency_histogram([Latencies("a", [0, 10, 5], 1.5, 3.0, chosen=True)], [1, 2, 3, 4])
    for svg in svgs(figure).values():
        (outline,) = [p.get("d") for p in svg.iter("path")]
        heights = [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", outline)]
        base = heights[0]
        tall = [base - y for y in heights[1::2]][:3]
        assert tall[0] == pytest.approx(0)
        assert tall[1] == pytest.approx(2 * tall[2], rel=0.01)


def test_colours_are_left_to_the_style_sheet():
    figure = forest([Span("r", Interval(0, -0.004, 0.004), "pass")], 0.005)
    assert "#" not in figure
    assert "fill=" not in figure
    assert "stroke=" not in figure


def test_names_are_escaped():
    assert "<b>" not in forest([Span("<b>", Interval(0, -0.004, 0.004), "pass")], 0.005)


def test_interval_bar_clips_to_its_reach():
    bar = ET.fromstring(interval_bar(Interval(-0.5, -0.9, 0.9), reach=0.1))
    assert_inside(bar)


@given(st.floats(-1, 1), st.floats(1e-4, 2))
def test_ticks_are_few_and_inside(low, span):
    ticks = round_ticks(low, low + span, 5)
    assert 1 <= len(ticks) <= 8
    assert all(low - 1e-9 <= t <= low + span + 1e-9 for t in ticks)
