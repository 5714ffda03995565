"""Networks that no library holds: names, shapes, what is trained. Their numbers are golden cases."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from dfmodels.backbones.iresnet import IResNet
from dfmodels.backbones.xception import Xception

GOLDEN = Path(__file__).parents[1] / "golden"
SMALL = (2, 2, 2, 2)
NETWORKS = [
    pytest.param(IResNet, "lsda_iresnet100", 925, id="iresnet100"),
    pytest.param(lambda: IResNet(SMALL), "lsda_iresnet18_train", 187, id="iresnet18"),
    pytest.param(Xception, "lsda_xception", 283, id="xception"),
]


@pytest.mark.parametrize(("make", "case", "count"), NETWORKS)
def test_names_and_shapes_are_the_published_ones(make, case, count):
    published = json.loads((GOLDEN / f"{case}.keys.json").read_text())
    ours = {key: list(value.shape) for key, value in make().state_dict().items()}
    assert ours == published
    assert len(ours) == count


@pytest.mark.parametrize("make", [lambda: IResNet(SMALL), Xception], ids=["iresnet", "xception"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_sides_of_the_map(make, layout):
    network = make().eval().to(memory_format=layout)
    with torch.no_grad():
        for (h, w), (below_h, below_w) in {(112, 224): (3, 7), (256, 112): (8, 3), (224, 256): (7, 8)}.items():
            if isinstance(network, Xception):  # pads its strided layers
                below_h, below_w = (-(-side // 32) for side in (h, w))
            out = network(torch.rand(1, 3, h, w).contiguous(memory_format=layout))
            assert out.shape == (1, 512, below_h, below_w)
            assert out.is_contiguous(memory_format=layout)


def test_initialisation():
    torch.manual_seed(0)
    network = IResNet(SMALL)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            assert module.weight.std().item() == pytest.approx(0.1, rel=0.1)
            assert module.bias is None
        elif isinstance(module, nn.PReLU):
            assert torch.equal(module.weight, torch.full_like(module.weight, 0.25))


def is_trained(name):
    """The stem, the last layer and the last norm; `fc` and `features` never run."""
    return name.startswith(("conv1.", "bn1.", "prelu.", "layer4.", "bn2."))


@pytest.mark.parametrize("freeze_norms", [True, False])
def test_gradients_where_iresnet_is_trained(freeze_norms):
    network = IResNet(SMALL, freeze_norms=freeze_norms).train()
    network(torch.randn(2, 3, 64, 48)).sum().backward()
    for name, parameter in network.named_parameters():
        assert (parameter.grad is not None) == is_trained(name), name
        assert parameter.requires_grad == is_trained(name), name


def test_every_parameter_of_xception_that_runs_has_a_gradient():
    network = Xception().train()
    network(torch.randn(2, 3, 96, 80)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad != name.startswith("last_linear."), name


@pytest.mark.parametrize("freeze_norms", [True, False])
def test_norms_that_stay_in_inference_mode(freeze_norms):
    network = IResNet(SMALL, freeze_norms=freeze_norms)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    for mode in (network.train, network.eval, network.train):
        mode()
    network(torch.randn(2, 3, 32, 32))
    for name, value in network.state_dict().items():
        if "running" in name and not name.startswith("features."):
            moved = not (freeze_norms and name.startswith(("layer1.", "layer2.", "layer3.")))
            assert value.equal(before[name]) != moved, name
    assert not any(module.training for module in network.eval().modules())


@pytest.mark.parametrize("make", [lambda: IResNet(SMALL), Xception], ids=["iresnet", "xception"])
def test_images_do_not_mix(make):
    torch.manual_seed(0)
    network = make().double().eval()
    images = torch.randn(3, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        together, alone = network(images), network(images[1:2])
    torch.testing.assert_close(together[1:2], alone)
