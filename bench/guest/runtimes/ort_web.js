// ONNX Runtime Web in the page: its WebAssembly build, float32 NCHW in and out.

import * as ort from "/js/onnxruntime-web/dist/ort.wasm.min.mjs";

let session = null;
let shape = null;

export async function start({threads}) {
  ort.env.wasm.wasmPaths = "/js/onnxruntime-web/dist/";
  ort.env.wasm.numThreads = threads;
  return {active: true, renderer: ""};
}

export async function load({url, input}) {
  const model = new Uint8Array(await (await fetch(url)).arrayBuffer());
  session = await ort.InferenceSession.create(model, {executionProviders: ["wasm"], graphOptimizationLevel: "all"});
  shape = input;
}

export async function run(input) {
  const tensor = new ort.Tensor("float32", input, shape);
  const output = (await session.run({[session.inputNames[0]]: tensor}))[session.outputNames[0]];
  return {data: await output.getData(), shape: output.dims};
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
