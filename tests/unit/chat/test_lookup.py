"""Prompt lookup against a search without an index, and the pacing of drafts."""

from __future__ import annotations

import random

import pytest

from g4cli.chat.lookup import NGRAM, DraftPacer, PromptLookup


def searched(tokens: list[int], token: int, count: int) -> list[int]:
    """The oracle: of the newest eight positions with the same run, take the longest match."""
    text = [*tokens, token]
    run = text[-NGRAM:]
    places = [i for i in range(NGRAM, len(text)) if text[i - NGRAM : i] == run][::-1][:8]
    if len(text) < NGRAM or not places:
        return []

    def past(place: int) -> int:
        length = 0
        while length < min(32, place) and text[place - 1 - length] == text[-1 - length]:
            length += 1
        return length

    best = max(places, key=past)  # the first of equals: the newest
    for _ in range(count):
        text.append(text[best + len(text) - len(tokens) - 1])
    found = text[len(tokens) + 1 :]
    return found if min(found) >= 0 else []


def lookup_of(tokens: list[int]) -> PromptLookup:
    lookup = PromptLookup()
    lookup.set_tokens(tokens)
    return lookup


def test_what_followed_before_follows_again() -> None:
    assert lookup_of([1, 2, 3, 4, 5, 6, 9, 1, 2]).draft_tokens(3, 3) == [4, 5, 6]


@pytest.mark.parametrize("tokens", [[], [1], [1, 2], [7, 8, 9, 1, 2], [1, 2, 4, 1, 2]])
def test_nothing_is_drafted_without_a_place(tokens: list[int]) -> None:
    assert lookup_of(tokens).draft_tokens(3, 3) == []


def test_the_longer_past_wins_over_the_newer_place() -> None:
    tokens = [5, 6, 1, 2, 3, 70, 71, 72, 9, 1, 2, 3, 80, 81, 82, 5, 6, 1, 2]
    assert lookup_of(tokens).draft_tokens(3, 3) == [70, 71, 72]


def test_a_cycle_goes_on_beyond_its_end() -> None:
    assert lookup_of([1, 2, 1, 2, 1]).draft_tokens(2, 5) == [1, 2, 1, 2, 1]
    assert lookup_of([4, 4, 4]).draft_tokens(4, 3) == [4, 4, 4]


def test_positions_of_images_are_not_drafted() -> None:
    assert lookup_of([1, 2, 3, 4, -1, -2, 1, 2]).draft_tokens(3, 2) == []
    assert lookup_of([1, 2, 3, 4, -1, -2, 1, 2]).draft_tokens(3, 1) == [4]


@pytest.mark.parametrize("seed", range(6))
def test_equal_to_a_search_also_after_taking_back(seed: int) -> None:
    rng = random.Random(seed)
    lookup, tokens = PromptLookup(), list[int]()
    for _ in range(400):
        what = rng.random()
        if what < 0.85:
            token = rng.randrange(-1, 3)
            if token >= 0:
                assert lookup.draft_tokens(token, 3) == searched(tokens, token, 3)
            lookup.add_token(token)
            tokens.append(token)
        else:  # an undo, an edit, another conversation
            keep = rng.randrange(len(tokens) + 1)
            tokens = tokens[:keep] + [rng.randrange(3) for _ in range(rng.randrange(5))]
            lookup.set_tokens(tokens)
        assert len(lookup) == len(tokens)
    lookup.set_tokens([])
    assert not lookup._newest
    assert not lookup._before


def waits(pacer: DraftPacer, outcomes: list[int]) -> list[int]:
    """How many tokens pass before each round that ends as told."""
    found = []
    for right in outcomes:
        passed = 0
        while not pacer.is_due:
            pacer.count_single_token()
            passed += 1
        found.append(passed)
        pacer.record_round(right)
    return found


def test_rounds_that_lose_come_ever_less_often() -> None:
    assert waits(DraftPacer(0.7), [0] * 8) == [0, 8, 16, 32, 64, 128, 128, 128]


def test_rounds_that_win_follow_each_other() -> None:
    assert waits(DraftPacer(0.7), [3, 3, 1, 2, 3]) == [0] * 5


def test_a_win_ends_the_waiting() -> None:
    assert waits(DraftPacer(0.7), [0, 0, 3, 3, 0, 0, 0]) == [0, 8, 16, 0, 0, 0, 8]
    assert waits(DraftPacer(0.7), [0, 0, 3, 0, 0, 0]) == [0, 8, 16, 0, 0, 8]


def test_a_round_must_earn_its_cost() -> None:
    assert waits(DraftPacer(1.5), [1, 1]) == [0, 8]
    assert waits(DraftPacer(0.5), [1, 1]) == [0, 0]
