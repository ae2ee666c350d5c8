"""Overhead of a remote engine beside the clients that are nearest to it, on one fake endpoint and in one run.

    python -m venv peers && peers/bin/pip install openai litellm llama4sdk llama4sdk-openai
    peers/bin/python benchmarks/remote.py            # overhead, then load
    peers/bin/python benchmarks/remote.py load       # only that

Needs only what is measured: clients that are not installed are left out, and without llama4sdk-openai the dialect
below stands in for its. The fake (``fake_endpoint.py``) runs in a process of its own. Clients take turns, so that what
else the machine does meets them all alike; figures are medians. Processor time is the steadier one on a busy machine.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from pydantic_core import from_json, to_json

from llama4sdk import AsyncClient
from llama4sdk.endpoint import Endpoint
from llama4sdk.errors import Llama4Error, StreamInterruptedError
from llama4sdk.events import Event, Finish, TextDelta, Usage
from llama4sdk.registry import Registry
from llama4sdk.remote.dialect import Call, Dialect, Head, Reader
from llama4sdk.remote.engine import RemoteEngine
from llama4sdk.remote.sse import SSEDecoder
from llama4sdk.remote.status_errors import status_error
from llama4sdk.requests import Request, SamplingParams

ROUNDS, WARM_UP_ROUNDS = 40, 5

#: Short requests in a row, each measured, for one of a long answer.
SHORT = 10

#: Tokens of a long answer.
LONG = 400

STREAMS, TOKENS = 500, 200

#: The backend of llama4sdk-openai that takes any address.
PLUGIN = "openai"

#: Requests so many tokens; gives the number of pieces that came.
Verb = Callable[[int], Awaitable[int]]


@contextmanager
def endpoint() -> Iterator[str]:
    """The address of the fake, in a process of its own."""
    fake = Path(__file__).with_name("fake_endpoint.py")
    process = subprocess.Popen([sys.executable, str(fake)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.communicate("")


class PlainReader(Reader):
    """Reads as much of OpenAI's streams as the fake sends."""

    def __init__(self) -> None:
        self._decoder = SSEDecoder()
        self._usage = Usage()

    def feed(self, data: bytes) -> Iterator[Event]:
        for event in self._decoder.feed(data):
            if event.data == b"[DONE]":
                self.done = True
                return
            value = from_json(event.data)
            if usage := value.get("usage"):
                self._usage = Usage(input_tokens=usage["prompt_tokens"], output_tokens=usage["completion_tokens"])
            for choice in value["choices"]:
                if text := choice["delta"].get("content"):
                    yield TextDelta(text=text)

    def end(self) -> Iterator[Event]:
        if not self.done:
            raise StreamInterruptedError("The answer was cut off.", hint="Ask again.")
        yield Finish(reason="stop", usage=self._usage)


class WholeReader(Reader):
    """Reads an answer in one piece."""

    def __init__(self) -> None:
        self._body = bytearray()

    def feed(self, data: bytes) -> Sequence[Event]:
        self._body += data
        return ()

    def end(self) -> Iterator[Event]:
        value = from_json(bytes(self._body))
        yield TextDelta(text=value["choices"][0]["message"]["content"])
        yield Finish(reason="stop")


class PlainDialect(Dialect):
    """Stands in for llama4sdk-openai's where that is not installed."""

    backend = "plain"

    def __init__(self, url: str) -> None:
        self._url = f"{url}/v1/chat/completions"

    def build_call(self, request: Request, remedies: frozenset[str]) -> tuple[Call, Reader]:
        stream = request.sampling.seed != 0
        body = {
            "model": "scout",
            "messages": [{"role": "user", "content": request.prompt}],
            "max_tokens": request.sampling.max_tokens,
            "stream": stream,
        }
        headers = {"Content-Type": "application/json", "Authorization": "Bearer none"}
        return Call("POST", self._url, headers, to_json(body)), PlainReader() if stream else WholeReader()

    def parse_error(self, head: Head, body: bytes) -> Llama4Error:
        return status_error(head, body, backend=self.backend, model="scout", now=time.time())


def plain_engine(url: str) -> RemoteEngine:
    """An engine that speaks this dialect."""
    return RemoteEngine(model="scout", context_length=8192, dialect=PlainDialect(url), endpoint=Endpoint(url=url))


def body(tokens: int, *, stream: bool) -> dict[str, Any]:
    """The request's body, as one would write it by hand."""
    messages = [{"role": "user", "content": "Hi"}]
    return {"model": "scout", "messages": messages, "max_tokens": tokens, "stream": stream}


def bare(url: str) -> tuple[Verb, Verb]:
    """Bare ``httpx.AsyncClient``, read as one would by hand: lines, JSON."""
    client = httpx.AsyncClient()
    address = f"{url}/v1/chat/completions"

    async def unary(tokens: int) -> int:
        response = await client.post(address, json=body(tokens, stream=False))
        return len(response.json()["choices"])

    async def streamed(tokens: int) -> int:
        count = 0
        async with client.stream("POST", address, json=body(tokens, stream=True)) as response:
            async for line in response.aiter_lines():
                if line.startswith("data: {") and (choices := json.loads(line[6:])["choices"]):
                    count += bool(choices[0]["delta"].get("content"))
        return count

    return unary, streamed


def raw(url: str) -> tuple[Verb, Verb]:
    """The same without decoding: bytes only."""
    client = httpx.AsyncClient()
    address = f"{url}/v1/chat/completions"

    async def unary(tokens: int) -> int:
        return len((await client.post(address, json=body(tokens, stream=False))).content)

    async def streamed(tokens: int) -> int:
        async with client.stream("POST", address, json=body(tokens, stream=True)) as response:
            return sum([len(data) async for data in response.aiter_raw()])

    return unary, streamed


def ours(url: str) -> tuple[Verb, Verb]:
    """A RemoteEngine."""
    engine = plain_engine(url)

    async def unary(tokens: int) -> int:
        request = Request(prompt="Hi", sampling=SamplingParams(max_tokens=tokens, seed=0))
        return sum([1 async for _ in engine.astream(request)]) - 1

    async def streamed(tokens: int) -> int:
        request = Request(prompt="Hi", sampling=SamplingParams(max_tokens=tokens))
        return sum([1 async for _ in engine.astream(request)]) - 1

    return unary, streamed


def bare_sync(url: str) -> tuple[Verb, Verb]:
    """``httpx.Client``, and the same written by hand. It blocks the event loop, in which nothing else runs."""
    client = httpx.Client()
    address = f"{url}/v1/chat/completions"

    async def unary(tokens: int) -> int:
        return len(client.post(address, json=body(tokens, stream=False)).json()["choices"])  # noqa: ASYNC212

    async def streamed(tokens: int) -> int:
        count = 0
        with client.stream("POST", address, json=body(tokens, stream=True)) as response:  # noqa: ASYNC212
            for line in response.iter_lines():
                if line.startswith("data: {") and (choices := json.loads(line[6:])["choices"]):
                    count += bool(choices[0]["delta"].get("content"))
        return count

    return unary, streamed


def ours_sync(url: str) -> tuple[Verb, Verb]:
    """A RemoteEngine whose synchronous methods are called, so that its event loop runs in the background."""
    engine = plain_engine(url)

    async def unary(tokens: int) -> int:
        request = Request(prompt="Hi", sampling=SamplingParams(max_tokens=tokens, seed=0))
        return sum(1 for _ in engine.stream(request)) - 1

    async def streamed(tokens: int) -> int:
        request = Request(prompt="Hi", sampling=SamplingParams(max_tokens=tokens))
        return sum(1 for _ in engine.stream(request)) - 1

    return unary, streamed


def ours_whole(url: str) -> tuple[Verb, Verb]:
    """AsyncClient with the plugin for OpenAI's protocol."""
    client = AsyncClient("fake", backend=PLUGIN, endpoint=f"{url}/v1", api_key="none")

    async def unary(tokens: int) -> int:
        return len((await client.chat("Hi", max_tokens=tokens)).text)

    async def streamed(tokens: int) -> int:
        async with await client.chat("Hi", max_tokens=tokens, stream=True) as stream:
            return sum([1 async for _ in stream]) - 1

    return unary, streamed


def of_openai(url: str) -> tuple[Verb, Verb]:
    """The vendor's own client."""
    client = importlib.import_module("openai").AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)

    async def unary(tokens: int) -> int:
        return len((await client.chat.completions.create(**body(tokens, stream=False))).choices)

    async def streamed(tokens: int) -> int:
        stream = await client.chat.completions.create(**body(tokens, stream=True))
        return sum([bool(part.choices and part.choices[0].delta.content) async for part in stream])

    return unary, streamed


def of_litellm(url: str) -> tuple[Verb, Verb]:
    """The router that most frameworks use."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # it would fetch prices from the network
    litellm = importlib.import_module("litellm")
    options: dict[str, Any] = {"api_base": f"{url}/v1", "api_key": "none", "num_retries": 0}

    async def ask(tokens: int, *, stream: bool) -> Any:
        return await litellm.acompletion(**{**body(tokens, stream=stream), "model": "openai/scout"}, **options)

    async def unary(tokens: int) -> int:
        return len((await ask(tokens, stream=False)).choices)

    async def streamed(tokens: int) -> int:
        parts: AsyncIterator[Any] = await ask(tokens, stream=True)
        return sum([bool(part.choices and part.choices[0].delta.content) async for part in parts])

    return unary, streamed


def installed_clients(url: str) -> dict[str, tuple[Verb, Verb]]:
    """The clients to compare, those that are installed."""
    clients = {
        "httpx, bytes only": raw(url),
        "httpx": bare(url),
        "llama4sdk engine": ours(url),
        "httpx, sync": bare_sync(url),
        "llama4sdk engine, sync": ours_sync(url),
    }
    if PLUGIN in Registry.discover().names:
        clients["llama4sdk AsyncClient"] = ours_whole(url)
    if importlib.util.find_spec("openai"):
        clients["openai"] = of_openai(url)
    if importlib.util.find_spec("litellm"):
        clients["litellm"] = of_litellm(url)
    return clients


async def overhead(url: str) -> None:
    """Time each client per request and per delta, all in turns; print processor and wall-clock time."""
    clients = installed_clients(url)
    seconds: dict[tuple[str, str], list[tuple[float, float]]] = {}
    gc.collect()
    gc.freeze()  # what all these libraries hold is not looked at again in the middle of somebody's turn
    for turn in range(ROUNDS + WARM_UP_ROUNDS):
        for kind, verb, tokens, requests in (("unary", 0, 1, SHORT), ("short", 1, 1, SHORT), ("long", 1, LONG, 1)):
            for name, verbs in clients.items():
                for _ in range(requests):
                    start = time.process_time(), time.perf_counter()
                    await verbs[verb](tokens)
                    end = time.process_time(), time.perf_counter()
                    if turn >= WARM_UP_ROUNDS:
                        seconds.setdefault((name, kind), []).append((end[0] - start[0], end[1] - start[1]))
    for clock, title in enumerate(("processor time of the client", "wall-clock time")):
        medians = {key: statistics.median(sample[clock] for sample in samples) for key, samples in seconds.items()}
        print_table(title, list(clients), medians)


def print_table(title: str, names: Sequence[str], medians: Mapping[tuple[str, str], float]) -> None:
    """One line a client; a delta is the time of a long answer beyond one of one token, divided by its tokens."""
    print(f"{title:24}{'request, ms':>14}{'/ httpx':>10}{'stream, ms':>14}{'delta, us':>12}{'- httpx':>10}")
    deltas = {name: (medians[name, "long"] - medians[name, "short"]) / (LONG - 1) for name in names}
    for name, delta in deltas.items():
        unary, short = medians[name, "unary"], medians[name, "short"]
        ratio, beyond = unary / medians["httpx", "unary"], delta - deltas["httpx"]
        print(f"{name:24}{unary * 1e3:14.2f}{ratio:10.2f}{short * 1e3:14.2f}{delta * 1e6:12.1f}{beyond * 1e6:10.1f}")


def resident() -> float:
    """MB of this process's memory."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def load(url: str, rounds: int, streams: int, tokens: int) -> None:
    """Many streams at once, again and again: each whole and in order, and memory flat."""
    engine = plain_engine(url)
    expected = "".join(f" {number}" for number in range(tokens))
    request = Request(prompt="Hi", sampling=SamplingParams(max_tokens=tokens))

    async def one() -> None:
        events = [event async for event in engine.astream(request)]
        pieces = [event.text for event in events if isinstance(event, TextDelta)]
        assert len(pieces) == tokens
        assert "".join(pieces) == expected
        assert isinstance(events[-1], Finish)
        assert events[-1].usage.output_tokens == tokens

    for number in range(rounds):
        start = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(streams)))
        seconds = time.perf_counter() - start
        rate = streams * tokens / seconds
        print(
            f"round {number + 1:2}: {streams} x {tokens} in {seconds:5.2f} s, "
            f"{rate:8.0f} events/s, {resident():6.1f} MB"
        )
    await engine.aclose()


def main() -> None:
    """Parse, and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("overhead", "load", "both"), default="both")
    parser.add_argument("--rounds", type=int, default=10, help="of the load")
    parser.add_argument("--streams", type=int, default=STREAMS, help="at once")
    parser.add_argument("--tokens", type=int, default=TOKENS, help="of each")
    options = parser.parse_args()
    with endpoint() as url:
        if options.what != "load":
            asyncio.run(overhead(url))
        if options.what != "overhead":
            asyncio.run(load(url, options.rounds, options.streams, options.tokens))


if __name__ == "__main__":
    main()
