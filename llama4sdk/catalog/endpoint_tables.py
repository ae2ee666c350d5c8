"""Listings of models at endpoints, read from ``endpoints.csv`` and the user's own file on top of it."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Field, ValidationError, field_serializer

from llama4sdk import settings
from llama4sdk._text import nearest
from llama4sdk._values import Value
from llama4sdk.errors import ConfigurationError

KEY_COLUMNS: Final = ("endpoint", "model")

#: Columns that hold several words.
LIST_COLUMNS: Final = ("ids", "features", "lacks")

#: In a user's file: removes a value. An empty cell leaves it as it is.
REMOVED: Final = "none"

#: How long a listing counts as current.
CURRENT_FOR: Final = timedelta(days=90)

#: Alternatives that a message names at most.
MAX_NAMED_ALTERNATIVES: Final = 4

Row: TypeAlias = dict[str, object]
Ability: TypeAlias = Literal["images", "tools", "stream_tools", "tool_choice", "json_schema"]
Tokens: TypeAlias = Annotated[int, Field(ge=1)]
Dollars: TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Listing(Value):
    """One model at one endpoint. Unpublished values are ``None``; prices are US dollars for a million tokens."""

    endpoint: Annotated[str, Field(min_length=1)]
    model: Annotated[str, Field(min_length=1)]
    #: The backend that speaks to it, as ``Client(backend=...)`` takes it; ``None`` where there is none.
    backend: str | None = None
    #: The endpoint's names for the model; the first is used in requests.
    ids: tuple[str, ...] = ()
    #: ``dedicated``: served there on rented machines alone, under the renter's name for it, not by the token.
    status: Literal["active", "dedicated", "retired"] = "active"
    #: The day it ends, or ended, to be served by the token.
    ends: date | None = None
    #: The longest it accepts, which is often less than the model's own.
    context: Tokens | None = None
    #: Most tokens of one answer, where that is less than the context.
    max_output: Tokens | None = None
    input: Dollars | None = None
    output: Dollars | None = None
    #: Abilities known to work there.
    features: frozenset[Ability] = frozenset()
    #: Abilities known not to work; those in neither set are unknown.
    lacks: frozenset[Ability] = frozenset()
    #: Most images of one request.
    max_images: Tokens | None = None
    max_temperature: Annotated[float, Field(gt=0)] | None = None
    #: Tokens a second of one answer.
    tokens_per_second: Annotated[float, Field(gt=0)] | None = None
    speed_seen: str = ""
    #: ``documented``: by whoever runs it. ``reported``: by others. ``unverified``: nobody to quote.
    confidence: Literal["documented", "reported", "unverified"] = "reported"
    source: str = ""
    #: The day it was looked up; ``None`` for a user's own row without one.
    checked: date | None = None

    @field_serializer("features", "lacks", when_used="json")
    def _in_order(self, names: frozenset[str]) -> list[str]:
        return sorted(names)

    @property
    def blended(self) -> float | None:
        """The price of a million tokens of which three in four are prompt, as prices are usually compared."""
        return None if self.input is None or self.output is None else (3 * self.input + self.output) / 4

    def cost(self, prompt: int, answer: int) -> float | None:
        """Dollars for so many tokens; ``None`` without a price."""
        if self.input is None or self.output is None:
            return None
        return (self.input * prompt + self.output * answer) / 1e6

    def ended(self, today: date) -> bool:
        """Whether the model is no longer served there by the token."""
        return self.status != "active" or (self.ends is not None and self.ends <= today)

    def old(self, today: date) -> bool:
        """Whether it was looked up too long ago to count as current."""
        return self.checked is not None and today - self.checked > CURRENT_FOR

    def current(self, today: date) -> bool:
        """Whether it was looked up recently, and is still offered."""
        return not self.old(today) and not self.ended(today)

    def state(self, today: date) -> str:
        """``active``, ``until 2027-03-30``, ``ended 2026-07-17`` or ``dedicated``."""
        if self.status == "dedicated":
            return self.status
        if self.ended(today):
            return f"ended {self.ends or ''}".rstrip()
        return f"until {self.ends}" if self.ends else "active"


def listings() -> tuple[Listing, ...]:
    """All that are known, those that ended included, by endpoint.

    Raises ConfigurationError for a user's file that cannot be read, with the line and the column at fault.
    """
    path = settings.endpoints_file()
    if path is None:
        return _merged_listings(None, 0)
    try:
        return _merged_listings(path, path.stat().st_mtime_ns)
    except OSError as error:
        message = f"LLAMA4SDK_ENDPOINTS names '{path}', which cannot be read: {error.strerror or error}."
        hint = "Name a file of comma-separated values, or unset the variable."
        raise ConfigurationError(message, hint=hint) from error


@lru_cache(maxsize=4)
def _merged_listings(path: Path | None, _changed: int) -> tuple[Listing, ...]:
    with files("llama4sdk.catalog").joinpath("endpoints.csv").open(encoding="utf-8") as file:
        rows = {_key(row): row for _, row in _rows(file, "endpoints.csv")}
    if path is not None:
        with path.open(encoding="utf-8-sig", newline="") as user_file:
            _override(rows, user_file, path)
    every = [_parse(row, "endpoints.csv", None) for row in rows.values()]
    return tuple(sorted(every, key=lambda listing: (listing.endpoint.lower(), listing.model)))


def _override(rows: dict[tuple[str, str], Row], lines: Iterable[str], path: Path) -> None:
    """Change rows by those of a user's file, and add its new ones."""
    line_by_key: dict[tuple[str, str], int] = {}
    for line, row in _rows(lines, str(path)):
        key = _key(row)
        if key in line_by_key:
            raise _fault(path, line, "model", f"the same endpoint and model stand in line {line_by_key[key]}")
        line_by_key[key] = line
        original = rows.get(key)
        changes: Row = {column: None if value == REMOVED else value for column, value in row.items() if value}
        if original is not None:
            changes |= {column: original[column] for column in KEY_COLUMNS}
        merged = {**(original or {"source": path.name}), **changes}
        _parse(merged, str(path), line)
        rows[key] = merged


def _rows(lines: Iterable[str], name: str) -> Iterator[tuple[int, Row]]:
    """Rows with the lines they end in; unknown columns and rows of another length are refused."""
    try:
        reader = csv.reader(lines, strict=True)
        heading = [cell.strip() for cell in next(reader, [])]
        for column in heading:
            if column not in Listing.model_fields:
                hint = nearest(column, Listing.model_fields, "Columns")
                raise _fault(name, 1, column, "there is no such column", hint=hint)
        for column in KEY_COLUMNS:
            if heading.count(column) != 1:
                raise _fault(name, 1, column, "it must be there, once")
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(heading):
                last = heading[min(len(cells), len(heading)) - 1]
                raise _fault(name, reader.line_num, last, f"{len(cells)} values for {len(heading)} columns")
            row: Row = {column: cell.strip() for column, cell in zip(heading, cells, strict=True)}
            for column in KEY_COLUMNS:
                if not row[column]:
                    raise _fault(name, reader.line_num, column, "it is empty")
            yield reader.line_num, row
    except (csv.Error, UnicodeDecodeError) as error:
        message = f"'{name}' is no table of comma-separated values: {error}."
        raise ConfigurationError(message, hint="Save it as CSV, in UTF-8.") from error


def _parse(row: Row, name: str, line: int | None) -> Listing:
    fields: Row = {column: value for column, value in row.items() if value not in ("", None)}
    for column in LIST_COLUMNS:
        if isinstance(words := fields.get(column), str):
            fields[column] = words.split()
    try:
        return Listing.model_validate(fields)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        column = str(fault["loc"][0]) if fault["loc"] else "?"
        raise _fault(name, line or 0, column, f"{row.get(column)!r}: {fault['msg'].lower()}") from error


def _key(row: Row) -> tuple[str, str]:
    endpoint, model = (str(row[column]).lower() for column in KEY_COLUMNS)
    return endpoint, model


def _fault(name: str | Path, line: int, column: str, problem: str, *, hint: str | None = None) -> ConfigurationError:
    return ConfigurationError(
        f"'{name}', line {line}, column '{column}': {problem}.",
        hint=hint or "docs/endpoints.md says what each column holds.",
    )
