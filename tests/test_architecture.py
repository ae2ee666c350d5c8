"""The shape of the source: who may import whom, how long files are, and which words names are made of."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]

#: Source folders by package: the core and every plugin.
PACKAGES: Final = {
    "llama4sdk": ROOT / "llama4sdk",
    **{path.name: path for path in sorted(ROOT.glob("plugins/*/src/llama4sdk_*"))},
}

#: The core from top to bottom. A module imports from its own layer and those below, also where only types are needed.
LAYERS: Final = (
    ("cli", "__main__"),
    ("testing",),
    ("diagnostics",),
    ("client", "aclient"),
    ("batch",),
    ("session",),
    ("planning",),
    ("streams", "tools", "echo"),
    ("local", "remote"),
    ("weights",),
    ("capacity",),
    ("probe",),
    ("catalog",),
    ("llama4",),
    ("registry",),
    ("hookspecs",),
    ("exporter",),
    ("backend",),
    ("endpoint", "plan", "capabilities"),
    ("messages", "requests", "results", "constraints", "quantization", "hardware"),
    ("llama4.images",),
    ("settings",),
    ("errors", "_error_values"),
    ("events", "progress"),
    ("_values", "_text", "_installed"),
)

MAX_ROOT_MODULES: Final = 28
MAX_FILE_LINES: Final = 400
MAX_FUNCTION_LINES: Final = 60

#: Words that say nothing about what is named, or that the field has another word for (docs/architecture.md, "Words").
FORBIDDEN_WORDS: Final = frozenset(
    {
        *("trip", "walk", "errand", "errands", "spot", "spots", "holding", "held", "kept", "told", "found", "outlook"),
        *("surroundings", "secrecy", "concession", "concessions", "shortfall", "overview", "subject", "subjects"),
    }
)

#: Names of modules that were replaced.
FORBIDDEN_MODULES: Final = frozenset(
    {
        *("host", "room", "shares", "turns", "metering", "guidance", "tries", "breaks", "clock", "marks", "narrow"),
        *("details", "reasons", "bars", "matrices", "spans", "masks", "offering", "opened", "hashes", "drawing"),
        *("choices", "connecting", "containers", "access", "reading", "wire", "shapes", "native", "counting"),
    }
)

#: Names of classes that were replaced.
FORBIDDEN_CLASSES: Final = frozenset(
    {
        *("Trip", "Walk", "Errand", "Host", "Room", "Share", "Spot", "Hold", "Terms", "Ask", "Turns", "Meter", "Guide"),
        *("AnswerText", "AnswerEvents", "Prompts", "Tries", "Trust"),
    }
)

#: Fixed by the field or by a public interface: ``WeightsNotFoundError``, ``FileNotFoundError``.
ALLOWED_NAMES: Final = re.compile(r"\w*not_?found\w*", re.IGNORECASE)


@cache
def modules(package: str) -> Mapping[str, Path]:
    """The package's modules by dotted name."""
    folder = PACKAGES[package]
    names = {".".join(path.relative_to(folder.parent).with_suffix("").parts): path for path in folder.rglob("*.py")}
    return {name.removesuffix(".__init__"): path for name, path in sorted(names.items())}


@cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(package: str) -> Mapping[str, frozenset[str]]:
    """The package's modules that each module imports: at the top, within functions, and for types alone."""
    known = modules(package)
    graph: dict[str, frozenset[str]] = {}
    for name, path in known.items():
        targets: set[str] = set()
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Import):
                targets.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                members = {f"{node.module}.{alias.name}" for alias in node.names}
                targets |= members & known.keys() or {node.module}
        graph[name] = frozenset(targets & known.keys() - {name})
    return graph


def cycles(graph: Mapping[str, frozenset[str]]) -> list[list[str]]:
    """Groups of modules that import each other, by repeatedly dropping modules that import nothing left."""
    left = {name: set(targets) for name, targets in graph.items()}
    while leaves := [name for name, targets in left.items() if not targets & left.keys()]:
        for name in leaves:
            del left[name]
    reachable = {name: _reachable(name, left) for name in left}
    groups = {frozenset(b for b in reachable[a] if a in reachable[b]) for a in left if a in reachable[a]}
    return sorted(sorted(group) for group in groups)


def _reachable(start: str, graph: Mapping[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    queue = [start]
    while queue:
        for target in graph[queue.pop()] & graph.keys() - seen:
            seen.add(target)
            queue.append(target)
    return seen


def layer(module: str) -> int:
    """The number of a core module's layer, 0 at the top; the package itself is above all."""
    parts = module.split(".")[1:]
    for length in (2, 1):
        for number, members in enumerate(LAYERS):
            if ".".join(parts[:length]) in members:
                return number
    assert not parts, f"{module} has no layer: add it to LAYERS"
    return -1


@pytest.mark.parametrize("package", PACKAGES)
def test_no_modules_import_each_other_in_a_circle(package: str) -> None:
    """Every module can be read after those it imports."""
    assert cycles(imports(package)) == []


def test_the_search_for_circles_finds_them() -> None:
    """The check above can fail."""
    graph = {"a": frozenset("b"), "b": frozenset("ac"), "c": frozenset("d"), "d": frozenset[str](), "e": frozenset("a")}
    assert cycles(graph) == [["a", "b"]]


def test_nothing_imports_upward() -> None:
    """The command line stands on the client, the client on the session, and so on down to plain values."""
    graph = imports("llama4sdk")
    upward = [
        f"{name} -> {target}"
        for name, targets in graph.items()
        for target in sorted(targets)
        if layer(target) < layer(name) and target != "llama4sdk"
    ]
    assert upward == []


def test_the_root_shows_the_architecture() -> None:
    """``ls llama4sdk`` is short enough to be read."""
    names = [path.stem for path in PACKAGES["llama4sdk"].glob("*.py") if not path.stem.startswith("__")]
    assert len(names) <= MAX_ROOT_MODULES, sorted(names)


@pytest.mark.parametrize("package", PACKAGES)
def test_files_and_functions_are_short(package: str) -> None:
    """No file and no function is longer than can be held in the head."""
    long = []
    for name, path in modules(package).items():
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > MAX_FILE_LINES:
            long.append(f"{name}: {lines} lines")
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MAX_FUNCTION_LINES:
                    long.append(f"{name}.{node.name}: {length} lines")
    assert long == []


@pytest.mark.parametrize("package", PACKAGES)
def test_names_are_made_of_the_words_of_the_field(package: str) -> None:
    """Modules, classes, functions and public attributes are named as the field names them."""
    names = [f"{module}: {name}" for module, name in _names(package) if _is_forbidden(name)]
    names += [name for name in modules(package) if name.rpartition(".")[2] in FORBIDDEN_MODULES]
    assert names == []


@pytest.mark.parametrize("name", ["Trip", "_told", "what_was_found", "MaxHeld"])
def test_forbidden_names_are_recognized(name: str) -> None:
    """The check above can fail, for whole names and for words within them."""
    assert _is_forbidden(name)


@pytest.mark.parametrize("name", ["WeightsNotFoundError", "foundation", "Dispatch", "DeviceRoom"])
def test_other_names_are_allowed(name: str) -> None:
    """Words are compared whole."""
    assert not _is_forbidden(name)


@pytest.mark.parametrize("package", PACKAGES)
def test_docstrings_open_with_a_noun_or_a_verb(package: str) -> None:
    """A docstring's first words name the thing, which "What …" does not."""
    assert [
        f"{name}.{getattr(node, 'name', '')}"
        for name, path in modules(package).items()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and (ast.get_docstring(node) or "").startswith("What ")
    ] == []


def _names(package: str) -> Iterator[tuple[str, str]]:
    """Module names, and the classes, functions and public attributes defined in each."""
    for module, path in modules(package).items():
        yield module, module.rpartition(".")[2]
        for node in ast.walk(tree(path)):
            match node:
                case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                    yield module, name
                case ast.AnnAssign(target=ast.Attribute(attr=name)) if not name.startswith("_"):
                    yield module, name
                case ast.Assign(targets=[ast.Attribute(attr=name)]) if not name.startswith("_"):
                    yield module, name
                case _:
                    pass
            if isinstance(node, ast.ClassDef):
                for field in node.body:
                    if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                        yield module, field.target.id


def _is_forbidden(name: str) -> bool:
    if ALLOWED_NAMES.fullmatch(name) or name.startswith("test_"):  # names of tests are sentences
        return False
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)
    return name.lstrip("_") in FORBIDDEN_CLASSES or any(word.lower() in FORBIDDEN_WORDS for word in words)
