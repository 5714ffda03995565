"""What all commands have in common: version, help, how much is said."""

import contextlib
import io
import logging
import os
import shlex
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

import dfmodels
import dfops
from dfmodels.cli import COMMANDS, main, make_parser
from tests.models.test_detectors import small
from tests.video.videos import noise, write_video


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Arguments that score a video by a small detector."""
    folder = tmp_path_factory.mktemp("command")
    model = small("ddl")
    model.trained = True
    dfmodels.save(model, folder / "small.safetensors")
    video = write_video(folder / "video.mp4", 8, noise)
    return ["score", str(video), "--weights", str(folder / "small.safetensors"), "--faces", "none"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def on_a_terminal(arguments):
    """Exit status, and what the error stream shows if it is a terminal."""
    with contextlib.redirect_stderr(Terminal()) as stream:
        return main(arguments), stream.getvalue()


def test_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"dfmodels {dfops.__version__}\n"


def test_as_a_module():
    done = subprocess.run([sys.executable, "-m", "dfmodels", "--version"], capture_output=True, text=True)
    assert done.stdout == f"dfmodels {dfops.__version__}\n", done.stderr


@pytest.mark.parametrize("start", [["-m", "dfmodels"], ["-c", "from dfmodels.__main__ import main; main()"]])
def test_an_interrupt_while_torch_is_imported(tmp_path, start):
    (tmp_path / "torch.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{Path(dfmodels.__file__).parents[1]}"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, *start], text=True, env=environment, **pipes) as command:
        assert command.stdout.readline() == "importing\n"
        command.send_signal(signal.SIGINT)
        assert command.communicate() == ("", "dfmodels: interrupted\n")
    assert command.returncode == 130


def test_the_script_begins_where_an_interrupt_is_heard():
    project = (Path(dfmodels.__file__).parents[1] / "pyproject.toml").read_text()
    assert '[project.scripts]\ndfmodels = "dfmodels.__main__:main"\n' in project


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_an_example_that_parses(capsys, name):
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"example: dfmodels {name}")
    make_parser().parse_args(shlex.split(last.removeprefix("example: "))[1:])


def test_a_bar_on_a_terminal(given, capsys):
    status, shown = on_a_terminal(given)
    assert status == 0
    assert "[1/1] video.mp4: " in shown
    assert "fake probability" in capsys.readouterr().out


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("flag", ["-q", "--quiet"])
def test_quiet_leaves_the_result(given, capsys, place, flag):
    assert on_a_terminal([*given[:place], flag, *given[place:]]) == (0, "")
    assert "fake probability" in capsys.readouterr().out


def test_verbose_says_what_is_decided(given, capsys):
    assert main([*given, "-v"]) == 0
    notes = capsys.readouterr().err
    assert f"ddl of {given[3]} on cpu, faces: none" in notes
    assert f"{given[1]}: " in notes
    assert main(given) == 0
    assert capsys.readouterr().err == ""


def test_verbose_says_where_an_error_was_raised(capsys):
    assert main(["score", "video.mp4", "--weights", "nowhere.safetensors"]) == 2
    short = capsys.readouterr().err
    assert "Traceback" not in short
    assert main(["score", "video.mp4", "--weights", "nowhere.safetensors", "-v"]) == 2
    long = capsys.readouterr().err
    assert long.startswith(short)
    assert "Traceback" in long


def test_a_warning_is_one_line_without_its_source(given, capsys, tmp_path):
    state = small("ddl").state_dict()
    torch.save({"model": state, "model_ema": state}, tmp_path / "both.pth")
    shown = warnings.showwarning
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        main(["-q", "convert", str(tmp_path / "both.pth"), str(tmp_path / "a.safetensors"), "--model", "ddl"])
        assert warnings.showwarning is shown
        (line,) = [line for line in capsys.readouterr().err.splitlines() if "running average" in line]
    assert line.startswith(
        f"warning: {tmp_path / 'both.pth'} holds weights and their running average: 'model' is taken"
    )


def test_the_logger_is_left_as_it_was(given, capsys):
    log = logging.getLogger("dfmodels")
    before = log.level, list(log.handlers)
    main(["-v", *given])
    assert (log.level, log.handlers) == before
