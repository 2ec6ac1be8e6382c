"""Commands as they are seen on a terminal."""

import fcntl
import os
import pty
import struct
import subprocess
import termios
from types import SimpleNamespace


def on_terminal(words, environment, cwd):
    """Runs a command on a terminal of 100 columns; its status, what it showed, and its errors."""
    environment = environment | {"TERM": "xterm-256color"}
    unwanted = ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "COLUMNS", "LINES")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    process = subprocess.Popen(
        words,
        cwd=cwd,
        env={k: v for k, v in environment.items() if k not in unwanted},
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:  # how Linux says that the other end is closed
        pass
    finally:
        os.close(ours)
    _, errors = process.communicate(timeout=900)
    return SimpleNamespace(status=process.returncode, shown=shown.decode(), errors=errors)
