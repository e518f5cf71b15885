"""The JSON of a run, and its tables: every number in docs/performance.md comes out of here."""

import json
import re

from . import rows as the_rows
from .arithmetic import output_hash, ratio, spread

MARKS = {False: ("<!-- measured: begin -->", "<!-- measured: end -->"),
         True: ("<!-- measured without AMX: begin -->", "<!-- measured without AMX: end -->")}


def value_of(value, figures):
    """None if a figure is missing."""
    if value is None or any(name not in figures for name in value.needs):
        return None
    return value.of(figures)


def json_row(row, round_, ours, peer, second, about):
    """One row of one round. `ours`, `peer`, `second`: figures; about: what else is said of it."""
    mine, theirs = value_of(row.ours, ours), value_of(row.peer, peer)
    if mine is None:
        return None
    other = value_of(row.peer, second)
    settings = about["settings"]
    used = {settings[the_rows.side_of(name)] for name in (row.peer.needs if row.peer else ())
            if the_rows.side_of(name) in settings}
    texts = [text for name in row.ours.needs for text in about["texts"].get(name, ())]
    return {"name": row.name, "round": round_, "unit": row.unit, "ours": mine, "peer": theirs,
            "peer_setting": "; ".join(sorted(used)) or None,
            "ratio": ratio(mine, theirs, row.more_is_better),
            "peer_q4_0": other, "ratio_q4_0": ratio(mine, other, row.more_is_better),
            "isa": about["isa"], "output_hash": output_hash(texts) if texts else None}


def _number(value, digits):
    return "" if value is None else f"{value:,.{digits}f}"


def _three(values, digits):
    found = [value for value in values if value is not None]
    if not found:
        return "–"
    three = spread(found)
    if len(found) == 1:
        return f"**{_number(three.median, digits)}**"
    low, middle, high = (_number(x, digits) for x in (three.low, three.median, three.high))
    return f"{low} / **{middle}** / {high}"


def _bar_cells(row, samples):
    """("≥ 4× (aim 6×)", "aim"): the bars of a row and what its medians reached."""
    texts, verdicts = [], []
    for bar in row.bars:
        values = [one[bar.on] for one in samples if one[bar.on] is not None]
        upwards = bar.on == "ratio" or row.more_is_better
        unit = "×" if bar.on == "ratio" else row.unit if row.unit in "×%" else f" {row.unit}"
        aim = "" if bar.aim is None else f" (aim {bar.aim:g}{unit})"
        texts.append(f"{'≥' if upwards else '≤'} {bar.must:g}{unit}{aim}")
        verdicts.append(bar.verdict(spread(values).median, row.more_is_better) if values else "–")
    return "; ".join(texts) or "–", "; ".join(verdicts) or "–"


def _grid(header, lines):
    """A Markdown table that is readable as it is."""
    table = [header, *lines]
    widths = [max(len(line[i]) for line in table) for i in range(len(header))]

    def text(line):
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |"
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([text(header), rule, *map(text, lines)])


def samples_by_row(run):
    """[(Row, its JSON rows)] in the order of the rows."""
    found = ((row, [one for one in run["rows"] if one["name"] == row.name])
             for row in the_rows.ROWS)
    return [(row, samples) for row, samples in found if samples]


def main_table(run):
    lines = []
    for row, samples in samples_by_row(run):
        bar, verdict = _bar_cells(row, samples)
        lines.append([row.what, row.unit, _three((one["ours"] for one in samples), row.digits),
                      _three((one["peer"] for one in samples), row.digits),
                      _three((one["ratio"] for one in samples), 2), bar, verdict])
    return _grid(["what", "unit", "ours", "llama.cpp", "ratio", "bar", "reached"], lines)


def second_table(run):
    """Against the requantised file, where there is a figure."""
    lines = [[row.what, row.unit, _three((one["peer_q4_0"] for one in samples), row.digits),
              _three((one["ratio_q4_0"] for one in samples), 2)]
             for row, samples in samples_by_row(run)
             if any(one["peer_q4_0"] is not None for one in samples)]
    return _grid(["what", "unit", "llama.cpp, Q4_0", "ratio"], lines) if lines else ""


def probe_table(run):
    lines = [[setting, *(_number(speeds[name], 1) for name in ("decode", "aggregate", "prefill",
                                                               "first_token"))]
             for setting, speeds in run["peer"]["probe"].items()]
    header = [f"setting, at {run['peer']['probed_at']:,} tokens", "decode", "15 sequences",
              "prefill", "64 tokens of prompt"]
    return _grid(header, lines) if lines else ""


def flags_text(run):
    lines = [f"{name}: {command}" for name, command in sorted(run["peer"]["commands"].items())]
    return "```\n" + "\n".join(lines) + "\n```"


def _facts(run):
    kernels = run["isa"] or "not started"
    sets = " ".join(run["peer"]["instruction_sets"]) or "not asked"
    alone = ("- Both sides without the processor's matrix extensions (AMX): the machine that the "
             "bars were set for.")
    return "\n".join([
        *([alone] if run.get("without_amx") else []),
        f"- {run['date']}, {run['machine']}; two threads read {run['read_gb_per_s']:.1f} GB/s out "
        "of 400 MB of a memfd.",
        f"- {run['rounds']} rounds of A/B/A/B, {run['seconds'] / 60:.0f} minutes, "
        f"`{run['model']}`, pools in k4v4.",
        f"- Our kernels: {kernels}. llama.cpp ({run['peer']['version']}): {sets}.",
        *(f"- {note}" for note in run["notes"])])


def markdown(run):
    """All tables of a run."""
    parts = [_facts(run), "Figures are min / **median** / max of the rounds.", main_table(run),
             "Bars that this run misses: " + (", ".join(f"`{name}`" for name in missed(run))
                                              or "none") + "."]
    if second := second_table(run):
        parts += ["Against llama.cpp's own requantised Q4_0 of the same file (other weights: "
                  "faster, and further from fp32):", second]
    if probe := probe_table(run):
        parts += ["What llama.cpp reached with each setting, in tokens/s; the best of each column "
                  "is what it was timed with:", probe]
    parts += ["Its command lines:", flags_text(run)]
    return "\n\n".join(parts)


def put_into(document, run):
    """The document with the tables of this run between its two marks."""
    begin, end = MARKS[run.get("without_amx", False)]
    if begin not in document or end not in document:
        raise ValueError(f"the document has no lines {begin} and {end} to put the tables between")
    pattern = re.escape(begin) + ".*" + re.escape(end)
    filled = f"{begin}\n\n{markdown(run)}\n\n{end}"
    return re.sub(pattern, lambda _: filled, document, flags=re.S)


def missed(run):
    """Names of the rows whose bars are not all met."""
    for row, samples in samples_by_row(run):
        if "missed" in _bar_cells(row, samples)[1]:
            yield row.name


def write(run, path):
    with open(path, "w", encoding="utf-8") as out:
        json.dump(run, out, indent=1, ensure_ascii=False)
        out.write("\n")
