import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.data.traces import Synthesis, read_trace, synthetic_trace, trace_from_log
from octavo.errors import InputError


def write(folder, lines, name="trace.jsonl"):
    path = folder / name
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines), "utf-8")
    return path


def test_a_trace_of_texts_comes_in_the_order_of_time(tmp_path):
    path = write(tmp_path, [{"time": 12.5, "text": "b"}, {"time": 10, "text": "a"}, {"time": 11, "text": "B "}])
    trace = read_trace(path)
    assert trace.times_s.tolist() == [0.0, 1.0, 2.5]
    assert [record["text"] for record, _ in trace.records] == ["a", "B ", "b"]
    assert trace.records[0][1] == f"{path}:2"
    assert (trace.tokens, len(trace), trace.qps) == (None, 3, 0.8)
    assert trace.repeats == pytest.approx(1 / 3)


def test_a_trace_of_lengths_and_times_in_iso_8601(tmp_path):
    lines = [{"time": f"2026-01-02T03:04:0{i}+00:00", "tokens": i + 3, "key": i % 2} for i in range(4)]
    trace = read_trace(write(tmp_path, lines))
    assert trace.tokens.tolist() == [3, 4, 5, 6]
    assert trace.times_s.tolist() == [0, 1, 2, 3]
    assert (trace.records, trace.repeats) == ([], 0.5)
    assert len(read_trace(write(tmp_path, lines), most=2)) == 2


def test_a_query_log_is_a_trace_without_times(tmp_path):
    for name, records in (("log.txt", ["a", "b", "A"]), ("log.tsv", ["q\td", "q\td"]), ("log.jsonl", [{"text": "a"}])):
        trace = read_trace(write(tmp_path, records, name))
        assert [record for record, _ in trace.records] == records
        assert (trace.times_s, trace.tokens, trace.qps) == (None, None, None)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "there is no query in it"),
        ([{"time": 1, "text": "a"}, {"text": "b"}], r"trace.jsonl:2: the first line decides"),
        ([{"text": "a"}, {"tokens": 3}], r"trace.jsonl:2: the first line decides"),
        ([{"time": "soon", "text": "a"}], 'trace.jsonl:1: "time" is'),
        ([{"time": True, "text": "a"}], 'trace.jsonl:1: "time" is'),
        (['{"time": NaN, "text": "a"}'], 'trace.jsonl:1: "time" is'),
        ([{"tokens": 0}], 'trace.jsonl:1: "tokens" is .0.'),
        ([{"tokens": 8193}], "from 1 to 8192"),
        ([{"tokens": 2.5}], "whole number"),
    ],
)
def test_bad_traces_are_named_by_file_and_line(tmp_path, lines, message):
    with pytest.raises(InputError, match=message):
        read_trace(write(tmp_path, lines))


def test_made_up_traffic_is_as_it_was_asked_for(tmp_path):
    made = list(synthetic_trace(Synthesis(queries=20_000, qps=50, mean_tokens=11, sigma=0.5, zipf=1.0, distinct=5000)))
    trace = read_trace(write(tmp_path, made))
    assert len(trace) == 20_000
    assert trace.qps == pytest.approx(50, rel=0.05)
    gaps = np.diff(trace.times_s)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05), "Poisson: the deviation is the mean"
    keys, counts = np.unique([line["key"] for line in made], return_counts=True)
    counts = np.sort(counts)[::-1]
    assert counts[0] / counts[9] == pytest.approx(10, rel=0.3), "Zipf: the tenth comes a tenth as often"
    lengths = {line["key"]: line["tokens"] for line in made}
    assert np.mean(list(lengths.values())) == pytest.approx(11, rel=0.06)
    assert np.std(np.log(list(lengths.values()))) == pytest.approx(0.5, rel=0.1)
    assert all(lengths[line["key"]] == line["tokens"] for line in made), "an equal query is as long each time"
    assert trace.repeats == pytest.approx(1 - len(keys) / 20_000)


def test_the_same_seed_makes_the_same_trace_and_texts_are_asked_as_they_are():
    made_of = Synthesis(queries=50, seed=3)
    assert list(synthetic_trace(made_of)) == list(synthetic_trace(made_of))
    asked = list(synthetic_trace(made_of, ["red shoes", "hat"]))
    assert {line["text"] for line in asked} == {"red shoes", "hat"}
    assert all("tokens" not in line for line in asked)


@given(st.integers(2, 200), st.floats(0, 3), st.floats(0, 3), st.integers(3, 100))
def test_lengths_stay_within_their_limits(queries, sigma, zipf, most):
    made = list(synthetic_trace(Synthesis(queries, sigma=sigma, zipf=zipf, distinct=50, most_tokens=most)))
    assert all(3 <= line["tokens"] <= most for line in made)
    times = [line["time"] for line in made]
    assert times[0] == 0
    assert times == sorted(times)


@pytest.mark.parametrize("name", ["queries", "qps", "mean_tokens", "distinct", "most_tokens"])
def test_numbers_that_make_no_trace_are_refused(name):
    with pytest.raises(InputError, match=f"{name} is 0"):
        list(synthetic_trace(Synthesis(**{name: 0})))


LOG = b"""\
1.2.3.4 - - [10/Oct/2026:13:55:36 -0700] "GET /search?q=red+shoes&page=2 HTTP/1.1" 200 2326
1.2.3.4 - bob [10/Oct/2026:13:55:36 -0700] "GET /search?q=%E9%9E%8B HTTP/1.1" 304 0 "-" "agent"
1.2.3.4 - - [10/Oct/2026:13:55:40 -0700] "GET /search?q=late HTTP/1.1" 500 0
1.2.3.4 - - [10/Oct/2026:13:55:40 -0700] "GET /favicon.ico HTTP/1.1" 200 1
1.2.3.4 - - [99/Oct/2026:13:55:40 -0700] "GET /search?q=when HTTP/1.1" 200 1
nonsense
1.2.3.4 - - [10/Oct/2026:13:55:41 -0700] "POST /search?q=end HTTP/1.1" 201 1
"""


def test_an_access_log_becomes_a_trace(tmp_path):
    lines, passed_over = trace_from_log(LOG.splitlines(), tmp_path / "access.log", "q")
    assert {line["text"] for line in lines} == {"red shoes", "鞋", "end"}
    assert passed_over == 4
    times = [line["time"] for line in lines]
    assert times[0] == 0
    assert 0 < times[1] < 1, "queries of the same second are spread within it"
    assert 3 < times[2] < 6
    assert lines == trace_from_log(LOG.splitlines(), tmp_path / "access.log", "q")[0]


def test_json_lines_of_a_service_become_a_trace(tmp_path):
    log = [
        b'{"time": "2026-01-02T03:04:05.250+00:00", "tokens": 12, "model": "x", "status": 200}',
        b'{"time": "2026-01-02T03:04:05.500+00:00", "tokens": 7}',
        b'{"time": "2026-01-02T03:04:06.500+00:00", "tokens": 7, "status": 429}',
        b'{"time": "2026-01-02T03:04:06.500+00:00"}',
        b'{"time": ',
    ]
    lines, passed_over = trace_from_log(log, tmp_path / "access.jsonl", "q")
    assert lines == [{"time": 0.0, "tokens": 12}, {"time": 0.25, "tokens": 7}]
    assert passed_over == 3


def test_a_log_without_queries_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"none of its 7 lines tells a query under 'query'"):
        trace_from_log(LOG.splitlines(), tmp_path / "access.log", "query")
