// A screen of a terminal as SVG: text that can be searched and compared.

import { execFileSync } from "node:child_process";

const [CELL_WIDTH, CELL_HEIGHT, MARGIN] = [8, 18, 10];
const BACK = "#0d1117";
const TEXT = "#e6edf3";
const COLOURS = ["#484f58", "#ff7b72", "#56d364", "#e3b341", "#79c0ff", "#d2a8ff", "#56d4dd", "#e6edf3", "#9ea7b3"];

const escape = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

/** Applies the numbers of one SGR sequence to a style. */
function styled(style, numbers) {
  const next = { ...style };
  const rest = numbers.map(Number);
  while (rest.length) {
    const code = rest.shift();
    if (code === 0) Object.assign(next, { colour: TEXT, bold: false, dim: false, reversed: false });
    else if (code === 1) next.bold = true;
    else if (code === 2) next.dim = true;
    else if (code === 22) next.bold = next.dim = false;
    else if (code === 7 || code === 27) next.reversed = code === 7;
    else if (code === 39) next.colour = TEXT;
    else if (code === 38 && rest[0] === 5) next.colour = COLOURS[Math.min(rest.splice(0, 2)[1], 8)];
    else if (code >= 30 && code <= 37) next.colour = COLOURS[code - 30];
    else if (code >= 90 && code <= 97) next.colour = COLOURS[code === 90 ? 8 : code - 90];
  }
  return next;
}

/** What `tmux capture-pane -e` printed, as SVG. All characters are one column wide. */
export function svg(screen, columns) {
  const lines = screen.replace(/\n+$/, "").split("\n");
  const [width, height] = [columns * CELL_WIDTH + 2 * MARGIN, lines.length * CELL_HEIGHT + 2 * MARGIN];
  const drawn = [];
  let style = styled({}, [0]);
  lines.forEach((line, row) => {
    let column = 0;
    for (const [, codes, text] of line.matchAll(/\x1b\[([\d;]*)m|([^\x1b]+)/g)) {
      if (codes !== undefined) {
        style = styled(style, codes.split(";"));
        continue;
      }
      const [x, y, count] = [MARGIN + column * CELL_WIDTH, MARGIN + row * CELL_HEIGHT, [...text].length];
      column += count;
      if (style.reversed) drawn.push(`<rect x="${x}" y="${y}" width="${count * CELL_WIDTH}" height="${CELL_HEIGHT}" fill="${style.colour}"/>`);
      if (!text.trim()) continue;
      const looks = `${style.bold ? ' font-weight="bold"' : ""}${style.dim ? ' opacity="0.65"' : ""}`;
      const fitted = `textLength="${count * CELL_WIDTH}" lengthAdjust="spacingAndGlyphs"`;
      drawn.push(`<text x="${x}" y="${y + 13}" ${fitted} fill="${style.reversed ? BACK : style.colour}"${looks}>${escape(text)}</text>`);
    }
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}"`
    + ` font-family="ui-monospace, Menlo, 'DejaVu Sans Mono', monospace" font-size="13">\n<style>text { white-space: pre; }</style>\n`
    + `<rect width="100%" height="100%" rx="6" fill="${BACK}"/>\n${drawn.join("\n")}\n</svg>\n`;
}

/** The screen of a command in tmux, once it shows the text. */
export async function screenOf(command, columns, rows, text, until) {
  const tmux = (...args) => execFileSync("tmux", ["-L", `pictures-${process.pid}`, ...args], { encoding: "utf8", env: { ...process.env, LC_ALL: "C.UTF-8" } });
  tmux("-f", "/dev/null", "-u", "new-session", "-d", "-x", String(columns), "-y", String(rows), command);
  try {
    return await until(`"${text}" on the screen`, async () => {
      const screen = tmux("capture-pane", "-e", "-p");
      return screen.includes(text) ? screen : null;
    });
  } finally {
    tmux("kill-server");
  }
}
