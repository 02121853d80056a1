"""The executor stays when its SuperNode is started again."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest
from flwr.proto.runtime_pb2 import (
    PullTaskInputRequest,
    SendTaskHeartbeatRequest,
    SendTaskHeartbeatResponse,
)
from flwr.supercore.runtime import RuntimeHttpClient

from fedprune.client.executor import beat, patience


class Stranger(HTTPServer):
    """A SuperNode that answers every request in one way.

    Args:
        status: HTTP status.
        body: What follows it.
    """

    def __init__(self, status, body=b""):
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.body, self.asked = status, body, 0


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.asked += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_):
        pass


@pytest.fixture
def answering():
    """Return a function that starts a server and gives it with a client of it."""
    started = []

    def start(status, body=b""):
        server = Stranger(status, body)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        client = RuntimeHttpClient.from_server_address(
            server_address=f"127.0.0.1:{server.server_port}",
            insecure=True,
            root_certificates=None,
            interceptors=[],
            retry_invoker=patience(),
        )
        started.append((server, client))
        return server, client

    yield start
    for server, client in started:
        client.close()
        server.shutdown()
        server.server_close()


def test_a_beat_for_a_task_that_is_unknown_does_not_end_the_process(answering):
    unknown = SendTaskHeartbeatResponse(success=False).SerializeToString()
    server, client = answering(200, unknown)
    assert client.SendTaskHeartbeat(SendTaskHeartbeatRequest()).success is False
    assert beat(client)
    assert server.asked == 2


@pytest.mark.parametrize("status", [401, 403, 500])
def test_what_the_node_refuses_is_not_asked_again_and_ends_nothing(answering, status):
    server, client = answering(status)
    with pytest.raises(httpx.HTTPStatusError):
        client.PullTaskInput(PullTaskInputRequest())
    assert server.asked == 1
    assert beat(client)


def test_a_node_that_is_away_is_not_reached(answering):
    server, client = answering(200)
    patient = client._retry_invoker
    patient.max_tries = 1
    server.shutdown()
    server.server_close()
    assert not beat(client)
