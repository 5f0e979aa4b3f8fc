// The page: its state, what its controls change, and the race.

class App {
  constructor(root, content) {
    this.root = root;
    this.fields = content.fields.filter((field) => field.range);
    this.surfaces = content.surfaces.map(openSurface);
    this.maps = Object.fromEntries(Object.entries(content.maps).map(([name, bytes]) => [name, bytesOf(bytes)]));
    this.hover = null;
    this.flat = this.surfaces.every((s) => s.flat);
    this.playing = false;
    this.races = [];
    const first = this.fields[0];
    const { x, y } = this.surfaces[0];
    this.state = {
      height: first.name,
      scale: first.scale,
      top: 1,
      colour: "",
      map: "viridis",
      lines: true,
      wire: false,
      overlay: false,
      azimuth: -60,
      elevation: 34,
      distance: 5.3,
      x: x[0] + 0.86 * (x[x.length - 1] - x[0]),
      y: this.flat ? 0 : y[0] + 0.9 * (y[y.length - 1] - y[0]),
      objective: "loss",
      noise: 0,
      seed: 0,
      steps: 300,
      seconds: 7,
      at: 0,
      on: ["sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw", "nadam", "sam"],
      rates: OPTIMIZERS.map(() => 0),
      coefficients: OPTIMIZERS.flatMap((o) => Object.values(o.settings).map(([value]) => value)),
      cut: false,
      angle: 0,
      epoch: 0,
      theme: "auto",
      gl: true,
    };
    [this.state.x, this.state.y] = this.knownStart([this.state.x, this.state.y]);
    if (this.flat) {
      document.querySelector("header p").textContent =
        "The loss of a trained network on a line through its parameters, and optimizers that descend it. They see one coordinate of the many that a network has: this is a descent of the slice, not of the network.";
    }
    this.initial = { ...this.state };
    Object.assign(this.state, fromFragment(location.hash.slice(1), this.state));
    this.repair();
    this.setTheme();
    this.build();
    this.refreshAll();
    addEventListener("resize", () => this.dirty());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      this.setTheme();
      this.dirty();
    });
    addEventListener("hashchange", () => this.fromAddress());
    addEventListener("keydown", (event) => this.key(event));
  }

  /** Bring a state that somebody else wrote into what is possible. */
  repair() {
    const { state, fields } = this;
    const field = fields.find((f) => f.name === state.height) || fields[0];
    state.height = field.name;
    if (!Object.hasOwn(field.levels, state.scale)) state.scale = field.scale;
    if (this.flat && state.scale === "soft") state.scale = "log";
    if (state.colour && !fields.some((f) => f.name === state.colour)) state.colour = "";
    if (!Object.hasOwn(this.maps, state.map)) state.map = "viridis";
    state.on = state.on.filter((name) => OPTIMIZERS.some((o) => o.name === name));
    const most = (value, low, high) => Math.min(high, Math.max(low, value));
    state.top = most(state.top, 0.05, 1);
    state.steps = Math.round(most(state.steps, 1, 5000));
    state.seconds = most(state.seconds, 0.5, 600);
    state.at = Math.round(most(state.at, 0, state.steps));
    state.elevation = most(state.elevation, -10, 89);
    state.distance = most(state.distance, 2.5, 12);
    if (state.rates.length !== OPTIMIZERS.length) state.rates = OPTIMIZERS.map(() => 0);
    const wanted = OPTIMIZERS.flatMap((o) => Object.keys(o.settings)).length;
    if (state.coefficients.length !== wanted) {
      state.coefficients = OPTIMIZERS.flatMap((o) => Object.values(o.settings).map(([value]) => value));
    }
    if (state.objective !== "log" || field.range[0] <= 0) state.objective = "loss";
    if (!["auto", "light", "dark"].includes(state.theme)) state.theme = "auto";
    if (this.surfaces.length < 2 || !this.alike()) state.overlay = false;
    [state.x, state.y] = this.inside([state.x, state.y]);
  }

  /** A start near the one that is wished for, where the first surface is known. */
  knownStart(wished) {
    const [surface] = this.surfaces;
    const own = interpolantOf(surface, this.fields[0].name);
    const known = ([a, b]) => Number.isFinite(evaluate(own, a, b)?.[0]);
    if (known(wished)) return wished;
    const cells = surface.y.flatMap((b) => surface.x.map((a) => [a, b])).filter(known);
    const far = ([a, b]) => Math.hypot(...toShare(surface, a - wished[0] + surface.x[0], b - wished[1] + surface.y[0]));
    return cells.sort((p, q) => far(p) - far(q))[0] || wished;
  }

  /** Whether the surfaces lie over the same plane, so that one picture can hold them. */
  alike() {
    const ends = this.surfaces.map((s) => [s.flat, s.x[0], s.x[s.x.length - 1], s.y[0], s.y[s.y.length - 1]].join());
    return !this.surfaces[0].flat && ends.every((each) => each === ends[0]);
  }

  inside([a, b]) {
    const { x, y } = this.surfaces[0];
    const within = (v, nodes) => Math.min(nodes[nodes.length - 1], Math.max(nodes[0], v));
    return [within(a, x), within(b, y)];
  }

  field(name = this.state.height) {
    return this.fields.find((f) => f.name === name);
  }

  /** From the lowest to the highest value of some fields, on all surfaces. */
  rangeOf(names) {
    const ranges = names.map((name) => this.field(name).range);
    return [Math.min(...ranges.map((r) => r[0])), Math.max(...ranges.map((r) => r[1]))];
  }

  title(name) {
    return this.field(name).title;
  }

  scale() {
    const { range } = this.field();
    return makeScale(this.state.scale, ...range);
  }

  levels() {
    return this.field().levels[this.state.scale] || [];
  }

  /** The field that colours, with its own scale; null where it is the height. */
  colour() {
    const { colour, height } = this.state;
    if (!colour || colour === height) return null;
    const field = this.field(colour);
    return { name: colour, scale: makeScale(field.scale, ...field.range) };
  }

  setTheme() {
    const { theme } = this.state;
    const dark = theme === "dark" || (theme === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    const style = getComputedStyle(document.documentElement);
    this.theme = Object.fromEntries(
      ["ground", "text", "strong", "frame", "accent"].map((name) => [name, style.getPropertyValue(`--${name}`).trim()]),
    );
  }

  // The race --------------------------------------------------------------------------------------------------------

  settings(optimizer) {
    const { state } = this;
    const index = OPTIMIZERS.indexOf(optimizer);
    let at = OPTIMIZERS.slice(0, index).flatMap((o) => Object.keys(o.settings)).length;
    const found = { rate: state.rates[index] || this.usualRates[index] };
    for (const name of Object.keys(optimizer.settings)) found[name] = state.coefficients[at++];
    return found;
  }

  race() {
    const { state } = this;
    const uphill = this.field().better < 0; // accuracy is climbed
    const how = { steps: state.steps, objective: state.objective, noise: state.noise, seed: state.seed, uphill };
    this.races = this.surfaces.map((surface) => {
      const own = interpolantOf(surface, state.height);
      return OPTIMIZERS.filter((o) => state.on.includes(o.name)).map((optimizer) => ({
        optimizer,
        shown: 0,
        ...descend(own, optimizer, this.settings(optimizer), [state.x, surface.flat ? 0 : state.y], how),
      }));
    });
  }

  /** The paths on a surface, as far as they are shown; none before the first step. */
  racesOf(number) {
    const runs = this.races[number] || [];
    for (const run of runs) run.shown = Math.min(this.state.at, run.steps);
    return this.state.at > 0 || this.playing ? runs.filter((run) => run.losses.length > 0) : [];
  }

  play(on = !this.playing) {
    if (on && this.state.at >= this.state.steps) this.state.at = 0;
    this.playing = on;
    this.clock = performance.now() - (this.state.at / this.state.steps) * this.state.seconds * 1000;
    this.playButton.textContent = on ? "Pause" : "Play";
    this.dirty();
    if (!on) this.remember();
  }

  step(count) {
    this.play(false);
    this.state.at = Math.min(this.state.steps, Math.max(0, this.state.at + count));
    this.remember();
    this.dirty();
  }

  startAt(point) {
    if (this.hover) this.pointAt(null);
    [this.state.x, this.state.y] = this.inside(point);
    if (this.surfaces[0].flat) this.state.y = 0;
    this.race();
    this.state.at = 0;
    this.playing = false;
    this.dirty();
  }

  /** A start has been chosen: off they go. */
  started() {
    this.play(true);
    this.remember();
  }

  pointAt(point) {
    this.hover = point;
    for (const panel of this.panels) panel.tell(point);
    this.dirty();
  }

  turn(right, up) {
    this.state.azimuth = ((((this.state.azimuth + right + 180) % 360) + 360) % 360) - 180;
    this.state.elevation = Math.min(89, Math.max(-10, this.state.elevation + up));
    this.dirty();
  }

  turned() {
    this.remember();
  }

  zoom(factor) {
    this.state.distance = Math.min(12, Math.max(2.5, this.state.distance * factor));
    this.dirty();
  }

  withoutScene() {
    this.sceneless = true;
  }

  // State in the address --------------------------------------------------------------------------------------------

  remember() {
    const changed = {};
    for (const [key, value] of Object.entries(this.state)) {
      if (String(value) !== String(this.initial[key]))
        changed[key] = typeof value === "number" && !Number.isInteger(value) ? Number(value.toPrecision(7)) : value;
    }
    const fragment = toFragment(changed);
    this.written = `#${fragment}`;
    history.replaceState(null, "", fragment ? `#${fragment}` : location.pathname + location.search);
  }

  fromAddress() {
    if (location.hash === this.written) return;
    Object.assign(this.state, this.initial, fromFragment(location.hash.slice(1), this.initial));
    this.repair();
    this.setTheme();
    this.refreshAll();
  }

  // What is on the page ---------------------------------------------------------------------------------------------

  build() {
    this.controls = [];
    this.panels = [];
    const list = element("div", { class: "surfaces" });
    this.list = list;
    this.surfaces.forEach((surface, k) => {
      const panel = new Panel(this, surface, k);
      this.panels.push(panel);
      list.append(panel.root);
    });
    list.style.setProperty("--columns", Math.min(this.surfaces.length, 3));
    list.classList.toggle("alone", this.surfaces.length === 1);
    list.classList.toggle(
      "bare",
      this.panels.every((p) => !p.renderer),
    );
    const descent = element("div", { class: "pile" }, this.raceTools());
    if (this.surfaces.some((s) => s.trajectory)) descent.append(this.trajectoryTools());
    const tools = element("div", { class: "tools" }, this.viewTools(), descent, this.cutTools());
    tools.append(this.optimizerTools(), this.lossTools());
    if (this.surfaces.some((s) => Object.keys(s.flatness).length)) tools.append(this.flatnessTools());
    const legend = element("p", { class: "caption" });
    this.surfaces.forEach((surface, k) => {
      const map = this.maps[OVERLAID[k % OVERLAID.length]];
      const swatch = element("span", {
        class: "swatch",
        style: `background:rgb(${colourOf(map, 0.4).join(",")});margin-right:6px`,
      });
      legend.append(swatch, element("span", {}, surface.label));
    });
    this.legend = legend;
    this.stage = element("div", { class: "stage", hidden: true }, legend);
    this.remark = element("p", { class: "hint", id: "remark" });
    this.root.replaceChildren(this.remark, this.stage, list, this.transport(), tools);
    if (this.sceneless && !this.surfaces.every((s) => s.flat)) {
      this.root.prepend(
        element(
          "p",
          { class: "hint", id: "sceneless" },
          "This browser has no WebGL2: the surface is shown from above only. Everything else works.",
        ),
      );
    }
  }

  control(make) {
    this.controls.push(make);
  }

  checkbox(key, words, after = () => this.refreshAll()) {
    const box = element("input", { type: "checkbox", id: `c-${key}`, onchange: () => this.set(key, box.checked, after) });
    this.control(() => {
      box.checked = this.state[key];
    });
    return element("label", {}, box, words);
  }

  select(key, words, options, after = () => this.refreshAll()) {
    const list = element("select", { id: `c-${key}`, onchange: () => this.set(key, list.value, after) });
    this.control(() => {
      const wanted = options();
      list.replaceChildren(...wanted.map(([value, label]) => element("option", { value }, label)));
      list.value = this.state[key];
    });
    return element("label", {}, words, list);
  }

  range(key, words, limits, after, shown = (v) => text(v, 3)) {
    const slider = element("input", { type: "range", id: `c-${key}`, oninput: () => this.set(key, Number(slider.value), after) });
    const said = element("output", { class: "value" });
    this.control(() => {
      const [low, high, step] = limits();
      Object.assign(slider, { min: low, max: high, step });
      slider.value = this.state[key];
      said.textContent = shown(this.state[key]);
    });
    return element("label", { class: "row", style: "width:100%" }, words, slider, said);
  }

  number(key, words, { low, high, step, whole = false }, after) {
    const field = element("input", {
      type: "number",
      id: `c-${key}`,
      min: low,
      max: high,
      step,
      onchange: () => {
        const value = Number(field.value);
        const fine = field.value.trim() !== "" && Number.isFinite(value) && value >= low && value <= high;
        if (fine) this.set(key, whole ? Math.round(value) : value, after);
        this.complain(fine ? "" : `${words}: from ${low} to ${high}`);
        field.value = this.state[key];
      },
    });
    this.control(() => {
      if (document.activeElement !== field) field.value = this.state[key];
    });
    return element("label", {}, words, field);
  }

  /** Say beside the play button what was not taken. */
  complain(words) {
    this.complaint.textContent = words;
  }

  set(key, value, after) {
    this.state[key] = value;
    after.call(this, value);
    this.remember();
  }

  viewTools() {
    const colourBar = element("canvas");
    this.colourBar = colourBar;
    this.barLow = element("span");
    this.barHigh = element("span");
    const names = { linear: "linear", log: "logarithmic", soft: "ln(value + 0.1), the paper's" };
    const after = () => this.refreshAll();
    const theme = this.select(
      "theme",
      "Theme",
      () => [
        ["auto", "as the system"],
        ["light", "light"],
        ["dark", "dark"],
      ],
      () => {
        this.setTheme();
        this.refreshAll();
      },
    );
    const save = element("button", { type: "button", id: "picture", onclick: () => this.savePicture() }, "Save PNG");
    if (this.flat) {
      const field = this.select(
        "height",
        "Field",
        () => this.fields.map((f) => [f.name, f.title]),
        () => this.newHeight(),
      );
      const kind = this.select(
        "scale",
        "Scale",
        () => ["linear", "log"].filter((k) => this.field().levels[k]).map((k) => [k, names[k]]),
        after,
      );
      const row = (...parts) => element("div", { class: "row" }, ...parts);
      return element(
        "fieldset",
        {},
        element("legend", {}, "View"),
        row(field, kind),
        row(this.checkbox("wire", "computed cells")),
        row(theme, save),
      );
    }
    return element(
      "fieldset",
      {},
      element("legend", {}, "View"),
      element(
        "div",
        { class: "row" },
        this.select(
          "height",
          "Height",
          () => this.fields.map((f) => [f.name, f.title]),
          () => this.newHeight(),
        ),
        this.select("scale", "Scale", () => Object.keys(this.field().levels).map((kind) => [kind, names[kind]]), after),
      ),
      element(
        "div",
        { class: "row" },
        this.select("colour", "Colour", () => [["", "as the height"], ...this.fields.map((f) => [f.name, f.title])], after),
        this.select("map", "Map", () => ["viridis", "cividis", "magma", "coolwarm"].map((name) => [name, name]), after),
      ),
      this.range(
        "top",
        "Hide above",
        () => [0.05, 1, 0.01],
        after,
        (v) => text(this.scale().value(v), 3),
      ),
      element("div", { class: "bar" }, this.barLow, colourBar, this.barHigh),
      element(
        "div",
        { class: "row" },
        this.checkbox("lines", "contour lines"),
        this.checkbox("wire", "computed cells"),
        ...(this.surfaces.length > 1 && this.alike() ? [this.checkbox("overlay", "one over the other")] : []),
      ),
      element(
        "div",
        { class: "row" },
        theme,
        save,
        element("button", { type: "button", id: "reset-view", onclick: () => this.resetView() }, "Reset view"),
      ),
    );
  }

  /** Another field is the height: its own scale and rates. */
  newHeight() {
    this.state.scale = this.field().scale;
    this.state.top = 1;
    this.state.rates = OPTIMIZERS.map(() => 0);
    this.repair();
    this.refreshAll();
  }

  raceTools() {
    const again = () => this.restart();
    const { x, y, flat } = this.surfaces[0];
    const limits = (nodes) => () => [nodes[0], nodes[nodes.length - 1], (nodes[nodes.length - 1] - nodes[0]) / 1000];
    return element(
      "fieldset",
      {},
      element("legend", {}, "Descent"),
      this.range("x", "Start x", limits(x), again),
      ...(flat ? [] : [this.range("y", "y", limits(y), again)]),
      element(
        "div",
        { class: "row" },
        this.select(
          "objective",
          "Descend",
          () => [["loss", "the value"], ...(this.field().range[0] > 0 ? [["log", "its logarithm"]] : [])],
          () => {
            this.state.rates = OPTIMIZERS.map(() => 0);
            this.refreshAll();
          },
        ),
        this.number("steps", "Steps", { low: 1, high: 5000, step: 1, whole: true }, again),
        this.number("seconds", "played in (s)", { low: 0.5, high: 600, step: "any" }, () => this.play(false)),
      ),
      element(
        "div",
        { class: "row" },
        this.number("noise", "Noise on each slope", { low: 0, high: 1e6, step: "any" }, again),
        this.number("seed", "Seed", { low: 0, high: 4294967295, step: 1, whole: true }, again),
      ),
      element(
        "p",
        { class: "hint" },
        this.flat
          ? "Click or drag to choose a start: the race begins there. Keys: space plays, . and , step, r rewinds, arrows move the start."
          : "Click in either view, or drag the ball, to choose a start: the race begins there. Drag to turn, wheel or pinch to zoom. Keys: space plays, . and , step, r rewinds, arrows turn the surface or move the start.",
      ),
    );
  }

  transport() {
    this.playButton = element("button", { type: "button", class: "main", id: "play", onclick: () => this.play() }, "Play");
    this.complaint = element("output", { class: "complaint" });
    return element(
      "div",
      { class: "transport", role: "group", "aria-label": "Descent" },
      this.complaint,
      this.playButton,
      element("button", { type: "button", id: "back", title: "one step back (,)", onclick: () => this.step(-1) }, "‹"),
      element("button", { type: "button", id: "forward", title: "one step (.)", onclick: () => this.step(1) }, "›"),
      element("button", { type: "button", id: "rewind", title: "to the start (r)", onclick: () => this.step(-1e9) }, "Rewind"),
      this.range(
        "at",
        "Step",
        () => [0, this.state.steps, 1],
        () => {
          this.playing = false;
          this.playButton.textContent = "Play";
          this.dirty();
        },
        (v) => String(v),
      ),
    );
  }

  optimizerTools() {
    const body = element("tbody");
    let at = 0;
    OPTIMIZERS.forEach((optimizer, k) => {
      const box = element("input", {
        type: "checkbox",
        id: `o-${optimizer.name}`,
        onchange: () => {
          const { on } = this.state;
          this.set("on", box.checked ? [...on, optimizer.name] : on.filter((name) => name !== optimizer.name), () =>
            this.restart(),
          );
        },
      });
      this.control(() => {
        box.checked = this.state.on.includes(optimizer.name);
      });
      const number = (id, read, write, label) => {
        const field = element("input", {
          type: "number",
          id,
          step: "any",
          min: 0,
          "aria-label": `${optimizer.title}: ${label}`,
          title: label,
          onchange: () => {
            const value = Number(field.value);
            const fine = field.value.trim() !== "" && Number.isFinite(value) && value >= 0;
            if (fine) write(value);
            else field.value = read();
            this.complain(fine ? "" : `${optimizer.title}, ${label}: a number that is not negative`);
            this.restart();
            this.remember();
          },
        });
        this.control(() => {
          if (document.activeElement !== field) field.value = read();
        });
        return field;
      };
      const rate = number(
        `r-${optimizer.name}`,
        () => this.state.rates[k] || this.usualRates[k],
        (value) => {
          this.state.rates = this.state.rates.with
            ? this.state.rates.with(k, value)
            : this.state.rates.map((v, n) => (n === k ? value : v));
        },
        "rate",
      );
      const own = Object.entries(optimizer.settings).map(([name, [, label]]) => {
        const index = at++;
        const field = number(
          `s-${optimizer.name}-${name}`,
          () => this.state.coefficients[index],
          (value) => {
            this.state.coefficients = this.state.coefficients.map((v, n) => (n === index ? value : v));
          },
          label,
        );
        return element("label", { title: label }, label.split(":")[0], field);
      });
      const swatch = element("span", { class: "swatch", style: `background:${optimizer.color}` });
      body.append(
        element(
          "tr",
          {},
          element("td", {}, element("label", {}, box, swatch, optimizer.title)),
          element("td", {}, rate),
          element("td", {}, element("div", { class: "row", style: "flex-wrap:nowrap;margin:0" }, ...own)),
        ),
      );
    });
    const head = element(
      "thead",
      {},
      element("tr", {}, ...["Optimizer", "Rate", "Coefficients"].map((name) => element("th", { scope: "col" }, name))),
    );
    return element(
      "fieldset",
      { class: "half" },
      element("legend", {}, "Optimizers"),
      element("div", { class: "scroll" }, element("table", {}, head, body)),
      element(
        "div",
        { class: "row" },
        element("button", { type: "button", id: "usual", onclick: () => this.usual() }, "Usual settings"),
      ),
    );
  }

  lossTools() {
    this.lossCanvas = element("canvas", { role: "img", "aria-label": "Loss against step" });
    this.results = element("tbody");
    const heads = ["Optimizer", "Step", "Where", "Value", "End"];
    return element(
      "fieldset",
      { class: "half" },
      element("legend", {}, "Who arrives where"),
      element("div", { class: "chart" }, this.lossCanvas),
      element(
        "div",
        { class: "scroll" },
        element(
          "table",
          { id: "results" },
          element("thead", {}, element("tr", {}, ...heads.map((name) => element("th", { scope: "col" }, name)))),
          this.results,
        ),
      ),
    );
  }

  trajectoryTools() {
    this.walk = element("p", { class: "hint", id: "walk" });
    const longest = Math.max(...this.surfaces.map((s) => s.trajectory?.x.length || 0));
    return element(
      "fieldset",
      {},
      element("legend", {}, "Training"),
      this.range(
        "epoch",
        "Checkpoint",
        () => [0, longest - 1, 1],
        () => this.dirty(),
        (k) => this.epochName(k),
      ),
      this.walk,
      element(
        "div",
        { class: "row" },
        element("button", { type: "button", id: "from-checkpoint", onclick: () => this.startAtCheckpoint() }, "Race from here"),
      ),
      element(
        "p",
        { class: "hint" },
        this.surfaces.some((s) => s.trajectory?.loss)
          ? "Each checkpoint has the colour and the height of its own training loss; a stem joins it to the surface, on which only its projection lies."
          : "The file does not hold the losses of the checkpoints themselves: what is shown lies on the surface, of which each checkpoint is a projection.",
      ),
    );
  }

  startAtCheckpoint() {
    const { trajectory } = this.surfaces.find((s) => s.trajectory);
    const k = Math.min(this.state.epoch, trajectory.x.length - 1);
    this.startAt([trajectory.x[k], trajectory.y[k]]);
    this.remember();
    this.play(true);
    this.list.scrollIntoView({ block: "nearest" });
  }

  epochName(k) {
    const epochs = this.surfaces.find((s) => s.trajectory)?.trajectory.epochs;
    return epochs && epochs[k] !== undefined ? `epoch ${text(epochs[k])}` : String(k + 1);
  }

  cutTools() {
    this.cutCanvas = element("canvas", { role: "img", "aria-label": "The values along a line through the start" });
    this.cutWords = element("p", { class: "hint", id: "cut-words" });
    const flat = this.surfaces.every((s) => s.flat);
    return element(
      "fieldset",
      {},
      element("legend", {}, flat ? "Slope and curvature at the start" : "A cut through the start"),
      ...(flat
        ? []
        : [
            element(
              "div",
              { class: "row" },
              this.checkbox("cut", "show it", () => this.dirty()),
            ),
            this.range(
              "angle",
              "Angle",
              () => [-90, 90, 1],
              () => {
                this.state.cut = true;
                this.dirty();
              },
              (v) => `${v}°`,
            ),
          ]),
      element("div", { class: "chart" }, this.cutCanvas),
      this.cutWords,
    );
  }

  flatnessTools() {
    const names = [...new Set(this.surfaces.flatMap((s) => Object.keys(s.flatness)))];
    const rows = names.map((name) =>
      element(
        "tr",
        {},
        element("th", { scope: "row" }, name),
        ...this.surfaces.map((s) => element("td", {}, name in s.flatness ? s.flatness[name] : "")),
      ),
    );
    const head = element("tr", {}, element("th"), ...this.surfaces.map((s) => element("th", { scope: "col" }, s.label)));
    return element(
      "fieldset",
      { class: "wide" },
      element("legend", {}, "Flatness"),
      element("div", { class: "scroll" }, element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows))),
    );
  }

  // Keeping up ------------------------------------------------------------------------------------------------------

  /** Everything anew: fields, colours, rates, race. */
  refreshAll() {
    const remarks = [];
    const one = this.surfaces.length < 2 || this.surfaces.every((s) => s.flat) || this.alike();
    if (!one)
      remarks.push("These surfaces cover different parts of their planes: a start is at the same coordinates where it can be.");
    if (this.field().better < 0) remarks.push(`${this.title(this.state.height)} is climbed, not descended.`);
    this.remark.textContent = remarks.join(" ");
    this.usualRates = OPTIMIZERS.map((o) =>
      suitableRate(interpolantOf(this.surfaces[0], this.state.height), o, this.state.objective),
    );
    for (const panel of this.panels) {
      panel.rebuild();
      if (panel.renderer) panel.solid.hidden = this.state.overlay && panel.number > 0;
    }
    this.arrange();
    this.race();
    this.dirty();
  }

  /** One scene for all surfaces stands above them; otherwise each has its own. */
  arrange() {
    const [first] = this.panels;
    if (!first.renderer) return;
    const { overlay } = this.state;
    if (overlay && !this.stage.contains(first.solid)) this.stage.append(first.solid);
    if (!overlay && this.stage.contains(first.solid)) first.flat.before(first.solid);
    this.stage.hidden = !overlay;
    this.list.classList.toggle("overlaid", overlay);
  }

  restart() {
    this.race();
    this.state.at = Math.min(this.state.at, this.state.steps);
    this.dirty();
  }

  usual() {
    this.state.rates = OPTIMIZERS.map(() => 0);
    this.state.coefficients = OPTIMIZERS.flatMap((o) => Object.values(o.settings).map(([value]) => value));
    this.restart();
    this.remember();
  }

  resetView() {
    for (const key of ["azimuth", "elevation", "distance"]) this.state[key] = { azimuth: -60, elevation: 34, distance: 5.3 }[key];
    this.dirty();
    this.remember();
  }

  dirty() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame((now) => this.frame(now));
  }

  frame(now) {
    this.waiting = false;
    const began = performance.now();
    const { state } = this;
    if (this.playing) {
      state.at = Math.min(state.steps, Math.max(0, Math.round(((now - this.clock) / (state.seconds * 1000)) * state.steps)));
      if (state.at >= state.steps) this.play(false);
    }
    for (const panel of this.panels) panel.draw();
    this.drawLoss();
    this.drawCut();
    this.sayResults();
    this.sayWalk();
    this.drawBar();
    for (const update of this.controls) update();
    this.frameTime = performance.now() - began;
    if (this.playing) this.dirty();
  }

  drawBar() {
    if (!this.colourBar) return;
    const [context, width, height] = fit(this.colourBar);
    const colour = this.colour();
    const scale = colour ? colour.scale : this.scale();
    const map = this.maps[this.state.overlay ? OVERLAID[0] : this.state.map];
    for (let k = 0; k < width; k++) {
      context.fillStyle = `rgb(${colourOf(map, k / width).join(",")})`;
      context.fillRect(k, 0, 1.5, height);
    }
    this.barLow.textContent = text(scale.low, 3);
    this.barHigh.textContent = text(scale.high, 3);
  }

  drawLoss() {
    const { state } = this;
    const curves = [];
    let positive = true;
    this.surfaces.forEach((_, number) => {
      for (const run of this.racesOf(number)) {
        const points = [];
        for (let k = 0; k <= run.shown; k++) {
          points.push([k, run.losses[k]]);
          positive &&= run.losses[k] > 0;
        }
        curves.push({ points, color: run.optimizer.color, width: 1.6, dash: [[], [6, 4], [2, 3]][number % 3] });
      }
    });
    drawChart(this.lossCanvas, this.theme, curves, {
      log: positive && state.scale !== "linear",
      xLabel: "step",
      yLabel: this.title(state.height),
      empty: "Play, or click on the surface.",
    });
  }

  drawCut() {
    const { state } = this;
    const curves = this.surfaces.map((surface, k) => ({
      points: cutThrough(surface, state.height, [state.x, state.y], state.angle).map(({ r, value }) => [r, value]),
      color: ["#2f6fb2", "#d9822b", "#3a9d5d", "#8b5fbf"][k % 4],
      width: 1.8,
    }));
    drawChart(this.cutCanvas, this.theme, curves, {
      log: state.scale !== "linear",
      xLabel: "distance from the start along the cut",
      yLabel: this.title(state.height),
      guides: [[0, this.theme.frame]],
      empty: "nothing is known along this line",
    });
    const words = this.surfaces.map((surface) => {
      const value = bend(surface, state.height, [state.x, state.y], state.angle);
      const name = this.surfaces.length > 1 ? `${surface.label}: ` : "";
      return Number.isFinite(value)
        ? `${name}second derivative along it at the start ${text(value, 3)}`
        : `${name}second derivative unknown`;
    });
    this.cutWords.textContent = `${words.join("; ")} (of the value itself, whatever the scale).`;
  }

  sayResults() {
    const rows = [];
    const ends = { edge: "left at the edge", hole: "met unknown cells", zero: "no logarithm there", diverged: "diverged" };
    const sign = this.field().better;
    this.surfaces.forEach((surface, number) => {
      const runs = [...this.racesOf(number)].sort((a, b) => sign * (a.losses[a.shown] - b.losses[b.shown]));
      if (runs.length && this.surfaces.length > 1) {
        rows.push(element("tr", { class: "of" }, element("th", { colspan: 5, scope: "rowgroup" }, surface.label)));
      }
      for (const run of runs) {
        const k = run.shown;
        const [a, b] = [run.points[2 * k], run.points[2 * k + 1]];
        const swatch = element("span", { class: "swatch", style: `background:${run.optimizer.color};margin-right:6px` });
        const words = [
          String(k),
          surface.flat ? text(a, 3) : `(${text(a, 3)}, ${text(b, 3)})`,
          text(run.losses[k]),
          k >= run.steps ? ends[run.end] || "all steps made" : "on its way",
        ];
        rows.push(
          element("tr", {}, element("td", {}, swatch, run.optimizer.title), ...words.map((each) => element("td", {}, each))),
        );
      }
    });
    this.results.replaceChildren(...rows);
  }

  sayWalk() {
    if (!this.walk) return;
    const parts = [];
    for (const surface of this.surfaces) {
      const path = surface.trajectory;
      const k = this.state.epoch;
      if (!path || path.x[k] === undefined) continue;
      const found = evaluate(interpolantOf(surface, this.state.height), path.x[k], path.y[k]);
      const loss = path.loss?.[k];
      const distance = path.distance?.[k];
      const own = path.field === this.state.height ? "loss" : this.title(path.field);
      parts.push(
        [
          `${this.epochName(k)}${this.surfaces.length > 1 ? ` of ${surface.label}` : ""}`,
          loss === null || loss === undefined ? "its own loss is not recorded" : `its own ${own} ${text(loss)}`,
          found && Number.isFinite(found[0]) ? `the surface under it ${text(found[0])}` : "not on this surface",
          ...(distance === null || distance === undefined ? [] : [`distance from the plane ${text(distance)}`]),
        ].join("; "),
      );
    }
    this.walk.textContent = parts.join(" · ");
  }

  savePicture() {
    const pieces = [];
    let width = 0;
    let height = 0;
    for (const panel of this.panels) {
      let [x, tall] = [0, 0];
      const row = [];
      const shown =
        panel.renderer && !panel.solid.hidden ? [[panel.glCanvas, panel.labels], [panel.flatCanvas]] : [[panel.flatCanvas]];
      for (const layers of shown) {
        row.push([layers, x]);
        x += layers[0].width;
        tall = Math.max(tall, layers[0].height);
      }
      const names =
        this.state.overlay && panel.number === 0
          ? this.surfaces.map((each, k) => `${each.label} (${OVERLAID[k % OVERLAID.length].toLowerCase()})`)
          : [];
      pieces.push([row, height, [names.join(" and ") || panel.surface.label, panel.note.textContent].filter(Boolean).join(" · ")]);
      width = Math.max(width, x);
      height += tall + 40;
    }
    const canvas = element("canvas", { width, height });
    const context = canvas.getContext("2d");
    context.fillStyle = this.theme.ground;
    context.fillRect(0, 0, width, height);
    context.fillStyle = this.theme.strong;
    context.font = "600 22px system-ui, sans-serif";
    for (const [row, top, label] of pieces) {
      context.fillText(label, 12, top + 27);
      for (const [layers, x] of row)
        for (const layer of layers) context.drawImage(layer, x, top + 40, layers[0].width, layers[0].height);
    }
    canvas.toBlob((blob) => {
      const url = URL.createObjectURL(blob);
      element("a", { href: url, download: "surface.png" }).click();
      setTimeout(() => URL.revokeObjectURL(url), 1000);
    });
  }

  key(event) {
    const { target } = event;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (["INPUT", "SELECT", "TEXTAREA"].includes(target.tagName) && target.type !== "checkbox") return;
    if (event.key === " " && !["BUTTON", "SUMMARY", "INPUT"].includes(target.tagName)) {
      event.preventDefault();
      this.play();
    } else if (event.key === ".") this.step(1);
    else if (event.key === ",") this.step(-1);
    else if (event.key === "r") this.step(-1e9);
    else if (event.key === "+") this.zoom(0.9);
    else if (event.key === "-") this.zoom(1 / 0.9);
  }
}

const app = new App(document.getElementById("app"), JSON.parse(document.getElementById("data").textContent));
window.lossatlas = app;
