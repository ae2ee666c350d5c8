"""Fixtures of remote engines' tests: both ways to ask, certificates, and a check that nothing stays open."""

from __future__ import annotations

import asyncio
import gc
import pickle
import ssl
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import pytest
import trustme

from llama4sdk.errors import Llama4Error
from llama4sdk.events import Event, Finish, TextDelta
from llama4sdk.remote.engine import RemoteEngine
from llama4sdk.requests import Request
from tests.remote.small import KEY


@dataclass
class Asked:
    """The outcome of a request: its events, up to its error."""

    events: list[Event] = field(default_factory=list)
    error: Llama4Error | None = None

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, TextDelta))

    @property
    def finish(self) -> Finish:
        assert self.error is None, self.error
        last = self.events[-1]
        assert isinstance(last, Finish)
        return last

    @property
    def failed(self) -> Llama4Error:
        assert self.error is not None, self.events
        hides(self.error)
        return self.error


Ask: TypeAlias = Callable[..., Asked]


def _sync(engine: RemoteEngine, prompt: str = "Hi", *, close: bool = True) -> Asked:
    asked = Asked()
    try:
        for event in engine.stream(Request(prompt=prompt)):
            asked.events.append(event)
    except Llama4Error as error:
        asked.error = error
    if close:
        engine.close()
    return asked


def _async(engine: RemoteEngine, prompt: str = "Hi", *, close: bool = True) -> Asked:
    asked = Asked()

    async def read() -> None:
        try:
            async for event in engine.astream(Request(prompt=prompt)):
                asked.events.append(event)
        except Llama4Error as error:
            asked.error = error
        if close:
            await engine.aclose()

    asyncio.run(read())
    return asked


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Ask an engine in one of the two ways; by default it is closed afterwards."""
    return _sync if request.param == "sync" else _async


def hides(error: BaseException, secret: str = KEY) -> None:
    """Fail where a secret stands in anything that is shown, logged or sent of an error."""
    link: BaseException | None = error
    while link is not None:
        shown = f"{link} {link!r} {link.args!r} {vars(link)!r} {getattr(link, 'object', '')!r}"
        assert secret not in shown
        link = link.__cause__ or link.__context__
    assert secret not in "".join(traceback.format_exception(error))
    assert secret.encode() not in pickle.dumps(error)
    assert not isinstance(error, Llama4Error) or error.hint, f"no hint: {error}"


def sockets() -> set[str]:
    """The sockets this process has open."""
    files = set()
    for path in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            files.add(str(path.readlink()))
    return {name for name in files if name.startswith("socket:")}


@pytest.fixture(scope="session")
def _old_things() -> Iterator[None]:
    """Freeze objects that exist before the tests, so that garbage collection skips them."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _nothing_left(_old_things: None) -> Iterator[None]:
    """Every socket and thread that a test opened is gone at its end."""
    threads = set(threading.enumerate())
    before = sockets() if Path("/proc/self/fd").is_dir() else set()
    yield
    for thread in set(threading.enumerate()) - threads:
        thread.join(5)
        assert not thread.is_alive(), thread
    gc.collect()
    if Path("/proc/self/fd").is_dir():
        assert sockets() <= before


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, str]:
    """A certificate authority of our own, and the file of its certificate."""
    authority = trustme.CA()
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return authority, str(path)


@pytest.fixture(scope="session")
def secured(authority: tuple[trustme.CA, str]) -> Callable[[str], ssl.SSLContext]:
    """The TLS context of a server of that name."""

    def context(name: str) -> ssl.SSLContext:
        server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority[0].issue_cert(name).configure_cert(server_context)
        return server_context

    return context
