"""Predictions meet what was published of Llama 4, figure by figure."""

from __future__ import annotations

import json
import statistics
from collections import Counter

import pytest

from benchmarks.scorecard.report import main
from benchmarks.scorecard.scorecard import largest_batch, published, score, served_speed
from llama4sdk.catalog.models import SCOUT
from llama4sdk.llama4.sizes import class_bytes
from llama4sdk.quantization import Quantization
from tests.capacity.test_roofline import part


def test_every_published_figure_is_met_or_said_not_to_be_predicted() -> None:
    """Sizes as nearly as each row asks, speeds within its factor; what is not predicted has its reason."""
    scores = score()
    assert len(scores) == len(published()) == 231
    assert [entry.row.id for entry in scores if entry.hit is False] == []
    silent = [entry for entry in scores if entry.hit is None]
    assert all(entry.reason for entry in silent)
    assert Counter(entry.row.metric for entry in silent) == {
        "weights": 13,
        "decode_speed": 4,
        "fits": 3,
        "load_time": 1,
    }


def test_a_claim_that_does_not_hold_is_met_by_disagreeing() -> None:
    """Ten and five million tokens in SGLang, Scout on a card of 24 GB; agreeing with such a claim is a miss."""
    claims = [entry for entry in score() if entry.row.claim]
    assert {entry.row.metric for entry in claims} == {"max_context", "fits"}
    for entry in claims:
        assert entry.hit is True
        assert entry.model_copy(update={"predicted": entry.row.value}).hit is False


def test_a_setting_somebody_chose_is_not_the_longest() -> None:
    """It has to fit, and may be passed."""
    entry = next(entry for entry in score() if entry.row.tolerance == "at least")
    assert entry.hit
    assert entry.model_copy(update={"predicted": entry.row.value - 1}).hit is False


def test_intervals_hold_most_of_what_was_measured() -> None:
    """Three in four of all speeds, though no interval's end is more than five times its beginning."""
    scores = [entry for entry in score() if entry.low is not None and entry.high is not None]
    inside = [(entry.low or 0) <= entry.row.value <= (entry.high or 0) for entry in scores]
    assert statistics.mean(inside) >= 0.75
    assert max((entry.high or 0) / (entry.low or 1) for entry in scores) <= 5.01


def test_a_hit_can_be_a_miss() -> None:
    """The verdict follows from the numbers."""
    entry = next(entry for entry in score() if entry.row.metric == "served_speed")
    assert entry.model_copy(update={"predicted": entry.row.value * 3.01}).hit is False
    assert entry.model_copy(update={"predicted": entry.row.value / 3.01}).hit is False
    exact = next(entry for entry in score() if entry.row.tolerance == "exact")
    assert exact.model_copy(update={"predicted": exact.row.value + 1}).hit is False


def test_serving_is_reading_and_answering() -> None:
    """Requests with long prompts leave less time for answers; a cache that holds nothing still serves one."""
    assert SCOUT.config is not None
    weights = class_bytes(SCOUT.config, Quantization.BF16)
    none, short, long = (
        served_speed(SCOUT.config, weights, part(), prompt=prompt, answer=1000, batch=64).middle
        for prompt in (0, 100, 10_000)
    )
    assert long < short < none
    assert (largest_batch(0, 10**9), largest_batch(5 * 10**9, 10**9), largest_batch(10**15, 1)) == (1, 5, 2048)


def test_the_program_shows_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    """Each published figure stands beside its prediction, and is counted; as JSON each names its source and date."""
    main([])
    assert "of 231 published figures are met" in " ".join(capsys.readouterr().out.split())
    main(["--json"])
    entries = json.loads(capsys.readouterr().out)
    assert len(entries) == 231
    assert all(entry["row"]["source"] and entry["row"]["date"] for entry in entries)
