"""The process that holds the model: `python -m g4cli.runtime.engine.worker`.

Loads the file, holds context, drafter and media encoder, and runs turns token by token; see
`messages` for what it is asked and answers.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from g4cli.core.child import ChildLimits, set_limits
from g4cli.core.errors import G4Error, Interrupted, RuntimeFailed, UsageError, too_many_tokens
from g4cli.runtime.engine.draft_model import DraftModel, explain_unsupported
from g4cli.runtime.engine.llama_engine import BaseEngine, LlamaEngine
from g4cli.runtime.engine.masks import make_grammar_error
from g4cli.runtime.engine.messages import (
    CODEC,
    AttachMedia,
    CheckGrammar,
    Detokenize,
    DeviceFacts,
    Encode,
    Encoded,
    FindLongestPiece,
    FinishStates,
    Hello,
    Loaded,
    LongestPiece,
    Open,
    Opening,
    StatesFinished,
    Text,
    Tokenize,
    Tokens,
)
from g4cli.runtime.engine.model import Model
from g4cli.runtime.engine.service import Handler, Service, Turns
from g4cli.runtime.engine.speculation import LookupDrafter
from g4cli.runtime.engine.turn_queue import TurnQueue
from g4cli.runtime.llama.devices import list_devices

if TYPE_CHECKING:
    from g4cli.runtime.engine.state_cache import StateCache


class EngineWorker:
    """Carries out the requests of the process that started this one, on one model."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._opened: BaseEngine | None = None
        self.turns: Turns | None = None  # what carries turns out, once the model is loaded
        self._states: StateCache | None = None

    @property
    def handlers(self) -> Mapping[type[Any], Handler]:
        """Return what carries out each kind of request between two batches."""
        return {
            Open: self._open_model,
            AttachMedia: self._attach_media,
            FinishStates: self._finish_states,
        }

    @property
    def questions(self) -> Mapping[type[Any], Handler]:
        """Return what answers each kind of request that needs no context, beside the batches."""
        return {
            Tokenize: self._tokenize_parts,
            Detokenize: self._detokenize,
            FindLongestPiece: self._find_longest_piece,
            Encode: self._encode_media,
            CheckGrammar: self._check_grammar,
        }

    @property
    def _engine(self) -> BaseEngine:
        if self._opened is None:
            raise RuntimeFailed("no model is loaded")
        return self._opened

    def _open_model(self, request: Open) -> Iterator[Any]:
        interrupt = self._service.interrupt
        if request.data_bytes:
            set_limits(ChildLimits(data_bytes=request.data_bytes))
        if request.context.n_parallel > 1 and request.draft.kind == "network":
            raise UsageError(
                "a draft model reads the KV cache of a single conversation",
                hint="--parallel 1, or --draft lookup",
            )
        yield Opening(request.path)
        model = Model(
            request.path,
            request.model,
            progress=self._service.progress,
            stop=lambda: interrupt.is_set,
        )
        if request.context.n_parallel > 1:
            from g4cli.runtime.engine.scheduler import Scheduler  # loads numpy

            scheduler = Scheduler(model, request.context, self._service)
            self._opened = self.turns = scheduler
            if request.draft.kind == "lookup":
                scheduler.draft_by_lookup(request.draft.exactness)
        else:
            engine = self._opened = LlamaEngine(model, request.context, interrupt)
            yield from self._attach_drafter(engine, request)
            self.turns = TurnQueue(engine, self._service)
        if request.states is not None:
            from g4cli.runtime.engine.state_cache import StateCache

            kv_type = request.context.kv_type
            self._states = StateCache(request.states, model, request.model, kv_type)
            self._engine.use_states(self._states)
        yield self._describe_loaded()

    def _attach_drafter(self, engine: LlamaEngine, request: Open) -> Iterator[Any]:
        draft = request.draft
        if draft.kind == "lookup":
            engine.attach_drafter(lambda _: LookupDrafter(), draft.exactness)
        elif (path := draft.path) is not None:
            yield Opening(path)
            # A draft model has neither experts nor a table of per-layer embeddings.
            options = replace(request.model, lazy_ple="off", n_cpu_moe=0)
            engine.attach_drafter(
                lambda context: DraftModel(path, context, options), draft.exactness
            )

    def _describe_loaded(self) -> Loaded:
        model, context = self._engine.model, self._engine.context
        return Loaded(
            n_ctx=context.n_ctx,
            n_ctx_train=model.n_ctx_train,
            n_vocab=model.n_vocab,
            n_params=model.n_params,
            size_bytes=model.size_bytes,
            description=model.description,
            kv_bytes=context.kv_bytes,
            compute_bytes=context.compute_bytes,
            n_threads=context.n_threads,
            gpu_bytes=model.gpu_bytes + context.gpu_bytes,
        )

    def _attach_media(self, request: AttachMedia) -> Iterator[Any]:
        yield Opening(request.options.mmproj)
        self._engine.attach_media(request.options)
        yield self._describe_loaded()

    def _tokenize_parts(self, request: Tokenize) -> Iterator[Any]:
        tokens = self._engine.prompts.tokens_of(request.parts, with_bos=request.bos)
        if request.most_tokens and len(tokens) > request.most_tokens:
            raise too_many_tokens(f"{len(tokens):,}", request.most_tokens)
        yield Tokens(tuple(tokens))

    def _find_longest_piece(self, _request: FindLongestPiece) -> Iterator[Any]:
        yield LongestPiece(self._engine.model.longest_piece)

    def _detokenize(self, request: Detokenize) -> Iterator[Any]:
        model = self._engine.model
        for token in request.tokens:
            if not 0 <= token < model.n_vocab:
                raise UsageError(f"token {token} is not in the vocabulary of {model.n_vocab:,}")
        yield Text(b"".join(map(model.piece, request.tokens)).decode("utf-8", "replace"))

    def _encode_media(self, request: Encode) -> Iterator[Any]:
        encoder = self._engine.prompts.require_media()
        if not encoder.encode(request.media):
            raise Interrupted("")
        medium = encoder.split(request.media)
        yield Encoded(len(medium.tokens), len(medium.runs))

    def _check_grammar(self, request: CheckGrammar) -> Iterator[Any]:
        masks = self._engine.masks
        threading.Thread(target=masks.start, daemon=True).start()  # takes a second
        if fault := masks.find_fault(request.grammar):
            raise make_grammar_error(request.grammar, fault)
        yield from ()  # there is no answer but Done

    def _finish_states(self, request: FinishStates) -> Iterator[Any]:
        interrupt = self._service.interrupt
        yield StatesFinished(
            self._states is None or self._states.finish(request.timeout_s, lambda: interrupt.is_set)
        )


def describe_build() -> Hello:
    """Return what this build of llama.cpp sees. Raises EngineMissing."""
    return Hello(
        tuple(DeviceFacts(**asdict(d)) for d in list_devices()), explain_unsupported() or ""
    )


def main() -> None:
    """Serve the process that started this one."""
    service = Service(CODEC)
    try:
        service.send_answer(describe_build())
    except G4Error as err:
        service.fail_request(err)
        return
    worker = EngineWorker(service)
    service.serve_requests(worker.handlers, worker.questions, lambda: worker.turns)


if __name__ == "__main__":
    main()
