"""List the files of ours that one warm chat request visits, in the order in which it first enters them.

    python benchmarks/request_path.py [--model demo --backend torch] [--stream]

The first request loads the model and is not counted. Calls in other threads are not, either.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from llama4sdk import Client


def package_path(filename: str) -> str | None:
    """The path from the package on of a file of ours; ``None`` for other files."""
    parts = Path(filename).parts
    roots = [index for index, part in enumerate(parts[:-1]) if part.startswith("llama4sdk") and "-" not in part]
    return "/".join(parts[roots[0] :]) if roots else None


def visits(work: Callable[[], object]) -> Counter[str]:
    """Number of calls into each of our files from another file, in the order of the first ones."""
    entries: Counter[str] = Counter()

    def profile(frame: FrameType, event: str, _argument: object) -> None:
        if event != "call" or (path := package_path(frame.f_code.co_filename)) is None:
            return
        caller = frame.f_back
        if caller is None or package_path(caller.f_code.co_filename) != path:
            entries[path] += 1

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    return entries


def main() -> None:
    """Answer once to warm up, once under the profiler, and print the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="echo")
    parser.add_argument("--backend")
    parser.add_argument("--stream", action="store_true", help="count only until the stream is made, unread")
    options = parser.parse_args()
    with Client(options.model, backend=options.backend) as client:
        client.chat("Hello, llama!", max_tokens=8)
        if options.stream:
            entries = visits(lambda: client.chat("Hello, llama!", max_tokens=8, stream=True))
        else:
            entries = visits(lambda: client.chat("Hello, llama!", max_tokens=8))
    for path, count in entries.items():
        print(f"{count:5}  {path}")
    print(f"{entries.total():5}  entries into {len(entries)} files")


if __name__ == "__main__":
    main()
