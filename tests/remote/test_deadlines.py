"""How long, how often, how much: clocks, buckets and packed bodies."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama4sdk.endpoint import Timeouts
from llama4sdk.errors import APIError, AuthenticationError, RateLimitError
from llama4sdk.remote import clock as clocks
from llama4sdk.remote.clock import Clock, Limit, seconds
from llama4sdk.remote.dialect import Head
from llama4sdk.remote.retry import TokenBucket
from llama4sdk.remote.unpacking import PIECE, Unpacker
from tests.remote.conftest import Ask
from tests.remote.server import Drip, Read, Script, Server, answer
from tests.remote.small import engine, hello

BUSY: Script = [Read(), answer(b"", "429 Busy", retry_after="5")]
BROKEN: Script = [Read(), answer(b"", "503 No", connection="close")]


class Time:
    """Stands in for the module ``time``."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    """A time of our own."""
    time = Time()
    monkeypatch.setattr(clocks, "time", time)
    return time


def test_the_phases_of_an_answer(time: Time) -> None:
    """Connecting ends first, then the wait for the first byte, however much of the head comes, then each gap."""
    clock = Clock(Timeouts(connect=3, first_byte=10, between=4, total=30))
    clock.begin()
    assert (clock.connecting(), clock.left()) == (3, 10)
    time.now += 4
    assert clock.exhausted(connecting=True) == "connect"
    assert clock.left() == 6
    time.now += 7
    assert clock.left() == clocks.SHORTEST
    assert clock.exhausted(connecting=False) == "first_byte"
    clock.arrived()
    assert clock.left() == 4
    assert clock.exhausted(connecting=False) == "between"
    time.now += 17
    assert clock.left() == pytest.approx(2)
    time.now += 2
    assert clock.exhausted(connecting=False) == "total"
    assert clock.remaining == 0


def test_a_further_try_has_phases_of_its_own(time: Time) -> None:
    """But the end of everything stays where it was."""
    clock = Clock(Timeouts(connect=3, first_byte=10, total=12))
    clock.begin()
    time.now += 9
    clock.begin()
    assert (clock.connecting(), clock.left()) == (3, 3)


def test_the_end_of_an_answer_is_not_waited_for_long(time: Time) -> None:
    """Nor does what else arrives prolong that."""
    clock = Clock(Timeouts())
    clock.begin()
    clock.arrived()
    assert clock.linger()
    time.now += clocks.LINGER / 2
    clock.arrived()
    assert clock.linger()
    assert clock.left() == pytest.approx(clocks.LINGER / 2)
    time.now += clocks.LINGER
    assert not clock.linger()


def test_no_limits_at_all(time: Time) -> None:
    """A wait is then as long as anybody can wait."""
    clock = Clock(Timeouts(first_byte=None, between=None, total=None))
    clock.begin()
    limit = Limit(clock.left)
    assert limit == clocks.FOREVER
    time.now += 5
    assert seconds(limit) == clocks.FOREVER - 5
    assert (seconds(None), seconds(2.5)) == (clocks.FOREVER, 2.5)


def test_what_is_asked_for_beyond_the_end_is_not_waited_for(ask: Ask) -> None:
    """A request that would end before the next try fails at once, with what the server said."""
    with Server(BUSY) as server:
        error = ask(engine(server.url, retries=3, timeouts={"total": 3.0})).failed
    assert isinstance(error, RateLimitError)
    assert error.retry_after == 5
    assert [attempt.wait for attempt in error.attempts] == [None]


def test_retries_stop_when_all_are_spent(ask: Ask) -> None:
    """What one request spends, the next does not have; an answer after a retry gives it back."""
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
    monkeypatch.setattr(clocks, "EXPLAINING", 0.1)
    with Server([Read(), b"HTTP/1.1 401 No\r\ncontent-length: 900\r\n\r\n", Drip(b"a")]) as server:
        error = ask(engine(server.url)).failed
    assert isinstance(error, AuthenticationError)
    assert "a" * 100 not in error.message


@given(st.binary(max_size=3000), st.integers(1, 64), st.booleans())
def test_packed_bodies_do_not_depend_on_cuts(data: bytes, step: int, zipped: bool) -> None:
    """Any cut gives what was packed."""
    unpacker = Unpacker("small")
    packed = gzip.compress(data) if zipped else zlib.compress(data)
    found = b"".join(unpacker.feed(packed[start : start + step]) for start in range(0, len(packed), step))
    assert found == data
    assert not unpacker.waiting


def test_a_bomb_comes_in_pieces() -> None:
    """However much a few bytes unpack to, it is never all there at once."""
    unpacker = Unpacker("small")
    sizes = [len(unpacker.feed(gzip.compress(b"\0" * (5 * PIECE + 7))))]
    while unpacker.waiting:
        sizes.append(len(unpacker.more()))
    assert sum(sizes) == 5 * PIECE + 7
    assert max(sizes) == PIECE


@pytest.mark.parametrize("coding", ["", "identity", " Identity ", "utf-8"])
def test_bodies_that_are_as_they_are(coding: str) -> None:
    """Need nothing."""
    assert Unpacker.of(Head(200, {"content-encoding": coding}), "small") is None


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, br", "compress", "x" * 200])
def test_packings_nobody_asked_for(coding: str) -> None:
    """Are refused in an answer; an error's status counts more than its words."""
    with pytest.raises(APIError, match="not asked for"):
        Unpacker.of(Head(200, {"content-encoding": coding}), "small")
    assert Unpacker.of(Head(500, {"content-encoding": coding}), "small") is None
