"""Small random networks, exported and in the native engine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from llama4sdk_onnx.manifest import Manifest
from llama4sdk_onnx.network import TextNetwork
from llama4sdk_onnx.sessions import open_session
from llama4sdk_torch.loading import load_model
from llama4sdk_torch.model import TextModel

from llama4sdk.quantization import QuantizationConfig
from llama4sdk.weights.opening import open_checkpoint

from .exported import reference
from .running import export

Floats = npt.NDArray[np.float32]

#: The token whose places image features take.
PATCH = 91


@dataclass(frozen=True)
class Tiny:
    """One network twice."""

    native: TextModel
    manifest: Manifest
    folder: Path

    def network(self, context: int = 64) -> TextNetwork:
        """The exported one, with caches of its own."""
        session = open_session(self.folder / "model.onnx", threads=1)
        return TextNetwork(session, self.manifest, context=context, image_token=PATCH)

    def states(self, ids: npt.ArrayLike, features: Floats | None = None) -> Floats:
        """The native engine's states of a text: [tokens, hidden]."""
        tokens = torch.tensor(np.asarray(ids))
        inputs = self.native.embed(tokens).clone()
        if features is not None:
            inputs[tokens == PATCH] = torch.from_numpy(features)
        found: Floats = self.native.hidden(inputs, self.native.new_cache(len(tokens))).numpy()
        return found

    def logits(self, ids: npt.ArrayLike, features: Floats | None = None) -> Floats:
        """The native engine's after each token, [tokens, vocabulary]."""
        found: Floats = self.native.logits(torch.from_numpy(self.states(ids, features))).numpy()
        return found


def tiny(folder: Path, kind: str, *, sees: bool = False) -> Tiny:
    """A ``scout`` with chunks of 8 tokens, a ``maverick`` with some layers dense, or a ``llama`` without chunks."""
    ours = reference()
    llama = {"no_rope_layers": [1] * 4, "layer_types": ["full_attention"] * 4, "moe_layers": [], "use_qk_norm": False}
    like = {"scout": ours.SCOUT_LIKE, "maverick": ours.MAVERICK_LIKE, "llama": llama}[kind]
    ours.tiny_model(**like, head_dim=16, max_position_embeddings=1024).save_pretrained(folder)
    checkpoint = open_checkpoint(folder)
    export(checkpoint, folder, "fp32", patch_token=PATCH if sees else None)
    manifest = Manifest(
        made_by="tests",
        model=kind,
        source=kind,
        kind="fast",
        opset=21,
        onnxruntime="1.31",
        quantization=QuantizationConfig.of("fp32"),
        config=checkpoint.config,
        stop_ids=(),
        temperature=1.0,
        top_p=1.0,
        files={},
    )
    return Tiny(load_model(checkpoint, device=torch.device("cpu"), dtype=torch.float32), manifest, folder)
