"""`gomap watch` in gdb: probes the program while it runs, by breakpoints of gdb's or by the kernel."""

import atexit
import ctypes
import os
import signal
import sys
import threading
import time

import gdb

from mapscope import commands
from mapscope._native import Error, Watch

#: How often the clock is looked at, and the kernel's records are fetched.
_TICK_SECONDS = 0.1
#: Over how long a time the debugger's share is judged.
_WINDOW_SECONDS = 1.0
#: How long a program may take to execute another one.
_EXEC_SECONDS = 1.0

_running = False


class _Probe(gdb.Breakpoint):
    """One internal breakpoint; the user's own are never touched."""

    def __init__(self, address, point, hit):
        super().__init__("*%#x" % address, internal=True)
        self.silent = True
        self._point, self._hit = point, hit

    def stop(self):
        return self._hit(self._point)


class _Quiet:
    """A signal of our own doing, of which gdb says nothing, and which it passes on to the program or not."""

    def __init__(self, name, passed):
        self._name = name
        words = gdb.execute("info signals " + name, to_string=True).rpartition(name)[2].split()[:3]
        self._before = [word == "Yes" for word in words]
        self._handle(False, False, passed)

    def _handle(self, *wanted):
        words = " ".join(word if yes else "no" + word for word, yes in zip(("stop", "print", "pass"), wanted))
        gdb.execute("handle %s %s" % (self._name, words), to_string=True)

    def restore_at_next_stop(self):
        """Later than now: one may still be on its way."""
        gdb.events.stop.connect(self._restore)

    def _restore(self, _event):
        gdb.events.stop.disconnect(self._restore)
        self._handle(*self._before)


class _Stopping:
    """The gdb engine: the program stops at each hit."""

    def __init__(self, native, stop_at_hit, direct):
        self.native, self.error, self.ending, self.leaves = native, None, False, False
        self._stop_at_hit, self._direct = stop_at_hit, direct
        self._inferior = gdb.selected_inferior()
        self._names = native.register_names()
        self._hits, self._calls, self._cpu, self._quiet = 0, native.calls(), time.process_time(), None
        self._window = (time.monotonic(), self._cpu)
        self._probes = []
        for point, address in enumerate(native.addresses()):
            self._probes.append(_Probe(address, point, self._hit))
        before_exec = native.before_exec()
        if before_exec is not None:
            self._probes.append(_Probe(before_exec, None, self._leave))

    def guard(self):
        """Lets the program outlive a gdb that is killed; raises Error when that cannot be."""
        guard = getattr(self.native, "guard", None)
        if guard is None:
            raise Error("there is no guard for this kind of machine")
        theirs = [location.address for breakpoint in gdb.breakpoints() if breakpoint.type == gdb.BP_BREAKPOINT
                  for location in getattr(breakpoint, "locations", ()) if location.enabled]
        guard(self._inferior.pid, theirs)
        # A thread that begins joins the group stop, which looks like this signal.
        self._quiet = _Quiet("SIGSTOP", passed=False)

    def _hit(self, point):
        try:
            if not self._hits:
                self._cpu = time.process_time()
            self._hits += point < self._calls
            thread = gdb.selected_thread().ptid
            taken = self._take(point, thread)
            return self.ending or taken == Watch.LAST or (taken == Watch.TOLD and self._stop_at_hit)
        except Exception as error:  # whatever it is, it ends the watch, not the session
            self.error = error
            return True
        except KeyboardInterrupt as interrupt:
            self.error = interrupt
            return True

    def _leave(self, _point):
        # gdb 13 waits for ever when it stops or detaches threads while execve ends them: no more hits until that is done.
        self.leaves = True
        return True

    def _take(self, point, thread):
        number = thread[1] or thread[2]
        if self._direct:
            try:
                return self.native.stopped_at(point, number)
            except Error:
                self._direct = False
        frame = gdb.newest_frame()
        values = [int(frame.read_register(name)) & (1 << 64) - 1 for name in self._names]
        return self.native.stopped_with(point, number, values)

    def end(self):
        """Ends at the next hit; returns whether the program has to be interrupted, as no hit has come for a tick."""
        waited, self.ending = self.ending, True
        return waited

    def tick(self):
        """Whether the watch has to end."""
        self.native.flush()
        now, cpu = time.monotonic(), time.process_time()
        start, used = self._window
        if now - start >= _WINDOW_SECONDS:
            self._window = (now, cpu)
            return self.native.judge_share(100 * (cpu - used) / (now - start))
        return False

    def finish(self):
        for probe in self._probes:
            if probe.is_valid():
                probe.delete()
        alive = bool(self._inferior.is_valid() and self._inferior.pid)
        if self.native.unguard(alive) and alive:
            _Quiet("SIGCONT", passed=True).restore_at_next_stop()
        if self._quiet:
            self._quiet.restore_at_next_stop()
        cost = (time.process_time() - self._cpu) / self._hits if self._hits else None
        self.native.finish(cost)


class _Recording:
    """The kernel engine: the program runs on."""

    def __init__(self, native):
        self.native, self.error, self.leaves = native, None, False

    def tick(self):
        """Whether the watch has to end."""
        try:
            return self.native.poll(0)
        except (Error, KeyboardInterrupt) as error:
            self.error = error
            return True

    def end(self):
        """Whether the program has to be interrupted for the end."""
        return True

    def finish(self):
        self.native.finish()


class _NextProgram:
    """Stops the program where it has executed another one, before probes get into that."""

    def __init__(self, native):
        self._number = None
        try:
            # gdb takes the catchpoint anyway, and stops at the first step because it cannot be inserted.
            if not native and "currently enabled" not in gdb.execute("show remote exec-event-feature-packet", to_string=True):
                return
            self._number = gdb.execute("tcatch exec", to_string=True).split()[-2]
        except (gdb.error, IndexError):
            pass  # a target that does not tell

    def has_come(self):
        """Whether it runs already: the catchpoint is gone then."""
        return bool(self._number) and gdb.execute("info breakpoints " + self._number, to_string=True).startswith("No ")

    def end(self):
        """Takes the catchpoint out; returns whether the other program had come."""
        come = self.has_come()
        if self._number and not come:
            gdb.execute("delete " + self._number, to_string=True)
        return come

    def wait(self):
        """Lets the program, which is about to execute another one, do so, or fail to."""
        # Alone at first: execve would end the other threads while gdb is still busy letting them go.
        for lock in ("on", "off"):
            if not self.has_come():
                self._continue(lock)

    def _continue(self, lock):
        runs = True

        def interrupt():
            if runs:
                gdb.execute("interrupt")

        late = threading.Timer(_EXEC_SECONDS, gdb.post_event, [interrupt])
        late.start()
        try:
            gdb.execute("with scheduler-locking %s -- continue" % lock, to_string=True)
        finally:
            runs = False
            late.cancel()
            late.join()


def _kind(inferior):
    """gdb's word for how it reaches the program: `native`, `remote`, `core`; None in a gdb that does not tell."""
    connection = getattr(inferior, "connection", None)
    return connection.type if connection else None


def _engine(front, inferior, args, what, show, to):
    if not inferior.pid:
        raise Error("there is no process to watch: run the program or attach to it first")
    kind = _kind(inferior)
    if kind == "core":
        raise Error("a core has no future to watch: run the program or attach to it")
    native_target = kind == "native"
    why = None
    if not native_target:
        why = "the program does not run on this machine's gdb"
    elif args.stop:
        why = "--stop needs the debugger"
    else:
        why = commands.kernel_refuses()
    if args.engine == "uprobe" and why:
        raise Error(why)
    if args.engine == "gdb" or why:
        native = Watch.stopping(front.session(), what, show, to)
        front.note("gdb stops the program at each hit%s" % (" (%s)" % why if why and args.engine == "auto" else ""))
        commands.note_on_outcomes(front, native)
        engine = _Stopping(native, args.stop, native_target)
        if native_target and inferior.was_attached:
            try:
                engine.guard()
            except Error as error:
                front.note("if gdb is killed, the program may die too: %s" % error)
        return engine
    return _Recording(commands.watch_in_kernel(front, front.session(), inferior.pid, what, show, to))


class _Termination:
    """Holds a SIGTERM back: gdb would quit at once, and leave threads on breakpoints that are no more."""

    def __init__(self):
        self.asked = False
        # Python does not know gdb's own handler, so it could not put it back.
        self._signal = ctypes.CDLL(None).signal
        self._signal.argtypes, self._signal.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
        self._handler = self._signal(signal.SIGTERM, None)
        signal.signal(signal.SIGTERM, self._hold)

    def _hold(self, _number, _frame):
        self.asked = True

    def pass_on(self):
        """Gives gdb its handler back, and the signal that came."""
        self._signal(signal.SIGTERM, self._handler)
        if self.asked:
            os.kill(os.getpid(), signal.SIGTERM)


class _Clock(threading.Thread):
    """Calls `engine.tick` on gdb's own thread again and again; interrupts the program when that says so."""

    def __init__(self, engine, seconds, termination):
        super().__init__(daemon=True)
        self._engine, self._termination = engine, termination
        self._over = threading.Event()
        self._deadline = time.monotonic() + seconds if seconds else None
        self._pending = False

    def run(self):
        while not self._over.wait(_TICK_SECONDS):
            if not self._pending:
                self._pending = True
                gdb.post_event(self._on_gdb_s_thread)

    def _on_gdb_s_thread(self):
        self._pending = False
        if self._over.is_set():
            return
        late = self._deadline is not None and time.monotonic() >= self._deadline
        if self._engine.tick() or late or self._termination.asked:
            if not self._engine.end():
                return
            self._over.set()
            try:
                gdb.execute("interrupt")
            except gdb.error as error:
                sys.stderr.write("mapscope: cannot interrupt the program: %s\n" % error)

    def end(self):
        """After that, no more calls; gdb may still have one to make."""
        self._over.set()
        self.join()
        if self._pending:
            atexit.register(self._leave)

    def _leave(self):
        # gdb 13 keeps a call that it never came to make until Python is gone, and then crashes over it as it exits.
        if self._pending:
            ctypes.CDLL(None).fflush(None)
            os._exit(0)


def _is_ending(inferior):
    """Whether a program of this machine ends just now: gdb gives up where it asks a thread that exit has ended already."""
    if _kind(inferior) != "native":
        return False
    for _ in range(20):
        try:
            with open("/proc/%d/stat" % inferior.pid) as stat:
                if stat.read().rpartition(") ")[2][0] in "ZX":
                    return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


def _take_late_interrupt(process):
    """Lets gdb see an interrupt that a hit came before: the program would die of it once gdb is gone."""
    try:
        with open("/proc/%d/status" % process) as status:
            masks = dict(line.split(":", 1) for line in status)
        pending, blocked = (int(masks[name], 16) >> (signal.SIGINT - 1) & 1 for name in ("ShdPnd", "SigBlk"))
        if pending and not blocked:
            gdb.execute("continue", to_string=True)
    except (OSError, KeyError, gdb.error):
        pass  # it has ended, or runs another program


def run(front, args, what, show, to):
    """Watches until the program ends, stops, or the watch is over."""
    global _running
    if _running:
        raise Error("a watch is running already; end it with Ctrl-C first")
    inferior = gdb.selected_inferior()
    engine = _engine(front, inferior, args, what, show, to)
    _running = True
    ended = []
    termination = _Termination()
    clock = _Clock(engine, args.seconds, termination)

    def on_exit(_event):
        ended.append("the program has ended")

    gdb.events.exited.connect(on_exit)
    other = _NextProgram(_kind(inferior) not in ("remote", "extended-remote"))
    try:
        clock.start()
        gdb.execute("with suppress-cli-notifications on -- continue")
    except KeyboardInterrupt:
        pass
    except gdb.error as error:
        ended.append("the program has ended" if _is_ending(inferior) else str(error))
    finally:
        clock.end()
        gdb.events.exited.disconnect(on_exit)
        _running = False
        try:
            engine.finish()
            if engine.leaves and not ended:
                other.wait()
            if other.end():
                ended.append("the program has executed another one")
            elif engine.leaves:
                ended.append("the program tried to execute another one")
            if inferior.is_valid() and inferior.pid and _kind(inferior) == "native":
                _take_late_interrupt(inferior.pid)
        finally:
            termination.pass_on()
    if isinstance(engine.error, Error):
        raise engine.error
    if engine.error is not None and not isinstance(engine.error, KeyboardInterrupt):
        raise Error("the watch failed (%s: %s)" % (type(engine.error).__name__, engine.error))
    for sentence in [engine.native.ended()] + ended:
        if sentence:
            front.note(sentence)
    if args.stop and engine.native.hits() and not ended:
        _tell_hit(front, engine.native.last())


def _tell_hit(front, last):
    found, key, goroutine = last
    front.hit_map = front.last = found
    gdb.set_convenience_variable("gomap_map", found.address if found else 0)
    gdb.set_convenience_variable("gomap_key", key or "")
    gdb.set_convenience_variable("gomap_goid", goroutine)
    gdb.execute("frame")
