"""Does the chat template speak Gemma 4's format, and nothing else?"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

from g4cli.core.template_child import TEMPLATE_LIMIT
from g4cli.doctor.report import Check, Outcome, fail, ok, skipped, warn

if TYPE_CHECKING:
    from g4cli.doctor.facts.file_facts import FileFacts

KEY: Final = "tokenizer.chat_template"
FIX: Final = "g4 doctor FILE --fix OUT (puts a clean Gemma 4 template in)"
# sha256 prefix -> what it is (reference of the published files)
KNOWN: Final = {
    "2dfbfc7d": ("launch, 2026-04-02", True),
    "85a08664": ("2026-04-10, large models", False),
    "94899c0f": ("2026-05-06, large models", False),
    "33204f1a": ("2026-05-06, small models", False),
    "ae53464b": ("2026-07-09, large models", False),
    "0a2c8073": ("2026-07-09, small models", False),
}
FOREIGN: Final = (
    # marker, family
    ("<start_of_turn>", "Gemma 1 to 3"),
    ("<|im_start|>", "ChatML"),
    ("[INST]", "Llama 2 or Mistral"),
    ("<|start_header_id|>", "Llama 3"),
    ("<|begin_of_sentence|>", "DeepSeek"),
    ("<|user|>", "Phi or Zephyr"),
)
# What no template of a model needs: the ways out of a sandbox, and time bombs.
ATTACKS: Final = re.compile(
    r"__\w+__|\|\s*attr\s*\(|\bcycler\b|\blipsum\b|\bjoiner\b|\bself\._|\bpopen\b|\bsubprocess\b|\bos\.system\b"
    r"|\{%-?\s*(?:include|import|from|extends)\b"
)


def template_of(facts: FileFacts) -> str | None:
    """Return the template in the file; None too for one that is too long to be looked at."""
    text = _whole_template(facts)
    return text if text is not None and len(text) <= TEMPLATE_LIMIT else None


def _whole_template(facts: FileFacts) -> str | None:
    value = facts.header.keys.get(KEY) if facts.header is not None else None
    return str(value.data) if value is not None and isinstance(value.data, str) else None


def check_present(facts: FileFacts) -> Outcome:
    """Say whether there is a template, and of which family."""
    if facts.header is None or facts.vocabulary is None:
        return skipped("no tokenizer in the file")
    text = _whole_template(facts)
    if text and len(text) > TEMPLATE_LIMIT:
        return fail(
            f"the template has {len(text):,} characters, those of Gemma 4 have under 20,000",
            FIX,
            cause="template",
        )
    if not text:
        # llama.cpp falls back to ChatML, which Gemma 4 has never seen.
        found = "there is no chat template: engines fall back to another model's format"
        if facts.is_chat_model:
            return fail(found, FIX, cause="template")
        return warn(f"{found} (a base model needs none)", FIX)
    for marker, family in FOREIGN:
        if marker in text and "<|turn>" not in text:
            return fail(
                f"the template is that of {family} ({marker}), not of Gemma 4",
                FIX,
                cause="template",
            )
    if "<|turn>" not in text:
        found = "the template never opens a turn (<|turn>)"
        return (
            warn(found, FIX)
            if facts.untrained or facts.depth == "quick"
            else fail(found, FIX, cause="template")
        )
    return ok(f"{len(text):,} characters, opens turns with <|turn>")


def check_safe(facts: FileFacts) -> Outcome:
    """Look for constructs that attack the engine which renders the template."""
    text = template_of(facts)
    if not text:
        return skipped("no template")
    found = sorted({m[0].strip() for m in ATTACKS.finditer(text)})
    if found:
        return fail(
            f"the template holds {', '.join(found[:4])}: an attempt to break out of the engine",
            FIX,
            cause="template",
            confidence="high",
        )
    return ok("nothing in it reaches outside the template")


def check_known(facts: FileFacts) -> Outcome:
    """Name the revision of a template that was published."""
    text = template_of(facts)
    if not text:
        return skipped("no template")
    sha = hashlib.sha256(text.encode()).hexdigest()
    name, outdated = KNOWN.get(sha[:8], ("", False))
    if outdated:
        return warn(f"the template is the one of {name}: tool calls were changed since", FIX)
    return ok(f"published: {name}" if name else f"none of the published ones (sha256 {sha[:8]})")


def check_rendering(facts: FileFacts) -> Outcome:
    """Render a conversation in the sandbox and compare it with g4's own renderer."""
    text = template_of(facts)
    if not text or "<|turn>" not in text:
        return skipped("no Gemma 4 template")
    if facts.depth == "quick":
        return skipped("not rendered with --quick", "g4 doctor FILE")
    from g4cli.core.errors import BadFile
    from g4cli.core.template_child import render_template
    from g4cli.prompt.messages import Message
    from g4cli.prompt.render import PromptStyle, render
    from g4cli.prompt.template import variables_of

    message = "What is the capital of France?"
    try:
        [given] = render_template(text, [variables_of([Message("user", message)], PromptStyle())])
    except BadFile as err:
        return fail(err.message, FIX, cause="template")
    wanted = {
        "".join(
            p.text for p in render([Message("user", message)], PromptStyle(empty_thought=empty))
        )
        for empty in (False, True)
    }
    if given in wanted:
        return ok("renders a question exactly as Gemma 4 expects it")
    return fail(
        f"a question is rendered as {_shortened(given)!r}",
        FIX,
        cause="template",
        confidence="high",
        detail=tuple(sorted(wanted)),
    )


def _shortened(text: str) -> str:
    return text if len(text) <= 160 else text[:100] + " ... " + text[-50:]


CHECKS: Final = (
    Check("template.present", check_present),
    Check("template.safe", check_safe),
    Check("template.known", check_known),
    Check("template.rendering", check_rendering),
)
