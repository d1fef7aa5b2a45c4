// What the page does whatever the runtime: take the input, time inferences, hand the output back.

// A library takes the console and the class of workers as it finds them, so both are watched before any is loaded.
let heard = null;
let workers = 0;
const log = console.log;
console.log = (...words) => {
  if (heard) heard.push(words.join(" "));
  else log.apply(console, words);
};
globalThis.Worker = class extends Worker {
  constructor(...given) {
    super(...given);
    workers += 1;
  }
};

// The lines that are written to the console during `action`, which are then not written to it.
export async function hear(action) {
  heard = [];
  try {
    await action();
    return heard;
  } finally {
    heard = null;
  }
}

// Adds to a runtime's own `start`, `load`, `run` and `describe` what the guest asks for besides them.
// `run(input)` takes the typed array that `put` fetched and resolves to a typed array on the host.
export function wrap(runtime) {
  let input = null;
  let output = null;
  return {
    ...runtime,

    // A library that is asked for threads where the page has no shared memory for them may wait for them for ever.
    async start(asked) {
      const shares = crossOriginIsolated && typeof SharedArrayBuffer !== "undefined";
      if (asked.backend === "wasm" && asked.threads > 1 && !shares) return {active: true, shares};
      return {shares, ...await runtime.start(asked)};
    },

    async put() {
      input = new Float32Array(await (await fetch("/input")).arrayBuffer());
    },

    // Milliseconds of each of `n` inferences, from the input on the host to the output on the host.
    async time(n) {
      const samples = [];
      for (let i = 0; i < n; i++) {
        const started = performance.now();
        output = await runtime.run(input);
        samples.push(performance.now() - started);
      }
      return samples;
    },

    // The output of the last inference goes to the server as bytes, its shape to the guest.
    async output() {
      const {data, shape} = output;
      const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
      await fetch("/output", {method: "POST", body: bytes});
      return shape;
    },

    async describe() {
      return {
        ...await runtime.describe(),
        cross_origin_isolated: crossOriginIsolated,
        clock_resolution_us: clockResolution(),
        logical_processors: navigator.hardwareConcurrency,
        workers,
      };
    },
  };
}

// Adds a classic script to the page and waits for it.
export function script(url) {
  return new Promise((resolve, reject) => {
    const element = document.createElement("script");
    element.src = url;
    element.onload = resolve;
    element.onerror = () => reject(new Error(`cannot load ${url}`));
    document.head.append(element);
  });
}

// How many elements a tensor of a shape has.
export function volume(shape) {
  return shape.reduce((product, side) => product * side, 1);
}

// The smallest step of the page's clock, in microseconds.
function clockResolution() {
  let smallest = Infinity;
  for (let i = 0; i < 100; i++) {
    const started = performance.now();
    let now = started;
    while (now === started) now = performance.now();
    smallest = Math.min(smallest, now - started);
  }
  return Math.round(smallest * 1e5) / 100;
}
