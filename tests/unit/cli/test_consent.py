"""What the terminal shows of a call that the user is asked about."""

from __future__ import annotations

import io
import sys
from dataclasses import replace

import pytest

from g4cli.chat import Reply
from g4cli.cli.chat.consent import answer_with_consent
from g4cli.cli.output import Mode, Output
from g4cli.operations.tools.tool import Tool, declare_function
from g4cli.operations.tools.toolbox import Toolbox
from g4cli.prompt.messages import ToolCall


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("mode", ["human", "quiet", "json"])
def test_the_user_sees_the_call_which_cannot_control_the_terminal(
    mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "clear\x1b[2J"
    tool = Tool(declare_function(name, "", {"type": "object"}), "MCP server", lambda _: "done")
    call = ToolCall(name, {"path": "/etc\x1b[2J"})
    asked = replace(Reply.interrupted(), tool_calls=(call,), finish_reason="stop")
    replies = iter([asked, replace(asked, text="Done.", tool_calls=())])
    screen = Terminal()
    monkeypatch.setattr(sys, "stdin", Terminal("yes\n"))
    monkeypatch.setattr(sys, "stderr", screen)
    reply = answer_with_consent(
        Output(mode), Toolbox({name: tool}), lambda: next(replies), lambda _: None
    )
    assert reply.text == "Done."
    assert "run clear" in screen.getvalue()
    assert screen.getvalue().count('{"path": "/etc') == 1
    assert "\x1b[2J" not in screen.getvalue()
