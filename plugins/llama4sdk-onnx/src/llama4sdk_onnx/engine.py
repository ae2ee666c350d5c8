"""An exported model that answers requests."""

from __future__ import annotations

from collections.abc import Generator
from collections.abc import Sequence as Several
from functools import partial

import numpy as np
import numpy.typing as npt

from llama4sdk.llama4.images.canvas import PATCH
from llama4sdk.local.engine import LocalEngine
from llama4sdk.local.input_processor import Prompt
from llama4sdk.local.memory_meter import MemoryMeter
from llama4sdk.local.structured_output import TokenMask
from llama4sdk.local.windows import Scored, Window
from llama4sdk.requests import Pooling, Request
from llama4sdk_onnx.export_directory import Export
from llama4sdk_onnx.network import TextNetwork
from llama4sdk_onnx.runner import OnnxRunner
from llama4sdk_onnx.sampling import Sampler
from llama4sdk_onnx.scoring import score_targets
from llama4sdk_onnx.sessions import open_session, require_version
from llama4sdk_onnx.vision import VisionNetwork


class OnnxEngine(LocalEngine):
    """Runs an export with ONNX Runtime on one device."""

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
            meter=meter,
        )
        require_version(export.manifest.onnxruntime)
        opened = partial(open_session, device=device, threads=threads, memory_limit=memory_limit)
        session = opened(export.graph)
        vision: VisionNetwork | None = None
        if export.vision is not None and export.vision_graph is not None:
            vision = VisionNetwork(opened(export.vision_graph), export.vision)
        image_token = self._tokenizer.control.get(PATCH)
        self._network = TextNetwork(
            session, export.manifest, context=context_length, device=device, image_token=image_token
        )
        encode = None if vision is None else vision.encode
        self._start(OnnxRunner(self._network, encode=encode, image_token=image_token))

    def _sampler(self, request: Request, prompt: Prompt, mask: TokenMask | None) -> Sampler:
        return Sampler(request.sampling, self._defaults, prompt.ids, self._network.config.vocab_size, mask=mask)

    def _vectors(self, texts: Several[Several[int]], pooling: Pooling) -> npt.NDArray[np.float32]:
        vectors = []
        for token_ids in texts:
            with self._network.open() as row:
                states = row.hidden(token_ids)  # [tokens, hidden]
            vectors.append(states[-1] if pooling == "last" else states.mean(0))
        return np.stack(vectors)

    def _scored(self, token_ids: Several[int], window: Window, top: int) -> Generator[list[Scored]]:
        begin, first, end = window
        if end - 1 <= begin:
            return
        with self._network.open() as row:
            wanted = range(first - 1 - begin, end - 1 - begin)
            for logits in row.logits(token_ids[begin : end - 1], wanted):
                yield list(score_targets(logits, token_ids[first : first + len(logits)], top))
                first += len(logits)
                del logits  # the next are as large

    def _stop(self) -> None:
        self._network.stop()

    def _free(self) -> None:
        self._network.close()
