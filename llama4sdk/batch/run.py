"""Doing a batch: what both clients share, then threads for the one and tasks for the other."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from llama4sdk.batch.items import BatchItem, BatchRequest, Job, as_jobs
from llama4sdk.batch.journal import Journal
from llama4sdk.errors import InvalidRequestError, Llama4Error

if TYPE_CHECKING:
    from llama4sdk.progress import Progress
    from llama4sdk.results import Completion
    from llama4sdk.streams import AsyncStream, Stream

__all__ = ["Run", "in_tasks", "in_threads"]

Outcome: TypeAlias = "tuple[Job, Completion[Any] | BaseException]"


class Run:
    """The jobs of a batch and what came of them. ``next`` may be called from any thread, the rest from one."""

    def __init__(
        self,
        requests: Iterable[BatchRequest],
        *,
        concurrency: int,
        model: str | None,
        path: str | Path | None,
        progress: Progress | None,
    ) -> None:
        """Reads the requests and the file. Raises what is wrong with either, before anything is asked."""
        if concurrency < 1:
            raise InvalidRequestError(
                f"concurrency is {concurrency}.", hint="It counts requests at once; pass at least 1."
            )
        self._jobs = as_jobs(requests)
        self._concurrency = concurrency
        self._keys = {job.index: job.key(model) for job in self._jobs}
        self._progress = progress
        self._items: dict[int, BatchItem] = {}
        self._broken: OSError | None = None
        self._stopped = threading.Event()
        self._journal = None if path is None else Journal(Path(path), self._keys)
        answers = self._journal.answers if self._journal else {}
        for job in self._jobs:
            if (answer := answers.get(job.index)) is not None:
                answer._constraint = job.request.constraint
                self._items[job.index] = BatchItem(index=job.index, id=job.id, completion=answer, resumed=True)
        self._abandoned = threading.Event()
        self._jobs_left = iter([job for job in self._jobs if job.index not in self._items])
        self._lock = threading.Lock()
        if progress is not None and self._items:
            progress(len(self._items), len(self._jobs))

    @property
    def workers(self) -> int:
        """How many may ask at once."""
        return min(self._concurrency, len(self._jobs) - len(self._items))

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits for answers any more."""
        return self._abandoned.is_set()

    @property
    def models(self) -> set[str | None]:
        """Those that requests name, ``None`` where one does not."""
        return {job.model for job in self._jobs if job.index not in self._items}

    def next(self) -> Job | None:
        """What is to be asked now; ``None`` when nothing is."""
        with self._lock:
            return None if self._stopped.is_set() else next(self._jobs_left, None)

    def take(self, job: Job, outcome: Completion[Any] | BaseException) -> None:
        """Keep what came of a job, and tell of it. Raises what is no outcome but an end: a bug, or the callback's."""
        self.keep(job, outcome)
        if self._progress is not None:
            self._progress(len(self._items), len(self._jobs))

    def keep(self, job: Job, outcome: Completion[Any] | BaseException) -> None:
        """The same without telling."""
        if isinstance(outcome, Llama4Error):
            item = BatchItem(index=job.index, id=job.id, error=outcome)
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            item = BatchItem(index=job.index, id=job.id, completion=outcome)
        self._items[job.index] = item
        if self._journal is not None and self._broken is None:
            try:
                self._journal.write(job.index, job.id, self._keys[job.index], outcome)
            except OSError as error:
                self._broken = error
                self.stop()  # those under way are paid for: they are waited for, and kept in the error

    def stop(self) -> None:
        """Ask nothing more."""
        self._stopped.set()

    def leave(self) -> None:
        """Ask nothing more, and wait for nothing."""
        self._abandoned.set()
        self.stop()

    def close(self) -> None:
        """Leave the file whole. Raises BatchFileError, with all items, where it could not be written."""
        self.stop()
        if self._journal is None:
            return
        try:
            self._journal.close()
        except OSError as error:
            self._broken = self._broken or error
        if self._broken is not None:
            raised = self._journal.failed(self._broken)
            raised.items = tuple(self.items())
            raise raised from self._broken

    def items(self) -> list[BatchItem]:
        """What is done, in the order of the requests."""
        return [self._items[index] for index in sorted(self._items)]


def in_threads(run: Run, start: Callable[[Job], Stream[Any]]) -> None:
    """Ask all, so many at a time.

    When the caller leaves before the end, what is done by then is kept, and what is under way is broken off.
    """
    inbox: queue.SimpleQueue[Outcome | None] = queue.SimpleQueue()
    open_streams: dict[int, Stream[Any]] = {}

    def work() -> None:
        while (job := run.next()) is not None:
            try:
                with start(job) as stream:
                    open_streams[job.index] = stream
                    if run.abandoned:  # between the job's start and this line
                        stream.close()
                    inbox.put((job, stream.completion()))
            except BaseException as error:  # noqa: BLE001 - told apart, and raised again, by who takes it
                inbox.put((job, error))
            open_streams.pop(job.index, None)
        inbox.put(None)

    workers = run.workers
    for number in range(workers):  # daemons: who presses Ctrl-C does not wait for answers
        threading.Thread(target=work, name=f"llama4sdk-batch-{number}", daemon=True).start()
    try:
        while workers:
            outcome = inbox.get()
            if outcome is None:
                workers -= 1
            else:
                run.take(*outcome)
    except BaseException:
        run.leave()
        _keep_the_rest(run, inbox)
        for stream in list(open_streams.values()):
            stream.close()
        raise


def _keep_the_rest(run: Run, inbox: queue.SimpleQueue[Outcome | None]) -> None:
    while not inbox.empty():
        outcome = inbox.get()
        if outcome is not None and not isinstance(outcome[1], BaseException):
            run.keep(*outcome)


async def in_tasks(run: Run, start: Callable[[Job], Awaitable[AsyncStream[Any]]]) -> None:
    """The same in an event loop; cancelling breaks off those under way."""

    async def work() -> None:
        while (job := run.next()) is not None:
            try:
                async with await start(job) as stream:
                    outcome: Completion[Any] | Llama4Error = await stream.completion()
            except Llama4Error as error:
                outcome = error
            run.take(job, outcome)

    tasks = [asyncio.ensure_future(work()) for _ in range(run.workers)]
    try:
        await asyncio.gather(*tasks)
    finally:
        run.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
