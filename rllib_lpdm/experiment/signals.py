"""SIGTERM, by which batch systems and clusters end a run."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

GRACE = 60.0  # seconds


@contextmanager
def termination_as_interrupt() -> Iterator[list[int]]:
    """SIGTERM ends the run as Ctrl-C does; gives the list of the signals that arrived.

    Tune stops at the first SIGINT, and the second one ends the process at once. Where SIGTERM has
    ended Ray's processes too, so that Tune waits in vain, this one ends after GRACE seconds.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    patience = threading.Timer(GRACE, os._exit, (128 + signal.SIGTERM,))
    patience.daemon = True

    def terminate(number: int, frame: Any) -> None:
        if not received:
            patience.start()
        received.append(number)
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a script's shell starts with "&"
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield received
    finally:
        patience.cancel()
        signal.signal(signal.SIGTERM, before)
