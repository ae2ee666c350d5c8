"""The synchronous client."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Generic, Literal, Self, Unpack, overload

from pydantic import JsonValue
from typing_extensions import TypeVar

from llama4sdk.constraints import SchemaLike
from llama4sdk.requests import ChatOptions, GenerateOptions, Pooling, SamplingOptions
from llama4sdk.results import Completion, Embeddings, Scores
from llama4sdk.session import validation
from llama4sdk.session.deployment import Environment
from llama4sdk.session.session import Session
from llama4sdk.session.validation import MessagesInput
from llama4sdk.streams import Stream
from llama4sdk.tools import ToolLike, ToolRun

if TYPE_CHECKING:
    from llama4sdk.batch.items import BatchItem, BatchRequest
    from llama4sdk.capabilities import Feature
    from llama4sdk.endpoint import Endpoint, HttpClient
    from llama4sdk.hardware import Hardware
    from llama4sdk.plan import Plan
    from llama4sdk.planning.policy import Policy
    from llama4sdk.progress import Progress
    from llama4sdk.quantization import Quantization, QuantizationConfig
    from llama4sdk.registry import Registry
    from llama4sdk.results import Memory

__all__ = ["BaseClient", "Client"]

T = TypeVar("T", default=JsonValue)


class GenerateArguments(GenerateOptions, Generic[T], total=False):
    """The keyword arguments of ``generate``, for its overloads; only ``stream`` is apart."""

    schema: SchemaLike[T] | None


class ChatArguments(ChatOptions, GenerateArguments[T], total=False):
    """The keyword arguments of ``chat``."""

    tools: Sequence[ToolLike]


class BaseClient:
    """The arguments and properties that ``Client`` and ``AsyncClient`` share."""

    _asynchronous: ClassVar[bool] = False

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        backend: str | None = None,
        device: str | None = None,
        quantization: Quantization | QuantizationConfig | str | None = None,
        context_length: int | None = None,
        batch: int | None = None,
        endpoint: Endpoint | str | None = None,
        api_key: str | None = None,
        http_client: HttpClient | None = None,
        needs: Feature | Iterable[Feature] = (),
        languages: str | Iterable[str] = (),
        policy: Policy | None = None,
        hardware: Hardware | None = None,
        download: bool = False,
        registry: Registry | None = None,
    ) -> None:
        """Check the arguments. Nothing is probed, planned, loaded or sent before the first call.

        Raises ConfigurationError for invalid arguments.

        Args:
            model: A catalogue name (``scout``, ``maverick``, ``demo``), a path to a GGUF file or checkpoint directory,
                or a repository id. ``None`` takes the best model that fits.
            backend: The name of the backend; naming a remote one allows it.
            device: ``cpu``, ``cuda:0``, …
            quantization: The scheme of the weights: ``bf16``, ``int8``, ``int4``, …, or a ``QuantizationConfig``,
                which has one for each class of modules.
            context_length: Tokens that prompt and answer may have together.
            batch: Conversations that memory is planned for at once, each with that context. An engine on this machine
                lets further requests wait for their turn.
            endpoint: The address of the server to ask, or an ``Endpoint`` with headers, timeouts and retries.
            api_key: The server's key, instead of the one in the environment.
            http_client: An ``httpx.Client`` of your own to send with, for proxies, certificates, hooks or tests. It is
                not closed here. ``AsyncClient`` also takes an ``httpx.AsyncClient``.
            needs: Features that requests will use, such as ``images`` and ``tools``: no backend or model without them
                is chosen.
            languages: Languages of the requests, such as ``Hindi``: no model whose maker does not list them is chosen.
            policy: Limits and permissions: other backends, a model for each request, dollars.
            hardware: The machine to plan for, instead of probing this one.
            download: Whether to fetch missing weights instead of raising WeightsNotFoundError.
            registry: The backends to choose from, instead of those installed.

        """
        from llama4sdk.planning.policy import Policy

        endpoint = validation.as_endpoint(endpoint, api_key, http_client, asynchronous=self._asynchronous)
        need = validation.need(model, device, quantization, context_length, batch, endpoint, needs, languages)
        environment = Environment(policy or Policy(), registry, hardware, download=download)
        self._session = Session(need, backend, environment)

    @property
    def spent(self) -> float:
        """US dollars that this client's answers cost so far, as far as prices are known.

        With ``Policy(max_cost=...)``, an answer that broke off or was not read to its end counts as the most that it
        may have cost.
        """
        return self._session.budget.spent


class Client(BaseClient):
    """A Llama 4 model, on this machine or behind an endpoint, as the plan decides.

    The first call probes the machine, makes a plan and loads the model; later ones use the same engine. A client is
    safe to use from several threads, and is closed by ``close`` or by leaving its ``with`` block.

    Every error is a ``Llama4Error``. A request is checked before anything is loaded or sent: InvalidRequestError for
    invalid values, UnsupportedFeatureError for what the backend does not support. Planning raises NoBackendError,
    loading BackendError and its kinds. An answer may fail with ContextLengthError, BackendError, APIError (of an
    endpoint), BudgetExceededError or StreamInterruptedError.
    """

    @overload
    def chat(
        self, messages: MessagesInput, *, stream: Literal[False] = False, **arguments: Unpack[ChatArguments[T]]
    ) -> Completion[T]: ...
    @overload
    def chat(
        self, messages: MessagesInput, *, stream: Literal[True], **arguments: Unpack[ChatArguments[T]]
    ) -> Stream[T]: ...
    def chat(
        self,
        messages: MessagesInput,
        *,
        tools: Sequence[ToolLike] = (),
        schema: SchemaLike[T] | None = None,
        stream: bool = False,
        **options: Unpack[ChatOptions],
    ) -> Completion[T] | Stream[T]:
        """Answer a conversation.

        Returns the whole answer, or with ``stream=True`` a stream of its events, which sends the request when it is
        first read.

        ``messages`` are ``Message`` values or dicts with the same fields; a string is one user message. ``options`` are
        the fields of ``SamplingParams`` (``max_tokens``, ``temperature``, …), ``difficulty`` where the policy chooses
        a model for each request, and ``tool_choice``: "auto", "none", "required" or the name of the tool to call.
        ``tools`` are ``Tool`` values, pydantic models or functions: they are described to the model, and the calls it
        asks for are in ``.tool_calls``; ``run_tools`` makes them.

        ``schema``, a type or a JSON schema, constrains the answer to JSON of that schema, whose value is ``.parsed``;
        ``regex`` and ``grammar`` (in Lark's notation) constrain its text. The model does not see the constraint, so
        describe the answer in the prompt as well.

        Raises InvalidRequestError, UnknownOptionError or UnsupportedFeatureError for the arguments, and the errors of
        planning, loading and answering that the class lists; with ``stream=True``, answering fails while it is read.
        """
        request = validation.chat_request(messages, tools, options, schema)
        events = self._session.stream(request, "chat", validation.read_difficulty(options))
        return events if stream else events.completion()

    def run_tools(
        self,
        messages: MessagesInput,
        *,
        tools: Sequence[Callable[..., object]],
        max_steps: int = 10,
        **options: Unpack[SamplingOptions],
    ) -> Completion:
        """Answer a conversation, calling these functions as often as the model asks for it.

        Returns the first answer without tool calls. Functions are described to the model by their names, annotations
        and docstrings. Their results are sent to the model as text or JSON, their exceptions as text. Raises
        ToolLimitError when the model's answer number ``max_steps`` still calls tools, InvalidRequestError for functions
        that cannot be described.
        """
        run = ToolRun(validation.as_messages(messages), tools, max_steps, wait=False)
        while calls := run.add_answer(answer := self.chat(run.messages, tools=run.tools, **options)):
            for call in calls:
                try:
                    result = run.bind(call)()
                except Exception as error:  # noqa: BLE001 - whatever a tool raises is for the model to know
                    result = error
                run.add_result(call, result)
        return answer

    @overload
    def generate(
        self, prompt: str, *, stream: Literal[False] = False, **arguments: Unpack[GenerateArguments[T]]
    ) -> Completion[T]: ...
    @overload
    def generate(
        self, prompt: str, *, stream: Literal[True], **arguments: Unpack[GenerateArguments[T]]
    ) -> Stream[T]: ...
    def generate(
        self,
        prompt: str,
        *,
        schema: SchemaLike[T] | None = None,
        stream: bool = False,
        **options: Unpack[GenerateOptions],
    ) -> Completion[T] | Stream[T]:
        """Continue raw text, without a chat template. Results, options and errors are as for ``chat``; no tools."""
        request = validation.generate_request(prompt, options, schema)
        events = self._session.stream(request, "generate", validation.read_difficulty(options))
        return events if stream else events.completion()

    def embed(self, inputs: str | Sequence[str], *, pooling: Pooling = "mean", normalize: bool = True) -> Embeddings:
        """Embed texts: one vector for each, in their order.

        ``pooling`` is "mean", over all tokens of a text, or "last", its last token's. With ``normalize`` every vector
        has length 1. Raises InvalidRequestError for empty texts, UnsupportedFeatureError where the backend has no
        embeddings, ContextLengthError for a text longer than the context.
        """
        return self._session.embed(validation.embed_request(inputs, pooling, normalize=normalize))

    def score(
        self,
        input: MessagesInput,  # noqa: A002 - the field's own word
        *,
        top: int = 0,
        window: int | None = None,
        stride: int | None = None,
        progress: Progress | None = None,
    ) -> Scores:
        """Compute the log-probability of each token of a text or a conversation. Nothing is sampled.

        A string is raw text; messages are scored as the model reads them, chat template included. ``top`` (0 to 20)
        is the number of alternatives reported for each token. A text longer than ``window`` tokens (by default the
        context) is read in overlapping windows, each of which scores ``stride`` further tokens (by default half a
        window). ``progress`` is called with the tokens scored so far and their number. No fallback is asked. Raises
        UnsupportedFeatureError where the backend does not score, ContextLengthError for a window longer than the
        context.
        """
        request = validation.score_request(input, top, window, stride)
        return self._session.score(request, progress)

    def batch(
        self,
        requests: Iterable[BatchRequest],
        *,
        concurrency: int = 8,
        path: str | Path | None = None,
        progress: Progress | None = None,
    ) -> list[BatchItem]:
        """Answer many requests, ``concurrency`` at a time.

        Returns an item for each request, in their order, with its completion or its error. A request is what ``chat``
        takes as messages, a dict of the arguments of ``chat`` (with ``messages``) or ``generate`` (with ``prompt``), a
        dict with ``custom_id`` and ``body`` as in OpenAI's batch files, or a ``Request``. Its ``model`` counts where
        the client names none.

        Every outcome is appended to the file ``path``. A further call with the same requests and path takes the answers
        from the file and repeats only the requests that failed. ``progress`` is called with the finished requests and
        their number. Raises InvalidRequestError for an invalid request, before any is sent, and for a file of other
        requests; BatchFileError, which carries all finished items, when the file cannot be written.
        """
        from llama4sdk.batch.run import BatchRun, run_in_threads

        session = self._session
        run = BatchRun(requests, concurrency=concurrency, model=session.model, path=path, progress=progress)
        try:
            session.preload(run.models)
            run_in_threads(run, lambda job: session.stream(job.request, job.feature, job.difficulty, job.model))
        finally:
            run.close()
        return run.items()

    def count_tokens(
        self,
        input: MessagesInput,  # noqa: A002 - the field's own word
        *,
        tools: Sequence[ToolLike] = (),
    ) -> int:
        """Count the tokens of a chat prompt: the messages, the chat template and the description of ``tools``.

        Loads the model where it is on this machine. Raises UnsupportedFeatureError where the backend does not count.
        """
        return self._session.count_tokens(validation.chat_request(input, tools, {}))

    def plan(self, model: str | None = None) -> Plan:
        """Return the plan: model, backend, placement, quantization and memory, with the reasons. Loads nothing.

        Where ``Policy(route=...)`` chooses a model for each request, ``model`` names the one to plan for, such as
        ``plan("maverick")``; without it the plan is that of the default model. Raises NoBackendError, with the reason
        of each backend, where nothing fits; InsufficientMemoryError where it is memory.
        """
        return self._session.plan(model)

    def memory(self) -> Memory:
        """Return the peak memory measured so far and the memory planned, in bytes on each device. Loads the model."""
        return self._session.memory()

    def load(self, *, progress: Progress | None = None) -> Self:
        """Load the model now rather than at the first request. Returns the client.

        ``progress`` is called with the bytes read so far and their number: of a download, where one is necessary and
        allowed, then of the weights. Raises NoBackendError, WeightsNotFoundError, DownloadError, DeviceMemoryError or
        another BackendError.
        """
        self._session.engine(progress)
        return self

    def close(self) -> None:
        """End open streams and free the model. Closing again does nothing; other calls raise ClientClosedError."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
