// Shows a scan with label maps in NiiVue, by the widget that ipyniivue brings for notebooks. A
// notebook gives that widget models of its state; here a Model stands in for each of them.

const config = JSON.parse(document.body.dataset.config);
const readout = document.getElementById("readout");
const HEADER = 352; // Bytes before the voxels of our NIfTI files.

class Model {
  _comm_live = false; // So that no voxels are sent back to a notebook.

  constructor(values, models) {
    this.values = values;
    this.listeners = new Map();
    this.widget_manager = { get_model: async (id) => models[id] };
  }
  get(name) { return this.values[name] ?? null; }
  set(name, value) { this.values[name] = value; }
  save_changes() {}
  send_sync_message() {}
  on(event, listener) { this.listeners.set(event, listener); }
  off(event) { this.listeners.delete(event); }
  send(message) { this.hear?.(message); }
  /** As a notebook does: change a value, and tell the widget. */
  async change(name, value) {
    this.values[name] = value;
    await this.listeners.get(`change:${name}`)?.();
  }
  /** As a notebook does: tell the widget to do something. */
  async command(type, ...data) { await this.listeners.get("msg:custom")?.({ type, data }, []); }
}

function volumeModel(volume, bytes, overlay, models) {
  return new Model({
    id: volume.file, name: volume.file, url: null, data: new DataView(bytes),
    path: {}, paired_img_path: {}, paired_img_url: null, paired_img_data: null,
    opacity: overlay ? 0.6 : 1, colormap: "gray", colormap_negative: "", colorbar_visible: false,
    cal_min: overlay ? null : volume.low, cal_max: overlay ? null : volume.high, frame_4d: 0,
    colormap_type: 0, colormap_invert: false, modulation_image: null, modulate_alpha: 0,
    colormap_label: overlay ? lookUpTable() : null,
  }, models);
}

function lookUpTable() {
  const values = config.labels.map((label) => label.value);
  const low = Math.min(...values), high = Math.max(...values);
  const lut = new Array(4 * (high - low + 1)).fill(0), labels = new Array(high - low + 1).fill("");
  for (const { value, name, rgba } of config.labels) {
    lut.splice(4 * (value - low), 4, ...rgba);
    labels[value - low] = name;
  }
  return { lut, min: low, max: high, labels };
}

async function bytesOf(volume) {
  const response = await fetch(volume.file);
  if (!response.ok) throw new Error(`${volume.name} cannot be loaded (${response.status})`);
  return response.arrayBuffer();
}

/** A scan and one label map, or the scan alone. */
async function panel(number, title, volumes, hear) {
  const models = {};
  volumes.forEach(([volume, bytes], at) => {
    models[volume.file] = volumeModel(volume, bytes.slice(0), at > 0, models);
  });
  const main = new Model({
    height: Math.max(320, Math.round(innerHeight * 0.62)),
    volumes: volumes.map(([volume]) => `IPY_MODEL_${volume.file}`), meshes: [],
    opts: {
      isRadiologicalConvention: true, sagittalNoseLeft: true, isOrientationTextVisible: true,
      showAllOrientationMarkers: true, multiplanarShowRender: 1, sliceType: 3, isNearestInterpolation: true,
      dragAndDropEnabled: false, isResizeCanvas: true, crosshairWidth: 0.4,
      fontColor: [1, 1, 1, 1], multiplanarPadPixels: 10, backColor: [0, 0, 0, 1],
    },
    background_masks_overlays: 0, draw_lut: null, draw_opacity: 0.8, draw_fill_overwrites: true,
    graph: null, scene: {}, overlay_outline_width: 0, overlay_alpha_shader: 1, this_model_id: "",
  }, models);
  main.hear = ({ event, data }) => { if (event === "location_change") hear(number, data); };
  const place = document.createElement("section"), heading = document.createElement("h2");
  heading.textContent = title;
  place.append(heading);
  document.getElementById("panels").append(place);
  // A module of its own for each: the widget keeps its viewer in the module.
  const { default: widget } = await import(`./niivue.js?${number}`);
  await widget.initialize({ model: main });
  await widget.render({ model: main, el: place });
  return { main, overlays: Object.values(models).slice(1) };
}

/** The voxel of a label map at these indices, which are those of the file that we serve. */
function labelAt(map, [x, y, z]) {
  const [nx, ny, nz] = config.shape;
  if (x < 0 || y < 0 || z < 0 || x >= nx || y >= ny || z >= nz) return undefined;
  return map[x + nx * (y + ny * z)];
}

function nameOf(value) {
  return config.labels.find((label) => label.value === value)?.name ?? "no class";
}

async function start() {
  const scan = await bytesOf(config.scan);
  const maps = await Promise.all(config.label_maps.map(bytesOf));
  const voxels = maps.map((bytes) => new Uint8Array(bytes, HEADER));
  const values = new Float32Array(scan, HEADER);
  const panels = [];

  function hear(from, { vox, mm, frac }) {
    const at = vox.slice(0, 3).map(Math.round);
    const said = voxels.map((map, number) => {
      const value = labelAt(map, at);
      return value === undefined ? "" : `${config.label_maps[number].name}: ${value} ${nameOf(value)}`;
    });
    const value = labelAt(values, at);
    readout.value = [
      `voxel ${at.join(", ")} (right, anterior, superior); ${mm.slice(0, 3).map((v) => v.toFixed(1)).join(", ")} mm; ` +
        `scan ${value === undefined ? "-" : Number(value.toPrecision(6))}`,
      ...said,
    ].filter(Boolean).join("\n");
    panels.forEach(({ main }, number) => {
      if (number === from) return;
      main.change("scene", { crosshairPos: frac.slice(0, 3) }).then(() => main.command("draw_scene"));
    });
  }

  const shown = config.label_maps.length ? config.label_maps : [null];
  for (const [number, labelMap] of shown.entries()) {
    const volumes = [[config.scan, scan], ...(labelMap ? [[labelMap, maps[number]]] : [])];
    panels.push(await panel(number, labelMap?.name ?? config.scan.name, volumes, hear));
  }

  const overlays = () => panels.flatMap((one) => one.overlays);
  document.getElementById("opacity").addEventListener("input", ({ target }) => {
    for (const overlay of overlays()) overlay.change("opacity", Number(target.value));
  });
  document.getElementById("outlines").addEventListener("change", ({ target }) => {
    for (const { main } of panels) main.change("overlay_outline_width", target.checked ? 1 : 0);
  });
  document.getElementById("view").addEventListener("change", async ({ target }) => {
    for (const { main } of panels) {
      await main.change("opts", { ...main.get("opts"), sliceType: Number(target.value) });
      await main.command("draw_scene");
    }
  });
  const legend = document.getElementById("legend");
  for (const { name, value, rgba } of config.labels) {
    if (!rgba[3]) continue;
    const item = document.createElement("li"), swatch = document.createElement("i");
    swatch.style.background = `rgb(${rgba.slice(0, 3).join(",")})`;
    item.append(swatch, `${value} ${name}`);
    legend.append(item);
  }
  readout.value = "Click on a slice for the voxel's value and labels.";
  document.body.dataset.ready = "yes";
}

start().catch((error) => { readout.value = `The viewer cannot start: ${error.message}`; console.error(error); });
