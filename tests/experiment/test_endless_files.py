"""Files made to take for ever, and paths that cannot be, are soon an error of one line."""

import json
import time
import tracemalloc

import pytest

from rllib_lpdm.schema.loading import load_experiment
from rllib_lpdm.schema.messages import UserError
from tests.experiment.files import CONFIGS
from tests.experiment.test_fuzz import GOOD, outcome

BOMBS = {
    "lists of lists": GOOD.replace(
        "1.0e-3",
        "[&a0 [1], " + ", ".join(f"&a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 40)) + "]",
    ),
    "a mapping merged into itself": GOOD + "variants: &v {<<: *v, a: &a {<<: [*v, *a]}}\n",
    "a long list many times": GOOD
    + f"overrides:\n  - &o {{when: {{method: [{'bp, ' * 3000}bp]}}, set: {{}}}}\n"
    + "  - *o\n" * 3000,
    "many keys": "{" + ", ".join(f"k{i}: 1" for i in range(9000)) + "}",
    "one key many times": "{" + "k: 1, " * 15_000 + "}",
    "brackets": "[" * 90_000,
    "braces": "{a: " * 20_000,
    "dashes": "- " * 40_000,
    "digits": GOOD + "seeds: " + "9" * 90_000,
    "hexadecimal digits": GOOD + "seeds: 0x" + "f" * 90_000,
    "minutes": GOOD + "seeds: 1" + ":59" * 30_000,
    "a long word": GOOD.replace("ppo,", "p" * 90_000 + ","),
    "a long name": GOOD + "name: " + "n" * 90_000,
    "a long environment": GOOD.replace("Acrobot-v1", "A" * 90_000),
    "many unknown environments": GOOD.replace("Acrobot-v1", "A, " * 20_000),
    "a long key": GOOD + "? " + "k" * 90_000 + "\n: 1\n",
    "too many bytes": GOOD + "# " + "x" * 10_000_000,
    "too many cells": GOOD + "seeds: 100000\nvariants: {a: {}, b: {}, c: {}}\n",
    "many seeds": GOOD + f"seeds: [{', '.join(map(str, range(15_000)))}]\n",
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_file_made_to_take_for_ever_is_read_soon(tmp_path, kind):
    path = tmp_path / "file.yaml"
    path.write_text(BOMBS[kind])
    started = time.process_time()
    outcome(path)
    assert time.process_time() - started < 10


@pytest.mark.parametrize("kind", [kind for kind in BOMBS if "list" in kind or "mapping" in kind])
def test_aliases_are_not_written_out_in_memory(tmp_path, kind):
    path = tmp_path / "file.yaml"
    path.write_text(BOMBS[kind])
    tracemalloc.start()
    try:
        assert "alias" in outcome(path)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


def test_a_chain_of_two_thousand_files_is_read(tmp_path):
    for number in range(2000):
        (tmp_path / f"{number}.yaml").write_text(f"extends: {number + 1}.yaml\n")
    (tmp_path / "2000.yaml").write_text(GOOD)
    (tmp_path / "0.yaml").write_text(f"name: chain\nextends: {tmp_path}/1.yaml\n")
    assert len(outcome(tmp_path / "0.yaml")) == 8


def test_a_device_without_end_is_refused():
    with pytest.raises(UserError, match="longer than"):
        load_experiment("/dev/zero")


@pytest.mark.parametrize("name", ["a" * 255 + ".yaml", "a/" * 3000, "\0", "a\0.yaml", "loop.yaml"])
def test_a_path_that_cannot_be_is_one_line(tmp_path, name):
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    with pytest.raises(UserError, match=r"cannot be read|no such file"):
        load_experiment(tmp_path / name)
    good = tmp_path / "good.yaml"
    good.write_text(GOOD + f"extends: {json.dumps(name)}\n")
    assert "extends: there is no file" in outcome(good)


def test_the_files_of_the_repository_pass_the_same_checks(tmp_path):
    for path in CONFIGS.glob("*.yaml"):
        assert isinstance(outcome(path), str) == (path.name == "paper.yaml")
