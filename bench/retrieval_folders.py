"""Retrieval sets without all three splits, made into BEIR folders that bench/accuracy.py reads.

    python bench/retrieval_folders.py nl2bash FOLDER_OF_NL2BASH --out runs/data/nl2bash
    python bench/retrieval_folders.py questions --test XQUAD_ZH --dev-and-train CMRC2018_ZH --out runs/data/xquad_zh
    python bench/retrieval_folders.py questions --test CMRC2018_ZH --dev-and-train XQUAD_ZH --out runs/data/cmrc2018_zh

`nl2bash`: rows of a description and a command; its dev rows are held out, and dev is 600 queries of train. `questions`:
one set of questions and paragraphs is held out whole; 400 questions of the other choose, the rest of it (at most 1,200)
teach. Every split searches the documents of both sets, so that held-out documents compete with others.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

Judged = list[tuple[str, str]]
_DEV_QUERIES = {"nl2bash": 600, "questions": 400}
_TRAIN_QUERIES = {"nl2bash": 4000, "questions": 1200}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    bash = kinds.add_parser("nl2bash")
    bash.add_argument("folder", type=Path)
    questions = kinds.add_parser("questions")
    questions.add_argument("--test", type=Path, required=True)
    questions.add_argument("--dev-and-train", type=Path, required=True)
    for one in (bash, questions):
        one.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if options.kind == "nl2bash":
        _write_nl2bash(options.folder, options.out)
    else:
        _write_questions(options.test, options.dev_and_train, options.out)


def _write_nl2bash(folder: Path, out: Path) -> None:
    documents: dict[str, str] = {}
    queries: dict[str, str] = {}
    judged: dict[str, Judged] = {}
    for split in ("train", "dev"):
        judged[split] = []
        for row in _objects(folder / f"{split}.jsonl"):
            document = documents.setdefault(row["doc"], f"d{len(documents)}")
            query = f"{split}{len(queries)}"
            queries[query] = row["query"]
            judged[split].append((query, document))
    train, dev = _apart(judged["train"], "nl2bash")
    _write(out, {name: text for text, name in documents.items()}, queries, train, dev, judged["dev"])


def _write_questions(test: Path, other: Path, out: Path) -> None:
    documents: dict[str, str] = {}
    queries: dict[str, str] = {}
    judged: list[Judged] = []
    for folder in (test, other):
        documents |= {f"{folder.name}-{one['id']}": one["text"] for one in _objects(folder / "corpus.jsonl")}
        queries |= {f"{folder.name}-{one['id']}": one["text"] for one in _objects(folder / "queries.jsonl")}
        file = folder / "qrels.test.tsv" if (folder / "qrels.test.tsv").is_file() else folder / "qrels.tsv"
        lines = (line.split("\t") for line in file.read_text("utf-8").splitlines()[1:])
        judged.append([(f"{folder.name}-{query}", f"{folder.name}-{document}") for query, document, _ in lines])
    train, dev = _apart(judged[1], "questions")
    _write(out, documents, queries, train, dev, judged[0])


def _apart(judged: Judged, kind: str) -> tuple[Judged, Judged]:
    """Split pairs into train and dev: every fourth document of those that come first, until dev has its queries."""
    documents = list(dict.fromkeys(document for _, document in judged))
    in_dev: set[str] = set()
    for document in documents[::4]:
        if sum(one in in_dev for _, one in judged) >= _DEV_QUERIES[kind]:
            break
        in_dev.add(document)
    dev = [pair for pair in judged if pair[1] in in_dev]
    train = [pair for pair in judged if pair[1] not in in_dev][: _TRAIN_QUERIES[kind]]
    return train, dev


def _write(
    out: Path, documents: dict[str, str], queries: dict[str, str], train: Judged, dev: Judged, test: Judged
) -> None:
    (out / "qrels").mkdir(parents=True, exist_ok=True)
    for name, texts in (("corpus", documents), ("queries", queries)):
        _write_lines(out / f"{name}.jsonl", ({"_id": key, "text": text} for key, text in texts.items()))
    for split, pairs in (("train", train), ("dev", dev), ("test", test)):
        rows = "".join(f"{query}\t{document}\t1\n" for query, document in pairs)
        (out / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + rows, "utf-8")


def _objects(file: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def _write_lines(file: Path, objects: Iterable[dict[str, str]]) -> None:
    file.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in objects), "utf-8")


if __name__ == "__main__":
    main()
