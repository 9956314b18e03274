"""Choose how to render prompts for a model file: by g4's own renderer or by the file's template.

g4's renderer is used if it writes the same as the file's chat template: for conversations without
tools and media if both agree on such, and for the others if they agree on these too. It takes a
time in proportion to the text; a template may take seconds to declare a hundred tools. It also
shows the model what templates of other publishers leave out of such a conversation, for example
thoughts between tool calls, or all images. Templates are untrusted: the caller passes in a function
that runs one (`g4cli.core.template_child` does so in a child process with limits).

How text from outside is kept apart from control tokens: a template joins what it writes itself and
what the user wrote to one text. Tokenized as a whole, a pasted document that contains "<turn|>"
would end the user's turn. So every string from outside (messages, tool calls and results, tool
declarations) is put between two marks, random private-use characters, and the template is run with
and without marks. If both outputs are the same apart from the marks, and the marks come in pairs,
then the text between marks is tokenized as plain text, and the rest with control tokens. A template
that slices its input (`content[:100]`) or tests its first letters fails this check. Then the
template is run on strings in which "<" is replaced by another character, so that slicing and
joining cannot make a control token.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

from g4cli.core.errors import BadFile, ContextFull
from g4cli.core.shape import MAX_TRAINED_CONTEXT
from g4cli.prompt.messages import Media, Message, Part, ToolCall
from g4cli.prompt.published_templates import find_published
from g4cli.prompt.render import MEDIA_MARK, PromptStyle, render

TEXT_LIMIT: Final = 32 * MAX_TRAINED_CONTEXT
"""In characters. Ordinary text has 4 for each token, which makes CONTEXT_LIMIT tokens."""
# Every control token of Gemma 4 has one of these characters.
_TOKEN_CHARACTERS: Final = re.compile(r"[<>|\[\]]")
_MEDIA_MARKS: Final = re.compile(r"(<\|image\|>|<\|audio\|>)")
# Supplementary Private Use Area-B of Unicode.
_MARK_RANGE: Final = (0x100000, 0x10FFFD)
_EMPTY_THOUGHT: Final = "<|channel>thought\\n<channel|>"  # as templates write it, with \\n escaped

Render: TypeAlias = Callable[[Sequence[Message], PromptStyle], list[Part]]
RunTemplate: TypeAlias = Callable[[str, Sequence[Mapping[str, Any]]], list[str]]
"""Takes a template and cases (variables by name), returns its output for each. Raises BadFile."""


@dataclass(frozen=True, slots=True)
class Renderer:
    """Renders the prompts for one model file, by `render`; `notice` is for the user, or empty.

    `empty_thought`: whether answers without thinking begin with one (PromptStyle).
    """

    render: Render
    empty_thought: bool
    notice: str = ""

    def __call__(self, messages: Sequence[Message], style: PromptStyle) -> list[Part]:
        """Return the prompt's parts. Raises BadFile if the file's template fails."""
        return self.render(messages, style)


def choose_renderer(template: str | None, run: RunTemplate) -> Renderer:
    """Return g4's own renderer if the file's template agrees with it, else the template itself.

    Raises BadFile if the template cannot be used at all.
    """
    if not template:
        return Renderer(
            render, False, "the file has no chat template: Gemma 4's own format is used"
        )
    published = find_published(template)
    if published is not None and not published.is_launch:  # g4's renderer is made after these
        return Renderer(render, published.size == "large")
    empty_thought = _EMPTY_THOUGHT in template
    render_with_template = partial(render_by_template, template, run)
    is_alike, is_always_alike = _compare_with(template, run, empty_thought)
    if is_alike and is_always_alike:
        return Renderer(render, empty_thought)
    if is_alike:

        def render_mixed(messages: Sequence[Message], style: PromptStyle) -> list[Part]:
            plain = not style.tools and not any(
                m.role == "tool" or m.tool_calls or m.media for m in messages
            )
            return (render if plain else render_with_template)(messages, style)

        return Renderer(render_mixed, empty_thought)
    if published is not None:
        return Renderer(
            render_with_template,
            empty_thought,
            f"the chat template of {published.date} in the file is used; later ones correct it",
        )
    return Renderer(
        render_with_template,
        empty_thought,
        "the file's chat template is unknown to g4; it is used unchanged (to check it: g4 doctor)",
    )


def make_template_variables(
    messages: Sequence[Message],
    style: PromptStyle,
    change: Callable[[str], str] = lambda text: text,
) -> dict[str, Any]:
    """Return the variables of a template, named as in transformers and llama.cpp: JSON values only.

    `change` is applied to every text from outside. In tool declarations it is applied only to text
    that could be part of a control token, since templates compare the rest ("string", "object").
    """

    def change_declared(text: str) -> str:
        return change(text) if _TOKEN_CHARACTERS.search(text) else text

    return {
        "messages": [_message_to_dict(message, change) for message in messages],
        "tools": [_map_texts(tool, change_declared) for tool in style.tools] or None,
        "add_generation_prompt": True,
        "enable_thinking": style.think,
        "bos_token": "<bos>",
        "eos_token": "<eos>",
    }


# The conversations on which g4's renderer and a template are compared.
_SAMPLES: Final = (
    (Message("user", "one"),),
    (Message("system", "rules"), Message("user", " one ")),
    (Message("user", "one"), Message("assistant", "two"), Message("user", "three")),
)
_SAMPLE_TOOL: Final = {
    "type": "function",
    "function": {
        "name": "find",
        "description": "Finds files.",
        "parameters": {
            "type": "object",
            "properties": {
                "kind": {"type": "string", "description": "Which", "enum": ["a", "b"]},
                "most": {"type": "integer"},
                "paths": {"type": "array", "items": {"type": "string"}},
                "place": {"type": "object", "properties": {"row": {"type": "number"}}},
            },
            "required": ["kind"],
        },
    },
}
_SAMPLE_CALL: Final = ToolCall("find", {"kind": "a", "most": 2, "place": {"row": [1.5, True]}})
_TOOL_SAMPLES: Final = (
    (Message("user", "one"),),
    (Message("system", "rules"), Message("user", "one")),
    (
        Message("user", "one"),
        Message("assistant", "", tool_calls=(_SAMPLE_CALL, _SAMPLE_CALL)),
        Message("tool", "two", name="find"),
        Message("tool", "three", name="find"),
    ),
)
_MEDIA_SAMPLE: Final = (
    Message("user", "one", media=(Media("image", Path()), Media("audio", Path()))),
)


def _compare_with(template: str, run: RunTemplate, empty_thought: bool) -> tuple[bool, bool]:
    """Return whether g4's renderer writes the same as `template` for text, and for all else.

    All else: tools, images and sounds. Raises BadFile if the template fails for text.
    """
    cases = [
        (messages, PromptStyle(think, tools, empty_thought))
        for samples, tools in ((_SAMPLES, ()), (_TOOL_SAMPLES, (_SAMPLE_TOOL,)))
        for messages in samples
        for think in (False, True)
    ]
    cases.append((_MEDIA_SAMPLE, PromptStyle(empty_thought=empty_thought)))
    n_plain = 2 * len(_SAMPLES)
    variables = [make_template_variables(*case) for case in cases]
    ours = ["".join(part.text for part in render(*case)) for case in cases]
    try:
        theirs = run(template, variables)
        if not _MEDIA_MARKS.search(theirs[-1]):  # it says nothing about where to write them
            theirs[-1] = ours[-1]
    except BadFile:  # it may refuse tools, or media
        theirs = run(template, variables[:n_plain])
    return theirs[:n_plain] == ours[:n_plain], theirs[n_plain:] == ours[n_plain:]


def render_by_template(
    template: str, run: RunTemplate, messages: Sequence[Message], style: PromptStyle
) -> list[Part]:
    """Return the prompt that `template` writes; no text from outside is in a control part.

    Raises ContextFull if the conversation has too many characters, BadFile if the template fails or
    omits an image or audio file.
    """
    variables = json.dumps(make_template_variables(messages, style), ensure_ascii=False)
    if len(variables) > TEXT_LIMIT:
        what = f"the conversation has {len(variables):,} characters: too many for any context"
        raise ContextFull(what)
    opening, closing = _choose_marks({*template, *variables})

    def mark_text(text: str) -> str:
        core = text.strip()  # templates strip text: white space stays outside of the marks
        start = len(text) - len(text.lstrip())
        return text[:start] + opening + core + closing + text[start + len(core) :] if core else text

    cases = [
        make_template_variables(messages, style, change)
        for change in (str, mark_text, _disarm_text)
    ]
    plain, with_marks, disarmed = run(template, cases)
    parts = _split_at_marks(with_marks, opening, closing)
    if parts is None or "".join(part.text for part in parts) != plain:
        parts = [Part(disarmed, control=True)]
    return _fill_media(parts, [item for message in messages for item in message.media])


def _split_at_marks(text: str, opening: str, closing: str) -> list[Part] | None:
    """Return `text` cut at its marks, or None where they do not come in pairs."""
    parts: list[Part] = []
    for index, piece in enumerate(re.split(f"({opening}|{closing})", text)):
        # Pieces alternate: the template's, a mark, outside text, a mark, the template's ...
        if index % 2:
            if piece != (closing if index % 4 == 3 else opening):
                return None
        elif piece:
            parts.append(Part(piece, control=index % 4 == 0))
    return None if text.count(opening) != text.count(closing) else parts


def _choose_marks(taken: set[str]) -> tuple[str, str]:
    """Return two characters that are not among `taken`."""
    low, high = _MARK_RANGE
    marks: list[str] = []
    while len(marks) < 2:
        mark = chr(low + secrets.randbelow(high - low + 1))
        if mark not in taken and mark not in marks:
            marks.append(mark)
    return marks[0], marks[1]


def _disarm_text(text: str) -> str:
    """Return `text` without anything that begins a control token: '<turn|>' -> '\u2039turn|>'."""
    return text.replace("<", "\u2039").replace("[multimodal", "(multimodal")


def _fill_media(parts: Sequence[Part], media: Sequence[Media]) -> list[Part]:
    """Return `parts` with `media` assigned, in order, to the media tokens of the template."""
    unassigned, filled = list(media), list[Part]()
    for part in parts:
        if not part.control:
            filled.append(part)
            continue
        for piece in _MEDIA_MARKS.split(part.text):
            is_next = bool(unassigned) and piece == MEDIA_MARK[unassigned[0].kind]
            item = unassigned.pop(0) if is_next else None
            if piece:
                filled.append(Part(piece, control=True, media=item))
    if unassigned:
        raise BadFile(f"the file's chat template does not take {unassigned[0].path.name}")
    return filled


def _map_texts(value: Any, change: Callable[[str], str]) -> Any:
    """Return a JSON value with `change` applied to all texts but keys."""
    if isinstance(value, str):
        return change(_replace_surrogates(value))
    if isinstance(value, Mapping):
        # Keys cannot be marked, since templates look them up.
        return {
            _disarm_text(_replace_surrogates(str(key))): _map_texts(item, change)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_map_texts(item, change) for item in value]
    return value


def _replace_surrogates(text: str) -> str:
    """Return `text` with '?' for lone surrogates, which no tokenizer accepts."""
    return text.encode("utf-8", "replace").decode()


def _message_to_dict(message: Message, change: Callable[[str], str]) -> dict[str, Any]:
    content: Any = _map_texts(message.content, change)
    if message.media:
        content = [{"type": item.kind} for item in message.media] + [
            {"type": "text", "text": content}
        ]
    data: dict[str, Any] = {"role": message.role, "content": content}
    if message.tool_calls:
        functions = ({"name": c.name, "arguments": c.arguments} for c in message.tool_calls)
        data["tool_calls"] = [
            {"type": "function", "function": _map_texts(function, change)} for function in functions
        ]
    if message.thought.strip():
        data["reasoning_content"] = _map_texts(message.thought.strip(), change)
    if message.name:
        data["name"] = _map_texts(message.name, change)
    return data
