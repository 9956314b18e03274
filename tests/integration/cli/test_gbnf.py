"""Grammars are parsed as llama.cpp parses them, and refused with a place before they can do it
harm.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g4cli.core.errors import UsageError
from g4cli.core.gbnf import check_grammar
from g4cli.runtime.engine.grammar import convert_schema
from g4cli.runtime.engine.model import Model
from g4cli.runtime.engine.options import ModelOptions
from g4cli.runtime.llama.library import load_grammar_module, load_llama
from tests.support.builders.grammars import chain
from tests.support.builders.tiny_file import build_tiny


@pytest.fixture(scope="module")
def vocab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    path = tmp_path_factory.mktemp("gbnf") / "tiny.gguf"
    path.write_bytes(build_tiny())
    model = Model(path, ModelOptions(vocab_only=True))
    yield model.vocab
    model.close()


def llama_parses(vocab: Any, grammar: str) -> bool:
    sampler = load_llama().llama_sampler_init_grammar(vocab, grammar.encode(), b"root")
    if sampler:
        load_llama().llama_sampler_free(sampler)
    return bool(sampler)


GOOD = {
    "comments and lines": '# one\nroot ::= # two\n  "a" | # three\n  b\n\nb ::= ("c"\n "d")+\n',
    "escapes": r'root ::= "\x41\u00e9\U0001F600\n\t\r\\\"" [\[\]a-z\-] [^"\\\x7F-\x9F]*',
    "counts": 'root ::= "a"{2} "b"{2,} "c"{0,5} [0-9]{ 1 , 3 } ("x" "y"?){3}',
    "tokens": "root ::= <[5]> !<[6]> .",
    "names": "root ::= a-1 | B2\r\na-1 ::= .\r\nB2 ::= a-1? [^a]",
    "an empty literal": 'root ::= "" "a" | ""',
    "900 parentheses": "root ::= " + "(" * 900 + '"a"' + ")" * 900,
    "5,000 rules deep": chain(5000),
    "many alternatives": "root ::= " + " | ".join(f'"v{i}"' for i in range(5000)),
    "repeated repetitions": 'root ::= ("a"{500}){500}',
}


@pytest.mark.parametrize("name", GOOD)
def test_llama_cpp_takes_what_passes(vocab: Any, name: str) -> None:
    check_grammar(GOOD[name])
    assert llama_parses(vocab, GOOD[name])


@pytest.mark.parametrize(
    "schema",
    [
        '{"type": "string", "maxLength": 1000}',
        '{"type": "array", "items": {"type": "string"}, "maxItems": 900}',
    ],
)
def test_llama_cpp_takes_the_grammar_of_a_long_schema(vocab: Any, schema: str) -> None:
    grammar = convert_schema(schema)
    check_grammar(grammar)
    assert llama_parses(vocab, grammar)


BAD = {
    "nothing": ("# no rule", "it has no rule 'root'"),
    "no root": ('a ::= "b"', "it has no rule 'root'"),
    "an unknown rule": ('root ::= "a" |\n  foo', r"no rule 'foo' \(line 2, column 3\)"),
    "no sign": ('root ::= "a"\nb := "c"', "line 2, column 3: expected ::="),
    "an underscore": ('root ::= a_b', "line 1, column 11"),
    "an unknown escape": (r'root ::= "\q"', "column 11: expected a character, or an escape"),
    "an open string": ('root ::= "a', 'column 10: this has no closing "'),
    "an open class": ("root ::= [a", "column 10: this has no closing ]"),
    "an open parenthesis": (
        'root ::= ("a" ("b")',
        "column 10: this parenthesis has no closing one",
    ),
    "a closed parenthesis": ('root ::= "a")', "column 13: expected a symbol or a new line"),
    "nothing to repeat": ("root ::= *", "nothing to repeat"),
    "an empty literal repeated": ('root ::= "" +', "nothing to repeat"),
    "a bad count": ('root ::= "a"{,2}', "expected a repetition"),
    "a control character": ("root ::= \x1b]52;c;YQ==\x07", "column 10: expected a symbol"),
    "a zero byte": ('root ::= "a\0"', "column 12: expected a character"),
    "itself first": ('root ::= root "a" | "b"', "'root' begins with itself"),
    "itself after nothing": ('root ::= a\na ::= ("x"?)* root "b"', "begins with itself"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_mistakes_are_told_with_their_place(vocab: Any, name: str) -> None:
    grammar, said = BAD[name]
    with pytest.raises(UsageError, match=said) as caught:
        check_grammar(grammar)
    assert caught.value.hint
    assert caught.value.message.isprintable()
    if name not in ("a zero byte",):  # a C string ends there
        assert not llama_parses(vocab, grammar)


PIECES = ("root", "::=", " ", "\n", '"a"', "[a-z]", "[^b]", "(", ")", "|", "*", "+", "?", "{2}",
          "{0,3}", "{2,}", ".", "b", "#", "\\", '"', "]", "b ::= 'c'", "\nb ::= [0-9] | root",
          "<[3]>",
          "\r\n")  # fmt: skip


@settings(max_examples=200)
@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
def test_nothing_passes_that_llama_cpp_refuses(vocab: Any, text: str) -> None:
    for grammar in ("root ::= " + text, "root ::= " + text + '\nb ::= "c"'):
        try:
            check_grammar(grammar)
        except UsageError:
            continue
        assert llama_parses(vocab, grammar)


def test_the_grammars_that_come_with_the_library() -> None:
    found = [value for name, value in vars(load_grammar_module()).items() if name.endswith("_GBNF")]
    assert len(found) > 5
    for grammar in found:
        check_grammar(grammar)
