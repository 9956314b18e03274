"""GBNF is converted to Lark's syntax; mistakes and grammars without measure are told with their
place.
"""

from __future__ import annotations

import pytest

from g4cli.core.errors import UsageError
from g4cli.core.gbnf import MAX_TEXT, convert_gbnf


def rules(text: str) -> dict[str, str]:
    """Return the rules of the converted grammar by name."""
    return dict(line.split(": ", 1) for line in convert_gbnf(text).splitlines())


def test_rules_of_characters_become_terminals() -> None:
    found = rules('root ::= "a" word | "(" root ")"\nword ::= [a-z_]+ digit?\ndigit ::= [^0-9]')
    assert found["start"] == "r0_root"
    assert found["r0_root"] == 'J0 | "(" r0_root ")"'
    assert found["J0"] == '"a" T1_WORD'
    assert found["T1_WORD"] == "/[\\x{61}-\\x{7a}\\x{5f}-\\x{5f}]/+ T2_DIGIT?"
    assert found["T2_DIGIT"] == "/[^\\x{30}-\\x{39}]/"


def test_names_that_differ_in_case_or_in_a_sign() -> None:
    found = rules('root ::= a-b A-B root?\na-b ::= "1"\nA-B ::= "2"')
    assert found["T1_A_B"] == '"1"'
    assert found["T2_A_B"] == '"2"'


def test_escapes_and_tokens() -> None:
    found = rules(r'root ::= "\x41\u00e9\U0001F600\n\"\\" <|turn> !<[6]> <[5]> . [\]\-a] ')
    assert found["r0_root"] == '"Aé😀\\n\\"\\\\" <|turn> <[^6]> <[5]> J0'
    assert found["J0"] == "/(?s:.)/ /[\\x{5d}-\\x{5d}\\x{2d}-\\x{2d}\\x{61}-\\x{61}]/"


def test_repetitions() -> None:
    found = rules('root ::= "a"{2} "b"{2,} ("c" | "d"*){0,5} [0-9]{ 1 , 3 } ("x" "y"?)+*')
    assert found["T0_ROOT"] == (
        '"a"{2,2} "b"{2,} ("c" | "d"*){0,5} /[\\x{30}-\\x{39}]/{1,3} (("x" "y"?)+)*'
    )


def test_recursion_at_the_end_becomes_a_repetition() -> None:
    assert rules('root ::= "a" root | "b" root | "c"')["T0_ROOT"] == '("a" | "b")* ("c")'
    assert rules('root ::= "a" root | ""')["T0_ROOT"] == '("a")* ("")'
    assert rules('root ::= "a" root |')["T0_ROOT"] == '("a")*'
    assert rules('root ::= "a" root')["r0_root"] == '"a" r0_root'


BAD = {
    "nothing": ("# no rule", "it has no rule 'root'"),
    "no root": ('a ::= "b"', "it has no rule 'root'"),
    "an unknown rule": ('root ::= "a" |\n  foo', r"no rule 'foo' \(line 2, column 3\)"),
    "no sign": ('root ::= "a"\nb := "c"', "line 2, column 3: expected ::="),
    "an underscore": ("root ::= a_b", "line 1, column 11"),
    "an unknown escape": (r'root ::= "\q"', "column 11: expected a character, or an escape"),
    "half a character": (r'root ::= "\ud800"', r"U\+D800 is no character"),
    "half a character, as JSON has it": ('root ::= "\ud800"', "column 11: expected a character"),
    "an open string": ('root ::= "a', 'column 10: this has no closing "'),
    "an open class": ("root ::= [a", "column 10: this has no closing ]"),
    "an empty class": ("root ::= []", "column 10: a class without characters"),
    "a range backwards": ("root ::= [z-a]", "a range that ends before it begins"),
    "an open parenthesis": (
        'root ::= ("a" ("b")',
        "column 10: this parenthesis has no closing one",
    ),
    "a closed parenthesis": ('root ::= "a")', "column 13: expected a symbol or a new line"),
    "nothing to repeat": ("root ::= *", "nothing to repeat"),
    "an empty literal repeated": ('root ::= "" +', "nothing to repeat"),
    "a bad count": ('root ::= "a"{,2}', "expected a repetition"),
    "counts backwards": ('root ::= "a"{5,2}', "at least 5 but at most 2"),
    "a control character": ("root ::= \x1b]52;c;YQ==\x07", "column 10: expected a symbol"),
    "a zero byte": ('root ::= "a\0"', "column 12: expected a character"),
    "a token by name, negated": ("root ::= !<|turn>", "written by its number"),
    "parentheses": ("root ::= " + "(" * 20000 + '"a"' + ")" * 20000, "24 nested parentheses"),
    "rules": ("\n".join(f'r{i} ::= "a"' for i in range(30_000)), "more than 20,000 rules"),
    "a repetition without end": ('root ::= "a"{1000000000000}', "more than 1,000,000 times"),
    "a long text": ('root ::= "' + "a" * MAX_TEXT + '"', "too large"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BAD)
def test_mistakes_are_told_with_their_place(name: str) -> None:
    grammar, said = BAD[name]
    with pytest.raises(UsageError, match=said) as caught:
        convert_gbnf(grammar)
    assert len(caught.value.message) < 300
    assert caught.value.message.isprintable()
