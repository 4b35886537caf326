"""SIGTERM, which schedulers send before they end a job: raised as an exception, or deferred."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS_TO_REPEAT = 0.05
"""Time after which a dropped exception is raised again."""


class Terminated(KeyboardInterrupt):
    """Raised on SIGTERM."""


@contextmanager
def termination_raised() -> Iterator[None]:
    """Raise Terminated on SIGTERM inside the block; processes forked there end as usual."""
    here = os.getpid()

    def stop(*_: object) -> None:
        if os.getpid() == here:
            raise Terminated
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)

    with _dropped_repeated(), handling(stop):
        yield


@contextmanager
def termination_deferred() -> Iterator[Callable[[], bool]]:
    """Defer SIGTERM to the end of the block; yields a function that tells whether it has arrived.

    For loops that save their state between steps. Off the main thread, signals are not touched.
    """
    came = False

    def note(*_: object) -> None:
        nonlocal came
        came = True

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    with handling(note):
        yield lambda: came
    if came:
        os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def handling(handler: Callable[..., object]) -> Iterator[None]:
    """Call the handler on SIGTERM inside the block."""
    before = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


@contextmanager
def _dropped_repeated() -> Iterator[None]:
    """Repeat SIGTERM or SIGINT inside the block if the exception of its handler was dropped.

    Python drops exceptions raised in `__del__` and in callbacks of weak references and of the garbage
    collector, and a handler may run in any of them. A timer repeats the signal outside of the callback
    and takes no lock, which the interrupted code might hold.
    """
    report, main = sys.unraisablehook, threading.main_thread()
    alarm = None

    def repeat(dropped: "sys.UnraisableHookArgs") -> None:
        nonlocal alarm
        stops = issubclass(dropped.exc_type, KeyboardInterrupt | SystemExit)
        if not stops or threading.current_thread() is not main:
            report(dropped)
            return
        interrupted = dropped.exc_type is KeyboardInterrupt
        number = signal.SIGINT if interrupted else signal.SIGTERM
        before = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(number))
        alarm = (before or signal.SIG_DFL) if alarm is None else alarm
        signal.setitimer(signal.ITIMER_REAL, SECONDS_TO_REPEAT)

    sys.unraisablehook = repeat
    try:
        yield
    finally:
        sys.unraisablehook = report
        if alarm is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, alarm)
