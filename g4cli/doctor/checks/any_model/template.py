"""Checks of the chat template of another model than Gemma 4: presence, and what it writes."""

from __future__ import annotations

from typing import Final

from g4cli.core.template_child import TEMPLATE_LIMIT
from g4cli.doctor.checks.advice import EXAMINE, GET_ANOTHER
from g4cli.doctor.checks.template import check_safe
from g4cli.doctor.facts.file_facts import FileFacts
from g4cli.doctor.report import Check, Outcome, fail, ok, skipped, warn


def check_present(facts: FileFacts) -> Outcome:
    """Warn of a chat model without a template: every program then guesses its format."""
    if facts.vocabulary is None:
        return skipped("no tokenizer in the file")
    text = facts.stored_template
    if text and len(text) > TEMPLATE_LIMIT:
        return warn(f"the template has {len(text):,} characters: it is not rendered")
    if text:
        return ok(f"{len(text):,} characters")
    if facts.is_chat_model:
        return warn(
            "there is no chat template: llama.cpp falls back to ChatML, which may not be this "
            "model's format",
            GET_ANOTHER,
        )
    return ok("none, as usual for a model that is not for chat")


def check_rendering(facts: FileFacts) -> Outcome:
    """Fail if the template cannot be rendered, or leaves the question out of the prompt."""
    if not facts.template:
        return skipped("no template")
    if facts.depth == "quick":
        return skipped("not rendered with --quick", EXAMINE)
    if facts.own_prompt is None:
        return skipped("it was not rendered")
    if facts.own_prompt.fault:
        return fail(facts.own_prompt.fault, GET_ANOTHER, cause="template", confidence="high")
    if facts.own_prompt.question not in facts.own_prompt.text:
        return fail(
            "the prompt that it writes does not contain the question",
            GET_ANOTHER,
            cause="template",
            confidence="high",
            detail=(facts.own_prompt.text[:400],),
        )
    return ok("writes a prompt with the question in it")


CHECKS: Final = (
    Check("template.present", check_present),
    Check("template.safe", check_safe),
    Check("template.rendering", check_rendering),
)
