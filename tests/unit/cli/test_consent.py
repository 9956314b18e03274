"""What the terminal shows of a call that the user is asked about."""

from __future__ import annotations

import io
import sys
from dataclasses import replace

import pytest

from g4cli.chat import Reply
from g4cli.cli.chat.consent import answer_with_consent
from g4cli.cli.output import Output
from g4cli.operations.tools.tool import Tool, declare_function
from g4cli.operations.tools.toolbox import Toolbox
from g4cli.prompt.messages import ToolCall


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_name_of_a_tool_cannot_control_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "clear\x1b[2J"
    tool = Tool(declare_function(name, "", {"type": "object"}), "MCP server", lambda _: "done")
    asked = replace(Reply.interrupted(), tool_calls=(ToolCall(name, {}),), finish_reason="stop")
    replies = iter([asked, replace(asked, text="Done.", tool_calls=())])
    screen = Terminal()
    monkeypatch.setattr(sys, "stdin", Terminal("yes\n"))
    monkeypatch.setattr(sys, "stderr", screen)
    reply = answer_with_consent(
        Output("human"), Toolbox({name: tool}), lambda: next(replies), lambda _: None
    )
    assert reply.text == "Done."
    assert "run clear" in screen.getvalue()
    assert "\x1b[2J" not in screen.getvalue()
