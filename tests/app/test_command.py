"""`dfmodels app` before anything is served: what is wrong with its arguments is said at once."""

import argparse
import os
import shlex
import socket
import sys

import pytest

import dfmodels
from dfmodels.cli import main, make_parser
from dfmodels.cli.app import command
from dfmodels.scoring.app import QUIET, listening
from tests.models.test_detectors import small


@pytest.fixture
def weights(tmp_path):
    detector = small("ddl")
    detector.trained = True
    dfmodels.save(detector, tmp_path / "small.safetensors")
    return str(tmp_path / "small.safetensors")


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in (*QUIET, "GRADIO_TEMP_DIR"):
        monkeypatch.setenv(name, os.environ.get(name, ""))  # set back afterwards


def refused(capsys, *arguments):
    status = main(["app", "--faces", "none", *map(str, arguments)])
    out, err = capsys.readouterr()
    assert status == 2
    assert out == ""
    assert "Traceback" not in err
    assert err.startswith("dfmodels app: ")
    return err


def test_no_weights(capsys):
    assert "give --weights FILE" in refused(capsys)


def test_a_file_that_is_not_there(capsys, tmp_path):
    assert "nowhere.safetensors" in refused(capsys, "--weights", tmp_path / "nowhere.safetensors")


def test_untrained_weights(capsys, weights, monkeypatch):
    monkeypatch.setattr("dfmodels.cli.score.load_model", lambda *arguments: small("ddl"))
    assert "random weights" in refused(capsys, "--weights", weights)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--max-size", "0"], "--max-size must be above 0, got 0"),
        (["--max-size", "nan"], "--max-size must be above 0, got nan"),
        (["--max-minutes", "-1"], "--max-minutes must be above 0, got -1"),
        (["--port", "65536"], "--port must be from 0 to 65535, got 65536"),
        (["--clips", "none"], "--clips must be a number"),
        (["--host", "192.0.2.1"], "--host 192.0.2.1 is no address of this machine"),
        (["--host", "no.such.host.invalid"], "--host no.such.host.invalid: no address is known for it"),
        (["--host", ""], "--host must be"),
    ],
)
def test_arguments_out_of_range(capsys, weights, arguments, said):
    assert said in refused(capsys, "--weights", weights, *arguments)


def test_a_port_in_use(capsys, weights):
    with listening("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert f"--port {port} is in use on 127.0.0.1" in refused(capsys, "--weights", weights, "--port", port)
    with listening("127.0.0.1", port):
        pass


def test_no_gradio(capsys, weights, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = set(tmp_path.iterdir())
    assert 'pip install "PATH_OR_GIT_URL[app]"' in refused(capsys, "--weights", weights, "--port", 0)
    assert set(tmp_path.iterdir()) == before


def test_only_this_machine_is_served_unless_told_otherwise():
    options = make_parser().parse_args(["app"])
    assert options.host == "127.0.0.1"
    with listening(options.host, 0) as listener:
        assert listener.family == socket.AF_INET
        assert listener.getsockname()[0] == "127.0.0.1"


def test_the_report_says_how_to_do_it_again():
    given = [
        "app",
        "--weights",
        "my weights.pth",
        "--model",
        "ddl",
        "--set",
        "size=64",
        "--clips",
        "all",
        "--port",
        "1",
    ]
    line = command(make_parser().parse_args(given), "-v.mp4")
    words = shlex.split(line)
    assert words[0] == "dfmodels"
    options = make_parser().parse_args(words[1:])
    assert isinstance(options, argparse.Namespace)
    assert options.videos == ["-v.mp4"]
    assert (options.weights, options.model, options.set, options.clips) == (
        "my weights.pth",
        "ddl",
        ["size=64"],
        "all",
    )
