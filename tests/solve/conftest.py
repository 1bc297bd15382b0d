"""The backend to test with."""

import shutil
from pathlib import Path

import pytest

from streamptycho.errors import BackendError
from streamptycho.solve.devices.backend import Backend, choose_backend


@pytest.fixture(params=["numpy", "cpu", pytest.param("cupy", marks=pytest.mark.gpu)])
def backend(request: pytest.FixtureRequest) -> Backend:
    """Readable and compiled on the CPU, and CuPy where there is a GPU."""
    try:
        return choose_backend(request.param)
    except BackendError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def kernel_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where CUDA kernels compiled for the CPU lie; one compilation for all tests."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ to run the CUDA kernels on the CPU with")
    return tmp_path_factory.mktemp("kernels")
