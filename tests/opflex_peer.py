#!/usr/bin/env python3
"""An OpFlex peer to test against: the server side of the protocol, as a policy repository speaks it.

Written from recordings of the reference implementation (`golden/*.frames.jsonl`), not from this
repository's Rust code, so that the two can disagree. Needs nothing but the standard library.

    python3 tests/opflex_peer.py --port 8009 --verbose

Prints `listening on HOST:PORT` once it accepts connections and runs until it is ended. With --strict
the first departure of a client from the protocol ends it with exit code 3 and a sentence on stderr.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import signal
import sys
import time

FIRST_ECHO_S = 10  # the reference's keepalive grid: 10 s after accept, then every 15 s
ECHO_INTERVAL_S = 15
ECHO_ANSWER_S = 10  # an echo of ours that is still unanswered at the next tick, and older, is a violation
MAX_FRAME = 4 * 1024 * 1024
VIOLATION_EXIT_CODE = 3

ROLES = ["policy_repository", "endpoint_registry", "observer"]
# What the reference server answers to send_identity, but for `name` and `peers`, which are addresses.
IDENTITY = {"domain": "testdomain", "your_location": "location_string", "data": {}, "my_role": ROLES}


class Violation(Exception):
    """What a client did that the reference client does not do."""


def encode(message):
    """One frame: a document without white space, ended by a NUL."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\0"


def now_ms():
    return time.monotonic_ns() // 1_000_000


def is_count(value):
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def require(condition, rule, got=None):
    if not condition:
        raise Violation(rule if got is None else f"{rule}: {json.dumps(got)[:200]}")


def require_members(mapping, expected, what):
    """The members and their order: the reference writes them always in the same one."""
    require(isinstance(mapping, dict), f"{what} must be an object", mapping)
    require(list(mapping) == expected, f"{what} must have the members {', '.join(expected)} in this order", list(mapping))


def identity_from_recording(path):
    """The members of the recorded identity answer, without the recorded addresses."""
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            entry = json.loads(line)
            if entry.get("dir") != "server->client" or "raw" not in entry:
                continue
            frame = json.loads(entry["raw"])
            if frame["id"][0] == "send_identity" and "result" in frame:
                return {key: frame["result"][key] for key in IDENTITY}
    raise SystemExit(f"opflex_peer: {path} holds no answer to send_identity")


class ClientRules:
    """What a policy element may send, in the order in which the reference sends it."""

    def __init__(self, last_ids):
        # First (echo, send_identity) numbers of the last connection of each client, by the name that it
        # gives: the counters survive a reconnect, so they only grow; (0, 1) is a client that starts afresh.
        self.last_ids = last_ids
        self.requests = 0
        self.first_echo = None
        self.last_echo = None
        self.pending = {}

    def sent(self, message):
        """Takes note of a request of ours, which has to be answered."""
        self.pending[message["id"][1]] = (message["params"], time.monotonic())

    def received(self, raw, message):
        require(isinstance(message, dict), "a frame must be a JSON object", message)
        require(raw == encode(message)[:-1], "a frame must be compact JSON", raw.decode(errors="replace"))
        if "method" in message:
            self.request(message)
        else:
            self.response(message)

    def request(self, message):
        require_members(message, ["id", "method", "params"], "a request")
        method, request_id = message["method"], message["id"]
        require(isinstance(request_id, list) and len(request_id) == 2 and is_count(request_id[1]),
                "an id must be [method, number]", request_id)
        require(request_id[0] == method, "the id must start with the method", request_id)
        require(isinstance(message["params"], list), "params must be an array", message["params"])
        self.requests += 1
        if self.requests == 1:
            require(method == "echo", "the first request must be echo", method)
        if self.requests == 2:
            require(method == "send_identity", "the second request must be send_identity", method)
        if method == "echo":
            self.echo(request_id[1], message["params"])
        elif method == "send_identity":
            require(self.requests == 2, "send_identity must be sent once, right after the first echo")
            self.identity(request_id[1], message["params"])

    def echo(self, number, params):
        require(len(params) == 1 and is_count(params[0]), "echo must carry one time in ms", params)
        if self.last_echo is None:
            self.first_echo = number
        else:
            require(number == self.last_echo + 1, "echo numbers must follow each other", number)
        self.last_echo = number

    def identity(self, number, params):
        require(len(params) == 1, "send_identity must carry one object", params)
        who = params[0]
        located = ["my_location"] if isinstance(who, dict) and "my_location" in who else []
        require_members(who, ["proto_version", "name", "domain", *located, "my_role", "data"], "an identity")
        require(who["proto_version"] == "1.0", "proto_version must be 1.0", who["proto_version"])
        require(all(isinstance(who[key], str) for key in ["name", "domain", *located]), "name, domain and location must be strings", who)
        require(who["my_role"] == ["policy_element"], "my_role must be policy_element alone", who["my_role"])
        require_members(who["data"], ["mac", "features"], "identity data")
        require(who["data"]["features"] == ["anycastFallback"], "features must be anycastFallback alone", who["data"]["features"])
        octets = str(who["data"]["mac"]).split(":")
        require(len(octets) == 6 and all(len(o) == 2 and set(o.lower()) <= set("0123456789abcdef") for o in octets),
                "mac must be six octets", who["data"]["mac"])
        ids = (self.first_echo, number)
        require((ids[0] == 0) == (ids[1] == 1) and number >= 1,
                "a new client starts with echo 0 and send_identity 1, an old one goes on with both", ids)
        before = self.last_ids.get(who["name"])
        if before and ids != (0, 1):
            require(ids[0] > before[0] and ids[1] > before[1], f"numbers must grow over reconnects, last were {before}", ids)
        self.last_ids[who["name"]] = ids

    def response(self, message):
        require("error" not in message, "echo must not be answered with an error", message)
        require_members(message, ["id", "result"], "a result")
        answered = message["id"]
        require(isinstance(answered, list) and len(answered) == 2 and answered[0] == "echo" and answered[1] in self.pending,
                "a result must answer an echo of ours, once", answered)
        params, _ = self.pending.pop(answered[1])
        require(message["result"] == params, f"an echo must come back as it was sent, {params}", message["result"])

    def tick(self):
        """Called at every keepalive: nothing may be left unanswered."""
        late = [n for n, (_, sent) in self.pending.items() if time.monotonic() - sent > ECHO_ANSWER_S]
        require(not late, "every echo must be answered", late)


class Peer:
    """The server: what it says, and whether it minds what it hears."""

    def __init__(self, identity, peers, strict, verbose):
        self.identity, self.peers = identity, peers
        self.strict, self.verbose = strict, verbose
        self.address = None
        self.violated = asyncio.Event()
        self.connections = itertools.count(1)
        self.last_ids = {}

    def log(self, connection, arrow, raw):
        if self.verbose:
            print(f"[{connection}] {arrow} {raw[:2000].decode(errors='replace')}", file=sys.stderr, flush=True)

    def identity_answer(self):
        listed = self.peers or [self.address]
        answer = {"name": self.address, **self.identity}
        answer["peers"] = [{"role": self.identity["my_role"], "connectivity_info": peer} for peer in listed]
        return answer

    async def serve_connection(self, reader, writer):
        connection, rules = next(self.connections), ClientRules(self.last_ids)

        async def send(message):
            if "method" in message:
                rules.sent(message)
            self.log(connection, "->", encode(message)[:-1])
            writer.write(encode(message))
            await writer.drain()

        async def echo(number):
            await send({"id": ["echo", number], "method": "echo", "params": [now_ms()]})

        async def keep_alive():
            with contextlib.suppress(ConnectionError):
                for number in itertools.count(1):
                    await asyncio.sleep(FIRST_ECHO_S if number == 1 else ECHO_INTERVAL_S)
                    self.check(connection, rules.tick)
                    await echo(number)

        self.log(connection, "--", b"open")
        keepalive = asyncio.create_task(keep_alive())
        try:
            await echo(0)
            while True:
                raw = (await reader.readuntil(b"\0"))[:-1]
                if raw:  # a lone NUL is legal and means nothing
                    self.log(connection, "<-", raw)
                    answer = self.handle(connection, rules, raw)
                    if answer:
                        await send(answer)
        except asyncio.IncompleteReadError as error:
            if error.partial:
                self.complain(connection, Violation("the connection ended within a frame"))
        except ConnectionError:
            pass
        except (Violation, ValueError, asyncio.LimitOverrunError) as error:
            self.complain(connection, error)  # like the reference: drop the connection, say nothing
        finally:
            keepalive.cancel()
            self.log(connection, "--", b"closed")
            writer.close()

    def handle(self, connection, rules, raw):
        """The answer to one frame, if it wants one."""
        message = json.loads(raw)
        self.check(connection, lambda: rules.received(raw, message))
        require(isinstance(message, dict), "a frame must be a JSON object", message)
        if "method" not in message:
            return None
        require("id" in message, "a request must have an id", message)
        if message["method"] == "echo":
            return {"id": message["id"], "result": message.get("params")}
        if message["method"] == "send_identity":
            return {"id": message["id"], "result": self.identity_answer()}
        return {"id": message["id"], "error": {"code": "EUNSUPPORTED", "message": "Unsupported request"}}

    def check(self, connection, rule):
        """Runs a check that only --strict takes seriously."""
        try:
            rule()
        except Violation as violation:
            self.complain(connection, violation)

    def complain(self, connection, violation):
        print(f"opflex_peer: connection {connection}: {violation}", file=sys.stderr, flush=True)
        if self.strict:
            self.violated.set()


async def run(args):
    identity = identity_from_recording(args.recording) if args.recording else IDENTITY
    peers = [peer for peer in args.peers.split(",") if peer]
    peer = Peer(identity, peers, args.strict, args.verbose)
    server = await asyncio.start_server(peer.serve_connection, args.host, args.port, limit=MAX_FRAME)
    port = server.sockets[0].getsockname()[1]
    peer.address = f"{args.host}:{port}"
    print(f"listening on {peer.address}", flush=True)

    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    waits = [asyncio.create_task(event.wait()) for event in (ended, peer.violated)]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    server.close()
    return VIOLATION_EXIT_CODE if peer.violated.is_set() else 0


def main():
    parser = argparse.ArgumentParser(description="An OpFlex peer (policy repository) to test against.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on, and to list (default %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0: any (default)")
    parser.add_argument("--peers", default="", metavar="H:P,…", help="peers to list in the identity answer (default: itself)")
    parser.add_argument("--recording", metavar="FILE", help="answer with domain, location, data and roles of this *.frames.jsonl")
    parser.add_argument("--strict", action="store_true", help=f"exit {VIOLATION_EXIT_CODE} at the first departure from the protocol")
    parser.add_argument("--verbose", action="store_true", help="log every frame on stderr")
    return asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
