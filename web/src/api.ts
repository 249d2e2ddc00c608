/** The REST API as the page uses it. Instants are seconds since 1970 by the database's clock. */

export type Status =
  | "PENDING" | "PROGRESS" | "RETRY" | "WAITING" | "PAUSED" | "SUCCESS" | "FAILURE" | "REVOKED" | "SKIPPED";

export interface Run {
  run_id: string;
  workflow: string;
  status: Status;
  progress: number;
  current_step: string | null;
  steps_total: number;
  steps_done: number;
  steps_failed: number;
  generation: number;
  cancel_requested: boolean;
  created_at: number;
  started_at: number | null;
  finished_at: number | null;
  seconds: number | null;
  eta_seconds: number | null;
  params: Record<string, unknown>;
  error: string | null;
  schedule: string | null;
  rerun_of: string | null;
  parent_run: string | null;
  parent_step: string | null;
  outputs?: Record<string, unknown> | null;
  dispatches?: Record<string, number>;
}

export interface StepError { type: string; message: string; traceback?: string }

export interface Step {
  id: string;
  ordinal: number;
  queue: string;
  status: Status;
  reason: string | null;
  progress: number;
  attempts: number;
  failures: number;
  crashes: number;
  started_at: number | null;
  finished_at: number | null;
  seconds: number | null;
  items: { total: number; success: number; failure: number } | null;
  error: StepError | null;
  not_before: number | null;
  sub_run: string | null;
  output?: unknown;
  given?: Record<string, unknown> | null;
  template?: Record<string, unknown>;
}

export interface Attempt {
  step: string;
  item: number | null;
  generation: number;
  number: number;
  status: Status;
  via: string;
  node: string | null;
  pid: number | null;
  started_at: number | null;
  finished_at: number | null;
  error: StepError | null;
}

export interface Item {
  index: number;
  key: string;
  status: Status;
  failures: number;
  started_at: number | null;
  finished_at: number | null;
  error: StepError | null;
}

export interface LogLine {
  id: number;
  at: number;
  level: string;
  step: string | null;
  item: string | null;
  attempt: number | null;
  message: string;
}

export interface Box { x: number; y: number; width: number; height: number }

export interface GraphNode { id: string; ordinal: number; uses: string; queue: string; map: boolean; box: Box }
export interface GraphFrame { name: string; kind: "fragment" | "bundle" | "block"; title: string; steps: number[]; box: Box }
export interface GraphRoute { from: string; to: string; via: "gate" | "canvas"; edges: number; points: [number, number][] }
export interface Graph {
  workflow: string;
  nodes: GraphNode[];
  edges: { from: string; to: string }[];
  frames: GraphFrame[];
  routes: GraphRoute[];
  size: [number, number];
}

export interface WorkflowSummary {
  id: string;
  description: string;
  fingerprint: string | null;
  steps: number;
  errors: number;
  warnings: number;
}

export interface ParamSchema {
  type?: string | string[];
  description?: string;
  default?: unknown;
  enum?: unknown[];
  minimum?: number;
  maximum?: number;
  minLength?: number;
  maxLength?: number;
  pattern?: string;
}

export interface WorkflowDetail extends WorkflowSummary {
  params: { properties?: Record<string, ParamSchema>; required?: string[] };
  steps_detail: { id: string; uses: string; needs: string[]; queue: string; is_map: boolean; run_if: string }[];
  source: string;
}

export interface Diagnostic {
  detail: string;
  hint?: string | null;
  pointer?: string | null;
  file?: string | null;
  line?: number | null;
  column?: number | null;
  code?: string | null;
  severity?: string | null;
}

export interface Plan {
  canvas: string;
  messages: { count: number; largest_bytes: number; mean_bytes: number; total_bytes: number };
  critical_path: string[];
}

export interface Hit {
  id: string;
  paper_id: string;
  title: string;
  score: number;
  snippet: string;
  highlights: [number, number][];
  section: string;
  page: number | null;
  source: string;
  run_id: string | null;
}

export interface Check { ok: boolean; detail: string }
export interface Health {
  status: string;
  database: Check;
  broker: Check;
  workers: Check;
  reconciler?: Check;
  queues?: Check;
  slots: number;
  oldest_ready: { run_id: string; step_id: string; queue: string; waiting_seconds: number } | null;
}

export interface Approval { run_id: string; workflow: string; step: string; prompt: string; asked_at: number }
export interface Version { fingerprint: string; steps: number; created_at: number; is_current: boolean; source?: string }
export interface Schedule {
  name: string;
  workflow: string;
  origin: string;
  cron: string;
  timezone: string;
  catchup: string;
  overlap: string;
  params: Record<string, unknown>;
  is_enabled: boolean;
  next_fire_at: number | null;
  last_fire_at: number | null;
  problem: string | null;
}
export interface Fire { fire_at: number; fire_time: string; status: string; detail: string | null; run_id: string | null }
export interface Taken { step: string; is_reused: boolean; why: string }

/** An answer that is no success; `errors` name what is wrong with which field or line. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly title: string,
    readonly detail: string,
    readonly hint: string,
    readonly errors: Diagnostic[],
  ) {
    super(detail || title);
  }
}

let csrfToken = "";

/** Who is at the page: `via` is `session` after a log-in, `loopback` where this machine needs no key. */
export interface Session {
  needs_key: boolean;
  scope: "read" | "trigger" | "operate" | "admin" | null;
  via: "loopback" | "key" | "session" | null;
  key: string | null;
  csrf_token: string | null;
}

async function readSession(response: Response): Promise<Session> {
  if (!response.ok) throw await problemOf(response);
  const session = (await response.json()) as Session;
  csrfToken = session.csrf_token ?? "";
  return session;
}

export const getSession = async (): Promise<Session> => readSession(await send("GET", "/api/v1/session"));

/** Changes a key for a cookie that no script can read; the key is kept nowhere. */
export const logIn = async (key: string): Promise<Session> =>
  readSession(await send("POST", "/api/v1/session", undefined, { Authorization: `Bearer ${key}` }));

export async function logOut(): Promise<void> {
  await send("DELETE", "/api/v1/session");
}

async function send(method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, {
      method,
      credentials: "same-origin",
      headers: {
        Accept: "application/json",
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
        ...(csrfToken && method !== "GET" ? { "X-CSRF-Token": csrfToken } : {}),
        ...headers,
      },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Problem(0, "No connection", "The server does not answer.", "It is asked again every few seconds.", []);
  }
  if (response.status === 401 && path !== "/api/v1/session") window.dispatchEvent(new Event("celeriac:key-needed"));
  return response;
}

async function problemOf(response: Response): Promise<Problem> {
  let told: Record<string, unknown> = {};
  try {
    told = (await response.json()) as Record<string, unknown>;
  } catch {
    // A proxy's page, or nothing: the status says all there is.
  }
  const text = (name: string): string => (typeof told[name] === "string" ? (told[name] as string) : "");
  const errors = Array.isArray(told.errors) ? (told.errors as Diagnostic[]) : [];
  return new Problem(response.status, text("title") || `Error ${response.status}`, text("detail"), text("hint"), errors);
}

export async function get<T>(path: string): Promise<T> {
  const response = await send("GET", path);
  if (!response.ok) throw await problemOf(response);
  return (await response.json()) as T;
}

export async function post<T>(path: string, body?: unknown, headers?: Record<string, string>): Promise<T> {
  const response = await send("POST", path, body ?? {}, headers);
  if (!response.ok) throw await problemOf(response);
  return (await response.json()) as T;
}

export async function patch<T>(path: string, body: unknown): Promise<T> {
  const response = await send("PATCH", path, body);
  if (!response.ok) throw await problemOf(response);
  return (await response.json()) as T;
}

/** The health check answers 503 with the same body when something is missing. */
export async function getHealth(): Promise<Health> {
  const response = await send("GET", "/api/cronjobs/tasks/health-check");
  if (response.status !== 200 && response.status !== 503) throw await problemOf(response);
  return (await response.json()) as Health;
}

export const runPath = (id: string, rest = ""): string => `/api/v1/runs/${encodeURIComponent(id)}${rest}`;
export const getApprovals = async (): Promise<Approval[]> =>
  (await get<{ approvals: Approval[] }>("/api/v1/approvals")).approvals;

export const workflowPath = (id: string, rest = ""): string => `/api/v1/workflows/${encodeURIComponent(id)}${rest}`;

export const isEnded = (status: Status): boolean =>
  status === "SUCCESS" || status === "FAILURE" || status === "REVOKED" || status === "SKIPPED";
