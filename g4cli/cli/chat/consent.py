"""Calls of tools in a chat: each one is shown, consented to, and shown with its result."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from g4cli.cli.views.reply import shorten_result
from g4cli.core.visible import one_line

if TYPE_CHECKING:
    from g4cli.chat import Reply
    from g4cli.cli.output import Output
    from g4cli.operations.tools.tool import Tool
    from g4cli.operations.tools.toolbox import Consent, Toolbox
    from g4cli.prompt.messages import Message, ToolCall

# A choice: characters of arguments that are shown, a whole screen: users consent to what they see.
_SHOWN_ARGUMENTS: Final = 2000
_ANSWERS: Final[dict[str, Consent]] = {
    "y": "yes", "yes": "yes", "n": "no", "no": "no", "": "no", "a": "always", "always": "always",
}  # fmt: skip


def answer_with_consent(
    out: Output,
    toolbox: Toolbox | None,
    answer: Callable[[], Reply],
    add_message: Callable[[Message], None],
) -> Reply:
    """Return the reply that calls no tool any more, after all calls before it were answered.

    Without a toolbox g4 runs no tools: the first reply is the last. `answer` lets the model answer
    the conversation so far; `add_message` adds a turn to it. Raises what
    `operations.tools.toolbox.answer_with_tools` raises.
    """
    if toolbox is None:
        return answer()
    from g4cli.operations.tools.toolbox import answer_with_tools

    def describe_call(call: ToolCall) -> str:
        arguments = one_line(json.dumps(dict(call.arguments), ensure_ascii=False))
        if len(arguments) > _SHOWN_ARGUMENTS:
            arguments = f"{arguments[:_SHOWN_ARGUMENTS]} ... ({len(arguments):,} characters)"
        tool = toolbox.tools.get(call.name)
        source = "there is no such tool" if tool is None else one_line(tool.source)
        return f"{one_line(call.name)} {arguments}  ({source})"

    def ask(call: ToolCall, _tool: Tool) -> Consent:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            out.warn(f"{call.name} was not run: nobody is there to allow it (--yes {call.name})")
            return "no"
        if not out.is_human:  # then the call was not shown
            sys.stderr.write(f"{describe_call(call)}\n")
        return _read_consent(one_line(call.name))

    def show_result(call: ToolCall, result: str) -> None:
        out.say(f"{one_line(call.name)}: {shorten_result(result)}")

    return answer_with_tools(
        answer,
        add_message,
        toolbox,
        ask=ask,
        show_call=lambda call: out.say(describe_call(call)),
        show_result=show_result,
    )


def _read_consent(name: str) -> Consent:
    """Return what the user answers; Ctrl-C and the end of input mean no."""
    while True:
        try:
            sys.stderr.write(f"run {name}? [y]es, [N]o, [a]lways in this chat: ")
            sys.stderr.flush()
            line = sys.stdin.readline()
        except KeyboardInterrupt:
            sys.stderr.write("\n")
            return "no"
        if not line:
            return "no"
        if (consent := _ANSWERS.get(line.strip().lower())) is not None:
            return consent
