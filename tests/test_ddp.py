"""Training in two processes: DistributedDataParallel asks for a gradient of every parameter that requires one."""

import inspect
import traceback
import warnings
from dataclasses import fields

import torch
from torch import distributed, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from dfmodels.backbones.iresnet import IResNet
from dfmodels.detectors.lsda import PlainEncoder
from dfmodels.registry import builder
from dfmodels.training import LSDADistillation
from dfmodels.training.objectives.lsda import DistillationOptions
from tests.models.test_detectors import SMALL, clips, small

# every value of every option that changes what runs, by detector
VARIANTS = {
    "ddl": [
        {},
        {"num_classes": 3},
        {"num_frames": 5},
        {"num_keep": 1},
        {"mask_rule": "lt"},
        {"min_variance": 10.0},
        {"gamma": 1.0},
        {"capture_blocks": False},
        {"aggregation_blocks": False},
        {"capture_blocks": [True, False, True], "aggregation_blocks": [False, True, False]},
        {"widths": (16,), "num_convs": (1,), "strides": (1,), "exit_channels": (16,)},
    ],
    "frame": [
        {},
        {"encoder": "bench_efficientnetb4", "size": 64},
        {"encoder": "bench_efficientnetb4", "size": 64, "drop_path": 0.9},
        {"encoder": "bench_xception", "size": 64},
    ],
    "lsda": [
        {},
        {"encoder": "xception", "width": 512, "size": 64},
        {"encoder": "efficientnet_b4", "size": 64},
        {"encoder": "efficientnet_b4", "size": 64, "padding": "same", "drop_path": 0.9},
    ],
    "stil": [
        {},
        {"backbone": "resnet50"},
        {"num_classes": 3},
        {"halves": "split"},
        *({name: False} for name in ("sim", "sim_exit", "tim", "shift")),
        {"sim": False, "tim": False, "shift": False, "fusion": "none"},
        {"sim_pool": 2},
        {"tim_difference": "both"},
        {"tim_kernel": (1, 3)},
        {"tim_gate": "confidence"},
        *({"fusion": name} for name in ("t->s", "s+t", "none")),
        {"supplement": "multiply"},
        *({"shift_init": name} for name in ("identity", "random")),
        {"shift_divisor": 4},
        {"clamp_pool": True},
        {"num_frames": 1},
        {"preset": "deepfakebench"},
    ],
}
TRAININGS = [
    {},
    {"preset": "deepfakebench"},
    {"granularity": "channel"},
    *({"transforms": (i,)} for i in range(5)),
    {"noise": "mixture", "mixture": (torch.ones(2) / 2, torch.ones(2, SMALL["lsda"]["width"]))},
    {"partner": "permutation"},
    {"mix_weight": "uniform", "mix_per": "map"},
    {"detach_statistics": True},
    {"running_centroid": True},
    {"freeze_norms": False},
    {"real_batches": "per_domain"},
    {"real_loss": "js"},
    {"real_reduction": "sum"},
    *({f"{name}_weight": 0.0} for name in ("real", "binary", "distill", "domain")),
    {"detach_teacher": True},
    {"detach_teacher": True, "real_weight": 0.0},
]


def classify(model, rank):
    """A training step's loss of a detector."""
    clip = clips(model.module, seed=rank)
    return F.cross_entropy(model(clip), torch.tensor([0, 1]))


def distil(model, rank):
    """A training step's loss of LSDA's training."""
    side = model.module.student.contract.size
    images = torch.rand(3, 5, 3, *side, generator=torch.Generator().manual_seed(rank))
    return model({"images": images})["overall"]


def training(options, real_encoder=None, **student):
    """LSDA's training with the plain encoders of its student."""
    detector = small("lsda", **student)

    def encoder():
        return PlainEncoder(detector.config["channels"], detector.num_features)

    return LSDADistillation(detector, [encoder() for _ in range(4)], real_encoder or encoder(), **options)


def training_with_iresnet():
    return training({}, IResNet((1, 1, 1, 1)), channels=(8, 8, 8, 8, 8), width=512, size=64)


def step(model: nn.Module, loss, rank):
    """Two steps, as the second forward tells what got no gradient; the gradients agree in both processes."""
    model.train()
    wrapped = DistributedDataParallel(model)
    for _ in range(2):
        model.zero_grad()
        loss(wrapped, rank).backward()
    wanting = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not wanting, wanting
    total = sum(p.grad.double().sum() for p in model.parameters() if p.grad is not None)
    both = [torch.zeros_like(total) for _ in range(2)]
    distributed.all_gather(both, total)
    assert both[0] == both[1]


def walk(rank, folder):
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    failures = []
    jobs = [(f"{name} {o}", lambda n=name, o=o: small(n, **o), classify) for name in VARIANTS for o in VARIANTS[name]]
    jobs += [(f"training {o}", lambda o=o: training(o), distil) for o in TRAININGS]
    jobs += [("training with iresnet", training_with_iresnet, distil)]
    for name, make, loss in jobs:
        try:
            step(make(), loss, rank)
        except Exception:
            failures.append(f"{name}\n{traceback.format_exc()}")
    torch.save(failures, folder / f"failures-{rank}.pt")
    distributed.destroy_process_group()


def test_every_option_is_among_the_variants():
    for name, variants in VARIANTS.items():
        assert set(SMALL[name]).union(*variants) == set(inspect.signature(builder(name)).parameters)
    known = {field.name for field in fields(DistillationOptions)}
    of_losses = {"pull", "push", "transform_weights", "untrained_real_encoder"}  # weigh what runs in any case
    assert set().union(*TRAININGS) == known - of_losses | {"preset"}


def test_every_variant_trains_in_two_processes(tmp_path):
    torch.multiprocessing.spawn(walk, (tmp_path,), nprocs=2)
    for rank in range(2):
        failures = torch.load(tmp_path / f"failures-{rank}.pt")
        assert not failures, "\n\n".join(failures)
