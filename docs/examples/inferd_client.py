#!/usr/bin/env python3
"""inferd from Python, with the standard library only.

    INFERD_URL=http://127.0.0.1:8080 python3 inferd_client.py "Once upon a time"
"""
import json
import os
import sys
import urllib.error
import urllib.request

API = os.environ.get("INFERD_URL", "http://127.0.0.1:8080")
KEY = os.environ.get("INFERD_KEY")


class ApiError(Exception):
    """An answer that is an error, in the server's own words."""

    def __init__(self, status, error, retry_after=None):
        super().__init__(f"{status} {error['code']}: {error['message']}")
        self.status, self.error, self.retry_after = status, error, retry_after


def post(path, body, timeout=60):
    """The open response; the caller reads and closes it."""
    headers = {"Content-Type": "application/json"}
    if KEY:
        headers["Authorization"] = f"Bearer {KEY}"
    request = urllib.request.Request(API + path, json.dumps(body).encode(),
                                     headers)
    try:
        return urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as answer:
        with answer:
            raise ApiError(answer.code, json.load(answer)["error"],
                           answer.headers.get("Retry-After")) from None


def ask(path, body):
    with post(path, body) as response:
        return json.load(response)


def stream(path, body):
    """Chunks as they come. Leaving the loop early stops the work."""
    with post(path, {**body, "stream": True}) as response:
        for line in response:
            if not line.startswith(b"data: "):
                continue  # between events, or a comment
            data = line[len(b"data: "):].strip()
            if data == b"[DONE]":
                return
            chunk = json.loads(data)
            if "error" in chunk:
                raise ApiError(response.status, chunk["error"])
            yield chunk
        raise ConnectionError("the stream ended early")


def main():
    prompt = sys.argv[1] if len(sys.argv) > 1 else "Once upon a time"
    fields = {"prompt": prompt, "max_tokens": 40, "seed": 1}
    reply = ask("/v1/generate", fields)
    print(reply["choices"][0]["text"])
    print(reply["usage"]["completion_tokens"], "tokens,",
          reply["choices"][0]["finish_reason"])
    for chunk in stream("/v1/generate", fields):
        print(chunk["choices"][0]["text"], end="", flush=True)
    print()
    try:
        ask("/v1/generate", {**fields, "temperature": -1})
    except ApiError as error:
        print(error)


if __name__ == "__main__":
    main()
