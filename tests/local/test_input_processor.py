"""Images in prompts: cut, counted and put in their places without a network."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from llama4sdk.errors import CheckpointError, InvalidRequestError
from llama4sdk.llama4.images.canvas import PATCH, choose_canvas, image_tokens
from llama4sdk.llama4.images.tiling import cut_tiles
from llama4sdk.llama4.vision_config import VisionConfig
from llama4sdk.local.input_processor import ImagePrompts
from llama4sdk.messages import ImagePart, Message, TextPart
from llama4sdk.requests import Request, SamplingParams

from .bigrams import CONTROL, Bigrams, random_table

#: Tiles of 12 by 12 pixels and four tokens.
VISION = VisionConfig(hidden_size=8, num_layers=1, num_heads=2, mlp_size=32, tile_size=12, patch_size=3, adapter_size=8)


def picture(height: int, width: int) -> Image.Image:
    """Noise."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def part(image: Image.Image, *, most: int | None = None) -> ImagePart:
    return ImagePart.from_pil(image).model_copy(update={"max_tiles": most})


def test_images_are_written_where_the_conversation_shows_them() -> None:
    """Each as the tokens of its canvas, in order, with four patches for each tile and all tiles behind each other."""
    images = [picture(12, 12), picture(24, 36), picture(5, 40)]
    mark = CONTROL["<|image|>"]
    prompt = ImagePrompts(VISION, CONTROL).prompt([1, mark, 2, mark, mark, 3], [part(image) for image in images])
    written = [
        [CONTROL[name] for name in image_tokens(choose_canvas(image.height, image.width, tile=12), 4)]
        for image in images
    ]
    assert prompt.ids == [1, *written[0], 2, *written[1], *written[2], 3]
    tiles = np.concatenate([cut_tiles(image, tile=12).pixels for image in images])
    assert prompt.pixels is not None
    assert prompt.pixels.dtype == np.uint8
    assert (prompt.pixels == tiles).all()
    assert prompt.ids.count(CONTROL[PATCH]) == 4 * len(tiles)


def test_a_part_may_ask_for_fewer_tiles() -> None:
    """The image's own limit holds, as it does in the tokens."""
    for most, tiles in ((1, 1), (2, 3), (None, 7)):
        prompt = ImagePrompts(VISION, CONTROL).prompt([CONTROL["<|image|>"]], [part(picture(24, 36), most=most)])
        assert prompt.pixels is not None
        assert len(prompt.pixels) == tiles


def test_an_engine_that_sees_counts_images() -> None:
    """The tokens of a conversation with an image are counted as they are read."""
    engine = Bigrams(random_table(), vision=VISION, context_length=512)
    words = Request(messages=(Message(role="user", content="What?"),), sampling=SamplingParams(max_tokens=1))
    seen = words.model_copy(
        update={"messages": (Message(role="user", content=(part(picture(12, 12)), TextPart(text="What?"))),)}
    )
    assert engine.count_tokens(seen) == engine.count_tokens(words) + 4 + 3
    *_, finish = engine.stream(seen)
    assert finish.usage.input_tokens == engine.count_tokens(seen)  # type: ignore[union-attr]


def test_a_template_that_hides_images_is_not_trusted() -> None:
    """When the template leaves an image out, or the vocabulary lacks its tokens, nothing is answered blindly."""
    with pytest.raises(InvalidRequestError, match="shows 0 of 1 images"):
        ImagePrompts(VISION, CONTROL).prompt([1, 2, 3], [part(picture(12, 12))])
    with pytest.raises(CheckpointError, match="image_start"):
        ImagePrompts(VISION, {"<|image|>": 3}).prompt([1, 2, 3], [part(picture(12, 12))])


def test_bad_images_are_refused_before_the_first_event() -> None:
    """Images that cannot be decoded raise at once, with a hint."""
    engine = Bigrams(random_table(), vision=VISION)
    with pytest.raises(InvalidRequestError) as caught:
        engine.stream(Request(messages=(Message(role="user", content=(ImagePart(data=b"png"),)),)))
    assert caught.value.hint
