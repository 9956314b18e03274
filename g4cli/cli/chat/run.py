"""From the options of `g4 chat` to a running engine, then one answer or a conversation."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from g4cli.chat import Conversation, OverflowPolicy
    from g4cli.cli.chat.session import Session
    from g4cli.cli.output import Output
    from g4cli.core.gguf_header import Header
    from g4cli.runtime.engine.options import ModelOptions

_MOST_PIPED: Final = 16 << 20  # characters; a context of 262,144 tokens holds about a megabyte
_SFP8_SUFFIX: Final = "-sfp8"  # quant.sfp8_file.SUFFIX, known here without importing numpy


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for: a field for each option of `g4 chat`, and what /model carries over."""

    model: str
    prompt: str | None
    image: Sequence[Path] | None
    audio: Sequence[Path] | None
    mmproj: Path | None
    image_tokens: int | None
    system: str
    think: Literal["off", "on", "low", "medium", "high"]
    thoughts: Literal["show", "fold", "hide"]
    tools: Path | None
    json_schema: Path | None
    grammar: Path | None
    resume: Path | None
    on_overflow: OverflowPolicy
    temp: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    repeat_penalty: float | None
    seed: int | None
    max_tokens: int
    no_loop_stop: bool
    ctx: str
    kv_type: str
    threads: int
    gpu_layers: str
    device: str | None
    mmap: bool
    lazy_ple: Literal["auto", "on", "off"]
    cpu_moe: bool
    expand: Literal["bf16", "q8_0"]
    draft: str
    stats: bool
    quiet: bool = False
    conversation: Conversation | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Request:
        """Return the request that the command's options make: those of the same name."""
        return cls(
            **{field.name: options[field.name] for field in fields(cls) if field.name in options}
        )

    @property
    def sampling(self) -> dict[str, Any]:
        """Return the sampling values that the user gave."""
        names = ("temp", "top_p", "top_k", "min_p", "repeat_penalty", "seed")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


def talk(out: Output, request: Request) -> int:
    """Run `g4 chat` and return its exit code."""
    from g4cli.cli.chat.slash_commands import list_chats
    from g4cli.core.errors import G4Error
    from g4cli.operations.chat.saved import LIST
    from g4cli.store import find_model_path, find_newest_model

    if str(request.resume) == LIST:
        list_chats(out)
        return 0
    if not request.model:
        found = find_newest_model()
        out.say(found.reason)
        request = replace(request, model=str(found.path))
    find_model_path(
        request.model
    )  # a wrong name is the first thing to tell, before any question is read
    question = _question(out, request)
    before: Request | None = None  # what /model left
    while True:
        with ExitStack() as stack:
            try:
                session = stack.enter_context(open_session(out, request))
            except G4Error as err:
                if before is None:
                    raise
                out.error(err)
                out.say(f"going back to {before.model}")
                request, before = before, None
                continue
            if question is not None:
                from g4cli.cli.chat.oneshot import answer_once

                return answer_once(out, session, question, session.media_of(request))
            from g4cli.cli.chat.repl import converse
            from g4cli.cli.output import Output

            # With --quiet a conversation has no banner; its answers and messages are what it is for.
            left = converse(out if out.is_human else Output("human"), session)
        if left.next_model is None:
            return 0
        # A drafting network's file belongs to the model that it was named for.
        draft = request.draft if request.draft in ("off", "lookup") else "auto"
        before = replace(request, conversation=session.conversation)
        request = replace(before, model=left.next_model, draft=draft)


def _question(out: Output, request: Request) -> str | None:
    """Return the one question, or None for a conversation. Raises UsageError if there is neither.

    What comes through standard input goes before --prompt, as in llm.
    """
    from g4cli.core.errors import UsageError
    from g4cli.core.quoting import shell_word

    prompt = request.prompt
    if prompt is None and sys.stdin.isatty():
        if out.mode == "json" or not sys.stdout.isatty():
            raise UsageError(
                "a conversation needs a terminal",
                hint=f'g4 chat {shell_word(request.model)} -p "..."',
            )
        return None
    piped = _piped() if prompt == "-" or not sys.stdin.isatty() else ""
    if prompt is None or prompt == "-":
        question = piped
    else:
        question = f"{piped.rstrip()}\n\n{prompt}" if piped.strip() else prompt
    if not question.strip():
        raise UsageError(
            "the question is empty", hint=f'g4 chat {shell_word(request.model)} -p "What is GGUF?"'
        )
    return question


def _piped() -> str:
    """Return standard input, read to its end. Raises UsageError if it is larger than any prompt."""
    from g4cli.core.errors import UsageError

    text = sys.stdin.read(_MOST_PIPED + 1)
    if len(text) > _MOST_PIPED:
        raise UsageError(
            f"standard input has more than {_MOST_PIPED:,} characters", hint="head -c 1000000 FILE"
        )
    return text


@dataclass(frozen=True, slots=True)
class Checked:
    """A model file that g4 understands: its `header` is read, and the kernels that it needs are known."""

    path: Path
    header: Header
    use_extra_bufts: bool


def check_model(out: Output, text: str, *, expand: Literal["bf16", "q8_0"] = "bf16") -> Checked:
    """Find the model and look at all that can be known without loading it. Raises what is wrong with it.

    An SFP8 archive is expanded into the cache first; `expand` is the type that holds its values.
    """
    from g4cli.core.errors import BadGGUF
    from g4cli.core.gguf import read_header
    from g4cli.core.shape import require_tokenizer, shape_of
    from g4cli.runtime.probes.kernels import probe_kernels
    from g4cli.store import find_model_path

    path = find_model_path(text)
    header = read_header(path)
    if header.architecture.endswith(_SFP8_SUFFIX):
        path = _expanded(out, path, expand)
        header = read_header(path)
    shape_of(header)  # another architecture is refused here, with a reason
    if not header.tensors:
        raise BadGGUF(path, "a vocabulary with no weights cannot talk", hint="g4 list")
    require_tokenizer(header)
    kernels = probe_kernels()
    if not kernels.use_extra_bufts:
        out.say(kernels.reason)
    return Checked(path, header, kernels.use_extra_bufts)


def _expanded(out: Output, archive: Path, carrier: Literal["bf16", "q8_0"]) -> Path:
    """Return the file that llama.cpp can run, made from an SFP8 archive the first time."""
    from g4cli.core.paths import cache_dir
    from g4cli.quant.sfp8_file import runnable

    folder = cache_dir() / "expanded"
    out.say(
        f"{archive.name} is an SFP8 archive; llama.cpp runs its {carrier.upper()} copy in {folder}"
    )
    with out.progress(f"expand {archive.name} for llama.cpp, once") as progress:
        return runnable(archive, folder, carrier=carrier, progress=progress)


@contextmanager
def open_session(out: Output, request: Request) -> Iterator[Session]:
    """Yield a session with the model loaded. Raises what finding, checking and loading it raise."""
    from g4cli.runtime.engine.client import EngineClient

    with EngineClient() as engine:  # it loads llama.cpp while this process looks at the file
        from g4cli.cli.chat.session import Session, conversation_of, require_files, tools_of
        from g4cli.host import read_host
        from g4cli.operations.chat.drafting import choose_draft
        from g4cli.operations.chat.plan import plan_chat, with_live_gpus
        from g4cli.runtime.engine.messages import Open
        from g4cli.runtime.engine.options import ContextOptions

        conversation, tools = conversation_of(request), tools_of(request)
        require_files(request)
        model = check_model(out, request.model, expand=request.expand)
        draft = choose_draft(out, request.draft, model, lambda: engine.hello().draft_refusal)
        # Before the weights are loaded: they would count twice.
        host = with_live_gpus(read_host(), engine.hello().devices)
        plan = plan_chat(out, request, model, host, draft.option)
        started = time.perf_counter()
        options = model_options(
            gpu_layers=plan.gpu_layers,
            device=request.device,
            mmap=request.mmap,
            lazy_ple=request.lazy_ple,
            cpu_moe=plan.cpu_moe,
            use_extra_bufts=model.use_extra_bufts,
        )
        context = ContextOptions(
            n_ctx=plan.n_ctx,
            kv_type=request.kv_type,
            n_threads=request.threads,
            n_outputs=draft.n_outputs,
        )
        with out.progress(f"load {model.path.name}", unit="steps") as progress:
            engine.open(Open(model.path, options, context, draft, plan.data_bytes), progress)
        load_s = time.perf_counter() - started
        yield Session(out, request, engine, model, conversation, tools, load_s)


def model_options(
    *,
    gpu_layers: str,
    device: str | None,
    mmap: bool,
    lazy_ple: Literal["auto", "on", "off"],
    cpu_moe: bool,
    use_extra_bufts: bool,
) -> ModelOptions:
    """Return how to load a model. Raises UsageError if `gpu_layers` is neither auto nor a number."""
    from g4cli.core.errors import UsageError
    from g4cli.runtime.engine.options import ALL_LAYERS, ModelOptions

    if gpu_layers != "auto" and not gpu_layers.isdigit():
        raise UsageError(f"not a number of layers: {gpu_layers!r}", hint="--gpu-layers auto")
    return ModelOptions(
        n_gpu_layers=ALL_LAYERS if gpu_layers == "auto" else int(gpu_layers),
        device=device,
        mmap=mmap,
        lazy_ple=lazy_ple,
        cpu_moe=cpu_moe,
        use_extra_bufts=use_extra_bufts,
    )
