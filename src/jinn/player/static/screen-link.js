// The page's end of screen.js.

/**
 * Hand a canvas to a thread that stays connected to the server and paints the frames that arrive.
 *
 * `on` has message(message) for the server's messages, frame(frame) for every frame, which is on the screen already,
 * closed(), and failed(sentence) for errors of the thread. Returns send(message), a message being an object or a Blob,
 * and paint(pixels), which shows another frame.
 */
export function connect(canvas, on) {
  const address = new URL("ws", location.href);
  address.protocol = address.protocol.replace("http", "ws");
  const thread = new Worker(new URL("screen.js", import.meta.url), { type: "module" });
  const offscreen = canvas.transferControlToOffscreen();
  thread.onmessage = ({ data }) => {
    if (data.frame) on.frame(data.frame);
    else if (data.message) on.message(data.message);
    else on.closed();
  };
  thread.onerror = ({ message }) => on.failed(`The page's thread failed: ${message ?? "it could not be loaded"}`);
  thread.postMessage({ canvas: offscreen, address: address.href }, [offscreen]);
  return {
    send: (message) => thread.postMessage({ send: message }),
    paint: (pixels) => thread.postMessage({ paint: pixels }),
  };
}
