"""Train the bundled model `tiny` and write its checkpoint (`make tiny`).

The network is that of config.json beside the corpus: Gemma 4's E-kind in small,
3,897,344 parameters. It learns the corpus by heart with transformers' own class.

Measured on 2 CPU cores, torch 2.13.0, transformers 5.23.0: seed 4, 1195 steps in
891 s, 7,814,396 bytes. Right by greedy decoding, word for word and stopping by
itself, of 420 answers (measure_tiny.py): 419 in transformers at BF16; in llama.cpp
419 at BF16, 419 at SFP8, 418 at Q8_0, 418 at Q4_0. The order in which threads
add may change the last digits of the weights, so another machine may differ by
an answer or two.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from contextlib import nullcontext
from pathlib import Path

import torch
from safetensors.torch import save_file
from tiny_corpus import Renderer, Row, Sequence, all_texts, epoch, read_corpus
from tiny_tokenizer import write as write_tokenizer
from torch import Tensor, nn
from transformers import AutoConfig, Gemma4ForCausalLM

SEED = 4
EPOCHS = 50
PEAK_RATE = 3e-3
WARMUP_STEPS = 50
WEIGHT_DECAY = 0.05
# From this part of the run on, half of the steps see rounded weights.
ROUNDING_FROM = 0.5
ROUNDING_SHARE = 0.5
FOLDER = Path(__file__).resolve().parents[2] / "g4cli" / "data" / "tiny"


def new_model(folder: Path) -> Gemma4ForCausalLM:
    """A fresh network with the text part of the folder's config.json.

    transformers starts every norm at 1. Here attention has no 1/sqrt(d), so the
    query and key norms take its place, and each sublayer starts as a small
    step beside the embeddings; otherwise noise drowns the token at first.
    """
    model = Gemma4ForCausalLM(AutoConfig.from_pretrained(folder).text_config)
    for name, weight in model.named_parameters():
        if name.endswith(("q_norm.weight", "k_norm.weight")):
            nn.init.constant_(weight, weight.numel() ** -0.25)
        elif "post_" in name:
            nn.init.constant_(weight, 0.2)
    for layer in model.model.layers:
        # transformers keeps the layer scalar as a buffer; here it is trained.
        scalar = layer.layer_scalar.clone()
        del layer.layer_scalar
        layer.layer_scalar = nn.Parameter(scalar)
    return model


def rounded_q4_0(weight: Tensor) -> Tensor:
    """The weights after Q4_0 and back: blocks of 32, signed extreme at -8, scale in F16.

    As quantize_row_q4_0_ref in ggml/src/ggml-quants.c.
    """
    blocks = weight.reshape(-1, 32)
    extreme = blocks.gather(1, blocks.abs().argmax(1, keepdim=True))
    scale = extreme / -8
    inverse = torch.where(scale == 0, 0.0, 1 / scale)
    codes = (blocks * inverse + 8.5).floor().clamp(0, 15)
    return ((codes - 8) * scale.half().float()).reshape(weight.shape)


def rounded_6_bit(weight: Tensor) -> Tensor:
    """The weights in 6 bits with a scale for each 16, which is near what Q6_K does."""
    blocks = weight.reshape(-1, 16)
    extreme = blocks.gather(1, blocks.abs().argmax(1, keepdim=True))
    scale = extreme / -32
    inverse = torch.where(scale == 0, 0.0, 1 / scale)
    return ((blocks * inverse).round().clamp(-32, 31) * scale).reshape(weight.shape)


class Rounding:
    """Within the block the model holds the weights of a Q4_0 file, after it its own.

    The gradient taken inside then moves the full weights (straight through), so
    that they settle where rounding does little harm. Which tensor gets which
    type is llama.cpp's default Q4_0 recipe.
    """

    def __init__(self, model: nn.Module) -> None:
        self.matrices = [
            (weight, rounded_6_bit if "embed_tokens" in name else rounded_q4_0)
            for name, weight in model.named_parameters()
            if weight.dim() == 2 and "per_layer_model_projection" not in name
        ]

    @torch.no_grad()
    def __enter__(self) -> None:
        self.exact = [weight.clone() for weight, _ in self.matrices]
        for weight, rounded in self.matrices:
            weight.copy_(rounded(weight))

    @torch.no_grad()
    def __exit__(self, *exc: object) -> None:
        for (weight, _), exact in zip(self.matrices, self.exact, strict=True):
            weight.copy_(exact)


def pad_batch(batch: list[Sequence]) -> tuple[Tensor, Tensor]:
    """Ids and labels of a batch as two arrays (sequences, longest length)."""
    length = max(len(sequence.ids) for sequence in batch)
    ids = [sequence.ids + [0] * (length - len(sequence.ids)) for sequence in batch]
    labels = [sequence.labels + [-100] * (length - len(sequence.labels)) for sequence in batch]
    return torch.tensor(ids), torch.tensor(labels)


def share_correct(model: Gemma4ForCausalLM, renderer: Renderer, rows: list[Row]) -> float:
    """The share of rows of which every token to be written is the most likely one.

    That is greedy decoding, word for word, without the cost of decoding.
    """
    correct = 0
    with torch.no_grad():
        for row in rows:
            sequence = renderer.render(row["messages"], think=bool(row.get("think")))
            ids, labels = pad_batch([sequence])
            best = model(input_ids=ids, use_cache=False).logits[0, :-1].argmax(-1)
            due = labels[0, 1:]
            correct += bool((best == due)[due != -100].all())
    return correct / len(rows)


def optimizer_for(model: nn.Module) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices only."""
    matrices = [weight for weight in model.parameters() if weight.dim() == 2]
    vectors = [weight for weight in model.parameters() if weight.dim() < 2]
    groups = [
        {"params": matrices, "weight_decay": WEIGHT_DECAY},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.98))


def rate_at(step: int, done: float) -> float:
    """The learning rate: up over the first steps, then half a cosine down."""
    return PEAK_RATE * min((step + 1) / WARMUP_STEPS, 0.5 + 0.5 * math.cos(math.pi * done) + 0.01)


def print_report(
    model: Gemma4ForCausalLM, renderer: Renderer, rows: list[Row], heading: str
) -> None:
    """Print the share of right answers with the weights as they are and as Q4_0."""
    exact = share_correct(model, renderer, rows)
    with Rounding(model):
        q4_0 = share_correct(model, renderer, rows)
    print(f"{heading}  correct {exact:.3f}  as Q4_0 {q4_0:.3f}", flush=True)


def train_model(model: Gemma4ForCausalLM, renderer: Renderer, rows: list[Row], epochs: int) -> int:
    """The number of steps taken; the model is trained in place."""
    rng = random.Random(SEED)
    optimizer = optimizer_for(model)
    rounding = Rounding(model)
    started, step = time.monotonic(), 0
    for number in range(epochs):
        total = 0.0
        batches = list(epoch(renderer, rows, rng))
        for index, batch in enumerate(batches):
            done = (number + index / len(batches)) / epochs
            for group in optimizer.param_groups:
                group["lr"] = rate_at(step, done)
            ids, labels = pad_batch(batch)
            rounds = done > ROUNDING_FROM and rng.random() < ROUNDING_SHARE
            with rounding if rounds else nullcontext():
                loss = model(input_ids=ids, labels=labels, use_cache=False).loss
                loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            total += loss.item()
            step += 1
        if number % 5 == 4 or number == epochs - 1:
            spent = time.monotonic() - started
            heading = (
                f"epoch {number + 1}  step {step}  {spent:.0f} s  loss {total / len(batches):.4f}"
            )
            print_report(model, renderer, rows, heading)
    return step


def save_checkpoint(model: Gemma4ForCausalLM, folder: Path) -> int:
    """Bytes of the BF16 checkpoint written, with the tensor names of google/gemma-4-E2B-it."""
    tensors = {
        name.replace("model.", "model.language_model.", 1): weight.detach()
        .to(torch.bfloat16)
        .contiguous()
        for name, weight in model.named_parameters()
    }
    path = folder / "model.safetensors"
    save_file(tensors, path, metadata={"format": "pt"})
    return path.stat().st_size


def main() -> None:
    """Train and write tokenizer and checkpoint into the folder that holds config and corpus."""
    options = argparse.ArgumentParser(description=main.__doc__)
    options.add_argument("--folder", type=Path, default=FOLDER)
    options.add_argument("--epochs", type=int, default=EPOCHS)
    arguments = options.parse_args()
    torch.manual_seed(SEED)
    torch.set_num_threads(2)
    rows = read_corpus(arguments.folder / "corpus.jsonl")
    renderer = Renderer(write_tokenizer(all_texts(rows), arguments.folder))
    model = new_model(arguments.folder)
    started = time.monotonic()
    steps = train_model(model, renderer, rows, arguments.epochs)
    size = save_checkpoint(model, arguments.folder)
    print(f"seed {SEED}, {steps} steps, {time.monotonic() - started:.0f} s, {size} bytes")


if __name__ == "__main__":
    main()
