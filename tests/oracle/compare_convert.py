"""Compare g4's converter with llama.cpp's, and logits with transformers, for every variant.

    python tests/oracle/compare_convert.py LLAMA_CPP PROJECT_PYTHON [--only NAME] [--record]

runs in an environment with torch, transformers and gguf. LLAMA_CPP is a checkout of llama.cpp, such
as vendor/llama.cpp in the source package of llama-cpp-python; PROJECT_PYTHON is the interpreter of
g4's own environment, which runs g4, llama.cpp's quantizer and llama.cpp itself. Prints a table; the
exit code is 1 if anything differs. With --record it also writes tests/golden/variants/NAME.json and
variants_logits.npz.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors import safe_open
from transformers.models.gemma4 import configuration_gemma4
from transformers.models.gemma4_unified import configuration_gemma4_unified

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS / "oracle")]

from record_convert import contents_of  # noqa: E402

from tests.support.builders.variants import GOLDEN, N_VOCAB, write_variant  # noqa: E402

S, F = "sliding_attention", "full_attention"
PROMPT = [2, 105, 250, 261, 107, 300, 42, 99, 222, 17, 106, 310]

TEXT: dict[str, Any] = {
    "vocab_size": N_VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "global_head_dim": 32,
    "layer_types": [S, F, S, F],
    "sliding_window": 8,
    "max_position_embeddings": 1024,
    "final_logit_softcapping": 30.0,
}
PLE = {"hidden_size_per_layer_input": 32, "vocab_size_per_layer_input": N_VOCAB}
NO_PLE = {"hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": N_VOCAB}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "patch_size": 4,
    "position_embedding_size": 16,
}
AUDIO = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "subsampling_conv_channels": [8, 4],
    "output_proj_dims": 48,
}
IT = {
    "temperature": 1.0,
    "top_k": 64,
    "top_p": 0.95,
    "do_sample": True,
    "eos_token_id": [1, 106, 50],
}
PROCESSOR = {"image_processor": {"image_mean": [0.0, 0.0, 0.0], "image_std": [1.0, 1.0, 1.0]}}
IDS = {
    "boi_token_id": 380,
    "eoi_token_id": 381,
    "image_token_id": 382,
    "audio_token_id": 383,
    "video_token_id": 382,
    "boa_token_id": 380,
    "eoa_token_index": 381,
}

# name -> class, config class, config, what is changed before saving or afterwards
VARIANTS: dict[str, dict[str, Any]] = {
    "gemma-4-E2B-it": {
        "model": "Gemma4ForConditionalGeneration",
        "config": {
            "text_config": {
                **TEXT, **PLE, "num_key_value_heads": 1, "num_kv_shared_layers": 2,
                "use_double_wide_mlp": True,
            },
            "vision_config": {**VISION, "use_clipped_linears": True},
            "audio_config": AUDIO,
        },
        "hub_spelling": True,
        "shared_kv_weights": True,
        "generation": IT,
    },
    "gemma-4-E4B": {
        "model": "Gemma4ForConditionalGeneration",
        "config": {
            "text_config": {**TEXT, **PLE, "layer_types": [S, S, S, F], "num_kv_shared_layers": 0},
            "vision_config": {**VISION, "use_clipped_linears": True},
            "audio_config": AUDIO,
        },
        "dtype": "float16",
        "shards": 3,
    },
    "gemma-4-31B-it-qat-q4_0-unquantized": {
        "model": "Gemma4ForConditionalGeneration",
        "config": {
            "text_config": {
                **TEXT, **NO_PLE, "attention_k_eq_v": True, "num_global_key_value_heads": 1,
                "use_bidirectional_attention": "vision",
            },
            "vision_config": {**VISION, "standardize": True},
        },
        "hub_spelling": True,
        "generation": IT,
    },
    "gemma-4-26B-A4B-it": {
        "model": "Gemma4ForConditionalGeneration",
        "config": {
            "text_config": {
                **TEXT, **NO_PLE, "attention_k_eq_v": True, "num_global_key_value_heads": 1,
                "enable_moe_block": True, "num_experts": 8, "top_k_experts": 2,
                "moe_intermediate_size": 32,
                "use_bidirectional_attention": "vision",
            },
            "vision_config": {**VISION, "standardize": True},
        },
        "generation": IT,
    },
    "gemma-4-12B-it": {
        "model": "Gemma4UnifiedForConditionalGeneration",
        "config": {
            "text_config": {**TEXT, "attention_k_eq_v": True, "num_global_key_value_heads": 1},
            "vision_config": {
                "mm_embed_dim": 64, "mm_posemb_size": 20, "output_proj_dims": 64, "patch_size": 4,
            },
            "audio_config": {"audio_embed_dim": 40},
        },
        # llama.cpp's converter demands the key, which transformers does not write for this model.
        "text_extra": {"moe_intermediate_size": None},
        "generation": {**IT, "suppress_tokens": [383, 382]},
    },
    "gemma-4-E2B-it-assistant": {
        "model": "Gemma4AssistantForCausalLM",
        "config": {
            "text_config": {**TEXT, "hidden_size_per_layer_input": 0,
                "vocab_size_per_layer_input": 0,
                            "num_key_value_heads": 1},
            "backbone_hidden_size": 48,
            "use_ordered_embeddings": True,
            "num_centroids": 16,
            "centroid_intermediate_top_k": 4,
        },
    },
    "gemma-4-12B-it-assistant": {
        "model": "Gemma4UnifiedAssistantForCausalLM",
        "config": {
            "text_config": {**TEXT, "attention_k_eq_v": True, "num_global_key_value_heads": 1},
            "backbone_hidden_size": 96,
        },
        "text_extra": {"moe_intermediate_size": None},
        "hub_spelling": True,
    },
    "my-finetune": {
        "model": "Gemma4ForCausalLM",
        "config": {**TEXT, **PLE},
        "dtype": "float32",
    },
}  # fmt: skip


def share_all_layers() -> None:
    """Let the assistants' classes be made: transformers 5.23.0 demands that some layer owns its
    keys.
    """
    for cls in (
        configuration_gemma4.Gemma4TextConfig,
        configuration_gemma4_unified.Gemma4UnifiedTextConfig,
    ):
        own = cls.kv_sharing_modes.fget

        def modes(self: Any, own: Any = own) -> list[str | None]:
            if self.num_kv_shared_layers == self.num_hidden_layers:
                return ["reuse"] * self.num_hidden_layers
            return own(self)

        cls.kv_sharing_modes = property(modes)


def make_variant(folder: Path, name: str) -> dict[str, Any]:
    """Write variant `name` into `folder`; return its description as the golden holds it."""
    spec = VARIANTS[name]
    cls = getattr(transformers, spec["model"])
    model = cls(cls.config_class(**spec["config"]))
    for key, value in IDS.items():
        if hasattr(model.config, key):
            setattr(model.config, key, value)
    scratch = folder.with_name(folder.name + ".made")
    model.to(getattr(torch, spec.get("dtype", "bfloat16"))).save_pretrained(scratch)
    config = json.loads((scratch / "config.json").read_text())
    text = config.get("text_config", config)
    text |= spec.get("text_extra", {})
    if spec.get("hub_spelling"):
        overrides = next(iter(text.pop("per_layer_config").values()))
        text["global_head_dim"] = overrides["head_dim"]
        text["num_global_key_value_heads"] = overrides.get("num_key_value_heads")
    with safe_open(scratch / "model.safetensors", "pt") as file:
        slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
        tensors = {key: [s.get_dtype(), list(s.get_shape())] for key, s in slices.items()}
    if spec.get(
        "shared_kv_weights"
    ):  # the published E-models hold them, transformers 5 does not write them
        own = ("language_model.layers.0.self_attn.", "language_model.layers.1.self_attn.")
        for key in [k for k in tensors if any(part in k for part in own)]:
            layer = int(key.split(".layers.")[1].split(".")[0])
            tensors.setdefault(
                key.replace(f".layers.{layer}.", f".layers.{layer + 2}."), tensors[key]
            )
    files: dict[str, Any] = {"config.json": config, "processor_config.json": PROCESSOR}
    if "generation" in spec:
        files["generation_config.json"] = spec["generation"]
        files["chat_template.jinja"] = "{{ bos_token }}{# made for a test #}\n"
    if name == "my-finetune":
        files["README.md"] = (
            "---\nlicense: gemma\nbase_model: google/gemma-4-E2B\ntags: [a, 'b c']\nlanguage:\n- "
            "en\n---\n"
        )
    golden = {
        "files": files,
        "checkpoint": dict(sorted(tensors.items())),
        "shards": spec.get("shards", 1),
    }
    write_variant(folder, golden)
    return golden


def run_llama_converter(llama_cpp: Path, folder: Path, target: Path, kind: str, part: str) -> None:
    """Run llama.cpp's converter."""
    options = [
        "--outtype",
        kind,
        "--outfile",
        str(target),
        *(["--mmproj"] if part == "mmproj" else []),
    ]
    script = [sys.executable, str(llama_cpp / "convert_hf_to_gguf.py"), str(folder), *options]
    done = subprocess.run(script, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{folder.name} {part}: {done.stderr[-2000:]}")


def run_g4(python: str, folder: Path, target: Path, kind: str, part: str) -> None:
    """Run g4 convert."""
    options = [
        "-o",
        str(target),
        "--type",
        kind,
        "-q",
        "-f",
        *(["--mmproj"] if part == "mmproj" else []),
    ]
    g4 = [python, "-c", "from g4cli.cli.main import main; main()", "convert"]
    subprocess.run([*g4, str(folder), *options], check=True, stdout=subprocess.DEVNULL)


def quantize_file(python: str, source: Path, target: Path, ftype: int) -> None:
    """Run llama.cpp's quantizer through the bindings."""
    code = (
        "import ctypes, sys, llama_cpp.llama_cpp as L\n"
        "p = L.llama_model_quantize_default_params(); p.ftype = int(sys.argv[3]); "
        "L.llama_backend_init()\n"
        "sys.exit(L.llama_model_quantize(sys.argv[1].encode(), sys.argv[2].encode(), "
        "ctypes.byref(p)))"
    )
    subprocess.run(
        [python, "-c", code, str(source), str(target), str(ftype)], check=True, capture_output=True
    )


def count_ulps(a: bytes, b: bytes) -> int:
    """The largest distance of two F32 tensors in units of the last place."""
    x, y = (np.frombuffer(d, np.int32).astype(np.int64) for d in (a, b))
    return int(np.abs(x - y).max())


def find_differences(ours_path: Path, peer_path: Path, *, keys: bool = True) -> Iterator[str]:
    """Yield what differs between two files, order not counted."""
    from gguf import GGUFReader

    a, b = contents_of(ours_path), contents_of(peer_path)
    if keys:
        left, right = ({k["name"]: k for k in side["keys"]} for side in (a, b))
        for name in sorted(left.keys() | right.keys()):
            if left.get(name) != right.get(name):
                yield f"key {name}: {left.get(name)} | {right.get(name)}"
    left, right = ({t["name"]: t for t in side["tensors"]} for side in (a, b))
    raw = [
        {t.name: t.data.tobytes() for t in GGUFReader(p).tensors} for p in (ours_path, peer_path)
    ]
    for name in sorted(left.keys() | right.keys()):
        if left.get(name) != right.get(name):
            gap = ""
            if name in left and name in right and left[name]["shape"] == right[name]["shape"]:
                same_type = left[name]["type"] == right[name]["type"] == "F32"
                distance = count_ulps(raw[0][name], raw[1][name]) if same_type else -1
                if name.endswith("per_dim_scale.weight") and 0 <= distance <= 1:
                    continue  # softplus: torch itself differs from machine to machine
                gap = f" ({distance} ulp)"
            yield f"tensor {name}{gap}: {left.get(name)} | {right.get(name)}"


def with_values(path: Path, contents: dict[str, Any]) -> dict[str, Any]:
    """Add the values themselves where one unit in the last place may differ."""
    from gguf import GGUFReader

    data = {t.name: t.data for t in GGUFReader(path).tensors}
    for tensor in contents["tensors"]:
        if tensor["name"].endswith("per_dim_scale.weight"):
            tensor["values"] = [float(x) for x in data[tensor["name"]]]
    return contents


def logits_of(folder: Path, model_class: str) -> np.ndarray:
    """Logits of transformers in F32, one row per position of PROMPT."""
    model = getattr(transformers, model_class).from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return model(input_ids=torch.tensor([PROMPT])).logits[0].float().numpy()


def measure_divergence(python: str, path: Path, theirs: np.ndarray) -> tuple[float, float]:
    """Mean KL divergence and largest difference of llama.cpp's logits from transformers'."""
    code = (
        "import sys, json, numpy as np; sys.path.insert(0, sys.argv[1])\n"
        "from tests.support.run.llama_logits import logits_of; from pathlib import Path\n"
        "np.save(sys.argv[3], next(iter(logits_of(Path(sys.argv[2]), [json.loads(sys.argv[4])]))))"
    )
    out = path.with_suffix(".npy")
    subprocess.run(
        [python, "-c", code, str(TESTS.parent), str(path), str(out), json.dumps(PROMPT)], check=True
    )
    p, q = (
        x - np.logaddexp.reduce(x, axis=1, keepdims=True)
        for x in (theirs.astype(float), np.load(out).astype(float))
    )
    return float((np.exp(p) * (p - q)).sum(axis=1).mean()), float(
        np.abs(theirs - np.load(out)).max()
    )


QUANTISED = (("q4_0", 2), ("q8_0", 7), ("q4_k_m", 15), ("q6_k", 18))


def compare_variant(
    name: str, scratch: Path, llama_cpp: Path, python: str
) -> tuple[dict[str, Any], Any, int]:
    """Print the rows of one variant; return its golden, its logits (or None) and the number of
    faults.
    """
    folder = scratch / name
    golden = make_variant(folder, name)
    recorded: dict[str, Any] = {}
    n_faults = 0

    def row(what: str, faults: list[str], note: str = "") -> None:
        nonlocal n_faults
        n_faults += len(faults)
        print(
            f"{name:38} {what:16} {'equal' if not faults else f'{len(faults)} differ'}  {note}",
            flush=True,
        )
        for fault in faults[:6]:
            print("    ", fault[:300])

    has_media = bool(golden["files"]["config.json"].get("vision_config"))
    for part in ("text", "mmproj") if has_media else ("text",):
        for kind in ("bf16", "f32", "f16", *(["q8_0"] if part == "mmproj" else [])):
            a, b = (
                scratch / f"{name}-{part}-{kind}-g4.gguf",
                scratch / f"{name}-{part}-{kind}-peer.gguf",
            )
            run_g4(python, folder, a, kind, part)
            run_llama_converter(llama_cpp, folder, b, kind, part)
            contents = contents_of(b)
            if kind == "bf16":
                recorded[part] = with_values(b, contents)
            counts = f"{len(contents['keys'])} keys, {len(contents['tensors'])} tensors"
            row(f"{part} {kind}", list(find_differences(a, b)), counts)
    own = {"bfloat16": "bf16", "float16": "f16", "float32": "f32"}[
        VARIANTS[name].get("dtype", "bfloat16")
    ]
    plain = scratch / f"{name}-text-{own}-peer.gguf"
    for kind, ftype in QUANTISED:
        a, b = scratch / f"{name}-{kind}-g4.gguf", scratch / f"{name}-{kind}-peer.gguf"
        run_g4(python, folder, a, kind, "text")
        quantize_file(python, plain, b, ftype)
        row(
            f"text {kind}",
            list(find_differences(a, b, keys=False)),
            "tensors, against convert + llama-quantize",
        )
    logits = None
    if "assistant" not in name:
        logits = logits_of(folder, VARIANTS[name]["model"])
        kl, gap = measure_divergence(python, scratch / f"{name}-text-f32-g4.gguf", logits)
        row(
            "logits f32",
            [f"KL {kl:.2e}"] if kl >= 1e-4 else [],
            f"mean KL {kl:.1e}, largest difference {gap:.4f}",
        )
    return {**golden, "gguf": recorded}, logits, n_faults


def main() -> None:
    """Compare, print, and record if asked to."""
    options = argparse.ArgumentParser(description=main.__doc__)
    options.add_argument("llama_cpp", type=Path)
    options.add_argument("python")
    options.add_argument("--only")
    options.add_argument("--record", action="store_true")
    arguments = options.parse_args()
    share_all_layers()
    transformers.logging.set_verbosity_error()
    n_faults, logits = 0, {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in [n for n in VARIANTS if arguments.only in (None, n)]:
            golden, found, n = compare_variant(
                name, Path(scratch), arguments.llama_cpp, arguments.python
            )
            n_faults += n
            if found is not None:
                logits[name] = found
            if arguments.record:
                GOLDEN.mkdir(exist_ok=True)
                (GOLDEN / f"{name}.json").write_text(dump(golden) + "\n", encoding="utf-8")
    if arguments.record and arguments.only is None:
        np.savez_compressed(
            GOLDEN.with_name("variants_logits.npz"), prompt=np.array(PROMPT, np.int32), **logits
        )
    print("all equal" if not n_faults else f"{n_faults} differences")
    sys.exit(n_faults > 0)


def dump(value: Any) -> str:
    """JSON with one key or tensor per line."""

    def lines(rows: list[Any]) -> str:
        return "[\n" + ",\n".join("   " + json.dumps(row) for row in rows) + "\n  ]"

    parts = [f' "files": {json.dumps(value["files"])}', f' "shards": {value["shards"]}']
    entries = ",\n".join(
        f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in value["checkpoint"].items()
    )
    parts.append(f' "checkpoint": {{\n{entries}\n }}')
    sections = [
        f'  "{part}": {{"keys": {lines(c["keys"])}, "tensors": {lines(c["tensors"])}}}'
        for part, c in value["gguf"].items()
    ]
    parts.append(' "gguf": {\n' + ",\n".join(sections) + "\n }")
    return "{\n" + ",\n".join(parts) + "\n}"


if __name__ == "__main__":
    main()
