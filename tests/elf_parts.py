"""Where the runtime's tables are in the files of a stripped Go program and its core, as sections and segments say."""

import struct


def segments(path):
    """(address, offset, bytes in the file) of each loaded segment."""
    data = open(path, "rb").read(1 << 20)
    [phoff] = struct.unpack_from("<Q", data, 32)
    [count] = struct.unpack_from("<H", data, 56)
    found = []
    for at in range(phoff, phoff + 56 * count, 56):
        kind, _, offset, address, _, size, _, _ = struct.unpack_from("<IIQQQQQQ", data, at)
        if kind == 1:
            found.append((address, offset, size))
    return found


def sections(path):
    """name -> (address, offset, bytes)."""
    data = open(path, "rb").read()
    [shoff] = struct.unpack_from("<Q", data, 40)
    size, count, names = struct.unpack_from("<HHH", data, 58)
    headers = [struct.unpack_from("<IIQQQQ", data, shoff + size * i) for i in range(count)]
    text = headers[names][4]
    name = lambda at: data[text + at:data.index(b"\0", text + at)].decode()  # noqa: E731
    return {name(h[0]): (h[3], h[4], h[5]) for h in headers}


def offset_in(path, address):
    """The offset in a file of what is loaded at an address; None when it is not there."""
    inside = ((a, o) for a, o, size in segments(path) if a <= address < a + size)
    return next((offset + address - start for start, offset in inside), None)


def module_data(exe):
    """Address of runtime.firstmoduledata: its section, or the word in the data that leads to the function table."""
    parts = sections(exe)
    if ".go.module" in parts:
        return parts[".go.module"][0]
    table = struct.pack("<Q", parts[".gopclntab"][0])
    address, offset, size = parts[".noptrdata"]
    data = open(exe, "rb").read()[offset:offset + size]
    return address + data.index(table)


def places(exe, core):
    """name -> (which file, offset, bytes) of what can be damaged."""
    parts = sections(exe)
    found = {"module data": ("core", offset_in(core, module_data(exe)), 560),
             "function table": ("exe", *parts[".gopclntab"][1:])}
    types = parts.get(".go.type") or parts[".rodata"]
    found["descriptors"] = ("exe", *types[1:])
    if ".typelink" in parts:
        found["typelinks"] = ("exe", *parts[".typelink"][1:])
    return found
