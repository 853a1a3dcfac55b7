// The dashboard: asks who the browser is, then for a snapshot every interval while it is looked at.
import { Confirm, Login, Notice, Pill, Refused, Tabs, ask, clock, html, show, span, useEffect, useRef, usePlace, useState } from "./kit.js";
import { Caching, Clients, Configuration, Overview, Refusals, Routes, Upstreams } from "./dashboard-views.js";

// Where the admin API is: this listener, or what a copy of this page served elsewhere names.
const API = document.querySelector('meta[name="gateway-api"]').content.replace(/\/$/, "");
let token = "";  // held in memory alone, and only where the page is served elsewhere
const CHANGES = { "X-Gateway-Admin": "dashboard" };
const TABS = [
  ["overview", "Overview", Overview], ["upstreams", "Upstreams", Upstreams], ["routes", "Routes", Routes], ["clients", "Clients", Clients],
  ["refusals", "Refusals", Refusals], ["caching", "Cache and limits", Caching], ["configuration", "Configuration", Configuration],
];

function admin(path, options = {}) {
  const headers = { ...(options.method ? CHANGES : {}), ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  return ask(API + path, { ...options, headers });
}

async function login(secret) {
  if (!API) return admin("/admin/session", { method: "POST", body: { token: secret } });
  token = secret;
  try {
    await admin("/admin/status");
    return { known: true, writes: true, name: "", needed: true };
  } catch (error) {
    token = "";
    throw error;
  }
}

function useLive(active, onLost) {
  const [live, setLive] = useState(null);
  const [problem, setProblem] = useState("");
  const again = useRef(() => {});
  useEffect(() => {
    if (!active) return undefined;
    let timer, over = false;
    async function look() {
      clearTimeout(timer);
      let pause = 2000;
      if (!document.hidden) {
        try {
          const said = await admin("/admin/live");
          if (over) return;
          setLive(said);
          setProblem("");
          pause = said.interval * 1000;
        } catch (error) {
          if (over) return;
          if (error instanceof Refused && error.status === 401) return onLost();
          setProblem(error instanceof Refused ? error.message : "The gateway does not answer.");
        }
      }
      timer = setTimeout(look, pause);
    }
    again.current = look;
    const seen = () => !document.hidden && look();
    document.addEventListener("visibilitychange", seen);
    look();
    return () => { over = true; clearTimeout(timer); document.removeEventListener("visibilitychange", seen); };
  }, [active]);
  return [live, problem, () => again.current()];
}

function Dashboard() {
  const [session, setSession] = useState(null);
  const [asking, setAsking] = useState(null);
  const [notice, setNotice] = useState(null);
  const place = usePlace(TABS.map(([name]) => name));
  useEffect(() => { (API ? Promise.resolve({ known: false }) : admin("/admin/session")).then(setSession, (error) => setNotice({ text: error.message, tone: "bad" })); }, []);
  const [live, problem, look] = useLive(session?.known, () => setSession({ ...session, known: false }));
  useEffect(() => { if (live) document.documentElement.dataset.ready = "yes"; }, [live]);
  if (!session) return html`<${Notice} ...${notice || {}} />`;
  if (!session.known)
    return html`<${Login} title="Gateway" label="Token of the admin listener" onLogin=${async (secret) => setSession(await login(secret))}
      hint="The dashboard shows what this gateway does. A reader's token may look, the operator's may also act." />`;
  const act = session.writes ? setAsking : null;
  const View = TABS.find(([name]) => name === place)[2];
  const bad = live ? live.warnings.length : 0;
  return html`
    <${Head} ...${{ live, session, problem }} logout=${async () => { token = ""; if (!API) await admin("/admin/session", { method: "DELETE" }); setSession({ ...session, known: false }); }} />
    <${Tabs} names=${TABS} place=${place} counts=${{ configuration: bad }} />
    <main id="main">${live ? html`<${View} ...${{ live, act, admin }} />` : html`<p class="quiet" role="status">Asking the gateway</p>`}</main>
    <${Notice} ...${notice || {}} onClose=${() => setNotice(null)} />
    ${asking && html`<${Confirm} ...${asking} onClose=${() => setAsking(null)} onConfirm=${async () => { setNotice({ text: await asking.run(admin), tone: "good" }); look(); }}>${asking.text}<//>`}`;
}

function Head({ live, session, problem, logout }) {
  const status = live?.status;
  return html`<header class="top">
    <div class="row"><h1>Gateway</h1>${live && html`<${Pill} state=${live.health.status} />`}</div>
    ${status && html`<dl class="facts">
      <div><dt>Version</dt><dd>${status.version}</dd></div>
      <div><dt>Up</dt><dd>${span(status.uptime_seconds)}</dd></div>
      <div><dt>Configuration</dt><dd><code>${status.configuration}</code></dd></div>
      ${status.workers && html`<div><dt>Workers</dt><dd>${status.workers.filter((one) => one.serving).length} of ${status.workers.length}</dd></div>`}
      <div><dt>As of</dt><dd role=${problem ? "alert" : undefined} class=${problem ? "bad-text" : undefined}>${clock(live.at)}${problem ? " · " + problem : ""}</dd></div>
    </dl>`}
    <div class="row end">
      <span class="quiet">${session.needed ? `${session.name}${session.writes ? "" : " (reader)"}` : "no token needed"}</span>
      ${session.needed && html`<button class="plain" onClick=${logout}>Log out</button>`}
    </div>
  </header>`;
}

show(html`<${Dashboard} />`, document.body);
