"""Ctrl-C reaches C: the flag changes while Python does not run."""

from __future__ import annotations

import ctypes
import os
import signal
import threading

import pytest

from g4cli.runtime.llama.interrupt import Interrupt


def test_the_callback_reads_the_flag() -> None:
    prototype = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p)
    interrupt = Interrupt()
    callback = interrupt.callback(prototype)
    assert not callback(interrupt.data)
    interrupt.set()
    assert callback(interrupt.data)
    assert interrupt.is_set
    interrupt.clear()
    assert not callback(interrupt.data)


def test_a_press_sets_the_flag_while_the_main_thread_is_in_c() -> None:
    """The main thread waits in libc without running Python; only the watching thread can see the press."""
    interrupt = Interrupt()
    libc = ctypes.CDLL(None)
    seen = threading.Event()

    def press() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(2000):
            if interrupt.is_set:
                seen.set()
                return
            libc.usleep(1000)

    with interrupt.listening():
        thread = threading.Thread(target=press)
        thread.start()
        libc.usleep(300_000)  # may be cut short by the signal; join waits for the rest
        thread.join()
    assert seen.is_set()


def test_the_second_press_leaves() -> None:
    interrupt = Interrupt()
    with interrupt.listening():
        signal.raise_signal(signal.SIGINT)
        assert interrupt.is_set
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_the_next_block_starts_afresh() -> None:
    interrupt = Interrupt()
    with interrupt.listening():
        signal.raise_signal(signal.SIGINT)
    before = signal.getsignal(signal.SIGINT)
    with interrupt.listening():
        assert not interrupt.is_set
        signal.raise_signal(signal.SIGINT)
        assert interrupt.is_set
    assert signal.getsignal(signal.SIGINT) is before


def test_no_handler_stays_behind() -> None:
    before = signal.getsignal(signal.SIGINT)
    threads = threading.active_count()
    with Interrupt().listening():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
    assert threading.active_count() == threads


def test_in_another_thread_nothing_is_touched() -> None:
    outcome: list[bool] = []

    def work() -> None:
        with Interrupt().listening():
            outcome.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert outcome == [True]


def test_a_press_before_an_inner_block_is_not_forgotten() -> None:
    interrupt = Interrupt()
    with interrupt.listening():
        signal.raise_signal(signal.SIGINT)
        with interrupt.listening():
            assert interrupt.is_set
        assert interrupt.is_set
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
