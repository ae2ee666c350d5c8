"""A real vLLM on the CPU: a small random network of Scout's shape, with Llama 4's own tokenizer.

Runs where ``PEERS_VLLM`` names a Python that has vLLM; see the tox environment ``peers-vllm``.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from llama4sdk_openai.backends import VllmServerBackend
from tokenizers import AddedToken
from tokenizers.processors import TemplateProcessing

from llama4sdk import Client
from llama4sdk.backend import Backend, Need
from llama4sdk.llama4.tokenizer import Tokenizer
from llama4sdk.testing import LAPTOP, BackendConformance

from .peers import KEY, PeerTests, fetched, free_port, running

PYTHON = os.environ.get("PEERS_VLLM")

CONTEXT = 1024

CONFIG = {
    "architectures": ["Llama4ForCausalLM"],
    "model_type": "llama4_text",
    "torch_dtype": "bfloat16",
    "vocab_size": 202_048,
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "intermediate_size": 128,
    "intermediate_size_mlp": 128,
    "num_local_experts": 4,
    "num_experts_per_tok": 1,
    "interleave_moe_layer_step": 1,
    "attention_chunk_size": 8192,
    "max_position_embeddings": CONTEXT,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500_000.0,
    "use_qk_norm": True,
    "bos_token_id": 200_000,
    "eos_token_id": [200_001, 200_007, 200_008],
}

TEMPLATE = """{{- bos_token }}
{%- if tools %}
{{- '<|header_start|>system<|header_end|>\\n\\nYou may call: ' + (tools | tojson) + '<|eot|>' }}
{%- endif %}
{%- for message in messages %}
{{- '<|header_start|>' + message.role + '<|header_end|>\\n\\n' + (message.content or '') + '<|eot|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|header_start|>assistant<|header_end|>\\n\\n' }}{%- endif %}"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with everything but weights, which vLLM initializes at random."""
    folder = tmp_path_factory.mktemp("scout-shaped")
    source = Path(pytest.importorskip("llama_models").__file__).parent / "llama4" / "tokenizer.model"
    tokenizer = Tokenizer.from_tiktoken(source)
    encoder = tokenizer._encoder
    encoder.add_special_tokens([AddedToken(name, special=True) for name in tokenizer.control])
    begin = "<|begin_of_text|>"
    encoder.post_processor = TemplateProcessing(
        single=f"{begin} $A", special_tokens=[(begin, tokenizer.control[begin])]
    )
    encoder.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps(CONFIG))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": begin,
        "eos_token": "<|eot|>",
        "chat_template": TEMPLATE,
        "model_max_length": CONTEXT,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def command(checkpoint: Path, port: int, *more: str) -> list[str]:
    """The command that starts a server of this checkpoint."""
    fixed = ["--host", "127.0.0.1", "--port", str(port), "--api-key", KEY, "--served-model-name", "tiny-scout"]
    small = ["--load-format", "dummy", "--dtype", "bfloat16", "--enforce-eager", "--max-num-seqs", "8"]
    assert PYTHON is not None
    return [PYTHON, "-m", "vllm.entrypoints.openai.api_server", "--model", str(checkpoint), *fixed, *small, *more]


ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "PYTHONPATH": ""}


@pytest.fixture(scope="module")
def address(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server, which parses Llama 4's calls, and writes no blanks where a schema allows them."""
    port = free_port()
    tools = ["--enable-auto-tool-choice", "--tool-call-parser", "llama4_pythonic"]
    shapes = ["--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}']
    log = tmp_path_factory.mktemp("vllm") / "log"
    with running(command(checkpoint, port, *tools, *shapes), port, log, **ENVIRONMENT) as url:
        yield url


class TestVllm(PeerTests):
    """The tests for every peer."""

    backend: ClassVar[str] = "vllm-server"
    context: ClassVar[int] = CONTEXT
    sensible: ClassVar[bool] = False

    def busy(self, address: str) -> bool:
        """Whether a request is being answered."""
        counted = re.findall(r"^vllm:num_requests_running\{.*\} (\S+)$", fetched(f"{address}/metrics"), re.MULTILINE)
        assert counted
        return any(float(number) for number in counted)


class TestConformance(BackendConformance):
    """The conformance kit, run with a real server."""

    backend: ClassVar[type[Backend]] = VllmServerBackend
    need: ClassVar[Need] = Need()

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _environment(cls, address: str) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("VLLM_BASE_URL", address)
            patch.setenv("VLLM_API_KEY", KEY)
            yield

    @pytest.fixture(autouse=True)
    def _no_settings(self) -> None:
        """Keep the settings of the whole class."""


def test_embeddings(checkpoint: Path, tmp_path: Path) -> None:
    """Vectors of length 1, one for each text, from a server that was started to embed."""
    port = free_port()
    pooling = command(checkpoint, port, "--runner", "pooling", "--convert", "embed")
    with (
        running(pooling, port, tmp_path / "log", **ENVIRONMENT) as url,
        Client(backend="vllm-server", endpoint=PeerTests().endpoint(url), hardware=LAPTOP) as client,
    ):
        result = client.embed(["A cat sleeps.", "Interest rates rose.", "A cat sleeps."])
    print(result.dimensions, result.usage)
    assert result.dimensions == CONFIG["hidden_size"]
    assert all(math.isclose(math.hypot(*vector), 1, abs_tol=1e-5) for vector in result.vectors)
    assert math.dist(result.vectors[0], result.vectors[2]) < 1e-3
