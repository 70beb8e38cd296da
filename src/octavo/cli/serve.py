"""`octavo serve`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from octavo.cli import options, output, serve_options
from octavo.cli.failures import needs_extra
from octavo.cli.progress import shown_progress
from octavo.errors import InputError
from octavo.search import RERANK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from octavo.serve.assembly import Extension
    from octavo.serve.running import Running
    from octavo.serve.settings import ServeSettings


def serve(
    store: serve_options.Store,
    index: serve_options.Index = None,
    rules: serve_options.Rules = None,
    ranker: serve_options.Ranker = None,
    rerank: serve_options.Rerank = RERANK,
    rank_weight: serve_options.RankWeight = None,
    host: serve_options.Host = "127.0.0.1",
    port: serve_options.Port = 8000,
    admin_port: serve_options.AdminPort = 8001,
    admin_host: serve_options.AdminHost = "127.0.0.1",
    grpc_port: serve_options.GrpcPort = None,
    key: serve_options.Key = None,
    admin_key: serve_options.AdminKey = None,
    max_queue_ms: serve_options.MaxQueueMs = 250.0,
    batch_wait_ms: serve_options.BatchWaitMs = 0.0,
    cache: serve_options.Cache = 0,
    threads: options.Threads = None,
    grace_s: serve_options.GraceS = 5.0,
    drain_s: serve_options.DrainS = 30.0,
    access_log: serve_options.AccessLog = None,
    otel: serve_options.Otel = False,
    watch: serve_options.Watch = True,
    allow_uncertified: serve_options.AllowUncertified = False,
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
    if index is None:
        _check_no_search({"--rules": rules, "--ranker": ranker, "--rank-weight": rank_weight}, rerank)
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
    extension = None
    if index is not None:
        extension = _search(index, rules, ranker, rerank, rank_weight, settings, as_json)
    run(
        settings,
        admin_host=admin_host,
        access_log=access_log,
        tracing=otel,
        on_live=on_live,
        extension=extension,
    )


def _check_no_search(given: Mapping[str, object], rerank: int) -> None:
    """Raise InputError for options of searching: without an index they would do nothing."""
    named = [name for name, value in given.items() if value is not None] + ["--rerank"] * (rerank != RERANK)
    if named:
        raise InputError(f"{named[0]} is about searching. Name what to search, too: --index INDEX")


def _search(
    index: Path,
    rules: Path | None,
    ranker: str | None,
    rerank: int,
    rank_weight: float | None,
    settings: ServeSettings,
    as_json: bool,
) -> Extension:
    """Open an index; return what searches it over the service, and takes up a version published later."""
    with needs_extra():
        from octavo.search.following import FollowedIndex
        from octavo.search.index import open_index
        from octavo.search.rules import Rules, read_rules
        from octavo.search.web.extension import SearchExtension
    table = read_rules(rules) if rules else Rules()
    with shown_progress(as_json) as progress:
        followed = FollowedIndex(index, open_index(index, progress))
    _check_models(settings.store, ranker, followed.index.manifest.vectors_by.model)
    return SearchExtension(followed, settings, table, ranker, rerank, rank_weight)


def _check_models(store: Path, ranker: str | None, embedder: str) -> None:
    """Refuse a ranker that the store does not have; say so where nothing will be embedded, or nothing ranked."""
    from octavo.search.embedder import models_for
    from octavo.store.versions import models
    from octavo.tasks.rank import Rank

    rankers = models_for(store, Rank.name)
    if ranker is not None and ranker not in rankers:
        raise InputError(f"{store}: there is no ranker '{ranker}'. There are: {', '.join(rankers) or 'none'}.")
    if ranker is None and len(rankers) > 1:
        one = "Nothing is ranked unless one is named: --ranker"
        output.complain(f"{store} has several rankers ({', '.join(rankers)}). {one}", label="note")
    if embedder not in models(store):
        words = "until it has, words alone find documents."
        output.complain(f"{store} has no model '{embedder}', which made the index's vectors: {words}", label="note")


def _show_live(running: Running, file: Path | None, as_json: bool, *, has_page: bool) -> None:
    if as_json:
        output.emit({"pid": running.pid, "host": running.host, "port": running.port, "admin_port": running.admin_port})
        return
    address = f"http://{running.host}:{running.port}/"
    output.tell(f"{address}  the page; {address}docs the API" if has_page else f"{address}docs", style="bold")
    key = f"its key is in {file}" if file else f"its key is what {serve_options.ADMIN_KEY} says"
    output.tell(f"admin API and /metrics on port {running.admin_port}; {key}")


def _log_to_stderr() -> None:
    """Let the service say what happens, a line each, and libraries only what is wrong."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING, force=True)
    logging.getLogger("octavo").setLevel(logging.INFO)
