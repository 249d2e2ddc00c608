import { useState, type FormEvent, type ReactNode } from "react";

import { get, type Hit } from "../api";
import { shortId } from "../format";
import { usePolled } from "../live";
import { Empty, Loading, ProblemNote } from "../parts";
import { setQuery, to, usePlace } from "../router";

interface Collection {
  name: string;
  papers: number;
}

/** What narrows a search: the name in the address and in the API, and how it is asked for. */
const FILTERS = [
  { name: "year_from", label: "From year", type: "number", width: "7rem" },
  { name: "year_to", label: "To year", type: "number", width: "7rem" },
  { name: "source", label: "Source", type: "text", width: "10rem" },
  { name: "section", label: "Section", type: "text", width: "12rem" },
] as const;

export function SearchView(): ReactNode {
  const { query } = usePlace();
  const asked = query.get("q") ?? "";
  const collection = query.get("collection") ?? "";
  const [text, setText] = useState(asked);
  const [filters, setFilters] = useState(() => Object.fromEntries(FILTERS.map(({ name }) => [name, query.get(name) ?? ""])));
  const params = new URLSearchParams({ q: asked, limit: "20" });
  for (const name of ["collection", ...FILTERS.map((filter) => filter.name)]) {
    const value = query.get(name);
    if (value) params.set(name, value);
  }
  const address = `/api/v1/search?${params}`;
  const { value, problem } = usePolled(() => (asked ? get<{ hits: Hit[] }>(address) : Promise.resolve({ hits: [] })), address);
  const { value: stored } = usePolled(() => get<{ collections: Collection[] }>("/api/v1/collections"), "collections");
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    const given = FILTERS.map(({ name }) => [name, filters[name]?.trim() || null]);
    setQuery({ q: text.trim() || null, ...Object.fromEntries(given) });
  };
  return (
    <>
      <div className="heading">
        <h1>Search</h1>
      </div>
      <form className="search" role="search" onSubmit={submit}>
        <label htmlFor="query">What are you looking for?</label>
        <div className="search-line">
          <input id="query" type="search" value={text} onChange={(event) => setText(event.target.value)} autoFocus />
          <button type="submit" className="primary">
            Search
          </button>
        </div>
        <div className="narrowing">
          {(stored?.collections.length ?? 0) > 1 && (
            <label>
              Collection
              <select value={collection || "papers"} onChange={(event) => setQuery({ collection: event.target.value })}>
                {stored?.collections.map(({ name, papers }) => (
                  <option key={name} value={name}>{`${name} (${papers.toLocaleString("en")})`}</option>
                ))}
              </select>
            </label>
          )}
          {FILTERS.map(({ name, label, type, width }) => (
            <label key={name}>
              {label}
              <input
                type={type}
                min={type === "number" ? 0 : undefined}
                max={type === "number" ? 9999 : undefined}
                style={{ width }}
                value={filters[name]}
                onChange={(event) => setFilters({ ...filters, [name]: event.target.value })}
              />
            </label>
          ))}
        </div>
      </form>
      {problem?.status === 404 ? (
        <Empty title="No papers are stored yet">
          <a className="button primary" href={to("workflows")}>
            Run a literature review
          </a>
        </Empty>
      ) : (
        problem && <ProblemNote problem={problem} />
      )}
      {asked && !value && !problem && <Loading what="papers" />}
      {asked && value?.hits.length === 0 && <Empty title="Nothing fits" />}
      {asked && (value?.hits.length ?? 0) > 0 && (
        <p className="cite dim">
          Cite these papers:{" "}
          <a href={`${address}&format=bibtex`} download="papers.bib">
            BibTeX
          </a>
          {" · "}
          <a href={`${address}&format=csl-json`} download="papers.json">
            CSL-JSON
          </a>
        </p>
      )}
      <ol className="hits">
        {(value?.hits ?? []).map((hit) => (
          <li key={hit.id}>
            <h2>{safeLink(hit.source) ? <a href={hit.source} rel="noreferrer noopener" target="_blank">{hit.title}</a> : hit.title}</h2>
            <p className="dim">
              {hit.section}
              {hit.page !== null && `, page ${hit.page}`} · <span className="mono">{hit.paper_id}</span>
              {hit.run_id && (
                <>
                  {" · "}
                  <a href={to("runs", hit.run_id)}>stored by run {shortId(hit.run_id)}</a>
                </>
              )}
            </p>
            <p>{marked(hit.snippet, hit.highlights)}</p>
          </li>
        ))}
      </ol>
    </>
  );
}

/** Only links to the web: what a paper calls its source may be anything. */
function safeLink(source: string): boolean {
  return /^https?:\/\//i.test(source);
}

/** The snippet with the words of the query marked; places count code points, as Python does. */
function marked(snippet: string, highlights: [number, number][]) {
  const letters = [...snippet];
  const parts = [];
  let end = 0;
  for (const [start, stop] of highlights) {
    parts.push(letters.slice(end, start).join(""), <mark key={start}>{letters.slice(start, stop).join("")}</mark>);
    end = stop;
  }
  parts.push(letters.slice(end).join(""));
  return parts;
}
