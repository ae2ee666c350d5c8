"""Tool calls are assembled from fragments however a server streams them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llama4sdk.errors import APIError
from llama4sdk.remote.tool_call_fragments import ToolCallAssembler


def fragment(
    index: int | None = None, call_id: str | None = None, name: str | None = None, arguments: Any = None
) -> dict[str, Any]:
    """One entry of a delta's ``tool_calls``."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    return {**({} if index is None else {"index": index}), "id": call_id, "function": function}


def assemble(*fragments: object) -> list[tuple[str, str, Any]]:
    """The calls as (id, name, arguments), each fragment fed by itself."""
    assembler = ToolCallAssembler()
    calls: dict[int, list[str]] = {}
    for entry in fragments:
        for delta in assembler.feed([entry]):
            call = calls.setdefault(delta.index, [delta.id or "", delta.name or "", ""])
            call[2] += delta.arguments
    assembler.end("server")
    assert list(calls) == list(range(len(assembler)))
    return [(call_id, name, json.loads(arguments)) for call_id, name, arguments in calls.values()]


FRAGMENTS: dict[str, list[dict[str, Any]]] = {
    "by index": [
        fragment(0, "a", "now", ""),
        fragment(1, "b", "then", '{"y"'),
        fragment(0, None, None, '{"x": 1}'),
        fragment(1, None, None, ": 2}"),
    ],
    "by id": [
        fragment(None, "a", "now", '{"x"'),
        fragment(None, "b", "then", '{"y": 2}'),
        fragment(None, "a", None, ": 1}"),
    ],
    "name repeated": [
        fragment(0, "a", "now", '{"x"'),
        fragment(0, "a", "now", ": 1}"),
        fragment(1, "b", "then", '{"y": 2}'),
    ],
    "whole, all of index 0": [fragment(0, "a", "now", '{"x": 1}'), fragment(0, "b", "then", '{"y": 2}')],
    "name late": [fragment(0, "a", None, '{"x": '), fragment(0, None, "now", "1}"), fragment(1, "b", "then", {"y": 2})],
}


@pytest.mark.parametrize("case", FRAGMENTS)
def test_fragments_with_ids_become_the_same_two_calls(case: str) -> None:
    """Indexes, ids and names in any combination identify the call that a fragment belongs to."""
    assert assemble(*FRAGMENTS[case]) == [("a", "now", {"x": 1}), ("b", "then", {"y": 2})]


def test_fragments_without_index_and_id_belong_to_the_latest_call() -> None:
    """Another name, or the same after complete arguments, begins another call; each call gets an id of its own."""
    calls = assemble(
        fragment(None, "", "now", '{"x"'),
        fragment(None, "", "", ": 1}"),
        fragment(None, "", "now", '{"x": 3}'),
        fragment(None, "", "then", '{"y": 2}'),
    )
    assert [call[1:] for call in calls] == [("now", {"x": 1}), ("now", {"x": 3}), ("then", {"y": 2})]
    assert len({call[0] for call in calls}) == 3


def test_a_call_without_a_name_is_an_error() -> None:
    """Arguments without a tool's name are not passed off as a call."""
    with pytest.raises(APIError, match="without naming it"):
        assemble(fragment(0, "a", None, "{}"))


@pytest.mark.parametrize("fragments", [None, "text", {}, [None, 3]])
def test_values_that_are_no_fragments_are_ignored(fragments: object) -> None:
    """Servers may send null or other values where there are no calls."""
    assert list(ToolCallAssembler().feed(fragments)) == []
