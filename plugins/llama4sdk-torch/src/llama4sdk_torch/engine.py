"""A loaded model that answers requests."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from llama4sdk.llama4.images.canvas import PATCH
from llama4sdk.local.engine import LocalEngine
from llama4sdk.local.input_processor import Prompt
from llama4sdk.local.memory_meter import MemoryMeter
from llama4sdk.local.output_processor import Token
from llama4sdk.local.scheduler import engine_closed
from llama4sdk.local.structured_output import TokenMask
from llama4sdk.local.windows import Scored, Window
from llama4sdk.requests import Pooling, Request
from llama4sdk.weights.checkpoint import Checkpoint
from llama4sdk_torch.generation import generate
from llama4sdk_torch.loading import free_memory, memory_errors
from llama4sdk_torch.model import TextModel
from llama4sdk_torch.sampling import Sampler
from llama4sdk_torch.scoring import score_window
from llama4sdk_torch.vision import VisionModel, with_images

__all__ = ["TorchEngine"]


class TorchEngine(LocalEngine):
    """Each request goes through the network for itself, in the thread that reads it."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        network: TextModel,
        vision: VisionModel | None = None,
        *,
        model: str,
        context_length: int,
        batch: int = 1,
        request_bytes: int = 0,
        meter: MemoryMeter | None = None,
    ) -> None:
        super().__init__(
            checkpoint,
            backend="torch",
            model=model,
            context_length=context_length,
            vocab_size=network.config.vocab_size,
            vision=None if vision is None else vision.config,
            batch=batch,
            request_bytes=request_bytes,
            meter=meter,
        )
        self._device = network.device
        self._networks: tuple[TextModel, VisionModel | None] | None = network, vision

    def _tokens(self, request: Request, prompt: Prompt, count: int, guide: TokenMask | None) -> Generator[Token]:
        def sampler(like: Tensor) -> Sampler:
            return Sampler(request.sampling, self._defaults, prompt.ids, like=like)

        # Embedded, a long prompt takes memory: only the network may hold it, until it is read.
        yield from generate(self._open(), self._taken_in(prompt), sampler, count, guide)

    def _vectors(self, texts: Sequence[Sequence[int]], pooling: Pooling) -> npt.NDArray[np.float32]:
        return _pooled(self._open(), texts, pooling).cpu().numpy()

    def _scored(self, ids: Sequence[int], window: Window, top: int) -> Iterator[Scored]:
        return score_window(self._open, ids, window, top=top)

    @contextmanager
    def _working(self) -> Iterator[None]:
        with memory_errors(self._device):
            yield

    def _free_memory(self) -> int:
        return free_memory(self._device)

    def _free(self) -> None:
        self._networks = None

    def _taken_in(self, prompt: Prompt) -> Tensor:
        """The prompt's ids, [1, tokens], or with images what they are embedded as, [1, tokens, hidden]."""
        network, vision = self._loaded()
        tokens = torch.tensor([prompt.ids], device=self._device)
        if vision is None or prompt.pixels is None:
            return tokens
        return with_images(network, vision, tokens, prompt.pixels, self._tokenizer.control[PATCH])

    def _open(self) -> TextModel:
        return self._loaded()[0]

    def _loaded(self) -> tuple[TextModel, VisionModel | None]:
        """The networks. Raises StreamClosedError once they are gone."""
        networks = self._networks
        if networks is None:
            raise engine_closed()
        return networks


@torch.inference_mode()
def _pooled(network: TextModel, texts: Sequence[Sequence[int]], pooling: Pooling) -> Tensor:
    """One float32 vector per text, [texts, hidden]."""
    counts = [len(ids) for ids in texts]
    cache = network.new_cache(max(counts), batch=len(texts))
    tokens = torch.tensor([[*ids] + [0] * (max(counts) - len(ids)) for ids in texts], device=network.device)
    if pooling == "last":
        return network.prefill(tokens, cache, counts).float()
    states = network.hidden(tokens, cache, counts).float()  # [texts, tokens, hidden]
    lengths = torch.tensor(counts, device=network.device).unsqueeze(1)
    real = torch.arange(max(counts), device=network.device) < lengths  # [texts, tokens]
    return (states * real.unsqueeze(-1)).sum(1) / lengths
