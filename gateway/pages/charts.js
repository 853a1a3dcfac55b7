// Charts over time by uPlot, in the page's own colours, with a legend that says the last values.
import { html, useEffect, useRef, useState } from "./kit.js";

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function useScheme() {
  const query = matchMedia("(prefers-color-scheme: dark)");
  const [dark, setDark] = useState(query.matches);
  useEffect(() => {
    const changed = () => setDark(query.matches);
    query.addEventListener("change", changed);
    return () => query.removeEventListener("change", changed);
  }, []);
  return dark;
}

function options(width, height, lines, format, stacked) {
  const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
  const hours = (plot, splits, axis, space, step) => splits.map((at) =>
    new Date(at * 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", second: step < 60 ? "2-digit" : undefined }));
  return {
    width, height, padding: [8, 18, 0, 0], legend: { show: false }, cursor: { y: false, points: { size: 6 } },
    scales: { y: { range: (plot, low, high) => [0, Math.max(high * 1.15, 0.001)] } },
    axes: [{ ...axis, values: hours, space: 80, size: 28 }, { ...axis, size: 58, values: (plot, splits) => splits.map(format) }],
    series: [{}, ...lines.map(({ color, fill }) => ({
      stroke: colour(color), width: 2, fill: stacked || fill ? colour(color) + "26" : undefined, points: { show: false }, spanGaps: false,
    }))],
  };
}

// lines: [{title, values, color}]; at: Unix seconds of the points.
export function Chart({ title, at, lines, format, height = 190 }) {
  const box = useRef(null);
  const plot = useRef(null);
  const dark = useScheme();
  const data = [at, ...lines.map((line) => line.values)];
  useEffect(() => {
    const made = new window.uPlot(options(box.current.clientWidth, height, lines, format), data, box.current);
    plot.current = made;
    const resized = new ResizeObserver(() => made.setSize({ width: box.current.clientWidth, height }));
    resized.observe(box.current);
    return () => { resized.disconnect(); made.destroy(); };
  }, [dark]);
  useEffect(() => { plot.current.setData(data); }, [at]);
  const last = (values) => values.length ? format(values[values.length - 1]) : "–";
  const said = lines.map((line) => `${line.title} ${last(line.values)}`).join(", ");
  return html`<section class="card chart">
    <h2>${title}</h2>
    <ul class="legend">${lines.map((line) => html`<li><span class=${"key " + line.color.slice(2)} aria-hidden="true"></span>${line.title} <b>${last(line.values)}</b></li>`)}</ul>
    <div class="plot" ref=${box} role="img" aria-label=${`${title} over the last ${at.length > 1 ? Math.max(1, Math.round((at[at.length - 1] - at[0]) / 60)) : 0} minutes; now: ${said}`}></div>
  </section>`;
}
