"""Image augmentation: every formula against NumPy or OpenCV, the draws, and what a group or clip shares."""

import colorsys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms import v2

from dfmodels.data.augmentation import (
    BenchAugmentation,
    BrightnessContrast,
    Downscale,
    GaussianBlur,
    GroupAugmentation,
    HueSaturation,
    PCAColour,
    Rotate,
    Sharpen,
    frame_augmentation,
    stil_bench_augmentation,
)

cv2 = pytest.importorskip("cv2")

HALF = 0.5 + 1e-3  # a value in the middle of two levels may be rounded either way


def images(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def smooth(height, width):
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return torch.from_numpy(np.rint(255 * np.stack((x, y, 1 - 0.5 * x))).astype(np.uint8))


def bilinear(a, size, axis):
    """Bilinear resize along one axis, half-pixel centres, clamped at the border."""
    length = a.shape[axis]
    at = np.clip((np.arange(size) + 0.5) * length / size - 0.5, 0, length - 1)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, length - 1)
    weight = (at - low).reshape((-1, *(1,) * (a.ndim - axis - 1)))
    return (1 - weight) * a.take(low, axis) + weight * a.take(high, axis)


def downscaled(image, factor):
    height, width = image.shape[1:]
    rows, columns = height // factor, width // factor
    down = np.arange(rows) * height // rows
    across = np.arange(columns) * width // columns
    small = image[:, down][:, :, across].astype(np.float64)
    return bilinear(bilinear(small, height, 1), width, 2)


def sharpened(image, a, lightness):
    padded = np.pad(image.astype(np.float64), ((0, 0), (1, 1), (1, 1)), mode="reflect")
    out = np.zeros(image.shape)
    for i in range(3):
        for j in range(3):
            weight = 1 - a + a * (8 + lightness) if i == j == 1 else -a
            out += weight * padded[:, i : i + image.shape[1], j : j + image.shape[2]]
    return np.clip(out, 0, 255)


sizes = st.tuples(st.integers(4, 41), st.integers(4, 41))
seeds = st.integers(0, 2**32 - 1)


@given(size=sizes, seed=seeds, a=st.floats(0.9, 1.1), b=st.floats(-0.1, 0.1))
def test_brightness_contrast(size, seed, a, b):
    image = images(3, *size, seed=seed)
    value = np.float32(a) * image.numpy().astype(np.float32) + np.float32(255 * b)
    want = np.floor(np.clip(value, 0, 255))
    np.testing.assert_array_equal(BrightnessContrast().transform(image, {"a": a, "b": b}).numpy(), want)


def test_brightness_contrast_saturates_and_rounds_down():
    image = torch.tensor([0, 1, 100, 200, 255], dtype=torch.uint8).expand(3, 1, 5)
    assert BrightnessContrast().transform(image, {"a": 1.1, "b": 0.1})[0, 0].tolist() == [25, 26, 135, 245, 255]
    assert BrightnessContrast().transform(image, {"a": 0.9, "b": -0.1})[0, 0].tolist() == [0, 0, 64, 154, 204]


@given(size=sizes, seed=seeds, factor=st.sampled_from([2, 4]))
def test_downscale(size, seed, factor):
    image = images(3, *size, seed=seed)
    got = Downscale().transform(image, {"factor": factor}).numpy()
    assert np.abs(got - downscaled(image.numpy(), factor)).max() <= HALF


@given(size=sizes, seed=seeds, a=st.floats(0.2, 0.5), lightness=st.floats(0.5, 1.0))
def test_sharpen(size, seed, a, lightness):
    image = images(3, *size, seed=seed)
    got = Sharpen().transform(image, {"a": a, "l": lightness}).numpy()
    assert np.abs(got - sharpened(image.numpy(), a, lightness)).max() <= HALF


def test_sharpen_reflects_without_repeating_the_edge():
    image = torch.full((3, 4, 4), 200, dtype=torch.uint8)
    image[:, 1, 1] = 250
    # The filter's sum is 1 - a + a l = 1, and the corner has the pixel (1, 1) as a neighbour four times.
    assert Sharpen().transform(image, {"a": 0.2, "l": 1.0})[0, 0, 0] == 200 - 0.2 * 4 * 50


@given(size=sizes, angle=st.floats(-10, 10))
def test_rotation(size, angle):
    height, width = size
    image = smooth(height, width)
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)
    pixels = image.permute(1, 2, 0).numpy()
    want = cv2.warpAffine(pixels, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    got = Rotate().transform(image, {"angle": angle}).permute(1, 2, 0).numpy()
    # OpenCV rounds places to 1/32 of a pixel, which steps of at most 255 / 3 levels multiply
    assert np.abs(got.astype(int) - want).max() <= 1 + 255 / (min(size) - 1) / 16


def test_rotation_by_a_right_angle_is_exact():
    image = images(2, 3, 9, 9)
    assert torch.equal(Rotate().transform(image, {"angle": 90.0}), image.rot90(1, (-2, -1)))


KERNELS = {3: (4, 8, 4), 5: (1, 4, 6, 4, 1), 7: (0.5, 1.75, 3.5, 4.5, 3.5, 1.75, 0.5)}  # in sixteenths


@given(size=sizes, seed=seeds, side=st.sampled_from(GaussianBlur.SIDES))
def test_blur(size, seed, side):
    image = images(2, 3, *size, seed=seed)
    want, margin = image.numpy().astype(float), side // 2
    for axis, pad in ((2, ((margin, margin), (0, 0))), (3, ((0, 0), (margin, margin)))):
        windows = np.lib.stride_tricks.sliding_window_view(
            np.pad(want, ((0, 0), (0, 0), *pad), mode="reflect"), side, axis
        )
        want = windows @ np.array(KERNELS[side]) / 16
    got = GaussianBlur().transform(image, {"side": side})
    assert np.abs(got.numpy() - want).max() <= HALF


@given(size=sizes, seed=seeds, a=st.tuples(*[st.floats(-0.3, 0.3)] * 3))
def test_pca_colour(size, seed, a):
    clip = images(2, 3, *size, seed=seed)
    colours = clip.numpy().transpose(1, 0, 2, 3).reshape(3, -1) / 255
    values, vectors = np.linalg.eigh(np.cov(colours, bias=True))
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(0), range(3)])
    shift = 255 * (vectors * values * a).sum(1)
    value = np.clip(clip.numpy() + shift[:, None, None], 0, 255)
    got = PCAColour().transform(clip, {"a": list(a)}).numpy()
    assert ((value - got > -1e-6) & (value - got < 1 + 1e-6)).all()


@given(seed=seeds, hue=st.floats(-40, 40), saturation=st.floats(-30, 30), value=st.floats(-20, 20))
def test_hue_and_saturation(seed, hue, saturation, value):
    image = images(3, 5, 6, seed=seed)
    got = HueSaturation().transform(image, {"hue": hue, "saturation": saturation, "value": value}).numpy()
    for before, after in zip(image.numpy().reshape(3, -1).T, got.reshape(3, -1).T, strict=True):
        h, s, v = colorsys.rgb_to_hsv(*(before / 255))
        if s > 0:
            s = min(max(s + saturation / 255, 0), 1)
        want = colorsys.hsv_to_rgb((h + hue / 360) % 1, s, min(max(v + value / 255, 0), 1))
        assert np.abs(after - 255 * np.array(want)).max() <= HALF


def test_ranges_of_the_draws():
    steps = [
        (BrightnessContrast(), "a", 0.9, 1.1),
        (BrightnessContrast(), "b", -0.1, 0.1),
        (Sharpen(), "a", 0.2, 0.5),
        (Sharpen(), "l", 0.5, 1.0),
        (Rotate(), "angle", -10, 10),
        (HueSaturation(), "hue", -40, 40),
        (HueSaturation(), "saturation", -30, 30),
        (HueSaturation(), "value", -20, 20),
    ]
    for step, name, low, high in steps:
        drawn = np.asarray([step.make_params([])[name] for _ in range(400)])
        assert low <= drawn.min() < low + 0.02 * (high - low), name
        assert high - 0.02 * (high - low) < drawn.max() <= high, name
        assert abs(drawn.mean() - (low + high) / 2) < 0.1 * (high - low), name
    factors = [Downscale().make_params([])["factor"] for _ in range(400)]
    assert set(factors) == {2, 4}
    assert 140 < factors.count(2) < 260


def test_jpeg_keeps_the_order_of_the_colours():
    image = smooth(48, 56)
    for quality in (40, 90):
        _, code = cv2.imencode(".jpg", image.permute(1, 2, 0).numpy()[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        want = cv2.imdecode(code, cv2.IMREAD_COLOR)[..., ::-1].astype(int)
        got = v2.functional.jpeg(image, quality).permute(1, 2, 0).numpy()
        assert np.abs(got - want).mean() < 1


def recorded(augmentation, monkeypatch):
    """Names and parameters of the steps that run, in order."""
    calls = []
    for apply in augmentation.steps.transforms:
        (step,) = apply.transforms

        def record(inpt, params, step=step, original=step.transform):
            calls.append((type(step).__name__, params))
            return original(inpt, params)

        monkeypatch.setattr(step, "transform", record)
    return calls


def test_five_steps_in_order(monkeypatch):
    augmentation = GroupAugmentation(1.0)
    calls = recorded(augmentation, monkeypatch)
    out = augmentation(image := images(3, 33, 30))
    names = ["BrightnessContrast", "RandomHorizontalFlip", "Downscale", "Sharpen", "JPEG"]
    assert [name for name, _ in calls] == names
    first, _, third, fourth, fifth = (params for _, params in calls)
    want = np.floor(np.clip(np.float32(first["a"]) * image.numpy() + np.float32(255 * first["b"]), 0, 255))
    want = np.rint(downscaled(want[:, :, ::-1], third["factor"]))
    want = np.rint(sharpened(want, fourth["a"], fourth["l"])).astype(np.uint8)
    want = v2.functional.jpeg(torch.from_numpy(want), fifth["quality"])
    # Rounding in the middle of two levels may differ, which JPEG spreads over a block.
    assert (out.int() - want.int()).abs().float().mean() < 1


def test_each_step_runs_half_of_the_time(monkeypatch):
    augmentation = GroupAugmentation()
    calls = recorded(augmentation, monkeypatch)
    image = images(3, 8, 8)
    for _ in range(400):
        augmentation(image)
    names = [name for name, _ in calls]
    assert len(set(names)) == 5
    for name in set(names):
        assert 150 < names.count(name) < 250, name
    qualities = [params["quality"] for name, params in calls if name == "JPEG"]
    assert min(qualities) >= 40
    assert max(qualities) <= 100


def test_jpeg_qualities_include_both_ends():
    jpeg = next(a.transforms[0] for a in GroupAugmentation().steps.transforms if isinstance(a.transforms[0], v2.JPEG))
    assert {jpeg.make_params([])["quality"] for _ in range(2000)} == set(range(40, 101))


@given(size=sizes, num_images=st.integers(0, 3), seed=seeds, shared=st.booleans())
def test_shape_type_and_input_are_kept(size, num_images, seed, shared):
    image = images(*((num_images,) if num_images else ()), 3, *size, seed=seed)
    before = image.clone()
    torch.manual_seed(seed)
    out = GroupAugmentation(0.7, shared=shared)(image)
    assert out.shape == image.shape
    assert out.dtype == torch.uint8
    assert out.is_contiguous()
    assert torch.equal(image, before)
    torch.manual_seed(seed)
    # The draws follow from the state of the generator, whatever the strides.
    assert torch.equal(GroupAugmentation(0.7, shared=shared)(image.mT.contiguous().mT), out)


def test_images_of_a_group_are_independent():
    image = images(3, 24, 20)
    torch.manual_seed(5)
    out = GroupAugmentation()(image.expand(6, 3, 24, 20))
    torch.manual_seed(5)
    alone = GroupAugmentation()
    assert torch.equal(out, torch.stack([alone(image) for _ in range(6)]))
    assert len({tuple(one.flatten().tolist()) for one in out}) > 3


def test_shared_draws_serve_all_images():
    image = images(3, 24, 20)
    for seed in range(8):
        torch.manual_seed(seed)
        out = GroupAugmentation(shared=True)(image.expand(6, 3, 24, 20))
        assert torch.equal(out, out[:1].expand_as(out))
        torch.manual_seed(seed)
        assert torch.equal(out[0], GroupAugmentation()(image))


@pytest.mark.parametrize("shared", [False, True])
def test_without_steps_nothing_changes(shared):
    group = images(5, 3, 9, 7)
    assert torch.equal(GroupAugmentation(0.0, shared=shared)(group), group)


@pytest.mark.parametrize("shape", [(3, 8), (1, 8, 8), (8, 8, 3), (2, 5, 3, 8, 8), (3, 3, 8), (0, 3, 8, 8)])
def test_shape_errors(shape):
    with pytest.raises(ValueError, match="images must be"):
        GroupAugmentation()(torch.zeros(shape, dtype=torch.uint8))


def test_other_errors():
    with pytest.raises(TypeError, match=r"images must be uint8, got torch\.float32"):
        GroupAugmentation()(torch.zeros(3, 8, 8))
    with pytest.raises(ValueError, match=r"probability must lie in \[0, 1\], got 1.5"):
        GroupAugmentation(1.5)
    with pytest.raises(ValueError, match="at least 4 pixels high and wide, got 3 x 9"):
        Downscale((4,))(images(3, 3, 9))
    with pytest.raises(ValueError, match="at least 2 pixels high and wide, got 1 x 9"):
        Sharpen()(images(3, 1, 9))


@pytest.mark.parametrize(
    ("augmentation", "names"),
    [
        (frame_augmentation, ["RandomHorizontalFlip", "Rotate", "GaussianBlur", "RandomChoice", "JPEG"]),
        (lambda: frame_augmentation(0), ["RandomHorizontalFlip", "GaussianBlur", "RandomChoice", "JPEG"]),
        (stil_bench_augmentation, ["RandomHorizontalFlip", "Rotate", "GaussianBlur", "RandomChoice", "JPEG"]),
    ],
)
def test_steps_of_the_bench(augmentation, names):
    steps = [apply.transforms[0] for apply in augmentation().steps.transforms]
    assert [type(step).__name__ for step in steps] == names
    assert [apply.p for apply in augmentation().steps.transforms] == [0.5] * len(names)
    assert tuple(steps[-1].quality) == (40, 100)
    colours = [type(colour) for colour in steps[-2].transforms]
    several = augmentation is stil_bench_augmentation
    assert colours == ([BrightnessContrast, PCAColour, HueSaturation] if several else [BrightnessContrast])


@pytest.mark.parametrize("augmentation", [frame_augmentation, stil_bench_augmentation])
def test_frames_of_a_clip_share_the_draws_of_the_bench(augmentation):
    image = images(3, 24, 20)
    seen = set()
    for seed in range(12):
        torch.manual_seed(seed)
        out = augmentation()(image.expand(4, 3, 24, 20))
        assert out.shape == (4, 3, 24, 20)
        assert out.dtype == torch.uint8
        assert torch.equal(out, out[:1].expand_as(out))
        torch.manual_seed(seed)
        assert torch.equal(augmentation()(image), out[0])
        seen.add(tuple(out[0].flatten().tolist()))
    assert len(seen) > 8


def test_sides_of_the_blur_are_equally_likely():
    sides = [GaussianBlur().make_params([])["side"] for _ in range(600)]
    assert all(150 < sides.count(side) < 250 for side in (3, 5, 7))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"probability": 2}, r"probability must be a number in \[0, 1\], got 2"),
        ({"rotation": -1}, "rotation must be a number from 0 to 180, got -1"),
        ({"colours": ()}, r"colours must be at least one transform, got \(\)"),
    ],
)
def test_wrong_options_of_the_bench(options, message):
    with pytest.raises(ValueError, match=message):
        BenchAugmentation(**options)
