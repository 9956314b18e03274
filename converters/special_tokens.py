"""The special tokens of a checkpoint: those of the tokenizer's settings, and of config.json.

Sources: tokenization_utils_base.py (all_special_tokens) and models/gemma/tokenization_gemma.py,
transformers 5.23.0; gguf-py/gguf/vocab.py (SpecialVocab), llama.cpp@0c1e57098.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from g4cli.core.errors import BadCheckpoint

# The tokenizer classes with default special tokens, which tokenizer_config.json need not name. A
# file without a class gets them too; another class (TokenizersBackend) has only what it names.
CLASSES: Final = (None, "GemmaTokenizer", "GemmaTokenizerFast")
# key of tokenizer_config.json -> token of these classes (models/gemma/tokenization_gemma.py)
DEFAULTS: Final = {
    "bos_token": "<bos>",
    "eos_token": "<eos>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "mask_token": "<mask>",
}
_STANDARD_KEYS: Final = (*DEFAULTS, "sep_token", "cls_token")
# name in tokenizer_config.json -> name in the GGUF key
SPECIAL_KINDS: Final = {
    "bos": "bos",
    "eos": "eos",
    "unk": "unknown",
    "sep": "seperator",  # GGUF's spelling
    "pad": "padding",
    "mask": "mask",
}


def token_text(entry: Any) -> str | None:
    """Return the text of a token, which may be a string or an object with "content"."""
    if isinstance(entry, dict):
        entry = entry.get("content")
    return entry if isinstance(entry, str) else None


def special_tokens(settings: Mapping[str, Any], legacy: Mapping[str, Any]) -> frozenset[str]:
    """Return the texts of the tokens that transformers treats as special.

    `settings` is tokenizer_config.json. `legacy` is special_tokens_map.json; it counts only if
    `settings` have no added_tokens_decoder, and then its tokens replace those of the same key.
    """
    named = {
        k: text for k, text in _texts_by_key(settings).items() if k.endswith("_token") and text
    }
    standard = dict(DEFAULTS) if settings.get("tokenizer_class") in CLASSES else {}
    standard |= {key: text for key, text in named.items() if key in _STANDARD_KEYS}
    # The tokens that only some models have, such as image_token.
    own = {key: text for key, text in named.items() if key not in _STANDARD_KEYS}
    extra = settings.get("extra_special_tokens") or settings.get("additional_special_tokens")
    own |= _texts_by_key(extra)
    # model_specific_special_tokens counts only if nothing else names any.
    own = own or _texts_by_key(settings.get("model_specific_special_tokens"))
    tokens = {*own.values(), *_texts_in_list(extra)}
    if "added_tokens_decoder" not in settings:
        standard |= {k: text for k, text in _texts_by_key(legacy).items() if k.endswith("_token")}
        extra = legacy.get("extra_special_tokens")
        tokens |= {*_texts_in_list(extra), *_texts_by_key(extra).values()}
    return frozenset({*tokens, *standard.values()})


def _texts_by_key(value: Any) -> dict[str, str]:
    """Return the texts of those entries of a dictionary that are tokens; {} for anything else."""
    entries = value.items() if isinstance(value, dict) else ()
    return {key: text for key, entry in entries if (text := token_text(entry)) is not None}


def _texts_in_list(value: Any) -> list[str]:
    """Return the texts of those entries of a list that are tokens; [] for anything else."""
    entries = value if isinstance(value, list) else []
    return [text for entry in entries if (text := token_text(entry)) is not None]


def special_ids(
    settings: Mapping[str, Any],
    added: list[dict[str, Any]],
    config: Mapping[str, Any],
    n_vocab: int,
) -> dict[str, int]:
    """Return the ids of special tokens by a key of SPECIAL_KINDS.

    They come from `settings` (tokenizer_config.json), whose texts are looked up in `added` (the
    added tokens of tokenizer.json), then from `config` (config.json). Raises BadCheckpoint for an
    id outside of the vocabulary.
    """
    ids: dict[str, int] = {}
    by_text = {item["content"]: item["id"] for item in reversed(added)}
    for kind in SPECIAL_KINDS:
        name = token_text(settings.get(f"{kind}_token"))
        if name is not None and name in by_text:
            ids[kind] = by_text[name]
    text = config.get("text_config")
    for kind in SPECIAL_KINDS:
        key = f"{kind}_token_id"
        number = config.get(key)
        if number is None and isinstance(text, dict):
            number = text.get(key)
        if isinstance(number, int) and not isinstance(number, bool):
            if not 0 <= number < n_vocab:
                raise BadCheckpoint(
                    f"config.json: {key} is {number}, the vocabulary has {n_vocab} tokens"
                )
            ids.setdefault(kind, number)
    return ids
