"""Images in a conversation: in their places, counted, and seen as transformers' Llama 4 sees them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from llama4sdk_torch.backend import TorchBackend
from llama4sdk_torch.engine import TorchEngine
from llama4sdk_torch.loading import load_model, load_vision
from llama4sdk_torch.vision import replace_patches
from PIL import Image
from tokenizers import Tokenizer
from transformers import Llama4ForConditionalGeneration
from transformers.models.llama4.processing_llama4 import Llama4Processor, chat_template

from llama4sdk import Client
from llama4sdk.backend import Need, Offer
from llama4sdk.errors import (
    ContextLengthError,
    InvalidRequestError,
    StreamClosedError,
    UnsupportedFeatureError,
)
from llama4sdk.llama4.images.canvas import PATCH, choose_canvas
from llama4sdk.llama4.images.tiling import cut_tiles
from llama4sdk.llama4.sizes import weight_bytes
from llama4sdk.local.input_processor import ImagePrompts
from llama4sdk.messages import ImagePart, Message, TextPart, VideoPart
from llama4sdk.plan import Quantization
from llama4sdk.requests import Request, SamplingParams
from llama4sdk.results import fold
from llama4sdk.testing.machines import LAPTOP
from llama4sdk.weights.checkpoint import Checkpoint
from llama4sdk.weights.opening import open_checkpoint

from .numeric import assert_near
from .reference import MAVERICK_LIKE, SCOUT_LIKE, seeing_tokenizer, tiny_seeing_model, tiny_vision

CPU = torch.device("cpu")
#: Of a tile of the tiny network: pixels along it, and image tokens.
SIDE, TOKENS = 12, 4

Twin = tuple[Checkpoint, Llama4ForConditionalGeneration]


@pytest.fixture(scope="module", params=["scout", "maverick"])
def twin(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Twin:
    """A chat model that sees, of either kind: a whole directory, and transformers' class."""
    folder = tmp_path_factory.mktemp("chat")
    (folder / "tokenizer.json").write_text(seeing_tokenizer(), encoding="utf-8")
    settings = {"chat_template": chat_template, "bos_token": "<|begin_of_text|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    patch = open_tokenizer(folder)["<|patch|>"]
    kind = SCOUT_LIKE if request.param == "scout" else MAVERICK_LIKE
    model = tiny_seeing_model(tiny_vision(), image_token=patch, **kind)
    model.save_pretrained(folder)
    return open_checkpoint(folder), model


def open_tokenizer(folder: Path) -> dict[str, int]:
    """The control tokens of a directory's tokenizer."""
    tokens = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
    return {token["content"]: token["id"] for token in tokens}


@pytest.fixture
def engine(twin: Twin) -> Iterator[TorchEngine]:
    """It, loaded, with a context of 256 tokens."""
    checkpoint, _ = twin
    network = load_model(checkpoint, device=CPU, dtype=torch.float32)
    vision = load_vision(checkpoint, device=CPU, dtype=torch.float32)
    engine = TorchEngine(checkpoint, network, vision, model="tiny", context_length=256)
    yield engine
    engine.close()


def picture(height: int, width: int, seed: int = 0) -> Image.Image:
    """Noise."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def ask(*parts: str | Image.Image, **sampling: object) -> Request:
    """A question of texts and images in this order."""
    content = tuple(TextPart(text=p) if isinstance(p, str) else ImagePart.from_pil(p) for p in parts)
    params = SamplingParams.model_validate({"temperature": 0, "max_tokens": 12} | sampling)
    return Request(messages=(Message(role="user", content=content),), sampling=params)


def written_by_transformers(checkpoint: Checkpoint, parts: Sequence[str | Image.Image]) -> torch.Tensor:
    """The question's ids: Llama 4's format by hand, images as transformers' processor lays them out."""

    def spelled(part: str | Image.Image) -> str:
        if isinstance(part, str):
            return part
        canvas = choose_canvas(part.height, part.width, tile=SIDE)
        return str(Llama4Processor._prompt_split_image(None, (canvas.rows, canvas.columns), TOKENS))

    text = (
        "<|begin_of_text|><|header_start|>user<|header_end|>\n\n"
        + "".join(map(spelled, parts))
        + "<|eot|><|header_start|>assistant<|header_end|>\n\n"
    )
    encoder = Tokenizer.from_file(str(checkpoint.path / "tokenizer.json"))
    return torch.tensor([encoder.encode(text).ids])


def pixels_for_transformers(parts: Sequence[str | Image.Image]) -> torch.Tensor:
    """All tiles of all images, normalised."""
    tiles = [cut_tiles(part, tile=SIDE).pixels for part in parts if isinstance(part, Image.Image)]
    return (torch.from_numpy(np.concatenate(tiles)).float() / 255 - 0.5) / 0.5


QUESTIONS = [
    (picture(12, 12), "what?"),
    ("this ", picture(5, 5), " or that ", picture(24, 36, 1), " ?"),
    (picture(100, 3), picture(3, 100, 2), picture(48, 48, 3)),
]


@pytest.mark.parametrize("parts", QUESTIONS, ids=["one", "between-text", "three"])
@torch.inference_mode()
def test_logits_equal_transformers(twin: Twin, parts: tuple[str | Image.Image, ...]) -> None:
    """With one image or several, at every position of the prompt, logits agree."""
    checkpoint, theirs = twin
    ids = written_by_transformers(checkpoint, parts)
    expected = theirs(input_ids=ids, pixel_values=pixels_for_transformers(parts)).logits
    network = load_model(checkpoint, device=CPU, dtype=torch.float32)
    vision = load_vision(checkpoint, device=CPU, dtype=torch.float32)
    assert vision is not None
    tokenizer, template = checkpoint.tokenizer(), checkpoint.chat_template()
    assert template is not None
    prompts = ImagePrompts(vision.config, tokenizer.control)
    messages = ask(*parts).messages
    images = [part for part in messages[0].parts if isinstance(part, ImagePart)]
    prompt = prompts.prompt(tokenizer.encode_chat(template, messages), images)
    assert prompt.ids == ids[0].tolist()
    assert prompt.pixels is not None
    features = vision.encode(torch.from_numpy(prompt.pixels))
    vectors = replace_patches(network.embed(ids[0]), ids[0], features, tokenizer.control[PATCH])
    logits = network.logits(network.hidden(vectors, network.new_cache(ids.shape[1]))).unsqueeze(0)
    assert_near(logits, expected)


@pytest.mark.parametrize("parts", QUESTIONS, ids=["one", "between-text", "three"])
@torch.inference_mode()
def test_answers_equal_transformers(twin: Twin, engine: TorchEngine, parts: tuple[str | Image.Image, ...]) -> None:
    """The engine's greedy answer is transformers' own, and its prompt is counted with all image tokens."""
    checkpoint, theirs = twin
    ids = written_by_transformers(checkpoint, parts)
    answer = fold(engine.stream(ask(*parts)), model="tiny", backend="torch")
    assert answer.usage.input_tokens == ids.shape[1] == engine.count_tokens(ask(*parts))
    pixels = pixels_for_transformers(parts)
    whole = theirs.generate(
        ids, pixel_values=pixels, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False
    )
    expected = whole[0, ids.shape[1] :].tolist()
    assert answer.text == checkpoint.tokenizer().decode(expected)
    assert answer.usage.output_tokens == len(expected)


def test_an_image_costs_what_its_canvas_costs(engine: TorchEngine) -> None:
    """One tile takes three tokens more than its patches, n tiles patches + 1 each besides."""
    text = engine.count_tokens(ask("what?"))
    assert engine.count_tokens(ask(picture(12, 12), "what?")) - text == TOKENS + 3
    assert engine.count_tokens(ask(picture(24, 36), "what?")) - text == 6 * (TOKENS + 1) + TOKENS + 3
    with pytest.raises(ContextLengthError):
        engine.stream(ask(*[picture(48, 48)] * 3, "what?"))


def test_fewer_tiles_cost_less_and_show_less(engine: TorchEngine) -> None:
    """``max_tiles`` bounds the grid of one image alone, and what is seen is another picture."""
    wide = picture(24, 36)

    def asked(most: int | None) -> Request:
        content = (ImagePart.from_pil(wide, max_tiles=most), ImagePart.from_pil(wide))
        params = SamplingParams(temperature=0, max_tokens=1, logprobs=0)
        return Request(messages=(Message(role="user", content=content),), sampling=params)

    def first(most: int | None) -> float:
        return fold(engine.stream(asked(most)), model="tiny", backend="torch").logprobs[0].logprob

    whole = engine.count_tokens(asked(None))
    assert whole - engine.count_tokens(asked(1)) == 6 * (TOKENS + 1)
    assert whole - engine.count_tokens(asked(4)) == 2 * (TOKENS + 1)
    assert engine.count_tokens(asked(16)) == whole
    assert len({first(1), first(4), first(16)}) == 3
    assert first(16) == first(None)


def film(count: int) -> bytes:
    """An animation of noise."""
    file = io.BytesIO()
    first, *rest = [picture(30, 20, seed) for seed in range(count)]
    first.save(file, "WEBP", save_all=True, append_images=rest, duration=100, lossless=True)
    return file.getvalue()


@pytest.mark.parametrize("tiles", [1, 4])
def test_a_video_is_its_frames(twin: Twin, tiles: int) -> None:
    """Through a client's chat, a video is counted and answered as the same frames in image parts of as many tiles."""
    video = VideoPart.from_bytes(film(10), frames=3, max_tiles=tiles)
    frames = [ImagePart.from_pil(picture(30, 20, seed), max_tiles=tiles) for seed in (1, 5, 8)]
    text = TextPart(text="what?")
    with Client(str(twin[0].path), backend="torch", hardware=LAPTOP) as client:
        one, other = (
            client.chat([Message(role="user", content=content)], temperature=0, max_tokens=12, logprobs=3)
            for content in ((video, text), (*frames, text))
        )
        without = client.count_tokens([Message(role="user", content=(text,))])
    assert (one.text, one.logprobs, one.usage) == (other.text, other.logprobs, other.usage)
    grid = choose_canvas(30, 20, tile=SIDE, max_tiles=tiles)
    each = TOKENS + 3 + (0 if tiles == 1 else grid.rows * grid.columns * (TOKENS + 1))
    assert one.usage.input_tokens == without + 3 * each


def test_what_is_seen_matters(engine: TorchEngine) -> None:
    """Another picture, and the same two in another order, lead to other probabilities."""
    one, two = picture(12, 12), picture(12, 12, 5)

    def first(*parts: str | Image.Image) -> float:
        answer = fold(engine.stream(ask(*parts, max_tokens=1, logprobs=1)), model="tiny", backend="torch")
        return answer.logprobs[0].top[0].logprob

    assert len({first(one, two), first(two, one), first(one, one)}) == 3


def test_users_cannot_write_image_tokens(engine: TorchEngine) -> None:
    """The text of a placeholder stays text: it takes no image's place, and is no patch."""
    plain = ask(picture(12, 12), "what?")
    forged = ask(picture(12, 12), "<|image|>", "<|patch|>", "what?")
    longer = len("<|image|>") + len("<|patch|>")
    assert engine.count_tokens(forged) == engine.count_tokens(plain) + longer
    assert fold(engine.stream(forged), model="tiny", backend="torch").usage.output_tokens


@pytest.mark.parametrize("part", [ImagePart(data=b"no image"), ImagePart(url="http://a.example/x.png")])
def test_bad_images_are_refused_before_the_first_event(engine: TorchEngine, part: ImagePart) -> None:
    """Images that cannot be decoded or may not be fetched raise at once, with a hint."""
    with pytest.raises(InvalidRequestError) as caught:
        engine.stream(Request(messages=(Message(role="user", content=(part,)),)))
    assert caught.value.hint


def test_closing_ends_a_stream_that_has_not_begun_to_look(engine: TorchEngine) -> None:
    """An engine closed before the first event ends the stream with StreamClosedError."""
    stream = engine.stream(ask(picture(12, 12)))
    engine.close()
    with pytest.raises(StreamClosedError):
        next(stream)


def test_offers_say_what_a_model_can_see(twin: Twin, seeing: tuple[Path, Llama4ForConditionalGeneration]) -> None:
    """A chat model with a vision network takes images, and is counted with it; one without a template does not."""

    def offered(path: Path, **need: object) -> Offer:
        found = TorchBackend().offer(Need.model_validate({"model": str(path)} | need), LAPTOP)
        assert isinstance(found, Offer)
        assert found.capabilities is not None
        return found

    checkpoint, _ = twin
    offer = offered(checkpoint.path, features={"images"})
    assert offer.capabilities is not None
    assert "images" in offer.capabilities.features
    sizes = sum(info.nbytes for info in checkpoint.tensors.values())
    assert sum(offer.memory.values()) > sizes > weight_bytes(checkpoint.config, Quantization.FP32)
    blind = offered(seeing[0])
    assert blind.capabilities is not None
    assert not blind.capabilities.features & {"images", "chat"}
    assert not isinstance(TorchBackend().offer(Need(model=str(seeing[0]), features={"images"}), LAPTOP), Offer)


def test_text_only_engines_refuse_images(twin: Twin) -> None:
    """Without the vision network's weights, an image is refused by name."""
    checkpoint, _ = twin
    network = load_model(checkpoint, device=CPU, dtype=torch.float32)
    engine = TorchEngine(checkpoint, network, model="tiny", context_length=64)
    with pytest.raises(UnsupportedFeatureError, match="images"):
        engine.stream(ask(picture(12, 12)))
    engine.close()
