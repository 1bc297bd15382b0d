"""NVIDIA's run-time compiler, called directly: it needs no GPU and no driver."""

import ctypes
from importlib import metadata

import pytest

PACKAGES = ("nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12")


def library() -> ctypes.CDLL:
    """The compiler of the wheel; skips the test if it is not installed (there is none for macOS)."""
    for package in PACKAGES:
        try:
            files = metadata.files(package) or []
        except metadata.PackageNotFoundError:
            continue
        for file in files:
            if file.name.startswith(("libnvrtc.so", "nvrtc64")) and "alt" not in file.name:
                return ctypes.CDLL(str(file.locate()))
    pytest.skip(f"no NVRTC: pip install {PACKAGES[0]}")


def compiled(code: str, options: tuple[str, ...]) -> tuple[bytes, str]:
    """Device code and log; fails the test with the log if `code` does not compile."""
    nvrtc = library()
    program = ctypes.c_void_p()
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), code.encode(), b"kernels.cu", 0, None, None) == 0
    arguments = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    result = nvrtc.nvrtcCompileProgram(program, len(options), arguments)
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    text = log.value.decode()
    assert result == 0, text
    nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size))
    binary = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetCUBIN(program, binary)
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return binary.raw, text
