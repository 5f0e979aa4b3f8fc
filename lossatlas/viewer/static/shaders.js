// The programs of the scene, in GLSL.

export const SURFACE_VERTEX = `#version 300 es
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

export const SURFACE_FRAGMENT = `#version 300 es
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
uniform float opacity;
out vec4 pixel;
void main() { pixel = vec4(colour.rgb, 1.0) * colour.a * opacity; }`;

export const BALL_VERTEX = `#version 300 es
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

export const BALL_FRAGMENT = `#version 300 es
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
