"""Environments as data: an id, its keyword arguments, a time limit and gymnasium's own wrappers."""

import importlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

import gymnasium as gym
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from rllib_lpdm.schema.messages import unknown_name

# Those that data can describe, and that keep nothing from one episode to the next: an episode is
# the same in whichever process it is played.
WRAPPERS = (
    "AtariPreprocessing",
    "ClipReward",
    "DelayObservation",
    "DiscretizeAction",
    "DiscretizeObservation",
    "DtypeObservation",
    "FilterObservation",
    "FlattenObservation",
    "FrameStackObservation",
    "GrayscaleObservation",
    "MaxAndSkipObservation",
    "RescaleAction",
    "RescaleObservation",
    "ReshapeObservation",
    "ResizeObservation",
    "StickyAction",
    "TimeAwareObservation",
)
FOREIGN = ("GymV21Environment-v0", "GymV26Environment-v0")  # shimmy's, of the gym before gymnasium
MODEL, MOST_OF_MODEL = "xml_file", 64 * 2**20  # an argument of MuJoCo's, and bytes of its file
RUNNING = (gym.wrappers.NormalizeObservation, gym.wrappers.NormalizeReward)
OF_MAKE = ("id", "max_episode_steps", "disable_env_checker")  # gym.make's own arguments


def name_with(marks: str) -> Callable[[str], str]:
    """A check of names: up to 64 letters, digits and some marks, of which none comes first."""
    pattern = re.compile(f"[A-Za-z0-9][A-Za-z0-9{re.escape(marks)}]{{0,63}}")

    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(
                f"may have letters, digits and {' '.join(marks)} only, 64 at most, and begins with "
                "a letter or digit"
            )
        return value

    return check


Id = Annotated[str, Field(min_length=1, max_length=200)]
Name = Annotated[str, AfterValidator(name_with("._-"))]


class _Described(BaseModel):
    """Something that is made with keyword arguments; its name alone stands for it without any."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    key: ClassVar[str]

    kwargs: dict[str, Any] = Field(default={}, description="Keyword arguments, as JSON has them.")

    @model_validator(mode="before")
    @classmethod
    def _of_a_word(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {cls.key: value}
        if not isinstance(value, (dict, cls)):
            raise ValueError(f"should be a word, or a mapping with {cls.key!r}")
        return value

    @field_validator("kwargs")
    @classmethod
    def _as_json_has_them(cls, value: dict[str, Any]) -> dict[str, Any]:
        """What ``run.json`` can hold, as it will be read from there."""
        try:
            same: dict[str, Any] = json.loads(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"only what JSON can write: {error}") from None
        return same


class WrapperSpec(_Described):
    """One of gymnasium's wrappers, :data:`WRAPPERS`."""

    key: ClassVar[str] = "name"

    name: str

    @field_validator("name")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in WRAPPERS and value in gym.wrappers.__all__:
            raise ValueError("needs code, or keeps something from one episode to the next")
        if value not in WRAPPERS:
            raise ValueError(unknown_name(value[:80], WRAPPERS, "wrapper"))
        return value


class EnvironmentSpec(_Described):
    """How an environment is made; an id alone stands for ``gymnasium.make(id)``."""

    key: ClassVar[str] = "id"

    id: Id
    name: Name | None = Field(
        default=None, description="What cells, tables and overrides call it; the id by default."
    )
    max_episode_steps: int | None = Field(
        default=None,
        strict=True,
        ge=1,
        lt=2**31,
        description="In place of the registered time limit.",
    )
    wrappers: tuple[WrapperSpec, ...] = Field(default=(), description="The innermost first.")

    @field_validator("kwargs")
    @classmethod
    def _none_of_make(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in OF_MAKE:
            if name in value:
                raise ValueError(f"{name!r} is no argument of the environment's own")
        return value

    @model_validator(mode="after")
    def _imports_nothing(self) -> Self:
        if self.kwargs and self.id in FOREIGN:
            raise ValueError(f"{self.id} makes what its kwargs name, which may import any module")
        return self

    @property
    def label(self) -> str:
        """The name, or the id."""
        return self.name or self.id

    @property
    def is_plain(self) -> bool:
        """Whether it is an id and nothing else."""
        return self == EnvironmentSpec(id=self.id)

    @property
    def time_limit(self) -> int | None:
        """Most steps of an episode; None where gymnasium knows no limit."""
        return self.max_episode_steps or gym.registry[self.id].max_episode_steps

    def make(self, **kwargs: Any) -> gym.Env:
        """The environment; keyword arguments are added to its own.

        Raises:
            ValueError: an argument names a file that might keep its reader for ever.
        """
        _check_files(self.kwargs)
        limit = self.max_episode_steps
        steps = {} if limit is None else {"max_episode_steps": limit}
        env = gym.make(self.id, disable_env_checker=True, **steps, **(self.kwargs | kwargs))
        for wrapper in self.wrappers:
            env = getattr(gym.wrappers, wrapper.name)(env, **wrapper.kwargs)
        return env


def _check_files(kwargs: Mapping[str, Any]) -> None:
    for name, value in kwargs.items():
        path = os.path.expanduser(value) if isinstance(value, str) else ""
        if os.path.isdir(path) or not os.path.exists(path):
            continue
        if not os.path.isfile(path):
            raise ValueError(f"kwargs.{name}: {path} is not a regular file")
        if name == MODEL and os.path.getsize(path) > MOST_OF_MODEL:
            raise ValueError(f"kwargs.{name}: {path} is longer than {MOST_OF_MODEL} bytes")


def check_single_agent(env: Any) -> None:
    """Raises ValueError for several agents, several copies, or statistics that keep changing."""
    name = type(env).__name__
    if hasattr(env, "possible_agents") or "MultiAgentEnv" in {
        each.__name__ for each in type(env).__mro__
    }:
        raise ValueError(
            f"{name} has several agents; rllib_lpdm trains one policy for one agent, so wrap it in "
            "a gymnasium environment of one agent"
        )
    if isinstance(env, gym.vector.VectorEnv):
        raise ValueError(f"{name} is a vector of environments; name a single one")
    while isinstance(env, gym.Wrapper):
        if isinstance(env, RUNNING) and env.update_running_mean:
            raise ValueError(
                f"{type(env).__name__} keeps running statistics that no checkpoint holds and that "
                "differ between env runners; use RescaleObservation or TransformObservation with "
                "constants, or set update_running_mean = False"
            )
        env = env.env


@dataclass(frozen=True)
class EnvironmentMaker:
    """Makes an environment in any process, of which it asks nothing but its packages.

    Attributes:
        spec: what is made.
        imports: modules that register it with gymnasium.
    """

    KEY: ClassVar[str] = "environment_maker"  # of an RLlib config's env_config

    spec: EnvironmentSpec
    imports: tuple[str, ...] = ()

    def __call__(self, **kwargs: Any) -> gym.Env:
        import_modules(self.imports)
        return self.spec.make(**kwargs)

    @property
    def env_config(self) -> dict[str, Any]:
        """What an RLlib config needs beside the id: nothing, where the id says all."""
        return {} if self.spec.is_plain and not self.imports else {self.KEY: self}

    @classmethod
    def of(cls, env_config: dict[str, Any]) -> Self | None:
        """The maker that a config names, if it names one."""
        maker = env_config.get(cls.KEY)
        return maker if isinstance(maker, cls) else None


def import_modules(names: Iterable[str]) -> None:
    """Imports modules, installed or in the current folder, for what they register.

    Raises:
        ValueError: one of them cannot be imported.
    """
    for name in names:
        if name in sys.modules:
            continue
        if not all(part.isidentifier() for part in name.split(".")):
            raise ValueError(f"{name[:80]!r} is no module's name, such as my_package.environments")
        folder = os.getcwd()
        if folder not in sys.path:  # a console script's path begins elsewhere
            sys.path.append(folder)
        try:
            importlib.import_module(name)
        except Exception as error:  # a module may raise anything
            raise ValueError(
                f"{name} cannot be imported: {type(error).__name__}: {error}"
            ) from error
