// The status page: peers and pools from /api/v1/events, their past from /api/v1/transitions. Everything that comes from
// the service is set as text, never as markup.
"use strict";

const BIN = 15e3; // ms of the past that the strip of a peer shows as one
const BINS = 240; // an hour
const ROWS = 100; // rows at first, and more on each request for more
const SKIPPED_TURNS = 10; // what the browser does not lay out, since it is out of sight, is drawn each tenth time
const CHANGES = 60; // lines
const KEPT_CHANGES = 1000; // to fold into them
const HISTORY_PAGES = 16; // of the past hour
const PAUSE = 8; // between two of them, times what the one took
const DRAW_EVERY = [250, 2000]; // ms: often, but drawing takes no more than a tenth of the time where it is slow
const INTERVAL = 250; // ms: changes within it come as one event
const REFRESH_EVERY = 10e3; // counters that move without a change; listeners
const SLICE = 8; // ms for events in one task
const MOST_WAITING = 50; // events
const SILENT_AFTER = 40e3; // the service sends something every 15 s

const $ = (id) => document.getElementById(id);
const word = (name, prefix) => String(name).replace(prefix, "");
// What is not specified is not known, in an observed pool.
const known = (name, prefix) => word(name, prefix).replace("UNSPECIFIED", "UNKNOWN");
const lastStatusOf = (peer) => (peer.word ??= known(peer.status, "PEER_STATUS_"));
const statusOf = (peer) => (staleSince(peer) ? "UNKNOWN" : lastStatusOf(peer));
const reasonOf = (name) => word(name, "REASON_").toLowerCase().replaceAll("_", " ");
const addressOf = (name) => name.slice(name.indexOf("/peers/") + 7);
const shortName = (peer) => `${peer.pool}/${addressOf(peer.name)}`;
const time = (text) => (text ? Date.parse(text) : NaN);

const state = {
  peers: new Map(), // by name
  pools: new Map(), // by name
  past: new Map(), // by name of the peer
  order: null, // name of the peer: its place by name; null: to be sorted
  changes: [], // newest first
  listeners: [],
  incomplete: new Set(), // names of nodes
  stale: new Map(), // names of nodes: since when nothing is heard of them
  isComplete: false, // until then the page stays as it was served
  arriving: null, // the snapshot that is being received
  cursor: "",
  epoch: "",
  shown: ROWS,
  skew: 0, // what to add to our clock for the service's
};
const now = () => Date.now() + state.skew;

// ---- text ----

function duration(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  const [d, h, m] = [Math.floor(s / 86400), Math.floor(s / 3600) % 24, Math.floor(s / 60) % 60];
  if (d) return `${d}d ${h}h`;
  if (h) return `${h}h ${m}m`;
  return m ? `${m}m ${s % 60}s` : `${s}s`;
}

const age = (text) => (text ? duration(now() - time(text)) : "");
const clockFormat = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const clock = (ms) => clockFormat.format(ms);

function reasonAndDetail(reason, detail) {
  return detail ? `${reasonOf(reason)}: ${detail}` : reasonOf(reason);
}

// ---- nodes of a fleet ----

const isFleet = Boolean(document.querySelector(".fleet"));

/** Of a pool of a fleet its node, and the name that it has there. */
function placeOf(pool) {
  const dot = isFleet ? pool.indexOf(".") : -1;
  return [pool.slice(0, Math.max(dot, 0)), pool.slice(dot + 1)];
}

const nodeOf = (peer) => (peer.node ??= placeOf(peer.pool)[0]);
// Of a STALE node it is known what its peers were, and not what they are.
const staleSince = (peer) => (isFleet && peer.wanted ? state.stale.get(nodeOf(peer)) : undefined);

function noteNode(stale, { name, state: its, staleSince: since }) {
  if (word(its, "NODE_STATE_") === "STALE") stale.set(word(name, "nodes/"), since);
  else stale.delete(word(name, "nodes/"));
}

function nodeChanged(node, at) {
  const name = word(node.name, "nodes/");
  noteNode(state.stale, node);
  if (word(node.state, "NODE_STATE_") === "GONE") {
    for (const pool of state.pools.keys()) if (placeOf(word(pool, "pools/"))[0] === name) state.pools.delete(pool);
  }
  for (const peer of state.peers.values()) {
    if (nodeOf(peer) !== name) continue;
    put(state.peers, peer);
    remember(peer.name, at, statusOf(peer));
  }
}

// ---- what is shown of a peer ----

const isMissing = (peer) => peer.wanted && statusOf(peer) !== "READY";
const isUnknown = (peer) => peer.wanted && statusOf(peer) === "UNKNOWN";
const isParked = (peer) => !peer.wanted && statusOf(peer) === "DISCONNECTED";

const isFlapping = (peer) => peer.wanted && time(peer.flappingUntil) > now();

const natural = new Intl.Collator("en", { numeric: true });
// How bad each kind of peer is, the worst the least, as src/admin/status_page.rs writes it into the page.
const SEVERITIES = $("rows").dataset.severities;

// What the order needs is worked out once: with thousands of peers they are compared often.
function put(peers, peer) {
  const is = [peer.wanted, statusOf(peer) === "READY", Number(peer.flapCount) > 0, Number(peer.failureCount) > 0];
  peer.severity = Number(SEVERITIES[is.reduce((kind, bit) => 2 * kind + bit, 0)]);
  peer.missingSince = isMissing(peer) ? time(staleSince(peer) || peer.notReadySince) : 0;
  peer.flaps = is[0] && is[1] ? Number(peer.flapCount) : 0;
  if (!peers.has(peer.name)) state.order = null;
  peers.set(peer.name, peer);
}

function placeByName() {
  if (!state.order) state.order = new Map([...state.peers.keys()].sort(natural.compare).map((name, place) => [name, place]));
  return state.order;
}

const worse = (order) => (a, b) =>
  a.severity - b.severity || a.missingSince - b.missingSince || b.flaps - a.flaps || order.get(a.name) - order.get(b.name);

// ---- the past hour of a peer ----

const WAS_READY = 1;
const WAS_MISSING = 2;
const WAS_AWAY = 4;
const QUESTION_BINS = 4; // to connect to a peer, and to park it for what it answers, takes no longer than a handshake may
const bitOf = (status) => (status === "READY" ? WAS_READY : status.startsWith("CONNECT") ? WAS_MISSING : WAS_AWAY);

// Which kinds of status it had in each bin.
class Past {
  constructor(at, status) {
    this.bins = new Uint8Array(BINS);
    this.first = this.last = Math.floor(at / BIN);
    this.note(at, status);
  }

  note(at, status) {
    this.advance(at);
    this.status = status;
    this.bins[this.last % BINS] |= bitOf(status);
    if (status !== "DISCONNECTED") return;
    // It is parked: nothing was missing while it was asked.
    for (let bin = this.last; bin >= Math.max(this.first, this.last - QUESTION_BINS + 1); bin -= 1) {
      if (this.bins[bin % BINS] & WAS_READY) break;
      this.bins[bin % BINS] = WAS_AWAY;
    }
  }

  // As the other was after this bin.
  goOn(other, begin, to) {
    for (const past of [this, other]) past.advance(to);
    for (let bin = begin + 1; bin <= other.last; bin += 1) this.bins[bin % BINS] = other.bins[bin % BINS];
  }

  advance(to) {
    const end = Math.floor(to / BIN);
    this.last = Math.max(this.last, end - BINS);
    while (this.last < end) {
      this.last += 1;
      this.bins[this.last % BINS] = bitOf(this.status);
    }
    this.first = Math.max(this.first, this.last - BINS + 1);
  }
}

// As `peerstatus peers list` says it.
function howLong(peer) {
  if (isUnknown(peer)) return `unknown ${age(since(peer))}`;
  if (isMissing(peer)) return `not ready ${age(peer.notReadySince)}`;
  if (statusOf(peer) === "READY") return `up ${age(peer.statusSince)}`;
  return isParked(peer) ? "parked" : `leaving ${age(peer.statusSince)}`;
}

// Since when a parked one is parked is not known: its status is new each time that it was asked.
const since = (peer) => staleSince(peer) || (isMissing(peer) && !isUnknown(peer) ? peer.notReadySince : isParked(peer) ? "" : peer.statusSince) || "";

function lastFailure(peer) {
  if (staleSince(peer)) return `was ${lastStatusOf(peer)}; nothing is heard of node ${nodeOf(peer)}`;
  const present = reasonAndDetail(peer.reason, peer.detail);
  if (!peer.wanted || isUnknown(peer)) return present;
  const failure = peer.lastFailure;
  const what = failure && reasonAndDetail(failure.reason, failure.detail);
  if (!isMissing(peer)) return failure ? `${age(failure.time)} ago: ${what}` : "";
  if (failure && !(time(failure.time) < time(peer.notReadySince))) return what;
  return `none yet: ${statusOf(peer) === "CONNECTED" ? "no answer to send_identity so far" : present}`;
}

// Of an observed peer, the round trip of TCP.
function echo(peer) {
  const rtt = peer.echoRtt || peer.tcpRtt;
  if (!rtt) return "";
  const ms = parseFloat(rtt) * 1000;
  return ms < 10 ? `${ms.toFixed(1)} ms` : `${Math.round(ms)} ms`;
}

// ---- filter, as in the address of the page ----

const filter = { pool: "", peer: "", q: "", bad: false };

function filterChanged() {
  state.shown = ROWS;
  if (chosen.peer !== filter.peer) choose(filter.peer);
  redraw(true);
}

function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  filter.pool = given.get("pool") || "";
  filter.peer = given.get("peer") || "";
  filter.q = given.get("q") || "";
  filter.bad = given.get("bad") === "1";
  $("q").value = filter.q;
  $("bad").checked = filter.bad;
  filterChanged();
}

function writeAddress() {
  const wanted = new URLSearchParams();
  for (const key of ["pool", "peer", "q"]) if (filter[key]) wanted.set(key, filter[key]);
  if (filter.bad) wanted.set("bad", "1");
  const hash = wanted.toString();
  history.replaceState(null, "", hash ? `#${hash}` : location.pathname);
  filterChanged();
}

function clearFilter() {
  Object.assign(filter, { pool: "", peer: "", q: "", bad: false });
  $("q").value = "";
  $("bad").checked = false;
  writeAddress();
}

function passes(peer) {
  if (filter.peer && shortName(peer) !== filter.peer) return false;
  if (filter.pool && peer.pool !== filter.pool) return false;
  if (filter.bad && !isMissing(peer)) return false;
  if (!filter.q) return true;
  const text = `${shortName(peer)} ${statusOf(peer)} ${isFlapping(peer) ? "flapping" : ""} ${isParked(peer) ? "parked" : ""} ${lastFailure(peer)}`.toLowerCase();
  return filter.q.toLowerCase().split(/\s+/).every((part) => text.includes(part));
}

// ---- drawing ----

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

// What was set is remembered, because to ask the document costs more.
function setText(node, text) {
  if (node.told === text) return;
  node.told = text;
  node.textContent = text;
}

function setClass(node, name) {
  if (node.toldClass === name) return;
  node.toldClass = name;
  node.className = name;
}

function setTime(node, text, at) {
  setText(node, text);
  if (node.toldTime === at) return;
  node.toldTime = at;
  node.dateTime = node.title = at;
}

// The children of `parent` become `wanted`, with few moves.
function arrange(parent, wanted) {
  const kept = new Set(wanted);
  for (const child of [...parent.childNodes]) if (!kept.has(child)) child.remove();
  let next = parent.firstChild;
  for (const node of wanted) {
    // One that has moved down stays until it is its turn.
    if (node === next || (next && node === next.nextSibling)) next = node.nextSibling;
    else parent.insertBefore(node, next);
  }
}

function badge() {
  const made = element("span", "badge");
  const shape = element("span", "shape");
  shape.setAttribute("aria-hidden", "true");
  made.append(shape, document.createTextNode(""));
  return made;
}

const tiles = new Map();
const rows = new Map();

function tile(pool) {
  let made = tiles.get(pool.name);
  if (!made) {
    const item = element("li");
    const button = element("button");
    button.type = "button";
    const name = word(pool.name, "pools/");
    button.append(element("strong", "", name), badge(), element("span", "ready-count"), element("span", "since"));
    button.addEventListener("click", () => {
      filter.pool = filter.pool === name ? "" : name;
      writeAddress();
    });
    item.append(button);
    made = { item, button, name };
    tiles.set(pool.name, made);
  }
  return made;
}

function drawPools() {
  const counts = new Map();
  for (const peer of state.peers.values()) {
    const count = counts.get(peer.pool) || { wanted: 0, ready: 0, parked: 0 };
    if (peer.wanted) count.wanted += 1;
    if (peer.wanted && statusOf(peer) === "READY") count.ready += 1;
    if (isParked(peer)) count.parked += 1;
    counts.set(peer.pool, count);
  }
  const pools = [...state.pools.values()].sort((a, b) => natural.compare(a.name, b.name));
  arrange($("pools"), pools.map((pool) => {
    const made = tile(pool);
    const silentSince = state.stale.get(placeOf(made.name)[0]);
    const last = known(pool.health, "POOL_HEALTH_");
    const health = silentSince ? "UNKNOWN" : last;
    const count = counts.get(made.name) || { wanted: 0, ready: 0, parked: 0 };
    setClass(made.button, `tile ${health.toLowerCase()}`);
    made.button.setAttribute("aria-pressed", String(filter.pool === made.name));
    setText(made.button.children[1].lastChild, health);
    const notes = [count.parked ? `${count.parked} parked` : "", state.incomplete.has(placeOf(made.name)[0]) ? "node incomplete" : ""];
    setText(made.button.children[2], [`${count.ready} of ${count.wanted} READY`, ...notes.filter(Boolean)].join(", "));
    setText(made.button.children[3], silentSince ? `node silent ${age(silentSince)}, was ${last}` : `for ${age(pool.healthSince)}`);
    return made.item;
  }));
  const names = ["", ...pools.map((pool) => word(pool.name, "pools/"))];
  const select = $("pool");
  if ([...select.options].map((option) => option.value).join() !== names.join()) {
    select.replaceChildren(...names.map((name) => new Option(name || "all", name)));
  }
  select.value = filter.pool;
}

const LABELS = ["", "", "Flaps", "Failures", "Last failure", "Echo", "Last hour"];
function row(name) {
  let made = rows.get(name);
  if (!made) {
    made = element("tr");
    made.setAttribute("role", "row");
    const title = element("th");
    title.scope = "row";
    title.setAttribute("role", "rowheader");
    title.append(element("a"), element("span", "from"));
    const cells = ["Node", ...LABELS].map((label) => {
      const cell = element("td");
      cell.setAttribute("role", "cell");
      if (label) cell.dataset.label = label;
      return cell;
    });
    const [node, status, since, flaps, failures, , rtt] = cells;
    status.append(badge());
    since.className = "age";
    since.append(element("time"));
    for (const number of [flaps, failures, rtt]) number.className = "number";
    made.append(...(isFleet ? [node] : []), title, ...cells.slice(1));
    made.parts = [title, ...cells];
    made.addEventListener("contentvisibilityautostatechange", ({ skipped }) => {
      made.isSkipped = skipped;
      if (!skipped && state.peers.has(name)) drawRow(state.peers.get(name));
    });
    rows.set(name, made);
  }
  return made;
}

function drawRow(peer) {
  const made = row(peer.name);
  const [title, node, status, age, flaps, failures, failure, rtt, strip] = made.parts;
  const pool = placeOf(peer.pool)[1];
  const shownPool = severalPools ? `${pool}/` : "";
  const link = title.firstChild;
  if (link.dataset.pool !== shownPool) {
    link.dataset.pool = shownPool;
    link.replaceChildren(...(shownPool ? [element("span", "pool", shownPool)] : []), addressOf(peer.name));
    link.href = `#${new URLSearchParams({ peer: shortName(peer) })}`;
  }
  setText(node, nodeOf(peer));
  const flapping = isFlapping(peer);
  setClass(made, `${statusOf(peer).toLowerCase()}${flapping ? " flapping" : ""}${peer.wanted ? "" : " unwanted"}`);
  setText(status.firstChild.lastChild, flapping ? `${statusOf(peer)} ~flapping` : statusOf(peer));
  setTime(age.firstChild, howLong(peer), since(peer));
  setText(flaps, Number(peer.flapCount) ? peer.flapCount : "");
  setText(failures, Number(peer.failureCount) ? peer.failureCount : "");
  setClass(failure, isMissing(peer) ? "failure" : "failure past");
  setText(failure, lastFailure(peer));
  setText(title.lastChild, peer.learnedFrom ? `learned from ${addressOf(peer.learnedFrom)}` : "");
  setText(rtt, echo(peer));
  drawStrip(strip, peer);
  return made;
}

function newStrip(cell) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [name, value] of Object.entries({ class: "strip", viewBox: `0 0 ${BINS} 10`, preserveAspectRatio: "none", role: "img" })) {
    svg.setAttribute(name, value);
  }
  for (const name of ["away", "ready", "missing"]) {
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("class", name);
    svg.append(path);
  }
  cell.replaceChildren(svg);
  return svg;
}

// A path for each kind, with a rectangle for each run of bins of the same kinds.
function drawStrip(cell, peer) {
  const past = state.past.get(peer.name);
  if (!past) return;
  past.advance(now());
  const key = `${past.first} ${past.last} ${past.status} ${past.bins[past.last % BINS]}`;
  if (cell.toldStrip === key) return;
  cell.toldStrip = key;
  const svg = cell.firstChild || newStrip(cell);
  const paths = ["", "", ""];
  let missing = 0;
  for (let bin = past.first, begin = bin; bin <= past.last; bin += 1) {
    const kinds = past.bins[bin % BINS];
    if (kinds & WAS_MISSING) missing += 1;
    if (bin < past.last && past.bins[(bin + 1) % BINS] === kinds) continue;
    [WAS_AWAY, WAS_READY, WAS_MISSING].forEach((kind, at) => {
      if (!(kinds & kind)) return;
      const top = kind === WAS_MISSING ? 0 : kind === WAS_READY ? 3 : 5;
      const height = (kind === WAS_MISSING && kinds & WAS_READY ? 6 : 10) - top;
      const width = bin - begin + 1;
      paths[at] += `M${begin - past.last + BINS - 1} ${top}h${width}v${height}h${-width}z`;
    });
    begin = bin + 1;
  }
  paths.forEach((path, at) => svg.children[at].setAttribute("d", path));
  const known = duration((past.last - past.first + 1) * BIN);
  svg.setAttribute("aria-label", missing ? `not READY at times in ${duration(missing * BIN)} of the last ${known}` : `nothing lost in the last ${known}`);
}

let severalPools = false;
let turn = -1;

function drawPeers() {
  const all = [...state.peers.values()];
  const passing = all.filter(passes).sort(worse(placeByName()));
  const shown = passing.slice(0, state.shown);
  severalPools = new Set([...state.pools.keys()].map((name) => placeOf(name)[1])).size > 1;
  turn = (turn + 1) % SKIPPED_TURNS;
  arrange($("rows"), shown.map((peer, at) => (row(peer.name).isSkipped && at % SKIPPED_TURNS !== turn ? row(peer.name) : drawRow(peer))));
  const missing = all.filter(isMissing).length;
  const wanted = all.filter((peer) => peer.wanted).length;
  document.title = missing ? `${missing} not READY – OpFlex peers` : "OpFlex peers";
  const filtered = passing.length < all.length ? `; ${passing.length} of ${all.length} listed` : "";
  setText($("count"), all.length ? `${wanted - missing} of ${wanted} READY${filtered}` : "");
  drawMore(passing.length - shown.length, passing.length ? "" : all.length ? "No peer matches the filter." : "There are no peers.");
}

function drawMore(rest, none) {
  const key = `${rest} ${none} ${filter.peer}`;
  if ($("more").told === key) return;
  $("more").told = key;
  const button = (text, act) => {
    const made = element("button", "", text);
    made.type = "button";
    made.addEventListener("click", act);
    return made;
  };
  const more = () => {
    state.shown += ROWS;
    redraw(true);
  };
  $("more").replaceChildren(
    ...(none ? [none, " "] : []),
    ...(rest > 0 ? [button(`Show ${Math.min(rest, ROWS)} of ${rest} more`, more)] : []),
    ...(filter.peer ? [button("Show all peers", clearFilter)] : []),
  );
}

// ---- changes ----

const LONGEST_CYCLE = 8;
const SHORTEST_RUN = 3;
// Of a parked peer that is asked for its peers and stays parked, the newest first.
const QUESTION = ["CLOSING DISCONNECTED", "CONNECTED CLOSING", "CONNECTING CONNECTED", "DISCONNECTED CONNECTING"];

// The peer that was chosen with a click, and its own changes, the newest first; null: they are being asked for.
const chosen = { peer: "", entries: null, failed: "" };

/** A change, with what it is compared and shown by. */
function entryOf({ change, revision }) {
  const { peer } = change;
  if (!peer) return { change, revision, name: "", at: time((change.health || change.node).time) };
  const step = `${word(peer.previousStatus, "PEER_STATUS_")} ${statusOf(peer.peer)}`;
  return { change, revision, name: peer.peer.name, at: time(peer.time), step, key: `${peer.kind} ${step} ${peer.peer.reason}` };
}

/** The run of cycles that begins with this entry of a peer, as src/cli/cycle.rs finds it. */
function runAt(entries, at) {
  let asked = 0;
  while (QUESTION.every((step, index) => entries[at + asked * QUESTION.length + index]?.step === step)) asked += 1;
  if (asked) return { kind: "asked again", period: QUESTION.length, count: asked };
  for (let period = 1; period <= LONGEST_CYCLE && at + period < entries.length; period += 1) {
    let same = 0;
    while (entries[at + same + period]?.key === entries[at + same].key) same += 1;
    const count = Math.floor(same / period) + 1;
    if (count < SHORTEST_RUN) continue;
    const has = (status) => entries.slice(at, at + period).some(({ step }) => step.includes(status));
    return { kind: has("READY") ? "flapped" : has("DISCONNECTED") ? "asked again" : "never READY", period, count };
  }
  return null;
}

/** One cycle of each run, and one line for all of it, as `peers history` shows them. */
function fold(entries) {
  const ofPeer = new Map();
  for (const entry of entries) {
    if (!ofPeer.has(entry.name)) ofPeer.set(entry.name, []);
    ofPeer.get(entry.name).push(entry);
  }
  const hidden = new Set();
  const lines = new Map();
  for (const [name, own] of ofPeer) {
    for (let at = 0; name && at < own.length;) {
      const run = runAt(own, at);
      if (!run) {
        at += 1;
        continue;
      }
      const after = at + run.period * run.count;
      const shown = run.kind === "asked again" ? at : at + run.period;
      for (const entry of own.slice(shown + 1, after)) hidden.add(entry);
      const cycle = own.slice(at, at + run.period);
      const isFailure = ({ change: { peer: { peer } } }) => peer.lastFailure?.reason === peer.reason;
      lines.set(own[shown], { ...run, begin: own[after - 1].at, end: own[at].at, cause: cycle.find(isFailure) || cycle[0] });
      at = after;
    }
  }
  return entries.filter((entry) => !hidden.has(entry)).map((entry) => [entry, lines.get(entry)]);
}

function changeText({ change: { peer, health, node } }, run) {
  if (run) {
    const its = run.cause.change.peer.peer;
    return `${shortName(its)} ${run.kind} × ${run.count} in ${duration(run.end - run.begin)}, ${reasonAndDetail(its.reason, its.detail)}`;
  }
  const parts = [];
  if (peer) {
    const { peer: its, kind, previousStatus } = peer;
    const [before, after] = [known(previousStatus, "PEER_STATUS_"), statusOf(its)];
    const what = kind === "CHANGE_KIND_ADDED" ? "added" : kind === "CHANGE_KIND_REMOVED" ? "removed"
      : before === after ? after : `${before} → ${after}`;
    parts.push(`${shortName(its)} ${what}, ${reasonAndDetail(its.reason, its.detail)}`);
  }
  if (health) {
    const [before, after] = [known(health.previous, "POOL_HEALTH_"), known(health.health, "POOL_HEALTH_")];
    parts.push(`pool ${word(health.pool, "pools/")} ${before} → ${after}, ${health.readyCount} of ${health.peerCount} READY`);
  }
  if (node) {
    const [before, after] = [word(node.previous, "NODE_STATE_"), word(node.node.state, "NODE_STATE_")];
    const what = before === "UNSPECIFIED" ? "is new" : before === after ? after : `${before} → ${after}`;
    const notes = [node.node.conflict ? "two nodes have this name" : "", Number(node.node.chainBreakCount) ? `${node.node.chainBreakCount} chain breaks` : ""];
    parts.push([`node ${word(node.node.name, "nodes/")} ${what}`, ...notes.filter(Boolean)].join(", "));
  }
  return parts.join("; ");
}

let areChangesSkipped = false;
const items = new WeakMap();
const noChanges = element("li", "none");

function changeItem([entry, run]) {
  let item = items.get(entry);
  if (!item) {
    item = element("li");
    item.append(element("time"), element("span"));
    items.set(entry, item);
  }
  const at = run ? run.begin : entry.at;
  if (item.toldAt !== at) setTime(item.firstChild, clock(at), new Date(at).toISOString());
  item.toldAt = at;
  setClass(item, entry.change.peer && !entry.change.peer.peer.wanted ? "unwanted" : "");
  setText(item.lastChild, changeText(entry, run));
  return item;
}

function drawChanges() {
  if (areChangesSkipped && turn) return;
  setText($("changes-title"), filter.peer ? `Changes of ${filter.peer}` : "Newest changes");
  const known = filter.peer ? chosen.entries || [] : state.changes.filter(({ change: { peer } }) => !peer || passes(peer.peer));
  setText(noChanges, filter.peer && chosen.failed ? `no history: ${chosen.failed}` : filter.peer && !chosen.entries ? "asking for the history …" : "no changes");
  const shown = fold(known).slice(0, CHANGES).map(changeItem);
  arrange($("changes"), shown.length ? shown : [noChanges]);
}

function keepChange(entries, entry) {
  entries.unshift(entry);
  if (entries.length > 2 * KEPT_CHANGES) entries.length = KEPT_CHANGES;
}

/** These and those, each once, the newest first. */
function merged(these, those) {
  const all = new Map([...those, ...these].map((entry) => [entry.revision, entry]));
  return [...all.values()].sort((a, b) => Number(b.revision) - Number(a.revision));
}

/** Asks for the changes of this peer, `POOL/ADDRESS`, or of none. */
async function choose(peer) {
  Object.assign(chosen, { peer, entries: null, failed: "" });
  if (!peer) return;
  const slash = peer.indexOf("/");
  const query = new URLSearchParams({ page_size: KEPT_CHANGES, pool: peer.slice(0, slash), peer: peer.slice(slash + 1) });
  const name = `pools/${peer.slice(0, slash)}/peers/${peer.slice(slash + 1)}`;
  try {
    const past = (await list(`api/v1/transitions?${query}`, "transitions", 1)).map(entryOf).filter((entry) => entry.name === name);
    if (chosen.peer === peer) chosen.entries = merged(past, state.changes.filter((entry) => entry.name === name));
  } catch (error) {
    if (chosen.peer === peer) chosen.failed = error.message;
  }
  redraw();
}

function drawListeners() {
  arrange($("listeners"), state.listeners.map((listener) => {
    const made = element("tr");
    const title = element("th", "", word(listener.name, "listeners/"));
    title.scope = "row";
    made.append(title, ...[
      word(listener.state, "LISTENER_STATE_"), listener.client, listener.lag, listener.deliveredCount, listener.resetCount,
    ].map((text, at) => element("td", at < 2 ? "" : "number", text)));
    return made;
  }));
  setText($("no-listeners"), state.listeners.length ? "" : "You may see no listeners, or there are none.");
}

let drawing = 0;
let drawn = 0;
let took = 0;

function redraw(isAsked = false) {
  if (document.hidden || !state.isComplete || (drawing && !isAsked)) return;
  clearTimeout(drawing);
  const next = drawn + Math.min(Math.max(DRAW_EVERY[0], 10 * took), DRAW_EVERY[1]);
  drawing = setTimeout(() => {
    drawing = 0;
    drawn = performance.now();
    showLive();
    drawPools();
    drawPeers();
    setTimeout(() => {
      drawChanges();
      // Layout and painting come after.
      requestAnimationFrame(() => setTimeout(() => { took = performance.now() - drawn; }));
    });
  }, isAsked ? 0 : Math.max(0, next - performance.now()));
}

// ---- what happens ----

let lastEvent = Date.now();
let lostAt = 0;
let resumed = "";

function showLive() {
  const isLive = !lostAt;
  setClass($("live"), isLive ? "live" : "lost");
  setText($("live-text"), isLive ? `live${resumed}` : `not live since ${clock(lostAt)}: what you see may be out of date; reconnecting`);
}

function lost() {
  lostAt = lostAt || lastEvent;
  showLive();
}

function remember(name, at, status) {
  const past = state.past.get(name);
  if (past) past.note(at, status);
  else state.past.set(name, new Past(at, status));
}

function apply(change, revision) {
  const { peer, health, node } = change;
  if (node) nodeChanged(node.node, time(node.time));
  if (peer) {
    const its = peer.peer;
    if (peer.kind === "CHANGE_KIND_REMOVED") {
      state.peers.delete(its.name);
      state.past.delete(its.name);
      state.order = null;
      rows.delete(its.name);
    } else {
      put(state.peers, its);
      remember(its.name, time(peer.time), statusOf(its));
    }
  }
  if (health) {
    const pool = state.pools.get(health.pool);
    if (pool) Object.assign(pool, { health: health.health, healthSince: health.time });
  }
  const entry = entryOf({ change, revision });
  keepChange(state.changes, entry);
  if (chosen.entries && peer && shortName(peer.peer) === chosen.peer) keepChange(chosen.entries, entry);
}

const handlers = {
  attached({ attached }) {
    const { epoch } = attached.cursor;
    const isNew = state.epoch && state.epoch !== epoch;
    resumed = !state.epoch ? "" : isNew ? "; the service was restarted" : attached.resumed ? "; resumed, nothing was missed" : "";
    if (resumed) resumed += ` (${clock(Date.now())})`;
    state.epoch = epoch;
    state.arriving = attached.resumed ? null : { peers: new Map(), pools: new Map(), stale: new Map() };
  },
  reset() {
    state.arriving = { peers: new Map(), pools: new Map(), stale: new Map() };
  },
  snapshot({ snapshot }) {
    const into = state.arriving || state;
    for (const node of snapshot.nodes) noteNode(into.stale, node);
    for (const pool of snapshot.pools) into.pools.set(pool.name, pool);
    for (const peer of snapshot.peers) put(into.peers, peer);
  },
  synced() {
    state.isComplete = true;
    if (!state.arriving) return;
    Object.assign(state, state.arriving, { arriving: null, order: null });
    for (const name of rows.keys()) if (!state.peers.has(name)) rows.delete(name);
    for (const peer of state.peers.values()) {
      if (staleSince(peer)) put(state.peers, peer); // only now it is known of its node
      remember(peer.name, time(since(peer) || peer.statusSince), statusOf(peer));
    }
    loadPast();
    refresh();
    if (chosen.peer) choose(chosen.peer);
  },
  changes(messages) {
    for (const { change, revision } of messages) apply(change, revision);
  },
  heartbeat() {},
  draining() {
    lost();
  },
};

// Events wait here, so that a browser that is busy handles many of them in several short tasks.
const waiting = [];

function handleSome(ms) {
  const end = performance.now() + ms;
  do {
    const [handle, data] = waiting.shift();
    if (handle !== handlers.draining) lostAt = 0;
    handle(JSON.parse(data));
  } while (waiting.length && performance.now() < end);
  redraw();
}

function handleAll() {
  try {
    handleSome(SLICE);
  } finally {
    if (waiting.length) setTimeout(handleAll);
  }
}

let source = null;

function connect() {
  source = new EventSource(`api/v1/events?${new URLSearchParams({ after: state.cursor, interval_ms: INTERVAL })}`);
  for (const [name, handle] of Object.entries(handlers)) {
    source.addEventListener(name, (event) => {
      lastEvent = Date.now();
      if (event.lastEventId) state.cursor = event.lastEventId;
      waiting.push([handle, event.data]);
      // A page that is slow, or whose timers are, then takes events no faster than it handles them.
      if (waiting.length > MOST_WAITING) handleSome(0);
      else if (waiting.length === 1) setTimeout(handleAll);
    });
  }
  source.onerror = () => {
    lost();
    // The browser reconnects by itself, with its Last-Event-ID, unless the answer was an error.
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 2000 + 1000 * Math.random());
  };
}

// ---- what no event tells ----

async function* pagesOf(path, key, most, pause = 0) {
  let token = "";
  for (let page = 0; page < most; page += 1) {
    const began = performance.now();
    const answer = await fetch(`${path}${path.includes("?") ? "&" : "?"}page_token=${encodeURIComponent(token)}`);
    if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
    const skew = Date.parse(answer.headers.get("date")) - Date.now();
    if (Math.abs(skew) > 2000 || state.skew) state.skew = Math.abs(skew) > 2000 ? skew : 0;
    const body = await answer.json();
    yield body[key];
    token = body.nextPageToken;
    if (!token) break;
    await new Promise((resolve) => setTimeout(resolve, pause * (performance.now() - began)));
  }
}

async function list(path, key, most) {
  const found = [];
  for await (const page of pagesOf(path, key, most)) found.push(...page);
  return found;
}

// The past hour: where each peer was, and the newest changes. It may be long: a busy service and browser are given time.
async function loadPast() {
  const begin = Math.floor(now() / BIN);
  const past = []; // newest first
  try {
    for await (const page of pagesOf("api/v1/transitions?page_size=500&seconds=3600", "transitions", HISTORY_PAGES, PAUSE)) {
      if (state.changes.length < KEPT_CHANGES) state.changes = merged(page.map(entryOf), state.changes);
      for (const { change: { peer } } of page) {
        if (!peer || peer.kind === "CHANGE_KIND_REMOVED") continue;
        past.push([peer.peer.name, time(peer.time), statusOf(peer.peer), word(peer.previousStatus, "PEER_STATUS_")]);
      }
    }
    const known = new Map();
    for (const [name, at, status, before] of past.reverse()) {
      if (!known.has(name)) known.set(name, new Past(at, before === "UNSPECIFIED" ? status : before));
      known.get(name).note(at, status);
    }
    for (const [name, before] of known) {
      const peer = state.peers.get(name);
      if (!peer) continue;
      before.goOn(state.past.get(name), begin, now());
      before.note(time(since(peer) || peer.statusSince), statusOf(peer));
      state.past.set(name, before);
    }
    redraw();
  } catch (error) {
    console.warn(error);
  }
}

async function refresh() {
  if (document.hidden) return;
  try {
    const [peers, listeners] = [await list("api/v1/peers?page_size=2000", "peers", 50), await list("api/v1/listeners", "listeners", 1)];
    for (const peer of peers) {
      const ours = state.peers.get(peer.name);
      // An event may have told of something newer meanwhile.
      if (ours && Number(peer.revision) >= Number(ours.revision)) put(state.peers, peer);
    }
    state.listeners = listeners;
    // That a node is complete again is no event.
    const nodes = isFleet ? await list("api/v1/nodes?page_size=2000", "nodes", 50) : [];
    state.incomplete = new Set(nodes.filter(({ incomplete }) => incomplete).map(({ name }) => word(name, "nodes/")));
    drawListeners();
    redraw();
  } catch (error) {
    console.warn(error);
  }
}

// ---- start ----

function start() {
  for (const section of document.querySelectorAll(".scripted")) section.hidden = false;
  $("filters").hidden = false;
  $("q").addEventListener("input", () => { filter.q = $("q").value.trim(); writeAddress(); });
  $("pool").addEventListener("change", () => { filter.pool = $("pool").value; writeAddress(); });
  $("bad").addEventListener("change", () => { filter.bad = $("bad").checked; writeAddress(); });
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", readAddress);
  $("changes").parentNode.addEventListener("contentvisibilityautostatechange", ({ skipped }) => {
    areChangesSkipped = skipped;
    drawChanges();
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) { refresh(); redraw(); } });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && event.target !== $("q")) {
      event.preventDefault();
      $("q").focus();
    } else if (event.key === "Escape" && (filter.q || filter.pool || filter.peer || filter.bad)) {
      clearFilter();
    }
  });
  setInterval(() => {
    if (!lostAt && Date.now() - lastEvent > SILENT_AFTER) {
      lost();
      source.close();
      connect();
    }
    redraw();
  }, 1000);
  setInterval(refresh, REFRESH_EVERY);
  readAddress();
  connect();
}

start();
