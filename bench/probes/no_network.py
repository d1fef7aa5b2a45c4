"""Inference makes no network connection, and works where there is no network.

Each option's own runtime loads its artifact and infers one image twice.  Once it is traced: an address outside this
machine that it connects or sends to is a connection.  Of a browser, which looks outside for purposes of its own, the
list of requests of its page decides.  Once it runs as guests do, without any interface but the loopback: its output
must be the same.

The trace is strace's where it is installed, which sees every call; else psutil looks at the open connections again
and again and may miss a short one.  Browsers get their page from a server on this machine: loopback addresses are
no network, except for port 53, where a resolver may listen that asks on.  What guests do with sockets though they speak
to nobody outside is named in matrices/probes.toml, call by call and with its cause; whatever is not named is new.
Guests run with the settings of bench/environments/locked.py, which turn off the look-ups of ultralytics; the traced one
has an empty home, so that nothing is turned off in any runtime.
"""

from __future__ import annotations

import ast
import functools
import ipaddress
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bench.guest.seal import NETWORK
from bench.probes.context import Context, Known, Parity, Subject, Tensor, difference
from bench.probes.observation import Observation, Unavailable, unavailable, verdict
from bench.probes.sandbox import GUEST as PAGE
from bench.probes.sandbox import Visitor
from bench.reasons import CellProblem, Reason
from bench.wall.confinement import CONFINED, Confinement, refusals
from bench.wall.worker import Worker

TARGETS = ("cpu", "arm-cpu", "browser-wasm", "edgetpu-proxy", "coreml-mil")
AS_INSTALLED = Confinement(network=True)
"""What a traced guest reaches."""
_LOAD_S, _INFER_S = 600.0, 300.0
_SAMPLE_S = 0.02
_DNS = 53
_LABEL = re.compile(rb"[A-Za-z0-9_-]{1,63}")
_BUFFER = re.compile(r'(?:iov_base=|^(?:\d+\s+)?sendto\(\d+, )"(?P<bytes>(?:[^"\\]|\\.)*)"')
_CALL = re.compile(r"^(?:\d+\s+)?(?P<call>socket|bind|connect|sendto|sendmsg|sendmmsg)\((?P<arguments>.*)")
_KIND = re.compile(r"(?P<family>AF_INET6?), (?P<kind>SOCK_\w+)")
_IPV4 = re.compile(r'sin_port=htons\((?P<port>\d+)\), sin_addr=inet_addr\("(?P<address>[^"]+)"\)')
_IPV6 = re.compile(r'sin6_port=htons\((?P<port>\d+)\).*?inet_pton\(AF_INET6, "(?P<address>[^"]+)"')


# Makes a worker whose command is run by the given one, and that reaches what it is given; it is not started yet.
Start = Callable[[Sequence[str], Confinement], Worker]


@dataclass(frozen=True)
class Traffic:
    """What was seen: sockets of the internet families opened (None: not counted), addresses outside, and how.

    `calls` are those that open such sockets and give them an address, each once: `socket AF_INET6 SOCK_DGRAM`,
    `connect 203.0.113.7 port 443`; of the loopback without the port, which the system may have chosen.
    """

    sockets: int | None
    outside: tuple[str, ...]
    method: str
    calls: tuple[str, ...] = ()


def observe(context: Context) -> Iterator[Observation]:
    """Two rows per option with a runtime that works without a device: `connections` and `network removed`."""
    for option in context.options(TARGETS):
        context.progress.phase(option, "without network")
        try:
            with context.scratch() as home:
                yield from _of_option(context, option, home)
        except (Unavailable, CellProblem) as problem:
            yield unavailable(option, "network removed", problem)


def _of_option(context: Context, option: str, home: Path) -> Iterator[Observation]:
    """The rows of an option, whose traced guest has the empty folder `home`.  Raises Unavailable, CellProblem."""
    subject = context.subject(option, targets=TARGETS)
    x = context.inputs(subject.cell.imgsz, subject.cell.batch)[0]
    start, spec = functools.partial(_start, context, subject, home), context.spec(subject)
    output, traffic = traced(start, spec, x)
    yield connections(context, subject, x, traffic)
    refused = refusals().get(NETWORK)
    if refused is not None:
        raise Unavailable(f"This system takes the network from no process ({refused}).")
    yield isolated(option, start, spec, x, output, context.settings.parity)


def connections(context: Context, subject: Subject, x: Tensor, traffic: Traffic) -> Observation:
    """The row about connections: of the traced process, or of the page where the runtime is in a browser."""
    if subject.cell.option.javascript is None:
        return judge(subject.option, traffic, context.settings.known)
    try:
        return judge_page(subject.option, requested(context, subject, x), traffic, context.settings.known)
    except CellProblem as problem:
        return unavailable(subject.option, "connections", problem)


def judge(option: str, traffic: Traffic, known: Sequence[Known] = ()) -> Observation:
    """`yes` where no address outside this machine was reached for; sockets that are `known` are told by their names."""
    opened = (
        "" if traffic.sockets is None else f"{traffic.sockets} internet sockets opened{told(option, traffic, known)}, "
    )
    seen = f": {', '.join(traffic.outside)}" if traffic.outside else ""
    count = len(traffic.outside)
    text = f"{opened}{count} addresses or names outside this machine while loading and inferring{seen}"
    text += f" ({traffic.method})"
    return Observation(option, "connections", verdict(not count), text, float(count), "addresses or names")


def judge_page(option: str, origins: Sequence[str], traffic: Traffic, known: Sequence[Known] = ()) -> Observation:
    """`yes` where a page asked nothing of another origin; what the browser does for itself is told beside it."""
    asked = f": {', '.join(origins)}" if origins else ""
    text = f"{len(origins)} origins other than its own server were asked by the page (the browser's list of requests)"
    text += f"{asked}. The browser around it looked outside by itself: {', '.join(traffic.outside) or 'nothing'} "
    text += f"({traffic.method}){told(option, traffic, known)}"
    return Observation(option, "connections", verdict(not origins), text, float(len(origins)), "origins")


def unnamed(option: str, traffic: Traffic, known: Sequence[Known]) -> list[str]:
    """Calls of a traced guest that nothing known of its option names."""
    named = {call for one in known if option in one.options for call in one.calls}
    return [call for call in traffic.calls if call not in named]


def told(option: str, traffic: Traffic, known: Sequence[Known]) -> str:
    """What is known of the calls that were seen, in parentheses: by name, each with its cause; empty where nothing."""
    seen = [one for one in known if option in one.options and set(one.calls) & set(traffic.calls)]
    return f" ({'; '.join(f'{one.name}: {one.why}' for one in seen)})" if seen else ""


def requested(context: Context, subject: Subject, x: Tensor) -> list[str]:
    """Origins other than its own server that the page of a browser runtime asks.  Raises CellProblem."""
    page = context.guest(PAGE, subject.cell.environment, confinement=AS_INSTALLED)
    with page as guest, context.scratch() as folder:
        seen = Visitor(context, subject, guest, x, folder).visit(subject.cell.target, "")
    if seen["error"]:
        raise CellProblem(Reason.INFERENCE_FAILED, f"the page fails: {seen['error']}")
    return list(seen["elsewhere"])


def isolated(
    option: str, start: Start, spec: Mapping[str, Any], x: Tensor, output: Tensor, limit: Parity
) -> Observation:
    """`yes` where the runtime gives the same output in a namespace without network; `no` where it fails there."""
    name = "network removed"
    try:
        with start((), CONFINED) as guest:
            again = _run(guest, spec, x)
    except CellProblem as problem:
        return Observation(option, name, verdict(False), f"Without network: {problem}")
    gap = difference([again], [output])
    text = f"Loaded and inferred with no interface but the loopback; output differs by at most {gap}"
    return Observation(option, name, verdict(gap.within(limit)), text, gap.box_px, "px")


def traced(start: Start, spec: Mapping[str, Any], x: Tensor) -> tuple[Tensor, Traffic]:
    """The output for `x`, and the traffic from the guest's start to its end.  Raises CellProblem."""
    strace = shutil.which("strace")
    if strace is None:
        with start((), AS_INSTALLED) as guest, sampled(guest.pid) as seen:
            output = _run(guest, spec, x)
        return output, Traffic(None, tuple(sorted(seen)), "psutil, connections sampled; short ones may be missed")
    with tempfile.TemporaryDirectory(prefix="bench-probe-") as folder:
        log = Path(folder) / "trace"
        with start(tracer(strace, log), AS_INSTALLED) as guest:
            output = _run(guest, spec, x)
        return output, read_trace(log)


def _start(context: Context, subject: Subject, home: Path, wrapper: Sequence[str], reach: Confinement) -> Worker:
    """A worker with the home that guests have, or, where it reaches the network, with another one."""
    variables = {"HOME": str(home)} if reach.network else {}
    return context.runtime(subject, wrapper=wrapper, variables=variables, confinement=reach)


def _run(guest: Worker, spec: Mapping[str, Any], x: Tensor) -> Tensor:
    guest.load(spec, _LOAD_S)
    return guest.infer(x, _INFER_S)


def tracer(strace: str, log: Path) -> tuple[str, ...]:
    """strace with its children, calls that concern sockets only; -s 512 keeps whole DNS queries."""
    chosen = ("-e", "trace=%network", "-e", "signal=none", "-s", "512")
    return (strace, "-f", "--seccomp-bpf", "-qq", *chosen, "-o", str(log))


def read_trace(log: Path) -> Traffic:
    """Sockets and outside addresses of a trace."""
    sockets, outside, calls = 0, set[str](), dict[str, None]()
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        match = _CALL.match(line)
        if match is None:
            continue
        kind = _KIND.match(match["arguments"]) if match["call"] == "socket" else None
        if kind is not None:
            sockets += 1
            calls[f"socket {kind['family']} {kind['kind']}"] = None
        for found in (*_IPV4.finditer(line), *_IPV6.finditer(line)):
            port = int(found["port"])
            elsewhere = is_outside(found["address"], port)
            calls[f"{match['call']} {found['address']}{f' port {port}' if elsewhere else ''}"] = None
            if elsewhere and match["call"] != "bind":
                # A resolver's address belongs to this network; what it is asked for is in the packet.
                outside.add("a name server" if port == _DNS else f"{found['address']} port {port}")
        packets = (ast.literal_eval(f'b"{found["bytes"]}"') for found in _BUFFER.finditer(line))
        outside.update(f"name looked up: {name}" for name in map(queried_name, packets) if name)
    return Traffic(sockets, tuple(sorted(outside)), "strace, every call", tuple(calls))


def queried_name(packet: bytes) -> str:
    """The name that a DNS query asks for (RFC 1035, section 4.1), or nothing for any other packet."""
    flags, questions = packet[2:4], packet[4:6]
    if len(packet) < 17 or flags[0] & 0xF8 or questions != b"\0\1":
        return ""
    labels, position = list[str](), 12
    while position < len(packet) and packet[position]:
        length = packet[position]
        label = packet[position + 1 : position + 1 + length]
        if len(label) < length or not _LABEL.fullmatch(label):
            return ""
        labels.append(label.decode("ascii"))
        position += 1 + length
    return ".".join(labels) if len(packet) - position >= 5 else ""


def is_outside(address: str, port: int) -> bool:
    """Whether an address belongs to a network: anything but the loopback, and a resolver on it."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return port == _DNS or not (mapped or parsed).is_loopback


@contextmanager
def sampled(pid: int) -> Iterator[set[str]]:
    """Collect outside addresses of a process and its children until left."""
    seen: set[str] = set()
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(_SAMPLE_S):
            seen.update(_connections(pid))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def _connections(pid: int) -> Sequence[str]:
    try:
        processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        found = [peer for process in processes for peer in process.net_connections("inet") if peer.raddr]
    except psutil.Error:
        return []  # one of them ended meanwhile
    return [f"{c.raddr.ip} port {c.raddr.port}" for c in found if is_outside(c.raddr.ip, c.raddr.port)]
