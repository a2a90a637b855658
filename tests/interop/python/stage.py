"""The world around a client in another language: `stage.py COMMAND…` runs the client and does what it is told.

The client finds the service behind `PEERSTATUS`, through a proxy, and the port of an OpFlex peer that is not there
yet in `PEER_PORT`. It writes orders to its stdout, a line each, and reads `ok` from its stdin when it is done:

    peer up      start the peer; done when the service says READY
    peer down    kill it; done when the service says CONNECTING
    cut          break the client's connections and refuse new ones
    mend         let it connect again

Its stderr is for people, and its exit code the stage's. The peer is strict: a departure from the OpFlex protocol
fails the client that brought it about.
"""

import contextlib
import os
import subprocess
import sys
import threading

from client import CONNECTING, READY, Client
from harness import PATIENCE_S, OpflexPeer, Proxy, Service, reserved_port


class Stage:
    def __init__(self, stack):
        self.stack = stack
        self.port = stack.enter_context(reserved_port())
        service = stack.enter_context(Service())
        self.proxy = stack.enter_context(Proxy(service.address))
        self.client = stack.enter_context(Client(service.address))
        self.peer = None

    def obey(self, order):
        match order:
            case "peer up":
                self.peer = self.stack.enter_context(OpflexPeer(self.port))
                self.client.wait_for_status(self.port, READY)
            case "peer down":
                self.peer.kill()
                self.client.wait_for_status(self.port, CONNECTING)
            case "cut":
                self.proxy.cut()
            case "mend":
                self.proxy.mend()
            case _:
                raise AssertionError(f"there is no order {order!r}")


def run(command):
    with contextlib.ExitStack() as stack:
        stage = Stage(stack)
        environment = {**os.environ, "PEERSTATUS": stage.proxy.address, "PEER_PORT": str(stage.port)}
        actor = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment))
        stack.callback(actor.kill)
        hang = threading.Timer(3 * PATIENCE_S, actor.kill)
        stack.callback(hang.cancel)
        hang.start()
        for line in actor.stdout:
            stage.obey(line.strip())
            actor.stdin.write("ok\n")
            actor.stdin.flush()
        code = actor.wait()
        print(f"{command[-1]}: {'ok' if code == 0 else f'FAILED with {code}'}", file=sys.stderr)
        return 1 if code else 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
