import { useState, type ReactNode } from "react";

import { get, patch, post, Problem, type Fire, type Schedule } from "../api";
import { instant, json, shortId } from "../format";
import { usePolled } from "../live";
import { Empty, Loading, ProblemNote } from "../parts";
import { go, to } from "../router";

const path = (name: string, rest = ""): string => `/api/v1/schedules/${encodeURIComponent(name)}${rest}`;

/** When a workflow runs by itself. */
export function Schedules({ workflow }: { workflow: string }): ReactNode {
  const address = `/api/v1/schedules?workflow=${encodeURIComponent(workflow)}`;
  const { value, problem, reload } = usePolled(() => get<{ schedules: Schedule[] }>(address), address, 10_000);
  if (problem) return <ProblemNote problem={problem} onRetry={reload} />;
  if (!value) return <Loading what="schedules" />;
  if (value.schedules.length === 0) {
    return (
      <Empty title="It runs when somebody starts it">
        <p>
          A schedule is a trigger in the definition, or <code>celeriac schedule add {workflow} --cron "0 3 * * *"</code>.
        </p>
      </Empty>
    );
  }
  return (
    <ul className="cards">
      {value.schedules.map((schedule) => (
        <Card key={schedule.name} schedule={schedule} onChange={reload} />
      ))}
    </ul>
  );
}

function Card({ schedule, onChange }: { schedule: Schedule; onChange: () => void }): ReactNode {
  const key = `${schedule.name}/${schedule.is_enabled}/${schedule.last_fire_at ?? 0}`;
  const next = usePolled(() => get<{ times: { fire_at: number; fire_time: string }[] }>(path(schedule.name, "/next?count=5")), `next/${key}`, 60_000);
  const fires = usePolled(() => get<{ fires: Fire[] }>(path(schedule.name, "/fires?limit=5")), `fires/${key}`, 10_000);
  const [problem, setProblem] = useState<Problem | null>(null);
  const act = async (doing: () => Promise<void>): Promise<void> => {
    setProblem(null);
    try {
      await doing();
    } catch (error) {
      setProblem(error instanceof Problem ? error : new Problem(0, "Error", String(error), "", []));
    }
  };
  const toggle = async (): Promise<void> => {
    await patch(path(schedule.name), { is_enabled: !schedule.is_enabled });
    onChange();
  };
  const run = async (): Promise<void> => {
    const answer = await post<{ run_id: string }>(path(schedule.name, "/run"));
    go(to("runs", answer.run_id));
  };
  return (
    <li className="card schedule">
      <h2>
        <span className="mono">{schedule.cron}</span> <span className="dim">{schedule.timezone}</span>
      </h2>
      <p className="dim">
        {schedule.name}, {schedule.origin === "definition" ? "declared by the definition" : "made by a person"}; missed times: {schedule.catchup};
        while its last run goes on: {schedule.overlap.replaceAll("_", " ")}
      </p>
      {Object.keys(schedule.params).length > 0 && <pre tabIndex={0}>{json(schedule.params)}</pre>}
      {schedule.problem && <p className="bad">{schedule.problem}</p>}
      <h3>{schedule.is_enabled ? "Next times" : "It rests; it would run"}</h3>
      <ul>
        {(next.value?.times ?? []).map((time) => (
          <li key={time.fire_at} className="number">
            {instant(time.fire_at)} <span className="dim">{time.fire_time}</span>
          </li>
        ))}
      </ul>
      {(fires.value?.fires.length ?? 0) > 0 && (
        <>
          <h3>Past times</h3>
          <ul>
            {(fires.value?.fires ?? []).map((fire) => (
              <li key={fire.fire_at} className="number">
                {instant(fire.fire_at)} {fire.status.toLowerCase()} {fire.run_id && <a href={to("runs", fire.run_id)}>{shortId(fire.run_id)}</a>}
                {fire.detail && <span className="dim"> {fire.detail}</span>}
              </li>
            ))}
          </ul>
        </>
      )}
      {problem && <ProblemNote problem={problem} />}
      <div className="actions">
        <button type="button" onClick={() => void act(toggle)}>
          {schedule.is_enabled ? "Let it rest" : "Enable"}
        </button>
        <button type="button" className="primary" onClick={() => void act(run)}>
          Run now
        </button>
      </div>
    </li>
  );
}
