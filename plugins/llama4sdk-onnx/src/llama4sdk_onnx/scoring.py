"""The log-probabilities of a text's tokens, in numpy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from llama4sdk.local.windows import Scored

__all__ = ["scored"]


def scored(logits: npt.NDArray[np.float32], targets: Sequence[int], top: int) -> Iterator[Scored]:
    """What each row of ``logits``, [tokens, vocabulary], says of its target, and the ``top`` likeliest there."""
    for row, target in zip(logits, targets, strict=True):
        highest = row.max()
        total = highest + np.log(np.exp(row - highest).sum())
        best = _highest(row, min(top, len(row)))
        yield Scored(float(row[target] - total), tuple((int(token), float(row[token] - total)) for token in best))


def _highest(row: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.int64]:
    """The tokens of the highest scores, highest first."""
    if not count:
        return np.empty(0, np.int64)
    best = np.argpartition(row, -count)[-count:]
    ranked: npt.NDArray[np.int64] = best[np.argsort(-row[best], kind="stable")]
    return ranked
