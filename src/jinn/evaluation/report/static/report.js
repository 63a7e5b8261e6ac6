// Film strips: all strips of a sheet show the same frame, by one variable of its style, --t.
const FIRST_MS = 600; // the prompt is shown longer, so that the beginning is noticed

const sheets = [...document.querySelectorAll(".sheet")].map((element) => {
  const frames = Number(element.dataset.frames);
  const controls = element.querySelector(".controls");
  const [button, slider, output] = controls.children;
  let t = 0;
  let timer = null;

  function show(next) {
    t = (next + frames) % frames;
    element.style.setProperty("--t", t);
    slider.value = t;
    output.value = t === 0 ? "prompt" : `frame ${t} of ${frames - 1}`;
  }
  function pause() {
    clearTimeout(timer);
    timer = null;
    button.textContent = "Play";
  }
  function play() {
    button.textContent = "Pause";
    timer = setTimeout(() => { show(t + 1); play(); }, t === 0 ? FIRST_MS : 1000 / element.dataset.fps);
  }
  const toggle = () => (timer === null ? play() : pause());
  const step = (by) => { pause(); show(t + by); };

  button.addEventListener("click", toggle);
  slider.addEventListener("input", () => { pause(); show(Number(slider.value)); });
  controls.hidden = false;
  show(0);
  if (!matchMedia("(prefers-reduced-motion: reduce)").matches) play();
  return { element, toggle, step };
});

// Keys act on the sheet that has the focus, or else on all that are visible.
function sheetsFor(target) {
  const own = sheets.filter((sheet) => sheet.element.contains(target));
  if (own.length || target !== document.body) return own;
  return sheets.filter(({ element }) => {
    const { top, bottom } = element.getBoundingClientRect();
    return bottom > 0 && top < innerHeight;
  });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.target.closest(".scroll")) return;
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const targets = sheetsFor(event.target);
  if (!targets.length || !(by || event.key.toLowerCase() === "p")) return;
  event.preventDefault();
  for (const sheet of targets) by ? sheet.step(by) : sheet.toggle();
});
