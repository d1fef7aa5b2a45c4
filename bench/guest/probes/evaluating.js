// A stand-in for a runtime that evaluates a string: under a policy without 'unsafe-eval' it must fail.

export async function start() {
  return {active: eval("true")};
}

export async function load() {}

export async function run() {
  return {data: new Float32Array([1]), shape: [1]};
}
