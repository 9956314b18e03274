"""The models that g4 knows by name: their shapes, repositories and published files.

Sources: config.json of google/gemma-4-* and the listings of the hub in November 2026. Sizes are
those of that time. They are shown before the hub answers, but never identify a file, because
publishers replace files; the hub's listing does.

    tiny                          bundled with g4, converted on this machine
    e2b e4b 12b 26b 31b           the instruction-tuned models (-it)
    e2b-base ... 31b-base         the pre-trained models, converted from Google's checkpoints
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Final

from g4cli.core.draft import DraftShape
from g4cli.core.errors import UnknownModel, UsageError
from g4cli.core.shape import Shape


@dataclass(frozen=True, slots=True)
class Published:
    """A GGUF of one type in a repository of the hub; its size is 0 if it is not known.

    `is_qat`: the weights were trained for this type (quantization-aware training).
    """

    type: str
    repo: str
    nbytes: int
    is_qat: bool = False


@dataclass(frozen=True, slots=True)
class Model:
    """A model that g4 knows.

    `checkpoint` is its repository, "" for the bundled one. `n_params` counts the weights of the
    text network. `published` are the GGUFs on the hub in order of preference: the first file of a
    type is used. `mmproj` are files of its encoder, `drafts` those of its draft model, whose shape
    is `draft_shape`.
    """

    name: str
    title: str
    checkpoint: str
    shape: Shape
    n_params: int
    default_type: str
    published: tuple[Published, ...] = ()
    mmproj: tuple[Published, ...] = ()
    drafts: tuple[Published, ...] = ()
    draft_shape: DraftShape | None = None

    @property
    def is_bundled(self) -> bool:
        """Whether the checkpoint is part of the package."""
        return not self.checkpoint

    @property
    def published_types(self) -> tuple[str, ...]:
        """The types of the published files, each once."""
        return tuple(dict.fromkeys(p.type for p in self.published))

    @property
    def types(self) -> tuple[str, ...]:
        """All types: published ones, then those that g4 creates on this machine."""
        return tuple(dict.fromkeys((*self.published_types, *MADE_TYPES)))

    def find_published(self, type_name: str) -> Published | None:
        """Return the preferred published file of `type_name`, or None if g4 has to create it."""
        return next((p for p in self.published if p.type == type_name), None)


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model and a type, written `e2b:q4_0`; `chosen` says whether the user named the type."""

    model: Model
    type: str
    chosen: bool

    def __str__(self) -> str:
        return f"{self.model.name}:{self.type}"


# Types that g4 creates itself, from a checkpoint or a BF16 file, roughly the most precise first:
# BF16 is what the models are published in, so F16 and F32 add nothing.
MADE_TYPES: Final = (
    "bf16",
    "f16",
    "f32",
    "sfp8",
    "q8_0",
    "q6_k",
    "q5_k_m",
    "q5_k_s",
    "q5_1",
    "q5_0",
    "q4_k_m",
    "q4_k_s",
    "q4_1",
    "q4_0",
    "iq4_nl",
    "iq4_xs",
    "mxfp4",
    "q3_k_l",
    "q3_k_m",
    "q3_k_s",
    "q2_k",
)


def _layer_pattern(pattern: str, repeat: int) -> tuple[bool, ...]:
    """Return whether each layer is a sliding one: S in `pattern`, which is repeated; F is full."""
    return tuple(kind == "S" for kind in pattern * repeat)


def _small_shape(
    n_layer: int, n_embd: int, n_head_kv: int, n_ff: tuple[int, ...], pattern: str, n_shared_kv: int
) -> Shape:
    """Return the shape of E2B or E4B."""
    return Shape(
        n_layer=n_layer,
        n_embd=n_embd,
        n_vocab=262_144,
        n_ctx_train=131_072,
        n_head=(8,) * n_layer,
        n_head_kv=(n_head_kv,) * n_layer,
        n_ff=n_ff,
        is_swa=_layer_pattern(pattern, 7),
        head_dim=512,
        head_dim_swa=256,
        n_swa=512,
        n_shared_kv=n_shared_kv,
        n_embd_per_layer=256,
    )


def _large_shape(
    n_layer: int,
    n_embd: int,
    n_head: int,
    n_head_kv: tuple[int, int],
    n_ff: int,
    n_ff_expert: int = 0,
) -> Shape:
    """Return the shape of 12B, 26B or 31B; `n_head_kv` is that of sliding and of full layers."""
    is_swa = _layer_pattern("SSSSSF", n_layer // 6)
    kv_of_swa, kv_of_full = n_head_kv
    return Shape(
        n_layer=n_layer,
        n_embd=n_embd,
        n_vocab=262_144,
        n_ctx_train=262_144,
        n_head=(n_head,) * n_layer,
        n_head_kv=tuple(kv_of_swa if sliding else kv_of_full for sliding in is_swa),
        n_ff=(n_ff,) * n_layer,
        is_swa=is_swa,
        head_dim=512,
        head_dim_swa=256,
        n_swa=1024,
        n_expert=128 if n_ff_expert else 0,
        n_expert_used=8 if n_ff_expert else 0,
        n_ff_expert=n_ff_expert,
        k_eq_v=True,
    )


def _draft_shape(target: Shape) -> DraftShape:
    """Return the shape of the published draft model for `target` (sources: draft.py)."""
    is_small = target in (_E2B, _E4B)
    n_embd, n_head, n_ff = (256, 4, 2048) if is_small else (1024, target.n_head[0], 8192)
    return DraftShape(
        n_layer=4,
        n_embd=n_embd,
        n_embd_out=target.n_embd,
        n_vocab=262_144,
        n_head=(n_head,) * 4,
        n_ff=(n_ff,) * 4,
        is_swa=_layer_pattern("SSSF", 1),
        head_dim=512,
        head_dim_swa=256,
    )


# The bundled network, from its config.json (g4cli/data/tiny).
_TINY: Final = Shape(
    n_layer=10,
    n_embd=256,
    n_vocab=768,
    n_ctx_train=2048,
    n_head=(2,) * 10,
    n_head_kv=(1,) * 10,
    n_ff=(64,) * 5 + (128,) * 5,
    is_swa=_layer_pattern("SSSSF", 2),
    head_dim=128,
    head_dim_swa=64,
    n_swa=128,
    n_shared_kv=5,
    n_embd_per_layer=128,
)
# Source of the others: convert_gemma4_weights.py and configuration_gemma4.py of transformers.
_E2B: Final = _small_shape(35, 1536, 1, (6144,) * 15 + (12_288,) * 20, "SSSSF", 20)
_E4B: Final = _small_shape(42, 2560, 2, (10_240,) * 42, "SSSSSF", 18)
_12B: Final = _large_shape(48, 3840, 16, (8, 1), 15_360)
_26B: Final = _large_shape(30, 2816, 16, (8, 2), 2112, n_ff_expert=704)
_31B: Final = _large_shape(60, 5376, 32, (16, 4), 21_504)

# The repositories of a publisher's instruction-tuned models; {} is the size.
_GOOGLE: Final = "google/gemma-4-{}-it-qat-q4_0-gguf"
_GGML: Final = "ggml-org/gemma-4-{}-it-GGUF"
_UNSLOTH: Final = "unsloth/gemma-4-{}-it-GGUF"


def _model(
    name: str,
    size: str,
    shape: Shape,
    n_params: int,
    *,
    files: tuple[tuple[str, str, int], ...],
    mmproj: tuple[int, int],
    draft: int = 0,
) -> Model:
    """Return an instruction-tuned model; `size` is its publishers' name for it.

    `files` are its GGUFs: type, repository and bytes. `mmproj` are the bytes of its mmproj in BF16
    and in Q8_0, `draft` those of its draft model in Q8_0. 0 bytes mean unknown.
    """
    google, ggml = _GOOGLE.format(size), _GGML.format(size)
    return Model(
        name,
        f"Gemma 4 {size}",
        f"google/gemma-4-{size}-it",
        shape,
        n_params,
        "q4_0",
        published=tuple(
            Published(kind, repo.format(size), nbytes, is_qat=repo == _GOOGLE)
            for kind, repo, nbytes in files
        ),
        mmproj=(Published("bf16", google, mmproj[0]), Published("q8_0", ggml, mmproj[1])),
        drafts=(Published("q8_0", ggml, draft),),
        draft_shape=_draft_shape(shape),
    )


MODELS: Final = (
    Model("tiny", "tiny, the network inside g4", "", _TINY, 3_897_354, "bf16"),
    _model(
        "e2b",
        "E2B",
        _E2B,
        5_123_178_051,
        files=(
            ("q4_0", _GOOGLE, 3_349_516_256),
            ("q8_0", _GGML, 4_967_494_592),
            ("bf16", _GGML, 0),
            ("q4_k_m", _UNSLOTH, 3_106_738_272),
            ("q5_k_m", _UNSLOTH, 3_356_035_200),
            ("q6_k", _UNSLOTH, 4_501_719_168),
            ("q4_0", _GGML, 2_841_481_184),
        ),
        mmproj=(986_833_664, 557_368_064),
    ),
    _model(
        "e4b",
        "E4B",
        _E4B,
        7_996_156_490,
        files=(
            ("q4_0", _GOOGLE, 5_154_941_280),
            ("q8_0", _GGML, 8_031_240_160),
            ("bf16", _GGML, 0),
            ("q4_k_m", _GGML, 5_335_289_824),
            ("q6_k", _UNSLOTH, 7_074_927_776),
            ("q4_0", _GGML, 4_590_807_392),
        ),
        mmproj=(991_552_256, 559_874_816),
    ),
    _model(
        "12b",
        "12B",
        _12B,
        11_959_730_224,
        files=(
            ("q4_0", _GOOGLE, 6_975_879_296),
            ("q8_0", _GGML, 0),
            ("bf16", _GGML, 0),
            ("q4_k_m", "unsloth/gemma-4-12b-it-GGUF", 7_121_861_440),
            ("q5_k_m", "unsloth/gemma-4-12b-it-GGUF", 8_413_574_560),
            ("q4_0", _GGML, 7_219_673_216),
        ),
        mmproj=(175_115_616, 158_987_616),
    ),
    _model(
        "26b",
        "26B-A4B",
        _26B,
        25_805_936_206,
        files=(
            ("q4_0", _GOOGLE, 14_439_363_584),
            ("q8_0", _GGML, 26_859_858_464),
            ("bf16", _GGML, 0),
            ("q4_k_m", _GGML, 16_796_015_136),
            ("q4_0", _GGML, 14_618_145_824),
        ),
        mmproj=(1_194_828_160, 806_408_320),
    ),
    _model(
        "31b",
        "31B",
        _31B,
        31_273_088_876,
        files=(
            ("q4_0", _GOOGLE, 17_651_001_568),
            ("q8_0", _GGML, 32_635_674_400),
            ("bf16", _GGML, 0),
            ("q4_k_m", _GGML, 18_687_061_792),
            ("q4_0", _GGML, 17_992_313_088),
        ),
        mmproj=(0, 809_541_728),
        draft=514_687_104,
    ),
)

_BASE: Final = "-base"
_BY_NAME: Final = {m.name: m for m in MODELS}
# Other names that users type: those that Google and Ollama use.
_ALIASES: Final = {
    "26b-a4b": "26b",
    "gemma4": "e4b",
    **{f"gemma-4-{name}": name for name in _BY_NAME if name != "tiny"},
    **{f"gemma4:{name}": name for name in _BY_NAME if name != "tiny"},
    "gemma-4-26b-a4b": "26b",
}


def known_names() -> tuple[str, ...]:
    """Return the name of every model, those of pre-trained ones last; aliases are left out."""
    return (*_BY_NAME, *(f"{m.name}{_BASE}" for m in MODELS if not m.is_bundled))


def find_model(name: str) -> Model:
    """Return the model called `name`, in any case. Raises UnknownModel with the nearest names."""
    wanted = name.strip().lower().removesuffix("-it")
    wanted = _ALIASES.get(wanted, wanted)
    if wanted in _BY_NAME:
        return _BY_NAME[wanted]
    model = _BY_NAME.get(wanted.removesuffix(_BASE))
    if model is not None and not model.is_bundled:
        return _base_of(model)
    near = get_close_matches(wanted, known_names(), n=3, cutoff=0.5)
    raise UnknownModel(
        f"no model is called {name!r}" + (f"; did you mean {' or '.join(near)}?" if near else ""),
        hint="g4 list --available",
    )


def parse_name(name: str) -> ModelRef:
    """Return the model and type that `e2b`, `e2b:q4_0` or `gemma-4-31B-it:bf16` names.

    Raises UnknownModel, or UsageError with the available types for a type that is not.
    """
    alias = _ALIASES.get(name.strip().lower())
    if alias is not None:
        return ModelRef(_BY_NAME[alias], _BY_NAME[alias].default_type, False)
    base, separator, type_name = name.partition(":")
    model = find_model(base)
    if not separator:
        return ModelRef(model, model.default_type, False)
    wanted = type_name.strip().lower().replace("-", "_")
    if wanted not in model.types:
        # A type that begins so is meant rather than one that looks so: q4 is q4_0, not q4_1.
        likely = sorted(model.types, key=lambda t: (t != model.default_type, not t.endswith("_0")))
        near = [t for t in likely if wanted and t.startswith(wanted)]
        near = near or get_close_matches(wanted, model.types, n=1)
        raise UsageError(
            f"{model.name} has no type {type_name!r}"
            + (f"; did you mean {near[0]}?" if near else ""),
            hint=f"g4 pull {model.name}:TYPE with one of: {' '.join(model.types)}",
        )
    return ModelRef(model, wanted, True)


def looks_like_name(text: str) -> bool:
    """Return whether `text` can only be a model's name, not a path."""
    return not any(c in text for c in "/\\") and not text.lower().endswith(
        (".gguf", ".safetensors")
    )


def _base_of(model: Model) -> Model:
    return replace(
        model,
        name=model.name + _BASE,
        title=model.title + ", pre-trained",
        checkpoint=model.checkpoint.removesuffix("-it"),
        published=(),
        mmproj=(),
        drafts=(),
        draft_shape=None,
    )
