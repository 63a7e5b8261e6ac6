// One's own picture: chosen, dropped or pasted anywhere on the page.

/** Call use(blob) for every picture that the player brings; those above maxBytes are made smaller. */
export function receivePictures(input, maxBytes, use) {
  const receive = async (file) => file && use(file.size > maxBytes ? await smaller(file) : file);
  const dropping = (on) => document.body.classList.toggle("dropping", on);

  input.onchange = () => {
    receive(input.files[0]);
    input.value = ""; // so that the same file may be chosen again
  };
  addEventListener("paste", (event) => receive(event.clipboardData.files[0]));
  addEventListener("dragover", (event) => {
    event.preventDefault();
    dropping(true);
  });
  addEventListener("dragleave", (event) => event.relatedTarget ?? dropping(false));
  addEventListener("drop", (event) => {
    event.preventDefault();
    dropping(false);
    receive(event.dataTransfer.files[0]);
  });
}

/** A photograph as a phone takes it, too large to send, at a size that is plenty for any world. */
async function smaller(file) {
  try {
    const image = await createImageBitmap(file);
    const scale = Math.min(1, 1024 / Math.max(image.width, image.height));
    const paper = new OffscreenCanvas(Math.ceil(image.width * scale), Math.ceil(image.height * scale));
    paper.getContext("2d").drawImage(image, 0, 0, paper.width, paper.height);
    return await paper.convertToBlob({ type: "image/png" });
  } catch {
    return file; // the server will say what is wrong with it
  }
}
