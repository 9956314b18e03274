"""Hard texts: lists, songs, code. See `loop_hard`."""

from __future__ import annotations

import json
import random

WORDS = (
    "river", "stone", "paper", "light", "garden", "window", "music", "yellow", "train", "winter",
    "coffee",
    "island", "bridge", "silver", "forest", "pocket", "mirror", "candle", "market", "summer",
    "doctor",
    "letter", "kitchen", "engine", "thunder", "village",
)  # fmt: skip


def numbered_list(r: random.Random) -> str:
    return "".join(
        f"{i}. {r.choice(WORDS).title()} {r.choice(WORDS)} and {r.choice(WORDS)}\n"
        for i in range(1, r.randint(20, 80))
    )


def bullet_list(r: random.Random) -> str:
    return "".join(f"- {r.choice(WORDS)}\n" for _ in range(r.randint(20, 100)))


def checklist(r: random.Random) -> str:
    return "".join(f"- [ ] {r.choice(WORDS)} {r.choice(WORDS)}\n" for _ in range(r.randint(15, 60)))


def counting_lines(r: random.Random) -> str:
    return "\n".join(str(i) for i in range(1, r.randint(50, 220)))


def counting_commas(r: random.Random) -> str:
    return ", ".join(str(i) for i in range(1, r.randint(50, 220)))


def countdown(r: random.Random) -> str:
    return "\n".join(f"{i}..." for i in range(r.randint(20, 100), 0, -1)) + "\nLiftoff!"


def times_table(r: random.Random) -> str:
    n = r.randint(3, 13)
    return "\n".join(f"{n} x {i} = {n * i}" for i in range(1, r.randint(12, 60)))


def song(r: random.Random) -> str:
    chorus = "\n".join(" ".join(r.choice(WORDS) for _ in range(6)) for _ in range(4))
    verses = [
        "\n".join(" ".join(r.choice(WORDS) for _ in range(7)) for _ in range(4)) for _ in range(4)
    ]
    return "\n\n".join(f"[Verse {i + 1}]\n{v}\n\n[Chorus]\n{chorus}" for i, v in enumerate(verses))


def bottles(r: random.Random) -> str:
    n = r.randint(8, 20)
    return "\n".join(
        f"{i} green bottles hanging on the wall,\n" * 2 + "And if one green bottle "
        f"should accidentally fall,\nThere'll be {i - 1} green bottles hanging on the wall.\n"
        for i in range(n, n - r.randint(5, 8), -1)
    )


def refrain(r: random.Random) -> str:
    line = " ".join(r.choice(WORDS) for _ in range(r.randint(3, 8)))
    return (line + "\n") * r.randint(4, 16)


def scream(r: random.Random) -> str:
    return r.choice(["A", "a", "NO", "ha", "ah ", "la ", "o", "Ha", "z"]) * r.randint(30, 150) + "!"


def emoji_row(r: random.Random) -> str:
    return r.choice("😀🎉❤️🔥✨👍😂🐱") * r.randint(20, 80)


def emoji_grid(r: random.Random) -> str:
    return "\n".join("".join(r.choice("🟩🟨⬛") for _ in range(5)) for _ in range(r.randint(6, 30)))


def fixtures(r: random.Random) -> str:
    return json.dumps(
        [
            {"id": i, "name": r.choice(WORDS), "active": True, "score": 0}
            for i in range(r.randint(6, 22))
        ],
        indent=2,
    )


def same_objects(r: random.Random) -> str:
    return json.dumps([{"name": "", "value": None, "children": []}] * r.randint(5, 14), indent=2)


def push_pop(r: random.Random) -> str:
    registers = [
        "rax",
        "rbx",
        "rcx",
        "rdx",
        "rsi",
        "rdi",
        "rbp",
        "r8",
        "r9",
        "r10",
        "r11",
        "r12",
        "r13",
    ]
    body = (
        [f"    push {x}" for x in registers]
        + ["    call handler"]
        + [f"    pop {x}" for x in registers[::-1]]
    )
    return "\n".join(body * r.randint(1, 4))


def nops(r: random.Random) -> str:
    return "start:\n" + "    nop\n" * r.randint(16, 70) + "    ret\n"


def csv_same(r: random.Random) -> str:
    row = f"{r.choice(WORDS)},0,0,0.0,,\n"
    return "name,a,b,c,d,e\n" + row * r.randint(10, 28)


def csv_data(r: random.Random) -> str:
    return "date,open,close\n" + "".join(
        f"2024-{1 + i // 28:02d}-{1 + i % 28:02d},{r.uniform(10, 99):.2f},{r.uniform(10, 99):.2f}\n"
        for i in range(r.randint(15, 60))
    )


def sql_inserts(r: random.Random) -> str:
    return "".join(
        f"INSERT INTO users (id, name, age) VALUES ({i}, '{r.choice(WORDS)}', "
        f"{r.randint(18, 90)});\n"
        for i in range(1, r.randint(10, 40))
    )


def log_lines(r: random.Random) -> str:
    return "".join(
        f"2024-05-01 12:{i // 60:02d}:{i % 60:02d} INFO worker[{r.randint(1, 9)}]: "
        f"request {r.randint(100, 999)} ok\n"
        for i in range(r.randint(15, 50))
    )


def test_output(r: random.Random) -> str:
    return "".join(f"test_{r.choice(WORDS)}_{i} ... ok\n" for i in range(r.randint(20, 70)))


def progress_bars(r: random.Random) -> str:
    mark = r.choice("#=*")
    return "".join(f"[{mark * i}{' ' * (20 - i)}] {5 * i}%\n" for i in range(21))


def guitar_tab(r: random.Random) -> str:
    return "\n\n".join(
        "\n".join(
            f"{s}|" + "".join(r.choice(["-", "-", "-", "2", "0", "3"]) for _ in range(24)) + "|"
            for s in "eBGDAE"
        )
        for _ in range(r.randint(1, 4))
    )


def morse(r: random.Random) -> str:
    return " ".join(
        r.choice([".-", "-...", "-.-.", ".", "--", "...", "/"]) for _ in range(r.randint(40, 120))
    )


def dna(r: random.Random) -> str:
    return "".join(r.choice("ACGT") for _ in range(r.randint(150, 600)))


def bits(r: random.Random) -> str:
    return "".join(r.choice("01") for _ in range(r.randint(64, 256)))


def calendar(r: random.Random) -> str:
    return "Mo Tu We Th Fr Sa Su\n" + "\n".join(
        " ".join(f"{7 * w + d:2d}" for d in range(1, 8) if 7 * w + d < 32) for w in range(5)
    ) * r.randint(1, 4)


def css_rules(r: random.Random) -> str:
    return "".join(
        f".m-{i} {{ margin: {i}px; padding: {i}px; }}\n" for i in range(r.randint(10, 35))
    )


def switch_case(r: random.Random) -> str:
    return (
        "switch (x) {\n"
        + "".join(
            f"    case {i}:\n        return {r.choice(WORDS)};\n" for i in range(r.randint(12, 50))
        )
        + "}\n"
    )


def enum_members(r: random.Random) -> str:
    return "class Code(Enum):\n" + "".join(
        f"    VALUE_{i} = {i}\n" for i in range(r.randint(15, 60))
    )


def latex_table(r: random.Random) -> str:
    return "\\begin{tabular}{cccc}\n" + "".join(
        f"{r.randint(0, 9)} & {r.randint(0, 9)} & {r.randint(0, 9)} & {r.randint(0, 9)} \\\\ "
        "\\hline\n"
        for _ in range(r.randint(8, 30))
    )


def asserts(r: random.Random) -> str:
    return "".join(
        f"    assert add({i}, {i + 1}) == {2 * i + 1}\n" for i in range(r.randint(12, 45))
    )


def dialogue(r: random.Random) -> str:
    return "".join(
        f"{'AB'[i % 2]}: Knock knock.\n{'BA'[i % 2]}: Who is there?\n"
        for i in range(r.randint(6, 20))
    )


def mantra(r: random.Random) -> str:
    return "I will not talk in class.\n" * r.randint(10, 40)


def padding_spaces(r: random.Random) -> str:
    return "\n".join(f"{w:<{r.randint(20, 60)}}{r.randint(1, 99):>6}" for w in WORDS)


def brackets(r: random.Random) -> str:
    n = r.randint(10, 60)
    return "(" * n + "x" + ")" * n


def tree(r: random.Random) -> str:
    return "".join(
        f"{'│   ' * r.randint(0, 3)}├── {r.choice(WORDS)}.py\n" for _ in range(r.randint(15, 60))
    )


def diff(r: random.Random) -> str:
    return "".join(
        f"-    {w} = {i}\n+    {w} = {i + 1}\n" for i, w in enumerate(WORDS[: r.randint(10, 26)])
    )
