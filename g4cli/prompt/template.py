"""The chat template inside a file: whether g4's own renderer says the same, and what it renders if not.

Templates come from strangers: see `sandbox`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from g4cli.prompt.messages import Message, Part, ToolCall
from g4cli.prompt.render import PromptStyle, render

# First 8 digits of sha256 -> (size, date): reference of the published files.
KNOWN: Final = MappingProxyType(
    {
        "85a08664": ("large", "2026-04-10"),
        "94899c0f": ("large", "2026-05-06"),
        "33204f1a": ("small", "2026-05-06"),
        "ae53464b": ("large", "2026-07-09"),
        "0a2c8073": ("small", "2026-07-09"),
    }
)
# The launch revision: no newline after <|think|>, newlines round images. llama.cpp calls it outdated too.
EARLY: Final = MappingProxyType({"2dfbfc7d": "2026-04-02"})
_EMPTY_THOUGHT: Final = "<|channel>thought\\n<channel|>"

Render = Callable[[Sequence[Message], PromptStyle], list[Part]]


@dataclass(frozen=True, slots=True)
class Renderer:
    """How prompts for one file are made. `notice` is for the user, empty when all is as expected."""

    render: Render
    empty_thought: bool
    notice: str = ""

    def __call__(self, messages: Sequence[Message], style: PromptStyle) -> list[Part]:
        """Return the prompt's parts."""
        return self.render(messages, style)


def choose_renderer(template: str | None, *, bos: str = "<bos>") -> Renderer:
    """Return g4's own renderer if the file's template agrees with it, else the template itself.

    Raises BadFile if the template cannot be used at all.
    """
    if not template:
        return Renderer(
            render, False, "the file has no chat template: Gemma 4's own format is used"
        )
    digest = hashlib.sha256(template.encode()).hexdigest()[:8]
    known = KNOWN.get(digest)
    if known is not None:
        return Renderer(render, known[0] == "large")
    from g4cli.prompt.sandbox import compile_template  # jinja2 only where it is needed

    empty_thought = _EMPTY_THOUGHT in template
    compiled = compile_template(template)

    def by_template(messages: Sequence[Message], style: PromptStyle) -> list[Part]:
        return [Part(_run(compiled, messages, style, bos), control=True)]

    if _agrees(by_template, empty_thought):
        # Only plain conversations were compared; tools are left to the template.
        def mixed(messages: Sequence[Message], style: PromptStyle) -> list[Part]:
            plain = not style.tools and all(m.role != "tool" and not m.tool_calls for m in messages)
            return (render if plain else by_template)(messages, style)

        return Renderer(mixed, empty_thought)
    if digest in EARLY:
        return Renderer(
            by_template,
            empty_thought,
            f"the file has the chat template of {EARLY[digest]}: it is used, but later ones mend it",
        )
    return Renderer(
        by_template,
        empty_thought,
        "the file's chat template is none that g4 knows: it is used as it is (g4 doctor FILE looks closer)",
    )


_SAMPLES: Final = (
    (Message("user", "one"),),
    (Message("system", "rules"), Message("user", " one ")),
    (Message("user", "one"), Message("assistant", "two"), Message("user", "three")),
)


def _agrees(by_template: Render, empty_thought: bool) -> bool:
    for messages in _SAMPLES:
        for think in (False, True):
            style = PromptStyle(think=think, empty_thought=empty_thought)
            ours = "".join(part.text for part in render(messages, style))
            if "".join(part.text for part in by_template(messages, style)) != ours:
                return False
    return True


def _run(compiled: Any, messages: Sequence[Message], style: PromptStyle, bos: str) -> str:
    from g4cli.prompt.sandbox import run_template

    variables = {
        "messages": [_as_dict(message) for message in messages],
        "tools": [dict(tool) for tool in style.tools] or None,
        "add_generation_prompt": True,
        "enable_thinking": style.think,
        "bos_token": bos,
        "eos_token": "",
    }
    return run_template(compiled, variables)


def _as_dict(message: Message) -> Mapping[str, Any]:
    content: Any = message.content
    if message.media:
        content = [{"type": item.kind} for item in message.media] + [
            {"type": "text", "text": content}
        ]
    data: dict[str, Any] = {"role": message.role, "content": content}
    if message.tool_calls:
        data["tool_calls"] = [_call_dict(call) for call in message.tool_calls]
    if message.name:
        data["name"] = message.name
    return data


def _call_dict(call: ToolCall) -> dict[str, Any]:
    return {"type": "function", "function": {"name": call.name, "arguments": dict(call.arguments)}}
