"""The dashboard asks for metrics that the service has, by labels that they have."""

import json
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from octavo.serve.metrics import Metrics

ROOT = Path(__file__).parents[3]
DASHBOARD = json.loads((ROOT / "deploy/grafana/octavo.json").read_text("utf-8"))
PANELS = [(panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel["targets"]]
_METRIC = re.compile(r"\b(?:octavo|process)_[a-z_0-9]+")
_LABELS = re.compile(r"\{([^{}]*)\}|\bby \(([^()]*)\)")


@pytest.fixture
def known(make_info, make_reply, make_batch_run):
    """Every sample of a service to which all has happened that can, with its labels."""
    metrics = Metrics(lambda: [make_info()], caches=True)
    metrics.answered(make_reply(), 0.006)
    metrics.ran(make_batch_run())
    metrics.queued("intents", 1, 8)
    metrics.refused("intents", "overloaded")
    metrics.swapped("intents", "1", "2", 0.5, None)
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {sample.name: set(sample.labels) for family in families for sample in family.samples}


@pytest.mark.parametrize(("title", "expression"), PANELS)
def test_every_metric_of_the_dashboard_exists_with_its_labels(known, title, expression):
    metrics = _METRIC.findall(expression)
    assert metrics
    for metric in metrics:
        assert metric in known, f"{title}: {metric}"
    used = {
        re.split(r"[=!~]", part, maxsplit=1)[0].strip()
        for pair in _LABELS.findall(expression)
        for part in re.sub(r'"[^"]*"', '""', pair[0] or pair[1]).split(",")
        if part.strip()
    }
    assert used <= set.intersection(*(known[metric] for metric in metrics)), title


def test_all_that_the_service_counts_is_on_the_dashboard(known):
    shown = {_family(metric) for _, expression in PANELS for metric in _METRIC.findall(expression)}
    assert {_family(metric) for metric in known if metric.startswith("octavo_")} == shown - {
        "process_resident_memory_bytes",
        "process_cpu_seconds",
    }


def _family(sample):
    return re.sub("_(total|created|bucket|sum|count)$", "", sample)


def test_panels_do_not_overlap():
    taken = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_the_documentation_names_what_is_counted(known):
    page = (ROOT / "docs/serving.md").read_text("utf-8")
    named = {_family(metric) for metric in re.findall(r"`(octavo_[a-z_]+)`", page)}
    assert named == {_family(metric) for metric in known if metric.startswith("octavo_")}
