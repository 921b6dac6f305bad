// Uploads a file of any size from a browser, in parts: several at once, each checked, again after a failure. An upload that
// was interrupted, by a lost network or a closed tab, goes on where it stopped when the same file is chosen again.
import { createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { IngestService, type Upload, type Video } from "./gen/connect/sage/ingest/v1/ingest_pb.js";

export interface Options {
  /** The gateway, such as `https://sage.example.com`. */
  url: string;
  /** Sent with every request, for sign-in. */
  headers?: Record<string, string>;
  /** Parts that are under way at once. */
  parallel?: number;
  /** Milliseconds for which a part is tried again while the network is away. */
  patience?: number;
  /** Hears how many bytes have arrived, those of earlier attempts included. */
  onProgress?: (bytes: number) => void;
  signal?: AbortSignal;
}

// Worth another try: the request may not have arrived, or the server was not ready for it.
const PASSING = new Set([408, 429, 502, 503, 504]);

export async function uploadInParts(file: File, options: Options): Promise<Video> {
  const { url, headers = {}, parallel = 4, patience = 10 * 60_000, onProgress = () => {}, signal } = options;
  const videos = createClient(IngestService, createGrpcWebTransport({ baseUrl: url }));
  const call = { headers, signal };
  const until = Date.now() + patience;

  const spec = { filename: file.name, contentType: file.type || "video/mp4", sizeBytes: BigInt(file.size) };
  // The same file answers the same upload, with the parts that it has.
  const requestId = await hex(`${file.name}\n${file.size}\n${file.lastModified}`);
  const begun = await insist(() => videos.createUpload({ spec, requestId }, call), until, signal);
  const upload = begun.upload!;
  if (upload.videoId) return (await videos.getVideo({ videoId: upload.videoId }, call)).video!;

  let arrived = upload.parts.reduce((bytes, part) => bytes + Number(part.sizeBytes), 0);
  onProgress(arrived);
  const missing = missingParts(upload);
  const send = async () => {
    for (let part = missing.shift(); part !== undefined; part = missing.shift()) {
      const number = part;
      const size = Number(upload.partSizeBytes);
      // The slice itself is the body: Chromium then reads the disk and not the memory of the page, and is four times as fast.
      const data = file.slice((number - 1) * size, number * size);
      const sha256 = await hex(await data.arrayBuffer());
      const address = `${url}/v1/uploads/${upload.id}/parts/${number}?sha256=${sha256}`;
      await insist(() => put(address, data, headers, signal), until, signal);
      arrived += data.size;
      onProgress(arrived);
    }
  };
  await Promise.all(Array.from({ length: parallel }, send));
  return (await insist(() => videos.completeUpload({ uploadId: upload.id }, call), until, signal)).video!;
}

function missingParts(upload: Upload): number[] {
  const there = new Set(upload.parts.map((part) => part.partNumber));
  return Array.from({ length: upload.partCount }, (_, index) => index + 1).filter((number) => !there.has(number));
}

class Refused extends Error {}

async function put(address: string, body: Blob, headers: Record<string, string>, signal?: AbortSignal) {
  const response = await fetch(address, { method: "PUT", headers, body, signal });
  if (response.ok) return;
  const text = await response.text();
  throw PASSING.has(response.status) ? new Error(text) : new Refused(text);
}

// Tries again, ever more slowly, what may succeed later: fetch raises TypeError where the network is away.
async function insist<T>(attempt: () => Promise<T>, until: number, signal?: AbortSignal): Promise<T> {
  for (let wait = 250; ; wait = Math.min(2 * wait, 5000)) {
    try {
      return await attempt();
    } catch (error) {
      if (error instanceof Refused || signal?.aborted || !mayPass(error) || Date.now() + wait > until) throw error;
      await new Promise((done) => setTimeout(done, wait * (0.5 + Math.random())));
    }
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
