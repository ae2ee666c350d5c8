"""Many rejections in fewer words."""

from __future__ import annotations

import pytest

from llama4sdk.plan import Rejection
from llama4sdk.planning.offers import remote_not_allowed
from llama4sdk.planning.rejections import MAX_LISTED_REMOTES, merge_remote

REMOTE = frozenset(f"cloud{number}" for number in range(MAX_LISTED_REMOTES + 1))


@pytest.mark.parametrize("barred", [False, True])
def test_many_remote_backends_are_one_rejection(barred: bool) -> None:
    """That says what they lack; what the policy keeps here is only said to be where it does."""
    here = Rejection(backend="torch", model="scout", reason="too big", fix="Take a smaller one.")
    found = [Rejection(backend=name, model="scout", reason="no key.", fix=None) for name in sorted(REMOTE)]
    if barred:
        told = remote_not_allowed("cloud0")
        found[0] = found[0].model_copy(update={"reason": told.reason, "fix": told.fix})
    assert merge_remote([here, *found[:MAX_LISTED_REMOTES]], REMOTE) == [here, *found[:MAX_LISTED_REMOTES]]
    first, whole = merge_remote([here, *found], REMOTE)
    assert first == here
    assert whole.backend == f"{MAX_LISTED_REMOTES + 1} remote ones"
    assert "need a key" in whole.reason
    assert ("the policy keeps them here" in whole.reason) is barred
    assert ("--remote" in (whole.fix or "")) is barred
