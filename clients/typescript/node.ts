// Where do two cuts of a video differ? Asked over native gRPC with @grpc/grpc-js and code that ts-proto generated.
//
// usage: node dist/node.js OLD.mp4 NEW.mp4      SAGE_ADDRESS: the gateway, localhost:8080 where it is not set
import { createReadStream, statSync } from "node:fs";
import { basename } from "node:path";
import { credentials, Metadata, type ServiceError } from "@grpc/grpc-js";
import {
  CompareServiceClient,
  CompareEmbeddingsRequest,
  type CompareEmbeddingsResponse,
  differenceKindToJSON,
  type TimeRange,
} from "./gen/grpc/sage/compare/v1/compare.js";
import {
  CreateEmbeddingRequest,
  type CreateEmbeddingResponse,
  EmbeddingState,
  EmbedServiceClient,
  WatchEmbeddingRequest,
  type WatchEmbeddingResponse,
} from "./gen/grpc/sage/embed/v1/embed.js";
import { IngestServiceClient, UploadVideoRequest, type UploadVideoResponse } from "./gen/grpc/sage/ingest/v1/ingest.js";

const address = process.env.SAGE_ADDRESS ?? "localhost:8080";
const videos = new IngestServiceClient(address, credentials.createInsecure());
const embeddings = new EmbedServiceClient(address, credentials.createInsecure());
const comparisons = new CompareServiceClient(address, credentials.createInsecure());
const metadata = new Metadata();
if (process.env.SAGE_TOKEN) metadata.set("authorization", `Bearer ${process.env.SAGE_TOKEN}`);

// grpc-js answers by callback; `await` wants a promise.
function answer<T>(call: (done: (error: ServiceError | null, value: T) => void) => void): Promise<T> {
  return new Promise((resolve, reject) => call((error, value) => (error ? reject(error) : resolve(value))));
}

async function upload(path: string): Promise<string> {
  const response = await answer<UploadVideoResponse>(async (done) => {
    const call = videos.uploadVideo(metadata, done);
    const spec = { filename: basename(path), contentType: "video/mp4", sizeBytes: statSync(path).size };
    call.write(UploadVideoRequest.fromPartial({ spec }));
    for await (const data of createReadStream(path, { highWaterMark: 512 * 1024 })) {
      const wantsMore = call.write(UploadVideoRequest.fromPartial({ content: { data } }));
      if (!wantsMore) await new Promise((drained) => call.once("drain", drained));
    }
    call.end();
  });
  return response.video!.id;
}

async function embed(videoId: string): Promise<string> {
  const { embedding } = await answer<CreateEmbeddingResponse>((done) =>
    embeddings.createEmbedding(CreateEmbeddingRequest.fromPartial({ videoId }), metadata, done),
  );
  const changes: AsyncIterable<WatchEmbeddingResponse> = embeddings.watchEmbedding(
    WatchEmbeddingRequest.fromPartial({ embeddingId: embedding!.id }),
    metadata,
  );
  for await (const message of changes) {
    if (message.heartbeat) continue;
    const { state, progress, failure } = message.embedding!;
    console.error(`${videoId}: ${Math.round(progress!.fraction * 100)} % ${progress!.message}`);
    if (message.last && state !== EmbeddingState.EMBEDDING_STATE_COMPLETED)
      throw new Error(failure?.message ?? progress!.message);
  }
  return embedding!.id;
}

const [a, b] = await Promise.all(process.argv.slice(2, 4).map(async (path) => embed(await upload(path))));
const comparison = await answer<CompareEmbeddingsResponse>((done) =>
  comparisons.compareEmbeddings(
    CompareEmbeddingsRequest.fromPartial({ embeddingIdA: a, embeddingIdB: b }),
    metadata,
    done,
  ),
);

const range = (side?: TimeRange) => (side ? `${side.startSeconds.toFixed(2)}-${side.endSeconds.toFixed(2)}` : "-");
for (const { kind, a, b } of comparison.differences)
  console.log(differenceKindToJSON(kind).replace("DIFFERENCE_KIND_", ""), range(a), range(b));
console.log(`similar ${comparison.similarityPercent.toFixed(1)} %`);
