// A client with types from the OpenAPI document for paths, parameters, bodies and responses:
// `npm run generate` writes mesh.d.ts.
import createClient, { type Client } from "openapi-fetch";
import type { components, paths } from "./mesh.js";

export type Schemas = components["schemas"];
export type Mesh = Client<paths>;

export interface Credentials {
  url: string;
  key: string;
  group: string;
}

export function connect({ url, key, group }: Credentials): Mesh {
  return createClient<paths>({ baseUrl: url, headers: { "X-Api-Key": key, "X-Group": group } });
}

// MeshError is an error from the gateway or Mesh.
export class MeshError extends Error {
  constructor(
    readonly httpStatus: number,
    readonly status: Schemas["Status"],
  ) {
    super(status.message);
    this.name = "MeshError";
  }

  // The invalid fields of the request.
  get violations(): { field?: string; description?: string }[] {
    return (this.status.details ?? []).flatMap((detail) =>
      detail["@type"] === "type.googleapis.com/google.rpc.BadRequest" && "fieldViolations" in detail && Array.isArray(detail.fieldViolations)
        ? detail.fieldViolations
        : [],
    );
  }

  // The reason, if the gateway itself reported the error. After OUTCOME_UNKNOWN, a write may or may
  // not have been carried out. Check with a get or list call whether it took effect before you
  // repeat it.
  get reason(): string | undefined {
    for (const detail of this.status.details ?? []) {
      if (detail["@type"] === "type.googleapis.com/google.rpc.ErrorInfo" && "reason" in detail && typeof detail.reason === "string") {
        return detail.reason;
      }
    }
    return undefined;
  }
}

// answer returns the response body of a call, or throws a MeshError.
export async function answer<T>(call: Promise<{ data?: T; error?: Schemas["Status"]; response: Response }>): Promise<T> {
  const { data, error, response } = await call;
  if (data === undefined) {
    throw new MeshError(response.status, error ?? { code: 2, message: response.statusText });
  }
  return data;
}

// messages reads a stream: one JSON message per line. If the stream fails, the last line is the error.
export async function* messages<T>(body: ReadableStream<Uint8Array>): AsyncGenerator<T> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of body) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      const message: T | { error: Schemas["Status"] } = JSON.parse(line);
      if (typeof message === "object" && message !== null && "error" in message) {
        throw new MeshError(200, message.error);
      }
      yield message;
    }
  }
}
