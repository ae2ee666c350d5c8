"""The network as the scheduler runs it: a block of one prompt, or a token of each of many sequences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from llama4sdk.capacity.torch_memory import cache_room
from llama4sdk.llama4.sizes import kv_cache_bytes
from llama4sdk.local import sequence
from llama4sdk.local.sequence import Reservation
from llama4sdk_torch.cache import KVCache
from llama4sdk_torch.model import Segment, TextModel
from llama4sdk_torch.sampling import Draw
from llama4sdk_torch.vision import VisionModel, replace_patches


@dataclass(frozen=True, slots=True)
class Networks:
    """A text network and, for models that see, the vision network and the token that image features replace."""

    text: TextModel
    vision: VisionModel | None = None
    patch_token: int | None = None


@dataclass(eq=False, slots=True)
class SequenceCache:
    """A sequence's keys and values and, until its prompt is read, its images: [patch tokens, hidden]."""

    kv: KVCache
    features: Tensor | None = None


TorchSequence: TypeAlias = "sequence.Sequence[SequenceCache, Tensor]"


class TorchRunner:
    """Runs the networks that ``networks`` gives, which raises StreamClosedError once they are gone.

    ``ahead``: the next step is launched before the last one's tokens are read, so that an accelerator never waits for
    the host. On the CPU, where the two are one, no step begins that may not be wanted.
    """

    def __init__(self, networks: Callable[[], Networks], *, ahead: bool | None = None) -> None:
        text = networks().text
        self.ahead = text.device.type != "cpu" if ahead is None else ahead
        self._networks = networks
        self._config = text.config
        self._value_bytes = text.dtype.itemsize
        self._bytes_of_room: dict[int, int] = {}

    def cache_bytes(self, reservations: Sequence[Reservation]) -> int:
        """See ``ModelRunner``. Each sequence has a cache of its own."""
        return sum(self._bytes_of(cache_room(entry.tokens, entry.capacity)) for entry in reservations)

    @torch.inference_mode()
    def prefill(self, sequence: TorchSequence) -> Tensor | None:
        """See ``ModelRunner``."""
        networks = self._networks()
        if sequence.cache is None:
            sequence.cache = self._new_cache(networks, sequence)
        cache, begin = sequence.cache, sequence.num_cached
        end = begin + cache.kv.next_block(len(sequence.token_ids) - begin)
        tokens = torch.tensor(sequence.token_ids[begin:end], device=networks.text.device)
        inputs = tokens
        if cache.features is not None and networks.patch_token is not None:
            before = sequence.token_ids[:begin].count(networks.patch_token)
            inputs = replace_patches(networks.text.embed(tokens), tokens, cache.features[before:], networks.patch_token)
        state = networks.text.forward(inputs, [Segment(cache.kv, end - begin)])[-1]
        sequence.num_cached = end
        if end < len(sequence.token_ids):
            return None
        cache.features = None
        return networks.text.logits(state)

    def decode(self, sequences: Sequence[TorchSequence]) -> Sequence[Tensor]:
        """See ``ModelRunner``."""
        network = self._networks().text
        segments = [Segment(sequence.cache.kv, 1) for sequence in sequences if sequence.cache is not None]
        states = network.forward(self._last_tokens(sequences, network.device), segments)
        return network.logits(states).unbind()

    def free(self, sequence: TorchSequence) -> None:
        """See ``ModelRunner``."""
        sequence.cache = None

    def _last_tokens(self, sequences: Sequence[TorchSequence], device: torch.device) -> Tensor:
        """[sequences], those that were drawn ahead as they lie on the device."""
        draws = [sequence.pending for sequence in sequences]
        if any(isinstance(draw, Draw) for draw in draws):
            return torch.cat([draw.tokens for draw in draws if isinstance(draw, Draw)])
        return torch.tensor([sequence.token_ids[-1] for sequence in sequences], device=device)

    def _new_cache(self, networks: Networks, sequence: TorchSequence) -> SequenceCache:
        kv = networks.text.new_cache(sequence.capacity)
        if networks.vision is None or sequence.pixels is None:
            return SequenceCache(kv)
        return SequenceCache(kv, networks.vision.encode(torch.from_numpy(sequence.pixels)))

    def _bytes_of(self, room: int) -> int:
        if room not in self._bytes_of_room:
            size = kv_cache_bytes(self._config, room, value_bytes=self._value_bytes, chunk_aware=True)
            self._bytes_of_room[room] = size
        return self._bytes_of_room[room]
