// A partner's own page: logged in once by a key or a token, it shows limits, usage, failures, keys and what comes to an end.
import { Confirm, Empty, Login, Notice, Pill, Refused, Table, Tabs, ask, day, html, percent, show, size, span, time, useEffect, usePlace, useState, whole } from "./kit.js";
import { Chart } from "./charts.js";

const BASE = document.querySelector('meta[name="portal"]').content;
const unix = (text) => Date.parse(text) / 1000;
const date = (seconds) => new Date(seconds * 1000).toLocaleDateString("en-GB", { dateStyle: "medium", timeZone: "UTC" });
const TABS = [["limits", "Limits", Limits], ["usage", "Usage", Usage], ["failures", "Failures", Failures], ["keys", "Keys", Keys], ["notices", "Notices", Notices]];

function Portal() {
  const [session, setSession] = useState(null);
  const [account, setAccount] = useState(null);
  const [asking, setAsking] = useState(null);
  const [notice, setNotice] = useState(null);
  const [fresh, setFresh] = useState(null);
  const place = usePlace(TABS.map(([name]) => name));
  const portal = (path, options = {}) =>
    ask(BASE + "api/" + path, { ...options, headers: options.method && session?.token ? { "X-Portal-Token": session.token } : {} });
  const failed = (error) => {
    if (error instanceof Refused && error.status === 401) { setAccount(null); setSession({ ...session, known: false, token: "" }); }
    setNotice({ text: error instanceof Refused ? error.message : "The gateway does not answer.", tone: "bad" });
  };
  async function look() {
    try { setAccount(await portal("account")); } catch (error) { failed(error); }
  }
  useEffect(() => { portal("session").then(setSession, failed); }, []);
  useEffect(() => { if (session?.known) look(); }, [session?.known]);
  useEffect(() => { if (session) document.title = session.title; if (account || (session && !session.known)) document.documentElement.dataset.ready = "yes"; }, [session, account]);
  if (!session) return html`<${Notice} ...${notice || {}} onClose=${() => setNotice(null)} />`;
  if (!session.known)
    return html`<${Login} title=${session.title} label="API key or token" hint="See your limits, usage and failures, and renew your keys. The key is sent to this gateway alone, and is not kept in the page."
      onLogin=${async (secret) => { setNotice(null); setSession(await portal("session", { method: "POST", body: { secret } })); }} /><${Notice} ...${notice || {}} onClose=${() => setNotice(null)} />`;
  const View = TABS.find(([name]) => name === place)[2];
  const tabs = TABS.filter(([name]) => name !== "keys" || !account || account.keys);
  return html`
    <header class="top">
      <h1>${session.title}</h1>
      <dl class="facts">
        <div><dt>Client</dt><dd><b>${session.client}</b></dd></div>
        ${account?.tier && html`<div><dt>Tier</dt><dd>${account.tier}</dd></div>`}
        <div><dt>Logged in until</dt><dd>${day(session.until)}</dd></div>
      </dl>
      <div class="row end">
        ${account?.links.docs && html`<a href=${account.links.docs}>Documentation</a>`}
        ${account?.links.openapi && html`<a href=${account.links.openapi}>OpenAPI</a>`}
        ${account?.links.errors && html`<a href=${account.links.errors}>Errors</a>`}
        <button class="plain" onClick=${look}>Refresh</button>
        <button class="plain" onClick=${async () => { try { setSession(await portal("session", { method: "DELETE" })); setAccount(null); setFresh(null); } catch (error) { failed(error); } }}>Log out</button>
      </div>
    </header>
    <${Tabs} names=${tabs} place=${place} counts=${{ notices: account?.notices.length, failures: account?.failures.length }} />
    <main id="main">${account ? html`<${View} ...${{ account, portal, act: setAsking, fresh, setFresh }} />` : html`<p class="quiet" role="status">Asking the gateway</p>`}</main>
    <${Notice} ...${notice || {}} onClose=${() => setNotice(null)} />
    ${asking && html`<${Confirm} ...${asking} onClose=${() => setAsking(null)} onConfirm=${async () => {
      try { setNotice({ text: await asking.run(), tone: "good" }); } catch (error) { if (error.status === 401) failed(error); throw error; }
      look();
    }}>${asking.text}<//>`}`;
}

function Limit({ one }) {
  const used = one.limit ? 1 - one.remaining / one.limit : 1;
  return html`<li>
    <div class="row spread"><b>${one.policy}</b><span class="number">${whole(one.remaining)} of ${whole(one.limit)} left</span></div>
    <meter min="0" max="1" low="0.8" high="0.95" optimum="0" value=${used} aria-label=${`${one.policy}: used`}></meter>
    <p class="quiet">${one.window == null ? "at a time" : one.period ? `a ${one.period}` : `in ${span(one.window)}`}${one.burst ? `, at most ${whole(one.burst)} a second` : ""} · by ${one.key}${one.reset && one.remaining < one.limit ? ` · whole again ${day(one.reset)}` : ""}</p>
    <p class="headers">${one.headers.length ? one.headers.map((name) => html`<code>${name}</code> `) : html`<span class="quiet">in no header: it only counts</span>`}</p>
  </li>`;
}

function Limits({ account }) {
  const groups = account.limits;
  if (!groups.length) return html`<section class="card"><h2>Limits</h2><${Empty} title="No limits">Nothing limits your requests here.<//></section>`;
  return html`<h2 class="unseen">Limits</h2><div class="pair">${groups.map((group) => html`<section class="card">
    <h3>${group.routes.join(", ")}</h3><ul class="limits">${group.limits.map((one) => html`<${Limit} one=${one} />`)}</ul></section>`)}</div>
    <p class="quiet">Answers list every limit of theirs in RateLimit-Policy. The other headers tell of the limit with the smallest part left.</p>`;
}

function Usage({ account }) {
  const { usage } = account;
  if (!usage) return html`<section class="card"><h2>Usage</h2><${Empty} title="Not known">${account.usage_problem || "Usage is not counted here."}<//></section>`;
  const share = usage.totalRequests ? usage.failedRequests / usage.totalRequests : 0;
  return html`<h2 class="unseen">Usage</h2>
    <dl class="tiles">
      <div class="tile"><dt>Requests</dt><dd>${whole(usage.totalRequests)}</dd><dd class="hint">since ${date(unix(usage.timeRange.start))}</dd></div>
      <div class="tile"><dt>Refused or failed</dt><dd>${percent(share)}</dd><dd class="hint">${whole(usage.failedRequests)} requests</dd></div>
      <div class="tile"><dt>Mean time</dt><dd>${time(usage.averageResponseTime)}</dd><dd class="hint">to the last byte</dd></div>
      <div class="tile"><dt>Received</dt><dd>${size(usage.bytesOut)}</dd><dd class="hint">sent: ${size(usage.bytesIn)}</dd></div>
    </dl>
    ${usage.hours.length > 1 && html`<${Chart} title="Requests an hour" at=${usage.hours.map((one) => unix(one.start))} format=${whole} lines=${[
      { title: "all", values: usage.hours.map((one) => one.requests), color: "--one", fill: true }, { title: "refused or failed", values: usage.hours.map((one) => one.errors), color: "--bad" }]} />`}
    <div class="pair"><section class="card"><h3>By route</h3><${Table} name="routes" rows=${usage.endpoints} columns=${[
        ["Route", (row) => html`<b>${row.route}</b>`], ["", (row) => html`<code>${row.method} ${row.path}</code>`],
        ["Requests", (row) => whole(row.requests), { number: true, sort: (row) => row.requests }], ["Refused or failed", (row) => whole(row.errors), { number: true, sort: (row) => row.errors }],
        ["Mean", (row) => time(row.avgResponseTime), { number: true, sort: (row) => row.avgResponseTime }],
      ].map((column) => (column[0] ? column : ["Takes", ...column.slice(1)]))} empty=${html`<${Empty} title="No requests yet">They are here a second after your first one.<//>`} /></section>
    <section class="card"><h3>By day</h3><${Table} name="days" rows=${[...usage.days].reverse()} columns=${[
        ["Day (UTC)", (row) => date(unix(row.start))], ["Requests", (row) => whole(row.requests), { number: true }], ["Refused or failed", (row) => whole(row.errors), { number: true }],
        ["Received", (row) => size(row.bytesOut), { number: true }],
      ]} empty=${html`<${Empty} title="No requests yet">Days are those of UTC.<//>`} /></section></div>`;
}

function Failures({ account }) {
  return html`<section class="card"><h2>Last failures</h2><${Table} name="failures" rows=${account.failures} columns=${[
    ["When", (row) => html`<span class="number">${day(unix(row.time))}</span>`],
    ["Request", (row) => html`<code>${row.method} ${row.path}</code>`, { wide: true }],
    ["Answer", (row) => html`<span class="number">${row.status}</span> ${row.code && (row.page ? html`<a href=${row.page}><code>${row.code}</code></a>` : html`<code>${row.code}</code>`)}`],
    ["Reason", (row) => row.detail || "–", { wide: true }],
    ["Request ID", (row) => html`<code>${row.id}</code>`],
  ]} empty=${html`<${Empty} title="None">None of your requests was refused or failed of late.<//>`} /></section>`;
}

const OVERLAPS = [[0, "none: the old key ends at once"], [3600, "an hour"], [86400, "a day"], [604800, "a week"]];

function Keys({ account, portal, act, fresh, setFresh }) {
  const overlaps = OVERLAPS.filter(([seconds]) => seconds < account.overlap).concat([[account.overlap, `${span(account.overlap)}`]]);
  const rotate = (key) => act({
    title: `Replace the key ${key.hint}…?`, action: "Make a new key",
    text: html`<p>You get a new key that may do the same. The old one goes on for:</p>
      <select id="overlap" aria-label="How long the old key goes on">${overlaps.map(([seconds, title]) => html`<option value=${seconds} selected=${seconds === account.overlap}>${title}</option>`)}</select>`,
    run: async () => {
      const overlap = Number(document.getElementById("overlap").value);
      setFresh(await portal(`keys/${key.id}/rotate`, { method: "POST", body: { overlap } }));
      return "The new key is shown once: keep it now.";
    },
  });
  const revoke = (key) => act({
    title: `Revoke the key ${key.hint}…?`, action: "Revoke", danger: true,
    text: html`<p>Requests with it are refused from now on. ${key.own ? "You have logged in with this key: you will be logged out." : "This cannot be undone."}</p>`,
    run: async () => { await portal(`keys/${key.id}/revoke`, { method: "POST", body: {} }); return "The key is revoked."; },
  });
  const soon = (key) => (key.state === "active" && key.replaced_by ? "expiring" : key.state);
  return html`${fresh && html`<section class="card fresh" aria-label="New key"><h2>Your new key</h2><p>It is shown this once, and works within a second. The old one ends ${fresh.until ? day(fresh.until) : "never"}.</p>
      <p><code id="secret-key">${fresh.secret}</code></p><div class="row"><button onClick=${() => navigator.clipboard.writeText(fresh.secret)}>Copy</button><button class="plain" onClick=${() => setFresh(null)}>I have kept it</button></div></section>`}
    <section class="card"><h2>Keys</h2><${Table} name="keys" rows=${account.keys} columns=${[
      ["Key", (row) => html`<code>${row.hint}…</code>${row.own ? html` <span class="quiet">(this session)</span>` : ""}`],
      ["Label", (row) => row.label || html`<span class="quiet">–</span>`],
      ["State", (row) => html`<${Pill} state=${soon(row)} />`],
      ["Made", (row) => (row.created ? date(row.created) : "–")],
      ["Ends", (row) => (row.expires ? day(row.expires) : "never")],
      ["May", (row) => (row.permissions.length ? row.permissions.map((one) => html`<code>${one}</code> `) : html`<span class="quiet">–</span>`)],
      ["", (row) => row.changes && html`<span class="row end">${!row.replaced_by && html`<button onClick=${() => rotate(row)} aria-label=${`Replace the key ${row.hint}`}>Replace</button>`}<button onClick=${() => revoke(row)} aria-label=${`Revoke the key ${row.hint}`}>Revoke</button></span>`],
    ].map((column) => (column[0] ? column : ["Change", ...column.slice(1)]))} empty=${html`<${Empty} title="No keys">You have logged in by a token, and have no keys here.<//>`} />
    ${account.method !== "api_key" && html`<p class="quiet">Keys are changed by who has logged in with one of them.</p>`}</section>`;
}

function Notices({ account }) {
  return html`<section class="card"><h2>What comes to an end</h2><${Table} name="notices" rows=${account.notices} columns=${[
    ["Route", (row) => html`<b>${row.route}</b>`], ["Path", (row) => html`<code>${row.path}</code>`],
    ["State", (row) => html`<${Pill} state=${row.state} />`],
    ["Deprecated", (row) => (row.deprecated == null ? "–" : date(row.deprecated))],
    ["Ends", (row) => (row.sunset == null ? "–" : date(row.sunset))],
    ["Use instead", (row) => (row.successor ? html`<code>${row.successor}</code>` : "–")],
    ["Your requests", (row) => whole(row.requests), { number: true }],
  ]} empty=${html`<${Empty} title="Nothing">No version that you use is deprecated.<//>`} /></section>`;
}

show(html`<${Portal} />`, document.body);
