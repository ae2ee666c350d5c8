"""The hyper-parameters of Llama 4's vision network."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue, model_validator

from llama4sdk._values import Value
from llama4sdk.llama4.config import Positive, config_errors, number


class VisionConfig(Value):
    """A vision network: encoder and adapter. Its output has the width ``adapter_size``; a projector follows."""

    hidden_size: Positive
    num_layers: Positive
    num_heads: Positive
    mlp_size: Positive
    #: Side of a tile in pixels.
    tile_size: Positive
    #: Side of a patch in pixels; a tile is a grid of patches.
    patch_size: Positive
    channels: Positive = 3
    #: Side of the square of neighbouring patches that become one token.
    shuffle: Positive = 2
    adapter_size: Positive
    rope_theta: float = 10000.0

    @model_validator(mode="after")
    def _consistent(self) -> VisionConfig:
        if self.tile_size % (self.patch_size * self.shuffle):
            raise ValueError(f"patches of {self.patch_size} pixels, {self.shuffle} to a token, do not fill a tile")
        if self.hidden_size % self.num_heads or self.hidden_size // self.num_heads % 4:
            raise ValueError(
                f"{self.num_heads} heads of a width that two axes turn in pairs do not fit the hidden size"
            )
        if self.mlp_size != self.hidden_size * self.shuffle**2:
            raise ValueError(f"the adapter reads {self.mlp_size} features, not those of {self.shuffle**2} patches")
        return self

    @property
    def grid(self) -> int:
        """Number of patches along a tile's side."""
        return self.tile_size // self.patch_size

    @property
    def tokens_per_tile(self) -> int:
        """Number of image features, and so of ``<|patch|>`` tokens, of a tile."""
        return (self.grid // self.shuffle) ** 2

    @classmethod
    def from_hf(cls, config: Mapping[str, JsonValue]) -> VisionConfig | None:
        """Read the vision part of a Hugging Face ``config.json``; ``None`` when it has none.

        Raises CheckpointError naming the missing or invalid field.
        """
        vision = config.get("vision_config")
        if vision is None:
            return None
        with config_errors("config.json does not describe a Llama 4 vision network"):
            if not isinstance(vision, Mapping):
                raise TypeError("vision_config is no object")
            return _read_hf(vision)


def _read_hf(c: Mapping[str, JsonValue]) -> VisionConfig:
    adapter = int(number(c, "projector_output_dim", 4096))
    for other in ("projector_input_dim", "vision_output_dim"):
        if number(c, other, adapter) != adapter:
            raise ValueError(f"{other} is {c[other]}, projector_output_dim {adapter}; they are one width")
    rope = c.get("rope_parameters")
    return VisionConfig(
        hidden_size=int(number(c, "hidden_size")),
        num_layers=int(number(c, "num_hidden_layers", 34)),
        num_heads=int(number(c, "num_attention_heads", 16)),
        mlp_size=int(number(c, "intermediate_size", 5632)),
        tile_size=_side(c, "image_size", 448),
        patch_size=_side(c, "patch_size", 14),
        channels=int(number(c, "num_channels", 3)),
        shuffle=round(1 / number(c, "pixel_shuffle_ratio", 0.5)),
        adapter_size=adapter,
        rope_theta=number(rope if isinstance(rope, Mapping) else {}, "rope_theta", number(c, "rope_theta", 10000.0)),
    )


def _side(c: Mapping[str, JsonValue], key: str, default: int) -> int:
    """A side in pixels, given as a number or as equal height and width."""
    value = c.get(key)
    if isinstance(value, list) and len(value) == 2 and value[0] == value[1]:
        return int(number({key: value[0]}, key))
    return int(number(c, key, default))
