"""Inspect a checkpoint without loading it: its network, its parts and its problems."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from llama4sdk._values import Value
from llama4sdk.errors import CheckpointError
from llama4sdk.llama4.config import TextConfig
from llama4sdk.llama4.vision_config import VisionConfig
from llama4sdk.weights.checkpoint import Checkpoint, TensorInfo
from llama4sdk.weights.opening import open_checkpoint
from llama4sdk.weights.tensor_names import MODULES, module_kind


class Part(Value):
    """The tensors of one class of modules in one stored format; ``nbytes`` is their size in the files."""

    module: str
    dtype: str
    tensors: int
    parameters: int
    nbytes: int


class Inspection(Value):
    """The result of an inspection. Without ``problems`` the checkpoint can be loaded; ``notes`` are its limitations."""

    path: str
    format: str
    name: str
    config: TextConfig
    parameters: int
    nbytes: int
    parts: tuple[Part, ...]
    #: The vision network; ``None`` without one.
    vision: VisionConfig | None
    #: Size of the vocabulary; ``None`` without a usable tokenizer.
    tokenizer: int | None
    chat_template: bool
    problems: tuple[str, ...]
    notes: tuple[str, ...]


def inspect(path: str | Path) -> Inspection:
    """Inspect a checkpoint's headers, and one row of a tensor in each format.

    Raises what ``open_checkpoint`` raises when the checkpoint is not recognized at all.
    """
    checkpoint = open_checkpoint(path)
    checkpoint_parts = tuple(parts(checkpoint))
    vocabulary_size, *tokenizer_problems = _tokenizer(checkpoint)
    has_template, *template_notes = _template(checkpoint)
    vision_notes = () if checkpoint.vision else (_vision_note(checkpoint_parts),)
    return Inspection(
        path=str(checkpoint.path),
        format=checkpoint.format,
        name=checkpoint.name,
        config=checkpoint.config,
        parameters=sum(part.parameters for part in checkpoint_parts),
        nbytes=sum(part.nbytes for part in checkpoint_parts),
        parts=checkpoint_parts,
        vision=checkpoint.vision,
        tokenizer=vocabulary_size,
        chat_template=has_template,
        problems=(*_tensor_problems(checkpoint), *tokenizer_problems),
        notes=(*template_notes, *vision_notes, *checkpoint.notes),
    )


def _vision_note(checkpoint_parts: tuple[Part, ...]) -> str:
    if any(part.module == "vision" for part in checkpoint_parts):
        return "It has a vision tower that its configuration does not describe: text only."
    return "It has no vision tower: text only."


def parts(checkpoint: Checkpoint) -> Iterator[Part]:
    """The parts of a checkpoint by class of modules and stored format, from the headers alone."""
    groups: defaultdict[tuple[str, str], list[TensorInfo]] = defaultdict(list)
    for name, info in checkpoint.tensors.items():
        groups[module_kind(name), info.dtype].append(info)
    order = list(MODULES)
    for module, dtype in sorted(groups, key=lambda key: (order.index(key[0]), key[1])):
        group = groups[module, dtype]
        parameters, nbytes = sum(info.size for info in group), sum(info.nbytes for info in group)
        yield Part(module=module, dtype=dtype, tensors=len(group), parameters=parameters, nbytes=nbytes)


def _tensor_problems(checkpoint: Checkpoint) -> Iterator[str]:
    """The error of a missing or wrong tensor, and those of reading one row of a tensor in each stored format."""
    samples: dict[str, str] = {}
    for name, info in checkpoint.tensors.items():
        if len(info.shape) >= 2:
            samples.setdefault(info.dtype, name)
    reads = (partial(checkpoint.read, name, 0) for name in samples.values())
    checks: list[Callable[[], object]] = [checkpoint.verify, *reads]
    for check in checks:
        try:
            check()
        except CheckpointError as error:
            yield error.message


def _tokenizer(checkpoint: Checkpoint) -> tuple[int | None, *tuple[str, ...]]:
    """The size of the vocabulary, and a problem if there is one."""
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
