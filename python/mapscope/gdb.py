"""gdb's side of mapscope: evaluates expressions, registers commands, parameters, functions, printers."""

import os
import re
import struct
import sys
import time

import gdb

from mapscope import _native, commands
from mapscope._native import Error

_SCALARS = (gdb.TYPE_CODE_INT, gdb.TYPE_CODE_BOOL, gdb.TYPE_CODE_CHAR, gdb.TYPE_CODE_ENUM, gdb.TYPE_CODE_PTR)


class GdbFront(commands.Front):
    """Answers about the selected inferior."""

    def __init__(self):
        self._session, self._key = None, None
        self._parameters = {}

    @property
    def settings(self):
        """The values of `show gomap`."""
        return {name: parameter.value for name, parameter in self._parameters.items()}

    def forget(self, _event=None):
        """Another program, or an end: types and index are of another one now. Memory is read anew at each look anyway."""
        self._session = self._key = None

    def session(self):
        _prefer_our_printer()
        inferior = gdb.selected_inferior()
        connection = getattr(inferior, "connection", None)
        kind = connection.type if connection else None
        program = _program(inferior.progspace)
        core = _core_path(inferior) if kind == "core" else None
        # A program that is built anew has other objfiles, of which gdb tells; a core that is written anew has not.
        key = (inferior.num, inferior.pid, kind, core, program)
        if self._session is None or self._key != key or not self.is_as_opened(self._session):
            self._session, self._key = self.opened(_open(inferior, kind, core, program)), key
        return self._session

    def inputs(self):
        program = gdb.current_progspace()
        files = [objfile.filename for objfile in program.objfiles()] + [_program(program)]
        inferior = gdb.selected_inferior()
        connection = getattr(inferior, "connection", None)
        if self._session is None and connection and connection.type == "core":
            files.append(_core_path(inferior))
        return files

    def confirm(self):
        if self._session is not None:
            self._session.check_files()

    def has_target(self):
        return bool(gdb.selected_inferior().pid)

    def locate(self, expression):
        if _is_path(expression) or not _names_local(expression) and "$" not in _QUOTED.sub("", expression):
            try:
                return self.session().resolve(expression)
            except Error as error:
                first = error
            try:
                value = gdb.parse_and_eval(expression)
            except gdb.error:
                raise first from None
        else:
            try:
                value = gdb.parse_and_eval(expression)
            except gdb.error as error:
                raise Error("gdb cannot evaluate %r: %s" % (expression, error)) from None
        return self.map_of(value)

    def map_of(self, value, session=None):
        """The MapRef that a gdb.Value leads to."""
        session = session or self.session()
        try:
            if value.is_optimized_out:
                raise Error("this value is optimised out here; try another frame, or give an address with --type")
            name, code = _type_name(value.type), value.type.strip_typedefs().code
            if is_map(value.type):
                return session.map_at(name, _bits(value))
            if value.address is not None:
                return session.map_in(name, int(value.address))
            if code == gdb.TYPE_CODE_PTR:
                return session.map_in(_type_name(value.type.strip_typedefs().target()), _bits(value))
        except gdb.error as error:
            raise Error("gdb cannot read this value: %s" % error) from None
        raise Error("this is a %s, not a map" % name)

    def evaluate_key(self, expression):
        try:
            try:
                return key_arguments(gdb.parse_and_eval(expression))
            except gdb.error:
                # Before gdb has read main's unit, it finds main.Key only in quotes.
                return key_arguments(gdb.parse_and_eval(_PACKAGE_VARIABLE.sub(r"\1'\2'", expression)))
        except gdb.error as error:
            raise Error("gdb cannot evaluate %r: %s" % (expression, error)) from None

    def watch(self, args, what, show, to):
        from mapscope import gdb_watch

        gdb_watch.run(self, args, what, show, to)

    def write(self, text):
        gdb.write(text)

    def colour(self):
        try:
            return bool(gdb.parameter("style enabled")) and sys.__stdout__.isatty() and os.environ.get("TERM") != "dumb"
        except (AttributeError, RuntimeError, gdb.error):
            return False

    def progress(self):
        if not (sys.__stderr__ and sys.__stderr__.isatty()):
            return None
        started = time.monotonic()

        def show(done, total):
            if time.monotonic() - started > 1:
                share = " of %d" % total if total else ""
                sys.__stderr__.write("\r%d%s\033[K\r" % (done, share))
                sys.__stderr__.flush()

        return show


def _program(progspace):
    """The path of the executable, without gdb's `target:`."""
    name = progspace.filename if progspace else None
    return name[len("target:"):] if name and name.startswith("target:") else name


def _core_path(inferior):
    corefile = getattr(inferior, "corefile", None)
    if corefile is not None:
        return corefile.filename
    match = re.search(r"core dump file:\s*`([^\n]*)', file type", gdb.execute("info target", to_string=True))
    if not match:
        raise Error("gdb does not tell the path of the core file it has open")
    return match.group(1)


def _open(inferior, kind, core, program):
    if kind == "core":
        return _native.Session.core(core, program)
    if not inferior.pid:
        raise Error("there is nothing to read: open a core (core-file FILE), or run or attach to a process")
    if kind == "native":
        # What gdb reads through the target may be of another mount namespace: a container's.
        is_ours = not (inferior.progspace.filename or "").startswith("target:")
        local = program if program and is_ours and os.path.exists(program) else None
        try:
            return _native.Session.held_process(inferior.pid, local, _threads(inferior))
        except Error:
            if local is None:
                raise
    if not program or not os.path.exists(program):
        raise Error("the executable is not on this machine; give it with the file command")
    return _native.Session.remote(_reader(inferior), program, _entry_point(), _threads(inferior))


def _reader(inferior):
    def read(address, length):
        try:
            return inferior.read_memory(address, length).tobytes()
        except gdb.MemoryError:
            return None

    return read


#: The registers that code keeps values in, by gdb's name of the architecture.
_REGISTERS = {
    "i386:x86-64": ["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp"] + ["r%d" % i for i in range(8, 16)] + ["rip"],
    "aarch64": ["x%d" % i for i in range(31)] + ["sp", "pc"],
}


def _threads(inferior):
    """A function that gives the kernel's ID and the registers of each thread that stands still."""
    def read():
        thread, frame = gdb.selected_thread(), _selected_frame()
        try:
            stopped = [each for each in inferior.threads() if each.is_valid() and each.is_stopped()]
            return [(each.ptid[1], _registers(each)) for each in stopped]
        finally:
            if thread is not None and thread.is_valid():
                thread.switch()
            if frame is not None and frame.is_valid():
                frame.select()

    return read


def _selected_frame():
    try:
        return gdb.selected_frame()
    except gdb.error:
        return None


def _registers(thread):
    """The registers of a thread by name, as far as gdb has them."""
    values = {}
    try:
        thread.switch()
        frame = gdb.newest_frame()
        for name in _REGISTERS.get(frame.architecture().name(), ()):
            value = frame.read_register(name)
            if not value.is_optimized_out:
                values[name] = _bits(value)
    except (gdb.error, ValueError):
        pass
    return values


def _entry_point():
    match = re.search(r"Entry point: (0x[0-9a-f]+)", gdb.execute("info files", to_string=True))
    return int(match.group(1), 16) if match else None


def _bits(value):
    """A pointer as a number, or an integer's bits: a cast would take gdb longer than all else that a condition needs."""
    return int(value) & (1 << 64) - 1


#: A Go string or rune in an expression.
_QUOTED = re.compile(r'''"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`''')


def _is_path(expression):
    """Whether this is a path that `gomap list` prints for a map by its address."""
    return expression.rstrip("'").endswith(")") and "→(" in expression


def _names_local(expression):
    """Whether the expression starts with a variable of the selected frame."""
    head = re.match(r"[\s*&(]*([A-Za-z_]\w*)(\.|/)?", expression)
    # gdb's first look at a frame waits for its index of the whole program, seconds for a big one. No variable hides
    # package main, and none has a slash.
    if head is None or head.group(2) == "/" or (head.group(1), head.group(2)) == ("main", "."):
        return False
    try:
        block = gdb.selected_frame().block()
    except (gdb.error, RuntimeError):
        return False
    while block is not None and not block.is_global and not block.is_static:
        if any(symbol.name == head.group(1) for symbol in block):
            return True
        block = block.superblock
    return False


def is_map(type_):
    """Whether a gdb.Type is a Go map type."""
    target = type_.strip_typedefs()
    if type_.code != gdb.TYPE_CODE_TYPEDEF or target.code != gdb.TYPE_CODE_PTR:
        return False
    return re.match(r"(hash|map)<", target.target().name or "") is not None


def _type_name(type_):
    """The name of a gdb.Type as Go's DWARF spells it."""
    if type_.name:
        return type_.name
    if type_.code == gdb.TYPE_CODE_PTR:
        return "*" + _type_name(type_.target())
    if type_.code == gdb.TYPE_CODE_ARRAY:
        low, high = type_.range()
        return "[%d]%s" % (high - low + 1, _type_name(type_.target()))
    return str(type_)


#: What an expression begins with: operators, then a package and its variable.
_PACKAGE_VARIABLE = re.compile(r"^([*&(\s]*)((?:[\w.-]+/)*\w+\.\w+)")


def key_arguments(value):
    """A key given as a gdb.Value: as a literal, or by type and bytes."""
    type_ = value.type.strip_typedefs()
    if value.is_optimized_out:
        raise Error("the key is optimised out here; give it as a literal")
    if type_.code == gdb.TYPE_CODE_ARRAY and type_.target().sizeof == 1 and value.type.name is None:
        return commands.key_dict(literal=_quoted(bytes(int(value[i]) & 255 for i in range(type_.sizeof)).rstrip(b"\0")))
    name = _type_name(value.type)
    if value.type.name in (None, "int", "long", "long long") and type_.code == gdb.TYPE_CODE_INT and value.address is None:
        return commands.key_dict(literal=str(int(value)))
    return commands.key_dict(type_name=name, data=_bytes(value))


def _quoted(data):
    return '"%s"' % "".join(chr(b) if 32 <= b < 127 and b not in b'"\\' else "\\x%02x" % b for b in data)


def _bytes(value):
    type_ = value.type.strip_typedefs()
    if value.address is not None:
        return gdb.selected_inferior().read_memory(int(value.address), type_.sizeof).tobytes()
    if type_.code == gdb.TYPE_CODE_FLT:
        return struct.pack("<f" if type_.sizeof == 4 else "<d", float(value))
    if type_.code in _SCALARS:
        return _bits(value).to_bytes(8, "little")[: type_.sizeof]
    if type_.code == gdb.TYPE_CODE_STRUCT:
        data = bytearray(type_.sizeof)
        for field in type_.fields():
            at = field.bitpos // 8
            data[at : at + field.type.sizeof] = _bytes(value[field])
        return bytes(data)
    raise Error("a key of type %s cannot be taken from a register; give it as a literal" % _type_name(value.type))


FRONT = GdbFront()


def _guarded(call):
    """Runs `call`; whatever goes wrong arrives as one gdb.GdbError."""
    try:
        return call()
    except Error as error:
        raise gdb.GdbError(str(error)) from None
    except KeyboardInterrupt:
        raise gdb.GdbError("interrupted") from None
    except gdb.GdbError:
        raise
    except BrokenPipeError:
        raise gdb.GdbError("whoever read the answer has gone") from None
    except gdb.error as error:
        raise gdb.GdbError(str(error)) from None
    except Exception as error:  # a bug of ours must not end as a traceback in somebody's session
        raise gdb.GdbError("mapscope failed (%s: %s); please report this" % (type(error).__name__, error)) from None


class _Prefix(gdb.Command):
    def __init__(self, name, doc, show):
        self.__doc__ = doc
        self._show = show
        super().__init__(name, gdb.COMMAND_DATA, prefix=True)

    def invoke(self, line, _from_tty):
        _guarded(lambda: self._show(line))


class _VerbCommand(gdb.Command):
    def __init__(self, verb):
        self.__doc__ = verb.help()
        self._verb = verb
        super().__init__("gomap " + verb.name, gdb.COMMAND_DATA)

    def invoke(self, line, _from_tty):
        _guarded(lambda: commands.run(FRONT, [self._verb.name] + commands.split(line)))

    def complete(self, text, word):
        token = re.split(r"\s", text)[-1]
        if token.startswith("-"):
            found = [option for option in self._verb.options() if option.startswith(token)]
        elif self._verb.takes_map and len(text.split()) <= 1 and not text.endswith(" "):
            found = _map_names(token)
        else:
            return gdb.COMPLETE_NONE
        # gdb replaces only the part after its own word break; newer ones first ask where that is, with no word yet.
        kept = len(token) - len(word) if word is not None else 0
        return [name[kept:] for name in found]


def _map_names(start):
    names = []
    try:
        block = gdb.selected_frame().block()
        while block is not None and not block.is_global and not block.is_static:
            names += [s.name for s in block if s.name.startswith(start) and s.type is not None and is_map(s.type)]
            block = block.superblock
    except (gdb.error, RuntimeError):
        pass
    try:
        names += FRONT.session().map_variables(start)
    except Error:
        pass
    return sorted(set(names))


class _Setting(gdb.Parameter):
    def __init__(self, name, kind, default, doc):
        self.__doc__ = doc
        self.set_doc = "Set " + doc
        self.show_doc = "Show " + doc
        super().__init__("gomap " + name, gdb.COMMAND_DATA, kind)
        self.value = default
        FRONT._parameters[name] = self

    def get_set_string(self):
        return ""

    def get_show_string(self, value):
        return "%s %s" % (self.show_doc.replace("Show ", "", 1).rstrip("."), value)


class _Function(gdb.Function):
    def __init__(self, name, doc, call):
        self.__doc__ = doc
        self._call = call
        super().__init__(name)

    def invoke(self, *arguments):
        return _guarded(lambda: self._call(*arguments))


def _count(map_value):
    session = FRONT.session()
    return session.count(FRONT.map_of(map_value, session))


def _look_up(map_value, key_value):
    session = FRONT.session()
    return session.lookup(FRONT.map_of(map_value, session), key=key_arguments(key_value))


def _get(map_value, key_value):
    type_name, address, text = _look_up(map_value, key_value)
    if address is None:
        return "absent"
    type_ = _find_type(type_name)
    if type_ is None:
        return text
    return gdb.Value(address).cast(type_.pointer()).dereference()


def _find_type(name):
    try:
        return gdb.lookup_type(name.lstrip("*")) if not name.startswith("*") else _find_type(name[1:]).pointer()
    except (gdb.error, AttributeError):
        return None


def _elements_limit():
    """How many entries `print` shows: its own -elements, of which gdb tells while it prints, or the setting; 0 for all."""
    options = gdb.print_options() if hasattr(gdb, "print_options") else {}
    return options.get("max_elements", gdb.parameter("print elements")) or 0


class MapPrinter:
    """Prints a map in Go syntax, for plain `print m`, `info locals` and MI."""

    def __init__(self, value):
        self._value = value

    def to_string(self):
        try:
            limit = _elements_limit()
            text = []
            settings = FRONT.settings
            FRONT.session().literal(
                FRONT.map_of(self._value), limit=limit, depth=settings["depth"],
                string_limit=min(limit, settings["string-limit"]) if limit else 0, elements_limit=limit, write=text.append)
            return "".join(text)
        except (Error, gdb.error) as error:
            return "<%s>" % error


def _printer(value):
    try:
        return MapPrinter(value) if is_map(value.type) else None
    except (gdb.error, RuntimeError):
        return None


_printer.name = "mapscope"
_printer.enabled = True


def _prefer_our_printer(event=None):
    """Go's own runtime-gdb.py adds its printers to the object file, which gdb asks before the global ones."""
    for objfile in [event.new_objfile] if event else gdb.objfiles():
        if not objfile.pretty_printers or objfile.pretty_printers[0] is not _printer:
            objfile.pretty_printers = [_printer] + [p for p in objfile.pretty_printers if p is not _printer]


def _show_settings(_line):
    for name, parameter in FRONT._parameters.items():
        gdb.write("gomap %s:  %s\n" % (name, parameter.get_show_string(parameter.value)))


def _which_verb(line):
    commands.run(FRONT, commands.split(line))


def _speak_utf8():
    """Keys of Go maps are UTF-8, and so are our answers: in the C locale gdb would refuse each byte beyond ASCII."""
    for side in ("host", "target"):
        said = gdb.execute("show %s-charset" % side, to_string=True)
        if re.search(r'"auto; currently (ANSI_X3\.4-1968|US-ASCII|ASCII|646)"', said):
            gdb.execute("set %s-charset UTF-8" % side, to_string=True)


def register():
    """Adds everything to gdb."""
    _speak_utf8()
    _Prefix("gomap", commands.overview(), _which_verb)
    for verb in commands.VERBS:
        _VerbCommand(verb)
    _Prefix("set gomap", "Set how gomap shows maps.", _show_settings)
    _Prefix("show gomap", "Show how gomap shows maps.", _show_settings)
    defaults = commands.Front.settings
    whole = gdb.PARAM_ZUINTEGER
    _Setting("limit", whole, defaults["limit"], "how many entries gomap print shows at most (0: all).")
    _Setting("string-limit", whole, defaults["string-limit"], "how many bytes of a string are shown (0: all).")
    _Setting("elements-limit", whole, defaults["elements-limit"],
             "how many elements of a slice, array or inner map are shown (0: all).")
    _Setting("depth", whole, defaults["depth"], "how many pointers are followed from an entry.")
    _Setting("follow-limit", whole, defaults["follow-limit"],
             "how many values are shown behind the pointers of one key or elem (0: all).")
    _Setting("memory-limit", whole, defaults["memory-limit"],
             "how many MiB of memory a verb may take before it ends with what it found (0: any).")
    _Setting("style", gdb.PARAM_BOOLEAN, defaults["style"], "whether gomap uses colour.")
    _Function("gomap_len", "$gomap_len(m): the number of entries of a Go map.", _count)
    _Function("gomap_get", "$gomap_get(m, k): the elem of key k in the Go map m.", _get)
    _Function("gomap_has", "$gomap_has(m, k): whether the Go map m has key k.", lambda m, k: _look_up(m, k)[1] is not None)
    gdb.pretty_printers.insert(0, _printer)
    _prefer_our_printer()
    gdb.events.new_objfile.connect(_prefer_our_printer)
    gdb.events.before_prompt.connect(_prefer_our_printer)
    for event in ("exited", "clear_objfiles", "new_objfile"):
        getattr(gdb.events, event).connect(FRONT.forget)
