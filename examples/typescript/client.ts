// A small client of fflab: fetch with the types of its OpenAPI document. Copy it and change it.
import type { components, paths } from "./fflab";

type Schemas = components["schemas"];
export type Job = Schemas["Job"];
export type Problem = Schemas["ProblemDetails"];
export type Request = Schemas["JobRequest"];
export type Spec = Request["spec"];
export type Result = Body<paths["/v1/jobs/{job_id}/result"]["get"]>;
export type Row = Schemas["RowPage"]["items"][number];
export type Filters = NonNullable<paths["/v1/jobs"]["get"]["parameters"]["query"]>;
export type Action = "cancel" | "pause" | "resume" | "retry";

type Body<Operation> = Operation extends {
  responses: { 200: { content: { "application/json": infer Found } } };
}
  ? Found
  : never;
type Value = string | number | boolean | null | undefined;

const ENDED = ["succeeded", "failed", "cancelled"];

/** The service refused a request; `problem` says what was wrong, where, and what to do. */
export class Refused extends Error {
  status: number;
  problem: Problem;

  constructor(status: number, problem: Problem) {
    super(`${problem.code}: ${problem.detail}`);
    this.status = status;
    this.problem = problem;
  }
}

export class Fflab {
  url: string;
  key: string | undefined;

  /** A service at an address; `key` where it needs one. */
  constructor(url = "http://127.0.0.1:8000", key?: string) {
    this.url = url.replace(/\/$/, "");
    this.key = key;
  }

  /** Submit a spec, or a preset by its name. The same `idempotencyKey` makes one job only. */
  submit(
    spec: Spec | string,
    options: Omit<Request, "spec"> = {},
    idempotencyKey: string = crypto.randomUUID(),
  ): Promise<Job> {
    const whole = typeof spec === "string" ? { kind: "study" as const, preset: spec } : spec;
    return this.#send<Job>("POST", "/v1/jobs", {
      body: { spec: whole, ...options } satisfies Request,
      headers: { "Idempotency-Key": idempotencyKey },
    });
  }

  /** A job as it is; with `wait` the answer is held until it has ended, at most so many seconds. */
  job(id: string, wait?: number): Promise<Job> {
    return this.#send<Job>("GET", `/v1/jobs/${id}`, { query: { wait } });
  }

  /** All jobs that pass the filters, newest first, page after page. */
  async *jobs(filters: Filters = {}): AsyncGenerator<Job> {
    let cursor: string | null | undefined;
    do {
      const page = await this.#send<Schemas["JobPage"]>("GET", "/v1/jobs", {
        query: { ...filters, cursor },
      });
      yield* page.items;
      cursor = page.next_cursor;
    } while (cursor);
  }

  /** Wait until a job has ended, and return it. */
  async ended(id: string): Promise<Job> {
    let job = await this.job(id);
    while (!ENDED.includes(job.state)) job = await this.job(id, 30);
    return job;
  }

  act(id: string, action: Action): Promise<Job> {
    return this.#send<Job>("POST", `/v1/jobs/${id}/${action}`);
  }

  /** The result; Refused with status 409 while there is none. */
  result(id: string): Promise<Result> {
    return this.#send<Result>("GET", `/v1/jobs/${id}/result`);
  }

  /** The rows that are measured so far, also while the job runs. */
  async rows(id: string): Promise<Row[]> {
    return (await this.#send<Schemas["RowPage"]>("GET", `/v1/jobs/${id}/curves`)).items;
  }

  /** A file of a job, such as "curves.csv", "curves.parquet" or "chart/sparsity.png". */
  async download(id: string, what: string): Promise<ArrayBuffer> {
    return (await this.#fetch("GET", `/v1/jobs/${id}/${what}`)).arrayBuffer();
  }

  async #send<Found>(method: string, path: string, sent: Sent = {}): Promise<Found> {
    return (await (await this.#fetch(method, path, sent)).json()) as Found;
  }

  async #fetch(method: string, path: string, sent: Sent = {}): Promise<Response> {
    const address = new URL(this.url + path);
    for (const [name, given] of Object.entries(sent.query ?? {}))
      for (const value of Array.isArray(given) ? given : [given])
        if (value !== undefined && value !== null) address.searchParams.append(name, `${value}`);
    const headers: Record<string, string> = { Accept: "application/json, */*", ...sent.headers };
    if (this.key) headers["Authorization"] = `Bearer ${this.key}`;
    if (sent.body !== undefined) headers["Content-Type"] = "application/json";
    const body = sent.body === undefined ? null : JSON.stringify(sent.body);
    const answer = await fetch(address, { method, headers, body });
    if (!answer.ok) throw new Refused(answer.status, (await answer.json()) as Problem);
    return answer;
  }
}

interface Sent {
  query?: Record<string, Value | Value[]>;
  headers?: Record<string, string>;
  body?: unknown;
}
