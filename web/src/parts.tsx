/** Small parts that every view uses. */
import { useEffect, useId, useRef, type ReactNode } from "react";

import type { Problem, Status } from "./api";

const SIGNS: Record<Status, string> = {
  PENDING: "M-1.5 0h3",
  PROGRESS: "M-2 -3.5l5.5 3.5l-5.5 3.5z",
  RETRY: "M3 -1.5a3.4 3.4 0 1 0 .3 2.6M3.4 -4v2.8h-2.8",
  WAITING: "M0 -3v3l2 1.6",
  PAUSED: "M-1.6 -2.8v5.6M1.6 -2.8v5.6",
  SUCCESS: "M-3.2 .2l2.3 2.4l4.3 -5",
  FAILURE: "M-2.6 -2.6l5.2 5.2M2.6 -2.6l-5.2 5.2",
  REVOKED: "M-3 0h6",
  SKIPPED: "M-3.2 -2.6l3 2.6l-3 2.6M.6 -2.6l3 2.6l-3 2.6",
};

/** The sign of a state, the same as in the pictures: states are told apart without colours, too. */
export function Sign({ status }: { status: Status }): ReactNode {
  return (
    <svg className={`sign ${status.toLowerCase()}`} viewBox="-9 -9 18 18" width="18" height="18" aria-hidden="true">
      <circle r="7.5" />
      <path d={SIGNS[status] ?? SIGNS.PENDING} />
    </svg>
  );
}

export function Badge({ status }: { status: Status }): ReactNode {
  return (
    <span className={`badge ${status.toLowerCase()}`}>
      <Sign status={status} />
      {status}
    </span>
  );
}

export function Bar({ percent, status, label }: { percent: number; status: Status; label: string }): ReactNode {
  return (
    <div
      className={`bar ${status.toLowerCase()}`}
      role="progressbar"
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={percent}
    >
      <div style={{ width: `${percent}%` }} />
    </div>
  );
}

export function ProblemNote({ problem, onRetry }: { problem: Problem; onRetry?: () => void }): ReactNode {
  return (
    <div className="note problem" role="alert">
      <strong>{problem.title}</strong>
      {problem.detail && <p>{problem.detail}</p>}
      {problem.errors.length > 0 && (
        <ul>
          {problem.errors.map((error, index) => (
            <li key={index}>
              {error.line ? `${error.line}:${error.column ?? 0} ` : error.pointer ? `${error.pointer}: ` : ""}
              {error.detail}
              {error.hint ? ` (${error.hint})` : ""}
            </li>
          ))}
        </ul>
      )}
      {problem.hint && <p className="hint">{problem.hint}</p>}
      {onRetry && (
        <button type="button" onClick={onRetry}>
          Try again
        </button>
      )}
    </div>
  );
}

export function Empty({ title, children }: { title: string; children?: ReactNode }): ReactNode {
  return (
    <div className="empty">
      <p className="empty-title">{title}</p>
      {children}
    </div>
  );
}

export function Loading({ what }: { what: string }): ReactNode {
  return (
    <p className="loading" role="status">
      Loading {what}…
    </p>
  );
}

/** A dialog of the browser: focus is kept in it, Escape closes it. */
export function Dialog({ title, onClose, children }: { title: string; onClose: () => void; children: ReactNode }): ReactNode {
  const dialog = useRef<HTMLDialogElement>(null);
  const heading = useId();
  useEffect(() => {
    dialog.current?.showModal();
  }, []);
  return (
    <dialog ref={dialog} aria-labelledby={heading} onClose={onClose}>
      <header>
        <h2 id={heading}>{title}</h2>
        <button type="button" className="quiet" aria-label="Close" onClick={() => dialog.current?.close()}>
          ✕
        </button>
      </header>
      {children}
    </dialog>
  );
}

export function Tabs({ names, chosen, onChoose }: { names: string[]; chosen: string; onChoose: (name: string) => void }): ReactNode {
  return (
    <div className="tabs" role="group" aria-label="Views">
      {names.map((name) => (
        <button key={name} type="button" aria-pressed={name === chosen} onClick={() => onChoose(name)}>
          {name}
        </button>
      ))}
    </div>
  );
}
