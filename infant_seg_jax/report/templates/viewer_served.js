
// The volumes and NiiVue from the server that `infant-seg view` is.
async function start() {
  const config = JSON.parse(document.body.dataset.config);
  const bytesOf = async (volume) => {
    const response = await fetch(volume.file);
    if (!response.ok) throw new Error(`${volume.name} cannot be loaded (${response.status})`);
    return response.arrayBuffer();
  };
  await makeViewer((number) => import(`./niivue.js?${number}`))(config, bytesOf);
}

start().catch(sayWhy);
