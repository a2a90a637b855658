// What the tests of the status page run: the exercise with forty peers, a leaf that they can kill, a hostile one, the
// service, and Debian's chromium.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
const BINARY = process.env.PEERSTATUS_BIN || join(ROOT, "target", "release", "peerstatus");
export const CHROMIUM = process.env.CHROMIUM || "/usr/bin/chromium";
export const PATIENCE = 30_000;
/** `undefined`: there is none. */
export const NATS_SERVER = [join(ROOT, ".tools", "bin"), ...process.env.PATH.split(":")]
  .map((folder) => join(folder, "nats-server")).find((program) => existsSync(program));

/** What a hostile peer puts into the detail of a failure. */
export const MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script>";

export async function until(what, probe) {
  const deadline = Date.now() + PATIENCE;
  for (;;) {
    const found = await probe().catch(() => null);
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function freePort() {
  const probe = createServer().listen(0, "0.0.0.0");
  await once(probe, "listening");
  const { port } = probe.address();
  probe.close();
  await once(probe, "close");
  return port;
}

/** Rejects each identity with an error that has markup in it. */
async function hostilePeer() {
  const server = createServer((socket) => {
    let received = "";
    socket.on("error", () => {});
    socket.on("data", (bytes) => {
      const frames = (received + bytes).split("\0");
      received = frames.pop();
      const { id } = frames.map((frame) => JSON.parse(frame)).find(({ method }) => method === "send_identity") || {};
      if (id) socket.write(`${JSON.stringify({ id, error: { code: "ERROR", message: MARKUP } })}\0`);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return server;
}

export class Stage {
  binary = BINARY;
  processes = new Map();
  folder = mkdtempSync(join(tmpdir(), "page-"));

  /** Starts everything; without the hostile peer, if there is to be none. */
  async start(options) {
    await this.prepare(options);
    this.startLeaf();
    await this.startProcesses();
    await until("the service to settle", async () => (await this.ready()) >= 33);
  }

  /** Chooses ports, and writes the files. */
  async prepare({ hostile = true } = {}) {
    [this.port, this.leafPort, this.grpc, this.admin] = [await freePort(), await freePort(), await freePort(), await freePort()];
    this.leaf = `127.0.0.1:${this.leafPort}`;
    this.url = `http://127.0.0.1:${this.admin}/`;
    const peers = [this.leaf];
    if (hostile) {
      this.hostile = await hostilePeer();
      this.hostileAddress = `127.0.0.1:${this.hostile.address().port}`;
      peers.push(this.hostileAddress);
    }
    const example = (name) => readFileSync(join(ROOT, "examples", name), "utf8").replaceAll(":18009", `:${this.port}`);
    this.write("peers.toml", example("forty-peers.toml"));
    this.write("service.toml", `${example("forty-peers-service.toml")}\n[[pool]]\nname = "pod-4"\npeers = ${JSON.stringify(peers)}\n`);
  }

  async startProcesses() {
    this.run("peers", "simulate", "--scenario", join(this.folder, "peers.toml"));
    await this.startService();
  }

  write(name, text) {
    writeFileSync(join(this.folder, name), text);
  }

  run(name, ...args) {
    const started = spawn(BINARY, args, { stdio: ["ignore", "ignore", "pipe"] });
    started.stderr.setEncoding("utf8");
    started.log = "";
    started.stderr.on("data", (text) => {
      started.log = (started.log + text).slice(-100_000);
    });
    this.processes.set(name, started);
    return started;
  }

  async kill(name, signal = "SIGKILL") {
    const process = this.processes.get(name);
    this.processes.delete(name);
    process.kill(signal);
    await once(process, "exit");
  }

  startLeaf() {
    this.run("leaf", "simulate", "--ports", String(this.leafPort));
  }

  async startService() {
    const service = this.run(
      "service", "serve", "--config", join(this.folder, "service.toml"),
      "--listen", `127.0.0.1:${this.grpc}`, "--admin", `127.0.0.1:${this.admin}`,
    );
    await until("the service", async () => (await fetch(`${this.url}readyz`)).ok || service.exitCode !== null);
  }

  /** Starts two nodes of a fleet that have the leaf as their peer, and kills `worker-1`; returns the address of the page of the fleet. */
  async startFleet() {
    const [nats, admin, leaf] = [await freePort(), await freePort(), await freePort()];
    this.processes.set("nats", spawn(NATS_SERVER, ["-js", "-a", "127.0.0.1", "-p", nats, "-sd", join(this.folder, "nats")], { stdio: "ignore" }));
    this.run("fleet-leaf", "simulate", "--ports", String(leaf));
    const fleet = ["--fleet-cluster", "lab", "--fleet-nats", `nats://127.0.0.1:${nats}`, "--listen", "127.0.0.1:0"];
    this.startNode = (node) =>
      this.run(node, "serve", ...fleet, "--admin", "off", "--fleet-node", node, "--peer", `127.0.0.1:${leaf}`, "--peer", `127.0.0.1:1`);
    for (const node of ["worker-1", "worker-2"]) this.startNode(node);
    this.run("fleet", "fleet", ...fleet, "--admin", `127.0.0.1:${admin}`);
    const url = `http://127.0.0.1:${admin}/`;
    const ready = (peers) => peers.filter((peer) => peer.status === "PEER_STATUS_READY").length;
    await until("the fleet", async () => ready((await (await fetch(`${url}api/v1/peers`)).json()).peers) === 2);
    await this.kill("worker-1");
    return url;
  }

  async peers() {
    return (await (await fetch(`${this.url}api/v1/peers`)).json()).peers;
  }

  async ready() {
    return (await this.peers()).filter((peer) => peer.status === "PEER_STATUS_READY").length;
  }

  async stop() {
    for (const name of [...this.processes.keys()]) await this.kill(name);
    this.hostile?.close();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
