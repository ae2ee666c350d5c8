"""What is offered, where it is reached, and with what: from arguments, the environment and the registry."""

from __future__ import annotations

import pytest
from llama4sdk_openai import backends, llama4sdk_backends
from llama4sdk_openai.backend import ASSUMED_CONTEXT_LENGTH, OpenAIProtocolBackend
from llama4sdk_openai.credentials import ResolvedEndpoint, resolve_endpoint
from llama4sdk_openai.options import parse_options
from llama4sdk_openai.profiles import load_profiles
from pydantic import SecretStr

from llama4sdk import settings
from llama4sdk.backend import Need, Offer, Unavailable
from llama4sdk.endpoint import Endpoint
from llama4sdk.errors import ConfigurationError, UnknownOptionError
from llama4sdk.probe import software
from llama4sdk.testing import LAPTOP

from .fake_server import CONTEXT, KEY, MODEL, Fake, serving

SECRET = SecretStr(KEY)


def offered(name: str, model: str | None = "scout", endpoint: Endpoint | None = None) -> Offer | Unavailable:
    """What the backend of this name answers."""
    return backend(name).offer(Need(model=model, endpoint=endpoint or Endpoint(api_key=SECRET)), LAPTOP)


def backend(name: str) -> OpenAIProtocolBackend:
    card = next(card for card in llama4sdk_backends() if card.name == name)
    made = getattr(backends, card.cls.partition(":")[2])()
    assert isinstance(made, OpenAIProtocolBackend)
    return made


def reached(name: str, endpoint: Endpoint) -> ResolvedEndpoint:
    """How the endpoint of this name is reached."""
    found = resolve_endpoint(load_profiles()[name], endpoint, parse_options(load_profiles()[name], endpoint.options))
    assert isinstance(found, ResolvedEndpoint)
    return found


@pytest.mark.parametrize("name", load_profiles())
def test_every_card_has_its_class(name: str) -> None:
    """Each profile is a backend, whose class has its name."""
    assert backend(name).name == name


def test_names_of_ours_become_the_endpoints() -> None:
    """``scout`` is what the registry says it is called there; the context is what is accepted there."""
    offer = offered("deepinfra")
    assert isinstance(offer, Offer)
    assert (offer.model, offer.context_length) == ("meta-llama/Llama-4-Scout-17B-16E-Instruct", 327_680)
    assert offer.placement.kind == "remote"


def test_other_names_pass() -> None:
    """What the registry does not know is sent as it is; how long it may be is assumed, and said to be."""
    offer = offered("deepinfra", "some/model")
    assert isinstance(offer, Offer)
    assert (offer.model, offer.context_length) == ("some/model", ASSUMED_CONTEXT_LENGTH)
    assert "assumed" in offer.reason


def test_what_a_model_lacks_there_is_not_offered() -> None:
    """Fireworks' Llama 4 obeys no tool_choice."""
    offer = offered("fireworks")
    assert isinstance(offer, Offer)
    assert offer.capabilities is not None
    assert "tool_choice" not in offer.capabilities.features
    assert "tools" in offer.capabilities.features


@pytest.mark.parametrize(("name", "day"), [("groq", "2026-07-17"), ("together", "2026-02-06")])
def test_a_model_that_ended_is_refused_with_its_day(name: str, day: str) -> None:
    """Who no longer serves Scout says since when, and who still does."""
    refused = offered(name)
    assert isinstance(refused, Unavailable)
    assert day in refused.reason
    assert "deepinfra" in (refused.fix or "")


def test_openai_itself_is_never_asked_for_llama() -> None:
    """It serves none; a model of its own, embeddings for one, may be asked for."""
    place = Endpoint(url="https://api.openai.com/v1", api_key=SECRET)
    refused = offered("openai", "scout", place)
    assert isinstance(refused, Unavailable)
    assert "serves no Llama" in refused.reason
    assert isinstance(offered("openai", "text-embedding-3-small", place), Offer)


def test_no_address_is_guessed() -> None:
    """Without an address the generic backends say how to give one."""
    for name in ("openai", "azure", "anyscale"):
        refused = offered(name, "any")
        assert isinstance(refused, Unavailable)
        assert "endpoint=" in (refused.fix or "")


def test_the_doctor_knows_every_variable_that_is_read() -> None:
    """It shows addresses, and which keys are there."""
    for one in load_profiles().values():
        assert set(one.url_variables) <= settings.OTHERS
        assert set(one.key_variables) <= settings.OTHERS & set(software.VARIABLES)


def test_a_missing_key_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts need a key; any of its variables will do."""
    refused = offered("together", "m", Endpoint())
    assert isinstance(refused, Unavailable)
    assert "TOGETHER_API_KEY" in refused.reason
    monkeypatch.setenv("TOGETHERAI_API_KEY", KEY)
    assert isinstance(offered("together", "m", Endpoint()), Offer)


def test_devices_and_precisions_are_not_ours_to_choose() -> None:
    """What runs elsewhere runs as it does."""
    need = Need(model="scout", endpoint=Endpoint(api_key=SECRET))
    for asked in ({"device": "cuda:0"}, {"quantization": "int4"}, {"context_length": 10**6}):
        answer = backend("deepinfra").offer(
            Need.model_validate(need.model_dump() | asked | {"endpoint": need.endpoint}), LAPTOP
        )
        assert isinstance(answer, Unavailable)


def test_an_address_without_a_path_gets_the_protocols(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host is enough; a path is kept; variables hold either."""
    assert reached("openai", Endpoint(url="http://h:1")).base_url == "http://h:1/v1"
    assert reached("openai", Endpoint(url="http://h:1/my/v2")).base_url == "http://h:1/my/v2"
    monkeypatch.setenv("TOGETHER_BASE_URL", "https://proxy.example")
    assert reached("together", Endpoint(api_key=SECRET)).base_url == "https://proxy.example/v1"


def test_azure_has_two_surfaces() -> None:
    """One wants a version in each address and its own header, the other does not; a token is another header."""
    one = reached("azure", Endpoint(url="https://r.services.ai.azure.com", api_key=SECRET))
    assert one.url("/chat/completions").endswith("/models/chat/completions?api-version=2024-05-01-preview")
    assert (one.headers["api-key"], one.headers["extra-parameters"]) == (KEY, "error")
    other = reached(
        "azure", Endpoint(url="https://r.services.ai.azure.com/openai/v1", api_key=SECRET, options={"auth": "bearer"})
    )
    assert other.url("/chat/completions").endswith("/openai/v1/chat/completions")
    assert other.headers["Authorization"] == f"Bearer {KEY}"
    serverless = reached("azure", Endpoint(url="https://n.eastus.models.ai.azure.com", api_key=SECRET))
    assert serverless.url("/chat/completions").startswith("https://n.eastus.models.ai.azure.com/chat/completions?")


def test_vertex_is_reached_by_project_and_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """The project comes from the options or the environment; Llama's place there is the default."""
    refused = offered("vertex")
    assert isinstance(refused, Unavailable)
    assert "GOOGLE_CLOUD_PROJECT" in refused.reason
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "mine")
    base = reached("vertex", Endpoint(api_key=SECRET, options={"quota_project": "theirs"}))
    assert (
        base.base_url
        == "https://us-east5-aiplatform.googleapis.com/v1/projects/mine/locations/us-east5/endpoints/openapi"
    )
    assert base.headers["x-goog-user-project"] == "theirs"
    offer = offered("vertex", "maverick")
    assert isinstance(offer, Offer)
    assert offer.model == "meta/llama-4-maverick-17b-128e-instruct-maas"


def test_hugging_face_is_told_who_serves_and_who_pays() -> None:
    """The provider stands behind the model's name, the organization in a header."""
    place = Endpoint(api_key=SECRET, options={"provider": "groq", "bill_to": "acme"})
    offer = offered("huggingface", "scout", place)
    assert isinstance(offer, Offer)
    assert offer.model == "meta-llama/Llama-4-Scout-17B-16E-Instruct:groq"
    assert reached("huggingface", place).headers["X-HF-Bill-To"] == "acme"


def test_unknown_options_name_the_nearest() -> None:
    """An option of another backend, or one misspelt, is an error with what there is."""
    with pytest.raises(UnknownOptionError, match="Did you mean 'project'"):
        offered("vertex", "scout", Endpoint(options={"projct": "x"}))
    with pytest.raises(UnknownOptionError, match="api_version"):
        offered("together", "scout", Endpoint(options={"api_version": "1"}))
    with pytest.raises(ConfigurationError, match="context_length"):
        offered("openai", "m", Endpoint(options={"context_length": 0}))
    with pytest.raises(ConfigurationError, match="may not set model"):
        offered("openai", "m", Endpoint(options={"extra_body": {"model": "other"}}))


def test_a_server_of_ones_own_says_what_it_serves(fake: Fake) -> None:
    """Its models and their context are asked for, once for several offers; names of ours find theirs."""
    place = Endpoint(url=fake.url, api_key=SECRET)
    asked = backend("vllm-server")
    for model in ("scout", None, MODEL):
        offer = asked.offer(Need(model=model, endpoint=place), LAPTOP)
        assert isinstance(offer, Offer)
        assert (offer.model, offer.context_length) == (MODEL, CONTEXT)
    assert [path for path, _, _ in fake.calls].count("/v1/models") == 1
    refused = asked.offer(Need(model="maverick", endpoint=place), LAPTOP)
    assert isinstance(refused, Unavailable)
    assert MODEL in (refused.fix or "")


def test_vllm_shows_by_its_addresses_what_its_model_was_loaded_for(fake: Fake) -> None:
    """One that writes has none for embeddings; one that embeds has none for chats."""
    for missing, lacking in (("/v1/embeddings", "embed"), ("/v1/chat/completions", "chat")):
        fake.missing = (missing,)
        offer = offered("vllm-server", None, Endpoint(url=fake.url, api_key=SECRET))
        assert isinstance(offer, Offer)
        assert offer.capabilities is not None
        assert {"embed", "chat"} - offer.capabilities.features == {lacking}


def test_what_answers_no_gets_is_taken_to_do_what_vllm_does(fake: Fake) -> None:
    """A gateway, or another server in vLLM's place, says nothing by its addresses."""
    fake.missing = ("/v1/embeddings", "/v1/chat/completions", "/v1/completions")
    offer = offered("vllm-server", None, Endpoint(url=fake.url, api_key=SECRET))
    assert isinstance(offer, Offer)
    assert offer.capabilities == load_profiles()["vllm-server"].capabilities


def test_a_server_of_another_kind_is_told_from_a_model_that_is_missing(fake: Fake) -> None:
    """What is not there when a server is asked about itself is its address' fault, and names no model."""
    refused = offered("lmstudio", None, Endpoint(url=fake.url, api_key=SECRET))
    assert isinstance(refused, Unavailable)
    assert refused.fix == "Check the endpoint's url."


def test_llamacpp_says_whether_it_sees() -> None:
    """A server without a projector is not offered images; its context is that of one slot."""
    with serving("llamacpp") as fake:
        offer = offered("llamacpp-server", None, Endpoint(url=fake.url, api_key=SECRET))
    assert isinstance(offer, Offer)
    assert offer.capabilities is not None
    assert "images" not in offer.capabilities.features
    assert offer.context_length == CONTEXT


def test_a_server_that_is_not_there_is_said_how_to_start() -> None:
    """Nobody listens: the command that starts one is the fix."""
    with serving() as fake:
        gone = fake.url
    refused = offered("vllm-server", None, Endpoint(url=gone))
    assert isinstance(refused, Unavailable)
    assert "vllm serve" in (refused.fix or "")


def test_a_wrong_key_is_no_missing_server(fake: Fake) -> None:
    """A server that refuses the key is said to; the key is not repeated."""
    refused = offered("vllm-server", None, Endpoint(url=fake.url, api_key=SecretStr("sk-wrong")))
    assert isinstance(refused, Unavailable)
    assert "401" in refused.reason
    assert "vllm serve" not in (refused.fix or "")
    assert "sk-wrong" not in str(refused)
