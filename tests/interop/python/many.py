"""many.py ADDRESS COUNT: runs watchers of the package for Python, each in a thread, and prints what they tell, an object of JSON
a line."""

import json
import sys
import threading

from opflex_peerstatus import Change, Disconnected, Gap, Resumed, Snapshot, Watcher

KINDS = {Snapshot: "snapshot", Change: "change", Gap: "gap", Disconnected: "lost", Resumed: "resumed"}
lock = threading.Lock()


def watch(number):
    for event in Watcher(sys.argv[1]):
        cursor = getattr(event, "cursor", None)
        told = {"watcher": number, "kind": KINDS[type(event)], "previous": getattr(event, "previous_revision", 0)}
        told |= {"epoch": cursor.epoch if cursor else 0, "revision": cursor.revision if cursor else 0}
        with lock:
            print(json.dumps(told), flush=True)


threads = [threading.Thread(target=watch, args=(number,)) for number in range(int(sys.argv[2]))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
