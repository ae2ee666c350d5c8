"""The exported text network: sequences that get more tokens, each in its own row of the caches."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Several
from contextlib import contextmanager, suppress

import numpy as np
import numpy.typing as npt
from onnxruntime import InferenceSession

from llama4sdk.errors import ContextLengthError, DeviceMemoryError, InvalidRequestError, Llama4Error, StreamClosedError
from llama4sdk.local.scheduler import Batcher, Step, engine_closed
from llama4sdk_onnx.blocks import blocks
from llama4sdk_onnx.manifest import Manifest
from llama4sdk_onnx.sizing import SCORED
from llama4sdk_onnx.text_graph import Floats, Ints, Pass, TextGraph

__all__ = ["Sequence", "TextNetwork"]


Features = npt.NDArray[np.generic]
Ids = Several[int] | Ints


class Sequence:
    """One text on its way through the network, which holds a row of the caches until it is closed.

    A sequence belongs to one thread at a time.
    """

    def __init__(self, network: TextNetwork, row: int) -> None:
        self.row = row
        self.length = 0
        """Tokens it has left in the caches."""
        self._network = network

    def prefill(self, ids: Ids, features: Features | None = None) -> Floats:
        """The logits [vocabulary] of what follows ``ids``; ``features`` [n, hidden] are of the image tokens among them.

        Raises ContextLengthError and InvalidRequestError before anything is done, and StreamClosedError,
        DeviceMemoryError and BackendError.
        """
        return self._network.prefill(self, ids, features)

    def step(self, token: int) -> Floats:
        """The logits [vocabulary] after one more token, which goes through the network with those of other sequences.

        Raises what ``prefill`` raises.
        """
        return self._network.step(self, token)

    def hidden(self, ids: Ids) -> Floats:
        """The final states [tokens, hidden] of further ``ids``. Raises what ``prefill`` raises."""
        return self._network.hidden(self, ids)

    def logits(self, ids: Ids, rows: Several[int] | Ints) -> Iterator[Floats]:
        """The logits [n, vocabulary] after those of further ``ids`` that ``rows`` names, in rising order.

        They come a few at a time, since all of a long text's would take gigabytes. Raises what ``prefill`` raises.
        """
        return self._network.logits(self, ids, rows)

    def close(self) -> None:
        """Free the row."""
        self._network.leave(self)

    def __enter__(self) -> Sequence:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class TextNetwork:
    """The exported network in a session, for sequences of at most ``context`` tokens each.

    No more than ``batch`` may be open at once; ``None`` leaves that to who opens them. ``image_token`` is the one whose
    places image features take, in networks that see. Several threads may use it: what they want goes through the
    network in turns, and steps go together.
    """

    def __init__(
        self,
        session: InferenceSession,
        manifest: Manifest,
        *,
        context: int,
        batch: int | None = None,
        device: str = "cpu",
        image_token: int | None = None,
    ) -> None:
        self.config = manifest.config
        self.batch = batch
        self._chunk = manifest.config.chunk_size if manifest.config.chunked_layers else None
        self.context = context
        self._image_token = image_token
        self._graph = TextGraph(session, manifest.config, context=context, device=device)
        self._rows: list[Sequence | None] = []
        self._batcher = Batcher[Sequence, tuple[int, int], Floats](self._steps)
        self._closed = False
        self._changing = threading.RLock()

    @property
    def cache_bytes(self) -> int:
        """Memory that the caches take now."""
        return self._graph.cache_bytes

    def open(self) -> Sequence:
        """A new sequence in the lowest free row. Raises DeviceMemoryError when all rows are held."""
        with self._changing:
            if self._closed:
                raise engine_closed()
            row = next((row for row, held in enumerate(self._rows) if held is None), len(self._rows))
            if row == self.batch:
                raise DeviceMemoryError(
                    f"There is room for {self.batch} at once, and all of it is held.",
                    hint="Read open streams to their ends or close them, or make the client with a larger batch.",
                )
            sequence = Sequence(self, row)
            self._rows[row : row + 1] = [sequence]
            return sequence

    def close(self) -> None:
        """Free the caches, and let go of the session. Whoever is in the network, or comes, gets StreamClosedError."""
        self._closed = True
        self._graph.stop()
        self._batcher.close()
        self._graph.close()

    def leave(self, sequence: Sequence) -> None:
        """Free a sequence's row, and with the last one all caches."""
        self._batcher.forget(sequence)
        with self._changing:
            if not self._holds(sequence):
                return
            self._rows[sequence.row] = None
            while self._rows and self._rows[-1] is None:
                self._rows.pop()
            last = not self._rows
        self._graph.forget(sequence.row)
        if last and not self._closed:
            with suppress(StreamClosedError), self._batcher.alone():
                if not self._rows:
                    self._graph.release()

    def prefill(self, sequence: Sequence, ids: Ids, features: Features | None) -> Floats:
        """See ``Sequence.prefill``."""
        tokens = self._checked(sequence, ids)
        before = self._images(tokens, features)
        found = np.empty((0, 0), np.float32)
        for begin, end in blocks(sequence.length, len(tokens), self._chunk):
            at = [end - begin - 1] if end == len(tokens) else []
            seen = None if features is None else features[before[begin] : before[end]]
            found = self._block(sequence, tokens[begin:end], self._graph.logits, at, seen)
        last: Floats = found[0]
        return last

    def hidden(self, sequence: Sequence, ids: Ids) -> Floats:
        """See ``Sequence.hidden``."""
        tokens = self._checked(sequence, ids)
        spans = blocks(sequence.length, len(tokens), self._chunk)
        parts = [self._block(sequence, tokens[begin:end], self._graph.hidden)[0] for begin, end in spans]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def logits(self, sequence: Sequence, ids: Ids, rows: Several[int] | Ints) -> Iterator[Floats]:
        """See ``Sequence.logits``."""
        tokens = self._checked(sequence, ids)
        wanted = np.zeros(len(tokens), np.bool_)
        wanted[np.asarray(rows, np.int64)] = True
        most = max(1, SCORED // (4 * self.config.vocab_size))
        for begin, end in blocks(sequence.length, len(tokens), self._chunk, wanted, most):
            at = np.flatnonzero(wanted[begin:end])
            found = self._block(sequence, tokens[begin:end], self._graph.logits, at)
            if len(found):
                yield found
            del found  # the next are as large

    def step(self, sequence: Sequence, token: int) -> Floats:
        """See ``Sequence.step``."""
        self._check_room(sequence, 1)
        if not 0 <= token < self.config.vocab_size:
            raise _no_token(token, self.config.vocab_size)
        return self._batcher.step(sequence, (token, sequence.length))

    def _steps(self, steps: list[Step[Sequence, tuple[int, int], Floats]]) -> None:
        """Set the results of steps, all at once where the graph can."""
        waiting = [step for step in steps if not step.done]
        groups = [waiting] if self._graph.together else [[step] for step in waiting]
        for group in groups:
            part = self._neighbours(group)
            with self._ending():
                self._reserve(part.first + len(part.ids), int(part.lengths.max()) + 1)
                found = self._graph.logits(part)
            for step in group:
                step.member.length = step.given[1] + 1
                step.result = found[step.member.row - part.first]

    def _neighbours(self, group: list[Step[Sequence, tuple[int, int], Floats]]) -> Pass:
        """The rows of the steps, and those between.

        Of the latter, what is written is where their own next token will be, and where that begins a new chunk, what is
        lost is of the old one. Where no next token can be, none reads any of it.
        """
        rows = [step.member.row for step in group]
        first, count = min(rows), max(rows) - min(rows) + 1
        ids, lengths = np.zeros((count, 1), np.int64), np.zeros(count, np.int64)
        if count > len(group):
            for number, held in enumerate(self._rows[first : first + count]):
                lengths[number] = 0 if held is None else min(held.length, self.context - 1)
        for step, row in zip(group, rows, strict=True):
            ids[row - first], lengths[row - first] = step.given
        return Pass(first=first, ids=ids, lengths=lengths, logits_at=np.arange(count))

    def _block(
        self,
        sequence: Sequence,
        tokens: Ints,
        run: Callable[[Pass], Floats],
        at: Several[int] | Ints = (),
        features: Features | None = None,
    ) -> Floats:
        """Tokens of one sequence, in a turn of their own."""
        with self._batcher.alone(), self._ending():
            if not self._holds(sequence):
                raise engine_closed()
            self._reserve(sequence.row + 1, sequence.length + len(tokens))
            lengths, logits_at = np.array([sequence.length]), np.asarray(at, np.int64)
            part = Pass(first=sequence.row, ids=tokens[None], lengths=lengths, logits_at=logits_at, features=features)
            found = run(part)
            sequence.length += len(tokens)
        return found

    def _reserve(self, rows: int, tokens: int) -> None:
        held = [sequence.length for sequence in tuple(self._rows) if sequence is not None]
        self._graph.reserve(max(rows, len(self._rows)), tokens, max(held, default=0))

    def _holds(self, sequence: Sequence) -> bool:
        return sequence in self._rows[sequence.row : sequence.row + 1]

    def _checked(self, sequence: Sequence, ids: Ids) -> Ints:
        tokens = np.asarray(ids, np.int64)
        if not len(tokens):
            raise InvalidRequestError("There is no token to go through the network.")
        size = self.config.vocab_size
        if tokens.min() < 0 or tokens.max() >= size:
            raise _no_token(int(tokens.max() if tokens.max() >= size else tokens.min()), size)
        self._check_room(sequence, len(tokens))
        return tokens

    def _check_room(self, sequence: Sequence, count: int) -> None:
        if not self._holds(sequence):
            raise engine_closed()
        if sequence.length + count > self.context:
            raise ContextLengthError(
                f"{sequence.length + count} tokens exceed the context of {self.context}.",
                hint="Shorten the text, or ask for a larger context_length.",
                limit=self.context,
                requested=sequence.length + count,
            )

    def _images(self, tokens: Ints, features: Features | None) -> Ints:
        """How many image tokens come before each token, and before the end."""
        marks = tokens == (-1 if self._image_token is None else self._image_token)
        if features is not None and len(features) != np.count_nonzero(marks):
            raise InvalidRequestError(
                f"{len(features)} image features do not fit {np.count_nonzero(marks)} image tokens of the prompt."
            )
        return np.concatenate(([0], np.cumsum(marks)))

    @contextmanager
    def _ending(self) -> Iterator[None]:
        """A run that was stopped because all is closed ends as such."""
        try:
            yield
        except Llama4Error:
            if self._closed:
                raise engine_closed() from None
            raise


def _no_token(token: int, size: int) -> InvalidRequestError:
    return InvalidRequestError(f"There is no token {token}: the network has {size}.")
