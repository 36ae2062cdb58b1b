"use strict";
(() => {
  // Lengths are Å in the image, px on the screen. `view` is shared by both canvases, so that they move together.
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const make = (tag, attributes = {}, ...children) => {
    const svg = ["svg", "rect", "line", "text", "polyline"].includes(tag);
    const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };
  const MISSING = -(2 ** 31), RADIUS = 0.35, POINT = 0.6, PAGE = 50, SAMPLE = 20000;
  const whole = (number) => number.toLocaleString("en-US");

  // ---- the table of atoms
  const unpack = (text, Type) => {
    const raw = atob(text), bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
    return new Type(bytes.buffer);
  };
  for (const field of data.fields) {
    field.values = unpack(field.data, field.kind === "real" ? Float64Array : Int32Array);
    field.unit = field.kind === "whole" ? 10 ** field.digits : 1;
    delete field.data;
  }
  const named = Object.fromEntries(data.fields.map((field) => [field.name, field]));
  const numberOf = (field, row) => {
    const value = field.values[row];
    return field.kind === "whole" ? (value === MISSING ? NaN : value / field.unit) : value;
  };
  const textOf = (field, row) => {
    if (field.kind === "text") return field.texts[field.values[row]];
    const value = numberOf(field, row);
    return Number.isNaN(value) ? "" : value.toFixed(field.digits);
  };
  const total = named.id.values.length;
  const X = new Float32Array(total), Y = new Float32Array(total), P = new Float32Array(total), L = new Int32Array(total);
  const labels = named.class.texts.map((text) => data.classes.findIndex((one) => one.name === text));
  for (let row = 0; row < total; row++) {
    X[row] = numberOf(named.x_A, row);
    Y[row] = numberOf(named.y_A, row);
    P[row] = numberOf(named.probability, row);
    L[row] = labels[named.class.values[row]];
  }

  // ---- what is shown
  const state = {
    frame: 0, mode: "both", classes: data.classes.map(() => true), threshold: 0, kinds: new Set(), rings: true,
    colourBy: "", opacity: 0.6, contrast: 1, invert: false, chosen: -1, hovered: -1, pointer: null, inView: false,
    sort: { name: "id", up: true }, page: 0,
  };
  let frame = null, shown = new Int32Array(0), order = [], grid = null;
  const view = { x: 0, y: 0, scale: 1, whole: true };
  const panes = ["image", "output"].map((name) => ({ name, canvas: $(`canvas-${name}`), box: $(`pane-${name}`), width: 0, height: 0 }));
  const visible = (row) => state.classes[L[row]] && P[row] >= state.threshold - 1e-6;

  const gridOf = (rows, cell) => {
    const cells = new Map();
    for (const row of rows) {
      const key = Math.floor(X[row] / cell) + 65536 * Math.floor(Y[row] / cell);
      const list = cells.get(key);
      if (list) list.push(row); else cells.set(key, [row]);
    }
    return {
      cell,
      *near(left, top, right, bottom) {
        for (let j = Math.floor(top / cell); j <= Math.floor(bottom / cell); j++)
          for (let i = Math.floor(left / cell); i <= Math.floor(right / cell); i++) {
            const list = cells.get(i + 65536 * j);
            if (list) yield* list;
          }
      },
    };
  };

  // ---- drawing
  const onScreen = (pane, x, y) => [(x - view.x) * view.scale + pane.width / 2, (y - view.y) * view.scale + pane.height / 2];
  const inImage = (pane, x, y) => [(x - pane.width / 2) / view.scale + view.x, (y - pane.height / 2) / view.scale + view.y];
  const ratio = () => window.devicePixelRatio || 1;
  const palettes = {
    sequential: ["#440154", "#3b528b", "#21918c", "#5ec962", "#fde725"],
    diverging: ["#2166ac", "#92c5de", "#f7f7f7", "#f4a582", "#b2182b"],
  };
  const mixed = (stops, share) => {
    const place = Math.min(Math.max(share, 0), 1) * (stops.length - 1), low = Math.min(Math.floor(place), stops.length - 2);
    const channel = (text, k) => parseInt(text.slice(1 + 2 * k, 3 + 2 * k), 16);
    return `rgb(${[0, 1, 2].map((k) => Math.round(channel(stops[low], k) + (place - low) * (channel(stops[low + 1], k) - channel(stops[low], k)))).join()})`;
  };
  let colouring = null; // {field, low, high, shades} where atoms are coloured by a number
  const drawPicture = (context, pane, picture, size, sampling) => {
    if (!picture || !picture.complete || !picture.naturalWidth) return;
    const [left, top] = onScreen(pane, -0.5 * sampling, -0.5 * sampling);
    const width = size[0] * sampling * view.scale, height = size[1] * sampling * view.scale;
    context.imageSmoothingEnabled = width * ratio() < 1.5 * picture.naturalWidth;
    context.imageSmoothingQuality = "high";
    context.drawImage(picture, left, top, width, height);
  };
  const drawMarks = (context, pane) => {
    for (const mark of frame.marks) {
      if (!state.kinds.has(mark.kind)) continue;
      context.beginPath();
      if (mark.points.length === 1) {
        const [x, y] = onScreen(pane, ...mark.points[0]);
        context.arc(x, y, Math.max(POINT * view.scale, 5), 0, 2 * Math.PI);
      } else mark.points.forEach((point, k) => context[k ? "lineTo" : "moveTo"](...onScreen(pane, ...point)));
      if (mark.points.length > 2) {
        context.closePath();
        context.globalAlpha = 0.4;
        context.fillStyle = mark.colour;
        context.fill();
        context.globalAlpha = 1;
      } else {
        context.strokeStyle = mark.colour;
        context.lineWidth = 2;
        context.stroke();
      }
    }
  };
  const drawAtoms = (context, pane) => {
    const radius = Math.max(RADIUS * view.scale, 1), [left, top] = inImage(pane, 0, 0), [right, bottom] = inImage(pane, pane.width, pane.height);
    const buckets = new Map();
    let number = 0;
    for (const row of grid.near(left - RADIUS, top - RADIUS, right + RADIUS, bottom + RADIUS)) {
      let colour = data.classes[L[row]].colour;
      if (colouring) {
        const value = numberOf(colouring.field, row);
        colour = Number.isNaN(value) ? "#808080" : colouring.shades[Math.round(63 * Math.min(Math.max((value - colouring.low) / (colouring.high - colouring.low), 0), 1))];
      }
      const list = buckets.get(colour);
      if (list) list.push(row); else buckets.set(colour, [row]);
      number++;
    }
    const dots = radius < 2.2 || number > 30000;
    for (const [colour, rows] of buckets) {
      context.fillStyle = context.strokeStyle = colour;
      context.lineWidth = Math.min(2, 0.9 + radius / 12);
      if (dots) {
        const side = Math.max(2 / ratio(), Math.min(radius, 4));
        for (const row of rows) {
          const [x, y] = onScreen(pane, X[row], Y[row]);
          context.fillRect(x - side / 2, y - side / 2, side, side);
        }
        continue;
      }
      context.beginPath();
      for (const row of rows) {
        const [x, y] = onScreen(pane, X[row], Y[row]);
        context.moveTo(x + radius, y);
        context.arc(x, y, radius, 0, 2 * Math.PI);
      }
      if (colouring) context.fill(); else context.stroke();
    }
    return number;
  };
  const ring = (context, pane, row, colour) => {
    if (row < 0) return;
    const [x, y] = onScreen(pane, X[row], Y[row]);
    context.beginPath();
    context.arc(x, y, Math.max(RADIUS * view.scale * 1.45, 6), 0, 2 * Math.PI);
    context.strokeStyle = "#000"; context.lineWidth = 4; context.stroke();
    context.strokeStyle = colour; context.lineWidth = 2; context.stroke();
  };
  const drawScale = (context, pane) => {
    const wanted = 110 / view.scale, power = 10 ** Math.floor(Math.log10(wanted));
    const length = [5, 2, 1].map((k) => k * power).find((k) => k <= wanted), width = length * view.scale;
    const text = length >= 10 ? `${+(length / 10).toPrecision(3)} nm` : `${+length.toPrecision(3)} Å`;
    const x = 14, y = pane.height - 16;
    context.font = "12px system-ui, sans-serif";
    context.fillStyle = "#000a";
    context.fillRect(x - 7, y - 24, Math.max(width, context.measureText(text).width) + 14, 34);
    context.fillStyle = "#fff";
    context.fillRect(x, y, width, 3);
    context.fillText(text, x, y - 7);
  };
  const draw = () => {
    for (const pane of panes) {
      if (!pane.width || !pane.height) continue;
      const context = pane.canvas.getContext("2d");
      context.setTransform(ratio(), 0, 0, ratio(), 0, 0);
      context.fillStyle = "#0b0d10";
      context.fillRect(0, 0, pane.width, pane.height);
      const output = pane.name === "output";
      if (!output) {
        context.filter = `contrast(${state.contrast})${state.invert ? " invert(1)" : ""}`;
        drawPicture(context, pane, frame.imagePicture, frame.size, frame.sampling);
        context.filter = "none";
      }
      if (frame.output && (output || state.mode === "blend")) {
        context.globalAlpha = output ? 1 : state.opacity;
        drawPicture(context, pane, frame.outputPicture, frame.outputSize, frame.outputSampling);
        context.globalAlpha = 1;
      }
      drawMarks(context, pane);
      pane.canvas.dataset.atoms = state.rings ? drawAtoms(context, pane) : 0;
      ring(context, pane, state.chosen, "#ffd400");
      ring(context, pane, state.hovered, "#fff");
      if (state.pointer && state.pointer.pane !== pane) {
        const [x, y] = onScreen(pane, state.pointer.x, state.pointer.y);
        context.strokeStyle = "#fff"; context.lineWidth = 1;
        context.beginPath();
        context.moveTo(x - 8, y); context.lineTo(x + 8, y); context.moveTo(x, y - 8); context.lineTo(x, y + 8);
        context.stroke();
      }
      drawScale(context, pane);
      pane.canvas.dataset.scale = view.scale;
      pane.canvas.dataset.centre = `${view.x.toFixed(3)} ${view.y.toFixed(3)}`;
    }
  };
  let waiting = false;
  const redraw = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; draw(); });
    if (state.inView) later();
  };

  // ---- the view
  const size = () => [frame.size[0] * frame.sampling, frame.size[1] * frame.sampling];
  const open = () => panes.find((pane) => pane.width) || panes[0];
  const fitted = () => Math.min(open().width / size()[0], open().height / size()[1]) * 0.98;
  const fit = () => {
    view.x = size()[0] / 2 - frame.sampling / 2;
    view.y = size()[1] / 2 - frame.sampling / 2;
    view.scale = fitted();
    view.whole = true;
    redraw();
  };
  const move = (dx, dy) => {
    view.whole = false;
    const [width, height] = size();
    view.x = Math.min(Math.max(view.x + dx, 0), width);
    view.y = Math.min(Math.max(view.y + dy, 0), height);
    redraw();
  };
  const zoom = (factor, pane = open(), x = pane.width / 2, y = pane.height / 2) => {
    const [fixedX, fixedY] = inImage(pane, x, y);
    view.scale = Math.min(Math.max(view.scale * factor, fitted() / 2), 400);
    view.x = fixedX - (x - pane.width / 2) / view.scale;
    view.y = fixedY - (y - pane.height / 2) / view.scale;
    move(0, 0);
  };
  const measure = () => {
    const before = open().width, box = $("panes").getBoundingClientRect();
    const columns = getComputedStyle($("panes")).gridTemplateColumns.split(" ").length, [wide, high] = size();
    // As high as the image, or as what stands beside it, as long as the window shows all of it.
    const beside = document.querySelector("aside").offsetHeight - ($("viewer").offsetHeight - box.height);
    const height = Math.min(Math.max((box.width / columns) * (high / wide), beside, 340), 0.8 * window.innerHeight);
    $("panes").style.height = window.innerWidth > 900 ? `${Math.round(height)}px` : "";
    for (const pane of panes) {
      const box = pane.box.getBoundingClientRect();
      pane.width = box.width; pane.height = box.height;
      const width = Math.round(box.width * ratio()), height = Math.round(box.height * ratio());
      if (pane.canvas.width !== width || pane.canvas.height !== height) { pane.canvas.width = width; pane.canvas.height = height; }
    }
    // A view of the whole image stays one.
    if (!before || view.whole) fit(); else redraw();
  };

  // ---- filters
  const filter = () => {
    const [start, stop] = frame.rows, rows = [];
    for (let row = start; row < stop; row++) if (visible(row)) rows.push(row);
    shown = Int32Array.from(rows);
    grid = gridOf(shown, 3);
    if (state.chosen >= 0 && !shown.includes(state.chosen)) state.chosen = -1;
    state.hovered = -1;
    sorted();
    const all = stop - start;
    $("rows-text").textContent = shown.length === all ? `${whole(all)} atoms` : `${whole(shown.length)} of ${whole(all)} atoms`;
    $("threshold-text").textContent = state.threshold.toFixed(2);
    $("classes").querySelectorAll(".number").forEach((element, label) => {
      let number = 0;
      for (const row of shown) if (L[row] === label) number++;
      element.textContent = whole(number);
    });
    colours();
    redraw();
    later();
  };
  const colours = () => {
    colouring = null;
    const field = named[state.colourBy];
    $("colours").hidden = !field;
    if (!field) return;
    const values = [];
    for (let row = frame.rows[0]; row < frame.rows[1]; row++) {
      const value = numberOf(field, row);
      if (!Number.isNaN(value)) values.push(value);
    }
    values.sort((a, b) => a - b);
    let low = values[Math.floor(0.02 * (values.length - 1))] ?? 0, high = values[Math.ceil(0.98 * (values.length - 1))] ?? 1;
    const diverging = low < 0 && high > 0;
    if (diverging) { high = Math.max(-low, high); low = -high; }
    if (high <= low) high = low + 1;
    const stops = palettes[diverging ? "diverging" : "sequential"];
    colouring = { field, low, high, shades: Array.from({ length: 64 }, (_, k) => mixed(stops, k / 63)) };
    const context = $("colour-bar").getContext("2d");
    colouring.shades.forEach((shade, k) => { context.fillStyle = shade; context.fillRect(4 * k, 0, 4, 10); });
    $("colour-low").textContent = low.toPrecision(3);
    $("colour-high").textContent = high.toPrecision(3);
  };

  // ---- histograms
  let timer = 0;
  const later = () => { clearTimeout(timer); timer = setTimeout(histograms, 80); };
  const inWindow = (row) => {
    const pane = open(), [left, top] = inImage(pane, 0, 0), [right, bottom] = inImage(pane, pane.width, pane.height);
    return X[row] >= left && X[row] <= right && Y[row] >= top && Y[row] <= bottom;
  };
  const plot = (svg, bins, low, high, unit, label, bar = () => "bar") => {
    const width = 320, bottom = 98, top = 18, left = 6, right = 314, highest = Math.max(1, ...bins);
    const at = (value) => left + ((value - low) / (high - low)) * (right - left), step = (right - left) / bins.length;
    svg.replaceChildren(make("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }));
    bins.forEach((number, k) => {
      const height = ((bottom - top) * number) / highest;
      if (number) svg.append(make("rect", { class: bar(k), x: left + k * step + 0.4, y: bottom - height, width: Math.max(step - 0.8, 0.6), height, "data-number": number }));
    });
    const every = [0.1, 0.2, 0.25, 0.5, 1, 2, 5, 10, 20, 50].find((one) => (high - low) / one <= 6) || (high - low) / 5;
    for (let value = low; value <= high + 1e-9; value += every) {
      const x = at(value), anchor = x < 14 ? "start" : x > 306 ? "end" : "middle";
      svg.append(make("line", { class: "axis", x1: x, x2: x, y1: bottom, y2: bottom + 4 }));
      svg.append(make("text", { x, y: bottom + 15, "text-anchor": anchor }, (+value.toFixed(2)).toString()));
    }
    svg.append(make("text", { x: width / 2, y: bottom + 29, "text-anchor": "middle" }, unit));
    svg.append(make("text", { x: left, y: 11 }, `${whole(highest)} in the highest bar`));
    svg.setAttribute("aria-label", label);
    return at;
  };
  const histograms = () => {
    const [start, stop] = frame.rows, bins = new Array(40).fill(0), chosen = Math.round(state.threshold * 40);
    let number = 0;
    for (let row = start; row < stop; row++)
      if (state.classes[L[row]] && (!state.inView || inWindow(row))) { bins[Math.min(39, Math.floor(P[row] * 40))]++; number++; }
    const at = plot($("probabilities"), bins, 0, 1, "probability", `Histogram of ${number} probabilities`, (k) => (k >= chosen ? "bar" : "off"));
    if (state.threshold > 0)
      $("probabilities").append(make("line", { class: "cut", x1: at(state.threshold), x2: at(state.threshold), y1: 16, y2: 98 }));
    distances(state.inView ? shown.filter(inWindow) : shown);
  };
  const distances = (rows) => {
    const svg = $("distances"), text = $("distance-text");
    if (rows.length < 2) {
      svg.replaceChildren();
      svg.setAttribute("aria-label", "No neighbour distances");
      text.textContent = "Fewer than two atoms are shown.";
      return;
    }
    const every = Math.ceil(rows.length / SAMPLE);
    const nearest = [];
    for (let k = 0; k < rows.length; k += every) {
      const row = rows[k];
      for (let reach = 3; reach <= 48; reach *= 2) {
        let least = Infinity;
        for (const other of grid.near(X[row] - reach, Y[row] - reach, X[row] + reach, Y[row] + reach)) {
          const distance = Math.hypot(X[other] - X[row], Y[other] - Y[row]);
          if (other !== row && distance < least) least = distance;
        }
        if (least <= reach) { nearest.push(least); break; }
      }
    }
    nearest.sort((a, b) => a - b);
    const median = nearest[Math.floor(nearest.length / 2)];
    const limit = Math.max(1, Math.ceil(2.6 * (median || 1) * 2) / 2), bins = new Array(80).fill(0);
    for (let k = 0; k < rows.length; k += every) {
      const row = rows[k];
      for (const other of grid.near(X[row] - limit, Y[row] - limit, X[row] + limit, Y[row] + limit)) {
        const distance = Math.hypot(X[other] - X[row], Y[other] - Y[row]);
        // Each pair once, unless only some atoms are asked.
        if (other !== row && (every > 1 || other > row) && distance < limit) bins[Math.floor((80 * distance) / limit)]++;
      }
    }
    const summary = median ? `Nearest neighbour: median ${median.toFixed(2)} Å` : "No neighbour within 48 Å";
    plot(svg, bins, 0, limit, "distance of two atoms (Å)", `Histogram of neighbour distances. ${summary}`);
    text.textContent = `${summary}, of ${whole(nearest.length)} atoms${every > 1 ? `, one in ${every}` : ""}.`;
  };

  // ---- the table
  const sorted = () => {
    const field = named[state.sort.name], sign = state.sort.up ? 1 : -1;
    order = Array.from(shown);
    if (field.name !== "id" || !state.sort.up) {
      const value = (row) => (field.kind === "text" ? field.values[row] : numberOf(field, row));
      order.sort((a, b) => {
        const one = value(a), two = value(b);
        if (Number.isNaN(one) || Number.isNaN(two)) return Number.isNaN(one) - Number.isNaN(two) || a - b;
        return sign * (one - two) || a - b;
      });
    }
    state.page = Math.min(state.page, Math.max(0, Math.ceil(order.length / PAGE) - 1));
    rows();
  };
  const rows = () => {
    const body = $("table").tBodies[0], pages = Math.max(1, Math.ceil(order.length / PAGE)), first = state.page * PAGE;
    body.replaceChildren(...order.slice(first, first + PAGE).map((row) => {
      const line = make("tr", row === state.chosen ? { class: "chosen" } : {});
      line.dataset.row = row;
      for (const field of data.fields) {
        const cell = make("td", field.kind === "text" ? { class: "text" } : {}), text = textOf(field, row);
        if (field.name === "id") {
          const button = make("button", { type: "button", "aria-label": `Show atom ${text} in the image` }, text);
          button.addEventListener("click", () => choose(row));
          cell.append(button);
        } else cell.textContent = text;
        line.append(cell);
      }
      return line;
    }));
    $("page-text").textContent = `page ${state.page + 1} of ${whole(pages)}`;
    $("page-first").disabled = $("page-before").disabled = state.page === 0;
    $("page-last").disabled = $("page-after").disabled = state.page === pages - 1;
    document.querySelectorAll("#table th").forEach((head) => {
      const mine = head.dataset.name === state.sort.name;
      head.setAttribute("aria-sort", mine ? (state.sort.up ? "ascending" : "descending") : "none");
      head.querySelector("button").textContent = head.dataset.name + (mine ? (state.sort.up ? " ▲" : " ▼") : "");
    });
  };
  const choose = (row) => {
    state.chosen = row;
    const [x, y] = onScreen(open(), X[row], Y[row]);
    const far = x < 40 || y < 40 || x > open().width - 40 || y > open().height - 40;
    if (far || view.scale < 12) { view.x = X[row]; view.y = Y[row]; }
    view.scale = Math.max(view.scale, 12);
    view.whole = false;
    const place = order.indexOf(row);
    if (place >= 0) state.page = Math.floor(place / PAGE);
    rows();
    redraw();
    $("said").textContent = data.fields.map((field) => `${field.name} ${textOf(field, row)}`).join(", ");
  };
  // Spreadsheets execute a text that begins like a formula; an apostrophe in front prevents it, see hrtem.csv_files.
  const guarded = (text) => (/^'*[=+\-@\t\r\n]/.test(text) && Number.isNaN(Number(text)) ? `'${text}` : text);
  const quoted = (text) => ((text = guarded(text)), /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const download = (chosen, name) => {
    const parts = [data.fields.map((field) => quoted(field.name)).join() + "\r\n"];
    for (const row of chosen) parts.push(data.fields.map((field) => quoted(textOf(field, row))).join() + "\r\n");
    const address = URL.createObjectURL(new Blob(parts, { type: "text/csv" }));
    const link = make("a", { href: address, download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  };

  // ---- pointer and keys
  const nearestTo = (x, y, reach) => {
    let best = -1, least = reach;
    for (const row of grid.near(x - reach, y - reach, x + reach, y + reach)) {
      const distance = Math.hypot(X[row] - x, Y[row] - y);
      if (distance < least) { least = distance; best = row; }
    }
    return best;
  };
  const inside = (points, x, y) => {
    let within = false;
    for (let k = 0, before = points.length - 1; k < points.length; before = k++) {
      const [ax, ay] = points[k], [bx, by] = points[before];
      if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) within = !within;
    }
    return within;
  };
  const markAt = (x, y) => frame.marks.findLast((mark) => state.kinds.has(mark.kind) && (mark.points.length > 2
    ? inside(mark.points, x, y)
    : mark.points.some(([px, py]) => Math.hypot(px - x, py - y) < Math.max(POINT, 6 / view.scale))));
  const tip = (event, pane) => {
    const box = pane.canvas.getBoundingClientRect(), [x, y] = inImage(pane, event.clientX - box.left, event.clientY - box.top);
    state.pointer = { pane, x, y };
    $("pointer").textContent = `x ${x.toFixed(2)} Å, y ${y.toFixed(2)} Å · pixel ${Math.round(x / frame.sampling)}, ${Math.round(y / frame.sampling)}`;
    state.hovered = state.rings ? nearestTo(x, y, Math.max(1.3 * RADIUS, 9 / view.scale)) : -1;
    const mark = state.hovered < 0 ? markAt(x, y) : null, element = $("tip");
    element.hidden = state.hovered < 0 && !mark;
    if (state.hovered >= 0) {
      const list = make("dl");
      for (const field of data.fields) list.append(make("dt", {}, field.name), make("dd", {}, textOf(field, state.hovered) || "–"));
      element.replaceChildren(list);
    } else if (mark) element.replaceChildren(mark.text || mark.kind);
    if (!element.hidden) {
      const width = element.offsetWidth, height = element.offsetHeight;
      element.style.left = `${Math.min(event.clientX + 16, window.innerWidth - width - 8)}px`;
      element.style.top = `${Math.max(8, Math.min(event.clientY + 16, window.innerHeight - height - 8))}px`;
    }
    redraw();
  };
  const hideTip = () => { $("tip").hidden = true; state.hovered = -1; state.pointer = null; $("pointer").textContent = "\u00a0"; redraw(); };
  const step = (by) => {
    if (!order.length) return;
    const place = order.indexOf(state.chosen);
    choose(order[place < 0 ? (by > 0 ? 0 : order.length - 1) : (place + by + order.length) % order.length]);
  };
  for (const pane of panes) {
    const canvas = pane.canvas;
    let held = null;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      held = { x: event.clientX, y: event.clientY, moved: false };
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!held) return tip(event, pane);
      const dx = event.clientX - held.x, dy = event.clientY - held.y;
      if (!held.moved && Math.hypot(dx, dy) < 4) return;
      Object.assign(held, { x: event.clientX, y: event.clientY, moved: true });
      canvas.classList.add("moving");
      $("tip").hidden = true;
      move(-dx / view.scale, -dy / view.scale);
    });
    const release = () => {
      if (held && !held.moved && state.hovered >= 0) {
        state.chosen = state.hovered;
        const place = order.indexOf(state.chosen);
        if (place >= 0) state.page = Math.floor(place / PAGE);
        rows();
        redraw();
      }
      held = null;
      canvas.classList.remove("moving");
    };
    canvas.addEventListener("pointerup", release);
    canvas.addEventListener("pointercancel", release);
    canvas.addEventListener("pointerleave", hideTip);
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const box = canvas.getBoundingClientRect(), pixels = event.deltaMode === 1 ? 33 : 1;
      zoom(Math.exp(-0.0016 * pixels * event.deltaY), pane, event.clientX - box.left, event.clientY - box.top);
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const far = 60 / view.scale;
      const actions = {
        ArrowLeft: () => move(-far, 0), ArrowRight: () => move(far, 0), ArrowUp: () => move(0, -far), ArrowDown: () => move(0, far),
        "+": () => zoom(1.3), "=": () => zoom(1.3), "-": () => zoom(1 / 1.3), 0: fit, n: () => step(1), p: () => step(-1),
        Escape: () => { state.chosen = -1; rows(); hideTip(); },
      };
      const action = actions[event.key] || actions[event.key.toLowerCase()];
      if (action) { event.preventDefault(); action(); }
    });
  }

  // ---- frames
  const load = (address) => {
    if (!address) return null;
    const picture = new Image();
    picture.onload = redraw;
    picture.src = address;
    return picture;
  };
  const curve = () => {
    if (!data.curve) return;
    const { values, step, about } = data.curve, low = Math.min(...values), high = Math.max(...values, low + 1e-9);
    const at = (place) => (values.length < 2 ? 0 : (1000 * place) / (values.length - 1));
    const points = values.map((value, k) => `${at(k).toFixed(1)},${(84 - (78 * (value - low)) / (high - low)).toFixed(1)}`);
    const now = at(frame.number / step);
    $("curve").replaceChildren(make("polyline", { points: points.join(" ") }), make("line", { x1: now, x2: now, y1: 0, y2: 90 }));
    const value = values[Math.min(Math.round(frame.number / step), values.length - 1)];
    $("curve-text").textContent = `${about}: ${+value.toFixed(2)} in frame ${frame.number}, ${+low.toFixed(2)} to ${+high.toFixed(2)} in all`;
    $("curve").setAttribute("aria-label", $("curve-text").textContent);
  };
  let playing = 0;
  const play = (on) => {
    clearInterval(playing);
    playing = on ? setInterval(() => show((state.frame + 1) % data.frames.length), 250) : 0;
    $("play").textContent = on ? "Pause" : "Play";
    $("play").setAttribute("aria-pressed", String(on));
  };
  const show = (number) => {
    state.frame = Math.min(Math.max(number, 0), data.frames.length - 1);
    frame = data.frames[state.frame];
    frame.imagePicture ??= load(frame.image);
    frame.outputPicture ??= load(frame.output);
    state.chosen = -1;
    $("warning").hidden = frame.inDomain !== false;
    const badge = $("domain");
    badge.className = `badge ${frame.inDomain === true ? "good" : frame.inDomain === false ? "bad" : ""}`;
    badge.textContent = frame.inDomain === true ? "like the training images" : frame.inDomain === false ? "unlike the training images" : "likeness to the training unknown";
    const [width, height] = frame.size, [start, stop] = frame.rows;
    $("summary").textContent = `${whole(stop - start)} atoms in ${width} × ${height} px of ${+frame.sampling.toFixed(4)} Å, ${(size()[0] / 10).toFixed(1)} × ${(size()[1] / 10).toFixed(1)} nm`;
    const notes = [];
    if (frame.shrunk > 1) notes.push(`The image is shown at 1/${frame.shrunk} of its resolution; positions are exact, and overlay.png has all pixels.`);
    if (data.allFrames > data.frames.length) notes.push(`${data.frames.length} of ${data.allFrames} frames are shown; ${data.curve ? "columns.csv" : "atoms.csv"} has all.`);
    $("notes").textContent = notes.join(" ");
    $("frame").value = state.frame;
    $("frame-text").textContent = `${frame.number} of 0–${data.allFrames - 1}`;
    $("frame-before").disabled = state.frame === 0;
    $("frame-after").disabled = state.frame === data.frames.length - 1;
    curve();
    for (const input of document.querySelectorAll("#modes input")) input.disabled = !frame.output && input.value !== "image";
    if (!frame.output && state.mode !== "image") $("modes").querySelector('[value="image"]').click();
    markChoices();
    filter();
  };

  // ---- the controls
  const choice = (swatch, colour, text, number, on, change) => {
    const input = make("input", { type: "checkbox" }), mark = make("span", { class: `swatch ${swatch}` });
    input.checked = on;
    mark.style.background = colour;
    input.addEventListener("change", () => change(input.checked));
    return make("label", { class: "choice" }, input, mark, make("span", {}, text), make("span", { class: "number" }, number));
  };
  const off = new Set(); // kinds of marks that were switched off, in whatever frame
  const markChoices = () => {
    const kinds = new Map();
    for (const mark of frame.marks) {
      const kind = kinds.get(mark.kind) || { colour: mark.colour, number: 0 };
      kind.number++;
      kinds.set(mark.kind, kind);
    }
    $("marks-section").hidden = !kinds.size;
    state.kinds = new Set([...kinds.keys()].filter((kind) => !off.has(kind)));
    $("marks").replaceChildren($("marks").querySelector("legend"), ...[...kinds].map(([kind, { colour, number }]) => choice("square", colour, kind, whole(number), state.kinds.has(kind), (on) => {
      state.kinds[on ? "add" : "delete"](kind);
      off[on ? "delete" : "add"](kind);
      redraw();
    })));
  };
  data.classes.forEach((one, label) => $("classes").append(choice("", one.colour, one.name, "", true, (on) => { state.classes[label] = on; filter(); })));
  $("colour-by").append(make("option", { value: "" }, "class"), ...data.fields
    .filter((field) => field.kind !== "text" && !["frame", "id", "x_A", "y_A", "x_px", "y_px", "in_domain"].includes(field.name))
    .map((field) => make("option", { value: field.name }, field.name)));
  $("table").tHead.rows[0].append(...data.fields.map((field) => {
    const head = make("th", { scope: "col", title: field.about, class: field.kind === "text" ? "text" : "" }, make("button", { type: "button" }, field.name));
    head.dataset.name = field.name;
    head.firstChild.addEventListener("click", () => {
      state.sort = { name: field.name, up: state.sort.name === field.name ? !state.sort.up : true };
      state.page = 0;
      sorted();
    });
    return head;
  }));
  $("settings").tBodies[0].append(...data.settings.map(([name, value]) => make("tr", {}, make("td", {}, name), make("td", {}, value))));
  $("made").textContent = `Made by ${data.made}. This page holds all it shows and loads nothing.`;

  const on = (id, event, action) => $(id).addEventListener(event, action);
  on("modes", "change", (event) => {
    state.mode = $("panes").dataset.mode = event.target.value;
    $("opacity-label").hidden = state.mode !== "blend";
    measure();
  });
  on("opacity", "input", (event) => { state.opacity = event.target.value / 100; redraw(); });
  on("contrast", "input", (event) => { state.contrast = event.target.value / 100; redraw(); });
  on("invert", "change", (event) => { state.invert = event.target.checked; redraw(); });
  on("threshold", "input", (event) => { state.threshold = +event.target.value; filter(); });
  on("colour-by", "change", (event) => { state.colourBy = event.target.value; colours(); redraw(); });
  on("rings", "change", (event) => { state.rings = event.target.checked; redraw(); });
  on("in-view", "change", (event) => { state.inView = event.target.checked; later(); });
  on("zoom-in", "click", () => zoom(1.5));
  on("zoom-out", "click", () => zoom(1 / 1.5));
  on("fit", "click", fit);
  on("frame", "input", (event) => { play(false); show(+event.target.value); });
  on("play", "click", () => play(!playing));
  on("curve", "click", (event) => {
    const box = $("curve").getBoundingClientRect(), wanted = ((event.clientX - box.left) / box.width) * (data.allFrames - 1);
    let nearest = 0;
    data.frames.forEach((one, place) => { if (Math.abs(one.number - wanted) < Math.abs(data.frames[nearest].number - wanted)) nearest = place; });
    play(false);
    show(nearest);
  });
  on("frame-before", "click", () => show(state.frame - 1));
  on("frame-after", "click", () => show(state.frame + 1));
  const turn = (page) => { state.page = page; rows(); };
  on("page-first", "click", () => turn(0));
  on("page-before", "click", () => turn(state.page - 1));
  on("page-after", "click", () => turn(state.page + 1));
  on("page-last", "click", () => turn(Math.ceil(order.length / PAGE) - 1));
  const stem = data.title.replace(/[^\p{L}\p{N}._-]+/gu, "_");
  on("download", "click", () => download(order, `${stem}-shown.csv`));
  on("download-all", "click", () => download(Int32Array.from({ length: total }, (_, row) => row), `${stem}.csv`));
  on("theme", "click", () => {
    const root = document.documentElement, dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
  $("frame").max = data.frames.length - 1;
  $("frame-bar").hidden = data.frames.length < 2;
  $("curve-box").hidden = !data.curve;
  const least = total ? P.reduce((a, b) => Math.min(a, b), 1) : 0;
  $("threshold").min = Math.floor(least * 20) / 20;
  state.threshold = +$("threshold").min;
  $("threshold").value = state.threshold;
  show(0);
  new ResizeObserver(measure).observe($("panes"));
  measure();
  document.documentElement.dataset.ready = "true";
})();
