"""Images of every kind are decoded to the expected pixels, and other data is refused."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from llama4sdk.errors import InvalidRequestError
from llama4sdk.llama4.images.decoding import MAX_PIXELS, decode, from_array, to_rgb
from llama4sdk.llama4.images.tiling import cut_tiles
from llama4sdk.messages import ImagePart

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def encode_file(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    """The image as a file."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def pixel(image: Image.Image, x: int = 0, y: int = 0) -> object:
    """One pixel's colour."""
    return image.getpixel((x, y))


def noise(height: int, width: int) -> Image.Image:
    """A smooth picture with every colour in it."""
    grid = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM"])
def test_formats_are_read(form: str) -> None:
    """Each common format comes back in its size and colour."""
    image = decode(encode_file(Image.new("RGB", (5, 3), RED), form))
    assert (image.mode, image.size) == ("RGB", (5, 3))
    np.testing.assert_allclose(np.asarray(image)[0, 0], RED, atol=2)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_the_picture(orientation: int) -> None:
    """For every EXIF orientation, the red corner is in its place."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    upright = Image.new("RGB", (4, 2), BLUE)
    upright.putpixel((0, 0), RED)
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode(encode_file(stored, exif=exif))
    assert image.size == (4, 2)
    assert (pixel(image), pixel(image, 3, 1)) == (RED, BLUE)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_shows_white(mode: str) -> None:
    """Transparent pixels are white, half-transparent ones are mixed with white."""
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 255))
    pixels = to_rgb(image.convert("P").convert("PA") if mode == "PA" else image.convert(mode))
    assert pixel(pixels, 1) == (0, 0, 0)
    if mode != "PA":  # Pillow makes opaque PA of P; that it is read at all is the point
        assert pixel(pixels) == WHITE
    half = to_rgb(Image.new("RGBA", (1, 1), (0, 0, 0, 128)))
    assert pixel(half) == (127, 127, 127)


def test_palettes_are_looked_up_and_may_be_transparent() -> None:
    """A palette's colours, and the one marked transparent, survive."""
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *GREEN])
    image.putpixel((1, 0), 1)
    assert pixel(decode(encode_file(image)), 1) == GREEN
    frame = decode(encode_file(image, transparency=0))
    assert (pixel(frame), pixel(frame, 1)) == (WHITE, GREEN)


def test_cmyk_becomes_rgb() -> None:
    """A CMYK JPEG has its colours, not their inverse."""
    image = decode(encode_file(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"))
    np.testing.assert_allclose(np.asarray(image)[0, 0], RED, atol=3)


def test_sixteen_bits_are_scaled_not_cut() -> None:
    """Half of 65535 is mid-grey, which a plain conversion would make white."""
    ramp = np.array([[0, 32768, 65535]], dtype=np.uint16)
    for image in (decode(encode_file(Image.fromarray(ramp))), decode(encode_file(Image.fromarray(ramp), "TIFF"))):
        assert [pixel(image, x) for x in range(3)] == [(0, 0, 0), (128, 128, 128), WHITE]


def test_one_bit_and_grey() -> None:
    """Black and white, and grey, become RGB."""
    assert pixel(decode(encode_file(Image.new("1", (1, 1), 1)))) == WHITE
    assert pixel(decode(encode_file(Image.new("L", (1, 1), 7)))) == (7, 7, 7)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_is_seen(form: str) -> None:
    """An animation is its first frame."""
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, BLUE)]
    data = encode_file(frames[0], form, save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(np.asarray(decode(data))[0, 0], RED, atol=2)


@pytest.mark.parametrize("data", [b"", b"hello", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"\x89PNG\r\n"])
def test_what_is_no_image_is_refused(data: bytes) -> None:
    """Text, fragments, and formats that are programs raise InvalidRequestError with a hint."""
    with pytest.raises(InvalidRequestError) as caught:
        decode(data)
    assert caught.value.hint


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF", "BMP"])
def test_truncated_files_are_refused(form: str) -> None:
    """A truncated file is refused rather than shown in part."""
    data = encode_file(noise(64, 64), form)
    with pytest.raises(InvalidRequestError) as caught:
        decode(data[: len(data) // 2])
    assert caught.value.hint


@settings(max_examples=150, deadline=None)
@given(position=st.integers(0, 10_000), value=st.integers(0, 255), form=st.sampled_from(["PNG", "GIF", "JPEG", "TIFF"]))
def test_damaged_files_raise_nothing_else(position: int, value: int, form: str) -> None:
    """A file with any byte changed is read or refused; no decoder's own exception gets through."""
    data = bytearray(encode_file(noise(24, 24), form))
    data[position % len(data)] = value
    with contextlib.suppress(InvalidRequestError):
        assert decode(bytes(data)).mode == "RGB"


def test_a_bomb_is_refused_before_it_takes_memory() -> None:
    """A tiny file that claims a billion pixels raises InvalidRequestError."""
    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    with pytest.raises(InvalidRequestError, match="too large"):
        decode(b"\x89PNG\r\n\x1a\n" + body)
    with pytest.raises(InvalidRequestError, match="too large"):
        to_rgb(Image.new("1", (MAX_PIXELS // 100, 101)))


def test_arrays_of_every_kind_are_taken() -> None:
    """uint8, uint16, bool and floats from 0 to 1, grey or with channels last."""
    for dtype, full in (("uint8", 255), ("uint16", 65535), ("bool", True), ("float32", 1.0), ("float64", 1.0)):
        assert pixel(from_array(np.full((2, 3), full, dtype))) == WHITE
        assert pixel(from_array(np.full((2, 3, 1), full, dtype))) == WHITE
        assert from_array(np.full((2, 3, 3), full, dtype)).size == (3, 2)
    assert pixel(from_array(np.zeros((1, 1, 4), np.uint8))) == WHITE
    bad: tuple[np.ndarray, ...] = (np.zeros(4), np.zeros((2, 2, 2)), np.zeros((0, 3)), np.full((2, 2), 7.5))
    for array in (*bad, np.zeros((2, 2), np.int32), np.full((2, 2), np.nan)):
        with pytest.raises(InvalidRequestError) as caught:
            from_array(array)
        assert caught.value.hint


def test_parts_are_made_of_images_and_arrays() -> None:
    """A part keeps exactly the pixels it was made of, as a PNG."""
    picture = noise(9, 7)
    for part in (ImagePart.from_pil(picture), ImagePart.from_array(np.asarray(picture))):
        assert part.data is not None
        np.testing.assert_array_equal(np.asarray(decode(part.data)), np.asarray(picture))
    with pytest.raises(InvalidRequestError, match="float"):
        ImagePart.from_pil(Image.new("F", (2, 2)))


@pytest.mark.parametrize("size", [(1, 1), (10, 20000), (20000, 10), (336, 336), (480, 640), (700, 300), (1500, 900)])
def test_tiles_equal_a_tensor_resize(size: tuple[int, int]) -> None:
    """Tiles are within 1/255 of torch's antialiased resize, which transformers' processor uses."""
    image = noise(*size)
    tiles = cut_tiles(image)
    canvas = tiles.canvas
    source = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).unsqueeze(0)  # [1, 3, height, width]

    def resize(height: int, width: int) -> torch.Tensor:
        return torch.nn.functional.interpolate(source, (height, width), mode="bilinear", antialias=True)

    padding = (0, canvas.columns * 336 - canvas.width, 0, canvas.rows * 336 - canvas.height)
    full = torch.nn.functional.pad(resize(canvas.height, canvas.width), padding)
    grid = [part for row in torch.split(full, 336, dim=2) for part in torch.split(row, 336, dim=3)]
    expected = torch.cat([*grid, resize(336, 336)] if len(grid) > 1 else grid).numpy()
    assert tiles.pixels.shape == (canvas.tiles, 3, 336, 336)
    assert np.abs(tiles.pixels.astype(int) - expected.astype(int)).max() <= 1
