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
from g4cli.svg.rules import Edit, Fault, shorten_detail

TokenKind: TypeAlias = Literal[
    "text", "start", "end", "comment", "cdata", "instruction", "doctype", "removed"
]

# Only ASCII names: those of SVG are, and the editions of XML 1.0 differ about other names.
_NAME_PART: Final = r"[A-Za-z_][A-Za-z0-9_.\-]*"
_NAME: Final = re.compile(f"{_NAME_PART}(?::{_NAME_PART})?")
_END_TAG: Final = re.compile(rf"</\s*({_NAME_PART}(?::{_NAME_PART})?)([^<>]*)(>?)")
_DOCTYPE: Final = re.compile(r"<!DOCTYPE\s[^\[<>]*(?:\[.*?\]\s*)?>", re.DOTALL | re.IGNORECASE)
_INSTRUCTION: Final = re.compile(rf"<\?({_NAME_PART})(?=[\s?])")
_SPACE: Final = re.compile(r"[ \t\r\n]*")
# Between attributes, what neither begins a name nor ends the tag.
_STRAY: Final = re.compile(r"(?:[^\sA-Za-z_<>/]|/(?!>))+")
_UNQUOTED: Final = re.compile(r"[^\s<>]*?(?=[\s<>]|/>|\Z)")
_MARKUP: Final = re.compile(r"<[A-Za-z/!?]")
# The end of a value without a closing quote, which holds the next attribute: fill="red stroke="
_NEXT_ATTRIBUTE: Final = re.compile(rf"\s{_NAME_PART}(?::{_NAME_PART})?\s*=\s*\Z")
_NEXT_CHARS: Final = 80  # characters before a quote in which such an attribute is looked for
# Quotation marks that are not straight, and those that may close them.
_TYPOGRAPHIC: Final[Mapping[str, str]] = MappingProxyType(
    dict.fromkeys("“”„‟″", '“”„‟″"') | dict.fromkeys("‘’‚‛′", "‘’‚‛′'")
)
_CDATA_BEGIN, _CDATA_END = "<![CDATA[", "]]>"
_QUOTED_SHOWN: Final = 20  # characters of the text in a finding


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

    @property
    def removal(self) -> Edit:
        """The edit that removes the attribute with the white space before it."""
        return Edit(self.before, self.end)

    def replace_value(self, value: str) -> Edit:
        """Return the edit that writes `value` between the quotes."""
        return Edit(self.value_start, self.value_start + len(self.value), value)


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

    @property
    def removal(self) -> Edit:
        """The edit that removes the piece."""
        return Edit(self.start, self.end)


def strip_cdata_marks(section: str) -> str:
    """Return the text of a CDATA section."""
    return section[len(_CDATA_BEGIN) : -len(_CDATA_END)]


class Tokenizer:
    """Splits one text into `tokens`, and collects its `faults`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[Token] = []
        self.faults: list[Fault] = []
        self._absent: set[str] = set()  # strings that do not occur in the rest of the text
        self._has_doctype = self._has_root = False
        offset = 0
        while offset < len(text):
            begin = text.find("<", offset)
            if begin != offset:
                offset = self._add_token("text", offset, begin if begin >= 0 else len(text))
            else:
                offset = self._read_markup(offset)

    def _add_token(self, kind: TokenKind, start: int, end: int, name: str = "") -> int:
        """Add a token and return its end, where the next one begins."""
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
        """Add a fault whose repair removes a piece of the text, and return the end of the piece."""
        self.faults.append(Fault(rule, start, detail, (Edit(start, end),)))
        return self._add_token("removed", start, end)

    def _remove_rest(self, start: int, inside: str) -> int:
        return self._remove_piece("cut-off", start, len(self.text), inside)

    def _remove_bogus(self, start: int, end: int) -> int:
        shown = shorten_detail(self.text[start:end], _QUOTED_SHOWN)
        return self._remove_piece("bogus-markup", start, end, shown)

    def _read_markup(self, offset: int) -> int:
        """Return the end of the markup that begins with the < at `offset`."""
        text = self.text
        if text.startswith("<!--", offset):
            return self._read_comment(offset)
        if text.startswith(_CDATA_BEGIN, offset):
            end = self._find_next(_CDATA_END, offset)
            if end < 0:
                return self._remove_rest(offset, "a CDATA section")
            return self._add_token("cdata", offset, end + len(_CDATA_END))
        if text.startswith("<!", offset):
            return self._read_declaration(offset)
        if text.startswith("<?", offset):
            return self._read_instruction(offset)
        if text.startswith("</", offset):
            return self._read_end_tag(offset)
        name = _NAME.match(text, offset + 1)
        if name:
            return self._read_start_tag(offset, name[0])
        self.faults.append(Fault("less-than", offset, "", (Edit(offset, offset + 1, "&lt;"),)))
        return self._add_token("text", offset, offset + 1)

    def _read_comment(self, offset: int) -> int:
        end = self._find_next("-->", offset + 4)
        if end < 0:
            return self._remove_rest(offset, "a comment")
        inside = self.text[offset + 4 : end]
        repaired = re.sub("-(?=-)", "- ", inside)
        # <!--> and <!---> end a comment in a web page; a final - would make --->.
        if repaired.startswith((">", "->")):
            repaired = f" {repaired}"
        if repaired.endswith("-"):
            repaired += " "
        if repaired != inside:
            edit = Edit(offset + 4, end, repaired)
            self.faults.append(Fault("comment-dashes", offset, "", (edit,)))
        return self._add_token("comment", offset, end + 3)

    def _read_declaration(self, offset: int) -> int:
        found = None if "doctype" in self._absent else _DOCTYPE.match(self.text, offset)
        if found and not self._has_doctype and not self._has_root:
            self._has_doctype = True
            return self._add_token("doctype", offset, found.end())
        if found:
            return self._remove_piece("bogus-markup", offset, found.end(), "a second document type")
        if self.text[offset : offset + 9].upper() == "<!DOCTYPE":
            # It has no end, so none after it has one. "doctype" stands for _DOCTYPE.
            self._absent.add("doctype")
        end = self._find_next(">", offset)
        if end < 0:
            return self._remove_rest(offset, "a declaration")
        return self._remove_bogus(offset, end + 1)

    def _read_instruction(self, offset: int) -> int:
        end = self._find_next("?>", offset + 2)
        name = _INSTRUCTION.match(self.text, offset)
        if end >= 0 and name:
            return self._add_token("instruction", offset, end + 2, name[1])
        end = end + 1 if end >= 0 else self._find_next(">", offset)
        if end < 0:
            return self._remove_rest(offset, "a processing instruction")
        return self._remove_bogus(offset, end + 1)

    def _read_end_tag(self, offset: int) -> int:
        found = _END_TAG.match(self.text, offset)
        if not found:
            end = self._find_next(">", offset)
            if end < 0:
                return self._remove_rest(offset, "a tag")
            stop = self.text.find("<", offset + 1, end)
            return self._remove_bogus(offset, end + 1 if stop < 0 else stop)
        name, rest, close = found.groups()
        edits = (Edit(offset, found.end(), f"</{name}>"),)
        if not close:
            if found.end() == len(self.text):
                return self._remove_rest(offset, "a tag")
            self.faults.append(Fault("tag-not-ended", offset, f"/{name}", edits))
        elif rest.strip() or self.text[offset + 2] != name[0]:
            shown = shorten_detail(found[0], _QUOTED_SHOWN)
            self.faults.append(Fault("stray-characters", offset, shown, edits))
        return self._add_token("end", offset, found.end(), name)

    def _read_start_tag(self, offset: int, name: str) -> int:
        reader = _TagReader(self, offset, name)
        end = reader.read_attributes()
        self._has_root = True
        if end is None:
            return self._remove_rest(offset, f"the tag <{name}>")
        self.faults += reader.faults
        self.tokens.append(
            Token("start", offset, end, name, tuple(reader.attributes), reader.self_closing)
        )
        return end


class _TagReader:
    """Reads the attributes of the start tag at `start`; `_offset` is how far it has read."""

    def __init__(self, tokenizer: Tokenizer, start: int, name: str) -> None:
        self._text, self._find_next = tokenizer.text, tokenizer._find_next
        self._name = name
        self._offset = start + 1 + len(name)
        self.attributes: list[Attribute] = []
        self.faults: list[Fault] = []
        self.self_closing = False

    def read_attributes(self) -> int | None:
        """Return the end of the tag, None if the text ends before it."""
        text = self._text
        while True:
            before = self._offset
            offset = self._offset = _match_end(_SPACE, text, before)
            if offset >= len(text):
                return None
            if text[offset] == ">":
                return offset + 1
            if text.startswith("/>", offset):
                self.self_closing = True
                return offset + 2
            if text[offset] == "<":
                # The next tag begins: this one ends without >, at the white space.
                end = Edit(before, before, "/>" if text[before - 1] == "/" else ">")
                self._add_fault("tag-not-ended", before, self._name, end)
                return before
            found = _NAME.match(text, offset)
            if not found:
                self._offset = max(offset + 1, _match_end(_STRAY, text, offset))
                detail = shorten_detail(text[offset : self._offset], _QUOTED_SHOWN)
                self._add_fault("stray-characters", offset, detail, Edit(before, self._offset))
                continue
            if before == offset:
                self._add_fault("missing-space", offset, found[0], Edit(offset, offset, " "))
            if not self._read_attribute(before, offset, found.end(), found[0]):
                return None

    def _add_fault(self, rule: str, offset: int, detail: str, *edits: Edit) -> None:
        self.faults.append(Fault(rule, offset, detail, edits))

    def _read_attribute(self, before: int, start: int, name_end: int, name: str) -> bool:
        """Read an attribute with its value; return False if the text ends inside of it.

        Its name is from `start` to `name_end`, the white space before it from `before` on.
        """
        text = self._text
        offset = _match_end(_SPACE, text, name_end)
        if text[offset : offset + 1] != "=":
            return self._read_valueless(before, start, name)
        offset = _match_end(_SPACE, text, offset + 1)
        if offset >= len(text):
            return False
        quote = text[offset]
        if quote in "\"'":
            end = self._read_quoted(offset, name)
        elif quote in _TYPOGRAPHIC or text.startswith(('\\"', "\\'"), offset):
            end = self._read_odd_quotes(offset, name)
        else:
            end = self._read_unquoted(offset, name)
        if end is None:
            return False
        value_start, value_end = end
        value = text[value_start:value_end]
        self.attributes.append(Attribute(name, value, before, start, value_start, self._offset))
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
        self._offset = end
        return True

    def _read_quoted(self, offset: int, name: str) -> tuple[int, int] | None:
        """Return start and end of a value in straight quotes; the closing one may be missing.

        It is missing if the next such quote comes after the beginning of another tag, or ends what
        looks like the next attribute. The value then ends before that.
        """
        text, quote, start = self._text, self._text[offset], offset + 1
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
                self._offset = close + 1
                return start, close
            close = swallowed.start()
        self._add_fault("missing-quote", offset, name, Edit(close, close, quote))
        self._offset = close
        return start, close

    def _read_odd_quotes(self, offset: int, name: str) -> tuple[int, int] | None:
        r"""Return start and end of a value in typographic quotes, or in \" as in JSON."""
        text = self._text
        if text[offset] == "\\":
            quote, start = text[offset + 1], offset + 2
            end = self._find_next(quote, start)
            close = end if end >= 0 else len(text)
            stop = close - (text[close - 1] == "\\")
        else:
            start = offset + 1
            found = [
                i for char in _TYPOGRAPHIC[text[offset]] if (i := self._find_next(char, start)) >= 0
            ]
            stop = close = min(found, default=len(text))
        if close >= len(text) or _MARKUP.search(text, start, close):
            return self._read_unquoted(offset, name)
        value = text[start:stop].replace('"', "&quot;")
        self._add_fault("typographic-quotes", offset, name, Edit(offset, close + 1, f'"{value}"'))
        self._offset = close + 1
        return start, stop

    def _read_unquoted(self, offset: int, name: str) -> tuple[int, int] | None:
        end = _match_end(_UNQUOTED, self._text, offset)
        if end >= len(self._text):
            return None
        value = self._text[offset:end].strip("\"'\\").replace('"', "&quot;")
        self._add_fault("unquoted-value", offset, name, Edit(offset, end, f'"{value}"'))
        self._offset = end
        return offset, end


def _match_end(pattern: re.Pattern[str], text: str, offset: int) -> int:
    found = pattern.match(text, offset)
    return found.end() if found else offset
