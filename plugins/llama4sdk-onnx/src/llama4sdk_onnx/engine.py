"""An exported model that answers requests."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from collections.abc import Sequence as Several
from functools import partial

import numpy as np
import numpy.typing as npt

from llama4sdk.llama4.images.canvas import PATCH
from llama4sdk.local.engine import LocalEngine
from llama4sdk.local.input_processor import Prompt
from llama4sdk.local.memory_meter import MemoryMeter
from llama4sdk.local.output_processor import Token
from llama4sdk.local.structured_output import TokenMask
from llama4sdk.local.windows import Scored, Window
from llama4sdk.probe import free_memory
from llama4sdk.requests import Pooling, Request
from llama4sdk_onnx.export_directory import Export
from llama4sdk_onnx.network import TextNetwork
from llama4sdk_onnx.sampling import Sampler
from llama4sdk_onnx.scoring import scored
from llama4sdk_onnx.sessions import open_session, require
from llama4sdk_onnx.vision import VisionNetwork

__all__ = ["OnnxEngine"]


class OnnxEngine(LocalEngine):
    """Steps of requests that are answered at once go through the network together."""

    def __init__(
        self,
        export: Export,
        *,
        model: str,
        context_length: int,
        device: str = "cpu",
        memory_limit: int | None = None,
        threads: int | None = None,
        batch: int = 1,
        request_bytes: int = 0,
        meter: MemoryMeter | None = None,
    ) -> None:
        """``memory_limit`` in bytes bounds what a GPU is asked for; ``threads`` are all cores unless given."""
        super().__init__(
            export,
            backend="onnx",
            model=model,
            context_length=context_length,
            vocab_size=export.config.vocab_size,
            vision=export.vision,
            batch=batch,
            request_bytes=request_bytes,
            meter=meter,
        )
        self._device = device
        require(export.manifest.onnxruntime)
        opened = partial(open_session, device=device, threads=threads, memory_limit=memory_limit)
        session = opened(export.graph)
        self._vision: VisionNetwork | None = None
        if export.vision is not None and export.vision_graph is not None:
            self._vision = VisionNetwork(opened(export.vision_graph), export.vision)
        self._network = TextNetwork(
            session,
            export.manifest,
            context=context_length,
            device=device,
            image_token=self._tokenizer.control.get(PATCH),
        )

    def _tokens(self, request: Request, prompt: Prompt, count: int, guide: TokenMask | None) -> Generator[Token]:
        sampler = Sampler(request.sampling, self._defaults, prompt.ids, self._network.config.vocab_size)
        with self._network.open() as sequence:
            logits = sequence.prefill(prompt.ids, self._features(prompt))
            for left in range(count - 1, -1, -1):
                token = sampler.draw(logits, None if guide is None else guide.allowed())
                if guide is not None:
                    guide.take(token.id)
                yield token
                if not left or (guide is not None and guide.ended):
                    return
                logits = sequence.step(token.id)

    def _vectors(self, texts: Several[Several[int]], pooling: Pooling) -> npt.NDArray[np.float32]:
        vectors = []
        for ids in texts:
            with self._network.open() as sequence:
                states = sequence.hidden(ids)  # [tokens, hidden]
            vectors.append(states[-1] if pooling == "last" else states.mean(0))
        return np.stack(vectors)

    def _scored(self, ids: Several[int], window: Window, top: int) -> Iterator[Scored]:
        begin, at, end = window
        if end - 1 <= begin:
            return
        with self._network.open() as sequence:
            for logits in sequence.logits(ids[begin : end - 1], range(at - 1 - begin, end - 1 - begin)):
                self._check_open()
                yield from scored(logits, ids[at : at + len(logits)], top)
                at += len(logits)
                del logits  # the next are as large

    def _free_memory(self) -> int:
        return free_memory(self._device)

    def _free(self) -> None:
        self._network.close()
        self._vision = None

    def _features(self, prompt: Prompt) -> npt.NDArray[np.floating] | None:
        vision = self._vision
        return None if vision is None or prompt.pixels is None else vision.encode(prompt.pixels)
