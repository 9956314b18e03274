"""Checks of the chat template: presence, safety, revision, and the prompt that it renders."""

from __future__ import annotations

import re
from functools import partial
from typing import Final

from g4cli.core.errors import BadFile
from g4cli.core.template_child import TEMPLATE_LIMIT, render_template
from g4cli.doctor.checks.advice import EXAMINE, REPAIR_TEMPLATE
from g4cli.doctor.facts.file_facts import FileFacts
from g4cli.doctor.report import Check, Outcome, fail, ok, skipped, warn
from g4cli.prompt.messages import Message
from g4cli.prompt.published_templates import describe_published, find_published, hash_template
from g4cli.prompt.render import PromptStyle, render
from g4cli.prompt.template import make_template_variables

_fail = partial(fail, fix=REPAIR_TEMPLATE, cause="template")

FOREIGN: Final = (
    # What a template writes, and whose it is then.
    ("<start_of_turn>", "Gemma 1 to 3"),
    ("<|im_start|>", "ChatML"),
    ("[INST]", "Llama 2 or Mistral"),
    ("<|start_header_id|>", "Llama 3"),
    ("<|begin_of_sentence|>", "DeepSeek"),
    ("<|user|>", "Phi or Zephyr"),
)
# What no chat template needs: known ways to escape from a sandbox, and other files.
ATTACKS: Final = re.compile(
    r"__\w+__|\|\s*attr\s*\(|\bcycler\b|\blipsum\b|\bjoiner\b|\bself\._"
    r"|\bpopen\b|\bsubprocess\b|\bos\.system\b"
    r"|\{%[-+]?\s*(?:include|import|from|extends)\b"
)


def check_present(facts: FileFacts) -> Outcome:
    """Fail without a template, and for that of another model."""
    if facts.vocabulary is None:
        return skipped("no tokenizer in the file")
    text = facts.stored_template
    if text and len(text) > TEMPLATE_LIMIT:
        return _fail(
            f"the template has {len(text):,} characters, those of Gemma 4 have under 20,000"
        )
    if not text:
        # llama.cpp falls back to ChatML, which Gemma 4 has never seen.
        found = "there is no chat template: llama.cpp falls back to another model's format"
        if facts.is_chat_model:
            return _fail(found)
        return warn(f"{found} (a pre-trained model needs none)", REPAIR_TEMPLATE)
    for marker, family in FOREIGN:
        if marker in text and "<|turn>" not in text:
            return _fail(f"the template is that of {family} ({marker}), not of Gemma 4")
    if "<|turn>" not in text:
        found = "the template never opens a turn (<|turn>)"
        # Random weights know no format, and --quick does not read whether they are random.
        if facts.is_untrained or facts.depth == "quick":
            return warn(found, REPAIR_TEMPLATE)
        return _fail(found)
    return ok(f"{len(text):,} characters, opens turns with <|turn>")


def check_safe(facts: FileFacts) -> Outcome:
    """Search for constructs that attack the program which renders the template."""
    text = facts.template
    if not text:
        return skipped("no template")
    found = sorted({m[0].strip() for m in ATTACKS.finditer(text)})
    if found:
        return _fail(
            f"the template contains {', '.join(found[:4])}: an attempt to run code in the program "
            "that renders it",
            confidence="high",
        )
    return ok("it does not try to run other code")


def check_revision(facts: FileFacts) -> Outcome:
    """Name the published revision, and warn of the one of the launch."""
    text = facts.template
    if not text:
        return skipped("no template")
    published = find_published(text)
    if published is None:
        return ok(f"not a published template (sha256 {hash_template(text)[:8]})")
    name = describe_published(published)
    if published.is_launch:
        return warn(f"{name}: later ones changed the format of tool calls", REPAIR_TEMPLATE)
    return ok(name)


def check_rendering(facts: FileFacts) -> Outcome:
    """Render a question in the sandbox and compare the prompt with that of g4's own renderer."""
    text = facts.template
    if not text or "<|turn>" not in text:
        return skipped("no Gemma 4 template")
    if facts.depth == "quick":
        return skipped("not rendered with --quick", EXAMINE)
    message = "What is the capital of France?"
    try:
        [rendered] = render_template(
            text, [make_template_variables([Message("user", message)], PromptStyle())]
        )
    except BadFile as err:
        return _fail(err.message)
    expected = {
        "".join(
            p.text for p in render([Message("user", message)], PromptStyle(empty_thought=empty))
        )
        for empty in (False, True)
    }
    if rendered in expected:
        return ok("renders a question exactly in Gemma 4's format")
    # Its beginning, and its end, where an answer begins.
    shown = rendered if len(rendered) <= 160 else rendered[:100] + " ... " + rendered[-50:]
    return _fail(
        f"a question is rendered as {shown!r}",
        confidence="high",
        detail=tuple(sorted(expected)),
    )


CHECKS: Final = (
    Check("template.present", check_present),
    Check("template.safe", check_safe),
    Check("template.revision", check_revision),
    Check("template.rendering", check_rendering),
)
