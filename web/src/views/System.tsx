import type { ReactNode } from "react";

import { getHealth, type Check, type Health } from "../api";
import { duration } from "../format";
import { usePolled } from "../live";
import { Loading, ProblemNote, Sign } from "../parts";
import { to } from "../router";

const PARTS: [keyof Health, string][] = [
  ["database", "Database"],
  ["broker", "Broker"],
  ["workers", "Workers"],
  ["reconciler", "Reconciler"],
  ["queues", "Queues"],
];

export function SystemView(): ReactNode {
  const { value, problem, reload } = usePolled(getHealth, "health", 4000);
  return (
    <>
      <div className="heading">
        <h1>System</h1>
      </div>
      {problem && <ProblemNote problem={problem} onRetry={reload} />}
      {!value && !problem && <Loading what="the health of the system" />}
      {value && (
        <>
          <p className="verdict" role="status">
            {value.status === "healthy" ? "A run that is started now would be carried out." : "Something is missing: see below."}
          </p>
          <ul className="cards">
            {PARTS.filter(([name]) => value[name] !== undefined).map(([name, title]) => {
              const check = value[name] as Check;
              return (
                <li key={name} className="card">
                  <h2>
                    <Sign status={check.ok ? "SUCCESS" : "FAILURE"} /> {title}
                  </h2>
                  <p>{check.detail}</p>
                </li>
              );
            })}
            <li className="card">
              <h2>Oldest ready step</h2>
              {value.oldest_ready ? (
                <p>
                  <a href={`${to("runs", value.oldest_ready.run_id)}?step=${encodeURIComponent(value.oldest_ready.step_id)}`}>
                    {value.oldest_ready.step_id}
                  </a>{" "}
                  has waited {duration(value.oldest_ready.waiting_seconds)} in the queue {value.oldest_ready.queue}.
                </p>
              ) : (
                <p>Nothing waits for a worker.</p>
              )}
            </li>
          </ul>
          <p className="dim">
            Flower, when it runs, is on <a href="http://localhost:5555">port 5555</a>. Figures for Prometheus are at{" "}
            <a href="/metrics">/metrics</a>.
          </p>
        </>
      )}
    </>
  );
}
