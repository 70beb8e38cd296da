"""What a search site is made of. Knows values, no HTTP."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from octavo.search import RERANK
from octavo.search.following import FollowedIndex
from octavo.search.index import Index
from octavo.search.rules import Rules
from octavo.serve.service import Service


@dataclass(frozen=True, slots=True)
class Site:
    """An index, the service that runs its models, and the store that these came from.

    Attributes:
        index: what is searched, one version of it or whichever is current.
        service: runs the models.
        store: of all their versions.
        rules: what understanding a query does to its results.
        ranker: which model ranks, where several could; None for the only one.
        rerank: fused documents that are ranked, where a search does not say; 0 leaves the fused order.
        rank_weight: how much the ranker has to say; None for what was tuned for the index.
        allow_uncertified: search with releases that were not proved to fit the index's vectors.
        admin_port: of the admin API, for the page; None for none.
        has_reports: whether reports of releases may be read by whoever can open the page.
    """

    index: Index | FollowedIndex
    service: Service
    store: Path
    rules: Rules = field(default_factory=Rules)
    ranker: str | None = None
    rerank: int = RERANK
    rank_weight: float | None = None
    allow_uncertified: bool = False
    admin_port: int | None = None
    has_reports: bool = True

    def opened(self) -> Index:
        """Return the version that is to be searched now."""
        return self.index.index if isinstance(self.index, FollowedIndex) else self.index
