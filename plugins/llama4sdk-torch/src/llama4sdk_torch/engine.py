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
from llama4sdk.local.scheduler import closed_error
from llama4sdk.local.structured_output import TokenMask
from llama4sdk.local.windows import Scored, Window
from llama4sdk.requests import Pooling, Request
from llama4sdk.weights.checkpoint import Checkpoint
from llama4sdk_torch.loading import memory_errors
from llama4sdk_torch.model import TextModel
from llama4sdk_torch.runner import Networks, TorchRunner
from llama4sdk_torch.sampling import Sampler
from llama4sdk_torch.scoring import score_window
from llama4sdk_torch.vision import VisionModel


class TorchEngine(LocalEngine):
    """Runs a network with PyTorch on one device."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        network: TextModel,
        vision: VisionModel | None = None,
        *,
        model: str,
        context_length: int,
        batch: int = 1,
        meter: MemoryMeter | None = None,
    ) -> None:
        """``batch``: memory is held for caches of so many whole contexts."""
        super().__init__(
            checkpoint,
            backend="torch",
            model=model,
            context_length=context_length,
            vocab_size=network.config.vocab_size,
            vision=None if vision is None else vision.config,
            batch=batch,
            meter=meter,
        )
        self._device = network.device
        self._vocab_size = network.config.vocab_size
        self._networks: Networks | None = Networks(network, vision, self._tokenizer.control.get(PATCH))
        self._start(TorchRunner(self._loaded))

    def _sampler(self, request: Request, prompt: Prompt, mask: TokenMask | None) -> Sampler:
        return Sampler(
            request.sampling,
            self._defaults,
            prompt.ids,
            vocab_size=self._vocab_size,
            device=self._device,
            mask=mask,
        )

    def _vectors(self, texts: Sequence[Sequence[int]], pooling: Pooling) -> npt.NDArray[np.float32]:
        return pooled_states(self._loaded().text, texts, pooling).cpu().numpy()

    def _scored(self, token_ids: Sequence[int], window: Window, top: int) -> Generator[list[Scored]]:
        return score_window(self._loaded().text, token_ids, window, top=top)

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        with memory_errors(self._device):
            yield

    def _free(self) -> None:
        self._networks = None

    def _loaded(self) -> Networks:
        """Raises StreamClosedError once the networks are gone."""
        if self._networks is None:
            raise closed_error()
        return self._networks


@torch.inference_mode()
def pooled_states(network: TextModel, texts: Sequence[Sequence[int]], pooling: Pooling) -> Tensor:
    """One float32 vector per text, [texts, hidden]."""
    caches = [network.new_cache(len(token_ids)) for token_ids in texts]
    tokens = [torch.tensor(token_ids, device=network.device) for token_ids in texts]
    states = network.hidden_of(tokens, caches)  # each [tokens, hidden]
    return torch.stack([state[-1].float() if pooling == "last" else state.float().mean(0) for state in states])
