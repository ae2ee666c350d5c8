"""Vectors, where the backend declares them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import pytest

from llama4sdk.backend import Capabilities, Engine
from llama4sdk.requests import EmbedRequest
from llama4sdk.testing.conformance.ground import Ground, assert_that, require_feature

#: Largest Euclidean distance between vectors of length 1 that count as the same.
TOLERANCE: Final = 1e-3

Vector = Sequence[float]


class Embedding(Ground):
    """``Engine.embed``."""

    @pytest.fixture
    def embedder(self, engine: Engine, can: Capabilities) -> Engine:
        """The engine, if it can embed."""
        require_feature(can, "embed")
        return engine

    def test_one_vector_per_text(self, embedder: Engine) -> None:
        """There are as many vectors as texts, all of one length, all finite."""
        vectors = embedder.embed(EmbedRequest(inputs=self.texts)).vectors
        assert_that(
            len(vectors) == len(self.texts), f"{len(self.texts)} texts gave {len(vectors)} vectors.", fix="embed each."
        )
        assert_that(len({len(v) for v in vectors}) == 1, "Vectors differ in length.", fix="pool over tokens.")
        assert_that(
            all(math.isfinite(x) for v in vectors for x in v), "A vector is not finite.", fix="pool in float32."
        )

    def test_vectors_have_length_one(self, embedder: Engine) -> None:
        """Normalised vectors have Euclidean length 1."""
        lengths = [math.hypot(*vector) for vector in embed(embedder, self.texts)]
        assert_that(
            all(abs(length - 1) < TOLERANCE for length in lengths),
            f"The vectors' lengths are {lengths}.",
            fix="divide each vector by its Euclidean length when EmbedRequest.normalize is on.",
        )

    def test_vectors_come_in_order(self, embedder: Engine) -> None:
        """The texts in reverse give the vectors in reverse."""
        there, back = embed(embedder, self.texts), embed(embedder, self.texts[::-1])
        assert_close(there, back[::-1], "The texts in reverse order", "return the vectors in the order of the inputs.")

    def test_a_batch_equals_its_parts(self, embedder: Engine) -> None:
        """A text's vector does not depend on the texts beside it."""
        single = [embed(embedder, (text,))[0] for text in self.texts]
        assert_close(
            single, embed(embedder, self.texts), "One by one", "mask the padding out of attention and pooling."
        )

    def test_equal_texts_have_equal_vectors(self, embedder: Engine) -> None:
        """The same text twice gives the same vector twice."""
        one, other = embed(embedder, (self.texts[0], self.texts[0]))
        assert_close([one], [other], "The same text again", "make embed() deterministic.")

    def test_different_texts_have_different_vectors(self, embedder: Engine) -> None:
        """Two different texts are told apart."""
        one, other = embed(embedder, self.texts[:2])
        assert_that(math.dist(one, other) > TOLERANCE, "Two texts have one vector.", fix="pool the text's own states.")


def embed(engine: Engine, texts: tuple[str, ...]) -> tuple[Vector, ...]:
    """The texts' normalised vectors. Skips the test when there is not one each."""
    vectors = engine.embed(EmbedRequest(inputs=texts)).vectors
    if len(vectors) != len(texts):
        pytest.skip("the vectors cannot be matched with the texts; see test_one_vector_per_text")
    return vectors


def assert_close(expected: Sequence[Vector], actual: Sequence[Vector], label: str, fix: str) -> None:
    """Fail unless the vectors are the same, in pairs, up to rounding."""
    __tracebackhide__ = True
    distances = [math.dist(a, b) if len(a) == len(b) else math.inf for a, b in zip(expected, actual, strict=True)]
    same = all(distance <= TOLERANCE for distance in distances)
    assert_that(same, f"{label} gave other vectors; the distances are {distances}.", fix=fix)
