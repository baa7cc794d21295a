"""The wait graph in graphviz' language: tasks and locks, cycles in red, victims in grey."""

from faultkit.model import Lock, Report, Task, Wait
from faultkit.render.escape import clean

MOST_VICTIMS = 40


def render_dot(report: Report) -> str:
    """A digraph of the findings: an edge from a task to what it waits for, and from there to
    who holds it; dashed where it was inferred."""
    graph = _Graph()
    for finding in report.findings:
        color = "red" if finding.type in ("cycle", "self-deadlock") else "orange"
        for wait in finding.members:
            graph.wait(wait, color)
        if finding.root_waits_for is not None:
            graph.wait(finding.root_waits_for, color)
        behind = finding.root or (finding.members[0].task if finding.members else None)
        for victim in finding.victims[:MOST_VICTIMS]:
            if behind is not None:
                graph.edge(graph.task(victim, "grey"), graph.task(behind, color), "grey", "dotted")
        more = len(finding.victims) - MOST_VICTIMS
        if more > 0 and behind is not None:
            node = graph.node(f"more{id(finding)}", f"{more} more", "box", "grey")
            graph.edge(node, graph.task(behind, color), "grey", "dotted")
    return graph.text(report.summary)


class _Graph:
    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._lines: list[str] = []

    def node(self, key: str, label: str, shape: str, color: str) -> str:
        name = self._names.get(key)
        if name is None:
            name = self._names[key] = f"n{len(self._names)}"
            self._lines.append(f"{name} [label={_quoted(label)}, shape={shape}, color={color}];")
        return name

    def task(self, task: Task, color: str) -> str:
        label = f"{task.tid}" + (f" {task.name}" if task.name else "")
        return self.node(f"task {task.pid} {task.tid} {task.address}", label, "box", color)

    def lock(self, lock: Lock, color: str) -> str:
        label = lock.kind + "\n" + (lock.name or (f"{lock.address:#x}" if lock.address else ""))
        return self.node(f"lock {lock.identity}", label, "ellipse", color)

    def edge(self, start: str, end: str, color: str, style: str) -> None:
        line = f"{start} -> {end} [color={color}, style={style}];"
        if line not in self._lines:
            self._lines.append(line)

    def wait(self, wait: Wait, color: str) -> None:
        lock = self.lock(wait.lock, color)
        self.edge(self.task(wait.task, color), lock, color, "solid")
        style = "solid" if wait.confidence == "proven" else "dashed"
        for holder in wait.holders[:MOST_VICTIMS]:
            self.edge(lock, self.task(holder, color), color, style)

    def text(self, title: str) -> str:
        body = "\n".join(f"  {line}" for line in self._lines)
        return f"digraph deadlock {{\n  label={_quoted(title)};\n{body}\n}}\n"


def _quoted(text: str) -> str:
    lines = (clean(part) for part in text.split("\n"))
    escaped = (  # graphviz also takes entities: &#27; would be an escape byte in the drawing
        line.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"') for line in lines
    )
    return '"' + "\\n".join(escaped) + '"'
