"""Run the same network in other ways: where one of them answers otherwise, the engine is at fault.

And ask the same questions in other frames: where plain text goes well and turns fail, the network is sound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from g4cli.core.progress import Progress, no_progress
from g4cli.core.units import size_text
from g4cli.doctor.probe.answers import RIGHT, is_broken, share_right, shown
from g4cli.doctor.probe.child import MEMORY_BYTES, N_TOKENS, GreedyRun, ProbeResult, greedy_probe
from g4cli.doctor.probe.prompts import FILE, PLAIN, Asked
from g4cli.doctor.report import Check, Outcome, fail, ok, skipped

if TYPE_CHECKING:
    from g4cli.doctor.facts.file_facts import FileFacts

# Enough to see a loop of two tokens, and half of what a small file is asked for.
N_SHORT: Final = 16
# Runs of one network may differ in the last bits, and so where two tokens are equally likely. They part for
# a reason if they do so early although both are this sure of their token.
_EARLY: Final = 8
_SURE: Final = 0.6
# Share of plain beginnings that a sound network goes on with as expected: one word of three; characters of
# many (`tiny`: 0.85, and at most 0.52 in copies whose weights are broken).
_PLAIN_RIGHT: Final = {False: 0.3, True: 0.6}


WayKind: TypeAlias = Literal["gpu", "attention", "batch", "kv", "repack"]
"""Which part of the engine a way changes: the advice depends on it."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way to run a network: options of the probe; `copies`: it holds the weights once more in memory."""

    kind: WayKind
    name: str
    options: tuple[tuple[str, Any], ...]
    copies: bool = False
    needs_gpu: bool = False


WAYS: Final = (
    # The first run: CPU, flash attention, batches of 512, KV cache F16, weights as they lie in the file.
    Way("gpu", "the GPU", (("n_gpu_layers", 999),), copies=True, needs_gpu=True),
    Way("attention", "flash attention off", (("flash_attn", 0),)),
    Way("batch", "batches of 8", (("n_ubatch", 8),)),
    Way("kv", "an F32 KV cache", (("kv_type", "f32"),)),
    Way("kv", "a Q8_0 KV cache", (("kv_type", "q8_0"),)),
    Way("repack", "repacked weights", (("use_extra_bufts", True),), copies=True),
)


@dataclass(frozen=True, slots=True)
class Variant:
    """An answer with other options beside the first: `same` of `of` tokens before they part.

    `failed` says how the child died of it, `untried` why there is no answer that could be compared; `sure`
    whether both runs were sure of their token where they part; `base_broken` and `broken` whether an answer
    alone shows a fault.
    """

    name: str
    kind: WayKind | None = None
    same: int = 0
    of: int = 0
    failed: str = ""
    untried: str = ""
    sure: bool = False
    base_broken: bool = False
    broken: bool = False

    @property
    def differs(self) -> bool:
        """Return whether one of the two ways computes wrongly."""
        if self.untried:
            return False
        parted = self.same < min(_EARLY, self.of)
        return bool(self.failed) or (self.base_broken != self.broken) or (parted and self.sure)


# Stands for the answer of a child that died before it gave one: broken, and of no token.
_DEAD: Final = GreedyRun("", (), "", (), 0.0, 0.0, 1, 0.0, False)


@dataclass(frozen=True, slots=True)
class FrameRun:
    """The answers in another frame, and the share of them that is right."""

    name: str
    runs: tuple[GreedyRun, ...] = ()
    right: float = 0.0
    untried: str = ""

    @property
    def broken(self) -> bool:
        """Return whether every answer shows a fault by itself."""
        return bool(self.runs) and all(is_broken(run) for run in self.runs)


Prober = Callable[..., ProbeResult]


def try_ways(
    path: Path,
    asked: Sequence[Asked],
    first: ProbeResult,
    ways: Sequence[Way] = WAYS,
    *,
    free_bytes: int = 0,
    probe: Prober = greedy_probe,
    progress: Progress = no_progress,
) -> tuple[Variant, ...]:
    """Return one answer under each of `ways`, compared with the first run's; a broken one if there is any.

    If the first child died without an answer, a way that gives a sound one differs.

    `free_bytes`: memory for a second copy of the weights, 0 if unknown.
    """
    index = next((i for i, run in enumerate(first.runs) if is_broken(run)), 0)
    base, question = first.runs[index] if first.runs else _DEAD, asked[index]
    size = path.stat().st_size
    found = []
    for number, way in enumerate(ways):
        progress(number, len(ways), way.name)
        if way.needs_gpu and not first.gpus:
            continue
        if way.copies and not way.needs_gpu and free_bytes and size > 0.6 * free_bytes:
            found.append(
                Variant(
                    way.name, way.kind, untried=f"a second copy of {size_text(size)} does not fit"
                )
            )
            continue
        result = probe(
            path,
            [(question.name, question.text)],
            n_tokens=N_SHORT,
            options=dict(way.options),
            limit_bytes=MEMORY_BYTES + (size + size // 8 if way.copies else 0),
        )
        found.append(compared(way.name, base, result, kind=way.kind))
    return tuple(found)


def compared(
    name: str, base: GreedyRun, result: ProbeResult, *, kind: WayKind | None = None
) -> Variant:
    """Return how the run in `result` differs from `base`."""
    if not result.runs:
        if result.died and not (result.timed_out or result.over_limit):
            if base is _DEAD:
                return Variant(name, kind, base_broken=True, broken=True)
            return Variant(name, kind, failed=f"llama.cpp died ({result.died})")
        return Variant(name, kind, untried=result.died or result.error or "no answer")
    run = result.runs[0]
    mine, theirs = base.tokens[:N_SHORT], run.tokens[:N_SHORT]
    length = min(len(mine), len(theirs))
    same = next((i for i in range(length) if mine[i] != theirs[i]), length)
    of = max(len(mine), len(theirs))
    sure = all(
        run_.top_probability[same] >= _SURE if same < len(run_.top_probability) else False
        for run_ in (base, run)
    )
    # Judged by equally many tokens: a loop of three shows in 18 of them and not in 16.
    base_broken, broken = (
        is_broken(replace(base, tokens=mine)),
        is_broken(replace(run, tokens=theirs)),
    )
    return Variant(name, kind, same, of, sure=sure, base_broken=base_broken, broken=broken)


def try_frames(
    path: Path,
    frames: Sequence[tuple[str, Sequence[Asked]]],
    *,
    n_tokens: int = N_TOKENS,
    probe: Prober = greedy_probe,
    progress: Progress = no_progress,
) -> tuple[FrameRun, ...]:
    """Return the answers in other frames; `frames`: name and prompts, none where a frame cannot be made."""
    found = []
    for number, (name, asked) in enumerate(frames):
        progress(number, len(frames), name)
        if not asked:
            found.append(FrameRun(name, untried="it cannot be rendered"))
            continue
        result = probe(path, [(a.name, a.text) for a in asked], n_tokens=n_tokens)
        if not result.runs:
            found.append(FrameRun(name, untried=result.died or result.error or "no answer"))
            continue
        found.append(FrameRun(name, result.runs, share_right(result.runs, [a.want for a in asked])))
    return tuple(found)


def check_ways(facts: FileFacts) -> Outcome:
    """Where another way to run the same file answers otherwise, the engine is at fault."""
    tried = [v for v in facts.variants if not v.untried]
    untried = "".join(f"; {v.name} not tried: {v.untried}" for v in facts.variants if v.untried)
    if not tried:
        return skipped(
            "only with --deep, or when an answer is wrong" + untried, "g4 doctor FILE --deep"
        )
    if facts.untrained:
        return skipped("the weights are random: every token is a close call" + untried)
    bad = [v for v in tried if v.differs]
    if bad:
        return fail(
            f"with {bad[0].name} {_how(bad[0])}: the engine, not the file, computes one of the two "
            f"wrongly{untried}",
            _engine_fix(bad[0]),
            cause="runtime",
            confidence="high",
            detail=tuple(v.name for v in bad),
        )
    ways = ", ".join(v.name for v in tried)
    if facts.probe is not None and not facts.probe.runs:
        return ok(f"it dies as well with {ways}{untried}")
    return ok(f"the same answer with {ways}: not the engine's fault{untried}")


def _how(variant: Variant) -> str:
    if variant.failed:
        return variant.failed
    if variant.base_broken and not variant.broken:
        return "the answer is sound, in the usual way it is not"
    if variant.broken and not variant.base_broken:
        return "the answer falls apart, in the usual way it is sound"
    return f"the answer is another from token {variant.same + 1} on, and both are sure of theirs"


def _engine_fix(variant: Variant) -> str:
    if variant.kind == "gpu":
        return "g4 chat FILE --gpu-layers 0, then update llama.cpp and the GPU's driver"
    if variant.kind == "kv" and variant.base_broken:
        return "g4 chat FILE --kv-type q8_0, and report it: g4 doctor FILE --report bug.md"
    return "update llama.cpp (g4 doctor shows the version), or report it: g4 doctor FILE --report bug.md"


def check_frames(facts: FileFacts) -> Outcome:
    """What fails in one frame and not in another is the frame's fault."""
    tried = {f.name: f for f in facts.frames if f.runs}
    if facts.probe is None or not facts.probe.runs or not tried:
        return skipped("only with --deep, or when an answer is wrong", "g4 doctor FILE --deep")
    if facts.untrained:
        return skipped("the weights are random: no frame makes them talk")
    if any(v.differs for v in facts.variants):
        return skipped("the engine is at fault: what it says in other frames proves nothing")
    own_fails = _fails(facts, facts.probe.runs, share_right(facts.probe.runs, facts.expected))
    template, plain = tried.get(FILE), tried.get(PLAIN)
    if template is not None and template.broken and not own_fails:
        return fail(
            f"with the file's own template the answer to {template.runs[0].prompt!r} is "
            f"{shown(template.runs[0])!r}; with g4's it is sound",
            "g4 doctor FILE --fix OUT (puts a clean Gemma 4 template in)",
            cause="template",
            confidence="high",
        )
    if template is not None and own_fails and not _fails(facts, template.runs, template.right):
        return fail(
            "the answers are sound with the file's own template and fail with Gemma 4's: the model was "
            "trained on another chat format",
            "use an engine that applies the file's template (llama-server --jinja)",
            cause="template",
            confidence="high",
        )
    if plain is not None and own_fails and _goes_on(facts, plain):
        return _plain_alone(facts, plain)
    if own_fails:
        return ok(f"{' and '.join(tried)} fail in the same way: not the template's fault")
    return ok(f"{' and '.join(tried)} answered as well")


def _plain_alone(facts: FileFacts, plain: FrameRun) -> Outcome:
    """Return the outcome of a network that goes on with plain text and fails in every turn."""
    first = plain.runs[0]
    found = (
        f"plain text goes on well ({first.prompt!r}: {shown(first)!r}), questions in turns do not"
    )
    if facts.is_chat_model:
        return fail(
            f"{found}: what the chat's control tokens mean was lost",
            "get another file: g4 pull MODEL",
            cause="conversion-defect",
            confidence="high",
        )
    return fail(
        f"{found}: a base model, not one for chat",
        "g4 pull MODEL gets one made for chat (-it)",
        cause="template",
        confidence="high",
    )


def _fails(facts: FileFacts, runs: Sequence[GreedyRun], right: float) -> bool:
    """Return whether answers are broken, or too few of them are right where the right ones are known."""
    if not runs:
        return False
    return all(is_broken(run) for run in runs) or (
        bool(facts.model_name) and right < RIGHT[facts.model_name == "tiny"]
    )


def _goes_on(facts: FileFacts, plain: FrameRun) -> bool:
    """Return whether plain text is continued as expected; for unknown networks, without an obvious fault."""
    if any(is_broken(run) for run in plain.runs):
        return False
    return not facts.model_name or plain.right >= _PLAIN_RIGHT[facts.model_name == "tiny"]


CHECKS: Final = (
    Check("probe.variants", check_ways),
    Check("probe.frames", check_frames),
)
