"""What a checkpoint is, and what of it would not work here, found without loading it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from llama4sdk._values import Value
from llama4sdk.errors import CheckpointError
from llama4sdk.llama4.config import TextConfig
from llama4sdk.llama4.vision_config import VisionConfig
from llama4sdk.weights.checkpoint import Checkpoint
from llama4sdk.weights.opening import open_checkpoint

__all__ = ["Inspection", "Part", "inspect", "parts"]

CLASSES: Final = (
    ("vision", re.compile(r"(model\.)?(vision_model|multi_modal_projector|vision_tower)\.")),
    ("embeddings", re.compile(r"model\.embed_tokens\.")),
    ("head", re.compile(r"lm_head\.")),
    ("norms", re.compile(r".*norm\.weight$")),
    ("attention", re.compile(r".*\.self_attn\.")),
    ("router", re.compile(r".*\.router\.")),
    ("shared experts", re.compile(r".*\.shared_expert\.")),
    ("routed experts", re.compile(r".*\.experts\.")),
    ("dense layers", re.compile(r".*\.feed_forward\.")),
    ("other", re.compile(r"")),
)


class Part(Value):
    """The tensors of one class of modules that are stored in one precision; ``nbytes`` is their size in the files."""

    module: str
    dtype: str
    tensors: int
    parameters: int
    nbytes: int


class Inspection(Value):
    """One checkpoint. It can be loaded when there are no ``problems``; ``notes`` are what it cannot do then."""

    path: str
    format: str
    name: str
    config: TextConfig
    parameters: int
    nbytes: int
    parts: tuple[Part, ...]
    #: The vision network; ``None`` when it cannot see.
    vision: VisionConfig | None
    #: How many tokens it knows; ``None`` without a usable one.
    tokenizer: int | None
    chat_template: bool
    problems: tuple[str, ...]
    notes: tuple[str, ...]


def inspect(path: str | Path) -> Inspection:
    """Look at a checkpoint's headers, and at one row of each kind of tensor.

    Raises what ``open_checkpoint`` raises, when it is not even known what the checkpoint is.
    """
    checkpoint = open_checkpoint(path)
    found = tuple(parts(checkpoint))
    tokens, *without_tokenizer = _tokenizer(checkpoint)
    template, *without_template = _template(checkpoint)
    without_vision = () if checkpoint.vision else (_blind(found),)
    return Inspection(
        path=str(checkpoint.path),
        format=checkpoint.format,
        name=checkpoint.name,
        config=checkpoint.config,
        parameters=sum(part.parameters for part in found),
        nbytes=sum(part.nbytes for part in found),
        parts=found,
        vision=checkpoint.vision,
        tokenizer=tokens,
        chat_template=template,
        problems=(*_misfits(checkpoint), *_unreadable(checkpoint), *without_tokenizer),
        notes=(*without_template, *without_vision, *checkpoint.notes),
    )


def _blind(found: tuple[Part, ...]) -> str:
    if any(part.module == "vision" for part in found):
        return "It has a vision tower that its configuration does not describe: text only."
    return "It has no vision tower: text only."


def parts(checkpoint: Checkpoint) -> Iterator[Part]:
    """What its tensors are and take, by class of modules and precision, from the headers alone."""
    count, parameters, sizes = Counter[tuple[str, str]](), Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for name, info in checkpoint.tensors.items():
        key = (next(module for module, pattern in CLASSES if pattern.match(name)), info.dtype)
        count[key] += 1
        parameters[key] += info.size
        sizes[key] += info.nbytes
    order = [module for module, _ in CLASSES]
    for module, dtype in sorted(count, key=lambda key: (order.index(key[0]), key[1])):
        key = (module, dtype)
        yield Part(module=module, dtype=dtype, tensors=count[key], parameters=parameters[key], nbytes=sizes[key])


def _misfits(checkpoint: Checkpoint) -> Iterator[str]:
    try:
        checkpoint.verify()
    except CheckpointError as error:
        yield error.message


def _unreadable(checkpoint: Checkpoint) -> Iterator[str]:
    """Each format in which tensors are stored that cannot be read, tried on one row of one of them."""
    tried = set[str]()
    for name, info in checkpoint.tensors.items():
        if info.dtype in tried or len(info.shape) < 2:
            continue
        tried.add(info.dtype)
        try:
            checkpoint.read(name, 0)
        except CheckpointError as error:
            yield error.message


def _tokenizer(checkpoint: Checkpoint) -> tuple[int | None, *tuple[str, ...]]:
    """How many tokens it knows, or why there is none."""
    try:
        size = checkpoint.tokenizer().size
    except CheckpointError as error:
        return None, error.message
    if size > checkpoint.config.vocab_size:
        return size, f"Its tokenizer knows {size} tokens, its network only {checkpoint.config.vocab_size}."
    return (size,)


def _template(checkpoint: Checkpoint) -> tuple[bool, *tuple[str, ...]]:
    try:
        template = checkpoint.chat_template()
    except CheckpointError as error:
        return False, error.message
    if template is None and checkpoint.prompt_format() is not None:
        return False, "It has no chat template: its vocabulary is Llama 4's, so Llama 4's own format is used."
    return (True,) if template else (False, "It has no chat template: it continues text, but cannot chat.")
