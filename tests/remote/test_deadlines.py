"""How long, how often, how much: deadlines, retry budgets and compressed bodies."""

from __future__ import annotations

import asyncio
import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama4sdk.endpoint import Timeouts
from llama4sdk.errors import APIError, AuthenticationError, RateLimitError
from llama4sdk.remote import deadlines
from llama4sdk.remote.body import MAX_PIECE_BYTES, Decompressor
from llama4sdk.remote.deadlines import LINGER_SECONDS, UNLIMITED_SECONDS, Deadlines, WaitGroup
from llama4sdk.remote.dialect import Head
from llama4sdk.remote.retry import TokenBucket
from tests.remote.conftest import Ask
from tests.remote.server import Drip, Read, Script, Server, answer
from tests.remote.small import engine, hello

BUSY: Script = [Read(), answer(b"", "429 Busy", retry_after="5")]
BROKEN: Script = [Read(), answer(b"", "503 No", connection="close")]


class Time:
    """A clock that is set."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_phases_of_an_answer() -> None:
    """Connecting ends first, then the wait for the first byte, however much of the head comes, then each gap."""
    time = Time()
    deadlines = Deadlines(Timeouts(connect=3, first_byte=10, between=4, total=30), time)
    deadlines.begin_attempt()
    assert (deadlines.begin_connecting(), deadlines.read_end()) == (1003, 1010)
    time.now += 4
    assert deadlines.expired_phase(connecting=True) == "connect"
    assert deadlines.read_end() == 1010
    time.now += 7
    assert deadlines.expired_phase(connecting=False) == "first_byte"
    deadlines.begin_body()
    assert deadlines.read_end() == time.now + 4
    assert deadlines.expired_phase(connecting=False) == "between"
    time.now += 17
    assert deadlines.read_end() == 1030
    time.now += 2
    assert deadlines.expired_phase(connecting=False) == "total"
    assert deadlines.remaining == 0


def test_a_further_attempt_has_phases_of_its_own() -> None:
    """But the end of everything stays where it was."""
    time = Time()
    deadlines = Deadlines(Timeouts(connect=3, first_byte=10, total=12), time)
    deadlines.begin_attempt()
    time.now += 9
    deadlines.begin_attempt()
    assert (deadlines.begin_connecting(), deadlines.read_end()) == (1012, 1012)


def test_the_end_of_an_answer_is_not_waited_for_long() -> None:
    """Nor does what else arrives prolong that."""
    time = Time()
    deadlines = Deadlines(Timeouts(), time)
    deadlines.begin_attempt()
    deadlines.begin_body()
    assert deadlines.begin_linger()
    end = deadlines.read_end()
    assert end == pytest.approx(time.now + LINGER_SECONDS)
    time.now += LINGER_SECONDS / 2
    deadlines.begin_body()
    assert deadlines.begin_linger()
    assert deadlines.read_end() == end
    time.now += LINGER_SECONDS
    assert not deadlines.begin_linger()


def test_no_limits_at_all() -> None:
    """A wait is then as long as anybody can wait."""
    time = Time()
    deadlines = Deadlines(Timeouts(first_byte=None, between=None, total=None), time)
    deadlines.begin_attempt()
    assert deadlines.read_end() == 1000 + UNLIMITED_SECONDS
    deadlines.begin_body()
    time.now += 5
    assert deadlines.read_end() == 1000 + UNLIMITED_SECONDS


def test_closing_ends_every_wait() -> None:
    """Waits under way end at once with a TimeoutError, later ones at their beginning; sleeps just end."""

    async def main() -> None:
        waits = WaitGroup()
        loop = asyncio.get_running_loop()

        async def wait() -> None:
            async with waits.until(loop.time() + 60):
                await loop.create_future()

        tasks = [asyncio.create_task(wait()) for _ in range(3)]
        sleep = asyncio.create_task(waits.sleep(60))
        await asyncio.sleep(0)
        waits.close()
        outcomes = await asyncio.gather(*tasks, sleep, wait(), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [*[TimeoutError] * 3, type(None), TimeoutError]

    asyncio.run(main())


def test_what_is_asked_for_beyond_the_end_is_not_waited_for(ask: Ask) -> None:
    """A request that would end before the next try fails at once, with what the server said."""
    with Server(BUSY) as server:
        error = ask(engine(server.url, retries=3, timeouts={"total": 3.0})).failed
    assert isinstance(error, RateLimitError)
    assert error.retry_after == 5
    assert [attempt.wait for attempt in error.attempts] == [None]


def test_retries_stop_when_all_are_spent(ask: Ask) -> None:
    """Retries share a bucket of tokens; an answer after a retry gives one back."""
    with Server(BROKEN, BROKEN, BROKEN, [Read(), answer(hello())]) as server:
        remote = engine(server.url, retries=1)
        remote._health.bucket = TokenBucket(capacity=5, cost=5)
        first = ask(remote, close=False).failed
        second = ask(remote, close=False).failed
        assert isinstance(first, APIError)
        assert isinstance(second, APIError)
        assert (len(first.attempts), len(second.attempts)) == (2, 1)
        for _ in range(5):
            assert ask(remote, close=False).finish.reason == "stop"
        remote.close()
        assert remote._health.bucket.take()


def test_an_explanation_is_not_waited_for_long(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an error that comes byte by byte, what came soon is enough, however long an answer may take."""
    monkeypatch.setattr(deadlines, "ERROR_BODY_SECONDS", 0.1)
    with Server([Read(), b"HTTP/1.1 401 No\r\ncontent-length: 900\r\n\r\n", Drip(b"a")]) as server:
        error = ask(engine(server.url)).failed
    assert isinstance(error, AuthenticationError)
    assert "a" * 100 not in error.message


@given(st.binary(max_size=3000), st.integers(1, 64), st.booleans())
def test_compressed_bodies_do_not_depend_on_cuts(data: bytes, step: int, zipped: bool) -> None:
    """Any cut gives what was compressed."""
    decompressor = Decompressor("small")
    packed = gzip.compress(data) if zipped else zlib.compress(data)
    cuts = (packed[start : start + step] for start in range(0, len(packed), step))
    assert b"".join(piece for cut in cuts for piece in decompressor.feed(cut)) == data


def test_a_bomb_comes_in_pieces() -> None:
    """However much a few bytes decompress to, it is never all there at once."""
    bomb = gzip.compress(b"\0" * (5 * MAX_PIECE_BYTES + 7))
    sizes = [len(piece) for piece in Decompressor("small").feed(bomb)]
    assert sum(sizes) == 5 * MAX_PIECE_BYTES + 7
    assert max(sizes) == MAX_PIECE_BYTES


@pytest.mark.parametrize("encoding", ["", "identity", " Identity ", "utf-8"])
def test_bodies_that_are_as_they_are(encoding: str) -> None:
    """Need no decompression."""
    assert Decompressor.for_head(Head(200, {"content-encoding": encoding}), "small") is None


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, br", "compress", "x" * 200])
def test_encodings_nobody_asked_for(encoding: str) -> None:
    """Are refused in an answer; an error's status counts more than its words."""
    with pytest.raises(APIError, match="not asked for"):
        Decompressor.for_head(Head(200, {"content-encoding": encoding}), "small")
    assert Decompressor.for_head(Head(500, {"content-encoding": encoding}), "small") is None
