"""The log-probabilities of a text's tokens, in numpy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from llama4sdk.local.windows import Scored
from llama4sdk_onnx.sampling import highest_scores, logsumexp


def score_targets(logits: npt.NDArray[np.float32], targets: Sequence[int], top: int) -> Iterator[Scored]:
    """The log-probability of each row's target, and the ``top`` likeliest tokens there.

    ``logits``: [tokens, vocabulary]; ``targets``: the token that follows each.
    """
    for row, target in zip(logits, targets, strict=True):
        total = logsumexp(row)
        best = highest_scores(row, min(top, len(row)))
        yield Scored(float(row[target] - total), tuple((int(token), float(row[token] - total)) for token in best))
