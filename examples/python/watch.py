"""Watches OpFlex peers until it is stopped, and goes on where it was when a connection breaks or the service is started again.

    make python-package && pip install clients/python/dist/*.whl
    python examples/python/watch.py 127.0.0.1:50051
"""

import signal
import sys

from opflex_peerstatus import Change, Disconnected, Gap, Resumed, Snapshot, Watcher, WatchError

signal.signal(signal.SIGINT, signal.SIG_DFL)  # end on Ctrl-C without a traceback
try:
    for event in Watcher(*sys.argv[1:2], listener="example-python"):  # another watcher with the same name takes over
        if isinstance(event, Snapshot):
            print("snapshot", event.cursor.revision, *(f"{peer.name}={peer.status}" for peer in event.peers), flush=True)
        elif isinstance(event, Change) and event.peer:
            peer, health = event.peer.peer, event.health.health if event.health else ""
            print("change", event.cursor.revision, peer.name, peer.status, peer.reason, health, flush=True)
        elif isinstance(event, Gap):
            print("missed", event.missed or 0, "changes (0: unknown):", event.reason, flush=True)
        elif isinstance(event, Disconnected):
            print("lost:", event.error, flush=True)
        elif isinstance(event, Resumed):
            print("resumed", event.cursor.revision, flush=True)
except WatchError as error:
    sys.exit(f"trying again would not help: {error}")
