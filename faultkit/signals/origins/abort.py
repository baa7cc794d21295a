"""abort(), and why: assertions, glibc's checks, C++ exceptions, Rust panics."""

from __future__ import annotations

from collections.abc import Sequence

from faultkit.model import INFERRED, PROVEN, Frame
from faultkit.signals.case import Case
from faultkit.signals.model import ABORT
from faultkit.signals.names import SI_TKILL, SI_USER, SIGABRT
from faultkit.signals.origins import Origin
from faultkit.signals.origins._abort_message import Message, abort_message
from faultkit.signals.origins._calls_made import last_call
from faultkit.signals.origins._cxx_exception import uncaught
from faultkit.signals.origins._rust_panic import panic
from faultkit.signals.own import own_frames

SIGNALS = frozenset((SIGABRT,))
PRIORITY = 20
TERMINATE = ("std::terminate", "_ZSt9terminatev", "__cxa_call_terminate", "__cxxabiv1::__terminate",
             "_ZN10__cxxabiv111__terminate")  # fmt: skip
THROWS = ("__cxa_throw", "__cxa_rethrow", "std::rethrow_exception", "_ZSt17rethrow_exception")
SHOWN = 300  # characters of a message in the verdict


def explain(case: Case) -> Origin | None:
    """A SIGABRT that the process sent to itself, as abort() does."""
    if not case.by_itself or case.info.code not in (SI_TKILL, SI_USER) or not case.registers:
        return None
    names = [name for frame in case.frames for name in _names(frame.symbol)]
    called = "abort" in names
    if not called and not _by_tgkill(case):
        return None  # no C library's abort() does that: see sent.py
    place = _place(case)
    message = abort_message(case)
    if message is None and any("assert" in name for name in names):
        message = _assertion(case)
    if message is not None and message.cause != "terminate":
        return _by_message(message, place)
    if not called and {"raise", "pthread_kill", "kill", "tgkill"} & set(names):
        return None  # raise(SIGABRT): see sent.py
    terminates = any(name.startswith(TERMINATE) for name in names)
    found = _exception(case, terminates)
    if found is not None:
        return found
    found = _panic(case, names, place)
    if found is not None:
        return found
    if any(name.startswith("__sanitizer::") for name in names):
        where = f" in {place}" if place and not place.startswith("__") else ""
        return Origin(
            ABORT,
            "sanitizer",
            f"A sanitizer has found an error{where}, and ends the program: its report went to "
            "standard error, or to where log_path= says.",
            f"a sanitizer has found an error{where}",
            ("__sanitizer's functions are on the stack",),
            "look at its report",
        )
    if any(name.endswith(("handle_alloc_error", "rust_oom")) for name in names):
        return Origin(
            ABORT,
            "out-of-memory",
            f"Rust could not allocate memory{f', in {place}' if place else ''}, and ends the "
            "process then: the size was absurd, or the memory is used up.",
            "memory allocation failed",
            ("std::alloc::handle_alloc_error is on the stack",),
            "the size is on standard error; look where it comes from, and at ulimit -v",
        )
    if any("__cxa_pure_virtual" in name for name in names):
        return Origin(
            ABORT, "pure-virtual",
            f"A pure virtual function was called{_by(place)}: of an object that is being made or "
            "destroyed, or is no more.", "pure virtual function called",
            ("__cxa_pure_virtual is on the stack",),
        )  # fmt: skip
    if terminates:
        why = (
            "a std::thread was destroyed or assigned to while joinable, `throw;` came to be "
            "executed where none was handled, or the program calls it itself"
        )
        next_ = "look for a std::thread that is neither joined nor detached"
        if "__cxa_rethrow" in names:
            why, next_ = "`throw;` came to be executed where none was handled", ""
        return Origin(
            ABORT,
            "terminate",
            f"std::terminate() was called{_by(place)} without an exception: {why}.",
            "std::terminate() without an exception",
            ("std::terminate is on the stack",),
            next_,
        )
    if _is_go(case, names):
        return Origin(
            ABORT,
            "go-runtime",
            "Go's runtime has ended the process by SIGABRT, as GOTRACEBACK=crash wants it after a "
            "panic or a fatal error. The message and the goroutines' traces went to standard "
            "error.",
            "Go's runtime gave up (panic or fatal error)",
            ("the signal was sent by Go's runtime",),
            "look at the program's standard error; delve (dlv core) shows the goroutines",
        )
    by = f" by {place}" if place else ""
    if not called:
        by += ", or raise(SIGABRT): without symbols they look alike"
    left = "The C library left no message."
    if case.incomplete:
        left = "Why, the memory that this core lacks would tell."
    return Origin(
        ABORT,
        "abort",
        f"The program called abort(){by}. {left}",
        f"abort() called{f' by {place}' if place else ''}",
        ("abort is on the stack",) if called else (),
        "look at the caller of abort(), and at the program's log and standard error",
        PROVEN if called else INFERRED,
    )


def _by_tgkill(case: Case) -> bool:
    """Whether the signal may be abort()'s by the system call that it came in: a tgkill(), or what
    lets the signal through thereafter, which C libraries have done around it."""
    call = last_call(case)
    return case.info.code == SI_TKILL and (
        call is None or call.nr < 0 or call.name in ("tkill", "tgkill", "rt_sigprocmask")
    )


def _place(case: Case) -> str | None:
    """Where the program's own code was; None if all that is known is the very call to the kernel,
    which is a C library's without names."""
    own = own_frames(case.frames)
    if own and own[0] is case.frames[0] and not own[0].symbol:
        return None
    return case.own_place()


def _names(symbol: str | None) -> Sequence[str]:
    """A frame's function, as C++ and as symbol versions leave it."""
    if not symbol:
        return ()
    name = symbol.split("@")[0].split("(")[0]
    return (name[5:] if name.startswith("__GI_") else name,)


def _by(place: str | None) -> str:
    return f" by {place}" if place else ""


def _by_message(message: Message, place: str | None) -> Origin:
    said = message.text[: SHOWN - 3] + "..." if len(message.text) > SHOWN else message.text
    return Origin(
        ABORT,
        message.cause,
        f"{message.words}{f', in {place}' if place else ''}: the library's last words are "
        f'"{message.text}".',
        f"abort: {said}",
        (message.source,),
        message.next or "look at the caller of abort()",
    )


# Functions that end a program by an assertion: the registers of condition, file, line, function.
ASSERTIONS = {
    "__assert_fail": ("rdi", "rsi", "rdx", "rcx"),
    "_ZSt21__glibcxx_assert_failPKciS0_S0_": ("rcx", "rdi", "rsi", "rdx"),
    "_ZSt20__replacement_assertPKciS0_S0_": ("rcx", "rdi", "rsi", "rdx"),  # before GCC 12
}


def _assertion(case: Case) -> Message | None:
    """What such a function was given, where its caller's code shows it: musl and libstdc++ keep no
    message."""
    from faultkit.code.x86 import call_before
    from faultkit.signals.origins._stack_scan import text_at

    code = case.code
    steps = code.unwind(case.registers)
    for number, step in enumerate(steps[:-1]):
        symbol = code.symbol(step.code_address)
        registers = ASSERTIONS.get(symbol.name) if symbol is not None else None
        if symbol is None or registers is None:
            continue
        call = call_before(case.process.read, steps[number + 1].pc)
        if call is None:
            return None
        values = [code.argument(steps, number + 1, call.address, name) for name in registers]
        condition, file, line, function = (v.value if v is not None else 0 for v in values)
        said = text_at(case, condition)
        if not said:
            return None
        where = f"{text_at(case, file)}:{line}: {text_at(case, function)}"
        text = f"{where}: Assertion `{said}' failed."
        return Message(
            text,
            "assertion",
            "An assertion failed",
            "look at the condition, and at the variables of that function",
            f"they are what its caller gave {symbol.name}()",
        )
    return None


def _is_go(case: Case, names: Sequence[str]) -> bool:
    if any(name.startswith("runtime.") for name in names):
        return True
    image = case.code.images.at(case.registers.get("rip", 0))
    return image is not None and image.runtime == "go"


def _caller_of_abort(case: Case) -> Frame | None:
    """The function that called abort(), None if it can't be seen."""
    for frame, caller in zip(case.frames, case.frames[1:]):
        if "abort" in _names(frame.symbol):
            return caller
    return None


def _is_cxx_runtime(case: Case, caller: Frame | None) -> bool | None:
    """Whether a function without a name is in the image that has std::terminate; None if nobody
    can tell which that is."""
    places = case.code.addresses(TERMINATE[1])
    if caller is None or not places:
        return None
    at = case.code.images.at
    return at(caller.address) in [at(place) for place in places]


def _exception(case: Case, terminates: bool) -> Origin | None:
    sure, evidence = terminates, "std::terminate is on the stack"
    if not terminates:
        caller = _caller_of_abort(case)
        runtime = _is_cxx_runtime(case, caller)
        if runtime is False or (caller is not None and caller.symbol):
            return None
        sure, evidence = bool(runtime), "the C++ runtime called abort()"
    found = uncaught(case, sure)
    if found is None:
        return None
    what = f', which says "{found.what}"' if found.what else ""
    if not sure:
        return Origin(
            ABORT,
            "uncaught-exception",
            f"The program called abort() while a C++ exception was handled: {found.type}{what}. It "
            "was not caught, most likely; if it was, its handler called abort().",
            f"exception {found.type}{f': {found.what[:SHOWN]}' if found.what else ''}, "
            "most likely uncaught",
            ("an exception is being handled", "the exception's own header names its type"),
            "look where it is thrown: `catch throw` in gdb stops there",
            INFERRED,
        )
    return Origin(
        ABORT,
        "uncaught-exception",
        f"A C++ exception was not caught: {found.type}{what}. It was thrown{_by(_thrower(case))}, "
        "or came to a function that lets none through (noexcept, a thread's, a destructor).",
        f"uncaught exception {found.type}" + (f": {found.what[:SHOWN]}" if found.what else ""),
        (evidence, "the exception's own header names its type"),
        "look where it is thrown: `catch throw` in gdb stops there",
    )


def _thrower(case: Case) -> str | None:
    """Who threw, or called std::terminate: behind it on the stack is the terminate handler, which
    may be the program's own."""
    frames = case.frames
    thrown = [
        number
        for number, frame in enumerate(frames)
        if any(name.startswith((*TERMINATE, *THROWS)) for name in _names(frame.symbol))
    ]
    return case.own_place(frames[thrown[-1] + 1 :]) if thrown else None


def _panic(case: Case, names: Sequence[str], place: str | None) -> Origin | None:
    rust = any("panic" in name for name in names)
    caller = _caller_of_abort(case)
    if not rust and caller is not None and caller.symbol:
        return None
    found = panic(case)
    if found is None or not (rust or found.message):
        return None  # a place alone may be that of a panic which did not come
    message = f': "{found.message}"' if found.message else ""
    return Origin(
        ABORT,
        "rust-panic",
        f"Rust panic at {found.place}{message}; the program is built, or had to, abort at it "
        '(panic=abort, a panic in a destructor, or across extern "C").',
        f"Rust panic at {found.place}{message}",
        ("the stack leads to the panic's location" + (" and message" if found.message else ""),),
        "RUST_BACKTRACE=1 shows the way there",
        PROVEN if rust else INFERRED,
    )
