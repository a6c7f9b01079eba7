"""The first Ctrl-C stops, a second one hurries; operations in `hold` are finished."""

import signal

import pytest

from local.signals import Interrupted, Signals


def test_a_signal_interrupts():
    with pytest.raises(Interrupted) as interrupted:
        Signals().receive(signal.SIGTERM, None)
    assert interrupted.value.status == 143


def test_what_is_locked_is_finished_first():
    signals, done = Signals(), []

    def work():
        with signals.hold():
            signals.receive(signal.SIGINT, None)
            done.append(True)

    with pytest.raises(Interrupted):
        work()
    assert done


def test_while_closing_a_signal_only_hurries():
    signals = Signals()
    signals.close()
    assert signals.patience(10) == 10
    signals.receive(signal.SIGINT, None)
    assert signals.patience(10) < 1
