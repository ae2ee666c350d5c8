"""From a request to a network's input: token ids, and the tiles of its images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llama4sdk.errors import InvalidRequestError, UnsupportedFeatureError
from llama4sdk.llama4.images.canvas import MAX_TILES, place_images
from llama4sdk.llama4.images.fetching import read_image
from llama4sdk.llama4.images.tiling import cut_tiles
from llama4sdk.llama4.tokenizer import Tokenizer
from llama4sdk.llama4.vision_config import VisionConfig
from llama4sdk.local.output_processor import prompt_format
from llama4sdk.local.text_source import TextSource
from llama4sdk.messages import ImagePart
from llama4sdk.requests import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A network's input. ``pixels``: [tiles, 3, side, side], of all images in order; ``None`` when there are none.

    Their features, ``tokens_per_tile`` for each tile, take the places of the ``<|patch|>`` tokens among ``ids``.
    """

    ids: list[int]
    pixels: npt.NDArray[np.uint8] | None = None


class ImagePrompts:
    """Writes images into prompts for one vision network. ``control``: the tokenizer's control tokens."""

    def __init__(self, config: VisionConfig, control: Mapping[str, int]) -> None:
        self._config = config
        self._control = control

    def prompt(self, ids: Sequence[int], images: Sequence[ImagePart]) -> Prompt:
        """A rendered conversation with its images where their tokens are.

        Raises InvalidRequestError for images that cannot be fetched or decoded, or that the conversation does not show,
        CheckpointError for a vocabulary without the tokens that images are written with.
        """
        side, patches = self._config.tile_size, self._config.tokens_per_tile
        tiles = [
            cut_tiles(read_image(image.data, image.url), tile=side, max_tiles=image.max_tiles or MAX_TILES)
            for image in images
        ]
        return Prompt(
            ids=place_images(ids, [tiled.canvas for tiled in tiles], self._control, patches=patches),
            pixels=np.concatenate([tiled.pixels for tiled in tiles]),
        )


class InputProcessor:
    """Writes requests in one model's prompt format. ``backend`` and ``model`` are named in errors."""

    def __init__(
        self, source: TextSource, tokenizer: Tokenizer, *, backend: str, model: str, vision: VisionConfig | None
    ) -> None:
        self._backend = backend
        self._model = model
        self._tokenizer = tokenizer
        self._template = source.prompt_format()
        self._calls_tools = source.calls_tools
        self._images = None if vision is None else ImagePrompts(vision, tokenizer.control)

    def prompt(self, request: Request) -> Prompt:
        """The prompt of a request, or its messages with their images and everything the chat template adds.

        Raises UnsupportedFeatureError for images to a model that cannot see, messages to one without a chat template
        and tools to one that was not made for them, InvalidRequestError for images that cannot be fetched or decoded.
        """
        images = [part for message in request.messages for part in message.parts if isinstance(part, ImagePart)]
        if not images:
            return Prompt(ids=self._token_ids(request))
        if self._images is None:
            raise self._unsupported("images", f"'{self._model}' cannot see; send text only.")
        return self._images.prompt(self._token_ids(request), images)

    def _token_ids(self, request: Request) -> list[int]:
        if request.tools and not (self._calls_tools and request.messages):
            raise self._unsupported("tools", f"'{self._model}' is not told of tools in its prompts.")
        if request.prompt is not None:
            ids = self._tokenizer.encode(request.prompt)
        elif self._template is not None:
            template = prompt_format(self._template, request)
            ids = self._tokenizer.encode_chat(template, request.messages, tools=request.tools)
        else:
            raise self._unsupported("chat", f"'{self._model}' has no chat template; use generate with a plain prompt.")
        if not ids:
            raise InvalidRequestError("Nothing is left of this request once it is written as the model reads it.")
        return ids

    def _unsupported(self, feature: str, hint: str) -> UnsupportedFeatureError:
        return UnsupportedFeatureError(self._backend, feature, hint=hint)
