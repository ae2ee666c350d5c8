"""One client, two models: each request goes to the one that the rule or the caller's function names."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from llama4sdk import Policy
from llama4sdk.backend import Need, Offer, Unavailable
from llama4sdk.errors import ConfigurationError, InvalidRequestError, NoBackendError
from llama4sdk.hardware import Hardware
from llama4sdk.messages import ImagePart, Message, TextPart
from llama4sdk.plan import Placement
from llama4sdk.planning.routing import RequestProfile, RoutingRule
from llama4sdk.requests import Request, SamplingParams, Tool
from llama4sdk.session.token_bounds import max_prompt_tokens, request_profile
from tests.session.backends import NamedBackend, ScriptedBackends, text_answer

CONTEXTS = {"scout": 4096, "maverick": 2048}


class Both(NamedBackend):
    """Has Scout and Maverick, with contexts of their own."""

    contexts: dict[str, int] = CONTEXTS

    def offer(self, need: Need, hardware: Hardware) -> Offer | Unavailable:
        """The model that is needed."""
        self.asked.append((need, hardware))
        context = self.contexts.get(need.model or "")
        if context is None:
            return Unavailable(reason=f"it has no '{need.model}'.")
        where = Placement(kind="local", devices=("cpu",))
        return Offer(model=need.model or "", placement=where, context_length=context, reason="it was told to")


def both(**given: Any) -> ScriptedBackends:
    """One local backend with both models."""
    backends = ScriptedBackends().add("both", text_answer("x"), kind="local")
    backend = backends.backend("both")
    backend.__class__ = Both
    del backend.answer
    vars(backend).update(given)
    return backends


def asked(backends: ScriptedBackends, policy: Policy, *requests: dict[str, Any]) -> list[tuple[str, str | None]]:
    """Which model answered each, and why; the same of both clients."""
    with backends.client(None, backend="both", policy=policy) as client:
        answers = [client.chat("Hi", **options) for options in requests]

    async def main() -> list[tuple[str, str | None]]:
        async with backends.aclient(None, backend="both", policy=policy) as client:
            return [(a.model, a.route) for a in [await client.chat("Hi", **options) for options in requests]]

    routes = [(answer.model, answer.route) for answer in answers]
    assert asyncio.run(main()) == routes
    return routes


def test_the_rule_sends_hard_and_long_ones_to_maverick() -> None:
    """The answer names its model and the reason; the request to the engine is the same."""
    backends = both()
    routes = asked(
        backends,
        Policy(route=RoutingRule(long_answer=500)),
        {},
        {"difficulty": "hard"},
        {"max_tokens": 500},
        {"max_tokens": 500, "difficulty": "easy"},
        {"tools": [Tool(name=f"f{n}") for n in range(8)]},
    )
    assert [model for model, _ in routes] == ["scout", "maverick", "maverick", "scout", "maverick"]
    assert [reason and reason.split()[0] for _, reason in routes] == ["nothing", "it", "its", "nothing", "it"]
    scout, maverick = (engine for engine in backends.backend("both").engines[:2])
    assert (scout.model, maverick.model) == ("scout", "maverick")
    assert maverick.requests[0] == scout.requests[0]


def test_each_model_is_loaded_when_it_is_first_needed() -> None:
    """A client that only ever has easy requests has one engine; ``plan`` shows the usual one, and the other by name."""
    backends = both()
    with backends.client(None, backend="both", policy=Policy(route="hybrid")) as client:
        assert client.chat("Hi").model == "scout"
        assert [engine.model for engine in backends.backend("both").engines] == ["scout"]
        assert (client.plan().model, client.plan("maverick").model) == ("scout", "maverick")
        assert client.load().chat("Hi", difficulty="hard").model == "maverick"
        assert client.generate("Hi", difficulty="hard").model == "maverick"
        assert len(backends.backend("both").engines) == 2
    assert all(engine.closed for engine in backends.backend("both").engines)


def test_the_context_is_that_of_where_a_model_runs() -> None:
    """A hard request that is too long for Maverick on this machine goes to Scout."""
    routes = asked(both(), Policy(route="hybrid"), {"difficulty": "hard", "max_tokens": 3000})
    assert routes == [("scout", "only scout has a context of that length")]


def test_a_bound_that_is_too_long_proves_nothing() -> None:
    """A prompt whose bound is too long goes to the longest context, or is counted where an engine is loaded."""
    backends = both()
    with backends.client(None, backend="both", policy=Policy(route="hybrid")) as client:
        long = client.chat("x" * 5000, difficulty="hard")
        assert (long.model, long.route) == ("scout", "the prompt may be very long, and its context is the longest")
        counted = client.chat("x" * 5000, difficulty="hard")  # Scout is loaded by now, and counts seven
        assert (counted.model, counted.route) == ("maverick", "it was said to be hard")


def test_a_function_of_one_s_own() -> None:
    """A route function gets the request's profile and returns the name of any model."""
    profiles: list[RequestProfile] = []

    def choose(ask: RequestProfile) -> str:
        profiles.append(ask)
        return "maverick" if ask.max_tokens > 10 else "scout"

    routes = asked(both(), Policy(route=choose), {"max_tokens": 10}, {"max_tokens": 11, "difficulty": "easy"})
    assert routes == [(name, "the client's route function chose it") for name in ("scout", "maverick")]
    assert RequestProfile(prompt_tokens=34, max_tokens=11, difficulty="easy") in profiles


@pytest.mark.parametrize("wrong", [lambda ask: None, lambda ask: "", lambda ask: 1 / 0])
def test_a_function_that_gives_no_name(wrong: Any) -> None:
    """A route function that fails raises ConfigurationError with its argument."""
    client = both().client(None, backend="both", policy=Policy(route=wrong))
    with client, pytest.raises(ConfigurationError, match="The route function"):
        client.chat("Hi")


def test_what_cannot_be_meant() -> None:
    """A model that is named and chosen, a difficulty that nothing looks at, and one that is none."""
    with pytest.raises(ConfigurationError, match="The model is named 'scout'"):
        both().client("scout", backend="both", policy=Policy(route="hybrid"))
    with both().client("scout", backend="both") as client:
        with pytest.raises(InvalidRequestError, match="Nothing is chosen by a request's difficulty"):
            client.chat("Hi", difficulty="hard")
        with pytest.raises(InvalidRequestError, match="difficulty is 'harder'"):
            client.chat("Hi", difficulty="harder")  # type: ignore[call-overload]
        with pytest.raises(ConfigurationError, match="one plan"):
            client.plan("maverick")
        assert client.plan("scout") == client.plan()


def test_the_fallback_has_the_model_that_was_chosen() -> None:
    """Each model has its own engines at each place; a model that is not to be had here may be had there."""
    backends = ScriptedBackends().add("both", [], kind="local").add("there", text_answer("x"))
    for name, given in (("both", {"contexts": {"scout": 4096}, "steps": text_answer("here")}), ("there", {})):
        backend = backends.backend(name)
        backend.__class__ = Both
        del backend.answer
        vars(backend).update(given)
    policy = Policy(route="hybrid", fallback=("there",))
    with backends.client(None, backend="both", policy=policy) as client:
        easy, hard = client.chat("Hi"), client.chat("Hi", difficulty="hard")
    assert (easy.backend, easy.model) == ("both", "scout")
    assert (hard.backend, hard.model) == ("there", "maverick")
    assert hard.route == "it was said to be hard"
    client = backends.client(None, backend="both", policy=Policy(route="hybrid"))
    with client, pytest.raises(NoBackendError):
        client.chat("Hi", difficulty="hard")


def test_what_is_known_of_a_request() -> None:
    """The profile bounds tokens from above: bytes of text, tiles of images, descriptions of tools."""
    words = Message(role="user", content="Grüße, 世界")
    shown = Message(role="user", content=(ImagePart(data=b"x", max_tiles=1), ImagePart(data=b"y"), TextPart(text="?")))
    sampling = SamplingParams(max_tokens=9)
    ask = request_profile(Request(messages=(words, shown), tools=(Tool(name="f"),), sampling=sampling), "usual")
    assert (ask.images, ask.tools, ask.max_tokens) == (2, 1, 9)
    assert ask.prompt_tokens > 14 + 147 + 17 * 147
    assert max_prompt_tokens(Request(prompt="four")) == 20
