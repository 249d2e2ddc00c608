/** A form made of a workflow's params. */
import { useId, useState, type FormEvent, type ReactNode } from "react";

import { post, Problem, type ParamSchema, type WorkflowDetail } from "../api";
import { Dialog, ProblemNote } from "../parts";
import { go, to } from "../router";
import { Planned } from "./Workflow";

type Kind = "string" | "integer" | "number" | "boolean" | "json";

function kindOf(schema: ParamSchema): Kind {
  const types = (Array.isArray(schema.type) ? schema.type : [schema.type]).filter((type) => type !== "null");
  const type = types[0];
  return type === "string" || type === "integer" || type === "number" || type === "boolean" ? type : "json";
}

function asText(schema: ParamSchema): string {
  if (schema.default === undefined || schema.default === null) return "";
  return kindOf(schema) === "json" ? JSON.stringify(schema.default) : String(schema.default);
}

/** What was typed as a JSON value; undefined leaves the param to its default. */
function valueOf(schema: ParamSchema, text: string): unknown {
  if (text === "") return undefined;
  switch (kindOf(schema)) {
    case "integer":
    case "number": {
      const number = Number(text);
      return Number.isNaN(number) ? text : number;
    }
    case "boolean":
      return text === "true";
    case "json":
      try {
        return JSON.parse(text);
      } catch {
        return text;
      }
    default:
      return text;
  }
}

export function Trigger({ workflow, onClose }: { workflow: WorkflowDetail; onClose: () => void }): ReactNode {
  const schemas = Object.entries(workflow.params.properties ?? {});
  const [texts, setTexts] = useState<Record<string, string>>(Object.fromEntries(schemas.map(([name, schema]) => [name, asText(schema)])));
  const [problem, setProblem] = useState<Problem | null>(null);
  const [busy, setBusy] = useState(false);
  const [key] = useState(() => crypto.randomUUID?.() ?? String(Math.random()));

  const start = async (event: FormEvent): Promise<void> => {
    event.preventDefault();
    setBusy(true);
    const params: Record<string, unknown> = {};
    for (const [name, schema] of schemas) {
      const value = valueOf(schema, texts[name] ?? "");
      if (value !== undefined) params[name] = value;
    }
    try {
      // The same key again is the same run, so that a second click after a lost answer starts nothing twice.
      const accepted = await post<{ run_id: string }>("/api/v1/runs", { workflow: workflow.id, params }, { "Idempotency-Key": `${key}-${hash(params)}` });
      go(to("runs", accepted.run_id));
    } catch (error) {
      setProblem(error instanceof Problem ? error : new Problem(0, "Error", String(error), "", []));
      setBusy(false);
    }
  };
  const wrong = new Map((problem?.errors ?? []).map((error) => [fieldOf(error.pointer), error]));
  const others = problem && (problem.errors.length === 0 || [...wrong.keys()].some((name) => !Object.hasOwn(texts, name)));
  return (
    <Dialog title={`Start ${workflow.id}`} onClose={onClose}>
      <form onSubmit={(event) => void start(event)}>
        {schemas.length === 0 && <p className="dim">It takes no params.</p>}
        {schemas.map(([name, schema]) => (
          <Field
            key={name}
            name={name}
            schema={schema}
            required={workflow.params.required?.includes(name) ?? false}
            text={texts[name] ?? ""}
            error={wrong.get(name)?.detail}
            onChange={(text) => setTexts((before) => ({ ...before, [name]: text }))}
          />
        ))}
        {others && <ProblemNote problem={problem} />}
        <details>
          <summary>What would be sent</summary>
          <Planned id={workflow.id} />
        </details>
        <div className="actions">
          <button type="button" onClick={onClose}>
            Leave it
          </button>
          <button type="submit" className="primary" disabled={busy}>
            Start
          </button>
        </div>
      </form>
    </Dialog>
  );
}

/** The param that a JSON pointer names, within a body or within the params alone. */
function fieldOf(pointer: string | null | undefined): string {
  return (pointer ?? "").split("/").pop() ?? "";
}

function hash(value: unknown): string {
  let sum = 0;
  for (const char of JSON.stringify(value)) sum = (sum * 31 + char.charCodeAt(0)) | 0;
  return (sum >>> 0).toString(36);
}

interface FieldProps {
  name: string;
  schema: ParamSchema;
  required: boolean;
  text: string;
  error: string | undefined;
  onChange: (text: string) => void;
}

function Field({ name, schema, required, text, error, onChange }: FieldProps): ReactNode {
  const id = useId();
  const kind = kindOf(schema);
  const limits = [
    schema.minimum !== undefined ? `at least ${schema.minimum}` : "",
    schema.maximum !== undefined ? `at most ${schema.maximum}` : "",
    schema.minLength !== undefined ? `at least ${schema.minLength} characters` : "",
    schema.maxLength !== undefined ? `at most ${schema.maxLength} characters` : "",
  ].filter(Boolean);
  const shared = {
    id,
    value: text,
    required,
    "aria-invalid": error ? true : undefined,
    "aria-describedby": `${id}-hint`,
    onChange: (event: { target: { value: string } }) => onChange(event.target.value),
  };
  return (
    <div className="field">
      <label htmlFor={id}>
        {name}
        {required && <span className="bad"> required</span>}
      </label>
      {schema.enum ? (
        <select {...shared}>
          {!required && <option value="">default</option>}
          {schema.enum.map((value) => (
            <option key={String(value)}>{String(value)}</option>
          ))}
        </select>
      ) : kind === "boolean" ? (
        <select {...shared}>
          <option>false</option>
          <option>true</option>
        </select>
      ) : kind === "json" ? (
        <textarea {...shared} rows={3} spellCheck={false} />
      ) : (
        <input {...shared} type={kind === "string" ? "text" : "number"} step={kind === "integer" ? 1 : "any"} />
      )}
      <p id={`${id}-hint`} className={error ? "bad" : "hint"}>
        {error ?? [kind === "json" ? "JSON" : kind, ...limits, schema.description ?? ""].filter(Boolean).join(", ")}
      </p>
    </div>
  );
}
