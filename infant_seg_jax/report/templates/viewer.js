// Shows a scan with label maps in NiiVue, by the widget that ipyniivue brings for notebooks. A
// notebook gives that widget models of its state; here a Model stands in for each of them.

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

function volumeModel(id, volume, bytes, colors, opacity, models) {
  return new Model({
    id, name: `${id}.nii`, url: null, data: new DataView(bytes),
    path: {}, paired_img_path: {}, paired_img_url: null, paired_img_data: null,
    opacity: colors ? opacity : 1, colormap: "gray", colormap_negative: "", colorbar_visible: false,
    cal_min: colors ? null : volume.low, cal_max: colors ? null : volume.high, frame_4d: 0,
    colormap_type: 0, colormap_invert: false, modulation_image: null, modulate_alpha: 0,
    colormap_label: colors,
  }, models);
}

function lookUpTable(classes) {
  const values = classes.map((label) => label.value);
  const low = Math.min(...values), high = Math.max(...values);
  const lut = new Array(4 * (high - low + 1)).fill(0), labels = new Array(high - low + 1).fill("");
  for (const { value, name, rgba } of classes) {
    lut.splice(4 * (value - low), 4, ...rgba);
    labels[value - low] = name;
  }
  return { lut, min: low, max: high, labels };
}

/** A canvas with a NiiVue of its own, which shows one scan after another. */
class Panel {
  constructor() {
    this.models = {};
    this.place = document.createElement("section");
    this.heading = document.createElement("h2");
    this.place.append(this.heading);
    document.getElementById("panels").append(this.place);
  }
  async start(niivue, options, outline, hear) {
    this.main = new Model({
      height: Math.max(320, document.getElementById("panels").clientHeight), volumes: [], meshes: [],
      opts: options, background_masks_overlays: 0, draw_lut: null, draw_opacity: 0.8,
      draw_fill_overwrites: true, graph: null, scene: {}, overlay_outline_width: outline,
      overlay_alpha_shader: 1, this_model_id: "",
    }, this.models);
    this.main.hear = ({ event, data }) => {
      if (event === "location_change") hear(data);
      if (event === "image_loaded") this.arrived?.(data.id);
    };
    const { default: widget } = await niivue();
    await widget.initialize({ model: this.main });
    await widget.render({ model: this.main, el: this.place });
  }
  /** Show these volumes instead of others; each is its id, what the page knows of it, its bytes. */
  async show(title, volumes, opacity) {
    this.heading.textContent = title;
    for (const id of Object.keys(this.models)) delete this.models[id];
    const awaited = new Set();
    for (const { id, volume, bytes, colors } of volumes) {
      this.models[id] = volumeModel(id, volume, bytes.slice(0), colors, opacity, this.models);
      awaited.add(id);
    }
    this.overlays = Object.values(this.models).slice(1);
    await new Promise((resolve) => {
      this.arrived = (id) => { awaited.delete(id); if (!awaited.size) resolve(); };
      this.main.change("volumes", volumes.map(({ id }) => `IPY_MODEL_${id}`));
    });
  }
  async point(place) {
    await this.main.change("scene", { crosshairPos: place });
    await this.main.command("draw_scene");
  }
}

const OPTIONS = {
  isRadiologicalConvention: true, sagittalNoseLeft: true, isOrientationTextVisible: true,
  showAllOrientationMarkers: true, multiplanarShowRender: 1, isNearestInterpolation: true,
  dragAndDropEnabled: false, isResizeCanvas: true, crosshairWidth: 0.4,
  fontColor: [1, 1, 1, 1], multiplanarPadPixels: 10, backColor: [0, 0, 0, 1],
};

/**
 * The viewer of this page, which has its controls. What is returned shows a scan: it takes what
 * is known of it, and what gives the bytes of a volume.
 *
 * @param niivue gives NiiVue's module, another one for each number: a module has one canvas.
 */
function makeViewer(niivue) {
  const [viewer, readout, opacity, outlines, view, legend] =
    ["viewer", "readout", "opacity", "outlines", "view", "legend"].map((id) => document.getElementById(id));
  const panels = [];
  let config, values, maps, count = 0;

  /** The voxel of a volume at these indices, which are those of the file that we were given. */
  function voxelOf(volume, [x, y, z]) {
    const [nx, ny, nz] = config.shape;
    if (x < 0 || y < 0 || z < 0 || x >= nx || y >= ny || z >= nz) return undefined;
    return volume[x + nx * (y + ny * z)];
  }

  function scanAt(at) {
    const { slope, start, rounded, name } = config.scan, value = voxelOf(values, at);
    if (!name) return "";
    if (value === undefined) return "; scan -";
    const shown = Number((start + slope * value).toPrecision(rounded ? 3 : 6));
    const sign = !rounded ? "" : value === 0 ? "at most " : value === 255 ? "at least " : "about ";
    return `; scan ${sign}${shown}`;
  }

  function hear(from, { vox, mm, frac }) {
    const at = vox.slice(0, 3).map(Math.round);
    const found = maps.map((map, number) => {
      const value = voxelOf(map, at), label = config.labels.find((one) => one.value === value);
      return value === undefined ? "" : `${config.label_maps[number].name}: ${label?.name ?? `${value} no class`}`;
    });
    readout.value = [
      `voxel ${at.map((index, axis) => index + config.first[axis]).join(", ")} (right, anterior, superior); ` +
        `${mm.slice(0, 3).map((v) => v.toFixed(1)).join(", ")} mm${scanAt(at)}`,
      ...found,
    ].filter(Boolean).join("\n");
    panels.forEach((panel, number) => {
      if (number !== from && !panel.place.hidden) panel.point(frac.slice(0, 3));
    });
  }

  const overlays = () => panels.flatMap((panel) => panel.overlays ?? []);
  opacity.addEventListener("input", () => {
    for (const overlay of overlays()) overlay.change("opacity", Number(opacity.value));
  });
  outlines.addEventListener("change", () => {
    for (const { main } of panels) main.change("overlay_outline_width", outlines.checked ? 1 : 0);
  });
  view.addEventListener("change", async () => {
    for (const { main } of panels) {
      await main.change("opts", { ...main.get("opts"), sliceType: Number(view.value) });
      await main.command("draw_scene");
    }
  });

  return async function show(found, bytesOf) {
    delete viewer.dataset.ready;
    readout.value = "Loading.";
    document.getElementById("title").textContent = found.title;
    const scan = await bytesOf(found.scan);
    const bytes = await Promise.all(found.label_maps.map(bytesOf));
    config = found;
    values = new (config.scan.rounded ? Uint8Array : Float32Array)(scan, HEADER);
    maps = bytes.map((one) => new Uint8Array(one, HEADER));
    legend.replaceChildren(...config.labels.filter(({ rgba }) => rgba[3]).map(({ name, rgba }) => {
      const item = document.createElement("li"), swatch = document.createElement("i");
      swatch.style.background = `rgb(${rgba.slice(0, 3).join(",")})`;
      item.append(swatch, name);
      return item;
    }));

    const shown = config.label_maps.length ? config.label_maps : [null];
    panels.forEach((panel, number) => { panel.place.hidden = number >= shown.length; });
    count += 1; // NiiVue tells volumes apart by their ids.
    for (const [number, labelMap] of shown.entries()) {
      const volumes = [{ id: `${count}-scan`, volume: config.scan, bytes: scan, colors: null }];
      if (labelMap) volumes.push({
        id: `${count}-labels`, volume: labelMap, bytes: bytes[number], colors: lookUpTable(config.labels),
      });
      if (!panels[number]) {
        const panel = panels[number] = new Panel();
        await panel.start(
          () => niivue(number), { ...OPTIONS, sliceType: Number(view.value) },
          outlines.checked ? 1 : 0, (place) => hear(number, place),
        );
      }
      await panels[number].show(labelMap?.name ?? config.scan.name, volumes, Number(opacity.value));
    }
    const place = config.at ? config.at.map((index, axis) => (index + 0.5) / config.shape[axis]) : [0.5, 0.5, 0.5];
    for (const panel of panels) if (!panel.place.hidden) await panel.point(place);
    readout.value = "Click on a slice for the voxel's value and labels.";
    viewer.dataset.ready = "yes";
  };
}

function sayWhy(error) {
  document.getElementById("readout").value = `The viewer cannot start: ${error.message}`;
  console.error(error);
}
