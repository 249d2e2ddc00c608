import type { ReactNode } from "react";

import type { Step } from "../api";
import { duration } from "../format";
import { Badge, Bar } from "../parts";

export function Steps({ steps, chosen, onChoose }: { steps: Step[]; chosen: string | null; onChoose: (step: string) => void }): ReactNode {
  return (
    <div className="scroll">
      <table>
        <thead>
          <tr>
            <th scope="col">State</th>
            <th scope="col">Step</th>
            <th scope="col" className="wide">
              Progress
            </th>
            <th scope="col">Items</th>
            <th scope="col">Tries</th>
            <th scope="col">Took</th>
            <th scope="col">Remark</th>
          </tr>
        </thead>
        <tbody>
          {steps.map((step) => (
            <tr key={step.id} className={step.id === chosen ? "chosen" : undefined}>
              <td>
                <Badge status={step.status} />
              </td>
              <td>
                <button type="button" className="link" onClick={() => onChoose(step.id)}>
                  {step.id}
                </button>
              </td>
              <td>
                <Bar percent={step.progress} status={step.status} label={`Progress of ${step.id}`} />
              </td>
              <td className="number">
                {step.items ? `${step.items.success + step.items.failure}/${step.items.total}` : ""}
                {step.items && step.items.failure > 0 && <span className="bad"> {step.items.failure} failed</span>}
              </td>
              <td className="number">{step.attempts || ""}</td>
              <td className="number">{duration(step.seconds)}</td>
              <td className="remark">{step.reason?.replaceAll("_", " ") ?? (step.status !== "SUCCESS" && step.error ? step.error.message : "")}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
