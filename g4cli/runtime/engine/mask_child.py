"""The process that says which tokens a grammar allows next, by llguidance.

    python -m g4cli.runtime.engine.mask_child         answers the requests of `masks`
    python -m g4cli.runtime.engine.mask_child check   compiles the grammar on its standard input

Why a process of its own: to index a vocabulary of 262,144 tokens takes seconds, and a hostile
grammar can make llguidance allocate gigabytes, which ends its process. Neither may touch the worker
that computes answers for everyone. So a new grammar is first compiled by a `check` that has little
time and memory; only one that passes comes to the process with the masks.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import sys
import threading
from array import array
from collections.abc import Iterator
from typing import Any, Final

import llguidance

from g4cli.runtime.engine.mask_frames import (
    COUNTS,
    DROP,
    ERROR,
    GRAMMAR,
    HEADER,
    MASK,
    TOKENS,
    TOKENS_AHEAD,
    VOCABULARY,
    mask_bytes,
    pack_vocabulary,
)
from g4cli.runtime.engine.number_limit import (
    DOUBLE_DIGITS,
    MAX_DIGITS,
    NumberScanner,
    end_number,
    pack_digit_tokens,
)

_MAX_STATES: Final = 200_000  # of lexers, up to 2 KiB each: below the memory of `masks`
_MAX_ITEMS: Final = 10_000  # at one place: an object of 1,000 optional properties has 4,007
_MAX_PLACES: Final = 300  # a choice: parts of a schema that are compiled to find the one at fault
# How a Lark grammar names control tokens: <|tool_call>, and by their numbers <[4,48-50]>.
_TOKEN_NAME: Final = re.compile(r"<[^<>\[\]\n]+>")
_TOKEN_NUMBER: Final = re.compile(r"\d{1,9}(?=[^<>]*\]>)")
_MAX_TOKENS: Final = 1 << 19  # a choice, of a vocabulary: twice those of Gemma 4
_MAX_CERTAIN_BYTES: Final = 256  # a choice, of what follows in any case: a constant may be long
# Where a text is certain, the tokens that are allowed are its beginnings: not more than a token has
# bytes. With more of them the question, for which the matcher is copied, is not worth asking.
_MAX_BEGINNINGS: Final = 256
# Sets of tokens that are allowed as a whole where all of them are: white space, and texts up to so
# many characters. llguidance has 10 and 30; within a string whose maxLength leaves 28 characters it
# would look at each of the many tokens of 11 to 28.
_SLICES: Final = (
    r"[\x20\x0A\x0D\x09]+",
    *(rf'[^"\\\x00-\x1F\x7F]{{1,{length}}}' for length in (5, 10, 12, 15, 20, 30)),
    r'[^"\\\x00-\x1F\x7F]+',
)
# Messages that speak of options which g4 does not have, or of the inside of llguidance.
_REWORDED: Final = {
    "oneOf constraints are not supported": "oneOf: a value may match two of its options; use anyOf",
    "NoExtensionBias": "a reference leads to itself and to nothing else",
}
# Keywords whose values map names to schemas, lists of schemas, and single ones.
_NAMED: Final = ("properties", "patternProperties", "$defs", "definitions")
_LISTS: Final = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE: Final = ("items", "additionalProperties", "additionalItems")


class _Vocabulary:
    """The tokens in the form that llguidance asks for (`llguidance.TokenizerWrapper`)."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, data: bytes) -> None:
        n_tokens, n_controls, n_ends = COUNTS.unpack_from(data)
        offset = COUNTS.size
        ids = array("I", data[offset : offset + 4 * (n_controls + n_ends)])
        offset += 4 * len(ids)
        lengths = array("I", data[offset : offset + 4 * n_tokens])
        offset += 4 * n_tokens
        self.special_token_ids = list(ids[:n_controls])
        self.ends = list(ids[n_controls:])
        self.eos_token_id = self.ends[0]
        self.tokens = []
        for length in lengths:
            self.tokens.append(data[offset : offset + length])
            offset += length
        self.digit_tokens = pack_digit_tokens(self.tokens)

    def __call__(self, _text: bytes) -> list[int]:
        """Return no tokens: g4 tokenizes with llama.cpp, and asks llguidance for bytes."""
        return []


def build_tokenizer(data: bytes) -> Any:
    """Return llguidance's index of the vocabulary that `pack_vocabulary` packed."""
    return _index_vocabulary(_Vocabulary(data))


def _index_vocabulary(vocabulary: Any) -> Any:
    return llguidance.LLTokenizer(vocabulary, eos_token=vocabulary.ends, slices=list(_SLICES))


def compile_grammar(tokenizer: Any, grammar: str) -> Any:
    """Return a matcher of llguidance; its `get_error()` is empty if the grammar is good."""
    # verbose_errors would quote the schema.
    limits = llguidance.LLParserLimits(
        max_lexer_states=_MAX_STATES, max_items_in_row=_MAX_ITEMS, verbose_errors=False
    )
    return llguidance.LLMatcher(tokenizer, grammar, log_level=0, limits=limits)


# --- check ---


def explain_error(grammar: str) -> str:
    """Return why llguidance cannot use a grammar, "" if it can.

    For a JSON schema in it the place of the fault is found by compiling its parts.
    """
    tokenizer = _make_small_tokenizer(grammar)
    error: str = compile_grammar(tokenizer, grammar).get_error()
    if not error:
        return ""
    for part in json.loads(grammar)["grammars"]:
        schema = part.get("json_schema")
        if schema is not None and (place := _find_fault(tokenizer, schema, error)):
            return f"{place}: {_reword_error(error)}"
    return _reword_error(error)


def _reword_error(error: str) -> str:
    """Return an error of llguidance without what nobody else can read."""
    error = error.replace("<non-verbose/>", "").strip()
    return _REWORDED.get(error.partition(".")[0], error)


def _make_small_tokenizer(grammar: str) -> Any:
    """Return a tokenizer of bytes, and of the control tokens that a grammar names."""
    texts = [part.get("lark_grammar", "") for part in json.loads(grammar)["grammars"]]
    names = sorted({name for text in texts for name in _TOKEN_NAME.findall(text)})
    pieces = [bytes([value]) for value in range(256)] + [name.encode() for name in names]
    numbers = [int(number) for text in texts for number in _TOKEN_NUMBER.findall(text)]
    controls = list(range(256, len(pieces)))
    if numbers:
        most = min(max(numbers), _MAX_TOKENS)
        pieces += [b"<%d>" % number for number in range(len(pieces), most + 1)]
    return build_tokenizer(pack_vocabulary(pieces, controls, [0]))


def _find_fault(tokenizer: Any, root: Any, error: str) -> str:
    """Return the place of the innermost part of a schema that alone gives `error`, "" for none.

    A part alone may also give other errors, since it refers to what is outside of it.
    """
    shared = {
        key: root[key] for key in ("$defs", "definitions") if isinstance(root, dict) and key in root
    }
    for index, (place, part) in enumerate(_list_parts(root, "#")):
        if index >= _MAX_PLACES:
            break
        schema = {**shared, **part} if isinstance(part, dict) else part
        alone = json.dumps({"grammars": [{"json_schema": schema}]})
        if compile_grammar(tokenizer, alone).get_error() == error:
            return place
    return ""


def _list_parts(schema: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Yield the schemas inside of a schema with their places, inner ones first."""
    for key, value in schema.items() if isinstance(schema, dict) else ():
        if key in _NAMED and isinstance(value, dict):
            for name, inner in value.items():
                yield from _list_parts(inner, f"{place}/{key}/{name}")
        elif key in _LISTS and isinstance(value, list):
            for number, inner in enumerate(value):
                yield from _list_parts(inner, f"{place}/{key}/{number}")
        elif key in _SINGLE and isinstance(value, dict):
            yield from _list_parts(value, f"{place}/{key}")
    yield place, schema


# --- masks ---


def _read_requests(requests: queue.SimpleQueue[tuple[int, bytes, bytes] | None]) -> None:
    """Put all requests into a queue, None at the end of the pipe.

    The pipe is always emptied: the worker must never wait until it may write.
    """
    pipe = sys.stdin.buffer
    while len(head := pipe.read(HEADER.size)) == HEADER.size:
        length, number, kind = HEADER.unpack(head)
        payload = pipe.read(length)
        if len(payload) < length:
            break
        requests.put((number, kind, payload))
    requests.put(None)


def _send_frame(number: int, kind: bytes, payload: bytes) -> None:
    data = memoryview(HEADER.pack(len(payload), number, kind) + payload)
    while data:
        data = data[os.write(1, data) :]


class _Stream:
    """A grammar at a place of an answer, and the bytes that are known to follow there."""

    def __init__(self, tokenizer: Any, vocabulary: _Vocabulary, grammar: str) -> None:
        self._tokenizer, self._vocabulary, self._grammar = tokenizer, vocabulary, grammar
        self._n_bytes = mask_bytes(tokenizer.vocab_size)
        self.matcher = compile_grammar(tokenizer, grammar)
        self._tokens: list[int] = []
        self._scanner = _make_scanner(grammar)
        self._certain = b""
        # Whether to look ahead, and whether that was done with this matcher (see `write_mask`).
        self._may_look, self._has_looked = True, False

    def add_tokens(self, tokens: list[int]) -> None:
        """Go on behind `tokens`."""
        self.matcher.consume_tokens(tokens)
        self._tokens += tokens
        pieces = [self._vocabulary.tokens[token] for token in tokens]
        if self._scanner is not None:
            for piece in pieces:
                self._scanner.add_token(piece)
        data = b"".join(pieces)
        self._certain = self._certain[len(data) :] if self._certain.startswith(data) else b""

    def reset(self) -> None:
        """Go back to the beginning of the grammar."""
        self.matcher.reset()
        self._tokens, self._certain = [], b""
        self._scanner = _make_scanner(self._grammar)

    def write_mask(self, *, looks_ahead: bool) -> bytes:
        """Return the mask of the next token, and behind it the bytes known to follow in any case.

        Of many such bytes it is a part. `looks_ahead`: whether to look for them. llguidance looks
        up to 30,000 steps ahead, which takes 15 ms: it is asked again only behind what is known.
        What lies ahead may exceed its limits, which the answer may never reach, and a copy shares
        them with the matcher. So the matcher is then made anew, and not asked any more. With an
        error, the mask is of no use.
        """
        mask = self._compute_mask()
        looks_ahead = looks_ahead and self._may_look and not self._certain
        if looks_ahead and not self.matcher.is_error() and _has_few_tokens(mask):
            # Of a copy: with control tokens in the grammar, the question would spoil the matcher.
            copy = self.matcher.deep_copy()
            self._certain = copy.compute_ff_bytes()
            self._has_looked = True
            if copy.is_error():
                self._may_look, self._certain = False, b""
        if self.matcher.is_error() and self._has_looked:
            self._may_look = self._has_looked = False
            self._certain = b""
            self.matcher = compile_grammar(self._tokenizer, self._grammar)
            self.matcher.consume_tokens(self._tokens)
            mask = self._compute_mask()
        return mask + self._certain[:_MAX_CERTAIN_BYTES]

    def _compute_mask(self) -> bytes:
        if self.matcher.is_error():
            return b""
        mask: bytes = self.matcher.compute_bitmask()[: self._n_bytes]
        if self._scanner is not None and self._scanner.is_full:
            mask = end_number(mask, self._vocabulary.digit_tokens)
        return mask


def _has_few_tokens(mask: bytes) -> bool:
    return 0 < int.from_bytes(mask, "little").bit_count() <= _MAX_BEGINNINGS


def _make_scanner(grammar: str) -> NumberScanner | None:
    """Return what ends numbers, None if the answer is in a notation of the user's own.

    The user's own grammar is the part that g4 names "answer" (prompt/answer_grammar.py). With
    exclusiveMinimum or exclusiveMaximum llguidance computes in doubles, which have fewer digits.
    """
    parts = json.loads(grammar)["grammars"]
    if any(part.get("name") == "answer" and "lark_grammar" in part for part in parts):
        return None
    return NumberScanner(DOUBLE_DIGITS if "exclusiveM" in grammar else MAX_DIGITS)


def _send_mask(number: int, stream: _Stream, *, looks_ahead: bool) -> None:
    mask = stream.write_mask(looks_ahead=looks_ahead)
    if stream.matcher.is_error():
        _send_frame(
            number, ERROR, _reword_error(stream.matcher.get_error()).encode("utf-8", "replace")
        )
    else:
        _send_frame(number, MASK, mask)


def serve_masks() -> None:
    """Answer requests until the worker closes the pipe."""
    vocabulary: _Vocabulary | None = None
    tokenizer: Any = None
    streams: dict[int, _Stream] = {}
    requests: queue.SimpleQueue[tuple[int, bytes, bytes] | None] = queue.SimpleQueue()
    threading.Thread(target=_read_requests, args=(requests,), daemon=True).start()
    while (request := requests.get()) is not None:
        number, kind, payload = request
        if kind == VOCABULARY:
            vocabulary = _Vocabulary(payload)
            tokenizer = _index_vocabulary(vocabulary)
            continue
        if kind == DROP:
            streams.pop(number, None)
            continue
        if kind == GRAMMAR and vocabulary is not None:
            streams[number] = _Stream(tokenizer, vocabulary, payload.decode("utf-8"))
        elif number not in streams:  # it failed in the process before this one: nobody waits
            continue
        elif kind in (TOKENS, TOKENS_AHEAD):
            streams[number].add_tokens(list(array("I", payload)))
        else:
            streams[number].reset()
        _send_mask(number, streams[number], looks_ahead=kind != TOKENS)


def main() -> None:
    """Check one grammar, or serve masks."""
    if sys.argv[1:] == ["check"]:
        json.dump({"error": explain_error(sys.stdin.read())}, sys.stdout)
        return
    with contextlib.suppress(BrokenPipeError):
        serve_masks()
    os._exit(0)  # frees nothing: the vocabulary alone would take a tenth of a second


if __name__ == "__main__":
    main()
