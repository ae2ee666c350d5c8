"""Write ``tokenizer.json``, Hugging Face's file of a tokenizer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from pydantic import JsonValue


def tokenizer_json(encoder: str, control: Mapping[str, int], prefix: Sequence[int]) -> str:
    """Add control tokens, and the prefix of every text, to the JSON of an encoder without any.

    Control tokens are in the vocabulary as well: otherwise readers would renumber them.
    """
    data = json.loads(encoder)
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    special = ({"id": number, "content": name, "special": True, **flags} for name, number in control.items())
    added = [*data["added_tokens"], *special]
    data["added_tokens"] = sorted(added, key=lambda token: int(token["id"]))
    vocabulary = {**data["model"]["vocab"], **control}
    data["model"]["vocab"] = dict(sorted(vocabulary.items(), key=lambda item: item[1]))
    names = {number: name for name, number in vocabulary.items()}
    data["post_processor"] = _prefix_template([names[number] for number in prefix], vocabulary)
    return json.dumps(data, ensure_ascii=False)


def _prefix_template(prefix: Sequence[str], vocabulary: Mapping[str, int]) -> dict[str, JsonValue] | None:
    """A post-processor that puts the prefix before every text, also before the second of a pair."""
    if not prefix:
        return None
    first, second = (_sequence(prefix, text, type_id) for type_id, text in enumerate("AB"))
    special_tokens: dict[str, JsonValue] = {
        name: {"id": name, "ids": [vocabulary[name]], "tokens": [name]} for name in prefix
    }
    return {"type": "TemplateProcessing", "single": first, "pair": [*first, *second], "special_tokens": special_tokens}


def _sequence(prefix: Sequence[str], text: str, type_id: int) -> list[JsonValue]:
    tokens: list[JsonValue] = [{"SpecialToken": {"id": name, "type_id": type_id}} for name in prefix]
    return [*tokens, {"Sequence": {"id": text, "type_id": type_id}}]
