"""The testing package for third parties: consistent machines, and pytest needed only for the kit."""

from __future__ import annotations

import subprocess
import sys

import pytest

import llama4sdk.testing
from llama4sdk.hardware import Hardware
from llama4sdk.testing import MACHINES


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES.keys())
def test_machines_are_consistent(machine: Hardware) -> None:
    """Nothing has more free memory than it has memory, and device ids are distinct."""
    assert machine.free_memory <= machine.total_memory
    assert all(device.free_memory <= device.total_memory for device in machine.devices)
    assert len({device.id for device in machine.devices}) == len(machine.devices)


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES.keys())
def test_machines_survive_a_file(machine: Hardware) -> None:
    """A machine written as JSON is read back the same."""
    assert Hardware.model_validate_json(machine.model_dump_json()) == machine


def test_every_public_name_can_be_had() -> None:
    """Each name in ``__all__`` resolves, and no other does."""
    for name in llama4sdk.testing.__all__:
        assert getattr(llama4sdk.testing, name) is not None
    with pytest.raises(AttributeError, match="Nonsense"):
        getattr(llama4sdk.testing, "Nonsense")  # noqa: B009 - mypy knows that it does not exist


def test_without_pytest_the_kit_says_so() -> None:
    """Where pytest is missing, the rest works and ``BackendConformance`` names the command that installs it."""
    program = """
import sys
sys.modules["pytest"] = None
from llama4sdk.testing import LAPTOP, ScriptedBackend, scripted_registry
from llama4sdk.errors import ConfigurationError
try:
    from llama4sdk.testing import BackendConformance
except ConfigurationError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    assert "pytest is not installed" in done.stdout
    assert "pip install 'pytest>=8'" in done.stdout


def test_only_the_kit_imports_pytest() -> None:
    """Machines, scripts and clients leave pytest alone."""
    program = """
import sys
import llama4sdk.testing.registry, llama4sdk.testing.machines, llama4sdk.testing.child, llama4sdk.client
print("pytest" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
