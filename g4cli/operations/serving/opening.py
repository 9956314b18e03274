"""Open a model for the server: prepare, plan, load it in its worker process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from g4cli.chat import Reply, TurnOptions
from g4cli.core.errors import DoesNotFit
from g4cli.core.reporter import Reporter
from g4cli.core.shape import shape_of
from g4cli.core.units import GIB
from g4cli.fit.context import COMMON_CTX
from g4cli.host import HostFacts, read_host
from g4cli.operations.chat.drafting import choose_draft
from g4cli.operations.chat.plan import make_open_request, plan_chat, replace_gpus
from g4cli.operations.chat.session import choose_file_renderer, find_media_options
from g4cli.operations.models import LoadableModel, prepare_model
from g4cli.operations.serving.catalog import Catalog, Offer
from g4cli.operations.serving.loaded import LoadedModel
from g4cli.operations.serving.options import ServeOptions
from g4cli.operations.serving.pool import ModelPool
from g4cli.operations.serving.service import Service
from g4cli.runtime.engine.async_client import AsyncEngine
from g4cli.runtime.engine.client import EngineClient
from g4cli.runtime.engine.messages import Hello, Open
from g4cli.runtime.engine.options import IMAGE_TOKENS, MediaOptions, choose_sampling


def make_service(
    options: ServeOptions,
    reporter: Reporter,
    on_reply: Callable[[str, Reply], None] = lambda _model, _reply: None,
) -> Service:
    """Return the service that `options` describe. Raises what finding its models raises."""
    catalog = Catalog(options.models, options.aliases, options.chat.mmproj)
    contexts: dict[str, int] = {}
    opener = ModelOpener(options, catalog, reporter, contexts)
    # A worker serves one client, and each model is one.
    max_models = 1 if options.chat.workers else options.max_models
    pool = ModelPool(opener.open_model, max_models=max_models, keep_alive_s=options.keep_alive_s)
    image_tokens = options.chat.image_tokens or IMAGE_TOKENS[-1]
    return Service(catalog, pool, on_reply, image_tokens=image_tokens, contexts=contexts)


MAX_RAM_BYTES: Final = 8 * GIB
"""For states of prompts in memory: llama-server's default too (--cache-ram)."""


class ModelOpener:
    """Opens the models of a catalog with the options of the server.

    `contexts` are the contexts, in tokens, that Service.set_context chose for models by name.
    """

    def __init__(
        self,
        options: ServeOptions,
        catalog: Catalog,
        reporter: Reporter,
        contexts: Mapping[str, int],
    ) -> None:
        self._options, self._catalog, self._reporter = options, catalog, reporter
        self._contexts = contexts
        self._hello: Hello | None = None
        self._weight_bytes: dict[str, int] = {}  # of the models that were loaded, by name

    async def open_model(self, name: str, others: Sequence[str]) -> LoadedModel:
        """Return the model `name` of the catalog, loaded; those called `others` are loaded already.

        Raises DoesNotFit if it does not fit beside them, or only with a short context, or not with
        the context that was chosen for it. Raises what preparing and loading it raise.
        """
        if self._hello is None:
            self._hello = await asyncio.to_thread(_read_hello)
        offer = self._catalog.find(name)
        model, request, media = await asyncio.to_thread(self._plan_loading, offer, others)
        renderer = await asyncio.to_thread(choose_file_renderer, model, self._reporter)
        engine = await AsyncEngine.start(request, media, n_queue=self._options.queue)
        chat = self._options.chat
        sampling = choose_sampling(model.header, **chat.sampling)
        answering = TurnOptions(chat.max_tokens, chat.on_loop)
        n_slots = request.context.n_parallel
        self._weight_bytes[name] = engine.loaded.size_bytes
        return LoadedModel(name, engine, renderer, sampling, answering, n_slots=n_slots)

    def _plan_loading(
        self, offer: Offer, others: Sequence[str]
    ) -> tuple[LoadableModel, Open, MediaOptions | None]:
        """Return how to load the model. Blocks: files are read, and kernels are tried."""
        assert self._hello is not None
        hello, options = self._hello, self._options
        model = prepare_model(str(offer.path), self._reporter)
        request = replace(
            options.chat,
            model=offer.name,
            mmproj=self._catalog.find_encoder(offer),
            ctx=str(self._contexts.get(offer.name) or options.chat.ctx),
        )
        n_parallel = options.parallel
        if n_parallel == 0 and request.draft not in ("auto", "off", "lookup"):
            n_parallel = 1  # a draft model serves one conversation
        draft = choose_draft(
            request, model, lambda: hello.draft_refusal, self._reporter, is_shared=n_parallel != 1
        )
        host = replace_gpus(self._subtract_mapped(read_host(), others), hello.devices)
        plan = plan_chat(
            request,
            model,
            host,
            self._reporter,
            draft=draft.option,
            n_parallel=n_parallel,
            require_fit=offer.name in self._contexts,
        )
        least = min(COMMON_CTX, shape_of(model.header).n_ctx_train)
        if others and (not plan.fits or (not request.ctx and plan.n_ctx < least)):
            raise DoesNotFit(f"{offer.name} does not fit beside the models that are loaded")
        ram_bytes = min(plan.spare_bytes // 2, MAX_RAM_BYTES)  # half: other programs grow too
        opening = make_open_request(request, model, plan, draft, ram_bytes=ram_bytes)
        media = None
        if request.mmproj is not None:
            media = replace(find_media_options(request, model.path), cache=options.media_cache)
        return model, opening, media

    def _subtract_mapped(self, host: HostFacts, others: Sequence[str]) -> HostFacts:
        """Return `host` without the weights of the models `others`.

        A mapped file counts as free memory, and yet each token needs all of it.
        """
        if not self._options.chat.mmap:
            return host
        mapped = sum(self._weight_bytes.get(name, 0) for name in others)
        return replace(host, available_bytes=max(0, host.available_bytes - mapped))


def _read_hello() -> Hello:
    """Return what this build of llama.cpp sees; a worker is started for it and ended."""
    with EngineClient() as engine:
        return engine.hello()
