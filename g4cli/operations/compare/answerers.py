"""A model that answers prompts: one on this machine, loaded once, or one behind an endpoint."""

from __future__ import annotations

import base64
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Protocol

from g4cli import __version__
from g4cli.chat import Conversation, TurnEvent, View
from g4cli.core.child_memory import peak_resident_bytes
from g4cli.core.errors import Interrupted
from g4cli.core.gguf import read_header
from g4cli.core.hashing import sha256_of
from g4cli.core.media_file import read_media
from g4cli.core.reporter import Reporter
from g4cli.core.shape import shape_of
from g4cli.host import engine_version, read_cpu_name
from g4cli.operations.chat.opening import open_session
from g4cli.operations.chat.session import ChatSession
from g4cli.operations.compare.judgement import find_word_loop
from g4cli.operations.compare.specs import ModelSpec
from g4cli.operations.prompts import Prompt
from g4cli.prompt.reply import AnswerText, ThoughtText
from g4cli.remote.endpoint import Endpoint
from g4cli.runtime.llama.installation import hash_library
from g4cli.store.manifest import type_of
from g4cli.store.models import find_model_file

# A choice, enough for long answers: what fits would depend on the memory that is free just now.
_DEFAULT_CTX: Final = 16384  # tokens
_MIN_S: Final = 0.05  # a choice: of tokens that come in less time, no speed is computed


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer and its figures; None for what is not known.

    Times are seconds: `first_s` to the first token, `total_s` to the end. `reused_tokens` of the
    prompt were in the KV cache, as they are when a prompt is asked again, so that `first_s` says
    little then. `prompt_tps` and `decode_tps` are tokens per second. `loop` is a repetition as
    JSON, None if there is none: chat.FoundLoop for a local model; for an endpoint, whose tokens are
    not known, loops.Loop, which counts words.
    """

    text: str
    thought: str
    finish_reason: str
    prompt_tokens: int | None
    reused_tokens: int | None
    completion_tokens: int | None
    first_s: float | None
    total_s: float
    prompt_tps: float | None
    decode_tps: float | None
    loop: dict[str, Any] | None


class Answerer(Protocol):
    """A model that is ready to answer."""

    def answer(self, prompt: Prompt, seed: int) -> Answer: ...
    def read_facts(self) -> dict[str, Any]: ...


def identify_model(spec: ModelSpec, reporter: Reporter) -> str:
    """Return what the model of `spec` is: the sha256 of its file, or its endpoint and name.

    Raises what find_model_file and sha256_of raise.
    """
    if spec.url:
        return f"{spec.url}#{spec.name}"
    found = find_model_file(spec.name)
    if found.sha256:
        return found.sha256
    with reporter.progress(f"sha256 of {found.path.name}") as progress:
        return sha256_of(found.path, progress=progress)


@contextmanager
def open_answerer(spec: ModelSpec, reporter: Reporter) -> Iterator[Answerer]:
    """Yield the model of `spec`; a local one is loaded, and its memory is free after the block.

    Raises DoesNotFit, before a local model is loaded, or what opening a chat raises.
    """
    if spec.url:
        endpoint = Endpoint(spec.url, spec.name, spec.read_key(), say=reporter.say)
        try:
            yield RemoteAnswerer(spec, endpoint)
        finally:
            endpoint.close()
    else:
        # With the prompt cache on, states of earlier runs would make the first token come sooner.
        request = replace(spec.make_request(), state_cache="off")
        if not request.ctx:
            n_ctx_train = shape_of(read_header(find_model_file(spec.name).path)).n_ctx_train
            request = replace(request, ctx=str(min(_DEFAULT_CTX, n_ctx_train)))
        with open_session(request, reporter, require_fit=True) as session:
            yield LocalAnswerer(spec, session)


class _Stopwatch(View):
    """The view of a turn that nobody sees: it measures the time to the first token."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self.first_s: float | None = None

    def show(self, event: TurnEvent) -> None:
        if self.first_s is None and isinstance(event, (AnswerText, ThoughtText)):
            self.first_s = time.perf_counter() - self._started

    @property
    def total_s(self) -> float:
        return time.perf_counter() - self._started


class LocalAnswerer:
    """A model in its worker process. Every prompt begins a conversation of its own."""

    def __init__(self, spec: ModelSpec, session: ChatSession) -> None:
        self._spec, self._session = spec, session

    def answer(self, prompt: Prompt, seed: int) -> Answer:
        """Return the answer to `prompt`. Raises Interrupted or what ChatSession.run_turn raises."""
        session = self._session
        session.conversation = Conversation(prompt.system or session.request.system)
        session.conversation.ask(prompt.text, prompt.media)
        session.sampling = replace(session.sampling, seed=seed)
        view = _Stopwatch()
        reply = session.run_turn(view)
        if reply.finish_reason == "interrupted":
            raise Interrupted("")
        return Answer(
            text=reply.text,
            thought=reply.thought,
            finish_reason=reply.finish_reason,
            prompt_tokens=reply.prompt_tokens,
            reused_tokens=reply.reused_tokens,
            completion_tokens=reply.completion_tokens,
            first_s=view.first_s,
            total_s=view.total_s,
            prompt_tps=round(reply.prompt_tps, 2),
            decode_tps=round(reply.decode_tps, 2),
            loop=asdict(reply.loop) if reply.loop else None,
        )

    def read_facts(self) -> dict[str, Any]:
        """Return what is known of the model and this machine.

        "peak_bytes" is the most memory that the worker process has held so far, "fit_bytes" what
        was estimated for it before; None for what is not known.
        """
        session, found = self._session, find_model_file(self._spec.name)
        loaded = session.engine.loaded
        settings = session.sampling
        peak = 0 if session.engine.has_ended else peak_resident_bytes(session.engine.pid)
        return {
            "file": found.path.name,
            "bytes": found.path.stat().st_size,
            "file_type": type_of(session.header),
            "n_params": loaded.n_params,
            "n_ctx": loaded.n_ctx,
            "n_threads": loaded.n_threads,
            "load_s": round(session.load_s, 3),
            "peak_bytes": peak or None,
            "fit_bytes": session.resident_bytes or None,
            "sampling": {
                name: round(getattr(settings, name), 6)
                for name in ("temp", "top_p", "top_k", "min_p", "repeat_penalty")
            },
            "g4": __version__,
            **describe_setup(),
        }


def describe_setup() -> dict[str, str]:
    """Return the version and build of llama.cpp and this machine, as the facts name them."""
    return {
        "llama_cpp_python": engine_version() or "",
        "llama_cpp_sha256": hash_library(),
        "machine": describe_machine(),
    }


def describe_machine() -> str:
    """Return the processor and the operating system of this machine."""
    return f"{read_cpu_name()}, {platform.system()} {platform.machine()}"


class RemoteAnswerer:
    """A model behind an endpoint."""

    def __init__(self, spec: ModelSpec, endpoint: Endpoint) -> None:
        self._spec, self._endpoint = spec, endpoint
        self._name = ""
        self._not_sent: tuple[str, ...] = ()

    def answer(self, prompt: Prompt, seed: int) -> Answer:
        """Return the answer to `prompt`. Raises NetworkError or BadMedia."""
        messages: list[dict[str, Any]] = []
        system = prompt.system or self._spec.settings.get("system", "")
        if system:
            messages.append({"role": "system", "content": system})
        messages.append({"role": "user", "content": _make_content(prompt)})
        got = self._endpoint.answer(messages, self._spec.make_options(seed))
        self._name, self._not_sent = got.model, got.not_sent
        rate = None
        if got.completion_tokens and got.first_s is not None:
            decode_s = got.total_s - got.first_s
            # An answer that comes at once was not streamed while it was made.
            rate = round(got.completion_tokens / decode_s, 2) if decode_s > _MIN_S else None
        return Answer(
            text=got.text,
            thought=got.thought,
            finish_reason=got.finish_reason,
            prompt_tokens=got.prompt_tokens,
            reused_tokens=None,
            completion_tokens=got.completion_tokens,
            first_s=got.first_s,
            total_s=got.total_s,
            prompt_tps=None,
            decode_tps=rate,
            loop=find_word_loop(got.text),
        )

    def read_facts(self) -> dict[str, Any]:
        """Return what is known of the model; "not_sent" are the options that the server refused."""
        return {
            "url": self._spec.url,
            "served_as": self._name,
            "not_sent": list(self._not_sent),
            "g4": __version__,
        }


def _make_content(prompt: Prompt) -> str | list[dict[str, Any]]:
    """Return the content of a user's message in OpenAI's form. Raises BadMedia."""
    if not prompt.media:
        return prompt.text
    parts: list[dict[str, Any]] = []
    for medium in prompt.media:
        data, header = read_media(medium.path, medium.kind)
        encoded = base64.b64encode(data).decode()
        if medium.kind == "image":
            kind = "jpeg" if header.format == "jpg" else header.format
            url = f"data:image/{kind};base64,{encoded}"
            parts.append({"type": "image_url", "image_url": {"url": url}})
        else:
            sound = {"data": encoded, "format": header.format}
            parts.append({"type": "input_audio", "input_audio": sound})
    return [*parts, {"type": "text", "text": prompt.text}]
