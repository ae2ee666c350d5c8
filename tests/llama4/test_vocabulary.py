"""Llama 4's real vocabulary, held to Meta's own tokenizer.

A short run draws some hundreds of strings; ``TOKENIZER_CASES=10000`` in the environment draws as many as it says.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llama4sdk.errors import CheckpointError
from llama4sdk.llama4 import vocabulary
from llama4sdk.llama4.tokenizer import Tokenizer
from tests.llama4.conftest import Meta

CASES = int(os.environ.get("TOKENIZER_CASES", "600"))

WORDS = st.sampled_from(
    [
        *["Hello", "don't", "WE'RE", "I'\u017f", "naïve", "ΣΊΣΥΦΟΣ", "日本語", "สวัสดี", "नमस्ते", "مرحبا", "שלום", "🦙"],
        *["👩\u200d🚀", "12345678", "٣٤٥٦", "Ⅷ½", "e\u0301", "ǅ", "\u200b", "\ufeff", "<|eot|>", "<|begin_of_text|>"],
        *["```py\n", "\r\n\r\n", "\t\t ", "\u3000"],
    ]
)
EXTREME = st.builds(
    lambda part, times: part * times,
    st.sampled_from(["a", "A", "aB", " ", "\n", "\r\n", "1", "=", "/", "\x00", "\u3000", "é", "ab ", "\U000e0001"]),
    st.integers(1, 3000),
)
ANY = st.text(alphabet=st.characters(exclude_categories=()))
TEXTS = st.lists(st.one_of(ANY, WORDS, EXTREME, st.text("ab ' \n0/", max_size=40)), max_size=8).map("".join)


@pytest.fixture(scope="session")
def converted_tokenizer(ours: Tokenizer) -> Tokenizer:
    """The same tokenizer by way of a ``tokenizer.json`` with control tokens as added tokens."""
    data = json.loads(ours._encoder.to_str())
    flags = {"special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    data["added_tokens"] = [{"id": number, "content": name} | flags for name, number in ours.control.items()]
    return Tokenizer.from_json(json.dumps(data))


@settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
@given(TEXTS)
def test_ids_are_metas(ours: Tokenizer, meta: Meta, text: str) -> None:
    """Any text, surrogates and long runs included, has the ids of Meta's tokenizer."""
    assert ours.encode(text) == meta.encode(text)


@settings(max_examples=CASES // 6, deadline=None, suppress_health_check=list(HealthCheck))
@given(TEXTS)
def test_ids_of_a_converted_vocabulary_are_metas(converted_tokenizer: Tokenizer, meta: Meta, text: str) -> None:
    """A ``tokenizer.json`` made of the same vocabulary gives the same ids, but for its beginning token."""
    assert converted_tokenizer.encode(text) == meta.encode(text)[1:]


def characters(step: int) -> Iterator[str]:
    """Every ``step``-th Unicode character."""
    return (chr(code) for code in range(0, sys.maxunicode + 1, step) if not 0xD800 <= code < 0xE000)


def test_words_are_cut_alike_around_every_character(ours: Tokenizer, meta: Meta) -> None:
    """Both tokenizers class every character alike as letter, digit or space (short run: every seventh)."""
    for char in characters(1 if CASES >= 10000 else 7):
        text = f"a{char}b {char}1{char}\n'{char}"
        assert ours.encode(text) == meta.encode(text), f"U+{ord(char):04X}"


@pytest.mark.parametrize("length", [24_999, 25_000, 25_001, 60_001])
@pytest.mark.parametrize("unit", ["x", " ", "1", "ab"])
def test_long_runs_are_broken_where_meta_breaks_them(ours: Tokenizer, meta: Meta, unit: str, length: int) -> None:
    """Runs with and without space are split after 25,000 characters."""
    text = f"a b{(unit * length)[:length]} c\n{(unit * 7)} d"
    assert ours.encode(text) == meta.encode(text)


def test_long_texts_are_broken_where_meta_breaks_them(ours: Tokenizer, meta: Meta) -> None:
    """A text is split after 400,000 characters, even within a word."""
    text = "unbreakable words, " * 21_100
    assert len(text) > vocabulary.MAX_TEXT_LENGTH
    assert ours.encode(text) == meta.encode(text)


def test_control_tokens_are_metas(ours: Tokenizer, meta: Meta) -> None:
    """All 2048 control tokens have Meta's names and ids, and the ids the specification lists."""
    assert ours.control == meta.control
    assert ours.size == 202_048
    names = {"<|begin_of_text|>": 200000, "<|eom|>": 200007, "<|eot|>": 200008, "<|python_start|>": 200016}
    assert names.items() <= ours.control.items()
    assert ours.control["<|reserved_special_token_903|>"] == 202_047


@settings(max_examples=CASES // 6, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.text())
def test_text_survives(ours: Tokenizer, text: str) -> None:
    """Text is unchanged by encoding and decoding, whole and token by token."""
    ids = ours.encode(text)
    decode = ours.detokenizer()
    pieces = [decode(token) for token in ids]
    assert ours.decode(ids) == "".join(pieces) == text
    assert "\ufffd" in text or not any("\ufffd" in piece for piece in pieces)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x0a\x0e\x0a\x05<unk>\x15\x00",
        b"not a rank file",
        b"".join(b"%s %d\n" % (base64.b64encode(bytes([byte])), byte) for byte in range(255)),
        b"".join(b"%s %d\n" % (base64.b64encode(bytes([byte])), byte + 1) for byte in range(256)),
        b"".join(b"%s %d\n" % (base64.b64encode(bytes([byte])), 0) for byte in range(256)),
    ],
)
def test_other_files_are_refused(tmp_path: Path, data: bytes) -> None:
    """Another kind of ``tokenizer.model``, or a damaged one, raises CheckpointError."""
    (tmp_path / "tokenizer.model").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"tokenizer\.model"):
        Tokenizer.from_tiktoken(tmp_path / "tokenizer.model")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A missing file raises CheckpointError."""
    with pytest.raises(CheckpointError, match="cannot be read"):
        Tokenizer.from_tiktoken(tmp_path / "tokenizer.model")
