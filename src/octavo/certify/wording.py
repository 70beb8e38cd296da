"""How numbers and metrics are written for people: points, times, milliseconds, megabytes. Knows nothing else."""

from __future__ import annotations

import re

from octavo.types import Interval

BASELINE_NAMES = {"torch_fp32": "PyTorch FP32", "openvino_fp32": "OpenVINO FP32"}
_METRIC_NAMES = {"f1": "F1", "ndcg": "nDCG", "mrr": "MRR", "map": "MAP", "auc": "AUC"}


def points(fraction: float) -> str:
    """Write a size in points: 0.005 as '0.50', 0.00004 as '0.004'."""
    value = fraction * 100
    return f"{value:.2f}" if value >= 0.01 or value == 0 else f"{value:.1g}"


def signed_points(fraction: float) -> str:
    """Write a difference in points, with a true minus: -0.0041 as '−0.41'."""
    value = round(fraction * 100, 2)
    return "0.00" if value == 0 else f"{value:+.2f}".replace("-", "−")


def interval_points(interval: Interval) -> str:
    """Write the bounds of a difference in points: '[−0.41, +0.28]'."""
    return f"[{signed_points(interval.low)}, {signed_points(interval.high)}]"


def percent(fraction: float, digits: int = 0) -> str:
    """Write a share: 0.923 as '92%'."""
    return f"{fraction * 100:.{digits}f}%".replace("-", "−")


def times(ratio: float) -> str:
    """Write a ratio: 13.2 as '13×', 2.61 as '2.6×', 0.47 as '0.47×'."""
    if ratio >= 9.95:
        return f"{ratio:.0f}×"
    return f"{ratio:.1f}×" if ratio >= 0.995 else f"{ratio:.2f}×"


def milliseconds(ms: float) -> str:
    """Write a latency with three figures and without its unit: '0.742', '12.3', '126'."""
    if ms >= 99.95:
        return f"{ms:.0f}"
    if ms >= 9.995:
        return f"{ms:.1f}"
    return f"{ms:.2f}" if ms >= 0.9995 else f"{ms:.3f}"


def megabytes(size_bytes: int) -> str:
    """Write a size in millions of bytes and without its unit: '23.4'."""
    value = size_bytes / 1e6
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.1f}"


def plural(noun: str) -> str:
    """Write a noun for several: 'row' as 'rows', 'query' as 'queries'."""
    return f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"


def count(number: int, noun: str) -> str:
    """Write a counted noun: '1 row', '4,500 queries'."""
    return f"{number:,} {noun if number == 1 else plural(noun)}"


def metric_name(name: str) -> str:
    """Write a metric as the field does: 'ndcg@10' as 'nDCG@10', 'f1: person' as 'F1: person'."""
    metric, rest = re.match(r"([a-z0-9]*)(.*)", name, re.DOTALL).groups()  # type: ignore[union-attr]
    return _METRIC_NAMES.get(metric, metric) + rest


def heading(phrase: str) -> str:
    """Write a phrase as a heading begins: 'accuracy' as 'Accuracy', but 'nDCG@10' as it is."""
    first_word = phrase.split(" ")[0]
    return phrase[:1].upper() + phrase[1:] if first_word == first_word.lower() else phrase


def score(fraction: float, metric: str, digits: int = 2) -> str:
    """Write a score in hundredths: an accuracy of 0.896 as '89.60%', an nDCG of 0.6512 as '65.12'."""
    return percent(fraction, digits) if metric == "accuracy" else f"{fraction * 100:.{digits}f}"


def score_axis(metric: str) -> str:
    """Name an axis of `score`s."""
    return f"{metric_name(metric)}{', %' if metric == 'accuracy' else ' × 100'}"


def point_means(metric: str) -> str:
    """Say what a point is, where that is not a percentage point."""
    return "" if metric == "accuracy" else f"Points are hundredths of {metric_name(metric)}."
