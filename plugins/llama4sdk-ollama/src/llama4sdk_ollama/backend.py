"""Offers of an Ollama server, and engines that it runs."""

from __future__ import annotations

from typing import ClassVar, Final

from llama4sdk.backend import Backend, Engine, Feature, Need, Offer, Unavailable
from llama4sdk.capabilities import ALL_SAMPLING_OPTIONS, Capabilities
from llama4sdk.capacity.kv_policies import find_policy
from llama4sdk.catalog import models
from llama4sdk.endpoint import Endpoint, is_loopback
from llama4sdk.errors import APIConnectionError, APITimeoutError, Llama4Error, ModelLoadError, WeightsNotFoundError
from llama4sdk.hardware import Hardware
from llama4sdk.plan import Placement, Plan
from llama4sdk.progress import Progress
from llama4sdk.remote.discovery import RecentAnswers
from llama4sdk.remote.engine import RemoteEngine
from llama4sdk_ollama.address import BACKEND, parse_options, server_headers, server_url
from llama4sdk_ollama.dialect import OllamaDialect
from llama4sdk_ollama.model_names import find_model, library_tag, pull_hint
from llama4sdk_ollama.server import ModelDetails, ServerModel, ServerState, api_engine, inspect_server, show_model

#: Tokens of context where nothing says more.
DEFAULT_CONTEXT_LENGTH: Final = 8192

#: Tokens of context that are planned with unless the caller asks for more.
MAX_DEFAULT_CONTEXT_LENGTH: Final = 131_072

#: The context that Ollama gives any model with vision at least.
MIN_VISION_CONTEXT_LENGTH: Final = 2048

USABLE_MEMORY_SHARE: Final = 0.9
FIRST_VERSION_WITH_LOGPROBS: Final = (0, 12, 11)

#: Seconds for which a server's answers hold: about as long as one plan takes.
SERVER_STATE_SECONDS: Final = 3.0

#: Features by the server's words for a model's capabilities.
FEATURES_BY_CAPABILITY: Final[dict[str, frozenset[Feature]]] = {
    "completion": frozenset({"generate", "chat", "json_schema", "astream"}),
    "tools": frozenset({"tools"}),
    "vision": frozenset({"images"}),
    "embedding": frozenset({"embed"}),
}


class OllamaBackend(Backend):
    """Offers the models that the server has on its disk."""

    name: ClassVar[str] = BACKEND

    def __init__(self) -> None:
        self._servers: RecentAnswers[ServerState] = RecentAnswers(SERVER_STATE_SECONDS)
        self._details: RecentAnswers[ModelDetails] = RecentAnswers(SERVER_STATE_SECONDS)

    def offer(self, need: Need, hardware: Hardware) -> Offer | Unavailable:
        """Offer a model of the server, which is asked for a few seconds at most."""
        if need.device is not None:
            return Unavailable(reason=f"its server places models itself, and takes no '{need.device}'.")
        if need.quantization is not None:
            return Unavailable(
                reason=f"a model's tag says how its weights are held; {need.quantization} cannot be asked for.",
                fix="Name a tag, such as llama4:16x17b-scout-instruct-q4_K_M.",
            )
        try:
            endpoint = need.endpoint or Endpoint()
            parse_options(endpoint)
            key = (server_url(endpoint), *server_headers(endpoint).values())
            server = self._servers.get(key, lambda: inspect_server(endpoint))
            model = _choose_model(need.model, server)
            if model is None:
                return _missing_model(need.model, endpoint)
            details = self._details.get((*key, model.name), lambda: show_model(endpoint, model.name))
        except Llama4Error as error:
            return _unreachable(error)
        return _offer(need, hardware if is_loopback(key[0]) else None, server, model, details)

    def load(self, plan: Plan, *, progress: Progress | None = None) -> Engine:
        """Return an engine at the address of the environment."""
        return self.connect(plan, Need(model=plan.model), progress=progress)

    def connect(self, plan: Plan, need: Need, *, progress: Progress | None = None) -> Engine:
        """Return an engine, once the server has loaded the model; ``progress`` is called when that begins and ends.

        Raises WeightsNotFoundError where the server has no such model, ModelLoadError where it cannot load it, APIError
        where it does not answer.
        """
        endpoint = need.endpoint or Endpoint()
        preload = parse_options(endpoint).preload
        model = _choose_model(plan.model, inspect_server(endpoint))
        if model is None:
            raise WeightsNotFoundError(
                f"Ollama at {server_url(endpoint)} has no model '{plan.model}'.",
                hint=pull_hint(library_tag(plan.model)),
            )
        dialect = OllamaDialect(endpoint=endpoint, tag=model.name, model=plan.model, context_length=plan.context_length)
        if preload:
            _preload(plan, model, dialect, endpoint, progress)
        return RemoteEngine(model=plan.model, context_length=plan.context_length, dialect=dialect, endpoint=endpoint)


def _choose_model(name: str | None, server: ServerState) -> ServerModel | None:
    """Return the model that was named; else a Llama 4, one in memory, or the first there is."""
    if name is not None:
        return find_model(name, server.models)
    llamas = (find_model(name, server.models) for name in (models.SCOUT.name, models.MAVERICK.name))
    running = (find_model(model.name, server.models) for model in server.running)
    return next((model for model in (*llamas, *running, *server.models) if model), None)


def _offer(
    need: Need, hardware: Hardware | None, server: ServerState, model: ServerModel, details: ModelDetails
) -> Offer | Unavailable:
    """``hardware`` is the server's machine, where that is known."""
    capabilities = _capabilities(server, details)
    if missing := need.features - capabilities.features:
        return Unavailable(reason=f"Ollama's '{model.name}' does not support {', '.join(sorted(missing))}.")
    limit = details.context_length or MAX_DEFAULT_CONTEXT_LENGTH
    if need.context_length and need.context_length > limit:
        return Unavailable(reason=f"the context of '{model.name}' is {limit} tokens.", fix=f"Ask for {limit} or fewer.")
    context_length, reason = _context_length(need, hardware, server, model, limit)
    if "images" in capabilities.features:
        context_length = max(context_length, min(MIN_VISION_CONTEXT_LENGTH, limit))
    return Offer(
        model=need.model or model.name,
        placement=Placement(kind="remote", devices=(BACKEND,)),
        context_length=context_length,
        capabilities=capabilities,
        reason=f"its server has '{model.name}'; {reason}",
    )


def _capabilities(server: ServerState, details: ModelDetails) -> Capabilities:
    # a server that names no capabilities is older than vision
    capabilities = details.capabilities or frozenset(FEATURES_BY_CAPABILITY) - {"vision"}
    features = frozenset[Feature]().union(*(FEATURES_BY_CAPABILITY.get(word, frozenset()) for word in capabilities))
    lacking = frozenset() if server.version >= FIRST_VERSION_WITH_LOGPROBS else frozenset({"logprobs"})
    return Capabilities(features=features, sampling=ALL_SAMPLING_OPTIONS - lacking, remote=True)


def _context_length(
    need: Need, hardware: Hardware | None, server: ServerState, model: ServerModel, limit: int
) -> tuple[int, str]:
    """Return the context length to plan with, and the reason for it."""
    if need.context_length:
        return need.context_length, "the context is what was asked for"
    loaded = server.loaded(model.name)
    if loaded and loaded.context_length:
        return min(loaded.context_length, limit), "the context is what it was loaded with"
    if hardware is not None and (estimate := _fitting_context_length(hardware, model)) > DEFAULT_CONTEXT_LENGTH:
        return min(estimate, limit), "the context is what memory is estimated to have room for"
    return min(DEFAULT_CONTEXT_LENGTH, limit), "the context is the usual one"


def _fitting_context_length(hardware: Hardware, model: ServerModel) -> int:
    """Estimate the context that fits beside the weights, in steps of two that hide small changes; 0 if unknown."""
    spec = next((models.find(name) for name in ("scout", "maverick") if find_model(name, [model])), None)
    if spec is None or spec.config is None or not model.size:
        return 0
    device_memory = sum(device.free_memory for device in hardware.devices)
    free = int(max(device_memory, hardware.free("cpu")) * USABLE_MEMORY_SHARE) - model.size
    longest = find_policy("llama.cpp").longest_context(spec.config, free) if free > 0 else 0
    context_length = DEFAULT_CONTEXT_LENGTH
    while context_length * 2 <= min(longest, MAX_DEFAULT_CONTEXT_LENGTH):
        context_length *= 2
    return context_length


def _preload(
    plan: Plan, model: ServerModel, dialect: OllamaDialect, endpoint: Endpoint, progress: Progress | None
) -> None:
    """Have the server load the model within ``load_timeout``, and check that it has the planned context."""
    if progress is not None:
        progress(0, model.size or None)
    timeouts = endpoint.timeouts.model_copy(update={"first_byte": parse_options(endpoint).load_timeout, "total": None})
    engine = api_engine(endpoint.model_copy(update={"timeouts": timeouts}), dialect)
    try:
        engine.fetch(dialect.load_call(for_embedding="chat" not in plan.capabilities.features))
    finally:
        engine.close()
    loaded = inspect_server(endpoint).loaded(model.name)
    if loaded and 0 < loaded.context_length < plan.context_length:
        raise ModelLoadError(
            f"Ollama gave '{model.name}' a context of {loaded.context_length} tokens, not {plan.context_length}.",
            hint=f"Ask for context_length={loaded.context_length}.",
        )
    if progress is not None:
        progress(model.size, model.size or None)


def _missing_model(model: str | None, endpoint: Endpoint) -> Unavailable:
    url = server_url(endpoint)
    if model is None:
        return Unavailable(reason=f"the server at {url} has no models.", fix=pull_hint("llama4:scout"))
    return Unavailable(reason=f"the server at {url} has no '{model}'.", fix=pull_hint(library_tag(model)))


def _unreachable(error: Llama4Error) -> Unavailable:
    fix = error.hint
    if isinstance(error, APIConnectionError | APITimeoutError):
        fix = "Run 'ollama serve', or say where it is: endpoint=, or OLLAMA_HOST."
    return Unavailable(reason=error.message, fix=fix)
