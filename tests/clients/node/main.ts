// A client in TypeScript, from code generated out of the contract: sizes one signal and prints the
// lots.
//
//   node out/main.js ADDRESS
import { randomUUID } from "node:crypto";
import { isDeepStrictEqual } from "node:util";

import { credentials, type ServiceError, status } from "@grpc/grpc-js";

import {
  MarketServiceClient,
  PutMarketSnapshotRequest,
} from "./gen/positionsizing/v1/market_service";
import {
  CreatePortfolioRequest,
  PortfolioServiceClient,
  SetLimitsRequest,
} from "./gen/positionsizing/v1/portfolio_service";
import {
  GetServerInfoRequest,
  type GetServerInfoResponse,
  ServerServiceClient,
} from "./gen/positionsizing/v1/server_service";
import {
  SizePositionsRequest,
  type SizePositionsResponse,
  SizingServiceClient,
} from "./gen/positionsizing/v1/sizing_service";
import { limitKindToJSON, Side } from "./gen/positionsizing/v1/types";

/** A call with a callback as a promise. */
function answered<A>(call: (done: (error: ServiceError | null, answer: A) => void) => unknown) {
  return new Promise<A>((resolve, reject) => {
    call((error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

async function main(address: string): Promise<void> {
  const plain = credentials.createInsecure();
  const market = new MarketServiceClient(address, plain);
  const portfolios = new PortfolioServiceClient(address, plain);
  const sizing = new SizingServiceClient(address, plain);
  const server = new ServerServiceClient(address, plain);

  const info = await answered<GetServerInfoResponse>((done) =>
    server.getServerInfo(GetServerInfoRequest.fromPartial({}), done),
  );
  console.log("contract", info.contract!.package, "lines at most", info.limits!.linesMax);

  const snapshot = {
    snapshotId: `node-${randomUUID()}`,
    asOfTime: new Date(),
    instrumentIds: ["NODE"],
    price: [100],
  };
  await answered((done) =>
    market.putMarketSnapshot(PutMarketSnapshotRequest.fromPartial({ snapshot }), done),
  );
  const portfolioId = `node-${randomUUID()}`;
  const portfolio = { portfolioId, baseCurrency: "USD", cash: 1e6 };
  await answered((done) =>
    portfolios.createPortfolio(CreatePortfolioRequest.fromPartial({ portfolio }), done),
  );
  const limits = { scope: { portfolioId }, limits: { weightMax: 0.05 } };
  await answered((done) => portfolios.setLimits(SetLimitsRequest.fromPartial(limits), done));

  const request = SizePositionsRequest.fromPartial({
    requestId: randomUUID(),
    portfolioId,
    marketSnapshotId: snapshot.snapshotId,
    signals: {
      instrumentIds: ["NODE"],
      side: [Side.SIDE_LONG],
      winProbability: [0.6],
      payoff: [1],
    },
  });
  const size = () =>
    answered<SizePositionsResponse>((done) => sizing.sizePositions(request, done));
  const answer = await size();
  if (!isDeepStrictEqual(answer, await size())) {
    throw new Error("a retry got another answer");
  }
  const sizes = answer.decision!.sizes!;
  console.log("lots", sizes.lots[0], limitKindToJSON(sizes.binding[0]));

  request.requestId = randomUUID();
  request.signals!.winProbability = [1.5];
  try {
    await size();
    throw new Error("a wrong probability was sized");
  } catch (error) {
    const refused = error as ServiceError;
    console.log("refused", status[refused.code], refused.details.split(":")[0]);
  }
}

main(process.argv[2]).then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
