// Uploads a file of any size from a browser as a resumable upload: several parts at once, each with its checksum, retried
// after a failure. An upload that was interrupted, by a lost network or a closed tab, resumes when the same file is chosen
// again.
//
// The page must be served over HTTPS or from localhost, because browsers offer `crypto.subtle` only there.
import { createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { IngestService, type Video } from "./gen/connect/sage/ingest/v1/ingest_pb.js";

export interface Options {
  /** The gateway, such as `https://sage.example.com`. */
  url: string;
  /** Headers of every request, such as `authorization`. */
  headers?: Record<string, string>;
  /** Number of parts sent at once. Default: 4. */
  parallel?: number;
  /** Total milliseconds that each request waits between attempts. Default: 10 minutes. */
  patience?: number;
  /** Called with the number of bytes that have arrived, including those of earlier attempts. */
  onProgress?: (bytes: number) => void;
  /** Stops the upload. What has arrived stays, and a later call resumes it. */
  signal?: AbortSignal;
}

// HTTP statuses worth a retry: the request may not have arrived, or the server was not ready for it.
const TRANSIENT_STATUSES = new Set([408, 429, 502, 503, 504]);

export async function uploadInParts(file: File, options: Options): Promise<Video> {
  const stop = new AbortController();
  try {
    return await upload(file, { ...options, signal: AbortSignal.any([stop.signal, options.signal ?? stop.signal]) });
  } finally {
    // If one part failed, stop the others.
    stop.abort();
  }
}

async function upload(file: File, options: Options & { signal: AbortSignal }): Promise<Video> {
  const { url, headers = {}, parallel = 4, patience = 10 * 60_000, onProgress = () => {}, signal } = options;
  const videos = createClient(IngestService, createGrpcWebTransport({ baseUrl: url }));
  const call = { headers, signal };
  const withRetries = <T>(attempt: () => Promise<T>) => retry(attempt, patience, signal);

  const spec = { filename: file.name, contentType: file.type || "video/mp4", sizeBytes: BigInt(file.size) };
  // The same key returns the same upload, with the parts that have arrived.
  const requestId = await hex(`${file.name}\n${file.size}\n${file.lastModified}`);
  const { upload } = await withRetries(() => videos.createUpload({ spec, requestId }, call));
  const { id, videoId, partSizeBytes, partCount, parts } = upload!;
  if (videoId) return (await withRetries(() => videos.getVideo({ videoId }, call))).video!;

  const arrivedParts = new Map(parts.map((part) => [part.partNumber, part.sha256]));
  const size = Number(partSizeBytes);
  let arrived = 0;
  let next = 1;
  const send = async () => {
    while (next <= partCount && !signal.aborted) {
      const number = next++;
      // The slice itself is the body: Chromium then reads it from disk instead of copying the page's memory, which is four
      // times as fast.
      const data = file.slice((number - 1) * size, number * size);
      const sha256 = await hex(await data.arrayBuffer());
      // Name, size and time do not prove that it is the same file: skip a part only if its checksum matches.
      if (arrivedParts.get(number) !== sha256) {
        const address = `${url}/v1/uploads/${id}/parts/${number}?sha256=${sha256}`;
        await withRetries(() => put(address, data, headers, signal));
      }
      arrived += data.size;
      onProgress(arrived);
    }
  };
  await Promise.all(Array.from({ length: parallel }, send));
  return (await withRetries(() => videos.completeUpload({ uploadId: id }, call))).video!;
}

/** The server refused the request for good: a retry would fail, too. */
class Refused extends Error {}

async function put(address: string, body: Blob, headers: Record<string, string>, signal: AbortSignal) {
  const response = await fetch(address, { method: "PUT", headers, body, signal });
  if (response.ok) return;
  const text = await response.text();
  throw TRANSIENT_STATUSES.has(response.status) ? new Error(text) : new Refused(text);
}

// Retries transient failures with growing delays; `fetch` raises TypeError if there is no network. Only the time between
// attempts counts against the patience, not the time that requests take.
async function retry<T>(attempt: () => Promise<T>, patience: number, signal: AbortSignal): Promise<T> {
  let waited = 0;
  for (let wait = 250; ; wait = Math.min(2 * wait, 5000)) {
    try {
      return await attempt();
    } catch (error) {
      if (error instanceof Refused || signal.aborted || !isTransient(error) || waited >= patience) throw error;
    }
    waited += wait;
    await new Promise((done) => setTimeout(done, wait * (0.5 + Math.random())));
  }
}

// gRPC codes worth a retry: UNKNOWN (the connection was cut), DEADLINE_EXCEEDED, UNAVAILABLE.
const TRANSIENT_CODES = new Set([2, 4, 14]);

function isTransient(error: unknown): boolean {
  const code = (error as { code?: unknown }).code;
  return typeof code !== "number" || TRANSIENT_CODES.has(code);
}

async function hex(data: string | ArrayBuffer): Promise<string> {
  const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
