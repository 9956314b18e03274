"""Convert grammars in GBNF, the notation of llama.cpp, to the Lark syntax that llguidance reads.

The language is that of src/llama-grammar.cpp (llama.cpp@0c1e57098; grammars/README.md describes
it). Errors are told with line and column. llguidance has a converter too (gbnf_to_lark.py), which
knows neither tokens (`<[5]>`, `<|turn>`) nor all escapes, and joins nothing (see below).

llguidance reads text in two stages: a lexer finds words by regular expressions, always the longest
one, and a parser finds the structure. A rule of GBNF that consists of characters and of other such
rules becomes one regular expression, a terminal. In other rules, each run of neighbors that could
be terminals becomes one too: otherwise `[a-z]* "b"` would be two words, and the first one would
take the "b" of the second.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final, NoReturn

from g4cli.core.errors import UsageError

MAX_NESTING: Final = 24  # llguidance allows 30, of which a repetition may take two
# Choices that bound time:
MAX_TEXT: Final = 1 << 20  # characters
MAX_RULES: Final = 20_000
MAX_TIMES: Final = 1_000_000  # of a repetition

_GUIDE: Final = "see https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md"
_NAME: Final = re.compile(r"[a-zA-Z0-9-]+")
_BLANK: Final = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_BLANK_LINES: Final = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_CHAR: Final = re.compile(
    r'\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([trn\\"\[\]-]))|([^\\\0\ud800-\udfff])',
    re.DOTALL,
)
_ESCAPES: Final = {"t": "\t", "r": "\r", "n": "\n"}
_TOKEN: Final = re.compile(r"(!?)<(?:\[(\d{1,9})\]|([^>\[\0\ud800-\udfff][^>\0\ud800-\udfff]*))>")
_REPETITION: Final = re.compile(r"\{[ \t]*(\d{1,18})[ \t]*(?:(,)[ \t]*(?:(\d{1,18})[ \t]*)?)?\}")


@dataclass(slots=True)
class _Symbol:
    """A part of a sequence: `text` in Lark's syntax, a rule's name, or a group in parentheses.

    `is_token`: it stands for a token of the vocabulary, which no regular expression can do.
    `repetition` is Lark's suffix: "", "*", "+", "?" or "{2,5}".
    """

    text: str = ""
    rule: str = ""
    group: list[list[_Symbol]] | None = None
    is_token: bool = False
    repetition: str = ""


@dataclass(slots=True)
class _Group:
    """A rule or a pair of parentheses that is being parsed; its last alternative is incomplete."""

    opened_at: int
    alternatives: list[list[_Symbol]] = field(default_factory=lambda: [[]])


def convert_gbnf(text: str) -> str:
    """Return a GBNF grammar in Lark's syntax.

    Raises UsageError with line and column if `text` is no grammar, or is too large.
    """
    if not text.strip():
        raise UsageError("the grammar cannot be parsed: it is empty", hint='root ::= "yes" | "no"')
    if len(text) > MAX_TEXT:
        raise UsageError(
            f"the grammar is too large: {len(text):,} characters, at most {MAX_TEXT:,}"
        )
    reader = _Reader(text)
    reader.read_rules()
    return _Writer(reader.rules).write_grammar()


class _Reader:
    """Parses a grammar into `rules`: alternatives of sequences of symbols, by name."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self.rules: dict[str, list[list[_Symbol]]] = {}
        self._first_use: dict[str, int] = {}

    def read_rules(self) -> None:
        """Read all rules. Raises UsageError."""
        self._skip_match(_BLANK_LINES)
        while self._at < len(self._text):
            self._read_rule()
            self._skip_match(_BLANK_LINES)
        for name in ("root", *self._first_use):
            if name not in self.rules:
                where = self._first_use.get(name)
                position = f" ({self._describe_position(where)})" if where is not None else ""
                raise UsageError(
                    f"the grammar cannot be parsed: it has no rule {name!r}{position}",
                    hint=f"add {name} ::= ... to it",
                )

    def _read_rule(self) -> None:
        name = self._take_match(_NAME, "the name of a rule (letters, digits and -)")[0]
        if len(self.rules) >= MAX_RULES:
            self._fail_here(f"the grammar is too large: more than {MAX_RULES:,} rules")
        self._skip_match(_BLANK)
        if not self._text.startswith("::=", self._at):
            self._fail_here("expected ::=")
        self._at += 3
        self._skip_match(_BLANK_LINES)
        groups = [_Group(self._at)]
        while self._at < len(self._text):
            char = self._text[self._at]
            if char in "\r\n":
                break
            if char == "|":
                self._at += 1
                groups[-1].alternatives.append([])
                self._skip_match(_BLANK_LINES)
                continue
            if char == ")" and len(groups) > 1:
                self._at += 1
                inner = groups.pop()
                groups[-1].alternatives[-1].append(_Symbol(group=inner.alternatives))
            elif char == "(":
                if len(groups) > MAX_NESTING:
                    self._fail_here(f"more than {MAX_NESTING} nested parentheses")
                groups.append(_Group(self._at))
                self._at += 1
                self._skip_match(_BLANK_LINES)
                continue
            elif not self._read_symbol(groups[-1].alternatives[-1], char):
                self._fail_here(
                    "expected ')' or more" if len(groups) > 1 else "expected a symbol or a new line"
                )
            self._skip_match(_BLANK_LINES if len(groups) > 1 else _BLANK)
        if len(groups) > 1:
            self._at = groups[-1].opened_at
            self._fail_here("this parenthesis has no closing one")
        self.rules[name] = groups[0].alternatives

    def _read_symbol(self, sequence: list[_Symbol], char: str) -> bool:
        """Parse a literal, class, token, reference or repetition; return False if none is here."""
        if char == '"':
            self._at += 1
            sequence.append(_Symbol(json.dumps(self._read_literal(), ensure_ascii=False)))
        elif char == "[":
            sequence.append(_Symbol(self._read_class()))
        elif char in "<!":
            sequence.append(self._read_token())
        elif char == ".":
            self._at += 1
            sequence.append(_Symbol("/(?s:.)/"))
        elif match := _NAME.match(self._text, self._at):
            self._first_use.setdefault(match[0], self._at)
            self._at = match.end()
            sequence.append(_Symbol(rule=match[0]))
        elif char in "*+?":
            self._repeat_symbol(sequence, char, self._at + 1)
        elif char == "{":
            match = _REPETITION.match(self._text, self._at)
            if not match:
                self._fail_here("expected a repetition as {2}, {2,} or {2,5}")
            least, most = int(match[1]), int(match[3] or match[1])
            if most < least:
                self._fail_here(f"a repetition of at least {least:,} but at most {most:,}")
            if most > MAX_TIMES:
                self._fail_here(f"a repetition of more than {MAX_TIMES:,} times")
            end = "" if match[2] and not match[3] else str(most)
            self._repeat_symbol(sequence, f"{{{least},{end}}}", match.end())
        else:
            return False
        return True

    def _read_literal(self) -> str:
        start, chars = self._at - 1, []
        while not self._text.startswith('"', self._at):
            if self._at >= len(self._text):
                self._at = start
                self._fail_here('this has no closing "')
            chars.append(self._read_char())
        self._at += 1
        return "".join(chars)

    def _read_class(self) -> str:
        """Return a class of characters as a regular expression of Rust between slashes."""
        start = self._at
        is_negated = self._text.startswith("^", self._at + 1)
        self._at += 2 if is_negated else 1
        ranges = []
        while not self._text.startswith("]", self._at):
            if self._at >= len(self._text):
                self._at = start
                self._fail_here("this has no closing ]")
            low = high = self._read_char()
            if self._text.startswith("-", self._at) and not self._text.startswith("-]", self._at):
                self._at += 1
                high = self._read_char()
            if low > high:
                self._fail_here(f"a range that ends before it begins: {low!r} to {high!r}")
            ranges.append(f"\\x{{{ord(low):x}}}-\\x{{{ord(high):x}}}")
        self._at += 1
        if not ranges and not is_negated:
            self._at = start
            self._fail_here("a class without characters")
        return f"/[{'^' * is_negated}{''.join(ranges)}]/" if ranges else "/(?s:.)/"

    def _read_char(self) -> str:
        match = self._take_match(_CHAR, "a character, or an escape of GBNF")
        code = match[1] or match[2] or match[3]
        if not code:
            return _ESCAPES.get(match[4], match[4]) if match[4] else match[5]
        number = int(code, 16)
        if number > 0x10FFFF or 0xD800 <= number < 0xE000:
            self._fail_here(f"U+{number:04X} is no character")
        return chr(number)

    def _read_token(self) -> _Symbol:
        match = self._take_match(_TOKEN, "a token as <[id]> or <text>")
        if match[1] and not match[2]:
            self._fail_here("a token that may not stand here is written by its number: !<[5]>")
        inside = f"[{'^' if match[1] else ''}{int(match[2])}]" if match[2] else match[3]
        return _Symbol(f"<{inside}>", is_token=True)

    def _repeat_symbol(self, sequence: list[_Symbol], repetition: str, after: int) -> None:
        if not sequence or sequence[-1].text == '""':  # llama.cpp refuses an empty literal, too
            self._fail_here("there is nothing to repeat here")
        last = sequence[-1]
        if last.repetition:  # "a"?* in GBNF repeats what is repeated already
            sequence[-1] = last = _Symbol(group=[[last]])
        last.repetition = repetition
        self._at = after

    def _skip_match(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._text, self._at)
        self._at = match.end() if match else self._at

    def _take_match(self, pattern: re.Pattern[str], what: str) -> re.Match[str]:
        match = pattern.match(self._text, self._at)
        if not match:
            self._fail_here(f"expected {what}")
        self._at = match.end()
        return match

    def _fail_here(self, what: str) -> NoReturn:
        position = self._describe_position(self._at)
        raise UsageError(f"the grammar cannot be parsed: {position}: {what}", hint=_GUIDE)

    def _describe_position(self, at: int) -> str:
        line = self._text.count("\n", 0, at) + 1
        return f"line {line}, column {at - self._text.rfind(chr(10), 0, at)}"


class _Writer:
    """Writes rules in Lark's syntax: names of terminals in capitals, of others in small letters."""

    def __init__(self, rules: dict[str, list[list[_Symbol]]]) -> None:
        rules = {name: _turn_into_repetition(name, rules[name]) for name in rules}
        self._rules = rules
        self._terminals = _find_terminals(rules)
        self._names = {
            name: f"T{index}_{_replace_hyphens(name).upper()}"
            if name in self._terminals
            else f"r{index}_{_replace_hyphens(name).lower()}"
            for index, name in enumerate(rules)
        }
        # Names of the terminals that were joined from neighbors, by their text.
        self._joined: dict[str, str] = {}

    def write_grammar(self) -> str:
        """Return the grammar; its first rule is `start`."""
        lines = [f"start: {self._names['root']}"]
        for name, alternatives in self._rules.items():
            join = name not in self._terminals
            lines.append(f"{self._names[name]}: {self._write_alternatives(alternatives, join)}")
        lines += [f"{name}: {text}" for text, name in self._joined.items()]
        return "\n".join(lines)

    def _write_alternatives(self, alternatives: list[list[_Symbol]], join: bool) -> str:
        return " | ".join(self._write_sequence(sequence, join) for sequence in alternatives)

    def _write_sequence(self, sequence: list[_Symbol], join: bool) -> str:
        parts: list[str] = []
        for is_joined, run in groupby(sequence, lambda symbol: join and self._is_terminal(symbol)):
            if is_joined:
                parts.append(self._join_run(list(run)))
            else:
                parts += [self._write_symbol(symbol, join) for symbol in run]
        return " ".join(parts) or '""'

    def _join_run(self, run: list[_Symbol]) -> str:
        text = self._write_sequence(run, join=False)
        if len(run) == 1 and not run[0].repetition and run[0].group is None:
            return text
        return self._joined.setdefault(text, f"J{len(self._joined)}")

    def _write_symbol(self, symbol: _Symbol, join: bool) -> str:
        if symbol.group is not None:
            text = f"({self._write_alternatives(symbol.group, join)})"
        else:
            text = symbol.text or self._names[symbol.rule]
        return text + symbol.repetition

    def _is_terminal(self, symbol: _Symbol) -> bool:
        return all(
            not part.is_token and (not part.rule or part.rule in self._terminals)
            for part in _list_symbols([[symbol]])
        )


def _turn_into_repetition(name: str, alternatives: list[list[_Symbol]]) -> list[list[_Symbol]]:
    """Return the alternatives of a rule `a ::= x a | y` as those of `a ::= x* y`.

    The parser of llguidance needs more time and memory with each turn of the first form, and gives
    up after a thousand.
    """
    ends, repeated = [], []
    for sequence in alternatives:
        last = sequence[-1] if sequence else None
        if last is not None and last.rule == name and not last.repetition:
            repeated.append(sequence[:-1])
        else:
            ends.append(sequence)
    if not ends or not all(repeated) or not repeated:
        return alternatives
    return [
        [_Symbol(group=repeated, repetition="*"), *([_Symbol(group=ends)] if any(ends) else [])]
    ]


def _list_symbols(alternatives: list[list[_Symbol]]) -> Iterator[_Symbol]:
    """Yield the symbols of alternatives, those within parentheses too."""
    waiting = list(alternatives)
    while waiting:
        for symbol in waiting.pop():
            yield symbol
            waiting += symbol.group or ()


def _find_terminals(rules: dict[str, list[list[_Symbol]]]) -> set[str]:
    """Return the rules without tokens that refer to such rules alone, not to themselves."""
    users: dict[str, set[str]] = {}
    missing: dict[str, int] = {}  # rules that each one refers to and that are no terminals yet
    for name, alternatives in rules.items():
        symbols = list(_list_symbols(alternatives))
        parts = {symbol.rule for symbol in symbols if symbol.rule}
        missing[name] = len(parts) + any(symbol.is_token for symbol in symbols)
        for part in parts:
            users.setdefault(part, set()).add(name)
    terminals: set[str] = set()
    waiting = [name for name, count in missing.items() if not count]
    while waiting:
        name = waiting.pop()
        terminals.add(name)
        for user in users.get(name, ()):
            missing[user] -= 1
            if not missing[user]:
                waiting.append(user)
    return terminals


def _replace_hyphens(name: str) -> str:
    """Return `name` as Lark allows it."""
    return name.replace("-", "_")
