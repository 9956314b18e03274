"""A tolerant tokenizer for SVG: any text becomes tokens, and errors of XML become faults.

It parses like a browser's HTML parser where that helps (attributes without quotes, a missing space,
a tag that runs into the next one) and like an XML parser everywhere else: names keep their case,
and no element changes how the rest is parsed. Tokens cover the text without gaps, so that a text
without faults is written back unchanged. Nothing is executed, fetched or expanded. Time is linear
in the length of the text: a search that found nothing is not repeated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from g4cli.svg.names import ATTRIBUTES
from g4cli.svg.rules import Edit, Fault

TokenKind: TypeAlias = Literal[
    "text", "start", "end", "comment", "cdata", "instruction", "doctype", "removed"
]

# Only ASCII names: those of SVG are, and the editions of XML 1.0 differ about other names.
_PART: Final = r"[A-Za-z_][A-Za-z0-9_.\-]*"
_NAME: Final = re.compile(f"{_PART}(?::{_PART})?")
_END_TAG: Final = re.compile(rf"</\s*({_PART}(?::{_PART})?)([^<>]*)(>?)")
_DOCTYPE: Final = re.compile(r"<!DOCTYPE\s[^\[<>]*(?:\[.*?\]\s*)?>", re.DOTALL | re.IGNORECASE)
_INSTRUCTION: Final = re.compile(rf"<\?({_PART})(?=[\s?])")
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_JUNK: Final = re.compile(r"(?:[^\sA-Za-z_<>/]|/(?!>))+")
_UNQUOTED: Final = re.compile(r"[^\s<>]*?(?=[\s<>]|/>|\Z)")
_MARKUP: Final = re.compile(r"<[A-Za-z/!?]")
# The end of a value without a closing quote, which holds the next attribute: fill="red stroke="
_NEXT_ATTRIBUTE: Final = re.compile(rf"\s{_PART}(?::{_PART})?\s*=\s*\Z")
_NEXT_CHARS: Final = 80
_TYPOGRAPHIC: Final[Mapping[str, str]] = MappingProxyType(
    dict.fromkeys("“”„‟″", '“”„‟″"') | dict.fromkeys("‘’‚‛′", "‘’‚‛′'")
)
_QUOTED_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute and the offsets of its parts.

    `value` is the text between the quotes, references not replaced. `before` is where the white
    space before the attribute begins.
    """

    name: str
    value: str
    before: int
    start: int
    value_start: int
    end: int


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the text from `start` to `end`.

    `name` is that of a tag or a processing instruction. A fault's repair removes "removed" pieces.
    """

    kind: TokenKind
    start: int
    end: int
    name: str = ""
    attributes: tuple[Attribute, ...] = ()
    self_closing: bool = False


class Tokenizer:
    """Splits one text into `tokens`, and collects its `faults`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[Token] = []
        self.faults: list[Fault] = []
        self._absent: set[str] = set()  # strings that do not occur in the rest of the text
        self._has_doctype = self._has_root = False
        at = 0
        while at < len(text):
            begin = text.find("<", at)
            if begin != at:
                at = self._add_token("text", at, begin if begin >= 0 else len(text))
            else:
                at = self._read_markup(at)

    def _add_token(self, kind: TokenKind, start: int, end: int, name: str = "") -> int:
        self.tokens.append(Token(kind, start, end, name))
        return end

    def _find_next(self, what: str, start: int) -> int:
        """Return the next offset of `what` from `start` on, -1 if there is none."""
        if what in self._absent:
            return -1
        found = self.text.find(what, start)
        if found < 0:
            self._absent.add(what)
        return found

    def _remove_piece(self, rule: str, start: int, end: int, detail: str) -> int:
        self.faults.append(Fault(rule, start, detail, (Edit(start, end),)))
        return self._add_token("removed", start, end)

    def _remove_rest(self, start: int, inside: str) -> int:
        return self._remove_piece("cut-off", start, len(self.text), inside)

    def _read_markup(self, at: int) -> int:
        """Return the end of the markup that begins with the < at `at`."""
        text = self.text
        if text.startswith("<!--", at):
            return self._read_comment(at)
        if text.startswith("<![CDATA[", at):
            end = self._find_next("]]>", at)
            if end < 0:
                return self._remove_rest(at, "a CDATA section")
            return self._add_token("cdata", at, end + 3)
        if text.startswith("<!", at):
            return self._read_declaration(at)
        if text.startswith("<?", at):
            return self._read_instruction(at)
        if text.startswith("</", at):
            return self._read_end_tag(at)
        name = _NAME.match(text, at + 1)
        if name:
            return self._read_start_tag(at, name[0])
        self.faults.append(Fault("less-than", at, "", (Edit(at, at + 1, "&lt;"),)))
        return self._add_token("text", at, at + 1)

    def _read_comment(self, at: int) -> int:
        end = self._find_next("-->", at + 4)
        if end < 0:
            return self._remove_rest(at, "a comment")
        inside = self.text[at + 4 : end]
        repaired = re.sub("-(?=-)", "- ", inside)
        # <!--> and <!---> end a comment in a web page; a final - would make --->.
        if repaired.startswith((">", "->")):
            repaired = f" {repaired}"
        if repaired.endswith("-"):
            repaired += " "
        if repaired != inside:
            edit = Edit(at + 4, end, repaired)
            self.faults.append(Fault("comment-dashes", at, "", (edit,)))
        return self._add_token("comment", at, end + 3)

    def _read_declaration(self, at: int) -> int:
        found = None if "doctype" in self._absent else _DOCTYPE.match(self.text, at)
        if found and not self._has_doctype and not self._has_root:
            self._has_doctype = True
            return self._add_token("doctype", at, found.end())
        if found:
            return self._remove_piece("bogus-markup", at, found.end(), "a second document type")
        if self.text[at : at + 9].upper() == "<!DOCTYPE":
            self._absent.add("doctype")  # it has no end: none after it has
        end = self._find_next(">", at)
        if end < 0:
            return self._remove_rest(at, "a declaration")
        return self._remove_piece(
            "bogus-markup", at, end + 1, _shorten_text(self.text[at : end + 1])
        )

    def _read_instruction(self, at: int) -> int:
        end = self._find_next("?>", at + 2)
        name = _INSTRUCTION.match(self.text, at)
        if end >= 0 and name:
            return self._add_token("instruction", at, end + 2, name[1])
        end = end + 1 if end >= 0 else self._find_next(">", at)
        if end < 0:
            return self._remove_rest(at, "a processing instruction")
        return self._remove_piece(
            "bogus-markup", at, end + 1, _shorten_text(self.text[at : end + 1])
        )

    def _read_end_tag(self, at: int) -> int:
        found = _END_TAG.match(self.text, at)
        if not found:
            end = self._find_next(">", at)
            if end < 0:
                return self._remove_rest(at, "a tag")
            stop = self.text.find("<", at + 1, end)
            end = end + 1 if stop < 0 else stop
            return self._remove_piece("bogus-markup", at, end, _shorten_text(self.text[at:end]))
        name, rest, close = found.groups()
        if not close and found.end() == len(self.text):
            return self._remove_rest(at, "a tag")
        if not close:
            edit = Edit(at, found.end(), f"</{name}>")
            self.faults.append(Fault("tag-not-ended", at, f"/{name}", (edit,)))
        elif rest.strip() or self.text[at + 2] != name[0]:
            edit = Edit(at, found.end(), f"</{name}>")
            self.faults.append(Fault("stray-characters", at, _shorten_text(found[0]), (edit,)))
        return self._add_token("end", at, found.end(), name)

    def _read_start_tag(self, at: int, name: str) -> int:
        reader = _TagReader(self, at, name)
        end = reader.read_attributes()
        self._has_root = True
        if end is None:
            return self._remove_rest(at, f"the tag <{name}>")
        self.faults += reader.faults
        self.tokens.append(
            Token("start", at, end, name, tuple(reader.attributes), reader.self_closing)
        )
        return end


class _TagReader:
    """Reads the attributes of one start tag."""

    def __init__(self, tokenizer: Tokenizer, at: int, name: str) -> None:
        self._text, self._find_next = tokenizer.text, tokenizer._find_next
        self._name = name
        self._at = at + 1 + len(name)
        self.attributes: list[Attribute] = []
        self.faults: list[Fault] = []
        self.self_closing = False

    def read_attributes(self) -> int | None:
        """Return the end of the tag, None if the text ends before it."""
        text = self._text
        while True:
            before = self._at
            at = self._at = _match_end(_SPACE, text, before)
            if at >= len(text):
                return None
            if text[at] == ">":
                return at + 1
            if text.startswith("/>", at):
                self.self_closing = True
                return at + 2
            if text[at] == "<":
                return self._end_at(before)
            found = _NAME.match(text, at)
            if not found:
                self._at = max(at + 1, _match_end(_JUNK, text, at))
                detail = _shorten_text(text[at : self._at])
                self._add_fault("stray-characters", at, detail, Edit(before, self._at))
                continue
            if before == at:
                self._add_fault("missing-space", at, found[0], Edit(at, at, " "))
            if not self._read_attribute(before, at, found.end(), found[0]):
                return None

    def _end_at(self, at: int) -> int:
        """Return the end of a tag without >, at the beginning of the next one."""
        closing = "/>" if self._text[at - 1] == "/" else ">"
        self._add_fault("tag-not-ended", at, self._name, Edit(at, at, closing))
        return at

    def _add_fault(self, rule: str, offset: int, detail: str, *edits: Edit) -> None:
        self.faults.append(Fault(rule, offset, detail, edits))

    def _read_attribute(self, before: int, start: int, name_end: int, name: str) -> bool:
        """Return whether an attribute is complete; its name is from `start` to `name_end`."""
        text = self._text
        at = _match_end(_SPACE, text, name_end)
        if text[at : at + 1] != "=":
            return self._read_valueless(before, start, name)
        at = _match_end(_SPACE, text, at + 1)
        if at >= len(text):
            return False
        quote = text[at]
        if quote in "\"'":
            end = self._read_quoted(at, name)
        elif quote in _TYPOGRAPHIC or text.startswith(('\\"', "\\'"), at):
            end = self._read_odd_quotes(at, name)
        else:
            end = self._read_unquoted(at, name)
        if end is None:
            return False
        value_start, value_end = end
        value = text[value_start:value_end]
        self.attributes.append(Attribute(name, value, before, start, value_start, self._at))
        return True

    def _read_valueless(self, before: int, start: int, name: str) -> bool:
        """Give an attribute an empty value, or join it to the next one: stroke width="4"."""
        end = start + len(name)
        gap = _match_end(_SPACE, self._text, end)
        following = _NAME.match(self._text, gap)
        if (
            following
            and gap > end
            and f"{name}-{following[0]}" in ATTRIBUTES
            and self._text.startswith("=", _match_end(_SPACE, self._text, following.end()))
        ):
            self._add_fault("split-name", start, f"{name} {following[0]}", Edit(end, gap, "-"))
            return self._read_attribute(before, start, following.end(), f"{name}-{following[0]}")
        self._add_fault("missing-value", start, name, Edit(end, end, '=""'))
        self.attributes.append(Attribute(name, "", before, start, end, end))
        self._at = end
        return True

    def _read_quoted(self, at: int, name: str) -> tuple[int, int] | None:
        """Return start and end of a value in straight quotes; the closing one may be missing."""
        text, quote, start = self._text, self._text[at], at + 1
        end = self._find_next(quote, start)
        close = end if end >= 0 else len(text)
        markup = _MARKUP.search(text, start, close)
        if markup or end < 0:
            gt = text.find(">", start, markup.start() if markup else close)
            if gt < 0 and not markup:
                return None
            close = gt if gt >= 0 else markup.start() if markup else close
            close -= gt >= 0 and text[close - 1] == "/"
            close = start + len(text[start:close].rstrip())
        else:
            tail = max(start, close - _NEXT_CHARS)
            swallowed = _NEXT_ATTRIBUTE.search(text, tail, close)
            if not swallowed or close + 1 == len(text) or text[close + 1] in " \n\t\r/>":
                self._at = close + 1
                return start, close
            close = swallowed.start()
        self._add_fault("missing-quote", at, name, Edit(close, close, quote))
        self._at = close
        return start, close

    def _read_odd_quotes(self, at: int, name: str) -> tuple[int, int] | None:
        r"""Return start and end of a value in typographic quotes, or in \" as in JSON."""
        text = self._text
        if text[at] == "\\":
            quote, start = text[at + 1], at + 2
            end = self._find_next(quote, start)
            close = end if end >= 0 else len(text)
            stop = close - (text[close - 1] == "\\")
        else:
            start = at + 1
            found = [
                i for char in _TYPOGRAPHIC[text[at]] if (i := self._find_next(char, start)) >= 0
            ]
            stop = close = min(found, default=len(text))
        if close >= len(text) or _MARKUP.search(text, start, close):
            return self._read_unquoted(at, name)
        value = text[start:stop].replace('"', "&quot;")
        self._add_fault("typographic-quotes", at, name, Edit(at, close + 1, f'"{value}"'))
        self._at = close + 1
        return start, stop

    def _read_unquoted(self, at: int, name: str) -> tuple[int, int] | None:
        end = _match_end(_UNQUOTED, self._text, at)
        if end >= len(self._text):
            return None
        value = self._text[at:end].strip("\"'\\").replace('"', "&quot;")
        self._add_fault("unquoted-value", at, name, Edit(at, end, f'"{value}"'))
        self._at = end
        return at, end


def _match_end(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at


def _shorten_text(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _QUOTED_SHOWN else f"{text[:_QUOTED_SHOWN]}…"
