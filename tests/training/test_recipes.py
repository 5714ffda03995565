"""Published recipes: rates step by step, and what augmentation does to a clip."""

import pytest
import torch
from torch import nn

from dfmodels.data.augmentation import HueSaturation, PCAColour, Rotate
from dfmodels.training.recipes import LSDA, STIL, Frame, STILDeepfakeBench
from dfmodels.training.recipes.stil import reverse_and_mirror
from tests.golden.run_stil import rates


def group_of(recipe):
    (group,) = recipe.optimizer(nn.Linear(1, 1)).param_groups
    return group


def test_stil_rates():
    group = group_of(STIL())
    assert (group["betas"], group["weight_decay"], group["amsgrad"]) == ((0.9, 0.999), 1e-5, False)
    expected = [0.25e-3, 0.5e-3, 0.75e-3, 1e-3] + [1e-3] * 20 + [1e-4] * 60 + [5e-5] * 6
    assert rates(STIL(), 4, 90) == pytest.approx(expected)


def test_stil_rates_do_not_fall_below_the_lowest():
    seen = rates(STIL(learning_rate=5e-6), 2, 50)
    assert seen == pytest.approx([2.5e-6] + [5e-6] * 11 + [1e-6] * 38)
    assert rates(STIL(), 10, 1) == pytest.approx([1e-4])


def test_stil_deepfakebench():
    recipe = STILDeepfakeBench()
    group = group_of(recipe)
    assert (group["betas"], group["weight_decay"]) == ((0.9, 0.999), 5e-4)
    assert rates(recipe, 3, 20) == [2e-4] * 20
    assert (recipe.epochs, recipe.batch_size, recipe.clips_per_video, recipe.frames_per_video) == (10, 8, 4, 32)


def steps(recipe):
    return [apply.transforms[0] for apply in recipe.augmentation().steps.transforms]


def test_augmentation_of_stil_deepfakebench():
    colours = steps(STILDeepfakeBench())[3].transforms
    assert {PCAColour, HueSaturation} <= {type(colour) for colour in colours}


def test_frame():
    recipe = Frame()
    group = group_of(recipe)
    assert (group["betas"], group["weight_decay"]) == ((0.9, 0.999), 5e-4)
    assert rates(recipe, 3, 20) == [2e-4] * 20
    assert (recipe.epochs, recipe.batch_size, recipe.clips_per_video, recipe.frames_per_video) == (10, 32, 32, 32)
    assert [step.degrees for step in steps(recipe) if isinstance(step, Rotate)] == [10.0]
    assert len(steps(recipe)[3].transforms) == 1


def test_frame_does_not_turn_faces_for_xception():
    recipe = Frame().with_settings({"model.encoder": "bench_xception"})
    assert not [step for step in steps(recipe) if isinstance(step, Rotate)]


def test_lsda():
    module = nn.Linear(1, 1)
    module.bias.requires_grad_(False)
    recipe = LSDA()
    assert (recipe.epochs, recipe.batch_size, recipe.clips_per_video) == (51, 4, 1)
    optimizer = recipe.optimizer(module)
    schedule = recipe.schedule(optimizer, 3)
    (group,) = optimizer.param_groups
    assert group["params"] == [module.weight]
    assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.9, 0.999), 1e-8, 5e-4)
    for _ in range(20):
        assert group["lr"] == 2e-4
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("shape", [(4, 3, 5, 6), (4, 5, 6)])
def test_stil_augmentation(dtype, shape):
    clip = torch.arange(torch.Size(shape).numel()).reshape(shape).remainder(251).to(dtype)
    before = clip.clone()
    outcomes = [clip, clip.flip(0), clip.flip(-1), clip.flip(0, -1)]
    counts = [0] * 4
    generator = torch.Generator().manual_seed(0)
    for _ in range(400):
        augmented = reverse_and_mirror(clip, generator)
        assert augmented.dtype == dtype
        counts[[torch.equal(augmented, outcome) for outcome in outcomes].index(True)] += 1
    assert all(70 <= count <= 130 for count in counts)
    assert torch.equal(clip, before)


def test_stil_augmentation_repeats_with_its_generator():
    clip = torch.rand(4, 3, 5, 6)
    drawn = [[reverse_and_mirror(clip, g) for _ in range(20)] for g in map(torch.Generator().manual_seed, (3, 3))]
    assert all(torch.equal(one, other) for one, other in zip(*drawn, strict=True))
    torch.manual_seed(3)
    assert torch.equal(reverse_and_mirror(clip), drawn[0][0])


def test_stil_augmentation_of_no_clip():
    with pytest.raises(ValueError, match=r"clip must be \(T, ..., H, W\), got shape \(5, 6\)"):
        reverse_and_mirror(torch.rand(5, 6))
