"""The client: one plan, one engine, checks before work, and a clean end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from llama4sdk.backend import Capabilities, Need, Offer, Unavailable
from llama4sdk.client import Client
from llama4sdk.errors import (
    BackendError,
    ClientClosedError,
    DeviceMemoryError,
    InvalidRequestError,
    ModelLoadError,
    NoBackendError,
    StreamClosedError,
    UnknownBackendError,
    UnknownModelError,
    UnsupportedFeatureError,
    WeightsNotFoundError,
)
from llama4sdk.events import Finish, TextDelta
from llama4sdk.hardware import Hardware
from llama4sdk.messages import ImagePart, Message, TextPart
from llama4sdk.plan import Placement, Plan
from llama4sdk.progress import Progress
from llama4sdk.registry import PluginFailure, Registry
from llama4sdk.requests import Tool
from llama4sdk.results import Memory
from llama4sdk.testing.machines import LAPTOP
from llama4sdk.testing.registry import scripted_registry
from llama4sdk.testing.scripted import ANSWER, OFFER, ScriptedBackend, ScriptedEngine, Step

ClientFactory = Callable[..., tuple[Client, ScriptedBackend]]


@pytest.fixture
def scripted() -> Iterator[ClientFactory]:
    """Make clients on a scripted backend; they are closed after the test."""
    clients: list[Client] = []

    def make(steps: Sequence[Step] = ANSWER, **options: Any) -> tuple[Client, ScriptedBackend]:
        registry, backend = scripted_registry(steps, **options)
        client = Client("scripted", registry=registry, hardware=LAPTOP)
        clients.append(client)
        return client, backend

    yield make
    for client in clients:
        client.close()


def test_chat_answers_and_streams_the_same(scripted: ClientFactory) -> None:
    """The streamed pieces join to the whole answer."""
    client, _ = scripted()
    whole = client.chat("Hi")
    assert whole.text == "Hello world."
    assert (whole.model, whole.backend, whole.finish_reason) == ("scripted", "scripted", "stop")
    assert "".join(client.chat("Hi", stream=True).text_deltas()) == whole.text
    assert client.generate("Hi").text == whole.text


def test_the_engine_is_loaded_once_and_only_when_needed(scripted: ClientFactory) -> None:
    """Making a client and planning load nothing; many threads asking at once load one engine."""
    client, backend = scripted()
    client.plan()
    assert not backend.engines
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.chat("Hi").text, range(32)))
    assert answers == ["Hello world."] * 32
    assert len(backend.engines) == 1


def test_the_request_reaches_the_engine_as_it_was_asked(scripted: ClientFactory) -> None:
    """Messages, tools and options arrive whole."""
    client, backend = scripted()
    tool = Tool(name="f", parameters={"type": "object"})
    client.chat([{"role": "user", "content": "Hi"}], tools=[tool], temperature=0.5, stop=["x"])
    request = backend.engines[0].requests[0]
    assert request.messages == (Message(role="user", content="Hi"),)
    assert request.tools == (tool,)
    assert (request.sampling.temperature, request.sampling.stop) == (0.5, ("x",))


@pytest.mark.parametrize("field", ["images", "tools", "chat", "generate", "embed", "count_tokens", "score", "sampling"])
def test_what_is_not_declared_is_refused_before_anything_is_loaded(scripted: ClientFactory, field: str) -> None:
    """Each undeclared feature is named, and no engine exists afterwards."""
    everything = {"generate", "chat", "embed", "images", "tools", "count_tokens", "score"}
    client, backend = scripted(
        capabilities=Capabilities.model_validate({"features": everything - {field}, "sampling": {"max_tokens"}})
    )
    image = Message(role="user", content=(TextPart(text="what?"), ImagePart(data=b"x")))
    acts: dict[str, Callable[[], object]] = {
        "images": lambda: client.chat([image]),
        "tools": lambda: client.chat("x", tools=[Tool(name="f")]),
        "chat": lambda: client.chat("x"),
        "generate": lambda: client.generate("x"),
        "embed": lambda: client.embed("x"),
        "count_tokens": lambda: client.count_tokens("x"),
        "score": lambda: client.score("x"),
        "sampling": lambda: client.chat("x", top_k=3),
    }
    with pytest.raises(UnsupportedFeatureError) as caught:
        acts[field]()
    assert caught.value.backend == "scripted"
    assert not backend.engines


def test_counting_refuses_what_answering_would(scripted: ClientFactory) -> None:
    """Tools and images are not counted by a backend that would refuse them, and nothing is loaded to find out."""
    image = Message(role="user", content=(ImagePart(data=b"x"),))
    client, backend = scripted(capabilities=Capabilities(features=frozenset({"chat", "count_tokens"})))
    with pytest.raises(UnsupportedFeatureError, match="tools"):
        client.count_tokens("x", tools=[Tool(name="f")])
    with pytest.raises(UnsupportedFeatureError, match="images"):
        client.count_tokens([image])
    assert not backend.engines


def test_an_offer_may_declare_less_than_its_backend(scripted: ClientFactory) -> None:
    """A text-only model of a backend that knows images refuses images."""
    offer = Offer(
        model="scripted",
        placement=Placement(kind="local", devices=("cpu",)),
        context_length=16,
        capabilities=Capabilities(),
        reason="test",
    )
    client, _ = scripted(answer=offer)
    with pytest.raises(UnsupportedFeatureError, match="images"):
        client.chat([Message(role="user", content=(ImagePart(data=b"x"),))])


def test_invalid_input_is_refused_before_planning(scripted: ClientFactory) -> None:
    """An invalid request asks no backend for an offer."""
    client, backend = scripted()
    with pytest.raises(InvalidRequestError):
        client.chat([])
    with pytest.raises(InvalidRequestError):
        client.generate("x", max_tokens=-1)
    assert not backend.asked


def test_closing_in_mid_stream_ends_the_stream_with_an_error(scripted: ClientFactory) -> None:
    """The engine's generator is closed, which frees its memory."""
    client, backend = scripted()
    stream = client.chat("Hi", stream=True)
    next(stream)
    assert backend.engines[0].open_streams == 1
    client.close()
    assert backend.engines[0].open_streams == 0
    assert backend.engines[0].closed
    with pytest.raises(StreamClosedError):
        next(stream)


def test_a_closed_client_says_so(scripted: ClientFactory) -> None:
    """Every verb raises after close; closing again does not."""
    client, _ = scripted()
    client.chat("Hi")
    client.close()
    client.close()
    for act in (
        client.plan,
        client.load,
        lambda: client.chat("x"),
        lambda: client.embed("x"),
        lambda: client.count_tokens("x"),
        lambda: client.score("x"),
    ):
        with pytest.raises(ClientClosedError):
            act()


def test_the_with_block_closes(scripted: ClientFactory) -> None:
    """Leaving the block frees the engine."""
    client, backend = scripted()
    with client:
        client.chat("Hi")
    assert backend.engines[0].closed


def test_closing_while_another_thread_reads(scripted: ClientFactory) -> None:
    """The reader gets StreamClosedError rather than half an answer taken for a whole."""
    gate = threading.Event()
    client, backend = scripted([TextDelta(text="a"), gate, TextDelta(text="b"), Finish(reason="stop")])
    stream = client.chat("Hi", stream=True)
    next(stream)
    caught: list[BaseException] = []

    def read() -> None:
        try:
            list(stream)
        except StreamClosedError as error:
            caught.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    client.close()
    reader.join(5)
    assert len(caught) == 1
    assert backend.engines[0].open_streams == 0


def test_a_backend_that_fails_to_load_is_named() -> None:
    """A foreign exception becomes a BackendError; one of ours passes; a later try loads again."""
    registry, backend = scripted_registry()
    with Client("scripted", registry=registry, hardware=LAPTOP) as client:
        backend.fails = RuntimeError("no driver")
        with pytest.raises(BackendError, match="'scripted' failed while loading 'scripted': RuntimeError: no driver"):
            client.chat("x")
        backend.fails = ModelLoadError("bad weights")
        with pytest.raises(ModelLoadError, match="bad weights"):
            client.chat("x")
        backend.fails = None
        assert client.chat("x").text == "Hello world."


class Shrinking(ScriptedBackend):
    """Offers a plan for the described memory, and fails to load it ``times`` times."""

    times = 0

    def offer(self, need: Need, hardware: Hardware) -> Offer | Unavailable:
        """One of two ways, 1000 and 400 bytes large."""
        self.asked.append((need, hardware))
        for size, context in ((1000, 4096), (400, 512)):
            if size <= hardware.free_memory:
                return OFFER.model_copy(update={"memory": {"cpu": size}, "context_length": context})
        return Unavailable(reason="it needs 400 bytes.", need_memory=400, have_memory=hardware.free_memory)

    def load(self, plan: Plan, *, progress: Progress | None = None) -> ScriptedEngine:
        """Fails as often as it should."""
        self.fails = DeviceMemoryError("cpu ran out of memory.") if len(self.plans) < self.times else None
        return super().load(plan, progress=progress)


def shrinking(monkeypatch: pytest.MonkeyPatch, times: int, *free: int) -> tuple[Registry, Shrinking]:
    """A backend that fails so often, on a machine that has so much memory free at each probe."""
    machines = [LAPTOP.model_copy(update={"free_memory": size}) for size in free]
    monkeypatch.setattr("llama4sdk.probe.probe", lambda: machines.pop(0))
    registry, _ = scripted_registry()
    backend = Shrinking()
    backend.times = times
    monkeypatch.setattr(registry, "backend", lambda name: backend)
    return registry, backend


def test_a_plan_that_no_longer_fits_is_made_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """When memory was taken meanwhile, the machine is probed again, the plan is smaller, and a warning says so."""
    registry, backend = shrinking(monkeypatch, 1, 2000, 500)
    with Client("scripted", registry=registry) as client:
        assert client.plan().context_length == 4096
        assert client.chat("x").text == "Hello world."
        assert client.plan().context_length == 512
        assert client.memory() == Memory(predicted={"cpu": 400})
    assert [plan.memory["cpu"] for plan in backend.plans] == [1000, 400]
    assert [record.message for record in caplog.records if "no longer fits" in record.message] == [
        "The plan no longer fits: cpu ran out of memory. Planning again for the memory that is free now."
    ]


@pytest.mark.parametrize(
    ("free", "need", "have", "hint"),
    [
        (
            (2000, 1500),
            1000,
            1500,
            "Next best: 'scripted' with context_length=512 on 'scripted', which takes",
        ),
        ((2000, 450), 400, 450, None),
        ((2000, 300), 1000, 300, None),
    ],
    ids=["nothing changed", "the smallest does not fit either", "nothing is left"],
)
def test_a_plan_that_fails_twice_says_what_would_fit(
    monkeypatch: pytest.MonkeyPatch, free: tuple[int, ...], need: int, have: int, hint: str | None
) -> None:
    """After a second failure the error has the memory needed, the memory free, and the next best plan."""
    registry, backend = shrinking(monkeypatch, 9, *free)
    with Client("scripted", registry=registry) as client, pytest.raises(DeviceMemoryError) as caught:
        client.load()
    assert (caught.value.need, caught.value.have) == (need, have)
    assert len(backend.plans) == (1 if free[1] < 400 else 2)
    assert hint is None or hint in str(caught.value.hint)


def test_a_machine_that_was_given_is_not_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A described machine is planned for as described; this one is not probed."""
    registry, backend = shrinking(monkeypatch, 9)
    with Client("scripted", registry=registry, hardware=LAPTOP) as client, pytest.raises(DeviceMemoryError) as caught:
        client.load()
    assert len(backend.plans) == 1
    assert (caught.value.need, caught.value.have) == (1000, LAPTOP.free_memory)


def test_loading_says_how_far_it_is() -> None:
    """The backend's progress reaches the caller unchanged, and only while the model is loaded."""
    registry, backend = scripted_registry()
    backend.loading = [(1, None), (2, 4), (4, 4)]
    reports: list[tuple[int, int | None]] = []
    with Client("scripted", registry=registry, hardware=LAPTOP) as client:
        for _ in range(2):
            assert client.load(progress=lambda done, total: reports.append((done, total))) is client
    assert reports == backend.loading


def test_a_load_that_was_interrupted_can_be_tried_again() -> None:
    """Ctrl-C in the middle of loading passes through, and the next call loads anew."""
    registry, backend = scripted_registry()
    backend.loading = [(1, 4)]

    def interrupt(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with Client("scripted", registry=registry, hardware=LAPTOP) as client:
        with pytest.raises(KeyboardInterrupt):
            client.load(progress=interrupt)
        assert client.chat("x").text == "Hello world."
    assert len(backend.engines) == 1


def test_names_nobody_knows_are_refused_with_the_nearest() -> None:
    """Models, backends and paths each have their own error."""
    registry, _ = scripted_registry()
    with pytest.raises(UnknownModelError, match="Did you mean 'scout'"):
        Client("scoutt", registry=registry, hardware=LAPTOP).plan()
    with pytest.raises(UnknownModelError, match="Did you mean 'scripted'"):
        Client("scripte", registry=registry, hardware=LAPTOP).plan()
    with pytest.raises(UnknownModelError, match="Backend 'scripted' has no model 'scout'"):
        Client("scout", backend="scripted", registry=registry, hardware=LAPTOP).plan()
    with pytest.raises(UnknownBackendError, match="Did you mean 'scripted'"):
        Client(backend="scriptd", registry=registry, hardware=LAPTOP).plan()
    with pytest.raises(WeightsNotFoundError, match=r"no file or directory '\./nothing\.gguf'"):
        Client("./nothing.gguf", registry=registry, hardware=LAPTOP).plan()


def test_a_broken_plugin_is_mentioned_when_nothing_else_helps() -> None:
    """The error without a backend names plugins that are broken."""
    failure = PluginFailure(plugin="torch", distribution="llama4sdk-torch", version="1", reason="ImportError: no libc")
    with pytest.raises(NoBackendError, match="is broken: llama4sdk-torch: ImportError: no libc"):
        Client(registry=Registry([], [failure]), hardware=LAPTOP).plan()


def test_the_notice_of_a_plan_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """The demo model is announced in one line, with the memory Scout needs."""
    offer = Offer(model="demo", placement=Placement(kind="local", devices=("cpu",)), context_length=8, reason="test")
    registry, _ = scripted_registry(answer=offer)
    with (
        caplog.at_level(logging.WARNING, "llama4sdk"),
        Client("scripted", registry=registry, hardware=LAPTOP) as client,
    ):
        client.chat("x")
        client.chat("y")
    assert len(caplog.messages) == 1
    assert "not Llama 4. Scout needs 60.4 GB" in caplog.messages[0]
