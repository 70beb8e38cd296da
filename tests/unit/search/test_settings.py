import msgspec
import pytest

from octavo.errors import InputError, ReleaseError
from octavo.search.index import open_index
from octavo.search.settings import FILE_NAME, Tried, Tuned, keep_tuned, read_tuned, weight_of
from octavo.types import Interval


def tuned(**changes):
    known = {
        "weight": 0.3,
        "ranker": "rank",
        "releases": {"rank": "2 · native"},
        "rerank": 20,
        "queries": 102,
        "data_sha256": "a" * 64,
        "index_sha256": "b" * 64,
        "created": "2026-01-02T03:04:05+00:00",
        "tried": [Tried(0.3, Interval(0.7, 0.6, 0.8), Interval(0.01, -0.01, 0.03))],
    }
    return Tuned(**{**known, **changes})


def test_what_was_kept_is_read_with_the_index(build, tmp_path):
    build({"a": "one", "b": "two"})
    assert open_index(tmp_path / "index").tuned is None
    keep_tuned(tmp_path / "index", tuned())
    assert read_tuned(tmp_path / "index") == tuned()
    assert open_index(tmp_path / "index").tuned == tuned()
    assert open_index(tmp_path / "index" / "1").tuned == tuned()
    build({"a": "one", "c": "three"})
    assert open_index(tmp_path / "index").tuned == tuned(), "it outlives a version"


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[" * 100_000, b"\xff", msgspec.json.encode(tuned(weight=1.5)), msgspec.json.encode(tuned(format=2))],
)
def test_a_damaged_file_is_refused_by_name(tmp_path, content):
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(ReleaseError, match=r"ranking\.json: not what octavo search tune wrote"):
        read_tuned(tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        keep_tuned(tmp_path / "file", tuned())


def test_the_weight_is_given_or_tuned_for_this_ranker_or_all():
    assert weight_of(None, "rank") == 1.0
    assert weight_of(tuned(), "rank") == 0.3
    assert weight_of(tuned(), "another") == 1.0
    assert weight_of(tuned(), None) == 1.0
    assert weight_of(tuned(), "rank", 0.0) == 0.0
