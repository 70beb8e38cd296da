from concurrent.futures import ThreadPoolExecutor

import pytest

from octavo.errors import ReleaseError
from octavo.store.names import model_folder, version_folder
from octavo.store.release import open_release
from octavo.store.versions import current, models, needed_models, point_current, set_current, versions


@pytest.mark.parametrize("name", ["intent", "a", "A1._-", "x" * 64])
def test_model_names_that_folders_and_urls_can_hold(name, tmp_path):
    assert model_folder(tmp_path, name) == tmp_path / name


@pytest.mark.parametrize("name", ["", ".", "..", ".a", "-a", "a/b", "a b", "a\n", "naïve", "x" * 65, "current", "a\0"])
def test_other_model_names_are_refused(name, tmp_path):
    for use in (model_folder, current, versions):
        with pytest.raises(ReleaseError, match="not a model name"):
            use(tmp_path, name)


@pytest.mark.parametrize("version", ["", "0", "01", "-1", "1.0", "current", "../1", "1\n", "١"])
def test_versions_are_positive_integers(version, tmp_path):
    with pytest.raises(ReleaseError, match="not a version"):
        version_folder(tmp_path, "intent", version)


def test_a_store_is_listed(publish, tmp_path):
    for _ in range(11):
        publish(tmp_path, "ranker", make_current=False)
    publish(tmp_path, "intent")
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "empty").mkdir()
    assert models(tmp_path) == ["intent", "ranker"]
    assert [info.version for info in versions(tmp_path, "ranker")] == [str(i) for i in range(1, 12)]
    (info,) = versions(tmp_path, "intent")
    assert (info.is_current, info.rung, info.verdict, info.note) == (True, "kd-qat", "pass", "")
    assert info.created is not None
    assert versions(tmp_path, "absent") == []
    with pytest.raises(ReleaseError, match=r"cannot be listed, as there is no such folder.*compress --store"):
        models(tmp_path / "absent")
    assert needed_models(tmp_path) == ["intent", "ranker"]
    with pytest.raises(ReleaseError, match="no releases here"):
        needed_models(tmp_path / "empty")
    with pytest.raises(ReleaseError, match=f"is one model. Name the store that it is in: {tmp_path}"):
        needed_models(tmp_path / "intent")


def test_broken_releases_are_listed_with_a_note(publish, tmp_path, files):
    folders = [publish(tmp_path) for _ in range(3)]
    (folders[0] / "manifest.json").write_bytes(b"{}")
    (folders[1] / "certificate.json").write_bytes(b'{"verdict": "pass"}')
    publish(tmp_path, files={name: b"no" if name == "certificate.json" else files[name] for name in files})
    notes = [info.note for info in versions(tmp_path, "intent")]
    assert "manifest.json" in notes[0]
    assert "certificate.json" in notes[1]
    assert notes[2] == ""
    assert "not a JSON object" in notes[3]
    assert [info.verdict for info in versions(tmp_path, "intent")] == [None, None, "pass", None]


def test_set_current_moves_forth_and_back(publish, tmp_path):
    publish(tmp_path)
    publish(tmp_path)
    assert current(tmp_path, "intent") == "2"
    assert set_current(tmp_path, "intent", "1").version == "1"
    assert current(tmp_path, "intent") == "1"
    assert str((tmp_path / "intent" / "current").readlink()) == "1"


def test_set_current_refuses_what_is_missing_or_damaged(publish, tmp_path):
    publish(tmp_path)
    second = publish(tmp_path, make_current=False)
    (second / "golden.json").write_bytes(b"{}")
    with pytest.raises(ReleaseError, match=r"golden\.json"):
        set_current(tmp_path, "intent", "2")
    with pytest.raises(ReleaseError, match=r"no version 3\. There are: 1, 2"):
        set_current(tmp_path, "intent", "3")
    assert current(tmp_path, "intent") == "1"


def test_a_current_that_is_no_link_to_a_version(publish, tmp_path):
    publish(tmp_path, make_current=False)
    assert current(tmp_path, "intent") is None
    link = tmp_path / "intent" / "current"
    link.symlink_to("/etc")
    with pytest.raises(ReleaseError, match="not to a version"):
        current(tmp_path, "intent")
    assert not versions(tmp_path, "intent")[0].is_current
    set_current(tmp_path, "intent", "1")
    assert current(tmp_path, "intent") == "1"
    link.unlink()
    link.mkdir()
    with pytest.raises(ReleaseError, match="cannot point to 1"):
        set_current(tmp_path, "intent", "1")
    assert not list(link.parent.glob(".*"))


def test_links_that_a_dead_process_left_are_removed(publish, tmp_path):
    publish(tmp_path)
    (tmp_path / "intent" / ".current-dead").symlink_to("1")
    set_current(tmp_path, "intent", "1")
    assert not list((tmp_path / "intent").glob(".*"))


def test_current_never_dangles_while_it_moves(publish, tmp_path):
    for _ in range(2):
        publish(tmp_path)
    folder = tmp_path / "intent"

    def read():
        for _ in range(200):
            # The link itself must always be there, and so must a whole release behind it.
            assert (folder / "current" / "manifest.json").is_file()
            assert open_release(folder).version in ("1", "2")

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        moves = 0
        while not all(reader.done() for reader in readers):
            point_current(folder, str(moves % 2 + 1))
            moves += 1
        for reader in readers:
            reader.result()
    assert moves > 2
