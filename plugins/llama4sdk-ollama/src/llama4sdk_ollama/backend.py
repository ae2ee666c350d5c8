"""What a server could do for a need, and the engine that has it done."""

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
from llama4sdk.remote.engine import RemoteEngine
from llama4sdk_ollama.address import BACKEND, Settings, headers_of, url_of
from llama4sdk_ollama.dialect import OllamaDialect
from llama4sdk_ollama.http_calls import line_to
from llama4sdk_ollama.model_names import find, tag_of
from llama4sdk_ollama.server import Kept, Model, Server, Shown, look, show

__all__ = ["OllamaBackend"]

USUAL: Final = 8192
"""Tokens of context where nothing says more."""
MOST: Final = 131_072
"""Tokens of context that are taken without being asked for."""
SPARE: Final = 0.9
"""Of free memory this share is counted on."""
SEES_AT_LEAST: Final = 2048
"""The context that Ollama gives any model that sees."""
LOGPROBS_SINCE: Final = (0, 12, 11)

ABILITIES: Final[dict[str, frozenset[Feature]]] = {
    "completion": frozenset({"generate", "chat", "json_schema", "astream"}),
    "tools": frozenset({"tools"}),
    "vision": frozenset({"images"}),
    "embedding": frozenset({"embed"}),
}
"""What the server's words for a model's abilities mean."""


class OllamaBackend(Backend):
    """Offers what the server has on its disk."""

    name: ClassVar[str] = BACKEND

    def __init__(self) -> None:
        self._servers: Kept[Server] = Kept()
        self._shown: Kept[Shown] = Kept()

    def offer(self, need: Need, hardware: Hardware) -> Offer | Unavailable:
        """What the server at hand would do: it is asked, for a second at most."""
        if need.device is not None:
            return Unavailable(reason=f"its server places models itself, and takes no '{need.device}'.")
        if need.quantization is not None:
            return Unavailable(
                reason=f"a model's tag says how its weights are held; {need.quantization} cannot be asked for.",
                fix="Name a tag, such as llama4:16x17b-scout-instruct-q4_K_M.",
            )
        try:
            endpoint = need.endpoint or Endpoint()
            Settings.of(endpoint)
            key = (url_of(endpoint), *headers_of(endpoint).values())
            server = self._servers.get(key, lambda: look(endpoint))
            model = _chosen(need.model, server)
            if model is None:
                return _lacking(need.model, endpoint)
            shown = self._shown.get((*key, model.name), lambda: show(endpoint, model.name))
        except Llama4Error as error:
            return _unreachable(error, need.endpoint)
        return _offer(need, hardware, server, model, shown, local=is_loopback(key[0]))

    def load(self, plan: Plan, *, progress: Progress | None = None) -> Engine:
        """An engine at the address of the environment."""
        return self.connect(plan, Need(model=plan.model), progress=progress)

    def connect(self, plan: Plan, need: Need, *, progress: Progress | None = None) -> Engine:
        """An engine, once the server has loaded the model; ``progress`` is told when that begins and ends.

        Raises WeightsNotFoundError where the server has no such model, ModelLoadError where it cannot load it, APIError
        where it does not answer.
        """
        endpoint = need.endpoint or Endpoint()
        settings = Settings.of(endpoint)
        model = _chosen(plan.model, look(endpoint))
        if model is None:
            raise WeightsNotFoundError(
                f"Ollama at {url_of(endpoint)} has no model '{plan.model}'.", hint=_pull(tag_of(plan.model))
            )
        dialect = OllamaDialect(endpoint=endpoint, tag=model.name, model=plan.model, context=plan.context_length)
        if settings.preload:
            _load(plan, model, dialect, endpoint, settings.load_timeout, progress)
        return RemoteEngine(model=plan.model, context_length=plan.context_length, dialect=dialect, endpoint=endpoint)


def _chosen(wanted: str | None, server: Server) -> Model | None:
    """The model that was named; else a Llama 4, one in memory, or the first there is."""
    if wanted is not None:
        return find(wanted, server.models)
    llamas = (find(name, server.models) for name in (models.SCOUT.name, models.MAVERICK.name))
    running = (find(model.name, server.models) for model in server.running)
    return next((model for model in (*llamas, *running, *server.models) if model), None)


def _offer(
    need: Need, hardware: Hardware, server: Server, model: Model, shown: Shown, *, local: bool
) -> Offer | Unavailable:
    capabilities = _capabilities(server, shown)
    if missing := need.features - capabilities.features:
        return Unavailable(reason=f"Ollama's '{model.name}' does not support {', '.join(sorted(missing))}.")
    most = shown.context_length or MOST
    if need.context_length and need.context_length > most:
        return Unavailable(reason=f"the context of '{model.name}' is {most} tokens.", fix=f"Ask for {most} or fewer.")
    context, reason = _context(need, hardware if local else None, server, model, most)
    if "images" in capabilities.features:
        context = max(context, min(SEES_AT_LEAST, most))
    return Offer(
        model=need.model or model.name,
        placement=Placement(kind="remote", devices=(BACKEND,)),
        context_length=context,
        capabilities=capabilities,
        reason=f"its server has '{model.name}'; {reason}",
    )


def _capabilities(server: Server, shown: Shown) -> Capabilities:
    said = shown.capabilities or frozenset(ABILITIES) - {"vision"}  # a server that does not say is older than vision
    features = frozenset[Feature]().union(*(ABILITIES.get(ability, frozenset()) for ability in said))
    lacking = frozenset() if server.version >= LOGPROBS_SINCE else frozenset({"logprobs"})
    return Capabilities(features=features, sampling=ALL_SAMPLING_OPTIONS - lacking, remote=True)


def _context(need: Need, hardware: Hardware | None, server: Server, model: Model, most: int) -> tuple[int, str]:
    """Tokens, and why so many. ``hardware`` is where the server runs, where that is known."""
    if need.context_length:
        return need.context_length, "the context is what was asked for"
    loaded = server.loaded(model.name)
    if loaded and loaded.context_length:
        return min(loaded.context_length, most), "the context is what it was loaded with"
    if hardware is not None and (room := _room(hardware, model)) > USUAL:
        return min(room, most), "the context is what memory is estimated to have room for"
    return min(USUAL, most), "the context is the usual one"


def _room(hardware: Hardware, model: Model) -> int:
    """Tokens that are estimated to fit beside the weights, in steps that small changes do not cross; 0 if unknown."""
    spec = next((models.find(name) for name in ("scout", "maverick") if find(name, [model])), None)
    if spec is None or spec.config is None or not model.size:
        return 0
    free = sum(device.free_memory for device in hardware.devices)
    left = int(max(free, hardware.free("cpu")) * SPARE) - model.size
    fits = find_policy("llama.cpp").longest_context(spec.config, left) if left > 0 else 0
    room = USUAL
    while room * 2 <= min(fits, MOST):
        room *= 2
    return room


def _load(
    plan: Plan, model: Model, dialect: OllamaDialect, endpoint: Endpoint, seconds: float, progress: Progress | None
) -> None:
    """Have the server load the model, and see that it gave the context that was asked for."""
    if progress is not None:
        progress(0, model.size or None)
    timeouts = endpoint.timeouts.model_copy(update={"first_byte": seconds, "total": None})
    line = line_to(endpoint.model_copy(update={"timeouts": timeouts}), dialect)
    try:
        line.fetch(dialect.loading(embeds="chat" not in plan.capabilities.features))
    finally:
        line.close()
    loaded = look(endpoint).loaded(model.name)
    if loaded and 0 < loaded.context_length < plan.context_length:
        raise ModelLoadError(
            f"Ollama gave '{model.name}' a context of {loaded.context_length} tokens, not {plan.context_length}.",
            hint=f"Ask for context_length={loaded.context_length}.",
        )
    if progress is not None:
        progress(model.size, model.size or None)


def _lacking(model: str | None, endpoint: Endpoint) -> Unavailable:
    if model is None:
        return Unavailable(reason=f"the server at {url_of(endpoint)} has no models.", fix=_pull("llama4:scout"))
    return Unavailable(reason=f"the server at {url_of(endpoint)} has no '{model}'.", fix=_pull(tag_of(model)))


def _unreachable(error: Llama4Error, endpoint: Endpoint | None) -> Unavailable:
    fix = error.hint
    if isinstance(error, APIConnectionError | APITimeoutError):
        fix = "Run 'ollama serve', or say where it is: endpoint=, or OLLAMA_HOST."
    return Unavailable(reason=error.message, fix=fix)


def _pull(tag: str) -> str:
    return f"Run 'ollama pull {tag}', or llama4sdk_ollama.pull({tag!r})."
