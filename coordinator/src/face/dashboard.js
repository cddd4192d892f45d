// The dashboard: asks for the state of affairs every second and shows it. Text goes into the page as text only.
"use strict";
const $ = (id) => document.getElementById(id);
const EVERY = 1000;
const OVER = ["finished", "cancelled", "failed"];
const COLOURS = {
  infer: "infer", postprocess: "postprocess", pictures: "pictures", describe: "describe", fetch: "store", commit: "store",
  load: "other", tables: "other", index: "other", reduce: "other", canary: "other", idle: "idle",
};
const ORDER = ["infer", "postprocess", "pictures", "describe", "store", "other", "idle"];
// The last few seconds of every lane: one second alone flickers.
const lately = new Map();
let shown = { jobs: "", workers: "", findings: "" };
let answered = 0;

const number = (n) => Math.round(n).toLocaleString("en").replaceAll(",", "\u202f");
const rate = (n) => (n >= 99.5 ? number(n) : n.toFixed(1));
const percent = (part, whole) => (whole > 0 ? Math.min(100, (part / whole) * 100) : 0);
const plural = (n, one, many) => `${number(n)} ${n === 1 ? one : many}`;

function duration(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${String(s % 60).padStart(2, "0")} s`;
  return `${Math.floor(s / 3600)} h ${String(Math.floor((s % 3600) / 60)).padStart(2, "0")} min`;
}

function bytes(n) {
  return n >= 1e9 ? `${(n / 1e9).toFixed(1)} GB` : `${Math.round(n / 1e6)} MB`;
}

// An element: name, attributes, then children (elements or text).
function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "onclick") made.addEventListener("click", value);
    else if (value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

// What stands in backticks is code.
function coded(text) {
  return text.split("`").map((part, i) => (i % 2 === 1 ? el("code", {}, part) : part));
}

function svg(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// Replaces content only if it has changed, and keeps the focus where it was.
function replace(id, key, children) {
  if (shown[id] === key) return;
  shown[id] = key;
  const focused = document.activeElement?.getAttribute?.("data-focus");
  $(id).replaceChildren(...children);
  if (focused) document.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus();
}

function glance(status) {
  const running = status.jobs.filter((job) => job.state === "running" || job.state === "planning");
  const lanes = status.workers.flatMap((worker) => worker.lanes);
  const left = running.reduce((sum, job) => sum + (job.recordings - job.recordings_indexed) + (job.shards - job.shards_done) + (job.matches - job.matches_done), 0);
  const etas = running.map((job) => job.eta_seconds).filter((eta) => eta !== null);
  const tiles = [
    ["frames a second", rate(running.reduce((sum, job) => sum + job.fps, 0))],
    ["until all is done", etas.length > 0 && etas.length === running.length ? duration(Math.max(...etas)) : "–"],
    ["tasks left", number(left)],
    ["lanes at work", `${lanes.filter((lane) => lane.task !== null).length} of ${lanes.length}`],
    ["jobs running", number(running.length)],
    ["given up", number(status.jobs.reduce((sum, job) => sum + job.quarantined, 0))],
  ];
  $("glance").replaceChildren(...tiles.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

function plot(job) {
  const points = job.timeline;
  if (!points || points.length < 3) return null;
  const end = points[points.length - 1][0];
  const most = Math.max(...points.map((point) => point[1]), 1e-9);
  let path = "", before = 0;
  for (const [at, value] of points) {
    const [x0, x1, y] = [(before / end) * 1000, (at / end) * 1000, 60 - (value / most) * 56].map((n) => n.toFixed(1));
    path += `${path ? "L" : "M"}${x0} ${y}L${x1} ${y}`;
    before = at;
  }
  const label = `Frames a second over ${duration(end)}, at most ${rate(most)}`;
  const drawing = svg("svg", { class: "plot", viewBox: "0 0 1000 62", preserveAspectRatio: "none", role: "img", "aria-label": label });
  drawing.append(svg("path", { class: "base", d: "M0 61H1000" }), svg("path", { class: "area", d: `${path}L1000 61L0 61Z` }), svg("path", { class: "line", d: path }));
  return drawing;
}

async function decide(job, what, button) {
  if (what === "cancel" && !confirm(`Cancel ${job} for good?`)) return;
  button.disabled = true;
  try {
    const answer = await fetch(`api/jobs/${encodeURIComponent(job)}/${what}`, { method: "POST", headers: { "X-Fulltime": "1" } });
    const body = await answer.json();
    $("said").textContent = answer.ok ? `${job}: ${what} is decided.` : `${job}: ${body.error}`;
  } catch (error) {
    $("said").textContent = `${job}: ${error.message}`;
  }
  button.disabled = false;
  look();
}

function buttons(job) {
  const can = {
    planning: ["pause", "cancel"], running: ["pause", "cancel"], paused: ["resume", "cancel"],
    finished: job.quarantined > 0 ? ["retry"] : [], failed: ["cancel"], cancelled: [],
  }[job.state] ?? [];
  const words = { pause: "Pause", resume: "Resume", cancel: "Cancel", retry: "Retry what was given up" };
  if (can.length === 0) return null;
  const button = (what) => {
    const made = el("button", { type: "button", "data-focus": `${job.job}/${what}`, "aria-label": `${words[what]}: ${job.job}` }, words[what]);
    made.addEventListener("click", () => decide(job.job, what, made));
    return made;
  };
  return el("div", { class: "buttons" }, ...can.map(button));
}

function card(job) {
  const planning = job.state === "planning";
  const [done, all] = planning ? [job.recordings_indexed, job.recordings] : [Math.min(job.frames_done, job.frames), job.frames];
  const share = percent(done, all);
  const figure = (text) => el("span", {}, text);
  const figures = [
    planning ? figure(`${number(done)} of ${plural(all, "recording", "recordings")} read`) : null,
    figure(`${number(job.frames_done)} of ${number(job.frames)} frames`),
    job.state === "running" ? figure(`${rate(job.fps)} frames/s`) : null,
    job.eta_seconds !== null && job.state === "running" ? figure(`done in ${duration(job.eta_seconds)}`) : null,
    figure(`${number(job.shards_done)} of ${plural(job.shards, "shard", "shards")}`),
    figure(`${number(job.matches_done)} of ${plural(job.matches, "match", "matches")}`),
    figure(plural(job.detections, "detection", "detections")),
    figure(`for ${duration(job.elapsed_seconds)}`),
    ...job.failed_attempts.map(([what, count]) => figure(`${number(count)} × ${what}`)),
  ];
  const lost = job.quarantined > 0 ? el("span", { class: "badge warn" }, `${number(job.quarantined)} given up`) : null;
  const failure = job.failure
    ? el("p", { class: "cause" }, ...coded(`${job.failure.cause}${job.failure.hint ? ` – ${job.failure.hint}` : ""}`))
    : null;
  const problems = job.problems.length > 0 ? el("ul", { class: "problems" }, ...job.problems.map((line) => el("li", {}, ...coded(line)))) : null;
  const title = el("h3", { id: `job-${job.job}` }, el("a", { href: `jobs/${encodeURIComponent(job.job)}`, "data-focus": job.job }, job.job));
  const more = job.manifest ? el("p", { class: "soft" }, "manifest ", el("code", {}, job.manifest)) : null;
  const head = el("div", { class: "row" }, title, el("span", {}, lost, " ", el("span", { class: `badge ${job.state}` }, job.state)));
  const label = `${planning ? "recordings read" : "frames done"} of ${job.job}`;
  const bar = OVER.includes(job.state) && share >= 100 ? null : el("progress", { max: "100", value: share.toFixed(1), "aria-label": label });
  return el("article", { class: `card${job.failure ? " warn" : ""}`, "aria-labelledby": `job-${job.job}` }, head, bar,
    el("div", { class: "figures soft" }, ...figures.filter((f) => f !== null)), plot(job), failure, problems, more, buttons(job));
}

function jobs(status) {
  const rank = { running: 0, planning: 1, paused: 2, failed: 3, finished: 4, cancelled: 5 };
  const sorted = [...status.jobs].sort((a, b) => rank[a.state] - rank[b.state] || b.job.localeCompare(a.job));
  const some = sorted.slice(0, 60);
  const children = some.map(card);
  if (sorted.length > some.length) children.push(el("p", { class: "soft" }, `and ${number(sorted.length - some.length)} more: fulltime status`));
  if (sorted.length === 0) children.push(el("p", { class: "card soft" }, "There is no job. Hand one in: ", el("code", {}, "fulltime submit --job season.toml")));
  replace("jobs", JSON.stringify(sorted), children);
}

function findings(status) {
  const children = status.findings.map((finding) => {
    const subject = finding.gpu === null ? finding.worker : `${finding.worker} GPU ${finding.gpu}`;
    return el("div", { class: "card warn" },
      el("div", { class: "row" }, el("h3", {}, `${subject}: ${finding.kind.replaceAll("-", " ")}`), el("span", { class: "soft" }, `for ${duration(finding.for_seconds)}`)),
      el("p", {}, finding.evidence), el("p", { class: "soft" }, finding.action));
  });
  // Read out what is new, not the seconds.
  const key = JSON.stringify(status.findings.map((f) => [f.kind, f.worker, f.gpu, f.evidence, Math.floor(f.for_seconds / 10)]));
  replace("findings", key, children.length > 0 ? children : [el("p", { class: "soft" }, "None: every worker does as well as it did before.")]);
}

// Shares of what a lane did over the last few samples.
function shares(worker, sample) {
  const key = `${worker}/${sample.lane}`;
  const past = lately.get(key) ?? [];
  past.push(sample.doing);
  if (past.length > 5) past.shift();
  lately.set(key, past);
  const sums = new Map();
  for (const [doing, seconds] of past.flat()) sums.set(COLOURS[doing], (sums.get(COLOURS[doing]) ?? 0) + seconds);
  return sums;
}

function bar(sums) {
  const whole = [...sums.values()].reduce((a, b) => a + b, 0);
  const parts = ORDER.filter((colour) => sums.get(colour) > 0);
  const label = parts.map((colour) => `${colour} ${Math.round(percent(sums.get(colour), whole))} %`).join(", ");
  const made = el("div", { class: "share", role: "img", "aria-label": label, title: label });
  for (const colour of parts) {
    const part = el("i", { class: `c-${colour}` });
    part.style.width = `${percent(sums.get(colour), whole).toFixed(1)}%`;
    made.append(part);
  }
  return made;
}

function gpu(reading) {
  const share = (name, value) => (value === null ? null : el("span", {}, `${name} `, el("meter", { min: 0, max: 1, value, "aria-label": `${name} of GPU ${reading.gpu}` }), ` ${Math.round(value * 100)} %`));
  const memory = reading.memory_used !== null && reading.memory_total ? `${bytes(reading.memory_used)} of ${bytes(reading.memory_total)}` : null;
  return el("div", { class: "gpu" },
    el("b", {}, `GPU ${reading.gpu}`), el("span", { class: "soft" }, reading.name),
    reading.numa_node === null ? null : el("span", {}, `NUMA ${reading.numa_node}`),
    share("busy", reading.utilisation), share("decoder", reading.decoder_utilisation),
    memory ? el("span", {}, memory) : null,
    reading.temperature === null ? null : el("span", {}, `${Math.round(reading.temperature)} °C`),
    reading.power === null ? null : el("span", {}, `${Math.round(reading.power)} W`),
    reading.throttled ? el("span", { class: "badge warn" }, `throttled: ${reading.throttled}`) : null);
}

function worker(hello) {
  const sample = hello.sample;
  const lanes = el("div", { class: "lanes" });
  hello.lanes.forEach((lane, at) => {
    const seen = sample?.lanes.find((one) => one.lane === at);
    const what = lane.job === null ? "idle" : `${lane.job} · ${lane.task ? lane.task.slice(0, 8) : ""} · ${plural(lane.frames, "frame", "frames")}`;
    lanes.append(el("span", {}, `lane ${at}`), seen ? bar(shares(hello.worker, seen)) : el("span", { class: "share" }), el("span", { class: "what soft", title: what }, what));
  });
  const figures = sample
    ? [`machine ${Math.round(sample.machine_cpu * 100)} % busy`, `${(sample.cpu / Math.max(sample.seconds, 1e-3)).toFixed(1)} of ${sample.cores} cores`, `${bytes(sample.memory)} of ${bytes(sample.memory_limit)}`]
    : [];
  const frames = hello.lanes.reduce((sum, lane) => sum + lane.frames_total, 0);
  figures.push(`${number(frames)} frames so far`);
  if (hello.waiting.length > 0) figures.push(plural(hello.waiting.length, "task waits", "tasks wait"));
  return el("article", { class: "card" },
    el("div", { class: "row" }, el("h3", {}, hello.worker), hello.draining ? el("span", { class: "badge warn" }, "draining") : null),
    el("p", { class: "soft" }, `${hello.host} · pid ${hello.pid} · `, el("code", {}, hello.engine)),
    el("div", { class: "figures" }, ...figures.map((text) => el("span", {}, text))),
    sample && sample.gpus.length > 0 ? el("div", { class: "gpus" }, ...sample.gpus.map(gpu)) : null, lanes);
}

function workers(status) {
  const sorted = [...status.workers].sort((a, b) => a.host.localeCompare(b.host) || a.worker.localeCompare(b.worker));
  const children = sorted.slice(0, 100).map(worker);
  if (sorted.length > 100) children.push(el("p", { class: "soft" }, `and ${number(sorted.length - 100)} more`));
  if (sorted.length === 0) children.push(el("p", { class: "card soft" }, "No worker is heard of. Start one: ", el("code", {}, "fulltime-worker --nats URL")));
  replace("workers", JSON.stringify(sorted), children);
}

function stale(text) {
  $("stale").textContent = text;
  $("stale").hidden = text === "";
}

async function look() {
  try {
    const answer = await fetch("api/status", { headers: { Accept: "application/json" } });
    const status = await answer.json();
    if (!answer.ok) {
      const leads = status.leader ? `; ${status.leader} leads` : "";
      stale(`${status.error}${leads}`);
      $("leader").textContent = "";
      return;
    }
    answered = Date.now();
    stale("");
    $("leader").textContent = `${status.leader.name} leads, epoch ${status.leader.epoch}`;
    glance(status);
    findings(status);
    jobs(status);
    workers(status);
    document.title = status.findings.length > 0 ? `(${status.findings.length}) fulltime` : "fulltime";
  } catch (error) {
    const since = answered > 0 ? `; what is shown is ${duration((Date.now() - answered) / 1000)} old` : "";
    stale(`no answer from the coordinator${since}`);
  }
}

async function watch() {
  // A page that nobody sees asks for nothing.
  if (!document.hidden) await look();
  setTimeout(watch, EVERY);
}
document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
watch();
