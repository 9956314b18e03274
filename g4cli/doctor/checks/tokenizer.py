"""Does the file cut text into the tokens of Gemma 4, and does it know where an answer ends?"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from g4cli.core.gguf_values import Array
from g4cli.core.inventory import TOKEN_EMBD
from g4cli.doctor.probe.child import reason
from g4cli.doctor.report import Check, Outcome, fail, ok, skipped, warn

if TYPE_CHECKING:
    from g4cli.core.gguf_header import Header
    from g4cli.doctor.facts.file_facts import FileFacts

_T: Final = "tokenizer.ggml."
RECONVERT: Final = "get another file (g4 pull MODEL) or convert it again with g4 convert"
FIX: Final = "g4 doctor FILE --fix OUT"
N_GEMMA: Final = 262_144
N_MERGES: Final = 514_906
# sha256 of the raw arrays of ggml-vocab-gemma-4.gguf, ggml-org/llama.cpp@0c1e57098
TOKENS_SHA: Final = "a5a6b2886a2d1ccb33ba3c5ba62b32066be33c29c1d67fea478891721883e808"
MERGES_SHA: Final = "1fc76734735fa624f5091b768899592b570356e2737a717d4ca32aeda12f8ace"
# id, text, type (3 control, 4 user-defined: visible on purpose)
CONTROL: Final = (
    (0, "<pad>", 3), (1, "<eos>", 3), (2, "<bos>", 3), (3, "<unk>", 3), (4, "<mask>", 3), (46, "<|tool>", 3),
    (47, "<tool|>", 3), (48, "<|tool_call>", 4), (49, "<tool_call|>", 4), (50, "<|tool_response>", 4),
    (51, "<tool_response|>", 4), (52, '<|"|>', 4), (98, "<|think|>", 3), (100, "<|channel>", 4),
    (101, "<channel|>", 4), (105, "<|turn>", 3), (106, "<turn|>", 3),
)  # fmt: skip
# key, the value of every published file
IDS: Final = (
    ("bos_token_id", 2), ("eos_token_id", 1), ("unknown_token_id", 3), ("padding_token_id", 0),
    ("mask_token_id", 4),
)  # fmt: skip
_MEANS: Final = {
    "bos_token_id": " (prompts begin wrongly)",
    "eos_token_id": " (answers end too early, or never)",
}
TOKEN_TYPES: Final = "token-types"
"""The code of the finding that tokens are right and their types wrong: --fix can mend that."""
SUPPRESSED: Final = (258_883, 258_882)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What the header says about its tokens; counts are -1 where an array is absent."""

    model: str
    pre: str
    n_tokens: int
    n_scores: int
    n_types: int
    n_merges: int
    first: tuple[str, ...]
    types: tuple[int, ...]
    histogram: tuple[tuple[int, int], ...]


def read_vocabulary(header: Header) -> Vocabulary | None:
    """Return the facts about the tokens, or None for a file without a tokenizer."""

    def items(name: str) -> Array | None:
        value = header.keys.get(_T + name)
        return value.data if value is not None and isinstance(value.data, Array) else None

    tokens, types = items("tokens"), items("token_type")
    if tokens is None and _T + "model" not in header.keys:
        return None
    first: tuple[str, ...] = ()
    if tokens is not None and tokens.item_type.name == "STRING":
        first = tuple(t.decode("utf-8", "replace") for t in islice(tokens.byte_strings(), 320))
    numbers: tuple[int, ...] = ()
    histogram: tuple[tuple[int, int], ...] = ()
    if types is not None and types.item_type.name in ("INT32", "UINT32"):
        values = types.numpy()
        numbers = tuple(int(v) for v in values[:320])
        kinds, counts = np.unique(values, return_counts=True)
        histogram = tuple((int(k), int(n)) for k, n in zip(kinds, counts, strict=True))
    count = {n: len(a) if (a := items(n)) is not None else -1 for n in ("scores", "merges")}
    return Vocabulary(
        model=_text(header, "model"),
        pre=_text(header, "pre"),
        n_tokens=len(tokens) if tokens is not None else -1,
        n_scores=count["scores"],
        n_types=len(types) if types is not None else -1,
        n_merges=count["merges"],
        first=first,
        types=numbers,
        histogram=histogram,
    )


def _text(header: Header, name: str) -> str:
    value = header.keys.get(_T + name)
    return str(value.data) if value is not None else ""


def check_model(facts: FileFacts) -> Outcome:
    """Name the tokenizer: llama.cpp takes another one in silence and cuts text differently."""
    vocabulary = facts.vocabulary
    if vocabulary is None:
        return skipped("no tokenizer in the file")
    if vocabulary.model == "gemma4":
        return ok("gemma4: byte-pair merges")
    if vocabulary.model == "llama" and vocabulary.pre == "gemma4":
        return fail(
            "tokenizer 'llama' with pre-tokenizer 'gemma4': a blob of Ollama, not a plain GGUF",
            "g4 pull MODEL gets the plain GGUF",
            cause="tokenizer",
        )
    return fail(
        f"the tokenizer is {vocabulary.model!r}, expected 'gemma4': text is cut into other tokens",
        f"{FIX} (if its merges are there), or another file",
        cause="tokenizer",
    )


def check_counts(facts: FileFacts) -> Outcome:
    """Compare the lengths of the arrays with each other and with the embeddings."""
    v, header = facts.vocabulary, facts.header
    if v is None or header is None:
        return skipped("no tokenizer in the file")
    bad = []
    if v.n_tokens < 0:
        bad.append("the tokens are missing")
    embedding = header.tensors.get(TOKEN_EMBD)
    if (
        embedding is not None
        and len(embedding.shape) == 2
        and 0 <= v.n_tokens != embedding.shape[1]
    ):
        bad.append(f"{v.n_tokens:,} tokens for {embedding.shape[1]:,} rows of {TOKEN_EMBD}")
    for name, count in (("scores", v.n_scores), ("types", v.n_types)):
        if 0 <= count != v.n_tokens:
            bad.append(f"{count:,} {name} for {v.n_tokens:,} tokens")
    if v.model == "gemma4" and v.n_merges <= 0:
        bad.append("no merges: every word falls apart into characters")
    elif v.n_tokens == N_GEMMA and v.n_merges != N_MERGES and v.model == "gemma4":
        bad.append(f"{v.n_merges:,} merges, expected {N_MERGES:,}")
    if bad:
        return fail("; ".join(bad), RECONVERT, cause="tokenizer")
    return ok(f"{v.n_tokens:,} tokens, {v.n_merges:,} merges")


def check_control(facts: FileFacts) -> Outcome:
    """Look whether the control tokens stand at their places with their types."""
    v = facts.vocabulary
    if v is None or not v.first:
        return skipped("no tokens to look at")
    bad = [
        f"token {i} is {v.first[i]!r}, expected {text!r}"
        for i, text, _ in CONTROL
        if i < len(v.first) and v.first[i] != text
    ]
    if v.n_tokens in (N_GEMMA, 768) and v.first[107] != "\n":
        bad.append(f"token 107 is {v.first[107]!r}, expected a newline")
    if bad:
        return fail(
            f"{len(bad)} control tokens are not where Gemma 4 has them: {bad[0]}",
            RECONVERT,
            cause="tokenizer",
            detail=tuple(bad),
        )
    # llama.cpp makes up for NORMAL at control-looking tokens, with a warning; the reverse it does not.
    odd = [
        f"{text} is stored as type {v.types[i]}, expected {kind}"
        for i, text, kind in CONTROL
        if i < len(v.types) and v.types[i] != kind and not (v.types[i] in (3, 4) and kind in (3, 4))
    ]
    n_bytes = dict(v.histogram).get(6, 0)
    if v.histogram and n_bytes != 256:
        odd.append(f"{n_bytes} byte tokens, expected 256")
    if odd:
        return fail(
            f"token types: {odd[0]}" + (f" (and {len(odd) - 1} more)" if len(odd) > 1 else ""),
            FIX,
            cause="tokenizer",
            confidence="high",
            detail=tuple(odd),
            code=TOKEN_TYPES,
        )
    return ok("control tokens and their types are Gemma 4's")


def check_ids(facts: FileFacts) -> Outcome:
    """Compare the special ids, and the two switches of the tokenizer, with those of Gemma 4."""
    header = facts.header
    if header is None or facts.vocabulary is None:
        return skipped("no tokenizer in the file")
    bad = []
    for name, expected in IDS:
        value = header.keys.get(_T + name)
        if (
            value is not None
            and value.data != expected
            and not (name == "eos_token_id" and value.data == 106)
        ):
            bad.append(f"{name} is {value.data}, expected {expected}{_MEANS.get(name, '')}")
    for name, expected in (("bos_token_id", 2), ("eos_token_id", 1)):
        if _T + name not in header.keys:
            bad.append(f"{name} is missing, expected {expected}{_MEANS.get(name, '')}")
    prefix = header.keys.get(_T + "add_space_prefix")
    if prefix is not None and prefix.data is not False:
        bad.append("add_space_prefix is on: every text begins with a space")
    if bad:
        return fail("; ".join(bad), FIX, cause="tokenizer")
    bos = header.keys.get(_T + "add_bos_token")
    if bos is not None and bos.data is False:
        return warn("add_bos_token is false: older engines start without <bos>", FIX)
    return ok("bos 2, eos 1, no space before the text")


def check_suppressed(facts: FileFacts) -> Outcome:
    """The 12B must never say two of its control tokens; the key says so."""
    header = facts.header
    if header is None or facts.model_name != "12b":
        return skipped("only the 12B has a list of suppressed tokens")
    value = header.keys.get(_T + "suppress_tokens")
    items = value.data.tolist() if value is not None and isinstance(value.data, Array) else []
    if sorted(items) != sorted(SUPPRESSED):
        return fail(
            "the list of suppressed tokens is missing: <image|> and <audio|> leak into answers",
            FIX,
            cause="tokenizer",
            confidence="high",
        )
    return ok("<image|> and <audio|> are suppressed")


def check_known(facts: FileFacts) -> Outcome:
    """Compare tokens and merges with the vocabulary that all published files share, byte by byte."""
    v, header = facts.vocabulary, facts.header
    if v is None or header is None or v.model != "gemma4":
        return skipped("no Gemma 4 tokenizer")
    if facts.depth == "quick":
        return skipped("not read with --quick", "g4 doctor FILE")
    expected = _expected(facts)
    if expected is None:
        return skipped("a vocabulary that g4 has no copy of")
    wrong = [name for name, sha in expected.items() if _sha(header, name) != sha]
    if wrong == ["tokens"]:
        return warn(
            "some tokens have other texts than in Gemma 4's vocabulary (a fine-tune may do that)"
        )
    if wrong:
        return fail(
            f"the {' and '.join(wrong)} differ from Gemma 4's vocabulary: words fall into other pieces than "
            "the model has learned",
            RECONVERT,
            cause="tokenizer",
            confidence="high",
        )
    return ok("tokens and merges equal those of Gemma 4, byte by byte")


def _expected(facts: FileFacts) -> dict[str, str] | None:
    assert facts.vocabulary is not None
    if facts.vocabulary.n_tokens == N_GEMMA:
        return {"tokens": TOKENS_SHA, "merges": MERGES_SHA}
    if facts.model_name == "tiny":
        from g4cli.doctor.probe.tiny_answers import vocabulary_hashes

        return vocabulary_hashes()
    return None


def _sha(header: Header, name: str) -> str:
    value: Any = header.keys.get(_T + name)
    raw = value.data.raw() if value is not None and isinstance(value.data, Array) else b""
    return hashlib.sha256(raw).hexdigest()


def check_encoding(facts: FileFacts) -> Outcome:
    """Let llama.cpp cut known texts, and ask it where an answer ends."""
    seen = facts.tokenized
    if seen is None:
        return skipped("not tried", "g4 doctor FILE")
    if seen.died or seen.error:
        return fail(
            f"llama.cpp cannot use the tokenizer: {seen.died or reason(seen.error)}",
            RECONVERT,
            cause="tokenizer",
            confidence="high",
        )
    bad = [
        f"{text!r} gives {got}, expected {want}" for text, got, want in seen.encoded if got != want
    ]
    bad += [f"{text!r} comes back as {back!r}" for text, back in seen.round_trips if text != back]
    if bad:
        return fail(
            f"{len(bad)} of {len(seen.encoded) + len(seen.round_trips)} known texts are cut wrongly: "
            f"{bad[0]}",
            RECONVERT,
            cause="tokenizer",
            detail=tuple(bad),
        )
    ends = [
        f"token {token} {'ends an answer and must not' if got else 'must end an answer and does not'}"
        for token, got, want in seen.ends
        if got != want
    ]
    if ends:
        return fail("; ".join(ends), FIX, cause="tokenizer")
    return ok(
        f"{len(seen.encoded)} known texts cut rightly, {len(seen.round_trips)} come back unchanged"
    )


CHECKS: Final = (
    Check("tokenizer.model", check_model),
    Check("tokenizer.counts", check_counts),
    Check("tokenizer.control", check_control),
    Check("tokenizer.ids", check_ids),
    Check("tokenizer.suppressed", check_suppressed),
    Check("tokenizer.known", check_known),
    Check("tokenizer.encoding", check_encoding),
)
