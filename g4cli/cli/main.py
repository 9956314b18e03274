"""The Typer app and the one place where errors become words and exit codes."""

from __future__ import annotations

import importlib
import sys
import traceback
from types import TracebackType
from typing import Annotated, Final

import typer

from g4cli import __version__
from g4cli.cli.output import Output
from g4cli.cli.streams import fault_of, let_go, take_streams
from g4cli.core.errors import G4Error, Interrupted, UsageError
from g4cli.core.paths import debug
from g4cli.core.visible import clean

# (name, module, function), in the order of the help page: the order of a first day with g4.
COMMANDS: Final[tuple[tuple[str, str, str], ...]] = (
    # name, module, function
    ("pull", "g4cli.cli.commands.pull", "pull"),
    ("list", "g4cli.cli.commands.list", "list_"),
    ("show", "g4cli.cli.commands.show", "show"),
    ("verify", "g4cli.cli.commands.verify", "verify"),
    ("remove", "g4cli.cli.commands.remove", "remove"),
    ("convert", "g4cli.cli.commands.convert", "convert"),
    ("quantize", "g4cli.cli.commands.quantize", "quantize"),
    ("eval", "g4cli.cli.commands.eval", "eval_"),
    ("fit", "g4cli.cli.commands.fit", "fit"),
    ("chat", "g4cli.cli.commands.chat", "chat"),
    ("doctor", "g4cli.cli.commands.doctor", "doctor"),
    ("bench", "g4cli.cli.commands.bench", "bench"),
)

app = typer.Typer(
    name="g4",
    help="Gemma 4 on your own machine: pull, convert, quantise, fit, chat, diagnose.",
    epilog="Start with: g4 pull tiny, then g4 chat tiny. Exit codes: 0 ok, 2 usage, 3 not found, 4 does not "
    "fit, 5 bad file, 6 network, 7 runtime failed, 8 doctor found a failure, 9 loop, 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(show: bool) -> None:
    if show:
        print(f"g4 {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version and leave."
        ),
    ] = False,
) -> None:
    del version  # the eager callback has already printed it


def register_commands() -> None:
    """Fill the app from COMMANDS, once. The modules import nothing heavy before they run."""
    if not app.registered_commands:
        for name, module, function in COMMANDS:
            app.command(name)(getattr(importlib.import_module(module), function))


def main() -> None:
    """Run g4 and leave with its exit code."""
    take_streams()
    sys.excepthook = _show_traceback
    sys.exit(run(sys.argv[1:]))


def run(args: list[str]) -> int:
    """Return the exit code of `g4 ARGS`. Unknown exceptions keep their traceback."""
    out = Output("json" if "--json" in args else "human")
    try:
        register_commands()
        code = app(args=args, prog_name="g4", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except G4Error as err:
        out.error(err)
        if debug():
            raise
        return err.exit_code
    except typer.TyperException as err:
        # Typer's usage errors: an unknown option, a missing argument, a value of the wrong kind.
        message = err.format_message()
        if message.lstrip().startswith("Usage:"):  # `g4` alone: the help page
            print(message)
            return UsageError.exit_code
        # It lists the choices of an argument one a line.
        out.error(UsageError(" ".join(message.split()).rstrip("."), hint=_help_for(args)))
        return UsageError.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return Interrupted.exit_code
    except BrokenPipeError:
        let_go()  # `g4 list | head` closed the pipe: nobody is left to tell
        return 0
    except SystemExit as left:
        # So rich leaves when the pipe is closed; completion leaves with a code of its own.
        return left.code if isinstance(left.code, int) and left.code != 1 else 0
    except OSError as err:
        fault = fault_of(err)
        if fault is None:
            raise
        out.error(fault)
        let_go()
        return fault.exit_code


def _show_traceback(
    kind: type[BaseException], err: BaseException, trace: TracebackType | None
) -> None:
    """Print the traceback of a bug in g4; the message may hold names from a file."""
    sys.stderr.write(clean("".join(traceback.format_exception(kind, err, trace))))


def _help_for(args: list[str]) -> str:
    command = next((a for a in args if not a.startswith("-")), "")
    known = {info.name for info in app.registered_commands}
    return f"g4 {command} --help" if command in known else "g4 --help"
