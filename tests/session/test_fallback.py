"""When a backend fails before it has begun to answer, the policy's next fallback is asked."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from llama4sdk import Endpoint, Policy, Timeouts
from llama4sdk.backend import Capabilities, Unavailable
from llama4sdk.errors import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BackendError,
    ContentFilteredError,
    ContextLengthError,
    DeviceMemoryError,
    InvalidRequestError,
    Llama4Error,
    ModelRetiredError,
    NoBackendError,
    OverloadedError,
    PermissionDeniedError,
    RateLimitError,
    StreamInterruptedError,
    UnknownBackendError,
)
from llama4sdk.events import Attempt, Finish, TextDelta
from llama4sdk.planning.policy import Place
from tests.session.backends import ALL_FEATURES, CALL_KINDS, ScriptedBackends, text_answer

OVERLOADED = OverloadedError("It is full.", backend="first", retry_after=3, hint="Wait.")
BACKEND_FAULTS: list[Exception] = [
    APIConnectionError("No way there."),
    APITimeoutError("Too slow.", phase="first_byte"),
    OVERLOADED,
    RateLimitError("Too many."),
    ModelRetiredError("Gone."),
    APIStatusError("It broke.", status=500),
    APIStatusError("Odd.", status=409, retryable=True),
    DeviceMemoryError("cpu ran out of memory."),
    StreamInterruptedError("It said nothing."),
    ZeroDivisionError("a stranger's bug"),
]
REQUEST_FAULTS: list[Llama4Error] = [
    AuthenticationError("Wrong key.", status=401),
    PermissionDeniedError("Not yours.", status=403),
    APIStatusError("Nonsense.", status=422),
    InvalidRequestError("Nonsense."),
    ContentFilteredError("Not that."),
    ContextLengthError("Too long.", limit=1, requested=2),
]


def two(*steps: Any, **given: Any) -> ScriptedBackends:
    """A remote backend with a script, and a local one that answers."""
    return ScriptedBackends().add("first", steps, **given).add("second", text_answer("from the second"), kind="local")


@pytest.mark.parametrize("how", CALL_KINDS)
@pytest.mark.parametrize("error", BACKEND_FAULTS, ids=lambda error: type(error).__name__)
def test_the_next_place_is_asked(error: Exception, how: str, caplog: pytest.LogCaptureFixture) -> None:
    """The answer names its backend and the attempts, and the switch is logged once."""
    backends = two(error)
    with caplog.at_level(logging.WARNING, logger="llama4sdk"):
        answer = backends.chat(how, backend="first", policy=Policy(fallback=("second",)))
    assert (answer.text, answer.backend, answer.model) == ("from the second", "second", "scout")
    assert [(a.backend, a.model, a.error is None) for a in answer.attempts] == [
        ("first", "scout", False),
        ("second", "scout", True),
    ]
    switches = [record.message for record in caplog.records if "Asking 'second' instead" in record.message]
    assert len(switches) == 1
    assert switches[0].startswith("'first' failed")


@pytest.mark.parametrize("how", CALL_KINDS)
@pytest.mark.parametrize("error", REQUEST_FAULTS, ids=lambda error: type(error).__name__)
def test_what_is_wrong_with_the_request_is_wrong_everywhere(error: Llama4Error, how: str) -> None:
    """Neither a wrong key nor an invalid request makes a client ask a fallback."""
    backends = two(error)
    with pytest.raises(type(error)) as caught:
        backends.chat(how, backend="first", policy=Policy(fallback=("second",)))
    assert [attempt.backend for attempt in caught.value.attempts] == ["first"]
    assert not backends.backend("second").plans


@pytest.mark.parametrize("how", CALL_KINDS)
def test_without_the_policy_nothing_else_is_asked(how: str) -> None:
    """Without fallbacks, the engine's own exception is raised."""
    backends = two(OVERLOADED)
    with pytest.raises(OverloadedError) as caught:
        backends.chat(how, backend="first")
    assert caught.value is OVERLOADED
    assert not backends.backend("second").asked


@pytest.mark.parametrize("how", CALL_KINDS)
def test_after_the_first_event_nothing_is_asked_again(how: str) -> None:
    """Half an answer from one place and half from another would be no answer."""
    backends = two(TextDelta(text="half"), OverloadedError("It is full now."))
    with pytest.raises(OverloadedError) as caught:
        backends.chat(how, backend="first", policy=Policy(fallback=("second",)))
    assert caught.value.partial is not None
    assert (caught.value.partial.text, caught.value.partial.backend) == ("half", "first")
    assert not backends.backend("second").plans


@pytest.mark.parametrize("how", CALL_KINDS)
def test_an_answer_of_nothing_is_none(how: str) -> None:
    """A stream without any event counts as a failure of its backend."""
    assert two().chat(how, backend="first", policy=Policy(fallback=("second",))).backend == "second"
    with pytest.raises(StreamInterruptedError, match="without its finish marker"):
        two().chat(how, backend="first")


@pytest.mark.parametrize("how", CALL_KINDS)
def test_when_all_fail_the_first_error_is_raised(how: str) -> None:
    """It carries all attempts and the other errors; the object that the backend raised is not changed."""
    backends = (
        ScriptedBackends()
        .add("first", [OVERLOADED])
        .add("second", [RateLimitError("Too many.")])
        .add("third", [OVERLOADED])
    )
    with pytest.raises(OverloadedError) as caught:
        backends.chat(how, backend="first", policy=Policy(fallback=("second", "third")))
    assert [attempt.backend for attempt in caught.value.attempts] == ["first", "second", "third"]
    assert caught.value.retry_after == 3
    assert caught.value.hint == (
        "Wait. The fallbacks failed as well: 'second': RateLimitError: Too many.; 'third': OverloadedError: It is full."
    )
    assert (OVERLOADED.hint, OVERLOADED.attempts) == ("Wait.", ())


@pytest.mark.parametrize("how", CALL_KINDS)
def test_every_try_of_a_place_is_told(how: str) -> None:
    """The attempts of an endpoint's retries are listed between those of the backends before and after it."""
    error = OverloadedError("It is full.", backend="first")
    error.attempts = tuple(Attempt(backend="first", model="scout", error=f"try {n}") for n in (1, 2))
    finish = Finish(reason="stop", attempts=(Attempt(backend="second", model="scout", error="slow"), *error.attempts))
    backends = ScriptedBackends().add("first", [error]).add("second", [finish])
    if how == "stream":
        backends = ScriptedBackends().add("first", [error]).add("second", [TextDelta(text="x"), finish])
    answer = backends.chat(how, backend="first", policy=Policy(fallback=("second",)))
    assert [attempt.error for attempt in answer.attempts] == ["try 1", "try 2", "slow", "try 1", "try 2"]


@pytest.mark.parametrize("how", CALL_KINDS)
def test_a_machine_that_cannot_run_it_may_ask_an_endpoint(how: str) -> None:
    """No plan, or an engine that does not load, also lead to the fallback, and a named remote one is allowed."""
    refusal = Unavailable(reason="it needs 217 GB.")
    for given in ({"answer": refusal}, {"fails": BackendError("The file is gone.")}):
        backends = ScriptedBackends().add("here", [], kind="local", **given).add("there", text_answer("from there"))
        answer = backends.chat(how, backend="here", policy=Policy(fallback=("there",)))
        assert (answer.text, answer.backend) == ("from there", "there")
        assert (answer.attempts[0].backend, answer.attempts[0].model) == ("here", "scout")
    with pytest.raises(NoBackendError):
        ScriptedBackends().add("here", [], kind="local", answer=refusal).chat(how, backend="here")


@pytest.mark.parametrize("how", CALL_KINDS)
def test_a_fallback_that_cannot_do_it_is_passed_over(how: str) -> None:
    """No option of the request is dropped, and the attempts say which backend lacks which feature."""
    plain = Capabilities(features=frozenset({"chat"}))
    backends = (
        ScriptedBackends()
        .add("first", [OVERLOADED])
        .add("plain", text_answer("?"), abilities=plain)
        .add("third", text_answer("whole"))
    )
    policy = Policy(fallback=("plain", "third"))
    answer = backends.chat(how, backend="first", policy=policy, options={"tools": [_tool]})
    assert (answer.text, [a.backend for a in answer.attempts]) == ("whole", ["first", "plain", "third"])
    assert "does not support tools" in (answer.attempts[1].error or "")


def _tool(city: str) -> str:
    """A tool."""
    return city


def test_pairs_name_another_model() -> None:
    """The model of a pair is asked for there; without one, the client's own."""
    backends = (
        ScriptedBackends()
        .add("first", [OVERLOADED])
        .add("second", [OVERLOADED])
        .add("third", text_answer("x"), model="demo")
    )
    answer = backends.chat("sync", backend="first", policy=Policy(fallback=("second", ("third", "demo"))))
    assert (answer.backend, answer.model) == ("third", "demo")
    assert [backends.backend(name).asked[0][0].model for name in ("first", "second", "third")] == [
        "scout",
        "scout",
        "demo",
    ]


def test_engines_are_made_when_needed_and_closed_with_the_client() -> None:
    """A fallback that is never needed is never planned; one that was is made once and closed."""
    backends = (
        ScriptedBackends()
        .add("first", [*text_answer("fine")], later=[[OVERLOADED]])
        .add("second", text_answer("second"))
    )
    with backends.client(backend="first", policy=Policy(fallback=("second",))) as client:
        assert client.chat("Hi").backend == "first"
        assert not backends.backend("second").asked
        assert [client.chat("Hi").backend for _ in range(3)] == ["second"] * 3
    for name in ("first", "second"):
        engines = backends.backend(name).engines
        assert [engine.closed for engine in engines] == [True]
        assert engines[0].open_streams == 0


def test_many_threads_share_the_engines() -> None:
    """Sixteen at once fall back at once: one engine at each place, and every answer is whole."""
    backends = two(OVERLOADED)
    with (
        backends.client(backend="first", policy=Policy(fallback=("second",))) as client,
        ThreadPoolExecutor(16) as pool,
    ):
        answers = list(pool.map(lambda _: client.chat("Hi"), range(64)))
    assert {(answer.text, len(answer.attempts)) for answer in answers} == {("from the second", 2)}
    assert len(backends.backend("first").engines) == len(backends.backend("second").engines) == 1


def test_hundreds_of_tasks_fall_back() -> None:
    """Three hundred tasks in one event loop all get the fallback's answer."""
    backends = two(OVERLOADED)

    async def main() -> list[str]:
        async with backends.aclient(backend="first", policy=Policy(fallback=("second",))) as client:
            return [a.backend for a in await asyncio.gather(*(client.chat(str(n)) for n in range(300)))]

    assert asyncio.run(main()) == ["second"] * 300


def test_leaving_a_fallback_s_stream_stops_its_work() -> None:
    """Closing the stream closes the generator of whichever engine is at work."""
    backends = ScriptedBackends().add("first", [OVERLOADED]).add("second", [TextDelta(text="a"), *text_answer("b")])
    policy = Policy(fallback=("second",))
    with backends.client(backend="first", policy=policy) as client:
        with client.chat("Hi", stream=True) as stream:
            next(stream)
            assert backends.backend("second").engines[0].open_streams == 1
        assert backends.backend("second").engines[0].open_streams == 0

    async def main() -> None:
        async with backends.aclient(backend="first", policy=policy) as client:
            async with await client.chat("Hi", stream=True) as stream:
                await anext(stream)
                assert stream.backend == "second"
            assert backends.backend("second").engines[-1].open_streams == 0

    asyncio.run(main())


def test_a_key_is_shown_to_its_own_backend_only() -> None:
    """A fallback gets the client's timeouts and retries; its address and key go to the same backend only."""
    backends = (
        ScriptedBackends()
        .add("first", [OVERLOADED])
        .add("second", [OVERLOADED])
        .add("third", text_answer("x"), kind="local")
    )
    own = Endpoint(url="https://first.example/v1", timeouts=Timeouts(connect=3))
    other = Endpoint(url="https://second.example/v1")
    policy = Policy(fallback=(("first", "maverick"), Place(backend="second", endpoint=other), "second", "third"))
    with backends.client(backend="first", endpoint=own, api_key="s3cret", device="cpu", policy=policy) as client:
        client.chat("Hi")
    mine = [need.endpoint for need, _ in backends.backend("first").asked]
    keys = [endpoint.api_key for endpoint in mine if endpoint]
    assert [key and key.get_secret_value() for key in keys] == ["s3cret"] * 2
    given, bare = (need for need, _ in backends.backend("second").asked)
    assert given.endpoint == other
    assert bare.endpoint == Endpoint(timeouts=Timeouts(connect=3))
    assert bare.device is None
    local = backends.backend("third").asked[0][0]
    assert (local.endpoint, local.device) == (None, "cpu")


def test_a_wrong_name_is_found_at_once() -> None:
    """An unknown fallback is an error at the first call, not when it is needed."""
    backends = ScriptedBackends().add("first", text_answer("x"))
    client = backends.client(backend="first", policy=Policy(fallback=("secnd",)))
    with client, pytest.raises(UnknownBackendError, match="no backend 'secnd'"):
        client.plan()


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_embedding_and_counting_fall_back(kind: str) -> None:
    """Embedding and counting follow the same rules as answers."""
    backends = two(OVERLOADED, abilities=ALL_FEATURES)
    policy = Policy(fallback=("second",))
    if kind == "sync":
        with backends.client(backend="first", policy=policy) as client:
            embeddings, count = client.embed(["a", "b"]), client.count_tokens("Hi")
    else:

        async def main() -> tuple[Any, int]:
            async with backends.aclient(backend="first", policy=policy) as client:
                return await client.embed(["a", "b"]), await client.count_tokens("Hi")

        embeddings, count = asyncio.run(main())
    assert (embeddings.backend, [a.backend for a in embeddings.attempts], count) == ("second", ["first", "second"], 7)
    wrong = ScriptedBackends().add("first", [AuthenticationError("Wrong key.")]).add("second", text_answer("x"))
    with wrong.client(backend="first", policy=policy) as client, pytest.raises(AuthenticationError):
        client.embed("a")


def test_the_client_can_be_closed_while_a_fallback_loads() -> None:
    """A request that is moving to another place when the client is closed ends with an error, and loads nothing."""
    backends = two(OVERLOADED)
    client = backends.client(backend="first", policy=Policy(fallback=("second",)))
    stream = client.chat("Hi", stream=True)
    client.close()
    with pytest.raises(Llama4Error):
        next(stream)
    assert not backends.backend("second").engines
