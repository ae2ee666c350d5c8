"""Everything shown in the README, the docs and the examples runs, and prints what is shown."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "plugins").glob("*/README.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

EXPECTED = {
    "chat.py": r"Paris",
    "conversation.py": r"Paris[\s\S]*Rome",
    "stream.py": r"(.|\n){200,}…",
    "asynchronous.py": r"Paris[\s\S]*Berlin[\s\S]*Lima",
    "search.py": r"\A\S+  Paris is the capital",
    "plan.py": r"demo with torch on[\s\S]*not scout on torch",
    "structured.py": r"City\(name='Paris'[\s\S]*yes[\s\S]*\d{4}-\d\d-\d\d",
    "tools.py": r"20 °C[\s\S]*Lima",
    "custom_backend.py": r"HELLO, LLAMA!",
    "fallback.py": r"Hello, llama! from echo\nfull -> OverloadedError[\s\S]*echo -> answered",
    "batch.py": r"60 answered\n60 were there, 100 in all\n0 What is 0 times 0\?",
}

SNIPPET = re.compile(r"```python\n(.*?)```(?:\n+```text\n(.*?)```)?", re.DOTALL)


def run(code: str | Path) -> str:
    """Run a program as a stranger would; what it prints."""
    command = [sys.executable, str(code)] if isinstance(code, Path) else [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT / "examples", timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def snippets() -> list[tuple[str, str, str | None]]:
    """Every Python block of every page, with the output shown below it, if any."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in SNIPPET.finditer(text):
            line = text.count("\n", 0, match.start()) + 2
            found.append((f"{page.relative_to(ROOT)}:{line}", match[1], match[2]))
    return found


def test_every_example_has_an_expectation() -> None:
    """A new example comes with what it should print."""
    assert sorted(EXPECTED) == [path.name for path in EXAMPLES]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_run(path: Path) -> None:
    """Each is short, runs, and prints what it is about."""
    assert len(path.read_text().splitlines()) < 40
    assert re.search(EXPECTED[path.name], run(path))


@pytest.mark.parametrize(("place", "code", "output"), snippets(), ids=[place for place, _, _ in snippets()])
def test_snippets_print_what_is_shown(place: str, code: str, output: str | None) -> None:
    """The output on the page is the output of the program."""
    printed = run(code)
    if output is not None:
        assert printed.rstrip() == output.rstrip(), place
