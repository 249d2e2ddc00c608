/** The graph of a run or a definition; every place comes from the server, the same as in SVG and PNG. */
import {
  Background,
  Controls,
  Handle,
  MiniMap,
  Position,
  ReactFlow,
  ReactFlowProvider,
  getViewportForBounds,
  useReactFlow,
  useStore,
  type Edge,
  type EdgeProps,
  type Node,
  type NodeProps,
} from "@xyflow/react";
import { memo, useCallback, useEffect, useMemo, useRef, type ReactNode } from "react";

import type { Box, Graph, Step } from "../api";
import { duration } from "../format";
import { Sign } from "../parts";

type StepNode = Node<{ id: string; uses: string; isMap: boolean; step: Step | undefined; isCritical: boolean }, "step">;
type FrameNode = Node<{ title: string; kind: string }, "frame">;
type RouteEdge = Edge<{ points: [number, number][]; isGate: boolean }, "route">;

const CORNER = 10;

/** Path data of a line with round corners; of two points, a soft bend. */
function rounded(points: [number, number][]): string {
  const [first, ...rest] = points;
  if (!first) return "";
  if (points.length === 2 && rest[0]) {
    const bend = Math.max(24, (rest[0][0] - first[0]) / 2);
    return `M${first[0]} ${first[1]}C${first[0] + bend} ${first[1]} ${rest[0][0] - bend} ${rest[0][1]} ${rest[0][0]} ${rest[0][1]}`;
  }
  const near = (corner: [number, number], other: [number, number]): [number, number] => {
    const dx = other[0] - corner[0];
    const dy = other[1] - corner[1];
    const length = Math.hypot(dx, dy) || 1;
    const reach = Math.min(CORNER, length / 2) / length;
    return [corner[0] + dx * reach, corner[1] + dy * reach];
  };
  let path = `M${first[0]} ${first[1]}`;
  for (let index = 1; index < points.length - 1; index += 1) {
    const corner = points[index]!;
    const enter = near(corner, points[index - 1]!);
    const leave = near(corner, points[index + 1]!);
    path += `L${enter[0]} ${enter[1]}Q${corner[0]} ${corner[1]} ${leave[0]} ${leave[1]}`;
  }
  const last = points[points.length - 1]!;
  return `${path}L${last[0]} ${last[1]}`;
}

function note(step: Step | undefined, uses: string): string {
  if (!step) return uses;
  const parts: string[] = [];
  if (step.items) parts.push(`${(step.items.success + step.items.failure).toLocaleString()} of ${step.items.total.toLocaleString()}`);
  else if (step.status === "PROGRESS" && step.progress > 0) parts.push(`${step.progress}%`);
  if (step.seconds !== null) parts.push(duration(step.seconds));
  return parts.join(" · ") || uses;
}

const StepBox = memo(function StepBox({ data, selected }: NodeProps<StepNode>): ReactNode {
  const { step } = data;
  const status = step?.status ?? "PENDING";
  const classes = ["node", step ? status.toLowerCase() : "plain"];
  if (data.isMap) classes.push("map");
  if (selected) classes.push("selected");
  if (data.isCritical) classes.push("critical");
  return (
    <div className={classes.join(" ")}>
      <Ends />
      {step && <Sign status={status} />}
      <div className="node-text">
        <div className="node-title">{data.id}</div>
        <div className="node-note">{note(step, data.uses)}</div>
      </div>
      {step && status === "PROGRESS" && <div className="node-bar" style={{ width: `${step.progress}%` }} />}
    </div>
  );
});

const FrameBox = memo(function FrameBox({ data }: NodeProps<FrameNode>): ReactNode {
  return (
    <div className={`frame ${data.kind}`}>
      {data.kind === "bundle" && <Ends />}
      {data.title}
    </div>
  );
});

const Route = memo(function Route({ id, data }: EdgeProps<RouteEdge>): ReactNode {
  if (!data) return null;
  return <path id={id} className={data.isGate ? "route gate" : "route"} d={rounded(data.points)} markerEnd="url(#route-tip)" />;
});

/** Where edges meet a box, unseen. React Flow draws no edge without them, and looks for them whenever it measures. */
function Ends(): ReactNode {
  return (
    <>
      <Handle type="target" position={Position.Left} isConnectable={false} />
      <Handle type="source" position={Position.Right} isConnectable={false} />
    </>
  );
}

/** The same for the first picture, before anything is measured. Edges are drawn along the server's points. */
function handles(box: Box): Node["handles"] {
  const shared = { y: box.height / 2, width: 1, height: 1 };
  return [
    { ...shared, type: "target", position: Position.Left, x: 0 },
    { ...shared, type: "source", position: Position.Right, x: box.width },
  ];
}

const FIT = { padding: 0.08, maxZoom: 1.1 };
const MIN_ZOOM = 0.05;

/**
 * The whole graph stays in view when its place changes, as beside the panel of a step, until somebody moves it.
 *
 * React Flow's own `fitView` waits for nodes to be set, which never happens where they are properties.
 */
function useFitting(): { keep: () => void; fit: () => void } {
  const { getNodes, getNodesBounds, setViewport } = useReactFlow();
  const width = useStore((store) => store.width);
  const height = useStore((store) => store.height);
  const isKept = useRef(false);
  const fit = useCallback(() => {
    isKept.current = false;
    const bounds = getNodesBounds(getNodes());
    if (width && height && bounds.width) {
      void setViewport(getViewportForBounds(bounds, width, height, MIN_ZOOM, FIT.maxZoom, FIT.padding));
    }
  }, [width, height, getNodes, getNodesBounds, setViewport]);
  const keep = useCallback(() => {
    isKept.current = true;
  }, []);
  useEffect(() => {
    if (!isKept.current) fit();
  }, [fit]);
  return { keep, fit };
}

const nodeTypes = { step: StepBox, frame: FrameBox };
const edgeTypes = { route: Route };

interface Props {
  graph: Graph;
  steps?: Step[];
  chosen?: string | null;
  critical?: string[];
  showsGates?: boolean;
  onChoose?: (step: string | null) => void;
}

export function GraphView(props: Props): ReactNode {
  return (
    <ReactFlowProvider>
      <Flow {...props} />
    </ReactFlowProvider>
  );
}

function Flow({ graph, steps, chosen, critical, showsGates, onChoose }: Props): ReactNode {
  const nodes = useMemo<(StepNode | FrameNode)[]>(() => {
    const byId = new Map((steps ?? []).map((step) => [step.id, step]));
    const criticalSteps = new Set(critical ?? []);
    const frames: FrameNode[] = graph.frames.map((frame) => ({
      id: frame.name,
      type: "frame",
      position: { x: frame.box.x, y: frame.box.y },
      width: frame.box.width,
      height: frame.box.height,
      handles: handles(frame.box),
      data: { title: frame.title, kind: frame.kind },
      selectable: false,
      focusable: false,
      zIndex: frame.kind === "bundle" ? -1 : -2,
    }));
    const boxes: StepNode[] = graph.nodes.map((node) => ({
      id: `s${node.ordinal}`,
      type: "step",
      position: { x: node.box.x, y: node.box.y },
      width: node.box.width,
      height: node.box.height,
      handles: handles(node.box),
      selected: node.id === chosen,
      ariaLabel: `Step ${node.id}, ${byId.get(node.id)?.status ?? "not run"}`,
      data: { id: node.id, uses: node.uses, isMap: node.map, step: byId.get(node.id), isCritical: criticalSteps.has(node.id) },
    }));
    return [...frames, ...boxes];
  }, [graph, steps, chosen, critical]);
  const edges = useMemo<RouteEdge[]>(
    () =>
      graph.routes.map((route, index) => ({
        id: `e${index}`,
        type: "route",
        source: route.from,
        target: route.to,
        focusable: false,
        data: { points: route.points, isGate: Boolean(showsGates) && route.via === "gate" },
      })),
    [graph, showsGates],
  );
  const fitting = useFitting();
  const names = useMemo(() => new Map(graph.nodes.map((node) => [`s${node.ordinal}`, node.id])), [graph]);
  return (
    <div className="graph" role="region" aria-label="Graph" style={{ height: Math.min(704, Math.max(288, graph.size[1] + 144)) }}>
      <svg width="0" height="0" aria-hidden="true" className="defs">
        <defs>
          <marker id="route-tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">
            <path className="tip" d="M0 .5L7.5 4L0 7.5z" />
          </marker>
        </defs>
      </svg>
      <ReactFlow
        nodes={nodes}
        edges={edges}
        nodeTypes={nodeTypes}
        edgeTypes={edgeTypes}
        nodesDraggable={false}
        nodesConnectable={false}
        deleteKeyCode={null}
        fitView
        fitViewOptions={FIT}
        onMove={(event) => event instanceof Event && fitting.keep()}
        minZoom={MIN_ZOOM}
        maxZoom={2}
        onNodeClick={(_, node) => onChoose?.(names.get(node.id) ?? null)}
        onNodesChange={(changes) => {
          // By keyboard, too. The choice comes back as a property of the nodes: nothing is selected but by it.
          for (const change of changes) {
            const name = change.type === "select" && change.selected ? names.get(change.id) : undefined;
            if (name && name !== chosen) onChoose?.(name);
          }
        }}
        onPaneClick={() => onChoose?.(null)}
      >
        <Background gap={24} />
        <Controls showInteractive={false} onZoomIn={fitting.keep} onZoomOut={fitting.keep} onFitView={fitting.fit} />
        {graph.nodes.length > 30 && <MiniMap pannable zoomable ariaLabel="Overview of the graph" />}
      </ReactFlow>
    </div>
  );
}
