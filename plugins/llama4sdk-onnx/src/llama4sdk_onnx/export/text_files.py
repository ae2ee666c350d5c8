"""The small files beside the graphs, as Hugging Face's tools read them, from a checkpoint of any format."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pydantic import JsonValue

from llama4sdk.errors import CheckpointError
from llama4sdk.llama4.chat_template import ChatTemplate
from llama4sdk.llama4.hf_config import hf_config
from llama4sdk.llama4.tokenizer import Tokenizer
from llama4sdk.weights.checkpoint import Checkpoint


def text_files(checkpoint: Checkpoint, tokenizer: Tokenizer) -> dict[str, str]:
    """The texts by file name. Raises CheckpointError when the tokenizer has tokens that the network does not know."""
    c = checkpoint.config
    if tokenizer.size > c.vocab_size:
        raise CheckpointError(
            f"The tokenizer of {checkpoint.path} has {tokenizer.size} tokens, its network only {c.vocab_size}."
        )
    template, stops = checkpoint.chat_template(), checkpoint.stop_ids
    defaults = checkpoint.generation_defaults
    generation: dict[str, JsonValue] = {
        "do_sample": defaults.temperature > 0,
        "temperature": defaults.temperature,
        "top_p": defaults.top_p,
        "eos_token_id": [*sorted(stops)],
    }
    files = {
        "tokenizer.json": tokenizer.to_json(),
        "tokenizer_config.json": _json(_tokenizer_config(tokenizer, template, stops, c.max_context)),
        "generation_config.json": _json(generation),
        "config.json": _json(hf_config(c, checkpoint.vision, control=tokenizer.control, stop_ids=stops)),
    }
    return files if template is None else {**files, "chat_template.jinja": template.source}


def _tokenizer_config(
    tokenizer: Tokenizer, template: ChatTemplate | None, stops: frozenset[int], context: int
) -> dict[str, JsonValue]:
    """The tokenizer's config; it names no special token that the template did not have, for templates see them all."""
    special: Mapping[str, str] = _special_tokens(tokenizer, stops) if template is None else template.special_tokens
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
        **special,
    }


def _special_tokens(tokenizer: Tokenizer, stops: frozenset[int]) -> dict[str, str]:
    """The tokens that begin and end a text, where they are control tokens."""
    names = {number: name for name, number in tokenizer.control.items()}
    kinds = {"bos_token": tokenizer.prefix[:1], "eos_token": sorted(stops)[:1]}
    return {kind: names[numbers[0]] for kind, numbers in kinds.items() if numbers and numbers[0] in names}


def _json(value: dict[str, JsonValue]) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"
