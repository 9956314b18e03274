"""The base of all request bodies: unknown fields are refused by name, nesting is limited."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends
from pydantic import BaseModel, ConfigDict, model_validator
from starlette.requests import Request

from g4cli.operations.serving.service import Service
from g4cli.server.limits import MAX_DEPTH


class WireModel(BaseModel):
    """A part of a request: fields that are not declared are errors, and so are NaN and infinity."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, protected_namespaces=())


class RequestBody(WireModel):
    """A whole request."""

    @model_validator(mode="before")
    @classmethod
    def check_depth(cls, value: Any) -> Any:
        """Raise ValueError for lists and objects within each other deeper than MAX_DEPTH."""
        level, depth = [value], 0
        while level:
            depth += 1
            if depth > MAX_DEPTH + 1:
                raise ValueError(f"the request is nested more than {MAX_DEPTH} levels deep")
            level = [
                item
                for outer in level
                for item in (
                    outer.values()
                    if isinstance(outer, dict)
                    else outer
                    if isinstance(outer, list)
                    else ()
                )
                if isinstance(item, (dict, list))
            ]
        return value


def _find_service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


ServiceParam = Annotated[Service, Depends(_find_service)]
"""The service, as a parameter of a route."""
