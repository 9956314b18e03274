"""The Typer app, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Annotated, Final

import typer

from g4cli import __version__
from g4cli.cli.completion import is_completing, run_completion
from g4cli.cli.help import OTHER_NAMES, Command, Group
from g4cli.cli.options.common import JsonOpt, QuietOpt
from g4cli.cli.output import Output
from g4cli.cli.streams import as_output_error, repair_std_streams, silence_stdout
from g4cli.core.errors import G4Error, Interrupted, UsageError
from g4cli.core.paths import wants_tracebacks
from g4cli.core.visible import escape_invisible

_GET, _RUN, _MAKE, _EXAMINE = "Get models", "Run models", "Make models", "Examine"

# The commands, in the order of the help page, where those that a new user needs first come first.
COMMANDS: Final[tuple[tuple[str, str, str, str], ...]] = (
    # name, section of the help page ("": that of its group), module, function
    ("pull", _GET, "g4cli.cli.commands.pull", "pull"),
    ("list", _GET, "g4cli.cli.commands.list", "list_"),
    ("show", _GET, "g4cli.cli.commands.show", "show"),
    ("remove", _GET, "g4cli.cli.commands.remove", "remove"),
    ("copy", _GET, "g4cli.cli.commands.copy", "copy"),
    ("verify", _GET, "g4cli.cli.commands.verify", "verify"),
    ("chat", _RUN, "g4cli.cli.commands.chat", "chat"),
    ("fit", _RUN, "g4cli.cli.commands.fit", "fit"),
    ("serve", _RUN, "g4cli.cli.commands.serve", "serve"),
    ("transcribe", _RUN, "g4cli.cli.commands.transcribe", "transcribe"),
    ("compare", _RUN, "g4cli.cli.commands.compare", "compare"),
    ("worker", _RUN, "g4cli.cli.commands.worker", "worker"),
    ("convert", _MAKE, "g4cli.cli.commands.convert", "convert"),
    ("quantize", _MAKE, "g4cli.cli.commands.quantize", "quantize"),
    ("imatrix", _MAKE, "g4cli.cli.commands.imatrix", "imatrix"),
    ("doctor", _EXAMINE, "g4cli.cli.commands.doctor", "doctor"),
    ("bench", _EXAMINE, "g4cli.cli.commands.bench", "bench"),
    ("eval", _EXAMINE, "g4cli.cli.commands.eval", "eval_"),
    ("chats list", "", "g4cli.cli.commands.chats", "list_chats"),
    ("chats search", "", "g4cli.cli.commands.chats", "search"),
    ("chats show", "", "g4cli.cli.commands.chats", "show"),
    ("chats export", "", "g4cli.cli.commands.chats_change", "export"),
    ("chats rename", "", "g4cli.cli.commands.chats_change", "rename"),
    ("chats delete", "", "g4cli.cli.commands.chats_change", "delete"),
    ("config show", "", "g4cli.cli.commands.config", "show"),
    ("config check", "", "g4cli.cli.commands.config", "check"),
    ("config edit", "", "g4cli.cli.commands.config", "edit"),
    ("svg check", "", "g4cli.cli.commands.svg", "check"),
    ("svg fix", "", "g4cli.cli.commands.svg", "fix"),
    ("svg png", "", "g4cli.cli.commands.svg", "png"),
    ("svg show", "", "g4cli.cli.commands.svg", "show"),
)
# The first words of commands with two words.
GROUPS: Final[tuple[tuple[str, str, str, str], ...]] = (
    # name, section, command that runs where there is no second word ("": none), help text
    ("chats", _RUN, "list", "List, search, show, export, rename and delete saved conversations."),
    ("config", _RUN, "show",
     "Show, check and edit your settings: defaults of options, aliases and presets."),
    ("svg", _EXAMINE, "",
     "Check, repair, render and show drawings (SVG) in files and in answers of models."),
)  # fmt: skip
# With one of them errors are JSON, also the error of a command line that cannot be parsed.
_JSON_OPTIONS: Final = frozenset(("--json", "--stream-json"))

app = typer.Typer(
    name="g4",
    cls=Group,
    help="Gemma 4 on your own machine: download, convert, quantize, chat, serve, diagnose.",
    epilog="Start with: g4 pull tiny, then g4 chat tiny. In scripts: --json, and the exit codes in "
    "docs/reference/exit-codes.md.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(show: bool) -> None:
    if show:
        print(f"g4 {__version__}")
        raise typer.Exit


@app.callback()
def _handle_root_options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    del version  # the eager callback has already printed it


def register_commands() -> None:
    """Register COMMANDS in the app, once. Their modules import what is slow only when they run."""
    if app.registered_commands:
        return
    groups = {}
    for name, section, default, text in GROUPS:
        group = groups[name] = typer.Typer(
            cls=Group,
            help=text,
            no_args_is_help=not default,
            invoke_without_command=bool(default),
        )
        if default:
            group.callback()(_run_by_default(name, default, text))
        app.add_typer(group, name=name, rich_help_panel=section)
    for name, section, module, function in COMMANDS:
        group_name, _, command = name.rpartition(" ")
        parent = groups[group_name] if group_name else app
        add = parent.command(command, cls=Command, rich_help_panel=section or None)
        add(getattr(importlib.import_module(module), function))


def _run_by_default(name: str, default: str, text: str) -> Callable[..., None]:
    """Return the callback of the group `name`: without a second word it runs the one `default`."""

    def run_default(ctx: typer.Context, json: JsonOpt = False, quiet: QuietOpt = False) -> None:
        flags = [flag for flag, given in (("--json", json), ("--quiet", quiet)) if given]
        if ctx.invoked_subcommand is None:
            # As if the command had been typed: its settings and the errors of its options apply.
            raise typer.Exit(run([name, default, *flags]))
        if flags:
            hint = " ".join(["g4", name, ctx.invoked_subcommand, *flags])
            raise UsageError(f"{flags[0]} has to follow the command", hint=hint)

    run_default.__doc__ = f"{text} Without a command: {default}."
    return run_default


def main() -> None:
    """Run g4 and exit with its exit code."""
    repair_std_streams()
    sys.excepthook = _show_traceback
    sys.exit(run_completion(lambda: run(sys.argv[1:])))


def run(args: list[str]) -> int:
    """Run `g4 ARGS` and return its exit code. Exceptions from bugs in g4 are raised.

    G4Error is printed; with G4_DEBUG it is raised too. Outside of Typer's standalone mode,
    `app` returns the code of typer.Exit and raises the rest.
    """
    out = Output("human" if _JSON_OPTIONS.isdisjoint(args) else "json")
    try:
        register_commands()
        code = app(args=args, prog_name="g4", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except G4Error as err:
        out.error(err)
        if wants_tracebacks():
            raise
        return err.exit_code
    except typer.TyperException as err:
        # Typer's usage errors: an unknown option, a missing argument, a value of the wrong kind.
        message = err.format_message()
        if message.lstrip().startswith("Usage:"):  # no arguments: Typer raises the help page
            print(message)
            return UsageError.exit_code
        # Typer puts the choices of an argument on separate lines: join them.
        out.error(UsageError(" ".join(message.split()).rstrip("."), hint=_help_command_for(args)))
        return UsageError.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return Interrupted.exit_code
    except BrokenPipeError:
        silence_stdout()  # the reader closed the pipe, as in `g4 list | head`
        return 0
    except SystemExit as end:
        # rich exits with 1 when the pipe is closed. Typer does where fish asks whether there are
        # completions and there are none, so that fish offers files; 0 means that there are some.
        if is_completing():
            return end.code if isinstance(end.code, int) else 0
        return end.code if isinstance(end.code, int) and end.code != 1 else 0
    except OSError as err:
        from g4cli.core.files import as_path_error

        output_error = as_output_error(err)
        error = output_error or as_path_error(err)
        if error is None:
            raise
        out.error(error)
        if output_error:
            silence_stdout()
        return error.exit_code


def _show_traceback(
    kind: type[BaseException], err: BaseException, trace: TracebackType | None
) -> None:
    """Print the traceback of a bug in g4, escaped: it may quote names from a hostile file."""
    sys.stderr.write(escape_invisible("".join(traceback.format_exception(kind, err, trace))))


def _help_command_for(args: list[str]) -> str:
    """Return the command that shows the help of the command in `args`, or of g4."""
    words = [arg for arg in args if not arg.startswith("-")]
    known = {name for name, *_ in (*COMMANDS, *GROUPS)}
    for n in (2, 1):
        *group, last = words[:n] or [""]
        for word in (last, *OTHER_NAMES.get(last, ())):
            if (name := " ".join([*group, word])) in known:
                return f"g4 {name} --help"
    return "g4 --help"
