"""A run on Ray ends in order: SIGTERM is Ctrl-C until it has ended."""

import signal
import threading

import pytest

from fedprune.simulations.engines.interrupt import terminable


def test_sigterm_interrupts_the_block_and_what_was_there_is_back_behind_it():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), terminable():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_outside_of_the_main_thread_nothing_changes():
    found = []

    def look():
        with terminable():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]
