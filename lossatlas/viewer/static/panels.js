// What is seen of one surface: the scene, the plane from above, and what is said of the point under the pointer. A panel
// draws what `app` holds (state, theme, races), and tells it what was pointed at.

const TALL = 0.85; // height of the scene's box
const FLOOR = -0.3;
const WHITE = [1, 1, 1];

const byteColour = (hex) => [1, 3, 5].map((k) => Number.parseInt(hex.slice(k, k + 2), 16) / 255);

function element(name, attributes = {}, ...children) {
  const found = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") found.className = value;
    else if (key.startsWith("on")) found.addEventListener(key.slice(2), value);
    else if (value !== false && value !== undefined) found.setAttribute(key, value === true ? "" : value);
  }
  found.append(...children);
  return found;
}

class Panel {
  constructor(app, surface, number) {
    this.app = app;
    this.surface = surface;
    this.number = number;
    this.box = boxOf(surface);
    this.glCanvas = element("canvas", { class: "gl" });
    this.labels = element("canvas", { class: "labels" });
    this.flatCanvas = element("canvas", {
      tabindex: 0,
      role: "img",
      "aria-label": `${surface.label}: the plane from above. Click or drag to choose a start; arrow keys move it.`,
    });
    this.solid = element(
      "div",
      {
        class: "solid",
        tabindex: 0,
        role: "img",
        "aria-label": `${surface.label}: the surface. Drag to turn it, click to choose a start; arrow keys turn it.`,
      },
      this.glCanvas,
      this.labels,
    );
    this.flat = element("div", { class: "flat" }, this.flatCanvas);
    this.readout = element("output", { class: "readout" }, "\u00a0");
    const caption = element("p", { class: "caption" });
    for (const [name, value] of surface.caption) caption.append(element("span", {}, element("b", {}, name), ` ${value}`), " ");
    this.title = element("h2", {}, surface.label);
    this.note = element("p", { class: "note" });
    this.root = element(
      "section",
      { class: "panel" },
      this.title,
      this.note,
      element("div", { class: "views" }, this.solid, this.flat),
      this.readout,
      caption,
    );
    this.renderer = null;
    if (!surface.flat && app.state.gl) {
      try {
        this.renderer = new Renderer(this.glCanvas);
      } catch {
        app.withoutScene();
      }
    }
    if (!this.renderer) this.solid.remove();
    this.renderer && this.listenSolid();
    this.listenFlat();
    this.say();
  }

  say() {
    const { surface } = this;
    const notes = [];
    const [done, all] = surface.cells;
    if (done < all)
      notes.push(
        `Unfinished: ${done} of ${all} cells; what is shown rests on ${surface.columns.length} × ${surface.rows.length} of them.`,
      );
    const field = surface.fields[this.app.state.height];
    const odd = field.values.reduce((n, v, k) => n + (surface.done[k] && !Number.isFinite(v) ? 1 : 0), 0);
    if (odd) notes.push(`${odd} cells are not finite: red crosses.`);
    const guessed = surface.interpolated.reduce((n, v) => n + v, 0);
    if (guessed)
      notes.push(
        `${guessed} of ${all} cells are not computed, but interpolated from those around them ("computed cells" marks the others).`,
      );
    if (field.error !== null && field.error > 0.1) {
      notes.push(
        `Between the cells this surface is a guess: with every second row and column left out, half of them are off by more than ${(100 * field.error).toFixed(0)} % of the spread.`,
      );
    }
    this.note.textContent = notes.join(" ");
  }

  // What is drawn ---------------------------------------------------------------------------------------------------

  /** Compute meshes and pictures anew, after the fields, scales or colours have changed. */
  rebuild() {
    const { app, surface } = this;
    const { state } = app;
    const colour = app.colour();
    this.scale = app.scale();
    this.made = {};
    this.sample = surface.flat ? null : sampler(surface, state.height, this.scale, colour);
    this.say();
    if (surface.flat) return;
    const size = [fineSize(surface.columns.length), fineSize(surface.rows.length)];
    const fine = size.map((n) => Math.min(n, 241));
    const map = app.maps[state.map];
    this.picture = paintedField(fine, this.sample, map, state.top);
    if (!this.renderer) return;
    const shown = state.overlay ? (this.number === 0 ? app.panels.map((p) => p.surface) : []) : [surface];
    const fields = shown.map((each, k) => ({
      ...heightField(fine, this.box, TALL, sampler(each, state.height, this.scale, state.overlay ? null : colour)),
      map: state.overlay ? app.maps[OVERLAID[k % OVERLAID.length]] : map,
      opacity: state.overlay && k < shown.length - 1 ? 0.72 : state.overlay && shown.length > 1 ? 0.72 : 1,
    }));
    this.renderer.setFields(fields);
    this.contourLevels = app
      .levels()
      .map((level) => this.scale.height(level))
      .filter((h) => h > 1e-6 && h < 1 - 1e-6);
  }

  /** The point of the scene over a point of the plane; its height is that of the surface unless it is given. */
  scenePoint(a, b, height) {
    const [s, t] = toShare(this.surface, a, b);
    if (!(s > -1e-9 && s < 1 + 1e-9 && t > -1e-9 && t < 1 + 1e-9)) return null;
    let h = height;
    if (h === undefined) {
      const found = this.sample(Math.min(1, Math.max(0, s)), Math.min(1, Math.max(0, t)));
      if (!found) return null;
      h = found[0];
    }
    return [(2 * s - 1) * this.box[0], (2 * t - 1) * this.box[1], h * TALL];
  }

  draw() {
    if (this.surface.flat) this.drawCurve();
    else {
      this.drawFlat();
      if (this.renderer && (!this.app.state.overlay || this.number === 0)) this.drawSolid();
    }
  }

  view() {
    const { clientWidth: width, clientHeight: height } = this.solid;
    const { azimuth, elevation, distance } = this.app.state;
    const camera = { azimuth, elevation, distance, height: 0.1 };
    return { ...viewProjection(camera, width / height), width, height };
  }

  drawSolid() {
    const { app, renderer, box } = this;
    const { state, theme } = app;
    const ratio = Math.min(2, window.devicePixelRatio || 1);
    const view = this.view();
    const [width, height] = [Math.round(view.width * ratio), Math.round(view.height * ratio)];
    if (!width || !height) return;
    if (this.glCanvas.width !== width || this.glCanvas.height !== height) {
      this.glCanvas.width = width;
      this.glCanvas.height = height;
    }
    renderer.begin(view, byteColour(theme.ground));
    const frame = [...byteColour(theme.frame), 1];
    const [eu, ev] = box;
    const square = [
      [-eu, -ev, FLOOR],
      [eu, -ev, FLOOR],
      [eu, ev, FLOOR],
      [-eu, ev, FLOOR],
      [-eu, -ev, FLOOR],
    ];
    renderer.drawLines(segmentsOf([{ points: square, ink: frame }]), { width: ratio });
    if (state.lines)
      renderer.drawLines(
        this.kept("floor", () => this.floorContours()),
        { width: 1.2 * ratio },
      );
    renderer.drawLines(
      this.kept("marks", () => this.markedCells()),
      { width: 1.6 * ratio },
    );
    renderer.drawFields({ tall: TALL, top: state.top, levels: this.contourLevels, strength: state.lines ? 0.5 : 0 });
    if (state.wire)
      renderer.drawLines(
        this.kept("wires", () => this.wires()),
        { width: 0.8 * ratio, lift: 0.0006, opacity: 0.55 },
      );
    const paths = [];
    const balls = [];
    const others = state.overlay ? app.panels : [this];
    for (const panel of others) {
      for (const run of app.racesOf(panel.number)) {
        const ink = [...byteColour(run.optimizer.color), 1];
        paths.push(...this.pathOf(run.points.subarray(0, 2 * (run.shown + 1)), ink, panel));
        const p = panel.scenePoint(run.points[2 * run.shown], run.points[2 * run.shown + 1]);
        if (p && p[2] / TALL <= state.top) balls.push(...p, ...ink.slice(0, 3));
      }
    }
    renderer.drawLines(segmentsOf(paths), { width: 2.6 * ratio, lift: 0.0015, hidden: 0.18 });
    renderer.drawLines(segmentsOf(this.trajectoryRuns()), { width: 2 * ratio, lift: 0.0015, hidden: 0.25 });
    if (state.cut) renderer.drawLines(segmentsOf(this.cutRuns()), { width: 1.6 * ratio, lift: 0.001, hidden: 0.2 });
    renderer.drawBalls(new Float32Array(this.trajectoryBalls()), { size: 9 * ratio, lift: 0.003, hidden: 0.25 });
    renderer.drawBalls(new Float32Array(balls), { size: 15 * ratio, lift: 0.004, hidden: 0.3 });
    const start = this.scenePoint(state.x, state.y);
    if (start && balls.length === 0) {
      renderer.drawBalls(new Float32Array([...start, ...WHITE]), { size: 15 * ratio, lift: 0.004, hidden: 0.4 });
    }
    const hover = app.hover && this.scenePoint(...app.hover);
    if (hover) {
      const ink = [...byteColour(theme.accent)];
      renderer.drawBalls(new Float32Array([...hover, ...ink]), { size: 10 * ratio, lift: 0.004, hidden: 0.5 });
      const stem = [{ points: [hover, [hover[0], hover[1], FLOOR]], ink: [...ink, 0.8] }];
      renderer.drawLines(segmentsOf(stem), { width: ratio, hidden: 0.3 });
    }
    this.drawLabels(view);
  }

  /** What is made once until something is changed. */
  kept(name, make) {
    if (!this.made[name]) this.made[name] = make();
    return this.made[name];
  }

  floorContours() {
    const { app, surface, box } = this;
    const runs = [];
    const shown = app.state.overlay ? app.panels.map((p) => p.surface) : [surface];
    const wanted = new Set(app.levels());
    shown.forEach((each, k) => {
      const map = app.maps[app.state.overlay ? OVERLAID[k % OVERLAID.length] : app.state.map];
      for (const { level, lines } of each.fields[app.state.height].contours) {
        if (!wanted.has(level)) continue;
        const h = this.scale.height(level);
        if (h > app.state.top) continue;
        const ink = [...colourOf(map, app.state.colour ? 0.4 : Math.min(1, Math.max(0, h))).map((c) => c / 255), 1];
        for (const points of lines) {
          runs.push({ points: points.map(([s, t]) => [(2 * s - 1) * box[0], (2 * t - 1) * box[1], FLOOR]), ink });
        }
      }
    });
    return segmentsOf(runs);
  }

  /** Crosses on the floor for cells that are not finite, squares for those that are not computed. */
  markedCells() {
    const { surface, app } = this;
    const runs = [];
    const { values } = surface.fields[app.state.height];
    const nx = surface.x.length;
    const size = Math.min(0.012, 0.6 / nx);
    surface.y.forEach((b, j) => {
      surface.x.forEach((a, i) => {
        const k = j * nx + i;
        if (surface.done[k] && Number.isFinite(values[k])) return;
        const [u, v] = this.scenePoint(a, b, 0);
        const at = (du, dv) => [u + du * size, v + dv * size, FLOOR];
        if (surface.done[k]) {
          const ink = [0.85, 0.15, 0.12, 1];
          runs.push({ points: [at(-1, -1), at(1, 1)], ink }, { points: [at(-1, 1), at(1, -1)], ink });
        } else {
          const ink = [0.55, 0.55, 0.55, 1];
          runs.push({ points: [at(-1, -1), at(1, -1), at(1, 1), at(-1, 1), at(-1, -1)], ink });
        }
      });
    });
    return segmentsOf(runs);
  }

  /** The grid of the cells that were computed, on the surface; a cross at each of them where others are interpolated. */
  wires() {
    const { surface } = this;
    const runs = [];
    const ink = [0.05, 0.05, 0.1, 1];
    const pieces = 4;
    const along = (nodes, point) => {
      let points = [];
      const flush = () => {
        if (points.length > 1) runs.push({ points, ink });
        points = [];
      };
      for (let k = 0; k + 1 < nodes.length; k++) {
        for (let n = 0; n < pieces; n++) {
          const p = point(nodes[k] + ((nodes[k + 1] - nodes[k]) * n) / pieces);
          if (p && p[2] / TALL <= this.app.state.top) points.push(p);
          else flush();
        }
      }
      const last = point(nodes[nodes.length - 1]);
      if (last && last[2] / TALL <= this.app.state.top) points.push(last);
      flush();
    };
    const xs = surface.columns.map((k) => surface.x[k]);
    const ys = surface.rows.map((k) => surface.y[k]);
    if (surface.interpolated.some((v) => v)) {
      const arm = (nodes, k) => {
        const near = [Math.max(0, k - 1), Math.min(nodes.length - 1, k + 1)];
        return near.map((other) => 0.75 * nodes[k] + 0.25 * nodes[other]);
      };
      surface.rows.forEach((row, j) => {
        surface.columns.forEach((column, i) => {
          if (surface.interpolated[row * surface.x.length + column]) return;
          along(arm(xs, i), (u) => this.scenePoint(u, ys[j]));
          along(arm(ys, j), (u) => this.scenePoint(xs[i], u));
        });
      });
      return segmentsOf(runs);
    }
    for (const b of ys) along(xs, (a) => this.scenePoint(a, b));
    for (const a of xs) along(ys, (b) => this.scenePoint(a, b));
    return segmentsOf(runs);
  }

  /** A path on the surface, broken where it is cut off. */
  pathOf(points, ink, panel = this) {
    const runs = [];
    let run = [];
    for (let k = 0; 2 * k < points.length; k++) {
      const pieces = k === 0 ? [1] : [0.25, 0.5, 0.75, 1];
      for (const share of pieces) {
        const from = k === 0 ? 0 : 2 * (k - 1);
        const a = points[from] + share * (points[2 * k] - points[from]);
        const b = points[from + 1] + share * (points[2 * k + 1] - points[from + 1]);
        const p = panel.scenePoint(a, b);
        if (p && p[2] / TALL <= this.app.state.top + 1e-6) run.push(p);
        else {
          if (run.length > 1) runs.push({ points: run, ink });
          run = [];
        }
      }
    }
    if (run.length > 1) runs.push({ points: run, ink });
    return runs;
  }

  trajectoryRuns() {
    const { trajectory } = this.surface;
    if (!trajectory) return [];
    const ink = [...byteColour(this.app.theme.text), 1];
    const runs = this.pathOf(Float64Array.from(trajectory.x.flatMap((a, k) => [a, trajectory.y[k]])), ink);
    trajectory.x.forEach((a, k) => {
      const on = this.scenePoint(a, trajectory.y[k]);
      const own = this.trueHeight(k);
      if (on && own !== null) runs.push({ points: [on, [on[0], on[1], own * TALL]], ink: [...ink.slice(0, 3), 0.6] });
    });
    return runs;
  }

  /** Height of a checkpoint's own loss; null where it is not known. */
  trueHeight(k) {
    const loss = this.surface.trajectory.loss?.[k];
    if (loss === undefined || loss === null || this.app.state.height !== this.surface.trajectory.field) return null;
    const height = loss === Infinity ? 2 : this.scale.height(Math.max(loss, this.scale.low));
    return Math.min(1.15, height);
  }

  trajectoryBalls() {
    const { trajectory } = this.surface;
    if (!trajectory) return [];
    const map = this.app.maps[this.app.state.map];
    return trajectory.x.flatMap((a, k) => {
      const own = this.trueHeight(k);
      const p = this.scenePoint(a, trajectory.y[k], own === null ? undefined : own);
      if (!p) return [];
      const colour =
        k === this.app.state.epoch
          ? byteColour(this.app.theme.accent)
          : colourOf(map, Math.min(1, Math.max(0, p[2] / TALL))).map((c) => c / 255);
      return [...p, ...colour];
    });
  }

  cutRuns() {
    const { state, theme } = this.app;
    const angle = (state.angle * Math.PI) / 180;
    const points = cutThrough(this.surface, state.height, [state.x, state.y], state.angle, 200).map(({ r }) =>
      this.scenePoint(state.x + r * Math.cos(angle), state.y + r * Math.sin(angle)),
    );
    const runs = [];
    let run = [];
    for (const p of [...points, null]) {
      if (p && p[2] / TALL <= state.top) run.push(p);
      else {
        if (run.length > 1) runs.push({ points: run, ink: [...byteColour(theme.accent), 1] });
        run = [];
      }
    }
    return runs;
  }

  /** Axes of the scene: on the edges that face the reader, in text that does not turn. */
  drawLabels(view) {
    const [context, width, height] = fit(this.labels);
    const { theme, state } = this.app;
    const { surface, box } = this;
    const at = (p) => toScreen(view.matrix, p, width, height);
    const middle = at([0, 0, FLOOR]);
    context.font = FONT;
    context.strokeStyle = theme.frame;
    context.lineWidth = 1;
    const taken = [];
    const write = (words, p, away, strong) => {
      const wide = context.measureText(words).width + 2;
      const [left, right] = Math.abs(away[0]) < 4 ? [wide / 2, wide / 2] : away[0] > 0 ? [2, wide] : [wide, 2]; // of its anchor
      const x = Math.min(width - right, Math.max(left, p[0] + away[0]));
      const y = Math.min(height - 8, Math.max(8, p[1] + away[1]));
      if (!strong && taken.some(([a, b]) => Math.abs(a - x) < 26 && Math.abs(b - y) < 13)) return;
      taken.push([x, y]);
      context.textAlign = Math.abs(away[0]) < 4 ? "center" : away[0] > 0 ? "left" : "right";
      context.textBaseline = "middle";
      context.lineWidth = 3;
      context.strokeStyle = theme.ground;
      context.strokeText(words, x, y);
      context.fillStyle = strong ? theme.strong : theme.text;
      context.fillText(words, x, y);
    };
    const outwards = (p, size) => {
      const d = [p[0] - middle[0], p[1] - middle[1]];
      const length = Math.hypot(...d) || 1;
      return [(d[0] / length) * size, (d[1] / length) * size];
    };
    const nearV = view.back[1] > 0 ? box[1] : -box[1];
    const nearU = view.back[0] > 0 ? box[0] : -box[0];
    const [x0, x1] = [surface.x[0], surface.x[surface.x.length - 1]];
    const [y0, y1] = [surface.y[0], surface.y[surface.y.length - 1]];
    const corners = [
      [nearU, -nearV],
      [-nearU, nearV],
    ].sort((a, b) => at([...a, 0])[0] - at([...b, 0])[0]);
    const [u, v] = corners[0];
    const foot = at([u, v, FLOOR]);
    const axis = (low, high, place, name) => {
      for (const v of roundSteps(low, high, 4)) {
        const p = at(place((2 * (v - low)) / (high - low) - 1));
        if (Math.hypot(p[0] - foot[0], p[1] - foot[1]) < 24) continue; // the vertical axis stands there
        write(text(v), p, outwards(p, 15));
      }
      const p = at(place(0));
      write(name, p, outwards(p, 32), true);
    };
    axis(x0, x1, (u) => [u * box[0], nearV, FLOOR], "x");
    axis(y0, y1, (v) => [nearU, v * box[1], FLOOR], "y");
    const top = Math.min(1, state.top);
    const [low, high] = [at([u, v, FLOOR]), at([u, v, top * TALL])];
    context.strokeStyle = theme.frame;
    context.lineWidth = 1;
    line(context, low[0], low[1], high[0], high[1]);
    for (const value of ticks(this.scale, 5)) {
      const h = this.scale.height(value);
      if (h > top + 1e-9) continue;
      const p = at([u, v, h * TALL]);
      context.strokeStyle = theme.frame;
      context.lineWidth = 1;
      line(context, p[0] - 4, p[1], p[0], p[1]);
      write(text(value, 3), p, [-7, 0]);
    }
    context.font = `600 ${FONT}`;
    const words = this.app.title(state.height);
    const wide = context.measureText(words).width;
    write(words, [Math.max(4, Math.min(high[0] - wide / 2, width - wide - 4)), Math.max(10, high[1] - 16)], [5, 0], true);
  }

  // From above ------------------------------------------------------------------------------------------------------

  frame() {
    const { clientWidth: width, clientHeight: height } = this.flatCanvas;
    const [w, h] = [width - 58, height - 44];
    const scale = Math.min(w / (2 * this.box[0]), h / (2 * this.box[1]));
    const size = [2 * this.box[0] * scale, 2 * this.box[1] * scale];
    return { left: 46 + (w - size[0]) / 2, top: 8 + (h - size[1]) / 2, width: size[0], height: size[1] };
  }

  drawFlat() {
    const { app, surface } = this;
    const { state, theme } = app;
    const [context] = fit(this.flatCanvas);
    const frame = this.frame();
    if (frame.width < 10 || frame.height < 10) return;
    const at = (s, t) => [frame.left + s * frame.width, frame.top + (1 - t) * frame.height];
    const of = (a, b) => at(...toShare(surface, a, b));
    context.imageSmoothingEnabled = true;
    context.drawImage(this.picture, frame.left, frame.top, frame.width, frame.height);
    if (state.lines) this.flatContours(context, at);
    this.flatMarks(context, of);
    const xs = roundSteps(surface.x[0], surface.x[surface.x.length - 1], Math.max(2, Math.min(6, Math.floor(frame.width / 50))));
    const ys = roundSteps(surface.y[0], surface.y[surface.y.length - 1], Math.max(2, Math.min(6, Math.floor(frame.height / 36))));
    drawFrame(
      context,
      frame,
      theme,
      xs.map((v) => [toShare(surface, v, surface.y[0])[0], text(v)]),
      ys.map((v) => [toShare(surface, surface.x[0], v)[1], text(v)]),
    );
    context.save();
    context.beginPath();
    context.rect(frame.left - 6, frame.top - 6, frame.width + 12, frame.height + 12);
    context.clip();
    if (state.cut) {
      const angle = (state.angle * Math.PI) / 180;
      const ends = cutThrough(surface, state.height, [state.x, state.y], state.angle, 1).map(({ r }) =>
        of(state.x + r * Math.cos(angle), state.y + r * Math.sin(angle)),
      );
      polyline(context, ends, theme.accent, 1.5, "rgba(255,255,255,0.7)");
    }
    this.flatTrajectory(context, of);
    for (const run of app.racesOf(this.number)) {
      const points = [];
      for (let k = 0; k <= run.shown; k++) points.push(of(run.points[2 * k], run.points[2 * k + 1]));
      polyline(context, points, run.optimizer.color, 2, "rgba(255,255,255,0.75)");
    }
    for (const run of app.racesOf(this.number)) {
      dot(context, ...of(run.points[2 * run.shown], run.points[2 * run.shown + 1]), 5, run.optimizer.color, "#ffffff");
    }
    const start = of(state.x, state.y);
    dot(context, ...start, 4, "rgba(255,255,255,0.9)", "#222222");
    if (app.hover) {
      const [x, y] = of(...app.hover);
      context.strokeStyle = "rgba(255,255,255,0.9)";
      context.lineWidth = 3;
      line(context, x - 9, y, x + 9, y);
      line(context, x, y - 9, x, y + 9);
      context.strokeStyle = "#111111";
      context.lineWidth = 1;
      line(context, x - 9, y, x + 9, y);
      line(context, x, y - 9, x, y + 9);
    }
    context.restore();
  }

  flatContours(context, at) {
    const wanted = new Set(this.app.levels());
    context.lineWidth = 0.8;
    for (const { level, lines } of this.surface.fields[this.app.state.height].contours) {
      const h = this.scale.height(level);
      if (!wanted.has(level) || h > this.app.state.top) continue;
      context.strokeStyle = h > 0.55 && !this.app.state.colour ? "rgba(0,0,0,0.5)" : "rgba(255,255,255,0.65)";
      for (const points of lines) {
        trace(
          context,
          points.map((p) => at(...p)),
        );
        context.stroke();
      }
    }
  }

  flatMarks(context, of) {
    const { surface, app } = this;
    const { values } = surface.fields[app.state.height];
    const nx = surface.x.length;
    surface.y.forEach((b, j) => {
      surface.x.forEach((a, i) => {
        const k = j * nx + i;
        if (!surface.done[k]) {
          const [x, y] = of(a, b);
          context.fillStyle = "rgba(128,128,128,0.8)";
          context.fillRect(x - 1.5, y - 1.5, 3, 3);
        } else if (!Number.isFinite(values[k])) cross(context, ...of(a, b), 3.5, "#d92b20");
        else if (app.state.wire && !surface.interpolated[k]) {
          const [x, y] = of(a, b);
          context.fillStyle = "rgba(0,0,0,0.45)";
          context.fillRect(x - 0.75, y - 0.75, 1.5, 1.5);
        }
      });
    });
  }

  flatTrajectory(context, of) {
    const { trajectory } = this.surface;
    if (!trajectory) return;
    const points = trajectory.x.map((a, k) => of(a, trajectory.y[k]));
    polyline(context, points, "#111111", 1.2, "rgba(255,255,255,0.7)");
    const map = this.app.maps[this.app.state.map];
    points.forEach((p, k) => {
      const own = this.trueHeight(k);
      const value = own === null ? this.sample(...toShare(this.surface, trajectory.x[k], trajectory.y[k]))?.[0] : own;
      const colour = value === undefined ? [150, 150, 150] : colourOf(map, Math.min(1, Math.max(0, value)));
      const chosen = k === this.app.state.epoch;
      dot(context, ...p, chosen ? 6 : 3.5, `rgb(${colour.join(",")})`, chosen ? this.app.theme.accent : "#111111");
    });
  }

  // A curve ---------------------------------------------------------------------------------------------------------

  drawCurve() {
    const { app, surface } = this;
    const { state, theme } = app;
    const own = interpolantOf(surface, state.height);
    const losses = app.fields.map((f) => f.name).filter((name) => name.endsWith("_loss"));
    const shown = [state.height, ...(losses.includes(state.height) ? losses.filter((name) => name !== state.height) : [])];
    const curves = shown.map((name, n) => {
      const points = [];
      for (let k = 0; k <= 600; k++) {
        const [a] = toPlane(surface, k / 600, 0);
        const found = evaluate(interpolantOf(surface, name), a, 0);
        points.push([a, found ? found[0] : NaN]);
      }
      return { points, color: n ? theme.text : theme.accent, width: n ? 1.2 : 1.8, dash: n ? [5, 4] : [] };
    });
    const { values } = surface.fields[state.height];
    const cells = surface.x.map((a, k) => [a, values[k]]);
    const computed = cells.filter((_, k) => !surface.interpolated[k]);
    if (state.wire) curves.push({ points: computed, color: theme.accent, width: 0, marks: true });
    const chart = drawChart(this.flatCanvas, theme, curves, {
      log: state.scale !== "linear",
      xLabel: "coordinate along the direction",
      yLabel: shown.length > 1 ? `${app.title(shown[0])}; dashed: ${app.title(shown[1])}` : app.title(state.height),
      range: app.rangeOf(shown),
      guides: app.hover ? [[app.hover[0], theme.accent]] : [],
    });
    this.chart = chart;
    if (!chart) return;
    const { context } = chart;
    cells.forEach(([a, v], k) => {
      if (surface.done[k] && !Number.isFinite(v)) cross(context, chart.toX(a), chart.frame.top + 8, 3.5, "#d92b20");
    });
    const place = (a) => {
      const found = evaluate(own, a, 0);
      return found && Number.isFinite(found[0]) ? [chart.toX(a), chart.toY(found[0])] : null;
    };
    for (const run of app.racesOf(this.number)) {
      const p = place(run.points[2 * run.shown]);
      if (p) dot(context, ...p, 5.5, run.optimizer.color, "#ffffff");
    }
    const start = place(state.x);
    if (start) dot(context, ...start, 4, "rgba(255,255,255,0.9)", "#222222");
  }

  // What the pointer does -------------------------------------------------------------------------------------------

  /** The point of the plane under a pointer over the flat view; null outside. */
  fromFlat(event, clamped) {
    const box = this.flatCanvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const frame = this.surface.flat ? this.chart?.frame : this.frame();
    if (!frame) return null;
    let s = (x - frame.left) / frame.width;
    let t = this.surface.flat ? 0.5 : 1 - (y - frame.top) / frame.height;
    if (clamped) [s, t] = [s, t].map((v) => Math.min(1, Math.max(0, v)));
    if (s < 0 || s > 1 || t < 0 || t > 1) return null;
    return toPlane(this.surface, s, t);
  }

  /** The point of the plane whose place on the surface is under a pointer over the scene; null where there is none. */
  fromSolid(event) {
    const box = this.solid.getBoundingClientRect();
    const view = this.view();
    const sight = lineOfSight(view.matrix, event.clientX - box.left, event.clientY - box.top, view.width, view.height);
    const heightAt = (u, v) => {
      const [s, t] = [(u / this.box[0] + 1) / 2, (v / this.box[1] + 1) / 2];
      if (s < 0 || s > 1 || t < 0 || t > 1) return NaN;
      const found = this.sample(s, t);
      return found ? found[0] * TALL : NaN;
    };
    const hit = firstHit(sight, heightAt, this.app.state.top * TALL);
    return hit && toPlane(this.surface, (hit[0] / this.box[0] + 1) / 2, (hit[1] / this.box[1] + 1) / 2);
  }

  listenFlat() {
    const canvas = this.flatCanvas;
    let dragging = false;
    canvas.addEventListener("pointerdown", (event) => {
      const p = this.fromFlat(event, false);
      if (!p || event.button > 0) return;
      dragging = true;
      canvas.setPointerCapture(event.pointerId);
      this.app.startAt(p);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (dragging) this.app.startAt(this.fromFlat(event, true));
      this.app.pointAt(this.fromFlat(event, false));
    });
    for (const kind of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(kind, () => {
        if (dragging) this.app.started();
        dragging = false;
      });
    }
    canvas.addEventListener("pointerleave", () => this.app.pointAt(null));
    canvas.addEventListener("keydown", (event) => {
      const step = (event.shiftKey ? 0.1 : 0.02) * (this.surface.x[this.surface.x.length - 1] - this.surface.x[0]);
      const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
      const move = moves[event.key];
      if (!move) return;
      event.preventDefault();
      const { x, y } = this.app.state;
      this.app.startAt([x + move[0] * step, y + move[1] * step]);
      this.app.started();
    });
  }

  listenSolid() {
    const { solid, app } = this;
    const pointers = new Map();
    let moved = 0;
    let moving = false;
    const nearStart = (event) => {
      const p = this.scenePoint(app.state.x, app.state.y);
      if (!p) return false;
      const box = solid.getBoundingClientRect();
      const view = this.view();
      const [x, y] = toScreen(view.matrix, p, view.width, view.height);
      return Math.hypot(event.clientX - box.left - x, event.clientY - box.top - y) < 14;
    };
    solid.addEventListener("pointerdown", (event) => {
      if (event.button > 0) return;
      solid.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, [event.clientX, event.clientY]);
      moved = 0;
      moving = pointers.size === 1 && nearStart(event);
    });
    solid.addEventListener("pointermove", (event) => {
      const before = pointers.get(event.pointerId);
      if (!before) {
        app.pointAt(this.fromSolid(event));
        return;
      }
      const [dx, dy] = [event.clientX - before[0], event.clientY - before[1]];
      moved += Math.abs(dx) + Math.abs(dy);
      if (pointers.size === 2) {
        const spread = () => {
          const [a, b] = [...pointers.values()];
          return Math.hypot(a[0] - b[0], a[1] - b[1]);
        };
        const old = spread();
        pointers.set(event.pointerId, [event.clientX, event.clientY]);
        app.zoom(old / Math.max(1, spread()));
        return;
      }
      pointers.set(event.pointerId, [event.clientX, event.clientY]);
      if (moving) {
        const p = this.fromSolid(event);
        if (p) app.startAt(p);
      } else if (moved > 4) app.turn(-dx * 0.4, dy * 0.4);
    });
    for (const kind of ["pointerup", "pointercancel"]) {
      solid.addEventListener(kind, (event) => {
        if (pointers.delete(event.pointerId) && kind === "pointerup" && pointers.size === 0) {
          if (moving) app.started();
          else if (moved <= 4) {
            const p = this.fromSolid(event);
            if (p) {
              app.startAt(p);
              app.started();
            }
          } else app.turned();
        }
      });
    }
    solid.addEventListener("pointerleave", () => app.pointAt(null));
    solid.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        app.zoom(Math.exp(event.deltaY * 0.001));
        app.turned();
      },
      { passive: false },
    );
    solid.addEventListener("keydown", (event) => {
      const turns = { ArrowLeft: [-5, 0], ArrowRight: [5, 0], ArrowUp: [0, 5], ArrowDown: [0, -5] };
      if (!turns[event.key]) return;
      event.preventDefault();
      app.turn(...turns[event.key]);
      app.turned();
    });
  }

  /** Say what is at a point of the plane, or nothing. */
  tell(point) {
    if (!point) {
      this.readout.textContent = "\u00a0";
      return;
    }
    const { surface } = this;
    const parts = [surface.flat ? `x ${text(point[0])}` : `x ${text(point[0])}, y ${text(point[1])}`];
    const [i, j] = nearestCell(surface, ...point);
    const k = j * surface.x.length + i;
    for (const { name, title } of this.app.fields) {
      const found = evaluate(interpolantOf(surface, name), ...point);
      const known = found && Number.isFinite(found[0]);
      parts.push(`${title} ${known ? text(found[0]) : surface.done[k] ? text(surface.fields[name].values[k]) : "not computed"}`);
      const se = surface.fields[`${name}_se`];
      if (surface.interpolated[k]) parts.push("(interpolated)");
      else if (se && surface.done[k] && se.values[k] > 0)
        parts.push(`± ${text(se.values[k], 2)} (standard error of the nearest cell)`);
    }
    this.readout.textContent = parts.join("; ");
  }
}

const OVERLAID = ["Blues", "Oranges", "Greens", "Purples"];
