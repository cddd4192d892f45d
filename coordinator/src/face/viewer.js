// The pages of a job and of a match: decisions, and a walk through the stored pictures with what the tables say drawn over
// them. Text goes into the page as text only.
"use strict";
const $ = (id) => document.getElementById(id);

for (const button of document.querySelectorAll("[data-decide]")) {
  button.addEventListener("click", async () => {
    button.disabled = true;
    const { job, decide } = button.dataset;
    try {
      const answer = await fetch(`/api/jobs/${encodeURIComponent(job)}/${decide}`, { method: "POST", headers: { "X-Fulltime": "1" } });
      const body = await answer.json();
      $("said").textContent = answer.ok ? "Decided: what was given up is tried again as the job's next generation." : body.error;
      button.disabled = answer.ok;
    } catch (error) {
      $("said").textContent = error.message;
      button.disabled = false;
    }
  });
}

const viewer = $("viewer");
if (viewer && $("scrub")) start(viewer.dataset.api);

function svg(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

async function ask(url) {
  const answer = await fetch(url);
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error);
  return body;
}

async function start(api) {
  let album;
  try {
    album = await ask(`${api}/album`);
  } catch (error) {
    $("moment").textContent = error.message;
    return;
  }
  const people = new Map(album.people.map((person) => [person.id, person]));
  const teams = [...new Set(album.people.map((person) => person.team).filter((team) => team !== null))].sort();
  const windows = new Map();
  let chosen = null;
  let wish = 0;

  const recording = () => album.recordings[Number($("recording").value)];
  const scrub = $("scrub");

  function boxes(at, window) {
    const key = `${at}/${window}`;
    if (!windows.has(key)) {
      // What has failed is asked for again.
      const asked = ask(`${api}/boxes/${at}/${window}`).catch((error) => { windows.delete(key); throw error; });
      windows.set(key, asked);
    }
    return windows.get(key);
  }

  const colour = (person) => (person && person.team !== null ? `team${teams.indexOf(person.team) % 4}` : "nobody");

  function label(person, track, kind) {
    if (person) return person.number !== null ? `#${person.number}` : `id ${person.id}`;
    return track !== null ? `${kind} ${track}` : kind;
  }

  function draw(footage, frame, rows) {
    const picture = $("picture");
    const { width, height } = footage;
    picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const size = Math.max(10, width / 48);
    const parts = [svg("image", { href: `${api}/pictures/${$("recording").value}/${frame}.jpg`, width, height })];
    const dots = [];
    for (const [x, y, w, h, track, kind, px, py] of rows) {
      const id = track === null ? null : (album.tracks[track] ?? null);
      const person = id === null ? null : people.get(id);
      const other = chosen !== null && id !== chosen ? " other" : "";
      const look = `${colour(person)}${other}`;
      parts.push(svg("rect", { class: `box ${look}`, x, y, width: w, height: h }));
      parts.push(svg("text", { class: `tag ${look}`, x: x + w / 2, y: Math.max(size, y - size / 4), "font-size": size }, label(person, track, kind)));
      if (px !== null && py !== null) {
        // Metres from the centre spot; the far touchline is at the top.
        dots.push(svg("circle", { class: `dot ${look}`, cx: px, cy: -py, r: 1.1 }));
        dots.push(svg("text", { class: `place${other}`, x: px, y: -py - 1.6, "font-size": 2.6 }, label(person, track, kind)));
      }
    }
    picture.replaceChildren(...parts);
    const seconds = frame / footage.fps;
    const clock = `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
    const text = `${clock} · frame ${frame} · ${rows.length} seen`;
    picture.setAttribute("aria-label", text);
    $("moment").textContent = text;
    scrub.setAttribute("aria-valuetext", text);
    const pitch = $("pitch");
    pitch.toggleAttribute("hidden", dots.length === 0);
    const lines = "M-52.5-34h105v68h-105zM0-34v68M-52.5-20.16h16.5v40.32h-16.5M52.5-20.16h-16.5v40.32h16.5";
    pitch.replaceChildren(svg("path", { class: "lines", d: lines }), svg("circle", { class: "lines", r: 9.15 }), ...dots);
  }

  async function show() {
    const footage = recording();
    const at = Number(scrub.value);
    const frame = footage.pictures[at];
    const mine = ++wish;
    const place = Number($("recording").value);
    try {
      const window = Math.floor(at / album.window);
      const { frames } = await boxes(place, window);
      // Somebody who moves fast sees only where they stop.
      if (mine === wish) draw(footage, frame, frames[frame] ?? []);
      if ((window + 1) * album.window < footage.pictures.length) boxes(place, window + 1).catch(() => {});
    } catch (error) {
      if (mine === wish) $("moment").textContent = error.message;
    }
  }

  function move(by) {
    scrub.value = String(Number(scrub.value) + by);
    show();
  }

  function choose() {
    scrub.max = String(recording().pictures.length - 1);
    scrub.value = "0";
    show();
  }

  $("recording").addEventListener("change", choose);
  scrub.addEventListener("input", show);
  $("back").addEventListener("click", () => move(-1));
  $("on").addEventListener("click", () => move(1));
  document.addEventListener("keydown", (event) => {
    // The slider and lists of choice have their own keys.
    if (["INPUT", "SELECT"].includes(event.target.tagName) || event.ctrlKey || event.metaKey || event.altKey) return;
    const by = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    move(by);
  });
  let from = null;
  const picture = $("picture");
  picture.addEventListener("pointerdown", (event) => { from = event.clientX; });
  picture.addEventListener("pointerup", (event) => {
    const way = from === null ? 0 : event.clientX - from;
    from = null;
    if (Math.abs(way) > 30) move(way < 0 ? 1 : -1);
  });
  for (const button of document.querySelectorAll("[data-player]")) {
    button.addEventListener("click", () => {
      const id = Number(button.dataset.player);
      chosen = chosen === id ? null : id;
      for (const other of document.querySelectorAll("[data-player]")) other.setAttribute("aria-pressed", String(Number(other.dataset.player) === chosen));
      show();
    });
  }
  choose();
}
