import os
import shutil

import pytest

from octavo.errors import ReleaseError
from octavo.store.publish import new_version
from octavo.store.release import open_release, release_folder, verify_release

NAMES = [
    "manifest.json",
    "certificate.json",
    "model.onnx",
    "variants/model_u8.onnx",
    "README.md",
    "golden.json",
]


def _refused(folder, name):
    """The release is refused by both ways to look at it, and both name the file."""
    with pytest.raises(ReleaseError) as raised:
        open_release(folder)
    assert name in str(raised.value)
    assert str(folder) in str(raised.value)
    assert name in [problem.file for problem in verify_release(folder)]


def test_a_whole_release_opens_and_gives_its_files(release, files, variants):
    opened = open_release(release)
    assert verify_release(release) == []
    assert (opened.model, opened.version, opened.manifest.task) == ("intent", "1", "classify")
    assert len(opened.sha256) == 64
    assert {name: opened.read(name) for name in files} == files
    assert opened.variant("u8") == files[variants["u8"]]
    assert opened.read_json("certificate.json")["verdict"] == "pass"


@pytest.mark.parametrize("name", NAMES)
def test_a_flipped_byte_is_refused(release, name):
    path = release / name
    whole = path.read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 200)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        _refused(release, name)
    path.write_bytes(whole)
    assert verify_release(release) == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("keep", [lambda n: n - 1, lambda n: n // 2, lambda n: 0], ids=["last byte", "half", "all"])
def test_a_cut_or_empty_file_is_refused(release, name, keep):
    path = release / name
    path.write_bytes(path.read_bytes()[: keep(path.stat().st_size)])
    _refused(release, name)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_is_refused(release, name):
    (release / name).unlink()
    with pytest.raises(ReleaseError, match=r"manifest\.json" if name == "manifest.json" else name):
        open_release(release)


@pytest.mark.parametrize("name", NAMES)
def test_a_longer_file_is_refused(release, name):
    with (release / name).open("ab") as file:
        file.write(b"\n")
    _refused(release, name)


@pytest.mark.parametrize("name", ["extra.json", ".hidden", "variants/extra.onnx", "model.pkl", "new folder"])
def test_an_extra_file_is_refused(release, name):
    if name == "new folder":
        (release / name).mkdir()
    else:
        (release / name).write_bytes(b"")
    _refused(release, name)


@pytest.mark.parametrize("name", NAMES)
def test_a_symlink_is_refused_even_to_the_right_content(release, name, tmp_path):
    shutil.move(release / name, tmp_path / "elsewhere")
    (release / name).symlink_to(tmp_path / "elsewhere")
    _refused(release, name)


def test_a_symlinked_folder_is_refused(release, tmp_path):
    shutil.move(release / "variants", tmp_path / "elsewhere")
    (release / "variants").symlink_to(tmp_path / "elsewhere")
    _refused(release, "variants")


def test_a_pipe_and_a_folder_in_place_of_a_file_are_refused(release):
    for make in (os.mkfifo, os.mkdir):
        path = release / "golden.json"
        path.unlink()
        make(path)
        _refused(release, "golden.json")
        path.rmdir() if path.is_dir() else path.unlink()
        path.write_bytes(b"[]")


def test_all_problems_are_listed(release):
    (release / "golden.json").unlink()
    (release / "model.onnx").write_bytes(b"")
    (release / "README.md").write_bytes(b"# Mobel!\n")
    (release / "extra").write_bytes(b"")
    problems = {problem.file: problem.what for problem in verify_release(release)}
    assert set(problems) == {"golden.json", "model.onnx", "README.md", "extra"}
    assert problems["golden.json"] == "missing"
    assert problems["model.onnx"].startswith("empty")
    assert problems["README.md"].startswith("altered")
    assert problems["extra"].startswith("extra")


def test_a_change_after_opening_is_refused_on_use(release):
    opened = open_release(release)
    path = release / "model.onnx"
    whole = path.read_bytes()
    for changed in (b"", whole[:-1], whole + b"x", b"x" + whole[1:]):
        path.write_bytes(changed)
        with pytest.raises(ReleaseError, match=r"model\.onnx"):
            opened.read("model.onnx")
    path.unlink()
    with pytest.raises(ReleaseError, match="missing"):
        opened.read("model.onnx")


def test_unknown_files_and_variants_are_named(release):
    opened = open_release(release)
    with pytest.raises(ReleaseError, match=r"no file '\.\./secret'; it has README\.md"):
        opened.read("../secret")
    with pytest.raises(ReleaseError, match=r"no variant 'fp16'.*canonical, u8"):
        opened.variant("fp16")
    with pytest.raises(ReleaseError, match=r"golden\.json: not a JSON object"):
        opened.read_json("golden.json")


def test_a_release_of_another_version_in_the_folder_is_refused(release):
    shutil.copytree(release, release.parent / "7")
    with pytest.raises(ReleaseError, match="version 1, its folder is 7"):
        open_release(release.parent / "7")
    shutil.copytree(release, release.parent.parent.parent / "copy")
    assert open_release(release.parent.parent.parent / "copy").version == "1"


def test_a_path_to_model_or_current_means_the_current_version(release):
    assert release_folder(release.parent) == release
    assert release_folder(release.parent / "current") == release
    assert open_release(str(release.parent)).folder == release


def test_what_is_no_release_says_what_there_is(release, tmp_path):
    model = release.parent
    with pytest.raises(ReleaseError, match=r"this is a store.*intent"):
        open_release(model.parent)
    with pytest.raises(ReleaseError, match="no such folder"):
        open_release(tmp_path / "absent")
    with pytest.raises(ReleaseError, match="no such folder"):
        open_release("a\0b")
    with pytest.raises(ReleaseError, match=r"intent has no version 9\. There are: 1\."):
        open_release(model / "9")
    with pytest.raises(ReleaseError, match=r"has no model 'intents'\. It has: intent\."):
        open_release(model.parent / "intents")
    with pytest.raises(ReleaseError, match="no such folder"):
        open_release(release / "report.html")
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / "config.json").write_text("{}")
    with pytest.raises(ReleaseError, match=r"octavo compress .*teacher"):
        open_release(tmp_path / "teacher")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReleaseError, match=r"manifest\.json is missing"):
        open_release(tmp_path / "empty")
    (model / "current").unlink()
    with pytest.raises(ReleaseError, match=r"no version is current.*1"):
        open_release(model)
    (model / "current").symlink_to("9")
    with pytest.raises(ReleaseError, match=r"version 9, which is gone\. There are: 1"):
        open_release(model)
    (model / "current").unlink()
    (model / "current").symlink_to("../../outside")
    with pytest.raises(ReleaseError, match="not to a version beside it"):
        open_release(model)


def test_a_giant_manifest_is_not_read(release):
    with (release / "manifest.json").open("r+b") as file:
        file.truncate(1 << 40)
    _refused(release, "manifest.json")


def test_large_files_are_hashed_in_pieces(tmp_path):
    content = os.urandom((1 << 20) * 2 + 17)
    with new_version(tmp_path, "big") as draft:
        draft.write("model.onnx", content)
        folder = draft.commit(task="embed", rung="fp32", variants={"canonical": "model.onnx"})
    assert open_release(folder).read("model.onnx") == content
