"""The documented settings are those of the schema."""

from rllib_lpdm.algorithms.settings import BLACK_BOXES, METRICS, Activation, Neighbours
from rllib_lpdm.experiment.settings_table import settings_table
from rllib_lpdm.experiment.spec import CellSettings
from rllib_lpdm.local_learning.activations import ACTIVATIONS
from rllib_lpdm.local_learning.black_boxes import BLACK_BOXES as BLACK_BOX_FUNCTIONS
from rllib_lpdm.local_learning.distances import METRICS as METRIC_FUNCTIONS
from rllib_lpdm.local_learning.neighbours import NEIGHBOURS
from tests.experiment.files import CONFIGS

COLUMNS = 6


def lines():
    return [line for line in settings_table().splitlines() if line.startswith("| `")]


def test_the_table_in_the_documentation_is_the_schemas():
    documented = CONFIGS.parent / "docs" / "settings.md"
    assert documented.read_text(encoding="utf-8") == settings_table(), (
        "python -m rllib_lpdm.experiment.settings_table > docs/settings.md"
    )


def test_every_setting_has_a_line_with_every_column():
    assert [line.split("`")[1] for line in lines()] == ["method", *CellSettings.model_fields]
    for line in lines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert len(cells) == COLUMNS
        assert all(cells[:3] + cells[4:])  # the paper need not know a setting


def test_the_names_that_a_setting_takes_are_those_that_exist():
    assert list(METRIC_FUNCTIONS) == list(METRICS)
    assert list(BLACK_BOX_FUNCTIONS) == list(BLACK_BOXES)
    assert list(ACTIVATIONS) == list(Activation.__args__)
    assert list(NEIGHBOURS) == list(Neighbours.__args__)
