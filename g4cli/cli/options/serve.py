"""The options of `g4 serve` that `g4 chat` does not have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from g4cli.cli.completion import complete_model_or_preset

# The panels of `g4 serve --help`.
_ACCESS = "Access"
_MODELS = "Models"
_ENGINE = "Engine"
_SAMPLING = "Sampling"

LogFormat: TypeAlias = Literal["text", "json"]

ModelsArg: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(
        help="Models to offer (e2b, 31b:q4_0, tiny) or GGUF files; none: all that were pulled.",
        metavar="[MODEL]...",
        autocompletion=complete_model_or_preset,
    ),
]
HostOpt: TypeAlias = Annotated[
    str, typer.Option("--host", metavar="ADDRESS", help="Address to listen at.")
]
PortOpt: TypeAlias = Annotated[
    int, typer.Option("--port", min=0, max=65535, help="Port to listen at; 0: a free one.")
]
ApiKeyOpt: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--api-key",
        metavar="KEY",
        envvar="G4_API_KEY",
        help="Require this key of clients; repeatable. Other users see command lines: "
        "G4_API_KEY or --api-key-file are safer.",
        rich_help_panel=_ACCESS,
    ),
]
ApiKeyFileOpt: TypeAlias = Annotated[
    Path | None,
    typer.Option("--api-key-file", help="File of keys, one per line.", rich_help_panel=_ACCESS),
]
NoAuthOpt: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--no-auth",
        help="Listen at an address of the network without a key.",
        rich_help_panel=_ACCESS,
    ),
]
CorsOpt: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--cors-origin",
        metavar="ORIGIN",
        help="Let web pages of this origin use the server; repeatable, * for all.",
        rich_help_panel=_ACCESS,
    ),
]
AllowHostOpt: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-host",
        metavar="NAME",
        help="Name by which clients address the server, besides IP addresses and localhost.",
        rich_help_panel=_ACCESS,
    ),
]
MaxBodyOpt: TypeAlias = Annotated[
    str,
    typer.Option(
        "--max-body", metavar="SIZE", help="Largest request: 64M.", rich_help_panel=_ACCESS
    ),
]
AliasOpt: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--alias",
        metavar="NAME",
        help="Another name for the first model; repeatable.",
        rich_help_panel=_MODELS,
    ),
]
KeepAliveOpt: TypeAlias = Annotated[
    str,
    typer.Option(
        "--keep-alive",
        metavar="TIME",
        help="Unload a model after so long without requests: 30m, 1h30m; -1: never.",
        rich_help_panel=_MODELS,
    ),
]
MaxModelsOpt: TypeAlias = Annotated[
    int,
    typer.Option(
        "--max-models",
        min=0,
        help="Most models loaded at once; 0: as many as fit.",
        rich_help_panel=_MODELS,
    ),
]
OnLoopOpt: TypeAlias = Annotated[
    Literal["stop", "warn"],
    typer.Option(
        "--on-loop",
        help="What to do when an answer repeats itself: stop it; warn: say so at its end and in "
        "the log.",
        rich_help_panel=_SAMPLING,
    ),
]
ParallelOpt: TypeAlias = Annotated[
    str,
    typer.Option(
        "--parallel",
        metavar="N|auto",
        help="Requests computed at once by a model; others wait.",
        rich_help_panel=_ENGINE,
    ),
]
QueueOpt: TypeAlias = Annotated[
    int,
    typer.Option(
        "--queue",
        min=0,
        help="Requests that may wait for a model; more get status 503.",
        rich_help_panel=_ENGINE,
    ),
]
LogFormatOpt: TypeAlias = Annotated[
    LogFormat, typer.Option("--log-format", help="Form of the log on standard error.")
]
