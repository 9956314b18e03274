"""The base of all request bodies: unknown fields are refused by name, nesting is limited."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias, TypeVar

from fastapi import Depends
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator
from starlette.requests import Request

from g4cli.operations.serving.service import Service
from g4cli.server.limits import MAX_DEPTH, MAX_PARTS, MAX_STOP_CHARACTERS

T = TypeVar("T")


class WireModel(BaseModel):
    """A part of a request: fields that are not declared are errors, and so are NaN and infinity."""

    # No namespace is protected: pydantic would warn of a field whose name begins with "model_".
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, protected_namespaces=())


def text_or_list(value: object) -> str:
    """Return the tag of `value` in a union such as TextOrList.

    Without tags pydantic would report the errors of both alternatives.
    """
    return "text" if isinstance(value, str) else "list"


TextOrList: TypeAlias = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[T], Tag("list")], Discriminator(text_or_list)
]
StopString: TypeAlias = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARACTERS)]
"""A text that ends an answer."""


def _find_token_lists(body: Any) -> set[int]:
    """Return the `id` of each list of token ids in `body`, which are its "tokens" or "prompt"."""
    if not isinstance(body, dict):
        return set()
    prompt = body.get("prompt")
    lists = [body.get("tokens"), prompt, *(prompt if isinstance(prompt, list) else ())]
    return {
        id(item)
        for item in lists
        if isinstance(item, list) and all(type(token) is int for token in item)
    }


class RequestBody(WireModel):
    """A whole request."""

    @model_validator(mode="before")
    @classmethod
    def check_depth(cls, value: Any) -> Any:
        """Raise ValueError if `value` is nested deeper than MAX_DEPTH or has too many parts.

        Each part that is wrong would cost an error of its own, which takes more memory than the
        body. The token ids of a prompt are not counted.
        """
        level = [value] if isinstance(value, (dict, list)) else []
        depth = n_parts = 0
        token_lists = _find_token_lists(value)
        while level:
            depth += 1
            if depth > MAX_DEPTH + 1:  # the body itself is the first level
                raise ValueError(f"the request is nested more than {MAX_DEPTH} levels deep")
            n_parts += sum(len(outer) for outer in level if id(outer) not in token_lists)
            if n_parts > MAX_PARTS:
                raise ValueError(f"the request has more than {MAX_PARTS:,} fields and items")
            level = [
                item
                for outer in level
                for item in (outer.values() if isinstance(outer, dict) else outer)
                if isinstance(item, (dict, list))
            ]
        return value


# FastAPI calls a dependency that is no coroutine in a thread, which costs every request some
# milliseconds where all cores compute.
async def _find_service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


ServiceParam = Annotated[Service, Depends(_find_service)]
"""The service, as a parameter of a route."""
