// What the tests ask of vae_teach/playground/network.js, which is network.mjs beside this file.
// node asks.mjs NAME < given.json > told.json

import * as N from "./network.mjs";
import { readFileSync } from "node:fs";

const flat = values => Float64Array.from(values.flat(Infinity));
const netOf = recipe => N.networkOf(recipe, null, flat(recipe.weights));

function trained(recipe) {
  const random = N.generatorOf(recipe.seed);
  const points = flat(Array.from({ length: 256 }, () => N.datasets[recipe.data](random)));
  const net = N.networkOf(recipe, random), memory = N.memoryOf(net);
  for (let k = 0; k < recipe.steps; k++) N.step(net, memory, points, random, recipe);
  return { points, net };
}

const asks = {
  objectives: cases => cases.map(c => {
    const net = netOf(c), x = flat(c.x), eps = flat(c.eps), z = eps.slice(0, 7 * c.latents);
    return { ...N.objective(net, x, eps, c.beta), q: N.qOf(net, x), means: N.meansAt(net, z) };
  }),
  adam(c) {
    const net = netOf(c), memory = N.memoryOf(net);
    for (let k = 0; k < 10; k++) {
      const { gradient } = N.objective(net, flat(c.x), flat(c.eps));
      N.adam(net.weights, gradient, memory, 0.01);
    }
    return net.weights;
  },
  random: seeds => seeds.map(seed => {
    const { uniform } = N.generatorOf(seed);
    return [Array.from({ length: 50 }, uniform), N.generatorOf(seed).normals(20000)];
  }),
  data: names => names.map(name => {
    const random = N.generatorOf(7);
    return Array.from({ length: 4000 }, () => N.datasets[name](random));
  }),
  weights: recipes => recipes.map(recipe => trained(recipe).net.weights),
  sigmas: recipes => [...recipes.map(recipe => N.sigmaOf(trained(recipe).net)), N.SMALLEST_SIGMA],
  ledgers: recipes => recipes.map(recipe => {
    const { points, net } = trained(recipe), few = points.slice(0, 80);
    const { grid, ...ledger } = N.ledgerOf(net, few), { values } = N.logLikelihood(net, few);
    return { points: few, weights: net.weights, ledger, values, count: grid.count };
  }),
  likelihoods: cases => cases.map(c => {
    const net = netOf(c), x = flat(c.x), { sure, grid, values } = N.logLikelihood(net, x);
    const { elbo, logP, gap, gaps } = N.ledgerOf(net, x);
    return { sure, count: grid.count, values, elbo, logP, gap, gaps };
  }),
  densities(c) {
    const net = netOf(c), x = flat(c.x), grid = N.gridOf(net, 128);
    const line = Array.from({ length: 161 }, (_, k) => -8 + k / 10);
    const without = cut => line.map(z => (Math.abs(z) < cut ? 0 : 1));
    const bumps = [[1, 2, 1], [1, 3, 1, 3, 1], [1, 100, 1, 2, 1], [0, 0, 5, 0, 0, 5, 0, 0, 5]];
    return { density: N.posterior(net, grid, x[0], x[1]), z: grid.z, spacing: grid.spacing, line,
      sum: N.sumOfQ(net, N.qOf(net, x), line),
      holes: [0, 3, 0.5].map(cut => N.holesOf({ latents: 1 }, without(cut), line)),
      modes: bumps.map(density => N.modesOf(density)) };
  },
  shown: recipes => recipes.map(recipe => {
    const { points, net } = trained(recipe), { q, grid, ...ledger } = N.ledgerOf(net, points);
    const line = Array.from({ length: 81 }, (_, k) => k / 10 - 4);
    const widest = ledger.gaps.indexOf(Math.max(...ledger.gaps));
    const one = N.posterior(net, grid, points[2 * widest], points[2 * widest + 1]);
    return { ...ledger, points, weights: net.weights, widest: ledger.gaps[widest],
      modes: recipe.latents > 1 ? null : N.modesOf(one),
      holes: N.holesOf(net, N.sumOfQ(net, q, line), line) };
  }),
};

const told = asks[process.argv[2]](JSON.parse(readFileSync(0, "utf8")));
console.log(JSON.stringify(told, (_, value) => (ArrayBuffer.isView(value) ? [...value] : value)));
