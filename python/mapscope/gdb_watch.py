"""`gomap watch` in gdb: probes the program while it runs, by breakpoints of gdb's or by the kernel."""

import ctypes
import os
import re
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

_running = False


class _Probe(gdb.Breakpoint):
    """One internal breakpoint; the user's own are never touched."""

    def __init__(self, address, point, hit):
        super().__init__("*%#x" % address, internal=True)
        self.silent = True
        self._point, self._hit = point, hit

    def stop(self):
        return self._hit(self, self._point)


class _Passed:
    """Signals that gdb passes on to the program without a word."""

    def __init__(self, names):
        self._names = names
        words = [gdb.execute("info signals " + name, to_string=True).split(name)[-1].split()[:3] for name in names]
        self._before = [[word == "Yes" for word in three] for three in words]
        self._handle([[False, False, True]] * len(names))

    def _handle(self, how):
        for name, (stop, print_, pass_) in zip(self._names, how):
            words = [word if wanted else "no" + word for word, wanted in (("print", print_), ("stop", stop), ("pass", pass_))]
            gdb.execute("handle %s %s" % (name, " ".join(words)), to_string=True)

    def restore_at_next_stop(self):
        """Later than now: some may still be on their way."""
        gdb.events.stop.connect(self._restore)

    def _restore(self, _event):
        gdb.events.stop.disconnect(self._restore)
        self._handle(self._before)


class _Stopping:
    """The gdb engine: the program stops at each hit."""

    def __init__(self, native, stop_at_hit, direct):
        self.native, self.error, self.ending = native, None, False
        self._stop_at_hit, self._direct = stop_at_hit, direct
        self._inferior = gdb.selected_inferior()
        self._names = native.register_names()
        self._hits, self._cpu = 0, time.process_time()
        self._window = (time.monotonic(), self._cpu)
        self._probes = []
        for point, address in enumerate(native.addresses()):
            self._probes.append(_Probe(address, point, self._hit))
        self._passed = None

    def guard(self):
        """Lets the program outlive a gdb that is killed; raises Error when that cannot be."""
        guard = getattr(self.native, "guard", None)
        if guard is None:
            raise Error("there is no guard for this kind of machine")
        theirs = [location.address for breakpoint in gdb.breakpoints() if breakpoint.type == gdb.BP_BREAKPOINT
                  for location in getattr(breakpoint, "locations", ()) if location.enabled]
        self._passed = _Passed(["SIGSTOP", "SIGCONT"])
        try:
            guard(self._inferior.pid, theirs)
        except Error:
            self._passed.restore_at_next_stop()
            raise

    def _hit(self, probe, point):
        try:
            if not self._hits:
                self._cpu = time.process_time()
            self._hits += 1
            thread = gdb.selected_thread().ptid
            taken = self._take(point, thread, False)
            if taken == Watch.REPEATED:
                if _is_stepped_back_to(probe, gdb.selected_thread()):
                    return False
                taken = self._take(point, thread, True)
            return self.ending or taken == Watch.LAST or (taken == Watch.TOLD and self._stop_at_hit)
        except Exception as error:  # whatever it is, it ends the watch, not the session
            self.error = error
            return True
        except KeyboardInterrupt as interrupt:
            self.error = interrupt
            return True

    def _take(self, point, thread, sure):
        number = thread[1] or thread[2]
        if self._direct:
            try:
                return self.native.stopped_at(point, number, sure)
            except Error:
                self._direct = False
        frame = gdb.newest_frame()
        values = [int(frame.read_register(name)) & (1 << 64) - 1 for name in self._names]
        return self.native.stopped_with(point, number, values, sure)

    def end(self):
        """Ends at the next hit; returns whether the program has to be interrupted besides."""
        waited, self.ending = self.ending, True
        # gdbserver cannot interrupt a program that leads no process group.
        return self._direct or waited

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
        if self.native.unguard(alive=bool(self._inferior.is_valid() and self._inferior.pid)):
            self._passed.restore_at_next_stop()
        cost = (time.process_time() - self._cpu) / self._hits if self._hits else None
        self.native.finish(cost)


class _Recording:
    """The kernel engine: the program runs on."""

    def __init__(self, native):
        self.native, self.error = native, None

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


def _is_stepped_back_to(probe, thread):
    """Whether a signal interrupted the step over the probe: gdb then waits for the handler to come back to it."""
    return waits_for(gdb.execute("maint info breakpoints", to_string=True), int(probe.location.lstrip("*"), 16), thread.global_num)


def waits_for(listing, address, thread):
    """Whether gdb's list of all breakpoints has a step-resume one at this address for the thread of this global number.

    A row begins with the number and type; what else there is to say of a breakpoint follows in lines of their own.
    """
    is_at = False
    for line in listing.splitlines():
        row = re.match(r"-?\d+\s+(.*?)\s+(?:keep|del|dis)\s", line)
        if row:
            is_at = row.group(1) == "step resume" and re.search(r"\b0x0*%x\b" % address, line) is not None
        if is_at and re.search(r"\bthread %d\b" % thread, line):
            return True
    return False


def _engine(front, args, what, show, to):
    inferior = gdb.selected_inferior()
    if not inferior.pid:
        raise Error("there is no process to watch: run the program or attach to it first")
    connection = getattr(inferior, "connection", None)
    kind = connection.type if connection else None
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
        self._over.set()


def run(front, args, what, show, to):
    """Watches until the program ends, stops, or the watch is over."""
    global _running
    if _running:
        raise Error("a watch is running already; end it with Ctrl-C first")
    engine = _engine(front, args, what, show, to)
    _running = True
    ended = []
    termination = _Termination()
    clock = _Clock(engine, args.seconds, termination)

    def on_exit(_event):
        ended.append("the program has ended")

    gdb.events.exited.connect(on_exit)
    try:
        clock.start()
        gdb.execute("with suppress-cli-notifications on -- continue")
    except KeyboardInterrupt:
        pass
    except gdb.error as error:
        ended.append(str(error))
    finally:
        clock.end()
        clock.join()
        gdb.events.exited.disconnect(on_exit)
        _running = False
        try:
            engine.finish()
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
