"""Declares the Cython extensions; everything else about the package is in pyproject.toml.

Environment: TILLSTREAM_CHECKED=1 builds the kernels with bounds and overflow checks, for the test suite's second pass.
"""

import os

from Cython.Build import cythonize
from setuptools import Extension, setup

KERNELS = ("award", "columns", "crediting", "crediting_members", "linear", "looking", "moving", "packing", "plain", "reversal", "watching")
CHECKED = os.environ.get("TILLSTREAM_CHECKED") == "1"

setup(
    ext_modules=cythonize(
        [Extension(f"tillstream.kernels.{name}", [f"kernels/{name}.pyx"]) for name in KERNELS],
        include_path=["kernels"],
        compiler_directives={
            "language_level": 3,
            "boundscheck": CHECKED,
            "wraparound": False,
            "overflowcheck": CHECKED,
            "initializedcheck": CHECKED,
            "cdivision": True,
            "embedsignature": True,
        },
        force=CHECKED,
        nthreads=os.cpu_count() or 1,
    ),
    options={"build_ext": {"parallel": True}},
)
