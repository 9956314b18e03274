"""Run the experiments of `g4 doctor FILE --loop`: why does this model repeat itself, and when?

Every experiment is one answer of the engine in a worker process. Those that differ only in their
prompt share a process and its context. An environment variable that switches a part of llama.cpp
off needs another process; a crash costs one experiment.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TypeAlias

from g4cli.chat import Finished, TurnOptions
from g4cli.core.errors import G4Error, Interrupted, UsageError
from g4cli.core.file_kind import kind_of
from g4cli.core.gguf import read_header
from g4cli.core.gguf_header import Header
from g4cli.core.paths import tiny_dir
from g4cli.core.progress import Progress
from g4cli.core.quoting import shell_word
from g4cli.core.reporter import Reporter
from g4cli.core.shape import shape_of
from g4cli.core.units import GIB, duration_text
from g4cli.doctor.loop.conclusion import draw_conclusion
from g4cli.doctor.loop.outcome import LoopResult, find_repetition, is_garbage
from g4cli.doctor.loop.prompt import DEFAULT_QUESTION, SCHEMA, PromptWriter, make_writer
from g4cli.doctor.loop.report import LoopDiagnosis, write_loop_report
from g4cli.doctor.loop.search import LoopChoices, propose_experiments
from g4cli.doctor.loop.settings import EngineSettings, LoopSettings, describe_settings
from g4cli.doctor.probe.child import count_model_bytes
from g4cli.doctor.reference import find_model_name
from g4cli.host import engine_version
from g4cli.operations.diagnose import find_local_file, require_report, save_report
from g4cli.prompt.answer_grammar import AnswerForm, make_grammar
from g4cli.prompt.messages import Part
from g4cli.prompt.reply import AnswerText
from g4cli.runtime.engine.client import EngineClient
from g4cli.runtime.engine.drafting import N_OUTPUTS, DraftChoice
from g4cli.runtime.engine.messages import Open, RunTurn
from g4cli.runtime.engine.options import (
    ALL_LAYERS,
    N_UBATCH,
    ContextOptions,
    ModelOptions,
    Sampling,
    choose_sampling,
)
from g4cli.runtime.probes.kernels import probe_kernels

MAX_TOKENS: Final = 384
"""Of one answer: loops of broken files begin at once, those of small models within 300 tokens."""
_N_CTX: Final = 5120  # a choice: the longest prompt that is tried has 4,096 tokens
_LOOK_EVERY: Final = 16  # a choice: after so many tokens the answer is searched for a repetition
_SEED: Final = 1  # any: answers of experiments have to be the same each time
_TEXT_CHARACTERS: Final = 200  # a choice: characters of an answer that the report quotes
_UNIT_TOKENS: Final = 64  # a choice: tokens of a repetition that the report quotes
# A choice: private memory that the worker may have beside copies of the file. The KV cache of the
# 31B model at 5,000 tokens has 1 GiB.
_DATA_SLACK: Final = 6 * GIB

ResultCallback: TypeAlias = Callable[[LoopResult, int, float], None]
"""Called as `(result, experiments left, seconds left)` after each experiment."""


@dataclass(frozen=True, slots=True)
class LoopRequest:
    """What to ask a model, and for how long. `bug_report`: the file to write, as Markdown."""

    file: str
    question: str = DEFAULT_QUESTION
    budget_s: float = 600.0
    bug_report: Path | None = None


def diagnose_loop(
    request: LoopRequest, reporter: Reporter, on_result: ResultCallback
) -> LoopDiagnosis:
    """Return what the experiments gave; `on_result` hears of each when it is done.

    Raises UsageError for a file that is no language model or a report that would be overwritten,
    and what finding or reading the file raises. Ctrl-C ends the experiments, not the diagnosis.
    """
    if request.bug_report is not None:
        require_report(request.bug_report)
    path = find_local_file(request.file)
    header = read_header(path)
    if kind_of(header) not in ("text-model", "other-model") or not header.tensors:
        raise UsageError(
            f"{path} is not a language model",
            hint=f"g4 doctor {shell_word(path)}",
        )
    started = time.monotonic()
    runner = _ExperimentRunner(path, header, request, started)
    try:
        runner.run_experiments(reporter, on_result)
    except (Interrupted, KeyboardInterrupt):
        reporter.warn("stopped: this is what the experiments have shown so far")
    finally:
        runner.close()
    results = runner.results
    diagnosis = LoopDiagnosis(
        str(path),
        request.question,
        tuple(results),
        draw_conclusion(results, runner.n_left),
        f"llama-cpp-python {engine_version() or 'of unknown version'}",
        time.monotonic() - started,
        request.budget_s,
    )
    if request.bug_report is not None:
        save_report(request.bug_report, write_loop_report(diagnosis), reporter)
    return diagnosis


@dataclass
class _ExperimentRunner:
    """Runs experiments on one file, and holds the worker process of the last one.

    `results` are those of the experiments until now; `n_left` more would be run now, which depends
    on the results. `_engine` is the configuration in which `_client` has the file, None if it has
    not loaded it yet.
    """

    path: Path
    header: Header
    request: LoopRequest
    started: float
    results: list[LoopResult] = field(init=False, default_factory=list)
    n_left: int = field(init=False, default=0)
    _writer: PromptWriter = field(init=False)
    _sampling: Sampling = field(init=False)
    _client: EngineClient | None = field(init=False, default=None)
    _engine: EngineSettings | None = field(init=False, default=None)
    _gpus: tuple[str, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        name = ""
        with suppress(G4Error):
            name = find_model_name(shape_of(self.header))
        self._writer = make_writer(self.header, name, self.request.question)
        self._sampling = choose_sampling(self.header)

    @property
    def budget_left(self) -> float:
        """The seconds that are left."""
        return self.started + self.request.budget_s - time.monotonic()

    @property
    def n_ctx(self) -> int:
        """The size of the context in tokens: no more than the model was trained with."""
        architecture = self.header.architecture
        trained = self.header.get(f"{architecture}.context_length", int, 0)
        return min(_N_CTX, trained) if trained > 0 else _N_CTX

    def run_experiments(self, reporter: Reporter, on_result: ResultCallback) -> None:
        """Run experiments until no more are proposed; each result is added to `results`."""
        with reporter.progress(f"try {self.path.name}", unit="steps") as progress:
            choices = self._list_choices(progress)
            plan = propose_experiments(self.results, choices)
            while plan:
                n_done = len(self.results)
                if self.budget_left <= 0 and n_done:  # one experiment is always run
                    result = LoopResult(plan[0], "skipped", reason="no time left")
                else:
                    result = self._run_experiment(plan[0], n_done + len(plan), progress)
                self.results.append(result)
                plan = propose_experiments(self.results, choices)
                self.n_left = len(plan)
                on_result(result, self.n_left, self._estimate_left())

    def _estimate_left(self) -> float:
        """Return how many seconds the remaining experiments will take, the budget at most."""
        times = [result.seconds for result in self.results if result.outcome != "skipped"]
        each = sum(times) / len(times) if times else 0.0
        return max(0.0, min(self.budget_left, each * self.n_left))

    def _list_choices(self, progress: Progress) -> LoopChoices:
        """Return what can be varied; starts the first worker process, which lists the GPUs."""
        progress(0, 0, "read the chat template")
        self._client = EngineClient()
        devices = self._client.hello().devices
        self._gpus = tuple(d.name for d in devices if d.kind in ("gpu", "igpu"))
        return self._writer.list_choices(self.n_ctx, MAX_TOKENS, self._gpus)

    def _run_experiment(
        self, settings: LoopSettings, n_experiments: int, progress: Progress
    ) -> LoopResult:
        """Return what became of one answer; a crash or a refusal is a result too.

        `n_experiments` are those that were run and those that are left.
        """
        n_done, label = len(self.results), describe_settings(settings)
        left = self._estimate_left()
        note = f", about {duration_text(left)} left" if left else ""
        progress(n_done, n_experiments, label + note)

        def show_tokens(n_tokens: int) -> None:
            progress(n_done, n_experiments, f"{label}: {n_tokens} of {MAX_TOKENS} tokens")

        started = time.monotonic()
        try:
            client = self._open_engine(settings.engine, progress)
            with client.ctrl_c.listening():
                result = self._ask(client, settings, show_tokens)
        except Interrupted:
            raise
        except G4Error as err:
            self.close()
            result = LoopResult(settings, "failed", reason=err.message)
        return replace(result, seconds=time.monotonic() - started)

    def _open_engine(self, wanted: EngineSettings, progress: Progress) -> EngineClient:
        """Return a worker process that has loaded the file in the configuration `wanted`."""
        if self._client is not None and self._engine == wanted:
            return self._client
        # The first worker process, which has listed the GPUs, holds no file yet. It can be used
        # unless the experiment needs a variable in the environment of the process.
        is_unused = self._client is not None and self._engine is None
        if self._client is None or not (is_unused and wanted.rotation):
            self.close()
            switch = {} if wanted.rotation else {"LLAMA_ATTN_ROT_DISABLE": "1"}
            self._client = EngineClient(switch)
        client, self._engine = self._client, wanted
        on_gpu = bool(wanted.device)
        model = ModelOptions(
            n_gpu_layers=ALL_LAYERS if on_gpu else 0,
            device=wanted.device or None,
            use_extra_bufts=probe_kernels().use_extra_bufts,
        )
        context = ContextOptions(
            n_ctx=self.n_ctx,
            kv_type=wanted.kv_type,
            n_ubatch=wanted.n_ubatch,
            n_batch=max(wanted.n_ubatch, N_UBATCH),
            n_outputs=N_OUTPUTS if wanted.drafting else 1,
            flash_attention=None if wanted.flash_attention else False,
            use_gpu=on_gpu,
        )
        draft = DraftChoice("lookup" if wanted.drafting else "off", "not asked for")
        # Repacking copies the weights; the drivers of GPUs reserve address space by the terabyte.
        data_bytes = 0 if self._gpus else 2 * count_model_bytes(self.path) + _DATA_SLACK
        with client.ctrl_c.listening():
            client.open(Open(self.path, model, context, draft, data_bytes), progress)
        return client

    def _ask(
        self, client: EngineClient, settings: LoopSettings, on_token: Callable[[int], None]
    ) -> LoopResult:
        """Return what became of the answer under these settings.

        `on_token` is called with the number of tokens until now.
        """
        context = _read_context(client, settings.n_context) if settings.n_context else ""
        parts = self._writer.write(settings, context)
        prompt = client.tokens_of(parts, bos=settings.bos and bool(self._writer.bos))
        sampling = replace(self._sampling, seed=_SEED) if settings.sampled else Sampling(temp=0.0)
        grammar = make_grammar(AnswerForm("json_schema", SCHEMA)) if settings.schema else None
        options = TurnOptions(MAX_TOKENS, n_probs=0, raw=True)
        tokens: tuple[int, ...] = ()
        said: list[str] = []
        ended = False
        turn = client.run_turn(RunTurn(prompt, sampling, options, grammar))
        for event in turn:
            if isinstance(event, Finished):
                if event.reply.finish_reason == "interrupted":
                    raise Interrupted("")
                tokens, ended = event.reply.tokens, event.reply.finish_reason == "stop"
                break
            if not isinstance(event, AnswerText):
                continue
            said.append(event.text)
            n_before = len(tokens)
            tokens += tuple(sampled.id for sampled in event.tokens)
            on_token(len(tokens))
            is_due = len(tokens) // _LOOK_EVERY > n_before // _LOOK_EVERY
            if is_due and (find_repetition(tokens) or self.budget_left <= 0):
                turn.close()  # type: ignore[attr-defined]  # a generator: this stops the answer
                break
        text = "".join(said)
        found = None if ended else find_repetition(tokens)
        base = LoopResult(
            settings, "ended" if ended else "unended", len(tokens), text=text[:_TEXT_CHARACTERS]
        )
        if is_garbage(text, len(tokens)):
            base = replace(base, outcome="garbage")
        elif found is not None:
            base = replace(base, outcome="loop")
        if found is None:
            return base
        cycle = tokens[found.onset : found.onset + min(found.period, _UNIT_TOKENS)]
        return replace(base, repetition=found, unit=client.text_of(cycle))

    def close(self) -> None:
        """End the worker process."""
        if self._client is not None:
            self._client.close()
        self._client, self._engine = None, None


def _read_context(client: EngineClient, n_tokens: int) -> str:
    """Return about `n_tokens` tokens of English text: the corpus of the bundled model."""
    text = ""
    lines = (tiny_dir() / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    for line in lines:
        for message in json.loads(line)["messages"]:
            text += message["content"].strip() + "\n"
        if len(text) > 8 * n_tokens:  # enough: a token of English has about four characters
            break
    n_all = len(client.tokens_of([Part(text)], bos=False))
    return text[: len(text) * n_tokens // max(n_all, 1)]
