"""A written ``tokenizer.json`` is the same tokenizer for this SDK and for Hugging Face's tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Encoder
from transformers import PreTrainedTokenizerFast

from llama4sdk.llama4.tokenizer import Tokenizer
from llama4sdk.weights.opening import open_checkpoint
from llama4sdk.weights.store import locate

TEXTS = (
    "The llama eats 1234 blades of grass, doesn't it?",
    "  two\n\n\tlines \r\n and   spaces ",
    "日本語 🦙 café e\u0301 \ud800",
    "<|eot|><|im_end|> is text here",
)


@pytest.fixture(scope="session", params=["trained", "published", "demo"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    """Tokenizers from a ``tokenizer.json``, from Meta's own file, and from the demo model's GGUF."""
    if request.param == "trained":
        return Tokenizer.from_json(request.getfixturevalue("tokenizer_json"))
    if request.param == "published":
        path: Path = request.getfixturevalue("model_file")
        return Tokenizer.from_tiktoken(path)
    if (demo := locate("demo")) is None:
        pytest.skip("the demo model is not here; run 'llama4sdk pull demo'")
    return open_checkpoint(demo).tokenizer()


@pytest.fixture(scope="session")
def json_file(tokenizer: Tokenizer) -> str:
    """The content of its ``tokenizer.json``."""
    return tokenizer.to_json()


def test_what_is_written_is_read_as_the_same(tokenizer: Tokenizer, json_file: str) -> None:
    """Ids, control tokens, prefix and the spelling of every token are the same after a round trip."""
    again = Tokenizer.from_json(json_file)
    assert again.control == tokenizer.control
    assert again.prefix == tokenizer.prefix
    assert again.size == tokenizer.size
    assert [again.token_bytes(n) for n in range(again.size)] == [tokenizer.token_bytes(n) for n in range(again.size)]
    assert [again.encode(text) for text in TEXTS] == [tokenizer.encode(text) for text in TEXTS]
    assert again.to_json() == json_file


def test_other_tools_give_the_same_ids(tokenizer: Tokenizer, json_file: str) -> None:
    """The tokenizers package gives plain text the same ids, and each control token its own."""
    theirs = Encoder.from_str(json_file)
    for text in TEXTS[:2]:
        assert theirs.encode(text).ids == tokenizer.encode(text)
    assert {name: theirs.token_to_id(name) for name in tokenizer.control} == tokenizer.control
    name = next(iter(tokenizer.control))
    between = theirs.encode(f"a{name}b", add_special_tokens=False).ids
    assert tokenizer.control[name] in between


def test_transformers_takes_it(tokenizer: Tokenizer, json_file: str, tmp_path: Path) -> None:
    """A fast tokenizer of transformers made from the file encodes and decodes as ours."""
    file = tmp_path / "tokenizer.json"
    file.write_text(json_file, encoding="utf-8")
    theirs: Any = PreTrainedTokenizerFast(tokenizer_file=str(file))  # type: ignore[no-untyped-call]
    assert theirs(TEXTS[0]).input_ids == tokenizer.encode(TEXTS[0])
    assert theirs.decode(tokenizer.encode(TEXTS[0]), skip_special_tokens=True) == TEXTS[0]
    assert len(theirs) == tokenizer.size


def test_added_tokens_that_are_text_stay_text() -> None:
    """An added token that is no control token is encoded from text and decoded to it."""
    source = Encoder.from_str(
        Tokenizer.from_vocabulary({"a": 0, "b": 1}, [], {"<|eot|>": 2}, splitter="gpt2").to_json()
    )
    source.add_tokens(["été"])
    before = Tokenizer.from_json(source.to_str())
    again = Tokenizer.from_json(before.to_json())
    assert again.encode("aété") == before.encode("aété") == [0, 3]
    assert again.token_bytes(3) == "été".encode()
