"""What requests of all wire formats hold: tools and JSON schemas, sampling parameters."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field

from g4cli.core.errors import BadField, UsageError
from g4cli.operations.serving.requests import ToolChoice
from g4cli.prompt.call_grammar import list_unenforced_keywords
from g4cli.prompt.tools import declare_tool
from g4cli.server.limits import MAX_SCHEMA_BYTES, MAX_TOKENS, MAX_TOOL_BYTES
from g4cli.server.wire_model import WireModel


class SamplingParameters(WireModel):
    """Sampling parameters that OpenAI's, llama-server's and Ollama's requests have in common.

    The limits of the temperature and of the penalties are choices, far beyond any use.
    """

    temperature: Annotated[float, Field(ge=0, le=100)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=MAX_TOKENS)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Field(ge=-10, le=10)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-10, le=10)] | None = None
    repeat_penalty: Annotated[float, Field(gt=0, le=10)] | None = None
    repeat_last_n: Annotated[int, Field(ge=-1, le=MAX_TOKENS)] | None = None


# Those that every API writes as g4 takes them; `temperature` is `temp` in
# runtime.engine.options.Sampling.
_SAMPLING: Final = {*SamplingParameters.model_fields, "ignore_eos", "seed"}


def read_sampling(body: BaseModel) -> dict[str, Any]:
    """Return the sampling parameters that `body` has and gives, by their names in `Sampling`."""
    given = body.model_dump(include=_SAMPLING, exclude_none=True)
    if "temperature" in given:
        given["temp"] = given.pop("temperature")
    return given


def declare_tools(
    functions: Iterable[tuple[str, Mapping[str, Any]]],
) -> tuple[Mapping[str, Any], ...]:
    """Return tools as `g4cli.prompt.tools` takes them.

    `functions` are pairs: the field of the request where a function stands, and a mapping with its
    "name", "description", "parameters" (a JSON schema) and "strict" (whether a grammar must be able
    to enforce all of that schema). Raises BadField with that field if the declaration is malformed,
    or with "tools" if all are too large together.
    """
    tools: list[Mapping[str, Any]] = []
    names: set[str] = set()
    n_bytes = 0
    for field, given in functions:
        function = {key: value for key, value in given.items() if key != "strict"}
        parameters = function.get("parameters")
        if given.get("strict") and (unenforced := list_unenforced_keywords(parameters)):
            what = f"strict cannot be held for: {', '.join(unenforced)}"
            raise BadField(f"{field}.parameters", what)
        tool = {"type": "function", "function": function}
        try:
            n_bytes += len(json.dumps(function))
            declare_tool(tool)
        # All but UsageError: a part of the schema has the wrong type.
        except (UsageError, AttributeError, TypeError, ValueError) as err:
            reason = err.message if isinstance(err, UsageError) else "this is not a JSON schema"
            raise BadField(field, reason) from None
        if function["name"] in names:
            raise BadField(f"{field}.name", "two tools have this name")
        names.add(function["name"])
        tools.append(tool)
    if n_bytes > MAX_TOOL_BYTES:
        raise BadField("tools", f"they have {n_bytes:,} bytes; at most {MAX_TOOL_BYTES:,}")
    return tuple(tools)


def choose_tools(
    mode: Literal["auto", "none", "required"], name: str, tools: Sequence[Mapping[str, Any]]
) -> ToolChoice:
    """Return the choice of `tools`. `name`: with "required", the one that must be called; "": any.

    Raises BadField if there is no such tool.
    """
    if mode != "required":
        return ToolChoice(mode)
    names = [tool["function"]["name"] for tool in tools]
    if not names or (name and name not in names):
        raise BadField("tool_choice", f"no such tool is among tools: {name or 'there are none'}")
    return ToolChoice("required", name)


def encode_schema(schema: Mapping[str, Any], field: str) -> str:
    """Return a JSON schema as text. Raises BadField, which names `field`, if it is too large."""
    text = json.dumps(schema)
    if len(text) > MAX_SCHEMA_BYTES:
        what = f"the schema has {len(text):,} bytes; at most {MAX_SCHEMA_BYTES:,}"
        raise BadField(field, what)
    return text
