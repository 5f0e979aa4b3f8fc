// The scene in WebGL2: height fields with light and contour lines, lines of any width, balls. It takes arrays of numbers, and
// does not know what they show.

import { SUN } from "./light.js";
import { BALL_FLOATS, LINE_FLOATS, VERTEX_FLOATS } from "./mesh.js";
import { BALL_FRAGMENT, BALL_VERTEX, LINE_FRAGMENT, LINE_VERTEX, SURFACE_FRAGMENT, SURFACE_VERTEX } from "./shaders.js";

class Renderer {
  /** Throws if there is no WebGL2. */
  constructor(canvas) {
    const gl = canvas.getContext("webgl2", { antialias: true, preserveDrawingBuffer: true, premultipliedAlpha: true });
    if (!gl) throw new Error("no WebGL2");
    this.gl = gl;
    this.places = new Map();
    this.canvas = canvas;
    this.surface = this.program(SURFACE_VERTEX, SURFACE_FRAGMENT);
    this.line = this.program(LINE_VERTEX, LINE_FRAGMENT);
    this.ball = this.program(BALL_VERTEX, BALL_FRAGMENT);
    this.corners = this.buffer(gl.ARRAY_BUFFER, new Float32Array([0, -1, 0, 1, 1, -1, 1, 1]));
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    this.fields = [];
  }

  program(vertex, fragment) {
    const { gl } = this;
    const program = gl.createProgram();
    for (const [kind, source] of [
      [gl.VERTEX_SHADER, vertex],
      [gl.FRAGMENT_SHADER, fragment],
    ]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader) || "shader");
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program) || "program");
    return program;
  }

  buffer(kind, data) {
    const { gl } = this;
    const buffer = gl.createBuffer();
    gl.bindBuffer(kind, buffer);
    gl.bufferData(kind, data, gl.STATIC_DRAW);
    return buffer;
  }

  /** Replace the height fields: [{vertices, triangles, map (256 x 3 bytes), opacity}]. */
  setFields(fields) {
    const { gl } = this;
    for (const old of this.fields) {
      for (const buffer of [old.vertices, old.triangles]) gl.deleteBuffer(buffer);
      gl.deleteTexture(old.map);
    }
    this.fields = fields.map((field) => ({
      vertices: this.buffer(gl.ARRAY_BUFFER, field.vertices),
      triangles: this.buffer(gl.ELEMENT_ARRAY_BUFFER, field.triangles),
      count: field.triangles.length,
      opacity: field.opacity,
      map: this.texture(field.map),
    }));
  }

  /** A colour map of 256 x 3 bytes on the graphics card. */
  texture(map) {
    const { gl } = this;
    const texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB, 256, 1, 0, gl.RGB, gl.UNSIGNED_BYTE, map);
    for (const name of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, name, gl.LINEAR);
    for (const name of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, name, gl.CLAMP_TO_EDGE);
    return texture;
  }

  /** Clear the picture. view: {matrix, eye}; background: [r, g, b], 0 to 1. */
  begin(view, background) {
    const { gl, canvas } = this;
    this.view = view;
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clearColor(background[0], background[1], background[2], 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.enable(gl.DEPTH_TEST);
    gl.depthFunc(gl.LEQUAL);
  }

  /** Where a uniform of a program is; it is asked for once. */
  place(program, name) {
    const known = this.places.get(program) ?? {};
    this.places.set(program, known);
    known[name] ??= this.gl.getUniformLocation(program, name);
    return known[name];
  }

  uniforms(program, values) {
    const { gl } = this;
    for (const [name, value] of Object.entries(values)) {
      const where = this.place(program, name);
      if (name === "matrix") gl.uniformMatrix4fv(where, false, Float32Array.from(value));
      else if (name === "count" || name === "map") gl.uniform1i(where, value);
      else if (name === "levels") gl.uniform1fv(where, value);
      else if (Array.isArray(value)) gl[`uniform${value.length}fv`](where, value);
      else gl.uniform1f(where, value);
    }
  }

  /** Disable the attributes of the last program: their buffers may be deleted. */
  useNone() {
    for (let k = 0; k < 8; k++) this.gl.disableVertexAttribArray(k);
  }

  attributes(program, buffer, stride, layout, divisor) {
    const { gl } = this;
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    let offset = 0;
    for (const [name, size] of layout) {
      const where = gl.getAttribLocation(program, name);
      if (where >= 0) {
        gl.enableVertexAttribArray(where);
        gl.vertexAttribPointer(where, size, gl.FLOAT, false, 4 * stride, 4 * offset);
        gl.vertexAttribDivisor(where, divisor);
      }
      offset += size;
    }
  }

  /**
   * levels: heights of contour lines, at most 40; strength: their opacity. cut: values lie above the scale, and a
   * lid is drawn over them.
   */
  drawFields({ tall, levels, strength, cut }) {
    const { gl, surface } = this;
    gl.useProgram(surface);
    this.useNone();
    const padded = new Float32Array(40);
    padded.set(levels.slice(0, 40));
    this.uniforms(surface, {
      matrix: this.view.matrix,
      eye: this.view.eye,
      sun: SUN,
      tall,
      strength,
      levels: padded,
      count: Math.min(40, levels.length),
      map: 0,
    });
    for (const field of this.fields) {
      this.uniforms(surface, { opacity: field.opacity, lid: 0 });
      gl.activeTexture(gl.TEXTURE0);
      gl.bindTexture(gl.TEXTURE_2D, field.map);
      const layout = [
        ["place", 4],
        ["normal", 3],
        ["light", 2],
      ];
      this.attributes(surface, field.vertices, VERTEX_FLOATS, layout, 0);
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, field.triangles);
      gl.depthMask(field.opacity === 1);
      gl.drawElements(gl.TRIANGLES, field.count, gl.UNSIGNED_INT, 0);
      if (!cut) continue;
      this.uniforms(surface, { lid: 1 });
      gl.drawElements(gl.TRIANGLES, field.count, gl.UNSIGNED_INT, 0);
    }
    gl.depthMask(true);
  }

  /** segments: see segmentsOf. hidden: the opacity of what lies behind a surface. over: [r, g, b, share] of another colour. */
  drawLines(segments, { width, lift = 0, opacity = 1, hidden = 0, over = [0, 0, 0, 0] }) {
    if (segments.length === 0) return;
    const { gl, line } = this;
    gl.useProgram(line);
    this.useNone();
    const screen = [this.canvas.width, this.canvas.height];
    this.uniforms(line, { matrix: this.view.matrix, screen, width, lift, opacity, over });
    this.attributes(line, this.corners, 2, [["corner", 2]], 0);
    const buffer = this.buffer(gl.ARRAY_BUFFER, segments);
    const layout = [
      ["from", 3],
      ["to", 3],
      ["ink", 4],
    ];
    this.attributes(line, buffer, LINE_FLOATS, layout, 1);
    const count = segments.length / LINE_FLOATS;
    gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, count);
    if (hidden > 0) {
      gl.depthFunc(gl.GREATER);
      gl.depthMask(false);
      this.uniforms(line, { opacity: hidden });
      gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, count);
      gl.depthFunc(gl.LEQUAL);
      gl.depthMask(true);
    }
    gl.deleteBuffer(buffer);
  }

  /** balls: Float32Array, see `ball`. */
  drawBalls(balls, { size, lift = 0, hidden = 0 }) {
    if (balls.length === 0) return;
    const { gl, ball } = this;
    gl.useProgram(ball);
    this.useNone();
    this.uniforms(ball, { matrix: this.view.matrix, size, lift, opacity: 1 });
    const buffer = this.buffer(gl.ARRAY_BUFFER, balls);
    const layout = [
      ["place", 3],
      ["ink", 3],
      ["mark", 3],
    ];
    this.attributes(ball, buffer, BALL_FLOATS, layout, 0);
    gl.drawArrays(gl.POINTS, 0, balls.length / BALL_FLOATS);
    if (hidden > 0) {
      gl.depthFunc(gl.GREATER);
      this.uniforms(ball, { opacity: hidden });
      gl.drawArrays(gl.POINTS, 0, balls.length / BALL_FLOATS);
      gl.depthFunc(gl.LEQUAL);
    }
    gl.deleteBuffer(buffer);
  }
}

/** The renderer of a canvas; null if the browser has no WebGL2 or refuses the programs. */
export function openRenderer(canvas) {
  try {
    return new Renderer(canvas);
  } catch {
    return null;
  }
}
