"""Small random networks as checkpoints: those that the native engine is held to, in other sizes."""

from __future__ import annotations

from pathlib import Path

from .exported import HEADS, reference


def save_seeing(folder: Path, *, text: int = 32, seed: int = 0, **sizes: int) -> None:
    """A network that sees; ``sizes`` are its vision network's, and its text network is as small as can be."""
    ours = reference()
    model = ours.tiny_seeing_model(ours.tiny_vision(**sizes), seed=seed, hidden_size=text, num_hidden_layers=1)
    model.save_pretrained(folder)


def save_text(folder: Path, *, scout: bool) -> None:
    """A text network with mixtures and chunks of 8 tokens, like Scout's or like Maverick's."""
    ours = reference()
    like = {"interleave_moe_layer_step": 1 if scout else 2, "use_qk_norm": scout, "max_position_embeddings": 64}
    ours.tiny_model(**HEADS, **like, intermediate_size=32).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(ours.characters_tokenizer(), encoding="utf-8")
