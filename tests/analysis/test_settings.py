"""What the report takes for a setting's default, without Ray, is the schema's."""

import json

from rllib_lpdm.analysis import settings
from rllib_lpdm.schema.experiment import CellSettings


def test_the_defaults_beside_the_report_are_the_schemas():
    defaults = CellSettings().model_dump(mode="json")
    training = CellSettings().of_training()
    how_run = {name: value for name, value in defaults.items() if name not in training}
    wanted = {"training": training, "how_run": how_run}
    found = {"training": settings.TRAINING, "how_run": settings.HOW_RUN}
    assert found == wanted, f"analysis/settings.json is to be {json.dumps(wanted, indent=1)}"
