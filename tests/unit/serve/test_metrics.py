import threading

import pytest
from prometheus_client.parser import text_string_to_metric_families

from octavo.serve.metrics import Metrics
from octavo.serve.service import Listener


def _samples(metrics):
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
    }


def _value(metrics, name, **labels):
    return _samples(metrics)[f"octavo_{name}", tuple(sorted(labels.items()))]


VERSION = {"model": "intents", "version": "1"}


def test_an_answer_is_counted_and_its_time_split(make_reply):
    metrics = Metrics(caches=True)
    metrics.answered(make_reply(inputs=3, cached=2), 0.006)
    assert _value(metrics, "requests_total", **VERSION) == 1
    assert _value(metrics, "inputs_total", **VERSION) == 3
    assert _value(metrics, "tokens_total", **VERSION) == 21
    assert _value(metrics, "cache_lookups_total", **VERSION) == 3
    assert _value(metrics, "cache_hits_total", **VERSION) == 2
    sums = {
        stage: _value(metrics, "request_seconds_sum", stage=stage, **VERSION)
        for stage in ("queue", "tokenize", "compute", "total")
    }
    assert sums == pytest.approx({"queue": 0.001, "tokenize": 0.0001, "compute": 0.004, "total": 0.006})
    assert _value(metrics, "request_seconds_bucket", stage="total", le="0.005", **VERSION) == 0
    assert _value(metrics, "request_seconds_bucket", stage="total", le="0.007", **VERSION) == 1


def test_without_a_cache_nothing_is_looked_up(make_reply):
    metrics = Metrics()
    metrics.answered(make_reply(inputs=3), 0.006)
    assert _value(metrics, "cache_lookups_total", **VERSION) == 0


def test_batches_say_how_full_they_are(make_batch_run):
    metrics = Metrics()
    metrics.ran(make_batch_run())
    assert _value(metrics, "batch_tokens_sum", **VERSION) == 30
    assert _value(metrics, "batch_sequences_sum", **VERSION) == 4
    assert _value(metrics, "padding_ratio_sum", **VERSION) == pytest.approx(0.25)


def test_refusals_queues_and_swaps():
    metrics = Metrics()
    metrics.refused("intents", "overloaded")
    metrics.refused("", "unknown_model")
    metrics.queued("intents", 5, 80)
    metrics.queued("intents", 3, 40)
    for old, new, error in ((None, "1", None), ("1", "2", None), ("2", "3", "altered"), ("2", None, None)):
        metrics.swapped("intents", old, new, 0.5, error)
    assert _value(metrics, "refused_total", model="intents", reason="overloaded") == 1
    assert _value(metrics, "refused_total", model="", reason="unknown_model") == 1
    assert _value(metrics, "queue_requests", model="intents") == 3
    assert _value(metrics, "queue_tokens", model="intents") == 40
    for outcome in ("loaded", "swapped", "failed", "removed"):
        assert _value(metrics, "swaps_total", model="intents", outcome=outcome) == 1
    assert _value(metrics, "swap_seconds_count", model="intents") == 4


def test_what_serves_is_asked_at_each_scrape(make_info):
    serving = [make_info("1")]
    metrics = Metrics(lambda: serving)

    def served():
        return [dict(labels)["version"] for name, labels in _samples(metrics) if name == "octavo_serving_info"]

    assert served() == ["1"]
    serving[:] = [make_info("2")]
    assert served() == ["2"]
    info = {"task": "classify", "engine": "openvino-1.0/int8", "precision": "int8", "verdict": "pass"}
    assert _value(metrics, "serving_info", model="intents", version="2", **info) == 1


def test_the_process_is_measured_too():
    assert {"process_resident_memory_bytes", "process_cpu_seconds_total"} <= {name for name, _ in _samples(Metrics())}


def test_of_many_versions_the_last_ones_are_kept(make_reply, make_batch_run):
    metrics = Metrics()
    for version in range(1, 101):
        metrics.answered(make_reply(str(version)), 0.006)
        metrics.ran(make_batch_run(str(version)))
    metrics.answered(make_reply("1", model="other"), 0.006)
    kept = {dict(labels)["version"] for _, labels in _samples(metrics) if dict(labels).get("model") == "intents"}
    assert kept == {str(version) for version in range(85, 101)}


def test_two_services_in_a_process_do_not_mix(make_reply):
    one, other = Metrics(), Metrics()
    one.answered(make_reply(), 0.006)
    assert ("octavo_requests_total", tuple(VERSION.items())) not in _samples(other)


def test_nothing_is_lost_between_threads(make_reply, make_batch_run):
    metrics: Listener = Metrics()
    reply, batch = make_reply(), make_batch_run()

    def work():
        for _ in range(200):
            metrics.answered(reply, 0.006)
            metrics.ran(batch)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert _value(metrics, "requests_total", **VERSION) == 800
    assert _value(metrics, "batch_tokens_count", **VERSION) == 800
