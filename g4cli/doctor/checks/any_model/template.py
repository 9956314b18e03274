"""Checks of the chat template of another model than Gemma 4: presence, and what it writes."""

from __future__ import annotations

import re
from typing import Final

from g4cli.core.template_child import TEMPLATE_LIMIT
from g4cli.doctor.checks.advice import EXAMINE, GET_ANOTHER
from g4cli.doctor.checks.template import check_safe
from g4cli.doctor.facts.file_facts import FileFacts
from g4cli.doctor.report import Check, Outcome, fail, ok, skipped, warn

# Spellings of the end of a turn in published chat models; <|endoftext|> and </s> end a text.
_TURN_END: Final = re.compile(r"im_end|end_of_turn|eot_id|<turn\|>|<\|end\|>|<\|eot\|>")


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
    turn_end = _find_turn_end(facts)
    if turn_end and facts.own_prompt.text.strip() == facts.own_prompt.question:
        return fail(
            f"it writes the question alone, but the vocabulary ends turns with {turn_end!r}: the "
            "model expects turns",
            GET_ANOTHER,
            cause="template",
            confidence="medium",
        )
    return ok("writes a prompt with the question in it")


def _find_turn_end(facts: FileFacts) -> str:
    """Return the token that ends a turn in this vocabulary, '' if it is not one for chats."""
    ends = facts.tokenizer.ends if facts.tokenizer is not None else ()
    return next((text for _, text in ends if _TURN_END.search(text)), "")


CHECKS: Final = (
    Check("template.present", check_present),
    Check("template.safe", check_safe),
    Check("template.rendering", check_rendering),
)
