"""`dfmodels demo` from end to end, with far fewer clips than the real one."""

import json

import pytest

from dfmodels.cli import demo, main


def test_demo(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "TRAIN_CLIPS", 32)
    monkeypatch.setattr(demo, "TRAIN_IDENTITIES", 16)
    monkeypatch.setattr(demo, "HELD_OUT_CLIPS", 8)
    monkeypatch.setattr(demo, "HELD_OUT_IDENTITIES", 4)
    monkeypatch.setattr(demo, "EPOCHS", 1)
    monkeypatch.setattr(demo, "FILM_SECONDS", 1)
    out = tmp_path / "out folder"
    assert main(["demo", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "held-out clips: AUC" in text
    names = {path.name for path in out.iterdir()}
    assert names == {"ddl-demo.safetensors", "real.mp4", "fake.mp4", "real.mp4.png", "fake.mp4.png"}
    # the printed command gives the same again
    again = ["score", str(out / "real.mp4"), "--weights", str(out / "ddl-demo.safetensors"), "--faces", "none"]
    assert main([*again, "--format", "json", "--clips", "all"]) == 0
    probability = json.loads(capsys.readouterr().out)[0]["fake_probability"]
    assert f"{probability:.3f}" in next(line for line in text.splitlines() if "real.mp4 " in line)


def test_training_repeats(monkeypatch):
    monkeypatch.setattr(demo, "TRAIN_CLIPS", 16)
    monkeypatch.setattr(demo, "TRAIN_IDENTITIES", 8)
    monkeypatch.setattr(demo, "EPOCHS", 2)
    one, two = demo.train(seed=1), demo.train(seed=1)
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert a.equal(b)


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
