"""The file of a batch survives Ctrl-C, an incomplete line and a full disk, and refuses other requests."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from llama4sdk import Client
from llama4sdk.errors import BatchFileError, InvalidRequestError, OverloadedError
from llama4sdk.events import Finish, TextDelta, TokenLogprob, TopLogprob
from tests.batch.test_batch import KINDS, batch, here
from tests.session.backends import text_answer

REQUESTS = ["one", "two", "three"]


def lines(path: Path) -> list[dict[str, object]]:
    """The lines of a batch's file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_answered_is_not_asked_again(kind: str, tmp_path: Path) -> None:
    """Only failed requests are repeated; the file has a line for each outcome, and no prompt."""
    path = tmp_path / "out.jsonl"
    backends = here(*text_answer("1"), later=[[OverloadedError("full", hint="Wait.")], text_answer("3")])
    first = batch(kind, backends, REQUESTS, path=path, concurrency=1)
    assert [item.error is None for item in first] == [True, False, True]
    backends = here(*text_answer("2"), later=[text_answer("4")])
    second = batch(kind, backends, [*REQUESTS, "four"], path=str(path), concurrency=1)
    assert [(item.result().text, item.resumed) for item in second] == [
        ("1", True),
        ("2", False),
        ("3", True),
        ("4", False),
    ]
    written = lines(path)
    assert [line["index"] for line in written] == [0, 1, 2, 1, 3]
    assert written[1]["error"] == {"type": "OverloadedError", "message": "full", "hint": "Wait."}
    assert "two" not in path.read_text(encoding="utf-8")
    backends = here()
    assert all(item.resumed for item in batch(kind, backends, [*REQUESTS, "four"], path=path))
    assert not backends.backend("here").engines


def test_log_probabilities_survive(tmp_path: Path) -> None:
    """That of what cannot be, too, for which JSON has no number."""
    path = tmp_path / "out.jsonl"
    impossible = TokenLogprob(token="x", logprob=-0.5, top=(TopLogprob(token="y", logprob=-math.inf),))
    steps = [TextDelta(text="x", logprobs=(impossible,)), Finish(reason="stop")]
    first, second = (batch("sync", here(*steps), ["one"], path=path) for _ in range(2))
    assert second[0].resumed
    assert second[0].completion == first[0].completion


@pytest.mark.parametrize("changed", [["one", "zwei", "three"], ["one", "two"]], ids=["changed", "missing"])
def test_other_requests_are_noticed(changed: list[str], tmp_path: Path) -> None:
    """Their answers are neither given for these nor mixed with them; a model that changed is another request, too."""
    path = tmp_path / "out.jsonl"
    batch("sync", here(), REQUESTS, path=path)
    before = path.read_bytes()
    with pytest.raises(InvalidRequestError, match=r"out.jsonl is about other requests: number \d has changed"):
        batch("sync", here(), changed, path=path)
    with pytest.raises(InvalidRequestError, match="about other requests"):
        batch("sync", here(model="maverick"), REQUESTS, model="maverick", path=path)
    assert path.read_bytes() == before


def test_a_torn_line_is_dropped_wherever_it_is_torn(tmp_path: Path) -> None:
    """A process that died within a write loses that line at most."""
    path = tmp_path / "out.jsonl"
    batch("sync", here(), REQUESTS, path=path, concurrency=1)
    whole = path.read_bytes()
    start = whole[:-1].rindex(b"\n") + 1
    for cut in range(start + 1, len(whole), 7):
        path.write_bytes(whole[:cut])
        items = batch("sync", here(), REQUESTS, path=path)
        assert [item.resumed for item in items] == [True, True, False]
        assert len(lines(path)) == 3


@pytest.mark.parametrize("content", [b"precious", b"precious\n", b'{"index": 0}\n', b'[1]\n{"index": '])
def test_a_file_of_something_else_is_left_alone(content: bytes, tmp_path: Path) -> None:
    """A file of another kind is neither cut off nor written."""
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(InvalidRequestError, match=r"Line 1 of .*notes.txt is none of a batch"):
        batch("sync", here(), REQUESTS, path=path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("kind", KINDS)
def test_a_path_that_cannot_be_written(kind: str, tmp_path: Path) -> None:
    """A second process gets an error before anything is sent."""
    backends = here()
    with pytest.raises(BatchFileError, match="could not be written"):
        batch(kind, backends, REQUESTS, path=tmp_path / "absent" / "out.jsonl")
    assert not backends.backend("here").engines


def test_two_at_once_would_disturb_each_other(tmp_path: Path) -> None:
    """The second is told so, and the first goes on."""
    path, gate = tmp_path / "out.jsonl", threading.Event()
    backends = here(gate, *text_answer("x"))

    def second() -> None:
        try:
            with pytest.raises(BatchFileError, match="Another process writes"):
                batch("sync", here(), REQUESTS, path=path)
        finally:
            gate.set()

    def start_batch() -> None:
        engines = backends.backend("here").engines
        while not engines or not engines[0].requests:
            threading.Event().wait(0.005)
        second()

    other = threading.Thread(target=start_batch)
    other.start()
    assert len(batch("sync", backends, REQUESTS, path=path)) == 3
    other.join()


FULL = """
import resource, signal, sys
from llama4sdk import Client
from llama4sdk.errors import BatchFileError
resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))
with Client("echo") as client:
    try:
        client.batch([f"number {n}" for n in range(50)], path=sys.argv[1], concurrency=4)
    except BatchFileError as error:
        print(error)
        print(all(item.result().text == f"number {item.index}" for item in error.items), len(error.items) > 4)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    """No line is half written, the error has the answers, and the batch can go on later."""
    path = tmp_path / "out.jsonl"
    # -B: what Python keeps of a module it compiles would be cut, too.
    done = subprocess.run([sys.executable, "-B", "-c", FULL, str(path)], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert "could not be written: File too large" in done.stdout
    assert "Free some space, then call again" in done.stdout
    assert done.stdout.endswith("True True\n")
    journal_lines = lines(path)
    assert 0 < len(journal_lines) < 10
    with Client("echo") as client:
        items = client.batch([f"number {n}" for n in range(50)], path=path)
    assert sum(item.resumed for item in items) == len(journal_lines)
    assert [item.result().text for item in items] == [f"number {n}" for n in range(50)]


INTERRUPTED = """
import asyncio, sys, threading
from tests.batch.test_batch import batch, here
from tests.session.backends import text_answer
never = threading.Event()
backends = here(*text_answer("1"), later=[text_answer("2"), [never]])
def progress(done, total):
    if done == 2:
        print("two", flush=True)
batch(sys.argv[2], backends, ["one", "two", "three", "four"], path=sys.argv[1], concurrency=2, progress=progress)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for one process")
@pytest.mark.parametrize("kind", KINDS)
def test_ctrl_c_keeps_what_is_done(kind: str, tmp_path: Path) -> None:
    """It does not wait for answers that are under way, and the next call goes on."""
    path = tmp_path / "out.jsonl"
    command = [sys.executable, "-c", INTERRUPTED, str(path), kind]
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as it:
        assert it.stdout is not None
        assert it.stdout.readline() == "two\n"
        it.send_signal(signal.SIGINT)
        _, errors = it.communicate(timeout=30)
    assert "KeyboardInterrupt" in errors
    assert len(lines(path)) == 2
    items = batch(kind, here(), ["one", "two", "three", "four"], path=path)
    assert [item.resumed for item in items].count(True) == 2


def test_cancelling_breaks_off_what_is_under_way(tmp_path: Path) -> None:
    """No stream stays open, and what was done is in the file."""
    never, path = threading.Event(), tmp_path / "out.jsonl"
    backends = here(*text_answer("1"), later=[[never]])

    async def main() -> None:
        async with backends.aclient("scout") as client:
            done = asyncio.Event()
            task = asyncio.create_task(
                client.batch(["a", "b", "c"], path=path, concurrency=2, progress=lambda d, t: done.set())
            )
            await done.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    assert len(lines(path)) == 1
    engine, deadline = backends.backend("here").engines[0], time.monotonic() + 10
    while engine.open_streams and time.monotonic() < deadline:  # its threads end on their own
        time.sleep(0.01)
    assert engine.open_streams == 0
