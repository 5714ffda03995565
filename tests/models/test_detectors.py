"""What holds for every registered detector; a new name is covered at once."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from types import MethodType

import pytest
import torch
from safetensors import safe_open
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import dfmodels
from dfmodels import weights

# options that make a detector small enough for a test, by name
SMALL = {
    "ddl": {
        "stem_channels": (8, 16),
        "widths": (16, 24, 24),
        "num_convs": (2, 1, 2),
        "strides": (2, 2, 1),
        "exit_channels": (24, 16),
        "fusion_channels": 32,
        "size": 48,
    },
    "frame": {"encoder": "test_efficientnet", "size": 48},
    "lsda": {"encoder": "plain", "channels": (8, 16, 24), "width": 32, "size": 48},
    "stil": {"layers": (1, 1), "planes": (32, 32), "stem_channels": (8, 16), "reduction": 4, "size": 48},
}


def small(name, seed=0, **options):
    torch.manual_seed(seed)
    model = dfmodels.build(name, **{**SMALL[name], **options})
    with torch.no_grad():  # gates start shut and filters tiny: open them, or most of the network would go unseen
        for parameter in model.parameters():
            if parameter.numel() == 1:
                parameter.fill_(0.8)
            elif parameter.dim() > 1:
                parameter.normal_(0, parameter[0].numel() ** -0.5)
    return model


def clips(model, count=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    height, width = model.contract.size
    return torch.rand(count, model.contract.num_frames, 3, height, width, generator=generator)


@pytest.fixture(params=dfmodels.list_models())
def model(request):
    return small(request.param)


def test_every_registered_name_has_a_small_configuration():
    assert set(SMALL) == set(dfmodels.list_models())


def test_logits_of_any_size_and_batch(model):
    model.eval()
    assert model(clips(model)).shape == (2, 2)
    assert model(clips(model)[..., :33, :41]).shape == (2, 2)
    assert model(clips(model)[:0]).shape == (0, 2)


def test_a_gradient_for_every_parameter(model):
    model.train()
    F.cross_entropy(model(clips(model)), torch.tensor([0, 1])).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not without


def test_clips_of_a_batch_do_not_touch_each_other(model):
    model.eval()
    both = clips(model)
    with torch.no_grad():
        torch.testing.assert_close(model(both)[1:], model(both[1:]), rtol=1e-4, atol=1e-5)


def test_one_value_where_several_are_wanted(model):
    several = [name for name, value in model.config.items() if isinstance(value, list) and name != "size"]
    for name in several:
        for wrong in (3, "34", None):
            with pytest.raises(ValueError, match=rf"{name} must be several values, as in \(1, 2\), got {wrong!r}"):
                dfmodels.build(model.name, **{**SMALL[model.name], name: wrong})


def test_input_is_left_unchanged(model):
    clip = clips(model)
    before = clip.clone()
    with torch.no_grad():
        model.eval()(clip)
        model.train()(clip)
    assert torch.equal(clip, before)


def test_inference_equals_evaluation_with_gradients(model):
    model.eval()
    clip = clips(model)
    with torch.no_grad():
        expected = model(clip)
    torch.testing.assert_close(model(clip), expected, rtol=1e-4, atol=1e-5)


def test_memory_layout_of_the_clip_does_not_matter(model):
    model.eval()
    clip = clips(model)
    strided = clip.transpose(3, 4).contiguous().transpose(3, 4)
    with torch.no_grad():
        torch.testing.assert_close(model(strided), model(clip))


def test_save_and_load(model, tmp_path):
    path = tmp_path / "detector.safetensors"
    model.train()(clips(model))  # moves the running statistics
    model.trained = True
    dfmodels.save(model, path, data="noise")
    again = dfmodels.load(path)
    assert again.config == model.config
    assert again.contract == model.contract
    assert again.trained
    assert not again.training
    model.eval()
    assert torch.equal(again.predict(clips(model)), model.predict(clips(model)))
    with safe_open(path, "pt") as file:
        meta = json.loads(file.metadata()["dfmodels"])
    assert meta["name"] == model.name
    assert meta["notes"] == {"data": "noise"}
    assert meta["version"]


def test_published_layout_loads_with_and_without_prefix(model, tmp_path):
    ours = model.state_dict()
    published = {key: ours[name][index].clone() for key, (name, index) in model.published_layout().items()}
    options = SMALL[model.name]
    for prefix in ("", "module."):
        path = tmp_path / f"checkpoint{prefix}.pth"
        torch.save({"state_dict": {prefix + key: value for key, value in published.items()}}, path)
        loaded = dfmodels.build(model.name, weights=path, **options)
        assert loaded.trained
        assert loaded.state_dict().keys() == ours.keys()
        for key, value in loaded.state_dict().items():
            assert torch.equal(value, ours[key]), key


def test_published_layout_covers_every_tensor_once(model):
    ours = model.state_dict()
    covered = dict.fromkeys(ours, 0)
    for name, index in model.published_layout().values():
        covered[name] += ours[name][index].numel()
    assert covered == {key: value.numel() for key, value in ours.items()}


def test_untrained_gives_no_verdict(model, tmp_path):
    for predict in (model.predict, model.predict_logits):
        with pytest.raises(RuntimeError, match="random weights"):
            predict(clips(model))
    with pytest.raises(ValueError, match="random weights"):
        dfmodels.save(model, tmp_path / "random.safetensors")
    assert not list(tmp_path.iterdir())


def test_predict_keeps_the_mode_and_returns_probabilities(model):
    model.trained = True
    model.train()
    probabilities = model.predict(clips(model))
    assert model.training
    assert probabilities.shape == (2,)
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    logits = model.predict_logits(clips(model))
    assert model.training
    assert logits.dtype == torch.float32
    assert not logits.requires_grad
    torch.testing.assert_close(logits, model.eval()(clips(model)).detach())
    assert torch.equal(probabilities, logits.softmax(1)[:, 1])


def read_everything(model, clip):
    maps = [x for values in model.attention_maps(clip).values() for x in values]
    return [model.predict_logits(clip), model.predict(clip), *maps]


def test_threads_share_a_detector_that_another_one_trains(model):
    model.trained = True
    clip = clips(model)
    expected = read_everything(model.eval(), clip)
    model.train()
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    modes, done = set(), threading.Event()

    def keep_training():
        while not done.is_set():
            model.train()
            modes.update(module.training for module in model.modules())

    with ThreadPoolExecutor(9) as pool:
        watcher = pool.submit(keep_training)
        try:
            results = list(pool.map(lambda _: read_everything(model, clip), range(24)))
        finally:
            done.set()
        watcher.result()
    for result in results:
        for value, reference in zip(result, expected, strict=True):
            torch.testing.assert_close(value, reference, rtol=1e-6, atol=1e-6)  # a convolution may share its sums
    assert modes == {True}
    assert all(buffer.equal(buffers[name]) for name, buffer in model.named_buffers())
    assert not any(p.grad is not None for p in model.parameters())


def test_a_read_is_right_in_any_mode(model):
    model.trained = True
    clip = clips(model)
    expected = read_everything(model.eval(), clip)
    children = list(model.modules())
    for trains in (lambda i: True, lambda i: i == 0, lambda i: i % 2 == 0):
        for i, module in enumerate(children):
            module.training = trains(i)
        with torch.inference_mode():
            found = read_everything(model, clip)
        assert all(map(torch.equal, found, expected))
        assert [module.training for module in children] == [trains(i) for i in range(len(children))]


def test_reads_call_hooks_and_methods_put_in_place_of_forward(model):
    model.trained = True
    model.train()
    seen = []
    for name, module in model.named_modules():
        module.register_forward_hook(lambda module, args, out, name=name: seen.append((name, module.training)))
    model.forward = MethodType(type(model).forward, model)
    model.predict(clips(model))
    assert {(name, False) for name in leaves(model)} <= set(seen)
    assert not any(training for _, training in seen)
    hooks = {name: len(module._forward_hooks) for name, module in model.named_modules()}
    model.attention_maps(clips(model))
    assert {name: len(module._forward_hooks) for name, module in model.named_modules()} == hooks


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_weights_of_another_type_read_clips_of_any(model, dtype):
    model.trained = True
    clip = clips(model)
    exact = model.predict(clip)
    for fast in (model, dfmodels.optimize(model)):
        fast.to(dtype)
        for given in (clip, clip.double(), clip.half()):
            logits = fast.predict_logits(given)
            assert logits.dtype == torch.float32
            torch.testing.assert_close(
                fast.predict(given), exact, rtol=0, atol=1e-3 if dtype == torch.float64 else 0.05
            )
            assert all(x.isfinite().all() for maps in fast.attention_maps(given).values() for x in maps)


def test_options_of_predict_reach_forward(model, monkeypatch):
    seen = []
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda clip, **options: seen.append(options) or forward(clip).double())
    model.trained = True
    assert model.predict(clips(model), detail=2).dtype == torch.float32
    model.predict_logits(clips(model), detail=3)
    assert seen == [{"detail": 2}, {"detail": 3}]


def test_wrong_clips(model):
    with pytest.raises(ValueError, match=r"clip must be \(B, T, 3, H, W\), got shape \(2, 3, 48, 48\)"):
        model(torch.rand(2, 3, 48, 48))
    with pytest.raises(TypeError, match=r"clip must be a floating-point tensor .* got torch.uint8"):
        model(clips(model).byte())
    with pytest.raises(ValueError, match="got shape"):
        model(clips(model)[..., :0])


def test_compiled_without_graph_breaks(model):
    model.eval()
    clip = clips(model, 1)
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(model, fullgraph=True)(clip), model(clip), rtol=1e-4, atol=1e-5)


def test_compiled_once_for_any_batch(model):
    model.eval()
    clip = clips(model, 3)
    compiled = torch.compile(model, fullgraph=True)
    with torch.no_grad():
        for count in (2, 3):
            batch = clip[:count].clone()
            torch._dynamo.mark_dynamic(batch, 0)
            with torch.compiler.set_stance("default" if count == 2 else "fail_on_recompile"):
                torch.testing.assert_close(compiled(batch), model(batch), rtol=1e-4, atol=1e-5)


def test_optimized_copy(model, tmp_path):
    model.train()(clips(model))  # moves the running statistics
    model.eval()
    model.trained = True
    before = {key: value.clone() for key, value in model.state_dict().items()}
    fast = dfmodels.optimize(model)
    assert not [m for m in fast.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    clip = clips(model, seed=1)
    with torch.no_grad():
        for view in (clip, clip[:1], clip[..., :36, :40], clip):  # weights are packed for one shape
            expected = model(view)
            assert (fast(view) - expected).abs().max() <= 1e-5 * expected.abs().max()
    torch.testing.assert_close(fast.predict(clip), model.predict(clip))
    assert not any(p.requires_grad for p in fast.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    with pytest.raises(RuntimeError, match="inference only"):
        fast.train()
    with pytest.raises(RuntimeError, match="takes no weights; load them into the model it was made from"):
        fast.load_state_dict(before)
    with pytest.raises(ValueError, match="cannot be saved; save the model it was made from"):
        dfmodels.save(fast, tmp_path / "fast.safetensors")
    assert dfmodels.optimize(fast).predict(clip).equal(fast.predict(clip))


def test_what_is_no_detector_is_not_optimized():
    with pytest.raises(TypeError, match="model must be a dfmodels detector, got Linear"):
        dfmodels.optimize(torch.nn.Linear(1, 1))


def leaves(model):
    """Modules that hold weights of their own, by name."""
    return {name: module for name, module in model.named_modules() if module._parameters}


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("grad", [True, False])
def test_every_layer_is_called_with_whole_clips_that_nothing_writes_over(model, mode, grad, monkeypatch):
    monkeypatch.setattr("dfmodels.layers.clips.FRAMES_IN_CACHE", 1)
    seen, model = {}, model.train(mode)

    def keep(name, args, out):
        tensors = [x for x in (*args, out) if isinstance(x, torch.Tensor)]
        seen.setdefault(name, []).append([(x, x.detach().clone()) for x in tensors])

    for name, module in model.named_modules():
        module.register_forward_hook(lambda module, args, out, name=name: keep(name, args, out))
    clip = clips(model)
    with torch.set_grad_enabled(grad):
        model(clip)
    assert leaves(model).keys() <= seen.keys()
    for name, calls in seen.items():
        assert len(calls) == (2 if name.endswith(("squeeze", "excite")) else 1), name
        assert all(x.equal(before) for call in calls for x, before in call), name


def operations(model, clip):
    with FlopCounterMode(display=False) as counter:
        model(clip)
    return counter.get_total_flops()


def test_counted_operations_are_those_of_the_layers(model):
    layers = []

    def count(module, args, out):
        layers.append(2 * out.numel() * module.weight[0].numel())

    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            module.register_forward_hook(count)
    clip = clips(model)
    with torch.no_grad():
        evaluated = operations(model.eval(), clip)
        assert sum(layers) <= evaluated < 1.5 * sum(layers)  # DDL has products that are no layers
        assert operations(model.train(), clip) == evaluated
    assert operations(model, clip) == pytest.approx(evaluated, rel=0.01)
    assert operations(model.eval(), clip) == pytest.approx(evaluated, rel=0.01)


class LowRank(torch.nn.Module):
    """A frozen convolution with a trained adapter beside it."""

    def __init__(self, conv):
        super().__init__()
        self.conv = conv
        self.down = torch.nn.Conv2d(conv.in_channels, 2, conv.kernel_size, conv.stride, conv.padding, bias=False)
        self.up = torch.nn.Conv2d(2, conv.out_channels, 1, bias=False)

    def forward(self, x):
        return self.conv(x) + self.up(self.down(x))


def test_a_wrapper_takes_the_place_of_any_convolution(model):
    clip = clips(model)
    with torch.no_grad():
        before = model.eval()(clip)
        for name, module in list(model.named_modules()):
            if type(module) is torch.nn.Conv2d and module.groups == 1:
                model.set_submodule(name, LowRank(module))
        outputs = [evaluated(clip) for evaluated in (model, dfmodels.optimize(model))]
        assert not torch.allclose(outputs[0], before, rtol=1e-2)
        torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-4, atol=1e-5)
    model.requires_grad_(False)
    adapters = [p for module in model.modules() if isinstance(module, LowRank) for p in module.up.parameters()]
    for parameter in adapters:
        parameter.requires_grad_(True)
    model(clip).sum().backward()
    assert all(parameter.grad.count_nonzero() for parameter in adapters)


def test_weights_of_another_network_are_refused_with_all_differences(model, tmp_path):
    path = tmp_path / "backbone.pth"
    known = next(iter(model.published_layout()))
    torch.save({known: torch.zeros(1, 2), "another.weight": torch.zeros(3)}, path)
    with pytest.raises(weights.WeightsError, match="missing") as caught:
        dfmodels.build(model.name, weights=path, **SMALL[model.name])
    message = str(caught.value)
    assert "backbone.pth" in message
    assert "1 unexpected: another.weight" in message
    assert f"1 wrongly shaped: {known} (1, 2), expected" in message
    assert "more" in message
