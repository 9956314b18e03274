"""The request of a chat: the options of `g4 chat`, without those that concern the display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from g4cli.core.worker_address import NO_WORKERS, WorkerOptions

# A request is made before the worker process is started: whatever is imported here delays it.
if TYPE_CHECKING:
    from g4cli.chat import Conversation, OnLoop, OverflowPolicy

ExpandedType: TypeAlias = Literal["bf16", "q8_0"]
LazyPle: TypeAlias = Literal["auto", "on", "off"]
SAMPLING_NAMES: Final = ("temp", "top_p", "top_k", "min_p", "repeat_penalty", "seed")
"""The sampling parameters that `g4 chat` has options for: fields of the engine's Sampling too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """The model to load, how to run it, and how it should answer.

    Sampling parameters that are None come from the model file, or else are Gemma 4's own. `ctx` is
    a number ("8192", "32k"), "max", or "" for the largest context that fits; `gpu_layers` is a
    number or "auto"; `draft` is auto, off, lookup, network (the draft model that was pulled with
    the model) or the path of a draft model. `max_tokens` 0 means no limit, `threads` 0 all cores,
    `think` is a key of session.MAX_THOUGHT_TOKENS. `state_cache`, the room for the states of
    prompts on the disk, is a size, auto or off. `conversation` is the one to continue;
    `json_schema_text` is a JSON schema that was read already, `declarations` are tools that can be
    run. `workers` are other machines that get layers. `n_probs`: each token of the answer comes
    with its probability and those of so many of the most probable ones; None: without. Any other
    field is the option of that name.
    """

    model: str = ""
    image: Sequence[Path] = ()
    audio: Sequence[Path] = ()
    mmproj: Path | None = None
    image_tokens: int | None = None
    system: str = ""
    think: str = "off"
    tools: Path | None = None
    json_schema: Path | None = None
    json_schema_text: str = ""
    declarations: Sequence[Mapping[str, Any]] = ()
    schema: str = ""
    grammar: Path | None = None
    regex: str = ""
    on_overflow: OverflowPolicy = "drop"
    temp: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    seed: int | None = None
    max_tokens: int = 0
    stop: Sequence[str] = ()
    n_probs: int | None = None
    on_loop: OnLoop = "stop"
    ctx: str = ""
    kv_type: str = "f16"
    threads: int = 0
    gpu_layers: str = "auto"
    device: str | None = None
    mmap: bool = True
    lazy_ple: LazyPle = "auto"
    cpu_moe: bool = False
    expand: ExpandedType = "bf16"
    draft: str = "auto"
    state_cache: str = "auto"
    workers: WorkerOptions = NO_WORKERS
    conversation: Conversation | None = None

    @property
    def forms(self) -> dict[str, Any]:
        """The options that restrict the whole answer, of which a request may have one."""
        options = {
            "--json-schema": self.json_schema or self.json_schema_text,
            "--schema": self.schema,
            "--grammar": self.grammar,
            "--regex": self.regex,
        }
        return {name: value for name, value in options.items() if value}

    @property
    def sampling(self) -> dict[str, Any]:
        """The sampling parameters that were given, named as the fields of the engine's Sampling."""
        given = {name: getattr(self, name) for name in SAMPLING_NAMES}
        return {name: value for name, value in given.items() if value is not None}
