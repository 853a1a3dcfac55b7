// The dashboard's sections, each of one snapshot.
import { Empty, Pill, Table, clock, day, html, percent, short, span, time, whole } from "./kit.js";
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

export function Upstreams({ live }) {
  const upstreams = Object.entries(live.health.upstreams);
  if (!upstreams.length) return html`<${Empty} title="No upstreams">The configuration has none; every route answers by itself.<//>`;
  return html`<h2 class="unseen">Upstreams</h2>${upstreams.map(([name, one]) => html`<section class="card" aria-label=${`Upstream ${name}`}>
    <div class="row spread"><h3>${name}</h3><div class="row">
      <${Pill} state=${one.status} />${one.circuit && html`<span class="quiet">circuit</span><${Pill} state=${one.circuit.state} />`}
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

export const Clients = ({ live }) => html`<section class="card"><h2>Busiest clients</h2>
  <${Table} name="clients" rows=${live.clients} find=${(row) => row.client} columns=${[
    ["Client", (row) => (row.client === "_other" ? html`<i>all others</i>` : html`<b>${row.client}</b>`), { sort: (row) => row.client }],
    ["Requests/s", (row) => short(row.rate), { number: true, sort: (row) => row.rate }],
    ["Errors", (row) => percent(row.error_rate), { number: true, sort: (row) => row.error_rate }],
    ["Requests", (row) => whole(row.total), { number: true, sort: (row) => row.total }],
    ["Refused or failed", (row) => whole(row.errors), { number: true, sort: (row) => row.errors }],
  ]} empty=${html`<${Empty} title="No clients yet">They appear with their first request, if the pipeline has auth and metrics.<//>`} /></section>`;

export const Refusals = ({ live }) => html`<div class="pair">
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

export const Caching = ({ live }) => html`<div class="pair">
  <section class="card"><h2>Cache</h2><${Table} name="cache" rows=${live.cache} columns=${[
    ["Route", (row) => html`<b>${row.route}</b>`], ["Result", (row) => html`<${Pill} state=${row.result} />`],
    ["A minute", (row) => short(row.rate), { number: true, sort: (row) => row.rate }],
    ["Since start", (row) => whole(row.total), { number: true, sort: (row) => row.total }],
  ]} empty=${html`<${Empty} title="Nothing was looked up">No route with caching has had a request.<//>`} /></section>
  <section class="card"><h2>Refused by limits</h2><${Table} name="limits" rows=${live.limited} columns=${[
    ["Route", (row) => html`<b>${row.route}</b>`], ["Policy", (row) => html`<code>${row.policy}</code>`],
    ["A minute", (row) => short(row.rate), { number: true, sort: (row) => row.rate }],
    ["Since start", (row) => whole(row.total), { number: true, sort: (row) => row.total }],
  ]} empty=${html`<${Empty} title="None">No limit has refused a request since the start.<//>`} /></section></div>`;

export function Configuration({ live }) {
  const { status } = live;
  return html`<section class="card"><h2>In force</h2><dl class="pairs">
      <dt>Hash</dt><dd><code>${status.configuration}</code></dd>
      ${Object.entries(status.addresses || {}).map(([table, where]) => html`<dt>[${table}]</dt><dd><code>${where}</code></dd>`)}
      <dt>Process</dt><dd>${status.pid}, Python ${status.python}</dd>
      <dt>Configurations alive</dt><dd>${status.snapshots_alive}</dd>
    </dl></section>
    <${Warnings} rows=${live.warnings} />
    ${status.workers && html`<section class="card"><h2>Workers</h2><${Table} name="workers" rows=${status.workers} columns=${[
      ["Worker", (row) => row.worker], ["Process", (row) => row.pid], ["State", (row) => html`<${Pill} state=${row.serving ? "healthy" : "unknown"} />`],
      ["Connections", (row) => whole(row.connections), { number: true }], ["In flight", (row) => whole(row.in_flight), { number: true }],
      ["Restarts", (row) => whole(row.restarts), { number: true }],
    ]} /></section>`}`;
}
