"""Offers, addresses and credentials, from arguments, the environment and the registry."""

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


def make_offer(name: str, model: str | None = "scout", endpoint: Endpoint | None = None) -> Offer | Unavailable:
    """The answer of the backend of this name."""
    return backend(name).offer(Need(model=model, endpoint=endpoint or Endpoint(api_key=SECRET)), LAPTOP)


def backend(name: str) -> OpenAIProtocolBackend:
    card = next(card for card in llama4sdk_backends() if card.name == name)
    instance = getattr(backends, card.cls.partition(":")[2])()
    assert isinstance(instance, OpenAIProtocolBackend)
    return instance


def resolve(name: str, endpoint: Endpoint) -> ResolvedEndpoint:
    """The address and headers of the endpoint of this name."""
    target = resolve_endpoint(load_profiles()[name], endpoint, parse_options(load_profiles()[name], endpoint.options))
    assert isinstance(target, ResolvedEndpoint)
    return target


@pytest.mark.parametrize("name", load_profiles())
def test_every_profile_has_its_class(name: str) -> None:
    """Each profile is a backend, and its class has its name."""
    assert backend(name).name == name


def test_catalogue_names_become_the_endpoints() -> None:
    """``scout`` gets the registry's id and context of that endpoint."""
    offer = make_offer("deepinfra")
    assert isinstance(offer, Offer)
    assert (offer.model, offer.context_length) == ("meta-llama/Llama-4-Scout-17B-16E-Instruct", 327_680)
    assert offer.placement.kind == "remote"


def test_other_names_are_sent_unchanged() -> None:
    """A model that is not registered keeps its name; its context is assumed, and the reason says so."""
    offer = make_offer("deepinfra", "some/model")
    assert isinstance(offer, Offer)
    assert (offer.model, offer.context_length) == ("some/model", ASSUMED_CONTEXT_LENGTH)
    assert "assumed" in offer.reason


def test_features_that_a_model_lacks_there_are_not_offered() -> None:
    """Llama 4 on Fireworks does not follow tool_choice."""
    offer = make_offer("fireworks")
    assert isinstance(offer, Offer)
    assert offer.capabilities is not None
    assert "tool_choice" not in offer.capabilities.features
    assert "tools" in offer.capabilities.features


@pytest.mark.parametrize(("name", "day"), [("groq", "2026-07-17"), ("together", "2026-02-06")])
def test_a_retired_model_is_refused_with_its_date(name: str, day: str) -> None:
    """The refusal names the day on which Scout ended there, and endpoints that still serve it."""
    refusal = make_offer(name)
    assert isinstance(refusal, Unavailable)
    assert day in refusal.reason
    assert "deepinfra" in (refusal.fix or "")


def test_openai_itself_is_never_asked_for_llama() -> None:
    """It serves none; other models, such as those for embeddings, may be asked for."""
    endpoint = Endpoint(url="https://api.openai.com/v1", api_key=SECRET)
    refusal = make_offer("openai", "scout", endpoint)
    assert isinstance(refusal, Unavailable)
    assert "serves no Llama" in refusal.reason
    assert isinstance(make_offer("openai", "text-embedding-3-small", endpoint), Offer)


def test_no_address_is_guessed() -> None:
    """Without an address the generic backends say how to give one."""
    for name in ("openai", "azure", "anyscale"):
        refusal = make_offer(name, "any")
        assert isinstance(refusal, Unavailable)
        assert "endpoint=" in (refusal.fix or "")


def test_doctor_knows_every_variable_that_is_read() -> None:
    """It shows addresses, and which keys are set."""
    for profile in load_profiles().values():
        assert set(profile.url_variables) <= settings.OTHERS
        assert set(profile.key_variables) <= settings.OTHERS & set(software.VARIABLES)


def test_a_missing_key_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts need a key; any of its variables will do."""
    refusal = make_offer("together", "m", Endpoint())
    assert isinstance(refusal, Unavailable)
    assert "TOGETHER_API_KEY" in refusal.reason
    monkeypatch.setenv("TOGETHERAI_API_KEY", KEY)
    assert isinstance(make_offer("together", "m", Endpoint()), Offer)


def test_devices_and_precisions_cannot_be_chosen() -> None:
    """A device, a quantization or a longer context than the endpoint's is refused."""
    need = Need(model="scout", endpoint=Endpoint(api_key=SECRET))
    for fields in ({"device": "cuda:0"}, {"quantization": "int4"}, {"context_length": 10**6}):
        answer = backend("deepinfra").offer(
            Need.model_validate(need.model_dump() | fields | {"endpoint": need.endpoint}), LAPTOP
        )
        assert isinstance(answer, Unavailable)


def test_an_address_without_a_path_gets_the_default_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host is enough; a path is kept; variables hold either."""
    assert resolve("openai", Endpoint(url="http://h:1")).base_url == "http://h:1/v1"
    assert resolve("openai", Endpoint(url="http://h:1/my/v2")).base_url == "http://h:1/my/v2"
    monkeypatch.setenv("TOGETHER_BASE_URL", "https://proxy.example")
    assert resolve("together", Endpoint(api_key=SECRET)).base_url == "https://proxy.example/v1"


def test_azure_has_two_apis() -> None:
    """One needs a version in each URL and its own header, the other takes a bearer token."""
    models_api = resolve("azure", Endpoint(url="https://r.services.ai.azure.com", api_key=SECRET))
    assert models_api.url("/chat/completions").endswith("/models/chat/completions?api-version=2024-05-01-preview")
    assert (models_api.headers["api-key"], models_api.headers["extra-parameters"]) == (KEY, "error")
    openai_api = resolve(
        "azure", Endpoint(url="https://r.services.ai.azure.com/openai/v1", api_key=SECRET, options={"auth": "bearer"})
    )
    assert openai_api.url("/chat/completions").endswith("/openai/v1/chat/completions")
    assert openai_api.headers["Authorization"] == f"Bearer {KEY}"
    serverless = resolve("azure", Endpoint(url="https://n.eastus.models.ai.azure.com", api_key=SECRET))
    assert serverless.url("/chat/completions").startswith("https://n.eastus.models.ai.azure.com/chat/completions?")


def test_vertex_is_addressed_by_project_and_location(monkeypatch: pytest.MonkeyPatch) -> None:
    """The project comes from the options or the environment; Llama's region is the default."""
    refusal = make_offer("vertex")
    assert isinstance(refusal, Unavailable)
    assert "GOOGLE_CLOUD_PROJECT" in refusal.reason
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "mine")
    target = resolve("vertex", Endpoint(api_key=SECRET, options={"quota_project": "theirs"}))
    assert (
        target.base_url
        == "https://us-east5-aiplatform.googleapis.com/v1/projects/mine/locations/us-east5/endpoints/openapi"
    )
    assert target.headers["x-goog-user-project"] == "theirs"
    offer = make_offer("vertex", "maverick")
    assert isinstance(offer, Offer)
    assert offer.model == "meta/llama-4-maverick-17b-128e-instruct-maas"


def test_hugging_face_takes_a_provider_and_a_billing_organization() -> None:
    """The provider is appended to the model's name, the organization is a header."""
    endpoint = Endpoint(api_key=SECRET, options={"provider": "groq", "bill_to": "acme"})
    offer = make_offer("huggingface", "scout", endpoint)
    assert isinstance(offer, Offer)
    assert offer.model == "meta-llama/Llama-4-Scout-17B-16E-Instruct:groq"
    assert resolve("huggingface", endpoint).headers["X-HF-Bill-To"] == "acme"


def test_unknown_options_name_the_nearest() -> None:
    """An option of another backend, a misspelt one or a wrong value is an error."""
    with pytest.raises(UnknownOptionError, match="Did you mean 'project'"):
        make_offer("vertex", "scout", Endpoint(options={"projct": "x"}))
    with pytest.raises(UnknownOptionError, match="api_version"):
        make_offer("together", "scout", Endpoint(options={"api_version": "1"}))
    with pytest.raises(ConfigurationError, match="context_length"):
        make_offer("openai", "m", Endpoint(options={"context_length": 0}))
    with pytest.raises(ConfigurationError, match="may not set model"):
        make_offer("openai", "m", Endpoint(options={"extra_body": {"model": "other"}}))


def test_a_self_hosted_server_is_asked_for_its_models(fake: Fake) -> None:
    """One answer serves several offers; catalogue names match the server's models."""
    endpoint = Endpoint(url=fake.url, api_key=SECRET)
    server_backend = backend("vllm-server")
    for model in ("scout", None, MODEL):
        offer = server_backend.offer(Need(model=model, endpoint=endpoint), LAPTOP)
        assert isinstance(offer, Offer)
        assert (offer.model, offer.context_length) == (MODEL, CONTEXT)
    assert [path for path, _, _ in fake.calls].count("/v1/models") == 1
    refusal = server_backend.offer(Need(model="maverick", endpoint=endpoint), LAPTOP)
    assert isinstance(refusal, Unavailable)
    assert MODEL in (refusal.fix or "")


def test_vllm_shows_by_its_paths_what_its_model_was_loaded_for(fake: Fake) -> None:
    """A generating model has no path for embeddings, an embedding model none for chats."""
    for missing, lacking in (("/v1/embeddings", "embed"), ("/v1/chat/completions", "chat")):
        fake.missing = (missing,)
        offer = make_offer("vllm-server", None, Endpoint(url=fake.url, api_key=SECRET))
        assert isinstance(offer, Offer)
        assert offer.capabilities is not None
        assert {"embed", "chat"} - offer.capabilities.features == {lacking}


def test_a_server_that_answers_no_gets_keeps_all_features(fake: Fake) -> None:
    """The paths of a gateway, or of another server in vLLM's place, show nothing."""
    fake.missing = ("/v1/embeddings", "/v1/chat/completions", "/v1/completions")
    offer = make_offer("vllm-server", None, Endpoint(url=fake.url, api_key=SECRET))
    assert isinstance(offer, Offer)
    assert offer.capabilities == load_profiles()["vllm-server"].capabilities


def test_a_server_of_another_kind_is_no_missing_model(fake: Fake) -> None:
    """A missing path of discovery means a wrong address, and the error names no model."""
    refusal = make_offer("lmstudio", None, Endpoint(url=fake.url, api_key=SECRET))
    assert isinstance(refusal, Unavailable)
    assert refusal.fix == "Check the endpoint's url."


def test_llamacpp_says_whether_it_takes_images() -> None:
    """A server without a projector is not offered images; its context is that of one slot."""
    with serving("llamacpp") as fake:
        offer = make_offer("llamacpp-server", None, Endpoint(url=fake.url, api_key=SECRET))
    assert isinstance(offer, Offer)
    assert offer.capabilities is not None
    assert "images" not in offer.capabilities.features
    assert offer.context_length == CONTEXT


def test_an_unreachable_server_comes_with_the_command_to_start_it() -> None:
    """Where nothing listens, the fix is the command that starts a server."""
    with serving() as fake:
        url = fake.url
    refusal = make_offer("vllm-server", None, Endpoint(url=url))
    assert isinstance(refusal, Unavailable)
    assert "vllm serve" in (refusal.fix or "")


def test_a_wrong_key_is_no_missing_server(fake: Fake) -> None:
    """The reason is the server's refusal of the key, which is not repeated."""
    refusal = make_offer("vllm-server", None, Endpoint(url=fake.url, api_key=SecretStr("sk-wrong")))
    assert isinstance(refusal, Unavailable)
    assert "401" in refusal.reason
    assert "vllm serve" not in (refusal.fix or "")
    assert "sk-wrong" not in str(refusal)
