"""Prompts to ask one after the other: from the command line, a JSONL file, or a set of g4's own.

`g4 compare` and `g4 chat --prompts` read them. Only `g4 compare` judges the answers; to `g4 chat`
the fields `kind`, `expected` and `schema` mean nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

from g4cli.core.errors import BadFile, UsageError
from g4cli.core.files import read_input, require_file
from g4cli.core.json_schema import parse_schema
from g4cli.core.media_file import read_media
from g4cli.core.paths import expand_home
from g4cli.core.quoting import shell_command
from g4cli.prompt.messages import Media

PromptKind: TypeAlias = Literal["text", "svg", "fact", "code", "schema"]
"""What is asked for: any text, a drawing, a fact, a Python program, JSON that matches a schema."""
SETS: Final = ("pelican", "facts", "code", "schema")
# Choices: more prompts than anybody waits for.
_MAX_BYTES: Final = 16 << 20
_MAX_PROMPTS: Final = 10_000
_MAX_ID: Final = 80  # characters: ids are headings of the reports
_FIELDS: Final = frozenset(
    ("id", "prompt", "system", "image", "audio", "expected", "kind", "schema")
)


@dataclass(frozen=True)
class Prompt:
    """One question. `kind` decides how `g4 compare` judges an answer (compare/judgement.py).

    `expected` is the right answer to a fact (or a list, of which one is enough), a text that code
    must contain (or a list, all of it), or the value that JSON must have. None: no answer is right
    or wrong.
    `schema` is the JSON schema that an answer of the kind "schema" must match. `media` are images
    and sounds by absolute path.
    """

    id: str
    text: str
    kind: PromptKind = "text"
    system: str = ""
    media: tuple[Media, ...] = ()
    expected: Any = None
    schema: Mapping[str, Any] | None = None

    @cached_property
    def digest(self) -> str:
        """The sha256 of all that the model is given: text, system prompt, and content of media.

        By it, answers in a file are found again that were given before an interruption.
        """
        whole = hashlib.sha256(json.dumps([self.text, self.system]).encode())
        for medium in self.media:
            data, _header = read_media(medium.path, medium.kind)
            whole.update(hashlib.sha256(data).digest())
        return whole.hexdigest()

    def as_json(self) -> dict[str, Any]:
        """Return the prompt as a line of a file for --prompts."""
        row: dict[str, Any] = {"id": self.id, "kind": self.kind, "prompt": self.text}
        if self.system:
            row["system"] = self.system
        for kind in ("image", "audio"):
            paths = [str(medium.path) for medium in self.media if medium.kind == kind]
            if paths:
                row[kind] = paths if len(paths) > 1 else paths[0]
        if self.expected is not None:
            row["expected"] = self.expected
        return row if self.schema is None else row | {"schema": self.schema}


def make_single_prompt(text: str) -> Prompt:
    """Return the prompt of the command line; one that asks for an SVG is judged as a drawing.

    Raises UsageError if it is empty.
    """
    if not text.strip():
        raise UsageError("the prompt is empty", hint='g4 compare "What is GGUF?" -m e2b -m e4b')
    kind: PromptKind = "svg" if "svg" in text.lower() else "text"
    return Prompt("prompt", text, kind)


def read_prompts(source: str, *, limit: int = 0) -> tuple[Prompt, ...]:
    """Return the first `limit` prompts (0: all) of `source`, one of SETS or a JSONL file.

    Raises FileMissing, UsageError, BadMedia, or BadFile with the line that is wrong.
    """
    if source in SETS:
        path = Path(__file__).resolve().parents[1] / "data" / "prompts" / f"{source}.jsonl"
    else:
        path = expand_home(source)
        if not path.exists():
            raise UsageError(
                f"{source} is neither a file nor a set of prompts",
                hint=f"--prompts {'|'.join(SETS)}, or a file of lines with id and prompt",
            )
    text = read_input(require_file(path), _MAX_BYTES).decode("utf-8", "replace")
    prompts = tuple(_parse_lines(text, path))
    if not prompts:
        raise BadFile(f"{path} has no prompts", hint=shell_command("cat", path))
    for prompt in prompts:
        for medium in prompt.media:
            read_media(medium.path, medium.kind)
    return prompts[: limit or len(prompts)]


def _parse_lines(text: str, path: Path) -> Iterator[Prompt]:
    seen: set[str] = set()
    for number, line in enumerate(text.split("\n"), 1):  # not at U+2028, which JSON may hold
        if not line.strip():
            continue
        if len(seen) == _MAX_PROMPTS:
            raise BadFile(f"{path} has more than {_MAX_PROMPTS:,} prompts")
        try:
            row = json.loads(line)
            prompt = _parse_row(row, number, path.absolute().parent)
        except RecursionError:
            raise BadFile(f"{path}, line {number}: it is nested too deeply") from None
        except (ValueError, UsageError) as err:
            raise BadFile(
                f"{path}, line {number}: {err}", hint='{"id": "moon", "prompt": "What is it?"}'
            ) from None
        if prompt.id in seen:
            raise BadFile(f"{path}, line {number}: the id {prompt.id!r} is used twice")
        seen.add(prompt.id)
        yield prompt


def _parse_row(row: Any, number: int, folder: Path) -> Prompt:
    """Return the prompt of a line. Raises ValueError or UsageError."""
    if not isinstance(row, dict):
        raise ValueError("it is not a JSON object")
    if unknown := sorted(set(row) - _FIELDS):
        raise ValueError(f"unknown field {unknown[0]!r}; known: {', '.join(sorted(_FIELDS))}")
    text, prompt_id = row.get("prompt"), row.get("id", f"line-{number}")
    if not isinstance(text, str) or not text.strip():
        raise ValueError("prompt must be a text")
    if not isinstance(prompt_id, (str, int)) or not 0 < len(str(prompt_id)) <= _MAX_ID:
        raise ValueError(f"id must be a text of at most {_MAX_ID} characters")
    schema, expected = row.get("schema"), row.get("expected")
    if schema is not None:
        if not isinstance(schema, dict):
            raise ValueError("schema must be an object")
        parse_schema(json.dumps(schema))
    usual_kind = "schema" if schema is not None else "text" if expected is None else "fact"
    kind = row.get("kind", usual_kind)
    if kind not in get_args(PromptKind):
        raise ValueError(f"kind must be one of {', '.join(get_args(PromptKind))}")
    if kind == "schema" and schema is None:
        raise ValueError("kind schema needs a schema")
    if kind != "schema" and expected is not None:
        texts = expected if isinstance(expected, list) else [expected]
        if not texts or not all(str(text).strip() for text in texts):
            raise ValueError("expected must not be empty")
    system = row.get("system", "")
    if not isinstance(system, str):
        raise ValueError("system must be a text")
    media = (
        *(Media("image", folder / name) for name in _list_texts(row, "image")),
        *(Media("audio", folder / name) for name in _list_texts(row, "audio")),
    )
    return Prompt(str(prompt_id), text, kind, system, media, expected, schema)


def _list_texts(row: Mapping[str, Any], name: str) -> Sequence[str]:
    value = row.get(name, [])
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise ValueError(f"{name} must be a path or a list of paths")
    return items
