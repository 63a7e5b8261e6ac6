// The page's end of screen.js.

/**
 * Hand a canvas to a thread that stays connected to the server and draws what comes.
 *
 * `on` has told(message) for what the server says, frame(frame) for every frame, drawn already, and closed().
 * Returns send(message), a message being an object or a Blob, and paint(pixels), which draws another frame.
 */
export function connect(canvas, on) {
  const address = new URL("ws", location.href);
  address.protocol = address.protocol.replace("http", "ws");
  const thread = new Worker(new URL("screen.js", import.meta.url), { type: "module" });
  const offscreen = canvas.transferControlToOffscreen();
  thread.onmessage = ({ data }) => {
    if (data.frame) on.frame(data.frame);
    else if (data.told) on.told(data.told);
    else on.closed();
  };
  thread.postMessage({ canvas: offscreen, address: address.href }, [offscreen]);
  return {
    send: (message) => thread.postMessage({ send: message }),
    paint: (pixels) => thread.postMessage({ paint: pixels }),
  };
}
