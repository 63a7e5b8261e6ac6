// The page of jinn rate: clips are shown one after another and rated by keys or touch (curation/rating_page.py).

const $ = (id) => document.getElementById(id);

const KEPT = 4; // films in memory
const skipped = new Set(); // until nothing else is left
const given = []; // clips that were rated here, the last of them first to be taken back
let person = (await (await fetch("api/person")).json()).person;
const films = new Map(); // clip -> the promise of an address of its film in memory
let shown = null; // the clip on the screen
let isBusy = false; // until a rating is kept and the next clip is there, so that no key means another clip

async function ask(path, values) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ person, ...values }),
  });
  const read = await answer.json().catch(() => ({ error: "the server has not understood" }));
  if (!answer.ok) throw new Error(read.error);
  return read;
}

/** Do something with the server, one thing at a time, and say what went wrong. */
async function once(work) {
  if (isBusy) return;
  isBusy = true;
  $("error").textContent = "";
  try {
    await work();
  } catch (error) {
    $("error").textContent = error instanceof TypeError ? "The server does not answer." : error.message;
    $("status").textContent = $("error").textContent;
  } finally {
    isBusy = false;
    window.jinnRate = { shown, given: [...given] }; // for tests
  }
}

/** A film, loaded whole: some browsers play no address that cannot send a part of it. */
function load(clip) {
  const film = films.get(clip) ?? fetchFilm(clip);
  films.delete(clip); // and to the end: the one that is shown is not the oldest
  films.set(clip, film);
  film.catch(() => films.delete(clip)); // so that it is tried again
  for (const [old, address] of [...films].slice(0, -KEPT)) {
    films.delete(old);
    address.then(URL.revokeObjectURL, () => {});
  }
  return film;
}

async function fetchFilm(clip) {
  const answer = await fetch(`api/clips/${clip}.mp4`);
  if (answer.ok) return URL.createObjectURL(await answer.blob());
  throw new Error(`This clip cannot be shown, skip it: ${(await answer.json()).error}`);
}

async function show(clip) {
  $("clip").removeAttribute("src");
  $("clip").load(); // or its last picture would stay
  shown = clip;
  for (const button of document.querySelectorAll("[data-rating], #skip, #pause")) button.disabled = !clip;
  if (!clip) return;
  $("clip").src = await load(clip);
  $("clip").play().catch(() => {}); // a browser that does not want to shows the first picture
}

function count({ yours, left, rated, total, people, shared, agreement }) {
  const rows = {
    "Yours": `${yours}, ${left} are left`,
    "Rated by anybody": `${rated} of ${total}`,
    "People": people,
    "Rated by several": shared,
    "Agreement (alpha)": agreement === null ? "not known yet" : agreement.toFixed(2),
  };
  $("counts").replaceChildren(...Object.entries(rows).flatMap(([term, text]) => {
    const [dt, dd] = [document.createElement("dt"), document.createElement("dd")];
    [dt.textContent, dd.textContent] = [term, text];
    return [dt, dd];
  }));
}

/** Show a clip again, or the next one, and load the one behind it meanwhile. */
async function go(clip = null) {
  let next = await ask("api/next", { skipped: [...skipped] });
  if (!next.clips.length && skipped.size) {
    skipped.clear(); // what was skipped comes again in the end
    next = await ask("api/next", { skipped: [] });
  }
  count(next);
  $("back").disabled = !given.length;
  $("status").textContent = "loading";
  await show(clip ?? next.clips[0] ?? null);
  $("status").textContent = shown ? "1 to 5" : "You have rated all clips. Thank you!";
  const later = next.clips.find((other) => other !== shown);
  if (later) load(later).catch(() => {}); // if it fails, it is said when it is shown
}

const rate = (rating) => once(async () => {
  if (!shown || !$("clip").src) return; // what cannot be seen is not rated
  await ask("api/ratings", { clip: shown, rating });
  given.push(shown);
  await go();
});

const skip = () => once(async () => {
  if (!shown) return;
  skipped.add(shown);
  await go();
});

const back = () => once(async () => {
  const clip = given.at(-1);
  if (!clip) return;
  await ask("api/ratings", { clip, rating: null });
  given.pop();
  await go(clip);
});

function pause() {
  const clip = $("clip");
  if (clip.paused) clip.play();
  else clip.pause();
}

async function begin() {
  $("person").textContent = person;
  $("who").hidden = true;
  $("rating").hidden = false;
  await once(go);
}

$("who").onsubmit = (event) => {
  event.preventDefault();
  person = $("name").value.trim();
  if (!person) return;
  localStorage.setItem("jinn-rate", person);
  begin();
};
$("ratings").onclick = ({ target }) => {
  const button = target.closest("[data-rating]");
  if (button) rate(Number(button.dataset.rating));
};
$("skip").onclick = skip;
$("back").onclick = back;
$("pause").onclick = pause;
$("clip").onplay = $("clip").onpause = () => ($("pause").firstChild.data = $("clip").paused ? "Play " : "Pause ");

// A button that was clicked keeps the focus, and space would press it again.
addEventListener("click", ({ detail }) => detail && document.activeElement?.tagName === "BUTTON" && document.activeElement.blur());

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || !$("who").hidden) return;
  const onButton = event.key === " " && document.activeElement instanceof HTMLButtonElement;
  const does = { " ": skip, Backspace: back, p: pause, P: pause }[event.key];
  const rating = "12345".includes(event.key) && event.key.length === 1 && Number(event.key);
  if (onButton || !(does || rating)) return; // space presses the button that has the focus
  event.preventDefault(); // or the page would scroll
  if (rating) rate(rating);
  else does();
});

if (person) await begin();
else {
  $("status").textContent = "";
  $("name").value = localStorage.getItem("jinn-rate") ?? "";
  $("who").hidden = false;
  $("name").focus();
}
