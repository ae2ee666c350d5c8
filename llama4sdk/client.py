"""The synchronous client."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, Unpack, overload

from pydantic import JsonValue
from typing_extensions import TypeVar

from llama4sdk.constraints import SchemaLike
from llama4sdk.requests import ChatOptions, GenerateOptions, Pooling, SamplingOptions
from llama4sdk.results import Completion, Embeddings, Scores
from llama4sdk.session.session import Session
from llama4sdk.session.validation import (
    MessagesInput,
    as_messages,
    chat_request,
    difficulty_of,
    embed_request,
    generate_request,
    need,
    score_request,
)
from llama4sdk.streams import Stream
from llama4sdk.tools import ToolLike, ToolRun

if TYPE_CHECKING:
    from llama4sdk.batch.items import BatchItem, BatchRequest
    from llama4sdk.capabilities import Feature
    from llama4sdk.endpoint import Endpoint
    from llama4sdk.hardware import Hardware
    from llama4sdk.plan import Plan
    from llama4sdk.planning.policy import Policy
    from llama4sdk.progress import Progress
    from llama4sdk.quantization import Quantization, QuantizationConfig
    from llama4sdk.registry import Registry
    from llama4sdk.results import Memory

__all__ = ["BaseClient", "Client"]

T = TypeVar("T", default=JsonValue)


class BaseClient:
    """What both clients are made with.

    Nothing happens until the first call: then the machine is probed, a plan is made and the model is loaded, once.

    The arguments:

        model: A catalogue name (``scout``, ``maverick``, ``demo``), a path to a GGUF file or checkpoint directory, or a
            repository id. ``None`` takes the best that fits.
        backend: The name of the backend to use; naming a remote one allows it.
        device: ``cpu``, ``cuda:0``, …
        quantization: How weights are held: ``bf16``, ``int8``, ``int4``, …, or a ``QuantizationConfig``, which has a
            scheme for each class of modules.
        context_length: Tokens that prompt and answer may have together.
        batch: Conversations at once, each with that context, that memory is planned for; one unless given. An engine
            that runs here lets no more hold memory: later requests wait for their turn.
        endpoint: The address of the server to ask, or an ``Endpoint``, which says more: headers, timeouts, retries.
        api_key: The key it is asked with, instead of the one in the environment.
        needs: What requests will use, such as ``images`` and ``tools``: what cannot do that is not chosen.
        languages: Those requests will be in, such as ``Hindi``: a model whose maker does not list them is not chosen.
        policy: What may be done without asking: other places, models chosen by request, what it may cost.
        hardware: Plan for this machine instead of probing.
        download: Fetch missing weights instead of raising WeightsNotFoundError.
        registry: The backends to choose from, instead of those installed.

    Raises ConfigurationError at once for arguments that cannot mean anything.
    """

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
        needs: Feature | Iterable[Feature] = (),
        languages: str | Iterable[str] = (),
        policy: Policy | None = None,
        hardware: Hardware | None = None,
        download: bool = False,
        registry: Registry | None = None,
    ) -> None:
        from llama4sdk.planning.policy import Policy

        self._session = Session(
            need(model, device, quantization, context_length, batch, endpoint, api_key, needs, languages),
            backend=backend,
            policy=policy or Policy(),
            hardware=hardware,
            download=download,
            registry=registry,
        )

    @property
    def spent(self) -> float:
        """US dollars that the answers of this client cost so far, as far as prices are known.

        With ``Policy(max_cost=...)`` an answer that broke off or was left counts as the most it can have cost.
        """
        return self._session.budget.spent


class Client(BaseClient):
    """Run a Llama 4 model, wherever the plan places it. See ``BaseClient`` for the arguments."""

    @overload
    def chat(
        self,
        messages: MessagesInput,
        *,
        tools: Sequence[ToolLike] = (),
        schema: SchemaLike[T] | None = None,
        stream: Literal[False] = False,
        **options: Unpack[ChatOptions],
    ) -> Completion[T]: ...

    @overload
    def chat(
        self,
        messages: MessagesInput,
        *,
        tools: Sequence[ToolLike] = (),
        schema: SchemaLike[T] | None = None,
        stream: Literal[True],
        **options: Unpack[ChatOptions],
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
        """Answer a conversation. A string is one user message; ``options`` are the fields of ``SamplingParams``.

        ``tools`` are ``Tool`` values, pydantic models or functions; they are described to the model, not called.
        ``tool_choice`` is "auto", "none", "required" or the name of the tool to call.

        ``schema`` is a type or a JSON schema: the answer is such JSON, and its value is ``.parsed``. Or ``regex`` or
        ``grammar`` (Lark) say what the answer's text must be. The model is not told of them; say in the prompt what
        you want.
        """
        request = chat_request(messages, tools, options, schema)
        events = self._session.stream(request, "chat", difficulty_of(options))
        return events if stream else events.completion()

    def run_tools(
        self,
        messages: MessagesInput,
        *,
        tools: Sequence[Callable[..., object]],
        max_steps: int = 10,
        **options: Unpack[SamplingOptions],
    ) -> Completion:
        """The model's plain answer, after calling these functions for it as often as it asks.

        Functions are described by their names, annotations and docstrings. What one returns goes to the model as text
        or JSON; so do its exceptions, as words. Raises ToolLimitError when answer number ``max_steps`` calls tools.
        """
        run = ToolRun(as_messages(messages), tools, max_steps, wait=False)
        while calls := run.take(answer := self.chat(run.messages, tools=run.tools, **options)):
            for call in calls:
                try:
                    result = run.work(call)()
                except Exception as error:  # noqa: BLE001 - whatever a tool raises is for the model to know
                    result = error
                run.give(call, result)
        return answer

    @overload
    def generate(
        self,
        prompt: str,
        *,
        schema: SchemaLike[T] | None = None,
        stream: Literal[False] = False,
        **options: Unpack[GenerateOptions],
    ) -> Completion[T]: ...

    @overload
    def generate(
        self,
        prompt: str,
        *,
        schema: SchemaLike[T] | None = None,
        stream: Literal[True],
        **options: Unpack[GenerateOptions],
    ) -> Stream[T]: ...

    def generate(
        self,
        prompt: str,
        *,
        schema: SchemaLike[T] | None = None,
        stream: bool = False,
        **options: Unpack[GenerateOptions],
    ) -> Completion[T] | Stream[T]:
        """Continue raw text, with no chat template around it. ``schema``, ``regex`` and ``grammar`` as for ``chat``."""
        request = generate_request(prompt, options, schema)
        events = self._session.stream(request, "generate", difficulty_of(options))
        return events if stream else events.completion()

    def embed(self, inputs: str | Sequence[str], *, pooling: Pooling = "mean", normalize: bool = True) -> Embeddings:
        """One vector per input, of length 1 when ``normalize`` is on."""
        return self._session.embed(embed_request(inputs, pooling, normalize=normalize))

    def score(
        self,
        input: MessagesInput,  # noqa: A002 - the field's own word
        *,
        top: int = 0,
        window: int | None = None,
        stride: int | None = None,
        progress: Progress | None = None,
    ) -> Scores:
        """How likely each token of a text, or of a conversation as the model reads it, is to the model: no sampling.

        A string is raw text. ``top`` alternatives are reported at each place. What is longer than ``window`` (the
        context, unless given) is read in overlapping windows, ``stride`` tokens of each further one scored.
        ``progress`` is called with the tokens scored so far and in all.
        """
        request = score_request(input, top, window, stride)
        return self._session.score(request, progress)

    def batch(
        self,
        requests: Iterable[BatchRequest],
        *,
        concurrency: int = 8,
        path: str | Path | None = None,
        progress: Progress | None = None,
    ) -> list[BatchItem]:
        """Ask many requests, ``concurrency`` at a time; their answers in order, each a completion or an error.

        A request is what ``chat`` takes as messages, a dict of the arguments of ``chat`` (with ``messages``) or of
        ``generate`` (with ``prompt``), a dict with ``custom_id`` and ``body`` as in OpenAI's batch files, or a
        ``Request``. A ``model`` in it counts where the client has none.

        Every finished one is appended to the file ``path``. A call with the same requests and path goes on from there:
        answers are not asked for again, errors are. ``progress`` is called with the requests done and those there are.
        Raises InvalidRequestError for a request that means nothing, before any is sent, and for a file that is about
        other requests; BatchFileError, which has all that is done, when the file cannot be written.
        """
        from llama4sdk.batch.run import Run, in_threads

        session = self._session
        run = Run(requests, concurrency=concurrency, model=session.model, path=path, progress=progress)
        try:
            session.preload(run.models)
            in_threads(run, lambda job: session.stream(job.request, job.feature, job.difficulty, job.model))
        finally:
            run.close()
        return run.items()

    def count_tokens(
        self,
        input: MessagesInput,  # noqa: A002 - the field's own word
        *,
        tools: Sequence[ToolLike] = (),
    ) -> int:
        """Tokens a chat request with these messages would read, what describes ``tools`` included."""
        return self._session.count_tokens(chat_request(input, tools, {}))

    def plan(self, model: str | None = None) -> Plan:
        """What would be run, where and why. Loads nothing.

        Where ``Policy(route=...)`` chooses a model for each request, this is the plan of the usual one, and ``model``
        names another: ``plan("maverick")``.
        """
        return self._session.plan(model)

    def memory(self) -> Memory:
        """What the model was seen to take of memory so far, beside what was planned. Loads it, when nothing has."""
        return self._session.memory()

    def load(self, *, progress: Progress | None = None) -> Self:
        """Load the model now rather than at the first request.

        ``progress`` is called with the bytes read so far and the bytes there are: of a download, where one is needed
        and allowed, then of the weights.
        """
        self._session.engine(progress)
        return self

    def close(self) -> None:
        """End open streams and free the model. Closing again does nothing; any other call then raises."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
