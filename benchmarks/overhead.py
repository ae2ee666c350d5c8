"""Overhead of the SDK itself: imports, one request and one streamed token on the echo backend.

    python benchmarks/overhead.py

Prints medians. Imports are measured as whole processes against an interpreter that does nothing.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from llama4sdk import AsyncClient, Client

RUNS = 20
TOKENS = 1000


def process(code: str) -> float:
    """Seconds one fresh interpreter takes for ``code``."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start


def imports() -> None:
    """Import times above the bare interpreter, the three measured in turn."""
    codes = ("pass", "import llama4sdk", "from llama4sdk import Client")
    rounds = [[process(code) for code in codes] for _ in range(RUNS)]
    for column, code in enumerate(codes[1:], start=1):
        extra = statistics.median(times[column] - times[0] for times in rounds)
        print(f"{code:32} {extra * 1e3:8.1f} ms")
    command = [sys.executable, "-m", "llama4sdk", "--help"]
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    print(f"{'llama4sdk --help (whole process)':32} {statistics.median(times) * 1e3:8.1f} ms")


def median(act: Callable[[], object], times: int) -> float:
    """Median seconds of one call."""
    samples = []
    for _ in range(times):
        start = time.perf_counter()
        act()
        samples.append(time.perf_counter() - start)
    return statistics.median(samples)


def requests() -> None:
    """One short chat, and the cost of each further token of a long one."""
    long = "word " * TOKENS
    with Client("echo") as client:
        client.load()
        short = median(lambda: client.chat("Hello"), 2000)
        stream = median(lambda: list(client.chat(long, stream=True)), 50)
    print(f"{'Client.chat':32} {short * 1e6:8.1f} us per request")
    print(f"{'Client.chat(stream=True)':32} {(stream - short) / TOKENS * 1e6:8.2f} us per token")


async def asynchronous() -> None:
    """The same through the bridge (a backend without a native asynchronous stream)."""
    from llama4sdk.events import Finish, TextDelta
    from llama4sdk.testing.registry import scripted_registry

    registry, _ = scripted_registry([TextDelta(text=" word")] * TOKENS + [Finish(reason="stop")])
    async with AsyncClient("scripted", registry=registry) as client:
        await client.load()
        samples = []
        for _ in range(50):
            start = time.perf_counter()
            await client.chat("Hello")
            samples.append(time.perf_counter() - start)
    print(f"{'AsyncClient.chat, bridged':32} {statistics.median(samples) / TOKENS * 1e6:8.2f} us per token")


if __name__ == "__main__":
    imports()
    requests()
    asyncio.run(asynchronous())
