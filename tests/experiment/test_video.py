"""A video takes the frames that environments draw, or is refused in one line and leaves no file."""

import errno
from pathlib import Path

import gymnasium as gym
import imageio.v2 as imageio
import numpy as np
import pytest

from rllib_lpdm.policies.video import Filmed, frame_rate, has_mp4_encoder, picture, video
from rllib_lpdm.schema.messages import UserError

GREY = np.arange(16 * 32).reshape(16, 32) % 200
COLOUR = np.stack([GREY, 50 + GREY, 255 - GREY], axis=2).astype(np.uint8)
SUFFIXES = [
    "gif",
    pytest.param("mp4", marks=pytest.mark.skipif(not has_mp4_encoder(), reason="no MP4 encoder")),
]


class Drawn(gym.Env):
    """Draws some frames, one after the other."""

    observation_space = action_space = gym.spaces.Discrete(1)

    def __init__(self, frames):
        self.frames = iter(frames)

    def reset(self, *, seed=None, options=None):
        return 0, {}

    def step(self, action):
        return 0, 0.0, False, False, {}

    def render(self):
        return next(self.frames)


def film(path, frames, environment=Drawn):
    with video(path, 10) as add:
        env = Filmed(environment(frames), add)
        env.reset()
        for _ in frames[1:]:
            env.step(0)


@pytest.mark.parametrize(
    ("frame", "shown"),
    [
        (COLOUR, COLOUR),
        (COLOUR.astype(np.int64), COLOUR),
        (COLOUR.astype(np.float64), COLOUR),
        ((COLOUR / 255).astype(np.float32), COLOUR),
        (np.full((2, 2, 3), 1.0000002), np.full((2, 2, 3), 255)),
        (np.moveaxis(COLOUR, 2, 0), COLOUR),
        (np.concatenate([COLOUR, COLOUR[..., :1]], axis=2), COLOUR),
        (GREY, np.stack([GREY] * 3, axis=2)),
        (GREY[..., None], np.stack([GREY] * 3, axis=2)),
        (GREY[None], np.stack([GREY] * 3, axis=2)),
        (GREY > 100, np.stack([255 * (GREY > 100)] * 3, axis=2)),
        (np.zeros((3, 4, 3), np.uint8), np.zeros((3, 4, 3))),
    ],
)
def test_a_frame_is_shown_as_it_was_drawn_whatever_form_it_has(frame, shown):
    assert picture(frame).dtype == np.uint8
    np.testing.assert_array_equal(picture(frame), shown)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("convert", [lambda f: f / 255, lambda f: f[..., 0], np.transpose])
def test_frames_that_have_to_be_converted_make_a_video(convert, suffix, tmp_path):
    film(tmp_path / f"a.{suffix}", [convert(COLOUR), convert(COLOUR[::-1])])
    frames = imageio.mimread(tmp_path / f"a.{suffix}")
    assert len(frames) == 2
    assert (np.array(frames[0]) != np.array(frames[1])).any()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_frames_that_grow_or_shrink_get_the_size_of_the_first(suffix, tmp_path):
    halves = np.zeros((64, 20, 3), np.uint8)
    halves[:32] = 255
    film(tmp_path / f"a.{suffix}", [COLOUR, halves, halves[::8, ::4]])
    first, *others = imageio.mimread(tmp_path / f"a.{suffix}")
    for frame in others:
        assert frame.shape == first.shape
        assert frame[4, 16, 0] > 200
        assert frame[12, 16, 0] < 50


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (np.zeros((16, 32, 2)), r"a frame of shape \(16, 32, 2\) and type float64 is no picture"),
        (np.zeros((2, 16, 32, 3)), "is no picture"),
        (np.zeros((0, 32, 3)), "is no picture"),
        (np.zeros(16), "is no picture"),
        (np.zeros((16, 32, 3), complex), "is no picture"),
        (np.full((16, 32, 3), None), "is no picture"),
        (COLOUR * 300.0, "a frame has values from 0 to 76500, not from 0 to 255"),
        (np.full((16, 32, 3), np.nan), "a frame has values from nan"),
        (COLOUR.astype(int) - 300, "a frame has values from -300"),
    ],
)
@pytest.mark.parametrize("before", [0, 2])
def test_what_is_no_picture_is_refused_in_one_line_and_leaves_no_file(
    frame, words, before, suffix, tmp_path
):
    with pytest.raises(UserError, match=f"cannot be drawn: .*{words}") as refused:
        film(tmp_path / f"a.{suffix}", [*[COLOUR] * before, frame])
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_folder_that_cannot_be_written_is_one_line(suffix, tmp_path, monkeypatch):
    """On a file system that is read-only, removing what is not there fails as well."""

    def read_only(*arguments, **options):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "touch", read_only)
    monkeypatch.setattr(Path, "unlink", read_only)
    with pytest.raises(UserError, match=r"a\.\w+ cannot be written: Read-only file system$"):
        film(tmp_path / f"a.{suffix}", [COLOUR])


@pytest.mark.parametrize("failing", ["append_data", "close"])
def test_a_fault_of_the_encoder_is_one_line_and_leaves_no_file(failing, tmp_path, monkeypatch):
    opened = imageio.get_writer

    def get_writer(*arguments, **options):
        writer = opened(*arguments, **options)

        def fail(*arguments):
            raise RuntimeError("the encoder\ngave up")

        monkeypatch.setattr(writer, failing, fail)
        return writer

    monkeypatch.setattr(imageio, "get_writer", get_writer)
    with pytest.raises(UserError, match=r"a\.gif cannot be written: .*gave up"):
        film(tmp_path / "a.gif", [COLOUR])
    assert list(tmp_path.iterdir()) == []


def test_an_environments_own_error_is_not_taken_for_one_of_the_file(tmp_path):
    class Full(Drawn):
        def step(self, action):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        film(tmp_path / "a.gif", [COLOUR, COLOUR], Full)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("named", "rate"),
    [(50, 50), (12.5, 12.5), (None, 30), (0, 30), (-5, 30), ("60", 30), (float("nan"), 30)],
)
def test_a_rate_that_is_none_gives_way_to_the_usual_one(named, rate):
    env = Drawn([])
    env.metadata = {"render_fps": named}
    assert frame_rate(env) == rate
