import shutil

import pytest

from octavo.errors import InputError, ReleaseError
from octavo.search.index import index_folder, open_index

CORPUS = {f"d{i}": f"text number {i}" for i in range(20)}


@pytest.fixture
def version(build):
    return build(CORPUS).folder


def test_every_flipped_byte_is_refused(version):
    files = sorted(path for path in version.rglob("*") if path.is_file() and path.stat().st_size)
    assert len(files) > 8
    for file in files:
        content = file.read_bytes()
        for place in {0, len(content) // 3, len(content) // 2, len(content) - 1}:
            file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            with pytest.raises(ReleaseError):
                open_index(version)
        file.write_bytes(content)
    assert len(open_index(version)) == 20


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda v: (v / "vectors.faiss").unlink(), "vectors.faiss: missing"),
        (lambda v: (v / "vectors.numbers").write_bytes(b""), "vectors.numbers: altered"),
        (lambda v: (v / "extra").write_bytes(b"x"), "extra: extra"),
        (lambda v: (v / "link").symlink_to("/etc/hosts"), "a link or device"),
        (lambda v: (v / "linked").symlink_to(v / "lexical"), "a link or device"),
        (lambda v: (v / "manifest.json").unlink(), "manifest.json: cannot be read"),
        (lambda v: (v / "manifest.json").write_bytes(b"{}"), "altered, cut, or of another version"),
        (lambda v: (v / "manifest.json").write_bytes((v / "manifest.json").read_bytes() + b" "), "byte for byte"),
    ],
)
def test_damage_is_named(version, harm, message):
    harm(version)
    with pytest.raises(ReleaseError, match=message):
        open_index(version)


def test_what_tantivy_leaves_while_it_reads_is_no_damage(version):
    open_index(version).words("text", 3)
    (version / "lexical" / ".tantivy-writer.lock").touch()
    assert len(open_index(version)) == 20


def test_an_index_is_found_by_its_folder_or_a_version(version, tmp_path):
    assert index_folder(tmp_path / "index") == index_folder(version) == version
    moved = tmp_path / "elsewhere"
    shutil.move(tmp_path / "index", moved)
    assert len(open_index(moved)) == 20


def test_what_is_no_index_is_refused_with_what_to_do(version, tmp_path):
    with pytest.raises(ReleaseError, match=r"there is no such index. Make one: octavo search index"):
        open_index(tmp_path / "nowhere")
    link = tmp_path / "index" / "current"
    link.unlink()
    with pytest.raises(ReleaseError, match=r"no version of the index is current \(there are: 1\)"):
        open_index(tmp_path / "index")
    link.symlink_to("9")
    with pytest.raises(ReleaseError, match="points to '9', which is no version"):
        open_index(tmp_path / "index")


def test_queries_of_another_width_are_refused(version, embedder):
    with pytest.raises(InputError, match="queries have 3 numbers, and documents 16"):
        open_index(version).nearest(embedder.vectors(["a"])[:, :3], 2)
