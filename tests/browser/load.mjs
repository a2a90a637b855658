// How the status page and watches do while peers flap: `node load.mjs [PEERS [PAGES [SECONDS]]]`. Prints figures; asserts
// nothing. Each peer of the default 150 changes its status about seven times a second.
//
// The browser is driven without playwright, which has each event of a page sent to itself: that costs more than the page.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { CHROMIUM, Stage, until } from "./stage.mjs";

const [PEERS = 150, PAGES = 10, SECONDS = 60] = process.argv.slice(2).map(Number);

/** The counters of the service. */
async function metrics(stage) {
  const text = await (await fetch(`${stage.url}metrics`)).text();
  const lines = text.split("\n").filter((line) => line && !line.startsWith("#"));
  return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.slice(line.lastIndexOf(" ") + 1))]));
}

const revision = (values) => values.get("opflex_peerstatus_revision");

/** The upper bound of the bucket that has the 99th of a hundred deliveries between two readings. */
function p99(before, after) {
  const prefix = "opflex_peerstatus_delivery_seconds_bucket";
  const counts = [...after].filter(([name]) => name.startsWith(prefix)).map(([name, value]) => [
    Number(name.match(/le="([^"]+)"/)[1].replace("+Inf", "Infinity")), value - (before.get(name) || 0),
  ]).sort(([a], [b]) => a - b);
  const all = counts.at(-1)[1];
  return counts.find(([, count]) => count >= 0.99 * all)[0];
}

/** What happens within so many seconds, and how old changes are when the watch has printed them. */
async function measure(stage, watch, seconds) {
  const before = await metrics(stage);
  watch.ages = [];
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  const { ages } = watch;
  const after = await metrics(stage);
  ages.sort((a, b) => a - b);
  const rate = (revision(after) - revision(before)) / seconds;
  return `${rate.toFixed(0)} changes/s; p99 of the watch: handed over within ${p99(before, after) * 1000} ms, printed within ${ages[Math.floor(0.99 * ages.length)]} ms`;
}

function startWatch(stage) {
  const watch = spawn(stage.binary, ["watch", "-o", "json", "--server", `127.0.0.1:${stage.grpc}`], { stdio: ["ignore", "pipe", "ignore"] });
  watch.ages = [];
  createInterface({ input: watch.stdout }).on("line", (line) => {
    const [, time] = line.match(/"kind":"CHANGE_KIND_STATUS".*?"time":"([^"]+)"/) || [];
    if (time) watch.ages.push(Date.now() - Date.parse(time));
  });
  stage.processes.set("watch", watch);
  return watch;
}

/** A browser, by its own protocol. */
class Browser {
  answers = new Map();
  next = 1;

  constructor(folder) {
    this.process = spawn(CHROMIUM, ["--headless", "--no-sandbox", "--remote-debugging-pipe", `--user-data-dir=${folder}`], { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
    let received = "";
    this.process.stdio[4].setEncoding("utf8").on("data", (text) => {
      const messages = (received + text).split("\0");
      received = messages.pop();
      for (const { id, result, error } of messages.map((message) => JSON.parse(message))) {
        const [resolve, reject] = this.answers.get(id) || [];
        this.answers.delete(id);
        if (error) reject(new Error(error.message));
        else resolve?.(result);
      }
    });
  }

  send(method, params = {}, sessionId = undefined) {
    const id = this.next++;
    this.process.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    return new Promise((...settle) => this.answers.set(id, settle));
  }

  /** Opens a page in a window of its own; returns a function that evaluates an expression in it. */
  async open(url) {
    const { browserContextId } = await this.send("Target.createBrowserContext");
    const { targetId } = await this.send("Target.createTarget", { url, browserContextId, width: 1280, height: 900 });
    const { sessionId } = await this.send("Target.attachToTarget", { targetId, flatten: true });
    const evaluate = async (expression) => (await this.send("Runtime.evaluate", { expression, returnByValue: true }, sessionId)).result.value;
    return Object.assign(evaluate, { sessionId });
  }

  async stop() {
    this.process.kill("SIGKILL");
    await once(this.process, "exit");
  }
}

const OBSERVE = `globalThis.tasks = [];
new PerformanceObserver((list) => tasks.push(...list.getEntries().map((entry) => entry.duration))).observe({ type: "longtask" });`;
const IS_LIVE = `!document.hidden && document.getElementById("live").className === "live"`;

const SETTLE = 10_000; // ms in which pages load the past, and draw for the first time

/** The long tasks of pages since they were asked last. */
async function tasks(pages) {
  const all = (await Promise.all(pages.map((page) => page("tasks.splice(0)")))).flat();
  const live = (await Promise.all(pages.map((page) => page(IS_LIVE)))).filter(Boolean).length;
  return `${all.length} tasks over 50 ms, ${all.filter((task) => task > 100).length} over 100 ms, the longest ${Math.max(0, ...all)} ms; ${live} pages live`;
}

const stage = new Stage();
const browser = new Browser(join(stage.folder, "chromium"));
try {
  await stage.prepare({ hostile: false });
  const addresses = Array.from({ length: PEERS }, (_, peer) => `127.1.${peer >> 8}.${peer & 255}:${stage.port}`);
  const peers = addresses.map((listen, peer) => `{ name = "p${peer}", listen = "${listen}", behaviour = "flap", pool = "p${peer}" }`);
  stage.write("peers.toml", `peer = [\n${peers.join(",\n")}\n]\n`);
  stage.write("service.toml", `[[pool]]\npeers = ${JSON.stringify(addresses)}\n`);
  await stage.startProcesses();
  const watch = startWatch(stage);
  await until("changes", async () => revision(await metrics(stage)) > 10 * PEERS);
  console.log(`without pages: ${await measure(stage, watch, Math.min(SECONDS, 20))}`);

  const pages = [];
  for (let page = 0; page < PAGES; page += 1) pages.push(await browser.open(stage.url));
  for (const page of pages) await until("the page to be live", () => page(IS_LIVE));
  for (const page of pages) await page(OBSERVE);
  await new Promise((resolve) => setTimeout(resolve, SETTLE));
  console.log(`${PAGES} pages in their first ${SETTLE / 1000} s: ${await tasks(pages)}`);
  console.log(`with ${PAGES} pages: ${await measure(stage, watch, SECONDS)}`);
  console.log(`${PAGES} pages: ${await tasks(pages)}`);
} finally {
  await browser.stop();
  await stage.stop();
}
