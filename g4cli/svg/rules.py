"""The rules that a drawing must keep, and the edits, faults and findings of checks."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

Kind: TypeAlias = Literal["xml", "picture", "unsafe", "style"]

# The kinds of findings in words, for headings. Style is no fault.
KINDS: Final[Mapping[Kind, str]] = MappingProxyType(
    {
        "xml": "breaks the XML",
        "picture": "changes the picture",
        "unsafe": "unsafe",
        "style": "style",
    }
)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `message` describes a finding; {} stands for its detail.

    `repair` describes what a repair does; it is empty if the fault can only be reported.
    """

    name: str
    kind: Kind
    message: str
    repair: str


RULES: Final[Mapping[str, Rule]] = MappingProxyType({rule.name: rule for rule in (
    # The answer around the drawing
    Rule("no-drawing", "xml", "there is no <svg> in the text", ""),
    Rule("text-around", "xml", "there is other text around the drawing", "removed it"),
    Rule("other-drawing", "style", "the text holds {} drawings; the last is used", ""),
    Rule("too-large", "xml", "the text has more than {} characters", ""),
    Rule("too-deep", "picture", "elements are nested more than {} deep; renderers crash", ""),
    # Characters and markup
    Rule("control-character", "xml", "XML has no character {}", "removed it"),
    Rule("encoding", "xml", "the declared encoding {} is not that of the text", "declared UTF-8"),
    Rule("declaration", "xml", "the XML declaration {}", "removed it"),
    Rule("less-than", "xml", "a bare <", "wrote &lt;"),
    Rule("ampersand", "xml", "a bare &", "wrote &amp;"),
    Rule("html-entity", "xml", "XML does not know {}", "wrote the character"),
    Rule("character-reference", "xml", "{} is not a character of XML", "removed it"),
    Rule("cdata-end", "xml", "]]> in text", "wrote ]]&gt;"),
    Rule("comment-dashes", "xml", "-- or > where a comment must not have it", "added a space"),
    Rule("bogus-markup", "xml", "{} is not markup of SVG", "removed it"),
    Rule("cut-off", "xml", "the text ends inside {}", "removed the incomplete part"),
    # Tags and attributes
    Rule("tag-not-ended", "xml", "the tag <{}> has no >", "added >"),
    Rule("stray-characters", "xml", "{} between attributes", "removed it"),
    Rule("duplicate-attribute", "xml", "attribute {} is given twice", "kept the first"),
    Rule("conflicting-attribute", "xml", "attribute {} is given twice, with different values",
         "kept the first"),
    Rule("unquoted-value", "xml", "the value of {} has no quotes", "added quotes"),
    Rule("missing-quote", "xml", "the value of {} has no closing quote", "added the quote"),
    Rule("typographic-quotes", "xml", "the value of {} stands in typographic or escaped quotes",
         "wrote straight quotes"),
    Rule("missing-value", "xml", "attribute {} has no value", "gave it an empty value"),
    Rule("missing-space", "xml", "no space before attribute {}", "added a space"),
    Rule("split-name", "xml", "attribute name {} has a space in it", "wrote a hyphen"),
    Rule("name-case", "picture", "SVG has no {}", "wrote the name that it has"),
    # Nesting
    Rule("shape-not-closed", "xml", "<{}> is not closed", "wrote />"),
    Rule("not-closed", "xml", "<{}> is not closed", "added the closing tag"),
    Rule("wrong-end-tag", "xml", "</{}> closes nothing of that name",
         "wrote the open element's name"),
    Rule("unmatched-end-tag", "xml", "</{}> closes nothing", "removed it"),
    # Namespaces
    Rule("no-namespace", "picture", "the drawing does not declare SVG's namespace", "declared it"),
    Rule("wrong-namespace", "picture", "{} declares another namespace than it should",
         "declared the right one"),
    Rule("undeclared-prefix", "xml", "the prefix {} is not declared", "declared it"),
    Rule("reserved-prefix", "xml", "no element may be called <{}>", "removed its tags"),
    # Safety
    Rule("active-element", "unsafe", "<{}> can run programs or load other documents", "removed it"),
    Rule("event-handler", "unsafe", "{} runs a program", "removed it"),
    Rule("outside-reference", "unsafe", "{} refers to something outside of the drawing",
         "removed it"),
    Rule("animated-link", "unsafe", "<{}> changes a link or an event handler", "removed it"),
    Rule("unsafe-style", "unsafe", "a style loads something from outside: {}", "removed it"),
    Rule("entity-declaration", "unsafe", "the document type declares {}",
         "removed the declarations"),
    Rule("processing-instruction", "unsafe", "<?{}?> is an instruction to programs", "removed it"),
    Rule("html-element", "unsafe", "<{}> belongs to HTML: a web page would end the drawing there",
         "removed the tags, kept the text"),
    Rule("html-in-text", "unsafe", "markup inside <{}>, which a web page would read as HTML",
         "removed it"),
    # Values
    Rule("unit-space", "picture", "a space before the unit of {}", "removed the space"),
    Rule("bad-number", "picture", "{} is not a number", ""),
    Rule("negative-size", "picture", "{} is negative: nothing is drawn", ""),
    Rule("bad-path", "picture", "path data are wrong at {}: the rest is not drawn", ""),
    Rule("bad-points", "picture", "{} is not a list of an even count of numbers", ""),
    Rule("bad-transform", "picture", "{} is not a transform: it is ignored", ""),
    Rule("transform-units", "picture", "{} has units: it is ignored", "removed them"),
    Rule("bad-color", "picture", "{} is not a color", ""),
    Rule("missing-attribute", "picture", "nothing is drawn: {}", ""),
    Rule("unknown-element", "picture", "SVG has no element <{}>: it is not drawn", ""),
    Rule("misplaced-element", "picture", "<{}> is not drawn there", ""),
    # References
    Rule("unresolved-reference", "picture", "nothing has the id of {}", ""),
    Rule("reference-without-url", "picture", "{} refers to an id without url()", "added url()"),
    Rule("duplicate-id", "picture", "the id {} is given twice", ""),
    # The frame
    Rule("no-frame", "picture", "neither viewBox nor width and height", "added a viewBox: {}"),
    Rule("bad-view-box", "picture", "viewBox {} is not four numbers of a visible area", ""),
    Rule("view-box-units", "picture", "viewBox {} has units", "removed them"),
    Rule("no-view-box", "style", "without a viewBox the drawing does not scale", ""),
)})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace the characters from offset `start` to `end`, not included, by `text`."""

    start: int
    end: int
    text: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """A rule (its name in RULES) that a text breaks at `offset`.

    `detail` stands for {} in the rule's message. `edits` repair it; without any it can only be
    reported.
    """

    rule: str
    offset: int
    detail: str = ""
    edits: tuple[Edit, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault as it is reported: `line` and `column` count from 1 in the original text."""

    rule: str
    line: int
    column: int
    detail: str
    repaired: bool

    @property
    def kind(self) -> Kind:
        """The kind of its rule."""
        return RULES[self.rule].kind


def shorten_detail(text: str, n_chars: int) -> str:
    """Return a part of a drawing for the detail of a fault: on one line, cut after `n_chars`."""
    text = " ".join(text.split())
    return text if len(text) <= n_chars else f"{text[:n_chars]}…"


def apply_edits(text: str, edits: Sequence[Edit]) -> tuple[str, list[Edit]]:
    """Return the edited `text`, and the edits that were made, in the order of the text.

    An edit inside a part that another edit replaces is left out.
    """
    pieces: list[str] = []
    made: list[Edit] = []
    done = 0
    # At one offset insertions come first, then the edit that replaces the most.
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.start != edit.end, -edit.end)):
        if edit.start >= done:
            pieces += (text[done : edit.start], edit.text)
            made.append(edit)
            done = edit.end
    return "".join((*pieces, text[done:])), made


class PositionMap:
    """Maps offsets in an edited text to offsets in the original text.

    An offset in a text that an edit inserted becomes the offset of the edit.
    """

    def __init__(self) -> None:
        # For each pass: where its edits begin in the edited text, and the edits.
        self._passes: list[tuple[list[int], list[Edit]]] = []

    def add_pass(self, made: list[Edit]) -> None:
        """Record edits that were made to the latest text, in the order of the text."""
        starts, shift = [], 0
        for edit in made:
            starts.append(edit.start + shift)
            shift += len(edit.text) - (edit.end - edit.start)
        self._passes.append((starts, made))

    def map_back(self, offset: int) -> int:
        """Return the offset in the original text of `offset` in the latest text."""
        for starts, made in reversed(self._passes):
            index = bisect_right(starts, offset) - 1
            if index >= 0:
                edit, inside = made[index], offset - starts[index]
                is_inserted = inside < len(edit.text)
                offset = edit.start if is_inserted else edit.end + inside - len(edit.text)
        return offset
