// The duration of a WebM film. Browsers record films without it, since they do not know the end yet, and players then show no
// length and cannot seek. A film is a list of EBML elements: an id, a size, and the content.

const SEGMENT = 0x18538067; // holds all that follows
const SEEK_HEAD = 0x114d9b74; // holds places of other elements
const INFO = 0x1549a966;
const DURATION = 0x4489; // in ticks
const CLUSTER = 0x1f43b675; // holds blocks
const CLUSTER_TIME = 0xe7; // in ticks; those of its blocks count from it
const BLOCK_GROUP = 0xa0; // holds a block
const BLOCKS = [0xa1, 0xa3];
const ALONE = 40; // ticks that a picture is shown which has no others
const ENTERED = [SEGMENT, INFO, CLUSTER, BLOCK_GROUP]; // elements whose content is read as elements

/** The bytes of a film with its duration; the same bytes where it is there already, or where they cannot be read. */
export function withDuration(bytes) {
  const { found, times } = readFilm(bytes);
  const { [INFO]: info, [DURATION]: written } = found;
  if (!info || !times.length) return bytes;
  const [first, last] = [times.reduce((a, b) => Math.min(a, b)), times.reduce((a, b) => Math.max(a, b))];
  const ticks = last + (times.length > 1 ? (last - first) / (times.length - 1) : ALONE); // the last picture is shown as long as others
  if (written) return rewritten(bytes, written, ticks);
  if (!mayGrow(found)) return bytes;
  const duration = durationElement(ticks);
  const head = infoHead(info.end - info.content + duration.length);
  return joined([bytes.subarray(0, info.start), head, bytes.subarray(info.content, info.end), duration, bytes.subarray(info.end)]);
}

const viewOf = (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** The first element of each kind, by its id, and the times of all blocks. */
function readFilm(bytes) {
  const view = viewOf(bytes);
  const [found, times] = [{}, []];
  let cluster = 0;
  let at = 0;
  while (at < bytes.length) {
    const own = elementAt(view, at);
    if (!own) break; // what follows is cut off
    found[own.id] ??= own;
    if (own.id === CLUSTER_TIME) cluster = numberAt(view, own.content, own.end);
    if (BLOCKS.includes(own.id)) times.push(cluster + blockTime(view, own.content));
    at = ENTERED.includes(own.id) ? own.content : own.end;
  }
  return { found, times };
}

/** True if nothing tells the places of what follows: then the general information can become longer. */
function mayGrow({ [SEGMENT]: segment, [SEEK_HEAD]: places, [INFO]: info }) {
  return segment?.end === Infinity && info.end < Infinity && !(places && places.end > places.content);
}

/** The bytes with another value in the place of a duration of 0, as some browsers write it. */
function rewritten(bytes, { content, end }, ticks) {
  const copy = bytes.slice();
  const view = viewOf(copy);
  if (end - content === 8 && view.getFloat64(content) === 0) view.setFloat64(content, ticks);
  else if (end - content === 4 && view.getFloat32(content) === 0) view.setFloat32(content, ticks);
  return copy;
}

/** An element: {id, start, content, end}, with an end of Infinity where its size is unknown; null if it is cut off. */
function elementAt(view, start) {
  const id = variableAt(view, start, false);
  const size = id && variableAt(view, start + id.length, true);
  if (!size) return null;
  const content = start + id.length + size.length;
  const end = content + size.value;
  return end === Infinity || end <= view.byteLength || ENTERED.includes(id.value) ? { id: id.value, start, content, end } : null;
}

/** A number whose leading zeros give its length in bytes: {value, length}; sizes leave the 1 behind these zeros out. */
function variableAt(view, at, isSize) {
  if (at >= view.byteLength) return null;
  const first = view.getUint8(at);
  const length = Math.clz32(first) - 23;
  if (length > 8 || at + length > view.byteLength) return null;
  if (!isSize) return { value: numberAt(view, at, at + length), length };
  const value = (first - 2 ** (8 - length)) * 256 ** (length - 1) + numberAt(view, at + 1, at + length);
  return { value: value >= 2 ** (7 * length) - 1 ? Infinity : value, length };
}

function numberAt(view, from, to) {
  let value = 0;
  for (let k = from; k < to; k++) value = 256 * value + view.getUint8(k);
  return value;
}

/** The time of a block within its cluster, behind the number of its track. */
function blockTime(view, at) {
  return view.getInt16(at + variableAt(view, at, true).length);
}

function durationElement(ticks) {
  const view = new DataView(new ArrayBuffer(11));
  view.setUint16(0, DURATION);
  view.setUint8(2, 0x88); // the size: eight bytes
  view.setFloat64(3, ticks);
  return new Uint8Array(view.buffer);
}

/** The head of the general information for a content of `size` bytes. */
function infoHead(size) {
  const view = new DataView(new ArrayBuffer(12));
  view.setUint32(0, INFO);
  view.setUint8(4, 0x01); // the size takes eight bytes
  view.setUint32(8, size);
  return new Uint8Array(view.buffer);
}

function joined(parts) {
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
