"""Stop strings in text that comes in pieces."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from llama4sdk.llama4.stop_strings import cut


def _in_pieces(pieces: list[str], stops: list[str]) -> tuple[str, bool]:
    shown, held = "", ""
    for piece in pieces:
        safe, held, stopped = cut(held + piece, stops)
        shown += safe
        assert not any(stop in shown for stop in stops)
        if stopped:
            return shown, True
    return shown + held, False


def test_text_without_stops_passes_through() -> None:
    """Without stop strings nothing is held back."""
    assert cut("anything", []) == ("anything", "", False)


def test_a_possible_beginning_is_held_back() -> None:
    """Only what could become a stop string waits."""
    assert cut("one EN", ["END"]) == ("one ", "EN", False)
    assert cut("one ENOUGH", ["END"]) == ("one ENOUGH", "", False)


def test_a_stop_string_across_three_pieces_ends_the_answer() -> None:
    """It is found wherever it is cut, and nothing of it shows."""
    assert _in_pieces(["Hello E", "N", "D and more"], ["END"]) == ("Hello ", True)


def test_the_first_to_be_complete_wins() -> None:
    """Of two overlapping stop strings the one that is whole first ends the answer, in one piece or in many."""
    assert _in_pieces(["abcd"], ["abcd", "bc"]) == ("a", True)
    assert _in_pieces(["abc", "d"], ["abcd", "bc"]) == ("a", True)


@given(
    st.text("ab", max_size=12),
    st.lists(st.text("ab", min_size=1, max_size=4), max_size=3),
    st.lists(st.integers(0, 12), max_size=6),
)
def test_the_answer_does_not_depend_on_the_pieces(text: str, stops: list[str], cuts: list[int]) -> None:
    """Any way to cut the text gives the same answer."""
    borders = sorted({0, len(text), *(c for c in cuts if c < len(text))})
    pieces = [text[a:b] for a, b in pairwise(borders)]
    assert _in_pieces(pieces, stops) == _in_pieces([text], stops)
