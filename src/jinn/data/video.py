"""Video files -> frames at a rate and a size, decoded by FFmpeg.

Frames are picked by their timestamps: output frame k is what a player displays k / fps seconds after the first picture,
also when the file's own rate varies. Pictures are rotated and mirrored as the file asks, and go through `resize`.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from jinn.contracts import JinnError
from jinn.data.clock import Shown, Warn, resample
from jinn.data.hdr import HLG, PQ, to_screen
from jinn.data.images import Resize, on_white

SEEK_EARLY = 1.0  # seconds
LOOK_AHEAD = 64  # packets of a track by which it is judged before it is decoded
# Formats that FFmpeg can open but that are no videos: pictures, text as pictures, and lists of other files.
NOT_VIDEO = {"image2", "tty", "bin", "xbin", "adf", "idf", "hls", "dash", "concat", "sdp", "lavfi"}
# Where a disk or a download failed, a file has zeros, which these decoders take for a part of the picture. What an
# encoder writes is dense, and never has so many of them.
BLIND_TO_ZEROS = {"hevc", "vp8", "vp9"}
HOLE = bytes(64)


class VideoError(JinnError):
    """A film cannot be read, or only in part; the message says why in plain words."""


@dataclass
class _Track:
    """A video track that is being read."""

    stream: Any
    packets: Iterator[Any]  # of all tracks; an exception stands for a damaged place
    usual: float  # seconds from one picture to the next, as a rule
    is_mistimed: bool  # pictures change their order, but the times of their packets do not
    is_blind_to_zeros: bool  # the decoder takes a hole of zeros for pictures
    others: int  # number of tracks with films that are not read
    begin: float  # when the first picture is displayed, seconds by the film's clock
    end: float = 0.0  # when the last picture ends, seconds by the film's clock


def video_frames(
    path: Path,
    fps: float,
    to_size: Resize,
    warn: Warn,
    span: tuple[float, float] | None = None,
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the number of the clip and the frame, uint8 HWC; arguments and errors are those of `read_film`.

    `span` is the part of the file to read: from the picture nearest to its begin up to that before its end, seconds.
    """
    with ExitStack() as stack:
        container = stack.enter_context(_open(path))
        from av.video.reformatter import VideoReformatter  # once `_open` has said whether PyAV is installed

        track = _choose_track(container, fps)
        if track.is_mistimed and span is None:
            # The edit list, which MP4 makes of times, leaves out the wrong pictures. A span is in its times.
            container = stack.enter_context(_open(path, {"ignore_editlist": "1"}))
            track = _choose_track(container, fps)
        if track.others:
            warn(
                f"it has {track.others + 1} tracks of video, of which number {track.stream.index + 1} is read"
            )
        pixel_aspect = float(
            track.stream.sample_aspect_ratio or 1
        )  # width over height of a pixel: television
        transfer = int(track.stream.codec_context.color_trc)
        converter = VideoReformatter()
        last, frame_HWC = None, np.empty(0, np.uint8)
        if span is not None:
            _seek(container, track, span[0])
        shown = _decode(track) if span is None else _within(track, span)
        for clip, picture in resample(shown, fps, track.usual, warn):
            if picture is not last:
                last, frame_HWC = picture, _to_frame(picture, to_size, pixel_aspect, converter)
                if transfer in (PQ, HLG):
                    frame_HWC = to_screen(frame_HWC, transfer)
            yield clip, frame_HWC
        length = 0.0
        if span is not None:
            if track.end < span[1] - track.usual / 2:
                broken, whole = max(0.0, track.end - span[0]), span[1] - span[0]
                raise VideoError(f"it breaks off after {broken:.1f} of {whole:.1f} seconds")
        elif track.stream.duration:
            length = float(track.stream.duration * track.stream.time_base)
        elif container.duration and len(container.streams) == 1:  # else it may be the length of the sound
            length = container.duration / 1e6
        if track.end < 0.9 * length:
            raise VideoError(f"it breaks off after {track.end:.1f} of {length:.1f} seconds")


def _seek(container: Any, track: _Track, time: float) -> None:
    """Go on reading at a picture that needs no other, some time before the one that is displayed at `time`."""
    from av.error import FFmpegError

    # A file is searched by the times of decoding, which are before those of display.
    early = max(0.0, time - SEEK_EARLY)
    with suppress(FFmpegError):  # what cannot be searched is read from its begin
        container.seek(int(early / track.stream.time_base), stream=track.stream)
        track.packets = _packets(container, [track.stream])


def _within(track: _Track, span: tuple[float, float]) -> Iterator[Shown]:
    """The pictures of a span of the film's clock."""
    usual = track.usual
    for shown in _decode(track):
        time = span[0] if shown.time is None else shown.time
        if time >= span[1] - usual / 2:
            return
        if time >= span[0] - usual / 2:
            track.end = time + usual
            yield shown
        if time >= span[1] - 1.5 * usual:  # the last: damage behind it is of no concern
            return


@dataclass(frozen=True)
class VideoFacts:
    """What a video says of itself.

    Attributes:
        begin: When its first picture is displayed, seconds by its clock; 0 in nearly all videos.
        seconds: Length; 0 where it says nothing.
        fps: Pictures a second, as a rule.
        size_hw: Height and width of the encoded pictures, pixels.
    """

    begin: float
    seconds: float
    fps: float
    size_hw: tuple[int, int]


def video_facts(path: Path) -> VideoFacts:
    """What a video says of itself, without decoding it. Errors are those of `read_film`."""
    with _open(path) as container:
        track = _choose_track(container, 1.0)
        size_hw = (track.stream.codec_context.height, track.stream.codec_context.width)
        seconds = max(0.0, (container.duration or 0) / 1e6)
        return VideoFacts(track.begin, seconds, 1 / track.usual, size_hw)


def video_seconds(path: Path) -> float:
    """How long a video says it is, seconds; 0 where it says nothing. Errors are those of `read_film`."""
    with _open(path) as container:
        return max(0.0, (container.duration or 0) / 1e6)


def _choose_track(container: Any, fps: float) -> _Track:
    """The film's track by its first packets: not a cover nor a still; else the one that the file calls the default."""
    from av.stream import Disposition

    still = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
    streams = [s for s in container.streams.video if not s.disposition & still]
    if not streams:
        raise VideoError("it has no video in it")
    known = [stream for stream in streams if stream.codec_context is not None]
    if not known:
        raise VideoError("FFmpeg does not know how its pictures are encoded")
    packets, head, counts = _packets(container, known), [], Counter[int]()
    for packet in packets:
        head.append(packet)
        if not isinstance(packet, Exception):
            counts[packet.stream.index] += bool(packet.size)
            if max(counts.values()) == LOOK_AHEAD:
                break
    films = [stream for stream in known if counts[stream.index] > 1]
    flagged = [stream for stream in films if stream.disposition & Disposition.default]
    stream = (flagged or films or known)[0]
    # Small pictures lose more by threads than they gain.
    large = stream.codec_context.width * stream.codec_context.height > 640 * 360
    stream.thread_type = "AUTO" if large else "NONE"
    if stream.codec_context.name == "hevc":
        # Or the decoder keeps to itself that pictures lack others, or contradict the checksums that came with them.
        # Other decoders mark damaged pictures anyway, and would refuse what is merely unusual.
        stream.codec_context.options = {"err_detect": "crccheck+explode"}

    own = [p for p in head if not isinstance(p, Exception) and p.stream.index == stream.index and p.size]
    times = [time for packet in own if (time := _time(packet)) is not None]
    usual = 1 / float(stream.average_rate or fps)
    if len(times) > 1:  # the mean would count a gap
        usual = float(np.median(np.diff(np.sort(times))) * stream.time_base) or usual
    is_ordered = len(times) > 1 and all(a < b for a, b in pairwise(times))
    reorders = bool(stream.codec_context.has_b_frames)
    begin = float(min((time for packet in own if not packet.is_discard and (time := _time(packet)) is not None),
                      default=0) * stream.time_base)  # fmt: skip
    return _Track(
        stream, chain(head, packets), usual, is_mistimed=is_ordered and reorders,
        is_blind_to_zeros=stream.codec_context.name in BLIND_TO_ZEROS, others=max(0, len(films) - 1), begin=begin,
    )  # fmt: skip


def _packets(container: Any, streams: list[Any]) -> Iterator[Any]:
    """The packets of some tracks, with an exception where the file is damaged; reading goes on behind it."""
    from av.error import FFmpegError

    is_stuck = False
    while True:
        try:
            for packet in container.demux(streams):
                is_stuck = False
                yield packet
            return
        except FFmpegError as error:
            yield error
            if is_stuck:
                return
            is_stuck = True


def _decode(track: _Track) -> Iterator[Shown]:
    """The pictures of a track. Behind damage, those are left out that are decoded from others that are missing.

    Many files, of cameras and of careless programs, give the times of decoding as those of display. Decoders return
    pictures in the order of their display, and so the n-th smallest time of the packets is that of the n-th picture.
    """
    from av.error import FFmpegError

    times: list[int] = []  # of packets whose pictures have not come yet
    error: Exception | None = None  # since when there was no picture that needs no other
    has_key, pictures, usual = False, 0, track.usual
    for packet in track.packets:
        frames = []
        if isinstance(packet, Exception):
            error, has_key = packet, False
        elif packet.stream.index == track.stream.index:
            if packet.size and not packet.is_discard and (time := _time(packet)) is not None:
                heapq.heappush(times, time)
            has_key |= packet.is_keyframe
            # The container may say so itself, as MPEG-TS does by its counters.
            if packet.is_corrupt or (track.is_blind_to_zeros and HOLE in bytes(packet)):
                error, has_key = VideoError("a part of the file is damaged"), False
            try:
                frames = packet.decode()
            except FFmpegError as caught:
                error, has_key = caught, False
        for frame in frames:
            time = frame.pts
            if track.is_mistimed:
                time = heapq.heappop(times) if times else None
            else:
                times.clear()
            if frame.is_corrupt:
                error, has_key = error or VideoError("a picture is damaged"), False
            if error and not (has_key and frame.key_frame):
                continue
            base = frame.time_base or track.stream.time_base
            seconds = None if time is None else float(time * base)
            duration = float(frame.duration * base) if frame.duration else None
            yield Shown(frame, seconds, duration, is_cut=error is not None)
            pictures, error = pictures + 1, None
            track.end = (track.end if seconds is None else seconds) + (duration or usual)
    if error:
        raise VideoError(f"its pictures cannot be decoded behind {track.end:.1f} seconds ({_reason(error)})")
    if pictures < 2:
        raise VideoError("it is a single picture, not a video" if pictures else "it holds no pictures")


def _time(packet: Any) -> int | None:
    time: int | None = packet.dts if packet.pts is None else packet.pts
    return time


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _to_frame(picture: Any, to_size: Resize, pixel_aspect: float, converter: Any) -> np.ndarray:
    """One decoded picture as a frame, uint8 HWC: upright, on white, and resized."""
    has_alpha = any(component.is_alpha for component in picture.format.components)
    pixels_HWC = converter.reformat(picture, format="rgba" if has_alpha else "rgb24").to_ndarray()
    if has_alpha:
        pixels_HWC = on_white(pixels_HWC)
    matrix = picture.side_data.get("DISPLAYMATRIX")
    if matrix is not None:
        # It moves pixel (x, y) to (a x + c y, b x + d y); phones store one of eight orientations in it.
        a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
        if abs(b) > abs(a):
            pixels_HWC, pixel_aspect, a, d = pixels_HWC.swapaxes(0, 1), 1 / pixel_aspect, c, b
        pixels_HWC = pixels_HWC[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
    return to_size(pixels_HWC[None], pixel_aspect=pixel_aspect)[0]


@contextmanager
def _open(path: Path, options: dict[str, str] | None = None) -> Iterator[Any]:
    try:
        import av
    except ImportError as error:
        raise JinnError("reading video needs PyAV: run pip install 'jinn[video]'") from error
    try:
        if path.stat().st_size == 0:
            raise VideoError("it is empty")
        # "file:" keeps names such as a:b.mp4 from being taken for an address. Titles and other tags that are not UTF-8
        # are of no interest.
        options = {"protocol_whitelist": "file", **(options or {})}
        container = av.open(f"file:{path}", options=options, metadata_errors="replace")
    except av.error.FFmpegError as error:
        raise VideoError(f"it is not a video, or damaged ({error.strerror})") from error
    except OSError as error:
        raise VideoError(f"it cannot be read ({error.strerror})") from error
    with container:
        formats = set(container.format.name.split(","))
        if formats & NOT_VIDEO or any(name.endswith("_pipe") for name in formats):
            raise VideoError("it is a picture or a text, not a video")
        yield container
