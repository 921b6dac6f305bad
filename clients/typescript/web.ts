// Shows where two cuts of a video differ, as a web page would: Connect over gRPC-Web, and `fetch` for the bytes.
//
// usage: node dist/web.js OLD.mp4 NEW.mp4
//
// SAGE_URL is the gateway (default: http://localhost:8080), SAGE_TOKEN the token if the server requires one.
import { openAsBlob } from "node:fs";
import { basename } from "node:path";
import { fromJson } from "@bufbuild/protobuf";
import { createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import {
  CompareMode,
  CompareService,
  DifferenceKind,
  type FrameRange,
  MediaDifferenceKind,
  NotComparedReason,
} from "./gen/connect/sage/compare/v1/compare_pb.js";
import { EmbedService, EmbeddingState } from "./gen/connect/sage/embed/v1/embed_pb.js";
import { IngestService, UploadVideoResponseSchema } from "./gen/connect/sage/ingest/v1/ingest_pb.js";

const url = process.env.SAGE_URL ?? "http://localhost:8080";
const headers: Record<string, string> = process.env.SAGE_TOKEN
  ? { authorization: `Bearer ${process.env.SAGE_TOKEN}` }
  : {};

const signIn: Interceptor = (next) => (request) => {
  for (const [name, value] of Object.entries(headers)) request.header.set(name, value);
  return next(request);
};
const transport = createGrpcWebTransport({ baseUrl: url, interceptors: [signIn] });
const videos = createClient(IngestService, transport);
const embeddings = createClient(EmbedService, transport);
const comparisons = createClient(CompareService, transport);

// Returns the ID of the video with the file's bytes, uploading them unless SAGE has them already.
async function upload(path: string): Promise<string> {
  const file = await openAsBlob(path, { type: "video/mp4" });
  // `crypto.subtle` hashes in one piece, so the whole file is in memory here. For large files see parts.ts.
  const sha256 = Buffer.from(await crypto.subtle.digest("SHA-256", await file.arrayBuffer())).toString("hex");
  const stored = (await videos.listVideos({ sha256, pageSize: 1 })).videos[0];
  if (stored) return stored.id;

  // A browser cannot stream a request over gRPC-Web, so the file is the body of a PUT, which the gateway streams.
  const query = new URLSearchParams({ "spec.filename": basename(path), "spec.sha256": sha256 });
  const response = await fetch(`${url}/v1/videos?${query}`, { method: "PUT", headers, body: file });
  if (!response.ok) throw new Error(await response.text());
  return fromJson(UploadVideoResponseSchema, await response.json()).video!.id;
}

// Returns the ID of the video's embedding once it is completed. SAGE reuses the one that exists, if any.
async function embed(videoId: string): Promise<string> {
  const embeddingId = (await embeddings.createEmbedding({ videoId })).embedding!.id;
  for await (const { event, last } of embeddings.watchEmbedding({ embeddingId })) {
    if (event.case !== "embedding") continue; // a heartbeat
    const { state, progress, failure } = event.value;
    console.error(`${videoId}: ${Math.round(progress!.fraction * 100)} % ${progress!.message}`);
    if (!last) continue;
    if (state !== EmbeddingState.COMPLETED) throw new Error(failure?.message ?? progress!.message);
    return embeddingId;
  }
  throw new Error(`The watch of ${embeddingId} was cut off. Run this again: it continues.`);
}

const films = process.argv.slice(2);
if (films.length !== 2) {
  console.error("usage: web.js OLD.mp4 NEW.mp4");
  process.exit(2);
}
const [a, b] = await Promise.all(films.map(async (path) => embed(await upload(path))));
// Clip by clip at equal times. Mode ALIGNED, the default, also needs the fingerprints of both videos.
const comparison = await comparisons.compareEmbeddings({ embeddingIdA: a, embeddingIdB: b, mode: CompareMode.TIME });
const visual = comparison.tracks[0]!; // the only one, because the request names no others
if (visual.result.case !== "time") throw new Error(`This program cannot read a ${visual.result.case} comparison.`);

const seconds = (side?: FrameRange) => (side ? `${side.startSeconds.toFixed(2)}-${side.endSeconds.toFixed(2)}` : "-");
for (const { kind, a, b } of visual.result.value.differences) console.log(DifferenceKind[kind], seconds(a), seconds(b));
for (const { kind, a, b } of comparison.mediaDifferences) console.log(MediaDifferenceKind[kind], a, b);
console.log(`picture similar ${visual.similarityPercent.toFixed(1)} %`);
for (const { track, reason } of comparison.notCompared)
  console.log(`not compared: ${track}, ${NotComparedReason[reason]}`);
