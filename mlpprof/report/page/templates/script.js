"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const page = document.documentElement;
  const off = { phase: new Set(), rung: new Set() };

  const isOff = (data) => off.phase.has(data.phase) || off.rung.has(data.rung);

  // In stacked bars the visible parts close the gaps: parts know their width, and a text moves with its part.
  const restack = (svg) => {
    const bars = new Map();
    for (const part of all("[data-bar][data-width]", svg)) {
      const bar = bars.get(part.dataset.bar) ?? { gone: 0, before: {} };
      bar.before[part.dataset.phase] = bar.gone;
      if (off.phase.has(part.dataset.phase)) bar.gone += Number(part.dataset.width);
      bars.set(part.dataset.bar, bar);
    }
    for (const part of all("[data-bar]", svg)) {
      const bar = bars.get(part.dataset.bar);
      if (!bar) continue;
      const shift = part.dataset.phase === undefined ? bar.gone : bar.before[part.dataset.phase] ?? 0;
      if (shift) part.setAttribute("transform", `translate(${-shift} 0)`);
      else part.removeAttribute("transform");
    }
  };

  const show = () => {
    for (const part of all("main [data-phase], main [data-rung]")) part.classList.toggle("off", isOff(part.dataset));
    for (const svg of all("svg")) restack(svg);
  };

  for (const box of all("[data-switch]")) {
    box.checked = true;
    box.addEventListener("change", () => {
      off[box.dataset.switch][box.checked ? "delete" : "add"](box.value);
      show();
    });
  }

  const order = (a, b) => {
    const [x, y] = [a, b].map((cell) => (cell.dataset.value === undefined ? NaN : Number(cell.dataset.value)));
    if (!Number.isNaN(x) && !Number.isNaN(y)) return x - y;
    if (!Number.isNaN(x) || !Number.isNaN(y)) return Number.isNaN(x) ? 1 : -1;
    return a.textContent.localeCompare(b.textContent, "en", { numeric: true });
  };

  const sort = (table, column, head) => {
    const direction = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const other of all("thead th", table)) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => direction * order(a.cells[column], b.cells[column]));
    table.tBodies[0].append(...rows);
  };

  for (const table of all("table.sortable")) {
    all("thead tr:last-child th", table).forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => sort(table, column, head));
    });
  }

  const theme = document.getElementById("theme");
  const isDark = () => page.dataset.theme ? page.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  // the button names what it does, which is the other theme
  const nameTheme = () => { theme.textContent = isDark() ? "Light" : "Dark"; };
  try {
    const kept = localStorage.getItem("mlpprof-theme");
    if (kept === "dark" || kept === "light") page.dataset.theme = kept;
  } catch { /* a browser may keep nothing for files */ }
  theme.addEventListener("click", () => {
    page.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("mlpprof-theme", page.dataset.theme); } catch { /* as above */ }
    nameTheme();
  });
  nameTheme();

  const unfold = document.getElementById("unfold");
  unfold?.addEventListener("click", () => {
    const open = unfold.getAttribute("aria-pressed") !== "true";
    unfold.setAttribute("aria-pressed", String(open));
    for (const part of all("main details")) part.open = open;
  });

  document.getElementById("download").addEventListener("click", () => {
    const text = document.getElementById("raw").textContent;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.download = "mlpprof.json";
    link.click();
    URL.revokeObjectURL(link.href);
  });

  // The listing opens where the time is.
  const scrollToHot = (part) => {
    const hot = all("tr.hot", part)[0];
    if (hot) hot.closest(".tall").scrollTop = hot.offsetTop - 80;
  };
  for (const part of all("main details")) {
    part.addEventListener("toggle", () => { if (part.open) scrollToHot(part); }, { once: true });
    if (part.open) scrollToHot(part);
  }

  const links = new Map(all("nav a").map((link) => [link.hash.slice(1), link]));
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const link of links.values()) link.classList.remove("here");
      links.get(entry.target.id)?.classList.add("here");
    }
  }, { rootMargin: "-20% 0px -70% 0px" });
  for (const section of all("main > section")) seen.observe(section);

  addEventListener("beforeprint", () => { for (const part of all("main details")) part.open = true; });

  // On a phone the verdict comes first, and the switches when they are asked for.
  const panel = document.querySelector(".panel");
  const narrow = matchMedia("(max-width: 60rem)");
  const fold = () => { panel.open = !narrow.matches; };
  narrow.addEventListener("change", fold);
  fold();

  for (const part of all(".controls")) part.hidden = false;
})();
