"""A quick proof that an installed wheel works: every operator forward and backward on CPU tensors, and DDL.

With --cuda-library also: the CUDA library is loaded, and every operator has a kernel in it.
"""

import sys

import torch

import dfmodels
import dfops
from dfops import info, reference


def check(name: str, *tensors: torch.Tensor, **options: object) -> None:
    leaves = [t.requires_grad_() for t in tensors]
    results = [getattr(module, name)(*leaves, **options) for module in (dfops, reference)]
    for ours, expected in zip(*map(flat, results), strict=True):
        torch.testing.assert_close(ours, expected)
    grads = [
        torch.autograd.grad(sum(out.square().sum() for out in flat(r) if out.requires_grad), leaves) for r in results
    ]
    for ours, expected in zip(*grads, strict=True):
        torch.testing.assert_close(ours, expected)


def check_augmentation(name: str, z: torch.Tensor, **draws: torch.Tensor | None) -> None:
    outs = [getattr(module, name)(z, **draws)[0] for module in (dfops, reference)]
    torch.testing.assert_close(*outs)
    torch.testing.assert_close(*(torch.autograd.grad(out.square().sum(), z)[0] for out in outs))


def flat(result: object) -> list[torch.Tensor]:
    return [result] if isinstance(result, torch.Tensor) else [x for part in result for x in flat(part)]


def main() -> None:
    torch.manual_seed(0)
    x, y, z = (torch.randn(2, 8, 4, 6, 5, dtype=torch.float64) for _ in range(3))
    check("directional_difference", x, torch.randn(4, 3, dtype=torch.float64), axis="H")
    check("inconsistency_gate", x, y, z, torch.ones(1, dtype=torch.float64))
    check("interframe_difference", x, y)
    check("interframe_difference_sparse", x, y)
    check("paired_cosine", x[:, 0], x[:, 1:4], signs=(1.0, -1.0, 0.5))
    check("latent_rotate", x[0], torch.linspace(-0.4, 0.5, 8, dtype=torch.float64))
    check("strip_pool", x, torch.randn(3, 4, 3, dtype=torch.float64), axis="T")
    merge = [torch.randn(2, n, 4, 6, 5, dtype=torch.float64, requires_grad=True) for n in (8, 4, 2)]
    torch.testing.assert_close(dfops.strip_merge(merge, 8, axis="T"), reference.strip_merge(merge, 8, axis="T"))
    mixup = (x, torch.tensor([1, 1]), 0.3)
    torch.testing.assert_close(dfops.feature_mixup(*mixup), reference.feature_mixup(*mixup))
    groups = torch.randn(4, 3, 2, 6, 5, dtype=torch.float64, requires_grad=True)
    draws = dfops.augment.draw(groups)._asdict()
    perm, mix_lam = draws.pop("perm"), draws.pop("mix_lam")
    check_augmentation("latent_augment", groups, **draws)
    check_augmentation("latent_augment_mix", groups, perm=perm, mix_lam=mix_lam, **draws)
    model = dfmodels.build(
        "ddl", widths=(16, 16), num_convs=(1, 1), strides=(2, 1), stem_channels=(4, 8), fusion_channels=16
    )
    assert model(torch.rand(1, 8, 3, 32, 32)).shape == (1, 2)
    for name in info.operators():
        assert info.has_kernel(name, "CPU"), f"{name} has no CPU kernel"
        if "--cuda-library" in sys.argv:
            assert info.has_kernel(name, "CUDA"), f"{name} has no CUDA kernel"
    if "--cuda-library" in sys.argv:
        assert dfops.cuda_loaded()
    print(f"torch {torch.__version__}: {len(info.operators())} operators work")


if __name__ == "__main__":
    main()
