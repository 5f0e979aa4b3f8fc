// The scene in WebGL2: height fields with light and contour lines, lines of any width, balls. Nothing here knows what is
// shown: it takes arrays of numbers.

const SURFACE_VERTEX = `#version 300 es
in vec4 place;   // u, v, height, colour
in vec3 normal;
uniform mat4 matrix;
uniform float tall;
out float height;
out float colour;
out vec3 away;
out vec3 here;
void main() {
  height = place.z;
  colour = place.w;
  away = normal;
  here = vec3(place.xy, place.z * tall);
  gl_Position = matrix * vec4(here, 1.0);
}`;

const SURFACE_FRAGMENT = `#version 300 es
precision highp float;
in float height;
in float colour;
in vec3 away;
in vec3 here;
uniform sampler2D map;
uniform vec3 eye;
uniform vec3 sun;
uniform float top;
uniform float opacity;
uniform float levels[40];
uniform int count;
uniform float strength;
out vec4 pixel;
void main() {
  if (height > top) discard;
  vec3 base = colour < -0.5 ? vec3(0.6) : texture(map, vec2(clamp(colour, 0.0, 1.0) * 255.0 / 256.0 + 0.5 / 256.0, 0.5)).rgb;
  vec3 n = normalize(away);
  vec3 toEye = normalize(eye - here);
  if (dot(n, toEye) < 0.0) n = -n;
  float light = 0.62 + 0.42 * max(dot(n, sun), 0.0) - 0.12 * (1.0 - n.z);
  float shine = pow(max(dot(n, normalize(sun + toEye)), 0.0), 40.0);
  vec3 shaded = base * light + 0.16 * shine;
  float wide = max(fwidth(height), 1e-6);
  float line = 0.0;
  for (int k = 0; k < 40; k++) {
    if (k >= count) break;
    line = max(line, 1.0 - smoothstep(0.5, 1.3, abs(height - levels[k]) / wide));
  }
  line *= smoothstep(1e-6, 1e-5, fwidth(height));  // a plateau at a level is no line
  shaded = mix(shaded, shaded * 0.35, line * strength);
  pixel = vec4(shaded, 1.0) * opacity;
}`;

const LINE_VERTEX = `#version 300 es
in vec2 corner;  // along 0..1, across -1..1
in vec3 from;
in vec3 to;
in vec4 ink;
uniform mat4 matrix;
uniform vec2 screen;
uniform float width;
uniform float lift;
out vec4 colour;
void main() {
  vec4 a = matrix * vec4(from, 1.0);
  vec4 b = matrix * vec4(to, 1.0);
  vec2 d = (b.xy / b.w - a.xy / a.w) * screen;
  float size = length(d);
  vec2 along = size > 1e-6 ? d / size : vec2(1.0, 0.0);
  vec4 p = corner.x < 0.5 ? a : b;
  vec2 step = vec2(-along.y, along.x) * corner.y + along * (corner.x * 2.0 - 1.0) * 0.5;
  p.xy += step * width / screen * p.w;
  p.z -= lift * p.w;
  gl_Position = p;
  colour = ink;
}`;

const LINE_FRAGMENT = `#version 300 es
precision highp float;
in vec4 colour;
uniform float opacity;
out vec4 pixel;
void main() { pixel = vec4(colour.rgb, 1.0) * colour.a * opacity; }`;

const BALL_VERTEX = `#version 300 es
in vec3 place;
in vec3 ink;
uniform mat4 matrix;
uniform float size;
uniform float lift;
out vec3 colour;
void main() {
  gl_Position = matrix * vec4(place, 1.0);
  gl_Position.z -= lift * gl_Position.w;
  gl_PointSize = size;
  colour = ink;
}`;

const BALL_FRAGMENT = `#version 300 es
precision highp float;
in vec3 colour;
uniform float opacity;
out vec4 pixel;
void main() {
  vec2 p = gl_PointCoord * 2.0 - 1.0;
  float r = dot(p, p);
  if (r > 1.0) discard;
  vec3 n = vec3(p.x, -p.y, sqrt(1.0 - r));
  float light = 0.55 + 0.55 * max(dot(n, normalize(vec3(-0.4, 0.6, 0.7))), 0.0);
  float shine = pow(max(dot(n, normalize(vec3(-0.3, 0.5, 0.9))), 0.0), 30.0);
  vec3 shaded = r > 0.82 ? vec3(1.0) : colour * light + 0.6 * shine;
  pixel = vec4(shaded, 1.0) * opacity;
}`;

const SUN = [-0.45, -0.25, 0.857];
const LINE_FLOATS = 10;

/**
 * The vertices of a height field on a fine grid: Float32Array of u, v, height, colour, normal for each point that is known,
 * and the triangles between them. size: [nu, nv]; half: half the box's widths [eu, ev]; sample(s, t) with s and t in
 * [0, 1] gives [height, colour, dheight/ds, dheight/dt] or null.
 */
function heightField(size, half, tall, sample) {
  const [nu, nv] = size;
  const vertices = new Float32Array(nu * nv * 7);
  const known = new Uint8Array(nu * nv);
  for (let j = 0; j < nv; j++) {
    for (let i = 0; i < nu; i++) {
      const [s, t] = [i / (nu - 1), j / (nv - 1)];
      const found = sample(s, t);
      if (!found) continue;
      const at = j * nu + i;
      known[at] = 1;
      const slopeU = (found[2] * tall) / (2 * half[0]);
      const slopeV = (found[3] * tall) / (2 * half[1]);
      const length = Math.hypot(slopeU, slopeV, 1);
      const values = [(2 * s - 1) * half[0], (2 * t - 1) * half[1], found[0], found[1]];
      vertices.set([...values, -slopeU / length, -slopeV / length, 1 / length], 7 * at);
    }
  }
  const triangles = new Uint32Array(6 * (nu - 1) * (nv - 1));
  let count = 0;
  for (let j = 0; j + 1 < nv; j++) {
    for (let i = 0; i + 1 < nu; i++) {
      const a = j * nu + i;
      if (!(known[a] && known[a + 1] && known[a + nu] && known[a + nu + 1])) continue;
      triangles.set([a, a + 1, a + nu, a + 1, a + nu + 1, a + nu], count);
      count += 6;
    }
  }
  return { vertices, triangles: triangles.slice(0, count) };
}

/** Segments for the renderer from runs of points [[x, y, z], ...] in one colour [r, g, b, a] (0 to 1). */
function segmentsOf(runs) {
  let count = 0;
  for (const { points } of runs) count += Math.max(0, points.length - 1);
  const out = new Float32Array(count * LINE_FLOATS);
  let at = 0;
  for (const { points, ink } of runs) {
    for (let k = 0; k + 1 < points.length; k++) {
      out.set([...points[k], ...points[k + 1], ...ink], at);
      at += LINE_FLOATS;
    }
  }
  return out;
}

class Renderer {
  /** Throws where there is no WebGL2. */
  constructor(canvas) {
    const gl = canvas.getContext("webgl2", { antialias: true, preserveDrawingBuffer: true, premultipliedAlpha: true });
    if (!gl) throw new Error("no WebGL2");
    this.gl = gl;
    this.canvas = canvas;
    this.surface = this.program(SURFACE_VERTEX, SURFACE_FRAGMENT);
    this.line = this.program(LINE_VERTEX, LINE_FRAGMENT);
    this.ball = this.program(BALL_VERTEX, BALL_FRAGMENT);
    this.corners = this.buffer(gl.ARRAY_BUFFER, new Float32Array([0, -1, 0, 1, 1, -1, 1, 1]));
    this.texture = gl.createTexture();
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
    this.fields = fields.map((field) => {
      const map = gl.createTexture();
      gl.bindTexture(gl.TEXTURE_2D, map);
      gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB, 256, 1, 0, gl.RGB, gl.UNSIGNED_BYTE, field.map);
      for (const [name, value] of [
        [gl.TEXTURE_MIN_FILTER, gl.LINEAR],
        [gl.TEXTURE_MAG_FILTER, gl.LINEAR],
        [gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE],
        [gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE],
      ]) {
        gl.texParameteri(gl.TEXTURE_2D, name, value);
      }
      return {
        vertices: this.buffer(gl.ARRAY_BUFFER, field.vertices),
        triangles: this.buffer(gl.ELEMENT_ARRAY_BUFFER, field.triangles),
        count: field.triangles.length,
        opacity: field.opacity,
        map,
      };
    });
  }

  begin(view, background) {
    const { gl, canvas } = this;
    this.view = view;
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clearColor(background[0], background[1], background[2], 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.enable(gl.DEPTH_TEST);
    gl.depthFunc(gl.LEQUAL);
  }

  uniforms(program, values) {
    const { gl } = this;
    for (const [name, value] of Object.entries(values)) {
      const where = gl.getUniformLocation(program, name);
      if (name === "matrix") gl.uniformMatrix4fv(where, false, Float32Array.from(value));
      else if (name === "count" || name === "map") gl.uniform1i(where, value);
      else if (name === "levels") gl.uniform1fv(where, value);
      else if (Array.isArray(value)) (value.length === 2 ? gl.uniform2fv : gl.uniform3fv).call(gl, where, value);
      else gl.uniform1f(where, value);
    }
  }

  /** Only these attributes: those of other programs may lie in buffers that are gone. */
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

  drawFields({ tall, top, levels, strength }) {
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
      top,
      strength,
      levels: padded,
      count: Math.min(40, levels.length),
      map: 0,
    });
    for (const field of this.fields) {
      this.uniforms(surface, { opacity: field.opacity });
      gl.activeTexture(gl.TEXTURE0);
      gl.bindTexture(gl.TEXTURE_2D, field.map);
      const layout = [
        ["place", 4],
        ["normal", 3],
      ];
      this.attributes(surface, field.vertices, 7, layout, 0);
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, field.triangles);
      gl.depthMask(field.opacity === 1);
      gl.drawElements(gl.TRIANGLES, field.count, gl.UNSIGNED_INT, 0);
    }
    gl.depthMask(true);
  }

  /** segments: see segmentsOf. hidden: also show, faintly, what lies behind a surface. */
  drawLines(segments, { width, lift = 0, opacity = 1, hidden = 0 }) {
    if (segments.length === 0) return;
    const { gl, line } = this;
    gl.useProgram(line);
    this.useNone();
    const screen = [this.canvas.width, this.canvas.height];
    this.uniforms(line, { matrix: this.view.matrix, screen, width, lift, opacity });
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

  /** balls: Float32Array of x, y, z, r, g, b. */
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
    ];
    this.attributes(ball, buffer, 6, layout, 0);
    gl.drawArrays(gl.POINTS, 0, balls.length / 6);
    if (hidden > 0) {
      gl.depthFunc(gl.GREATER);
      this.uniforms(ball, { opacity: hidden });
      gl.drawArrays(gl.POINTS, 0, balls.length / 6);
      gl.depthFunc(gl.LEQUAL);
    }
    gl.deleteBuffer(buffer);
  }
}
