"""Prompts that make small models talk at length: stories, lists, code, tables, JSON, languages."""

from __future__ import annotations

from itertools import chain
from typing import NamedTuple


class Prompt(NamedTuple):
    """A question (`mode` "chat") or the beginning of a text (`mode` "continue")."""

    kind: str
    mode: str
    text: str


_THINGS = (
    "the sea", "a lighthouse", "two brothers", "winter", "a lost dog", "a train", "an old clock",
    "bread", "the moon", "a city at night", "a garden", "music",
)  # fmt: skip
_CHAT = {
    "story": ("Write a long story about {}.", "Tell me a fairy tale with {} in it."),
    "list": ("List 50 facts about {}.", "Give me 100 ideas for a poem about {}, one per line."),
    "code": (
        "Write a complete Python program that models {}. Only code.",
        "Write a C header file with 40 constants about {}.",
    ),
    "table": ("Make a large Markdown table about {} with 5 columns and 40 rows.",),
    "json": ("Write a JSON array of 40 objects that describe {}.",),
    "talk": (
        "Explain {} step by step, in as much detail as you can.",
        "Repeat after me until I say stop: {}!",
    ),
    "essay": ("Write an essay of 2000 words about {}.",),
}
_CONTINUE = {
    "story": ("Once upon a time there was {}, and",),
    "list": ("Here are 100 words about {}:\n1.",),
    "code": ("# A simulation of {}\nimport random\n\nclass",),
    "json": ('[{{"id": 1, "topic": "{}", "value":',),
    "talk": ("Q: What do you think of {}?\nA:",),
}
_LANGUAGES = (
    ("German", "Es war einmal ein König, der"), ("French", "Il était une fois une princesse qui"),
    ("Spanish", "Había una vez un perro que"), ("Italian", "C'era una volta un falegname che"),
    ("Portuguese", "Era uma vez um menino que"), ("Dutch", "Er was eens een molenaar die"),
    ("Polish", "Dawno, dawno temu żył sobie król, który"), ("Swedish", "Det var en gång en flicka"),
    ("Russian", "Жил-был старик, который"), ("Greek", "Μια φορά κι έναν καιρό"),
    ("Chinese", "从前有一个"), ("Japanese", "むかしむかし、あるところに"),
)  # fmt: skip
# Sequences that a model counts up: loops that drift.
_COUNTING = (
    ("chat", "Count from 0 to 4096 in hexadecimal, one number per line."),
    ("chat", "Count from 1 to 2000."),
    ("chat", "List the date of every Monday from 2020 to 2030."),
    ("chat", "Write the outline of a book of 60 chapters, numbered 1.1, 1.2 and so on."),
    ("chat", "Print the multiplication table of 7 up to 7 x 500."),
    ("chat", "List all binary numbers of 12 digits."),
    ("chat", "List every year since 1500 with one event each."),
    ("chat", "Count backwards from 1000."),
    ("chat", "Write the alphabet again and again with a number behind each letter."),
    ("chat", "List all primes below 10000."),
    ("continue", "0x0000\n0x0001\n0x0002\n0x0003\n0x0004\n"),
    ("continue", "1. Introduction\n1.1 Scope\n1.2 Terms\n2. Parts\n2.1 First part\n2.2"),
    ("continue", "Monday, 6 January 2020\nMonday, 13 January 2020\nMonday, 20 January 2020\n"),
    ("continue", "2024-01-01 09:00\n2024-01-08 09:00\n2024-01-15 09:00\n2024-01-22 09:00\n"),
    ("continue", "A1 A2 A3 A4\nB1 B2 B3 B4\nC1 C2 C3 C4\n"),
    ("continue", "Step 1: wait.\nStep 2: wait.\nStep 3: wait.\nStep 4:"),
    ("continue", "One for the money, two for the show, three for"),
    ("continue", "i\nii\niii\niv\nv\nvi\nvii\n"),
    ("continue", "99 bottles of beer on the wall, 99 bottles of beer.\n98 bottles"),
    ("continue", "x = 1\nx = x + 1\nx = 2\nx = x + 1\nx = 3\n"),
)


def list_prompts() -> list[Prompt]:
    """Return all prompts, the kinds mixed, so that any beginning of the list holds them all."""
    by_kind = [
        [Prompt(kind, "chat", shape.format(thing)) for thing in _THINGS]
        for kind, shapes in _CHAT.items()
        for shape in shapes
    ]
    by_kind += [
        [Prompt(kind, "continue", shape.format(thing)) for thing in _THINGS]
        for kind, shapes in _CONTINUE.items()
        for shape in shapes
    ]
    by_kind.append(
        [Prompt("language", "chat", f"Write a long story in {name}.") for name, _ in _LANGUAGES]
    )
    by_kind.append([Prompt("language", "continue", start) for _, start in _LANGUAGES])
    by_kind.append([Prompt("counting", mode, text) for mode, text in _COUNTING[:10]])
    by_kind.append([Prompt("counting", mode, text) for mode, text in _COUNTING[10:]])
    longest = max(map(len, by_kind))
    return list(
        chain.from_iterable([row[i] for row in by_kind if i < len(row)] for i in range(longest))
    )
