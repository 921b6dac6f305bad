// Shows where two cuts of a video differ, over native gRPC with @grpc/grpc-js and code that ts-proto generates.
//
// usage: node dist/node.js OLD.mp4 NEW.mp4
//
// SAGE_ADDRESS is the gateway (default: localhost:8080), SAGE_TOKEN the token if the server requires one.
import { createHash } from "node:crypto";
import { createReadStream, statSync } from "node:fs";
import { basename } from "node:path";
import { credentials, Metadata, type ServiceError } from "@grpc/grpc-js";
import {
  CompareServiceClient,
  CompareEmbeddingsRequest,
  CompareMode,
  type CompareEmbeddingsResponse,
  differenceKindToJSON,
  mediaDifferenceKindToJSON,
  notComparedReasonToJSON,
  type FrameRange,
} from "./gen/grpc/sage/compare/v1/compare.js";
import {
  CreateEmbeddingRequest,
  type CreateEmbeddingResponse,
  EmbeddingState,
  EmbedServiceClient,
  WatchEmbeddingRequest,
  type WatchEmbeddingResponse,
} from "./gen/grpc/sage/embed/v1/embed.js";
import {
  IngestServiceClient,
  ListVideosRequest,
  type ListVideosResponse,
  UploadVideoRequest,
  type UploadVideoResponse,
} from "./gen/grpc/sage/ingest/v1/ingest.js";

const address = process.env.SAGE_ADDRESS ?? "localhost:8080";
const videos = new IngestServiceClient(address, credentials.createInsecure());
const embeddings = new EmbedServiceClient(address, credentials.createInsecure());
const comparisons = new CompareServiceClient(address, credentials.createInsecure());
const metadata = new Metadata();
if (process.env.SAGE_TOKEN) metadata.set("authorization", `Bearer ${process.env.SAGE_TOKEN}`);

// grpc-js reports results to a callback; this turns one into a promise.
function promise<T>(call: (done: (error: ServiceError | null, value: T) => void) => void): Promise<T> {
  return new Promise((resolve, reject) => call((error, value) => (error ? reject(error) : resolve(value))));
}

// Returns the ID of the video with the file's bytes, uploading them unless SAGE has them already.
async function upload(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const data of createReadStream(path)) hash.update(data);
  const sha256 = hash.digest("hex");
  const stored = await promise<ListVideosResponse>((done) =>
    videos.listVideos(ListVideosRequest.fromPartial({ sha256, pageSize: 1 }), metadata, done),
  );
  if (stored.videos[0]) return stored.videos[0].id;

  const response = await promise<UploadVideoResponse>(async (done) => {
    const call = videos.uploadVideo(metadata, done);
    const spec = { filename: basename(path), contentType: "video/mp4", sizeBytes: statSync(path).size, sha256 };
    call.write(UploadVideoRequest.fromPartial({ spec }));
    for await (const data of createReadStream(path, { highWaterMark: 512 * 1024 })) {
      const hasRoom = call.write(UploadVideoRequest.fromPartial({ content: { data } }));
      if (!hasRoom) await new Promise((drained) => call.once("drain", drained));
    }
    call.end();
  });
  return response.video!.id;
}

// Returns the ID of the video's embedding once it is completed. SAGE reuses the one that exists, if any.
async function embed(videoId: string): Promise<string> {
  const created = await promise<CreateEmbeddingResponse>((done) =>
    embeddings.createEmbedding(CreateEmbeddingRequest.fromPartial({ videoId }), metadata, done),
  );
  const embeddingId = created.embedding!.id;
  const changes: AsyncIterable<WatchEmbeddingResponse> = embeddings.watchEmbedding(
    WatchEmbeddingRequest.fromPartial({ embeddingId }),
    metadata,
  );
  for await (const { embedding, last } of changes) {
    if (!embedding) continue; // a heartbeat
    const { state, progress, failure } = embedding;
    console.error(`${videoId}: ${Math.round(progress!.fraction * 100)} % ${progress!.message}`);
    if (!last) continue;
    if (state !== EmbeddingState.EMBEDDING_STATE_COMPLETED) throw new Error(failure?.message ?? progress!.message);
    return embeddingId;
  }
  throw new Error(`The watch of ${embeddingId} was cut off. Run this again: it continues.`);
}

const films = process.argv.slice(2);
if (films.length !== 2) {
  console.error("usage: node.js OLD.mp4 NEW.mp4");
  process.exit(2);
}
const [a, b] = await Promise.all(films.map(async (path) => embed(await upload(path))));
const comparison = await promise<CompareEmbeddingsResponse>((done) =>
  comparisons.compareEmbeddings(
    // Clip by clip at equal times. Mode ALIGNED, the default, also needs the fingerprints of both videos.
    CompareEmbeddingsRequest.fromPartial({ embeddingIdA: a, embeddingIdB: b, mode: CompareMode.COMPARE_MODE_TIME }),
    metadata,
    done,
  ),
);
const visual = comparison.tracks[0]!; // the only one, because the request names no others

const seconds = (side?: FrameRange) => (side ? `${side.startSeconds.toFixed(2)}-${side.endSeconds.toFixed(2)}` : "-");
for (const { kind, a, b } of visual.time!.differences)
  console.log(differenceKindToJSON(kind).replace("DIFFERENCE_KIND_", ""), seconds(a), seconds(b));
for (const { kind, a, b } of comparison.mediaDifferences)
  console.log(mediaDifferenceKindToJSON(kind).replace("MEDIA_DIFFERENCE_KIND_", ""), a, b);
console.log(`picture similar ${visual.similarityPercent.toFixed(1)} %`);
for (const { track, reason } of comparison.notCompared)
  console.log(`not compared: ${track}, ${notComparedReasonToJSON(reason).replace("NOT_COMPARED_REASON_", "")}`);
