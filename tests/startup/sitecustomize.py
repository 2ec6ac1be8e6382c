"""Run by Python at the start of the processes that tests start, most of which import Ray and torch.

With Python's thresholds a fifth of that goes into searching what is imported for garbage. With
those set here what is old is as good as never searched: such processes are short.
"""

import gc
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path

gc.set_threshold(100_000, 50, 1000)

# The machine's own, in place of which Python has found this one.
others = [folder for folder in sys.path if Path(folder) != Path(__file__).parent]
spec = PathFinder.find_spec("sitecustomize", others)
if spec is not None and spec.loader is not None:
    spec.loader.exec_module(module_from_spec(spec))
