"""The published JSON Schemas, as judges of what the commands print."""

from __future__ import annotations

import json
from typing import Any, Final

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from tests.support.paths import ROOT

SCHEMAS: Final = ROOT / "docs" / "reference" / "schemas"


def validate_output(document: Any, name: str) -> None:
    """Raise jsonschema.ValidationError unless `document` is what the schema `name` describes."""
    schemas = {path.stem: json.loads(path.read_text()) for path in SCHEMAS.glob("*.json")}
    registry = Registry().with_resources(
        (schema["$id"], Resource.from_contents(schema)) for schema in schemas.values()
    )
    Draft202012Validator(schemas[name], registry=registry).validate(document)
