// The WebSocket to the server; docs/protocol.md describes what goes over it.

const HEADER_BYTES = 24;
const KINDS = ["next", "begin", "picture", "back", "what if"];

/**
 * Stay connected to the server.
 *
 * `on` has told(message) for what the server says, closed(), and frame(frame), which draws it: only then the
 * server computes the next. Returns send(message), a message being an object or a Blob.
 */
export function connect(on) {
  const address = new URL("ws", location.href);
  address.protocol = address.protocol.replace("http", "ws");
  let socket;
  let wait = 250;

  const send = (message) => {
    if (socket.readyState !== WebSocket.OPEN) return;
    socket.send(message instanceof Blob ? message : JSON.stringify(message));
  };

  const receive = (data) => {
    if (typeof data === "string") {
      wait = 250;
      return on.told(JSON.parse(data));
    }
    const header = new DataView(data, 0, HEADER_BYTES);
    const number = header.getUint32(4, true);
    on.frame({
      kind: KINDS[header.getUint8(0)],
      ready: header.getUint8(1) === 1,
      action: header.getInt16(2, true),
      number,
      key: header.getUint32(8, true),
      step: header.getUint32(12, true),
      modelMs: header.getFloat32(16, true),
      waitedMs: header.getFloat32(20, true),
      pixels: new Uint8Array(data, HEADER_BYTES),
    });
    if (number) send({ type: "ack", frame: number });
  };

  const open = () => {
    socket = new WebSocket(address);
    socket.binaryType = "arraybuffer";
    socket.onmessage = (event) => receive(event.data);
    socket.onclose = (event) => {
      if ([1011, 1013].includes(event.code)) wait = 5000; // broke down, no room: leave time to read why
      on.closed();
      setTimeout(open, wait);
      wait = Math.min(2 * wait, 5000);
    };
  };
  open();
  return send;
}
