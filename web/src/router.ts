/** Addresses behind the `#`: a page that is one file needs nothing of the server to be found again. */
import { useSyncExternalStore } from "react";

export interface Place { path: string[]; query: URLSearchParams }

function read(): Place {
  const [path = "", query = ""] = window.location.hash.replace(/^#\/?/, "").split("?");
  return { path: path.split("/").filter(Boolean).map(decodeURIComponent), query: new URLSearchParams(query) };
}

let place = read();
const listeners = new Set<() => void>();
window.addEventListener("hashchange", () => {
  place = read();
  for (const listener of listeners) listener();
});

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export const usePlace = (): Place => useSyncExternalStore(subscribe, () => place);

export const to = (...path: string[]): string => `#/${path.map(encodeURIComponent).join("/")}`;

export function go(address: string): void {
  window.location.hash = address;
}

/** Changes the query without a new entry in the history. */
export function setQuery(values: Record<string, string | null>): void {
  const query = new URLSearchParams(place.query);
  for (const [name, value] of Object.entries(values)) {
    if (value) query.set(name, value);
    else query.delete(name);
  }
  const text = query.toString();
  const path = place.path.map(encodeURIComponent).join("/");
  window.history.replaceState(null, "", `#/${path}${text ? `?${text}` : ""}`);
  place = read();
  for (const listener of listeners) listener();
}
