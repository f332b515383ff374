// Segments an image with a folder that `segdistill pack` wrote: node segment.mjs FOLDER IMAGE MASK.png
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { crc32, deflateSync } from "node:zlib";
import sharp from "sharp";

process.env.ORT_DISABLE_TELEMETRY ??= "1"; // else onnxruntime tells Microsoft each model's name and hashes
const { InferenceSession, Tensor } = await import("onnxruntime-node");

/** Pillow's antialiased bilinear weights, in its fixed point of 22 bits: each output's first input, and its taps. */
function bilinear(from, to) {
  const scale = from / to, support = Math.max(scale, 1), inverse = 1 / support;
  return Array.from({ length: to }, (_, place) => {
    const centre = (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const last = Math.min(from, Math.trunc(centre + support + 0.5));
    const inputs = Array.from({ length: last - first }, (_, tap) => first + tap);
    const weights = inputs.map((input) => Math.max(0, 1 - Math.abs((input - centre + 0.5) * inverse)));
    const sum = weights.reduce((total, weight) => total + weight, 0);
    return { first, taps: weights.map((weight) => Math.trunc((weight / sum) * 2 ** 22 + 0.5)) };
  });
}

/** Resizes the middle axis of uint8 [outer, from, inner] to `to`. */
function resized(pixels, outer, from, to, inner) {
  if (from === to) return pixels;
  const out = new Uint8Array(outer * to * inner), outputs = bilinear(from, to);
  for (let at = 0; at < out.length; at++) {
    const channel = at % inner, row = (at - channel) / inner, { first, taps } = outputs[row % to];
    const begin = (Math.trunc(row / to) * from + first) * inner + channel;
    out[at] = taps.reduce((sum, weight, tap) => sum + weight * pixels[begin + tap * inner], 2 ** 21) >> 22;
  }
  return out;
}

/** Of each of `to` outputs, the nearest of `from` inputs. */
function nearest(from, to) {
  const inputs = [];
  for (let at = from / to / 2; inputs.length < to; at += from / to) inputs.push(Math.trunc(at));
  return inputs;
}

/** A PNG file of 8-bit indices [height, width] into a palette of RGB bytes. */
function indexedPng(ids, height, width, palette) {
  const header = Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 8, 3, 0, 0, 0]); // 8 bits, with a palette
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  const rows = Buffer.alloc(height * (width + 1)); // before each row a 0: it is not filtered
  for (let row = 0; row < height; row++) rows.set(ids.subarray(row * width, (row + 1) * width), row * (width + 1) + 1);
  const chunks = Object.entries({ IHDR: header, PLTE: palette, IDAT: deflateSync(rows), IEND: Buffer.alloc(0) });
  const parts = chunks.map(([kind, data]) => {
    const body = Buffer.concat([Buffer.from(kind), data]), [length, check] = [Buffer.alloc(4), Buffer.alloc(4)];
    length.writeUInt32BE(data.length);
    check.writeUInt32BE(crc32(body));
    return Buffer.concat([length, body, check]);
  });
  return Buffer.concat([Buffer.from("\x89PNG\r\n\x1a\n", "latin1"), ...parts]);
}

const [folder, input, output] = process.argv.slice(2);
const { file, palette, void: unseen, preprocessing } = JSON.parse(readFileSync(join(folder, "labels.json"), "utf8"));
const { resize: [height, width], cut_bottom: cut, gamma } = preprocessing;
const decoded = sharp(input).autoOrient().removeAlpha().toColourspace("srgb").raw();
const { data, info } = await decoded.toBuffer({ resolveWithObject: true });
const whole = resized(resized(data, info.height, info.width, width, 3), 1, info.height, height, width * 3);
const seen = whole.subarray(0, (height - cut) * width * 3).map((level) => Math.round(255 * (level / 255) ** gamma));

const session = await InferenceSession.create(join(folder, file));
const { mask } = await session.run({ image: new Tensor("uint8", seen, [1, height - cut, width, 3]) }, ["mask"]);

const columns = nearest(width, info.width);
const pick = (row) => columns.map((column) => (row < height - cut ? mask.data[row * width + column] : unseen));
const ids = Uint8Array.from(nearest(height, info.height).flatMap(pick));
const colours = Buffer.concat([Buffer.from(palette.flat()), Buffer.alloc(768 - 3 * palette.length)]);
writeFileSync(output, indexedPng(ids, info.height, info.width, colours));
