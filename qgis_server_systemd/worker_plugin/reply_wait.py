# SPDX-License-Identifier: GPL-2.0-or-later
"""Take away the wait with which QGIS Server holds back each reply.

QGIS Server 3.40 and 3.44 start a thread for each request that sees whether the client hangs
up (`QgsSocketMonitoringThread::run` in qgsfcgiserverresponse.cpp). It begins with a select(2)
on the connection that ends after 10 ms or, in other states of QGIS, 50. Nothing is ever
readable there, since NGINX has sent the whole request. The reply waits for this thread to end,
so each one takes at least that long. After that select the thread looks at the connection at
once, and then three times a second: clients that hang up are seen without it.

So the entry for select in the relocation table of libqgis_server.so, and of this library
alone, is pointed at a function that returns 0 at once, as select does when its time is up.
Plugins, database clients and other libraries have tables of their own. Nothing is changed in
a QGIS that is not known to have select in this place only.
"""

import ctypes
import mmap
import platform
import re
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

LIBRARY = re.compile(r"/libqgis_server\.so\.(\d+\.\d+)\.\d+$")
CLASS = b"25QgsSocketMonitoringThread"
"""How the names of its symbols have the class (Itanium C++ ABI)."""

# Types of relocation of calls into other libraries (R_X86_64_JUMP_SLOT, R_AARCH64_JUMP_SLOT in
# elf.h).
JUMP_SLOT = {"x86_64": 7, "aarch64": 1026}

PT_LOAD, PT_DYNAMIC = 1, 2
DT_PLTRELSZ, DT_STRTAB, DT_SYMTAB, DT_JMPREL = 2, 5, 6, 23
PROT_READ, PROT_WRITE = 1, 2


class Unknown(Exception):
    """This QGIS Server is not one in which the wait could be taken away."""


@dataclass(frozen=True)
class Library:
    """A library in this process: its file, version (as in 3.40) and where it is mapped."""

    file: Path
    version: str
    base: int


def library(maps: str) -> Library | None:
    """QGIS Server's own, from the text of /proc/self/maps (proc(5))."""
    for line in maps.splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and int(fields[2], 16) == 0 and (found := LIBRARY.search(fields[5])):
            return Library(Path(fields[5]), found[1], int(fields[0].partition("-")[0], 16))
    return None


def slots(content: bytes, kind: int, name: bytes) -> Iterator[int]:
    """The addresses, from the base of a library with this content, of the entries through
    which it calls the function `name` (elf(5), 64 bits). Raises Unknown."""
    try:
        yield from _slots(content, kind, name)
    except (struct.error, KeyError, ValueError) as error:
        raise Unknown(f"its format is not understood: {error}") from error


def _slots(content: bytes, kind: int, name: bytes) -> Iterator[int]:
    if content[:6] != b"\x7fELF\x02\x01":
        raise Unknown("it is no 64-bit little-endian ELF file")
    (start,) = struct.unpack_from("<Q", content, 32)
    size, count = struct.unpack_from("<HH", content, 54)
    # type, flags, offset, address, physical address, size in the file, size in memory, alignment
    headers = [struct.unpack_from("<IIQQQQQQ", content, start + n * size) for n in range(count)]

    def place(address: int) -> int:
        for header in headers:
            if header[0] == PT_LOAD and header[3] <= address < header[3] + header[5]:
                return int(header[2] + address - header[3])
        raise Unknown("a table lies in no part of the file")

    table: dict[int, int] = {}
    for header in headers:
        if header[0] == PT_DYNAMIC:
            for at in range(header[2], header[2] + header[5], 16):
                tag, value = struct.unpack_from("<QQ", content, at)
                table[tag] = value
    relocations, symbols, strings = (place(table[tag]) for tag in (DT_JMPREL, DT_SYMTAB, DT_STRTAB))
    for at in range(relocations, relocations + table[DT_PLTRELSZ], 24):
        address, info = struct.unpack_from("<QQ", content, at)
        if info & 0xFFFFFFFF == kind:
            (text,) = struct.unpack_from("<I", content, symbols + (info >> 32) * 24)
            begin = strings + text
            if content[begin : content.index(b"\0", begin)] == name:
                yield address


def here() -> Library:
    """QGIS Server's library in this process. Raises Unknown or OSError."""
    found = library(Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace"))
    if found is None:
        raise Unknown("its library is not found")
    return found


def entry(found: Library) -> int:
    """The address of its entry for select. Raises Unknown or OSError."""
    kind = JUMP_SLOT.get(platform.machine())
    if kind is None:
        raise Unknown(f"its machine is {platform.machine()}")
    content = found.file.read_bytes()
    if CLASS not in content:
        raise Unknown("it has no such wait")
    there = list(slots(content, kind, b"select"))
    if len(there) != 1:
        raise Unknown(f"it calls select by {len(there)} entries")
    return found.base + there[0]


def remove(releases: Collection[str]) -> None:
    """Do it if QGIS Server is of one of these releases, before the first request and in this
    process alone. Raises Unknown or OSError; then nothing has changed."""
    found = here()
    if found.version not in releases:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    address = entry(found)
    slot = ctypes.c_void_p.from_address(address)
    if slot.value != ctypes.cast(libc.select, ctypes.c_void_p).value:
        raise Unknown("the entry leads elsewhere")
    page = address & -mmap.PAGESIZE
    libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    # The linker has made this part read-only (RELRO).
    if libc.mprotect(page, mmap.PAGESIZE, PROT_READ | PROT_WRITE):
        raise OSError(ctypes.get_errno(), "mprotect")
    # Takes no arguments, returns 0, and touches nothing.
    slot.value = ctypes.cast(libc.sched_yield, ctypes.c_void_p).value
    libc.mprotect(page, mmap.PAGESIZE, PROT_READ)
