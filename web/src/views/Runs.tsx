import type { ReactNode } from "react";

import { get, type Run, type Status, type WorkflowSummary } from "../api";
import { duration, instant, shortId } from "../format";
import { usePolled } from "../live";
import { Badge, Bar, Empty, Loading, ProblemNote } from "../parts";
import { setQuery, to, usePlace } from "../router";

const STATES: Status[] = ["PENDING", "PROGRESS", "PAUSED", "SUCCESS", "FAILURE", "REVOKED"];

export function RunsView(): ReactNode {
  const { query } = usePlace();
  const workflow = query.get("workflow") ?? "";
  const status = query.get("status") ?? "";
  const cursor = query.get("cursor") ?? "";
  const wanted = new URLSearchParams({ limit: "50" });
  if (workflow) wanted.set("workflow", workflow);
  if (status) wanted.set("status", status);
  if (cursor) wanted.set("cursor", cursor);
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
        </div>
      </div>
      {problem && <ProblemNote problem={problem} onRetry={reload} />}
      {!value && !problem && <Loading what="runs" />}
      {value && value.runs.length === 0 && (
        <Empty title={workflow || status ? "No run fits these filters" : "Nothing has run yet"}>
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
