"""What `g4 serve` prints when it starts."""

from __future__ import annotations

import json
import sys

from g4cli.cli.output import Output
from g4cli.core.units import count_text
from g4cli.operations.serving.loaded import LoadedModel
from g4cli.operations.serving.service import Service


def show_start(out: Output, url: str, service: Service, *, has_keys: bool) -> None:
    """Print the address `url`, the models, and a line to try."""
    models = service.list_models()
    data = {
        "url": url,
        "openai_base_url": f"{url}/v1",
        "api_key_needed": has_keys,
        "models": [model.name for model in models],
    }

    def render() -> None:
        names = ", ".join(model.name for model in models)
        out.line(f"serving {names or 'no model yet: g4 pull tiny'}")
        out.line(f"page:    {url}  (in a browser)")
        out.line(f"API:     {url}/v1  (OpenAI's form)")
        message = json.dumps({"messages": [{"role": "user", "content": "Hello"}]})
        key = " -H 'Authorization: Bearer KEY'" if has_keys else ""
        out.line(f"try it:  curl {url}/v1/chat/completions{key} -d '{message}'")
        out.line("Ctrl-C stops the server.")

    out.result(data, render, brief=url)
    sys.stdout.flush()  # whoever starts a server with --port 0 waits for its address


def describe_loaded(model: LoadedModel) -> str:
    """Return what fits: the requests that a model computes at once, and the context of each."""
    requests = count_text(model.n_slots, "request")
    return f"{model.name} is loaded: {requests} at once, {model.n_ctx:,} tokens of context each"
