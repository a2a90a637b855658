"""Begins and ends the faults of a plan, in its order."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from network import CommandFailed
from plan import SERVICE_IP, Fault
from processes import Process
from settings import GRPC_PORT
from stage import HERE, LOOK_S
from world import CLOCK_CAN_STEP, World


@dataclass(frozen=True)
class Action:
    """One end of a fault."""

    at_ms: int
    is_begin: bool
    fault: Fault


def actions(faults: tuple[Fault, ...]) -> list[Action]:
    """Beginnings and ends by time; an end comes before a beginning at the same time. Some faults have no end."""
    both = [Action(fault.begin, True, fault) for fault in faults]
    both += [Action(fault.end, False, fault) for fault in faults if fault.end > fault.begin]
    return sorted(both, key=lambda action: (action.at_ms, action.is_begin))


class Injector:
    """Carries out faults."""

    def __init__(self, world: World, say: Callable[[str], None]) -> None:
        self.world, self.say = world, say
        self.flood: Process | None = None

    def run(self) -> None:
        """Carries out the plan, each action at its time."""
        start = time.monotonic()
        for action in actions(self.world.plan.faults):
            while (time.monotonic() - start) * 1000 < action.at_ms:
                self.world.read_logs()
                time.sleep(LOOK_S)
            fault = action.fault
            self.say(f"{(time.monotonic() - start):.2f}s {'begin' if action.is_begin else 'end'} {fault}")
            name = ("begin_" if action.is_begin else "end_") + fault.kind.replace("-", "_")
            try:
                getattr(self, name)(fault)
            except CommandFailed as error:
                if fault.kind != "slow":
                    raise
                self.say(f"skipped: the kernel cannot make a link slow: {error}")

    def close(self) -> None:
        """Ends what is left of a fault."""
        if self.flood:
            self.flood.kill()

    def begin_kill(self, fault: Fault) -> None:
        self.world.dead.add(fault.target)
        self.world.processes[fault.target].kill()

    def end_kill(self, fault: Fault) -> None:
        self.world.start_named(fault.target)

    def begin_restart(self, _fault: Fault) -> None:
        self.world.terminate_service()

    def end_restart(self, fault: Fault) -> None:
        self.world.start_named(fault.target)

    def begin_add_peer(self, fault: Fault) -> None:
        self.world.add_peer(fault.target)

    def end_add_peer(self, fault: Fault) -> None:
        self.world.remove_peer(fault.target)

    def begin_stop(self, fault: Fault) -> None:
        self.world.processes[fault.target].stop()

    def end_stop(self, fault: Fault) -> None:
        self.world.processes[fault.target].resume()

    def begin_cut(self, fault: Fault) -> None:
        self.world.network.cut(fault.target, fault.variant)

    def end_cut(self, fault: Fault) -> None:
        self.world.network.mend(fault.target, fault.variant)

    def begin_lose(self, fault: Fault) -> None:
        self.world.network.lose(fault.target, fault.variant)

    def end_lose(self, fault: Fault) -> None:
        self.world.network.deliver(fault.target, fault.variant)

    def begin_reset(self, fault: Fault) -> None:
        self.world.network.reset(fault.target)

    def begin_slow(self, fault: Fault) -> None:
        self.world.network.slow(fault.target, fault.variant)

    def end_slow(self, fault: Fault) -> None:
        self.world.network.fast(fault.target, fault.variant)

    def begin_full_disk(self, _fault: Fault) -> None:
        with (self.world.disk / "filler").open("wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(bytes(4096))
            except OSError:
                pass  # full: that is what it is for

    def end_full_disk(self, _fault: Fault) -> None:
        (self.world.disk / "filler").unlink()

    def begin_no_files(self, fault: Fault) -> None:
        self.world.limit_files(0 if fault.variant == "none-left" else 3)

    def end_no_files(self, _fault: Fault) -> None:
        self.world.limit_files(None)

    def begin_clock(self, fault: Fault) -> None:
        if not CLOCK_CAN_STEP:
            self.say("skipped: there is no libfaketime")
        self.world.set_clock(fault.variant)

    def end_clock(self, _fault: Fault) -> None:
        self.world.set_clock("+0")

    def begin_reload(self, fault: Fault) -> None:
        content, how, told = fault.variant.split()
        self.world.configuration.spoil(content, how)
        self._hup(told)

    def end_reload(self, fault: Fault) -> None:
        _, how, told = fault.variant.split()
        self.world.configuration.restore(how)
        self._hup(told)

    def _hup(self, told: str) -> None:
        service = self.world.processes["service"]
        if told == "with-hup" and service.is_running():
            service.child.send_signal(signal.SIGHUP)

    def begin_certificates(self, fault: Fault) -> None:
        self.world.certificates.spoil(fault.variant)

    def end_certificates(self, _fault: Fault) -> None:
        self.world.certificates.restore()

    def begin_flood(self, fault: Fault) -> None:
        world = self.world
        command = [sys.executable, str(HERE / "floods.py"), fault.variant, SERVICE_IP, str(GRPC_PORT), str(world.certificates.ca)]
        output = world.folder / "flood.log"
        self.flood = Process("flood", world.network.namespace("clients-0"), command, output, output)

    def end_flood(self, _fault: Fault) -> None:
        self.close()

    def begin_reset_peers(self, fault: Fault) -> None:
        self.world.reset_peers(fault.target, fault.variant)
