// Uploads a file of any size from a browser, in parts: several at once, each checked, again after a failure. An upload that
// was interrupted, by a lost network or a closed tab, goes on where it stopped when the same file is chosen again.
//
// The page has to come over HTTPS or from localhost: browsers have no `crypto.subtle` elsewhere.
import { createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { IngestService, type Video } from "./gen/connect/sage/ingest/v1/ingest_pb.js";

export interface Options {
  /** The gateway, such as `https://sage.example.com`. */
  url: string;
  /** Sent with every request, for sign-in. */
  headers?: Record<string, string>;
  /** Parts that are under way at once. */
  parallel?: number;
  /** Milliseconds that each request waits, in all, for a network that is away or a server that is not ready. */
  patience?: number;
  /** Hears how many bytes have arrived, those of earlier attempts included. */
  onProgress?: (bytes: number) => void;
  signal?: AbortSignal;
}

// Worth another try: the request may not have arrived, or the server was not ready for it.
const PASSING = new Set([408, 429, 502, 503, 504]);

export async function uploadInParts(file: File, options: Options): Promise<Video> {
  const over = new AbortController();
  try {
    return await upload(file, { ...options, signal: AbortSignal.any([over.signal, options.signal ?? over.signal]) });
  } finally {
    // Where one part failed, the others that are under way have no business any more.
    over.abort();
  }
}

async function upload(file: File, options: Options & { signal: AbortSignal }): Promise<Video> {
  const { url, headers = {}, parallel = 4, patience = 10 * 60_000, onProgress = () => {}, signal } = options;
  const videos = createClient(IngestService, createGrpcWebTransport({ baseUrl: url }));
  const call = { headers, signal };
  const insist = <T>(attempt: () => Promise<T>) => tryAgain(attempt, patience, signal);

  const spec = { filename: file.name, contentType: file.type || "video/mp4", sizeBytes: BigInt(file.size) };
  // The same file answers the same upload, with the parts that it has.
  const requestId = await hex(`${file.name}\n${file.size}\n${file.lastModified}`);
  const begun = await insist(() => videos.createUpload({ spec, requestId }, call));
  const { id, videoId, partSizeBytes, partCount, parts } = begun.upload!;
  if (videoId) return (await insist(() => videos.getVideo({ videoId }, call))).video!;

  const there = new Map(parts.map((part) => [part.partNumber, part.sha256]));
  const size = Number(partSizeBytes);
  let arrived = 0;
  let next = 1;
  const send = async () => {
    while (next <= partCount && !signal.aborted) {
      const number = next++;
      // The slice itself is the body: Chromium then reads the disk and not the memory of the page, and is four times as fast.
      const data = file.slice((number - 1) * size, number * size);
      const sha256 = await hex(await data.arrayBuffer());
      // Name, size and time do not make it the same file. A part that is there counts where it is this one.
      if (there.get(number) !== sha256) {
        const address = `${url}/v1/uploads/${id}/parts/${number}?sha256=${sha256}`;
        await insist(() => put(address, data, headers, signal));
      }
      arrived += data.size;
      onProgress(arrived);
    }
  };
  await Promise.all(Array.from({ length: parallel }, send));
  return (await insist(() => videos.completeUpload({ uploadId: id }, call))).video!;
}

class Refused extends Error {}

async function put(address: string, body: Blob, headers: Record<string, string>, signal: AbortSignal) {
  const response = await fetch(address, { method: "PUT", headers, body, signal });
  if (response.ok) return;
  const text = await response.text();
  throw PASSING.has(response.status) ? new Error(text) : new Refused(text);
}

// Tries again, ever more slowly, what may succeed later: fetch raises TypeError where the network is away. Only the
// waiting counts: however long the whole upload takes, it has all of its patience whenever the network goes.
async function tryAgain<T>(attempt: () => Promise<T>, patience: number, signal: AbortSignal): Promise<T> {
  let waited = 0;
  for (let wait = 250; ; wait = Math.min(2 * wait, 5000)) {
    try {
      return await attempt();
    } catch (error) {
      if (error instanceof Refused || signal.aborted || !mayPass(error) || waited >= patience) throw error;
    }
    waited += wait;
    await new Promise((done) => setTimeout(done, wait * (0.5 + Math.random())));
  }
}

function mayPass(error: unknown): boolean {
  const code = (error as { code?: unknown }).code;
  return typeof code !== "number" || UNAVAILABLE.has(code);
}

// gRPC codes: UNKNOWN (the network was cut), DEADLINE_EXCEEDED, UNAVAILABLE.
const UNAVAILABLE = new Set([2, 4, 14]);

async function hex(data: string | ArrayBuffer): Promise<string> {
  const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
