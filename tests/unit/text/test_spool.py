import subprocess
import sys
from dataclasses import dataclass, field
from itertools import chain

import msgspec
import numpy as np
import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers, processors

from octavo.errors import InputError
from octavo.text import spool as spool_module
from octavo.text.spool import spool
from octavo.text.tokenizer import Tokenizer
from octavo.types import Pair, Words

WORDS = ["red", "shoes", "for", "two", "blue", "hats"]


def _tokenizer(max_length=12):
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
    made = tokenizers.Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return Tokenizer.from_bytes(made.to_str().encode(), max_length=max_length, source="tokenizer.json")


TOKENIZER = _tokenizer()


@dataclass
class _Watched:
    """A tokenizer that notes what it is asked for."""

    chunks: list = field(default_factory=list)

    def encode(self, inputs):
        self.chunks.append(inputs)
        return TOKENIZER.encode(inputs)


def _same(spooled, groups):
    """Assert that a spool holds these groups."""
    expected = TOKENIZER.encode(list(chain.from_iterable(groups)))
    batch = spooled.batch
    assert batch.ids.tolist() == expected.ids.tolist()
    assert batch.offsets.tolist() == expected.offsets.tolist()
    assert batch.read_places.tolist() == expected.read_places.tolist()
    segments = [0] * batch.tokens if batch.segments is None else batch.segments.tolist()
    assert segments == ([0] * expected.tokens if expected.segments is None else expected.segments.tolist())
    assert np.diff(spooled.group_offsets).tolist() == [len(group) for group in groups if group]
    assert spooled.group_offsets[0] == 0


texts = st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join)
inputs = (
    texts
    | st.builds(Pair, st.just("red shoes"), texts)
    | st.lists(st.sampled_from([*WORDS, ""]), max_size=6).map(lambda words: Words(tuple(words)))
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(inputs, max_size=4), max_size=12), st.integers(1, 6))
def test_a_spool_holds_what_the_tokenizer_says(tmp_path_factory, groups, chunk):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool_module, "_CHUNK_INPUTS", chunk)
        folder = tmp_path_factory.mktemp("spool") / "new"
        for _ in range(2):  # written, then opened
            _same(spool(folder, "a", iter(groups), TOKENIZER), groups)


@pytest.mark.parametrize("kind", [str, lambda text: Pair("red", text), lambda text: Words(tuple(text.split()))])
def test_rows_are_selected_from_disk(tmp_path, kind):
    items = [kind(" ".join(WORDS[: i % 7])) for i in range(50)]
    batch = spool(tmp_path, "a", [[item] for item in items], TOKENIZER).batch
    expected = TOKENIZER.encode(items).select([40, 3, 3, 17])
    chosen = batch.select([40, 3, 3, 17])
    for name in ("ids", "offsets", "segments", "reads", "read_offsets"):
        found, wanted = getattr(chosen, name), getattr(expected, name)
        assert (found is None) == (wanted is None)
        assert found is None or (found.dtype == np.int64 and found.tolist() == wanted.tolist())
    # No array is in memory: each is a view of a file.
    for name in ("ids", "offsets", "segments", "reads"):
        array = getattr(batch, name)
        assert array is None or isinstance(array.base, np.memmap)


def test_a_finished_spool_is_opened_and_not_written_again(tmp_path):
    groups = [["red shoes"], ["blue", "hats for two"]]
    spool(tmp_path, "a", groups, TOKENIZER)
    told = []
    untouched = (pytest.fail("looked at") for _ in range(1))
    _same(spool(tmp_path, "a", untouched, TOKENIZER, done=told.append), groups)
    assert sum(told) == 2


def test_another_fingerprint_is_written_anew_and_leaves_open_spools_whole(tmp_path):
    old, new = [["red shoes"], ["blue"]], [["hats"]]
    opened = spool(tmp_path, "a", old, TOKENIZER)
    _same(spool(tmp_path, "b", new, TOKENIZER), new)
    _same(opened, old)
    _same(spool(tmp_path, "a", old, TOKENIZER), old)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, InputError, RuntimeError])
def test_an_interrupted_spool_is_gone_on_with(tmp_path, monkeypatch, stop):
    monkeypatch.setattr(spool_module, "_CHUNK_INPUTS", 10)
    groups = [[WORDS[i % 6], Pair("red", WORDS[i % 5])] if i % 3 else [] for i in range(95)]

    def interrupted():
        yield from groups[:70]
        raise stop("here")

    first, told = _Watched(), []
    with pytest.raises(stop):
        spool(tmp_path, "a", interrupted(), first, done=told.append)
    done_before = sum(told)
    assert 60 <= done_before <= 70

    second, told = _Watched(), []
    _same(spool(tmp_path, "a", iter(groups), second, done=told.append), groups)
    assert told[0] == done_before
    assert sum(told) == len(groups)
    once = list(chain.from_iterable([*first.chunks, *second.chunks]))
    assert once == list(chain.from_iterable(groups))


def test_a_stop_in_the_middle_of_a_chunk_leaves_whole_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr(spool_module, "_CHUNK_INPUTS", 10)
    groups = [[Words((WORDS[i % 6],) * (i % 5))] for i in range(60)]
    write, calls = spool_module._write, []

    def half(files, name, values):
        calls.append(name)
        if calls.count("reads") == 3 and name == "reads":
            write(files, name, values[:2])
            raise KeyboardInterrupt
        write(files, name, values)

    monkeypatch.setattr(spool_module, "_write", half)
    with pytest.raises(KeyboardInterrupt):
        spool(tmp_path, "a", groups, TOKENIZER)
    monkeypatch.setattr(spool_module, "_write", write)
    watched = _Watched()
    _same(spool(tmp_path, "a", groups, watched), groups)
    assert sum(map(len, watched.chunks)) == 40


def test_a_process_that_was_killed_loses_what_came_after_the_last_record(tmp_path, monkeypatch):
    monkeypatch.setattr(spool_module, "_CHUNK_INPUTS", 10)
    monkeypatch.setattr(spool_module, "_CHUNKS_A_COMMIT", 2)
    groups = [[WORDS[i % 6]] for i in range(95)]
    commit, commits = spool_module._commit, []

    def killed(*args):
        if len(commits) == 2:
            raise KeyboardInterrupt
        commits.append(args)
        commit(*args)

    monkeypatch.setattr(spool_module, "_commit", killed)
    with pytest.raises(KeyboardInterrupt):
        spool(tmp_path, "a", groups, TOKENIZER)
    monkeypatch.setattr(spool_module, "_commit", commit)
    watched = _Watched()
    _same(spool(tmp_path, "a", groups, watched), groups)
    assert sum(map(len, watched.chunks)) == 95 - 40


@pytest.mark.parametrize("name", ["spool.json", "ids.bin", "offsets.bin", "segments.bin", "reads.bin", "groups.bin"])
@pytest.mark.parametrize("damage", ["missing", "cut", "rubbish"])
def test_a_damaged_spool_is_written_anew(tmp_path, name, damage):
    groups = [["red shoes"], [Pair("blue", "hats")], [Words(("two",))]]
    spool(tmp_path, "a", groups, TOKENIZER)
    path = tmp_path / name
    if damage == "missing":
        path.unlink()
    elif damage == "cut" or name != "spool.json":
        path.write_bytes(path.read_bytes()[:-2])
    else:
        path.write_bytes(b'{"fingerprint": "a", "finished": 7}')
    _same(spool(tmp_path, "a", groups, TOKENIZER), groups)


def test_a_spool_of_another_format_is_written_anew(tmp_path):
    spool(tmp_path, "a", [["red"]], TOKENIZER)
    content = msgspec.json.decode((tmp_path / "spool.json").read_bytes())
    (tmp_path / "spool.json").write_bytes(msgspec.json.encode(content | {"format": 2}))
    _same(spool(tmp_path, "a", [["blue"]], TOKENIZER), [["blue"]])


def test_fewer_records_than_before_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(spool_module, "_CHUNK_INPUTS", 5)

    def interrupted():
        yield from [["red"]] * 20
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        spool(tmp_path, "a", interrupted(), TOKENIZER)
    with pytest.raises(InputError, match=r"20 records were tokenized .* only 7\. Remove"):
        spool(tmp_path, "a", [["red"]] * 7, TOKENIZER)


def test_an_input_that_cannot_be_tokenized_is_told_with_its_records(tmp_path, monkeypatch):
    monkeypatch.setattr(spool_module, "_CHUNK_INPUTS", 4)
    groups = [[Pair("red", "two")]] * 6 + [[Pair("red " * 20, "two")]]
    with pytest.raises(
        InputError, match=r"Records 5 to 7: Pair 2 of this batch: the first text, 'red red .*', has 20 tokens"
    ):
        spool(tmp_path, "a", groups, TOKENIZER)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "in it"):
        with pytest.raises(InputError, match="cannot be kept there"):
            spool(folder, "a", [["red"]], TOKENIZER)


def test_a_full_disk_is_told_and_keeps_what_was_done(tmp_path, monkeypatch):
    monkeypatch.setattr(spool_module, "_CHUNK_INPUTS", 10)
    write, room = spool_module._write, [30]

    def full(files, name, values):
        room[0] -= 1
        if room[0] < 0:
            raise OSError(28, "No space left on device")
        write(files, name, values)

    monkeypatch.setattr(spool_module, "_write", full)
    groups = [["red shoes"]] * 100
    with pytest.raises(InputError, match=r"cannot be kept there \(No space left on device\).*gone on with"):
        spool(tmp_path, "a", groups, TOKENIZER)
    monkeypatch.setattr(spool_module, "_write", write)
    told = []
    _same(spool(tmp_path, "a", groups, TOKENIZER, done=told.append), groups)
    assert told[0] == 70


def test_an_empty_corpus(tmp_path):
    for groups in ([], [[], []]):
        spooled = spool(tmp_path / str(len(groups)), "a", groups, TOKENIZER)
        assert (len(spooled.batch), spooled.batch.tokens, len(spooled.group_offsets)) == (0, 0, 1)


def test_no_more_is_taken_from_the_caller_than_a_chunk(tmp_path):
    taken, ahead, watched = [0], [], _Watched()

    def groups():
        for length in [2] * 9000 + [200_000] * 8:
            taken[0] += 1
            yield ["x" * length]

    spool(tmp_path, "a", groups(), watched, done=lambda records: ahead.append(taken[0] - records))
    assert [len(chunk) for chunk in watched.chunks[:2]] == [4096, 4096]
    assert all(sum(map(len, chunk)) < (1 << 18) + 200_000 for chunk in watched.chunks)
    # When a chunk is done, nothing beyond it has been taken.
    assert ahead[1:] == [0, *np.cumsum([len(chunk) for chunk in watched.chunks[:-1]])]


_MEASURED = """
import sys
from pathlib import Path
from octavo.data.logs import distinct, read_records
from octavo.text.spool import spool
from octavo.text.tokenizer import Tokenizer

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024

folder = Path(sys.argv[1])
tokenizer = Tokenizer.from_folder(folder, 64)
tokenizer.encode(["warm up"])
before = peak()
records = distinct(read_records([folder / "log.txt"]), lambda record: record[0].encode())
spooled = spool(folder / "spool", "a", ([text] for text, _ in records), tokenizer)
print(len(spooled.batch), spooled.batch.tokens, peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_does_not_grow_with_the_log(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "tokenizer.json").write_text(_tokenizer()._tokenizer.to_str())
    with (tmp_path / "log.txt").open("w") as file:
        for start in range(0, 600_000, 1000):
            words = rng.choice([*WORDS, "unheard-of"], (1000, 48))
            file.writelines(f"{start + i} {' '.join(row)}\n" for i, row in enumerate(words))
    size = (tmp_path / "log.txt").stat().st_size
    assert size > 140e6
    command = [sys.executable, "-c", _MEASURED, str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    inputs, tokens, grown = done.stdout.split()
    assert int(inputs) == 600_000
    assert 4 * int(tokens) > 100e6
    assert float(grown) < 60  # MB; the digests of distinct texts take up to 14 of them
