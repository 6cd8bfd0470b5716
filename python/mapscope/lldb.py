"""lldb's side of mapscope: finds the target, registers `gomap`. lldb has no Go plugin, so MAP is an expression
over package variables (main.cache, *main.p, main.servers[0].users) or 0xADDR with --type."""

import argparse
import os
import sys

import lldb

from mapscope import _native, commands
from mapscope._native import Error


class LldbFront(commands.Front):
    """Answers about the selected target."""

    def __init__(self):
        self._session, self._key, self.text = None, None, []

    def has_target(self):
        process = _debugger().GetSelectedTarget().GetProcess()
        return process.IsValid() and process.GetState() not in (lldb.eStateExited, lldb.eStateDetached, lldb.eStateUnloaded)

    def inputs(self):
        target = _debugger().GetSelectedTarget()
        files = [module.GetFileSpec().fullpath for module in target.module_iter()] if target.IsValid() else []
        process = target.GetProcess()
        if self._session is None and process.IsValid() and process.GetPluginName() == "elf-core":
            files.append(_core_path(process))
        return files

    def confirm(self):
        if self._session is not None:
            self._session.check_files()

    def session(self):
        target = _debugger().GetSelectedTarget()
        process = target.GetProcess()
        if not process.IsValid() or process.GetState() in (lldb.eStateExited, lldb.eStateDetached, lldb.eStateUnloaded):
            raise Error("there is nothing to read: open a core (target create EXE --core CORE), or run or attach to a process")
        key = (commands.file_identity(target.GetExecutable().fullpath), process.GetUniqueID(), _entry_point(target))
        if self._session is None or self._key != key or not self.is_as_opened(self._session):
            self._session, self._key = self.opened(_open(target, process)), key
        return self._session

    def note(self, sentence):
        self.text.append("mapscope: %s\n" % sentence)

    def write(self, text):
        self.text.append(text)

    def colour(self):
        return bool(_debugger().GetUseColor()) and sys.__stdout__ is not None and sys.__stdout__.isatty()

    def progress(self):
        debugger = _debugger()
        if not hasattr(debugger, "InterruptRequested"):
            return None

        def look(_done, _total):
            # lldb keeps SIGINT to itself; newer ones can be asked.
            if debugger.InterruptRequested():
                raise KeyboardInterrupt

        return look


def _debugger():
    return _DEBUGGER[0]


def _open(target, process):
    program = target.GetExecutable().fullpath
    if process.GetPluginName() == "elf-core":
        core = _core_path(process)
        if core:
            return _native.Session.core(core, program)
    elif target.GetPlatform().GetName() == "host" and process.GetProcessID():
        try:
            return _native.Session.held_process(process.GetProcessID(), program, _threads(process))
        except Error:
            pass
    if not program or not os.path.exists(program):
        raise Error("the executable is not on this machine; create the target with it")
    return _native.Session.remote(_reader(process), program, _entry_point(target), _threads(process))


def _core_path(process):
    """The core file, which older lldb do not tell: it is among the files that we have mapped."""
    if hasattr(process, "GetCoreFile"):
        return process.GetCoreFile().fullpath
    with open("/proc/self/maps") as maps:
        paths = {line.split(maxsplit=5)[5].strip() for line in maps if line.count("/")}
    return next(filter(_is_core, sorted(paths)), None)


def _is_core(path):
    try:
        with open(path, "rb") as file:
            head = file.read(18)
    except OSError:
        return False
    # e_type is ET_CORE
    return head[:4] == b"\x7fELF" and head[16:18] == b"\x04\x00"


def _reader(process):
    def read(address, length):
        error = lldb.SBError()
        data = process.ReadMemory(address, length, error)
        return data if error.Success() else None

    return read


def _threads(process):
    """A function that gives the kernel's ID and the general registers of each thread."""
    def read():
        return [(thread.GetThreadID(), _registers(thread)) for thread in process]

    return read


def _registers(thread):
    """The registers of a thread by name, as far as lldb has them."""
    values = {}
    # lldb puts the general ones first.
    for register in next(iter(thread.GetFrameAtIndex(0).GetRegisters()), ()):
        error = lldb.SBError()
        value = register.GetValueAsUnsigned(error, 0)
        if error.Success():
            values[register.GetName()] = value
    return values


def _entry_point(target):
    address = target.GetModuleAtIndex(0).GetObjectFileEntryPointAddress()
    loaded = address.GetLoadAddress(target)
    return None if loaded == lldb.LLDB_INVALID_ADDRESS else loaded


FRONT = LldbFront()
_DEBUGGER = [None]


def gomap(debugger, line, result, _internal):
    """Looks into Go maps; `gomap help` lists the verbs."""
    _DEBUGGER[0] = debugger
    FRONT.text = []
    try:
        words = commands.split(line)
        if not words or words[0] in ("help", "-h", "--help"):
            verb = commands.BY_NAME.get(words[1]) if len(words) > 1 else None
            FRONT.write((verb.help() if verb else commands.overview()) + "\n")
        elif words[0] == "set":
            _set(words[1:])
        else:
            commands.run(FRONT, words)
    except Error as error:
        result.SetError(str(error))
    except KeyboardInterrupt:
        result.SetError("interrupted")
    except BrokenPipeError:
        result.SetError("whoever read the answer has gone")
    except Exception as error:  # a bug of ours must not end as a traceback in somebody's session
        result.SetError("mapscope failed (%s: %s); please report this" % (type(error).__name__, error))
    result.PutCString("".join(FRONT.text).rstrip("\n"))


def _set(words):
    """`gomap set NAME VALUE`: lldb has no settings of extensions."""
    if len(words) != 2 or words[0] not in FRONT.settings:
        raise Error("gomap set takes a name and a value; names: " + ", ".join(FRONT.settings))
    name, value = words
    try:
        value = value in ("on", "1", "true") if name == "style" else commands._count(value)
    except (ValueError, argparse.ArgumentTypeError):
        raise Error("gomap set %s takes a number" % name) from None
    FRONT.settings = dict(FRONT.settings, **{name: value})


def __lldb_init_module(debugger, _internal):
    debugger.HandleCommand("command script add -f mapscope.lldb.gomap gomap")
