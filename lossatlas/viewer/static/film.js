// A race as a film: the picture of the page is painted on a canvas in each frame, and the browser records it.

import { download, fileName } from "./download.js";
import { element } from "./elements.js";
import { arrangement, paint, shownTiles } from "./picture.js";
import { withDuration } from "./webm.js";

const KINDS = ["video/webm;codecs=vp8", "video/webm;codecs=vp9", "video/webm"]; // the first one costs least
const WIDEST = 1920; // pixels
const RATE = 8e6; // bits a second
const FRAMES = 30; // a second
const REST = 8; // frames of the page in which the end is painted, so that it is recorded
const PAUSE = 100; // milliseconds between them, and between pieces of the film
const HEAD = 1000; // bytes: a film without pictures has less
const PATIENCE = 100; // times that the end is painted at most, until there are pictures
const LONGEST_WAIT = 10000; // milliseconds until the race begins, if the browser does not say that it records
const NOTHING = "This browser has recorded nothing.";

/** The kind of film that this browser records; "" if there is none. */
const kindOf = () => (window.MediaRecorder ? KINDS.find((kind) => MediaRecorder.isTypeSupported(kind)) : "") || "";

/** Why this browser cannot record a film; "" if it can. */
export function problemOfFilms() {
  if (!window.MediaRecorder || !HTMLCanvasElement.prototype.captureStream) return "This browser cannot record a film of a canvas.";
  return kindOf() ? "" : "This browser records no WebM.";
}

export class Film {
  /** changed(recording): is called when it begins and ends. */
  constructor(app, changed) {
    this.app = app;
    this.changed = changed;
    this.recorder = null;
    this.ending = false;
    this.timer = 0; // releases the race
  }

  toggle() {
    if (this.recorder) this.app.play(false);
    else this.begin();
  }

  /** Record the race from its start to its end, or until it is paused. */
  begin() {
    const { app } = this;
    app.rewind();
    app.race.held = true;
    app.play(true); // then the optimizers have names that are painted
    this.canvas = element("canvas");
    this.context = this.canvas.getContext("2d", { alpha: false });
    this.tiles = shownTiles(app);
    this.layout = arrangement(this.context, app, this.tiles);
    const ratio = Math.min(window.devicePixelRatio || 1, WIDEST / this.layout.width);
    this.canvas.width = 2 * Math.ceil((this.layout.width * ratio) / 2); // encoders want even numbers
    this.canvas.height = 2 * Math.ceil((this.layout.height * ratio) / 2);
    this.context.scale(ratio, ratio);
    this.chunks = [];
    const type = kindOf();
    this.recorder = new MediaRecorder(this.canvas.captureStream(FRAMES), { mimeType: type, videoBitsPerSecond: RATE });
    this.recorder.ondataavailable = ({ data }) => this.chunks.push(data);
    this.recorder.onstop = () => this.save();
    this.recorder.onstart = () => this.release();
    this.timer = setTimeout(() => this.release(), LONGEST_WAIT);
    this.ending = false;
    this.recorder.start(PAUSE);
    this.changed(true);
  }

  /** Let the race run. Browsers record nothing before they have seen pictures for a while, and its beginning would be lost. */
  release() {
    clearTimeout(this.timer);
    this.app.race.held = false;
  }

  /** Take a frame, after the page has been drawn. */
  update() {
    if (!this.recorder) return;
    paint(this.context, this.app, this.layout);
    if (this.app.race.playing || this.ending) return;
    this.ending = true;
    this.release();
    this.end(1);
  }

  /** Paint the end for the `count`-th time, until it is recorded. */
  end(count) {
    paint(this.context, this.app, this.layout);
    if (count < REST || (this.size() < HEAD && count < PATIENCE)) {
      setTimeout(() => requestAnimationFrame(() => this.end(count + 1)), PAUSE);
      return;
    }
    this.recorder.stop();
    this.recorder = null;
    this.changed(false);
  }

  /** Bytes of the film. */
  size() {
    return this.chunks.reduce((sum, { size }) => sum + size, 0);
  }

  async save() {
    if (this.size() < HEAD) {
      this.app.controls.complain(NOTHING);
      return;
    }
    const bytes = new Uint8Array(await new Blob(this.chunks).arrayBuffer());
    download(new Blob([withDuration(bytes)], { type: "video/webm" }), fileName("webm"));
  }
}
