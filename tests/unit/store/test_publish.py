import errno
import multiprocessing
import os
import signal
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

from octavo.errors import ReleaseError
from octavo.store import locks
from octavo.store import publish as publishing
from octavo.store.publish import new_version
from octavo.store.release import open_release, verify_release
from octavo.store.versions import current, versions


def _everything(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def _publish_many(store, count):
    made = []
    for _ in range(count):
        with new_version(store, "intent") as draft:
            draft.write("certificate.json", f'{{"version": "{draft.version}"}}'.encode())
            made.append(draft.commit(task="classify", rung="fp32", variants={}, make_current=True).name)
    return made


def test_versions_count_up_and_the_draft_knows_its_own(tmp_path):
    assert _publish_many(tmp_path, 3) == ["1", "2", "3"]
    for version in "123":
        release = open_release(tmp_path / "intent" / version)
        assert release.read_json("certificate.json") == {"version": version}
    assert current(tmp_path, "intent") == "3"
    assert not [name for name in _everything(tmp_path / "intent") if name.startswith(".")]


def test_current_stays_where_it_is_unless_told(publish, tmp_path):
    publish(tmp_path)
    publish(tmp_path, make_current=False)
    assert current(tmp_path, "intent") == "1"


def test_files_can_be_copied_from_paths(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"graph")
    with new_version(tmp_path / "store", "intent") as draft:
        assert draft.write("model.onnx", tmp_path / "model.onnx").size_bytes == 5
        with pytest.raises(ReleaseError, match="absent: cannot be read"):
            draft.write("config.json", tmp_path / "absent")
        folder = draft.commit(task="embed", rung="fp32", variants={"canonical": "model.onnx"}, created="2026")
    assert open_release(folder).read("model.onnx") == b"graph"
    assert open_release(folder).manifest.created == "2026"


def test_the_same_content_makes_the_same_release(tmp_path):
    folders = []
    for store in ("a", "b"):
        with new_version(tmp_path / store, "intent") as draft:
            for name in ("b.json", "a.json") if store == "a" else ("a.json", "b.json"):
                draft.write(name, b"{}")
            folders.append(draft.commit(task="embed", rung="fp32", variants={}, created="2026"))
    first, second = (folder / "manifest.json" for folder in folders)
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    "failure",
    [ValueError("boom"), KeyboardInterrupt(), OSError(5, "theirs")],
    ids=["error", "Ctrl-C", "their OSError"],
)
def test_whatever_interrupts_leaves_nothing_and_is_not_disguised(tmp_path, failure):
    def fail():
        with new_version(tmp_path / "new" / "store", "intent") as draft:
            draft.write("variants/a.onnx", b"x" * 1000)
            raise failure

    with pytest.raises(type(failure)) as raised:
        fail()
    assert raised.value is failure
    assert _everything(tmp_path) == []


def test_leaving_without_a_commit_leaves_nothing(publish, tmp_path):
    publish(tmp_path)
    before = _everything(tmp_path)
    with new_version(tmp_path, "intent") as draft:
        draft.write("model.onnx", b"x")
        assert (tmp_path / "intent" / ".draft-2" / "model.onnx").exists()
    assert _everything(tmp_path) == before


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("failing", ["model.onnx", "manifest.json"])
def test_a_full_disk_says_needed_and_free_and_leaves_nothing(tmp_path, monkeypatch, publish, code, failing):
    real = publishing._copied

    def copied(source, target):
        if Path(target.name).name == failing:
            target.write(source.read(10))
            raise OSError(code, os.strerror(code))
        return real(source, target)

    monkeypatch.setattr(publishing, "_copied", copied)
    with pytest.raises(ReleaseError, match=rf"{failing} needs [\d,]+ bytes, and .* has [\d,]+ bytes free") as raised:
        publish(tmp_path / "store")
    assert "draft" not in str(raised.value)
    assert _everything(tmp_path) == []


def test_a_write_that_failed_can_be_done_again(tmp_path, monkeypatch):
    def half(source, target):
        target.write(source.read(10))
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with new_version(tmp_path, "intent") as draft:
        with monkeypatch.context() as patch:
            patch.setattr(publishing, "_copied", half)
            with pytest.raises(ReleaseError, match=r"model\.onnx: cannot be written"):
                draft.write("model.onnx", b"x" * 100)
        draft.write("model.onnx", b"y" * 100)
        folder = draft.commit(task="embed", rung="fp32", variants={})
    assert verify_release(folder) == []


@pytest.mark.parametrize("step", ["_flush_folder", "_copied", "point_current"])
def test_an_interrupt_at_any_step_leaves_a_whole_release_or_none(tmp_path, monkeypatch, publish, step):
    publish(tmp_path)

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(publishing, step, interrupted)
    with pytest.raises(KeyboardInterrupt):
        publish(tmp_path)
    assert not list((tmp_path / "intent").glob(".*"))
    for info in versions(tmp_path, "intent"):
        assert verify_release(tmp_path / "intent" / info.version) == []
    assert current(tmp_path, "intent") == "1"


def test_a_store_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ReleaseError, match="file/intent: the store cannot be written"),
        new_version(tmp_path / "file", "intent"),
    ):
        pass


def test_misuse_of_a_draft_is_refused(tmp_path):
    with new_version(tmp_path, "intent") as draft:
        draft.write("a.json", b"{}")
        with pytest.raises(ReleaseError, match="already written"):
            draft.write("a.json", b"{}")
        for name in ("../a.json", "a.pkl", "manifest.json"):
            with pytest.raises(ReleaseError):
                draft.write(name, b"")
        with pytest.raises(ReleaseError, match="not a file of it"):
            draft.commit(task="embed", rung="fp32", variants={"canonical": "model.onnx"})
        draft.commit(task="embed", rung="fp32", variants={})
        with pytest.raises(ReleaseError, match="is committed"):
            draft.commit(task="embed", rung="fp32", variants={})
        with pytest.raises(ReleaseError, match="is committed"):
            draft.write("b.json", b"{}")
    assert _everything(tmp_path) == ["intent", "intent/1", "intent/1/a.json", "intent/1/manifest.json"]


def test_a_folder_that_took_the_name_is_not_overwritten(tmp_path):
    with new_version(tmp_path, "intent") as draft:
        (tmp_path / "intent" / "1").mkdir()
        with pytest.raises(ReleaseError, match="cannot get its name"):
            draft.commit(task="embed", rung="fp32", variants={})
    assert _everything(tmp_path) == ["intent", "intent/1"]


@pytest.mark.parametrize("with_locks", [True, False])
def test_threads_get_distinct_versions(tmp_path, monkeypatch, with_locks):
    if not with_locks:  # as on a network mount

        def refuse(*args):
            raise OSError(errno.ENOLCK, "no locks")

        monkeypatch.setattr(locks.fcntl, "flock", refuse)
    with ThreadPoolExecutor(6) as pool:
        made = [name for names in pool.map(lambda _: _publish_many(tmp_path, 4), range(6)) for name in names]
    assert sorted(made, key=int) == [str(i) for i in range(1, 25)]
    assert not list((tmp_path / "intent").glob(".*"))
    for version in made:
        assert open_release(tmp_path / "intent" / version).read_json("certificate.json") == {"version": version}


def test_processes_get_distinct_versions(tmp_path):
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        made = [pool.submit(_publish_many, tmp_path, 8) for _ in range(2)]
        names = [name for future in made for name in future.result()]
    assert len(set(names)) == 16
    assert not list((tmp_path / "intent").glob(".*"))


_HOLD = """
import sys, time
from octavo.store.publish import new_version
with new_version(sys.argv[1], "intent") as draft:
    draft.write("model.onnx", b"x" * 5000)
    print(draft.version, flush=True)
    time.sleep(60)
"""


def _start_holder(store):
    command = [sys.executable, "-c", _HOLD, str(store)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)


def test_a_draft_of_a_living_process_is_left_alone_and_of_a_dead_one_removed(tmp_path):
    with _start_holder(tmp_path) as holder:
        assert holder.stdout.readline().strip() == b"1"
        assert _publish_many(tmp_path, 1) == ["2"]
        draft = tmp_path / "intent" / ".draft-1"
        assert draft.is_dir()
        holder.kill()
        holder.wait()
        assert draft.is_dir()
        assert _publish_many(tmp_path, 1) == ["3"]
        assert not draft.exists()


def test_ctrl_c_leaves_nothing(tmp_path):
    with _start_holder(tmp_path / "store") as holder:
        assert holder.stdout.readline().strip() == b"1"
        holder.send_signal(signal.SIGINT)
        holder.wait(timeout=30)
    assert _everything(tmp_path) == []
