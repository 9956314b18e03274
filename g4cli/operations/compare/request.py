"""Make the request of a comparison from what the command line says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from g4cli.core.errors import UsageError
from g4cli.core.files import require_file
from g4cli.core.paths import expand_home
from g4cli.core.quoting import shell_command
from g4cli.core.registry import looks_like_name
from g4cli.operations.compare.run import CompareRequest
from g4cli.operations.compare.specs import REMOTE, ModelSpec, parse_models
from g4cli.operations.prompts import Prompt, make_single_prompt, read_prompts

# A verdict is one word; a judge should not roll dice.
_JUDGE_SETTINGS: Final[Mapping[str, str]] = {"temp": "0", "max-tokens": "256", "seed": "1"}


def make_request(
    prompt: str,
    models: Sequence[str],
    *,
    types: str,
    prompts: str,
    limit: int,
    samples: int,
    settings: Mapping[str, str],
    judge: str,
    text: Path | None,
    command: str,
) -> CompareRequest:
    """Return what is to be compared, with its files checked.

    The arguments are the options of `g4 compare`; `settings` hold for models that say nothing else,
    `limit` for the file `prompts` and for the answers or passages of `text`. Raises UsageError,
    FileMissing, BadFile or BadMedia.
    """
    if types:  # then the argument that is a prompt otherwise names the model
        if not prompt or models:
            raise UsageError(
                "--types compares the types of one model",
                hint="g4 compare --types q8_0,q4_0 e2b --text FILE",
            )
        models, prompt = _list_types(prompt, types), ""
    if prompt and prompts:
        raise UsageError(
            "a prompt and --prompts cannot be used together", hint=f"--prompts {prompts}"
        )
    asked: tuple[Prompt, ...] = ()
    if prompt:
        asked = (make_single_prompt(prompt),)
    elif prompts:
        asked = read_prompts(prompts, limit=limit)
    elif text is None:
        raise UsageError(
            "there is no prompt to ask", hint='g4 compare "What is GGUF?" -m e2b -m e4b'
        )
    if not models:
        raise UsageError("name a model to ask", hint="-m e2b -m e4b")
    specs = parse_models(models, settings)
    if text is not None:
        require_file(expand_home(text))
        if all(spec.url for spec in specs):
            raise UsageError("--text needs a local model", hint="-m e2b")
    judges: tuple[ModelSpec, ...] = parse_models([judge], _JUDGE_SETTINGS) if judge else ()
    if judges and (len(specs) < 2 or not asked):
        raise UsageError("--judge compares the answers of two models or more", hint="-m e2b -m e4b")
    return CompareRequest(
        prompts=asked,
        models=specs,
        samples=samples,
        judge=judges[0] if judges else None,
        text=expand_home(text) if text else None,
        text_limit=limit,
        command=command,
    )


def _list_types(model: str, types: str) -> list[str]:
    """Return the names of a model in each of `types`, its settings kept. Raises UsageError."""
    name, mark, settings = model.partition("@")
    if name.startswith(REMOTE) or not looks_like_name(name) or ":" in name.removeprefix("hf:"):
        raise UsageError(
            f"--types needs the name of a model without a type, not {model!r}",
            hint=shell_command("g4", "list"),
        )
    chosen = [word.strip().lower() for word in types.split(",") if word.strip()]
    return [f"{name}:{word}{mark}{settings}" for word in chosen]
