"""What was measured of a machine makes its plans better, and nothing worse."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from llama4sdk import weights
from llama4sdk.cli.fetching import fetch
from llama4sdk.diagnostics.runnable import runnable_models
from llama4sdk.errors import CheckpointError, ConfigurationError
from llama4sdk.probe import probe
from llama4sdk.probe.measurements import (
    Measured,
    apply_measurements,
    load,
    machine_id,
    measurements_file,
    record_download,
    save,
)
from llama4sdk.progress import Progress
from llama4sdk.testing.machines import H100_X8, LAPTOP

FOUND = Measured(machine=machine_id(), day="2026-11-21", memory=31 * 10**9, disk=2 * 10**9, devices={"cuda:1": 5})


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLAMA4SDK_HOME", str(tmp_path))
    return tmp_path


def test_it_is_kept_and_read_back(home: Path) -> None:
    """In one file, and nothing beside it."""
    assert load(home) is None
    save(home, FOUND)
    assert load(home) == FOUND
    assert [file.name for file in home.iterdir()] == ["calibration.json"]


def test_the_probe_takes_it_up(home: Path) -> None:
    """Every plan on this machine knows it from then on."""
    assert probe().memory_bandwidth is None
    save(home, FOUND)
    found = probe()
    assert (found.memory_bandwidth, found.disk_bandwidth) == (31 * 10**9, 2 * 10**9)
    assert (found.measured, found.problems) == ("2026-11-21", ())


def test_another_machine_s_is_not_taken(home: Path) -> None:
    """A home that several machines share."""
    save(home, FOUND.model_copy(update={"machine": "elsewhere x86_64 128"}))
    assert load(home) is None
    assert probe().memory_bandwidth is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"version": 2}', "\x00", FOUND.model_dump_json().replace("31000000000", "-5")]
)
def test_a_damaged_file_is_left_out_and_told(home: Path, text: str) -> None:
    """Predictions guess again, and the doctor says why."""
    measurements_file(home).write_text(text)
    with pytest.raises(CheckpointError, match=r"calibration\.json is damaged") as caught:
        load(home)
    assert "doctor --bench" in (caught.value.hint or "")
    found = probe()
    assert found.memory_bandwidth is None
    (problem,) = found.problems
    assert problem.startswith(f"Could not read what was measured: {measurements_file(home)} is damaged (")
    assert "Hint" not in problem


def test_a_write_that_fails_leaves_the_old_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no other."""
    save(home, FOUND)

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(home, FOUND.model_copy(update={"memory": 1}))
    assert [file.name for file in home.iterdir()] == ["calibration.json"]
    assert load(home) == FOUND


def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    """It is an error with a way out."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="could not be written") as caught:
        save(tmp_path / "file" / "home", FOUND)
    assert caught.value.hint


def test_devices_are_found_by_their_names() -> None:
    """A link that was measured goes before what is specified; others stay."""
    before = H100_X8.model_copy(
        update={"devices": tuple(d.model_copy(update={"host_bandwidth": 9}) for d in H100_X8.devices)}
    )
    assert [device.host_bandwidth for device in apply_measurements(before, FOUND).devices[:3]] == [9, 5, 9]
    assert apply_measurements(before, None) == before


def test_what_is_measured_is_no_longer_guessed() -> None:
    """The interval of a processor's speed narrows, and a disk's is there at all."""
    before = {(row.model, row.bits): row for row in runnable_models(LAPTOP, usable=("torch",))}
    after = {
        (row.model, row.bits): row for row in runnable_models(apply_measurements(LAPTOP, FOUND), usable=("torch",))
    }
    guess, known = before["demo", 16].decode, after["demo", 16].decode
    assert guess is not None
    assert known is not None
    assert known.high / known.low < guess.high / guess.low
    assert before["scout", 4].decode is None
    assert after["scout", 4].decode is not None


def test_a_download_tells_how_fast_the_next_will_be(home: Path) -> None:
    """Beside what else was measured, if it was long enough to tell; it says nothing of memory and disk."""
    record_download(home, 10**6, 1.0)
    assert load(home) is None
    record_download(home, 10**9, 20.0)
    (alone,) = (load(home),)
    assert alone is not None
    machine = apply_measurements(LAPTOP, alone)
    assert (machine.download_bandwidth, machine.memory_bandwidth, machine.measured) == (50_000_000, None, None)
    save(home, FOUND)
    record_download(home, 10**9, 10.0)
    assert load(home) == FOUND.model_copy(update={"download": 10**8})


def test_pulling_notes_how_fast_it_went(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting only what came now, not what an earlier try had left."""

    def pull(model: str, *, progress: Progress) -> Path:
        progress(10**9, 2 * 10**9)
        time.sleep(0.01)
        progress(10**9 + 20_000_000, 2 * 10**9)
        return home

    monkeypatch.setattr(weights, "pull", pull)
    assert fetch("demo", yes=True) == home
    found = load(home)
    assert found is not None
    assert found.download is not None
    assert 0 < found.download <= 2_000_000_000


def test_a_download_that_cannot_be_noted_is_still_one(tmp_path: Path) -> None:
    """Neither a home that cannot be written nor a damaged file is a reason to fail."""
    (tmp_path / "file").write_text("")
    record_download(tmp_path / "file" / "home", 10**9, 1.0)
    measurements_file(tmp_path).write_text("{")
    record_download(tmp_path, 10**9, 1.0)
    assert measurements_file(tmp_path).read_text() == "{"
