// Whether this browser can play a published page at all, in the language of old browsers: the page's own modules may
// not even start there.

(function () {
  // The smallest WebAssembly module with an instruction of SIMD.
  var simd = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];
  var sentence = "";
  if (location.protocol === "file:") {
    sentence = "Browsers play this page only from a web server: run python -m http.server in its folder, and open http://localhost:8000.";
  } else if (!window.WebAssembly || !window.DecompressionStream || !window.OffscreenCanvas || !("noModule" in document.createElement("script"))) {
    sentence = "This browser is too old for this page: use Chrome or Edge 102, Firefox 114, Safari 16.4, or a newer one.";
  } else if (!WebAssembly.validate(new Uint8Array(simd))) {
    sentence = "This browser, or this processor, has no WebAssembly SIMD, which computes the frames: use another one.";
  }
  if (!sentence) return;
  document.addEventListener("DOMContentLoaded", function () {
    document.getElementById("status").textContent = "not loaded";
    document.getElementById("status").setAttribute("data-state", "failed");
    document.getElementById("veil").textContent = "";
    document.getElementById("error").textContent = sentence;
  });
  window.jinnCannotPlay = true;
})();
