"""The backend to test with."""

import pytest

from streamptycho.errors import BackendError
from streamptycho.solve.backend import Backend, choose_backend


@pytest.fixture(params=["numpy", "cpu", pytest.param("cupy", marks=pytest.mark.gpu)])
def backend(request: pytest.FixtureRequest) -> Backend:
    """Readable and compiled on the CPU, and CuPy where there is a GPU."""
    try:
        return choose_backend(request.param)
    except BackendError as error:
        pytest.skip(str(error))
