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

export class Link {
  /** `take(header, data)` gets each message; `tell(state, text)` hears live, connecting or gone. */
  constructor(take, tell) {
    this.take = take;
    this.tell = tell;
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
      this.send({ show: this.shown, want: ["hello", ...this.wants] });
    };
    socket.onmessage = ({ data }) => {
      if (typeof data === "string") {
        const message = JSON.parse(data);
        this.take(message, null);
      } else this.take(...unpack(data));
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

  /** Ask no more: the item is wanted again only after a reconnection if somebody asks. */
  drop(item) { this.wants.delete(item); }

  /** Turn to a scan (null: the newest) and to one of its snapshots (null: the newest). */
  show(scan, moment) {
    this.shown = { scan, moment };
    this.send({ show: this.shown });
  }
}
