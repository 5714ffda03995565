"""Every detector without values, as an exported program, compiled for any size, and as an ONNX file."""

import json
import subprocess
import sys

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import dfmodels
from tests.models.test_detectors import small

# options that change what is computed, by detector
VARIANTS = {
    "ddl": [
        {},
        {"mask_rule": "lt"},
        {"num_keep": 5, "min_variance": 1e-6},
        {"capture_blocks": False, "aggregation_blocks": [True, False, True]},
    ],
    "frame": [{}, {"encoder": "bench_efficientnetb4"}, {"encoder": "bench_xception"}],
    "lsda": [
        {},
        {"encoder": "xception", "width": 512},
        {"encoder": "efficientnet_b4"},
        {"encoder": "efficientnet_b4", "padding": "same"},
    ],
    "stil": [
        {},
        {"backbone": "resnet50", "sim_exit": False},
        {"sim_pool": 2, "tim_difference": "both", "tim_kernel": [3, 3], "fusion": "t->s", "shift_init": "random"},
        {"tim_gate": "confidence", "fusion": "s+t", "supplement": "multiply", "clamp_pool": True},
        {"sim": False, "tim": False, "shift": False, "fusion": "none", "halves": "split"},
    ],
}
# tracing takes a time that grows with the depth
SHALLOW = {
    "ddl": {"widths": [16], "num_convs": [1], "strides": [2]},
    "frame": {},
    "lsda": {},
    "stil": {"layers": [1], "planes": [32]},
}
CASES = [
    pytest.param(name, options, id=f"{name}-{i}")
    for name, variants in VARIANTS.items()
    for i, options in enumerate(variants)
]
every_variant = pytest.mark.parametrize(("name", "options"), CASES)
every_detector = pytest.mark.parametrize("name", VARIANTS)
# torch before 2.14 makes what a strided pool leaves over a condition of what it traced
ANY_REST = torch.__version__ >= "2.14"


def test_every_registered_name_has_variants():
    assert sorted(VARIANTS) == sorted(dfmodels.list_models())


def frames_of(model):
    """Two numbers of frames that `model` takes: that of its contract, or any; not the 3 of the colours."""
    return (model.contract.num_frames,) * 2 if model.name == "ddl" else (4, 5)


def free(model):
    """The axes that may have any length."""
    axes = (0, 3, 4) if model.name == "ddl" else (0, 1, 3, 4)
    return (dict.fromkeys(axes, torch.export.Dim.DYNAMIC),)


def clips(model, *shapes):
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(b, t, 3, h, w, generator=generator) for b, t, h, w in shapes]


def examples(model, rest=ANY_REST):
    """The clip that is traced, and clips of other sizes."""
    t, other = frames_of(model)
    odd = [(2, other, 59, 71)] if rest else []
    return clips(model, (2, t, 48, 64), (3, other, 80, 48), (2, t, 64, 64), *odd)


@every_variant
@pytest.mark.parametrize("training", [False, True])
def test_without_memory(name, options, training):
    with torch.device("meta"):
        model = small(name, **options).train(training)
    clip = torch.empty(2, model.contract.num_frames, 3, 80, 96, device="meta")
    assert model(clip).shape == (2, 2)
    if training:
        model(clip).sum().backward()


@every_variant
def test_of_fake_tensors(name, options):
    with FakeTensorMode():
        model = small(name, **options).eval()
        clip = torch.rand(2, model.contract.num_frames, 3, 80, 96)
        with torch.no_grad():
            assert model(clip).shape == (2, 2)
        model.train()(clip).sum().backward()
    fast = dfmodels.optimize(small(name, **options))
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        assert fast(torch.rand(2, model.contract.num_frames, 3, 80, 96)).shape == (2, 2)


PROGRAM = """
import sys
import torch
import dfops
program, clips, logits = sys.argv[1:]
program = torch.export.load(program).module()
torch.save([program(clip) for clip in torch.load(clips)], logits)
assert "dfmodels" not in sys.modules
"""


@every_detector
def test_an_exported_program_runs_in_another_process_on_any_size(name, tmp_path):
    model = small(name, **SHALLOW[name]).eval()
    example, *others = examples(model)
    program = torch.export.export(model, (example,), dynamic_shapes=free(model))
    torch.export.save(program, tmp_path / "program.pt2")
    torch.save([example, *others], tmp_path / "clips.pt")
    subprocess.run(
        [sys.executable, "-c", PROGRAM, *(tmp_path / file for file in ("program.pt2", "clips.pt", "logits.pt"))],
        check=True,
    )
    for clip, logits in zip([example, *others], torch.load(tmp_path / "logits.pt"), strict=True):
        assert torch.equal(logits, model(clip)), clip.shape


@every_detector
def test_an_exported_program_can_train(name):
    model = small(name, **SHALLOW[name]).train()
    clip = examples(model)[0]
    trained = torch.export.export(model, (clip,)).module()
    actual, expected = trained(clip), model(clip)
    torch.testing.assert_close(actual, expected)
    parameters = dict(model.named_parameters())
    copies = dict(trained.named_parameters())
    ours = torch.autograd.grad(actual[:, 1].sum(), [copies[key] for key in parameters])
    for key, grad, want in zip(
        parameters, ours, torch.autograd.grad(expected[:, 1].sum(), parameters.values()), strict=True
    ):
        torch.testing.assert_close(grad, want, rtol=1e-4, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}")


@every_detector
def test_compiled_for_any_size(name):
    model = small(name, **SHALLOW[name]).eval()
    torch._dynamo.reset()
    compiled = torch.compile(model, dynamic=True, fullgraph=True, backend="aot_eager")
    first, *others = examples(model, rest=False)
    with torch.no_grad():
        compiled(first)
        with torch.compiler.set_stance("fail_on_recompile"):
            for clip in others:
                torch.testing.assert_close(compiled(clip), model(clip), rtol=1e-4, atol=1e-5)


@every_detector
@pytest.mark.slow
def test_inductor_compiles_for_any_size(name):
    model = small(name, **SHALLOW[name]).eval()
    torch._dynamo.reset()
    compiled = torch.compile(model, dynamic=True, fullgraph=True)
    with torch.no_grad():
        for clip in examples(model):
            torch.testing.assert_close(compiled(clip), model(clip), rtol=1e-4, atol=1e-5)


def run_onnx(path, clip):
    session = pytest.importorskip("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"clip": clip.numpy()})
    return torch.from_numpy(logits), session.get_modelmeta().custom_metadata_map


@every_detector
def test_onnx_file_runs_on_any_size(name, tmp_path):
    model = small(name, **SHALLOW[name])
    path = tmp_path / "detector.onnx"
    dfmodels.export_onnx(torch.nn.DataParallel(model), path, size=(48, 64))
    assert model.training
    model.eval()
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    for clip in examples(model, rest=True):
        logits, metadata = run_onnx(path, clip)
        torch.testing.assert_close(logits, model(clip).detach(), rtol=0, atol=1e-5)
    assert metadata["name"] == name
    assert json.loads(metadata["config"]) == model.config
    assert json.loads(metadata["contract"])["num_frames"] == model.contract.num_frames
    assert metadata["trained"] == "False"


def test_torch_exports_onnx_directly(tmp_path):
    model = small("stil", **SHALLOW["stil"]).eval()
    (clip,) = clips(model, (1, 3, 48, 64))
    with torch.no_grad():
        torch.onnx.export(
            model, (clip,), tmp_path / "x.onnx", input_names=["clip"], output_names=["logits"], dynamo=True
        )
    torch.testing.assert_close(run_onnx(tmp_path / "x.onnx", clip)[0], model(clip).detach(), rtol=0, atol=1e-5)


def test_onnx_needs_its_packages_and_a_detector(monkeypatch, tmp_path):
    with pytest.raises(TypeError, match="model must be a Detector or a wrapper of one, got Linear"):
        dfmodels.export_onnx(torch.nn.Linear(2, 2), tmp_path / "x.onnx")
    with pytest.raises(FileNotFoundError, match=r"cannot be written: the folder .*no does not exist"):
        dfmodels.export_onnx(small("lsda"), tmp_path / "no" / "x.onnx")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r"export_onnx needs ONNX Script .*\[onnx\]"):
        dfmodels.export_onnx(small("lsda"), tmp_path / "x.onnx")
