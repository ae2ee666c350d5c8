"""A tokenizer that was written as ``tokenizer.json``: the same for this SDK, and for Hugging Face's own tools."""

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
    """One from a ``tokenizer.json``, Llama 4's from Meta's own file, and the demo model's from GGUF."""
    if request.param == "trained":
        return Tokenizer.from_json(request.getfixturevalue("tokenizer_json"))
    if request.param == "published":
        path: Path = request.getfixturevalue("model_file")
        return Tokenizer.from_tiktoken(path)
    if (demo := locate("demo")) is None:
        pytest.skip("the demo model is not here; run 'llama4sdk pull demo'")
    return open_checkpoint(demo).tokenizer()


@pytest.fixture(scope="session")
def written(tokenizer: Tokenizer) -> str:
    """Its file."""
    return tokenizer.to_json()


def test_what_is_written_is_read_as_the_same(tokenizer: Tokenizer, written: str) -> None:
    """Ids, control tokens, what begins a text and the spelling of every token survive."""
    again = Tokenizer.from_json(written)
    assert again.control == tokenizer.control
    assert again.prefix == tokenizer.prefix
    assert again.size == tokenizer.size
    assert [again.token_bytes(n) for n in range(again.size)] == [tokenizer.token_bytes(n) for n in range(again.size)]
    assert [again.encode(text) for text in TEXTS] == [tokenizer.encode(text) for text in TEXTS]
    assert again.to_json() == written


def test_other_tools_give_the_same_ids(tokenizer: Tokenizer, written: str) -> None:
    """The tokenizers package encodes plain text alike, and finds each control token under its own number."""
    theirs = Encoder.from_str(written)
    for text in TEXTS[:2]:
        assert theirs.encode(text).ids == tokenizer.encode(text)
    assert {name: theirs.token_to_id(name) for name in tokenizer.control} == tokenizer.control
    name = next(iter(tokenizer.control))
    between = theirs.encode(f"a{name}b", add_special_tokens=False).ids
    assert tokenizer.control[name] in between


def test_transformers_takes_it(tokenizer: Tokenizer, written: str, tmp_path: Path) -> None:
    """A fast tokenizer of transformers made from the file writes and reads as ours."""
    file = tmp_path / "tokenizer.json"
    file.write_text(written, encoding="utf-8")
    theirs: Any = PreTrainedTokenizerFast(tokenizer_file=str(file))  # type: ignore[no-untyped-call]
    assert theirs(TEXTS[0]).input_ids == tokenizer.encode(TEXTS[0])
    assert theirs.decode(tokenizer.encode(TEXTS[0]), skip_special_tokens=True) == TEXTS[0]
    assert len(theirs) == tokenizer.size


def test_added_tokens_that_are_text_stay_text() -> None:
    """A token that was added but is no control token is spelled by users, and stands for itself."""
    source = Encoder.from_str(
        Tokenizer.from_vocabulary({"a": 0, "b": 1}, [], {"<|eot|>": 2}, splitter="gpt2").to_json()
    )
    source.add_tokens(["été"])
    before = Tokenizer.from_json(source.to_str())
    again = Tokenizer.from_json(before.to_json())
    assert again.encode("aété") == before.encode("aété") == [0, 3]
    assert again.token_bytes(3) == "été".encode()
