// Watches OpFlex peers until it is stopped. Survives broken connections, errors of proxies and restarts of the service.
//
//     npm ci --prefix examples/node
//     node examples/node/watch.js 127.0.0.1:50051

import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import protobuf from "protobufjs";

const PROTO = fileURLToPath(new URL("../../proto", import.meta.url));
// 64-bit numbers as strings, because they do not fit into a JavaScript number.
const READING = { keepCase: true, longs: String, enums: String, defaults: true, oneofs: true, includeDirs: [PROTO] };
const { v1 } = grpc.loadPackageDefinition(loadSync("opflex/peerstatus/v1/peer_status_service.proto", READING)).opflex.peerstatus;
const OPTIONS = {
  "grpc.keepalive_time_ms": 20_000, // detect dead connections
  "grpc.initial_reconnect_backoff_ms": 250,
  "grpc.max_reconnect_backoff_ms": 10_000, // the default is two minutes
};
const HOPELESS = ["INVALID_ARGUMENT", "UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED", "ABORTED"].map((name) => grpc.status[name]);
const { root } = protobuf.parse(`syntax = "proto3"; package google.rpc; message Any { string type_url = 1; bytes value = 2; }
  message Status { repeated Any details = 3; } message ErrorInfo { string reason = 1; string domain = 2; }`);

const client = new v1.PeerStatusService(process.argv[2] ?? "127.0.0.1:50051", grpc.credentials.createInsecure(), OPTIONS);
const listener = "example-node"; // choose your own: it outlives its streams, and another client with the same name takes over
let cursor = null; // the last processed message; null: nothing to resume from
let epoch, last, failures = 0, retryAfter = 0;

const createListener = (request) =>
  new Promise((done, failed) => client.createListener(request, { deadline: Date.now() + 10_000 }, (error) => (error && error.code !== grpc.status.ALREADY_EXISTS ? failed(error) : done())));

function handle(message) {
  const { event } = message;
  if (event === "attached") {
    ({ epoch, revision: last } = message.attached.cursor);
    console.log("attached at", last, "resumed:", message.attached.resumed);
  } else if (event === "reset") {
    cursor = null; // discard the state; a snapshot follows
    console.log("missed", message.reset.missed_count, "changes (0: unknown):", message.reset.reason);
  } else if (event === "snapshot") {
    last = message.revision;
    console.log("snapshot", last, ...message.snapshot.peers.map((peer) => `${peer.name}=${peer.status}`));
  } else if (event === "change") {
    if (message.previous_revision !== last) throw new Error(`a gap: ${message.previous_revision} is not ${last}`);
    last = message.revision;
    const { peer, health } = message.change;
    console.log("change", last, peer?.peer.name, peer?.peer.status, peer?.peer.reason, health?.health ?? "");
  } else if (event === "draining") {
    retryAfter = Number(message.draining.retry_after.seconds) * 1000 + message.draining.retry_after.nanos / 1e6;
  }
  if (["synced", "change", "heartbeat", "draining"].includes(event)) { // not before `synced`: the snapshot may be incomplete
    cursor = { epoch, revision: message.revision };
    failures = 0;
  }
}

function isRefused(error) { // only by the service: a proxy's error may have the same code, but not the service's ErrorInfo
  const read = (name, bytes) => root.lookupType(`google.rpc.${name}`).decode(bytes);
  const [packed] = error.metadata.get("grpc-status-details-bin");
  const info = packed && read("Status", packed).details.find(({ typeUrl }) => typeUrl.endsWith("/google.rpc.ErrorInfo"));
  return info && read("ErrorInfo", info.value).domain === "opflex.peerstatus" && HOPELESS.includes(error.code);
}

for (;;) {
  try {
    await createListener({ listener_id: listener, user_data: Buffer.from("example") });
    const request = { listener: `listeners/${listener}`, resume_after: cursor, takeover: true };
    for await (const message of client.watchPeerStatus(request)) handle(message);
  } catch (error) {
    if (error.code === undefined || isRefused(error)) throw error;
    console.log("lost:", grpc.status[error.code], error.details);
  }
  // As the service asked, or exponential with jitter.
  await sleep(retryAfter || Math.random() * Math.min(10_000, 250 * 2 ** failures++));
  retryAfter = 0;
}
