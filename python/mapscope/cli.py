"""mapscope without a debugger: `mapscope --core EXE CORE VERB …`, `mapscope --pid PID VERB …`."""

import argparse
import os
import sys
import time

from mapscope import _native, commands
from mapscope._native import Error

USAGE = """\
usage: mapscope --core EXE CORE VERB [MAP] [OPTIONS]
       mapscope --pid PID [--exe EXE] [--no-stop | --stop-timeout SECONDS] VERB [MAP] [OPTIONS]
       mapscope --pid PID watch [MAP] [OPTIONS] | mapscope watch [OPTIONS] -- PROGRAM [ARGS]
       mapscope profile FILE... | timeline GOID --trace FILE | evidence --profile FILE --trace FILE
       mapscope gdbinit            print the path of the file to source in gdb
       mapscope help [VERB]

MAP is a package variable with .field, * and [i] (main.cache, *main.p, main.servers[0].users),
or 0xADDR with --type. Exit status: 0 fine, 1 findings, 2 bad use or unreadable target, 130 interrupted.
"""


class CliFront(commands.Front):
    """Answers about one core or process, on standard output."""

    reads_stdin = True

    def __init__(self, open_session, pid=None, program=None, inputs=()):
        self._open, self._session = open_session, None
        self._pid, self._program = pid, program
        self._inputs = list(inputs)

    def inputs(self):
        return self._inputs

    def confirm(self):
        if self._session is not None:
            self._session.check_files()

    def note(self, sentence):
        if sys.stderr is not None:
            super().note(sentence)

    def write(self, text):
        if sys.stdout is None:
            raise Error("cannot write the answer: standard output is closed")
        super().write(text)

    def session(self):
        if self._session is None:
            self._session = self.opened(self._open())
        return self._session

    def keep_running(self):
        if self._program is not None:
            self._held = _native.Program.hold(self._program[0], self._program[1:])
            self._pid = self._held.pid
        elif self._pid is None:
            raise commands.UsageError(
                "watch needs a live process, and a core has no future: give --pid PID, or watch [OPTIONS] -- PROGRAM")
        self._open = lambda: _native.Session.process(self._pid, None, False)

    def watch(self, args, what, show, to):
        if args.engine == "gdb" or args.stop:
            raise commands.UsageError("%s needs gdb: source its gdbinit there" % ("--stop" if args.stop else "the gdb engine"))
        why = commands.kernel_refuses()
        if why:
            raise Error("%s; or watch from gdb, whose own engine needs no such rights" % why)
        if self._session is None:
            self._session = self._open()
        watch = commands.watch_in_kernel(self, self._session, self._pid, what, show, to)
        if self._program is not None:
            self._held.release()
        deadline = time.monotonic() + args.seconds if args.seconds else None
        try:
            while not watch.poll(100):
                if deadline and time.monotonic() >= deadline:
                    break
        except KeyboardInterrupt:
            pass
        finally:
            watch.finish()
        if watch.ended():
            self.note(watch.ended())

    def has_target(self):
        return self._open is not _no_target

    def colour(self):
        return sys.stdout is not None and sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def progress(self):
        if sys.stderr is None or not sys.stderr.isatty():
            return None
        return lambda done, total: sys.stderr.write("\r%d%s\033[K\r" % (done, " of %d" % total if total else ""))


def _parse(argv):
    """(front, the verb's words)."""
    parser = commands._Parser(prog="mapscope", add_help=False, allow_abbrev=False)
    parser.add_argument("--core", nargs=2, metavar=("EXE", "CORE"))
    parser.add_argument("--pid", type=_pid)
    parser.add_argument("--exe")
    parser.add_argument("--no-stop", action="store_true")
    parser.add_argument("--stop-timeout", metavar="SECONDS", type=commands._seconds, default=_native.STOP_TIMEOUT)
    parser.add_argument("words", nargs=argparse.REMAINDER)
    args = parser.parse_args(argv)
    if args.words[:1] == ["watch"] and "--" in args.words:
        at = args.words.index("--")
        program, args.words = args.words[at + 1:], args.words[:at]
        if args.core or args.pid is not None or not program:
            raise commands.UsageError("watch [OPTIONS] -- PROGRAM [ARGS] starts its own process")
        return CliFront(_no_target, program=program), args.words
    if args.core and args.pid is not None:
        raise commands.UsageError("give --core or --pid, not both")
    if args.core:
        exe, core = args.core
        return CliFront(lambda: _native.Session.core(core, exe), inputs=args.core), args.words
    if args.pid is not None:
        return CliFront(lambda: _native.Session.process(args.pid, args.exe, not args.no_stop, args.stop_timeout), pid=args.pid,
                        inputs=[args.exe, "/proc/%d/exe" % args.pid]), args.words
    return CliFront(_no_target), args.words


def _pid(text):
    value = int(text)
    if not 0 < value < 1 << 31:
        raise argparse.ArgumentTypeError("%s is no process" % text)
    return value


def _no_target():
    raise commands.UsageError("which target? Give --core EXE CORE or --pid PID before the verb")


def main(argv=None):
    """Runs one command line; returns the exit status."""
    try:
        return _run(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:
        # It may come while another error is told, too.
        _fail("interrupted")
        return 130


def _run(argv):
    try:
        if not argv or argv[0] in ("help", "-h", "--help"):
            verb = commands.BY_NAME.get(argv[1]) if len(argv) > 1 else None
            _say(verb.help() if verb else USAGE + "\n" + commands.overview())
            return 0
        if argv[0] == "gdbinit":
            _say(os.path.join(os.path.dirname(os.path.abspath(__file__)), "gdbinit"))
            return 0
        front, words = _parse(argv)
        status = commands.run(front, words)
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except Error as error:
        return _fail(error)
    except BrokenPipeError:
        # The reader has gone (`| head`): nothing more to say.
        _leave_stdout()
        return 0
    except OSError as error:
        _leave_stdout()
        return _fail("cannot write the answer: %s" % error.strerror)
    except MemoryError:
        return _fail("there is not enough memory for this")


def _say(text):
    CliFront(_no_target).write(text + "\n")
    sys.stdout.flush()


def _fail(sentence):
    if sys.stderr is not None:
        print("mapscope: %s" % sentence, file=sys.stderr)
    return 2


def _leave_stdout():
    """What could not be written is not written at exit either."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
