"""Drawings are repaired to the picture that was meant, and right ones stay as they are."""

from __future__ import annotations

import re
from functools import cache

import pytest
import resvg_py
from hypothesis import given, settings
from hypothesis import strategies as st

from g4cli.svg.repair import DEPTH_LIMIT, Drawing, find_parse_error, repair_drawing
from g4cli.svg.rules import RULES
from tests.support.builders.svg_defects import DEFECTS, Defect, good_drawings
from tests.support.growth import assert_linear
from tests.support.svg_judge import find_activity

GOOD = dict(good_drawings())
HEAD = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9">'


@cache
def picture(svg: str) -> bytes:
    """Return a drawing as PNG, without fonts: what a machine has of them must not matter."""
    return resvg_py.svg_to_bytes(svg_string=svg, width=100, dpi=96, skip_system_fonts=True)


def rules_of(drawing: Drawing) -> list[str]:
    return [finding.rule for finding in drawing.findings]


def repaired(inside: str) -> str:
    """Return what becomes of the content of an <svg>."""
    text = repair_drawing(f"{HEAD}{inside}</svg>").text
    assert text is not None
    assert text.startswith(HEAD)
    assert text.endswith("</svg>")
    return text[len(HEAD) : -len("</svg>")]


def test_a_prefix_of_another_namespace_matters_only_where_it_is_used() -> None:
    unused = HEAD.replace(" viewBox", ' xmlns:xlink="urn:other" xmlns:svg="urn:x" viewBox')
    drawing = repair_drawing(f'{unused}<rect width="9" height="9"/></svg>')
    assert (drawing.text, drawing.findings) == (f'{unused}<rect width="9" height="9"/></svg>', ())
    used = f'{unused}<g id="a"><path d="M0 0h9v9"/></g><use xlink:href="#a"/></svg>'
    assert rules_of(repair_drawing(used)) == ["wrong-namespace"]


@pytest.mark.parametrize("name", GOOD)
def test_a_good_drawing_stays_as_it_is(name: str) -> None:
    drawing = repair_drawing(GOOD[name])
    assert drawing.text == GOOD[name]
    assert not [finding for finding in drawing.findings if finding.repaired]
    assert not drawing.unrepaired
    assert drawing.is_whole


@pytest.mark.slow
@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_a_defect_is_named_and_the_picture_restored(defect: Defect) -> None:
    tried = 0
    for name, good in GOOD.items():
        broken = defect.make(good)
        if broken is None or broken == good:
            continue
        tried += 1
        drawing = repair_drawing(broken)
        assert drawing.text is not None, name
        assert find_parse_error(drawing.text) is None, name
        assert repair_drawing(drawing.text).text == drawing.text, name
        assert find_activity(drawing.text) is None, name
        if defect.restores:
            assert picture(drawing.text) == picture(good), name
            assert defect.rule in rules_of(drawing), name
        repairs = {f.repaired for f in drawing.findings if f.rule == defect.rule}
        assert repairs <= {bool(RULES[defect.rule].repair)}, name
    assert tried, "no drawing has what this defect breaks"


def test_every_defect_that_cannot_be_restored_is_found_somewhere() -> None:
    for defect in DEFECTS:
        broken = [b for good in GOOD.values() if (b := defect.make(good)) and b != good]
        assert any(defect.rule in rules_of(repair_drawing(text)) for text in broken), defect.name


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        ("<g><rect></g>", "<g><rect/></g>"),
        ("<circle r='1'><animate dur='1s'/><g/>", "<circle r='1'><animate dur='1s'/></circle><g/>"),
        ("<text>a<rect width='1' height='1'/>", "<text>a</text><rect width='1' height='1'/>"),
        ("<text>a<tspan>b<g/>", "<text>a<tspan>b</tspan></text><g/>"),
        ("<g><text>a</tspan><g/></g>", "<g><text>a</text><g/></g>"),
        ("<g></a></g></b>", "<g></g>"),
        ("<linearGradient><stop><stop></g><g/>",
            "<linearGradient><stop/><stop/></linearGradient><g/>"),
        ("<g fill='red' fill='blue'/>", "<g fill='red'/>"),
        ("<g fill=red/>", '<g fill="red"/>'),
        ("<g strokeWidth='2' className='a'/>", "<g stroke-width='2' class='a'/>"),
        ("<text textOverflow='clip' whiteSpace='pre' xmlSpace='preserve'>a</text>",
         "<text text-overflow='clip' white-space='pre' xml:space='preserve'>a</text>"),
        ("<g XML:Lang='en' Foo:Lang='en' xmlns:Foo='urn:x'/>",
         "<g xml:lang='en' Foo:Lang='en' xmlns:Foo='urn:x'/>"),
        ("<g><discard begin='1s'></g>", "<g><discard begin='1s'/></g>"),
        ("<Rect Width='1' height='1'/>", "<rect width='1' height='1'/>"),
        ("<desc>a &amp; b &copy; &nosuch; &#0; &#65;</desc>",
         "<desc>a &amp; b © &amp;nosuch;  &#65;</desc>"),
        ("<!-- a -- b --->", "<!-- a - - b - -->"),
        ("<rect width='1' height='1' fill='#a1'/>", "<rect width='1' height='1' fill='#a1'/>"),
        ("<rect id='ab' width='1' height='1'/><g fill='#ab'/>",
         "<rect id='ab' width='1' height='1'/><g fill='url(#ab)'/>"),
        ("<g x:y='1'/>", "<g x:y='1'/>"),
        ("<x:lineargradient xmlns:x='http://www.w3.org/2000/svg'/>",
         "<x:linearGradient xmlns:x='http://www.w3.org/2000/svg'/>"),
    ],
)  # fmt: skip
def test_repairs_are_the_smallest_that_do(inside: str, expected: str) -> None:
    if "x:y" in inside:  # the prefix is declared in the root's tag
        assert 'xmlns:x="urn:undeclared:x"' in (repair_drawing(f"{HEAD}{inside}</svg>").text or "")
    else:
        assert repaired(inside) == expected


@pytest.mark.parametrize(
    "inside",
    [
        "<script>alert(1)</script>",
        "<SCRIPT>alert(1)</SCRIPT>",
        '<x:script xmlns:x="http://www.w3.org/2000/svg">alert(1)</x:script>',
        '<foreignObject><body xmlns="http://www.w3.org/1999/xhtml"/></foreignObject>',
        '<g onclick="x()" ONLOAD="y()"/>',
        '<image href="http://example.org/a.png"/>',
        '<image xlink:href="file:///etc/passwd"/>',
        '<image href="data:image/svg+xml;base64,AAAA"/>',
        '<use href="other.svg#a"/>',
        '<a href="javascript:alert(1)"><rect width="1" height="1"/></a>',
        '<a href="&#106;avascript:alert(1)"/>',
        '<a href=" java&#10;script:alert(1)"/>',
        '<a><set attributeName="href" to="javascript:alert(1)"/></a>',
        '<animate attributeName="xlink:href" values="javascript:alert(1)"/>',
        '<set attributeName="onclick" to="alert(1)"/>',
        '<g style="fill: url(http://example.org/x)"/>',
        "<g fill=\"url( '//example.org/x' )\"/>",
        r'<g style="fill: u\72l(http://example.org/x)"/>',
        '<style>@import "http://example.org/x.css";</style>',
        r'<style>@\69mport "http://example.org/x.css";</style>',
        "<style>@im<!-- -->port 'http://example.org/x.css';</style>",
        "<style><![CDATA[ a { background: url(http://example.org/x) } ]]></style>",
        "<style>a { background: image-set('http://example.org/x' 1x) }</style>",
        "<title><style><!--</style><img src=x onerror=alert(1)>--></title>",
        "<title><![CDATA[ > <img src=x onerror=alert(1)> ]]></title>",
        "<!--><img src=x onerror=alert(1)>-->",
        "<?x > <img src=x onerror=alert(1)> ?>",
        "<p><style><!--</style><img src=x onerror=alert(1)>--></p>",
        '<g xml:base="http://example.org/"><use href="#a"/></g>',
        "<math><mtext><img src=x onerror=alert(1)></mtext></math>",
        '<font face="x"><style><!--</style><img src=x onerror=alert(1)>--></font>',
    ],
)
def test_nothing_active_is_left(inside: str) -> None:
    drawing = repair_drawing(f"{HEAD}{inside}<rect width='2' height='2'/></svg>")
    assert drawing.text is not None
    assert find_parse_error(drawing.text) is None
    assert find_activity(drawing.text) is None, drawing.text
    assert "<rect width='2' height='2'/>" in drawing.text
    is_unsafe = "unsafe" in {finding.kind for finding in drawing.findings}
    assert is_unsafe is not inside.startswith("<!--")


@pytest.mark.parametrize(
    "doctype",
    [
        '<!DOCTYPE svg [<!ENTITY a "b"><!ENTITY c "&a;&a;">]>',
        '<!DOCTYPE svg [<!ENTITY a SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE svg [<!ENTITY % p SYSTEM "http://example.org/p"> %p;]>',
        '<!DOCTYPE svg [<!ATTLIST svg onload CDATA "alert(1)">]>',
        '<!DOCTYPE svg [<!ENTITY a "<script/>">]>',
        '<!DOCTYPE svg SYSTEM "http://example.org/x.dtd">',
        '<?xml-stylesheet href="http://example.org/x.css"?>',
    ],
)
def test_declarations_that_reach_out_or_grow_are_removed(doctype: str) -> None:
    drawing = repair_drawing(f"{doctype}{HEAD}<desc>&c;</desc></svg>")
    assert drawing.text is not None
    assert "example.org" not in drawing.text
    assert "ENTITY" not in drawing.text
    assert "ATTLIST" not in drawing.text


def test_a_short_entity_of_an_editor_stays_and_is_not_expanded() -> None:
    text = f'<!DOCTYPE svg [<!ENTITY a "b c">]>{HEAD}<desc>&a;</desc></svg>'
    assert repair_drawing(text).text == text


def test_an_entity_cannot_hide_a_link() -> None:
    text = f'<!DOCTYPE svg [<!ENTITY a "javascript:x">]>{HEAD}<a href="&a;"/></svg>'
    assert "href" not in (repair_drawing(text).text or "")


@pytest.mark.parametrize(
    ("inside", "rule"),
    [
        ('<path d="M0 0 L5"/>', "bad-path"),
        ('<path d="L5 5"/>', "bad-path"),
        ('<path d="M0\u00a00 L5 5"/>', "bad-path"),
        ('<polygon points="1 2 3"/>', "bad-points"),
        ('<circle r="-2"/>', "negative-size"),
        ('<circle r="NaN"/>', "bad-number"),
        ('<circle r="{size}"/>', "bad-number"),
        ("<circle/>", "missing-attribute"),
        ('<rect width="2"/>', "missing-attribute"),
        ('<g transform="rotate(1,2)"/>', "bad-transform"),
        ('<g transform="skewX(abc)"/>', "bad-transform"),
        ('<g transform="rotateX(45)"/>', "bad-transform"),
        ('<g transform="rotate(0.5turn)"/>', "bad-transform"),
        ('<g transform="translate(10%, 5px)"/>', "bad-transform"),
        ('<g fill="bluish"/>', "bad-color"),
        ('<g fill="#12345"/>', "bad-color"),
        ('<g fill="url(#none)"/>', "unresolved-reference"),
        ('<use href="#none"/>', "unresolved-reference"),
        ('<g id="a"/><g id="a"/>', "duplicate-id"),
        ("<cirlce r='1'/>", "unknown-element"),
        ("<text><rect width='1' height='1'/></text>", "misplaced-element"),
    ],
)
def test_what_changes_the_picture_is_reported(inside: str, rule: str) -> None:
    drawing = repair_drawing(f"{HEAD}{inside}</svg>")
    assert [finding.rule for finding in drawing.unrepaired] == [rule]


@pytest.mark.parametrize(
    "inside",
    [
        '<path d="M10-20.5.5 3e1-4 5a1 1 0 01.5.5zm1 1h1v1H0V0z"/>',
        '<path d="M0 0 1 1 2 2"/>',
        '<g transform="translate(1,2) rotate(45 1 1), scale(2)"/>',
        '<g style="transform: rotate(45deg)" fill="RGB(1 2 3 / 50%)" stroke="currentColor"/>',
        '<rect width="50%" height="2em" rx="auto"/>',
        '<text x="1 2 3" y="4">abc</text>',
        '<circle><animate attributeName="r" from="0" to="5"/></circle>',
        '<g fill="none" color="#abcd" stroke="url(#no) red"/>',
        '<g fill="revert" stroke="ThreeDFace"/>',
        "<switch><g systemLanguage='de'/></switch>",
    ],
)
def test_what_is_right_is_not_reported(inside: str) -> None:
    assert not repair_drawing(f"{HEAD}{inside}</svg>").findings


def test_findings_stand_where_the_fault_was_in_the_text_as_it_came() -> None:
    answer = f'Well:\n{HEAD}\n <rect width="1" height="1" width="2"/>\n <circle r=1>\n</svg>'
    places = {f.rule: (f.line, f.column) for f in repair_drawing(answer).findings}
    assert places == {
        "text-around": (1, 1),
        "conflicting-attribute": (3, 29),
        "unquoted-value": (4, 12),
        "shape-not-closed": (4, 2),
    }


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ('width="40" height="20"', None),
        ('viewBox="0 0 40 20"', None),
        ("", "0 0 30 25"),
        ('width="100%"', "0 0 30 25"),
    ],
)
def test_a_frame_is_made_from_what_is_drawn(size: str, expected: str | None) -> None:
    shapes = '<g transform="translate(10 5)"><rect width="20" height="20"/></g>'
    drawing = repair_drawing(f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{shapes}</svg>')
    found = re.search(r'viewBox="([^"]*)"', drawing.text or "")
    if expected is None:
        assert not [finding for finding in drawing.findings if finding.repaired]
    else:
        assert found is not None
        assert found[1] == expected


def test_nesting_has_a_limit_and_repetition_is_counted() -> None:
    deep = DEPTH_LIMIT + 1
    drawing = repair_drawing(f"{HEAD}{'<g>' * deep}{'</g>' * deep}</svg>")
    assert "too-deep" in rules_of(drawing)
    rows = "".join(
        f'<g id="g{i}">' + f'<use href="#g{i - 1}"/>' * 10 + "</g>" for i in range(1, 12)
    )
    assert repair_drawing(f'{HEAD}<g id="g0"/>{rows}</svg>').n_drawn == 10**9
    circle = '<g id="a"><use href="#b"/></g><g id="b"><use href="#a"/></g>'
    assert repair_drawing(f"{HEAD}{circle}</svg>").n_drawn < 20


PIECES = [
    "<", ">", "/>", "'", '"', "=", "&", "&amp;", "--", "<!--", "-->", "<![CDATA[", "]]>", "<g>",
    "</g>",
    "<text>", "<title>", "</title>", "<style>", "</style>", "<svg ", "</svg>", "<!DOCTYPE svg [",
    "]>",
    "<?xml ", "?>", " x=1", ' fill="red"', "<rect ", "url(http://x)", "<script>", " onload=x", "“",
    "\x00", "\ud800", "é", " ", "\n", "xlink:href", "<p>", "<a:b ", "xmlns:a=''", "@import 'x';",
    "\\",
]  # fmt: skip


@pytest.mark.slow
@settings(max_examples=300)
@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES)).map("".join)))
def test_any_text_gives_a_drawing_that_opens_and_only_draws_or_none(text: str) -> None:
    for answer in (text, f"{HEAD}{text}</svg>", f"{HEAD}<g {text}/></svg>"):
        drawing = repair_drawing(answer)
        if drawing.text is not None:
            assert find_parse_error(drawing.text) is None
            assert find_activity(drawing.text) is None
            assert repair_drawing(drawing.text).text == drawing.text


@pytest.mark.parametrize(
    "text",
    [
        f'{HEAD}<metadata><r:li xmlns:r="urn:r">a</r:li><License a="1"/></metadata></svg>',
        HEAD.replace(">", ' xmlns:xml="http://www.w3.org/XML/1998/namespace"/>'),
        '<!DOCTYPE svg [<!ATTLIST svg xmlns:xlink CDATA #FIXED "http://www.w3.org/1999/xlink">]>'
        f"{HEAD}<g/></svg>",
    ],
)
def test_what_editors_leave_in_a_file_is_right(text: str) -> None:
    drawing = repair_drawing(text)
    assert drawing.text == text
    assert not drawing.unrepaired


@pytest.mark.slow
@pytest.mark.parametrize(
    "piece", ["<g", "<circle>", "<think>", "<b></c>", "<path d='M0 0L", "&", "<p>"]
)
def test_time_is_linear_in_the_length(piece: str) -> None:
    assert_linear(lambda n: repair_drawing(HEAD + piece * n), 500)


@pytest.mark.parametrize(
    "inner",
    [
        "<xmlns:A",
        "<xmlns:dc><rect width='2' height='2'/></xmlns:dc>",
        "<xmlns:dc/>",
    ],
)
def test_an_element_in_the_prefix_of_declarations_loses_its_tags(inner: str) -> None:
    text = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9">{inner}</svg>'
    drawing = repair_drawing(text)
    assert drawing is not None
    assert find_parse_error(drawing.text) is None
    assert "xmlns:A" not in drawing.text
    assert "reserved-prefix" in rules_of(drawing)


def test_a_script_in_the_prefix_of_declarations_is_removed_whole() -> None:
    inner = "<xmlns:script>alert(1)</xmlns:script>"
    text = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9">{inner}</svg>'
    drawing = repair_drawing(text)
    assert drawing.text is not None
    assert "alert" not in drawing.text
    assert find_parse_error(drawing.text) is None


@pytest.mark.parametrize(
    ("inside", "meant", "rule"),
    [
        (
            '<rect width="5" height="2" transform="translate(3PX, 2 px) rotate(45deg)"/>',
            '<rect width="5" height="2" transform="translate(3, 2) rotate(45)"/>',
            "transform-units",
        ),
        (
            '<rect width="5" height="2" transform="rotate(45&#100;eg)"/>',
            '<rect width="5" height="2" transform="rotate(45)"/>',
            "transform-units",
        ),
        (
            '<rect width="5&#32;px" height="2"/>',
            '<rect width="5px" height="2"/>',
            "unit-space",
        ),
        (
            '<pattern id="a"/><rect width="5" height="2" fill="&#35;a"/>',
            '<pattern id="a"/><rect width="5" height="2" fill="url(&#35;a)"/>',
            "reference-without-url",
        ),
    ],
)
def test_values_are_repaired_also_where_they_have_references(
    inside: str, meant: str, rule: str
) -> None:
    drawing = repair_drawing(f"{HEAD}{inside}</svg>")
    assert rules_of(drawing) == [rule]
    assert repaired(inside) == meant
    assert picture(f"{HEAD}{inside}</svg>") != picture(f"{HEAD}{meant}</svg>")
