
// The volumes and NiiVue from this page, where they are gzip in base 64.
const dialog = document.getElementById("viewer");
const textOf = (id) => document.getElementById(id).textContent;

async function unpacked(packed) {
  const text = atob(packed), bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at++) bytes[at] = text.charCodeAt(at);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

let niivue;
const show = makeViewer(async () => {
  niivue ??= new Blob([await unpacked(textOf("niivue"))], { type: "text/javascript" });
  const address = URL.createObjectURL(niivue);
  try { return await import(address); } finally { URL.revokeObjectURL(address); }
});

let shown = Promise.resolve();
for (const button of document.querySelectorAll("button[data-look]")) {
  button.addEventListener("click", () => {
    dialog.showModal();
    delete dialog.dataset.ready;
    // One after the other, for they share the panels.
    shown = shown.then(() => show(JSON.parse(textOf(button.dataset.look)), (volume) => unpacked(volume.packed))).catch(sayWhy);
  });
}
dialog.querySelector(".close").addEventListener("click", () => dialog.close());
