"""Candidate lists for a ranker: what an embedder finds for each query, with the right documents among them.

A ranker in service meets what the stage before it found, so that is what it is trained and certified on. Needs no
torch.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from octavo.data.candidates import Candidates, candidates_from_ranking
from octavo.data.retrieval import Retrieval, read_retrieval
from octavo.errors import InputError
from octavo.ladder.evidence import BATCH_INPUTS, outputs_in_batches
from octavo.progress import Progress, Silent
from octavo.store.model import Model
from octavo.tasks.embed import Document, Embed
from octavo.tasks.ranking import top_documents
from octavo.types import FloatArray, IntArray


def mined_candidates(
    model: Model,
    judged: Path,
    size: int,
    *,
    most_queries: int | None = None,
    documents: FloatArray | None = None,
    progress: Progress | None = None,
) -> Candidates:
    """Return a list of `size` candidates for each judged query: the right documents, and the nearest others.

    Args:
        model: an embedder's release.
        judged: qrels file of a BEIR folder, or pairs.
        size: documents per query.
        most_queries: take this many queries, evenly spaced over the file; None for all.
        documents: `document_vectors` of the same corpus, if they are there already.
        progress: where to report.

    Raises:
        InputError: the release is no embedder, or the rows are unfit.
    """
    _check_embedder(model)
    retrieval = read_retrieval(judged)
    if most_queries is not None:
        retrieval = _with_fewer_queries(retrieval, most_queries)
    progress = progress or Silent()
    queries = _vectors(model, list(retrieval.queries), "embed queries", progress)
    if documents is None:
        documents = _document_vectors(model, retrieval, progress)
    found: list[IntArray] = top_documents(queries, documents, size)
    return candidates_from_ranking(retrieval, found, size)


def document_vectors(model: Model, judged: Path, progress: Progress | None = None) -> FloatArray:
    """Return the vectors of the whole corpus that some judged queries are about, (documents, width)."""
    _check_embedder(model)
    return _document_vectors(model, read_retrieval(judged), progress or Silent())


def _check_embedder(model: Model) -> None:
    if not isinstance(model.task, Embed):
        raise InputError(
            f"{model.release.folder} is a release for task '{model.task.name}'; candidates need an embedder."
        )


def _document_vectors(model: Model, retrieval: Retrieval, progress: Progress) -> FloatArray:
    return _vectors(model, [Document(text) for text in retrieval.documents], "embed documents", progress)


def _with_fewer_queries(retrieval: Retrieval, most: int) -> Retrieval:
    chosen = np.unique(np.linspace(0, len(retrieval.queries) - 1, most).astype(int)).tolist()
    return replace(
        retrieval,
        query_ids=[retrieval.query_ids[i] for i in chosen],
        queries=[retrieval.queries[i] for i in chosen],
        relevance=[retrieval.relevance[i] for i in chosen],
        negatives=[retrieval.negatives[i] for i in chosen],
        sources=[retrieval.sources[i] for i in chosen],
    )


def _vectors(model: Model, items: list[str] | list[Document], label: str, progress: Progress) -> FloatArray:
    batch = model.tokenizer.encode(model.task.prepare(items))
    order = np.argsort(batch.lengths, kind="stable")
    with progress.step(label, len(batch)) as bar:
        outputs = outputs_in_batches(model.engine.run, batch.select(order), BATCH_INPUTS, bar).values
    back = np.empty_like(outputs)
    back[order] = outputs
    return back
