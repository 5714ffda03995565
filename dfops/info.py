"""`python -m dfops.info`: versions, how the libraries were built, and which kernel exists for which device."""

import platform

import torch

import dfops
from dfops import _extension


def operators() -> list[str]:
    """Names of the registered operators, the private backward ones included."""
    return sorted({schema.name.removeprefix("dfops::") for schema in torch._C._jit_get_all_schemas()
                   if schema.name.startswith("dfops::")})  # fmt: skip


def has_kernel(operator: str, device: str) -> bool:
    """Whether the loaded libraries hold a kernel of `operator` for "CPU" or "CUDA"."""
    return torch._C._dispatch_has_kernel_for_dispatch_key(f"dfops::{operator}", device)


def report() -> str:
    """The whole report as text."""
    build = _extension.build
    names = operators()
    width = max(map(len, names))
    lines = [
        f"dfops            {dfops.__version__}",
        f"python           {platform.python_version()}",
        f"torch            {torch.__version__} (CUDA {torch.version.cuda or 'none'})",
        f"built with torch {build.get('torch', 'unknown')} (CUDA {build.get('cuda') or 'none'})",
        f"architectures    {build.get('architectures') or 'none'}",
        f"CPU library      loaded, {_extension.cpu_path}",
        f"CUDA library     {'loaded' if _extension.cuda_loaded else 'not loaded'}, {_extension.cuda_reason}",
        f"GPUs visible     {_gpus()}",
        "",
        f"{'operator':{width}}  CPU  CUDA",
    ]
    for name in names:
        marks = ["yes" if has_kernel(name, device) else "no" for device in ("CPU", "CUDA")]
        lines.append(f"{name:{width}}  {marks[0]:3}  {marks[1]}")
    return "\n".join(lines)


def _gpus() -> str:
    if not torch.cuda.is_available():
        return "none"
    return ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))


if __name__ == "__main__":
    print(report())
