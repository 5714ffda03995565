"""Names to builders, and files that cannot be weights."""

import pytest
import torch
from safetensors.torch import save_file

import dfmodels
from dfmodels import registry, weights
from tests.models.test_detectors import SMALL, small


def test_unknown_name_suggests_close_ones():
    with pytest.raises(ValueError, match=r"no detector is named 'dll'; did you mean 'ddl'\?"):
        dfmodels.build("dll")
    with pytest.raises(ValueError, match="known: ddl"):
        dfmodels.build("zzzzzz")


def test_taken_name_is_refused():
    with pytest.raises(ValueError, match="'ddl' is registered already"):
        registry.register("ddl")(lambda: None)


def test_misspelt_option():
    with pytest.raises(TypeError, match="ddl has no option 'num_frame'; did you mean 'num_frames'"):
        dfmodels.build("ddl", num_frame=8)


def saved(tmp_path, **options):
    model = small("ddl", **options)
    model.trained = True
    path = tmp_path / "small.safetensors"
    dfmodels.save(model, path)
    return path


def test_build_takes_the_options_of_a_saved_file(tmp_path):
    path = saved(tmp_path, num_frames=6)
    assert dfmodels.build("ddl", weights=path).contract.num_frames == 6
    with pytest.raises(weights.WeightsError, match=r"wrongly shaped: fusion\.merge\.conv\.weight"):
        dfmodels.build("ddl", weights=path, num_frames=8)


def test_files_that_are_no_weights(tmp_path):
    for name, content in {
        "empty.pth": b"",
        "text.pth": b"hello there",
        "text.safetensors": b"hello there",
        "short.safetensors": saved(tmp_path).read_bytes()[:2000],
    }.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(weights.WeightsError, match=name):
            dfmodels.build("ddl", weights=path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        dfmodels.load(tmp_path / "nowhere.safetensors")
    with pytest.raises(FileNotFoundError, match="is a folder"):
        dfmodels.load(tmp_path)


def test_pickles_never_run_code(tmp_path):
    class Attack:
        def __reduce__(self):
            return (open, (str(tmp_path / "attacked"), "w"))

    path = tmp_path / "attack.pth"
    torch.save({"state_dict": Attack()}, path)
    with pytest.raises(weights.WeightsError, match="must hold a state dict"):
        dfmodels.build("ddl", weights=path)
    assert not (tmp_path / "attacked").exists()


def test_a_file_without_a_name_must_be_named(tmp_path):
    path = tmp_path / "plain.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(weights.WeightsError, match="does not say which detector"):
        dfmodels.load(path)


def test_values_that_are_no_tensors(tmp_path):
    path = tmp_path / "numbers.pth"
    torch.save({"a": 1}, path)
    with pytest.raises(weights.WeightsError, match="must hold a state dict"):
        dfmodels.build("ddl", weights=path)


def test_a_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    path = saved(tmp_path)
    before = path.read_bytes()

    def fail(tensors, target, metadata):
        target.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(weights, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        saved(tmp_path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["small.safetensors"]


def test_building_needs_no_weights_and_touches_no_random_state():
    torch.manual_seed(3)
    one = dfmodels.build("ddl", **SMALL["ddl"])
    torch.manual_seed(3)
    two = dfmodels.build("ddl", **SMALL["ddl"])
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    assert not one.trained
