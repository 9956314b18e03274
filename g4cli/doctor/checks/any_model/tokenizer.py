"""Checks of the tokenizer against itself: arrays, special ids, control tokens, round trips."""

from __future__ import annotations

import re
from functools import partial
from typing import Final

from g4cli.core.gguf_values import find_data
from g4cli.doctor.checks.advice import EXAMINE, GET_ANOTHER, UPDATE_ENGINE
from g4cli.doctor.facts.file_facts import FileFacts
from g4cli.doctor.probe.child import UNKNOWN_PRE_TOKENIZER
from g4cli.doctor.reference import TOKENIZER
from g4cli.doctor.report import Check, Outcome, fail, ok, skipped, warn

_fail_tokenizer = partial(fail, fix=GET_ANOTHER, cause="tokenizer")

_NORMAL: Final = 1  # the type of a token that is text (llama_token_type in llama.h)
# A byte-level vocabulary ("gpt2") has a token for each byte, and each merge makes another token of
# two; some list each way to make a token, as Llama 3's does. Merges per such token in 13 published
# vocabularies: 0.99 to 2.2. With fewer than 0.75, some were lost.
_N_BYTES: Final = 256
_LEAST_MERGED: Final = 0.75
_BRACKETED: Final = re.compile(r"[_\s\u2581]*(?:<.*>|\[.*\])", re.DOTALL)
_NO_TOKEN: Final = (-1, 0xFFFF_FFFF)  # ids that say that there is no such token
_SPECIAL_IDS: Final = (
    "bos_token_id", "eos_token_id", "eot_token_id", "eom_token_id", "unknown_token_id",
    "padding_token_id", "seperator_token_id", "mask_token_id",  # the format spells it so
)  # fmt: skip


def check_model(facts: FileFacts) -> Outcome:
    """Name the tokenizer; fail if this llama.cpp does not know its pre-tokenizer."""
    vocabulary, answers = facts.vocabulary, facts.tokenizer
    if vocabulary is None:
        return skipped("no tokenizer in the file")
    name = vocabulary.model + (f", pre-tokenizer {vocabulary.pre}" if vocabulary.pre else "")
    if answers is not None and answers.code == UNKNOWN_PRE_TOKENIZER:
        return fail(
            f"this llama.cpp does not know the pre-tokenizer {vocabulary.pre!r}",
            UPDATE_ENGINE,
            cause="runtime",
            confidence="high",
        )
    if vocabulary.model == "gpt2" and not vocabulary.pre:
        # llama.cpp warns and takes "default", which splits words in another way than the model's.
        return warn(f"{name}: the pre-tokenizer is not named, so llama.cpp guesses it")
    return ok(name)


def check_counts(facts: FileFacts) -> Outcome:
    """Compare the lengths of the arrays with each other."""
    v = facts.vocabulary
    if v is None:
        return skipped("no tokenizer in the file")
    bad = (
        ["the tokens are missing"] if v.n_tokens < 0 and v.model not in ("none", "no_vocab") else []
    )
    for name, count in (("scores", v.n_scores), ("types", v.n_types)):
        if count >= 0 and 0 <= v.n_tokens != count:
            bad.append(f"{count:,} {name} for {v.n_tokens:,} tokens")
    if v.model == "gpt2" and v.n_merges <= 0:
        bad.append("no merges: every word becomes single bytes")
    n_ordinary = dict(v.type_counts).get(_NORMAL, 0) if v.n_types >= 0 else v.n_tokens
    n_joined = n_ordinary - _N_BYTES
    if v.model == "gpt2" and 0 < v.n_merges < _LEAST_MERGED * n_joined:
        bad.append(
            f"{v.n_merges:,} merges for {n_joined:,} tokens of several letters: texts never become "
            "the others"
        )
    if bad:
        return _fail_tokenizer("; ".join(bad))
    return ok(f"{max(v.n_tokens, 0):,} tokens, {max(v.n_merges, 0):,} merges")


def check_ids(facts: FileFacts) -> Outcome:
    """Fail for special ids outside of the vocabulary, and for answers that could never end."""
    v = facts.vocabulary
    if v is None or v.n_tokens < 0:
        return skipped("no tokens to look at")
    bad = []
    for name in _SPECIAL_IDS:
        number = find_data(facts.keys, TOKENIZER + name, object)
        if not isinstance(number, int | float) or number in _NO_TOKEN:
            continue
        if not (isinstance(number, int) and 0 <= number < v.n_tokens):
            bad.append(f"{name} is {number:,}, there are {v.n_tokens:,} tokens")
    if bad:
        return _fail_tokenizer("; ".join(bad))
    answers = facts.tokenizer
    if answers is not None and not answers.failure:
        # Without eos_token_id llama.cpp takes a number that was right for another vocabulary, where
        # this one may have a word. Texts in brackets are no words: <|endoftext|> is a control token
        # to llama.cpp, whatever type the file gives it.
        text = next(
            (
                t
                for i, t in answers.ends
                if i < len(v.types) and v.types[i] == _NORMAL and not _BRACKETED.fullmatch(t)
            ),
            "",
        )
        if text or not answers.ends:
            found = f"{text!r}, an ordinary token, ends answers" if text else "nothing ends answers"
            return _fail_tokenizer(f"{found}: eos_token_id is wrong or missing")
    ends = ", ".join(text for _, text in answers.ends[:4]) if answers is not None else ""
    return ok(f"all special ids are in the vocabulary{f'; {ends} ends an answer' if ends else ''}")


def check_control(facts: FileFacts) -> Outcome:
    """Fail if the tokens that the template writes are not in the vocabulary as single tokens."""
    prompt, answers = facts.own_prompt, facts.tokenizer
    if prompt is None or answers is None or answers.failure:
        return skipped("no prompt of the file's own template was tokenized", EXAMINE)
    split = [(text, ids) for text, ids in answers.encoded if len(ids) != 1]
    if split:
        text, ids = split[0]
        return fail(
            f"the template writes {text!r}, which this vocabulary splits into {len(ids)} tokens: "
            "the model never saw it so",
            GET_ANOTHER,
            cause="template",
            confidence="medium",
            detail=tuple(f"{text} -> {list(ids)}" for text, ids in split),
        )
    if not answers.encoded:
        return ok("the template writes no control tokens")
    shown = " ".join(text for text, _ in answers.encoded[:4])
    return ok(f"what the template writes is single tokens: {shown}")


def check_encoding(facts: FileFacts) -> Outcome:
    """Fail if texts are not the same after tokenizing and detokenizing."""
    answers = facts.tokenizer
    if facts.has_unknown_architecture:
        return skipped("this llama.cpp does not know the architecture")
    if answers is None:
        return skipped("llama.cpp was not asked", EXAMINE)
    if answers.code == UNKNOWN_PRE_TOKENIZER:
        return skipped("this llama.cpp does not know the pre-tokenizer")
    if answers.failure:
        return _fail_tokenizer(
            f"llama.cpp cannot use the tokenizer: {answers.failure}", confidence="high"
        )
    if facts.vocabulary is not None and facts.vocabulary.model == "bert":
        return ok("WordPiece: texts are lowercased and split, and not given back")
    bad = [
        f"{text!r} is detokenized as {back!r}"
        for text, back in answers.round_trips
        if text != back.removeprefix(" ")
    ]
    if len(bad) * 2 > len(answers.round_trips):
        return _fail_tokenizer(
            f"{len(bad)} of {len(answers.round_trips)} texts change when they are tokenized: "
            f"{bad[0]}",
            detail=tuple(bad),
        )
    if bad:
        # Lower-casing tokenizers and those without byte tokens lose something by design.
        return warn(f"a text changes when it is tokenized: {bad[0]}", detail=tuple(bad))
    return ok(f"{len(answers.round_trips)} texts are the same after tokenizing and detokenizing")


CHECKS: Final = (
    Check("tokenizer.model", check_model),
    Check("tokenizer.counts", check_counts),
    Check("tokenizer.ids", check_ids),
    Check("tokenizer.control", check_control),
    Check("tokenizer.encoding", check_encoding),
)
