"""Drawing tokens from scores."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from llama4sdk_torch.sampling import FIRST_SORTED, Sampler

from llama4sdk.requests import SamplingParams
from llama4sdk.weights.checkpoint import GenerationDefaults

SCORES = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0])
DRAWS = 4000


def sampler(scores: torch.Tensor = SCORES, prompt: tuple[int, ...] = (), **options: object) -> Sampler:
    """One with the model's defaults switched off."""
    params = SamplingParams.model_validate({"temperature": 1.0, "top_p": 1.0, "seed": 11} | options)
    return Sampler(params, GenerationDefaults(), prompt, vocab_size=len(scores), device=scores.device)


def frequencies(drawer: Sampler, scores: torch.Tensor = SCORES) -> Counter[int]:
    """How often each token comes."""
    return Counter(drawer.draw(scores).token().id for _ in range(DRAWS))


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, 5),
        ({"temperature": 2.0}, 5),
        ({"top_k": 3}, 3),
        ({"top_p": 0.8}, 3),
        ({"top_p": 0.5}, 1),
        ({"min_p": 0.2}, 3),
        ({"top_k": 4, "top_p": 0.9, "temperature": 0.7}, 3),
    ],
)
def test_tokens_come_as_often_as_they_should(options: dict[str, float], kept: int) -> None:
    """Draws follow the truncated, renormalised distribution: a chi-square test with a fixed seed."""
    expected = (SCORES / options.get("temperature", 1.0)).softmax(-1)[:kept]
    expected = expected / expected.sum()
    seen = frequencies(sampler(**options))
    assert max(seen) < kept
    statistic = sum((seen[n] - DRAWS * p) ** 2 / (DRAWS * p) for n, p in enumerate(expected.tolist()))
    assert statistic < 18.5  # the 0.1% point with four degrees of freedom


def test_temperature_zero_takes_the_likeliest() -> None:
    """At zero, and so near zero that nothing else has a chance, there is no choice."""
    for temperature in (0.0, 1e-30, 1e-4):
        assert frequencies(sampler(temperature=temperature)) == {0: DRAWS}


def test_extreme_scores_do_no_harm() -> None:
    """Scores far apart, or minus infinity, draw a token that exists."""
    scores = torch.tensor([-torch.inf, 1e30, -1e30, 0.0])
    assert sampler(scores, temperature=0.01, top_p=0.9).draw(scores).token().id == 1


def test_repeated_tokens_become_less_likely() -> None:
    """The penalty divides positive scores and multiplies negative ones, for tokens of the prompt and of the answer."""
    scores = torch.tensor([2.0, 1.5, -1.0])
    assert sampler(scores, prompt=(0,), temperature=0, repetition_penalty=2.0).draw(scores).token().id == 1
    drawer = sampler(scores, temperature=0, repetition_penalty=2.0)
    assert [drawer.draw(scores).token().id for _ in range(3)] == [0, 1, 0]


def test_large_vocabularies_are_cut_the_same_way() -> None:
    """Looking at the likeliest first changes nothing: a nucleus smaller or larger than that is drawn from exactly."""
    size = 4 * FIRST_SORTED
    steep, flat = torch.zeros(size), torch.zeros(size)
    steep[:3] = 20.0
    assert set(frequencies(sampler(steep, top_p=0.9), steep)) == {0, 1, 2}
    drawn = frequencies(sampler(flat, top_p=0.9), flat)
    assert len(drawn) > FIRST_SORTED


def test_logprobs_are_raw() -> None:
    """They are those of the scores as given, with the likeliest alternatives."""
    draw = sampler(temperature=0, logprobs=2, repetition_penalty=5.0).draw(SCORES)
    expected = SCORES.log_softmax(-1)
    token = draw.token()
    assert token.logprob == pytest.approx(float(expected[0]))
    assert [other for other, _ in token.top] == [0, 1]


def test_the_dice_are_its_own() -> None:
    """A sampler neither reads nor moves torch's global random state."""
    before = torch.random.get_rng_state()
    frequencies(sampler(seed=None))
    assert torch.equal(before, torch.random.get_rng_state())
