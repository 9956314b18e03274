"""Build the tokenizer of the bundled model `tiny` from its corpus.

The first 494 ids are those of Gemma 4's real vocabulary (control tokens, runs
of newlines and spaces, HTML tags, byte tokens). The rest is a small BPE of the
same make: spaces become U+2581, characters that are missing fall back to
bytes, merges never cross a space or a newline. So llama.cpp's `gemma4`
tokenizer and Hugging Face's give the same ids.
"""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

VOCAB_SIZE = 768
SPACE = "\u2581"
LONGEST_RUN = 31

# Control tokens of Gemma 4 by their real ids (models/ggml-vocab-gemma-4.gguf of llama.cpp).
CONTROL = {
    0: "<pad>",
    1: "<eos>",
    2: "<bos>",
    3: "<unk>",
    4: "<mask>",
    46: "<|tool>",
    47: "<tool|>",
    48: "<|tool_call>",
    49: "<tool_call|>",
    50: "<|tool_response>",
    51: "<tool_response|>",
    52: '<|"|>',
    98: "<|think|>",
    100: "<|channel>",
    101: "<channel|>",
    105: "<|turn>",
    106: "<turn|>",
}
TAG_GROUPS = (
    "table caption thead tbody tfoot tr th td",
    "h1 h2 h3 h4 h5 h6 blockquote",
    "strong em b i u s sub sup code",
)
LAST_TAGS = "a html body img span bbox ul li div iframe footer"

# The names under which transformers knows the control tokens of Gemma 4.
TOKENIZER_CONFIG = {
    "tokenizer_class": "GemmaTokenizer",
    "padding_side": "left",
    "model_max_length": 2048,
    "clean_up_tokenization_spaces": False,
    "pad_token": "<pad>",
    "eos_token": "<eos>",
    "bos_token": "<bos>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
    "std_token": "<|tool>",
    "etd_token": "<tool|>",
    "stc_token": "<|tool_call>",
    "etc_token": "<tool_call|>",
    "str_token": "<|tool_response>",
    "etr_token": "<tool_response|>",
    "escape_token": '<|"|>',
    "think_token": "<|think|>",
    "soc_token": "<|channel>",
    "eoc_token": "<channel|>",
    "sot_token": "<|turn>",
    "eot_token": "<turn|>",
}


def low_vocabulary() -> list[str]:
    """The 494 tokens that stand at the same ids in Gemma 4's own vocabulary."""
    unused = iter(f"<unused{n}>" for n in range(100))
    tokens = [CONTROL.get(i) or ("[multimodal]" if i == 5 else next(unused)) for i in range(107)]
    tokens += ["\n" * n for n in range(1, LONGEST_RUN + 1)]
    tokens += [SPACE * n for n in range(2, LONGEST_RUN + 1)]
    for group in TAG_GROUPS:
        tokens += [f"<{name}>" for name in group.split()]
        tokens += [f"</{name}>" for name in group.split()]
    tokens += [f"<{name}>" for name in LAST_TAGS.split()]
    tokens += [f"</{name}>" for name in LAST_TAGS.split()]
    tokens += [f"<0x{byte:02X}>" for byte in range(256)]
    return tokens


def run_merges() -> list[tuple[str, str]]:
    """The 930 merges of Gemma 4 that build runs of newlines and spaces, in its order."""
    longest = LONGEST_RUN - 1
    return [
        (char * left, char * right)
        for left in range(longest, 0, -1)
        for right in range(LONGEST_RUN - left, 0, -1)
        for char in ("\n", SPACE)
    ]


def rule_merges() -> list[tuple[str, str]]:
    """The merges that build `---`, one token as in Gemma 4's vocabulary (id 7243 there).

    Together with the newline token it is the period-2 loop that `g4 doctor` demonstrates.
    """
    return [("-", "-"), ("--", "-")]


def learn_merges(texts: list[str], count: int) -> tuple[list[str], list[tuple[str, str]]]:
    """The characters of the vocabulary, and `count` merges learnt from the texts.

    Words keep the space before them and digits stay single, as in Gemma's own
    vocabulary; the split holds for training only, since merges learnt inside
    words cannot apply across them.
    """
    alphabet = [chr(code) for code in range(33, 127)] + [SPACE]
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + count,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    learner = Tokenizer(models.BPE())
    learner.normalizer = normalizers.Replace(" ", SPACE)
    pieces = Regex(SPACE + "?[A-Za-z]+|" + SPACE + "|[0-9]|[^A-Za-z0-9" + SPACE + "]")
    learner.pre_tokenizer = pre_tokenizers.Split(pieces, "isolated")
    lines = [line for text in texts for line in text.split("\n")]
    learner.train_from_iterator(lines, trainer)
    model = json.loads(learner.to_str())["model"]
    return sorted(alphabet), [(left, right) for left, right in model["merges"]]


def build(texts: list[str]) -> Tokenizer:
    """The tokenizer of `tiny`: 494 real ids, then characters and merges learnt from texts."""
    tokens = low_vocabulary()
    rules = rule_merges()
    alphabet, merges = learn_merges(texts, VOCAB_SIZE - len(tokens) - 95 - len(rules))
    merges = rules + merges
    tokens += alphabet + [left + right for left, right in merges]
    if len(tokens) != VOCAB_SIZE or len(set(tokens)) != VOCAB_SIZE:
        raise ValueError(f"{len(tokens)} tokens, {len(set(tokens))} of them different")
    tokenizer = Tokenizer(
        models.BPE(
            vocab={token: i for i, token in enumerate(tokens)},
            merges=run_merges() + merges,
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_special_tokens(list(CONTROL.values()))
    return tokenizer


def write(texts: list[str], folder: Path) -> Tokenizer:
    """The tokenizer learnt from texts, after writing its two files into folder."""
    tokenizer = build(texts)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = json.dumps(TOKENIZER_CONFIG, indent=2)
    (folder / "tokenizer_config.json").write_text(config + "\n", encoding="utf-8")
    return tokenizer
