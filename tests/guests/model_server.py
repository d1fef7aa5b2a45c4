"""Speaks as TensorFlow Serving's server does over REST, and doubles what it is given: it tests the probe's client.

What it does otherwise it is told by the name of the model's only file: `refused`, `dies`, `bad-request`, `loading`.
"""

import http.server
import json
import sys
from pathlib import Path
from typing import Any

if "--version" in sys.argv:
    print("TensorFlow ModelServer: stand-in")
    raise SystemExit
FLAGS = dict(word.removeprefix("--").split("=", 1) for word in sys.argv[1:])
MANNER = next((Path(FLAGS["model_base_path"]) / "1").iterdir()).name
if MANNER == "dies":
    raise SystemExit("cannot map the model")
STATES = {"refused": "END", "loading": "LOADING"}
MODEL = f"/v1/models/{FLAGS['model_name']}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status = {"error_code": "INTERNAL", "error_message": "no such operation" if MANNER == "refused" else ""}
        found = {"version": "1", "state": STATES.get(MANNER, "AVAILABLE"), "status": status}
        self.reply(200 if self.path == MODEL else 404, {"model_version_status": [found]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != f"{MODEL}:predict" or asked["signature_name"] != "serving_default" or MANNER == "bad-request":
            self.reply(400, {"error": "this input is of no use"})
        else:
            self.reply(200, {"outputs": doubled(asked["inputs"])})

    def reply(self, code: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def doubled(value: Any) -> Any:
    return [doubled(one) for one in value] if isinstance(value, list) else 2 * value


http.server.HTTPServer(("127.0.0.1", int(FLAGS["rest_api_port"])), Handler).serve_forever()
