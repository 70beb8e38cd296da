from contextlib import suppress

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.errors import ReleaseError
from octavo.store.manifest import (
    FileEntry,
    Manifest,
    check_path,
    manifest_bytes,
    manifest_from_bytes,
    sealed,
)


def _manifest(**changes):
    fields = {
        "model": "intent",
        "version": "3",
        "task": "classify",
        "rung": "kd-qat",
        "created": "2026-11-01T00:00:00+00:00",
        "octavo": "0.1.0",
        "files": {"model.onnx": FileEntry("0" * 64, 5), "variants/model_u8.onnx": FileEntry("1" * 64, 0)},
        "variants": {"canonical": "model.onnx"},
        "teacher": "1",
    }
    return Manifest(**{**fields, **changes})


WHOLE = manifest_bytes(sealed(_manifest()))


def test_a_manifest_survives_being_written_and_read():
    manifest = manifest_from_bytes(WHOLE, "manifest.json")
    assert manifest == sealed(_manifest())
    assert len(manifest.release_sha256) == 64
    assert WHOLE.endswith(b"}\n")


@pytest.mark.parametrize("mask", [0x01, 0x20, 0x80])
def test_every_flipped_byte_is_refused_whitespace_included(mask):
    for place in range(len(WHOLE)):
        altered = bytearray(WHOLE)
        altered[place] ^= mask
        with pytest.raises(ReleaseError, match=r"folder/manifest\.json"):
            manifest_from_bytes(bytes(altered), "folder/manifest.json")


def test_every_cut_is_refused():
    for length in range(len(WHOLE)):
        with pytest.raises(ReleaseError):
            manifest_from_bytes(WHOLE[:length], "manifest.json")


@pytest.mark.parametrize("more", [b" ", b"\n", b"{}", b"\0"])
def test_bytes_at_either_end_are_refused(more):
    for altered in (WHOLE + more, more + WHOLE):
        with pytest.raises(ReleaseError):
            manifest_from_bytes(altered, "manifest.json")


def test_the_same_content_in_another_layout_is_refused():
    with pytest.raises(ReleaseError, match="byte for byte"):
        manifest_from_bytes(msgspec.json.encode(msgspec.json.decode(WHOLE)), "manifest.json")


def test_a_newer_format_says_to_upgrade():
    with pytest.raises(ReleaseError, match="format 2, and this Octavo reads format 1"):
        manifest_from_bytes(b'{"format": 2, "layers": []}', "manifest.json")


@settings(max_examples=100, deadline=None)
@given(
    st.binary(max_size=300)
    | st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: st.dictionaries(st.text(max_size=8), inner),
    ).map(msgspec.json.encode)
)
def test_arbitrary_bytes_raise_nothing_but_our_error(content):
    with suppress(ReleaseError):
        manifest_from_bytes(content, "manifest.json")


@pytest.mark.parametrize("content", [b"[" * 200_000, b'{"format": 1, "files": ' + b'{"a":' * 100_000])
def test_nesting_without_end_is_refused(content):
    with pytest.raises(ReleaseError):
        manifest_from_bytes(content, "manifest.json")


_UNSAFE = [
    "",
    "/etc/passwd",
    "../model.onnx",
    "a/../../b",
    "./a",
    "a//b",
    "a/",
    "a\\b",
    "C:a",
    "a\0b",
    "a\nb",
]
_ODD = ["a\n", ".hidden", "a/.hidden", "-rf", "a b", "naïve.json", "a" * 129, "/".join("a" * 300)]


@pytest.mark.parametrize("name", [*_UNSAFE, *_ODD])
def test_unsafe_paths_are_refused(name):
    with pytest.raises(ReleaseError, match="not a safe file name"):
        check_path(name)
    with pytest.raises(ReleaseError):
        sealed(_manifest(files={name: FileEntry("0" * 64, 1)}, variants={}))


@pytest.mark.parametrize("name", ["model.pkl", "MODEL.PKL", "a/model.pt", "pytorch_model.bin", "x.pkl.json", "run.py"])
def test_files_that_may_run_code_are_refused(name):
    with pytest.raises(ReleaseError, match="may run code"):
        check_path(name)


@pytest.mark.parametrize("name", ["model.onnx", "variants/model_u8.onnx", "a/b/c.json", "README.md", "v1.2+cpu.txt"])
def test_ordinary_paths_are_accepted(name):
    check_path(name)


@pytest.mark.parametrize(
    "changes",
    [
        {"files": {"manifest.json": FileEntry("0" * 64, 1)}, "variants": {}},
        {"files": {"a": FileEntry("0" * 64, 1), "a/b": FileEntry("0" * 64, 1)}, "variants": {}},
        {"variants": {"canonical": "other.onnx"}},
        {"version": "0"},
        {"version": "../2"},
        {"version": ""},
        {"teacher": "x"},
        {"model": "a/b"},
    ],
)
def test_a_manifest_that_contradicts_itself_is_neither_written_nor_read(changes):
    with pytest.raises(ReleaseError):
        sealed(_manifest(**changes))
