"""A batch keeps order, reports failures item by item, and both clients do the same with it."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from llama4sdk import BatchItem, Client, Policy
from llama4sdk.batch.items import as_jobs
from llama4sdk.errors import (
    BackendError,
    InvalidRequestError,
    NoBackendError,
    OverloadedError,
    UnknownOptionError,
    UnsupportedFeatureError,
)
from llama4sdk.events import Finish, TextDelta
from llama4sdk.messages import Message
from llama4sdk.requests import Request
from llama4sdk.testing.machines import LAPTOP
from llama4sdk.testing.registry import scripted_registry
from llama4sdk.testing.scripted import Step
from tests.session.backends import ScriptedBackends, text_answer

KINDS = ("sync", "async")


def batch(
    kind: str, backends: ScriptedBackends, requests: Any, model: str | None = "scout", **given: Any
) -> list[BatchItem]:
    """The items of either client; ``given`` are arguments of ``batch``, and ``client`` those of the client."""
    options = given.pop("client", {})
    if kind == "sync":
        with backends.client(model, **options) as client:
            return client.batch(requests, **given)

    async def main() -> list[BatchItem]:
        async with backends.aclient(model, **options) as client:
            return await client.batch(requests, **given)

    return asyncio.run(main())


def here(*steps: Any, **given: Any) -> ScriptedBackends:
    """One local backend."""
    return ScriptedBackends().add("here", steps or text_answer("x"), kind="local", **given)


@pytest.mark.parametrize("kind", KINDS)
def test_order_is_that_of_the_requests(kind: str) -> None:
    """The order does not depend on which answer comes first."""
    gate = threading.Event()
    backends = here(gate, *text_answer("late"), later=[text_answer("soon")])
    finished: list[int] = []

    def count(done: int, total: int | None) -> None:
        finished.append(done)
        if done == 19:
            gate.set()

    items = batch(kind, backends, [str(n) for n in range(20)], concurrency=4, progress=count)
    assert [item.index for item in items] == list(range(20))
    assert sorted(item.result().text for item in items) == ["late"] + ["soon"] * 19
    assert finished == list(range(1, 21))
    with Client("echo") as client:
        texts = [item.result().text for item in client.batch([str(n) for n in range(200)], concurrency=32)]
    assert texts == [str(n) for n in range(200)]


@pytest.mark.parametrize("kind", KINDS)
def test_no_more_than_so_many_are_under_way(kind: str) -> None:
    """Exactly ``concurrency`` requests run at once while there are enough."""
    gate, backends = threading.Event(), ScriptedBackends()
    requests_under_way: list[int] = []
    backends.add("here", [gate, *text_answer("x")], kind="local")

    def look() -> None:
        engines = backends.backend("here").engines
        while not engines or engines[0].open_streams < 3:
            threading.Event().wait(0.005)
        requests_under_way.append(len(engines[0].requests))
        gate.set()

    watcher = threading.Thread(target=look)
    watcher.start()
    items = batch(kind, backends, ["a"] * 9, concurrency=3)
    watcher.join()
    assert requests_under_way == [3]
    assert len(items) == 9


@pytest.mark.parametrize("kind", KINDS)
def test_a_failure_is_its_item_s_alone(kind: str) -> None:
    """The others are answered; ``result`` raises what happened."""
    backends = here(OverloadedError("full"), later=[text_answer("fine")])
    items = batch(kind, backends, ["a", "b", {"messages": "c", "tool_choice": "none"}], concurrency=1)
    assert [type(item.error) for item in items] == [OverloadedError, type(None), UnsupportedFeatureError]
    assert items[1].result().text == "fine"
    with pytest.raises(OverloadedError):
        items[0].result()


@pytest.mark.parametrize("kind", KINDS)
def test_progress_is_told_in_order(kind: str) -> None:
    """The callback runs once for each item in the caller's thread, and its exception ends the batch."""
    reports: list[tuple[int, int | None, bool]] = []
    ours = threading.current_thread()
    batch(
        kind, here(), ["a", "b", "c"], progress=lambda d, t: reports.append((d, t, threading.current_thread() is ours))
    )
    assert reports == [(1, 3, True), (2, 3, True), (3, 3, True)]

    def enough(done: int, total: int | None) -> None:
        raise KeyError(done)

    with pytest.raises(KeyError, match="1"):
        batch(kind, here(), ["a"] * 50, progress=enough, concurrency=2)


def test_leaving_a_batch_breaks_off_what_is_under_way() -> None:
    """An answer that nobody waits for is not read to its end, though the client stays open."""
    gate, never = threading.Event(), threading.Event()
    backends = here(TextDelta(text="a"), gate, TextDelta(text="b"), never, later=[text_answer("done")])

    def enough(done: int, total: int | None) -> None:
        raise KeyError(done)

    with backends.client("scout") as client:
        with pytest.raises(KeyError):
            client.batch(["long", "short"], concurrency=2, progress=enough)
        engine, deadline = backends.backend("here").engines[0], time.monotonic() + 10
        gate.set()
        while engine.open_streams and time.monotonic() < deadline:
            time.sleep(0.005)
        assert engine.open_streams == 0


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_wrong_with_all_is_told_once(kind: str) -> None:
    """No plan, or a model that does not load, is the batch's error and not that of a thousand items."""
    with pytest.raises(NoBackendError):
        batch(kind, ScriptedBackends().add("there", text_answer("x")), ["a"] * 1000)
    backends = here(fails=BackendError("The file is gone."))
    with pytest.raises(BackendError, match="The file is gone"):
        batch(kind, backends, ["a"] * 1000)
    assert len(backends.backend("here").plans) == 1
    assert batch(kind, backends, []) == []


def test_fallbacks_work_item_by_item() -> None:
    """Each item names its backend."""
    backends = (
        ScriptedBackends()
        .add("first", text_answer("first"), later=[[OverloadedError("full")]])
        .add("second", text_answer("second"))
    )
    given = {"backend": "first", "policy": Policy(fallback=("second",))}
    items = batch("sync", backends, ["a", "b", "c"], concurrency=1, client=given)
    assert [item.result().backend for item in items] == ["first", "second", "second"]


def test_every_form_of_a_request() -> None:
    """Messages, arguments of ``chat`` and ``generate``, requests, and lines of OpenAI's batch files."""
    request = Request(prompt="three")
    line = {
        "custom_id": "q-7",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {
            "model": "maverick",
            "messages": [
                {"role": "developer", "content": "Be brief."},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "Look:"},
                        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAEC"}},
                        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
                    ],
                },
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
                },
                {"role": "tool", "tool_call_id": "c", "content": "42"},
            ],
            "max_completion_tokens": 9,
            "temperature": 0,
            "stop": ["x"],
            "logprobs": True,
            "top_logprobs": 3,
            "n": 1,
            "stream": False,
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
        },
    }
    jobs = as_jobs(
        [
            "one",
            [{"role": "user", "content": "two"}],
            {"role": "user", "content": "two"},
            request,
            {"prompt": "four", "max_tokens": 4, "model": "scout"},
            {"messages": "five", "tools": [_tool], "difficulty": "hard"},
            line,
        ]
    )
    assert [job.feature for job in jobs] == ["chat", "chat", "chat", "generate", "generate", "chat", "chat"]
    assert jobs[1].request == jobs[2].request == Request(messages=(Message(role="user", content="two"),))
    assert jobs[3].request is request
    assert (jobs[4].model, jobs[4].request.sampling.max_tokens) == ("scout", 4)
    assert (jobs[5].difficulty, jobs[5].request.tools[0].name) == ("hard", "_tool")
    asked = jobs[6].request
    assert (jobs[6].id, jobs[6].model) == ("q-7", "maverick")
    assert [message.role for message in asked.messages] == ["system", "user", "assistant", "tool"]
    assert [getattr(part, "data", None) or getattr(part, "url", None) for part in asked.messages[1].parts] == [
        None,
        b"\x00\x01\x02",
        "https://example.com/a.png",
    ]
    assert asked.messages[2].tool_calls[0].name == "f"
    assert asked.sampling.model_dump(exclude_defaults=True) == {
        "max_tokens": 9,
        "temperature": 0.0,
        "stop": ("x",),
        "logprobs": 3,
    }
    assert (asked.tool_choice, asked.tools[0].name) == ("f", "f")
    shaped = {"messages": [{"role": "user", "content": "?"}], "logprobs": False, "presence_penalty": 0}
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "integer"}}}
    (job,) = as_jobs([{"custom_id": 1, "body": shaped | {"response_format": form}}])
    assert job.request.constraint is not None
    assert (job.id, job.request.sampling.logprobs) == ("1", None)


def _tool(city: str) -> str:
    """A tool."""
    return city


@pytest.mark.parametrize(
    ("wrong", "kind", "words"),
    [
        ("", InvalidRequestError, "Request 1: The message is empty"),
        ({}, InvalidRequestError, "Request 1: It has neither messages nor a prompt"),
        ({"messages": "a", "prompt": "b"}, InvalidRequestError, "or both"),
        ({"prompt": "a", "tools": [_tool]}, InvalidRequestError, "a prompt and tools"),
        ({"messages": "a", "max_token": 1}, UnknownOptionError, "Request 1: There is no option 'max_token'"),
        ({"messages": "a", "difficulty": "odd"}, InvalidRequestError, "difficulty is 'odd'"),
        ({"messages": "a", "model": 7}, InvalidRequestError, "Its model is 7"),
        (7, InvalidRequestError, "Request 1 is no request: 7"),
        (None, InvalidRequestError, "Request 1 is no request"),
        ({"body": {"messages": [{"role": "user"}], "n": 2}}, UnknownOptionError, "Its body has n=2"),
        ({"body": {"messages": 7}}, InvalidRequestError, "none of OpenAI's"),
        ({"body": []}, InvalidRequestError, "Its body is no object"),
        ({"body": {"response_format": {"type": "json_object"}}}, InvalidRequestError, "json_object"),
    ],
)
def test_what_means_nothing_is_found_before_anything_is_sent(wrong: Any, kind: type[Exception], words: str) -> None:
    """An invalid request is named by its number before anything is sent."""
    backends = here()
    with pytest.raises(kind, match=words):
        batch("sync", backends, ["fine", wrong])
    assert not backends.backend("here").engines


def test_a_batch_is_a_list() -> None:
    """One request alone would be taken apart letter by letter; and nothing can be done by nobody."""
    for wrong in ("a text", {"messages": "a"}):
        with pytest.raises(InvalidRequestError, match="A batch is a list"):
            batch("sync", here(), wrong)
    with pytest.raises(InvalidRequestError, match="concurrency is 0"):
        batch("async", here(), ["a"], concurrency=0)


def test_the_client_s_model_comes_first() -> None:
    """A request's own counts only where the client has none, as a file for another vendor names that one's."""
    registry, backend = scripted_registry()
    with Client("scripted", registry=registry, hardware=LAPTOP) as client:
        assert client.batch([{"messages": "a", "model": "gpt-9"}])[0].result().model == "scripted"
    with Client(registry=registry, hardware=LAPTOP) as client:
        client.batch([{"messages": "a", "model": "scripted"}])
    assert backend.asked[-1][0].model == "scripted"


class City(BaseModel):
    """A shape for answers."""

    name: str


def test_answers_are_parsed_after_a_resume_too(tmp_path: Path) -> None:
    """Answers from the file are parsed as the type of ``schema=``."""
    steps: list[Step] = [TextDelta(text='{"name": "Lima"}'), Finish(reason="stop")]
    registry, _ = scripted_registry(steps)
    for _ in range(2):
        with Client("scripted", registry=registry, hardware=LAPTOP) as client:
            items = client.batch([{"messages": "?", "schema": City}], path=tmp_path / "out.jsonl")
        assert items[0].result().parsed == City(name="Lima")
    assert items[0].resumed
