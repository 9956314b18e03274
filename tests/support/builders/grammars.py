"""Grammars in GBNF, large or deep."""

from __future__ import annotations

from collections.abc import Iterable


def join_rules(lines: Iterable[str]) -> str:
    """Return the grammar of `lines`, one rule a line."""
    return "\n".join(lines)


def chain(n: int) -> str:
    """Return a grammar whose root is `n` rules deep."""
    return join_rules(f"r{i} ::= r{i + 1}" for i in range(n)) + f'\nr{n} ::= "a"\nroot ::= r0'
