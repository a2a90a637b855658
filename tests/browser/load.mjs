// How the status page and watches do while peers flap: `node load.mjs [PEERS [PAGES [SECONDS]]]`. Prints figures; asserts
// nothing. Each peer of the default 150 changes its status about seven times a second.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";

import { chromium } from "playwright-core";

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

async function measure(stage, seconds) {
  const before = await metrics(stage);
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  const after = await metrics(stage);
  return { rate: (revision(after) - revision(before)) / seconds, p99: p99(before, after) };
}

const stage = new Stage();
const browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox"] });
try {
  await stage.prepare({ hostile: false });
  const addresses = Array.from({ length: PEERS }, (_, peer) => `127.1.${peer >> 8}.${peer & 255}:${stage.port}`);
  const peers = addresses.map((listen, peer) => `{ name = "p${peer}", listen = "${listen}", behaviour = "flap", pool = "p${peer}" }`);
  stage.write("peers.toml", `peer = [\n${peers.join(",\n")}\n]\n`);
  stage.write("service.toml", `[[pool]]\npeers = ${JSON.stringify(addresses)}\n`);
  await stage.startProcesses();
  const watch = spawn(stage.binary, ["watch", "-o", "json", "--server", `127.0.0.1:${stage.grpc}`], { stdio: "ignore" });
  stage.processes.set("watch", watch);
  await until("changes", async () => revision(await metrics(stage)) > 10 * PEERS);
  const quiet = await measure(stage, Math.min(SECONDS, 20));
  console.log(`without pages: ${quiet.rate.toFixed(0)} changes/s, delivered within ${quiet.p99 * 1000} ms (p99)`);

  const pages = [];
  for (let page = 0; page < PAGES; page += 1) {
    const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
    const opened = await context.newPage();
    await opened.addInitScript(() => {
      globalThis.tasks = [];
      new PerformanceObserver((list) => globalThis.tasks.push(...list.getEntries().map((entry) => entry.duration))).observe({ type: "longtask" });
    });
    await opened.goto(stage.url);
    await opened.locator("#live.live").waitFor();
    pages.push(opened);
  }
  for (const page of pages) await page.evaluate(() => { globalThis.tasks = []; });
  const busy = await measure(stage, SECONDS);
  const tasks = (await Promise.all(pages.map((page) => page.evaluate(() => globalThis.tasks)))).flat();
  const live = await Promise.all(pages.map((page) => page.locator("#live.live").count()));
  console.log(`${PAGES} pages: ${busy.rate.toFixed(0)} changes/s, delivered within ${busy.p99 * 1000} ms (p99), ${live.filter(Boolean).length} pages live`);
  console.log(`tasks of pages over 50 ms: ${tasks.length}, longest ${Math.max(0, ...tasks)} ms, over 100 ms: ${tasks.filter((task) => task > 100).length}`);
  await stage.kill("watch");
} finally {
  await browser.close();
  await stage.stop();
}
