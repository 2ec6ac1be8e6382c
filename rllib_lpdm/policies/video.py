"""Writes videos of an environment, also on machines without a display."""

import contextlib
import functools
import importlib.util
import itertools
import math
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import imageio.v2 as imageio
import numpy as np
from numpy.typing import NDArray

from rllib_lpdm.schema.messages import UserError, one_line

Array = NDArray[Any]
VIDEO_SUFFIXES = (".mp4", ".gif")
GIF_RATE = 50  # frames a second; viewers slow faster ones down
DEFAULT_RATE = 30  # where an environment does not name its own
RATES = (1, 1000)  # frames a second that an environment may name
ROUNDED = 1e-3  # by how much a float may miss 0 or 1
CHANNELS = (1, 3, 4)  # of grey, colour, and colour with transparency
GL_TIMEOUT = 60  # seconds


class Filmed(gym.Wrapper):
    """Hands on a picture of every state of the environment, in the size of the first picture."""

    def __init__(self, env: gym.Env, add: Callable[[Array], None]) -> None:
        super().__init__(env)
        self._add = add
        self._size: tuple[int, int] | None = None

    def reset(self, **kwargs: Any) -> Any:
        result = self.env.reset(**kwargs)
        self._draw()
        return result

    def step(self, action: Any) -> Any:
        result = self.env.step(action)
        self._draw()
        return result

    def _draw(self) -> None:
        name = self.env.spec.id if self.env.spec else self.env
        try:
            frame: Any = self.env.render()
        except Exception as error:
            if isinstance(error, (ImportError, gym.error.DependencyNotInstalled)):
                way_out = "; pip install 'rllib-lpdm[video]'"
            elif hasattr(self.env.unwrapped, "mujoco_renderer"):
                way_out = gl_setting() or "; set MUJOCO_GL=egl or MUJOCO_GL=osmesa"
            else:
                way_out = ""
            raise UserError(f"{name} cannot be drawn: {one_line(error)}{way_out}") from error
        try:
            whole = picture(frame)
        except ValueError as error:
            raise UserError(f"{name} cannot be drawn: {error}") from None
        self._size = self._size or whole.shape[:2]
        rows, columns = (
            np.arange(wanted) * given // wanted
            for wanted, given in zip(self._size, whole.shape[:2], strict=True)
        )
        self._add(whole[rows[:, None], columns])


def picture(frame: Any) -> Array:
    """Converts a frame into the form that every encoder takes.

    Args:
        frame: (height, width), or with 1, 3 or 4 channels, last or first; truth values, numbers
            from 0 to 255, or floats from 0 to 1.

    Returns:
        (height, width, 3) uint8, without transparency.

    Raises:
        ValueError: the frame has another form.
    """
    if not isinstance(frame, np.ndarray):
        raise ValueError("it has no render mode rgb_array")
    shape, kind = frame.shape, frame.dtype.kind
    if frame.ndim == 2:
        frame = frame[:, :, None]
    elif frame.ndim == 3 and shape[2] not in CHANNELS:
        frame = np.moveaxis(frame, 0, 2)
    if frame.ndim != 3 or frame.shape[2] not in CHANNELS or not frame.size or kind not in "buif":
        raise ValueError(f"a frame of shape {shape} and type {frame.dtype} is no picture")
    low, high = frame.min(), frame.max()
    if kind == "b" or (kind == "f" and high <= 1 + ROUNDED):
        frame, low, high = 255.0 * frame, 255.0 * low, 255.0 * high
    if not -ROUNDED * 255 <= low <= high <= 255 * (1 + ROUNDED):
        raise ValueError(f"a frame has values from {low:g} to {high:g}, not from 0 to 255")
    if frame.dtype != np.uint8:
        frame = np.rint(frame).clip(0, 255).astype(np.uint8)
    return np.broadcast_to(frame, (*frame.shape[:2], 3)) if frame.shape[2] == 1 else frame[..., :3]


def frame_rate(env: gym.Env) -> float:
    """Returns the frames a second that an environment names, or the usual number."""
    rate = env.metadata.get("render_fps")
    return rate if isinstance(rate, int | float) and RATES[0] <= rate <= RATES[1] else DEFAULT_RATE


def gl_setting() -> str:
    """Returns a hint at the user's setting of MuJoCo's renderer."""
    chosen = os.environ.get("MUJOCO_GL")
    return f" (MUJOCO_GL={chosen} is set; is its library installed?)" if chosen else ""


@contextlib.contextmanager
def headless(env: gym.Env) -> Iterator[None]:
    """Lets an environment draw where there is no display; the user's own settings stay."""
    settings = {"PYGAME_HIDE_SUPPORT_PROMPT": "1"}
    if sys.platform == "linux" and not os.environ.keys() & {"DISPLAY", "WAYLAND_DISPLAY"}:
        settings |= {"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy"}
        if hasattr(env.unwrapped, "mujoco_renderer") and "MUJOCO_GL" not in os.environ:
            backend = headless_gl()
            if backend is None:
                raise UserError(
                    "MuJoCo has no OpenGL library to draw with where there is no display; "
                    "apt-get install libosmesa6"
                )
            settings["MUJOCO_GL"] = backend
    added = {name: value for name, value in settings.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


@contextlib.contextmanager
def video(file: Path, rate: float) -> Iterator[Callable[[Array], None]]:
    """Yields a function that adds a frame to a video; the file appears when it is whole."""
    suffix = file.suffix.lower()
    if suffix not in VIDEO_SUFFIXES:
        raise UserError(f"{file}: a video ends in {' or '.join(VIDEO_SUFFIXES)}")
    if suffix == ".mp4" and not has_mp4_encoder():
        raise UserError(
            f"{file}: there is no encoder for MP4; pip install 'rllib-lpdm[video]', or write a .gif"
        )
    every = math.ceil(rate / GIF_RATE) if suffix == ".gif" else 1
    options: dict[str, Any] = (
        {"duration": 10 * round(100 * every / rate), "loop": 0, "bits": 8}  # in hundredths
        if suffix == ".gif"
        else {"fps": rate, "macro_block_size": 2, "ffmpeg_log_level": "error"}
    )
    temporary = file.with_name(f".{uuid.uuid4().hex}{suffix}")
    count = itertools.count()

    def add(frame: Array) -> None:
        if next(count) % every == 0:
            with _writing(file):
                writer.append_data(frame)

    try:
        with _writing(file):
            temporary.touch()
            writer: Any = imageio.get_writer(temporary, mode="I", **options)
        try:
            yield add
        except BaseException:
            with contextlib.suppress(Exception):  # the first fault is the one to tell
                writer.close()
            raise
        with _writing(file):
            writer.close()
            os.replace(temporary, file)
    finally:
        with contextlib.suppress(OSError):  # a read-only file system refuses this as well
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _writing(file: Path) -> Iterator[None]:
    """Names the video where it cannot be written; encoders raise errors of any class."""
    try:
        yield
    except Exception as error:
        reason = (isinstance(error, OSError) and error.strerror) or one_line(error)
        raise UserError(f"{file} cannot be written: {reason}") from None


def has_mp4_encoder() -> bool:
    """Tells whether MP4 files can be written; GIF files always can."""
    return importlib.util.find_spec("imageio_ffmpeg") is not None


def video_name() -> str:
    """Returns a name for a video in the better format that can be written here."""
    return "video.mp4" if has_mp4_encoder() else "video.gif"


@functools.cache
def headless_gl() -> str | None:
    """Returns MuJoCo's renderer for machines without a display: "egl", "osmesa" or None.

    Each is tried in a new process, because PyOpenGL keeps to the first that it has met.
    """
    for backend in ("egl", "osmesa"):
        program = f"from mujoco.{backend} import GLContext; GLContext(8, 8).make_current()"
        try:
            subprocess.run(
                [sys.executable, "-P", "-c", program],
                env=os.environ | {"MUJOCO_GL": backend},
                capture_output=True,
                timeout=GL_TIMEOUT,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            continue
        return backend
    return None
