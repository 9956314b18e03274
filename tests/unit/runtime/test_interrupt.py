"""The stop flag that C reads, and Ctrl-C in the process with the conversation."""

from __future__ import annotations

import ctypes
import signal
import threading

from g4cli.runtime.engine.ctrl_c import CtrlC
from g4cli.runtime.llama.background import Background
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


def test_every_press_is_told() -> None:
    presses: list[bool] = []
    ctrl_c = CtrlC(lambda: presses.append(ctrl_c.is_set))
    with ctrl_c.listening():
        assert not ctrl_c.is_set
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert ctrl_c.is_set
    assert presses == [True, True]


def test_the_next_block_starts_afresh() -> None:
    ctrl_c = CtrlC(lambda: None)
    before = signal.getsignal(signal.SIGINT)
    with ctrl_c.listening():
        signal.raise_signal(signal.SIGINT)
    assert not ctrl_c.is_set
    assert signal.getsignal(signal.SIGINT) is before
    with ctrl_c.listening():
        assert not ctrl_c.is_set
    assert signal.getsignal(signal.SIGINT) is before


def test_a_press_before_an_inner_block_is_not_forgotten() -> None:
    ctrl_c = CtrlC(lambda: None)
    with ctrl_c.listening():
        signal.raise_signal(signal.SIGINT)
        with ctrl_c.listening():
            assert ctrl_c.is_set
        assert ctrl_c.is_set
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_in_another_thread_nothing_is_touched() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[object] = []

    def work() -> None:
        with CtrlC(lambda: None).listening():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_call_that_was_left_is_not_waited_for_against_the_users_will() -> None:
    """The second call cannot begin before the first has ended; Ctrl-C ends the wait for it."""
    interrupt, go_on = Interrupt(), threading.Event()
    background = Background(interrupt)

    def first() -> None:
        assert go_on.wait(30)

    interrupt.set()
    assert not background.run(first)
    assert background.is_abandoned
    assert not background.run(lambda: None), "the flag is still set"
    assert background.is_abandoned, "the first call is told to end"
    interrupt.clear()
    go_on.set()
    assert background.run(lambda: None)
