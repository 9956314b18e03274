"""One turn and the conversation round it, on an engine that needs no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from g4cli.chat import (
    Answer,
    Conversation,
    Evaluated,
    Finished,
    LoopNoticed,
    PromptRead,
    Reply,
    TurnEvent,
    TurnOptions,
    fit_prompt,
    run_turn,
)
from g4cli.core.errors import BadFile, ContextFull
from g4cli.core.progress import Progress, no_progress
from g4cli.prompt.messages import Media, Message, ToolCall
from g4cli.prompt.reply import AnswerText, CallMade, SampledToken, ThoughtText

END = 9
NO_LIMITS = TurnOptions()


class ScriptedEngine:
    """Answers with given pieces; token n is pieces[n - 10]. Evaluates for free."""

    def __init__(self, *pieces: str | bytes, n_ctx: int = 1000, interrupt_after: int = -1) -> None:
        self.pieces = [p if isinstance(p, bytes) else p.encode() for p in pieces]
        self.n_ctx, self.n_past, self.drafted = n_ctx, 0, None
        self.given = 0
        self.advanced: list[int] = []
        self.certain: dict[int, int] = {}  # by token, how many follow it in any case
        self.interrupt_after = interrupt_after
        self.continued: list[tuple[tuple[int, ...], int]] = []
        self.probability: float | None = None
        self.asked: list[int] = []  # tokens whose probabilities were read

    @property
    def interrupted(self) -> bool:
        return self.interrupt_after >= 0 and self.given >= self.interrupt_after

    def evaluate(self, tokens: Sequence[int], progress: Progress = no_progress) -> Evaluated:
        progress(0, len(tokens), "prompt")
        self.n_past = len(tokens)
        return Evaluated(0, len(tokens), complete=self.interrupt_after != 0)

    def sample(self) -> int:
        self.given += 1
        return 10 + self.given - 1 if self.given <= len(self.pieces) else END

    def take_certain_tokens(self) -> Sequence[int]:
        found = self.certain.get(10 + self.given - 1, 0)
        self.given += found
        return range(10 + self.given - found, 10 + self.given)

    def advance(self, token: int, *certain: int) -> bool:
        self.advanced += (token, *certain)
        self.n_past += 1 + len(certain)
        return True

    def continue_without(self, prompt: Sequence[int], kept: Sequence[int], banned: int) -> bool:
        self.continued.append((tuple(kept), banned))
        self.n_past = len(prompt) + len(kept)
        return True

    def read_probabilities(self, token: int, n_top: int) -> SampledToken:
        return SampledToken(token, self.piece(token), -0.5 * n_top)

    def read_probability(self, token: int) -> float | None:
        self.asked.append(token)
        return self.probability

    def piece(self, token: int) -> bytes:
        return self.pieces[token - 10] if token >= 10 else b"<channel|>"

    def is_end(self, token: int) -> bool:
        return token == END

    @property
    def model(self) -> ScriptedEngine:
        return self

    @property
    def digits(self) -> dict[int, int]:
        return {}

    @property
    def close_thought(self) -> list[int]:
        return [5]


class LoopingEngine(ScriptedEngine):
    """Says 'a', 'b', then 'x y ' for ever."""

    def sample(self) -> int:
        self.given += 1
        return 10 + self.given - 1 if self.given <= 2 else 12 + self.given % 2


class CountingEngine(ScriptedEngine):
    """Says 'item 000\n', 'item 001\n', ... until it is cut back.

    The tokens 10 to 19 are digits, 20 is the word, 21 the end of a line.
    """

    def __init__(self, first: int = 0) -> None:
        super().__init__(*"0123456789", "item ", "\n", n_ctx=9999)
        self.given = first

    @property
    def digits(self) -> dict[int, int]:
        return {10 + value: value for value in range(10)}

    def sample(self) -> int:
        if self.continued:
            return END
        number, place = divmod(self.given, 5)
        self.given += 1
        return (20, *(10 + int(c) for c in f"{number:03d}"), 21)[place]


class RecoveringEngine(LoopingEngine):
    """The same, but once it was cut back it says 'a' and ends."""

    def sample(self) -> int:
        if not self.continued:
            return super().sample()
        self.n_after = getattr(self, "n_after", 0) + 1
        return 10 if self.n_after == 1 else END


def events_of(engine: ScriptedEngine, options: TurnOptions = NO_LIMITS) -> list[TurnEvent]:
    return list(run_turn(engine, [1, 2, 3], options))


def reply_of(engine: ScriptedEngine, options: TurnOptions = NO_LIMITS) -> Reply:
    last = events_of(engine, options)[-1]
    assert isinstance(last, Finished)
    return last.reply


class TestTurn:
    def test_a_plain_answer(self) -> None:
        events = events_of(ScriptedEngine("Hel", "lo"))
        assert isinstance(events[0], PromptRead)
        assert events[1:3] == [AnswerText("Hel"), AnswerText("lo")]
        reply = reply_of(ScriptedEngine("Hel", "lo"))
        assert (reply.text, reply.finish_reason, reply.completion_tokens) == ("Hello", "stop", 2)
        assert (reply.prompt_tokens, reply.tokens, reply.loop) == (3, (10, 11), None)

    def test_characters_split_over_tokens(self) -> None:
        data = "日".encode()
        assert reply_of(ScriptedEngine(data[:1], data[1:2], data[2:], "!")).text == "日!"

    def test_a_character_appears_with_its_last_byte(self) -> None:
        answer = Answer(ScriptedEngine(*(bytes([byte]) for byte in "é日🎈".encode())), NO_LIMITS)
        texts = ["".join(event.text for event in answer.add_token(token)
                         if isinstance(event, AnswerText)) for token in range(10, 19)]  # fmt: skip
        assert texts == ["", "é", "", "", "日", "", "", "", "🎈"]

    def test_invalid_bytes_are_shown(self) -> None:
        assert reply_of(ScriptedEngine(b"a\xffb")).text == "a\ufffdb"

    def test_text_goes_on_after_an_unfinished_character(self) -> None:
        call = b"<|tool_call>", b"call:f{}", b"<tool_call|>"
        reply = reply_of(ScriptedEngine("日".encode()[:2], *call, b"ok"))
        assert (reply.text, len(reply.tool_calls)) == ("\ufffdok", 1)

    def test_a_call_that_was_cut_off_is_no_text(self) -> None:
        pieces = ("<|tool_call>", "call:f{a:", "1}", "<tool_call|>")
        reply = reply_of(ScriptedEngine(*pieces), TurnOptions(max_tokens=2))
        assert (reply.text, reply.tool_calls, reply.finish_reason) == ("", (), "length")

    def test_an_unfinished_character_does_not_vanish(self) -> None:
        assert reply_of(ScriptedEngine("a", b"\xe6")).text == "a�"

    def test_a_mark_after_an_unfinished_character_is_still_a_mark(self) -> None:
        reply = reply_of(
            ScriptedEngine(b"\xe6", "<|channel>", "thought", "\n", "hm", "<channel|>", "b")
        )
        assert (reply.text, reply.thought) == ("�b", "hm")

    def test_thought_and_call(self) -> None:
        engine = ScriptedEngine(
            "<|channel>",
            "thought",
            "\n",
            "hm",
            "<channel|>",
            "<|tool_call>",
            "call:f{}",
            "<tool_call|>",
        )
        events = events_of(engine)
        assert ThoughtText("hm") in events
        assert CallMade(ToolCall("f", {})) in events

    def test_tokens_that_are_certain_come_with_the_one_before_them(self) -> None:
        engine = ScriptedEngine(*"abcdef")
        engine.certain = {10: 2, 13: 1}
        assert reply_of(engine).text == "abcdef"
        assert engine.advanced == [10, 11, 12, 13, 14, 15]
        for n_ctx, text in ((5, "abc"), (6, "abcd")):  # three of them are the prompt's
            engine = ScriptedEngine(*"abcdef", n_ctx=n_ctx)
            engine.certain = {10: 2, 13: 1}
            reply = reply_of(engine)
            assert (reply.text, reply.context_full) == (text, True)
        engine = ScriptedEngine(*"abcdef")
        engine.certain = {10: 4}
        assert reply_of(engine, TurnOptions(max_tokens=3)).text == "abc"
        engine.certain = {10: 4}
        engine.given = 0
        assert reply_of(engine, TurnOptions(stop=("c",))).text == "ab"

    def test_max_tokens(self) -> None:
        reply = reply_of(ScriptedEngine("a", "b", "c"), TurnOptions(max_tokens=2))
        assert (reply.text, reply.finish_reason, reply.context_full) == ("ab", "length", False)

    def test_a_full_context_ends_the_answer_and_says_so(self) -> None:
        reply = reply_of(ScriptedEngine(*"abcdef", n_ctx=5))
        assert (reply.text, reply.finish_reason, reply.context_full) == ("abc", "length", True)

    def test_interrupted_while_answering_keeps_the_text(self) -> None:
        reply = reply_of(ScriptedEngine(*"abcdef", interrupt_after=2))
        assert (reply.text, reply.finish_reason) == ("ab", "interrupted")

    def test_interrupted_while_reading(self) -> None:
        events = events_of(ScriptedEngine("a", interrupt_after=0))
        assert len(events) == 1
        assert isinstance(events[0], Finished)
        assert events[0].reply.finish_reason == "interrupted"

    def test_a_loop_ends_the_answer(self) -> None:
        engine = LoopingEngine("a", "b", "x ", "y ")
        events = events_of(engine)
        reply = events[-1].reply if isinstance(events[-1], Finished) else None
        assert reply is not None
        assert reply.finish_reason == "loop"
        assert reply.loop is not None
        assert (reply.loop.period, reply.loop.onset) == (2, 2)
        assert sorted(reply.loop.unit.split()) == ["x", "y"]
        assert reply.text_to_loop == "ab" + reply.loop.unit

    def test_a_loop_that_the_model_is_certain_of_ends_earlier(self) -> None:
        unsure, certain = (LoopingEngine("a", "b", "x ", "y ", n_ctx=9999) for _ in range(2))
        unsure.probability, certain.probability = 0.5, 0.99
        replies = [reply_of(unsure), reply_of(certain)]
        assert [reply.finish_reason for reply in replies] == ["loop", "loop"]
        assert replies[1].loop == replace(replies[0].loop, covered=replies[1].loop.covered)
        assert 10 * replies[1].completion_tokens < 7 * replies[0].completion_tokens

    def test_probabilities_are_read_only_while_the_answer_repeats_itself(self) -> None:
        engine = ScriptedEngine(*map(str, range(200)), n_ctx=9999)
        reply_of(engine)
        assert not engine.asked
        looping = LoopingEngine("a", "b", "x ", "y ", n_ctx=9999)
        reply_of(looping, TurnOptions(on_loop="ignore", max_tokens=300))
        assert not looping.asked
        reply_of(looping, TurnOptions(max_tokens=60))
        assert 0 < len(looping.asked) < 60

    def test_a_counting_loop_is_found_by_the_vocabularys_own_digits(self) -> None:
        reply = reply_of(CountingEngine(), TurnOptions(max_tokens=4000))
        assert reply.finish_reason == "loop"
        assert reply.loop is not None
        assert reply.loop.kind == "counter"

    @pytest.mark.slow
    @pytest.mark.parametrize("first", range(5))
    def test_a_count_is_cut_back_to_one_whole_copy(self, first: int) -> None:
        """`first`: the place in a copy with which the answer begins."""
        engine = CountingEngine(first)
        events = events_of(engine, TurnOptions(on_loop="retry", max_tokens=4000))
        (notice,) = [event for event in events if isinstance(event, LoopNoticed)]
        assert notice.loop.kind == "counter"
        ((kept, banned),) = engine.continued
        copy = kept[notice.loop.onset :]
        assert (copy.count(20), copy.count(21)) == (1, 1), "the word and the end of a line"
        assert not {kept[-1], banned} <= engine.digits.keys(), "not within a number"
        assert notice.loop.unit == "".join(engine.pieces[token - 10].decode() for token in copy)

    def test_a_loop_is_cut_back_and_continued_once(self) -> None:
        engine = RecoveringEngine("a", "b", "x ", "y ", n_ctx=9999)
        events = events_of(engine, TurnOptions(on_loop="retry"))
        (notice,) = [event for event in events if isinstance(event, LoopNoticed)]
        assert notice.retried
        assert notice.loop.period == 2
        assert notice.text == "aby x ", "one copy stays"
        reply = reply_of(
            RecoveringEngine("a", "b", "x ", "y ", n_ctx=9999), TurnOptions(on_loop="retry")
        )
        assert reply.text == "aby x a"
        assert (reply.finish_reason, reply.loop, reply.retried) == ("stop", None, notice.loop)
        assert reply.tokens == (10, 11, 13, 12, 10)
        assert engine.continued == [((10, 11, 13, 12), 13)]

    def test_a_second_loop_ends_the_answer(self) -> None:
        engine = LoopingEngine("a", "b", "x ", "y ", n_ctx=9999)
        reply = reply_of(engine, TurnOptions(on_loop="retry"))
        assert reply.finish_reason == "loop"
        assert reply.loop is not None
        assert reply.retried is not None
        assert len(engine.continued) == 1

    def test_an_interruption_while_the_prompt_is_read_again_ends_the_answer(self) -> None:
        class Interrupted(LoopingEngine):
            def continue_without(self, *args: Any) -> bool:
                super().continue_without(*args)
                return False

        reply = reply_of(
            Interrupted("a", "b", "x ", "y ", n_ctx=9999), TurnOptions(on_loop="retry")
        )
        assert (reply.finish_reason, reply.text) == ("interrupted", "aby x ")

    def test_a_loop_may_be_told_and_go_on(self) -> None:
        options = TurnOptions(max_tokens=1000, on_loop="warn")
        engine = LoopingEngine("a", "b", "x ", "y ", n_ctx=9999)
        events = events_of(engine, options)
        (notice,) = [event for event in events if isinstance(event, LoopNoticed)]
        assert not notice.retried
        reply = events[-1].reply  # type: ignore[union-attr]
        assert (reply.finish_reason, reply.completion_tokens) == ("length", 1000)
        assert reply.loop == notice.loop

    def test_a_loop_in_a_thought_is_cut_back_there(self) -> None:
        pieces = ["<|channel>", "thought\n", "x ", "y "]
        engine = RecoveringEngine(*pieces, n_ctx=9999)
        events = events_of(engine, TurnOptions(on_loop="retry"))
        (notice,) = [event for event in events if isinstance(event, LoopNoticed)]
        assert (notice.text, notice.thought) == ("", "y x ")

    def test_a_loop_may_go_on(self) -> None:
        options = TurnOptions(max_tokens=2000, on_loop="ignore")
        assert (
            reply_of(LoopingEngine("a", "b", "x ", "y ", n_ctx=9999), options).finish_reason
            == "length"
        )

    def test_a_thought_longer_than_allowed_is_closed(self) -> None:
        engine = ScriptedEngine("<|channel>", "thought", "\n", "h", "m", "m", "m", "m")
        reply = reply_of(engine, TurnOptions(max_thought_tokens=5))
        assert 5 in engine.advanced
        assert (reply.thought, reply.text, reply.thought_tokens) == ("hm", "mmm", 5)

    def test_the_last_token_of_a_thought_that_is_cut_off_counts(self) -> None:
        engine = ScriptedEngine("<|channel>", "thought", "\n", "h", "m")
        assert reply_of(engine, TurnOptions(max_tokens=4)).thought_tokens == 4

    def test_a_thought_that_is_opened_again_gets_no_new_budget(self) -> None:
        pieces = ("<|channel>", "thought", "\n", "h", "m", "a", "<|channel>", "x", "y", "b")
        engine = ScriptedEngine(*pieces)
        reply = reply_of(engine, TurnOptions(max_thought_tokens=5))
        assert engine.advanced.count(5) == 2
        assert (reply.thought, reply.text) == ("hm", "axyb")

    def test_a_raw_answer_tells_the_marks_with_their_probabilities(self) -> None:
        engine = ScriptedEngine("a", "<|channel>", "b")
        events = events_of(engine, TurnOptions(raw=True, n_probs=0))
        told = [token.id for event in events if isinstance(event, AnswerText)
                for token in event.tokens]  # fmt: skip
        assert told == [10, 11, 12]

    def test_only_a_plain_answer_keeps_its_tokens(self) -> None:
        assert reply_of(ScriptedEngine("a")).message().tokens == (10,)
        assert reply_of(ScriptedEngine("a", " ")).message().tokens == ()
        thinking = ScriptedEngine("<|channel>", "thought", "\n", "h", "<channel|>", "a")
        assert reply_of(thinking).message().tokens == ()
        empty_thought = ScriptedEngine("<|channel>", "thought", "\n", "<channel|>", "a")
        assert reply_of(empty_thought).message().tokens == ()
        stopped = reply_of(ScriptedEngine("a", " STOP"), TurnOptions(stop=(" STOP",))).message()
        assert (stopped.content, stopped.tokens) == ("a", ())
        cut_call = ScriptedEngine("a", "<|tool_call>", "call:f{")
        message = reply_of(cut_call, TurnOptions(max_tokens=3)).message()
        assert (message.content, message.tokens) == ("a", ())


class TestConversation:
    def full(self) -> Conversation:
        call = ToolCall("f", {"x": [1, None]})
        return Conversation(
            "rules",
            [
                Message("user", "a", media=(Media("image", Path("a.png")),)),
                Message("assistant", "", thought="hm", tool_calls=(call,)),
                Message("tool", "42", name="f"),
                Message("assistant", "b"),
                Message("user", "c"),
                Message("assistant", "d"),
            ],
        )

    def test_save_and_load(self) -> None:
        assert Conversation.from_text(self.full().to_text()) == self.full()

    @pytest.mark.parametrize(
        "text",
        ["", "[]", "{}", "[" * 100_000, '{"format": "g4-chat", "version": 9}',
         '{"format": "g4-chat", "version": 1, "messages": [{"role": "king", "content": ""}]}',
         '{"format": "g4-chat", "version": 1, "messages": [{"role": "user", "content": 3}]}',
         '{"format": "g4-chat", "version": 1, "system": ["x"], "messages": []}',
         '{"format": "g4-chat", "version": 1, "messages": ['
         '{"role": "user", "content": "", "thought": ["x"]}]}',
         '{"format": "g4-chat", "version": 1, "messages": ['
         '{"role": "user", "content": "", "tool_calls": [{"name": null, "arguments": {}}]}]}',
         '{"format": "g4-chat", "version": 1, "messages": 3}'],
    )  # fmt: skip
    def test_no_saved_chat(self, text: str) -> None:
        with pytest.raises(BadFile):
            Conversation.from_text(text)

    @pytest.mark.parametrize("arguments", ["[[1, 2]]", '{"x":' * 500 + "1" + "}" * 500])
    def test_calls_that_no_prompt_can_hold_are_refused(self, arguments: str) -> None:
        call = f'{{"name": "f", "arguments": {arguments}}}'
        message = f'{{"role": "assistant", "content": "", "tool_calls": [{call}]}}'
        with pytest.raises(BadFile, match="arguments of a tool call"):
            Conversation.from_text(
                f'{{"format": "g4-chat", "version": 1, "messages": [{message}]}}'
            )

    def test_no_thought_and_no_name_may_be_null(self) -> None:
        text = '{"role": "tool", "content": "x", "thought": null, "name": null}'
        text = f'{{"format": "g4-chat", "version": 1, "messages": [{text}]}}'
        assert Conversation.from_text(text).turns == [Message("tool", "x")]

    def test_no_system_prompt_may_be_null(self) -> None:
        text = '{"format": "g4-chat", "version": 1, "system": null, "messages": []}'
        assert Conversation.from_text(text) == Conversation()

    def test_undo_takes_question_and_answers(self) -> None:
        conversation = self.full()
        question = conversation.undo()
        assert question is not None
        assert question.content == "c"
        assert conversation.undo() is not None
        assert conversation.turns == []
        assert conversation.undo() is None

    def test_dropping_the_oldest_keeps_the_last_question(self) -> None:
        conversation = self.full()
        conversation.drop_oldest_until(lambda _: False)
        assert [m.content for m in conversation.messages()] == ["rules", "c", "d"]
        assert len(conversation.turns) == 6, "nothing is forgotten"
        conversation.drop_oldest_until(lambda _: False)
        assert conversation.n_dropped == 4
        conversation.undo()
        conversation.undo()
        assert conversation.n_dropped == 0


class TestOverflow:
    def tokens(self, messages: Sequence[Message]) -> list[int]:
        return [0] * sum(len(message.content) for message in messages)

    def long(self) -> Conversation:
        conversation = Conversation("s" * 5)
        for _ in range(9):
            conversation.ask("q" * 5)
            conversation.answer(Message("assistant", "a" * 5))
        conversation.ask("q" * 5)
        return conversation

    def test_what_fits_is_left_alone(self) -> None:
        conversation = self.long()
        assert fit_prompt(conversation, self.tokens, n_ctx=200, policy="drop").dropped_turns == 0

    def test_dropping_leaves_half_the_context_and_the_system_text(self) -> None:
        conversation = self.long()
        fitted = fit_prompt(conversation, self.tokens, n_ctx=100, policy="drop")
        assert len(fitted.tokens) == 50
        assert fitted.dropped_turns == 10
        assert conversation.system == "sssss"
        assert conversation.messages()[1].role == "user"
        assert len(conversation.turns) == 19
        again = fit_prompt(conversation, self.tokens, n_ctx=100, policy="drop")
        assert (again.dropped_turns, again.tokens) == (0, fitted.tokens)

    @pytest.mark.parametrize("n_ctx", [30, 44, 60, 100, 130])
    def test_as_few_turns_are_dropped_as_can_be(self, n_ctx: int) -> None:
        conversation = self.long()
        fitted = fit_prompt(conversation, self.tokens, n_ctx=n_ctx, policy="drop")
        if fitted.dropped_turns:
            assert len(fitted.tokens) <= n_ctx // 2 < len(fitted.tokens) + 10

    def test_a_long_conversation_is_not_rendered_again_for_each_turn(self) -> None:
        conversation = Conversation()
        for _ in range(2000):
            conversation.ask("q" * 5)
            conversation.answer(Message("assistant", "a" * 5))
        conversation.ask("q" * 5)
        rendered = 0

        def tokens_of(messages: Sequence[Message]) -> list[int]:
            nonlocal rendered
            rendered += len(messages)
            return self.tokens(messages)

        fit_prompt(conversation, tokens_of, n_ctx=1000, policy="drop")
        assert rendered < 4001 + 2000  # all of it once, then a few times what fits
        fit_prompt(conversation, tokens_of, n_ctx=1000, policy="drop")
        assert rendered < 4001 + 2200

    @pytest.mark.parametrize(
        ("n_ctx_train", "hint"),
        [
            (0, "--ctx 1524"),
            (4096, "--ctx 1524"),
            (512, "--ctx max, or a shorter prompt: this model takes at most 512 tokens"),
            (300, "a shorter prompt: this model takes at most 300 tokens"),
            (100, "a shorter prompt: this model takes at most 100 tokens"),
        ],
    )
    def test_the_hint_knows_the_models_maximum(self, n_ctx_train: int, hint: str) -> None:
        conversation = Conversation()
        conversation.ask("q" * 500)
        with pytest.raises(ContextFull) as caught:
            fit_prompt(conversation, self.tokens, n_ctx=100, policy="drop", n_ctx_train=n_ctx_train)
        assert (caught.value.exit_code, caught.value.hint) == (4, hint)

    @pytest.mark.parametrize(
        ("n_ctx_train", "larger"),
        [(666, "--ctx max, or "), (665, ""), (501, ""), (1523, "--ctx max, or ")],
    )
    def test_the_largest_context_is_suggested_where_it_has_room_for_an_answer(
        self, n_ctx_train: int, larger: str
    ) -> None:
        """The answer gets a quarter, rounded down: 666 tokens are the fewest that hold 500."""
        conversation = Conversation()
        conversation.ask("q" * 500)
        with pytest.raises(ContextFull) as caught:
            fit_prompt(
                conversation, self.tokens, n_ctx=100, policy="error", n_ctx_train=n_ctx_train
            )
        assert caught.value.hint == (
            f"{larger}a shorter prompt: this model takes at most {n_ctx_train:,} tokens, "
            "or --on-overflow drop"
        )

    def test_error_names_the_sizes(self) -> None:
        with pytest.raises(ContextFull, match=r"100 tokens; it may fill 75 of the context of 100"):
            fit_prompt(self.long(), self.tokens, n_ctx=100, policy="error")

    def test_a_question_longer_than_the_context(self) -> None:
        conversation = Conversation()
        conversation.ask("q" * 500)
        with pytest.raises(ContextFull, match="the question alone has 500 tokens"):
            fit_prompt(conversation, self.tokens, n_ctx=100, policy="drop")
