"""Every setting of the method and of the two algorithms: name, type, default, limits and meaning.

This is the one place where a setting stands. The RLlib configs take these names in ``training()``,
experiment files in ``settings:``; both validate here.
"""

import difflib
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

Method = Literal["bp", "lpdm", "lpdm_guided", "frozen"]
Width = Annotated[int, Field(ge=1)]


class Settings(BaseModel):
    """Settings of REINFORCE and PPO; the paper's values are in ``tune_configs/paper.yaml``."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        expected = cls.model_fields[info.field_name or ""].annotation
        return value if expected is bool else refuse_booleans(value)

    hidden_sizes: tuple[Width, ...] = Field(
        (64, 128, 256), description="Units of each hidden layer, input side first."
    )
    lr: float = Field(5e-4, gt=0, description="Adam's learning rate of the heads; of all under bp.")
    hidden_lr: float | None = Field(
        None, gt=0, description="Adam's learning rate of the hidden layers; None means lr."
    )
    grad_clip: float | None = Field(
        0.5,
        gt=0,
        description="Largest gradient norm: per layer for local losses and heads, global for bp.",
    )
    gamma: float = Field(0.99, ge=0, le=1, description="Discount of the return.")
    action_std: float = Field(
        0.5, gt=0, description="Fixed standard deviation of the Gaussian policy, in action units."
    )
    return_normalization: Literal["batch", "running"] = Field(
        "batch",
        description="Mean and deviation that normalise returns: of this iteration's steps, or of "
        "all steps so far.",
    )
    bootstrap_truncated: bool = Field(
        False,
        description="Continue the return of a truncated episode with the learned value of its last "
        "observation. Needs a value head and return_normalization: running.",
    )
    vf_loss_coeff: float = Field(0.5, ge=0, description="Weight of the value loss under bp.")
    max_rows: int | None = Field(
        None,
        ge=2,
        description="Match the distances of this many random rows of a batch; None for all.",
    )
    iterations: int | None = Field(
        None, ge=1, description="The paper's iterations to train for; None for no end."
    )
    iterations_per_report: int = Field(
        25, ge=1, description="The paper's iterations in one train() call and one Tune result."
    )


class PPOSettings(Settings):
    """Settings of PPO, which has some of its own."""

    episodes_per_iteration: int = Field(
        4, ge=1, description="PPO: whole episodes collected for one iteration."
    )
    num_epochs: int = Field(4, ge=1, description="PPO: passes over an iteration's steps.")
    minibatch_size: int = Field(128, ge=2, description="PPO: rows of a minibatch.")
    clip_param: float = Field(0.2, gt=0, description="PPO: limit of the probability ratio.")
    kl_coeff: float = Field(0.01, ge=0, description="PPO: weight of the KL penalty.")
    vf_clip_param: float = Field(
        0.2, gt=0, description="PPO: limit of the value's change, in normalised returns."
    )


def refuse_booleans(value: Any) -> Any:
    """The value, which must not be or contain true or false where numbers are asked for."""
    items = value if isinstance(value, (list, tuple)) else [value]
    if any(isinstance(item, bool) for item in items):
        raise ValueError("must be a number, not true or false")
    return value


def unknown_name(name: str, known: Iterable[str], kind: str = "setting") -> str:
    """One sentence that refuses a name and offers the nearest one that exists."""
    known = sorted(known)
    matches = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {matches[0]!r}?" if matches else f"choose from {', '.join(known)}"
    return f"unknown {kind} {name!r}, {hint}"
