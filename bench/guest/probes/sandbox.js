// One inference by the page itself, under whatever policy the server sent: nobody evaluates anything from outside.
// The address says what to do: ?runtime=/page/tfjs.js&backend=wasm&threads=1&model=/model/model.json&shape=1,320,320,3

const asked = new URLSearchParams(location.search);
const violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  violations.push(`${event.effectiveDirective} blocks ${event.blockedURI || "inline"}`);
});

async function inference() {
  const runtime = await import(asked.get("runtime"));
  const started = await runtime.start({backend: asked.get("backend"), threads: Number(asked.get("threads"))});
  if (!started.active) throw new Error(`the backend ${asked.get("backend")} does not start`);
  await runtime.load({url: asked.get("model"), input: asked.get("shape").split(",").map(Number)});
  const input = new Float32Array(await (await fetch("/input")).arrayBuffer());
  const {data, shape} = await runtime.run(input);
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  await fetch("/output", {method: "POST", body: bytes});
  return shape;
}

// Violations inside workers are told to the worker, not to this document; a failure of theirs arrives as an error.
let report;
try {
  report = {shape: await inference(), error: ""};
} catch (error) {
  report = {shape: null, error: String(error)};
}
await new Promise((resolve) => setTimeout(resolve, 100));  // a violation is told after the error that it causes
await fetch("/report", {method: "POST", body: JSON.stringify({...report, violations: [...new Set(violations)]})});
