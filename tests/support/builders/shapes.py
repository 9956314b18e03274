"""The shapes of the five published networks and the bundled one, independent of the registry.

Source: transformers' configuration and conversion scripts for Gemma 4 (5.23.0). They are written
here a second time, so that tests find an error in g4cli.core.registry.
"""

from __future__ import annotations

from g4cli.core.draft import DraftShape
from g4cli.core.shape import Shape


def _shape(
    pattern: tuple[int, int], n_layer: int, *, kv: tuple[int, int], **rest: int | bool
) -> Shape:
    """Return a shape. `pattern` and `kv` count layers and KV heads: of sliding, of full layers."""
    sliding, period = pattern[0], sum(pattern)
    is_swa = tuple(i % period < sliding for i in range(n_layer))
    n_ff, double = int(rest.pop("n_ff")), bool(rest.pop("double_ff", False))
    shared = int(rest.get("n_shared_kv", 0))
    return Shape(
        n_layer=n_layer,
        n_head=(int(rest.pop("n_head")),) * n_layer,
        n_head_kv=tuple(kv[0] if swa else kv[1] for swa in is_swa),
        n_ff=tuple(n_ff * (2 if double and i >= n_layer - shared else 1) for i in range(n_layer)),
        is_swa=is_swa,
        **{"n_vocab": 262144, "head_dim": 512, "head_dim_swa": 256, **rest},
    )


# fmt: off
E2B = _shape((4, 1), 35, kv=(1, 1), n_embd=1536, n_ff=6144, double_ff=True, n_head=8, n_swa=512,
             n_ctx_train=131072, n_shared_kv=20, n_embd_per_layer=256)
E4B = _shape((5, 1), 42, kv=(2, 2), n_embd=2560, n_ff=10240, n_head=8, n_swa=512,
             n_ctx_train=131072, n_shared_kv=18, n_embd_per_layer=256)
G12B = _shape((5, 1), 48, kv=(8, 1), n_embd=3840, n_ff=15360, n_head=16, n_swa=1024,
              n_ctx_train=262144, k_eq_v=True)
A4B = _shape((5, 1), 30, kv=(8, 2), n_embd=2816, n_ff=2112, n_head=16, n_swa=1024,
             n_ctx_train=262144, k_eq_v=True, n_expert=128, n_expert_used=8, n_ff_expert=704)
G31B = _shape((5, 1), 60, kv=(16, 4), n_embd=5376, n_ff=21504, n_head=32, n_swa=1024,
              n_ctx_train=262144, k_eq_v=True)
TINY = _shape((4, 1), 10, kv=(1, 1), n_embd=256, n_ff=64, double_ff=True, n_head=2, n_swa=128,
              n_vocab=768, n_ctx_train=2048, n_shared_kv=5, n_embd_per_layer=128, head_dim=128,
              head_dim_swa=64)
# fmt: on

PUBLISHED = {"e2b": E2B, "e4b": E4B, "12b": G12B, "26b": A4B, "31b": G31B}
ALL = {**PUBLISHED, "tiny": TINY}


def _draft(n_embd: int, n_embd_out: int, n_head: int, n_ff: int, **rest: int) -> DraftShape:
    return DraftShape(
        n_layer=4,
        n_embd=n_embd,
        n_embd_out=n_embd_out,
        n_vocab=rest.get("n_vocab", 262144),
        n_head=(n_head,) * 4,
        n_ff=(n_ff,) * 4,
        is_swa=(True, True, True, False),
        head_dim=rest.get("head_dim", 512),
        head_dim_swa=rest.get("head_dim_swa", 256),
    )


# The draft models (-assistant). The sizes of published files confirm these values.
DRAFTS = {
    "e2b": _draft(256, 1536, 4, 2048),
    "e4b": _draft(256, 2560, 4, 2048),
    "12b": _draft(1024, 3840, 16, 8192),
    "26b": _draft(1024, 2816, 16, 8192),
    "31b": _draft(1024, 5376, 32, 8192),
    "tiny": _draft(64, 256, 2, 128, n_vocab=768, head_dim=128, head_dim_swa=64),
}
