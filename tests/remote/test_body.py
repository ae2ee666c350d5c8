"""Bodies that are read ahead: what arrives together is handed over together, and no more than a bound waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from llama4sdk.remote.body import MAX_WAITING_BYTES, Body


def test_what_arrives_together_is_handed_over_together() -> None:
    """Pieces that need no waiting are joined; an error comes after what arrived before it."""

    async def pieces() -> AsyncGenerator[bytes]:
        yield b"a"
        yield b"b"
        await asyncio.sleep(0.01)
        yield b"c"
        raise ValueError("broken")

    async def main() -> None:
        body = Body(pieces())
        assert [await body.read(), await body.read()] == [b"ab", b"c"]
        with pytest.raises(ValueError, match="broken"):
            await body.read()
        await body.close()

    asyncio.run(main())


def test_a_body_ends_once_and_for_all() -> None:
    """Each further read says so."""

    async def pieces() -> AsyncGenerator[bytes]:
        yield b"a"

    async def main() -> None:
        body = Body(pieces())
        assert await body.read() == b"a"
        for _ in range(2):
            with pytest.raises(StopAsyncIteration):
                await body.read()
        await body.close()

    asyncio.run(main())


def test_a_slow_reader_holds_the_server_back() -> None:
    """No more is received than may wait, until it is read; closing ends the rest."""
    made: list[int] = []
    closed: list[bool] = []

    async def pieces() -> AsyncGenerator[bytes]:
        try:
            while True:
                made.append(1)
                yield b"x" * 2**16
        finally:
            closed.append(True)

    async def main() -> None:
        body = Body(pieces())
        await asyncio.sleep(0.01)
        assert len(made) == MAX_WAITING_BYTES // 2**16 + 1
        assert len(await body.read()) == MAX_WAITING_BYTES + 2**16
        await asyncio.sleep(0.01)
        assert len(made) == 2 * (MAX_WAITING_BYTES // 2**16 + 1)
        await body.close()
        assert closed == [True]

    asyncio.run(main())
