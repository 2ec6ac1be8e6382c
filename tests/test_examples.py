"""The examples say what they are before they train."""

import black_box
import features
import images
import pretraining
import pytest
import transfer


@pytest.mark.parametrize("example", [black_box, features, images, pretraining, transfer])
def test_an_example_asked_for_help_explains_itself_and_trains_nothing(example, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [example.__name__, "--help"])
    with pytest.raises(SystemExit) as end:
        example.main()
    assert end.value.code == 0
    assert example.__doc__.splitlines()[0] in capsys.readouterr().out
