import msgspec
import pytest

from octavo.certify.certificate import certificate_json
from octavo.errors import ReleaseError
from octavo.serve.offline import promote_in_store, rollback_in_store
from octavo.store.publish import new_version
from octavo.store.release import open_release
from octavo.store.versions import current


@pytest.fixture
def store(publish_tiny, make_certificate):
    """A store whose model `tiny` has the versions 1, 2 (current), 3 (not certified) and 4 (certified for others)."""
    store = publish_tiny().parent
    release = open_release(store / "tiny/2")
    own = msgspec.json.decode(release.read("certificate.json"))
    other = make_certificate(engine_id="openvino-1.0/int8")
    failed = make_certificate(lost=500, engine_id="openvino-1.0/int8")
    hashes = msgspec.convert(own["sha256"], type(other.sha256))
    for certificate in (msgspec.structs.replace(failed, sha256=hashes), other):
        with new_version(store, "tiny") as draft:
            for name in release.manifest.files:
                content = certificate_json(certificate) if name == "certificate.json" else release.read(name)
                draft.write(name, content)
            draft.commit(task="classify", rung="int8", variants=release.manifest.variants, make_current=False)
    return store


def test_current_is_moved_and_moved_back(store):
    change = promote_in_store(store, "tiny", "1")
    assert (change.old, change.new, current(store, "tiny")) == ("2", "1", "1")
    promote_in_store(store, "tiny", "2")
    change = rollback_in_store(store, "tiny")
    assert (change.old, change.new, current(store, "tiny")) == ("2", "1", "1")


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("3", "its certificate says 'fail'"),
        ("4", "made for other weights"),
        ("9", "no version 9"),
        ("x", "not a version"),
    ],
)
def test_what_cannot_be_trusted_does_not_become_current(store, version, words):
    with pytest.raises(ReleaseError, match=words):
        promote_in_store(store, "tiny", version)
    assert current(store, "tiny") == "2"


def test_what_is_altered_never_becomes_current(store):
    (store / "tiny/1/tokenizer.json").write_bytes(b"{}")
    for allowed in (False, True):
        with pytest.raises(ReleaseError, match=r"tokenizer\.json"):
            promote_in_store(store, "tiny", "1", allow_uncertified=allowed)
    assert current(store, "tiny") == "2"


def test_an_uncertified_version_is_served_on_purpose_only(store):
    promote_in_store(store, "tiny", "3", allow_uncertified=True)
    assert current(store, "tiny") == "3"
    promote_in_store(store, "tiny", "4", allow_uncertified=True)
    # Back from there, the newest certified one is older than the one before.
    assert rollback_in_store(store, "tiny").new == "2"


def test_there_may_be_nothing_to_go_back_to(store):
    promote_in_store(store, "tiny", "1")
    with pytest.raises(ReleaseError, match="no older version"):
        rollback_in_store(store, "tiny")
    (store / "tiny/current").unlink()
    with pytest.raises(ReleaseError, match="no version is current"):
        rollback_in_store(store, "tiny")
    with pytest.raises(ReleaseError, match="It has: tiny"):
        rollback_in_store(store, "other")
