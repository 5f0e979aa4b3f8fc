"""Films as files: GIF with Pillow, MP4 and WebM with ffmpeg."""

import io
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from lossatlas.errors import BadUsage, CannotWrite, named
from lossatlas.io.atomic_write import write_file

GIF_COLOURS, FEWER_COLOURS = 256, (256, 128, 64, 40)  # of a GIF; of one that has to be small, without dither


GROUND_NOISE = 7  # of the colour of the ground, in levels of 255


VIDEO_OPTIONS = {  # of ffmpeg, by the ending of the file
    ".mp4": "-c:v libx264 -crf 18 -movflags +faststart",
    ".webm": "-c:v libvpx-vp9 -crf 30 -b:v 0 -row-mt 1",
}


ENDINGS = (".gif", *VIDEO_OPTIONS)


def check_animation_file(path: Path) -> None:
    """Check that an animation can be written under a name.

    Args:
        path: A file that ends in .gif, .mp4 or .webm.

    Raises:
        BadUsage: The ending is another one, or ffmpeg is missing for a video.
    """
    out = named("out", path)
    if path.suffix not in ENDINGS:
        raise BadUsage(f"{out}: the name has to end in {', '.join(ENDINGS)}")
    if path.suffix in VIDEO_OPTIONS and shutil.which("ffmpeg") is None:
        raise BadUsage(f"{out}: a video needs ffmpeg, which is not there: install it, or name a .gif")


def save_animation(
    path: Path, frames: Iterable[np.ndarray], rate: float, hold: float = 0.0, most: float | None = None
) -> int:
    """Write frames as an endless GIF, or as a video.

    Args:
        path: File to write, see `check_animation_file`.
        frames: Frames of (height, width, 3) bytes.
        rate: Frames per second.
        hold: Seconds for which the last frame stays.
        most: Largest size of a GIF in bytes, for which it takes fewer colours; None for all of them.

    Returns:
        The number of frames.

    Raises:
        BadUsage: The name is refused, or there is no frame.
        CannotWrite: The file cannot be written, or ffmpeg fails.
    """
    check_animation_file(path)
    pictures = list(frames)
    if not pictures:
        raise BadUsage("there is nothing to show: the grid is too small, or has too few cells")
    if path.suffix == ".gif":
        content = _encode_small_gif(path, pictures, rate, hold, most)
    else:
        content = _encode_video(path.suffix, pictures, rate, hold)
    write_file(path, content)
    return len(pictures)


def _encode_small_gif(path: Path, frames: Sequence[np.ndarray], rate: float, hold: float, most: float | None) -> bytes:
    """Encode a GIF of at most `most` bytes.

    Raises:
        BadUsage: The GIF is larger, even with the fewest colours.
    """
    content = _encode_gif(frames, rate, hold)
    for colours in FEWER_COLOURS:
        if most is None or len(content) <= most:
            return content
        content = _encode_gif(frames, rate, hold, colours, dither=False)
    if most is not None and len(content) > most:
        raise BadUsage(
            f"{path} would have {len(content) / 1e6:.2f} MB with {FEWER_COLOURS[-1]} colours, more than "
            f"{named('max_size')}: choose fewer {named('frames')} or a lower {named('dpi')}"
        )
    return content


def _encode_gif(
    frames: Sequence[np.ndarray], rate: float, hold: float, count: int = GIF_COLOURS, *, dither: bool = True
) -> bytes:
    """Encode a GIF whose frames share one palette, so that nothing flickers."""
    from PIL import Image

    sample = np.concatenate([frame[::3, ::3] for frame in frames[:: max(1, len(frames) // 8)]])
    found = Image.fromarray(sample).quantize(count, method=Image.Quantize.MEDIANCUT).getpalette() or []
    colours = np.array(found, np.uint8).reshape(-1, 3)
    ground = frames[0][0, 0].astype(int)
    colours[(np.abs(colours - ground) <= GROUND_NOISE).all(1)] = ground
    palette = Image.new("P", (1, 1))
    palette.putpalette(colours.ravel().tolist())
    # Without dither, steps between few colours look like contours, but the file is half as large.
    how = Image.Dither.FLOYDSTEINBERG if dither else Image.Dither.NONE
    pictures = [Image.fromarray(frame).quantize(palette=palette, dither=how) for frame in frames]
    ends = [10 * round(100 * (k + 1) / rate) for k in range(len(pictures))]  # a GIF counts hundredths of a second
    durations = [end - start for start, end in pairwise([0, *ends])]
    durations[-1] += round(1000 * hold)
    out = io.BytesIO()
    pictures[0].save(out, "GIF", save_all=True, append_images=pictures[1:], duration=durations, loop=0, optimize=False)
    return out.getvalue()


def _encode_video(ending: str, frames: Sequence[np.ndarray], rate: float, hold: float) -> bytes:
    """Encode a video with ffmpeg."""
    height, width = (side // 2 * 2 for side in frames[0].shape[:2])
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / f"film{ending}"
        shape = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{rate:g}"]
        look = [*VIDEO_OPTIONS[ending].split(), "-pix_fmt", "yuv420p"]
        command = ["ffmpeg", "-y", "-loglevel", "error", *shape, "-i", "-", *look, str(out)]
        content = [np.ascontiguousarray(frame[:height, :width]).tobytes() for frame in frames]
        content += content[-1:] * round(hold * rate)
        done = subprocess.run(command, input=b"".join(content), capture_output=True, check=False)
        if done.returncode:
            line = (done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1]
            raise CannotWrite(f"ffmpeg could not make the film: {line}")
        return out.read_bytes()
