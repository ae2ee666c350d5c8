"""Video files through PyAV, made here by PyAV: the frames at even times, upright; nothing else is opened."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from llama4sdk.errors import InvalidRequestError
from llama4sdk.llama4.images import video, video_av
from llama4sdk.messages import VideoPart

av = pytest.importorskip("av", reason="PyAV is not installed")


def frames_of(data: bytes, count: int) -> list[Image.Image]:
    """All that are read."""
    return list(video.read_frames(data, count))


def clip(count: int = 40, form: str = "mp4", codec: str = "mpeg4", size: tuple[int, int] = (64, 48)) -> bytes:
    """Four seconds in which a grey picture brightens; complete pictures are rare."""
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.gop_size = 30
        for number in range(count):
            level = 20 + number * 5
            picture = Image.new("RGB", size, (level, level, level))
            picture.paste((255, 0, 0), (0, 0, size[0] // 2, size[1] // 2))
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
    return file.getvalue()


def numbers(frames: list[Image.Image]) -> list[int]:
    """Which frame each was, by its brightness in the lower right corner."""
    found = [image.getpixel((image.width - 4, image.height - 4)) for image in frames]
    return [round((pixel[0] - 20) / 5) for pixel in found if isinstance(pixel, tuple)]


@pytest.mark.parametrize(
    ("form", "codec"),
    [("mp4", "mpeg4"), ("matroska", "mpeg4"), ("avi", "mpeg4"), ("mov", "mpeg4"), ("mpegts", "mpeg2video")],
)
def test_the_frames_at_even_times_are_taken(form: str, codec: str) -> None:
    """Of 40 frames the four in the middle of a second each; within one, for what containers call the beginning."""
    frames = frames_of(clip(form=form, codec=codec), 4)
    assert all(abs(found - expected) <= 1 for found, expected in zip(numbers(frames), (5, 15, 25, 35), strict=True))
    assert {(image.mode, image.size) for image in frames} == {("RGB", (64, 48))}


def test_a_short_clip_has_each_frame_once() -> None:
    """No frame is given twice, however many are asked for."""
    assert numbers(frames_of(clip(3), 8)) == [0, 1, 2]


def test_a_video_part_comes_from_a_clip(tmp_path: Path) -> None:
    """The public way."""
    path = tmp_path / "film.mp4"
    path.write_bytes(clip())
    assert len(VideoPart.from_path(path, frames=5).frames) == 5


def test_pictures_are_turned_upright() -> None:
    """As phones store films: what the file says of the rotation is done."""
    data = bytearray(clip(3))
    one = (0x10000).to_bytes(4, "big")
    minus = (-0x10000 & 0xFFFFFFFF).to_bytes(4, "big")
    zero, unit = bytes(4), (0x40000000).to_bytes(4, "big")
    at = data.index(one + zero * 3 + one + zero * 3 + unit, data.index(b"tkhd"))
    data[at : at + 36] = zero + one + zero + minus + zero * 4 + unit  # a quarter turn clockwise
    (image, *_) = frames_of(bytes(data), 1)
    assert image.size == (48, 64)
    red = image.getpixel((image.width - 4, 4))
    assert isinstance(red, tuple)
    assert red[0] > 200 > 80 > red[1]


@pytest.mark.parametrize(
    "data",
    [
        b"hello",
        b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\nfile:///etc/hosts\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile /etc/hosts\n",
        b"<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'></MPD>",
    ],
    ids=["text", "hls", "concat", "dash"],
)
def test_what_is_no_video_or_leads_elsewhere_is_refused(data: bytes) -> None:
    """Text, and playlists that name other files."""
    with pytest.raises(InvalidRequestError, match="is none") as caught:
        frames_of(data, 2)
    assert caught.value.hint


def test_damaged_clips_are_refused_or_read() -> None:
    """Cut short in many places, nothing but InvalidRequestError is raised."""
    data, refused = clip(), 0
    for length in range(1, len(data), len(data) // 25):
        try:
            frames_of(data[:length], 2)
        except InvalidRequestError:
            refused += 1
    assert refused > 20  # an MP4 of this kind says at its end what is where


def test_sound_alone_is_refused() -> None:
    """A file without pictures is named as such."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=44100)
        for _ in range(3):
            frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
            frame.sample_rate = 44100
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(InvalidRequestError, match="only sound"):
        frames_of(file.getvalue(), 2)


def test_what_has_to_be_decoded_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """By frames and by pixels, over all that is looked at, and by the size of a frame."""
    data = clip()
    for name, most in (
        ("MAX_DECODED_FRAMES", 30),
        ("MAX_DECODED_PIXELS", 64 * 48 * 30),
        ("MAX_FRAME_PIXELS", 64 * 48 - 1),
    ):
        with monkeypatch.context() as patch, pytest.raises(InvalidRequestError, match="too long or too large"):
            patch.setattr(video_av, name, most)
            frames_of(data, 8)
