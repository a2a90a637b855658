// @grpc/grpc-js at full speed: `load.js ADDRESS SECONDS PARALLEL [small]` does what ../go/load does, and prints the
// same report. Stubs are made from proto/ as it runs, with the packages of examples/node.

"use strict";
const assert = require("node:assert/strict");
const { createRequire } = require("node:module");
const path = require("node:path");

const ROOT = path.resolve(__dirname, "../../..");
const fromExample = createRequire(path.join(ROOT, "examples/node/package.json"));
const grpc = fromExample("@grpc/grpc-js");
const { loadSync } = fromExample("@grpc/proto-loader");

const options = { keepCase: true, longs: String, enums: String, defaults: true, oneofs: true, includeDirs: [path.join(ROOT, "proto")] };
const load = (file) => grpc.loadPackageDefinition(loadSync(`opflex/peerstatus/v1/${file}`, options)).opflex.peerstatus.v1;
const { PeerStatusService } = load("peer_status_service.proto");
const { PoolService } = load("pool_service.proto");

const CALL_TIMEOUT_MS = 20_000; // far longer than any call here takes: it ends a call that hangs
const POOL = "pools/default";
const [address, seconds, parallel, small] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4]), process.argv[5] === "small"];

// One channel, so one connection, for both services.
const credentials = grpc.credentials.createInsecure();
const channel = new grpc.Channel(address, credentials, {});
const status = new PeerStatusService(address, credentials, { channelOverride: channel });
const pools = new PoolService(address, credentials, { channelOverride: channel });

const failures = {};
const fail = (what, error) => {
  const message = `${what}: ${error.message}`;
  failures[message] = (failures[message] ?? 0) + 1;
};
const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

function call(method, request) {
  const deadline = Date.now() + CALL_TIMEOUT_MS;
  return new Promise((done, failed) => pools[method](request, { deadline }, (error, answer) => (error ? failed(error) : done(answer))));
}

// The same for grpc.health.v1.Health/Check, whose request is empty and whose answer is not looked at.
function check() {
  const deadline = Date.now() + CALL_TIMEOUT_MS;
  const asIs = (bytes) => bytes;
  return new Promise((done, failed) =>
    pools.makeUnaryRequest("/grpc.health.v1.Health/Check", asIs, asIs, Buffer.alloc(0), { deadline }, (error, answer) => (error ? failed(error) : done(answer))),
  );
}

// Checks the chain of revisions of a watch.
class Watch {
  revision = 0n;
  changes = 0;
  stopping = false;

  constructor() {
    this.call = status.watchPeerStatus({});
    this.synced = new Promise((done, failed) => {
      this.call.on("data", (message) => {
        try {
          this.check(message);
        } catch (error) {
          fail("watch", error);
        }
        if (message.event === "synced") done();
      });
      this.ended = new Promise((end) => {
        this.call.on("error", (error) => {
          if (!(this.stopping && error.code === grpc.status.CANCELLED)) fail("watch", error);
          failed(error);
          end();
        });
        this.call.on("end", () => {
          if (!this.stopping) fail("watch", new Error("ended with OK"));
          end();
        });
      });
    });
  }

  check(message) {
    const kind = message.event;
    assert.notEqual(kind, "reset", "reset");
    const revision = BigInt(message.revision);
    if (kind === "attached") this.revision = BigInt(message.attached.cursor.revision);
    if (kind === "snapshot") this.revision = revision;
    if (kind === "change") {
      const previous = BigInt(message.previous_revision);
      assert.ok(previous === this.revision && revision > previous, `gap: ${revision} after ${this.revision}, previous_revision ${previous}`);
      this.revision = revision;
      this.changes += 1;
    }
  }

  async untilRevision(wanted) {
    for (const deadline = Date.now() + CALL_TIMEOUT_MS; this.revision < wanted; await pause(1)) {
      assert.ok(Date.now() < deadline, `the watch stalled at revision ${this.revision}, the pool is at ${wanted}`);
    }
  }

  async stop() {
    this.stopping = true;
    this.call.cancel();
    await this.ended;
  }
}

async function run() {
  const watch = new Watch();
  await watch.synced;
  const peer = (await call("listPeers", { parent: POOL })).peers[0].name;
  const requests = [["getPool", { name: POOL }], ["listPeers", { parent: POOL }], ["getPeer", { name: peer }]];

  let calls = 0;
  const started = Date.now();
  async function caller() {
    for (let turn = 0; Date.now() < started + seconds * 1000; turn += 1) {
      const [method, request] = requests[turn % requests.length];
      try {
        await (small ? check() : call(method, request));
        calls += 1;
      } catch (error) {
        fail(small ? "check" : method, error);
        await pause(1); // the connection may be gone: do not fill the report in a busy loop
      }
    }
  }
  await Promise.all(Array.from({ length: parallel }, caller));
  const took = (Date.now() - started) / 1000;

  await watch.untilRevision(BigInt((await call("getPool", { name: POOL })).cursor.revision));
  await watch.stop();
  return { calls, cancelled: 0, seconds: took, changes: watch.changes };
}

run()
  .catch((error) => {
    fail("at the end", error);
    return { calls: 0, cancelled: 0, seconds, changes: 0 };
  })
  .then((report) => {
    console.log(JSON.stringify({ ...report, failures }));
    process.exit(Object.keys(failures).length > 0 ? 1 : 0);
  });
