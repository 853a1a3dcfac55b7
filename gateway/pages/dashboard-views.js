// The dashboard's sections, each of one snapshot.
import { Empty, Pill, Table, clock, day, html, percent, short, size, span, time, useEffect, useRef, useState, whole } from "./kit.js";
import { Chart } from "./charts.js";

const sum = (rows, of) => rows.reduce((total, row) => total + of(row), 0);
const last = (values) => (values.length ? values[values.length - 1] : null);

const Tile = ({ title, value, hint, tone }) => html`<div class="tile"><dt>${title}</dt><dd class=${tone}>${value}</dd><dd class="hint">${hint}</dd></div>`;

// Rows as bars, the longest first: what there is most of is seen at once.
function Bars({ name, rows, empty }) {
  const most = Math.max(...rows.map((row) => row.value), 0) || 1;
  if (!rows.length) return empty;
  return html`<ul class="bars" aria-label=${name}>${rows.map((row) => html`<li>
    <span class="bar-name">${row.name}</span><meter min="0" max=${most} value=${row.value} aria-label=${row.name}></meter><span class="number">${row.said}</span></li>`)}</ul>`;
}

function Warnings({ rows }) {
  return html`<section class="card"><h2>Warnings</h2>${rows.length
    ? html`<ul class="warnings">${rows.map((row) => html`<li><${Pill} state=${row.kind.replace(/^gateway_|_total$/g, "").replaceAll("_", " ")} /> <span>${row.text}</span></li>`)}</ul>`
    : html`<${Empty} title="None">The configuration, certificates, store and logs are as they should be.<//>`}</section>`;
}

export function Overview({ live }) {
  const { series, failures, health, status } = live;
  const rate = (last(series.ok) ?? 0) + (last(series.client_errors) ?? 0) + (last(series.server_errors) ?? 0);
  const recent = sum(live.routes, (row) => row.rate);
  const failed = recent ? sum(live.routes, (row) => row.rate * row.server_errors) / recent : 0;
  const upstreams = Object.values(health.upstreams);
  const endpoints = upstreams.flatMap((one) => one.endpoints);
  const well = endpoints.filter((one) => one.eligible).length;
  return html`<h2 class="unseen">Overview</h2>
    <dl class="tiles">
      <${Tile} title="Requests a second" value=${short(rate)} hint=${`${short(recent)} in the last ${span(live.recent)}`} />
      <${Tile} title="Server errors" value=${percent(failed)} tone=${failed > 0.01 ? "bad-text" : ""} hint=${`of requests in the last ${span(live.recent)}`} />
      <${Tile} title="Answered within" value=${time(last(series.p95))} hint="95 of 100 requests" />
      <${Tile} title="In flight" value=${whole(status.in_flight)} hint=${`${whole(status.connections)} connections`} />
      <${Tile} title="Endpoints" value=${`${well} of ${endpoints.length}`} tone=${well < endpoints.length ? "bad-text" : ""} hint="may be picked" />
    </dl>
    <div class="pair">
      <${Chart} title="Requests a second" at=${series.at} format=${short} lines=${[
        { title: "2xx, 3xx", values: series.ok, color: "--good", fill: true }, { title: "4xx", values: series.client_errors, color: "--warn" }, { title: "5xx", values: series.server_errors, color: "--bad" }]} />
      <${Chart} title="Response times" at=${series.at} format=${time} lines=${[
        { title: "p50", values: series.p50, color: "--one" }, { title: "p95", values: series.p95, color: "--two" }, { title: "p99", values: series.p99, color: "--three" }]} />
    </div>
    <div class="pair">
      <section class="card"><h2>Failures by reason</h2><${Bars} name="Failures by reason" rows=${failures.slice(0, 8).map((row) => ({ name: row.reason, value: row.rate || row.total / 1e9, said: `${short(row.rate)}/min · ${whole(row.total)}` }))}
        empty=${html`<${Empty} title="No failures">Nothing was refused and nothing failed since the start.<//>`} /></section>
      <${Warnings} rows=${live.warnings} />
    </div>`;
}

function cause(one) {
  if (one.draining) return "drained by an operator";
  if (one.ejected_for > 0) return `failed too often, back in ${span(one.ejected_for)}${one.last_error ? ": " + one.last_error : ""}`;
  if (one.circuit === "open") return "its circuit is open";
  if (one.status === "unhealthy") return one.last_error || "its checks fail";
  if (one.status === "unknown") return "not checked yet";
  return one.last_error ? `well; last error: ${one.last_error}` : "";
}
const stateOf = (one) => (one.draining ? "draining" : one.ejected_for > 0 ? "ejected" : one.status);

function reset(name) {
  return {
    title: `Close the circuit of ${name}?`, action: "Close it", text: html`<p>Requests go to <b>${name}</b> again at once. If it still fails, the circuit opens again.</p>`,
    run: async (admin) => { await admin(`/admin/circuit-breaker/${encodeURIComponent(name)}/reset`, { method: "POST" }); return `The circuit of ${name} is closed.`; },
  };
}

function drain(name, url, drained) {
  const path = `/admin/services/${encodeURIComponent(name)}/${drained ? "drain" : "undrain"}`;
  return {
    title: drained ? `Drain ${url}?` : `Give ${url} requests again?`, action: drained ? "Drain" : "Undrain",
    text: html`<p>${drained ? "It finishes what it has and gets no new requests, until it is undrained or the gateway is restarted." : "It may be picked again as soon as it is well."}</p>`,
    run: async (admin) => {
      const said = await admin(path, { method: "POST", body: { url } });
      return drained ? `${url} is drained: ${whole(said.in_flight)} requests left there, ${whole(said.eligible)} endpoints may be picked.` : `${url} may be picked again.`;
    },
  };
}

export function Upstreams({ live, act }) {
  const upstreams = Object.entries(live.health.upstreams);
  if (!upstreams.length) return html`<${Empty} title="No upstreams">The configuration has none; every route answers by itself.<//>`;
  return html`<h2 class="unseen">Upstreams</h2>${upstreams.map(([name, one]) => html`<section class="card" aria-label=${`Upstream ${name}`}>
    <div class="row spread"><h3>${name}</h3><div class="row">
      <${Pill} state=${one.status} />${one.circuit && html`<span class="quiet">circuit</span><${Pill} state=${one.circuit.state} />`}
      ${act && one.circuit && one.circuit.state !== "closed" && html`<button onClick=${() => act(reset(name))}>Close circuit</button>`}
    </div></div>
    <p class="quiet">${one.balance} · ${whole(one.in_flight)} in flight · ${whole(one.waiting)} waiting${one.limit == null ? "" : ` · limit ${whole(one.limit)}`}${one.trying_all ? " · none is well, so all are tried" : ""}</p>
    <${Table} name=${`Endpoints of ${name}`} rows=${one.endpoints} columns=${[
      ["Endpoint", (row) => html`<code>${row.url || row.name}</code>`],
      ["State", (row) => html`<${Pill} state=${stateOf(row)} />`],
      ["Cause", (row) => cause(row) || html`<span class="quiet">–</span>`, { wide: true }],
      ["In flight", (row) => whole(row.in_flight), { number: true, sort: (row) => row.in_flight }],
      ["Idle", (row) => whole(row.idle), { number: true }],
      ["Weight", (row) => short(row.weight), { number: true }],
      ["Last check", (row) => (row.checked_ago == null ? "–" : `${span(row.checked_ago)} ago`), { number: true }],
      ...(act ? [["Change", (row) => html`<button onClick=${() => act(drain(name, row.url, !row.draining))}>${row.draining ? "Undrain" : "Drain"}<span class="unseen"> ${row.url}</span></button>`]] : []),
    ]} empty=${html`<${Empty} title="No endpoints">None is configured, and none was found or registered.<//>`} />
  </section>`)}`;
}

export const Routes = ({ live }) => html`<section class="card"><h2>Routes</h2>
  <${Table} name="routes" rows=${live.routes} find=${(row) => `${row.route} ${row.match} ${row.target} ${row.pipeline}`} columns=${[
    ["Route", (row) => html`<b>${row.route}</b>`, { sort: (row) => row.route }],
    ["Takes", (row) => html`<code>${row.match || "–"}</code>${row.kind === "prefix" ? " and below" : ""}`],
    ["Leads to", (row) => row.target || "–"],
    ["Requests/s", (row) => short(row.rate), { number: true, sort: (row) => row.rate }],
    ["4xx", (row) => percent(row.client_errors), { number: true, sort: (row) => row.client_errors }],
    ["5xx", (row) => html`<span class=${row.server_errors > 0.01 ? "bad-text" : ""}>${percent(row.server_errors)}</span>`, { number: true, sort: (row) => row.server_errors }],
    ["Mean", (row) => time(row.mean_ms), { number: true, sort: (row) => row.mean_ms ?? -1 }],
    ["p95", (row) => time(row.p95_ms), { number: true, sort: (row) => row.p95_ms ?? -1 }],
    ["Since start", (row) => whole(row.total), { number: true, sort: (row) => row.total }],
  ]} empty=${html`<${Empty} title="No routes">Add a [[route]] to a pipeline.<//>`} /></section>`;

// Any client by its name: what is kept of it, also when it is not among the busiest.
function Lookup({ admin }) {
  const [found, setFound] = useState(null);
  const [problem, setProblem] = useState("");
  async function look(event) {
    event.preventDefault();
    const name = new FormData(event.target).get("client").trim();
    setProblem("");
    try { setFound(await admin(`/admin/clients/${encodeURIComponent(name)}`)); } catch (error) { setFound(null); setProblem(error.message); }
  }
  return html`<section class="card"><h2>One client</h2>
    <form class="row" onSubmit=${look}><label for="client" class="unseen">Name of a client</label><input id="client" name="client" required placeholder="Name of a client" /><button>Look up</button></form>
    <div role="status">${problem && html`<p class="quiet">${problem}</p>`}</div>
    ${found && html`<h3>${found.client}</h3>
      <p class="quiet">${whole(found.totalRequests)} requests, ${whole(found.failedRequests)} refused or failed, ${time(found.averageResponseTime)} on average, ${size(found.bytesOut)} sent</p>
      <${Table} name=${`routes of ${found.client}`} rows=${found.endpoints} columns=${[
        ["Route", (row) => html`<b>${row.route}</b>`], ["Method", (row) => row.method], ["Path", (row) => html`<code>${row.path}</code>`],
        ["Requests", (row) => whole(row.requests), { number: true }], ["Refused or failed", (row) => whole(row.errors), { number: true }],
        ["Mean", (row) => time(row.avgResponseTime), { number: true }],
      ]} />`}
  </section>`;
}

export const Clients = ({ live, admin }) => html`<${Lookup} admin=${admin} /><section class="card"><h2>Busiest clients</h2>
  <${Table} name="clients" rows=${live.clients} find=${(row) => row.client} columns=${[
    ["Client", (row) => (row.client === "_other" ? html`<i>all others</i>` : html`<b>${row.client}</b>`), { sort: (row) => row.client }],
    ["Requests/s", (row) => short(row.rate), { number: true, sort: (row) => row.rate }],
    ["Errors", (row) => percent(row.error_rate), { number: true, sort: (row) => row.error_rate }],
    ["Requests", (row) => whole(row.total), { number: true, sort: (row) => row.total }],
    ["Refused or failed", (row) => whole(row.errors), { number: true, sort: (row) => row.errors }],
  ]} empty=${html`<${Empty} title="No clients yet">They appear with their first request, if the pipeline has auth and metrics.<//>`} /></section>`;

const near = (path) => path.split("/").slice(-2).join("/");  // the whole path is in the title
const decided = (one) => one.decisions[one.decisions.length - 1] || {};

// The last refused, failed and slow requests, with what decided about each.
function Recent({ live, admin }) {
  const [found, setFound] = useState(null);
  const [problem, setProblem] = useState("");
  const [open, setOpen] = useState(null);
  useEffect(() => {
    admin("/admin/why?limit=200").then((said) => { setFound(said.requests); setProblem(""); }, (error) => setProblem(error.message));
  }, [live.at]);
  return html`<section class="card"><h2>Last refused, failed and slow requests</h2>
    ${problem && html`<p class="problem" role="alert">${problem}</p>`}
    ${found && html`<${Table} name="requests" rows=${found} find=${(row) => [row.client, row.route, row.reason, row.request.id, row.request.path, row.status].join(" ")} columns=${[
      ["When", (row) => html`<span class="number">${clock(Date.parse(row.time) / 1000)}</span>`],
      ["Request", (row) => html`<code>${row.request.method} ${row.request.path}</code>`, { wide: true }],
      ["Client", (row) => row.client || row.request.client_ip || "–"],
      ["Status", (row) => row.status, { number: true, sort: (row) => row.status }],
      ["Reason", (row) => html`<code>${row.reason || "slow"}</code>`, { sort: (row) => row.reason || "" }],
      ["Why", (row) => html`${decided(row).why || row.detail || "–"}${decided(row).at && html`<br /><code class="quiet" title=${decided(row).at}>${near(decided(row).at)}</code>`}`, { wide: true }],
      ["Took", (row) => time(row.duration_ms), { number: true, sort: (row) => row.duration_ms }],
      ["All", (row) => html`<button class="plain" aria-label=${`Show all about request ${row.request.id}`} onClick=${() => setOpen(row)}>Show</button>`],
    ]} empty=${html`<${Empty} title="None">No request was refused, failed or slow of late.<//>`} />`}
    ${open && html`<${Whole} one=${open} onClose=${() => setOpen(null)} />`}</section>`;
}

function Whole({ one, onClose }) {
  const box = useRef(null);
  useEffect(() => { box.current.showModal(); }, []);
  return html`<dialog ref=${box} class="whole" aria-labelledby="whole-title" onClose=${onClose}>
    <div class="stack"><h2 id="whole-title"><code>${one.request.method} ${one.request.path}</code></h2>
    <dl class="pairs"><dt>Request</dt><dd><code>${one.request.id}</code></dd><dt>Client</dt><dd>${one.client || "not known"}, ${one.request.client_ip || "no address"}</dd>
      <dt>Answer</dt><dd>${one.status} ${one.code || ""} after ${time(one.duration_ms)}</dd></dl>
    <ol class="decisions">${one.decisions.map((step) => html`<li><b>${step.hook}</b> <${Pill} state=${step.outcome} /> ${step.why || ""}${step.at && html`<br /><code class="quiet">${step.at}</code>`}</li>`)}
      ${one.attempts.map((step) => html`<li><b>attempt</b> <code>${step.endpoint}</code> ${time(step.ms)} ${step.why || ""}</li>`)}</ol>
    <div class="row end"><button onClick=${() => box.current.close()}>Close</button></div></div></dialog>`;
}

export const Refusals = ({ live, admin }) => html`<${Recent} ...${{ live, admin }} /><div class="pair">
  <section class="card"><h2>Failures by reason</h2><${Table} name="failures" rows=${live.failures} columns=${[
    ["Reason", (row) => html`<code>${row.reason}</code>`],
    ["A minute", (row) => short(row.rate), { number: true, sort: (row) => row.rate }],
    ["Since start", (row) => whole(row.total), { number: true, sort: (row) => row.total }],
  ]} empty=${html`<${Empty} title="No failures">Nothing was refused and nothing failed since the start.<//>`} /></section>
  <section class="card"><h2>Authentication</h2><${Table} name="authentication" rows=${live.authentication} columns=${[
    ["Method", (row) => row.method], ["Result", (row) => html`<${Pill} state=${row.result} />`],
    ["A minute", (row) => short(row.rate), { number: true, sort: (row) => row.rate }],
    ["Since start", (row) => whole(row.total), { number: true, sort: (row) => row.total }],
  ]} empty=${html`<${Empty} title="None yet">No pipeline with auth has had a request.<//>`} /></section></div>`;

const KINDS = [["url", "URL or path"], ["prefix", "Begins with"], ["tag", "Tag"], ["all", "Everything"]];

function purge(kind, value, soft) {
  const what = kind === "all" ? "everything" : `${kind} ${value}`;
  return {
    title: `Purge ${what}?`, action: "Purge", danger: true, text: html`<p>${soft ? "These answers become stale and are asked for anew." : "These answers are taken out of the caches of all workers, and with a shared cache of all gateways. The origins get their requests."}</p>`,
    run: async (admin) => { await admin("/admin/purge", { method: "POST", body: { [kind]: kind === "all" ? true : value, soft } }); return `Purged: ${what}.`; },
  };
}

function Purge({ act }) {
  const [kind, setKind] = useState("url");
  function submit(event) {
    event.preventDefault();
    const said = new FormData(event.target);
    act(purge(kind, (said.get("value") || "").trim(), said.has("soft")));
  }
  return html`<form class="row" onSubmit=${submit} aria-label="Purge">
    <label class="unseen" for="kind">What to purge by</label>
    <select id="kind" value=${kind} onChange=${(event) => setKind(event.target.value)}>${KINDS.map(([name, title]) => html`<option value=${name}>${title}</option>`)}</select>
    ${kind !== "all" && html`<label class="unseen" for="value">Its name</label><input id="value" name="value" required placeholder=${kind === "tag" ? "camera-7" : "/cameras/7"} />`}
    <label class="check"><input type="checkbox" name="soft" /> only make stale</label><button>Purge</button>
  </form>`;
}

const RESULTS = ["hit", "stale", "revalidated", "miss", "bypass"];
function cacheRows(rows) {
  const routes = {};
  for (const row of rows) (routes[row.route] ||= { route: row.route, total: 0, rate: 0, results: {} }).results[row.result] = row.total;
  for (const row of rows) { routes[row.route].total += row.total; routes[row.route].rate += row.rate; }
  return Object.values(routes);
}
const known = (rows) => [...RESULTS.filter((name) => rows.some((row) => row.result === name)), ...new Set(rows.map((row) => row.result).filter((name) => !RESULTS.includes(name)))];

export const Caching = ({ live, act }) => html`
  <section class="card"><h2>Cache</h2><${Table} name="cache" rows=${cacheRows(live.cache)} columns=${[
    ["Route", (row) => html`<b>${row.route}</b>`],
    ["From the cache", (row) => percent((row.results.hit || 0) / row.total), { number: true }],
    ...known(live.cache).map((name) => [name, (row) => whole(row.results[name] || 0), { number: true }]),
    ["A minute", (row) => short(row.rate), { number: true, sort: (row) => row.rate }],
  ]} empty=${html`<${Empty} title="Nothing was looked up">No route with caching has had a request.<//>`} />${act && html`<${Purge} act=${act} />`}</section>
  <section class="card"><h2>Limits</h2><p class="quiet">Near: admitted with at most a fifth of the limit left.</p><${Table} name="limits" rows=${live.limits} columns=${[
    ["Route", (row) => html`<b>${row.route}</b>`], ["Policy", (row) => html`<code>${row.policy}</code>`],
    ["Near, a minute", (row) => short(row.near_rate), { number: true, sort: (row) => row.near_rate }],
    ["Refused, a minute", (row) => html`<span class=${row.refused_rate ? "bad-text" : ""}>${short(row.refused_rate)}</span>`, { number: true, sort: (row) => row.refused_rate }],
    ["Near since start", (row) => whole(row.near), { number: true, sort: (row) => row.near }],
    ["Refused since start", (row) => whole(row.refused), { number: true, sort: (row) => row.refused }],
  ]} empty=${html`<${Empty} title="None is near its end">No limit has refused a request, or come near to it, since the start.<//>`} /></section>`;

const RELOAD = {
  title: "Read the configuration anew?", action: "Reload", text: html`<p>What the files say comes into force if there is no error in it. Otherwise nothing changes, and the errors are shown.</p>`,
  run: async (admin) => { const said = await admin("/admin/reload", { method: "POST" }); return said.changes.length ? `Taken: ${said.changes.join("; ")}` : "Taken; nothing had changed."; },
};

const Lines = ({ lines, none }) => (lines.length ? html`<ul class="lines">${lines.map((line) => html`<li>${line}</li>`)}</ul>` : html`<span class="quiet">${none}</span>`);

export function Configuration({ live, act }) {
  const { status } = live;
  return html`<section class="card"><div class="row spread"><h2>In force</h2>${act && html`<button onClick=${() => act(RELOAD)}>Reload</button>`}</div><dl class="pairs">
      <dt>Hash</dt><dd><code>${status.configuration}</code></dd>
      ${Object.entries(status.addresses || {}).map(([table, where]) => html`<dt>[${table}]</dt><dd><code>${where}</code></dd>`)}
      <dt>Process</dt><dd>${status.pid}, Python ${status.python}${status.compiled ? ", compiled" : ""}</dd>
      <dt>Configurations alive</dt><dd>${status.snapshots_alive}</dd>
    </dl></section>
    <section class="card"><h2>Last reloads</h2><${Table} name="reloads" rows=${status.reloads || []} columns=${[
      ["When", (row) => html`<span class="number">${day(row.at)}</span>`], ["Outcome", (row) => html`<${Pill} state=${row.ok ? "taken" : "refused"} />`],
      ["In force since", (row) => html`<code>${row.hash}</code>`],
      ["What changed, or was wrong", (row) => (row.ok ? html`<${Lines} lines=${[...row.changes, ...row.problems]} none="nothing" />` : html`<${Lines} lines=${row.problems} none="see the log" />`), { wide: true }],
    ]} empty=${html`<${Empty} title="None">The configuration is that of the start.<//>`} /></section>
    <${Warnings} rows=${live.warnings} />
    ${status.workers && html`<section class="card"><h2>Workers</h2><${Table} name="workers" rows=${status.workers} columns=${[
      ["Worker", (row) => row.worker], ["Process", (row) => row.pid], ["State", (row) => html`<${Pill} state=${row.serving ? "healthy" : "unknown"} />`],
      ["Connections", (row) => whole(row.connections), { number: true }], ["In flight", (row) => whole(row.in_flight), { number: true }],
      ["Restarts", (row) => whole(row.restarts), { number: true }],
    ]} /></section>`}`;
}
