"""The facts about one file that the checks judge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from g4cli.core.errors import BadGGUF
from g4cli.core.file_kind import FileKind, makes_embeddings, text_key
from g4cli.core.gguf_header import Header
from g4cli.core.shape import Shape
from g4cli.core.template_child import TEMPLATE_KEY, TEMPLATE_LIMIT
from g4cli.doctor.facts.hashes import Hashes
from g4cli.doctor.facts.tensor_stats import TensorStats
from g4cli.doctor.facts.vocabulary import Vocabulary
from g4cli.doctor.probe.any_model import OwnPrompt, OwnTokenizer
from g4cli.doctor.probe.child import UNKNOWN_ARCHITECTURE, ProbeResult
from g4cli.doctor.probe.compare import ConfigComparison, FormatAnswers
from g4cli.doctor.probe.tokenizer import TokenizerAnswers

Depth: TypeAlias = Literal["quick", "default", "deep"]
"""What is examined: only the header; also samples and llama.cpp; every byte and every probe."""

JUDGED_KINDS: Final[frozenset[str]] = frozenset(
    ("text-model", "vocabulary", "sfp8-archive", "draft-model", "mmproj", "other-model")
)
"""The kinds of files whose content g4 can judge; of others it judges the format."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What is known about a file. What was not asked for (--quick, --only) is empty or None.

    What could not be read is None, and `fault` or `shape_fault` says why. `kind` is '' without a
    header. `model_name` is the model that the shape belongs to, or ''. `vectors` holds norms,
    scales and the RoPE table by name, each of shape (n,). `expected` holds the answers, or words of
    them, to the prompts of `probe`, and `probe_skipped` the reason why there is no probe.
    `backends` is what llama.cpp says about itself. `equal_tensors` pairs the names of tensors with
    the same bytes. `neighbors` are the headers of other GGUF files in the folder, which an mmproj
    is compared with. `own_prompt` and `own_tokenizer` are asked for models other than Gemma 4:
    what the file's own template writes, and what llama.cpp makes of its vocabulary.
    """

    path: str
    size: int
    head: bytes
    kind: FileKind | Literal[""] = ""
    header: Header | None = None
    fault: BadGGUF | None = None
    shape: Shape | None = None
    shape_fault: BadGGUF | None = None
    depth: Depth = "default"
    model_name: str = ""
    is_chat_model: bool = False
    vocabulary: Vocabulary | None = None
    stats: tuple[TensorStats, ...] = ()
    vectors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    tokenizer: TokenizerAnswers | None = None
    probe: ProbeResult | None = None
    probe_skipped: str = ""
    expected: tuple[str, ...] = ()
    comparisons: tuple[ConfigComparison, ...] = ()
    formats: tuple[FormatAnswers, ...] = ()
    hashes: Hashes | None = None
    is_sparse: bool = False
    backends: Mapping[str, Any] = field(default_factory=dict)
    equal_tensors: tuple[tuple[str, str], ...] = ()
    neighbors: tuple[Header, ...] = ()
    own_prompt: OwnPrompt | None = None
    own_tokenizer: OwnTokenizer | None = None

    @property
    def is_other_model(self) -> bool:
        """Whether the file is a language model of another architecture than Gemma 4."""
        return self.kind == "other-model"

    @property
    def reason_not_generative(self) -> str:
        """Why the network does not continue a text, '' if it does."""
        name = text_key(self.header, "general.architecture") if self.header is not None else ""
        if self.header is None or not name:
            return "it does not name its architecture"
        if "t5" in name:
            return "it has an encoder and a decoder"
        return "it makes embeddings and no answers" if makes_embeddings(self.header) else ""

    @property
    def has_unknown_architecture(self) -> bool:
        """Whether llama.cpp was asked and does not know the architecture."""
        answers = self.own_tokenizer
        return answers is not None and answers.code == UNKNOWN_ARCHITECTURE

    @property
    def is_untrained(self) -> bool:
        """Whether all norms are near 1 on average, which no trained network has."""
        means = [
            # Numbers at the end of float32, as in damaged files, must not overflow their sum.
            float(v.mean(dtype="f8"))
            for n, v in self.vectors.items()
            if n.endswith("norm.weight") and v.size >= 16
        ]
        return bool(means) and all(abs(m - 1) < 0.15 for m in means) and len(set(means)) > 1

    @property
    def stored_template(self) -> str | None:
        """The chat template in the header, however long it is."""
        value = self.header.keys.get(TEMPLATE_KEY) if self.header is not None else None
        return str(value.data) if value is not None and isinstance(value.data, str) else None

    @property
    def template(self) -> str | None:
        """The chat template, None also if it is too long to be searched or rendered."""
        text = self.stored_template
        return text if text is not None and len(text) <= TEMPLATE_LIMIT else None
