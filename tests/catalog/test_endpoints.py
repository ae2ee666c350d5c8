"""Who serves Llama 4 by the token, and what a user's own file changes of it."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from llama4sdk.catalog import endpoints
from llama4sdk.catalog.endpoint_tables import CURRENT_FOR, Listing, listings
from llama4sdk.errors import ConfigurationError, ModelRetiredError
from llama4sdk.events import Usage
from llama4sdk.remote.dialect import Head
from llama4sdk.remote.status_errors import status_error

TODAY = date(2026, 11, 21)


def listing(where: str, model: str) -> Listing:
    listing = endpoints.find(where, model)
    assert listing is not None
    return listing


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's own file, which is not there yet."""
    path = tmp_path / "endpoints.csv"
    monkeypatch.setenv("LLAMA4SDK_ENDPOINTS", str(path))
    return path


def test_every_listing_has_a_source_and_a_day() -> None:
    """One for each endpoint and model; Llama 4 alone; what a backend speaks to has a name there."""
    known = listings()
    assert len({(one.endpoint, one.model) for one in known}) == len(known)
    for one in known:
        assert one.model in ("scout", "maverick")
        assert one.source
        assert one.checked
        assert one.ids or one.backend is None
        assert (one.input is None) == (one.output is None)
        assert (one.tokens_per_second is None) == (one.speed_seen == "")
        assert not one.features & one.lacks


def test_one_backend_has_one_listing_of_a_model() -> None:
    """Otherwise it could not be said which is meant."""
    named = [(one.backend, one.model) for one in listings() if one.backend]
    assert len(set(named)) == len(named)


@pytest.mark.parametrize("where", ["bedrock", "Amazon Bedrock", "amazon bedrock"])
@pytest.mark.parametrize("model", ["scout", "llama-4-scout", "us.meta.llama4-scout-17b-instruct-v1:0"])
def test_a_listing_is_found_by_any_of_its_names(where: str, model: str) -> None:
    """By backend or endpoint, and by the SDK's name or the endpoint's own."""
    assert listing(where, model).context == 2_222_258


def test_names_become_the_endpoints_own() -> None:
    """The SDK's become the first of the endpoint's; others pass; nothing is made up where nobody has said."""
    assert endpoints.id_for("bedrock", "maverick") == "us.meta.llama4-maverick-17b-instruct-v1:0"
    assert endpoints.id_for("bedrock", "meta.llama4-scout-17b-instruct-v1:0") == "meta.llama4-scout-17b-instruct-v1:0"
    assert endpoints.id_for("bedrock", "amazon.titan-embed-text-v2:0") == "amazon.titan-embed-text-v2:0"
    assert endpoints.id_for("lmstudio", "scout") is None
    assert endpoints.find("DeepInfra", "demo") is None


def test_what_works_where() -> None:
    """Known to work, known not to, or unknown."""
    bedrock = listing("bedrock", "scout")
    assert "tools" in bedrock.features
    assert "stream_tools" in bedrock.lacks
    assert "json_schema" not in bedrock.features | bedrock.lacks


def test_a_listing_ages_and_an_endpoint_ends() -> None:
    """After 90 days it is only what was seen once; from its last day on it is not served."""
    bedrock = listing("bedrock", "scout")
    assert bedrock.checked is not None
    assert bedrock.current(bedrock.checked + CURRENT_FOR)
    assert bedrock.old(bedrock.checked + CURRENT_FOR + timedelta(days=1))
    assert (bedrock.ended(date(2027, 3, 29)), bedrock.ended(date(2027, 3, 30))) == (False, True)
    assert bedrock.state(TODAY) == "until 2027-03-30"
    assert bedrock.state(date(2027, 4, 1)) == "ended 2027-03-30"
    assert listing("together", "maverick").state(TODAY) == "dedicated"
    assert not listing("together", "maverick").current(TODAY)


def test_who_still_serves_it() -> None:
    """First what a backend speaks to, and of that what somebody can be quoted for, the cheapest first."""
    serving = endpoints.serving("llama-4-maverick", today=TODAY)
    names = [one.endpoint for one in serving]
    assert names[:3] == ["DeepInfra", "Amazon Bedrock", "Google Vertex AI"]
    assert not {"Azure AI Foundry", "Groq", "Together", "Meta Llama API"} & set(names)
    assert "Azure AI Foundry" in {one.endpoint for one in endpoints.serving("maverick", today=date(2026, 11, 18))}


def test_dollars_for_tokens() -> None:
    """Three in four tokens of prompt are the usual way to compare; without a price or a count there is no cost."""
    deepinfra = listing("DeepInfra", "scout")
    assert deepinfra.cost(2_000_000, 1_000_000) == pytest.approx(0.5)
    assert deepinfra.blended == pytest.approx(0.15)
    groq = listing("Groq", "maverick")
    assert groq.cost(1, 1) is groq.blended is None
    cost = endpoints.pricing("deepinfra", "scout")
    assert cost(Usage(input_tokens=2_000_000, output_tokens=1_000_000)) == pytest.approx(0.5)
    assert cost(Usage(input_tokens=5)) is None
    assert endpoints.pricing("vllm-server", "scout")(Usage(input_tokens=1, output_tokens=1)) is None


def test_what_ended_says_what_serves_it_instead() -> None:
    """With the price and the backend to pass, as an error and as the answer to a plan."""
    error = endpoints.retired_error("groq", "scout", status=404, today=TODAY)
    assert isinstance(error, ModelRetiredError)
    assert (error.backend, error.status) == ("groq", 404)
    assert error.message == "Groq no longer serves 'scout' since 2026-07-17."
    assert error.hint is not None
    assert "DeepInfra 0.10/0.30 (backend='deepinfra')" in error.hint
    refusal = endpoints.find_retirement("together", "llama4-scout", today=TODAY)
    assert refusal is not None
    assert "machines rented for oneself" in refusal.reason
    assert "together" not in (refusal.fix or "")
    assert endpoints.find_retirement("bedrock", "scout", today=TODAY) is None
    assert endpoints.find_retirement("together", "my-endpoint", today=TODAY) is None
    assert endpoints.find_retirement("vllm-server", "scout", today=TODAY) is None


@pytest.mark.parametrize(
    ("status", "body"), [(404, b'{"error": "model_not_found"}'), (400, b'{"error": {"code": "model_decommissioned"}}')]
)
def test_an_endpoint_that_has_dropped_a_model_is_answered_for(status: int, body: bytes) -> None:
    """A 404 of a model that is known to have ended, and any word of its end, name what serves it."""
    error = status_error(Head(status, {}), body, backend="groq", model="scout", now=0.0)
    assert isinstance(error, ModelRetiredError)
    assert error.hint is not None
    assert "backend='deepinfra'" in error.hint
    other = status_error(Head(404, {}), b"", backend="vllm-server", model="scout", now=0.0)
    assert not isinstance(other, ModelRetiredError)


def test_a_file_of_ones_own_overrides_and_adds(own: Path) -> None:
    """Only the columns given; an empty cell changes nothing, 'none' takes a value away; changes are read at once."""
    own.write_text(
        "model,endpoint,input,ends,status,backend,ids\n"
        "scout,amazon bedrock,0.5,,,,\n"
        "scout,Together,,none,active,,\n"
        "maverick,Our gateway,,2027-06-30,,gateway,one two\n"
    )
    bedrock = listing("bedrock", "scout")
    assert (bedrock.endpoint, bedrock.input, bedrock.output) == ("Amazon Bedrock", 0.5, 0.66)
    assert listing("together", "scout").state(TODAY) == "active"
    added = listing("gateway", "maverick")
    assert (added.ids, added.source, added.checked) == (("one", "two"), "endpoints.csv", None)
    assert added.ended(date(2027, 6, 30))
    assert not added.old(date(2030, 1, 1))
    own.write_text("endpoint,model,input\nAmazon Bedrock,scout,0.75\n")
    assert listing("bedrock", "scout").input == 0.75
    assert endpoints.find("gateway", "maverick") is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("endpoint,model,price\n", "line 1, column 'price': there is no such column"),
        ("endpoint,input\n", "line 1, column 'model': it must be there"),
        ("endpoint,model,input\nGroq,scout,0.1\nGroq,maverick,cheap\n", "line 3, column 'input': 'cheap'"),
        ("endpoint,model,context\nGroq,scout,-5\n", "line 2, column 'context': '-5'"),
        ("endpoint,model,features\nGroq,scout,images dance\n", "line 2, column 'features': 'images dance'"),
        ("endpoint,model,ends\nGroq,scout,tomorrow\n", "line 2, column 'ends': 'tomorrow'"),
        ("endpoint,model,status\nGroq,scout,alive\n", "line 2, column 'status': 'alive'"),
        ("endpoint,model,input\nGroq,scout\n", "line 2, column 'model': 2 values for 3 columns"),
        ("endpoint,model\nGroq,\n", "line 2, column 'model': it is empty"),
        ("endpoint,model\nGroq,scout\n\ngroq,SCOUT\n", "line 4, column 'model': the same endpoint and model"),
        ("", "line 1, column 'endpoint': it must be there"),
        ('endpoint,model\n"Groq,scout\n', "no table"),
    ],
)  # fmt: skip
def test_a_mistake_in_it_is_told_with_its_place(own: Path, text: str, told: str) -> None:
    """Line and column, whatever it is."""
    own.write_text(text)
    with pytest.raises(ConfigurationError, match=told.replace("(", r"\(")) as caught:
        listings()
    assert caught.value.hint


def test_a_file_that_is_not_there_or_is_none_is_told(own: Path) -> None:
    """With the variable's name, or with what a table is."""
    with pytest.raises(ConfigurationError, match="LLAMA4SDK_ENDPOINTS"):
        listings()
    own.write_bytes(b"endpoint,model\n\xff\xfe,scout\n")
    with pytest.raises(ConfigurationError, match="no table"):
        listings()
