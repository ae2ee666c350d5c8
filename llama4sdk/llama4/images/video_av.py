"""Sample frames of MP4, WebM and other video files by PyAV. Only self-contained formats are opened."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from PIL import Image

from llama4sdk.errors import InvalidRequestError
from llama4sdk.llama4.images.decoding import MAX_PIXELS as MAX_FRAME_PIXELS
from llama4sdk.llama4.images.decoding import to_rgb, video_too_long

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

#: FFmpeg has others, such as playlists, which make it open any file or address they name.
CONTAINERS: Final = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,ogg"

KNOWN_FORMATS: Final = (
    "Known: animated GIF and PNG, WebP and AVIF up to 256 MiB, MP4, MOV, WebM, Matroska, AVI, MPEG, FLV, Ogg."
)

#: Limits of decoding: for each frame taken, all since the last key frame are decoded.
MAX_DECODED_FRAMES: Final = 20_000
MAX_DECODED_PIXELS: Final = 2**34


def clip_frames(file: BinaryIO, count: int) -> Iterator[Image.Image]:
    """Yield the frames shown in the middle of ``count`` equal parts of a clip, upright, each only once.

    Raises InvalidRequestError for a file that is no video, and where PyAV is not installed.
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
        raise InvalidRequestError("What was given as a video is none.", hint=KNOWN_FORMATS) from error
    with container:
        if not container.streams.video:
            raise InvalidRequestError("The file has no pictures, only sound.", hint="Pass a video.")
        yield from _Clip(container, container.streams.video[0]).sample(count)


@dataclass
class _Clip:
    _container: InputContainer
    _stream: VideoStream
    _frames: int = 0
    _pixels: int = 0

    def sample(self, count: int) -> Iterator[Image.Image]:
        """See ``clip_frames``."""
        if self._stream.width * self._stream.height > MAX_FRAME_PIXELS:
            raise video_too_long(f"Its frames have {self._stream.width}x{self._stream.height} pixels.")
        start, duration = self._start_and_duration()
        last_time: float | None = None
        for part in range(count):
            frame = self._find_frame(start + duration * (2 * part + 1) / (2 * count), start)
            if frame is not None and frame.time != last_time:
                last_time = frame.time
                # Phones store the rotation in degrees, counterclockwise, beside the picture.
                yield to_rgb(frame.to_image().rotate(frame.rotation, expand=True))

    def _start_and_duration(self) -> tuple[float, float]:
        """Start and duration of the clip in seconds."""
        stream, base = self._stream, self._stream.time_base
        duration = float(stream.duration * base) if stream.duration and base else (self._container.duration or 0) / 1e6
        if duration <= 0 or not base:
            raise InvalidRequestError("The video does not say how long it is.", hint="Convert it to MP4.")
        return float((stream.start_time or 0) * base), duration

    def _find_frame(self, time: float, start: float) -> av.VideoFrame | None:
        """The frame shown at ``time``. Seeking may overshoot (MPEG-TS): then all from the start on are decoded."""
        frame = self._last_frame(time, time)
        return frame if frame is not None and frame.time <= time else self._last_frame(start - 1, time)

    def _last_frame(self, seek_time: float, time: float) -> av.VideoFrame | None:
        """The last frame up to ``time``, or else the first one, of those from the key frame before ``seek_time`` on."""
        base = self._stream.time_base
        assert base is not None  # noqa: S101 - _start_and_duration has refused others
        self._container.seek(int(seek_time / base), stream=self._stream)
        last: av.VideoFrame | None = None
        for frame in self._container.decode(self._stream):
            self._count(frame)
            if frame.time is None:
                continue
            if last is not None and frame.time > time:
                break
            last = frame
        return last

    def _count(self, frame: av.VideoFrame) -> None:
        self._frames += 1
        self._pixels += frame.width * frame.height
        if self._frames > MAX_DECODED_FRAMES or self._pixels > MAX_DECODED_PIXELS:
            raise video_too_long(f"{self._frames} frames had to be decoded for those that are to be seen.")
