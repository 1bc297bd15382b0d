"""The update on a CUDA device: kernels in CUDA C++ and their launches. Nothing here imports CuPy (see `backend`).

`batch.cu` works around the library's batched transforms, for any shape of frames; `fused.cu` keeps each exit wave in shared
memory from the product to the change, for the shapes in :data:`source.FUSED`. Both do the arithmetic of
:mod:`streamptycho.solve.equations.batch`.
"""
