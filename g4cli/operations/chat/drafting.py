"""What guesses tokens ahead in a chat: nothing, the text itself, or a drafting network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from g4cli.cli.chat.run import Checked
    from g4cli.cli.output import Output
    from g4cli.runtime.engine.llama_engine import LlamaEngine
    from g4cli.runtime.engine.model import ModelOptions
    from g4cli.runtime.engine.speculation import Exactness


@dataclass(frozen=True, slots=True)
class Draft:
    """Where guesses come from; `path` is the network's file, `exactness` what temperature 0 asks of them."""

    kind: Literal["off", "lookup", "network"]
    exactness: Exactness
    path: Path | None = None

    @property
    def n_outputs(self) -> int:
        """Return how many tokens of a batch need scores."""
        from g4cli.runtime.engine.speculation import N_OUTPUTS

        return 1 if self.kind == "off" else N_OUTPUTS

    @property
    def wish(self) -> str:
        """Return the value of `--draft` that names it: what the plan of memory is asked with."""
        return str(self.path) if self.path else self.kind


def choose_draft(out: Output, wish: str, model: Checked) -> Draft:
    """Return what `--draft` asks for. A network's file is tried in a child process the first time.

    Who names the source himself wants guesses also where a near tie may fall otherwise at temperature 0;
    "auto" changes nothing there. Raises FileMissing, UsageError (not for this model, or not with this build),
    or what trying it raises.
    """
    from g4cli.core.errors import UsageError
    from g4cli.core.files import require_file
    from g4cli.core.gguf import read_header
    from g4cli.core.shape import shape_of
    from g4cli.runtime.engine.speculation import SMALLEST_BYTES, float_matrices
    from g4cli.store.models import sidecar

    if wish in ("off", "lookup"):
        return Draft("lookup" if wish == "lookup" else "off", "not asked for")
    is_auto = wish == "auto"
    exactness: Exactness = "not asked for"
    if is_auto:
        exactness = "impossible" if float_matrices(model.header) else "by comparison"
    path = sidecar(model.path, "draft") if is_auto else require_file(Path(wish).expanduser())
    if path is None:
        nbytes = sum(tensor.nbytes for tensor in model.header.tensors.values())
        # With experts each token reads other weights: what guessing gains there was never measured.
        pays = nbytes >= SMALLEST_BYTES and not shape_of(model.header).n_expert
        return Draft("lookup" if pays else "off", exactness)
    from g4cli.runtime.engine.drafter import mismatch, refusal
    from g4cli.runtime.probes.load_check import check_load, is_known

    why = refusal() or mismatch(read_header(path), model.header)
    if why and is_auto:
        out.warn(f"{why}: it is left out")
        return Draft("lookup", exactness)
    if why:
        raise UsageError(why, hint="--draft lookup")
    if not is_known(model.path, use_extra_bufts=model.use_extra_bufts, draft=path):
        out.say("first use of this drafting network: trying it in a process of its own ...")
        check_load(model.path, use_extra_bufts=model.use_extra_bufts, draft=path)
    out.say(f"{path.name} drafts for {model.path.name}")
    return Draft("network", exactness, path)


def attach(engine: LlamaEngine, draft: Draft, options: ModelOptions) -> None:
    """Let `engine` guess ahead; `options` are those the model was loaded with."""
    from dataclasses import replace

    from g4cli.runtime.engine.speculation import DraftGuesser, LookupGuesser

    path = draft.path
    if draft.kind == "lookup":
        engine.attach_guesser(lambda _: LookupGuesser(), draft.exactness)
    elif path is not None:
        alone = replace(options, lazy_ple="off", cpu_moe=False)
        engine.attach_guesser(lambda context: DraftGuesser(path, context, alone), draft.exactness)
