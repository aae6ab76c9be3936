"""Curves as Parquet files: the columns of curves.csv, each with its type."""

import csv
import io

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ffengine.spec import CheckSpec
from ffengine.version import NUMERICS_VERSION, VERSION
from service.results.measured_rows import MeasuredRun, measured_rows
from service.results.parquet_export import ROWS_AT_ONCE, column_types, parquet_pieces
from service.store import Store
from tests.factories import HALF, LEASE
from tests.over_http import NOBODY, refused, submit, succeed
from tests.service.callers import Caller
from tests.service.samples import check_result, train_result

MEDIA_TYPE = "application/vnd.apache.parquet"


def table(client: httpx.Client, address: str) -> pa.Table:
    response = client.get(address)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == MEDIA_TYPE
    assert response.headers["content-disposition"].endswith('.parquet"')
    assert "content-encoding" not in response.headers
    return pq.read_table(io.BytesIO(response.content))


def same_cells(client: httpx.Client, job: str, query: str = "") -> pa.Table:
    """The table as Parquet, after its columns and cells were compared with those of the CSV."""
    found = table(client, f"/v1/jobs/{job}/curves.parquet{query}")
    text = client.get(f"/v1/jobs/{job}/curves.csv{query}").text
    expected = list(csv.DictReader(io.StringIO(text)))
    assert found.column_names == next(csv.reader(io.StringIO(text)))
    rows = found.to_pylist()
    assert len(rows) == len(expected)
    for row, line in zip(rows, expected, strict=True):
        for name, value in row.items():
            written = line[name]
            if value is None:
                assert written == ""
            elif isinstance(value, str):
                assert value == written
            else:
                assert value == type(value)(written), name
    return found


def test_a_running_job_gives_its_rows_with_types_and_metadata(
    client: httpx.Client, store: Store
) -> None:
    job = submit(client)
    assert table(client, job.links["curves_parquet"]).num_rows == 0
    claim = store.queue.claim(job.id, "w", LEASE)
    assert claim is not None
    rows = train_result().curves
    store.queue.record(job.id, claim.attempt, lease_seconds=LEASE, progress=HALF, rows=rows)
    found = same_cells(client, job.id)
    kinds = {name: str(found.schema.field(name).type) for name in found.column_names}
    assert kinds["seed"] == kinds["epoch"] == kinds["samples"] == "int64"
    assert kinds["sparsity"] == kinds["theorem2_ratio"] == kinds["gini"] == "double"
    assert kinds["split"] == kinds["act"] == kinds["theorem2_direction"] == "string"
    about = {key.decode(): value.decode() for key, value in found.schema.metadata.items()}
    assert about["fflab.job"] == job.id
    assert about["fflab.fflab_version"] == VERSION
    assert about["fflab.numerics_version"] == NUMERICS_VERSION
    assert len(about["fflab.spec_digest"]) == 64
    assert about["fflab.state"] == "running"
    same_cells(client, job.id, "?mean=true")


def test_a_result_names_its_data_and_can_be_had_in_parts(
    client: httpx.Client, store: Store
) -> None:
    job = submit(client)
    succeed(store, job.id)
    address = f"/v1/jobs/{job.id}/curves.parquet"
    whole = client.get(address)
    about = pq.read_schema(io.BytesIO(whole.content)).metadata
    provenance = client.get(f"/v1/jobs/{job.id}").json()["provenance"]
    assert about[b"fflab.spec_digest"].decode() == provenance["spec_digest"]
    assert about[b"fflab.dataset_digest"].decode() == provenance["dataset"]["digest"]
    assert about[b"fflab.numerics_version"].decode() == provenance["engine_version"]
    part = client.get(address, headers={"Range": "bytes=4-99"})
    assert (part.status_code, part.content) == (206, whole.content[4:100])
    etag = whole.headers["etag"]
    assert client.get(address, headers={"If-None-Match": etag}).status_code == 304
    assert client.head(address).headers["content-type"] == MEDIA_TYPE


@pytest.mark.slow
def test_a_study_has_every_run_and_the_varied_fields_have_types(
    client: httpx.Client, store: Store
) -> None:
    grid = {
        "network.widths": [[8], [16]],
        "optimizer.lr": [1, 0.5],
        "negatives.strategy": ["wrong_label"],
    }
    study = submit(client, {"kind": "study", "base": {"kind": "train"}, "grid": grid}).id
    for run, _ in store.jobs.children(study):
        claim = store.queue.claim(run.id, "w", LEASE)
        assert claim is not None
        rows = train_result().curves
        store.queue.record(run.id, claim.attempt, lease_seconds=LEASE, progress=HALF, rows=rows)
    found = same_cells(client, study)
    assert str(found.schema.field("network.widths").type) == "int64"
    assert str(found.schema.field("optimizer.lr").type) == "double"
    assert found.num_rows == 4 * len(train_result().curves)
    means = same_cells(client, study, "?mean=true")
    assert str(means.schema.field("seeds").type) == "int64"


def test_a_check_has_its_cells(client: httpx.Client, store: Store) -> None:
    job = submit(client, CheckSpec().model_dump(mode="json"))
    claim = store.queue.claim(job.id, "w", LEASE)
    assert claim is not None
    store.queue.record(
        job.id, claim.attempt, lease_seconds=LEASE, progress=HALF, rows=check_result().cells
    )
    assert same_cells(client, job.id).num_rows == len(check_result().cells)
    same_cells(client, job.id, "?mean=true")
    refused(client.get(f"/v1/jobs/{NOBODY}/curves.parquet"), 404, "no-such-job")


@pytest.mark.slow
def test_seeds_beyond_float64_are_exact_and_large_tables_have_several_groups() -> None:
    row = train_result().curves[0].model_dump(mode="json") | {"seed": 2**63 - 1}
    runs = [MeasuredRun("job", "train", {"mixed": "8 · 16"}), MeasuredRun("other", "train", {})]
    many = measured_rows(runs[:1], lambda _job: (row for _ in range(ROWS_AT_ONCE + 1)), means=False)
    pieces = list(parquet_pieces(many, runs, {}))
    found = pq.ParquetFile(io.BytesIO(b"".join(pieces)))
    assert found.metadata.num_row_groups == 2
    assert found.read(["seed"])["seed"][ROWS_AT_ONCE].as_py() == 2**63 - 1


@pytest.mark.parametrize(
    ("values", "kind"),
    [((1, 2), int), ((1, 0.5), float), ((True,), bool), ((True, 1), str), (("a", None), str)],
)
def test_a_varied_column_has_the_type_of_its_values(values: tuple[object, ...], kind: type) -> None:
    runs = [MeasuredRun("job", "train", {"field": value}) for value in values]
    table = measured_rows(runs, lambda _job: [train_result().curves[0].model_dump()], means=False)
    assert column_types(table.columns, runs)["field"] is kind
    found = pq.read_table(io.BytesIO(b"".join(parquet_pieces(table, runs, {}))))
    assert [row["field"] for row in found.to_pylist()] == [
        value if value is None else kind(value) for value in values
    ]


def test_both_clients_download_it(call: Caller, client: httpx.Client, store: Store) -> None:
    job = submit(client)
    succeed(store, job.id)
    handle = call(call.client(str(client.base_url)).job(job.id))
    for mean in (False, True):
        content = call(handle.curves_parquet(mean=mean))
        assert pq.read_table(io.BytesIO(content)).num_rows > 0
