"""Signals that ask a process to end, collected while results are computed, so that these are saved first.

`process` handles the same signals at all other times.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lossatlas.errors import SIGNALS, Incomplete


@contextmanager
def signals() -> Iterator[list[int]]:
    """Collect the signals that ask this process to end, so that results are saved first.

    These are SIGTERM, SIGINT and those of batch systems (`errors.SIGNALS`), except ignored ones, as under nohup, and those
    with a handler of the user's, as a training framework installs.

    Yields:
        The numbers of the signals received so far; empty outside of the main thread, which alone can install handlers.
    """
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # nothing else may set handlers
        yield caught
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    ours = [number for number, handler in before.items() if ends_process(number, handler)]
    for number in ours:
        signal.signal(number, lambda n, _: caught.append(n))
    try:
        yield caught
    finally:
        for number in ours:
            signal.signal(number, before[number])


def stopped_by(number: int, more: str = "") -> Incomplete:
    """Return the error for a signal; `more` is appended to its message."""
    error = Incomplete(f"stopped by {signal.Signals(number).name}{more}")
    error.signal = number
    return error


def ends_process(number: int, handler: Any) -> bool:
    """Return whether the handler of a signal ends the process."""
    if handler in (signal.SIG_IGN, None):
        return False
    usual = (
        handler in (signal.SIG_DFL, signal.default_int_handler)
        or getattr(handler, "__module__", "") == "lossatlas.process"
    )
    return usual or number in (signal.SIGTERM, signal.SIGINT)
