"""The options of `octavo serve`, in the order and under the headings of its help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ADMIN_KEY = "OCTAVO_ADMIN_KEY"
API_KEY = "OCTAVO_API_KEY"

_LISTENING = "Listening"
_OVERLOAD = "Waiting and overload"
_WATCHING = "Watching it"
_SEARCH = "Searching"

Store = Annotated[Path, typer.Argument(metavar="STORE", help="Folder that releases were published to.")]
Index = Annotated[
    Path | None,
    typer.Option(
        metavar="INDEX",
        help="Search it: /v1/search, and a page to look at. Made by octavo search index.",
        rich_help_panel=_SEARCH,
    ),
]
Rules = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="What intents and slots do (docs/search.md).", rich_help_panel=_SEARCH),
]
Ranker = Annotated[
    str | None,
    typer.Option(metavar="MODEL", help="Which ranks, where there are several.", rich_help_panel=_SEARCH),
]
Rerank = Annotated[
    int,
    typer.Option(
        min=0, max=100, metavar="N", help="Rank the first N documents; 0: no ranking.", rich_help_panel=_SEARCH
    ),
]
RankWeight = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        max=1.0,
        metavar="W",
        help="Of the ranker; default: as it was tuned, else 1.",
        rich_help_panel=_SEARCH,
    ),
]
Host = Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all of them.", rich_help_panel=_LISTENING)]
Port = Annotated[int, typer.Option(min=0, max=65535, rich_help_panel=_LISTENING, help="0 for a free one.")]
AdminPort = Annotated[
    int, typer.Option(min=0, max=65535, rich_help_panel=_LISTENING, help="Of the admin API and /metrics.")
]
AdminHost = Annotated[str, typer.Option(help="Address that the admin API listens on.", rich_help_panel=_LISTENING)]
GrpcPort = Annotated[int | None, typer.Option(min=1, max=65535, rich_help_panel=_LISTENING, help="Default: no gRPC.")]
Key = Annotated[
    list[str] | None,
    typer.Option(
        envvar=API_KEY, help="Clients have to show it; may be repeated.", rich_help_panel=_LISTENING, metavar="KEY"
    ),
]
AdminKey = Annotated[
    str | None,
    typer.Option(envvar=ADMIN_KEY, help="Default: a new one.", rich_help_panel=_LISTENING, metavar="KEY"),
]
MaxQueueMs = Annotated[
    float,
    typer.Option(min=0.001, help="What would wait longer is refused (429).", rich_help_panel=_OVERLOAD),
]
BatchWaitMs = Annotated[
    float, typer.Option(min=0, help="A batch waits so long for company.", rich_help_panel=_OVERLOAD)
]
Cache = Annotated[int, typer.Option(min=0, help="Inputs whose answers are remembered.", rich_help_panel=_OVERLOAD)]
GraceS = Annotated[float, typer.Option(min=0, help="Told to stop, it serves on so long.", rich_help_panel=_OVERLOAD)]
DrainS = Annotated[float, typer.Option(min=0.1, help="Then requests have so long to end.", rich_help_panel=_OVERLOAD)]
AccessLog = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="A JSON line for each request; - for stdout.", rich_help_panel=_WATCHING),
]
Otel = Annotated[
    bool,
    typer.Option("--otel", help="Send spans to OpenTelemetry (OTEL_… say where).", rich_help_panel=_WATCHING),
]
Watch = Annotated[
    bool,
    typer.Option("--watch/--no-watch", help="Follow `current` in the store.", rich_help_panel=_WATCHING),
]
AllowUncertified = Annotated[
    bool, typer.Option("--allow-uncertified", help="Serve releases whose certificate is no pass.")
]
