"""All CUDA source compiles for the devices it is meant for, and uses them as it should. No GPU is needed."""

import re

import pytest

from streamptycho.solve.cuda import source
from tests.solve.nvrtc import compiled

LIBRARY = {"prepare", "expose", "project", "apply", "finish"}
TARGETS = [("sm_80", 1), ("sm_90", 3), *(pytest.param(*p, marks=pytest.mark.slow) for p in [("sm_90a", 1), ("sm_90", 8)])]


def check(text: str, options: tuple[str, ...], target: str, kernels: set[str], threads: int) -> None:
    """Compiles without a warning, with just these kernels, each with registers enough for its threads."""
    always = (f"--gpu-architecture={target}", "--ptxas-options=-v", "--warning-as-error=all-warnings")
    binary, log = compiled(text, options + always)
    assert binary[:4] == b"\x7fELF"
    reports = dict(re.findall(r"Compiling entry function '(\w+)'.*?Used (\d+) registers", log, re.DOTALL))
    assert set(reports) == kernels, log
    assert all(int(count) * threads <= 65536 for count in reports.values()), log
    spilled = [int(count) for count in re.findall(r"(\d+) bytes spill stores", log)]
    assert len(spilled) == len(kernels)
    assert max(spilled) <= 512, f"registers that go to memory: {log}"


@pytest.mark.parametrize(("target", "modes"), TARGETS)
def test_the_library_path_compiles(target: str, modes: int):
    check(source.text(source.LIBRARY), source.options(modes), target, LIBRARY, source.THREADS)


ALONE = [kernel for kernel in source.FUSED if kernel.team == 1]


@pytest.mark.parametrize("kernel", ALONE, ids=lambda kernel: str(kernel.side))
def test_the_fused_path_compiles_without_clusters(kernel: source.FusedKernel):
    check(source.text(source.ON_CHIP), source.options(1) + kernel.options, "sm_80", {"fused"}, kernel.threads)


@pytest.mark.parametrize(("target", "modes"), TARGETS[1:])
@pytest.mark.parametrize("kernel", source.FUSED, ids=lambda kernel: f"{kernel.side}x{kernel.team}")
def test_the_fused_path_compiles(kernel: source.FusedKernel, target: str, modes: int):
    check(source.text(source.ON_CHIP), source.options(modes) + kernel.options, target, {"fused"}, kernel.threads)


def test_a_mistake_is_reported():
    with pytest.raises(AssertionError, match="undeclared_name"):
        compiled("__global__ void f(float* x) { *x = undeclared_name; }", ("--gpu-architecture=sm_80",))


def test_shared_memory_is_within_what_the_devices_have():
    """163 KB on compute capability 8.0, 227 KB on 9.0 for a block."""
    assert all(kernel.shared_bytes <= (163 if kernel.team == 1 else 227) * 1024 for kernel in source.FUSED)
