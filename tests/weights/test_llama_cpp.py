"""llama.cpp agrees on the same GGUF files: ``tox run -e llamacpp`` builds it and runs these tests."""

from __future__ import annotations

import importlib
import random
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from llama4sdk_torch.loading import load_model
from llama4sdk_torch.model import TextModel

from llama4sdk.llama4.vocabulary import control_tokens, merges, read_ranks
from llama4sdk.weights.checkpoint import Checkpoint
from llama4sdk.weights.opening import open_checkpoint
from llama4sdk.weights.store import locate
from tests.weights.checkpoints import VOCABULARY, Sizes, hf_tensors, unfused, write_gguf, write_vocabulary
from tests.weights.llama_cpp_peer import BATCH, WIDE, Floats, LlamaCpp, Vocabulary, requantize

pytest.importorskip("llama_cpp", reason="llama.cpp is not installed: 'tox run -e llamacpp' builds it")

#: GGUF does not say how long chunks are; llama.cpp takes this, and so do we.
CHUNK = 8192

NETWORKS = {
    "scout": Sizes(step=1),
    "interleaved": Sizes(layers=8),
    "two-per-token": Sizes(per_token=2, heads=2, kv_heads=1, dim=16),
    "maverick": Sizes(experts=128),
}


def _ours(path: Path) -> TextModel:
    return load_model(open_checkpoint(path), device=torch.device("cpu"), dtype=torch.float32)


def _logits(network: TextModel, tokens: list[int]) -> Floats:
    cache = network.new_cache(len(tokens))
    parts = (torch.tensor(tokens[start : start + BATCH]) for start in range(0, len(tokens), BATCH))
    logits: Floats = torch.cat([network.logits(network.hidden(part, cache)) for part in parts]).numpy()
    return logits


def _greedy(network: TextModel, prompt: list[int], count: int) -> list[int]:
    cache = network.new_cache(len(prompt) + count)
    answer: list[int] = []
    read = torch.tensor(prompt)
    while len(answer) < count:
        answer.append(int(network.logits(network.prefill(read, cache)).argmax()))
        read = torch.tensor(answer[-1:])
    return answer


def _tokens(count: int, size: int = len(VOCABULARY)) -> list[int]:
    return [int(token) for token in np.random.default_rng(1).integers(0, size, count)]


def _distance(ours: Floats, theirs: Floats) -> float:
    """The median token's difference, a root mean square in units of all logits'.

    The median, because rounding sends a token to another expert now and then.
    """
    return float(np.median(np.sqrt(np.mean((ours - theirs) ** 2, axis=-1) / np.mean(theirs**2))))


def _peer_logits(path: Path, tokens: list[int]) -> Floats:
    peer = LlamaCpp(path)
    logits = peer.logits(tokens)
    peer.close()
    return logits


@pytest.mark.parametrize("sizes", NETWORKS.values(), ids=NETWORKS)
def test_float32_files_run_alike(tmp_path: Path, sizes: Sizes) -> None:
    """Every kind of layer, with and without QK norm: logits within 0.001 of values up to 20, and the same answers."""
    path = write_gguf(tmp_path / "tiny.gguf", sizes)
    network, peer = _ours(path), LlamaCpp(path)
    tokens = _tokens(200)
    np.testing.assert_allclose(_logits(network, tokens), peer.logits(tokens), atol=1e-3)
    for start in range(0, 50, 10):
        prompt = tokens[start : start + 10]
        assert _greedy(network, prompt, 40) == peer.greedy(prompt, 40)
    peer.close()


def test_split_files_run_alike(tmp_path: Path) -> None:
    """Files that one network was split into, which llama.cpp opens by the first of them."""
    write_gguf(tmp_path / "tiny.gguf", split=20)
    path = min(tmp_path.glob("tiny-*.gguf"))
    tokens = _tokens(50)
    np.testing.assert_allclose(_logits(_ours(path), tokens), _peer_logits(path, tokens), atol=1e-3)


@pytest.mark.parametrize("whole_window", [False, True])
def test_chunks_are_the_same_chunks(tmp_path: Path, *, whole_window: bool) -> None:
    """Beyond the first chunk too, where temperature begins and Scout's frequency scaling shows, logits agree.

    Both of llama.cpp's caches are exact. Their angles are of absolute positions and in float32, ours count from the
    chunk's beginning: hence the width of what is allowed.
    """
    factors = np.array([1, 1, 1, 16], dtype=np.float32)  # of four pairs, one turns less than once in 8192 tokens
    path = write_gguf(tmp_path / "tiny.gguf", Sizes(step=1), rope_factors=factors)
    tokens = _tokens(CHUNK + 300)
    peer = LlamaCpp(path, context=len(tokens), whole_window=whole_window)
    theirs = peer.logits(tokens)
    peer.close()
    ours = _logits(_ours(path), tokens)
    np.testing.assert_allclose(ours[:CHUNK], theirs[:CHUNK], atol=1e-3)
    np.testing.assert_allclose(ours[CHUNK:], theirs[CHUNK:], atol=1e-2)


@pytest.mark.parametrize(("kind", "allowed"), [("F16", 0.005), ("BF16", 0.03), ("Q8_0", 0.1)])
def test_other_precisions_run_alike(tmp_path: Path, kind: str, allowed: float) -> None:
    """Logits differ by no more than rounded activations make them."""
    path = write_gguf(tmp_path / "tiny.gguf", kind=GGMLQuantizationType[kind])
    tokens = _tokens(200)
    assert _distance(_logits(_ours(path), tokens), _peer_logits(path, tokens)) < allowed


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_quantized_files_run_alike(tmp_path: Path, kind: str) -> None:
    """Logits are within 0.1 of llama.cpp's, several times nearer than those of the network that was quantized."""
    original = write_gguf(tmp_path / "original.gguf")
    path = write_gguf(tmp_path / "tiny.gguf", kind=GGMLQuantizationType[kind])
    _assert_nearer(path, original)


def _assert_nearer(path: Path, original: Path) -> None:
    tokens = _tokens(200)
    theirs = _peer_logits(path, tokens)
    distance = _distance(_logits(_ours(path), tokens), theirs)
    assert distance < 0.1
    assert distance < 0.5 * _distance(_logits(_ours(original), tokens), theirs)


K_QUANTS = {  # what llama.cpp makes, and how far a value may be from its original, in units of its row's largest
    "Q6_K": 0.02,
    "Q5_K_M": 0.06,
    "Q4_K_M": 0.12,
    "Q3_K_M": 0.25,
    "Q2_K": 0.45,
}


@pytest.mark.parametrize(("kind", "error"), K_QUANTS.items(), ids=K_QUANTS)
def test_k_quants_run_alike(tmp_path: Path, kind: str, error: float) -> None:
    """A file that llama.cpp quantized has the values that llama.cpp unpacks, near the originals, and its logits."""
    original = write_gguf(tmp_path / "wide.gguf", WIDE)
    path = requantize(original, tmp_path / "quantized.gguf", f"MOSTLY_{kind}")
    checkpoint = open_checkpoint(path)
    checkpoint.verify()
    assert checkpoint.dtype == kind.removesuffix("_M")
    unpacked = open_checkpoint(requantize(path, tmp_path / "unpacked.gguf", "ALL_F32"))
    for name, exact in unfused(hf_tensors(WIDE)).items():
        values, wanted = checkpoint.read(name).astype(np.float32), exact.astype(np.float32)
        np.testing.assert_array_equal(values, unpacked.read(name), err_msg=name)
        assert np.all(np.abs(values - wanted) <= error * np.abs(wanted).max(axis=-1, keepdims=True)), name
    _assert_nearer(path, original)


@pytest.fixture(scope="module")
def demo() -> Path:
    """The demo model's file."""
    path = locate("demo")
    if path is None:
        pytest.skip("the demo model is not here; run 'llama4sdk pull demo'")
    return path


PROMPTS = ("The capital of France is", "def fibonacci(n):\n", "Once upon a time, a llama", "2 + 2 =", "日本の首都は")


def test_the_demo_model_answers_alike(demo: Path, tmp_path: Path) -> None:
    """Unpacked by llama.cpp itself, so that nobody rounds, it answers word for word as ours does."""
    unpacked = requantize(demo, tmp_path / "unpacked.gguf", "ALL_F32")
    network, encoder, peer = _ours(demo), open_checkpoint(demo).tokenizer(), LlamaCpp(unpacked)
    for prompt in map(encoder.encode, PROMPTS):
        np.testing.assert_allclose(_logits(network, prompt), peer.logits(prompt), atol=2e-3)
        assert _greedy(network, prompt, 48) == peer.greedy(prompt, 48)
    peer.close()


def test_the_demo_model_as_it_comes(demo: Path) -> None:
    """Its own Q4_1 file: logits differ by no more than rounded activations make them."""
    prompt = open_checkpoint(demo).tokenizer().encode(" ".join(PROMPTS))
    assert _distance(_logits(_ours(demo), prompt), _peer_logits(demo, prompt)) < 0.1


@pytest.fixture(scope="module")
def llama4_vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GGUF file of nothing but Llama 4's own vocabulary, 200 000 tokens and 2048 control tokens."""
    source = Path(pytest.importorskip("llama_models").__file__).parent / "llama4" / "tokenizer.model"
    ranks = read_ranks(source.read_bytes())
    path = tmp_path_factory.mktemp("vocabulary") / "llama4.gguf"
    return write_vocabulary(path, ranks, list(merges(ranks)), list(control_tokens(len(ranks))))


def test_the_demo_vocabulary(demo: Path) -> None:
    """Thousands of texts have the same ids.

    Texts with one of the few bytes that this vocabulary lacks are left out: llama.cpp merges nothing across a byte
    that it has to drop, the tokenizers package, which trained it, does.
    """
    lacking = _lacking(open_checkpoint(demo))
    _compare(demo, [text for text in _texts(4000) if not lacking & set(text.encode())], minimum=3000)


def test_llama_4s_vocabulary(llama4_vocabulary: Path) -> None:
    """Thousands of texts without combining marks have the same ids."""
    _compare(llama4_vocabulary, [text for text in _texts(9000) if not _marks(text)], minimum=4000)


def test_llama_cpp_cuts_hindi_and_thai_otherwise(llama4_vocabulary: Path) -> None:
    """Its rule for Llama 4's words knows no combining marks. Meta's tokenizer does, and gives the ids that we give.

    When llama.cpp learns them this test fails, and the one above can have all texts.
    """
    meta = importlib.import_module("llama_models.llama4.tokenizer").Tokenizer.get_instance()
    encoder, peer = open_checkpoint(llama4_vocabulary).tokenizer(), Vocabulary(llama4_vocabulary)
    for text in ("हिन्दी", "नमस्ते दुनिया", "เมืองไทย"):
        assert encoder.encode(text) == meta.encode(text, bos=False, eos=False) != peer.encode(text)
    peer.close()


def _marks(text: str) -> bool:
    """Whether there are combining marks in it, or characters too new to know."""
    return any(unicodedata.category(char) in ("Mn", "Mc", "Me", "Cn") for char in text)


def _lacking(checkpoint: Checkpoint) -> set[int]:
    encoder = checkpoint.tokenizer()
    byte_strings = {encoder.token_bytes(token) for token in range(encoder.size)}
    return {byte for byte in range(256) if bytes([byte]) not in byte_strings}


def _compare(path: Path, texts: list[str], *, minimum: int) -> None:
    encoder, peer = open_checkpoint(path).tokenizer(), Vocabulary(path)
    assert len(texts) >= minimum
    different = [text for text in texts if encoder.encode(text) != peer.encode(text)]
    peer.close()
    assert different == []


PIECES = [
    *("a", "B", "llama", "CamelCase", "don't", "'LL", "_", "-", "--", ".", "?!", "...", "def f(x):", "http://x.y/z?q=1"),
    *(" ", "  ", "\n", "\n\n", "\t", "\r\n", "\u00a0", "\u3000", "\u2028", "\x1f", "\x85", "\u200d", "1", "23", "4567"),
    *("é", "e\u0301", "ß", "Ω", "日本", "語", "क्षि", "מ", "ع", "½", "Ⅳ", "²", "ǅ", "ʰ", "🦙", "👩\u200d💻"),
    *("<|im_end|>", "<|eot|>", "<|begin_of_text|>"),
]  # fmt: skip


def _texts(count: int) -> Iterator[str]:
    """Half of them of pieces that tokenizers cut differently, half of characters from all of Unicode."""
    dice = random.Random(0)
    for _ in range(count // 2):
        yield "".join(dice.choices(PIECES, k=dice.randint(0, 20)))
        planes = ((1, 0x80), (0x80, 0x800), (0x800, 0xD800), (0xE000, 0x10000), (0x10000, 0x20000))
        yield "".join(chr(dice.randrange(*dice.choice(planes))) for _ in range(dice.randint(1, 20)))
