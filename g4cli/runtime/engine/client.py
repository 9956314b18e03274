"""The model as the process with the conversation sees it: a worker process behind a few calls.

Nothing here imports llama.cpp. When the worker ends, by a crash or by a kill, the call that runs
raises how it ended (see `ending`); `reopen` starts another worker with the same model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from g4cli.chat import DraftStats, Finished, TurnEvent
from g4cli.core.child import NO_VARIABLES
from g4cli.core.errors import RuntimeFailed
from g4cli.core.progress import Progress, no_progress
from g4cli.prompt.messages import Media, Part
from g4cli.runtime.engine.ctrl_c import CtrlC
from g4cli.runtime.engine.messages import (
    CODEC,
    AttachMedia,
    CheckGrammar,
    Detokenize,
    Encode,
    Encoded,
    FinishStates,
    Hello,
    Loaded,
    Open,
    RunTurn,
    StatesFinished,
    Text,
    Tokenize,
    Tokens,
)
from g4cli.runtime.engine.options import MediaOptions
from g4cli.runtime.engine.process import WorkerProcess

MODULE = "g4cli.runtime.engine.worker"  # what the worker process runs


class EngineClient:
    """One model in a worker process. Close it when done; use it as a context manager."""

    def __init__(self, environment: Mapping[str, str] = NO_VARIABLES) -> None:
        """Start the worker: it loads llama.cpp while the caller goes on. Raises RuntimeFailed.

        `environment`: variables that the worker gets in addition, such as switches of llama.cpp.
        After a turn, `n_past` is the number of tokens in the context, `drafted` what was drafted.
        """
        self._environment = environment
        # `reopen` replaces the worker: whichever it is then has to hear of Ctrl-C.
        self.ctrl_c = CtrlC(lambda: self._worker.handle_interrupt())
        self._worker = self._start_worker()
        self._hello: Hello | None = None
        self._opened: Open | None = None
        self._media: AttachMedia | None = None
        self._loaded: Loaded | None = None
        self.n_past = 0
        self.drafted: DraftStats | None = None

    def _start_worker(self) -> WorkerProcess:
        return WorkerProcess(MODULE, CODEC, self.ctrl_c, environment=self._environment)

    def hello(self) -> Hello:
        """Return what llama.cpp sees here, once it is loaded.

        Raises EngineMissing or RuntimeFailed.
        """
        if self._hello is None:
            self._hello = self._worker.read_hello()
        return self._hello

    def open(self, request: Open, progress: Progress = no_progress) -> None:
        """Load the model of `request`.

        Raises BadFile (llama.cpp crashed of the file), RuntimeFailed, NoMemory, UsageError (no such
        device, KV type or drafter) or Interrupted.
        """
        self.hello()
        self._worker.current_file = request.path
        self._opened, self._loaded = request, self._worker.ask(request, progress)

    def reopen(self, progress: Progress = no_progress) -> None:
        """Start another worker in the place of one that has ended, with the same model."""
        if self._opened is None:
            raise RuntimeFailed("no model was loaded")
        self._worker.close()
        self._worker, self._hello = self._start_worker(), None
        self.n_past, self.drafted = 0, None
        try:
            self.open(self._opened, progress)
            if self._media is not None:
                self.attach_media(self._media.options)
        except BaseException:
            self._worker.close()  # a worker without its model is of no use
            raise

    @property
    def has_ended(self) -> bool:
        """Return whether the worker is gone: then `reopen` is needed."""
        return self._worker.has_ended

    @property
    def pid(self) -> int:
        """Return the id of the worker process."""
        return self._worker.pid

    @property
    def loaded(self) -> Loaded:
        """Return the facts of the loaded model. Raises RuntimeFailed if none was loaded."""
        if self._loaded is None:
            raise RuntimeFailed("no model is loaded")
        return self._loaded

    @property
    def n_ctx(self) -> int:
        """Return the size of the context in tokens."""
        return self.loaded.n_ctx

    @property
    def path(self) -> Path:
        """Return the model's file."""
        if self._opened is None:
            raise RuntimeFailed("no model is loaded")
        return self._opened.path

    @property
    def has_media(self) -> bool:
        """Return whether an encoder of images and sound is attached."""
        return self._media is not None

    def attach_media(self, options: MediaOptions) -> None:
        """Load the encoder of images and sound. Raises what `open` raises."""
        request = AttachMedia(options)
        self._loaded = self._worker.ask(request)
        self._media = request

    def encode(self, media: Media) -> Encoded:
        """Encode an image or sound, if that was not done before.

        Raises BadMedia, NotFound or UsageError (what is wrong with the file), Interrupted or
        RuntimeFailed.
        """
        if self._media is not None:
            self._worker.current_file = self._media.options.mmproj
        try:
            encoded: Encoded = self._worker.ask(Encode(media))
        finally:
            self._worker.current_file = self.path
        return encoded

    def tokens_of(self, parts: Sequence[Part], *, bos: bool = True) -> tuple[int, ...]:
        """Return the tokens of a rendered prompt, with `bos` exactly one BOS at its start.

        New media in it are split, not encoded: NotFound, BadMedia or UsageError if they cannot be.
        """
        tokens: Tokens = self._worker.ask(Tokenize(tuple(parts), bos))
        return tokens.ids

    def text_of(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens; bytes that are no UTF-8 become U+FFFD.

        Raises UsageError for a token that is not in the vocabulary.
        """
        text: Text = self._worker.ask(Detokenize(tuple(tokens)))
        return text.text

    def check_grammar(self, grammar: str) -> None:
        """Raise UsageError if a grammar cannot be used."""
        self._worker.ask(CheckGrammar(grammar))

    def run_turn(self, request: RunTurn, progress: Progress = no_progress) -> Iterator[TurnEvent]:
        """Yield the events of a turn, Finished last.

        Raises ContextFull, UsageError or RuntimeFailed.
        """
        for event in self._worker.read_answers(self._worker.send_request(request), progress):
            if isinstance(event, Finished):
                self.n_past, self.drafted = event.n_past, event.drafted
            yield event

    def finish_states(self, timeout_s: float) -> bool:
        """Wait at most that long for states of prompts being written; return whether none is left.

        A worker that ended before writes none. Ctrl-C ends the wait. Raises what the end of the
        worker raises if it ends meanwhile.
        """
        if self._opened is None or self._opened.states is None or self.has_ended:
            return True
        finished: StatesFinished = self._worker.ask(FinishStates(timeout_s))
        return finished.complete

    def close(self) -> None:
        """End the worker: its memory is free at once."""
        self._worker.close()

    def __enter__(self) -> EngineClient:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
