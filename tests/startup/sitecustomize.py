"""Run by every Python process that a test starts, before anything else.

Most of them import Ray and torch, and with Python's thresholds a quarter of that time goes into
searching what they import for garbage.
"""

import gc

gc.set_threshold(200_000, 10, 10)
