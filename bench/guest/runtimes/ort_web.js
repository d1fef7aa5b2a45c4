// ONNX Runtime Web in the page: its builds for WebAssembly and for WebGPU, float32 NCHW in and out.

import {hear, volume} from "/page/page.js";
import {adapter, witnessed} from "/page/webgpu.js";

const LIBRARY = "/js/onnxruntime-web/dist/";
const BUILDS = {wasm: "ort.wasm.min.mjs", webgpu: "ort.webgpu.min.mjs"};

let ort = null;
let options = null;
let session = null;
let shape = null;
let address = null;

// Loads one build.  `active` is false where the browser has no adapter for it.
export async function start({backend, threads}) {
  const drawn = backend === "webgpu" ? await adapter() : undefined;
  if (drawn === null) return {active: false};
  ort = await import(LIBRARY + BUILDS[backend]);
  ort.env.wasm.wasmPaths = LIBRARY;
  ort.env.wasm.numThreads = threads;
  options = {executionProviders: [backend], graphOptimizationLevel: "all"};
  return {active: true, adapter: drawn};
}

export async function load({url, input}) {
  address = url;
  session = await create(options);
  shape = input;
}

async function create(chosen) {
  const model = new Uint8Array(await (await fetch(address)).arrayBuffer());
  return ort.InferenceSession.create(model, chosen);
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
export async function profile() {
  const profiled = await create({...options, enableProfiling: true});
  const lines = await hear(async () => {
    await infer(profiled, new Float32Array(volume(shape)));
    profiled.endProfiling();
  });
  await profiled.release();
  return lines;
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
    ...await witnessed(() => run(new Float32Array(volume(shape)))),
  };
}
