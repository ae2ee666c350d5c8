"""Stop strings in text that arrives in pieces."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from llama4sdk.llama4.stop_strings import cut


def _in_pieces(pieces: list[str], stops: list[str]) -> tuple[str, bool]:
    answer, pending = "", ""
    for piece in pieces:
        safe, pending, stopped = cut(pending + piece, stops)
        answer += safe
        assert not any(stop in answer for stop in stops)
        if stopped:
            return answer, True
    return answer + pending, False


def test_text_without_stops_passes_through() -> None:
    """Without stop strings all text is safe."""
    assert cut("anything", []) == ("anything", "", False)


def test_a_possible_beginning_is_held_back() -> None:
    """Only text that could begin a stop string is pending."""
    assert cut("one EN", ["END"]) == ("one ", "EN", False)
    assert cut("one ENOUGH", ["END"]) == ("one ENOUGH", "", False)


def test_a_stop_string_across_three_pieces_ends_the_answer() -> None:
    """A stop string across pieces ends the answer, and no part of it is returned."""
    assert _in_pieces(["Hello E", "N", "D and more"], ["END"]) == ("Hello ", True)


def test_the_first_to_be_complete_wins() -> None:
    """Of two overlapping stop strings, the one that is complete first ends the answer."""
    assert _in_pieces(["abcd"], ["abcd", "bc"]) == ("a", True)
    assert _in_pieces(["abc", "d"], ["abcd", "bc"]) == ("a", True)


@given(
    st.text("ab", max_size=12),
    st.lists(st.text("ab", min_size=1, max_size=4), max_size=3),
    st.lists(st.integers(0, 12), max_size=6),
)
def test_the_answer_does_not_depend_on_the_pieces(text: str, stops: list[str], cuts: list[int]) -> None:
    """The answer is the same however the text is divided."""
    borders = sorted({0, len(text), *(c for c in cuts if c < len(text))})
    pieces = [text[a:b] for a, b in pairwise(borders)]
    assert _in_pieces(pieces, stops) == _in_pieces([text], stops)
