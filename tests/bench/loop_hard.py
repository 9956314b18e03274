"""Hard texts: they repeat on request, and the loop detector must not stop them.

Each kind is a function of a random generator; sizes are those that people ask for in a chat.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Callable

import loop_hard_lists as lists
from loop_hard_lists import WORDS


def blank_table(r: random.Random) -> str:
    rows, columns = r.randint(8, 40), r.randint(2, 8)
    cell = r.choice(["   ", " ", "     ", "      "])
    head = "|" + "|".join(f" {r.choice(WORDS)} " for _ in range(columns)) + "|\n"
    return head + "|" + "---|" * columns + "\n" + ("|" + (cell + "|") * columns + "\n") * rows


def yes_table(r: random.Random) -> str:
    rows, word = r.randint(8, 30), r.choice(["Yes", "No", "N/A", "OK"])
    return "| item | a | b | c |\n|---|---|---|---|\n" + "".join(
        f"| {r.choice(WORDS)} {i} | {word} | {word} | {word} |\n" for i in range(rows)
    )


def data_table(r: random.Random) -> str:
    return "| n | square | cube | name |\n|--:|--:|--:|---|\n" + "".join(
        f"| {i} | {i * i} | {i**3} | {r.choice(WORDS)} |\n" for i in range(1, r.randint(12, 60))
    )


def zero_matrix(r: random.Random) -> str:
    n, m = r.randint(5, 16), r.randint(5, 16)
    row = "[" + ", ".join(["0"] * m) + "]"
    return "matrix = [\n" + ",\n".join(["    " + row] * n) + "\n]\n"


def plain_zero_matrix(r: random.Random) -> str:
    n, m = r.randint(5, 15), r.randint(5, 15)
    return "\n".join(" ".join(["0"] * m) for _ in range(n)) + "\n"


def identity_matrix(r: random.Random) -> str:
    n = r.randint(5, 18)
    return "\n".join(" ".join("1" if i == j else "0" for j in range(n)) for i in range(n)) + "\n"


def binary_matrix(r: random.Random) -> str:
    n = r.randint(5, 14)
    return "\n".join(" ".join(r.choice("01") for _ in range(n)) for _ in range(n)) + "\n"


def rules(r: random.Random) -> str:
    return (r.choice("-=*_~#") * r.randint(60, 240) + "\n") * r.randint(1, 4)


def dotted_contents(r: random.Random) -> str:
    return "".join(
        f"{i}. {r.choice(WORDS).title()} {r.choice(WORDS)} {'.' * r.randint(20, 60)} {3 * i}\n"
        for i in range(1, r.randint(10, 40))
    )


def base64_random(r: random.Random) -> str:
    data = base64.b64encode(r.randbytes(r.randint(200, 1200))).decode()
    return "\n".join(data[i : i + 76] for i in range(0, len(data), 76))


def base64_constant(r: random.Random) -> str:
    data = base64.b64encode(
        r.randbytes(60) + bytes([r.choice([0, 255, 85])]) * r.randint(100, 400)
    ).decode()
    return "\n".join(data[i : i + 76] for i in range(0, len(data), 76))


def hexdump(r: random.Random, zero: float = 0.0) -> str:
    lines = []
    for i in range(r.randint(10, 40)):
        row = bytes(16) if r.random() < zero else r.randbytes(16)
        text = "".join(chr(b) if 32 <= b < 127 else "." for b in row)
        lines.append(f"{16 * i:08x}  {row[:8].hex(' ')}  {row[8:].hex(' ')}  |{text}|")
    return "\n".join(lines)


def hexdump_zeros(r: random.Random) -> str:
    return hexdump(r, 0.95)


def byte_array(r: random.Random) -> str:
    n = r.randint(60, 200)
    return (
        "static const unsigned char data[] = {\n"
        + ", ".join(f"0x{r.choice([0, 0, 0, 255]):02x}" for _ in range(n))
        + "\n};"
    )


def ascii_box(r: random.Random) -> str:
    w, h = r.randint(20, 60), r.randint(4, 20)
    return "+" + "-" * w + "+\n" + ("|" + " " * w + "|\n") * h + "+" + "-" * w + "+\n"


def ascii_art(r: random.Random) -> str:
    return "\n".join(
        " " * abs(12 - i) + r.choice("*#@o") * (2 * (12 - abs(12 - i)) + 1)
        for i in range(r.randint(12, 25))
    )


def chess_board(r: random.Random) -> str:
    line = "+---+---+---+---+---+---+---+---+\n"
    row = lambda: "| " + " | ".join(r.choice("   ppPPRkq") for _ in range(8)) + " |\n"  # noqa: E731
    return line + "".join(row() + line for _ in range(8))


def svg_grid(r: random.Random) -> str:
    n, step = r.randint(4, 9), r.choice([10, 20, 25])
    return '<svg xmlns="http://www.w3.org/2000/svg">\n' + "".join(
        f'  <rect x="{x * step}" y="{y * step}" width="{step}" height="{step}" '
        f'fill="#{("000", "fff")[(x + y) % 2]}"/>\n'
        for y in range(n)
        for x in range(n)
    )


def svg_circles(r: random.Random) -> str:
    return (
        "<svg>\n"
        + "".join(
            f'<circle cx="{20 * i}" cy="{r.randint(0, 200)}" r="5"/>\n'
            for i in range(r.randint(12, 40))
        )
        + "</svg>"
    )


def html_table(r: random.Random) -> str:
    row = "<tr>" + "<td></td>" * r.randint(3, 7) + "</tr>\n"
    return "<table>\n" + row * r.randint(5, 20) + "</table>\n"


HARD: tuple[Callable[[random.Random], str], ...] = (
    blank_table, yes_table, data_table, zero_matrix, plain_zero_matrix, identity_matrix,
    binary_matrix,
    rules, dotted_contents, base64_random, base64_constant, hexdump, hexdump_zeros, byte_array,
    ascii_box,
    ascii_art, chess_board, svg_grid, svg_circles, html_table, lists.numbered_list,
    lists.bullet_list,
    lists.checklist, lists.counting_lines, lists.counting_commas, lists.countdown,
    lists.times_table,
    lists.song, lists.bottles, lists.refrain, lists.scream, lists.emoji_row, lists.emoji_grid,
    lists.fixtures, lists.same_objects, lists.push_pop, lists.nops, lists.csv_same, lists.csv_data,
    lists.sql_inserts, lists.log_lines, lists.test_output, lists.progress_bars, lists.guitar_tab,
    lists.morse, lists.dna, lists.bits, lists.calendar, lists.css_rules, lists.switch_case,
    lists.enum_members, lists.latex_table, lists.asserts, lists.dialogue, lists.mantra,
    lists.padding_spaces, lists.brackets, lists.tree, lists.diff,
)  # fmt: skip


def hard_documents(seed: int, per_kind: int) -> list[tuple[str, str]]:
    """Return (kind, text) pairs; every text stands behind a sentence, as an answer begins."""
    found = []
    for kind in HARD:
        for number in range(per_kind):
            r = random.Random(f"{seed}/{kind.__name__}/{number}")
            opening = r.choice(
                ["Here it is:\n\n", "Sure! Here you go:\n\n```\n", "", "Of course.\n\n"]
            )
            found.append((kind.__name__, opening + kind(r)))
    return found
