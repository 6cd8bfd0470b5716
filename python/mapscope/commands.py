"""The verbs of `gomap`: their options, help and what they call. Knows no debugger.

A front end (gdb, lldb, the command line) derives from Front and hands each command line to run().
"""

import argparse
import functools
import os
import shutil
import sys

from mapscope import _native
from mapscope._native import Error

OPEN, CLOSE = "([{", ")]}"


#: The largest number that an option takes.
MOST = (1 << 63) - 1


class UsageError(Error):
    """The command line makes no sense; the message says why."""


class Front:
    """What a verb needs from the debugger it runs in."""

    #: Setting name -> value; the debugger's own parameters override these.
    settings = {"limit": 200, "string-limit": 200, "elements-limit": 100, "depth": 3, "follow-limit": _native.FOLLOW_LIMIT,
                "style": True, "memory-limit": _native.MEMORY_LIMIT}

    def session(self):
        """The native session on the current target. It is kept as long as the program is the same; each call of it looks at
        the target anew."""
        raise NotImplementedError

    def opened(self, session):
        """A session on another target than the last: what was selected in that one means nothing in it."""
        self.last = self.hit_map = self.goroutine = self.frame = None
        for note in session.notes():
            self.note(note)
        return session

    def is_as_opened(self, session):
        """Whether the files of a session are what they were; where not, it is to be opened anew, and that is said."""
        try:
            session.check_files()
            return True
        except Error as error:
            self.note("%s; it is read as it is now" % error)
            return False

    def has_target(self):
        """Whether there is a core or a process to read."""
        return False

    def locate(self, expression):
        """The map that an expression of this debugger leads to, as a native MapRef."""
        return self.session().resolve(expression)

    def evaluate_key(self, expression):
        """A key given as an expression: a key_dict()."""
        raise UsageError("--expr %s: of which goroutine? Give --goroutine N, or select one with gomap goroutine N" % expression)

    def inputs(self):
        """Paths of the files that the debugger itself reads: no answer is written over them."""
        return []

    def confirm(self):
        """Raises Error when a file of the target has changed since it was opened."""

    #: Whether `-` may stand for standard input: a debugger reads its commands there.
    reads_stdin = False

    def keep_running(self):
        """The verb to come must not stop the target."""

    def watch(self, args, what, show, to):
        """Runs `gomap watch` until it ends."""
        raise NotImplementedError

    def note(self, sentence):
        """Tells the user something beside the answer."""
        sys.stderr.write("mapscope: %s\n" % sentence)

    #: The map of the hit that `gomap watch --stop` stopped at, for $gomap_map.
    hit_map = None

    def write(self, text):
        """Shows text to the user."""
        sys.stdout.write(text)

    def colour(self):
        """Whether the terminal takes ANSI colour."""
        return False

    def width(self):
        """Columns of the terminal."""
        return shutil.get_terminal_size().columns

    def progress(self):
        """A callable (done, total) for long work, or None."""
        return None

    #: The map of the last answer, for $gomap_last.
    last = None

    #: The goroutine selected by `gomap goroutine`, and the frame of it, or None.
    goroutine = None
    frame = None


def file_identity(path):
    """What tells a file from the one that lay at this path before."""
    try:
        about = os.stat(path)
    except (OSError, TypeError):
        return path, None
    return path, (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns)


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise UsageError("%s; see help %s" % (message, self.prog))

    def exit(self, status=0, message=None):
        raise UsageError(message or "")


def _count(text):
    value = int(text, 0)
    if value < 0:
        raise ValueError(text)
    if value > MOST:
        raise argparse.ArgumentTypeError("%s is too large a number" % text)
    return value


def _frame_options(parser):
    parser.add_argument("--goroutine", metavar="N", type=_count, help="expressions may use variables of this goroutine")
    parser.add_argument("--frame", metavar="K", type=_count,
                        help="of its frame K, as gomap locals counts (default: the innermost with such a variable)")


class Verb:
    """One verb: `add` declares its options on a parser, `run` answers."""

    def __init__(self, name, summary, details, add, run, takes_map=True):
        self.name, self.summary, self.details = name, summary, details
        self.run, self.takes_map, self._add = run, takes_map, add

    @functools.cached_property
    def parser(self):
        """Made when first used: all of them together take longer than many an answer."""
        parser = _Parser(
            prog="gomap " + self.name,
            description=self.summary,
            epilog=self.details,
            add_help=False,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if self.takes_map:
            parser.add_argument("map", metavar="MAP", help="an expression that yields a map, or 0xADDR with --type")
            parser.add_argument("--type", metavar="TYPE", help="the map type, as Go spells it, for an address")
        self._add(parser)
        if self.takes_map:
            _frame_options(parser)
        parser.add_argument("--json", action="store_true", help="one JSON document on one line")
        parser.add_argument("--memory-limit", metavar="MIB", type=_count,
                            help="memory that this may take before it ends with what it found; 0 is any "
                                 "(default: set gomap memory-limit)")
        parser.add_argument("-o", "--output", metavar="FILE", help="write the answer to FILE, whole or not at all; - is standard output")
        return parser

    def help(self):
        """The text of `help gomap VERB`."""
        return self.parser.format_help()

    def options(self):
        """Option strings, for completion."""
        return sorted(s for action in self.parser._actions for s in action.option_strings if s.startswith("--"))


def split(line):
    """Splits a command line at white space outside quotes and brackets; quotes stay."""
    words, word, quote, depth, escaped = [], "", None, 0, False
    for char in line:
        if quote:
            word += char
            if escaped:
                escaped = False
            elif char == "\\" and quote != "`":
                escaped = True
            elif char == quote:
                quote = None
        elif char in "\"'`":
            quote = char
            word += char
        elif char.isspace() and depth == 0:
            if word:
                words.append(word)
            word = ""
        else:
            depth += (char in OPEN) - (char in CLOSE)
            depth = max(depth, 0)
            word += char
    if quote:
        raise UsageError("a %s is missing at the end of %r" % (quote, line))
    if word:
        words.append(word)
    return words


#: Words that a path of `gomap list` begins with where nothing with a name leads to the map.
_WORDED = (("stack", "of", "goroutine"), ("variable", "at"), ("finalizer", "at"), ("heap", "object"))


def _joined(words):
    """The words of a command line, a path of several words as one."""
    joined = []
    while words:
        count = next((len(start) + 1 for start in _WORDED if tuple(words[: len(start)]) == start and len(words) > len(start)), 1)
        joined.append(" ".join(words[:count]))
        words = words[count:]
    return joined


def unquote(text):
    """An option's value without the quotes around it."""
    if text and len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    return text


def _is_address(expression):
    return expression[:2].lower() == "0x" or expression.isdigit()


def _map_address(text):
    address = int(text, 0)
    if address >> 64:
        raise ValueError(text)
    return address


def find_map(front, args):
    """The native MapRef that MAP and --type name."""
    expression, type_name = args.map, unquote(args.type)
    if expression == "$gomap_last":
        if front.last is None:
            raise UsageError("there is no last map yet")
        found = front.last
    elif expression == "$gomap_map":
        if front.hit_map is None:
            raise UsageError("no watch has stopped at a map yet; see help gomap watch, --stop")
        found = front.hit_map
    elif type_name:
        try:
            address = _map_address(expression)
        except ValueError:
            raise UsageError("--type goes with an address such as 0xc000012345, not with %r" % expression) from None
        found = front.session().map_at(type_name, address)
    elif _is_address(expression):
        try:
            address = _map_address(expression)
        except ValueError:
            raise UsageError("%r is not an address" % expression) from None
        found = front.session().map_found_at(address)
    else:
        found = _locate(front, args, expression)
    front.last = found
    return found


def _frame(front, args):
    """The goroutine and frame that expressions are evaluated in: (None, None) where the debugger's own frame is meant."""
    goid, frame = getattr(args, "goroutine", None), getattr(args, "frame", None)
    if goid is None:
        goid, selected = front.goroutine, front.frame
        frame = selected if frame is None else frame
    if goid is None and frame is not None:
        raise UsageError("--frame goes with --goroutine N, or select one with gomap goroutine N")
    return goid, frame


def _locate(front, args, expression):
    goid, frame = _frame(front, args)
    if goid is None:
        return front.locate(expression)
    try:
        return front.session().resolve_in(expression, goid, frame)
    except Error as error:
        if getattr(args, "goroutine", None) is not None:
            raise
        first = error
    try:
        return front.locate(expression)
    except Error:
        raise first from None


def show_options(front, args):
    """How values are shown, from the settings and the options given: the native `show`."""
    settings = front.settings
    json = args.json
    return dict(
        json=json,
        depth=settings["depth"] if args.depth is None else args.depth,
        follow_limit=settings["follow-limit"] if args.follow_limit is None else args.follow_limit,
        string_limit=0 if json else settings["string-limit"],
        elements_limit=0 if json else settings["elements-limit"],
        colour=_coloured(front, args),
    )


def _coloured(front, args):
    return bool(front.settings["style"]) and not args.json and not args.output and front.colour()


def output(front, args):
    """Where the answer goes: the native `to`."""
    return dict(write=front.write, output=unquote(args.output), progress=front.progress())


def _value_options(parser):
    parser.add_argument("--depth", type=_count, metavar="N", help="follow N pointers, one below the other (default: set gomap depth; watch: 1)")
    parser.add_argument("--follow-limit", type=_count, metavar="N",
                        help="at most N values behind the pointers of each key and elem, where 1024 bytes of text or numbers "
                             "are one value too; 0 is all (default: set gomap follow-limit)")


def _print_options(parser):
    _value_options(parser)
    parser.add_argument("--limit", type=_count, metavar="N", help="at most N entries; 0 is all (default: set gomap limit)")
    parser.add_argument("--where", metavar="PATTERN", help="only entries that match: text, glob*, /regex/, key>=10, elem.Name==\"x\"")
    parser.add_argument("--sort", choices=["key", "elem"], help="sorted; keeps all shown entries in memory")
    parser.add_argument("--raw", action="store_true", help="addresses, places and bytes instead of values")


def _run_print(front, args):
    found = find_map(front, args)
    limit = front.settings["limit"] if args.limit is None else args.limit
    front.session().print(
        found, limit=limit, where=unquote(args.where), sort=args.sort, raw=args.raw,
        show=show_options(front, args), to=output(front, args))


def _key_options(parser):
    _value_options(parser)
    parser.add_argument("key", metavar="KEY", nargs="?", help="a Go literal of the key's type")
    parser.add_argument("--expr", metavar="EXPR", help="take the key from an expression of the debugger's")


def key_dict(literal=None, type_name=None, data=None):
    """A key, as a Go literal or by the name of its type and its bytes."""
    return dict(key=literal, key_type=type_name, key_bytes=data)


def _key_literal(text):
    """A key without the quotes of a shell around it: 'x' and '\\n' are Go runes, '{1, 2}' is {1, 2}."""
    text = _escaped(text)
    inside = text[1:-1]
    is_rune = len(inside) == 1 or inside.startswith("\\")
    return inside if len(text) > 2 and text[0] == text[-1] == "'" and not is_rune else text


def _escaped(text):
    """A key with bytes that are not UTF-8, which Python hands over as lone surrogates (PEP 383), as a Go literal."""
    if not any("\udc80" <= char <= "\udcff" for char in text):
        return text
    if len(text) > 1 and text[0] == text[-1] == "`":
        text = '"%s"' % text[1:-1].replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return "".join("\\x%02x" % (ord(char) - 0xDC00) if "\udc80" <= char <= "\udcff" else char for char in text)


def key_of(front, args):
    """The key: the native `key`."""
    if (args.key is None) == (args.expr is None):
        raise UsageError("give the key as a Go literal, or --expr EXPR")
    if args.expr is None:
        return key_dict(literal=_key_literal(args.key))
    goid, frame = _frame(front, args)
    if goid is None:
        return front.evaluate_key(unquote(args.expr))
    type_name, data = front.session().evaluate_in(unquote(args.expr), goid, frame)
    return key_dict(type_name=type_name, data=data)


def _run_get(front, args):
    found = find_map(front, args)
    front.session().get(found, key=key_of(front, args), show=show_options(front, args), to=output(front, args))


def _why_options(parser):
    parser.add_argument("map", metavar="MAP", nargs="?", help="an expression that yields a map, or 0xADDR with --type; left out with --all")
    parser.add_argument("--type", metavar="TYPE", help="the map type, as Go spells it, for an address")
    _key_options(parser)
    _frame_options(parser)
    parser.add_argument("--all", action="store_true", help="ask every map of the process whose keys KEY can be one of")
    parser.add_argument("--limit", type=_count, metavar="N", help="with --all: at most N maps; 0 is all (default: set gomap limit)")
    parser.add_argument("--budget", metavar="SECONDS", type=_seconds_or_none, default=10.0,
                        help="time for the search of near misses; 0 is as long as it takes (default: 10)")


def _run_why(front, args):
    if args.all:
        if args.map is None or args.key is not None or args.expr is not None or args.type:
            raise UsageError("why --all takes one KEY, a Go literal, and no MAP")
        limit = front.settings["limit"] if args.limit is None else args.limit
        front.session().why_all(
            key=key_dict(literal=_key_literal(args.map)), limit=limit, budget=args.budget, show=show_options(front, args),
            to=output(front, args))
        return
    if args.limit is not None:
        raise UsageError("--limit goes with --all")
    if args.map is None:
        raise UsageError("give a MAP and a KEY, or --all and a KEY")
    found = find_map(front, args)
    front.session().why(found, key=key_of(front, args), budget=args.budget, show=show_options(front, args),
                        to=output(front, args))


def _run_stats(front, args):
    found = find_map(front, args)
    front.session().stats(found, json=args.json, to=output(front, args))


def _buckets_options(parser):
    _value_options(parser)
    parser.add_argument("range", metavar="RANGE", nargs="?", help="a bucket or group number N, or N-M (default: the first 16)")


def _run_buckets(front, args):
    found = find_map(front, args)
    first, last = _range(args.range)
    front.session().buckets(found, first=first, last=last, show=show_options(front, args), to=output(front, args))


def _range(text):
    if text is None:
        return 0, 15
    first, dash, last = text.partition("-")
    try:
        first = _count(first)
        return first, _count(last) if dash else first
    except ValueError:
        raise UsageError("a range is N or N-M, not %r" % text) from None


def _export_options(parser):
    _value_options(parser)
    parser.add_argument("file", metavar="FILE", help="its ending decides: .json, .jsonl or .csv")


def _run_export(front, args):
    found = find_map(front, args)
    front.session().export(found, path=unquote(args.file), show=show_options(front, args), to=output(front, args))


def _check_options(parser):
    parser.add_argument("map", metavar="MAP", nargs="?", help="an expression that yields a map, or 0xADDR with --type")
    parser.add_argument("--type", metavar="TYPE", help="the map type, as Go spells it, for an address")
    parser.add_argument("--all", action="store_true", help="all maps that package variables lead to")
    _frame_options(parser)


def _run_check(front, args):
    if args.all == (args.map is not None):
        raise UsageError("give one MAP, or --all")
    found = None if args.all else find_map(front, args)
    return int(front.session().check(found, name=args.map or "", json=args.json, to=output(front, args)))


def _profile_options(parser):
    parser.add_argument("files", metavar="FILE", nargs="+",
                        help="goroutine profiles or tracebacks, in the order they were taken; - is standard input")


def _profiles(front, names):
    """The profiles' paths; `-` is standard input, once."""
    names = [unquote(name) for name in names]
    if "-" in names and not front.reads_stdin:
        raise UsageError("- is standard input, where the debugger reads its commands; give a file")
    if names.count("-") > 1:
        raise UsageError("standard input can be read once only")
    return names


def _run_profile(front, args):
    _native.profile(_profiles(front, args.files), json=args.json, to=output(front, args))


def _timeline_options(parser):
    parser.add_argument("goid", metavar="GOID", type=_count, help="the goroutine's id")
    parser.add_argument("--trace", metavar="FILE", required=True, help="an execution trace of Go 1.22 or later")


def _run_timeline(front, args):
    _native.timeline(
        args.goid, trace=unquote(args.trace), width=front.width(), colour=_coloured(front, args), json=args.json,
        to=output(front, args))


def _source_options(parser):
    parser.add_argument("--profile", metavar="FILE", action="append", default=[], dest="profiles",
                        help="a goroutine profile or traceback; several in the order they were taken")
    parser.add_argument("--trace", metavar="FILE", help="an execution trace of Go 1.22 or later")
    parser.add_argument("--force", action="store_true", help="join files that seem to be of different processes or builds")


def _sources(front, args, **asked):
    """The profiles and the trace that were given and the goroutines of the target, where there is anything to read at
    all; `asked` is what else to look up in the target."""
    if not args.profiles and not args.trace and not front.has_target():
        raise UsageError("give --profile FILE, --trace FILE, or a core or process; any of them together")
    target = None
    if asked or front.has_target():
        target = front.session().goroutine_evidence(progress=front.progress(), **asked)
    return dict(profiles=_profiles(front, args.profiles), trace=unquote(args.trace), force=args.force,
                target=target)


def _form(args, forms):
    """The form of the answer: that of --json, or by the ending of -o FILE."""
    ending = os.path.splitext(unquote(args.output) or "")[1].lower()
    return "json" if args.json else forms.get(ending, "text")


def _evidence_options(parser):
    _source_options(parser)
    parser.add_argument("--map", metavar="MAP", help="the map of the target to draw (default: the one behind most waits)")
    parser.add_argument("--type", metavar="TYPE", help="the map type, as Go spells it, if MAP is an address")
    parser.add_argument("--key", metavar="KEY", help="the key that was looked up in MAP, as a Go literal")
    _frame_options(parser)


def _run_evidence(front, args):
    if args.map is None and (args.key or args.type):
        raise UsageError("--key and --type go with --map MAP")
    key = None if args.key is None else _escaped(args.key)
    asked = {} if args.map is None else dict(map=find_map(front, args), name=args.map, key=key)
    _native.evidence(
        **_sources(front, args, **asked), form=_form(args, {".html": "html", ".htm": "html", ".json": "json", ".md": "markdown"}),
        colour=_coloured(front, args), to=output(front, args))


def _audit_options(parser):
    _source_options(parser)
    parser.add_argument("--policy", metavar="FILE", help="the limits, as TOML (default: no leaks, sound maps)")
    parser.add_argument("--baseline", metavar="FILE", help="findings that are known: they pass unless they are worse")
    parser.add_argument("--write-baseline", metavar="FILE", help="write all findings there, as known from now on")


def _run_audit(front, args):
    policy = _native.Policy(unquote(args.policy))
    sources = _sources(front, args)
    maps = policy.maps_of(front.session(), progress=front.progress()) if front.has_target() else None
    return int(_native.audit(
        policy, **sources, maps=maps, baseline=unquote(args.baseline),
        write_baseline=unquote(args.write_baseline),
        form=_form(args, {".json": "json", ".sarif": "sarif", ".xml": "junit"}), to=output(front, args)))


def _list_options(parser):
    _value_options(parser)
    parser.add_argument("--sort", choices=["bytes", "count", "waste"], default="bytes", help="largest first (default: bytes)")
    parser.add_argument("--type", metavar="TYPE", help="only maps whose type contains TYPE")
    parser.add_argument("--min-bytes", type=_count, metavar="N", default=0, help="only maps of at least N bytes")
    parser.add_argument("--where", metavar="PATTERN", help="only maps with an entry that matches, as for print; the entries too")
    parser.add_argument("--limit", type=_count, metavar="N", help="at most N maps; 0 is all (default: set gomap limit)")


def _run_list(front, args):
    limit = front.settings["limit"] if args.limit is None else args.limit
    front.session().list(sort=args.sort, type_name=unquote(args.type), min_bytes=args.min_bytes, where=unquote(args.where),
                         limit=0 if args.json and args.limit is None else limit, show=show_options(front, args),
                         to=output(front, args))


def _goroutines_options(parser):
    parser.add_argument("--state", metavar="S", help="only in this state: a status or wait reason, or its start")
    parser.add_argument("--func", metavar="RE", help="only with a function on the stack that matches")
    parser.add_argument("--on", metavar="ADDR", type=_map_address, help="only those that wait on the object at this address")
    parser.add_argument("--label", metavar="K=V", help="only with this pprof label")
    parser.add_argument("--group", action="store_true", help="alike ones together: same state, same stack")
    parser.add_argument("--stack", action="store_true", help="with stacks")


def _run_goroutines(front, args):
    front.session().goroutines(
        state=unquote(args.state), func=unquote(args.func), on=args.on, label=unquote(args.label),
        group=args.group, stack=args.stack, json=args.json, to=output(front, args))


def _goroutine_options(parser):
    parser.add_argument("goid", metavar="N", nargs="?", type=_count, help="a goroutine ID (default: the selected one)")
    parser.add_argument("--frame", metavar="K", type=_count, help="select its frame K, as gomap locals counts")


def _run_goroutine(front, args):
    goid = front.goroutine if args.goid is None else args.goid
    if goid is None:
        raise UsageError("no goroutine is selected; gomap goroutine N selects one")
    front.session().goroutine(goid, json=args.json, to=output(front, args))
    if args.goid is not None or args.frame is not None:
        front.goroutine, front.frame = goid, args.frame


def _locals_options(parser):
    _frame_options(parser)
    _value_options(parser)


def _run_locals(front, args):
    goid, frame = _frame(front, args)
    if goid is None:
        raise UsageError("of which goroutine? Give --goroutine N, or select one with gomap goroutine N")
    front.session().locals(goid, frame, show=show_options(front, args), to=output(front, args))


def _leaks_options(parser):
    parser.add_argument("--all", action="store_true", help="known idle patterns too")
    parser.add_argument("--fail-on", metavar="CLASS", default="leak-suspect",
                        help="the least class that gives exit status 1: likely-key-mismatch, leak-suspect (the default), "
                             "waiting, or none")
    _graph_option(parser)


def _graph_option(parser):
    parser.add_argument("--graph", choices=["mermaid", "dot"], help="draw the chains instead")


def _run_leaks(front, args):
    return int(front.session().leaks(all=args.all, graph=args.graph, fail_on=unquote(args.fail_on), json=args.json,
                                     to=output(front, args)))


def _explain_options(parser):
    parser.add_argument("goid", metavar="GOID", type=_count, help="a goroutine ID")
    _graph_option(parser)


def _run_explain(front, args):
    front.session().explain(args.goid, graph=args.graph, json=args.json, to=output(front, args))


def _operations(text):
    return [word.strip() for word in text.split(",")]


def _seconds_or_none(text):
    return _seconds(text) if float(text) else 0.0


def _seconds(text):
    value = float(text)
    if not 0 < value < 1e9:
        raise ValueError(text)
    return value


def _watch_options(parser):
    _value_options(parser)
    parser.add_argument("map", metavar="MAP", nargs="?", help="only this map (default: every map of the program)")
    parser.add_argument("--op", type=_operations, metavar="OP,OP", default=[],
                        help="only these: %s; or by the words of the output: access1, Load, LoadOrStore, …"
                        % ", ".join(_native.OPERATIONS))
    parser.add_argument("--type", metavar="TYPE", help="only maps whose type contains TYPE; with 0xADDR, its type")
    parser.add_argument("--key", metavar="PATTERN", help="only keys that match: text, glob*, /regex/, key>=10")
    parser.add_argument("--goroutine", metavar="N", type=_count, help="only this goroutine")
    parser.add_argument("--func", metavar="RE", help="only callers whose name matches")
    parser.add_argument("--misses", action="store_true", help="only reads that missed their key")
    parser.add_argument("--entry", action="store_true", help="probe no returns: half the cost, and nothing tells whether keys were found")
    parser.add_argument("--limit", metavar="N", type=_count, default=0, help="end after N operations")
    parser.add_argument("--for", metavar="SECONDS", type=_seconds, dest="seconds", help="end after so long")
    parser.add_argument("--stop", action="store_true",
                        help="stop the program at the first hit; sets $gomap_map, $gomap_key, $gomap_goid")
    parser.add_argument("--snapshot", action="store_true", help="with the map's state, and the slots that the lookup passes")
    parser.add_argument("--engine", choices=["auto", "gdb", "uprobe"], default="auto",
                        help="who catches the hits: the debugger, or the kernel (default: the kernel where it can)")
    parser.add_argument("--max-overhead", metavar="PERCENT", type=_seconds, default=50.0,
                        help="end when the probes take more of the program's time (default: 50)")


def _run_watch(front, args):
    front.keep_running()
    # Its --goroutine says who is watched, not whose variables MAP may use: the program runs.
    found = find_map(front, argparse.Namespace(map=args.map, type=args.type)) if args.map is not None else None
    what = dict(
        map=found, name=args.map or "", operations=args.op, key=unquote(args.key), goroutine=args.goroutine,
        type_name=None if args.map is not None else unquote(args.type), func=unquote(args.func), misses=args.misses, entry=args.entry,
        limit=1 if args.stop else args.limit, max_overhead=args.max_overhead, snapshot=args.snapshot,
        paced=not args.output)
    if args.depth is None:
        # The program may be waiting: what a key points at is enough to know it by.
        args.depth = min(1, front.settings["depth"])
    front.watch(args, what, show_options(front, args), output(front, args))


def kernel_refuses():
    """Why the kernel engine cannot be used here, or None."""
    probes = getattr(_native, "kernel_probes", None)
    if probes is None:
        return "kernel probes are a matter of Linux"
    try:
        probes()
    except Error as error:
        return str(error)
    return None


def watch_in_kernel(front, session, pid, what, show, to):
    """The native Watch of the kernel's probes in this process, from now on."""
    watch = _native.Watch.in_kernel(session, pid, what, show, to)
    note_on_outcomes(front, watch)
    picks = watch.picks()
    front.note("the kernel's probes watch process %d, which runs on%s" % (pid, "; picked by " + picks if picks else ""))
    return watch


def note_on_outcomes(front, watch):
    """Says where nothing tells whether keys were found."""
    if watch.lacks_outcomes():
        front.note("whether keys were found is not known: where this program's map functions return could not be read")


def _snapshot_options(parser):
    parser.add_argument("file", metavar="FILE", help="where to write the snapshot: JSON lines")


def _run_snapshot(front, args):
    found = find_map(front, args)
    front.session().snapshot(found, path=unquote(args.file), json=args.json, to=output(front, args))


def _diff_options(parser):
    parser.add_argument("a", metavar="A", help="a snapshot's file, or an expression that yields a map")
    parser.add_argument("b", metavar="B", help="likewise, later")
    parser.add_argument("--type", metavar="TYPE", help="the map type, as Go spells it, where A or B is an address")
    _frame_options(parser)
    parser.add_argument("--limit", type=_count, metavar="N", help="at most N entries of each sort; 0 is all (default: set gomap limit)")


def _run_diff(front, args):
    def side(text):
        name = unquote(text)
        if os.path.exists(name):
            return name, None
        try:
            frame = dict(goroutine=args.goroutine, frame=args.frame)
            return text, find_map(front, argparse.Namespace(map=text, type=args.type if _is_address(text) else None, **frame))
        except Error as error:
            raise Error("%s is neither a file nor a map: %s" % (text, error)) from None

    (a, map_a), (b, map_b) = side(args.a), side(args.b)
    if args.type and map_a is None and map_b is None:
        raise UsageError("--type goes with an address, and both of these are files")
    limit = front.settings["limit"] if args.limit is None else args.limit
    session = front.session() if map_a is not None or map_b is not None else None
    _native.diff(session, a=a, map_a=map_a, b=b, map_b=map_b, limit=limit, json=args.json, to=output(front, args))


VERBS = [
    Verb("print", "Show the entries of a map.", """\
examples:
  gomap print main.cache
  gomap print s.users --limit 10 --sort key
  gomap print main.cache --where 'elem.Name=="x"' --json
  gomap print 0xc000010030 --type 'map[string]int'""", _print_options, _run_print),
    Verb("get", "Show one entry; says whether it is present, zero, nil, empty or absent.", """\
KEY is a Go literal: "str", 42, 'x', 1.5, NaN, true, [2]int{1,2}, {1, "a"}, T{F: 1}, int64(1), 0xc000…

examples:
  gomap get main.cache "alice"
  gomap get main.byPoint '{1, 2}'
  gomap get m --expr req.ID""", _key_options, _run_get),
    Verb("why", "Explain a lookup step by step, and name the stored keys that look like the missed one.", """\
Near misses are found in one pass over all keys: white space, case, Unicode form, invisible characters,
look-alikes, encodings, dynamic types, pointees, struct fields, instants, numbers by width and sign, affixes, edits.
The pass ends after --budget seconds, and then the answer says how many keys it compared.

examples:
  gomap why main.cache "alice"
  gomap why --all "alice"
  gomap why main.ids 'int64(1)'""", _why_options, _run_why, takes_map=False),
    Verb("stats", "Show count, load, chains or groups, growth, tombstones and bytes of a map.", """\
The histogram counts, by index i: chains with i overflow buckets (classic), groups with i live slots (Swiss).

example:
  gomap stats main.cache""", lambda parser: None, _run_stats),
    Verb("buckets", "Show the physical layout: each bucket or group with its control bytes and slots.", """\
examples:
  gomap buckets main.cache
  gomap buckets main.cache 3-5""", _buckets_options, _run_buckets),
    Verb("check", "Check every invariant of a map: counts, control bytes, each key where its hash says.", """\
Exit status of the command-line form: 1 when something is wrong.

examples:
  gomap check main.cache
  gomap check --all""", _check_options, _run_check, takes_map=False),
    Verb("list", "List every map of the process, with its owner path, entries and bytes.", """\
examples:
  gomap list
  gomap list --type main.Session --sort count
  gomap list --where 'alice*'
  gomap list --where 'elem.Name=="alice"'
  gomap list --min-bytes 1000000 --json""", _list_options, _run_list, takes_map=False),
    Verb("export", "Write all entries to a .json, .jsonl or .csv file.", """\
example:
  gomap export main.cache cache.jsonl""", _export_options, _run_export),
    Verb("snapshot", "Write a map with the place of each entry to a file, for gomap diff.", """\
example:
  gomap snapshot main.cache before.jsonl""", _snapshot_options, _run_snapshot),
    Verb("diff", "Compare two snapshots, or a snapshot and a map: what was added, removed, changed, moved.", """\
examples:
  gomap diff before.jsonl main.cache
  gomap diff before.jsonl 0xc000010030 --type 'map[string]int'
  gomap diff before.jsonl after.jsonl --json""", _diff_options, _run_diff, takes_map=False),
    Verb("watch", "Show each operation on maps as it happens: key, map, goroutine, caller, found or not.", """\
The program runs until it ends, Ctrl-C, or a limit; then come totals, and the most frequent keys and callers.
Found or missing is what the operation itself returned: of an assignment or delete, whether the key was there before.
Where no return is seen that is unknown. The kernel engine (uprobe) never stops the program; the debugger's engine (gdb)
stops it for each operation, and knows the map as it is then. A read that missed comes with the stored key that is most
like its own, if one is like it enough.

examples:
  gomap watch main.cache --limit 20
  gomap watch --misses --for 5
  gomap watch main.cache --key 'order-*' --stop""", _watch_options, _run_watch, takes_map=False),
    Verb("profile", "Group goroutines by state and stack, and show what grows over several profiles.", """\
Reads debug=0, debug=1 and debug=2 goroutine profiles, goroutineleak profiles, and the tracebacks of panics
and SIGQUIT, also out of logs. Needs no target.

examples:
  gomap profile goroutine.txt
  gomap profile before.pb.gz after.pb.gz --json""", _profile_options, _run_profile, takes_map=False),
    Verb("timeline", "Draw one goroutine's states over the time of an execution trace.", """\
Needs no target.

example:
  gomap timeline 21 --trace trace.out""", _timeline_options, _run_timeline, takes_map=False),
    Verb("evidence", "Join profiles and a trace by goroutine: who is stuck, since when, after which map lookup.", """\
The ending of -o FILE decides the form: .html (one self-contained file), .md, .json; text otherwise.
Needs no target; with one, its goroutines are joined too, with the map entries behind their waits. --key is looked
up in --map and set beside the stored keys that are like it.

examples:
  gomap evidence --profile stacks.txt --trace trace.out
  gomap evidence --profile early.txt --profile late.txt -o report.html
  gomap evidence --profile stacks.txt --map main.subs --key '"order-A"' -o report.html""",
         _evidence_options, _run_evidence, takes_map=False),
    Verb("audit", "Hold a program to limits, for pipelines: leaks, goroutines, maps, integrity; exit status 1 if it fails.", """\
A policy is a TOML file; what it does not name is not checked:
  [goroutines] max = 10000
  [leaks]      classes = ["likely_key_mismatch", "leak_suspect"], max = 0      goroutines of a cluster
  [total]      max_maps, max_entries, max_bytes                                of all maps together
  [[map]]      path = "main.cache*", max_entries, max_bytes, max_nan_keys, min_load = 0.2, min_load_bytes = 65536
  [integrity]  severity = "error"                                              or "warning": findings of gomap check
  [baseline]   tolerance = 0.1                                                 by which a known finding may grow
The ending of -o FILE decides the form: .sarif, .xml (JUnit), .json; text otherwise.

examples:
  gomap audit
  gomap audit --policy mapscope.toml --baseline known.json -o audit.sarif
  gomap audit --profile stacks.txt --write-baseline known.json""", _audit_options, _run_audit, takes_map=False),
    Verb("goroutines", "List goroutines: state, what each waits on, stack.", """\
examples:
  gomap goroutines
  gomap goroutines --state 'chan receive' --stack
  gomap goroutines --group
  gomap goroutines --on 0xc00010a000""", _goroutines_options, _run_goroutines, takes_map=False),
    Verb("goroutine", "Select a goroutine and show it: its variables are then known to expressions.", """\
example:
  gomap goroutine 21
  gomap locals
  gomap print m""", _goroutine_options, _run_goroutine, takes_map=False),
    Verb("locals", "Show the variables and arguments of a goroutine's frames.", """\
Of a parked goroutine only PC, SP and BP were saved: a variable that was in another register is lost, and said to be.

examples:
  gomap locals --goroutine 21
  gomap locals --goroutine 21 --frame 3
  gomap print m --goroutine 21 --frame 3""", _locals_options, _run_locals, takes_map=False),
    Verb("leaks", "Show clusters of stuck goroutines, scored, with the map key behind each where one is found.", """\
Exit status of the command-line form: 1 when a cluster is a likely key mismatch or a leak suspect; --fail-on CLASS
sets another least class.

example:
  gomap leaks
  gomap leaks --fail-on likely-key-mismatch
  gomap leaks --graph mermaid -o leaks.mmd""", _leaks_options, _run_leaks, takes_map=False),
    Verb("explain", "Explain one goroutine: what it waits on, which map entry holds that, who could wake it.", """\
example:
  gomap explain 21
  gomap explain 21 --graph dot""", _explain_options, _run_explain, takes_map=False),
]

BY_NAME = {verb.name: verb for verb in VERBS}


def overview():
    """The text of `help gomap`."""
    width = max(len(verb.name) for verb in VERBS)
    lines = ["Look into Go maps.", "", "gomap VERB [MAP] [OPTIONS]", ""]
    lines += ["  %-*s  %s" % (width, verb.name, verb.summary) for verb in VERBS]
    lines += ["", "`help gomap VERB` tells more."]
    return "\n".join(lines)


def run(front, words):
    """Runs one command line, already split; raises Error with one sentence. Returns findings (0 or 1)."""
    if not words:
        raise UsageError("which verb? One of: " + ", ".join(BY_NAME))
    verb = BY_NAME.get(words[0])
    if verb is None:
        raise UsageError("gomap has no verb %r; it has: %s" % (words[0], ", ".join(BY_NAME)))
    try:
        args = verb.parser.parse_intermixed_args(_joined(words[1:]))
        limit = front.settings["memory-limit"] if args.memory_limit is None else args.memory_limit
        _native.begin([path for path in front.inputs() if path], limit)
        if unquote(args.output) == "-":
            args.output = None
        status = verb.run(front, args) or 0
    except argparse.ArgumentTypeError as error:
        raise UsageError(str(error)) from None
    except OverflowError:
        raise UsageError("a number of this command is too large") from None
    except UnicodeEncodeError as error:
        raise UsageError("%r is not UTF-8; only keys may be any bytes" % error.object) from None
    front.confirm()
    return status
