"""More hard texts, of other kinds and sizes than those of `loop_hard`.

Most are lines of one template; the others are functions of a random generator.
"""
# ruff: noqa: ARG005 (a line takes the generator and its number, and may need only one of them)

from __future__ import annotations

import base64
import calendar as months
import itertools
import random
import string
import uuid
from collections.abc import Callable

from loop_text import NAMES, sentence, words

Line = Callable[[random.Random, int], str]
# kind: least and most lines, what stands before them, a line
# fmt: off
LINES: dict[str, tuple[int, int, str, Line]] = {
    "multiplication": (60, 144, "",
        lambda r, i: f"{1 + i // 12} x {1 + i % 12} = {(1 + i // 12) * (1 + i % 12)}\n"),
    "powers": (16, 65, "", lambda r, i: f"2^{i} = {2**i}\n"),
    "squares": (20, 60, "", lambda r, i: f"{i}^2 = {i * i}\n"),
    "binary dump": (20, 110, "", lambda r, i: f"{r.randrange(256):08b} "),
    "binary count": (20, 64, "", lambda r, i: f"{i:06b}\n"),
    "dna lines": (8, 40, "", lambda r, i: "".join(r.choice("ACGT") for _ in range(60)) + "\n"),
    "test protocol": (20, 100, "1..100\n", lambda r, i: f"ok {i + 1} - {words(r, 1, 5)}\n"),
    "plain protocol": (20, 100, "1..100\n", lambda r, i: f"ok {i + 1}\n"),
    "pytest": (20, 90, "", lambda r,
        i: f"tests/test_{words(r)}.py::test_{words(r)} PASSED [{i:3d}%]\n"),
    "options": (20, 80, "<select>\n", lambda r,
        i: f'  <option value="{i}">{words(r).title()}</option>\n'),
    "years": (20, 60, "<select>\n", lambda r,
        i: f'  <option value="{1950 + i}">{1950 + i}</option>\n'),
    "navigation": (10, 60, "<ul>\n",
        lambda r, i: f'  <li><a href="#{words(r)}">{words(r).title()}</a></li>\n'),
    "null rows": (10, 40, "[\n", lambda r, i: f'  {{"id": {i + 1}, "name": null, "tags": []}},\n'),
    "users": (8, 40, "[\n", lambda r,
        i: f'  {{"id": {i}, "name": "{r.choice(NAMES)}", "active": true}},\n'),
    "services": (5, 25, "services:\n",
        lambda r, i: f"  {words(r)}{i}:\n    image: {words(r)}:latest\n    restart: always\n"),
    "setters": (6, 20, "",
        lambda r,
        i: f"    void set{words(r).title()}(int x) {{\n        this.value{i} = x;\n    }}\n\n"),
    "imports": (15, 60, "", lambda r, i: f"from {words(r)}.{words(r)} import {words(r)}\n"),
    "unit tests": (10, 50, "",
        lambda r, i: f"def test_{words(r)}_{i}():\n    assert f({i}) == {r.randrange(99)}\n\n"),
    "keyframes": (20, 50, "@keyframes x {\n",
        lambda r, i: f"  {2 * i}% {{ transform: rotate({7.2 * i:.1f}deg); }}\n"),
    "unrolled": (8, 30, "",
        lambda r, i: f"    vmovaps ymm{i % 16}, [rsi+{32 * i}]\n    vaddps ymm{i % 16}, ymm0\n"),
    "zero bytes": (3, 9, "", lambda r, i: "    db " + ", ".join(["0x00"] * 16) + "\n"),
    "zero array": (3, 12, "int t[] = {\n", lambda r, i: "    " + ", ".join(["0"] * 12) + ",\n"),
    "byte table": (10, 40, "",
        lambda r, i: "    " + ", ".join(f"0x{r.randrange(256):02x}" for _ in range(12)) + ",\n"),
    "assigns": (8, 32, "", lambda r, i: f"    assign out[{i}] = a[{i}] ^ b[{i}];\n"),
    "keys": (10, 50, "", lambda r, i: r.randbytes(16).hex() + "\n"),
    "uuids": (10, 45, "", lambda r, i: f"{uuid.UUID(int=r.getrandbits(128))}\n"),
    "dividers": (8, 40, "", lambda r, i: f"{sentence(r)}\n\n---\n\n"),
    "forms": (8, 30, "", lambda r, i: f"{words(r, 1, 3).title()}: {'_' * r.randint(15, 60)}\n"),
    "grid lines": (10, 50, "<svg>\n",
        lambda r, i: f'  <line x1="0" y1="{10 * i}" x2="500" y2="{10 * i}"/>\n'),
    "squares of a grid": (16, 64, "<svg>\n",
        lambda r, i: f'  <rect x="{i % 8 * 20}" y="{i // 8 * 20}" width="20"/>\n'),
    "path": (40, 140, '<path d="',
        lambda r, i: f"{r.choice('LMC')}{r.uniform(0, 99):.2f},{r.uniform(0, 99):.2f} "),
    "numbered again": (10, 35, "", lambda r, i: f"{i + 1}. Wash the dishes.\n"),
    "questions": (8, 30, "", lambda r, i: f"**Q: {sentence(r)}**\n\nA: {sentence(r)}\n\n"),
    "voices": (20, 60, "", lambda r, i: f"{r.choice(NAMES)}: {sentence(r)}\n"),
    "heartbeat": (10, 35, "", lambda r, i: f"2026-04-02 12:00:{i:02d} INFO heartbeat ok\n"),
    "ping": (10, 40, "",
        lambda r, i: f"64 bytes from 10.0.0.1: icmp_seq={i} time={r.uniform(0, 30):.3f} ms\n"),
    "training": (20, 50, "", lambda r,
        i: f"Epoch {i}/50 - loss: {3 / (i + 1) + r.random() / 9:.4f}\n"),
    "addresses": (20, 110, "", lambda r, i: f"192.168.{r.randint(0, 3)}.{i}\n"),
    "vertices": (15, 60, "",
        lambda r, i: f"v {r.uniform(-1, 1):.6f} {r.uniform(-1, 1):.6f} {r.uniform(-1, 1):.6f}\n"),
    "faces": (12, 40, "", lambda r, i: f"f {i}/{i} {i + 1}/{i + 1} {i + 2}/{i + 2}\n"),
    "characters": (20, 80, "", lambda r, i: f"U+{0x2500 + i:04X}\t{chr(0x2500 + i)}\n"),
    "interest": (10, 40, "| year | sum |\n", lambda r, i: f"| {i} | ${1000 * 1.05**i:.2f} |\n"),
    "steps": (10, 40, "", lambda r, i: f"**Step {i + 1}:** {sentence(r)}\n\n"),
    "induction": (8, 25, "", lambda r,
        i: f"$$\\sum_{{k=1}}^{{{i}}} k = \\frac{{{i}({i}+1)}}{{2}}$$\n\n"),
    "fizz buzz": (60, 100, "", lambda r,
        i: ("Fizz" * (i % 3 == 0) + "Buzz" * (i % 5 == 0) or str(i)) + "\n"),
    "comparisons": (20, 60, "",
        lambda r,
        i: f"Compare {r.randrange(10)} and {r.randrange(10)}: {r.choice(['swap', 'stay'])}\n"),
    "adjacency": (6, 20, "", lambda r, i: " ".join(r.choice("0001") for _ in range(14)) + "\n"),
    "untranslated": (8, 30, "",
        lambda r,
        i: f'#: src/{words(r)}.c:{r.randrange(999)}\nmsgid "{sentence(r)}"\nmsgstr ""\n\n'),
    "changes": (8, 30, "",
        lambda r, i: f"## 1.{30 - i}.0\n\n- Fix {words(r, 2, 4)}\n- Add {words(r, 2, 4)}\n\n"),
    "trials": (15, 60, "", lambda r, i: f"- If x = {i}: f({i}) = {i * i - 3 * i + 2}. Not zero.\n"),
    "attendance": (5, 14, "", lambda r, i: f"| {r.choice(NAMES)} |" + " P |" * 15 + "\n"),
    "ledger": (6, 24, "", lambda r,
        i: f"{months.month_name[1 + i % 12]:<12}$0.00    $0.00    $0.00\n"),
    "thoughts": (20, 70, "", lambda r,
        i: r.choice(["Wait, ", "Hmm, ", "But ", "So "]) + sentence(r) + " "),
    "alignment": (3, 10, "",
        lambda r, i: "".join(r.choice("ACGT") for _ in range(60)) + "\n" + "|" * 60 + "\n"),
    "drums": (6, 27, "",
        lambda r,
        i: f"{('HH', 'SD', 'BD')[i % 3]} |{('x-' * 8, '----o---' * 2, 'o-------' * 2)[i % 3]}|\n"),
    "sudoku": (9, 36, "", lambda r,
        i: "| " + " ".join(r.choice("....123456789") for _ in range(9)) + " |\n"),
    "life": (12, 60, "",
        lambda r, i: "".join(r.choice("....#") for _ in range(12)) + "\n" * (1 + (i % 12 == 11))),
    "maze": (10, 24, "", lambda r,
        i: "".join(r.choice(["##", "  ", "  "]) for _ in range(20)) + "\n"),
    "checkers": (8, 16, "", lambda r, i: ("# . " * 5, ". # " * 5)[i % 2] + "\n"),
    "word search": (10, 18, "",
        lambda r, i: " ".join(r.choice(string.ascii_uppercase) for _ in range(15)) + "\n"),
    "brainf": (10, 50, "", lambda r, i: "+" * r.randint(3, 20) + ".>"),
    "lorem": (3, 8, "",
        lambda r,
        i: "Lorem ipsum dolor sit amet, consectetur adipiscing elit. " + sentence(r) + "\n\n"),
    "frame of emoji": (4, 8, "🌸" * 20 + "\n", lambda r, i: "🌸" + "\u3000" * 18 + "🌸\n"),
    "latex rows": (4, 12, "\\begin{pmatrix}\n",
        lambda r, i: " & ".join(f"a_{{{i}{j}}}" for j in range(6)) + " \\\\\n"),
}
# fmt: on


def table(r: random.Random) -> str:
    """Return a table whose cells are words, numbers, ticks, mostly one word, or empty but for the
    first.
    """
    n = r.randint(2, 8)
    some = r.choice(
        [
            lambda: words(r),
            lambda: str(r.randrange(1000)),
            lambda: r.choice("✅✅❌"),
            lambda: r.choice(["Yes", "Yes", "Yes", "No"]),
            lambda: "",
        ]
    )
    rows = [[str(i), *(some() for _ in range(n))] for i in range(1, r.randint(10, 40))]
    head = "| # |" + " x |" * n + "\n|" + "---|" * (n + 1) + "\n"
    return head + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def truth_table(r: random.Random) -> str:
    n = r.randint(2, 6)
    rows = itertools.product("01", repeat=n)
    return "".join(f"| {' | '.join(row)} | {r.choice('TF')} |\n" for row in rows)


def year(r: random.Random) -> str:
    return months.TextCalendar(r.randint(0, 6)).formatyear(r.randint(1950, 2040))


def numbers(r: random.Random) -> str:
    """Return Fibonacci's numbers, primes, multiples or digits."""
    fibonacci = [1, 1]
    for _ in range(r.randint(20, 80)):
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    primes = [
        p for p in range(2, r.randint(300, 1200)) if all(p % q for q in range(2, int(p**0.5) + 1))
    ]
    multiples = list(range(0, 1000, r.randint(4, 9)))
    digits = [int("3" + "".join(r.choice(string.digits) for _ in range(r.randint(300, 1200))))]
    return r.choice([", ", "\n"]).join(map(str, r.choice([fibonacci, primes, multiples, digits])))


def old_macdonald(r: random.Random) -> str:
    farm = [("cow", "moo"), ("pig", "oink"), ("duck", "quack"), ("horse", "neigh"), ("cat", "meow")]
    return "".join(
        f"Old MacDonald had a farm, E-I-E-I-O!\nAnd on his farm he had a {x}, E-I-E-I-O!\n"
        f"With a {y}-{y} here and a {y}-{y} there,\nHere a {y}, there a {y}, everywhere a "
        f"{y}-{y}.\n\n"
        for x, y in farm[: r.randint(3, 5)]
    )


def twelve_days(r: random.Random) -> str:
    gifts = [f"{number} {words(r, 2, 3)}" for number in range(1, 13)]
    return "".join(
        f"On day {i + 1} of Christmas my true love gave to me\n"
        + ",\n".join(gifts[i::-1])
        + ".\n\n"
        for i in range(r.randint(6, 12))
    )


def refrain_song(r: random.Random) -> str:
    refrain = sentence(r)
    return "".join(f"{sentence(r)}\n{refrain}\n" for _ in range(r.randint(8, 30)))


def hanoi(r: random.Random) -> str:
    def moves(n: int, a: str, b: str, c: str) -> str:
        return (
            moves(n - 1, a, c, b) + f"Move disk {n} from {a} to {c}\n" + moves(n - 1, b, a, c)
            if n
            else ""
        )

    return moves(r.randint(3, 6), "A", "B", "C")


def orders(r: random.Random) -> str:
    return "\n".join(", ".join(p) for p in itertools.permutations("ABCD"[: r.randint(3, 4)]))


def picture(r: random.Random) -> str:
    data = r.randbytes(100) + bytes(r.randint(50, 200)) + r.randbytes(200)
    return "data:image/png;base64," + base64.b64encode(data).decode()


def nested(r: random.Random) -> str:
    n = r.randint(8, 25)
    return "".join("  " * i + "<div>\n" for i in range(n)) + "".join(
        "  " * i + "</div>\n" for i in range(n)
    )


def ending(r: random.Random) -> str:
    return r.choice([" ", "\n", "(", "é"]) * r.randint(30, 200) + "x"


TEXTS = (table, truth_table, year, numbers, old_macdonald, twelve_days, refrain_song, hanoi, orders,
    picture,
         nested, ending)  # fmt: skip


def more_hard_documents(seed: int, per_kind: int) -> list[tuple[str, str]]:
    """Return (kind, text) pairs; a sentence before, another behind."""
    found = []
    for kind, (least, most, opening, line) in LINES.items():
        for number in range(per_kind):
            r = random.Random(f"{seed}/{kind}/{number}")
            body = opening + "".join(line(r, i) for i in range(r.randint(least, most)))
            found.append((kind, f"Here it is:\n\n{body}\n{sentence(r)}"))
    for text in TEXTS:
        for number in range(per_kind):
            r = random.Random(f"{seed}/{text.__name__}/{number}")
            found.append((text.__name__, f"{sentence(r)}\n{text(r)}\n{sentence(r)}"))
    return found
