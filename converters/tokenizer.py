"""tokenizer.json and the tokenizer files beside it as GGUF keys.

Sources: gguf-py/gguf/vocab.py (LlamaHfVocab, SpecialVocab) and conversion/gemma.py
(Gemma4Model.set_vocab), llama.cpp@0c1e57098. special_tokens.py says which tokens are special.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from g4cli.converters.checkpoint import DOWNLOAD_AGAIN, read_json
from g4cli.converters.folder_file import read_inside
from g4cli.converters.special_tokens import SPECIAL_KINDS, special_ids, special_tokens, token_text
from g4cli.core.errors import BadCheckpoint
from g4cli.core.gguf_values import (
    Value,
    ValueType,
    array_value,
    bool_value,
    string_value,
    uint32_value,
)
from g4cli.core.units import count_text

# Token types (enum llama_token_type, include/llama.h).
NORMAL, CONTROL, USER_DEFINED, BYTE = 1, 3, 4, 6

# Control tokens that are detokenized as text, so that a parser of answers can see them
# (conversion/gemma.py, visible_tokens).
VISIBLE_TOKENS: Final = frozenset(
    (
        "<|channel>",
        "<channel|>",
        "<|tool_call>",
        "<tool_call|>",
        "<|tool_response>",
        "<tool_response|>",
        '<|"|>',
    )
)
TOKEN_SCORE: Final = -1000.0  # of every token: merges decide how Gemma 4 tokenizes, not scores
MAX_TEMPLATE_CHARS: Final = 1 << 20  # a choice: Gemma 4's templates have some 20,000 characters

_MERGE: Final = re.compile("[^ ]+ [^ ]+")
_BYTE_TOKEN: Final = re.compile("<0x[0-9A-Fa-f]{2}>")


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """A checked tokenizer. `types` has one of NORMAL, CONTROL, USER_DEFINED and BYTE per token.

    `special_ids` has the ids of "bos", "eos" and others (the keys of SPECIAL_KINDS), `is_added`
    says for "bos", "eos" and "sep" whether that token is added to a text. `suppressed_ids` are the
    tokens that must never be generated, None if the file should not have a key for them.
    """

    tokens: tuple[str, ...]
    types: tuple[int, ...]
    merges: tuple[str, ...]
    special_ids: Mapping[str, int]
    is_added: Mapping[str, bool]
    template: str | None
    suppressed_ids: tuple[int, ...] | None


def read_tokenizer(
    folder: Path, config: Mapping[str, Any], n_vocab: int, *, with_suppressed: bool
) -> Tokenizer:
    """Return the tokenizer of the checkpoint in `folder`.

    `config` is the raw config.json. With `with_suppressed`, suppress_tokens of
    generation_config.json is read, which only the 12B has. Raises BadCheckpoint if the tokenizer is
    of another kind or does not have `n_vocab` tokens.
    """
    path = folder / "tokenizer.json"
    data = read_json(path)
    settings = read_json(folder / "tokenizer_config.json", required=False)
    model = data.get("model")
    decoder = data.get("decoder")
    if (
        not isinstance(model, dict)
        or model.get("type") != "BPE"
        or not model.get("byte_fallback")
        or not isinstance(decoder, dict)
        or decoder.get("type") != "Sequence"
    ):
        raise BadCheckpoint(f"{path}: not a byte-fallback BPE tokenizer, which Gemma 4 has")
    added = data.get("added_tokens") or []
    if not isinstance(added, list) or not all(isinstance(item, dict) for item in added):
        raise BadCheckpoint(f"{path}: added_tokens is not a list of tokens")
    vocab = model.get("vocab")
    if not isinstance(vocab, dict):
        raise BadCheckpoint(f"{path}: no vocabulary")
    tokens = _read_tokens(path, vocab, added, n_vocab)
    specials = special_tokens(
        settings, read_json(folder / "special_tokens_map.json", required=False)
    )
    return Tokenizer(
        tokens=tokens,
        types=_choose_types(tokens, vocab, specials),
        merges=_read_merges(path, model.get("merges")),
        special_ids=special_ids(settings, added, config, n_vocab),
        is_added=_read_is_added(data.get("post_processor"), settings),
        template=_read_template(folder, settings),
        suppressed_ids=_read_suppressed_ids(folder, n_vocab) if with_suppressed else None,
    )


def tokenizer_keys(tokenizer: Tokenizer) -> dict[str, Value]:
    """Return the tokenizer's keys in the order of llama.cpp's converter."""
    keys = {
        "tokenizer.ggml.model": string_value("gemma4"),
        "tokenizer.ggml.tokens": array_value(ValueType.STRING, tokenizer.tokens),
        "tokenizer.ggml.scores": array_value(
            ValueType.FLOAT32, [TOKEN_SCORE] * len(tokenizer.tokens)
        ),
        "tokenizer.ggml.token_type": array_value(ValueType.INT32, tokenizer.types),
    }
    if tokenizer.merges:
        keys["tokenizer.ggml.merges"] = array_value(ValueType.STRING, tokenizer.merges)
    for kind, token_id in tokenizer.special_ids.items():
        keys[f"tokenizer.ggml.{SPECIAL_KINDS[kind]}_token_id"] = uint32_value(token_id)
    for kind, value in tokenizer.is_added.items():
        keys[f"tokenizer.ggml.add_{kind}_token"] = bool_value(value)
    if tokenizer.template is not None:
        keys["tokenizer.chat_template"] = string_value(tokenizer.template)
    keys["tokenizer.ggml.add_space_prefix"] = bool_value(False)
    keys["tokenizer.ggml.add_bos_token"] = bool_value(True)  # whatever the checkpoint says
    return keys


def _read_tokens(
    path: Path, vocab: Mapping[str, Any], added: list[dict[str, Any]], n_vocab: int
) -> tuple[str, ...]:
    """Return the tokens in the order of their ids. Raises BadCheckpoint if an id is missing."""
    by_id: dict[int, str] = {}
    ids: dict[str, int] = {}  # llama.cpp aborts on a text that two tokens have
    pairs = list(vocab.items()) + [(item.get("content"), item.get("id")) for item in added]
    for text, number in pairs:
        if not isinstance(text, str) or not isinstance(number, int) or isinstance(number, bool):
            raise BadCheckpoint(f"{path}: {text!r}: {number!r} is not a token")
        if ids.setdefault(text, number) != number:
            raise BadCheckpoint(f"{path}: {text!r} has both the id {ids[text]} and {number}")
        if by_id.setdefault(number, text) != text:
            raise BadCheckpoint(
                f"{path}: the id {number} is that of both {by_id[number]!r} and {text!r}"
            )
    beyond = [i for i in by_id if not 0 <= i < n_vocab]
    n_missing = n_vocab - (len(by_id) - len(beyond))
    if n_missing or beyond:
        first = next((i for i in range(n_vocab) if i not in by_id), 0)
        what = (
            f"{count_text(n_missing, 'id', 'have')} no token (first {first})"
            if n_missing
            else f"the id {max(beyond)} is too large"
        )
        raise BadCheckpoint(
            f"{path} has {len(by_id):,} tokens, config.json a vocab_size of {n_vocab:,}: {what}",
            hint=DOWNLOAD_AGAIN,
        )
    return tuple(by_id[i] for i in range(n_vocab))


def _choose_types(
    tokens: tuple[str, ...], vocab: Mapping[str, int], specials: frozenset[str]
) -> tuple[int, ...]:
    """Return the type of each token, as llama.cpp's converter chooses it."""

    def choose_type(text: str) -> int:
        if text in VISIBLE_TOKENS:
            return USER_DEFINED
        if text not in vocab:  # an added token
            return CONTROL if text in specials else USER_DEFINED
        if _BYTE_TOKEN.fullmatch(text):
            return BYTE
        return CONTROL if text in specials else NORMAL

    return tuple(choose_type(text) for text in tokens)


def _read_merges(path: Path, merges: Any) -> tuple[str, ...]:
    """Return the merges as "left right"; a space inside either side becomes U+0120 ("Ġ").

    That is how GPT-2's tokenizer writes a space. Source: gguf-py/gguf/vocab.py (SpecialVocab).
    """
    if not isinstance(merges, list):
        raise BadCheckpoint(f"{path}: no merges")
    if set(map(type, merges)) == {list} and set(map(len, merges)) == {2}:
        # The usual case is fast: half a million pairs of strings without spaces.
        with suppress(TypeError):
            joined = tuple([left + " " + right for left, right in merges])
            if "".join(joined).count(" ") == len(joined) and all(map(all, merges)):
                return joined
    lines = []
    for merge in merges:
        is_pair = isinstance(merge, list) and all(isinstance(part, str) for part in merge)
        line = " ".join(part.replace(" ", "Ġ") for part in merge) if is_pair else merge
        if not isinstance(line, str) or not _MERGE.fullmatch(line):
            raise BadCheckpoint(f"{path}: {merge!r} is not a merge")
        lines.append(line)
    return tuple(lines)


def _read_is_added(processor: Any, settings: Mapping[str, Any]) -> dict[str, bool]:
    """Return for "bos", "eos" and "sep" whether that token is added to a text.

    The post-processor of tokenizer.json decides. Where it says nothing, `settings`
    (tokenizer_config.json) do. Source: gguf-py/gguf/vocab.py (SpecialVocab).
    """
    is_added: dict[str, bool] = {}
    kinds = ("bos", "eos", "sep")
    bos, eos, sep = (token_text(settings.get(f"{kind}_token")) for kind in kinds)
    steps = processor.get("processors", [processor]) if isinstance(processor, dict) else []
    for step in steps if isinstance(steps, list) else []:
        if not isinstance(step, dict) or step.get("type") != "TemplateProcessing":
            continue
        single, pair = (_list_special_tokens(step.get(name)) for name in ("single", "pair"))
        # The template of one text: BOS, the text (None), EOS; either token may be absent.
        first, last = (single[0], single[-1]) if len(single) > 1 else (None, None)
        if first:
            is_added["bos"] = first == bos
        if last:
            is_added["eos"] = last == eos
        # The template of a pair without its BOS and EOS: a text, the tokens between, a text.
        inner = pair[
            1 if first and pair[:1] == [first] else 0 : -1 if last and pair[-1:] == [last] else None
        ]
        middle = inner[1:-1] if len(inner) > 2 and inner[0] is None and inner[-1] is None else []
        if middle:  # an EOS may stand for SEP, but not where it only ends the first text
            separators = {sep, eos} - {None, ""}
            is_added["sep"] = (middle[0] in separators and not last) or (
                len(middle) == 2 and middle[1] in separators
            )
    for kind in kinds:
        if isinstance(settings.get(f"add_{kind}_token"), bool):
            is_added.setdefault(kind, settings[f"add_{kind}_token"])
    return is_added


def _list_special_tokens(template: Any) -> list[str | None]:
    """Return the special tokens of a post-processor's template in order, None for each text."""
    pieces: list[str | None] = []
    for part in template if isinstance(template, list) else []:
        special = part.get("SpecialToken") if isinstance(part, dict) else None
        name = special.get("id") if isinstance(special, dict) else None
        pieces.append(name if isinstance(name, str) else None)
    return pieces


def _read_template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    """Return the chat template, or None if there is none.

    It is read from tokenizer_config.json, else chat_template.jinja, else chat_template.json.
    """
    template = settings.get("chat_template")
    if template is None:
        path = folder / "chat_template.jinja"
        try:
            data = read_inside(path, 4 * MAX_TEMPLATE_CHARS)  # UTF-8 takes at most 4 bytes each
            template = data.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
        except FileNotFoundError:
            template = read_json(folder / "chat_template.json", required=False).get("chat_template")
        except UnicodeDecodeError as err:
            raise BadCheckpoint(f"{path}: not UTF-8 ({err.reason})") from err
    if isinstance(template, list):  # several named templates: take the default one
        named = [i for i in template if isinstance(i, dict) and i.get("name") == "default"]
        template = named[-1].get("template") if named else None
    if template is not None and (
        not isinstance(template, str) or len(template) > MAX_TEMPLATE_CHARS
    ):
        raise BadCheckpoint(
            f"{folder}: the chat template is not a string of at most {MAX_TEMPLATE_CHARS:,} "
            "characters"
        )
    return template


def _read_suppressed_ids(folder: Path, n_vocab: int) -> tuple[int, ...] | None:
    """Return suppress_tokens of generation_config.json, or None if it names none."""
    ids = read_json(folder / "generation_config.json", required=False).get("suppress_tokens")
    if ids is None:
        return None
    if not isinstance(ids, list) or not all(type(i) is int and 0 <= i < n_vocab for i in ids):
        raise BadCheckpoint(
            f"{folder / 'generation_config.json'}: suppress_tokens {ids!r} are not token ids"
        )
    return tuple(ids)
