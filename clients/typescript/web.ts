// Where do two cuts of a video differ? Asked as a web page asks: Connect over gRPC-Web, and `fetch` for the bytes.
//
// usage: node dist/web.js OLD.mp4 NEW.mp4      SAGE_URL: the gateway, http://localhost:8080 where it is not set
import { openAsBlob } from "node:fs";
import { basename } from "node:path";
import { fromJson } from "@bufbuild/protobuf";
import { createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { CompareService, DifferenceKind, type TimeRange } from "./gen/connect/sage/compare/v1/compare_pb.js";
import { EmbedService, EmbeddingState } from "./gen/connect/sage/embed/v1/embed_pb.js";
import { UploadVideoResponseSchema } from "./gen/connect/sage/ingest/v1/ingest_pb.js";

const url = process.env.SAGE_URL ?? "http://localhost:8080";
const headers: Record<string, string> = process.env.SAGE_TOKEN
  ? { authorization: `Bearer ${process.env.SAGE_TOKEN}` }
  : {};

const signIn: Interceptor = (next) => (request) => {
  for (const [name, value] of Object.entries(headers)) request.header.set(name, value);
  return next(request);
};
const transport = createGrpcWebTransport({ baseUrl: url, interceptors: [signIn] });
const embeddings = createClient(EmbedService, transport);
const comparisons = createClient(CompareService, transport);

// A browser cannot stream a request over gRPC-Web, so the file is the body of a plain PUT. The gateway streams it on.
async function upload(path: string): Promise<string> {
  const query = new URLSearchParams({ "spec.filename": basename(path) });
  const body = await openAsBlob(path, { type: "video/mp4" });
  const response = await fetch(`${url}/v1/videos?${query}`, { method: "PUT", headers, body });
  if (!response.ok) throw new Error(await response.text());
  const { video } = fromJson(UploadVideoResponseSchema, await response.json());
  return video!.id;
}

async function embed(videoId: string): Promise<string> {
  const { embedding } = await embeddings.createEmbedding({ videoId });
  for await (const message of embeddings.watchEmbedding({ embeddingId: embedding!.id })) {
    if (message.heartbeat) continue;
    const { state, progress, failure } = message.embedding!;
    console.error(`${videoId}: ${Math.round(progress!.fraction * 100)} % ${progress!.message}`);
    if (message.last && state !== EmbeddingState.COMPLETED) throw new Error(failure?.message ?? progress!.message);
  }
  return embedding!.id;
}

const [a, b] = await Promise.all(process.argv.slice(2, 4).map(async (path) => embed(await upload(path))));
const comparison = await comparisons.compareEmbeddings({ embeddingIdA: a, embeddingIdB: b });

const range = (side?: TimeRange) => (side ? `${side.startSeconds.toFixed(2)}-${side.endSeconds.toFixed(2)}` : "-");
for (const { kind, a, b } of comparison.differences) console.log(DifferenceKind[kind], range(a), range(b));
console.log(`similar ${comparison.similarityPercent.toFixed(1)} %`);
