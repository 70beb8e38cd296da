"""Which releases may look for queries among an index's vectors."""

import shutil

import msgspec
import numpy as np
import pytest

from octavo.certify.certificate import read_certificate
from octavo.errors import InputError, ReleaseError
from octavo.search.embedder import (
    NoEmbedder,
    ReleaseEmbedder,
    documents_release,
    embedder_name,
    lineage_release,
)
from octavo.search.lineage import check_may_query
from octavo.store.model import load
from octavo.store.release import read_manifest
from octavo.types import Verdict


def made_by(folder):
    with load(folder, threads=1) as model:
        return ReleaseEmbedder(model).lineage


def certificate_of(folder):
    return read_certificate((folder / "certificate.json").read_bytes(), "certificate.json")


@pytest.fixture
def store(publish_stack):
    return publish_stack(["embed"])


def test_an_embedder_says_who_it_is(store):
    found = made_by(store / "embed" / "1")
    manifest = read_manifest(store / "embed" / "1")
    assert (found.model, found.version, found.precision) == ("embed", "1", "fp32")
    assert found.release_sha256 == manifest.release_sha256
    assert (found.similarity, found.dimensions) == ("cosine", 32)


def test_documents_and_queries_get_the_vectors_of_the_release(store):
    from octavo.search.embedder import embedded
    from octavo.tasks.embed import Document

    with load(store / "embed", threads=1) as model:
        texts = ["book a table", "a", "play some music please"]
        found = ReleaseEmbedder(model).vectors(texts)
        alone = np.array([model.predict([Document(text)])[0].vector for text in texts])
        assert found == pytest.approx(alone, abs=1e-5)
        assert embedded(model, texts) == pytest.approx(alone, abs=1e-5)  # no prompts: queries are alike


def test_the_release_that_made_the_vectors_may_query_them(store):
    for version in ("1", "2"):
        folder = store / "embed" / version
        check_may_query(made_by(folder), folder, None)


def test_a_release_that_was_certified_among_the_references_vectors_may(store):
    check_may_query(made_by(store / "embed" / "1"), store / "embed" / "2", certificate_of(store / "embed" / "2"))


def test_the_reference_may_not_query_what_int8_made(store):
    with pytest.raises(ReleaseError, match=r"made by embed 2 \(int8\), and that is not the FP32 reference"):
        check_may_query(made_by(store / "embed" / "2"), store / "embed" / "1", certificate_of(store / "embed" / "1"))


def test_without_proof_it_is_refused(publish_stack, tmp_path):
    store = publish_stack(["embed"], covers=False)
    lineage, folder = made_by(store / "embed" / "1"), store / "embed" / "2"
    for certificate in (certificate_of(folder), None):
        with pytest.raises(ReleaseError, match=r"no certificate says .* \(--vectors-by current\)"):
            check_may_query(lineage, folder, certificate)


def test_a_certificate_that_failed_is_no_proof(store):
    folder = store / "embed" / "2"
    failed = msgspec.structs.replace(certificate_of(folder), verdict=Verdict.FAIL)
    with pytest.raises(ReleaseError, match="no certificate says"):
        check_may_query(made_by(store / "embed" / "1"), folder, failed)


def test_another_model_or_another_teacher_is_refused(store, publish_stack, tmp_path):
    lineage, folder = made_by(store / "embed" / "1"), store / "embed" / "2"
    other = msgspec.structs.replace(lineage, model="other", release_sha256="0" * 64)
    with pytest.raises(ReleaseError, match="another model"):
        check_may_query(other, folder, certificate_of(folder))
    retrained = msgspec.structs.replace(lineage, release_sha256="0" * 64)
    with pytest.raises(ReleaseError, match="not the FP32 reference"):
        check_may_query(retrained, folder, certificate_of(folder))
    shutil.rmtree(store / "embed" / "1")
    with pytest.raises(ReleaseError, match="not the FP32 reference"):
        check_may_query(lineage, folder, certificate_of(folder))


def test_the_reference_makes_vectors_unless_it_is_told_otherwise(store):
    assert documents_release(store / "embed", by_reference=True) == store / "embed" / "1"
    assert documents_release(store / "embed", by_reference=False) == store / "embed" / "2"


def test_vectors_that_nobody_may_query_are_not_made(publish_stack):
    store = publish_stack(["embed"], covers=False)
    with pytest.raises(ReleaseError, match="no certificate says"):
        documents_release(store / "embed", by_reference=True)


def test_the_one_embedder_of_a_store(publish_stack, tmp_path):
    store = publish_stack(["embed", "classify"])
    assert embedder_name(store, None) == embedder_name(store, "embed") == "embed"
    with pytest.raises(InputError, match=r"there is no embedder 'classify'. There are: embed"):
        embedder_name(store, "classify")
    with pytest.raises(InputError, match="there are none; compress a model with --task embed"):
        embedder_name(publish_stack(["rank"], store=tmp_path / "other"), None)
    shutil.copytree(store / "embed", store / "embed-copy", symlinks=True)
    with pytest.raises(InputError, match=r"several \(embed, embed-copy\); name one"):
        embedder_name(store, None)
    assert embedder_name(store, "embed-copy") == "embed-copy"


def test_more_vectors_come_from_the_release_that_made_the_others(store):
    lineage = made_by(store / "embed" / "1")
    assert lineage_release(store, lineage) == store / "embed" / "1"
    for changed in ({"version": "7"}, {"release_sha256": "0" * 64}):
        with pytest.raises(ReleaseError, match="not here any more"):
            lineage_release(store, msgspec.structs.replace(lineage, **changed))


def test_where_nothing_is_to_be_embedded_nothing_is(store):
    with pytest.raises(InputError, match="1 documents to embed"):
        NoEmbedder(made_by(store / "embed" / "1")).vectors(["a"])
