"""What the converted grammar allows, llama.cpp's own parser of GBNF allows too, and the reverse."""

from __future__ import annotations

import ast
import ctypes
import importlib.util
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from g4cli.prompt.answer_grammar import AnswerForm, make_grammar
from g4cli.runtime.engine.grammar import pack_model
from g4cli.runtime.engine.model import Model
from g4cli.runtime.engine.options import ModelOptions
from g4cli.runtime.llama.library import load_llama
from tests.support.builders.tiny_file import build_tiny

GRAMMARS = {
    "comments and lines": '# one\nroot ::= # two\n  "a" | # three\n  b\n\nb ::= ("c"\n "d")+\n',
    "escapes": r'root ::= "\x41\u00e9\U0001F600\n\t\r\\\"" [\[\]a-z\-]{3} [^"\\\x7F-\x9F]{4}',
    "counts": 'root ::= "a"{2} "b"{2,} "c"{0,5} [0-9]{ 1 , 3 } ("x" "y"?){3}',
    "names": "root ::= a-1 | B2\r\na-1 ::= .\r\nB2 ::= a-1? [^a]",
    "an empty literal": 'root ::= "" "a" | ""',
    "24 parentheses": "root ::= " + "(" * 24 + '"a"' + ")" * 24,
    "many alternatives": "root ::= " + " | ".join(f'"v{i}"' for i in range(2000)),
    "repeated repetitions": 'root ::= ("a"{50}){50}',
    "recursion": 'root ::= "(" root ")" | [a-c]+ "." | item root | "!"\nitem ::= "- " [a-z]* "\\n"',
    "neighbors": 'root ::= [a-z]* "b" [0-9]? "7" tail\ntail ::= "<" tail ">" | "x"',
    "a list": 'root ::= item ("," item)*\nitem ::= "[" root "]" | [0-9]+',
}
# Grammars that come with llama-cpp-python. ARITHMETIC_GBNF is not the same: its `ws "\\n"` needs a
# line break that the words of llguidance, which are as long as they can be, do not leave over.
SHIPPED = ("JSON_GBNF", "JSON_ARR_GBNF", "C_GBNF", "CHESS_GBNF", "LIST_GBNF")
_STEPS = 60


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    path = tmp_path_factory.mktemp("gbnf") / "tiny.gguf"
    path.write_bytes(build_tiny())
    made = Model(path, ModelOptions(vocab_only=True))
    yield made
    made.close()


@pytest.fixture(scope="module")
def tokenizer(model: Model) -> Any:
    from g4cli.runtime.engine.mask_child import build_tokenizer

    return build_tokenizer(pack_model(model))


@contextmanager
def llama_sampler(model: Model, grammar: str) -> Iterator[Any]:
    """Yield llama.cpp's own sampler; what it prints on standard error is dropped."""
    saved, devnull = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 2)
    sampler = load_llama().llama_sampler_init_grammar(model.vocab, grammar.encode(), b"root")
    os.dup2(saved, 2)
    os.close(saved)
    os.close(devnull)
    assert sampler, "llama.cpp refuses it"
    yield sampler
    load_llama().llama_sampler_free(sampler)


def allowed_by_llama(model: Model, sampler: Any) -> set[int]:
    c = load_llama()
    rows = np.zeros(model.n_vocab, [("id", np.int32), ("logit", np.float32), ("p", np.float32)])
    rows["id"] = np.arange(model.n_vocab)
    data = rows.ctypes.data_as(ctypes.POINTER(c.llama_token_data))
    array = c.llama_token_data_array(data, model.n_vocab, -1, False)
    c.llama_sampler_apply(sampler, ctypes.byref(array))
    return set(np.flatnonzero(np.isfinite(rows["logit"])))


def _find_shipped(name: str) -> str:
    """Return a grammar of llama-cpp-python. Its module is read, for importing it has effects."""
    folder = importlib.util.find_spec("llama_cpp")
    assert folder is not None
    assert folder.origin is not None
    source = (Path(folder.origin).parent / "llama_grammar.py").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return str(ast.literal_eval(node.value))
    raise LookupError(name)


@pytest.mark.slow_except(*GRAMMARS)
@pytest.mark.parametrize("name", [*GRAMMARS, *SHIPPED])
def test_both_allow_the_same_tokens(model: Model, tokenizer: Any, name: str) -> None:
    """At each step of two random answers.

    Left out: control tokens, the byte 0, which llama.cpp cannot represent, and a token that ends in
    the middle of a character, of which llama.cpp does not look at the rest.
    """
    from g4cli.runtime.engine.mask_child import compile_grammar

    text = GRAMMARS.get(name) or _find_shipped(name)
    whole = {
        t
        for t in range(model.n_vocab)
        if model.piece(t).isascii() and model.piece(t) not in (b"", b"\0")
    }
    whole -= {t for t in whole if model.piece(t)[:1] == b"<" and model.piece(t)[-1:] == b">"}
    for seed in range(2):
        chance = random.Random(seed)
        matcher = compile_grammar(tokenizer, make_grammar(AnswerForm("gbnf", text)))
        with llama_sampler(model, text) as sampler:
            for _ in range(_STEPS):
                bits = np.frombuffer(matcher.compute_bitmask(), np.uint8)
                assert not matcher.is_error(), matcher.get_error()
                ours = set(np.flatnonzero(np.unpackbits(bits, bitorder="little")))
                theirs = allowed_by_llama(model, sampler)
                assert ours & whole == theirs & whole
                assert bool(ours & {1, 106}) == bool(theirs & {1, 106})
                choices = sorted(ours & whole)
                if not choices:
                    break
                token = int(chance.choice(choices))
                assert matcher.consume_token(token)
                load_llama().llama_sampler_accept(sampler, token)
