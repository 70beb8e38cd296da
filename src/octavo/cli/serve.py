"""`octavo serve`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from octavo.cli import options, output
from octavo.cli.failures import needs_extra
from octavo.cli.progress import shown_progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.routing import BaseRoute

    from octavo.serve.assembly import ExtraRoutes
    from octavo.serve.http.settings import ApiSettings
    from octavo.serve.process import OnRefresh
    from octavo.serve.running import Running
    from octavo.serve.service import Listener, Service
    from octavo.serve.settings import ServeSettings

ADMIN_KEY = "OCTAVO_ADMIN_KEY"
API_KEY = "OCTAVO_API_KEY"

_LISTENING = "Listening"
_OVERLOAD = "Waiting and overload"
_WATCHING = "Watching it"
_SEARCH = "Searching"


def serve(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="Folder that releases were published to.")],
    index: Annotated[
        Path | None,
        typer.Option(
            metavar="INDEX",
            help="Search it: /v1/search, and a page to look at. Made by octavo search index.",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    rules: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What intents and slots do (docs/search.md).", rich_help_panel=_SEARCH),
    ] = None,
    ranker: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Which ranks, where there are several.", rich_help_panel=_SEARCH),
    ] = None,
    rerank: Annotated[
        int,
        typer.Option(
            min=0, max=100, metavar="N", help="Rank the first N documents; 0: no ranking.", rich_help_panel=_SEARCH
        ),
    ] = 20,
    rank_weight: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            metavar="W",
            help="Of the ranker; default: as it was tuned, else 1.",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 for all of them.", rich_help_panel=_LISTENING)
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, rich_help_panel=_LISTENING, help="0 for a free one.")] = 8000,
    admin_port: Annotated[
        int, typer.Option(min=0, max=65535, rich_help_panel=_LISTENING, help="Of the admin API and /metrics.")
    ] = 8001,
    admin_host: Annotated[
        str, typer.Option(help="Address that the admin API listens on.", rich_help_panel=_LISTENING)
    ] = "127.0.0.1",
    grpc_port: Annotated[
        int | None, typer.Option(min=1, max=65535, rich_help_panel=_LISTENING, help="Default: no gRPC.")
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(
            envvar=API_KEY, help="Clients have to show it; may be repeated.", rich_help_panel=_LISTENING, metavar="KEY"
        ),
    ] = None,
    admin_key: Annotated[
        str | None,
        typer.Option(envvar=ADMIN_KEY, help="Default: a new one.", rich_help_panel=_LISTENING, metavar="KEY"),
    ] = None,
    max_queue_ms: Annotated[
        float,
        typer.Option(min=0.001, help="What would wait longer is refused (429).", rich_help_panel=_OVERLOAD),
    ] = 250.0,
    batch_wait_ms: Annotated[
        float, typer.Option(min=0, help="A batch waits so long for company.", rich_help_panel=_OVERLOAD)
    ] = 0.0,
    cache: Annotated[
        int, typer.Option(min=0, help="Inputs whose answers are remembered.", rich_help_panel=_OVERLOAD)
    ] = 0,
    threads: options.Threads = None,
    grace_s: Annotated[
        float, typer.Option(min=0, help="Told to stop, it serves on so long.", rich_help_panel=_OVERLOAD)
    ] = 5.0,
    drain_s: Annotated[
        float, typer.Option(min=0.1, help="Then requests have so long to end.", rich_help_panel=_OVERLOAD)
    ] = 30.0,
    access_log: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="A JSON line for each request; - for stdout.", rich_help_panel=_WATCHING),
    ] = None,
    otel: Annotated[
        bool,
        typer.Option("--otel", help="Send spans to OpenTelemetry (OTEL_… say where).", rich_help_panel=_WATCHING),
    ] = False,
    watch: Annotated[
        bool,
        typer.Option("--watch/--no-watch", help="Follow `current` in the store.", rich_help_panel=_WATCHING),
    ] = True,
    allow_uncertified: Annotated[
        bool, typer.Option("--allow-uncertified", help="Serve releases whose certificate is no pass.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Serve the current release of every model in a store over HTTP.

    It is live at once and ready when all models were tried. /docs describes the API; octavo promote, rollback, canary
    and status speak to the running service. SIGTERM ends it without losing a request, SIGHUP reads store and index
    again.

    [bold]Examples[/bold]

      octavo serve store
      octavo serve store --index index
      octavo serve store --host 0.0.0.0 --key SECRET --access-log access.jsonl
      octavo serve store --max-queue-ms 50 --cache 100000

    [bold]Exit codes[/bold]

      0 told to stop · 2 no such store, or a port is in use
    """
    with needs_extra():
        from octavo.serve.process import run
        from octavo.serve.settings import ServeSettings

    def on_live(running: Running, file: Path | None) -> None:
        _show_live(running, file, as_json, has_page=index is not None)

    _log_to_stderr()
    settings = ServeSettings(
        store=store,
        host=host,
        port=port,
        admin_port=admin_port,
        grpc_port=grpc_port,
        api_keys=tuple(key or ()),
        admin_key=admin_key,
        workers=threads,
        max_queue_ms=max_queue_ms,
        batch_wait_ms=batch_wait_ms,
        cache_entries=cache,
        grace_s=grace_s,
        drain_s=drain_s,
        watch_s=1.0 if watch else 0.0,
        allow_uncertified=allow_uncertified,
    )
    extra_routes, on_refresh = None, None
    if index is not None:
        extra_routes, on_refresh = _search_routes(index, rules, ranker, rerank, rank_weight, settings, as_json)
    run(
        settings,
        admin_host=admin_host,
        access_log=access_log,
        tracing=otel,
        on_live=on_live,
        extra_routes=extra_routes,
        on_refresh=on_refresh,
    )


def _search_routes(
    index: Path,
    rules: Path | None,
    ranker: str | None,
    rerank: int,
    rank_weight: float | None,
    settings: ServeSettings,
    as_json: bool,
) -> tuple[ExtraRoutes, OnRefresh]:
    """Open an index; return what makes the routes that search it, and what takes up a version published later."""
    with needs_extra():
        from octavo.search.following import FollowedIndex
        from octavo.search.index import open_index
        from octavo.search.rules import Rules, read_rules
        from octavo.search.web.routes import search_routes
        from octavo.search.web.site import Site
    table = read_rules(rules) if rules else Rules()
    with shown_progress(as_json) as progress:
        followed = FollowedIndex(index, open_index(index, progress))

    def routes(service: Service, api_settings: ApiSettings, listener: Listener, admin_port: int) -> Sequence[BaseRoute]:
        site = Site(
            followed,
            service,
            settings.store,
            rules=table,
            ranker=ranker,
            rerank=rerank,
            rank_weight=rank_weight,
            allow_uncertified=settings.allow_uncertified,
            admin_port=admin_port,
            has_reports=not settings.api_keys,  # a browser that follows a link shows no key
        )
        return search_routes(site, api_settings, listener)

    return routes, lambda retry: followed.refresh(retry=retry)


def _show_live(running: Running, file: Path | None, as_json: bool, *, has_page: bool) -> None:
    if as_json:
        output.emit({"pid": running.pid, "host": running.host, "port": running.port, "admin_port": running.admin_port})
        return
    address = f"http://{running.host}:{running.port}/"
    output.tell(f"{address}  the page; {address}docs the API" if has_page else f"{address}docs", style="bold")
    key = f"its key is in {file}" if file else f"its key is what {ADMIN_KEY} says"
    output.tell(f"admin API and /metrics on port {running.admin_port}; {key}")


def _log_to_stderr() -> None:
    """Let the service say what happens, a line each, and libraries only what is wrong."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING, force=True)
    logging.getLogger("octavo").setLevel(logging.INFO)
