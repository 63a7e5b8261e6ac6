// The WebSocket to the server; the protocol is written down in sessions.py.

const HEADER_BYTES = 16;

/**
 * Stay connected to the server.
 *
 * `on` has open(), closed(), error(sentence), and frame({number, key, modelMs, action, pixels}), which draws
 * the frame (RGB bytes, row by row): only then the server computes the next.
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
    if (typeof data === "string") return on.error(JSON.parse(data).message);
    const header = new DataView(data, 0, HEADER_BYTES);
    const number = header.getUint32(0, true);
    on.frame({
      number,
      key: header.getUint32(4, true),
      modelMs: header.getFloat32(8, true),
      action: header.getInt32(12, true),
      pixels: new Uint8Array(data, HEADER_BYTES),
    });
    send({ type: "ack", frame: number });
  };

  const open = () => {
    socket = new WebSocket(address);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      wait = 250;
      on.open();
    };
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
