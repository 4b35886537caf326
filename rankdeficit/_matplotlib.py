"""The first import of matplotlib, which fails if MPLBACKEND names a backend that is not installed.

Notebooks pass the variable of their own environment on to the programs that they start. Figures are
rendered by Agg or as SVG here, so that any backend will do.
"""

import os
import sys
from contextlib import suppress


def import_matplotlib() -> None:
    """Import matplotlib, with the backend of MPLBACKEND where it is installed."""
    if "matplotlib" in sys.modules:
        return
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if backend:
        with suppress(ValueError):
            matplotlib.rcParams["backend"] = backend


import_matplotlib()
