// TensorFlow.js in the page: one backend, one graph model, float32 NHWC in and out.

import {script, volume} from "/page/page.js";
import {adapter, witnessed} from "/page/webgpu.js";

const LIBRARY = "/js/@tensorflow";
const DRAWN = {webgl, webgpu: adapter};

let model = null;
let shape = null;

// Loads core, converter and one backend.  Resolves to what the backend runs on; `active` is false where it does not.
export async function start({backend, threads}) {
  for (const name of ["core", "converter", `backend-${backend}`]) {
    await script(`${LIBRARY}/tfjs-${name}/dist/tf-${name}.min.js`);
  }
  if (backend === "wasm") {
    tf.wasm.setWasmPaths(`${LIBRARY}/tfjs-backend-wasm/dist/`);
    tf.wasm.setThreadsCount(threads);
  }
  const drawn = await DRAWN[backend]?.();
  const active = drawn !== null && await tf.setBackend(backend);  // false where the backend refuses
  return {active, adapter: drawn, threads: active ? threadsOf(backend) : 0};
}

// What WebGL says of the renderer behind it; null where there is none.
function webgl() {
  const context = new OffscreenCanvas(1, 1).getContext("webgl2");
  const names = context?.getExtension("WEBGL_debug_renderer_info");
  return names && {
    api: "webgl",
    renderer: context.getParameter(names.UNMASKED_RENDERER_WEBGL),
    vendor: context.getParameter(names.UNMASKED_VENDOR_WEBGL),
    version: context.getParameter(context.VERSION),
  };
}

function threadsOf(backend) {
  return backend === "wasm" ? tf.wasm.getThreadsCount() : 1;
}

export async function load({url, input}) {
  model = await tf.loadGraphModel(url);
  shape = input;
}

export async function run(input) {
  const tensor = tf.tensor4d(input, shape);
  const output = model.execute(tensor);
  const data = await output.data();
  const result = {data, shape: output.shape};
  tf.dispose([tensor, output]);
  return result;
}

// What runs, as the library says it; `filters` counts the types of the convolutions' weights.
export async function describe() {
  const backend = tf.getBackend();
  const filters = {};
  const operators = {};
  for (const node of Object.values(model.executor.graph.nodes)) {
    operators[node.op] = (operators[node.op] || 0) + 1;
    if (/Conv2d/i.test(node.op)) {
      const weights = model.weights[node.inputNames[1]]?.[0];
      const kind = weights ? weights.dtype : "computed";
      filters[kind] = (filters[kind] || 0) + 1;
    }
  }
  return {
    backend,
    version: tf.version_core,
    input_shape: model.inputs[0].shape,
    filters,
    operators,
    threads: threadsOf(backend),
    simd: backend === "wasm" ? await tf.env().getAsync("WASM_HAS_SIMD_SUPPORT") : null,
    multithread: backend === "wasm" ? await tf.env().getAsync("WASM_HAS_MULTITHREAD_SUPPORT") : null,
    ...await witnessed(() => run(new Float32Array(volume(shape)))),
    half_textures: backend === "webgl" ? !tf.env().getBool("WEBGL_RENDER_FLOAT32_ENABLED") : null,
  };
}
