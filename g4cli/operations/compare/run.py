"""Run a comparison: load one model after the other, ask what is missing, append the answers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any, NamedTuple

from g4cli.core.errors import G4Error, Interrupted
from g4cli.core.reporter import Reporter
from g4cli.core.units import count_text
from g4cli.operations.compare.answerers import Answer, Answerer, identify_model, open_answerer
from g4cli.operations.compare.judge import ask_judge
from g4cli.operations.compare.judgement import judge_answer
from g4cli.operations.compare.quality import measure_model
from g4cli.operations.compare.results import ResultsFile, make_key
from g4cli.operations.compare.specs import ModelSpec
from g4cli.operations.prompts import Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareRequest:
    """What to compare: each of `prompts` is asked `samples` times of each of `models`.

    `judge` gives opinions about pairs of answers, if there is one. `text` is a file on which local
    models are evaluated, on the first `text_limit` answers or passages (0: all). `command` is the
    command line, for the report.
    """

    prompts: tuple[Prompt, ...]
    models: tuple[ModelSpec, ...]
    samples: int = 1
    judge: ModelSpec | None = None
    text: Path | None = None
    text_limit: int = 0
    command: str = ""


@dataclass(slots=True)
class ComparedModel:
    """A model with its facts and answers. `problem` says why answers are missing, or is "".

    `facts`, `answers` and `quality` are rows of the results, the answers by the prompt's id and the
    sample. `error` is what stopped the model; `problem` says it in words, for the report.
    """

    spec: ModelSpec
    facts: Mapping[str, Any] = field(default_factory=dict)
    answers: dict[tuple[str, int], Mapping[str, Any]] = field(default_factory=dict)
    quality: Mapping[str, Any] | None = None
    problem: str = ""
    error: G4Error | None = None


@dataclass(slots=True)
class Comparison:
    """A comparison as far as it was run. `interrupted`: by Ctrl-C; the next run continues it."""

    request: CompareRequest
    models: list[ComparedModel]
    opinions: list[Mapping[str, Any]] = field(default_factory=list)
    judge_identity: str = ""
    interrupted: bool = False


class _Job(NamedTuple):
    """An answer to ask for, and its key in the results. Samples count from 0."""

    prompt: Prompt
    sample: int
    seed: int
    key: str


def run_comparison(request: CompareRequest, results: ResultsFile, reporter: Reporter) -> Comparison:
    """Return the answers of all models; those that `results` has already are not asked again.

    A model that cannot be loaded, does not fit, or fails is skipped, and its `error` says why; if
    no model answered, the first of these errors is raised. Raises what ResultsFile.add raises.
    """
    comparison = Comparison(request, [ComparedModel(spec) for spec in request.models])
    try:
        for model in comparison.models:
            try:
                _collect_answers(model, request, results, reporter)
                if request.text is not None and not model.spec.url:
                    model.quality = measure_model(
                        model.spec, request.text, request.text_limit, results, reporter
                    )
            except Interrupted:
                raise
            except G4Error as err:
                model.error = err
                model.problem = err.message + (f" ({err.hint})" if err.hint else "")
                reporter.warn(f"{model.spec.label}: {model.problem}")
        if request.judge is not None:
            _add_opinions(comparison, request.judge, results, reporter)
    except (Interrupted, KeyboardInterrupt):
        comparison.interrupted = True
    errors = [model.error for model in comparison.models if model.error is not None]
    if len(errors) == len(comparison.models) and not any(
        model.answers or model.quality for model in comparison.models
    ):
        raise errors[0]
    return comparison


def _add_opinions(
    comparison: Comparison, judge: ModelSpec, results: ResultsFile, reporter: Reporter
) -> None:
    """Fill in what `judge` says; if it fails, the comparison is kept without the rest."""
    answers = {model.spec.label: model.answers for model in comparison.models}
    if judge.label in answers:
        reporter.warn(f"{judge.label} judges its own answers")
    try:
        identity = comparison.judge_identity = identify_model(judge, reporter)
        prompts = comparison.request.prompts
        for opinion in ask_judge(judge, identity, prompts, answers, results, reporter):
            comparison.opinions.append(opinion)
    except Interrupted:
        raise
    except G4Error as err:
        reporter.warn(f"the judge {judge.label}: {err.message}")


def _collect_answers(
    model: ComparedModel, request: CompareRequest, results: ResultsFile, reporter: Reporter
) -> None:
    """Fill in the answers and facts of a model: from `results`, the others by asking it."""
    spec = model.spec
    identity = identify_model(spec, reporter)
    model_key = make_key(identity, spec.identity)
    model.facts = results.find("model", model_key) or {}
    missing = []
    for job in _iter_jobs(model_key, request, spec):
        row = results.find("answer", job.key)
        if row is None:
            missing.append(job)
        else:
            model.answers[job.prompt.id, job.sample] = _judge_again(row, job.prompt)
    if not missing:
        return
    n_done = len(model.answers)
    if n_done:
        reporter.say(f"{spec.label}: {count_text(n_done, 'answer', 'are')} there already")
    with (
        open_answerer(spec, reporter) as answerer,
        reporter.progress(spec.label, unit="steps") as progress,
    ):
        n_all = n_done + len(missing)
        progress(n_done, n_all, "answers")
        facts = {"label": spec.label, "identity": identity, "settings": dict(spec.settings)}
        try:
            for job, answer in _iter_answers(answerer, missing, spec.n_parallel):
                judgement = judge_answer(job.prompt, answer.text)
                row = results.add(
                    "answer",
                    job.key,
                    {
                        "model": model_key,
                        "prompt": job.prompt.id,
                        "prompt_sha256": job.prompt.digest,
                        "sample": job.sample,
                        "seed": job.seed,
                        "at": int(time.time()),
                        **asdict(answer),
                        "judged": _judging_key(job.prompt),
                        **asdict(judgement),
                    },
                )
                model.answers[job.prompt.id, job.sample] = row
                n_done += 1
                progress(n_done, n_all, "answers")
        finally:
            model.facts = results.add("model", model_key, facts | answerer.read_facts())


def _iter_jobs(model_key: str, request: CompareRequest, spec: ModelSpec) -> Iterator[_Job]:
    """Yield all answers that a model is to give, those that the results have already included."""
    for sample in range(request.samples):
        for prompt in request.prompts:
            key = make_key(model_key, prompt.digest, sample)
            yield _Job(prompt, sample, spec.seed + sample, key)


def _iter_answers(
    answerer: Answerer, jobs: Sequence[_Job], n_parallel: int
) -> Iterator[tuple[_Job, Answer]]:
    """Yield the answers as they come; up to `n_parallel` are asked for at once.

    After an error nothing more is asked, but the answers under way are yielded before it is raised.
    """
    if n_parallel == 1:
        for job in jobs:
            yield job, answerer.answer(job.prompt, job.seed)
        return
    waiting: Queue[_Job] = Queue()
    done: Queue[tuple[_Job, Answer | Exception] | None] = Queue()
    for job in jobs:
        waiting.put(job)
    n_running, error = min(n_parallel, len(jobs)), None
    for _ in range(n_running):
        # Daemons, since Ctrl-C must not wait for a server to answer.
        Thread(target=_answer_jobs, args=(answerer, waiting, done), daemon=True).start()
    while n_running:
        if (row := done.get()) is None:
            n_running -= 1
            continue
        job, outcome = row
        if isinstance(outcome, Answer):
            yield job, outcome
        elif not isinstance(outcome, G4Error):
            raise outcome
        else:
            error = error or outcome
            list(_take_all(waiting))  # nothing more is asked
    if error is not None:
        raise error


def _answer_jobs(
    answerer: Answerer, waiting: Queue[_Job], done: Queue[tuple[_Job, Answer | Exception] | None]
) -> None:
    """Answer the jobs that are waiting, and put None when there are none; errors are outcomes."""
    for job in _take_all(waiting):
        try:
            done.put((job, answerer.answer(job.prompt, job.seed)))
        except Exception as err:
            done.put((job, err))
    done.put(None)


def _take_all(queue: Queue[_Job]) -> Iterator[_Job]:
    """Take jobs out of a queue until it is empty."""
    with suppress(Empty):
        while True:
            yield queue.get_nowait()


def _judge_again(row: Mapping[str, Any], prompt: Prompt) -> Mapping[str, Any]:
    """Return a result, judged anew if what is expected of the answer has changed."""
    key = _judging_key(prompt)
    if row.get("judged") == key:
        return row
    judgement = judge_answer(prompt, str(row.get("text", "")))
    return {**row, "prompt": prompt.id, "judged": key, **asdict(judgement)}


def _judging_key(prompt: Prompt) -> str:
    """Return a key of all that the judgement of an answer to `prompt` depends on."""
    return make_key(prompt.kind, prompt.expected, prompt.schema)
