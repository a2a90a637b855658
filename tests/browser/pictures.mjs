// Draws docs/pictures from a running service: `make pictures`.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { chromium } from "playwright-core";

import { CHROMIUM, ROOT, Stage, until } from "./stage.mjs";
import { screenOf, svg } from "./terminal.mjs";

const FOLDER = join(ROOT, "docs", "pictures");
const PICTURES = {
  "page.png": { viewport: { width: 1280, height: 860 } },
  "page-dark.png": { viewport: { width: 1280, height: 860 }, colorScheme: "dark" },
  "page-phone.png": { viewport: { width: 360, height: 740 } },
};
const [COLUMNS, LINES] = [110, 24];

const stage = new Stage();
const browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox"] });
try {
  await stage.start({ hostile: false });
  // Until a leaf has died, and the strips show something.
  await new Promise((resolve) => setTimeout(resolve, 60_000));
  mkdirSync(FOLDER, { recursive: true });
  for (const [name, options] of Object.entries(PICTURES)) {
    const page = await browser.newPage(options);
    await page.goto(stage.url);
    await page.locator("#live.live").waitFor();
    await page.locator("#rows svg").first().waitFor();
    await page.screenshot({ path: join(FOLDER, name) });
    await page.close();
    console.log(`docs/pictures/${name}`);
  }
  const top = `${stage.binary} top --color always --server 127.0.0.1:${stage.grpc}`;
  writeFileSync(join(FOLDER, "top.svg"), svg(await screenOf(top, COLUMNS, LINES, "1 parked", until), COLUMNS));
  console.log("docs/pictures/top.svg");
} finally {
  await browser.close();
  await stage.stop();
}
