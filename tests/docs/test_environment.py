"""The table of environment variables is complete, and names nothing that is not read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from llama4sdk import settings

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs" / "environment.md").read_text(encoding="utf-8")
VARIABLE: Final = re.compile(r"LLAMA4SDK_[A-Z_]+[A-Z]")


def test_the_table_names_every_variable_of_the_sdk() -> None:
    """The page lists exactly the variables that the core and the plugins name."""
    sources = [*ROOT.glob("llama4sdk/**/*.py"), *ROOT.glob("plugins/*/src/**/*.py")]
    named = {name for path in sources for name in VARIABLE.findall(path.read_text(encoding="utf-8"))}
    assert named == set(VARIABLE.findall(PAGE))


def test_the_table_names_what_the_doctor_shows_of_others() -> None:
    """Variables of other programs that change what runs here; those of single endpoints are named by ``backends``."""
    shared = {name for name in settings.OTHERS if not name.endswith(("_BASE_URL", "_API_KEY"))} - set(settings.KEYS)
    missing = {name for name in shared - set(settings.ADDRESSES) if f"`{name}`" not in PAGE}
    assert not missing
