"""SIGTERM, by which batch systems and clusters end a run."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

GRACE = 60.0  # seconds
received: list[int] = []  # what ends the present run
HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)  # here or by Tune


@contextmanager
def termination_as_interrupt() -> Iterator[list[int]]:
    """SIGTERM ends the run as Ctrl-C does; gives the list of the signals that arrived.

    Tune stops at the first SIGINT, and the second one ends the process at once. Where SIGTERM has
    ended Ray's processes too, so that Tune waits in vain, this one ends after GRACE seconds.

    Afterwards signals are handled as when it was entered, see :func:`handlers_kept`.
    """
    received.clear()
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

    with handlers_kept():
        signal.signal(signal.SIGTERM, terminate)
        try:
            yield received
        finally:
            patience.cancel()


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Puts back the handlers of signals that were changed meanwhile; in the main thread only.

    Tune leaves its own, which would keep the next Ctrl-C for the run that has ended.
    """
    before = {number: signal.getsignal(number) for number in HANDLED}
    try:
        yield
    finally:
        for number, handler in before.items():
            changed = signal.getsignal(number) is not handler
            if changed and handler is not None:  # None was set by other code than Python's
                signal.signal(number, handler)
