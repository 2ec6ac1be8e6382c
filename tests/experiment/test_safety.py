"""An experiment file is data: it runs nothing and stays in its folder, and no secret gets out."""

import json
import sys
from pathlib import Path

import gymnasium as gym
import pytest

from rllib_lpdm.results.storage import results_folder
from rllib_lpdm.schema.cell_settings import PATHS, CellSettings
from rllib_lpdm.schema.loading import load_experiment
from rllib_lpdm.schema.messages import UserError
from rllib_lpdm.schema.settings import PPOSettings
from tests.experiment.files import write

GOOD = (
    "environments: [CartPole-v1]\nalgorithms: [ppo]\nmethods: [lpdm]\nsettings: {iterations: 2}\n"
)


def refusal(path, changes=()):
    with pytest.raises(UserError) as error:
        load_experiment(path, changes).cells()
    return str(error.value)


# -- code and imports -----------------------------------------------------------------------------


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """A module that leaves a mark when it is imported, or when its function is called."""
    mark = tmp_path / "mark"
    (tmp_path / "lpdm_trap.py").write_text(
        "from pathlib import Path\n\n"
        f"def spring(*arguments, **options):\n    Path({str(mark)!r}).touch()\n\n"
        "Env = spring\nspring()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield mark
    assert not mark.exists()
    assert "lpdm_trap" not in sys.modules


TAGS = (
    "!!python/object/apply:lpdm_trap.spring []",
    "!!python/object/apply:os.system ['touch mark']",
    "!!python/object/new:lpdm_trap.Env {}",
    "!!python/object:lpdm_trap.Env {}",
    "!!python/name:lpdm_trap.spring ''",
    "!!python/module:lpdm_trap ''",
    "!<tag:yaml.org,2002:python/module:lpdm_trap> ''",
)
PLACES = (
    "name: {}\n",
    "variants: {{a: {{lr: {}}}}}\n",
    "overrides: [{{when: {{}}, set: {}}}]\n",
    "? {}\n: 1\n",
    "seeds: [{}]\n",
)


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("place", PLACES)
def test_a_tag_that_would_make_an_object_is_refused_and_nothing_is_called(
    tmp_path, trap, tag, place
):
    path = tmp_path / "file.yaml"
    path.write_text(GOOD + place.format(tag))
    assert "not valid YAML" in refusal(path)


@pytest.mark.parametrize("tag", TAGS)
def test_a_change_from_the_command_line_makes_no_object_either(tmp_path, trap, tag):
    assert "not valid YAML" in refusal(write(tmp_path), [f"settings.lr={tag}"])


@pytest.mark.parametrize("environment", ["lpdm_trap:Env-v0", "lpdm_trap:CartPole-v1", "lpdm_trap"])
def test_a_module_named_with_an_environment_is_not_imported(tmp_path, trap, environment):
    assert "unknown environment" in refusal(write(tmp_path, environments=[environment]))
    assert "unknown environment" in refusal(write(tmp_path), [f"environments=['{environment}']"])
    condition = {"when": {"environment": environment}, "set": {}}
    assert "unknown environment" in refusal(write(tmp_path, overrides=[condition]))


@pytest.mark.parametrize("key", ["entry_point", "env_config", "callbacks", "learner_class", "run"])
def test_there_is_no_key_or_setting_that_names_code(tmp_path, trap, key):
    assert f"unknown key {key!r}" in refusal(write(tmp_path, **{key: "lpdm_trap:Env"}))
    settings = {"iterations": 1, key: "lpdm_trap:Env"}
    assert f"unknown setting {key!r}" in refusal(write(tmp_path, settings=settings))


def test_free_text_is_taken_for_paths_only_and_for_names_that_are_checked(tmp_path, trap):
    assert PPOSettings.model_fields.keys() < CellSettings.model_fields.keys()
    free = set()
    for name, schema in CellSettings.model_json_schema()["properties"].items():
        text = json.dumps(schema)
        if text.count('"type": "string"') > text.count('"enum": ['):
            free.add(name)
    assert free == {"activation", "metric", "black_box", *PATHS}
    for name in ("metric", "black_box"):
        for value in ("lpdm_trap.spring", "lpdm_trap:spring", "lpdm_trap"):
            path = write(tmp_path, settings={"iterations": 1, name: value})
            assert f"settings.{name}: " in refusal(path)


# -- folders --------------------------------------------------------------------------------------

ESCAPES = ("../x", "/abs", "..", ".", "", "a/b", "a\\b", "~", "a b", "-x", ".hidden", "x\n", "a:b")


@pytest.mark.parametrize("name", ESCAPES)
def test_a_name_that_leaves_the_output_folder_is_refused(tmp_path, name):
    assert "name: " in refusal(write(tmp_path, name=name))
    assert "name" in refusal(write(tmp_path), [f"name={json.dumps(name)}"])


@pytest.mark.parametrize("name", ESCAPES)
def test_a_variant_that_leaves_the_folder_is_refused(tmp_path, name):
    assert "variants" in refusal(write(tmp_path, variants={name: {}}))


@pytest.mark.parametrize("seed", ["../1", "1/..", "/", 0.5, "0x1", [1], {"a": 1}])
def test_a_seed_is_a_number(tmp_path, seed):
    assert "seeds[0]: " in refusal(write(tmp_path, seeds=[seed]))


@pytest.mark.parametrize("environment", ["../CartPole-v1", "/CartPole-v1", "CartPole-v1/.."])
def test_an_environment_that_is_a_path_is_refused(tmp_path, environment):
    assert "environments[0]: " in refusal(write(tmp_path, environments=[environment]))


@pytest.mark.parametrize("file", ["..yaml", ".yaml", "a b.yaml", "-.yaml", "é.yaml"])
def test_a_file_whose_name_is_no_good_for_a_folder_needs_a_name(tmp_path, file):
    assert "name: " in refusal(write(tmp_path, file))
    assert load_experiment(write(tmp_path, file, name="good")).name == "good"


def test_every_environment_that_exists_has_cells_directly_in_the_experiments_folder(tmp_path):
    ids = sorted(gym.registry)
    assert any("/" in environment for environment in ids)
    experiment = load_experiment(
        write(tmp_path, environments=ids, variants={"a.b": {}, "0": {}}, seeds=[0, 2**32 - 1])
    )
    folder = results_folder(tmp_path / "results") / experiment.name
    for cell in experiment.cells():
        assert (folder / cell.name).resolve().parent == folder.resolve()


def test_extends_reads_any_yaml_file_and_nothing_else(tmp_path, trap):
    (tmp_path / "elsewhere").mkdir()
    write(tmp_path / "elsewhere", "base.yaml", settings={"iterations": 7})
    near = write(tmp_path, extends="elsewhere/base.yaml", settings=None)
    assert load_experiment(near).cells()[0].settings.iterations == 7
    for other in (trap.with_name("lpdm_trap.py"), Path(sys.executable), tmp_path, "/dev/zero"):
        assert "\n" not in refusal(write(tmp_path, extends=str(other)))


SECRETS = {
    "shadow": "root:$6$planted:19000:0:99999:7:::\ndaemon:*:19000:0:99999:7:::\n",
    "netrc": "machine host\n  login me\n  password planted\n",
    "key": "-----BEGIN PRIVATE KEY-----\nplanted\n-----END PRIVATE KEY-----\n",
    "environment": "KEY=planted\nOTHER=1\n",
    "credentials.ini": "[planted]\nkey = planted\n",
    "secrets.yaml": "token: planted\nname: planted planted\n",
    "alias.yaml": "a: *planted\n",
    "tag.yaml": "a: !planted x\n",
    "twice.yaml": "planted: 1\nplanted: 2\n",
    "number.yaml": "a: !!int planted\n",
    "list.yaml": "- planted\n",
    "keys.yaml": "planted: 1\nsettings: {iterations: 2}\n",
}


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("linked", [False, True])
def test_no_error_quotes_a_file_that_an_experiment_file_extends(tmp_path, name, linked):
    secret = tmp_path / name
    secret.write_text(SECRETS[name])
    if linked:
        (tmp_path / "base.yaml").symlink_to(secret)
    said = refusal(write(tmp_path, extends="base.yaml" if linked else name))
    assert "planted" not in said
    assert str(tmp_path / ("base.yaml" if linked else name)) in said
    assert "\n" not in said


def test_the_extended_file_alone_says_what_is_wrong_with_it(tmp_path):
    (tmp_path / "base.yaml").write_text("setings: {lr: 1}\n")
    said = refusal(write(tmp_path, extends="base.yaml"))
    assert "--dry-run" in said
    assert "unknown key 'setings', did you mean 'settings'?" in refusal(tmp_path / "base.yaml")


# -- secrets --------------------------------------------------------------------------------------

URLS = (
    "s3://key:planted@bucket/results",
    "s3://planted@bucket/results",
    "ftp://user:planted@localhost/results",
    "simplecache::s3://key:planted@bucket/results",
    "https://user:planted@localhost",
)


@pytest.mark.parametrize("url", URLS)
def test_credentials_in_a_url_are_refused_and_not_repeated(url):
    with pytest.raises(UserError, match="credentials in a URL") as error:
        results_folder(url)
    assert "planted" not in str(error.value)
