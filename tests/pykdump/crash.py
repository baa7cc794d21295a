"""PyKdump's C module `crash`, by its documentation, over faultkit.so's."""

import _faultkit

KVADDR, UVADDR, PHYSADDR = 1, 2, 4
Crash_run = _faultkit.about()["version"]
programs = {}  # name: (short, synopsis, help)


class error(Exception):
    pass


def _or(other, call, *arguments):
    try:
        found = call(*arguments)
    except _faultkit.Error as problem:
        raise error(str(problem)) from None
    return other if found is None else found


def readmem(address, size, space=KVADDR):
    if address == 0:
        raise IndexError("readPtr NULL pointer")
    if space == PHYSADDR:
        return _or(None, _faultkit.read_physical, address, size)
    assert space == KVADDR
    return _or(None, _faultkit.read, address, size)


def sym2addr(name):
    return _or(0, _faultkit.symbol, name)


def addr2sym(address, loose_match=False):
    found = _or((None, None, None), _faultkit.lookup, address)
    if loose_match:
        return found[:2]
    return found[0] if found[1] == 0 else None


def addr2mod(address):
    return _or((None, None, None), _faultkit.lookup, address)[2]


def struct_size(name):
    return _or(-1, _faultkit.size, name)


union_size = struct_size


def member_offset(name, member):
    return _or(-1, _faultkit.offset, name, member)


def member_size(name, member):
    return _or(-1, _faultkit.size, name, member)


def enumerator_value(name):
    found = _faultkit.enumerator(name)
    if found is None:
        raise error("no such enumerator")
    return found


def uvtop(task, address):
    physical, _ = _or(None, _faultkit.translate, task, address)
    if physical is None:
        raise error("uvtop failed")
    return physical


def exec_crash_command(command, no_stdout=0):
    text, problems = _or(None, _faultkit.run, command)
    if not text:
        raise error(problems)  # '' where there was none
    return text


def get_GDB_output(command):
    try:
        return _faultkit.gdb(command)[0]
    except _faultkit.Error:
        return None


def get_epython_cmds():
    return list(programs)


def register_epython_prog(name, short, synopsis, text):
    programs[name] = (short, synopsis, text)
    return True
