// LiteRT.js in the page: a TF Lite file on its WebAssembly build, float32 NHWC in and out.

import {loadAndCompile, loadLiteRt, Tensor} from "/js/@litertjs/core/dist/index.js";

const PACKAGE = "/js/@litertjs/core/";

let model = null;
let shape = null;
let wanted = 1;

// More than one thread needs another build of the library.
export async function start({threads}) {
  wanted = threads;
  await loadLiteRt(`${PACKAGE}wasm/`, {threads: threads > 1});
  return {active: true, renderer: ""};
}

export async function load({url, input}) {
  model = await loadAndCompile(url, {accelerator: "wasm", cpuOptions: {numThreads: wanted}});
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

export async function describe() {
  const [input] = model.getInputDetails();
  const {version} = await (await fetch(`${PACKAGE}package.json`)).json();
  return {
    version,
    accelerator: model.options.accelerator,
    input_shape: Array.from(input.shape),
    input_type: input.dtype,
    threads: model.options.cpuOptions.numThreads,
  };
}
