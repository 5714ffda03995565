"""Layers that detectors share."""

import pytest
import torch
from torch.nn import Identity
from torch.nn import functional as F

from dfmodels.layers import convolution
from dfmodels.layers.convolution import ConvNorm


def unit(**options):
    torch.manual_seed(0)
    layer = ConvNorm(6, 8, (3, 1), **options).eval()
    with torch.no_grad():
        for name, value in layer.named_parameters():
            value.normal_(1 if name.endswith("weight") else 0, 0.5)
        layer.norm.running_mean.normal_()
        layer.norm.running_var.uniform_(0.5, 2)
    return layer


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"bias": True}])
def test_convolution_norm_residual_and_relu(monkeypatch, onednn, layout, options):
    monkeypatch.setattr(convolution, "_ONEDNN", onednn and convolution._ONEDNN)
    layer = unit(**options)
    x = torch.rand(3, 6, 7, 5).contiguous(memory_format=layout)
    plain = layer.norm(layer.conv(x))
    residual = torch.rand_like(plain)
    folded = unit(**options)
    folded.optimize_()
    assert folded.norm is None
    for relu in (False, True):
        for beside in (None, residual):
            expected = plain if beside is None else plain + beside
            expected = F.relu(expected) if relu else expected
            for candidate in (layer, folded):
                torch.testing.assert_close(candidate(x, residual=beside, relu=relu), expected)
                with torch.no_grad():
                    before = None if beside is None else beside.clone()
                    torch.testing.assert_close(candidate(x, residual=beside, relu=relu), expected)
                    assert beside is None or beside.equal(before)
                    mine = None if beside is None else beside.clone()
                    torch.testing.assert_close(candidate(x, residual=mine, relu=relu, overwrite=True), expected)
            layer.train()
            trained = layer.norm(layer.conv(x)) if beside is None else layer.norm(layer.conv(x)) + beside
            torch.testing.assert_close(
                layer(x, residual=beside, relu=relu, overwrite=True), F.relu(trained) if relu else trained
            )
            layer.eval()
            layer.load_state_dict(unit(**options).state_dict())  # training moved the running statistics


def test_a_residual_is_kept_for_the_backward_pass():
    layer = unit()
    residual = torch.rand(1, 8, 5, 5, requires_grad=True)
    out = layer(torch.rand(1, 6, 5, 5), residual=residual * 1, relu=True, overwrite=True)
    out.sum().backward()
    assert torch.equal(residual.grad, (out > 0).float())


def test_onednn_is_used_where_it_can_be():
    x, weight = torch.rand(1, 3, 4, 4), torch.rand(2, 3, 1, 1)
    assert not convolution._fuses(x, weight)
    with torch.no_grad():
        assert convolution._fuses(x, weight) == convolution._ONEDNN
        assert not convolution._fuses(x.double(), weight.double())
        assert not convolution._fuses(x[:0], weight)
        with torch.autocast("cpu"):
            assert not convolution._fuses(x, weight)


def test_results_of_children_are_not_written_over():
    layer = unit()
    kept = []
    layer.norm.register_forward_hook(lambda module, args, out: kept.append((out, out.clone())))
    x = torch.randn(2, 6, 5, 5)
    for residual in (None, torch.rand(2, 8, 5, 5)):
        for mode in (True, False):
            with torch.no_grad():
                layer.train(mode)(x, residual=residual, relu=True, overwrite=True)
    assert len(kept) == 4
    assert all(out.equal(before) and out.min() < 0 for out, before in kept)


class Doubled(torch.nn.Module):
    """A wrapper of a layer, as low-rank adapters are."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return 2 * self.layer(x)


@pytest.mark.parametrize("part", ["conv", "norm"])
def test_a_layer_that_is_more_than_a_layer_is_not_folded(part):
    x = torch.randn(2, 6, 5, 5)
    child = getattr(unit(), part)
    wrapped, hooked, parametrized = unit(), unit(), unit()
    setattr(wrapped, part, Doubled(child))
    getattr(hooked, part).register_forward_hook(lambda module, args, out: 2 * out)
    torch.nn.utils.parametrize.register_parametrization(getattr(parametrized, part), "weight", Doubled(Identity()))
    for layer in (wrapped, hooked, parametrized):
        expected = layer(x, relu=True)
        assert not expected.equal(unit()(x, relu=True))
        layer.optimize_()
        assert layer.norm is not None
        assert layer(x, relu=True).equal(expected)


def test_packed_weights_follow_the_layer():
    layer = unit()
    layer.optimize_()
    x = torch.randn(2, 6, 5, 5)
    with torch.no_grad():
        before = layer(x)
        assert (layer.conv.packed is not None) == convolution._ONEDNN
        layer.double().float()
        assert layer.conv.packed is None
        torch.testing.assert_close(layer(x), before)
