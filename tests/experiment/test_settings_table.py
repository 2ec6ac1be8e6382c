"""The documented settings are those of the schema."""

from rllib_lpdm.schema.cell_settings import CellSettings
from rllib_lpdm.schema.settings_table import settings_table
from tests.experiment.files import CONFIGS

COLUMNS = 6


def lines():
    return [line for line in settings_table().splitlines() if line.startswith("| `")]


def test_the_table_in_the_documentation_is_the_schemas():
    documented = CONFIGS.parent / "docs" / "settings.md"
    assert documented.read_text(encoding="utf-8") == settings_table(), (
        "python -m rllib_lpdm.schema.settings_table > docs/settings.md"
    )


def test_every_setting_has_a_line_with_every_column():
    assert [line.split("`")[1] for line in lines()] == ["method", *CellSettings.model_fields]
    for line in lines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert len(cells) == COLUMNS
        assert all(cells[:3] + cells[4:])  # the paper need not know a setting
