"""Read the JSON schema of a tool's parameters: references, members, options that exclude others.

What no schema has counts as not said. The schemas of answers are read by core/json_schema.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Final

from g4cli.core.errors import UsageError
from g4cli.core.json_schema import find_value

# Here "number" means one that is no integer.
_KINDS: Final = frozenset(("string", "integer", "number", "boolean", "null", "array", "object"))
# Choices: references in a row, and members within members; options of one schema; constants and
# members that are compared for a tool, in some hundredths of a second.
_MAX_STEPS: Final = 8
MAX_OPTIONS: Final = 64
_MAX_ENTRIES: Final = 100_000


def read_properties(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the declared members of an object."""
    return names if isinstance(names := schema.get("properties"), Mapping) else {}


def read_list(schema: Mapping[str, Any], key: str) -> list[Any]:
    """Return the list that a keyword has, an empty one if it has none."""
    return values if isinstance(values := schema.get(key), list) else []


def read_constants(schema: Mapping[str, Any]) -> list[Any]:
    """Return the values of const or enum, an empty list if the schema names none."""
    return [schema["const"]] if "const" in schema else read_list(schema, "enum")


def find_target(reference: str, root: Any) -> Mapping[str, Any] | None:
    """Return the schema that a $ref points to; None if it is none, or outside of `root`."""
    if reference != "#" and not reference.startswith("#/"):
        return None
    try:
        target = find_value(root, reference, "")
    except UsageError:
        return None
    return target if isinstance(target, Mapping) else None


def may_be_object(schema: Any, root: Any) -> bool:
    """Return whether an object may match a schema, as far as types and constants tell."""
    target = _follow_references(schema, root)
    return target is None or "object" in _list_kinds(target)


class OptionComparison:
    """Finds out whether a value can match two options of a schema. Make one for a tool.

    The work for all of them is limited: beyond that nothing is said to be exclusive.
    """

    def __init__(self, root: Any) -> None:
        """`root`: what references lead into."""
        self._root, self._n_left = root, _MAX_ENTRIES

    def exclude_each_other(self, options: Sequence[Any], *, are_objects: bool = False) -> bool:
        """Return whether no value matches two of `options`, as far as types and constants tell.

        `are_objects`: no values but objects come in question.
        """
        kinds = frozenset(("object",)) if are_objects else _KINDS
        return all(self._are_disjoint(a, b, kinds, _MAX_STEPS) for a, b in combinations(options, 2))

    def _are_disjoint(self, a: Any, b: Any, kinds: frozenset[str], n_steps: int) -> bool:
        """Return whether no value of `kinds` matches both `a` and `b`.

        Objects cannot if a member that both require tells them apart, or if one requires a member
        that the other forbids.
        """
        a, b = _follow_references(a, self._root), _follow_references(b, self._root)
        if a is None or b is None or not n_steps:
            return False
        self._n_left -= _count_entries(a) + _count_entries(b)
        if self._n_left < 0:
            return False
        values, others = _list_values(a), _list_values(b)
        if values and others and values.isdisjoint(others):
            return True
        common = kinds & _list_kinds(a) & _list_kinds(b)
        if common != {"object"}:
            return not common
        required, others_required = _list_required(a), _list_required(b)
        members, other_members = read_properties(a), read_properties(b)
        told_apart = (
            self._are_disjoint(members[name], other_members[name], _KINDS, n_steps - 1)
            for name in required & others_required & members.keys() & other_members.keys()
        )
        return (
            (a.get("additionalProperties") is False and not members.keys() >= others_required)
            or (b.get("additionalProperties") is False and not other_members.keys() >= required)
            or any(told_apart)
        )


def _count_entries(schema: Mapping[str, Any]) -> int:
    lists = read_list(schema, "enum"), read_list(schema, "required"), read_properties(schema)
    return 1 + sum(map(len, lists))


def _list_required(schema: Mapping[str, Any]) -> set[str]:
    return {name for name in read_list(schema, "required") if isinstance(name, str)}


def _follow_references(schema: Any, root: Any) -> Mapping[str, Any] | None:
    """Return what a schema refers to in the end, None if that is no schema with keywords."""
    for _ in range(_MAX_STEPS):
        if not isinstance(schema, Mapping):
            return None
        if not isinstance(reference := schema.get("$ref"), str):
            return schema
        schema = find_target(reference, root)
    return None


def _list_values(schema: Mapping[str, Any]) -> set[Any]:
    """Return all values that a schema may allow, an empty set if it does not name them.

    All lists count as the same value, and so do all objects.
    """
    constants = read_constants(schema)
    values = {type(v) if isinstance(v, list | Mapping) else v for v in constants}
    return values | {None} if values and schema.get("nullable") else values


def _list_kinds(schema: Mapping[str, Any]) -> frozenset[str]:
    """Return the types of the values that a schema may allow."""
    said = schema.get("type")
    kinds = {str(kind).lower() for kind in (said if isinstance(said, list) else [said])}
    if not kinds or not kinds <= _KINDS:
        kinds = set(_KINDS)
    if "number" in kinds:
        kinds.add("integer")
    if constants := read_constants(schema):
        kinds &= {_find_kind(value) for value in constants}
    if schema.get("nullable"):
        kinds.add("null")
    return frozenset(kinds)


def _find_kind(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "integer" if value % 1 == 0 else "number"
    types = ((bool, "boolean"), (str, "string"), (list, "array"), (Mapping, "object"))
    return next((kind for one, kind in types if isinstance(value, one)), "null")
