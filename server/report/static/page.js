// The page's script: plots, theme, sortable tables, and polling of a live page.
// It writes text, never markup; markup of a live page comes from its own server, where
// every text was escaped.
"use strict";
(() => {
  const root = document.documentElement;
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const plots = new Map(); // name -> what is shown of a plot
  let figures = JSON.parse(document.getElementById("figures").textContent);

  // ---- Small helpers -------------------------------------------------------------
  function make(tag, properties, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }
  function colour(role) {
    const found = getComputedStyle(root).getPropertyValue(`--${role}`).trim();
    return found || getComputedStyle(root).getPropertyValue("--dense").trim();
  }
  function trimmed(value, digits) {
    return String(Number(value.toPrecision(digits)));
  }
  function withUnit(value, units, step, digits) {
    let place = 0;
    while (Math.abs(value) >= step && place < units.length - 1) { value /= step; place += 1; }
    return `${trimmed(value, digits)}${units[place]}`;
  }
  function said(value, unit, digits = 4) {
    if (value === null || value === undefined) return "–";
    if (unit === "share") return `${trimmed(100 * value, digits)} %`;
    if (unit === "bytes") return withUnit(value, [" B", " kB", " MB", " GB", " TB"], 1000, digits);
    if (unit === "count" && digits > 3) return Math.round(value).toLocaleString("en-US");
    if (unit === "count") return withUnit(value, ["", " k", " M", " G"], 1000, digits);
    return trimmed(value, digits);
  }
  const short = (unit) => (value) => said(value, unit, 3);
  // The end of a name that is too long: layers differ there.
  function cut(text, room) {
    if (text.length <= room) return text;
    return room > 2 ? `…${text.slice(1 - room)}` : "";
  }
  // The tooltip is built of nodes: names of clients are text in it and nothing else.
  function tip(title, lines) {
    const rows = lines.map(([role, text]) => {
      const dot = make("i");
      if (role) dot.style.background = colour(role);
      return make("span", {}, ...(role ? [dot] : []), text);
    });
    return make("div", { className: "tip" }, make("b", {}, title), ...rows);
  }

  // ---- Options of a plot ---------------------------------------------------------
  function base(narrow) {
    const ink = colour("ink");
    return {
      animation: false,
      aria: { enabled: false },
      backgroundColor: "transparent",
      textStyle: { fontFamily: getComputedStyle(document.body).fontFamily, color: ink },
      legend: {
        top: 0, left: 0, itemWidth: 16, itemHeight: 9, type: narrow ? "scroll" : "plain",
        textStyle: { color: colour("muted"), fontSize: 12 },
        pageIconColor: ink, pageTextStyle: { color: colour("muted") },
        inactiveColor: colour("grid"),
      },
      tooltip: {
        confine: true, backgroundColor: colour("paper"), borderColor: colour("line"),
        padding: [8, 10], transitionDuration: 0,
        extraCssText: "box-shadow: 0 2px 10px rgba(0,0,0,.18); z-index: 5;",
      },
      grid: { left: 2, right: 16, top: 34, bottom: 4, outerBoundsMode: "same", outerBoundsContain: "all" },
    };
  }
  function axisOf(spec, log, place) {
    return {
      type: log ? "log" : "value", name: spec.name, nameLocation: "middle",
      nameGap: place === "x" ? 26 : 10, nameMoveOverlap: true, scale: true,
      nameTextStyle: { color: colour("muted"), fontSize: 12 },
      axisLine: { show: place === "x", lineStyle: { color: colour("muted") } },
      axisTick: { show: place === "x", lineStyle: { color: colour("muted") } },
      axisLabel: { color: colour("muted"), fontSize: 12, hideOverlap: true, formatter: short(spec.unit) },
      splitLine: { show: place === "y", lineStyle: { color: colour("grid") } },
      minorSplitLine: { show: false },
    };
  }
  function zooms(filter) {
    return [
      { type: "inside", zoomOnMouseWheel: "ctrl", moveOnMouseWheel: false, filterMode: filter },
    ];
  }
  const positive = (log, value) => !log || value > 0;

  function lines(spec, view) {
    const option = base(view.narrow);
    option.xAxis = axisOf(spec.x, view.logX, "x");
    option.yAxis = axisOf(spec.y, view.logY, "y");
    if (spec.x.unit === "count") option.xAxis.minInterval = 1;
    if (spec.whole && !view.logY) Object.assign(option.yAxis, { min: 0, max: 1 });
    option.dataZoom = zooms("filter");
    const marks = spec.marks.length > 0 || spec.bands.length > 0;
    if (spec.marks.length) option.grid.top = 56;
    option.series = spec.series.map((one, place) => ({
      type: "line", name: one.name, step: one.step ? "middle" : false,
      symbol: "circle", symbolSize: one.points.length > 60 ? 3 : 5, showSymbol: !one.step || one.points.length < 3,
      lineStyle: { width: one.dashed ? 1.6 : 2.1, type: one.dashed ? [5, 3] : "solid", color: colour(one.role) },
      itemStyle: { color: colour(one.role) },
      data: one.points.filter(([x, y]) => positive(view.logX, x) && positive(view.logY, y)),
      ...(place === 0 && marks ? marked(spec) : {}),
    }));
    option.tooltip.trigger = "axis";
    option.tooltip.axisPointer = { type: "line", lineStyle: { color: colour("muted") } };
    option.tooltip.formatter = (found) => {
      const x = found[0].value[0];
      const at = spec.marks.filter((mark) => mark.x === Math.round(x)).map((mark) => [mark.role, `cut: ${mark.text}`.replace("cut: rolled", "rolled")]);
      return tip(`${spec.x.name}: ${said(x, spec.x.unit)}`, [
        ...found.map((one) => [spec.series[one.seriesIndex].role, `${one.seriesName}: ${said(one.value[1], spec.y.unit)}`]),
        ...at, ...spec.bands.filter((band) => band.from < x && x <= band.to).map((band) => [band.role, band.name])]);
    };
    return option;
  }
  function marked(spec) {
    // Labels that would meet are left out; the tooltip has all.
    const places = spec.marks.map((mark) => mark.x);
    const wide = (Math.max(...spec.series.flatMap((one) => one.points.map(([x]) => x)), 1)) / 11;
    let free = -Infinity;
    const data = spec.marks.map((mark) => {
      const shown = mark.text.endsWith("%") && mark.x >= free;
      if (shown) free = mark.x + wide;
      return {
        xAxis: mark.x,
        lineStyle: { color: colour(mark.role), type: mark.text === "undone" ? [1, 4] : [2, 3], width: 1.2 },
        label: { show: shown, formatter: mark.text, color: colour(mark.role), fontSize: 11, distance: 4 },
      };
    });
    const bands = spec.bands.map((band) => [
      { xAxis: band.from, name: "", itemStyle: { color: colour(band.role), opacity: 0.45 } },
      { xAxis: band.to },
    ]);
    return {
      markLine: { silent: true, symbol: ["none", "none"], data: places.length ? data : [] },
      markArea: { silent: true, data: bands },
    };
  }
  function scatter(spec, view) {
    const option = base(view.narrow);
    option.xAxis = axisOf(spec.x, view.logX, "x");
    option.yAxis = axisOf(spec.y, view.logY, "y");
    option.dataZoom = zooms("filter");
    option.tooltip.trigger = "item";
    option.tooltip.formatter = (one) => tip(one.seriesName, [
      ["", `${spec.y.name}: ${said(one.value[1], spec.y.unit)}`],
      ["", `${spec.x.name}: ${said(one.value[0], spec.x.unit)}`]]);
    option.series = spec.series.map((one) => ({
      type: "scatter", name: one.name, symbolSize: one.points.length > 1 ? 7 : 13,
      symbol: one.dashed ? "emptyCircle" : "circle",
      itemStyle: { color: colour(one.role) },
      data: one.points.filter(([x, y]) => positive(view.logX, x) && positive(view.logY, y)),
    }));
    if (spec.front.length > 1) {
      option.series.push({
        type: "line", name: "none better in both", symbol: "none", silent: true, z: 1,
        lineStyle: { color: colour("muted"), type: [4, 4], width: 1.4 },
        itemStyle: { color: colour("muted") }, tooltip: { show: false },
        data: spec.front.filter(([x, y]) => positive(view.logX, x) && positive(view.logY, y)),
      });
    }
    return option;
  }
  function bars(spec, view) {
    const option = base(view.narrow);
    const room = view.narrow ? 12 : 28;
    const names = {
      type: "category", data: spec.names, name: spec.sideways ? "" : spec.axis,
      nameLocation: "middle", nameGap: 26,
      nameTextStyle: { color: colour("muted"), fontSize: 12 },
      inverse: spec.sideways, axisTick: { show: false },
      axisLine: { lineStyle: { color: colour("line") } },
      axisLabel: { color: colour("muted"), fontSize: 12, hideOverlap: true, formatter: (name) => cut(name, room) },
    };
    const values = axisOf({ name: spec.sideways ? spec.axis : "", unit: spec.unit }, false, spec.sideways ? "x" : "y");
    values.scale = false;
    if (spec.unit === "count") values.minInterval = 1;
    if (spec.unit === "share") values.max = 1;
    values.splitLine.show = true;
    if (spec.sideways && view.narrow) values.splitNumber = 3;
    option[spec.sideways ? "yAxis" : "xAxis"] = names;
    option[spec.sideways ? "xAxis" : "yAxis"] = values;
    if (spec.series.length > 12) option.legend.type = "scroll";
    if (spec.texts.length) option.grid.right = 70;
    option.tooltip.trigger = "axis";
    option.tooltip.axisPointer = { type: "shadow", shadowStyle: { color: colour("muted"), opacity: 0.12 } };
    option.tooltip.formatter = (found) => tip(spec.names[found[0].dataIndex], found
      .filter((one) => one.value !== null && (!spec.stacked || one.value > 0))
      .map((one) => [spec.series[one.seriesIndex].role, `${one.seriesName}: ${said(one.value, spec.unit)}`]));
    option.dataZoom = spec.sideways ? [] : zooms("filter");
    option.series = spec.series.map((one, place) => ({
      type: "bar", name: one.name, data: one.values,
      stack: spec.stacked ? "all" : undefined,
      barGap: spec.overlay ? "-100%" : "10%", barCategoryGap: spec.sideways ? "28%" : "18%",
      itemStyle: { color: colour(one.role) }, z: 2 + place,
      ...(spec.overlay && place === 0 ? {
        label: { show: true, position: "right", color: colour("muted"), fontSize: 12,
          formatter: (each) => spec.texts[each.dataIndex] },
      } : {}),
    }));
    return option;
  }
  function map(spec, view) {
    const option = base(view.narrow);
    const states = spec.states;
    const data = [];
    spec.cells.forEach((row, y) => row.forEach((value, x) => {
      if (value !== null) data.push([x, y, value]);
    }));
    const room = view.narrow ? 11 : 22;
    const wide = spec.columns.length > 400 ? 0 : spec.columns.length > 120 ? 0.3 : 1;
    const named = states.length > 0; // columns are rounds: their numbers are shown
    option.xAxis = {
      type: "category", data: spec.columns, name: named ? spec.axis : "", nameLocation: "middle", nameGap: 26,
      nameTextStyle: { color: colour("muted"), fontSize: 12 },
      axisLine: { show: false }, axisTick: { show: false },
      axisLabel: {
        color: colour("muted"), fontSize: 12, hideOverlap: true,
        ...(named ? {} : { interval: (place) => Boolean(spec.heads[place]),
          formatter: (_, place) => {
            const [name, wide] = spec.heads[place] || ["", 0];
            return cut(name, Math.floor(wide * (view.wide - 110) / spec.columns.length / 7));
          } }),
      },
    };
    option.yAxis = {
      type: "category", data: spec.rows, inverse: true,
      axisLine: { show: false }, axisTick: { show: false },
      axisLabel: { color: colour("muted"), fontSize: 12, hideOverlap: true, formatter: (name) => cut(name, room) },
    };
    option.grid.top = 36;
    delete option.legend;
    option.visualMap = named ? {
      type: "piecewise", orient: "horizontal", left: 0, top: 0, itemWidth: 13, itemHeight: 13, itemGap: view.narrow ? 6 : 12,
      textStyle: { color: colour("muted"), fontSize: view.narrow ? 11 : 12 },
      pieces: states.map((one, place) => ({ value: place, label: one.name, color: colour(one.role) })),
    } : {
      type: "continuous", min: 0, max: 100, orient: "horizontal", left: 0, top: 0,
      itemWidth: 12, itemHeight: 90, text: ["most", "least"], calculable: false,
      textStyle: { color: colour("muted"), fontSize: 12 }, inRange: { color: [colour("low"), colour("high")] },
    };
    option.tooltip.trigger = "item";
    option.tooltip.formatter = (one) => {
      const [x, y, value] = one.value;
      const told = named ? states[value].name : `rank ${value} of 100`;
      const head = named ? `${spec.axis} ${spec.columns[x]}` : spec.columns[x];
      return tip(spec.rows[y], [["", head], [named ? states[value].role : "", y === 0 && !named ? `kept: ${value} %` : told]]);
    };
    option.series = [{
      type: "heatmap", data, progressive: 0,
      itemStyle: { borderWidth: wide, borderColor: colour("paper") },
      emphasis: { itemStyle: { borderColor: colour("ink"), borderWidth: 1 } },
    }];
    return option;
  }
  const KINDS = { lines, scatter, bars, map };

  // ---- A plot with its buttons ---------------------------------------------------
  function begin(figure) {
    const name = figure.dataset.chart;
    const told = figures[name];
    if (!told) { figure.replaceChildren(); return; }
    const before = plots.get(name);
    if (before) before.chart.dispose();
    const views = Object.keys(told.views);
    const state = before ? { ...before.state } : { view: views[0], zoom: null, logs: {} };
    if (!views.includes(state.view)) state.view = views[0];
    const spec = () => figures[name].views[state.view];
    const canvas = make("div", { className: "canvas", tabIndex: 0 });
    canvas.style.height = `${figure.dataset.tall}px`;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", told.label);
    const tools = make("div", { className: "tools" });
    tools.setAttribute("role", "group");
    tools.setAttribute("aria-label", `Controls of the plot: ${told.label}`);
    figure.replaceChildren(tools, canvas);
    const chart = echarts.init(canvas, null, { renderer: spec().kind === "map" ? "canvas" : "svg" });
    const plot = { figure, chart, state, name, canvas };
    plots.set(name, plot);
    plot.draw = () => {
      const shown = spec();
      const wide = canvas.clientWidth;
      const logs = state.logs[state.view] || {};
      const view = {
        narrow: wide < 480, wide,
        logX: logs.x ?? Boolean(shown.x && shown.x.log), logY: logs.y ?? false,
      };
      chart.setOption(KINDS[shown.kind](shown, view), { notMerge: true });
      if (state.zoom) chart.dispatchAction({ type: "dataZoom", start: state.zoom[0], end: state.zoom[1] });
      buttons(plot, tools, shown, view, views);
      canvas.setAttribute("aria-label", `${told.label}. ${summary(shown)}`);
    };
    canvas.addEventListener("keydown", (event) => step(plot, spec(), event));
    canvas.addEventListener("blur", () => chart.dispatchAction({ type: "hideTip" }));
    chart.on("datazoom", () => {
      const found = chart.getOption().dataZoom[0];
      state.zoom = found.start > 0 || found.end < 100 ? [found.start, found.end] : null;
    });
    plot.draw();
  }
  function summary(spec) {
    const all = spec.series ? spec.series.map((one) => {
      const last = one.points && one.points[one.points.length - 1];
      return last ? `${one.name}: ${said(last[1], spec.y.unit)} at ${said(last[0], spec.x.unit)}` : one.name;
    }) : spec.rows.length > 12 ? [`${spec.rows.length} rows`] : spec.rows;
    return all.slice(0, 12).join("; ");
  }
  function toggle(text, pressed, act, label) {
    const button = make("button", { type: "button", textContent: text, onclick: act });
    if (pressed !== null) button.setAttribute("aria-pressed", String(pressed));
    if (label) button.setAttribute("aria-label", label);
    button.dataset.key = label || text;
    return button;
  }
  function buttons(plot, tools, spec, view, views) {
    const { state } = plot;
    const held = tools.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    const made = [];
    if (views.length > 1) {
      for (const name of views) {
        made.push(toggle(name, name === state.view, () => { state.view = name; state.zoom = null; plot.draw(); }));
      }
    }
    const setLog = (axis, value) => {
      state.logs[state.view] = { ...(state.logs[state.view] || {}), [axis]: value };
      plot.draw();
    };
    if (spec.x) made.push(toggle("log x", view.logX, () => setLog("x", !view.logX), "logarithmic x axis"));
    if (spec.y && spec.y.unit !== "share") made.push(toggle("log y", view.logY, () => setLog("y", !view.logY), "logarithmic y axis"));
    if (spec.x || (spec.kind === "bars" && !spec.sideways)) {
      const zoom = (factor) => {
        const [from, to] = state.zoom || [0, 100];
        const half = Math.min(50, ((to - from) * factor) / 2);
        // Towards the right end: the last rounds are what is looked at.
        const end = factor < 1 ? to : Math.min(100, Math.max(to, (from + to) / 2 + half));
        const start = Math.max(0, end - 2 * half);
        state.zoom = start <= 0 && end >= 100 ? null : [start, end];
        plot.draw();
      };
      made.push(toggle("+", null, () => zoom(0.5), "zoom in"), toggle("−", null, () => zoom(2), "zoom out"));
      if (state.zoom) made.push(toggle("all", null, () => { state.zoom = null; plot.draw(); }, "whole range"));
    }
    tools.replaceChildren(...made);
    if (held) { const again = made.find((one) => one.dataset.key === held) || made[made.length - 1]; if (again) again.focus(); }
  }
  // Arrow keys show the values of one point after the other.
  function step(plot, spec, event) {
    const moves = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity };
    if (!(event.key in moves)) return;
    const sizes = spec.kind === "map" ? [spec.cells.flat().filter((value) => value !== null).length]
      : spec.kind === "bars" ? [spec.names.length] : spec.series.map((one) => one.points.length);
    const total = spec.kind === "scatter" ? sizes.reduce((sum, one) => sum + one, 0) : Math.max(...sizes, 0);
    if (!total) return;
    event.preventDefault();
    const next = (plot.at ?? -1) + moves[event.key];
    plot.at = Math.min(Math.max(next, 0), total - 1);
    let series = spec.kind === "lines" ? sizes.indexOf(total) : 0;
    let index = plot.at;
    while (spec.kind === "scatter" && index >= sizes[series]) { index -= sizes[series]; series += 1; }
    plot.chart.dispatchAction({ type: "showTip", seriesIndex: series, dataIndex: index });
  }
  function drawAll() {
    for (const figure of document.querySelectorAll("[data-chart]")) {
      const known = plots.get(figure.dataset.chart);
      if (known && known.figure === figure) known.draw();
      else begin(figure);
    }
    for (const [name, plot] of plots) {
      if (!document.body.contains(plot.figure)) { plot.chart.dispose(); plots.delete(name); }
    }
  }

  // ---- Theme ---------------------------------------------------------------------
  const THEMES = ["system", "light", "dark"];
  function stored() {
    try { return localStorage.getItem("fedprune-theme") || "system"; } catch { return "system"; }
  }
  function setTheme(theme, button) {
    if (theme === "system") delete root.dataset.theme; else root.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
    try { localStorage.setItem("fedprune-theme", theme); } catch { /* a file may not store */ }
  }
  function theming() {
    let theme = THEMES.includes(stored()) ? stored() : "system";
    const button = make("button", { type: "button" });
    setTheme(theme, button);
    button.onclick = () => {
      theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
      setTheme(theme, button);
      drawAll();
    };
    document.getElementById("tools").append(button);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  }

  // ---- Tables that can be sorted and searched ------------------------------------
  const order = new Map(); // label of a table -> column, direction, words that rows have
  function sortable(table) {
    const label = table.getAttribute("aria-label");
    const state = order.get(label) || { column: -1, rising: true, words: "" };
    order.set(label, state);
    const body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells];
    const rows = [...body.rows];
    const key = (row) => {
      const cell = row.cells[state.column];
      return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
    };
    const compare = (a, b) => {
      if (typeof a === "number" && typeof b === "number") return a - b;
      if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1; // unknown ones last
      return String(a).localeCompare(String(b), "en", { numeric: true });
    };
    const apply = () => {
      if (state.column >= 0) {
        const sign = state.rising ? 1 : -1;
        rows.sort((a, b) => {
          const [x, y] = [key(a), key(b)];
          return typeof x === typeof y ? sign * compare(x, y) : compare(x, y);
        });
        body.append(...rows);
      }
      heads.forEach((head, place) => {
        if (place === state.column) head.setAttribute("aria-sort", state.rising ? "ascending" : "descending");
        else head.removeAttribute("aria-sort");
      });
      const words = state.words.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
      }
    };
    heads.forEach((head, place) => {
      if (!head.textContent) return;
      const button = make("button", { type: "button", textContent: head.textContent });
      button.onclick = () => {
        state.rising = state.column === place ? !state.rising : true;
        state.column = place;
        apply();
      };
      head.replaceChildren(button);
    });
    const find = make("input", { type: "search", placeholder: "find rows", value: state.words });
    find.setAttribute("aria-label", `Find rows of ${label}`);
    find.oninput = () => { state.words = find.value; apply(); };
    table.parentElement.before(make("div", { className: "tools" }, find));
    apply();
  }

  // ---- A live page ---------------------------------------------------------------
  const SEEN_MS = 100; // the server holds a request until there is something new
  const HIDDEN_MS = 15000;
  let version = "";
  let [busy, ended, timer] = [false, false, 0];
  function replaced(id, markup) {
    const place = document.getElementById(id);
    if (!place) return false;
    const open = [...place.querySelectorAll("details")].map((one) => one.open);
    const held = place.contains(document.activeElement);
    const made = new DOMParser().parseFromString(markup, "text/html").body;
    const before = place.querySelector("[data-chart]");
    const after = made.querySelector("[data-chart]");
    // A plot stays where it is, with its zoom and its focus; its figures are new.
    if (before && after && before.dataset.chart === after.dataset.chart && before.dataset.tall === after.dataset.tall) after.replaceWith(before);
    else if (held) return false; // nothing is taken from under a reader's keys
    place.replaceChildren(...made.childNodes);
    [...place.querySelectorAll("details")].forEach((one, at) => { one.open = Boolean(open[at]); });
    place.querySelectorAll("table[data-sortable]").forEach(sortable);
    return true;
  }
  const markups = new Map();
  let [latest, behind] = [null, false]; // what was told last; whether a part of it waits
  function take(told) {
    [latest, behind] = [told, false];
    figures = told.figures;
    document.title = `${told.title} · FedPrune`;
    const main = document.getElementById("content");
    for (const section of [...main.children]) {
      if (!(section.id in told.parts)) section.remove();
    }
    let last = null;
    for (const name of told.order) {
      let section = document.getElementById(name);
      if (!section) {
        section = make("section", { id: name });
        if (last) last.after(section); else main.prepend(section);
      }
      section.classList.toggle("half", told.half.includes(name));
      last = section;
    }
    for (const [name, markup] of Object.entries(told.parts)) {
      if (markups.get(name) === markup) continue;
      if (replaced(name, markup)) markups.set(name, markup);
      else behind = true;
    }
    drawAll();
  }
  function connection(text, kind) {
    const place = document.getElementById("connection");
    if (place.textContent !== text) place.textContent = text;
    place.className = kind;
  }
  async function poll() {
    if (busy) return;
    busy = true;
    let again = document.hidden || ended ? HIDDEN_MS : SEEN_MS;
    try {
      const answer = await fetch("figures.json", { headers: version ? { "If-None-Match": version } : {}, cache: "no-store" });
      if (answer.status === 200) {
        const told = await answer.json();
        version = answer.headers.get("ETag");
        take(told);
        ended = told.ended;
      } else if (answer.status !== 304) throw new Error(`answer ${answer.status}`);
      if (ended) connection("the run has ended", "");
      else connection("live", "live");
    } catch {
      if (ended) return; // its program ends with it
      connection("no connection to the run; what is shown is the last state", "lost");
      again = 5000;
    }
    busy = false;
    timer = setTimeout(poll, again);
  }

  // ---- Begin ---------------------------------------------------------------------
  theming();
  document.querySelectorAll("table[data-sortable]").forEach(sortable);
  drawAll();
  let resized = 0;
  addEventListener("resize", () => {
    clearTimeout(resized);
    resized = setTimeout(() => plots.forEach((plot) => { plot.chart.resize(); plot.draw(); }), still ? 0 : 120);
  });
  if ("live" in document.body.dataset) {
    poll();
    // A part that the reader has left may be replaced, though the run has ended.
    document.addEventListener("focusout", () => { if (behind) setTimeout(() => take(latest), 0); });
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) { clearTimeout(timer); poll(); }
    });
  }
})();
