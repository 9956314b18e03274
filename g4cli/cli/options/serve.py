"""The options that `g4 serve` has alone or with another meaning than `g4 chat`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from g4cli.cli.completion import complete_model_or_preset
from g4cli.cli.options.chat import sampling_option
from g4cli.cli.options.engine import engine_option

# The panels of `g4 serve --help` in which options stand, beside those of `g4 chat`.
_access_option = partial(typer.Option, rich_help_panel="Access")
_models_option = partial(typer.Option, rich_help_panel="Models")

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
    _access_option(
        "--api-key",
        metavar="KEY",
        envvar="G4_API_KEY",
        help="Require this key of clients; repeatable. Other users see command lines: "
        "G4_API_KEY or --api-key-file are safer.",
    ),
]
ApiKeyFileOpt: TypeAlias = Annotated[
    Path | None,
    _access_option("--api-key-file", help="File of keys, one per line."),
]
NoAuthOpt: TypeAlias = Annotated[
    bool,
    _access_option("--no-auth", help="Listen at an address of the network without a key."),
]
CorsOpt: TypeAlias = Annotated[
    list[str] | None,
    _access_option(
        "--cors-origin",
        metavar="ORIGIN",
        help="Let web pages of this origin use the server; repeatable, * for all.",
    ),
]
AllowHostOpt: TypeAlias = Annotated[
    list[str] | None,
    _access_option(
        "--allow-host",
        metavar="NAME",
        help="Name by which clients address the server, besides IP addresses and localhost.",
    ),
]
MaxBodyOpt: TypeAlias = Annotated[
    str,
    _access_option("--max-body", metavar="SIZE", help="Largest request: 64M."),
]
AliasOpt: TypeAlias = Annotated[
    list[str] | None,
    _models_option("--alias", metavar="NAME", help="Another name for the first model; repeatable."),
]
KeepAliveOpt: TypeAlias = Annotated[
    str,
    _models_option(
        "--keep-alive",
        metavar="TIME",
        help="Unload a model after so long without requests: 30m, 1h30m; -1: never.",
    ),
]
MaxModelsOpt: TypeAlias = Annotated[
    int,
    _models_option("--max-models", min=0, help="Most models loaded at once; 0: as many as fit."),
]
OnLoopOpt: TypeAlias = Annotated[
    Literal["stop", "warn"],
    sampling_option(
        "--on-loop",
        help="What to do when an answer repeats itself: stop it; warn: say so at its end and in "
        "the log.",
    ),
]
ParallelOpt: TypeAlias = Annotated[
    str,
    engine_option(
        "--parallel", metavar="N|auto", help="Requests computed at once by a model; others wait."
    ),
]
QueueOpt: TypeAlias = Annotated[
    int,
    engine_option(
        "--queue", min=0, help="Requests that may wait for a model; more get status 503."
    ),
]
LogFormatOpt: TypeAlias = Annotated[
    Literal["text", "json"], typer.Option("--log-format", help="Form of the log on standard error.")
]
