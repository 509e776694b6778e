"""The explorer in a browser: milliseconds a decode, frames a second while dragging.

Run: uv run python benchmarks/explorer.py [--rounds 5]
Writes results/explorer.json.

The decoder has the sizes of lesson 00 (784-400-2) and random weights, since its speed
does not depend on what was learnt; behind the pad lie 1,000 codes and 200 pictures,
of which the nearest is shown. A real mouse drags the point along a circle, as fast as
the browser takes its moves. A frame counts when a new picture was drawn in it. The
browser draws 60 frames a second at most; the milliseconds of work in each say how much
room is left. The last rows slow the processor down, to stand for phones; that slows the
mouse down too, so that frames cannot be counted there.
"""

import base64
import itertools
import math
import statistics
import time
from typing import Any

import torch
from browser import open_page
from playwright.sync_api import CDPSession, Page
from results import read_options, write

from vae_teach import data, explorer, nets

SECONDS = 4.0  # that a drag lasts
DECODES = 50  # a timing: a browser's clock is too coarse for one
SLOWDOWNS = (1, 4, 6)
FRAME = 1000 / 60

MOUNT = """async ({ source, style, plain, bytes }) => {
  document.head.append(Object.assign(document.createElement("style"),
    { textContent: style }));
  const parts = await import(`data:text/javascript;base64,${source}`);
  const state = { ...plain };
  for (const [name, text] of Object.entries(bytes))
    state[name] = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  const work = [], drawn = [], ask = requestAnimationFrame;
  window.requestAnimationFrame = act => ask(now => {
    const begin = performance.now();
    act(now);
    work.push(performance.now() - begin);
  });
  parts.mount(document.body, state);
  new MutationObserver(() => drawn.push(performance.now())).observe(
    document.querySelector(".vae-explorer"), { attributeFilter: ["data-z"] });
  Object.assign(window, { parts, state, work, drawn });
}"""
DECODE = """decodes => {
  const weights = parts.unpackFloat16(state.weights);
  const begin = performance.now();
  for (let k = 0; k < decodes; k++)
    parts.decode(weights, state.spec.layers, [k / decodes, -k / decodes]);
  return (performance.now() - begin) / decodes;
}"""


def state() -> dict[str, Any]:
    """Return what a page needs: the widget's traits, its JavaScript and its style."""
    torch.manual_seed(0)
    count = explorer.MAP_IMAGES
    images = data.Images(torch.rand(count, 784), torch.arange(count) % 10)
    widget = explorer.LatentExplorer(nets.VAE(), images)
    traits = {name: getattr(widget, name) for name in widget.keys if name[0] != "_"}
    return {
        "source": coded(widget._esm.encode()),
        "style": widget._css,
        "plain": {k: v for k, v in traits.items() if isinstance(v, dict | list)},
        "bytes": {k: coded(v) for k, v in traits.items() if isinstance(v, bytes)},
    }


def coded(content: bytes) -> str:
    """Return bytes as base64."""
    return base64.b64encode(content).decode()


def drag(page: Page) -> dict[str, float]:
    """Drag the point around for some seconds; return what the frames were like."""
    box = page.locator(".vae-explorer-pad").bounding_box()
    assert box, "the pad is on the page"
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.evaluate("() => { work.length = drawn.length = 0 }")
    begin = time.perf_counter()
    while (angle := time.perf_counter() - begin) < SECONDS:
        radius = 0.4 * box["width"]
        page.mouse.move(x + radius * math.cos(angle), y + radius * math.sin(angle))
    page.mouse.up()
    drawn, work = page.evaluate("[drawn, work]")
    gaps = [later - now for now, later in itertools.pairwise(drawn)]
    return {
        "frames_per_second": 1000 * len(gaps) / sum(gaps),
        "late_frames": sum(gap > 1.5 * FRAME for gap in gaps) / len(gaps),
        "work_ms": statistics.median(work),
        "percentile_95_work_ms": statistics.quantiles(work, n=20)[-1],
    }


def measure(page: Page, throttle: CDPSession, slowdown: int) -> dict[str, float]:
    """Return one round of one row: a decode, and a drag."""
    throttle.send("Emulation.setCPUThrottlingRate", {"rate": slowdown})
    page.evaluate(DECODE, DECODES)  # the browser compiles what runs often
    decode = statistics.median(page.evaluate(DECODE, DECODES) for _ in range(11))
    return {"decode_ms": decode, **drag(page)}


def row(slowdown: int, found: list[dict[str, float]]) -> dict[str, float]:
    """Return the medians over rounds, and the frames of the slowest round."""
    names = [name for name in found[0] if slowdown == 1 or name.endswith("ms")]
    medians = {name: statistics.median(f[name] for f in found) for name in names}
    if slowdown == 1:
        medians["fewest_frames_per_second"] = min(f["frames_per_second"] for f in found)
    rounded = {name: round(value, 3) for name, value in medians.items()}
    return {"slowdown": slowdown, **rounded, "rounds": len(found)}


def main() -> None:
    """Measure all rows in turns, and write the results."""
    options = read_options(__doc__, rounds=5)
    with open_page() as (page, version):
        page.evaluate(MOUNT, state())
        page.locator(".ve-nearest").check()
        throttle = page.context.new_cdp_session(page)
        rounds: dict[int, list[dict[str, float]]] = {s: [] for s in SLOWDOWNS}
        for number in range(options.rounds + 1):
            for slowdown in SLOWDOWNS:
                found = measure(page, throttle, slowdown)
                if number:  # the first round fills caches
                    rounds[slowdown].append(found)
                    print(slowdown, {k: round(v, 3) for k, v in found.items()})
    rows = [row(slowdown, found) for slowdown, found in rounds.items()]
    settings = {"browser": f"Chromium {version}", "seconds_of_dragging": SECONDS}
    write("explorer", {**settings, "rows": rows}, options.out)


if __name__ == "__main__":
    main()
