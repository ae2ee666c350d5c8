"""Sequences in the exported network: the native engine's logits, however texts are cut and whoever else is there."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from llama4sdk_onnx import network as module
from llama4sdk_onnx.network import Row, TextNetwork

from llama4sdk.errors import ContextLengthError, InvalidRequestError, StreamClosedError

from .exported import assert_near
from .tiny import PATCH, Floats, Tiny, tiny

#: Seconds after which a test gives up.
SECONDS = 30.0


@pytest.fixture(scope="module", params=["scout", "maverick", "llama"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """One of each kind."""
    return tiny(tmp_path_factory.mktemp("tiny"), request.param)


@pytest.fixture(scope="module")
def scout(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """One with chunks of 8 tokens, which sees."""
    return tiny(tmp_path_factory.mktemp("scout"), "scout", sees=True)


def text(seed: int, count: int) -> list[int]:
    """Random tokens."""
    found: list[int] = np.random.default_rng(seed).integers(0, 90, count).tolist()
    return found


def fed(sequence: Row, ids: list[int], cuts: list[int]) -> Floats:
    """The logits at the end of each piece of a text; pieces of one token are steps."""
    pieces = [ids[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(ids)], strict=True)]
    return np.stack([sequence.step(piece[0]) if len(piece) == 1 else sequence.prefill(piece) for piece in pieces])


@pytest.mark.parametrize("cuts", [[], [5, 13], [8, 16, 24], [3, 4, 5, *range(6, 40)], [1, 2, 9, 10, 39]], ids=str)
def test_logits_are_the_native_engines(model: Tiny, cuts: list[int]) -> None:
    """However a text is cut, across several borders of chunks."""
    ids = text(0, 40)
    with model.network().open() as sequence:
        found = fed(sequence, ids, cuts)
    assert_near(found, model.logits(ids)[[*(cut - 1 for cut in cuts), 39]])


def test_a_prompt_of_several_blocks(scout: Tiny, model: Tiny) -> None:
    """More than 512 tokens go through in blocks that end where chunks end, and leave the same behind."""
    ids = text(1, 600)
    with model.network(context=601).open() as sequence:
        assert_near(sequence.prefill(ids), model.logits(ids)[-1])
        assert sequence.length == 600
        assert_near(sequence.step(7), model.logits([*ids, 7])[-1])


def test_states_and_logits_of_a_whole_text(model: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """All states, and the logits of chosen tokens, which come a few at a time."""
    monkeypatch.setattr(module, "MAX_LOGITS_BYTES", 4 * 96 * 3)
    ids, wanted = text(2, 30), [0, 1, 7, 8, 9, 10, 11, 12, 29]
    network = model.network()
    with network.open() as sequence:
        sequence.step(ids[0])
        assert_near(sequence.hidden(ids[1:]), model.states(ids)[1:])
    with network.open() as sequence:
        parts = list(sequence.logits(ids, wanted))
    assert max(map(len, parts)) == 3
    assert_near(np.concatenate(parts), model.logits(ids)[wanted])


def test_later_runs_leave_logits_alone(scout: Tiny) -> None:
    """Later steps do not overwrite a step's logits."""
    with scout.network().open() as sequence:
        first = sequence.prefill([1, 2, 3])
        kept = first.copy()
        steps = [sequence.step(n) for n in range(4)]
        assert np.array_equal(first, kept)
        assert not np.array_equal(steps[0], steps[1])


@pytest.mark.parametrize("idle", [0, 5, 7, 8, 17, 31, 32])
def test_rows_between_are_left_alone(model: Tiny, idle: int) -> None:
    """A sequence that waits, at whatever length, goes on as if those around it had done nothing."""
    network, ids = model.network(context=32), [text(seed, 32) for seed in range(3)]
    first, between, last = (network.open() for _ in range(3))
    if idle:
        between.prefill(ids[1][:idle])
    first.prefill(ids[0][:3])
    last.prefill(ids[2][:12])
    together(network, [(first, ids[0][3]), (last, ids[2][12])])
    found = together(network, [(first, ids[0][4]), (last, ids[2][13])])
    assert_near(found[0], model.logits(ids[0])[4])
    assert_near(found[1], model.logits(ids[2])[13])
    for position in range(idle, 32):
        assert_near(between.step(ids[1][position]), model.logits(ids[1])[position])


def together(network: TextNetwork, steps: list[tuple[Row, int]]) -> list[Floats]:
    """Steps of several sequences in one run."""
    return network.step([row for row, _ in steps], [token for _, token in steps])


def test_steps_at_different_lengths_go_together(model: Tiny) -> None:
    """In one run, each sequence gets the logits it would get alone."""
    network, lengths = model.network(), [1, 7, 8, 20]
    texts = [text(seed, 40) for seed in range(4)]
    sequences = [network.open() for _ in lengths]
    for sequence, ids, length in zip(sequences, texts, lengths, strict=True):
        sequence.prefill(ids[:length])
    for more in range(10):
        tokens = [ids[length + more] for ids, length in zip(texts, lengths, strict=True)]
        found = together(network, [*zip(sequences, tokens, strict=True)])
        for logits, ids, length in zip(found, texts, lengths, strict=True):
            assert_near(logits, model.logits(ids)[length + more])


@pytest.mark.parametrize("seed", range(4))
def test_rows_that_come_and_go_draw_what_each_draws_alone(model: Tiny, seed: int) -> None:
    """Sequences of any length, four at a time: greedy tokens are those of a network that nobody else uses."""
    rng = np.random.default_rng(seed)
    plans = [(text(100 * seed + n, int(rng.integers(1, 30))), int(rng.integers(1, 30))) for n in range(10)]
    network, answers, waiting = model.network(), dict[int, list[int]](), list(enumerate(plans))
    running: dict[int, Row] = {}
    while waiting or running:
        while waiting and len(running) < 4:
            number, (prompt, _) = waiting.pop(0)
            running[number] = network.open()
            answers[number] = [int(running[number].prefill(prompt).argmax())]
        for number, row in tuple(running.items()):
            if len(answers[number]) == plans[number][1]:
                row.close()
                del running[number]
        logits = network.step(list(running.values()), [answers[n][-1] for n in running]) if running else []
        for number, scores in zip(running, logits, strict=True):
            answers[number].append(int(scores.argmax()))
    assert network.cache_bytes == 0
    for number, (prompt, count) in enumerate(plans):
        with network.open() as row:
            alone = [int(row.prefill(prompt).argmax())]
            while len(alone) < count:
                alone.append(int(row.step(alone[-1]).argmax()))
        assert answers[number] == alone


def test_features_take_the_places_of_image_tokens(scout: Tiny) -> None:
    """Each block gets those of its own image tokens, also where a border parts them."""
    ids = text(3, 30)
    ids[2:5] = ids[6:11] = [PATCH] * 5
    ids = ids[:30]
    count = ids.count(PATCH)
    features = np.random.default_rng(4).standard_normal((count, 32)).astype(np.float32)
    network = scout.network()
    with network.open() as sequence:
        assert_near(sequence.prefill(ids, features), scout.logits(ids, features)[-1])
    with network.open() as sequence, pytest.raises(InvalidRequestError, match="do not fit"):
        sequence.prefill(ids, features[1:])


def test_an_image_token_without_an_image_is_a_token_like_others(scout: Tiny) -> None:
    """A network that sees may write one, and a text may hold one: it has a vector of its own."""
    with scout.network().open() as sequence:
        assert_near(sequence.prefill([5, PATCH, 7]), scout.logits([5, PATCH, 7])[-1])
        assert_near(sequence.step(PATCH), scout.logits([5, PATCH, 7, PATCH])[-1])


def test_what_exceeds_the_context_is_refused_before_any_work(scout: Tiny) -> None:
    """A prompt or a step too many, with the numbers; what was there goes on."""
    network = scout.network(context=10)
    with network.open() as sequence:
        with pytest.raises(ContextLengthError) as caught:
            sequence.prefill(text(0, 11))
        assert (caught.value.limit, caught.value.requested) == (10, 11)
        assert (sequence.length, network.cache_bytes) == (0, 0)
        sequence.prefill(text(0, 9))
        assert_near(sequence.step(text(0, 10)[9]), scout.logits(text(0, 10))[-1])
        with pytest.raises(ContextLengthError):
            sequence.step(1)


def test_tokens_that_do_not_exist_are_refused(scout: Tiny) -> None:
    """A token beyond the vocabulary, a negative one, and no token at all."""
    with scout.network().open() as sequence:
        for ids in ([1, 96], [-1], []):
            with pytest.raises(InvalidRequestError):
                sequence.prefill(ids)
        with pytest.raises(InvalidRequestError, match="96"):
            sequence.step(96)
        assert sequence.length == 0


def test_rows_are_taken_lowest_first_and_freed_once(scout: Tiny) -> None:
    """A row that is free again is the next that is given, and closing twice frees nobody else's."""
    network = scout.network()
    first, second, third = (network.open() for _ in range(3))
    second.close()
    again = network.open()
    assert [first.number, again.number, third.number] == [0, 1, 2]
    second.close()
    with pytest.raises(StreamClosedError):
        second.step(1)
    again.prefill([1, 2])
    assert again.length == 2


def test_rows_move_together_when_memory_grows(scout: Tiny) -> None:
    """Rows that were closed take no memory once one of the others needs more, and what was stored moves along."""
    network, ids = scout.network(context=600), text(9, 200)
    rows = [network.open() for _ in range(3)]
    for row in rows:
        row.prefill(ids[:40])
    before = network.cache_bytes
    rows[0].close()
    rows[1].close()
    assert_near(rows[2].prefill(ids[40:]), scout.logits(ids)[-1])
    assert rows[2].number == 0
    assert network.cache_bytes == network.planned_cache_bytes([200]) < 2 * before


def test_a_sequence_in_a_used_row_sees_nothing_of_the_last(scout: Tiny) -> None:
    """Stale cache contents are never read, in layers of either kind."""
    network, ids = scout.network(), text(5, 20)
    keep = network.open()
    with network.open() as sequence:
        sequence.prefill(text(6, 30))
    with network.open() as sequence:
        assert sequence.number == 1
        assert_near(fed(sequence, ids, [1, 2, 3, 11]), scout.logits(ids)[[0, 1, 2, 10, 19]])
    keep.close()


def test_memory_comes_and_goes_with_sequences(scout: Tiny) -> None:
    """Rows are taken as sequences come, tokens as they are needed, and nothing is held without any."""
    network, ids = scout.network(context=600), text(7, 400)
    with network.open() as first:
        first.prefill(ids[:2])
        c = scout.manifest.config
        token = 2 * 4 * c.num_kv_heads * c.head_dim
        locals_ = len(c.chunked_layers)
        row = token * (8 * locals_ + 64 * (c.num_layers - locals_))
        assert network.cache_bytes == row
        with network.open() as second:
            second.prefill([3])
            assert network.cache_bytes == 2 * row
        first.prefill(ids[2:])  # the caches move, with what is in them, and without the closed row
        assert_near(first.step(5), scout.logits([*ids, 5])[-1])
        assert network.cache_bytes == token * (8 * locals_ + 448 * (c.num_layers - locals_))
    assert network.cache_bytes == 0


def test_closing_ends_all_streams(scout: Tiny) -> None:
    """A run under way is stopped with StreamClosedError, and whoever comes later gets it, too."""
    network, outcomes = scout.network(context=100_000), list[object]()
    sequence, ids = network.open(), text(8, 60_000)

    def work() -> None:
        try:
            outcomes.append(sequence.prefill(ids))
        except StreamClosedError as error:
            outcomes.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    while not sequence.length:
        threading.Event().wait(0.001)
    network.stop()
    thread.join(SECONDS)
    network.close()
    assert isinstance(outcomes[0], StreamClosedError)
    for call in (lambda: sequence.step(1), network.open):
        with pytest.raises(StreamClosedError):
            call()
    sequence.close()
    network.close()
