// The status page in a real browser, beside a running service.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, describe, it } from "node:test";

import { chromium } from "playwright-core";

import { CHROMIUM, MARKUP, NATS_SERVER, PATIENCE, Stage } from "./stage.mjs";

const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
const skip = existsSync(CHROMIUM) ? false : `there is no ${CHROMIUM}`;

describe("the status page", { skip, timeout: 240_000 }, () => {
  const stage = new Stage();
  let browser, fleet;

  before(async () => {
    browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox"] });
    await stage.start();
    if (NATS_SERVER) fleet = await stage.startFleet();
  });

  after(async () => {
    await browser?.close();
    await stage.stop();
  });

  /** A page that is live, with what the browser complained of. */
  async function open(t, options = {}, hash = "", url = stage.url) {
    const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
    t.after(() => context.close());
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE);
    page.complaints = [];
    page.on("pageerror", (error) => page.complaints.push(String(error)));
    page.on("dialog", (dialog) => page.complaints.push(dialog.message()));
    page.on("console", (message) => {
      // While the service is away, the browser says so.
      if (message.type() === "error" && !message.text().includes("net::ERR_")) page.complaints.push(message.text());
    });
    await page.addInitScript(() => {
      globalThis.violations = [];
      document.addEventListener("securitypolicyviolation", (event) => globalThis.violations.push(event.blockedURI || event.violatedDirective));
    });
    await page.goto(url + hash);
    if (options.javaScriptEnabled !== false) await page.locator("#live.live").waitFor();
    return page;
  }

  async function assertClean(page) {
    assert.deepEqual(page.complaints, []);
    assert.deepEqual(await page.evaluate(() => globalThis.violations), []);
  }

  const row = (page, address) => page.locator("#rows tr").filter({ hasText: address });

  /** The texts of the cells of each row. */
  const table = (page) => page.locator("#rows tr").evaluateAll((rows) => rows.map((row) => [...row.children].map((cell) => cell.textContent)));

  it("shows what is broken first, its cause and since when", async (t) => {
    const page = await open(t);
    await row(page, "127.0.2.9").filter({ hasText: "handshake timeout" }).waitFor();
    const rows = await table(page);
    const broken = rows.filter(([, , since]) => since.startsWith("not ready "));
    assert.deepEqual(rows.slice(0, broken.length), broken, "they come first");
    for (const [address, cause] of [
      ["127.0.2.3", "connect failed: connection refused"], ["127.0.2.7", "handshake rejected: "], ["127.0.2.9", "handshake timeout: no answer"],
      ["127.0.2.11", "tls failed: "], ["leaf-220.invalid", "resolve failed: "],
    ]) {
      const [, status, since, , failures, failure] = broken.find(([peer]) => peer.includes(`${address}:`));
      assert.match(status, /^CONNECT(ING|ED)$/);
      assert.match(since, /^not ready (\d+m )?\d+s$/);
      assert.ok(Number(failures) > 0 && failure.startsWith(cause), failure);
    }
    const parked = rows.findIndex(([peer]) => peer.includes("127.0.1.254:"));
    assert.deepEqual(rows[parked].slice(1, 3), ["DISCONNECTED", "parked"], "as on the command line");
    assert.ok(rows.slice(parked + 1).every(([, status, , flaps, failures]) => status === "READY" && !flaps && !failures), "after it only what never failed");
    const since = row(page, "127.0.2.3").locator("time");
    assert.match(await since.getAttribute("datetime"), /^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
    assert.equal(await since.getAttribute("title"), await since.getAttribute("datetime"));
    const tile = page.locator("#pools button").filter({ hasText: "pod-2" });
    await tile.filter({ hasText: /^pod-2DEGRADED1[56] of 20 READYfor / }).waitFor();
    assert.match(await page.locator("#changes li").first().textContent(), /→/);
    await assertClean(page);
  });

  it("marks a peer that flaps, and mutes a parked one also while it is asked", async (t) => {
    const page = await open(t);
    const flapping = page.locator("#rows tr.flapping").first();
    await flapping.filter({ hasText: /(READY|CONNECT\w+) ~flapping/ }).waitFor();
    const parked = row(page, "127.0.1.254").filter({ hasText: "parked" });
    await parked.waitFor();
    assert.match(await parked.getAttribute("class"), /unwanted/);
    await parked.locator("svg path.away").waitFor({ state: "attached" });
    await page.locator("#q").fill("flapping");
    await page.waitForFunction(() => document.querySelectorAll("#rows tr:not(.flapping)").length === 0);
    assert.ok(await page.locator("#rows tr.flapping").count() > 0);
    await page.locator("#q").fill("");
    await parked.waitFor();
    assert.ok(!(await parked.locator("svg path.missing").getAttribute("d")), "nothing was missing");
    await assertClean(page);
  });

  it("folds repeated changes, and shows the own history of a peer that is clicked", async (t) => {
    const page = await open(t);
    await page.locator("#changes li").filter({ hasText: /(flapped|never READY|asked again) × \d+ in \d+/ }).first().waitFor();
    // Its changes are none of the newest: it only came up.
    const quiet = page.locator("#rows tr.ready:not(.flapping)").last().locator("a");
    const name = await quiet.textContent();
    await quiet.click();
    await page.locator("#changes-title").filter({ hasText: `Changes of ${name}` }).waitFor();
    await page.waitForFunction(() => document.querySelectorAll("#rows tr").length === 1);
    const changes = page.locator("#changes li");
    await changes.filter({ hasText: "added" }).waitFor();
    assert.ok((await changes.allTextContents()).every((text) => text.includes(name)));
    assert.match(await page.evaluate(() => location.hash), /^#peer=pod-/);
    await page.getByRole("button", { name: "Show all peers" }).click();
    await page.waitForFunction(() => document.querySelectorAll("#rows tr").length > 40);

    const none = await open(t, {}, "#peer=pod-2/127.0.9.9:1");
    await none.locator("#changes li").filter({ hasText: "no changes" }).waitFor();
    await assertClean(page);
  });

  it("shows text from peers as text", async (t) => {
    const page = await open(t);
    const hostile = row(page, stage.hostileAddress);
    await hostile.filter({ hasText: MARKUP }).waitFor();
    assert.equal(await page.locator("main img, main script").count(), 0);
    const plain = await open(t, { javaScriptEnabled: false });
    assert.ok((await plain.locator("#rows").textContent()).includes(MARKUP));
    assert.equal(await plain.locator("main img, main script").count(), 0);
    await assertClean(page);
  });

  it("shows that a leaf died, and that it is back", async (t) => {
    const page = await open(t);
    await row(page, stage.leaf).filter({ hasText: "READY" }).waitFor();
    const lost = page.waitForFunction(
      (address) => [...document.querySelectorAll("#rows tr")].some((row) => row.textContent.includes(address) && row.classList.contains("connecting")),
      stage.leaf, { polling: 20 },
    );
    const killed = Date.now();
    await stage.kill("leaf");
    await lost;
    t.diagnostic(`the row changed ${Date.now() - killed} ms after the kill`); // within a second on a machine that is not busy
    stage.startLeaf();
    await page.waitForFunction(
      (address) => [...document.querySelectorAll("#rows tr")].some((row) => row.textContent.includes(address) && row.classList.contains("ready")),
      stage.leaf,
    );
    await row(page, stage.leaf).locator("svg path.missing[d^=M]").waitFor({ state: "attached" });
    await assertClean(page);
  });

  it("resumes after a restart of the service and says so", async (t) => {
    const page = await open(t);
    await stage.kill("service");
    await page.locator("#live.lost").waitFor();
    assert.match(await page.locator("#live").textContent(), /not live since \d\d:\d\d:\d\d/);
    await stage.startService();
    await page.locator("#live.live").waitFor();
    assert.match(await page.locator("#live").textContent(), /^live; the service was restarted/);
    await row(page, stage.leaf).filter({ hasText: "up " }).waitFor();
    await assertClean(page);
  });

  it("is filtered by keyboard alone, and the filter is in the address", async (t) => {
    const page = await open(t);
    await page.keyboard.press("/");
    await page.keyboard.type("tls failed");
    await page.waitForFunction(() => document.querySelectorAll("#rows tr").length === 1);
    await page.waitForFunction(() => location.hash === "#q=tls+failed");
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement.id), "pool");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Space");
    await page.waitForFunction(() => location.hash.endsWith("&bad=1"));
    await page.keyboard.press("Escape");
    await page.waitForFunction(() => document.querySelectorAll("#rows tr").length > 40);
    await assertClean(page);

    const shared = await open(t, {}, "#pool=pod-2&q=127.0.2.7");
    await shared.waitForFunction(() => document.querySelectorAll("#rows tr").length === 1);
    assert.equal(await shared.locator("#pools button[aria-pressed=true]").count(), 1);
    await shared.locator("#pools button").filter({ hasText: "pod-3" }).press("Enter");
    await shared.waitForFunction(() => document.querySelectorAll("#rows tr").length === 0);
    assert.match(await shared.locator("#more").textContent(), /No peer matches/);
  });

  for (const [name, options] of Object.entries({
    "on a phone": { viewport: { width: 360, height: 740 } },
    "dark": { colorScheme: "dark" },
    "light": { colorScheme: "light" },
    "on a wall": { viewport: { width: 3840, height: 2160 } },
  })) {
    it(`is accessible ${name}, and nothing is wider than the window`, async (t) => {
      const page = await open(t, { ...options, bypassCSP: true });
      await page.addScriptTag({ path: AXE });
      const { violations } = await page.evaluate(() => globalThis.axe.run());
      assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).slice(0, 3)}`), []);
      const [wide, window] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
      assert.ok(wide <= window, `${wide} > ${window}`);
    });
  }

  it("is complete without scripts", async (t) => {
    const page = await open(t, { javaScriptEnabled: false });
    const rows = await table(page);
    assert.ok(rows.length > 40);
    assert.match(rows[0][1], /CONNECT/);
    assert.match(rows[0][2], /^since \d{4}-\d\d-\d\dT/);
    assert.equal(await page.locator("#pools li").count(), 4);
    assert.equal(await page.locator("noscript meta[http-equiv=refresh], meta[http-equiv=refresh]").count(), 1);
  });

  it("may load only what is its own", async () => {
    for (const path of ["", "page.css", "page.js"]) {
      const answer = await fetch(stage.url + path, { headers: { accept: "text/html" } });
      assert.equal(answer.headers.get("x-frame-options"), "DENY");
      const policy = answer.headers.get("content-security-policy");
      assert.match(policy, /^default-src 'none'; script-src 'self';/);
      assert.ok(!policy.includes("unsafe"));
    }
  });

  it("has a column for the nodes of a fleet", { skip: NATS_SERVER ? false : "there is no nats-server" }, async (t) => {
    const page = await open(t, { bypassCSP: true }, "#q=worker-2", fleet);
    await page.waitForFunction(() => document.querySelectorAll("#rows tr").length === 2);
    await page.locator("#rows tr.ready").waitFor();
    const [first] = await table(page);
    assert.deepEqual([first.length, ...first.slice(0, 2)], [9, "worker-2", "127.0.0.1:1"]);
    await page.addScriptTag({ path: AXE });
    const { violations } = await page.evaluate(() => globalThis.axe.run());
    assert.deepEqual(violations.map(({ id }) => id), []);
    if (process.env.SHOTS) await page.screenshot({ path: `${process.env.SHOTS}/fleet.png` });
    const plain = await open(t, { javaScriptEnabled: false }, "", fleet);
    assert.deepEqual((await table(plain)).map(([node]) => node).sort(), ["worker-1", "worker-1", "worker-2", "worker-2"]);
    const single = await open(t);
    assert.equal((await table(single))[0].length, 8, "no node, and no column");
    await assertClean(page);
  });

  it("says of a STALE node what its peers were, until it is back", { skip: NATS_SERVER ? false : "there is no nats-server" }, async (t) => {
    const page = await open(t, {}, "#q=worker-1", fleet);
    await page.locator("#rows tr.unknown").nth(1).waitFor({ timeout: 90_000 }); // a node is STALE after 45 s
    const rows = await table(page);
    assert.deepEqual(rows.map(([, , status]) => status), ["UNKNOWN", "UNKNOWN"]);
    for (const [, , , since, , , failure] of rows) {
      assert.match(since, /^unknown \d+s$/);
      assert.match(failure, /^was (READY|CONNECTING); nothing is heard of node worker-1$/);
    }
    assert.match(await page.locator("#pools li").filter({ hasText: "worker-1" }).textContent(), /UNKNOWN0 of 2 READYnode silent \d+s, was DEGRADED$/);
    assert.match(await page.locator("#count").textContent(), /^1 of 4 READY/);
    const late = await open(t, {}, "#q=worker-1", fleet);
    await late.locator("#rows tr.unknown").nth(1).waitFor();
    const plain = await open(t, { javaScriptEnabled: false }, "", fleet);
    assert.deepEqual((await table(plain)).map(([node, , status]) => `${node} ${status}`).filter((row) => row.startsWith("worker-1")), ["worker-1 UNKNOWN", "worker-1 UNKNOWN"]);
    stage.startNode("worker-1");
    for (const opened of [page, late]) await opened.locator("#rows tr.ready").waitFor();
    await assertClean(page);
  });
});
