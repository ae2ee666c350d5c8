"""Measured speeds replace specified ones in plans."""

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
    NAME,
    Measured,
    apply_measurements,
    load,
    machine_id,
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


def test_measurements_are_saved_and_loaded(home: Path) -> None:
    """Measurements are saved in a single file and loaded again."""
    assert load(home) is None
    save(home, FOUND)
    assert load(home) == FOUND
    assert [file.name for file in home.iterdir()] == ["calibration.json"]


def test_the_probe_applies_them(home: Path) -> None:
    """The probe applies saved measurements."""
    assert probe().memory_bandwidth is None
    save(home, FOUND)
    hardware = probe()
    assert (hardware.memory_bandwidth, hardware.disk_bandwidth) == (31 * 10**9, 2 * 10**9)
    assert (hardware.measured, hardware.problems) == ("2026-11-21", ())


def test_another_machine_s_is_not_taken(home: Path) -> None:
    """Measurements of another machine with the same home are ignored."""
    save(home, FOUND.model_copy(update={"machine": "elsewhere x86_64 128"}))
    assert load(home) is None
    assert probe().memory_bandwidth is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"version": 2}', "\x00", FOUND.model_dump_json().replace("31000000000", "-5")]
)
def test_a_damaged_file_is_ignored_and_reported(home: Path, text: str) -> None:
    """A damaged file is ignored and reported as a problem."""
    (home / NAME).write_text(text)
    with pytest.raises(CheckpointError, match=r"calibration\.json is damaged") as caught:
        load(home)
    assert "doctor --bench" in (caught.value.hint or "")
    hardware = probe()
    assert hardware.memory_bandwidth is None
    (problem,) = hardware.problems
    assert problem.startswith(f"Could not read what was measured: {home / NAME} is damaged (")
    assert "Hint" not in problem


def test_a_write_that_fails_leaves_the_old_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupted write leaves the old file and no other."""
    save(home, FOUND)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(home, FOUND.model_copy(update={"memory": 1}))
    assert [file.name for file in home.iterdir()] == ["calibration.json"]
    assert load(home) == FOUND


def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    """A home that cannot be written is an error with a hint."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="could not be written") as caught:
        save(tmp_path / "file" / "home", FOUND)
    assert caught.value.hint


def test_devices_are_found_by_their_names() -> None:
    """A measured link replaces the specified one of its device; others stay."""
    before = H100_X8.model_copy(
        update={"devices": tuple(d.model_copy(update={"host_bandwidth": 9}) for d in H100_X8.devices)}
    )
    assert [device.host_bandwidth for device in apply_measurements(before, FOUND).devices[:3]] == [9, 5, 9]
    assert apply_measurements(before, None) == before


def test_what_is_measured_is_no_longer_guessed() -> None:
    """Measured memory narrows the predicted speed, and a measured disk predicts loading times."""
    before = {(row.model, row.bits): row for row in runnable_models(LAPTOP, usable=("torch",))}
    after = {
        (row.model, row.bits): row for row in runnable_models(apply_measurements(LAPTOP, FOUND), usable=("torch",))
    }
    guess, measured = before["demo", 16].decode, after["demo", 16].decode
    assert guess is not None
    assert measured is not None
    assert measured.high / measured.low < guess.high / guess.low
    assert before["scout", 4].decode is None
    assert after["scout", 4].decode is not None


def test_a_download_tells_how_fast_the_next_will_be(home: Path) -> None:
    """A large download's speed is saved beside other measurements, which stay as they are."""
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
    """A pull records the speed of the bytes that came now."""

    def pull(model: str, *, progress: Progress) -> Path:
        progress(10**9, 2 * 10**9)
        time.sleep(0.01)
        progress(10**9 + 20_000_000, 2 * 10**9)
        return home

    monkeypatch.setattr(weights, "pull", pull)
    assert fetch("demo", yes=True) == home
    hardware = load(home)
    assert hardware is not None
    assert hardware.download is not None
    assert 0 < hardware.download <= 2_000_000_000


def test_a_download_that_cannot_be_noted_is_still_one(tmp_path: Path) -> None:
    """A home that cannot be written or a damaged file does not fail a download."""
    (tmp_path / "file").write_text("")
    record_download(tmp_path / "file" / "home", 10**9, 1.0)
    (tmp_path / NAME).write_text("{")
    record_download(tmp_path, 10**9, 1.0)
    assert (tmp_path / NAME).read_text() == "{"
