"""The supervisor: makes the arena, starts the processes, pins, watches, restarts and stops them in order.

It is one loop (:meth:`Supervisor.do_work`): drain signals, reap the dead, kill the silent, start the
missing, take the next step of an orderly stop. It knows kinds of process and nothing of quoting.

What a death means for the others is said once (:meth:`Supervisor._fence`): a quoter's markets get a kill bit
and its worker slot a new epoch *before* anything else happens, so that the gateway refuses whatever the dead
process still had on its way and cancels what it left at the venue. The same path serves a process that
stalled, which is killed, never asked.

Writes: header, process rows (its part), market descriptors, config slots; kill words and worker epochs
through :mod:`engine.kill_words`.
"""

from __future__ import annotations

import os
import random
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import msgspec
import psutil
from msgspec import structs

from engine import crash_points, facts_restore, placement, rundir, valkey
from engine._native import ffi, lib
from engine.arena import Arena, cell, padded, record_pass
from engine.backoff import (
    RestartHistory,
    RestartPolicy,
    after_death,
    is_crash_loop,
    restart_delay_ns,
)
from engine.child import (
    CONTROL,
    GATEWAY,
    GUARD,
    INGEST,
    QUOTER,
    RECORDER,
    VALKEY,
    WRITER,
    Child,
    ChildState,
    Launcher,
    children,
)
from engine.config import EXIT_CONFIG, Config, ConfigError, market_json
from engine.durable import write_durably
from engine.kill_words import KillWords
from engine.process_log import EventLog, LogFile
from engine.realtime import Realtime
from engine.workers.process import CONFIG_FILE

EXIT_OK: Final = 0
EXIT_UNCLEAN: Final = 1

TICK_COUNT: Final = 101  # cents 0..100; levels live on 1..99
SPARE_MARKET_SLOTS: Final = 16
SPARE_WORKER_SLOTS: Final = 16
_WORKER_SLOTS_MAX: Final = 1024

_NS_PER_MS: Final = 1_000_000
_NS_PER_S: Final = 1_000_000_000
_TICK_NS: Final = 50 * _NS_PER_MS
_KILL_WAIT_S: Final = 5.0
_VALKEY_READY_NS: Final = 10 * _NS_PER_S
_VALKEY_POLL_S: Final = 0.005

#: Who stops before whom: quoters withdraw their quotes, the gateway sweeps what is left, the guard looks once
#: more, the feed, the operators' door, the record and the last rows end, and the server that holds the rows
#: goes last.
STOP_ORDER: Final = (QUOTER, GATEWAY, GUARD, INGEST, CONTROL, RECORDER, WRITER, VALKEY)
#: No quote waits for these: on a machine of few cores their start would only hold up the others'.
_LATE_KINDS: Final = (WRITER, CONTROL)
_LATE_NS_MAX: Final = 3 * _NS_PER_S


class Supervisor:
    """One engine's life, from a checked configuration to the exit code.

    ``console`` takes one readable line per transition. :meth:`run` must be called in the main thread, as
    :class:`engine.child.Launcher` says.
    """

    def __init__(
        self,
        config: Config,
        run: rundir.RunDirectory,
        *,
        console: Callable[[str], None],
    ) -> None:
        self.run_dir = run.path
        self._run = run
        self._plans = placement.plan(
            market_cores=[market.core for market in config.markets],
            workers=config.engine.workers,
            cores=config.engine.cores,
            allowed=psutil.Process().cpu_affinity() or [],
        )
        self._embeds_valkey = not config.redis.url
        self.config = self._effective(config)
        self._policy = RestartPolicy(
            delay_ns_min=config.engine.restart_backoff_min_ms * _NS_PER_MS,
            delay_ns_max=config.engine.restart_backoff_max_ms * _NS_PER_MS,
        )
        self._heartbeat_timeout_ns = config.engine.heartbeat_timeout_ms * _NS_PER_MS
        self._start_timeout_ns = config.engine.start_timeout_ms * _NS_PER_MS
        self._stop_timeout_ns = config.engine.stop_timeout_ms * _NS_PER_MS
        self._jitter = random.Random()  # noqa: S311 - spreads restarts, protects nothing

        self.arena = self._make_arena()
        self._row = self.arena.process(lib.PROCESS_SUPERVISOR)
        self.children = children(self.arena, self._plans, embeds_valkey=self._embeds_valkey)
        self._by_kind = {kind: [c for c in self.children if c.kind == kind] for kind in STOP_ORDER}

        self._selector = selectors.DefaultSelector()
        self._log = EventLog(self.run_dir / rundir.LOG_DIRECTORY / "supervisor.log", console)
        self._gateway_bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._launcher = Launcher(
            run=run,
            arena=self.arena,
            password_env=config.venue.password_env,
            gateway_bell=self._gateway_bell,
            log=self._log,
        )
        self._realtime = Realtime(config, self._plans, self.children, log=self._log)
        self._kill_words = KillWords(
            config=self.config,
            arena=self.arena,
            run_dir=self.run_dir,
            plans=self._plans,
            row=self._row,
            gateway_bell=self._gateway_bell,
            log=self._log,
        )
        self._arena_server = rundir.ArenaServer(self.run_dir, self.arena)
        self._selector.register(self._arena_server.socket, selectors.EVENT_READ)
        self._signals, self._signals_in = socket.socketpair()
        self._signals.setblocking(False)
        self._signals_in.setblocking(False)
        self._selector.register(self._signals, selectors.EVENT_READ)

        self._last_pass_mono_ns = 0
        self._all_running_logged = False
        self._stop_stage: int | None = None
        self._began_mono_ns = 0  # the loop, and with it the start of the quoters
        self._quoters_have_run = False
        self._stage_deadline_mono_ns = 0
        self._unclean: list[str] = []
        self._refusal = ""  # the line of a process that refused the configuration

    # ---- building ----

    def _effective(self, config: Config) -> Config:
        """The configuration in force: real paths and addresses filled in."""
        engine = structs.replace(config.engine, run_dir=str(self.run_dir))
        redis = config.redis
        if self._embeds_valkey:
            redis = structs.replace(redis, url=valkey.url(self.run_dir))
        return structs.replace(config, engine=engine, redis=redis)

    def _make_arena(self) -> Arena:
        markets = self.config.markets
        payloads = [market_json(market) for market in markets]
        for index, payload in enumerate(payloads):
            if len(payload) > lib.CONFIG_BYTES_MAX:
                raise ConfigError(
                    f"markets[{index}]: takes {len(payload)} bytes as JSON, limit {lib.CONFIG_BYTES_MAX}"
                )
        arena = Arena.create(
            market_slots=len(markets) + SPARE_MARKET_SLOTS,
            worker_slots=min(len(self._plans) + SPARE_WORKER_SLOTS, _WORKER_SLOTS_MAX),
        )
        for plan in self._plans:
            lib.cell_store(cell(arena.worker(plan.worker), "epoch"), 1)
        for slot, (market, payload) in enumerate(zip(markets, payloads, strict=True)):
            arena.write_config(slot, 1, payload)
            worker = slot % len(self._plans)
            arena.place_market(slot, market_id=market.id, worker=worker, tick_count=TICK_COUNT)
        return arena

    def _enter_own_row(self) -> None:
        ffi.buffer(self._row.name)[:] = padded("supervisor", 32)
        for field, value in (
            ("pid", os.getpid()),
            ("epoch", 1),
            ("attached_epoch", 1),
            ("heartbeat_mono_ns", time.monotonic_ns()),
            ("state", lib.PROCESS_RUNNING),
        ):
            lib.cell_store(cell(self._row, field), value)

    def _publish_run(self) -> None:
        write_durably(self.run_dir / CONFIG_FILE, msgspec.json.encode(self.config), synced=False)
        self._run.publish(
            rundir.RunInfo(
                pid=os.getpid(),
                arena_epoch=self.arena.epoch,
                started_at_ms=time.time_ns() // _NS_PER_MS,
                arena_socket=str(self.run_dir / rundir.ARENA_SOCKET),
                exchange_url=self.config.venue.url,
                redis_url=self.config.redis.url,
                market_ids=[market.id for market in self.config.markets],
            )
        )

    # ---- the loop ----

    def run(self) -> int:
        """Runs the engine until it is told to stop; returns the exit code (module :mod:`engine.cli`)."""
        os.umask(0o077)
        try:
            crash_points.arm("supervisor", self.run_dir)
        except crash_points.CrashPointError as error:
            raise ConfigError(str(error)) from None
        with self._signal_queue():
            try:
                self._realtime.begin()
                self._enter_own_row()
                self._publish_run()
                self._greet()
                if self._embeds_valkey:
                    self._start_valkey_first()
                self._restore_facts()
                self._began_mono_ns = time.monotonic_ns()
                while not self.done:
                    self.do_work(time.monotonic_ns())
                    self._wait()
                return self._conclude()
            finally:
                self._close()

    @property
    def done(self) -> bool:
        return self._stop_stage is not None and self._stop_stage >= len(STOP_ORDER)

    def do_work(self, now_mono_ns: int) -> int:
        """One pass; returns how many things it acted upon. Never waits."""
        # Silence is counted only for time in which we watched: after we were stopped or starved ourselves,
        # the others get the chance to beat before they are judged.
        watched_ns = (
            min(now_mono_ns - self._last_pass_mono_ns, 2 * _TICK_NS) if self._last_pass_mono_ns else 0
        )
        self._last_pass_mono_ns = now_mono_ns
        work_count = self._take_signals(now_mono_ns)
        work_count += self._kill_words.take_files() + self._kill_words.take_commands(now_mono_ns)
        for child in self.children:
            if child.state is ChildState.LIVE:
                work_count += self._reap(child, now_mono_ns) or self._watch(child, watched_ns)
            elif (
                child.state is ChildState.WAITING
                and self._may_start(child, now_mono_ns)
                and now_mono_ns >= child.start_at_mono_ns
            ):
                self._start(child, now_mono_ns)
                work_count += 1
        work_count += self._step_stop(now_mono_ns)
        self._announce_all_running()
        self._log.keep_bounded(now_mono_ns)
        for child in self.children:
            if child.log is not None:
                child.log.keep_bounded(now_mono_ns)
        lib.cell_store(cell(self._row, "heartbeat_mono_ns"), now_mono_ns)
        record_pass(self._row, pass_ns=time.monotonic_ns() - now_mono_ns, work_count=work_count)
        return work_count

    def _wait(self) -> None:
        """Sleeps until a signal, a death or a tool's connection, at most one tick."""
        for key, _ in self._selector.select(_TICK_NS / _NS_PER_S):
            if key.fileobj is self._arena_server.socket:
                self._arena_server.serve_one()

    @contextmanager
    def _signal_queue(self) -> Iterator[None]:
        """Signals only put their number into a socket; :meth:`_take_signals` reads it."""
        wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
        previous_fd = signal.set_wakeup_fd(self._signals_in.fileno(), warn_on_full_buffer=False)
        previous = {number: signal.signal(number, lambda *_: None) for number in wanted}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(previous_fd)

    def _take_signals(self, now_mono_ns: int) -> int:
        try:
            numbers = self._signals.recv(256)
        except BlockingIOError:
            return 0
        for number in numbers:
            name = signal.Signals(number).name
            if number == signal.SIGUSR1:
                self._kill_words.kill_all(name)
            elif self._stop_stage is None:
                self._log.event("stopping", reason=name)
                self.request_stop(now_mono_ns)
            else:
                self._log.event("still_stopping", reason=name, waiting_for=STOP_ORDER[self._stop_stage])
        return len(numbers)

    # ---- starting ----

    def _greet(self) -> None:
        cores = ",".join(map(str, sorted({plan.core for plan in self._plans})))
        self._log.say(
            f"corequote runs in {self.run_dir} (pid {os.getpid()}, {len(self.config.markets)} markets, "
            f"{len(self._plans)} quoters on cores {cores}, exchange {self.config.venue.url})"
        )
        if self.config.engine.wait == "spin" and len(self._plans) > len({plan.core for plan in self._plans}):
            self._log.event("spin_shares_cores", quoters=len(self._plans), cores=cores)

    def _start_valkey_first(self) -> None:
        """The writer's first connection should find a server. Raises ValkeyError when none comes up."""
        (server,) = self._by_kind[VALKEY]
        deadline = time.monotonic_ns() + _VALKEY_READY_NS
        self._start(server, time.monotonic_ns())
        while not valkey.is_ready(self.run_dir):
            if server.process is None or server.process.poll() is not None or time.monotonic_ns() > deadline:
                last_line = server.log.last_line() if server.log is not None else ""
                raise valkey.ValkeyError(f"the embedded Valkey does not answer: {last_line or 'no output'}")
            time.sleep(_VALKEY_POLL_S)
        self._log.event("running", child=server.name)
        server.announced = True

    def _restore_facts(self) -> None:
        """What markets must not forget goes into their slots, before any quoter looks. Raises FactsError."""
        restored, fault = facts_restore.restore_all(self.arena, self.run_dir, self.config.redis)
        if fault:
            self._log.event("facts_source_lost", source="redis", reason=fault)
        for facts in restored:
            self._log.event(
                "facts_restored",
                market=facts.market_id,
                phase=facts.phase,
                kill_causes=",".join(facts.kill_causes),
            )

    def _may_start(self, child: Child, now_mono_ns: int) -> bool:
        """During an orderly stop only the gateway is worth starting: it alone can sweep what is left."""
        if self._stop_stage is None:
            return child.kind not in _LATE_KINDS or self._may_start_late(now_mono_ns)
        return child.kind == GATEWAY and self._stop_stage <= STOP_ORDER.index(GATEWAY)

    def _may_start_late(self, now_mono_ns: int) -> bool:
        """Every quoter has run once, or all had time enough."""
        if not self._quoters_have_run:
            self._quoters_have_run = now_mono_ns >= self._began_mono_ns + _LATE_NS_MAX or all(
                child.announced for child in self._by_kind[QUOTER]
            )
        return self._quoters_have_run

    def _start(self, child: Child, now_mono_ns: int) -> None:
        if child.row_index is not None:
            row = self.arena.process(child.row_index)
            # First the epoch: should a predecessor still be able to run, it finds itself superseded.
            child.epoch = int(lib.cell_add(cell(row, "epoch"), 1)) + 1
            lib.cell_store(cell(row, "restarts"), child.epoch - 1)
            lib.cell_store(cell(row, "state"), lib.PROCESS_STARTING)
            lib.bell_awake(row)
        if child.worker is not None:
            self._kill_words.worker_starts(child.worker)
        if child.log is None:
            child.log = LogFile(self.run_dir / rundir.LOG_DIRECTORY / f"{child.name}.log")
        child.log.begin_life()
        child.started_mono_ns = now_mono_ns
        try:
            child.process, child.pidfd = self._launcher.spawn(child, child.log.fd)
        except (OSError, valkey.ValkeyError) as error:  # no memory, no process slots: later, perhaps
            self._log.event("not_started", child=child.name, error=str(error))
            child.start_at_mono_ns = now_mono_ns + self._policy.delay_ns_max
            return
        self._selector.register(child.pidfd, selectors.EVENT_READ)
        child.state = ChildState.LIVE
        child.fenced = child.announced = child.told_to_stop = child.killed = False
        child.silent_ns = 0
        fields: dict[str, Any] = {}
        if child.row_index is not None:
            lib.cell_store(cell(self.arena.process(child.row_index), "pid"), child.process.pid)
        if child.core is not None:
            fields["cpu"] = self._launcher.pin(child)
        self._log.event("started", child=child.name, pid=child.process.pid, **fields)

    # ---- watching ----

    def _reap(self, child: Child, now_mono_ns: int) -> int:
        assert child.process is not None
        code = child.process.poll()
        if code is None:
            return 0
        if not (child.told_to_stop and code == EXIT_OK):  # who ended in order has left nothing behind
            self._fence(child)
        self._selector.unregister(child.pidfd)
        os.close(child.pidfd)
        child.pidfd = -1
        child.exit_code = code
        self._free_roles(child)
        if child.row_index is not None:
            row = self.arena.process(child.row_index)
            lib.cell_store(cell(row, "state"), lib.PROCESS_DEAD)
            lib.cell_store(cell(row, "pid"), 0)
        if self._stop_stage is not None:
            self._end(child, now_mono_ns)
        else:
            self._plan_restart(child, now_mono_ns)
        return 1

    def _watch(self, child: Child, watched_ns: int) -> int:
        """Kills a process that has not beaten for too long; returns 1 when it did."""
        if child.row_index is None or child.fenced:
            return 0
        row = self.arena.process(child.row_index)
        heartbeat = lib.cell_load(cell(row, "heartbeat_mono_ns"))
        attached = lib.cell_load(cell(row, "attached_epoch")) == child.epoch
        state = lib.cell_load(cell(row, "state"))
        if attached and heartbeat != child.heartbeat:
            child.heartbeat = heartbeat
            child.silent_ns = 0
        else:
            child.silent_ns += watched_ns
        if state == lib.PROCESS_RUNNING and not child.announced:
            child.announced = True
            self._realtime.promote(child)
            self._log.event("running", child=child.name)
            if child.kind == INGEST:
                self._kill_words.feed_runs()
        # Before its first RUNNING a process may import, connect and load: that is not a stall.
        limit_ns = self._heartbeat_timeout_ns if child.announced else self._start_timeout_ns
        if child.told_to_stop and state == lib.PROCESS_STOPPING:
            limit_ns = self._stop_timeout_ns  # past its last beat it still closes and leaves the interpreter
        if child.silent_ns <= limit_ns:
            return 0
        silent_ms = child.silent_ns // _NS_PER_MS
        self._log.event("stalled", child=child.name, silent_ms=silent_ms)
        if self._stop_stage is not None:
            self._blame(child, f"stalled for {silent_ms} ms")
        self._fence(child)
        self._kill(child)
        return 1

    def _kill(self, child: Child) -> None:
        child.killed = True
        with suppress(ProcessLookupError):  # it has died meanwhile; the pidfd cannot mean another process
            signal.pidfd_send_signal(child.pidfd, signal.SIGKILL)

    def _fence(self, child: Child) -> None:
        """Makes a process that died or stalled harmless to the others; once per life."""
        if child.fenced:
            return
        child.fenced = True
        if child.worker is not None:
            self._kill_words.worker_died(child.worker)
        elif child.kind == INGEST:
            self._kill_words.feed_died()

    def _free_roles(self, child: Child) -> None:
        """Frees the producer roles of a reaped process: from here on its successor may take them."""
        workers = range(self.arena.worker_slots)
        if child.kind == INGEST:
            for worker in workers:
                lib.broadcast_free_role(self.arena.book_ring(worker))
        elif child.kind == GATEWAY:
            for worker in workers:
                lib.message_free_role(self.arena.execution_ring(worker))
        elif child.kind == CONTROL:
            for row in range(self.arena.process_slots):
                lib.message_free_role(self.arena.command_ring(row))
        elif child.worker is not None:
            lib.message_free_role(self.arena.order_ring(child.worker))
            lib.broadcast_free_role(self.arena.step_ring(child.worker))

    def _plan_restart(self, child: Child, now_mono_ns: int) -> None:
        assert child.exit_code is not None
        # A process that a signal ended had nothing to say about it.
        last_line = child.log.last_line() if child.log is not None and child.exit_code >= 0 else ""
        self._log.event("died", child=child.name, exit=child.ending, last_line=last_line)
        first_life = child.history == RestartHistory() and not child.announced
        if child.exit_code == EXIT_CONFIG and first_life:
            self._refusal = last_line or f"{child.name} refuses the configuration"
            self.request_stop(now_mono_ns)
            self._end(child, now_mono_ns)
            return
        child.history = after_death(
            child.history, self._policy, started_mono_ns=child.started_mono_ns, died_mono_ns=now_mono_ns
        )
        looping = is_crash_loop(child.history, self._policy, now_mono_ns=now_mono_ns)
        if looping:
            self._log.event("crash_loop", child=child.name, deaths=self._policy.loop_deaths)
        if looping and child.kind == QUOTER:
            child.state = ChildState.HALTED  # its markets keep their kill bit
            return
        delay_ns = restart_delay_ns(child.history, self._policy, jitter=self._jitter.random())
        child.state = ChildState.WAITING
        child.start_at_mono_ns = now_mono_ns + (self._policy.delay_ns_max if looping else delay_ns)

    def _announce_all_running(self) -> None:
        if not self._all_running_logged and all(child.announced for child in self.children):
            self._all_running_logged = True
            self._log.event("engine_running", processes=len(self.children))

    # ---- stopping ----

    def request_stop(self, now_mono_ns: int) -> None:
        """Begins the orderly stop: from here on the venue sees cancels only."""
        if self._stop_stage is not None:
            return
        lib.cell_store(cell(self._row, "state"), lib.PROCESS_STOPPING)
        self._kill_words.stopping()
        self._stop_stage = 0
        self._stage_deadline_mono_ns = now_mono_ns + self._stop_timeout_ns

    def _step_stop(self, now_mono_ns: int) -> int:
        """Tells the stage's processes to stop, kills those that do not, goes on when all have ended."""
        if self._stop_stage is None or self.done:
            return 0
        stage = self._by_kind[STOP_ORDER[self._stop_stage]]
        late = now_mono_ns > self._stage_deadline_mono_ns
        for child in stage:
            if child.state is ChildState.LIVE:
                self._tell_to_stop(child, late=late)
            elif child.state is ChildState.WAITING and (late or child.kind != GATEWAY):
                self._end_waiting(child)
        if any(child.state in (ChildState.LIVE, ChildState.WAITING) for child in stage):
            return 0
        self._stop_stage += 1
        self._stage_deadline_mono_ns = now_mono_ns + self._stop_timeout_ns
        return 1

    def _end_waiting(self, child: Child) -> None:
        """Gives up a process that is down and shall not come back."""
        child.state = ChildState.ENDED
        if child.kind == GATEWAY:
            self._blame(child, "did not confirm that nothing is live at the venue")

    def _tell_to_stop(self, child: Child, *, late: bool) -> None:
        if late and not child.killed:
            self._blame(child, f"did not stop within {self.config.engine.stop_timeout_ms} ms")
            self._fence(child)
            self._kill(child)
            return
        if child.told_to_stop or not self._hears_signals(child):
            return
        child.told_to_stop = True
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(child.pidfd, signal.SIGTERM)

    def _hears_signals(self, child: Child) -> bool:
        """A process answers SIGTERM in order once it has attached; before, the signal would just kill it."""
        if child.row_index is None:
            return True
        row = self.arena.process(child.row_index)
        return bool(lib.cell_load(cell(row, "attached_epoch")) == child.epoch)

    def _end(self, child: Child, now_mono_ns: int) -> None:
        """A process ended during the orderly stop. A gateway that did not end with "nothing is live" gets
        another try, as long as its stage lasts: it alone can sweep."""
        assert self._stop_stage is not None
        code = child.exit_code
        assert code is not None
        may_sweep = child.kind == GATEWAY and self._stop_stage <= STOP_ORDER.index(GATEWAY)
        if may_sweep and code != EXIT_CONFIG and not (code == EXIT_OK and child.told_to_stop):
            self._log.event("died", child=child.name, exit=child.ending)
            child.state = ChildState.WAITING
            child.start_at_mono_ns = now_mono_ns + self._policy.delay_ns_min
            return
        child.state = ChildState.ENDED
        self._log.event("stopped", child=child.name, exit=child.ending)
        if child.told_to_stop and code != EXIT_OK and not child.killed:
            self._blame(child, f"ended with exit code {code}")

    def _blame(self, child: Child, what: str) -> None:
        self._log.event("not_clean", child=child.name, why=what)
        self._unclean.append(f"{child.name} {what}")

    def _conclude(self) -> int:
        if self._refusal:
            self._log.event("refused", reason=self._refusal)
            raise ConfigError(self._refusal)
        if self._unclean:
            self._log.say(f"corequote: not a clean stop: {'; '.join(self._unclean)}; see {self.run_dir}/log")
            return EXIT_UNCLEAN
        self._log.event("stopped_cleanly")
        return EXIT_OK

    def _close(self) -> None:
        """Nothing is left running, whatever happened; a fresh directory of a clean run is removed."""
        for child in self.children:
            if child.state is ChildState.LIVE and child.process is not None:
                self._kill(child)
        for child in self.children:
            if child.process is not None and child.process.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    child.process.wait(_KILL_WAIT_S)
            if child.log is not None:
                child.log.close()
        lib.cell_store(cell(self._row, "state"), lib.PROCESS_DEAD)
        self._selector.close()
        self._arena_server.close()
        self._signals.close()
        self._signals_in.close()
        os.close(self._gateway_bell)
        self._log.close()
