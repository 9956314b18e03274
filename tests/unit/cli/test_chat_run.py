"""What `g4 chat` takes over when /model changes the model."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from g4cli.chat import Conversation
from g4cli.cli.chat import repl, run
from g4cli.cli.chat.display import ChatDisplay
from g4cli.cli.output import Output
from g4cli.operations.chat import opening
from g4cli.operations.chat.request import ChatRequest
from g4cli.prompt.messages import Media


def test_the_next_model_gets_the_media_that_were_not_asked_about(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[ChatRequest] = []

    @contextmanager
    def open_session(request: ChatRequest, _out: Any) -> Any:
        opened.append(request)
        yield SimpleNamespace(conversation=Conversation(), describe_settings=dict)

    waiting = [Media("image", Path("/b.png")), Media("audio", Path("/c.wav"))]
    ends: list[Any] = [("other", waiting), ("third", []), (None, [])]
    monkeypatch.setattr(opening, "open_session", open_session)
    monkeypatch.setattr(repl, "run_conversation", lambda *_: ends.pop(0))
    request = ChatRequest(model="one", image=(Path("a.png"),))
    assert run._run_sessions(Output(), request, None, ChatDisplay(private=True), None) == 0
    assert [item.model for item in opened] == ["one", "other", "third"]
    assert [[*map(str, item.image)] for item in opened] == [["a.png"], ["/b.png"], []]
    assert [[*map(str, item.audio)] for item in opened] == [[], ["/c.wav"], []]
