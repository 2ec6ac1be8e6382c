"""Whatever is wrong with an experiment file is one UserError that names file and place."""

import os

import pytest

from rllib_lpdm.schema.loading import load_experiment
from rllib_lpdm.schema.messages import UserError

GOOD = """\
environments: [CartPole-v1, Acrobot-v1]
algorithms: [ppo]
methods: [lpdm]
settings: {iterations: 2}
"""


def changed(old, new):
    assert old in GOOD
    return GOOD.replace(old, new)


def setting(text):
    return changed("iterations: 2", f"iterations: 2, {text}")


def override(when, setting="lr: 0.1"):
    return GOOD + f"overrides:\n  - {{when: {{}}, set: {{}}}}\n  - {{{when}, set: {{{setting}}}}}\n"


def environment(text):
    return changed("Acrobot-v1", text)


HUGE = "0x" + "f" * 5000  # more digits than Python prints
MISSPELLED = {
    "key": (GOOD + "enviroments: [x]\n", ["'enviroments'", "did you mean 'environments'?"]),
    "a setting of RLlib": (
        setting("train_batch_size: 4"),
        ["settings: ", "'train_batch_size'", "steps_per_iteration"],
    ),
    "setting": (setting("lrr: 1"), ["settings: ", "'lrr'", "did you mean 'lr'?"]),
    "override's setting": (
        override("when: {}", "gama: 1"),
        ["overrides[1].set: ", "did you mean 'gamma'?"],
    ),
    "variant's setting": (
        GOOD + "variants: {slow: {hiden_lr: 1}}\n",
        ["variants.slow: ", "did you mean 'hidden_lr'?"],
    ),
    "environment": (
        changed("Acrobot-v1", "Hoper-v4"),
        ["environments[1]: ", "'Hoper-v4'", "did you mean 'Hopper-v4'?"],
    ),
    "override's environment": (
        override("when: {environment: Hoper-v4}"),
        ["overrides[1].when", "did you mean 'Hopper-v4'?"],
    ),
    "override's key": (override("whem: {}"), ["overrides[1]", "did you mean 'when'?"]),
    "condition": (
        override("when: {enviroment: CartPole-v1}"),
        ["overrides[1].when", "did you mean 'environment'?"],
    ),
    "environment's key": (
        environment("{id: Acrobot-v1, kwarg: {}}"),
        ["environments[1]: ", "did you mean 'kwargs'?"],
    ),
    "environment's wrapper": (
        environment("{id: Acrobot-v1, wrappers: [FrameStackObservations]}"),
        ["environments[1].wrappers[0]: ", "did you mean 'FrameStackObservation'?"],
    ),
    "wrapper's key": (
        environment("{id: Acrobot-v1, wrappers: [{name: ClipReward, kwarg: {}}]}"),
        ["environments[1].wrappers[0]: ", "did you mean 'kwargs'?"],
    ),
    "override's environment, of which one is named": (
        override("when: {environment: short-act}").replace(
            "Acrobot-v1", "{id: Acrobot-v1, name: short-acro}"
        ),
        ["overrides[1].when.environment: ", "did you mean 'short-acro'?"],
    ),
    "algorithm": (changed("ppo", "pppo"), ["algorithms[0]: ", "'pppo'", "'ppo'"]),
    "method": (changed("lpdm", "lpmd"), ["methods[0]: ", "'lpmd'", "'lpdm'"]),
    "condition's algorithm": (
        override("when: {algorithm: pppo}"),
        ["overrides[1].when.algorithm: ", "'pppo'", "'ppo'"],
    ),
    "condition's method": (
        override("when: {method: [bp, lpmd]}"),
        ["overrides[1].when.method[1]: ", "'lpmd'", "'lpdm'"],
    ),
}
WRONG_VALUES = {
    "word for a number": (setting("lr: fast"), ["settings.lr: ", "'fast'"]),
    "truth for a number": (setting("lr: true"), ["settings.lr: ", "True"]),
    "out of range": (setting("gamma: 1.5"), ["settings.gamma: ", "1.5"]),
    "not a number": (setting("lr: .nan"), ["settings.lr: ", "nan"]),
    "infinity": (setting("action_std: .inf"), ["settings.action_std: ", "inf"]),
    "infinite count": (changed("2}", ".inf}"), ["settings.iterations: ", "inf"]),
    "fraction of a count": (changed("2}", "1.5}"), ["settings.iterations: ", "1.5"]),
    "width of zero": (setting("hidden_sizes: [8, 0]"), ["settings.hidden_sizes[1]: ", "0"]),
    "number for a list": (setting("hidden_sizes: 8"), ["settings.hidden_sizes: ", "8"]),
    "word for a list": (changed("[ppo]", "ppo"), ["algorithms: ", "'ppo'", "write [ppo]"]),
    "convolution of two numbers": (
        setting("conv_layers: [[8, 2]]"),
        ["settings.conv_layers[0][2]: ", "required", "[8, 2]"],
    ),
    "convolution of no numbers": (setting("conv_layers: [[]]"), ["settings.conv_layers[0][0]: "]),
    "convolution of four numbers": (
        setting("conv_layers: [[8, 2, 1, 1]]"),
        ["settings.conv_layers[0]: ", "[8, 2, 1, 1]"],
    ),
    "deviation that float32 knows as zero": (
        setting("action_std: 1.0e-320"),
        ["settings.action_std: ", "1e-320"],
    ),
    "environment without an id": (environment("{name: x}"), ["environments[1].id: ", "required"]),
    "number for an environment": (environment("3"), ["environments[1]: ", "'id'", "3"]),
    "no time": (
        environment("{id: Acrobot-v1, max_episode_steps: 0}"),
        ["environments[1].max_episode_steps: ", "0"],
    ),
    "truth for steps": (
        environment("{id: Acrobot-v1, max_episode_steps: true}"),
        ["environments[1].max_episode_steps: ", "True"],
    ),
    "arguments that JSON cannot write": (
        environment("{id: Acrobot-v1, kwargs: {size: .nan}}"),
        ["environments[1].kwargs: ", "JSON"],
    ),
    "time limit among the arguments": (
        environment("{id: Acrobot-v1, kwargs: {max_episode_steps: 3}}"),
        ["environments[1].kwargs: ", "'max_episode_steps'"],
    ),
    "override's value": (override("when: {}", "lr: -1"), ["overrides[1].set.lr: ", "-1"]),
    "variant's value": (GOOD + "variants: {a: {lr: 0}}\n", ["variants.a.lr: ", "0"]),
    "number too long to print": (setting(f"lr: {HUGE}"), ["settings.lr: "]),
    "no seeds": (GOOD + "seeds: 0\n", ["seeds: ", "0"]),
    "empty seeds": (GOOD + "seeds: []\n", ["seeds: "]),
    "negative seed": (GOOD + "seeds: [3, -1]\n", ["seeds[1]: ", "-1"]),
    "truth for seeds": (GOOD + "seeds: true\n", ["seeds: ", "True"]),
    "null settings": (changed("{iterations: 2}", ""), ["settings: ", "None"]),
    "number for a key": (setting("3: 4"), ["settings", "3"]),
}
WRONG_LISTS = {
    "no environments": (changed("[CartPole-v1, Acrobot-v1]", ""), ["environments: "]),
    "empty methods": (changed("[lpdm]", "[]"), ["methods: "]),
    "no algorithms": (changed("algorithms: [ppo]\n", ""), ["algorithms: "]),
    "no iterations": (changed("iterations: 2", ""), ["settings.iterations: "]),
    "repeated environment": (
        changed("Acrobot-v1", "CartPole-v1"),
        ["environments: ", "'CartPole-v1'", "twice", "needs a name"],
    ),
    "environment of another library": (
        environment("{id: GymV26Environment-v0, kwargs: {env_id: 'trap:Env-v0'}}"),
        ["environments[1]: ", "GymV26Environment-v0", "may import any module"],
    ),
    "repeated name": (
        environment("{id: Acrobot-v1, name: CartPole-v1}"),
        ["environments: ", "'CartPole-v1'", "twice"],
    ),
    "repeated method": (changed("[lpdm]", "[lpdm, lpdm]"), ["methods: ", "'lpdm'", "twice"]),
    "repeated seed": (GOOD + "seeds: [4, 4]\n", ["seeds: ", "4", "twice"]),
    "repeated key": (GOOD + "seeds: 1\nseeds: 2\n", ["'seeds'", "twice"]),
    "repeated setting": (setting("lr: 1, lr: 2"), ["'lr'", "twice", "line 4"]),
}
DANGEROUS = {
    "module to import": (changed("Acrobot-v1", "antigravity:Acrobot-v1"), ["environments[1]: "]),
    "python object": (
        GOOD + "name: !!python/object/apply:os.getcwd []\n",
        ["not valid YAML", "line 5"],
    ),
    "python name": (setting("lr: !!python/name:os.system ''"), ["not valid YAML", "line 4"]),
    "name that escapes": (GOOD + "name: ../x\n", ["name: ", "'../x'"]),
    "absolute name": (GOOD + "name: /tmp/x\n", ["name: ", "'/tmp/x'"]),
    "parent as a name": (GOOD + "name: ..\n", ["name: ", "'..'"]),
    "variant that escapes": (GOOD + "variants: {../x: {lr: 1}}\n", ["variants.../x: may have"]),
    "environment's name that escapes": (
        environment("{id: Acrobot-v1, name: ../x}"),
        ["environments[1].name: ", "letters, digits", "'../x'"],
    ),
    "module of an environment": (
        environment("{id: 'antigravity:Acrobot-v1'}"),
        ["environments[1]: ", "unknown environment"],
    ),
    "module to import by itself": (GOOD + "imports: [antigravity]\n", ["'imports'"]),
    "wrapper that is code": (
        environment("{id: Acrobot-v1, wrappers: [antigravity.Wrapper]}"),
        ["environments[1].wrappers[0]: ", "unknown wrapper"],
    ),
    "wrapper with a memory": (
        environment("{id: Acrobot-v1, wrappers: [NormalizeReward]}"),
        ["environments[1].wrappers[0]: ", "from one episode to the next", "'NormalizeReward'"],
    ),
    "alias": (GOOD + "variants: {a: &a {lr: 1}, b: *a}\n", ["alias", "line 5"]),
    "file that contains itself": (GOOD + "variants: &v {a: *v}\n", ["alias", "line 5"]),
}
NOT_EXPERIMENTS = {
    "nothing": ("", ["mapping"]),
    "comment": ("# later\n", ["mapping"]),
    "list": ("[1, 2]", ["mapping"]),
    "sentence": ("hello", ["mapping"]),
    "syntax": (changed("[lpdm]", "[lpdm"), ["not valid YAML", "line 4"]),
    "tab": (GOOD + "\tseeds: 1\n", ["not valid YAML", "line 5"]),
    "two documents": (GOOD + "---\nseeds: 1\n", ["not valid YAML"]),
    "zero character": (GOOD + "\0", ["not valid YAML"]),
    "depth": ("a: " + "[" * 5000, ["not valid YAML"]),
    "impossible date": (GOOD + "name: 2020-13-45\n", ["not valid YAML"]),
    "no truth value": (GOOD + "in_process: !!bool perhaps\n", ["not valid YAML"]),
    "no time": (GOOD + "name: !!timestamp soon\n", ["not valid YAML"]),
    "no number": (GOOD + "seeds: !!int ''\n", ["not valid YAML"]),
    "other bytes": (bytes(range(256)), ["cannot be read"]),
}
EXTENDS = {
    "missing": (GOOD + "extends: nowhere.yaml\n", ["extends: ", "nowhere.yaml"]),
    "itself": (GOOD + "extends: file.yaml\n", ["extends: ", "circle"]),
    "folder": (GOOD + "extends: .\n", ["extends: "]),
    "list": (GOOD + "extends: [a.yaml]\n", ["extends: "]),
    "name too long": (GOOD + f"extends: {'a' * 5000}\n", ["extends: "]),
}
CASES = {
    f"{kind} {name}": case
    for kind, cases in {
        "misspelled": MISSPELLED,
        "value:": WRONG_VALUES,
        "list:": WRONG_LISTS,
        "dangerous:": DANGEROUS,
        "content:": NOT_EXPERIMENTS,
        "extends": EXTENDS,
    }.items()
    for name, case in cases.items()
}


def refusal(path):
    with pytest.raises(UserError) as error:
        load_experiment(path).cells()
    return str(error.value)


@pytest.mark.parametrize("case", CASES)
def test_the_message_names_file_and_place_and_the_way_out(tmp_path, case):
    text, fragments = CASES[case]
    path = tmp_path / "file.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    message = refusal(path)
    missing = [f for f in [str(path), *fragments] if f not in message]
    assert not missing, message
    assert "\n" not in message


def test_files_that_extend_one_another_in_a_circle_are_refused(tmp_path):
    for name, other in ("ab", "bc", "ca"):
        (tmp_path / f"{name}.yaml").write_text(f"extends: {other}.yaml\n{GOOD}")
    message = refusal(tmp_path / "a.yaml")
    assert "extends: " in message
    assert "circle" in message


def test_a_fault_in_an_extended_file_is_placed_in_that_file(tmp_path):
    (tmp_path / "base.yaml").write_text("settings: {lrr: 1}\n")
    (tmp_path / "file.yaml").write_text(GOOD + "extends: base.yaml\n")
    assert f"{tmp_path / 'base.yaml'}: settings: unknown setting 'lrr'" in refusal(
        tmp_path / "file.yaml"
    )


def test_a_folder_a_missing_file_and_a_circular_link_are_refused_by_name(tmp_path):
    os.symlink("loop.yaml", tmp_path / "loop.yaml")
    for path in (tmp_path, tmp_path / "missing.yaml", tmp_path / "loop.yaml"):
        assert str(path) in refusal(path)


def faults(path, *changes):
    with pytest.raises(UserError) as raised:
        load_experiment(path, changes)
    return str(raised.value).splitlines()


def test_all_faults_of_a_file_are_told_at_once(tmp_path):
    path = tmp_path / "many.yaml"
    path.write_text(
        """
algoritms: [ppo]
environments: [CartPole-v1, {id: Acrobot-v1, kwarg: {}}]
algorithms: [PPO, reinforce]
methods: [lpdm, BP]
settings: {iterations: 5, lr: fast, gama: 1, hidden_sizes: 64, activation: Tanh}
overrides:
  - {when: {method: lpmd}, set: {lr: -1, clip: 2}}
variants: {slow: {hidden_lr: slow}}
"""
    )
    lines = faults(path)
    assert len(lines) == 11
    assert all(line.startswith(f"{path}: ") for line in lines[:10])
    assert lines[-1] == "and 2 more"
    for said in (
        "unknown key 'algoritms', did you mean 'algorithms'?",
        "environments[1]: unknown key 'kwarg', did you mean 'kwargs'?",
        "algorithms[0]: unknown algorithm 'PPO', did you mean 'ppo'?",
        "methods[1]: unknown method 'BP', did you mean 'bp'?",
        "overrides[0].when.method: unknown method 'lpmd', did you mean 'lpdm'?",
        "settings: unknown setting 'gama', did you mean 'gamma'?",
        "settings.hidden_sizes: Input should be a valid list, got 64, write [64]",
    ):
        assert [line for line in lines if said in line], (said, lines)


def test_environments_conditions_and_changes_are_told_together(tmp_path):
    path = tmp_path / "two.yaml"
    path.write_text(
        GOOD.replace("Acrobot-v1", "Hoper-v4")
        + "overrides:\n  - {when: {environment: Pushr-v4, variant: slow}, set: {lr: 1}}\n"
    )
    lines = faults(path)
    assert [line.split(": ")[1] for line in lines] == [
        "environments[1]",
        "overrides[0].when.environment",
        "overrides[0].when.variant",
    ]
    lines = faults(path, "sedes=1", "settings.lrr=2", "seeds")
    assert len(lines) == 3
    assert all(line.startswith("--set ") for line in lines)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (setting("activation: Tanh"), "unknown activation 'Tanh', did you mean 'tanh'?"),
        (setting("hidden_sizes: tanh"), "write [tanh]"),
        (setting("conv_layers: [8, 4, 2]"), "write [[filters, kernel, stride], ...]"),
        (setting("Lr: 0.1"), "unknown setting 'Lr', did you mean 'lr'?"),
        (changed("Acrobot-v1", "acrobot-V1"), "did you mean 'Acrobot-v1'?"),
        (changed("Acrobot-v1", "ALE/Pong-v5"), "pip install ale-py, then --import ale_py"),
    ],
)
def test_a_way_out_is_offered(text, said, tmp_path):
    path = tmp_path / "file.yaml"
    path.write_text(text)
    assert said in faults(path)[0]


def test_a_missing_file_of_extends_says_where_it_was_looked_for(tmp_path):
    path = tmp_path / "file.yaml"
    path.write_text(GOOD + "extends: bases/papr.yaml\n")
    assert f"looked for {tmp_path / 'bases/papr.yaml'}" in faults(path)[0]
