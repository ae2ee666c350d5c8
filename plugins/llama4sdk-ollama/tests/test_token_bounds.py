"""The lower bound of tokens, compared with Llama 4's own tokenizer."""

# ruff: noqa: RUF001 - signs that look alike are of different scripts here

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama4sdk_ollama.token_bounds import min_prompt_tokens, min_text_tokens
from llama_models.llama4.tokenizer import Tokenizer

from llama4sdk.messages import ImagePart, Message, TextPart
from llama4sdk.requests import Request

PAGES = sorted((Path(__file__).resolve().parents[3] / "docs").glob("*.md"))
SAMPLES = {
    "Chinese": "人工智能是计算机科学的一个分支，它企图了解智能的实质，并生产出一种新的智能机器。" * 20,
    "Japanese": "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。" * 20,
    "Korean": "대한민국의 모든 권력은 국민으로부터 나온다. " * 20,
    "Thai": "ภาษาไทยเป็นภาษาที่มีระดับเสียงของคำแน่นอน" * 20,
    "Hindi": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता प्राप्त है। " * 20,
    "Russian": "Все люди рождаются свободными и равными в своем достоинстве и правах. " * 20,
    "German": "Alle Menschen sind frei und gleich an Würde und Rechten geboren; Donaudampfschifffahrt. " * 20,
    "contractions": "I don't know, we're here, they'll see, he's DON'T 'tis " * 20,
    "rows": ("=" * 200 + "\n" + "-+-+" * 20 + "\n" + "." * 50 + "\n") * 20,
    "blanks": " " * 5000 + "x",
    "numbers": "1234567 3.14159 2026-11-21 12:30:45 " * 50,
    "signs": "... ,,, --- ___ __init__ ::: -> != === ## */ /** (((x))) [[y]] <<z>>\n" * 50,
}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Meta's tokenizer."""
    return Tokenizer.get_instance()


@pytest.mark.parametrize("text", [*SAMPLES.values(), *(page.read_text("utf-8") for page in PAGES)])
def test_no_sample_has_fewer_tokens(tokenizer: Tokenizer, text: str) -> None:
    """The bound holds in any script, in prose, tables and code."""
    assert min_text_tokens(text) <= len(tokenizer.encode(text, bos=False, eos=False))


@given(st.text() | st.text("aZ'0.-= \n\tüж漢字日", max_size=60))
def test_no_text_has_fewer_tokens(text: str) -> None:
    """The bound holds for random texts."""
    assert min_text_tokens(text) <= len(Tokenizer.get_instance().encode(text, bos=False, eos=False))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_most_tokens_are_counted(tokenizer: Tokenizer, page: Path) -> None:
    """The bound is high enough to notice that a third of a page is missing."""
    text = page.read_text("utf-8")
    assert min_text_tokens(text) > 0.6 * len(tokenizer.encode(text, bos=False, eos=False))


def test_a_request_has_the_tokens_of_its_texts() -> None:
    """All messages count; images add nothing."""
    parts = (TextPart(text="a b c d e "), ImagePart(data=b"x"), TextPart(text="f g h i j"))
    messages = (Message(role="system", content="a b c d e f g h i j"), Message(role="user", content=parts))
    assert min_prompt_tokens(Request(messages=messages)) == 18
    assert min_prompt_tokens(Request(prompt="a b c d e f g h i j")) == 9
