"""The exported text network: sequences that get more tokens, each in its own row of the caches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Sequence as Many
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
from onnxruntime import InferenceSession

from llama4sdk.errors import ContextLengthError, InvalidRequestError, Llama4Error
from llama4sdk.local.scheduler import closed_error
from llama4sdk_onnx.blocks import blocks
from llama4sdk_onnx.manifest import Manifest
from llama4sdk_onnx.sizing import MAX_LOGITS_BYTES
from llama4sdk_onnx.text_graph import Floats, ForwardPass, Ints, TextGraph

Features = npt.NDArray[np.generic]
TokenIds = Many[int] | Ints


class Row:
    """One sequence's row of the caches, until it is closed. ``length`` counts the tokens stored there."""

    def __init__(self, network: TextNetwork, number: int) -> None:
        self.number = number
        self.length = 0
        self._network = network

    def prefill(self, token_ids: TokenIds, features: Features | None = None) -> Floats:
        """See ``TextNetwork.prefill``."""
        return self._network.prefill(self, token_ids, features)

    def step(self, token: int) -> Floats:
        """The logits [vocabulary] after one more token. Raises what ``TextNetwork.prefill`` raises."""
        return self._network.step([self], [token])[0]

    def hidden(self, token_ids: TokenIds) -> Floats:
        """See ``TextNetwork.hidden``."""
        return self._network.hidden(self, token_ids)

    def logits(self, token_ids: TokenIds, wanted: Many[int] | Ints) -> Iterator[Floats]:
        """See ``TextNetwork.logits``."""
        return self._network.logits(self, token_ids, wanted)

    def close(self) -> None:
        """Free the row."""
        self._network.close_row(self)

    def __enter__(self) -> Row:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class TextNetwork:
    """The exported network in a session, for sequences of at most ``context`` tokens each. One thread at a time.

    ``image_token`` is the one whose places image features take, in networks that see. All methods raise
    StreamClosedError once the network is closed, DeviceMemoryError, and BackendError for what else ONNX Runtime says.
    """

    def __init__(
        self,
        session: InferenceSession,
        manifest: Manifest,
        *,
        context: int,
        device: str = "cpu",
        image_token: int | None = None,
    ) -> None:
        self.config = manifest.config
        self.context = context
        self._chunk = manifest.config.chunk_size if manifest.config.chunked_layers else None
        self._image_token = image_token
        self._graph = TextGraph(session, manifest.config, context=context, device=device)
        self._rows: list[Row | None] = []
        self._closed = False

    @property
    def cache_bytes(self) -> int:
        """Memory that the caches take now."""
        return self._graph.cache_bytes

    def planned_cache_bytes(self, tokens: Many[int]) -> int:
        """Memory that the caches of sequences of these lengths take."""
        return self._graph.planned_cache_bytes(tokens)

    def open(self) -> Row:
        """A new sequence in the lowest free row. It takes memory with its first tokens."""
        if self._closed:
            raise closed_error()
        number = next((number for number, row in enumerate(self._rows) if row is None), len(self._rows))
        row = Row(self, number)
        self._rows[number : number + 1] = [row]
        return row

    def close_row(self, row: Row) -> None:
        """Free a sequence's row, and with the last one all caches. Does nothing for one that was closed before."""
        if not self._has(row):
            return
        self._rows[row.number] = None
        while self._rows and self._rows[-1] is None:
            self._rows.pop()
        self._graph.forget(row.number)
        if not self._rows and not self._closed:
            self._graph.release()

    def stop(self) -> None:
        """End the run that another thread is in, with StreamClosedError there."""
        self._closed = True
        self._graph.stop()

    def close(self) -> None:
        """Free the caches, and drop the session."""
        self._closed = True
        self._graph.close()

    def next_block(self, row: Row, count: int) -> int:
        """How many of ``count`` further tokens may go through the network at once."""
        return next(blocks(row.length, count, self._chunk))[1]

    def prefill(self, row: Row, token_ids: TokenIds, features: Features | None = None) -> Floats:
        """The logits [vocabulary] behind further tokens; ``features`` [n, hidden] are of the image tokens among them.

        Raises ContextLengthError and InvalidRequestError before anything is done.
        """
        tokens = self._checked(row, token_ids)
        before = self._image_counts(tokens, features)
        logits = np.empty((0, 0), np.float32)
        for begin, end in blocks(row.length, len(tokens), self._chunk):
            logits_at = [end - begin - 1] if end == len(tokens) else []
            visible = None if features is None else features[before[begin] : before[end]]
            logits = self._run_block(row, tokens[begin:end], self._graph.logits, logits_at, visible)
        last: Floats = logits[0]
        return last

    def prefill_block(self, row: Row, token_ids: TokenIds, features: Features | None, *, last: bool) -> Floats | None:
        """Like ``prefill``, of a single block; the logits only of the ``last``."""
        tokens = self._checked(row, token_ids)
        logits = self._run_block(row, tokens, self._graph.logits, [len(tokens) - 1] if last else [], features)
        return logits[0] if last else None

    def hidden(self, row: Row, token_ids: TokenIds) -> Floats:
        """The final states [tokens, hidden] of further tokens. Raises what ``prefill`` raises."""
        tokens = self._checked(row, token_ids)
        parts = [
            self._run_block(row, tokens[begin:end], self._graph.hidden)[0]
            for begin, end in blocks(row.length, len(tokens), self._chunk)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def logits(self, row: Row, token_ids: TokenIds, wanted: Many[int] | Ints) -> Iterator[Floats]:
        """The logits [n, vocabulary] behind those of further tokens that are ``wanted``, in rising order.

        They come block by block, since all of a long text's would take gigabytes. Raises what ``prefill`` raises.
        """
        tokens = self._checked(row, token_ids)
        chosen = np.zeros(len(tokens), np.bool_)
        chosen[np.asarray(wanted, np.int64)] = True
        most = max(1, MAX_LOGITS_BYTES // (4 * self.config.vocab_size))
        for begin, end in blocks(row.length, len(tokens), self._chunk, chosen, most):
            yield self._run_block(row, tokens[begin:end], self._graph.logits, np.flatnonzero(chosen[begin:end]))

    def step(self, rows: Many[Row], token_ids: Many[int]) -> list[Floats]:
        """The logits [vocabulary] after one more token of each row: of all in one run where the graph can.

        Raises what ``prefill`` raises.
        """
        for row, token in zip(rows, token_ids, strict=True):
            self._checked(row, [token])
        if not self._graph.batches and len(rows) > 1:
            return [self.step([row], [token])[0] for row, token in zip(rows, token_ids, strict=True)]
        with self._closing():
            self._reserve(max(row.length for row in rows) + 1)
            part = self._neighbours(rows, token_ids)
            logits = self._graph.logits(part)
        for row in rows:
            row.length += 1
        return [logits[row.number - part.first] for row in rows]

    def _neighbours(self, rows: Many[Row], token_ids: Many[int]) -> ForwardPass:
        """The rows of a step, and those between.

        Of the latter, what is written is where their own next token will be, and where that begins a new chunk, what is
        lost is of the old one. Where no next token can be, none reads any of it.
        """
        numbers = [row.number for row in rows]
        first, count = min(numbers), max(numbers) - min(numbers) + 1
        ids, lengths = np.zeros((count, 1), np.int64), np.zeros(count, np.int64)
        for number, row in enumerate(self._rows[first : first + count]):
            lengths[number] = 0 if row is None else min(row.length, self.context - 1)
        for row, token in zip(rows, token_ids, strict=True):
            ids[row.number - first] = token
        return ForwardPass(first=first, ids=ids, lengths=lengths, logits_at=np.arange(count))

    def _run_block(
        self,
        row: Row,
        tokens: Ints,
        run: Callable[[ForwardPass], Floats],
        logits_at: Many[int] | Ints = (),
        features: Features | None = None,
    ) -> Floats:
        with self._closing():
            self._reserve(row.length + len(tokens))
            part = ForwardPass(
                first=row.number,
                ids=tokens[None],
                lengths=np.array([row.length]),
                logits_at=np.asarray(logits_at, np.int64),
                features=features,
            )
            results = run(part)
        row.length += len(tokens)
        return results

    def _reserve(self, tokens: int) -> None:
        """Memory for all open rows, of which one is to have so many tokens. Rows move together when it grows."""
        if self._graph.holds(len(self._rows), tokens):
            return
        rows = [row for row in self._rows if row is not None]
        filled = max(row.length for row in rows)
        self._graph.reserve([row.number for row in rows], max(tokens, filled), filled)
        self._rows = list(rows)
        for number, row in enumerate(rows):
            row.number = number

    def _has(self, row: Row) -> bool:
        return row in self._rows[row.number : row.number + 1]

    def _checked(self, row: Row, token_ids: TokenIds) -> Ints:
        tokens = np.asarray(token_ids, np.int64)
        if not self._has(row) or self._closed:
            raise closed_error()
        if not len(tokens):
            raise InvalidRequestError("There is no token to go through the network.")
        size = self.config.vocab_size
        if tokens.min() < 0 or tokens.max() >= size:
            token = int(tokens.max() if tokens.max() >= size else tokens.min())
            raise InvalidRequestError(f"There is no token {token}: the network has {size}.")
        if row.length + len(tokens) > self.context:
            raise ContextLengthError(
                f"{row.length + len(tokens)} tokens exceed the context of {self.context}.",
                hint="Shorten the text, or ask for a larger context_length.",
                limit=self.context,
                requested=row.length + len(tokens),
            )
        return tokens

    def _image_counts(self, tokens: Ints, features: Features | None) -> Ints:
        """How many image tokens come before each token, and before the end."""
        images = tokens == (-1 if self._image_token is None else self._image_token)
        if features is not None and len(features) != np.count_nonzero(images):
            raise InvalidRequestError(
                f"{len(features)} image features do not fit {np.count_nonzero(images)} image tokens of the prompt."
            )
        return np.concatenate(([0], np.cumsum(images)))

    @contextmanager
    def _closing(self) -> Iterator[None]:
        """A run that was stopped because the engine closes ends as such."""
        try:
            yield
        except Llama4Error:
            if self._closed:
                raise closed_error() from None
            raise
