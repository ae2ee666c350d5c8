"""Build the wheels of the core and of every plugin, or of those named, and install them into this environment.

Tests then see what users get: a file missing from a wheel is noticed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: What needs an older transformers than the others are tested with: installed only where it is named.
APART = {"llama4sdk-optimum"}


def main(wheels: Path, plugins: Collection[str]) -> None:
    """Leave the wheels in ``wheels``, and nothing older; without ``plugins`` those of all that go together."""
    shutil.rmtree(wheels, ignore_errors=True)
    found = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))
    sources = [ROOT, *(path for path in found if (path.name in plugins if plugins else path.name not in APART))]
    pip("wheel", "--no-deps", "--wheel-dir", str(wheels), *map(str, sources))
    built = sorted(map(str, wheels.glob("*.whl")))
    pip("install", "--force-reinstall", "--no-deps", *built)  # the version may be the one installed already
    pip("install", *built)  # what they depend on
    pip("check")


def pip(*arguments: str) -> None:
    """Run pip quietly; its errors still show."""
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *arguments], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
