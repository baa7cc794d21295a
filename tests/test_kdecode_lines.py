"""Inline chains of vmlinux and modules, against eu-addr2line."""

import pytest
from lab.kernels import kernel
from lines_oracle import (
    functions,
    lines,
    llvm_symbolizer,
    module_return_addresses,
    return_addresses,
    wrong,
)  # fmt: skip

from faultkit.debuginfo.debugfile import open_debug_file
from faultkit.debuginfo.find import Places
from faultkit.debuginfo.kernel import Kernel
from faultkit.debuginfo.lookup import Lookup
from faultkit.debuginfo.sections import PLACE
from faultkit.decode.model import Address

KERNELS = [
    "6.1",
    pytest.param("5.10", marks=pytest.mark.matrix),
    pytest.param("6.12", marks=pytest.mark.matrix),
]
ALL = [*KERNELS, pytest.param("7", marks=pytest.mark.matrix)]
every_kernel = pytest.mark.parametrize("name", KERNELS)


@pytest.mark.parametrize("name", ALL)
def test_chains_at_return_addresses_are_eu_addr2lines(name):
    vmlinux = kernel(name).vmlinux
    before = [address - 1 for address in return_addresses(vmlinux, 2000)]
    found = open_debug_file(str(vmlinux)).chains(before)
    assert not wrong(vmlinux, list(found.items()))
    assert sum(len(chain) > 1 for chain in found.values()) > 300  # there is inlining in it


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("module", ["ext4", "jbd2"])
def test_chains_in_modules_are_eu_addr2lines(name, module):
    made = kernel(name)
    debug = made.debug / f"{module}.ko.debug"
    before = [at - 1 for at in module_return_addresses(made.directory / "modules" / f"{module}.ko",
                                                       500)]  # fmt: skip
    file = open_debug_file(str(debug))
    place = file.file.sections[".text"].number << PLACE
    found = file.chains(place | at for at in before)
    assert not wrong(debug, [(at, found[place | at]) for at in before], ".text")


@every_kernel
def test_parts_of_functions_keep_their_symbols_and_have_the_functions_lines(name):
    vmlinux = kernel(name).vmlinux
    parts = [
        (symbol, address, size)
        for symbol, _, address, size in functions(vmlinux)
        if symbol.endswith((".cold", ".constprop.0", ".isra.0", ".part.0")) and size > 8
        and not symbol.startswith("__pfx_")
    ][::40]
    assert len(parts) > 50
    inside = [address + size // 2 for _, address, size in parts]
    frames = Kernel(Places(str(vmlinux))).decode([Address(at, exact=True) for at in inside])
    expected = llvm_symbolizer(vmlinux, inside)  # eu-addr2line errs at some of these
    alike = 0
    aliases = {(symbol, address) for symbol, _, address, _ in functions(vmlinux)}
    for (_, address, _), frame, chain in zip(parts, frames, expected):
        assert (frame.symbol, address) in aliases  # gcc folds functions of the same code
        assert lines(frame.inlines) == chain
        alike += frame.symbol.startswith(frame.inlines[-1].function or "?")
    assert alike > 0.9 * len(parts)  # a few are named by what was inlined in them


@every_kernel
def test_names_that_several_functions_have_are_told_apart_by_size_or_all_are_listed(name):
    vmlinux = kernel(name).vmlinux
    named = {}
    for symbol, _, address, size in functions(vmlinux):
        if not symbol.startswith("__pfx_"):  # what stands before functions, all of one size
            named.setdefault(symbol, set()).add((address, size))
    several = {symbol: some for symbol, some in named.items() if len(some) > 1}
    assert len(several) > 50
    apart = listed = 0
    opened = Kernel(Places(str(vmlinux)))
    for symbol, some in sorted(several.items())[:60]:
        for address, size in some:
            alone = sum(size == other for _, other in some) == 1
            asked = [Address(None, False, symbol, 5, size), Address(address + 5)]
            (frame, sure) = opened.decode(asked)
            if alone:
                assert frame.inlines == sure.inlines, symbol
                apart += 1
            elif frame.notes:
                assert f"functions are named {symbol}" in frame.notes[0]
                assert not frame.inlines
                listed += 1
            else:  # they were compiled twice from the same place
                assert frame.inlines == sure.inlines, symbol
    assert apart > 50 and listed > 5


def test_a_trace_of_another_build_gets_no_lines():
    vmlinux = kernel("6.1").vmlinux
    opened = Kernel(Places(str(vmlinux)))
    (frame,) = opened.decode([Address(None, False, "schedule", 0x31, 0xFFFF)])
    assert not frame.inlines
    assert "not the same build" in frame.notes[0]
    (frame,) = opened.decode([Address(None, False, "no_such_function", 1, 2)])
    assert frame.notes == ["no symbol no_such_function in vmlinux"]


def test_exact_addresses_are_not_shifted():
    vmlinux = kernel("6.1").vmlinux
    asked = return_addresses(vmlinux, 200, seed=7)
    opened = Kernel(Places(str(vmlinux)))
    exact = opened.decode([Address(at, exact=True) for at in asked])
    assert not wrong(vmlinux, [(at, frame.inlines) for at, frame in zip(asked, exact)])
    shifted = opened.decode([Address(at) for at in asked])
    assert sum(a.inlines != b.inlines for a, b in zip(exact, shifted)) > 50
    # A function's own start is nobody's return address.
    (start,) = opened.decode([Address(None, False, "schedule", 0)])
    assert start.inlines[-1].function == "schedule"


def test_a_moved_kernel_and_a_loaded_module():
    made = kernel("6.1")
    asked = return_addresses(made.vmlinux, 50, seed=3)
    plain = Kernel(Places(str(made.vmlinux))).decode([Address(at) for at in asked])
    shift = 0x8400000
    moved = Kernel(Places(str(made.vmlinux)), offset=shift).decode(
        [Address(at + shift) for at in asked]
    )
    assert [frame.inlines for frame in moved] == [frame.inlines for frame in plain]
    assert all(frame.inlines for frame in plain)
    at = 0xFFFFFFFFC0123000
    loaded = {"jbd2": {".text": at, ".init.text": 0xFFFFFFFFC0400000}}
    places = Places(str(made.vmlinux), (), (str(made.debug),))
    opened = Kernel(places, loaded=loaded)
    symbol, _, start, size = next(
        each for each in functions(made.debug / "jbd2.ko.debug") if each[0] == "jbd2_journal_start"
    )
    by_address, by_name, unknown = opened.decode(
        [
            Address(at + start + 9, module="jbd2"),
            Address(None, False, symbol, 9, size, "jbd2"),
            Address(at - 0x100000, module="jbd2"),
        ]
    )
    assert by_address.inlines == by_name.inlines != []
    assert by_address.symbol == symbol
    assert not unknown.inlines


def test_init_sections_and_assembly():
    vmlinux = kernel("6.1").vmlinux
    opened = Kernel(Places(str(vmlinux)))
    init, entry = opened.decode(
        [Address(None, False, "start_kernel", 20), Address(None, True, "entry_SYSCALL_64", 3)]
    )
    assert init.inlines[-1].function == "start_kernel"
    assert init.inlines[0].file.endswith("init/main.c")
    assert entry.symbol == "entry_SYSCALL_64"
    assert entry.inlines[0].file.endswith("arch/x86/entry/entry_64.S")


def test_symbols_by_address_are_those_by_name():
    vmlinux = kernel("6.1").vmlinux
    chosen = functions(vmlinux)[::997]
    file = Lookup(str(vmlinux), use_cache=False)
    at = file.symbols_at([address + size - 1 for _, _, address, size in chosen])
    names = file.symbols_named([name for name, _, _, _ in chosen])
    for name, _, address, size in chosen:
        found = at[address + size - 1]
        assert found is not None and found.address == address
        assert address in [symbol.address for symbol in names[name]]
        assert any(symbol.has_size(size) for symbol in names[name])
