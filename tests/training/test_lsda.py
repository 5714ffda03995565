"""The composition that trains LSDA: its forward, losses and options. Its numbers are the golden cases'."""

import pytest
import torch

import dfmodels
import dfops
from dfmodels.detectors.lsda import PlainEncoder
from dfmodels.training import LSDADistillation
from dfmodels.training.objectives import lsda as objective
from tests.models.test_detectors import SMALL, small

CHANNELS, WIDTH = SMALL["lsda"]["channels"], SMALL["lsda"]["width"]


def plain(width=WIDTH):
    return PlainEncoder(CHANNELS, width)


def distillation(domains=4, seed=0, real_encoder=None, **options):
    torch.manual_seed(seed)
    real_encoder = plain() if real_encoder is None else real_encoder
    return LSDADistillation(small("lsda"), [plain() for _ in range(domains)], real_encoder, **options)


def groups(count=3, domains=4, size=48, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, domains + 1, 3, size, size, generator=generator) * 2 - 1


def test_outputs_and_losses_of_any_number_of_domains():
    for domains, options in ((1, {"pull": (1,), "push": ()}), (2, {"pull": (1,), "push": (2,)}), (4, {})):
        training = distillation(domains, **options)
        outputs = training.training_forward(groups(3, domains))
        n = domains + 1
        shapes = {name: tuple(value.shape) for name, value in outputs.items()}
        maps = (3, domains, WIDTH, 6, 6)
        assert shapes["student"] == (3 * n, WIDTH, 6, 6)
        assert shapes["real"] == (3, n, WIDTH, 6, 6)
        assert shapes["forgery"] == shapes["augmented"] == shapes["mixed"] == shapes["fused"] == maps
        assert shapes["binary_logits"] == (3 * n, 2)
        assert shapes["domain_logits"] == (3 * n, n)
        losses = training.training_losses(outputs)
        assert losses.keys() == {"binary", "distill_real", "distill_fake", "distill", "domain", "real", "overall"}
        losses["overall"].backward()
        assert not [name for name, p in training.named_parameters() if p.grad is None]


def test_draws_follow_from_the_generator():
    training = distillation().eval()
    images = groups()

    def fused(seed):
        return training.training_forward(images, generator=torch.Generator().manual_seed(seed))["fused"]

    assert torch.equal(fused(1), fused(1))
    assert not torch.equal(fused(1), fused(2))


def test_joint_batches_and_those_of_each_position_agree_in_evaluation():
    images = groups()
    both = (distillation(real_batches=name).eval() for name in ("joint", "per_domain"))
    joint, single = (training.training_forward(images)["real"] for training in both)
    torch.testing.assert_close(joint, single)


def test_without_the_real_loss_the_real_encoder_sees_real_images_alone():
    training = distillation(real_weight=0)
    seen = []
    training.real_encoder.register_forward_hook(lambda module, args, out: seen.append(len(args[0])))
    outputs = training.training_forward(groups())
    losses = training.training_losses(outputs)
    assert seen == [3]
    assert outputs["real"].shape[:2] == (3, 1)
    assert "real" not in losses
    weighted = 0.5 * losses["binary"] + losses["distill"] + losses["domain"]
    torch.testing.assert_close(losses["overall"], weighted)


def test_weights_of_the_losses():
    training = distillation(real_weight=2.0, binary_weight=3.0, distill_weight=5.0, domain_weight=7.0)
    losses = training({"images": groups()})
    weighted = 2 * losses["real"] + 3 * losses["binary"] + 5 * losses["distill"] + 7 * losses["domain"]
    torch.testing.assert_close(losses["overall"], weighted)


def test_few_groups_are_warned_of():
    for options in ({}, {"preset": "deepfakebench"}, {"running_centroid": True}):
        training = distillation(**options)
        if options:
            training.training_forward(groups(2))
        else:
            with pytest.warns(UserWarning, match="images hold 2 groups: with fewer than 3"):
                training.training_forward(groups(2))


def test_running_centroid():
    training = distillation(running_centroid=True)
    first = training.training_forward(groups(seed=0))["centroid"].detach()
    assert torch.equal(training.centroid, first)
    second = training.training_forward(groups(seed=1))["centroid"].detach()
    torch.testing.assert_close(training.centroid, 0.9 * first + 0.1 * second)
    training.eval()
    training.training_forward(groups(seed=2))
    torch.testing.assert_close(training.centroid, 0.9 * first + 0.1 * second)


def test_the_running_centroid_is_part_of_the_state(tmp_path):
    training, other = (distillation(running_centroid=True, seed=seed) for seed in (0, 1))
    assert not [key for key in training.state_dict() if "centroid" in key]
    training({"images": groups()})
    state = training.state_dict()
    for _ in range(2):
        other.load_state_dict(state)
        assert torch.equal(other.centroid, training.centroid)
        other({"images": groups(seed=1)})
    other.load_state_dict(distillation().state_dict())
    assert other.centroid is None
    path = saved(tmp_path / "training.pth", {f"module.{key}": x for key, x in state.items()})
    other.load_checkpoint(path)
    assert torch.equal(other.centroid, training.centroid)
    student = dfmodels.build("lsda", weights=path, **SMALL["lsda"])
    assert torch.equal(student.head[2].weight, training.student.head[2].weight)
    kept = other.centroid
    with pytest.raises(ValueError, match="does not fit"):
        other.load_checkpoint(saved(tmp_path / "other.pth", distillation(2, pull=(1,), push=(2,)).state_dict()))
    assert other.centroid is kept
    other.load_checkpoint(saved(tmp_path / "without.pth", distillation().state_dict()))
    assert other.centroid is None


def saved(path, state):
    torch.save(state, path)
    return path


def test_channels_last_encoders_are_read_in_place():
    maps = [torch.rand(3, 8, 4, 5).to(memory_format=torch.channels_last) for _ in range(2)]
    stacked = objective.stack_maps(maps)
    assert torch.equal(stacked, torch.stack(maps, 1))
    assert stacked.stride(2) == 1
    for x in (stacked, stacked.contiguous()):
        anchor, others = objective.real_and_fakes(x)
        assert torch.equal(anchor, x[:, 0])
        assert torch.equal(others, x[:, 1:])


def test_the_released_preset():
    options = objective.PRESETS["deepfakebench"]
    assert (options.granularity, options.transforms, options.partner) == ("channel", (0, 1, 2, 3), "permutation")
    assert options.untrained_real_encoder
    training = distillation(preset="deepfakebench", detach_teacher=True)
    assert training.options.detach_teacher
    assert training.options.real_reduction == "sum"


def test_frozen_norms_of_the_real_encoder():
    for freeze in (True, False):
        training = LSDADistillation(small("lsda", width=512), [plain(512)], pull=(1,), push=(), freeze_norms=freeze)
        training.train()
        assert training.real_encoder.layer2.training is not freeze
        assert training.real_encoder.layer4.training


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: distillation(preset="cvpr"), "preset must be one of 'paper', 'deepfakebench', got 'cvpr'"),
        (lambda: distillation(noise="foo"), "noise must be 'scaled' or 'mixture', got 'foo'"),
        (lambda: distillation(transforms=("rotatoin",)), "transforms must be one of .*'rotation', got 'rotatoin'"),
        (lambda: distillation(granularity="pixel"), "granularity must be one of 'sample', 'channel', got 'pixel'"),
        (lambda: distillation(pull=(1,)), "push must be other positions than pull"),
        (lambda: distillation(2), "pull and push must be positions from 1 to 2 in a group"),
        (lambda: distillation(0), "forgery_encoders must hold at least one encoder, got none"),
        (
            lambda: distillation(real_encoder="resnet"),
            "real_encoder must be 'iresnet100', 'efficientnet_b4' or a module",
        ),
        (
            lambda: distillation()({"images": torch.rand(3, 4, 3, 48, 48)}),
            r"images must be \(G, D \+ 1 = 5, 3, H, W\), got \(3, 4",
        ),
        (
            lambda: distillation(real_encoder=PlainEncoder((8,), WIDTH))({"images": groups()}),
            r"one shape \(C, h, w\), got student \(32, 6, 6\), forgery \(32, 6, 6\), real \(32, 24, 24\)",
        ),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_unknown_options():
    with pytest.raises(TypeError, match="no option 'granularty'; did you mean 'granularity'"):
        distillation(granularty="sample")


def test_parts_of_another_kind():
    for student in ("lsda", small("ddl")):
        with pytest.raises(TypeError, match=f"student must be an lsda detector, got {type(student).__name__}"):
            LSDADistillation(student)
    with pytest.raises(ValueError, match=r"real_encoder must be .* or a module, got 3"):
        LSDADistillation(small("lsda"), real_encoder=3)


def test_operators_see_what_forward_hands_out():
    """Augmented and mixed maps are those of the operator for the draws given."""
    training = distillation().eval()
    images = groups()
    forgery = torch.stack([e(images[:, d + 1]) for d, e in enumerate(training.forgery_encoders)], 1)
    draws = training.options.draw(forgery, torch.Generator().manual_seed(3))
    outputs = training.training_forward(images, draws)
    arguments = (draws.choice, draws.lam, draws.sigma, draws.noise, draws.angle)
    torch.testing.assert_close(outputs["augmented"], dfops.latent_augment(forgery, *arguments)[0])
    mixed = draws.mix_lam[:, None, None, None, None]
    partner = torch.stack([z[perm] for z, perm in zip(forgery, draws.perm, strict=True)])
    torch.testing.assert_close(outputs["mixed"], mixed * forgery + (1 - mixed) * partner)
