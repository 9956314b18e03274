"""Make a small mmproj with random weights and record the embeddings of transformers' encoders.

    python tests/oracle/record_media.py LLAMA_CPP_SOURCES

writes tests/golden/tiny_mmproj.gguf (by llama.cpp's own converter) and tests/golden/tiny_media.npz:
the embeddings of one image and one sound. The image has 480 x 336 pixels, exactly 70 tokens, so
that neither program resizes it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from transformers.models.gemma4 import Gemma4Config, Gemma4ForConditionalGeneration
from transformers.models.gemma4.feature_extraction_gemma4 import Gemma4AudioFeatureExtractor
from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS.parent))
from tests.support.builders.media_files import picture, sound  # noqa: E402

TINY = TESTS.parent / "g4cli/data/tiny"
SEED = 1
VISION = {
    "model_type": "gemma4_vision", "hidden_size": 64, "intermediate_size": 128,
    "num_hidden_layers": 1,
    "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 32, "global_head_dim": 32,
    "position_embedding_size": 64, "patch_size": 16, "pooling_kernel_size": 3,
    "use_clipped_linears": True,
}  # fmt: skip
AUDIO = {
    "model_type": "gemma4_audio", "hidden_size": 64, "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "subsampling_conv_channels": [128, 4], "output_proj_dims": 64, "conv_kernel_size": 5,
}  # fmt: skip
TOKENS = {
    "boi_token_id": 255999, "eoi_token_id": 258882, "image_token_id": 258880,
    "video_token_id": 258884,
    "boa_token_id": 256000, "eoa_token_index": 258883, "audio_token_id": 258881,
}  # fmt: skip


def make_network() -> Gemma4ForConditionalGeneration:
    """The bundled text network with random towers, in BF16 values."""
    config = json.loads((TINY / "config.json").read_text())
    torch.manual_seed(SEED)
    model = Gemma4ForConditionalGeneration(
        Gemma4Config(**{**config, **TOKENS, "vision_config": VISION, "audio_config": AUDIO})
    )
    for name, weights in model.named_parameters():
        # The default spread of 0.02 would make every soft token nearly the same.
        if ("vision" in name or "audio" in name) and weights.ndim >= 2:
            torch.nn.init.normal_(weights, std=1.5 / weights[0].numel() ** 0.5)
    return model.to(torch.bfloat16)


def convert_network(model: Gemma4ForConditionalGeneration, sources: Path, out: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            shutil.copy(TINY / name, folder)
        processor = {"image_mean": [0.0] * 3, "image_std": [1.0] * 3, "feature_size": 128}
        (Path(folder) / "preprocessor_config.json").write_text(json.dumps(processor))
        script = sources / "convert_hf_to_gguf.py"
        command = [
            sys.executable,
            script,
            folder,
            "--outfile",
            out,
            "--outtype",
            "bf16",
            "--mmproj",
        ]
        subprocess.run(command, check=True)


def main() -> None:
    model = make_network()
    convert_network(model, Path(sys.argv[1]), TESTS / "golden/tiny_mmproj.gguf")
    model = model.float().eval()
    image = Gemma4ImageProcessorPil(max_soft_tokens=70)(picture(480, 336), return_tensors="pt")
    waves = sound(16000)
    audio = Gemma4AudioFeatureExtractor()([waves], sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        seen = model.model.get_image_features(image["pixel_values"], image["image_position_ids"])
        heard = model.model.get_audio_features(
            audio["input_features"], audio["input_features_mask"]
        )
    found = {
        "image": torch.cat(list(seen.pooler_output)).reshape(-1, 256).numpy(),
        "audio": torch.cat(list(heard.pooler_output)).reshape(-1, 256).numpy(),
    }
    np.savez_compressed(
        TESTS / "golden/tiny_media.npz", **{k: v.astype(np.float32) for k, v in found.items()}
    )
    print({k: v.shape for k, v in found.items()})


if __name__ == "__main__":
    main()
