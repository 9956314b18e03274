"""Grammars are parsed as llama.cpp parses them, and refused with a place before they can do it
harm.
"""

from __future__ import annotations

import pytest

from g4cli.core.errors import UsageError
from g4cli.core.gbnf import MAX_TEXT, check_grammar
from tests.support.builders.grammars import chain, join_rules


def twofold(n: int, after: str) -> str:
    """A rule that begins in 2^n ways."""
    return f'root ::= r0\nr{n} ::= "a"\n' + join_rules(
        f"r{i} ::= r{i + 1} {after} | r{i + 1}" for i in range(n)
    )


HARMFUL = {
    "20,000 parentheses": (
        "root ::= " + "(" * 20000 + '"a"' + ")" * 20000,
        "1000 nested parentheses",
    ),
    "200,000 rules": (chain(200_000), "too large"),
    "rules that fit the text": (chain(50_000), "too large"),
    "rules too deep": (chain(15_000), "nested"),
    "2^40 ways": (twofold(40, ""), "can begin in more than"),
    "2^40 stacks": (twofold(40, '"a"'), "can begin in more than"),
    "a repetition without end": ('root ::= "a"{1000000000000}', "more than 2,000 rules"),
    "one that runs backwards": ('root ::= "a"{5,2}', "at least 5 but at most 2"),
    "repetitions multiplied": ('root ::= (("a" "b"?){100}){100}{100}', "more than 2,000 rules"),
    "many repetitions": ("root ::= " + '"a"{0,1999} ' * 20, "more than 20,000 rules"),
    "elements": ("root ::= " + '("a"{1999}) ' * 300, "elements|rules"),
    "a long text": ('root ::= "' + "a" * MAX_TEXT + '"', "too large"),
}  # fmt: skip


@pytest.mark.parametrize("name", HARMFUL)
def test_what_llama_cpp_would_die_or_hang_of(name: str) -> None:
    grammar, said = HARMFUL[name]
    with pytest.raises(UsageError, match=said) as caught:
        check_grammar(grammar)
    assert len(caught.value.message) < 300
