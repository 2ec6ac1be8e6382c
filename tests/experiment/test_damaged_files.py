"""Whatever happens to a file's text, reading it gives an experiment or an UserError."""

import random

import pytest

from rllib_lpdm.schema.loading import load_experiment
from rllib_lpdm.schema.messages import UserError
from tests.experiment.files import CONFIGS

JUNK = (
    *"\t:[]{}#'\"!%@`|>?-~,\0\u2028é",
    *(
        "&a ",
        "*a",
        "!!int ",
        "!!map ",
        ".nan",
        "1e999",
        "<<: ",
        "? ",
        "- ",
        "\n",
        "  ",
        "null",
        "7",
    ),
)


def mutated(text, rng):
    """The text with one to three faults: lines lost or swapped, values exchanged, junk."""
    for _ in range(rng.randint(1, 3)):
        lines = text.splitlines()
        here, there = rng.randrange(len(lines)), rng.randrange(len(lines))
        match rng.randrange(4):
            case 0:
                del lines[here]
            case 1:
                lines[here], lines[there] = lines[there], lines[here]
            case 2:
                key, colon, _ = lines[here].partition(":")
                lines[here] = key + colon + lines[there].rpartition(":")[2]
            case 3:
                place = rng.randint(0, len(lines[here]))
                lines[here] = lines[here][:place] + rng.choice(JUNK) + lines[here][place:]
        text = "\n".join(lines or [""]) + "\n"
    return text


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_grid_file_is_an_experiment_or_an_experiment_error(tmp_path, seed):
    rng = random.Random(seed)
    (tmp_path / "paper.yaml").write_text((CONFIGS / "paper.yaml").read_text())
    original = (CONFIGS / "grid.yaml").read_text()
    refused = 0
    for _ in range(50):
        path = tmp_path / "grid.yaml"
        path.write_text(mutated(original, rng), encoding="utf-8")
        try:
            assert load_experiment(path).cells()
        except UserError:
            refused += 1
        except Exception as error:
            raise AssertionError(path.read_text()) from error
    assert 0 < refused < 50
