"""Videos of an environment, also on machines without a display."""

import functools
import importlib.util
import itertools
import math
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
import imageio.v2 as imageio
import numpy as np
from numpy.typing import NDArray

from rllib_lpdm.experiment.spec import EvaluationError
from rllib_lpdm.results.messages import one_line

Array = NDArray[Any]
VIDEO_SUFFIXES = (".mp4", ".gif")
GIF_RATE = 50  # frames a second; viewers slow faster ones down
DEFAULT_RATE = 30  # where an environment does not name its own
GL_TIMEOUT = 60  # seconds


class Filmed(gym.Wrapper):
    """Hands on a frame of every state that the environment comes to."""

    def __init__(self, env: gym.Env, add: Callable[[Array], None]) -> None:
        super().__init__(env)
        self._add = add

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
            raise EvaluationError(f"{name} cannot be drawn: {one_line(error)}{way_out}") from error
        if not isinstance(frame, np.ndarray):
            raise EvaluationError(f"{name} cannot be drawn: it has no render mode rgb_array")
        self._add(frame)


def gl_setting() -> str:
    """A hint at what the user has told MuJoCo to draw with."""
    chosen = os.environ.get("MUJOCO_GL")
    return f" (MUJOCO_GL={chosen} is set; is its library installed?)" if chosen else ""


@contextmanager
def headless(env: gym.Env) -> Iterator[None]:
    """Lets an environment draw where there is no display; what the user has set stays."""
    settings = {"PYGAME_HIDE_SUPPORT_PROMPT": "1"}
    if sys.platform == "linux" and not os.environ.keys() & {"DISPLAY", "WAYLAND_DISPLAY"}:
        settings |= {"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy"}
        if hasattr(env.unwrapped, "mujoco_renderer") and "MUJOCO_GL" not in os.environ:
            backend = headless_gl()
            if backend is None:
                raise EvaluationError(
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


@contextmanager
def video(file: Path, rate: float) -> Iterator[Callable[[Array], None]]:
    """A function that adds a frame to a video, which appears under its name when it is whole."""
    suffix = file.suffix.lower()
    if suffix not in VIDEO_SUFFIXES:
        raise EvaluationError(f"{file}: a video ends in {' or '.join(VIDEO_SUFFIXES)}")
    if suffix == ".mp4" and not has_mp4_encoder():
        raise EvaluationError(
            f"{file}: there is no encoder for MP4; pip install 'rllib-lpdm[video]', or write a .gif"
        )
    every = math.ceil(rate / GIF_RATE) if suffix == ".gif" else 1
    options: dict[str, Any] = (
        {"duration": 10 * round(100 * every / rate), "loop": 0, "bits": 8}  # in hundredths
        if suffix == ".gif"
        else {"fps": rate, "macro_block_size": 2, "ffmpeg_log_level": "error"}
    )
    temporary = file.with_name(f".{uuid.uuid4().hex}{suffix}")
    try:
        temporary.touch()
        opened: Any = imageio.get_writer(temporary, mode="I", **options)
        with opened as writer:
            count = itertools.count()

            def add(frame: Array) -> None:
                if next(count) % every == 0:
                    writer.append_data(frame)

            yield add
        os.replace(temporary, file)
    except OSError as error:
        raise EvaluationError(
            f"{file} cannot be written: {error.strerror or one_line(error)}"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def has_mp4_encoder() -> bool:
    """Whether MP4 files can be written; GIF files always can."""
    return importlib.util.find_spec("imageio_ffmpeg") is not None


@functools.cache
def headless_gl() -> str | None:
    """What MuJoCo can draw with where there is no display: "egl", "osmesa" or None.

    Each is tried in a process of its own, because PyOpenGL keeps to the first that it has met.
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
