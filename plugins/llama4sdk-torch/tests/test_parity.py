"""The same numbers as transformers' Llama 4 class, on random networks and on the demo model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from llama4sdk_torch.loading import load_model
from llama4sdk_torch.model import Dense, Mixture, TextModel
from transformers import Llama4ForCausalLM

from llama4sdk.messages import Message
from llama4sdk.weights.checkpoint import Checkpoint
from llama4sdk.weights.opening import open_checkpoint

from .numeric import assert_near, logits_of_rows, new_caches
from .reference import MAVERICK_LIKE, SCOUT_LIKE, transformers_twin

CPU = torch.device("cpu")
#: Nearly four chunks of 8, seven temperature steps of 4.
TOKENS = 30

PROMPTS = (
    "What is the capital of France?",
    "Write a haiku about the sea.",
    "Explain gravity to a child.",
    "List three prime numbers.",
    "Translate 'good morning' into French.",
    "Who wrote Hamlet?",
    "What is 12 + 30?",
    "Name a mammal that can fly.",
    "Give me a recipe for pancakes.",
    "Why is the sky blue?",
    "Summarise the story of Cinderella.",
    "What does HTTP stand for?",
    "Write a Python function that adds two numbers.",
    "How many days are in a leap year?",
    "Suggest a name for a llama.",
    "What is photosynthesis?",
    "Is 17 a prime number? Say why.",
    "Schreibe einen Satz über Berge.",
    "日本の首都を教えてください。",
    "Tell me a joke with an emoji 🦙.",
)


def _logits(network: TextModel, tokens: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    return logits_of_rows(network, tokens, sizes)


@pytest.mark.parametrize("sizes", [[TOKENS], [5, 1, 7, 10, 1, 6], [1] * TOKENS], ids=["whole", "ragged", "single"])
def test_random_networks_equal_transformers(tiny: tuple[TextModel, torch.nn.Module], sizes: list[int]) -> None:
    """Read at once, in ragged blocks or token by token, logits agree across chunks and temperature steps."""
    ours, theirs = tiny
    tokens = torch.randint(0, 96, (2, TOKENS), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = theirs(tokens).logits
    assert_near(_logits(ours, tokens, sizes), expected)


@pytest.mark.parametrize(
    "overrides",
    [
        MAVERICK_LIKE | {"num_experts_per_tok": 2},
        MAVERICK_LIKE | {"attention_chunk_size": 64, "layer_types": ["full_attention"] * 4, "no_rope_layers": [1] * 4},
        SCOUT_LIKE | {"attn_temperature_tuning": False, "tie_word_embeddings": True},
    ],
    ids=["two-experts", "no-chunks", "no-temperature"],
)
def test_variants_equal_transformers(
    save_tiny: Callable[..., tuple[Path, torch.nn.Module]], overrides: dict[str, object]
) -> None:
    """Two experts per token, full attention everywhere, no temperature, tied embeddings: each agrees."""
    folder, theirs = save_tiny(**overrides)
    ours = load_model(open_checkpoint(folder), device=CPU, dtype=torch.float32)
    tokens = torch.randint(0, 96, (1, TOKENS), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = theirs(tokens).logits
    assert_near(_logits(ours, tokens, [TOKENS]), expected)


def test_transformers_tunes_by_padded_positions(tiny: tuple[TextModel, torch.nn.Module]) -> None:
    """Of a left-padded row transformers takes the temperature as if padding were tokens, whatever ``position_ids`` say.

    So it gives, exactly, the logits of the row that begins one chunk further on, and not those of the row alone; our
    rows of unequal length have the latter.
    """
    ours, theirs = tiny
    row = torch.randint(0, 96, (1, 20), generator=torch.Generator().manual_seed(3))
    padded, mask = torch.nn.functional.pad(row, (8, 0)), torch.tensor([[0] * 8 + [1] * 20])
    with torch.no_grad():
        alone = theirs(row).logits
        left_padded = theirs(padded, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0)).logits[:, 8:]
    shifted = ours.logits(ours.hidden(row[0], ours.new_cache(20, origin=8)).unsqueeze(0))
    assert_near(left_padded, shifted)
    assert (left_padded - alone).abs().max() > 1e-2
    longer = torch.cat([row, row[:, :8]], dim=1)
    _, shorter = ours.hidden_of([longer[0], row[0]], new_caches(ours, 2, 28))
    assert_near(ours.logits(shorter), alone[0])


def test_bf16_follows_float32(save_tiny: Callable[..., tuple[Path, torch.nn.Module]]) -> None:
    """In bf16 the network runs as a whole, and its logits stay near those in float32."""
    folder, _ = save_tiny(**MAVERICK_LIKE)
    exact, rounded = (
        load_model(open_checkpoint(folder), device=CPU, dtype=dtype) for dtype in (torch.float32, torch.bfloat16)
    )
    tokens = torch.arange(TOKENS).unsqueeze(0)
    one, other = _logits(exact, tokens, [TOKENS]), _logits(rounded, tokens, [TOKENS])
    assert rounded.dtype is torch.bfloat16
    assert torch.nn.functional.cosine_similarity(one, other, dim=-1).min() > 0.99


def test_rotated_layers_cannot_see_past_their_chunk(save_tiny: Callable[..., tuple[Path, torch.nn.Module]]) -> None:
    """Without global layers, a token of the first chunk changes nothing in the second."""
    folder, _ = save_tiny(**MAVERICK_LIKE, no_rope_layers=[1] * 4)
    network = load_model(open_checkpoint(folder), device=CPU, dtype=torch.float32)
    tokens = torch.arange(16).unsqueeze(0)
    other = tokens.clone()
    other[0, 3] = 90
    one, two = _logits(network, tokens, [16]), _logits(network, other, [16])
    torch.testing.assert_close(one[:, 8:], two[:, 8:], atol=0, rtol=0)
    assert not torch.equal(one[:, 3:8], two[:, 3:8])


def test_global_layers_see_everything(tiny: tuple[TextModel, torch.nn.Module]) -> None:
    """With global layers, a token of the first chunk does change the second."""
    network, _ = tiny
    tokens = torch.arange(16).unsqueeze(0)
    other = tokens.clone()
    other[0, 3] = 90
    assert not torch.equal(_logits(network, tokens, [16])[:, 8:], _logits(network, other, [16])[:, 8:])


@torch.inference_mode()
def test_the_score_scales_an_experts_input() -> None:
    """A mixture is the shared expert on the token, plus the chosen expert on the token times its score."""
    dice = torch.Generator().manual_seed(3)
    router, gate_up, down = (torch.randn(*s, generator=dice) for s in ((4, 8), (4, 12, 8), (4, 8, 6)))
    shared = Dense(gate_up=torch.randn(12, 8, generator=dice), down=torch.randn(8, 6, generator=dice))
    mixture = Mixture(router=router, gate_up=gate_up, down=down, shared=shared, experts_per_token=1)
    tokens = torch.randn(5, 8, generator=dice)
    for n, token in enumerate(tokens):
        scores = router @ token
        chosen = int(scores.argmax())
        expert = Dense(gate_up=gate_up[chosen], down=down[chosen])
        expected = shared(token) + expert(token * scores[chosen].sigmoid())
        assert_near(mixture(tokens)[n], expected)


@torch.inference_mode()
def test_both_ways_to_route_agree() -> None:
    """Grouping tokens by expert and fetching each token's expert give one result."""
    dice = torch.Generator().manual_seed(4)
    shared = Dense(gate_up=torch.zeros(12, 8), down=torch.zeros(8, 6))
    weights = [torch.randn(*s, generator=dice) for s in ((4, 8), (4, 12, 8), (4, 8, 6))]
    mixture = Mixture(router=weights[0], gate_up=weights[1], down=weights[2], shared=shared, experts_per_token=2)
    inputs = torch.randn(7, 2, 8, generator=dice)
    experts = torch.randint(0, 4, (7, 2), generator=dice)
    torch.testing.assert_close(mixture.grouped(inputs, experts), mixture.gathered(inputs, experts))


def test_apart_and_fused_experts_load_alike(
    save_tiny: Callable[..., tuple[Path, torch.nn.Module]], tmp_path: Path
) -> None:
    """Experts stored each for themselves, [out, in], make the same network as fused ones, [experts, in, out]."""
    from safetensors.torch import load_file, save_file

    folder, _ = save_tiny(**MAVERICK_LIKE)
    parted: dict[str, torch.Tensor] = {}
    for name, values in load_file(folder / "model.safetensors").items():
        prefix, _, kind = name.rpartition(".")
        if kind not in ("gate_up_proj", "down_proj"):
            parted[name] = values
            continue
        for expert, matrix in enumerate(values):
            names = ["down_proj"] if kind == "down_proj" else ["gate_proj", "up_proj"]
            for part, half in zip(names, matrix.chunk(len(names), dim=1), strict=True):
                parted[f"{prefix}.{expert}.{part}.weight"] = half.T.contiguous()
    save_file(parted, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    fused, apart = (load_model(open_checkpoint(p), device=CPU, dtype=torch.float32) for p in (folder, tmp_path))
    tokens = torch.arange(TOKENS).unsqueeze(0)
    torch.testing.assert_close(_logits(fused, tokens, [TOKENS]), _logits(apart, tokens, [TOKENS]), atol=0, rtol=0)


@pytest.fixture(scope="module")
def twin(demo: Checkpoint) -> Llama4ForCausalLM:
    """The demo model's weights in transformers' class."""
    return transformers_twin(demo)


@pytest.mark.parametrize("prompt", PROMPTS)
@torch.inference_mode()
def test_the_demo_model_takes_the_tokens_transformers_takes(
    demo: Checkpoint, demo_network: TextModel, twin: Llama4ForCausalLM, prompt: str
) -> None:
    """Each of 64 greedy tokens is the one transformers finds likeliest there; logits agree.

    By induction this is transformers' own greedy answer, for one of its passes instead of 64. Answers run on past
    their end, so that every prompt counts 64 tokens.
    """
    ids = _chat(demo, prompt)
    answer = _greedy(demo_network, ids, 64, stop_ids=frozenset())
    assert len(answer) == 64
    whole = torch.cat([ids, torch.tensor([answer])], dim=1)
    theirs = twin(whole).logits
    assert theirs[0, ids.shape[1] - 1 : -1].argmax(-1).tolist() == answer
    assert_near(_logits(demo_network, whole, [whole.shape[1]]), theirs)


@torch.inference_mode()
def test_the_demo_model_answers_as_transformers_generate(
    demo: Checkpoint, demo_network: TextModel, twin: Llama4ForCausalLM
) -> None:
    """The answer is also that of ``generate``, with transformers' own cache."""
    ids = _chat(demo, PROMPTS[0])
    expected = twin.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=64, do_sample=False)
    assert _greedy(demo_network, ids, 64, demo.stop_ids) == expected[0, ids.shape[1] :].tolist()


def _chat(demo: Checkpoint, prompt: str) -> torch.Tensor:
    template = demo.chat_template()
    assert template is not None
    return torch.tensor([demo.tokenizer().encode_chat(template, [Message(role="user", content=prompt)])])


def _greedy(network: TextModel, prompt: torch.Tensor, count: int, stop_ids: frozenset[int]) -> list[int]:
    cache = network.new_cache(prompt.shape[1] + count)
    tokens: list[int] = []
    step = prompt[0]
    while len(tokens) < count and not stop_ids.intersection(tokens[-1:]):
        step = network.logits(network.prefill(step, cache)).argmax(-1, keepdim=True)
        tokens.append(int(step))
    return tokens
