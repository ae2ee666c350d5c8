"""Sampling frames of video files by PyAV, which also writes the files here."""

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


def read_all(data: bytes, count: int) -> list[Image.Image]:
    """All sampled frames of the data."""
    return list(video.read_frames(data, count))


def clip(count: int = 40, form: str = "mp4", codec: str = "mpeg4", size: tuple[int, int] = (64, 48)) -> bytes:
    """Four seconds of a grey picture that brightens, with few key frames."""
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
    """The number of each frame, from the brightness of its lower right corner."""
    corners = [image.getpixel((image.width - 4, image.height - 4)) for image in frames]
    return [round((pixel[0] - 20) / 5) for pixel in corners if isinstance(pixel, tuple)]


@pytest.mark.parametrize(
    ("form", "codec"),
    [("mp4", "mpeg4"), ("matroska", "mpeg4"), ("avi", "mpeg4"), ("mov", "mpeg4"), ("mpegts", "mpeg2video")],
)
def test_the_frames_at_even_times_are_taken(form: str, codec: str) -> None:
    """Of 40 frames, those in the middle of four seconds are taken, give or take one for the container's start time."""
    frames = read_all(clip(form=form, codec=codec), 4)
    assert all(abs(number - expected) <= 1 for number, expected in zip(numbers(frames), (5, 15, 25, 35), strict=True))
    assert {(image.mode, image.size) for image in frames} == {("RGB", (64, 48))}


def test_a_short_clip_has_each_frame_once() -> None:
    """No frame is returned twice, however many are requested."""
    assert numbers(read_all(clip(3), 8)) == [0, 1, 2]


def test_a_video_part_comes_from_a_clip(tmp_path: Path) -> None:
    """VideoPart.from_path samples a clip."""
    path = tmp_path / "film.mp4"
    path.write_bytes(clip())
    assert len(VideoPart.from_path(path, frames=5).frames) == 5


def test_pictures_are_turned_upright() -> None:
    """The rotation stored by phones is applied."""
    data = bytearray(clip(3))
    one = (0x10000).to_bytes(4, "big")
    minus = (-0x10000 & 0xFFFFFFFF).to_bytes(4, "big")
    zero, unit = bytes(4), (0x40000000).to_bytes(4, "big")
    at = data.index(one + zero * 3 + one + zero * 3 + unit, data.index(b"tkhd"))
    data[at : at + 36] = zero + one + zero + minus + zero * 4 + unit  # a quarter turn clockwise
    (image, *_) = read_all(bytes(data), 1)
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
    """Text, and playlists that name other files, are refused."""
    with pytest.raises(InvalidRequestError, match="is none") as caught:
        read_all(data, 2)
    assert caught.value.hint


def test_damaged_clips_are_refused_or_read() -> None:
    """A clip truncated anywhere is read or raises InvalidRequestError."""
    data, refused = clip(), 0
    for length in range(1, len(data), len(data) // 25):
        try:
            read_all(data[:length], 2)
        except InvalidRequestError:
            refused += 1
    assert refused > 20  # an MP4 of this kind says at its end what is where


def test_sound_alone_is_refused() -> None:
    """A file with only sound is refused by name."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=44100)
        for _ in range(3):
            frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
            frame.sample_rate = 44100
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(InvalidRequestError, match="only sound"):
        read_all(file.getvalue(), 2)


def test_what_has_to_be_decoded_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoded frames, decoded pixels and the size of a frame are limited."""
    data = clip()
    for name, limit in (
        ("MAX_DECODED_FRAMES", 30),
        ("MAX_DECODED_PIXELS", 64 * 48 * 30),
        ("MAX_FRAME_PIXELS", 64 * 48 - 1),
    ):
        with monkeypatch.context() as patch, pytest.raises(InvalidRequestError, match="too long or too large"):
            patch.setattr(video_av, name, limit)
            read_all(data, 8)
