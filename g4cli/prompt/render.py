"""A conversation as a Gemma 4 prompt.

    <bos><|turn>system
    [<|think|>
    ]text[<|tool>declaration:NAME{...}<tool|>]<turn|>
    <|turn>user
    text<turn|>
    <|turn>model

Source: google-gemma-4-31B-it.jinja (revision of 2026-04-10), ggml-org/llama.cpp@0c1e57098,
models/templates; E2B and E4B differ only by the empty thought. As in the template, thoughts are
part of the prompt only while tools are called: those of the messages with tool calls after the last
message of the user, as <|channel>thought\ntext\n<channel|>. Video is omitted on purpose.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from g4cli.prompt import tools as notation
from g4cli.prompt.messages import Message, Part

_EMPTY_THOUGHT: Final = "<|channel>thought\n<channel|>"
MEDIA_MARK: Final = {"image": "<|image|>", "audio": "<|audio|>"}


@dataclass(frozen=True, slots=True)
class PromptStyle:
    """How to render a prompt: with thinking, tools (in OpenAI's format), an empty thought.

    12B, 26B and 31B expect `empty_thought`, a thinking channel without text, at the start of an
    answer without thinking.
    """

    think: bool = False
    tools: tuple[Mapping[str, Any], ...] = ()
    empty_thought: bool = False


def render(
    messages: Sequence[Message], style: PromptStyle, *, continued: bool = True
) -> list[Part]:
    """Return the parts of the prompt; `continued` opens the model's turn at its end.

    Raises UsageError if a tool is malformed.
    """
    out = _Builder()
    out.add_control("<bos>")
    has_system = bool(messages) and messages[0].role == "system"
    if style.think or style.tools or has_system:
        out.add_control("<|turn>system\n" + ("<|think|>\n" if style.think else ""))
        if has_system:
            out.add_text(messages[0].content.strip())
        for tool in style.tools:
            out.add_control("<|tool>")
            out.add_notation(notation.declare_tool(tool))
            out.add_control("<tool|>")
        out.add_control("<turn|>\n")
    turns = messages[1:] if has_system else messages
    last_question = max((i for i, turn in enumerate(turns) if turn.role == "user"), default=-1)
    # Whether the last turn is the model's and not closed, and the role of the turn before.
    open_turn, previous_role = False, ""
    for index, message in enumerate(turns):
        if message.role == "tool":
            continue
        # The published template opens one turn for answers in a row, though each of them ends it.
        if not message.role == previous_role == "assistant":
            out.add_control(f"<|turn>{'model' if message.role == 'assistant' else message.role}\n")
        if message.tool_calls and index > last_question:
            out.add_parts(render_thought(message.thought))
        open_turn = _append_turn(out, turns, index)
        previous_role = message.role
    if continued and not open_turn:
        out.add_control("<|turn>model\n")
        if style.empty_thought and not style.think:
            out.add_control(_EMPTY_THOUGHT)
    return out.parts


def _append_turn(out: _Builder, turns: Sequence[Message], index: int) -> bool:
    """Append one turn and the tool results after it; return whether the model continues it."""
    message = turns[index]
    for call in message.tool_calls:
        out.add_control("<|tool_call>")
        out.add_notation(notation.format_tool_call(call.name, call.arguments))
        out.add_control("<tool_call|>")
    answered = _append_responses(out, turns, index) if message.tool_calls else False
    for item in message.media:
        out.parts.append(Part(MEDIA_MARK[item.kind], control=True, media=item))
    if message.role == "assistant":
        out.add_text(strip_thoughts(message.content), message.tokens)
    else:
        out.add_text(message.content.strip())
    if message.tool_calls and not answered:
        out.add_control("<|tool_response>")
        return True
    if answered and not message.content:  # the answer itself comes behind the results
        return True
    out.add_control("<turn|>\n")
    return False


def _append_responses(out: _Builder, turns: Sequence[Message], index: int) -> bool:
    """Append the tool results that follow the turn `index`; return whether there are any."""
    answered = False
    for follower in turns[index + 1 :]:
        if follower.role != "tool":
            break
        out.add_control("<|tool_response>")
        out.add_notation(
            notation.format_tool_response(follower.name or "unknown", follower.content)
        )
        out.add_control("<tool_response|>")
        answered = True
    return answered


def render_thought(thought: str) -> list[Part]:
    """Return the parts of a thought at the start of an answer, none if it is empty.

    White space around it is left out: models write one newline there, and clients keep it or not.
    """
    text = thought.strip()
    if not text:
        return []
    opening, closing = "<|channel>thought\n", "\n<channel|>"
    return [Part(opening, control=True), Part(text), Part(closing, control=True)]


def strip_thoughts(text: str) -> str:
    """Return `text` without '<|channel>...<channel|>' spans, stripped, as the template does."""
    return "".join(piece.split("<|channel>")[0] for piece in text.split("<channel|>")).strip()


class _Builder:
    """Collects parts; neighboring control parts are joined."""

    def __init__(self) -> None:
        self.parts: list[Part] = []

    def add_control(self, text: str) -> None:
        if self.parts and self.parts[-1].control and not self.parts[-1].media:
            text = self.parts.pop().text + text
        self.parts.append(Part(text, control=True))

    def add_text(self, text: str, tokens: tuple[int, ...] = ()) -> None:
        if text:
            self.parts.append(Part(text, tokens=tokens))

    def add_parts(self, parts: Iterable[Part]) -> None:
        for part in parts:
            if part.control:
                self.add_control(part.text)
            else:
                self.add_text(part.text)

    def add_notation(self, text: str) -> None:
        # Gemma's quotation mark is a control token; everything else may come from users.
        for index, piece in enumerate(text.split(notation.QUOTE)):
            if index:
                self.add_control(notation.QUOTE)
            self.add_text(piece)
