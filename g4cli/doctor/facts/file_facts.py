"""The facts about one file: `gather.py` and the probes fill them in, the checks judge them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from g4cli.core.errors import BadGGUF
from g4cli.core.file_kind import FileKind, makes_embeddings, text_key
from g4cli.core.gguf_header import Header, TensorInfo
from g4cli.core.gguf_values import Value, find_data
from g4cli.core.shape import Shape
from g4cli.core.template_child import TEMPLATE_KEY, TEMPLATE_LIMIT
from g4cli.doctor.facts.hashes import Hashes
from g4cli.doctor.facts.tensor_stats import TensorStats
from g4cli.doctor.facts.vocabulary import Vocabulary
from g4cli.doctor.probe.any_model import OwnPrompt
from g4cli.doctor.probe.child import UNKNOWN_ARCHITECTURE, GreedyRun, ProbeResult
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

    What could not be read is None, and `fault` or `shape_fault` says why.
    """

    path: str  # as the user named it; for a file on the hub OWNER/REPO/...
    size: int  # bytes
    kind: FileKind | Literal[""] = ""  # "" without a header
    header: Header | None = None
    fault: BadGGUF | None = None
    shape: Shape | None = None  # of Gemma 4 only
    shape_fault: BadGGUF | None = None
    depth: Depth = "default"
    model_name: str = ""  # g4's name of the model with this shape, "" without one
    is_chat_model: bool = False
    vocabulary: Vocabulary | None = None
    # Statistics of the data of each tensor, and its vectors (norms, scales, the RoPE table) by
    # name, each of shape (n,).
    stats: tuple[TensorStats, ...] = ()
    vectors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    equal_tensors: tuple[tuple[str, str], ...] = ()  # pairs of names with the same bytes
    # What llama.cpp makes of known texts (of the control tokens in `own_prompt` for other models);
    # its answers to the prompts, or why there are none; and what the answers should contain, in the
    # order of the prompts.
    tokenizer: TokenizerAnswers | None = None
    probe: ProbeResult | None = None
    probe_skipped: str = ""
    expected: tuple[str, ...] = ()
    # The same prompts with other configurations of llama.cpp, and in other prompt formats.
    comparisons: tuple[ConfigComparison, ...] = ()
    formats: tuple[FormatAnswers, ...] = ()
    hashes: Hashes | None = None
    is_sparse: bool = False  # most of the file takes no space on the disk
    backends: Mapping[str, Any] = field(default_factory=dict)  # known_faults.find_release reads it
    neighbors: tuple[Header, ...] = ()  # of other GGUF files in the folder, to pair an mmproj
    own_prompt: OwnPrompt | None = None  # of other models: what the file's own template writes

    @property
    def has_magic(self) -> bool:
        """Whether the file begins as a GGUF does: no other fault is at byte 0."""
        return self.fault is None or self.fault.offset != 0

    @property
    def keys(self) -> Mapping[str, Value]:
        """The keys of the header, none without one."""
        return self.header.keys if self.header is not None else {}

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """The tensors in the header by name, none without one."""
        return self.header.tensors if self.header is not None else {}

    @property
    def runs(self) -> tuple[GreedyRun, ...]:
        """The answers to the prompts, () without any."""
        return self.probe.runs if self.probe is not None else ()

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
        return self.tokenizer is not None and self.tokenizer.code == UNKNOWN_ARCHITECTURE

    @property
    def is_untrained(self) -> bool:
        """Whether the weights are random: all norms are near 1 on average, where training begins.

        Near: within 0.15, a choice. In `tiny`, which was trained, the averages go from 0.12 to
        1.67. Norms that are all exactly 1 were lost instead (the check weights.norms). Vectors of
        less than 16 numbers tell too little (a choice).
        """
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
        return find_data(self.keys, TEMPLATE_KEY, str)

    @property
    def template(self) -> str | None:
        """The chat template, None also if it is too long to be searched or rendered."""
        text = self.stored_template
        return text if text is not None and len(text) <= TEMPLATE_LIMIT else None
