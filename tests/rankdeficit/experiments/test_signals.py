"""Signals that arrive where Python drops the exceptions of their handlers."""

import os
import signal
import sys
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from rankdeficit.experiments.signals import Terminated, termination_deferred, termination_raised


class Thing:
    """What a weak reference refers to."""


def arrive_in_a_callback(number: signal.Signals) -> None:
    """Get a signal inside the callback of a weak reference."""
    thing = Thing()
    kept = weakref.ref(thing, lambda _: os.kill(os.getpid(), number))
    del thing
    assert kept() is None


@contextmanager
def unchanged() -> Iterator[None]:
    """Check that the block leaves the process's handlers as they were."""

    def found() -> list[object]:
        return [
            sys.unraisablehook,
            *map(signal.getsignal, (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)),
            signal.getitimer(signal.ITIMER_REAL),
        ]

    before = found()
    yield
    assert found() == before


def work(seconds: float) -> None:
    """Something long, in Python."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.001)


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)]
)
@pytest.mark.parametrize("times", [1, 3])
def test_a_signal_in_a_callback_is_not_lost(
    number: signal.Signals, raised: type[BaseException], times: int,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Each time that the exception was dropped it is raised again."""

    def run() -> None:
        for _ in range(times):
            arrive_in_a_callback(number)
        work(20)

    own = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with unchanged(), pytest.raises(raised) as stop, termination_raised():
            run()
    finally:
        signal.signal(signal.SIGINT, own)
    assert stop.type is raised
    assert capfd.readouterr().err == ""


def test_a_block_that_ends_first_leaves_no_alarm_behind() -> None:
    with unchanged(), termination_raised():
        arrive_in_a_callback(signal.SIGTERM)
    work(0.1)


def test_other_dropped_exceptions_are_reported_as_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda dropped: reported.append(dropped.exc_type))
    thing = Thing()
    with termination_raised():
        kept = weakref.ref(thing, lambda _: 1 // 0)
        del thing
    assert kept() is None
    assert reported == [ZeroDivisionError]


def test_a_deferred_signal_is_raised_at_the_end_wherever_it_came() -> None:
    seen = []

    def run() -> None:
        with termination_deferred() as came:
            seen.append(came())
            arrive_in_a_callback(signal.SIGTERM)
            seen.append(came())

    with pytest.raises(Terminated), termination_raised():
        run()
    assert seen == [False, True]
