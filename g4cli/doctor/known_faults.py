"""Known faults of engines and converters: the one table of them.

The checks read what concerns tensor types, `g4 doctor FILE --loop` what concerns conditions, and
docs/reference/known-faults.md is generated from it. Each row was read in the sources that it names.
A row says what is known and no more: most published reports of loops name no cause.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

Symptom: TypeAlias = Literal["loop", "garbage", "empty", "hang", "wrong"]
"""What the user sees.

loop      the same tokens again and again
garbage   gibberish, or a stream of <unusedNN> or padding tokens
empty     no answer, or one that ends at once
hang      no further tokens, or a crash
wrong     an answer of lower quality
"""

Condition: TypeAlias = Literal[
    "always", "gpu", "kv-in-host-memory", "long-context", "kv-quantized", "rotation-off",
    "flash-attention-on", "flash-attention-off", "large-batch", "bos-missing", "template",
    "thinking-on", "thinking-off", "tools", "schema", "greedy", "drafting", "second-request",
]  # fmt: skip
"""A circumstance without which the symptom does not show; `--loop` varies most of them.

"rotation-off": llama.cpp does not rotate keys and values before it quantizes them for the KV cache.
"""

ENGINE_DATE: Final = "2026-10-01"
"""The date of the llama.cpp in the llama-cpp-python that g4 requires (commit 0c1e57098)."""


@dataclass(frozen=True, slots=True)
class KnownFault:
    """One fault of an engine, a converter or a model.

    It shows as `symptoms` where all `conditions` hold, with those `builds` of the program `engine`.
    `source` names the reports, as OWNER/REPO#ISSUE on GitHub. `backends` are the llama.cpp backends
    that are concerned, () for any. `fixed_in` says which change ended it, "" where none did;
    `fixed_on` is the day of that change (ISO), "" if unknown. `tensor_types` and `release` let a
    check recognize it before the file runs: tensors of these types are computed wrongly if
    llama.cpp was built with that release of the backend's toolkit (CUDA 13.2).
    """

    id: str
    title: str
    symptoms: tuple[Symptom, ...]
    conditions: tuple[Condition, ...]
    builds: str
    source: str
    engine: str = "llama.cpp"
    workaround: str = "update the program that runs the model"
    backends: tuple[str, ...] = ()
    fixed_in: str = ""
    fixed_on: str = ""
    tensor_types: frozenset[str] = frozenset()
    release: str = ""

    @property
    def is_fixed_here(self) -> bool:
        """Whether the llama.cpp that g4 requires is newer than the fix."""
        return self.engine == "llama.cpp" and "" < self.fixed_on <= ENGINE_DATE

    @property
    def symptom_text(self) -> str:
        """What messages say that it gives: "gibberish or repetition"."""
        return " or ".join(SYMPTOMS[symptom] for symptom in self.symptoms)


KNOWN_FAULTS: Final[tuple[KnownFault, ...]] = (
    # --- Kernels of GPUs, and compilers ---
    KnownFault(
        "cuda-13.2-iq",
        "NVIDIA's compiler of CUDA 13.2 miscompiles __byte_perm",
        symptoms=("garbage",),
        conditions=("gpu",),
        builds="compiled with CUDA 13.2",
        source="ggml-org/llama.cpp#28581",
        workaround="use a build with CUDA 13.1, 13.3 or later",
        backends=("CUDA",),
        fixed_in="CUDA 13.3; worked around in ggml-org/llama.cpp#28784",
        tensor_types=frozenset(("IQ1_S", "IQ2_S", "IQ3_S", "IQ3_XXS")),
        release="13.2",
    ),
    KnownFault(
        "cuda-fused-gemv",
        "buffers of fused matrix-vector products overlap",
        symptoms=("garbage", "loop"),
        conditions=("gpu",),
        builds="before 2026-04-07",
        source="ggml-org/llama.cpp#21321",
        backends=("CUDA",),
        fixed_in="ggml-org/llama.cpp#21566",
        fixed_on="2026-04-07",
    ),
    KnownFault(
        "hip-gfx1151",
        "wrong numbers on gfx1151 from 3,400 tokens of prompt on; Vulkan and CPU are right",
        symptoms=("garbage", "loop"),
        conditions=("gpu", "long-context"),
        builds="with ROCm of summer 2026",
        source="ggml-org/llama.cpp#26239, #27579, ROCm/TheRock#7714",
        workaround="use the Vulkan backend or the CPU",
        backends=("ROCm", "HIP"),
    ),
    KnownFault(
        "hip-host-access",
        "the GPU reads host memory before it is written",
        symptoms=("garbage",),
        conditions=("gpu",),
        builds="before September 2026",
        source="ggml-org/llama.cpp#28574",
        backends=("ROCm", "HIP"),
        fixed_in="ggml-org/llama.cpp#28604",
    ),
    KnownFault(
        "vulkan-mmvq",
        "a fused product repeats tokens with all layers of the 26B network on gfx1150",
        symptoms=("loop",),
        conditions=("gpu",),
        builds="not known",
        source="ggml-org/llama.cpp#27007",
        workaround="use the CPU, or fewer layers on the GPU",
        backends=("Vulkan",),
    ),
    KnownFault(
        "vulkan-experts",
        "products of experts give <unused> tokens",
        symptoms=("garbage",),
        conditions=("gpu",),
        builds="spring and summer 2026",
        source="ggml-org/llama.cpp#21516, #25777, #24560",
        workaround="use the CPU",
        backends=("Vulkan",),
    ),
    KnownFault(
        "vulkan-long-reasoning",
        "reasoning ends in growing garbage (31B, Q8_0), on GPUs of two makers",
        symptoms=("garbage",),
        conditions=("gpu", "thinking-on"),
        builds="open in September 2026",
        source="ggml-org/llama.cpp#28827",
        workaround="use the CPU or another backend",
        backends=("Vulkan",),
    ),
    KnownFault(
        "sycl-no-flash-attention",
        "gibberish without flash attention",
        symptoms=("garbage",),
        conditions=("gpu", "flash-attention-off"),
        builds="May 2026",
        source="ggml-org/llama.cpp#23341",
        workaround="leave flash attention on",
        backends=("SYCL",),
    ),
    KnownFault(
        "metal-f16-overflow",
        "16-bit sums overflow in products of experts",
        symptoms=("garbage", "empty"),
        conditions=("gpu",),
        builds="summer 2026",
        source="ggml-org/llama.cpp#25389, #25442",
        backends=("Metal", "MTL"),
        fixed_in="ggml-org/llama.cpp#26223",
    ),
    KnownFault(
        "ollama-flash-attention-dense",
        "flash attention stalls on dense networks (31B) after 500 tokens",
        symptoms=("hang",),
        conditions=("gpu", "flash-attention-on"),
        engine="Ollama",
        builds="before 2026-04-07",
        source="ollama/ollama#15350, #15368",
        workaround="update Ollama, or switch flash attention off",
        fixed_in="ollama/ollama#15378",
        fixed_on="2026-04-07",
    ),
    KnownFault(
        "kv-in-host-memory",
        "gibberish with the KV cache in host memory and the network on a GPU",
        symptoms=("garbage",),
        conditions=("gpu", "kv-in-host-memory"),
        builds="April 2026",
        source="ggml-org/llama.cpp#21726",
        workaround="leave the KV cache on the GPU",
        backends=("CUDA",),
        fixed_in="closed; the change is not named",
    ),
    # --- KV cache and context ---
    KnownFault(
        "kv-rotation-off",
        "a quantized KV cache without the rotation of its values loses precision",
        symptoms=("loop", "wrong"),
        conditions=("kv-quantized", "rotation-off"),
        builds="before the rotation was on for Gemma 4, or with LLAMA_ATTN_ROT_DISABLE=1",
        source="ggml-org/llama.cpp#21394, #21513",
        workaround="update, unset LLAMA_ATTN_ROT_DISABLE, or --kv-type f16",
        fixed_in="the rotation is on for Gemma 4 in llama.cpp of 2026-10-01",
        fixed_on="2026-10-01",
    ),
    KnownFault(
        "kv-quantized",
        "a quantized KV cache makes long answers repeat; sliding-window networks suffer more",
        symptoms=("loop", "wrong"),
        conditions=("kv-quantized",),
        builds="reported; no build is named",
        source="ggml-org/llama.cpp#21394, ikawrakow/ik_llama.cpp#1572",
        workaround="--kv-type f16, or q8_0 instead of q4_0",
    ),
    KnownFault(
        "kv-quantized-long",
        "a quantized KV cache degrades with the length of the context",
        symptoms=("loop", "wrong"),
        conditions=("kv-quantized", "long-context"),
        builds="reported; no build is named",
        source="ggml-org/llama.cpp#21394",
        workaround="--kv-type f16",
    ),
    KnownFault(
        "checkpoints-beyond-window",
        "a checkpoint of the sliding window beyond the next position is restored",
        symptoms=("garbage", "wrong"),
        conditions=("second-request",),
        builds="llama-server before 2026-06-10",
        source="ggml-org/llama.cpp#21769, #22288",
        workaround="update llama-server, or --swa-full",
        fixed_in="ggml-org/llama.cpp#24411",
        fixed_on="2026-06-10",
    ),
    KnownFault(
        "long-context-collapse",
        "a token is repeated at random after some ten thousand tokens, without a known trigger",
        symptoms=("loop",),
        conditions=("long-context",),
        engine="the model",
        builds="every engine",
        source="ggml-org/llama.cpp#21365, #21799",
        workaround="a shorter context, or a larger quantization",
    ),
    # --- Prompt ---
    KnownFault(
        "bos-missing",
        "files whose tokenizer.ggml.add_bos_token is false run without <bos>",
        symptoms=("loop", "garbage"),
        conditions=("bos-missing",),
        builds="before 2026-04-06",
        source="ggml-org/llama.cpp#21500, vllm-project/vllm#39842",
        workaround="update, or a file whose add_bos_token is true: g4 doctor FILE --fix OUT",
        fixed_in="ggml-org/llama.cpp#21500",
        fixed_on="2026-04-06",
    ),
    KnownFault(
        "template-missing",
        "without a template in the file programs fall back to another model's format",
        symptoms=("loop", "garbage"),
        conditions=("template",),
        engine="any program",
        builds="files without tokenizer.chat_template",
        source="block/goose#9110, Blaizzy/mlx-vlm#1099",
        workaround="g4 doctor FILE --fix OUT",
    ),
    KnownFault(
        "template-launch",
        "the template of launch day renders tool calls and results wrongly",
        symptoms=("loop", "wrong"),
        conditions=("tools", "template"),
        builds="files converted before 2026-04-10",
        source="ggml-org/llama.cpp#21704, lmstudio-ai/lmstudio-bug-tracker#1732",
        workaround="g4 doctor FILE --fix OUT, or a newer file",
        fixed_in="ggml-org/llama.cpp#21704",
        fixed_on="2026-04-10",
    ),
    KnownFault(
        "tokenizer-launch",
        "Gemma 4's vocabulary was split as SentencePiece instead of BPE",
        symptoms=("wrong", "loop"),
        conditions=("tools",),
        builds="before 2026-04-03",
        source="ggml-org/llama.cpp#21343",
        fixed_in="ggml-org/llama.cpp#21343",
        fixed_on="2026-04-03",
    ),
    # --- The model itself ---
    KnownFault(
        "constrained-collapse",
        "words double, then one token is repeated, in long text under a JSON schema",
        symptoms=("loop",),
        conditions=("schema",),
        engine="the model",
        builds="every engine; without a schema the same questions are answered",
        source="ollama/ollama#15502, vllm-project/vllm#40080, google-deepmind/gemma#622",
        workaround="ask for shorter strings, or without a schema",
    ),
    KnownFault(
        "tools-collapse",
        "words double, then one token is repeated, where tools are declared",
        symptoms=("loop",),
        conditions=("tools",),
        engine="the model",
        builds="every engine; without tools the same questions are answered",
        source="vllm-project/vllm#40080, lablup/mlxcel#432",
        workaround="declare the tools only where they are needed",
    ),
    KnownFault(
        "thinking-off-empty",
        "26B ends its answer after four tokens in long exchanges with tools",
        symptoms=("empty",),
        conditions=("thinking-off", "tools"),
        engine="the model",
        builds="every engine",
        source="ollama/ollama#17459",
        workaround="leave thinking on there",
    ),
    KnownFault(
        "continued-turn",
        "the 31B network repeats itself where its turn begins without the empty thought",
        symptoms=("loop",),
        conditions=("template", "thinking-off"),
        engine="the model",
        builds="every engine",
        source="LostRuins/koboldcpp#2096",
        workaround="a program that writes the empty thought, as g4 does",
    ),
    KnownFault(
        "greedy-collapse",
        "greedy decoding, or a very low temperature, makes small networks repeat themselves",
        symptoms=("loop",),
        conditions=("greedy",),
        engine="the model",
        builds="every engine",
        source="arXiv 2206.02369",
        workaround="the recommended sampling: --temp 1.0 --top-k 64 --top-p 0.95",
    ),
    # --- Drafting ---
    KnownFault(
        "drafting",
        "drafts that are wrong are kept, or the window is not rolled back",
        symptoms=("loop", "wrong"),
        conditions=("drafting",),
        builds="reported in 2026",
        source="ggml-org/llama.cpp#23398, #24376, #24623",
        workaround="--draft off",
    ),
    # --- Files ---
    KnownFault(
        "damaged-file",
        "the weights are damaged, or were converted wrongly",
        symptoms=("loop", "garbage"),
        conditions=("always",),
        engine="the file",
        builds="every engine and every prompt",
        source="ggml-org/llama.cpp#8661, ikawrakow/ik_llama.cpp#2437",
        workaround="g4 doctor FILE --deep, then download or convert the file again",
    ),
)


SYMPTOMS: Final[Mapping[Symptom, str]] = MappingProxyType(
    {
        "loop": "repetition",
        "garbage": "gibberish",
        "empty": "empty answers",
        "hang": "a hang or a crash",
        "wrong": "worse answers",
    }
)
"""What messages call a symptom."""


def find_fault(fault_id: str) -> KnownFault:
    """Return the fault with that id. Raises KeyError."""
    return {fault.id: fault for fault in KNOWN_FAULTS}[fault_id]


def find_type_faults(tensor_types: Collection[str]) -> tuple[KnownFault, ...]:
    """Return the faults that concern a file with tensors of these types."""
    types = set(tensor_types)
    return tuple(fault for fault in KNOWN_FAULTS if fault.tensor_types & types)


def match_faults(
    conditions: Collection[str], symptom: str, backend: str = ""
) -> tuple[KnownFault, ...]:
    """Return the faults that show as `symptom` under these conditions, the likeliest first.

    `backend` is the one whose answers are wrong ("CUDA", "Vulkan" ...), "" where the CPU's are: a
    fault of other backends does not fit. Faults that need all of `conditions` come before those
    that need a part of them, and faults of the llama.cpp that g4 requires before those fixed there.
    """
    seen = set(conditions) or {"always"}

    def fits(fault: KnownFault) -> bool:
        on_backend = not fault.backends or any(map(backend.startswith, fault.backends))
        return symptom in fault.symptoms and set(fault.conditions) <= seen and on_backend

    def rank(fault: KnownFault) -> tuple[bool, ...]:
        needs = set(fault.conditions)
        # Of the conditions, the length of the context alone explains least.
        return needs != seen, fault.is_fixed_here, not fault.backends, needs == {"long-context"}

    return tuple(sorted(filter(fits, KNOWN_FAULTS), key=rank))


def find_release(backend: str, backends: Mapping[str, Any]) -> str | None:
    """Return the release of a backend of the installed llama.cpp.

    It is '' if unknown, None if the backend is absent. `backends` is what `probe.engine` reads:
    {"backends": {name: ...}, "cuda": {"runtime": "13.1"}, ...}.
    """
    if backend not in backends.get("backends", {}):
        return None
    return str(backends.get(backend.lower(), {}).get("runtime", ""))
