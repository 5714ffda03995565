"""`dfmodels demo` from end to end, with far fewer clips than the real one."""

import json
import shlex

import numpy as np
import pytest
import torch

import dfmodels
from dfmodels.cli import demo, main
from dfmodels.detectors import InputContract
from dfmodels.synthetic import TalkingHeads


@pytest.fixture
def tiny(monkeypatch):
    sizes = {
        "TRAIN_CLIPS": 32,
        "TRAIN_IDENTITIES": 16,
        "HELD_OUT_CLIPS": 8,
        "HELD_OUT_IDENTITIES": 4,
        "EPOCHS": 1,
        "TRAIN_PAIRS": 4,
        "HELD_OUT_PAIRS": 1,
        "GROUP_EPOCHS": 1,
        "VIDEO_SECONDS": 1,
    }
    for name, value in sizes.items():
        monkeypatch.setattr(demo, name, value)


@pytest.mark.parametrize(
    ("arguments", "name", "unit"),
    [([], "ddl", "clip"), (["--model", "lsda"], "lsda", "frame"), (["--model", "stil"], "stil", "clip")],
)
def test_demo(capsys, tmp_path, tiny, arguments, name, unit):
    out = tmp_path / "out folder"
    assert main(["demo", "--out", str(out), *arguments]) == 0
    text = capsys.readouterr().out
    assert f"held-out {unit}s: AUC" in text
    names = {path.name for path in out.iterdir()}
    assert names == {f"{name}-demo.safetensors", "real.mp4", "fake.mp4", "real.mp4.png", "fake.mp4.png"}
    # the printed command gives the same again
    line = next(line for line in text.splitlines() if line.startswith("again"))
    assert main([*shlex.split(line)[2:], "--format", "json"]) == 0
    probability = json.loads(capsys.readouterr().out)[0]["probability"]
    assert f"{probability:.3f}" in next(line for line in text.splitlines() if "real.mp4 " in line)


@pytest.mark.parametrize("name", sorted(demo.DEMOS))
def test_seed_decides(tiny, name):
    one, two, other = (demo.DEMOS[name](name, seed) for seed in (1, 1, 2))
    assert one.result == two.result
    weights = [torch.nn.utils.parameters_to_vector(outcome.model.parameters()) for outcome in (one, two, other)]
    assert weights[0].equal(weights[1])
    assert not weights[0].equal(weights[2])
    assert list(one.videos) == ["real", "fake"]
    for video in one.videos:
        np.testing.assert_array_equal(one.videos[video], two.videos[video])
        assert (one.videos[video] != other.videos[video]).any()
    assert (one.videos["real"] != one.videos["fake"]).any()


@pytest.mark.parametrize("name", ["ddl", "stil"])
def test_clips_are_what_scoring_shows(name):
    # one formula for training, testing and videos: the frames of a clip are normalised as the contract says
    contract = dfmodels.build(name, **demo.OPTIONS[name]).contract
    clips = TalkingHeads(2, size=demo.SIZE)
    assert contract.num_frames == clips.num_frames
    assert contract.sampling == "consecutive"
    for i, (clip, label) in enumerate(demo.rendered(clips, contract)):
        plain = clips[i][0]
        expected = plain if name == "ddl" else 2 * plain - 1
        torch.testing.assert_close(clip, expected)
        assert label == i


class Redness(torch.nn.Module):
    """A detector of frames whose fake probability is the mean of their red, 0 to 1."""

    contract = InputContract(num_frames=1, size=(16, 16))

    def predict(self, clip):
        return clip[:, 0, 0].mean((1, 2))


def test_frames_and_videos(tmp_path):
    """The AUCs by hand: one real video and two fakes of two frames each."""
    cv2 = pytest.importorskip("cv2")
    frames = {
        "original_sequences/youtube": {"000": (0.2, 0.8)},
        "manipulated_sequences/Deepfakes": {"000_001": (0.4, 0.8)},
        "manipulated_sequences/Face2Face": {"000_001": (0.6, 0.3)},
    }
    for folder, videos in frames.items():
        for video, reds in videos.items():
            (tmp_path / folder / "c23/frames" / video).mkdir(parents=True)
            for t, red in enumerate(reds):
                image = np.zeros((16, 16, 3), np.uint8)
                image[..., 2] = round(255 * red)  # OpenCV writes BGR
                cv2.imwrite(str(tmp_path / folder / "c23/frames" / video / f"{t}.png"), image)
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits/test.json").write_text('[["000", "001"]]')
    auc, accuracy, video_auc = demo.test_on_frames(Redness(), tmp_path)
    # fakes above 0.2: 4 of 4; above 0.8: one tie of 4
    assert auc == pytest.approx((4 + 0.5) / 8)
    assert accuracy == pytest.approx(3 / 6)
    # video means 0.5 against 0.6 and 0.45
    assert video_auc == pytest.approx(1 / 2)


@pytest.mark.parametrize("seed", ["-1", str(2**63)])
def test_wrong_seed(capsys, tmp_path, seed):
    assert main(["demo", "--seed", seed, "--out", str(tmp_path)]) == 2
    assert f"--seed must be at least 0 and below 2^63, got {seed}" in capsys.readouterr().err


def test_an_output_folder_that_is_a_file(capsys, tmp_path):
    (tmp_path / "taken").write_text("")
    assert main(["demo", "--out", str(tmp_path / "taken")]) == 2
    assert "--out must be a folder to write to" in capsys.readouterr().err
    assert main(["demo", "--out", ""]) == 2
    assert "--out must be a path, got an empty one" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["unknown"], ["score"]])
def test_usage(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage: dfmodels" in capsys.readouterr().err
