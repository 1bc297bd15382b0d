"""All CUDA source compiles for the devices it is meant for, and uses them as it should. No GPU is needed."""

import re

import pytest

from streamptycho.errors import BackendError
from streamptycho.solve.cuda import source
from tests.solve.nvrtc import compiled

KERNELS = {
    source.LIBRARY: {"prepare", "expose", "project", "apply", "finish"},
    source.ON_CHIP: {"fused_64", "fused_128", "fused_256"},
}


@pytest.mark.parametrize("names", [source.LIBRARY, source.ON_CHIP], ids=["library", "fused"])
@pytest.mark.parametrize(
    ("target", "modes"), [("sm_80", 1), ("sm_90", 3), ("sm_90a", 1), pytest.param("sm_90", 8, marks=pytest.mark.slow)]
)
def test_it_compiles_and_fits(names: tuple[str, ...], target: str, modes: int):
    options = (
        *source.options(modes),
        f"--gpu-architecture={target}",
        "--ptxas-options=-v",
        "--warning-as-error=all-warnings",
    )
    binary, log = compiled(source.text(names), options)
    assert binary[:4] == b"\x7fELF"
    expected = KERNELS[names] - ({"fused_256"} if target == "sm_80" else set())
    reports = dict(re.findall(r"Compiling entry function '(\w+)'.*?Used (\d+) registers", log, re.DOTALL))
    assert set(reports) == expected, log
    threads = source.FUSED_THREADS if names is source.ON_CHIP else source.THREADS
    assert all(int(count) * threads <= 65536 for count in reports.values()), log
    spilled = [int(count) for count in re.findall(r"(\d+) bytes spill stores", log)]
    assert len(spilled) == len(expected)
    assert max(spilled) <= 512, f"registers that go to memory: {log}"


@pytest.mark.slow
def test_it_compiles_with_the_transforms_of_mathdx():
    try:
        options = source.mathdx_options()
    except BackendError as error:
        pytest.skip(str(error))
    options = (*source.options(1), *options, "--gpu-architecture=sm_90", "--ptxas-options=-v")
    _, log = compiled(source.text(source.ON_CHIP_MATHDX), options)
    assert set(re.findall(r"Compiling entry function '(\w+)'", log)) == KERNELS[source.ON_CHIP], log


def test_without_the_package_mathdx_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(source, "find_spec", lambda name: None)
    with pytest.raises(BackendError, match=r"pip install .*mathdx"):
        source.mathdx_options()


def test_a_mistake_is_reported():
    with pytest.raises(AssertionError, match="undeclared_name"):
        compiled("__global__ void f(float* x) { *x = undeclared_name; }", ("--gpu-architecture=sm_80",))


def test_shared_memory_is_within_what_the_devices_have():
    """163 KB on compute capability 8.0, 227 KB on 9.0 for a block."""
    assert source.FUSED[128, 128].shared_bytes <= 163 * 1024
    assert all(kernel.shared_bytes <= 227 * 1024 for kernel in source.FUSED.values())
