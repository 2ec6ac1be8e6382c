"""How experiment files combine, and the cells they expand into."""

import itertools
import json

import pytest

from rllib_lpdm.schema.loading import load_experiment
from rllib_lpdm.schema.messages import UserError
from tests.experiment.files import write

LAYERS = (
    "the base's settings",
    "the base's overrides",
    "the file's settings",
    "the file's overrides",
    "a variant",
    "--set",
)
PRODUCT = {
    "environments": ["CartPole-v1", "Acrobot-v1"],
    "algorithms": ["reinforce", "ppo"],
    "methods": ["bp", "lpdm"],
}


def gammas(path):
    """The discount of every cell, by (environment, algorithm, method)."""
    cells = load_experiment(path).cells()
    return {(c.environment, c.algorithm, c.method): c.settings.gamma for c in cells}


@pytest.mark.parametrize(("earlier", "later"), itertools.combinations(LAYERS, 2))
def test_the_later_of_two_layers_wins(tmp_path, earlier, later):
    values = {earlier: 0.25, later: 0.75}

    def entry(layer):
        return {"gamma": values[layer]} if layer in values else {}

    def overrides(layer):
        return [{"when": {}, "set": entry(layer)}]

    write(tmp_path, "base.yaml", settings=entry(LAYERS[0]), overrides=overrides(LAYERS[1]))
    path = write(
        tmp_path,
        extends="base.yaml",
        settings={"iterations": 1} | entry(LAYERS[2]),
        overrides=overrides(LAYERS[3]),
        variants={"v": entry(LAYERS[4])},
    )
    changes = [f"settings.gamma={values['--set']}"] if "--set" in values else []
    (cell,) = load_experiment(path, changes).cells()
    assert cell.settings.gamma == 0.75


def test_a_layer_leaves_alone_what_it_does_not_set(tmp_path):
    write(tmp_path, "base.yaml", settings={"gamma": 0.5, "lr": 0.5}, seeds=3)
    path = write(tmp_path, extends="base.yaml", settings={"iterations": 1, "lr": 0.25})
    cell = load_experiment(path).cells()[-1]
    assert (cell.settings.gamma, cell.settings.lr, cell.seed) == (0.5, 0.25, 2)


def test_a_file_may_extend_a_file_that_extends_another_in_another_folder(tmp_path):
    (tmp_path / "shared").mkdir()
    write(tmp_path / "shared", "far.yaml", settings={"gamma": 0.1, "lr": 0.1, "action_std": 0.1})
    write(tmp_path / "shared", "near.yaml", extends="far.yaml", settings={"gamma": 0.2, "lr": 0.2})
    settings = {"iterations": 1, "gamma": 0.3}
    path = write(tmp_path, extends="shared/near.yaml", settings=settings)
    (cell,) = load_experiment(path).cells()
    assert (cell.settings.gamma, cell.settings.lr, cell.settings.action_std) == (0.3, 0.2, 0.1)


def test_the_results_folder_is_named_by_the_file_and_never_by_what_it_extends(tmp_path):
    write(tmp_path, "base.yaml", name="elsewhere")
    assert load_experiment(write(tmp_path, "mine.yaml", extends="base.yaml")).name == "mine"
    assert load_experiment(write(tmp_path, "mine.yaml", name="given")).name == "given"


def test_a_name_that_is_good_for_a_file_is_good_for_its_entry(tmp_path):
    assert load_experiment(write(tmp_path, "appendix_a.yaml")).name == "appendix_a"
    assert load_experiment(write(tmp_path, name="appendix_a")).name == "appendix_a"


@pytest.mark.parametrize(
    ("when", "matched"),
    [
        ({}, 8),
        ({"environment": "Acrobot-v1"}, 4),
        ({"environment": ["Acrobot-v1", "CartPole-v1"]}, 8),
        ({"algorithm": "ppo"}, 4),
        ({"algorithm": ["ppo"], "method": "bp"}, 2),
        ({"method": ["bp", "frozen"]}, 4),
        ({"environment": "Acrobot-v1", "algorithm": "ppo", "method": ["bp"]}, 1),
        ({"method": "frozen"}, 0),
    ],
)
def test_an_override_reaches_exactly_the_cells_that_match_all_it_names(tmp_path, when, matched):
    path = write(tmp_path, **PRODUCT, overrides=[{"when": when, "set": {"gamma": 0.5}}])
    for place, gamma in gammas(path).items():
        wanted = (when.get(key, place) for key in ("environment", "algorithm", "method"))
        matches = all(a == w or a in w for a, w in zip(place, wanted, strict=True))
        assert gamma == (0.5 if matches else 0.99), place
    assert list(gammas(path).values()).count(0.5) == matched


def test_of_two_overrides_that_match_the_later_wins(tmp_path):
    first = {"when": {"algorithm": "ppo"}, "set": {"gamma": 0.1}}
    second = {"when": {"method": "bp"}, "set": {"gamma": 0.2}}
    in_order = gammas(write(tmp_path, **PRODUCT, overrides=[first, second]))
    reversed_ = gammas(write(tmp_path, **PRODUCT, overrides=[second, first]))
    assert in_order["CartPole-v1", "ppo", "bp"] == 0.2
    assert reversed_["CartPole-v1", "ppo", "bp"] == 0.1


@pytest.mark.parametrize(
    ("written", "seeds"), [(3, (0, 1, 2)), ([7, 2], (7, 2)), ([0], (0,)), (None, (0,))]
)
def test_seeds_are_a_count_from_zero_or_a_list(tmp_path, written, seeds):
    assert load_experiment(write(tmp_path, seeds=written)).seeds == seeds


def test_cells_are_the_whole_product_with_the_seeds_slowest(tmp_path):
    path = write(tmp_path, **PRODUCT, seeds=[5, 3], variants={"a": {}, "b": {"gamma": 0.9}})
    cells = load_experiment(path).cells()
    assert [(c.seed, c.environment, c.algorithm, c.method, c.variant) for c in cells] == list(
        itertools.product([5, 3], *PRODUCT.values(), ["a", "b"])
    )


def test_variants_of_both_files_are_crossed_and_one_name_is_one_variant(tmp_path):
    write(tmp_path, "base.yaml", variants={"low": {"gamma": 0.1}, "high": {"gamma": 0.8}})
    path = write(tmp_path, extends="base.yaml", variants={"high": {"gamma": 0.9}, "none": {}})
    cells = load_experiment(path).cells()
    assert {c.variant: c.settings.gamma for c in cells} == {"low": 0.1, "high": 0.9, "none": 0.99}


def test_cell_names_are_short_unique_and_safe_and_put_the_variant_before_the_seed(tmp_path):
    entries = PRODUCT | {"environments": ["CartPole-v1", "phys2d/CartPole-v1"]}
    cells = load_experiment(write(tmp_path, **entries, variants={"slow": {}}, seeds=2)).cells()
    names = [cell.name for cell in cells]
    assert names[0] == "CartPole-v1_reinforce_bp_slow_s0"
    assert "phys2d-CartPole-v1_ppo_lpdm_slow_s1" in names
    assert len(set(names)) == len(names) == 16
    assert all(len(name) <= 64 and "/" not in name for name in names)


def test_set_replaces_the_lists_that_the_file_and_its_base_give(tmp_path):
    write(tmp_path, "base.yaml", seeds=4)
    path = write(tmp_path, extends="base.yaml", **PRODUCT)
    changes = ["seeds=[8]", "environments=[Pendulum-v1]", "algorithms=[reinforce]", "name=other"]
    experiment = load_experiment(path, [*changes, "in_process=true"])
    assert [cell.name for cell in experiment.cells()] == [
        "Pendulum-v1_reinforce_bp_s8",
        "Pendulum-v1_reinforce_lpdm_s8",
    ]
    assert (experiment.name, experiment.in_process) == ("other", True)


def test_an_environment_may_be_described_and_is_known_by_its_name(tmp_path):
    described = {
        "id": "CartPole-v1",
        "name": "short",
        "kwargs": {"sutton_barto_reward": True},
        "max_episode_steps": 7,
        "wrappers": ["FlattenObservation", {"name": "ClipReward", "kwargs": {"max_reward": 1}}],
    }
    overrides = [{"when": {"environment": "short"}, "set": {"gamma": 0.5}}]
    path = write(tmp_path, environments=["CartPole-v1", described], overrides=overrides)
    plain, short = load_experiment(path).cells()
    assert (plain.name, plain.environment_spec, plain.settings.gamma) == (
        *("CartPole-v1_ppo_lpdm_s0", None, 0.99),
    )
    assert (short.name, short.environment, short.settings.gamma) == (
        *("short_ppo_lpdm_s0", "short", 0.5),
    )
    env = short.maker()
    env.reset(seed=0)
    steps = 1
    while not any(env.step(steps % 2)[2:4]):
        steps += 1
    assert steps == short.maker.spec.time_limit == 7
    assert [type(e).__name__ for e in (env, env.env)] == ["ClipReward", "FlattenObservation"]
    assert env.unwrapped._sutton_barto_reward
    assert not plain.maker.env_config
    (only,) = load_experiment(path, [f"environments=[{json.dumps(described)}]"]).cells()
    assert only == short


def test_set_takes_yaml_and_the_last_of_two_wins(tmp_path):
    changes = ["settings.hidden_sizes=[8, 4]", "settings.grad_clip=null", "settings.lr=1.0e-2"]
    (cell,) = load_experiment(write(tmp_path), [*changes, "settings.lr=0.5"]).cells()
    assert cell.settings.hidden_sizes == (8, 4)
    assert cell.settings.grad_clip is None
    assert cell.settings.lr == 0.5


@pytest.mark.parametrize(
    ("change", "fragments"),
    [
        ("seeds", ["PATH=VALUE"]),
        ("seed=5", ["did you mean 'seeds'"]),
        ("lr=0.1", ["settings.lr="]),
        ("environments=Hopper-v4", ["environments: ", "write [Hopper-v4]"]),
        ("settings.lrr=1", ["did you mean 'lr'"]),
        ("settings.lr=-1", ["greater than 0", "settings.lr: "]),
        ("settings.lr=.nan", ["finite"]),
        ("settings.lr=[", ["not valid YAML"]),
        ("settings.lr=" + "[" * 5000, ["not valid YAML"]),
        ("settings.lr=!!python/name:os.system", ["not valid YAML"]),
        ("settings={lr: 1}", ["settings.lr"]),
        ("environments=[Hoper-v4]", ["did you mean 'Hopper-v4'"]),
        ("methods=[lpmd]", ["methods[0]", "'lpdm'"]),
        ("name=../x", ["name", "'../x'"]),
        ("seeds=0", ["seeds"]),
        ("seeds=", ["seeds"]),
        ("=1", ["choose from"]),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_a_wrong_change_is_one_error_that_says_what_is_possible(tmp_path, change, fragments):
    with pytest.raises(UserError) as error:
        load_experiment(write(tmp_path), [change])
    assert not [fragment for fragment in fragments if fragment not in str(error.value)], error.value
