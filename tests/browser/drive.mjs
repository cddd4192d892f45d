// Drives a real browser through the dashboard, as a person would: `node drive.mjs CHROMIUM URL JOB PICTURES [AXE]`. Talks to
// Chromium over its pipe, so nothing has to be installed. The last line of its output is JSON: what the console said, what
// axe-core found, and what was seen on the way. `tests/tests/observability.rs` calls it.
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const [chromium, url, job, pictures, axe] = process.argv.slice(2);
const profile = mkdtempSync(join(tmpdir(), "fulltime-browser-"));
const browser = spawn(chromium, [
  "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync",
  "--remote-debugging-pipe", `--user-data-dir=${profile}`, "about:blank",
], { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
process.on("exit", () => { browser.kill("SIGKILL"); rmSync(profile, { recursive: true, force: true, maxRetries: 5 }); });

const seen = { complaints: [], serious: [], steps: {} };
const waiting = new Map();
let last = 0, session, rest = "";

function complain(method, params) {
  if (method === "Runtime.exceptionThrown") seen.complaints.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
  if (method === "Log.entryAdded" && params.entry.level === "error") seen.complaints.push(`${params.entry.text} ${params.entry.url ?? ""}`);
  if (method === "Runtime.consoleAPICalled" && ["error", "warning"].includes(params.type)) seen.complaints.push(JSON.stringify(params.args.map((a) => a.value)));
}

browser.stdio[4].setEncoding("utf8").on("data", (data) => {
  const messages = (rest + data).split("\0");
  rest = messages.pop();
  for (const text of messages) {
    const { id, result, error, method, params } = JSON.parse(text);
    if (id === undefined) { complain(method, params); continue; }
    const { yes, no } = waiting.get(id);
    waiting.delete(id);
    if (error) no(new Error(error.message)); else yes(result);
  }
});

function tell(method, params = {}) {
  const id = ++last;
  browser.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId: session })}\0`);
  return new Promise((yes, no) => waiting.set(id, { yes, no }));
}

async function evaluate(expression) {
  const { result, exceptionDetails } = await tell("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
  if (exceptionDetails) throw new Error(`${expression}: ${exceptionDetails.exception?.description ?? exceptionDetails.text}`);
  return result.value;
}

// Until an expression is true; its value.
async function until(expression, patience = 60_000) {
  for (const end = Date.now() + patience; Date.now() < end;) {
    const value = await evaluate(expression).catch(() => false);
    if (value) return value;
    await new Promise((again) => setTimeout(again, 50));
  }
  throw new Error(`never true: ${expression}; the page: ${await evaluate("document.body.innerText")}`);
}

async function key(name) {
  for (const type of ["keyDown", "keyUp"]) await tell("Input.dispatchKeyEvent", { type, key: name, code: name });
}

// Pictures on a telephone and a desk, light and dark, and what axe-core says to each.
async function look(name) {
  for (const [width, scheme] of [[400, "light"], [400, "dark"], [1280, "light"], [1280, "dark"]]) {
    await tell("Emulation.setDeviceMetricsOverride", { width, height: 1000, deviceScaleFactor: 1, mobile: width < 500 });
    await tell("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }] });
    const wide = await evaluate("document.documentElement.scrollWidth");
    if (wide > width) seen.complaints.push(`${name} is ${wide} px wide on a screen of ${width} px`);
    const { data } = await tell("Page.captureScreenshot", { captureBeyondViewport: true });
    writeFileSync(join(pictures, `${name}-${width}-${scheme}.png`), Buffer.from(data, "base64"));
    if (!axe) continue;
    await evaluate(`${readFileSync(axe, "utf8")};0`);
    const found = await evaluate(`axe.run().then((r) => r.violations.map((v) => [v.id, v.impact, v.nodes.map((n) => n.target.join(" ")).join("; ")]))`);
    seen.serious.push(...found.filter(([, impact]) => ["serious", "critical"].includes(impact)).map((v) => [name, width, scheme, ...v]));
  }
}

const { targetInfos } = await tell("Target.getTargets");
({ sessionId: session } = await tell("Target.attachToTarget", { targetId: targetInfos.find((t) => t.type === "page").targetId, flatten: true }));
for (const domain of ["Page", "Runtime", "Log"]) await tell(`${domain}.enable`);

await tell("Page.navigate", { url });
await until(`document.querySelector('a[href="jobs/${job}"]') !== null`);
seen.steps.watched = await until(`[...document.querySelectorAll('#jobs .badge')].some((badge) => badge.textContent === 'running') && document.querySelector('#jobs progress') !== null`);
await look("running");
await until(`[...document.querySelectorAll('#jobs .badge')].some((badge) => badge.textContent === 'finished')`, 120_000);
await look("finished");
await evaluate(`document.querySelector('a[href="jobs/${job}"]').click()`);
await until(`document.querySelector('.gallery a') !== null && [...document.images].every((image) => image.complete && image.naturalWidth > 0)`);
await look("job");
await evaluate(`document.querySelector('.gallery a').click()`);
await until(`document.querySelectorAll('#picture rect').length > 0`);
seen.steps.first = await evaluate(`document.querySelector('#moment').textContent`);
await key("ArrowRight");
seen.steps.second = await until(`document.querySelector('#moment').textContent !== ${JSON.stringify(seen.steps.first)} && document.querySelector('#moment').textContent`);
seen.steps.picture = await until(`fetch(document.querySelector('#picture image').getAttribute('href')).then((a) => a.blob()).then((b) => createImageBitmap(b)).then((p) => [p.width, p.height])`);
await evaluate(`document.querySelector('[data-player]')?.click()`);
seen.steps.people = await evaluate(`document.querySelectorAll('[data-player]').length`);
await look("match");
await evaluate(`document.querySelector('nav a:last-child').click()`);
// Its listener comes with the script, when all is parsed.
await until(`document.readyState === 'complete' && document.querySelector('[data-decide=retry]') !== null`);
await evaluate(`document.querySelector('[data-decide=retry]').click()`);
seen.steps.retried = await until(`document.querySelector('#said').textContent`);
console.log(JSON.stringify(seen));
process.exit(0);
