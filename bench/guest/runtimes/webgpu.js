// WebGPU as its own calls tell it, whatever library makes them: the adapter at work, and every kernel that is dispatched.

const HALF = /\b(f16|vec[234]h|mat[234]x[234]h)\b/;  // WGSL's names of half precision
const ASIDE = /\benable\s[^;]*;|\/\/[^\n]*|\/\*[\s\S]*?\*\//g;  // to allow it or to speak of it is not to use it

const sources = new WeakMap();  // what a shader module was compiled from
const arithmetics = new WeakMap();  // by pipeline
let working = null;  // the adapter that the last device was asked of

// What an adapter says of itself; null where the browser has none to give.  Whoever asks is watched from then on.
export async function adapter() {
  const found = await navigator.gpu?.requestAdapter();
  if (!found) return null;
  watch();
  return told(found);
}

// One inference as `run` makes it: the adapter whose device the library asked for, and how many kernels were dispatched
// by the float that they compute in: f16 where a kernel's shader uses it anywhere, else f32.  Nothing without a device.
export async function witnessed(run) {
  if (!working) return {};
  const kernels = {};
  const pass = GPUComputePassEncoder.prototype;
  let arithmetic = "";
  const count = (perform) => {
    kernels[arithmetic] = (kernels[arithmetic] || 0) + 1;
    return perform();
  };
  const restore = [
    around(pass, "setPipeline", (perform, [pipeline]) => {
      arithmetic = arithmetics.get(pipeline);
      return perform();
    }),
    around(pass, "dispatchWorkgroups", count),
    around(pass, "dispatchWorkgroupsIndirect", count),
  ];
  try {
    await run();
  } finally {
    for (const undo of restore) undo();
  }
  return {adapter: told(working), kernels};
}

function told({info, isFallbackAdapter, features}) {
  const {vendor, architecture, device, description} = info;
  return {
    api: "webgpu",
    renderer: [vendor, architecture, device, description].filter(Boolean).join(" "),
    vendor,
    architecture,
    device,
    description,
    fallback: info.isFallbackAdapter ?? isFallbackAdapter ?? null,  // where it is told depends on the browser's age
    shader_f16: features.has("shader-f16"),
  };
}

function watch() {
  around(GPUAdapter.prototype, "requestDevice", (perform, _, self) => {
    working = self;
    return perform();
  });
  around(GPUDevice.prototype, "createShaderModule", (perform, [{code}]) => {
    const module = perform();
    sources.set(module, code);
    return module;
  });
  const note = (pipeline, {compute}) => {
    const code = sources.get(compute.module).replace(ASIDE, "");
    arithmetics.set(pipeline, HALF.test(code) ? "f16" : "f32");
    return pipeline;
  };
  around(GPUDevice.prototype, "createComputePipeline", (perform, [asked]) => note(perform(), asked));
  around(GPUDevice.prototype, "createComputePipelineAsync", async (perform, [asked]) => note(await perform(), asked));
}

// Puts `act(perform, given, self)` around a method; returns what takes it away again.
function around(prototype, name, act) {
  const original = prototype[name];
  prototype[name] = function (...given) {
    return act(() => original.apply(this, given), given, this);
  };
  return () => {
    prototype[name] = original;
  };
}
