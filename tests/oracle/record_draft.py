"""Record the drafts of transformers' draft model for the bundled model (golden/tiny_draft.json).

    python tests/oracle/record_draft.py

Needs torch and transformers. The weights are those of tests/support/builders/draft_file.py
(random), loaded into Gemma4AssistantForCausalLM; the drafts are those of transformers'
SinglePositionMultiTokenCandidateGenerator, for questions and the first tokens of their answers.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoTokenizer,
    Gemma4AssistantConfig,
    Gemma4AssistantForCausalLM,
    Gemma4ForConditionalGeneration,
    Gemma4TextConfig,
)

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS.parent))

from tests.support.builders.draft_file import (  # noqa: E402
    BACKBONE,
    HEAD,
    IS_SWA,
    N_EMBD,
    N_FF,
    N_HEAD,
    N_VOCAB,
    draft_tensors,
)

TINY = TESTS.parent / "g4cli/data/tiny"
N_DRAFT = 3
# GGUF name after "blk.N." -> transformers' name after "model.layers.N."
LAYER = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_q_norm": "self_attn.q_norm",
    "attn_output": "self_attn.o_proj", "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj", "post_ffw_norm": "post_feedforward_layernorm",
}  # fmt: skip
MODEL = {
    "token_embd": "model.embed_tokens", "output_norm": "model.norm",
    "nextn.pre_projection": "pre_projection", "nextn.post_projection": "post_projection",
}  # fmt: skip


def make_draft_model() -> Gemma4AssistantForCausalLM:
    """The network of tests/support/builders/draft_file.py as transformers builds it."""
    text = Gemma4TextConfig(
        vocab_size=N_VOCAB,
        hidden_size=N_EMBD,
        intermediate_size=N_FF,
        num_hidden_layers=len(IS_SWA),
        num_attention_heads=N_HEAD,
        num_key_value_heads=1,
        head_dim=HEAD[True],
        global_head_dim=HEAD[False],
        sliding_window=128,
        num_kv_shared_layers=len(IS_SWA),
        hidden_size_per_layer_input=0,
        vocab_size_per_layer_input=0,
        use_double_wide_mlp=False,
        enable_moe_block=False,
        attention_k_eq_v=False,
        tie_word_embeddings=True,
        max_position_embeddings=2048,
        layer_types=["sliding_attention" if swa else "full_attention" for swa in IS_SWA],
    )
    # transformers 5.23.0 demands that some layer owns its keys; here all of them read the model's.
    modes = Gemma4TextConfig.kv_sharing_modes
    Gemma4TextConfig.kv_sharing_modes = property(
        lambda c: (
            ["reuse"] * c.num_hidden_layers
            if c.num_kv_shared_layers == c.num_hidden_layers
            else modes.fget(c)
        )
    )
    made = Gemma4AssistantForCausalLM(
        Gemma4AssistantConfig(
            text_config=text, backbone_hidden_size=BACKBONE, use_ordered_embeddings=False
        )
    ).eval()
    state = made.state_dict()
    for name, _, ne, data in draft_tensors():
        stem = name.removesuffix(".weight")
        if stem == "rope_freqs":
            continue
        if len(ne) == 2:
            values = (
                (np.frombuffer(data or b"", "<u2").astype("<u4") << 16)
                .view("<f4")
                .reshape(ne[::-1])
            )
        else:
            values = np.frombuffer(data or b"", "<f4")
        if stem.startswith("blk."):
            _, number, rest = stem.split(".")
            target = f"model.layers.{number}." + (
                "layer_scalar" if rest == "layer_output_scale" else LAYER[rest] + ".weight"
            )
        else:
            target = MODEL[stem] + ".weight"
        assert state[target].shape == values.shape, (target, state[target].shape, values.shape)
        state[target].copy_(torch.from_numpy(values.copy()))
    return made


@torch.no_grad()
def draft_tokens(model: Any, assistant: Any, tokens: list[int]) -> tuple[list[int], list[float]]:
    """The guesses behind `tokens`, whose last one the model has not seen yet, and how clear each
    was.
    """
    out = model(
        torch.tensor([tokens[:-1]]), output_hidden_states=True, return_shared_kv_states=True
    )
    hidden, token = out.hidden_states[-1][:, -1:], tokens[-1]
    found, margins = [], []
    for _ in range(N_DRAFT):
        embedded = model.get_input_embeddings()(torch.tensor([[token]]))
        step = assistant(
            inputs_embeds=torch.cat([embedded, hidden], dim=-1),
            position_ids=torch.tensor([[len(tokens) - 1]]),
            shared_kv_states=out.shared_kv_states,
            use_cache=False,
        )
        best = step.logits[0, -1].topk(2)
        token, hidden = int(best.indices[0]), step.last_hidden_state
        found.append(token)
        margins.append(round(float(best.values[0] - best.values[1]), 4))
    return found, margins


def main() -> None:
    model = Gemma4ForConditionalGeneration.from_pretrained(TINY, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    assistant = make_draft_model()
    rows = [
        json.loads(line)["messages"] for line in (TINY / "corpus.jsonl").read_text().splitlines()
    ]
    cases = []
    for number, messages in enumerate(rows[::40]):
        question, answer = messages[0]["content"], messages[1]["content"]
        text = f"<bos><|turn>user\n{question}<turn|>\n<|turn>model\n{answer}"
        tokens = tokenizer(text, add_special_tokens=False)["input_ids"][: 24 + 3 * number]
        found, margins = draft_tokens(model, assistant, tokens)
        cases.append({"tokens": tokens, "guesses": found, "margins": margins})
    # Beyond the sliding window: the network reads the last 128 positions in three of its four
    # layers.
    long = [2, *(300 + i * 37 % 400 for i in range(400))]
    found, margins = draft_tokens(model, assistant, long)
    cases.append({"tokens": long, "guesses": found, "margins": margins})
    path = TESTS / "golden/tiny_draft.json"
    path.write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
    print(path, len(cases), min(min(case["margins"]) for case in cases))


if __name__ == "__main__":
    main()
