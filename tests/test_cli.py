"""The console script: commands under one name, each imported when it is asked for."""

import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from rllib_lpdm import cli
from rllib_lpdm.schema.messages import UserError

ROOT = Path(__file__).resolve().parents[1]


def test_the_console_script_is_this_one():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, function = scripts[cli.SCRIPT].split(":")
    assert getattr(import_module(module), function) is cli.main


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_is_a_module_with_a_help_that_names_it_as_it_was_called(
    command, capsys, monkeypatch
):
    for called, name in (
        (f"/opt/bin/{cli.SCRIPT}", f"{cli.SCRIPT} {command}"),
        ("/opt/tune.py", f"python -m rllib_lpdm.{command}"),
    ):
        monkeypatch.setattr(sys, "argv", [called])
        with pytest.raises(SystemExit, match="0"):
            cli.main([command, "--help"])
        assert capsys.readouterr().out.startswith(f"usage: {name} ")


def test_the_status_of_a_command_is_the_scripts(tmp_path, capsys):
    assert cli.main(["report", str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [(["tnue"], "did you mean 'tune'?"), ([], "required: COMMAND\n"), (["--vers"], "")],
)
def test_an_unknown_command_is_answered_with_those_there_are(arguments, fragment, capsys):
    with pytest.raises(SystemExit):
        cli.main(arguments)
    output = capsys.readouterr()
    assert fragment in output.err + output.out


def test_help_and_version_come_at_once_without_ray_and_torch():
    code = (
        "import sys\nfrom rllib_lpdm.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print(sorted({'ray', 'torch', 'gymnasium'} & set(sys.modules)))"
    )
    for option, fragment in (("--version", f"{cli.SCRIPT} 0."), ("--help", "tune")):
        ended = subprocess.run(
            [sys.executable, "-c", code, option], cwd=ROOT, capture_output=True, text=True
        )
        assert ended.returncode == 0
        assert fragment in ended.stdout
        assert ended.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("a\nb", "error: a\nb\n"),
        ("\x1b[2J\x1b[31mred\a", "error: [2J [31mred\n"),
        ("x" * 5000, f"error: {'x' * 597}...\n"),
    ],
    ids=["lines", "escape sequences", "length"],
)
def test_an_error_is_said_without_control_characters_and_not_at_length(error, said, capsys):
    assert cli.complain(error, 2) == 2
    assert capsys.readouterr().err == said


def test_a_user_error_of_a_command_is_said_and_has_status_2(capsys):
    def fails(error):
        raise error

    guarded = cli.command(OSError)(fails)
    assert guarded(UserError("a.yaml: one\nb.yaml: two")) == 2
    assert guarded(FileNotFoundError("no\nfile")) == 2
    assert capsys.readouterr().err == "error: a.yaml: one\nb.yaml: two\nerror: no file\n"
    with pytest.raises(KeyError):
        guarded(KeyError("a fault of the program"))
    with pytest.raises(FileNotFoundError):
        cli.command()(fails)(FileNotFoundError())
