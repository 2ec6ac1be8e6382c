"""What the page takes for a setting's default, without Ray, is the schema's."""

import json
from importlib.resources import files

from rllib_lpdm.experiment.spec import CellSettings


def test_the_defaults_beside_the_page_are_the_schemas():
    found = json.loads(files("rllib_lpdm.analysis").joinpath("defaults.json").read_text("utf-8"))
    wanted = CellSettings().model_dump(mode="json")
    assert found == wanted, f"defaults.json is to be: {json.dumps(wanted, indent=1)}"
