"""Loading a release: what its parts are made of, and what they share. All engines are OpenVINO's."""

import gc

import pytest

import octavo
from octavo.errors import ReleaseError
from octavo.store import model as models
from octavo.store.release import open_release

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def folder(publish_tiny):
    """The model's folder. Its versions 1 and 2 have one tokenizer."""
    return publish_tiny()


@pytest.fixture
def other(folder):
    """A version of another tokenizer: it writes one more space."""
    release = open_release(folder / "2")
    return republished(release, lambda name, content: content + b"\n" if name == "tokenizer.json" else content)


def republished(release, change):
    from octavo.store.publish import new_version

    with new_version(release.folder.parent.parent, release.model) as draft:
        for name in release.manifest.files:
            draft.write(name, change(name, release.read(name)))
        draft.commit(task=release.manifest.task, rung=release.manifest.rung, variants=release.manifest.variants)
        return release.folder.parent / draft.version


def test_versions_share_their_tokenizer(folder):
    with octavo.load(folder / "1", allow_uncertified=True) as old, octavo.load(folder / "2") as new:
        assert old.tokenizer is new.tokenizer
        expected = new.predict(["book a table"])
    gc.collect()
    with octavo.load(folder / "2") as again:
        assert again.predict(["book a table"]) == expected


def test_another_file_or_another_use_of_it_is_another_tokenizer(folder, other):
    release = open_release(folder / "2")
    found = [
        models.tokenizer_from_release(release, 16, reads_last=False),
        models.tokenizer_from_release(open_release(other), 16, reads_last=False),
        models.tokenizer_from_release(release, 8, reads_last=False),
        models.tokenizer_from_release(release, 16, reads_last=True),
    ]
    assert len(set(map(id, found))) == 4
    assert found[2].max_length == 8


def test_a_tokenizer_that_nobody_uses_is_freed(folder):
    before = len(models._tokenizers)
    tokenizer = models.tokenizer_from_release(open_release(folder / "2"), 9, reads_last=False)
    assert len(models._tokenizers) == before + 1
    del tokenizer
    gc.collect()
    assert len(models._tokenizers) == before


def test_a_shared_tokenizer_s_file_is_still_verified(folder):
    with octavo.load(folder / "2"):
        release = open_release(folder / "2")
        file = folder / "2" / "tokenizer.json"
        file.chmod(0o644)
        file.write_bytes(file.read_bytes()[:-1] + b" ")
        with pytest.raises(ReleaseError, match=r"tokenizer\.json: altered"):
            models.tokenizer_from_release(release, 16, reads_last=False)
        with pytest.raises(ReleaseError, match="altered"):
            octavo.load(folder / "2")
