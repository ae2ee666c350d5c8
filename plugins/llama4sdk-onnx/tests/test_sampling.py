"""Drawing tokens in numpy: the native engine's distributions, and fair dice."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest
import torch
from llama4sdk_onnx.sampling import Sampler
from llama4sdk_torch.sampling import Sampler as NativeSampler

from llama4sdk.local.structured_output import TokenMask
from llama4sdk.requests import SamplingParams
from llama4sdk.weights.checkpoint import GenerationDefaults

from .exported import assert_near

Floats = npt.NDArray[np.float32]

SIZE = 3000
CPU = torch.device("cpu")
#: From scores that are nearly equal to a few that have it all.
SPREADS = [0.01, 4.0, 12.0, 200.0]

RULES: list[dict[str, float]] = [
    {"top_p": 0.9},
    {"top_p": 0.999},
    {"top_p": 1e-9},
    {"top_k": 1},
    {"top_k": 40, "top_p": 0.7},
    {"top_k": 2000, "min_p": 0.3},
    {"min_p": 0.05},
    {"min_p": 1.0},
    {"top_p": 0.5, "min_p": 0.01, "top_k": 5000},
    {"top_p": 0.8, "temperature": 0.3},
]


def random_scores(spread: float, size: int = SIZE) -> Floats:
    """No two of them equal."""
    return (np.random.default_rng(0).permutation(size) / size * spread).astype(np.float32)


def params(**options: object) -> SamplingParams:
    """With the model's defaults switched off."""
    return SamplingParams.model_validate({"temperature": 1.0, "top_p": 1.0, "seed": 3} | options)


class FixedMask(TokenMask):
    """Allows certain tokens, always."""

    def __init__(self, allowed: npt.NDArray[np.bool_]) -> None:
        self._allowed = allowed

    def allowed(self) -> npt.NDArray[np.bool_]:
        return self._allowed


def sampler(
    size: int = SIZE, prompt: tuple[int, ...] = (), mask: TokenMask | None = None, **options: object
) -> Sampler:
    """One of ours."""
    return Sampler(params(**options), GenerationDefaults(), prompt, size, mask=mask)


class Loaded(NativeSampler):
    """The native engine's, with dice that fall on a certain rank whenever that may be drawn."""

    rank = 0
    probabilities = torch.empty(0)

    def _noise(self, like: torch.Tensor) -> torch.Tensor:
        self.probabilities = like
        noise = torch.ones_like(like)
        noise[self.rank] = 1e-30
        return noise


@pytest.mark.parametrize("rules", RULES, ids=str)
@pytest.mark.parametrize("spread", SPREADS)
def test_the_same_tokens_are_kept_with_the_same_probabilities(spread: float, rules: dict[str, float]) -> None:
    """Truncation leaves what the native engine's leaves, whichever shortcut either takes."""
    scores = random_scores(spread)
    tokens, weights = sampler(**rules).candidates(scores)
    assert tokens is not None
    native = Loaded(params(**rules), GenerationDefaults(), (), vocab_size=len(scores), device=CPU)
    native.rank = len(tokens) - 1
    assert native.draw(torch.from_numpy(scores)).token().id == tokens[-1]
    np.testing.assert_allclose(weights, native.probabilities[: len(tokens)], rtol=2e-5)
    assert scores[tokens].tolist() == sorted(scores, reverse=True)[: len(tokens)]
    if len(tokens) < len(native.probabilities):
        native.rank = len(tokens)  # the next is not kept, so the dice fall on another
        assert native.draw(torch.from_numpy(scores)).token().id in tokens


def test_without_rules_all_tokens_have_their_probabilities() -> None:
    """Nothing is truncated where nothing was asked for."""
    scores = random_scores(5.0)
    tokens, weights = sampler(temperature=0.7).candidates(scores)
    assert tokens is None
    expected = torch.from_numpy(scores).div(0.7).softmax(-1).numpy()
    np.testing.assert_allclose(weights / weights.sum(), expected, rtol=2e-5)


@pytest.mark.parametrize("rules", [{}, {"top_p": 0.95}, {"top_k": 4}], ids=str)
def test_tokens_come_as_often_as_they_should(rules: dict[str, float]) -> None:
    """Draws follow the distribution that is left: a chi-square test with a fixed seed."""
    scores = np.log(np.array([1.0, 4.0, 2.0, 8.0, 16.0, 1e-30], np.float32))
    drawer, draws = sampler(len(scores), **rules), 4000
    tokens, weights = drawer.candidates(scores)
    shares = np.zeros(len(scores))
    shares[slice(None) if tokens is None else tokens] = weights / weights.sum()
    seen = Counter(drawer.draw(scores).id for _ in range(draws))
    possible = np.flatnonzero(shares > 1e-20)
    assert set(seen) <= set(possible.tolist())
    statistic = sum((seen[n] - draws * shares[n]) ** 2 / (draws * shares[n]) for n in possible.tolist())
    assert statistic < 18.5  # the 0.1% point with four degrees of freedom


def test_draws_from_a_large_vocabulary_are_fair_between_its_blocks() -> None:
    """Each part of the vocabulary has its share, also where the last part is a short one."""
    size = 1300
    drawer, scores = sampler(size), np.zeros(size, np.float32)
    drawn = np.array([drawer.draw(scores).id for _ in range(2600)])
    for begin, end in ((0, 512), (512, 1024), (1024, 1300)):
        expected = len(drawn) * (end - begin) / size
        assert abs(np.count_nonzero((drawn >= begin) & (drawn < end)) - expected) < 4 * np.sqrt(expected)


def test_only_what_is_allowed_is_drawn() -> None:
    """Greedy or not, a token that is not allowed never comes, however likely."""
    scores = random_scores(8.0)
    allowed = np.zeros(SIZE, np.bool_)
    allowed[[7, 1500, 2999]] = True
    mask = FixedMask(allowed)
    for options in ({"temperature": 0}, {}, {"top_k": 50}, {"top_p": 0.5}, {"min_p": 0.2}):
        drawer = sampler(mask=mask, **options)
        assert {drawer.draw(scores).id for _ in range(30)} <= {7, 1500, 2999}
    allowed[:] = False
    allowed[0] = True
    assert sampler(mask=mask).draw(scores).id == 0


def test_a_seed_repeats_a_draw() -> None:
    """The same seed draws the same tokens, another one others."""
    scores = random_scores(3.0)

    def drawn(seed: int) -> list[int]:
        drawer = sampler(seed=seed)
        return [drawer.draw(scores).id for _ in range(20)]

    assert drawn(5) == drawn(5)
    assert drawn(5) != drawn(6)


def test_of_equally_likely_tokens_the_first_is_taken() -> None:
    """Greedy draws break ties as the native engine does."""
    scores = np.zeros(SIZE, np.float32)
    scores[[11, 12, 2500]] = 1.0
    native = NativeSampler(params(temperature=0), GenerationDefaults(), (), vocab_size=len(scores), device=CPU)
    assert sampler(temperature=0).draw(scores).id == native.draw(torch.from_numpy(scores)).token().id == 11


def test_the_penalty_lowers_what_was_seen() -> None:
    """Tokens of the prompt, and those drawn, count less: scores above and below zero, as in the native engine."""
    scores = np.array([2.0, 1.9, -0.5, 1.7], np.float32)
    ours = sampler(4, (0,), temperature=0, repetition_penalty=1.2)
    native = NativeSampler(
        params(temperature=0, repetition_penalty=1.2), GenerationDefaults(), (0,), vocab_size=4, device=CPU
    )
    drawn = [ours.draw(scores).id for _ in range(4)]
    assert drawn == [native.draw(torch.from_numpy(scores)).token().id for _ in range(4)]
    assert drawn[:2] == [1, 3]


@pytest.mark.parametrize("spread", SPREADS)
def test_log_probabilities_are_of_the_models_own_scores(spread: float) -> None:
    """Neither temperature nor penalty changes them; alternatives come likeliest first."""
    scores = random_scores(spread)
    drawn = sampler(logprobs=6, temperature=0, repetition_penalty=1.5).draw(scores)
    expected = torch.from_numpy(scores).log_softmax(-1)
    top = expected.topk(6)
    assert_near(drawn.logprob or 0.0, float(expected[drawn.id]))
    assert [token for token, _ in drawn.top] == top.indices.tolist()
    assert_near([value for _, value in drawn.top], top.values.tolist())


def test_extreme_scores_do_no_harm() -> None:
    """Scores far apart, or minus infinity, draw a token that exists."""
    scores = np.array([-np.inf, 1e30, -1e30, 0.0], np.float32)
    for options in ({"temperature": 0.01, "top_p": 0.9}, {}, {"top_k": 3}, {"min_p": 0.1}):
        assert sampler(4, **options).draw(scores).id == 1
