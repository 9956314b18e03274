"""Check a GBNF grammar before llama.cpp parses it.

llama.cpp crashes on some large grammars and prints the whole grammar on a syntax error. This parser
accepts the same language (src/llama-grammar.cpp, llama.cpp@0c1e57098; grammars/README.md describes
it), reports line and column of an error, and bounds the time and memory that llama.cpp will need:

- Its parser recurses once for each open parenthesis, so nesting is limited.
- It expands repetitions to rules and elements, which are counted here as it generates them.
- Its search for left recursion and its parsing stacks enumerate every derivation of the first
  symbol of a rule. A few lines of grammar can have 2^40 of them. They are counted here, visiting
  each rule once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NoReturn

from g4cli.core.errors import UsageError

MAX_TEXT: Final = 1 << 20
MAX_NESTING: Final = 1000
MAX_REPETITIONS: Final = 2000  # MAX_REPETITION_THRESHOLD
MAX_RULES: Final = 20_000
MAX_ELEMENTS: Final = 500_000
MAX_DERIVATIONS: Final = 20_000  # of the first symbol of a rule
MAX_DEPTH: Final = 10_000  # rules in such a derivation

_GUIDE: Final = "see https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md"
_NAME: Final = re.compile(r"[a-zA-Z0-9-]+")
_BLANK: Final = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_BLANK_LINES: Final = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_CHAR: Final = re.compile(
    r'\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[trn\\"\[\]-])|[^\\\0]', re.DOTALL
)
_TOKEN: Final = re.compile(r"!?<(?:\[\d{1,9}\]|[^>\[\0][^>\0]*)>")
_COUNT: Final = re.compile(r"\{[ \t]*(\d{1,18})[ \t]*(?:(,)[ \t]*(?:(\d{1,18})[ \t]*)?)?\}")

# A sequence as the search for left recursion needs it: names of rules, None for a character.
_Sequence = list["str | None"]


@dataclass(slots=True)
class _Group:
    """A rule or a pair of parentheses that is being parsed; its last alternative is incomplete."""

    name: str
    opened_at: int
    symbols_before: int
    alternatives: list[_Sequence] = field(default_factory=lambda: [[]])
    last_at: int = 0  # index of the last symbol in the alternative
    last_weight: int = 1  # rules that a repetition of the last symbol repeats (n_prev_rules)


def check_grammar(text: str) -> None:
    """Raise UsageError if `text` is not a grammar, or one that llama.cpp cannot handle.

    The message has line and column.
    """
    if not text.strip():
        raise UsageError("the grammar cannot be parsed: it is empty", hint='root ::= "yes" | "no"')
    if len(text) > MAX_TEXT:
        raise UsageError(
            f"the grammar is too large: {len(text):,} characters, at most {MAX_TEXT:,}"
        )
    reader = _Reader(text)
    reader.read_rules()
    _check_derivations(reader.rules)


class _Reader:
    """Parses a grammar into `rules`, as llama.cpp expands them.

    Parentheses and repetitions become rules of their own.
    """

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self.rules: dict[str, list[_Sequence]] = {}
        self._first_use: dict[str, int] = {}
        self._n_generated, self._n_elements = 0, 0

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
        name = self._take_match(_NAME, "the name of a rule (letters, digits and -)")
        self._first_use.setdefault(name, self._at - len(name))
        self._skip_match(_BLANK)
        if not self._text.startswith("::=", self._at):
            self._fail_here("expected ::=")
        self._at += 3
        self._skip_match(_BLANK_LINES)
        groups = [_Group(name, self._at, len(self._first_use) + self._n_generated)]
        while self._at < len(self._text):
            char = self._text[self._at]
            if char in "\r\n":
                break
            if char == "|":
                self._at += 1
                groups[-1].alternatives.append([])
                groups[-1].last_at = 0
                self._count_elements(1)
                self._skip_match(_BLANK_LINES)
                continue
            if char == ")" and len(groups) > 1:
                self._close_group(groups)
            elif char == "(":
                self._open_group(groups)
                continue
            elif not self._read_symbol(groups[-1], char):
                self._fail_here(
                    "expected ')' or more" if len(groups) > 1 else "expected a symbol or a new line"
                )
            self._skip_match(_BLANK_LINES if len(groups) > 1 else _BLANK)
        if len(groups) > 1:
            self._at = groups[-1].opened_at
            self._fail_here("this parenthesis has no closing one")
        self.rules[name] = groups[0].alternatives
        self._count_elements(1)

    def _open_group(self, groups: list[_Group]) -> None:
        if len(groups) > MAX_NESTING:
            self._fail_here(f"more than {MAX_NESTING} nested parentheses")
        before = len(self._first_use) + self._n_generated
        groups.append(_Group(self._generate_name(), self._at, before))
        self._at += 1
        self._skip_match(_BLANK_LINES)

    def _close_group(self, groups: list[_Group]) -> None:
        inner = groups.pop()
        self._at += 1
        self.rules[inner.name] = inner.alternatives
        made = len(self._first_use) + self._n_generated - inner.symbols_before
        self._append_symbol(groups[-1], [inner.name], weight=max(1, made))

    def _read_symbol(self, group: _Group, char: str) -> bool:
        """Parse a literal, class, token, reference or repetition; return False if none is here."""
        if char == '"' or char == "[":
            self._read_chars(group, '"' if char == '"' else "]")
        elif char in "<!":
            self._take_match(_TOKEN, "a token as <[id]> or <text>")
            self._append_symbol(group, [None])
        elif char == ".":
            self._at += 1
            self._append_symbol(group, [None])
        elif match := _NAME.match(self._text, self._at):
            self._first_use.setdefault(match[0], self._at)
            self._at = match.end()
            self._append_symbol(group, [match[0]])
        elif char in "*+?":
            least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}[char]
            self._repeat_symbol(group, least, most, self._at + 1)
        elif char == "{":
            match = _COUNT.match(self._text, self._at)
            if not match:
                self._fail_here("expected a repetition as {2}, {2,} or {2,5}")
            least = int(match[1])
            most = int(match[3]) if match[3] else None if match[2] else least
            self._repeat_symbol(group, least, most, match.end())
        else:
            return False
        return True

    def _read_chars(self, group: _Group, end: str) -> None:
        start, n_chars = self._at, 0
        self._at += 2 if end == "]" and self._text.startswith("^", self._at + 1) else 1
        while not self._text.startswith(end, self._at):
            if self._at >= len(self._text):
                self._at = start
                self._fail_here(f"this has no closing {end}")
            self._take_match(_CHAR, "a character, or an escape of GBNF")
            n_chars += 1
        self._at += 1
        self._append_symbol(group, [None] * min(n_chars, 1), n_elements=n_chars)

    def _append_symbol(
        self, group: _Group, symbol: _Sequence, *, weight: int = 1, n_elements: int = 1
    ) -> None:
        group.last_at, group.last_weight = len(group.alternatives[-1]), weight
        group.alternatives[-1] += symbol
        self._count_elements(n_elements)

    def _repeat_symbol(self, group: _Group, least: int, most: int | None, after: int) -> None:
        """Repeat the last symbol as llama.cpp does: copies, then rules for the optional ones."""
        sequence = group.alternatives[-1]
        symbol = sequence[group.last_at :]
        if not symbol:
            self._fail_here("there is nothing to repeat here")
        if most is not None and most < least:
            self._fail_here(f"a repetition of at least {least:,} but at most {most:,}")
        times = (most or least or 1) if most is not None else (least or 1)
        if times > MAX_REPETITIONS or group.last_weight * times > MAX_REPETITIONS:
            self._fail_here(f"a repetition that expands to more than {MAX_REPETITIONS:,} rules")
        sequence[group.last_at :] = symbol * least
        self._count_elements(len(symbol) * least)
        optional = 1 if most is None else most - least
        previous: _Sequence = []
        for _ in range(optional):
            name = self._generate_name()
            self.rules[name] = [[*symbol, *([name] if most is None else previous)], []]
            self._count_elements(len(symbol) + 3)
            previous = [name]
        sequence += previous
        group.last_weight *= times
        self._at = after

    def _generate_name(self) -> str:
        self._n_generated += 1
        return f"({self._n_generated}"  # not a valid name, so that no rule of the grammar has it

    def _count_elements(self, n_elements: int) -> None:
        self._n_elements += n_elements
        if self._n_generated + len(self._first_use) > MAX_RULES:
            self._fail_here(f"the grammar is too large: more than {MAX_RULES:,} rules so far")
        if self._n_elements > MAX_ELEMENTS:
            self._fail_here(f"the grammar is too large: more than {MAX_ELEMENTS:,} elements so far")

    def _skip_match(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._text, self._at)
        self._at = match.end() if match else self._at

    def _take_match(self, pattern: re.Pattern[str], what: str) -> str:
        match = pattern.match(self._text, self._at)
        if not match:
            self._fail_here(f"expected {what}")
        self._at = match.end()
        return match[0]

    def _fail_here(self, what: str) -> NoReturn:
        position = self._describe_position(self._at)
        raise UsageError(f"the grammar cannot be parsed: {position}: {what}", hint=_GUIDE)

    def _describe_position(self, at: int) -> str:
        line = self._text.count("\n", 0, at) + 1
        return f"line {line}, column {at - self._text.rfind(chr(10), 0, at)}"


def _check_derivations(rules: dict[str, list[_Sequence]]) -> None:
    """Raise UsageError for left recursion, and for too many or too deep derivations.

    Derivations are those of the first symbol of each rule.

    A depth-first search without recursion: `path` is the stack, `derivations` and `depth` are the
    results of finished rules.
    """
    empty = _can_be_empty(rules)
    derivations: dict[str, int] = {}
    depth: dict[str, int] = {}
    for start in rules:
        path = [] if start in derivations else [(start, _leading_symbols(rules[start], empty))]
        open_rules = {start}
        while path:
            name, first = path[-1]
            for part in first:  # an iterator, which continues where it stopped
                if part in open_rules:
                    raise UsageError(
                        "the grammar cannot be parsed: "
                        f"its rule {_display_name(part)!r} begins with itself",
                        hint='write a ::= b ("," b)* instead of a ::= a "," b | b',
                    )
                if part not in derivations:
                    path.append((part, _leading_symbols(rules[part], empty)))
                    open_rules.add(part)
                    break
            else:
                path.pop()
                open_rules.discard(name)
                parts = list(_leading_symbols(rules[name], empty))
                derivations[name] = 1 + sum(derivations[part] for part in parts)
                depth[name] = 1 + max((depth[part] for part in parts), default=0)
                if derivations[name] > MAX_DERIVATIONS or depth[name] > MAX_DEPTH:
                    raise UsageError(
                        f"the grammar is too large: its rule {_display_name(name)!r} can begin in "
                        f"more than {MAX_DERIVATIONS:,} ways, or has more than {MAX_DEPTH:,} "
                        "nested rules",
                        hint=_GUIDE,
                    )


def _leading_symbols(alternatives: list[_Sequence], empty: set[str]) -> Iterator[str]:
    """Yield the rules with which a rule can begin."""
    for sequence in alternatives:
        for part in sequence:
            if part is None:
                break
            yield part
            if part not in empty:
                break


def _can_be_empty(rules: dict[str, list[_Sequence]]) -> set[str]:
    """Return the rules that match the empty string."""
    users: dict[str, list[tuple[str, int]]] = {}
    # Parts of each alternative that are not known to be empty.
    missing: dict[tuple[str, int], int] = {}
    todo = []
    for name, alternatives in rules.items():
        for index, sequence in enumerate(alternatives):
            if not sequence:
                todo.append(name)
            elif None not in sequence:
                missing[name, index] = len(sequence)
                for part in sequence:
                    users.setdefault(str(part), []).append((name, index))
    empty: set[str] = set()
    while todo:
        name = todo.pop()
        if name in empty:
            continue
        empty.add(name)
        for user in users.get(name, ()):
            missing[user] -= 1
            if not missing[user]:
                todo.append(user[0])
    return empty


def _display_name(name: str) -> str:
    return "( )" if name.startswith("(") else name
