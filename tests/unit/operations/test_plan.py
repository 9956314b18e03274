"""What a chat opens by itself: the context and the layers on GPUs, with what the user wrote left
alone.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from g4cli.cli.chat.run import Checked
from g4cli.cli.output import Output
from g4cli.core.gguf import read_header
from g4cli.core.units import GIB
from g4cli.host import Gpu, GpuList, HostFacts
from g4cli.operations.chat.plan import ChatPlan, plan_chat, with_live_gpus
from g4cli.runtime.engine.messages import DeviceFacts
from tests.support.builders import real_mmproj, real_shapes, shapes


def machine(free: int, *gpus: Gpu) -> HostFacts:
    return HostFacts(64 * GIB, free, "memory", frozenset(), GpuList(gpus, "0.3.36", 0.0))


@dataclass
class Heard(Output):
    """An output that remembers what it said."""

    def __init__(self) -> None:
        super().__init__("quiet")
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Checked]:
    """Return files without weights of two published shapes, with a small vocabulary."""
    folder = tmp_path_factory.mktemp("shapes")
    found = {}
    for model in ("e2b", "26b"):
        path = folder / f"{model}.gguf"
        vocabulary = real_shapes.synthetic_vocabulary(300)
        real_shapes.build(path, model, shapes.ALL[model], "q4_0", vocabulary=vocabulary)
        found[model] = Checked(path, read_header(path), True)
    return found


def asked(**changes: Any) -> Any:
    """Return a request with the defaults of `g4 chat`."""
    given = {
        "model": "it",
        "ctx": "",
        "kv_type": "f16",
        "mmap": True,
        "lazy_ple": "auto",
        "mmproj": None,
        "image_tokens": None,
        "image": None,
        "audio": None,
        "gpu_layers": "auto",
        "device": None,
        "cpu_moe": False,
    }
    return SimpleNamespace(**{**given, **changes})


def test_on_a_cpu_only_the_context_is_planned(files: dict[str, Checked]) -> None:
    out = Heard()
    plan = plan_chat(out, asked(), files["e2b"], machine(32 * GIB))
    assert replace(plan, data_bytes=0) == ChatPlan(131072, "auto", False)
    # Private memory: the file's pages do not count, the KV cache and repacked weights do.
    assert 3 * GIB < plan.data_bytes < 12 * GIB
    assert out.said == []
    plan = plan_chat(out, asked(), files["26b"], machine(16 * GIB))
    assert 4096 < plan.n_ctx < 262144
    assert out.said == [f"context {plan.n_ctx:,}: the largest that leaves 1.00 GiB free"]


def test_what_was_asked_for_is_left_alone(files: dict[str, Checked]) -> None:
    gpu = Gpu("CUDA0", "a card", 2 * GIB, GIB)
    for changes in ({"gpu_layers": "7"}, {"device": "CPU"}, {"cpu_moe": True}):
        plan = plan_chat(Heard(), asked(ctx="8k", **changes), files["e2b"], machine(32 * GIB, gpu))
        assert plan.n_ctx == 8192
        assert plan.gpu_layers == changes.get("gpu_layers", "auto")
        assert plan.cpu_moe == changes.get("cpu_moe", False)


def test_a_context_beyond_the_model_is_warned_of_not_lowered(files: dict[str, Checked]) -> None:
    out = Heard()
    assert plan_chat(out, asked(ctx="200000"), files["e2b"], machine(32 * GIB)).n_ctx == 200_000
    assert "made for 131,072 tokens" in out.said[0]


def test_layers_that_do_not_fit_stay_behind(files: dict[str, Checked]) -> None:
    out, small = Heard(), Gpu("CUDA0", "a card", GIB, GIB)
    plan = plan_chat(out, asked(ctx="8k"), files["e2b"], machine(32 * GIB, small))
    assert 0 < int(plan.gpu_layers) < 36
    assert out.said[-1].startswith(f"the last {plan.gpu_layers} of 36 layers on CUDA0")


def test_a_long_context_pushes_no_layer_off_the_card(files: dict[str, Checked]) -> None:
    out, card = Heard(), Gpu("CUDA0", "a card", 2 * GIB, 2 * GIB)
    plan = plan_chat(out, asked(), files["e2b"], machine(64 * GIB, card))
    assert (32768 < plan.n_ctx < 131072, plan.gpu_layers) == (True, "auto")
    assert "the largest with these layers on the GPU (131,072 if more" in out.said[0]
    assert out.said[1].startswith("all 35 layers on CUDA0")


def test_the_encoder_beside_the_model_counts_with_the_first_picture(
    files: dict[str, Checked],
) -> None:
    checked = files["e2b"]
    mmproj = real_mmproj.build(checked.path.parent / "mmproj-e2b.gguf", "e2b")
    plan = plan_chat(Heard(), asked(), checked, machine(5 * GIB))
    with_picture = plan_chat(Heard(), asked(image=[Path("p.png")]), checked, machine(5 * GIB))
    named = plan_chat(Heard(), asked(mmproj=mmproj), checked, machine(5 * GIB))
    mmproj.unlink()
    assert with_picture.n_ctx == named.n_ctx < plan.n_ctx
    assert (
        plan_chat(Heard(), asked(image=[Path("p.png")]), checked, machine(5 * GIB)).n_ctx
        == plan.n_ctx
    )


def test_drafting_counts(files: dict[str, Checked], tmp_path: Path) -> None:
    checked, host = files["e2b"], machine(5 * GIB)
    vocabulary = real_shapes.synthetic_vocabulary(300)
    path = real_shapes.build_draft(
        tmp_path / "d.gguf", shapes.E2B, shapes.DRAFTS["e2b"], "q8_0", vocabulary=vocabulary
    )
    lengths = [
        plan_chat(Heard(), asked(ctx="max"), checked, host, wish).n_ctx
        for wish in ("off", "lookup", str(path))
    ]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] >= lengths[1] > lengths[2] > 0


def test_experts_stay_behind_first(files: dict[str, Checked]) -> None:
    card = Gpu("CUDA0", "a card", 12 * GIB, 12 * GIB)
    plan = plan_chat(Heard(), asked(ctx="8k"), files["26b"], machine(32 * GIB, card))
    assert (plan.gpu_layers, plan.cpu_moe) == ("auto", True)


def test_what_does_not_fit_is_opened_with_a_warning(files: dict[str, Checked]) -> None:
    out = Heard()
    assert plan_chat(out, asked(ctx="256k"), files["26b"], machine(8 * GIB)).n_ctx == 262_144
    assert out.said[0].startswith("this may not fit: ")
    assert out.said[0].endswith("(g4 fit it)")


def test_the_largest_context(files: dict[str, Checked]) -> None:
    out = Heard()
    plan = plan_chat(out, asked(ctx="max"), files["26b"], machine(16 * GIB))
    assert 4096 < plan.n_ctx < 262144
    assert out.said == [f"context {plan.n_ctx:,}: the largest that fits"]


def test_gpus_are_seen_live() -> None:
    devices = [DeviceFacts("CPU", "a CPU", "cpu", 2, 3), DeviceFacts("CUDA0", "a GPU", "gpu", 4, 5)]
    found = with_live_gpus(machine(GIB), devices)
    assert found.gpus is not None
    assert found.gpus.age_s == 0.0
    assert found.gpus.gpus == (Gpu("CUDA0", "a GPU", 5, 4, unified=sys.platform == "darwin"),)
