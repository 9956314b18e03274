"""The nesting of tags: unclosed shapes, missing and wrong end tags, and the resulting elements.

The rules are those of browsers: an end tag closes the last open element of its name and everything
inside of it, and one that closes nothing is dropped. Three more rules are made for drawings: an
unclosed shape has no children; an unclosed text or gradient ends at the first element that it must
not contain; and if the last open element is never closed, an end tag that closes nothing was meant
for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from g4cli.svg.markup import read_entities, replace_references
from g4cli.svg.names import (
    ANIMATIONS,
    CHARACTERS_ONLY,
    DESCRIPTIONS,
    GRADIENTS,
    LEAVES,
    TEXTS,
    local_name,
)
from g4cli.svg.rules import Edit, Fault
from g4cli.svg.tokens import Token, Tokenizer

_IN_LEAF: Final = ANIMATIONS | DESCRIPTIONS
_IN_TEXT: Final = _IN_LEAF | frozenset(("a", "altGlyph", "textPath", "tref", "tspan"))
_IN_GRADIENT: Final = _IN_LEAF | frozenset(("stop", "style"))


@dataclass(slots=True)
class Element:
    """An element of a well-formed drawing. In `attributes` references are replaced.

    `start` and `end` are its tags, `first` and `last` their indices among the tokens; both are the
    same for an element like <g/>. `enclosing_text` is the title, description or style around it.
    """

    name: str
    attributes: Mapping[str, str]
    start: Token
    end: Token
    first: int
    last: int
    parent: Element | None
    enclosing_text: Element | None
    depth: int
    children: list[Element] = field(default_factory=list)

    @property
    def name_end(self) -> int:
        """The offset after the name in the start tag, where an attribute can be added."""
        return self.start.start + 1 + len(self.name)

    def remove_tags(self) -> tuple[Edit, ...]:
        """Return the edits that remove the tags, not what is between them."""
        tags = {tag.start: tag for tag in (self.start, self.end)}
        return tuple(tag.removal for tag in tags.values())


@dataclass(slots=True)
class _OpenTag:
    """A start tag that is still open; `wrong_end` is an end tag that may have been meant for it.

    That end tag has another name. It was meant for this tag if none with the right name follows:
    then its name is repaired, else it is removed.
    """

    index: int  # of its token, as all indices here
    name: str
    wrong_end: int | None = None


class _Nesting:
    """Matches the tags of a text with a stack, and collects `faults`."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._text, self._tokens = tokenizer.text, tokenizer.tokens
        self.faults: list[Fault] = []
        self._stack: list[_OpenTag] = []
        self._count: Counter[str] = Counter()  # how often each name is on the stack
        self._after: dict[int, int] = {}  # start tag -> the first token after its element
        self._has_root = False

    def find_faults(self) -> list[Fault]:
        """Return all faults of nesting."""
        for index, token in enumerate(self._tokens):
            if token.kind == "start":
                self._open_element(index, token)
            elif token.kind == "end":
                self._close_element(index, token)
            elif not self._stack and self._is_text(token):
                self._remove_token("text-around", index)
        self._close_down_to(0, len(self._tokens))
        return self.faults

    def _is_text(self, token: Token) -> bool:
        """Return whether a token is text that is not only white space."""
        written = self._text[token.start : token.end]
        return token.kind == "cdata" or (
            token.kind == "text" and bool(written.strip("\ufeff \t\r\n"))
        )

    def _remove_token(self, rule: str, index: int, detail: str = "") -> None:
        token = self._tokens[index]
        self.faults.append(Fault(rule, token.start, detail, (token.removal,)))

    def _open_element(self, index: int, token: Token) -> None:
        """Put a start tag on the stack; there is one root element."""
        if not self._stack and self._has_root:
            self._remove_token("text-around", index)
            return
        self._has_root = True
        if token.self_closing:
            self._after[index] = index + 1
        else:
            self._stack.append(_OpenTag(index, token.name))
            self._count[token.name] += 1

    def _close_element(self, index: int, token: Token) -> None:
        """Let an end tag close the last open element of its name, or remember it as wrong."""
        if self._count[token.name]:
            above = len(self._stack) - 1
            while self._stack[above].name != token.name:
                above -= 1
            self._close_down_to(above + 1, index)
            closed = self._pop_top()
            self._after[closed.index] = index + 1
            if closed.wrong_end is not None:
                wrong = self._tokens[closed.wrong_end]
                self._remove_token("unmatched-end-tag", closed.wrong_end, wrong.name)
        elif len(self._stack) > 1 and self._stack[-1].wrong_end is None:
            # Never the root's: that would end the drawing here.
            self._stack[-1].wrong_end = index
        else:
            self._remove_token("unmatched-end-tag", index, token.name)

    def _pop_top(self) -> _OpenTag:
        top = self._stack.pop()
        self._count[top.name] -= 1
        return top

    def _close_down_to(self, depth: int, stop: int) -> None:
        """Close the elements above `depth` on the stack; the token at index `stop` ends them."""
        while len(self._stack) > depth:
            top = self._pop_top()
            start = self._tokens[top.index]
            is_leaf = local_name(start.name) in LEAVES
            if top.wrong_end is not None:
                wrong = self._tokens[top.wrong_end]
                if not is_leaf:
                    edit = Edit(wrong.start + 2, wrong.start + 2 + len(wrong.name), start.name)
                    self.faults.append(Fault("wrong-end-tag", wrong.start, wrong.name, (edit,)))
                    self._after[top.index] = top.wrong_end + 1
                    continue
                self._remove_token("unmatched-end-tag", top.wrong_end, wrong.name)
            after = self._find_content_end(top.index, stop)
            self._after[top.index] = after
            end = self._tokens[after].start if after < len(self._tokens) else len(self._text)
            rule, edit = "not-closed", Edit(end, end, f"</{start.name}>")
            if is_leaf and after == top.index + 1:
                rule, edit = "shape-not-closed", Edit(start.end - 1, start.end - 1, "/")
            self.faults.append(Fault(rule, start.start, start.name, (edit,)))

    def _find_content_end(self, index: int, stop: int) -> int:
        """Return the first token that must not be in the element begun at `index`, else `stop`.

        A leaf ends after the last child that it may have, so that text after it stays outside.
        """
        inside = _allowed_inside(self._tokens[index].name)
        if inside is None:
            return stop
        is_leaf = local_name(self._tokens[index].name) in LEAVES
        i = after = index + 1
        while i < stop:
            token = self._tokens[i]
            if token.kind == "start":
                if local_name(token.name) not in inside:
                    break
                i = after = self._after.get(i, i + 1)
                continue
            i += 1
            if not is_leaf:
                after = i
        return after


def _allowed_inside(name: str) -> frozenset[str] | None:
    """Return the elements that an element `name` may contain; None if nearly all."""
    local = local_name(name)
    if local in CHARACTERS_ONLY:
        return frozenset()
    if local in LEAVES:
        return _IN_LEAF
    if local in TEXTS:
        return _IN_TEXT
    return _IN_GRADIENT if local in GRADIENTS else None


def check_nesting(tokenizer: Tokenizer) -> list[Fault]:
    """Return the faults of nesting in a text; after their repair it is well-formed."""
    return _Nesting(tokenizer).find_faults()


def entities_of(tokenizer: Tokenizer) -> Mapping[str, str]:
    """Return the harmless entities that the text declares."""
    doctype = next((token for token in tokenizer.tokens if token.kind == "doctype"), None)
    return read_entities(tokenizer.text[doctype.start : doctype.end]) or {} if doctype else {}


def build_elements(tokenizer: Tokenizer) -> list[Element]:
    """Return the elements of a text without faults of markup and nesting, in document order."""
    entities = entities_of(tokenizer)
    elements: list[Element] = []
    above: Element | None = None
    for index, token in enumerate(tokenizer.tokens):
        if token.kind == "end" and above is not None:
            above.end, above.last = token, index
            above = above.parent
        elif token.kind == "start":
            attributes = {
                item.name: replace_references(item.value, entities) for item in token.attributes
            }
            enclosing_text = above.enclosing_text if above else None
            if above and enclosing_text is None and local_name(above.name) in CHARACTERS_ONLY:
                enclosing_text = above
            depth = above.depth + 1 if above else 1
            element = Element(
                token.name, attributes, token, token, index, index, above, enclosing_text, depth
            )
            elements.append(element)
            if above is not None:
                above.children.append(element)
            if not token.self_closing:
                above = element
    return elements
