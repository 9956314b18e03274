"""Measure how much g4's repair of drawings restores, on a folder of SVG files.

    python tests/bench/bench_svg.py /usr/share/icons [--files 200] [--mutations 20000]
        [--browser /usr/bin/chromium] [--html5lib] [--seed 1]

Three figures are printed: how many correct files stay unchanged, byte for byte; for each defect of
tests/support/builders/svg_defects.py how many repaired pictures are equal in every pixel; and for
files damaged at random the crashes, the time, and the texts that do not open or do more than draw
according to two other parsers. The judge of pictures is resvg; with --browser Chromium is a second
one. --html5lib adds how many pictures that parser restores, which repairs as browsers repair a
page.
Correct files have at most 100,000 characters, SVG's namespace, UTF-8, no active or external
content, and links that have an effect, and a strict XML parser and resvg accept them. The files
that are not taken are counted by reason. No file is written.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
import warnings
import xml.etree.ElementTree
from collections import Counter
from pathlib import Path

import html5lib
import resvg_py

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from g4cli.operations.svg import decode_answer
from g4cli.svg.repair import find_parse_error, repair_drawing
from tests.support.browser_judge import BrowserJudge, open_browser
from tests.support.builders.svg_defects import DEFECTS, good_drawings
from tests.support.svg_judge import find_activity

SIDE = 96
MAX_CHARACTERS = 100_000
NAMESPACED = "{http://www.w3.org/2000/svg}svg"
PIECES = [
    "<", ">", '"', "'", "/", "&", "&amp;", "--", "<!--", "-->", "<![CDATA[", "]]>", "</g>", "<g>",
    "=",
    "<script>alert(1)</script>", ' onload="x"', "<?x ?>", "<!DOCTYPE svg [", " x=1", "\x00", "é",
    "“",
    ' href="http://e/"', "<svg ", "</svg>", '<style>@import "x";</style>', "<title><b>", "<text>",
    ";",
    "url(http://x)", "\n", '<a xlink:href="javascript:x">', "<!", "</", "<foreignObject>", '\\"',
    '<set attributeName="href" to="x"/>', "<p>", "<img src=x onerror=alert(1)>", 'xml:base="x"',
]  # fmt: skip


def render_picture(svg: str) -> bytes | None:
    """Return a drawing as PNG, None if resvg refuses it."""
    try:
        return resvg_py.svg_to_bytes(svg_string=svg, width=SIDE, dpi=96, skip_system_fonts=True)
    except ValueError:
        return None


def find_flaw(text: str) -> str:
    """Return why a file is not a correct drawing, "" if it is; the judges share no code with g4."""
    if len(text) > MAX_CHARACTERS:
        return "large"
    if re.match(r"[^>]*encoding=.(?!utf-8)", text, re.IGNORECASE):
        return "another encoding"
    try:
        root = xml.etree.ElementTree.fromstring(text.encode())
    except xml.etree.ElementTree.ParseError:
        return "not XML"
    names = {str(name) for element in root.iter() for name in element.attrib}
    links = {name for name in names if name.endswith("}href")}
    if root.tag != NAMESPACED:
        return "not SVG"
    # Browsers ignore links of another namespace than XLink's: the picture is not the one meant.
    if not links <= {"{http://www.w3.org/1999/xlink}href"}:
        return "links without effect"
    if find_activity(text) is not None:
        return "active or external content"
    return "refused by resvg" if render_picture(text) is None else ""


def read_good_files(folder: Path, most: int) -> list[str]:
    """Return the texts of good drawings of a folder, spread over all of it."""
    paths = sorted(path for path in folder.rglob("*.svg") if path.is_file())
    random.Random(0).shuffle(paths)
    texts: list[str] = []
    flaws: Counter[str] = Counter()
    for path in paths:
        text = decode_answer(path.read_bytes())
        flaw = "a copy" if text in texts else find_flaw(text)
        if flaw:
            flaws[flaw] += 1
        else:
            texts.append(text)
        if len(texts) == most:
            break
    print(f"files looked at: {len(texts) + flaws.total()}, not taken: {dict(flaws)}")
    return texts


def repair_as_page(text: str) -> str:
    """Return a drawing as html5lib reads it in a page, written as XML; "" if it finds none."""
    # Control characters are not its business: it would pass them on.
    plain = re.sub(r"[\x00-\x08\x0b-\x1f]", "", text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        page = html5lib.parse(f"<!DOCTYPE html><body>{plain}")
        inner = {
            id(svg) for outer in page.iter(NAMESPACED) for svg in outer.findall(f".//{NAMESPACED}")
        }
        found = [svg for svg in page.iter(NAMESPACED) if id(svg) not in inner]
        for element in page.iter():
            for name in [key for key in element.attrib if "xmlns" in str(key)]:
                del element.attrib[name]  # ElementTree declares namespaces itself
            # HTML has no prefixes: a colon is a part of the name, which XML would not open.
            if isinstance(element.tag, str):
                element.tag = _escape_colon(element.tag)
            else:  # HTML allows two dashes in a comment
                element.text = ""
            attributes = {_escape_colon(key): value for key, value in element.attrib.items()}
            element.attrib.clear()
            element.attrib.update(attributes)
        for svg in found:
            svg.tail = None
        try:
            return xml.etree.ElementTree.tostring(found[-1], encoding="unicode") if found else ""
        except (ValueError, TypeError):
            return ""


def _escape_colon(name: str) -> str:
    """Return a name "{namespace}local" with the colons of its local part as low lines."""
    namespace, brace, local = name.rpartition("}")
    return namespace + brace + local.replace(":", "_")


class BrowserCount:
    """Counts what Chromium says of broken and repaired drawings."""

    def __init__(self, judge: BrowserJudge, texts: list[str]) -> None:
        self._judge = judge
        self._good = dict(zip(texts, judge.hash_pictures(texts), strict=True))
        self.n_refused = list(self._good.values()).count(None)

    def add_counts(self, triples: list[tuple[str, str, str]], counts: Counter[str]) -> None:
        """Count the broken and the repaired texts that open, and the pictures that are equal.

        Each triple has the correct text, the broken one and the repaired one.
        """
        hashes = [
            self._judge.hash_pictures([triple[which] for triple in triples]) for which in (1, 2)
        ]
        for (text, *_), broken, repaired in zip(triples, *hashes, strict=True):
            good = self._good[text]
            counts["c: as is"] += broken is not None and broken == good
            counts["c: opens"] += repaired is not None
            counts["c: equal"] += repaired is not None and repaired == good


def measure_defects(
    texts: list[str], browser: BrowserCount | None = None, *, html5: bool = False
) -> None:
    """Print for each defect how many pictures are restored, and the share of all that can be."""
    names = ["tried", "opens", "equal", "named", *(["html5lib"] if html5 else [])]
    names += ["c: as is", "c: opens", "c: equal"] if browser else []
    totals: Counter[str] = Counter()
    pictures = {text: render_picture(text) for text in texts}
    print(f"{'defect':34} {' '.join(f'{name:>8}' for name in names)}")
    for defect in DEFECTS:
        counts: Counter[str] = Counter()
        triples = []
        for text in texts:
            try:
                broken = defect.make(text)
            except ValueError:  # nothing to break so
                broken = None
            if broken is None or broken == text:
                continue
            drawing = repair_drawing(broken)
            repaired = drawing.text or ""
            counts["tried"] += 1
            counts["opens"] += bool(repaired) and find_parse_error(repaired) is None
            picture = pictures[text]
            counts["equal"] += bool(repaired) and render_picture(repaired) == picture
            counts["named"] += defect.rule in {finding.rule for finding in drawing.findings}
            page = repair_as_page(broken) if html5 else ""
            counts["html5lib"] += bool(page) and render_picture(page) == picture
            triples.append((text, broken, repaired))
        if browser:
            browser.add_counts(triples, counts)
        if defect.restores:
            totals.update(counts)
        mark = "" if defect.restores else "  (can only be reported)"
        print(f"{defect.name:34} {' '.join(f'{counts[name]:8}' for name in names)}{mark}")
    for name in ("equal", "html5lib", "c: as is", "c: equal"):
        if name in names:
            share = totals[name] / max(1, totals["tried"])
            print(f"{name}: {totals[name]:,} of {totals['tried']:,} ({share:.4f})")


def mutate_text(text: str, rng: random.Random) -> str:
    """Return `text` with one to six random edits."""
    for _ in range(rng.randint(1, 6)):
        at, kind = rng.randrange(len(text) + 1), rng.random()
        if kind < 0.35:
            text = text[:at] + rng.choice(PIECES) + text[at:]
        elif kind < 0.55:
            text = text[:at] + text[at + rng.randint(1, 8) :]
        elif kind < 0.7:
            other = rng.randrange(len(text) + 1)
            text = text[:at] + text[min(at, other) : max(at, other)][:200] + text[at:]
        elif kind < 0.75:
            text = text[:at]
        else:
            try:
                text = rng.choice(DEFECTS).make(text) or text
            except ValueError:
                continue
    return text


def measure_mutations(texts: list[str], n: int, seed: int) -> bool:
    """Print what becomes of `n` mutated files; return whether all went well."""
    rng = random.Random(seed)
    bad: Counter[str] = Counter()
    worst = 0.0
    n_drawings = 0
    for _ in range(n):
        text = mutate_text(rng.choice(texts), rng)
        before = time.process_time()
        drawing = repair_drawing(text)
        worst = max(worst, time.process_time() - before)
        if drawing.text is None:
            continue
        n_drawings += 1
        reason = find_parse_error(drawing.text) and "does not open"
        reason = reason or (repair_drawing(drawing.text).text != drawing.text and "changes twice")
        reason = reason or (find_activity(drawing.text) and "is active")
        if reason:
            bad[str(reason)] += 1
            print(f"{reason}: {text!r}", file=sys.stderr)
    print(
        f"mutations: {n:,}, {n_drawings:,} with a drawing left, {bad.total()} bad {dict(bad)}, "
        f"slowest {1000 * worst:.0f} ms of processor time"
    )
    return not bad


def main() -> int:
    """Return 0 if no good file was changed and no mutated one went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", help="default: the drawings of the tests")
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--mutations", type=int, default=20_000)
    xml.etree.ElementTree.register_namespace("", NAMESPACED[1:-4])
    xml.etree.ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    parser.add_argument("--seed", type=int, default=1, help="of the mutations")
    parser.add_argument("--html5lib", action="store_true", help="also what html5lib restores")
    parser.add_argument("--browser", help="Chromium, as a second judge of pictures")
    options = parser.parse_args()
    texts = [text for _, text in good_drawings()]
    if options.folder:
        texts = read_good_files(options.folder, options.files)
    changed = [text for text in texts if repair_drawing(text).text != text]
    print(f"good files: {len(texts)}, changed: {len(changed)}")
    if options.browser:
        with open_browser(options.browser) as judge:
            browser = BrowserCount(judge, texts)
            print(f"good files that Chromium refuses: {browser.n_refused}")
            measure_defects(texts, browser, html5=options.html5lib)
    else:
        measure_defects(texts, html5=options.html5lib)
    small = [text for text in texts if len(text) < 20_000]
    return int(bool(changed) or not measure_mutations(small, options.mutations, options.seed))


if __name__ == "__main__":
    sys.exit(main())
