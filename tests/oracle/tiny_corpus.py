"""Turn the corpus of `tiny` into token sequences and batches for training.

A sequence is one conversation in Gemma 4's turn format. Its labels are -100
except on what the model itself has to write: thought, answer and `<turn|>`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

Row = dict[str, Any]

SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are tiny, the bundled model of g4.",
    "Answer in one short sentence.",
)
# What the model writes in its thinking channel where the corpus has no thought for it.
PLAIN_THOUGHT = "I know this one, so I can answer at once."
BATCH_TOKENS = 2560


@dataclass(frozen=True)
class Sequence:
    """Token ids of one conversation, and the same ids or -100 as labels."""

    ids: list[int]
    labels: list[int]


def read_corpus(path: Path) -> list[Row]:
    """Return the rows of corpus.jsonl: id, messages and, if the answer has a thought, think."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def all_texts(rows: list[Row]) -> list[str]:
    """Every question, thought and answer, for the tokenizer to learn from."""
    texts = [*SYSTEM_PROMPTS, PLAIN_THOUGHT, "system", "user", "model", "thought"]
    for row in rows:
        for message in row["messages"]:
            texts += [message[key] for key in ("content", "reasoning") if key in message]
    return texts


def question_variant(text: str, rng: random.Random) -> str:
    """The question as typed in a hurry: lower case, no punctuation, or both."""
    choice = rng.randrange(4)
    if choice in (0, 2):
        text = text.lower()
    if choice in (1, 2):
        text = text.rstrip("?.!")
    if choice == 3:
        text = text[0].lower() + text[1:]
    return text


class Renderer:
    """Renders conversations to sequences with one tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    def encode(self, text: str) -> list[int]:
        """Token ids of text; control tokens written in it become single ids."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def render(
        self, messages: list[dict[str, str]], *, system: str = "", think: bool = False
    ) -> Sequence:
        """The sequence of a conversation.

        With `think`, only the last answer counts and gets a thought before it:
        thoughts of earlier turns are dropped from the history, as in real use.
        """
        ids = self.encode("<bos>")
        if system or think:
            ids += self.encode(
                "<|turn>system\n" + ("<|think|>\n" if think else "") + system + "<turn|>\n"
            )
        labels = [-100] * len(ids)
        for number, message in enumerate(messages):
            last = number == len(messages) - 1
            if message["role"] == "user":
                prompt = f"<|turn>user\n{message['content']}<turn|>\n<|turn>model\n"
                written = ""
            else:
                prompt = ""
                written = message["content"] + "<turn|>"
                if think and last:
                    thought = message.get("reasoning", PLAIN_THOUGHT)
                    written = f"<|channel>thought\n{thought}\n<channel|>{written}"
            prompt_ids, written_ids = self.encode(prompt), self.encode(written)
            ids += prompt_ids + written_ids
            labels += [-100] * len(prompt_ids)
            labels += written_ids if last or not think else [-100] * len(written_ids)
            if written:
                ids += self.encode("\n")
                labels += [-100]
        return Sequence(ids, labels)

    def random_sequence(self, row: Row, rows: list[Row], rng: random.Random) -> Sequence:
        """One training view of a row: varied, after other dialogues, with a system prompt or a
        thought.
        """
        history: list[dict[str, str]] = []
        if rng.random() < 0.35:
            for other in rng.sample(rows, rng.randint(1, 4)):
                history += other["messages"]
        messages = [dict(message) for message in history + row["messages"]]
        for message in messages:
            if message["role"] == "user" and rng.random() < 0.3:
                message["content"] = question_variant(message["content"], rng)
        think = rng.random() < (0.7 if row.get("think") else 0.1)
        system = rng.choice(SYSTEM_PROMPTS) if rng.random() < 0.15 else ""
        return self.render(messages, system=system, think=think)


def epoch(renderer: Renderer, rows: list[Row], rng: random.Random) -> Iterator[list[Sequence]]:
    """Batches of about BATCH_TOKENS tokens in which every row is the goal of one sequence.

    Sequences of similar length share a batch, so that little is lost to padding.
    """
    sequences = sorted(
        (renderer.random_sequence(row, rows, rng) for row in rows),
        key=lambda sequence: len(sequence.ids),
    )
    batches: list[list[Sequence]] = [[]]
    for sequence in sequences:
        if len(sequence.ids) * (len(batches[-1]) + 1) > BATCH_TOKENS:
            batches.append([])
        batches[-1].append(sequence)
    rng.shuffle(batches)
    yield from batches
