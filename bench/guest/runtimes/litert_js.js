// LiteRT.js in the page: a TF Lite file on WebAssembly or WebGPU, float32 NHWC in and out.

import {loadAndCompile, loadLiteRt, Tensor} from "/js/@litertjs/core/dist/index.js";
import {volume} from "/page/page.js";
import {adapter, witnessed} from "/page/webgpu.js";

const PACKAGE = "/js/@litertjs/core/";

let model = null;
let shape = null;
let options = null;

// More than one thread needs another build of the library.  `active` is false where the browser has no adapter.
export async function start({backend, threads, half}) {
  const drawn = backend === "webgpu" ? await adapter() : undefined;
  if (drawn === null) return {active: false};
  options = {
    accelerator: backend,
    cpuOptions: {numThreads: threads},
    gpuOptions: {precision: half ? "fp16" : "fp32"},  // left to itself it takes half precision wherever there is any
  };
  await loadLiteRt(`${PACKAGE}wasm/`, {threads: threads > 1});
  return {active: true, adapter: drawn};
}

export async function load({url, input}) {
  model = await loadAndCompile(url, options);
  shape = input;
}

export async function run(input) {
  const tensor = new Tensor(input, shape);
  const [output] = await model.run(tensor);
  const data = await output.data();
  const result = {data, shape: Array.from(output.type.layout.dimensions)};
  tensor.delete();
  output.delete();
  return result;
}

// `whole`: whether all operators were compiled for the accelerator, as the library says it.
export async function describe() {
  const [input] = model.getInputDetails();
  const {version} = await (await fetch(`${PACKAGE}package.json`)).json();
  return {
    version,
    accelerator: model.options.accelerator,
    whole: model.isFullyAccelerated,
    input_shape: Array.from(input.shape),
    input_type: input.dtype,
    threads: model.options.cpuOptions.numThreads,
    ...await witnessed(() => run(new Float32Array(volume(shape)))),
  };
}
