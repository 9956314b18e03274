"""What the process with the conversation and the worker with the model say to each other.

Every request has a number, and every answer carries the number of its request. A request ends with
`Done`, or with `Failed`. Any number of other answers come before that.

    client -> worker  Open, AttachMedia, Tokenize, Detokenize, FindLongestPiece, Encode,
                      CheckGrammar, RunTurn, FinishStates; Cancel (of a request)
    worker -> client  Hello (once, number 0), Opening, Progress, Loaded, Tokens, Text, LongestPiece,
                      Encoded, StatesFinished, the events of a turn as `g4cli.chat` has them
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from g4cli.chat import Finished, LoopNoticed, PromptRead, TurnOptions
from g4cli.core.errors import G4Error, error_of
from g4cli.prompt.messages import Media, Part
from g4cli.prompt.reply import AnswerText, CallMade, ThoughtEnded, ThoughtText
from g4cli.runtime.engine.codec import Codec
from g4cli.runtime.engine.drafting import DraftChoice
from g4cli.runtime.engine.options import (
    ContextOptions,
    GrammarScope,
    MediaOptions,
    ModelOptions,
    Sampling,
    StateOptions,
)


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """`runtime.llama.devices.Device`, for processes that must not import llama.cpp."""

    name: str
    description: str
    kind: str
    free_bytes: int
    total_bytes: int


# --- Requests ---


@dataclass(frozen=True, slots=True)
class Open:
    """Load the model and make its context.

    `data_bytes`: the most private memory that the kernel may give the worker from now on; 0: no
    limit. `states`: None saves and restores no states of prompts.
    """

    path: Path
    model: ModelOptions
    context: ContextOptions
    draft: DraftChoice
    data_bytes: int = 0
    states: StateOptions | None = None


@dataclass(frozen=True, slots=True)
class AttachMedia:
    """Load the encoder of images and sound."""

    options: MediaOptions


@dataclass(frozen=True, slots=True)
class Tokenize:
    """Answer with the Tokens of a rendered prompt.

    `bos`: with the token that begins every prompt, if it is not there already. `most_tokens`: more
    are refused (ContextFull); 0: any number.
    """

    parts: tuple[Part, ...]
    bos: bool = True
    most_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Detokenize:
    """Answer with the Text of tokens."""

    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FindLongestPiece:
    """Answer with the LongestPiece of the vocabulary."""


@dataclass(frozen=True, slots=True)
class Encode:
    """Encode an image or a sound and keep the result; answer with Encoded."""

    media: Media


@dataclass(frozen=True, slots=True)
class CheckGrammar:
    """Fail if a grammar cannot be used; begin to index the vocabulary for it."""

    grammar: str


@dataclass(frozen=True, slots=True)
class RunTurn:
    """Evaluate the prompt and answer it.

    `grammar_scope` says what of the answer must belong to `grammar`, which is llguidance's JSON
    (see `g4cli.prompt.answer_grammar`).
    """

    prompt: tuple[int, ...]
    sampling: Sampling
    options: TurnOptions
    grammar: str | None = None
    grammar_scope: GrammarScope = "all"


@dataclass(frozen=True, slots=True)
class FinishStates:
    """Answer with StatesFinished when all states of prompts are written, or after `timeout_s`."""

    timeout_s: float


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop the request that carries the same number."""


# --- Answers ---


@dataclass(frozen=True, slots=True)
class Hello:
    """llama.cpp is loaded.

    `draft_refusal`: why this build cannot use draft models, "" if it can.
    """

    devices: tuple[DeviceFacts, ...] = ()
    draft_refusal: str = ""


@dataclass(frozen=True, slots=True)
class Opening:
    """This file is being loaded: if the process ends now, it ended because of it. None: all are
    loaded.
    """

    path: Path | None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a long step has come, as `g4cli.core.progress` has it."""

    done: int
    total: int
    part: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """The model and its context as they are. Bytes of buffers are llama.cpp's own figures.

    `description`: architecture, size and type of the model, as llama-bench prints them.
    `gpu_bytes`: what this machine's GPUs hold of the weights, the KV cache and the compute buffers.
    """

    n_ctx: int
    n_ctx_train: int
    n_vocab: int
    n_params: int
    size_bytes: int
    description: str
    kv_bytes: int
    compute_bytes: int
    n_threads: int
    gpu_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token ids; negative numbers stand for positions of an image or sound."""

    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Text:
    """The text of tokens; bytes that are no UTF-8 became U+FFFD."""

    text: str


@dataclass(frozen=True, slots=True)
class LongestPiece:
    """How many bytes of text a token of the vocabulary stands for at most."""

    n_bytes: int


@dataclass(frozen=True, slots=True)
class Encoded:
    """An encoded image or sound: its positions in a prompt, and the pieces it was cut into."""

    n_tokens: int
    n_pieces: int


@dataclass(frozen=True, slots=True)
class StatesFinished:
    """Whether all states of prompts are written."""

    complete: bool


@dataclass(frozen=True, slots=True)
class Done:
    """The request has been carried out."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The request failed. `reference` names the class of the error: `core.errors.error_of`."""

    reference: str
    message: str
    hint: str | None = None

    def as_error(self) -> G4Error:
        """Return the error."""
        return error_of(self.reference, self.message, self.hint)


# What the messages of measurements have in common with these: `runtime.measure.messages`.
COMMON: Final = (Cancel, Hello, Opening, Progress, Done, Failed)
CODEC: Final = Codec(
    (
        *COMMON, Open, AttachMedia, Tokenize, Detokenize, FindLongestPiece, Encode, CheckGrammar,
        RunTurn, FinishStates, Loaded, Tokens, Text, LongestPiece, Encoded,
        StatesFinished, Finished,
        PromptRead, LoopNoticed, AnswerText, ThoughtText, ThoughtEnded, CallMade,
    )
)  # fmt: skip
