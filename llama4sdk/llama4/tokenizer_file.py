"""Writing ``tokenizer.json``, the file in which Hugging Face tools keep a tokenizer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

__all__ = ["tokenizer_json"]


def tokenizer_json(encoder: str, control: Mapping[str, int], prefix: Sequence[int]) -> str:
    """The file of an encoder that knows no control tokens, with these, and with what every text begins with.

    Control tokens stand in the vocabulary as well: without that, readers would number them anew.
    """
    data = json.loads(encoder)
    added = [*data["added_tokens"], *(_special(name, number) for name, number in control.items())]
    data["added_tokens"] = sorted(added, key=lambda token: int(token["id"]))
    vocabulary = {**data["model"]["vocab"], **control}
    data["model"]["vocab"] = dict(sorted(vocabulary.items(), key=lambda item: item[1]))
    names = {number: name for name, number in vocabulary.items()}
    data["post_processor"] = _beginning([names[number] for number in prefix], vocabulary)
    return json.dumps(data, ensure_ascii=False)


def _special(name: str, number: int) -> dict[str, JsonValue]:
    flags: dict[str, JsonValue] = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": name, "special": True, **flags}


def _beginning(prefix: Sequence[str], vocabulary: Mapping[str, int]) -> dict[str, JsonValue] | None:
    """A template that puts tokens before every text, and before the second of two."""
    if not prefix:
        return None
    first, second = (_template(prefix, text, place) for place, text in enumerate("AB"))
    known: dict[str, JsonValue] = {name: {"id": name, "ids": [vocabulary[name]], "tokens": [name]} for name in prefix}
    return {"type": "TemplateProcessing", "single": first, "pair": [*first, *second], "special_tokens": known}


def _template(prefix: Sequence[str], text: str, place: int) -> list[JsonValue]:
    begin: list[JsonValue] = [{"SpecialToken": {"id": name, "type_id": place}} for name in prefix]
    return [*begin, {"Sequence": {"id": text, "type_id": place}}]
