"""Dataflow without the service: a small stand-in for Google's two APIs, reached over HTTP by Beam's own clients."""

from __future__ import annotations

import base64
import bz2
import gc
import json
import re
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest

from pipeline.building.graph import BuildShards
from pipeline.building.runner import beam_options
from pipeline.building.settings import BuildSettings
from pipeline.building.versions import versions
from pipeline.cli import main
from pipeline.demo import make_sample
from pipeline.records import DetectorSettings
from regions.attributes import load_packaged_table

httplib2 = pytest.importorskip("httplib2")
apiclient = pytest.importorskip("apache_beam.runners.dataflow.internal.apiclient", reason="needs the extra gcp")

from apache_beam.internal.gcp import auth  # noqa: E402
from apache_beam.io.filesystems import FileSystems  # noqa: E402
from apache_beam.options.pipeline_options import GoogleCloudOptions  # noqa: E402
from apache_beam.portability import common_urns, python_urns  # noqa: E402
from apache_beam.portability.api import beam_runner_api_pb2  # noqa: E402
from apache_beam.runners.portability.fn_api_runner import FnApiRunner  # noqa: E402
from google.auth.credentials import AnonymousCredentials  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "europe-docker.pkg.dev/my-project/attparse/pipeline:0.1.0"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
STEPS = ("Spread", "BuildShard", "Collect", "Complete")
ATTRIBUTES = tuple(load_packaged_table("celeba").attributes)


class Google(ThreadingHTTPServer):
    """Cloud Storage and Dataflow, as far as a run needs them; a job is run at once by Beam's local runner."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.objects: dict[str, bytes] = {}
        self.jobs: list[dict[str, Any]] = []
        self.runs_jobs = True

    def upload(self, folder: Path, to: str) -> None:
        """Put the files of a folder into the bucket."""
        for file in folder.rglob("*"):
            if file.is_file():
                self.objects[f"{to}/{file.relative_to(folder).as_posix()}"] = file.read_bytes()

    def pipeline(self) -> Any:
        """Return the pipeline that was staged for the last job."""
        (name,) = [name for name in self.objects if name.endswith("/pipeline.pb")]
        return beam_runner_api_pb2.Pipeline.FromString(self.objects[name])

    def create_job(self, job: dict[str, Any]) -> dict[str, Any]:
        """Take a job and run it."""
        self.jobs.append(job)
        if self.runs_jobs:
            proto = self.pipeline()
            for environment in proto.components.environments.values():
                environment.urn, environment.payload = python_urns.EMBEDDED_PYTHON, b""
            FnApiRunner().run_via_runner_api(proto, beam_options(["--runner=FnApiRunner"])).wait_until_finish()
        return {**job, "id": "job-1", "currentState": "JOB_STATE_DONE"}


class _Redirected(httplib2.Http):  # type: ignore[name-defined, misc]
    """A client for whom Dataflow's address is another one."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    def request(self, uri: str, *arguments: Any, **options: Any) -> Any:
        return super().request(uri.replace(GoogleCloudOptions.DATAFLOW_ENDPOINT, self._url), *arguments, **options)


class _Handler(BaseHTTPRequestHandler):
    server: Google

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, status: int, body: bytes | dict[str, Any] = b"", **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        kind = "application/octet-stream" if content is body else "application/json"
        for name, value in {"Content_Type": kind, "Content_Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def _request(self) -> tuple[str, str, dict[str, str], bytes]:
        """Return the path, the name of the object in it, the query and the body."""
        url = urllib.parse.urlsplit(self.path)
        found = re.search(r"/b/[^/]+/o/(.+)", url.path)
        name = urllib.parse.unquote(found[1]) if found else ""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return url.path, name, dict(urllib.parse.parse_qsl(url.query)), body

    def _describe(self, name: str) -> dict[str, Any]:
        size = str(len(self.server.objects[name]))
        return {"name": name, "bucket": "bucket", "size": size, "generation": "1", "updated": "2026-01-01T00:00:00Z"}

    def do_GET(self) -> None:
        path, name, query, _ = self._request()
        objects = self.server.objects
        if path.startswith("/v1b3/"):
            self._answer(200, {"metrics": []} if path.endswith("/metrics") else {"id": "job-1"})
        elif path.endswith("/o"):
            names = sorted(n for n in list(objects) if n.startswith(query.get("prefix", "")))
            self._answer(200, {"items": [self._describe(n) for n in names]})
        elif not name:
            self._answer(200, {"name": "bucket", "softDeletePolicy": {"retentionDurationSeconds": "0"}})
        elif name not in objects:
            self._answer(404, {"error": {"message": f"no {name}"}})
        elif query.get("alt") == "media":
            self._send_part(objects[name])
        else:
            self._answer(200, self._describe(name))

    def _send_part(self, content: bytes) -> None:
        first, last = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "bytes=0-")).groups()  # type: ignore[union-attr]
        part = content[int(first) : int(last) + 1 if last else None]
        if not part:
            self._answer(416)
        else:
            end = int(first) + len(part) - 1
            self._answer(206, part, Content_Range=f"bytes {first}-{end}/{len(content)}")

    def do_POST(self) -> None:
        path, _, query, body = self._request()
        if path.endswith("/jobs"):
            self._answer(200, self.server.create_job(json.loads(body)))
            return
        if path.startswith("/batch/"):
            self._delete_many(re.findall(r"DELETE \S*/o/([^?\s]+)", body.decode()))
            return
        name = query.get("name") or json.loads(body)["name"]
        self._answer(200, Location=f"{self.server.url}/upload/b/bucket/o/{urllib.parse.quote(name, safe='')}")

    def _delete_many(self, names: list[str]) -> None:
        for name in names:
            del self.server.objects[urllib.parse.unquote(name)]
        part = "--part\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n\r\n"
        self._answer(200, (part * len(names) + "--part--").encode(), Content_Type="multipart/mixed; boundary=part")

    def do_PUT(self) -> None:
        _, name, _, body = self._request()
        if not self.headers["Content-Range"].startswith("bytes */"):
            assert self.headers["Content-Range"].startswith("bytes 0-"), "the stand-in takes one piece only"
        self.server.objects[name] = body
        self._answer(200, self._describe(name))

    def do_DELETE(self) -> None:
        _, name, _, _ = self._request()
        self._answer(204 if self.server.objects.pop(name, None) is not None else 404)


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[Google]:
    """The stand-in, with Beam's clients directed to it; the bucket is always called "bucket"."""
    server = Google()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
    monkeypatch.setattr(auth._Credentials, "_credentials_init", True)
    anonymous = auth._ApitoolsCredentialsAdapter(AnonymousCredentials())  # type: ignore[no-untyped-call]
    monkeypatch.setattr(auth._Credentials, "_credentials", anonymous)
    monkeypatch.setattr(apiclient, "get_new_http", lambda: _Redirected(server.url))
    monkeypatch.setattr(FileSystems, "_pipeline_options", None)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()
    gc.collect()  # Google's clients leave their connections open: close them here, where no warning is made of it


def dataflow_options(*further: str) -> list[str]:
    """Return Beam's options for a job on the stand-in."""
    return [
        "--runner=DataflowRunner",
        "--project=my-project",
        "--region=europe-west1",
        "--temp_location=gs://bucket/tmp",
        "--job_name=attparse-test",
        "--machine_type=n2-standard-4",
        "--max_num_workers=20",
        "--number_of_worker_harness_threads=1",
        *further,
    ]


def run_arguments(google: Google, tmp_path: Path) -> list[str]:
    """Put the built-in sample into the bucket; return the arguments of a run over it."""
    config = make_sample(str(tmp_path / "sample"), "")
    google.upload(tmp_path / "sample", "sample")
    files = {n: getattr(config, n) for n in ("images", "labels", "partition", "bboxes", "points")}
    arguments = [f"--{n}=gs://bucket/sample/{Path(path).name}" for n, path in files.items()]
    return ["run", *arguments, "--output=gs://bucket/out", "--samples_per_shard=8", "--min_coverage=0.8"]


def test_run_through_the_command_line(google: Google, tmp_path: Path) -> None:
    arguments = [*run_arguments(google, tmp_path), *dataflow_options(f"--sdk_container_image={IMAGE}")]

    assert main(arguments) == 0

    (job,) = google.jobs
    assert job["name"] == "attparse-test"
    assert job["type"] == "JOB_TYPE_BATCH"
    (pool,) = job["environment"]["workerPools"]
    assert pool["machineType"] == "n2-standard-4"
    assert pool["autoscalingSettings"]["maxNumWorkers"] == 20
    assert pool["numThreadsPerWorker"] == 1
    assert [image["containerImage"] for image in pool["sdkHarnessContainerImages"]] == [IMAGE]
    dataset = json.loads(google.objects["out/dataset.json"])
    assert dataset["samples"] > 0
    assert {name for name in google.objects if name.startswith("out/shards/")} == {
        f"out/shards/{shard['name']}.tar" for shard in dataset["shards"]
    }

    assert main(["verify", "gs://bucket/out"]) == 0

    google.objects["out/shards/val-000000.tar"] = b"damaged"
    before = google.objects["out/shards/train-000000.tar"]
    google.objects = {name: content for name, content in google.objects.items() if not name.startswith("tmp/")}
    assert main(arguments) == 0
    assert created_names(google.pipeline()) == ["val-000000"]
    assert google.objects["out/shards/train-000000.tar"] is before
    assert json.loads(google.objects["out/dataset.json"]) == dataset


def test_dry_run_changes_nothing(google: Google, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = run_arguments(google, tmp_path)
    google.objects["out/dataset.json"] = b"{}"
    before = dict(google.objects)
    assert main([*arguments, *dataflow_options("--dry_run=true")]) == 0
    assert "dry run" in capsys.readouterr().out
    assert google.objects == before
    assert not google.jobs


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ("--project=", "Invalid Project ID"),
        ("--max_num_workers=-1", "max_num_workers"),
    ],
)
def test_unusable_option_is_told_in_one_line(
    google: Google, tmp_path: Path, capsys: pytest.CaptureFixture[str], changed: str, expected: str
) -> None:
    google.runs_jobs = False
    code = main([*run_arguments(google, tmp_path), *dataflow_options(changed, "--dry_run=true")])
    captured = capsys.readouterr().err.strip().splitlines()
    assert code == 2
    assert expected in captured[-1]


def test_local_folders_are_refused(google: Google, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*run_arguments(google, tmp_path), f"--output={tmp_path / 'out'}", *dataflow_options()]
    assert main(arguments) == 2
    assert str(tmp_path / "out") in capsys.readouterr().err
    assert not google.jobs


@pytest.mark.parametrize("option", ["landmarker", "dlib_model"])
def test_local_model_files_are_refused(
    google: Google, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    arguments = [*run_arguments(google, tmp_path), f"--{option}={tmp_path / 'model'}", *dataflow_options()]
    assert main(arguments) == 2
    assert f"{tmp_path / 'model'}: workers on Dataflow cannot reach a local path" in capsys.readouterr().err


def test_setup_file_is_staged(google: Google) -> None:
    submit(google, ["train-000000"], f"--setup_file={ROOT / 'setup.py'}")
    (job,) = google.jobs
    (pool,) = job["environment"]["workerPools"]
    assert "workflow.tar.gz" in [package["name"] for package in pool["packages"]]
    (staged,) = [content for name, content in google.objects.items() if name.endswith("/workflow.tar.gz")]
    assert staged.startswith(b"\x1f\x8b")
    assert pool["workerHarnessContainerImage"].endswith(f"sdk:{beam.__version__}")


def test_request_stays_small(google: Google) -> None:
    """CelebA has 203 shards of 1000 images."""
    names = [f"train-{number:06d}" for number in range(203)]
    submit(google, names)
    assert len(json.dumps(google.jobs[0])) < 100_000
    proto = google.pipeline()
    assert proto.ByteSize() < 1_000_000
    assert created_names(proto) == names


def test_graph_has_our_steps_and_nothing_of_the_launcher(google: Google) -> None:
    submit(google, ["train-000000"])
    proto = google.pipeline()
    labels = [transform.unique_name for transform in proto.components.transforms.values()]
    assert {f"BuildShards/{step}" for step in STEPS} <= set(labels)
    functions = pickled_functions(proto)
    assert b"BuildShard" in functions["BuildShards/BuildShard"]
    assert not [label for label, function in functions.items() if b"__main__" in function or b"tests" in function]
    (session,) = [content for name, content in google.objects.items() if name.endswith("/pickled_main_session")]
    assert b"__main__" not in session  # Beam's own registries, nothing else


def submit(google: Google, names: list[str], *options: str) -> None:
    """Send the job of these shards, as `pipeline.building.run` does, without running it."""
    google.runs_jobs = False
    settings = BuildSettings(
        images="gs://bucket/images",
        output="gs://bucket/out",
        table=load_packaged_table("celeba").for_attributes(ATTRIBUTES),
        crop="face",
        seed=0,
        skipped=0,
        annotations=DetectorSettings(),
        versions=versions(DetectorSettings()),
    )
    pipeline = beam.Pipeline(options=beam_options(dataflow_options(*options)))
    _ = pipeline | "ShardNames" >> beam.Create(names) | BuildShards(settings, names)
    pipeline.run()


def created_names(proto: Any) -> list[str]:
    """Return the names of the shards that the pipeline starts from."""
    (source,) = [f for label, f in pickled_functions(proto).items() if re.match(r"ShardNames/FlatMap", label)]
    return [name.decode() for name in re.findall(rb"(?:train|val|test)-\d{6}", source)]


def pickled_functions(proto: Any) -> dict[str, bytes]:
    """Return the pickle of each function of a pipeline by the label of its step."""
    functions = {}
    for transform in proto.components.transforms.values():
        if transform.spec.urn == common_urns.primitives.PAR_DO.urn:
            function = beam_runner_api_pb2.ParDoPayload.FromString(transform.spec.payload).do_fn
        elif transform.spec.urn == common_urns.composites.COMBINE_PER_KEY.urn:
            function = beam_runner_api_pb2.CombinePayload.FromString(transform.spec.payload).combine_fn
        else:
            continue
        functions[transform.unique_name] = bz2.decompress(base64.b64decode(function.payload))
    return functions
