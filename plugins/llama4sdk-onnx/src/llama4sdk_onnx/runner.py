"""The exported network as the scheduler runs it: a block of one prompt, or a token of each of many sequences."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from llama4sdk.local import sequence
from llama4sdk.local.sequence import Reservation
from llama4sdk_onnx.network import Features, Row, TextNetwork
from llama4sdk_onnx.text_graph import Floats


@dataclass(eq=False, slots=True)
class SequenceCache:
    """A sequence's row of the caches and, until its prompt is read, its images: [image tokens, hidden]."""

    row: Row
    features: Features | None = None


OnnxSequence: TypeAlias = "sequence.Sequence[SequenceCache, Floats]"


class OnnxRunner:
    """Runs ``network``; ``encode`` makes features of tiles [tiles, 3, side, side], in networks that see."""

    ahead = False

    def __init__(
        self,
        network: TextNetwork,
        *,
        encode: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.floating]] | None = None,
        image_token: int | None = None,
    ) -> None:
        self._network = network
        self._encode = encode
        self._image_token = image_token

    def cache_bytes(self, reservations: Many[Reservation]) -> int:
        """See ``ModelRunner``."""
        return self._network.planned_cache_bytes([reservation.tokens for reservation in reservations])

    def prefill(self, sequence: OnnxSequence) -> Floats | None:
        """See ``ModelRunner``."""
        if sequence.cache is None:
            row = self._network.open()
            sequence.cache = SequenceCache(row)
            if self._encode is not None and sequence.pixels is not None:
                sequence.cache.features = self._encode(sequence.pixels)
        cache, begin = sequence.cache, sequence.num_cached
        end = begin + self._network.next_block(cache.row, len(sequence.token_ids) - begin)
        features = None
        if cache.features is not None and self._image_token is not None:
            first, last = (sequence.token_ids[:position].count(self._image_token) for position in (begin, end))
            features = cache.features[first:last]
        last_block = end == len(sequence.token_ids)
        logits = self._network.prefill_block(cache.row, sequence.token_ids[begin:end], features, last=last_block)
        sequence.num_cached = end
        if last_block:
            cache.features = None
        return logits

    def decode(self, sequences: Many[OnnxSequence]) -> Many[Floats]:
        """See ``ModelRunner``."""
        rows = [sequence.cache.row for sequence in sequences if sequence.cache is not None]
        return self._network.step(rows, [sequence.token_ids[-1] for sequence in sequences])

    def free(self, sequence: OnnxSequence) -> None:
        """See ``ModelRunner``."""
        if sequence.cache is not None:
            sequence.cache.row.close()
            sequence.cache = None
