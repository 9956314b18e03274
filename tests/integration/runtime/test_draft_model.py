"""Draft models: which files are refused and why, what they draft, and `g4 chat --draft`."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from g4cli.cli.main import run
from g4cli.core.errors import UsageError
from g4cli.core.gguf import read_header
from g4cli.core.paths import models_dir
from g4cli.operations.chat.drafting import choose_draft
from g4cli.operations.chat.request import ChatRequest
from g4cli.operations.models import LoadableModel
from g4cli.runtime.engine import draft_model as draft_model_module
from g4cli.runtime.engine.context import Context
from g4cli.runtime.engine.draft_model import DraftModel
from g4cli.runtime.engine.model import Model
from g4cli.runtime.engine.options import ContextOptions, ModelOptions
from g4cli.runtime.llama.interrupt import Interrupt
from g4cli.runtime.llama.library import load_llama
from tests.support.builders.draft_file import build_tiny_draft
from tests.support.builders.tiny_file import build_tiny, build_tiny_f32, build_tiny_q8
from tests.support.fakes.reporter import RecordingReporter
from tests.support.paths import TESTS

PROMPT = [2, *range(300, 350)]
QUESTION = "What is Q4_0?"
GOLDEN = json.loads((TESTS / "golden/tiny_draft.json").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drafter")
    (folder / "tiny.gguf").write_bytes(build_tiny())
    (folder / "q8.gguf").write_bytes(build_tiny_q8())
    (folder / "draft.gguf").write_bytes(build_tiny_draft())
    (folder / "tiny-f32.gguf").write_bytes(build_tiny_f32())
    (folder / "draft-f32.gguf").write_bytes(build_tiny_draft(f32=True))
    (folder / "wide.gguf").write_bytes(build_tiny_draft(embedding_length_out=512))
    (folder / "heads.gguf").write_bytes(build_tiny_draft(**{"attention.key_length_swa": 32}))
    return folder


@pytest.fixture
def target(folder: Path) -> Iterator[Context]:
    model = Model(folder / "q8.gguf")
    context = Context(model, ContextOptions(n_ctx=512, n_outputs=4), Interrupt())
    yield context
    context.close()
    model.close()


@pytest.fixture
def drafter(folder: Path, target: Context) -> Iterator[DraftModel]:
    made = DraftModel(folder / "draft.gguf", target, ModelOptions())
    yield made
    made.close()


def drafts_and_logits(model_path: Path, draft_path: Path) -> Iterator[list[tuple[int, np.ndarray]]]:
    """Yield for each case of GOLDEN its three drafted tokens, each with its scores."""
    model = Model(model_path)
    context = Context(model, ContextOptions(n_ctx=512, n_outputs=4), Interrupt())
    made = DraftModel(draft_path, context, ModelOptions())
    for case in GOLDEN:
        *past, last = case["tokens"]
        context.truncate(0)
        context.decode_tokens(past)
        steps = []
        for count in (1, 2, 3):
            token = made.draft_round(last, len(past), count)[-1]
            scores = load_llama().llama_get_logits_ith(made._handle, 0)
            steps.append((token, np.ctypeslib.as_array(scores, (model.n_vocab,)).copy()))
        yield steps
    made.close()
    context.close()
    model.close()


@pytest.mark.slow
def test_drafts_are_those_of_transformers(folder: Path) -> None:
    """The same weights in Gemma4AssistantForCausalLM (tests/oracle/record_draft.py); one case is
    long.

    Compared by how far the token is ahead of the next best token. The numbers of the BF16 files
    stand in F32 files too, whose products round less. How far apart the two are on this machine
    bounds how far F32 is from transformers: the roundings that they share (F16 in attention and
    GELU) keep 11 bits, those of BF16 8.
    """
    n_clear = 0
    precise = drafts_and_logits(folder / "tiny-f32.gguf", folder / "draft-f32.gguf")
    coarse = drafts_and_logits(folder / "tiny.gguf", folder / "draft.gguf")
    for case, f32, bf16 in zip(GOLDEN, precise, coarse, strict=True):
        for i, expected in enumerate(case["guesses"]):
            scores = f32[i][1]
            distance = float(np.abs(scores - bf16[i][1]).max())
            ahead = float(scores[expected] - np.delete(scores, expected).max())
            # A margin is the difference of two scores.
            assert abs(ahead - case["margins"][i]) <= 2 * distance
            n_clear += case["margins"][i] > 2 * distance
            if not f32[i][0] == bf16[i][0] == expected:
                break  # a near tie fell the other way: what follows has another past
    assert n_clear > len(GOLDEN), "the tolerance lets most drafts be anything"


def test_a_draft_follows_from_the_row_that_is_looked_at(
    drafter: DraftModel, target: Context
) -> None:
    target.decode_tokens(PROMPT)
    draft = drafter.draft_round(400, len(PROMPT))
    assert len(draft) == 3
    assert drafter.draft_round(400, len(PROMPT)) == draft
    assert drafter.draft_round(401, len(PROMPT)) != draft, "the token matters"
    # The same place once more, now as the second row of a run with a wrong token behind it.
    target.truncate(len(PROMPT) - 2)
    target.decode_with_logits([*PROMPT[-2:], 9, 9])
    target.advance_row()
    target.truncate(len(PROMPT))
    assert drafter.draft_round(400, len(PROMPT)) == draft
    # Another past, another draft: it reads the KV cache of the model.
    target.truncate(0)
    target.decode_tokens([2, *range(500, 549), PROMPT[-1]])
    assert drafter.draft_round(400, len(PROMPT)) != draft


def test_the_model_says_the_same_with_a_drafter_beside_it(folder: Path, target: Context) -> None:
    target.decode_tokens(PROMPT)
    alone = target.copy_logits()
    made = DraftModel(folder / "draft.gguf", target, ModelOptions())
    target.truncate(0)
    target.decode_tokens(PROMPT)
    assert target.copy_logits() == alone
    made.draft_round(400, len(PROMPT))
    target.decode_with_logits([7])
    target.truncate(len(PROMPT) - 1)
    target.decode_with_logits([PROMPT[-1]])
    again = target.copy_logits()
    made.close()
    target.truncate(len(PROMPT) - 1)
    target.decode_with_logits([PROMPT[-1]])
    assert target.copy_logits() == again


def test_interrupted(drafter: DraftModel, target: Context) -> None:
    target.decode_tokens(PROMPT)
    target.interrupt.set()
    assert drafter.draft_round(400, len(PROMPT)) == []
    target.interrupt.clear()
    assert len(drafter.draft_round(400, len(PROMPT))) == 3


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "wide.gguf",
            "wide.gguf drafts for another model: its embedding_length_out is 512, the model's",
        ),
        (
            "heads.gguf",
            "its attention.key_length_swa is 32, the model's attention.key_length_swa is 64",
        ),
        ("tiny.gguf", "tiny.gguf is a gemma4 file, not a draft model"),
    ],
)
def test_files_that_are_refused(folder: Path, target: Context, name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        DraftModel(folder / name, target, ModelOptions())


def test_a_build_without_the_functions_says_so(
    folder: Path, target: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = draft_model_module.explain_unsupported(lambda _name: None)
    assert missing is not None
    assert "does not export _Z26llama_set_embeddings_nextn" in missing
    monkeypatch.setattr(draft_model_module, "explain_unsupported", lambda: missing)
    with pytest.raises(UsageError, match="does not export"):
        DraftModel(folder / "draft.gguf", target, ModelOptions())


class TestCommand:
    @pytest.fixture
    def chat(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> Any:
        monkeypatch.setenv("G4_HOME", str(folder / "home"))
        monkeypatch.setattr("sys.stdin", io.StringIO())

        def call(name: str | Path, *args: object) -> tuple[int, str, str]:
            capsys.readouterr()
            code = run(["chat", str(folder / name), "-p", QUESTION, *map(str, args)])
            return code, *capsys.readouterr()

        return call

    @pytest.mark.slow_except("draft.gguf")
    @pytest.mark.parametrize("how", ["off", "lookup", "draft.gguf"])
    def test_the_answer_is_the_same(self, chat: Any, folder: Path, how: str) -> None:
        code, out, _ = chat("q8.gguf", "--temp", 0, "--json", "--draft", "off")
        plain = json.loads(out)
        code, out, _ = chat(
            "q8.gguf", "--temp", 0, "--json", "--draft", folder / how if "." in how else how
        )
        data = json.loads(out)
        assert (code, data["text"]) == (0, plain["text"])
        usage = data["usage"]
        assert usage["completion_tokens"] == plain["usage"]["completion_tokens"]
        assert ("draft_tokens" in usage) == (how != "off")
        if how == "draft.gguf":
            assert usage["draft_tokens"] > 0
            assert usage["draft_tokens"] % 3 == 0
            assert usage["accepted_draft_tokens"] <= usage["draft_tokens"]

    @pytest.mark.slow
    def test_stats(self, chat: Any, folder: Path) -> None:
        _, _, err = chat("q8.gguf", "--temp", 0, "--stats", "--draft", folder / "draft.gguf")
        assert " · drafted " in err
        assert ", accepted " in err
        _, _, err = chat("tiny.gguf", "--temp", 0, "--stats", "--draft", "off")
        assert "drafted" not in err

    @pytest.mark.slow
    def test_auto_changes_no_greedy_answer(
        self, chat: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _, out, _ = chat("tiny.gguf", "--temp", 0, "--json")
        assert "draft_tokens" not in json.loads(out)["usage"], (
            "prompt lookup does not pay for so small a network"
        )
        monkeypatch.setattr("g4cli.operations.chat.drafting.MIN_DRAFTING_BYTES", 0)
        # BF16 matrices are multiplied otherwise for one token than for four.
        _, _, err = chat("tiny.gguf", "--temp", 0, "--stats")
        assert "no drafts at temp 0, where a near tie could be decided differently" in err
        _, _, err = chat("tiny.gguf", "--temp", 3, "-n", 40, "--seed", 1, "--stats", "--top-k", 2)
        assert "no drafts" not in err
        _, out, _ = chat("q8.gguf", "--temp", 0, "--json")
        assert "draft_tokens" in json.loads(out)["usage"]

    @pytest.mark.parametrize(("n_expert", "kind"), [(0, "lookup"), (128, "off")])
    def test_auto_with_experts(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, n_expert: int, kind: str
    ) -> None:
        monkeypatch.setenv("G4_HOME", str(folder / "home"))
        monkeypatch.setattr("g4cli.operations.chat.drafting.MIN_DRAFTING_BYTES", 0)
        monkeypatch.setattr(
            "g4cli.operations.chat.drafting.shape_of",
            lambda _header: SimpleNamespace(n_expert=n_expert),
        )
        model = LoadableModel(folder / "q8.gguf", read_header(folder / "q8.gguf"), True)
        reporter = RecordingReporter()
        assert choose_draft(ChatRequest(), model, str, reporter).kind == kind
        lookup = choose_draft(ChatRequest(draft="lookup"), model, str, reporter)
        assert lookup.kind == "lookup"

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("name", "code", "said"),
        [
            ("wide.gguf", 2, "drafts for another model"),
            ("none.gguf", 3, "no such file"),
            ("q8.gguf", 2, "not a draft model"),
        ],
    )
    def test_errors(self, chat: Any, folder: Path, name: str, code: int, said: str) -> None:
        found, out, err = chat("q8.gguf", "--draft", folder / name)
        assert (found, out) == (code, "")
        assert said in err

    @pytest.mark.slow
    def test_auto_takes_the_network_beside_the_model(self, chat: Any, folder: Path) -> None:
        beside = models_dir() / "mine"
        beside.mkdir(parents=True)
        for name, role in (("q8.gguf", "model"), ("draft.gguf", "draft")):
            data = (folder / name).read_bytes()
            (beside / name).write_bytes(data)
            manifest = {
                "format": 1,
                "name": "mine",
                "type": "q8_0",
                "bytes": len(data),
                "sha256": "",
            }
            (beside / f"{name}.json").write_text(
                json.dumps(
                    manifest | {"date": "2026-11-20T10:00:00Z", "source": "found", "role": role}
                )
            )
        code, _, err = chat(beside / "q8.gguf", "--temp", 0)
        assert code == 0
        assert "draft.gguf drafts for q8.gguf" in err
        _, _, err = chat(beside / "q8.gguf", "--temp", 0, "--draft", "off")
        assert "drafts" not in err
        (beside / "draft.gguf").write_bytes((folder / "wide.gguf").read_bytes())
        code, _, err = chat(beside / "q8.gguf", "--temp", 0)
        assert code == 0
        assert "drafts for another model" in err
        assert "prompt lookup is used instead" in err
