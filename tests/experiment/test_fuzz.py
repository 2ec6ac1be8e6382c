"""Whatever stands in an experiment file, reading it ends soon, in a grid or in one clear line."""

import copy
import datetime
import json
import re
import unicodedata

import gymnasium as gym
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rllib_lpdm.schema.cell_settings import CellSettings
from rllib_lpdm.schema.experiment import ExperimentFile
from rllib_lpdm.schema.loading import load_experiment
from rllib_lpdm.schema.messages import UserError

SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
GOOD = """\
environments: [CartPole-v1, Acrobot-v1]
algorithms: [ppo, reinforce]
methods: [lpdm, bp]
settings: {iterations: 2, lr: 1.0e-3}
"""


def fuzzed(examples):
    """Settings of a fuzz test: the same examples in every run, and no time limit for one."""
    return settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def outcome(path, changes=()):
    """Reads a file, and checks what comes of it: cells, or a line for each fault."""
    try:
        experiment = load_experiment(path, changes)
        cells = experiment.cells()
    except UserError as error:
        lines = str(error).split("\n")
        assert lines == list(dict.fromkeys(lines))
        assert len(lines) <= 11
        for line in lines:
            assert line.startswith((str(path.parent), "--set", "and "))
            assert len(line) < 1000
            assert not [character for character in line if unicodedata.category(character) == "Cc"]
        return str(error)
    assert cells
    assert SAFE.fullmatch(experiment.name)
    assert all(SAFE.fullmatch(cell.name) for cell in cells)
    assert len({cell.name for cell in cells}) == len(cells)
    for cell in cells[:100]:
        for part in filter(None, (cell.settings, cell.environment_spec)):
            json.dumps(part.model_dump(mode="json"), allow_nan=False)
    return cells


# -- what may stand in a file ---------------------------------------------------------------------

TEXTS = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    ["", "../x", "/abs", "..", "module:CartPole-v1", "CartPole-v1", "ppo", "bp", "1e999", "a" * 300]
)
NUMBERS = (
    st.integers()
    | st.floats()
    | st.sampled_from([0, -1, 1, 2**31, 2**64, 10**400, -(10**4000), 0.5, 1e308])
)
SCALARS = (
    st.none()
    | st.booleans()
    | NUMBERS
    | TEXTS
    | st.binary(max_size=8)
    | st.dates()
    | st.datetimes(timezones=st.sampled_from([None, datetime.UTC]))
)
KEYS = (
    st.sampled_from(
        [*ExperimentFile.model_fields, *CellSettings.model_fields, "when", "set", "id", "kwargs"]
    )
    | TEXTS
    | NUMBERS
    | st.none()
    | st.dates()
)
TREES = st.recursive(
    SCALARS,
    lambda children: (
        st.lists(children, max_size=4)
        | st.dictionaries(KEYS, children, max_size=4)
        | st.sets(st.integers() | TEXTS, max_size=3)
    ),
    max_leaves=12,
)
SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "lr": st.floats(1e-6, 1),
        "hidden_sizes": st.lists(st.integers(1, 9), max_size=3),
        "gamma": st.floats(0, 1),
        "max_rows": st.none() | st.integers(2, 9),
        "tensorboard": st.booleans(),
        "retries": st.integers(0, 3),
    },
)
CONDITIONS = st.fixed_dictionaries(
    {}, optional={"environment": st.just("CartPole-v1"), "method": st.lists(st.just("bp"))}
)
IDS = st.lists(st.sampled_from(sorted(gym.registry)), min_size=1, max_size=3, unique=True)
DESCRIBED = st.fixed_dictionaries(
    {"id": st.sampled_from(sorted(gym.registry)), "name": st.from_regex(r"\A[a-z0-9.-]{1,5}\Z")},
    optional={
        "kwargs": st.dictionaries(st.just("size"), st.integers(0, 9)),
        "max_episode_steps": st.integers(1, 999),
        "wrappers": st.lists(
            st.sampled_from(
                ["ClipReward", {"name": "MaxAndSkipObservation", "kwargs": {"skip": 2}}]
            )
        ),
    },
)
FILES = st.fixed_dictionaries(
    {
        "environments": IDS | st.lists(DESCRIBED, min_size=1, max_size=1),
        "algorithms": st.sampled_from([["ppo"], ["reinforce", "reinforce_baseline"]]),
        "methods": st.sampled_from([["bp"], ["lpdm", "lpdm_guided", "frozen"]]),
        "settings": SETTINGS.map(lambda some: {"iterations": 3, **some}),
    },
    optional={
        "seeds": st.integers(1, 3) | st.lists(st.integers(0, 99), min_size=1, unique=True),
        "overrides": st.lists(
            st.fixed_dictionaries({"when": CONDITIONS, "set": SETTINGS}), max_size=2
        ),
        "variants": st.dictionaries(
            st.from_regex(r"\A[a-z0-9.-]{1,5}\Z"), SETTINGS | TREES, max_size=2
        ),
        "name": st.just("grid"),
    },
)


def places(tree, path=()):
    """The paths to all parts of a tree."""
    parts = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, part in parts:
        yield (*path, key)
        if isinstance(part, (dict, list)):
            yield from places(part, (*path, key))


@st.composite
def damaged_files(draw):
    """A good file of which up to two parts are replaced, renamed or lost."""
    content = copy.deepcopy(draw(FILES))
    for _ in range(draw(st.integers(0, 2))):
        *way, last = draw(st.sampled_from(list(places(content)) or [("name",)]))
        parent = content
        for key in way:
            parent = parent[key]
        if isinstance(parent, dict) and draw(st.booleans()):
            value = parent.pop(last, None)
            if draw(st.booleans()):
                parent[draw(KEYS)] = value
        else:
            parent[last] = draw(TREES)
    return content


class Dumper(yaml.SafeDumper):
    """Writes out what stands in a tree twice."""

    def ignore_aliases(self, data):
        return True


def written(path, content):
    """The tree as YAML, tags and all."""
    path.write_text(yaml.dump(content, Dumper=Dumper, allow_unicode=True), "utf-8")
    return path


TOKENS = (
    *"\t:[]{}#'\"!%@`|>?-~,&*\u2028\x85é\ufeff\U0001f600",
    *("\n", "\r\n", "  ", "\n- ", "? ", "--- ", "...", "<<: ", "&a ", "*a", "&a [*a]", "<<: *a"),
    *("!!int ", "!!set ", "!!omap ", "!!pairs ", "!!binary ", "!!timestamp ", "!!null ", "!x "),
    *("!!python/object:os.system ", "!!python/object/apply:os.getcwd []", "!!python/name:os.sep"),
    *('"\\ud800"', '"\\0"', '"\\e[31m"', '"\\n"', "2020-13-45", "1:1:1", "0x" + "f" * 5000),
    *(".nan", "-.inf", "1e999", "null", "yes", "=", "environments", "ppo", "extends: base.yaml"),
)


# -- claims ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@fuzzed(100)
@given(data=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8")))
def test_any_bytes_are_refused_in_one_line(folder, data):
    path = folder / "file.yaml"
    path.write_bytes(data)
    assert isinstance(outcome(path), str)


@fuzzed(100)
@given(tree=TREES | st.dictionaries(KEYS, TREES, max_size=6))
def test_any_tree_is_a_grid_or_one_line(folder, tree):
    outcome(written(folder / "file.yaml", tree))


@fuzzed(180)
@given(content=damaged_files())
def test_a_good_file_with_wrong_parts_is_a_grid_or_one_line(folder, content):
    outcome(written(folder / "file.yaml", content))


@fuzzed(60)
@given(content=FILES)
def test_a_good_file_is_a_grid(folder, content):
    content["variants"] = {"only": {}}
    assert not isinstance(outcome(written(folder / "file.yaml", content)), str)


@fuzzed(100)
@given(data=st.data())
def test_a_file_with_yaml_of_any_kind_spliced_in_is_a_grid_or_one_line(folder, data):
    text = GOOD + "seeds: 2\nvariants: {a: &a {lr: 0.1}, b: {gamma: 0.5}}\n"
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = start + data.draw(st.integers(0, 12))
        text = text[:start] + data.draw(st.sampled_from(TOKENS)) + text[end:]
    (folder / "base.yaml").write_text(GOOD)
    (folder / "file.yaml").write_bytes(text.encode("utf-8"))
    outcome(folder / "file.yaml")


@fuzzed(60)
@given(far=damaged_files(), near=damaged_files(), extends=st.just("near.yaml") | TREES)
def test_files_that_extend_wrong_files_are_a_grid_or_one_line(folder, far, near, extends):
    written(folder / "far.yaml", far)
    written(folder / "near.yaml", {"extends": "far.yaml", **near})
    outcome(written(folder / "file.yaml", {"extends": extends, "settings": {"iterations": 1}}))


PATHS = st.sampled_from(
    [
        *("name", "environments", "algorithms", "methods", "seeds", "in_process", "extends"),
        *(f"settings.{name}" for name in CellSettings.model_fields),
    ]
)


@fuzzed(80)
@given(
    changes=st.lists(
        st.builds(
            lambda path, value: f"{path}={value}",
            PATHS | TEXTS,
            st.sampled_from(TOKENS)
            | TREES.map(lambda tree: yaml.safe_dump(tree, default_flow_style=True)),
        )
        | st.text(max_size=30),
        max_size=3,
    )
)
def test_any_change_from_the_command_line_is_a_grid_or_one_line(folder, changes):
    path = folder / "file.yaml"
    path.write_text(GOOD)
    outcome(path, changes)
