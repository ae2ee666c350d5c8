"""Plans for many machines, kept in a file that people can read.

``GOLDEN=write pytest tests/capacity/test_golden.py`` writes it anew; look at the difference before committing it.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from llama4sdk_torch.backend import TorchBackend

from llama4sdk._text import gb
from llama4sdk.backend import Need, Offer
from llama4sdk.capacity.candidates import Candidate, candidates, rank
from llama4sdk.capacity.model_facts import ModelFacts
from llama4sdk.catalog.models import MAVERICK, SCOUT, ModelSpec
from llama4sdk.cli.views.plan_tables import candidate_speed, placement
from llama4sdk.hardware import Hardware
from llama4sdk.plan import Preference
from tests.capacity.fleet import fleet

#: All but cost: of plans that keep prompts here, none costs more than another.
POLICIES: tuple[Preference, ...] = ("balanced", "quality", "speed", "context")

FILE = Path(__file__).parent / "golden" / "machines.txt"


def test_machines_have_the_plans_of_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """For Scout and Maverick: the best there is by each policy, with any engine, and what torch offers."""
    monkeypatch.setenv("LLAMA4SDK_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    now = list(_lines())
    if os.environ.get("GOLDEN") == "write":
        FILE.write_text("".join(line + "\n" for line in now))
    then = FILE.read_text().splitlines()
    assert "\n".join(difflib.unified_diff(then, now, "the file", "now", lineterm="", n=3)) == ""


def test_the_fleet_is_large_and_its_names_are_its_own() -> None:
    """Sixty and more."""
    names = [name for name, _ in fleet()]
    assert len(set(names)) == len(names) > 60


def _lines() -> Iterator[str]:
    yield "# The best by each policy, with any engine: precision, where, longest context, predicted tokens a second."
    yield "# Below it what torch offers. Written by test_golden.py, which says how."
    for name, machine in fleet():
        yield f"{name}: {_described(machine)}"
        for spec in (SCOUT, MAVERICK):
            yield from _of(spec, machine)
        yield f"  torch    scout {_offered(SCOUT, machine)}; maverick {_offered(MAVERICK, machine)}"


def _described(machine: Hardware) -> str:
    cards: dict[str, int] = {}
    for device in machine.devices:
        label = f"{device.name} {gb(device.free_memory)}"
        cards[label] = cards.get(label, 0) + 1
    shown = [f"{count} x {label}" if count > 1 else label for label, count in cards.items()]
    return " + ".join([*shown, f"RAM {gb(machine.free_memory)}"])


def _of(spec: ModelSpec, machine: Hardware) -> Iterator[str]:
    model = ModelFacts.from_spec(spec)
    every = list(candidates([model], machine))
    best: dict[str, list[Preference]] = {}
    for prefer in POLICIES:
        ranked = rank(every, prefer)
        line = _candidate(ranked[0]) if ranked else _lacking(every)
        best.setdefault(line, []).append(prefer)
    for line, policies in best.items():
        whom = "any policy" if len(policies) == len(POLICIES) else ", ".join(policies)
        yield f"  {spec.name:<9}{whom:<28}{line}"


def _candidate(candidate: Candidate) -> str:
    layout = candidate.layout
    gain = "" if layout.support[0] == "native" else ", no gain"
    speed = candidate_speed(candidate) + gain
    return f"{layout.engine} {layout.precision}, {placement(layout)}, {layout.context:,}, {speed}"


def _lacking(every: list[Candidate]) -> str:
    least = min(every, key=lambda candidate: candidate.layout.missing).layout
    return f"nothing; nearest {least.engine} {least.precision}, {placement(least)}: {least.verdict}"


def _offered(spec: ModelSpec, machine: Hardware) -> str:
    offer = TorchBackend().offer(Need(model=spec.name), machine)
    if not isinstance(offer, Offer):
        return f"needs {gb(offer.need_memory or 0)}, has room for {gb(offer.have_memory or 0)}"
    memory = ", ".join(f"{gb(size)} on {device}" for device, size in offer.memory.items())
    return f"{offer.quantization} on {offer.placement}, {offer.context_length:,}, {memory}"
