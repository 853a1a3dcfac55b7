// What both pages share: elements, formats, questions to the gateway, tables and dialogs.
const { h, render } = window.preact;
export const { useEffect, useRef, useState } = window.preactHooks;
export const html = window.htm.bind(h);
export const show = (view, into) => render(view, into);

const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
export const whole = (value) => (value == null ? "–" : plain.format(value));
export function short(value) {
  if (value == null) return "–";
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e4, "k"]])
    if (value >= size) return (value / (unit === "k" ? 1e3 : size)).toFixed(1) + unit;
  return value >= 100 || Number.isInteger(value) ? whole(value) : value >= 1 ? value.toFixed(1) : value.toFixed(2);
}
export const percent = (share) =>
  share == null ? "–" : share === 0 ? "0%" : share < 0.001 ? "<0.1%" : (100 * share).toFixed(share < 0.1 ? 1 : 0) + "%";
export const time = (ms) =>
  ms == null ? "–" : ms === 0 ? "0 ms" : ms < 10 ? ms.toFixed(1) + " ms" : ms < 1000 ? ms.toFixed(0) + " ms" : (ms / 1000).toFixed(2) + " s";
export function span(seconds) {
  if (seconds == null) return "–";
  if (seconds < 90) return Math.round(seconds) + " s";
  if (seconds < 5400) return Math.round(seconds / 60) + " min";
  if (seconds < 129600) return Math.round(seconds / 3600) + " h";
  return Math.round(seconds / 86400) + " days";
}
export const size = (bytes) => {
  for (const [unit, name] of [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"]]) if (bytes >= unit) return (bytes / unit).toFixed(1) + " " + name;
  return whole(bytes) + " B";
};
export const clock = (unix) => new Date(unix * 1000).toLocaleTimeString("en-GB");
export const day = (unix) => new Date(unix * 1000).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });

export class Refused extends Error {
  constructor(status, said) {
    const lines = (said.problems || []).map((one) => `${one.file}:${one.line}:${one.column}: ${one.message}`);
    super([said.detail || said.title || `Answered ${status}`, ...lines].join("\n"));
    this.status = status;
    this.said = said;
  }
}
// Ask and return the JSON answer. Throws Refused for what is no 2xx, TypeError where nothing answers.
export async function ask(path, { method = "GET", body, headers = {} } = {}) {
  const sent = { Accept: "application/json", ...headers };
  if (body !== undefined) sent["Content-Type"] = "application/json";
  const reply = await fetch(path, {
    method, headers: sent, body: body === undefined ? undefined : JSON.stringify(body), signal: AbortSignal.timeout(15000),
  });
  const text = await reply.text();
  let said = {};
  try { said = text ? JSON.parse(text) : {}; } catch { said = { detail: `Answered ${reply.status} without JSON` }; }
  if (!reply.ok) throw new Refused(reply.status, said);
  return said;
}

const TONES = {
  healthy: "good", active: "good", taken: "good", closed: "good", hit: "good", ok: "good",
  degraded: "warn", "half-open": "warn", unknown: "quiet", draining: "warn", expiring: "warn", deprecated: "warn",
  unhealthy: "bad", open: "bad", ejected: "bad", revoked: "bad", expired: "quiet", refused: "bad", failed: "bad", denied: "bad", retired: "bad", passed: "good", matched: "good", answered: "quiet",
};
export const Pill = ({ state, title }) =>
  html`<span class=${"pill " + (TONES[state] || "quiet")} title=${title}>${state}</span>`;

export const Empty = ({ title, children }) =>
  html`<div class="empty"><p class="empty-title">${title}</p><p>${children}</p></div>`;

// columns: [title, (row) => cell, {number, wide, sort: (row) => value}]
export function Table({ name, columns, rows, empty, find, most = 100 }) {
  const [text, setText] = useState("");
  const [order, setOrder] = useState(null);
  const [all, setAll] = useState(false);
  let shown = text && find ? rows.filter((row) => find(row).toLowerCase().includes(text.toLowerCase())) : rows;
  if (order) {
    const by = columns[order.place][2].sort;
    shown = [...shown].sort((a, b) => (by(a) < by(b) ? -1 : by(a) > by(b) ? 1 : 0) * (order.down ? -1 : 1));
  }
  const cut = all ? shown : shown.slice(0, most);
  const turn = (place) => setOrder(order && order.place === place ? (order.down ? { place } : null) : { place, down: true });
  return html`
    ${find && rows.length > 8 && html`<label class="find"><span class="unseen">Find in ${name}</span>
      <input type="search" placeholder=${"Find in " + name} value=${text} onInput=${(event) => setText(event.target.value)} /></label>`}
    ${!shown.length ? (rows.length ? html`<${Empty} title="Nothing matches">Try another word.<//>` : empty) : html`
    <div class="scroll" tabindex="0" role="region" aria-label=${name}>
      <table role="table">
        <thead role="rowgroup"><tr role="row">${columns.map(([title, , { number, sort } = {}], place) => html`
          <th role="columnheader" scope="col" class=${number && "number"} aria-sort=${order?.place === place ? (order.down ? "descending" : "ascending") : undefined}>
            ${sort ? html`<button class="sort" onClick=${() => turn(place)}>${title}<span aria-hidden="true">${order?.place === place ? (order.down ? " ↓" : " ↑") : ""}</span></button>` : title}
          </th>`)}</tr></thead>
        <tbody role="rowgroup">${cut.map((row) => html`<tr role="row">${columns.map(([title, cell, { number, wide } = {}]) =>
          html`<td role="cell" data-title=${title} class=${number ? "number" : wide ? "wide" : undefined}><div>${cell(row)}</div></td>`)}</tr>`)}</tbody>
      </table>
    </div>`}
    ${shown.length > cut.length && html`<button class="plain" onClick=${() => setAll(true)}>Show all ${whole(shown.length)}</button>`}`;
}

// A question before something changes; `done` is told of the answer or null.
export function Confirm({ title, children, action, danger, onClose, onConfirm }) {
  const box = useRef(null);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");
  useEffect(() => { box.current.showModal(); }, []);
  async function confirmed(event) {
    event.preventDefault();
    setBusy(true);
    setProblem("");
    try {
      await onConfirm();
      onClose();
    } catch (error) {
      setProblem(error.message);
      setBusy(false);
    }
  }
  return html`<dialog ref=${box} aria-labelledby="confirm-title" onClose=${onClose}>
    <form onSubmit=${confirmed}>
      <h2 id="confirm-title">${title}</h2>
      ${children}
      ${problem && html`<p class="problem" role="alert">${problem}</p>`}
      <div class="row end">
        <button type="button" class="plain" onClick=${onClose}>Cancel</button>
        <button type="submit" class=${danger ? "danger" : "primary"} disabled=${busy}>${busy ? "Working" : action}</button>
      </div>
    </form>
  </dialog>`;
}

// Asks for a secret once.
export function Login({ title, hint, label, onLogin }) {
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState(false);
  async function submit(event) {
    event.preventDefault();
    setBusy(true);
    try {
      await onLogin(new FormData(event.target).get("secret"));
    } catch (error) {
      setProblem(error.message);
      setBusy(false);
    }
  }
  return html`<main class="login"><form class="card" onSubmit=${submit}>
    <h1>${title}</h1>
    <p>${hint}</p>
    <label for="secret">${label}</label>
    <input id="secret" name="secret" type="password" required autocomplete="off" aria-describedby=${problem ? "problem" : undefined} />
    ${problem && html`<p id="problem" class="problem" role="alert">${problem}</p>`}
    <button class="primary" disabled=${busy}>Log in</button>
  </form></main>`;
}

// The page that the address names after #, one of `names`.
export function usePlace(names) {
  const read = () => (names.includes(location.hash.slice(1)) ? location.hash.slice(1) : names[0]);
  const [place, setPlace] = useState(read());
  useEffect(() => {
    const changed = () => setPlace(read());
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return place;
}

export const Tabs = ({ names, place, counts = {} }) => html`<nav aria-label="Sections"><ul class="tabs">${names.map(([name, title]) => html`
  <li><a href=${"#" + name} aria-current=${name === place ? "page" : undefined}>${title}${counts[name] ? html`<span class="count">${counts[name]}</span>` : ""}</a></li>`)}</ul></nav>`;

// What the page is about changed: tests and readers of screens hear of it.
export function Notice({ text, tone, onClose }) {
  return html`<div class="notices" aria-live="polite">${text && html`<div class=${"notice " + (tone || "")}>
    <span>${text}</span><button class="plain" aria-label="Close" onClick=${onClose}>×</button></div>`}</div>`;
}
