"""dfops.augment: draws, their distributions and errors; single augmentations against the operator's reference."""

import math

import pytest
import torch

import dfops
from dfops import augment, reference
from tests.strategies import DEVICES, LAYOUTS, lay_out, random_clip
from tests.tolerances import assert_matches

SHAPE = (5, 4, 3, 4, 6)
MANY = (3000, 4, 2, 1, 1)


def clip(shape=SHAPE, **kind):
    return random_clip(shape, **kind)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("granularity", ["sample", "channel"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "options",
    [
        {"transforms": range(5), "noise": "mixture", "mix_per": "map"},
        {"transforms": range(5), "partner": "permutation", "mix_weight": "uniform"},
        {"transforms": (0, 1)},
        {"transforms": ["rotation"]},
    ],
)
def test_draws_pass_into_the_operators_as_they_are(device, granularity, layout, dtype, options):
    z = clip(device=device, layout=layout, dtype=dtype, requires_grad=True)
    if options.get("noise") == "mixture":
        options = {**options, "mixture": (torch.ones(1, device=device), torch.full((1, 3), 0.5, device=device))}
    drawn = augment.draw(z, **options, granularity=granularity)
    values = [value for value in drawn if value is not None]
    assert all(not value.requires_grad and value.device == z.device for value in values)
    if drawn.noise is not None:
        assert drawn.noise.dtype == dtype
        assert layout == "strided" or drawn.noise.stride() == z.stride()
    for forward in (torch.autocast(device, enabled=False), torch.autocast(device, dtype=torch.bfloat16)):
        with forward:
            alone = dfops.latent_augment(z, *drawn, granularity=granularity)
            by_name = dfops.latent_augment(z, **drawn._asdict(), granularity=granularity)
            both = dfops.latent_augment_mix(z, **drawn._asdict(), granularity=granularity)[0]
        assert alone[0].dtype == both.dtype == dtype
        assert_matches(alone[0].flatten(0, 1), both[:, :3])
        assert all(torch.equal(x, y) for x, y in zip(alone, by_name, strict=True))
    mixed = augment.cross_domain_mixup(z, drawn.perm, drawn.mix_lam)
    assert_matches(mixed.flatten(0, 1), both[:, 3:])


@pytest.mark.parametrize("granularity", ["sample", "channel"])
def test_scalars_of_a_draw_pass_into_single_augmentations(granularity):
    z = clip()
    drawn = augment.draw(z, transforms=range(5), granularity=granularity)
    options = {"granularity": granularity}

    def each(id_):
        choice = torch.full_like(drawn.choice, id_)
        return dfops.latent_augment(z, choice, *drawn[1:], **options)[0]

    for function, id_ in SINGLE:
        assert_matches(function(z, drawn.lam, **options), each(id_))
    assert_matches(augment.affine_rotation(z, drawn.angle), each(4))
    assert_matches(augment.additive(z, drawn.lam, drawn.noise, drawn.sigma), each(2))
    if granularity == "channel":  # one sigma for all channels of a map beside one lam for each of them
        out = augment.additive(z, drawn.lam, drawn.noise, drawn.angle)
        assert_matches(out, z + (drawn.lam * drawn.angle[..., None])[..., None, None] * drawn.noise)
        rows = augment.additive(z.flatten(0, 1), drawn.lam.flatten(0, 1), drawn.noise.flatten(0, 1))
        assert_matches(rows, (z + drawn.lam[..., None, None] * drawn.noise).flatten(0, 1))
        with pytest.raises(
            ValueError, match=r"lam must be a number or have one for each map, \(5, 4\), got \(5, 4, 3\)"
        ):
            augment.difference(z, drawn.lam)


@pytest.mark.parametrize("function", [dfops.latent_augment, dfops.latent_augment_mix])
def test_transformations_have_names(function):
    z = clip()
    drawn = augment.draw(z, transforms=("difference", 2, "rotation"))._asdict()
    assert set(drawn["choice"].unique().tolist()) == {2, 3, 4}
    for id_, name in enumerate(("interpolation", "extrapolation", "additive", "difference", "rotation")):
        by_name, by_id = (
            function(z, **drawn | {"choice": choice})[0] for choice in (name, torch.full_like(drawn["choice"], id_))
        )
        assert torch.equal(by_name, by_id)
    names = "one of 'interpolation', 'extrapolation', 'additive', 'difference', 'rotation', got 'rotate'"
    with pytest.raises(ValueError, match=f"choice must be {names}"):
        function(z, **drawn | {"choice": "rotate"})
    with pytest.raises(ValueError, match=f"transforms must be {names}"):
        augment.draw(z, transforms=["rotate"])


@pytest.mark.parametrize("device", DEVICES)
def test_a_generator_decides_everything(device):
    z = clip(device=device)
    options = {"transforms": range(5), "mix_per": "map"}
    seeded = [augment.draw(z, generator=torch.Generator(device).manual_seed(seed), **options) for seed in (3, 3, 4)]
    before = torch.get_rng_state()
    for first, again, other in zip(*seeded, strict=True):
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
    augment.draw(z, generator=torch.Generator(device).manual_seed(0))
    augment.additive(z, generator=torch.Generator(device).manual_seed(0))
    augment.affine_rotation(z, generator=torch.Generator(device).manual_seed(0))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("pool", "without"), [((0, 1, 4), ("sigma", "noise")), ((2,), ("angle",)), ((3, 0), None)])
def test_a_pool_draws_only_what_it_needs(pool, without):
    drawn = augment.draw(clip(), transforms=pool)._asdict()
    missing = {name for name, value in drawn.items() if value is None}
    assert missing == set(without or ("sigma", "noise", "angle"))
    assert set(drawn["choice"].unique().tolist()) <= set(pool)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0.25, 0.25, 0.25, 0, 0.25]),
        ({"transforms": (3, 1)}, [0, 0.5, 0, 0.5, 0]),
        ({"transforms": (4, 0, 2), "transform_weights": (6, 3, 1)}, [0.3, 0, 0.1, 0, 0.6]),
        ({"transforms": (0, 1, 2), "transform_weights": (0, 1, 0)}, [0, 1, 0, 0, 0]),
    ],
)
def test_transforms_come_in_their_proportions(options, expected):
    counts = augment.draw(clip(MANY), **options).choice.flatten().bincount(minlength=5)
    shares = torch.tensor(expected, dtype=torch.float32)
    torch.testing.assert_close(counts / counts.sum(), shares, atol=0.02, rtol=0)
    assert torch.equal(counts == 0, shares == 0)


def test_scalars_have_their_distributions():
    drawn = augment.draw(clip(MANY))
    for name in ("lam", "sigma"):
        value = getattr(drawn, name)
        assert value.dtype == torch.float32
        assert 0 <= value.min() < 0.01
        assert 0.99 < value.max() < 1
        assert abs(value.mean() - 0.5) < 0.02
        assert abs(value.var() - 1 / 12) < 0.01
    assert not torch.equal(drawn.lam, drawn.sigma)
    assert drawn.angle.abs().max() <= math.pi / 6
    assert abs(drawn.angle.std() - math.pi / 6 / math.sqrt(3)) < 0.01
    assert abs(drawn.noise.mean()) < 0.03
    assert abs(drawn.noise.std() - 1) < 0.03


@pytest.mark.parametrize("per", ["group", "map"])
def test_mix_weights_have_their_distributions(per):
    z = clip((20000, 2, 1, 1, 1))
    shape = (20000,) if per == "group" else (20000, 2)
    beta, uniform = (augment.draw(z, mix_weight=kind, mix_per=per).mix_lam for kind in ("beta", "uniform"))
    # Beta(a, a) has variance 1 / (4 (2a + 1)), whose mean over a ~ U(0.5, 2) is ln(5 / 2) / 12
    for value, variance in ((beta, math.log(2.5) / 12), (uniform, 1 / 12)):
        assert value.shape == shape
        assert 0 <= value.min() <= value.max() <= 1
        assert abs(value.mean() - 0.5) < 0.01
        assert abs(value.var() - variance) < 0.003
    if per == "map":
        assert not torch.equal(beta[:, 0], beta[:, 1])


@pytest.mark.parametrize("domains", [0, 1, 2, 4, 7])
def test_cyclic_partners_are_one_cycle(domains):
    perm = augment.partners(torch.rand(50, domains))
    assert perm.dtype == torch.int64
    start = torch.zeros(50, 1, dtype=torch.int64)
    seen, at = [], start
    for _ in range(domains):
        at = perm.gather(1, at)
        seen.append(at)
    if domains > 0:
        assert torch.equal(torch.cat(seen, 1).sort(1).values, torch.arange(domains).expand(50, -1))
        assert torch.equal(at, start)


def test_every_other_domain_is_a_partner_equally_often():
    cyclic, permuted = (
        augment.draw(clip(MANY), partner=kind).perm[:, 1].bincount(minlength=4) / MANY[0]
        for kind in ("cyclic", "permutation")
    )
    torch.testing.assert_close(cyclic, torch.tensor([1 / 3, 0, 1 / 3, 1 / 3]), atol=0.04, rtol=0)
    torch.testing.assert_close(permuted, torch.full((4,), 0.25), atol=0.04, rtol=0)


def test_mixture_noise_has_the_variances_of_its_components():
    weights, variances = torch.tensor([0.7, 0.3]), torch.tensor([[0.25, 4.0], [9.0, 1.0]])
    drawn = augment.draw(clip(MANY), noise="mixture", mixture=(weights, variances))
    assert torch.equal(drawn.sigma, torch.ones_like(drawn.sigma))
    torch.testing.assert_close(drawn.noise.var((0, 1)).flatten(), weights @ variances, atol=0.25, rtol=0)
    # within a map all channels have one component: small in the first channel is large in the second
    squares = drawn.noise.flatten(0, 1).flatten(1).square()
    assert torch.corrcoef(squares.t())[0, 1] < -0.05


def test_components_are_counted_from_the_cumulated_weights():
    u = torch.tensor([[0.0, 0.25, 0.49], [0.5, 0.999, 1.0]])
    component = augment.mixture_components(u, torch.tensor([0.25, 0.25, 0.5]))
    assert component.tolist() == [[0, 1, 1], [2, 2, 2]]
    component = torch.tensor([[1, 0]])
    noise = augment.mixture_noise(torch.ones(1, 2, 2, 1, 1), component, torch.tensor([[1.0, 4.0], [9.0, 16.0]]))
    assert noise.flatten().tolist() == [3, 4, 1, 2]


SINGLE = [
    (augment.centrifugal_indirect, 0),
    (augment.centrifugal_direct, 1),
    (augment.difference, 3),
]


def expected(z, id_, lam, **arguments):
    maps = z if z.dim() == 5 else z[:, None]
    lam = torch.as_tensor(lam, dtype=z.dtype).expand(z.shape[: z.dim() - 3]).reshape(maps.shape[:2])
    if arguments.get("granularity") == "channel":
        lam = lam[..., None].expand(maps.shape[:3])
    return reference.latent_augment(maps, torch.full(maps.shape[:2], id_), lam, **arguments)[0].view_as(z)


@pytest.mark.parametrize(("function", "id_"), SINGLE)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("granularity", ["sample", "channel"])
@pytest.mark.parametrize("domains", [True, False])
def test_single_augmentations(function, id_, layout, granularity, domains):
    z = clip(layout=layout) if domains else clip((5, 1, 3, 4, 6), layout=layout)[:, 0]
    each = torch.rand(z.shape[: z.dim() - 3])
    for lam in (0.3, each):
        out = function(z, lam, granularity=granularity)
        assert out.stride() == z.stride()
        assert_matches(out, expected(z, id_, lam, granularity=granularity))
    torch.manual_seed(1)
    out = function(z, granularity=granularity)
    torch.manual_seed(1)
    assert_matches(out, expected(z, id_, torch.rand(each.shape), granularity=granularity))


@pytest.mark.parametrize("domains", [True, False])
def test_rotation_and_noise_alone(domains):
    z = clip() if domains else clip((5, 1, 3, 4, 6))[:, 0]
    each, noise = torch.rand(z.shape[: z.dim() - 3]), torch.randn(z.shape)
    maps = z.shape[:2] if domains else (5, 1)
    for angle in (0.4, each):
        turned = augment.affine_rotation(z, angle)
        assert_matches(turned, expected(z, 4, 0.0, angle=torch.as_tensor(angle).expand(each.shape).reshape(maps)))
    for sigma in (None, 0.5, each):
        scale = torch.as_tensor(1.0 if sigma is None else sigma).expand(each.shape)
        shape = (1, 1, 1)
        out = augment.additive(z, each, noise, sigma)
        assert_matches(out, z + (each * scale).reshape(*each.shape, *shape) * noise)
    torch.manual_seed(1)
    assert (augment.affine_rotation(z) != z).any()
    assert (augment.additive(z) != z).any()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_mixup_alone(layout):
    z = clip(layout=layout)
    perm = augment.partners(torch.rand(SHAPE[:2]))
    partner = torch.stack([group[index] for group, index in zip(z, perm, strict=True)])
    for mix_lam, shape in ((0.3, (1, 1)), (torch.rand(5), (5, 1)), (torch.rand(5, 4), (5, 4))):
        weight = torch.as_tensor(mix_lam).reshape(*shape, 1, 1, 1)
        out = augment.cross_domain_mixup(z, perm, mix_lam)
        assert_matches(out, weight * z + (1 - weight) * partner)
        if layout != "strided":
            assert out.stride() == z.stride()
    assert (augment.cross_domain_mixup(z) != z).any()


def test_single_augmentations_are_differentiable():
    z = clip((3, 2, 2, 2, 3), dtype=torch.float64, requires_grad=True)
    noise = torch.randn_like(z)
    for function in (
        lambda z: augment.centrifugal_direct(z, 0.4),
        lambda z: augment.centrifugal_indirect(z, 0.4),
        lambda z: augment.affine_rotation(z, 0.4),
        lambda z: augment.additive(z, 0.4, noise),
        lambda z: augment.difference(z, 0.4),
        lambda z: augment.cross_domain_mixup(z, torch.tensor([[1, 0]]).expand(3, 2), 0.4),
    ):
        assert torch.autograd.gradcheck(function, (z,))
    (grad,) = torch.autograd.grad(augment.centrifugal_direct(z, 0.4, detach_statistics=True).sum(), z)
    assert_matches(grad, torch.full_like(grad, 1.4))


def test_mixup_draws_its_partners():
    z = clip()
    drawn = [augment.cross_domain_mixup(z, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert augment.cross_domain_mixup(z[:0]).shape == (0, *SHAPE[1:])


@pytest.mark.cpu_kernels
@pytest.mark.parametrize("wrong", [4, -1])
def test_mixup_takes_no_map_of_a_neighbouring_group(wrong):
    with pytest.raises(RuntimeError, match="index"):
        augment.cross_domain_mixup(clip(), torch.full((5, 4), wrong))


def test_a_given_centroid_is_passed_on():
    z, centroid = clip(), torch.randn(SHAPE[1:])
    assert_matches(augment.centrifugal_direct(z, 0.5, centroid=centroid), expected(z, 1, 0.5, centroid=centroid))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"granularity": "map"}, "granularity must be 'sample' or 'channel', got 'map'"),
        ({"noise": "uniform"}, "noise must be 'scaled' or 'mixture', got 'uniform'"),
        ({"partner": "random"}, "partner must be 'cyclic' or 'permutation', got 'random'"),
        ({"mix_weight": "gamma"}, "mix_weight must be 'beta' or 'uniform', got 'gamma'"),
        ({"mix_per": "batch"}, "mix_per must be 'group' or 'map', got 'batch'"),
        ({"transforms": ()}, r"transforms must be different ids from 0 to 4 or names, at least one, got \(\)"),
        ({"transforms": (0, 5)}, r"transforms must be different ids from 0 to 4 or names, at least one, got \(0, 5\)"),
        ({"transforms": (1, 1)}, r"transforms must be different ids from 0 to 4 or names, at least one, got \(1, 1\)"),
        ({"transform_weights": (1, 2)}, r"transform_weights must be 4 numbers.*got \(1, 2\)"),
        ({"transform_weights": (1, 2, -1, 0)}, "transform_weights must be 4 numbers.*none negative"),
        ({"transform_weights": (0, 0, 0, 0)}, "transform_weights must be 4 numbers.*not all zero"),
        ({"noise": "mixture"}, "mixture must be given with noise=\"mixture\" and only then, got noise='mixture'"),
        ({"mixture": (torch.ones(1), torch.ones(1, 3))}, "mixture must be given with .*got noise='scaled'"),
        (
            {"noise": "mixture", "mixture": (torch.ones(1), torch.ones(1, 2))},
            r"variances must be \(K, C\) with C = 3, got shape \(1, 2\)",
        ),
        (
            {"noise": "mixture", "mixture": (torch.ones(1, 1), torch.ones(1, 3))},
            r"weights must be \(K,\) with K >= 1, got shape \(1, 1\)",
        ),
    ],
)
def test_draw_names_what_is_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        augment.draw(clip(), **options)


def test_errors():
    z = clip()
    with pytest.raises(ValueError, match=r"z must be \(G, D, C, H, W\), got shape \(3, 4\)"):
        augment.draw(torch.zeros(3, 4))
    with pytest.raises(TypeError, match="z must be a tensor, got tuple"):
        augment.draw(SHAPE)
    with pytest.raises(ValueError, match=r"z must be \(G, D, C, H, W\) or \(N, C, H, W\), got shape \(3, 4\)"):
        augment.centrifugal_direct(torch.zeros(3, 4))
    with pytest.raises(ValueError, match=r"lam must be a number or have one for each map, \(5, 4\), got \(5,\)"):
        augment.difference(z, torch.zeros(5))
    with pytest.raises(TypeError, match="angle must be a number or a tensor, got str"):
        augment.affine_rotation(z, "30")
    with pytest.raises(ValueError, match=r"noise must have the shape of z, \(5, 4, 3, 4, 6\), got \(5, 4, 3\)"):
        augment.additive(z, 0.5, torch.zeros(5, 4, 3))
    with pytest.raises(ValueError, match=r"perm must be \(G, D\) = \(5, 4\), got \(4, 5\)"):
        augment.cross_domain_mixup(z, torch.zeros(4, 5, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"mix_lam must be a number or have one for each map, \(5, 4\), got \(4,\)"):
        augment.cross_domain_mixup(z, None, torch.rand(4))
    with pytest.raises(ValueError, match=r"u must be \(G, D\), got shape \(4,\)"):
        augment.partners(torch.rand(4))
    with pytest.raises(ValueError, match=r"component must be \(G, D\) beside eps .* got shapes \(4, 5\) and"):
        augment.mixture_noise(z, torch.zeros(4, 5, dtype=torch.int64), torch.ones(2, 3))


def test_the_strided_layout_is_brought_to_a_dense_one():
    z = lay_out(clip(), "strided")
    assert_matches(augment.centrifugal_direct(z, 0.5), augment.centrifugal_direct(z.contiguous(), 0.5))
