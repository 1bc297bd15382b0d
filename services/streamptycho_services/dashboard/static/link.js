// The connection: asks for one message of an item at a time, reconnects by itself.

const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 8000;

/** Header and typed array of a binary message. */
export function unpack(buffer) {
  const size = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, size)));
  const data = header.dtype === "<f4" ? new Float32Array(buffer, 4 + size) : new Uint8Array(buffer, 4 + size);
  return [header, data];
}

/** The same of a message, pictures that came as JPEG as the bytes they stand for. */
export async function opened(buffer) {
  const [header, data] = unpack(buffer);
  if (!header.jpeg) return [header, data];
  const parts = [["image/jpeg", data.subarray(0, header.jpeg)], ["image/png", data.subarray(header.jpeg)]];
  const [values, odd] = await Promise.all(parts.map(([type, bytes]) => pixels(new Blob([bytes], { type }))));
  const most = header.item === "pattern" ? 254 : 255;
  for (let i = 0; i < values.length; i++) values[i] = odd[i] === MEASURED ? Math.min(Math.max(values[i], 1), most) : odd[i];
  return [header, values];
}

const MEASURED = 128; // in the PNG: the value is in the JPEG

/** Gray values of an encoded picture. */
async function pixels(blob) {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  const { width, height } = bitmap;
  const sheet = Object.assign(document.createElement("canvas"), { width, height });
  const context = sheet.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const { data } = context.getImageData(0, 0, width, height);
  const values = new Uint8Array(width * height);
  for (let i = 0; i < values.length; i++) values[i] = data[4 * i];
  return values;
}

export class Link {
  /** `take(header, data)` gets each message; `tell(state, text)` hears live, connecting or gone. */
  constructor(take, tell, quality) {
    this.take = take;
    this.tell = tell;
    this.quality = quality;
    this.order = Promise.resolve(); // messages are taken in the order in which they came, however long decoding takes
    this.wants = new Set();
    this.shown = { scan: null, moment: null };
    this.delay = FIRST_DELAY_MS;
    this.connect();
  }

  connect() {
    const address = new URL("ws", location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(address);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    socket.onopen = () => {
      this.delay = FIRST_DELAY_MS;
      this.tell("live", "");
      this.send({ quality: this.quality, show: this.shown, want: ["hello", ...this.wants] });
    };
    socket.onmessage = ({ data }) => {
      const message = typeof data === "string" ? [JSON.parse(data), null] : opened(data);
      this.order = this.order.then(async () => this.take(...(await message))).catch(reportError);
    };
    socket.onclose = (event) => this.lost(event);
  }

  async lost(event) {
    const wait = this.delay;
    this.delay = Math.min(2 * wait, LONGEST_DELAY_MS);
    this.tell("gone", event.reason || "");
    setTimeout(() => this.connect(), wait);
    if (event.code !== 1006) return;
    try { // a browser does not say why a connection was refused
      const answer = await fetch("status", { cache: "no-store" });
      if (answer.status === 403) this.tell("gone", "the token is not accepted; open the address that the server printed");
    } catch { /* nobody there: the next attempt will tell */ }
  }

  send(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  /** Ask for the next message of some items. */
  want(...items) {
    for (const item of items) this.wants.add(item);
    this.send({ want: items });
  }

  /** Ask for pictures as ``raw`` or ``jpeg`` from now on. */
  ask(quality) {
    this.quality = quality;
    this.send({ quality });
  }

  /** Ask no more: the item is wanted again only after a reconnection if somebody asks. */
  drop(item) { this.wants.delete(item); }

  /** Turn to a scan (null: the newest) and to one of its snapshots (null: the newest). */
  show(scan, moment) {
    this.shown = { scan, moment };
    this.send({ show: this.shown });
  }
}
