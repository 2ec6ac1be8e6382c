"""The algorithms as RLlib users meet them: checkpoints, evaluation, callbacks, stock parts."""

import inspect
import re

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.algorithms.ppo import PPOConfig as StockPPOConfig
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core.columns import Columns
from ray.rllib.env.multi_agent_env import MultiAgentEnv
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner
from ray.tune.registry import register_env

from rllib_lpdm import PPOConfig, ReinforceConfig
from rllib_lpdm.algorithms import Reinforce
from rllib_lpdm.algorithms.rollouts import EpisodeRunner
from rllib_lpdm.schema.settings import RLLIB_NAMES
from tests.algorithms.runs import config, learner_of, train, without_time

pytestmark = pytest.mark.usefixtures("ray_session")
BESIDE = {"evaluation_parallel_to_training": True}
AUTO = {"evaluation_duration": "auto", **BESIDE}


class Grid(gym.Env):
    """A 2 x 3 observation of integers, to be flattened, and actions that start at -1."""

    observation_space = gym.spaces.Box(0, 9, (2, 3), np.int64)
    action_space = gym.spaces.Discrete(3, start=-1)

    def __init__(self, config=None):
        self.actions = set()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 10
        return self.observation_space.sample() * 0 + self.left, {}

    def step(self, action):
        assert action in (-1, 0, 1)
        self.left -= 1
        return np.full((2, 3), self.left), float(action), self.left == 0, False, {}


class Torque(gym.Env):
    """Actions of shape (2, 2) whose bounds differ by entry."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float64)
    low = np.array([[-0.1, -1.0], [0.0, -np.inf]], np.float32)
    action_space = gym.spaces.Box(low, np.full((2, 2), 0.5, np.float32))

    def __init__(self, config=None):
        pass

    def reset(self, *, seed=None, options=None):
        self.left = 8
        return np.zeros(1), {}

    def step(self, action):
        assert action.shape == (2, 2)
        assert self.action_space.contains(action)
        self.left -= 1
        return np.full(1, self.left), 1.0, False, self.left == 0, {}


@pytest.mark.parametrize("environment", [Grid, Torque])
@pytest.mark.parametrize("algorithm", ["reinforce", "ppo"])
def test_observations_are_flattened_and_actions_take_the_environments_form(environment, algorithm):
    algo = config(algorithm, environment).build_algo()
    assert len(train(algo, 1)) == 3
    algo.stop()


def test_no_connector_is_built_as_episodes_pass_through_none(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a connector was built")

    monkeypatch.setattr(ConnectorV2, "__init__", refuse)
    config().build_algo().stop()


def test_a_registered_environment_and_its_config_are_used():
    register_env("registered-grid", lambda context: Grid(context))
    algo = config(environment="registered-grid").build_algo()
    assert train(algo, 1)[-1]["episode_length"] == 10
    algo.stop()


@pytest.mark.parametrize(
    ("observations", "actions", "message"),
    [
        (gym.spaces.Discrete(4), gym.spaces.Discrete(2), "unsupported observation space"),
        (gym.spaces.Dict({"x": gym.spaces.Box(0, 1)}), gym.spaces.Discrete(2), "FlattenObs"),
        (gym.spaces.Box(0, 1), gym.spaces.MultiDiscrete([2, 2]), "unsupported action space"),
        (gym.spaces.Box(0, 1), gym.spaces.Box(0, 5, (1,), np.int64), "unsupported action space"),
    ],
)
def test_other_spaces_are_refused_before_training(observations, actions, message):
    class Other(Grid):
        observation_space = observations
        action_space = actions

    with pytest.raises(ValueError, match=message):
        config(environment=Other).build_algo()


class Several(MultiAgentEnv):
    def __init__(self, config=None):
        super().__init__()
        self.agents = self.possible_agents = ["one", "two"]


class Parallel:
    """As PettingZoo's environments look, whose spaces are methods."""

    possible_agents = ("one", "two")

    def __init__(self, config=None):
        pass


class Running(gym.wrappers.NormalizeObservation):
    def __init__(self, config=None):
        super().__init__(gym.make("CartPole-v1"))


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (Several, "Several has several agents"),
        (Parallel, "Parallel has several agents"),
        (lambda config: gym.make_vec("CartPole-v1", 2), "name a single one"),
        (Running, "Running keeps running statistics"),
        (lambda config: gym.wrappers.TimeAwareObservation(Running()), "no checkpoint holds"),
        (lambda config: gym.wrappers.NormalizeReward(gym.make("CartPole-v1")), "NormalizeReward"),
    ],
)
def test_what_is_no_environment_of_one_agent_that_forgets_is_refused(environment, message):
    register_env("unsuitable", lambda context: environment(context))
    with pytest.raises(ValueError, match=message):
        config(environment="unsuitable").build_algo()


def test_statistics_that_stay_as_they_are_may_normalise_observations():
    def frozen(context):
        env = Running()
        env.update_running_mean = False
        return env

    register_env("frozen-statistics", frozen)
    algo = config(environment="frozen-statistics").build_algo()
    assert len(train(algo, 1)) == 3
    algo.stop()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.training(hiden_sizes=(4,)), "did you mean 'hidden_sizes'"),
        (lambda c: c.training(method="lpmd"), "did you mean 'lpdm'"),
        (lambda c: c.training(lr=-1.0), "lr"),
        (lambda c: c.training(gamma=True), "not true or false"),
        (lambda c: c.training(hidden_sizes=(4, 0)), "hidden_sizes.1"),
        (lambda c: c.training(bootstrap_truncated=True), "value head"),
        (lambda c: c.training(hidden_gain=1.0), "hidden_gain needs initialization: orthogonal"),
        (
            lambda c: c.training(initialization="xavier", head_gain=1.0),
            "head_gain needs initialization: orthogonal",
        ),
        (lambda c: c.training(advantage="td"), "unknown setting 'advantage'"),
        (lambda c: c.training(return_window=9), "needs return_normalization: running"),
        (lambda c: c.debugging(seed=-1), "seed"),
        (lambda c: c.env_runners(num_envs_per_env_runner=4), "env runners instead"),
        (lambda c: c.env_runners(explore=False), "greedy by itself"),
        (lambda c: c.rl_module(model_config={"fcnet_hiddens": [4]}), "hidden_sizes"),
        (lambda c: c.environment(normalize_actions=True), "wrap the environment"),
        (lambda c: c.env_runners(create_local_env_runner=False), "local runner"),
        (lambda c: c.reporting(min_time_s_per_iteration=1), "iterations_per_report"),
        (lambda c: c.reporting(min_sample_timesteps_per_iteration=9), "iterations_per_report"),
        (lambda c: c.resources(num_gpus=1), "num_gpus_per_learner"),
        (lambda c: c.env_runners(rollout_fragment_length=50), "whole episodes"),
        (lambda c: c.offline_data(input_="recorded"), "episodes are played"),
        (lambda c: c.environment(env=None), r"environment\('CartPole-v1'\)"),
        (lambda c: c.evaluation(**BESIDE), "evaluation_num_env_runners"),
        (lambda c: c.evaluation(evaluation_duration="auto"), "evaluation_parallel_to_training"),
        (lambda c: c.evaluation(evaluation_duration=0), "evaluation_duration"),
        (lambda c: c.evaluation(evaluation_interval=0.5), "whole number"),
        (lambda c: c.evaluation(evaluation_num_env_runners=0.5), "whole number"),
        (lambda c: c.evaluation(evaluation_duration_unit="hours"), "'episodes' or 'timesteps'"),
        (
            lambda c: c.evaluation(**AUTO, evaluation_num_env_runners=1),
            "set evaluation_interval=1",
        ),
        (lambda c: c.evaluation(offline_evaluation_interval=1), "none recorded"),
        (lambda c: c.evaluation(num_offline_eval_runners=1), "none recorded"),
    ],
)
def test_a_setting_that_cannot_be_met_is_refused_with_the_way_out(change, message):
    with pytest.raises(ValueError, match=message) as error:
        change(config()).build_algo()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("stock", [AlgorithmConfig, StockPPOConfig])
def test_every_name_of_rllibs_training_is_a_setting_or_is_answered(stock):
    known = {"learner_class", *PPOConfig.settings_class.model_fields}
    names = inspect.signature(stock.training).parameters.keys() - {"self", "kwargs", *known}
    for name in names:
        with pytest.raises(ValueError, match=rf"^training\(\): '{name}' is RLlib's") as error:
            PPOConfig().training(**{name: object()})
        assert "did you mean" not in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["num_sgd_iter", "sgd_minibatch_size", "lambda"])
def test_an_old_name_of_rllibs_is_answered_as_well(name):
    with pytest.raises(ValueError, match="is RLlib's and no setting here"):
        PPOConfig().training(**{name: 1})


@pytest.mark.parametrize("name", RLLIB_NAMES)
def test_a_name_of_rllibs_that_a_dict_sets_is_answered_as_well(name):
    with pytest.raises(ValueError, match=r"^training\(\): '.*' is RLlib's and no setting") as error:
        config("ppo").update_from_dict({name: 7}).validate()
    assert name in str(error.value)


def test_what_stands_for_rllibs_names_exists():
    said = " ".join(RLLIB_NAMES.values())
    named = set(re.findall(r"[a-z]+(?:_[a-z]+)+", said))
    assert "steps_per_iteration" in named
    assert named <= PPOConfig.settings_class.model_fields.keys()
    assert not RLLIB_NAMES.keys() & PPOConfig.settings_class.model_fields.keys()


def test_reinforce_refuses_settings_of_ppo_only():
    with pytest.raises(ValueError, match="unknown setting 'clip_param'"):
        ReinforceConfig().training(clip_param=0.1)


@pytest.mark.parametrize("environment", ["CartPole-v1", "Acrobot-v1", "Pusher-v4", "Ant-v4"])
def test_the_numpy_policy_equals_the_torch_module_to_1e_6(environment):
    algo = config("ppo", environment, hidden_sizes=(64, 128, 256)).build_algo()
    module = algo.get_module()
    policy = module.numpy_policy()
    for seed in range(5):
        episode = algo.env_runner.rollout(policy, iteration=0, indices=[seed])[seed]
        observations = torch.from_numpy(episode.observations)
        outputs = module.policy_head(module.features(observations)).detach().numpy()
        acted = np.array([policy(observation) for observation in episode.observations])
        np.testing.assert_allclose(acted, outputs, rtol=0, atol=1e-6)
    algo.stop()


def test_rollouts_act_with_the_weights_of_the_last_update():
    algo = config().build_algo()
    train(algo, 1)
    learner_module = learner_of(algo).actor_critic
    observation = np.ones(4, np.float32)
    expected = learner_module.policy_head(learner_module.features(torch.ones(1, 4)))[0]
    acted = learner_module.numpy_policy()(observation)
    np.testing.assert_allclose(acted, expected.detach().numpy(), atol=1e-6)
    np.testing.assert_array_equal(acted, algo.get_module().numpy_policy()(observation))
    algo.stop()


@pytest.mark.parametrize("environment", ["CartPole-v1", "Pendulum-v1"])
def test_the_stock_env_runner_evaluates_a_trained_module(environment):
    algo = config("ppo", environment).build_algo()
    train(algo, 1)
    stock = SingleAgentEnvRunner(config=algo.config.copy(copy_frozen=False), worker_index=0)
    stock.set_state({"rl_module": algo.get_module().get_state()})
    ours = algo.get_module()
    observation = torch.randn(3, *stock.env.single_observation_space.shape)
    batch = {Columns.OBS: observation}
    torch.testing.assert_close(
        stock.module.forward_inference(batch)[Columns.ACTION_DIST_INPUTS],
        ours.forward_inference(batch)[Columns.ACTION_DIST_INPUTS],
    )
    episodes = stock.sample(num_episodes=2, explore=False)
    assert len(episodes) == 2
    assert all(episode.is_done and np.isfinite(episode.get_return()) for episode in episodes)
    stock.stop()
    algo.stop()


@pytest.mark.parametrize("explore", [None, False, True])
@pytest.mark.parametrize("interval", [None, 1000])
def test_evaluation_is_greedy_unless_its_config_says_otherwise(interval, explore):
    made = config().evaluation(evaluation_duration=2)
    if interval is not None:
        made.evaluation(evaluation_interval=interval)
    if explore is not None:
        made.evaluation(evaluation_config={"explore": explore})
    algo = made.build_algo()
    runner = algo.eval_env_runner if interval else algo.env_runner
    episodes = []
    sample = runner.sample
    runner.sample = lambda **kwargs: episodes.extend(sample(**kwargs)) or episodes
    algo.evaluate()
    policy = algo.get_module().numpy_policy()
    greedy = [
        policy(observation).argmax() == action
        for episode in episodes
        for observation, action in zip(episode.observations, episode.actions, strict=False)
    ]
    assert len(episodes) == 2
    assert all(greedy) != bool(explore)
    algo.stop()


@pytest.mark.slow
@pytest.mark.parametrize(("runners", "duration"), [(0, 3), (2, 3)])
def test_evaluation_plays_as_many_episodes_as_asked_from_the_same_starts(runners, duration):
    made = config().evaluation(evaluation_interval=1000, evaluation_num_env_runners=runners)
    algo = made.evaluation(evaluation_duration=duration).build_algo()
    train(algo, 1)
    results = [algo.evaluate()["env_runners"] for _ in range(2)]
    assert results[0]["num_episodes"] == duration
    assert results[0]["episode_return_mean"] == results[1]["episode_return_mean"]
    algo.stop()


def _evaluate_by_hand(algorithm, group):
    """As RLlib's documentation writes one."""
    results = group.foreach_env_runner(
        lambda runner: (runner.sample(num_episodes=2), runner.get_metrics())[1],
        local_env_runner=group.num_remote_env_runners() == 0,
    )
    algorithm.metrics.aggregate(results, key=("evaluation", "env_runners"))
    return algorithm.metrics.peek(("evaluation", "env_runners")), 2, 2


BY_STEPS = {"evaluation_duration": 30, "evaluation_duration_unit": "timesteps"}


@pytest.mark.parametrize(
    ("settings", "episodes"),
    [
        ({"evaluation_duration": 3}, 3),
        (BY_STEPS, None),
        ({"custom_evaluation_function": _evaluate_by_hand}, 2),
        pytest.param(
            {**BY_STEPS, **BESIDE, "evaluation_num_env_runners": 1}, None, marks=pytest.mark.slow
        ),
    ],
    ids=["episodes", "timesteps", "by hand", "timesteps beside the training"],
)
def test_evaluation_between_or_beside_trainings_does_not_change_them(settings, episodes):
    plain = config().build_algo()
    expected = train(plain, 3)
    plain.stop()
    algo = config().evaluation(evaluation_interval=2, **settings).build_algo()
    rows = []
    for report in range(3):
        result = algo.train()
        rows += map(without_time, algo.iteration_rows)
        if report == 1:
            found = result["evaluation"]["env_runners"]
    assert rows == expected
    assert found["num_episodes"] == episodes or (
        episodes is None and 30 <= found["num_env_steps_sampled"] < 60
    )
    algo.stop()


@pytest.mark.slow
@pytest.mark.parametrize("override", [{"hidden_sizes": (4, 4)}, {"method": "bp"}, {"gamma": 0.5}])
def test_an_evaluation_of_another_policy_is_refused_in_one_line(override):
    config = ReinforceConfig().environment("CartPole-v1").training(hidden_sizes=(8,))
    config.evaluation(evaluation_interval=1, evaluation_config=override)
    with pytest.raises(ValueError, match=f"evaluation_config=.'{next(iter(override))}'") as error:
        config.build_algo()
    assert "\n" not in str(error.value)


def test_evaluation_lasts_as_long_as_the_training_beside_it():
    made = config(iterations_per_report=100).evaluation(**AUTO, evaluation_interval=1)
    algo = made.evaluation(evaluation_num_env_runners=1).build_algo()
    seen = 0
    for _ in range(20):  # a short training may end before a result has come
        seen += "env_runners" in algo.train()["evaluation"]
        if seen == 2:
            break
    assert seen == 2
    with pytest.raises(ValueError, match="give a number of episodes or timesteps"):
        algo.evaluate()
    algo.stop()


def test_an_evaluation_that_goes_on_plays_other_starts():
    runner = EpisodeRunner(config=config())
    first, second, again = (
        runner.sample(num_episodes=2, force_reset=forced) for forced in (True, False, True)
    )
    starts = [episode.observations[0].tolist() for episode in first + second]
    assert len(np.unique(starts, axis=0)) == 4
    assert [episode.observations[0].tolist() for episode in again] == starts[:2]
    runner.stop()


def test_a_config_is_rebuilt_from_its_dict_as_tune_does():
    algo = Reinforce(config=config(lr=2e-3, method="bp").to_dict())
    assert (algo.config.lr, algo.config.method) == (2e-3, "bp")
    train(algo, 1)
    algo.stop()


def test_the_learner_can_be_driven_by_rllibs_update():
    algo = config("ppo").build_algo()
    episodes = list(algo.env_runner.rollout(algo.get_module().numpy_policy(), 0, [0, 1]).values())
    (result,) = algo.learner_group.update(episodes=episodes)
    assert np.isfinite(result["default_policy"]["policy_loss"].peek())
    algo.stop()


def test_a_train_result_has_rllibs_usual_entries():
    algo = config("ppo").build_algo()
    result = algo.train()
    rows = algo.iteration_rows
    assert result["training_iteration"] == 1
    assert result["iterations_done"] == 3
    assert result["env_runners"]["num_episodes"] == 12
    assert result["num_env_steps_sampled_lifetime"] == rows[-1]["env_steps"]
    mean = np.mean([row["episode_return"] for row in rows])
    assert result["env_runners"]["episode_return_mean"] == pytest.approx(mean)
    assert "distance_loss_1" in result["learners"]["default_policy"]
    algo.stop()


class Recorder(RLlibCallback):
    """Counts calls, and logs a metric of its own at the end of an episode."""

    def __init__(self):
        self.calls = {}

    def _count(self, name):
        self.calls[name] = self.calls.get(name, 0) + 1

    def on_environment_created(self, **kwargs):
        self._count("environment")

    def on_episode_start(self, *, episode, **kwargs):
        assert len(episode) == 0
        self._count("start")

    def on_episode_step(self, *, episode, **kwargs):
        self._count("step")

    def on_episode_end(self, *, episode, metrics_logger, **kwargs):
        assert episode.is_done
        self._count("end")
        metrics_logger.log_value("double_return", 2 * episode.get_return(), reduce="mean")

    def on_train_result(self, *, algorithm, result, **kwargs):
        result["seen"] = algorithm.iterations_done


class InPlace(Grid):
    """Hands out the same array, list and dict at every step, and changes them."""

    observation_space = gym.spaces.Box(0, 9, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 5
        self.seen = np.full(2, self.left, np.float32)
        self.info = {"left": self.left, "nested": {"arrays": [self.seen]}}
        return self.seen, self.info

    def step(self, action):
        *_, terminated, truncated, _ = super().step(action)
        self.seen[:] = self.info["left"] = self.left
        return self.seen, 0.0, terminated, truncated, self.info


class Keeper(RLlibCallback):
    """Keeps what RLlib's users read of an episode and its environment."""

    def __init__(self):
        self.kept, self.ends, self.environments = [], [], []

    def on_environment_created(self, *, env, **kwargs):
        self.environments.append(env)

    def on_episode_step(self, *, episode, env, env_index, **kwargs):
        self.environments.append(env)
        self.kept.append((episode.get_observations(-1), episode.get_infos(-1)))
        assert env.envs[env_index].unwrapped.left == episode.get_observations(-1)[0]

    def on_episode_end(self, *, episode, **kwargs):
        observations = [observation[0] for observation in episode.get_observations()]
        self.ends.append((observations, episode.get_infos()))


def test_callbacks_keep_what_they_saw_of_an_environment_that_changes_its_arrays_in_place():
    runner = EpisodeRunner(config=config(environment=InPlace).callbacks(Keeper))
    (callback,) = runner._callbacks
    (episode,) = runner.sample(num_episodes=1)
    assert episode.observations[:, 0].tolist() == [5, 4, 3, 2, 1, 0]
    ((observations, infos),) = callback.ends
    assert observations == [5, 4, 3, 2, 1, 0]
    for infos_of in (infos[1:], [info for _, info in callback.kept]):
        assert [info["left"] for info in infos_of] == [4, 3, 2, 1, 0]
        assert [info["nested"]["arrays"][0][0] for info in infos_of] == [4, 3, 2, 1, 0]
    assert [observation[0] for observation, _ in callback.kept] == [4, 3, 2, 1, 0]
    runner.stop()


def test_callbacks_get_the_vector_environment_that_rllib_gives_them():
    runner = EpisodeRunner(config=config(environment=InPlace).callbacks(Keeper))
    (callback,) = runner._callbacks
    runner.sample(num_episodes=1)
    stock_config = config(environment=InPlace).callbacks(Keeper)
    stock = SingleAgentEnvRunner(config=stock_config, worker_index=0)
    for env in callback.environments:
        assert env.num_envs == stock.env.num_envs == 1
        assert env.envs == [runner.env]
        assert env.unwrapped.envs == env.envs
        assert env.single_observation_space == stock.env.single_observation_space
        assert env.single_action_space == stock.env.single_action_space
        assert env.observation_space == stock.env.observation_space
        assert env.get_attr("left") == (0,)
        theirs = {name for name in dir(stock.env.unwrapped) if not name.startswith("_")}
        assert theirs <= set(dir(env))
    stock.stop()
    runner.stop()


def test_without_callbacks_no_vector_environment_is_made(monkeypatch):
    monkeypatch.setattr(gym.vector, "SyncVectorEnv", None)
    runner = EpisodeRunner(config=config())
    runner.sample(num_episodes=1)
    runner.stop()


def test_callbacks_are_called_and_do_not_change_the_run():
    plain = config("ppo").build_algo()
    expected = train(plain, 1)
    plain.stop()
    algo = config("ppo").callbacks(Recorder).build_algo()
    result = algo.train()
    rows = [without_time(row) for row in algo.iteration_rows]
    assert rows == expected
    mean = np.mean([row["episode_return"] for row in rows])
    assert result["env_runners"]["double_return"] == pytest.approx(2 * mean)
    assert result["seen"] == 3
    assert algo.env_runner._callbacks[0].calls == {
        "environment": 1,
        "start": 12,
        "end": 12,
        "step": rows[-1]["env_steps"],
    }
    algo.stop()


def test_a_truncated_episode_is_told_apart_and_bootstrapped_only_then():
    settings = {"bootstrap_truncated": True, "return_normalization": "running"}
    algo = config("ppo", Torque, **settings).build_algo()
    learner = learner_of(algo)
    policy = learner.actor_critic.numpy_policy()
    truncated = algo.env_runner.rollout(policy, 0, [0])[0]
    assert not truncated.terminated
    learner.return_statistics.update(np.array([1.0, 5.0]))
    features = learner.actor_critic.features(torch.from_numpy(truncated.observations[-1:]))
    value = 3.0 + 2.0 * learner.actor_critic.values(features).item()
    gamma = algo.config.gamma
    expected = [sum(gamma**k for k in range(8 - t)) + gamma ** (8 - t) * value for t in range(8)]
    seen = []
    learner.return_statistics.update = seen.append
    learner.batch([truncated])
    np.testing.assert_allclose(seen[0], expected, rtol=1e-6)
    algo.stop()


def test_ppo_config_takes_the_settings_of_both():
    made = PPOConfig().training(method="bp", clip_param=0.1, hidden_sizes=[8], lr=1e-4)
    assert made.settings().clip_param == 0.1
    assert made.settings().hidden_sizes == (8,)
