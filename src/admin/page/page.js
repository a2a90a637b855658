// The status page: peers and pools from /api/v1/events, their past from /api/v1/transitions. Everything that comes from
// the service is set as text, never as markup.
"use strict";

const BIN = 15e3; // ms of the past that the strip of a peer shows as one
const BINS = 240; // an hour
const ROWS = 100; // rows at first, and more on each request for more
const CHANGES = 60;
const HISTORY_PAGES = 8; // of the past hour
const DRAW_EVERY = [250, 2000]; // ms: often, but no more than a part of the time of a slow browser
const REFRESH_EVERY = 10e3; // counters that move without a change; listeners
const SILENT_AFTER = 40e3; // the service sends something every 15 s

const $ = (id) => document.getElementById(id);
const word = (name, prefix) => String(name).replace(prefix, "");
const statusOf = (peer) => word(peer.status, "PEER_STATUS_");
const reasonOf = (name) => word(name, "REASON_").toLowerCase().replaceAll("_", " ");
const addressOf = (name) => name.slice(name.indexOf("/peers/") + 7);
const time = (text) => (text ? Date.parse(text) : NaN);

const state = {
  peers: new Map(), // by name
  pools: new Map(), // by name
  past: new Map(), // by name of the peer
  order: null, // name of the peer: its place by name; null: to be sorted
  changes: [], // newest first
  listeners: [],
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
const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour12: false });

function reasonAndDetail(reason, detail) {
  return detail ? `${reasonOf(reason)}: ${detail}` : reasonOf(reason);
}

// ---- what is shown of a peer ----

const isMissing = (peer) => peer.wanted && statusOf(peer) !== "READY";
const isParked = (peer) => !peer.wanted && statusOf(peer) === "DISCONNECTED";

// As `peerstatus peers list` orders them: not READY, then lost at some time, then parked, then the others.
function severity(peer) {
  if (isMissing(peer)) return 0;
  if (peer.wanted && Number(peer.flapCount) > 0) return 1;
  return peer.wanted ? 3 : 2;
}

const natural = new Intl.Collator("en", { numeric: true });

// What the order needs is worked out once: with thousands of peers they are compared often.
function put(peers, peer) {
  peer.rank = severity(peer);
  peer.missingSince = peer.rank === 0 ? time(peer.notReadySince) : 0;
  peer.flaps = Number(peer.flapCount);
  if (!peers.has(peer.name)) state.order = null;
  peers.set(peer.name, peer);
}

function placeByName() {
  if (!state.order) state.order = new Map([...state.peers.keys()].sort(natural.compare).map((name, place) => [name, place]));
  return state.order;
}

const worse = (order) => (a, b) =>
  a.rank - b.rank || a.missingSince - b.missingSince || (a.rank ? b.flaps - a.flaps : 0) || order.get(a.name) - order.get(b.name);

// ---- the past hour of a peer ----

const WAS_READY = 1;
const WAS_MISSING = 2;
const WAS_AWAY = 4;
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

function since(peer) {
  if (isMissing(peer)) return `${age(peer.notReadySince)} not READY`;
  if (statusOf(peer) === "READY") return `${age(peer.statusSince)} up`;
  return isParked(peer) ? "parked" : `${age(peer.statusSince)} leaving`;
}

function lastFailure(peer) {
  if (!peer.wanted) return reasonAndDetail(peer.reason, peer.detail);
  const failure = peer.lastFailure;
  if (!failure) return isMissing(peer) ? `none yet: ${reasonAndDetail(peer.reason, peer.detail)}` : "";
  const what = reasonAndDetail(failure.reason, failure.detail);
  return isMissing(peer) ? what : `${age(failure.time)} ago: ${what}`;
}

function echo(peer) {
  if (!peer.echoRtt) return "";
  const ms = parseFloat(peer.echoRtt) * 1000;
  return ms < 10 ? `${ms.toFixed(1)} ms` : `${Math.round(ms)} ms`;
}

// ---- filter, as in the address of the page ----

const filter = { pool: "", q: "", bad: false };

function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  filter.pool = given.get("pool") || "";
  filter.q = given.get("q") || "";
  filter.bad = given.get("bad") === "1";
  $("q").value = filter.q;
  $("bad").checked = filter.bad;
  state.shown = ROWS;
  redraw();
}

function writeAddress() {
  const wanted = new URLSearchParams();
  if (filter.pool) wanted.set("pool", filter.pool);
  if (filter.q) wanted.set("q", filter.q);
  if (filter.bad) wanted.set("bad", "1");
  const hash = wanted.toString();
  history.replaceState(null, "", hash ? `#${hash}` : location.pathname);
  state.shown = ROWS;
  redraw();
}

function passes(peer) {
  if (filter.pool && peer.pool !== filter.pool) return false;
  if (filter.bad && !isMissing(peer)) return false;
  if (!filter.q) return true;
  const text = `${peer.pool}/${addressOf(peer.name)} ${statusOf(peer)} ${isParked(peer) ? "parked" : ""} ${lastFailure(peer)}`.toLowerCase();
  return filter.q.toLowerCase().split(/\s+/).every((part) => text.includes(part));
}

// ---- drawing ----

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function setClass(node, name) {
  if (node.className !== name) node.className = name;
}

// The children of `parent` become `wanted`, with as few moves as possible.
function arrange(parent, wanted) {
  let next = parent.firstChild;
  for (const node of wanted) {
    if (node === next) next = next.nextSibling;
    else parent.insertBefore(node, next);
  }
  while (next) {
    const rest = next.nextSibling;
    next.remove();
    next = rest;
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
    const health = word(pool.health, "POOL_HEALTH_");
    const count = counts.get(made.name) || { wanted: 0, ready: 0, parked: 0 };
    setClass(made.button, `tile ${health.toLowerCase()}`);
    made.button.setAttribute("aria-pressed", String(filter.pool === made.name));
    setText(made.button.children[1].lastChild, health);
    setText(made.button.children[2], `${count.ready} of ${count.wanted} READY${count.parked ? `, ${count.parked} parked` : ""}`);
    setText(made.button.children[3], `for ${age(pool.healthSince)}`);
    return made.item;
  }));
  const names = ["", ...pools.map((pool) => word(pool.name, "pools/"))];
  const select = $("pool");
  if ([...select.options].map((option) => option.value).join() !== names.join()) {
    select.replaceChildren(...names.map((name) => new Option(name || "all", name)));
  }
  select.value = filter.pool;
}

const LABELS = ["", "", "", "Flaps", "Failures", "Last failure", "Echo", "Last hour"];

function row(name) {
  let made = rows.get(name);
  if (!made) {
    made = element("tr");
    made.setAttribute("role", "row");
    const title = element("th");
    title.scope = "row";
    title.setAttribute("role", "rowheader");
    const link = element("a");
    title.append(link, element("span", "from"));
    made.append(title);
    for (const label of LABELS.slice(1)) {
      const cell = element("td");
      cell.setAttribute("role", "cell");
      if (label) cell.dataset.label = label;
      made.append(cell);
    }
    const [status, , flaps, failures, , rtt] = [...made.children].slice(1);
    status.append(badge());
    made.children[2].className = "age";
    for (const number of [flaps, failures, rtt]) number.className = "number";
    rows.set(name, made);
  }
  return made;
}

function drawRow(peer, severalPools) {
  const made = row(peer.name);
  const [title, status, age, flaps, failures, failure, rtt, strip] = made.children;
  const address = addressOf(peer.name);
  const link = title.firstChild;
  if (link.dataset.name !== `${severalPools}${peer.name}`) {
    link.dataset.name = `${severalPools}${peer.name}`;
    link.replaceChildren(...(severalPools ? [element("span", "pool", `${peer.pool}/`)] : []), address);
    setClass(title, address.length > 48 ? "long" : "");
    link.href = `#${new URLSearchParams({ pool: peer.pool, q: address })}`;
  }
  setClass(made, statusOf(peer).toLowerCase());
  setText(status.firstChild.lastChild, isParked(peer) ? "PARKED" : statusOf(peer));
  setText(age, since(peer));
  setText(flaps, Number(peer.flapCount) ? peer.flapCount : "");
  setText(failures, Number(peer.failureCount) ? peer.failureCount : "");
  setClass(failure, isMissing(peer) ? "failure" : "failure past");
  setText(failure, lastFailure(peer));
  setText(title.lastChild, peer.learnedFrom ? `learned from ${addressOf(peer.learnedFrom)}` : "");
  setText(rtt, echo(peer));
  drawStrip(strip, peer);
  return made;
}

// One rectangle for each run of bins of the same kinds.
function drawStrip(cell, peer) {
  const past = state.past.get(peer.name);
  if (!past) return;
  past.advance(now());
  const key = `${past.first} ${past.last} ${past.bins[past.last % BINS]}`;
  if (cell.dataset.key === key) return;
  cell.dataset.key = key;
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "strip");
  svg.setAttribute("viewBox", `0 0 ${BINS} 10`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  let missing = 0;
  for (let bin = past.first, begin = bin; bin <= past.last; bin += 1) {
    const kinds = past.bins[bin % BINS];
    if (kinds & WAS_MISSING) missing += 1;
    if (bin < past.last && past.bins[(bin + 1) % BINS] === kinds) continue;
    for (const [kind, name, top] of [[WAS_AWAY, "away", 0], [WAS_READY, "ready", 3], [WAS_MISSING, "missing", 0]]) {
      if (!(kinds & kind)) continue;
      const drawn = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      drawn.setAttribute("class", name);
      drawn.setAttribute("x", begin - past.last + BINS - 1);
      drawn.setAttribute("y", top);
      drawn.setAttribute("width", bin - begin + 1);
      drawn.setAttribute("height", (name === "missing" && kinds & WAS_READY ? 6 : 10) - top);
      svg.append(drawn);
    }
    begin = bin + 1;
  }
  const known = duration((past.last - past.first + 1) * BIN);
  svg.setAttribute("aria-label", missing ? `not READY at times in ${duration(missing * BIN)} of the last ${known}` : `nothing lost in the last ${known}`);
  cell.replaceChildren(svg);
}

function drawPeers() {
  const all = [...state.peers.values()];
  const passing = all.filter(passes).sort(worse(placeByName()));
  const shown = passing.slice(0, state.shown);
  const severalPools = state.pools.size > 1;
  arrange($("rows"), shown.map((peer) => drawRow(peer, severalPools)));
  const missing = all.filter(isMissing).length;
  const wanted = all.filter((peer) => peer.wanted).length;
  document.title = missing ? `${missing} not READY – OpFlex peers` : "OpFlex peers";
  const filtered = passing.length < all.length ? `; ${passing.length} of ${all.length} listed` : "";
  setText($("count"), all.length ? `${wanted - missing} of ${wanted} READY${filtered}` : "");
  const rest = passing.length - shown.length;
  const key = `${rest} of ${passing.length > 0 ? "some" : all.length}`;
  if ($("more").dataset.key === key) return;
  $("more").dataset.key = key;
  const button = element("button", "", `Show ${Math.min(rest, ROWS)} of ${rest} more`);
  button.type = "button";
  button.addEventListener("click", () => {
    state.shown += ROWS;
    redraw();
  });
  $("more").replaceChildren(...(rest > 0 ? [button] : passing.length ? [] : [all.length ? "No peer matches the filter." : "There are no peers."]));
}

function changeText({ peer, health }) {
  const parts = [];
  if (peer) {
    const { peer: its, kind, previousStatus } = peer;
    const [before, after] = [word(previousStatus, "PEER_STATUS_"), statusOf(its)];
    const what = kind === "CHANGE_KIND_ADDED" ? "added" : kind === "CHANGE_KIND_REMOVED" ? "removed"
      : before === after ? after : `${before} → ${after}`;
    parts.push(`${its.pool}/${addressOf(its.name)} ${what}, ${reasonAndDetail(its.reason, its.detail)}`);
  }
  if (health) {
    const [before, after] = [word(health.previous, "POOL_HEALTH_"), word(health.health, "POOL_HEALTH_")];
    parts.push(`pool ${word(health.pool, "pools/")} ${before} → ${after}, ${health.readyCount} of ${health.peerCount} READY`);
  }
  return parts.join("; ");
}

const items = new WeakMap();

function drawChanges() {
  const passing = state.changes.filter(({ change }) => !change.peer || passes(change.peer.peer));
  arrange($("changes"), passing.slice(0, CHANGES).map((entry) => {
    let item = items.get(entry);
    if (!item) {
      item = element("li");
      const at = time((entry.change.peer || entry.change.health).time);
      const stamp = element("time", "", clock(at));
      stamp.dateTime = new Date(at).toISOString();
      stamp.title = stamp.dateTime;
      item.append(stamp, changeText(entry.change));
      items.set(entry, item);
    }
    return item;
  }));
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

function redraw() {
  if (drawing || document.hidden) return;
  drawing = setTimeout(() => {
    drawing = 0;
    drawn = performance.now();
    drawPools();
    drawPeers();
    drawChanges();
    // Layout and painting come after.
    requestAnimationFrame(() => setTimeout(() => { took = performance.now() - drawn; }));
  }, Math.max(0, drawn + Math.min(Math.max(DRAW_EVERY[0], 8 * took), DRAW_EVERY[1]) - performance.now()));
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
  const { peer, health } = change;
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
  state.changes.unshift({ change, revision });
  if (state.changes.length > 4 * CHANGES) state.changes.length = 2 * CHANGES;
}

const handlers = {
  attached({ attached }) {
    const { epoch } = attached.cursor;
    const isNew = state.epoch && state.epoch !== epoch;
    resumed = !state.epoch ? "" : isNew ? "; the service was restarted" : attached.resumed ? "; resumed, nothing was missed" : "";
    if (resumed) resumed += ` (${clock(Date.now())})`;
    state.epoch = epoch;
    state.arriving = attached.resumed ? null : { peers: new Map(), pools: new Map() };
  },
  reset() {
    state.arriving = { peers: new Map(), pools: new Map() };
  },
  snapshot({ snapshot }) {
    const into = state.arriving || state;
    for (const pool of snapshot.pools) into.pools.set(pool.name, pool);
    for (const peer of snapshot.peers) put(into.peers, peer);
  },
  synced() {
    if (!state.arriving) return;
    Object.assign(state, state.arriving, { arriving: null, order: null });
    for (const name of rows.keys()) if (!state.peers.has(name)) rows.delete(name);
    for (const peer of state.peers.values()) remember(peer.name, time(peer.statusSince), statusOf(peer));
    loadPast();
    refresh();
  },
  change({ change, revision }) {
    apply(change, revision);
  },
  heartbeat() {},
  draining() {
    lost();
  },
};

let source = null;

function connect() {
  const query = state.cursor ? `?after=${encodeURIComponent(state.cursor)}` : "";
  source = new EventSource(`api/v1/events${query}`);
  for (const [name, handle] of Object.entries(handlers)) {
    source.addEventListener(name, (event) => {
      lastEvent = Date.now();
      if (event.lastEventId) state.cursor = event.lastEventId;
      if (name !== "draining") lostAt = 0;
      handle(JSON.parse(event.data));
      showLive();
      redraw();
    });
  }
  source.onerror = () => {
    lost();
    // The browser reconnects by itself, with its Last-Event-ID, unless the answer was an error.
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 2000 + 1000 * Math.random());
  };
}

// ---- what no event tells ----

async function list(path, key, pages) {
  const found = [];
  let token = "";
  for (let page = 0; page < pages; page += 1) {
    const answer = await fetch(`${path}${path.includes("?") ? "&" : "?"}page_token=${encodeURIComponent(token)}`);
    if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
    const skew = Date.parse(answer.headers.get("date")) - Date.now();
    if (Math.abs(skew) > 2000 || state.skew) state.skew = Math.abs(skew) > 2000 ? skew : 0;
    const body = await answer.json();
    found.push(...body[key]);
    token = body.nextPageToken;
    if (!token) break;
  }
  return found;
}

// The past hour: where each peer was, and the newest changes.
async function loadPast() {
  try {
    const past = await list("api/v1/transitions?page_size=2000&seconds=3600", "transitions", HISTORY_PAGES);
    const known = new Map();
    for (const { change } of past.reverse()) {
      const { peer } = change;
      if (!peer || peer.kind === "CHANGE_KIND_REMOVED") continue;
      const [name, at, status] = [peer.peer.name, time(peer.time), statusOf(peer.peer)];
      if (known.has(name)) known.get(name).note(at, status);
      else known.set(name, new Past(at, status));
    }
    const seen = new Set(state.changes.map(({ revision }) => revision));
    past.reverse();
    state.changes.push(...past.slice(0, CHANGES).filter(({ revision }) => !seen.has(revision)));
    state.changes.sort((a, b) => Number(b.revision) - Number(a.revision));
    for (const [name, before] of known) {
      const peer = state.peers.get(name);
      if (!peer) continue;
      before.note(time(peer.statusSince), statusOf(peer));
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
  $("peers").querySelector("table").setAttribute("role", "table");
  for (const group of $("peers").querySelectorAll("thead, tbody")) group.setAttribute("role", "rowgroup");
  $("peers").querySelector("thead tr").setAttribute("role", "row");
  for (const head of $("peers").querySelectorAll("thead th")) head.setAttribute("role", "columnheader");
  $("q").addEventListener("input", () => { filter.q = $("q").value.trim(); writeAddress(); });
  $("pool").addEventListener("change", () => { filter.pool = $("pool").value; writeAddress(); });
  $("bad").addEventListener("change", () => { filter.bad = $("bad").checked; writeAddress(); });
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", readAddress);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) { refresh(); redraw(); } });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && event.target !== $("q")) {
      event.preventDefault();
      $("q").focus();
    } else if (event.key === "Escape" && (filter.q || filter.pool || filter.bad)) {
      Object.assign(filter, { q: "", pool: "", bad: false });
      $("q").value = "";
      $("bad").checked = false;
      writeAddress();
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
