"""A small byte-level tokenizer with the control tokens of two families, trained here; and Llama 4's real one."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Encoder

from llama4sdk.llama4.tokenizer import Tokenizer

CORPUS = [
    "The llama eats grass. It's 2024; the llama's wool isn't grey.",
    "im_start im_end eot <| |> system user\n",
] * 20
CONTROL = ["<|begin_of_text|>", "<|eot|>", "<|im_start|>", "<|im_end|>"]


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    """Hugging Face's tokenizer, which parses control tokens in text."""
    encoder = Encoder(models.BPE())
    encoder.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    encoder.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    encoder.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet))
    encoder.add_special_tokens([AddedToken(token, special=True) for token in CONTROL])
    bos = encoder.token_to_id(CONTROL[0])
    encoder.post_processor = processors.TemplateProcessing(
        single=f"{CONTROL[0]} $A", special_tokens=[(CONTROL[0], bos)]
    )
    return encoder


@pytest.fixture(scope="session")
def tokenizer_json(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The text of its ``tokenizer.json``."""
    path: Path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    encoder.save(str(path))
    return json.dumps(json.loads(path.read_text(encoding="utf-8")))


class Meta:
    """Meta's tokenizer as a reference."""

    def __init__(self, path: Path) -> None:
        from llama_models.llama4.tokenizer import Tokenizer as Theirs

        self._theirs = Theirs(path)
        self.control: dict[str, int] = self._theirs.special_tokens

    def encode(self, text: str) -> list[int]:
        return list(self._theirs.encode(text, bos=True, eos=False))


@pytest.fixture(scope="session")
def model_file() -> Path:
    """The published ``tokenizer.model``."""
    spec = importlib.util.find_spec("llama_models")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("Meta's llama-models is not installed")
    return Path(spec.submodule_search_locations[0]) / "llama4" / "tokenizer.model"


@pytest.fixture(scope="session")
def meta(model_file: Path) -> Meta:
    return Meta(model_file)


@pytest.fixture(scope="session")
def ours(model_file: Path) -> Tokenizer:
    return Tokenizer.from_tiktoken(model_file)
