"""Render untrusted Jinja2 templates, in the child process of `g4cli.core.template_child`.

The immutable sandbox denies a template access to Python's internals; the kernel limits the time and
memory of the child. Filters, globals and tags are those that transformers gives a chat template
(src/transformers/utils/chat_template_utils.py, _compile_jinja_template).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from jinja2 import TemplateError
from jinja2.ext import Extension
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

# Most characters that the outputs of all cases may have together: a choice. A context of 262,144
# tokens has about a million.
OUTPUT_LIMIT: Final = 1 << 26


class TemplateFault(Exception):
    """What is wrong with a template, to follow the words 'the chat template '."""


def render_cases(source: str, cases: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what the template writes for each case. Raises TemplateFault or MemoryError."""
    try:
        template = _make_environment().from_string(source)
    except MemoryError:
        raise
    # Python compiles what jinja2 generates: SyntaxError, IndentationError, RecursionError ...
    except Exception as err:
        raise TemplateFault(f"does not parse: {_describe_error(err)}") from err
    texts, room = [], OUTPUT_LIMIT
    for case in cases:
        texts.append(_render_case(template, case, room))
        room -= len(texts[-1])
    return texts


class _GenerationTag(Extension):
    """{% generation %}: marks an answer for those who train a model; its content is written."""

    tags = {"generation"}  # noqa: RUF012  # as jinja2 declares it

    def parse(self, parser: Parser) -> list[Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _make_environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.loopcontrols", _GenerationTag],
    )
    environment.filters["tojson"] = _format_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _format_now
    environment.globals.pop("lipsum", None)  # jinja2's filler text, of any length
    return environment


def _render_case(template: Any, variables: Mapping[str, Any], room: int) -> str:
    """Return what the template writes for one case, `room` characters at most."""
    pieces: list[str] = []
    try:
        for piece in template.generate(**variables):
            room -= len(piece)
            if room < 0:
                raise TemplateFault(f"writes more than {OUTPUT_LIMIT:,} characters")
            pieces.append(piece)
        text = "".join(pieces)
    except (TemplateFault, MemoryError):
        raise
    except Exception as err:
        raise TemplateFault(f"fails: {_describe_error(err)}") from err
    try:
        text.encode()
    except UnicodeEncodeError:
        raise TemplateFault("writes half a character (a lone surrogate)") from None
    return text


def _describe_error(err: Exception) -> str:
    text = " ".join(str(err).split())[:200]
    return text if isinstance(err, TemplateError) and text else f"{type(err).__name__}: {text}"


def _format_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # jinja2's own filter writes \\u003c for "<", which models were not trained on.
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _format_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)


def _raise_exception(message: object = "") -> None:
    raise TemplateError(str(message))
