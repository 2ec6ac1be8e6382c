"""Every setting of the method and of the two algorithms: name, type, default, limits and meaning.

This is the one place where a setting stands. The RLlib configs take these names in ``training()``,
experiment files in ``settings:``; both validate here, and ``docs/settings.md`` is made from here.
"""

import math
from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
)

from rllib_lpdm.schema.messages import counted, unknown_name
from rllib_lpdm.schema.registry import (
    ACTIVATIONS,
    BLACK_BOXES,
    METHODS,
    METRICS,
    Neighbours,
    Scaling,
)

Width = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0)]


def _rates_kind(value: Any) -> str:
    return "list" if isinstance(value, (list, tuple)) else "number"


Rates = Annotated[
    Annotated[Rate, Tag("number")] | Annotated[tuple[Rate, ...], Tag("list")],
    Discriminator(_rates_kind),
]


def setting(
    default: Any, description: str, section: str = "4.1", cost: str = "none", **limits: Any
) -> Any:
    """A field with what the table of settings says of it: the paper's section, and what it costs.

    Args:
        default: its value where nothing is said.
        description: what it means.
        section: of the paper; empty where the paper knows no such thing.
        cost: in time or memory, against the default.
        **limits: as pydantic's ``Field`` takes them.
    """
    extra: dict[str, Any] = {"section": section, "cost": cost}
    return Field(default, description=description, json_schema_extra=extra, **limits)


class Settings(BaseModel):
    """Settings of REINFORCE and PPO; the paper's values are in ``tune_configs/paper.yaml``."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        expected = cls.model_fields[info.field_name or ""].annotation
        return value if expected is bool else refuse_booleans(value)

    @field_validator("metric", "black_box")
    @classmethod
    def _name_of_a_function(cls, value: str | None, info: ValidationInfo) -> str | None:
        known: Iterable[str] = METRICS if info.field_name == "metric" else BLACK_BOXES
        if value is None or value in known or is_dotted_name(value):
            return value
        raise ValueError(unknown_name(value, known, info.field_name or ""))

    def check(self, method: str) -> None:
        """Raises ValueError where settings cannot be used together, or with a method."""
        rates, layers = self.hidden_lr, len(self.conv_layers) + len(self.hidden_sizes)
        if isinstance(rates, tuple) and len(rates) != layers:
            raise ValueError(
                f"hidden_lr has {counted(len(rates), 'rate')} for {counted(layers, 'hidden layer')}"
            )
        for name in ("black_box", "propagate_error"):
            if getattr(self, name) and layers < 2:
                raise ValueError(f"{name} acts between hidden layers, but there are {layers}")
        if self.propagate_error and self.target_maximum == "running":
            raise ValueError(
                "target_maximum: running needs one target for all layers, but with propagate_error "
                "each has its own"
            )
        if self.return_window is not None and self.return_normalization != "running":
            raise ValueError(
                f"return_window: {self.return_window} needs return_normalization: running; with "
                f"{self.return_normalization} no earlier episode counts"
            )
        for name in ("hidden_gain", "head_gain"):
            given = getattr(self, name) != type(self).model_fields[name].default
            if given and self.initialization != "orthogonal":
                raise ValueError(
                    f"{name} needs initialization: orthogonal; weights of {self.initialization} "
                    "have no gain to set"
                )
        METHODS[method].check(self)

    def acts_by_mean(self, method: str) -> bool:
        """Whether a method's actions are those of several heads' mean."""
        layers = len(self.conv_layers) + len(self.hidden_sizes)
        return METHODS[method].local_heads and self.local_heads == "mean" and layers > 1

    def hidden_rates(self) -> tuple[float, ...]:
        """The learning rate of every hidden layer, convolutions first (appendix C)."""
        rates = self.lr if self.hidden_lr is None else self.hidden_lr
        if isinstance(rates, tuple):
            return rates
        return (rates,) * (len(self.conv_layers) + len(self.hidden_sizes))

    hidden_sizes: tuple[Width, ...] = setting(
        (64, 128, 256),
        "Units of each hidden layer, input side first.",
        cost="time grows with the width, memory of bp with the number too",
    )
    conv_layers: tuple[tuple[Width, Width, Width], ...] = setting(
        (),
        "Convolutions before the hidden layers: filters, kernel size and stride of each. For "
        "observations of shape (height, width, channels).",
        section="5",
        cost="acting in torch instead of numpy",
    )
    activation: Annotated[str, AfterValidator(ACTIVATIONS.known)] = setting(
        "tanh", "Activation of the hidden layers.", cost="gelu and silu: some memory within a layer"
    )
    initialization: Literal["torch", "orthogonal", "xavier"] = setting(
        "torch",
        "Weights at the start: PyTorch's default; orthogonal with the gains below; or Xavier's "
        "uniform distribution with gain 1. The last two have biases of 0.",
    )
    hidden_gain: float = setting(
        math.sqrt(2.0),
        "Gain of the hidden layers' orthogonal weights. Needs initialization: orthogonal.",
        gt=0,
    )
    head_gain: float = setting(
        0.01,
        "Gain of the policy heads' orthogonal weights; value heads have 1. Needs initialization: "
        "orthogonal.",
        ge=0,
    )
    lr: float = setting(5e-4, "Adam's learning rate of the heads; of all under bp.", gt=0)
    hidden_lr: Rates | None = setting(
        None,
        "Adam's learning rate of the hidden layers: one for all, or a list of one a layer, "
        "convolutions first; None means lr.",
        section="C",
    )
    grad_clip: float | None = setting(
        0.5,
        "Largest gradient norm: per layer for local losses and heads, global for bp.",
        gt=0,
    )
    gamma: float = setting(0.99, "Discount of the return.", ge=0, le=1)
    action_std: float = setting(
        0.5, "Fixed standard deviation of the Gaussian policy, in action units.", ge=1e-6
    )
    return_normalization: Literal["batch", "running"] = setting(
        "batch",
        "Mean and deviation that normalise returns: of this iteration's steps, or of all steps so "
        "far.",
        section="3.2",
    )
    return_window: int | None = setting(
        None,
        "Number of last episodes whose steps make the running mean and deviation of returns, and "
        "at least the iteration's; None for all so far. Needs return_normalization: running.",
        section="",
        ge=1,
    )
    bootstrap_truncated: bool = setting(
        False,
        "Continue the return of a truncated episode with the learned value of its last "
        "observation. Needs a value head and return_normalization: running.",
        section="",
    )
    vf_loss_coeff: float = setting(
        0.5,
        "Weight of the value loss under bp; under local_rl and dfa in the hidden layers alone.",
        ge=0,
    )
    local_heads: Literal["last", "mean"] = setting(
        "last",
        "What acts under local_rl: the last policy head, or the mean of all their outputs.",
        section="",
        cost="mean: acting in torch instead of numpy",
    )
    feedback: Literal["random", "sign"] = setting(
        "random",
        "What takes the loss to the hidden layers under dfa: random matrices that stay as they "
        "are, or the signs of the forward weights' product.",
        section="",
        cost="sign: that product, once a batch",
    )
    metric: str = setting(
        "l1",
        "What the local losses compare rows by: a distance, or `gram`, inner products. In Python "
        "also a function by its dotted name.",
        section="3.1",
        cost="N^2 d for all; cosine and gram by matrix products",
    )
    max_rows: int | None = setting(
        None,
        "Match the distances of this many random rows of a batch, but not in pre-training; None "
        "for all.",
        section="5",
        cost="local losses fall with its square",
        ge=2,
    )
    neighbours: Neighbours = setting(
        "all",
        "Which distances of a row are kept: all, to its closest or furthest neighbours, or to both "
        "in equal parts.",
        section="A",
        cost="a ranking of all distances, once a batch",
    )
    neighbour_fraction: float = setting(
        0.5,
        "Share of a row's distances that `neighbours` keeps.",
        section="A",
        cost="none of its own",
        gt=0,
        le=1,
    )
    propagate_error: bool = setting(
        False,
        "No global target: a layer matches the distances of its own input, scaled by the error of "
        "the layer before.",
        section="B",
        cost="distances of every layer's input",
    )
    scaling: Scaling = setting(
        "own",
        "Divisors of the distances beside their maximum: inputs' and outputs' own dimensionality, "
        "the target's only, or none. `absolute`: the inputs' are divided by their maximum alone, "
        "the outputs' by their dimensionality alone.",
        section="3.1",
    )
    guided_distances: Literal["normalised", "original"] = setting(
        "normalised",
        "The distances of the inputs that L_gd adds values to: over their maximum, or as they are.",
        section="3.2",
    )
    target_maximum: Literal["batch", "running"] = setting(
        "batch",
        "Largest entry that a target is divided by: of this batch's, or of all so far.",
        section="3.1",
    )
    black_box: str | None = setting(
        None,
        "A function without a derivative between hidden layers; in Python also by its dotted name. "
        "Refused under bp.",
        section="5",
        cost="that of the function",
    )
    init_hidden_from: str | None = setting(
        None,
        "Start with the hidden layers of another run: its cell's folder, of which the newest "
        "checkpoint is taken, a checkpoint or a weights.npz; `{seed}` stands for the seed. Trained "
        "on by lpdm, kept by frozen. The path must be the same on every node; an experiment file's "
        "is relative to the folder where `tune` is called.",
        section="5",
    )
    pretrain_from: str | None = setting(
        None,
        "Train the hidden layers on recorded observations first: an .npz file with an array "
        "`observations`, or a Minari dataset's folder. A path as `init_hidden_from`.",
        section="5",
        cost="pretrain_epochs passes over them, once",
    )
    pretrain_epochs: int = setting(10, "Passes over the recorded observations.", section="5", ge=1)
    pretrain_batch_size: int = setting(
        128, "Rows of a minibatch of recorded observations.", section="5", ge=2
    )
    iterations: int | None = setting(
        None, "The paper's iterations to train for; None for no end.", ge=1
    )
    iterations_per_report: int = setting(
        25,
        "The paper's iterations in one train() call, whose rows are then written.",
        section="",
        cost="writing costs milliseconds",
        ge=1,
    )


class PPOSettings(Settings):
    """Settings of PPO, which has some of its own."""

    episodes_per_iteration: int = setting(
        4, "PPO: whole episodes collected for one iteration.", ge=1
    )
    steps_per_iteration: int = setting(
        0,
        "PPO: least number of steps of an iteration: `episodes_per_iteration` more episodes, best "
        "one for each runner, are collected until there are as many.",
        cost="epochs grow with it",
        ge=0,
    )
    num_epochs: int = setting(
        4, "PPO: passes over an iteration's steps.", cost="updates grow with it", ge=1
    )
    minibatch_size: int = setting(
        128, "PPO: rows of a minibatch.", cost="local losses of an epoch grow with it", ge=2
    )
    local_updates: Literal["every_minibatch", "once"] = setting(
        "every_minibatch",
        "PPO: when hidden layers make a local step: with every minibatch, or once an iteration, "
        "with the first.",
        section="",
        cost="once: less",
    )
    advantage: Literal["return", "td"] = setting(
        "return",
        "PPO: how good an action was: its normalised return less the critic's value, or `td`, the "
        "one-step temporal-difference error in the critic's units.",
        section="2.3",
    )
    clip_param: float = setting(0.2, "PPO: limit of the probability ratio.", gt=0)
    kl_coeff: float = setting(0.01, "PPO: weight of the KL penalty.", ge=0)
    vf_clip_param: float = setting(
        0.2, "PPO: limit of the value's change, in normalised returns.", gt=0
    )


_WHOLE_EPISODES = (
    "an iteration is whole episodes; PPO's episodes_per_iteration and steps_per_iteration say how "
    "many"
)
_NO_GAE = "advantages are normalised returns minus the learned value, without GAE"
_NO_ENTROPY = "the losses have no entropy term"
_NETWORK = "hidden_sizes, conv_layers and activation describe the network"
_MINIBATCHES = "minibatch_size says how many rows a minibatch has"
_NO_CONNECTORS = "episodes do not pass through connectors; wrap the environment instead"
_NO_QUEUE = "training collects, then updates, and keeps no requests waiting"

#: RLlib's names in ``training()`` that are no settings here, each with what stands for it.
RLLIB_NAMES: Final = {
    "train_batch_size": _WHOLE_EPISODES,
    "train_batch_size_per_learner": _WHOLE_EPISODES,
    "num_sgd_iter": "num_epochs says how many passes PPO makes",
    "sgd_minibatch_size": _MINIBATCHES,
    "shuffle_batch_per_epoch": "PPO shuffles every epoch",
    "shuffle_sequences": "PPO shuffles every epoch",
    "grad_clip_by": "grad_clip limits the norm: of each layer, or under bp of the whole network",
    "lr_schedule": "lr and hidden_lr stay as they are; Tune's PBT changes them between reports",
    "optimizer": "every layer has Adam, at the rates lr and hidden_lr",
    "model": _NETWORK,
    "vf_share_layers": "the policy and the value head always share the hidden layers",
    "use_critic": "PPO always has a value head, and REINFORCE with baseline=True",
    "use_gae": _NO_GAE,
    "lambda": _NO_GAE,
    "lambda_": _NO_GAE,
    "use_kl_loss": "kl_coeff weighs the KL penalty; 0 leaves it out",
    "kl_target": "kl_coeff weighs the KL penalty and does not adapt",
    "entropy_coeff": _NO_ENTROPY,
    "entropy_coeff_schedule": _NO_ENTROPY,
    "learner_connector": _NO_CONNECTORS,
    "add_default_connectors_to_learner_pipeline": _NO_CONNECTORS,
    "learner_config_dict": "a learner class of your own reads settings of its own",
    "num_aggregator_actors_per_learner": "every learner is given all episodes",
    "max_requests_in_flight_per_aggregator_actor": _NO_QUEUE,
    "max_requests_in_flight_per_learner": _NO_QUEUE,
    "max_requests_in_flight_per_sampler_worker": _NO_QUEUE,
}


def unknown_setting(name: str, known: Iterable[str]) -> str:
    """One sentence that refuses a setting: what stands for RLlib's name, or the nearest known."""
    if name in RLLIB_NAMES:
        return f"{name!r} is RLlib's and no setting here: {RLLIB_NAMES[name]}"
    return unknown_name(name, known)


def is_dotted_name(name: str) -> bool:
    """Whether a name can be that of a function in a module, such as ``package.module.function``."""
    return "." in name and all(part.isidentifier() for part in name.split("."))


def refuse_booleans(value: Any) -> Any:
    """The value, which must not be or contain true or false where numbers are asked for."""
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    for item in value if isinstance(value, (list, tuple)) else ():
        refuse_booleans(item)
    return value
