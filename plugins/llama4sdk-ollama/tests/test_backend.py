"""Offers, and the engines made of them."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest
from llama4sdk_ollama.backend import OllamaBackend
from pydantic import SecretStr

from llama4sdk import Client
from llama4sdk.backend import Need, Offer, Unavailable
from llama4sdk.catalog.machine_descriptions import describe
from llama4sdk.endpoint import Endpoint
from llama4sdk.errors import AuthenticationError, ConfigurationError, ModelLoadError, NoBackendError
from llama4sdk.errors import WeightsNotFoundError as Missing
from llama4sdk.hardware import Hardware
from llama4sdk.testing.child import Question, offer_report
from llama4sdk.testing.machines import LAPTOP

from .fake_server import EMBEDDER, SCOUT, Fake, entry

Connect = Callable[..., Client]


def make_offer(need: Need | None = None, hardware: Hardware = LAPTOP) -> Offer:
    answer = OllamaBackend().offer(need or Need(model="scout"), hardware)
    assert isinstance(answer, Offer), answer
    return answer


def make_refusal(need: Need) -> Unavailable:
    answer = OllamaBackend().offer(need, LAPTOP)
    assert isinstance(answer, Unavailable), answer
    return answer


@pytest.mark.parametrize(
    ("tag", "family", "size", "model"),
    [
        ("llama4:scout", "llama4", "108.6B", "scout"),
        ("llama4:latest", "llama4", "108.6B", "scout"),
        ("llama4:16x17b-scout-instruct-q4_K_M", "llama4", "", "scout"),
        ("hf.co/unsloth/Llama-4-Scout-17B-16E-Instruct-GGUF:Q4_K_M", "llama4", "", "scout"),
        ("llama4:128x17b", "llama4", "", "maverick"),
        ("mine:latest", "llama4", "400B", "maverick"),
    ],
)
def test_llama_4_is_recognized_under_any_tag(fake: Fake, tag: str, family: str, size: str, model: str) -> None:
    """Ollama's names, words in a name, or family and size identify it; no other model is taken for it."""
    fake.tags = [entry("llama3:scout-fan", "llama", 1, "8B"), entry(tag, family, 1000, size)]
    fake.info[tag] = fake.info[SCOUT]
    offer = make_offer(Need(model=model))
    assert (offer.model, tag in offer.reason) == (model, True)
    other_model = "maverick" if model == "scout" else "scout"
    assert (
        make_refusal(Need(model=other_model)).fix
        == f"Run 'ollama pull llama4:{other_model}', or llama4sdk_ollama.pull('llama4:{other_model}')."
    )


def test_other_models_go_by_ollamas_names(fake: Fake) -> None:
    """They match with or without ``:latest``, in any case; a missing one comes with the command that downloads it."""
    assert make_offer(Need(model="nomic-embed-text")).reason == make_offer(Need(model="Nomic-Embed-Text:latest")).reason
    assert "ollama pull qwen3" in (make_refusal(Need(model="qwen3")).fix or "")
    assert make_offer(Need()).model == SCOUT
    fake.tags = []
    assert "no models" in make_refusal(Need()).reason


def test_features_are_the_servers_capabilities(fake: Fake) -> None:
    """Tools, vision and embeddings as the server lists them; logprobs since 0.12.11."""
    scout = make_offer().capabilities
    assert scout is not None
    assert scout.remote
    assert scout.features == {"generate", "chat", "json_schema", "astream", "images", "tools"}
    assert "logprobs" in scout.sampling
    embedder = make_offer(Need(model=EMBEDDER)).capabilities
    assert embedder is not None
    assert embedder.features == {"embed"}
    fake.version = "0.12.10"
    old = make_offer().capabilities
    assert old is not None
    assert "logprobs" not in old.sampling
    assert "does not support images" in make_refusal(Need(model=EMBEDDER, features=frozenset({"images"}))).reason


def test_the_context_length_has_an_order_of_sources(fake: Fake) -> None:
    """The caller's; else the loaded model's; else what memory allows; else 8192; never above the model's limit."""
    assert make_offer(Need(model="scout", context_length=3000)).context_length == 3000
    assert (
        make_offer(Need(model="scout", context_length=100)).context_length == 2048
    )  # a model with vision has at least that
    assert make_offer().context_length == 8192
    assert make_offer(hardware=describe("2xh100")).context_length == 131_072
    assert make_offer(Need(model=EMBEDDER)).context_length == 2048
    fake.loaded[SCOUT] = 5000
    assert make_offer(hardware=describe("2xh100")).context_length == 5000
    assert "10485760" in make_refusal(Need(model="scout", context_length=2**40)).reason


def test_this_machines_memory_does_not_count_for_a_server_elsewhere(fake: Fake) -> None:
    """It counts only where the server's address is a loopback address."""
    elsewhere = Endpoint(url=fake.url.replace("127.0.0.1", "0x7f000001"))
    assert make_offer(Need(model="scout", endpoint=elsewhere), describe("2xh100")).context_length == 8192


def test_the_servers_own_decisions_are_refused(fake: Fake) -> None:
    """A device or a quantization cannot be chosen."""
    assert make_refusal(Need(model="scout", device="cuda:0")).reason
    assert make_refusal(Need.model_validate({"model": "scout", "quantization": "int4"})).fix


def test_an_unreachable_server_comes_with_a_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fix starts a server, gives a key, or corrects an address that is no Ollama."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{unused.getsockname()[1]}")
        assert "ollama serve" in (make_refusal(Need(model="scout")).fix or "")
    with Fake() as fake:
        monkeypatch.setenv("OLLAMA_HOST", fake.url)
        fake.key = "sesame"
        assert "OLLAMA_API_KEY" in (make_refusal(Need(model="scout")).fix or "")
        monkeypatch.setenv("OLLAMA_API_KEY", "sesame")
        assert make_offer().model == "scout"
        monkeypatch.setenv("OLLAMA_HOST", f"{fake.url}/elsewhere")
        assert "does not speak Ollama's API" in (make_refusal(Need(model="scout")).fix or "")


def test_an_offer_contacts_the_server_alone(fake: Fake) -> None:
    """In a process of its own, an offer connects to nothing else, and opens no device."""
    report = offer_report("ollama", "ollama", Question(need=Need(model="scout"), hardware=LAPTOP))
    assert isinstance(report.answer, Offer)
    assert set(report.connections) <= {"127.0.0.1", str(("127.0.0.1", int(fake.url.rsplit(":", 1)[1])))}
    assert not report.devices


def test_a_server_that_does_not_answer_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The failure is remembered for a moment, however many models are asked for."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{silent.getsockname()[1]}")
        backend = OllamaBackend()
        answers = [backend.offer(Need(model=model), LAPTOP) for model in ("scout", "maverick", None)]
        silent.settimeout(0.01)
        silent.accept()[0].close()
        with pytest.raises(TimeoutError):
            silent.accept()
    assert all(isinstance(answer, Unavailable) for answer in answers)


def test_wrong_options_are_refused_while_planning(connect: Connect) -> None:
    """They are refused before anything is loaded."""
    with pytest.raises(NoBackendError, match="keepalive"):
        connect(endpoint=Endpoint(options={"keepalive": 1})).plan()


def test_the_model_is_loaded_once_with_one_context(connect: Connect, fake: Fake) -> None:
    """Making the engine loads it, and all requests after it have the same options."""
    client = connect(
        "scout", context_length=3000, endpoint=Endpoint(options={"keep_alive": "1h", "options": {"num_gpu": 9}})
    )
    assert client.chat("Hello").model == "scout"
    client.generate("Once")
    client.chat("Hello", temperature=0.5, max_tokens=3)
    assert fake.loads == 1
    sent = [body for path, body in fake.posts if path in ("/api/chat", "/api/generate")]
    assert len(sent) == 4
    for body in sent:
        assert (body["options"]["num_ctx"], body["options"]["num_gpu"], body["keep_alive"]) == (3000, 9, "1h")
        assert body["shift"] is False
        assert body.get("think") is None


def test_loading_can_be_left_to_the_first_request(connect: Connect, fake: Fake) -> None:
    """With ``preload=False`` the first POST after discovery is the chat."""
    connect(endpoint=Endpoint(options={"preload": False})).chat("Hello")
    assert [path for path, _ in fake.posts] == ["/api/show", "/api/chat"]


def test_loading_reports_progress(fake: Fake) -> None:
    """Progress is called at the beginning and at the end, with the model's bytes."""
    calls: list[tuple[int, int | None]] = []
    with Client("scout", backend="ollama", hardware=LAPTOP) as client:
        client.load(progress=lambda done, total: calls.append((done, total)))
    assert calls == [(0, 67_436_814_528), (67_436_814_528, 67_436_814_528)]


def test_a_smaller_context_than_promised_is_an_error(connect: Connect, fake: Fake) -> None:
    """A server that gives less would cut prompts that fit into the plan's context."""
    fake.max_context = 1024
    with pytest.raises(ModelLoadError, match="1024 tokens, not 4096"):
        connect().chat("Hello")


def test_a_removed_model_is_missing(connect: Connect, fake: Fake) -> None:
    """It may disappear between plan and load, and between load and request."""
    client = connect()
    client.plan()
    tags, fake.tags = fake.tags, []
    with pytest.raises(Missing, match="no model 'llama4:scout'") as caught:
        client.chat("Hello")
    assert "ollama pull llama4:scout" in (caught.value.hint or "")
    fake.tags = tags
    client.chat("Hello")
    del fake.info[SCOUT]
    with pytest.raises(Missing):
        client.chat("Hello")


def test_an_embedding_model_is_loaded_too(connect: Connect, fake: Fake) -> None:
    """It is loaded by a request to embed nothing, since it cannot generate."""
    vectors = connect(EMBEDDER, context_length=None).embed(["one", "two"])
    assert [body["input"] for body in fake.bodies("/api/embed")] == [[], ["one", "two"]]
    assert fake.loads == 1
    assert (len(vectors.vectors), vectors.usage.input_tokens) == (2, 2)


def test_a_key_is_sent_and_never_shown(connect: Connect, fake: Fake) -> None:
    """Plans and errors do not contain it."""
    fake.key = "sesame"
    client = connect(endpoint=Endpoint(url=fake.url, api_key=SecretStr("sesame")))
    assert "sesame" not in client.plan().model_dump_json()
    assert client.chat("Hello").text
    fake.key = "another"
    with pytest.raises(AuthenticationError) as caught:
        client.chat("Hello")
    assert "sesame" not in str(caught.value)


def test_a_wrong_address_in_the_environment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason names the variable."""
    monkeypatch.setenv("OLLAMA_HOST", "ftp://there")
    assert "OLLAMA_HOST" in make_refusal(Need(model="scout")).reason
    with pytest.raises(ConfigurationError):
        OllamaBackend().load(_minimal_plan())


def _minimal_plan() -> Any:
    from llama4sdk.backend import Capabilities
    from llama4sdk.plan import Placement, Plan

    where = Placement(kind="remote", devices=("ollama",))
    return Plan(model="scout", backend="ollama", placement=where, context_length=8, capabilities=Capabilities())
