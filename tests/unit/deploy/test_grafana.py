"""The dashboard asks for metrics that the service has, by labels that they have."""

import json
import re
from pathlib import Path

import pytest

from octavo.serve.metrics import Metrics

DASHBOARD = json.loads((Path(__file__).parents[3] / "deploy/grafana/octavo.json").read_text("utf-8"))
PANELS = [(panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel["targets"]]
_METRIC = re.compile(r"\b(?:octavo|process)_[a-z_0-9]+")
_LABELS = re.compile(r"\{([^{}]*)\}|\bby \(([^()]*)\)")


def _labels_by_metric() -> dict[str, set[str]]:
    """Every sample's name with the labels of its metric, of a service that has not been asked anything."""
    known = {"octavo_serving_info": {"model", "version", "task", "engine", "precision", "verdict"}}
    for collector in Metrics()._registry._collector_to_names.items():
        labels = set(getattr(collector[0], "_labelnames", ()))
        known |= {name: labels | {"le"} for name in collector[1]}
    return known


KNOWN = _labels_by_metric()


@pytest.mark.parametrize(("title", "expression"), PANELS)
def test_every_metric_of_the_dashboard_exists_with_its_labels(title, expression):
    metrics = _METRIC.findall(expression)
    assert metrics
    for metric in metrics:
        assert metric in KNOWN, f"{title}: {metric}"
    used = {
        re.split(r"[=!~]", part, maxsplit=1)[0].strip()
        for pair in _LABELS.findall(expression)
        for part in re.sub(r'"[^"]*"', '""', pair[0] or pair[1]).split(",")
        if part.strip()
    }
    assert used <= set.intersection(*(KNOWN[metric] for metric in metrics)), title


def test_all_that_the_service_counts_is_on_the_dashboard():
    shown = {metric for _, expression in PANELS for metric in _METRIC.findall(expression)}
    families = {family.name for family in Metrics()._registry.collect() if family.name.startswith("octavo_")}
    assert {name for name in families if not any(metric.startswith(name) for metric in shown)} == set()


def test_panels_do_not_overlap():
    taken = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
