"""Running a batch: its state, and the loops that answer it in threads or in tasks."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

from llama4sdk.batch.items import BatchItem, BatchRequest, Job, as_jobs
from llama4sdk.batch.journal import Journal
from llama4sdk.errors import InvalidRequestError, Llama4Error
from llama4sdk.progress import Progress
from llama4sdk.results import Completion
from llama4sdk.streams import AsyncStream, Stream

Outcome: TypeAlias = "tuple[Job, Completion[Any] | BaseException]"


class BatchRun:
    """The jobs of a batch and their outcomes. ``next_job`` is thread-safe; the rest is for a single thread."""

    def __init__(
        self,
        requests: Iterable[BatchRequest],
        *,
        concurrency: int,
        model: str | None,
        path: str | Path | None,
        progress: Progress | None,
    ) -> None:
        """Validate the requests and read the file. Raises InvalidRequestError, UnknownOptionError, BatchFileError."""
        if concurrency < 1:
            raise InvalidRequestError(
                f"concurrency is {concurrency}.", hint="It counts requests at once; pass at least 1."
            )
        self._jobs = as_jobs(requests)
        self._concurrency = concurrency
        self._keys = {job.index: job.key(model) for job in self._jobs}
        self._progress = progress
        self._items: dict[int, BatchItem] = {}
        self._file_error: OSError | None = None
        self._stopped = threading.Event()
        self._abandoned = threading.Event()
        self._journal = None if path is None else Journal(Path(path), self._keys)
        answers = self._journal.answers if self._journal else {}
        for job in self._jobs:
            if (answer := answers.get(job.index)) is not None:
                answer._constraint = job.request.constraint
                self._items[job.index] = BatchItem(index=job.index, id=job.id, completion=answer, resumed=True)
        self._remaining = iter([job for job in self._jobs if job.index not in self._items])
        self._lock = threading.Lock()
        if progress is not None and self._items:
            progress(len(self._items), len(self._jobs))

    @property
    def workers(self) -> int:
        """Number of requests to run at once."""
        return min(self._concurrency, len(self._jobs) - len(self._items))

    @property
    def abandoned(self) -> bool:
        """Whether the caller has left, so that open streams are to be closed."""
        return self._abandoned.is_set()

    @property
    def models(self) -> set[str | None]:
        """The models that unfinished requests name, ``None`` where one names none."""
        return {job.model for job in self._jobs if job.index not in self._items}

    def next_job(self) -> Job | None:
        """The next job to start; ``None`` when there is none, or when the run was stopped."""
        with self._lock:
            return None if self._stopped.is_set() else next(self._remaining, None)

    def record(self, job: Job, outcome: Completion[Any] | BaseException) -> None:
        """Store an outcome and report the progress. Raises an outcome that is not the SDK's own error."""
        self.store(job, outcome)
        if self._progress is not None:
            self._progress(len(self._items), len(self._jobs))

    def store(self, job: Job, outcome: Completion[Any] | BaseException) -> None:
        """Store an outcome in memory and in the file. Raises an outcome that is not the SDK's own error."""
        if isinstance(outcome, Llama4Error):
            item = BatchItem(index=job.index, id=job.id, error=outcome)
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            item = BatchItem(index=job.index, id=job.id, completion=outcome)
        self._items[job.index] = item
        if self._journal is not None and self._file_error is None:
            try:
                self._journal.write(job.index, job.id, self._keys[job.index], outcome)
            except OSError as error:
                self._file_error = error
                self.stop()  # requests under way are paid for: they are waited for, and go into the error's items

    def stop(self) -> None:
        """Start no further jobs."""
        self._stopped.set()

    def abandon(self) -> None:
        """Start no further jobs, and do not wait for those under way."""
        self._abandoned.set()
        self.stop()

    def close(self) -> None:
        """Flush and close the file. Raises BatchFileError, with all items, where it could not be written."""
        self.stop()
        if self._journal is None:
            return
        try:
            self._journal.close()
        except OSError as error:
            self._file_error = self._file_error or error
        if self._file_error is not None:
            batch_error = self._journal.file_error(self._file_error)
            batch_error.items = tuple(self.items())
            raise batch_error from self._file_error

    def items(self) -> list[BatchItem]:
        """The finished items, in the order of the requests."""
        return [self._items[index] for index in sorted(self._items)]


def run_in_threads(run: BatchRun, start: Callable[[Job], Stream[Any]]) -> None:
    """Answer all jobs in as many threads as the run has workers.

    When the calling thread is interrupted, finished outcomes are stored, and streams under way are closed.
    """
    outcomes: queue.SimpleQueue[Outcome | None] = queue.SimpleQueue()
    open_streams: dict[int, Stream[Any]] = {}

    def work() -> None:
        while (job := run.next_job()) is not None:
            try:
                with start(job) as stream:
                    open_streams[job.index] = stream
                    if run.abandoned:  # since the stream was opened
                        stream.close()
                    outcomes.put((job, stream.completion()))
            except BaseException as error:  # noqa: BLE001 - the calling thread raises what is no outcome
                outcomes.put((job, error))
            open_streams.pop(job.index, None)
        outcomes.put(None)

    workers = run.workers
    for number in range(workers):  # daemons, so that Ctrl-C need not wait for answers
        threading.Thread(target=work, name=f"llama4sdk-batch-{number}", daemon=True).start()
    try:
        while workers:
            outcome = outcomes.get()
            if outcome is None:
                workers -= 1
            else:
                run.record(*outcome)
    except BaseException:
        run.abandon()
        _store_finished(run, outcomes)
        for stream in list(open_streams.values()):
            stream.close()
        raise


def _store_finished(run: BatchRun, outcomes: queue.SimpleQueue[Outcome | None]) -> None:
    while not outcomes.empty():
        outcome = outcomes.get()
        if outcome is not None and not isinstance(outcome[1], BaseException):
            run.store(*outcome)


async def run_in_tasks(run: BatchRun, start: Callable[[Job], Awaitable[AsyncStream[Any]]]) -> None:
    """Answer all jobs in as many tasks as the run has workers; cancelling ends the requests under way."""

    async def work() -> None:
        while (job := run.next_job()) is not None:
            try:
                async with await start(job) as stream:
                    outcome: Completion[Any] | Llama4Error = await stream.completion()
            except Llama4Error as error:
                outcome = error
            run.record(job, outcome)

    tasks = [asyncio.ensure_future(work()) for _ in range(run.workers)]
    try:
        await asyncio.gather(*tasks)
    finally:
        run.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
