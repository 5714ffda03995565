"""`dfmodels demo` from end to end, with far fewer clips than the real one."""

import json

import pytest
import torch

import dfmodels
from dfmodels.cli import demo, main
from dfmodels.data import TalkingHeads


@pytest.mark.parametrize(("arguments", "name"), [([], "ddl"), (["--model", "stil"], "stil")])
def test_demo(capsys, tmp_path, monkeypatch, arguments, name):
    monkeypatch.setattr(demo, "TRAIN_CLIPS", 32)
    monkeypatch.setattr(demo, "TRAIN_IDENTITIES", 16)
    monkeypatch.setattr(demo, "HELD_OUT_CLIPS", 8)
    monkeypatch.setattr(demo, "HELD_OUT_IDENTITIES", 4)
    monkeypatch.setattr(demo, "EPOCHS", 1)
    monkeypatch.setattr(demo, "FILM_SECONDS", 1)
    out = tmp_path / "out folder"
    assert main(["demo", "--out", str(out), *arguments]) == 0
    text = capsys.readouterr().out
    assert "held-out clips: AUC" in text
    names = {path.name for path in out.iterdir()}
    assert names == {f"{name}-demo.safetensors", "real.mp4", "fake.mp4", "real.mp4.png", "fake.mp4.png"}
    # the printed command gives the same again
    line = next(line for line in text.splitlines() if line.startswith("again"))
    again = line.replace(str(out), "OUT").split()[2:]
    assert main([*(word.replace("OUT", str(out)) for word in again), "--format", "json"]) == 0
    probability = json.loads(capsys.readouterr().out)[0]["fake_probability"]
    assert f"{probability:.3f}" in next(line for line in text.splitlines() if "real.mp4 " in line)


@pytest.mark.parametrize("name", sorted(demo.OPTIONS))
def test_training_repeats(monkeypatch, name):
    monkeypatch.setattr(demo, "TRAIN_CLIPS", 16)
    monkeypatch.setattr(demo, "TRAIN_IDENTITIES", 8)
    monkeypatch.setattr(demo, "EPOCHS", 2)
    one, two = demo.train(name, seed=1), demo.train(name, seed=1)
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert a.equal(b)


@pytest.mark.parametrize("name", sorted(demo.OPTIONS))
def test_clips_are_what_scoring_shows(name):
    # one formula for training, testing and films: the frames of a clip are normalised as the contract says
    contract = dfmodels.build(name, **demo.OPTIONS[name]).contract
    clips = TalkingHeads(2, size=demo.SIZE)
    assert contract.num_frames == clips.num_frames
    assert contract.sampling == "consecutive"
    for i, (clip, label) in enumerate(demo.rendered(clips, contract)):
        plain = clips[i][0]
        expected = plain if name == "ddl" else 2 * plain - 1
        torch.testing.assert_close(clip, expected)
        assert label == i


def test_wrong_seed(capsys, tmp_path):
    assert main(["demo", "--seed", "-1", "--out", str(tmp_path)]) == 2
    assert "--seed must be at least 0, got -1" in capsys.readouterr().err


def test_an_output_folder_that_is_a_file(capsys, tmp_path):
    (tmp_path / "taken").write_text("")
    assert main(["demo", "--out", str(tmp_path / "taken")]) == 2
    assert "taken" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["unknown"], ["score"]])
def test_usage(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage: dfmodels" in capsys.readouterr().err
