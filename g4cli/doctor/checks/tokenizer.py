"""Checks of the tokenizer: arrays, control tokens, special ids, tokens of known texts."""

from __future__ import annotations

from functools import partial
from typing import Final

from g4cli.core.gguf_values import find_data
from g4cli.core.inventory import TOKEN_EMBD
from g4cli.core.units import count_text
from g4cli.doctor.checks.advice import EXAMINE, GET_PLAIN_GGUF, RECONVERT, REPAIR
from g4cli.doctor.facts.file_facts import FileFacts
from g4cli.doctor.facts.vocabulary import find_array, hash_array
from g4cli.doctor.known_faults import find_fault
from g4cli.doctor.probe.tokenizer import known_ends, known_texts
from g4cli.doctor.reference import (
    BYTE_TYPE,
    CONTROL_TOKENS,
    N_MERGES,
    N_TOKENS,
    SPECIAL_IDS,
    SUPPRESSED_TOKENS,
    TINY_VOCABULARY_SHA256,
    TOKENIZER,
    VOCABULARY_SHA256,
)
from g4cli.doctor.report import Check, Outcome, fail, ok, skipped, warn

_fail = partial(fail, cause="tokenizer")

# Special tokens without which a model is not usable, and what a wrong one does.
_CONSEQUENCES: Final = {
    "bos_token_id": " (prompts begin with the wrong token)",
    "eos_token_id": " (answers end too early, or never)",
}
# The token of a newline, in the published vocabulary and in that of `tiny`, which has 768 tokens.
_NEWLINE: Final = 107
_N_TINY_TOKENS: Final = 768
# Tokens that end generation: <turn|> is as good an EOS as <eos>.
_END_OF_TURN: Final = 106
# llama.cpp prints tokens of type 4 and not of type 3; otherwise it handles both alike.
_CONTROL_TYPES: Final = (3, 4)
_N_BYTE_TOKENS: Final = 256
TOKEN_TYPES: Final = "token-types"
"""The code of a finding with right tokens and wrong types, which --fix repairs."""


def check_model(facts: FileFacts) -> Outcome:
    """Fail for another tokenizer: llama.cpp would use it without a warning."""
    vocabulary = facts.vocabulary
    if vocabulary is None:
        return skipped("no tokenizer in the file")
    if vocabulary.model == "gemma4":
        return ok("gemma4: byte-pair encoding")
    if vocabulary.model == "llama" and vocabulary.pre == "gemma4":
        return _fail(
            "tokenizer 'llama' with pre-tokenizer 'gemma4': a blob of Ollama, not a plain GGUF",
            GET_PLAIN_GGUF,
        )
    return _fail(
        f"the tokenizer is {vocabulary.model!r}, expected 'gemma4': text becomes other tokens",
        f"{REPAIR} (if it has merges), or {RECONVERT}",
    )


def check_counts(facts: FileFacts) -> Outcome:
    """Compare the lengths of the arrays with each other and with the embeddings."""
    v = facts.vocabulary
    if v is None:
        return skipped("no tokenizer in the file")
    bad = []
    if v.n_tokens < 0:
        bad.append("the tokens are missing")
    embedding = facts.tensors.get(TOKEN_EMBD)
    if (
        embedding is not None
        and len(embedding.shape) == 2
        and 0 <= v.n_tokens != embedding.shape[1]
    ):
        bad.append(f"{v.n_tokens:,} tokens for {embedding.shape[1]:,} rows of {TOKEN_EMBD}")
    for name, count in (("scores", v.n_scores), ("types", v.n_types)):
        if count >= 0 and 0 <= v.n_tokens != count:
            bad.append(f"{count:,} {name} for {v.n_tokens:,} tokens")
    if v.model == "gemma4" and v.n_merges <= 0:
        bad.append("no merges: every word becomes single characters")
    elif v.n_tokens == N_TOKENS and v.n_merges != N_MERGES and v.model == "gemma4":
        bad.append(f"{v.n_merges:,} merges, expected {N_MERGES:,}")
    if bad:
        return _fail("; ".join(bad), RECONVERT)
    return ok(f"{v.n_tokens:,} tokens, {max(v.n_merges, 0):,} merges")


def check_control(facts: FileFacts) -> Outcome:
    """Compare texts and types of the control tokens with Gemma 4's."""
    v = facts.vocabulary
    if v is None or not v.first_texts:
        return skipped("no tokens to look at")
    bad = [
        f"token {i} is {v.first_texts[i]!r}, expected {text!r}"
        for i, text, _ in CONTROL_TOKENS
        if i < len(v.first_texts) and v.first_texts[i] != text
    ]
    if v.n_tokens in (N_TOKENS, _N_TINY_TOKENS) and v.first_texts[_NEWLINE] != "\n":
        bad.append(f"token {_NEWLINE} is {v.first_texts[_NEWLINE]!r}, expected a newline")
    if bad:
        return _fail(
            f"{count_text(len(bad), 'control token', 'have')} other ids than in Gemma 4: {bad[0]}",
            RECONVERT,
            detail=tuple(bad),
        )
    wrong = [
        f"{text} is stored as type {v.types[i]}, expected {type_number}"
        for i, text, type_number in CONTROL_TOKENS
        if i < len(v.types) and v.types[i] not in _CONTROL_TYPES
    ]
    n_bytes = dict(v.type_counts).get(BYTE_TYPE, 0)
    if v.type_counts and n_bytes != _N_BYTE_TOKENS:
        wrong.append(f"{n_bytes} byte tokens, expected {_N_BYTE_TOKENS}")
    if wrong:
        return _fail(
            f"token types: {wrong[0]}"
            + (f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""),
            REPAIR,
            confidence="high",
            detail=tuple(wrong),
            code=TOKEN_TYPES,
        )
    return ok("control tokens and their types are Gemma 4's")


def check_ids(facts: FileFacts) -> Outcome:
    """Compare special ids, add_space_prefix and add_bos_token with those of Gemma 4."""
    if facts.vocabulary is None:
        return skipped("no tokenizer in the file")
    bad = []
    for name, expected in SPECIAL_IDS:
        number = find_data(facts.keys, TOKENIZER + name, object)
        allowed = (expected, _END_OF_TURN) if name == "eos_token_id" else (expected,)
        if number not in allowed and (number is not None or name in _CONSEQUENCES):
            found = "missing" if number is None else number
            bad.append(f"{name} is {found}, expected {expected}{_CONSEQUENCES.get(name, '')}")
    prefix = find_data(facts.keys, TOKENIZER + "add_space_prefix", object)
    if prefix is not None and prefix is not False:
        bad.append("add_space_prefix is true: every text begins with a space")
    if bad:
        return _fail("; ".join(bad), REPAIR)
    if find_data(facts.keys, TOKENIZER + "add_bos_token", bool) is False:
        fault = find_fault("bos-missing")
        return warn(f"add_bos_token is false: {fault.engine} {fault.builds} omits <bos>", REPAIR)
    eos = facts.keys[f"{TOKENIZER}eos_token_id"].data
    return ok(f"BOS 2, EOS {eos}, no space before the text")


def check_suppressed(facts: FileFacts) -> Outcome:
    """Fail for a 12B without its list of two control tokens that it must not generate."""
    if facts.model_name != "12b":
        return skipped("only the 12B has a list of suppressed tokens")
    items = find_array(facts.keys, "suppress_tokens")
    if sorted(items.tolist() if items is not None else ()) != sorted(SUPPRESSED_TOKENS):
        return _fail(
            "the list of suppressed tokens is missing: <image|> and <audio|> can appear in answers",
            REPAIR,
            confidence="high",
        )
    return ok("<image|> and <audio|> are suppressed")


def check_vocabulary(facts: FileFacts) -> Outcome:
    """Compare tokens and merges with those of all published files, byte by byte."""
    v = facts.vocabulary
    if v is None or v.model != "gemma4":
        return skipped("no Gemma 4 tokenizer")
    if facts.depth == "quick":
        return skipped("not read with --quick", EXAMINE)
    if v.n_tokens == N_TOKENS:
        expected = VOCABULARY_SHA256
    elif facts.model_name == "tiny":
        expected = TINY_VOCABULARY_SHA256
    else:
        return skipped("g4 has no copy of this vocabulary")
    wrong = [name for name, sha in expected.items() if hash_array(facts.keys, name) != sha]
    if wrong == ["tokens"]:
        return warn(
            "some tokens have other texts than in Gemma 4's vocabulary "
            "(fine-tuning may rename them)"
        )
    if wrong:
        return _fail(
            f"the {' and '.join(wrong)} differ from Gemma 4's vocabulary: text becomes other "
            "tokens than the model was trained with",
            RECONVERT,
            confidence="high",
        )
    return ok("tokens and merges equal those of Gemma 4, byte by byte")


def check_encoding(facts: FileFacts) -> Outcome:
    """Judge how llama.cpp tokenizes known texts, and which tokens end generation."""
    answers, v = facts.tokenizer, facts.vocabulary
    if answers is None or v is None:
        return skipped("llama.cpp was not asked", EXAMINE)
    if answers.failure:
        return _fail(
            f"llama.cpp cannot use the tokenizer: {answers.failure}", RECONVERT, confidence="high"
        )
    known = dict(known_texts(v.n_tokens))
    bad = [
        f"{text!r} gives {got}, expected {known[text]}"
        for text, got in answers.encoded
        if got != known[text]
    ]
    bad += [
        f"{text!r} is detokenized as {back!r}" for text, back in answers.round_trips if text != back
    ]
    if bad:
        return _fail(
            f"{len(bad)} of {len(answers.encoded) + len(answers.round_trips)} known texts become "
            f"other tokens: {bad[0]}",
            RECONVERT,
            detail=tuple(bad),
        )
    found_ends = {token for token, _ in answers.ends}
    ends = [
        f"token {token} "
        + ("must end generation and does not" if must_end else "ends generation and must not")
        for token, must_end in known_ends(v.n_tokens)
        if (token in found_ends) != must_end
    ]
    if ends:
        return _fail("; ".join(ends), REPAIR)
    return ok(
        f"{len(answers.encoded)} known texts have the expected tokens, "
        f"{len(answers.round_trips)} are detokenized unchanged"
    )


CHECKS: Final = (
    Check("tokenizer.model", check_model),
    Check("tokenizer.counts", check_counts),
    Check("tokenizer.control", check_control),
    Check("tokenizer.ids", check_ids),
    Check("tokenizer.suppressed", check_suppressed),
    Check("tokenizer.vocabulary", check_vocabulary),
    Check("tokenizer.encoding", check_encoding),
)
