"""The way of a warm request through the source: few files, and none that a request does not need."""

from __future__ import annotations

from benchmarks.request_path import visits
from llama4sdk import Client

MAX_FILES = 15


def test_a_warm_request_visits_few_files() -> None:
    """A second chat request neither plans nor loads, and without a price nothing is metered."""
    with Client("echo") as client:
        client.chat("Hello")
        entries = visits(lambda: client.chat("Hello"))
    assert len(entries) <= MAX_FILES, list(entries)
    unneeded = ("planning/", "session/billing.py", "session/budget.py", "registry.py", "probe/", "tools.py")
    assert not [path for path in entries if any(part in path for part in unneeded)]


def test_files_of_others_are_not_counted() -> None:
    """Calls into the standard library and from it are no entries."""
    assert not visits(lambda: sorted([3, 1], key=lambda number: -number))
