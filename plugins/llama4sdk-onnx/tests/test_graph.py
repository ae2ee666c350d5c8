"""Fast graphs, held to the native engine on the same weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from llama4sdk_onnx.export.graphs.text import OPSETS, check_opset
from llama4sdk_torch.loading import load_model
from llama4sdk_torch.model import TextModel

from llama4sdk.errors import ConfigurationError
from llama4sdk.quantization import QuantizationConfig
from llama4sdk.weights.checkpoint import Checkpoint

from .exported import assert_near
from .running import Array, export

TOKENS = np.random.default_rng(0).integers(0, 90, (2, 30))
Tiny = Callable[..., Checkpoint]


def native(checkpoint: Checkpoint, quantization: str) -> TextModel:
    """The native engine's network."""
    return load_model(checkpoint, device=torch.device("cpu"), quantization=QuantizationConfig.of(quantization))


def answers(network: TextModel, tokens: npt.ArrayLike) -> tuple[Array, Array]:
    """Its logits and states."""
    ids = torch.tensor(np.array(tokens))
    states = torch.stack([network.hidden(row, network.new_cache(64)) for row in ids])
    return network.logits(states).numpy(), states.numpy()


def off(found: Array, wanted: Array) -> float:
    """The distance of two arrays, of the size of the second."""
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


@pytest.mark.parametrize("flavour", ["scout", "maverick", "llama", "two experts"])
def test_full_precision_is_the_native_engines(tiny: Tiny, tmp_path: Path, flavour: str) -> None:
    """A prompt in blocks that end at borders, then token by token past more borders, gives equal logits and states."""
    checkpoint = tiny(flavour)
    wanted = answers(native(checkpoint, "fp32"), TOKENS[:1])
    sequences = export(checkpoint, tmp_path, "fp32").start()
    steps = [TOKENS[:1, :13], *(TOKENS[:1, at : at + 1] for at in range(13, 30))]
    found = [sequences.feed(step) for step in steps]
    for number in range(2):
        assert_near(np.concatenate([part[number] for part in found], 1), wanted[number])


@pytest.mark.parametrize("flavour", ["scout", "maverick", "llama"])
def test_int4_holds_the_native_engines_values(tiny: Tiny, tmp_path: Path, flavour: str) -> None:
    """Without rounding of activations the codes compute what the native engine's do."""
    checkpoint = tiny(flavour)
    wanted, _ = answers(native(checkpoint, "int4/fp32"), TOKENS[:1])
    found, _ = export(checkpoint, tmp_path, "int4/fp32", accuracy=0).start().feed(TOKENS[:1])
    assert_near(found, wanted)


@pytest.mark.parametrize("quantization", ["int8/fp32", "int4/fp32", "int4-g32/fp32"])
def test_rounded_activations_stay_close(tiny: Tiny, tmp_path: Path, quantization: str) -> None:
    """With activations in 8 bits a dense network differs from the native engine by little."""
    checkpoint = tiny("llama", hidden_size=64, intermediate_size_mlp=64)
    wanted, _ = answers(native(checkpoint, quantization), TOKENS[:1])
    found, _ = export(checkpoint, tmp_path, quantization).start().feed(TOKENS[:1])
    assert 1e-6 < off(found, wanted) < (0.001 if quantization == "int8/fp32" else 0.1)


def test_rows_of_different_lengths_decode_together(tiny: Tiny, tmp_path: Path) -> None:
    """Two prompts in one run, the shorter one padded, then both a token at a time, are as each alone."""
    checkpoint = tiny("scout")
    exported = export(checkpoint, tmp_path, "fp32")
    wanted, _ = answers(native(checkpoint, "fp32"), TOKENS)
    sequences = exported.start(batch=2)
    first, _ = sequences.feed(TOKENS[:, :6], counts=[6, 4])
    assert_near(first[0], wanted[0, :6])
    assert_near(first[1, :4], wanted[1, :4])
    for step in range(12):
        tokens = [[TOKENS[0, 6 + step]], [TOKENS[1, 4 + step]]]
        logits, _ = sequences.feed(tokens)
        assert_near(logits[0, 0], wanted[0, 6 + step])
        assert_near(logits[1, 0], wanted[1, 4 + step])


@pytest.mark.parametrize("kind", ["fast", "portable"])
def test_image_features_take_the_places_of_their_tokens(tiny: Tiny, tmp_path: Path, kind: str) -> None:
    """Where the network sees, the states are those of the features; without images nothing changes."""
    checkpoint = tiny("scout")
    network = native(checkpoint, "fp32")
    exported = export(checkpoint, tmp_path, "fp32", kind=kind, patch_token=91)  # type: ignore[arg-type]
    ids = TOKENS[:1, :7].copy()
    assert_near(exported.start().feed(ids)[0], answers(network, ids)[0])
    ids[0, 2:5] = 91
    features = np.random.default_rng(1).standard_normal((3, 32)).astype(np.float32)
    states = network.embed(torch.tensor(ids[0])).clone()
    states[2:5] = torch.tensor(features)
    wanted = network.logits(network.hidden(states, network.new_cache(64))).numpy()[None]
    assert_near(exported.start().feed(ids, images=features)[0], wanted)


@pytest.mark.parametrize("opset", [OPSETS[0], OPSETS[-1]])
@pytest.mark.parametrize("kind", ["fast", "portable"])
def test_every_opset_gives_the_same(tiny: Tiny, tmp_path: Path, kind: str, opset: int) -> None:
    """The oldest and the newest that can be asked for compute the same, int4 weights included."""
    checkpoint = tiny("maverick")
    wanted, _ = answers(native(checkpoint, "int4/fp32"), TOKENS[:1])
    exported = export(checkpoint, tmp_path, "int4/fp32", kind=kind, opset=opset, accuracy=0)  # type: ignore[arg-type]
    assert_near(exported.start().feed(TOKENS[:1])[0], wanted)


@pytest.mark.parametrize("opset", [0, OPSETS[0] - 1, OPSETS[-1] + 1])
def test_other_opsets_are_refused(opset: int) -> None:
    """An opset no graph can be written in is an error that names those which can be had."""
    with pytest.raises(ConfigurationError, match=str(opset)) as caught:
        check_opset(opset)
    assert str(OPSETS[0]) in str(caught.value.hint)


@pytest.mark.parametrize("kind", ["fast", "portable"])
@pytest.mark.parametrize("scheme", ["int4", "int8"])
def test_quantized_embedding_and_head(tiny: Tiny, tmp_path: Path, kind: str, scheme: str) -> None:
    """Tied matrices in codes serve as embedding and as head."""
    checkpoint = tiny("llama")
    config = f"embedding={scheme},head={scheme},dtype=fp32"
    wanted, _ = answers(native(checkpoint, config), TOKENS[:1])
    exported = export(checkpoint, tmp_path, config, kind=kind, accuracy=0)  # type: ignore[arg-type]
    assert_near(exported.start().feed(TOKENS[:1])[0], wanted)
    assert not (tmp_path / "weights" / "head.bin").stat().st_size > 4096


@pytest.mark.parametrize("kind", ["fast", "portable"])
def test_half_precision(tiny: Tiny, tmp_path: Path, kind: str) -> None:
    """With activations in fp16 a dense network differs from float32 by little."""
    checkpoint = tiny("llama")
    wanted, _ = answers(native(checkpoint, "fp32"), TOKENS[:1])
    exported = export(checkpoint, tmp_path, "fp16", kind=kind)  # type: ignore[arg-type]
    assert off(exported.start().feed(TOKENS[:1])[0], wanted) < 0.01
