"""Frames of MP4, WebM and other video files, by PyAV. Only containers that refer to nothing outside are opened."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO, Final

from PIL import Image

from llama4sdk.errors import InvalidRequestError
from llama4sdk.llama4.images.decoding import MOST_PIXELS as MOST_PIXELS_OF_A_FRAME
from llama4sdk.llama4.images.decoding import to_rgb, video_too_long

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

__all__ = ["frames_of_clip"]

#: FFmpeg knows others, among them playlists, which make it open whatever files and addresses they name.
CONTAINERS: Final = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,ogg"

KNOWN: Final = (
    "Known: animated GIF and PNG, WebP and AVIF up to 256 MiB, MP4, MOV, WebM, Matroska, AVI, MPEG, FLV, Ogg."
)

MOST_FRAMES: Final = 20_000
#: Decoded in all: to see one frame, all since the last complete one are decoded.
MOST_PIXELS: Final = 2**34


def frames_of_clip(file: BinaryIO, count: int) -> Iterator[Image.Image]:
    """The frames shown at the middle of ``count`` equal parts of a clip, upright; none twice.

    Raises InvalidRequestError for what is no video, and where PyAV is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise InvalidRequestError(
            "This is no animated image that Pillow can read, and there is nothing here to read video files with.",
            hint="Run \"pip install 'llama4sdk[video]'\", or pass frames to VideoPart.from_frames.",
        ) from error
    try:
        container = av.open(file, mode="r", options={"format_whitelist": CONTAINERS})
    except (av.FFmpegError, ValueError) as error:
        raise InvalidRequestError("What was given as a video is none.", hint=KNOWN) from error
    with container:
        if not container.streams.video:
            raise InvalidRequestError("The file has no pictures, only sound.", hint="Pass a video.")
        yield from _Clip(container, container.streams.video[0]).sample(count)


class _Clip:
    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self._container = container
        self._stream = stream
        self._frames = 0
        self._pixels = 0

    def sample(self, count: int) -> Iterator[Image.Image]:
        """See ``frames_of_clip``."""
        if self._stream.width * self._stream.height > MOST_PIXELS_OF_A_FRAME:
            raise video_too_long(f"Its frames have {self._stream.width}x{self._stream.height} pixels.")
        begin, length = self._times()
        shown: float | None = None
        for part in range(count):
            frame = self._at(begin + length * (2 * part + 1) / (2 * count), begin)
            if frame is not None and frame.time != shown:
                shown = frame.time
                # The matrix that phones write beside a picture says how far it is to be turned, counterclockwise.
                yield to_rgb(frame.to_image().rotate(frame.rotation, expand=True))

    def _times(self) -> tuple[float, float]:
        """When the clip begins and how long it is, in seconds."""
        stream, base = self._stream, self._stream.time_base
        length = float(stream.duration * base) if stream.duration and base else (self._container.duration or 0) / 1e6
        if length <= 0 or not base:
            raise InvalidRequestError("The video does not say how long it is.", hint="Convert it to MP4.")
        return float((stream.start_time or 0) * base), length

    def _at(self, time: float, begin: float) -> av.VideoFrame | None:
        """The frame that is shown at ``time``. Seeking may overshoot (MPEG-TS): then all are decoded up to there."""
        shown = self._from(time, time)
        return shown if shown is not None and shown.time <= time else self._from(begin - 1, time)

    def _from(self, start: float, time: float) -> av.VideoFrame | None:
        """The last frame up to ``time``, or the first, of those from the last complete one before ``start`` on."""
        base = self._stream.time_base
        assert base is not None  # noqa: S101 - _times has refused the rest
        self._container.seek(int(start / base), stream=self._stream)
        shown: av.VideoFrame | None = None
        for frame in self._container.decode(self._stream):
            self._count(frame)
            if frame.time is None:
                continue
            if shown is not None and frame.time > time:
                break
            shown = frame
        return shown

    def _count(self, frame: av.VideoFrame) -> None:
        self._frames += 1
        self._pixels += frame.width * frame.height
        if self._frames > MOST_FRAMES or self._pixels > MOST_PIXELS:
            raise video_too_long(f"{self._frames} frames had to be decoded for those that are to be seen.")
