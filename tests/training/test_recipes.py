"""Published recipes: rates step by step, and what augmentation does to a clip."""

import pytest
import torch
from torch import nn

from dfmodels.training import recipes
from tests.golden.run_stil import rates


def test_stil_rates():
    optimizer, schedule = recipes.stil(nn.Linear(1, 1), steps_per_epoch=4)
    group = optimizer.param_groups[0]
    assert (group["betas"], group["weight_decay"], group["amsgrad"]) == ((0.9, 0.999), 1e-5, False)
    expected = [0.25e-3, 0.5e-3, 0.75e-3, 1e-3] + [1e-3] * 20 + [1e-4] * 60 + [5e-5] * 6
    assert rates(optimizer, schedule, 90) == pytest.approx(expected)


def test_stil_rates_do_not_fall_below_the_lowest():
    learning_rate = 5e-6
    seen = rates(*recipes.stil(nn.Linear(1, 1), steps_per_epoch=2, learning_rate=learning_rate), steps=50)
    assert seen == pytest.approx([2.5e-6] + [5e-6] * 11 + [1e-6] * 38)
    seen = rates(*recipes.stil(nn.Linear(1, 1), steps_per_epoch=10), steps=1)
    assert seen == pytest.approx([1e-4])


def test_stil_needs_the_length_of_an_epoch():
    with pytest.raises(ValueError, match="steps_per_epoch must be at least 1, got 0"):
        recipes.stil(nn.Linear(1, 1), steps_per_epoch=0)


def test_stil_deepfakebench():
    optimizer, schedule = recipes.stil_deepfakebench(nn.Linear(1, 1))
    group = optimizer.param_groups[0]
    assert (group["betas"], group["weight_decay"]) == ((0.9, 0.999), 5e-4)
    assert rates(optimizer, schedule, 20) == [2e-4] * 20


def test_lsda():
    module = nn.Linear(1, 1)
    module.bias.requires_grad_(False)
    optimizer, schedule = recipes.lsda(module)
    (group,) = optimizer.param_groups
    assert group["params"] == [module.weight]
    assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.9, 0.999), 1e-8, 5e-4)
    assert rates(optimizer, schedule, 20) == [2e-4] * 20


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("shape", [(4, 3, 5, 6), (4, 5, 6)])
def test_stil_augment(dtype, shape):
    clip = torch.arange(torch.Size(shape).numel()).reshape(shape).remainder(251).to(dtype)
    before = clip.clone()
    outcomes = [clip, clip.flip(0), clip.flip(-1), clip.flip(0, -1)]
    counts = [0] * 4
    generator = torch.Generator().manual_seed(0)
    for _ in range(400):
        augmented = recipes.stil_augment(clip, generator)
        assert augmented.dtype == dtype
        counts[[torch.equal(augmented, outcome) for outcome in outcomes].index(True)] += 1
    assert all(70 <= count <= 130 for count in counts)
    assert torch.equal(clip, before)


def test_stil_augment_repeats_with_its_generator():
    clip = torch.rand(4, 3, 5, 6)
    drawn = [[recipes.stil_augment(clip, g) for _ in range(20)] for g in map(torch.Generator().manual_seed, (3, 3))]
    assert all(torch.equal(one, other) for one, other in zip(*drawn, strict=True))
    torch.manual_seed(3)
    assert torch.equal(recipes.stil_augment(clip), drawn[0][0])


def test_stil_augment_of_no_clip():
    with pytest.raises(ValueError, match=r"clip must be \(T, ..., H, W\), got shape \(5, 6\)"):
        recipes.stil_augment(torch.rand(5, 6))
