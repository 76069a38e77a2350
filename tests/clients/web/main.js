// What a page of another origin does: calls the gateway by gRPC-Web and by Connect, in binary and in
// JSON, through the clients that pages use.
//
//   node main.js GATEWAY ORIGIN
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import { BadRequestSchema } from "./gen/google/rpc/error_details_pb.js";
import { SimulationService } from "./gen/positionsizing/v1/simulation_service_pb.js";
import { SizingService } from "./gen/positionsizing/v1/sizing_service_pb.js";

const [baseUrl, origin] = process.argv.slice(2);

/** As a browser fetches: it asks first, says its origin, and reads only what it is allowed to. */
async function fetchAsPage(url, init) {
  const wanted = [...new Headers(init.headers).keys()].join(", ");
  const asked = await fetch(url, {
    method: "OPTIONS",
    headers: {
      origin,
      "access-control-request-method": init.method,
      "access-control-request-headers": wanted,
    },
  });
  if (!asked.ok) throw new Error(`${await asked.text()} (${wanted})`);
  const answer = await fetch(url, { ...init, headers: { ...headersOf(init), origin } });
  if (answer.headers.get("access-control-allow-origin") !== origin) throw new Error("not allowed");
  return answer;
}

function headersOf(init) {
  return Object.fromEntries(new Headers(init.headers).entries());
}

const request = (winProbability) => ({
  portfolioId: "page",
  marketSnapshotId: "page",
  validateOnly: true,
  allOrNothing: true,
  signals: { instrumentIds: ["PAGE"], side: [1], winProbability: [winProbability], payoff: [1.0] },
});

async function calls(name, transport) {
  const sizing = createClient(SizingService, transport);
  const { decision } = await sizing.sizePositions(request(0.6), { timeoutMs: 60_000 });
  console.log(name, "lots", Number(decision.sizes.lots[0]));

  try {
    await sizing.sizePositions(request(1.5));
  } catch (error) {
    const failed = ConnectError.from(error);
    const [bad] = failed.findDetails(BadRequestSchema);
    console.log(name, "refused", Code[failed.code], bad.fieldViolations[0].field);
  }

  const simulation = createClient(SimulationService, transport);
  const work = {
    case: "simulateGrowth",
    value: {
      returns: { case: "distribution", value: { mean: 0.05, volatility: 0.2 } },
      fractions: [1.0],
      paths: 100,
      years: 1.0,
    },
  };
  const told = [];
  for await (const answer of simulation.followSimulation({ work })) told.push(answer.result.case);
  console.log(name, "stream", told.at(-1));
  try {
    for await (const _ of simulation.followSimulation({}));
  } catch (error) {
    console.log(name, "stream refused", Code[ConnectError.from(error).code]);
  }
}

const at = { baseUrl, fetch: fetchAsPage };
await calls("grpc-web", createGrpcWebTransport(at));
await calls("connect", createConnectTransport({ ...at, useBinaryFormat: true }));
await calls("connect json", createConnectTransport({ ...at, useBinaryFormat: false }));
