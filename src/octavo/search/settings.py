"""`ranking.json` of an index: how much the ranker has to say, and what that rests on. Stands beside the versions.

A version of an index never changes; what is tuned on queries does. Knows the file; `tuning` measures.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from octavo.engines.cache import write_atomically
from octavo.errors import InputError, ReleaseError
from octavo.types import Interval

FILE_NAME = "ranking.json"
RANKER_ALONE = 1.0  # the weight where nothing was tuned

Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]


class Tried(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One weight that was tried.

    Attributes:
        weight: of the ranker.
        ndcg: nDCG@10 with it.
        gain: over the fused order, with the interval of the paired difference.
    """

    weight: Share
    ndcg: Interval
    gain: Interval


class Tuned(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A weight of the ranker, with its evidence.

    Attributes:
        weight: from 0 (the fused order; nothing is ranked) to 1 (the ranker alone).
        ranker: the model that it was measured for; it says nothing of another one.
        releases: model → the version and the engine that it was measured with.
        rerank: documents that were ranked.
        queries: judged ones, of development.
        data_sha256: of queries and judgements.
        index_sha256: of the version of the index that was searched.
        created: ISO 8601 time in UTC.
        tried: every weight, in order.
    """

    format: Literal[1] = 1
    weight: Share
    ranker: str
    releases: dict[str, str]
    rerank: int
    queries: int
    data_sha256: str
    index_sha256: str
    created: str
    tried: list[Tried]


def read_tuned(folder: Path) -> Tuned | None:
    """Return what was tuned for the index in `folder`; None where nothing was.

    Raises:
        ReleaseError: the file is damaged.
    """
    file = folder / FILE_NAME
    try:
        return msgspec.json.decode(file.read_bytes(), type=Tuned)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ReleaseError(
            f"{file}: not what octavo search tune wrote ({error}). Tune again, or remove the file."
        ) from error


def keep_tuned(folder: Path, tuned: Tuned) -> Path:
    """Write what was tuned for the index in `folder`, whole or not at all; return the file.

    Raises:
        InputError: it cannot be written.
    """
    file = folder / FILE_NAME
    try:
        write_atomically(file, msgspec.json.format(msgspec.json.encode(tuned), indent=2) + b"\n")
    except OSError as error:
        raise InputError(f"{file}: cannot be written ({error.strerror}).") from error
    return file


def weight_of(tuned: Tuned | None, ranker: str | None, given: float | None = None) -> float:
    """Return the weight of a ranker: the one that is given, else the one tuned for it, else all."""
    if given is not None:
        return given
    return tuned.weight if tuned is not None and tuned.ranker == ranker else RANKER_ALONE
