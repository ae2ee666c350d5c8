"""The engine's minimal conformance, point by point as the project's Llama 4 specification numbers it (section 14).

``test_1_`` to ``test_7_`` are its seven points; what follows them are the same equations far from the beginning.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from llama4sdk_torch.loading import load_model, load_vision
from llama4sdk_torch.model import Dense, Mixture, TextModel, _rotate
from llama4sdk_torch.vision import replace_patches
from PIL import Image

from llama4sdk.catalog.models import MAVERICK, SCOUT, ModelSpec
from llama4sdk.llama4.images.canvas import IMAGE, PATCH, choose_canvas, image_tokens
from llama4sdk.llama4.sizes import weight_bytes
from llama4sdk.local.input_processor import ImagePrompts
from llama4sdk.messages import ImagePart
from llama4sdk.plan import Quantization
from llama4sdk.weights.opening import open_checkpoint

from . import equations
from .numeric import assert_near
from .reference import MAVERICK_LIKE, SCOUT_LIKE, full_size_model, tiny_seeing_model, tiny_vision

SaveTiny = Callable[..., tuple[Path, torch.nn.Module]]
CPU = torch.device("cpu")


def _network(save_tiny: SaveTiny, **overrides: object) -> TextModel:
    folder, _ = save_tiny(**overrides)
    return load_model(open_checkpoint(folder), device=CPU, dtype=torch.float32)


def _tokens(count: int) -> torch.Tensor:
    return torch.randint(0, 96, (count,), generator=torch.Generator().manual_seed(count))


def _logits(network: TextModel, tokens: torch.Tensor, sizes: list[int], *, origin: int = 0) -> torch.Tensor:
    cache = network.new_cache(len(tokens), origin=origin)
    return torch.cat([network.logits(network.hidden(part, cache)) for part in tokens.split(sizes)])


@pytest.mark.parametrize("flavour", [SCOUT_LIKE, MAVERICK_LIKE], ids=["scout", "maverick"])
@torch.inference_mode()
def test_1_full_ragged_and_single_equal_the_equations(save_tiny: SaveTiny, flavour: dict[str, object]) -> None:
    """14.1: chunk 8, floor 4, 8 layers: prefill, ragged blocks and single tokens agree with the equations."""
    network = _network(save_tiny, **flavour, num_hidden_layers=8)
    tokens = _tokens(30)
    exact = equations.logits(network.config, network.weights, tokens)
    for sizes in ([30], [5, 1, 7, 10, 1, 6], [1] * 30):
        assert_near(_logits(network, tokens, sizes), exact)


def test_2_chunks_are_isolated_in_rotated_layers_only(save_tiny: SaveTiny) -> None:
    """14.2: a token changed in chunk 0 changes nothing in chunk 1 without NoPE layers, and does change it with one."""
    tokens = _tokens(16)
    other = tokens.clone()
    other[3] = (other[3] + 1) % 96
    for flags, isolated in (([1, 1, 1, 1], True), ([1, 0, 1, 1], False)):
        network = _network(save_tiny, **MAVERICK_LIKE, no_rope_layers=flags)
        for sizes in ([16], [1] * 16):
            one, two = (_logits(network, t, sizes) for t in (tokens, other))
            assert torch.equal(one[8:], two[8:]) is isolated
            assert not torch.equal(one[3:8], two[3:8])


@torch.inference_mode()
def test_3_the_router_scales_inputs() -> None:
    """14.3: the mixture is the chosen expert on the scaled input, plus the shared one; a scaled output differs."""
    dice = torch.Generator().manual_seed(3)
    router, gate_up, down = (torch.randn(*s, generator=dice) for s in ((4, 8), (4, 12, 8), (4, 8, 6)))
    shared = Dense(gate_up=torch.randn(12, 8, generator=dice), down=torch.randn(8, 6, generator=dice))
    mixture = Mixture(router=router, gate_up=gate_up, down=down, shared=shared, experts_per_token=1)
    for token in torch.randn(9, 8, generator=dice):
        score, chosen = (router @ token).max(dim=0)
        expert = Dense(gate_up=gate_up[chosen], down=down[chosen])
        actual = mixture(token.view(1, 8))[0]
        assert_near(actual, shared(token) + expert(token * score.sigmoid()))
        assert not torch.allclose(actual, shared(token) + expert(token) * score.sigmoid(), atol=1e-3)


def test_4_temperature_begins_with_the_8192nd_token(save_tiny: SaveTiny) -> None:
    """14.4: with the published floor, tuning changes nothing up to 8191 tokens, and position 8191 differs."""
    rules = {"num_hidden_layers": 1, "no_rope_layers": [0], "attention_chunk_size": 8192, "floor_scale": 8192}
    tuned, plain = (_network(save_tiny, **MAVERICK_LIKE, **rules, attn_temperature_tuning=on) for on in (True, False))
    tokens = _tokens(8193)
    on, off = (_logits(network, tokens, [8190, 1, 1, 1]) for network in (tuned, plain))
    assert torch.equal(on[:8191], off[:8191])
    assert not torch.allclose(on[8191], off[8191], atol=1e-6)
    assert not torch.allclose(on[8192], off[8192], atol=1e-6)


@torch.inference_mode()
def test_5_an_image_takes_147_or_145n_and_147_tokens(tmp_path: Path) -> None:
    """14.5: one tile takes 147 tokens, n of them 145 n + 147, and 144 vectors for every tile go where the patches are.

    The network is small, but its tiles have 24 x 24 patches, and so 144 tokens, as Llama 4's have.
    """
    tiny_seeing_model(tiny_vision(grid=24, patch=1, layers=1), **SCOUT_LIKE).save_pretrained(tmp_path)
    checkpoint = open_checkpoint(tmp_path)
    network = load_model(checkpoint, device=CPU, dtype=torch.float32)
    vision = load_vision(checkpoint, device=CPU, dtype=torch.float32)
    assert vision is not None
    side = vision.config.tile_size
    names = dict.fromkeys(image_tokens(choose_canvas(2 * side, 2 * side, tile=side), 1))
    prompts = ImagePrompts(vision.config, {name: 80 + number for number, name in enumerate(names)})
    patch = 80 + list(names).index(PATCH)
    for rows, columns in ((1, 1), (1, 2), (2, 2), (2, 3), (4, 4), (1, 16)):
        picture = ImagePart.from_pil(Image.new("RGB", (columns * side, rows * side), (200, 100, 0)))
        prompt = prompts.prompt([1, 80 + list(names).index(IMAGE), 2], [picture])
        tiles = rows * columns
        assert len(prompt.ids) - 2 == (147 if tiles == 1 else 145 * tiles + 147)
        assert prompt.pixels is not None
        features = vision.encode(torch.from_numpy(prompt.pixels))
        assert len(features) == 144 * (tiles if tiles == 1 else tiles + 1)
        tokens = torch.tensor(prompt.ids)
        plain = network.embed(tokens)
        vectors = replace_patches(network.embed(tokens), tokens, features, patch)
        places = tokens == patch
        assert torch.equal(vectors[places], features)
        assert torch.equal(vectors[~places], plain[~places])


def test_6_pairs_are_adjacent(save_tiny: SaveTiny) -> None:
    """14.6: a hand-made query turns in its adjacent pairs, (0, 1) by the position in radians and (2, 3) by less.

    (Fused and separate experts loading alike is ``test_apart_and_fused_experts_load_alike``.)
    """
    rope = {"rope_type": "default", "rope_theta": 100.0}
    network = _network(save_tiny, **MAVERICK_LIKE, head_dim=4, rope_parameters=rope)
    q = torch.tensor([1.0, 0.0, 0.0, 2.0]).view(1, 1, 4)
    angles = torch.tensor([3.0, 0.3])  # at position 3; 100 ** (-2 / 4) = 0.1
    expected = [angles[0].cos(), angles[0].sin(), -2 * angles[1].sin(), 2 * angles[1].cos()]
    torch.testing.assert_close(
        _rotate(q, network._rotation(torch.tensor([3]), far=False)).flatten(), torch.stack(expected)
    )


@pytest.mark.parametrize(
    ("spec", "tensors", "bf16", "fp8", "int4"),
    [
        (SCOUT, 1133, 217_283_587_072, 111_659_674_624, 60_390_403_072),
        (MAVERICK, 1061, 803_167_562_752, 404_813_212_672, 211_456_125_952),
    ],
    ids=["scout", "maverick"],
)
def test_7_model_bytes_equal_section_5_4(spec: ModelSpec, tensors: int, bf16: int, fp8: int, int4: int) -> None:
    """14.7: the published network, built by transformers without memory, has section 5.4's bytes; so has the catalogue.

    What else a file has is its header: see ``test_7_a_file_is_its_weights_and_a_header``.
    """
    state = full_size_model(spec).state_dict()
    assert len(state) == tensors
    assert sum(tensor.numel() * 2 for tensor in state.values()) == bf16 == spec.weight_bytes(Quantization.BF16)
    assert spec.weight_bytes(Quantization.FP8) == fp8
    assert spec.weight_bytes(Quantization.INT4) == int4


@pytest.mark.parametrize("flavour", [SCOUT_LIKE, MAVERICK_LIKE], ids=["scout", "maverick"])
def test_7_a_file_is_its_weights_and_a_header(save_tiny: SaveTiny, flavour: dict[str, object]) -> None:
    """14.7: on disk a network takes the bytes that its shape says, and safetensors' header besides."""
    folder, model = save_tiny(**flavour)
    model.to(torch.bfloat16).save_pretrained(folder)
    checkpoint, file = open_checkpoint(folder), folder / "model.safetensors"
    expected = weight_bytes(checkpoint.config, Quantization.BF16)
    header = 8 + int.from_bytes(file.read_bytes()[:8], "little")
    assert sum(tensor.nbytes for tensor in checkpoint.tensors.values()) == expected == file.stat().st_size - header


@pytest.mark.parametrize("flavour", [SCOUT_LIKE, MAVERICK_LIKE], ids=["scout", "maverick"])
@pytest.mark.parametrize(("chunk", "floor"), [(8192, 8192), (8, 4)])
@torch.inference_mode()
def test_ten_million_tokens_on_nothing_decays(
    save_tiny: SaveTiny, flavour: dict[str, object], chunk: int, floor: int
) -> None:
    """Behind 10M tokens logits still equal the float64 equations: rotation counts from the chunk's beginning.

    No table as long as the context is needed, and the cache takes what the tokens at hand need.
    """
    rules = {"attention_chunk_size": chunk, "floor_scale": floor, "max_position_embeddings": 10_485_760}
    network = _network(save_tiny, **(flavour | rules))
    assert network.config.max_context == 10_485_760
    origin, tokens = 10_485_760 - 8192, _tokens(60)
    exact = equations.logits(network.config, network.weights, tokens, origin=origin)
    for sizes in ([60], [1] * 60):
        assert_near(_logits(network, tokens, sizes, origin=origin), exact)
    assert (exact - equations.logits(network.config, network.weights, tokens)).abs().max() > 1e-3  # the temperature


def test_the_temperature_is_exact_at_any_position(save_tiny: SaveTiny) -> None:
    """Every step up to 10M tokens begins at its position, not one earlier or later, for odd floors too."""
    for floor in (8192, 8191, 3000):
        network = _network(save_tiny, **MAVERICK_LIKE, floor_scale=floor)
        steps = torch.arange(1, 10_485_760 // floor) * floor
        positions = torch.cat([steps - 2, steps - 1, steps])
        actual = network._temperature_at(positions)
        assert_near(actual, equations.temperature(network.config, positions))


@pytest.mark.parametrize("flavour", [SCOUT_LIKE, MAVERICK_LIKE], ids=["scout", "maverick"])
@pytest.mark.parametrize("start", [8192, 131_000, 999_950, 10_485_000])
def test_angles_are_exact_at_a_million(save_tiny: SaveTiny, flavour: dict[str, object], start: int) -> None:
    """Layers that rotate without chunks turn by the exact angle however far: float32's would be visibly wrong."""
    rules = {"attention_chunk_size": 64, "layer_types": ["full_attention"] * 4, "no_rope_layers": [1] * 4}
    network = _network(save_tiny, **flavour, **rules, head_dim=128)
    positions = torch.arange(start, start + 4)
    rotation = network._rotation(positions, far=True)
    x = torch.randn(4, 1, 128, generator=torch.Generator().manual_seed(5))
    exact = equations.rotate(x.double(), torch.arange(start, start + 4), network.config)
    assert_near(_rotate(x, rotation), exact)
    rounded = _rotate(x, network._rotation(positions, far=False))
    assert (rounded.double() - exact).abs().max() > 1e-4


def test_angles_depend_on_the_position_alone(save_tiny: SaveTiny) -> None:
    """A token before position 8192 turns alike whether or not it is read together with those beyond."""
    network = _network(save_tiny, **MAVERICK_LIKE)
    positions = torch.arange(8100, 8300)
    together, near = (network._rotation(positions, far=far) for far in (True, False))
    assert_near(torch.view_as_real(together[:92]), torch.view_as_real(near[:92]))
    assert (together[92:] - near[92:]).abs().max() > 1e-5
