import gc
import shutil
import weakref

import pytest

from octavo.errors import ReleaseError
from octavo.search.following import FollowedIndex
from octavo.search.index import open_index
from octavo.search.settings import keep_tuned
from tests.unit.search.test_settings import tuned


@pytest.fixture
def followed(build, tmp_path):
    build({"a": "one", "b": "two"})
    return FollowedIndex(tmp_path / "index", open_index(tmp_path / "index"))


def test_a_version_that_is_published_is_taken_up(followed, build):
    first = followed.index
    followed.refresh()
    assert followed.index is first
    build({"a": "one", "b": "two", "c": "three"})
    followed.refresh()
    assert (followed.index.manifest.version, len(followed.index)) == ("2", 3)
    assert (len(first), first.words("two", 5).numbers.tolist()) == (2, [1])


def test_the_old_one_is_freed_with_the_last_who_holds_it(followed, build):
    held = followed.index
    parts = [weakref.ref(held.vectors), weakref.ref(held.lexical)]
    build({"a": "one"})
    followed.refresh()
    gc.collect()
    assert all(part() is not None for part in parts)
    del held
    assert [part() for part in parts] == [None, None], "without waiting for the collector of cycles"


def test_what_cannot_be_trusted_is_refused_once_and_the_old_one_serves_on(followed, build, tmp_path):
    built = build({"a": "one"})
    file = built.folder / "vectors.faiss"
    good = file.read_bytes()
    file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(ReleaseError, match="cannot be trusted"):
        followed.refresh()
    followed.refresh()
    assert followed.index.manifest.version == "1"
    with pytest.raises(ReleaseError, match="cannot be trusted"):
        followed.refresh(retry=True)
    file.write_bytes(good)
    followed.refresh()
    assert followed.index.manifest.version == "1"
    followed.refresh(retry=True)
    assert followed.index.manifest.version == "2"


def test_what_is_tuned_later_counts_without_opening_the_index_again(followed, tmp_path):
    vectors = followed.index.vectors
    keep_tuned(tmp_path / "index", tuned())
    followed.refresh()
    assert followed.index.tuned == tuned()
    assert followed.index.vectors is vectors


def test_an_index_that_was_made_anew_under_the_same_number_is_another(followed, build, tmp_path):
    shutil.rmtree(tmp_path / "index")
    with pytest.raises(ReleaseError):
        followed.refresh()
    build({"x": "other", "y": "others", "z": "another"})
    followed.refresh()
    assert (followed.index.manifest.version, len(followed.index)) == ("1", 3)


def test_a_path_to_one_version_stays_there(build, tmp_path):
    first = build({"a": "one"}).folder
    followed = FollowedIndex(first, open_index(first))
    build({"b": "two", "c": "three"})
    followed.refresh()
    assert followed.index.manifest.version == "1"
