"""Random words, sentences and names for the made-up texts of `bench_loops.py`."""

from __future__ import annotations

import random

# Frequent words of English; `words` draws from them at random.
_WORD_LIST = """
the of and to in is was for it with as his on be at by had not are but from or have an they which
one you were all her she there would their we him been has when who will no more if out so said what
up its about than into them can only other time new some could these two may first then do any like
my now over such our man me even most made after also did many off before must well back through
years much where your way down should because long each just state those people too little good very
make world still see own work men day get here life both between being under three never know same
last another while us might great go come since against right came take used himself few house use
during without again place around however small found thought went say part once general high upon
school every
"""
WORDS = tuple(_WORD_LIST.split())
NAMES = (
    "Alice", "Bob", "Carol", "Dave", "Erin", "Frank", "Grace", "Heidi", "Ivan", "Judy", "Mallory",
)  # fmt: skip


def words(r: random.Random, least: int = 1, most: int = 1) -> str:
    """Return `least` to `most` words, drawn at random, with spaces between them."""
    return " ".join(r.choice(WORDS) for _ in range(r.randint(least, most)))


def sentence(r: random.Random, least: int = 4, most: int = 16) -> str:
    """Return `least` to `most` random words as a sentence."""
    return words(r, least, most).capitalize() + r.choice("....!?")
