"""What is measured: cells (a model on some threads), and the cases of each (a trace, a batch, tokens or text in)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from bench.engines.traces import TRACES

OFFLINE = 0  # as a batch: the whole stream is there, and the engine may sort and pack it
BATCHES = (1, 8, 32, 64, OFFLINE)
THREADS = (1, 2)
# On two threads a quick run has the native engine and what came nearest to it.
_QUICK_ON_TWO = ("native", "ctranslate2-int8", "openvino-packed", "openvino-int8", "onnxruntime-u8-packed")
# A part has those that come near, and none that takes long to prepare.
_PART_PEERS = (
    "native", "native-vnni", "native-per-token", "ctranslate2-int8", "openvino-packed", "openvino-packed-bf16",
    "openvino-int8-dynamic", "openvino-bf16", "onnxruntime-u8-packed",
)  # fmt: skip
_FEWEST_IN_STREAM = 64
_TEXT_BATCHES = (1, 32, OFFLINE)
_MOST_TOKENS_WIDE = 8192  # a batch of 12 layers of 768 with more takes a float engine half a minute


class Case(msgspec.Struct, frozen=True):
    """One thing to measure.

    Attributes:
        trace: name of the lengths.
        batch: texts per call; `OFFLINE` for a stream.
        is_text: text goes in, tokenization included; else tokens do.
    """

    trace: str
    batch: int
    is_text: bool = False

    @property
    def title(self) -> str:
        """For tables and progress."""
        size = "offline" if self.batch == OFFLINE else f"batch {self.batch}"
        return f"{self.trace}, {size}, {'text' if self.is_text else 'tokens'} in"


class Cell(msgspec.Struct, frozen=True):
    """One process.

    Attributes:
        model: name of the subject.
        threads: in all.
        lanes: calls side by side, which share the threads.
        cases: in the order in which they are measured.
        peers: names of the contenders.
    """

    model: str
    threads: int
    lanes: int
    cases: tuple[Case, ...]
    peers: tuple[str, ...]

    @property
    def title(self) -> str:
        """For tables and progress."""
        lanes = f" in {self.lanes} lanes" if self.lanes > 1 else ""
        return f"{self.model}, {self.threads} thread{'s' if self.threads > 1 else ''}{lanes}"


class Effort(msgspec.Struct, frozen=True):
    """How long to measure.

    Attributes:
        rounds: of a case, at most.
        case_s: seconds for the rounds of a case; three rounds are run whatever they take.
        singles: queries asked one by one in a round of batch 1.
        stream: texts of an offline stream.
    """

    rounds: int
    case_s: float
    singles: int
    stream: int


def quick_cells(peers: Sequence[str]) -> list[Cell]:
    """Return what the quoted numbers and the goals for MiniLM-L6 rest on."""
    one = (
        Case("short", 1),
        Case("short", 32),
        Case("short", 32, is_text=True),
        Case("passages-94", 8),
    )
    stream, scaling = Case("short", OFFLINE, is_text=True), Case("short", 32)
    nearest = tuple(name for name in peers if name in _QUICK_ON_TWO)
    ours = tuple(name for name in peers if name == "native")
    return [
        Cell("minilm-l6", 1, 1, one, tuple(peers)),
        Cell("minilm-l6", 2, 2, (stream,), nearest),
        Cell("minilm-l6", 2, 1, (stream, scaling), ours),
    ]


PARTS = {
    "wide": ("12x768", (Case("short", 1), Case("short", 32))),
    "passages": ("minilm-l6", (Case("passages-94", 8), Case("passages-256", 8))),
}


def part_cells(part: str, peers: Sequence[str] | None) -> list[Cell]:
    """Return what the goals of one name in `PARTS` rest on; `peers` None for those that come near."""
    model, cases = PARTS[part]
    return [Cell(model, 1, 1, cases, tuple(peers or _PART_PEERS))]


def all_cells(
    models: Sequence[str],
    traces: Sequence[str],
    batches: Sequence[int],
    threads: Sequence[int],
    peers: Sequence[str],
) -> list[Cell]:
    """Return the whole grid. On two threads, streams are also run in two lanes of one thread each."""
    cells = []
    for model in models:
        cases = [
            Case(trace, batch, is_text)
            for trace in traces
            for is_text in (False, True)
            for batch in batches
            if not is_text or batch in _TEXT_BATCHES
        ]
        cases = [case for case in cases if not is_too_long(model, case)]
        for count in threads:
            cells.append(Cell(model, count, 1, tuple(cases), tuple(peers)))
            streams = tuple(case for case in cases if case.batch == OFFLINE)
            if count > 1 and streams:
                cells.append(Cell(model, count, count, streams, tuple(peers)))
    return cells


def is_too_long(model: str, case: Case) -> bool:
    """Return whether a case is left out, as it would take minutes a round."""
    return model == "12x768" and case.batch * TRACES[case.trace].mean_tokens > _MOST_TOKENS_WIDE


def stream_length(effort: Effort, case: Case) -> int:
    """Return how many texts an offline stream has: fewer of long ones, for like numbers of tokens."""
    return max(_FEWEST_IN_STREAM, effort.stream * TRACES["short"].mean_tokens // TRACES[case.trace].mean_tokens)
