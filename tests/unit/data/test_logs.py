import gzip
import json
from contextlib import suppress
from itertools import islice

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octavo.data import logs
from octavo.data.logs import distinct, log_bytes, read_records
from octavo.errors import InputError, OctavoError


def _write(folder, content, name):
    path = folder / name
    content = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(content) if name.lower().endswith(".gz") else content)
    return path


@pytest.mark.parametrize("packed", ["", ".gz"])
def test_records_are_lines_columns_or_objects(tmp_path, packed):
    lines = _write(tmp_path, b"\xef\xbb\xbf red shoes \r\n\n\t\nblue\xc2\xa0hat", f"a.txt{packed}")
    columns = _write(tmp_path, "\tred shoes\tdoc 1\t\r\n  \nb\n", f"b.TSV{packed.upper()}")
    objects = _write(tmp_path, '\n{"query": "a", "n": 1}\n{}\n', f"c.jsonl{packed}")
    assert list(read_records([lines, columns, objects])) == [
        ("red shoes", f"{lines}:1"),
        ("blue\xa0hat", f"{lines}:4"),
        ("\tred shoes\tdoc 1\t", f"{columns}:1"),
        ("b", f"{columns}:3"),
        ({"query": "a", "n": 1}, f"{objects}:2"),
        ({}, f"{objects}:3"),
    ]


def test_records_are_not_deduplicated(tmp_path):
    assert len(list(read_records([_write(tmp_path, "a\na\n", "log.txt")] * 2))) == 4


@pytest.mark.parametrize("name", ["log.txt", "log.jsonl.gz", "empty.txt"])
def test_what_is_told_of_the_bytes_adds_up_to_the_files(tmp_path, name):
    lines = 0 if name.startswith("empty") else 3000
    content = "".join(f'{{"text": "query {i} {i * 7919 % 3001}"}}\n' for i in range(lines))
    paths = [_write(tmp_path, content, name)] * 2
    told = []
    assert len(list(read_records(paths, told.append))) == 2 * lines
    assert sum(told) == log_bytes(paths) == 2 * paths[0].stat().st_size
    assert all(number >= 0 for number in told)
    assert not lines or len(told) > 2  # on the way too


def test_logs_are_streamed(tmp_path):
    records = read_records([_write(tmp_path, b"one\ntwo\n\xff\n", "log.txt")])
    assert [record for record, _ in islice(records, 2)] == ["one", "two"]
    with pytest.raises(InputError, match=r"log\.txt:3: byte 0xff"):
        next(records)


def test_an_object_is_asked_for_where_there_is_none(tmp_path):
    records = read_records([_write(tmp_path, '{}\n"red"\n', "log.jsonl")])
    assert next(records)[0] == {}
    with pytest.raises(InputError, match=r"log\.jsonl:2: expected a JSON object"):
        next(records)


def test_a_log_is_refused_before_the_first_record(tmp_path):
    for read in (log_bytes, read_records):
        with pytest.raises(InputError, match="no such file"):
            read([tmp_path / "absent.txt"])
        with pytest.raises(InputError, match="this is a folder"):
            read([tmp_path])
        for name in ("log.csv", "log.gz", "log.txt.zip", "txt"):
            with pytest.raises(InputError, match="query log is"):
                read([_write(tmp_path, "a,b", name)])


def test_damaged_compression_is_refused_by_name(tmp_path):
    whole = gzip.compress(b"".join(b"query %d\n" % (i * 7919 % 10_007) for i in range(10_000)))
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    for content in (whole[:-9], whole[: len(whole) // 2], bytes(flipped), b"no gzip at all\n"):
        path = tmp_path / "log.txt.gz"
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"log\.txt\.gz: damaged after line \d+"):
            list(read_records([path]))


def test_a_line_without_end_is_refused_and_not_held(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "_LINE_BYTES", 1 << 20)
    path = _write(tmp_path, b"short\n" + bytes(5 << 20), "bomb.txt.gz")
    records = read_records([path])
    assert next(records)[0] == "short"
    with pytest.raises(InputError, match=r"bomb\.txt\.gz:2: the line has over 1 MiB"):
        next(records)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=200) | st.text(max_size=60).map(lambda t: json.dumps({"text": t}).encode()),
    st.sampled_from(["log.txt", "log.tsv", "log.jsonl", "log.jsonl.gz"]),
    st.booleans(),
)
def test_arbitrary_bytes_raise_nothing_but_our_errors(tmp_path, content, name, pack):
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if pack and name.endswith(".gz") else content)
    with suppress(OctavoError):
        list(read_records([path]))


@given(st.lists(st.binary(max_size=3), max_size=200))
def test_the_first_item_of_each_key_is_kept_in_order(keys):
    items = list(enumerate(keys))
    expected = {key: item for item in reversed(items) for key in [item[1]]}
    assert list(distinct(items, lambda item: item[1])) == sorted(expected.values())


def test_distinct_is_exact_while_its_table_grows():
    numbers = [i * 7919 % 20_011 for i in range(60_000)]
    assert list(distinct(numbers, lambda n: n.to_bytes(8))) == list(dict.fromkeys(numbers))


def test_digests_that_want_the_same_slot_are_told_apart():
    # 0 and 1 share a slot by design; the others are multiples of every size that the table takes here.
    digests = [1, *(i << 32 for i in range(1, 800))]
    table = logs._Digests()
    assert [table.add(digest) for digest in digests] == [True] * len(digests)
    assert not any(table.add(digest) for digest in digests)


def test_the_table_takes_what_is_promised():
    table = logs._Digests()
    for digest in range(1, 40_000):
        table.add(digest * 0x9E3779B97F4A7C15 & (1 << 64) - 1)
        if len(table._slots) > logs._FIRST_SLOTS:
            assert 11.9 < 8 * len(table._slots) / table._count < 24.1
    assert len(table._slots) >= 1 << 15
