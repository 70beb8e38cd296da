"""Search as what it adds to a service: its routes, an index that is followed, and versions to let go of at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from starlette.routing import BaseRoute

from octavo.search.following import FollowedIndex
from octavo.search.rules import Rules
from octavo.search.web.other_versions import OtherVersions
from octavo.search.web.routes import search_routes
from octavo.search.web.site import Site
from octavo.serve.http.settings import ApiSettings
from octavo.serve.service import Listener, Service
from octavo.serve.settings import ServeSettings


@dataclass(slots=True)
class SearchExtension:
    """An `Extension` of the service.

    Attributes:
        index: that is searched.
        settings: of the service.
        rules: what understanding a query does to its results.
        ranker: which model ranks; see `Site` for this and the next two.
        rerank: fused documents that are ranked.
        rank_weight: how much the ranker has to say.
    """

    index: FollowedIndex
    settings: ServeSettings
    rules: Rules
    ranker: str | None
    rerank: int
    rank_weight: float | None
    _others: OtherVersions | None = field(default=None, init=False)

    def routes(
        self, service: Service, api_settings: ApiSettings, listener: Listener, admin_port: int
    ) -> Sequence[BaseRoute]:
        """Return the routes of a search site over the service."""
        site = Site(
            self.index,
            service,
            self.settings.store,
            rules=self.rules,
            ranker=self.ranker,
            rerank=self.rerank,
            rank_weight=self.rank_weight,
            allow_uncertified=self.settings.allow_uncertified,
            admin_port=admin_port,
            has_reports=not self.settings.api_keys,  # a browser that follows a link shows no key
        )
        self._others = OtherVersions(service, site.store, allow_uncertified=site.allow_uncertified)
        return search_routes(site, api_settings, listener, others=self._others)

    def refresh(self, *, retry: bool) -> None:
        """Take up a version of the index that was published. Blocks."""
        self.index.refresh(retry=retry)

    async def close(self) -> None:
        """Unload the versions that were compared."""
        if self._others is not None:
            await self._others.close()
