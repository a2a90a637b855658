"""Writes what the chart makes of each of the values to snapshots/, and its README's table: `make helm-snapshots`."""

from chart import CASES, CHART, HERE, rendered
from reference import README, with_table


def main():
    folder = HERE / "snapshots"
    for path in folder.glob("*.yaml"):
        path.unlink()
    for case in CASES:
        (folder / f"{case}.yaml").write_text(rendered(case), encoding="utf-8")
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote {len(CASES)} snapshots and {README.relative_to(CHART.parent.parent)}")


if __name__ == "__main__":
    main()
