// ONNX Runtime Web in the page: its WebAssembly build, float32 NCHW in and out.

import * as ort from "/js/onnxruntime-web/dist/ort.wasm.min.mjs";

const OPTIONS = {executionProviders: ["wasm"], graphOptimizationLevel: "all"};

let session = null;
let shape = null;
let address = null;

export async function start({threads}) {
  ort.env.wasm.wasmPaths = "/js/onnxruntime-web/dist/";
  ort.env.wasm.numThreads = threads;
  return {active: true, renderer: ""};
}

export async function load({url, input}) {
  address = url;
  session = await create(OPTIONS);
  shape = input;
}

async function create(options) {
  const model = new Uint8Array(await (await fetch(address)).arrayBuffer());
  return ort.InferenceSession.create(model, options);
}

export async function run(input) {
  return infer(session, input);
}

async function infer(chosen, input) {
  const tensor = new ort.Tensor("float32", input, shape);
  const output = (await chosen.run({[chosen.inputNames[0]]: tensor}))[chosen.outputNames[0]];
  return {data: await output.getData(), shape: output.dims};
}

// One inference in a profiled session of its own; the library writes the profile to the console, a line per event.
export async function kernels() {
  const profiled = await create({...OPTIONS, enableProfiling: true});
  await infer(profiled, new Float32Array(shape.reduce((product, side) => product * side, 1)));
  profiled.endProfiling();
  await profiled.release();
}

export async function describe() {
  const [input] = session.inputMetadata;
  return {
    version: ort.env.versions.web,
    input_shape: input.shape,
    input_type: input.type,
    threads: ort.env.wasm.numThreads,
    simd: ort.env.wasm.simd,
    proxy: ort.env.wasm.proxy,
  };
}
