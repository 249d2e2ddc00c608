import type { ReactNode } from "react";

import { get, getApprovals, type Run, type Status, type WorkflowSummary } from "../api";
import { duration, instant, shortId } from "../format";
import { usePolled } from "../live";
import { Badge, Bar, Empty, Loading, ProblemNote } from "../parts";
import { setQuery, to, usePlace } from "../router";

const STATES: Status[] = ["PENDING", "PROGRESS", "PAUSED", "SUCCESS", "FAILURE", "REVOKED", "SKIPPED"];
const SPANS: [string, string, number][] = [
  ["1h", "last hour", 3600],
  ["24h", "last 24 hours", 86_400],
  ["7d", "last 7 days", 604_800],
  ["30d", "last 30 days", 2_592_000],
];

export function RunsView(): ReactNode {
  const { query } = usePlace();
  const workflow = query.get("workflow") ?? "";
  const status = query.get("status") ?? "";
  const cursor = query.get("cursor") ?? "";
  const span = SPANS.find(([name]) => name === query.get("time"));
  const wanted = new URLSearchParams({ limit: "50" });
  if (workflow) wanted.set("workflow", workflow);
  if (status) wanted.set("status", status);
  if (cursor) wanted.set("cursor", cursor);
  // Whole minutes: the address stays the same while it is asked for again and again.
  if (span) wanted.set("since", String(Math.floor(Date.now() / 60_000) * 60 - span[2]));
  const address = `/api/v1/runs?${wanted.toString()}`;
  const { value, problem, reload } = usePolled(() => get<{ runs: Run[]; next: string | null }>(address), address, 2000);
  const workflows = usePolled(() => get<{ workflows: WorkflowSummary[] }>("/api/v1/workflows"), "workflows");

  return (
    <>
      <div className="heading">
        <h1>Runs</h1>
        <div className="filters">
          <label>
            Workflow
            <select value={workflow} onChange={(event) => setQuery({ workflow: event.target.value, cursor: null })}>
              <option value="">all</option>
              {(workflows.value?.workflows ?? []).map((one) => (
                <option key={one.id}>{one.id}</option>
              ))}
            </select>
          </label>
          <label>
            State
            <select value={status} onChange={(event) => setQuery({ status: event.target.value, cursor: null })}>
              <option value="">all</option>
              {STATES.map((state) => (
                <option key={state}>{state}</option>
              ))}
            </select>
          </label>
          <label>
            Time
            <select value={span?.[0] ?? ""} onChange={(event) => setQuery({ time: event.target.value, cursor: null })}>
              <option value="">any</option>
              {SPANS.map(([name, title]) => (
                <option key={name} value={name}>
                  {title}
                </option>
              ))}
            </select>
          </label>
        </div>
      </div>
      <Questions />
      {problem && <ProblemNote problem={problem} onRetry={reload} />}
      {!value && !problem && <Loading what="runs" />}
      {value && value.runs.length === 0 && (
        <Empty title={workflow || status || span ? "No run fits these filters" : "Nothing has run yet"}>
          <a className="button primary" href={to("workflows")}>
            Start a workflow
          </a>
        </Empty>
      )}
      {value && value.runs.length > 0 && (
        <div className="scroll">
          <table>
            <thead>
              <tr>
                <th scope="col">State</th>
                <th scope="col">Workflow</th>
                <th scope="col" className="wide">
                  Progress
                </th>
                <th scope="col">Steps</th>
                <th scope="col">Started</th>
                <th scope="col">By</th>
                <th scope="col">Took</th>
                <th scope="col">Run</th>
              </tr>
            </thead>
            <tbody>
              {value.runs.map((run) => (
                <tr key={run.run_id}>
                  <td>
                    <Badge status={run.status} />
                  </td>
                  <td>
                    <a href={to("runs", run.run_id)}>{run.workflow}</a>
                    {run.current_step && run.status === "PROGRESS" && <span className="dim"> {run.current_step}</span>}
                  </td>
                  <td>
                    <Bar percent={run.progress} status={run.status} label={`Progress of ${run.workflow}`} />
                  </td>
                  <td className="number">
                    {run.steps_done}/{run.steps_total}
                    {run.steps_failed > 0 && <span className="bad"> {run.steps_failed} failed</span>}
                  </td>
                  <td className="number">{instant(run.started_at ?? run.created_at)}</td>
                  <td>
                    <Cause run={run} />
                  </td>
                  <td className="number">{duration(run.seconds)}</td>
                  <td>
                    <a href={to("runs", run.run_id)} className="mono">
                      {shortId(run.run_id)}
                    </a>
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {value && (cursor || value.next) && (
        <div className="pages">
          {cursor && (
            <button type="button" onClick={() => setQuery({ cursor: null })}>
              Newest
            </button>
          )}
          {value.next && (
            <button type="button" onClick={() => setQuery({ cursor: value.next })}>
              Older
            </button>
          )}
        </div>
      )}
    </>
  );
}

/** What has started a run. */
export function Cause({ run }: { run: Run }): ReactNode {
  if (run.parent_run) return <a href={`${to("runs", run.parent_run)}?step=${encodeURIComponent(run.parent_step ?? "")}`}>run {shortId(run.parent_run)}</a>;
  if (run.schedule) return <a href={`${to("workflows", run.workflow)}?tab=Schedule`}>schedule</a>;
  if (run.rerun_of) return <a href={to("runs", run.rerun_of)}>rerun of {shortId(run.rerun_of)}</a>;
  return <span className="dim">a person</span>;
}

/** Steps that wait for somebody's yes or no, in any run. */
function Questions(): ReactNode {
  const { value } = usePolled(getApprovals, "approvals", 5000);
  if (!value || value.length === 0) return null;
  return (
    <section className="note" aria-label="Waiting for approval">
      <strong>{value.length === 1 ? "A step waits for approval" : `${value.length} steps wait for approval`}</strong>
      <ul>
        {value.slice(0, 5).map((one) => (
          <li key={`${one.run_id}/${one.step}`}>
            <a href={`${to("runs", one.run_id)}?step=${encodeURIComponent(one.step)}`}>{one.prompt}</a>
            <span className="dim"> {one.workflow}, since {instant(one.asked_at)}</span>
          </li>
        ))}
      </ul>
    </section>
  );
}
