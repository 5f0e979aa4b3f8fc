// The programs of the scene, in GLSL.

export const SURFACE_VERTEX = `#version 300 es
in vec4 place;   // u, v, height without a lid, colour
in vec3 normal;
in vec2 light;   // of the sky, of the sun
uniform mat4 matrix;
uniform float tall;
uniform float lid;  // 1: draw the lid over what lies above the scale; 0: draw the surface below it
out float height;
out float colour;
out vec3 away;
out vec3 here;
out vec2 reached;
void main() {
  height = place.z;
  colour = place.w;
  away = normal;
  reached = light;
  here = vec3(place.xy, mix(place.z, 1.0, lid) * tall);
  gl_Position = matrix * vec4(here, 1.0);
}`;

export const SURFACE_FRAGMENT = `#version 300 es
precision highp float;
in float height;
in float colour;
in vec3 away;
in vec3 here;
in vec2 reached;
uniform sampler2D map;
uniform vec3 eye;
uniform vec3 sun;
uniform float opacity;
uniform float lid;
uniform float levels[40];
uniform int count;
uniform float strength;
out vec4 pixel;
void main() {
  if ((height > 1.0) != (lid > 0.5)) discard;
  vec3 n = normalize(away);
  vec3 base;
  float line = 0.0;
  if (lid > 0.5) {  // hatched grey, which no colour map has
    float stripes = (here.x + here.y) * 22.0;
    float wide = max(fwidth(stripes), 1e-6);
    float off = abs(fract(stripes) - 0.5);
    base = vec3(mix(0.5, 0.72, smoothstep(0.25 - wide, 0.25 + wide, off)));
    n = vec3(0.0, 0.0, 1.0);
  } else {
    base = colour < -0.5 ? vec3(0.6) : texture(map, vec2(clamp(colour, 0.0, 1.0) * 255.0 / 256.0 + 0.5 / 256.0, 0.5)).rgb;
    float wide = max(fwidth(height), 1e-6);
    for (int k = 0; k < count; k++) line = max(line, 1.0 - smoothstep(0.2, 1.1, abs(height - levels[k]) / wide));
    line *= smoothstep(1e-6, 1e-5, wide);  // a plateau at a level is no line
    line *= 1.0 - smoothstep(0.12, 0.4, wide * float(count));  // where lines are denser than pixels they only darken
  }
  if (dot(n, eye - here) < 0.0) n = -n;
  bool below = n.z < 0.0;
  float sky = below ? 0.6 : (0.5 + 0.5 * reached.x) * (0.8 + 0.2 * n.z);
  float direct = below ? 0.15 : (0.35 + 0.65 * reached.y) * max(dot(n, sun), 0.0);
  vec3 shaded = base * (vec3(0.50, 0.52, 0.56) * sky + vec3(0.68, 0.66, 0.61) * direct);
  pixel = vec4(shaded * (1.0 - 0.55 * line * strength), 1.0) * opacity;
}`;

export const LINE_VERTEX = `#version 300 es
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

export const LINE_FRAGMENT = `#version 300 es
precision highp float;
in vec4 colour;
uniform vec4 over;  // a colour that covers those of the lines, and how much
uniform float opacity;
out vec4 pixel;
void main() { pixel = vec4(mix(colour.rgb, over.rgb, over.a), 1.0) * colour.a * opacity; }`;

export const BALL_VERTEX = `#version 300 es
in vec3 place;
in vec3 ink;
in vec3 mark;    // see marks.js
uniform mat4 matrix;
uniform float size;
uniform float lift;
out vec3 colour;
flat out vec3 shape;
void main() {
  gl_Position = matrix * vec4(place, 1.0);
  gl_Position.z -= lift * gl_Position.w;
  gl_PointSize = size;
  colour = ink;
  shape = mark;
}`;

export const BALL_FRAGMENT = `#version 300 es
precision highp float;
in vec3 colour;
flat in vec3 shape;
uniform float opacity;
uniform float size;
out vec4 pixel;
void main() {
  vec2 p = vec2(gl_PointCoord.x * 2.0 - 1.0, 1.0 - gl_PointCoord.y * 2.0);
  float half_wedge = 3.14159265 / shape.x;
  float angle = abs(mod(atan(p.y, p.x) - shape.z + half_wedge, 2.0 * half_wedge) - half_wedge);  // 0 at a tip
  vec2 q = length(p) * vec2(cos(angle), sin(angle));
  vec2 edge = shape.y * vec2(cos(half_wedge), sin(half_wedge)) - vec2(1.0, 0.0);  // from the tip to the notch
  float outside = ((q.x - 1.0) * edge.y - q.y * edge.x) / length(edge);
  float blur = 2.0 / size;
  float cover = 1.0 - smoothstep(-blur, 0.0, outside);
  if (cover <= 0.0) discard;
  float light = 1.08 - 0.16 * length(p - vec2(-0.3, 0.35));
  vec3 shaded = mix(colour * light, vec3(1.0), smoothstep(-0.30, -0.24, outside));  // a white rim
  shaded = mix(shaded, vec3(0.15), smoothstep(-0.14, -0.10, outside));              // within a dark one
  pixel = vec4(shaded, 1.0) * opacity * cover;
}`;
