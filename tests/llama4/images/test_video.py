"""Sampling frames of animated images, within limits of memory and work."""

from __future__ import annotations

import contextlib
import io
import struct
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from llama4sdk.errors import ConfigurationError, InvalidRequestError
from llama4sdk.llama4.images import video as reading
from llama4sdk.llama4.images.fetching import read_image
from llama4sdk.llama4.images.video import MAX_SIDE, even_frames
from llama4sdk.messages import Frame, ImagePart, Message, TextPart, VideoPart

FORMS = ["GIF", "PNG", "WEBP", "AVIF"]


def read_all(data: bytes, count: int) -> list[Image.Image]:
    """All sampled frames of the data."""
    return list(reading.read_frames(data, count))


def grey(level: int, size: tuple[int, int] = (16, 16)) -> Image.Image:
    """One plain picture."""
    return Image.new("RGB", size, (level, level, level))


def animation(form: str, frames: Sequence[Image.Image], durations: int | list[int] = 100, **options: object) -> bytes:
    """The frames as one file; durations are milliseconds."""
    file = io.BytesIO()
    frames[0].save(file, form, save_all=True, append_images=frames[1:], duration=durations, **options)
    return file.getvalue()


def levels(frames: Sequence[Image.Image] | VideoPart) -> list[int]:
    """The grey level of each frame, rounded to tens."""
    images = [read_image(part.data, part.url) for part in frames.frames] if isinstance(frames, VideoPart) else frames
    return [round(float(np.asarray(image).mean()) / 10) * 10 for image in images]


def test_frames_are_taken_at_even_times() -> None:
    """Frames in the middle of equal times are taken, each only once, also one that is shown for long."""
    assert even_frames([1] * 10, 5) == [1, 3, 5, 7, 9]
    assert even_frames([1] * 10, 1) == [5]
    assert even_frames([1, 1, 1, 97], 2) == [3]
    assert even_frames([10, 1, 1, 1, 10], 3) == [0, 2, 4]
    assert even_frames([0, 0, 0, 0], 2) == [1, 3]
    assert even_frames([5, 1], 8) == [0, 1]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60), st.integers(1, 12))
def test_the_frame_at_each_time_is_taken(durations: list[int], count: int) -> None:
    """For any durations, the frames are those that a player would show at these times."""
    if len(durations) <= count:
        assert even_frames(durations, count) == list(range(len(durations)))
        return
    lengths = durations if any(durations) else [1] * len(durations)
    times = [Fraction(sum(lengths) * (2 * part + 1), 2 * count) for part in range(count)]
    expected = {next(n for n in range(len(lengths)) if time < sum(lengths[: n + 1])) for time in times}
    assert even_frames(durations, count) == sorted(expected)


@pytest.mark.parametrize("form", FORMS)
def test_animated_images_are_read(form: str) -> None:
    """Short animations give all frames, long ones those at even times by their durations."""
    pictures = [grey(level) for level in range(0, 250, 10)]
    assert levels(read_all(animation(form, pictures[:3]), 8)) == [0, 10, 20]
    assert levels(read_all(animation(form, pictures), 5)) == [20, 70, 120, 170, 220]
    slow = [20] * 24 + [2000]
    assert levels(read_all(animation(form, pictures, slow), 4)) == [150, 240]


@pytest.mark.parametrize("form", FORMS)
def test_frames_are_the_pictures_that_pillow_shows(form: str) -> None:
    """Frames that store only changes are composed as Pillow does."""
    dice = np.random.default_rng(0)
    still = dice.integers(0, 256, (24, 32, 3), dtype=np.uint8)
    pictures = []
    for step in range(6):
        still[step * 4 : step * 4 + 3, 5:9] = dice.integers(0, 256, 3, dtype=np.uint8)
        pictures.append(Image.fromarray(still.copy()))
    data = animation(form, pictures)
    with Image.open(io.BytesIO(data)) as image:
        for number, frame in enumerate(read_all(data, 6)):
            image.seek(number)
            np.testing.assert_array_equal(np.asarray(frame), np.asarray(image.convert("RGB")))


def test_a_still_image_is_one_frame() -> None:
    """A still image of any format is one frame."""
    for form in ("JPEG", "PNG", "GIF"):
        file = io.BytesIO()
        grey(50).save(file, form)
        assert levels(read_all(file.getvalue(), 8)) == [50]


def test_transparent_frames_show_white() -> None:
    """Transparent pixels of frames are white, as in images."""
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    frames = read_all(animation("WEBP", [clear, Image.new("RGBA", (8, 8), (0, 0, 0, 255))], lossless=True), 2)
    assert [image.getpixel((0, 0)) for image in frames] == [(255, 255, 255), (0, 0, 0)]


def test_large_frames_are_scaled_down() -> None:
    """Frames are scaled to a side of four tiles in their proportions; a sliver keeps one pixel."""
    (wide,) = read_all(animation("PNG", [grey(9, (4000, 1000))]), 1)
    assert wide.size == (MAX_SIDE, MAX_SIDE // 4)
    (sliver,) = read_all(animation("PNG", [grey(9, (20_000, 1))]), 1)
    assert sliver.size == (MAX_SIDE, 1)
    (pixel,) = read_all(animation("PNG", [grey(9, (1, 1))]), 1)
    assert pixel.size == (1, 1)


@pytest.mark.parametrize("form", ["WEBP", "PNG"])
def test_every_frame_is_turned_upright(form: str) -> None:
    """The file's EXIF orientation applies to all frames."""
    exif = Image.Exif()
    exif[0x0112] = 6
    red = [Image.new("RGB", (8, 4), (200, level, 0)) for level in (0, 90)]
    assert [frame.size for frame in read_all(animation(form, red, exif=exif), 2)] == [(4, 8), (4, 8)]


def test_frames_may_be_of_any_kind() -> None:
    """Frames may be one pixel, a sliver, CMYK, 16 bits, grey or transparent."""
    deep = Image.fromarray(np.full((2, 2), 32768, np.uint16))
    kinds: list[Frame] = [
        grey(0, (1, 1)),
        grey(30, (20_000, 10)),
        Image.new("CMYK", (4, 4), (0, 0, 0, 0)),
        deep,
        Image.new("L", (4, 4), 90),
        Image.new("RGBA", (4, 4), (0, 0, 0, 0)),
        np.full((3, 3), 0.5),
    ]
    assert levels(VideoPart.from_frames(kinds)) == [0, 30, 260, 130, 90, 260, 130]


def bomb(count: int, width: int = 1, height: int = 1) -> bytes:
    """A GIF of many equal frames, a few bytes each."""
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    return head + frame * count + b"\x3b"


def test_endless_animations_are_refused() -> None:
    """A hundred thousand frames in a file of a megabyte are refused without decoding all."""
    assert len(read_all(bomb(500), 3)) == 3
    with pytest.raises(InvalidRequestError, match="more than 10000 frames") as caught:
        read_all(bomb(100_000), 8)
    assert "from_frames" in (caught.value.hint or "")


def test_many_large_frames_are_refused_before_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pixels of all frames are limited, and so is the canvas."""
    monkeypatch.setattr(reading, "MAX_PIXELS_READ", 16 * 16 * 5)
    assert len(read_all(animation("GIF", [grey(n * 40) for n in range(5)]), 8)) == 5
    with pytest.raises(InvalidRequestError, match="more than 5 frames of 16x16"):
        read_all(animation("GIF", [grey(n * 40) for n in range(6)]), 8)
    with pytest.raises(InvalidRequestError, match="too large"):
        read_all(bomb(2, 60_000, 60_000), 8)


def test_large_files_are_not_taken_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large WebP, which Pillow reads as a whole, is refused; a large GIF is not."""
    monkeypatch.setattr(reading, "MAX_WHOLE_FILE_BYTES", 100)
    gif, webp = (animation(form, [grey(0), grey(90)]) for form in ("GIF", "WEBP"))
    assert min(len(gif), len(webp)) > 100
    assert len(read_all(gif, 2)) == 2
    with pytest.raises(InvalidRequestError) as caught:
        read_all(webp, 2)
    assert caught.value.hint


@pytest.mark.parametrize("form", FORMS)
def test_truncated_animations_are_refused(form: str) -> None:
    """A truncated file is refused, unless it ends between frames."""
    noise = [Image.fromarray(np.random.default_rng(n).integers(0, 256, (32, 32, 3), dtype=np.uint8)) for n in range(4)]
    data = animation(form, noise)
    with contextlib.suppress(InvalidRequestError):
        assert 1 <= len(read_all(data[: len(data) * 2 // 3], 8)) < 4


@settings(max_examples=150, deadline=None)
@given(position=st.integers(0, 10_000), value=st.integers(0, 255), form=st.sampled_from(FORMS))
def test_damaged_animations_raise_nothing_else(position: int, value: int, form: str) -> None:
    """A file with any byte changed is read or refused."""
    data = bytearray(DAMAGED[form])
    data[position % len(data)] = value
    with contextlib.suppress(InvalidRequestError):
        assert all(frame.mode == "RGB" for frame in read_all(bytes(data), 2))


DAMAGED = {form: animation(form, [grey(level) for level in (0, 90, 200)]) for form in FORMS}


def test_other_files_say_what_would_help(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without PyAV a video file is refused with the command that brings it."""
    monkeypatch.setitem(sys.modules, "av", None)
    path = tmp_path / "film.mp4"
    path.write_bytes(b"\0\0\0\x18ftypmp42" + bytes(100))
    with pytest.raises(InvalidRequestError) as caught:
        VideoPart.from_path(path)
    assert "pip install 'llama4sdk[video]'" in (caught.value.hint or "")


def test_without_pillow_the_way_to_get_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pillow, the error says what to install."""
    monkeypatch.delitem(sys.modules, "llama4sdk.llama4.images.video")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ConfigurationError, match="PIL") as caught:
        VideoPart.from_bytes(b"GIF89a")
    assert "llama4sdk[local]" in (caught.value.hint or "")
    with pytest.raises(ConfigurationError, match="PIL"):
        VideoPart.from_frames([np.zeros((2, 2))])


def test_a_video_is_made_of_any_pictures(tmp_path: Path) -> None:
    """Pillow images, arrays, bytes, paths and image parts, in one tile each unless more are asked for."""
    path = tmp_path / "a.png"
    grey(40).save(path)
    part = ImagePart.from_path(path)
    pictures: list[Frame] = [grey(0), np.full((4, 4), 10, np.uint8), path.read_bytes(), path, str(path), part]
    video = VideoPart.from_frames(pictures)
    assert levels(video) == [0, 10, 40, 40, 40, 40]
    assert {frame.max_tiles for frame in video.frames} == {1}
    assert part.max_tiles is None
    assert {frame.max_tiles for frame in VideoPart.from_frames([part], max_tiles=4).frames} == {4}
    film = np.stack([np.full((4, 6, 3), level, np.uint8) for level in (10, 200)])
    assert levels(VideoPart.from_frames(film)) == [10, 200]


def test_a_video_comes_from_a_file_or_its_bytes(tmp_path: Path) -> None:
    """Both give the same frames."""
    path = tmp_path / "a.gif"
    path.write_bytes(animation("GIF", [grey(level) for level in range(0, 200, 10)]))
    assert levels(VideoPart.from_path(path)) == [10, 30, 60, 80, 110, 130, 160, 180]
    assert VideoPart.from_path(path, frames=3) == VideoPart.from_bytes(path.read_bytes(), frames=3)


MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    "none": (lambda: VideoPart.from_frames([]), "no frames"),
    "too-many": (lambda: VideoPart.from_frames([grey(0, (1, 1))] * 257), "more than 256 frames"),
    "no-picture": (lambda: VideoPart.from_frames([5]), "type int is no picture"),  # type: ignore[list-item]
    "frames-0": (lambda: VideoPart.from_bytes(b"", frames=0), "frames is 0"),
    "frames-257": (lambda: VideoPart.from_bytes(b"", frames=257), "frames is 257"),
    "tiles-0": (lambda: VideoPart.from_frames([grey(0)], max_tiles=0), "max_tiles is 0"),
    "tiles-17": (lambda: VideoPart.from_frames([grey(0)], max_tiles=17), "max_tiles is 17"),
}


@pytest.mark.parametrize(("act", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_named(act: Callable[[], object], message: str) -> None:
    """An invalid video is an error with a hint."""
    with pytest.raises(InvalidRequestError, match=message) as caught:
        act()
    assert caught.value.hint


def test_a_message_shows_a_video_as_its_frames() -> None:
    """A message's parts are texts and images, also after a round trip through JSON."""
    video = VideoPart.from_frames([grey(0), grey(90)])
    message = Message(role="user", content=(TextPart(text="See:"), video, TextPart(text="What?")))
    assert message.parts == (TextPart(text="See:"), *video.frames, TextPart(text="What?"))
    assert message.has_images
    assert message.text == "See:What?"
    assert Message.model_validate(message.model_dump()) == message
