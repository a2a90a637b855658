// A Node.js client against the real service: the life of a peer, a broken connection, errors. Run by `make interop`,
// which has ../python/stage.py play the world around it; that file has the orders, too. Stubs are made from proto/ as
// it runs, with the packages of examples/node.

"use strict";
const assert = require("node:assert/strict");
const { createRequire } = require("node:module");
const path = require("node:path");
const readline = require("node:readline");

const ROOT = path.resolve(__dirname, "../../..");
const fromExample = createRequire(path.join(ROOT, "examples/node/package.json"));
const grpc = fromExample("@grpc/grpc-js");
const { loadSync } = fromExample("@grpc/proto-loader");

const reading = { keepCase: true, longs: String, enums: String, defaults: true, oneofs: true };
reading.includeDirs = [path.join(ROOT, "proto"), process.env.GOOGLE_RPC];
const load = (file) => grpc.loadPackageDefinition(loadSync(file, reading));
const { PeerStatusService } = load("opflex/peerstatus/v1/peer_status_service.proto").opflex.peerstatus.v1;
const { PoolService } = load("opflex/peerstatus/v1/pool_service.proto").opflex.peerstatus.v1;
const details = loadSync(["google/rpc/status.proto", "google/rpc/error_details.proto"], reading);

const PATIENCE_MS = 20_000; // far beyond what anything here takes: it ends a hang, it measures nothing
const USER_DATA = Buffer.from("\x00 opaque \xff bytes", "latin1");
const redial = { "grpc.initial_reconnect_backoff_ms": 100, "grpc.max_reconnect_backoff_ms": 100 };
const connect = (Service) => new Service(process.env.PEERSTATUS, grpc.credentials.createInsecure(), redial);
const listeners = connect(PeerStatusService);
const pools = connect(PoolService);

function waiting() {
  const metadata = new grpc.Metadata();
  metadata.setOptions({ waitForReady: true });
  return metadata;
}

function call(client, method, request) {
  return new Promise((done, failed) =>
    client[method](request, waiting(), { deadline: Date.now() + PATIENCE_MS }, (error, response) => (error ? failed(error) : done(response))),
  );
}

const answers = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
async function order(what) {
  process.stdout.write(`${what}\n`);
  assert.equal((await answers.next()).value, "ok");
}

// The details of an error, decoded from grpc-status-details-bin, by the names of their types.
function decoded(error) {
  const [packed] = error.metadata.get("grpc-status-details-bin");
  assert.ok(packed, `no grpc-status-details-bin in ${error}`);
  const parts = details["google.rpc.Status"].deserialize(packed).details;
  return Object.fromEntries(
    parts.map(({ type_url, value }) => {
      const name = type_url.split("/").at(-1);
      return [name, details[name].deserialize(value)];
    }),
  );
}

function assertError(error, code, reason) {
  assert.equal(error.code, grpc.status[code], `${error}`);
  const info = decoded(error)["google.rpc.ErrorInfo"];
  assert.deepEqual([info.domain, info.reason], ["opflex.peerstatus", reason]);
  return decoded(error);
}

async function refused(promise, code, reason) {
  const error = await promise.then((answer) => assert.fail(`not refused: ${JSON.stringify(answer)}`), (error) => error);
  return assertError(error, code, reason);
}

// A stream that checks on every message what the contract promises about all of them.
class Watch {
  static async start(request) {
    const watch = new Watch();
    watch.call = listeners.watchPeerStatus(request, waiting());
    watch.messages = watch.call[Symbol.asyncIterator]();
    watch.changes = [];
    const first = await watch.next();
    assert.equal(first.event, "attached", "the first message must be attached");
    watch.attached = first.attached;
    watch.userData = first.user_data;
    watch.revision = BigInt(first.attached.cursor.revision);
    return watch;
  }

  // The next message, null after the last; silence cancels the stream.
  async next() {
    const silence = setTimeout(() => this.call.cancel(), PATIENCE_MS);
    try {
      const { value, done } = await this.messages.next();
      return done ? null : value;
    } finally {
      clearTimeout(silence);
    }
  }

  // The next message after its place in the order was checked.
  async event() {
    const message = await this.next();
    if (message?.event === "change") {
      assert.equal(BigInt(message.previous_revision), this.revision, "a gap");
      assert.ok(BigInt(message.revision) > this.revision, "revisions must grow");
      assert.deepEqual(message.user_data, this.userData, "user_data must come back with every change");
      this.changes.push(message.change);
    }
    if (["change", "snapshot"].includes(message?.event)) this.revision = BigInt(message.revision);
    return message;
  }

  async untilSynced() {
    while ((await this.event()).event !== "synced");
  }

  async untilStatus(wanted) {
    for (;;) {
      const { change } = await this.event();
      if (change?.peer?.peer.status === `PEER_STATUS_${wanted}`) return change;
    }
  }

  // Reads to the end of the stream and returns why it ended; null is OK.
  async untilEnd() {
    try {
      while (await this.event());
      return null;
    } catch (error) {
      if (error.code === undefined) throw error;
      return error;
    }
  }
}

// The statuses that a peer went through; changes of the reason alone left out.
function statuses(changes) {
  const all = changes.filter(({ peer }) => peer).map(({ peer }) => peer.peer.status.replace("PEER_STATUS_", ""));
  return all.filter((status, index) => status !== all[index - 1]);
}

async function main() {
  // A listener, before its peer exists.
  const created = await call(listeners, "createListener", { user_data: USER_DATA });
  const listener = created.listener.name;
  assert.match(listener, /^listeners\/[a-z0-9-]{1,63}$/);
  const watch = await Watch.start({ listener, resume_after: created.cursor });
  assert.ok(watch.attached.resumed);
  assert.deepEqual(watch.userData, USER_DATA);
  await watch.untilSynced();

  // Added, up, down, up.
  const port = Number(process.env.PEER_PORT);
  const { peer } = await call(pools, "addPeer", { parent: "pools/default", host: "127.0.0.1", port });
  await order("peer up");
  const ready = await watch.untilStatus("READY");
  assert.deepEqual([watch.changes[0].peer.kind, watch.changes[0].peer.peer.reason], ["CHANGE_KIND_ADDED", "REASON_ADDED"]);
  assert.deepEqual(statuses(watch.changes), ["CONNECTING", "CONNECTED", "READY"]);
  assert.equal(ready.peer.peer.reason, "REASON_HANDSHAKE_COMPLETE");
  assert.deepEqual([ready.health.health, ready.health.cause], ["POOL_HEALTH_HEALTHY", peer.name]);
  await order("peer down");
  const lost = await watch.untilStatus("CONNECTING");
  assert.deepEqual([lost.peer.peer.reason, lost.health.health], ["REASON_REMOTE_CLOSED", "POOL_HEALTH_DOWN"]);
  await order("peer up");
  await watch.untilStatus("READY");

  // The connection breaks, and things happen meanwhile.
  await order("cut");
  const broken = await watch.untilEnd();
  assert.ok(broken, "a broken connection must not look like OK");
  const lastSeen = { epoch: created.cursor.epoch, revision: `${watch.revision}` };
  await order("peer down");
  await order("peer up");
  await order("mend");
  const again = await Watch.start({ listener, resume_after: lastSeen, takeover: true });
  assert.ok(again.attached.resumed);
  assert.deepEqual(again.attached.cursor, lastSeen);
  assert.deepEqual(again.userData, USER_DATA);
  await again.untilSynced();
  assert.deepEqual(statuses(again.changes), ["CONNECTING", "CONNECTED", "READY"]);

  // The log says the same as the two streams did: nothing is missing, nothing came twice.
  const history = await Watch.start({ resume_after: created.cursor, stop_after_sync: true });
  assert.equal(await history.untilEnd(), null, "stop_after_sync must end with OK");
  assert.deepEqual([...watch.changes, ...again.changes], history.changes);

  // The end of the listener, and errors with their details.
  await call(listeners, "destroyListener", { name: listener });
  assertError(await again.untilEnd(), "CANCELLED", "LISTENER_DESTROYED");
  await refused(call(listeners, "destroyListener", { name: listener }), "NOT_FOUND", "LISTENER_NOT_FOUND");
  const bad = await refused(call(listeners, "createListener", { listener_id: "Bad Name!" }), "INVALID_ARGUMENT", "BAD_NAME");
  const violations = bad["google.rpc.BadRequest"].field_violations;
  assert.deepEqual(violations.map(({ field }) => field), ["listener_id"]);
  assert.ok(violations[0].description, "a violation must say what is wrong");
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
