"""A cloud's metadata services and its store's answer about a bucket, on loopback."""

import email.utils
import http.server
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field

TOKEN = "a-token-of-the-metadata-service"  # noqa: S105 - of nothing


@dataclass
class Cloud:
    """What the fake answers; each request is noted."""

    region: str = "us-east-1"
    vm_type: str = "c6in.32xlarge"
    bucket_region: str = "us-east-1"
    bucket_status: int = 403
    clock: float = 0.0
    """Seconds that the store's clock is ahead."""
    kind: str = "aws"
    """Whose VM it is; the other's paths are not there."""
    seen: list[str] = field(default_factory=list)
    address: str = ""


class _Handler(http.server.BaseHTTPRequestHandler):
    cloud: Cloud

    def _answer(self, status, body="", **headers):
        content = body.encode()
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _note(self):
        self.cloud.seen.append(f"{self.command} {self.path}")

    def do_PUT(self):
        self._note()
        wanted = self.path == "/latest/api/token" and self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
        self._answer(200, TOKEN) if wanted and self.cloud.kind == "aws" else self._answer(404)

    def do_GET(self):
        self._note()
        aws = {
            "/latest/meta-data/placement/region": self.cloud.region,
            "/latest/meta-data/instance-type": self.cloud.vm_type,
        }
        gcp = {
            "/computeMetadata/v1/instance/zone": f"projects/1234/zones/{self.cloud.region}-b",
            "/computeMetadata/v1/instance/machine-type": f"projects/1234/machineTypes/{self.cloud.vm_type}",
        }
        allowed = (
            self.headers["X-aws-ec2-metadata-token"] == TOKEN
            if self.cloud.kind == "aws"
            else self.headers["Metadata-Flavor"] == "Google"
        )
        found = {"aws": aws, "gcp": gcp}.get(self.cloud.kind, {}).get(self.path)
        if found is None:
            self._answer(404)
        else:
            self._answer(200, found) if allowed else self._answer(401)

    def do_HEAD(self):
        self._note()
        date = email.utils.formatdate(time.time() + self.cloud.clock, usegmt=True)
        region = {"x_amz_bucket_region": self.cloud.bucket_region} if self.cloud.bucket_region else {}
        self._answer(self.cloud.bucket_status, Date=date, **region)

    def log_message(self, *_):
        pass


@contextmanager
def serving(cloud):
    """Serve `cloud` at its ``address``."""
    handler = type("Handler", (_Handler,), {"cloud": cloud})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    cloud.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield cloud
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def environment(cloud):
    """Return the variables by which SDKs, and we, find the fake instead of a cloud's metadata service."""
    return {
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": cloud.address,
        "GCE_METADATA_HOST": cloud.address.removeprefix("http://"),
    }
