// A thread that makes one GIF for film.js.

import { gif } from "./gif.js";

onmessage = ({ data }) => postMessage(new Blob(gif(...data), { type: "image/gif" }));
