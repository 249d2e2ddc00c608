import { useState, type ReactNode } from "react";

import { get, workflowPath, type Version } from "../api";
import { count, instant } from "../format";
import { usePolled } from "../live";
import { Empty, Loading, ProblemNote } from "../parts";

/** What runs of a workflow have started with; the text of the one that is chosen. */
export function Versions({ id }: { id: string }): ReactNode {
  const { value, problem, reload } = usePolled(() => get<{ versions: Version[] }>(workflowPath(id, "/versions?limit=50")), `${id}/versions`);
  const [chosen, setChosen] = useState<string | null>(null);
  if (problem) return <ProblemNote problem={problem} onRetry={reload} />;
  if (!value) return <Loading what="versions" />;
  if (value.versions.length === 0) return <Empty title="No run has started with it yet" />;
  return (
    <>
      <div className="scroll">
        <table>
          <thead>
            <tr>
              <th scope="col">Version</th>
              <th scope="col">First run</th>
              <th scope="col">Steps</th>
              <th scope="col">Text</th>
            </tr>
          </thead>
          <tbody>
            {value.versions.map((version) => (
              <tr key={version.fingerprint}>
                <td>
                  <span className="mono">{version.fingerprint.slice(0, 12)}</span>
                  {version.is_current && <strong> current</strong>}
                </td>
                <td className="number">{instant(version.created_at)}</td>
                <td className="number">{count(version.steps, "step")}</td>
                <td>
                  <button
                    type="button"
                    aria-expanded={chosen === version.fingerprint}
                    aria-label={`Text of version ${version.fingerprint.slice(0, 12)}`}
                    onClick={() => setChosen(chosen === version.fingerprint ? null : version.fingerprint)}
                  >
                    {chosen === version.fingerprint ? "Hide" : "Show"}
                  </button>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {chosen && <Text id={id} fingerprint={chosen} />}
    </>
  );
}

function Text({ id, fingerprint }: { id: string; fingerprint: string }): ReactNode {
  const path = workflowPath(id, `/versions/${fingerprint}`);
  const { value, problem } = usePolled(() => get<Version>(path), path);
  if (problem) return <ProblemNote problem={problem} />;
  if (!value) return <Loading what="the text" />;
  return <pre tabIndex={0}>{value.source}</pre>;
}
