"""g4 with a model that says what it is told to, calls of tools too: the network is tiny, and a
grammar leaves it no choice.

    python -m tests.support.fakes.calling_chat SCRIPT.json chat MODEL ...

SCRIPT is a list of answers in turn, the last one for ever: {"text": "..."}, or {"call": NAME,
"arguments": {...}}.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from g4cli.cli.main import main
from g4cli.operations.chat import session
from g4cli.prompt.answer_grammar import AnswerForm, make_grammar
from g4cli.runtime.engine.messages import RunTurn


def write_grammar(answer: dict[str, Any]) -> str:
    """Return the grammar whose only sentence is `answer`."""
    if "text" in answer:
        return make_grammar(AnswerForm("gbnf", f"root ::= {json.dumps(answer['text'])}"))
    values = {key: {"enum": [value]} for key, value in answer["arguments"].items()}
    parameters = {"type": "object", "properties": values, "required": list(values)}
    function = {"name": answer["call"], "parameters": parameters}
    return make_grammar(None, [{"type": "function", "function": function}], several=False)


class Script:
    """Makes requests whose answers are those of a script."""

    def __init__(self, answers: list[dict[str, Any]]) -> None:
        self._answers = answers

    def make_request(self, prompt: Any, sampling: Any, options: Any, *_: Any) -> RunTurn:
        """Return the request of the next turn."""
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return RunTurn(prompt, sampling, options, write_grammar(answer))


if __name__ == "__main__":
    script = Script(json.loads(Path(sys.argv.pop(1)).read_text()))
    session.RunTurn = script.make_request  # type: ignore[assignment,misc]
    main()
