"""Waits for pipes, sockets and polls: whoever has the other end."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from blocking import blocked, pids, programs, wait_of

from faultkit import waits
from faultkit.analyzers.deadlock import analyze
from faultkit.model import EVENT, FOUND, INFERRED, NOT_FOUND, OUTSIDE, PROVEN
from faultkit.procfs.machine import ProcMachine
from faultkit.procfs.process import ProcProcess
from faultkit.procfs.status import state
from faultkit.world import World

READ, WRITE, POLL, RECVFROM, SENDTO, CONNECT, ACCEPT = 0, 1, 7, 45, 44, 42, 288
SELECT, PSELECT, EPOLL_WAIT, EPOLL_PWAIT, PPOLL, RESTART = 23, 270, 232, 281, 271, 219

GDB = Path(__file__).parents[1] / "gdb_ext" / "faultkit.py"
PAUSE = "READY\nsignal.pause()"


@pytest.fixture
def run():
    with programs() as started:
        yield started


@pytest.fixture
def pipe():
    ends = os.pipe()
    yield ends
    for fd in ends:
        try:
            os.close(fd)
        except OSError:
            pass


def test_reader_of_an_empty_pipe_waits_for_the_writer(run, pipe):
    reader = run.start("READY\nos.read(int(sys.argv[1]), 1)", pipe[0], pass_fds=pipe[:1])
    writer = run.start(PAUSE, pass_fds=pipe[1:])
    os.close(pipe[0])
    os.close(pipe[1])
    wait = wait_of(reader, READ)
    assert (wait.lock.kind, wait.needs, wait.mode) == ("pipe", EVENT, "read")
    assert (wait.confidence, pids(wait.holders)) == (PROVEN, {writer.pid})
    assert wait.lock.name.startswith("pipe:[")


def test_a_process_with_both_ends_is_taken_as_an_inheritor(run, pipe):
    """This process, which has both ends, is not accused."""
    reader = run.start("READY\nos.read(int(sys.argv[1]), 1)", pipe[0], pass_fds=pipe[:1])
    writer = run.start(PAUSE, pass_fds=pipe[1:])
    wait = wait_of(reader, READ)
    assert (wait.confidence, pids(wait.holders)) == (INFERRED, {writer.pid})
    assert any(f"process {os.getpid()} has both ends" in line for line in wait.evidence)


def test_writer_to_a_full_pipe_waits_for_the_reader(run, pipe):
    writer = run.start(
        "READY\nos.write(int(sys.argv[1]), bytes(1 << 20))", pipe[1], pass_fds=pipe[1:]
    )
    reader = run.start(PAUSE, pass_fds=pipe[:1])
    os.close(pipe[0])
    os.close(pipe[1])
    wait = wait_of(writer, WRITE)
    assert (wait.mode, wait.needs, pids(wait.holders)) == ("write", EVENT, {reader.pid})


def test_any_of_several_writers_may_end_it(run, pipe):
    reader = run.start("READY\nos.read(int(sys.argv[1]), 1)", pipe[0], pass_fds=pipe[:1])
    writers = {run.start(PAUSE, pass_fds=pipe[1:]).pid for _ in range(2)}
    os.close(pipe[0])
    os.close(pipe[1])
    wait = wait_of(reader, READ)
    assert wait.any_of
    assert pids(wait.holders) == writers


SELF = """
r, w = os.pipe()
READY
os.read(r, 1)
"""


def test_own_pipe_that_nobody_else_has_is_a_self_wait(run):
    wait = wait_of(run.start(SELF), READ)
    assert (wait.holders, wait.confidence) == ((wait.task,), PROVEN)


def test_own_pipe_may_be_written_by_a_signal_handler(run):
    handling = "signal.signal(signal.SIGHUP, print)\nREADY"
    wait = wait_of(run.start(SELF.replace("READY", handling)), READ)
    assert (wait.needs, wait.holders) == (OUTSIDE, ())


def test_a_signal_handler_of_the_writer_may_answer(run, pipe):
    reader = run.start("READY\nos.read(int(sys.argv[1]), 1)", pipe[0], pass_fds=pipe[:1])
    writer = run.start("signal.signal(signal.SIGHUP, print)\n" + PAUSE, pass_fds=pipe[1:])
    os.close(pipe[0])
    os.close(pipe[1])
    wait = wait_of(reader, READ)
    assert (wait.confidence, pids(wait.holders)) == (INFERRED, {writer.pid})
    assert any("signal handler" in line for line in wait.evidence)


def test_own_pipe_among_threads_is_for_the_other_threads(run):
    program = run.start(
        SELF.replace("READY", "threading.Thread(target=signal.pause).start()\nREADY")
    )
    wait = wait_of(program, READ)
    assert (wait.needs, wait.holders) == (EVENT, ())
    assert wait.lock.key[:2] == ("private", program.pid)  # any thread of it may end the wait


SENDER = """
import socket
to, sent, reads = map(int, sys.argv[1:])
socket.send_fds(socket.socket(fileno=to), [b"x"], [sent])
READY
os.read(reads, 1)
"""


@pytest.mark.parametrize("kept", [False, True], ids=["by-nobody", "by-another"])
def test_a_write_end_that_was_sent_may_still_be_received(run, pipe, kept):
    """No process has what is on its way through a unix socket."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        receiver = run.start(PAUSE, pass_fds=[theirs.fileno()])
        reader = run.start(
            SENDER, ours.fileno(), pipe[1], pipe[0], pass_fds=[ours.fileno(), *pipe]
        )
        if kept:
            run.start(PAUSE, pass_fds=pipe[1:])
    os.close(pipe[0])
    os.close(pipe[1])
    wait = wait_of(reader, READ)
    assert (wait.needs, wait.holders) == (OUTSIDE, ())
    assert f"were sent to process {receiver.pid} " in wait.missing


# Orphans, which have nothing to do with the test's other programs
STRANGERS = """
import socket
ours, theirs = socket.socketpair()
if not os.fork():
    if not os.fork():
        ours.close()
        time.sleep(10)
        os._exit(0)
    theirs.close()
    socket.send_fds(ours, [b"x"], [0])
    time.sleep(10)
    os._exit(0)
os.wait4(-1, os.WNOHANG)
ours.close()
theirs.close()
time.sleep(0.5)
READY
os._exit(0)
"""


def test_what_strangers_send_each_other_is_no_doubt(run, pipe):
    run.start(STRANGERS).wait()
    reader = run.start("READY\nos.read(int(sys.argv[1]), 1)", pipe[0], pass_fds=pipe[:1])
    writer = run.start(PAUSE, pass_fds=pipe[1:])
    os.close(pipe[0])
    os.close(pipe[1])
    assert ProcMachine().descriptors().carrying()
    wait = wait_of(reader, READ)
    assert (wait.confidence, pids(wait.holders), wait.missing) == (PROVEN, {writer.pid}, None)


def test_fifo_by_two_paths(run, tmp_path):
    fifo, other = tmp_path / "fifo", tmp_path / "other"
    os.mkfifo(fifo)
    os.link(fifo, other)
    keep = os.open(fifo, os.O_RDWR)
    writer = run.start("f = os.open(sys.argv[1], os.O_WRONLY)\n" + PAUSE, other)
    reader = run.start("f = os.open(sys.argv[1], os.O_RDONLY)\nREADY\nos.read(f, 1)", fifo)
    os.close(keep)
    wait = wait_of(reader, READ)
    assert (wait.lock.kind, wait.lock.name) == ("pipe", str(fifo))
    assert pids(wait.holders) == {writer.pid}


def test_a_fifo_that_is_kept_open_waits_for_others(run, tmp_path):
    """As of a shell's `exec 3<>FIFO; cat <&3`."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    kept = os.open(fifo, os.O_RDWR)
    run.start(PAUSE, pass_fds=(kept,))
    reader = run.start("READY\nos.read(int(sys.argv[1]), 1)", kept, pass_fds=(kept,))
    os.close(kept)
    wait = wait_of(reader, READ)
    assert (wait.lock.name, wait.needs, wait.holders) == (str(fifo), OUTSIDE, ())


def test_opening_a_fifo_may_end_by_itself(run, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    wait = wait_of(run.start("READY\nos.open(sys.argv[1], os.O_RDONLY)", fifo), 257)
    assert (wait.lock.kind, wait.lock.name, wait.needs) == ("pipe", str(fifo), OUTSIDE)


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
def test_socketpair_leads_to_the_peer(run, kind):
    a, b = socket.socketpair(socket.AF_UNIX, kind)
    code = "s = socket.socket(fileno=int(sys.argv[1]))\nREADY\ns.recv(1)"
    one = run.start(code, a.fileno(), pass_fds=[a.fileno()])
    two = run.start(code, b.fileno(), pass_fds=[b.fileno()])
    a.close()
    b.close()
    first, second = wait_of(one, RECVFROM), wait_of(two, RECVFROM)
    assert (first.lock.kind, first.needs, first.confidence) == ("unix_socket", EVENT, PROVEN)
    assert (pids(first.holders), pids(second.holders)) == ({two.pid}, {one.pid})
    assert first.lock.key == second.lock.key
    assert first.lock.name == second.lock.name


def test_full_unix_socket_waits_for_the_receiver(run):
    a, b = socket.socketpair()
    one = run.start(
        "s = socket.socket(fileno=int(sys.argv[1]))\nREADY\ns.sendall(bytes(1 << 24))",
        a.fileno(), pass_fds=[a.fileno()],
    )  # fmt: skip
    two = run.start(PAUSE, pass_fds=[b.fileno()])
    a.close()
    b.close()
    wait = wait_of(one, SENDTO)
    assert (wait.mode, pids(wait.holders)) == ("write", {two.pid})


SERVER = """
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(int(sys.argv[2]))
READY
signal.pause()
"""


def test_unaccepted_unix_connection_waits_for_the_listener(run, tmp_path):
    path = tmp_path / "s.sock"
    server = run.start(SERVER, path, 5)
    client = run.start(
        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\nREADY\ns.recv(1)", path
    )
    wait = wait_of(client, RECVFROM)
    assert (wait.needs, pids(wait.holders)) == (EVENT, {server.pid})
    assert str(path) in wait.lock.name


def test_unix_connect_to_a_full_queue_waits_for_the_listener(run, tmp_path):
    path = tmp_path / "s.sock"
    server = run.start(SERVER, path, 0)
    code = "s = socket.socket(socket.AF_UNIX)\nREADY\ns.connect(sys.argv[1]); signal.pause()"
    run.start(code, path)
    wait = wait_of(run.start(code, path), CONNECT)
    assert (wait.needs, pids(wait.holders)) == (EVENT, {server.pid})
    assert wait.lock.name == f"connect to {path}"


@pytest.mark.parametrize(
    "family,address,shown",
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET6, "::1", "[::1]"),
        (socket.AF_INET6, "::ffff:127.0.0.1", "127.0.0.1"),
    ],
)
def test_loopback_tcp_leads_to_the_peer(run, family, address, shown):
    listener = socket.socket(family)
    listener.bind((address, 0))
    listener.listen()
    port = listener.getsockname()[1]
    server = run.start(
        """
        l = socket.socket(fileno=int(sys.argv[1]))
        READY
        c, _ = l.accept(); l.close(); c.recv(1)
        """,
        listener.fileno(),
        pass_fds=[listener.fileno()],
    )
    listener.close()
    target = address.replace("::ffff:", "")
    code = "s = socket.create_connection((sys.argv[1], int(sys.argv[2])))\nREADY\ns.recv(1)"
    client = run.start(code, target, port)
    one, two = wait_of(client, RECVFROM), wait_of(server, RECVFROM)
    assert (one.lock.kind, one.needs, one.confidence) == ("tcp_socket", EVENT, PROVEN)
    assert (pids(one.holders), pids(two.holders)) == ({server.pid}, {client.pid})
    assert one.lock.key == two.lock.key
    assert one.lock.name.endswith(f"<-> {shown}:{port}")


def test_tcp_that_nobody_accepted_waits_for_the_listener(run):
    server = run.start(
        """
        s = socket.create_server(("127.0.0.1", 0))
        print("ready", s.getsockname()[1], flush=True)
        signal.pause()
        """
    )
    code = "s = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\nREADY\ns.recv(1)"
    wait = wait_of(run.start(code, server.words[0]), RECVFROM)
    assert (wait.needs, pids(wait.holders)) == (EVENT, {server.pid})


def test_tcp_with_data_on_its_way_is_not_stuck(run):
    """The reader is stopped, as a debugger would, before it could take what has come."""
    listener = socket.create_server(("127.0.0.1", 0))
    code = "s = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\nREADY\ns.recv(1)"
    client = run.start(code, listener.getsockname()[1])
    seen = blocked(client, RECVFROM)
    peer, _ = listener.accept()
    assert waits.recognise(seen).needs == EVENT
    client.send_signal(signal.SIGSTOP)
    while state(client.pid) != "T":
        time.sleep(0.01)
    peer.send(b"x")
    wait = waits.recognise(seen._replace(world=World([seen.process])))
    assert (wait.needs, wait.holders) == (OUTSIDE, ())
    peer.close()
    listener.close()


def test_pipe_with_data_for_a_stopped_reader_is_not_stuck(run, pipe):
    """A debugger stops the reader; the writer answers, and then waits for it in turn."""
    reader = run.start("READY\nos.read(int(sys.argv[1]), 1)", pipe[0], pass_fds=pipe[:1])
    run.start(PAUSE, pass_fds=pipe[1:])
    seen = blocked(reader, READ)
    assert waits.recognise(seen).needs == EVENT
    reader.send_signal(signal.SIGSTOP)
    while state(reader.pid) != "T":
        time.sleep(0.01)
    os.write(pipe[1], b"x")
    seen.world.forget()
    wait = waits.recognise(seen)
    assert (wait.needs, wait.holders) == (OUTSIDE, ())


def test_a_receive_timeout_on_the_socket_is_seen(run):
    a, b = socket.socketpair()
    code = """
    s = socket.socket(fileno=int(sys.argv[1]))
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 60, 0))
    READY
    s.recv(1)
    """
    one = run.start(code, a.fileno(), pass_fds=[a.fileno()])
    run.start(PAUSE, pass_fds=[b.fileno()])
    a.close()
    b.close()
    wait = wait_of(one, RECVFROM)
    assert (wait.needs, wait.timed) == (EVENT, True)


def test_accept_and_udp_wait_for_the_outside(run):
    accept = run.start("s = socket.create_server(('127.0.0.1', 0))\nREADY\ns.accept()")
    udp = run.start(
        "s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('127.0.0.1', 0))\nREADY\ns.recv(1)"
    )
    wait = wait_of(accept, ACCEPT)
    assert (wait.lock.kind, wait.needs) == ("accept", OUTSIDE)
    assert wait_of(udp, RECVFROM).needs == OUTSIDE


POLLS = {
    "poll": (
        "p = select.poll()\nfor fd in fds: p.register(fd, select.POLLIN)\nREADY\np.poll()",
        (POLL, PPOLL),
    ),
    "select": ("READY\nselect.select(fds, [], [])", (SELECT, PSELECT)),
    "epoll": (
        "p = select.epoll()\nfor fd in fds: p.register(fd, select.EPOLLIN)\nREADY\np.poll()",
        (EPOLL_WAIT, EPOLL_PWAIT),
    ),
}
FDS = "fds = [int(fd) for fd in sys.argv[1:]]\n"


@pytest.mark.parametrize("call", POLLS)
def test_poll_leads_to_all_peers(run, pipe, call):
    code, numbers = POLLS[call]
    a, b = socket.socketpair()
    fds = [pipe[0], a.fileno()]
    poller = run.start(FDS + code, *fds, pass_fds=fds)
    writer = run.start(PAUSE, pass_fds=pipe[1:])
    peer = run.start(PAUSE, pass_fds=[b.fileno()])
    a.close()
    b.close()
    os.close(pipe[0])
    os.close(pipe[1])
    wait = wait_of(poller, *numbers)
    assert (wait.lock.kind, wait.needs, wait.any_of) == ("poll", EVENT, True)
    assert pids(wait.holders) == {writer.pid, peer.pid}


@pytest.mark.parametrize("call", POLLS)
def test_poll_of_one_pipe_is_a_wait_for_that_pipe(run, pipe, call):
    code, numbers = POLLS[call]
    poller = run.start(FDS + code, pipe[0], pass_fds=pipe[:1])
    writer = run.start(PAUSE, pass_fds=pipe[1:])
    os.close(pipe[0])
    os.close(pipe[1])
    wait = wait_of(poller, *numbers)
    assert (wait.lock.kind, pids(wait.holders)) == ("pipe", {writer.pid})


@pytest.mark.parametrize("count", (1, 6, 9, 128))  # as futex operations, some lock and wait
def test_poll_that_was_stopped_and_goes_on_is_still_one(run, pipe, count):
    """It then is restart_syscall, as calls with a timeout are."""
    fds = [pipe[0], *(os.dup(pipe[0]) for _ in range(count - 1))]
    poller = run.start(FDS + POLLS["poll"][0], *fds, pass_fds=fds)
    writer = run.start(PAUSE, pass_fds=pipe[1:])
    for fd in (*fds, pipe[1]):
        os.close(fd)
    seen = blocked(poller, POLL, PPOLL)
    poller.send_signal(signal.SIGSTOP)
    while state(poller.pid) != "T":
        time.sleep(0.01)
    poller.send_signal(signal.SIGCONT)
    wait = wait_of(poller, RESTART if seen.call.nr == POLL else PPOLL)
    assert (wait.needs, wait.timed, pids(wait.holders)) == (EVENT, False, {writer.pid})


@pytest.mark.parametrize("call", POLLS)
def test_poll_with_a_listening_socket_is_an_event_loop(run, pipe, call):
    code, numbers = POLLS[call]
    listener = socket.create_server(("127.0.0.1", 0))
    fds = [pipe[0], listener.fileno()]
    poller = run.start(FDS + code, *fds, pass_fds=fds)
    listener.close()
    wait = wait_of(poller, *numbers)
    assert (wait.needs, wait.holders) == (OUTSIDE, ())


@pytest.mark.parametrize("call", POLLS)
def test_poll_with_a_timeout_ends_by_itself(run, pipe, call):
    code, numbers = POLLS[call]
    timeout = {"poll": "p.poll(60000)", "select": "select.select(fds, [], [], 60)",
               "epoll": "p.poll(60)"}[call]  # fmt: skip
    head, _, _ = code.rpartition("\n")
    poller = run.start(FDS + head + "\n" + timeout, pipe[0], pass_fds=pipe[:1])
    wait = wait_of(poller, *numbers)
    assert (wait.needs, wait.timed) == (OUTSIDE, True)


def test_poll_with_a_self_pipe_may_be_woken_by_a_signal(run):
    code = "signal.signal(signal.SIGHUP, print)\nfds = os.pipe()[:1]\n" + POLLS["poll"][0]
    assert wait_of(run.start(code), POLL, PPOLL).needs == OUTSIDE


def found(*programs):
    """The verdict and the members' processes of `deadlock PID...`."""
    report = analyze([ProcProcess(program.pid) for program in programs], {"name": "test"})
    return report.verdict, [pids(w.task for w in finding.members) for finding in report.findings]


ANSWER = """
r, w, first = map(int, sys.argv[1:4])
READY
if first: os.write(w, b"x")
while True:
    os.read(r, 1)
    time.sleep(0.0005)
    os.write(w, b"x")
"""


def start_pair(run, code):
    (r1, w1), (r2, w2) = os.pipe(), os.pipe()
    one = run.start(code, r1, w2, 1, pass_fds=[r1, w2])
    two = run.start(code, r2, w1, 0, pass_fds=[r2, w1])
    for fd in (r1, w1, r2, w2):
        os.close(fd)
    return one, two


def test_two_that_answer_each_other_are_not_stuck(run):
    """Each is seen asleep in read() most of the time, but never both at once."""
    one, two = start_pair(run, ANSWER)
    for _ in range(30):
        assert found(one, two) == (NOT_FOUND, [])


def test_two_that_wait_for_each_others_answer_are_stuck(run):
    one, two = start_pair(run, ANSWER.replace("if first: os", "if False: os"))
    wait_of(one, READ)
    wait_of(two, READ)
    assert found(one) == (FOUND, [{one.pid, two.pid}])


def test_gdb_stops_one_of_two_that_answer_each_other(run):
    """The other one sends its answer to the stopped one, and waits for the next request."""
    one, _ = start_pair(run, ANSWER.replace("0.0005", "0.01"))
    command = ["gdb", "-nx", "-batch", "-p", str(one.pid), "-ex", f"source {GDB}", "-ex"]
    for _ in range(3):
        answer = subprocess.run([*command, "deadlock"], capture_output=True, text=True).stdout
        assert "VERDICT" in answer
        assert "DEADLOCK:" not in answer


def test_gdb_cuts_a_write_short(run):
    """Two that fill each other's pipe are stuck until gdb stops one: its write then ends."""
    one, two = start_pair(run, "w = int(sys.argv[2])\nREADY\nos.write(w, bytes(1 << 20))")
    wait_of(one, WRITE)
    wait_of(two, WRITE)
    assert found(one) == (FOUND, [{one.pid, two.pid}])
    command = ["gdb", "-nx", "-batch", "-p", str(one.pid), "-ex", f"source {GDB}", "-ex"]
    answer = subprocess.run([*command, "deadlock"], capture_output=True, text=True).stdout
    assert "VERDICT: INCONCLUSIVE" in answer
    assert f"thread {one.pid} was in the middle of a write to pipe" in answer
