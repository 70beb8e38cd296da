"""The parts of a service, put together: who answers, when, who hears of it, and what stands at which address.

Starts nothing, opens no port, loads no model: the process does.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from starlette.routing import BaseRoute
from starlette.types import ASGIApp

import octavo
from octavo.serve.admin import Admin, create_admin
from octavo.serve.cache import OutputCache
from octavo.serve.cores import plan_cores
from octavo.serve.cross_origin import allowing_page
from octavo.serve.http.app import create_app
from octavo.serve.http.settings import ApiSettings
from octavo.serve.local_service import LocalService
from octavo.serve.metrics import Metrics
from octavo.serve.queue import Limits
from octavo.serve.registry import Registry
from octavo.serve.rollout import Rollout
from octavo.serve.scheduler import Scheduler
from octavo.serve.service import Listener, Listeners, Service
from octavo.serve.settings import ServeSettings
from octavo.serve.status import Status, models_status
from octavo.serve.traffic import LastMinute


class Extension(Protocol):
    """What another room adds to a service."""

    def routes(
        self, service: Service, api_settings: ApiSettings, listener: Listener, admin_port: int
    ) -> Sequence[BaseRoute]:
        """Return the routes, for a service whose admin API listens on `admin_port`."""

    def refresh(self, *, retry: bool) -> None:
        """Look for what is new, as the store is read: in a thread. What it raises goes to the log, once.

        Args:
            retry: also try again what failed before.
        """

    async def close(self) -> None:
        """Let go of all that was loaded. Nothing is asked any more."""


_log = logging.getLogger(__name__)


class Observer(Listener, Protocol):
    """A listener that also sees requests on their way through HTTP."""

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """Return the app, observed."""

    def close(self) -> None:
        """Write or send what is left."""


@dataclass(frozen=True, slots=True)
class Parts:
    """A service in parts.

    Attributes:
        settings: that it runs by.
        observers: of requests.
        listener: all who hear of what happens.
        metrics: for Prometheus.
        minute: the last one, in memory.
        registry: which release of each model serves.
        rollout: trials.
        scheduler: when requests are computed.
        service: the whole of it, to whoever asks.
        started: ISO 8601, UTC.
    """

    settings: ServeSettings
    observers: Sequence[Observer]
    listener: Listener
    metrics: Metrics
    minute: LastMinute
    registry: Registry
    rollout: Rollout
    scheduler: Scheduler
    service: LocalService
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @property
    def api_settings(self) -> ApiSettings:
        """What clients are allowed, over HTTP and gRPC."""
        settings = self.settings
        return ApiSettings(
            max_body_bytes=settings.max_body_bytes, max_inputs=settings.max_inputs, api_keys=settings.api_keys
        )

    def app(self, extension: Extension | None, admin_port: int) -> ASGIApp:
        """Return what clients ask."""
        extra = extension.routes(self.service, self.api_settings, self.listener, admin_port) if extension else ()
        app: ASGIApp = create_app(self.service, self.api_settings, listener=self.listener, extra_routes=extra)
        for observer in self.observers:
            app = observer.wrap(app)
        return app

    def admin(self, key: str, page_port: int | None = None) -> ASGIApp:
        """Return what operators ask; so may a page that the service shows under `page_port`."""
        app = create_admin(Admin(self.registry, self.rollout, self.status, self.metrics.exposition, key))
        return app if page_port is None else allowing_page(app, page_port)

    def status(self) -> Status:
        """Return the state of the service. On the event loop."""
        return Status(
            octavo=octavo.__version__,
            pid=os.getpid(),
            store=str(self.settings.store.resolve()),
            started=self.started,
            ready=self.service.ready,
            models=models_status(self.registry, self.minute, self.rollout.records()),
            failures=dict(self.registry.failures()),
            refused=self.minute.refusals().get("", {}),
        )


def assemble(settings: ServeSettings, observers: Sequence[Observer] = ()) -> Parts:
    """Put a service together."""
    plan = plan_cores(settings.workers)
    _log.info("%s", plan.line())
    minute = LastMinute()
    # The metrics come before the service that they ask at a scrape.
    metrics = Metrics(lambda: service.models(), caches=settings.cache_entries > 0)
    listener = Listeners([metrics, minute, _Announcer(), *observers])
    registry = Registry(
        settings.store,
        threads=plan.engine_threads,
        listener=listener,
        allow_uncertified=settings.allow_uncertified,
        max_batch_tokens=settings.max_batch_tokens,
        drain_s=settings.drain_s,
    )
    rollout = Rollout(registry, settings.store)
    scheduler = scheduler_from_settings(settings, listener)
    service = LocalService(registry, scheduler, settings, listener, rollout)
    return Parts(settings, observers, listener, metrics, minute, registry, rollout, scheduler, service)


def scheduler_from_settings(settings: ServeSettings, listener: Listener) -> Scheduler:
    """Return a scheduler by the settings and the plan of cores; it is not started."""
    limits = Limits(
        max_batch_tokens=settings.max_batch_tokens,
        batch_wait_s=settings.batch_wait_ms / 1000,
        max_queue_s=settings.max_queue_ms / 1000,
        workers=plan_cores(settings.workers).workers,
    )
    cache = OutputCache(settings.cache_entries) if settings.cache_entries else None
    return Scheduler(limits, listener, cache=cache, max_tokens=settings.max_tokens)


class _Announcer(Listener):
    """Writes swaps to the log."""

    def swapped(self, model: str, old: str | None, new: str | None, seconds: float, error: str | None) -> None:
        """Say what serves from now on, or why not."""
        if error is not None:
            _log.error(
                "%s: %s does not serve, %s: %s", model, new, f"{old} serves on" if old else "nothing does", error
            )
        elif new is None:
            _log.warning("%s: gone from the store, %s is unloaded", model, old)
        else:
            _log.info("%s: %s serves%s (%.1f s)", model, new, f" in place of {old}" if old else "", seconds)
